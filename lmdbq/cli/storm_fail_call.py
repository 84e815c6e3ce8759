"""``lmdbq storm fail-call``: single system calls fail."""

from __future__ import annotations

import click

from lmdbq.cli.storm_run import MINUTES, Asked, carry_out, with_report


@click.command("fail-call", short_help="Let single system calls fail; no answer is wrong.")
@click.option("--runs", type=click.IntRange(1), default=100, show_default=True, help="How many failures to try.")
@click.option("--all", "all_of_them", is_flag=True, help="Try every call of the session, and each way it can fail.")
@MINUTES
@with_report
@click.option("--plant", hidden=True, default="", help="Have the session take a failed commit for a good one.")
def command(asked: Asked, runs: int, all_of_them: bool, minutes: float | None, plant: str) -> int:
    """Run a session again and again, one of its system calls failing each time.

    Every write, sync, allocation and open answers EIO or ENOSPC, or has written less than it was asked to. The session
    must end well, refuse, or stop; and the next opener must find all that was answered.
    """
    from lmdbq.storm import fail_runs

    most = 0 if all_of_them or minutes else runs
    return carry_out(asked, lambda tell, seed: fail_runs.run(seed, tell, most, minutes or 0.0, plant=plant))
