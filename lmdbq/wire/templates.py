"""Entries that were kept, to be enqueued later or again (what follows a death, say), as they travel back to people.

What comes out can be sent again: it is the shape of an entry, and says what the entry says.
"""

from __future__ import annotations

from typing import Any, cast

from msgspec import UNSET, Raw, UnsetType

from lmdbq.model import Dedupe, Encoding, Entry, Fold, OnDuplicate, Order, Scope, Until
from lmdbq.wire import payloads, shapes, values
from lmdbq.wire.followups import has_payload
from lmdbq.wire.policies import keep_answer, retry_answer
from lmdbq.wire.problems import Codec


def template_answer(entry: Entry, codec: Codec) -> shapes.EntryBody:
    """Return an entry as it travels in ``codec``."""
    options = entry.options
    payload: Raw | UnsetType = UNSET
    if has_payload(entry) and (entry.encoding is not Encoding.BYTES or not codec.is_json):
        is_json = codec.is_json
        payload = Raw((payloads.to_json if is_json else payloads.to_msgpack)(entry.payload, entry.encoding))
    in_base64 = entry.encoding is Encoding.BYTES and codec.is_json
    return shapes.EntryBody(
        queue_name=entry.queue or None,
        type=entry.type,
        payload=payload,
        payload_base64=payloads.to_base64(entry.payload) if in_base64 else None,
        priority=entry.priority or None,
        delay_in_seconds=values.seconds(entry.delay_ns) or None,
        expires_in_seconds=values.seconds(entry.expires_in_ns) or None,
        keepalive_timeout_in_seconds=values.seconds(options.keepalive_ns) or None,
        retry_strategy=None if options.retry is None else retry_answer(options.retry),
        keep=None if options.keep is None else keep_answer(options.keep),
        thread_id=options.thread or None,
        rejoin=options.rejoin or None,
        group_key=options.group or None,
        external_id=options.external_id or None,
        tags=list(options.tags) or None,
        metadata=Raw(codec.of_json(options.metadata)) if options.metadata else UNSET,
        on_dead=None if options.on_dead is None else template_answer(options.on_dead, codec),
        **({} if options.dedupe is None else _dedupe_fields(options.dedupe)),
    )


def _dedupe_fields(dedupe: Dedupe) -> dict[str, Any]:
    return {
        "dedupe_key": dedupe.key,
        "dedupe_scope": word_of(dedupe.scope),
        "dedupe_until": word_of(dedupe.until),
        "dedupe_ttl_in_seconds": values.seconds(dedupe.ttl_ns) or None,
        "on_duplicate": word_of(dedupe.on_duplicate),
        "overwrite_on_duplicate": list(dedupe.overwrite) or None,
        "dedupe_max_wait_in_seconds": values.seconds(dedupe.max_wait_ns) or None,
        "fold": word_of(dedupe.fold),
        "fold_max": dedupe.fold_max or None,
    }


def word_of(member: Scope | Until | OnDuplicate | Fold | Order | None) -> Any:
    """Return the word of a rule, None for none."""
    return None if member is None else cast("Any", member.name.lower())
