"""What schedulers decide."""

import numpy as np
import pytest

import welltuned as wt
from welltuned.curves import curves as curves_of
from welltuned.errors import InvalidType, InvalidValue
from welltuned.schedulers import SCHEDULERS, Continue, Stop, make_scheduler
from welltuned.schedulers.halving import n_ahead
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


class TestPbtWithSettings(SchedulerContract):
    @pytest.fixture
    def scheduler(self):
        return wt.Pbt(population=5, every=2, quantile=0.4, last=10)


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


@pytest.mark.parametrize("names", [("a",), ("a", "b")])
def test_of_equal_trials_none_is_ahead_of_another(names):
    """As many networks are that have learned nothing yet; with one objective as with two."""
    rows = [dict.fromkeys(names, float(value)) for value in (1, 1, 0, 1, 2, 1)]
    history = metrics([[row] for row in rows], dict.fromkeys(names, "minimize"))
    assert stopped(history, wt.Halving(factor=3)) == [4]
    reported = curves_of(history.trials, history.directions)
    assert list(n_ahead(reported, 1).values()) == [1, 1, 0, 1, 5, 1]


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


# races


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_race_says_that_running_means_are_no_folds(running, workers, caplog):
    """Of 25 races that were given the mean so far, 6 stopped the best trial; of those that were given folds, none."""

    def objective(trial):
        folds = [trial["x"] + 0.1 * (i % 3) for i in range(5)]
        for i in range(5):
            trial.report(sum(folds[: i + 1]) / (i + 1) if running else folds[i], i)
        return sum(folds) / 5

    study = wt.Study({"x": (0.0, 1.0)}, scheduler="race", sampler="random", seed=0)
    study.optimize(objective, n_trials=3, workers=workers)
    said = [r.getMessage() for r in caplog.records if "report each fold by itself" in r.getMessage()]
    assert len(said) == running


def race_of(folds, direction="maximize", running_from=-1):
    """Return a history of trials with these folds, complete but for the last ones, whose folds are the first ones."""
    trials = []
    for n, scores in enumerate(folds):
        done = n < len(folds) + running_from
        trials.append(
            wt.Trial(
                n,
                wt.State.COMPLETE if done else wt.State.RUNNING,
                {"x": float(n)},
                {"value": float(np.mean(scores))} if done else {},
                reports=tuple(Report(j, {"value": float(s)}) for j, s in enumerate(scores)),
                revision=n + 1,
            )
        )
    return wt.History(wt.Space({"x": (0.0, 20.0)}), trials, {"value": direction})


def has_lost(folds, direction="maximize", **settings):
    history = race_of(folds, direction)
    return isinstance(wt.Race(**settings).decide(history, len(folds) - 1, last(history, len(folds) - 1)), Stop)


HARD = np.array([0.5, 0.9, 0.2, 0.8, 0.6])
DONE = [HARD, HARD - [0.02, 0.0, 0.01, 0.03, 0.0], HARD - [0.0, 0.04, 0.01, 0.0, 0.03]]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_a_race_compares_fold_by_fold(direction):
    """Folds differ by ten times what trials do: it is the differences on the same ones that count."""
    sign = 1.0 if direction == "maximize" else -1.0
    for k in range(1, 5):
        worse, same, better = (sign * (HARD[:k] + shift) for shift in (-0.15, 0.0, 0.01))
        done = [sign * folds for folds in DONE]
        assert has_lost([*done, worse], direction)
        assert not has_lost([*done, same + sign * np.array([1e-3, -1e-3, 1e-3, -1e-3])[:k]], direction)
        assert not has_lost([*done, better], direction)


def test_a_race_is_over_for_what_is_a_little_worse_later_on():
    fate = [has_lost([*DONE, HARD[:k] - np.array([0.02, 0.025, 0.02, 0.015])[:k]]) for k in range(1, 5)]
    assert fate == sorted(fate)
    assert (fate[0], fate[-1]) == (False, True)


def test_settings_of_a_race():
    slow = [*DONE, HARD[:1] - 0.3]
    assert has_lost(slow)
    assert not has_lost(slow, min_folds=2)
    assert not has_lost(slow, alpha=1e-3)


def test_more_folds_give_up_less_at_each():
    """At the very chance where a race of five folds ends, one of nine, with twice the judgements, goes on."""
    done = [np.resize(folds, 9) for folds in (HARD, DONE[1], DONE[2])]
    judged = wt.Race().decide(race_of([*done, done[0][:1] - 0.3]), 3, Report(0, {}))
    assert isinstance(judged, Stop)
    assert judged.why.endswith("below 0.05")


def test_a_race_has_nothing_to_say_without_a_complete_trial_or_its_folds():
    assert not has_lost([HARD[:1] - 0.3])
    assert not has_lost([HARD[:1], HARD[:1] - 0.3])  # one that has a single fold leaves none to save
    assert not has_lost([*DONE, HARD - 0.3])  # all folds are there


def test_a_race_of_two_knows_no_differences_yet():
    """The folds of the only complete trial vary by more than differences to it would: that is careful."""
    assert not has_lost([HARD, HARD[:1] - 0.3])
    assert has_lost([HARD, HARD[:3] - 0.3])


def test_copies_of_the_best_one_do_not_end_a_race_on_the_first_tie():
    """A setting that does nothing makes copies; on folds of few rows, such as one, what is better ties with them."""
    best = np.array([1.0, 1.0, 0.0, 1.0, 0.0])
    for k in (1, 2):
        assert not has_lost([best, best, best[:k]])
    copies, other = [best] * 4, best - [0.0, 0.0, 0.0, 1.0, 0.0]
    assert not has_lost([*copies, other, best[:2]])  # the other one tied as well, and differs later on
    assert not has_lost([*copies, best - [1.0, 0.0, 1.0, 0.0, 1.0], best[:1] - 0.2])  # no tie: it is no copy
    assert has_lost([*copies, other, best[:4] - 1.0])


def test_what_has_been_the_same_all_along_is_not_run_to_the_end():
    """A tie is lost: of equals, the first one wins. That it stays one, others that were ties tell."""
    assert has_lost([HARD, HARD, HARD, HARD, HARD[:2]])


def test_a_race_for_several_objectives_is_lost_behind_one_of_the_front_in_all():
    rows = [[{"a": v, "b": 1 - v}] * 3 for v in (0.2, 0.3)] + [[{"a": 0.9, "b": 0.9}], [{"a": 0.1, "b": 0.95}]]
    trials = [
        wt.Trial(
            n,
            wt.State.COMPLETE if n < 2 else wt.State.RUNNING,
            {"x": float(n)},
            row[0] if n < 2 else {},
            reports=tuple(Report(j, {k: v + 0.001 * j for k, v in m.items()}) for j, m in enumerate(row)),
            objectives=("a", "b"),
            revision=n + 1,
        )
        for n, row in enumerate(rows)
    ]
    history = wt.History(wt.Space({"x": (0.0, 20.0)}), trials, {"a": "minimize", "b": "minimize"})
    assert isinstance(wt.Race().decide(history, 2, trials[2].reports[-1]), Stop)
    assert wt.Race().decide(history, 3, trials[3].reports[-1]) == Continue()


def test_a_study_races_folds():
    rng, run = np.random.default_rng(0), []

    def validate(trial):
        scores = []
        for fold in range(5):
            scores.append(-((trial["x"] - 2.0) ** 2) + HARD[fold] + 0.01 * rng.standard_normal())
            run.append(fold)
            trial.report(scores[-1], fold)
            if trial.should_stop():
                trial.prune()
        return float(np.mean(scores))

    study = wt.Study({"x": (-5.0, 5.0)}, direction="maximize", scheduler="race", sampler="random", seed=0)
    study.optimize(validate, 20, progress=False)
    assert len(run) < 60
    assert study.best.state is wt.State.COMPLETE
    assert abs(study.best.params["x"] - 2.0) < 1.0
    # what is expected of those that lost is what their folds say, without the hardness of these
    for trial in study.trials:
        truth = (trial.params["x"] - 2.0) ** 2 - HARD.mean()
        assert study.history.losses[trial.number, 0] == pytest.approx(truth, abs=0.05)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"alpha": "small"}, InvalidType),
        ({"alpha": True}, InvalidType),
        ({"alpha": 0.0}, InvalidValue),
        ({"alpha": 0.5}, InvalidValue),
        ({"min_folds": 1.5}, InvalidType),
        ({"min_folds": 0}, InvalidValue),
    ],
)
def test_bad_settings_of_a_race(settings, error):
    with pytest.raises(error, match=rf"Race: {next(iter(settings))}="):
        wt.Race(**settings)
