"""Every check of the four systems has a test that is named after it, or is accounted for in ``peer_checks``."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests import peer_checks

TESTS = Path(__file__).parent
_NAMED = re.compile(r"def test_(moab|zizq|eddyq|runqy)_(\d)_(\d+)_")
_TEST = re.compile(r"def (test_\w+)")
README = TESTS.parent / "README.md"
SYSTEMS = sorted(peer_checks.SECTION)


def sources() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in TESTS.glob("*.py"))


@pytest.fixture(scope="module")
def named() -> dict[str, Counter[int]]:
    """The numbers that tests are named after, by system."""
    found: dict[str, Counter[int]] = {system: Counter() for system in SYSTEMS}
    for system, section, number in _NAMED.findall(sources()):
        if int(section) == peer_checks.SECTION[system]:  # others are about the bugs that were found in one of them
            found[system][int(number)] += 1
    return found


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_check_is_held_or_accounted_for(system: str, named: dict[str, Counter[int]]):
    held = {*named[system], *peer_checks.ELSEWHERE[system]}
    known = held | peer_checks.WIRE[system] | set(peer_checks.DEVIATIONS[system])

    assert sorted(set(range(1, peer_checks.LAST[system] + 1)) - known) == []
    assert sorted(held & peer_checks.WIRE[system]) == []
    assert max(known) <= peer_checks.LAST[system]


def test_what_is_held_elsewhere_is_there():
    tests = set(_TEST.findall(sources()))

    assert {name for held in peer_checks.ELSEWHERE.values() for name in held.values()} - tests == set()


def test_what_holds_each_feature_of_the_readme_is_there():
    _, _, section = README.read_text(encoding="utf-8").partition("## What a task can do")
    rows = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("|")][2:]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[3])]

    assert len(rows) > 8
    assert len(named) >= len(rows)
    assert [name for name in named if not (TESTS / f"{name}.py").is_file()] == []
