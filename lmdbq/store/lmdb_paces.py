"""Paces of queues in a transaction: tokens and turns, read when they are first asked for and written when they changed.

A bucket of an earlier boot is counted on from the first claim of this boot that asks for it, and written then even if
nothing is taken: else it would begin anew at each look. Queue number 0 has the time of all turns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from lmdbq import buckets
from lmdbq.sharing import NO_PACE, Pace
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec

if TYPE_CHECKING:
    from lmdbq.store.lmdb_work import Queue, Work

TIME_NO = 0  # the number under which the time of all turns stands


def read_pace(work: Work, queue_no: int) -> Pace:
    """Return the pace of a queue as it was written last; one that is damaged begins anew, with a full bucket."""
    value = work.get("catalog", ks.pace(queue_no))
    if value is None:
        return NO_PACE
    try:
        return rec.read_pace(value)
    except rec.Damaged:
        return NO_PACE


class Paces:
    """The paces of the queues of one claim."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._stored: dict[int, Pace] = {}
        self._now: dict[int, Pace] = {}

    def of(self, queue_no: int) -> Pace:
        """Return the pace of a queue as it is in this transaction."""
        if queue_no not in self._now:
            self._stored[queue_no] = self._now[queue_no] = read_pace(self._work, queue_no)
        return self._now[queue_no]

    def tokens(self, queue: Queue) -> int | None:
        """Return how many tasks the rate of a queue lets be taken now; None without one."""
        rate = queue.settings.rate
        if rate is None:
            return None
        return buckets.whole_tokens(self._counted(queue), rate)

    def until_token_ns(self, queue: Queue) -> int:
        """Return how long (ns) it is until a queue has a token; 0 if it has one, or no rate."""
        if queue.settings.rate is None:
            return 0
        return buckets.until_tokens_ns(self._counted(queue), 1)

    def _counted(self, queue: Queue) -> buckets.Bucket | None:
        pace, now = self.of(queue.no), self._work.now
        bucket = buckets.counted(pace.bucket, queue.settings.rate, now, now.steady)
        if pace.bucket is not None and pace.bucket.boot_no != now.boot_no:
            self._now[queue.no] = replace(pace, bucket=bucket)
        return bucket

    def spend(self, queue: Queue, count: int) -> None:
        """Spend the tokens of tasks that were taken."""
        rate = queue.settings.rate
        if rate is not None:
            bucket = buckets.spent(self._counted(queue), rate, self._work.now, count)
            self._now[queue.no] = replace(self.of(queue.no), bucket=bucket)

    def start(self, queue_no: int, start: int) -> None:
        """Note when the next turn of a queue begins; under TIME_NO, when the last one of any did."""
        self._now[queue_no] = replace(self.of(queue_no), start=start)

    def others_served(self, queue_no: int, count: int) -> None:
        """Note turns of the tasks without a group, in a queue whose order is fair."""
        self._now[queue_no] = self.of(queue_no).after_others(count)

    def group_served(self, queue_no: int, turn: int) -> int:
        """Note that a group had its turn in a queue whose order is fair; return at what time that was."""
        pace = self.of(queue_no)
        time = max(pace.time, turn)
        self._now[queue_no] = replace(pace, time=time)
        return time

    def write(self) -> None:
        """Write what changed."""
        for queue_no, pace in self._now.items():
            if pace != self._stored[queue_no]:
                self._work.put("catalog", ks.pace(queue_no), rec.write_map(pace))
