"""What is built is what is needed: the wheel holds the data set and the type marker, and runs where nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import lmdbq

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(target), str(ROOT)]
    subprocess.run(command, check=True, timeout=600)
    (built,) = target.glob("*.whl")
    return built


def test_the_wheel_holds_what_is_no_python_file(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"lmdbq/py.typed", "lmdbq/demo/changes.tsv.gz", "lmdbq/demo/count.py", "lmdbq/cli/main.py"} <= names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "packaging/", "bench/", ".ci/"))]


def test_an_installed_wheel_runs(wheel: Path, tmp_path: Path):
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    where = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(where, capture_output=True, text=True, check=True).stdout.strip())
    zipfile.ZipFile(wheel).extractall(packages)
    # The dependencies of the environment under test; its own editable lmdbq works through a .pth file, which a
    # directory on PYTHONPATH does not read.
    environment = {**os.environ, "PYTHONPATH": sysconfig.get_path("purelib")}
    command = [str(python), "-m", "lmdbq.cli", "version"]
    finished = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert lmdbq.__version__ in finished.stdout
    origin = [str(python), "-c", "import lmdbq; print(lmdbq.__file__)"]
    found = subprocess.run(origin, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert Path(found.strip()).is_relative_to(packages)


def run_script(root: Path, *pythons: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of packaging/run on a machine whose only interpreter is the shell script ``pythons``."""
    (root / "packaging").mkdir(parents=True)
    script = root / "packaging" / "run"
    script.write_bytes((ROOT / "packaging" / "run").read_bytes())
    script.chmod(0o755)
    (root / "pyproject.toml").write_text("", encoding="ascii")
    commands = root / "commands"
    commands.mkdir()
    for name in ("dirname", "mkdir", "cat", "rm", "sh"):
        (commands / name).symlink_to(f"/bin/{name}" if Path(f"/bin/{name}").exists() else f"/usr/bin/{name}")
    for python in pythons:
        (commands / "python3").write_text(f"#!/bin/sh\n{python}\n", encoding="ascii")
        (commands / "python3").chmod(0o755)
    environment = {"PATH": str(commands), "HOME": str(root)}
    return subprocess.run([script, "version"], env=environment, capture_output=True, text=True, check=False)


def test_run_says_what_to_do_without_a_python(tmp_path: Path):
    finished = run_script(tmp_path / "a b")
    assert finished.returncode == 1
    assert "no Python 3.11 or later found" in finished.stderr


def test_run_passes_over_a_python_that_is_too_old(tmp_path: Path):
    finished = run_script(tmp_path / "a b", "exit 1  # whatever it is asked, as an old one or a dead shim answers")
    assert finished.returncode == 1
    assert "no Python 3.11 or later found" in finished.stderr


def test_run_says_which_package_is_missing_without_ensurepip(tmp_path: Path):
    python = f'case "$2" in *ensurepip*) exit 1;; esac\nexec {sys.executable} "$@"'
    finished = run_script(tmp_path / "a b", python)
    assert finished.returncode == 1
    assert f"apt-get install python3.{sys.version_info.minor}-venv" in finished.stderr
