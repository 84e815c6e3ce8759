"""What Linux tells about a process: memory, CPU and bytes written, and about the machine."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import lmdb

WAIT_NS: Final = 1_000_000  # shorter waits are told together
PACKAGES: Final = (
    *("lmdb", "aiohttp", "uvloop", "msgspec"),
    *("redis", "hiredis", "celery", "rq", "huey", "litequeue", "persist-queue", "procrastinate", "psycopg", "nats-py"),
)


def family(pids: Iterable[int]) -> list[int]:
    """Return processes and all that they have forked, as far as they live."""
    found: list[int] = []
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        for thread in threads(pid):
            with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended has no children
                children = Path(f"/proc/{pid}/task/{thread}/children").read_text(encoding="ascii")
                waiting += map(int, children.split())
    return found


def threads(pid: int) -> list[int]:
    """Return the threads of a process; none if it has ended."""
    try:
        return [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def cpu_seconds(pid: int) -> float:
    """Return the CPU time the threads of a process have used; in ns, as ticks are too coarse for an idle one."""
    used_ns = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # one that has just ended
            used_ns += int((thread / "schedstat").read_text(encoding="ascii").split()[0])
    return used_ns / 1e9


def waited_ns(pid: int) -> int:
    """Return for how long the threads of a process were ready to go on, and no core was free; 0 if nobody counts it."""
    total_ns = 0
    for thread in threads(pid):
        with suppress(FileNotFoundError, ProcessLookupError):  # one that has just ended
            total_ns += int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_bytes().split()[1])
    return total_ns


class NoCore:
    """For how long processes waited for a core, from one look at them to the next."""

    def __init__(self) -> None:
        self._told_ns: dict[int, int] = {}

    def seconds(self, pid: int) -> float:
        """Return what has come since it was told last, or since the process began; what is less than WAIT_NS later."""
        now_ns = waited_ns(pid)
        more_ns = now_ns - self._told_ns.get(pid, 0)
        if 0 <= more_ns <= WAIT_NS:
            return 0.0
        self._told_ns[pid] = now_ns
        return max(more_ns, 0) / 1e9  # less than nothing: a thread of it has ended


def system_seconds(pid: int) -> float:
    """Return the part of a process's CPU time that the kernel has used for it, in steps of a tick (10 ms)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(") ")[2].split()
    return int(fields[12]) / os.sysconf("SC_CLK_TCK")


def written_bytes(pid: int) -> int:
    """Return how many bytes a process has caused to be written to the disk."""
    return _number(Path(f"/proc/{pid}/io"), r"^write_bytes: (\d+)")


def written_by(pids: Iterable[int]) -> int | None:
    """Return how many bytes processes and those they forked have caused to be written; None where nobody tells."""
    try:
        return sum(written_bytes(pid) for pid in family(pids))
    except OSError:
        return None


def anonymous_bytes(pid: int) -> int:
    """Return the memory of a process that is its own; pages of the file do not count."""
    return _number(Path(f"/proc/{pid}/status"), r"^RssAnon:\s+(\d+) kB") * 1024


def _number(path: Path, pattern: str) -> int:
    found = re.search(pattern, path.read_text(encoding="ascii", errors="replace"), re.MULTILINE)
    assert found is not None, f"{path} has no {pattern}"
    return int(found.group(1))


def usage(pid: int, warm_seconds: float, seconds: float) -> dict[str, float]:
    """Return what a process uses during ``seconds``, which begin in ``warm_seconds``."""
    time.sleep(warm_seconds)
    cpu, written, begun = cpu_seconds(pid), written_bytes(pid), time.monotonic()
    time.sleep(seconds)  # the passing of time is what is measured
    return {
        "cpu_percent": 100 * (cpu_seconds(pid) - cpu) / (time.monotonic() - begun),
        "written_bytes": float(written_bytes(pid) - written),
        "anonymous_mb": anonymous_bytes(pid) / 1e6,
    }


def busy_percent(seconds: float = 0.1) -> float:
    """Return how busy the machine's cores are, by whomever, during the next ``seconds``; 0 where nobody tells."""
    before = _ticks()
    time.sleep(seconds)
    spent = [now - then for now, then in zip(_ticks(), before, strict=True)]
    idle, whole = sum(spent[3:5]), sum(spent)
    return 100 * (1 - idle / whole) if whole else 0.0


def _ticks() -> list[int]:
    """Return what all cores together have spent so far, by kind: user, nice, system, idle, waiting for disks, ..."""
    path = Path("/proc/stat")
    return (
        [int(field) for field in path.read_text(encoding="ascii").split("\n", 1)[0].split()[1:]]
        if path.exists()
        else []
    )


def wait_until_quiet(percent: float, patience_seconds: float) -> float:
    """Wait until the machine is at most ``percent`` busy, or patience is at its end; return how busy it then is."""
    end = time.monotonic() + patience_seconds
    while (busy := busy_percent()) > percent and time.monotonic() < end:
        pass
    return busy


def facts(directory: Path) -> dict[str, Any]:
    """Return what the machine is, as far as it tells; ``directory`` is where the files will be."""
    return {
        "processor": _first(r"^model name\s*: (.+)$", "/proc/cpuinfo") or platform.processor(),
        "cores": os.cpu_count(),
        "memory_mb": int(_first(r"^MemTotal:\s+(\d+) kB", "/proc/meminfo") or 0) // 1024,
        "kernel": f"{platform.system()} {platform.release()}",
        "file_system": _file_system(directory),
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
        "fsync_4kb_ms": _fsync_ms(directory),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "lmdb_engine": ".".join(str(part) for part in lmdb.version()),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "revision": revision(),
        "command": " ".join([_program(), *sys.argv[1:]]),
    }


def _program() -> str:
    """Return how this program was started, without the directory it lies in."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.parent or spec.name}" if spec is not None else Path(sys.argv[0]).name


def revision() -> str:
    """Return the commit that is measured, "" outside of a clone; "-dirty": with changes that nobody else has."""
    here = ["git", "-C", str(Path(__file__).parent)]
    try:
        subprocess.run([*here, "ls-files", "--error-unmatch", Path(__file__).name], capture_output=True, check=True)
        described = subprocess.run(
            [*here, "describe", "--always", "--dirty"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""  # no git, or installed among somebody else's files
    return described.stdout.strip()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _first(pattern: str, path: str) -> str:
    if not Path(path).exists():
        return ""
    found = re.search(pattern, Path(path).read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    return found.group(1).strip() if found else ""


def _file_system(directory: Path) -> str:
    """Return the type of the file system, that of the longest mount point which the directory lies under."""
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return ""
    rows = [line.split() for line in mounts.read_text(encoding="utf-8").splitlines()]
    under = [row for row in rows if directory.resolve().is_relative_to(row[1])]
    return max(under, key=lambda row: len(row[1]))[2] if under else ""


def _fsync_ms(directory: Path) -> float:
    """Return the median time to append 4 kB and have it on the disk."""
    path = directory / "fsync"
    lengths = []
    with path.open("wb", buffering=0) as file:
        for _ in range(50):
            file.write(bytes(4096))
            begun = time.perf_counter()
            os.fsync(file.fileno())
            lengths.append(time.perf_counter() - begun)
    path.unlink()
    return round(sorted(lengths)[25] * 1e3, 3)
