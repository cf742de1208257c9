"""Anybody may have written what is in the store: the codec reads it, or says ValueError, and runs
none of it.
"""

import pickle
import random
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.codecs import (
    AUTO,
    CUSTOM,
    JSON,
    KEY,
    MSGPACK,
    MSGPACK_HEADER,
    PICKLE_HEADER,
    PLAIN,
    ZSTD_MSGPACK_HEADER,
    refused,
    sign,
)

from django_vcache._vcache import Codec

U32_MAX = b"\xff\xff\xff\xff"

fixed = settings(derandomize=True, deadline=None, max_examples=300, database=None)

# A value of every kind and type, small enough to try each of its bytes.
PLAIN_VALUE = {
    "text": ["h\u00e9llo", b"bytes", 1, -1, 2**40, 2**64, 2**80, 1.5, None, True],
    "more": ((1, (2,)), {3, 4}, [[]]),
}
PART, LONG = [1, {"k": (2,)}], "long " * 20
SAMPLES = {
    "msgpack": PLAIN.dumps(PLAIN_VALUE),
    "zstd": AUTO.dumps([f"row {n}" for n in range(200)]),
    "parts": PLAIN.dumps([PART, {"again": PART}, (PART, [LONG, LONG])]),
    "zstd parts": AUTO.dumps([[PART, LONG, f"row {n}"] for n in range(200)]),
    "pickle": PLAIN.dumps(frozenset({1, 2})),
    "zstd pickle": AUTO.dumps(frozenset(range(1000))),
}


@pytest.mark.parametrize("sample", SAMPLES)
def test_every_truncation_is_refused(sample):
    stored = SAMPLES[sample]
    for length in range(len(stored)):
        refused(AUTO, stored[:length])


@pytest.mark.parametrize("sample", SAMPLES)
def test_anything_appended_is_refused(sample):
    for extra in (b"\x00", b"\xc0", SAMPLES[sample], b"\x50\x2a\x4d\x18\x00\x00\x00\x00"):
        refused(AUTO, SAMPLES[sample] + extra)


@pytest.mark.parametrize("sample", SAMPLES)
def test_any_mutation_is_refused_or_still_plain_data(sample):
    stored = SAMPLES[sample]
    rng = random.Random(sample)
    for _ in range(5000):
        mutated = bytearray(stored)
        for _ in range(rng.choice([1, 1, 1, 2, 4])):
            mutated[rng.randrange(len(mutated))] = rng.randrange(256)
        try:
            value = AUTO.loads(bytes(mutated))
        except ValueError:
            continue
        # Damaged plain data may mean something else now, but is still plain data. A damaged pickle
        # is never loaded.
        if "pickle" in sample:
            assert mutated == stored
        else:
            MSGPACK.dumps(value)


@fixed
@given(
    st.binary(max_size=200),
    st.sampled_from([b"", MSGPACK_HEADER, ZSTD_MSGPACK_HEADER, PICKLE_HEADER]),
)
def test_random_bytes_are_refused_or_plain_data(data, header):
    for codec in (AUTO, MSGPACK, JSON, CUSTOM):
        try:
            value = codec.loads(header + data)
        except ValueError:
            continue
        MSGPACK.dumps(value)


READS = {
    "auto": {"int", "msgpack", "pickle"},
    "pickle": {"int", "msgpack", "pickle"},
    "msgpack": {"int", "msgpack"},
    "json": {"int", "json"},
    "custom": {"int", "custom"},
}
STORED = {
    "int": b"12",
    "msgpack": PLAIN.dumps([1]),
    "pickle": sign(pickle.dumps([1])),
    "json": JSON.dumps([1]),
    "custom": CUSTOM.dumps(b"[1]"),
}


@pytest.mark.parametrize("serializer", READS)
@pytest.mark.parametrize("kind", STORED)
def test_each_serializer_reads_its_own_kinds_only(serializer, kind):
    functions = {"dumps": bytes, "loads": bytes} if serializer == "custom" else {}
    codec = Codec(serializer, keys=[KEY], **functions)
    if kind in READS[serializer]:
        codec.loads(STORED[kind])
    else:
        refused(codec, STORED[kind], f"does not read a stored {kind} value")


@pytest.mark.parametrize("flags", [f for f in range(256) if f & ~0x08 not in (0x10, 0x11, 0x12, 0x13, 0x14)])
def test_an_unknown_version_or_kind_is_not_guessed_at(flags):
    refused(AUTO, bytes([0xC1, flags]) + b"\xc0" * 40, f"0x{flags:02x}")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"\xc0",
        b"\xc1",
        b"\xc1\x10",
        b"\xc1\x11",
        b"\xc1\x18",
        b"+1",
        b" 1",
        b"m\x93\x01\x02\x03",
        b"M\x28\xb5\x2f\xfd",
        b"null",
        b'{"a": 1}',
        b"1.5",
        b"-",
        b"--1",
        b"-0",
        b"00",
        b"01",
        b"-01",
        b"1 ",
        b"1\n",
        b"1_000",
        b"1e3",
        b"0x10",
        "\u0661".encode(),
        b"9" * 4301,
        b"-" + b"9" * 4301,
        b"9" * 1_000_000,
        zlib.compress(b"x" * 100),
        b"\x1f\x8b\x08\x00",
        b"\x28\xb5\x2f\xfd\x00",
    ],
    ids=lambda data: repr(data[:12]),
)
def test_foreign_bytes_are_refused(data):
    for codec in (AUTO, MSGPACK, JSON, CUSTOM):
        refused(codec, data)


def ext(code, payload):
    return b"\xc7" + bytes([len(payload), code]) + payload


@pytest.mark.parametrize(
    "payload",
    [
        b"\xc1",
        b"\xdd" + U32_MAX,
        b"\xdf" + U32_MAX,
        b"\xdb" + U32_MAX,
        b"\xc6" + U32_MAX,
        b"\xc9" + U32_MAX + b"\x01",
        b"\xdc\xff\xff",
        b"\xde\xff\xff",
        b"\xdf\x80\x00\x00\x00",
        b"\xc7\x05\x01\xdd" + U32_MAX,
        b"\xc7\x05\x02\xdd" + U32_MAX,
        b"\xdb" + U32_MAX + b"x" * 1000,
        b"\xdd" + U32_MAX + b"\xc0" * 1000,
        b"\xa1\xff",
        b"\xa3\xed\xa0\x80",
        b"\xa2\xc0\x80",
        b"\xc0\xc0",
        b"\x81\x90\xc0",
        b"\x81\x80\xc0",
        ext(2, b"\x91\x90"),
        ext(2, b"\x91" + ext(2, b"\x90")),
        ext(1, b"\xc0"),
        ext(1, b""),
        ext(1, b"\x90\xc0"),
        ext(0, b""),
        ext(10, b""),
        ext(255, struct.pack(">i", 0)),
        ext(4, bytes(11)),
        ext(4, b""),
        ext(4, bytes.fromhex("07ea 0b 16 00 00 00 000f4240")),
        ext(4, bytes.fromhex("07ea 0b 16 18 00 00 00000000")),
        ext(4, bytes.fromhex("07ea 0b 16 00 00 00 00000000 04")),
        ext(4, bytes.fromhex("07ea 0b 16 00 00 00 00000000 0000")),
        ext(4, bytes.fromhex("07ea 0b 16 00 00 00 00000000 01")),
        ext(4, bytes.fromhex("07ea 0b 16 00 00 00 00000000 01 7fffffffffffffff")),
        ext(4, bytes.fromhex("07ea 0b 16 00 00 00 00000000 01 8000000000000000")),
        ext(4, bytes.fromhex("07ea 0b 16 00 00 00 00000000 01 000000141dd76000")),
        ext(4, bytes.fromhex("07ea 0b 16 00 00 00 00000000 01 0000000000000000 41")),
        ext(4, bytes.fromhex("07ea 0b 16 00 00 00 00000000 02 0000000000000000 ff")),
        *(
            ext(4, bytes.fromhex("07ea 0b 16 00 00 00 00000000 03") + zone)
            for zone in (
                b"",
                b"No/Such_Zone",
                b"../../etc/passwd",
                b"/etc/passwd",
                b"a\x00b",
                b"A" * 65,
                b"os.path",
            )
        ),
        ext(5, bytes.fromhex("07ea 0d 01")),
        ext(5, bytes.fromhex("07ea 0b 16 00")),
        ext(6, bytes.fromhex("18 00 00 00000000")),
        ext(7, bytes(11)),
        ext(7, struct.pack(">iii", 1_000_000_000, 0, 0)),
        ext(7, b"\x7f" * 12),
        ext(8, b""),
        ext(8, b"one"),
        ext(8, b"\xff"),
        ext(9, bytes(15)),
        ext(9, bytes(18)),
        ext(9, bytes(16) + b"\x07"),
    ],
    ids=lambda payload: payload[:24].hex(),
)
def test_msgpack_that_lies_is_refused(payload):
    refused(AUTO, MSGPACK_HEADER + payload)
    refused(MSGPACK, MSGPACK_HEADER + payload)


@pytest.mark.parametrize("opener", [b"\x91", b"\x81\xc0", b"\xdc\x00\x01", b"\x81"], ids=bytes.hex)
def test_deep_nesting_is_refused_without_overflowing_the_stack(opener):
    for depth in (65, 1000, 1_000_000):
        refused(AUTO, MSGPACK_HEADER + opener * depth + b"\xc0" * depth)


def test_deep_nesting_of_tuples_is_refused():
    payload = b"\x90"
    for _ in range(70):
        payload = b"\xc9" + struct.pack(">I", len(payload) + 1) + b"\x01\x91" + payload
    refused(AUTO, MSGPACK_HEADER + payload, "nested too deep")


def test_deep_json_is_refused():
    refused(JSON, b"\xc1\x12" + b"[" * 1_000_000, "RecursionError")


def test_an_error_of_a_custom_loads_is_a_refusal_and_an_interrupt_is_not():
    def interrupt(data):
        raise KeyboardInterrupt

    refused(
        Codec("custom", keys=[], dumps=bytes, loads=lambda data: 1 / 0),
        b"\xc1\x13x",
        "ZeroDivisionError",
    )
    with pytest.raises(KeyboardInterrupt):
        Codec("custom", keys=[], dumps=bytes, loads=interrupt).loads(b"\xc1\x13x")


def test_messages_never_quote_the_value():
    secret = b"hunter2"
    for data in (
        secret,
        b"1" + secret,
        MSGPACK_HEADER + b"\xa9" + secret,
        sign(secret),
        b"\xc1\x12" + secret,
    ):
        for codec in (AUTO, JSON):
            with pytest.raises(ValueError, match="stored") as caught:
                codec.loads(data)
            assert "hunter2" not in str(caught.value)
