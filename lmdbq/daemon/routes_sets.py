"""The routes of sets; a part of the table in ``routes``."""

from __future__ import annotations

from typing import Final

from lmdbq.daemon import handlers_sets as sets
from lmdbq.daemon.access import ADMIN, PRODUCE, READ
from lmdbq.daemon.route import Parameter, Route
from lmdbq.wire.set_shapes import SetAnswer, SetBody, SetMembers, SetsAnswer, SetStateWord

_ONE: Final = "/v1/sets/{set_id}"

SETS: Final = (
    Route(
        "POST", "/v1/sets", sets.make_set, "make_set", PRODUCE, {201: SetAnswer}, SetBody, (404, 409, 507), has_key=True
    ),
    Route(
        "GET",
        "/v1/sets",
        sets.list_sets,
        "list_sets",
        READ,
        {200: SetsAnswer},
        parameters=(
            Parameter("state", list[SetStateWord], "Only sets in this state; may be repeated, or a list with commas."),
            Parameter("limit", int, "How many, 1 to 1000; default 100."),
            Parameter("cursor", str, "The `next` of the page before."),
        ),
    ),
    Route(
        "GET",
        _ONE,
        sets.get_set,
        "get_set",
        READ,
        {200: SetAnswer},
        errors=(404,),
        parameters=(Parameter("wait_in_seconds", float, "Hold the answer until it is met or unmet, 0 to 60."),),
    ),
    Route(
        "POST",
        _ONE + "/close",
        sets.close_set,
        "close_set",
        PRODUCE,
        {200: SetAnswer},
        SetMembers,
        (404, 409, 507),
        has_key=True,
    ),
    Route("DELETE", _ONE, sets.delete_set, "delete_set", ADMIN, {204: None}, errors=(404,)),
)
