"""Make the sync client from the async one: ``python packaging/make_sync.py``. A test says when that is due.

The two differ in a few words (await, async, the prefix Async), so one is written and the other is printed.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).resolve().parent.parent / "lmdbq" / "client"
PAIRS = {
    "aio.py": "sync.py",
    "aio_handles.py": "sync_handles.py",
    "aio_groups.py": "sync_groups.py",
    "aio_schedules.py": "sync_schedules.py",
    "aio_sets.py": "sync_sets.py",
    "aio_within.py": "sync_within.py",
}
WORDS = (
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\b__a(enter|exit|iter)__\b", r"__\1__"),
    (r"\bAsync(?=[A-Z])", ""),
    (r"\basync_transport\b", "transport"),
    (r"\baio_(groups|handles|schedules|sets|within)\b", r"sync_\1"),
)
HEADING = '"""%s Made from ``%s`` by ``packaging/make_sync.py``: change that one."""'
SUBJECTS = {
    "aio.py": "``Client``: the verbs of a queue.",
    "aio_handles.py": "What a ``Client`` hands out.",
    "aio_groups.py": "A group of a ``Client``.",
    "aio_schedules.py": "A schedule of a ``Client``.",
    "aio_sets.py": "A set of a ``Client``.",
    "aio_within.py": "Enqueueing in an LMDB transaction.",
}


def sync_text(origin: str) -> str:
    """Return the sync twin of the async module ``origin``, formatted."""
    source = (CLIENT / origin).read_text(encoding="utf-8")
    for pattern, replacement in WORDS:
        source = re.sub(pattern, replacement, source)
    source = re.sub(r'\A""".*?"""', lambda _: HEADING % (SUBJECTS[origin], origin), source, flags=re.DOTALL)
    for command in (["check", "--fix", "--quiet", "--select", "I"], ["format", "--quiet"]):
        tool = [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(CLIENT / PAIRS[origin]), "-"]
        source = subprocess.run(tool, input=source, capture_output=True, text=True, check=True).stdout
    return source


def main() -> None:
    """Write the sync modules."""
    for origin, name in PAIRS.items():
        (CLIENT / name).write_text(sync_text(origin), encoding="utf-8")


if __name__ == "__main__":
    main()
