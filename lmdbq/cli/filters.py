"""Which tasks a command means, and doing one thing to all of them. Shared by tasks, cancel, retry and delete.

Ids go one by one, so that each has its own outcome; a filter goes as one action, page after page, and with nothing to
restrict it needs ``--all``.
"""

from __future__ import annotations

import functools
import io
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from lmdbq.cli import render
from lmdbq.cli.common import (
    DURATION,
    Session,
    complain,
    complete_queue,
    complete_set,
    complete_task,
    complete_type,
    queue_option,
    with_session,
)
from lmdbq.cli.exits import OUTCOMES, Exit, exit_of
from lmdbq.errors import Refusal
from lmdbq.limits import PAGE_TASKS_MAX
from lmdbq.model import State

STATES: Final = tuple(state.word for state in State)


def filter_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that restrict which tasks are meant."""
    states = click.Choice(STATES)
    for option in (
        click.option("--ended", type=SPAN, metavar="FROM..TO", help="Only those that ended then: 2h.. or 1d..2h ago."),
        click.option("--scheduled", type=SPAN, metavar="FROM..TO", help="Only those scheduled for then."),
        click.option("--created", type=SPAN, metavar="FROM..TO", help="Only those accepted then."),
        click.option("--attempts", type=RANGE, metavar="N..M", help="Only those with so many attempts: 3, 1.., ..2"),
        click.option("--priority", type=RANGE, metavar="N..M", help="Only those of this priority."),
        click.option("--reason", metavar="WORD", help="Only those dead or cancelled for it: max_attempts …"),
        click.option("--key", "dedupe_key", metavar="KEY", help="Only those with this dedupe key."),
        click.option("--external-id", metavar="ID", help="Only the one with this id of another system."),
        click.option("--set", "set_id", metavar="ID", shell_complete=complete_set, help="Only members of this set."),
        click.option("--group", "group_key", metavar="KEY", help="Only those of this group."),
        click.option("--thread", "thread_id", metavar="ID", help="Only those of this thread."),
        click.option("--tag", metavar="TAG", help="Only those with this tag."),
        click.option("--state", multiple=True, type=states, help="Only those in this state; may be repeated."),
        click.option("--type", metavar="TYPE", shell_complete=complete_type, help="Only those of this type."),
        queue_option(help="Only those of this queue."),
    ):
        function = option(function)
    return function


def said(filters: dict[str, Any]) -> dict[str, Any]:
    """Return the filters that were given, as the API names them."""
    given = {name: value for name, value in filters.items() if value}
    for name, (first, last) in _ENDS.items():
        low, high = given.pop(name, (None, None))
        given |= {key: end for key, end in ((f"{name}_{first}", low), (f"{name}_{last}", high)) if end is not None}
    return {**given, "state": list(given["state"])} if "state" in given else given


class _Range(click.ParamType):  # type: ignore[type-arg]  # generic only from click 8.2 on
    """``N``, ``N..M``, ``N..`` or ``..M``."""

    name = "range"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        low, dots, high = value.partition("..")
        try:
            ends = [self._end(text) for text in (low, high if dots else low)]
        except ValueError:
            ends = [None, None]
        if ends == [None, None]:
            self.fail(f"{value!r} is no range; {self.hint}", param, ctx)
        return tuple(ends)

    hint = "write N, N..M, N.. or ..M"

    def _end(self, text: str) -> Any:
        return int(text) if text else None


class _Span(_Range):
    """A range of instants, each RFC 3339 or a duration: so long ago."""

    hint = "write FROM..TO, FROM.. or ..TO, each as 2030-01-31T08:00:00Z or as 2h, which is two hours ago"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and ".." not in value:
            self.fail(f"{value!r} is no span; {self.hint}", param, ctx)
        return super().convert(value, param, ctx)

    def _end(self, text: str) -> Any:
        if not text or not text[-1].islower():
            return text or None
        try:
            ago = DURATION.convert(text, None, None)
        except click.BadParameter:
            raise ValueError from None
        return int((time.time() - ago) * 1_000_000) * 1_000


RANGE: Final = _Range()
SPAN: Final = _Span()
_ENDS: Final = {
    "priority": ("min", "max"),
    "attempts": ("min", "max"),
    **dict.fromkeys(("created", "scheduled", "ended"), ("from", "before")),
}


def action_command(
    action: str, short_help: str, doc: str, *, moves: bool = False, states: tuple[str, ...] = ()
) -> click.Command:
    """Return the command that does ``action`` to tasks. moves: it has an option --to. states: of all it means."""

    @click.command(action, short_help=short_help, help=doc)
    @click.argument("task_ids", metavar="[ID]…", nargs=-1, shell_complete=complete_task)
    @filter_options
    @click.option("--all", "every", is_flag=True, help="Every task there is.")
    @click.option("--dry-run", is_flag=True, help="Only count them.")
    @_to_option(moves)
    @with_session
    def command(
        session: Session,
        task_ids: tuple[str, ...],
        every: bool,
        dry_run: bool,
        to: str | None = None,
        **filters: Any,
    ) -> int:
        wanted = said(filters)
        if bool(task_ids) == bool(wanted or every):
            raise click.UsageError(
                "name tasks by their ids, or by a filter (-q, --type, --state …; --all for every one)"
            )
        if not task_ids:
            if states:
                wanted["state"] = list(states)
            return act(session, action, wanted, every, dry_run, to=to)
        if dry_run:
            raise click.UsageError("--dry-run counts what a filter matches; ids are counted already")
        one = getattr(session.client, action)
        return _by_id(session, task_ids, functools.partial(one, to=to) if moves else one)

    return command


def _to_option(moves: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    if not moves:
        return lambda function: function
    help = "Let them run in this queue, which must exist."
    return click.option("--to", metavar="QUEUE", shell_complete=complete_queue, help=help)


def _by_id(session: Session, task_ids: Sequence[str], one: Callable[[str], Any]) -> int:
    """Do it to each id, also after a failure; the last failure's status is the command's."""
    status = Exit.OK
    for task_id in task_ids:
        try:
            change = one(task_id)
        except Refusal as refusal:
            complain(refusal, session.as_json)
            status = exit_of(refusal)
            continue
        outcome = change.outcome if change else "ok"
        session.answer(change or {"id": task_id, "outcome": "ok"}, functools.partial(str, f"{task_id}  {outcome}"))
        status = OUTCOMES[outcome] or status
    return status


def act(session: Session, action: str, wanted: dict[str, Any], every: bool, dry_run: bool, **more: Any) -> int:
    """Do an action to all that a filter means, page after page, with a bar for a person who waits."""
    matched = changed = 0
    cursor = None
    with _bar(session, action, wanted) as bar:
        while True:
            page = session.client.actions(action, every=every, dry_run=dry_run, cursor=cursor, **wanted, **more)
            matched += page.matched
            changed += page.changed
            bar.update(page.matched)
            cursor = page.next or None
            if cursor is None:
                break
    totals = {"action": action, "dry_run": dry_run, "matched": matched, "changed": changed}
    session.answer(
        totals, lambda: render.fields([("matched", matched), ("would change" if dry_run else "changed", changed)])
    )
    return Exit.OK


def _bar(session: Session, action: str, wanted: dict[str, Any]) -> Any:
    """Return a bar on standard error; one that draws nothing unless a person looks at it and there is much to do."""
    is_seen = sys.stderr.isatty() and not session.as_json
    total = _count(session, action, wanted) if is_seen else 0
    is_long = total > PAGE_TASKS_MAX
    return click.progressbar(length=total, label=action, file=sys.stderr if is_long else io.StringIO())


def _count(session: Session, action: str, wanted: dict[str, Any]) -> int:
    """Return how many tasks an action will look at: those that it can change, unless a filter names states."""
    from lmdbq.wire.filters import ACTION_STATES

    states = [state.word for state in ACTION_STATES[action]]
    return int(session.client.count(**({"state": states} if states else {}) | wanted))
