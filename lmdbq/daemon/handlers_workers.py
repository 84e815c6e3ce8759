"""Workers: what they say of themselves and their types, and who there is."""

from __future__ import annotations

from aiohttp import web

from lmdbq.daemon.context import DAEMON
from lmdbq.daemon.replies import HttpProblem, codec_in, only_parameters, read_body, reply, settled
from lmdbq.wire.registrations import read_registration


async def put_worker(request: web.Request) -> web.StreamResponse:
    """PUT /v1/workers/{name}: it works. Types and their defaults are stored if they are new, the rest is memory."""
    only_parameters(request)
    said = read_registration(request.match_info["name"], await read_body(request), codec_in(request))
    daemon = request.app[DAEMON]
    changes = daemon.workers.changes(said, daemon.store.types())
    if changes:
        settled(await daemon.engine.call(*changes))
    return reply(request, daemon.workers.note(said, daemon.clock.wall_ns()))


async def touch_worker(request: web.Request) -> web.StreamResponse:
    """POST /v1/workers/{name}/touch: it still works. 404 says that it is to register again: the daemon is another."""
    only_parameters(request)
    daemon = request.app[DAEMON]
    name = request.match_info["name"]
    found = daemon.workers.touch(name, daemon.clock.wall_ns())
    if found is None:
        raise HttpProblem(404, "worker_not_found", "no worker of this name is known here; PUT /v1/workers/NAME first")
    return reply(request, found)


async def delete_worker(request: web.Request) -> web.StreamResponse:
    """DELETE /v1/workers/{name}: it ends. What it said of its types stays."""
    only_parameters(request)
    request.app[DAEMON].workers.forget(request.match_info["name"])
    return web.Response(status=204)


async def list_workers(request: web.Request) -> web.StreamResponse:
    """GET /v1/workers: who works, and what is known of types."""
    only_parameters(request)
    daemon = request.app[DAEMON]
    return reply(request, daemon.workers.answer(daemon.clock.wall_ns(), daemon.store.types()))
