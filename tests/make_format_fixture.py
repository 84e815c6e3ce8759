"""Writes the fixture of the present format: ``python -m tests.make_format_fixture``.

It is written once, by the first version with that format, and read for ever: later versions must go on with such a
file. So an existing one is never replaced. Beside it stands what its writer saw in it.
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from lmdbq.clock import ManualClock
from lmdbq.store.lmdb import LmdbStore
from lmdbq.store.records import FORMAT
from tests.full_store import fill
from tests.store_driver import Driver

FIXTURES = Path(__file__).resolve().parent / "fixtures"


def seen(q: Driver) -> dict[str, Any]:
    """Return all tasks and queues of a store as plain maps, bytes in base64."""
    found: dict[str, Any] = msgspec.to_builtins(
        {"tasks": q.all_tasks(), "queues": q.store.queues(), "due": q.store.due(q.clock)}, str_keys=True
    )
    return found


def write_compact(source: Path, target: Path) -> None:
    """Write a copy without free pages, compressed, and so that the same content gives the same bytes."""
    with tempfile.TemporaryDirectory() as copy:
        with lmdb.open(str(source), max_dbs=40, lib_version=0) as env:
            env.copy(copy, compact=True)
        target.write_bytes(gzip.compress((Path(copy) / "data.mdb").read_bytes(), mtime=0))


def main() -> int:
    fixture = FIXTURES / f"format-{FORMAT}"
    if fixture.exists():
        print(f"{fixture} exists; a format's fixture is never replaced", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as place:
        full = fill(Path(place))
        clock = full.q.clock
        assert isinstance(clock, ManualClock)
        assert isinstance(full.store, LmdbStore)
        expected = {
            "written_by": version("lmdbq"),
            "engine": full.store.info().engine,
            "wall": clock.wall_ns(),
            "steady": clock.steady_ns(),
            "ids": full.ids,
            **seen(full.q),
        }
        assert full.store.check() == []
        full.store.close()
        fixture.mkdir(parents=True)
        write_compact(Path(place), fixture / "data.mdb.gz")
        write_compact(Path(place) / "leases-1", fixture / "leases-1.mdb.gz")
        (fixture / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
