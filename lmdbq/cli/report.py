"""``lmdbq report``: say how a claimed task went."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from lmdbq.cli.common import DURATION, JSON_VALUE, Session, fail, with_session
from lmdbq.cli.exits import OUTCOMES, Exit
from lmdbq.wire.shapes import ErrorBody, ReportEntry


@click.command("report", short_help="Say how a claimed task went.")
@click.argument("lease")
@click.argument("status", type=click.Choice(["succeeded", "failed", "released"]), default="succeeded")
@click.option("--result", type=JSON_VALUE, metavar="JSON", help="What came out (succeeded).")
@click.option("--error", "message", metavar="TEXT", help="What went wrong (failed).")
@click.option("--in", "delay", type=DURATION, metavar="DURATION", help="Try again after so long (failed, released).")
@click.option("--no-retry", is_flag=True, help="Do not try again (failed).")
@with_session
def command(
    session: Session, lease: str, status: Any, result: Any, message: str | None, delay: float | None, no_retry: bool
) -> int:
    """Say how the task claimed under LEASE went: succeeded (the default), failed or released."""
    said = {"--result": result, "--error": message, "--in": delay, "--no-retry": no_retry or None}
    meant = {"succeeded": {"--result"}, "failed": {"--error", "--in", "--no-retry"}, "released": {"--in"}}[status]
    for option in said.keys() - meant:
        if said[option] is not None:
            raise click.UsageError(f"{option} does not go with {status}")
    more: dict[str, Any] = {"result": msgspec.Raw(msgspec.json.encode(result))} if result is not None else {}
    report = ReportEntry(
        lease=lease,
        status=status,
        error=ErrorBody(message=message) if message is not None else None,
        delay_in_seconds=delay,
        retry=not no_retry,
        **more,
    )
    outcome = session.client.report([report]).outcomes[0]
    session.answer(
        outcome, lambda: f"{outcome.outcome}: {outcome.state or 'done, not kept'}" if _ok(outcome.outcome) else None
    )
    if not _ok(outcome.outcome) and not session.as_json:
        fail(f"{lease}: {outcome.outcome}; `lmdbq task {lease.partition('.')[0]}` shows why", OUTCOMES[outcome.outcome])
    return OUTCOMES[outcome.outcome]


def _ok(outcome: str) -> bool:
    return OUTCOMES[outcome] == Exit.OK
