"""What every test file gets is there: a test that leaves a store open fails, and is named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = """
import lmdbq
from lmdbq.store.lmdb import open_store
from tests import conftest

kept = []

def test_of_one_that_nobody_closes(tmp_path):
    assert lmdbq.Client(tmp_path).queues() == []

def test_of_a_store(tmp_path):
    conftest.CLOSING_SECONDS = 0
    kept.append(open_store(tmp_path))
    kept[-1].info()

def test_of_a_client(tmp_path):
    kept.append(lmdbq.Client(tmp_path))
    assert kept[-1].queues() == []

def test_of_one_that_is_closed(tmp_path):
    with lmdbq.Client(tmp_path) as client:
        assert client.queues() == []
"""


def test_a_test_that_leaves_a_store_open_fails_and_is_named(tmp_path: Path):
    (tmp_path / "test_left.py").write_text(TESTS)
    plugins = ("no:cacheprovider", "xdist.plugin", "tests.conftest")
    command = [sys.executable, "-m", "pytest", "-q", *(f"-p{one}" for one in plugins), "test_left.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1000, check=False
    )
    named = [line.split(" - ")[0] for line in done.stdout.splitlines() if line.startswith(("ERROR", "FAILED"))]
    assert named == ["ERROR test_left.py::test_of_a_store", "ERROR test_left.py::test_of_a_client"], done.stdout
    assert "4 passed, 2 errors" in done.stdout
