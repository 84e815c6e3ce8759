"""From what callers send to what the engine runs: bodies in, entries and ops out.

The work is in ``read_enqueue``. A batch of plain entries decodes into a small Struct and becomes entries that share
``model.PLAIN``; everything else takes the full shape, one entry at a time, and collects all that is wrong with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec import UNSET, Raw
from msgspec.structs import replace

from lmdbq import limits
from lmdbq.errors import InvalidInput
from lmdbq.model import (
    PLAIN,
    Dedupe,
    Encoding,
    Entry,
    Options,
    UniformEntries,
)
from lmdbq.wire import bare_shapes, bounds, fields, payloads, shapes, values
from lmdbq.wire.policies import dedupe_of, keep_of, retry_of, spelled_out
from lmdbq.wire.problems import Codec, Problems, check_parseable, decode_as, explain, fields_of, translate

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
    lease: tuple[int, int] = (0, 0)


def read_enqueue(body: bytes, codec: Codec) -> Batch:
    """Return the entries of a /v1/enqueue body. Raises NotParseable or InvalidInput."""
    is_bounded = bounds.check_lists(body, codec)
    accept = fields.Incoming(body, codec)
    if accept.text is not None:
        batch = _bare_batch(body, codec, accept) or _plain_batch(body, codec, accept)
        if batch is not None:
            return batch
    problems = Problems()
    try:
        request = codec.decoder(shapes.EnqueueRequest).decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as bad:
        check_parseable(body, codec)
        if is_bounded:
            _explain_batch(body, codec, accept, problems)
        if not problems.found:  # a key stands there twice: each field that counts is right, and an earlier one is not
            problems.add(*translate(bad, ""))
        raise InvalidInput(problems.found) from None
    queue = request.queue_name
    if queue is not None:
        values.check_queue_name(queue, "/queue_name", problems)
    entries = to_entries(request.entries, queue or "default", problems, accept)
    lease = values.lease_of(request.lease, "/lease", problems)
    problems.raise_if_any()
    return Batch(entries, request.return_tasks, lease)


def to_entries(
    said: Sequence[shapes.EntryBody], queue: str, problems: Problems, accept: fields.Incoming
) -> list[Entry]:
    """Return the `entries` of a body in engine units; what is wrong with them goes to ``problems``."""
    entries = []
    for index, entry in enumerate(said):
        entries.append(to_entry(entry, queue, f"/entries/{index}", problems, accept))
        if problems.full:
            break
    return entries


def _bare_batch(body: bytes, codec: Codec, accept: fields.Incoming) -> Batch | None:
    """Return a batch whose entries say their payload only, or that and a dedupe key; None if it is not one, or is
    wrong. With keys it takes two thirds of the time of ``_plain_batch``, without half; a batch that is not one is known
    by its first entry, which costs 3 us."""
    keys: list[str] = []
    try:
        request = codec.decoder(bare_shapes.PayloadsRequest).decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            request = codec.decoder(bare_shapes.KeyedRequest).decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        keys = [entry.dedupe_key for entry in request.entries]
    problems = Problems()
    values.check_queue_name(request.queue_name, "", problems)
    kept = _kept([entry.payload for entry in request.entries], accept)
    if kept is None or problems.found or not _are_plain("".join(keys)):
        return None
    return Batch(UniformEntries(kept, request.queue_name, keys=keys), request.return_tasks)


def _are_plain(keys: str) -> bool:
    """Whether keys, of which this is the text, are surely well formed; others need a look each."""
    return keys.isascii() and keys.isprintable()


def _kept(given: list[Raw], accept: fields.Incoming) -> Sequence[bytes | Raw] | None:
    """Return payloads as they are kept; None if one is wrong."""
    text = accept.text
    assert text is not None
    longest = max(map(len, given))
    if longest > limits.PAYLOAD_BYTES_MAX:
        return None
    is_short = longest <= 2 * limits.PAYLOAD_DEPTH_MAX
    if not text.breaks and is_short and not payloads.any_perhaps_large(given, longest):
        return given
    try:
        return [text.accept(bytes(raw)) for raw in given]
    except payloads.Unreadable:
        return None


def _plain_batch(body: bytes, codec: Codec, accept: fields.Incoming) -> Batch | None:
    """Return a batch whose entries say payload, type, priority, queue and dedupe key only; None if it is not one, or is
    wrong."""
    try:
        request = codec.decoder(bare_shapes.PlainRequest).decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    queues = {entry.queue_name for entry in request.entries}
    kinds = {entry.type for entry in request.entries}
    problems = Problems()
    for name in (queues | {request.queue_name}) - {None}:
        values.check_queue_name(name, "", problems)
    for name in kinds:
        values.check_type_name(name, "", problems)
    kept = _kept([entry.payload for entry in request.entries], accept)
    if kept is None or problems.found:
        return None
    keys = [entry.dedupe_key for entry in request.entries]
    text_of_keys = "".join(keys)
    if not _are_plain(text_of_keys):
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


def _explain_batch(body: bytes, codec: Codec, accept: fields.Incoming, problems: Problems) -> None:
    """Say all that is wrong with a body that is no EnqueueRequest, wrong values of the sound entries included."""
    outer = fields_of(shapes.EnqueueRequest, body, codec)
    try:
        entries = codec.decoder(list[Raw]).decode(outer["entries"]) if outer else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError):
        entries = None
    if outer is None or entries is None:
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
    accept = fields.Incoming(body, codec)
    shape = decode_as(shapes.EntryBody, body, codec)
    problems = Problems()
    entry = to_entry(shape, queue, "", problems, accept)
    problems.raise_if_any()
    return entry


def to_entry(entry: shapes.EntryBody, queue: str, pointer: str, problems: Problems, accept: fields.Incoming) -> Entry:
    """Return an entry in engine units; what is wrong with it goes to ``problems``."""
    if entry.queue_name is not None:
        values.check_queue_name(entry.queue_name, f"{pointer}/queue_name", problems)
        queue = entry.queue_name
    if entry.debounce is not None or entry.throttle is not None or entry.coalesce is not None:
        entry = spelled_out(entry, pointer, problems)
    made = _to_entry(entry, queue, dedupe_of(entry, pointer, problems), pointer, problems, accept)
    if entry.thread_id or entry.group_key or entry.rejoin:
        made = replace(made, options=_laned(made.options, entry, pointer, problems))
    if entry.external_id:
        values.check_text(entry.external_id, f"{pointer}/external_id", problems, limits.NAME_BYTES_MAX)
        made = replace(made, options=replace(made.options, external_id=entry.external_id))
    if entry.set_id:
        set_id = values.set_id_of(entry.set_id, f"{pointer}/set_id", problems)
        made = replace(made, options=replace(made.options, set_id=set_id))
    if entry.on_dead is None:
        return made
    follower = template_of(entry.on_dead, f"{pointer}/on_dead", problems, accept)
    return replace(made, options=replace(made.options, on_dead=follower))


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


def template_of(said: shapes.EntryBody, pointer: str, problems: Problems, accept: fields.Incoming) -> Entry:
    """Return an entry that is to be enqueued later, by itself: its times are relative, and nothing follows it.

    Without a queue_name its queue is "".
    """
    for name in ("scheduled_at", "expires_at", "on_dead", "set_id"):
        if getattr(said, name) is not None:
            problems.add("not_in_template", f"{pointer}/{name}", f"what is enqueued by itself later has no {name}")
    made = to_entry(said, "", pointer, problems, accept)
    if 0 < made.expires_in_ns <= made.delay_ns:
        problems.add("expires_too_early", f"{pointer}/expires_in_seconds", "it must be longer than delay_in_seconds")
    return made


def read_edit(body: bytes, codec: Codec) -> tuple[Entry, tuple[str, ...]]:
    """Return (values, fields to overwrite) of a PATCH /v1/tasks/{id} body. Raises NotParseable or InvalidInput."""
    problems = Problems()
    read = read_fields(body, codec, "", problems)
    problems.raise_if_any()
    return read


def read_fields(body: bytes, codec: Codec, pointer: str, problems: Problems) -> tuple[Entry, tuple[str, ...]]:
    """Return (values, fields to overwrite) of an object of a task's fields. Raises NotParseable or InvalidInput."""
    accept = fields.Incoming(body, codec)
    shape = decode_as(shapes.TaskFields, body, codec)
    said = codec.decoder(dict[str, Raw]).decode(body)
    entry = _to_entry(shape, "default", None, pointer, problems, accept)
    named = tuple(dict.fromkeys(FIELD_OF_KEY[name] for name in said))
    if not named:
        problems.add("missing_field", pointer, "name at least one field to change")
    return entry, named


def _to_entry(
    entry: shapes.TaskFields,
    queue: str,
    dedupe: Dedupe | None,
    pointer: str,
    problems: Problems,
    accept: fields.Incoming,
) -> Entry:
    kind = entry.type
    if kind is not None:
        values.check_type_name(kind, f"{pointer}/type", problems)
    payload, encoding = fields.payload(entry, pointer, problems, accept)
    return Entry(
        payload,
        queue,
        "default" if kind is None else kind,
        encoding,
        entry.priority or 0,
        *fields.times(entry, pointer, problems),
        _options(entry, dedupe, pointer, problems, accept),
    )


def _options(
    entry: shapes.TaskFields, dedupe: Dedupe | None, pointer: str, problems: Problems, accept: fields.Incoming
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
        fields.metadata(entry.metadata, f"{pointer}/metadata", problems, accept),
    )
    return PLAIN if options == PLAIN else options
