"""The hot routes of the error tracker in Rust, and the counts that its pages show. Each hot path has a form to await,
with ``a`` in front."""

from ._native import aenvelope, aread_counts, astore, awrite_counts, configure, read_counts, write_counts

__all__ = ["aenvelope", "aread_counts", "astore", "awrite_counts", "configure", "read_counts", "write_counts"]
