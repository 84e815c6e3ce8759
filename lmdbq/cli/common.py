"""What every command shares: ``--at`` and ``--json``, durations, and how an error is said.

A command is a function that takes a ``Session`` first. The session opens its client when it is first used, and prints
either the daemon's answer as JSON or text for a person, never both. Only click is imported here, and later the client
that is needed, so that a command line starts fast.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click
import msgspec

from lmdbq.cli.exits import Exit, code_of, hint_of
from lmdbq.errors import InvalidInput, LmdbqError
from lmdbq.wire.durations import read_duration

if TYPE_CHECKING:
    from lmdbq.client.verbs import Verbs

LOCK_PATIENCE_SECONDS: Final = 30.0  # for the write lock of a directory's file, as a client waits


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic only from click 8.2 on
    """A span of time with its unit, in seconds: ``30s``, ``5m``, ``2h``, ``1h30m``, ``1d``, ``250ms``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        try:
            return read_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


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
    """One run of a command: where the queue is, and how to answer. may_create: whether a directory may become one."""

    def __init__(self, at: str | None, as_json: bool) -> None:
        self.at = at
        self.as_json = as_json
        self.may_create = False

    @functools.cached_property
    def client(self) -> Verbs:
        """The client of the daemon or directory at ``--at``. It does not wait for a daemon that is not there."""
        where = self.at or os.environ.get("LMDBQ_URL") or ""
        if not where or "://" in where:
            from lmdbq.client.http import HttpClient

            return HttpClient(self.at, patience=0)
        return self._of_directory(where)

    def _of_directory(self, where: str) -> Verbs:
        from pathlib import Path

        from lmdbq.client.places import MEMORY, place_of
        from lmdbq.client.transport_verbs import TransportVerbs

        place = place_of(where, token=None, timeout=LOCK_PATIENCE_SECONDS, durability=None)
        if where == MEMORY:
            raise click.UsageError("a queue in memory is its program's alone; name a daemon or a directory")
        if not self.may_create and not (Path(where).expanduser() / "data.mdb").is_file():
            raise click.UsageError(f"there is no queue in {where}; `lmdbq enqueue TYPE --at {where}` makes one")
        client = TransportVerbs(place.transport())
        click.get_current_context().find_root().call_on_close(client.close)
        return client

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

    @click.option("--at", metavar="WHERE", help="http://HOST:PORT, unix:///PATH, or a directory.  [env: LMDBQ_URL]")
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
    return _offered(ctx, incomplete, lambda client: [queue.name for queue in client.queues()])


def complete_schedule(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of schedules that begin with ``incomplete``."""
    return _offered(ctx, incomplete, lambda client: [schedule.name for schedule in client.schedules()])


def complete_set(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the ids of sets that begin with ``incomplete``, those that are open or closed."""
    return _offered(ctx, incomplete, lambda client: [one.id for one in client.sets(state=["open", "closed"]).sets])


def complete_type(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the types of stored tasks that begin with ``incomplete``: of the queue that was named, or of all."""
    named = ctx.params.get("queue_name") or ()
    wanted = {named} if isinstance(named, str) else set(named)

    def types(client: Verbs) -> list[str]:
        queues = [queue for queue in client.queues() if not wanted or queue.name in wanted]
        return sorted({kind for queue in queues for kind in queue.types})

    return _offered(ctx, incomplete, types)


def complete_task(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the ids of stored tasks that begin with ``incomplete``: the oldest of them."""
    return _offered(
        ctx, incomplete, lambda client: [task.id for task in client.tasks(limit=1_000, payload="none").tasks]
    )


def _offered(ctx: click.Context, incomplete: str, names: Callable[[Verbs], list[str]]) -> list[str]:
    try:
        found = names(Session(ctx.params.get("at"), False).client)
    except (LmdbqError, click.ClickException):
        return []
    return [name for name in found if name.startswith(incomplete)]


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
