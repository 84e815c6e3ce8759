"""The independent count: were all tasks that the daemon said yes to done, each accepted once, with the right answer?

It stands alone. It imports nothing of lmdbq, asks no daemon and opens no queue file; it reads what others wrote down:

    accepted.tsv    by the producer, one line per entry of every request that was answered 2xx: outcome, key, task id
    worker-*.tsv    by the workers, each line with one write: event, key, task id, delivery, answer...
                    where event is "start", "fail" (on purpose) or "done"
    changes.tsv.gz  the data set, from which each answer is worked out again, here with plain integers

    python -I count.py DIRECTORY DATA_SET

prints one JSON object, and exits 1 if anything was lost, accepted twice, done without having been accepted, or answered
wrongly. A task that was *started* twice is no fault: a worker was killed in the middle, and its task ran again.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections import Counter
from pathlib import Path

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
DAY_SECONDS = 86_400
EPOCH_YEAR = 1970
EPOCH_WEEKDAY = 3  # the first of January 1970 was a Thursday


def is_leap(year: int) -> bool:
    """Say whether a year of the Gregorian calendar has a 29th of February."""
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def month_days(year: int, month: int) -> int:
    """Return how many days a month (1..12) has."""
    return MONTH_DAYS[month - 1] + (month == 2 and is_leap(year))


def to_date(days: int) -> tuple[int, int, int]:
    """Return (year, month, day) of a day counted from 1970-01-01, going year by year and month by month."""
    year, month = EPOCH_YEAR, 1
    while days < 0:
        year -= 1
        days += 366 if is_leap(year) else 365
    while days >= (366 if is_leap(year) else 365):
        days -= 366 if is_leap(year) else 365
        year += 1
    while days >= month_days(year, month):
        days -= month_days(year, month)
        month += 1
    return year, month, days + 1


def reading(seconds: int) -> str:
    """Return the date and time of day of a local Unix second."""
    days, rest = divmod(seconds, DAY_SECONDS)
    year, month, day = to_date(days)
    return f"{year:04}-{month:02}-{day:02} {rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"


def expected_answer(at: int, before: int, after: int) -> tuple[str, ...]:
    """Return the answer that a worker should have given for a change."""
    days = (at + before) // DAY_SECONDS
    year, month, day = to_date(days)
    length = after - before
    kind = "renamed" if length == 0 else "gap" if length > 0 else "overlap"
    nth = f"{(day - 1) // 7 + 1}/{(month_days(year, month) - day) // 7 + 1}"
    weekday = WEEKDAYS[(days + EPOCH_WEEKDAY) % 7]
    return kind, str(abs(length)), reading(at + before), reading(at + after), weekday, nth


def read_expected(path: Path) -> dict[str, tuple[str, ...]]:
    """Return the right answer for every key of the data set."""
    expected = {}
    with gzip.open(path, "rt", encoding="ascii") as lines:
        for line in lines:
            if not line.startswith("#"):
                zone, at, before, after, *_ = line.rstrip("\n").split("\t")
                expected[f"{zone}@{at}"] = expected_answer(int(at), int(before), int(after))
    return expected


def read_lines(path: Path) -> list[list[str]]:
    """Return the fields of every whole line; a process killed in a write may leave half a line, which is no record."""
    return [line.split("\t") for line in path.read_text(encoding="ascii").split("\n")[:-1]]


def count(directory: Path, data_set: Path) -> dict[str, int]:
    """Return what the files in ``directory`` say, judged against the data set."""
    expected = read_expected(data_set)
    ids_accepted: dict[str, set[str]] = {}
    deduplicated = 0
    for outcome, key, task_id in read_lines(directory / "accepted.tsv"):
        if outcome == "enqueued":
            ids_accepted.setdefault(key, set()).add(task_id)
        else:
            deduplicated += 1
    starts: Counter[str] = Counter()
    fails: Counter[str] = Counter()
    ids_done: dict[str, set[str]] = {}
    finished = wrong = 0
    for path in sorted(directory.glob("worker-*.tsv")):
        for event, key, task_id, _delivery, *answer in read_lines(path):
            if event == "start":
                starts[task_id] += 1
            elif event == "fail":
                fails[task_id] += 1
            else:
                finished += 1
                ids_done.setdefault(key, set()).add(task_id)
                wrong += tuple(answer) != expected.get(key)
    keys = ids_accepted.keys() | ids_done.keys()
    return {
        "enqueued": sum(len(ids) for ids in ids_accepted.values()),
        "deduplicated": deduplicated,
        "completed": len(ids_done),
        "retried": len(fails),
        "lost": sum(not ids <= ids_done.get(key, set()) for key, ids in ids_accepted.items()),
        "accepted_twice": sum(len(ids_accepted.get(key, set()) | ids_done.get(key, set())) > 1 for key in keys),
        "started_twice": sum(number > 1 + fails[task_id] for task_id, number in starts.items()),
        "finished_twice": finished - sum(len(ids) for ids in ids_done.values()),
        "unasked": len(ids_done.keys() - ids_accepted.keys()),
        "wrong": wrong,
    }


def main(arguments: list[str]) -> int:
    """Count, print, and say by the exit status whether all is well."""
    found = count(Path(arguments[0]), Path(arguments[1]))
    sys.stdout.write(json.dumps(found) + "\n")
    return 1 if found["lost"] or found["accepted_twice"] or found["unasked"] or found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
