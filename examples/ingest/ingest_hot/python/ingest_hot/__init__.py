"""The hot routes of the error tracker in Rust, and the counts that its pages show. Each hot path has a form to await,
with ``a`` in front."""

from ._native import aread_counts, configure, envelope, read_counts, store, write_counts

__all__ = ["aread_counts", "configure", "envelope", "read_counts", "store", "write_counts"]
