"""Running ``python -m bench profile`` for a test, with what it records beside the test instead of in the repository."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from bench import __main__ as command


def recorded(profile: ModuleType, directory: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Take a short turn of a profile, see that it prints the page that it writes, and return the facts it writes."""
    monkeypatch.setattr(profile, "FACTS", directory / "facts")
    monkeypatch.setattr(profile, "PAGE", directory / "page")
    what = profile.__name__.rpartition(".")[2]
    words = ["profile", what, "--rounds", "1", "--seconds", "0.05", "--record"]
    ended = CliRunner().invoke(command.main, words)
    assert ended.exit_code == 0, ended.output
    assert ended.stdout == (directory / "page").read_text(encoding="utf-8")
    facts: dict[str, Any] = json.loads((directory / "facts").read_text(encoding="utf-8"))
    assert profile.page(facts) == ended.stdout
    return facts
