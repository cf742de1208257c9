"""What goes into the codec comes out: the same value, of the same type, in the promised form."""

import datetime as dt
import json
import math
import pickle
import struct
import uuid
import zoneinfo
from collections import OrderedDict, defaultdict, namedtuple
from decimal import Decimal
from enum import IntEnum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_vcache._vcache import Codec

KEY = b"a secret"
AUTO = Codec(keys=[KEY])
MSGPACK = Codec("msgpack", keys=[])
PICKLE = Codec("pickle", keys=[KEY])
# Never compressed, so that a test can look at the wire.
PLAIN = Codec(keys=[KEY], compress_min_len=None)
PLAIN_PICKLE = Codec("pickle", keys=[KEY], compress_min_len=None)

MSGPACK_HEADER = b"\xc1\x10"
PICKLE_HEADER = b"\xc1\x11"
JSON_HEADER = b"\xc1\x12"
CUSTOM_HEADER = b"\xc1\x13"
COMPRESSED = 0x08

fixed = settings(derandomize=True, deadline=None, max_examples=200, database=None)


class Colour(IntEnum):
    RED = 1


class Text(str):
    pass


class Model:
    """Like a model instance: state in __dict__, compared by it."""

    def __init__(self, **state):
        self.__dict__.update(state)

    def __eq__(self, other):
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None


Point = namedtuple("Point", "x y")


def function():
    return 42


def same(a, b):
    """Equality that sees types, float bits, dict order, and what times, Decimals and UUIDs hide."""
    if type(a) is not type(b):
        return False
    if type(a) is float:
        return struct.pack("d", a) == struct.pack("d", b)
    if type(a) in (list, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if type(a) is dict:
        return same(list(a.items()), list(b.items()))
    if type(a) is set:
        return len(a) == len(b) and same(sorted(a, key=repr), sorted(b, key=repr))
    if type(a) is Decimal:
        return a.as_tuple() == b.as_tuple()
    if type(a) in (dt.datetime, dt.time):
        return (
            a.replace(tzinfo=None) == b.replace(tzinfo=None)
            and a.fold == b.fold
            and repr(a.tzinfo) == repr(b.tzinfo)
            and type(a.tzinfo) is type(b.tzinfo)
        )
    if type(a) is uuid.UUID:
        return a == b and a.is_safe is b.is_safe
    return a == b


zones = st.one_of(
    st.none(),
    st.just(dt.UTC),
    st.sampled_from(["Europe/Amsterdam", "America/Port-au-Prince", "Etc/GMT+1", "UTC"]).map(zoneinfo.ZoneInfo),
    st.timedeltas(dt.timedelta(hours=-23, minutes=-59), dt.timedelta(hours=23, minutes=59)).map(dt.timezone),
    st.builds(
        dt.timezone,
        st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)),
        st.text(max_size=300),
    ),
)
hashable_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**300), 2**300),
    st.floats(),
    st.text(),
    st.binary(),
    st.dates(),
    st.times(timezones=zones),
    st.builds(
        lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold),
        st.datetimes(),
        zones,
        st.integers(0, 1),
    ),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.sampled_from(["NaN", "-NaN123", "-0", "Infinity", "1E+400", "1.10"]).map(Decimal),
    st.uuids(),
)
# Of the scalars only a signalling NaN has no hash.
scalars = st.one_of(hashable_scalars, st.just(Decimal("sNaN7")))
keys = st.recursive(hashable_scalars, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=20),
        st.lists(inner, max_size=5).map(tuple),
        st.dictionaries(keys, inner, max_size=20),
        st.sets(keys, max_size=20),
    ),
    max_leaves=40,
)


@fixed
@given(values)
def test_generated_plain_data_comes_back_equal_and_of_the_same_types(value):
    stored = AUTO.dumps(value)
    assert same(AUTO.loads(stored), value)
    assert MSGPACK.dumps(value) == stored
    assert same(MSGPACK.loads(stored), value)
    pickled = PICKLE.dumps(value)
    assert same(PICKLE.loads(pickled), value)
    if type(value) is int:
        assert stored == pickled == str(value).encode()
    else:
        assert stored[0] == pickled[0] == 0xC1
        # Generated parts can be one object.
        assert stored[1] & ~COMPRESSED in (0x10, 0x14)
        assert pickled[1] & ~COMPRESSED == 0x11


@pytest.mark.parametrize("serializer", ["auto", "pickle", "msgpack", "json"])
@pytest.mark.parametrize(
    "number",
    [
        0,
        7,
        -12,
        2**31,
        2**63 - 1,
        -(2**63),
        2**63,
        -(2**63) - 1,
        10**17,
        10**18 - 1,
        10**18,
        -(10**18),
        2**64,
        10**4299,
    ],
)
def test_an_exact_int_is_ascii_digits_in_every_serializer(serializer, number):
    codec = Codec(serializer, keys=[KEY])
    assert codec.dumps(number) == str(number).encode()
    assert same(codec.loads(codec.dumps(number)), number)


def test_bools_are_not_ints():
    assert PLAIN.dumps(True) == MSGPACK_HEADER + b"\xc3"
    assert AUTO.loads(AUTO.dumps(True)) is True
    assert AUTO.loads(AUTO.dumps([False])) == [False]
    assert type(AUTO.loads(AUTO.dumps([False]))[0]) is bool


def test_an_int_over_the_digit_limit_is_a_clear_error():
    with pytest.raises(ValueError, match="4300 digits"):
        AUTO.dumps(10**4300)


def test_an_int_over_the_digit_limit_is_fine_inside_a_container():
    assert AUTO.loads(AUTO.dumps([10**5000, -(10**5000)])) == [10**5000, -(10**5000)]


@pytest.mark.parametrize("number", [2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 2**71 - 1, 2**71, -(2**71), 2**4000])
def test_big_ints_in_containers_come_back(number):
    assert same(AUTO.loads(AUTO.dumps([number])), [number])


@pytest.mark.parametrize("value", [math.nan, -math.nan, math.inf, -math.inf, -0.0, 5e-324])
def test_floats_keep_their_bits(value):
    assert same(AUTO.loads(AUTO.dumps(value)), value)


@pytest.mark.parametrize(
    "text", ["NaN", "sNaN", "-sNaN42", "Infinity", "-Infinity", "-0", "0E-10", "1E+999999", "1.10"]
)
def test_decimals_keep_sign_exponent_and_payload(text):
    assert same(AUTO.loads(AUTO.dumps(Decimal(text))), Decimal(text))


def test_utc_comes_back_as_the_singleton():
    for value in (
        dt.datetime(2026, 11, 22, tzinfo=dt.UTC),
        dt.time(1, tzinfo=dt.UTC),
    ):
        assert AUTO.loads(AUTO.dumps(value)).tzinfo is dt.UTC


def test_a_named_utc_offset_keeps_its_name():
    zone = AUTO.loads(AUTO.dumps(dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(0), "GMT")))).tzinfo
    assert zone is not dt.UTC
    assert zone.tzname(None) == "GMT"


def test_a_zoneinfo_comes_back_as_the_cached_zone():
    zone = zoneinfo.ZoneInfo("Europe/Amsterdam")
    assert AUTO.loads(PLAIN.dumps(dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=zone))).tzinfo is zone


def test_a_zoneinfo_outside_the_cache_is_pickled():
    value = dt.datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo.no_cache("Europe/Amsterdam"))
    assert PLAIN.dumps(value).startswith(PICKLE_HEADER)
    assert AUTO.loads(AUTO.dumps(value)).tzinfo.key == "Europe/Amsterdam"


def test_a_uuid_keeps_is_safe():
    for is_safe in uuid.SafeUUID:
        value = uuid.UUID(int=12345, is_safe=is_safe)
        assert PLAIN.dumps(value).startswith(MSGPACK_HEADER)
        assert same(AUTO.loads(AUTO.dumps(value)), value)


@pytest.mark.parametrize("length", [0, 1, 31, 32, 255, 256, 65535, 65536])
def test_every_width_of_length_prefix(length):
    text, data, items = "x" * length, b"x" * length, [None] * length
    for value in (
        text,
        data,
        items,
        tuple(items),
        dict.fromkeys(range(length)),
        set(range(length)),
        [tuple(items)],
    ):
        assert same(PLAIN.loads(PLAIN.dumps(value)), value)


def test_dict_order_and_key_types_are_kept():
    value = {
        "b": 1,
        "a": 2,
        3: "int",
        4.5: "float",
        None: "none",
        (1, "x"): "tuple",
        b"x": "bytes",
        dt.date.min: 0,
    }
    assert same(AUTO.loads(AUTO.dumps(value)), value)


SPECIAL = dt.datetime(2026, 1, 1, tzinfo=type("Zone", (dt.tzinfo,), {})())


@pytest.mark.parametrize(
    "value",
    [
        Colour.RED,
        Text("subclass"),
        Point(1, 2),
        OrderedDict(a=1),
        defaultdict(list, a=[1]),
        frozenset({1}),
        bytearray(b"x"),
        1j,
        range(3),
        "\ud800",
        Model(name="x", tags={"a"}),
        function,
        Model,
        ...,
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_everything_else_is_pickled_and_comes_back_as_what_it_was(value):
    for nested in (value, [value], {"k": (1, {"x": value})}):
        stored = PLAIN.dumps(nested)
        assert stored.startswith(PICKLE_HEADER)
        loaded = AUTO.loads(stored)
        assert loaded == nested
        assert type(loaded) is type(nested)


def test_a_subclass_anywhere_makes_the_whole_value_one_pickle():
    assert PLAIN.loads(PLAIN.dumps({"a": [1, Colour.RED]}))["a"][1] is Colour.RED
    assert PLAIN.loads(PLAIN.dumps({Text("a"): 1})) == {"a": 1}
    assert type(next(iter(PLAIN.loads(PLAIN.dumps({Text("a"): 1}))))) is Text


def test_pickle_uses_the_highest_protocol():
    stored = PLAIN.dumps(Model)
    assert stored[2 + 32 :] == pickle.dumps(Model, pickle.HIGHEST_PROTOCOL)


def test_a_list_inside_itself_is_pickled():
    value = [1]
    value.append(value)
    loaded = AUTO.loads(AUTO.dumps(value))
    assert loaded[1] is loaded


def nested(depth):
    value = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_sixty_four_levels_are_msgpack_and_more_are_pickled():
    assert PLAIN.dumps(nested(64)).startswith(MSGPACK_HEADER)
    assert PLAIN.loads(PLAIN.dumps(nested(64))) == nested(64)
    assert PLAIN.dumps(nested(65)).startswith(PICKLE_HEADER)
    assert PLAIN.loads(PLAIN.dumps(nested(65))) == nested(65)


def test_deeper_than_pickle_goes_is_pickles_own_error():
    with pytest.raises(RecursionError):
        AUTO.dumps(nested(100_000))


class Unpicklable:
    def __getstate__(self):
        raise pickle.PickleError("not me")


@pytest.mark.parametrize("codec", [AUTO, PLAIN_PICKLE], ids=["auto", "pickle"])
def test_errors_of_pickle_pass_unchanged(codec):
    with pytest.raises((pickle.PicklingError, AttributeError), match="local"):
        codec.dumps(lambda: None)
    with pytest.raises(TypeError, match="pickle"):
        codec.dumps(x for x in ())
    with pytest.raises(pickle.PickleError) as caught:
        codec.dumps({"deep": [Unpicklable()]})
    assert caught.type is pickle.PickleError
    assert caught.value.args == ("not me",)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Colour.RED, r"cannot store \S*Colour$"),
        ({"user": [1, (2, Colour.RED)]}, r"Colour at value\['user'\]\[1\]\[1\]$"),
        ({Text("k"): 1}, r"Text at value\['k'\] \(the key itself\)$"),
        ([{frozenset()}], r"frozenset at value\[0\]\[frozenset\(\)\] \(in a set\)$"),
        (["\ud800"], r"str with an unpaired surrogate at value\[0\]$"),
        ({"x" * 100: object()}, r"object at value\['x{39}\.\.\.\]$"),
        ([SPECIAL], r"datetime\.datetime with a tzinfo other than .* at value\[0\]$"),
    ],
)
def test_msgpack_mode_names_what_it_cannot_store_and_where(value, message):
    with pytest.raises(TypeError, match=message):
        MSGPACK.dumps(value)


def test_msgpack_mode_refuses_what_is_too_deep_or_in_itself():
    for refused in (nested(65), nested(100_000)):
        with pytest.raises(ValueError, match="64 deep"):
            MSGPACK.dumps(refused)
    value = []
    value.append({"self": (value,)})
    with pytest.raises(ValueError, match="contains itself"):
        MSGPACK.dumps(value)


def test_compression_starts_at_the_threshold():
    codec = Codec(keys=[KEY], compress_min_len=103)  # a header of two bytes and 100 of text, plus one
    assert codec.dumps("x" * 100).startswith(MSGPACK_HEADER)
    assert codec.dumps("x" * 101).startswith(bytes([0xC1, 0x10 | COMPRESSED]))
    assert AUTO.dumps("x" * 1000).startswith(MSGPACK_HEADER)
    assert len(AUTO.dumps("x" * 2000)) < 100


@pytest.mark.parametrize("codec", [AUTO, PICKLE], ids=["auto", "pickle"])
def test_compression_is_kept_only_if_smaller(codec):
    noise = b"".join(uuid.uuid5(uuid.NAMESPACE_DNS, str(n)).bytes for n in range(500))
    stored = codec.dumps(noise)
    assert not stored[1] & COMPRESSED
    assert codec.loads(stored) == noise


@pytest.mark.parametrize("size", [10_000, 100_000, 5_000_000])
def test_large_values_of_every_kind_come_back(size):
    value = "abc" * (size // 3)
    custom = Codec("custom", keys=[], dumps=str.encode, loads=bytes.decode)
    for codec in (AUTO, MSGPACK, PICKLE, Codec("json", keys=[]), custom):
        assert codec.loads(codec.dumps(value)) == value


def test_uncompressed_values_are_read_by_a_codec_that_compresses_and_the_other_way_round():
    value = ["x" * 5000]
    assert AUTO.loads(PLAIN.dumps(value)) == value
    assert PLAIN.loads(AUTO.dumps(value)) == value


def test_json_mode_writes_compact_json_and_reads_it():
    codec = Codec("json", keys=[], compress_min_len=None)
    value = {"a": [1, 2.5, None, True], "b": "\u20ac \ud800"}
    assert codec.dumps(value) == JSON_HEADER + json.dumps(value, separators=(",", ":")).encode()
    assert codec.loads(codec.dumps(value)) == value
    assert codec.dumps(True) == JSON_HEADER + b"true"
    with pytest.raises(TypeError, match="not JSON serializable"):
        codec.dumps({1})


def test_custom_mode_calls_the_users_functions():
    codec = Codec("custom", keys=[], dumps=lambda v: repr(v).encode(), loads=lambda b: (type(b), b))
    stored = codec.dumps({"a": 1})
    assert stored == CUSTOM_HEADER + b"{'a': 1}"
    assert codec.loads(stored) == (bytes, b"{'a': 1}")
    assert codec.dumps(5) == b"5"
    assert codec.loads(b"5") == 5


def test_custom_dumps_must_return_bytes_and_may_raise():
    with pytest.raises(TypeError, match="returned str, not bytes"):
        Codec("custom", keys=[], dumps=repr, loads=eval).dumps("x")
    with pytest.raises(ZeroDivisionError):
        Codec("custom", keys=[], dumps=lambda v: 1 / 0, loads=eval).dumps("x")


def test_a_custom_serializer_may_use_the_cache_itself():
    outer = Codec(
        "custom",
        keys=[],
        dumps=lambda value: AUTO.dumps(["y" * 5000, value]),
        loads=lambda data: AUTO.loads(data)[1],
    )
    assert outer.loads(outer.dumps("x" * 5000)) == "x" * 5000


@pytest.mark.parametrize(
    "make",
    [
        lambda: Codec("auto", keys=[]),
        lambda: Codec("pickle", keys=[]),
        lambda: Codec("auto", keys=[b""]),
        lambda: Codec("auto", keys=[KEY, b""]),
        lambda: Codec("custom", keys=[KEY]),
        lambda: Codec("json", keys=[KEY], dumps=repr, loads=eval),
        lambda: Codec("yaml", keys=[KEY]),
    ],
)
def test_a_codec_that_could_not_be_safe_is_not_made(make):
    with pytest.raises(ValueError, match=r"key|dumps|serializer"):
        make()


@pytest.mark.parametrize("container", [list, dict, set])
def test_a_container_changed_while_it_is_stored_is_an_error_not_a_crash(container, monkeypatch):
    first = uuid.UUID(int=1)
    victim = {list: list, dict: dict.fromkeys, set: set}[container]([first, *range(10)])
    slot = uuid.UUID.__dict__["int"]

    def meddle(self):
        victim.clear()
        return slot.__get__(self)

    # Python code that runs in the middle of encoding.
    monkeypatch.setattr(uuid.UUID, "int", property(meddle))
    with pytest.raises(RuntimeError, match="changed"):
        MSGPACK.dumps(victim)
