"""POST /v1/backup: the file of a moment as a body, and what there is instead when it cannot be."""

from __future__ import annotations

import asyncio
import errno
import io
import os
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from lmdbq.daemon import handlers_backup
from lmdbq.store.copies import restore
from lmdbq.store.lmdb import open_store as open_file
from tests.http_tools import Api, open_store, serving


@pytest.fixture
async def filled(tmp_path: Path) -> Any:
    async with serving(open_store("lmdb", tmp_path / "q")) as api:
        await api.enqueue(*({"payload": "x" * 1000} for _ in range(1000)))
        yield api


async def test_the_body_is_a_whole_file(filled: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(handlers_backup, "BLOCK_BYTES", 4096)
    answer = await filled.call("POST", "/v1/backup")
    assert answer.media_type == "application/octet-stream"
    assert int(answer.headers["Content-Length"]) == len(answer.body)
    (tmp_path / "copy").write_bytes(answer.body)
    restore(tmp_path / "copy", tmp_path / "back", lambda done: None)
    store = open_file(tmp_path / "back")
    assert store.queue("q") == filled.store.queue("q")
    assert store.check() == []
    store.close()


async def test_it_takes_no_path_and_no_parameter(filled: Api):
    (await filled.call("POST", "/v1/backup?path=/tmp/x")).problem(422, "bad_parameter")


async def test_a_store_that_is_no_file_has_none(tmp_path: Path):
    async with serving(open_store("memory", tmp_path)) as api:
        (await api.call("POST", "/v1/backup")).problem(501, "no_backup")


async def test_without_room_nothing_is_sent_and_the_answer_says_so(filled: Api, monkeypatch: pytest.MonkeyPatch):
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(filled.store, "copy_to", full, raising=False)
    (await filled.call("POST", "/v1/backup")).problem(507, "full")


async def test_a_copy_that_cannot_be_read_to_its_end_is_broken_off(filled: Api, monkeypatch: pytest.MonkeyPatch):
    """What the head promised must not be filled up with the words of an error."""

    class Damaged(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell():
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().read(size) or b""

    make = handlers_backup._copy

    def damaged(store: Any) -> Damaged:
        with make(store) as copy:
            return Damaged(os.dup(copy.fileno()))

    monkeypatch.setattr(handlers_backup, "BLOCK_BYTES", 4096)
    monkeypatch.setattr(handlers_backup, "_copy", damaged)
    async with asyncio.timeout(60), filled.session.post(f"{filled.url}/v1/backup") as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientError):
            await response.read()
    await filled.get("/livez")


async def test_a_real_failure_of_the_copy_is_told_by_its_number(tmp_path: Path):
    """LMDB's own error becomes an OSError with the number of the system: here, of a descriptor one cannot write to."""
    store = open_file(tmp_path / "q")
    store.info()
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(OSError, match="could not be copied") as caught:
        store.copy_to(descriptor)
    os.close(descriptor)
    assert caught.value.errno == errno.EBADF
    store.close()
