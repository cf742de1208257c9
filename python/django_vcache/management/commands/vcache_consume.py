"""``manage.py vcache_consume shop.billing.save --group billing``: a worker that gives the entries of a stream to a
handler, batch by batch, until a signal stops it."""

import asyncio
import inspect
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from typing import Any, cast

from django.core.cache import caches
from django.core.management.base import BaseCommand, CommandError
from django.utils.module_loading import import_string

from django_vcache.admission.consume.consumer import Consumer, is_awaited
from django_vcache.admission.consume.stream import StreamLike
from django_vcache.backend import ValkeyCache
from django_vcache.exceptions import VcacheError
from django_vcache.management.naming import add_place, named

__all__ = ["Command"]


class Command(BaseCommand):
    help = (
        "Consumes a stream: gives its entries to a handler, batch by batch, and acknowledges each batch when the "
        "handler has returned. The handler is a function, or a coroutine function, that takes the batch. SIGTERM and "
        "Ctrl-C end it after the batch in hand."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("handler", help="the dotted path of the handler, such as shop.billing.save")
        parser.add_argument(
            "--group", required=True, help="the consumer group, which shares the work; created if missing"
        )
        parser.add_argument(
            "--stream",
            metavar="STREAM",
            help="a stream's name, or the dotted path of a Stream or Gate; without, the one that VCACHE['STREAMS'] and "
            "VCACHE['GATES'] name",
        )
        add_place(parser)
        parser.add_argument("--batch", type=int, default=500, metavar="N", help="the most entries of a batch (500)")
        parser.add_argument(
            "--max-wait",
            type=float,
            default=1.0,
            metavar="SECONDS",
            help="wait so long after a batch's first entry for more to fill it (1)",
        )
        parser.add_argument(
            "--reclaim-after",
            type=float,
            default=60.0,
            metavar="SECONDS",
            help="deliver again what was not acknowledged for so long; longer than the work on any batch (60)",
        )
        parser.add_argument(
            "--max-deliveries",
            type=_count_or_none,
            default=5,
            metavar="N",
            help="deliver an entry so often before it goes to the dead letters, or 'none' for no end (5)",
        )
        parser.add_argument(
            "--name",
            help="the consumer's name, unlike any other's; by default the host, the process id and random digits",
        )
        parser.add_argument(
            "--keep", action="store_true", help="leave acknowledged entries in the stream, which is yours to trim"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        handler = _handler(options["handler"])
        try:
            stream = _stream(options)
            consumer = Consumer(
                stream,
                options["group"],
                batch=options["batch"],
                max_wait=options["max_wait"],
                name=options["name"],
                reclaim_after=options["reclaim_after"],
                max_deliveries=options["max_deliveries"],
                delete=not options["keep"],
            )
        except (VcacheError, ValueError) as error:
            raise CommandError(str(error)) from error
        shards = f"{len(stream.keys)} shard{'s' if len(stream.keys) > 1 else ''}"
        self._tell(
            f"Consuming {stream.name} ({shards}, cache alias {stream.using}) in group {consumer.group} as "
            f"{consumer.name}: {options['handler']} gets up to {options['batch']} entries at a time. SIGTERM or Ctrl-C "
            "ends it after the batch in hand.",
            options,
        )
        if options["verbosity"] > 0 and _is_missing(stream):
            self.stderr.write(
                self.style.WARNING(
                    f"Nothing was ever written to {stream.keys[0]}. That is right before the first event. If the "
                    "name is wrong, stop this."
                )
            )
        try:
            if is_awaited(handler):
                asyncio.run(consumer.arun(handler))
            else:
                consumer.run(handler)
        except KeyboardInterrupt as error:
            # The second one.
            raise CommandError("interrupted: the batch in hand will be delivered again", returncode=130) from error
        except (VcacheError, TypeError) as error:
            raise CommandError(str(error)) from error
        did = consumer.metrics()
        self._tell(
            f"Stopped: {did['acknowledged']} acknowledged, {did['redelivered']} delivered again, "
            f"{did['dead']} moved to the dead letters.",
            options,
        )

    def _tell(self, text: str, options: dict[str, Any]) -> None:
        if options["verbosity"] > 0:
            self.stdout.write(text)
            # It may be a file or a pipe, and the next line is hours away.
            self.stdout.flush()


def _stream(options: dict[str, Any]) -> StreamLike:
    found = named(options["stream"], options)
    if len(found) > 1:
        names = ", ".join(f"{stream.name} (alias {stream.using}, {stream.keys[0]})" for stream in found)
        raise CommandError(f"several streams could be meant: {names}. Say which with --stream")
    return found[0]


def _is_missing(stream: StreamLike) -> bool:
    cache = cast("ValkeyCache", caches[stream.using])
    try:
        return not any(int(cache.execute("EXISTS", key)) for key in stream.keys)
    except VcacheError:
        # The consumer waits for a server, and says so; and not every user may ask this.
        return False


def _handler(path: str) -> Callable[..., Any]:
    try:
        handler: object = import_string(path)
    # A module may raise anything while it is imported.
    except Exception as error:
        raise CommandError(f"the handler {path!r} cannot be imported: {type(error).__name__}: {error}") from error
    if isinstance(handler, type):
        raise CommandError(f"the handler {path!r} is a class: name a function that takes a batch, or an instance")
    if not callable(handler):
        raise CommandError(f"the handler {path!r} is no function, but {type(handler).__name__}")
    try:
        inspect.signature(handler).bind(None)
    except TypeError as error:
        raise CommandError(f"the handler {path!r} cannot take the batch as its one argument: {error}") from error
    except ValueError:
        # Some functions written in C do not tell what they take.
        pass
    return handler


def _count_or_none(word: str) -> int | None:
    if word.lower() == "none":
        return None
    try:
        return int(word)
    except ValueError as error:
        raise ArgumentTypeError(f"{word!r} is neither a whole number nor 'none'") from error
