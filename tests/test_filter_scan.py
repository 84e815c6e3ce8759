"""Going through the task table: what cannot match is told by its bytes, and nothing that matches is missed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmdbq import limits
from lmdbq.clock import ManualClock
from lmdbq.model import PLAIN, Filter, Options
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from tests.store_driver import Driver, entry
from tests.store_factories import FACTORIES

words = st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable())


def record(options: Options, priority: int = 0) -> bytes:
    head = rec.write_task_head(1, 1, 0, priority + ks.PRIORITY_BIAS, 5, 5, 0, rec.NO_SLOT, 0, options)
    return rec.write_task(head, b'{"to": "payload"}')


@given(tags=st.lists(words, max_size=4).map(tuple), lane=words, is_thread=st.booleans())
def test_a_text_that_the_options_say_is_found_in_their_bytes(tags: tuple[str, ...], lane: str, is_thread: bool):
    said = record(Options(tags=tags, **{"thread" if is_thread else "group": lane}))

    assert all(rec.may_say(text)(said) for text in (*tags, lane))
    assert not rec.may_say("payload")(record(PLAIN)), "what the payload says is no option"


@given(priority=st.integers(-32_768, 32_767), low=st.integers(0, 65_535), high=st.integers(0, 65_535))
def test_a_priority_is_told_by_its_bytes(priority: int, low: int, high: int):
    biased = priority + ks.PRIORITY_BIAS

    assert rec.may_have_priority(low, high)(record(PLAIN, priority)) == (low <= biased <= high)


@pytest.fixture
def q(tmp_path: Path) -> Driver:
    return Driver(FACTORIES["lmdb"](tmp_path / "store"), ManualClock())


@pytest.mark.parametrize(
    ("wanted", "number"),
    [
        (Filter(tag="rare"), 1),
        (Filter(tag="never"), 0),
        (Filter(group="g"), 1),
        (Filter(thread="t"), 1),
        (Filter(set_id=5), 0),
        (Filter(priority=(5, 9)), 1),
        (Filter(reason="no_retry"), 1),
        (Filter(attempts=(2, 9)), 0),
        (Filter(ended=(0, limits.INSTANT_NS_MAX)), 1),
    ],
)
def test_only_records_that_may_match_are_read(q: Driver, monkeypatch: pytest.MonkeyPatch, wanted: Filter, number: int):
    q.enqueue(*(entry(tags=("eu",)) for _ in range(50)))
    q.fail(q.take(), retry=False)
    q.enqueue(entry(tags=("rare",)), entry(group="g"), entry(thread="t"), entry(priority=7))
    reads: list[bytes] = []
    read_task = rec.read_task
    monkeypatch.setattr(rec, "read_task", lambda value: reads.append(value) or read_task(value))

    found = q.store.tasks(wanted, q.clock).tasks

    assert len(found) == number
    assert len(reads) <= 1
    monkeypatch.undo()
    assert q.store.check() == []
    q.store.close()


def test_a_scan_goes_on_where_it_stopped(q: Driver, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "SCAN_TASKS_MAX", 7)
    ids = q.enqueue(*(entry(tags=("x",) if number % 5 == 0 else ()) for number in range(21))).ids
    pages, after = [], 0
    while True:
        page = q.store.tasks(Filter(tag="x"), q.clock, after, 2)
        pages.append([ids.index(task.id) for task in page.tasks])
        after = page.after
        if not after:
            break

    assert pages == [[0, 5], [10], [15], [20]]
    assert q.store.count(Filter(tag="x")) == 5
    assert q.store.check() == []
    q.store.close()
