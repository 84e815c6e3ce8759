"""A worker says what it is: at its start, and again every few seconds, as a daemon forgets it when it restarts.

It goes by a thread of its own, on which nothing else depends: a daemon that is away, or does not know of workers, keeps
nobody from working. It is also how a worker learns that the daemon is another one: a machine that vanished, or a
process that hangs, leaves connections on which no answer ever comes, and a claim could wait there for most of a minute
while the next daemon has tasks. The one that answers here does not know this worker; then all connections are given up.

What a worker says of its types (defaults, the schema of their payloads) is kept by the queue, so that tasks from curl,
cron and the command line are treated as those that Python enqueues.
"""

from __future__ import annotations

import itertools
import os
import socket
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from lmdbq.client import core
from lmdbq.client.leases import log
from lmdbq.client.options import fields_of
from lmdbq.client.places import Transport
from lmdbq.client.tasks import Task
from lmdbq.errors import InvalidInput, LmdbqError, Refusal
from lmdbq.limits import TYPES_PER_QUEUE_MAX

REPEAT_SECONDS: Final = 1.0
TOUCH_SECONDS: Final = 0.75  # for a daemon to answer; one that is only slow is asked again
UNKNOWN: Final = "worker_not_found"
_count: Final = itertools.count(1)
_PLAIN: Final = ("keepalive_timeout_in_seconds", "expires_in_seconds", "retry_strategy", "keep")
_DEDUPE: Final = {
    "dedupe_scope": "scope",
    "dedupe_until": "until",
    "dedupe_ttl_in_seconds": "ttl_in_seconds",
    "on_duplicate": "on_duplicate",
    "overwrite_on_duplicate": "overwrite_on_duplicate",
}


class Registrar:
    """Registers one worker for as long as it runs. types: see ``said_types``; empty: it runs every type."""

    def __init__(
        self, transport: Transport, *, queues: Sequence[str], types: Sequence[Mapping[str, Any]], concurrency: int
    ) -> None:
        self.name: Final = f"{socket.gethostname()}-{os.getpid()}-{next(_count)}"[:128]
        self._transport = transport
        said = {"queue_names": list(queues), "types": list(types)[:TYPES_PER_QUEUE_MAX], "concurrency": concurrency}
        self._request = core.register(self.name, said)
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to say it."""
        self._over.clear()
        self._thread = threading.Thread(target=self._run, name="lmdbq-registrar", daemon=True)
        self._thread.start()

    def close(self, seconds: float) -> None:
        """Stop saying it, and wait up to ``seconds`` until the daemon knows. Closing twice is harmless."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(seconds)
            self._thread = None

    def _run(self) -> None:
        touch = core.touch(self.name, TOUCH_SECONDS)
        request: core.Request[Any] = self._request
        while not self._over.is_set():
            found = self._say(request)
            if found is None:
                return
            if found:
                request = touch
            elif request is touch:
                self._transport.renew()
                request = self._request
                continue
            self._over.wait(REPEAT_SECONDS)
        self._say(core.unregister(self.name))

    def _say(self, request: core.Request[Any]) -> bool | None:
        """Send a request. True: it was heard; False: the daemon does not know this worker (any more), or there is
        none; None: another request would be no use."""
        try:
            self._transport.call(request, self._over)
        except (InvalidInput, Refusal) as error:
            if isinstance(error, Refusal) and (error.code == UNKNOWN or error.status >= 429):
                return error.code != UNKNOWN
            level = log.warning if isinstance(error, InvalidInput) else log.debug
            level("this worker is not registered: %s", error)
            return None
        except LmdbqError as error:
            log.debug("this worker is not registered for now: %s", error)
            return request is not self._request
        except Exception as error:  # a worker that ends now closes its connections under whoever uses them
            if not self._over.is_set():
                raise
            log.debug("the worker has ended in the middle of saying so: %r", error)
            return None
        return True


def said_types(tasks: Mapping[str, Task[..., Any]]) -> list[dict[str, Any]]:
    """Return what a worker says of the types of its functions."""
    return [_said_type(name, task) for name, task in tasks.items()]


def said_names(names: Iterable[str]) -> list[dict[str, Any]]:
    """Return what a worker says of types of which it knows the names only."""
    return [{"type": name} for name in names]


def _said_type(name: str, task: Task[..., Any]) -> dict[str, Any]:
    fields = fields_of(task.options)
    defaults: dict[str, Any] = {field: fields[field] for field in _PLAIN if field in fields}
    rules = {rule: fields[field] for field, rule in _DEDUPE.items() if field in fields}
    if rules:
        defaults["dedupe"] = rules
    said: dict[str, Any] = {"type": name}
    if defaults:
        said["defaults"] = defaults
    schema = task.binding.schema
    return said if schema is None else {**said, "schema": msgspec.to_builtins(schema)}
