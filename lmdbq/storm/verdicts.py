"""Judging the images of one recording, each thing that can be found in them once.

What is wrong with an image follows from what can be read of it, and from what had been answered. Most images differ
only where nobody can look: in the pages of a commit that did not get as far as its last one. So the parts of an image
are judged apart, and what was found sound is remembered:

- The data file, by all that can be read of it (``reach``): checked, read to its end, used, checked again.
- Each thing that lies around it (lock file, a boot's side file, what a creator or a copy has left), by every byte, with
  the number of the last boot in the file: the store is opened with it, and a new boot begins in it. That number is all
  of the data file that meets what lies around: it says which side file is looked at, and which may be made. Of a side
  file no boot but its own reads more than the head, which says whether it is empty; and one of a boot before the last
  is only removed, whichever the last one was.
- A backup that has its name, by every byte: it is put back.
- What was restored, if its directory has its name, by every byte of all that is in it: checked, read, used as the data
  file is. What a restore that did not end has left beside it, under a name of its own, may stay.

With what had been answered, every image is compared by itself. So nothing is judged less than if each were opened, with
one exception that is named: parts that were each judged before, but with others. That this loses nothing is not only
argued: one image in AUDITED_EVERY is judged anew whatever is known, and if another thing is seen in it than is
remembered of its like, the image is faulty.

The trap: what is found faulty is never remembered. It may be the surroundings' fault, and each image counts for itself.
"""

from __future__ import annotations

import posixpath
import random
import shutil
import zlib
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Final

from lmdbq.store.creation import DATA_NAME
from lmdbq.store.lockfile import LOCK_NAME
from lmdbq.store.side import SIDE_PREFIX
from lmdbq.storm.disk import Disk, Drawn, File, Inode, make
from lmdbq.storm.images import Seen, copy_faults, glance, look, verdict
from lmdbq.storm.ledger import World
from lmdbq.storm.names import NOBODY
from lmdbq.storm.reach import Reach, whole_key
from lmdbq.storm.recording import DATA, DIRECTORY, LOCK, Recording
from lmdbq.storm.session import COPY_NAME, RESTORED_NAME

AUDITED_EVERY: Final = 64
OPENED: Final = "opened"
LOOKED_THROUGH: Final = "looked through"
AUDITED: Final = "audited"
EQUAL: Final = "equal to one before"
_COPY: Final = f"{DIRECTORY}/{COPY_NAME}"

_ABSENT: Final = "absent"
_DIFFERS: Final = "it is not judged as one that cannot be told from it"
_FRESH: Final = ".tmp"  # what is made under such a name is one with what gets the name without it

_Thing = tuple[str, tuple[Hashable, ...]]
"""A path, and what stands there; behind it what does under its fresh name, if that is there."""


def draw(image_seed: str, disk: Disk, recording: Recording) -> Drawn:
    """Draw an image. disk: the recording, replayed to the image's cut."""
    chosen = random.Random(f"{image_seed}/disk")
    drawn = disk.draw(chosen)
    lock = drawn.get(LOCK)
    if lock is None or chosen.random() < 0.5:
        return drawn
    written = Inode()  # as its shared mapping was last written back
    written.content = bytearray(recording.lock)
    kept = File(NOBODY, written, lock.size, [])
    return {path: kept if file is not None and file.number == lock.number else file for path, file in drawn.items()}


def _met(boot_no: int, around: set[_Thing]) -> set[Hashable]:
    """Return each thing with the number of the boot that it meets; 0 if that is any later one."""
    earlier = {f"{DIRECTORY}/{SIDE_PREFIX}{number}" for number in range(boot_no)}
    return {
        (0 if any(path in earlier for path in (thing[0], posixpath.dirname(thing[0]))) else boot_no, thing)
        for thing in around
    }


def _part(drawn: Drawn, directory: str) -> Drawn:
    """Return a directory and what is below it; nothing, if that was lost."""
    return {path: file for path, file in drawn.items() if path == directory or path.startswith(directory + "/")}


class Verdicts:
    """Judges images of a recording. scratch: a directory of its own."""

    def __init__(self, recording: Recording, scratch: Path) -> None:
        self._recording = recording
        self._scratch = scratch
        self._reach = Reach()
        self._states: dict[Hashable, Seen] = {}
        self._around: set[Hashable] = set()  # things, each with a boot that it has met
        self._copies: set[Hashable] = set()
        self._restored: dict[Hashable, Seen] = {}

    def judge(
        self,
        image_seed: str,
        disk: Disk,
        compare: Callable[[World], list[str]],
        compare_restored: Callable[[World | None], list[str]] = lambda _: [],
    ) -> tuple[str, list[str]]:
        """Return how an image was judged, and what is wrong with it. disk: replayed to the image's cut.

        compare_restored: gets None if what was restored has no name.
        """
        drawn = draw(image_seed, disk, self._recording)
        is_audited = not zlib.crc32(image_seed.encode()) % AUDITED_EVERY
        how, problems, seen = self._seen(_part(drawn, DIRECTORY), is_audited=is_audited)
        copy = drawn.get(_COPY)
        if copy is not None:
            problems = problems + self._copy_faults(copy)
        restored = self._restored_faults(_part(drawn, RESTORED_NAME), compare_restored, is_audited=is_audited)
        return how, problems + verdict(seen, compare) + [f"restored: {problem}" for problem in restored]

    def _seen(self, drawn: Drawn, *, is_audited: bool) -> tuple[str, list[str], Seen]:
        """Return how it was looked at, what is wrong with what lies around the data file, and what is seen in that."""
        state, around = self._keys(drawn)
        known = self._states.get(state)
        if known is None:
            seen = look(self._made(drawn))
            if not seen.problems:
                self._states[state] = seen
                self._around |= _met(seen.boot_no, around)
            return LOOKED_THROUGH, [], seen
        if is_audited:
            seen = look(self._made(drawn))
            differs = [] if seen == known else [_DIFFERS]
            return AUDITED, differs, seen
        things = _met(known.boot_no, around)
        if things <= self._around:
            return EQUAL, [], known
        problems = glance(self._made(drawn))
        if not problems:
            self._around |= things
        return OPENED, problems, known

    def _keys(self, drawn: Drawn) -> tuple[Hashable, set[_Thing]]:
        """Return what names the data file of an image, and what names each thing around it."""
        data = drawn.get(DATA)
        names = {DIRECTORY, DATA, *drawn}
        sides = [path for path, file in drawn.items() if file is None and path != DIRECTORY]
        names |= {f"{directory}/{name}" for directory in (DIRECTORY, *sides) for name in (DATA_NAME, LOCK_NAME)}
        things: dict[str, list[Hashable]] = {}
        for path in sorted(names):
            things.setdefault(path.removesuffix(_FRESH), []).append(self._what(path, drawn))
        return None if data is None else self._reach.key(data), {(path, tuple(what)) for path, what in things.items()}

    def _what(self, path: str, drawn: Drawn) -> Hashable:
        file = drawn.get(path, _ABSENT)
        if not isinstance(file, File):
            return file
        if file is drawn.get(DATA):
            return DATA
        is_side = posixpath.basename(path) == DATA_NAME
        return self._reach.head(file) if is_side else whole_key(file)

    def _made(self, drawn: Drawn, directory: str = DIRECTORY) -> Path:
        """Make an image, and return a directory in it."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(parents=True)
        make(drawn, self._scratch)
        return self._scratch / directory

    def _restored_faults(
        self, drawn: Drawn, compare: Callable[[World | None], list[str]], *, is_audited: bool
    ) -> list[str]:
        if not drawn:
            return compare(None)
        key = tuple((path, None if file is None else whole_key(file)) for path, file in drawn.items())
        known = self._restored.get(key)
        if known is not None and not is_audited:
            return verdict(known, compare)
        seen = look(self._made(drawn, RESTORED_NAME))
        if known is not None and seen != known:
            return [_DIFFERS]
        if not seen.problems:
            self._restored[key] = seen
        return verdict(seen, compare)

    def _copy_faults(self, copy: File) -> list[str]:
        key = whole_key(copy)
        if key in self._copies:
            return []
        self._scratch.mkdir(parents=True, exist_ok=True)
        path = self._scratch / COPY_NAME
        path.unlink(missing_ok=True)
        copy.make(path)
        problems = copy_faults(path, self._scratch)
        if not problems:
            self._copies.add(key)
        return problems
