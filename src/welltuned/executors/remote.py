"""What executors on other machines share: how an objective travels, one attempt at a task, and what it asks.

An attempt asks the coordinator before it calls the objective, and with every report; it waits for each answer. So a
scheduler that runs a task again by itself, after its worker died, cannot make a trial run twice unnoticed: a task has
one attempt, and another one is told to leave. Messages are numbered, so that a channel may deliver one twice.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import multiprocessing
import pickle
import sys
import threading
import traceback
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import CodeType, FunctionType
from typing import Any, Literal, TypeAlias

import cloudpickle

from welltuned.errors import InvalidType, WelltunedError
from welltuned.evaluation import StandIn, evaluate
from welltuned.executors.limits import check_limits
from welltuned.executors.protocol import Finished, Job, OnReport
from welltuned.live import LiveTrial, Task
from welltuned.trial import Outcome, Reason, Report

log = logging.getLogger("welltuned")
Answer: TypeAlias = Literal["go", "stop", "leave"]
#: objectives that a worker process keeps loaded
LOADED = 4


class Abandoned(BaseException):
    """Nobody waits for this attempt any more. Not an ``Exception``, so that objectives do not catch it by accident."""


@dataclass(frozen=True)
class Parcel:
    """An objective on its way, pickled by value, with a name by which workers know that they have it."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Message:
    """What an attempt asks: whether it may begin (no report), or go on after a report."""

    key: str
    attempt: str
    number: int
    report: Report | None = None


def pack(job: Job) -> Parcel:
    """Pickle what all tasks of a job share.

    Raises
    ------
    InvalidType
        When the objective cannot be pickled, by name or by value.
    """
    try:
        content = _dumps((job.objective, tuple(job.objectives)))
    except Exception as error:
        raise InvalidType(
            f"objective={job.objective!r} cannot be sent to worker processes: {error}; leave out what "
            "holds open files, locks or connections, or create it inside the function"
        ) from error
    return Parcel(uuid.uuid4().hex, content)


def pack_task(task: Task) -> bytes:
    """Pickle a task, its classes and functions of ``__main__`` by value.

    Raises
    ------
    InvalidType
        When a parameter cannot be pickled.
    """
    try:
        return _dumps(task)
    except Exception as error:
        raise InvalidType(f"params={dict(task.params)!r} cannot be sent to worker processes: {error}") from error


NO_FILE = "<dynamic-code>"


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickle by value what cannot be imported, and keep what that was of the functions and classes of ``__main__``."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.main: dict[str, Any] = {}

    def reducer_override(self, thing: Any) -> Any:
        """Return how this is pickled."""
        if isinstance(thing, CodeType):  # some releases of cloudpickle leave the file out, and errors would not name it
            make, args = self.dispatch_table[CodeType](thing)
            return make, tuple(thing.co_filename if arg == NO_FILE else arg for arg in args)
        name = thing.__name__ if isinstance(thing, (type, FunctionType)) else None
        if name is not None and vars(sys.modules["__main__"]).get(name) is thing and thing.__module__ == "__main__":
            self.main[name] = thing
        return super().reducer_override(thing)


def _dumps(thing: Any) -> bytes:
    """Pickle something, and after it by name what of ``__main__`` it holds, for :func:`loads_with_main`."""
    file = io.BytesIO()
    pickler = _Pickler(file)
    pickler.dump(thing)
    pickler.dump(dict(pickler.main))
    return file.getvalue()


def loads_with_main(content: bytes) -> Any:
    """Read something in a process that does nothing else, and add what came with it to ``__main__``.

    So an objective can pickle its own classes and functions by name, as where it was written. Functions are left out
    where :mod:`multiprocessing` does not fork: its processes would have no such ``__main__``, and a pool that gets a
    task that it cannot read waits for ever.
    """
    loader = pickle.Unpickler(io.BytesIO(content))
    thing, main = loader.load(), vars(sys.modules["__main__"])
    forks = (multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]) == "fork"
    for name, shared in loader.load().items():
        if forks or isinstance(shared, type):
            main.setdefault(name, shared)
    return thing


def resources_of(job: Job, resources: Mapping[str, float] | None) -> Mapping[str, float]:
    """Return what each task of a job needs of a worker, by name."""
    return job.limits.resources if resources is None else check_limits(resources=resources).resources


def needs(task: Task, resources: Mapping[str, float]) -> dict[str, float]:
    """Return what a task needs: what all tasks of the run need, and what it asks for itself."""
    return {**resources, **(getattr(task, "resources", None) or {})}


# the coordinator's end


@dataclass
class _Asked:
    task: Task
    attempt: str | None = None
    number: int = -1
    answer: Answer = "go"


class Desk:
    """Answer what attempts ask, and read what they send back."""

    def __init__(self, on_report: OnReport) -> None:
        self._on_report = on_report
        self._asked: dict[str, _Asked] = {}

    def __len__(self) -> int:
        return len(self._asked)

    def enter(self, key: str, task: Task) -> None:
        """Expect an attempt at a task under this key."""
        self._asked[key] = _Asked(task)

    def answer(self, message: Message) -> Answer:
        """Return what the attempt should do; the same again for a message that came before."""
        asked = self._asked.get(message.key)
        if asked is None or asked.attempt not in (None, message.attempt):
            return "leave"
        if message.number > asked.number:
            asked.attempt, asked.number = message.attempt, message.number
            stop = message.report is not None and self._on_report(asked.task, message.report)
            asked.answer = "stop" if stop else "go"
        return asked.answer

    def finish(self, key: str, content: bytes) -> Finished:
        """Read what an attempt returned.

        Raises
        ------
        WelltunedError
            When a worker could not load the objective.
        """
        kind, returned = pickle.loads(content)
        if kind == "broken":
            raise WelltunedError(f"a worker cannot load the objective: {returned}")
        if kind == "abandoned":
            return self.lose(key, "the worker died")
        task = self._asked.pop(key).task
        return Finished(task, received(task, returned))

    def lose(self, key: str, error: str) -> Finished:
        """Give up an attempt whose worker died."""
        return Finished(self._asked.pop(key).task, None, error)

    def clear(self) -> None:
        """Expect nothing any more; whoever asks is told to leave."""
        self._asked.clear()


# the worker's end

_loaded: dict[str, tuple[Any, tuple[str, ...]]] = {}
_loading = threading.Lock()


def attempt(name: str, fetch: Callable[[], bytes], task: bytes, key: str, ask: Callable[[Message], Answer]) -> bytes:
    """Evaluate a task in a worker; return, pickled, what became of it with the outcome, or with what is broken.

    Parameters
    ----------
    name, fetch
        The name of the parcel with the objective, and a function that gets its content: called once in a process.
    task
        The pickled task.
    ask
        Send a message to the coordinator and wait for the answer; it raises when there will be none.
    """
    me, numbers, talking = uuid.uuid4().hex, itertools.count(), threading.Lock()
    abandoned = ask(Message(key, me, next(numbers))) == "leave"
    if abandoned:
        return pickle.dumps(("abandoned", None))
    try:
        objective, objectives = _load(name, fetch)
        live: Task = pickle.loads(task)
    except Exception as error:  # noqa: BLE001 - importing the user's module may raise anything
        return pickle.dumps(("broken", f"{type(error).__name__}: {error}"))

    def on_report(_: Task, report: Report) -> bool:
        nonlocal abandoned
        try:
            with talking:  # of messages that overtake each other, the earlier one would count as one that came before
                answer: Answer = ask(Message(key, me, next(numbers), report))
        except Exception:  # noqa: BLE001 - whatever a broken channel raises
            answer = "leave"
        abandoned = abandoned or answer == "leave"
        if abandoned:
            raise Abandoned
        return answer == "stop"

    outcome = evaluate(objective, LiveTrial(live, on_report), objectives)
    return pickle.dumps(("abandoned", None) if abandoned else ("done", portable(outcome)))


def _load(name: str, fetch: Callable[[], bytes]) -> tuple[Any, tuple[str, ...]]:
    """Load an objective once in a process, so that what it keeps in memory is there for the next trial."""
    with _loading:
        if name not in _loaded:
            while len(_loaded) >= LOADED:
                del _loaded[next(iter(_loaded))]
            _loaded[name] = pickle.loads(fetch())
        return _loaded[name]


def portable(outcome: Outcome) -> bytes:
    """Pickle an outcome; :func:`received` reads it.

    Its exception travels by itself, since it may not load where its class is not known, or be rebuilt from its
    arguments. What stands for it then is tried in turn: its own class, then those that it was derived from.
    """
    error, packed, trace = outcome.exception, [], None
    if error is not None:
        trace = "".join(traceback.format_exception(error)).rstrip() if outcome.reason is Reason.ERROR else None
        kinds = [kind for kind in type(error).__mro__ if issubclass(kind, BaseException)]
        for exception in (error, *(StandIn(kind, str(outcome.error)) for kind in kinds)):
            with contextlib.suppress(Exception):  # an exception's pickling is the user's code
                packed.append(cloudpickle.dumps(exception))
    content: bytes = cloudpickle.dumps((replace(outcome, exception=None), packed, trace))
    return content


def received(task: Task, content: bytes) -> Outcome:
    """Read an outcome that :func:`portable` has pickled, and tell the log of the exception as if it was raised here."""
    outcome, packed, trace = pickle.loads(content)
    if trace is not None:
        log.debug("trial %d\n%s", task.number, trace)
    for exception in packed:
        with contextlib.suppress(Exception):
            return replace(outcome, exception=pickle.loads(exception))
    return outcome
