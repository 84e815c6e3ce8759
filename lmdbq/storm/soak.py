"""The soak: a daemon under churn, looked at all the time, and a worker with short leases beside a large import.

Two parts, each with a daemon and a file of its own, on the disk that TMPDIR names. The *import* comes first: one
request with as many tasks as are asked for, while a worker holds tasks for more than three times as long as its leases
last; it must not lose one. The *churn* takes the rest of the time: queues are filled and emptied in every way (see
``soak_child``), and what the daemon uses must stay on a plateau (see ``plateau``). The same worker works beside it.

The trap: what is kept on purpose looks like a leak. Idempotency keys are remembered for an hour, unless the daemon is
told otherwise, as this one is; and a machine that stands still loses leases, so a canary tells for how long it did. A
lease that is lost while daemon and worker had no core for the time that a worker has left is counted, and no fault.
Everything is read from outside, from /proc and from the file. At the end of each part the daemon stops and its file is
verified, but for one of very many tasks: the checker holds all of them in memory.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lmdbq.bench.procfs import anonymous_bytes, waited_ns
from lmdbq.client.http import HttpClient
from lmdbq.demo.children import Children, Interrupts
from lmdbq.limits import SECOND_NS
from lmdbq.store.environment import open_environment
from lmdbq.store.lmdb import open_store
from lmdbq.storm.plateau import MB, Sample, most_of, problems
from lmdbq.storm.report import FAULTS_KEPT, Report, Tell
from lmdbq.storm.soak_child import IMPORT_QUEUE, KEPT_AT_ONCE, KEPT_QUEUE, LEASE_SECONDS

PLANTS: Final = ("forget-leases", "pin-a-reader")
IMPORT_TASKS: Final = 200_000
IMPORT_TASKS_LONG: Final = 10_000_000  # for a run of an hour or more
VERIFY_TASKS_MAX: Final = 1_000_000
CHURNERS: Final = 2
CHURN_TASKS_MAX: Final = 60_000  # waiting in each churned queue when it is full
CHURN_TASKS_PER_MINUTE: Final = 5_000  # a short run fills less, so that its queues are emptied several times
SAMPLES: Final = 600
LOOK_SECONDS_MIN: Final = 0.5
SERVE: Final = ("--listen", "127.0.0.1:0", "--idempotency-kept", "5")
CANARY_SECONDS: Final = 0.02
EXCUSED_SECONDS: Final = LEASE_SECONDS / 3  # half of what a worker has left who extends in thirds
KEPT_AHEAD: Final = 4 * KEPT_AT_ONCE
_CHILD: Final = "lmdbq.storm.soak_child"


class Canary(threading.Thread):
    """Sleeps for moments, and knows how late it was woken at most: a machine that stands still costs leases, too."""

    def __init__(self) -> None:
        super().__init__(name="canary", daemon=True)
        self.late_seconds = 0.0
        self._over = threading.Event()

    def run(self) -> None:
        """Go on until ``end``."""
        before = time.monotonic()
        while not self._over.wait(CANARY_SECONDS):
            now = time.monotonic()
            self.late_seconds = max(self.late_seconds, now - before - CANARY_SECONDS)
            before = now

    def end(self) -> None:
        """Have it end, and wait for that."""
        self._over.set()
        self.join()


class Waits:
    """For how long processes were ready to go on, and no core was free, during the last few looks at them."""

    LOOKS: Final = 3
    SECONDS_MIN: Final = LEASE_SECONDS + 1.0

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def lately(self, now: float, waited: int) -> float:
        """Take down how many ns they have waited in all by ``now`` (steady seconds); return the seconds of lately."""
        self._seen.append((now, waited))
        while len(self._seen) > self.LOOKS and self._seen[1][0] <= now - self.SECONDS_MIN:
            self._seen.popleft()
        return (waited - self._seen[0][1]) / SECOND_NS


class Daemon:
    """A daemon on a directory, and what it uses."""

    def __init__(self, children: Children, client: HttpClient, url: str, data: Path) -> None:
        self.children = children
        self.client = client
        self.url = url
        self.data = data

    def work(self, name: str, *arguments: str) -> None:
        """Start somebody who works on it."""
        self.children.start(name, _CHILD, *arguments)

    def keep_kept(self) -> None:
        """See that the worker with the short leases has something to do."""
        waiting = self.client.count(queue_name=KEPT_QUEUE, state="ready") if self._has_kept() else 0
        if waiting < KEPT_AT_ONCE:
            self.client.enqueue([{"retry_strategy": {"max_attempts": 100}}] * KEPT_AHEAD, queue_name=KEPT_QUEUE)

    def _has_kept(self) -> bool:
        return any(queue.name == KEPT_QUEUE for queue in self.client.queues())

    def sample(self) -> Sample:
        """Return what it uses now."""
        pid = self.children.pid("daemon")
        shared = open_environment(self.data, max_bytes=0, metasync=True)
        try:
            with shared.reading() as txn:
                used_bytes = shared.space.used_pages(txn) * shared.space.page_bytes
                written_bytes = (shared.env.info()["last_pgno"] + 1) * shared.space.page_bytes
            file_bytes = shared.data_path.stat().st_blocks * 512
        finally:
            shared.release()
        descriptors = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        return Sample(anonymous_bytes(pid), descriptors, file_bytes, written_bytes, used_bytes)

    def totals(self, queue: str) -> dict[str, int]:
        """Return how often each thing has happened in a queue."""
        return next((each.totals for each in self.client.queues() if each.name == queue), {})


class Soak:
    """One run; ``report`` is what it has found."""

    def __init__(self, seed: str, tell: Tell, interrupts: Interrupts, plant: str) -> None:
        self.report = Report("soak", seed, "samples")
        self._tell = tell
        self._interrupts = interrupts
        self._plant = plant
        self._waits = Waits()
        self._lost = 0
        self._churned: dict[str, dict[str, int]] = {}

    def bulk_import(self, tasks: int) -> None:
        """Import ``tasks`` tasks beside a worker with short leases."""
        self._tell(0, 0, f"an import of {tasks:,} tasks")
        with self._daemon(verify=tasks <= VERIFY_TASKS_MAX) as daemon:
            self._start_keeper(daemon)
            began = time.monotonic()
            daemon.work("import", "import", daemon.url, str(tasks))
            while daemon.children.runs("import"):
                self._look(daemon)
                time.sleep(LOOK_SECONDS_MIN)
            daemon.children.finish("import")
            self.report.figures["imported"] = tasks
            self.report.figures["imported per second"] = round(tasks / (time.monotonic() - began))
            self.report.figures["MB of memory with all imported"] = round(daemon.sample().anonymous_bytes / MB)
            enqueued = daemon.totals(IMPORT_QUEUE)["enqueued"]
            if enqueued != tasks:
                self.report.blame("the import", [f"{tasks} tasks were sent and {enqueued} were taken"])
            self._judge_leases(daemon, "beside the import")

    def churn(self, minutes: float) -> None:
        """Fill and empty queues for ``minutes``."""
        self._tell(0, 0, f"churn for {minutes:.1f} minutes")
        full = int(min(CHURN_TASKS_MAX, minutes * CHURN_TASKS_PER_MINUTE))
        pause = max(LOOK_SECONDS_MIN, minutes * 60 / SAMPLES)
        samples: list[Sample] = []
        with self._daemon() as daemon:
            self._start_keeper(daemon)
            for number in range(CHURNERS):
                daemon.work(f"churn-{number}", "churn", daemon.url, f"{self.report.seed}/{number}", str(full))
            if self._plant == "pin-a-reader":
                daemon.work("reader", "pin", str(daemon.data))
            began = time.monotonic()
            while (passed := time.monotonic() - began) < minutes * 60:
                self._look(daemon)
                samples.append(daemon.sample())
                self.count_churned(daemon)
                self._tell(int(passed), int(minutes * 60), "")
                time.sleep(pause)
            self._judge_plateau(samples, minutes)
            self._judge_leases(daemon, "beside the churn")

    def count_churned(self, daemon: Daemon) -> None:
        """Add what has happened since the last sample. A queue that was deleted meanwhile has begun anew."""
        for queue in (f"churn-{number}" for number in range(CHURNERS)):
            before, now = self._churned.get(queue, {}), daemon.totals(queue)
            for name in ("enqueued", "succeeded", "failed", "lapsed", "expired", "deleted"):
                more = now.get(name, 0) - before.get(name, 0)
                self.report.count(name, more if more >= 0 else now.get(name, 0))
            self._churned[queue] = now

    # --- looking ------------------------------------------------------------------------------------------------------

    def _start_keeper(self, daemon: Daemon) -> None:
        self._waits, self._lost = Waits(), 0
        daemon.keep_kept()
        daemon.work("keeper", "forget" if self._plant == "forget-leases" else "keep", daemon.url)

    def _look(self, daemon: Daemon) -> None:
        daemon.children.check(may_end="import")
        daemon.keep_kept()
        self._look_at_leases(daemon)
        self.report.tried += 1

    def _look_at_leases(self, daemon: Daemon) -> None:
        """Count what has been lost since the last look; as a fault, unless the machine had no core to keep it with."""
        totals = daemon.totals(KEPT_QUEUE)
        lost = totals["lapsed"] + totals["failed"]
        waited = sum(waited_ns(daemon.children.pid(name)) for name in ("daemon", "keeper"))
        seconds = self._waits.lately(time.monotonic(), waited)
        if lost > self._lost:
            if seconds >= EXCUSED_SECONDS:
                self.report.count("short leases lost without a core", lost - self._lost)
            else:
                said = f"{lost - self._lost} leases of 2 s were lost, in {seconds:.2f} s without a core"
                self.report.blame(f"after {totals['succeeded']} that were kept", [said])
        self._lost = lost

    def _judge_leases(self, daemon: Daemon, where: str) -> None:
        self._look_at_leases(daemon)
        daemon.children.stop("keeper")
        totals = daemon.totals(KEPT_QUEUE)
        self.report.count("short leases kept", totals["succeeded"])
        lost = totals["lapsed"] + totals["failed"] - self._lost
        if lost or not totals["succeeded"]:
            self.report.blame(where, [f"{lost} leases of 2 s were lost at the end, {totals['succeeded']} were kept"])

    def _judge_plateau(self, samples: list[Sample], minutes: float) -> None:
        found = problems(samples, minutes)
        if found:
            self.report.blame("the churn", found)
        last, most = samples[-1], most_of(samples)
        self.report.figures |= {
            "MB of memory": round(last.anonymous_bytes / MB),
            "MB of memory at half time": round(samples[len(samples) // 2].anonymous_bytes / MB),
            "descriptors": last.descriptors,
            "MB of file": round(most.file_bytes / MB),
            "MB of it ever written": round(most.written_bytes / MB),
            "MB of it ever in use": round(most.used_bytes / MB),
        }

    @contextmanager
    def _daemon(self, *, verify: bool = True) -> Iterator[Daemon]:
        """A daemon for the length of a block; then it has ended well, and its file has no fault."""
        with tempfile.TemporaryDirectory(prefix="lmdbq-soak-") as place:
            directory = Path(place)
            data = directory / "data"
            with Children(directory, self._interrupts) as children:
                children.start("daemon", "lmdbq", "serve", *SERVE, "--data", str(data))
                url = children.read_url("daemon")
                with HttpClient(url) as client:
                    yield Daemon(children, client, url, data)
                for name in children.names():
                    if name != "daemon":
                        children.kill(name)
                children.stop("daemon")
            if verify:
                self._verify(data)

    def _verify(self, data: Path) -> None:
        store = open_store(data)
        try:
            faults = store.check()
        finally:
            store.close()
        if faults:
            self.report.blame("the file", faults[:FAULTS_KEPT])


def run(seed: str, tell: Tell, minutes: float, import_tasks: int, *, plant: str = "") -> Report:
    """Import ``import_tasks`` (0: none) beside a worker, then churn for ``minutes``.

    plant: a fault of PLANTS to put in. Raises DemoFailed (a process ended by itself), KeyError (plant).
    """
    if plant and plant not in PLANTS:
        raise KeyError(plant)
    began = time.monotonic()
    canary = Canary()
    canary.start()
    with Interrupts() as interrupts:
        soak = Soak(seed, tell, interrupts, plant)
        try:
            if import_tasks:
                soak.bulk_import(import_tasks)
            soak.churn(minutes)
        finally:
            canary.end()
    soak.report.figures["ms the machine stood still at most"] = round(canary.late_seconds * 1_000)
    soak.report.seconds = time.monotonic() - began
    return soak.report
