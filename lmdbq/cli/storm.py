"""``lmdbq storm``: have everything around the queue fail, on this machine, and see whether anything is lost.

Each storm is a module of its own, ``storm_NAME``, imported when it is asked for; what storms share is ``storm_run``.
What a storm does is the matter of ``lmdbq.storm``. However one ends, the directories it has made go, and the processes
it has started.
"""

from __future__ import annotations

import importlib
from typing import Final

import click

# In the order of the help text, and of the report.
STORMS: Final = (
    "kill",
    "power-cut",
    "fail-call",
    "clock",
    "hostile",
    "foreign",
    "simulate",
    "soak",
)
CONTROLS: Final = "controls"


class _Storms(click.Group):
    """The storms, what shows that they see, and ``report``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*STORMS, CONTROLS, "report"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        found: click.Command = importlib.import_module(f"lmdbq.cli.storm_{cmd_name.replace('-', '_')}").command
        return found


@click.group("storm", cls=_Storms, short_help="Have everything fail, and see what is lost.")
def command() -> None:
    """Prove on this machine that nothing is lost, whatever fails.

    Needs Linux; some storms need strace. Exit status 1 if anything was lost, came back, or was answered wrongly. The
    seed is printed, and repeats the run.
    """
