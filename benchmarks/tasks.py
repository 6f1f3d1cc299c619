"""Small tuning tasks on real models: what people tune most, on data that come with scikit-learn or that it makes.

A configuration takes a hundredth of a second to a tenth, so that dozens of tasks can be raced over many seeds. Losses
are means over three folds; they are ragged and have plateaus, as those of real models do.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from problems import Choice, Config, Number, Problem, Space, When, calibrated, forked, own, require

Make = Callable[[Config, bool], Any]  # a model of a configuration, for classification or for regression
Folds = list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]
POINTS = 200  # of the random sample that sets a task's scale
REGRESSION = ("rmse", "mae")  # scores of data whose targets are numbers
FAILED = 1e6  # the loss of a model that cannot be fitted, or whose predictions are not finite


@dataclass(frozen=True)
class Kind:
    """A kind of model: its space, and how to make one."""

    space: Space
    make: Make


def _whole(low: float, high: float) -> Number:
    return Number(low, high, whole=True)


def _count(low: float, high: float) -> Number:
    return Number(low, high, log=True, whole=True)


def _scale(low: float, high: float, when: When | None = None) -> Number:
    return Number(low, high, log=True, when=when)


def _pair(module: str, classifier: str, regressor: str, **fixed: Any) -> Make:
    """Return what makes a model of ``module`` for classification or for regression."""

    def make(config: Config, classes: bool) -> Any:
        return getattr(importlib.import_module(module), classifier if classes else regressor)(**config, **fixed)

    return make


def _only(module: str, name: str, **fixed: Any) -> Make:
    return _pair(module, name, name, **fixed)


def _after(step: Callable[..., Any], names: tuple[str, ...], make: Make) -> Make:
    """Return what makes a pipeline: a step that the parameters of these names are for, and a model."""

    def piped(config: Config, classes: bool) -> Any:
        from sklearn.pipeline import make_pipeline

        rest = {name: value for name, value in config.items() if name not in names}
        return make_pipeline(step(*(config[name] for name in names)), make(rest, classes))

    return piped


def _components(n: int, whiten: bool = False) -> Any:
    from sklearn.decomposition import PCA

    return PCA(n, whiten=whiten, random_state=0)


def _products(degree: int) -> Any:
    from sklearn.preprocessing import PolynomialFeatures

    return PolynomialFeatures(degree, include_bias=False)


def _kernels(*names: str) -> When:
    return ("kernel", frozenset(names))


_FOREST: Space = {
    "n_estimators": _count(5, 40),
    "max_features": Number(0.05, 1.0),
    "max_depth": _whole(1, 20),
    "min_samples_leaf": _count(1, 50),
}
_SVC = _only("sklearn.svm", "SVC", max_iter=20_000)
_ENSEMBLE = "sklearn.ensemble"
KINDS: dict[str, Kind] = {
    "boost": Kind(
        {
            "learning_rate": _scale(1e-3, 1.0),
            "n_estimators": _count(5, 60),
            "max_depth": _whole(1, 5),
            "subsample": Number(0.3, 1.0),
            "min_samples_leaf": _count(1, 30),
        },
        _pair(_ENSEMBLE, "GradientBoostingClassifier", "GradientBoostingRegressor", random_state=0),
    ),
    "enet": Kind(
        {
            "alpha": _scale(1e-4, 10.0),
            "l1_ratio": Number(0.01, 1.0),
            "degree": Choice((1, 2)),
            "tol": _scale(1e-5, 1e-1),
        },
        _after(_products, ("degree",), _only("sklearn.linear_model", "ElasticNet", max_iter=500)),
    ),
    "extra": Kind(_FOREST, _pair(_ENSEMBLE, "ExtraTreesClassifier", "ExtraTreesRegressor", random_state=0)),
    "forest": Kind(_FOREST, _pair(_ENSEMBLE, "RandomForestClassifier", "RandomForestRegressor", random_state=0)),
    "knn": Kind(
        {
            "n_neighbors": _count(1, 50),
            "p": Number(1.0, 4.0),
            "weights": Choice(("uniform", "distance")),
            "n": _whole(1, 15),
        },
        _after(_components, ("n",), _pair("sklearn.neighbors", "KNeighborsClassifier", "KNeighborsRegressor")),
    ),
    "kr": Kind(
        {
            "alpha": _scale(1e-6, 1e2),
            "gamma": _scale(1e-5, 10.0),
            "kernel": Choice(("rbf", "laplacian", "polynomial")),
            "degree": Number(1, 5, whole=True, when=_kernels("polynomial")),
        },
        _only("sklearn.kernel_ridge", "KernelRidge"),
    ),
    "lgb": Kind(
        {
            "learning_rate": _scale(1e-2, 1.0),
            "n_estimators": _count(5, 100),
            "num_leaves": _count(2, 64),
            "bagging_fraction": Number(0.4, 1.0),
            "feature_fraction": Number(0.3, 1.0),
            "min_child_samples": _count(1, 60),
            "reg_lambda": _scale(1e-3, 1e2),
            "reg_alpha": _scale(1e-4, 10.0),
        },
        _pair(
            *("lightgbm", "LGBMClassifier", "LGBMRegressor"), bagging_freq=1, n_jobs=1, random_state=0, verbosity=-1
        ),
    ),
    "logit": Kind(
        {
            "C": _scale(1e-4, 1e3),
            "degree": Choice((1, 2)),
            "class_weight": Choice((None, "balanced")),
            "fit_intercept": Choice((True, False)),
        },
        _after(_products, ("degree",), _only("sklearn.linear_model", "LogisticRegression", max_iter=200)),
    ),
    "mlp": Kind(
        {
            "hidden_layer_sizes": _count(4, 64),
            "learning_rate_init": _scale(1e-4, 1e-1),
            "alpha": _scale(1e-6, 1.0),
            "batch_size": Choice((16, 32, 64, 128)),
            "activation": Choice(("relu", "tanh", "logistic")),
            "max_iter": _whole(3, 20),
        },
        _pair("sklearn.neural_network", "MLPClassifier", "MLPRegressor", random_state=0),
    ),
    "pcasvc": Kind(
        {
            "n": _whole(1, 15),
            "C": _scale(1e-3, 1e3),
            "gamma": _scale(1e-6, 1e1),
            "whiten": Choice((True, False)),
        },
        _after(_components, ("n", "whiten"), _SVC),
    ),
    "sgd": Kind(
        {
            "alpha": _scale(1e-7, 1e-1),
            "l1_ratio": Number(0.0, 1.0),
            "eta0": _scale(1e-4, 1.0),
            "power_t": Number(0.1, 0.9),
            "learning_rate": Choice(("optimal", "invscaling", "constant", "adaptive")),
            "max_iter": _count(2, 60),
            "loss": Choice(("log_loss", "hinge", "modified_huber")),
        },
        _only("sklearn.linear_model", "SGDClassifier", penalty="elasticnet", random_state=0),
    ),
    "svc": Kind(
        {
            "C": _scale(1e-3, 1e3),
            "kernel": Choice(("linear", "rbf", "poly", "sigmoid")),
            "gamma": _scale(1e-6, 1e1, when=_kernels("rbf", "poly", "sigmoid")),
        },
        _SVC,
    ),
    "svr": Kind(
        {"C": _scale(1e-3, 1e3), "gamma": _scale(1e-5, 1e1), "epsilon": _scale(1e-4, 1.0)},
        _only("sklearn.svm", "SVR", max_iter=20_000),
    ),
    "tree": Kind(
        {
            "max_depth": _whole(1, 20),
            "min_samples_leaf": _count(1, 50),
            "min_samples_split": _count(2, 50),
            "ccp_alpha": _scale(1e-5, 1e-1),
            "max_features": Number(0.1, 1.0),
        },
        _pair("sklearn.tree", "DecisionTreeClassifier", "DecisionTreeRegressor", random_state=0),
    ),
    "xgb": Kind(
        {
            "learning_rate": _scale(1e-2, 1.0),
            "n_estimators": _count(5, 100),
            "max_depth": _whole(1, 10),
            "subsample": Number(0.3, 1.0),
            "colsample_bytree": Number(0.3, 1.0),
            "min_child_weight": _scale(0.1, 20.0),
            "reg_lambda": _scale(1e-3, 1e2),
            "reg_alpha": _scale(1e-4, 10.0),
            "gamma": _scale(1e-4, 5.0),
        },
        _pair("xgboost", "XGBClassifier", "XGBRegressor", n_jobs=1, random_state=0, verbosity=0),
    ),
}

#: kind of model, data, score
TASKS = (
    *("tree-cancer-acc", "tree-synth-ll", "tree-diabetes-rmse", "tree-friedman-rmse"),
    *("forest-wine-ll", "forest-diabetes-rmse", "forest-synth-acc", "extra-friedman-rmse", "extra-iris-ll"),
    *("boost-iris-ll", "boost-moons-acc", "boost-diabetes-rmse", "boost-friedman2-mae"),
    *("svc-digits-acc", "svc-synth3-acc", "svc-cancer-auc", "svr-diabetes-mae", "svr-friedman-rmse"),
    *("pcasvc-synth3-acc", "knn-digits-acc", "knn-synth-ll", "logit-cancer-ll", "logit-wine-acc"),
    *("enet-sparse-rmse", "enet-diabetes-rmse", "sgd-synth-acc", "sgd-cancer-acc"),
    *("mlp-digits-ll", "mlp-wine-acc", "kr-friedman2-rmse", "kr-diabetes-rmse"),
    *("xgb-synth-ll", "xgb-friedman-rmse", "xgb-cancer-auc", "lgb-synth3-ll", "lgb-diabetes-rmse"),
)
#: data, score: which of three kinds of model, and its parameters
CHOICES = (
    *("digits-acc", "synth-acc", "synth3-acc", "moons-acc", "cancer-auc", "synth-auc", "wine-ll"),
    *("diabetes-rmse", "diabetes-mae", "friedman-rmse", "friedman2-mae", "sparse-rmse"),
)


def _data(name: str) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return inputs, targets, and whether the targets are classes."""
    from sklearn import datasets

    if name == "digits":
        X, y = datasets.load_digits(return_X_y=True)
        kept = np.random.default_rng(0).permutation(len(y))[:400]
        return X[kept], y[kept], True
    makers: dict[str, tuple[Callable[[], Any], bool]] = {
        "cancer": (functools.partial(datasets.load_breast_cancer, return_X_y=True), True),
        "diabetes": (functools.partial(datasets.load_diabetes, return_X_y=True), False),
        "friedman": (lambda: datasets.make_friedman1(300, 10, noise=1.0, random_state=0), False),
        "friedman2": (lambda: _smaller(1e3, *datasets.make_friedman2(300, noise=50.0, random_state=0)), False),
        "iris": (functools.partial(datasets.load_iris, return_X_y=True), True),
        "moons": (lambda: datasets.make_moons(300, noise=0.35, random_state=0), True),
        "sparse": (
            lambda: _smaller(1e2, *datasets.make_regression(200, 60, n_informative=8, noise=20.0, random_state=0)),
            False,
        ),
        "synth": (
            lambda: datasets.make_classification(
                *(400, 20), n_informative=6, n_redundant=4, n_clusters_per_class=3, flip_y=0.08, random_state=0
            ),
            True,
        ),
        "synth3": (
            lambda: datasets.make_classification(
                *(400, 15), n_informative=8, n_classes=4, flip_y=0.05, random_state=1
            ),
            True,
        ),
        "wine": (functools.partial(datasets.load_wine, return_X_y=True), True),
    }
    make, classes = makers[name]
    return *make(), classes


def _smaller(factor: float, X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return X, y / factor


def _folds(X: np.ndarray, y: np.ndarray, classes: bool) -> Folds:
    from sklearn.model_selection import KFold, StratifiedKFold
    from sklearn.preprocessing import StandardScaler

    split = (StratifiedKFold if classes else KFold)(3, shuffle=True, random_state=0).split(X, y)
    out = []
    for fitted, held in split:
        scaler = StandardScaler().fit(X[fitted])
        out.append((scaler.transform(X[fitted]), y[fitted], scaler.transform(X[held]), y[held]))
    return out


def _loss(model: Any, X: np.ndarray, y: np.ndarray, score: str) -> float:
    from sklearn import metrics

    if score == "acc":
        return 1.0 - float(model.score(X, y))
    if score == "ll":
        return float(metrics.log_loss(y, model.predict_proba(X), labels=model.classes_))
    if score == "auc":
        by = model.decision_function(X) if hasattr(model, "decision_function") else model.predict_proba(X)[:, 1]
        return 1.0 - float(metrics.roc_auc_score(y, by))
    error = np.abs(model.predict(X) - y)
    return float(np.sqrt((error**2).mean()) if score == "rmse" else error.mean())


def _problem(name: str, space: Space, make: Make, data: str, score: str) -> Problem:
    X, y, classes = _data(data)
    folds = _folds(X, y, classes)

    def mean_loss(config: Config) -> float:
        losses = []
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # too few iterations are part of the problem
            for X, y, held, truth in folds:
                try:
                    losses.append(_loss(make(config, classes).fit(X, y), held, truth, score))
                except ValueError:  # such as infinite predictions after a learning rate that is too large
                    return FAILED
        mean = float(np.mean(losses))
        return mean if np.isfinite(mean) else FAILED

    return Problem(name, space, mean_loss, points=POINTS)


def _task(name: str) -> Problem:
    kind, data, score = name.split("-")
    return _problem(f"tasks:{name}", KINDS[kind].space, KINDS[kind].make, data, score)


def tasks() -> dict[str, Callable[[], Problem]]:
    """One kind of model each, without a choice among kinds."""
    for package, module in (("scikit-learn", "sklearn"), ("xgboost", "xgboost"), ("lightgbm", "lightgbm")):
        require(package, module, "suite tasks")
    return {f"tasks:{name}": functools.partial(_task, name) for name in TASKS}


def choice_models(score: str) -> dict[str, Kind]:
    """Return the kinds of model that there is a choice among."""
    svm = "svr" if score in REGRESSION else "svc"
    return {"svm": KINDS[svm], "forest": KINDS["forest"], "boosting": KINDS["boost"]}


def _choice(name: str) -> Problem:
    """Make the choice among a support vector machine, a forest and boosting, each with parameters of its own."""
    data, score = name.split("-")
    models = choice_models(score)

    def make(config: Config, classes: bool) -> Any:
        kind = config["kind"]
        model = models[kind].make(own(config, "kind"), classes)
        return calibrated(model) if kind == "svm" and score == "ll" else model

    space = forked("kind", {kind: model.space for kind, model in models.items()})
    return _problem(f"choices:{name}", space, make, data, score)


def choices() -> dict[str, Callable[[], Problem]]:
    """A choice among three kinds of model each."""
    require("scikit-learn", "sklearn", "suite choices")
    return {f"choices:{name}": functools.partial(_choice, name) for name in CHOICES}
