"""The profile of whole lives with two workers: its page is that of its facts, and both sides of every row are in it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from bench import workers
from bench.workers import Cost
from tests.profile_tools import recorded


def test_the_page_is_that_of_the_committed_facts():
    facts = json.loads(workers.FACTS.read_text(encoding="utf-8"))
    assert workers.page(facts) == workers.PAGE.read_text(encoding="utf-8")
    assert list(facts["rows"]) == [row.title for row in workers.ASKED]


def test_both_sides_of_every_row_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    facts = recorded(workers, tmp_path, monkeypatch)
    for row in workers.ASKED:
        found = facts["rows"][row.title]
        assert list(found) == [side.name for side in workers.sides(row)]
        (ours,) = found[row.numerator[1]]
        assert 1 <= ours["commits"] <= 2_000, "a life is two requests, each committed once or together with another"
        for (cost,) in found.values():
            server = cost["server"] + cost["system"]  # the kernel's part is told in steps of 10 ms: it can be all
            assert min(server, cost["producer"], cost["workers"], cost["rate"]) > 0
    assert len(facts["rows"]) == 4


def test_a_limit_says_what_was_asked_seen_and_allowed():
    ours, theirs = Cost(80.0, 20.0, 10.0, 10.0, 150.0, 6_000.0), Cost(50.0, 50.0, 100.0, 300.0, 0.0, 3_000.0)
    assert (ours.most(2, 2), theirs.most(2, 2)) == (10_000, 4_000)
    free = Cost(100.0, 25.0, 10.0, 10.0, 150.0, 5_000.0)
    found = {
        one.title: msgspec.to_builtins(
            {one.numerator[1]: [ours], "HTTP JSON, any core": [free], one.denominators[0][1]: [theirs]}
        )
        for one in workers.ASKED
    }
    facts = {"machine": {"cores": 2}, "rows": found}
    said = workers.page(facts)
    assert "| dequeue 10 | HTTP JSON | 80.0 | 20.0 | 10.0 | 10.0 | 150.0 | 6,000 | 10,000 |" in said
    assert "| dequeue 10 | Redis always, BLMOVE | 50.0 | 50.0 | 100.0 | 300.0 |  | 3,000 | 4,000 |" in said
    assert "asked is 3, seen 2.00; processor time allows 2.50." in said
    assert "leaves 111 us for all of a task" in said
    assert "one core the daemon spends 0.80 of what it does on any core, and its rate is 1.20 of that." in said
