"""Tables of the docs as the code says them; ``packaging/docs/make.py`` puts them on the page of settings and errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lmdbq.cli import serve
from lmdbq.cli.exits import MEANINGS, SERVE_MEANINGS
from lmdbq.daemon.settings import DEFAULTS, SETTINGS, Settings


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
