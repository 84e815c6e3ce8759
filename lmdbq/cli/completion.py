"""``lmdbq completion``: the line a shell needs to complete commands, options and queue names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from lmdbq.cli.common import json_text
from lmdbq.cli.exits import Exit

VARIABLE = "_LMDBQ_COMPLETE"


@click.command("completion", short_help="Print tab completion for bash, zsh or fish.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.option("--json", "as_json", is_flag=True, help="Print it as a JSON object: shell, script.")
def command(shell: str, as_json: bool) -> int:
    """Print the completion script of SHELL.

    \b
    bash:  echo 'eval "$(lmdbq completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(lmdbq completion zsh)"' >> ~/.zshrc
    fish:  lmdbq completion fish > ~/.config/fish/completions/lmdbq.fish
    """
    found = get_completion_class(shell)
    assert found is not None, "click knows the three shells that the argument allows"
    root = click.get_current_context().find_root()
    script = found(root.command, {}, "lmdbq", VARIABLE).source()
    click.echo(json_text({"shell": shell, "script": script}) if as_json else script)
    return Exit.OK
