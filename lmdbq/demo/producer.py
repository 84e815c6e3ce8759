"""The producer: sends the data set in batches, and writes down what the daemon said yes to, after each 2xx.

It runs in a thread of its own while the run watches. A daemon that is killed under it is waited for: the client sends
the same batch again under the same idempotency key, so nothing is accepted twice and nothing is left out.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from lmdbq.client.http import HttpClient
from lmdbq.demo.sample import Change

QUEUE: Final = "demo"
BATCHES: Final = 80  # how many requests the data set is spread over, so that a kill meets one in flight
FAILING_EVERY: Final = 50  # every 50th task fails twice before it succeeds
FAILURES: Final = 2
SCHEDULED_EVERY: Final = 25  # every 25th task is scheduled ahead
DELAY_SECONDS: Final = 2.0
DUPLICATE_EVERY: Final = 20  # every 20th item is sent again with the next batch
DEDUPE_SECONDS: Final = 3_600.0  # a key blocks so long even when its task is done and gone


def open_ledger(path: Path) -> int:
    """Open a file to which each line is added with one write, so that a killed process leaves whole lines."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def write_lines(ledger: int, lines: str) -> None:
    """Add ``lines`` to an open ledger. Raises OSError also if only a part could be written."""
    data = lines.encode("ascii")
    if os.write(ledger, data) != len(data):
        raise OSError(f"only a part of {len(data)} bytes could be written")


def entry_of(number: int, change: Change) -> dict[str, Any]:
    """Return item ``number`` of the data set as an entry to enqueue."""
    return {
        "type": "change",
        "payload": {**change._asdict(), "failures": 0 if number % FAILING_EVERY else FAILURES},
        "dedupe_key": change.key,
        "dedupe_until": "ttl",
        "dedupe_ttl_in_seconds": DEDUPE_SECONDS,
        "delay_in_seconds": 0.0 if number % SCHEDULED_EVERY else DELAY_SECONDS,
    }


def batches(changes: list[Change]) -> Iterator[list[dict[str, Any]]]:
    """Yield the entries in batches, each with duplicates of some of the one before."""
    size = max(1, -(-len(changes) // BATCHES))
    again: list[dict[str, Any]] = []
    for start in range(0, len(changes), size):
        part = [entry_of(start + index, change) for index, change in enumerate(changes[start : start + size])]
        yield part + again
        again = [entry for index, entry in enumerate(part) if (start + index) % DUPLICATE_EVERY == 0]
    if again:
        yield again


class Producer(threading.Thread):
    """Sends everything once started. ``accepted`` counts new tasks so far; ``error`` is what ended it early, if any."""

    def __init__(self, client: HttpClient, changes: list[Change], ledger: Path) -> None:
        super().__init__(name="demo-producer", daemon=True)
        self._client = client
        self._changes = changes
        self._ledger = ledger
        self.accepted = 0
        self.seconds = 0.0
        self.error: Exception | None = None

    def run(self) -> None:
        """Send all batches, one after the other."""
        began = time.monotonic()
        ledger = open_ledger(self._ledger)
        try:
            for batch in batches(self._changes):
                self._send(batch, ledger)
        except Exception as error:  # noqa: BLE001  (told by whoever started this thread)
            self.error = error
        finally:
            os.close(ledger)
            self.seconds = time.monotonic() - began

    def _send(self, batch: list[dict[str, Any]], ledger: int) -> None:
        outcomes = self._client.enqueue(batch, queue_name=QUEUE).outcomes
        pairs = list(zip(batch, outcomes, strict=True))
        write_lines(ledger, "".join(f"{told.outcome}\t{entry['dedupe_key']}\t{told.id}\n" for entry, told in pairs))
        self.accepted += sum(told.outcome == "enqueued" for _, told in pairs)
