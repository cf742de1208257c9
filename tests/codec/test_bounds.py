"""A stored value takes no more memory than MAX_VALUE_LEN allows, and an encoded one stays under it."""

import struct
import tracemalloc

import pytest
from support.codecs import AUTO, KEY, MSGPACK_HEADER, TAG_LEN, ZSTD_MSGPACK_HEADER, refused

from django_vcache._vcache import Codec


def peak(data, codec=AUTO):
    tracemalloc.start()
    refused(codec, data)
    size = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return size


def test_nested_lengths_do_not_each_claim_the_rest_of_the_input():
    # 60 arrays, one in the other, each announcing as many items as there are bytes left.
    filler = 1_000_000
    arrays = b"".join(b"\xdd" + struct.pack(">I", filler) for _ in range(60))
    assert peak(MSGPACK_HEADER + arrays + b"\xc0" * filler) < 20 * filler


def zstd_frame(blocks, size=None):
    """A frame from blocks of (count, byte) runs: what a bomb is made of."""
    header = b"\x28\xb5\x2f\xfd" + (b"\x00\x58" if size is None else b"\xe0" + struct.pack("<Q", size))
    out = [header]
    for n, (count, byte) in enumerate(blocks):
        last = n == len(blocks) - 1
        out.append(struct.pack("<I", last | 1 << 1 | count << 3)[:3] + bytes([byte]))
    return b"".join(out)


RUN = 128 * 1024


def test_a_frame_without_a_size_is_read():
    # A str: its marker, its length (0x2020) and as many blanks.
    frame = zstd_frame([(1, 0xDA), (1, 0x20), (1, 0x20), (0x2020, 0x20)])
    assert AUTO.loads(ZSTD_MSGPACK_HEADER + frame) == " " * 0x2020


@pytest.mark.parametrize(
    ("frame", "match"),
    [
        (zstd_frame([(RUN, 0x20)] * 600), "MAX_VALUE_LEN"),
        (zstd_frame([(RUN, 0x20)] * 600, 600 * RUN), "MAX_VALUE_LEN"),
        (zstd_frame([(RUN, 0x20)] * 600, 2**63), "MAX_VALUE_LEN"),
        (zstd_frame([(RUN, 0x20)] * 600, 2**64 - 3), "MAX_VALUE_LEN"),
        (zstd_frame([(RUN, 0x20)] * 600, 100), "bad zstd frame"),
        (zstd_frame([(1, 0xC0)], 100), "bad zstd frame"),
        (zstd_frame([(1, 0xC0)])[:-1], "bad zstd frame"),
        (zstd_frame([(1, 0xC0)]) + b"x", "after its zstd frame"),
        (zstd_frame([(1, 0xC0)]) * 2, "after its zstd frame"),
        (b"\x50\x2a\x4d\x18\x00\x00\x00\x00", "not a zstd frame"),
        (b"\x27\xb5\x2f\xfd\x00\x00", "not a zstd frame"),
        (b"\x28\xb5\x2f\xfd", "bad zstd frame"),
        (b"", "not a zstd frame"),
    ],
)
def test_a_zstd_bomb_or_a_bad_frame_is_refused(frame, match):
    refused(AUTO, ZSTD_MSGPACK_HEADER + frame, match)


@pytest.mark.parametrize("size", [None, 600 * RUN])
def test_a_small_limit_holds_for_bombs_after_large_values(size):
    # The second codec gets a buffer that the first one left behind.
    AUTO.loads(AUTO.dumps("x" * 200_000))
    small = Codec(keys=[KEY], max_value_len=1000)
    refused(
        small,
        ZSTD_MSGPACK_HEADER + zstd_frame([(1, 0xDA), (1, 0x20), (1, 0x20), (0x2020, 0x20)]),
        "MAX_VALUE_LEN",
    )
    refused(small, ZSTD_MSGPACK_HEADER + zstd_frame([(RUN, 0x20)] * 600, size), "MAX_VALUE_LEN")


MAKERS = {
    "auto": lambda **options: Codec(keys=[KEY], **options),
    "msgpack": lambda **options: Codec("msgpack", keys=[], **options),
    "pickle": lambda **options: Codec("pickle", keys=[KEY], **options),
    "json": lambda **options: Codec("json", keys=[], **options),
    "custom": lambda **options: Codec("custom", keys=[], dumps=str.encode, loads=bytes.decode, **options),
}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("compress", [None, 1024], ids=["plain", "compressed"])
def test_max_value_len_bounds_both_directions_exactly(name, compress):
    value = "x" * 3000
    stored = MAKERS[name](compress_min_len=None).dumps(value)
    size = len(stored) - 2 - (TAG_LEN if name == "pickle" else 0)
    fits = MAKERS[name](compress_min_len=compress, max_value_len=size)
    small = MAKERS[name](compress_min_len=compress, max_value_len=size - 1)
    assert fits.loads(fits.dumps(value)) == value
    with pytest.raises(ValueError, match=rf"MAX_VALUE_LEN \({size - 1} bytes\)"):
        small.dumps(value)
    refused(small, fits.dumps(value), "MAX_VALUE_LEN")


def test_max_value_len_stops_an_encoding_early():
    # The last part is one that msgpack mode refuses, and says so if it comes that far.
    value = [f"{n} {'x' * 100_000}" for n in range(12)] + [object()]
    with pytest.raises(ValueError, match=r"MAX_VALUE_LEN \(1000000 bytes\)"):
        Codec("msgpack", keys=[], max_value_len=1_000_000).dumps(value)
    with pytest.raises(TypeError, match="object"):
        Codec("msgpack", keys=[], max_value_len=2_000_000).dumps(value)


def test_max_value_len_holds_for_ints():
    small = Codec(keys=[KEY], max_value_len=10)
    assert small.loads(small.dumps(10**9)) == 10**9
    with pytest.raises(ValueError, match="MAX_VALUE_LEN"):
        small.dumps(10**10)
