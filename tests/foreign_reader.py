"""A reader of lmdbq files as somebody would write it in another language: from what ``keyspace`` and ``records`` say.

It imports nothing of lmdbq, only LMDB, MessagePack and what every language has: numbers of fixed width and CRC-32. It
answers plain dicts, lists and numbers, and is strict: a wrong checksum or an unknown format is a ValueError.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import lmdb
import msgpack

STATES = ("scheduled", "ready", "running", "succeeded", "dead", "cancelled")
SCOPES = ("queue", "type", "global")
TOTALS = (
    "enqueued",
    "deduplicated",
    "claimed",
    "succeeded",
    "failed",
    "released",
    "lapsed",
    "dead",
    "cancelled",
    "expired",
    "deleted",
)
NO_SLOT = 255
KEY_RAW_BYTES_MAX = 400


def sealed(value: bytes, key: bytes = b"") -> bytes:
    """Return a value without its checksum; ``key`` for the values whose checksum begins with their key."""
    if zlib.crc32(key + value[:-4]) != int.from_bytes(value[-4:], "little"):
        raise ValueError(f"wrong checksum of {value.hex()} at {key.hex()}")
    return value[:-4]


def sealed_map(value: bytes) -> dict[str, Any]:
    found = msgpack.unpackb(sealed(value), strict_map_key=False)
    assert isinstance(found, dict)
    return found


class Reader:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._env = lmdb.open(str(directory), readonly=True, create=False, max_dbs=32, lib_version=0)
        with self._env.begin() as txn:
            self._rows = {name: self._database(txn, name) for name in self._names(txn)}
        self._env.close()
        catalog = self._rows["catalog"]
        self.meta = sealed_map(catalog[b"M"])
        if self.meta["format"] not in (1, 2):
            raise ValueError(f"format {self.meta['format']}")
        self._queue_names = {number(key): sealed(value).decode() for key, value in catalog.items() if key[:1] == b"q"}
        self._type_names = {number(key): sealed(value).decode() for key, value in catalog.items() if key[:1] == b"t"}
        self._standings = self._read_standings()
        self._extensions = self._read_extensions()

    @staticmethod
    def _names(txn: Any) -> list[str]:
        return [key[6:].decode() for key, _ in txn.cursor() if key.startswith(b"lmdbq/")]

    def _database(self, txn: Any, name: str) -> dict[bytes, bytes]:
        database = self._env.open_db(b"lmdbq/" + name.encode(), txn=txn, create=False)
        return dict(txn.cursor(db=database).iternext())

    # --- queues ---

    def queues(self) -> dict[str, Any]:
        """Return settings, counts[type][state] (non-zero ones) and totals of each queue."""
        found: dict[str, Any] = {}
        for key, value in self._rows["catalog"].items():
            if key[:1] != b"Q":
                continue
            record = sealed_map(value)
            counts = self._rows["count"]
            totals = struct.unpack(">11Q", sealed(counts[struct.pack(">II", record["no"], 0)]))
            found[key[1:].decode()] = {
                "settings": record.get("settings", {}),
                "created_at": record.get("created_at", 0),
                "counts": self._counts(record["no"]),
                "totals": dict(zip(TOTALS, totals, strict=True)),
            }
        return found

    def _counts(self, queue_no: int) -> dict[str, dict[str, int]]:
        counts: dict[str, dict[str, int]] = {}
        for key, value in self._rows["count"].items():
            found_no, type_no = struct.unpack(">II", key)
            if found_no == queue_no and type_no:
                tally = zip(STATES, struct.unpack(">6Q", sealed(value)), strict=True)
                counts[self._type_names[type_no]] = {state: count for state, count in tally if count}
        return counts

    def last_numbers(self) -> tuple[int, int, int]:
        """Return the last id, queue number and type number given."""
        last_id, queue_no, type_no = struct.unpack(">QII", sealed(self._rows["count"][bytes(8)]))
        return last_id, queue_no, type_no

    # --- tasks ---

    def _read_standings(self) -> dict[int, dict[str, Any]]:
        """Return where each task stands, by id. Two places for one task are a ValueError."""
        found: dict[int, dict[str, Any]] = {}

        def stands(last_id: int, length: int, deliveries: int, failures: int, **place: Any) -> None:
            for task_id in range(last_id - length + 1, last_id + 1):
                if task_id in found:
                    raise ValueError(f"task {task_id} stands in two places")
                found[task_id] = {"deliveries": deliveries, "failures": failures, **place}

        for key, value in self._rows["ready"].items():
            _queue_no, type_no, priority, rank, last_id = struct.unpack(">IIHQQ", key)
            place = {"state": "ready", "type_no": type_no, "at": (priority, rank)}
            stands(last_id, *struct.unpack(">IIH", sealed(value, key)), **place)
        for key, value in self._rows.get("lane", {}).items():
            lane_no, _queue_no, _type_no, _priority, _rank, task_id = struct.unpack(">IIIHQQ", key)
            if lane_no:  # else it is exposed, and stands in its lane
                type_no, priority, rank, *counted = struct.unpack(">IHQIH", sealed(value, key))
                stands(task_id, 1, *counted, state="ready", type_no=type_no, at=(priority, rank))
        for key, value in self._rows["lease"].items():
            length, _queue_no, type_no, boot_no, deadline, keepalive, deliveries, failures = struct.unpack(
                ">IIIIQQIH", sealed(value, key)
            )
            lease = {"boot_no": boot_no, "deadline": deadline, "keepalive": keepalive}
            stands(number(key, 0), length, deliveries, failures, state="running", type_no=type_no, lease=lease)
        for key, value in self._rows["scheduled"].items():
            _queue_no, due_at, task_id = struct.unpack(">IQQ", key)
            type_no, *counted = struct.unpack(">IIH", sealed(value, key))
            stands(task_id, 1, *counted, state="scheduled", type_no=type_no, due_at=due_at)
        for key, value in self._rows["ended"].items():
            _queue_no, state, remove_at, task_id = struct.unpack(">IBQQ", key)
            type_no, *counted = struct.unpack(">IIH", sealed(value, key))
            stands(task_id, 1, *counted, state=STATES[state], type_no=type_no, remove_at=remove_at)
        return found

    def _read_extensions(self) -> dict[int, dict[str, Any]]:
        found: dict[int, dict[str, Any]] = {}
        for path in self._directory.glob("leases-*"):
            env = lmdb.open(str(path), readonly=True, create=False, lib_version=0)
            with env.begin() as txn:
                for key, value in txn.cursor():
                    delivery, boot_no, deadline, keepalive, progress = struct.unpack(">IIQQd", sealed(value))
                    found[number(key, 0)] = {
                        "delivery": delivery,
                        "boot_no": boot_no,
                        "deadline": deadline,
                        "keepalive": keepalive,
                        "progress": progress if progress == progress else None,
                    }
            env.close()
        return found

    def tasks(self) -> dict[int, dict[str, Any]]:
        """Return every task of a live queue by id."""
        found: dict[int, dict[str, Any]] = {}
        for key, value in self._rows["task"].items():
            record = self._record(value)
            if record["queue_no"] in self._queue_names:
                found[number(key, 0)] = self._task(number(key, 0), record)
        return found

    @staticmethod
    def _record(value: bytes) -> dict[str, Any]:
        data = sealed(value)
        fields = struct.unpack_from(">BBIIHQQQBII", data)
        shape, encoding, queue_no, type_no, priority, created_at, scheduled_at, expires_at, scope, owner, length = (
            fields
        )
        if shape != 1:
            raise ValueError(f"shape {shape}")
        start = struct.calcsize(">BBIIHQQQBII")
        return {
            "encoding": encoding,
            "queue_no": queue_no,
            "type_no": type_no,
            "priority": priority - 32768,
            "created_at": created_at,
            "scheduled_at": scheduled_at,
            "expires_at": expires_at,
            "slot": None if scope == NO_SLOT else (SCOPES[scope], owner),
            "options": msgpack.unpackb(data[start : start + length]) if length else {},
            "payload": data[start + length :],
        }

    def _task(self, task_id: int, record: dict[str, Any]) -> dict[str, Any]:
        place = self._standings[task_id]
        if place["type_no"] != record["type_no"]:
            raise ValueError(f"task {task_id} stands under another type than its record says")
        raw = self._rows["history"].get(struct.pack(">Q", task_id))
        history = {} if raw is None else sealed_map(raw)
        if place["state"] == "ready" and place["at"] != (
            record["priority"] + 32768,
            history.get("rank", 0) or record["scheduled_at"],
        ):
            raise ValueError(f"task {task_id} is ready at a place that is not its own")
        task = {
            "queue": self._queue_names[record["queue_no"]],
            "type": self._type_names[record["type_no"]],
            **{name: record[name] for name in ("payload", "encoding", "priority", "created_at", "scheduled_at")},
            "expires_at": record["expires_at"],
            "options": record["options"],
            "state": place["state"],
            "deliveries": place["deliveries"],
            "failures": place["failures"],
            "due_at": place.get("due_at", 0),
            "remove_at": place.get("remove_at", 0),
            "history": history,
        }
        if "lease" in place:
            task["lease"] = self._lease(task_id, place)
        return task

    def _lease(self, task_id: int, place: dict[str, Any]) -> dict[str, Any]:
        lease = {"progress": None, **place["lease"]}
        moved = self._extensions.get(task_id)
        if moved and (moved["delivery"], moved["boot_no"]) == (place["deliveries"], lease["boot_no"]):
            lease |= {name: moved[name] for name in ("deadline", "keepalive", "progress")}
        return lease

    # --- the rest ---

    def slots(self) -> dict[tuple[str, str, str], dict[str, int]]:
        """Return (scope, queue or type or "", key) -> the last task that took it, slots of purged queues left out."""
        found: dict[tuple[str, str, str], dict[str, int]] = {}
        for key, value in self._rows["dedupe"].items():
            scope, owner_no = struct.unpack_from(">BI", key)
            data = sealed(value)
            task_id, queue_no, taken_at, blocks_until = struct.unpack_from(">QIQQ", data)
            if queue_no not in self._queue_names:
                continue
            name = data[28:] or key[5:]
            if (len(name) > KEY_RAW_BYTES_MAX) != bool(data[28:]):
                raise ValueError(f"slot {key.hex()} is {len(name)} bytes long")
            owner = {"queue": self._queue_names, "type": self._type_names, "global": {0: ""}}[SCOPES[scope]][owner_no]
            found[(SCOPES[scope], owner, name.decode())] = {
                "id": task_id,
                "taken_at": taken_at,
                "blocks_until": blocks_until,
            }
        return found

    def memos(self) -> dict[tuple[int, bytes], dict[str, Any]]:
        """Return (1 idempotency key or 2 claim id, its bytes) -> what was answered."""
        return {(key[0], key[1:]): sealed_map(value) for key, value in self._rows["memo"].items()}

    def externals(self) -> dict[tuple[int, str], int]:
        """Return (namespace number, external id) -> the task that has it, those of purged queues left out."""
        found: dict[tuple[int, str], int] = {}
        for key, value in self._rows.get("external", {}).items():
            task_id = number(sealed(value), 0)
            record = self._record(self._rows["task"][struct.pack(">Q", task_id)])
            if record["queue_no"] not in self._queue_names:
                continue
            name = (int.from_bytes(key[:4], "big"), key[4:].decode())
            if name != (record["options"].get("namespace_no", 1), record["options"].get("external_id")):
                raise ValueError(f"external id {name} names task {task_id}, which has another")
            found[name] = task_id
        return found

    def types(self) -> dict[str, dict[str, Any]]:
        """Return what types decide for their tasks, and how their payloads look, by name."""
        rows = self._rows["catalog"].items()
        known = {self._type_names[number(key)]: sealed_map(value) for key, value in rows if key[:1] == b"D"}
        return {
            name: {"settings": said.get("settings", {}), "schema": said.get("schema", b"")}
            for name, said in known.items()
        }

    def schedules(self) -> dict[str, dict[str, Any]]:
        """Return every schedule by name, with ``due_at`` as its key says it (0: none)."""
        catalog = self._rows["catalog"]
        dues = {number: due_at for due_at, number in (struct.unpack(">QI", key) for key in self._rows["schedule"])}
        found = {key[1:].decode(): sealed_map(value) for key, value in catalog.items() if key[:1] == b"S"}
        for name, record in found.items():
            if sealed(catalog[b"s" + struct.pack(">I", record["no"])]).decode() != name:
                raise ValueError(f"schedule {name} and its number disagree")
            record["due_at"] = dues.pop(record["no"], 0)
        if dues:
            raise ValueError(f"due keys of no schedule: {dues}")
        return found

    def lanes(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Return (queue or "", name) -> what is known of a thread or group: how many are ready and run, and who may
        start next (ids)."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for key, value in self._rows["catalog"].items():
            if key[:1] != b"L":
                continue
            owner_no, record = int.from_bytes(key[2:6], "big"), sealed_map(value)
            if self._rows["catalog"][b"l" + struct.pack(">I", record["no"])][:-4] != key[1:]:
                raise ValueError(f"lane {record['no']} has another name")
            counts = [both for no, both in record.get("counts", {}).items() if no in self._queue_names]
            exposed = record.get("exposed", [])
            if any(number(sealed(self._rows["lane"][one]), 0) != record["no"] for one in exposed):
                raise ValueError(f"lane {record['no']} exposes what another does")
            found[self._queue_names.get(owner_no, ""), key[6:].decode()] = {
                "ready": sum(ready for ready, _ in counts),
                "running": sum(running for _, running in counts),
                "held_by": record.get("held_by", 0),
                "settings": record.get("settings"),
                "next": sorted(number(one[-8:], 0) for one in exposed),
            }
        return found

    def group_rules(self) -> list[str]:
        """Return the patterns of the rules for groups."""
        return sorted(sealed_map(value)["pattern"] for key, value in self._rows["catalog"].items() if key[:1] == b"R")

    def sets(self) -> dict[int, dict[str, Any]]:
        """Return every set by id; of one that is undecided how many members are pending is counted."""
        pending: dict[int, int] = {}
        for key, value in self._rows["task"].items():
            place = self._standings.get(number(key, 0), {"state": "ready"})
            set_id = self._record(value)["options"].get("set_id", 0)
            pending[set_id] = pending.get(set_id, 0) + (place["state"] not in STATES[3:])
        found = {number(key, 0): sealed_map(value) for key, value in self._rows.get("set", {}).items()}
        for set_id, record in found.items():
            if record["id"] != set_id:
                raise ValueError(f"set {set_id} says it is {record['id']}")
            if record.get("state", 0) < 2 and record.get("pending", 0) != pending.get(set_id, 0):
                raise ValueError(f"set {set_id} counts {record.get('pending', 0)} pending members")
        return found

    def expiries(self) -> dict[int, int]:
        """Return when each waiting task expires, by id, those of purged queues left out."""
        rows = [struct.unpack(">IQQ", key) for key in self._rows["expiry"]]
        return {task_id: at for queue_no, at, task_id in rows if queue_no in self._queue_names}

    def graves(self) -> dict[int, str]:
        """Return which name each purged queue's number had."""
        rows = self._rows["catalog"].items()
        return {number(key): sealed_map(value)["name"] for key, value in rows if key[:1] == b"G"}

    def quarantine(self) -> dict[int, str]:
        """Return why each damaged task was put aside."""
        rows = self._rows["quarantine"].items()
        return {number(key, 0): value.partition(b"\0")[0].decode() for key, value in rows}


def number(key: bytes, start: int = 1) -> int:
    """Return the number in a key behind its ``start`` bytes of prefix."""
    return int.from_bytes(key[start:], "big")
