"""One attempt at a task: its arguments decoded, its arounds entered, its function run, its end reported.

The same here, on an event loop, and in a child process; only who calls it differs. Lifespans are entered through
``Lifespans``, once for each group of tasks and each place.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable
from typing import Any

from lmdbq.client.binding import BadPayload
from lmdbq.client.context import Context, in_context
from lmdbq.client.directives import report_of
from lmdbq.client.reports import succeeded
from lmdbq.client.tasks import Task, Tasks
from lmdbq.wire.answers import TaskAnswer
from lmdbq.wire.shapes import ReportEntry


def _arguments(task: Task[..., Any], answer: TaskAnswer) -> inspect.BoundArguments:
    if answer.payload_base64:
        raise BadPayload("the payload is bytes; this task wants a JSON object of named arguments")
    return task.binding.unbind(bytes(answer.payload or b"null"))


def attempt(task: Task[..., Any], answer: TaskAnswer, context: Context, run: Callable[[Any], Any]) -> ReportEntry:
    """Run a task in this thread and return its report. run: what to do with the coroutine of an async one."""
    lease = answer.lease or ""
    try:
        bound = _arguments(task, answer)
        with in_context(context), contextlib.ExitStack() as stack:
            for around in task.tasks.arounds:
                stack.enter_context(contextlib.contextmanager(around)(context))
            result = task.function(*bound.args, **bound.kwargs)
            return succeeded(lease, run(result) if task.is_coroutine else result)
    except BaseException as error:  # noqa: BLE001  (whatever a handler raises is its task's failure)
        return report_of(error, lease, task.dead_on)


async def attempt_async(task: Task[..., Any], answer: TaskAnswer, context: Context) -> ReportEntry:
    """Run a task on this event loop and return its report. Raises CancelledError if it is cancelled."""
    lease = answer.lease or ""
    try:
        bound = _arguments(task, answer)
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(in_context(context))
            for around in task.tasks.arounds:
                if inspect.isasyncgenfunction(around):
                    await stack.enter_async_context(contextlib.asynccontextmanager(around)(context))
                else:
                    stack.enter_context(contextlib.contextmanager(around)(context))
            return succeeded(lease, await task.function(*bound.args, **bound.kwargs))
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001  (SystemExit would end the loop, others the hope of a report)
        return report_of(error, lease, task.dead_on)


class Lifespans:
    """What the lifespans of groups of tasks yielded, while they last. enter: runs a coroutine to its end."""

    def __init__(self, run: Callable[[Any], Any]) -> None:
        self._run = run
        self._states: dict[int, Any] = {}
        self._stack = contextlib.ExitStack()

    def state(self, group: Tasks) -> Any:
        """Return what the group's lifespan yielded; it is entered now if it has not been."""
        if group.lifespan is None:
            return None
        if id(group) not in self._states:
            self._states[id(group)] = self._enter(group.lifespan)
        return self._states[id(group)]

    def _enter(self, lifespan: Callable[[], Any]) -> Any:
        if inspect.isgeneratorfunction(lifespan):
            return self._stack.enter_context(contextlib.contextmanager(lifespan)())
        if not inspect.isasyncgenfunction(lifespan):
            raise TypeError("a lifespan is a generator function, sync or async, that yields once")
        entered = contextlib.asynccontextmanager(lifespan)()
        state = self._run(entered.__aenter__())
        self._stack.callback(lambda: self._run(entered.__aexit__(None, None, None)))
        return state

    def close(self) -> None:
        """Leave them, the last first. Raises what they raise."""
        self._states.clear()
        self._stack.close()
