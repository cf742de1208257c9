"""Writes ``docs/reference/api`` from the stubs, the docstrings and the help of the commands.

    python scripts/reference.py           # writes the pages
    python scripts/reference.py --check   # writes nothing: names the pages that differ, and exits with 1 if any does

A public name without a docstring is an error.
"""

import argparse
import logging
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import django
import griffe
from django.conf import settings

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "reference" / "api"
SOURCE = ROOT / "python"
WIDTH = 100  # of a signature

NAMES = {
    "_Of": "Of",
    "_Scope": "Scope",
    "_Payload": "Payload",
    "_Admission": "Admission",
    "_Outage": "Outage",
}
"""What the stubs' own types are called on the pages."""

TYPES = """\
Types in these signatures:

| type | is |
|---|---|
| `Scope` | a mapping of names to `int`, `str` or `UUID`: `{"org": 1, "project": 42}` |
| `Of` | a `Scope`, or for a rule that is keyed by one entry, the bare value |
| `Payload` | `bytes`, `bytearray`, `memoryview` or `str` |
| `Outage` | `"open"`, `"closed"`, `"local"` or `"raise"` |
| `Admission` | a dict with the arguments of `Gate.admit` |
"""


class Undocumented(Exception):
    """A public name has no docstring."""


@dataclass(frozen=True)
class Part:
    """What a page has of one module."""

    module: str
    names: tuple[str, ...] = ()
    """Those of its names that are shown; all public ones if it is empty."""
    intro: str = ""
    described: bool = True
    """Whether the module's docstring is shown."""


@dataclass(frozen=True)
class Page:
    """One page of the reference."""

    file: str
    title: str
    about: str
    parts: tuple[Part, ...] = ()
    guide: str = ""


PAGES = (
    Page(
        "cache.md",
        "The cache",
        "`django_vcache`: the backend, objects that stand for the aliases of `CACHES`, and connecting at start.",
        (Part("django_vcache", ("ValkeyCache", "cache", "aliases", "warm_up", "awarm_up")),),
        "[Settings](../settings.md), [async](../../topics/async.md)",
    ),
    Page(
        "aws.md",
        "Tokens of AWS",
        "`django_vcache.aws`: credentials for ElastiCache and MemoryDB that IAM gives out.",
        (Part("django_vcache.aws"),),
        "[TLS and credentials](../../deployment/tls.md)",
    ),
    Page(
        "admission.md",
        "Admission",
        "`django_vcache.admission`: throttles, quotas, gates, streams, decisions, and the decorator for views.",
        (
            Part("django_vcache.admission", intro=TYPES, described=False),
            Part("django_vcache.admission.middleware"),
        ),
        "[Admission](../../topics/admission.md)",
    ),
    Page(
        "streams.md",
        "Consumers and streams",
        "`django_vcache.admission.consumer` and `django_vcache.admission.streams`: batches, groups, dead letters.",
        (
            Part("django_vcache.admission.consumer"),
            Part("django_vcache.admission.streams"),
        ),
        "[Consumers](../../topics/consumers.md)",
    ),
    Page(
        "asgi.md",
        "The ASGI handler",
        "`django_vcache.asgi`: a handler in place of Django's.",
        (Part("django_vcache.asgi"),),
        "[Under ASGI](../../topics/asgi.md)",
    ),
    Page(
        "routing.md",
        "Hot routes",
        "`django_vcache.routing`: URLs that are answered before Django's handler.",
        (
            Part("django_vcache.routing"),
            Part("django_vcache.routing.middleware"),
        ),
        "[Hot routes](../../topics/hot-routes.md)",
    ),
    Page(
        "uvicorn.md",
        "Below ASGI",
        "`django_vcache.uvicorn`: uvicorn's protocol, with hot routes answered before the application.",
        (Part("django_vcache.uvicorn"),),
        "[Below ASGI](../../topics/below-asgi.md)",
    ),
    Page(
        "hotpaths.md",
        "Hot paths in the wheel",
        "`django_vcache.hotpaths`: four hot paths, as examples.",
        (Part("django_vcache.hotpaths"),),
        "[Hot paths in the wheel](../../topics/included.md)",
    ),
    Page(
        "rest_framework.md",
        "REST framework",
        "`django_vcache.rest_framework`: throttle classes in place of REST framework's.",
        (Part("django_vcache.rest_framework"),),
        "[REST framework and Ninja](../../topics/frameworks.md)",
    ),
    Page(
        "ninja.md",
        "Django Ninja",
        "`django_vcache.ninja`: throttle classes in place of Ninja's.",
        (Part("django_vcache.ninja"),),
        "[REST framework and Ninja](../../topics/frameworks.md#django-ninja)",
    ),
    Page(
        "test.md",
        "Test helpers",
        "`django_vcache.test` and the fixtures of `django_vcache.pytest_plugin`.",
        (
            Part("django_vcache.test"),
            Part("django_vcache.pytest_plugin", intro="Fixtures: an argument of a test names one.\n", described=False),
        ),
        "[Testing](../../topics/testing.md)",
    ),
    Page(
        "embedded.md",
        "The embedded server",
        "`django_vcache.embedded`: the server behind `embedded://`.",
        (Part("django_vcache.embedded", ("stop",)),),
        "[embedded://](../settings.md#embedded)",
    ),
    Page(
        "exceptions.md",
        "Exceptions",
        "`django_vcache.exceptions`: all that calls raise, but for mistakes of the caller.",
        (Part("django_vcache.exceptions"),),
        "[Outages](../../topics/outages.md#the-exceptions)",
    ),
    Page(
        "commands.md",
        "Commands",
        "The commands of `manage.py`, and `python -m django_vcache`.",
        guide="[Look at limits](../../howto/manage-limits.md), [consumers](../../topics/consumers.md), "
        "[below ASGI](../../topics/below-asgi.md)",
    ),
)


def main() -> int:
    """Writes or compares; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing: name what differs, and exit with 1 if so")
    options = parser.parse_args()
    try:
        wanted = pages()
    except Undocumented as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    found = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}
    stale = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if not options.check:
        FOLDER.mkdir(parents=True, exist_ok=True)
        for name in stale:
            if name in wanted:
                (FOLDER / name).write_text(wanted[name], encoding="utf-8")
            else:
                (FOLDER / name).unlink()
        return 0
    if stale:
        print(f"docs/reference/api is not up to date: {', '.join(stale)}. Run: python scripts/reference.py")
    return 1 if stale else 0


def pages() -> dict[str, str]:
    """The text of each page, by its file.

    Raises:
        Undocumented: some public names have no docstring. The message has all of them.
    """
    logging.getLogger("griffe").setLevel(logging.CRITICAL)
    package = griffe.load("django_vcache", search_paths=[SOURCE], allow_inspection=False, resolve_aliases=True)
    render = Render(package)
    texts = {page.file: render.page(page) for page in PAGES}
    if render.missing:
        raise Undocumented(f"no docstring: {', '.join(render.missing)}")
    lines = [f"- [{page.title}]({page.file}): {page.about}" for page in PAGES]
    head = "# API reference\n\nMade from the docstrings. The [guides](../../README.md) say what each is for.\n\n"
    texts["README.md"] = head + "\n".join(lines) + "\n"
    return texts


class Render:
    """Objects of the package as Markdown. `missing` has the public names that no docstring was found for."""

    def __init__(self, package: griffe.Module) -> None:
        self.package = package
        self.missing: list[str] = []

    def page(self, page: Page) -> str:
        blocks = [f"# {page.title}", f"{page.about}\nThe guide: {page.guide}."]
        for part in page.parts:
            blocks += self.part(part, alone=len(page.parts) == 1)
        if page.file == "commands.md":
            blocks += commands()
        return "\n\n".join(block.strip("\n") for block in blocks if block.strip()) + "\n"

    def part(self, part: Part, *, alone: bool) -> Iterator[str]:
        path = part.module.removeprefix("django_vcache").lstrip(".")
        module = self.package[path] if path else self.package
        level = 2 if alone else 3
        if not alone:
            yield f"## {part.module}"
            if part.described:
                yield self.text(module, part.module)
        yield part.intro
        others = []
        for name in grouped(part.names or module.exports or (), module):
            member = module[name]
            target = member.final_target if member.is_alias else member
            if target.is_attribute and not target.docstring and target.value:
                others.append((name, str(target.value)))
            else:
                yield from self.member(name, target, level, module.members)
        if others:
            yield "#" * level + " Other names"
            yield "\n".join(["| name | is |", "|---|---|", *(f"| `{name}` | `{value}` |" for name, value in others)])

    def member(self, name: str, target: griffe.Object, level: int, siblings: dict) -> Iterator[str]:
        yield "#" * level + f" {name}"
        if target.is_class:
            yield from self.class_(name, target, level)
        elif target.is_function:
            awaited = siblings.get(f"a{name}")
            yield from self.function(name, target, awaited.final_target if awaited and awaited.is_alias else awaited)
        else:
            if target.annotation:
                yield code(f"{name}: {annotated(target.annotation)}")
            yield self.text(target, name)

    def class_(self, name: str, target: griffe.Class, level: int) -> Iterator[str]:
        maker = target.members.get("__new__") or target.members.get("__init__")
        bases = [base for base in (shortened(each) for each in target.bases) if not base.startswith("_")]
        if maker is not None and "NamedTuple" not in bases:
            yield code(signature(name, maker, returns=False))
        elif bases:
            yield code(f"class {name}({', '.join(bases)})")
        yield self.text(target, name)
        public = {key: member for key, member in target.members.items() if not key.startswith("_")}
        yield self.attributes(
            name, [(key, member) for key, member in public.items() if member.is_attribute and not member.is_alias]
        )
        functions = {key: member for key, member in public.items() if member.is_function}
        for key in grouped(functions, target):
            yield "#" * (level + 1) + f" {name}.{key}"
            yield from self.function(f"{name}.{key}", functions[key], functions.get(f"a{key}"))

    def attributes(self, owner: str, members: list[tuple[str, griffe.Attribute]]) -> str:
        rows = []
        for key, member in members:
            if not member.docstring and member.value is not None and member.annotation is None:
                continue  # what a framework reads, such as a status code
            text = " ".join(
                self.text(
                    member, f"{owner}.{key}", needed=member.annotation is None or "property" in member.labels
                ).split()
            )
            rows.append(f"| `{key}` | {cell(annotated(member.annotation))} | {text.replace('|', chr(92) + '|')} |")
        return "\n".join(["| attribute | type | |", "|---|---|---|", *rows]) if rows else ""

    def function(self, name: str, target: griffe.Function, awaited: griffe.Function | None) -> Iterator[str]:
        """A function, with the form to await beside it if there is one."""
        lines = [definition(name, target)]
        text = self.text(target, name)
        if awaited is not None:
            owner, _, last = name.rpartition(".")
            lines.append(definition(f"a{last}", awaited))
            said = self.text(awaited, f"{owner}.a{last}".lstrip("."))
            # What says only that it is the same, awaited, is said by the signature.
            rest = re.sub(r"\AAs `[\w.]+`(, (to be awaited|on the running loop))?\.\s*", "", said.removeprefix(text))
            rest = re.sub(r"\A\s*The form of `\w+` to await\.\s*", "", rest)
            text = "\n\n".join(filter(None, [text, rest and f"`a{last}`: {rest}"]))
        yield code("\n".join(lines))
        yield text

    def text(self, target: griffe.Object, name: str, *, needed: bool = True) -> str:
        if target.docstring is None or not target.docstring.value.strip():
            if needed:
                self.missing.append(f"{target.canonical_path}" if "." not in name else f"{target.module.path}.{name}")
            return ""
        return markdown(target.docstring)


def shortened(base: object) -> str:
    """A base class without its module, unless it is a builtin that has the same name as one of ours."""
    text = str(base)
    return text if text.startswith("builtins.") else text.rpartition(".")[2]


def grouped(names: Iterable[str], scope: griffe.Object) -> list[str]:
    """Public names in the order of the source, without the forms to await of those that are there too."""
    every = list(names)
    known = set(every)
    chosen = [name for name in every if not name.startswith("_") and not (name[:1] == "a" and name[1:] in known)]
    classes = [name for name in chosen if not name.startswith("a") and name[:1].isupper()]
    return classes + [name for name in chosen if name not in classes]


def definition(name: str, function: griffe.Function) -> str:
    last = name.rpartition(".")[2]
    if any("fixture" in str(decorator.value) for decorator in function.decorators):
        given = re.fullmatch(r"Iterator\[(.+)\]", annotated(function.returns))
        return f"{last}: {given[1] if given else annotated(function.returns)}"
    return signature(f"{'async ' if 'async' in function.labels else ''}def {last}", function)


def signature(head: str, function: griffe.Function, *, returns: bool = True) -> str:
    words: list[str] = []
    starred = False
    for parameter in function.parameters:
        if parameter.name in ("self", "cls"):
            continue
        kind = parameter.kind
        if kind is griffe.ParameterKind.keyword_only and not starred:
            words.append("*")
            starred = True
        stars = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}.get(kind, "")
        starred = starred or stars == "*"
        word = f"{stars}{parameter.name}"
        if parameter.annotation is not None:
            word += f": {annotated(parameter.annotation)}"
        if parameter.default is not None and not stars:
            word += f" = {quoted(parameter.default)}" if parameter.annotation is not None else f"={parameter.default}"
        words.append(word)
    tail = f" -> {annotated(function.returns)}" if returns and function.returns is not None else ""
    if any(str(decorator.value).endswith("contextmanager") for decorator in function.decorators):
        tail = tail.replace("Iterator[", "AbstractContextManager[", 1)
    line = f"{head}({', '.join(words)}){tail}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{head}(", *(f"    {word}," for word in words), f"){tail}"])


def annotated(annotation: object) -> str:
    text = str(annotation or "").strip("\"'").removeprefix("django_vcache.admission.")
    for own, shown in NAMES.items():
        text = re.sub(rf"(?<!\w){own}\b", shown, text)
    if own := re.search(r"(?<![\w.])_[A-Z]\w*", text):
        raise Undocumented(f"scripts/reference.py has no name for the type {own[0]}")
    return quoted(text)


def quoted(source: object) -> str:
    """Python source with the quotes that the project writes."""
    text = str(source)
    return text if '"' in text else text.replace("'", '"')


def code(text: str) -> str:
    # Not "python": that is what can be run.
    return f"```py\n{text}\n```"


def cell(text: str) -> str:
    return f"`{text.replace('|', chr(92) + '|')}`" if text else ""


def markdown(docstring: griffe.Docstring) -> str:
    """A docstring as Markdown: examples are blocks, sections such as Args are lists."""
    blocks: list[str] = []
    kinds = griffe.DocstringSectionKind
    for section in griffe.parse_google(docstring, warnings=False):
        value = section.value
        if section.kind is kinds.text:
            blocks.append(prose(value))
        elif section.kind is kinds.raises:
            blocks.append("Raises:\n\n" + listed((str(each.annotation), each.description) for each in value))
        elif section.kind in (kinds.parameters, kinds.attributes):
            blocks.append(listed((each.name, each.description) for each in value))
        elif section.kind in (kinds.returns, kinds.yields):
            blocks.append("\n".join(f"{section.kind.value.title()}: {prose(each.description)}" for each in value))
        elif section.kind is kinds.examples:
            blocks += [code(part) if kind is kinds.examples else prose(part) for kind, part in value]
        else:
            raise ValueError(f"{docstring.parent}: a docstring with a section of {section.kind.value}")
    return "\n\n".join(block for block in blocks if block)


def listed(pairs: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"- {item(name.strip('()'), description)}" for name, description in pairs)


def item(name: str, description: str) -> str:
    shown = ", ".join(f"`{word.strip()}`" for word in name.split(","))
    text = prose(description).replace("\n", "\n  ")
    return f"{shown}: {text}" if text else shown


def prose(text: str) -> str:
    """Text of a docstring: its double backticks, roles, examples and literal blocks as Markdown has them."""
    out: list[str] = []
    block: list[str] = []
    fenced = literal = False
    text = re.sub(r"^The guide is ``docs/.+$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^(``.+)\n {4}(\S.*(?:\n {4}.+)*)", entry, text, flags=re.MULTILINE)
    for line in [*(re.sub(r"\s*# doctest: \+SKIP$", "", raw) for raw in inline(text).splitlines()), "end"]:
        example = line.lstrip().startswith(">>>") or (bool(block) and is_example(block) and bool(line.strip()))
        if not fenced and line != "end" and (example or (literal and (line.startswith("    ") or not line.strip()))):
            block.append(line)
            continue
        if any(each.strip() for each in block):
            out += ["", f"```{'pycon' if is_example(block) else 'python'}", *trimmed(block), "```", ""]
        block = []
        if line.lstrip().startswith("```"):
            fenced = not fenced
        literal = not fenced and line.endswith("::")
        if line != "end":
            out.append(line if fenced else re.sub(r"::$", ":", line))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out)).strip("\n")


def is_example(block: list[str]) -> bool:
    return block[0].lstrip().startswith(">>>")


def trimmed(block: list[str]) -> list[str]:
    """The lines without the indentation that they share, and without empty ones at the ends."""
    return textwrap.dedent("\n".join(block)).strip("\n").splitlines()


def entry(match: re.Match[str]) -> str:
    """A name and, indented below it, what it is."""
    return f"- {match[1]}: " + "\n".join(f"  {line.strip()}" for line in match[2].splitlines()).strip()


def inline(text: str) -> str:
    text = re.sub(r":(?:meth|func|class|attr|mod):`~?([^`]+)`", r"`\1`", text)
    return re.sub(r"(?<!`)``(?!`)([^`]+)``(?!`)", lambda code: f"`{' '.join(code[1].split())}`", text)


def commands() -> Iterator[str]:
    """The commands of manage.py and of the package, from their parsers."""
    if not settings.configured:
        settings.configure(INSTALLED_APPS=["django_vcache"], SECRET_KEY="reference")
        django.setup()
    from django.core.management import get_commands, load_command_class

    import django_vcache.__main__ as program

    for name in sorted(name for name, app in get_commands().items() if app == "django_vcache"):
        command = load_command_class("django_vcache", name)
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        yield f"## manage.py {name}"
        yield f"{command.help}\n\n{options_of(parser)}"
    choices = next(action for action in program._parser()._actions if isinstance(action, argparse._SubParsersAction))
    for name, parser in choices.choices.items():
        yield f"## python -m django_vcache {name}"
        yield f"{parser.description}\n\n{options_of(parser)}"


def options_of(parser: argparse.ArgumentParser) -> str:
    rows = []
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        names = ", ".join(f"`{option}`" for option in action.option_strings) or f"`{action.metavar or action.dest}`"
        value = f" `{action.metavar or action.dest.upper()}`" if action.option_strings and action.nargs != 0 else ""
        text = (action.help or "").replace("|", "\\|")
        default = action.default
        number = f"{default:g}" if isinstance(default, float) else default
        said = "default" in text or f"({number})" in text
        if action.nargs != 0 and default not in (None, argparse.SUPPRESS, []) and not said:
            text += f" (default: {default})"
        rows.append(f"| {names}{value} | {text % {'default': default} if '%(' in text else text} |")
    return "\n".join(["| argument | |", "|---|---|", *rows])


if __name__ == "__main__":
    sys.exit(main())
