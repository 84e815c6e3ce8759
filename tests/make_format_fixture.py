"""Writes the fixture of the present format: ``python -m tests.make_format_fixture``.

It is written once, by the first version with that format, and read for ever: later versions must go on with such a
file. So an existing one is never replaced. Beside it stands what its writer saw in it.
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from lmdbq.clock import ManualClock
from lmdbq.model import (
    NEW_SET,
    CatchUp,
    Condition,
    Dedupe,
    Enqueue,
    Entry,
    GroupPut,
    GroupRule,
    GroupSettings,
    Keep,
    Order,
    Rate,
    RulePut,
    Schedule,
    SchedulePut,
    SetClose,
    SetMake,
    TaskSet,
    TypePut,
    TypeSettings,
)
from lmdbq.store.lmdb import LmdbStore
from lmdbq.store.records import FORMAT
from tests.full_store import fill
from tests.store_driver import Driver, S, entry

FIXTURES = Path(__file__).resolve().parent / "fixtures"


def seen(q: Driver) -> dict[str, Any]:
    """Return what there is in a store as plain maps, bytes in base64."""
    found: dict[str, Any] = msgspec.to_builtins(
        {
            "tasks": q.all_tasks(),
            "queues": q.store.queues(),
            "due": q.store.due(q.clock),
            "groups": q.store.groups(q.clock),
            "rules": q.store.group_rules(),
            "threads": q.store.threads("lanes"),
            "schedules": q.store.schedules(),
            "sets": q.store.sets(),
            "types": q.store.types(),
        },
        str_keys=True,
    )
    return found


def fill_lanes_and_schedules(q: Driver) -> None:
    """Add what format 2 brought: threads, groups, rates, rules, schedules, what follows a death, types that decide."""
    q.do(GroupPut("acme", GroupSettings(max_running=1, rate=Rate(tokens=5, period_ns=60 * S))))
    q.do(RulePut(GroupRule("tenant:*", GroupSettings(max_running=2), priority=3)))
    q.put_queue("paced", rate=Rate(tokens=2, period_ns=60 * S), order=Order.AGEING, max_dead=7)
    q.enqueue(*[entry(queue="lanes", thread="order-7", payload=b"%d" % number) for number in range(3)])
    q.enqueue(*[entry(queue="lanes", group=name) for name in ("acme", "acme", "tenant:1", "tenant:1", "tenant:1")])
    q.enqueue(*[entry(queue="paced", priority=number) for number in range(3)])
    q.claim("lanes", limit=4)
    q.claim("paced", limit=3)
    q.add(queue="lanes", type="later", delay_ns=3_600 * S, on_dead=Entry(type="bury"), dedupe=Dedupe("folded"))
    for name, paused in {"nightly": False, "held": True}.items():
        made = Entry(queue="calendar", type="report", payload=b"[1]")
        q.do(SchedulePut(name, Schedule("30 2 * * *", made, "Europe/Berlin", CatchUp.ALL, paused)))
    q.do(TypePut("report", TypeSettings(keepalive_ns=33 * S)))
    q.add(queue="lanes", type="later", delay_ns=3_600 * S, external_id="order:7")
    q.put_queue("shared", order=Order.FAIR)
    q.enqueue(*[entry(queue="shared", group=name) for name in ("left", "left", "right", "right", "", "")])
    q.claim("shared", limit=4)
    fill_sets(q)


def fill_sets(q: Driver) -> None:
    """Add sets: an open one, one that waits for its members, one that is met, with what follows it."""
    after = Entry(queue="sets", type="after", payload=b"[2]")
    made, _ = q.do(SetMake(TaskSet(Condition.ANY, after)), Enqueue((entry(queue="sets", set_id=NEW_SET, delay_ns=S),)))
    done = entry(queue="batch", set_id=NEW_SET, keep=Keep(succeeded_ns=900 * S))
    late = entry(queue="batch", set_id=NEW_SET, delay_ns=3_600 * S)
    closed, members, _ = q.do(SetMake(TaskSet(on_unmet=after)), Enqueue((done, late)), SetClose(NEW_SET))
    q.succeed(q.take("batch"), result=b"1")
    q.do(SetMake(TaskSet(Condition.FINISHED, Entry(queue="sets"), keep_ns=86_400 * S)), SetClose(NEW_SET))
    assert made.id < closed.id < members.ids[0]


def write_compact(source: Path, target: Path) -> None:
    """Write a copy without free pages, compressed, and so that the same content gives the same bytes."""
    with tempfile.TemporaryDirectory() as copy:
        with lmdb.open(str(source), max_dbs=40, lib_version=0) as env:
            env.copy(copy, compact=True)
        target.write_bytes(gzip.compress((Path(copy) / "data.mdb").read_bytes(), mtime=0))


def main() -> int:
    fixture = FIXTURES / f"format-{FORMAT}"
    if fixture.exists():
        print(f"{fixture} exists; a format's fixture is never replaced", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as place:
        full = fill(Path(place))
        fill_lanes_and_schedules(full.q)
        clock = full.q.clock
        assert isinstance(clock, ManualClock)
        assert isinstance(full.store, LmdbStore)
        expected = {
            "written_by": version("lmdbq"),
            "engine": full.store.info().engine,
            "wall": clock.wall_ns(),
            "steady": clock.steady_ns(),
            "ids": full.ids,
            **seen(full.q),
        }
        assert full.store.check() == []
        full.store.close()
        fixture.mkdir(parents=True)
        write_compact(Path(place), fixture / "data.mdb.gz")
        write_compact(Path(place) / "leases-1", fixture / "leases-1.mdb.gz")
        (fixture / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
