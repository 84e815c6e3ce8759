"""The limit of HTTP: the daemon's aiohttp application without its queue.

The same ``web.Application`` with the same middleware and the same decoding of a request, and then a constant answer:
what is left between this and the daemon is the queue. It stores nothing. Ends with SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

from aiohttp import web

from lmdbq import limits
from lmdbq.clock import SystemClock
from lmdbq.daemon.access import PRODUCE, Access
from lmdbq.daemon.context import DAEMON, Daemon
from lmdbq.daemon.middleware import ROLE_ATTRIBUTE, shell
from lmdbq.daemon.replies import codec_in, codec_out, only_parameters, read_body, reply_bytes
from lmdbq.daemon.settings import Settings
from lmdbq.engine.queue import Engine
from lmdbq.store.memory import MemoryStore
from lmdbq.wire import requests


async def enqueue(request: web.Request) -> web.StreamResponse:
    """POST /v1/enqueue: decode, and forget."""
    only_parameters(request)
    requests.read_enqueue(await read_body(request), codec_in(request))
    return reply_bytes(b'{"outcomes":[]}', codec_out(request))


def make_app() -> web.Application:
    """Return the application; its engine is never started."""
    settings = Settings()
    app = web.Application(middlewares=[shell], client_max_size=limits.BODY_BYTES_MAX)
    app[DAEMON] = Daemon(settings, Engine(MemoryStore(), SystemClock()), Access(settings))
    handler: Any = enqueue
    setattr(handler, ROLE_ATTRIBUTE, PRODUCE)
    app.router.add_post("/v1/enqueue", handler, name="enqueue")
    return app


async def serve() -> None:
    """Serve on a free loopback port until SIGTERM."""
    runner = web.AppRunner(make_app(), handler_cancellation=True, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    sys.stdout.write(f"http://127.0.0.1:{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve())
