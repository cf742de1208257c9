"""Guests and tables of different versions: they work together, or importing the guest is an `ABIMismatch` that names
both versions and the command that mends it. Nothing crashes: each table ends where a page begins that nobody may touch,
and each attempt is a process of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.caches import cache_setting
from support.programs import Program
from support.server import ValkeyServer

# The layout of vcache/src/abi/table.rs, version 1.4.
HEADER = 48
FUNCTION = 8
OLDER = HEADER + 12 * FUNCTION
RUNTIMES = OLDER + 2 * FUNCTION
CURRENT = RUNTIMES + FUNCTION
NEWER = CURRENT + FUNCTION

PROGRAM = """
import ctypes, mmap, struct

import django_vcache

NAME = b"django_vcache._capi@1"
LAYOUT = "@QIINQPN"
FIELDS = ["magic", "major", "minor", "size", "features", "version", "version_len"]
kept = []

pointer = ctypes.pythonapi.PyCapsule_GetPointer
pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
new = ctypes.pythonapi.PyCapsule_New
new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + 3 * [ctypes.c_int] + [ctypes.c_size_t]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

address = pointer(django_vcache._capi, NAME)
header = dict(zip(FIELDS, struct.unpack(LAYOUT, ctypes.string_at(address, struct.calcsize(LAYOUT)))))
table = ctypes.string_at(address, header["size"])
epoch = table[struct.calcsize(LAYOUT):][:8]


def fenced(data):
    area = libc.mmap(None, 2 * mmap.PAGESIZE, 3, 0x22, -1, 0)
    ctypes.memmove(area + mmap.PAGESIZE - len(data), data, len(data))
    assert libc.mprotect(area, mmap.PAGESIZE, 1) == 0
    assert libc.mprotect(area + mmap.PAGESIZE, mmap.PAGESIZE, 0) == 0
    return area + mmap.PAGESIZE - len(data)


def capsule(data, name=NAME):
    kept.append(name)
    return new(fenced(data), name, None)


def made(size=header["size"], version=None, **fields):
    data = table + epoch * 100
    if version is not None:
        kept.append(version.encode())
        text = ctypes.cast(ctypes.c_char_p(kept[-1]), ctypes.c_void_p).value
        fields |= {"version": text, "version_len": len(kept[-1])}
    values = header | {"size": size} | fields
    return struct.pack(LAYOUT, *(values[field] for field in FIELDS)) + data[struct.calcsize(LAYOUT):size]


def attempt(source):
    exec(source, globals())
    try:
        import probe_guest
    except Exception as error:
        return [type(error).__name__, isinstance(error, ImportError), str(error)]

    async def awaited():
        if hasattr(probe_guest, "aspawned"):
            await probe_guest.aspawned(["GET", "k"], 2)
        return [await probe_guest.aconnection_id(), await probe_guest.afetch("k")]

    own, value = run(awaited())
    return ["works", own == probe_guest.connection_id(), value == probe_guest.fetch("k") == b"v"]


cache.execute("SET", "k", "v")
while line := sys.stdin.readline():
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        os.write(write, json.dumps(attempt(json.loads(line))).encode())
        os._exit(0)
    os.close(write)
    with open(read, "rb") as outcome:
        told = outcome.read()
    report([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), json.loads(told or b"null")])
"""


class Attempts:
    """A program that imports one build of the guest again and again, each time under other circumstances."""

    def __init__(self, server: ValkeyServer) -> None:
        self._program = Program(PROGRAM, {"default": cache_setting(server)})

    def __enter__(self) -> Attempts:
        return self

    def __exit__(self, *raised: Any) -> None:
        self._program.__exit__(*raised)

    def outcome(self, source: str) -> list[Any]:
        self._program.tell(json.dumps(source) + "\n")
        code, outcome = self._program.report()
        assert code == 0, f"exit {code} after: {source}"
        return outcome

    def works(self, source: str) -> None:
        assert self.outcome(source) == ["works", True, True]

    def mismatches(self, source: str, *words: str) -> None:
        name, is_import_error, message = self.outcome(source)
        assert (name, is_import_error) == ("ABIMismatch", True), message
        for word in ("built with vcache 0.", "needs table 1.", "pip install", *words):
            assert word in message, message


@pytest.fixture(params=["current", "older", "newer", "longer", "spawns"])
def build(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def attempts(server: ValkeyServer, programs_import: Any, build: str) -> Iterator[Attempts]:
    """Of the guest as it is, as it was, as it will be, with structs that have grown, and as it is if it needs the
    feature for runtimes."""
    if build != "current":
        programs_import(build)
    with Attempts(server) as attempts:
        yield attempts


def put(table: str) -> str:
    return f"django_vcache._capi = {table}"


def test_tables_of_every_size(attempts: Attempts, build: str) -> None:
    needed = {"newer": NEWER, "spawns": RUNTIMES}.get(build, OLDER)
    for size in range(HEADER, NEWER + 3 * FUNCTION, FUNCTION):
        source = put(f"capsule(made(size={size}, version='0.0.7'))")
        if size >= needed:
            attempts.works(source)
        else:
            attempts.mismatches(source, "0.0.7", "older", "from its checkout")


def test_the_wheels_own_table(attempts: Attempts, build: str) -> None:
    if build == "newer":
        attempts.mismatches("", "older")
    else:
        attempts.works("")


@pytest.mark.parametrize("build", ["current"], indirect=True)
def test_a_host_that_does_not_know_which_nodes_there_are(attempts: Attempts) -> None:
    attempts.works(
        put(f"capsule(made(size={RUNTIMES}, minor=3, version='0.0.9'))")
        + """
import probe_guest
try:
    probe_guest.primaries()
    raise AssertionError
except exceptions.ConfigurationError as error:
    assert "django-vcache 0.0.9 cannot tell" in str(error), error
"""
    )


def test_a_table_without_the_feature_for_runtimes(attempts: Attempts, build: str) -> None:
    source = put(f"capsule(made(size={NEWER}, features=0))")
    if build == "spawns":
        attempts.mismatches(source, "older")
    else:
        attempts.works(source)


def test_a_later_minor_version_with_features_that_nobody_knows(attempts: Attempts) -> None:
    attempts.works(put(f"capsule(made(size={NEWER + 50 * FUNCTION}, minor=7, features=2**64 - 1, version='0.9.9'))"))


@pytest.mark.parametrize("build", ["current"], indirect=True)
def test_other_versions_and_what_is_no_table(attempts: Attempts) -> None:
    # Earlier minor versions with all that is needed, and fewer features.
    attempts.works(put(f"capsule(made(size={OLDER}, minor=0, features=0))"))
    # Another major version, whatever its capsule is called.
    for name in ("django_vcache._capi@2", "django_vcache._capi@1"):
        attempts.mismatches(
            put(f"capsule(made(major=2, minor=3, version='2.5.0'), b'{name}')"),
            "2.5.0",
            "newer",
            "table 2.3",
            "go back to",
        )
        attempts.mismatches(put(f"capsule(made(size={HEADER}, major=3), b'{name}')"), "newer", "table 3.4")
        attempts.mismatches(put(f"capsule(made(major=0, version='0.0.1'), b'{name}')"), "0.0.1", "older", "table 0.4")
    attempts.mismatches(put("capsule(made(), b'django_vcache._capi@2')"))
    # A version that is not told, or not text.
    attempts.mismatches(put("capsule(made(major=2, version_len=0))"), "newer")
    attempts.mismatches(
        "kept.append(b'\\xff' * 9)\n"
        "text = ctypes.cast(ctypes.c_char_p(kept[-1]), ctypes.c_void_p).value\n"
        + put(f"capsule(made(size={HEADER})[:32] + struct.pack('@PN', text, 9))"),
        "older",
    )
    attempts.mismatches(
        put("capsule(struct.pack(LAYOUT, *(header | {'version': 0, 'version_len': 9, 'major': 9}).values()))"), "newer"
    )
    # What is not a table.
    whole = "of the installed django-vcache 0."
    attempts.mismatches(put("capsule(made(magic=0))"), whole, "not a table", "from its checkout")
    attempts.mismatches(
        put("capsule(made(magic=int.from_bytes(header['magic'].to_bytes(8, 'little'))))"), "not a table"
    )
    for junk in ("bytes(48)", "b'\\xff' * 48", "os.urandom(48)"):
        attempts.mismatches(put(f"capsule({junk})"), whole, "not a table")
    attempts.mismatches(put("capsule(made(), b'somebody.elses')"), whole, "another capsule", "somebody.elses")
    attempts.mismatches(put("capsule(made(), b'')"), whole, "another capsule")
    attempts.mismatches(put("capsule(made(), b'\\xff\\xfe')"), whole, "another capsule")
    attempts.mismatches(put("capsule(made(), None)"), whole, "a capsule without a name")
    for other in ("None", "1", "'text'", "object()", "type('_capi', (), {})"):
        attempts.mismatches(put(other), whole, "not a capsule")


@pytest.mark.parametrize("build", ["current"], indirect=True)
def test_a_wheel_that_is_not_there_or_has_no_table(attempts: Attempts) -> None:
    attempts.mismatches(
        "del django_vcache.__getattr__; django_vcache.__version__ = '3.2.0'", "3.2.0", "no table at all"
    )
    attempts.mismatches("del django_vcache.__getattr__", "of an unknown version", "no table at all")
    gone = """
for name in [name for name in sys.modules if name.partition(".")[0] == "django_vcache"]:
    del sys.modules[name]
"""
    attempts.mismatches(gone + "sys.modules['django_vcache'] = None", "not installed", "pip install PATH")
    # An older wheel, whose exceptions know no mismatch.
    attempts.mismatches("del exceptions.ABIMismatch\n" + put("capsule(made(magic=0))"), "not a table")
    # What is broken in another way says so itself.
    broken = """
import importlib.abc
class Broken(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "django_vcache":
            raise ImportError("broken in its own way")
sys.meta_path.insert(0, Broken())
"""
    assert attempts.outcome(gone + broken) == ["ImportError", True, "broken in its own way"]
    raising = """
def raising(name):
    raise OSError("no such library")
django_vcache.__getattr__ = raising
"""
    assert attempts.outcome(raising) == ["OSError", False, "no such library"]


@pytest.mark.parametrize("build", ["current"], indirect=True)
def test_after_the_mismatch_is_mended_the_import_works(attempts: Attempts) -> None:
    attempts.works("""
whole = django_vcache._capi
for _ in range(3):
    django_vcache._capi = capsule(made(major=2))
    try:
        import probe_guest
        raise AssertionError
    except exceptions.ABIMismatch:
        pass
django_vcache._capi = whole
""")


@pytest.mark.parametrize("build", ["current"], indirect=True)
def test_a_table_that_was_found_is_kept(attempts: Attempts) -> None:
    attempts.works("""
import probe_guest
del django_vcache.__getattr__
django_vcache._capi = capsule(bytes(48))
""")
