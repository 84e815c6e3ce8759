"""``lmdbq edit``: change a task that has not started."""

from __future__ import annotations

from typing import Any

import click

from lmdbq.cli.common import DURATION, JSON_VALUE, Session, complete_task, complete_type, with_session
from lmdbq.cli.exits import Exit
from lmdbq.limits import PRIORITY_MAX, PRIORITY_MIN


@click.command("edit", short_help="Change a task that waits.")
@click.argument("task_id", metavar="ID", shell_complete=complete_task)
@click.option("--payload", type=JSON_VALUE, metavar="JSON", help="Its payload.")
@click.option("--type", "type_name", metavar="TYPE", shell_complete=complete_type, help="Its type.")
@click.option("--priority", type=click.IntRange(PRIORITY_MIN, PRIORITY_MAX), metavar="N", help="Lower runs sooner.")
@click.option("--in", "delay", type=DURATION, metavar="DURATION", help="Start so long from now.")
@click.option("--at-time", metavar="RFC3339", help="Start then.")
@click.option("--lease", type=DURATION, metavar="DURATION", help="How long a worker may be silent about it.")
@click.option("--set", "more", type=JSON_VALUE, metavar="JSON", help='Other fields by their names: {"tags": ["a"]}.')
@with_session
def command(session: Session, task_id: str, more: Any, **options: Any) -> int:
    """Overwrite what is named of a scheduled or ready task; all else stays."""
    names = {
        "payload": "payload",
        "type": "type_name",
        "priority": "priority",
        "delay_in_seconds": "delay",
        "scheduled_at": "at_time",
        "keepalive_timeout_in_seconds": "lease",
    }
    context = click.get_current_context()
    # A payload of null is one: what counts is whether the option was there, not its value.
    given = {name: option for name, option in names.items() if context.get_parameter_source(option) != _DEFAULT}
    fields = {**{name: options[option] for name, option in given.items()}, **(more or {})}
    if not fields:
        raise click.UsageError("say what to change: --payload, --type, --priority, --in, --at-time, --lease or --set")
    task = session.client.edit(task_id, **fields)
    session.answer(task, lambda: f"{task.id}  {task.state}")
    return Exit.OK


_DEFAULT = click.core.ParameterSource.DEFAULT
