"""Judging many images at once, in processes that may die of one: a file with a hole in it can end its reader.

Each worker takes the images that it is given in the order of their cuts, so that it replays the recording only once,
and says what it found of each before it begins the next. When one dies, the image it was at is what it died of, and a
new worker goes on behind it. Every image is drawn from its own seed, so the same one comes out whoever makes it. Images
with cuts near each other have most in common (see ``verdicts``), so they are dealt out in blocks.

The trap: moments at which names change are few, and are where a file is least finished; so they get a share of the cuts
that is beyond their number.
"""

from __future__ import annotations

import functools
import logging
import multiprocessing.connection
import random
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Final, NamedTuple

from lmdbq.storm.disk import Disk
from lmdbq.storm.forks import FORKS
from lmdbq.storm.images import allowed_worlds
from lmdbq.storm.ledger import Ledger, World
from lmdbq.storm.names import Change, first_named
from lmdbq.storm.recording import DATA, Recording, Synced, Told, Wrote, read
from lmdbq.storm.verdicts import Verdicts

WORKERS: Final = 2
_NAMING_SHARE: Final = 0.2  # of the images are cut soon after a name was given or taken: there are few such moments
_SOON: Final = 12  # events
LAST_PAGES_BYTES: Final = 8_192  # a commit ends with a write to the first or second page of the file
BLOCK_IMAGES: Final = 100


class Image(NamedTuple):
    """One image: its seed, and before which event the power fails (``cut``: as many have happened)."""

    seed: str
    cut: int


class Judged(NamedTuple):
    """What is wrong with an image; nothing if all is well. how: one of the words of ``verdicts``."""

    image: Image
    problems: list[str]
    how: str = ""


def images(recording: Recording, seed: str, number: int, span: tuple[int, int] | None = None) -> list[Image]:
    """Return ``number`` images of a recording by rising cut; all cuts within ``span``, if it is given."""
    naming = _namings(recording)
    found = [_image(recording, naming, f"{seed}/{index}", span) for index in range(number)]
    return sorted(found, key=lambda image: image.cut)


def image_of(recording: Recording, image_seed: str, span: tuple[int, int] | None = None) -> Image:
    """Return one image again, by the seed that was told of it."""
    return _image(recording, _namings(recording), image_seed, span)


def _namings(recording: Recording) -> list[int]:
    return [index for index, event in enumerate(recording.events) if isinstance(event, Change)]


def _image(recording: Recording, naming: list[int], image_seed: str, span: tuple[int, int] | None) -> Image:
    last = len(recording.events)
    chosen = random.Random(image_seed)
    if span is not None:
        cut = chosen.randint(*span)
    elif chosen.random() < _NAMING_SHARE:
        cut = min(chosen.choice(naming) + chosen.randint(0, _SOON), last)
    else:
        cut = chosen.randint(0, last)
    return Image(image_seed, cut)


def judge_all(recording_path: Path, wanted: Sequence[Image], scratch: Path, workers: int = WORKERS) -> Iterator[Judged]:
    """Yield the judgement of each image as it comes."""
    lanes = [_Lane(recording_path, _share(wanted, index, workers), scratch / str(index)) for index in range(workers)]
    try:
        while waiting := {lane.connection: lane for lane in lanes if lane.left}:
            for ready in multiprocessing.connection.wait(list(waiting)):
                yield waiting[ready].receive()  # type: ignore[index]
    finally:
        for lane in lanes:
            lane.stop()


def _share(wanted: Sequence[Image], index: int, workers: int) -> list[Image]:
    starts = range(index * BLOCK_IMAGES, len(wanted), workers * BLOCK_IMAGES)
    return [image for start in starts for image in wanted[start : start + BLOCK_IMAGES]]


class _Lane:
    """One worker after another, over a share of the images."""

    def __init__(self, recording_path: Path, wanted: list[Image], scratch: Path) -> None:
        self.left = list(wanted)
        self._recording_path = recording_path
        self._scratch = scratch
        self._start()

    def _start(self) -> None:
        self.connection, theirs = FORKS.Pipe(duplex=False)
        arguments = (self._recording_path, self.left, self._scratch, theirs)
        self._process: ForkServerProcess = FORKS.Process(target=_work, args=arguments, daemon=True)
        self._process.start()
        theirs.close()

    def receive(self) -> Judged:
        """Return the next judgement; that it died, if the worker did."""
        image = self.left.pop(0)
        try:
            how, problems = self.connection.recv()
            return Judged(image, problems, how)
        except EOFError:
            self._process.join()
            status = self._process.exitcode
            self.stop()
            if self.left:
                self._start()
            return Judged(image, [f"its reader died with exit status {status}"])

    def stop(self) -> None:
        """End the worker, if it has not ended."""
        self._process.terminate()
        self._process.join()
        self.connection.close()


def _work(path: Path, wanted: Sequence[Image], scratch: Path, results: multiprocessing.connection.Connection) -> None:
    """Judge images in their order, and send what is wrong with each."""
    logging.getLogger("lmdbq").setLevel(logging.CRITICAL)  # what is damaged is for the judgement to say
    recording = read(path)
    ledger = ledger_of(recording)
    certain = certain_answers(recording)
    verdicts = Verdicts(recording, scratch)
    disk, at, answers = Disk(recording), 0, 0
    for image in wanted:
        for event in recording.events[at : image.cut]:
            disk.replay(event)
            answers += isinstance(event, Told)
        at = image.cut
        compare = _comparison(recording, ledger, answers, certain[at])
        try:
            compare_restored = functools.partial(ledger.compare_restored, answers=answers)
            results.send(verdicts.judge(image.seed, disk, compare, compare_restored))
        except Exception as error:  # noqa: BLE001  (whatever a damaged file raises is what is wrong with the image)
            results.send(("", [f"it cannot be read: {error!r}"]))


def ledger_of(recording: Recording) -> Ledger:
    """Return the ledger of all answers of a recording."""
    ledger = Ledger()
    for event in recording.events:
        if isinstance(event, Told):
            ledger.note(event.line)
    return ledger


def _comparison(recording: Recording, ledger: Ledger, answers: int, certain: int) -> Callable[[World], list[str]]:
    """Return how what is found in an image is compared with the answers."""
    if recording.through_daemon and recording.durability == "batch":
        return lambda found: ledger.judge_loosely(found, answers, certain)
    if not ledger.is_known(answers):
        return lambda found: ledger.judge_loosely(found, answers, answers)
    allowed = allowed_worlds(ledger, answers, recording.durability)
    return lambda found: ledger.compare(found, allowed)


def certain_answers(recording: Recording) -> list[int]:
    """Return how many answers hold for sure with durability ``batch``, by cut: all but those of the last commit.

    A commit is valid by its last page, which is not synced before the next commit syncs its own pages. So what was
    answered before a commit began to write holds once that commit has synced.
    """
    told = began = certain = 0
    _, data = first_named(recording.events, DATA)
    writing = False
    by_cut = [0]
    for event in recording.events:
        if isinstance(event, Told):
            told += 1
        elif isinstance(event, Wrote) and event.inode == data:
            is_last_page = event.offset < LAST_PAGES_BYTES
            if not is_last_page and not writing:
                began = told
            writing = not is_last_page
        elif isinstance(event, Synced) and event.inode == data and writing:
            certain = began
        by_cut.append(certain)
    return by_cut
