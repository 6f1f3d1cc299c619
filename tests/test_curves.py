"""Curves of reports, and where pruned ones would have ended."""

import numpy as np
import pytest

import welltuned as wt
from welltuned.curves import curves, parts
from welltuned.surrogate.model import fit_model
from welltuned.trial import Report, State, Trial


def trial(number, state, values, first=1, every=1, name="value", result=None):
    reports = tuple(Report(first + every * i, {name: v}) for i, v in enumerate(values))
    metrics = {name: values[-1] if result is None else result} if state is State.COMPLETE else {}
    return Trial(number, state, {"x": number / 10}, metrics, reports=reports, revision=number + 1)


def history(trials, direction="minimize"):
    return wt.History(wt.Space({"x": (0.0, 9.0)}), trials, {"value": direction})


DONE = [trial(0, State.COMPLETE, [4.0, 2.0, 1.0]), trial(1, State.COMPLETE, [5.0, 3.0, 3.0])]


def test_gains_are_averaged_over_all_that_came_so_far():
    """From step 1 to 2 over three trials, from there to 3 over two: -2, -2, -4 and -1, 0."""
    trials = [*DONE, trial(2, State.PRUNED, [9.0, 5.0]), trial(3, State.PRUNED, [6.0])]
    found = parts(trials, {"value": "minimize"}, np.array([[1.0], [3.0], [np.nan], [np.nan]]))
    later, at_first = -0.5, -8 / 3 - 0.5
    assert found.trials[found.resting].tolist() == [2, 3]
    assert found.ends[found.resting, 0] == pytest.approx([5.0 + later, 6.0 + at_first])
    # of n gains, the next one strays by 1 + 1/n of their variance; and one trial may gain nothing
    last = np.var([-1.0, 0.0], ddof=1) * (1 + 1 / 2) + (0.5 / 2) ** 2
    begun = np.var([2.0, 2.0, 4.0], ddof=1) * (1 + 1 / 3) + (8 / 3 / 3) ** 2
    both = 0.0 + (0.5 / 2) * (8 / 3 / 3)  # of the two that made both steps, one strayed in the second alone
    assert found.sds[found.resting, 0] == pytest.approx(np.sqrt([last, begun + last + 2 * both]))
    assert found.shares[found.resting] == pytest.approx(np.log([2, 1]) / np.log(3))


def test_those_that_went_on_say_how_much_a_part_tells():
    """Where others rest, they count with what was to be expected of them there, beside what became of them."""
    trials = [*DONE, trial(2, State.PAUSED, [9.0, 5.0]), trial(3, State.PRUNED, [6.0])]
    found = parts(trials, {"value": "minimize"}, np.array([[1.0], [3.0], [np.nan], [np.nan]]))
    on = ~found.resting
    assert sorted(zip(found.trials[on].tolist(), found.shares[on].round(3).tolist(), strict=True)) == [
        (0, 0.0),
        (0, 0.631),
        (1, 0.0),
        (1, 0.631),
        (2, 0.0),
    ]
    at = {(i, round(s, 3)): end for i, s, (end,) in zip(found.trials, found.shares, found.ends, strict=True)}
    assert at[0, 0.631] == pytest.approx(2.0 - 0.5) and at[1, 0.0] == pytest.approx(5.0 - 8 / 3 - 0.5)


@pytest.mark.parametrize(("first", "every"), [(0, 1), (1, 1), (100, 100), (-3, 2)])
def test_shares_do_not_depend_on_how_steps_are_counted(first, every):
    whole = trial(0, State.COMPLETE, range(9), first=first, every=every)
    rest = [trial(n, State.PAUSED, range(n), first=first, every=every) for n in (1, 3)]
    found = parts([whole, *rest], {"value": "minimize"}, np.array([[1.0], [np.nan], [np.nan]]))
    assert found.shares[found.resting][0] == 0.0
    assert ((found.shares >= 0.0) & (found.shares < 1.0)).all()
    if first != -3:
        assert found.shares[found.resting] == pytest.approx([0.0, 0.5])


def test_a_result_may_differ_from_the_last_report():
    trials = [trial(0, State.COMPLETE, [4.0, 2.0], result=12.0), trial(1, State.PRUNED, [5.0])]
    assert history(trials).losses[1, 0] == pytest.approx(5.0 - 2.0 + 10.0)


def test_maximised_objectives_gain_upwards():
    trials = [trial(0, State.COMPLETE, [0.5, 0.8]), trial(1, State.PRUNED, [0.4])]
    assert history(trials, "maximize").losses[:, 0] == pytest.approx([-0.8, -0.7])


def test_steps_of_their_own_lie_on_a_line():
    """A trial that reports every second step says what lies between."""
    trials = [trial(0, State.COMPLETE, [4.0, 2.0, 1.0], every=2), trial(1, State.PRUNED, [9.0, 8.5])]
    assert history(trials).losses[1, 0] == pytest.approx(8.5 - 1.0 - 1.0)


@pytest.mark.parametrize(
    "trials",
    [
        [trial(0, State.PRUNED, [3.0, 2.5])],
        [trial(0, State.PRUNED, [3.0, 2.5]), trial(1, State.FAILED, [2.0]), trial(2, State.RUNNING, [1.0, 0.0, -9.0])],
        [trial(0, State.PRUNED, [3.0, 2.5]), trial(1, State.COMPLETE, [], result=1.0)],
    ],
)
def test_where_nothing_is_known_the_last_report_stands(trials):
    seen = history(trials)
    assert (seen.losses[0, 0], seen.sems[0, 0]) == (2.5, 0.0)


def test_what_never_reported_stays_unknown():
    trials = [*DONE, trial(2, State.PRUNED, []), trial(3, State.PRUNED, [1.0], name="other")]
    assert np.isnan(history(trials).losses[2:]).all()


def test_one_that_diverged_says_nothing_of_the_others():
    trials = [trial(n, State.COMPLETE, [1.0 + n, 0.5 + n]) for n in range(4)]
    trials += [trial(4, State.COMPLETE, [1.2, 1e200]), trial(5, State.PRUNED, [3.0])]
    seen = history(trials)
    assert 2.0 < seen.losses[5, 0] < 6.0 and seen.sems[5, 0] < 6.0


def test_gains_are_those_of_curves_whatever_their_level():
    trials = [trial(n, State.COMPLETE, [10.0 + k, k]) for n, k in enumerate((0.0, 0.1, 0.2, 9.0, 9.5))]
    seen = history([*trials, trial(5, State.PRUNED, [19.0])])
    assert (seen.losses[5, 0], seen.sems[5, 0]) == pytest.approx((9.0, 10.0 / 5))  # all five gained the same
    slow = [trial(n, State.COMPLETE, [0.3, 0.3] if n < 6 else [1.0, 0.05]) for n in range(10)]
    assert history([*slow, trial(10, State.PRUNED, [0.9])]).losses[10, 0] == pytest.approx(0.9 - 0.4 * 0.95)


@pytest.mark.parametrize(("n", "least"), [(1, 0.25), (2, 0.4), (4, 0.6), (12, 0.8)])
def test_the_doubt_of_an_end_is_as_large_as_its_error(n, least):
    """Who learns slowly does so in every step: as if gains were independent, the doubt was a third of the errors.

    Of one or two that went on, how much others may differ is not known, so that the doubt is the larger.
    """
    errors, sds = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        steps = np.arange(1, 31)
        curves = 2.0 * steps ** -rng.uniform(0.2, 1.0, n + 8)[:, None] + 0.01 * rng.standard_normal((n + 8, 30))
        trials = [trial(i, State.COMPLETE, curve) for i, curve in enumerate(curves[:n])]
        trials += [trial(n + i, State.PRUNED, curve[: 4 + i]) for i, curve in enumerate(curves[n:])]
        found = parts(trials, {"value": "minimize"}, results_of(trials))
        errors += (found.ends[found.resting, 0] - curves[n:, -1]).tolist()
        sds += found.sds[found.resting, 0].tolist()
    assert least < np.sqrt(np.mean(np.square(errors)) / np.mean(np.square(sds))) < 1.2


def test_two_objectives():
    def both(number, state, rows):
        reports = tuple(Report(i, {"a": a, "b": b}) for i, (a, b) in enumerate(rows))
        metrics = dict(reports[-1].metrics) if state is State.COMPLETE else {}
        return Trial(number, state, {"x": 0.1}, metrics, reports=reports, revision=number)

    trials = [both(0, State.COMPLETE, [(1.0, 9.0), (0.5, 10.0)]), both(1, State.PRUNED, [(2.0, 7.0)])]
    seen = wt.History(wt.Space({"x": (0.0, 1.0)}), trials, {"a": "minimize", "b": "maximize"})
    assert seen.losses[1] == pytest.approx([1.5, -8.0])


def test_thousands_of_steps_are_thinned():
    values = list(np.linspace(1.0, 0.0, 5000))
    trials = [trial(0, State.COMPLETE, values), trial(1, State.PRUNED, values[:2500])]
    assert history(trials).losses[1, 0] == pytest.approx(0.0, abs=0.02)


def test_curves_know_what_their_trial_reported():
    found = curves(DONE, {"value": "minimize"})
    assert list(found) == [0, 1]
    assert found[0].lowest.tolist() == [[4.0], [2.0], [1.0]] and found[0].mean[1] == [3.0]
    assert [found[0].up_to(s) for s in (0, 1, 2, 4)] == [None, 0, 1, None]
    assert [found[0].reaching(s) for s in (0, 2, 4)] == [0, 1, None]


@pytest.mark.once
def test_the_search_learns_from_pruned_trials():
    """Slow learners are stopped, and end best: the search finds them all the same.

    With last reports for results it went to the other end of the range, where curves fall fast: 0.0037 in the median.
    """
    ends = []
    for seed in range(5):

        def train(trial):
            rate = trial["rate"]
            floor = 0.02 * np.log10(rate / 0.02) ** 2 + 0.1 * (trial["share"] - 0.7) ** 2
            for step in range(1, 301, 6):
                value = floor + 0.4 * np.exp(-rate * step)
                trial.report(value, step=step)
                if trial.should_stop():
                    break
            return value

        space = {"rate": wt.Float(1e-3, 0.5, log=True), "share": (0.3, 1.0)}
        study = wt.Study(space, seed=seed, sampler="bayes", scheduler="median")
        study.optimize(train, n_trials=30)
        ends.append(study.best_value)
    assert np.median(ends) < 0.0015


def test_importance_looks_at_completed_trials_alone():
    def train(trial):
        trial.report(100 * trial["b"], step=1)
        if trial.number % 2:
            trial.prune()
        return trial["a"]

    study = wt.Study({"a": (0.0, 1.0), "b": (0.0, 1.0)}, seed=0, sampler="random")
    study.optimize(train, n_trials=40)
    from welltuned.stats import importance

    shares = importance(study)
    assert shares["a"] > 0.9 > 0.1 > shares["b"]


def misleading(n_whole, n_paused):
    """Trainings of nine steps whose first ones are the best at 0.2 and whose last ones are at 0.8."""
    space, rng = wt.Space({"x": (0.0, 1.0)}), np.random.default_rng(0)
    trials = []
    for number, x in enumerate(rng.random(n_whole + n_paused)):
        begun, done = (x - 0.2) ** 2, (x - 0.8) ** 2
        curve = [begun + (done - begun) * max(step - 3, 0) / 6 for step in range(1, 10)]
        is_whole = number < n_whole
        state = State.COMPLETE if is_whole else State.PAUSED
        one = trial(number, state, curve if is_whole else curve[:3])
        trials.append(one.but(params={"x": float(x)}))
    return wt.History(space, trials)


def test_a_process_finds_out_how_much_parts_tell():
    """Where early steps mislead, those that went on show it, and the paused trials are not believed."""
    seen, grid = misleading(6, 24), np.linspace(0, 1, 101)[:, None]
    last = [t.but(state=State.COMPLETE, metrics=dict(t.reports[-1].metrics)) for t in seen.trials]
    errors = {}
    kinds = {"believed": (wt.History(seen.space, last), False), "doubted": (seen, False), "parts": (seen, True)}
    for name, (known, partial) in kinds.items():
        model = fit_model(known, np.random.default_rng(0), partial=partial)
        predicted = model.objective.predict(model.embed(grid))[0]
        errors[name] = float(np.abs(predicted - (grid[:, 0] - 0.8) ** 2).mean())
    assert max(errors["doubted"], errors["parts"]) < 0.01 < 0.1 < errors["believed"]


def test_whole_trainings_alone_are_as_ever():
    """To the last bit: there is no feature of what does not vary."""
    seen = misleading(12, 0)
    one, other = (fit_model(seen, np.random.default_rng(0), partial=p).objective.posterior for p in (False, True))
    assert np.array_equal(one.thetas, other.thetas) and np.array_equal(one.alpha, other.alpha)


def folds(levels, hardness, seen, chance=0.0, seed=0):
    """Return trials whose results are the means of their reports; the later ones have seen some parts alone."""
    rng, trials = np.random.default_rng(seed), []
    for n, level in enumerate(levels):
        values = level + np.asarray(hardness) + chance * rng.standard_normal(len(hardness))
        if n < len(levels) - len(seen):
            trials.append(trial(n, State.COMPLETE, values, result=values.mean()))
        else:
            trials.append(trial(n, State.PRUNED, values[: seen[n - len(levels)]]))
    return trials


def test_means_of_some_parts_are_corrected_by_how_hard_these_were():
    hardness = [0.0, 3.0, -1.0, 2.0]
    seen = history(folds([0.1, 0.4, 0.2, 0.9, 0.7], hardness, seen=[1, 3]))
    assert seen.losses[:, 0] == pytest.approx(np.array([0.1, 0.4, 0.2, 0.9, 0.7]) + np.mean(hardness))
    assert seen.sems[3:, 0] == pytest.approx([0.0, 0.0], abs=1e-9)


@pytest.mark.parametrize("n", [2, 39])
def test_the_doubt_of_a_mean_is_that_of_a_sample_without_replacement(n):
    """Over many draws, the error of the mean that is expected is as large as it is said to be.

    Where few trials are complete, how hard the parts are is doubtful too.
    """
    errors, sds = [], []
    for seed in range(300):
        trials = folds(np.zeros(n + 1), [0.0, 3.0, -1.0, 2.0, 1.0], seen=[2], chance=0.5, seed=seed)
        whole = np.random.default_rng(seed).standard_normal((n + 1, 5))[-1].mean() * 0.5 + 1.0
        found = parts(trials, {"value": "minimize"}, results_of(trials))
        assert found.trials.tolist() == [n] and found.resting.all()
        errors.append(found.ends[0, 0] - whole)
        sds.append(found.sds[0, 0])
    sd = np.sqrt(np.mean(np.square(sds)))
    assert np.mean(errors) == pytest.approx(0.0, abs=0.06)
    assert np.std(errors) == pytest.approx(sd, rel=0.15)
    assert sd == pytest.approx(0.5 * np.sqrt((1 / 2 - 1 / 5) * (1 + 1 / n)), rel=0.1)


def results_of(trials):
    return np.array([[t.metrics.get("value", np.nan)] for t in trials])


def test_of_one_complete_trial_its_own_parts_tell_the_doubt():
    seen = history(folds([0.1, 0.4], [0.0, 2.0], seen=[1]))
    assert seen.losses[1, 0] == pytest.approx(1.4)
    assert seen.sems[1, 0] == pytest.approx(np.sqrt(2.0 * (1 - 1 / 2)))


def test_results_with_errors_of_their_own_leave_no_pruned_trial_surer():
    trials = folds([0.1, 0.4, 0.3], [0.0, 2.0], seen=[1])
    trials = [t.but(sems={"value": 0.3}) if t.state is State.COMPLETE else t for t in trials]
    assert history(trials).sems[2, 0] == pytest.approx(0.3)


def test_reports_whose_means_are_not_the_results_are_curves():
    trials = [trial(0, State.COMPLETE, [4.0, 2.0], result=2.0), trial(1, State.PRUNED, [5.0])]
    assert history(trials).losses[1, 0] == pytest.approx(3.0)


def test_folds_that_cancel_are_folds():
    """The mean of 0.1, 0.2 and -0.3 is 0 but for the order in which they are added."""
    trials = [trial(0, State.COMPLETE, [0.1, 0.2, -0.3], result=0.0), trial(1, State.PRUNED, [0.5])]
    found = parts(trials, {"value": "minimize"}, np.array([[0.0], [np.nan]]))
    assert found.shares.tolist() == [1.0]  # of a curve, the first step would be no share at all


@pytest.mark.parametrize("factor", [1e-200, 1e200, 1e308])
def test_curves_and_folds_of_any_size(factor):
    results = []
    for scale in (1.0, factor):
        curved = history(
            [trial(i, t.state, [scale * r.metrics["value"] / 5 for r in t.reports]) for i, t in enumerate(DONE)]
            + [trial(2, State.PRUNED, [scale])]
        )
        parted = history(
            [
                trial(i, State.COMPLETE, [scale * a, scale * b], result=scale * (a + b) / 2)
                for i, (a, b) in enumerate([(0.1, 0.4), (0.3, 0.2)])
            ]
            + [trial(2, State.PRUNED, [scale * 0.2])]
        )
        results += [v / scale for h in (curved, parted) for v in (h.losses[2, 0], h.sems[2, 0])]
    if factor < 1e300:
        assert results[4:] == pytest.approx(results[:4], rel=1e-9)
    assert np.isfinite(results).all()


def test_a_result_that_is_infinite_says_nothing_of_how_large_others_are():
    trials = [trial(0, State.COMPLETE, [1e200, 3e200]), trial(1, State.COMPLETE, [2e200, 4e200], result=np.inf)]
    seen = history([*trials, trial(2, State.PRUNED, [1e200])])
    assert seen.losses[2, 0] == pytest.approx(3e200) and seen.sems[2, 0] == pytest.approx(1e200)
