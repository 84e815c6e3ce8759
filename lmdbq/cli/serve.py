"""``lmdbq serve``: run the daemon. Its options are the rows of ``daemon.settings`` that are no secret, one each."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import click
import msgspec

from lmdbq.cli.common import complain
from lmdbq.cli.exits import SERVE_MEANINGS, Exit, epilog
from lmdbq.daemon.settings import SETTINGS, Setting, Settings, load
from lmdbq.errors import InvalidInput

SETTING_IS_WRONG: Final = 78
_NAMED_ELSEWHERE: Final = {
    "--port": "--listen",
    "--host": "--listen",
    "--bind": "--listen",
    "--dir": "--data",
    "--path": "--data",
}
_FIELDS = dict(zip(Settings.__struct_fields__, Settings.__struct_defaults__, strict=True))


def _default(value: object) -> str:
    """Return what stands for a setting that nobody says, if that is more than nothing."""
    if not value:
        return ""
    return f"; default: {value:g}s" if isinstance(value, float) else f"; default: {value}"


def _option(row: Setting) -> Callable[[Any], Any]:
    default = _FIELDS[row.name]
    doc = f"{row.doc}  [env: {row.env}{_default(default)}]"
    if isinstance(default, bool):
        return click.option(row.option, row.name, is_flag=True, default=None, help=doc)
    if isinstance(default, tuple):
        return click.option(row.option, row.name, multiple=True, metavar="TEXT", help=doc)
    return click.option(row.option, row.name, metavar="VALUE", help=doc)


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    for row in reversed(SETTINGS):
        if not row.is_secret:
            function = _option(row)(function)
    return function


class _Serve(click.Command):
    """A command that knows what other daemons call its options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as wrong:
            here = _NAMED_ELSEWHERE.get(wrong.option_name)
            if here is None:
                raise
            said = f"{wrong.message} Did you mean {here!r}?"
            raise click.NoSuchOption(wrong.option_name, said, ctx=ctx) from wrong


@click.command("serve", cls=_Serve, short_help="Run the daemon.", epilog=epilog(SERVE_MEANINGS))
@_options
@click.option("--json", "as_json", is_flag=True, help="Say where it serves (url, data, durability, pid) in JSON.")
def command(as_json: bool, **given: Any) -> int:
    """Run the daemon until Ctrl-C or SIGTERM. Every answer is on disk before it is given.

    One line on standard output says where, once it answers; all else goes to standard error. Tokens are taken from the
    environment alone (LMDBQ_TOKEN), because others can read a command line.
    """
    from lmdbq.daemon.serve import Serving, run

    def ready(serving: Serving) -> None:
        line = {**serving._asdict(), "data": str(serving.data)}
        click.echo(msgspec.json.encode(line).decode("utf-8") if as_json else str(serving))

    try:
        settings = load(given)
    except InvalidInput as wrong:
        complain(wrong, as_json)
        return SETTING_IS_WRONG
    return run(settings, ready=ready, complain=functools.partial(complain, as_json=as_json)) or Exit.OK
