"""Whether what a daemon uses stays where it is: samples of memory, descriptors and file, and the judgement of them.

The first half of a run is its warm-up: caches fill, the file grows to what it needs. Of the second half, the last
quarter of the run must not lie above the one before it, but for a little noise. What leaks grows without end, so a run
of any length shows it that lasts long enough for the noise; the longer the run, the smaller the leak that shows.

The trap: memory swings by some MB as queues fill and are drained, which takes about a minute. A quarter of a short run
may be all high or all low, so there the swing is noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Final, NamedTuple

MB: Final = 1_000_000
NOISE_SHARE: Final = 0.05
MEMORY_NOISE_BYTES: Final = 2 * MB
MEMORY_SWING_BYTES: Final = 8 * MB
SWINGING_MINUTES: Final = 20.0  # a run shorter than that has quarters of less than a few swings
FILE_NOISE_BYTES: Final = 4 * MB
DESCRIPTORS_NOISE: Final = 4  # a client that connects again while its old connection is being closed
FILE_TIMES_MAX: Final = 2.0
AHEAD_BYTES_MAX: Final = 144 * MB  # the writer's reserve, the worst one transaction may need, a stride: store.space
SAMPLES_MIN: Final = 20


class Sample(NamedTuple):
    """What a daemon used at one moment. anonymous_bytes: resident memory of its own; pages of the file do not count.

    file_bytes: what the disk holds; a part of it is room ahead that was never written. written_bytes: up to the last
    page that was ever used. used_bytes: what tasks and indexes take of that, the live set.
    """

    anonymous_bytes: int
    descriptors: int
    file_bytes: int
    written_bytes: int
    used_bytes: int


def most_of(samples: Sequence[Sample]) -> Sample:
    """Return the most of each that there ever was."""
    return Sample(*map(max, zip(*samples, strict=True)))


def problems(samples: Sequence[Sample], minutes: float) -> list[str]:
    """Return what does not stay on its plateau, in words; with fewer than SAMPLES_MIN nothing can be said.

    minutes: how long it took to take them.
    """
    if len(samples) < SAMPLES_MIN:
        return [f"{len(samples)} samples are too few to say anything; let it run for longer"]
    quarter = len(samples) // 4
    memory_noise = MEMORY_NOISE_BYTES if minutes >= SWINGING_MINUTES else MEMORY_SWING_BYTES
    before, last = samples[-2 * quarter : -quarter], samples[-quarter:]
    found = [
        _growth("memory", before, last, lambda one: one.anonymous_bytes, median, memory_noise),
        _growth("the file", before, last, lambda one: one.file_bytes, max, FILE_NOISE_BYTES),
        _growth("descriptors", before, last, lambda one: one.descriptors, median, DESCRIPTORS_NOISE),
    ]
    most = most_of(samples)
    room_bytes = FILE_TIMES_MAX * most.used_bytes
    if most.written_bytes > room_bytes + FILE_NOISE_BYTES or most.file_bytes > room_bytes + AHEAD_BYTES_MAX:
        found.append(
            f"the file has {most.file_bytes / MB:.1f} MB, {most.written_bytes / MB:.1f} MB of it written, and never "
            f"had more than {most.used_bytes / MB:.1f} MB to hold"
        )
    return [problem for problem in found if problem]


def _growth(
    what: str,
    before: Sequence[Sample],
    last: Sequence[Sample],
    of: Callable[[Sample], int],
    typical: Callable[[list[int]], float],
    noise: int,
) -> str:
    then, now = typical([of(one) for one in before]), typical([of(one) for one in last])
    if now <= then + max(then * NOISE_SHARE, noise):
        return ""
    return f"{what} grows: {now:,.0f} in the last quarter of the run, {then:,.0f} in the one before"
