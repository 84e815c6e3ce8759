"""The rules of schedules: which instants are due, what they enqueue, and when the next one is. Pure functions.

A schedule *stands* at the earliest instant that has not been dealt with (``next_at``). When that has come, it is dealt
with together with all that came since, and the schedule moves on, in one transaction with the tasks. So an instant is
never dealt with twice, whatever clocks do: where wall time is put back, the schedule waits for it to come again.

An instant that is dealt with FIRE_GRACE_NS or more after it came was *missed* (nobody ran; the disk was full).
``CatchUp`` decides about those; an instant that was not missed always gives its task.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

from lmdbq import cron, limits
from lmdbq.model import CatchUp, Entry, Problem, Schedule

INSTANT_PLACEHOLDER: Final = "{instant}"
_INSTANT_CHARS: Final = 20  # 2026-11-22T03:00:00Z
_METADATA_KEY: Final = "schedule"


class Firing(NamedTuple):
    """What is to be done about a schedule that is due: the instants that give a task, and where it stands then.

    next_at: 0 = no instant is left.
    """

    instants: list[int]
    next_at: int


class Standing(NamedTuple):
    """Where a schedule stands. next_at: 0 = paused, or nothing is left. last_at: the last instant that gave a task."""

    next_at: int = 0
    last_at: int = 0


def firing(schedule: Schedule, next_at: int, now_wall: int, count_max: int) -> Firing:
    """Return what to do about a schedule whose ``next_at`` (> 0) has come; at most ``count_max`` (>= 1) instants.

    Raises cron.BadCron or cron.UnknownZone if it cannot be read any more (another version of the time zone data).
    """
    spec = (schedule.cron, schedule.timezone)
    missed_upto = now_wall - limits.FIRE_GRACE_NS
    after = next_at - 1
    if next_at <= missed_upto and schedule.catch_up is CatchUp.ONE:
        due = cron.latest(*spec, after, now_wall, 1)
    else:
        if schedule.catch_up is CatchUp.NONE:
            after = max(after, missed_upto)
        due = cron.latest(*spec, after, now_wall, limits.CATCH_UP_INSTANTS_MAX)
    if len(due) > count_max:
        return Firing(due[:count_max], due[count_max])
    return Firing(due, cron.next_after(*spec, now_wall))


def standing(schedule: Schedule, before: tuple[Schedule, Standing] | None, now_wall: int) -> Standing:
    """Return where a schedule stands that is created (before: None) or changed at ``now_wall``.

    One that goes on as it was (same cron and timezone, not paused before or now) stays where it stood; any other
    begins with the first instant later than now and than the last that gave a task.
    """
    last_at = 0
    if before is not None:
        old, stood = before
        last_at = stood.last_at
        same = (old.cron, old.timezone) == (schedule.cron, schedule.timezone)
        if same and stood.next_at and not schedule.paused:
            return stood
    if schedule.paused:
        return Standing(0, last_at)
    return Standing(cron.next_after(schedule.cron, schedule.timezone, max(now_wall, last_at)), last_at)


def entry_of(name: str, schedule: Schedule, instant: int) -> Entry:
    """Return what a schedule enqueues for an instant (Unix ns).

    It is the template; its metadata say the schedule's name and the instant, and so does ``{instant}`` in its dedupe
    key.
    """
    entry = schedule.entry
    options = entry.options
    said = msgspec.json.decode(options.metadata or b"{}", type=dict[str, msgspec.Raw])
    origin = msgspec.json.encode({"name": name, "instant_at": instant})
    metadata = msgspec.json.encode({**said, _METADATA_KEY: msgspec.Raw(origin)})
    dedupe = options.dedupe
    if dedupe is not None:
        dedupe = replace(dedupe, key=dedupe.key.replace(INSTANT_PLACEHOLDER, instant_text(instant)))
    return replace(entry, options=replace(options, metadata=metadata, dedupe=dedupe))


def instant_text(instant: int) -> str:
    """Return an instant of whole seconds as RFC 3339 text.

    >>> instant_text(1_795_316_400_000_000_000)
    '2026-11-22T03:00:00Z'
    """
    seconds = instant // limits.SECOND_NS
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def problems_of(schedule: Schedule) -> list[Problem]:
    """Return what is wrong with a schedule; an empty list if it can be stored. Pointers are those of its HTTP body."""
    found: list[Problem] = []
    try:
        cron.check(schedule.cron, "UTC")
    except cron.BadCron as error:
        found.append(Problem("bad_cron", "/cron", str(error)))
    try:
        cron.zone(schedule.timezone)
    except cron.UnknownZone as error:
        found.append(Problem("unknown_timezone", "/timezone", str(error)))
    return found + _entry_problems(schedule.entry)


def _entry_problems(entry: Entry) -> list[Problem]:
    found: list[Problem] = []
    for field in ("scheduled_at", "expires_at"):
        if getattr(entry, field):
            detail = f"a schedule says when; give delay_in_seconds or expires_in_seconds instead of {field}, or neither"
            found.append(Problem("bad_value", f"/task/{field}", detail))
    if entry.options.set_id:
        found.append(Problem("bad_value", "/task/set_id", "what a schedule enqueues is a member of no set"))
    if entry.expires_in_ns and entry.expires_in_ns <= entry.delay_ns:
        found.append(Problem("expires_too_early", "/task/expires_in_seconds", "it must be longer than the delay"))
    if len(entry.payload) > limits.SCHEDULE_PAYLOAD_BYTES_MAX:
        detail = f"the payload of a schedule has at most {limits.SCHEDULE_PAYLOAD_BYTES_MAX} bytes; send where it is"
        found.append(Problem("payload_too_large", "/task/payload", detail))
    if len(entry.options.metadata) > limits.SCHEDULE_METADATA_BYTES_MAX:
        detail = (
            f"the metadata of a schedule have at most {limits.SCHEDULE_METADATA_BYTES_MAX} bytes: its name is added"
        )
        found.append(Problem("out_of_range", "/task/metadata", detail))
    key = entry.options.dedupe.key if entry.options.dedupe is not None else ""
    if len(key.replace(INSTANT_PLACEHOLDER, "-" * _INSTANT_CHARS)) > limits.DEDUPE_KEY_CHARS_MAX:
        detail = f"with the instant in it, it is longer than {limits.DEDUPE_KEY_CHARS_MAX} characters"
        found.append(Problem("out_of_range", "/task/dedupe_key", detail))
    return found
