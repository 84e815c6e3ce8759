"""Where ``lmdbq`` begins: the collector of garbage rests while modules are imported: a fifth of a short command.

Importing makes many objects and no garbage. ``main`` lets the collector work again before a command that goes on for
long; one that asks a daemon something and ends never needs it.
"""

from __future__ import annotations

import gc


def main() -> None:
    """Run the command line of this process."""
    gc.disable()
    from lmdbq.cli.main import main as run

    run()
