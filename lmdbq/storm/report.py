"""What a storm found, in one form for all storms; and the seed by which it can be repeated."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct, field
from msgspec.structs import asdict

FAULTS_KEPT: Final = 20

Tell = Callable[[int, int, str], None]
"""How a storm tells how far it is: so many done, of so many (0: it is not known), and an event worth a line, or ""."""


class Fault(Struct, frozen=True):
    """One thing that is not as it must be: where, in words that find it again, and what is wrong."""

    where: str
    problems: list[str]


class Report(Struct):
    """What a storm found. tried: how many ``unit`` were looked at; faulty: how many of them are not as they must be.

    figures: what else was counted. faults: the first FAULTS_KEPT.
    """

    storm: str
    seed: str
    unit: str
    tried: int = 0
    faulty: int = 0
    seconds: float = 0.0
    figures: dict[str, int | float] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether something was looked at, and all of it is well."""
        return self.tried > 0 and not self.faulty

    def blame(self, where: str, problems: list[str]) -> None:
        """Take down that something is not as it must be."""
        self.faulty += 1
        if len(self.faults) < FAULTS_KEPT:
            self.faults.append(Fault(where, problems))

    def count(self, name: str, number: int = 1) -> None:
        """Add to a figure."""
        self.figures[name] = self.figures.get(name, 0) + number

    def add(self, other: Report) -> None:
        """Add what a part of the storm has found. Of a figure that is the slowest of its kind, the slower one stays."""
        self.tried += other.tried
        self.faulty += other.faulty
        self.faults = [*self.faults, *other.faults][:FAULTS_KEPT]
        for name, number in other.figures.items():
            known = self.figures.get(name, 0)
            self.figures[name] = max(known, number) if name.startswith("slowest") else round(known + number, 2)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        faults = [asdict(fault) for fault in self.faults]
        return {**asdict(self), "passed": self.passed, "seconds": round(self.seconds, 1), "faults": faults}


def figure(value: float) -> str:
    """Return a figure for people: whole numbers whole, others with three digits that count.

    >>> figure(20000), figure(0.98765), figure(12345.6)
    ('20,000', '0.988', '12,346')
    """
    return f"{value:,.0f}" if isinstance(value, int) or value >= 100 else f"{value:.3g}"


def fresh_seed() -> str:
    """Return a seed that nobody has used."""
    return str(random.SystemRandom().randrange(10**9))
