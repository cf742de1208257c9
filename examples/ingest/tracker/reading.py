"""Makes sense of events: titles, fingerprints, stack traces.

An event is JSON from anybody. Each part may be missing, or be something else than the protocol says, so nothing here
takes a part for granted, and nothing raises for what it finds.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

LEVELS = ("fatal", "error", "warning", "info", "debug")
LONGEST_TITLE = 200
MOST_FRAMES = 250
# What no database takes in a text: NUL, and halves of a pair that stand alone.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class Unreadable(ValueError):
    """The payload is no event at all."""


def parse(payload: bytes) -> dict[str, Any]:
    """The JSON of an event, with nothing in it that a database would refuse.

    Raises:
        Unreadable: It is not a JSON object.
    """
    try:
        data = json.loads(payload, parse_int=_number, parse_float=_number, parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"the payload is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise Unreadable("the payload is not a JSON object")
    return _clean(data)


def _number(text: str) -> int | float | str:
    """A number of JSON. What is too large to be one here stays the text that it was."""
    if len(text) > 40:
        return text
    if text.lstrip("-").isdigit():
        return int(text)
    number = float(text)
    return number if math.isfinite(number) else text


def _clean(value: Any) -> Any:
    match value:
        case str():
            return UNSTORABLE.sub("\ufffd", value)
        case list():
            return [_clean(item) for item in value]
        case dict():
            return {_clean(name): _clean(item) for name, item in value.items()}
    return value


def text_of(value: Any, longest: int = 10_000) -> str:
    """A value as a text for people, on no account longer than that."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def mapping(value: Any) -> dict[str, Any]:
    """The value, if it is a JSON object."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    """The value, if it is an array, or the array in ``values`` of an object, as some clients wrap it."""
    if isinstance(value, dict):
        value = value.get("values")
    return value if isinstance(value, list) else []


@dataclass(frozen=True)
class Line:
    """A line of source."""

    number: int | None
    text: str
    is_current: bool = False


@dataclass(frozen=True)
class Frame:
    """A call that had not returned."""

    place: str
    function: str
    line: int | None
    in_app: bool
    lines: list[Line]
    variables: list[tuple[str, str]]


@dataclass(frozen=True)
class Exception_:
    """An exception with its trace, innermost call first."""

    type: str
    value: str
    frames: list[Frame] = field(default_factory=list)

    @property
    def opened(self) -> list[Frame]:
        """What a reader wants to see first: the project's own calls, or the innermost if the client knew none."""
        return [frame for frame in self.frames if frame.in_app] or self.frames[:1]


def exceptions(data: dict[str, Any]) -> list[Exception_]:
    """The exceptions of an event: the one that was raised last comes first, and then what had caused it."""
    found = []
    for each in sequence(data.get("exception"))[-20:]:
        exception = mapping(each)
        frames = [_frame(frame) for frame in _frames(exception)]
        found.append(Exception_(text_of(exception.get("type"), 200), text_of(exception.get("value")), frames[::-1]))
    return found[::-1]


def _frames(exception: dict[str, Any]) -> list[dict[str, Any]]:
    frames = sequence(mapping(exception.get("stacktrace")).get("frames"))
    return [frame for frame in frames[-MOST_FRAMES:] if isinstance(frame, dict)]


def _frame(frame: dict[str, Any]) -> Frame:
    number = frame.get("lineno")
    line = number if isinstance(number, int) else None
    return Frame(
        place=text_of(frame.get("filename") or frame.get("module") or frame.get("abs_path"), 500) or "?",
        function=text_of(frame.get("function"), 200) or "?",
        line=line,
        in_app=frame.get("in_app") is True,
        lines=list(_lines(frame, line)),
        variables=[(text_of(name, 100), text_of(value, 500)) for name, value in mapping(frame.get("vars")).items()][
            :50
        ],
    )


def _lines(frame: dict[str, Any], line: int | None) -> Iterator[Line]:
    before = sequence(frame.get("pre_context"))[-10:]
    for at, text in enumerate(before):
        yield Line(None if line is None else line - len(before) + at, text_of(text, 500))
    if frame.get("context_line") is not None:
        yield Line(line, text_of(frame["context_line"], 500), is_current=True)
    for at, text in enumerate(sequence(frame.get("post_context"))[:10]):
        yield Line(None if line is None else line + 1 + at, text_of(text, 500))


def message(data: dict[str, Any]) -> str:
    """What a client that saw no exception has to say."""
    entry = data.get("logentry") or data.get("message")
    if isinstance(entry, dict):
        entry = entry.get("formatted") or entry.get("message")
    return text_of(entry)


def title(data: dict[str, Any]) -> str:
    """One line that names the fault."""
    if found := sequence(data.get("exception")):
        last = mapping(found[-1])
        kind, value = text_of(last.get("type"), 100) or "Exception", text_of(last.get("value"), LONGEST_TITLE)
        text = f"{kind}: {value}" if value else kind
    else:
        text = message(data)
    first, _, _ = text.strip().partition("\n")
    return text_of(first, LONGEST_TITLE) or "(no message)"


def culprit(data: dict[str, Any]) -> str:
    """Where it happened: the innermost call of the program itself, or what the client says."""
    for each in sequence(data.get("exception"))[:-2:-1]:
        frames = _frames(mapping(each))
        own = [frame for frame in frames if frame.get("in_app") is True] or frames
        if own:
            frame = _frame(own[-1])
            return text_of(f"{frame.function} in {frame.place}", LONGEST_TITLE)
    return text_of(data.get("transaction") or data.get("culprit"), LONGEST_TITLE)


def level(data: dict[str, Any]) -> str:
    """One of `LEVELS`."""
    given = data.get("level")
    return given if isinstance(given, str) and given in LEVELS else "error"


def fingerprint(data: dict[str, Any]) -> str:
    """What is the same for events that are the same fault: 64 hexadecimal digits.

    A client may say it. Otherwise it is the types of the exceptions and the calls of the program itself, without line
    numbers, which change with each edit; without an exception the message before its parameters are filled in.
    """
    given = [text_of(part, 500) for part in sequence(data.get("fingerprint"))[:20]]
    parts = [_default(data) if part in ("{{ default }}", "{{default}}") else part for part in given]
    return hashlib.sha256("\0".join(parts or [_default(data)]).encode()).hexdigest()


def _default(data: dict[str, Any]) -> str:
    parts = []
    for each in sequence(data.get("exception"))[-20:]:
        exception = mapping(each)
        parts.append(text_of(exception.get("type"), 200))
        frames = _frames(exception)
        own = [frame for frame in frames if frame.get("in_app") is True] or frames
        parts += [
            f"{text_of(frame.get('module') or frame.get('filename'), 500)}:{text_of(frame.get('function'), 200)}"
            for frame in own
        ]
        if not frames:
            parts.append(text_of(exception.get("value"), 500))
    if not parts:
        entry = data.get("logentry") or data.get("message")
        template = mapping(entry).get("message") if isinstance(entry, dict) else entry
        parts = [level(data), text_of(template or message(data), 500)]
    return "\0".join(parts)


def tags(data: dict[str, Any]) -> list[tuple[str, str]]:
    """Names and values, as an object or as pairs."""
    given = data.get("tags")
    pairs = list(given.items()) if isinstance(given, dict) else [pair for pair in sequence(given) if _is_pair(pair)]
    known = [(name, data[name]) for name in ("environment", "release", "server_name", "platform") if data.get(name)]
    return [(text_of(name, 100), text_of(value, 300)) for name, value in [*known, *pairs][:50]]


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2


def breadcrumbs(data: dict[str, Any]) -> list[tuple[str, str]]:
    """What happened before, oldest first: a label, which may be empty, and a text."""
    crumbs = [mapping(crumb) for crumb in sequence(data.get("breadcrumbs"))[-20:]]
    return [
        (text_of(crumb.get("category") or crumb.get("type"), 100), text_of(crumb.get("message"), 1000))
        for crumb in crumbs
    ]


def asked(data: dict[str, Any]) -> str:
    """The method and the URL of the request that the program was busy with; empty if it was not."""
    request = mapping(data.get("request"))
    method, url = text_of(request.get("method"), 20), text_of(request.get("url"), 2000)
    return f"{method} {url}".strip() if url else ""
