"""Power cuts lose nothing; and the simulator that says so finds each fault that is put in."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from lmdbq.clock import ManualClock
from lmdbq.limits import SECOND_NS
from lmdbq.model import Extend, Extension, Lapse, State
from lmdbq.store.lmdb import open_store
from lmdbq.storm import power_cut
from lmdbq.storm.disk import Disk, make
from lmdbq.storm.names import Dropped, Moved, Named, first_named
from lmdbq.storm.planted import PLANTS
from lmdbq.storm.recording import (
    DAEMON,
    DIRECTORY,
    Event,
    Forced,
    Recording,
    Sized,
    Synced,
    Told,
    Wrote,
    _Reader,
    record,
    write,
)
from lmdbq.storm.session import RESTORED_NAME
from lmdbq.storm.trace import Syscall, Unclear, syscalls, trace
from lmdbq.storm.verdicts import draw
from lmdbq.storm.workers import Image, _Lane, certain_answers, images, judge_all, ledger_of
from tests.store_driver import Driver

STEPS = 120
HIDDEN = f".{RESTORED_NAME}-"
OF_THE_LIBRARY = ("restore-unsynced", "restore-unnamed")  # faults: a session through the daemon restores nothing


@pytest.fixture(scope="module")
def through_daemon(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    return {
        durability: record(tmp_path_factory.mktemp(durability), durability, "of the tests", STEPS, DAEMON)
        for durability in power_cut.DURABILITIES
    }


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    return {
        durability: record(tmp_path_factory.mktemp(durability), durability, "of the tests", STEPS)
        for durability in power_cut.DURABILITIES
    }


def faults(recording: Recording, wanted: Sequence[Image], scratch: Path) -> list[str]:
    path = scratch / "recording"
    write(recording, path)
    return [problem for judged in judge_all(path, wanted, scratch) for problem in judged.problems]


def shown(recording: Recording) -> list[Event]:
    """Return what was asked of the disk, by the names that do not differ from run to run."""
    return [
        replace(event, **{name: HIDDEN for name in ("name", "old_name") if getattr(event, name, "").startswith(HIDDEN)})
        for event in recording.events
    ]


def drawn(recording: Recording, image: Image) -> list[tuple[int, int, list[tuple[int, bytes]]]]:
    """Return the files on the disk of an image: the inode, size and newer sectors of each."""
    disk = Disk(recording)
    for event in recording.events[: image.cut]:
        disk.replay(event)
    files = draw(image.seed, disk, recording).values()
    return [(file.number, file.size, file.sectors) for file in files if file is not None]


# --- what is recorded ---


def test_a_recording_holds_the_creation_every_commit_and_every_answer(recordings: dict[str, Recording]):
    full, batch = recordings["full"], recordings["batch"]
    names = [event.name for event in full.events if isinstance(event, Named)]
    assert names[0] == DIRECTORY
    assert {"data.mdb", "data.mdb.tmp", "verified", "lock.mdb"} <= set(names)
    moved = {(event.old_name, event.name) for event in full.events if isinstance(event, Moved)}
    assert ("data.mdb.compact", "data.mdb") in moved, "the file was not compacted"
    assert any(old.startswith(HIDDEN) and new == RESTORED_NAME for old, new in moved)
    ledger = ledger_of(full)
    assert ledger.answers > STEPS * 0.9
    assert len(ledger.worlds[-1].tasks) > 0
    assert ledger.contradictions() == []
    for recording in (full, batch):
        kinds = [type(event) for event in recording.events]
        assert kinds.count(Synced) > STEPS / 3
        assert (kinds.count(Forced) > STEPS / 3) == (recording is full), "batch does not sync the last page"
    assert sum(isinstance(event, Told) for event in batch.events) == ledger_of(batch).answers


def test_the_same_seed_asks_the_same_again(recordings: dict[str, Recording], tmp_path: Path):
    again = record(tmp_path, "full", "of the tests", STEPS)
    assert shown(again) == shown(recordings["full"])
    assert images(again, "seed", 50) == images(recordings["full"], "seed", 50)
    assert images(again, "seed", 50) != images(again, "other", 50)
    for image in images(again, "the same disks", 50):
        assert drawn(again, image) == drawn(recordings["full"], image)


def test_the_disk_at_the_end_is_the_one_that_was_left(tmp_path: Path):
    """Replayed to its end, with all of it synced, a recording gives the file that the session has made."""
    (tmp_path / "session").mkdir()
    recording = record(tmp_path / "session", "full", "bytes", STEPS)
    disk = Disk(recording)
    for event in recording.events:
        disk.replay(event)
    for inode in {event.inode for event in recording.events if isinstance(event, Wrote)}:
        disk.replay(Synced(inode))
    (tmp_path / "image").mkdir()
    make(disk.draw(random.Random(1)), tmp_path / "image")
    left, replayed = (tmp_path / place / "queue" / "data.mdb" for place in ("session", "image"))
    assert replayed.read_bytes() == left.read_bytes()


def test_a_trace_that_cannot_be_understood_is_refused(tmp_path: Path):
    with pytest.raises(Unclear, match="ended with 3"):
        trace(["sh", "-c", "exit 3"], tmp_path / "trace")
    with pytest.raises(Unclear, match="cut"):
        Syscall("write", r'3, "\x61"..., 100', 100).texts()
    (tmp_path / "noise").write_text("17 fdatasync(5\n")
    with pytest.raises(Unclear, match="cannot be read"):
        list(syscalls(tmp_path / "noise"))


def call(name: str, result: int, *arguments: str | bytes) -> Syscall:
    """Return a call as strace prints it, its paths (bytes) in hex."""

    def printed(word: str | bytes) -> str:
        return word if isinstance(word, str) else "".join(('"', *(rf"\x{byte:02x}" for byte in word), '"'))

    return Syscall(name, ", ".join(map(printed, arguments)), result)


def test_a_descriptor_stays_with_its_directory_when_that_is_renamed(tmp_path: Path):
    reader, root = _Reader(tmp_path), bytes(tmp_path)
    for one in (
        call("mkdir", 0, root + b"/a", "0700"),
        call("mkdir", -1, root + b"/a", "0700"),
        call("openat", 3, "AT_FDCWD", root + b"/a", "O_RDONLY"),
        call("rename", 0, root + b"/a", root + b"/b"),
        call("openat", 4, "3", b"f", "O_RDWR|O_CREAT"),
        call("fsync", 0, "3"),
        call("openat", 5, "AT_FDCWD", root + b"/b/f", "O_RDWR"),
        call("fsync", 0, "5"),
        call("unlinkat", 0, "3", b"f", "0"),
        call("rmdir", 0, root + b"/b"),
        call("openat", 6, "AT_FDCWD", root, "O_RDONLY"),
        call("fsync", 0, "6"),
    ):
        reader.take(one)
    names = [Named(0, "a", 1), Moved(0, "a", 0, "b"), Named(1, "f", 2)]
    syncs_and_after = [Synced(1), Synced(2), Dropped(1, "f"), Dropped(0, "b"), Synced(0)]
    assert reader.events == [*names, *syncs_and_after]
    for unclear in (
        call("rename", 0, root + b"/b", root + b"/c"),
        call("mkdir", 0, root + b"/b/d", "0700"),
        call("openat", 7, "6", b"..", "O_RDONLY"),
        call("rename", 0, root + b"/b", b"/elsewhere"),
    ):
        with pytest.raises(Unclear):
            reader.take(unclear)


def test_calls_that_other_threads_interrupted_are_put_together_in_the_order_of_their_ends(tmp_path: Path):
    (tmp_path / "halves").write_text(
        "17 fdatasync(5 <unfinished ...>\n"
        '18 write(6, "\\x61", 1 <unfinished ...>\n'
        "19 close(7 <unfinished ...>\n"
        "17 <... fdatasync resumed>) = 0\n"
        "18 <... write resumed>) = 1\n"
        "19 <... close resumed>) = 0\n"
    )
    found = list(syscalls(tmp_path / "halves"))
    assert found == [Syscall("close", "7", 0), Syscall("fdatasync", "5", 0), Syscall("write", r'6, "\x61", 1', 1)]
    (tmp_path / "overlap").write_text(
        '17 fdatasync(5 <unfinished ...>\n18 pwrite64(5, "\\x61", 1, 0) = 1\n17 <... fdatasync resumed>) = 0\n'
    )
    with pytest.raises(Unclear, match="two threads"):
        list(syscalls(tmp_path / "overlap"))


def test_a_daemon_that_makes_its_directory_syncs_the_name_before_anything_is_accepted(
    through_daemon: dict[str, Recording],
):
    """The simulator has found this: the daemon made the directory for its lock, and the store took it as given."""
    events = through_daemon["full"].events
    first = next(i for i, event in enumerate(events) if isinstance(event, Told) and b'"accepted": [1' in event.line)
    made, _ = first_named(events, DIRECTORY)
    assert any(event == Synced(0) for event in events[made:first])


# --- nothing is lost ---


@pytest.mark.parametrize("durability", power_cut.DURABILITIES)
def test_no_power_cut_loses_anything(recordings: dict[str, Recording], durability: str, tmp_path: Path):
    recording = recordings[durability]
    wanted = images(recording, f"nothing is lost, {durability}", 300)
    assert len({image.cut for image in wanted}) > 150
    assert faults(recording, wanted, tmp_path) == []


@pytest.mark.parametrize("durability", power_cut.DURABILITIES)
def test_no_power_cut_loses_anything_that_a_client_of_the_daemon_received(
    through_daemon: dict[str, Recording], durability: str, tmp_path: Path
):
    recording = through_daemon[durability]
    ledger = ledger_of(recording)
    assert ledger.contradictions() == []
    assert not all(ledger.is_known(number) for number in range(ledger.answers)), "nobody asked beside another"
    assert sum(ledger.is_known(number) for number in range(ledger.answers)) > STEPS / 10
    assert faults(recording, images(recording, f"through the daemon, {durability}", 200), tmp_path) == []


def test_a_run_reports_what_it_has_looked_at(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(power_cut, "IMAGES_PER_ROUND", 16)
    told: list[str] = []
    report = power_cut.run("a run", lambda done, of, event: told.append(event), 40, steps=30)
    assert report.passed
    assert (report.tried, report.faulty, report.faults) == (40, 0, [])
    assert (report.figures["sessions"], report.figures["through the daemon"]) == (3, 1)
    assert report.figures["answers"] >= 75
    assert [event for event in told if event] == [
        "session a run/0, durability full",
        "session a run/1, durability batch",
        "session a run/2, through the daemon, durability full",
    ]


# --- the test of the test: each fault that is put in is found ---


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_fault_is_found(recordings: dict[str, Recording], plant: str, tmp_path: Path):
    recording, span = PLANTS[plant](recordings["full"])
    assert faults(recording, images(recording, plant, 60, span), tmp_path) != []


@pytest.mark.parametrize("plant", sorted(PLANTS.keys() - OF_THE_LIBRARY))
def test_a_planted_fault_of_the_daemon_is_found(through_daemon: dict[str, Recording], plant: str, tmp_path: Path):
    recording, span = PLANTS[plant](through_daemon["full"])
    assert faults(recording, images(recording, plant, 60, span), tmp_path) != []


def test_what_batch_may_lose_of_what_the_daemon_answered_is_a_fault_under_full(
    through_daemon: dict[str, Recording], tmp_path: Path
):
    boasting = replace(through_daemon["batch"], durability="full")
    assert faults(boasting, images(boasting, "boasting", 300), tmp_path) != []
    batch = through_daemon["batch"]
    told = sum(isinstance(event, Told) for event in batch.events)
    assert 0.8 * told < certain_answers(batch)[-1] < told


def test_a_promise_that_full_makes_and_batch_does_not_is_known_apart(recordings: dict[str, Recording], tmp_path: Path):
    """What batch may lose is a fault under full: the same cuts, judged as if each answer had been synced."""
    batch = recordings["batch"]
    boasting = Recording("full", batch.seed, batch.events, batch.directories, batch.lock)
    assert faults(boasting, images(boasting, "boasting", 300), tmp_path) != []


def test_a_file_that_ends_too_early_is_found_and_the_images_behind_it_are_judged(tmp_path: Path):
    """A file whose end was never allocated nor written: what it points to is beyond it, where there is no memory. Its
    reader refuses it, or dies of it."""
    (tmp_path / "session").mkdir()
    recording = record(tmp_path / "session", "full", "dies", 20)
    events = [
        event
        for event in recording.events
        if not isinstance(event, Sized) and not (isinstance(event, Wrote) and event.offset >= 40_000)
    ]
    shown = Recording("full", "", events, recording.directories, b"")
    wanted = images(shown, "dies", 12)
    path = tmp_path / "recording"
    write(shown, path)
    found = list(judge_all(path, wanted, tmp_path, workers=1))
    assert [judged.image for judged in found] == wanted
    faulty = [judged for judged in found if judged.problems]
    assert len(faulty) > 1, "somebody went on behind the first"
    assert any(not judged.problems for judged in found)


def test_a_reader_that_dies_is_found_and_the_images_behind_it_are_judged(tmp_path: Path):
    (tmp_path / "session").mkdir()
    shown = record(tmp_path / "session", "full", "dies", 20)
    wanted = images(shown, "dies", 4)
    path = tmp_path / "recording"
    write(shown, path)
    readers = _Lane(path, wanted, tmp_path / "scratch")
    found = []
    try:
        for number in range(len(wanted)):
            if number < 2:
                readers._process.kill()
                readers._process.join()
            found.append(readers.receive())
    finally:
        readers.stop()
    assert [judged.image for judged in found] == wanted
    deaths = [judged for judged in found if any("its reader died" in problem for problem in judged.problems)]
    assert len(deaths) > 1, "somebody went on behind the first"
    assert any(not judged.problems for judged in found)


# --- what the simulator has found ---


class _Boot(ManualClock):
    """A clock of a boot of its own."""

    def __init__(self, name: str, up_seconds: int) -> None:
        super().__init__(steady=up_seconds * SECOND_NS)
        self._name = name

    def boot_id(self) -> str:
        return self._name


def test_a_boot_whose_first_commit_was_lost_leaves_no_deadlines_to_the_next(tmp_path: Path):
    """Its side file was never synced, but may be on the disk; its number was, and is free again."""
    first = _Boot("first", 1_000)
    q = Driver(open_store(tmp_path), first)
    task_id = q.add()
    task = q.take()
    q.store.close()
    before = (tmp_path / "data.mdb").read_bytes()
    q = Driver(open_store(tmp_path), _Boot("second", 30 * 86_400))
    q.call(Extend((Extension(task.id, task.deliveries),)))
    q.store.close()
    assert {path.name for path in tmp_path.glob("leases-*")} == {"leases-2"}
    (tmp_path / "data.mdb").write_bytes(before)  # the power fails: nothing of the commit is there, all of the side file

    third = _Boot("third", 1)
    q = Driver(open_store(tmp_path), third)
    q.call(Lapse())
    third.advance(61)
    q.call(Lapse())
    assert q.state(task_id) is not State.RUNNING
    assert not (tmp_path / "leases-2").exists()
    assert q.store.check() == []
    q.store.close()


@pytest.mark.parametrize("torn_bytes", [0, 4_096, 8_192, 12_000])
def test_a_torn_side_file_of_such_a_boot_is_not_even_opened(tmp_path: Path, torn_bytes: int):
    first = _Boot("first", 1_000)
    q = Driver(open_store(tmp_path), first)
    q.add()
    task = q.take()
    q.store.close()
    before = (tmp_path / "data.mdb").read_bytes()
    q = Driver(open_store(tmp_path), _Boot("second", 2))
    q.call(Extend((Extension(task.id, task.deliveries),)))
    q.store.close()
    (tmp_path / "data.mdb").write_bytes(before)
    side = tmp_path / "leases-2" / "data.mdb"
    side.write_bytes(side.read_bytes()[:torn_bytes])

    third = _Boot("third", 1)
    q = Driver(open_store(tmp_path), third)
    q.call(Lapse())
    q.call(Extend((Extension(task.id, task.deliveries),)))
    assert q.store.info().boot_no == 3
    assert q.store.check() == []
    q.store.close()
