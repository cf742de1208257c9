"""CORS for hot routes: which other sites' pages may ask, and read the answer."""

from collections.abc import Iterable

from django_vcache.exceptions import ConfigurationError

from ._head import Head
from ._response import Pairs

__all__ = ["Cors"]


class Cors:
    """Who may ask from a page of another site (https://fetch.spec.whatwg.org/#http-cors-protocol).

    Args:
        origins: ``"*"`` for all, or origins such as ``"https://shop.example"``.
        headers: request headers that such a page may set, or ``"*"`` for those that it asks for.
        expose: response headers that it may read beside the few that it always may.
        credentials: whether the browser may send cookies along. Hot routes check no CSRF token, so this needs origins
            that you name.
        max_age: seconds for which the browser remembers the answer to a preflight.

    Raises:
        ConfigurationError: an origin that cannot be one, or credentials for all origins.

    >>> hot("api/events/", ingest, methods=["POST"], cors=Cors(["https://shop.example"], headers=["x-sentry-auth"]))
    """

    def __init__(
        self,
        origins: str | Iterable[str] = "*",
        *,
        headers: str | Iterable[str] = "*",
        expose: Iterable[str] = (),
        credentials: bool = False,
        max_age: int = 3600,
    ) -> None:
        if not isinstance(origins, Iterable):
            raise ConfigurationError(f"origins of Cors are '*' or a list of origins, not {origins!r}")
        if not isinstance(max_age, int) or isinstance(max_age, bool) or max_age < 0:
            raise ConfigurationError(f"max_age of Cors is a number of seconds, not {max_age!r}")
        named = [origins] if isinstance(origins, str) else list(origins)
        if not named:
            raise ConfigurationError("origins of Cors are empty, so that no page could ask: leave `cors` out instead")
        self._all = named == ["*"]
        self._origins = frozenset(_origin(each) for each in named) if not self._all else frozenset()
        if credentials and self._all:
            raise ConfigurationError(
                "Cors(credentials=True) needs the origins by name: with '*' any site could use your users' cookies"
            )
        self._headers = None if headers == "*" else ", ".join(_listed("headers", headers)).encode()
        self._expose = ", ".join(_listed("expose", expose)).encode()
        self._credentials = credentials
        self._max_age = str(max_age).encode()

    @property
    def constant(self) -> Pairs | None:
        """The headers of an answer, if they are the same for all requests."""
        return self._granted([(b"Access-Control-Allow-Origin", b"*")]) if self._all else None

    def allowed(self, head: Head) -> Pairs:
        """The headers of an answer."""
        if self._all:
            found = [(b"Access-Control-Allow-Origin", b"*")]
        else:
            # A cache has to know that it depends on the origin, also when it is refused.
            found = [(b"Vary", b"Origin")]
            origin = head.get(b"origin")
            if origin is None or origin.decode("latin-1").lower() not in self._origins:
                return found
            found.append((b"Access-Control-Allow-Origin", origin))
        return self._granted(found)

    def _granted(self, found: Pairs) -> Pairs:
        if self._credentials:
            found.append((b"Access-Control-Allow-Credentials", b"true"))
        if self._expose:
            found.append((b"Access-Control-Expose-Headers", self._expose))
        return found

    def preflight(self, head: Head, methods: str) -> Pairs | None:
        """The further headers of the answer to a preflight; None if the request is no preflight."""
        if head.method != "OPTIONS" or not head.get(b"origin") or not head.get(b"access-control-request-method"):
            return None
        found = [(b"Access-Control-Allow-Methods", methods.encode()), (b"Access-Control-Max-Age", self._max_age)]
        wanted = self._headers if self._headers is not None else head.get(b"access-control-request-headers")
        if wanted:
            found.append((b"Access-Control-Allow-Headers", wanted))
        return found


def _origin(text: str) -> str:
    scheme, _, rest = text.partition("://") if isinstance(text, str) and text.isascii() else ("", "", "")
    if scheme not in ("http", "https") or not rest or "/" in rest or "*" in text:
        raise ConfigurationError(
            f"{text!r} cannot be an origin of Cors: write it as the browser sends it, such as 'https://shop.example'"
        )
    return text.lower()


def _listed(what: str, names: str | Iterable[str]) -> list[str]:
    found = [names] if isinstance(names, str) else list(names)
    for name in found:
        if (
            not isinstance(name, str)
            or not name
            or not name.isascii()
            or not all(c.isalnum() or c in "-_!#$%&'*+.^`|~" for c in name)
        ):
            raise ConfigurationError(f"{name!r} in {what} of Cors is not the name of a header")
    return found
