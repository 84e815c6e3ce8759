"""The house rules as tests: lengths, docstrings, the cards of the key format, and nothing of anybody's machine.

A rule that hurts is changed here, in the open, with its reason, and not stepped around.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "lmdbq"
MODULES = sorted(PACKAGE.rglob("*.py"))
MODULE_LINES_MAX = 330  # "about 300"
FUNCTION_LINES_MAX = 60
CARD_LINES = ("Key:", "Value:", "Order:", "Written by:", "Removed by:", "Invariant:")

# Modules that may be longer, to how many lines, and why.
LONGER = {
    "model.py": (1_300, "the words of the whole project in one place; data without behaviour"),
    "store/base.py": (380, "the whole promise of a store, read from the top; most of it is that text"),
    "store/keyspace.py": (1_100, "the format's specification, read from the top; most of it is cards"),
    "store/records.py": (900, "the other half of the specification: every value, field by field"),
    "wire/shapes.py": (420, "what callers may send, body by body; data without behaviour"),
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def test_modules_are_found():
    assert PACKAGE / "lifecycle.py" in MODULES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_is_short_and_says_what_lives_there(path: Path):
    lines_max, _why = LONGER.get(name_of(path), (MODULE_LINES_MAX, ""))
    assert len(path.read_text(encoding="utf-8").splitlines()) <= lines_max
    docstring = ast.get_docstring(parse(path))
    assert docstring, "a module opens with a docstring: what lives here, how it works, where the trap is"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_are_short(path: Path):
    lengths = {node.name: (node.end_lineno or node.lineno) - node.lineno + 1 for node in functions(parse(path))}
    assert {name: lines for name, lines in lengths.items() if lines > FUNCTION_LINES_MAX} == {}


def test_the_list_of_longer_modules_is_up_to_date():
    for name, (_lines_max, why) in LONGER.items():
        lines = len((PACKAGE / name).read_text(encoding="utf-8").splitlines())
        assert lines > MODULE_LINES_MAX, f"{name} is short enough now: take it off the list"
        assert why


def public_functions_with_a_docstring(path: Path) -> list[tuple[str, str]]:
    tree = parse(path)
    return [(node.name, ast.get_docstring(node) or "") for node in tree.body if isinstance(node, Function)]


def test_every_kind_of_key_has_a_whole_card():
    cards = [card for card in public_functions_with_a_docstring(PACKAGE / "store/keyspace.py") if "\nKey:" in card[1]]
    assert len(cards) >= len(databases()), "fewer cards than databases"
    for name, docstring in cards:
        at = [docstring.find(f"\n{line}") for line in CARD_LINES]
        assert -1 not in at, f"{name}: its card lacks {CARD_LINES[at.index(-1)]!r}"
        assert at == sorted(at), f"{name}: the lines of its card are out of order"
        assert ">>> " in docstring, f"{name}: its card has no example that runs"


def databases() -> tuple[str, ...]:
    from lmdbq.store.keyspace import DATABASES

    return DATABASES


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name]


def test_no_file_names_anybodys_home():
    home = re.compile(rb"/(?:home|Users|root)/(?!(?:u|you)\b)[A-Za-z0-9_.]")  # "u" and "you" are nobody
    found = [str(path) for path in tracked_files() if path.is_file() and home.search(path.read_bytes())]
    assert found == []


def test_no_todo_is_left_behind():
    marks = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX)\b")
    found = [name_of(path) for path in MODULES if marks.search(path.read_text(encoding="utf-8"))]
    assert found == []


def test_the_tests_that_begin_first_are_there():
    from tests.conftest import LONGEST

    assert [name for name in LONGEST if not (ROOT / f"tests/{name}.py").is_file()] == []
