"""``lmdbq storm controls``: faults are put in, and each must be found."""

from __future__ import annotations

import click

from lmdbq.cli.storm_run import Asked, carry_out, with_report


@click.command("controls", short_help="Put faults into the queue on purpose; its storm finds each.")
@click.option("--only", metavar="STORM", help="Only the faults of one storm.")
@with_report
def command(asked: Asked, only: str | None) -> int:
    """Run the storms with faults put in, one after the other: an answer before its commit, a sync left out, a fence
    that is ignored, a wake-up forgotten, and more.

    What is not found shows a storm that would not see a real fault. All of it takes some minutes.
    """
    from lmdbq.storm import controls

    wanted = [control for control in controls.CONTROLS if only in (None, control.storm)]
    if not wanted:
        known = ", ".join(dict.fromkeys(control.storm for control in controls.CONTROLS))
        raise click.BadParameter(f"there are faults for {known}", param_hint="--only")
    return carry_out(asked, lambda tell, seed: controls.run(seed, tell, wanted))
