"""``lmdbq storm power-cut``: the power fails at random moments; and one image of it again, to look at."""

from __future__ import annotations

import functools
from pathlib import Path

import click

from lmdbq.cli.common import fail
from lmdbq.cli.storm_run import MINUTES, Asked, carry_out, with_report


@click.command("power-cut", short_help="Cut the power at random moments; what was answered is there.")
@click.option("--images", type=click.IntRange(1), default=20_000, show_default=True, help="How many disks to look at.")
@MINUTES
@click.option("--image", metavar="ROUND/NUMBER", help="Only this image of the run with --seed, kept in --keep.")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="New or empty: faulty images go there.")
@with_report
@click.option("--plant", hidden=True, default="", help="Put a fault into what the disk was asked to do.")
def command(asked: Asked, images: int, minutes: float | None, image: str | None, keep: Path | None, plant: str) -> int:
    """Record all that sessions write and sync, then cut the power at random moments of them.

    An image is a disk as it may be after one cut: what was synced is there, of the rest any part, torn at 512 bytes and
    in any order. Each must open, be whole, and hold all that was answered.
    """
    from lmdbq.storm import power_cut

    if keep is not None:
        if keep.is_dir() and any(keep.iterdir()):
            fail(f"{keep} is not empty; name another directory")
        keep.mkdir(parents=True, exist_ok=True)
    if image is None:
        whole = functools.partial(power_cut.run, images_max=images, minutes=minutes or 0.0, plant=plant, keep=keep)
        return carry_out(asked, lambda tell, seed: whole(seed, tell))
    if keep is None or asked.seed is None:
        raise click.UsageError("--image needs --keep and --seed")
    try:
        status = carry_out(asked, lambda tell, seed: power_cut.replay(seed, image, keep, plant=plant))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--image") from error
    click.echo(_how_to_look(keep), err=True)
    return status


def _how_to_look(keep: Path) -> str:
    """Return what to type next. The image itself has not been opened yet: whoever does so may change it."""
    from lmdbq.storm.power_cut import ANSWERS
    from lmdbq.storm.recording import DIRECTORY

    place = keep / DIRECTORY
    return "\n".join(
        (
            f"the image is {place}; a copy of it was judged. Copy it, too, before you look: opening it may change it.",
            f"  lmdbq check {place}      is it whole?",
            f"  lmdbq dump {place}       every key in it",
            f"  {keep / ANSWERS}      what had been answered when the power failed, a line for each answer",
        )
    )
