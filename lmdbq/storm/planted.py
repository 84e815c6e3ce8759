"""Faults put into a recording on purpose: the simulator must find each of them, or it proves nothing.

Each is what the disk would see of a real bug: a sync that was never asked for, an answer given before its commit, a
last page that reaches the disk before what it points to. A plant answers the changed recording and the span of cuts in
which its harm can show.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from msgspec.structs import replace

from lmdbq.store.creation import DATA_NAME
from lmdbq.storm.names import NOBODY, ROOT, first_named
from lmdbq.storm.recording import DATA, DIRECTORY, Event, Forced, Recording, Synced, Told, Wrote
from lmdbq.storm.session import RESTORED_NAME


class Planted(NamedTuple):
    """A recording with a fault, and between which two events its harm shows."""

    recording: Recording
    span: tuple[int, int]


def drop_a_sync(recording: Recording) -> Planted:
    """One commit in the middle forgets to sync what it has written; the page that makes it valid is synced."""
    commit = _middle_commit(recording)
    events = [event for index, event in enumerate(recording.events) if index != commit.sync]
    return Planted(replace(recording, events=events), (commit.end - 1, commit.next_sync - 1))


def answer_early(recording: Recording) -> Planted:
    """Answers are given before their commits have written anything."""
    events: list[Event] = []
    start = 0
    for event in recording.events:
        if isinstance(event, Told):
            events.insert(start, event)
            start = len(events)
        else:
            events.append(event)
    first = next(index for index, event in enumerate(events) if isinstance(event, Told))
    return Planted(replace(recording, events=events), (first + 1, len(events)))


def last_page_first(recording: Recording) -> Planted:
    """The page that makes a commit valid is written before the pages it points to, and synced only with them."""
    commit = _middle_commit(recording)
    events = list(recording.events)
    meta = events.pop(commit.end - 2)
    assert isinstance(meta, Wrote)
    events.pop(commit.end - 2)  # its own sync
    events.insert(commit.start, meta)
    return Planted(replace(recording, events=events), (commit.start + 1, commit.sync))


def forget_the_name(recording: Recording) -> Planted:
    """The directory is not synced after the new file got its name."""
    named, _ = first_named(recording.events, DATA)
    _, directory = first_named(recording.events, DIRECTORY)
    events = [event for event in recording.events if not (isinstance(event, Synced) and event.inode == directory)]
    return Planted(replace(recording, events=events), (named, len(events)))


def restore_unsynced(recording: Recording) -> Planted:
    """What is restored gets its name before its content was synced."""
    named, data = _restored(recording)
    return _without(recording, Synced(data), 0, named)


def restore_unnamed(recording: Recording) -> Planted:
    """The directory around what is restored is not synced after that got its name."""
    named, _ = _restored(recording)
    return _without(recording, Synced(ROOT), named, named)


def _restored(recording: Recording) -> tuple[int, int]:
    """Return where what is restored gets its name, and the inode of the file; the end and none, if nothing is."""
    try:
        return first_named(recording.events, f"{RESTORED_NAME}/{DATA_NAME}")
    except LookupError:  # as in a session through the daemon
        return len(recording.events), NOBODY


def _without(recording: Recording, sync: Synced, begin: int, named: int) -> Planted:
    """Take away every such sync from ``begin`` on; its harm shows behind ``named``."""
    events = [event for index, event in enumerate(recording.events) if index < begin or event != sync]
    return Planted(replace(recording, events=events), (min(named + 1, len(events)), len(events)))


PLANTS: Final[dict[str, Callable[[Recording], Planted]]] = {
    "drop-a-sync": drop_a_sync,
    "answer-early": answer_early,
    "last-page-first": last_page_first,
    "forget-the-name": forget_the_name,
    "restore-unsynced": restore_unsynced,
    "restore-unnamed": restore_unnamed,
}


class _Commit(NamedTuple):
    """Where a commit stands: its first write, its sync, behind its last page's sync; and the sync of the next one."""

    start: int
    sync: int
    end: int
    next_sync: int


def _middle_commit(recording: Recording) -> _Commit:
    """Return a commit that writes several pages, in the middle of a recording."""
    events = recording.events
    _, data = first_named(events, DATA)
    syncs = [index for index, event in enumerate(events) if isinstance(event, Synced) and event.inode == data]
    for number in range(len(syncs) // 2, len(syncs) - 1):
        sync = syncs[number]
        start = sync
        while isinstance(before := events[start - 1], Wrote) and before.inode == data:
            start -= 1
        is_whole = isinstance(events[sync + 1], Wrote) and isinstance(events[sync + 2], Forced)
        if sync - start >= 3 and is_whole:
            return _Commit(start, sync, sync + 3, syncs[number + 1])
    raise AssertionError("no commit in the recording writes several pages")
