"""Values as they may stand in a key on the server."""

import hashlib

__all__ = ["bounded"]

LONGEST = 128
"""Bytes of a value that stands in a key as it is."""


def bounded(value: str) -> str:
    """The value if it is short and can be encoded, and a hash of it otherwise, also of an empty one."""
    data = value.encode("utf-8", "surrogatepass")
    if value and len(data) <= LONGEST and value.isprintable():
        return value
    return hashlib.blake2s(data, digest_size=16).hexdigest()
