"""``due`` is answered from memory while nothing was committed; an older state must not pass for a newer one."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmdbq.clock import ManualClock
from lmdbq.limits import SECOND_NS
from lmdbq.model import Call, Enqueue, Entry
from lmdbq.store.lmdb import LmdbStore, open_store


def test_a_commit_that_is_visible_before_its_data_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """While LMDB syncs a commit, its number can be seen already and readers still get the state before it."""
    clock = ManualClock()
    store = open_store(tmp_path)
    store.apply([Call((Enqueue((Entry(delay_ns=10 * SECOND_NS),)),))], clock)
    number = store.changed()
    with monkeypatch.context() as patch:
        patch.setattr(LmdbStore, "changed", lambda _self: number + 1)
        assert store.due(clock).promote_at == clock.wall_ns() + 10 * SECOND_NS
    store.apply([Call((Enqueue((Entry(delay_ns=5 * SECOND_NS),)),))], clock)
    assert store.changed() == number + 1
    assert store.due(clock).promote_at == clock.wall_ns() + 5 * SECOND_NS
    assert store.check() == []
    store.close()
