"""Files of every format there was are read as their writers saw them, and lived on in.

The fixtures were written by the first version of each format (``make_format_fixture``), and are never written again.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lmdbq.clock import ManualClock
from lmdbq.model import Outcome, Prune, State
from lmdbq.store.lmdb import open_store
from lmdbq.store.records import FORMAT
from tests.full_store import LONG_KEY
from tests.make_format_fixture import FIXTURES, main, seen
from tests.store_driver import EVERYTHING, Driver, entry

FORMATS = [1, 2]


class Old(NamedTuple):
    """A store of an old file, and what its writer said of it."""

    q: Driver
    expected: dict[str, Any]


@pytest.fixture(params=FORMATS)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Old]:
    fixture = FIXTURES / f"format-{request.param}"
    expected = json.loads((fixture / "expected.json").read_text(encoding="utf-8"))
    unpack(fixture / "data.mdb.gz", tmp_path / "q")
    unpack(fixture / "leases-1.mdb.gz", tmp_path / "q" / "leases-1")
    store = open_store(tmp_path / "q")
    yield Old(Driver(store, ManualClock(expected["wall"], expected["steady"])), expected)
    assert store.check() == []
    store.close()


def unpack(packed: Path, directory: Path) -> None:
    directory.mkdir()
    (directory / "data.mdb").write_bytes(gzip.decompress(packed.read_bytes()))


def same(found: Any, expected: Any, where: str = "") -> None:
    """Find all that was expected; a later version may show more fields."""
    if isinstance(expected, dict):
        assert isinstance(found, dict), where
        for name, value in expected.items():
            assert name in found, f"{where}.{name} is gone"
            same(found[name], value, f"{where}.{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            same(one, other, f"{where}[{number}]")
    else:
        assert found == expected, where


def test_the_present_format_has_a_fixture():
    assert FORMAT in FORMATS
    assert {path.name for path in FIXTURES.glob("format-*")} == {f"format-{number}" for number in FORMATS}


def test_a_fixture_is_never_written_again(capsys: pytest.CaptureFixture[str]):
    before = {path: path.read_bytes() for path in FIXTURES.rglob("*") if path.is_file()}
    assert main() == 1
    assert "never replaced" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in FIXTURES.rglob("*") if path.is_file()} == before
    assert sum(map(len, before.values())) < 200_000


def test_it_is_read_as_its_writer_saw_it(old: Old):
    found = seen(old.q)
    same(found, {name: old.expected[name] for name in found if name in old.expected})
    assert old.q.store.info().engine == old.expected["engine"]
    assert old.q.store.check() == []
    assert old.q.store.task(old.expected["ids"]["quarantined"], old.q.clock) is Outcome.QUARANTINED


def test_it_is_lived_on_in(old: Old):
    q, ids = old.q, old.expected["ids"]
    assert [task.id for task in q.claim("mail", claim_id="claim-1").tasks] == [ids["run_first"] + n for n in range(3)]
    again = q.enqueue(*[entry(queue="dedupe", type="d", dedupe=key) for key in ("k", LONG_KEY, "t", "u")])
    assert [again.placed(number).outcome for number in range(4)] == [Outcome.SKIPPED] * 4
    extended = q.task(ids["extended"])
    q.clock.advance(300)
    q.claim("beat", "mail")
    assert q.state(ids["extended"]) is State.RUNNING, "the heartbeat's deadline was lost"
    assert extended.progress == 0.25
    new = q.add(queue="mail", type="a type that it did not know")
    assert new > max(task["id"] for task in old.expected["tasks"])
    q.patch_queue("mail", max_running=0)
    q.clock.advance(100_000)
    for _ in range(20):
        q.clock.advance(1_000)
        names = [view.name for view in q.store.queues()]
        for task in q.claim(*names, limit=1_000).tasks:
            q.succeed(task)
    while q.sweep(Prune()).more:
        pass
    left = {task.state for task in q.all_tasks()}
    assert left <= {State.DEAD}, left
    assert q.store.count(EVERYTHING) == len(q.all_tasks())
