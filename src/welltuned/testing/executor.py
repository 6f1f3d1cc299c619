"""What every executor keeps."""

# ruff: noqa: ARG001 - objectives of tests need not look at their trial

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from welltuned.errors import Infeasible, Pruned
from welltuned.evaluation import StandIn
from welltuned.executors import Executor, Finished, Job
from welltuned.live import LiveTrial, Task
from welltuned.trial import Outcome, Reason, Report, State

PATIENCE = 120.0


class ExecutorContract:
    """Prove an executor: results, failures, reports and their answers, and an end to everything.

    Provide the fixture ``make_executor``, a function from a :class:`welltuned.executors.Job` to an executor. Set
    ``workers`` to how many tasks may be under way.

    Examples
    --------
    >>> from welltuned.executors import ProcessExecutor
    >>> class TestProcesses(ExecutorContract):
    ...     workers = 2
    ...
    ...     @pytest.fixture
    ...     def make_executor(self):
    ...         return lambda job: ProcessExecutor(job, self.workers)
    """

    workers = 1

    @pytest.fixture
    def make_executor(self) -> Callable[[Job], Executor]:
        """Return a function that makes the executor under test for a job."""
        raise NotImplementedError("provide the fixture 'make_executor'")

    @pytest.fixture
    def start(self, make_executor: Callable[[Job], Executor]) -> Iterator[Callable[..., Executor]]:
        """Return a function of an objective that makes an executor; all of them are closed in the end."""
        made: list[Executor] = []

        def start(
            objective: Callable[[Any], Any],
            on_report: Callable[[Task, Report], bool] = never,
            objectives: Sequence[str] = ("value",),
        ) -> Executor:
            made.append(make_executor(Job(objective, objectives, on_report)))
            return made[-1]

        yield start
        for executor in made:
            executor.close()

    def test_is_an_executor(self, start: Callable[..., Executor]) -> None:
        """It satisfies the protocol."""
        assert isinstance(start(square), Executor)

    def test_results(self, start: Callable[..., Executor]) -> None:
        """Every task comes back once, with the value of its own parameters and the time it took."""
        outcomes = run_all(start(square), 6, self.workers)
        assert {n: o.metrics for n, o in outcomes.items()} == {n: {"value": float(n * n)} for n in range(6)}
        assert all(o.state is State.COMPLETE and o.seconds is not None and o.seconds >= 0 for o in outcomes.values())

    def test_order_does_not_matter(self, start: Callable[..., Executor]) -> None:
        """Tasks may end in any order, and each outcome still belongs to its task."""
        outcomes = run_all(start(slow_first), 4, self.workers)
        assert {n: o.metrics["value"] for n, o in outcomes.items()} == {n: float(n) for n in range(4)}

    def test_several_objectives(self, start: Callable[..., Executor]) -> None:
        """A sequence of values is read in the order of the objectives."""
        outcomes = run_all(start(pair, objectives=("a", "b")), 2, self.workers)
        assert outcomes[1].metrics == {"a": 1.0, "b": -1.0}

    def test_notes_arrive(self, start: Callable[..., Executor]) -> None:
        """What an objective notes is in its outcome."""
        assert run_all(start(noting), 1, self.workers)[0].attributes == {"number": 0, "list": [1, 2]}

    def test_positional_parameters(self, start: Callable[..., Executor]) -> None:
        """A task of a space of bounds is called with an array."""
        outcomes = finish(start(array_sum), [Task(0, 1, {"x0": 1.0, "x1": 2.5}, positional=True)])
        assert outcomes[0].metrics == {"value": 3.5}

    def test_parameters_that_objectives_suggest(self, start: Callable[..., Executor]) -> None:
        """What an objective suggests itself comes back with the declarations."""
        outcome = finish(start(suggesting), [Task(0, 1, {}, seed=3, open_space=True)])[0]
        assert outcome.params is not None and outcome.domains is not None
        assert set(outcome.params) == set(outcome.domains) == {"x"}
        assert outcome.metrics["value"] == outcome.params["x"]

    @pytest.mark.parametrize(
        ("objective", "state", "reason"),
        [
            ("raises", State.FAILED, Reason.ERROR),
            ("infeasible", State.FAILED, Reason.INFEASIBLE),
            ("out_of_memory", State.FAILED, Reason.OUT_OF_MEMORY),
            ("nan", State.FAILED, Reason.NAN),
            ("text", State.FAILED, Reason.ERROR),
            ("unpicklable", State.FAILED, Reason.ERROR),
            ("known_there_only", State.FAILED, Reason.ERROR),
            ("pruned", State.PRUNED, None),
        ],
    )
    def test_failures_become_outcomes(
        self, start: Callable[..., Executor], objective: str, state: State, reason: Reason | None
    ) -> None:
        """Whatever an objective raises is an outcome with its reason, and the executor goes on."""
        executor = start(globals()[objective])
        for number in range(2):
            outcome = finish(executor, [Task(number, 1, {"x": number})])[number]
            assert (outcome.state, outcome.reason) == (state, reason)
            assert reason is None or outcome.error

    def test_an_exception_that_cannot_travel_is_known_by_what_it_was_derived_from(
        self, start: Callable[..., Executor]
    ) -> None:
        """Which exceptions a study is to survive can be told, wherever their classes can be imported."""
        error = run_all(start(known_there_only), 1, self.workers)[0].exception
        assert issubclass(error.kind if isinstance(error, StandIn) else type(error), LookupError)

    def test_where_an_exception_was_raised_is_logged(
        self, start: Callable[..., Executor], caplog: pytest.LogCaptureFixture
    ) -> None:
        """At the level DEBUG, with the lines of the objective."""
        with caplog.at_level(logging.DEBUG, logger="welltuned"):
            run_all(start(raises), 1, self.workers)
        assert 'raise ValueError("on purpose")' in caplog.text

    def test_reports_arrive_in_order(self, start: Callable[..., Executor]) -> None:
        """Every report reaches ``on_report`` in this process, with its task, before the outcome."""
        seen: list[tuple[int, int, Mapping[str, float]]] = []

        def on_report(task: Task, report: Report) -> bool:
            seen.append((task.number, report.step, report.metrics))
            return False

        assert run_all(start(reporting, on_report), 2, self.workers)[0].metrics == {"value": 5.0}
        for number in range(2):
            assert [s for s in seen if s[0] == number] == [(number, step, {"value": float(step)}) for step in range(5)]

    def test_the_answer_to_a_report_stops_the_trial(self, start: Callable[..., Executor]) -> None:
        """What ``on_report`` returns is what ``should_stop`` tells from then on."""
        outcome = run_all(start(reporting, lambda _, report: report.step == 2), 1, self.workers)[0]
        assert (outcome.state, outcome.metrics) == (State.PRUNED, {"value": 3.0})

    def test_threads_may_report(self, start: Callable[..., Executor]) -> None:
        """Reports of several threads all arrive, each once, and leave the trial and the next one as they are."""
        seen: list[tuple[int, int]] = []

        def on_report(task: Task, report: Report) -> bool:
            seen.append((task.number, report.step))
            return False

        outcomes = run_all(start(reporting_from_threads, on_report), 2, 1)
        assert [outcome.metrics for outcome in outcomes.values()] == [{"value": 4.0}, {"value": 4.0}]
        assert sorted(seen) == [(number, step) for number in range(2) for step in range(40)]

    def test_reports_of_a_trial_that_has_ended_are_dropped(self, start: Callable[..., Executor]) -> None:
        """A thread that an objective left behind is told to stop, and what it reports belongs to no other trial."""
        seen: list[int] = []

        def on_report(task: Task, _: Report) -> bool:
            seen.append(task.number)
            return False

        executor = start(reporting_ever_after, on_report)
        first = finish(executor, [Task(0, 1, {"x": 0})])
        before = len(seen)
        assert finish(executor, [Task(1, 1, {"x": 1})])[1].metrics == {"value": 1.0}
        assert first[0].state is State.COMPLETE
        assert seen == [0] * before

    def test_waiting_for_nothing(self, start: Callable[..., Executor]) -> None:
        """Without tasks there is nothing to wait for."""
        executor, began = start(square), time.monotonic()
        assert executor.wait(PATIENCE) == []
        assert time.monotonic() - began < PATIENCE / 2

    def test_close_ends_everything(self, start: Callable[..., Executor]) -> None:
        """Closing does not wait for the objective, nothing is left to wait for, and twice is fine."""
        executor, began = start(endless), time.monotonic()
        for number in range(self.workers):
            executor.submit(Task(number, 1, {"x": number}))
        executor.close()
        executor.close()
        assert executor.wait(0.1) == []
        assert time.monotonic() - began < PATIENCE / 2

    def test_a_worker_serves_many_tasks(self, start: Callable[..., Executor]) -> None:
        """Many more tasks than workers are no problem."""
        assert len(run_all(start(square), 40, self.workers)) == 40


def run_all(executor: Executor, n: int, workers: int) -> dict[int, Outcome]:
    """Evaluate tasks 0 … n - 1 with ``x`` their number, at most ``workers`` of them at the same time."""
    return finish(executor, [Task(number, 1, {"x": number}) for number in range(n)], workers)


def finish(executor: Executor, tasks: Sequence[Task], workers: int = 1) -> dict[int, Outcome]:
    """Evaluate tasks and return their outcomes by number; each must end once, in two minutes."""
    todo, under_way, outcomes = list(tasks), 0, dict[int, Outcome]()
    deadline = time.monotonic() + PATIENCE
    while todo or under_way:
        assert time.monotonic() < deadline, f"still waiting for {under_way} tasks"
        while todo and under_way < workers:
            executor.submit(todo.pop(0))
            under_way += 1
        for done in executor.wait(5.0):
            under_way -= 1
            outcomes |= {done.task.number: outcome_of(done, outcomes)}
    return outcomes


def outcome_of(done: Finished, earlier: Mapping[int, Outcome]) -> Outcome:
    """Return the outcome of a task that must have one, and must not have ended before."""
    assert done.task.number not in earlier
    assert done.outcome is not None, done.error
    return done.outcome


def never(task: Task, report: Report) -> bool:
    """Let every trial go on."""
    return False


# objectives, at the top of the module so that they can be sent by name


def square(trial: LiveTrial) -> float:
    """Return the square of ``x``."""
    return float(trial["x"] ** 2)


def slow_first(trial: LiveTrial) -> float:
    """Return ``x``, later for smaller ones."""
    time.sleep(0.05 * (4 - trial["x"]))
    return float(trial["x"])


def pair(trial: LiveTrial) -> tuple[float, float]:
    """Return two objectives."""
    return trial["x"], -trial["x"]


def noting(trial: LiveTrial) -> float:
    """Note what JSON can hold."""
    trial.note(number=trial.number, list=[1, 2])
    return 0.0


def array_sum(x: Any) -> float:
    """Return the sum of an array of parameters."""
    return float(x.sum())


def suggesting(trial: LiveTrial) -> float:
    """Declare a parameter where it is used."""
    return trial.suggest_float("x", 0.0, 1.0)


def raises(trial: LiveTrial) -> float:
    """Raise an error."""
    raise ValueError("on purpose")


def infeasible(trial: LiveTrial) -> float:
    """Say that this configuration cannot be evaluated."""
    raise Infeasible("on purpose")


def out_of_memory(trial: LiveTrial) -> float:
    """Run out of memory."""
    raise MemoryError("on purpose")


def nan(trial: LiveTrial) -> float:
    """Return no number."""
    return float("nan")


def text(trial: LiveTrial) -> str:
    """Return something that is no number."""
    return "0.5"


class Stubborn(Exception):
    """An exception that cannot be rebuilt from its arguments."""

    def __init__(self, _one: int, _two: int) -> None:
        super().__init__("on purpose")


def unpicklable(trial: LiveTrial) -> float:
    """Raise an exception that pickle cannot bring back."""
    raise Stubborn(1, 2)


def known_there_only(trial: LiveTrial) -> float:
    """Raise an exception of a module that only this process has."""
    module: Any = types.ModuleType(f"welltuned_known_to_{os.getpid()}")
    module.Failed = type("Failed", (LookupError,), {"__module__": module.__name__})
    sys.modules[module.__name__] = module
    raise module.Failed("on purpose")


def pruned(trial: LiveTrial) -> float:
    """End as pruned."""
    raise Pruned("on purpose")


def reporting(trial: LiveTrial) -> float:
    """Report five steps, or as many as are wanted."""
    for step in range(5):
        trial.report(float(step), step)
        if trial.should_stop():
            return float(step + 1)
    return 5.0


def reporting_from_threads(trial: LiveTrial) -> float:
    """Report ten steps from each of four threads."""

    def report(first: int) -> int:
        for step in range(first, first + 10):
            trial.report(float(step), step)
        return 1

    with ThreadPoolExecutor(4) as pool:
        return float(sum(pool.map(report, range(0, 40, 10))))


def reporting_ever_after(trial: LiveTrial) -> float:
    """Leave a thread behind that reports as long as it may; the trials after the first one start none."""

    def report() -> None:
        for step in range(1000):
            trial.report(float(step), step)
            time.sleep(0.01)

    if trial["x"] == 0:
        threading.Thread(target=report, daemon=True).start()
    time.sleep(0.3)
    return float(trial["x"])


def endless(trial: LiveTrial) -> float:
    """Never return of its own accord, for as long as a test may take."""
    time.sleep(PATIENCE)
    return 0.0
