"""Compressed bodies as Python's targets of hot routes get them: what Python's own encoders make is decoded, within a
limit, and what cannot be is an error with a status.
"""

from __future__ import annotations

import gzip
import pickle
import zlib

import pytest

from django_vcache._vcache import decoded
from django_vcache.exceptions import RequestError

PLAIN = b"hot routes answer early. " * 4000


def raw(plain: bytes) -> bytes:
    encoder = zlib.compressobj(wbits=-15)
    return encoder.compress(plain) + encoder.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (b"gzip", gzip.compress(PLAIN, mtime=0)),
        (b"X-GZIP", gzip.compress(PLAIN[:1000], mtime=0) + gzip.compress(PLAIN[1000:], mtime=0)),
        (b"deflate", zlib.compress(PLAIN)),
        (b"deflate", raw(PLAIN)),
        # Stored, so that it is large enough to be decoded with the GIL released.
        (b"identity, gzip", gzip.compress(PLAIN, 0, mtime=0)),
    ],
    ids=["gzip", "members", "zlib", "raw", "large"],
)
def test_a_body_is_decoded(encoding: bytes, body: bytes) -> None:
    assert decoded(encoding, body, len(PLAIN)) == PLAIN
    with pytest.raises(RequestError, match="larger than 99999 bytes") as caught:
        decoded(encoding, body, len(PLAIN) - 1)
    assert caught.value.status == 413


@pytest.mark.parametrize("encoding", [None, b"", b"identity"])
def test_a_body_that_is_not_encoded_is_the_same_object(encoding: bytes | None) -> None:
    assert decoded(encoding, PLAIN, len(PLAIN)) is PLAIN
    with pytest.raises(RequestError) as caught:
        decoded(encoding, PLAIN, len(PLAIN) - 1)
    assert caught.value.status == 413


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        (b"compress", b"", 415),
        (b"gzip, gzip", b"", 415),
        (b"gzip", b"", 400),
        (b"gzip", gzip.compress(PLAIN, mtime=0)[:-1], 400),
        (b"deflate", zlib.compress(PLAIN) + b"more", 400),
        (b"br", b"\xff" * 20, 400),
        (b"zstd", b"\xff" * 20, 400),
    ],
)
def test_a_body_that_cannot_be_decoded_is_refused(encoding: bytes, body: bytes, status: int) -> None:
    with pytest.raises(RequestError) as caught:
        decoded(encoding, body, 1_000_000)
    assert caught.value.status == status


def test_the_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(RequestError("slow down", status=429)))
    assert (error.status, str(error)) == (429, "slow down")
    assert RequestError("bad").status == 400
