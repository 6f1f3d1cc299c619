"""Rows of a training fold that are held out for early stopping: neither fitted on nor scored on."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.base import is_classifier
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit, TimeSeriesSplit
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import get_routing_for_object, process_routing
from sklearn.utils.multiclass import type_of_target

from welltuned.errors import InvalidType, InvalidValue
from welltuned.sklearn.compat import check_method_params, safe_split

SHARE = 0.1
DRAWS = 20  # of groups, of which the one counts whose classes are most like those of all
LIGHTGBM_STOPS = ("early_stopping_round", "early_stopping_rounds", "early_stopping", "n_iter_no_change")
# what ``fit`` calls values of the eval rows that stand beside values of the rows it fits
BESIDE_EVAL = {
    "sample_weight": ("sample_weight_eval_set", "eval_sample_weight"),
    "base_margin": ("base_margin_eval_set",),
    "init_score": ("eval_init_score",),
    "qid": ("eval_qid",),
}


def read_share(early_stopping: Any) -> float | None:
    """Return which share of a training fold ``early_stopping=`` of a search holds out; None for none."""
    if early_stopping is None or isinstance(early_stopping, (bool, np.bool_)):
        return SHARE if early_stopping else None
    if not isinstance(early_stopping, (float, np.floating)):
        raise InvalidType(
            f"early_stopping={early_stopping!r} is not True, False or a share of the training rows, such as {SHARE}"
        )
    if not 0.0 < early_stopping < 1.0:
        raise InvalidValue(f"early_stopping={early_stopping!r} must be above 0 and below 1")
    return float(early_stopping)


@dataclass(frozen=True)
class Holdout:
    """How the rows that a fit may use are divided into those it fits and those it stops on.

    ``seed`` and the number of the fold decide about the division, so that every candidate has the same one.
    """

    share: float
    seed: int
    classes: np.ndarray | None = None
    groups: np.ndarray | None = None
    ordered: bool = False

    @classmethod
    def of(cls, search: Any, cv: Any, y: Any, groups: Any) -> Holdout | None:
        """Return the division that a search asks for, given its splitter, the target and the groups."""
        share = read_share(search.early_stopping)
        if share is None:
            return None
        if y is None:
            raise InvalidValue(f"early_stopping={search.early_stopping!r} needs a target y to stop on")
        state = getattr(search, "random_state", None)
        single = is_classifier(search.estimator) and type_of_target(y) in ("binary", "multiclass")
        return cls(
            share,
            int(state) if isinstance(state, (int, np.integer)) else 0,
            np.unique(np.ravel(np.asarray(y)), return_inverse=True)[1] if single else None,
            None if groups is None else np.unique(np.ravel(np.asarray(groups)), return_inverse=True)[1],
            isinstance(cv, TimeSeriesSplit),
        )

    def split(self, rows: np.ndarray, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows to fit and the rows to stop on, of all rows of fold ``index``.

        Raises
        ------
        InvalidValue
            When there are too few rows, or too few of a class or of groups.
        """
        rows = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows)
        distinct = np.unique(rows)
        drawn_again = len(distinct) < len(rows)  # as in a bootstrap; all copies of a row go the same way
        try:
            seed = int(np.random.SeedSequence([self.seed, index]).generate_state(1)[0])
            fit, held = self._split(distinct if drawn_again else rows, seed)
        except ValueError as error:
            where = f"the {len(rows)} training rows of fold {index}"
            raise InvalidValue(f"early_stopping={self.share:g}: {where} cannot be divided: {error}") from error
        return (rows[np.isin(rows, fit)], rows[np.isin(rows, held)]) if drawn_again else (fit, held)

    def _split(self, rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        if self.ordered:  # what comes later stays later
            n = int(np.ceil(self.share * len(rows)))
            if n >= len(rows):
                raise ValueError("no row would be left to fit")
            return rows[:-n], rows[-n:]
        if self.groups is not None:
            return self._split_groups(rows, self.groups[rows], seed)
        if self.classes is None:
            fit, held = next(ShuffleSplit(1, test_size=self.share, random_state=seed).split(rows))
            return rows[np.sort(fit)], rows[np.sort(held)]
        # nothing can be stopped on that was not fitted: the only row of a class is fitted
        classes = self.classes[rows]
        often = np.flatnonzero(np.bincount(classes)[classes] > 1)
        split = StratifiedShuffleSplit(1, test_size=self.share, random_state=seed).split(often, classes[often])
        held = often[np.sort(next(split)[1])]
        return np.delete(rows, held), rows[held]

    def _split_groups(self, rows: np.ndarray, groups: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Divide by whole groups; of several draws, take the one with the classes of all."""
        draws = GroupShuffleSplit(DRAWS, test_size=self.share, random_state=seed).split(rows, groups=groups)
        if self.classes is None:
            fit, held = next(draws)
            return rows[fit], rows[held]
        classes = self.classes[rows]
        whole = np.bincount(classes) / len(rows)

        def unlike(draw: tuple[np.ndarray, np.ndarray]) -> tuple[int, float]:
            fitted, seen = (np.bincount(classes[part], minlength=len(whole)) for part in draw)
            return int((seen[fitted == 0] > 0).sum()), float(np.abs(seen / seen.sum() - whole).sum())

        fit, held = min(draws, key=unlike)
        return rows[fit], rows[held]


def final_step(estimator: Any) -> Any:
    """Return what an estimator fits at last: itself, or the last step of a pipeline."""
    return final_step(estimator.steps[-1][1]) if isinstance(estimator, Pipeline) else estimator


def check_stops(estimator: Any, share: float, fit_params: Mapping[str, Any]) -> None:
    """Refuse an estimator that takes no ``eval_set``, or would not stop on it when it is fitted with these parameters.

    Raises
    ------
    InvalidType, InvalidValue
        With what to do instead.
    """
    last = final_step(estimator)
    name = type(last).__name__
    if "eval_set" not in _parameters_of_fit(last):
        raise InvalidType(
            f"early_stopping={share:g}: {name}.fit takes no eval_set; leave early_stopping out (an estimator that "
            "holds rows out by itself, such as HistGradientBoostingClassifier or MLPClassifier(early_stopping=True), "
            "needs only settings of its own)"
        )
    if isinstance(estimator, Pipeline) and any(hasattr(step, "fit_resample") for _, step in estimator.steps):
        raise InvalidType(f"early_stopping={share:g} cannot be used with a pipeline that resamples rows")
    settings = last.get_params(deep=False)
    if settings.get("early_stopping_rounds", 0) is None and not settings.get("callbacks"):
        raise InvalidValue(
            f"early_stopping={share:g}: {name} has early_stopping_rounds=None, so it would never stop; give it a number"
        )
    calls_back = any(key == "callbacks" or key.endswith("__callbacks") for key in fit_params)
    if _is_lightgbm(last) and not calls_back and not any(settings.get(alias) for alias in LIGHTGBM_STOPS):
        raise InvalidValue(
            f"early_stopping={share:g}: {name} has no early_stopping_round, so it would never stop; give it a number, "
            "or fit(X, y, callbacks=[lightgbm.early_stopping(10)])"
        )


def _is_lightgbm(estimator: Any) -> bool:
    """Tell whether an estimator is fitted by LightGBM as it is; a ``fit`` around that may bring its own callbacks."""
    return str(getattr(type(estimator).fit, "__module__", "")).partition(".")[0] == "lightgbm"


def fit_and_stop(
    estimator: Any, X: Any, y: Any, rows: tuple[np.ndarray, np.ndarray], params: Mapping[str, Any]
) -> tuple[Any, Any]:
    """Fit an estimator on some rows of the data, stopping on others; return what it was fitted to.

    A pipeline's transformers are fitted to the rows to fit alone, and transform the others for its last step.

    Parameters
    ----------
    rows
        Those to fit, and those to stop on.
    params
        Passed on to ``fit``; what has an entry for each row of ``X`` is divided along with it.
    """
    fit, held = rows
    X_fit, y_fit = safe_split(estimator, X, y, fit)
    X_held, y_held = safe_split(estimator, X, y, held, fit)
    _fit(
        estimator,
        (X_fit, y_fit, check_method_params(X, params=params, indices=fit)),
        (X_held, y_held, check_method_params(X, params=params, indices=held)),
    )
    return X_fit, y_fit


def _fit(estimator: Any, fitted: tuple[Any, Any, Mapping[str, Any]], held: tuple[Any, Any, Mapping[str, Any]]) -> None:
    (X, y, params), (X_held, y_held, held_params) = fitted, held
    if isinstance(estimator, Pipeline):
        head = estimator[:-1]
        of_head, of_last = _by_step(estimator, head, params)
        if head.steps:
            X = head.fit_transform(X, y, **of_head)
            estimator.steps[:-1] = head.steps  # with memory= they are fitted clones
            X_held = head.transform(X_held)
        held_of_last = _by_step(estimator, head, held_params)[1]
        _fit(estimator.steps[-1][1], (X, y, of_last), (X_held, y_held, held_of_last))
        return
    known = _parameters_of_fit(estimator)
    if given := sorted({"eval_set", "eval_X", "eval_y"} & set(params)):
        raise InvalidValue(f"{given[0]} was passed to fit, and early_stopping holds out rows for it; use one of them")
    beside = {
        there: [held_params[here]]
        for here, names in BESIDE_EVAL.items()
        for there in names
        if there in known and there not in params and held_params.get(here) is not None
    }
    # XGBoost prints a line a round otherwise
    quiet = {"verbose": False} if "verbose" in known and known["verbose"].default is True else {}
    stop_on = {"eval_X": X_held, "eval_y": y_held} if "eval_X" in known else {"eval_set": [(X_held, y_held)]}
    estimator.fit(X, y, **{**stop_on, **quiet, **beside, **params})


def _by_step(pipeline: Any, head: Any, params: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return what of the parameters of ``fit`` the first steps of a pipeline get, and what the last one does."""
    name = pipeline.steps[-1][0]
    if get_config()["enable_metadata_routing"]:
        used = get_routing_for_object(head).consumes("fit_transform", params.keys()) if head.steps else set()
        return {k: v for k, v in params.items() if k in used}, process_routing(pipeline, "fit", **params)[name].fit
    steps = [step for step, _ in pipeline.steps]
    if unknown := [k for k in params if k.split("__", 1)[0] not in steps or "__" not in k]:
        raise InvalidValue(f"fit got {unknown[0]!r}; a pipeline takes step__parameter, with a step out of {steps!r}")
    last = {k[len(name) + 2 :]: v for k, v in params.items() if k.startswith(f"{name}__")}
    return {k: v for k, v in params.items() if not k.startswith(f"{name}__")}, last


def _parameters_of_fit(estimator: Any) -> Mapping[str, inspect.Parameter]:
    fit = getattr(estimator, "fit", None)
    return {} if fit is None else inspect.signature(fit).parameters
