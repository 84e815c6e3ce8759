"""What a running task knows of itself: ``lmdbq.current()``."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from lmdbq.client.directives import Stopped
from lmdbq.client.info import TaskInfo

_log: Final = logging.getLogger("lmdbq.task")


class Context:
    """One attempt. task: as it was claimed (``attempts`` counts this one). log: a logger that names the task.

    stop: an event that is set when going on is pointless; ``check`` looks at it. In a process it never is: there, the
    process is ended. state: what the lifespan yielded.
    """

    def __init__(self, task: TaskInfo, stop: threading.Event, tell: Callable[[float], None], state: Any) -> None:
        self.task = task
        self.stop = stop
        self.state = state
        self.log = logging.LoggerAdapter(_log, {"task_id": task.id, "task_type": task.type})
        self._tell = tell

    def progress(self, share: float) -> None:
        """Say how much is done, 0..1. It is shown with the task, at most once a second. Raises ValueError, Stopped."""
        if not 0 <= share <= 1:
            raise ValueError(f"progress is a number from 0 to 1, not {share}")
        self.check()
        self._tell(float(share))  # numpy's numbers, say, are none that a heartbeat could carry

    def check(self) -> None:
        """Raise Stopped if going on is pointless. Cheap: call it wherever a long task can end."""
        if self.stop.is_set():
            raise Stopped(f"{self.task.id} is to stop")


_current: ContextVar[Context] = ContextVar("lmdbq_context")


def current() -> Context:
    """Return the context of the task that runs here. Raises RuntimeError outside of one."""
    try:
        return _current.get()
    except LookupError:
        raise RuntimeError("no task runs here; current() is for functions that a worker runs") from None


def lease_in(bodies: Iterable[Mapping[str, Any]]) -> str:
    """Return the lease of the task that runs here if one of ``bodies`` (entries of the API) names its set, else "".

    With it a running task may add to its set even when that is closed.
    """
    context = _current.get(None)
    if context is None or not context.task.set:
        return ""
    named = any(body.get("set_id") == context.task.set for body in bodies)
    return f"{context.task.id}.{context.task.deliveries}" if named else ""


@contextmanager
def in_context(context: Context) -> Iterator[Context]:
    """Make ``context`` the current one for the length of a block."""
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)
