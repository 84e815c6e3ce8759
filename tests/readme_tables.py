"""The README's tables as the code says them. ``python -m tests.readme_tables`` writes them into the README.

Each table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``; ``test_readme`` compares.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from lmdbq.cli import serve
from lmdbq.cli.exits import MEANINGS, SERVE_MEANINGS
from lmdbq.daemon.settings import DEFAULTS, SETTINGS, Settings

README = Path(__file__).resolve().parent.parent / "README.md"
TABLE = re.compile(r"(<!-- table: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(headers) + " |", "|" + "---|" * len(headers)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def shown(value: object) -> str:
    if value in ("", None, ()):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:,}" if isinstance(value, int) else f"{value:,g}" if isinstance(value, float) else str(value)


def settings() -> str:
    defaults = Settings()
    options = {param.name: f"`{param.opts[0]}`" for param in serve.command.params}
    rows = [
        (options.get(row.name, ""), f"`{row.env}`", shown(getattr(defaults, row.name)), row.doc) for row in SETTINGS
    ]
    return table(("option", "environment", "default", ""), rows)


def defaults() -> str:
    return table(("", "default", ""), [(f"`{row.name}`", shown(row.value), row.doc) for row in DEFAULTS])


def exits() -> str:
    return table(("status", "meaning"), [(status.value, meaning) for status, meaning in MEANINGS.items()])


def serve_exits() -> str:
    return table(("status", "meaning"), SERVE_MEANINGS.items())


TABLES = {"settings": settings, "defaults": defaults, "exits": exits, "serve_exits": serve_exits}


def with_tables(text: str) -> str:
    """Return the README's text with every table written anew."""
    return TABLE.sub(lambda found: found[1] + TABLES[found[2]]() + found[4], text)


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
