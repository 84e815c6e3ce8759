"""How a fault is put in: a function is replaced while a simulation runs, always or now and then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(owner: Any, name: str, instead: Any) -> Iterator[None]:
    """Let ``owner`` have something else under ``name`` for a while."""
    before = getattr(owner, name)
    setattr(owner, name, instead)
    try:
        yield
    finally:
        setattr(owner, name, before)


def every(number: int, function: Callable[..., Any], instead: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function``, every ``number``-th call of which is one of ``instead``."""
    calls = 0

    def wrong(*args: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        return (instead if calls % number == 0 else function)(*args, **named)

    return wrong
