"""The ``lmdbq`` command: finds the module of a subcommand, and turns how it ended into an exit status.

Each command is a module of its name with a click command named ``command``. It is imported only when its command is run
(or all are listed), and imports the heavy libraries inside its function, so that ``lmdbq enqueue`` loads neither the
daemon nor the store.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from typing import Any, Final

import click

from lmdbq.cli.common import complain
from lmdbq.cli.exits import MEANINGS, Exit, epilog, exit_of
from lmdbq.errors import LmdbqError

# As the help text shows them.
SECTIONS: Final = {
    "Run": ("serve", "demo", "dev", "worker"),
    "Produce and consume": ("enqueue", "dequeue", "report"),
    "Tasks": ("tasks", "task", "dead", "retry", "cancel", "edit", "delete"),
    "Queues, groups, sets, schedules": (
        "queues",
        "queue",
        "groups",
        "group",
        "threads",
        "sets",
        "set",
        "schedules",
        "schedule",
        "apply",
        "workers",
    ),
    "Watch and measure": ("stats", "top", "bench", "storm"),
    "The file": ("check", "dump", "backup", "restore", "compact"),
    "This program": ("config", "completion", "version"),
}
COMMANDS: Final = tuple(name for names in SECTIONS.values() for name in names)

# Those that ask one thing and end; all others may go on for long.
SHORT: Final = frozenset(
    {"enqueue", "dequeue", "report", "task", "queues", "queue", "completion", "version", "config", "stats"}
)


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = importlib.import_module(f"lmdbq.cli.{cmd_name}").command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands in their sections, all with one width."""
        width = max(map(len, COMMANDS))
        for title, names in SECTIONS.items():
            found = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(title):
                formatter.write_dl(
                    [(name.ljust(width), known.get_short_help_str(100)) for name, known in found if known]
                )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; what of ``--at`` and ``--json`` stands before it holds as if it stood behind it."""
        if args and args[0] not in COMMANDS and (near := _similar(args[0])):
            ctx.fail(f"There is no command {args[0]!r}; did you mean {near}?")
        name, found, rest = super().resolve_command(ctx, args)
        if name not in SHORT:
            gc.enable()  # it rests since ``start``
        given = {option: value for option, value in ctx.params.items() if value}
        if found is not None and name is not None and given:
            ctx.default_map = {name: _as_if_behind(ctx, found, given)}
        return name, found, rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; whatever it ends with becomes an exit status."""
        try:
            status = super().invoke(ctx)
            sys.stdout.flush()  # a reader that went away shows here, not in the interpreter's last breath
        except LmdbqError as error:
            complain(error, as_json=bool(ctx.obj))
            status = exit_of(error)
        except BrokenPipeError:
            _silence_output()
            status = Exit.CLOSED_PIPE
        except OSError as error:  # a directory that may not be read, a disk that is full: no fault of ours
            click.echo(f"lmdbq: {error.filename or 'the system'}: {error.strerror or error}", err=True)
            status = Exit.FAILED
        except KeyboardInterrupt:
            click.echo(err=True)
            status = Exit.INTERRUPTED
        ctx.exit(int(status or Exit.OK))


def _similar(name: str) -> str:
    from difflib import get_close_matches

    return " or ".join(f"`lmdbq {one}`" for one in get_close_matches(name, COMMANDS))


def _as_if_behind(ctx: click.Context, found: click.Command, given: dict[str, Any]) -> dict[str, Any]:
    """Return the defaults that make a command, or each command of a group, find ``given``."""
    if isinstance(found, click.Group):
        return {**given, **dict.fromkeys(found.list_commands(ctx), given)}
    known = {parameter.name for parameter in found.params}
    for option in given:
        if option not in known:
            raise click.UsageError(f"`lmdbq {found.name}` has no --{option.removeprefix('as_')}", ctx)
    return given


def _silence_output() -> None:
    """Point standard output at nothing: what is left in its buffer must not raise again when Python closes it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group("lmdbq", cls=LazyGroup, epilog=epilog(MEANINGS), context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--at", metavar="WHERE", help="As behind the command: http://HOST:PORT, unix:///PATH, or a directory.")
@click.option("--json", "as_json", is_flag=True, help="As behind the command: answer in JSON.")
@click.version_option(package_name="lmdbq", message="%(prog)s %(version)s")
def cli(**_: Any) -> None:
    """A durable task queue that is one file.

    Start with `lmdbq serve` in one terminal and `lmdbq enqueue hello name=Ada` in another; `lmdbq demo` shows it all.
    """


def main() -> None:
    """Run the command line of this process; ``start`` calls it."""
    cli(prog_name="lmdbq")
