"""What an editor knows: both type checkers accept every correct call and report every wrong one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MARK = "  # wrong"


def mypy_errors(path: Path) -> dict[int, str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--hide-error-context", "--no-error-summary", str(path)]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, timeout=1000, check=False)
    assert not done.stderr, done.stderr
    found = re.findall(rf"^[^\n]*{path.name}:(\d+): error: (.*)$", done.stdout, re.MULTILINE)
    assert len(found) == done.stdout.count(" error: "), done.stdout
    return {int(line): text for line, text in found}


def pyright_errors(path: Path) -> dict[int, str]:
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(path)]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, timeout=1000, check=False)
    found = json.loads(done.stdout)["generalDiagnostics"]
    return {one["range"]["start"]["line"] + 1: one["message"] for one in found if one["severity"] == "error"}


@pytest.mark.parametrize("errors", [mypy_errors, pyright_errors])
def test_correct_calls_are_accepted(errors):
    assert errors(HERE / "typing_ok.py") == {}


@pytest.mark.parametrize("errors", [mypy_errors, pyright_errors])
def test_every_wrong_call_is_reported_and_nothing_else(errors):
    path = HERE / "typing_wrong.py"
    lines = path.read_text(encoding="utf-8").splitlines()
    marked = {number for number, line in enumerate(lines, 1) if line.endswith(MARK)}
    assert len(marked) >= 20
    found = errors(path)
    assert {number: lines[number - 1] for number in marked - found.keys()} == {}, "not reported"
    assert {number: text for number, text in found.items() if number not in marked} == {}
