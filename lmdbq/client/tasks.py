"""Tasks: functions that can be enqueued. ``Tasks`` collects them, ``Task`` is one, typed with parameters and result.

    tasks = lmdbq.Tasks()

    @tasks.task(retry=[1, 10, 60])
    def greet(name: str, loud: bool = False) -> str: ...

``greet("Ada")`` runs the function here and now; ``client.enqueue(greet, "Ada")`` enqueues the call, and a type checker
sees its arguments and its result. The trap is the name: it is the type under which tasks wait, maybe for days. A
function that is renamed keeps ``aliases=("old_name",)`` until none of the old ones is left.
"""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Generic, Literal, ParamSpec, Protocol, Self, TypeAlias, TypeVar, Unpack, overload

from lmdbq.client.binding import Binding
from lmdbq.client.entries import Entry, entry_returning
from lmdbq.client.options import Options, Seconds, check_names, seconds
from lmdbq.client.schedule_info import Cron
from lmdbq.errors import InvalidInput
from lmdbq.model import Problem
from lmdbq.wire.problems import Problems
from lmdbq.wire.values import check_type_name

P = ParamSpec("P")
R = TypeVar("R")
RunIn: TypeAlias = Literal["async", "thread", "process"]
F = TypeVar("F", bound=Callable[..., Any])


class Task(Generic[P, R]):
    """A function that can be enqueued. name: its type. tasks: where it belongs. Made by ``Tasks.task``."""

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        *,
        tasks: Tasks,
        run_in: RunIn | None,
        timeout: float | None,
        cron: str | Cron | None,
        dead_on: Sequence[type[BaseException]],
        aliases: Sequence[str],
        options: Options,
    ) -> None:
        self.function = function
        self.name = name
        self.tasks = tasks
        self.run_in: RunIn | None = run_in
        self.timeout_seconds = timeout
        self.cron = Cron(cron) if isinstance(cron, str) else cron
        self.dead_on = tuple(dead_on)
        if isinstance(aliases, str):  # its letters would be taken for names
            raise TypeError(f"{name}: aliases is a list of names: aliases=[{aliases!r}]")
        self.aliases = tuple(aliases)
        self.options = options
        self.binding = Binding(function)
        self.__doc__ = function.__doc__
        self.__wrapped__ = function
        _check_names(name, *aliases)
        check_names(options)
        self._check_place()
        if self.cron is not None:
            self._check_cron(self.cron)

    def _check_place(self) -> None:
        if self.run_in == "async" and not self.is_coroutine:
            raise TypeError(f"{self.name}: run_in='async' is for async functions")
        if self.run_in == "thread" and self.is_coroutine:
            raise TypeError(f"{self.name}: an async function runs in 'async' or 'process'")
        if self.timeout_seconds is not None and self.run_in != "process" and not self.is_coroutine:
            raise TypeError(
                f"{self.name}: a thread cannot be killed, so its timeout would be none; make the function async, or "
                "say run_in='process'"
            )

    def _check_cron(self, cron: Cron) -> None:
        from lmdbq import cron as instants

        try:
            instants.check(cron.expression, cron.timezone)
        except ValueError as bad:
            raise InvalidInput([Problem("bad_cron", "/cron", f"{self.name}: {bad}")]) from None
        try:
            self.binding.bind((), {})
        except TypeError as bad:
            raise TypeError(f"{self.name} has a cron, and is enqueued without arguments: {bad}") from None

    @property
    def is_coroutine(self) -> bool:
        """Whether the function is an async one."""
        return inspect.iscoroutinefunction(self.function)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel by name, as functions do."""
        return _find, (self.function.__module__, self.function.__qualname__)

    def using(self, **options: Unpack[Options]) -> Self:
        """Return this task with other options: ``client.enqueue(greet.using(delay=60), "Bob")``."""
        check_names(options)
        other = copy.copy(self)
        other.options = {**self.options, **options}
        return other

    def __copy__(self) -> Self:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def entry(self, *args: P.args, **kwargs: P.kwargs) -> Entry[R]:
        """Return a call as an entry, for ``enqueue_many``. Raises TypeError if the arguments do not fit."""
        return entry_returning(self.binding.returns, self.name, self.binding.bind(args, kwargs), self.options)


def entry_of(task: Any, /, *args: Any, **kwargs: Any) -> Entry[Any]:
    """Return a call of ``task`` as an entry. Raises TypeError if it is none, or the arguments do not fit."""
    if not isinstance(task, Task):
        raise TypeError(f"{task!r} is no task: decorate the function with @tasks.task, or enqueue an Entry")
    entry: Entry[Any] = task.entry(*args, **kwargs)
    return entry


class FunctionTask(Task[P, R]):
    """A task that is a plain function."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function, here and now."""
        result: R = self.function(*args, **kwargs)
        return result


class CoroutineTask(Task[P, R]):
    """A task that is an async function."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Run the function, here and now."""
        coroutine: Coroutine[Any, Any, R] = self.function(*args, **kwargs)
        return coroutine


def _find(module: str, qualname: str) -> Any:
    """Return what a module has under a dotted name."""
    return functools.reduce(getattr, qualname.split("."), importlib.import_module(module))


def _check_names(*names: str) -> None:
    problems = Problems()
    for name in names:
        check_type_name(name, "/type", problems)
    if problems.found:
        raise InvalidInput(problems.found)


class Decorator(Protocol):
    """What ``Tasks.task(...)`` returns: it makes a function a task."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> CoroutineTask[P, R]: ...  # type: ignore[overload-overlap]

    @overload
    def __call__(self, function: Callable[P, R], /) -> FunctionTask[P, R]: ...


class Tasks:
    """The tasks of a program. defaults: options for each of them (``lmdbq.Options``).

    lifespan: a generator function that yields once, sync or async; a worker runs what stands before the yield when it
    starts, and what stands after it when it ends (each of its processes does). What it yields is ``current().state``.
    """

    def __init__(self, *, lifespan: Callable[[], Any] | None = None, **defaults: Unpack[Options]) -> None:
        check_names(defaults)
        self.lifespan = lifespan
        self.arounds: list[Callable[[Any], Any]] = []
        self._defaults = defaults
        self._tasks: dict[str, Task[..., Any]] = {}
        self._included: list[Tasks] = []

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> CoroutineTask[P, R]: ...  # type: ignore[overload-overlap]

    @overload
    def task(self, function: Callable[P, R], /) -> FunctionTask[P, R]: ...

    @overload
    def task(
        self,
        name: str | None = None,
        /,
        *,
        run_in: RunIn | None = None,
        timeout: Seconds | None = None,
        cron: str | Cron | None = None,
        dead_on: Sequence[type[BaseException]] = (),
        aliases: Sequence[str] = (),
        **options: Unpack[Options],
    ) -> Decorator: ...

    def task(
        self,
        name: Any = None,
        /,
        *,
        run_in: RunIn | None = None,
        timeout: Seconds | None = None,
        cron: str | Cron | None = None,
        dead_on: Sequence[type[BaseException]] = (),
        aliases: Sequence[str] = (),
        **options: Unpack[Options],
    ) -> Any:
        """Make a function a task; used with or without parentheses.

        name: its type, by default the function's name. run_in: where a worker runs it, by default on its event loop if
        it is async, else in a thread (in a process, if the worker has some). timeout: seconds an attempt may take; for
        async and process only, as a thread cannot be stopped. cron: when it is enqueued by itself, without arguments: a
        worker that runs it sees to the schedule ``cron:NAME``. dead_on: exceptions after which another attempt is
        useless. aliases: names it had before. options: see ``lmdbq.Options``. Raises TypeError, or InvalidInput for a
        name or a cron, if it cannot be a task.
        """

        def make(function: Callable[..., Any]) -> Task[..., Any]:
            kind = CoroutineTask if inspect.iscoroutinefunction(function) else FunctionTask
            made: Task[..., Any] = kind(
                function,
                name if isinstance(name, str) else function.__name__,
                tasks=self,
                run_in=run_in,
                timeout=None if timeout is None else seconds(timeout),
                cron=cron,
                dead_on=dead_on,
                aliases=aliases,
                options={**self._defaults, **options},
            )
            for each in (made.name, *made.aliases):
                if each in self._tasks:
                    raise ValueError(f"there are two tasks of the name {each!r}")
                self._tasks[each] = made
            return made

        return make(name) if callable(name) else make

    def around(self, generator: F) -> F:
        """Run ``generator(context)`` around each attempt: up to its one yield, then the task, then the rest.

        What the task raises is raised at the yield. One that is async wraps async tasks only.
        """
        self.arounds.append(generator)
        return generator

    def include(self, other: Tasks) -> None:
        """Let a worker of these tasks run those of ``other`` as well, with their own lifespan and arounds."""
        self._included.append(other)

    def groups(self) -> Iterator[Tasks]:
        """Yield these tasks and all that they include, each once."""
        seen: list[Tasks] = []
        found: list[Tasks] = [self]
        while found:
            one = found.pop()
            if one not in seen:
                seen.append(one)
                found += one._included
                yield one

    def by_name(self) -> dict[str, Task[..., Any]]:
        """Return these tasks, without included ones, under their names and aliases."""
        return dict(self._tasks)
