"""Groups, rules for groups and threads of an embedded queue."""

from __future__ import annotations

import asyncio
from typing import Any

from lmdbq.client.core import Request
from lmdbq.client.embedded_file import OpenQueue
from lmdbq.client.embedded_tasks import Query, commit
from lmdbq.errors import refusal
from lmdbq.model import GroupDelete, GroupPatch, GroupPut, GroupSettings, RuleDelete, RulePut
from lmdbq.wire import groups
from lmdbq.wire.group_shapes import GroupAnswer, GroupsAnswer, RulesAnswer, ThreadsAnswer
from lmdbq.wire.problems import JSON_CODEC


def _page(query: Query) -> tuple[str, int]:
    return query.get("cursor", [""])[0], int(query.get("limit", [str(groups.PAGE_DEFAULT)])[0])


async def all_groups(queue: OpenQueue, query: Query) -> GroupsAnswer:
    """Answer a page of groups."""
    after, limit = _page(query)
    return groups.groups_answer(await asyncio.to_thread(queue.store.groups, queue.clock, after, limit), limit)


async def one_group(queue: OpenQueue, request: Request[Any], key: str, verb: str) -> GroupAnswer | None:
    """Carry out a request about one group."""
    if request.method == "GET":
        return _look(queue, key)
    groups.check_group_key(key)
    match request.method, verb:
        case "PUT", _:
            await commit(queue, GroupPut(key, groups.read_group(request.body, JSON_CODEC)[0]))
        case "PATCH", _:
            await commit(queue, GroupPatch(key, *groups.read_group(request.body, JSON_CODEC)))
        case "DELETE", _:
            await commit(queue, GroupDelete(key))
            return None
        case _:
            await commit(queue, GroupPatch(key, GroupSettings(paused=verb == "pause"), ("paused",)))
    return _look(queue, key)


def _look(queue: OpenQueue, key: str) -> GroupAnswer:
    view = queue.store.group(key, queue.clock)
    if view is None:
        problem = groups.unknown_group(key)
        raise refusal(404, problem.code, problem.detail)
    return groups.group_answer(view)


async def all_rules(queue: OpenQueue) -> RulesAnswer:
    """Answer every rule."""
    return groups.rules_answer(await asyncio.to_thread(queue.store.group_rules))


async def one_rule(queue: OpenQueue, request: Request[Any], pattern: str) -> Any:
    """Carry out a request about one rule."""
    if request.method == "DELETE":
        groups.check_group_key(pattern, "/pattern")
        await commit(queue, RuleDelete(pattern))
        return None
    rule = groups.read_rule(pattern, request.body, JSON_CODEC)
    await commit(queue, RulePut(rule))
    return groups.rule_answer(rule)


async def threads_of(queue: OpenQueue, name: str, query: Query) -> ThreadsAnswer:
    """Answer a page of a queue's threads."""
    after, limit = _page(query)
    if queue.store.queue(name) is None:
        raise refusal(404, "queue_not_found", f"there is no queue {name[:128]!r}; its first task makes it")
    return groups.threads_answer(await asyncio.to_thread(queue.store.threads, name, after, limit), limit)
