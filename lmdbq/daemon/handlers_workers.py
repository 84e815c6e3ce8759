"""Workers: what they say of themselves and their types, and who there is."""

from __future__ import annotations

from aiohttp import web

from lmdbq.daemon.context import DAEMON
from lmdbq.daemon.replies import codec_in, only_parameters, read_body, reply, settled
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
