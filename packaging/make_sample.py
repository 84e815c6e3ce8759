"""Make the demo's data set from the IANA time-zone database: every change of every zone's clock up to 2037.

The database is in the public domain. It is read from the ``tzdata`` package (``pip install tzdata``): the list of zones
and the release from ``tzdata.zi``, the changes that are written out from each zone's TZif file (RFC 9636), and those
that only follow from a zone's closing rule by asking ``zoneinfo``. Links (second names of a zone) are left out.

    python packaging/make_sample.py lmdbq/demo/changes.tsv.gz

The result is the same, byte for byte, for the same release: one line per change, tab-separated, sorted by zone and
instant, ``zone, instant, offset before, offset after, abbreviation before, abbreviation after``; instants are Unix
seconds, offsets seconds east of UTC. A first line that begins with ``#`` names the release.
"""

from __future__ import annotations

import gzip
import io
import struct
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

BEGIN_OF_TIME = -(2**40)  # some files open with a change at the big bang; it is none
LAST_YEAR = 2037
END = int(datetime(LAST_YEAR + 1, 1, 1, tzinfo=UTC).timestamp())
DAY = 86_400
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Clock = tuple[int, str]  # offset in seconds, abbreviation
Change = tuple[int, Clock, Clock]


def read_zones() -> tuple[str, list[str]]:
    """Return the release and the names of all zones that are no links."""
    lines = (files("tzdata") / "zoneinfo" / "tzdata.zi").read_text(encoding="ascii").splitlines()
    release = lines[0].removeprefix("# version ")
    return release, sorted(line.split()[1] for line in lines if line.startswith("Z "))


def read_zone_file(zone: str) -> bytes:
    """Return the TZif file of a zone."""
    return files("tzdata").joinpath("zoneinfo", *zone.split("/")).read_bytes()


def written_changes(tzif: bytes) -> Iterator[Change]:
    """Yield the changes that the 64-bit block of a TZif file writes out."""
    magic, version, *counts = struct.unpack_from(">4sc15x6l", tzif)
    if magic != b"TZif" or version < b"2":
        raise ValueError("not a TZif file of version 2 or later")
    ut, std, leaps, times, types, chars = counts
    start = 44 + times * 5 + types * 6 + chars + leaps * 8 + std + ut
    *_, times, types, chars = struct.unpack_from(">4sc15x6l", tzif, start)
    start += 44
    instants = struct.unpack_from(f">{times}q", tzif, start)
    indexes = tzif[start + times * 8 : start + times * 9]
    start += times * 9
    names = tzif[start + types * 6 : start + types * 6 + chars]
    clocks: list[Clock] = []
    for number in range(types):
        offset, _is_dst, first = struct.unpack_from(">l?B", tzif, start + number * 6)
        clocks.append((offset, names[first : names.index(b"\0", first)].decode("ascii")))
    before = clocks[0]
    for instant, index in zip(instants, indexes, strict=True):
        after = clocks[index]
        if instant > BEGIN_OF_TIME and instant < END and after != before:
            yield instant, before, after
        before = after


def ruled_changes(zone: ZoneInfo, start: int) -> Iterator[Change]:
    """Yield the changes after ``start`` that follow from the zone's closing rule: look at each day, then bisect."""

    def clock(instant: int) -> Clock:
        local = (EPOCH + timedelta(seconds=instant)).astimezone(zone)
        offset = local.utcoffset()
        assert offset is not None
        return int(offset.total_seconds()), str(local.tzname())

    for low, high in pairwise(range(start, END, DAY)):
        before, after = clock(low), clock(high)
        if before == after:
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if clock(middle) == before else (low, middle)
        yield high, before, after


def changes_of(zone: str) -> Iterator[Change]:
    """Yield every change of a zone's clock, by rising instant."""
    tzif = read_zone_file(zone)
    last = int(EPOCH.timestamp())
    for change in written_changes(tzif):
        last = max(last, change[0])
        yield change
    yield from ruled_changes(ZoneInfo.from_file(io.BytesIO(tzif), key=zone), last)


def main() -> int:
    """Write the file that the first argument names."""
    target = Path(sys.argv[1])
    release, zones = read_zones()
    lines = [f"# IANA time-zone database {release}, public domain; made by packaging/make_sample.py"]
    for zone in zones:
        for instant, before, after in changes_of(zone):
            lines.append(f"{zone}\t{instant}\t{before[0]}\t{after[0]}\t{before[1]}\t{after[1]}")
    packed = gzip.compress(("\n".join(lines) + "\n").encode("ascii"), compresslevel=9, mtime=0)
    target.write_bytes(packed)
    print(f"{len(lines) - 1} changes of {len(zones)} zones, release {release}: {target}, {len(packed)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
