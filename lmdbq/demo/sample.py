"""The demo's data set: every change of every time zone's clock up to 2037, one item each.

The file is made by ``packaging/make_sample.py`` from the IANA time-zone database, which is in the public domain. It is
read whole; 23,000 small tuples are nothing.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, Final, NamedTuple

SAMPLE_PATH: Final = Path(__file__).with_name("changes.tsv.gz")


class Change(NamedTuple):
    """One moment at which the clocks of a zone were set: at (Unix seconds), offsets (seconds east of UTC), names."""

    zone: str
    at: int
    before: int
    after: int
    name_before: str
    name_after: str

    @property
    def key(self) -> str:
        """Name the item: its zone and instant, which no other item shares."""
        return f"{self.zone}@{self.at}"

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> Change:
        """Return the change that a task's payload describes."""
        return cls(**{field: payload[field] for field in cls._fields})


def read_changes(count: int | None = None) -> list[Change]:
    """Return ``count`` items (None: all), spread evenly over the zones; raises ValueError if there are fewer."""
    changes = []
    with gzip.open(SAMPLE_PATH, "rt", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("#"):
                continue
            zone, at, before, after, name_before, name_after = line.rstrip("\n").split("\t")
            changes.append(Change(zone, int(at), int(before), int(after), name_before, name_after))
    if count is None:
        return changes
    if not 1 <= count <= len(changes):
        raise ValueError(f"the data set has {len(changes)} items; ask for 1 to {len(changes)}")
    return [changes[index * len(changes) // count] for index in range(count)]
