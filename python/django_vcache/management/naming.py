"""How the commands are told which stream is meant: by its name, by a dotted path, or by the settings."""

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError

from django_vcache.admission.consume.stream import NamedStream, StreamLike
from django_vcache.admission.gates import import_gate, import_stream
from django_vcache.admission.settings import current

__all__ = ["add_place", "configured", "named"]


def add_place(parser: ArgumentParser) -> None:
    """The options that say where a stream is that is given by its name alone."""
    parser.add_argument("--shards", type=int, metavar="N", help="how many shards a stream given by name has (1)")
    parser.add_argument("--prefix", help="the prefix of its keys (vcache)")
    parser.add_argument("--using", metavar="ALIAS", help="its cache alias (default)")


def named(name: str | None, options: Mapping[str, Any]) -> list[StreamLike]:
    """The stream of a name or dotted path; without, all that the settings name.

    Raises:
        CommandError: the settings name nothing of the kind, or the options do not go together.
        ValueError: a dotted path is wrong, or a name.
    """
    described = {name: options[name] for name in ("shards", "prefix", "using") if options[name] is not None}
    if name is None:
        if described:
            raise CommandError(f"--{next(iter(described))} goes with the name of a stream")
        found = configured()
        if not found:
            raise CommandError(
                "no stream is given, and VCACHE['STREAMS'] and VCACHE['GATES'] in the settings name none"
            )
        return found
    if not described:
        if matching := [stream for stream in configured() if stream.name == name]:
            return matching
        if "." in name:
            if (stream := import_stream(name)) is None:
                raise CommandError(f"the gate {name!r} has no stream")
            return [stream]
    return [NamedStream(name, **described)]


def configured() -> list[StreamLike]:
    """The streams that the settings name, each once."""
    ours = current()
    found = [*map(import_stream, ours.streams), *(import_gate(path).stream for path in ours.gates)]
    return list({(stream.using, stream.keys): stream for stream in found if stream is not None}.values())
