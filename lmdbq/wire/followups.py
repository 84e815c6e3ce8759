"""What is enqueued by itself after something has ended: made from a template, in the words of the API.

A template is an ``Entry`` whose times are relative. One that has a payload of its own keeps it; one without is told
what has ended, as a JSON object. Pure, so that every store makes the same.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from lmdbq.ids import format_id, format_set_id
from lmdbq.model import Encoding, Entry, Failure, QueueSettings, SetState, SetView
from lmdbq.sets import COUNTED
from lmdbq.wire import payloads

_NOTHING: Final = Entry().payload


def has_payload(template: Entry) -> bool:
    """Whether a template has a payload of its own; null is none."""
    return template.encoding is not Encoding.JSON or template.payload != _NOTHING


def told(template: Entry, queue: str, report: dict[str, Any]) -> Entry:
    """Return the entry of a template: in ``queue`` unless it names one, with ``report`` unless it has a payload."""
    queue = template.queue or queue
    if has_payload(template):
        return replace(template, queue=queue)
    return replace(template, queue=queue, payload=msgspec.json.encode(report))


def resolve_on_dead(own: Entry | None, settings: QueueSettings, queue: str, type: str) -> Entry | None:
    """Return what is enqueued when a task of ``type`` in ``queue`` dies: what it says, else what its queue says.

    The queue's does not follow a task of its own queue and type, lest it follow itself for ever.
    """
    if own is not None or settings.on_dead is None:
        return own
    told = settings.on_dead
    return None if ((told.queue or queue), told.type) == (queue, type) else told


def after_death(
    template: Entry,
    task_id: int,
    queue: str,
    type: str,
    payload: bytes,
    encoding: Encoding,
    reason: str,
    errors: tuple[Failure, ...],
) -> Entry:
    """Return what follows the death of a task: told its id, queue, type, payload, the reason, and its failures.

    A payload of bytes (or one that cannot be read: a death must never fail) is told as ``payload_base64``.

    >>> from lmdbq.model import Entry
    >>> after_death(Entry(queue="", type="alert"), 7, "mail", "send", b"[1]", Encoding.JSON, "no_retry", ()).payload
    b'{"task_id":"tsk_00000000007","queue_name":"mail","type":"send","payload":[1],"reason":"no_retry","errors":[]}'
    """
    failures = [
        {"at": one.at, "delivery": one.delivery, "message": one.message, "type": one.type, "backtrace": one.backtrace}
        for one in errors
    ]
    place = {"task_id": format_id(task_id), "queue_name": queue, "type": type}
    return told(template, queue, {**place, **_shown(payload, encoding), "reason": reason, "errors": failures})


def after_set(one: SetView) -> Entry | None:
    """Return what follows a set that was decided, told its id, state and counts; None if nothing does.

    >>> from lmdbq.model import TaskSet
    >>> after_set(SetView(7, TaskSet(callback=Entry()), SetState.MET, 1, 0, 1)).payload
    b'{"set_id":"set_00000000007","state":"met","members":1,"succeeded":1,"dead":0,"cancelled":0,"expired":0,"deleted":0}'
    """
    template = one.set.callback if one.state is SetState.MET else one.set.on_unmet
    if template is None:
        return None
    counts = {name: getattr(one, name) for name in ("members", *COUNTED)}
    made = told(template, "default", {"set_id": format_set_id(one.id), "state": one.state.word, **counts})
    return replace(made, options=replace(made.options, callback_of=one.id))


def _shown(payload: bytes, encoding: Encoding) -> dict[str, Any]:
    if encoding is not Encoding.BYTES:
        try:
            return {"payload": msgspec.json.decode(payloads.to_json(payload, encoding), type=Raw)}
        except (msgspec.MsgspecError, UnicodeError, TypeError, RecursionError):
            pass  # what no reader of JSON could read is told as bytes
    return {"payload_base64": payloads.to_base64(payload)}
