"""What a group, or a rule for groups, may be told, in Python's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypedDict

from lmdbq.client.options import Rate, Seconds, rate_fields, translate


class GroupOptions(TypedDict, total=False):
    """Settings of a group, or of a rule for groups; None: not said.

    paused: nothing more is started. max_running: how many run at once in all queues, 0 = none. rate: a Rate, or
    (tokens, seconds). weight: its share of a queue whose order is fair.
    """

    paused: bool
    max_running: int | None
    rate: Rate | tuple[int, Seconds] | None
    weight: int | None


def _as_it_is(value: Any) -> Any:
    return value


_GROUP_FIELDS: Final[dict[str, tuple[str, Any]]] = {
    "paused": ("paused", _as_it_is),
    "max_running": ("max_running", _as_it_is),
    "rate": ("rate", rate_fields),
    "weight": ("weight", _as_it_is),
}


def group_fields_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the API that a group's options say; None is not said. Raises TypeError.

    >>> group_fields_of({"max_running": 3, "rate": (10, 1)})
    {'max_running': 3, 'rate': {'tokens': 10, 'period_in_seconds': 1}}
    """
    return translate(options, _GROUP_FIELDS)
