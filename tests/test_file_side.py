"""The side file of lease extensions, by itself: what others do to it, and what it then costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lmdbq.store.records import Extension
from lmdbq.store.side import LOOK_EVERY, SIDE_PREFIX, Side

READER = """
import sys
from pathlib import Path
from lmdbq.store.side import Side
with Side(Path(sys.argv[1]), 1)._open().begin() as txn:
    print(txn.stat()["entries"], flush=True)
    sys.stdin.read()
"""


def heartbeats(side: Side, count: int) -> int:
    """Move leases ``count`` times; return how large the file is then."""
    for number in range(count):
        side.write({1 + number % 40: Extension(1, 1, number, number, None)})
    return (side._path / "data.mdb").stat().st_size


def test_a_process_killed_while_it_read_does_not_let_the_file_grow_for_ever(tmp_path: Path):
    side = Side(tmp_path, 1)
    heartbeats(side, 40)
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert reader.stdout is not None
    assert reader.stdout.readline() == "40\n"
    reader.kill()
    reader.communicate()
    seen = heartbeats(side, LOOK_EVERY)  # by the end of these it was looked
    assert heartbeats(side, 2 * LOOK_EVERY) == seen
    assert [side.get(1 + number) is not None for number in range(41)] == [True] * 40 + [False]
    side.close()
    assert [path.name for path in tmp_path.iterdir()] == [f"{SIDE_PREFIX}1"]
