"""What the trials say: predictions, recommendations, stopping; on functions whose truth is known."""

import sys

import numpy as np
import pytest
from scipy.stats import norm

import welltuned as wt
from welltuned.stats import diagnostics, expected_gain, hindsight, outlook, predict, recommend, regret_bound
from welltuned.surrogate import gp
from welltuned.surrogate import model as models

SPACE = {"x": (-5.0, 5.0), "y": (-5.0, 5.0)}


def bowl(p):
    return (p["x"] - 2) ** 2 + (p["y"] + 1) ** 2


def noisy_study(seed, sd, n=40, **options):
    rng = np.random.default_rng(1000 + seed)
    study = wt.Study(SPACE, seed=seed, **options)
    study.optimize(lambda p: bowl(p) + sd * rng.standard_normal(), n_trials=n)
    return study


def filled(n, value, seed=0, **options):
    """A study with n random results and nothing else."""
    rng = np.random.default_rng(seed)
    study = wt.Study(SPACE, seed=0, **options)
    rows = [{"x": float(a), "y": float(b)} for a, b in rng.uniform(-5, 5, (n, 2))]
    study.add([(p, value(p, rng)) for p in rows])
    return study


@pytest.fixture(scope="module")
def study():
    found = wt.Study(SPACE, sampler="qmc", seed=0)
    found.optimize(bowl, n_trials=30)
    return found


# predictions


def test_predictions_are_in_the_objectives_units_and_honest(study):
    at = {"x": 1.3, "y": 0.4}
    one = study.predict(at)
    assert one.mean == pytest.approx(bowl(at), abs=4 * one.sd + 0.05) and one.sd < 1.0
    several = study.predict([at, {"x": -4.0, "y": 4.0}])
    assert several.mean.shape == several.sd.shape == (2,)
    assert several.mean[0] == pytest.approx(one.mean)


def test_predictions_of_a_maximised_objective_are_the_negative():
    up = filled(25, lambda p, rng: -bowl(p), direction="maximize")
    down = filled(25, lambda p, rng: bowl(p))
    at = {"x": 0.0, "y": 0.0}
    assert up.predict(at).mean == pytest.approx(-down.predict(at).mean)
    assert up.predict(at).sd == pytest.approx(down.predict(at).sd)


def test_failures_and_pruned_trials_say_nothing_of_values():
    clean, mixed = filled(40, lambda p, rng: bowl(p)), filled(40, lambda p, rng: bowl(p))
    rng = np.random.default_rng(1)
    mixed.add([({"x": float(a), "y": float(b)}, float("nan")) for a, b in rng.uniform(-5, 5, (40, 2))])
    for _ in range(3):
        trial = mixed.ask()
        trial.report(-100.0, 0)
        mixed.tell(trial, state="pruned")
    at = {"x": 2.0, "y": -1.0}
    assert mixed.predict(at) == clean.predict(at)
    assert mixed.recommend() == clean.recommend()
    assert diagnostics(mixed.history).r2 == diagnostics(clean.history).r2


@pytest.mark.parametrize("bad", [None, 5, "x", b"x"])
def test_what_cannot_be_predicted_is_refused(study, bad):
    with pytest.raises(wt.InvalidType, match="predict"):
        study.predict(bad)


def test_bad_requests_are_refused(study):
    with pytest.raises(wt.InvalidValue, match="outside"):
        study.predict({"x": 9.0, "y": 0.0})
    with pytest.raises(wt.InvalidValue, match="too few"):
        wt.Study(SPACE, seed=0).predict({"x": 0.0, "y": 0.0})
    with pytest.raises(wt.InvalidValue, match="objective='loss'"):
        predict(study.history, {"x": 0.0, "y": 0.0}, objective="loss")
    with pytest.raises(wt.InvalidValue, match=r"importance: objective=\['loss'\] is unknown; the study has"):
        wt.stats.importance(study, ["loss"])
    for function in (recommend, expected_gain, regret_bound, diagnostics, lambda s: outlook(s, 1.0)):
        for no_study in (None, study.trials):
            with pytest.raises(wt.InvalidType, match="neither a Study nor a History"):
                function(no_study)


def test_a_study_tells_what_its_history_does(study):
    point = {"x": 1.0, "y": 0.0}
    assert predict(study, point) == study.predict(point)
    assert recommend(study) == study.recommend()
    assert expected_gain(study) == expected_gain(study.history)
    assert regret_bound(study) == regret_bound(study.history)
    assert diagnostics(study).r2 == diagnostics(study.history).r2
    assert outlook(study, 1.0, 4).trials == outlook(study.history, 1.0, 4).trials


def test_one_of_several_objectives_can_be_predicted():
    study = wt.Study(SPACE, direction={"a": "minimize", "b": "maximize"}, sampler="random", seed=0)
    study.optimize(lambda p: {"a": bowl(p), "b": p["x"]}, n_trials=25)
    assert study.predict({"x": 3.0, "y": 0.0}, objective="b").mean == pytest.approx(3.0, abs=0.3)
    for function in (recommend, expected_gain, regret_bound):
        with pytest.raises(wt.InvalidValue, match=r"'a', 'b'.*best_trials"):
            function(study.history)


def test_diagnostics_tell_a_good_model_from_a_bad_one(study):
    good = diagnostics(study.history)
    assert good.r2 > 0.95 and good.numbers.tolist() == list(range(30))
    np.testing.assert_allclose(good.observed, [t.value for t in study.trials])
    noise = diagnostics(filled(60, lambda p, rng: rng.standard_normal()).history)
    assert noise.r2 < 0.3
    assert 0.75 <= noise.coverage <= 1.0
    assert 0.6 < noise.noise_sd < 1.4


@pytest.mark.parametrize("factor", [1e-9, 1e200, 1e300])
def test_values_of_any_size_have_diagnostics(factor):
    found = diagnostics(filled(20, lambda p, rng: factor * bowl(p)).history)
    assert np.isfinite([found.r2, found.coverage]).all() and found.r2 > 0.8


@pytest.mark.parametrize("size", [1e300, sys.float_info.max])
def test_values_as_large_as_numbers_are(size):
    """Another look at the largest float has a mean, a standard error and an outlook."""
    study = wt.Study({"x": (0.0, 1.0)}, noisy=True, seed=0)
    for x in (0.1, 0.1, 0.5, 0.5, 0.9, 0.9):
        study.add({"x": x}, size if x > 0.4 else -size * 0.5 * (1 + len(study.trials)))
    found = study.recommend()
    assert np.isfinite([found.mean, found.sd, found.average, found.sem, found.corrected]).all()
    assert found.observed == -size and found.params == {"x": 0.1}
    assert np.isfinite(outlook(study.history, 1.0, 5).gains).all()
    assert np.isfinite([expected_gain(study.history), regret_bound(study.history)]).all()
    assert wt.Patience(2).reason(study.history) is None


# recommendations


@pytest.mark.once
def test_d16_the_recommendation_is_better_than_the_luckiest_trial():
    """100 random noisy trials, 50 seeds: the recommended configuration is truly no worse in at least 80 % of them."""
    wins = []
    for seed in range(50):
        study = filled(100, lambda p, rng: bowl(p) + 8.0 * rng.standard_normal(), seed)
        wins.append(bowl(study.recommend().params) <= bowl(study.best.params))
    assert np.mean(wins) >= 0.8, np.mean(wins)


@pytest.mark.once
def test_d16_it_is_no_worse_where_a_search_has_chosen_the_trials():
    """Eight Bayesian searches of 40 noisy trials, most of them near the optimum: no worse in at least 80 %."""
    found = [noisy_study(seed, 4.0) for seed in range(8)]
    assert np.mean([bowl(s.recommend().params) <= bowl(s.best.params) for s in found]) >= 0.8


@pytest.mark.parametrize("seed", range(6))
def test_what_is_recommended_of_a_ragged_objective_is_good(seed):
    """A model sees noise where an objective without any is ragged; its best values are no luck and come again."""
    study = filled(60, lambda p, rng: np.sin(1e4 * p["x"]) * np.cos(1e4 * p["y"]), seed)
    found = study.recommend()
    assert found.noise_sd > 0.1, "the model takes it for noise"
    assert found.average <= np.quantile([t.value for t in study.trials], 0.1)


def test_of_several_looks_at_one_place_their_average_counts():
    """The luckiest of five looks would move its place by far more than what may come again of them."""
    looks = [(0.2, v) for v in (-5.0, 2.0, 2.0, 2.0, 2.0)] + [(0.8, v) for v in (2.5, -1.5, 2.5, -1.5, 0.5)]
    study = wt.Study({"x": (0.0, 1.0)}, noisy=True, seed=0)
    study.add([({"x": x}, v) for x, v in (*looks, (0.0, 2.0), (0.4, 2.1), (0.6, 2.2), (1.0, 2.3))])
    found = study.recommend()
    assert (found.params, found.replicates, found.average) == ({"x": 0.8}, 5, 0.5)


def test_of_a_few_noisy_results_a_recommendation_is_not_too_sure():
    """24 random results in five dimensions, 30 times: the truth is within two standard deviations in most cases."""
    within = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        study = wt.Study({f"x{i}": (0.0, 1.0) for i in range(5)}, seed=0)
        rows = [{f"x{i}": float(v) for i, v in enumerate(row)} for row in rng.random((24, 5))]
        study.add([(p, sum((v - 0.5) ** 2 for v in p.values()) + 0.15 * rng.standard_normal()) for p in rows])
        found = study.recommend()
        within.append(abs(sum((v - 0.5) ** 2 for v in found.params.values()) - found.mean) < 2 * found.sd)
    assert np.mean(within) > 0.75, np.mean(within)


def test_of_noise_that_is_known_nothing_is_taken_for_the_objective():
    """One value far below the others, from an evaluation whose standard error the objective returned."""
    rng = np.random.default_rng(0)
    study = wt.Study(SPACE, seed=0)
    rows = [{"x": float(a), "y": float(b)} for a, b in rng.uniform(-5, 5, (40, 2))]
    study.add([(p, (bowl(p), 1e-3)) for p in rows])
    study.add([({"x": -4.0, "y": 4.0}, (-300.0, 400.0))])
    assert study.recommend().params != {"x": -4.0, "y": 4.0}


def test_the_corrected_best_is_not_biased_and_the_observed_one_is():
    """25 searches of 40 noisy trials: on average the corrected best is within one standard error of the truth."""
    observed, corrected = [], []
    for seed in range(25):
        study = noisy_study(seed, 4.0, sampler="random")
        found, truth = study.recommend(), bowl(study.best.params)
        observed.append(found.observed - truth)
        corrected.append(found.corrected - truth)
    error = 4.0  # of one evaluation
    assert abs(np.mean(corrected)) < error / 2
    assert np.mean(observed) < -error


def test_many_results_are_thinned_without_choosing_the_lucky_ones():
    """2,000 results of pure noise: what is predicted is their mean, not that of the best."""
    study = filled(2000, lambda p, rng: rng.standard_normal())
    found = study.recommend()
    assert abs(found.mean) < 2.5 * found.sd < 1.5, "the lowest of 400 means, each off by its own error"
    assert abs(found.corrected) < 0.5 < 2.0 < abs(found.observed)
    assert abs(study.predict({"x": 0.0, "y": 0.0}).mean) < 0.35


def test_replicates_are_counted_and_averaged():
    study = filled(12, lambda p, rng: 5.0 + bowl(p))
    study.add([({"x": 2.0, "y": -1.0}, v) for v in (0.1, 0.3, 0.2)])
    found = study.recommend()
    assert found.params == {"x": 2.0, "y": -1.0}
    assert (found.replicates, found.average) == (3, pytest.approx(0.2))
    assert found.sem == pytest.approx(0.1 / np.sqrt(3))
    assert found.observed == 0.1


def test_a_handful_of_results_is_averaged_too():
    study = wt.Study(SPACE, noisy=True, seed=0)
    study.add([({"x": 0.0, "y": 0.0}, v) for v in (1.0, 5.0, 3.0)])
    found = study.recommend()
    assert (found.replicates, found.average, found.observed) == (3, 3.0, 1.0)
    assert found.sem == pytest.approx(2 / np.sqrt(3))
    assert np.isnan(found.sd)


def test_the_standard_error_that_the_objective_gave_is_reported():
    study = filled(10, lambda p, rng: (bowl(p), 0.5))
    assert study.recommend().sem == 0.5


@pytest.mark.once
def test_noisy_searches_look_again():
    """A search that knows of the noise evaluates some configurations more than once; one that does not never does."""
    noisy, plain = noisy_study(0, 8.0, 50, noisy=True), noisy_study(0, 8.0, 50)
    keys = [t.key for t in noisy.trials]
    assert len(set(keys)) < len(keys)
    assert len({t.key for t in plain.trials}) == 50
    assert max(keys.count(k) for k in keys) > 1


def test_nothing_to_recommend():
    study = wt.Study(SPACE, seed=0)
    with pytest.raises(wt.NoCompletedTrial, match="no completed trial"):
        study.recommend()
    for _ in range(5):
        trial = study.ask()
        trial.constrain("never", 1.0)
        study.tell(trial, 1.0)
    with pytest.raises(wt.NoCompletedTrial, match="violates"):
        study.recommend()
    with pytest.raises(wt.NoCompletedTrial, match="violates"):
        _ = study.best
    with pytest.raises(wt.InvalidValue, match="never"):
        expected_gain(study.history)


# stopping


@pytest.mark.once
def test_the_expected_gain_shrinks_as_the_optimum_is_found():
    """On average of four searches: in a single one, eight trials may know less of what is left to gain than sixteen."""
    gains, studies = [], [wt.Study(SPACE, seed=seed) for seed in range(4)]
    for n in (8, 16, 30):
        for study in studies:
            study.optimize(bowl, n_trials=n)
        gains.append(np.mean([expected_gain(study.history) for study in studies]))
    assert gains[0] > gains[1] > gains[2] >= 0, gains
    assert gains[2] < 0.01


def test_units_scale_with_the_objective():
    small, large = (filled(20, lambda p, rng, f=f: f * bowl(p)).history for f in (1.0, 1000.0))
    assert expected_gain(large) == pytest.approx(1000 * expected_gain(small), rel=0.05)
    assert regret_bound(large) == pytest.approx(1000 * regret_bound(small), rel=0.05)


def test_no_gain_is_expected_of_an_exhausted_space():
    study = wt.Study({"n": wt.Int(0, 9)}, sampler="random", seed=0)
    study.optimize(lambda p: (p["n"] - 3.3) ** 2, n_trials=10)
    assert expected_gain(study.history) == 0.0


def test_constraints_count_in_what_is_expected():
    """The optimum of the objective is where the constraint fails: there is nothing to gain there."""

    def objective(trial):
        trial.constrain("positive", -trial["x"])
        return (trial["x"] + 4) ** 2

    study = wt.Study({"x": (-5.0, 5.0)}, seed=0)
    study.optimize(objective, n_trials=60, stop=wt.ExpectedGain(0.05, after=15))
    assert study.stop_reason.startswith("expected gain")
    assert study.best.value == pytest.approx(16.0, abs=0.2)
    assert expected_gain(study.history) < 0.05
    assert outlook(study.history, 0.1).gains[-1] < 1.0


def test_the_regret_bound_holds_and_shrinks():
    """The true regret is below the bound; with more trials the bound is lower."""
    bounds = []
    for n in (10, 25):
        study = wt.Study(SPACE, seed=1)
        study.optimize(bowl, n_trials=n)
        bounds.append(regret_bound(study.history))
        assert study.best.value <= bounds[-1] + 1e-9
    assert bounds[1] < bounds[0]


@pytest.mark.parametrize("confidence", [0, 1, -0.5, True, "high"])
def test_bad_confidence(study, confidence):
    kind = wt.InvalidType if isinstance(confidence, (bool, str)) else wt.InvalidValue
    with pytest.raises(kind, match=f"confidence={confidence!r}"):
        regret_bound(study.history, confidence)


@pytest.mark.once
def test_the_outlook_says_how_many_trials_are_worth_it():
    few = filled(8, lambda p, rng: bowl(p)).history
    dear, cheap = outlook(few, worth=5.0), outlook(few, worth=0.001)
    assert dear.trials <= cheap.trials
    assert cheap.interval[0] <= cheap.trials <= cheap.interval[1]
    assert cheap.gains.shape == cheap.low.shape == (100,)
    assert repr(cheap).startswith(f"Outlook(trials={cheap.trials}, interval=(")  # of 300 numbers, nobody found it
    assert (np.diff(cheap.gains) >= 0).all() and (cheap.low <= cheap.gains + 1e-12).all()
    late = wt.Study(SPACE, seed=3)
    late.optimize(bowl, n_trials=30)
    assert outlook(late.history, worth=0.05).trials == 0


def test_a_search_that_finds_nothing_expects_less():
    """The same results, the best of them first or last: what was promised since then did not come."""
    results = [({"x": x, "y": y}, bowl({"x": x, "y": y})) for x, y in np.random.default_rng(3).uniform(-5, 5, (30, 2))]
    best, found = results.pop(min(range(30), key=lambda i: results[i][1])), []
    for order in ([best, *results], [*results, best]):
        study = wt.Study(SPACE, seed=0)
        study.add(order)
        found.append((expected_gain(study.history), outlook(study.history, 0.01, horizon=10).gains[-1]))
    stale, fresh = found
    assert stale[0] < 0.7 * fresh[0]
    assert stale[1] < 0.7 * fresh[1]


def test_an_outlook_passes_over_times_of_which_nothing_allowed_is_known(monkeypatch):
    """Of many results a model knows some; that the only allowed one was left out then was an error now."""
    monkeypatch.setattr(models, "MODEL_POINTS", 8)

    def objective(trial):
        trial.constrain("late", -1.0 if trial.number in (2, 38, 39) else 1.0)
        return bowl(trial) + 100.0 * (trial.number == 2)

    study = wt.Study(SPACE, sampler="random", seed=0)
    study.optimize(objective, n_trials=40)
    assert outlook(study.history, worth=0.1, horizon=3).gains[-1] > 0.0


def test_promises_are_counted_one_after_the_other():
    """Observations apart from each other, so that none tells of another: what is promised is known."""
    y = np.array([0.0, 1.0, 1.0, 1.0, -0.2, 1.0])
    phi = 1e3 * np.arange(6.0)[:, None]
    d = gp.Observations(phi, y, np.zeros(1, dtype=int), 1, np.zeros(6))
    p = gp.condition(np.array([[0.0, 0.0, -20.0]]), d, mean=np.zeros(1))  # a normal with mean 0 and variance 1 anywhere

    def promised(best):
        return norm.pdf(best) + best * norm.cdf(best)

    total = promised(0.0) + promised(0.0) + promised(-0.2)  # of the last three
    kept = hindsight.kept_promises(p, np.ones(6, dtype=bool))
    assert kept == pytest.approx((0.2 + total / 3) / (total + total / 3), rel=1e-6)
    assert hindsight.kept_promises(p, np.ones(4, dtype=bool)) == pytest.approx(1 / 3)  # of two, nothing came
    # those that violate constraints are neither gains nor what is to be improved on
    assert hindsight.kept_promises(p, np.arange(6) % 2 == 1) == pytest.approx(1 / 2)
    assert hindsight.kept_promises(p, np.arange(6) == 2) == 1.0
    assert hindsight.multiple(0.0, 0.0) == 1.0
    assert (hindsight.multiple(2.0, 1.0), hindsight.multiple(0.0, 1.0), hindsight.multiple(1.0, 9.0)) == (0.5, 2.0, 2.0)


@pytest.mark.parametrize(
    ("worth", "horizon"), [(0, 10), (-1, 10), ("1", 10), (True, 10), (1.0, 0), (1.0, 2.5), (1.0, 10**6)]
)
def test_bad_outlooks(study, worth, horizon):
    with pytest.raises((wt.InvalidValue, wt.InvalidType), match=r"worth|horizon"):
        outlook(study.history, worth, horizon)


def test_the_stop_rule_waits_and_then_stops():
    study = wt.Study(SPACE, seed=0)
    study.optimize(bowl, n_trials=60, stop=wt.ExpectedGain(0.01, trials=2, after=12))
    assert study.stop_reason.startswith("expected gain")
    assert 12 <= len(study.trials) < 60
    assert study.best.value < 0.05


@pytest.mark.parametrize(
    "settings", [{"below": 0}, {"below": "x"}, {"below": 1.0, "trials": 0}, {"below": 1.0, "after": 1.5}]
)
def test_bad_stop_rules(settings):
    with pytest.raises((wt.InvalidValue, wt.InvalidType), match="ExpectedGain"):
        wt.ExpectedGain(**settings)


def test_the_stop_rule_refuses_several_objectives():
    study = wt.Study(SPACE, direction=["minimize"] * 2, seed=0)
    with pytest.raises(wt.InvalidValue, match="one objective"):
        study.optimize(lambda p: (0.0, 0.0), n_trials=3, stop=wt.ExpectedGain(1.0))


def test_the_luckiest_is_known_beyond_what_a_model_takes():
    """A thousand results: the best observed value is that of all of them."""
    rng = np.random.default_rng(0)
    study = wt.Study({"x": (0.0, 1.0)}, seed=0, noisy=True)
    study.add([({"x": float(x)}, float((x - 0.3) ** 2 + 0.1 * rng.normal())) for x in rng.random(1000)])
    found = study.recommend()
    assert found.observed == study.best_value and found.corrected > found.observed


def test_few_results_of_which_some_do_not_fit():
    study = wt.Study({"x": (0.0, 1.0)}, seed=0)
    study.add([({"x": 0.9}, 1.0), ({"x": 0.2}, 2.0)])
    study.space = {"x": (0.0, 0.5)}
    assert study.recommend().params == {"x": 0.2} and study.recommend().observed == 2.0


@pytest.mark.parametrize("prior", [None, norm(0.5, 0.01)])
def test_what_was_believed_beforehand_makes_nothing_important(prior):
    rng = np.random.default_rng(0)
    study = wt.Study({"x": wt.Float(0.0, 1.0, prior=prior), "y": (0.0, 1.0)}, sampler="random", seed=0)
    study.add([({"x": a, "y": b}, a + b) for a, b in rng.random((60, 2)).tolist()])
    shares = wt.stats.importance(study)
    assert shares["x"] == pytest.approx(0.5, abs=0.15) and shares["y"] == pytest.approx(0.5, abs=0.15)


def test_nothing_is_worth_it_where_all_is_tried():
    study = wt.Study({"a": (1, 3), "b": (1, 3)}, seed=0)
    study.optimize(lambda p: (p["a"] - 2) ** 2 + p["b"], n_trials=9)
    assert outlook(study.history, worth=0.001).trials == 0
