"""The ``lmdbq`` command: finds the module of a subcommand, and turns how it ended into an exit status.

Each command is a module of its name with a click command named ``command``. It is imported only when its command is run
(or all are listed), and imports the heavy libraries inside its function, so that ``lmdbq enqueue`` loads neither the
daemon nor the store.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, Final

import click

from lmdbq.cli.common import complain
from lmdbq.cli.exits import MEANINGS, Exit, exit_of
from lmdbq.errors import LmdbqError

# In the order of the help text.
COMMANDS: Final = (
    "serve",
    "demo",
    "worker",
    "enqueue",
    "dequeue",
    "report",
    "tasks",
    "task",
    "retry",
    "cancel",
    "edit",
    "delete",
    "queues",
    "queue",
    "stats",
    "bench",
    "storm",
    "check",
    "dump",
    "config",
    "completion",
    "version",
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
        except KeyboardInterrupt:
            click.echo(err=True)
            status = Exit.INTERRUPTED
        ctx.exit(int(status or Exit.OK))


def _silence_output() -> None:
    """Point standard output at nothing: what is left in its buffer must not raise again when Python closes it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _epilog() -> str:
    lines = "\n".join(f"  {status.value:<4} {meaning}" for status, meaning in MEANINGS.items())
    return f"\b\nExit status:\n{lines}"


@click.group("lmdbq", cls=LazyGroup, epilog=_epilog(), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lmdbq", message="%(prog)s %(version)s")
def cli() -> None:
    """A durable task queue that is one file.

    Start with `lmdbq serve` in one terminal and `lmdbq enqueue hello name=Ada` in another; `lmdbq demo` shows it all.
    """


def main() -> None:
    """Run the command line of this process."""
    cli(prog_name="lmdbq")
