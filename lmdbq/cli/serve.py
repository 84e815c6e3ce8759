"""``lmdbq serve``: run the daemon. Its options are the rows of ``daemon.settings`` that are no secret, one each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from lmdbq.cli.exits import SERVE_MEANINGS, Exit, epilog
from lmdbq.daemon.settings import SETTINGS, Setting, Settings, load

_FIELDS = dict(zip(Settings.__struct_fields__, Settings.__struct_defaults__, strict=True))


def _option(row: Setting) -> Callable[[Any], Any]:
    name = "--" + row.name.removesuffix("_seconds").replace("_", "-")
    default = _FIELDS[row.name]
    doc = f"{row.doc}  [env: {row.env}]"
    if isinstance(default, bool):
        return click.option(name, row.name, is_flag=True, default=None, help=doc)
    if isinstance(default, tuple):
        return click.option(name.removesuffix("s"), row.name, multiple=True, metavar="TEXT", help=doc)
    return click.option(name, row.name, metavar="VALUE", help=doc)


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    for row in reversed(SETTINGS):
        if not row.is_secret:
            function = _option(row)(function)
    return function


@click.command("serve", short_help="Run the daemon.", epilog=epilog(SERVE_MEANINGS))
@_options
def command(**given: Any) -> int:
    """Run the daemon until Ctrl-C or SIGTERM. Every answer is on disk before it is given.

    Tokens are taken from the environment alone (LMDBQ_TOKEN), because others can read a command line.
    """
    from lmdbq.daemon.serve import run

    return run(load(given), ready=click.echo) or Exit.OK
