"""Making a data directory, and the empty file in it: a crash at any moment leaves none or a whole one.

And our databases, in a file that somebody else or an older version has made.

Creating an LMDB file is not atomic, and what a crash leaves in the middle of it no version can open. So a new file is
made under another name, committed, synced, and only then linked to its own; a lock on the directory keeps two creators
apart. What an earlier creator left under the other name is removed by the next one.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, Final

import lmdb

from lmdbq.errors import FormatUnknown
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lockfile import NO_HARD_LINKS, locked_directory

DATA_NAME: Final = "data.mdb"
FRESH_NAME: Final = "data.mdb.tmp"
VERIFIED_NAME: Final = "verified"
MAX_DATABASES: Final = 128  # ours, and room for those of a user who shares the file
FRESH_MAP_BYTES: Final = 1 << 24
ENGINE: Final = ".".join(str(part) for part in lmdb.version())


def create_missing(directory: Path) -> None:
    """Make the directory and an empty store in it, unless there is one. Raises OSError, lmdb.Error."""
    data, fresh = directory / DATA_NAME, directory / FRESH_NAME
    if data.exists() and not fresh.exists():
        return
    make_directories(directory)
    with locked_directory(directory) as fd:
        fresh.unlink(missing_ok=True)
        if not data.exists():
            _write_fresh(fresh)
            (directory / VERIFIED_NAME).touch()
            _give_name(fresh, data)
            os.fsync(fd)
            with contextlib.suppress(PermissionError):  # a parent that is not ours to read: its owner made the name
                sync_path(directory.parent)  # whoever made the directory may have left that out


def make_directories(directory: Path) -> None:
    """Make the directory and its missing parents, each entry synced: a power cut must not take the way to the file."""
    if directory.is_dir():
        return
    make_directories(directory.parent)
    directory.mkdir(mode=0o700, exist_ok=True)
    sync_path(directory.parent)


def _give_name(fresh: Path, data: Path) -> None:
    try:
        os.link(fresh, data)
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        fresh.rename(data)  # a file system without hard links; the directory lock keeps others away
    else:
        fresh.unlink()


def _write_fresh(path: Path) -> None:
    env = lmdb.open(str(path), subdir=False, lock=False, map_size=FRESH_MAP_BYTES, max_dbs=MAX_DATABASES, lib_version=0)
    try:
        with env.begin(write=True) as txn:
            write_databases(env, txn)
    finally:
        env.close()
    sync_path(path)


def sync_path(path: Path) -> None:
    """Sync a file; of a directory, the names in it. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_databases(env: lmdb.Environment, txn: lmdb.Transaction) -> None:
    """Make our databases, and the file's own facts in them."""
    handles = {name: env.open_db(ks.PREFIX + name.encode(), txn=txn) for name in ks.DATABASES}
    facts = rec.Meta(format=rec.FORMAT, engine=ENGINE, created_at=0)
    txn.put(ks.meta(), rec.write_map(facts), db=handles["catalog"])
    txn.put(ks.SEQUENCE, rec.write_sequence(rec.LastNumbers()), db=handles["count"])


def adopt(path: Path, env: lmdb.Environment) -> dict[str, lmdb._Database]:
    """Open our databases of the file ``path``, making them in a file that has none of ours yet.

    An older format is raised to ours, and older versions refuse the file from then on; one we do not know is refused.
    """
    databases: dict[str, lmdb._Database] = {}
    with env.begin(write=True) as txn:  # handles opened in a read transaction would end with it
        if txn.get(ks.PREFIX + b"catalog") is None:  # somebody's environment, to hold tasks beside its own records
            write_databases(env, txn)
        catalog = env.open_db(ks.PREFIX + b"catalog", txn=txn, create=False)
        facts = _check_format(path, txn.get(ks.meta(), db=catalog))
        for name in ks.DATABASES:  # one that an older format had not is made here, in the transaction that raises it
            databases[name] = env.open_db(ks.PREFIX + name.encode(), txn=txn)
        if facts.format != rec.FORMAT:
            facts.format = rec.FORMAT
            txn.put(ks.meta(), rec.write_map(facts), db=catalog)
    return databases


def _check_format(path: Path, value: Any) -> rec.Meta:
    try:
        facts = rec.read_meta(value or b"")
    except rec.Damaged as error:
        raise FormatUnknown(f"{path}: its own facts cannot be read ({error}); restore a backup") from error
    if facts.format not in rec.FORMATS_READ:
        raise FormatUnknown(
            f"{path} has format {facts.format}; this version reads formats up to {rec.FORMAT}. "
            "Use the lmdbq that wrote it, or a newer one; the file was not touched"
        )
    if facts.engine.split(".")[:2] != ENGINE.split(".")[:2]:
        raise FormatUnknown(
            f"{path} was written by LMDB {facts.engine}; this is {ENGINE}, which cannot read it. "
            "Use the lmdb package that wrote it; the file was not touched"
        )
    return facts
