"""Every route of the daemon in one table: who may call it, what it takes and what it answers.

The application is built from it, /openapi.json is generated from it, and the tests go through it row by row.
"""

from __future__ import annotations

from typing import Any, Final

from lmdbq.daemon import handlers_daemon as about
from lmdbq.daemon import handlers_queueing as queueing
from lmdbq.daemon import handlers_queues as queues
from lmdbq.daemon import handlers_tasks as tasks
from lmdbq.daemon import handlers_workers as workers
from lmdbq.daemon.access import ADMIN, OPEN, PRODUCE, READ, WORK
from lmdbq.daemon.handlers_backup import backup
from lmdbq.daemon.handlers_stream import stream
from lmdbq.daemon.route import Parameter as Parameter
from lmdbq.daemon.route import Route as Route
from lmdbq.daemon.routes_groups import GROUPS
from lmdbq.daemon.routes_schedules import SCHEDULES
from lmdbq.daemon.routes_sets import SETS
from lmdbq.wire import answers, shapes
from lmdbq.wire.frames import StreamFrame
from lmdbq.wire.workers import WorkerAnswer, WorkerBody, WorkersAnswer

_FILTERS: Final = (
    Parameter("queue_name", shapes.QueueName, "Only tasks of this queue."),
    Parameter("type", shapes.TypeName, "Only tasks of this type."),
    Parameter("state", list[shapes.StateWord], "Only tasks in one of these states."),
    Parameter("tag", shapes.Tag, "Only tasks with this tag."),
    Parameter("dedupe_key", str, "Only the task that holds this dedupe key, in each scope."),
    Parameter("thread_id", str, "Only tasks of this thread."),
    Parameter("group_key", str, "Only tasks of this group."),
    Parameter("external_id", shapes.ExternalId, "Only the task with this external id."),
    Parameter("set_id", shapes.SetId, "Only members of this set."),
    Parameter("reason", str, "Only tasks that are dead or cancelled for this reason."),
    Parameter("priority_min", shapes.Priority, "Only tasks of this priority or more."),
    Parameter("priority_max", shapes.Priority, "Only tasks of this priority or less."),
    Parameter("attempts_min", shapes.AttemptsNumber, "Only tasks with so many attempts or more."),
    Parameter("attempts_max", shapes.AttemptsNumber, "Only tasks with so many attempts or fewer."),
    Parameter("created_from", shapes.Instant, "Only tasks accepted then or later."),
    Parameter("created_before", shapes.Instant, "Only tasks accepted earlier."),
    Parameter("scheduled_from", shapes.Instant, "Only tasks whose scheduled_at is then or later."),
    Parameter("scheduled_before", shapes.Instant, "Only tasks whose scheduled_at is earlier."),
    Parameter("ended_from", shapes.Instant, "Only tasks that ended then or later."),
    Parameter("ended_before", shapes.Instant, "Only tasks that ended earlier."),
)
_PAYLOAD: Final = Parameter("payload", shapes.PayloadWord, "none, head (the first 256 characters as text) or full.")
_IMPORT: Final = (
    Parameter("queue_name", shapes.QueueName, "NDJSON: the queue of lines that name none."),
    Parameter("from_line", int, "NDJSON: skip the lines before this one."),
    Parameter("on_error", shapes.OnErrorWord, "NDJSON: what a wrong line does to the rest."),
    Parameter("outcomes", bool, "NDJSON: answer an outcome per line."),
)

WORKING: Final = (
    Route(
        "POST",
        "/v1/enqueue",
        queueing.enqueue,
        "enqueue",
        PRODUCE,
        {200: (answers.EnqueueAnswer, answers.ImportAnswer)},
        shapes.EnqueueRequest,
        (404, 409, 507),
        _IMPORT,
        has_key=True,
    ),
    Route(
        "POST",
        "/v1/tasks",
        queueing.create_task,
        "create_task",
        PRODUCE,
        {201: answers.TaskCreated, 200: answers.TaskCreated},
        shapes.EntryBody,
        (404, 409, 507),
        has_key=True,
    ),
    Route(
        "POST", "/v1/dequeue", queueing.dequeue, "dequeue", WORK, {200: answers.DequeueAnswer}, shapes.DequeueRequest
    ),
    Route("POST", "/v1/report", queueing.report, "report", WORK, {200: answers.ReportAnswer}, shapes.ReportRequest),
    Route("POST", "/v1/extend", queueing.extend, "extend", WORK, {200: answers.ExtendAnswer}, shapes.ExtendRequest),
    Route("POST", "/v1/stream", stream, "stream", WORK, {200: StreamFrame}, shapes.Subscription),
    Route(
        "POST",
        "/v1/leases/{lease}/succeed",
        queueing.succeed,
        "succeed",
        WORK,
        {204: None},
        shapes.SucceedRequest,
        (404, 409),
    ),
    Route("POST", "/v1/leases/{lease}/fail", queueing.fail, "fail", WORK, {204: None}, shapes.FailRequest, (404, 409)),
    Route(
        "POST",
        "/v1/leases/{lease}/release",
        queueing.release,
        "release",
        WORK,
        {204: None},
        shapes.ReleaseRequest,
        (404, 409),
    ),
    Route(
        "POST",
        "/v1/leases/{lease}/extend",
        queueing.extend_one,
        "extend_lease",
        WORK,
        {200: answers.ExtendOutcome},
        shapes.ExtendOne,
        (404, 409),
    ),
)

TASKS: Final = (
    Route(
        "GET",
        "/v1/tasks",
        tasks.list_tasks,
        "list_tasks",
        READ,
        {200: answers.TasksAnswer},
        parameters=(
            *_FILTERS,
            Parameter("limit", int, "Tasks per page, 1 to 1,000; default 100."),
            Parameter("cursor", str, "`next` of the page before."),
            _PAYLOAD,
        ),
    ),
    Route(
        "GET",
        "/v1/tasks/count",
        tasks.count_tasks,
        "count_tasks",
        READ,
        {200: answers.CountAnswer},
        parameters=_FILTERS,
    ),
    Route(
        "GET",
        "/v1/tasks/by-external-id/{external_id}",
        tasks.get_task_by_external_id,
        "get_task_by_external_id",
        READ,
        {200: answers.TaskAnswer},
        errors=(404,),
        parameters=(_PAYLOAD,),
    ),
    Route(
        "POST",
        "/v1/tasks/actions",
        tasks.act,
        "act_on_tasks",
        ADMIN,
        {200: answers.ActionAnswer},
        shapes.ActionRequest,
        (404, 507),
        has_key=True,
    ),
    Route(
        "GET",
        "/v1/tasks/{id}",
        tasks.get_task,
        "get_task",
        READ,
        {200: answers.TaskAnswer},
        errors=(404, 410),
        parameters=(
            Parameter("wait_in_seconds", float, "Hold the answer back until the task has ended, at most 60 s."),
            _PAYLOAD,
        ),
    ),
    Route(
        "PATCH",
        "/v1/tasks/{id}",
        tasks.edit_task,
        "edit_task",
        PRODUCE,
        {200: answers.TaskAnswer},
        shapes.TaskFields,
        (404, 409, 410, 507),
    ),
    Route("DELETE", "/v1/tasks/{id}", tasks.delete_task, "delete_task", ADMIN, {204: None}, errors=(404, 410)),
    Route(
        "POST",
        "/v1/tasks/{id}/cancel",
        tasks.cancel_task,
        "cancel_task",
        PRODUCE,
        {200: answers.ChangeAnswer},
        errors=(404, 409, 410),
    ),
    Route(
        "POST",
        "/v1/tasks/{id}/retry",
        tasks.retry_task,
        "retry_task",
        ADMIN,
        {200: answers.ChangeAnswer},
        shapes.RetryRequest,
        errors=(404, 409, 410),
    ),
)

QUEUES: Final = (
    Route("GET", "/v1/queues", queues.list_queues, "list_queues", READ, {200: answers.QueuesAnswer}),
    Route("GET", "/v1/queues/{name}", queues.get_queue, "get_queue", READ, {200: answers.QueueAnswer}, errors=(404,)),
    Route(
        "PUT",
        "/v1/queues/{name}",
        queues.put_queue,
        "put_queue",
        ADMIN,
        {200: answers.QueueAnswer, 201: answers.QueueAnswer},
        shapes.QueueBody,
    ),
    Route(
        "PATCH",
        "/v1/queues/{name}",
        queues.patch_queue,
        "patch_queue",
        ADMIN,
        {200: answers.QueueAnswer},
        shapes.QueueBody,
        (404,),
    ),
    Route("DELETE", "/v1/queues/{name}", queues.delete_queue, "delete_queue", ADMIN, {204: None}, errors=(404,)),
    Route(
        "POST",
        "/v1/queues/{name}/pause",
        queues.pause_queue,
        "pause_queue",
        ADMIN,
        {200: answers.QueueAnswer},
        errors=(404,),
    ),
    Route(
        "POST",
        "/v1/queues/{name}/resume",
        queues.resume_queue,
        "resume_queue",
        ADMIN,
        {200: answers.QueueAnswer},
        errors=(404,),
    ),
    Route(
        "POST",
        "/v1/queues/{name}/purge",
        queues.purge_queue,
        "purge_queue",
        ADMIN,
        {200: answers.QueueRemoved},
        errors=(404,),
    ),
)

WORKERS: Final = (
    Route("GET", "/v1/workers", workers.list_workers, "list_workers", READ, {200: WorkersAnswer}),
    Route("PUT", "/v1/workers/{name}", workers.put_worker, "put_worker", WORK, {200: WorkerAnswer}, WorkerBody),
    Route(
        "POST",
        "/v1/workers/{name}/touch",
        workers.touch_worker,
        "touch_worker",
        WORK,
        {200: WorkerAnswer},
        errors=(404,),
    ),
    Route("DELETE", "/v1/workers/{name}", workers.delete_worker, "delete_worker", WORK, {204: None}),
)

ABOUT: Final = (
    Route("POST", "/v1/backup", backup, "backup", ADMIN, {200: bytes}, errors=(501, 507)),
    Route("GET", "/v1/info", about.info, "info", READ, {200: answers.InfoAnswer}),
    Route("GET", "/livez", about.live, "live", OPEN, {200: answers.HealthAnswer}),
    Route("GET", "/readyz", about.ready, "ready", OPEN, {200: answers.HealthAnswer, 503: answers.HealthAnswer}),
    Route("GET", "/metrics", about.prometheus, "metrics", READ, {200: str}),
    Route("GET", "/openapi.json", about.openapi, "openapi", OPEN, {200: dict[str, Any]}),
    Route("GET", "/", about.place, "place", OPEN, {200: answers.PlaceAnswer}),
)

ROUTES: Final = (*WORKING, *TASKS, *QUEUES, *GROUPS, *SETS, *SCHEDULES, *WORKERS, *ABOUT)
COMMON_ERRORS: Final = (400, 401, 403, 408, 413, 415, 422, 500, 503)
