"""Sending a request until it is answered: over kept-alive connections, and patient with a daemon that restarts.

``Sender`` is what every verb of ``HttpClient`` goes through. It is lazy (nothing is opened before the first call),
thread-safe (each thread has its own connection) and may be used on both sides of a fork. When no daemon answers, a call
goes on trying for ``patience`` seconds; the trap is that a request which has left may have been carried out, so it is
sent again only if a repetition can do no harm: see ``conversation``.
"""

from __future__ import annotations

import http.client
import os
import threading
import time
from typing import Any, Final

from lmdbq.client import core
from lmdbq.client.address import WHERE_DEFAULT, parse_where
from lmdbq.client.connection import Pool, break_off
from lmdbq.client.conversation import Broken, Reply, conversation, retry_after_seconds, settle
from lmdbq.client.core import Request, T
from lmdbq.errors import wrong_value

WHERE_VARIABLE: Final = "LMDBQ_URL"
TOKEN_VARIABLE: Final = "LMDBQ_TOKEN"  # noqa: S105  (the name of a variable)


class Sender:
    """Sends requests to one daemon; the parameters are those of ``HttpClient``."""

    def __init__(
        self,
        where: str | None = None,
        /,
        *,
        token: str | None = None,
        timeout: float = 30.0,
        patience: float | None = None,
    ) -> None:
        self.where: Final = where or os.environ.get(WHERE_VARIABLE) or WHERE_DEFAULT
        address = parse_where(self.where)
        self._prefix = "" if address.scheme == "unix" else address.base
        self._timeout = timeout
        self._patience = timeout if patience is None else patience
        self._pool = Pool(address)
        self._parked: set[http.client.HTTPConnection] = set()  # without a lock: one may be held where a program forks
        self._headers = {"Accept": core.JSON_TYPE, **authorization(token)}

    def close(self) -> None:
        """Close every connection. A later call opens a new one."""
        self._pool.close()

    def interrupt(self) -> None:
        """Break off the calls that wait for tasks. Those given a ``stop`` that is set raise Unreachable at once."""
        for connection in tuple(self._parked):
            break_off(connection)

    def renew(self) -> None:
        """Break off every call that is under way: the daemon at its other end is not the one that answers now."""
        self._pool.break_off_all()

    def call(self, request: Request[T], stop: threading.Event | None = None) -> T:
        """Send a request, again where that is harmless and patience allows, and return its decoded answer.

        stop: once it is set, the call neither waits for tasks nor tries again, and raises Unreachable.
        """
        talk = conversation(request, self.where, self._patience, tells=stop is None)
        next(talk)
        while True:
            got = self._exchange(request, stop)
            try:
                pause = talk.send(got)
            except StopIteration as answered:
                answer: T = answered.value
                return answer
            if stop is not None and stop.is_set():
                return settle(request, self.where, got)
            _wait(pause, stop)

    def _exchange(self, request: Request[Any], stop: threading.Event | None) -> Reply | Broken:
        try:
            connection = self._pool.acquire((request.timeout_seconds or self._timeout) + request.wait_seconds)
        except OSError as error:
            return Broken(error, sent=False)
        try:
            if not self._park(connection, request, stop):
                return Broken(InterruptedError("stopped"), sent=False)
            headers = {**self._headers, **request.headers}
            connection.request(request.method, self._prefix + request.target, request.body or None, headers)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return Broken(error, sent=True)
        except BaseException:
            connection.close()  # an answer may still come: this connection must not be used for another request
            raise
        finally:
            self._parked.discard(connection)
        said = response.headers
        retry_after = retry_after_seconds(said.get("Retry-After", ""))
        return Reply(response.status, said.get("Content-Type", ""), body, retry_after)

    def _park(
        self, connection: http.client.HTTPConnection, request: Request[Any], stop: threading.Event | None
    ) -> bool:
        """Make a call that may wait long visible to ``interrupt``; False if it has been stopped before it began."""
        if not request.wait_seconds:
            return True
        self._parked.add(connection)
        return stop is None or not stop.is_set()


def authorization(token: str | None) -> dict[str, str]:
    """Return the header for a token, if there is one. A line end around it (it came from a file) is taken off."""
    said = (os.environ.get(TOKEN_VARIABLE, "") if token is None else token).strip()
    if not said:
        return {}
    if not (said.isascii() and said.isprintable()):
        raise wrong_value("bad_token", "token", "a token is printable ASCII on one line")
    return {"Authorization": f"Bearer {said}"}


def _wait(seconds: float, stop: threading.Event | None) -> None:
    if stop is None:
        time.sleep(seconds)
    else:
        stop.wait(seconds)
