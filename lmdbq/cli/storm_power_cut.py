"""``lmdbq storm power-cut``: the power fails at random moments."""

from __future__ import annotations

import click

from lmdbq.cli.storm_run import MINUTES, Asked, carry_out, with_report


@click.command("power-cut", short_help="Cut the power at random moments; what was answered is there.")
@click.option("--images", type=click.IntRange(1), default=20_000, show_default=True, help="How many disks to look at.")
@MINUTES
@with_report
@click.option("--plant", hidden=True, default="", help="Put a fault into what the disk was asked to do.")
def command(asked: Asked, images: int, minutes: float | None, plant: str) -> int:
    """Record all that sessions write and sync, then cut the power at random moments of them.

    An image is a disk as it may be after one cut: what was synced is there, of the rest any part, torn at 512 bytes and
    in any order. Each must open, be whole, and hold all that was answered.
    """
    from lmdbq.storm import power_cut

    return carry_out(asked, lambda tell, seed: power_cut.run(seed, tell, images, minutes or 0.0, plant=plant))
