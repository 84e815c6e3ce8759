"""What travels between a client and the daemon, without any I/O: a request for each verb, and the meaning of an answer.

Every function here is pure: it builds a ``Request``, which knows the Struct its answer is, or reads an answer's status
and body. Whoever owns the socket sends the one and hands in the other, so a second front end repeats nothing of it;
``conversation`` says when to send again. Bodies and answers are the shapes of ``wire``: there is no second
vocabulary to learn.

The trap is sending twice. A connection that breaks after the request has left says nothing about whether it was carried
out. ``Request.repeatable`` is True only where a repetition cannot do harm: reads, requests with an idempotency key or a
claim id, reports and extensions (a lease is a fence), and settings that are replaced as a whole.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeAlias, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from lmdbq.client.decoders import decoder_of
from lmdbq.errors import InvalidInput, LmdbqError, refusal
from lmdbq.ids import parse_id
from lmdbq.wire import answers
from lmdbq.wire.shapes import DequeueRequest, EntryBody, ExtendEntry, ReportEntry, ReportRequest
from lmdbq.wire.workers import WorkerAnswer, WorkersAnswer

if TYPE_CHECKING:
    from lmdbq.model import Problem

T = TypeVar("T")
Fields: TypeAlias = Mapping[str, Any]
JSON_TYPE: Final = "application/json"
_INVALID: Final = frozenset({400, 422})

_encode: Final = msgspec.json.Encoder().encode


class Request(NamedTuple, Generic[T]):
    """One HTTP request. answer: the Struct its answer is; None: no body is wanted.

    wait_seconds: how long the daemon may hold the answer back, beyond what any call may take. timeout_seconds: how long
    this one may take, None = as the client says.
    """

    method: str
    target: str
    answer: type[T]
    body: bytes = b""
    headers: Mapping[str, str] = {}
    repeatable: bool = False
    wait_seconds: float = 0.0
    timeout_seconds: float | None = None


def key_at(wall_ns: int, noise: bytes) -> str:
    """Return a fresh idempotency key or claim id: the time first, so that neighbours in time are neighbours on disk.

    wall_ns: Unix ns. noise: 8 random bytes.

    >>> key_at(1, b"12345678")
    '00000000000000013132333435363738'
    """
    return wall_ns.to_bytes(8, "big").hex() + noise.hex()


# --- requests ---------------------------------------------------------------------------------------------------------


def reading(
    path: str, answer: type[T], query: Mapping[str, object] | None = None, wait_seconds: float = 0.0
) -> Request[T]:
    """Return a request that reads."""
    said = [(name, text) for name, value in (query or {}).items() for text in _query_texts(value)]
    target = f"{path}?{urlencode(said)}" if said else path
    return Request("GET", target, answer, repeatable=True, wait_seconds=wait_seconds)


def _query_texts(value: object) -> list[str]:
    """Return how often and as what a query parameter is written: a list is repeated, what is not said is left out."""
    if value is None or value == "":
        return []
    if isinstance(value, bool):
        return ["true" if value else "false"]
    return [str(each) for each in value] if isinstance(value, (list, tuple)) else [str(value)]


def sending(
    method: str,
    path: str,
    answer: type[T],
    body: object,
    *,
    repeatable: bool = False,
    wait_seconds: float = 0.0,
    key: str = "",
) -> Request[T]:
    """Return a request with a body. repeatable: whether it may be sent twice. key: its idempotency key."""
    headers = {"Content-Type": JSON_TYPE}
    if key:
        headers["Idempotency-Key"] = key
    return Request(method, path, answer, _encode(body), headers, repeatable, wait_seconds)


def raw(json: bytes) -> msgspec.Raw:
    """Return JSON as a value that is sent as it is."""
    return msgspec.Raw(json)


def said(**fields: object) -> dict[str, object]:
    """Return the fields that were said: None says nothing."""
    return {name: value for name, value in fields.items() if value is not None}


def entry_body(entry: EntryBody | Fields) -> EntryBody | Fields:
    """Return ``entry`` with a payload of bytes as the base64 field in which JSON carries it."""
    if isinstance(entry, EntryBody) or not isinstance(entry.get("payload"), (bytes, bytearray)):
        return entry
    rest = {name: value for name, value in entry.items() if name != "payload"}
    return {**rest, "payload_base64": base64.b64encode(entry["payload"]).decode("ascii")}


def enqueue(
    entries: Sequence[EntryBody | Fields], *, queue_name: str | None, return_tasks: bool, key: str, lease: str = ""
) -> Request[answers.EnqueueAnswer]:
    """Accept ``entries`` (1..10,000; a mapping has the API's field names, and its payload may be bytes).

    lease: of the task that runs here and adds to its set, "" for none.
    """
    bodies = [entry_body(each) for each in entries]
    body = said(queue_name=queue_name, return_tasks=return_tasks, lease=lease or None, entries=bodies)
    return sending("POST", "/v1/enqueue", answers.EnqueueAnswer, body, repeatable=True, key=key)


def dequeue(wanted: DequeueRequest) -> Request[answers.DequeueAnswer]:
    """Claim tasks."""
    wait = wanted.wait_in_seconds
    return sending(
        "POST", "/v1/dequeue", answers.DequeueAnswer, wanted, repeatable=bool(wanted.claim_id), wait_seconds=wait
    )


def report(reports: Sequence[ReportEntry], then: DequeueRequest | None = None) -> Request[answers.ReportAnswer]:
    """Say how attempts ended, and with ``then`` claim more in the same transaction."""
    body = ReportRequest(reports=list(reports), dequeue=then)
    repeatable = then is None or bool(then.claim_id)
    wait = then.wait_in_seconds if then else 0.0
    return sending("POST", "/v1/report", answers.ReportAnswer, body, repeatable=repeatable, wait_seconds=wait)


def extend(leases: Sequence[ExtendEntry]) -> Request[answers.ExtendAnswer]:
    """Prolong leases."""
    return sending("POST", "/v1/extend", answers.ExtendAnswer, {"leases": list(leases)}, repeatable=True)


def _task_path(task_id: str, verb: str = "") -> str:
    return f"/v1/tasks/{quote(task_id, safe='')}{verb}"


def task(task_id: str, *, wait: float = 0.0, payload: str | None = None) -> Request[answers.TaskAnswer]:
    """Read one task; with ``wait`` (seconds, <= 60) the answer is held back until the task has ended."""
    return reading(_task_path(task_id), answers.TaskAnswer, {"wait_in_seconds": wait or None, "payload": payload}, wait)


def tasks(filters: Mapping[str, object]) -> Request[answers.TasksAnswer]:
    """Read a page of tasks; ``filters`` are the query's fields, ``cursor`` among them."""
    return reading("/v1/tasks", answers.TasksAnswer, filters)


def count(filters: Mapping[str, object]) -> Request[answers.CountAnswer]:
    """Count the tasks that match."""
    return reading("/v1/tasks/count", answers.CountAnswer, filters)


def cancel(task_id: str) -> Request[answers.ChangeAnswer]:
    """Cancel a waiting task; ask a running one to stop."""
    return sending("POST", _task_path(task_id, "/cancel"), answers.ChangeAnswer, {})


def retry(task_id: str, to: str | None = None) -> Request[answers.ChangeAnswer]:
    """Make a dead or cancelled task ready again, in the queue ``to`` if one is named."""
    return sending("POST", _task_path(task_id, "/retry"), answers.ChangeAnswer, said(queue_name=to))


def edit(task_id: str, fields: Fields) -> Request[answers.TaskAnswer]:
    """Overwrite ``fields`` of a waiting task."""
    return sending("PATCH", _task_path(task_id), answers.TaskAnswer, entry_body(fields))


def delete(task_id: str) -> Request[None]:
    """Remove a task in any state."""
    return Request("DELETE", _task_path(task_id), type(None))


def queues() -> Request[answers.QueuesAnswer]:
    """Read every queue."""
    return reading("/v1/queues", answers.QueuesAnswer)


def _queue_path(name: str, verb: str = "") -> str:
    return f"/v1/queues/{quote(name, safe='')}{verb}"


def queue(name: str) -> Request[answers.QueueAnswer]:
    """Read one queue."""
    return reading(_queue_path(name), answers.QueueAnswer)


def put_queue(name: str, settings: Fields) -> Request[answers.QueueAnswer]:
    """Create a queue, or replace all its settings."""
    return sending("PUT", _queue_path(name), answers.QueueAnswer, settings, repeatable=True)


def patch_queue(name: str, settings: Fields) -> Request[answers.QueueAnswer]:
    """Replace the named settings of a queue."""
    return sending("PATCH", _queue_path(name), answers.QueueAnswer, settings, repeatable=True)


def delete_queue(name: str) -> Request[None]:
    """Remove a queue and every task of it."""
    return Request("DELETE", _queue_path(name), type(None))


def pause(name: str) -> Request[answers.QueueAnswer]:
    """Stop handing out tasks of a queue."""
    return sending("POST", _queue_path(name, "/pause"), answers.QueueAnswer, {}, repeatable=True)


def resume(name: str) -> Request[answers.QueueAnswer]:
    """Hand out tasks of a queue again."""
    return sending("POST", _queue_path(name, "/resume"), answers.QueueAnswer, {}, repeatable=True)


def purge(name: str) -> Request[answers.QueueRemoved]:
    """Remove every task of a queue. Not repeatable: a second one would take what came in between."""
    return sending("POST", _queue_path(name, "/purge"), answers.QueueRemoved, {})


def workers() -> Request[WorkersAnswer]:
    """Read who works, and what is known of types."""
    return reading("/v1/workers", WorkersAnswer)


def register(name: str, said: Fields) -> Request[WorkerAnswer]:
    """Say that a worker runs; to be repeated, as a daemon forgets it after a minute."""
    return sending("PUT", f"/v1/workers/{quote(name, safe='')}", WorkerAnswer, said, repeatable=True)


def touch(name: str, timeout_seconds: float) -> Request[WorkerAnswer]:
    """Say that a worker still runs. Refused (``worker_not_found``) by a daemon that does not know it."""
    path = f"/v1/workers/{quote(name, safe='')}/touch"
    said = sending("POST", path, WorkerAnswer, {}, repeatable=True)
    return said._replace(timeout_seconds=timeout_seconds)


def unregister(name: str) -> Request[None]:
    """Say that a worker ends."""
    return Request("DELETE", f"/v1/workers/{quote(name, safe='')}", type(None), repeatable=True)


def info() -> Request[answers.InfoAnswer]:
    """Read facts about the daemon: version, settings, durability, the file."""
    return reading("/v1/info", answers.InfoAnswer)


def health(ready: bool) -> Request[answers.HealthAnswer]:
    """Ask whether the daemon lives, or (``ready``) takes writes. Not repeatable: its 503 is the answer."""
    return Request("GET", "/readyz" if ready else "/livez", answers.HealthAnswer)


# --- answers ----------------------------------------------------------------------------------------------------------


def interpret(request: Request[T], status: int, content_type: str, body: bytes) -> T:
    """Return the answer of a call that succeeded.

    Raises InvalidInput (400, 422: the values are wrong), Refusal (any other status of 300 and above), LmdbqError (the
    answer is none that a daemon gives).
    """
    if status < 300:
        try:
            return decoder_of(request.answer).decode(b"null" if request.answer is type(None) else body)
        except msgspec.DecodeError as error:
            raise LmdbqError(f"this is no answer of an lmdbq daemon of this version: {error}") from error
    said = _problem_answer(status, content_type, body)
    raise error_of(status, said.code, said.detail, [_problem(each) for each in said.problems or ()])


def error_of(status: int, code: str, detail: str, problems: Sequence[Problem] = ()) -> LmdbqError:
    """Return the error of a call that was refused: InvalidInput where values are wrong, else a Refusal."""
    if status in _INVALID and problems:
        return InvalidInput(problems)
    return refusal(status, code, detail, problems)


def _problem_answer(status: int, content_type: str, body: bytes) -> answers.ProblemAnswer:
    """Return what the daemon says is wrong, or, for a refusal that is not in its words (a proxy's), one in ours."""
    foreign = answers.ProblemAnswer(
        "about:blank", "", status, f"http_{status}", f"the answer was HTTP status {status}", ""
    )
    if "json" not in content_type:
        return foreign
    try:
        return decoder_of(answers.ProblemAnswer).decode(body)
    except msgspec.DecodeError:
        return foreign


def _problem(item: answers.ProblemItem) -> Problem:
    from lmdbq.model import Problem  # not above: what is right needs no model, and a command line starts faster

    return Problem(item.code, item.pointer, item.detail, parse_id(item.holder) if item.holder else 0)


def payload_of(task: answers.TaskAnswer) -> Any:
    """Return a task's payload: the JSON value, bytes, or None if the answer has none."""
    if task.payload_base64:
        return base64.b64decode(task.payload_base64)
    return msgspec.json.decode(task.payload) if task.payload else None


def result_of(task: answers.TaskAnswer) -> Any:
    """Return a task's result: the JSON value, bytes, or None if there is none."""
    if task.result_base64:
        return base64.b64decode(task.result_base64)
    return msgspec.json.decode(task.result) if task.result else None
