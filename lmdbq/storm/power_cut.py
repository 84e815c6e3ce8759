"""The power cut storm: sessions are recorded, and the power fails at random moments of each, thousands of times.

A round is one recorded session (durability ``full`` and ``batch`` by turns) and IMAGES_PER_ROUND images of it. All is
drawn from one seed: the same seed and number of images ask the same again. Before the images of a round are drawn, the
session's own two books must agree (``ledger``).
"""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Generator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from lmdbq.storm.disk import Disk
from lmdbq.storm.planted import PLANTS
from lmdbq.storm.recording import Recording, Told, record, write
from lmdbq.storm.report import Report, Tell
from lmdbq.storm.scratch import scratch_directory
from lmdbq.storm.workers import Judged, draw, image_of, images, judge_all, ledger_of

IMAGES_PER_ROUND: Final = 2_500
STEPS: Final = 300
DURABILITIES: Final = ("full", "batch")
ANSWERS: Final = "answers.jsonl"


def run(seed: str, tell: Tell, images_max: int, minutes: float = 0.0, *, steps: int = STEPS, plant: str = "") -> Report:
    """Judge ``images_max`` images; or, if ``minutes`` are given, as many as fit into them.

    plant: the name of a fault of ``planted.PLANTS`` to put into each recording. Raises trace.Unclear, KeyError (plant).
    """
    report = Report("power-cut", seed, "images")
    started = time.monotonic()
    until = started + minutes * 60 if minutes else None
    with ExitStack() as stack:
        scratch = stack.enter_context(scratch_directory())  # it goes after the workers in it have ended
        rounds = stack.enter_context(closing(_all_rounds(report, images_max, until, steps, plant, scratch, tell)))
        for judged in rounds:
            _take(report, judged)
            report.seconds = time.monotonic() - started
            tell(report.tried, 0 if until else images_max, "")
            if until is not None and time.monotonic() > until:
                break
    return report


def replay(seed: str, image: str, target: Path, *, steps: int = STEPS, plant: str = "") -> Report:
    """Make one image of a run again, in the empty directory ``target``, and judge a copy of it.

    image: "ROUND/NUMBER", as faults are told. Beside the image stand the answers that were given before the cut. Raises
    ValueError for an image that cannot be one, trace.Unclear, KeyError (plant).
    """
    round_text, slash, number = image.partition("/")
    if not (slash and round_text.isdigit() and number.isdigit()):
        raise ValueError(f"{image!r} is no image: say ROUND/NUMBER, as in 2/317")
    report = Report("power-cut", seed, "images")
    with scratch_directory() as scratch:
        session = f"{seed}/{int(round_text)}"
        recording = _recorded(report, session, DURABILITIES[int(round_text) % len(DURABILITIES)], steps, scratch)
        span = None
        if plant:
            recording, span = PLANTS[plant](recording)
        wanted = image_of(recording, f"{session}/{int(number)}", span)
        before = recording.events[: wanted.cut]
        disk = Disk(recording)
        for event in before:
            disk.replay(event)
        draw(wanted, disk, recording, target)
        answers = [event.line for event in before if isinstance(event, Told)]
        (target / ANSWERS).write_bytes(b"".join(line + b"\n" for line in answers))
        write(recording, scratch / "recording")
        for judged in judge_all(scratch / "recording", [wanted], scratch, workers=1):
            _take(report, judged)
    return report


def _take(report: Report, judged: Judged) -> None:
    report.tried += 1
    if judged.problems:
        report.blame(f"image {judged.image.seed}, cut {judged.image.cut}", judged.problems)


def _all_rounds(
    report: Report, images_max: int, until: float | None, steps: int, plant: str, scratch: Path, tell: Tell
) -> Generator[Judged, None, None]:
    for number in itertools.count():
        wanted = IMAGES_PER_ROUND if until else min(IMAGES_PER_ROUND, images_max - report.tried)
        if not wanted:
            return
        seed, durability = f"{report.seed}/{number}", DURABILITIES[number % len(DURABILITIES)]
        tell(report.tried, 0 if until else images_max, f"session {seed}, durability {durability}")
        recording = _recorded(report, seed, durability, steps, scratch)
        span = None
        if plant:
            recording, span = PLANTS[plant](recording)
        path = scratch / "recording"
        write(recording, path)
        yield from judge_all(path, images(recording, seed, wanted, span), scratch)


def _recorded(report: Report, seed: str, durability: str, steps: int, scratch: Path) -> Recording:
    """Record a session, and blame it if its own books disagree."""
    root = scratch / "session"
    root.mkdir()
    recording = record(root, durability, seed, steps)
    shutil.rmtree(root)
    ledger = ledger_of(recording)
    report.count("sessions")
    report.count("answers", ledger.answers)
    report.count("events", len(recording.events))
    contradictions = ledger.contradictions()
    if contradictions:
        report.blame(f"session {seed}, durability {durability}", contradictions)
    return recording
