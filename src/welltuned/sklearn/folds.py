"""One fit: a candidate on the training rows of one fold, scored on the others."""

from __future__ import annotations

import numbers
import time
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import clone

from welltuned.errors import InvalidValue
from welltuned.sklearn.compat import MultimetricScorer, check_method_params, safe_split
from welltuned.sklearn.stopping import Holdout, check_stops, fit_and_stop
from welltuned.trial import Report


@dataclass(frozen=True)
class Plan:
    """What all fits of a search share."""

    estimator: Any
    X: Any
    y: Any
    splits: list[tuple[np.ndarray, np.ndarray]]
    scorer: Any
    fit_params: Mapping[str, Any] = field(default_factory=dict)
    score_params: Mapping[str, Any] = field(default_factory=dict)
    error_score: Any = np.nan
    return_train_score: bool = False
    holdout: Holdout | None = None

    def fit(self, estimator: Any, rows: np.ndarray, fold: int) -> tuple[Any, Any, np.ndarray]:
        """Fit an estimator on rows of a fold; return what it was fitted to, and the rows of that."""
        if self.holdout is not None:
            parts = self.holdout.split(rows, fold)
            return *fit_and_stop(estimator, self.X, self.y, parts, self.fit_params), parts[0]
        X, y = safe_split(estimator, self.X, self.y, rows)
        fit_params = check_method_params(self.X, params=self.fit_params, indices=rows)
        estimator.fit(X, **fit_params) if y is None else estimator.fit(X, y, **fit_params)
        return X, y, rows


@dataclass(frozen=True)
class Fold:
    """The scores and times of one fit. Scores are by metric; of a single metric the name is ``score``.

    ``several`` tells whether the scorer returned metrics by name, ``error`` why the fit failed, if it did.
    """

    test: Mapping[str, float]
    train: Mapping[str, float]
    fit_time: float
    score_time: float
    several: bool = False
    error: str | None = None

    def to_report(self, step: int) -> Report:
        """Write the fold as a report of its trial."""
        metrics = {
            "fit_time": self.fit_time,
            "score_time": self.score_time,
            "failed": float(self.error is not None),
            "several": float(self.several),
        }
        scores = {f"test_{k}": v for k, v in self.test.items()} | {f"train_{k}": v for k, v in self.train.items()}
        return Report(step, metrics | {k: float(v) for k, v in scores.items() if np.isfinite(v)})

    @classmethod
    def from_report(cls, report: Report) -> Fold:
        """Read a fold back; scores that were not finite are missing."""
        m = report.metrics
        test = {k[5:]: v for k, v in m.items() if k.startswith("test_")}
        train = {k[6:]: v for k, v in m.items() if k.startswith("train_")}
        return cls(test, train, m["fit_time"], m["score_time"], bool(m["several"]), "failed" if m["failed"] else None)


def fit_fold(plan: Plan, params: Mapping[str, Any], index: int) -> Fold:
    """Fit a clone with ``params`` on fold ``index`` and score it; failures become ``error_score``, unless that
    is "raise".
    """
    train, test = plan.splits[index]
    estimator = clone(plan.estimator)
    began = time.perf_counter()
    # parameters may be estimators themselves, which must not be fitted twice; a wrong name is an error of the grid
    estimator.set_params(**{k: clone(v, safe=False) for k, v in params.items()})
    if plan.holdout is not None:
        check_stops(estimator, plan.holdout.share, plan.fit_params)
    try:
        X, y, fitted_rows = plan.fit(estimator, train, index)
    except Exception:
        if plan.error_score == "raise":
            raise
        return Fold(
            {}, {}, time.perf_counter() - began, 0.0, isinstance(plan.scorer, MultimetricScorer), traceback.format_exc()
        )
    fitted = time.perf_counter()
    X_test, y_test = safe_split(estimator, plan.X, plan.y, test, train)
    scores = _score(plan, estimator, X_test, y_test, test)
    scored = time.perf_counter()
    on_train = _score(plan, estimator, X, y, fitted_rows) if plan.return_train_score else {}
    return Fold(_by_name(scores), _by_name(on_train), fitted - began, scored - fitted, isinstance(scores, Mapping))


def _score(plan: Plan, estimator: Any, X: Any, y: Any, rows: np.ndarray) -> Any:
    score_params = check_method_params(plan.X, params=plan.score_params, indices=rows)
    try:
        scores = (
            plan.scorer(estimator, X, **score_params) if y is None else plan.scorer(estimator, X, y, **score_params)
        )
    except Exception:
        # a scorer of several metrics deals with those that fail; what it raises is wrong with all of them
        if plan.error_score == "raise" or isinstance(plan.scorer, MultimetricScorer):
            raise
        warnings.warn(
            f"Scoring failed. The score on this train-test partition for these parameters will be set to "
            f"{plan.error_score}. Details: \n{traceback.format_exc()}",
            UserWarning,
            stacklevel=2,
        )
        return plan.error_score
    if not isinstance(plan.scorer, MultimetricScorer) or not isinstance(scores, Mapping):
        return scores
    # a scorer of several metrics returns the traceback in the place of one that failed
    if broken := {k: v for k, v in scores.items() if isinstance(v, str)}:
        warnings.warn(
            f"Scoring failed for {sorted(broken)}. Details: \n{next(iter(broken.values()))}", UserWarning, stacklevel=2
        )
    return {k: plan.error_score if isinstance(v, str) else v for k, v in scores.items()}


def _by_name(scores: Any) -> dict[str, float]:
    named = scores if isinstance(scores, Mapping) else {"score": scores}
    for name, value in named.items():
        item = value.item() if hasattr(value, "item") else value
        if not isinstance(item, numbers.Number):
            raise InvalidValue(f"scoring must return a number, got {name}={value!r} ({type(value).__name__})")
    return {str(k): float(v) for k, v in named.items()}
