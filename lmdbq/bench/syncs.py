"""Durability as it is seen: how often a target makes the disk keep what it wrote.

strace attaches to the processes that keep the data during a short extra run, never during one that is timed. Counted
are fsync, fdatasync, msync and sync_file_range, and each write through a descriptor that was opened with O_DSYNC (LMDB
writes its meta page through one). Under strace everything is slower, so that more callers may share a sync than in a
timed run: the figure is a lower bound for concurrent callers, and exact for one.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lmdbq.bench import procfs

HOW: Final = "strace on the processes that keep the data, in an extra run: sync calls, and writes through O_DSYNC"
_CALLS: Final = "fsync,fdatasync,msync,sync_file_range,write,writev,pwrite64,pwritev"
_SYNCS: Final = re.compile(r"\b(?:fsync|fdatasync|msync|sync_file_range)\(")
_WRITES: Final = re.compile(r"\b(?:write|writev|pwrite64|pwritev)\((\d+)")


class Counted:
    """How many syncs there were; set when the block of ``counting`` is over."""

    def __init__(self) -> None:
        self.syncs = 0


def absent() -> str:
    """Return why syncs cannot be counted here; "" if they can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    return "" if Path("/proc/self/fdinfo").exists() else "there is no /proc"


@contextmanager
def counting(pids: Sequence[int], directory: Path) -> Iterator[Counted]:
    """Count the syncs of processes for the length of a block. Raises OSError if they cannot be traced."""
    log = directory / "strace.log"
    counted = Counted()
    family = procfs.family(pids)
    command = ["strace", "-f", "-o", str(log), "-e", f"trace={_CALLS}", "-e", "signal=none"]
    for pid in family:
        command += ["-p", str(pid)]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        _wait_until_attached(tracer, len(family))
        yield counted
        synced = {pid: set(synced_descriptors(pid)) for pid in procfs.family(pids) if pid != tracer.pid}
        by_thread = {str(thread): synced[pid] for pid in synced for thread in procfs.threads(pid)}
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate()
    counted.syncs = _count(log.read_text(encoding="utf-8", errors="replace"), by_thread)
    log.unlink()


def _wait_until_attached(tracer: subprocess.Popen[str], processes: int) -> None:
    assert tracer.stderr is not None
    for line in tracer.stderr:
        processes -= "attached" in line or "No such process" in line  # one that has ended meanwhile is not missed
        if processes <= 0:
            return
    raise OSError("strace may not trace these processes")


def synced_descriptors(pid: int) -> Iterator[str]:
    """Yield the descriptors of a process that sync with every write; none if it has ended."""
    for entry in list(Path(f"/proc/{pid}/fdinfo").glob("*")):
        try:
            said = entry.read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            continue  # closed meanwhile, as is the one that listed the directory
        found = re.search(r"^flags:\s+0?(\d+)", said, re.MULTILINE)
        if found and int(found.group(1), 8) & os.O_DSYNC:
            yield entry.name


def _count(log: str, synced_descriptors: Mapping[str, set[str]]) -> int:
    """Return the syncs in a log of strace; descriptors by thread, as each line begins with one.

    A call that another thread's line cuts in two is begun only once.

    >>> log = "1 fsync(3 <unfinished ...>\\n1 pwrite64(4, ..\\n2 pwrite64(4, ..\\n1 <... fsync resumed>) = 0"
    >>> _count(log, {"1": {"4"}, "2": {"5"}})
    2
    """
    syncs = 0
    for line in log.splitlines():
        thread, _, call = line.partition(" ")
        written = _WRITES.search(call)
        syncs += bool(_SYNCS.search(call)) or bool(written and written[1] in synced_descriptors.get(thread, ()))
    return syncs
