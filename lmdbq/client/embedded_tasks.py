"""Tasks of an embedded queue: one and its history, pages, actions; and the commit that every verb ends in."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from msgspec import UNSET

from lmdbq.client.core import Request, error_of
from lmdbq.client.embedded_file import OpenQueue
from lmdbq.engine.finished import CODE, DETAIL
from lmdbq.errors import LmdbqError, refusal
from lmdbq.ids import parse_id
from lmdbq.model import (
    ENDED,
    WAITING,
    Cancel,
    Changed,
    ChangeDone,
    Delete,
    Done,
    Edit,
    Filter,
    Op,
    OpOutcome,
    Outcome,
    Refused,
    Retry,
    Task,
)
from lmdbq.sharing import seen_at
from lmdbq.wire import answers, filters, requests
from lmdbq.wire.problems import JSON_CODEC, Problems, status_of
from lmdbq.wire.values import format_cursor, read_cursor
from lmdbq.wire.views import action_answer, change_answer, conflict_detail, dry_answer, task_answer
from lmdbq.wire.why import why

LOOK_SECONDS: Final = 0.25  # how often who waits for a task's end looks, for ends that other processes brought about
Query = dict[str, list[str]]


def id_of(text: str) -> int:
    """Return the number of a task id. Raises NotFound."""
    try:
        return parse_id(text)
    except ValueError as bad:
        raise refusal(404, "not_found", str(bad)) from None


async def one_task(queue: OpenQueue, request: Request[Any], task_id: int, verb: str, query: Query) -> Any:
    """Carry out a request about one task."""
    match request.method, verb:
        case "GET", "":
            task = await _until_ended(queue, task_id, request.wait_seconds)
            return _shown_task(queue, task, _how(query))
        case "PATCH", "":
            entry, fields = requests.read_edit(request.body, JSON_CODEC)
            await _change(queue, Edit(task_id, entry, fields), "only a scheduled or ready task can be edited")
            return _shown_task(queue, _look(queue, task_id), "full")
        case "DELETE", "":
            await _change(queue, Delete((task_id,)), "")
            return None
        case "POST", "cancel":
            return change_answer(await _change(queue, Cancel((task_id,)), "this task has ended already"))
        case _:
            retry = Retry((task_id,), filters.read_retry(request.body, JSON_CODEC))
            return change_answer(await _change(queue, retry, "only a dead or cancelled task can be retried"))


async def _until_ended(queue: OpenQueue, task_id: int, wait_seconds: float) -> Task:
    """Return the task, when it has ended or the time is over."""
    loop = asyncio.get_running_loop()
    until = loop.time() + wait_seconds
    while True:
        moved = queue.next_move()
        found = queue.store.task(task_id, queue.clock)
        if found is Outcome.GONE and wait_seconds and await queue.engine.has_succeeded(task_id):
            raise refusal(410, CODE, DETAIL)
        task = _task_or_error(found)
        left = until - loop.time()
        if task.state in ENDED or left <= 0:
            return task
        await asyncio.wait([moved], timeout=min(left, LOOK_SECONDS))


def _look(queue: OpenQueue, task_id: int) -> Task:
    return _task_or_error(queue.store.task(task_id, queue.clock))


def _task_or_error(found: Task | Outcome) -> Task:
    if isinstance(found, Task):
        return found
    raise _missing(found)


def _missing(outcome: Outcome) -> LmdbqError:
    if outcome is Outcome.GONE:
        return refusal(
            410,
            "gone",
            "this task is no longer stored: it ended and was not kept (see `keep`), expired, or was deleted",
        )
    return refusal(404, "not_found", "no task was ever given this id")


async def _change(queue: OpenQueue, op: Cancel | Edit | Delete | Retry, conflict: str) -> Changed:
    told = await commit(queue, op)
    assert isinstance(told, ChangeDone)
    changed = told.outcomes[0]
    if changed.outcome in (Outcome.GONE, Outcome.NOT_FOUND):
        raise _missing(changed.outcome)
    detail = conflict_detail(changed, conflict)
    if detail is not None:
        raise refusal(409, changed.outcome.value, detail)
    return changed


def _shown_task(queue: OpenQueue, task: Task, how: str) -> answers.TaskAnswer:
    waiting = None
    if task.state in WAITING:
        unconsumed = () if queue.is_consumed(task.queue, task.type) else (task.type,)
        found = queue.store.queue(task.queue)
        seen = None if found is None else seen_at(found, queue.clock.steady_ns())
        waiting = why(seen, task=task, unconsumed=unconsumed)
    return task_answer(task, JSON_CODEC, payload=how, waiting_for=waiting)


def _how(query: Query) -> str:
    return query.get("payload", ["full"])[0]


def filter_of(query: Query) -> Filter:
    """Return the filter that a query says. Raises InvalidInput."""
    problems = Problems()
    wanted = filters.read_query(query, problems)
    problems.raise_if_any()
    return wanted


async def page_of_tasks(queue: OpenQueue, query: Query) -> answers.TasksAnswer:
    """Return a page of tasks."""
    problems = Problems()
    after = read_cursor(query.get("cursor", [None])[0], "/cursor", problems)
    problems.raise_if_any()
    limit = int(query.get("limit", ["100"])[0])
    page = await asyncio.to_thread(queue.store.tasks, filter_of(query), queue.clock, after, limit)
    shown = [_shown_task(queue, task, _how(query)) for task in page.tasks]
    return answers.TasksAnswer(shown, format_cursor(page.after) if page.after else UNSET)


async def act_on_tasks(queue: OpenQueue, body: bytes) -> answers.ActionAnswer:
    """Cancel, retry, delete or edit a page of the tasks that match."""
    action = filters.read_action(body, JSON_CODEC)
    page = await asyncio.to_thread(queue.store.tasks, action.wanted, queue.clock, action.after, action.limit)
    if action.dry_run:
        return dry_answer(action, page.tasks, page.after)
    changes: list[Changed] = []
    if page.tasks:
        outcome = await queue.engine.call(*action.ops([task.id for task in page.tasks]))
        queue.moved()
        for told in settled(outcome).outcomes:
            assert isinstance(told, ChangeDone)
            changes += told.outcomes
    return action_answer(action, changes, page.after)


# --- committing -------------------------------------------------------------------------------------------------------


async def commit(queue: OpenQueue, op: Op, *, size_bytes: int = 0) -> OpOutcome:
    """Commit ``op`` as a call of its own and return its outcome. Raises InvalidInput or Refusal if it is refused."""
    outcome = await queue.engine.call(op, size_bytes=size_bytes)
    queue.moved()
    return settled(outcome).outcomes[0]


_DETAILS: Final = {
    "full": "no room is left: free some disk, or purge a queue; reports and deletes still work",
    "internal": "a bug in lmdbq refused this call; nothing was changed",
}


def settled(outcome: Done | Refused) -> Done:
    """Return a call that was committed. Raises InvalidInput or Refusal for one that was refused."""
    if isinstance(outcome, Done):
        return outcome
    first = outcome.problems[0].detail if outcome.problems else f"refused: {outcome.code}"
    raise error_of(status_of(outcome), outcome.code, _DETAILS.get(outcome.code, first), outcome.problems)
