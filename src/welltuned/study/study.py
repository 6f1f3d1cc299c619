"""``Study``: the only object with state. Space, objectives, sampler, scheduler and storage, put together."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from welltuned.errors import InvalidType, InvalidValue, LeaseLost, NoCompletedTrial, StudyStopped, require
from welltuned.evaluation import Objective, interpret, jsonable, unless_diverged, without_result
from welltuned.executors import check_executor, check_limits, check_workers, count_workers
from welltuned.history import History
from welltuned.live import LiveTrial, folder_of
from welltuned.samplers import SAMPLERS, Grid, Sampler, describe_sampler, make_sampler
from welltuned.schedulers import Scheduler
from welltuned.space import Space
from welltuned.stats import Prediction, Recommendation, predict, recommend
from welltuned.storage import StudyRow, open_storage
from welltuned.study.breeding import check_folders, lineage
from welltuned.study.checks import (
    check_asked,
    check_batch,
    check_callbacks,
    check_catch,
    check_checkpoints,
    check_count,
    check_deterministic,
    check_directions,
    check_ends,
    check_lease,
    check_name,
    check_objective,
    check_prior,
    check_progress,
    check_related,
    check_retries,
    check_same,
    check_same_wishes,
    check_scheduler,
    check_seed,
    check_state,
    check_timeout,
    check_wishes,
    scheduler_of,
    warn_of_lacking,
    warn_of_misfits,
    warn_of_new,
    warn_of_positions,
    warn_of_unused,
)
from welltuned.study.coordinator import MOST_DEATHS, Coordinator, checkpoint_folder
from welltuned.study.incoming import Added, already_there, as_enqueued, firsts, is_one, read_row, record_of, rows_of
from welltuned.study.keywords import Hinting, checks_keywords
from welltuned.study.ledger import BUDGET, LEASE, Ledger
from welltuned.study.loop import Callback, Options, run
from welltuned.study.notes import as_attributes
from welltuned.study.replay import Replay, replay
from welltuned.study.rules import Rule, make_rules
from welltuned.study.table import rows as flat_rows
from welltuned.trial import State, Trial

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("welltuned")


class Study(Hinting):
    """Search a space for the best value of an objective.

    Parameters
    ----------
    space
        Anything that :meth:`Space.parse` understands. Without one the objective suggests its parameters itself
        (``trial.suggest_float``), or an existing study brings its own.
    direction
        ``"minimize"`` or ``"maximize"``; a dict of them by objective for several, or a list.
    sampler
        A name out of ``welltuned.samplers.SAMPLERS``, or a sampler with settings. Unless given, the one that the study
        was made with; ``"auto"`` for a new one.
    storage
        Nothing for this process's memory, ``"study.db"`` for a file that survives it. A study that is already there
        goes on.
    name
        Which study of the storage.
    seed
        Makes all suggestions repeatable. Drawn, and stored, unless given.
    n_trials
        The number of trials in all, restarts included; may also be given to :meth:`optimize`.
    scheduler
        A name out of ``welltuned.schedulers.SCHEDULERS``, or a scheduler: what to do with trials that report badly.
        Stored with the study, which goes on with it unless another one is given; ``"none"`` for none from now on.
    checkpoints
        Where ``trial.checkpoint`` folders go; beside the storage file unless given.
    lease
        Seconds after which a claimed trial whose process shows no sign of life is given to another one.
    noisy
        The same configuration gives different values: the search may evaluate a good one again where that tells more
        than a new one, and :meth:`recommend` averages. Stored with the study.
    optimize_per
        Look for the best per ``"second"`` of evaluation, or per unit of a metric that the objective returns. Stored
        with the study.
    prior
        Earlier studies (or their histories) of something similar, one or a list: they steer the search for as long as
        they rank this study's results well. Their spaces may differ; parameters are matched by name. Not stored: give
        them again when you reopen the study. Used by the samplers ``auto`` and ``bayes``.

    Examples
    --------
    >>> study = Study({"x": (-5.0, 5.0)}, seed=0)
    >>> study.optimize(lambda trial: (trial["x"] - 2) ** 2, n_trials=15)
    >>> round(study.best.params["x"], 1)
    2.0
    """

    @checks_keywords
    def __init__(
        self,
        space: Any = None,
        *,
        direction: str | Mapping[str, str] | Sequence[str] = "minimize",
        sampler: str | Sampler | Mapping[str, Any] | None = None,
        storage: Any = None,
        name: str = "study",
        seed: int | None = None,
        n_trials: int | None = None,
        scheduler: str | Scheduler | Mapping[str, Any] | None = None,
        checkpoints: str | os.PathLike[str] | None = None,
        lease: float = LEASE,
        noisy: bool | None = None,
        optimize_per: str | None = None,
        prior: Any = (),
    ) -> None:
        self.name = check_name(name)
        self._n_trials = check_count("n_trials", n_trials)
        parsed = None if space is None else Space.parse(space)
        directions, drawn, earlier = check_directions(direction), check_seed(seed), check_prior(prior)
        searcher = make_sampler("auto" if sampler is None else sampler)
        if len(directions) > 1 and not searcher.several_objectives:
            raise InvalidValue(
                f"sampler={sampler!r} takes one objective, but there are {list(directions)!r}; use 'auto'"
            )
        judge, kept = check_scheduler(scheduler)
        lease, folder = check_lease(lease), check_checkpoints(checkpoints)
        wanted = StudyRow(
            0,
            self.name,
            directions,
            drawn,
            describe_sampler(searcher),
            spaces=() if parsed is None else (parsed.to_json(),),
            attributes={"open": parsed is None, **check_wishes(noisy, optimize_per), **kept},
        )

        store = open_storage(storage)
        if parsed is not None and storage is not None:
            warn_of_positions(parsed)
        check_folders(judge, checkpoint_folder(folder, store, wanted))
        row = store.open(wanted)
        if parsed is None and not row.spaces:
            warn_of_new(self.name, store)

        # who opens a study without its space takes its directions from the storage as well
        check_same(row, directions if parsed is not None or direction != "minimize" else row.directions, seed)
        check_same_wishes(row, noisy, optimize_per)
        if sampler is None and row.sampler.get("name") in SAMPLERS:
            searcher = make_sampler(row.sampler)
        judge = scheduler_of(row, judge, kept)
        self._ledger = Ledger(store, row, None, lease, earlier)
        self._ledger.budget = self._n_trials
        self._ledger.keep(kept)
        self._use(parsed, row)
        warn_of_unused(self.name, searcher, self._ledger.wishes, self._ledger.space)
        #: what claims trials and stores results, for loops other than ``optimize``
        self.coordinator = Coordinator(self._ledger, searcher, judge, checkpoint_folder(folder, store, row))

    def _use(self, parsed: Space | None, row: StudyRow) -> None:
        if parsed is not None:
            changed = bool(row.spaces) and row.spaces[-1] != parsed.to_json()
            if changed:
                log.info("study %r: the space changed; this is version %d", self.name, len(row.spaces) + 1)
                check_related(parsed, Space.from_json(row.spaces[-1]), self.name)
            self._ledger.set_space(parsed)
            if changed:
                warn_of_misfits(self.name, self.history)
        elif row.spaces:
            self._ledger.use_stored_space()

    def __repr__(self) -> str:
        done = sum(t.state.finished for t in self.trials)
        size = len(self.space) if self.has_space else "no"
        return f"Study({self.name!r}, {size} parameters, {done} trials finished)"

    def __reduce__(self) -> Any:
        raise InvalidType(
            f"study {self.name!r} cannot be pickled; open it where it is needed: Study(storage=…, name={self.name!r})"
        )

    # what is known

    @property
    def space(self) -> Space:
        """The current version of the space. Assign a new one to go on with it; what still fits is still used.

        Raises
        ------
        InvalidValue
            When the objective suggests its parameters itself and no trial has run yet.
        """
        if self._ledger.space is None:
            raise InvalidValue(
                f"study {self.name!r} has no space yet: its objective suggests the parameters, and none has run"
            )
        return self._ledger.space

    @space.setter
    def space(self, space: Any) -> None:
        parsed = Space.parse(space)
        if self._ledger.space is not None:
            check_related(parsed, self._ledger.space, self.name)
        self._ledger.set_space(parsed)
        warn_of_misfits(self.name, self.history)

    @property
    def has_space(self) -> bool:
        """Whether there is a space: not before the first trial of an objective that suggests its own parameters."""
        return self._ledger.space is not None

    @property
    def sampler(self) -> Sampler:
        """What proposes configurations."""
        return self.coordinator.sampler

    @property
    def scheduler(self) -> Scheduler | None:
        """What judges reports; None where nothing does."""
        return self.coordinator.scheduler

    @property
    def history(self) -> History:
        """All trials, as records and as arrays."""
        return self._ledger.sync()

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials, ordered by number."""
        return self.history.trials

    @property
    def directions(self) -> Mapping[str, str]:
        """Objective name to ``"minimize"`` or ``"maximize"``."""
        return self._ledger.row.directions

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of the objectives, in order."""
        return tuple(self.directions)

    @property
    def seed(self) -> int:
        """What all suggestions derive from."""
        return self._ledger.row.seed

    @property
    def n_trials(self) -> int | None:
        """The number of trials in all, where there is a limit; may be assigned."""
        return self._n_trials

    @n_trials.setter
    def n_trials(self, n_trials: int | None) -> None:
        self._n_trials = self._ledger.budget = check_count("n_trials", n_trials)

    @property
    def stored_budget(self) -> int | None:
        """The number of trials in all that an earlier ``optimize`` was given, in any process."""
        budget = self._ledger.row.attributes.get(BUDGET)
        return budget if isinstance(budget, int) else None

    @property
    def stop_reason(self) -> str | None:
        """Why the study stopped, or None while it may go on."""
        self._ledger.glance()
        return self._ledger.stop_reason

    @property
    def best(self) -> Trial:
        """The complete trial with the best value.

        Raises
        ------
        NoCompletedTrial
            With the last failure, when nothing has completed.
        InvalidValue
            With several objectives; see :attr:`best_trials`.
        """
        history = self.history
        if len(self.directions) > 1:
            raise InvalidValue(f"study {self.name!r} has the objectives {list(self.objectives)!r}; use best_trials")
        if history.best is None:
            raise NoCompletedTrial(f"study {self.name!r}: {history.why_no_best()}")
        return history.best

    best_trial = best

    @property
    def best_trials(self) -> tuple[Trial, ...]:
        """The complete trials that no other one dominates (the Pareto front)."""
        return self.history.front

    @property
    def best_params(self) -> dict[str, Any]:
        """Parameters of the best trial."""
        return dict(self.best.params or {})

    @property
    def best_value(self) -> float:
        """Value of the best trial."""
        return float(self.best.metrics[self.objectives[0]])

    def lineage(self, number: int) -> tuple[Trial, ...]:
        """Return a trial behind all that it descends from, the first one first, where a scheduler bred it.

        Each began with the checkpoint of the one before it, at step ``trial.inherited``: what a network was trained
        with is the parameters of its whole lineage, each for its part.
        """
        return lineage(self.history, number)

    def checkpoint(self, trial: Trial | int) -> Path:
        """Return the folder in which a trial has kept its files; the objective knows it as ``trial.checkpoint``.

        There is none where it has kept nothing. That there is no such trial is an error, and that a study in memory was
        given no ``checkpoints=``.
        """
        number = record_of(self.history, getattr(trial, "number", trial), "checkpoint").number
        return folder_of(number, self.coordinator.folder(number))

    @property
    def notes(self) -> dict[str, Any]:
        """What was noted of the study itself, by anybody who works on it."""
        return self._ledger.notes()

    user_attrs = notes

    def recommend(self) -> Recommendation:
        """Return the configuration to use, what to expect of it, and the observed best without its selection bias.

        See :func:`welltuned.stats.recommend`.
        """
        return recommend(self.history)

    def predict(
        self, params: Mapping[str, Any] | Sequence[Mapping[str, Any]], objective: str | None = None
    ) -> Prediction:
        """Return mean and standard deviation of the objective where nothing was tried.

        See :func:`welltuned.stats.predict`.
        """
        return predict(self.history, params, objective)

    # the loop, from outside

    def ask(self, n: int | None = None, *, lease: float | None = None) -> Any:
        """Claim the next trial and return it; with ``n``, a list of up to ``n`` of them.

        They are given to others when this process ends; with ``lease``, not before so many seconds are over, and any
        process may :meth:`tell` their results by their numbers.

        Raises
        ------
        StudyStopped
            When the budget is used up or every configuration has been tried.
        """
        count = 1 if n is None else check_count("n", n) or 1
        kept = None if lease is None else check_lease(lease, "ask")
        trials, exhausted = self.coordinator.ask(count, kept)
        if not trials:
            raise StudyStopped(f"study {self.name!r} is over: {self.coordinator.why_nothing(exhausted)}")
        return trials[0] if n is None else trials

    def tell(
        self,
        trial: LiveTrial | int,
        value: Any = None,
        *,
        state: str | State = State.COMPLETE,
        error: str | BaseException | None = None,
    ) -> Trial:
        """Record how a trial ended.

        Parameters
        ----------
        trial
            What :meth:`ask` returned, or its number.
        value
            Whatever an objective may return: a number, ``(mean, sem)``, a dict of metrics, ``(value, gradient)``.
        state
            ``"complete"``, ``"pruned"`` or ``"failed"``; ``error`` says why it failed.

        Raises
        ------
        LeaseLost
            When the trial is over already, or was taken over by another process. Nothing is changed then.
        """
        if isinstance(trial, (int, np.integer)) and not isinstance(trial, bool):
            trial = self.coordinator.asked.get(trial, trial)  # what its live trial was told belongs to it
        task = trial.task if isinstance(trial, LiveTrial) else self.coordinator.task(record_of(self.history, trial))
        check_asked(task, self._ledger.identity)
        state = check_state(state, error)
        if state is State.COMPLETE:
            names = list(trial if isinstance(trial, LiveTrial) else task.params)
            outcome = interpret(value, self.objectives, names)
        else:
            outcome = without_result(value, state, error)
            outcome = unless_diverged(outcome, trial) if isinstance(trial, LiveTrial) else outcome
        if isinstance(trial, LiveTrial):
            outcome = replace(outcome, attributes={**jsonable(trial.attributes), **outcome.attributes})
            if self._ledger.wishes.per == "seconds" and outcome.seconds is None:
                outcome = replace(outcome, seconds=time.time() - trial.asked)
            if self.coordinator.open_space:
                outcome = replace(outcome, params=trial.params, domains=trial.domains)
        if not self.coordinator.receive_outcome(task, outcome):
            raise LeaseLost(
                f"trial {task.number} is over already, or was taken over by another process; its record is unchanged"
            )
        record = self._ledger.trial(task.number)
        assert record is not None
        return record

    @checks_keywords
    def optimize(
        self,
        objective: Objective,
        n_trials: int | None = None,
        *,
        timeout: float | None = None,
        workers: int = 1,
        stop: Rule | Iterable[Rule] | None = None,
        callbacks: Sequence[Callback] = (),
        catch: type[BaseException] | tuple[type[BaseException], ...] = Exception,
        executor: Any = None,
        progress: bool | None = None,
        trial_timeout: float | None = None,
        memory_limit: int | str | None = None,
        resources: Mapping[str, float] | None = None,
        retries: Mapping[str, int] | None = None,
        batch: bool | int = False,
        deterministic: bool = False,
        stay: bool = False,
    ) -> None:
        """Evaluate the objective until the study has ``n_trials`` trials in all, or another limit is met.

        The same call on an existing study goes on to the same total. Trials that a dead process left behind run first.

        Parameters
        ----------
        objective
            A function of one trial, which is a mapping of the parameters.
        n_trials
            Total number of trials of the study, restarts included.
        timeout
            Seconds after which this call starts no further trial.
        workers
            Processes that evaluate side by side; -1 for one per core, or per thread of a Dask cluster. One worker runs
            in this process.
        stop
            Rules such as ``Patience(20)``, ``Target(0.99)``, ``MaxCost(3600)``; the first that applies ends the
            study, and its reason is stored as ``study.stop_reason``.
        callbacks
            Functions of (study, trial), called after each trial.
        catch
            Exceptions of the objective that are recorded as failures while the study goes on. Others are recorded
            and raised. After ten equal ones in a row without any success this call ends, unless ``deterministic``.
        executor
            Where to evaluate; see ``welltuned.executors.EXECUTORS``, or a ``dask.distributed.Client``. For ``"ranks"``
            see :mod:`welltuned.distributed`.
        progress
            True or False for the live line; unless given, it is shown on a terminal and in a notebook.
        trial_timeout, memory_limit
            Seconds, and bytes (or ``"2GB"``), that a trial may use. Its process is killed then, and the trial has
            failed for the reason ``timeout`` or ``out_of_memory``.
        resources
            What a trial needs: ``{"gpu": 1}``, or 0.5 to share a device with another one. Each worker sees its own.
        retries
            How often a trial is tried again by the reason for which it failed, such as ``{"lost": 3, "error": 1}``. A
            lost one, whose worker died, is tried again twice unless given. Where a whole process dies, the next one
            tries again, ten times at most and once more for each report that the trial has made.
        batch
            The objective takes a list of trials and returns a list of results: True, or how many at a time.
        deterministic
            The same seed and number of workers give the same trials, whatever the timing: trial *k* is proposed from
            the results of trials up to *k* - workers. A worker waits where those are not there yet.
        stay
            Stay until other processes on the study have finished too, and take over what they leave behind.
        """
        check_objective(objective, self._ledger.space)
        limits, workers = check_limits(trial_timeout, memory_limit, resources), check_workers(workers, executor)
        size = check_batch(batch, workers)
        if size is not None:
            workers, executor = size, executor or "batch"
        where = check_executor(executor, workers, limits)
        total = self._n_trials if n_trials is None else check_count("n_trials", n_trials)
        options = Options(
            check_timeout(timeout),
            count_workers(where, workers, limits),
            check_callbacks(callbacks),
            check_catch(catch),
            make_rules(stop),
            where,
            check_progress(progress),
            limits,
            check_retries(retries),
            check_deterministic(deterministic, self._ledger.wishes.per, self.coordinator.promotion.possible),
            bool(stay),
        )
        if total is None and options.timeout is None and not options.rules:
            check_ends(self.sampler, self._ledger.space, self._ledger.wishes.noisy)
        check_folders(self.scheduler, self.coordinator.folders)
        warn_of_lacking(self._ledger.row, self.scheduler)
        with self.coordinator.alone():
            self._n_trials = self._ledger.budget = total
            self._ledger.keep_budget()
            self._ledger.workers = options.workers
            self.coordinator.window = options.workers if options.deterministic else None
            self.coordinator.attempts = max(MOST_DEATHS, *(n + 1 for n in options.retries.values()))
            self.coordinator.record_stop(None)
            if isinstance(self.sampler, Grid) and self._ledger.space is not None:
                log.info("study %r: the whole grid takes %d evaluations", self.name, self.sampler.size(self.space))
            run(self, objective, options)

    def stop(self, reason: str = "stopped by the user") -> None:
        """End the study after the trials that are running, in every process that works on it; a call of
        :meth:`optimize` after it lets all go on that have not ended yet.
        """
        self._ledger.glance()
        self._ledger.set_stop(reason)

    def replay(self) -> Replay:
        """Derive every suggestion again from what the search could see then, and compare with what is stored.

        Open the study with the sampler, the space and the ``prior=`` that it was run with. One that has had a
        scheduler that pauses trials is refused.

        Returns
        -------
        Replay
            True where all came out again; otherwise ``differs`` is the number of the first trial that did not.

        Examples
        --------
        >>> study = Study({"x": (-5.0, 5.0)}, seed=0)
        >>> study.optimize(lambda trial: trial["x"] ** 2, n_trials=8)
        >>> len(study.replay().checked)
        8
        """
        return replay(self.coordinator)

    # trials from outside

    def enqueue(self, params: Mapping[str, Any] | Iterable[Mapping[str, Any]], *, again: bool = False) -> list[int]:
        """Let a configuration, or a list of them, be evaluated next; return the numbers of the trials.

        What has been evaluated, or waits for it, is not tried ``again`` unless the study is noisy or it failed: its
        trial's number is returned, so that the same program can run twice.

        Raises
        ------
        InvalidValue
            When one is not a configuration of the space; none is enqueued then.
        """
        asked = as_enqueued(params, self._ledger.space, self.objectives)
        anew = again or self._ledger.wishes.noisy
        known = {} if anew else already_there(asked, self.history)
        first = list(range(len(asked))) if anew else firsts(asked)
        new = [i for i in sorted(set(first)) if i not in known]
        known |= zip(new, self._ledger.append(asked[i] for i in new) if new else (), strict=True)
        return [known[i] for i in first]

    enqueue_trial = enqueue

    def add(self, trials: Trial | Mapping[str, Any] | Iterable[Any], value: Any = None) -> Added:
        """Add results that were found elsewhere. They steer the search and use no budget.

        Parameters
        ----------
        trials
            A record of another study, or a configuration with its ``value``, or a list of records and of
            ``(params, value)`` pairs.

        Returns
        -------
        Added
            The numbers of the rows taken, and the rows that do not fit the space, each with the reason.
        """
        if not isinstance(trials, (Trial, Iterable)) or isinstance(trials, (str, bytes)):
            raise InvalidType(f"add: {trials!r} is neither a trial, a configuration nor a list of them")
        rows = rows_of(trials, value, self._ledger.space)
        alone = isinstance(trials, Trial) or is_one(trials, self._ledger.space)
        taken, refused = [], []
        for row in rows:
            try:
                taken.append(read_row(row, self.space, self.objectives))
            except (InvalidValue, InvalidType) as error:
                if alone:
                    raise
                refused.append((row, str(error)))
        return Added(tuple(self._ledger.append(taken)), tuple(refused))

    def note(self, /, **notes: Any) -> None:
        """Keep values that JSON can hold with the study, such as ``data="2026-11"`` or ``commit="3f2a"``.

        What is noted under the same name later takes its place. Reports and ``welltuned show`` have them.
        """
        self._ledger.keep(as_attributes(jsonable(notes)))

    def set_user_attr(self, key: str, value: Any) -> None:
        """Keep one value with the study; the name that users of Optuna know for :meth:`note`."""
        self.note(**{str(key): value})

    def to_frame(self) -> pd.DataFrame:
        """Return all trials as a pandas DataFrame: a row each, a column a parameter, metric or fact; times in UTC."""
        try:
            import pandas as pd
        except ImportError as error:
            raise require("pandas", "pandas", "to_frame()") from error
        names = list(dict.fromkeys(n for t in self.trials for n in t.params or {}))
        frame = pd.DataFrame(flat_rows(self.trials, names))
        if len(frame):
            frame["started"] = pd.to_datetime(frame["started"].astype(float), unit="s", utc=True)
        return frame
