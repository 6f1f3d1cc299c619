"""What every scheduler keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from welltuned.history import History
from welltuned.schedulers import Begin, Breeder, Child, Continue, Decision, Pause, Promote, Promoter, Scheduler, Stop
from welltuned.space import Space
from welltuned.trial import RESTS, Report, State, Trial

STEPS = 10


class SchedulerContract:
    """Prove a scheduler: its decisions are values, it never raises, and it never stops the best trial.

    One that pauses trials lets the best of them go on, and only such as are paused. One that breeds may pause all.

    Provide the fixture ``scheduler``.

    Examples
    --------
    >>> from welltuned import Median
    >>> class TestMedian(SchedulerContract):
    ...     @pytest.fixture
    ...     def scheduler(self):
    ...         return Median()
    """

    @pytest.fixture
    def scheduler(self) -> Scheduler:
        """Return the scheduler under test."""
        raise NotImplementedError("provide the fixture 'scheduler'")

    def test_is_a_scheduler(self, scheduler: Scheduler) -> None:
        """It satisfies the protocol."""
        assert isinstance(scheduler, Scheduler)

    def test_the_first_trial_is_not_stopped(self, scheduler: Scheduler) -> None:
        """There is nothing to compare a lone trial with; at most it has to wait for others."""
        history = curves([range(STEPS)])
        assert isinstance(scheduler.decide(history, 0, last(history, 0)), (Continue, Pause))

    @pytest.mark.parametrize("direction", ["minimize", "maximize"])
    def test_decisions_are_values(self, scheduler: Scheduler, direction: str) -> None:
        """Every answer is a Continue, or a Stop or Pause that says why."""
        history = curves([[float(level)] * STEPS for level in range(12)], {"value": direction})
        for trial in history.trials:
            assert_decision(scheduler.decide(history, trial.number, last(history, trial.number)))

    @pytest.mark.parametrize("direction", ["minimize", "maximize"])
    def test_never_stops_the_best(self, scheduler: Scheduler, direction: str) -> None:
        """The trial that leads at every step goes on to the end, in both directions."""
        sign = 1.0 if direction == "minimize" else -1.0
        for step in range(1, STEPS + 1):
            history = curves(
                [[sign * (level + 10.0 / (s + 1)) for s in range(step)] for level in range(12)], {"value": direction}
            )
            assert may_go_on(scheduler, scheduler.decide(history, 0, last(history, 0)))

    def test_never_stops_one_that_is_best_in_one_objective(self, scheduler: Scheduler) -> None:
        """A trial that leads in one of two objectives may be on the front, however bad the other is."""
        rows = [{"loss": float(level), "size": -float(level)} for level in range(12)]
        history = metrics([[row] * STEPS for row in rows], {"loss": "minimize", "size": "minimize"})
        for number in (0, 11):
            assert may_go_on(scheduler, scheduler.decide(history, number, last(history, number)))

    def test_equal_trials_go_on(self, scheduler: Scheduler) -> None:
        """None of several equal trials is worse than the others."""
        history = curves([[1.0] * STEPS] * 12)
        assert all(may_go_on(scheduler, scheduler.decide(history, n, last(history, n))) for n in range(12))

    def test_metrics_may_be_missing(self, scheduler: Scheduler) -> None:
        """Reports without an objective, with other metrics or with some of several objectives never raise."""
        rows: list[list[Mapping[str, float]]] = [
            [{"other": 1.0}] * STEPS,
            [{"loss": 1.0}] * 3,
            [{"size": 2.0}] * STEPS,
            [],
        ]
        rows += [[{"loss": 1.0, "size": float(i)}] * STEPS for i in range(8)]
        history = metrics(rows, {"loss": "minimize", "size": "maximize"})
        for number in (0, 1, 2, 5):
            assert_decision(scheduler.decide(history, number, last(history, number)))

    def test_sparse_steps(self, scheduler: Scheduler) -> None:
        """Trials may report at steps of their own, beginning anywhere, also below zero."""
        trials = [running(n, [Report(step, {"value": 1.0}) for step in range(n - 3, 40, n + 1)]) for n in range(10)]
        history = History(Space({"x": (0.0, 20.0)}), trials)
        for trial in trials:
            for report in trial.reports:
                assert_decision(scheduler.decide(history, trial.number, report))

    def test_is_pure(self, scheduler: Scheduler) -> None:
        """The same arguments give the same decision."""
        history = curves([[float(level)] * STEPS for level in range(12)])
        first = [scheduler.decide(history, n, last(history, n)) for n in range(12)]
        assert first == [scheduler.decide(history, n, last(history, n)) for n in range(12)]

    def test_promotes_paused_trials_alone(self, scheduler: Scheduler) -> None:
        """Where nothing is paused, nothing goes on; and what goes on is paused, whatever else is there."""
        if not isinstance(scheduler, Promoter):
            pytest.skip("it pauses nothing")
        assert scheduler.promote(curves([])) is None
        assert scheduler.promote(curves([[float(level)] * STEPS for level in range(12)])) is None
        states = [*State, *[State.PAUSED] * 12]
        curve = [Report(step, {"value": 1.0}) for step in range(1, STEPS + 1)]
        rows = [running(n, curve[: 1 + n % STEPS]) for n in range(len(states))]
        trials = [t.but(state=state, metrics={"value": 1.0}) for t, state in zip(rows, states, strict=True)]
        promoted = scheduler.promote(History(Space({"x": (0.0, 20.0)}), trials))
        assert promoted is None or states[promoted] is State.PAUSED

    @pytest.mark.parametrize("direction", ["minimize", "maximize"])
    def test_pauses_lose_nothing(self, scheduler: Scheduler, direction: str) -> None:
        """Trials that are told to pause and go on when promoted: each ends or rests, and the best of all ends."""
        if not isinstance(scheduler, Promoter):
            pytest.skip("it pauses nothing")
        sign, n = (1.0 if direction == "minimize" else -1.0), 30
        levels = [(7 * k) % n for k in range(n)]  # the best is not the first
        history = History(Space({"x": (0.0, 50.0)}), (), {"value": direction}, budget=n)
        following: list[int] = list(range(n))
        for _ in range(10 * n):
            number = scheduler.promote(history)
            if number is None:
                if not following:
                    break
                number = following.pop(0)
            trial = history.trials_by_number.get(number, running(number, []))
            assert trial.state in (State.RUNNING, State.PAUSED)
            history = _advanced(scheduler, history, trial.but(state=State.RUNNING), sign * levels[number])
        assert not following
        assert {t.state for t in history.trials} <= {State.COMPLETE, State.PAUSED}
        assert history.trials_by_number[levels.index(0)].state is State.COMPLETE
        assert len([t for t in history.trials if t.state is State.PAUSED]) >= n // 2

    @pytest.mark.parametrize("direction", ["minimize", "maximize"])
    @pytest.mark.parametrize("budget", [None, 15, 2])
    def test_breeds_in_place_of_those_behind(self, scheduler: Scheduler, direction: str, budget: int | None) -> None:
        """Children begin where a better parent rests, each with parameters of its own, in place of one that rests.

        In the end all others have come to their end, within the budget.
        """
        if not isinstance(scheduler, Breeder):
            pytest.skip("it breeds nothing")
        sign, space = (1.0 if direction == "minimize" else -1.0), Space({"x": (0.0, 50.0)})
        history, replaced = History(space, (), {"value": direction}, budget), set[int]()
        for k in range(1000):
            known, rng = history.trials_by_number, np.random.default_rng(k)
            move = scheduler.advance(space, history, rng)
            if move is None:
                break
            match move:
                case Promote(number, step):
                    trial = known[number]
                    assert (trial.state, trial.rests[-1]) == (State.PAUSED, step)
                    assert number not in replaced
                case Begin():
                    trial = Trial(len(known), State.RUNNING, {"x": float(7 * len(known) % 50)})
                case Child(params, parent, step, behind):
                    assert (parent, step) in scheduler.parents(history)
                    assert step in known[parent].rests
                    assert known[parent].params["x"] < known[behind].params["x"]  # type: ignore[index]
                    assert params not in [t.params for t in history.trials]
                    assert space.validate(params) == params
                    assert known[behind].state is State.PAUSED
                    assert behind not in replaced
                    replaced.add(behind)
                    source = {"parent": parent, "step": step, "replaces": behind}
                    trial = Trial(len(known), State.RUNNING, params, provenance=source)
            assert trial.params is not None
            history = _advanced(scheduler, history, trial.but(state=State.RUNNING), sign * trial.params["x"])
        assert {t.number for t in history.trials if t.state is State.PAUSED} == replaced
        assert {t.number for t in history.trials if t.state is not State.COMPLETE} == replaced
        assert budget == 2 or scheduler.parents(history) == frozenset()  # there may be more trials later
        assert bool(replaced) == (budget != 2)
        assert budget is None or len(history.trials) <= budget


def _advanced(scheduler: Scheduler, history: History, trial: Trial, level: float) -> History:
    """Let a trial report, from where it is, until it is told to pause or has made its last step."""
    others = [t for t in history.trials if t.number != trial.number]
    begun = trial.reports[-1].step if trial.reports else trial.inherited or 0
    for step in range(begun + 1, STEPS + 1):
        report = Report(step, {"value": level})
        trial = trial.but(reports=(*trial.reports, report))
        decision = scheduler.decide(history.replace([*others, trial]), trial.number, report)
        if isinstance(decision, Pause):
            rests = {RESTS: [*trial.rests, step]}
            return history.replace([*others, trial.but(state=State.PAUSED, attributes=rests)])
    return history.replace([*others, trial.but(state=State.COMPLETE, metrics={"value": level})])


def may_go_on(scheduler: Scheduler, decision: Decision) -> bool:
    """Tell whether a decision lets a good trial go on: at once, or with the others of its population."""
    return isinstance(decision, Continue) or (isinstance(scheduler, Breeder) and isinstance(decision, Pause))


def assert_decision(decision: Decision) -> None:
    """Check that a decision is one of the known values."""
    assert isinstance(decision, (Continue, Stop, Pause))
    assert isinstance(decision, Continue) or decision.why.strip()


def running(number: int, reports: Sequence[Report]) -> Trial:
    """Return a running trial with these reports."""
    return Trial(number, State.RUNNING, {"x": float(number)}, reports=tuple(reports), revision=number + 1)


def curves(values: Sequence[Sequence[float] | range], directions: Mapping[str, str] | None = None) -> History:
    """Return a history of running trials with one objective: a curve for each, from step 1."""
    return metrics([[{"value": float(v)} for v in curve] for curve in values], directions)


def metrics(rows: Sequence[Sequence[Mapping[str, float]]], directions: Mapping[str, str] | None = None) -> History:
    """Return a history of running trials: for each the metrics it reported from step 1."""
    trials = [running(n, [Report(step, m) for step, m in enumerate(row, 1)]) for n, row in enumerate(rows)]
    return History(Space({"x": (0.0, 20.0)}), trials, directions)


def last(history: History, number: int) -> Report:
    """Return the last report of a trial."""
    return history.trials_by_number[number].reports[-1]
