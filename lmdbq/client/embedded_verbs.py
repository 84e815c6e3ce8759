"""The verbs of the API without HTTP: a ``core.Request`` in, the Struct of its answer out, on an engine in this process.

``answer`` is the routing table; a function stands below it for each request that ``core`` can make. Bodies are read by
the readers of ``wire``, as the daemon reads them, so a wrong value is refused in the same words here and there. What
the daemon has besides (tokens, idempotency keys, settings) answers questions that do not arise without a wire. It must
run on the engine's loop.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final, NoReturn
from urllib.parse import parse_qs, unquote

import msgspec

from lmdbq import __version__
from lmdbq.client.core import Request
from lmdbq.client.embedded_file import OpenQueue
from lmdbq.client.embedded_groups import all_groups, all_rules, one_group, one_rule, threads_of
from lmdbq.client.embedded_schedules import all_schedules, one_schedule
from lmdbq.client.embedded_sets import all_sets, make_set, one_set
from lmdbq.client.embedded_tasks import (
    act_on_tasks,
    commit,
    filter_of,
    id_of,
    one_task,
    page_of_tasks,
    settled,
)
from lmdbq.engine.groups import consumers_of
from lmdbq.errors import refusal
from lmdbq.ids import format_id
from lmdbq.model import (
    Call,
    Claimed,
    Enqueue,
    Enqueued,
    ExtendDone,
    OpOutcome,
    Purge,
    QueueChanged,
    QueueDelete,
    QueuePatch,
    QueuePut,
    QueueSettings,
    QueueView,
    ReportDone,
    State,
    Task,
)
from lmdbq.sharing import seen_at
from lmdbq.wire import answers, render, render_claims, reports, requests
from lmdbq.wire.problems import JSON_CODEC, Problems
from lmdbq.wire.queue_settings import read_queue
from lmdbq.wire.registrations import read_registration
from lmdbq.wire.values import check_queue_name
from lmdbq.wire.views import queue_answer
from lmdbq.wire.workers import WorkerAnswer

_enqueue_answer: Final = msgspec.json.Decoder(answers.EnqueueAnswer).decode


async def answer(queue: OpenQueue, request: Request[Any]) -> Any:
    """Carry out ``request``. Raises what an HTTP client's call raises, and the engine's own errors (StoreError)."""
    path, _, text = request.target.partition("?")
    words = [unquote(word) for word in path.split("/")[2:]]
    query = parse_qs(text)
    match request.method, *words:
        case "POST", "enqueue":
            return await _enqueue(queue, request.body)
        case "POST", "dequeue":
            return await _dequeue(queue, request.body)
        case "POST", "report":
            return await _report(queue, request.body)
        case "POST", "extend":
            return await _extend(queue, request.body)
        case "GET", "tasks":
            return await page_of_tasks(queue, query)
        case "GET", "tasks", "count":
            return answers.CountAnswer(await asyncio.to_thread(queue.store.count, filter_of(query)))
        case "POST", "tasks", "actions":
            return await act_on_tasks(queue, request.body)
        case _, "tasks", task_id, *verb:
            return await one_task(queue, request, id_of(task_id), "".join(verb), query)
        case "GET", "info":
            return await _info(queue)
        case "GET", "queues":
            return answers.QueuesAnswer([_shown_queue(queue, one) for one in queue.store.queues()])
        case "GET", "workers":
            return queue.workers.answer(queue.clock.wall_ns(), queue.store.types())
        case "POST", "workers", name, "touch":
            return queue.workers.touch(name, queue.clock.wall_ns()) or _unknown_worker()
        case _, "workers", name:
            return await _one_worker(queue, request, name)
        case "GET", "queues", name, "threads":
            return await threads_of(queue, name, query)
        case "GET", "groups":
            return await all_groups(queue, query)
        case _, "groups", key, *verb:
            return await one_group(queue, request, key, "".join(verb))
        case "GET", "group-rules":
            return await all_rules(queue)
        case _, "group-rules", pattern:
            return await one_rule(queue, request, pattern)
        case _, "queues", name, *verb:
            return await _one_queue(queue, request, name, "".join(verb))
        case "POST", "sets":
            return await make_set(queue, request.body)
        case "GET", "sets":
            return await all_sets(queue, query)
        case _, "sets", set_id, *verb:
            return await one_set(queue, request, set_id, "".join(verb))
        case "GET", "schedules":
            return await all_schedules(queue)
        case _, "schedules", name, *verb:
            return await one_schedule(queue, request, name, "".join(verb), query)
    raise refusal(404, "no_such_path", f"a queue without a daemon has no {request.method} {path}")


# --- producers and workers --------------------------------------------------------------------------------------------


async def _enqueue(queue: OpenQueue, body: bytes) -> answers.EnqueueAnswer:
    batch = requests.read_enqueue(body, JSON_CODEC)
    done = await commit(queue, Enqueue(batch.entries, lease=batch.lease), size_bytes=len(body))
    assert isinstance(done, Enqueued)
    wanted = {placed.id for placed in done.odd.values() if placed.deduped}
    found = {number: queue.store.task(number, queue.clock) for number in wanted}
    return enqueued(batch, done, {number: task for number, task in found.items() if isinstance(task, Task)})


def enqueued(batch: requests.Batch, done: Enqueued, stored: Mapping[int, Task]) -> answers.EnqueueAnswer:
    """Return the answer of an enqueue. stored: the tasks whose keys were taken, as they are now."""
    # The daemon's text and its decoder: for a large batch four times as fast as to make the Structs here.
    return _enqueue_answer(render.enqueue_answer(batch, done, stored, JSON_CODEC))


async def _dequeue(queue: OpenQueue, body: bytes) -> answers.DequeueAnswer:
    wanted = reports.read_dequeue(body, JSON_CODEC)
    if wanted.wait_seconds:
        queue.keep_time()
    claimed, _ = await queue.engine.dequeue(wanted.claim, wanted.wait_seconds)
    return _given(queue, claimed)


def _given(queue: OpenQueue, claimed: Claimed) -> answers.DequeueAnswer:
    return render_claims.dequeue_struct(claimed, queue.clock.wall_ns(), JSON_CODEC)


async def _report(queue: OpenQueue, body: bytes) -> answers.ReportAnswer:
    said = reports.read_report(body, JSON_CODEC)
    if said.dequeue is None:
        return answers.ReportAnswer(_reported(said, await commit(queue, said.op, size_bytes=len(body))))
    queue.keep_time()
    after = Call((said.op,)) if said.leases else None
    claimed, outcome = await queue.engine.dequeue(said.dequeue.claim, said.dequeue.wait_seconds, after=after)
    queue.moved()
    try:
        outcomes = [] if outcome is None else _reported(said, settled(outcome).outcomes[0])
    except BaseException:
        await queue.engine.release(claimed)
        raise
    given = _given(queue, claimed)
    return answers.ReportAnswer(outcomes, given.tasks, given.reason, given.retry_in_seconds)


def _reported(said: reports.Reports, told: OpOutcome) -> list[answers.ReportOutcome]:
    assert isinstance(told, ReportDone)
    return render_claims.report_outcomes(said.leases, told.outcomes)


async def _extend(queue: OpenQueue, body: bytes) -> answers.ExtendAnswer:
    said = reports.read_extend(body, JSON_CODEC)
    told = await commit(queue, said.op, size_bytes=len(body))
    assert isinstance(told, ExtendDone)
    return answers.ExtendAnswer(render_claims.extend_outcomes(said.leases, told.outcomes))


# --- about the queue itself -------------------------------------------------------------------------------------------


async def _info(queue: OpenQueue) -> answers.InfoAnswer:
    """Return what a daemon would say of its file; it has no settings here, and was started by nobody."""
    store = await asyncio.to_thread(queue.store.info)
    return answers.InfoAnswer(
        version=__version__,
        python=platform.python_version(),
        lmdb=version("lmdb"),
        durability=queue.durability,
        now=queue.clock.wall_ns(),
        started_at=0,
        store={**msgspec.to_builtins(store), "last_id": format_id(store.last_id)},
        engine=msgspec.to_builtins(queue.engine.status()),
        settings=[],
        defaults=[],
    )


def _unknown_worker() -> NoReturn:
    raise refusal(404, "worker_not_found", "no worker of this name is known here")


async def _one_worker(queue: OpenQueue, request: Request[Any], name: str) -> WorkerAnswer | None:
    if request.method == "DELETE":
        queue.workers.forget(name)
        return None
    said = read_registration(name, request.body, JSON_CODEC)
    changes = queue.workers.changes(said, queue.store.types())
    if changes:
        settled(await queue.engine.call(*changes))
        queue.moved()
    return queue.workers.note(said, queue.clock.wall_ns())


# --- queues -----------------------------------------------------------------------------------------------------------


async def _one_queue(queue: OpenQueue, request: Request[Any], name: str, verb: str) -> Any:
    match request.method, verb:
        case "GET", "":
            return _look_queue(queue, name)
        case "PUT", "":
            problems = Problems()
            check_queue_name(name, "/name", problems)
            problems.raise_if_any()
            return await _set_queue(queue, QueuePut(name, read_queue(request.body, JSON_CODEC)[0]))
        case "PATCH", "":
            return await _set_queue(queue, QueuePatch(name, *read_queue(request.body, JSON_CODEC)))
        case "DELETE", "":
            await commit(queue, QueueDelete(name))
            return None
        case "POST", "purge":
            told = await commit(queue, Purge(name))
            assert isinstance(told, QueueChanged)
            return answers.QueueRemoved(told.queue, told.tasks)
        case _:
            return await _set_queue(queue, QueuePatch(name, QueueSettings(paused=verb == "pause"), ("paused",)))


async def _set_queue(queue: OpenQueue, op: QueuePut | QueuePatch) -> answers.QueueAnswer:
    await commit(queue, op)
    return _look_queue(queue, op.queue)


def _look_queue(queue: OpenQueue, name: str) -> answers.QueueAnswer:
    found = queue.store.queue(name)
    if found is None:
        raise refusal(404, "queue_not_found", f"there is no queue {name[:128]!r}; its first task makes it")
    return _shown_queue(queue, found)


def _shown_queue(queue: OpenQueue, view: QueueView) -> answers.QueueAnswer:
    view = seen_at(view, queue.clock.steady_ns())
    consumers = consumers_of(queue.engine.consumers(), view.name)
    ready = [kind for kind, counts in view.counts.items() if counts.get(State.READY.word)]
    unconsumed = [kind for kind in ready if not queue.is_consumed(view.name, kind)]
    return queue_answer(view, queue.clock.wall_ns(), consumers.parked if consumers else 0, unconsumed, JSON_CODEC)
