"""The four programs that people write first: a neural network tuned by grid, random, Bayesian and gradient search."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.stats import randint, uniform
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier

import welltuned as wt
from welltuned import Int
from welltuned.sklearn import BayesSearchCV, GridSearchCV, RandomizedSearchCV

X, y = make_classification(n_samples=200, n_features=10, n_informative=2, n_redundant=0, random_state=42)
param_grid = {"learning_rate": [0.01, 0.001, 0.0001], "batch_size": [32, 64, 128, 256], "epochs": [10, 20, 30, 40]}


class Network(ClassifierMixin, BaseEstimator):
    """A small neural network with the knobs that everybody knows."""

    def __init__(self, learning_rate=0.001, batch_size=32, epochs=10):
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.epochs = epochs

    def fit(self, X, y):
        self.network_ = MLPClassifier(
            (16,),
            learning_rate_init=self.learning_rate,
            batch_size=self.batch_size,
            max_iter=self.epochs,
            random_state=0,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.network_.fit(X, y)
        self.classes_ = self.network_.classes_
        return self

    def predict(self, X):
        return self.network_.predict(X)


@pytest.fixture(scope="module")
def default_score():
    return cross_val_score(Network(), X, y, cv=3).mean()


def test_grid(default_score):
    grid_search = GridSearchCV(Network(), param_grid, cv=3, n_jobs=2)
    grid_search.fit(X, y)
    assert len(grid_search.cv_results_["params"]) == 48
    assert grid_search.best_score_ > default_score + 0.01
    assert all(grid_search.best_params_[name] in values for name, values in param_grid.items())
    assert grid_search.score(X, y) > default_score


def test_random(default_score):
    random_search = RandomizedSearchCV(Network(), param_grid, n_iter=10, cv=3, n_jobs=2, random_state=42)
    random_search.fit(X, y)
    assert len(random_search.cv_results_["params"]) == 10
    assert random_search.best_score_ > default_score + 0.01
    assert set(random_search.best_params_) == {"learning_rate", "batch_size", "epochs"}


def test_random_forest():
    forest = RandomForestClassifier(n_estimators=20, random_state=0)
    param_distributions = {
        "n_estimators": randint(10, 60),
        "max_depth": [None, 3, 5, 10],
        "min_samples_split": randint(2, 11),
        "max_features": ["sqrt", None, 0.5],
        "bootstrap": [True, False],
    }
    random_search = RandomizedSearchCV(forest, param_distributions, n_iter=8, cv=3, n_jobs=2, random_state=42)
    random_search.fit(X, y)
    assert random_search.best_score_ > cross_val_score(forest, X, y, cv=3).mean()
    assert random_search.best_estimator_.n_estimators == random_search.best_params_["n_estimators"]


def test_bayes(default_score):
    search_spaces = {
        "learning_rate": uniform(loc=0.001, scale=0.009),
        "batch_size": Int(uniform(loc=32, scale=96)),
        "epochs": Int(uniform(loc=10, scale=10)),
    }
    bayes_search = BayesSearchCV(Network(), search_spaces, n_iter=15, cv=3, n_jobs=2, random_state=42)
    bayes_search.fit(X, y)
    assert bayes_search.best_score_ > default_score + 0.01
    assert 0.001 <= bayes_search.best_params_["learning_rate"] <= 0.01
    assert bayes_search.best_params_["batch_size"] in range(32, 129)
    assert bayes_search.best_params_["epochs"] in range(10, 21)


def objective(params):
    network = Network(learning_rate=params[0], batch_size=int(params[1]), epochs=int(params[2]))
    return -cross_val_score(network, X, y, cv=3).mean()


def test_gradient():
    bounds = [(0.001, 0.01), (32, 128), (10, 20)]
    result = wt.minimize(objective, bounds, sampler="gradient", n_trials=20, seed=0)
    default = cross_val_score(Network(), X, y, cv=3).mean()
    assert -result.best.value > default + 0.01
    best = result.best.params
    assert list(best) == ["x0", "x1", "x2"]
    assert all(low <= value <= high for value, (low, high) in zip(best.values(), bounds, strict=True))
    np.testing.assert_allclose(objective(list(best.values())), result.best.value)
