"""Where a storm works: a directory in memory, if the machine has one, that goes when the storm is over.

Nothing here needs a disk: what a disk would keep is the model's matter (``disk``), and a call that fails does so before
it gets there. So thousands of files are made and thrown away without wearing one out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_MEMORY: Final = Path("/dev/shm")


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """Make a directory for the length of a block."""
    with tempfile.TemporaryDirectory(prefix="lmdbq-storm-", dir=_MEMORY if _MEMORY.is_dir() else None) as place:
        yield Path(place)
