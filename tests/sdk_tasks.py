"""Tasks that the tests of the SDK run, in a module of their own because child processes import it by its name."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

import lmdbq

state: dict[str, Any] = {}


def opened() -> Iterator[dict[str, int]]:
    state["opened"] = state.get("opened", 0) + 1
    yield {"pid": os.getpid()}
    state["closed"] = state.get("closed", 0) + 1


tasks = lmdbq.Tasks(lifespan=opened)
seen: list[Any] = []


@tasks.around
def noted(context: lmdbq.Context) -> Iterator[None]:
    try:
        yield
    except LookupError as error:
        seen.append((context.task.type, repr(error)))
        raise


@dataclass
class Address:
    street: str
    since: datetime


class Money(msgspec.Struct):
    amount: int
    currency: str = "EUR"


class Model:
    """A stand-in for a pydantic model: it is asked to write and to read itself."""

    def __init__(self, x: int) -> None:
        self.x = x

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        assert mode == "json"
        return {"x": self.x}

    @classmethod
    def model_validate(cls, value: Any) -> Model:
        return cls(value["x"] + 0)


@tasks.task
def typed(address: Address, price: Money, key: UUID, model: Model, wait: timedelta = timedelta(0)) -> Address:
    assert (type(address), type(price), type(key), type(model)) == (Address, Money, UUID, Model)
    return Address(f"{address.street} {price.amount} {model.x} {wait.total_seconds():g}", address.since)


@tasks.task
def add(a: int, /, b: int = 2, **more: int) -> int:
    return a + b + sum(more.values())


@tasks.task("mail.send", aliases=["mail"], dead_on=[KeyError], retry=[0, 0])
def send(to: str) -> str:
    if to == "nobody":
        raise KeyError(to)
    if to == "later":
        raise lmdbq.Snooze(timedelta(hours=1))
    if to == "soon" and lmdbq.current().task.attempts == 1:
        raise lmdbq.Retry("not yet", delay=0)
    if to == "never":
        raise lmdbq.Dead("no such address")
    return f"sent to {to}"


@tasks.task
async def think(seconds: float = 0.0) -> str:
    await asyncio.sleep(seconds)
    return lmdbq.current().task.type


@tasks.task(timeout=0.1, retry=1)
async def dawdle() -> None:
    await asyncio.sleep(60)


@tasks.task(retry=1)
def wait_for_stop() -> str:
    state["started"].set()
    assert lmdbq.current().stop.wait(30)
    lmdbq.current().check()
    return "unreachable"


@tasks.task(retry=1)
async def wait_for_cancel() -> None:
    state["started"].set()
    try:
        await asyncio.sleep(60)
    finally:
        state["cancelled"] = True


@tasks.task
def report_progress() -> None:
    lmdbq.current().progress(0.5)
    state["started"].set()
    assert state["go_on"].wait(30)


@tasks.task
def unsayable() -> Any:
    return object()


processes = lmdbq.Tasks(lifespan=opened)


@processes.task(run_in="process")
def pid_of(name: str) -> dict[str, Any]:
    context = lmdbq.current()
    context.progress(0.9)
    return {"name": name, "pid": os.getpid(), "state": context.state["pid"], "parent": os.getppid()}


_ballast: list[bytes] = []


@processes.task(run_in="process")
def grow(size: int) -> int:
    _ballast.append(b"x" * size)
    return os.getpid()


@processes.task(run_in="process")
async def pid_of_async() -> int:
    await asyncio.sleep(0)
    return os.getpid()


@processes.task(run_in="process", timeout=0.3, retry=1)
def spin() -> None:
    while True:
        time.sleep(0.01)


@processes.task(run_in="process", retry=[0])
def die_once() -> int:
    if lmdbq.current().task.attempts == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return lmdbq.current().task.attempts


@processes.task(run_in="process", retry=1)
def hold(path: str) -> None:
    with open(path, "w", encoding="ascii") as file:  # noqa: PTH123
        file.write(str(os.getpid()))
    time.sleep(60)


async def loop_opened() -> AsyncIterator[asyncio.AbstractEventLoop]:
    yield asyncio.get_running_loop()


async_tasks = lmdbq.Tasks(lifespan=loop_opened)


@async_tasks.around
async def counted(context: lmdbq.Context) -> AsyncIterator[None]:
    with contextlib.suppress(LookupError):
        yield
    seen.append(context.task.type)


@async_tasks.task
async def on_this_loop() -> bool:
    return lmdbq.current().state is asyncio.get_running_loop()


def fresh_events() -> tuple[threading.Event, threading.Event]:
    """Return new ``started`` and ``go_on`` events for the tasks above."""
    state["started"], state["go_on"] = threading.Event(), threading.Event()
    return state["started"], state["go_on"]
