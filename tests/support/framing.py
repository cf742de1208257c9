"""Whether two readers of HTTP/1.1 take the same bytes in the same way: the wheel's, and those of uvicorn's classes.

`compare()` gives the same bytes, cut at random places, to both. Whatever the wheel's reader takes, httptools and h11
must see as the same requests that end at the same bytes. `hostile()` makes the bytes: requests by a grammar in which
most rules have a wrong form, then mutated.
"""

from __future__ import annotations

import random
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import h11
import httptools

from django_vcache._vcache import HotReader, HotRequest, RouteTable
from django_vcache.routing._row import Row

MOST_BODY = 4096
MOST_HEAD = 8192


class Seen(NamedTuple):
    """A request as a reader sees it."""

    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes | None
    """None: it was too large to be waited for."""
    keep_alive: bool


@dataclass
class Counts:
    """What came of all comparisons."""

    cases: int = 0
    requests: int = 0
    foreign: int = 0
    too_large: int = 0

    def __str__(self) -> str:
        return (
            f"{self.cases} inputs: {self.requests} requests were taken, {self.too_large} were too large, "
            f"{self.foreign} times the bytes were another parser's"
        )


class Difference(AssertionError):
    """The readers disagree. The message has the bytes."""


TABLE = RouteTable([Row([("path", "rest")], None, limit=MOST_BODY)])
"""It takes all paths but the shortest."""


def cut(rng: random.Random, data: bytes) -> list[bytes]:
    """The bytes in pieces."""
    if not data or rng.random() < 0.2:
        return [data]
    if rng.random() < 0.2:
        return [data[at : at + 1] for at in range(len(data))]
    places = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(8)))
    return [data[begin:end] for begin, end in zip([0, *places], [*places, len(data)], strict=True)]


def ours(pieces: list[bytes]) -> tuple[list[tuple[Seen, int]], bool]:
    """The requests that the wheel's reader takes, with where they end, and whether it gave up on what follows."""
    reader = HotReader(TABLE, "", "", MOST_HEAD, (None, None), "http")
    taken: list[tuple[Seen, int]] = []
    come = 0
    for piece in pieces:
        come += len(piece)
        step = reader.feed(piece)
        while step is not None:
            if isinstance(step, bytes):
                return taken, True
            assert isinstance(step, HotRequest)
            taken.append((seen(step), come - reader.kept))
            if step.is_too_large or not step.keep_alive:
                return taken, False
            step = reader.next()
    return taken, False


def seen(request: HotRequest) -> Seen:
    lines = request.headers.split(b"\r\n")
    assert lines.pop() == b""
    headers = [(name.lower(), value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines)]
    body = None if request.is_too_large else request.body
    keep_alive = (b"connection", b"close") not in [(name, value.lower()) for name, value in headers]
    assert request.is_too_large or keep_alive == request.keep_alive
    return Seen(request.method, request.path, request.query, headers, body, keep_alive)


class Httptools:
    """What uvicorn's class sees of httptools."""

    def __init__(self) -> None:
        self.begun = 0
        self.heads = 0
        self.whole: list[Seen] = []
        self.head: Seen | None = None
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def on_message_begin(self) -> None:
        self.begun += 1
        self.url = b""
        self.body = b""
        self.headers: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.heads += 1
        url = httptools.parse_url(self.url)
        path = urllib.parse.unquote(url.path.decode("ascii"))
        self.head = Seen(
            self.parser.get_method().decode("ascii"),
            path,
            url.query or b"",
            self.headers,
            None,
            self.parser.should_keep_alive(),
        )

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        assert self.head is not None
        self.whole.append(self.head._replace(body=self.body))


def by_httptools(pieces: list[bytes], number: int, is_last_whole: bool) -> list[Seen]:
    """As many requests as httptools has seen at the end of these bytes, which must be `number`."""
    reader = Httptools()
    for piece in pieces:
        reader.parser.feed_data(piece)
    if not is_last_whole:
        assert reader.head is not None
        assert reader.heads == len(reader.whole) + 1
        return [*reader.whole, reader.head]
    assert reader.begun == len(reader.whole), "a message has begun after the last one"
    return reader.whole


def by_h11(pieces: list[bytes], number: int, is_last_whole: bool) -> list[Seen]:
    conn = h11.Connection(h11.SERVER, MOST_HEAD * 2)
    found: list[Seen] = []
    body = b""
    is_open = False
    for piece in pieces:
        if piece:
            conn.receive_data(piece)
        while True:
            event = conn.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                break
            if isinstance(event, h11.Request):
                is_open, body = True, b""
                raw, _, query = event.target.partition(b"?")
                path = urllib.parse.unquote(raw.decode("ascii"))
                headers = [(name.lower(), bytes(value)) for name, value in event.headers]
                keep_alive = b"close" not in dict(headers).get(b"connection", b"").lower()
                found.append(Seen(event.method.decode("ascii"), path, bytes(query), headers, None, keep_alive))
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                is_open = False
                found[-1] = found[-1]._replace(body=body)
                conn.send(h11.Response(status_code=204, headers=[]))
                conn.send(h11.EndOfMessage())
                if conn.our_state is not h11.DONE or conn.their_state is not h11.DONE:
                    break
                conn.start_next_cycle()
    assert is_open != is_last_whole, "the last message is not where it was"
    assert conn.trailing_data[0] == b"", "a message has begun after the last one"
    return found


PARSERS: dict[str, Callable[[list[bytes], int, bool], list[Seen]]] = {"httptools": by_httptools, "h11": by_h11}


def compare(rng: random.Random, data: bytes, counts: Counts) -> None:
    """Gives bytes to the readers.

    Raises:
        Difference: what was taken is another thing to another reader.
    """
    counts.cases += 1
    pieces = cut(rng, data)
    taken, gave_up = ours(pieces)
    whole, gave_up_whole = ours([data])
    if [each for each, _ in taken] != [each for each, _ in whole] or gave_up != gave_up_whole:
        raise Difference(f"in pieces: {pieces!r}: {taken}, {gave_up}; in one: {whole}, {gave_up_whole}")
    counts.foreign += gave_up
    counts.requests += len(taken)
    if not taken:
        return
    is_last_whole = taken[-1][0].body is not None
    counts.too_large += not is_last_whole
    # In one piece it is not known how much of a body that is too large had come.
    end = taken[-1][1]
    expected = [request for request, _ in taken]
    for name, parser in PARSERS.items():
        if name == "h11" and rng.random() < 0.7:
            continue  # it is slow
        try:
            found = parser(cut(rng, data[:end]), len(taken), is_last_whole)
        except Exception as error:
            raise Difference(f"{name} refuses {data[:end]!r}, of which was taken {expected}: {error!r}") from error
        if found != expected:
            raise Difference(f"{name} sees {found} in {data[:end]!r}, of which was taken {expected}")
    if is_last_whole:
        short = Httptools()
        short.parser.feed_data(data[: end - 1])
        if len(short.whole) != len(taken) - 1:
            raise Difference(f"httptools ends the last request before {end} in {data[:end]!r}")


def hostile(rng: random.Random) -> bytes:
    """Bytes of a few requests."""
    data = b"".join(_request(rng) for _ in range(rng.choice([1, 1, 1, 2, 3, 5])))
    if rng.random() < 0.35:
        data = _mutated(rng, data)
    return data[: rng.randrange(len(data) + 1)] if rng.random() < 0.05 else data


_METHODS = [b"GET", b"POST", b"HEAD", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"]
_ODD_METHODS = [b"get", b"CONNECT", b"TRACE", b"PRI", b"G\0T", b"", b" GET", b"M-SEARCH", b"POST\t", b"QUERY"]
_TARGETS = [b"/", b"/hot", b"/hot?a=b", b"/a/%C3%A4?x=%FF", b"//a//b", b"/?", b"/a??b", b"/%2e%2E/", b"/%00"]
_ODD_TARGETS = [
    b"*",
    b"http://a/hot",
    b"/a#b",
    b"/a b",
    b"/\xc3\xa4",
    b"/%",
    b"/%4",
    b"/%zz",
    b"/%ff",
    b"",
    b"a",
    b"?a",
    b"/\x7f",
    b"/a\tb",
    b"/a\0b",
    b'/a\\b|{}^`<>"',
    b"a:443",
]
_VERSIONS = [
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"HTTP/0.9",
    b"HTTP/1.2",
    b"http/1.1",
    b"HTTP/1.1 ",
    b" HTTP/1.1",
    b"",
    b"HTTP/1.10",
]
_PLAIN = [
    (b"Accept", b"*/*"),
    (b"User-Agent", b"a b\tc; \xe4\xff"),
    (b"X-Forwarded-For", b"1.2.3.4"),
    (b"Connection", b"keep-alive"),
    (b"connection", b"close"),
    (b"Empty", b""),
    (b"Cookie", b"a=b; c=d"),
    (b"Keep-Alive", b"5"),
    (b"TE", b"trailers"),
    (b"Trailer", b"x"),
    (b"X_Y", b"z"),
    (b"Content-Length-X", b"7"),
    (b"Sec-WebSocket-Key", b"x"),
]
_ODD_HEADERS = [
    (b"Transfer-Encoding", b"chunked"),
    (b"Transfer-Encoding", b"identity"),
    (b"transfer-encoding", b" chunked , x"),
    (b"Transfer-Encoding", b"xchunked"),
    (b"Transfer_Encoding", b"chunked"),
    (b"Content-Length", b"+3"),
    (b"Content-Length", b"-3"),
    (b"Content-Length", b"3, 3"),
    (b"Content-Length", b"0x3"),
    (b"Content-Length", b"3 3"),
    (b"Content-Length", b""),
    (b"Content-Length", b"\x0b3"),
    (b"Content-Length", b"3\x00"),
    (b"Content-Length", b"99999999999999999999"),
    (b"Content-Length", b"18446744073709551619"),
    (b"Content-Length", b"5000"),
    (b"Content-Length", b"3"),
    (b"CONTENT-LENGTH", b"0003"),
    (b"Content-Length ", b"3"),
    (b"Content-Length\t", b"3"),
    (b"Content_Length", b"3"),
    (b" Content-Length", b"3"),
    (b"Host", b"b"),
    (b"Host ", b"b"),
    (b"Expect", b"100-continue"),
    (b"Upgrade", b"websocket"),
    (b"Connection", b"upgrade"),
    (b"Connection", b"Upgrade, keep-alive"),
    (b"Connection", b"close, keep-alive"),
    (b"Connection", b"x, close"),
    (b"Proxy-Connection", b"close"),
    (b"Proxy-Connection", b"keep-alive"),
    (b"", b"x"),
    (b"X\xe4", b"x"),
    (b"X(y)", b"x"),
    (b"X", b"a\0b"),
    (b"X", b"a\rb"),
    (b"X", b"a\nContent-Length: 3"),
    (b"X", b"a\r\n b"),
    (b"X", b"a\r\n\tb"),
    (b"X", b"a\r\n"),
    (b"X", b"\x7f"),
    (b"HTTP2-Settings", b"x"),
]
_ENDS = [b"\n", b"\r", b"\r\r\n", b"\n\r", b" \r\n", b"\0\r\n", b"\r\n\r\n", b"\x0b\r\n"]
_BODIES = [b"", b"abc", b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n", b"\r\n", b"\0" * 40]


def _request(rng: random.Random) -> bytes:
    # How often a rule takes its wrong form.
    wrong = rng.choice([0.0, 0.0, 0.0, 0.03, 0.2])

    def choose(right: list[Any], odd: list[Any]) -> Any:
        return rng.choice(odd if rng.random() < wrong else right)

    end = choose([b"\r\n"], _ENDS)
    line = [choose(_METHODS, _ODD_METHODS), choose([b" "], [b"  ", b"\t", b""]), choose(_TARGETS, _ODD_TARGETS)]
    line += [choose([b" "], [b"  ", b"\t", b""]), choose([b"HTTP/1.1"], _VERSIONS)]
    headers = [(b"Host", b"a:1")] if rng.random() >= wrong / 2 else []
    headers += [rng.choice(_PLAIN[:3] + _PLAIN[5:]) for _ in range(rng.randrange(4))]
    if rng.random() < 0.3:
        headers.append(rng.choice(_PLAIN[3:5]))
    body = rng.choice(_BODIES) if rng.random() < 0.5 else bytes(rng.randrange(256) for _ in range(rng.randrange(60)))
    if rng.random() < 0.8:
        length = len(body) if rng.random() >= wrong else rng.choice([0, 1, len(body) + 1, len(body) + 30])
        length = MOST_BODY + 1 if rng.random() < 0.02 else length
        headers.append((rng.choice([b"Content-Length", b"content-length"]), str(length).encode()))
    elif rng.random() >= wrong:
        body = b""
    while rng.random() < wrong:
        headers.append(rng.choice(_ODD_HEADERS))
    rng.shuffle(headers)
    text = b"".join(line) + end
    for name, value in headers:
        text += name + rng.choice([b": ", b":", b":  ", b":\t"]) + value + rng.choice([b"", b"", b" "])
        text += choose([b"\r\n"], _ENDS)
    return choose([b""], [b"\r\n", b"\n", b" ", b"\0"]) + text + choose([b"\r\n"], _ENDS) + body


_BYTES = [
    b"\0",
    b"\r",
    b"\n",
    b"\r\n",
    b" ",
    b"\t",
    b":",
    b",",
    b"\x0b",
    b"\x80",
    b"\xff",
    b"%",
    b"+",
    b"-",
    b"0",
    b"1",
]


def _mutated(rng: random.Random, data: bytes) -> bytes:
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0:
                data = data[:at] + rng.choice(_BYTES) + data[at:]
            case 1:
                data = data[:at] + data[at + rng.randrange(1, 4) :]
            case 2:
                data = data[:at] + rng.choice(_BYTES) + data[at + 1 :]
            case 3:
                lines = data.split(b"\r\n")
                lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
                data = b"\r\n".join(lines)
            case _:
                lines = data.split(b"\r\n")
                one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
                lines[one], lines[other] = lines[other], lines[one]
                data = b"\r\n".join(lines)
    return data
