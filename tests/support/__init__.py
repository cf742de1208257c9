"""Helpers of the test-suite: servers to talk to, caches to test, and ways to drive them."""
