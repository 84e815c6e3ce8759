"""What is asked about the daemon itself: health, facts, metrics, the description of the API."""

from __future__ import annotations

import platform
from typing import Any

import lmdb
import msgspec
from aiohttp import hdrs, web

from lmdbq import __version__, limits
from lmdbq.daemon import metrics
from lmdbq.daemon.context import DAEMON, Daemon
from lmdbq.daemon.replies import only_parameters, reply
from lmdbq.daemon.settings import DEFAULTS, shown
from lmdbq.ids import format_id
from lmdbq.wire.answers import DefaultRow, HealthAnswer, InfoAnswer, PlaceAnswer, SettingRow
from lmdbq.wire.problems import JSON


async def place(request: web.Request) -> web.StreamResponse:
    """GET /: what this is, for who came by chance."""
    links = {name: f"/v1/{name}" for name in ("queues", "tasks", "info")}
    links |= {"health": "/livez", "readiness": "/readyz", "metrics": "/metrics"}
    return reply(request, PlaceAnswer("lmdbq", __version__, "/openapi.json", links))


async def live(request: web.Request) -> web.StreamResponse:
    """GET /livez: the process answers. It looks at nothing that could be waited for."""
    return reply(request, HealthAnswer("ok"))


async def ready(request: web.Request) -> web.StreamResponse:
    """GET /readyz: whether work should be sent here; 503 while draining, after a failed commit, or on a long lock."""
    status = _readiness(request.app[DAEMON])
    return reply(request, HealthAnswer(status), 200 if status == "ok" else 503)


def _readiness(daemon: Daemon) -> str:
    status = daemon.engine.status()
    if status.failed:
        return "failed"
    if status.draining or daemon.draining.is_set():
        return "draining"
    return "busy" if status.lock_wait_seconds > limits.LOCK_WAIT_BUSY_SECONDS else "ok"


async def info(request: web.Request) -> web.StreamResponse:
    """GET /v1/info."""
    only_parameters(request)
    daemon = request.app[DAEMON]
    answer = InfoAnswer(
        version=__version__,
        python=platform.python_version(),
        lmdb=lmdb.__version__,
        durability=daemon.settings.durability,
        now=daemon.clock.wall_ns(),
        started_at=daemon.started_at,
        store=_file_facts(daemon),
        engine=msgspec.to_builtins(daemon.engine.status()),
        settings=[SettingRow(row.name, value, row.doc, row.env) for row, value in shown(daemon.settings)],
        defaults=[DefaultRow(row.name, row.value, row.doc) for row in DEFAULTS],
    )
    return reply(request, answer)


def _file_facts(daemon: Daemon) -> dict[str, Any]:
    info = daemon.store.info()
    return {**msgspec.to_builtins(info), "last_id": format_id(info.last_id)}


async def prometheus(request: web.Request) -> web.StreamResponse:
    """GET /metrics."""
    body = metrics.exposition(request.app[DAEMON])
    return web.Response(body=body, headers={hdrs.CONTENT_TYPE: metrics.CONTENT_TYPE})


async def openapi(request: web.Request) -> web.StreamResponse:
    """GET /openapi.json."""
    from lmdbq.daemon.openapi import description  # only who asks pays for it, and it imports the routes, and they us

    return web.Response(body=description(), headers={hdrs.CONTENT_TYPE: JSON})
