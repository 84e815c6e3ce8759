"""``python -m lmdbq.cli.child PARENT WORDS``: ``lmdbq WORDS`` as the child of a command, which it does not outlive.

However the parent ends, ``kill -9`` included, the kernel then sends this process SIGTERM (Linux; elsewhere an orphan
stays). PARENT is its process id: it may have ended before the kernel was asked.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1  # prctl(2)


def end_with(parent: int) -> None:
    """Have SIGTERM sent to this process when ``parent``, which started it, ends."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    end_with(int(sys.argv.pop(1)))
    if hasattr(signal, "SIGUSR2"):  # which a worker hears once it works, and would end a process that has just begun
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    from lmdbq.cli.start import main

    main()
