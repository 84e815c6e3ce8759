"""Connections: how many may be open, how long one may say nothing whole, and how long an answer may go unread.

Each has its bound, for a caller that hangs, or means ill, must not hold what others need. A head that comes a byte at a
time is no different from silence here: what counts is that a request has become whole. A body has its own bound (see
``replies``); while a request is answered, however long that takes, its connection is left alone. An answer that nobody
takes is for the kernel to judge, which knows whether the other side has room.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final, Protocol

IDLE_SECONDS: Final = 75.0  # without a whole request, as other servers have it
LOOK_SECONDS: Final = 5.0
UNREAD_SECONDS: Final = 60.0  # until a connection whose other side takes nothing is given up


class Connection(Protocol):
    """What is known of a connection: aiohttp's RequestHandler is one."""

    @property
    def transport(self) -> asyncio.BaseTransport | None: ...

    def __hash__(self) -> int: ...

    def force_close(self) -> None:
        """Close it, whatever is under way."""
        ...


class UnderWay:
    """Which connections have a request that is being answered, and which of the others have long had none."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()
        self._busy: set[Connection] = set()
        self._asked: set[Connection] = set()  # since the last look
        self._seen: set[Connection] = set()
        self._quiet_since: dict[Connection, float] = {}

    def begin(self, connection: Connection) -> None:
        """Note that a request is whole."""
        self._count += 1
        self._busy.add(connection)
        self._none.clear()

    def end(self, connection: Connection) -> None:
        """Note that it was answered."""
        self._count -= 1
        self._busy.discard(connection)
        self._asked.add(connection)
        if not self._count:
            self._none.set()

    async def wait_for_none(self, seconds: float) -> None:
        """Return when no request is being answered, or after ``seconds``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._none.wait()

    def look(self, connections: Iterable[Connection], now: float, idle_seconds: float = IDLE_SECONDS) -> int:
        """Close those of all open connections that have had no whole request for too long; return how many.

        now: of the loop's clock. A connection's time begins with the first look that finds it.
        """
        found = set(connections)
        for one in found - self._seen:
            give_up_unread(one.transport)
        self._seen = found
        quiet = found - self._busy - self._asked
        self._asked.clear()
        self._quiet_since = {one: self._quiet_since.get(one, now) for one in quiet}
        overdue = [one for one, since in self._quiet_since.items() if now - since >= idle_seconds]
        for one in overdue:
            one.force_close()
        return len(overdue)

    async def watch(self, connections: Callable[[], Iterable[Connection]]) -> None:
        """Look again and again, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look(connections(), loop.time())


def give_up_unread(transport: asyncio.BaseTransport | None, seconds: float = UNREAD_SECONDS) -> None:
    """Have the kernel end a connection once the other side has taken nothing for so long of what was sent to it.

    What was to be sent then goes, and whoever waited to send it is told. Linux only; not for a Unix socket.
    """
    taken = transport.get_extra_info("socket") if transport is not None else None
    if sys.platform.startswith("linux") and taken is not None and taken.family in (socket.AF_INET, socket.AF_INET6):
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(seconds * 1_000))


def allow_descriptors() -> None:
    """Let this process have as many open files, and so connections, as it may allow itself."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):  # macOS names a hard limit that it does not grant
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
