"""Why something does not run: ``why`` answers for a task, for a queue and for what a worker asks, in one order.

    reason         of                   it says
    quarantined    task                 its bytes are damaged and kept aside
    draining       all                  the daemon is stopping and hands nothing out
    paused         all                  its queue is paused
    scheduled      all                  its time has not come; of a queue or worker: nothing else is there
    retry          task                 an attempt failed; the next one has its time
    thread, group  all                  its lane lets nobody start now: who is before it, or which limit
    max_running    all                  its queue runs as many tasks as it may
    rate_limited   all                  its queue has given out as many as its rate allows
    no_consumer    task, queue          nobody asks for its type here
    other_types    worker               what is ready is of types that it does not ask for
    empty          queue, worker        nothing waits
    ready          all                  nothing stands in its way: it is taken when its turn comes

The first that is true is the answer. What a worker hears in an empty dequeue is one of these words, too; ``in_words``
says it for its log. Nothing here reads a store: the caller brings what it has looked at.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from lmdbq.model import WAITING, QueueView, State, Task
from lmdbq.wire.answers import WaitingFor

_WORDS: Final = {
    "quarantined": "its bytes were damaged and are kept aside: `lmdbq check` names it",
    "draining": "the daemon is stopping and hands nothing out; workers go on when it is back",
    "paused": "queue {queue} is paused; resume it with POST /v1/queues/{queue}/resume",
    "scheduled": "it may start at due_at",
    "thread": "it waits for its {lane}",
    "group": "it waits for its {lane}",
    "max_running": "queue {queue} runs as many tasks as its max_running allows",
    "rate_limited": "queue {queue} has given out as many tasks as its rate allows for now",
    "no_consumer": "nobody asks for type {types} of queue {queue} here; start a worker",
    "other_types": "what is ready in queue {queue} is of types that are not asked for: {types}",
    "empty": "nothing waits in queue {queue}",
    "ready": "it is taken when its turn comes",
}
REASONS: Final = frozenset({*_WORDS, "retry"})


def in_words(reason: str, queue: str, *, types: Collection[str] = (), lane: str = "thread or group") -> str:
    """Return what a reason means for people; of one that is not known (a newer daemon's), the word itself."""
    named = ", ".join(repr(name) for name in sorted(types))
    return _WORDS.get(reason, reason).format(queue=queue, types=named, lane=lane)


def why(
    queue: QueueView | None,
    *,
    task: Task | None = None,
    types: Collection[str] = (),
    unconsumed: Collection[str] = (),
    draining: bool = False,
) -> WaitingFor | None:
    """Return why nothing of ``queue`` runs (or why ``task``, which is its task, does not); None for a task that does
    not wait, and for a queue that is not known.

    types: what a worker asks for, empty = all. unconsumed: the types of the queue that are ready and that nobody asks
    for.
    """
    if queue is None or (task is not None and task.state not in WAITING):
        return None
    if draining:
        return _said("draining", queue)
    if queue.settings.paused:
        return _said("paused", queue)
    if task is not None:
        return _why_task(queue, task, unconsumed)
    ready = {name for name, counts in queue.counts.items() if counts.get(State.READY.word)}
    if not ready:
        if queue.next_due_at:
            return WaitingFor("scheduled", "the next task may start at due_at", queue.next_due_at)
        return _said("empty", queue)
    if queue.blocked_by:
        return _said(queue.blocked_by, queue)
    if types and not ready & set(types):
        return _said("other_types", queue, ready)
    if not queue.oldest_ready_at:  # counted, and not to be had: every one of them stands behind others in its lane
        return _said("group", queue)
    if unconsumed and ready <= set(unconsumed):
        return _said("no_consumer", queue, unconsumed)
    return _said("ready", queue)


def _why_task(queue: QueueView, task: Task, unconsumed: Collection[str]) -> WaitingFor:
    if task.state is State.SCHEDULED:
        if task.failures:
            return WaitingFor("retry", f"attempt {task.failures} failed; the next one starts at due_at", task.due_at)
        return WaitingFor("scheduled", _WORDS["scheduled"], task.due_at)
    if task.waiting_for:
        return _said("thread" if task.options.thread else "group", queue, lane=task.waiting_for)
    if queue.blocked_by:
        return _said(queue.blocked_by, queue)
    if task.type in unconsumed:
        return _said("no_consumer", queue, (task.type,))
    return _said("ready", queue)


def _said(reason: str, queue: QueueView, types: Collection[str] = (), lane: str = "thread or group") -> WaitingFor:
    return WaitingFor(reason, in_words(reason, queue.name, types=types, lane=lane))
