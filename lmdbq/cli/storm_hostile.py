"""``lmdbq storm hostile``: requests that nobody honest sends, and connections that nobody honest holds."""

from __future__ import annotations

import click

from lmdbq.cli.storm_run import MINUTES, Asked, carry_out, with_report


@click.command("hostile", short_help="Send what nobody honest sends; the daemon refuses it, and goes on.")
@click.option("--bodies", type=click.IntRange(1), default=50_000, show_default=True, help="How many to send.")
@click.option(
    "--connections", type=click.IntRange(0), default=1_000, show_default=True, help="How many of each bad kind to hold."
)
@click.option(
    "--examples", type=click.IntRange(0), default=10, show_default=True, help="From the schema, for each path."
)
@MINUTES
@with_report
@click.option("--plant", hidden=True, default="", help="Put a fault into the daemon.")
def command(asked: Asked, bodies: int, connections: int, examples: int, minutes: float | None, plant: str) -> int:
    """Send a daemon random and mutated bodies in every encoding, and hold connections that are slow, idle or deaf.

    No answer may be a 5xx or fail to come, no page of tasks break, nothing that was refused leave a trace; the daemon
    must not grow, and an honest caller be served throughout. What /openapi.json says is tried with schemathesis, which
    must be installed for that; --examples 0 leaves it out.
    """
    from lmdbq.storm import hostile

    most = 0 if minutes else bodies
    more = {"connections": connections, "examples": examples}
    return carry_out(asked, lambda tell, seed: hostile.run(seed, tell, most, minutes or 0.0, plant=plant, **more))
