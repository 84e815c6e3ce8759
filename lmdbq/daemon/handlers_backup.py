"""POST /v1/backup: the whole file, as it is at one moment, as the body of the answer.

The copy is made first, into a file without a name beside the data, and sent then: a caller who reads slowly must not
hold the read transaction of the copy open, which would keep pages from being freed, and the writer from resizing its
map. So it takes room for the copy on the daemon's disk; without it nothing is sent, and the answer is 507. The request
names no path, for then a caller could write to one.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import tempfile
from pathlib import Path
from typing import IO, Final, Protocol, runtime_checkable

from aiohttp import hdrs, web

from lmdbq.daemon.context import DAEMON
from lmdbq.daemon.replies import HttpProblem, broken_off, only_parameters
from lmdbq.errors import StoreFull
from lmdbq.model import StoreInfo

BINARY: Final = "application/octet-stream"
BLOCK_BYTES: Final = 1 << 20
STALL_SECONDS: Final = 60.0  # for a block; then the connection is broken off, and the caller knows that it is not whole


@runtime_checkable
class Copies(Protocol):
    """A store that is a file."""

    def copy_to(self, fd: int) -> None:
        """Write the file, as it is at this moment, to a descriptor."""
        ...

    def info(self) -> StoreInfo:
        """Return facts about the file."""
        ...


async def backup(request: web.Request) -> web.StreamResponse:
    """POST /v1/backup: a copy of the whole file, for `lmdbq restore`."""
    only_parameters(request)
    daemon = request.app[DAEMON]
    if not isinstance(daemon.store, Copies):
        raise HttpProblem(501, "no_backup", "this daemon's store is no file, and has no copy")
    with await asyncio.to_thread(_copy, daemon.store) as copy:
        response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: BINARY})
        response.content_length = os.fstat(copy.fileno()).st_size
        await response.prepare(request)
        with contextlib.suppress(TimeoutError), broken_off(request):
            while block := await asyncio.to_thread(copy.read, BLOCK_BYTES):
                async with asyncio.timeout(STALL_SECONDS):
                    await response.write(block)
            await response.write_eof()
    return response


def _copy(store: Copies) -> IO[bytes]:
    """Return a copy of the file, open at its beginning; it is gone when it is closed. Raises StoreFull."""
    directory = Path(store.info().path).parent
    try:
        copy = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115  (the caller closes it)
    except OSError as error:
        raise StoreFull(f"there is no room for a copy in {directory} ({error.strerror})") from error
    try:
        store.copy_to(copy.fileno())
    except OSError as error:
        copy.close()
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull("there is no room for a copy beside the file; free as much as the file has") from error
        raise
    except BaseException:
        copy.close()
        raise
    copy.seek(0)
    return copy
