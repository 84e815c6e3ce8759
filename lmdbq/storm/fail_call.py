"""One run of the storm of failing calls: a session in which one system call fails, and what is found afterwards.

A first run, undisturbed, tells which calls there are: every write, sync, allocation, truncation, open and change of a
name below the data directory. Then, in each further run, strace has one of them answer EIO or ENOSPC, or say that it
has written less than it was asked to, without doing anything. The session then ends well, refuses, or stops with a
commit whose end is unknown; and what it had written down by then is compared with the file, opened by somebody else.

The session never cuts a file: no operation of the store calls ftruncate. LMDB does, on a lock file that is shorter than
it should be, and the store gives it none; the daemon does, on its own lock. It is looked for all the same.

The trap: strace counts the calls of one name from when it looks on. So a session waits until it does.
"""

from __future__ import annotations

import random
import re
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Final, NamedTuple

from lmdbq.storm.child import EXIT_REFUSED, EXIT_UNKNOWN, READY, Told, run_when_told
from lmdbq.storm.forks import FORKS
from lmdbq.storm.images import judge
from lmdbq.storm.ledger import UNKNOWN, Ledger
from lmdbq.storm.recording import DIARY, DIRECTORY
from lmdbq.storm.trace import Unclear, strace

STEPS: Final = 200
SECONDS_MAX: Final = 120
VERIFY_FIRST: Final = "verify-first"
ERRORS: Final = ("EIO", "ENOSPC")
SHORT_BYTES: Final = 512
_WRITES: Final = ("pwrite64", "pwritev", "writev")
_CALLS: Final = (
    *_WRITES,
    "fdatasync",
    "fsync",
    "fallocate",
    "ftruncate",
    "openat",
    "link",
    "mkdir",
    "rename",
    "unlink",
)
_LINE = re.compile(r"^(?:\d+ +)?(\w+)\((.*)")


class Failure(NamedTuple):
    """The ``nth`` call of a name, and how it fails: an error's name, or "short"."""

    call: str
    nth: int
    how: str
    shown: str

    def __str__(self) -> str:
        return f"{self.how} at {self.call} {self.nth}: {self.shown}"

    @property
    def injection(self) -> str:
        """How strace is told."""
        what = f"retval={SHORT_BYTES}" if self.how == "short" else f"error={self.how}"
        return f"inject={self.call}:{what}:when={self.nth}"


class Reference(NamedTuple):
    """What an undisturbed session was answered, and all the ways in which another one may be disturbed."""

    seed: str
    durability: str
    steps: int
    ledger: Ledger
    failures: list[Failure]


class Ended(NamedTuple):
    """How a disturbed session ended, and what is wrong with that or with what it left; nothing if all is well."""

    failure: Failure
    status: int
    problems: list[str]


def reference(seed: str, durability: str, scratch: Path, steps: int = STEPS) -> Reference:
    """Run a session undisturbed. Raises Unclear."""
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        root = Path(place)
        log = root / "log"
        options = ("-y", "-s", "0", "-e", f"trace={','.join(_CALLS)}", "-o", str(log))
        status, errors = _session(root, (seed, durability, steps), options)
        if status:
            raise Unclear(f"the undisturbed session ended with {status}: {errors[-2000:]}")
        return Reference(seed, durability, steps, _ledger(root), list(_failures(log, f"{root}/{DIRECTORY}")))


def _failures(log: Path, directory: str) -> Iterator[Failure]:
    """Yield every way in which a call below ``directory`` can fail."""
    seen: Counter[str] = Counter()
    parent = str(Path(directory).parent)
    for line in log.read_text(errors="replace").splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        call, shown = match.groups()
        seen[call] += 1
        if directory in shown or f"<{parent}>" in shown:
            short = ("short",) if call in _WRITES else ()
            for how in (*ERRORS, *short):
                yield Failure(call, seen[call], how, shown.replace(parent, "")[:80])


_FORKING: Final = threading.Lock()  # start() asks all others for their status, too: of two who read it, one gets 255


def _session(root: Path, what: tuple[str, str, int], options: tuple[str, ...], plant: str = "") -> tuple[int, str]:
    """Run a session under strace from when it begins; return its exit status and what it complained about.

    Raises Unclear, TimeoutError.
    """
    seed, durability, steps = what
    told = Told(root / DIRECTORY, root / DIARY, root / "errors", durability, seed, steps, plant)
    ours, theirs = FORKS.Pipe()
    child = FORKS.Process(target=run_when_told, args=(told, theirs), daemon=True)
    with _FORKING:
        child.start()
    theirs.close()
    try:
        _wait_until_ready(ours, told)
        assert child.pid is not None
        tracer = _attached(child.pid, options)
        try:
            ours.send("go")
            wait([child.sentinel], SECONDS_MAX)
            with _FORKING:
                status = child.exitcode
        finally:
            child.kill()
            tracer.communicate(timeout=SECONDS_MAX)
    finally:
        child.kill()
        with _FORKING:
            child.join()
        ours.close()
    if status is None:
        raise TimeoutError
    return status, told.errors.read_text(errors="replace")


def _wait_until_ready(connection: Connection, told: Told) -> None:
    try:
        if connection.poll(SECONDS_MAX) and connection.recv() == READY:
            return
    except EOFError:
        pass
    complaint = told.errors.read_text(errors="replace") if told.errors.exists() else ""
    raise Unclear(f"the session does not begin: {complaint}")


def _attached(pid: int, options: tuple[str, ...]) -> subprocess.Popen[str]:
    """Return a strace that looks on."""
    command = [strace(), "-f", "-p", str(pid), *options]
    tracer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    said = tracer.stderr.readline()
    if "attached" not in said:
        tracer.communicate()
        raise Unclear(f"strace cannot look on here: {said}")
    return tracer


def _ledger(root: Path) -> Ledger:
    ledger = Ledger()
    diary = root / DIARY
    ledger.note_all(diary.read_bytes() if diary.exists() else b"")
    return ledger


def disturb(undisturbed: Reference, failure: Failure, scratch: Path, plant: str = "") -> Ended:
    """Run the same session with one call failing, and judge how it ended and what it left."""
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        root = Path(place)
        options = ("-o", "/dev/null", "-e", f"trace={failure.call}", "-e", failure.injection)
        what = (undisturbed.seed, undisturbed.durability, undisturbed.steps)
        try:
            status, errors = _session(root, what, options, plant)
        except TimeoutError:
            return Ended(failure, -1, [f"it did not end within {SECONDS_MAX} s"])
        ledger = _ledger(root)
        problems = _ending(status, errors, ledger, root / DIRECTORY) + ledger.contradictions()
        return Ended(failure, status, problems + _left(root / DIRECTORY, ledger, undisturbed.ledger, status))


def _ending(status: int, errors: str, ledger: Ledger, directory: Path) -> list[str]:
    """Return what is wrong with how a session ended."""
    stopped = bool(ledger.said) and ledger.said[-1] == UNKNOWN
    if status not in (0, EXIT_REFUSED, EXIT_UNKNOWN):
        return [f"it ended with {status}: {errors[-1000:]}"]
    if stopped != (status == EXIT_UNKNOWN):
        return [f"it ended with {status}, its last answer was {ledger.said[-1:]}"]
    if stopped and not (directory / VERIFY_FIRST).exists():
        return ["a commit failed, and the next opener is not told to verify"]
    return []


def _left(directory: Path, ledger: Ledger, undisturbed: Ledger, status: int) -> list[str]:
    """Return what is wrong with the file that a session left."""
    number = ledger.answers
    allowed = [ledger.worlds[-1]]
    if status:  # the call that was under way is done or not; in the undisturbed session it was
        allowed += undisturbed.worlds[number : number + 2]
    problems = judge(directory, lambda found: ledger.compare(found, allowed))
    if (directory / VERIFY_FIRST).exists():
        problems.append("the file was opened, and not verified")
    return problems


def shuffled(undisturbed: Reference, chosen: random.Random) -> list[Failure]:
    """Return all failures, in an order in which the first few show something of every call."""
    by_call: dict[tuple[str, str], list[Failure]] = {}
    for failure in undisturbed.failures:
        by_call.setdefault((failure.call, failure.how), []).append(failure)
    for group in by_call.values():
        chosen.shuffle(group)
    ranked = [(rank, failure) for group in by_call.values() for rank, failure in enumerate(group)]
    return [failure for _, failure in sorted(ranked, key=lambda pair: pair[0])]
