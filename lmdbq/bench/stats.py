"""The little statistics there is: medians, percentiles, and an interval for the ratio of two medians."""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import median
from typing import Final, NamedTuple

RESAMPLES: Final = 5_000


class Interval(NamedTuple):
    """A ratio, and where it lies with the confidence that was asked for."""

    ratio: float
    low: float
    high: float

    @property
    def differs(self) -> bool:
        """Whether the two sides differ: 1 is not inside."""
        return not self.low <= 1.0 <= self.high


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the value below which ``percent`` (0..100) of sorted values lie, by the nearest rank.

    >>> percentile([1.0, 2.0, 3.0, 4.0], 50), percentile(list(range(1, 101)), 99)
    (2.0, 99)
    """
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]


def call_lengths(seconds: Sequence[float]) -> dict[str, float]:
    """Return how long calls took, as values of a measurement.

    >>> call_lengths([0.001, 0.002, 0.004])
    {'call_p50_ms': 2.0, 'call_p99_ms': 4.0}
    """
    ordered = sorted(seconds)
    return {f"call_p{share}_ms": 1e3 * percentile(ordered, share) for share in (50, 99)} if ordered else {}


def ratio_interval(
    above: Sequence[float], below: Sequence[float], *, confidence: float = 0.95, seed: int = 1
) -> Interval:
    """Return median(above) / median(below) with its bootstrap interval; the same samples give the same interval."""
    chance = random.Random(seed)
    ratios = sorted(
        median(chance.choices(above, k=len(above))) / median(chance.choices(below, k=len(below)))
        for _ in range(RESAMPLES)
    )
    tail = 100 * (1 - confidence) / 2
    return Interval(median(above) / median(below), percentile(ratios, tail), percentile(ratios, 100 - tail))
