"""The batches that most producers send: entries that say little, in Structs of just these fields.

What is small decodes fast: a batch whose entries say nothing but their payload takes half the time of ``PlainRequest``,
which takes a quarter of that of ``shapes.EnqueueRequest``. Each is tried in its turn; a body that is none of them is
known by its first entry. The trap: no schema here checks names and texts, so ``requests`` does.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Raw, Struct

from lmdbq import limits
from lmdbq.wire import shapes


class PlainEntry(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """The entry most producers send. A batch of these decodes four times as fast; anything else takes EntryBody."""

    payload: Raw = Raw(b"null")
    type: str = "default"
    priority: shapes.Priority = 0
    queue_name: str | None = None
    dedupe_key: Annotated[str, Meta(max_length=limits.DEDUPE_KEY_CHARS_MAX)] = ""


class Payload(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """An entry that says nothing but its payload, as most do."""

    payload: Raw = Raw(b"null")


class KeyedPayload(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """An entry that says nothing but its dedupe key and its payload, as those of most imports do."""

    dedupe_key: Annotated[str, Meta(min_length=1, max_length=limits.DEDUPE_KEY_CHARS_MAX)]
    payload: Raw = Raw(b"null")


class PayloadsRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A batch of such entries."""

    entries: Annotated[list[Payload], Meta(min_length=1, max_length=limits.ENTRIES_MAX)]
    queue_name: str = "default"
    return_tasks: bool = True


class KeyedRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A batch of entries with keys."""

    entries: Annotated[list[KeyedPayload], Meta(min_length=1, max_length=limits.ENTRIES_MAX)]
    queue_name: str = "default"
    return_tasks: bool = True


class PlainRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A batch of plain entries."""

    entries: Annotated[list[PlainEntry], Meta(min_length=1, max_length=limits.ENTRIES_MAX)]
    queue_name: str = "default"
    return_tasks: bool = True
