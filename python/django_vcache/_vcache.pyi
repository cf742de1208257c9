"""The Rust half of the package. Use it through ``django_vcache``: only ``hotpaths`` and ``Codec`` are of use alone."""

from asyncio import Future
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, Literal, Required, Self, TypeAlias, TypedDict, final
from uuid import UUID

from django.core.cache.backends.base import BaseCache
from django.http import HttpResponse

from django_vcache.admission.consumer import Consumer
from django_vcache.routing._row import Row

__version__: str

_capi: Any
"""A PyCapsule: the table by which other extension modules share the connection."""

hotpaths: ModuleType

DEFAULT_PREFIX: str
"""The prefix of limits, gates and streams that have none of their own."""

LONGEST_NAME: int
"""Characters of a name of a limit, a stream or a scope's entry."""

OUTAGE_CODES: frozenset[str]
"""The codes of errors by which a server says that it is there and cannot serve now."""

def as_name(text: str) -> str:
    """The text with an underscore for each character that no name may have. It is not shortened."""

def decoded(content_encoding: bytes | None, body: bytes, most: int) -> bytes:
    """A body without its Content-Encoding, within a limit.

    It takes gzip, x-gzip, deflate (with zlib's frame or without), br, zstd and identity. `most` is how many bytes the
    body may have when decoded. What was not encoded is returned as the same object.

    Raises RequestError of `django_vcache.exceptions`, with the `status` 415 for another encoding or several, 413 for
    more than `most` bytes, 400 for data that is corrupt or ends early.
    """

def forget_alias(alias: str) -> None:
    """Forgets the connection of an alias: the next hot path or limit has it configured anew."""

def forget_enabled() -> None:
    """The setting VCACHE has changed: the next limit looks again whether it is to count."""

def forget_refusals() -> None:
    """Forgets what limits have refused in this process, whose counters are deleted."""

def forget_servers() -> None:
    """Forgets the same, and which servers fail."""

def record_round_trips(on: bool) -> None:
    """Begins to record the round trips of this process, or begins anew; False ends it."""

def recorded_round_trips() -> list[tuple[str, list[str], list[bytes]]]:
    """What was recorded: the alias, the commands' names, and their keys."""

def on_unknown_alias(callable: Callable[[str], None]) -> None:
    """Registers what configures an alias that a hot path wants and that is not configured yet."""

@final
class RouteTable:
    """The hot routes of a site.

    It does not change once it is made, so any number of threads may ask it.
    """

    def __new__(cls, rows: Sequence[Row]) -> RouteTable: ...
    def __len__(self) -> int: ...
    def find(self, path: str) -> tuple[Any, dict[str, Any]] | None:
        """The route that a path fits, and the arguments for its target.

        `path` is decoded, from the slash behind the root path.
        """

    @staticmethod
    def problem(pieces: Sequence[str | tuple[str, str]]) -> str | None:
        """Why a route cannot be in a table; None if it can."""

@final
class HotPolicy:
    """Hosts, https and the headers of security, by Django's settings.

    `plain` and `secure` are the headers that answers get which go by http and by https. With `only_https` a request by
    http is redirected, which Python does.
    """

    def __new__(
        cls, plain: Sequence[tuple[bytes, bytes]], secure: Sequence[tuple[bytes, bytes]], only_https: bool
    ) -> HotPolicy: ...
    def admit(self, host: bytes) -> None:
        """Remembers a Host header that ``ALLOWED_HOSTS`` admits."""

def header_in(lines: bytes, name: bytes) -> bytes | None:
    """A header by its name in lower case, of header lines as they came; None if there is no such header.

    Several of the name are joined by commas.
    """

@final
class HotReader:
    """Reads the requests of one connection that are for hot routes below ASGI.

    `table` has the routes. `root` is what the server puts before each path, and `script` what the application then
    takes away. `most_head` is the bytes that a head may have. `ends` are the addresses and ports of the connection's
    client and server, `scheme` is "http" or "https".
    """

    def __new__(
        cls,
        table: RouteTable,
        root: str,
        script: str,
        most_head: int,
        ends: tuple[tuple[str, int] | None, tuple[str, int | None] | None],
        scheme: str,
    ) -> Self: ...
    @property
    def kept(self) -> int:
        """Bytes that have come and are no part of a request that was given out."""

    @property
    def is_in_body(self) -> bool:
        """Whether a request for a hot route has begun, and its body is waited for."""

    def feed(self, data: bytes) -> HotRequest | bytes | None:
        """Takes what has come, and says what it is.

        That is None if it needs more, a request, or the bytes that are another parser's: all that are kept.
        """

    def next(self) -> HotRequest | bytes | None:
        """As `feed`, of what is kept."""

    def keep(self, data: bytes) -> None:
        """Takes what has come, for `next`."""

@final
class HotRequest:
    """A request for a hot route: its head is of the strict subset of HTTP/1.1."""

    method: str
    path: str
    """Decoded, within the application."""
    full_path: str
    """Decoded, with the server's root path."""
    query: bytes
    headers: bytes
    """Header lines as they came, without the empty line at the end."""
    body: bytes
    route: Any
    params: Any
    client: tuple[str, int] | None
    peer: str | None
    """The client's address."""
    server: tuple[str, int | None] | None
    scheme: str
    length: int
    """Bytes of a body that is too large that have not come yet."""
    is_too_large: bool
    """Whether the body is larger than the route takes. It was not waited for."""
    is_forwarded: bool
    """Whether there are headers by which a proxy names the client or the scheme, and which uvicorn reads."""
    names_proxy: bool
    """Whether there is a header that only proxies write."""
    is_direct: bool
    """Whether its hot path can be called by `start`."""
    keep_alive: bool
    """Whether the connection may stay after the response."""

    def start(self, policy: HotPolicy, scheme: str, proxies: int) -> tuple[Any, Future[Any] | None] | None:
        """Calls the hot path of the route, if the route has to do nothing else for this request; None if it has.

        `scheme` is that which a trusted proxy names, `proxies` the number of trusted proxies. Returns what the hot path
        answered, and the loop's future of its answer: one of the two is None.

        Raises what the hot path raised.
        """

    def answer(self, answer: Any, lines: dict[int, bytes], defaults: bytes) -> bytes | None:
        """The response that the answer of a started hot path makes, as it goes over the wire; None if the route has to
        make it. Sets `keep_alive`.

        `lines` has the status lines, `defaults` the header lines of the server.

        Raises ValueError as `response` does.
        """

    def response(
        self, status: int, line: bytes, defaults: bytes, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> bytes:
        """The response as it goes over the wire. Sets `keep_alive`.

        Raises ValueError for a header that would break the response, and for a length that is not the body's.
        """

@final
class Client:
    """One cache alias on the shared connection. `version` is None for the cache's own."""

    def __new__(
        cls,
        alias: str,
        url: str,
        *,
        key_prefix: str,
        connect_timeout: float | None,
        response_timeout: float | None,
        client_name: str | None,
        username: str | None,
        password: str | None,
        db: int | None,
        ssl: list[tuple[str, str]],
        cluster: bool | None,
        address_map: dict[str, str],
        read_from: str | None,
        availability_zone: str | None,
        credentials: object | None,
        allow_plaintext_credentials: bool,
        serializer: str,
        dumps: Callable[[Any], bytes] | None,
        loads: Callable[[bytes], Any] | None,
        compress_min_len: int | None,
        max_value_len: int,
        signing_keys: list[bytes],
        ignore_exceptions: bool,
        on_miss: Callable[[str, str, str], None],
        on_error: Callable[[str, Exception], None],
        on_untracked: Callable[[str], None],
        on_unscripted: Callable[[str], None],
    ) -> Client: ...
    @property
    def tls(self) -> Literal["full", "chain", "none"] | None:
        """Which certificates of the server are taken: "full", "chain" for those of any host, "none" for all; None
        without TLS.
        """
    def publish(self, alias: str) -> None:
        """Makes this connection the one that Rust knows by `alias`: hot paths run on it."""
    def get(self, cache: BaseCache, key: Any, default: Any, version: Any) -> Any: ...
    def aget(self, cache: BaseCache, key: Any, default: Any, version: Any) -> Future[Any]: ...
    def get_many(self, cache: BaseCache, keys: Iterable[Any], version: Any) -> dict[Any, Any]: ...
    def aget_many(self, cache: BaseCache, keys: Iterable[Any], version: Any) -> Future[dict[Any, Any]]: ...
    def set(self, cache: BaseCache, key: Any, value: Any, timeout: Any, version: Any) -> None: ...
    def aset(self, cache: BaseCache, key: Any, value: Any, timeout: Any, version: Any) -> Future[None]: ...
    def add(self, cache: BaseCache, key: Any, value: Any, timeout: Any, version: Any) -> bool: ...
    def aadd(self, cache: BaseCache, key: Any, value: Any, timeout: Any, version: Any) -> Future[bool]: ...
    def set_many(self, cache: BaseCache, data: Mapping[Any, Any], timeout: Any, version: Any) -> list[Any]: ...
    def aset_many(self, cache: BaseCache, data: Mapping[Any, Any], timeout: Any, version: Any) -> Future[list[Any]]: ...
    def touch(self, cache: BaseCache, key: Any, timeout: Any, version: Any) -> bool: ...
    def atouch(self, cache: BaseCache, key: Any, timeout: Any, version: Any) -> Future[bool]: ...
    def delete(self, cache: BaseCache, key: Any, version: Any) -> bool: ...
    def adelete(self, cache: BaseCache, key: Any, version: Any) -> Future[bool]: ...
    def delete_many(self, cache: BaseCache, keys: Iterable[Any], version: Any) -> None: ...
    def adelete_many(self, cache: BaseCache, keys: Iterable[Any], version: Any) -> Future[None]: ...
    def has_key(self, cache: BaseCache, key: Any, version: Any) -> bool: ...
    def ahas_key(self, cache: BaseCache, key: Any, version: Any) -> Future[bool]: ...
    def incr(self, cache: BaseCache, key: Any, delta: Any, version: Any) -> int: ...
    def aincr(self, cache: BaseCache, key: Any, delta: Any, version: Any) -> Future[int]: ...
    def wait_changed(self, cache: BaseCache, key: Any, timeout: Any, version: Any) -> bool: ...
    def await_changed(self, cache: BaseCache, key: Any, timeout: Any, version: Any) -> Future[bool]: ...
    def move_version(self, cache: BaseCache, key: Any, old: int, new: int) -> int: ...
    def amove_version(self, cache: BaseCache, key: Any, old: int, new: int) -> Future[int]: ...
    def flush(self) -> None:
        """Empties the whole database."""
    def aflush(self) -> Future[None]: ...
    def sweep(self, layouts: Sequence[tuple[bytes, bytes, bytes]], version: str) -> None:
        """Deletes every key that has the first of the layouts, with an integer for a version or with `version`, and
        none of the others.
        """
    def asweep(self, layouts: Sequence[tuple[bytes, bytes, bytes]], version: str) -> Future[None]: ...
    def execute(self, *arguments: Any) -> Any: ...
    def aexecute(self, *arguments: Any) -> Future[Any]: ...

@final
class Codec:
    """Values to stored bytes and back, apart from any connection: for tests and tools."""

    def __new__(
        cls,
        serializer: str = "auto",
        *,
        keys: list[bytes],
        compress_min_len: int | None = 1024,
        max_value_len: int = 67108864,
        dumps: Callable[[Any], bytes] | None = None,
        loads: Callable[[bytes], Any] | None = None,
    ) -> Codec: ...
    def dumps(self, value: Any) -> bytes:
        """The stored form of `value`."""
    def loads(self, data: bytes) -> Any:
        """Raises ValueError for bytes that are no value, or not to be trusted."""

_Payload: TypeAlias = bytes | bytearray | memoryview | str
_Value: TypeAlias = int | str | UUID
_Scope: TypeAlias = Mapping[str, int] | Mapping[str, str] | Mapping[str, UUID] | Mapping[str, _Value]
_Of: TypeAlias = _Scope | _Value

class _Admission(TypedDict, total=False):
    """The arguments of ``Gate.admit``, for ``Gate.admit_many``."""

    scope: Required[_Scope]
    payload: _Payload | None
    cost: int
    costs: dict[str, int] | None
    dedupe: str | None
    limits: dict[str, int] | None
    rates: dict[str, str] | None

_Outage: TypeAlias = Literal["open", "closed", "local", "raise"]

def check_policy(given: dict[str, Any]) -> None:
    """Raises ValueError or TypeError for keywords that `VCACHE["DEFAULTS"]` or a policy cannot have."""

def aliases_with_streams() -> list[str]:
    """The cache aliases on which streams of this process store events."""

def warm_up(alias: str) -> None:
    """Connects an alias and loads the scripts of limits. Raises the connection's errors."""

async def awarm_up(alias: str) -> None:
    """As warm_up, to be awaited."""

def throttles_in_use() -> list[tuple[str, str, str, tuple[int, int, int] | None, str]]:
    """The throttles of this process that count, those of gates included: the cache alias, where the counters are, the
    name, what the counters mean or None if a callable says the rate, and the throttle in words.
    """

def counted_as(limit: int, seconds: float, burst: int | None = None) -> tuple[int, int, int] | None:
    """What the counters of a rate and its burst mean: equal for rates that differ only in words. None if nothing is
    counted.

    Raises ValueError for what is no rate.
    """

def aliases_in_use() -> list[str]:
    """The cache aliases that the throttles, quotas, gates and streams of this process count on."""

def parse_rate(rate: str) -> tuple[int, float]:
    """A rate's text as its limit and its period in seconds: `parse_rate("10/30s") == (10, 30.0)`.

    Raises ValueError for what is not a rate, TypeError for what is not a str.
    """

@final
class Refusal:
    """What refused: the `refused_by` of a decision.

    `str(refusal)` is such as `throttle 'org'`.
    """

    @property
    def rule(self) -> str:
        """The name of the rule or stream."""
    @property
    def kind(self) -> Literal["throttle", "quota", "stream", "outage"]:
        """`"stream"` is one that is full; `"outage"` is a server that could not be asked."""

@final
class RuleState:
    """How a throttle or quota stands, after a decision or a look.

    ```python
    state = throttle.peek(42)
    print(f"{state.remaining} of {state.burst}, all of them in {state.reset_after:.0f} s")
    ```
    """

    @property
    def name(self) -> str:
        """The rule's name."""
    @property
    def kind(self) -> Literal["throttle", "quota"]:
        """What the rule is."""
    @property
    def limit(self) -> int:
        """Units in a window; -1 is no limit."""
    @property
    def burst(self) -> int:
        """Units that may come at once; of a quota, its limit."""
    @property
    def remaining(self) -> int | None:
        """Units left, never below 0; None if there is no limit, or if it is not known."""
    @property
    def used(self) -> int:
        """Of a quota, units counted in the window so far, which may be more than the limit; of a throttle, 0."""
    @property
    def reset_after(self) -> float:
        """Seconds until everything is there again: a throttle's burst, or a quota's next window."""
    @property
    def window(self) -> float:
        """The window's length in seconds."""
    def as_dict(self) -> dict[str, Any]:
        """All attributes as a dict that JSON takes."""

@final
class Decision:
    """What was decided. It is true if it may go on; of a refusal nothing was charged and nothing written.

    ```python
    decision = await throttle.acheck(42)
    if not decision:
        print(f"refused by {decision.refused_by}, try again in {decision.retry_after} s")
    ```
    """

    def __bool__(self) -> bool:
        """The same as ``allowed``."""
    @property
    def allowed(self) -> bool:
        """Whether it may go on."""
    @property
    def duplicate(self) -> bool:
        """Whether the dedupe id was admitted before.

        Then nothing was charged or written now, and `id` and `receipt` are the first call's.
        """
    @property
    def id(self) -> str | None:
        """The id of the stream's entry, if one was written."""
    @property
    def receipt(self) -> str | None:
        """For a refund, if a quota was charged. It is not signed: take none from strangers."""
    @property
    def refused_by(self) -> Refusal | None:
        """What refused, and if several did, the one with the longest wait. None if nothing did."""
    @property
    def retry_after(self) -> float | None:
        """Seconds until the same may be admitted: 0.0 if it was, None if it never will be.

        When a full stream has room, and when an outage ends, is not known: then it is a second, or until the server is
        asked again.
        """
    @property
    def never(self) -> bool:
        """Whether the same will never be admitted: it costs more than the limit, or the limit is 0."""
    @property
    def limit(self) -> int | None:
        """The limit of the rule that is closest to its own: the one that refused, or has the smallest part left.

        None if there is no limit, or nothing is known, as in an outage. `remaining` and `reset_after` are of the same
        rule.
        """
    @property
    def remaining(self) -> int | None:
        """Units left of the rule that `limit` is of."""
    @property
    def reset_after(self) -> float | None:
        """Seconds until all of that rule's units are there again."""
    @property
    def rules(self) -> tuple[RuleState, ...]:
        """How every rule stands now, throttles first. A rule of which nothing is known has no `remaining`."""
    def rule(self, name: str) -> RuleState:
        """The state of a rule.

        Raises KeyError if no rule has this name.
        """
    def as_dict(self) -> dict[str, Any]:
        """All attributes as a dict that JSON takes; the rules are dicts too."""
    @property
    def source(self) -> Literal["server", "settings", "deny_cache", "guard", "outage", "disabled"]:
        """Who decided.

        `"settings"` is a limit of 0 or none at all, `"deny_cache"` a refusal of the server's that still holds,
        `"guard"` this process by itself, `"outage"` the `outage` policies, and `"disabled"` the setting
        `VCACHE["ENABLED"]`.
        """
    @property
    def outage(self) -> str | None:
        """Why the server could not be asked, if `source` is `"outage"`: the error's text. None otherwise."""
    @property
    def status(self) -> int:
        """The HTTP status: 200, 429 for a refusal, 503 for one because of an outage or a full stream."""
    def headers(self, legacy: bool = False) -> dict[str, str]:
        """The headers that tell a client: `RateLimit-Policy`, `RateLimit`, and for a refusal `Retry-After`.

        With `legacy` also `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset` (seconds).
        """
    def sentry_headers(self, *categories: str, scope: str = "organization") -> dict[str, str]:
        """What a Sentry client reads, also in an answer of 200: `X-Sentry-Rate-Limits` and `Retry-After`.

        Empty for what was admitted or never will be. Without categories it is for all of them.

        ```python
        decision.sentry_headers("error", "transaction")
        # {'X-Sentry-Rate-Limits': '60:error;transaction:organization:org', 'Retry-After': '60'}
        ```
        """
    def response(self) -> HttpResponse:
        """The response of a refusal: 429, or 503 for an outage, with the headers and a line that names the rule.

        Raises ValueError for a decision that admits.
        """

@final
class Refund:
    """What a refund did. It is true if units were given back now.

    ```python
    refund = quota.refund(decision.receipt)
    refund.used
    # {'exports': 41}
    ```
    """

    def __bool__(self) -> bool:
        """The same as ``refunded``."""
    @property
    def refunded(self) -> bool:
        """Whether units were given back now.

        Not if this receipt was refunded before, or if nothing of what it charged is counted any more: it was reset, or
        its window is too long ago.
        """
    @property
    def used(self) -> dict[str, int]:
        """Each quota that had been charged, and the units that it counts now in the window of the receipt."""

class Throttle:
    """A rate limit for each value of a scope's entry. Make it once, as a global of a module.

    In any window of W seconds at most `burst + rate * W` units pass.

    ```python
    lookups = Throttle("customer", "20/m", burst=5)
    decision = lookups.check(42)
    decision = await lookups.acheck({"customer": 42, "org": 1}, cost=3)
    ```

    - `name`: up to 64 letters, digits, `_`, `.` and `-`. On the server it is part of the key.
    - `rate`: `"100/m"` or `"10/30s"`; or a callable of the scope that returns one, or None for no limit. `"-1/s"` is no
      limit, a limit of 0 refuses all. The callable is called before anything is sent. An async one is awaited by the
      methods to await, and refused by those that block.
    - `burst`: units that may come at once; the rate's limit if left out.
    - `key`: the entry of the scope that it is keyed by, or several; if left out, the one that has the throttle's name.
    - `using`: the cache alias whose server counts, a `django_vcache.ValkeyCache`.
    - `policy`: the name of a policy in `VCACHE["POLICIES"]`, for keywords that are not given here.
    - `prefix`: what the keys on the server begin with, behind the `KEY_PREFIX` of the alias.
    - `shards`: over how many hash tags they are spread, 1 to 9999. A change leaves old counters behind.
    - `outage`: without the server: `"open"` admits, `"closed"` refuses with a 503, `"local"` counts in this process,
      `"raise"` raises.
    - `deny_cache`: whether this process remembers a refusal until it ends, for 5 seconds at most.
    - `guard`: times the limit beyond which this process refuses by itself, 1.0 or more; None is never.
    - `processes`: among how many processes the limit is divided under `"local"`; as many as there are CPUs if left out.
    - `deadline`: seconds that the server may take for a decision; None is the alias's `RESPONSE_TIMEOUT`.
    - `breaker`: whether a server that failed five times in a row is left alone for 1 to 10 seconds.

    Raises ValueError for what is not a name or not a rate, a burst of 0, and settings out of range; TypeError for wrong
    types and unknown keywords.
    """

    def __new__(
        cls,
        name: str,
        rate: str | Callable[[Any], str | Awaitable[str | None] | None],
        burst: int | None = None,
        key: str | Sequence[str] | None = None,
        *,
        using: str = "default",
        policy: str | None = None,
        prefix: str = "vcache",
        shards: int = 1,
        outage: _Outage = "open",
        deny_cache: bool = True,
        guard: float | None = None,
        processes: int | None = None,
        deadline: float | None = 0.1,
        breaker: bool = True,
    ) -> Throttle: ...
    @property
    def name(self) -> str:
        """The throttle's name."""
    @property
    def using(self) -> str:
        """The cache alias whose server counts."""
    def check(self, scope: _Of, cost: int = 1, *, rate: str | None = None) -> Decision:
        """Spends `cost` units of a scope, or of the value of its entry. Blocks, with the GIL released.

        A cost of 0 asks whether a unit would be let through, and charges nothing. `rate` is another rate for this call.

        Raises, before anything is sent, ValueError for a negative or too large cost and for a scope that lacks an
        entry, TypeError for wrong types, ConfigurationError for an alias that cannot count. Under `outage="raise"`
        ConnectionError, TimeoutError or ResponseError for a server that cannot be asked; under any policy ResponseError
        for what the server refuses otherwise, such as NOPERM. The last four are of `django_vcache.exceptions`.
        """
    async def acheck(self, scope: _Of, cost: int = 1, *, rate: str | None = None) -> Decision:
        """As `check`, to be awaited. Nothing is asked before that. In a boolean context it raises TypeError: an `await`
        was forgotten.
        """
    def peek(self, scope: _Of, *, rate: str | None = None) -> RuleState:
        """How it stands; nothing is charged.

        It has the alias's `RESPONSE_TIMEOUT` and no outage policy: raises as `check` under `outage="raise"`.
        """
    async def apeek(self, scope: _Of, *, rate: str | None = None) -> RuleState:
        """As `peek`, to be awaited."""
    def reset(self, scope: _Of) -> bool:
        """Forgets what was charged; whether there was anything. Raises as `peek`.

        Other processes may still remember a refusal, for 5 seconds at most.
        """
    async def areset(self, scope: _Of) -> bool:
        """As `reset`, to be awaited."""
    def metrics(self) -> dict[str, int]:
        """What it decided in this process, standing alone.

        `admitted`, `refused`, `duplicates`, `deny_cache` and `guard` (whom they refused), `outages` and of these
        `outage_open`, `outage_closed` and `outage_local`, `breaker_opened`, `replayed` (sent again under the dedupe id)
        and `stale_windows` (sent again because a quota's window had just ended).
        """

class Quota:
    """So many units in each calendar window, for each value of a scope's entry; exact within the window.

    ```python
    exports = Quota("exports", limit=100, period="month", key="org", timezone="Europe/Vienna")
    decision = await exports.aconsume({"org": 1})
    await exports.arefund(decision.receipt)
    ```

    - `name`: up to 64 letters, digits, `_`, `.` and `-`. On the server it is part of the key.
    - `limit`: -1 only counts, 0 refuses all; or a callable of the scope that returns an int, or None for no limit. The
      callable is called before anything is sent. An async one is awaited by the methods to await, and refused by those
      that block.
    - `period`: the window, by the calendar of `timezone`.
    - `key`: the entry of the scope that it is keyed by, or several; if left out, the owner of the gate that it is in.
    - `timezone`: a name of the IANA database.
    - `mode`: `"strict"` refuses what would go over, `"crossing"` takes the one that crosses the limit and refuses those
      after it, `"check_only"` refuses as `"strict"` and counts nothing, `"shadow"` counts and never refuses.
    - `keep`: seconds after a window's end for which it can still be refunded; a day if left out.
    - `using`, `policy`, `prefix`, `shards`, `outage`, `deny_cache`, `guard`, `processes`, `deadline`, `breaker`: as for
      `Throttle`; a guard is for throttles only.

    Raises ValueError for what is not a name, a period, a mode, a time zone or a limit, and settings out of range;
    TypeError for wrong types and unknown keywords.
    """

    def __new__(
        cls,
        name: str,
        limit: int | Callable[[Any], int | Awaitable[int | None] | None],
        period: Literal["hour", "day", "month"],
        key: str | Sequence[str] | None = None,
        timezone: str = "UTC",
        mode: Literal["strict", "crossing", "check_only", "shadow"] = "strict",
        keep: float | None = None,
        *,
        using: str = "default",
        policy: str | None = None,
        prefix: str = "vcache",
        shards: int = 1,
        outage: _Outage = "open",
        deny_cache: bool = True,
        guard: float | None = None,
        processes: int | None = None,
        deadline: float | None = 0.1,
        breaker: bool = True,
    ) -> Quota: ...
    @property
    def name(self) -> str:
        """The quota's name."""
    @property
    def using(self) -> str:
        """The cache alias whose server counts."""
    def consume(self, scope: _Of, cost: int = 1, *, limit: int | None = None) -> Decision:
        """Takes `cost` units of a scope, or of the value of its entry. Blocks, with the GIL released.

        A cost of 0 asks whether a unit is left, and counts nothing. `limit` is another limit for this call. The
        decision's `receipt` is for a refund. Raises as `Throttle.check`.
        """
    async def aconsume(self, scope: _Of, cost: int = 1, *, limit: int | None = None) -> Decision:
        """As `consume`, to be awaited. Nothing is asked before that. In a boolean context it raises TypeError: an
        `await` was forgotten.
        """
    def peek(self, scope: _Of, *, limit: int | None = None) -> RuleState:
        """How it stands in the window that is now. Raises as `Throttle.peek`."""
    async def apeek(self, scope: _Of, *, limit: int | None = None) -> RuleState:
        """As `peek`, to be awaited."""
    def refund(self, receipt: str) -> Refund:
        """Gives back what was taken under a receipt, once, in the window that it was taken in.

        A count never falls below 0, also if it was reset in between. The dedupe id of the call is not forgotten.

        Raises ValueError for what is not a receipt of this quota; ConnectionError, TimeoutError or ResponseError for a
        server that cannot be asked. It may be repeated after any error.
        """
    async def arefund(self, receipt: str) -> Refund:
        """As `refund`, to be awaited."""
    def reset(self, scope: _Of) -> bool:
        """Forgets what was counted in the window that is now; whether there was anything. Raises as `peek`."""
    async def areset(self, scope: _Of) -> bool:
        """As `reset`, to be awaited."""
    def metrics(self) -> dict[str, int]:
        """What it decided in this process, standing alone; the names are those of `Throttle.metrics`."""

class Stream:
    """A stream of entries for a batch job to find.

    ```python
    mails = Stream("mails", maxlen=100_000)
    decision = mails.add(b"to: a@example.com", {"org": 1}, dedupe="mail-17")
    for batch in mails.consumer("sender"):
        send([entry.payload for entry in batch])
    ```

    Given to a gate, it takes on the gate's alias, prefix, owner, shards and other settings.

    - `name`: up to 64 letters, digits, `_`, `.` and `-`. On the server it is part of the key.
    - `maxlen`: the most entries of all shards together, each of which takes its part; None is no bound.
    - `full`: what happens then: `"refuse"`, or `"trim"`, which drops the oldest entries, also unread ones.
    - `using`: the cache alias on whose server it is, a `django_vcache.ValkeyCache`.
    - `policy`: the name of a policy in `VCACHE["POLICIES"]`, for keywords that are not given here.
    - `prefix`: what the keys on the server begin with, behind the `KEY_PREFIX` of the alias.
    - `owner`: the entry of a scope that says which shard it is in, and whom a dedupe id counts for. Without one, the
      shards take turns, and a dedupe id counts in the whole stream, which then has one shard.
    - `shards`: over how many hash tags entries are spread, 1 to 9999. A change leaves old entries behind: drain it
      first.
    - `outage`: without the server an entry is refused, with a 503; `"raise"` raises instead.
    - `deadline`: seconds that the server may take for `add`; None is the alias's `RESPONSE_TIMEOUT`.
    - `breaker`: whether a server that failed five times in a row is left alone for 1 to 10 seconds.
    - `dedupe_for`: seconds for which a dedupe id is remembered, twice the deadline at least and up to a year.
    - `max_payload`: bytes of a payload at the most.

    Raises ValueError for what is not a name, a maxlen of 0 and settings out of range; TypeError for wrong types and
    unknown keywords.
    """

    def __new__(
        cls,
        name: str,
        maxlen: int | None = None,
        full: Literal["refuse", "trim"] = "refuse",
        *,
        using: str = "default",
        policy: str | None = None,
        prefix: str = "vcache",
        owner: str | None = None,
        shards: int = 1,
        outage: _Outage = "open",
        deadline: float | None = 0.1,
        breaker: bool = True,
        dedupe_for: float = 3600,
        max_payload: int = 1_048_576,
    ) -> Stream: ...
    @property
    def name(self) -> str:
        """The stream's name."""
    @property
    def using(self) -> str:
        """The cache alias on whose server it is."""
    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of its shards on the server."""
    @property
    def dead_keys(self) -> tuple[str, ...]:
        """The keys of its shards' dead letters."""
    def add(self, payload: _Payload, scope: _Scope | None = None, dedupe: str | None = None) -> Decision:
        """Appends an entry: the field `payload`, and one for each entry of the scope. Blocks, with the GIL released.

        The decision's `id` is the entry's. A full stream refuses, and so does an outage, since it could not be stored.
        With `dedupe` it is written only once under that id, which counts for the scope's owner; with several shards it
        needs a scope. Without a scope the shards take turns.

        Raises ValueError for a payload above max_payload and for a scope or id that cannot be written, TypeError for
        wrong types, both before anything is sent; ResponseError for what the server refuses otherwise than in an
        outage.
        """
    async def aadd(self, payload: _Payload, scope: _Scope | None = None, dedupe: str | None = None) -> Decision:
        """As `add`, to be awaited. Nothing is asked before that. In a boolean context it raises TypeError: an `await`
        was forgotten.
        """
    def add_many(self, payloads: Iterable[_Payload], scope: _Scope | None = None) -> list[str | None]:
        """Appends entries in order, in one round trip; the ids, None for what found no room.

        They are no transaction: what was written before an error stays. It has the alias's `RESPONSE_TIMEOUT`.

        Raises ValueError and TypeError as `add`; ConnectionError, TimeoutError or ResponseError, after which it is not
        known which entries were written.
        """
    async def aadd_many(self, payloads: Iterable[_Payload], scope: _Scope | None = None) -> list[str | None]:
        """As `add_many`, to be awaited."""
    def length(self) -> int:
        """How many entries its shards have together.

        Raises ConnectionError, TimeoutError or ResponseError for a server that cannot be asked.
        """
    async def alength(self) -> int:
        """As `length`, to be awaited."""
    def consumer(
        self,
        group: str,
        *,
        batch: int = 500,
        max_wait: float = 1.0,
        name: str | None = None,
        reclaim_after: float = 60.0,
        max_deliveries: int | None = 5,
        delete: bool = True,
        signals: Sequence[int] = ...,
    ) -> Consumer:
        """A consumer of a group: iterate over it for batches. See `django_vcache.admission.consumer.Consumer`.

        - `group`: consumers of one group share the work.
        - `batch`: entries of a batch at the most.
        - `max_wait`: seconds for which a batch is collected, from its first entry on.
        - `name`: of this consumer in its group; made up if left out.
        - `reclaim_after`: seconds after which what was not acknowledged is delivered again; at least twice max_wait.
        - `max_deliveries`: how often before an entry goes to the dead letters; None is no end.
        - `delete`: whether to delete entries that all groups have acknowledged.
        - `signals`: the signals that stop it, SIGTERM and SIGINT; `()` where another handler has them.

        Raises ValueError or TypeError for an argument that makes no sense.
        """
    def metrics(self) -> dict[str, int]:
        """What `add` and `add_many` did in this process; the names are those of `Throttle.metrics`."""

class Gate:
    """Throttles, quotas and a stream that say yes together or no, in one round trip.

    Of a refusal nothing is charged and nothing written. Make it once, as a global of a module.

    ```python
    gate = Gate(
        throttles=[Throttle("org", "10000/m"), Throttle("project", "1000/m", burst=200)],
        quotas=[Quota("events", limit=1_000_000, period="month")],
        stream=Stream("events", maxlen=1_000_000),
        owner="org",
    )
    decision = await gate.aadmit({"org": 1, "project": 42}, payload=b"{}", dedupe="0b51")
    ```

    - `throttles`, `quotas`: the rules, up to 64, each with its own name.
    - `stream`: where payloads are written.
    - `using`: the cache alias whose server decides; that of the parts if left out.
    - `outage`: as for `Throttle`, for rules that do not say so themselves. What has a payload is refused in an outage,
      with a 503, unless a policy is `"raise"`.
    - `dedupe_for`: seconds for which a dedupe id is remembered, up to a year.
    - `max_payload`: bytes of a payload at the most.
    - `owner`: the entry of the scope that stands for the owner: it says which shard a call is in, whom a dedupe id
      counts for, and whom quotas without a key count for. Needed for quotas, shards and dedupe ids.
    - `policy`, `prefix`, `shards`, `deny_cache`, `guard`, `processes`, `deadline`, `breaker`: as for `Throttle`. They
      hold for the rules and the stream too, which have none but an `outage`.

    Raises ValueError for two rules of one name, more than 64, parts on several aliases or with settings that the gate
    would ignore, quotas or shards without an owner, with shards a rule whose key does not have the owner in it, nothing
    at all, and settings out of range; TypeError for wrong types and unknown keywords.
    """

    def __new__(
        cls,
        throttles: Iterable[Throttle] | None = None,
        quotas: Iterable[Quota] | None = None,
        stream: Stream | None = None,
        *,
        using: str = "default",
        policy: str | None = None,
        prefix: str = "vcache",
        owner: str | None = None,
        shards: int = 1,
        outage: _Outage = "open",
        deny_cache: bool = True,
        guard: float | None = None,
        processes: int | None = None,
        deadline: float | None = 0.1,
        breaker: bool = True,
        dedupe_for: float = 3600,
        max_payload: int = 1_048_576,
    ) -> Gate: ...
    @property
    def using(self) -> str:
        """The cache alias whose server decides."""
    @property
    def rules(self) -> tuple[str, ...]:
        """The names of the rules: throttles, then quotas."""
    @property
    def stream(self) -> Stream | None:
        """The stream, with the gate's settings; None if there is none."""
    def admit(
        self,
        scope: _Scope,
        *,
        payload: _Payload | None = None,
        cost: int = 1,
        costs: dict[str, int] | None = None,
        dedupe: str | None = None,
        limits: dict[str, int] | None = None,
        rates: dict[str, str] | None = None,
    ) -> Decision:
        """Decides, charges and writes: all of it, or nothing. Blocks, with the GIL released.

        - `scope`: whom it is for: every entry that a rule is keyed by, in any order.
        - `payload`: what is written to the stream; without one nothing is.
        - `cost`: units that every rule is charged. At 0 it is asked whether a unit is left and nothing is charged; a
          payload is written all the same.
        - `costs`: units that rules are charged instead of `cost`, by their names: `{"bytes": 5000}`. A rule that costs
          0 then is left out of this call: it is charged nothing and refuses nothing.
        - `dedupe`: an id, 1 to 512 bytes, under which it is admitted only once for its owner: a second time charges and
          writes nothing, and answers the first id and receipt. Only with one is it sent again after a time-out.
        - `limits`: other limits for this call, by the rule's name: `{"events": 500}`.
        - `rates`: other rates of throttles for this call: `{"org": "50/m"}`.

        Raises, before anything is sent, ValueError for what cannot be decided (a scope that lacks an entry, a payload
        above max_payload or without a stream, an unknown rule), TypeError for wrong types, ConfigurationError for an
        alias that cannot count. Under `outage="raise"` ConnectionError, TimeoutError or ResponseError for a server that
        cannot be asked; under any policy ResponseError for what the server refuses otherwise, such as NOPERM. The last
        four are of `django_vcache.exceptions`.
        """
    async def aadmit(
        self,
        scope: _Scope,
        *,
        payload: _Payload | None = None,
        cost: int = 1,
        costs: dict[str, int] | None = None,
        dedupe: str | None = None,
        limits: dict[str, int] | None = None,
        rates: dict[str, str] | None = None,
    ) -> Decision:
        """As `admit`, to be awaited. Nothing is asked before that. In a boolean context it raises TypeError: an `await`
        was forgotten.
        """
    def admit_many(self, admissions: Iterable[_Admission]) -> list[Decision]:
        """Decides several admissions, each by itself, in their order. Blocks, with the GIL released.

        Up to 128 are sent at once, or 256 KB of payloads. Each is a mapping with the arguments of `admit`, such as
        `{"scope": {"org": 1}, "payload": b"{}", "costs": {"bytes": 2}}`. The decisions have the same order.

        Raises as `admit`: ValueError and TypeError, for any of them, before anything is sent. Under `outage="raise"` an
        error of one is raised when all have been decided.
        """
    async def aadmit_many(self, admissions: Iterable[_Admission]) -> list[Decision]:
        """As `admit_many`, to be awaited."""
    def peek(
        self, scope: _Scope, *, limits: dict[str, int] | None = None, rates: dict[str, str] | None = None
    ) -> tuple[RuleState, ...]:
        """How every rule stands; nothing is charged. Raises as `Throttle.peek`."""
    async def apeek(
        self, scope: _Scope, *, limits: dict[str, int] | None = None, rates: dict[str, str] | None = None
    ) -> tuple[RuleState, ...]:
        """As `peek`, to be awaited."""
    def refund(self, receipt: str) -> Refund:
        """Gives back to the quotas what was charged under a receipt, once, in the windows that it was charged in.

        Throttles are not refunded, and the dedupe id is not forgotten. Raises as `Quota.refund`.
        """
    async def arefund(self, receipt: str) -> Refund:
        """As `refund`, to be awaited."""
    def reset(self, scope: _Scope, rule: str | None = None) -> int:
        """Forgets what was charged for a scope, by one rule or by all; of how many there was anything.

        Raises ValueError for a rule that is not there and for a scope that lacks an entry; otherwise as `peek`.
        """
    async def areset(self, scope: _Scope, rule: str | None = None) -> int:
        """As `reset`, to be awaited."""
    def metrics(self) -> dict[str, int]:
        """What it decided in this process; the names are those of `Throttle.metrics`."""
