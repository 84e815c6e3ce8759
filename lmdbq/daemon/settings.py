"""Every setting of the daemon, each with its environment variable, its default and its sentence; and every default.

``lmdbq config``, ``/v1/info`` and the docs print these two tables; nothing repeats them by hand. A value given on the
command line wins over the environment, which wins over the default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args, get_type_hints

import msgspec
from msgspec import Struct

from lmdbq import limits
from lmdbq.errors import InvalidInput
from lmdbq.model import Problem
from lmdbq.wire import values
from lmdbq.wire.durations import read_duration


def state_directory(environ: Mapping[str, str]) -> Path:
    """Return where the data is kept unless somebody says otherwise: the service's or the user's state directory."""
    given = environ.get("STATE_DIRECTORY")
    if given:
        return Path(given.split(":")[0])
    base = environ.get("XDG_STATE_HOME")
    home = Path(environ.get("HOME") or Path.home())
    return (Path(base) if base and Path(base).is_absolute() else home / ".local" / "state") / "lmdbq"


class Settings(Struct, frozen=True, kw_only=True):
    """How one daemon runs. ``SETTINGS`` says what each field means.

    token is a secret: nothing prints it. data None: ``state_directory``.
    """

    listen: str = limits.LISTEN_DEFAULT
    data: Path | None = None
    durability: str = "full"
    max_size: int = 0
    token: str = ""
    auth: str = ""
    allow_hosts: tuple[str, ...] = ()
    strict_queues: bool = False
    idempotency_kept_seconds: float = limits.MEMO_KEPT_NS / limits.SECOND_NS
    grace_seconds: float = limits.GRACE_DAEMON_SECONDS
    any_core: bool = False

    def data_directory(self) -> Path:
        """Return the directory of the file."""
        return self.data if self.data is not None else state_directory(os.environ)


class Setting(NamedTuple):
    """One row of the table. is_secret: taken from the environment alone, as a command line is seen by everybody."""

    name: str
    env: str
    doc: str
    is_secret: bool = False

    @property
    def option(self) -> str:
        """How `lmdbq serve` calls it."""
        name = self.name.removesuffix("_seconds").removesuffix("s" if self.name == "allow_hosts" else "")
        return "--" + name.replace("_", "-")


SETTINGS: Final = (
    Setting("listen", "LMDBQ_LISTEN", "Address to serve: HOST:PORT (port 0: any free one) or unix:/PATH."),
    Setting("data", "LMDBQ_DATA", "Directory of the file; else $STATE_DIRECTORY, else the user's state directory."),
    Setting(
        "durability", "LMDBQ_DURABILITY", "full: synced before every answer. batch: a power cut may lose the last."
    ),
    Setting("max_size", "LMDBQ_MAX_SIZE", "Largest size of the file in bytes (512MiB, 20G ...); 0: the disk."),
    Setting(
        "token",
        "LMDBQ_TOKEN",
        "Tokens callers must send, as role:token,... ; a plain token is an admin's.",
        is_secret=True,
    ),
    Setting("auth", "LMDBQ_AUTH", "none: serve other machines without a token."),
    Setting(
        "allow_hosts", "LMDBQ_ALLOW_HOSTS", "Names other than localhost under which callers without a token may ask."
    ),
    Setting("strict_queues", "LMDBQ_STRICT_QUEUES", "true: a queue must be created before anything is enqueued to it."),
    Setting(
        "idempotency_kept_seconds", "LMDBQ_IDEMPOTENCY_KEPT", "How long an Idempotency-Key is remembered, 1 to 86400 s."
    ),
    Setting("grace_seconds", "LMDBQ_GRACE", "How long a stopping daemon waits for requests that are under way."),
    Setting("any_core", "LMDBQ_ANY_CORE", "true: threads run on any core; else on one, unless others take that."),
)


class Default(NamedTuple):
    """A default that is not a setting of the daemon."""

    name: str
    value: Any
    doc: str


def _s(nanoseconds: int) -> float:
    return values.seconds(nanoseconds)


DEFAULTS: Final = (
    Default("keepalive_timeout_in_seconds", _s(limits.KEEPALIVE_NS_DEFAULT), "Length of a lease, 1 s to 12 h."),
    Default("max_attempts", limits.ATTEMPTS_DEFAULT, "How often a task is tried before it is dead."),
    Default(
        "max_deliveries",
        limits.DELIVERIES_PER_ATTEMPT_DEFAULT * limits.ATTEMPTS_DEFAULT,
        "4 x max_attempts; ends crash loops.",
    ),
    Default("backoff", "exponential", "Waits base x factor ** (failures - 1), at most cap, shortened by jitter."),
    Default("backoff.base_in_seconds", _s(limits.BACKOFF_BASE_NS_DEFAULT), "First wait."),
    Default("backoff.factor", limits.BACKOFF_FACTOR_DEFAULT, "Growth from one wait to the next."),
    Default("backoff.cap_in_seconds", _s(limits.BACKOFF_CAP_NS_DEFAULT), "Longest wait."),
    Default("backoff.jitter", limits.BACKOFF_JITTER_DEFAULT, "Largest share by which a wait is shortened."),
    Default("expires_at", 0, "A task waits for ever unless it, or its queue, says otherwise."),
    Default("priority", 0, "Lower runs sooner."),
    Default("dedupe_scope", "queue", "Among which tasks a dedupe_key is unique."),
    Default("dedupe_until", "finished", "A duplicate is one while the first is scheduled, ready or running."),
    Default("on_duplicate", "skip", "A duplicate is not enqueued; the first stays as it is."),
    Default(
        "keep.succeeded_in_seconds", _s(limits.KEEP_SUCCEEDED_NS_DEFAULT), "A task without a result is removed at once."
    ),
    Default(
        "keep.result_in_seconds", _s(limits.KEEP_RESULT_NS_DEFAULT), "A succeeded task with a result is kept so long."
    ),
    Default("keep.dead_in_seconds", _s(limits.KEEP_DEAD_NS_DEFAULT), "A dead task is kept so long, for you to look."),
    Default("keep.cancelled_in_seconds", _s(limits.KEEP_CANCELLED_NS_DEFAULT), "A cancelled task is kept so long."),
    Default("ended_per_queue_max", limits.ENDED_PER_QUEUE_MAX, "Of each kept state; the oldest go first."),
    Default("payload_bytes_max", limits.PAYLOAD_BYTES_MAX, "Largest payload."),
    Default("result_bytes_max", limits.RESULT_BYTES_MAX, "Largest result."),
    Default("body_bytes_max", limits.BODY_BYTES_MAX, "Largest request; a bulk import may be longer."),
    Default("entries_max", limits.ENTRIES_MAX, "Most entries of one call."),
    Default("limit", 1, f"Tasks per dequeue, at most {limits.CLAIM_TASKS_MAX}."),
    Default("wait_in_seconds", 0, f"How long a dequeue waits for a task, at most {limits.WAIT_SECONDS_MAX:.0f} s."),
    Default("answer_bytes_max", limits.CLAIM_BYTES_MAX, "Largest answer of a dequeue; one task is always given."),
    Default(
        "worker_grace_in_seconds", limits.GRACE_WORKER_SECONDS, "How long a stopping worker finishes what it runs."
    ),
)

MAX_SIZE_MIN: Final = 8 * 1024**2  # a smaller file is full from the start: all of it would be kept for deletes
_UNITS: Final = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


def read_bytes(text: str) -> int:
    """Return a size like 512MiB, 20G or 1048576. Raises ValueError.

    >>> read_bytes("16MiB"), read_bytes("1G"), read_bytes("7")
    (16777216, 1073741824, 7)
    """
    digits = text.strip().rstrip("BbIiKkMmGgTt")
    unit = text.strip()[len(digits) :].upper().rstrip("B").rstrip("I")
    if unit not in _UNITS or not digits.isdigit():
        raise ValueError("a size is a number of bytes, or one with K, M, G or T (times 1024), like 512MiB")
    return int(digits) * _UNITS[unit]


def load(given: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings: what is ``given`` (None: not given), else the environment, else the defaults.

    Raises InvalidInput naming every setting that is wrong, by its environment variable.
    """
    environ = os.environ if environ is None else environ
    hints = get_type_hints(Settings)
    chosen: dict[str, Any] = {}
    problems = []
    for row in SETTINGS:
        value: Any = given.get(row.name)
        if value is None or value == ():
            value = environ.get(row.env) or None
        if value is None:
            continue
        try:
            chosen[row.name] = _converted(row.name, value, hints[row.name])
        except (ValueError, msgspec.ValidationError) as bad:
            problems.append(_problem(row, str(bad)))
    if chosen.get("data") is None:
        chosen["data"] = state_directory(environ)
    settings = Settings(**chosen)
    problems.extend(_wrong(settings))
    if problems:
        raise InvalidInput(problems)
    return settings


def _converted(name: str, value: Any, kind: Any) -> Any:
    if not isinstance(value, str):
        return value
    if name == "max_size":
        return read_bytes(value)
    if name == "allow_hosts":
        return tuple(host.strip() for host in value.split(",") if host.strip())
    if Path in get_args(kind):
        return Path(value)
    if kind is float and value[-1:].isalpha():
        return read_duration(value)
    if kind is bool and value.lower() not in ("true", "false", "1", "0"):
        raise ValueError("it is true or false")
    return msgspec.convert(value, kind, strict=False)


def _wrong(settings: Settings) -> list[Problem]:
    checks = (
        ("durability", settings.durability in ("full", "batch"), "it is full or batch"),
        ("auth", settings.auth in ("", "none"), "it is none, or left out"),
        (
            "max_size",
            settings.max_size == 0 or settings.max_size >= MAX_SIZE_MIN,
            f"it is at least {MAX_SIZE_MIN // 2**20}MiB, as room is kept for what goes on when it is full; 0: no limit",
        ),
        ("idempotency_kept_seconds", 1 <= settings.idempotency_kept_seconds <= 86_400, "it is 1 to 86400 seconds"),
        ("grace_seconds", 0 <= settings.grace_seconds <= 600, "it is 0 to 600 seconds"),
    )
    rows = {row.name: row for row in SETTINGS}
    return [_problem(rows[name], detail) for name, right, detail in checks if not right]


def _problem(row: Setting, detail: str) -> Problem:
    return Problem("bad_setting", f"{row.option} (or {row.env})", detail)


def shown(settings: Settings) -> list[tuple[Setting, Any]]:
    """Return each setting and its value as it may be printed: the token only as whether there is one."""
    rows: list[tuple[Setting, Any]] = []
    for row in SETTINGS:
        value = getattr(settings, row.name)
        if row.is_secret:
            value = "(set)" if value else ""
        elif row.name == "data":
            value = str(settings.data_directory())
        rows.append((row, list(value) if isinstance(value, tuple) else value))
    return rows
