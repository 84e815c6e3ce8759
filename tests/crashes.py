"""Child processes under strace, which kills them at a chosen system call, or makes that call fail.

A child is a Python program that says with MARK where what is to be tested begins. It waits there until strace looks on;
so the system calls before, which nobody can foresee, are not counted. A first run, undisturbed, tells which calls there
are; each further run is disturbed at one of them.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

MARK = "import sys; print('ready', flush=True); sys.stdin.readline()\n"
CHANGING = (
    "mkdir,openat,write,pwrite64,writev,pwritev,fdatasync,fsync,ftruncate,fallocate,flock,fcntl,link,rename,unlink"
)
SECONDS_MAX = 60
_LINE = re.compile(r"^(?:\d+ +)?(\w+)\((.*)")


class Moment(NamedTuple):
    """The ``nth`` call of a system call behind MARK, and what strace printed of it."""

    call: str
    nth: int
    shown: str

    def __str__(self) -> str:
        return f"{self.call} {self.nth}: {self.shown[:100]}"


class Ended(NamedTuple):
    """How a child ended: its status (negative: the signal), and what it said behind MARK."""

    status: int
    said: str
    errors: str


_started: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    """End the children that a test which failed has left; import it where children are started."""
    yield
    while _started:
        process = _started.pop()
        if process.poll() is None:
            process.kill()
            process.communicate()


def start(program: str, *arguments: object, under: Sequence[str] = ()) -> subprocess.Popen[str]:
    """Start a Python program with pipes. under: a command that starts the one behind it."""
    process = subprocess.Popen(
        [*under, sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    _started.append(process)
    return process


def go(process: subprocess.Popen[str]) -> None:
    """Let a process that waits at MARK, or for a line, go on."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def await_line(process: subprocess.Popen[str], expected: str) -> None:
    """Wait until a process says a line."""
    assert process.stdout is not None
    said = process.stdout.readline()
    if said != expected + "\n":
        process.kill()
        raise AssertionError(f"it said {said!r}, not {expected!r}: {process.communicate()[1]}")


def run(program: str, *arguments: object, strace: Sequence[str] = ()) -> Ended:
    """Run a program that says MARK; under strace from there on, if there is anything for it to do."""
    with start(program, *arguments) as child:
        await_line(child, "ready")
        tracer = None
        if strace:
            tracer = subprocess.Popen(
                ["strace", "-f", "-p", str(child.pid), *strace],
                stderr=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                text=True,
            )
            assert tracer.stderr is not None
            assert "attached" in tracer.stderr.readline()
        said, errors = child.communicate("go\n", timeout=SECONDS_MAX)
        if tracer is not None:
            tracer.communicate(timeout=SECONDS_MAX)
        return Ended(child.returncode, said, errors)


def moments(program: str, *arguments: object, calls: str = CHANGING) -> list[Moment]:
    """Run ``program`` undisturbed, and return each of its system calls behind MARK. It must succeed."""
    seen: Counter[str] = Counter()
    found: list[Moment] = []
    with tempfile.NamedTemporaryFile("r", errors="replace") as log:
        ended = run(program, *arguments, strace=("-e", f"trace={calls}", "-o", log.name))
        assert ended.status == 0, ended.errors
        for line in Path(log.name).read_text(errors="replace").splitlines():
            matched = _LINE.match(line)
            if matched is not None:
                call, shown = matched.groups()
                seen[call] += 1
                found.append(Moment(call, seen[call], shown))
    return found


def kill_at(moment: Moment, program: str, *arguments: object) -> Ended:
    """Run ``program`` and kill it just before the system call of ``moment``: after all that came before."""
    ended = run(program, *arguments, strace=_inject(moment, "signal=KILL"))
    assert ended.status == -9, f"{moment} did not kill it: {ended}"
    return ended


def fail_at(moment: Moment, error: str, program: str, *arguments: object) -> Ended:
    """Run ``program``, have the system call of ``moment`` fail with ``error`` (EIO …), and return how it ended."""
    return run(program, *arguments, strace=_inject(moment, f"error={error}"))


def _inject(moment: Moment, what: str) -> tuple[str, ...]:
    return ("-o", "/dev/null", "-e", f"trace={moment.call}", "-e", f"inject={moment.call}:{what}:when={moment.nth}")
