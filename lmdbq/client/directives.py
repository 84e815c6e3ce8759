"""What a handler may raise to say what is to become of its attempt, and how any exception is reported.

Retry    it failed; try again, after ``delay`` if one is given        Snooze   not now: again later, uncounted
Dead     it failed, and another attempt is useless                    Stopped  raised by ``Context.check``
"""

from __future__ import annotations

from collections.abc import Sequence

from lmdbq.client.binding import BadPayload
from lmdbq.client.options import Seconds, seconds
from lmdbq.client.reports import failed, released
from lmdbq.errors import InvalidInput
from lmdbq.limits import DELAY_NS_MAX, SECOND_NS
from lmdbq.wire.shapes import ReportEntry


class Retry(Exception):
    """The attempt failed: try again. delay: seconds until then, instead of the backoff. It counts as an attempt."""

    def __init__(self, message: str = "asked for another attempt", *, delay: Seconds | None = None) -> None:
        super().__init__(message)
        self.delay = delay


class Snooze(Exception):
    """It is not the time yet: run the task again in ``delay`` seconds (> 0). It counts as nothing, however often.

    A ``delay`` of 0 hands it back, to be given out at once; that does count as a delivery, of which a task has 20
    unless it says otherwise, lest it go round for ever.
    """

    def __init__(self, delay: Seconds) -> None:
        super().__init__(f"snoozed for {delay}")
        self.delay = delay


class Dead(Exception):
    """The attempt failed, and no other would do better: the task is dead at once, and kept for somebody to look at."""


class Stopped(Exception):
    """Going on is pointless: a cancel was asked for, the lease was lost, or the worker ends. Let it pass."""


class TaskFailed(Exception):
    """A failure in words of its own: ``kind`` and ``backtrace`` stand in the task's history instead of Python's.

    retry False: dead at once. delay: seconds until the next attempt, instead of the backoff.
    """

    def __init__(
        self, message: str, *, kind: str = "", backtrace: str = "", retry: bool = True, delay: float | None = None
    ) -> None:
        super().__init__(message)
        self.kind = kind or type(self).__name__
        self.backtrace = backtrace
        self.retry = retry
        self.delay = delay


def report_of(error: BaseException, lease: str, dead_on: Sequence[type[BaseException]] = ()) -> ReportEntry:
    """Return the report of an attempt that ended with ``error``. dead_on: exceptions after which none should follow.

    A delay that the queue would refuse is this attempt's failure: refused, it would take all reports beside it along.
    """
    try:
        return _report_of(error, lease, dead_on)
    except (TypeError, ValueError) as wrong:
        wrong.__cause__ = error
        return failed(lease, wrong)


def _report_of(error: BaseException, lease: str, dead_on: Sequence[type[BaseException]]) -> ReportEntry:
    if isinstance(error, Snooze):
        return released(lease, _delay(error, error.delay))
    if isinstance(error, Retry):
        return failed(lease, error, delay=None if error.delay is None else _delay(error, error.delay))
    if isinstance(error, TaskFailed):
        said = {"kind": error.kind, "backtrace": error.backtrace}
        return failed(lease, error, **said, retry=error.retry, delay=error.delay)
    if isinstance(error, BadPayload):
        return failed(lease, error, kind="bad_payload", backtrace="", retry=False)
    if isinstance(error, InvalidInput) and error.problems[0].pointer == "/result":  # it was done; it would be so again
        return failed(lease, error, kind="bad_result", backtrace="", retry=False)
    return failed(lease, error, retry=not isinstance(error, (Dead, *dead_on)))


def _delay(error: BaseException, value: Seconds) -> float:
    """Return a delay that the queue takes. Raises ValueError, TypeError."""
    length = float(seconds(value))
    if not 0 <= length <= DELAY_NS_MAX / SECOND_NS:  # nor NaN
        most = DELAY_NS_MAX // SECOND_NS
        raise ValueError(f"{type(error).__name__}: delay is 0 to {most} seconds, not {length:g}")
    return length
