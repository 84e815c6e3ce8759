"""``lmdbq storm kill``: SIGKILL of everybody who has to do with a queue, again and again."""

from __future__ import annotations

import click

from lmdbq.cli.storm_run import MINUTES, Asked, carry_out, with_report


@click.command("kill", short_help="Kill daemon, callers and library user at random moments; nothing is lost.")
@click.option("--kills", type=click.IntRange(1), default=300, show_default=True, help="How many processes to kill.")
@MINUTES
@click.option("--lanes", type=click.IntRange(1, 64), default=3, show_default=True, help="How many files side by side.")
@with_report
@click.option("--plant", hidden=True, default="", help="Put a fault into the daemon and the library user.")
def command(asked: Asked, kills: int, minutes: float | None, lanes: int, plant: str) -> int:
    """Kill the daemon, producers, workers and a process that has the same file open, at random moments.

    Each writes down what it asks and what it is told, before it goes on. A judge that knows nothing else then looks for
    what was lost or came back, for two who held one dedupe key, for two ends of one delivery, and for leases of the
    dead that took longer to come back than they may. Tasks that ran twice are counted: that is what at least once is.
    """
    from lmdbq.storm import kill

    return carry_out(asked, lambda tell, seed: kill.run(seed, tell, kills, minutes or 0.0, plant=plant, lanes=lanes))
