"""``lmdbq workers``: who works, and what is known of types."""

from __future__ import annotations

import time

import click

from lmdbq.cli import render
from lmdbq.cli.common import Session, with_session
from lmdbq.cli.exits import Exit
from lmdbq.limits import SECOND_NS
from lmdbq.wire.workers import WorkerAnswer, WorkersAnswer

HEADERS = ("worker", "queues", "types", "concurrency", "since", "last seen")


@click.command("workers", short_help="Show who works, on what.")
@with_session
def command(session: Session) -> int:
    """Show the workers that the daemon has heard of in the last minute: their queues and types, and since when.

    With --json also what is known of types: their defaults, and the schema of their payloads. Workers on a directory
    are known to their own process only.
    """
    answer = session.client.workers()
    session.answer(answer, lambda: _described(answer))
    if not answer.workers:
        session.note("nobody works; `lmdbq worker MODULE:TASKS` and `lmdbq worker --exec COMMAND` do")
    return Exit.OK


def _described(answer: WorkersAnswer) -> str:
    return render.table(HEADERS, [_row(worker) for worker in answer.workers])


def _row(worker: WorkerAnswer) -> tuple[object, ...]:
    ago = max(0.0, time.time() - worker.seen_at / SECOND_NS)
    return (
        worker.name,
        ", ".join(worker.queue_names),
        ", ".join(worker.types) or "every type",
        worker.concurrency,
        render.instant(worker.registered_at),
        f"{render.span(ago)} ago",
    )
