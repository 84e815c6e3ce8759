"""Pages that are not there, or not what they were: told as an error of ours, not by the end of the process.

LMDB 0.9 has no checksums and believes its own pages. What it does notice it raises as an error of its own, which
``explained`` turns into CorruptFile. What it cannot notice is a file that ends before its last page: to touch a page
that is mapped and not there is a bus error, which no program survives. So the length is compared at opening.

The trap: a file may end early and be whole. A page that was given and given back in one transaction is counted and
never written, if it was the last one; files that grew through us are allocated ahead, but others' are not. So a short
file is read from end to end by another process, ``python -m lmdbq.store.pages DIRECTORY``, and refused if that fails.
"""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import lmdb

from lmdbq.errors import CorruptFile

REMEDY: Final = "copy it away, then `lmdbq restore` a backup"
DAMAGED: Final[tuple[type[Exception], ...]] = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.BadDbiError,
    lmdb.IncompatibleError,
    lmdb.PanicError,
    lmdb.BadTxnError,
    struct.error,  # a key that is shorter than any we write
)
_DATABASES_MAX: Final = 10_000
_HEAD_PAGES: Final = 2
_HEAD_BYTES: Final = 32
_LMDB_MARKS: Final = (b"\xde\xc0\xef\xbe", b"\xbe\xef\xc0\xde")


@contextlib.contextmanager
def explained(data: Path, *more: type[Exception]) -> Iterator[None]:
    """Raise CorruptFile for what LMDB says of pages that are damaged. more: what else would mean that here."""
    damaged: tuple[type[Exception], ...] = (*DAMAGED, *more)
    try:
        yield
    except damaged as error:
        raise CorruptFile(f"{data} is damaged ({type(error).__name__}: {error}): {REMEDY}") from error


def is_of_some_lmdb(data: Path) -> bool:
    """Whether a file begins as LMDB's do in any version and on any machine; they differ in where the mark stands.

    Raises CorruptFile if it does, and is not even as long as an empty one.
    """
    with data.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    found = any(mark in head for mark in _LMDB_MARKS)
    if found and data.stat().st_size < _HEAD_PAGES * os.sysconf("SC_PAGE_SIZE"):
        raise CorruptFile(f"{data} is cut off: it has only {data.stat().st_size} bytes; {REMEDY}")
    return found


def refuse_cut_off(data: Path, env: lmdb.Environment) -> None:
    """Raise CorruptFile if pages that are in use lie beyond the end of the file, which is open but not yet read."""
    wanted = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    size = data.stat().st_size  # asked last: whoever writes lets it grow first
    if size >= wanted:
        return
    walk = [sys.executable, "-m", "lmdbq.store.pages", str(data.parent)]
    if subprocess.run(walk, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode:
        raise CorruptFile(f"{data} is cut off: it has {size} of {wanted} bytes; {REMEDY}")


def read_every_page(directory: Path) -> None:
    """Read every key and value of every database of a file. Raises lmdb.Error; or the process ends of a signal."""
    opened = lmdb.open(str(directory), readonly=True, lock=False, create=False, max_dbs=_DATABASES_MAX, lib_version=0)
    with opened as env, env.begin() as txn:
        names = [bytes(key) for key, _ in _items(txn)]
        for name in names:
            with contextlib.suppress(lmdb.IncompatibleError, lmdb.NotFoundError):  # a record that is no database
                for _ in _items(txn, db=env.open_db(name, txn=txn, create=False)):
                    pass


def _items(txn: lmdb.Transaction, **options: Any) -> Iterator[Any]:
    return txn.cursor(**options).iternext()


if __name__ == "__main__":
    read_every_page(Path(sys.argv[1]))
