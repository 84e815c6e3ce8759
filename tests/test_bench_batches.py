"""The profile of batches: its page is that of its facts, every kind is measured, and its shares are right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import batches
from bench.batches import Cost
from tests.profile_tools import recorded


def test_the_page_is_that_of_the_committed_facts():
    facts = json.loads(batches.FACTS.read_text(encoding="utf-8"))
    assert batches.page(facts) == batches.PAGE.read_text(encoding="utf-8")
    assert list(facts["kinds"]) == [kind.name for kind in batches.KINDS]


def test_every_kind_is_measured_stage_by_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    small = tuple(kind._replace(workload=kind.workload.small()) for kind in batches.KINDS)
    monkeypatch.setattr(batches, "KINDS", small)
    kinds = recorded(batches, tmp_path, monkeypatch)["kinds"]
    assert list(kinds) == [kind.name for kind in batches.KINDS]
    for (cost,) in kinds.values():
        assert min(cost[stage] for stage in ("decode", "begin", "put", "answer")) > 0
        for own in ("commit", "server", "raw"):  # the kernel's part is told in steps of 10 ms, longer than this turn
            system = "system" if own == "server" else f"{own}_system"
            assert cost[own] + cost[system] > 0


def test_a_share_is_of_all_that_the_daemon_spends():
    cost = Cost(1.0, 0.5, 2.0, 0.25, 0.25, 1.0, server=6.0, system=2.0, raw=3.0, raw_system=1.0)
    assert (cost.stages, cost.share) == (5.0, 0.5)
