"""Which application a project serves, and where it listens."""

import importlib.util
import os

from django.conf import settings

__all__ = ["Unserved", "application", "place"]


class Unserved(Exception):
    """It cannot be told what to serve, or where. The message says what to do."""


def application() -> str:
    """The project's ASGI application, as ``module:name``.

    ``ASGI_APPLICATION`` names it. Without, it is ``application`` in the module ``asgi`` beside the one of
    ``WSGI_APPLICATION``, of the settings or of ``ROOT_URLCONF``.

    Raises:
        Unserved: there is none.
    """
    given = getattr(settings, "ASGI_APPLICATION", None)
    if given:
        module, dot, name = given.rpartition(".")
        if not dot:
            raise Unserved(f"ASGI_APPLICATION is {given!r}. It must be a dotted path, such as 'shop.asgi.application'")
        return f"{module}:{name}"
    looked = []
    for beside in _modules():
        module = f"{beside.rpartition('.')[0]}.asgi".lstrip(".")
        if module in looked:
            continue
        looked.append(module)
        if _exists(module):
            return f"{module}:application"
    raise Unserved(
        f"no ASGI application was found: there is no module {' or '.join(looked)}. Set ASGI_APPLICATION to its dotted "
        "path, or give --app module:name"
    )


def _modules() -> list[str]:
    """Modules of the project, beside which there may be an application."""
    wsgi = getattr(settings, "WSGI_APPLICATION", None) or ""
    names = [wsgi.rpartition(".")[0]]
    # Settings are often a package: shop.settings.production.
    settings_module = os.environ.get("DJANGO_SETTINGS_MODULE", "")
    while settings_module:
        names.append(settings_module)
        settings_module = settings_module.rpartition(".")[0]
    names.append(getattr(settings, "ROOT_URLCONF", None) or "")
    return [name for name in names if name]


def _exists(module: str) -> bool:
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return False
    # A folder without code, such as one of tests, has no origin.
    return spec is not None and spec.origin is not None


def place(listen: str | None, host: str | None, port: int | None, uds: str | None) -> list[str]:
    """The options of uvicorn for where to listen.

    >>> place("0.0.0.0:80", None, None, None)
    ['--host', '0.0.0.0', '--port', '80']

    Args:
        listen: an address and a port, or one of them; an IPv6 address with a port is in brackets.
        host: the same in parts.
        port: the same in parts.
        uds: the path of a Unix socket.

    Raises:
        Unserved: they exclude each other, or there is no such port.
    """
    if uds and (listen or host or port is not None):
        raise Unserved("a server listens on --uds or on an address, not on both")
    if listen:
        if host or port is not None:
            raise Unserved(f"the address is given twice: as {listen!r}, and by --host or --port")
        host, given = _split(listen)
        port = int(given) if given else None
    if port is not None and not 0 <= port <= 65535:
        raise Unserved(f"there is no port {port}: the last one is 65535")
    options = [("--host", host), ("--port", None if port is None else str(port)), ("--uds", uds)]
    return [word for name, value in options if value for word in (name, value)]


def _split(listen: str) -> tuple[str | None, str]:
    if listen.isascii() and listen.isdigit():
        return None, listen
    host, colon, port = listen.rpartition(":")
    if listen.startswith("[") and listen.endswith("]"):
        host, colon, port = listen, "", ""
    if not colon:
        return listen.strip("[]"), ""
    if not (port.isascii() and port.isdigit()) or (":" in host and not host.startswith("[")):
        raise Unserved(f"{listen!r} is no address and port, such as 127.0.0.1:8000, [::1]:8000 or 8000")
    return host.strip("[]") or None, port
