"""Write the reference pages from what the program says of itself. Run it from anywhere: python packaging/docs/make.py

Nothing in ``pages/reference`` and in ``pages/examples.md`` is written by hand: Python comes from signatures and
docstrings, the command line from its options, HTTP from the description that the daemon serves, settings and errors
from their tables. ``tests/test_docs.py`` compares.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PAGES = HERE / "pages"
sys.path.insert(0, str(ROOT))

import lmdbq  # noqa: E402
from lmdbq import testing  # noqa: E402
from lmdbq.cli.exits import MEANINGS  # noqa: E402
from lmdbq.cli.main import COMMANDS, cli  # noqa: E402
from lmdbq.daemon.openapi import describe  # noqa: E402
from lmdbq.errors import LmdbqError  # noqa: E402
from tests.docs_tables import defaults, exits, serve_exits, settings, table  # noqa: E402
from tests.peer_checks import DEVIATIONS  # noqa: E402

NOTE = "<!-- Written by packaging/docs/make.py: change what it reads, and run it again. -->\n\n"
SYSTEMS = {"moab": "Moab", "zizq": "zizq", "eddyq": "eddyq", "runqy": "runqy"}
LANGUAGES = {".py": "python", ".sh": "sh", ".mjs": "js"}

# --- Python -----------------------------------------------------------------------------------------------------------

# Heading -> the names below it, in this order. test_docs sees to it that no public name is missing.
PYTHON: dict[str, tuple[str, ...]] = {
    "Clients": ("Client", "AsyncClient"),
    "What a client hands out": (
        *(
            "Enqueuer",
            "AsyncEnqueuer",
            "Handle",
            "AsyncHandle",
            "Selection",
            "AsyncSelection",
            "QueueHandle",
            "AsyncQueueHandle",
        ),
        *("ScheduleHandle", "AsyncScheduleHandle", "GroupHandle", "AsyncGroupHandle", "Lease", "AsyncLease"),
        *("TaskInfo", "QueueInfo", "ScheduleInfo", "GroupInfo", "GroupRuleInfo", "ThreadInfo", "WorkerInfo"),
    ),
    "Tasks": ("Tasks", "Task", "Entry"),
    "Options": ("Options", "RetryStrategy", "Dedupe", "Keep", "Cron", "Rate"),
    "Worker": ("Worker", "current", "Context", "Retry", "Snooze", "Dead", "Stopped"),
}


def public_names() -> list[str]:
    """Return every name that ``import lmdbq`` offers."""
    return sorted(lmdbq._HOME)


def grouped() -> dict[str, list[str]]:
    """Return headings and names: those of the table, then errors, then whatever is not in it."""
    known = {name for names in PYTHON.values() for name in names}
    rest = [name for name in public_names() if name not in known]
    errors = [name for name in rest if is_error(getattr(lmdbq, name))]
    others = [name for name in rest if name not in errors]
    found = {heading: list(names) for heading, names in PYTHON.items()}
    return {**found, **({"More": others} if others else {}), "Errors": errors}


def is_error(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, LmdbqError)


def python_page() -> str:
    parts = [
        "# Python\n\nEverything is imported from `lmdbq`; what is for tests, from `lmdbq.testing`. Durations are "
        "seconds or a `timedelta`; instants a `datetime` with its zone, RFC 3339 text or Unix nanoseconds.\n"
    ]
    for heading, names in grouped().items():
        parts.append(f"## {heading}\n")
        parts += [described(name, getattr(lmdbq, name)) for name in names]
    parts.append(f"## lmdbq.testing\n\n{prose(testing.__doc__ or '')}\n")
    parts += [described(name, getattr(testing, name)) for name in ("MemoryClient", "AsyncMemoryClient")]
    return NOTE + "\n".join(parts)


def described(name: str, value: Any) -> str:
    """Return what there is to say of a class or function."""
    if not inspect.isclass(value):
        shown = code(f"{name}{signature(value)}") if callable(value) else f"An alias of `{value}`.\n"
        return f"### {name}\n\n{shown}\n{prose(inspect.getdoc(value) or '')}\n"
    lines = [f"### {name}\n", heading_of(name, value), prose(own_doc(value)), ""]
    if is_error(value):
        bases = ", ".join(f"`{base.__name__}`" for base in value.__bases__)
        lines.append(f"Its code is `{value.code}`; it is a {bases}.\n")
    for member, function, kind in members(value):
        lines.append(f"#### {name}.{member}\n")
        shapes = "\n".join(f"{kind}{member}{shape}" for shape in signatures(function))
        lines.append(code(shapes.replace("() -> ", ": ") if "property" in kind else shapes))
        lines.append(prose(inspect.getdoc(function) or "") + "\n")
    return "\n".join(lines)


def own_doc(value: type) -> str:
    return inspect.cleandoc(value.__doc__ or "")


def heading_of(name: str, value: type) -> str:
    """Return how one is made: its signature; for what is only ever handed out, its fields."""
    if typing.is_typeddict(value) or hasattr(value, "__struct_fields__"):
        fields = [f"{field}: {text(kind)}" for field, kind in own_annotations(value).items() if field[0] != "_"]
        return code("\n".join([f"class {name}:", *(f"    {field}" for field in fields)]))
    if issubclass(value, BaseException) or inspect.isabstract(value):
        return ""
    return code(f"{name}{signature(value)}".removesuffix(" -> None"))


def own_annotations(value: type) -> dict[str, Any]:
    return {
        name: kind for base in reversed(value.__mro__) for name, kind in vars(base).get("__annotations__", {}).items()
    }


def members(value: type) -> Iterator[tuple[str, Any, str]]:
    """Yield the public methods and properties that are documented, in the order of the source, inherited ones first."""
    seen = set()
    for base in reversed([one for one in value.__mro__ if one.__module__.startswith("lmdbq") and not is_error(one)]):
        for name, found in vars(base).items():
            function = found.fget if isinstance(found, property) else found
            if name.startswith("_") or name in seen or not inspect.isfunction(function) or not function.__doc__:
                continue
            seen.add(name)
            kind = "property " if isinstance(found, property) else ""
            yield name, function, kind + ("async " if inspect.iscoroutinefunction(function) else "")


def signatures(function: Any) -> list[str]:
    overloads = typing.get_overloads(function)
    return [signature(one, skip_self=True) for one in overloads or [function]]


def signature(function: Any, *, skip_self: bool = False) -> str:
    """Return a signature as it stands in the source, one parameter a line if it is long."""
    found = inspect.signature(function)
    parameters = [
        parameter.replace(annotation=_Verbatim(parameter.annotation))
        for name, parameter in found.parameters.items()
        if not (skip_self and name == "self")
    ]
    returns = found.return_annotation
    shown = str(found.replace(parameters=parameters, return_annotation=inspect.Signature.empty))
    if len(shown) > 100:
        shown = "(\n    " + ",\n    ".join(_split(shown[1:-1])) + ",\n)"
    return shown + ("" if returns is inspect.Signature.empty or returns is None else f" -> {text(returns)}")


def _split(inside: str) -> list[str]:
    """Return the parameters of a signature: split at commas outside of brackets."""
    parts, depth = [""], 0
    for char in inside:
        depth += (char in "([{") - (char in ")]}")
        if char == "," and not depth:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts]


class _Verbatim:
    """An annotation that is printed as it was written."""

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation

    def __repr__(self) -> str:
        return text(self.annotation)


def text(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return ""
    if isinstance(annotation, typing.ForwardRef):
        return annotation.__forward_arg__
    if isinstance(annotation, str):
        return annotation
    return annotation.__name__ if inspect.isclass(annotation) else str(annotation)


def code(what: str, language: str = "python") -> str:
    return f"```{language}\n{what}\n```\n"


def prose(docstring: str) -> str:
    """Return a docstring as Markdown: what stands between double backticks is code, and so is what is indented."""
    said = re.sub(r"``(.+?)``", r"`\1`", inspect.cleandoc(docstring), flags=re.DOTALL)
    paragraphs = said.split("\n\n")
    return "\n\n".join(code(one).rstrip() if one.startswith((">>> ",)) else one for one in paragraphs)


# --- the command line -------------------------------------------------------------------------------------------------


def cli_page() -> str:
    parts = [
        "# Command line\n\n" + paragraphs(cli.help or "") + "\n\n"
        "`--at WHERE` and `--json` may stand before the command as well as behind it. WHERE is `http://HOST:PORT`, "
        "`unix:///PATH` or a directory; else `LMDBQ_URL` says it, else it is the daemon of this machine. A duration "
        "has its unit: `30s`, `5m`, `1h30m`, `2d`, `250ms`.\n\n## Exit status\n\n"
        + table(("status", "meaning"), [(status.value, meaning) for status, meaning in MEANINGS.items()])
    ]
    context = click.Context(cli, info_name="lmdbq")
    for name in COMMANDS:
        found = cli.get_command(context, name)
        assert found is not None
        parts += command_parts(found, click.Context(found, info_name=name, parent=context), 2)
    return NOTE + "\n".join(parts)


def command_parts(command: click.Command, context: click.Context, level: int) -> Iterator[str]:
    """Yield the sections of a command and of its subcommands."""
    path = context.command_path
    if command.hidden:
        return
    yield f"{'#' * level} {path}\n\n{code(usage(command, path), 'text')}\n{paragraphs(command.help or '')}\n"
    options = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
    if options:
        yield table(("option", ""), [(option_names(option), option_text(option)) for option in options])
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from command_parts(found, click.Context(found, info_name=name, parent=context), level + 1)


def usage(command: click.Command, path: str) -> str:
    words = [path, *(["COMMAND"] if isinstance(command, click.Group) else [])]
    for argument in command.params:
        if isinstance(argument, click.Argument):
            word = argument.metavar or choices(argument) or (argument.name or "").upper()
            words.append(word if argument.required or word.startswith("[") else f"[{word}]")
    return " ".join([*words, "[OPTIONS]"])


def choices(parameter: click.Parameter) -> str:
    return "|".join(map(str, parameter.type.choices)) if isinstance(parameter.type, click.Choice) else ""


def option_names(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    if option.is_flag or option.count:
        return names
    return f"{names} `{option.metavar or choices(option) or option.type.name.split()[0].upper()}`"


def option_text(option: click.Option) -> str:
    said = [(option.help or "").strip()]
    if option.show_default and not option.is_flag and option.default is not None:
        said.append(f"Default: {option.default}.")
    return escaped(" ".join(part for part in said if part))


def paragraphs(help_text: str) -> str:
    """Return a command's help as Markdown: a paragraph that keeps its lines (after a backspace) is text as it is."""
    found = []
    for paragraph in inspect.cleandoc(help_text).split("\n\n"):
        if paragraph.startswith("\b"):
            found.append(code(paragraph.removeprefix("\b").strip("\n"), "text").rstrip())
        else:
            found.append(escaped(paragraph))
    return "\n\n".join(found)


def escaped(said: str) -> str:
    """Return text in which no angle bracket or star is taken for markup; code between backticks stays."""
    parts = re.split(r"(`[^`]*`)", said)
    return "".join(part if part.startswith("`") else re.sub(r"([<*])", r"\\\1", part) for part in parts)


# --- HTTP -------------------------------------------------------------------------------------------------------------


def http_page() -> str:
    api = describe()
    parts = [
        "# HTTP\n\nWhat the daemon serves at `/openapi.json`, in words. Bodies are JSON, or MessagePack by "
        "`Content-Type` and `Accept`. Every error is an RFC 9457 document with a stable `code`.\n"
    ]
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            parts.append(operation_part(path, method.upper(), operation))
    parts.append("## Shapes\n")
    parts += [shape_part(name, schema) for name, schema in sorted(api["components"]["schemas"].items())]
    return NOTE + "\n".join(parts)


def operation_part(path: str, method: str, operation: dict[str, Any]) -> str:
    lines = [f"## {method} {path}\n", escaped(without_path(operation["summary"])), f"Role: {operation['x-role']}."]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if body:
        lines[-1] += f" Body: {kind(body)}."
    answers = [
        f"{status} {kind(schema)}".strip()
        for status, answer in operation["responses"].items()
        if status < "300"
        for schema in [next(iter(answer.get("content", {}).values()), {}).get("schema", {})]
    ]
    errors = [status for status in operation["responses"] if status >= "300"]
    lines[-1] += f" Answers: {', '.join(answers)}. Errors: {', '.join(errors)}.\n"
    if operation["parameters"]:
        rows = [
            (f"`{one['name']}`", one["in"], kind(one["schema"]), escaped(one.get("description", "")))
            for one in operation["parameters"]
        ]
        lines.append(table(("parameter", "in", "type", ""), rows))
    return "\n".join(lines)


def without_path(summary: str) -> str:
    """Return a summary without the method and path that it repeats, as a paragraph of its own; "" if that was all."""
    rest = re.sub(r"^[A-Z]+ /\S*?[.:;]?(?= |$) ?", "", summary)
    return f"{rest[:1].upper()}{rest[1:]}\n" if rest else ""


def shape_part(name: str, schema: dict[str, Any]) -> str:
    lines = [f"### {name}\n", escaped(inspect.cleandoc(schema.get("description", ""))) + "\n"]
    required = set(schema.get("required", ()))
    rows = [
        (f"`{field}`" + (" (required)" if field in required else ""), kind(one), escaped(said_of(one)))
        for field, one in schema.get("properties", {}).items()
    ]
    if rows:
        lines.append(table(("field", "type", ""), rows))
    elif "anyOf" in schema or "oneOf" in schema:
        lines.append(f"{kind(schema)}\n")
    return "\n".join(lines)


def said_of(schema: dict[str, Any]) -> str:
    found = [schema.get("description", ""), *(one.get("description", "") for one in schema.get("anyOf", ()))]
    limits = ("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems")
    return " ".join([*filter(None, found), *(f"{name} {schema[name]}." for name in limits if name in schema)])


def kind(schema: dict[str, Any]) -> str:
    """Return the type of a schema in a few words, shapes as links."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return " or ".join(dict.fromkeys(kind(one) for one in schema[word]))
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    found = schema.get("type", "any")
    if found == "array":
        return f"list of {kind(schema.get('items', {}))}"
    if found == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {kind(schema['additionalProperties'])}"
    return "" if not schema else str(found)


# --- settings and errors, examples ------------------------------------------------------------------------------------


def settings_page() -> str:
    errors = sorted({(f"`{one.code}`", f"`{one.__name__}`", first(one)) for one in all_errors()})
    return NOTE + (
        "# Settings and errors\n\n## Settings of the daemon\n\n`lmdbq config` prints them as they are here and now. An "
        f"option of `lmdbq serve` wins over the environment, which wins over the default.\n\n{settings()}\n"
        "## Defaults of tasks and workers\n\nA task's own value wins over its type's and its queue's, which win over "
        f"these.\n\n{defaults()}\n"
        f"## Exit status of every command\n\n{exits()}\n## Exit status of lmdbq serve\n\n{serve_exits()}\n"
        "## Errors\n\nEach has a code, which is the same on the wire, in Python and in the command line's JSON.\n\n"
        + table(("code", "class", ""), errors)
    )


def all_errors(root: type[LmdbqError] = LmdbqError) -> Iterator[type[LmdbqError]]:
    for child in root.__subclasses__():
        if child.__module__.startswith("lmdbq"):
            yield child
            yield from all_errors(child)


def first(value: type) -> str:
    return escaped(" ".join(own_doc(value).partition("\n\n")[0].split()).replace("``", "`"))


def examples_page() -> str:
    parts = ["# Examples\n\nEach is run by the tests, and lies in `packaging/examples/` of the source.\n"]
    listed = (ROOT / "packaging/examples/README.md").read_text(encoding="utf-8")
    for names, what in re.findall(r"^\| (\[.*?) \| (.*) \|$", listed, re.MULTILINE):
        for name in re.findall(r"\]\((.*?)\)", names):
            source = (ROOT / "packaging/examples" / name).read_text(encoding="utf-8").rstrip("\n")
            parts.append(f"## {name}\n\n{what[0].upper()}{what[1:]}.\n\n{code(source, LANGUAGES[Path(name).suffix])}")
    return NOTE + "\n".join(parts)


def deviations_page() -> str:
    """Return the table of what lmdbq means to do otherwise than the systems it takes its features from."""
    rows = [
        (SYSTEMS[system], number, one.check, one.ours, one.why)
        for system, found in sorted(DEVIATIONS.items())
        for number, one in sorted(found.items())
    ]
    said = (
        "# Where lmdbq differs\n\n"
        "lmdbq takes its features from four systems. What the users of each rely on was written down as numbered "
        "checks, and each check about behaviour has a test that is named after it (`test_moab_6_10_...`); "
        f"`tests/peer_checks.py` accounts for the rest. These {len(rows)} are where it means to differ.\n\n"
    )
    return NOTE + said + table(("system", "check", "what it asks", "lmdbq", "why"), rows)


GENERATED: dict[str, Callable[[], str]] = {
    "reference/deviations.md": deviations_page,
    "reference/python.md": python_page,
    "reference/command-line.md": cli_page,
    "reference/http.md": http_page,
    "reference/settings.md": settings_page,
    "examples.md": examples_page,
}


def generated() -> dict[str, str]:
    """Return the text of every page that is written here, by its path below ``pages``."""
    for module in (
        "lmdbq.daemon.ownership",
        "lmdbq.daemon.serve",
        "lmdbq.store.lmdb",
        "lmdbq.client.aio",
    ):  # for their errors
        importlib.import_module(module)
    return {name: make().rstrip("\n") + "\n" for name, make in GENERATED.items()}


if __name__ == "__main__":
    for name, page in generated().items():
        (PAGES / name).write_text(page, encoding="utf-8")
