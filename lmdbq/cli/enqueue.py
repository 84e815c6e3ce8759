"""``lmdbq enqueue``: one task from a command line, and with ``--wait`` its end."""

from __future__ import annotations

import os
import re
import sys
from typing import Any, Final

import click
import msgspec

from lmdbq.cli.common import (
    DURATION,
    JSON_VALUE,
    Session,
    complete_set,
    complete_type,
    fail,
    queue_option,
    with_session,
)
from lmdbq.cli.exits import Exit
from lmdbq.errors import Refusal
from lmdbq.limits import PRIORITY_MAX, PRIORITY_MIN, WAIT_SECONDS_MAX

_PAIR: Final = re.compile(r"([A-Za-z_][-\w.]*)=(.*)", re.DOTALL)
_ENDED: Final = frozenset({"succeeded", "dead", "cancelled"})
# A task that is waited for must still be there when its end is asked for; a plain one goes when it succeeds.
_KEEP_SECONDS: Final = 3600
FIRST_LOOK_SECONDS: Final = 2.0  # then it is said why it does not run yet


@click.command("enqueue", short_help="Put a task into a queue.")
@click.argument("type_name", metavar="TYPE", shell_complete=complete_type)
@click.argument("payload", nargs=-1, metavar="[JSON | key=value… | -]")
@queue_option(help="Its queue; it is created by its first task.  [default: default]")
@click.option("--in", "delay", type=DURATION, metavar="DURATION", help="Start after so long: 30s, 5m, 2h.")
@click.option("--at-time", metavar="RFC3339", help="Start then: 2030-01-31T08:00:00Z.")
@click.option("--expires-in", type=DURATION, metavar="DURATION", help="Drop it if it has not started by then.")
@click.option("--key", metavar="KEY", help="Dedupe key: skipped while a task with this key waits or runs.")
@click.option("--debounce", type=DURATION, metavar="DURATION", help="Run so long after the last call with its --key.")
@click.option("--throttle", type=DURATION, metavar="DURATION", help="Run at most once in so long for its --key.")
@click.option("--coalesce", metavar="KEY", help="One waits behind the one that runs; the latest payload wins.")
@click.option("--external-id", metavar="ID", help="Another system's id of it: skipped while a task with it is stored.")
@click.option("--thread", metavar="ID", help="Thread: its tasks run one at a time, in order.")
@click.option("--group", metavar="KEY", help="Group: its tasks share a cap and a rate, see `lmdbq group`.")
@click.option("--set", "set_id", metavar="ID", shell_complete=complete_set, help="Set: it becomes a member of it.")
@click.option("--priority", type=click.IntRange(PRIORITY_MIN, PRIORITY_MAX), metavar="N", help="Lower runs sooner.")
@click.option("--lease", type=DURATION, metavar="DURATION", help="How long a worker may be silent about it.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="A word to find it by; may be repeated.")
@click.option("--retry", type=JSON_VALUE, metavar="JSON", help='Its retry strategy: {"max_attempts": 3}.')
@click.option("--wait", is_flag=True, help="Wait for its end and print its result; exit status 1 if it is dead.")
@with_session
def command(session: Session, type_name: str, payload: tuple[str, ...], wait: bool, **options: Any) -> int:
    """Put a task of TYPE into a queue and print its id.

    The payload is one JSON value, or key=value pairs that become an object (a value is JSON if it reads as JSON, else
    text), or - for JSON on standard input.
    """
    session.may_create = True
    entry = _entry(type_name, options)
    if payload:
        entry["payload"] = parse_payload(payload)
    if wait:
        entry["keep"] = {"succeeded_in_seconds": _KEEP_SECONDS}
    answer = session.client.enqueue([entry], lease=_lease(entry))
    outcome = answer.outcomes[0]
    if wait:
        if outcome.deduped:
            session.note(f"{outcome.id} has this key already; waiting for that one")
        return _wait(session, outcome.id)
    if outcome.deduped:
        session.note(f"{outcome.outcome}: {outcome.id} has this key and is {outcome.state or 'no longer stored'}")
    session.answer(outcome, lambda: outcome.id)
    return Exit.OK


def _entry(type_name: str, options: dict[str, Any]) -> dict[str, Any]:
    said = {
        "type": type_name,
        "queue_name": options["queue_name"],
        "delay_in_seconds": options["delay"],
        "scheduled_at": options["at_time"],
        "expires_in_seconds": options["expires_in"],
        **_once(options),
        "coalesce": options["coalesce"],
        "external_id": options["external_id"],
        "thread_id": options["thread"],
        "group_key": options["group"],
        "set_id": options["set_id"],
        "priority": options["priority"],
        "keepalive_timeout_in_seconds": options["lease"],
        "tags": list(options["tags"]) or None,
        "retry_strategy": options["retry"],
    }
    return {name: value for name, value in said.items() if value is not None}


def _lease(entry: dict[str, Any]) -> str:
    """Return the lease of the task that a `worker --exec` runs us for, if the entry is to join its set."""
    is_of_ours = entry.get("set_id") and entry["set_id"] == os.environ.get("LMDBQ_SET")
    return os.environ.get("LMDBQ_LEASE", "") if is_of_ours else ""


def _once(options: dict[str, Any]) -> dict[str, Any]:
    """Return what --key, --debounce and --throttle say together."""
    key, debounce, throttle = options["key"], options["debounce"], options["throttle"]
    if debounce is None and throttle is None:
        return {"dedupe_key": key}
    if debounce is not None and throttle is not None:
        raise click.UsageError("--debounce and --throttle exclude each other; give one of them")
    if key is None:
        raise click.UsageError("--debounce and --throttle are about calls with the same --key; give that, too")
    if debounce is not None:
        return {"debounce": {"key": key, "wait_in_seconds": debounce}}
    return {"throttle": {"key": key, "period_in_seconds": throttle}}


def parse_payload(words: tuple[str, ...]) -> Any:
    """Return the payload that ``words`` (at least one) say. Raises click.UsageError, which says how to write it."""
    if words == ("-",):
        return _json(sys.stdin.buffer.read(), "standard input")
    pairs = [_PAIR.fullmatch(word) for word in words]
    if all(pairs):
        return {pair[1]: _value(pair[2]) for pair in pairs if pair}
    if len(words) == 1:
        return _json(words[0], repr(words[0]))
    odd = next(word for word, pair in zip(words, pairs, strict=True) if pair is None)
    raise click.UsageError(f"{odd!r} is no key=value; write one JSON value in quotes, or only key=value pairs")


def _json(text: str | bytes, what: str) -> Any:
    try:
        return msgspec.Raw(msgspec.json.encode(msgspec.json.decode(text, type=msgspec.Raw)))
    except (msgspec.DecodeError, UnicodeError) as error:
        example = 'name=Ada, or in quotes \'{"name": "Ada"}\''
        raise click.UsageError(f"{what} is neither JSON nor key=value ({error}); write {example}") from None


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return text


def _wait(session: Session, task_id: str) -> int:
    """Wait for the end of a task and print its result, or why it has none."""
    from lmdbq.client.core import result_of

    patience = FIRST_LOOK_SECONDS
    while True:
        try:
            task = session.client.task(task_id, wait=patience, payload="none")
        except Refusal as refusal:
            if refusal.status == 410:
                fail(f"{task_id} has ended, and nothing of it was kept", Exit.NOT_FOUND)
            raise
        if task.state in _ENDED:
            break
        if patience == FIRST_LOOK_SECONDS and task.waiting_for:
            session.note(f"it waits: {task.waiting_for.detail}")  # nobody to run it, perhaps: a typing error
        patience = WAIT_SECONDS_MAX
    session.answer(task, lambda: None if task.state != "succeeded" else _shown(result_of(task)))
    if task.state == "succeeded":
        return Exit.OK
    last = task.errors[-1] if task.errors else None
    session.note(f"{task_id} is {task.state} ({task.reason or 'no reason given'}){': ' + last.message if last else ''}")
    session.note(f"`lmdbq task {task_id}` shows every attempt; `lmdbq retry {task_id}` tries again")
    return Exit.FAILED


def _shown(result: Any) -> str:
    if isinstance(result, bytes):
        return result.decode("utf-8", "replace")
    return (
        result if isinstance(result, str) else msgspec.json.encode(result).decode("utf-8") if result is not None else ""
    )
