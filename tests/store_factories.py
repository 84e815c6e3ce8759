"""The stores that the suites run on: a name, and how to make an empty one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lmdbq.store.base import Store
from lmdbq.store.lmdb import open_store
from lmdbq.store.memory import MemoryStore

Factory = Callable[[Path], Store]


def memory(_path: Path) -> Store:
    return MemoryStore()


def lmdb(path: Path) -> Store:
    return open_store(path)


FACTORIES: dict[str, Factory] = {"memory": memory, "lmdb": lmdb}
