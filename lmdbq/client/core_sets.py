"""The requests about sets; a part of ``core``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from lmdbq.client.core import Fields, Request, entry_body, reading, said, sending
from lmdbq.wire.set_shapes import SetAnswer, SetsAnswer
from lmdbq.wire.shapes import EntryBody

Entries = Sequence[EntryBody | Fields]


def _path(set_id: str, verb: str = "") -> str:
    return f"/v1/sets/{quote(set_id, safe='')}{verb}"


def make_set(fields: Fields, entries: Entries, *, key: str) -> Request[SetAnswer]:
    """Make a set with ``entries`` (0..10,000) as its first members; ``fields`` say the rest."""
    body = {**fields, **({"entries": [entry_body(each) for each in entries]} if entries else {})}
    return sending("POST", "/v1/sets", SetAnswer, body, repeatable=True, key=key)


def sets(query: Mapping[str, object]) -> Request[SetsAnswer]:
    """Read a page of sets; ``query``: state, limit, cursor."""
    return reading("/v1/sets", SetsAnswer, query)


def task_set(set_id: str, *, wait: float = 0.0) -> Request[SetAnswer]:
    """Read one set; with ``wait`` (seconds, <= 60) the answer is held back until it is decided."""
    return reading(_path(set_id), SetAnswer, {"wait_in_seconds": wait or None}, wait)


def close_set(set_id: str, entries: Entries, *, lease: str, key: str) -> Request[SetAnswer]:
    """Close a set, with ``entries`` as its last members."""
    last = [entry_body(each) for each in entries] or None
    body = said(entries=last, lease=lease if entries and lease else None)
    return sending("POST", _path(set_id, "/close"), SetAnswer, body, repeatable=True, key=key)


def delete_set(set_id: str) -> Request[None]:
    """Forget a set; its members stay."""
    return Request("DELETE", _path(set_id), type(None))
