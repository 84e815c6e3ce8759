"""What ``lmdbq enqueue`` costs as a process, beside what no such program can be without: Python, LMDB's binding, click.

The two take turns, and what is counted is processor time, of the process and the kernel for it, so that a busy machine
disturbs little; the ratio is of the smallest of each, which is disturbed least. The daemon that answers is a process
apart and not counted.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from typing import Any, Final

BASE: Final = ("-c", "import lmdb, click")
SECONDS_MAX: Final = 0.15  # what is asked for, on a machine like the one of the results


def measure(rounds: int) -> dict[str, Any]:
    """Return the processor time of both, in seconds, and their ratio."""
    with tempfile.TemporaryDirectory() as directory:
        socket = f"{directory}/s"
        serve = [
            sys.executable,
            "-m",
            "lmdbq.cli",
            "serve",
            "--listen",
            f"unix:{socket}",
            "--data",
            f"{directory}/data",
        ]
        with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as daemon:
            try:
                assert daemon.stdout is not None
                if not daemon.stdout.readline():
                    raise ValueError("the daemon did not start")
                enqueue = ("-m", "lmdbq.cli", "enqueue", "hello", "name=Ada", "--at", f"unix://{socket}")
                pairs = [(_seconds(BASE), _seconds(enqueue)) for _ in range(rounds)]
            finally:
                daemon.terminate()
    bases, enqueues = zip(*pairs, strict=True)
    return {
        "rounds": rounds,
        "base_seconds": round(min(bases), 4),
        "base_median_seconds": round(statistics.median(bases), 4),
        "enqueue_seconds": round(min(enqueues), 4),
        "enqueue_median_seconds": round(statistics.median(enqueues), 4),
        "ratio": round(min(enqueues) / min(bases), 2),
    }


def _seconds(words: tuple[str, ...]) -> float:
    """Run Python with ``words`` and return its processor time. Raises ValueError if it fails."""
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise ValueError(f"{' '.join(words)} ended with status {process.returncode}")
    return usage.ru_utime + usage.ru_stime
