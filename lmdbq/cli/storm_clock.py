"""``lmdbq storm clock``: the daemon's clock is set, and its machine suspended and booted."""

from __future__ import annotations

import click

from lmdbq.cli.storm_run import MINUTES, Asked, carry_out, with_report


@click.command("clock", short_help="Set the clock, suspend, boot with last year's date; nothing comes early or late.")
@click.option("--steps", type=click.IntRange(1), default=40, show_default=True, help="How often to do something to it.")
@MINUTES
@with_report
@click.option("--plant", hidden=True, default="", help="Put a fault into the daemon.")
def command(asked: Asked, steps: int, minutes: float | None, plant: str) -> int:
    """Step the wall clock of a daemon by hours and days, stop it, boot it with last year's date, while it is used.

    No lease may lapse before its time, by a clock that nobody sets; no task be given before its instant, by the one
    that is set; nothing more than a second late; schedules must give one task per instant; ids must rise. Needs
    libfaketime.
    """
    from lmdbq.storm import clock_steps

    most = 0 if minutes else steps
    return carry_out(asked, lambda tell, seed: clock_steps.run(seed, tell, most, minutes or 0.0, plant=plant))
