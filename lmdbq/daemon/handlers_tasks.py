"""What people ask about tasks: one and its history, lists, counts, and actions on one or on all that match."""

from __future__ import annotations

import asyncio

from aiohttp import web
from msgspec import UNSET

from lmdbq import limits
from lmdbq.daemon.context import DAEMON, LOOK_SECONDS, Daemon
from lmdbq.daemon.replies import (
    HttpProblem,
    bad_parameter,
    codec_in,
    codec_out,
    memo_of,
    number,
    only_parameters,
    read_body,
    reply,
    settled,
)
from lmdbq.engine.finished import CODE, DETAIL
from lmdbq.ids import parse_id
from lmdbq.model import (
    ENDED,
    WAITING,
    Cancel,
    Changed,
    ChangeDone,
    Delete,
    Edit,
    Filter,
    Memo,
    Outcome,
    QueueView,
    Retry,
    Task,
)
from lmdbq.sharing import seen_at
from lmdbq.wire import filters, requests
from lmdbq.wire.answers import CountAnswer, TaskAnswer, TasksAnswer
from lmdbq.wire.problems import Codec, Problems
from lmdbq.wire.values import check_text, format_cursor, read_cursor
from lmdbq.wire.views import action_answer, change_answer, conflict_detail, dry_answer, task_answer
from lmdbq.wire.why import why


async def get_task(request: web.Request) -> web.StreamResponse:
    """GET /v1/tasks/{id}; with ?wait_in_seconds= held back until the task has ended."""
    only_parameters(request, "wait_in_seconds", "payload")
    daemon = request.app[DAEMON]
    task_id = _task_id(request)
    wait = number(request, "wait_in_seconds", 0, 0, limits.WAIT_SECONDS_MAX)
    how = _payload_parameter(request)
    if wait:
        task = await _until_ended(daemon, task_id, wait)
    else:
        task = _look(daemon, task_id)
    return reply(request, _shown(daemon, task, codec_out(request), how))


async def _until_ended(daemon: Daemon, task_id: int, wait_seconds: float) -> Task:
    """Return the task when it has ended, the time is over, or the daemon stops. Raises as ``_look`` does."""
    loop = asyncio.get_running_loop()
    until = loop.time() + wait_seconds
    with daemon.endings.watch(task_id) as touched:
        while True:
            found = daemon.store.task(task_id, daemon.clock)
            if found is Outcome.GONE and await daemon.engine.has_succeeded(task_id):
                raise HttpProblem(410, CODE, DETAIL)
            task = _task_or_problem(found)
            left = until - loop.time()
            if task.state in ENDED or left <= 0 or daemon.draining.is_set():
                return task
            touched.clear()
            try:
                async with asyncio.timeout(min(left, LOOK_SECONDS)):
                    await touched.wait()
            except TimeoutError:
                continue  # the store is asked again: an end may come from elsewhere


async def get_task_by_external_id(request: web.Request) -> web.StreamResponse:
    """GET /v1/tasks/by-external-id/{external_id}: the stored task that another system knows by this id."""
    only_parameters(request, "payload")
    daemon = request.app[DAEMON]
    external_id = request.match_info["external_id"]
    problems = Problems()
    check_text(external_id, "", problems, limits.NAME_BYTES_MAX)
    wanted = Filter(external_id=external_id)
    found = [] if problems.found else daemon.store.tasks(wanted, daemon.clock, limit=1).tasks
    if not found:
        raise HttpProblem(404, "not_found", "no stored task has this external id")
    return reply(request, _shown(daemon, found[0], codec_out(request), _payload_parameter(request)))


def _look(daemon: Daemon, task_id: int) -> Task:
    return _task_or_problem(daemon.store.task(task_id, daemon.clock))


def _task_or_problem(found: Task | Outcome) -> Task:
    if isinstance(found, Task):
        return found
    raise _missing(found)


def _missing(outcome: Outcome) -> HttpProblem:
    if outcome is Outcome.GONE:
        return HttpProblem(
            410,
            "gone",
            "this task is no longer stored: it ended and was not kept (see `keep`), expired, or was deleted",
        )
    return HttpProblem(404, "not_found", "no task was ever given this id")


def _task_id(request: web.Request) -> int:
    try:
        return parse_id(request.match_info["id"])
    except ValueError as bad:
        raise HttpProblem(404, "not_found", str(bad)) from None


def _payload_parameter(request: web.Request) -> str:
    how = request.query.get("payload", "full")
    if how not in ("none", "head", "full"):
        raise bad_parameter("payload", "it is none, head or full")
    return how


def _shown(
    daemon: Daemon, task: Task, codec: Codec, how: str = "full", queues: dict[str, QueueView | None] | None = None
) -> TaskAnswer:
    """Return a task as people see it. queues: those looked at already, when many tasks are shown."""
    waiting = None
    if task.state in WAITING:
        known = {} if queues is None else queues
        if task.queue not in known:
            found = daemon.store.queue(task.queue)
            known[task.queue] = None if found is None else seen_at(found, daemon.clock.steady_ns())
        unconsumed = () if daemon.is_consumed(task.queue, task.type) else (task.type,)
        waiting = why(known[task.queue], task=task, unconsumed=unconsumed, draining=daemon.draining.is_set())
    return task_answer(task, codec, payload=how, waiting_for=waiting)


async def list_tasks(request: web.Request) -> web.StreamResponse:
    """GET /v1/tasks."""
    only_parameters(request, *filters.FILTER_NAMES, "limit", "cursor", "payload")
    daemon = request.app[DAEMON]
    limit = int(number(request, "limit", 100, 1, limits.PAGE_TASKS_MAX))
    how = _payload_parameter(request)
    problems = Problems()
    wanted = _filter(request, problems)
    after = read_cursor(request.query.get("cursor"), "/cursor", problems)
    problems.raise_if_any()
    page = await asyncio.to_thread(daemon.store.tasks, wanted, daemon.clock, after, limit)
    codec = codec_out(request)
    shown: list[TaskAnswer] = []
    queues: dict[str, QueueView | None] = {}
    bytes_left = limits.CLAIM_BYTES_MAX
    following = page.after
    for task in page.tasks:
        bytes_left -= len(task.payload) + len(task.result or b"") if how == "full" else 0
        if bytes_left < 0 and shown:
            following = parse_id(shown[-1].id)
            break
        shown.append(_shown(daemon, task, codec, how, queues))
    return reply(request, TasksAnswer(shown, format_cursor(following) if following else UNSET))


def _filter(request: web.Request, problems: Problems) -> Filter:
    return filters.read_query({name: request.query.getall(name) for name in request.query}, problems)


async def count_tasks(request: web.Request) -> web.StreamResponse:
    """GET /v1/tasks/count."""
    only_parameters(request, *filters.FILTER_NAMES)
    daemon = request.app[DAEMON]
    problems = Problems()
    wanted = _filter(request, problems)
    problems.raise_if_any()
    return reply(request, CountAnswer(await asyncio.to_thread(daemon.store.count, wanted)))


# --- one task ---------------------------------------------------------------------------------------------------------


async def edit_task(request: web.Request) -> web.StreamResponse:
    """PATCH /v1/tasks/{id}: change a waiting task."""
    only_parameters(request)
    daemon = request.app[DAEMON]
    task_id = _task_id(request)
    body = await read_body(request)
    entry, fields = requests.read_edit(body, codec_in(request))
    done = settled(await daemon.engine.call(Edit(task_id, entry, fields), size_bytes=len(body)))
    _one(done.outcomes[0], "only a scheduled or ready task can be edited")
    return reply(request, _shown(daemon, _look(daemon, task_id), codec_out(request)))


async def delete_task(request: web.Request) -> web.StreamResponse:
    """DELETE /v1/tasks/{id}, in any state."""
    await _change(request, Delete((_task_id(request),)), "")
    return web.Response(status=204)


async def cancel_task(request: web.Request) -> web.StreamResponse:
    """POST /v1/tasks/{id}/cancel: a running task is asked to stop at its next extend."""
    changed = await _change(request, Cancel((_task_id(request),)), "this task has ended already")
    return reply(request, change_answer(changed))


async def retry_task(request: web.Request) -> web.StreamResponse:
    """POST /v1/tasks/{id}/retry: a dead or cancelled task becomes ready again, where it was or in another queue."""
    queue = filters.read_retry(await read_body(request), codec_in(request))
    changed = await _change(request, Retry((_task_id(request),), queue), "only a dead or cancelled task can be retried")
    return reply(request, change_answer(changed))


async def _change(request: web.Request, op: Cancel | Delete | Retry, conflict: str) -> Changed:
    only_parameters(request)
    daemon = request.app[DAEMON]
    done = settled(await daemon.engine.call(op))
    changed = _one(done.outcomes[0], conflict)
    _tell(daemon, [changed])
    return changed


def _one(outcome: object, conflict: str) -> Changed:
    """Return the one change of a call. Raises HttpProblem if it was none."""
    assert isinstance(outcome, ChangeDone)
    changed = outcome.outcomes[0]
    if changed.outcome in (Outcome.GONE, Outcome.NOT_FOUND):
        raise _missing(changed.outcome)
    detail = conflict_detail(changed, conflict)
    if detail is not None:
        raise HttpProblem(409, changed.outcome.value, detail)
    return changed


# --- many tasks -------------------------------------------------------------------------------------------------------


async def act(request: web.Request) -> web.StreamResponse:
    """POST /v1/tasks/actions: cancel, delete, retry or edit one page of the tasks that match."""
    only_parameters(request)
    daemon = request.app[DAEMON]
    codec = codec_in(request)
    body = await read_body(request)
    action = filters.read_action(body, codec)
    memo = memo_of(request, daemon, body)
    page = await asyncio.to_thread(daemon.store.tasks, action.wanted, daemon.clock, action.after, action.limit)
    following = page.after
    if action.dry_run:
        return reply(request, dry_answer(action, page.tasks, following))
    changes, replayed = await _act(daemon, action, [task.id for task in page.tasks], memo)
    if replayed:
        following = await asyncio.to_thread(_behind, daemon, action, changes)
    return reply(request, action_answer(action, changes, following))


async def _act(daemon: Daemon, action: filters.Action, ids: list[int], memo: Memo | None) -> tuple[list[Changed], bool]:
    """Return what became of the tasks, and whether that was so long ago: then they need not be those of ``ids``."""
    if not ids and memo is None:
        return [], False
    changes: list[Changed] = []
    done = settled(await daemon.engine.call(*action.ops(ids), memo=memo))
    for one in done.outcomes:
        assert isinstance(one, ChangeDone)
        changes += one.outcomes
    if not done.replayed:
        _tell(daemon, changes)
    return changes, done.replayed


def _behind(daemon: Daemon, action: filters.Action, changes: list[Changed]) -> int:
    """Return where the page after one that was carried out before begins, 0 if nothing is left.

    The page as it is found now has tasks of which that request knew nothing; who goes on behind them leaves them out.
    """
    last = changes[-1].id if changes else action.after
    page = daemon.store.tasks(action.wanted, daemon.clock, last, limit=1)
    return page.tasks[0].id - 1 if page.tasks else page.after


def _tell(daemon: Daemon, changes: list[Changed]) -> None:
    """Tell who waits; a running task that was only asked to stop still has its lease."""
    daemon.ended(one.id for one in changes if one.outcome is Outcome.OK)
