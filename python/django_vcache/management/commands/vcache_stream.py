"""``manage.py vcache_stream``: the state of streams and of who consumes them; their dead letters, and what to do with
those; groups to create and to delete."""

import base64
import json
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from django_vcache.admission import streams
from django_vcache.admission.consume.stream import NamedStream, StreamLike
from django_vcache.exceptions import VcacheError
from django_vcache.management.asking import add_noinput, confirm
from django_vcache.management.naming import add_place, named

# What is done to one stream, by the option that asks for it; nothing else is done in the same call.
_ACTIONS = ("requeue", "drop", "create_group", "delete_group", "trim")


class Command(BaseCommand):
    help = (
        "Shows the depth of streams, their consumer groups with what is pending and what they lag behind, and their "
        "dead letters; moves dead letters back or drops them; creates groups, and deletes those "
        "without a reader."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "stream",
            nargs="?",
            help="a stream's name, or the dotted path of a Stream or Gate; without, all of VCACHE['STREAMS'] and "
            "VCACHE['GATES']",
        )
        add_place(parser)
        parser.add_argument("--dead", action="store_true", help="list the dead letters and why they are")
        parser.add_argument("--limit", type=int, default=100, metavar="N", help="list so many at the most (100)")
        parser.add_argument("--requeue", nargs="+", metavar="ID", help="move these dead letters back, or 'all'")
        parser.add_argument("--drop", nargs="+", metavar="ID", help="delete these dead letters for good, or 'all'")
        parser.add_argument(
            "--create-group", metavar="GROUP", help="create this consumer group, before the first consumer of any runs"
        )
        parser.add_argument("--delete-group", metavar="GROUP", help="delete this consumer group, which has no reader")
        parser.add_argument(
            "--trim",
            action="store_true",
            help="delete the entries that all groups have acknowledged; with --delete-group, all other groups",
        )
        add_noinput(parser)
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["limit"] < 1:
            raise CommandError(f"--limit is {options['limit']}: list at least 1")
        asked = [action for action in _ACTIONS if options[action] not in (None, False)]
        if asked[-2:] == ["delete_group", "trim"]:
            asked.remove("trim")
        if len(asked) > 1:
            raise CommandError(f"{' or '.join(_option(action) for action in asked)}, one at a time")
        try:
            chosen = named(options["stream"], options)
            if asked:
                if len(chosen) > 1:
                    names = ", ".join(stream.name for stream in chosen)
                    raise CommandError(f"{_option(asked[0])} is for one stream, say which: {names}")
                self._act(asked[0], chosen[0], options)
            elif options["dead"]:
                self._dead(chosen, options)
            else:
                self._state(chosen, options)
        except (VcacheError, ValueError) as error:
            raise CommandError(str(error)) from error

    def _state(self, chosen: Sequence[StreamLike], options: dict[str, Any]) -> None:
        states = [streams.state(stream) for stream in chosen]
        if options["json"]:
            self._print_json([asdict(state) for state in states])
            return
        for number, (stream, state) in enumerate(zip(chosen, states, strict=True)):
            if number:
                self.stdout.write("")
            shards = f"{state.shards} shard{'s' if state.shards > 1 else ''}"
            self.stdout.write(self.style.MIGRATE_HEADING(f"{state.name} ({shards}, cache alias {state.using})"))
            self.stdout.write(f"  {state.depth} entries, {state.dead} dead letters")
            if not state.exists:
                self.stdout.write(
                    f"  Nothing is stored under {stream.keys[0]}: --shards, --prefix and --using say where else"
                    if isinstance(stream, NamedStream)
                    else f"  Nothing is stored under {stream.keys[0]} yet"
                )
            self._print_table(("GROUP", "PENDING", "LAG", "CONSUMER", "PENDING", "IDLE"), _group_rows(state))

    def _dead(self, chosen: Sequence[StreamLike], options: dict[str, Any]) -> None:
        found = [(stream, streams.dead_letters(stream, options["limit"])) for stream in chosen]
        if options["json"]:
            self._print_json([_plain(stream, letter) for stream, letters in found for letter in letters])
            return
        for number, (stream, letters) in enumerate(found):
            if number:
                self.stdout.write("")
            count = streams.state(stream).dead
            shown = f", the oldest {len(letters)}" if count > len(letters) else ""
            self.stdout.write(self.style.MIGRATE_HEADING(f"{stream.name}: {count} dead letters{shown}"))
            rows = [
                (
                    letter.id,
                    letter.at.isoformat(" ", "seconds").removesuffix("+00:00") if letter.at else "",
                    letter.group,
                    letter.deliveries,
                    letter.entry,
                    len(letter.payload),
                    # A reason is anybody's text: on one line, and without what a terminal obeys.
                    "".join(each if each.isprintable() else " " for each in letter.reason),
                )
                for letter in letters
            ]
            self._print_table(("ID", "AT (UTC)", "GROUP", "DELIVERIES", "ENTRY", "BYTES", "REASON"), rows)

    def _act(self, action: str, stream: StreamLike, options: dict[str, Any]) -> None:
        if effect := _effect(action, stream, options):
            confirm(self, options, effect)
        group = options[action]
        told: dict[str, Any]
        if action == "requeue":
            told = {"requeued": streams.requeue(stream, _ids(options, action))}
            text = f"{_letters(told['requeued'])} moved back to {stream.name}"
        elif action == "drop":
            told = {"dropped": streams.drop_dead_letters(stream, _ids(options, action))}
            text = f"{_letters(told['dropped'])} of {stream.name} dropped"
        elif action == "create_group":
            told = {"group": group, "created": streams.create_group(stream, group)}
            text = f"group {group} of {stream.name} {'created' if told['created'] else 'was there already'}"
        elif action == "delete_group":
            told = {"group": group, "entries_deleted": streams.delete_group(stream, group, trim=options["trim"])}
            text = f"group {group} of {stream.name} deleted, and {told['entries_deleted']} entries"
        else:
            told = {"entries_deleted": streams.trim(stream)}
            text = f"{told['entries_deleted']} entries of {stream.name} deleted"
        if options["json"]:
            self._print_json({"stream": stream.name} | told)
        else:
            self.stdout.write(text)

    def _print_json(self, value: Any) -> None:
        self.stdout.write(json.dumps(value, indent=2, ensure_ascii=False))

    def _print_table(self, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        if not rows:
            return
        table = [head, *([str(cell) for cell in row] for row in rows)]
        widths = [max(len(row[column]) for row in table) for column in range(len(head))]
        right = [
            all(isinstance(row[column], int) or row[column] in ("", "?") for row in rows) for column in range(len(head))
        ]
        for row in table:
            cells = (
                cell.rjust(width) if to_the_right else cell.ljust(width)
                for cell, width, to_the_right in zip(row, widths, right, strict=True)
            )
            self.stdout.write(("  " + "  ".join(cells)).rstrip())


def _effect(action: str, stream: StreamLike, options: dict[str, Any]) -> str | None:
    """What an action does that cannot be undone; None if it can."""
    if action == "create_group" or (action == "requeue" and _ids(options, action) is not None):
        return None
    state = streams.state(stream)
    where = f"stream {stream.name} (cache alias {stream.using})"
    groups = {group.name: group for group in state.groups}
    if action == "requeue":
        readers = f"its groups ({', '.join(groups)})" if groups else "its groups"
        return (
            f"This moves all dead letters of {where} back, {state.dead} of them, and {readers} get each of them again."
        )
    if action == "drop":
        ids = _ids(options, action)
        which = f"all dead letters of {where}, {state.dead}" if ids is None else f"dead letters of {where}, {len(ids)}"
        return f"This deletes {which} of them, for good."
    kept = "also those that delete=False has kept"
    if action == "trim":
        return f"This deletes the entries of {where} that all groups have acknowledged, {kept}."
    name = options["delete_group"]
    if name not in groups:
        # The error says so, without a question before it.
        return None
    lag = "an unknown number of" if groups[name].lag is None else groups[name].lag
    lost = f"It has {groups[name].pending} entries pending, and {lag} still to read."
    besides = f", and the entries that all other groups have acknowledged, {kept}" if options["trim"] else ""
    return f"This deletes the group {name} of {where}{besides}. {lost}"


def _group_rows(state: streams.StreamState) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for group in state.groups:
        about: tuple[object, ...] = (group.name, group.pending, "?" if group.lag is None else group.lag)
        for consumer in group.consumers:
            rows.append((*about, consumer.name, consumer.pending, f"{consumer.idle:.0f} s"))
            about = ("", "", "")
        if not group.consumers:
            rows.append((*about, "", "", ""))
    return rows


def _plain(stream: StreamLike, letter: streams.DeadLetter) -> dict[str, Any]:
    """A dead letter as JSON has it. What is no UTF-8 is given as base64, under another name."""
    plain: dict[str, Any] = asdict(letter)
    plain |= {"stream": stream.name, "id": letter.id, "at": letter.at and letter.at.isoformat()}
    plain["fields"] = {
        _text(name.encode(errors="surrogateescape")): _text(value) for name, value in letter.fields.items()
    }
    payload = plain.pop("payload")
    try:
        plain["payload"] = payload.decode()
    except UnicodeDecodeError:
        plain["payload_base64"] = base64.b64encode(payload).decode()
    return plain


def _text(value: bytes) -> str:
    return value.decode(errors="backslashreplace")


def _option(action: str) -> str:
    return f"--{action.replace('_', '-')}"


def _ids(options: dict[str, Any], action: str) -> list[str] | None:
    ids: list[str] = options[action]
    if "all" in ids and len(ids) > 1:
        raise CommandError(f"{_option(action)} takes ids, or 'all' alone")
    return None if ids == ["all"] else ids


def _letters(count: int) -> str:
    return f"{count} dead letter{'' if count == 1 else 's'}"
