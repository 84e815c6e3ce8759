"""``lmdbq version``: what is installed here, and what the daemon runs."""

from __future__ import annotations

import platform
from importlib.metadata import version

import click

from lmdbq import __version__
from lmdbq.cli import render
from lmdbq.cli.common import Session, with_session
from lmdbq.cli.exits import Exit
from lmdbq.errors import Unreachable


@click.command("version", short_help="Print versions.")
@with_session
def command(session: Session) -> int:
    """Print the versions of lmdbq, Python and LMDB's binding here, and of the daemon if one answers."""
    here = {"lmdbq": __version__, "python": platform.python_version(), "py_lmdb": version("lmdb")}
    try:
        info = session.client.info()
        here["daemon"] = info.version if info.started_at else "none: a directory"
    except Unreachable:
        here["daemon"] = "none answers"
    session.answer(here, lambda: render.fields(list(here.items())))
    return Exit.OK
