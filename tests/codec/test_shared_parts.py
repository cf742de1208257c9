"""A part that a value holds more than once is stored once and comes back as one object, as with pickle."""

import datetime as dt
import pickle
import struct
import uuid
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_vcache._vcache import Codec

KEY = b"a secret"
AUTO = Codec(keys=[KEY])
MSGPACK = Codec("msgpack", keys=[])
PLAIN = Codec(keys=[KEY], compress_min_len=None)
BOTH = pytest.mark.parametrize("codec", [AUTO, MSGPACK, PLAIN], ids=["auto", "msgpack", "plain"])

MSGPACK_HEADER = b"\xc1\x10"
PICKLE_HEADER = b"\xc1\x11"
PARTS_HEADER = b"\xc1\x14"

fixed = settings(derandomize=True, deadline=None, max_examples=300, database=None)


def shape(value):
    """A value as nested tuples, in which an object that was there before is only its number."""
    seen = {}

    def walk(part):
        if not isinstance(part, list | tuple | dict | set):
            return part
        if id(part) in seen:
            return ("seen", seen[id(part)])
        if part != ():
            seen[id(part)] = len(seen)
        if isinstance(part, dict):
            # Keys are equal, and not the same: pickle.loads interns some.
            return ("dict", tuple((key, walk(item)) for key, item in part.items()))
        if isinstance(part, set):
            return ("set", frozenset(part))
        return (type(part).__name__, tuple(map(walk, part)))

    return walk(value)


def config():
    """A dict of about 55 KB."""
    return {f"option {n}": f"{n} " + "value " * 8 for n in range(800)}


@BOTH
@pytest.mark.parametrize("rows", [500, 3000])
def test_rows_that_share_a_large_dict_take_about_as_much_as_a_pickle(codec, rows):
    shared = config()
    value = [{"id": n, "config": shared} for n in range(rows)]
    stored = codec.dumps(value)
    assert stored[0] == 0xC1
    assert stored[1] & ~0x08 == 0x14
    # Keys are written in full each time, which compression makes up for.
    assert len(stored) < 1.3 * len(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
    loaded = codec.loads(stored)
    assert loaded == value
    assert all(row["config"] is loaded[0]["config"] for row in loaded)
    loaded[0]["config"]["new"] = 1
    assert loaded[-1]["config"]["new"] == 1


@pytest.mark.parametrize(
    "part",
    [
        "long text " * 10,
        b"bytes " * 20,
        ("a", 1),
        [1],
        [],
        {},
        {"a": 1},
        set(),
        {1, 2},
        10**30,
        Decimal("1.5"),
        uuid.UUID(int=5),
        dt.date(2026, 1, 1),
        dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        dt.time(1, 2, tzinfo=dt.UTC),
        dt.timedelta(1),
    ],
    ids=repr,
)
@BOTH
def test_a_part_of_any_type_comes_back_as_one_object(codec, part):
    stored = codec.dumps([part, {"k": part}, (part,)])
    first, inner, (last,) = codec.loads(stored)
    assert type(first) is type(part)
    assert first == part
    assert first is inner["k"] is last


def test_what_is_there_once_is_stored_as_ever():
    rows = [{"id": n, "tags": ["a", ("b", str(n))], "text": f"{n} " * 50} for n in range(50)]
    stored = PLAIN.dumps(rows)
    assert stored.startswith(MSGPACK_HEADER)
    # References from elsewhere do not matter.
    held = {row["id"]: (row, row["tags"], row["text"]) for row in rows}
    assert len(held) == 50
    assert PLAIN.dumps(rows) == stored


def test_short_strings_and_small_scalars_are_no_parts():
    text = "x" * 63
    value = [text, text, b"b", b"b", 5, 5, 2**63, 1.5, None, True, (), ()]
    assert PLAIN.dumps([value[:], value[:]]).startswith(MSGPACK_HEADER)


def test_the_form_on_the_wire_is_as_documented():
    part = [7]
    #   the list       the list [7]  part 0          part 0 begins at 1, and there is one part
    body = b"\x92" + b"\x91\x07" + b"\xd4\x0a\x00" + struct.pack(">II", 1, 1)
    assert PLAIN.dumps([part, part]) == PARTS_HEADER + body
    assert PLAIN.loads(PARTS_HEADER + body) == [[7], [7]]


@pytest.mark.parametrize("count", [1, 255, 256, 257, 65_535, 65_536, 65_537])
def test_every_width_of_reference(count):
    parts = [[n] for n in range(count)]
    loaded = AUTO.loads(AUTO.dumps([parts[:], parts[::-1]]))
    assert loaded == [parts, parts[::-1]]
    assert all(one is other for one, other in zip(loaded[0], loaded[1][::-1], strict=True))


@pytest.mark.parametrize("length", [1, 50, 100, 300, 70_000])
def test_parts_in_tuples_and_sets_are_found_whatever_their_lengths(length):
    # Tuples and sets have a longer header from 256 bytes on, which moves what is in them.
    part = {"k": "x" * length}
    value = [1, (2, (part, {"a" * length, "b"}, [part, (part,)]), part), part]
    loaded = PLAIN.loads(PLAIN.dumps(value))
    assert shape(loaded) == shape(value)
    assert loaded[2] is loaded[1][2] is loaded[1][1][0] is loaded[1][1][2][0] is loaded[1][1][2][1][0]


@BOTH
def test_parts_in_parts(codec):
    value = [[] for _ in range(3)]
    for _ in range(25):
        value = [value, (value, value), {"again": value}][: 1 + len(value) % 3]
    assert shape(codec.loads(codec.dumps(value))) == shape(value)


def test_a_structure_that_would_unfold_without_end_is_small():
    value = ["x" * 100_000]
    for _ in range(40):
        value = [value, value]
    stored = PLAIN.dumps(value)
    assert len(stored) < 101_000
    loaded = PLAIN.loads(stored)
    while len(loaded) == 2:
        assert loaded[0] is loaded[1]
        loaded = loaded[0]


def cyclic_list():
    value = [1]
    value.append(value)
    return value, lambda loaded: loaded[1] is loaded


def cyclic_dict():
    value = {"rows": [{"n": n} for n in range(100)]}
    for row in value["rows"]:
        row["parent"] = value
    return value, lambda loaded: all(row["parent"] is loaded for row in loaded["rows"])


def cycle_below():
    inner = []
    inner.append((inner, "x"))
    return {"a": [inner, inner]}, lambda loaded: loaded["a"][0] is loaded["a"][1] is loaded["a"][0][0][0]


def two_in_each_other():
    one, two = {}, {}
    one["two"], two["one"] = two, one
    return [one, two], lambda loaded: loaded[0]["two"] is loaded[1] and loaded[1]["one"] is loaded[0]


@pytest.mark.parametrize("make", [cyclic_list, cyclic_dict, cycle_below, two_in_each_other])
def test_a_value_that_contains_itself_is_pickled(make):
    value, holds = make()
    stored = PLAIN.dumps(value)
    assert stored.startswith(PICKLE_HEADER)
    assert holds(PLAIN.loads(stored))
    with pytest.raises(ValueError, match="contains itself"):
        MSGPACK.dumps(value)


def nested(depth, innermost=None):
    value = [] if innermost is None else innermost
    for _ in range(depth - (innermost is None)):
        value = [value]
    return value


def test_a_reference_is_as_deep_as_what_it_stands_for():
    part = nested(30)
    fits = [part, nested(33, part)]
    assert PLAIN.dumps(fits).startswith(PARTS_HEADER)
    assert PLAIN.loads(PLAIN.dumps(fits)) == fits
    deeper = [part, nested(34, part)]
    assert PLAIN.dumps(deeper).startswith(PICKLE_HEADER)
    with pytest.raises(ValueError, match="64 deep"):
        MSGPACK.dumps(deeper)
    with pytest.raises(ValueError, match="64 deep"):
        MSGPACK.dumps([deeper, 1])


def test_depth_adds_up_over_references():
    value = nested(20)
    held = [value]
    for _ in range(10):
        value = nested(20, value)
        held.append(value)
    assert PLAIN.dumps(held).startswith(PICKLE_HEADER)
    with pytest.raises(ValueError, match="64 deep"):
        MSGPACK.dumps(held)


def test_keys_and_members_of_sets_are_written_in_full():
    key, text = ("a", 1), "t" * 100
    value = [{key: 1, text: 2}, {key: 3}, {key, text}, [key, text], (key, text)]
    loaded = PLAIN.loads(PLAIN.dumps(value))
    assert loaded == value
    assert loaded[3][0] is loaded[4][0]
    assert loaded[3][1] is loaded[4][1]


def test_an_object_that_is_freed_meanwhile_is_not_taken_for_its_successor():
    box, later, held = [["old"]], [], []
    held.extend(box)

    class Safe:
        """Its code runs in the middle of the encoding, and makes an object where another one may just have been."""

        @property
        def value(self):
            box.clear()
            held.clear()
            later.append(["new"])
            held.extend(later)
            return 0

    value = [box, uuid.UUID(int=1, is_safe=Safe()), later]
    loaded = PLAIN.loads(PLAIN.dumps(value))
    assert loaded[0] == [["old"]]
    assert loaded[2] == [["new"]]


@fixed
@given(st.data())
def test_generated_graphs_keep_their_shape(data):
    parts = [1, "short", "long " * 20, None]
    for _ in range(data.draw(st.integers(1, 25))):
        picked = data.draw(st.lists(st.sampled_from(range(len(parts))), max_size=5))
        items = [parts[index] for index in picked]
        kind = data.draw(st.sampled_from(["list", "tuple", "dict"]))
        parts.append(
            items if kind == "list" else tuple(items) if kind == "tuple" else {str(n): x for n, x in enumerate(items)}
        )
    value = [parts[-1], parts[len(parts) // 2], parts[4:]]
    loaded = PLAIN.loads(PLAIN.dumps(value))
    assert shape(loaded) == shape(value)
    assert shape(loaded) == shape(pickle.loads(pickle.dumps(value)))


def table(*offsets):
    return struct.pack(f">{len(offsets) + 1}I", *offsets, len(offsets))


REFERENCE = b"\xd4\x0a\x00"


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "truncated"),
        (b"\x00\x00\x00", "truncated"),
        (b"\xc0" + struct.pack(">I", 1), "truncated"),
        (b"\xc0" + struct.pack(">I", 2**32 - 1), "truncated"),
        (b"\x92\x91\x07" + REFERENCE + table(), "does not stand before it"),
        (b"\x92\x91\x07\xd4\x0a\x01" + table(1), "does not stand before it"),
        (b"\x92" + REFERENCE + b"\x90" + table(4), "does not stand before it"),
        # In itself.
        (b"\x91" + REFERENCE + table(0), "does not stand before it"),
        (b"\x91" + REFERENCE + table(1), "does not stand before it"),
        (b"\x91\x91" + REFERENCE + table(1), "does not stand before it"),
        # Offsets of nothing: past the end, inside a str, twice the same.
        (b"\x91\x90" + table(9), "parts that are not there"),
        (b"\x91\xa2ab" + table(2), "parts that are not there"),
        (b"\x92\x90" + REFERENCE + table(1, 1), "parts that are not there"),
        (b"\x91\x90" + table(2**32 - 1), "parts that are not there"),
        (b"\x91\xc7\x00\x0a" + table(), "wrong length"),
        (b"\x91\xc7\x03\x0a\x00\x00\x00" + table(), "wrong length"),
        (b"\x91\xc7\x05\x0a\x00\x00\x00\x00\x00" + table(), "wrong length"),
        # As a key, and in a set.
        (b"\x92\xa1a\x81" + REFERENCE + b"\xc0" + table(1), "in a key or a set"),
        (b"\x92\xa1a\xc7\x04\x02\x91" + REFERENCE + table(1), "in a key or a set"),
        (b"\x92\xa1a\x81\xc7\x04\x01\x91" + REFERENCE + b"\xc0" + table(1), "in a key or a set"),
        (b"\x92\x91\x07" + REFERENCE + b"\x00" + table(1), "after its end"),
    ],
    ids=lambda part: part.hex() if isinstance(part, bytes) else part,
)
def test_parts_that_lie_are_refused(payload, message):
    for codec in (AUTO, MSGPACK):
        with pytest.raises(ValueError, match=message):
            codec.loads(PARTS_HEADER + payload)


def test_a_reference_without_a_table_is_refused():
    with pytest.raises(ValueError, match="does not stand before it"):
        AUTO.loads(MSGPACK_HEADER + b"\x92\x90" + REFERENCE)


def test_references_cannot_nest_deeper_than_containers():
    # Each part is 60 lists around the part before it.
    body, offsets = bytearray(b"\x9f"), []
    for number in range(15):
        offsets.append(len(body))
        body += b"\x91" * 60 + (b"\xd4\x0a" + bytes([number - 1]) if number else b"\xc0")
    with pytest.raises(ValueError, match="nested too deep"):
        AUTO.loads(PARTS_HEADER + bytes(body) + table(*offsets))


def test_a_serializer_of_data_only_never_reads_a_pickle_for_parts():
    value = [[1], [2]]
    value = [value, value]
    assert MSGPACK.loads(AUTO.dumps(value)) == value
    assert Codec("pickle", keys=[KEY]).loads(AUTO.dumps(value)) == value
    with pytest.raises(ValueError, match=r"does not read a stored msgpack \(with shared parts\) value"):
        Codec("json", keys=[]).loads(AUTO.dumps(value))


def test_shared_parts_count_towards_max_value_len_once():
    part = "x" * 1000
    stored = PLAIN.dumps([part] * 50)
    size = len(stored) - 2
    assert Codec(keys=[KEY], compress_min_len=None, max_value_len=size).loads(stored) == [part] * 50
    with pytest.raises(ValueError, match="MAX_VALUE_LEN"):
        Codec(keys=[KEY], compress_min_len=None, max_value_len=size - 1).dumps([part] * 50)
