"""Files that are cut off, damaged, empty, somebody else's, or of another version: how each ends.

Whatever a file holds, `lmdbq check` ends with 0 or 1 and says why in words; `lmdbq serve` serves it, or ends with 65,
and then has not changed a byte of it.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import lmdb

from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.storm.foreign_ground import Case, Ground

CHECK_ENDS: Final = (0, 1)
EXIT_DATA: Final = 65
EXIT_SETTING: Final = 78
_PAGE_BYTES: Final = 4_096
_FLIPS: Final = 6
_LOST_TIMES: Final = 8
_FLAGS_AT: Final = 10  # of a page's head: whether it is of a tree, or what a large value goes on in
_TREE_FLAGS: Final = 3
_CUTS: Final = 3


def _check(ground: Ground, what: str) -> Iterator[str]:
    """Look at a file with `lmdbq check`, which must end in words."""
    status, said = ground.lmdbq("check", str(ground.data))
    if status not in CHECK_ENDS or "Traceback" in said or not said:
        yield f"{what}: lmdbq check ended with {status}: {said[-500:]}"
    ground.count("found damaged" if status else "found whole")


def _refused(ground: Ground, what: str, *words: str) -> Iterator[str]:
    """Serve a file, which must be refused with words, and not be touched."""
    data = ground.data / "data.mdb"
    before = data.read_bytes()
    status, said = ground.lmdbq("serve", "--data", str(ground.data), "--listen", "127.0.0.1:0")
    if status not in (EXIT_DATA, EXIT_SETTING) or "Traceback" in said or not any(word in said for word in words):
        yield f"{what}: lmdbq serve ended with {status}: {said[-500:]}"
    if data.read_bytes() != before:
        yield f"{what}: the file was refused, and changed"
    yield from _check(ground, what)


def cut_off(ground: Ground) -> Iterator[str]:
    """A file without its end is refused, with a remedy, by whoever opens it."""
    ground.fill()
    ground.is_damaged = True
    data = ground.data / "data.mdb"
    whole = data.read_bytes()
    with lmdb.open(str(ground.data), readonly=True, lock=False, lib_version=0) as env:
        end = (env.info()["last_pgno"] + 1) * _PAGE_BYTES
    for _ in range(_CUTS):
        size = ground.chosen.choice((1, _PAGE_BYTES, 2 * _PAGE_BYTES, ground.chosen.randrange(end // 2)))
        data.write_bytes(whole[:size])
        yield from _refused(ground, f"cut to {size} bytes", "cut off", "no LMDB file")


def flipped(ground: Ground) -> Iterator[str]:
    """A file with a flipped bit, or a page that is another, is whole, or damaged in words."""
    ground.fill()
    ground.is_damaged = True
    data = ground.data / "data.mdb"
    whole = data.read_bytes()
    with lmdb.open(str(ground.data), readonly=True, lock=False, lib_version=0) as env:
        pages = env.info()["last_pgno"] + 1
    for _ in range(_FLIPS):
        flipped = bytearray(whole)
        within = ground.chosen.choice((ground.chosen.randrange(16), ground.chosen.randrange(_PAGE_BYTES)))
        at = ground.chosen.randrange(pages) * _PAGE_BYTES + within
        flipped[at] ^= 1 << ground.chosen.randrange(8)
        data.write_bytes(flipped)
        yield from _check(ground, f"bit flipped in byte {at}")
    trees = [page for page in range(2, pages) if whole[page * _PAGE_BYTES + _FLAGS_AT] & _TREE_FLAGS]
    for _ in range(_LOST_TIMES):
        lost = ground.chosen.sample(trees, ground.chosen.randint(1, max(1, len(trees) // 4)))
        image = bytearray(whole)
        for page in lost:
            start = page * _PAGE_BYTES
            image[start : start + _PAGE_BYTES] = ground.chosen.choice((bytes(_PAGE_BYTES), b"\xff" * _PAGE_BYTES))
        data.write_bytes(image)
        yield from _check(ground, f"pages {lost} lost")


def empty(ground: Ground) -> Iterator[str]:
    """An empty file is no store."""
    ground.is_damaged = True
    ground.data.mkdir()
    (ground.data / "data.mdb").touch()
    yield from _refused(ground, "empty", "is empty")


def somebody_elses(ground: Ground) -> Iterator[str]:
    """A file that is none of LMDB's is refused, and not touched."""
    ground.is_damaged = True
    ground.data.mkdir()
    path = ground.data / "data.mdb"
    with sqlite3.connect(path) as database:
        database.execute("create table t (x)")
    database.close()
    yield from _refused(ground, "a file of SQLite", "no LMDB file")
    path.write_bytes(ground.chosen.randbytes(ground.chosen.randrange(1, 100_000)))
    yield from _refused(ground, "noise", "no LMDB file")


def own_records(ground: Ground) -> Iterator[str]:
    """An LMDB file with records of another program gets our databases beside them; the records stay."""
    ground.data.mkdir()
    with lmdb.open(str(ground.data), max_dbs=4, lib_version=0) as env, env.begin(write=True) as txn:
        txn.put(b"theirs", b"kept", db=env.open_db(b"their database", txn=txn))
    ended = subprocess.run(
        [sys.executable, "-m", "lmdbq.storm.foreign_user", "enqueue", str(ground.data)],
        capture_output=True,
        check=False,
    )
    if ended.returncode:
        yield f"tasks cannot be put beside them: {ended.stderr[-500:]!r}"
    with lmdb.open(str(ground.data), max_dbs=4, lib_version=0) as env, env.begin() as txn:
        if txn.get(b"theirs", db=env.open_db(b"their database", txn=txn, create=False)) != b"kept":
            yield "their record is gone"


def other_format(ground: Ground) -> Iterator[str]:
    """A file of a later format, or of another LMDB engine, is refused and not touched."""
    for what, changed in (("a later format", {"format": rec.FORMAT + 90}), ("another engine", {"engine": "1.0.2"})):
        path = ground.data
        ground.data = path.with_name(what.replace(" ", "-"))
        ground.fill()
        _rewrite_meta(ground.data, **changed)
        yield from _refused(ground, what, "format", "was written by LMDB")
        ground.is_damaged = True


def other_engine_file(ground: Ground) -> Iterator[str]:
    """A file that another LMDB engine has made is refused and not touched."""
    ground.is_damaged = True
    ground.data.mkdir()
    with lmdb.open(str(ground.data), lib_version=1) as env, env.begin(write=True) as txn:
        txn.put(b"theirs", b"kept")
    (ground.data / "lock.mdb").unlink(missing_ok=True)
    yield from _refused(ground, "made by LMDB 1.0", "another LMDB engine")


def _rewrite_meta(directory: Path, **changed: object) -> None:
    with lmdb.open(str(directory), max_dbs=64, lib_version=0) as env, env.begin(write=True) as txn:
        catalog = env.open_db(ks.PREFIX + b"catalog", txn=txn, create=False)
        facts = rec.read_meta(txn.get(ks.meta(), db=catalog) or b"")
        for name, value in changed.items():
            setattr(facts, name, value)
        txn.put(ks.meta(), rec.write_map(facts), db=catalog)


FILES: Final[dict[str, Case]] = {
    "cuts it off": cut_off,
    "flips a bit": flipped,
    "leaves it empty": empty,
    "puts another file there": somebody_elses,
    "keeps own records in it": own_records,
    "brings one of another version": other_format,
    "brings one of another engine": other_engine_file,
}
