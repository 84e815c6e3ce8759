"""What every command shares: ``--at`` and ``--json``, durations, and how an error is said.

A command is a function that takes a ``Session`` first. The session opens its client when it is first used, and prints
either the daemon's answer as JSON or text for a person, never both. Only click and the client are imported here, so
that a command line starts fast.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click
import msgspec

from lmdbq.cli.exits import Exit, code_of, hint_of
from lmdbq.errors import InvalidInput, LmdbqError

if TYPE_CHECKING:
    from lmdbq.client.http import HttpClient

_UNIT_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic only from click 8.2 on
    """A span of time with its unit, in seconds: ``30s``, ``5m``, ``2h``, ``1h30m``, ``1d``, ``250ms``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        parts = _PART.findall(value)
        if not parts or "".join(number + unit for number, unit in parts) != value:
            self.fail(f"{value!r} is no duration; say the unit: 30s, 5m, 2h, 1d", param, ctx)
        return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)


class JsonValue(click.ParamType):  # type: ignore[type-arg]  # generic only from click 8.2 on
    """A value in JSON."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return msgspec.json.decode(value)
        except msgspec.DecodeError as error:
            self.fail(f"{value!r} is no JSON: {error}", param, ctx)


DURATION: Final = Duration()
JSON_VALUE: Final = JsonValue()


class Session:
    """One run of a command: where the daemon is, and how to answer."""

    def __init__(self, at: str | None, as_json: bool) -> None:
        self.at = at
        self.as_json = as_json

    @functools.cached_property
    def client(self) -> HttpClient:
        """The client of the daemon at ``--at``. It does not wait for a daemon that is not there."""
        from lmdbq.client.http import HttpClient

        return HttpClient(self.at, patience=0)

    def answer(self, value: object, text: Callable[[], str | None]) -> None:
        """Print ``value`` as JSON, or what ``text`` returns; None or "" prints nothing."""
        if self.as_json:
            click.echo(json_text(value))
        elif said := text():
            click.echo(said)

    def note(self, text: str) -> None:
        """Say something beside the answer, on standard error, to a person only."""
        if not self.as_json:
            click.echo(text, err=True)


def json_text(value: object) -> str:
    """Return ``value`` (a Struct, or plain values) as JSON: on lines for a person at a terminal, else on one line."""
    line = msgspec.json.encode(value)
    return (msgspec.json.format(line, indent=2) if sys.stdout.isatty() else line).decode("utf-8")


def with_session(function: Callable[..., int | None]) -> Callable[..., int | None]:
    """Give a command ``--at`` and ``--json``, and a Session as its first argument."""

    @click.option("--at", metavar="WHERE", help="The daemon: http://HOST:PORT or unix:///PATH.  [env: LMDBQ_URL]")
    @click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
    @functools.wraps(function)
    def command(at: str | None, as_json: bool, **arguments: Any) -> int | None:
        click.get_current_context().find_root().obj = as_json  # for how an error is said
        return function(Session(at, as_json), **arguments)

    return command


def queue_option(**more: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the ``-q/--queue`` option, which means a queue wherever it stands."""
    return click.option("-q", "--queue", "queue_name", metavar="QUEUE", shell_complete=complete_queue, **more)


def complete_queue(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of queues that begin with ``incomplete``; without a daemon there is nothing to offer."""
    try:
        names = [queue.name for queue in Session(ctx.params.get("at"), False).client.queues()]
    except LmdbqError:
        return []
    return [name for name in names if name.startswith(incomplete)]


def complain(error: LmdbqError, as_json: bool) -> None:
    """Say on standard error what went wrong, where, and what to type next."""
    problems = error.problems if isinstance(error, InvalidInput) else ()
    if as_json:
        said = {"code": code_of(error), "detail": error.detail, "problems": problems}
        click.echo(msgspec.json.encode(said).decode("utf-8"), err=True)
        return
    click.echo(f"lmdbq: {error.detail}", err=True)
    for problem in problems[1:]:
        click.echo(f"       {problem.pointer or 'the request'}: {problem.detail}", err=True)
    if hint := hint_of(error):
        click.echo(f"       {hint}", err=True)


def fail(message: str, status: Exit = Exit.FAILED) -> NoReturn:
    """End the command with ``message`` on standard error."""
    click.echo(f"lmdbq: {message}", err=True)
    raise click.exceptions.Exit(status)
