"""A long answer, block by block: the one thing of a daemon that does not fit into memory."""

from __future__ import annotations

import http.client
from collections.abc import Generator
from typing import Any, Final

from lmdbq.client.address import parse_where
from lmdbq.client.connection import Pool
from lmdbq.client.conversation import Broken, Reply, settle
from lmdbq.client.core import JSON_TYPE, Request, sending
from lmdbq.client.sending import authorization

BLOCK_BYTES: Final = 1 << 18
TIMEOUT_SECONDS: Final = 120.0  # until it begins, and between two blocks


BACKUP: Final[Request[None]] = sending("POST", "/v1/backup", type(None), {})  # a copy of the whole file


def download(where: str, request: Request[Any]) -> Generator[bytes, None, None]:
    """Yield the blocks of an answer. Raises Unreachable if it breaks off, what any call raises if it is refused."""
    address = parse_where(where)
    pool = Pool(address)
    prefix = "" if address.scheme == "unix" else address.base
    try:
        connection = pool.acquire(TIMEOUT_SECONDS)
        headers = {"Accept": JSON_TYPE, **authorization(None), **request.headers}
        connection.request(request.method, prefix + request.target, request.body or None, headers)
        with connection.getresponse() as response:
            if response.status >= 300:
                said = response.headers.get("Content-Type", "")
                settle(request, where, Reply(response.status, said, response.read(), 0.0))
            while block := response.read(BLOCK_BYTES):
                yield block
            if response.length:  # a read of a part does not complain of an early end
                raise http.client.IncompleteRead(b"", response.length)
    except (OSError, http.client.HTTPException) as error:
        settle(request, where, Broken(error, sent=False))
    finally:
        pool.close()
