"""Sending a request until it is answered, for callers on an event loop: ``sending`` with aiohttp in the socket's place.

When to send again is the same ``conversation``. The session belongs to one loop; a client that is used on another
one later (``asyncio.run`` twice), or in a forked child, gets another.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import aiohttp

from lmdbq.client.address import Address
from lmdbq.client.conversation import Broken, Reply, conversation, retry_after_seconds
from lmdbq.client.core import Request, T


class AsyncSender:
    """Sends requests to one daemon. headers: sent with each. timeout and patience: see ``sending.Sender``."""

    def __init__(
        self, where: str, address: Address, headers: dict[str, str], *, timeout: float, patience: float
    ) -> None:
        self._where = where
        self._address = address
        self._headers = headers
        self._timeout = timeout
        self._patience = patience
        self._session: aiohttp.ClientSession | None = None
        self._owner: tuple[int, asyncio.AbstractEventLoop] | None = None

    async def call(self, request: Request[T]) -> T:
        """Send a request, again where that is harmless and patience allows, and return its decoded answer."""
        talk = conversation(request, self._where, self._patience)
        next(talk)
        while True:
            try:
                pause = talk.send(await self._exchange(request))
            except StopIteration as answered:
                answer: T = answered.value
                return answer
            await asyncio.sleep(pause)

    async def _exchange(self, request: Request[Any]) -> Reply | Broken:
        scheme, host, port, base = self._address
        url = f"http://localhost{request.target}"
        if scheme != "unix":
            name = f"[{host}]" if ":" in host else host
            url = f"{scheme}://{name}:{port}{base}{request.target}"
        timeout = aiohttp.ClientTimeout(total=(request.timeout_seconds or self._timeout) + request.wait_seconds)
        headers = {**self._headers, **request.headers}
        try:
            async with self._open().request(
                request.method, _as_it_is(url), data=request.body or None, headers=headers, timeout=timeout
            ) as response:
                said = response.headers
                retry_after = retry_after_seconds(said.get("Retry-After", ""))
                return Reply(response.status, said.get("Content-Type", ""), await response.read(), retry_after)
        except aiohttp.ClientConnectorError as error:
            return Broken(error.os_error, sent=False)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Broken(error, sent=True)

    def _open(self) -> aiohttp.ClientSession:
        here = (os.getpid(), asyncio.get_running_loop())
        if self._session is None or self._session.closed or self._owner != here:
            unix = self._address.scheme == "unix"
            connector = aiohttp.UnixConnector(self._address.base, limit=0) if unix else aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
            self._owner = here
        return self._session

    async def close(self) -> None:
        """Close every connection. A later call opens a new one."""
        session, self._session = self._session, None
        if session is not None and self._owner == (os.getpid(), asyncio.get_running_loop()):
            await session.close()


def _as_it_is(url: str) -> Any:
    """Return ``url`` as aiohttp takes it without quoting it a second time."""
    from yarl import URL

    return URL(url, encoded=True)
