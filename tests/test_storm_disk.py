"""The model of the disk: what was synced is there, of the rest anything may be; and the ledger that images face."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lmdbq.store.copies import backup
from lmdbq.store.lmdb import open_store
from lmdbq.storm.disk import SECTOR_BYTES, Disk, make
from lmdbq.storm.images import allowed_worlds, judge
from lmdbq.storm.ledger import Ledger
from lmdbq.storm.names import Dropped, Moved, Named
from lmdbq.storm.recording import Event, Forced, Recording, Sized, Synced, Wrote
from lmdbq.storm.session import COPY_NAME

DRAWS = 400
OLD, NEW = b"o" * 4 * SECTOR_BYTES, b"n" * 4 * SECTOR_BYTES
MADE: list[Event] = [Named(0, "f", 1), Synced(0), Wrote(1, 0, OLD), Synced(1)]


def drawn(directory: Path, *events: Event) -> Iterator[dict[str, bytes]]:
    """Yield, of many power cuts after ``events``, the files that are left."""
    disk = Disk(Recording("full", "", list(events), {0, 9}, b""))
    for event in events:
        disk.replay(event)
    for number in range(DRAWS):
        target = directory / str(number)
        target.mkdir()
        make(disk.draw(random.Random(number)), target)
        yield {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()}


def sectors(content: bytes) -> list[bytes]:
    return [content[at : at + SECTOR_BYTES] for at in range(0, len(content), SECTOR_BYTES)]


def test_what_was_synced_is_there_after_every_cut(tmp_path: Path):
    assert {found["f"] for found in drawn(tmp_path, *MADE, Wrote(1, 0, NEW), Synced(1))} == {NEW}


def test_what_was_not_synced_is_there_in_any_part_but_never_in_half_a_sector(tmp_path: Path):
    found = {files["f"] for files in drawn(tmp_path, *MADE, Wrote(1, 0, NEW))}
    assert {OLD, NEW} < found
    assert len(found) == 2**4, "each sector by itself"
    assert {sector for content in found for sector in sectors(content)} == {OLD[:SECTOR_BYTES], NEW[:SECTOR_BYTES]}


def test_later_writes_may_be_there_without_earlier_ones_and_the_first_of_two_as_well(tmp_path: Path):
    first, second = Wrote(1, 0, b"1" * SECTOR_BYTES), Wrote(1, SECTOR_BYTES, b"2" * SECTOR_BYTES)
    again = Wrote(1, 0, b"3" * 100)
    found = {files["f"] for files in drawn(tmp_path, *MADE, first, second, again)}
    heads = {(content[:1], content[SECTOR_BYTES : SECTOR_BYTES + 1]) for content in found}
    assert heads == {(a, b) for a in (b"o", b"1", b"3") for b in (b"o", b"2")}
    overlaid = {content[:SECTOR_BYTES] for content in found if content[:1] == b"3"}
    assert overlaid == {b"3" * 100 + b"1" * (SECTOR_BYTES - 100)}


def test_a_write_through_syncs_itself_and_nothing_else(tmp_path: Path):
    pages, last = Wrote(1, SECTOR_BYTES, NEW[SECTOR_BYTES:]), Wrote(1, 0, b"m" * 120)
    found = {files["f"] for files in drawn(tmp_path, *MADE, pages, last, Forced(1, 0, 120))}
    assert {content[:120] for content in found} == {b"m" * 120}
    assert {content[120:SECTOR_BYTES] for content in found} == {OLD[120:SECTOR_BYTES]}
    assert len({content[SECTOR_BYTES:] for content in found}) == 2**3


def test_a_size_that_was_not_synced_may_be_another(tmp_path: Path):
    grown = (*MADE, Sized(1, 8192), Wrote(1, 4096, b"x" * SECTOR_BYTES))
    assert {len(files["f"]) for files in drawn(tmp_path / "", *grown)} == {len(OLD), 8192}


def test_a_size_that_was_synced_is_there(tmp_path: Path):
    assert {len(files["f"]) for files in drawn(tmp_path, *MADE, Sized(1, 8192), Synced(1))} == {8192}


def test_a_name_is_there_for_sure_once_its_directory_was_synced(tmp_path: Path):
    renamed: list[Event] = [*MADE, Named(0, "g", 1), Dropped(0, "f")]
    unsure = {frozenset(files) for files in drawn(tmp_path, *renamed)}
    assert unsure == {frozenset("f"), frozenset("fg"), frozenset("g"), frozenset()}
    (tmp_path / "synced").mkdir()
    assert {frozenset(files) for files in drawn(tmp_path / "synced", *renamed, Synced(0))} == {frozenset("g")}


def test_a_rename_is_one_step(tmp_path: Path):
    moved = Moved(0, "f", 0, "g")
    assert {frozenset(files) for files in drawn(tmp_path, *MADE, moved)} == {frozenset("f"), frozenset("g")}


def test_what_is_in_a_directory_that_was_lost_is_lost(tmp_path: Path):
    events: list[Event] = [Named(0, "d", 9), Named(9, "f", 1), Wrote(1, 0, OLD), Synced(1), Synced(9)]
    assert {frozenset(files) for files in drawn(tmp_path, *events)} == {frozenset(), frozenset({"d/f"})}


def test_a_directory_that_is_renamed_takes_along_what_is_in_it(tmp_path: Path):
    made: list[Event] = [Named(0, "d", 9), Named(9, "f", 1), Wrote(1, 0, OLD), Synced(1), Synced(9)]
    moved: list[Event] = [*made, Moved(0, "d", 0, "e")]
    assert {frozenset(files) for files in drawn(tmp_path, *moved)} == {
        frozenset(),
        frozenset({"d/f"}),
        frozenset({"e/f"}),
    }
    (tmp_path / "synced").mkdir()
    assert [*drawn(tmp_path / "synced", *moved, Synced(0))] == [{"e/f": OLD}] * DRAWS
    (tmp_path / "later").mkdir()
    later = [*moved, Synced(0), Named(9, "g", 1), Synced(9)]
    assert {frozenset(files) for files in drawn(tmp_path / "later", *later)} == {frozenset({"e/f", "e/g"})}


def test_a_directory_that_was_taken_away_is_gone_with_what_is_in_it_once_that_was_synced(tmp_path: Path):
    gone: list[Event] = [Named(0, "d", 9), Synced(0), Named(9, "f", 1), Synced(9), Dropped(9, "f"), Dropped(0, "d")]
    assert {frozenset(files) for files in drawn(tmp_path, *gone)} == {frozenset(), frozenset({"d/f"})}
    (tmp_path / "synced").mkdir()
    assert {frozenset(files) for files in drawn(tmp_path / "synced", *gone, Synced(0))} == {frozenset()}


def test_what_is_drawn_does_not_follow_from_what_it_is_called():
    def sizes(first: str, second: str) -> list[list[tuple[int, int]]]:
        named: list[Event] = [Named(0, first, 1), Named(0, second, 2), Synced(0)]
        events = [*named, *(Sized(inode, size) for size in range(1, 50) for inode in (1, 2))]
        disk = Disk(Recording("full", "", events, {0}, b""))
        for event in events:
            disk.replay(event)
        draws = (disk.draw(random.Random(number)).values() for number in range(DRAWS))
        return [[(file.number, file.size) for file in files if file is not None] for files in draws]

    found = sizes("a", "b")
    assert len({tuple(draw) for draw in found}) > DRAWS / 4
    assert sizes("b", "a") == found


# --- the ledger ---


def line(said: str = "done", **more: Any) -> bytes:
    told = {"said": said, "accepted": [], "ended": [], "changed": {}, "queues": None, **more}
    return json.dumps(told).encode()


def ledger_of(*lines: bytes) -> Ledger:
    ledger = Ledger()
    ledger.note_all(b"".join(one + b"\n" for one in lines))
    return ledger


ACCEPTED = line(accepted=[7], changed={"7": ["ready"]})
ENDED = line(ended=[7], changed={"7": None})


def test_books_that_agree_are_not_contradicted():
    assert ledger_of(ACCEPTED, ENDED).contradictions() == []


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([line(accepted=[7])], "7 was accepted and is lost"),
        ([ACCEPTED, line(changed={"7": None})], "7 was accepted and is lost"),
        ([ACCEPTED, line(ended=[7])], "7 was said to have ended and is back"),
        ([ACCEPTED, ENDED, line(changed={"7": ["ready"]})], "7 was said to have ended and is back"),
        ([line("not_committed", changed={"7": ["ready"]})], "something had changed"),
    ],
)
def test_books_that_disagree_are_found(lines: list[bytes], says: str):
    assert any(says in found for found in ledger_of(*lines).contradictions())


def test_a_line_that_was_cut_was_told_to_nobody():
    ledger = Ledger()
    ledger.note_all(ACCEPTED + b"\n" + ENDED[:20])
    assert ledger.answers == 1


def test_what_is_found_must_be_one_of_the_worlds_that_are_allowed():
    ledger = ledger_of(ACCEPTED, line(changed={"7": ["running"]}), line(), ENDED)
    nothing, ready, running, same, ended = ledger.worlds
    assert ledger.compare(running, allowed_worlds(ledger, 1, "full")) == []
    assert ledger.compare(nothing, allowed_worlds(ledger, 1, "full")) == ["7 is missing"]
    assert ledger.compare(ended, allowed_worlds(ledger, 1, "batch")) == [], "no task was accepted then"
    assert ledger.compare(ready, allowed_worlds(ledger, 3, "full")) == ["7: ['ready'], not ['running'] is another"]
    assert ledger.compare(ready, allowed_worlds(ledger, 3, "batch")) == [], "the last commit may be missing"
    assert ledger.compare(nothing, allowed_worlds(ledger, 2, "batch")) == ["7 is missing"], "but no other"
    assert ledger.compare(same, allowed_worlds(ledger, 4, "full")) == ["7 is there, and should not be"]


def test_what_was_restored_is_what_was_copied_and_must_be_there_once_that_was_said():
    ledger = ledger_of(ACCEPTED, line("restored"), ENDED)
    nothing, ready, _, ended = ledger.worlds
    for answers in (0, 1, 2, 3):
        assert ledger.compare_restored(ready, answers) == []
        assert ledger.compare_restored(nothing, answers) == ["7 is missing"]
        assert ledger.compare_restored(ended, answers) == ["7 is missing"]
        missing = ["what was restored is missing"] if answers > 1 else []
        assert ledger.compare_restored(None, answers) == missing
    assert ledger_of(ACCEPTED).compare_restored(None, 1) == []


def test_a_backup_that_has_its_name_must_be_whole(tmp_path: Path):
    directory = tmp_path / "queue"
    store = open_store(directory)
    store.info()
    assert store.check() == []
    store.close()
    copy = directory / COPY_NAME
    backup(directory, copy, lambda _: None)
    assert judge(directory, lambda _: []) == []

    copy.write_bytes(copy.read_bytes()[:-4096])
    assert [problem[:11] for problem in judge(directory, lambda _: [])] == ["its backup:"]
