"""From what callers send to what the engine runs: bodies in, entries and ops out.

The work is in ``read_enqueue``. A batch of plain entries decodes into a small Struct and becomes entries that share
``model.PLAIN``; everything else takes the full shape, one entry at a time, and collects all that is wrong with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType
from msgspec.structs import replace

from lmdbq import limits
from lmdbq.model import (
    PLAIN,
    Dedupe,
    Encoding,
    Entry,
    Options,
    UniformEntries,
)
from lmdbq.wire import payloads, shapes, values
from lmdbq.wire.policies import dedupe_of, keep_of, retry_of
from lmdbq.wire.problems import Codec, Problems, check_parseable, decode_as, explain

FIELD_OF_KEY: Final = {
    **{name: name for name in ("payload", "type", "priority", "scheduled_at", "expires_at", "retry_strategy")},
    **{name: name for name in ("keepalive_timeout_in_seconds", "keep", "tags", "metadata")},
    "payload_base64": "payload",
    "delay_in_seconds": "scheduled_at",
    "expires_in_seconds": "expires_at",
}


class Batch(NamedTuple):
    """A decoded /v1/enqueue. Entries that are alike but for their payload come as UniformEntries, in JSON."""

    entries: Sequence[Entry]
    return_tasks: bool


class Incoming:
    """Accepts the raw values of one body, whichever format it is in. Raises NotParseable for JSON that is not UTF-8."""

    def __init__(self, body: bytes, codec: Codec) -> None:
        self.text = payloads.BodyText(body) if codec.is_json else None

    @property
    def plain(self) -> bool:
        """Whether values can be taken as they are, but for depth and line breaks."""
        return self.text is not None and not self.text.numbers

    def accept(self, raw: Raw) -> tuple[bytes, Encoding]:
        if self.text is not None:
            return self.text.accept(bytes(raw)), Encoding.JSON
        return payloads.accept_msgpack(bytes(raw))


def read_enqueue(body: bytes, codec: Codec) -> Batch:
    """Return the entries of a /v1/enqueue body. Raises NotParseable or InvalidInput."""
    accept = Incoming(body, codec)
    if accept.plain:
        batch = _plain_batch(body, codec, accept)
        if batch is not None:
            return batch
    problems = Problems()
    try:
        request = codec.decoder(shapes.EnqueueRequest).decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        _explain_batch(body, codec, accept, problems)
        problems.raise_if_any()
        raise
    queue = request.queue_name
    if queue is not None:
        values.check_queue_name(queue, "/queue_name", problems)
    entries = []
    for index, entry in enumerate(request.entries):
        entries.append(to_entry(entry, queue or "default", f"/entries/{index}", problems, accept))
        if problems.full:
            break
    problems.raise_if_any()
    return Batch(entries, request.return_tasks)


def _plain_batch(body: bytes, codec: Codec, accept: Incoming) -> Batch | None:
    """Return a batch whose entries say payload, type, priority, queue and dedupe key only; None if it is not one, or is
    wrong."""
    try:
        request = codec.decoder(shapes.PlainRequest).decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    text = accept.text
    assert text is not None
    queues = {entry.queue_name for entry in request.entries}
    kinds = {entry.type for entry in request.entries}
    problems = Problems()
    for name in (queues | {request.queue_name}) - {None}:
        values.check_queue_name(name, "", problems)
    for name in kinds:
        values.check_type_name(name, "", problems)
    kept: list[bytes | Raw] = [entry.payload for entry in request.entries]
    longest = max(map(len, kept))
    if problems.found or longest > limits.PAYLOAD_BYTES_MAX:
        return None
    if text.breaks or longest > 2 * limits.PAYLOAD_DEPTH_MAX:
        try:
            kept = [text.accept(bytes(raw)) for raw in kept]
        except payloads.Unreadable:
            return None
    keys = [entry.dedupe_key for entry in request.entries]
    text_of_keys = "".join(keys)
    if not (text_of_keys.isascii() and text_of_keys.isprintable()):  # else they need a look each
        return None
    if len(queues) == len(kinds) == len({entry.priority for entry in request.entries}) == 1:
        first = request.entries[0]
        place = (first.queue_name or request.queue_name, first.type, Encoding.JSON, first.priority)
        if not text_of_keys:
            return Batch(UniformEntries(kept, *place), request.return_tasks)
        if all(keys):
            return Batch(UniformEntries(kept, *place, keys), request.return_tasks)
    entries = [
        Entry(
            bytes(payload),
            entry.queue_name or request.queue_name,
            entry.type,
            Encoding.JSON,
            entry.priority,
            options=Options(dedupe=Dedupe(entry.dedupe_key)) if entry.dedupe_key else PLAIN,
        )
        for payload, entry in zip(kept, request.entries, strict=True)
    ]
    return Batch(entries, request.return_tasks)


def _explain_batch(body: bytes, codec: Codec, accept: Incoming, problems: Problems) -> None:
    """Say all that is wrong with a body that is no EnqueueRequest, wrong values of the sound entries included."""
    check_parseable(body, codec)
    try:
        outer = codec.decoder(dict[str, Raw]).decode(body)
        entries = codec.decoder(list[Raw]).decode(outer["entries"])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError):
        decode_as(shapes.EnqueueRequest, body, codec)
        return
    if not 1 <= len(entries) <= limits.ENTRIES_MAX:
        problems.add("out_of_range", "/entries", f"a call takes 1 to {limits.ENTRIES_MAX} entries, not {len(entries)}")
        return
    rest = codec.encode({**outer, "entries": [{}]})
    explain(shapes.EnqueueRequest, rest, codec, "", problems)
    for index, raw in enumerate(entries):
        if problems.full:
            return
        pointer = f"/entries/{index}"
        try:
            entry = codec.decoder(shapes.EntryBody).decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            explain(shapes.EntryBody, bytes(raw), codec, pointer, problems)
        else:
            to_entry(entry, "default", pointer, problems, accept)


def read_entry(body: bytes, codec: Codec, queue: str = "default") -> Entry:
    """Return the one entry of a POST /v1/tasks body or of an import line. Raises NotParseable or InvalidInput."""
    accept = Incoming(body, codec)
    shape = decode_as(shapes.EntryBody, body, codec)
    problems = Problems()
    entry = to_entry(shape, queue, "", problems, accept)
    problems.raise_if_any()
    return entry


def to_entry(entry: shapes.EntryBody, queue: str, pointer: str, problems: Problems, accept: Incoming) -> Entry:
    """Return an entry in engine units; what is wrong with it goes to ``problems``."""
    if entry.queue_name is not None:
        values.check_queue_name(entry.queue_name, f"{pointer}/queue_name", problems)
        queue = entry.queue_name
    made = _to_entry(entry, queue, dedupe_of(entry, pointer, problems), pointer, problems, accept)
    if entry.thread_id or entry.group_key or entry.rejoin:
        return replace(made, options=_laned(made.options, entry, pointer, problems))
    return made


def _laned(options: Options, entry: shapes.EntryBody, pointer: str, problems: Problems) -> Options:
    """Return options with the thread or the group that an entry names."""
    thread, group = entry.thread_id or "", entry.group_key or ""
    if thread and group:
        detail = "a task has a thread or a group: give thread_id for strict order, group_key for a cap or a rate"
        problems.add("both_given", f"{pointer}/group_key", detail)
    if entry.rejoin and not thread:
        problems.add("missing_field", f"{pointer}/thread_id", "rejoin needs a thread_id")
    for name, said in (("thread_id", thread), ("group_key", group)):
        if said:
            values.check_lane_name(said, f"{pointer}/{name}", problems)
    return replace(options, thread=thread, group=group, rejoin=bool(entry.rejoin))


def read_edit(body: bytes, codec: Codec) -> tuple[Entry, tuple[str, ...]]:
    """Return (values, fields to overwrite) of a PATCH /v1/tasks/{id} body. Raises NotParseable or InvalidInput."""
    accept = Incoming(body, codec)
    shape = decode_as(shapes.TaskFields, body, codec)
    said = codec.decoder(dict[str, Raw]).decode(body)
    problems = Problems()
    entry = _to_entry(shape, "default", None, "", problems, accept)
    fields = tuple(dict.fromkeys(FIELD_OF_KEY[name] for name in said))
    if not fields:
        problems.add("missing_field", "", "name at least one field to change")
    problems.raise_if_any()
    return entry, fields


def _to_entry(
    entry: shapes.TaskFields, queue: str, dedupe: Dedupe | None, pointer: str, problems: Problems, accept: Incoming
) -> Entry:
    kind = entry.type
    if kind is not None:
        values.check_type_name(kind, f"{pointer}/type", problems)
    payload, encoding = _payload(entry, pointer, problems, accept)
    return Entry(
        payload,
        queue,
        "default" if kind is None else kind,
        encoding,
        entry.priority or 0,
        *_times(entry, pointer, problems),
        _options(entry, dedupe, pointer, problems, accept),
    )


def _times(entry: shapes.TaskFields, pointer: str, problems: Problems) -> tuple[int, int, int, int]:
    """Return (scheduled_at, delay, expires_at, expires_in) in ns. Most entries say none of them."""
    at, delay, expires_at, expires_in = (
        entry.scheduled_at,
        entry.delay_in_seconds,
        entry.expires_at,
        entry.expires_in_seconds,
    )
    if at is None is delay and expires_at is None is expires_in:
        return 0, 0, 0, 0
    _only_one(at, delay, "scheduled_at", "delay_in_seconds", pointer, problems)
    _only_one(expires_at, expires_in, "expires_at", "expires_in_seconds", pointer, problems)
    return (
        values.instant_ns(at, f"{pointer}/scheduled_at", problems),
        values.duration_ns(delay, f"{pointer}/delay_in_seconds", problems),
        values.instant_ns(expires_at, f"{pointer}/expires_at", problems),
        values.duration_ns(expires_in, f"{pointer}/expires_in_seconds", problems, low_ns=limits.US_NS),
    )


def _only_one(first: Any, second: Any, name: str, other: str, pointer: str, problems: Problems) -> None:
    if first and second is not None:
        problems.add("both_given", f"{pointer}/{other}", f"give {name} or {other}, not both")


def _payload(entry: shapes.TaskFields, pointer: str, problems: Problems, accept: Incoming) -> tuple[bytes, Encoding]:
    try:
        if entry.payload_base64 is not None:
            if entry.payload is not UNSET:
                problems.add("both_given", f"{pointer}/payload_base64", "give payload or payload_base64, not both")
            kept = payloads.accept_base64(entry.payload_base64), Encoding.BYTES
        elif entry.payload is not UNSET:
            kept = accept.accept(entry.payload)
        else:
            return b"null", Encoding.JSON
    except payloads.Unreadable as bad:
        name = "payload" if entry.payload_base64 is None else "payload_base64"
        problems.add(bad.code, f"{pointer}/{name}", bad.detail)
        return b"null", Encoding.JSON
    if len(kept[0]) > limits.PAYLOAD_BYTES_MAX:
        problems.add(
            "payload_too_large",
            f"{pointer}/payload",
            f"a payload has at most {limits.PAYLOAD_BYTES_MAX} bytes, this one {len(kept[0])}; "
            "put the data elsewhere and send where it is",
        )
    return kept


def _options(
    entry: shapes.TaskFields, dedupe: Dedupe | None, pointer: str, problems: Problems, accept: Incoming
) -> Options:
    said = entry.keepalive_timeout_in_seconds
    if said is None is entry.retry_strategy and entry.keep is None is entry.tags and entry.metadata is UNSET:
        return PLAIN if dedupe is None else Options(dedupe=dedupe)
    keepalive = values.keepalive_ns(said, f"{pointer}/keepalive_timeout_in_seconds", problems)
    for index, tag in enumerate(entry.tags or ()):
        values.check_text(tag, f"{pointer}/tags/{index}", problems, limits.TAG_BYTES_MAX)
    options = Options(
        keepalive,
        retry_of(entry.retry_strategy, f"{pointer}/retry_strategy", problems),
        keep_of(entry.keep, f"{pointer}/keep", problems),
        dedupe,
        tuple(entry.tags or ()),
        _metadata(entry.metadata, f"{pointer}/metadata", problems, accept),
    )
    return PLAIN if options == PLAIN else options


def _metadata(raw: Raw | UnsetType, pointer: str, problems: Problems, accept: Incoming) -> bytes:
    if raw is UNSET:
        return b""
    try:
        kept, encoding = accept.accept(raw)
        text = b"" if encoding is Encoding.BYTES else payloads.to_json(kept, encoding)
    except payloads.Unreadable as bad:
        problems.add(bad.code, pointer, bad.detail)
        return b""
    if text == b"null":
        return b""
    if text[:1] != b"{":
        problems.add("wrong_type", pointer, "metadata is an object")
    elif len(text) > limits.METADATA_BYTES_MAX:
        problems.add("out_of_range", pointer, f"metadata has at most {limits.METADATA_BYTES_MAX} bytes of JSON")
    return b"" if text == b"{}" else text
