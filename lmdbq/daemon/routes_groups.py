"""The routes of groups, rules and threads; a part of the table in ``routes``."""

from __future__ import annotations

from typing import Final

from lmdbq.daemon import handlers_groups as groups
from lmdbq.daemon.access import ADMIN, READ
from lmdbq.daemon.route import Parameter, Route
from lmdbq.wire.group_shapes import (
    GroupAnswer,
    GroupBody,
    GroupsAnswer,
    RuleAnswer,
    RuleBody,
    RulesAnswer,
    ThreadsAnswer,
)

_GROUP: Final = "/v1/groups/{key}"
_RULE: Final = "/v1/group-rules/{pattern}"
_PAGE: Final = (
    Parameter("limit", int, "How many, 1 to 1,000; default 100."),
    Parameter("cursor", str, "`next` of the page before."),
)

GROUPS: Final = (
    Route("GET", "/v1/groups", groups.list_groups, "list_groups", READ, {200: GroupsAnswer}, parameters=_PAGE),
    Route("GET", _GROUP, groups.get_group, "get_group", READ, {200: GroupAnswer}, errors=(404,)),
    Route(
        "PUT",
        _GROUP,
        groups.put_group,
        "put_group",
        ADMIN,
        {200: GroupAnswer, 201: GroupAnswer},
        GroupBody,
        (507,),
    ),
    Route("PATCH", _GROUP, groups.patch_group, "patch_group", ADMIN, {200: GroupAnswer}, GroupBody, (507,)),
    Route("DELETE", _GROUP, groups.delete_group, "delete_group", ADMIN, {204: None}, errors=(404,)),
    Route("POST", _GROUP + "/pause", groups.pause_group, "pause_group", ADMIN, {200: GroupAnswer}, errors=(507,)),
    Route("POST", _GROUP + "/resume", groups.resume_group, "resume_group", ADMIN, {200: GroupAnswer}, errors=(507,)),
    Route("GET", "/v1/group-rules", groups.list_rules, "list_group_rules", READ, {200: RulesAnswer}),
    Route(
        "PUT",
        _RULE,
        groups.put_rule,
        "put_group_rule",
        ADMIN,
        {200: RuleAnswer, 201: RuleAnswer},
        RuleBody,
        (507,),
    ),
    Route("DELETE", _RULE, groups.delete_rule, "delete_group_rule", ADMIN, {204: None}, errors=(404,)),
    Route(
        "GET",
        "/v1/queues/{name}/threads",
        groups.list_threads,
        "list_threads",
        READ,
        {200: ThreadsAnswer},
        errors=(404,),
        parameters=_PAGE,
    ),
)
