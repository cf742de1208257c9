"""Codecs of every kind, and pickles that tell when they are loaded."""

import hashlib
import hmac

import pytest

from django_vcache._vcache import Codec

KEY = b"a secret"
OTHER = b"another secret"
AUTO = Codec(keys=[KEY])
PLAIN = Codec(keys=[KEY], compress_min_len=None)
MSGPACK = Codec("msgpack", keys=[])
JSON = Codec("json", keys=[])
CUSTOM = Codec("custom", keys=[], dumps=bytes, loads=bytes)

MSGPACK_HEADER = b"\xc1\x10"
ZSTD_MSGPACK_HEADER = b"\xc1\x18"
PICKLE_HEADER = b"\xc1\x11"
TAG_LEN = 32
DOMAIN = b"django_vcache.codec.pickle.v1"

loaded = []


def explode():
    loaded.append("boom")


class Bomb:
    """Tells when it is loaded."""

    def __reduce__(self):
        return explode, ()


def sign(payload, key=KEY, flags=0x11, domain=DOMAIN):
    """A pickle as the codec stores it, from the format's description and not from its code."""
    derived = hashlib.sha256(domain + key).digest()
    tag = hmac.digest(derived, domain + bytes([flags]) + payload, "sha256")
    return bytes([0xC1, flags]) + tag + payload


def refused(codec, data, match="."):
    with pytest.raises(ValueError, match=match):
        codec.loads(data)
    assert loaded == []
