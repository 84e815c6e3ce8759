"""A worker of the demo, a process of its own: ``python -m lmdbq.demo.worker URL OUTPUT``.

It writes each event to its own file before anybody is told of it: "start" before the work, "done" with the answer (or
"fail", where the item asks for a failure) after it, and only then the report goes to the daemon. A kill in between
leaves a task that was done and will be done again, which is what at-least-once means; the count tells how many.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from lmdbq.client.directives import TaskFailed
from lmdbq.client.http import HttpClient
from lmdbq.client.job_worker import JobWorker
from lmdbq.client.leases import Job
from lmdbq.demo.producer import QUEUE, open_ledger, write_lines
from lmdbq.demo.sample import Change
from lmdbq.demo.work import answer

CLAIM_TASKS: Final = 100
PATIENCE_SECONDS: Final = 60.0


class Recorder:
    """The handler: does the work of one task and records what happened. ledger: an open file, see ``open_ledger``."""

    def __init__(self, ledger: int) -> None:
        self._ledger = ledger

    def __call__(self, job: Job) -> None:
        """Work out one change. Raises TaskFailed as often as the item asks for."""
        change = Change.from_payload(job.payload)
        self._record("start", change, job)
        if job.attempts <= job.payload["failures"]:
            self._record("fail", change, job)
            raise TaskFailed("this item fails on purpose", kind="planned")
        self._record("done", change, job, *answer(change))

    def _record(self, event: str, change: Change, job: Job, *more: str) -> None:
        write_lines(self._ledger, "\t".join([event, change.key, job.id, str(job.deliveries), *more]) + "\n")


def main(arguments: list[str]) -> int:
    """Work until a signal."""
    url, output = arguments
    with HttpClient(url, patience=PATIENCE_SECONDS) as client:
        JobWorker(client, Recorder(open_ledger(Path(output))), [QUEUE], limit=CLAIM_TASKS).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
