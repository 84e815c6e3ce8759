"""When a request is sent again, without any I/O: a generator that a sync and an async sender drive.

``conversation`` yields how long to wait before each exchange and takes what came of it, until there is an answer or
nothing more to be tried. The trap is a request that has left: it may have been carried out, so it is sent again only if
it is ``repeatable``; one that never left may always be.
"""

from __future__ import annotations

import random
import time
from collections.abc import Generator, Iterator
from typing import Any, Final, NamedTuple

from lmdbq.client.core import Request, T, interpret
from lmdbq.errors import Unreachable

# Statuses that say "not now": the daemon is draining, starting, waiting for the file, or wants its caller to slow down.
NOT_NOW: Final = frozenset({429, 503})
TELL_SECONDS: Final = 1.0
_PAUSE_SECONDS_MIN: Final = 0.05
_PAUSE_SECONDS_MAX: Final = 1.0


class Reply(NamedTuple):
    """What came back."""

    status: int
    content_type: str
    body: bytes
    retry_after_seconds: float

    def may_repeat(self, request: Request[Any]) -> bool:
        return self.status in NOT_NOW and request.repeatable


class Broken(NamedTuple):
    """An exchange that ended without an answer. sent: whether the daemon may have seen the request."""

    cause: Exception
    sent: bool
    retry_after_seconds: float = 0.0

    def may_repeat(self, request: Request[Any]) -> bool:
        return request.repeatable or not self.sent


def conversation(
    request: Request[T], where: str, patience_seconds: float, *, tells: bool = True
) -> Generator[float, Reply | Broken, T]:
    """Yield how many seconds to wait before each exchange, take what came of it, and return the decoded answer.

    It goes on where a repetition is harmless and ``patience_seconds`` (since the first failure) allows. tells: whether
    the log says so once, when that takes longer than a moment: somebody sits there and wonders. Raises what ``settle``
    does.
    """
    got = yield 0.0
    give_up_at = 0.0
    pauses = _pauses()
    while got.may_repeat(request):
        pause = max(next(pauses), got.retry_after_seconds)
        now = time.monotonic()
        give_up_at = give_up_at or now + patience_seconds
        if now + pause > give_up_at:
            break
        if tells and now > give_up_at - patience_seconds + TELL_SECONDS and isinstance(got, Broken):
            tells = False
            _tell(where, got, give_up_at - now)
        got = yield pause
    return settle(request, where, got)


def _tell(where: str, got: Broken, left_seconds: float) -> None:
    import logging

    log = logging.getLogger("lmdbq.client")
    log.warning(
        "no answer from %s (%s), trying for another %.0f s; `lmdbq serve` starts a daemon",
        where,
        _why(got),
        left_seconds,
    )


def settle(request: Request[T], where: str, got: Reply | Broken) -> T:
    """Return the answer of an exchange. Raises Unreachable if there is none, else what ``interpret`` does."""
    if isinstance(got, Reply):
        return interpret(request, got.status, got.content_type, got.body)
    doubt = "; it may have been carried out" if got.sent else ""
    raise Unreachable(f"no answer from {where} ({_why(got)}){doubt}") from got.cause


def _why(got: Broken) -> str:
    return getattr(got.cause, "strerror", None) or str(got.cause) or type(got.cause).__name__


def retry_after_seconds(header: str) -> float:
    """Return a Retry-After header in seconds; one that is not a plain number counts as none."""
    return float(header) if header.isdigit() else 0.0


def _pauses() -> Iterator[float]:
    """Yield the seconds between attempts: doubling up to a second, and spread, lest many march in step."""
    pause = _PAUSE_SECONDS_MIN
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311  (no secret depends on it)
        pause = min(pause * 2, _PAUSE_SECONDS_MAX)
