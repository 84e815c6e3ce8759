"""``lmdbq config``: every setting with its value and where that comes from, and every other default."""

from __future__ import annotations

import os

import click

from lmdbq.cli.common import Session, with_session
from lmdbq.cli.exits import Exit


@click.command("config", short_help="Print every setting: its value and where it comes from.")
@click.option(
    "--toml", "as_toml", is_flag=True, help="Write the queues, groups and schedules there are, for `lmdbq apply`."
)
@with_session
def command(session: Session, as_toml: bool) -> int:
    """Print what `lmdbq serve` would run with here and now, and the defaults of tasks and workers.

    With --toml: the settings of all queues and groups, and all schedules, as the file that `lmdbq apply` reads.
    """
    if as_toml:
        from lmdbq.cli.declared import written

        click.echo(written(session.client), nl=False)
        return Exit.OK
    from lmdbq.daemon.settings import DEFAULTS, load, shown

    plain = {row.name: value for row, value in shown(load({}, {"HOME": os.environ.get("HOME", "")}))}
    rows = [
        {
            "name": row.name,
            "value": value,
            "source": _source(row.name, row.env),
            "default": plain[row.name],
            "env": row.env,
            "doc": row.doc,
        }
        for row, value in shown(load({}))
    ]
    defaults = [default._asdict() for default in DEFAULTS]
    session.answer({"settings": rows, "defaults": defaults}, lambda: _described(rows, defaults))
    return Exit.OK


def _source(name: str, variable: str) -> str:
    candidates = (variable, "STATE_DIRECTORY", "XDG_STATE_HOME") if name == "data" else (variable,)
    return next((candidate for candidate in candidates if os.environ.get(candidate)), "default")


def _described(rows: list[dict[str, object]], defaults: list[dict[str, object]]) -> str:
    settings = [
        f"{row['name']} = {_shown(row['value'])}  ({_origin(row)})\n    {row['doc']} [{row['env']}]" for row in rows
    ]
    others = [f"{row['name']} = {_shown(row['value'])}\n    {row['doc']}" for row in defaults]
    return "\n".join([*settings, "", "Defaults of tasks and workers:", "", *others])


def _origin(row: dict[str, object]) -> str:
    if row["source"] == "default":
        return "the default"
    return f"from {row['source']}; the default is {_shown(row['default'])}"


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "(none)"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) or "(none)"
