"""The request that changes all tasks which match a filter, page by page; ``core`` has those about one task."""

from __future__ import annotations

from collections.abc import Mapping

from lmdbq.client.core import Fields, Request, entry_body, said, sending
from lmdbq.wire import answers


def actions(
    action: str,
    filters: Mapping[str, object],
    *,
    every: bool,
    dry_run: bool,
    cursor: str | None,
    key: str,
    to: str | None = None,
    fields: Fields | None = None,
) -> Request[answers.ActionAnswer]:
    """Cancel, retry (in queue ``to``), delete or edit (``fields``) what matches; an empty filter needs ``every``."""
    body = said(action=action, filter=said(**filters), dry_run=dry_run or None, all=every or None, cursor=cursor)
    body |= said(queue_name=to, fields=None if fields is None else entry_body(fields))
    return sending("POST", "/v1/tasks/actions", answers.ActionAnswer, body, repeatable=True, key=key)
