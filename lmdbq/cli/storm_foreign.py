"""``lmdbq storm foreign``: what others do to the file."""

from __future__ import annotations

import click

from lmdbq.cli.storm_run import MINUTES, Asked, carry_out, with_report


@click.command("foreign", short_help="Do to the file what others do; each ends as the docs say.")
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True, help="How often to do each of it.")
@click.option(
    "--hold", type=click.FloatRange(0.1), default=10.0, show_default=True, help="Seconds that others hold on."
)
@MINUTES
@with_report
@click.option("--plant", hidden=True, default="", help="Put a fault into the daemon.")
def command(asked: Asked, rounds: int, hold: float, minutes: float | None, plant: str) -> int:
    """Hold the write lock, die with it, keep readers, fork, copy, cut, flip bits, bring files of others and of other
    versions, start a second daemon, and two containers.

    Each must end as the docs say (guide/file.md): served, refused with a remedy, or damaged in words; never in a
    traceback or a signal, and what was refused is not touched.
    """
    from lmdbq.storm import foreign

    most = 0 if minutes else rounds
    return carry_out(
        asked, lambda tell, seed: foreign.run(seed, tell, most, minutes or 0.0, hold_seconds=hold, plant=plant)
    )
