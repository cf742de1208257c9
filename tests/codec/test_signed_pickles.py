"""A pickle is loaded if one of our keys has signed it, and otherwise never looked into."""

import hmac
import pickle
import zlib

import pytest
from support.codecs import (
    AUTO,
    CUSTOM,
    JSON,
    KEY,
    MSGPACK,
    MSGPACK_HEADER,
    OTHER,
    PICKLE_HEADER,
    PLAIN,
    TAG_LEN,
    Bomb,
    loaded,
    refused,
    sign,
)

from django_vcache._vcache import Codec


@pytest.mark.parametrize("value", [frozenset({1}), frozenset(range(1000))], ids=["plain", "compressed"])
def test_each_flipped_bit_of_a_signed_pickle_is_refused(value):
    stored = AUTO.dumps(value)
    assert AUTO.loads(stored) == value
    for at in range(len(stored)):
        for bit in range(8):
            flipped = bytearray(stored)
            flipped[at] ^= 1 << bit
            refused(AUTO, bytes(flipped))


def test_the_format_of_a_signed_pickle_is_as_documented():
    assert sign(pickle.dumps({1j}, pickle.HIGHEST_PROTOCOL)) == PLAIN.dumps({1j})


def test_a_pickle_signed_with_our_key_is_loaded():
    AUTO.loads(sign(pickle.dumps(Bomb())))
    assert loaded == ["boom"]


@pytest.mark.parametrize(
    "data",
    [
        sign(pickle.dumps(Bomb()), key=OTHER),
        sign(pickle.dumps(Bomb()), key=b""),
        sign(pickle.dumps(Bomb()), domain=b"django_vcache.codec.pickle.v2"),
        sign(pickle.dumps(Bomb()), domain=b""),
        PICKLE_HEADER + pickle.dumps(Bomb()),
        PICKLE_HEADER + bytes(TAG_LEN) + pickle.dumps(Bomb()),
        PICKLE_HEADER + hmac.digest(KEY, pickle.dumps(Bomb()), "sha256") + pickle.dumps(Bomb()),
        MSGPACK_HEADER + pickle.dumps(Bomb()),
        b"\xc1\x19" + sign(pickle.dumps(Bomb()))[2:],
    ],
    ids=[
        "another key",
        "the empty key",
        "another domain",
        "no domain",
        "unsigned",
        "a zero signature",
        "signed with the bare key",
        "as msgpack",
        "said to be compressed",
    ],
)
def test_a_forged_pickle_is_refused_and_never_loaded(data):
    for codec in (AUTO, Codec("pickle", keys=[KEY]), MSGPACK, JSON, CUSTOM):
        refused(codec, data)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_another_backends_pickle_is_refused_and_never_loaded(protocol):
    data = pickle.dumps(Bomb(), protocol)
    for foreign in (data, zlib.compress(data), b"p" + data, b"P" + data):
        for codec in (AUTO, Codec("pickle", keys=[KEY]), MSGPACK, JSON, CUSTOM):
            refused(codec, foreign, "not written by this codec")


def test_a_signature_does_not_cover_for_another_payload():
    one, two = sign(pickle.dumps({1j})), sign(pickle.dumps(Bomb()))
    refused(AUTO, one[: 2 + TAG_LEN] + two[2 + TAG_LEN :], "bad signature")


def test_fallback_keys_read_and_only_the_first_signs():
    old, rotated = Codec(keys=[OTHER]), Codec(keys=[KEY, b"older", OTHER])
    assert rotated.loads(old.dumps({1j})) == {1j}
    assert AUTO.loads(rotated.dumps({1j})) == {1j}
    refused(old, rotated.dumps({1j}), "bad signature")


def test_a_signed_pickle_that_no_longer_loads_names_only_the_error():
    with pytest.raises(ValueError, match=r"raised ModuleNotFoundError$") as caught:
        AUTO.loads(sign(b"cno_such_module\nThing\n."))
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
