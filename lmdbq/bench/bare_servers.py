"""What is below the daemon, layer by layer: servers that answer every request alike and store nothing.

``protocol`` answers as soon as a request's bytes are there, without a look at what it says: the kernel and the event
loop. ``server`` is aiohttp's ``web.Server``, which has no routes: parsing, a request and a response object, headers.
The next layer is ``noop_server``: aiohttp's ``Application`` with the daemon's middleware. Ends with SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

from aiohttp import web

BODY = b'{"outcomes":[]}\n'
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
_HEAD_END = b"\r\n\r\n"


class Bare(asyncio.Protocol):
    """Answers each packet that ends a request. It knows nothing of HTTP but where a head ends; its callers send small
    requests, one at a time, which come in one packet."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert _HEAD_END in data
        self._transport.write(_ANSWER)


async def handle(request: web.BaseRequest) -> web.StreamResponse:
    """Read the body, and answer."""
    await request.read()
    return web.Response(body=BODY, content_type="application/json")


async def serve(layer: str) -> None:
    """Serve on a free loopback port until SIGTERM."""
    loop = asyncio.get_running_loop()
    factory = Bare if layer == "protocol" else web.Server(handle, handler_cancellation=True, access_log=None)
    server = await loop.create_server(factory, "127.0.0.1", 0)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await stop.wait()
    server.close()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(sys.argv[1]))
