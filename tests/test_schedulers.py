"""What schedulers decide."""

import numpy as np
import pytest

import welltuned as wt
from welltuned.schedulers import SCHEDULERS, Continue, Stop, make_scheduler
from welltuned.testing import SchedulerContract
from welltuned.testing.scheduler import curves, last, metrics, running
from welltuned.trial import Report


@pytest.mark.parametrize("name", SCHEDULERS)
class TestContract(SchedulerContract):
    @pytest.fixture
    def scheduler(self, name):
        return make_scheduler(name)


class TestHalvingWithSettings(SchedulerContract):
    @pytest.fixture
    def scheduler(self):
        return wt.Halving(factor=2, first=2)


class TestAshaWithSettings(SchedulerContract):
    @pytest.fixture
    def scheduler(self):
        return wt.Asha(factor=2, last=10, rungs=3)


class TestHyperbandWithSettings(SchedulerContract):
    @pytest.fixture
    def scheduler(self):
        return wt.Hyperband(factor=4, last=10, rungs=1)


def stopped(history, scheduler):
    decisions = {t.number: scheduler.decide(history, t.number, last(history, t.number)) for t in history.trials}
    return [number for number, decision in decisions.items() if isinstance(decision, Stop)]


@pytest.mark.parametrize(
    ("factor", "n", "kept"), [(3, 9, 3), (3, 10, 4), (3, 2, 2), (3, 3, 1), (2, 8, 4), (4, 3, 3), (4, 16, 4)]
)
def test_halving_keeps_the_best_of_a_rung(factor, n, kept):
    levels = np.random.default_rng(0).permutation(n).astype(float)
    history = curves([[level] for level in levels])
    gone = stopped(history, wt.Halving(factor=factor))
    assert sorted(levels[gone]) == sorted(levels)[kept:]


def test_halving_judges_at_its_rungs_alone():
    scheduler, levels = wt.Halving(factor=3, first=2), range(12)
    judged = [step for step in range(1, 60) if stopped(curves([[float(level)] * step for level in levels]), scheduler)]
    assert judged == [2, 6, 18, 54]


def test_halving_compares_with_all_that_reached_the_rung():
    """Ended trials count, and those that stopped before the rung do not."""
    done = [
        wt.Trial(n, wt.State.COMPLETE, {"x": float(n)}, {"value": 0.0}, reports=reports([1.0 + n] * 9)) for n in (0, 1)
    ]
    pruned = [wt.Trial(n, wt.State.PRUNED, {"x": float(n)}, reports=reports([0.0])) for n in range(2, 12)]
    space = wt.Space({"x": (0.0, 20.0)})
    late = running(12, reports([1.5, 1.5, 1.5]))
    # the second best of three at step 3 is not in the best third; one that leads goes on whatever was pruned before
    history = wt.History(space, [*done, *pruned, late])
    assert isinstance(wt.Halving().decide(history, 12, late.reports[-1]), Stop)
    lead = running(12, reports([0.5, 0.5, 0.5]))
    assert wt.Halving().decide(wt.History(space, [*done, *pruned, lead]), 12, lead.reports[-1]) == Continue()


def test_halving_counts_the_best_value_so_far():
    rows = [[0.0, 9.0, 9.0], [1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]
    assert stopped(curves(rows), wt.Halving()) == [1, 2]


def test_halving_where_reports_come_seldom():
    """A report beyond a rung counts for it, once; a trial that reports every fifth step is judged at 5 and 10."""
    scheduler, space = wt.Halving(), wt.Space({"x": (0.0, 20.0)})
    trials = [running(n, [Report(step, {"value": float(n)}) for step in range(5, 55, 5)]) for n in range(6)]
    history = wt.History(space, trials)
    judged = [r.step for r in trials[5].reports if isinstance(scheduler.decide(history, 5, r), Stop)]
    assert judged == [5, 10, 30]


def test_halving_with_two_objectives_keeps_the_first_fronts():
    rows = [{"a": float(i), "b": float(5 - i)} for i in range(6)]
    rows += [{"a": 10.0 + i, "b": 10.0 + i} for i in range(6)]
    history = metrics([[row] for row in rows], {"a": "minimize", "b": "minimize"})
    assert stopped(history, wt.Halving(factor=2)) == [6, 7, 8, 9, 10, 11]
    flipped = metrics([[{"a": r["a"], "b": -r["b"]}] for r in rows], {"a": "minimize", "b": "maximize"})
    assert stopped(flipped, wt.Halving(factor=2)) == [6, 7, 8, 9, 10, 11]


def reports(values):
    return tuple(Report(step, {"value": value}) for step, value in enumerate(values, 1))


def test_halving_spends_a_fraction_of_the_steps_on_the_best():
    """Random trials whose curves show early how good they will be: less than half of the steps, the same best."""
    shares = []
    for seed in range(5):
        steps = []

        def train(trial, steps=steps):
            for step in range(1, 28):
                value = (trial["x"] - 0.3) ** 2 + 1.0 / step
                steps.append(step)
                trial.report(value, step=step)
                if trial.should_stop():
                    break
            return value

        halved, whole = [
            wt.minimize(train, {"x": (0.0, 1.0)}, n_trials=60, sampler="random", seed=seed, scheduler=scheduler)
            for scheduler in ("halving", None)
        ]
        shares.append((len(steps) - 60 * 27) / (60 * 27))
        assert halved.best.params == whole.best.params
    assert np.mean(shares) <= 0.45
