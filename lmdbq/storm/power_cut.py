"""The power cut storm: sessions are recorded, and the power fails at random moments of each, thousands of times.

A round is one recorded session and IMAGES_PER_ROUND images of it: of a user of the library with durability ``full``,
then ``batch``, and of callers of a daemon, likewise. The library's user also makes backups, compacts the file, and
restores one backup beside it. All is drawn from one seed: the same seed and number of images ask the same again. Before
the images of a round are drawn, the session's own two books must agree (``ledger``).

The trap: what several callers of a daemon are answered together is the machine's decision. So the images of such a
round cannot be made again; whoever wants to look at one that is faulty has the run keep it.
"""

from __future__ import annotations

import itertools
import math
import shutil
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final, NamedTuple

from lmdbq.storm.disk import Disk, make
from lmdbq.storm.planted import PLANTS
from lmdbq.storm.recording import DAEMON, LIBRARY, Recording, Told, record, write
from lmdbq.storm.report import Report, Tell
from lmdbq.storm.scratch import scratch_directory
from lmdbq.storm.verdicts import draw
from lmdbq.storm.workers import Image, Judged, image_of, images, judge_all, ledger_of

IMAGES_PER_ROUND: Final = 2_500
STEPS: Final = 300
DURABILITIES: Final = ("full", "batch")
SESSIONS: Final = tuple((module, durability) for module in (LIBRARY, DAEMON) for durability in DURABILITIES)
ANSWERS: Final = "answers.jsonl"
KEPT_MAX: Final = 5


class _Found(NamedTuple):
    judged: Judged
    recording: Recording


def run(
    seed: str,
    tell: Tell,
    images_max: int,
    minutes: float = 0.0,
    *,
    steps: int = STEPS,
    plant: str = "",
    keep: Path | None = None,
) -> Report:
    """Judge ``images_max`` images; or, if ``minutes`` are given, as many as fit into them.

    keep: where the first KEPT_MAX faulty images go, if given. plant: the name of a fault of ``planted.PLANTS`` to
    put into each recording. Raises trace.Unclear, KeyError (plant).
    """
    report = Report("power-cut", seed, "images")
    started = time.monotonic()
    until = started + minutes * 60 if minutes else None
    with ExitStack() as stack:
        scratch = stack.enter_context(scratch_directory())  # it goes after the workers in it have ended
        rounds = stack.enter_context(closing(_all_rounds(report, images_max, until, steps, plant, scratch, tell)))
        for judged, recording in rounds:
            _take(report, judged)
            if judged.problems and keep is not None and report.faulty <= KEPT_MAX:
                _keep(recording, judged.image, keep / judged.image.seed.replace("/", "-"))
            report.seconds = time.monotonic() - started
            tell(report.tried, 0 if until else images_max, "")
            if until is not None and time.monotonic() > until:
                break
    return report


def replay(seed: str, image: str, target: Path, *, steps: int = STEPS, plant: str = "") -> Report:
    """Make one image of a run again, in the empty directory ``target``, and judge a copy of it.

    image: "ROUND/NUMBER", as faults are told. Raises ValueError for an image that cannot be made again, trace.Unclear,
    KeyError (plant).
    """
    round_text, slash, number = image.partition("/")
    if not (slash and round_text.isdigit() and number.isdigit()):
        raise ValueError(f"{image!r} is no image: say ROUND/NUMBER, as in 1/317")
    module, _ = SESSIONS[int(round_text) % len(SESSIONS)]
    if module == DAEMON:
        raise ValueError(
            f"round {round_text} is of a session through the daemon, which no seed repeats exactly: "
            "run it all with --keep, and faulty images are kept"
        )
    report = Report("power-cut", seed, "images")
    with scratch_directory() as scratch:
        session = f"{seed}/{int(round_text)}"
        recording = _record(seed, int(round_text), steps, scratch)
        _take_session(report, int(round_text), recording)
        span = None
        if plant:
            recording, span = PLANTS[plant](recording)
        wanted = image_of(recording, f"{session}/{int(number)}", span)
        _keep(recording, wanted, target)
        write(recording, scratch / "recording")
        for judged in judge_all(scratch / "recording", [wanted], scratch, workers=1):
            _take(report, judged)
    return report


def _keep(recording: Recording, image: Image, target: Path) -> None:
    """Make an image, and beside it the answers that were given before its cut."""
    target.mkdir(parents=True, exist_ok=True)
    disk = Disk(recording)
    before = recording.events[: image.cut]
    for event in before:
        disk.replay(event)
    make(draw(image.seed, disk, recording), target)
    answers = [event.line for event in before if isinstance(event, Told)]
    (target / ANSWERS).write_bytes(b"".join(line + b"\n" for line in answers))


def _take(report: Report, judged: Judged) -> None:
    report.tried += 1
    if judged.how:
        report.count(judged.how)
    if judged.problems:
        report.blame(f"image {judged.image.seed}, cut {judged.image.cut}", judged.problems)


def _all_rounds(
    report: Report, images_max: int, until: float | None, steps: int, plant: str, scratch: Path, tell: Tell
) -> Generator[_Found, None, None]:
    rounds = itertools.count() if until else range(math.ceil(images_max / IMAGES_PER_ROUND))
    with ThreadPoolExecutor(1) as ahead:  # strace records the next session while the images of this one are judged
        recordings = {0: ahead.submit(_record, report.seed, 0, steps, scratch)}
        for number in rounds:
            left = IMAGES_PER_ROUND if until else images_max - number * IMAGES_PER_ROUND
            module, durability = SESSIONS[number % len(SESSIONS)]
            of = "through the daemon, " if module == DAEMON else ""
            event = f"session {report.seed}/{number}, {of}durability {durability}"
            tell(report.tried, 0 if until else images_max, event)
            recording = recordings.pop(number).result()
            _take_session(report, number, recording)
            if left > IMAGES_PER_ROUND or until:
                recordings[number + 1] = ahead.submit(_record, report.seed, number + 1, steps, scratch)
            span = None
            if plant:
                recording, span = PLANTS[plant](recording)
            path = scratch / "recording"
            write(recording, path)
            wanted = images(recording, f"{report.seed}/{number}", min(left, IMAGES_PER_ROUND), span)
            for judged in judge_all(path, wanted, scratch):
                yield _Found(judged, recording)


def _record(seed: str, number: int, steps: int, scratch: Path) -> Recording:
    """Record the session of a round."""
    module, durability = SESSIONS[number % len(SESSIONS)]
    root = scratch / "session"
    root.mkdir()
    recording = record(root, durability, f"{seed}/{number}", steps, module)
    shutil.rmtree(root)
    return recording


def _take_session(report: Report, number: int, recording: Recording) -> None:
    """Count a session, and blame it if its own books disagree."""
    ledger = ledger_of(recording)
    report.count("sessions")
    report.count("through the daemon", int(recording.through_daemon))
    report.count("answers", ledger.answers)
    report.count("events", len(recording.events))
    contradictions = ledger.contradictions()
    if contradictions:
        report.blame(f"session {report.seed}/{number}, durability {recording.durability}", contradictions)
