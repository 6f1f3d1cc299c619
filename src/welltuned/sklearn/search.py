"""What all searches share: ``fit`` runs a study whose trials are candidates and whose reports are folds."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from joblib import hash as fingerprint
from sklearn.base import clone, is_classifier
from sklearn.exceptions import FitFailedWarning
from sklearn.metrics import check_scoring
from sklearn.model_selection import check_cv
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils import indexable
from sklearn.utils.validation import _num_samples

from welltuned.errors import InvalidType, InvalidValue, LeaseLost, StudyStopped
from welltuned.evaluation import Result, failure, interpret
from welltuned.live import LiveTrial
from welltuned.schedulers import Race, Stop
from welltuned.settings import real, whole
from welltuned.sklearn.compat import MultimetricScorer, check_method_params, check_multimetric_scoring
from welltuned.sklearn.folds import Fold, Plan, fit_fold
from welltuned.sklearn.racing import only_complete, read_racing, run_heats, with_raced
from welltuned.sklearn.stopping import Holdout, check_stops, read_share
from welltuned.space import Space
from welltuned.space.labels import stable_repr
from welltuned.study import Study
from welltuned.study.progress import Progress
from welltuned.study.rules import Rule, check_costs, first_reason, make_rules
from welltuned.trial import Outcome, Reason, Report, State, Trial

Evaluate = Callable[[int], bool]
NOT_RUN = Fold({}, {}, np.nan, np.nan)  # the place of a fold that was left out


class StudySearchCV(BaseSearchCV):
    """The base of our searches. A subclass says what the space is, which study to run, and in which batches.

    Attributes
    ----------
    study_
        The study of the last ``fit``: all trials, their folds as reports, for analysis and reports.
    stop_reason_
        Why the search ended.

    The fitted attributes of ``sklearn.model_selection.GridSearchCV`` are there too.
    """

    # what subclasses say

    def _space(self) -> Space:
        raise NotImplementedError

    def _open_study(self, space: Space, name: str, storage: Any, seed: int | None) -> Study:
        raise NotImplementedError

    def _n_candidates(self) -> int:
        raise NotImplementedError

    def _in_order(self, trials: list[Trial]) -> list[Trial]:
        """Return finished trials in the order of ``cv_results_``."""
        return trials

    def _run_search(self, evaluate_candidates: Evaluate) -> None:
        """Evaluate batches of candidates until there are none left: the hook of scikit-learn's searches."""
        while evaluate_candidates(getattr(self, "n_points", None) or 1):
            pass

    # fitting

    def fit(self, X: Any, y: Any = None, **params: Any) -> StudySearchCV:
        """Search, then refit the best candidate on all data.

        Parameters
        ----------
        X, y
            Data, as the estimator takes them.
        params
            Passed on to the estimator's ``fit``, the scorer and the splitter (``groups``, ``sample_weight``, …), as in
            ``sklearn.model_selection.GridSearchCV.fit``.
        """
        began = time.monotonic()
        self._validate_params()
        race, rules = _check_options(self)
        X, y = indexable(X, y)
        params = check_method_params(X, params=params)
        routed = self._get_routed_params_for_fit(params)
        cv = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        self.n_splits_ = cv.get_n_splits(X, y, **routed.splitter.split)
        splits = list(cv.split(X, y, **routed.splitter.split))
        if len(splits) != self.n_splits_ or not splits:
            raise InvalidValue(f"cv={self.cv!r} promises {self.n_splits_} splits and yields {len(splits)}")
        scorer, refit_metric = self._scorer()
        plan = Plan(
            clone(self.estimator),
            X,
            y,
            splits,
            scorer,
            routed.estimator.fit,
            routed.scorer.score,
            self.error_score,
            self.return_train_score,
            Holdout.of(self, cv, y, routed.splitter.split.get("groups")),
        )
        self.study_ = self._study(plan, params, race)
        run = _Search(self, plan, self.study_, race, rules, began)
        run.run()
        self._take_results(run, plan, refit_metric)
        return self

    def _scorer(self) -> tuple[Any, Any]:
        """Return the scorer, and the metric that chooses the best candidate."""
        if callable(self.scoring):
            return self.scoring, "score"
        if self.scoring is None or isinstance(self.scoring, str):
            return check_scoring(self.estimator, self.scoring), "score"
        scorers = check_multimetric_scoring(self.estimator, self.scoring)
        self._check_refit_for_multimetric(scorers)
        if self.racing and not isinstance(self.refit, str):
            raise _no_metric_to_race_by(self, scorers)
        return MultimetricScorer(scorers=scorers, raise_exc=self.error_score == "raise"), self.refit

    def _study(self, plan: Plan, params: Mapping[str, Any], race: Race | None) -> Study:
        """Open the study of this search on these data; the same search on the same data finds its fits again."""
        space = self._space()
        state = getattr(self, "random_state", None)
        name = "search"
        if self.storage is not None:
            same: tuple[Any, ...] = (
                type(self).__name__,
                _identity(plan.estimator),
                plan.X,
                plan.y,
                plan.splits,
                _scoring_name(self.scoring),
                space.to_json(),
                params,
                int(state) if isinstance(state, (int, np.integer)) else None,
                self.return_train_score,
                self.refit if isinstance(self.refit, str) else None,
            )
            if race is not None:  # what is left out is not there for a search that wants all
                same = (*same, repr(race), str(self.error_score))
            if plan.holdout is not None:
                same = (*same, plan.holdout)
            name = f"{type(self).__name__}-{type(self.estimator).__name__}-{fingerprint(same)[:16]}"
        return self._open_study(space, name, self.storage, state)

    def _take_results(self, run: _Search, plan: Plan, refit_metric: Any) -> None:
        """Set the fitted attributes, as scikit-learn's searches do."""
        results, first = run.results()
        self.multimetric_ = first.several
        if callable(self.scoring) and self.multimetric_:
            self._check_refit_for_multimetric(first.test)
            refit_metric = self.refit
        if self.refit or not self.multimetric_:
            if run.race is None:
                self.best_index_ = self._select_best_index(self.refit, refit_metric, results)
            else:
                complete, at = only_complete(results, run.ran)
                self.best_index_ = at[self._select_best_index(self.refit, refit_metric, complete)]
            if not callable(self.refit):
                self.best_score_ = results[f"mean_test_{refit_metric}"][self.best_index_]
            self.best_params_ = results["params"][self.best_index_]
        if self.refit:
            self._refit_best(plan)
        self.scorer_ = plan.scorer._scorers if isinstance(plan.scorer, MultimetricScorer) else plan.scorer
        self.cv_results_ = results
        self.stop_reason_ = run.reason

    def _refit_best(self, plan: Plan) -> None:
        best = clone(plan.estimator).set_params(**{k: clone(v, safe=False) for k, v in self.best_params_.items()})
        began = time.time()
        if plan.holdout is not None:
            check_stops(best, plan.holdout.share, plan.fit_params)
            plan.fit(best, np.arange(_num_samples(plan.X)), len(plan.splits))
            self.best_estimator_ = best
        else:  # the data as they were given
            self.best_estimator_ = (
                best.fit(plan.X, **plan.fit_params) if plan.y is None else best.fit(plan.X, plan.y, **plan.fit_params)
            )
        self.refit_time_ = time.time() - began
        if hasattr(self.best_estimator_, "feature_names_in_"):
            self.feature_names_in_ = self.best_estimator_.feature_names_in_

    def __getstate__(self) -> dict[str, Any]:
        # a study holds threads and connections; what it found is in cv_results_
        return {k: v for k, v in super().__getstate__().items() if k != "study_"}


class _TimeIsUp(Exception):
    """Ends a search where it is; candidates whose folds are not all there go back to the queue."""


class _Search:
    """One run of ``fit``."""

    def __init__(
        self,
        search: StudySearchCV,
        plan: Plan,
        study: Study,
        race: Race | None,
        rules: Sequence[Rule],
        began: float,
    ) -> None:
        self.search, self.plan, self.study, self.race, self.rules = search, plan, study, race, rules
        self.reason = "all candidates are done"
        self.failures: list[str] = []
        self._began, self._done = began, 0
        self._complete = study.history.best is not None  # there is something to return
        self._refit_metric = search.refit if isinstance(search.refit, str) else None
        self.ran = np.empty((0, len(plan.splits)), dtype=bool)

    def run(self) -> None:
        """Evaluate candidates; Ctrl-C keeps what is done, as soon as there is something."""
        self.study.coordinator.record_stop(None)
        n_candidates = self.search._n_candidates()
        n_fits = n_candidates * len(self.plan.splits)
        if self.search.verbose > 0:
            print(  # noqa: T201 - verbose= asks for it
                f"Fitting {len(self.plan.splits)} folds for each of {n_candidates} candidates, totalling "
                f"{'at most ' * (self.race is not None)}{n_fits} fits"
            )
        with (
            Progress(type(self.search).__name__, n_fits, self.search.progress) as self.progress,
            Parallel(
                n_jobs=self.search.n_jobs,
                # what is dispatched ahead would begin when time is up
                pre_dispatch=self.search.pre_dispatch if self.search.time_budget is None else "n_jobs",
                return_as="generator_unordered",
            ) as self.parallel,
        ):
            self._show(sum(len(t.reports) for t in self.study.trials))
            try:
                self.search._run_search(self.evaluate)
            except _TimeIsUp:
                self.study.coordinator.interrupt()
                self.reason = f"time budget: {self.search.time_budget:g} seconds are over"
            except KeyboardInterrupt:
                self.study.coordinator.interrupt()
                if self.study.history.best is None:
                    raise
                self.reason = "interrupted"
                warnings.warn(
                    "the search was interrupted; the best candidate so far is used", UserWarning, stacklevel=4
                )
            finally:
                self.study.coordinator.give_back()
        self.study.coordinator.record_stop(self.reason)

    def _is_over(self) -> bool:
        budget = self.search.time_budget
        return budget is not None and time.monotonic() - self._began >= budget

    def evaluate(self, n: int) -> bool:
        """Evaluate the next ``n`` candidates; False when there are none or a rule ends the search; or `_TimeIsUp`."""
        if self._is_over():
            raise _TimeIsUp
        if self.study.stop_reason is not None:
            self.reason = self.study.stop_reason
            return False
        if (why := first_reason(self.rules, self.study.history)) is not None:
            self.reason = why
            return False
        try:
            trials = self.study.ask(n)
        except StudyStopped:
            return False
        if self.race is not None:
            run_heats(
                trials,
                len(self.plan.splits),
                effective_n_jobs(self.search.n_jobs),
                fit=self._run,
                is_lost=self._is_lost,
                end=self._end_of_race,
            )
            return True
        left = {trial.number: len(self.plan.splits) - len(trial.task.reports) for trial in trials}
        for trial in trials:
            if left[trial.number] == 0:  # the process died between the last fold and the result
                self._finish(trial)
        for trial in self._reported(trials, range(len(self.plan.splits))):
            left[trial.number] -= 1
            if left[trial.number] == 0:
                self._finish(trial)
        return True

    def _reported(self, trials: Sequence[LiveTrial], folds: range) -> Iterator[LiveTrial]:
        """Run and store the missing ones of some folds; yield their candidates."""
        for trial, fold, result in self._fits(trials, folds):
            metrics = dict(result.to_report(fold).metrics)
            if self.race is not None:
                metrics["score"] = self._raced_score(result)
            trial.report(metrics, fold)
            if result.error is not None:
                self.failures.append(result.error)
            self._show(1)
            yield trial

    def _fits(self, trials: Sequence[LiveTrial], folds: range) -> Iterator[tuple[LiveTrial, int, Fold]]:
        """Run the missing (candidate, fold) pairs, side by side; yield each as it ends."""
        missing = [
            (i, fold)
            for i, trial in enumerate(trials)
            for fold in folds
            if fold not in {r.step for r in trial.task.reports}
        ]
        in_time = takewhile(lambda _: not (self._complete and self._is_over()), missing)
        jobs = (delayed(_indexed_fit)(self.plan, trials[i].params, i, fold) for i, fold in in_time)
        ran = 0
        for i, fold, result in self.parallel(jobs) if missing else ():
            ran += 1
            yield trials[i], fold, result
        if ran < len(missing):
            raise _TimeIsUp

    # a race

    def _run(self, trials: Sequence[LiveTrial], folds: range) -> None:
        for _ in self._reported(trials, folds):
            pass

    def _raced_score(self, fold: Fold) -> float:
        """Return the score of a fold that candidates are raced by; NaN where it has none."""
        if self._refit_metric is None and fold.several:
            raise _no_metric_to_race_by(self.search, fold.test)
        name = self._refit_metric if fold.several else next(iter(fold.test), None)
        return fold.test.get(name or "", self._error_score())

    def _stored_reports(self, trial: LiveTrial) -> tuple[Report, ...]:
        stored = self.study.coordinator.ledger.trial(trial.number)
        return () if stored is None else stored.reports

    def _is_lost(self, trial: LiveTrial, n: int) -> bool:
        """Tell whether a candidate can hardly win, judged by its first ``n`` folds."""
        assert self.race is not None
        seen = [r for r in self._stored_reports(trial) if r.step < n]
        if any("score" not in r.metrics for r in seen):  # its mean is not a number, whatever follows
            return True
        return bool(seen) and isinstance(self.race.decide(self.study.history, trial.number, seen[-1]), Stop)

    def _end_of_race(self, trial: LiveTrial) -> None:
        left_out = len(self.plan.splits) - len(self._stored_reports(trial))
        self._finish(trial)
        if left_out:
            self._show(left_out)

    # results

    def _finish(self, trial: LiveTrial) -> None:
        """Record a candidate whose folds are all there, or that has lost; its value is the mean score."""
        folds = [Fold.from_report(r) for r in self._stored_reports(trial)]
        names = list(dict.fromkeys(name for fold in folds for name in fold.test))
        means = {name: float(np.mean([f.test.get(name, self._error_score()) for f in folds])) for name in names}
        chosen = self._refit_metric if self._refit_metric in means else next(iter(means), None)
        if chosen is None or not np.isfinite(means[chosen]):
            why = _last_line(self.failures) or f"the mean score is {means.get(chosen or '')}"
            self._record(trial, failure(Reason.ERROR, why), folds)
            return
        if len(folds) < len(self.plan.splits):
            self._record(trial, Outcome(State.PRUNED), folds)
            return
        scores = [f.test.get(chosen, self._error_score()) for f in folds]
        sem = float(np.std(scores, ddof=1) / np.sqrt(len(scores))) if len(scores) > 1 else 0.0
        others = {f"mean_{k}": v for k, v in means.items() if np.isfinite(v) and names != ["score"]}
        self._complete = True
        result = Result({"score": means[chosen], **others}, sem=sem)
        self._record(trial, interpret(result, self.study.objectives, list(trial)), folds)

    def _record(self, trial: LiveTrial, outcome: Outcome, folds: list[Fold]) -> None:
        """Store how a candidate ended; it took what its folds took, wherever and whenever they ran."""
        seconds = sum(f.fit_time + f.score_time for f in folds)
        if not self.study.coordinator.receive_outcome(trial.task, replace(outcome, seconds=seconds)):
            raise LeaseLost(f"candidate {trial.number} was taken over by another process; its record is unchanged")
        check_costs(self.rules, outcome, lambda: self.study.trials)

    def _error_score(self) -> float:
        return np.nan if self.search.error_score == "raise" else float(self.search.error_score)

    def _show(self, more: int) -> None:
        """Count further folds, and show the best candidate on a line that somebody sees."""
        self._done += more
        self.progress.update(self._summary)

    def _summary(self) -> tuple[int, str]:
        best = self.study.history.best
        return self._done, "" if best is None else f"best {best.value:.4f}"

    def results(self) -> tuple[dict[str, Any], Fold]:
        """Return ``cv_results_`` of all candidates that have ended, and one fold that succeeded."""
        n = len(self.plan.splits)
        done = [t for t in self.study.trials if t.state.finished and (len(t.reports) == n or (self.race and t.reports))]
        trials = self.search._in_order(done)
        if not trials:
            raise InvalidValue(
                f"no candidate was evaluated within time_budget={self.search.time_budget!r}"
                if self.search.time_budget
                else "no fits were performed: the search has no candidates"
            )
        rows = [{r.step: Fold.from_report(r) for r in t.reports} for t in trials]
        flat = [fold for row in rows for fold in row.values()]
        self._report_failures([f for f in flat if f.error is not None], len(flat))
        first = next((f for f in flat if f.test), flat[0])
        # a metric that failed everywhere has its columns all the same
        asked = getattr(self.plan.scorer, "_scorers", {}) if first.several else {}
        names = list(dict.fromkeys([*asked, *(name for f in flat for name in f.test)])) or ["score"]
        out = [self._as_sklearn(row.get(j, NOT_RUN), names, first.several) for row in rows for j in range(n)]
        params = [dict(sorted((t.params or {}).items())) for t in trials]
        self.ran = np.array([[j in row for j in range(n)] for row in rows])
        if self.race is None:
            return self.search._format_results(params, n, out), first
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*scores are non-finite", category=UserWarning)
            results = self.search._format_results(params, n, out)
        times = {k: np.reshape([fold[k] for fold in out], (-1, n)) for k in ("fit_time", "score_time")}
        return with_raced(results, self.ran, times), first

    def _as_sklearn(self, fold: Fold, names: list[str], several: bool) -> dict[str, Any]:
        error = np.nan if fold is NOT_RUN else self._error_score()
        test = {name: fold.test.get(name, error) for name in names}
        train = {name: fold.train.get(name, error) for name in names}
        scores = {"test_scores": test if several else test[names[0]]}
        if self.search.return_train_score:
            scores["train_scores"] = train if several else train[names[0]]
        return {**scores, "fit_time": fold.fit_time, "score_time": fold.score_time}

    def _report_failures(self, failed: list[Fold], total: int) -> None:
        if not failed:
            return
        details = f" The last of this run:\n{self.failures[-1]}" if self.failures else ""
        if len(failed) == total:
            raise InvalidValue(f"all the {total} fits failed; set error_score='raise' to debug.{details}")
        warnings.warn(
            f"{len(failed)} fits failed out of a total of {total}. Their score is {self.search.error_score}.{details}",
            FitFailedWarning,
            stacklevel=6,
        )


def _indexed_fit(plan: Plan, params: Mapping[str, Any], candidate: int, fold: int) -> tuple[int, int, Fold]:
    return candidate, fold, fit_fold(plan, params, fold)


def _last_line(failures: list[str]) -> str | None:
    return failures[-1].strip().rsplit("\n", 1)[-1] if failures else None


def _identity(value: Any) -> Any:
    """Describe an estimator by its class and parameters, so that equal ones of two processes are known to be equal."""
    if hasattr(value, "get_params") and not isinstance(value, type):
        params = value.get_params(deep=False)
        return f"{type(value).__module__}.{type(value).__qualname__}", [
            (k, _identity(params[k])) for k in sorted(params)
        ]
    if isinstance(value, (list, tuple)):
        return [_identity(v) for v in value]
    if isinstance(value, np.ndarray):
        return fingerprint(value)
    if callable(value):
        return _function(value)
    return stable_repr(value)


def _function(value: Any) -> Any:
    """Describe a function by its name and by what it does, as lambdas, closures and partials differ in that alone."""
    if isinstance(value, functools.partial):
        return [
            _function(value.func),
            _identity(list(value.args)),
            sorted((k, _identity(v)) for k, v in value.keywords.items()),
        ]
    code = getattr(value, "__code__", None)
    name = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    if code is None:
        return [name, stable_repr(value)]
    cells = [_identity(cell.cell_contents) for cell in value.__closure__ or ()]
    constants = [stable_repr(c) for c in code.co_consts]
    return [name, code.co_code.hex(), constants, list(code.co_names), _identity(list(value.__defaults__ or ())), cells]


def _scoring_name(scoring: Any) -> str:
    if isinstance(scoring, Mapping):
        return str({k: _scoring_name(v) for k, v in scoring.items()})
    return str(_function(scoring)) if callable(scoring) else repr(scoring)


def _no_metric_to_race_by(search: Any, metrics: Mapping[str, Any]) -> InvalidValue:
    return InvalidValue(
        f"racing={search.racing!r} needs one metric to race by; with the metrics {list(metrics)!r}, set refit to the "
        f"name of one of them (it is {search.refit!r})"
    )


def _check_options(search: Any) -> tuple[Race | None, tuple[Rule, ...]]:
    """Refuse settings that are none; return what ``racing`` and ``stop`` stand for."""
    race, rules = read_racing(search.racing), make_rules(getattr(search, "stop", None))
    read_share(search.early_stopping)
    if search.time_budget is not None:
        real("time_budget", search.time_budget, above=0, finite=False, unit=" of seconds")
    for name in ("n_iter", "n_trials", "n_points", "resolution"):
        if hasattr(search, name):
            whole(name, getattr(search, name))
    if search.progress is not None and not isinstance(search.progress, bool):
        raise InvalidType(f"progress={search.progress!r} is not True, False or None")
    for name in ("optimizer_kwargs", "fit_params"):
        value = getattr(search, name, None)
        if value is not None and not isinstance(value, Mapping):
            raise InvalidType(f"{name}={value!r} is not a dict")
    return race, rules
