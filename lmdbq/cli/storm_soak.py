"""``lmdbq storm soak``: a daemon under churn for minutes or hours, and a worker with short leases beside an import."""

from __future__ import annotations

import click

from lmdbq.cli.common import fail
from lmdbq.cli.storm_run import Asked, carry_out, with_report


@click.command("soak", short_help="Work a daemon for hours; what it uses stays flat, no lease is lost.")
@click.option("--minutes", type=click.FloatRange(min=0.5), default=2.0, show_default=True, help="How long to churn.")
@click.option("--hours", type=click.FloatRange(min=0.01), help="The same in hours.")
@click.option(
    "--import-tasks",
    type=click.IntRange(0),
    help="How many tasks the import before it has. Default: 200,000; for an hour or more 10,000,000.",
)
@with_report
@click.option("--plant", hidden=True, default="", help="Put in a fault that must be found.")
def command(asked: Asked, minutes: float, hours: float | None, import_tasks: int | None, plant: str) -> int:
    """Fill and empty queues in every way, and look at the daemon's memory, descriptors and file.

    They must stay on a plateau, and the file within twice what it ever had to hold. Beside it, and before that beside a
    large import, a worker with leases of 2 s must not lose one of them. Works on the disk that TMPDIR names.
    """
    from lmdbq.demo.children import DemoFailed
    from lmdbq.storm import soak

    churned = hours * 60 if hours else minutes
    usual = soak.IMPORT_TASKS_LONG if churned >= 60 else soak.IMPORT_TASKS
    imported = usual if import_tasks is None else import_tasks
    try:
        return carry_out(asked, lambda tell, seed: soak.run(seed, tell, churned, imported, plant=plant))
    except DemoFailed as error:
        fail(str(error))
