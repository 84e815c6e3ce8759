"""Queues: what stands in them, what holds them up, their settings, pause, resume, purge."""

from __future__ import annotations

from aiohttp import web

from lmdbq import limits
from lmdbq.daemon.context import DAEMON, Daemon
from lmdbq.daemon.replies import HttpProblem, codec_in, codec_out, only_parameters, read_body, reply, settled
from lmdbq.engine.groups import consumers_of
from lmdbq.model import Op, Purge, QueueChanged, QueueDelete, QueuePatch, QueuePut, QueueSettings, QueueView
from lmdbq.sharing import seen_at
from lmdbq.wire.answers import QueueAnswer, QueueRemoved, QueuesAnswer
from lmdbq.wire.problems import Codec, Problems
from lmdbq.wire.queue_settings import read_queue
from lmdbq.wire.values import check_queue_name, check_text
from lmdbq.wire.views import queue_answer


async def list_queues(request: web.Request) -> web.StreamResponse:
    """GET /v1/queues."""
    only_parameters(request)
    daemon = request.app[DAEMON]
    return reply(request, QueuesAnswer([_shown(daemon, queue, codec_out(request)) for queue in daemon.store.queues()]))


async def get_queue(request: web.Request) -> web.StreamResponse:
    """GET /v1/queues/{name}."""
    only_parameters(request)
    return reply(request, _look(request, _name(request)))


def _look(request: web.Request, name: str) -> QueueAnswer:
    daemon = request.app[DAEMON]
    queue = daemon.store.queue(name)
    if queue is None:
        raise _unknown(name)
    return _shown(daemon, queue, codec_out(request))


def _name(request: web.Request) -> str:
    """Return the name of the path, if any queue could have it; one made by a library may have more than ours."""
    name = request.match_info["name"]
    problems = Problems()
    check_text(name, "", problems, limits.NAME_BYTES_MAX)
    if problems.found:
        raise _unknown(name)
    return name


def _unknown(name: str) -> HttpProblem:
    return HttpProblem(404, "queue_not_found", f"there is no queue {name[:128]!r}; PUT /v1/queues/NAME creates one")


def _shown(daemon: Daemon, queue: QueueView, codec: Codec) -> QueueAnswer:
    queue = seen_at(queue, daemon.clock.steady_ns())
    consumers = consumers_of(daemon.engine.consumers(), queue.name)
    parked = consumers.parked if consumers is not None else 0
    unconsumed, draining = daemon.unconsumed(queue), daemon.draining.is_set()
    return queue_answer(queue, daemon.clock.wall_ns(), parked, unconsumed, codec, draining=draining)


async def put_queue(request: web.Request) -> web.StreamResponse:
    """PUT /v1/queues/{name}: create it (201), or replace all its settings (200)."""
    settings, _ = read_queue(await read_body(request), codec_in(request))
    changed = await _change(request, QueuePut(_new_name(request), settings))
    return reply(request, _look(request, changed.queue), 201 if changed.created else 200)


def _new_name(request: web.Request) -> str:
    name = request.match_info["name"]
    problems = Problems()
    check_queue_name(name, "/name", problems)
    problems.raise_if_any()
    return name


async def patch_queue(request: web.Request) -> web.StreamResponse:
    """PATCH /v1/queues/{name}: replace the settings that are named."""
    settings, fields = read_queue(await read_body(request), codec_in(request))
    return await _patched(request, settings, fields)


async def pause_queue(request: web.Request) -> web.StreamResponse:
    """POST /v1/queues/{name}/pause: nothing more is started; what runs goes on."""
    return await _patched(request, QueueSettings(paused=True), ("paused",))


async def resume_queue(request: web.Request) -> web.StreamResponse:
    """POST /v1/queues/{name}/resume."""
    return await _patched(request, QueueSettings(paused=False), ("paused",))


async def _patched(request: web.Request, settings: QueueSettings, fields: tuple[str, ...]) -> web.Response:
    changed = await _change(request, QueuePatch(_name(request), settings, fields))
    return reply(request, _look(request, changed.queue))


async def delete_queue(request: web.Request) -> web.StreamResponse:
    """DELETE /v1/queues/{name}: the queue and every task of it."""
    await _change(request, QueueDelete(_name(request)))
    return web.Response(status=204)


async def purge_queue(request: web.Request) -> web.StreamResponse:
    """POST /v1/queues/{name}/purge: every task of it, running ones too; settings and totals stay."""
    changed = await _change(request, Purge(_name(request)))
    return reply(request, QueueRemoved(changed.queue, changed.tasks))


async def _change(request: web.Request, op: Op) -> QueueChanged:
    only_parameters(request)
    done = settled(await request.app[DAEMON].engine.call(op)).outcomes[0]
    assert isinstance(done, QueueChanged)
    return done
