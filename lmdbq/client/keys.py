"""Fresh idempotency keys and claim ids."""

from __future__ import annotations

import os
import time

from lmdbq.client.core import key_at


def new_key() -> str:
    """Return a fresh idempotency key or claim id."""
    return key_at(time.time_ns(), os.urandom(8))
