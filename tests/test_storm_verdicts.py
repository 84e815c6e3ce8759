"""What is judged once is told apart by all that can be read of it: no torn page hides behind a sound one."""

from __future__ import annotations

import random
from collections import Counter
from functools import partial
from pathlib import Path

import lmdb
import pytest

from lmdbq.clock import ManualClock
from lmdbq.store.lmdb import open_store
from lmdbq.storm import verdicts as judging
from lmdbq.storm.disk import SECTOR_BYTES, Disk, Drawn, File, Inode
from lmdbq.storm.images import Seen
from lmdbq.storm.reach import PAGE_BYTES, Reach, whole_key
from lmdbq.storm.recording import DATA, LIBRARY, Recording, record
from lmdbq.storm.session import RESTORED_NAME
from lmdbq.storm.verdicts import AUDITED, EQUAL, LOOKED_THROUGH, OPENED, Verdicts
from lmdbq.storm.workers import images, ledger_of
from tests.store_driver import Driver

LARGE = b'"%s"' % (b"." * 9_000)  # three pages of its own


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return record(tmp_path_factory.mktemp("session"), "full", "of the verdicts", 60, LIBRARY)


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    """The bytes of a store with some tasks, one of them large, and some freed pages."""
    q = Driver(open_store(tmp_path / "store"), ManualClock())
    for number in range(60):
        q.add(payload=b"%d" % number)
    q.add(payload=LARGE)
    for _ in range(60):
        q.succeed(q.take())
    assert q.store.check() == []
    q.store.close()
    return (tmp_path / "store" / "data.mdb").read_bytes()


def file_of(content: bytes, sectors: list[tuple[int, bytes]] | None = None) -> File:
    inode = Inode()
    inode.content = bytearray(content)
    return File(1, inode, len(content), sectors or [])


def flipped(content: bytes, sector: int, at: int = 7) -> list[tuple[int, bytes]]:
    data = bytearray(content[sector * SECTOR_BYTES : (sector + 1) * SECTOR_BYTES])
    data[at] ^= 0x40
    return [(sector, bytes(data))]


def everything(directory: Path, content: bytes) -> dict[bytes, dict[bytes, bytes]]:
    (directory / "data.mdb").write_bytes(content)
    with lmdb.open(str(directory), max_dbs=200, readonly=True, lock=False, lib_version=0) as env, env.begin() as txn:
        names = [bytes(key) for key, _ in txn.cursor().iternext()]
        return {name: dict(txn.cursor(db=env.open_db(name, txn=txn, create=False)).iternext()) for name in names}


def test_a_file_is_another_if_any_page_that_can_be_read_is_and_only_then(content: bytes, tmp_path: Path):
    reach = Reach()
    key = reach.key(file_of(content))
    assert key != whole_key(file_of(content)), "the file was not understood"
    assert reach.key(file_of(content)) == key
    pages = range(len(content.rstrip(b"\0")) // PAGE_BYTES + 1)
    unread = [page for page in pages if reach.key(file_of(content, flipped(content, page * 8 + 3))) == key]
    assert 3 < len(unread) < len(pages) - 10
    junk = bytearray(content)
    for page in unread:
        junk[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = random.Random(page).randbytes(PAGE_BYTES)
    assert reach.key(file_of(bytes(junk))) == key
    assert everything(tmp_path, bytes(junk)) == everything(tmp_path, content), "LMDB reads what the walk does not"
    assert LARGE[:1000] in b"".join(
        content[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] for page in pages if page not in unread
    )


def test_a_page_that_is_written_anew_is_seen_to_be_another(content: bytes):
    reach = Reach()
    file = file_of(content)
    before = reach.key(file)
    [(sector, data)] = flipped(content, 3)
    file.inode.write(sector * SECTOR_BYTES, data)
    assert reach.key(file) == before, "it is not yet on the disk"
    file.inode.sync()
    assert reach.key(file) != before


def test_a_file_that_is_no_whole_tree_is_no_more_than_itself(content: bytes):
    reach = Reach()
    cut_off = file_of(content)._replace(size=PAGE_BYTES * 3)
    nothing = file_of(content)._replace(size=0)
    for file in (cut_off, nothing, file_of(content, [(0, bytes(SECTOR_BYTES))])):
        assert reach.key(file) == whole_key(file)


def judged(recording: Recording, wanted: int, scratch: Path) -> tuple[Counter[str], list[str], Verdicts, Disk]:
    verdicts, disk, at = Verdicts(recording, scratch), Disk(recording), 0
    hows: Counter[str] = Counter()
    faults: list[str] = []
    for image in images(recording, "verdicts", wanted):
        for event in recording.events[at : image.cut]:
            disk.replay(event)
        at = image.cut
        how, problems = verdicts.judge(image.seed, disk, lambda _: [])
        hows[how] += 1
        faults += problems
    return hows, faults, verdicts, disk


def test_each_thing_is_judged_once_and_some_are_judged_again(recording: Recording, tmp_path: Path):
    hows, faults, _, _ = judged(recording, 400, tmp_path)
    assert faults == []
    assert set(hows) == {EQUAL, LOOKED_THROUGH, OPENED, AUDITED}
    assert hows[EQUAL] > hows[LOOKED_THROUGH] > 20
    assert hows[AUDITED] >= 2


def test_a_torn_page_is_found_behind_a_sound_one_that_was_judged(
    recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _, _, verdicts, disk = judged(recording, 20, tmp_path)
    drawn = judging.draw("the last", disk, recording)
    data = drawn[DATA]
    assert data is not None
    reach = Reach()
    sound = reach.key(data)
    content = bytes(data.inode.content)
    flips = (data._replace(sectors=flipped(content, at, 300)) for at in range(16, len(content) // SECTOR_BYTES))
    torn = [file for file in flips if reach.key(file) != sound][:16]
    monkeypatch.setattr(judging, "draw", lambda *_: drawn)
    for _ in range(2):
        how, problems = verdicts.judge("whole", disk, lambda _: [])
        assert problems == []
    assert how == EQUAL
    found: list[File] = []
    for file in torn:
        monkeypatch.setattr(judging, "draw", lambda *_, file=file: drawn | {DATA: file})
        how, problems = verdicts.judge("torn", disk, lambda _: [])
        assert how == LOOKED_THROUGH
        found += [file] if problems else []
    assert found
    monkeypatch.setattr(judging, "draw", lambda *_: drawn | {DATA: found[0]})
    how, problems = verdicts.judge("torn", disk, lambda _: [])
    assert how == LOOKED_THROUGH, "what is faulty was remembered"
    assert problems


def test_what_was_restored_is_judged_by_every_byte_and_compared_with_what_was_copied(
    recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    verdicts, disk, ledger = Verdicts(recording, tmp_path), Disk(recording), ledger_of(recording)
    for event in recording.events:
        disk.replay(event)
    drawn = judging.draw("the last", disk, recording)
    restored = f"{RESTORED_NAME}/data.mdb"
    file = drawn[restored]
    assert file is not None

    def problems(there: Drawn) -> list[str]:
        monkeypatch.setattr(judging, "draw", lambda *_: there)
        compare = partial(ledger.compare_restored, answers=ledger.answers)
        return verdicts.judge("restored", disk, lambda _: [], compare)[1]

    for _ in range(2):
        assert problems(drawn) == []
    content = bytes(file.inode.content)
    flips = (file._replace(sectors=flipped(content, at, 300)) for at in range(16, len(content) // SECTOR_BYTES))
    torn = [found for flip in flips if (found := problems(drawn | {restored: flip}))]
    assert torn
    assert all(problem.startswith("restored: ") for found in torn for problem in found)
    assert problems(drawn | {restored: drawn[DATA]}) != [], "it is of another moment"
    lost = {path: one for path, one in drawn.items() if not path.startswith(RESTORED_NAME)}
    assert problems(lost) == ["restored: what was restored is missing"]
    assert problems(drawn) == []
    monkeypatch.setattr(judging, "AUDITED_EVERY", 1)
    assert problems(drawn) == []
    verdicts._restored = dict.fromkeys(verdicts._restored, Seen([], None, 1))
    assert problems(drawn) == ["restored: it is not judged as one that cannot be told from it"]


def test_every_image_is_compared_with_what_was_answered_before_it(recording: Recording, tmp_path: Path):
    _, _, verdicts, disk = judged(recording, 20, tmp_path)
    for _ in range(2):
        _, problems = verdicts.judge("compared", disk, lambda found: [f"{len(found.tasks)} tasks"])
        assert problems[0].endswith(" tasks")


def test_an_audit_finds_what_was_remembered_wrongly(
    recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _, _, verdicts, disk = judged(recording, 20, tmp_path)
    verdicts.judge("known", disk, lambda _: [])
    monkeypatch.setattr(judging, "AUDITED_EVERY", 1)
    drawn = judging.draw("known", disk, recording)
    monkeypatch.setattr(judging, "draw", lambda *_: drawn)
    assert verdicts.judge("known", disk, lambda _: []) == (AUDITED, [])
    state, _ = verdicts._keys(drawn)
    verdicts._states[state] = Seen([], None, 1)
    how, problems = verdicts.judge("known", disk, lambda _: [])
    assert how == AUDITED
    assert problems == ["it is not judged as one that cannot be told from it"]
