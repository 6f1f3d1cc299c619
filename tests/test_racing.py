"""Cross-validation that wastes nothing and leaks nothing: folds that are left out, rows that fits stop on."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest
import sklearn
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, TimeSeriesSplit, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import test_sklearn
import welltuned as wt
from test_sklearn import ALL, die_after, dies, every_class, lines, log_lines, same_results_of_two, search, stored
from welltuned.errors import InvalidType, InvalidValue
from welltuned.sklearn import BayesSearchCV, GridSearchCV, RandomizedSearchCV, TunedSearchCV
from welltuned.sklearn.racing import run_heats
from welltuned.trial import State

# races

N_FOLDS = 5
DATA = np.arange(20.0)[:, None], np.repeat([0, 1], 10)


class Given(ClassifierMixin, BaseEstimator):
    """Scores what a table says of candidate ``a`` on the fold that it meets."""

    fits = 0
    table = np.empty((0, N_FOLDS))

    def __init__(self, a=0.0):
        self.a = a

    def fit(self, X, y):
        type(self).fits += 1
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.zeros(len(X))

    def score(self, X, y):
        value = self.table[round(self.a), FOLD_OF[X[0, 0]]]
        if value == "never":
            raise ArithmeticError
        return float(value)


FOLDS = list(StratifiedKFold(N_FOLDS).split(*DATA))
FOLD_OF = {DATA[0][test[0], 0]: j for j, (_, test) in enumerate(FOLDS)}


def race(table, order=None, racing=True, **options):
    """Search a table of scores, its rows in an order."""
    Given.table, Given.fits = np.asarray(table), 0
    candidates = [float(i) for i in (range(len(table)) if order is None else order)]
    space = {"a": candidates}
    found = RandomizedSearchCV(
        Given(), space, n_iter=len(candidates), cv=FOLDS, racing=racing, random_state=0, **{"refit": False, **options}
    )
    return found.fit(*DATA)


def noisy(n=12, spread=0.01, seed=0):
    """A table of candidates that differ in level, on folds that differ in hardness more than these by chance."""
    rng = np.random.default_rng(seed)
    levels = np.linspace(0.5, 0.9, n)[rng.permutation(n)]
    return levels[:, None] + np.linspace(-0.3, 0.0, N_FOLDS) + spread * rng.standard_normal((n, N_FOLDS))


def test_d9_races_save_fits_and_lose_little():
    """Scores of real models in 20 orders: at least 40 % of the fits are saved, for at most 0.2 % of the score."""
    rng = np.random.default_rng(0)
    X, y = load_wine(return_X_y=True)
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=0)
    models = [SVC(C=10.0 ** rng.uniform(-2, 3), gamma=10.0 ** rng.uniform(-7, 0)) for _ in range(40)]
    scores = np.array([cross_val_score(model, X, y, cv=folds) for model in models])
    saved, loss = [], []
    for seed in range(20):
        table = scores[np.random.default_rng(seed).permutation(len(scores))[:20]]
        found = race(table)
        fits = found.cv_results_["n_folds"].sum()
        assert Given.fits == fits
        saved.append(1.0 - fits / table.size)
        loss.append(1.0 - found.best_score_ / table.mean(axis=1).max())
    assert np.mean(saved) >= 0.4
    assert np.mean(loss) <= 0.002


def test_d9_results_of_a_race_can_be_read():
    table = noisy()
    found = race(table, refit=True, return_train_score=True)
    results, n = found.cv_results_, found.cv_results_["n_folds"]
    splits = np.column_stack([results[f"split{j}_test_score"] for j in range(N_FOLDS)])
    assert n.min() < N_FOLDS == n.max()
    assert (np.isfinite(splits).sum(axis=1) == n).all()
    at = [round(params["a"]) for params in results["params"]]
    np.testing.assert_array_equal(splits, np.where(np.isfinite(splits), table[at], np.nan))
    np.testing.assert_allclose(results["mean_test_score"], np.nanmean(splits, axis=1))
    np.testing.assert_allclose(results["std_test_score"], np.nanstd(splits, axis=1))
    for key in ("mean_fit_time", "std_fit_time", "mean_score_time", "mean_train_score", "std_train_score"):
        assert np.isfinite(results[key]).all(), key
    complete, ranks = n == N_FOLDS, results["rank_test_score"]
    assert ranks[complete].max() < ranks[~complete].min()
    assert complete[found.best_index_]
    assert round(found.best_params_["a"]) == table.mean(axis=1).argmax()
    assert found.best_score_ == pytest.approx(table.mean(axis=1).max())
    states = [t.state for t in found.study_.trials]
    assert (states.count(State.COMPLETE), states.count(State.PRUNED)) == (complete.sum(), (~complete).sum())


def test_d9_folds_that_are_easy_do_not_make_a_winner():
    """A mean over the easiest folds alone may be the highest of all, and is not the best."""
    table = noisy()[:, ::-1]
    results = race(table).cv_results_
    raced = results["n_folds"] < N_FOLDS
    assert results["mean_test_score"][raced].max() > results["mean_test_score"][~raced].max()
    assert results["rank_test_score"][raced].min() > results["rank_test_score"][~raced].max()


def test_d9_without_racing_nothing_changes():
    plain = race(noisy(), racing=False)
    assert Given.fits == 12 * N_FOLDS
    assert "n_folds" not in plain.cv_results_
    assert all(set(r.metrics) & {"score"} == set() for t in plain.study_.trials for r in t.reports)
    assert all(inspect.signature(cls).parameters["racing"].default is False for cls in ALL)


@every_class
def test_d9_every_search_races(cls):
    X, y = load_wine(return_X_y=True)
    space = {"C": (1e-3, 1e3, "log-uniform"), "gamma": (1e-7, 1.0, "log-uniform")}
    found = search(cls, SVC(), space, 4 if cls is GridSearchCV else 16, cv=5, racing=True).fit(X, y)
    n = found.cv_results_["n_folds"]
    assert len(n) == 16
    assert n[found.best_index_] == 5
    assert n.sum() < 80
    assert found.best_score_ >= cross_val_score(found.best_estimator_, X, y, cv=5).mean() - 1e-12


@every_class
def test_d9_a_killed_race_ends_like_one_that_was_not(cls, tmp_path):
    (tmp_path / "whole").mkdir()
    options = {"racing": True, "cv": 3, "n": 8 if cls is not GridSearchCV else 4}
    whole = stored(cls, tmp_path / "whole", **options).fit(test_sklearn.X, test_sklearn.y)
    for n in (2, 4, 5, 7):
        assert dies(die_after(n, stored(cls, tmp_path, **options))) == 9
    again = stored(cls, tmp_path, **options).fit(test_sklearn.X, test_sklearn.y)
    same_results_of_two(again, whole)
    fits = log_lines(tmp_path / "log")[:-1]
    assert len(fits) == len(set(fits)) == whole.cv_results_["n_folds"].sum() < 3 * len(whole.cv_results_["params"])
    assert set(fits) == set(log_lines(tmp_path / "whole" / "log")[:-1])
    third = stored(cls, tmp_path, **options).fit(test_sklearn.X, test_sklearn.y)
    same_results_of_two(third, whole)
    assert lines(tmp_path / "log") == len(fits) + 2


def test_d9_a_search_that_wants_all_folds_does_not_take_those_of_a_race(tmp_path):
    stored(RandomizedSearchCV, tmp_path, racing=True, n=6).fit(test_sklearn.X, test_sklearn.y)
    whole = stored(RandomizedSearchCV, tmp_path, n=6).fit(test_sklearn.X, test_sklearn.y)
    assert np.isfinite([whole.cv_results_[f"split{j}_test_score"] for j in range(2)]).all()


def test_d9_a_candidate_that_failed_on_a_fold_runs_no_other():
    table = noisy().astype(object)
    table[3, 0] = np.nan
    table[5, 2] = np.nan
    with pytest.warns(UserWarning, match="non-finite"):
        found = race(table, order=[*range(6, 12), 3, 5, 0, 1, 2, 4])
    results = found.cv_results_
    at = [round(params["a"]) for params in results["params"]]
    assert results["n_folds"][at.index(3)] == 1
    assert results["n_folds"][at.index(5)] <= 3
    assert np.isnan(results["mean_test_score"][at.index(3)])
    assert results["rank_test_score"][at.index(3)] == results["rank_test_score"].max()


class Failing(Given):
    def fit(self, X, y):
        if self.a == 1.0:
            raise ArithmeticError("cannot work")
        return super().fit(X, y)


@pytest.mark.parametrize(("error_score", "n_folds"), [(np.nan, 1), (0.0, 1)])
def test_d9_error_score_in_a_race(error_score, n_folds):
    Given.table = noisy()
    one = GridSearchCV(Failing(), {"a": [0.0, 1.0, 2.0]}, cv=FOLDS, racing=True, error_score=error_score, refit=False)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        results = one.fit(*DATA).cv_results_
    assert FitFailedWarning in {w.category for w in said}
    assert results["n_folds"][1] == n_folds
    np.testing.assert_equal(results["mean_test_score"][1], error_score)
    with pytest.raises(ArithmeticError):
        one.set_params(error_score="raise").fit(*DATA)


def test_d9_a_callable_refit_sees_complete_candidates_alone():
    shown = []

    def first_best(results):
        shown.append(results)
        return int(np.argmax(results["mean_test_score"]))

    found = race(noisy()[:, ::-1], refit=first_best)
    assert (shown[0]["n_folds"] == N_FOLDS).all()
    assert len(shown[0]["params"]) == (found.cv_results_["n_folds"] == N_FOLDS).sum()
    assert found.cv_results_["n_folds"][found.best_index_] == N_FOLDS
    assert found.cv_results_["rank_test_score"][found.best_index_] == 1


def test_d9_several_metrics_are_raced_by_the_one_that_counts():
    X, y = load_wine(return_X_y=True)
    space = {"C": (1e-3, 1e3, "log-uniform"), "gamma": (1e-7, 1.0, "log-uniform")}
    options = {"n_iter": 12, "cv": 5, "racing": True, "random_state": 0, "scoring": ["accuracy", "f1_macro"]}
    found = RandomizedSearchCV(SVC(), space, refit="f1_macro", **options).fit(X, y)
    n = found.cv_results_["n_folds"]
    assert n.sum() < 60
    assert n[found.best_index_] == 5
    assert found.best_score_ == found.cv_results_["mean_test_f1_macro"].max()
    with pytest.raises(InvalidValue, match="one metric to race by"):
        RandomizedSearchCV(SVC(), space, refit=False, **options).fit(X, y)
    options["scoring"] = lambda model, X, y: {"accuracy": model.score(X, y), "other": 1.0}
    with pytest.raises(InvalidValue, match="one metric to race by"):
        RandomizedSearchCV(SVC(), space, refit=False, **options).fit(X, y)
    assert RandomizedSearchCV(SVC(), space, refit="accuracy", **options).fit(X, y).best_score_ > 0.6


def test_d9_time_budget_of_a_race():
    found = race(noisy(), time_budget=60.0)
    assert len(found.cv_results_["params"]) == 12


def test_d9_two_processes_race():
    X, y = load_wine(return_X_y=True)
    options = {"n_iter": 10, "cv": 5, "racing": True, "random_state": 0, "n_jobs": 2}
    space = {"C": (1e-3, 1e3, "log-uniform"), "gamma": (1e-7, 1.0, "log-uniform")}
    first, second = (BayesSearchCV(SVC(), space, n_points=2, **options).fit(X, y) for _ in range(2))
    same_results_of_two(first, second)
    assert first.cv_results_["n_folds"].sum() < 50


def test_d9_verbose_and_bad_settings(capsys):
    race(noisy(), verbose=1)
    assert "totalling at most 60 fits" in capsys.readouterr().out
    for bad in ("yes", 0.5, wt.Race, None):
        with pytest.raises(InvalidType, match="racing="):
            race(noisy(), racing=bad)


def test_d9_a_raced_candidate_counts_with_what_its_folds_promise():
    """Samplers see the mean over all folds that is to be expected, though a race ends on easy or hard ones."""
    table = noisy(spread=0.005)
    study = race(table).study_
    raced = [t for t in study.trials if t.state is State.PRUNED]
    assert raced
    truth = {t.number: -table[round(t.params["a"])].mean() for t in study.trials}
    for trial in raced:
        assert study.history.losses[trial.number, 0] == pytest.approx(truth[trial.number], abs=0.03)
        assert study.history.sems[trial.number, 0] > 0


def test_heats_run_folds_side_by_side_and_end_together():
    said = []

    def is_lost(candidate, n):
        said.append(("judge", candidate, n))
        return candidate in "bd" and n >= 1

    run_heats(
        "abcd",
        4,
        2,
        fit=lambda candidates, folds: said.append(("fit", "".join(candidates), list(folds))),
        is_lost=is_lost,
        end=lambda candidate: said.append(("end", candidate)),
    )
    half = [
        ("fit", "ab", [0]),
        ("judge", "a", 1),
        ("judge", "b", 1),
        ("fit", "a", [1, 2]),
        ("judge", "a", 3),
        ("fit", "a", [3]),
        ("end", "a"),
        ("end", "b"),
    ]
    others = str.maketrans("ab", "cd")
    assert said == half + [(kind, who.translate(others), *rest) for kind, who, *rest in half]


# rows to stop on

X, y = load_breast_cancer(return_X_y=True)
X, y = np.column_stack([np.arange(120.0), X[:120, :3]]), y[:120]
SEEN: list[dict[str, np.ndarray]] = []


class Stopper(ClassifierMixin, BaseEstimator):
    """Notes which rows it fits, stops on and scores; the first column says which row one is."""

    def __init__(self, a=0.0):
        self.a = a

    def fit(self, X, y, sample_weight=None, eval_set=None, sample_weight_eval_set=None, verbose=True):
        ((X_held, y_held),) = eval_set
        self.classes_ = np.unique(y)
        SEEN.append({"fit": ids(X), "held": ids(X_held), "y": y, "y_held": y_held, "verbose": verbose})
        if sample_weight is not None:
            SEEN[-1] |= {"weight": sample_weight, "held_weight": sample_weight_eval_set[0]}
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])

    def score(self, X, y, sample_weight=None):
        SEEN[-1].setdefault("score", []).append(ids(X))
        return self.a


class SparseStopper(BaseEstimator):
    """Takes several labels a row, most of which it has not."""

    def __init__(self, a=0.0):
        self.a = a

    def fit(self, X, y, eval_set=None):
        SEEN.append({"y": y, "y_held": eval_set[0][1]})
        return self


class Shift(TransformerMixin, BaseEstimator):
    """Adds 1000 to the number of a row, and notes which ones it was fitted to."""

    def fit(self, X, y=None):
        SEEN.append({"transformed": ids(X)})
        self.n_ = len(X)
        return self

    def transform(self, X):
        return np.add(X, [1000.0, 0.0, 0.0, 0.0])


def ids(X):
    return np.asarray(X)[:, 0].astype(int) % 1000


def stop(estimator=None, fit=None, **options):
    """Search, and return what each fit saw."""
    SEEN.clear()
    name = "a" if not isinstance(estimator, Pipeline) else "stopper__a"
    options = {"n_iter": 2, "cv": 3, "early_stopping": True, "random_state": 0, **options}
    RandomizedSearchCV(estimator or Stopper(), {name: [0.1, 0.2]}, **options).fit(X, y, **(fit or {}))
    return [seen for seen in SEEN if "fit" in seen]


def assert_disjoint(seen, rows=120):
    for one in seen[:-1]:
        parts = [one["fit"], one["held"], one["score"][0]]
        assert sum(map(len, parts)) == len(np.unique(np.concatenate(parts))) == rows
    assert sorted([*seen[-1]["fit"], *seen[-1]["held"]]) == list(range(rows))  # the final one, which nothing scores


@pytest.mark.parametrize("share", [True, 0.1, 0.25, 0.5])
def test_d9_rows_to_fit_to_stop_on_and_to_score_are_disjoint(share):
    seen = stop(early_stopping=share)
    assert len(seen) == 2 * 3 + 1
    assert_disjoint(seen)
    for one in seen:
        n = len(one["fit"]) + len(one["held"])
        assert len(one["held"]) == int(np.ceil(n * (0.1 if share is True else share)))
        assert np.array_equal(one["y"], y[one["fit"]])
        assert np.array_equal(one["y_held"], y[one["held"]])
        assert one["y_held"].mean() == pytest.approx(y[[*one["fit"], *one["held"]]].mean(), abs=0.06)  # stratified
        assert one["verbose"] is False


def test_d9_all_candidates_stop_on_the_same_rows():
    first, again, other = stop(), stop(), stop(random_state=1)
    for a, b, c in zip(first[:3], first[3:6], again[:3], strict=True):
        assert np.array_equal(a["held"], b["held"])
        assert np.array_equal(a["held"], c["held"])
    assert not np.array_equal(first[0]["held"], other[0]["held"])
    assert np.array_equal(first[0]["held"], stop(racing=True)[0]["held"])


def test_d9_a_pipeline_fits_its_transformers_on_the_rows_to_fit(tmp_path):
    for memory in (None, str(tmp_path)):
        seen = stop(Pipeline([("shift", Shift()), ("stopper", Stopper())], memory=memory))
        assert_disjoint(seen)
        fitted = [one["transformed"] for one in SEEN if "transformed" in one]
        assert fitted
        assert {tuple(rows) for rows in fitted} <= {tuple(one["fit"]) for one in seen}


def test_d9_a_pipeline_of_transformers_is_fitted_after_the_search():
    model = make_pipeline(Shift(), Stopper())
    found = RandomizedSearchCV(model, {"stopper__a": [1.0]}, n_iter=1, cv=2, early_stopping=0.2).fit(X, y)
    assert found.best_estimator_[0].n_ == 96
    assert len(found.predict(X)) == 120


def test_d9_a_sparse_target_is_divided_as_well():
    labels = csr_matrix(np.column_stack([y, 1 - y]))
    SEEN.clear()
    options = {"n_iter": 1, "cv": KFold(2), "early_stopping": 0.2, "scoring": lambda *_: 1.0}
    RandomizedSearchCV(SparseStopper(), {"a": [1.0]}, **options).fit(X, labels)
    assert [(one["y"].shape[0], one["y_held"].shape[0]) for one in SEEN] == [(48, 12), (48, 12), (96, 24)]


def test_d9_what_belongs_to_rows_is_divided_with_them():
    weight = np.arange(120) + 0.5
    for estimator, name in ((None, "sample_weight"), (make_pipeline(Shift(), Stopper()), "stopper__sample_weight")):
        seen = stop(estimator, {name: weight})
        assert_disjoint(seen)
        for one in seen:
            assert np.array_equal(one["weight"], one["fit"] + 0.5)
            assert np.array_equal(one["held_weight"], one["held"] + 0.5)
    with pytest.raises(ValueError, match="step__parameter"):
        stop(make_pipeline(Shift(), Stopper()), {"sample_weight": weight}, error_score="raise")


def test_d9_routed_weights_are_divided_too():
    weight = np.arange(120) + 0.5
    with sklearn.config_context(enable_metadata_routing=True):
        stopper = Stopper().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        piped = make_pipeline(Shift(), stopper)
        if hasattr(piped, "set_score_request"):  # some releases of scikit-learn want it said of the pipeline too
            piped.set_score_request(sample_weight=True)
        for estimator in (stopper, piped):
            seen = stop(estimator, {"sample_weight": weight})
            assert_disjoint(seen)
            assert all(np.array_equal(one["weight"], one["fit"] + 0.5) for one in seen)
            assert all(np.array_equal(one["held_weight"], one["held"] + 0.5) for one in seen)


def test_d9_groups_stay_together():
    groups = np.arange(120) // 5
    seen = stop(fit={"groups": groups}, cv=GroupKFold(3), early_stopping=0.2)
    assert_disjoint(seen)
    for one in seen:
        assert not set(groups[one["fit"]]) & set(groups[one["held"]])
        assert 0.1 < len(one["held"]) / (len(one["fit"]) + len(one["held"])) < 0.3


def test_d9_all_copies_of_a_row_go_the_same_way():
    """A bootstrap draws rows again, and what is stopped on must not be fitted as well."""
    drawn = [np.random.default_rng(i).integers(0, 120, 120) for i in range(3)]
    for cv, groups in ((drawn, None), (drawn, np.arange(120) // 5), ([np.sort(rows) for rows in drawn], None)):
        cv = [(rows, np.setdiff1d(np.arange(120), rows)) for rows in cv]
        for one, (rows, _) in zip(stop(cv=cv, fit={"groups": groups}, early_stopping=0.2)[:3], cv, strict=True):
            assert not set(one["fit"]) & set(one["held"])
            assert sorted([*one["fit"], *one["held"]]) == sorted(rows)


def test_d9_what_comes_later_in_time_is_stopped_on():
    for one in stop(cv=TimeSeriesSplit(3)):
        assert one["fit"].max() < one["held"].min()


def test_d9_the_only_row_of_a_class_is_fitted():
    global y
    kept, y = y, np.where(np.arange(120) == 7, 2, y)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a class with a single member
            seen = stop()
        assert all(7 not in one["held"] for one in seen)
    finally:
        y = kept


@pytest.mark.parametrize("value", ["yes", 10, [0.1]])
def test_d9_bad_kinds_of_shares(value):
    with pytest.raises(InvalidType, match="early_stopping="):
        stop(early_stopping=value)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.5, 1.5, float("nan")])
def test_d9_bad_shares(value):
    with pytest.raises(InvalidValue, match="early_stopping="):
        stop(early_stopping=value)


def test_d9_estimators_that_cannot_stop_are_refused():
    for model in (RandomForestClassifier(), HistGradientBoostingClassifier(), make_pipeline(StandardScaler(), SVC())):
        with pytest.raises(InvalidType, match="takes no eval_set"):
            TunedSearchCV(model, {"verbose": [0, 1]}, n_trials=1, early_stopping=True).set_params(
                space={next(iter(k for k in model.get_params() if "random_state" in k)): [0, 1]}
            ).fit(X, y)
    with pytest.raises(InvalidValue, match="eval_set was passed to fit"):
        stop(fit={"eval_set": [(X, y)]}, error_score="raise")
    with pytest.raises(InvalidValue, match="cannot be divided"):
        stop(early_stopping=0.001, error_score="raise")


def test_d9_another_share_is_another_search(tmp_path):
    storage = str(tmp_path / "s.db")
    assert len(stop(storage=storage)) == 7
    assert len(stop(storage=storage)) == 1  # the final one
    assert len(stop(storage=storage, early_stopping=0.3)) == 7
    assert all(inspect.signature(cls).parameters["early_stopping"].default is None for cls in ALL)


@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize("package", ["xgboost", "lightgbm", "catboost"])
def test_d9_real_boosting_stops_on_rows_of_its_own(package, piped):
    module, rounds = pytest.importorskip(package), 200
    if package == "xgboost":
        model = module.XGBClassifier(n_estimators=rounds, learning_rate=0.5, early_stopping_rounds=3, n_jobs=1)
        fit, name = {}, "best_iteration"
    elif package == "catboost":
        settings = {"iterations": rounds, "learning_rate": 0.5, "early_stopping_rounds": 3, "thread_count": 1}
        model = module.CatBoostClassifier(**settings, verbose=False, allow_writing_files=False)
        fit, name = {}, "best_iteration_"
    else:
        model = module.LGBMClassifier(n_estimators=rounds, learning_rate=0.5, n_jobs=1, verbose=-1)
        fit, name = {"callbacks": [module.early_stopping(3, verbose=False)]}, "best_iteration_"
    data, weight = load_breast_cancer(return_X_y=True), np.linspace(0.5, 1.5, 569)
    step = f"{type(model).__name__.lower()}__" if piped else ""
    estimator = make_pipeline(StandardScaler(), model) if piped else model
    found = RandomizedSearchCV(
        estimator, {f"{step}max_depth": [2, 3]}, n_iter=2, cv=3, early_stopping=0.2, scoring="accuracy", random_state=0
    ).fit(*data, **{f"{step}{k}": v for k, v in {**fit, "sample_weight": weight}.items()})
    best = found.best_estimator_[-1] if piped else found.best_estimator_
    assert getattr(best, name) < rounds - 5
    assert found.best_score_ > 0.9


@pytest.mark.filterwarnings("ignore:The argument 'eval_set' is deprecated")
@pytest.mark.parametrize("piped", [False, True])
def test_d9_lightgbm_that_would_never_stop_is_refused(piped):
    """It held out rows of each fold, and grew all of its trees without a look at them."""
    lightgbm = pytest.importorskip("lightgbm")

    def search(**settings):
        model = lightgbm.LGBMClassifier(n_estimators=2, n_jobs=1, verbose=-1, **settings)
        step = "lgbmclassifier__" if piped else ""
        whole = make_pipeline(StandardScaler(), model) if piped else model
        return RandomizedSearchCV(whole, {f"{step}max_depth": [2]}, n_iter=1, cv=2, early_stopping=True)

    with pytest.raises(InvalidValue, match=r"LGBMClassifier has no early_stopping_round, .*lightgbm.early_stopping"):
        search().fit(X, y)
    search(early_stopping_round=5).fit(X, y)
    search(n_iter_no_change=5).fit(X, y)

    class Stops(lightgbm.LGBMClassifier):
        def fit(self, X, y, eval_set=None):
            return super().fit(X, y, eval_set=eval_set, callbacks=[lightgbm.early_stopping(2, verbose=False)])

    own = Stops(n_estimators=2, n_jobs=1, verbose=-1)
    RandomizedSearchCV(own, {"max_depth": [2]}, n_iter=1, cv=2, early_stopping=True).fit(X, y)


def test_d9_xgboost_that_would_never_stop_is_refused():
    xgboost = pytest.importorskip("xgboost")
    with pytest.raises(InvalidValue, match="early_stopping_rounds=None"):
        RandomizedSearchCV(xgboost.XGBClassifier(), {"max_depth": [2, 3]}, n_iter=1, early_stopping=True).fit(X, y)
