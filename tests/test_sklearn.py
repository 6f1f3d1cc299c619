"""The searches are scikit-learn's: same results, same conventions; what is added to them keeps its promises."""

from __future__ import annotations

import copy
import inspect
import json
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn
from scipy import stats
from sklearn import model_selection as theirs
from sklearn.base import clone, is_regressor
from sklearn.datasets import make_regression
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, f1_score, make_scorer
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold
from sklearn.neighbors import KernelDensity, KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

import welltuned as wt
from estimators import Killed, Logged, Memo, X, lines, plain, y
from welltuned.errors import InvalidType, InvalidValue, WelltunedError
from welltuned.sklearn import BayesSearchCV, GradientSearchCV, GridSearchCV, RandomizedSearchCV, TunedSearchCV
from welltuned.sklearn.spaces import read_space, with_own_settings
from welltuned.space import NO_DEFAULT

ALL = (GridSearchCV, RandomizedSearchCV, BayesSearchCV, GradientSearchCV, TunedSearchCV)
BUDGET = {
    GridSearchCV: "resolution",
    RandomizedSearchCV: "n_iter",
    BayesSearchCV: "n_iter",
    GradientSearchCV: "n_iter",
    TunedSearchCV: "n_trials",
}
KNN = KNeighborsClassifier()
every_class = pytest.mark.parametrize("cls", ALL, ids=lambda c: c.__name__)
model_based = pytest.mark.parametrize("cls", [BayesSearchCV, GradientSearchCV, TunedSearchCV], ids=lambda c: c.__name__)


def search(cls, estimator, space, n=4, **options):
    """Build a search of any of the classes with about ``n`` candidates."""
    seed = {} if cls is GridSearchCV else {"random_state": 0}
    return cls(estimator, space, **{"cv": 2, BUDGET[cls]: n, **seed, **options})


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """What is fitted here is tiny: more threads of linear algebra would only wait for each other, on a busy machine."""
    with threadpool_limits(1):
        yield


class Fussy(Memo):
    """Refuses ``a="bad"``, and ``a="half"`` on every other fold."""

    def fit(self, X, y):
        if self.a == "bad" or (self.a == "half" and X[0, 0] == FIRST):
            raise ArithmeticError(f"cannot work with {self.a}")
        return super().fit(X, y)


FIRST = X[0, 0]


class Interrupting(Logged):
    """Presses Ctrl-C before the fit that would be too many, once."""

    def fit(self, X, y):
        if lines(self.log) == 5:
            with Path(self.log).open("a") as file:
                file.write("interrupted\n")
            raise KeyboardInterrupt
        return super().fit(X, y)


class Slow(Memo):
    def fit(self, X, y):
        time.sleep(0.05)
        return super().fit(X, y)


def log_lines(path):
    return Path(path).read_text().splitlines()


# scikit-learn's own checks


def instances():
    """Two searches around a classifier and a regressor; the others, which differ in what they propose, around one."""
    for cls in ALL:
        space = {GridSearchCV: [0.1, 1.0], RandomizedSearchCV: [0.1, 1.0]}.get(cls, (0.1, 1.0))
        if cls in (GridSearchCV, BayesSearchCV, TunedSearchCV):
            yield search(cls, LogisticRegression(), {"C": space}, 2, error_score="raise")
        if cls is not BayesSearchCV:
            yield search(cls, Ridge(), {"alpha": space}, 2, error_score="raise")


def expected_failures(estimator):
    """List what scikit-learn's own GridSearchCV and RandomizedSearchCV around the same estimators fail."""
    return {"check_supervised_y_2d": "DataConversionWarning not caught"} if is_regressor(estimator) else {}


CHECKS = inspect.signature(parametrize_with_checks).parameters
OPTIONS = {"expected_failed_checks": expected_failures} if "expected_failed_checks" in CHECKS else {}


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(list(instances()), **OPTIONS)
def test_estimator_checks(estimator, check):
    check(estimator)


# the same as scikit-learn's


def same_fit(ours, reference, **fit_params):
    data = fit_params.pop("data", (X, y))
    ours.fit(*data, **fit_params)
    reference.fit(*data, **fit_params)
    same_results(ours, reference)
    return ours, reference


def same_results(ours, reference):
    a, b = ours.cv_results_, reference.cv_results_
    assert set(a) == set(b)
    for key in a:
        same_column(key, a[key], b[key])
    assert ours.n_splits_ == reference.n_splits_
    assert ours.multimetric_ == reference.multimetric_
    for name in (
        "best_index_",
        "best_score_",
        "best_params_",
        "best_estimator_",
        "refit_time_",
        "classes_",
        "n_features_in_",
    ):
        assert hasattr(ours, name) == hasattr(reference, name), name
    for name in ("best_index_", "best_score_"):
        if hasattr(reference, name):
            assert getattr(ours, name) == getattr(reference, name)
            assert type(getattr(ours, name)) is type(getattr(reference, name))
    if hasattr(reference, "best_params_"):
        assert plain_items(ours.best_params_) == plain_items(reference.best_params_)


def plain_items(params):
    return sorted(f"{k}={plain([v])}" for k, v in params.items())


def same_column(key, a, b):
    assert type(a) is type(b), key
    if key == "params":
        assert [plain_items(p) for p in a] == [plain_items(p) for p in b]
        return
    assert a.dtype == b.dtype, key
    assert a.shape == b.shape, key
    if key.endswith("_time"):
        assert (a >= 0).all()
    elif isinstance(b, np.ma.MaskedArray):
        assert np.ma.getmaskarray(a).tolist() == np.ma.getmaskarray(b).tolist(), key
        assert [plain([v]) for v in a.compressed()] == [plain([v]) for v in b.compressed()], key
    else:
        np.testing.assert_array_equal(a, b, key)


def function(x):
    return x


# before 1.6 the columns of parameters were objects
GRIDS = [
    pytest.param(KNN, {"n_neighbors": [1, 3, 5], "weights": ["uniform", "distance"]}, id="lists"),
    pytest.param(KNN, {"n_neighbors": (5, 1), "weights": ("uniform",)}, id="tuples"),
    pytest.param(KNN, {"n_neighbors": range(1, 5)}, id="range"),
    pytest.param(KNN, {"n_neighbors": [3, 3, 5]}, id="twice"),
    pytest.param(KNN, {"n_neighbors": [9, 1, 5]}, id="unsorted"),
    pytest.param(Memo(), {"a": np.logspace(-2, 2, 3)}, id="array"),
    pytest.param(Memo(), {"a": np.array([0.1, 1], dtype=np.float32)}, id="float32"),
    pytest.param(Memo(), {"a": np.array([1, 2], dtype=np.int8)}, id="int8"),
    pytest.param(Memo(), {"a": np.array(["u", "v"])}, id="array of strings"),
    pytest.param(Memo(), {"a": [np.float64(0.5), np.float64(2.0)]}, id="numpy scalars"),
    pytest.param(Memo(), {"a": [1, 0.1, 10.0]}, id="int and float"),
    pytest.param(Memo(), {"a": [1, 1.0, True]}, id="equal but not the same"),
    pytest.param(Memo(), {"a": [None, 1, 2.5]}, id="None"),
    pytest.param(Memo(), {"a": [True, False]}, id="bools"),
    pytest.param(Memo(), {"a": ["1", 1]}, id="string and int"),
    pytest.param(Memo(), {"a": [(10,), (10, 10)]}, id="ragged tuples"),
    pytest.param(Memo(), {"a": [(1, 2), (3, 4)]}, id="tuples of one length"),
    pytest.param(Memo(), {"a": [[1], [2, 3]]}, id="lists in a list"),
    pytest.param(Memo(), {"a": [{"k": 1}, {"k": 2}]}, id="dicts"),
    pytest.param(Memo(), {"a": [function, len, int]}, id="functions"),
    pytest.param(Memo(), {"a": [np.inf, 1.0]}, id="infinity"),
    pytest.param(Memo(), {"a": ["x" * 200, "x" * 200 + "y"]}, id="long strings"),
    pytest.param(Memo(), [{"a": [1, 2]}, {"b": ["u"]}, {"a": [2, 3], "b": ["v"]}], id="list of grids"),
    pytest.param(Memo(), [{"a": [1, 2]}, {"a": [2, 3]}], id="overlapping grids"),
    pytest.param(Memo(), [{"a": [1, 2]}, {"a": ["u"]}], id="grids of different kinds"),
    pytest.param(
        Pipeline([("scale", StandardScaler()), ("knn", KNN)]),
        {"knn__n_neighbors": [1, 3], "scale__with_mean": [True, False]},
        id="pipeline",
    ),
    pytest.param(
        Pipeline([("reduce", PCA()), ("knn", KNN)]),
        [
            {"reduce": [PCA(2), SelectKBest(k=2), "passthrough"]},
            {"reduce": [PCA(random_state=0)], "reduce__n_components": [1, 2], "knn__n_neighbors": [3]},
        ],
        id="steps of a pipeline",
    ),
    pytest.param(
        Pipeline([("model", KNN)]),
        {"model": [KNeighborsClassifier(1), KNeighborsClassifier(3), DecisionTreeClassifier(random_state=0)]},
        id="estimators",
    ),
    pytest.param(Memo(), {"a": [KNeighborsClassifier(), KNeighborsClassifier()]}, id="equal estimators"),
    pytest.param(
        MLPClassifier(max_iter=2000, tol=0.1, random_state=0),
        {"hidden_layer_sizes": [(3,), (3, 3)]},
        id="layers",
    ),
]


@pytest.mark.parametrize(("estimator", "grid"), GRIDS)
def test_grid_is_that_of_sklearn(estimator, grid):
    same_fit(GridSearchCV(estimator, grid, cv=2), theirs.GridSearchCV(estimator, grid, cv=2))


@pytest.mark.filterwarnings("ignore:The total space of parameters:UserWarning")
@pytest.mark.parametrize(("estimator", "grid"), [g for g in GRIDS if g.id != "tuples"])
def test_random_is_that_of_sklearn(estimator, grid):
    """The tuples are left out: a pair of numbers is a range to our RandomizedSearchCV."""
    options = {"n_iter": 3, "random_state": 1, "cv": 2}
    same_fit(RandomizedSearchCV(estimator, grid, **options), theirs.RandomizedSearchCV(estimator, grid, **options))


@pytest.mark.parametrize(
    "space",
    [
        {"a": stats.uniform(1, 2), "b": stats.loguniform(1e-3, 1)},
        {"a": stats.randint(1, 9), "b": ["u", "v"]},
        {"a": stats.norm(0, 1), "b": stats.expon(scale=2)},
        {
            "a": stats.poisson(3),
            "b": stats.binom(5, 0.5),
        },
        {"a": stats.beta(2, 3), "b": stats.truncnorm(-1, 2)},
        [{"a": stats.uniform(0, 1)}, {"b": [1, 2, 3]}],
    ],
    ids=["uniform", "randint", "norm", "discrete", "beta", "list"],
)
def test_distributions_are_drawn_as_in_sklearn(space):
    options = {"n_iter": 6, "random_state": 3, "cv": 2}
    same_fit(RandomizedSearchCV(Memo(), space, **options), theirs.RandomizedSearchCV(Memo(), space, **options))


def two_scores(estimator, X, y):
    p = estimator.predict(X)
    return {"acc": accuracy_score(y, p), "f1": f1_score(y, p, average="macro")}


def one_score(estimator, X, y):
    return accuracy_score(y, estimator.predict(X))


def simplest(results):
    return int(np.argmin(results["param_n_neighbors"].astype(int)))


def folds():
    yield from KFold(3, shuffle=True, random_state=0).split(X)


BOTH = {"acc": "accuracy", "f1": make_scorer(f1_score, average="macro")}
OPTIONS_OF_SEARCHES = {
    "default cv": {},
    "string": {"scoring": "f1_macro"},
    "scorer": {"scoring": make_scorer(f1_score, average="macro")},
    "callable": {"scoring": one_score},
    "list": {"scoring": ["accuracy", "f1_macro"], "refit": "f1_macro"},
    "tuple": {"scoring": ("accuracy", "f1_macro"), "refit": "accuracy"},
    "dict": {"scoring": BOTH, "refit": "acc"},
    "dict, train": {"scoring": BOTH, "refit": "acc", "return_train_score": True},
    "dict, no refit": {"scoring": BOTH, "refit": False},
    "callable of two": {"scoring": two_scores, "refit": "f1"},
    "callable of two, train": {"scoring": two_scores, "refit": "acc", "return_train_score": True},
    "callable of two, no refit": {"scoring": two_scores, "refit": False},
    "callable refit": {"refit": simplest},
    "callable refit, dict": {"scoring": BOTH, "refit": simplest},
    "no refit": {"refit": False},
    "train": {"return_train_score": True},
    "splitter": {"cv": StratifiedKFold(3, shuffle=True, random_state=0)},
    "splits": {"cv": list(folds())},
    "two processes": {"n_jobs": 2},
    "dispatch": {"n_jobs": 2, "pre_dispatch": "n_jobs"},
}


@pytest.mark.parametrize("options", OPTIONS_OF_SEARCHES.values(), ids=OPTIONS_OF_SEARCHES)
def test_options_mean_what_they_mean_in_sklearn(options):
    grid = {"n_neighbors": [1, 5, 25], "weights": ["uniform", "distance"]}
    ours, reference = same_fit(GridSearchCV(KNN, grid, **options), theirs.GridSearchCV(KNN, grid, **options))
    if reference.refit:
        np.testing.assert_array_equal(ours.predict(X), reference.predict(X))
        np.testing.assert_array_equal(ours.predict_proba(X), reference.predict_proba(X))
        if not (callable(options.get("refit")) and reference.multimetric_):
            assert ours.score(X, y) == reference.score(X, y)
        return
    with pytest.raises((AttributeError, NotFittedError)):
        ours.predict(X)


def test_a_generator_of_splits():
    grid = {"n_neighbors": [1, 5]}
    same_fit(GridSearchCV(KNN, grid, cv=folds()), theirs.GridSearchCV(KNN, grid, cv=folds()))


def test_scorer_attribute():
    options = {"scoring": BOTH, "refit": "acc", "cv": 2}
    ours, reference = same_fit(
        GridSearchCV(KNN, {"p": [1, 2]}, **options), theirs.GridSearchCV(KNN, {"p": [1, 2]}, **options)
    )
    assert list(ours.scorer_) == list(reference.scorer_)
    assert callable(GridSearchCV(KNN, {"p": [1]}, cv=2).fit(X, y).scorer_)


@pytest.mark.parametrize("error_score", [np.nan, 0.0, -1, 0.01])
@pytest.mark.parametrize("scoring", [None, ["accuracy", "f1_macro"], two_scores], ids=["one", "list", "callable"])
@pytest.mark.parametrize("values", [["u", "bad", "half"], ["bad", "half", "u"], ["half", "u"]], ids=len)
def test_failed_fits_score_as_in_sklearn(error_score, scoring, values):
    names = {None: True, two_scores: "acc"}
    refit = names[scoring] if not isinstance(scoring, list) else "accuracy"
    options = {"error_score": error_score, "scoring": scoring, "refit": refit, "cv": 2, "return_train_score": True}
    ours, reference = (
        GridSearchCV(Fussy(), {"a": values}, **options),
        theirs.GridSearchCV(Fussy(), {"a": values}, **options),
    )
    kinds = []
    for one in (ours, reference):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            one.fit(X, y)
        kinds.append({w.category for w in caught})
    assert FitFailedWarning in kinds[0]
    assert kinds[0] == kinds[1]
    same_results(ours, reference)


def test_the_warning_of_a_failed_fit_names_the_error():
    with (
        pytest.warns(FitFailedWarning, match=r"1 fits failed out of a total of 4.*\n(.*\n)*.*cannot work with half"),
        pytest.warns(UserWarning, match="non-finite"),
    ):
        GridSearchCV(Fussy(), {"a": ["u", "half"]}, cv=2).fit(X, y)


@every_class
def test_error_score_raise(cls):
    with pytest.raises(ArithmeticError, match=r"cannot work with (bad|half)"):
        search(cls, Fussy(), {"a": ["bad", "half"]}, error_score="raise", n=2).fit(X, y)


@every_class
def test_all_fits_failing_is_an_error(cls):
    with pytest.raises(InvalidValue, match=r"all the \d+ fits failed(.*\n)*.*cannot work with bad"):
        search(cls, Fussy(a="bad"), {"b": ["u", "v"]}, n=2, error_score=np.nan).fit(X, y)


def failing_scorer(estimator, X, y):
    if estimator.a == 1:
        raise ArithmeticError("no score today")
    return 0.5


@pytest.mark.parametrize("error_score", [np.nan, 0.25])
def test_failed_scores_score_as_in_sklearn(error_score):
    options = {"scoring": failing_scorer, "error_score": error_score, "cv": 2}
    ours, reference = (
        GridSearchCV(Memo(), {"a": [1, 2]}, **options),
        theirs.GridSearchCV(Memo(), {"a": [1, 2]}, **options),
    )
    with pytest.warns(UserWarning, match=r"(?s)Scoring failed.*no score today|non-finite"):
        same_fit(ours, reference)


def test_a_metric_that_always_fails_has_its_columns():
    options = {"scoring": {"good": lambda e, X, y: e.a, "bad": failing_scorer}, "refit": "good", "cv": 2}
    found = [search(Memo(), {"a": [1, 1]}, **options) for search in (GridSearchCV, theirs.GridSearchCV)]
    with pytest.warns(UserWarning):
        found = [search.fit(X, y) for search in found]
    for search in found:
        assert np.isnan(search.cv_results_["mean_test_bad"]).all()


def test_scores_that_an_estimator_cannot_give_at_all_raise_as_in_sklearn():
    for search in (GridSearchCV, theirs.GridSearchCV):
        with pytest.raises(AttributeError, match="predict_proba"):
            search(SVC(), {"C": [1, 2]}, scoring=["accuracy", "neg_log_loss"], refit="accuracy", cv=2).fit(X, y)


@pytest.mark.parametrize("refit", [False, lambda found: 0], ids=["none", "callable"])
@pytest.mark.parametrize("stored", [False, True])
def test_without_a_name_in_refit_the_first_metric_is_searched_by(refit, stored, tmp_path):
    search = TunedSearchCV(SVC(), {"C": wt.Float(1e-4, 1.0)}, n_trials=3, cv=2, random_state=0, refit=refit)
    search.set_params(scoring=["f1_macro", "accuracy"], storage=str(tmp_path / "fits.db") if stored else None).fit(X, y)
    means = search.cv_results_["mean_test_f1_macro"]
    assert [t.value for t in search.study_.trials] == pytest.approx(list(means))


def test_a_search_of_choices_can_be_pickled():
    space = wt.Space({"C": wt.Float(0.1, 10.0, log=True), "kernel": ["rbf", "linear"]})
    search = TunedSearchCV(SVC(), space, n_trials=3, cv=2).fit(X, y)
    assert pickle.loads(pickle.dumps(search)).best_params_ == search.best_params_


@pytest.mark.parametrize(
    "returned",
    [
        pytest.param("high", id="string"),
        pytest.param(None, id="None"),
        pytest.param([1.0], id="list"),
        pytest.param({"acc": "high"}, id="dict"),
    ],
)
def test_a_scorer_must_return_numbers(returned):
    for kind in (GridSearchCV, theirs.GridSearchCV):
        with pytest.raises(ValueError, match=r"must return a number|scoring"):
            kind(Memo(), {"a": [1]}, scoring=lambda e, X, y: returned, refit=False, cv=2).fit(X, y)


DATA = {
    "lists": lambda: (X.tolist(), y.tolist()),
    "sparse": lambda: (sp.csr_matrix(X), y),
    "strings": lambda: (X, np.array(["a", "b", "c"])[y]),
    "two columns": lambda: (X, np.c_[y % 2, y // 2]),
}


@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_data_of_many_kinds(data):
    grid = {"n_neighbors": [1, 5]}
    options = {"cv": 2, "scoring": None}
    ours, reference = same_fit(
        GridSearchCV(KNN, grid, **options), theirs.GridSearchCV(KNN, grid, **options), data=data()
    )
    np.testing.assert_array_equal(ours.predict(data()[0]), reference.predict(data()[0]))


def test_frames():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcd"))
    ours, reference = same_fit(
        GridSearchCV(KNN, {"p": [1, 2]}, cv=2),
        theirs.GridSearchCV(KNN, {"p": [1, 2]}, cv=2),
        data=(frame, pd.Series(y)),
    )
    assert ours.feature_names_in_.tolist() == reference.feature_names_in_.tolist() == list("abcd")


def test_without_a_target():
    grid = {"bandwidth": [0.1, 1.0, 10.0]}
    ours, reference = same_fit(
        GridSearchCV(KernelDensity(), grid, cv=3), theirs.GridSearchCV(KernelDensity(), grid, cv=3), data=(X,)
    )
    assert ours.best_params_ == {"bandwidth": 1.0}
    assert ours.score(X) == reference.score(X)


def test_groups():
    groups = np.arange(len(y)) % 5
    options = {"cv": GroupKFold(3)}
    grid = {"n_neighbors": [1, 5]}
    same_fit(GridSearchCV(KNN, grid, **options), theirs.GridSearchCV(KNN, grid, **options), groups=groups)
    with pytest.raises(ValueError, match="groups"):
        GridSearchCV(KNN, grid, **options).fit(X, y)


def test_sample_weight():
    weight = np.linspace(0.1, 3, len(y))
    grid = {"max_depth": [1, 2]}
    tree = DecisionTreeClassifier(random_state=0)
    same_fit(GridSearchCV(tree, grid, cv=2), theirs.GridSearchCV(tree, grid, cv=2), sample_weight=weight)
    plain = GridSearchCV(Memo(), {"a": [1]}, cv=2).fit(X, y, sample_weight=weight)
    assert plain.best_estimator_.weight_ == pytest.approx(weight.sum())


def test_fit_params_of_bayes():
    weight = np.ones(len(y))
    fitted = BayesSearchCV(
        Memo(), {"a": (0.0, 1.0)}, n_iter=2, cv=2, fit_params={"sample_weight": weight}, random_state=0
    ).fit(X, y)
    assert fitted.best_estimator_.weight_ == len(y)


@every_class
def test_metadata_routing(cls):
    weight, groups = np.linspace(0.1, 3, len(y)), np.arange(len(y)) % 4
    with sklearn.config_context(enable_metadata_routing=True):
        tree = DecisionTreeClassifier(random_state=0).set_fit_request(sample_weight=True)
        scorer = make_scorer(accuracy_score).set_score_request(sample_weight=True)
        options = {"cv": GroupKFold(2), "scoring": scorer}
        grid = {"max_depth": [1, 2]}
        ours = search(cls, tree, grid, 2, **options).fit(X, y, sample_weight=weight, groups=groups)
        reference = theirs.GridSearchCV(tree, grid, **options).fit(X, y, sample_weight=weight, groups=groups)
        score = dict(
            zip([p["max_depth"] for p in ours.cv_results_["params"]], ours.cv_results_["mean_test_score"], strict=True)
        )
        assert score == dict(zip([1, 2], reference.cv_results_["mean_test_score"], strict=True))
        assert ours.score(X, y, sample_weight=weight) == reference.score(X, y, sample_weight=weight)
        with pytest.raises(TypeError, match="nonsense"):
            search(cls, tree, grid, 2, **options).fit(X, y, nonsense=weight)


def test_unrequested_metadata_is_refused():
    with sklearn.config_context(enable_metadata_routing=True), pytest.raises(ValueError, match="sample_weight"):
        GridSearchCV(DecisionTreeClassifier(), {"max_depth": [1]}, cv=2).fit(X, y, sample_weight=np.ones(len(y)))


def test_verbose_says_how_many_fits(capsys):
    GridSearchCV(KNN, {"n_neighbors": [1, 3, 5]}, cv=2, verbose=1).fit(X, y)
    assert "Fitting 2 folds for each of 3 candidates, totalling 6 fits" in capsys.readouterr().out
    GridSearchCV(KNN, {"n_neighbors": [1, 3, 5]}, cv=2).fit(X, y)
    assert capsys.readouterr() == ("", "")


def test_n_iter_above_a_finite_space_warns_as_in_sklearn():
    for kind in (RandomizedSearchCV, theirs.RandomizedSearchCV):
        with pytest.warns(UserWarning, match="smaller than n_iter=9"):
            fitted = kind(KNN, {"p": [1, 2]}, n_iter=9, cv=2).fit(X, y)
        assert len(fitted.cv_results_["params"]) == 2


# an estimator like any other


@every_class
def test_clone_get_and_set_params(cls):
    original = search(cls, KNN, {"n_neighbors": [1, 3]}, 2, storage="x.db", time_budget=3.0, progress=False)
    copied = clone(original)
    assert copied is not original
    given = {k: v for k, v in original.get_params(deep=False).items() if k != "estimator"}
    assert {k: v for k, v in copied.get_params(deep=False).items() if k != "estimator"} == given
    assert copied.set_params(estimator__n_neighbors=7, cv=5).estimator.n_neighbors == 7
    assert original.estimator.n_neighbors == 5
    assert set(inspect.signature(cls).parameters) == set(original.get_params(deep=False))
    with pytest.raises(ValueError, match="nonsense"):
        copied.set_params(nonsense=1)


@every_class
def test_pickle_and_deepcopy(cls):
    fitted = search(cls, KNN, {"n_neighbors": [1, 3, 5]}, 3).fit(X, y)
    for copied in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        np.testing.assert_array_equal(copied.predict(X), fitted.predict(X))
        assert copied.best_params_ == fitted.best_params_
        assert copied.cv_results_["params"] == fitted.cv_results_["params"]
        assert len(copied.fit(X, y).study_.trials) == 3


@every_class
def test_takes_part_in_cross_validation_and_pipelines(cls):
    inner = search(cls, KNN, {"n_neighbors": [1, 3]}, 2)
    scores = theirs.cross_val_score(make_pipeline(StandardScaler(), inner), X, y, cv=2)
    assert scores.min() > 0.8


@every_class
def test_repeatable(cls):
    space = {"a": (0.0, 1.0), "b": ["u", "v"]}
    first, second = (search(cls, Memo(), space, 4).fit(X, y) for _ in range(2))
    assert first.cv_results_["params"] == second.cv_results_["params"]
    np.testing.assert_array_equal(first.cv_results_["mean_test_score"], second.cv_results_["mean_test_score"])


@every_class
def test_fit_again_starts_anew(cls):
    fitted = search(cls, Memo(), {"a": [1, 2]}, 2).fit(X, y)
    fitted.set_params(estimator=KNN, **{spaces_argument(cls): {"p": [1, 2]}}).fit(X, y)
    assert all(set(p) == {"p"} for p in fitted.cv_results_["params"])
    assert len(fitted.study_.trials) == 2


def spaces_argument(cls):
    return list(inspect.signature(cls).parameters)[1]


@every_class
def test_two_processes_find_the_same(cls):
    one = search(cls, KNN, {"n_neighbors": [1, 3, 5, 7]}, 4, n_jobs=1).fit(X, y)
    two = search(cls, KNN, {"n_neighbors": [1, 3, 5, 7]}, 4, n_jobs=2).fit(X, y)
    assert one.cv_results_["params"] == two.cv_results_["params"]
    np.testing.assert_array_equal(one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"])


@model_based
def test_several_candidates_at_a_time(cls):
    fitted = search(cls, Memo(), {"a": (0.0, 1.0)}, 5, n_points=2).fit(X, y)
    values = [p["a"] for p in fitted.cv_results_["params"]]
    assert len(values) == len(set(values)) == 5


@model_based
def test_the_estimator_as_it_stands_comes_first(cls):
    """Its settings where the space has them, the nearest number within bounds, and the middle where they are not."""
    model = make_pipeline(StandardScaler(), SVC(C=5.0, tol=1e-3, degree=7))
    space = {
        "svc__C": (1e-2, 1e2, "log-uniform"),
        "svc__kernel": ["linear", "rbf"],
        "svc__gamma": (1e-4, 1.0, "log-uniform"),  # which is "scale"
        "svc__tol": (1e-2, 1e-1, "log-uniform"),
        "svc__degree": wt.Int(2, 10, step=2),
        "svc__coef0": wt.Float(-1.0, 1.0, default=0.5),
    }
    first = search(cls, model, space, 2).fit(X, y).cv_results_["params"][0]
    assert (first.pop("svc__kernel"), first.pop("svc__degree") in (6, 8)) == ("rbf", True)
    assert first == pytest.approx({"svc__C": 5.0, "svc__gamma": 1e-2, "svc__tol": 1e-2, "svc__coef0": 0.5})


@pytest.mark.parametrize(
    ("own", "values", "default"),
    [
        (3, wt.Int(1, 9), 3),
        (30, wt.Int(1, 9), 9),
        (2.5, wt.Int(1, 9), NO_DEFAULT),
        (-1, wt.Int(1, 9), NO_DEFAULT),  # which stands for no limit
        (-2, wt.Int(-1, 9), -1),
        (True, wt.Int(0, 9), NO_DEFAULT),
        (2, (0.01, 0.5), NO_DEFAULT),  # a count, where shares are searched
        (1, (0.5, 2.0), 1.0),
        (np.float64(0.7), (0.01, 0.5), 0.5),
        (np.nan, (0.01, 0.5), NO_DEFAULT),
        ("auto", (0.01, 0.5), NO_DEFAULT),
        ("auto", [0.5, "auto"], "auto"),
        (np.int64(4), [2, 4], 4),
        (5, [2, 4], NO_DEFAULT),
        (0.3, stats.loguniform(1e-2, 1.0), 0.3),
        (0.3, wt.Float(0.0, 1.0, default=0.9), 0.9),
        pytest.param(10**400, (0.01, 0.5), NO_DEFAULT, id="huge"),
        (None, (0.01, 0.5), NO_DEFAULT),
    ],
)
def test_what_settings_of_an_estimator_mean_in_a_space(own, values, default):
    found = with_own_settings(read_space("space", {"a": values}), Memo(a=own))["a"].default
    assert found == default and isinstance(found, type(default))


@pytest.mark.parametrize(
    ("model", "space", "first"),
    [
        (Memo(), {"a": [2, 5, None], "b": ["x", None]}, {"a": None, "b": None}),
        (Memo(a=1), {"a": [2, 1, None], "b": ["x", None]}, {"a": 1, "b": None}),
        (Memo(a=SVC(C=3.0)), {"a": [KNN, SVC(), SVC(C=3.0)]}, {"a": "SVC(C=3.0)"}),
        (Memo(a=SVC(C=3.0)), {"a": [KNN, SVC()], "a__C": (1.0, 9.0)}, {"a": "SVC()", "a__C": 3.0}),
        (
            SVC(C=3.0),
            [{"kernel": ["poly"], "C": (0.1, 9.0)}, {"kernel": ["rbf"], "C": (0.1, 9.0), "gamma": (0.1, 0.3)}],
            {"kernel": "rbf", "C": 3.0, "gamma": 0.2},
        ),
        (Memo(a=5.0), [{"a": (0.1, 1.0)}, {"a": (1.0, 9.0)}], {"a": 5.0}),
        (Memo(a=np.ones(2)), [{"a": wt.Float(0, 1, default=0.5)}, {"b": [1]}], {"a": 0.5}),
    ],
)
def test_settings_that_are_none_estimators_or_in_another_grid_come_first(model, space, first):
    found = with_own_settings(read_space("space", space), model).defaults
    shown = {name: repr(value) if isinstance(value, SVC) else value for name, value in found.items()}
    assert shown == {name: pytest.approx(value) if isinstance(value, float) else value for name, value in first.items()}
    assert all(value is None for name, value in found.items() if first[name] is None)


@model_based
def test_a_search_begins_with_settings_that_are_none(cls, tmp_path):
    for n in (2, 3):  # the second one goes on
        fitted = search(cls, Memo(), {"b": ["x", "y", None]}, n, storage=str(tmp_path / "search.db")).fit(X, y)
        assert fitted.cv_results_["params"][0] == {"b": None} and len(fitted.study_.trials) == n
    row = fitted.study_.coordinator.ledger.row
    assert wt.Space.from_json(row.spaces[-1]).defaults == {"b": None}, "whoever opens the file begins there, too"


def test_models_among_the_choices_come_with_their_own_settings():
    """What the estimator has in their place, and under the same name, is none of theirs."""
    spaces = [
        {"a": [SVC(C=2.0)], "a__C": (0.1, 9.0)},
        {"a": [KNN, KNeighborsClassifier(7)], "a__n_neighbors": (1, 9)},
        {"a": [LogisticRegression()], "a__C": (0.1, 9.0)},
        {"a": [None]},
    ]
    starts = with_own_settings(read_space("space", spaces), Memo(a=SVC(C=3.0))).starts
    assert [{k: v for k, v in s.items() if k != "a"} for s in starts] == [
        {"a__C": 3.0},
        {"a__n_neighbors": KNN.n_neighbors},
        {"a__C": 3.0},  # one parameter of two grids has one default
    ]
    one = wt.Space(
        {
            "a": [spaces[0]["a"][0], KNN],
            "a__C": wt.Float(0.1, 9.0, when={"a": spaces[0]["a"][0]}),
            "a__n_neighbors": wt.Int(1, 9, when={"a": KNN}),
        }
    )
    first, second = with_own_settings(one, Memo(a=None)).starts
    assert (first["a__C"], second["a__n_neighbors"]) == (2.0, KNN.n_neighbors)


@pytest.mark.parametrize("own", ["passthrough", None])
def test_a_step_that_is_no_model_stays_one(own):
    """Where it is among the choices, the search begins with the estimator as it stands."""
    space = {"a": [KNN, own], "a__n_neighbors": (1, 9)}
    named = with_own_settings(read_space("space", space), Memo(a=own))
    assert named.defaults == {"a": own, "a__n_neighbors": KNN.n_neighbors}
    assert with_own_settings(read_space("space", space), Memo(a="drop"))["a"].default is KNN


@pytest.mark.parametrize("names", [["a", "a__b"], ["a__b", "a"]])
def test_a_model_within_another_one_has_the_settings(names):
    choices = {"a": [Memo(b=SVC(C=7.0))], "a__b": [LogisticRegression(C=0.5)]}
    space = read_space("space", {**{name: choices[name] for name in names}, "a__b__C": (0.1, 9.0)})
    assert with_own_settings(space, Memo(a=KNN)).defaults["a__b__C"] == 0.5


def test_models_that_depend_on_an_array():
    """Whether two conditions are the same is no question to the arrays in them."""
    first, second = np.array([1.0, 2.0]), np.array([2.0, 1.0])
    space = wt.Space(
        {
            "w": wt.Categorical([first, second]),
            "a": wt.Categorical([KNN, SVC(C=2.0)], when={"w": first}),
            "a__C": wt.Float(0.1, 9.0, when={"w": second}),
        }
    )
    assert with_own_settings(space, Memo(a=SVC(C=3.0)))["a__C"].default == 3.0


def test_settings_that_the_space_lacks_change_nothing():
    space = read_space("space", [{"a": [1, 2]}, {"b": [3.0, 4.0]}])
    assert with_own_settings(space, SVC()) == space
    conditional = wt.Space(
        {"a": [1, 2], "b": wt.Float(0.0, 1.0, when={"a": 2})},
        forbidden=[{"a": 1}],
        constraints=[lambda params: params["b"] > 0.5],
    )
    kept = with_own_settings(conditional, Memo(a=1, b=0.9))
    assert (kept.forbidden, kept.constraints) == (conditional.forbidden, conditional.constraints)
    assert kept["b"].default == 0.9 and kept.defaults is None  # the estimator's own are not allowed


@every_class
def test_the_study_tells_the_story(cls):
    fitted = search(cls, KNN, {"n_neighbors": [1, 3]}, 2).fit(X, y)
    assert len(fitted.study_.trials) == 2
    assert fitted.study_.best_value == pytest.approx(fitted.best_score_)
    assert fitted.study_.best_params == fitted.best_params_
    assert fitted.stop_reason_
    assert [len(t.reports) for t in fitted.study_.trials] == [2, 2]
    assert all(set(t.metrics) == {"score"} for t in fitted.study_.trials)
    for t in fitted.study_.trials:
        times = [r.metrics["fit_time"] + r.metrics["score_time"] for r in t.reports]
        assert t.seconds == pytest.approx(sum(times)) and t.seconds > 0


def test_a_candidate_that_fails_took_its_time_too():
    with pytest.warns(FitFailedWarning), pytest.warns(UserWarning, match="non-finite"):
        fitted = search(GridSearchCV, KNN, {"n_neighbors": [1, -1]}, 2).fit(X, y)
    failed = next(t for t in fitted.study_.trials if t.state is wt.State.FAILED)
    assert failed.seconds > 0 and failed.reason is wt.Reason.ERROR and "n_neighbors" in failed.error


def test_several_scores_keep_their_means():
    options = {"scoring": ["accuracy", "f1_macro"], "refit": "f1_macro"}
    fitted = search(GridSearchCV, KNN, {"n_neighbors": [1, 3]}, 2, **options).fit(X, y)
    for t in fitted.study_.trials:
        assert set(t.metrics) == {"score", "mean_accuracy", "mean_f1_macro"}
        assert t.metrics["score"] == t.metrics["mean_f1_macro"]


# every form of a space

FORMS = {
    "list": ([1, 3, 5], lambda v: v in (1, 3, 5)),
    "strings": (["u", "v"], lambda v: v in ("u", "v")),
    "array": (np.array([0.1, 0.2]), lambda v: v in (0.1, 0.2)),
    "log tuple": ((1e-3, 1.0, "log-uniform"), lambda v: 1e-3 <= v <= 1 and isinstance(v, float)),
    "whole tuple": ((1, 100, "log-uniform"), lambda v: 1 <= v <= 100 and isinstance(v, int)),
    "uniform": (stats.uniform(2, 3), lambda v: 2 <= v <= 5),
    "loguniform": (stats.loguniform(1e-3, 1), lambda v: 1e-3 <= v <= 1),
    "randint": (stats.randint(1, 9), lambda v: 1 <= v <= 8 and isinstance(v, (int, np.integer))),
    "norm": (stats.norm(5, 1), np.isfinite),
    "Int of a distribution": (
        wt.Int(stats.uniform(32, 96)),
        lambda v: 32 <= v <= 128 and isinstance(v, (int, np.integer)),
    ),
    "Float": (wt.Float(0, 1), lambda v: 0 <= v <= 1),
    "Int": (wt.Int(1, 7), lambda v: 1 <= v <= 7 and isinstance(v, (int, np.integer))),
    "Categorical": (wt.Categorical(["u", None]), lambda v: v in ("u", None)),
    "Ordinal": (wt.Ordinal([1, 2, 4]), lambda v: v in (1, 2, 4)),
}


@every_class
@pytest.mark.parametrize(("form", "fits"), FORMS.values(), ids=FORMS)
def test_every_form_of_a_parameter(cls, form, fits):
    fitted = search(cls, Memo(), {"a": form}, 2).fit(X, y)
    assert all(fits(p["a"]) for p in fitted.cv_results_["params"])
    fitted = search(cls, Memo(), wt.Space({"a": form}), 2).fit(X, y)
    assert all(fits(p["a"]) for p in fitted.cv_results_["params"])


@every_class
def test_conditions(cls):
    space = wt.Space({"a": ["on", "off"], "b": wt.Float(0, 1, when={"a": "on"})})
    fitted = search(cls, Memo(), space, 6).fit(X, y)
    params = fitted.cv_results_["params"]
    assert {p["a"] for p in params} == {"on", "off"}
    assert all(("b" in p) == (p["a"] == "on") for p in params)
    assert np.ma.getmaskarray(fitted.cv_results_["param_b"]).tolist() == ["b" not in p for p in params]


@every_class
def test_lists_of_spaces(cls):
    fitted = search(cls, Memo(), [{"a": wt.Float(0, 1)}, {"b": ["u", "v"]}], 8).fit(X, y)
    assert {tuple(p) for p in fitted.cv_results_["params"]} == {("a",), ("b",)}


def test_resolution():
    fitted = GridSearchCV(Memo(), {"a": wt.Float(0, 1), "b": wt.Int(1, 5)}, resolution=3, cv=2).fit(X, y)
    assert sorted({p["a"] for p in fitted.cv_results_["params"]}) == [0.0, 0.5, 1.0]
    assert sorted({p["b"] for p in fitted.cv_results_["params"]}) == [1, 3, 5]
    assert len(fitted.cv_results_["params"]) == 9


@pytest.mark.parametrize("sampler", [*wt.SAMPLERS, wt.Bayes(initial=3), {"name": "gradient", "step": 0.1}], ids=str)
def test_every_sampler(sampler):
    fitted = TunedSearchCV(Memo(), {"a": (0.0, 1.0)}, sampler=sampler, n_trials=4, cv=2, random_state=0).fit(X, y)
    assert len(fitted.cv_results_["params"]) == 4


def test_a_finite_space_ends_a_model_search():
    fitted = TunedSearchCV(Memo(), {"a": ["u", "v"]}, n_trials=9, cv=2, random_state=0).fit(X, y)
    assert len(fitted.cv_results_["params"]) == 2


@pytest.mark.parametrize("cls", [BayesSearchCV, GradientSearchCV, TunedSearchCV], ids=lambda c: c.__name__)
def test_model_searches_find_the_optimum(cls, tmp_path):
    fitted = search(cls, Logged(str(tmp_path / "log")), {"a": (0.0, 1.0)}, 12).fit(X, y)
    assert fitted.best_params_["a"] == pytest.approx(0.3, abs=0.05)


# fits that survive

SPACE = {"a": [0.0, 0.25, 0.5, 1.0]}


def dies(target):
    """Run a function in a process of its own and return its exit code."""
    process = multiprocessing.get_context("fork").Process(target=target)
    process.start()
    process.join(60)
    return process.exitcode


def die_after(n, one):
    def run():
        os.environ["DIE_AFTER"] = str(n)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            one.fit(X, y)

    return run


def stored(cls, tmp_path, space=None, n=4, **options):
    space = space or ({"a": (0.0, 1.0)} if cls is not GridSearchCV else SPACE)
    return search(cls, Logged(str(tmp_path / "log")), space, n, storage=str(tmp_path / "s.db"), **options)


@every_class
def test_a_killed_search_goes_on_with_what_is_missing(cls, tmp_path):
    (tmp_path / "whole").mkdir()
    whole = stored(cls, tmp_path / "whole").fit(X, y)
    for n in (3, 6):
        assert dies(die_after(n, stored(cls, tmp_path))) == 9
        assert lines(tmp_path / "log") == n
    again = stored(cls, tmp_path).fit(X, y)
    same_results_of_two(again, whole)
    assert log_lines(tmp_path / "log")[-1] == log_lines(tmp_path / "whole" / "log")[-1]
    fits = log_lines(tmp_path / "log")[:-1]
    assert len(fits) == len(set(fits)) == 8
    assert set(fits) == set(log_lines(tmp_path / "whole" / "log")[:-1])


def same_results_of_two(a, b):
    assert a.cv_results_["params"] == b.cv_results_["params"]
    for key in a.cv_results_:
        if "test" in key:
            np.testing.assert_array_equal(a.cv_results_[key], b.cv_results_[key], key)
    assert a.best_params_ == b.best_params_
    assert a.best_score_ == b.best_score_


@every_class
def test_many_deaths(cls, tmp_path):
    for n in range(1, 7):
        assert dies(die_after(n, stored(cls, tmp_path))) == 9
    again = stored(cls, tmp_path).fit(X, y)
    assert len(again.cv_results_["params"]) == 4
    assert np.isfinite(again.cv_results_["mean_test_score"]).all()
    assert lines(tmp_path / "log") == 9


@every_class
def test_a_finished_search_fits_nothing_but_the_best(cls, tmp_path):
    first = stored(cls, tmp_path).fit(X, y)
    again = stored(cls, tmp_path).fit(X, y)
    same_results_of_two(again, first)
    assert lines(tmp_path / "log") == 8 + 2


SCRIPT = """
import json, sys
sys.path.insert(0, {tests!r})
from estimators import Killed, X, y
from welltuned.sklearn import GridSearchCV
found = GridSearchCV(Killed({log!r}), {space!r}, cv=2, storage={db!r}).fit(X, y)
print(json.dumps([found.best_params_, found.cv_results_["mean_test_score"].tolist()]))
"""


def test_sigkill_of_a_real_process(tmp_path):
    """What it had is known to another interpreter, in which strings have other hashes."""
    log, db = str(tmp_path / "log"), str(tmp_path / "s.db")

    def killed():
        os.environ["KILLED"] = "1"
        GridSearchCV(Killed(log), SPACE, cv=2, storage=db).fit(X, y)

    assert dies(killed) == -signal.SIGKILL
    assert lines(log) == 5
    text = SCRIPT.format(tests=str(Path(__file__).parent), log=log, space=SPACE, db=db)
    env = {**os.environ, "PYTHONHASHSEED": "1"}
    second = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False, env=env)
    assert second.returncode == 0, second.stderr
    assert lines(log) == 8 + 1
    best, scores = json.loads(second.stdout)
    whole = GridSearchCV(Logged(str(tmp_path / "other")), SPACE, cv=2).fit(X, y)
    assert best == whole.best_params_
    assert scores == whole.cv_results_["mean_test_score"].tolist()


OTHER = {
    "data": lambda one: one.fit(X + 1, y),
    "target": lambda one: one.fit(X, y[::-1]),
    "fewer rows": lambda one: one.fit(X[1:], y[1:]),
    "cv": lambda one: one.set_params(cv=3).fit(X, y),
    "shuffled cv": lambda one: one.set_params(cv=KFold(2, shuffle=True, random_state=1)).fit(X, y),
    "scoring": lambda one: one.set_params(scoring="accuracy").fit(X, y),
    "estimator": lambda one: one.set_params(estimator__b=1).fit(X, y),
    "train scores": lambda one: one.set_params(return_train_score=True).fit(X, y),
}


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER)
@pytest.mark.parametrize("cls", [GridSearchCV, BayesSearchCV], ids=lambda c: c.__name__)
def test_another_question_is_another_study(cls, change, tmp_path):
    first = stored(cls, tmp_path).fit(X, y)
    before = lines(tmp_path / "log")
    other = change(stored(cls, tmp_path))
    n_pairs = len(other.cv_results_["params"]) * other.n_splits_
    assert lines(tmp_path / "log") - before == n_pairs + 1
    assert other.study_.name != first.study_.name
    assert len(wt.storage.open_storage(str(tmp_path / "s.db")).studies()) == 2


def test_another_scorer_is_another_study(tmp_path):
    first = stored(GridSearchCV, tmp_path, scoring=lambda e, X, y: e.a).fit(X, y)
    other = stored(GridSearchCV, tmp_path, scoring=lambda e, X, y: -e.a).fit(X, y)
    assert first.best_params_ == {"a": 1.0}
    assert other.best_params_ == {"a": 0.0}


def test_another_resolution(tmp_path):
    space = {"a": wt.Float(0, 1)}
    for resolution, values in ((3, [0, 0.5, 1]), (5, [0, 0.25, 0.5, 0.75, 1]), (2, [0, 1])):
        fitted = stored(GridSearchCV, tmp_path, space, resolution).fit(X, y)
        assert [p["a"] for p in fitted.cv_results_["params"]] == values


def test_another_order_of_the_grid(tmp_path):
    for values in ([1.0, 3.0, 2.0], [2.0, 1.0, 3.0]):
        fitted = stored(GridSearchCV, tmp_path, {"a": values}).fit(X, y)
        assert [p["a"] for p in fitted.cv_results_["params"]] == values


@pytest.mark.parametrize("cls", ALL[1:], ids=lambda c: c.__name__)
@pytest.mark.parametrize("space", [{"a": (0.0, 1.0)}, {"a": np.linspace(0, 1, 20).tolist()}], ids=["range", "list"])
def test_more_candidates_go_on(cls, space, tmp_path):
    few = stored(cls, tmp_path, space, 4).fit(X, y)
    assert lines(tmp_path / "log") == 9
    more = stored(cls, tmp_path, space, 7).fit(X, y)
    assert lines(tmp_path / "log") == 9 + 6 + 1
    values = [p["a"] for p in more.cv_results_["params"]]
    assert values[:4] == [p["a"] for p in few.cv_results_["params"]]
    assert len(values) == len(set(values)) == 7
    fresh = search(cls, Logged(str(tmp_path / "other")), space, 7).fit(X, y)
    assert sorted(values) == sorted(p["a"] for p in fresh.cv_results_["params"])


@pytest.mark.parametrize(("n_values", "few", "many"), [(10, 4, 10), (20, 19, 20)])
def test_more_random_candidates_of_a_list(n_values, few, many, tmp_path):
    space = {"a": list(range(n_values))}
    for n in (few, many):
        fitted = stored(RandomizedSearchCV, tmp_path, space, n).fit(X, y)
    values = [p["a"] for p in fitted.cv_results_["params"]]
    assert len(values) == len(set(values)) == many


@pytest.mark.parametrize("cls", ALL[1:], ids=lambda c: c.__name__)
def test_fewer_candidates_keep_what_is_known(cls, tmp_path):
    stored(cls, tmp_path, n=5).fit(X, y)
    fewer = stored(cls, tmp_path, n=3).fit(X, y)
    assert lines(tmp_path / "log") == 10 + 1 + 1
    assert len(fewer.cv_results_["params"]) >= 3


@every_class
def test_no_seed_goes_on_too(cls, tmp_path):
    options = {} if cls is GridSearchCV else {"random_state": None}
    first = stored(cls, tmp_path, **options).fit(X, y)
    same_results_of_two(stored(cls, tmp_path, **options).fit(X, y), first)
    assert lines(tmp_path / "log") == 8 + 2


def test_estimators_that_cannot_be_pickled_have_a_storage_too(tmp_path):
    from sklearn.preprocessing import FunctionTransformer

    def model():
        return make_pipeline(FunctionTransformer(lambda x: x * 2), KNN)

    for _ in range(2):
        fitted = GridSearchCV(model(), {"kneighborsclassifier__p": [1, 2]}, cv=2, storage=str(tmp_path / "s.db")).fit(
            X, y
        )
        assert len(fitted.cv_results_["params"]) == 2


def test_failures_are_kept(tmp_path):
    def go():
        return GridSearchCV(Fussy(), {"a": ["u", "half"]}, cv=2, error_score=0.0, storage=str(tmp_path / "s.db"))

    with pytest.warns(FitFailedWarning, match="1 fits failed"):
        first = go().fit(X, y)
    with pytest.warns(FitFailedWarning, match="1 fits failed"):
        again = go().fit(X, y)
    same_results_of_two(again, first)


def test_a_storage_that_is_none(tmp_path):
    (tmp_path / "s.db").write_text("this is no database, whatever its name says" * 100)
    with pytest.raises(WelltunedError, match=r"s\.db"):
        stored(GridSearchCV, tmp_path).fit(X, y)


# the end


@pytest.mark.parametrize("cls", [GridSearchCV, TunedSearchCV], ids=lambda c: c.__name__)
def test_time_budget(cls):
    """By the real clock; all of them follow one that only fits move, see :class:`Ticking`."""
    space = {"a": (0.0, 1.0), "b": (0.0, 1.0)}
    if cls is GridSearchCV:
        space = {"a": np.linspace(0, 1, 20).tolist(), "b": np.linspace(0, 1, 20).tolist()}
    n = 5 if cls is GridSearchCV else 1000
    began = time.monotonic()
    fitted = search(cls, Slow(), space, n, time_budget=2.0).fit(X, y)
    assert 2.0 <= time.monotonic() - began < 60.0
    assert 2 <= len(fitted.cv_results_["params"]) <= 22
    assert "2 seconds" in fitted.stop_reason_
    assert fitted.predict(X).shape == y.shape


@model_based
def test_a_rule_ends_a_search(cls, tmp_path):
    options = {"n": 30, "storage": str(tmp_path / "s.db")}
    space = {"a": (0.0, 1.0), "b": (0.0, 1.0)}
    fitted = search(cls, DummyClassifier(), {"random_state": (0, 99)}, 30, stop=wt.Patience(3)).fit(X, y)
    assert len(fitted.cv_results_["params"]) == 4
    assert fitted.stop_reason_ == "patience: no improvement in the last 3 trials"
    fitted = search(cls, DummyClassifier(), {"random_state": (0, 99)}, 30, stop=iter([wt.Patience(3)])).fit(X, y)
    assert len(fitted.cv_results_["params"]) == 4, "rules that can be gone through once were forgotten"
    fitted = search(cls, Memo(), space, stop=[wt.Target(0.0), wt.Patience(9)], **options).fit(X, y)
    assert (len(fitted.cv_results_["params"]), fitted.stop_reason_) == (1, "target: 0 reached")
    fitted = search(cls, Memo(), space, stop=wt.Patience(1), **options).fit(X, y)
    assert len(fitted.cv_results_["params"]) > 1, "it goes on from what is stored"
    with pytest.raises(InvalidType, match=r"stop=9 is no rule; write Patience\(20\)"):
        search(cls, Memo(), space, stop=9).fit(X, y)


def test_the_callback_of_scikit_optimize_is_told_what_to_write():
    with pytest.raises(InvalidType, match=r"callback= is scikit-optimize's; write stop="):
        search(BayesSearchCV, Memo(), {"a": (0.0, 1.0)}).fit(X, y, callback=print)


def test_time_budget_with_two_processes():
    few = GridSearchCV(Slow(), {"a": [0, 1]}, cv=2, n_jobs=2).fit(X, y)  # starts the processes, which import this file
    began = time.monotonic()
    few.fit(X, y)
    budget = min(max(2.0, 10 * (time.monotonic() - began)), 12.0)  # a busy machine gets more; all would take 50 seconds
    fitted = GridSearchCV(Slow(), {"a": list(range(1000))}, cv=2, n_jobs=2, time_budget=budget).fit(X, y)
    assert 2 <= len(fitted.cv_results_["params"]) < 300


class Ticking(Memo):
    """Each fit takes a second of a clock that only it moves."""

    now = 0.0

    def fit(self, X, y):
        Ticking.now += 1.0
        return super().fit(X, y)


@every_class
@pytest.mark.parametrize("racing", [False, True])
def test_time_is_up_between_two_folds(cls, racing, tmp_path, monkeypatch):
    monkeypatch.setattr("welltuned.sklearn.search.time", SimpleNamespace(monotonic=lambda: Ticking.now, time=time.time))
    space = {"a": [0.1, 0.2, 0.3], "b": [0.1, 0.2, 0.3]} if cls is GridSearchCV else {"a": (0.0, 1.0), "b": (0.0, 1.0)}
    n = {"resolution": 3} if cls is GridSearchCV else {BUDGET[cls]: 9}
    options = {"cv": 5, "refit": False, "time_budget": 7.5, "racing": wt.Race(min_folds=4) if racing else False}
    # the second fit has three folds of the candidate that the first one left, and five of the next
    for complete, total in ((1, 8), (3, 16)):
        began = Ticking.now
        fitted = search(cls, Ticking(), space, storage=str(tmp_path / "s.db"), **n, **options).fit(X, y)
        assert Ticking.now - began == 8
        assert len(fitted.cv_results_["params"]) == complete
        assert sum(len(t.reports) for t in fitted.study_.trials) == total
        assert fitted.stop_reason_ == "time budget: 7.5 seconds are over"
        assert not any(t.state is wt.State.RUNNING for t in fitted.study_.trials)


def test_a_candidate_is_completed_whatever_the_time(monkeypatch):
    monkeypatch.setattr("welltuned.sklearn.search.time", SimpleNamespace(monotonic=lambda: Ticking.now, time=time.time))
    fitted = GridSearchCV(Ticking(), {"a": [1, 2, 3]}, cv=4, time_budget=1.5, refit=False).fit(X, y)
    assert len(fitted.cv_results_["params"]) == 1


@every_class
def test_a_tiny_time_budget_is_an_error_or_a_result(cls):
    try:
        fitted = search(cls, Slow(), {"a": [1, 2, 3]}, 3, time_budget=1e-9).fit(X, y)
    except InvalidValue as error:
        assert "time_budget=1e-09" in str(error)
    else:
        assert len(fitted.cv_results_["params"]) >= 1


@pytest.mark.parametrize(
    "cls",
    [
        pytest.param(GridSearchCV, id="GridSearchCV"),
        pytest.param(RandomizedSearchCV, id="RandomizedSearchCV"),
        *(pytest.param(cls, id=cls.__name__) for cls in ALL[2:]),
    ],
)
def test_an_interrupt_leaves_the_best_so_far(cls, tmp_path):
    estimator = Interrupting(str(tmp_path / "log"))
    space = {"a": [0.0, 0.25, 0.5, 1.0, 2.0]} if cls is GridSearchCV else {"a": (0.0, 1.0)}
    try:
        with pytest.warns(UserWarning, match="interrupted"):
            fitted = search(cls, estimator, space, 5).fit(X, y)
    except KeyboardInterrupt:
        pytest.fail("two candidates were complete, and the search is lost")
    assert len(fitted.cv_results_["params"]) == 2
    assert fitted.stop_reason_ == "interrupted"
    assert fitted.best_score_ == max(fitted.cv_results_["mean_test_score"])
    assert fitted.predict(X).shape == y.shape
    assert not any(t.state is wt.State.RUNNING for t in fitted.study_.trials)


@every_class
def test_an_interrupted_search_goes_on(cls, tmp_path):
    space = {"a": [0.0, 0.25, 0.5, 1.0, 2.0]} if cls is GridSearchCV else {"a": (0.0, 1.0)}

    def go():
        return search(cls, Interrupting(str(tmp_path / "log")), space, 5, storage=str(tmp_path / "s.db"))

    try:
        with pytest.warns(UserWarning, match="interrupted"):
            go().fit(X, y)
        refits = 2
    except KeyboardInterrupt:  # nothing was done yet
        refits = 1
    again = go().fit(X, y)
    assert len(again.cv_results_["params"]) == 5
    assert lines(tmp_path / "log") == 10 + 1 + refits


def test_an_interrupt_before_the_first_candidate_is_one():
    class Immediate(Memo):
        def fit(self, X, y):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        GridSearchCV(Immediate(), {"a": [1, 2]}, cv=2).fit(X, y)


# bad input

SPACES = [
    ("{}", {}, ValueError),
    ("[]", [], ValueError),
    ("[{}]", [{}], ValueError),
    ("None", None, (TypeError, ValueError)),
    ("3", 3, (TypeError, ValueError)),
    ("'abc'", "abc", (TypeError, ValueError)),
    ("'abc'", {"a": "abc"}, TypeError),
    ("'a'", {"a": []}, ValueError),
    ("'a'", {"a": np.array([])}, ValueError),
    ("'a'", {"a": 3}, TypeError),
    ("'a'", {"a": None}, TypeError),
    ("'a'", {"a": object}, TypeError),
    ("'a'", {"a": np.ones((2, 2))}, ValueError),
    ("'a'", {"a": stats.norm}, TypeError),
    ("'a'", {"a": (5.0, 1.0, "log-uniform")}, ValueError),
    ("0.0", {"a": (0.0, 1.0, "log-uniform")}, ValueError),
    ("'cubic'", {"a": (0.1, 1.0, "cubic")}, ValueError),
    ("3", {3: [1, 2]}, (TypeError, ValueError)),
    ("bound 0: 1", [1, 2], (TypeError, ValueError)),
    ("(0, 1)", [(0, 1), (2, 3)], (TypeError, ValueError)),
]


@every_class
@pytest.mark.parametrize(
    ("words", "space", "error"), SPACES, ids=[f"{i}-{type(s[1]).__name__}" for i, s in enumerate(SPACES)]
)
def test_bad_spaces(cls, words, space, error):
    with pytest.raises(WelltunedError) as caught:
        search(cls, Memo(), space, 2).fit(X, y)
    assert isinstance(caught.value, error)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value) or "array(" in str(caught.value)


@every_class
def test_an_unknown_parameter_of_the_estimator(cls):
    """scikit-learn's own words: the estimator refuses, and names what it has."""
    with pytest.raises(ValueError, match=r"(?s)Invalid parameter 'nonsense' for estimator Memo"):
        search(cls, Memo(), {"nonsense": [1, 2]}, 2, error_score="raise").fit(X, y)
    with pytest.raises(ValueError, match=r"(?s)Invalid parameter 'nonsense' for estimator Memo"):
        search(cls, Memo(), {"nonsense": [1, 2]}, 2, error_score=np.nan).fit(X, y)


COMMON = [
    ("time_budget=0", {"time_budget": 0}, InvalidValue),
    ("time_budget=-1.5", {"time_budget": -1.5}, InvalidValue),
    ("time_budget=nan", {"time_budget": float("nan")}, InvalidValue),
    ("time_budget='1 h'", {"time_budget": "1 h"}, InvalidType),
    ("time_budget=True", {"time_budget": True}, InvalidType),
    ("storage=3", {"storage": 3}, WelltunedError),
    ("'/nowhere/s.db'", {"storage": "/nowhere/s.db"}, WelltunedError),
    ("'nonsense'", {"scoring": "nonsense"}, ValueError),
    ("'scoring'", {"scoring": 3}, ValueError),
    ("'cv'", {"cv": 0.5}, ValueError),
    ("'refit'", {"refit": 3}, ValueError),
    ("'error_score'", {"error_score": "nan"}, ValueError),
    ("'n_jobs'", {"n_jobs": "two"}, ValueError),
    ("'n_jobs'|n_jobs == 0", {"n_jobs": 0}, ValueError),
    ("'return_train_score'", {"return_train_score": "yes"}, ValueError),
    ("'verbose'", {"verbose": -1}, ValueError),
    ("'pre_dispatch'", {"pre_dispatch": []}, ValueError),
    ("'estimator'", {"estimator": 3}, ValueError),
    ("'estimator'|instance", {"estimator": KNeighborsClassifier}, (ValueError, TypeError)),
]


@every_class
@pytest.mark.parametrize(("words", "options", "error"), COMMON, ids=[c[0] for c in COMMON])
def test_bad_options(cls, words, options, error):
    with pytest.raises(error) as caught:
        search(
            cls,
            options.get("estimator", Memo()),
            {"a": [1, 2]},
            2,
            **{k: v for k, v in options.items() if k != "estimator"},
        ).fit(X, y)
    assert any(w in str(caught.value) for w in words.split("|"))


@every_class
def test_bad_progress(cls):
    with pytest.raises(InvalidType, match="progress='yes'"):
        search(cls, Memo(), {"a": [1, 2]}, 2, progress="yes").fit(X, y)


@every_class
@pytest.mark.parametrize("value", [0, -1, 2.5, "5", True, [3]], ids=str)
def test_bad_budgets(cls, value):
    with pytest.raises(WelltunedError) as caught:
        search(cls, Memo(), {"a": [1, 2]}, value).fit(X, y)
    assert f"{BUDGET[cls]}={value!r}" in str(caught.value)


@every_class
def test_no_budget_is_no_budget(cls):
    with pytest.raises(WelltunedError, match=f"{BUDGET[cls]}=None"):
        search(cls, Memo(), {"a": [1, 2]}, None).fit(X, y)


@pytest.mark.parametrize("cls", [BayesSearchCV, GradientSearchCV, TunedSearchCV], ids=lambda c: c.__name__)
@pytest.mark.parametrize("value", [0, 1.5, "2"], ids=str)
def test_bad_n_points(cls, value):
    with pytest.raises(WelltunedError, match=f"n_points={value!r}"):
        search(cls, Memo(), {"a": [1, 2]}, n_points=value).fit(X, y)


@pytest.mark.parametrize("cls", ALL[1:], ids=lambda c: c.__name__)
@pytest.mark.parametrize("value", ["0", -1, 1.5], ids=str)
def test_bad_random_state(cls, value):
    with pytest.raises((WelltunedError, ValueError), match=f"(?s){value}|Seed must be between 0 and"):
        search(cls, Memo(), {"a": (0.0, 1.0)}, random_state=value).fit(X, y)


SETTINGS = [
    ("'bogus'", lambda: TunedSearchCV(Memo(), {"a": [1, 2]}, sampler="bogus")),
    ("sampler=3", lambda: TunedSearchCV(Memo(), {"a": [1, 2]}, sampler=3)),
    ("Bayes", lambda: TunedSearchCV(Memo(), {"a": [1, 2]}, sampler=wt.Bayes)),
    (
        "'n_initial_points' is none of wt.Bayes's settings ['initial', ",
        lambda: BayesSearchCV(Memo(), {"a": [1, 2]}, optimizer_kwargs={"n_initial_points": 5, "base_estimator": "GP"}),
    ),
    ("initial", lambda: BayesSearchCV(Memo(), {"a": [1, 2]}, optimizer_kwargs={"initial": "five"})),
    pytest.param(
        "optimizer_kwargs=3",
        lambda: BayesSearchCV(Memo(), {"a": [1, 2]}, optimizer_kwargs=3),
        id="optimizer_kwargs",
    ),
    pytest.param(
        "fit_params=3",
        lambda: BayesSearchCV(Memo(), {"a": [1, 2]}, fit_params=3),
        id="fit_params",
    ),
    ("step", lambda: GradientSearchCV(Memo(), {"a": (0.0, 1.0)}, step=0)),
    ("step", lambda: GradientSearchCV(Memo(), {"a": (0.0, 1.0)}, step="big")),
    ("resolution", lambda: GridSearchCV(Memo(), {f"a{i}": wt.Float(0, 1) for i in range(12)}, resolution=9)),
]


@pytest.mark.parametrize(("words", "make"), SETTINGS)
def test_bad_settings(words, make):
    with pytest.raises(WelltunedError) as caught:
        make().set_params(cv=2).fit(X, y)
    assert words in str(caught.value)


def test_multimetric_needs_a_metric_to_refit():
    for cls in (GridSearchCV, theirs.GridSearchCV):
        with pytest.raises(ValueError, match="refit"):
            cls(KNN, {"p": [1]}, scoring=["accuracy", "f1_macro"], cv=2).fit(X, y)
        with pytest.raises(ValueError, match="refit"):
            cls(KNN, {"p": [1]}, scoring=two_scores, refit="bogus", cv=2).fit(X, y)


def test_lengths_that_differ():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        GridSearchCV(KNN, {"p": [1]}, cv=2).fit(X, y[:-1])


class Promising(KFold):
    def get_n_splits(self, *args, **kwargs):
        return 5


def test_a_splitter_that_promises_too_much():
    with pytest.raises(ValueError, match="promises 5 splits and yields 2"):
        GridSearchCV(KNN, {"p": [1]}, cv=Promising(2)).fit(X, y)


def test_no_splits():
    with pytest.raises(ValueError, match="splits"):
        GridSearchCV(KNN, {"p": [1]}, cv=[]).fit(X, y)


@every_class
def test_use_before_fit(cls):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        search(cls, KNN, {"p": [1, 2]}, 2).predict(X)


def test_regression():
    data = make_regression(40, 3, noise=1.0, random_state=0)
    grid = {"alpha": [0.01, 1.0, 100.0]}
    options = {"scoring": "neg_mean_squared_error", "cv": 3}
    ours, _ = same_fit(GridSearchCV(Ridge(), grid, **options), theirs.GridSearchCV(Ridge(), grid, **options), data=data)
    assert ours.best_params_ == {"alpha": 0.01}


def test_a_wrong_name_in_one_grid_is_an_error_at_once():
    grids = [{"n_neighbors": [1]}, {"n_neighbours": [1, 2]}]
    with pytest.raises(ValueError, match="n_neighbours"):
        GridSearchCV(KNN, grids, cv=2).fit(X, y)


@pytest.mark.parametrize("value", [3, KNN, StandardScaler()], ids=["number", "estimator", "transformer"])
def test_a_value_in_the_place_of_a_list_says_what_to_write(value):
    with pytest.raises(InvalidType, match=re.escape(f"{value!r} is not a list of values; write [{value!r}]")):
        read_space("space", {"step": value})


def test_spaces_with_numbers_of_iterations_say_what_to_write():
    spaces = [({"n_neighbors": (1, 5)}, 4), ({"p": [1, 2]}, 2)]
    with pytest.raises(InvalidType, match=r"search_spaces=.*give a list of the spaces alone, and n_iter="):
        BayesSearchCV(KNN, spaces, n_iter=2, cv=2).fit(X, y)


def test_arrays_of_booleans_are_choices():
    fitted = GridSearchCV(LogisticRegression(max_iter=500), {"fit_intercept": np.array([True, False])}, cv=2).fit(X, y)
    assert len(fitted.cv_results_["params"]) == 2


def test_a_generator_as_random_state_goes_on_with_its_study(tmp_path):
    """Its first draw is stored; the second fit drew another, and was refused."""
    options = {"n_iter": 3, "cv": 2, "storage": tmp_path / "s.db", "random_state": np.random.RandomState(0)}
    search = BayesSearchCV(Memo(), {"a": (0.0, 1.0)}, **options)
    first = search.fit(X, y).cv_results_["params"]
    assert search.fit(X, y).cv_results_["params"] == first
    names = []
    for state in (np.int64(0), 0, 1):
        search.set_params(random_state=state).fit(X, y)
        names.append(search.study_.name)
    assert names[0] == names[1] != names[2]


def test_a_generator_gives_the_candidates_of_sklearn():
    grid = {"a": stats.uniform(0, 1)}
    found = [
        search(Memo(), grid, n_iter=4, cv=2, random_state=np.random.RandomState(3)).fit(X, y).cv_results_["params"]
        for search in (RandomizedSearchCV, theirs.RandomizedSearchCV)
    ]
    assert found[0] == found[1]
