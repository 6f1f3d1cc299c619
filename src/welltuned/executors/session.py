"""What the ranks of a process group tell each other about the trials that they evaluate together.

Ranks talk through the store that has brought them together, never by collectives: those are the objective's own, and
who has left one leaves the others waiting in it. The store counts, so what came first is known without a clock.

Rank 0 gives orders, which have numbers. Under the number of one are in the store: ``what`` to do; ``answers``, how
often rank 0 has asked whether to stop, and the first time that the answer was yes; ``raised``, in how many ranks the
objective has raised something; ``over``, that one has; ``end/RANK`` and ``ended``, what became of it where, and in how
many ranks; ``torn``, how many ranks have left the process group so that others get out of a collective.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import cloudpickle

from welltuned.errors import InvalidType, WelltunedError
from welltuned.evaluation import Objective, evaluate
from welltuned.executors.group import Group
from welltuned.executors.protocol import OnReport
from welltuned.executors.remote import Abandoned, portable, received
from welltuned.executors.watch import GRACE, Watch
from welltuned.live import LiveTrial, Task
from welltuned.trial import Outcome, Report

T = TypeVar("T")
FAREWELL = 10.0  # seconds that others have to hear that the study is over
SHORTEST, LONGEST = 0.0005, 0.02  # seconds between two looks for what is waited for
MOST_LOOKS = 5000  # of all ranks, in a second


@dataclass(frozen=True)
class Order:
    """What rank 0 wants all to do: a trial, or without one, to go on with the program, which ends with an error if any.

    ``renew`` says that the process group is made anew before.
    """

    task: Task | None
    objectives: tuple[str, ...] = ()
    renew: bool = False
    error: str | None = None


@dataclass(frozen=True)
class End:
    """How a trial ended on one rank; as which one of those whose objective raised something, None if it did not.

    Without an outcome, it was interrupted.
    """

    rank: int
    raised: int | None
    outcome: Outcome | None


class Session:
    """One study of a process group, on one rank."""

    def __init__(self, group: Group) -> None:
        self.group, self._store = group, group.clone_store()
        # each rank counts for itself: one may be ahead of the others by a study that had nothing to do
        self._name = f"{_place()}/{self._store.add(_arrivals(group), 1)}"
        self._number = 0
        self._order = Order(None)
        self._calls, self._first = 0, 0  # of should_stop; the first one that was answered by yes
        self._torn = False
        self.watch = Watch(self)
        self.watch.start()

    @staticmethod
    def count(group: Group) -> int:
        """Return how many studies this rank has taken part in."""
        return int(group.store.add(_arrivals(group), 0))

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.watch.stop()
        with contextlib.suppress(WelltunedError):  # there is nobody to tell
            self.add("left" if kind is None else "gone", 1)

    # what is in the store

    def _do(self, operation: str, name: Any, *arguments: Any) -> Any:
        try:
            return getattr(self._store, operation)(name, *arguments)
        except RuntimeError as error:
            raise WelltunedError(f"the other ranks cannot be reached any more: {error}") from error

    def set(self, name: str, value: bytes | str) -> None:
        """Let all ranks see a value."""
        self._do("set", f"{self._name}/{name}", value)

    def get(self, name: str) -> bytes:
        """Return a value that is there."""
        value: bytes = self._do("get", f"{self._name}/{name}")
        return value

    def has(self, name: str) -> bool:
        """Tell whether a value is there."""
        return bool(self._do("check", [f"{self._name}/{name}"]))

    def add(self, name: str, n: int = 0) -> int:
        """Count on, and return the sum over all ranks."""
        return int(self._do("add", f"{self._name}/{name}", n))

    def here(self, name: str) -> str:
        """Return a name under the number of the order."""
        return f"{self._number}/{name}"

    def _await(self, look: Callable[[], T | None]) -> T:
        """Look again and again until there is something, or another rank is lost."""
        pause = SHORTEST
        while (found := look()) is None:
            if self.watch.lost:
                raise WelltunedError(self.watch.lost)
            time.sleep(pause)
            pause = min(2 * pause, max(LONGEST, self.group.size / MOST_LOOKS))
        return found

    # orders

    def give(self, order: Order) -> None:
        """Tell all ranks what to do, and prepare for it."""
        self._number += 1
        self.set(self.here("answers"), "0 0")
        self.set(self.here("what"), _packed(order))
        self._begin(order)

    def hear(self) -> Order:
        """Wait for what rank 0 wants, and prepare for it."""
        following = f"{self._number + 1}/what"

        def look() -> bool | None:
            self._let_others_go()
            return self.has(following) or None

        self._await(look)
        self._number += 1
        order: Order = pickle.loads(self.get(following))
        self._begin(order)
        return order

    def _begin(self, order: Order) -> None:
        self._order, self._calls, self._first, self._torn = order, 0, 0, False
        if order.renew:
            self.group.renew(f"{self._name}/{self._number}")

    def dismiss(self, order: Order) -> None:
        """Tell the others that the study is over, and wait for a while until they have heard it."""
        with contextlib.suppress(WelltunedError):  # there is nobody to tell
            if order.error is not None:
                self._call_off()
            self.give(order)
            deadline = time.monotonic() + (FAREWELL if order.error is None else GRACE)
            while self.add("left") + self.add("gone") < self.group.size - 1 and time.monotonic() < deadline:
                time.sleep(LONGEST)

    # a trial

    def take_part(self, objective: Objective, on_report: OnReport | None = None) -> None:
        """Evaluate the trial that was ordered, and tell rank 0 how it ended here. Only interrupts get out."""
        task, objectives, raised = self._order.task, self._order.objectives, None
        assert task is not None

        def witnessed(argument: Any) -> Any:
            nonlocal raised
            try:
                result = objective(argument)
            except BaseException:
                raised = self._call_off()
                raise
            return result if self.group.rank == 0 else dict.fromkeys(objectives, 0.0)

        def receive(task: Task, report: Report) -> bool:
            if self.watch.overdue:
                raise Abandoned(self.watch.why)
            return on_report is not None and on_report(task, report)

        live = LiveTrial(task, receive, self._answer if self.group.rank == 0 else self._ask)
        content = pickle.dumps((self.group.rank, None, "interrupted", b""))
        self.watch.begin(self._number)
        try:
            outcome = evaluate(witnessed, live, objectives)
            content = pickle.dumps((self.group.rank, raised, *_packed_outcome(outcome)))
        finally:
            self.watch.end()
            self.set(self.here(f"end/{self.group.rank}"), content)
            self.add(self.here("ended"), 1)

    def _call_off(self) -> int:
        """Tell all ranks that the trial is over; return as which one this rank did so."""
        place = self.add(self.here("raised"), 1)
        if place == 1:
            self.set(self.here("over"), str(self.group.rank))
        return place

    def _answer(self, stop: bool) -> bool:
        """Answer, on rank 0, for all ranks whether to stop."""
        if self.watch.over.is_set():
            raise Abandoned(self.watch.why)
        self._calls += 1
        if stop and not self._first:
            self._first = self._calls
        self.set(self.here("answers"), f"{self._calls} {self._first}")
        return stop

    def _ask(self, stop: bool) -> bool:  # noqa: ARG002 - what this rank reports does not count
        """Return what rank 0 answers to the same call; after its last one, what it has answered to that."""
        self._calls += 1
        return 0 < self._await(self._first_yes) <= self._calls

    def _first_yes(self) -> int | None:
        """Return which call on rank 0 was the first to be answered by yes, once there have been as many as here."""
        has_ended = self.has(self.here("end/0"))
        calls, first = map(int, self.get(self.here("answers")).split())
        if calls >= self._calls:
            return first
        if self.has(self.here("over")):
            raise Abandoned(self.watch.why)
        return first if has_ended else None

    def collect(self) -> tuple[list[End], bool, str]:
        """Wait, on rank 0, until the trial has ended on all ranks.

        Return how, by rank; whether the process group has to be made anew; and why the ranks cannot go on, if so.
        """

        def look() -> str | None:
            self._let_others_go()
            if self.add("gone"):
                return "another rank has ended"
            if self.add("stuck"):
                return "another rank waits in a collective, and cannot be called back"
            return "" if self.add(self.here("ended")) == self.group.size else None

        broken = self._await(look)
        found = [self._end(rank) for rank in range(self.group.size) if self.has(self.here(f"end/{rank}"))]
        if any(end.outcome is None for end in found):
            raise KeyboardInterrupt
        return found, self.add(self.here("torn")) > 0 or not alike(found), broken

    def _end(self, rank: int) -> End:
        assert self._order.task is not None
        rank, raised, kind, content = pickle.loads(self.get(self.here(f"end/{rank}")))
        outcome = received(self._order.task, content) if kind == "portable" else None
        return End(rank, raised, pickle.loads(content) if kind == "plain" else outcome)

    def _let_others_go(self) -> None:
        """Leave the process group once the trial is over here, where others may wait in it for this rank."""
        if self._torn or not self.watch.overdue:
            return
        self._torn = True
        # told before looking: so rank 0, which looks before it asks, makes the group anew if this rank leaves it
        self.add(self.here("torn"), 1)
        if self.add(self.here("ended")) < self.group.size:
            self.group.leave()


def alike(ends: list[End]) -> bool:
    """Tell whether a trial ended in the same way on all ranks, so that none can have left a collective alone."""
    ways = {
        None
        if end.raised is None or end.outcome is None
        else (end.outcome.state, end.outcome.reason, end.outcome.error)
        for end in ends
    }
    return len(ways) == 1


def _place() -> str:
    """Return where everything is: some launchers start all ranks again with the store that they had."""
    return f"welltuned/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


def _arrivals(group: Group) -> str:
    return f"{_place()}/arrivals/{group.rank}"


def _packed(order: Order) -> bytes:
    """Pickle an order: by name what can be imported or is of ``__main__``, since all ranks run the same program."""
    try:
        return pickle.dumps(order)
    except Exception:  # noqa: BLE001 - whatever the parameters raise
        pass
    try:
        content: bytes = cloudpickle.dumps(order)
    except Exception as error:
        params = dict(order.task.params) if order.task is not None else {}
        raise InvalidType(f"params={params!r} cannot be sent to the other ranks: {error}") from error
    return content


def _packed_outcome(outcome: Outcome) -> tuple[str, bytes]:
    """Pickle an outcome, and let go of what its exception holds: a model holds the connections to the other ranks."""
    try:
        kind, content = "plain", pickle.dumps(outcome)
        pickle.loads(content)  # an exception of several arguments may not load
    except Exception:  # noqa: BLE001 - whatever the user's classes raise
        kind, content = "portable", portable(outcome)
    errors: list[BaseException | None] = [outcome.exception]
    for error in errors:
        if error is not None and error.__traceback__ is not None:
            traceback.clear_frames(error.__traceback__)
            error.__traceback__ = None
            errors += [error.__cause__, error.__context__]
    return kind, content
