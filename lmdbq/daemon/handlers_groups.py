"""Groups, rules for groups, and threads: what they may do, what they hold, pause and resume."""

from __future__ import annotations

from aiohttp import web

from lmdbq import limits
from lmdbq.daemon.context import DAEMON
from lmdbq.daemon.replies import HttpProblem, codec_in, number, only_parameters, read_body, reply, settled
from lmdbq.model import (
    GroupChanged,
    GroupDelete,
    GroupPatch,
    GroupPut,
    GroupSettings,
    Op,
    OpOutcome,
    RuleChanged,
    RuleDelete,
    RulePut,
)
from lmdbq.wire import groups


async def list_groups(request: web.Request) -> web.StreamResponse:
    """GET /v1/groups."""
    after, limit = _page(request)
    daemon = request.app[DAEMON]
    return reply(request, groups.groups_answer(daemon.store.groups(daemon.clock, after, limit), limit))


def _page(request: web.Request) -> tuple[str, int]:
    only_parameters(request, "limit", "cursor")
    limit = int(number(request, "limit", groups.PAGE_DEFAULT, 1, limits.PAGE_TASKS_MAX))
    return request.query.get("cursor", ""), limit


async def get_group(request: web.Request) -> web.StreamResponse:
    """GET /v1/groups/{key}."""
    only_parameters(request)
    return _shown(request)


def _shown(request: web.Request, status: int = 200) -> web.Response:
    daemon = request.app[DAEMON]
    key = request.match_info["key"]
    view = daemon.store.group(key, daemon.clock)
    if view is None:
        problem = groups.unknown_group(key)
        raise HttpProblem(404, problem.code, problem.detail)
    return reply(request, groups.group_answer(view), status)


async def put_group(request: web.Request) -> web.StreamResponse:
    """PUT /v1/groups/{key}: give it settings of its own (201), or replace all that it had (200)."""
    settings, _ = groups.read_group(await read_body(request), codec_in(request))
    done = await _change(request, GroupPut(_key(request), settings))
    return _shown(request, 201 if isinstance(done, GroupChanged) and done.created else 200)


async def patch_group(request: web.Request) -> web.StreamResponse:
    """PATCH /v1/groups/{key}: replace the settings that are named; it need not have any."""
    settings, fields = groups.read_group(await read_body(request), codec_in(request))
    await _change(request, GroupPatch(_key(request), settings, fields))
    return _shown(request)


async def pause_group(request: web.Request) -> web.StreamResponse:
    """POST /v1/groups/{key}/pause: nothing more of it is started; what runs goes on."""
    await _change(request, GroupPatch(_key(request), GroupSettings(paused=True), ("paused",)))
    return _shown(request)


async def resume_group(request: web.Request) -> web.StreamResponse:
    """POST /v1/groups/{key}/resume."""
    await _change(request, GroupPatch(_key(request), GroupSettings(), ("paused",)))
    return _shown(request)


async def delete_group(request: web.Request) -> web.StreamResponse:
    """DELETE /v1/groups/{key}: take its own settings away; its tasks stay, and rules hold for it again."""
    await _change(request, GroupDelete(_key(request)))
    return web.Response(status=204)


def _key(request: web.Request) -> str:
    key = request.match_info["key"]
    groups.check_group_key(key)
    return key


# --- rules ---


async def list_rules(request: web.Request) -> web.StreamResponse:
    """GET /v1/group-rules."""
    only_parameters(request)
    return reply(request, groups.rules_answer(request.app[DAEMON].store.group_rules()))


async def put_rule(request: web.Request) -> web.StreamResponse:
    """PUT /v1/group-rules/{pattern}: make a rule (201), or replace it (200)."""
    rule = groups.read_rule(request.match_info["pattern"], await read_body(request), codec_in(request))
    done = await _change(request, RulePut(rule))
    created = isinstance(done, RuleChanged) and done.created
    return reply(request, groups.rule_answer(rule), 201 if created else 200)


async def delete_rule(request: web.Request) -> web.StreamResponse:
    """DELETE /v1/group-rules/{pattern}."""
    pattern = request.match_info["pattern"]
    groups.check_group_key(pattern, "/pattern")
    await _change(request, RuleDelete(pattern))
    return web.Response(status=204)


# --- threads ---


async def list_threads(request: web.Request) -> web.StreamResponse:
    """GET /v1/queues/{name}/threads: those with ready tasks, or with one that runs or is to be tried again."""
    after, limit = _page(request)
    name = request.match_info["name"]
    store = request.app[DAEMON].store
    if store.queue(name) is None:
        detail = f"there is no queue {name[:128]!r}; PUT /v1/queues/NAME creates one"
        raise HttpProblem(404, "queue_not_found", detail)
    return reply(request, groups.threads_answer(store.threads(name, after, limit), limit))


async def _change(request: web.Request, op: Op) -> OpOutcome:
    only_parameters(request)
    return settled(await request.app[DAEMON].engine.call(op)).outcomes[0]
