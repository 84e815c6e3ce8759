"""Where a queue is: one argument, read here, that says which transport a client has.

"http://…", "https://…", "unix:///PATH"    a daemon
"./dir", "/path/to/dir", a pathlib.Path     the file in that directory, in this process
":memory:"                                  a queue of this process that nobody else sees, for tests
None                                        $LMDBQ_URL, else the daemon of this machine
"""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from lmdbq.client.address import WHERE_DEFAULT, parse_where
from lmdbq.client.core import Request
from lmdbq.errors import InvalidInput, TransactionUnusable
from lmdbq.model import Problem

if TYPE_CHECKING:
    from lmdb import Environment, Transaction

    from lmdbq.client.embedded import Embedded
    from lmdbq.clock import Clock
    from lmdbq.wire.answers import EnqueueAnswer
from lmdbq.wire.set_shapes import SetAnswer

T = TypeVar("T")
MEMORY: Final = ":memory:"
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*:/", re.IGNORECASE)
_OF_A_DAEMON: Final = (
    "is open in its daemon, not here: transactions are shared through the directory, Client('./DIRECTORY'), which may "
    "be open beside the daemon"
)
_HOST_PORT: Final = re.compile(r"[\w.-]+:\d+")


class Transport(Protocol):
    """Carries requests of ``core`` to a queue and brings their answers. Lazy, thread-safe, fork-aware."""

    def call(self, request: Request[T], stop: threading.Event | None = None) -> T:
        """Carry out a request. stop: once it is set, a call neither waits for tasks nor tries again."""
        ...

    def interrupt(self) -> None:
        """Break off the calls that wait for tasks; they raise Unreachable."""
        ...

    def renew(self) -> None:
        """Break off connections that may lead to a daemon which is no more; their calls are tried again."""
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...


class AsyncTransport(Protocol):
    """The same for callers on an event loop."""

    async def call(self, request: Request[T]) -> T:
        """Carry out a request."""
        ...

    async def close(self) -> None:
        """Let go of what is open."""
        ...


class EnqueuerWithin(Protocol):
    """Enqueues in somebody's transaction."""

    def enqueue(self, request: Request[EnqueueAnswer]) -> EnqueueAnswer:
        """Carry out an enqueue."""
        ...

    def make_set(self, request: Request[SetAnswer]) -> str:
        """Make a set; return its id."""
        ...


class Place(Protocol):
    """A place that clients can reach in both ways. where: as people write it."""

    where: str

    def transport(self) -> Transport:
        """Return a transport for threads."""
        ...

    def async_transport(self) -> AsyncTransport:
        """Return a transport for an event loop."""
        ...

    def worker_transport(self) -> Transport:
        """Return a transport of a worker's own: closing or interrupting it disturbs no client."""
        ...

    def environment(self) -> Environment:
        """Return the LMDB environment that holds the queue. Raises TransactionUnusable if it is not in this process."""
        ...

    def within(self, transaction: Transaction) -> EnqueuerWithin:
        """Return a way to enqueue in a transaction of that environment. Raises TransactionUnusable."""
        ...


class DaemonPlace:
    """A daemon. Raises InvalidInput for an address or token that cannot be one."""

    def __init__(self, where: str, *, token: str | None, timeout: float) -> None:
        parse_where(where)
        self.where = where
        self._token = token
        self._timeout = timeout

    def transport(self) -> Transport:
        from lmdbq.client.sending import Sender

        return Sender(self.where, token=self._token, timeout=self._timeout)

    def worker_transport(self) -> Transport:
        return self.transport()

    def environment(self) -> Environment:
        raise TransactionUnusable(f"the file of {self.where} {_OF_A_DAEMON}")

    def within(self, transaction: Transaction) -> EnqueuerWithin:
        raise TransactionUnusable(f"the file of {self.where} {_OF_A_DAEMON}")

    def async_transport(self) -> AsyncTransport:
        from lmdbq.client.async_sending import AsyncSender
        from lmdbq.client.core import JSON_TYPE
        from lmdbq.client.sending import authorization

        headers = {"Accept": JSON_TYPE, **authorization(self._token)}
        address = parse_where(self.where)
        return AsyncSender(self.where, address, headers, timeout=self._timeout, patience=self._timeout)


class EmbeddedPlace:
    """A directory, or memory."""

    def __init__(self, embedded: Embedded, timeout: float | None = None) -> None:
        self.where = embedded.where
        self.embedded = embedded
        self._timeout = timeout

    def transport(self) -> Transport:
        from lmdbq.client.embedded import EmbeddedTransport

        return EmbeddedTransport(self.embedded, owns=True, timeout=self._timeout)

    def worker_transport(self) -> Transport:
        from lmdbq.client.embedded import EmbeddedTransport

        return EmbeddedTransport(self.embedded, owns=False)

    def environment(self) -> Environment:
        opened: Environment = self.embedded.environment()
        return opened

    def within(self, transaction: Transaction) -> EnqueuerWithin:
        return self.embedded.within(transaction)

    def async_transport(self) -> AsyncTransport:
        from lmdbq.client.embedded import AsyncEmbedded

        return AsyncEmbedded(self.embedded, timeout=self._timeout)


def place_of(
    where: str | os.PathLike[str] | None, *, token: str | None, timeout: float, durability: str | None
) -> Place:
    """Return the place that ``where`` names. Raises InvalidInput for what is none, or an option it does not have."""
    if where is None:
        where = os.environ.get("LMDBQ_URL") or WHERE_DEFAULT
    text = os.fspath(where)
    if isinstance(where, str) and text != MEMORY and _URL.match(text):
        _refuse(durability, "durability", "the daemon decides that: lmdbq serve --durability batch")
        return DaemonPlace(text, token=token, timeout=timeout)
    if isinstance(where, str) and (not text or _HOST_PORT.fullmatch(text)):
        raise _bad(f"{text!r} is no place; say http://HOST:PORT, unix:///PATH, a directory (./dir) or {MEMORY}")
    _refuse(token, "token", "only a daemon asks for a token")
    if text == MEMORY:
        from lmdbq.clock import SystemClock

        _refuse(durability, "durability", "memory does not last")
        return memory_place(SystemClock())
    if durability not in (None, "full", "batch"):
        raise InvalidInput([Problem("bad_durability", "durability", f"it is 'full' or 'batch', not {durability!r}")])
    return _directory_place(text, durability, timeout)


def memory_place(clock: Clock) -> EmbeddedPlace:
    """Return a queue in memory that nobody else has, and that goes by ``clock``."""
    from lmdbq.client.embedded import Embedded
    from lmdbq.client.embedded_file import open_memory

    return EmbeddedPlace(Embedded(lambda: open_memory(clock), MEMORY, is_memory=True))


def _directory_place(where: str, durability: str | None, timeout: float) -> EmbeddedPlace:
    from lmdbq.client.embedded import Embedded
    from lmdbq.client.embedded_file import open_directory

    directory = Path(where).expanduser().absolute()  # a later chdir does not move it
    return EmbeddedPlace(Embedded(lambda: open_directory(directory, durability), where, is_memory=False), timeout)


def _refuse(value: Any, name: str, why: str) -> None:
    if value is not None:
        raise InvalidInput([Problem(f"no_{name}_here", name, why)])


def _bad(detail: str) -> InvalidInput:
    return InvalidInput([Problem("bad_address", "where", detail)])
