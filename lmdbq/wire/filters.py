"""What people ask for: filters over tasks, and actions on all that match."""

from __future__ import annotations

from typing import NamedTuple

from lmdbq.model import Filter, State
from lmdbq.wire import shapes, values
from lmdbq.wire.problems import Codec, Problems, decode_as


def filter_of(wanted: shapes.FilterBody | None, pointer: str, problems: Problems) -> Filter:
    """Return the filter in engine units; what is wrong with it goes to ``problems``."""
    if wanted is None:
        return Filter()
    if wanted.queue_name is not None:
        values.check_queue_name(wanted.queue_name, f"{pointer}/queue_name", problems)
    if wanted.type is not None:
        values.check_type_name(wanted.type, f"{pointer}/type", problems)
    states = [wanted.state] if isinstance(wanted.state, str) else wanted.state or []
    return Filter(
        wanted.queue_name or "",
        wanted.type or "",
        tuple(dict.fromkeys(State[word.upper()] for word in states)),
        wanted.tag or "",
        wanted.dedupe_key or "",
        wanted.thread_id or "",
        wanted.group_key or "",
    )


class Action(NamedTuple):
    """A decoded /v1/tasks/actions."""

    action: str
    wanted: Filter
    dry_run: bool
    limit: int
    after: int


def read_action(body: bytes, codec: Codec) -> Action:
    """Return what a /v1/tasks/actions body asks for. Raises NotParseable or InvalidInput."""
    request = decode_as(shapes.ActionRequest, body, codec)
    problems = Problems()
    wanted = filter_of(request.filter, "/filter", problems)
    if wanted == Filter() and not request.all:
        problems.add("missing_field", "/filter", 'a filter that matches every task needs "all": true beside it')
    after = values.read_cursor(request.cursor, "/cursor", problems)
    problems.raise_if_any()
    return Action(request.action, wanted, request.dry_run, request.limit, after)
