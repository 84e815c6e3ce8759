"""A daemon whose answers a test writes by hand: to see what a client does when things go wrong.

``FakeDaemon.script`` holds what happens to the next requests, one step each; what is not scripted is answered 200 with
``{}``. It keeps every request, and counts connections.
"""

from __future__ import annotations

import json
import queue
import socket
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import UnixStreamServer
from typing import Any, NamedTuple


class Seen(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: Any


Step = Callable[["Handler"], None]


def answer(status: int = 200, body: object = None, **headers: str) -> Step:
    """Answer with ``body`` as JSON."""

    def step(handler: Handler) -> None:
        data = json.dumps({} if body is None else body).encode()
        kind = "application/json" if status < 300 else "application/problem+json"
        handler.send_response(status)
        for name, value in {"Content-Type": kind, **headers, "Content-Length": str(len(data))}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(data)

    return step


def drop(handler: Handler) -> None:
    """Close the connection instead of answering."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def hang_up_after(step: Step) -> Step:
    """Answer, and then close the connection without having said so."""

    def both(handler: Handler) -> None:
        step(handler)
        handler.close_connection = True

    return both


def hold(until: threading.Event) -> Step:
    """Answer only once ``until`` is set."""

    def step(handler: Handler) -> None:
        assert until.wait(60)
        try:
            answer()(handler)
        except OSError:
            handler.close_connection = True  # the client has gone, which is what some tests are about

    return step


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def setup(self) -> None:
        super().setup()
        self.server.fake.connections += 1

    def _any(self) -> None:
        fake: FakeDaemon = self.server.fake
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.startswith("/v1/workers/"):  # comes when it likes, and is nothing that a script reckons with
            answer(404)(self)
            return
        fake.seen.put(Seen(self.command, self.path, dict(self.headers), json.loads(body) if body else None))
        step = fake.script.pop(0) if fake.script else answer()
        step(self)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass

    def address_string(self) -> str:
        return "client"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    fake: FakeDaemon

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self.fake.closed.release()  # not sooner: who hears of it counts on the other end being closed


class _UnixServer(_Server):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        UnixStreamServer.server_bind(self)  # type: ignore[arg-type]
        self.server_name, self.server_port = "localhost", 0


class FakeDaemon:
    """Listens on a free port, or on ``path``, from ``with`` to its end. tls: the file of its key and certificate."""

    def __init__(self, path: Path | None = None, port: int = 0, tls: Path | None = None) -> None:
        self.script: list[Step] = []
        self.seen: queue.Queue[Seen] = queue.Queue()
        self.connections = 0
        self.closed = threading.Semaphore(0)
        self._server: Any = _UnixServer(str(path), Handler) if path else _Server(("127.0.0.1", port), Handler)
        self._server.fake = self
        self.where = f"unix://{path}" if path else f"http://127.0.0.1:{self._server.server_address[1]}"
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self.where = self.where.replace("http:", "https:")
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> FakeDaemon:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def next(self) -> Seen:
        """Return the next request, waiting for it."""
        return self.seen.get(timeout=60)

    def nothing_more(self) -> bool:
        return self.seen.empty()
