"""The five searches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
from sklearn.model_selection import ParameterGrid, ParameterSampler
from sklearn.utils import check_random_state
from sklearn.utils.validation import has_fit_parameter

from welltuned.errors import InvalidType, InvalidValue
from welltuned.samplers import Bayes, make_sampler
from welltuned.samplers.grid import MAX_POINTS
from welltuned.samplers.novel import draw, grid_rows
from welltuned.schedulers import NONE, Race
from welltuned.sklearn.search import Evaluate, StudySearchCV
from welltuned.sklearn.spaces import as_grids, as_list, drawable, read_space, with_own_settings
from welltuned.space import Categorical, Float, Int, Ordinal, Params, Space
from welltuned.storage import open_storage
from welltuned.study import Rule, Study
from welltuned.trial import Trial

COMMON = """    scoring, n_jobs, refit, cv, verbose, pre_dispatch, error_score, return_train_score
        As in ``sklearn.model_selection.GridSearchCV``.
    storage
        A file such as ``"search.db"`` that keeps each finished (candidate, fold). The same ``fit`` again, after a
        crash or for more candidates, runs only what is missing. Give ``cv`` and ``random_state`` whole numbers or
        fixed splits.
    time_budget
        Seconds after which no further fold is started, once one candidate has all of its folds. A candidate that is not
        complete then is left out; with ``storage`` the next ``fit`` goes on with it.
    progress
        True or False for the live line; unless given, it is shown on a terminal and in a notebook.
    racing
        True leaves out the remaining folds of a candidate that can hardly win any more, judged fold by fold as in
        :class:`welltuned.Race`; ``Race(alpha=0.01)`` is more careful. Such a candidate has NaN for the folds that were
        not run, means over those that were, and ranks after all candidates with all folds; the column ``n_folds`` of
        ``cv_results_`` says how many were run. With several metrics, ``refit`` names the one to race by.
    early_stopping
        A share of the rows of each training fold (True: 0.1) that the estimator, or the last step of a pipeline, gets
        as ``eval_set`` to stop on: rows that are neither fitted on nor scored on. They are stratified for classifiers,
        keep groups together, are the last ones with ``TimeSeriesSplit``, and follow from ``random_state`` if that is a
        whole number. The final refit holds out the same share of all rows.
"""


STOP = """    stop
        A rule that ends the search before all candidates are done, or a list of them, as for
        :meth:`welltuned.Study.optimize`: ``Patience(10)``, ``Target(0.99)``, ``ExpectedGain(0.001)``. It is asked
        before each candidate, or before each ``n_points`` of them.
"""


def _with_common(cls: type) -> type:
    cls.__doc__ = (cls.__doc__ or "").replace("    <common>\n", COMMON).replace("    <stop>\n", STOP)
    return cls


class _ListSearchCV(StudySearchCV):
    """A search whose candidates are all known beforehand."""

    def _candidates(self) -> list[Params]:
        raise NotImplementedError

    def _n_candidates(self) -> int:
        return len(self._candidate_list)

    def _open_study(self, space: Space, name: str, storage: Any, state: Any) -> Study:  # noqa: ARG002
        study = Study(
            space, direction={"score": "maximize"}, sampler="random", storage=storage, name=name, scheduler=NONE
        )
        known = [dict(t.params or {}) for t in study.trials]
        self._candidate_list = self._candidates()
        if getattr(self, "random_state", 0) is None:  # any draws will do: those of the earlier fit come first
            self._candidate_list = [*known, *self._candidate_list][: len(self._candidate_list)]
        self._keys = [space.key(space.validate(params)) for params in self._candidate_list]
        missing = Counter(self._keys) - Counter(space.key(params) for params in known)
        fresh = []
        for params, key in zip(self._candidate_list, self._keys, strict=True):
            if missing[key] > 0:
                missing[key] -= 1
                fresh.append(params)
        if self.racing:  # the good ones of a grid lie together, and may come last: until then, few have lost
            fresh = [fresh[i] for i in np.random.default_rng(0).permutation(len(fresh))]
        study.enqueue(fresh, again=True)  # scikit-learn evaluates what a grid has twice, twice
        study.n_trials = len(study.trials)
        return study

    def _in_order(self, trials: list[Trial]) -> list[Trial]:
        """The trials of this fit's candidates, in their order; a storage may hold those of other fits beside them."""
        by_key: dict[str | None, list[Trial]] = {}
        for trial in reversed(trials):
            by_key.setdefault(trial.key, []).append(trial)
        # with the values as they were given: a numpy scalar among them keeps its type
        return [
            replace(by_key[key].pop(), params=params)
            for key, params in zip(self._keys, self._candidate_list, strict=True)
            if by_key.get(key)
        ]

    def _run_search(self, evaluate_candidates: Evaluate) -> None:
        """Hand over all candidates at once, or, where time may be up, a few at a time."""
        batch = len(self._candidate_list) if self.time_budget is None else max(abs(self.n_jobs or 1), 1)
        while evaluate_candidates(batch):
            pass

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in super().__getstate__().items() if k not in ("_candidate_list", "_keys")}


@_with_common
class GridSearchCV(_ListSearchCV):
    """Try every combination, with scikit-learn's signature and meaning.

    Parameters
    ----------
    estimator
        The estimator, or pipeline, to tune.
    param_grid
        A dict from parameter name to its values, or a list of such dicts. Besides lists it takes frozen ``scipy.stats``
        distributions, ``(low, high, "log-uniform")`` tuples and welltuned's parameters, of which ``resolution`` evenly
        spaced values are tried. A tuple of plain values is a list of them, as in scikit-learn.
    resolution
        Values to try of a parameter that is not a list.
    <common>
    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import SVC
    >>> search = GridSearchCV(SVC(), {"C": [0.1, 1, 10], "kernel": ["linear", "rbf"]}, cv=5).fit(
    ...     *load_iris(return_X_y=True)
    ... )
    >>> search.best_params_
    {'C': 1, 'kernel': 'linear'}
    """

    _required_parameters = ("estimator", "param_grid")

    def __init__(
        self,
        estimator: Any,
        param_grid: Any,
        *,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: Any = "2*n_jobs",
        error_score: Any = np.nan,
        return_train_score: bool = False,
        resolution: int = 5,
        storage: Any = None,
        time_budget: float | None = None,
        progress: bool | None = None,
        racing: bool | Race = False,
        early_stopping: bool | float | None = None,
    ) -> None:
        super().__init__(
            estimator=estimator,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.param_grid = param_grid
        self.resolution = resolution
        self.storage = storage
        self.time_budget = time_budget
        self.progress = progress
        self.racing = racing
        self.early_stopping = early_stopping

    def _space(self) -> Space:
        return read_space("param_grid", self.param_grid, pairs_are_values=True)

    def _candidates(self) -> list[Params]:
        grids = as_grids(self.param_grid)
        lists = None if grids is None else [{k: as_list(v) for k, v in grid.items()} for grid in grids]
        if lists is not None and all(v is not None for grid in lists for v in grid.values()):
            return list(ParameterGrid(lists))
        space = self._space()
        rows = grid_rows(space, self.resolution, MAX_POINTS)
        if rows is None:
            raise InvalidValue(
                f"param_grid has more than {MAX_POINTS:,} points at resolution={self.resolution}; use a lower one, or "
                "another search"
            )
        return space.decode(rows, activated=True)


@_with_common
class RandomizedSearchCV(_ListSearchCV):
    """Try ``n_iter`` random candidates, with scikit-learn's signature and meaning.

    Lists and distributions with a whole-number ``random_state`` give the candidates that scikit-learn gives.

    Parameters
    ----------
    estimator
        The estimator, or pipeline, to tune.
    param_distributions
        A dict from parameter name to a list, a frozen ``scipy.stats`` distribution, a ``(low, high)`` or ``(low, high,
        "log-uniform")`` tuple or one of welltuned's parameters; a list of such dicts; or a ``Space`` with conditions.
    n_iter
        Number of candidates.
    <common>
    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import SVC
    >>> search = RandomizedSearchCV(SVC(), {"C": loguniform(1e-2, 1e2)}, n_iter=5, random_state=0).fit(
    ...     *load_iris(return_X_y=True)
    ... )
    >>> len(search.cv_results_["params"])
    5
    """

    _required_parameters = ("estimator", "param_distributions")

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        n_iter: int = 10,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: Any = "2*n_jobs",
        random_state: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        storage: Any = None,
        time_budget: float | None = None,
        progress: bool | None = None,
        racing: bool | Race = False,
        early_stopping: bool | float | None = None,
    ) -> None:
        super().__init__(
            estimator=estimator,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.param_distributions = param_distributions
        self.n_iter = n_iter
        self.random_state = random_state
        self.storage = storage
        self.time_budget = time_budget
        self.progress = progress
        self.racing = racing
        self.early_stopping = early_stopping

    def _space(self) -> Space:
        return read_space("param_distributions", self.param_distributions)

    def _candidates(self) -> list[Params]:
        grids = as_grids(self.param_distributions)
        if grids is None or any(
            p.when is not None
            for grid in grids
            for p in grid.values()
            if isinstance(p, (Float, Int, Categorical, Ordinal))
        ):
            space = self._space()
            rng = np.random.default_rng(check_random_state(self.random_state).randint(2**31 - 1))
            return space.decode(draw(space, self.n_iter, rng), activated=True)
        return list(
            ParameterSampler(
                [{k: drawable(k, v) for k, v in grid.items()} for grid in grids],
                self.n_iter,
                random_state=self.random_state,
            )
        )


class _ModelSearchCV(StudySearchCV):
    """A search whose next candidates depend on the scores so far. It begins with the estimator as it stands."""

    def _budget(self) -> int:
        raise NotImplementedError

    def _sampler(self) -> Any:
        raise NotImplementedError

    def _n_candidates(self) -> int:
        return self._budget()

    def _open_study(self, space: Space, name: str, storage: Any, state: Any) -> Study:
        store = None if storage is None else open_storage(storage)
        # a generator goes on where it is: what it gave the first time is stored
        drawn = not isinstance(state, (int, np.integer))
        stored = drawn and store is not None and name in {row.name for row in store.studies()}
        seed = None if state is None or stored else int(check_random_state(state).randint(2**31 - 1))
        return Study(
            with_own_settings(space, self.estimator),
            direction={"score": "maximize"},
            sampler=self._sampler(),
            storage=store,
            name=name,
            seed=seed,
            n_trials=self._budget(),
            scheduler=NONE,  # a race is run by the search itself
        )


@_with_common
class BayesSearchCV(_ModelSearchCV):
    """Search with a Gaussian process, with scikit-optimize's signature.

    Parameters
    ----------
    estimator
        The estimator, or pipeline, to tune.
    search_spaces
        A dict from parameter name to a ``(low, high)`` or ``(low, high, "log-uniform")`` tuple, a list, a frozen
        ``scipy.stats`` distribution or one of welltuned's parameters; a list of such dicts; or a ``Space``. An
        estimator that needs whole numbers gets them from ``Int``: ``Int(uniform(loc=32, scale=96))``.
    n_iter
        Number of candidates.
    optimizer_kwargs
        Settings of :class:`welltuned.Bayes`, such as ``{"initial": 5}``.
    n_points
        How many candidates are proposed, and evaluated side by side, at a time.
    fit_params
        Passed on to the estimator's ``fit``.
    <stop>
    <common>
    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import SVC
    >>> search = BayesSearchCV(SVC(), {"C": (1e-2, 1e2, "log-uniform")}, n_iter=8, random_state=0).fit(
    ...     *load_iris(return_X_y=True)
    ... )
    >>> bool(search.best_score_ > 0.95)
    True
    """

    _required_parameters = ("estimator", "search_spaces")

    def __init__(
        self,
        estimator: Any,
        search_spaces: Any,
        optimizer_kwargs: Mapping[str, Any] | None = None,
        n_iter: int = 50,
        scoring: Any = None,
        fit_params: Mapping[str, Any] | None = None,
        n_jobs: int | None = 1,
        n_points: int = 1,
        iid: Any = "deprecated",
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: Any = "2*n_jobs",
        random_state: Any = None,
        error_score: Any = "raise",
        return_train_score: bool = False,
        *,
        storage: Any = None,
        time_budget: float | None = None,
        stop: Rule | Iterable[Rule] | None = None,
        progress: bool | None = None,
        racing: bool | Race = False,
        early_stopping: bool | float | None = None,
    ) -> None:
        super().__init__(
            estimator=estimator,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.search_spaces = search_spaces
        self.optimizer_kwargs = optimizer_kwargs
        self.n_iter = n_iter
        self.fit_params = fit_params
        self.n_points = n_points
        self.iid = iid
        self.random_state = random_state
        self.storage = storage
        self.time_budget = time_budget
        self.stop = stop
        self.progress = progress
        self.racing = racing
        self.early_stopping = early_stopping

    def fit(self, X: Any, y: Any = None, **params: Any) -> StudySearchCV:
        """See :meth:`StudySearchCV.fit`; ``fit_params`` of the constructor are passed on as well."""
        if "callback" in params and not has_fit_parameter(self.estimator, "callback"):
            raise InvalidType("fit: callback= is scikit-optimize's; write stop=Target(0.98) or stop=Patience(10)")
        given = self.fit_params if isinstance(self.fit_params, Mapping) else {}  # anything else is refused below
        return super().fit(X, y, **{**given, **params})

    @property
    def total_iterations(self) -> int:
        """Number of candidates."""
        return self.n_iter

    def _budget(self) -> int:
        return self.n_iter

    def _sampler(self) -> Any:
        given, known = dict(self.optimizer_kwargs or {}), [f.name for f in fields(Bayes)]
        if unknown := [name for name in given if name not in known]:
            raise InvalidValue(
                f"optimizer_kwargs={given!r}: {unknown[0]!r} is none of wt.Bayes's settings {known}; "
                "of scikit-optimize's, n_initial_points= is initial= here, and the others are left out"
            )
        return make_sampler({"name": "bayes", **given})

    def _space(self) -> Space:
        return read_space("search_spaces", self.search_spaces)


@_with_common
class GradientSearchCV(_ModelSearchCV):
    """Search along finite differences of the score, from many starts; see :class:`welltuned.Gradient`.

    Parameters
    ----------
    estimator
        The estimator, or pipeline, to tune.
    space
        As ``search_spaces`` of :class:`BayesSearchCV`.
    n_iter
        Number of candidates, those of the stencils included.
    step
        First half-width of the differences, as a share of a parameter's range on its own scale.
    n_points
        How many candidates are evaluated side by side.
    <stop>
    <common>
    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import SVC
    >>> space = {"C": (1e-2, 1e2, "log-uniform"), "gamma": (1e-4, 1.0, "log-uniform")}
    >>> search = GradientSearchCV(SVC(), space, n_iter=10, step=0.05, random_state=0).fit(*load_iris(return_X_y=True))
    >>> bool(search.best_score_ > 0.9)
    True
    """

    _required_parameters = ("estimator", "space")

    def __init__(
        self,
        estimator: Any,
        space: Any,
        *,
        n_iter: int = 50,
        step: float = 0.05,
        scoring: Any = None,
        n_jobs: int | None = None,
        n_points: int = 1,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: Any = "2*n_jobs",
        random_state: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        storage: Any = None,
        time_budget: float | None = None,
        stop: Rule | Iterable[Rule] | None = None,
        progress: bool | None = None,
        racing: bool | Race = False,
        early_stopping: bool | float | None = None,
    ) -> None:
        super().__init__(
            estimator=estimator,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.space = space
        self.n_iter = n_iter
        self.step = step
        self.n_points = n_points
        self.random_state = random_state
        self.storage = storage
        self.time_budget = time_budget
        self.stop = stop
        self.progress = progress
        self.racing = racing
        self.early_stopping = early_stopping

    def _budget(self) -> int:
        return self.n_iter

    def _sampler(self) -> Any:
        return make_sampler({"name": "gradient", "step": self.step})

    def _space(self) -> Space:
        return read_space("space", self.space)


@_with_common
class TunedSearchCV(_ModelSearchCV):
    """Search with any sampler; ``"auto"`` picks one and says why.

    Parameters
    ----------
    estimator
        The estimator, or pipeline, to tune.
    space
        As ``search_spaces`` of :class:`BayesSearchCV`.
    sampler
        A name out of ``welltuned.SAMPLERS``, or a sampler with settings.
    n_trials
        Number of candidates.
    n_points
        How many candidates are proposed, and evaluated side by side, at a time.
    <stop>
    <common>
    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import SVC
    >>> space = {"C": (1e-2, 1e2, "log-uniform"), "kernel": ["rbf", "linear"]}
    >>> search = TunedSearchCV(SVC(), space, n_trials=8, random_state=0).fit(*load_iris(return_X_y=True))
    >>> bool(search.best_score_ > 0.95)
    True
    """

    _required_parameters = ("estimator", "space")

    def __init__(
        self,
        estimator: Any,
        space: Any,
        *,
        sampler: Any = "auto",
        n_trials: int = 50,
        scoring: Any = None,
        n_jobs: int | None = None,
        n_points: int = 1,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: Any = "2*n_jobs",
        random_state: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        storage: Any = None,
        time_budget: float | None = None,
        stop: Rule | Iterable[Rule] | None = None,
        progress: bool | None = None,
        racing: bool | Race = False,
        early_stopping: bool | float | None = None,
    ) -> None:
        super().__init__(
            estimator=estimator,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.space = space
        self.sampler = sampler
        self.n_trials = n_trials
        self.n_points = n_points
        self.random_state = random_state
        self.storage = storage
        self.time_budget = time_budget
        self.stop = stop
        self.progress = progress
        self.racing = racing
        self.early_stopping = early_stopping

    def _budget(self) -> int:
        return self.n_trials

    def _sampler(self) -> Any:
        return make_sampler(self.sampler)

    def _space(self) -> Space:
        return read_space("space", self.space)
