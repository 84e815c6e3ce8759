"""``lmdbq storm simulate``: the engine in a world of drawn time, network and crashes."""

from __future__ import annotations

import click

from lmdbq.cli.storm_run import MINUTES, Asked, carry_out, with_report


@click.command("simulate", short_help="Simulate clocks, networks and crashes; no task and no wake-up is lost.")
@click.option("--steps", type=click.IntRange(1), default=100_000, show_default=True, help="How many lines of history.")
@MINUTES
@with_report
@click.option("--plant", hidden=True, default="", help="Put in a fault that must be found.")
def command(asked: Asked, steps: int, minutes: float | None, plant: str) -> int:
    """Run the engine among simulated clients, and check all that it does.

    Requests and answers are late, lost, doubled and out of order, clients go away, wall time steps, commits fail, and
    the daemon is killed at any moment. Tasks may move only as their life allows, each delivery has one end, nothing is
    answered that was not committed, nothing is lost or made up, and nobody waits beside what he waits for. Each run has
    a seed of its own: SEED/17 repeats the 17th alone.
    """
    from lmdbq.storm import simulate

    return carry_out(asked, lambda tell, seed: simulate.run(seed, tell, steps, minutes or 0.0, plant=plant))
