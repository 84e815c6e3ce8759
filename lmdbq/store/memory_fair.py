"""Turns in memory, in queues whose order is fair: who has one, whose is next, and what a turn that was had moves."""

from __future__ import annotations

from msgspec.structs import replace

from lmdbq.model import Order, State
from lmdbq.sharing import next_turn
from lmdbq.store.memory_lanes import limits_of
from lmdbq.store.memory_rows import Row
from lmdbq.store.memory_state import Tables


def give_turns(tables: Tables) -> None:
    """Give a turn to each group that has ready tasks in a fair queue and none yet; take those away that are over."""
    wanted = {
        (row.queue, row.options.group)
        for queue, known in tables.queues.items()
        if known.settings.order is Order.FAIR
        for row in tables.standing_in(State.READY, queue=queue)
        if row.options.group
    }
    for name in tables.turns.keys() - wanted:
        tables.discard(tables.turns, name)
    for queue, group in sorted(wanted - tables.turns.keys()):
        turn = next_turn(tables.queues[queue].pace.time, limits_of(tables, group).weight)
        tables.assign(tables.turns, (queue, group), turn)


def first_of(tables: Tables, queue: str, rows: list[Row]) -> Row | None:
    """Return whose turn it is of ready tasks that may start, those that a claim wants of a fair queue."""
    if not rows:
        return None
    most_urgent = min(row.priority for row in rows)
    parties: dict[str, list[Row]] = {}
    for row in rows:
        if row.priority == most_urgent:
            parties.setdefault(row.options.group, []).append(row)

    def place(group: str) -> tuple[int, bool, int]:
        if not group:
            return tables.queues[queue].pace.others, True, 0
        first_ids = [_first(parties[group], type_).id for type_ in _types(parties[group])]
        return tables.turns[queue, group], False, min(first_ids)

    return _first(parties[min(parties, key=place)])


def _types(rows: list[Row]) -> set[str]:
    return {row.type for row in rows}


def _first(rows: list[Row], type_: str = "") -> Row:
    """Return the first of a party, or of its tasks of one type."""
    return min((row for row in rows if type_ in ("", row.type)), key=lambda row: (row.rank, row.id))


def served(tables: Tables, row: Row) -> None:
    """Note that a task was taken; if its queue is fair, its group had its turn."""
    pace = tables.queues[row.queue].pace
    if tables.settings(row.queue).order is not Order.FAIR:
        return
    group = row.options.group
    if not group:
        tables.set_pace(row.queue, pace.after_others(1))
        return
    time = max(pace.time, tables.turns[row.queue, group])
    tables.set_pace(row.queue, replace(pace, time=time))
    tables.assign(tables.turns, (row.queue, group), next_turn(time, limits_of(tables, group).weight))
