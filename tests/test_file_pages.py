"""Pages that are missing or damaged: an error of ours that says what to do, and no alarm where nothing is lost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lmdb
import pytest

from lmdbq.clock import ManualClock
from lmdbq.errors import CorruptFile
from lmdbq.model import Filter
from lmdbq.store import lmdb as lmdb_store
from lmdbq.store.dump import dump_lines
from lmdbq.store.lmdb import open_store
from tests.store_driver import Driver

LARGE = b'"' + b"x" * 200_000 + b'"'


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A closed store with tasks, whose last pages are free: a large task was there, and is gone."""
    q = Driver(open_store(tmp_path / "q"), ManualClock())
    for number in range(20):
        q.add(queue="q", payload=b'"%d"' % number)
    q.delete(q.add(queue="q", payload=LARGE))
    q.add(queue="q")
    q.store.close()
    return tmp_path / "q"


def end_of(directory: Path) -> int:
    """Return where the last page ends that the file says it has."""
    with lmdb.open(str(directory), readonly=True, lock=False, lib_version=0) as env:
        end: int = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
        return end


def test_a_file_without_pages_that_are_in_use_is_refused_when_it_is_opened(directory: Path):
    wanted = end_of(directory)
    data = directory / "data.mdb"
    os.truncate(data, 5 * 4096)
    with pytest.raises(CorruptFile, match=f"has {5 * 4096} of {wanted} bytes.*restore"):
        open_store(directory).info()
    assert data.stat().st_size == 5 * 4096


def test_one_that_is_shorter_than_an_empty_one_is_cut_off_too(directory: Path):
    os.truncate(directory / "data.mdb", 4096)
    with pytest.raises(CorruptFile, match="cut off"):
        open_store(directory).info()


def test_a_file_whose_missing_pages_are_free_is_whole(directory: Path):
    os.truncate(directory / "data.mdb", end_of(directory) - 4096)
    q = Driver(open_store(directory), ManualClock())
    assert len(q.all_tasks()) == 21
    q.add(queue="q", payload=LARGE)
    assert q.store.check() == []
    q.store.close()


@pytest.mark.parametrize("error", [lmdb.CorruptedError("wrong type"), lmdb.PageNotFoundError("not there")])
def test_what_lmdb_says_of_a_page_is_an_error_of_ours_to_who_reads(
    directory: Path, monkeypatch: pytest.MonkeyPatch, error: lmdb.Error
):
    def damaged(*_: Any) -> Any:
        raise error

    store = open_store(directory)
    monkeypatch.setattr(lmdb_store.reads, "tasks", damaged)
    monkeypatch.setattr(lmdb_store, "check_file", damaged)
    for read in (lambda: store.tasks(Filter(), ManualClock()), store.check):
        with pytest.raises(CorruptFile, match="restore"):
            read()
    monkeypatch.undo()
    assert store.check() == []
    store.close()


def test_a_page_that_is_another_is_told_by_check_and_by_dump(directory: Path):
    """The roots of all our databases, one after the other: none of them ends in an error of LMDB's."""
    data = directory / "data.mdb"
    whole = data.read_bytes()
    told = 0
    for page in range(2, end_of(directory) // 4096):
        start = page * 4096
        data.write_bytes(whole[:start] + b"\xff" * 4096 + whole[start + 4096 :])
        store = open_store(directory)
        for read in (store.check, lambda: list(dump_lines(directory))):
            try:
                told += bool(read()) and read is store.check
            except CorruptFile:
                told += 1
        store.close()
    assert told > 5
    data.write_bytes(whole)
    store = open_store(directory)
    assert store.check() == []
    store.close()
