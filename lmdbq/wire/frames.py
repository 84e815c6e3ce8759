"""What a stream sends: one frame at a time, as NDJSON or MessagePack."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType

from lmdbq.wire.answers import At, Lease, TaskAnswer, TaskId


class Heartbeat(Struct):
    """The stream is alive."""

    at: At


class CancelNotice(Struct):
    """Somebody asked for this task's cancel: stop it, and report it as failed or released."""

    id: TaskId
    lease: Lease


class Bye(Struct):
    """The stream gives no more tasks; report those you have. reason: draining, or the code of an error."""

    reason: str


class StreamFrame(Struct):
    """What a stream sends, one of these at a time."""

    task: TaskAnswer | UnsetType = UNSET
    heartbeat: Heartbeat | UnsetType = UNSET
    cancel: CancelNotice | UnsetType = UNSET
    bye: Bye | UnsetType = UNSET
