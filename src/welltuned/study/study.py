"""``Study``: the only object with state. Space, objectives, sampler, scheduler and storage, put together."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from welltuned.errors import InvalidType, InvalidValue, LeaseLost, NoCompletedTrial, StudyStopped, require
from welltuned.evaluation import Objective, interpret
from welltuned.executors import check_workers
from welltuned.history import History
from welltuned.live import LiveTrial, Task
from welltuned.samplers import Auto, Sampler, describe_sampler, make_sampler
from welltuned.schedulers import Stop, make_scheduler
from welltuned.space import Params, Space
from welltuned.storage import StudyRow, open_storage
from welltuned.streams import trial_rng
from welltuned.study.ledger import LEASE, Ledger
from welltuned.study.loop import Callback, Options, run
from welltuned.study.rules import Rule, make_rules
from welltuned.surrogate.threads import single_threaded
from welltuned.trial import Origin, Outcome, Reason, Report, State, Trial

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("welltuned")
DIRECTIONS = ("minimize", "maximize")


@dataclass(frozen=True)
class Added:
    """What became of rows given to :meth:`Study.add`: the numbers of those taken, and the others with the reason."""

    numbers: tuple[int, ...]
    refused: tuple[tuple[Any, str], ...] = ()


class Study:
    """Search a space for the best value of an objective.

    Parameters
    ----------
    space
        Anything that :meth:`Space.parse` understands. Without one the objective suggests its parameters itself
        (``trial.suggest_float``), or an existing study brings its own.
    direction
        ``"minimize"`` or ``"maximize"``; a dict of them by objective for several, or a list.
    sampler
        A name out of ``welltuned.samplers.SAMPLERS``, or a sampler with settings.
    storage
        Nothing for this process's memory, ``"study.db"`` for a file that survives it. A study that is already there goes on.
    name
        Which study of the storage.
    seed
        Makes all suggestions repeatable. Drawn, and stored, unless given.
    n_trials
        The number of trials in all, restarts included; may also be given to :meth:`optimize`.
    scheduler
        A name out of ``welltuned.schedulers.SCHEDULERS``, or a scheduler: what to do with trials that report badly.
    checkpoints
        Where ``trial.checkpoint`` folders go; beside the storage file unless given.
    lease
        Seconds after which a claimed trial whose process shows no sign of life is given to another one.

    Examples
    --------
    >>> study = Study({"x": (-5.0, 5.0)}, seed=0)
    >>> study.optimize(lambda trial: (trial["x"] - 2) ** 2, n_trials=15)
    >>> round(study.best.params["x"], 1)
    2.0
    """

    def __init__(self, space: Any = None, *, direction: str | Mapping[str, str] | Sequence[str] = "minimize",
                 sampler: str | Sampler | Mapping[str, Any] = "auto", storage: Any = None, name: str = "study", seed: int | None = None,
                 n_trials: int | None = None, scheduler: Any = None, checkpoints: str | os.PathLike[str] | None = None,
                 lease: float = LEASE) -> None:
        parsed = None if space is None else Space.parse(space)
        directions = check_directions(direction)
        self.sampler = make_sampler(sampler)
        self.scheduler = make_scheduler(scheduler)
        self.name = _check_name(name)
        self._n_trials = _check_count("n_trials", n_trials)
        if len(directions) > 1 and not self.sampler.several_objectives:
            raise InvalidValue(f"sampler={sampler!r} takes one objective, but there are {list(directions)!r}; use 'auto'")
        store = open_storage(storage)
        row = store.open(StudyRow(0, self.name, directions, _check_seed(seed), describe_sampler(self.sampler),
                                  () if parsed is None else (parsed.to_json(),), attributes={"open": parsed is None}))
        _check_same(row, directions if parsed is not None or direction != "minimize" else row.directions, seed)
        #: whether the objective suggests its own parameters
        self.open_space = bool(row.attributes.get("open"))
        self._ledger = Ledger(store, row, None, _check_lease(lease))
        self._use(parsed, row)
        self._checkpoints = _checkpoint_folder(checkpoints, store, self.name)
        self._said: str | None = None
        self._ledger.budget = self._n_trials

    def _use(self, parsed: Space | None, row: StudyRow) -> None:
        if parsed is not None:
            if row.spaces and row.spaces[-1] != parsed.to_json():
                log.info("study %r: the space changed; this is version %d", self.name, len(row.spaces) + 1)
            self._ledger.set_space(parsed)
        elif row.spaces:
            stored = Space.from_json(row.spaces[-1])
            stored.partial = self.open_space
            self._ledger.set_space(stored)

    def __repr__(self) -> str:
        done = sum(t.state.finished for t in self.trials)
        return f"Study({self.name!r}, {len(self.space)} parameters, {done} trials finished)"

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
            raise InvalidValue(f"study {self.name!r} has no space yet: its objective suggests the parameters, and none has run")
        return self._ledger.space

    @space.setter
    def space(self, space: Any) -> None:
        self._ledger.set_space(Space.parse(space))

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
        """The number of trials in all, where there is a limit."""
        return self._n_trials

    @property
    def stop_reason(self) -> str | None:
        """Why the study stopped, or None while it may go on."""
        self._ledger.sync()
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
            failed = [t for t in history.trials if t.state is State.FAILED]
            last = f"; the last of {len(failed)} failures was trial {failed[-1].number}: {failed[-1].error}" if failed else ""
            raise NoCompletedTrial(f"study {self.name!r} has no completed trial yet{last}")
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

    # the loop, from outside

    def ask(self, n: int | None = None) -> Any:
        """Claim the next trial and return it; with ``n``, a list of up to ``n`` of them.

        Raises
        ------
        StudyStopped
            When the budget is used up or every configuration has been tried.
        """
        count = 1 if n is None else _check_count("n", n) or 1
        tasks, exhausted = self.next_tasks(count)
        if not tasks:
            reason = "every configuration has been tried" if exhausted else f"its budget of {self._n_trials} trials is used up"
            raise StudyStopped(f"study {self.name!r} is over: {reason}")
        trials = [LiveTrial(task, self.receive_report) for task in tasks]
        return trials[0] if n is None else trials

    def tell(self, trial: LiveTrial | int, value: Any = None, *, state: str | State = State.COMPLETE, error: str | None = None) -> Trial:
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
        task = trial.task if isinstance(trial, LiveTrial) else self._running_task(trial)
        state = _check_state(state)
        if state is State.COMPLETE:
            outcome = interpret(value, self.objectives, list(trial) if isinstance(trial, LiveTrial) else list(task.params))
        else:
            outcome = Outcome(state, reason=Reason.ERROR if state is State.FAILED else None, error=error)
        if isinstance(trial, LiveTrial) and self.open_space:
            outcome = replace(outcome, params=trial.params, domains=trial.domains)
        record = self.receive_outcome(task, outcome)
        if record is None:
            raise LeaseLost(f"trial {task.number} is over already, or was taken over by another process; its record is unchanged")
        return record

    def _running_task(self, number: Any) -> Task:
        if isinstance(number, bool) or not isinstance(number, (int, np.integer)):
            raise InvalidType(f"tell: {number!r} is neither a trial nor the number of one")
        trial = self.history.trials_by_number.get(int(number))
        if trial is None:
            raise InvalidValue(f"tell: study {self.name!r} has no trial {number}")
        return self._task(trial)

    def optimize(self, objective: Objective, n_trials: int | None = None, *, timeout: float | None = None, workers: int = 1,
                 stop: Rule | Iterable[Rule] | None = None, callbacks: Sequence[Callback] = (),
                 catch: type[BaseException] | tuple[type[BaseException], ...] = Exception, executor: str | None = None,
                 progress: bool | None = None) -> None:
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
            Processes that evaluate side by side; -1 for one per core. One worker runs in this process.
        stop
            Rules such as ``Patience(20)``, ``Target(0.99)``, ``MaxCost(3600)``; the first that applies ends the study, and
            its reason is stored as ``study.stop_reason``.
        callbacks
            Functions of (study, trial), called after each trial.
        catch
            Exceptions of the objective that are recorded as failures while the study goes on. Others are recorded and raised.
        executor
            Where to evaluate; see ``welltuned.executors.EXECUTORS``.
        progress
            True or False for the live line; unless given, it is shown on a terminal.
        """
        if not callable(objective):
            raise InvalidType(f"optimize: objective={objective!r} is not a function")
        if n_trials is not None:
            self._n_trials = _check_count("n_trials", n_trials)
        if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0):
            raise InvalidValue(f"optimize: timeout={timeout!r} must be a number of seconds above 0")
        rules = make_rules(stop)
        options = Options(timeout, check_workers(workers), tuple(callbacks), _check_catch(catch), rules, executor, progress)
        self._check_ends(timeout, rules)
        self._ledger.budget, self._ledger.workers = self._n_trials, options.workers
        self.record_stop(None)
        run(self, objective, options)

    def _check_ends(self, timeout: float | None, rules: Sequence[Rule]) -> None:
        from welltuned.samplers.grid import Grid
        from welltuned.samplers.novel import size

        if self._n_trials is None and timeout is None and not rules and not isinstance(self.sampler, Grid):
            if self._ledger.space is None or size(self.space) is None:
                raise InvalidValue("optimize: nothing would end the search; give n_trials=, timeout= or stop=")

    def stop(self, reason: str = "stopped by the user") -> None:
        """End the study after the trials that are running, in every process that works on it."""
        self._ledger.sync()
        self._ledger.set_stop(reason)

    # trials from outside

    def enqueue(self, params: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> list[int]:
        """Let a configuration, or a list of them, be evaluated next; return the numbers of the trials.

        Raises
        ------
        InvalidValue
            When one is not a configuration of the space; none is enqueued then.
        """
        rows = [params] if isinstance(params, Mapping) else list(params)
        found = [dict(p) if self._ledger.space is None or self.space.partial else self.space.validate(p) for p in rows]
        return self._ledger.append(Trial(0, State.WAITING, p, origin=Origin.ENQUEUED, key=self._key(p),
                                         objectives=self.objectives) for p in found)

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
        if isinstance(trials, Mapping):
            rows: list[Any] = [(trials, value)]
        else:
            rows = [trials] if isinstance(trials, Trial) else list(trials)
        taken, refused = [], []
        for row in rows:
            try:
                taken.append(self._read_row(row))
            except (InvalidValue, InvalidType) as error:
                if isinstance(trials, (Trial, Mapping)):
                    raise
                refused.append((row, str(error)))
        return Added(tuple(self._ledger.append(taken)), tuple(refused))

    def _read_row(self, row: Any) -> Trial:
        if isinstance(row, Trial):
            params = self.space.validate(row.params or {})
            return replace(row, params=params, key=self._key(params), origin=Origin.ADDED, owner=None, lease_until=None)
        if not isinstance(row, (tuple, list)) or len(row) != 2:
            raise InvalidType(f"add: {row!r} is neither a trial nor a (params, value) pair")
        params = self.space.validate(row[0])
        done = interpret(row[1], self.objectives, list(params))
        return Trial(0, done.state, params, done.metrics, done.sems, done.gradient, reason=done.reason, error=done.error,
                     origin=Origin.ADDED, key=self._key(params), objectives=self.objectives)

    def _key(self, params: Params) -> str | None:
        return self.space.key(params) if self._ledger.space is not None else None

    def to_frame(self) -> pd.DataFrame:
        """Return all trials as a pandas DataFrame: one row a trial, one column a parameter, a metric, or a fact about it."""
        try:
            import pandas as pd
        except ImportError as error:
            raise require("pandas", "pandas", "to_frame()") from error
        from welltuned.study.table import rows

        return pd.DataFrame(rows(self.trials, list(dict.fromkeys(n for t in self.trials for n in t.params or {}))))

    # what the loop calls

    def next_tasks(self, n: int) -> tuple[list[Task], bool]:
        """Claim up to ``n`` trials and give each a configuration; also tell whether the space is exhausted."""
        self._ledger.recover()
        claimed = self._ledger.claim(n)
        blank = [t for t in claimed if t.params is None]
        params, exhausted = self._suggest(blank) if blank else ({}, False)
        tasks = [self._task(replace(t, params=params.get(t.number, t.params))) for t in claimed if t.number in params or t.params is not None]
        return tasks, exhausted

    def _suggest(self, blank: list[Trial]) -> tuple[dict[int, Params], bool]:
        """Find a configuration for each claimed slot and store it; slots without one are taken back."""
        found: dict[int, Params] = {}
        numbers = [t.number for t in blank]
        for _ in range(20):
            todo = [k for k in numbers if k not in found]
            if not todo:
                return found, False
            proposals = self._proposals(self._ledger.sync().without(todo), len(todo), todo[0])
            for number, params in zip(todo, proposals, strict=False):
                # another process may have taken the same configuration in the meantime; then propose anew
                if self.open_space or self._ledger.assign(number, params):
                    found[number] = params
            if len(proposals) < len(todo):
                break
        for number in numbers:
            if number not in found:
                self._ledger.release(number, drop=True)
        return found, len(found) < len(numbers)

    def _proposals(self, history: History, n: int, number: int) -> list[Params]:
        if self._ledger.space is None:
            return [{} for _ in range(n)]
        if isinstance(self.sampler, Auto):
            choice = self.sampler.choose(self.space, history)
            if choice.name != self._said:
                log.info("study %r uses %s from trial %d on: %s", self.name, choice.name, number, choice.why)
                self._said = choice.name
        with single_threaded():
            return self.sampler.suggest(self.space, history, n, trial_rng(self.seed, number))

    def _task(self, trial: Trial) -> Task:
        folder = None if self._checkpoints is None else str(self._checkpoints / str(trial.number))
        positional = self._ledger.space is not None and self.space.positional
        return Task(trial.number, trial.token, dict(trial.params or {}), self.seed, positional, self.open_space, folder, trial.reports)

    def receive_report(self, task: Task, report: Report) -> bool:
        """Store a report and return whether the trial should stop."""
        if len(self.objectives) == 1 and set(report.metrics) == {"value"}:
            report = replace(report, metrics={self.objectives[0]: report.metrics["value"]})
        if not self._ledger.report(task.number, task.token, report):
            log.warning("trial %d was taken over by another process; its report is dropped", task.number)
            return True
        if self.scheduler is None:
            return False
        return isinstance(self.scheduler.decide(self.history, task.number, report), Stop)

    def receive_outcome(self, task: Task, outcome: Outcome) -> Trial | None:
        """Store how a trial ended and return its record; None when its claim was lost."""
        if outcome.domains:
            self._learn(outcome.domains)
        if outcome.params is not None and self._ledger.space is not None and task.number in self._ledger.claims:
            self._ledger.assign(task.number, dict(outcome.params), unique=False)
        if not self._ledger.finish(task.number, task.token, outcome):
            log.warning("trial %d was taken over by another process; this result is dropped", task.number)
            return None
        return self.history.trials_by_number[task.number]

    def _learn(self, domains: Mapping[str, Any]) -> None:
        """Widen the space by parameters that an objective has declared."""
        known = dict(self._ledger.space.items()) if self._ledger.space is not None else {}
        if any(known.get(name) != parameter for name, parameter in domains.items()):
            space = Space({**known, **domains})
            space.partial = True
            self._ledger.set_space(space)

    def put_back(self, task: Task) -> None:
        """Let a trial whose worker died be tried again."""
        self._ledger.release(task.number)

    def record_stop(self, reason: str | None) -> None:
        """Store why the loop ended, unless a reason is stored already; with None, that the study goes on."""
        self._ledger.sync()
        self._ledger.set_stop(None if reason is None else self._ledger.stop_reason or reason)

    def interrupt(self) -> None:
        """Leave no trial running after Ctrl-C."""
        self._ledger.release_all()
        self.record_stop("interrupted")

    def give_back(self) -> None:
        """Give back whatever claims an ending loop still holds."""
        self._ledger.release_all()


def check_directions(direction: Any) -> dict[str, str]:
    """Return objective name to direction from ``direction=``."""
    if isinstance(direction, str):
        named = {"value": direction}
    elif isinstance(direction, Mapping):
        named = dict(direction)
    elif isinstance(direction, Sequence):
        named = {f"value_{i}": d for i, d in enumerate(direction)} if len(direction) > 1 else {"value": d for d in direction}
    else:
        raise InvalidType(f"direction={direction!r} is not 'minimize' or 'maximize', nor a dict of them")
    if not named:
        raise InvalidValue(f"direction={direction!r} names no objective")
    for name, value in named.items():
        if not isinstance(name, str) or value not in DIRECTIONS:
            raise InvalidValue(f"direction={direction!r}: {value!r} is not one of {list(DIRECTIONS)!r}")
    return named


def _check_name(name: Any) -> str:
    if not isinstance(name, str):
        raise InvalidType(f"Study: name={name!r} is not a string")
    if not name.strip() or any(c in name for c in "/\\\n\0"):
        raise InvalidValue(f"Study: name={name!r} must have letters, and no slash or line break")
    return name


def _check_count(what: str, value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise InvalidType(f"{what}={value!r} is not a whole number")
    if value < 1:
        raise InvalidValue(f"{what}={value!r} must be at least 1")
    return int(value)


def _check_seed(seed: Any) -> int:
    if seed is None:
        return int(np.random.SeedSequence().entropy)  # type: ignore[arg-type]
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise InvalidType(f"Study: seed={seed!r} is not a whole number")
    if seed < 0:
        raise InvalidValue(f"Study: seed={seed!r} must not be below 0")
    return int(seed)


def _check_lease(lease: Any) -> float:
    if isinstance(lease, bool) or not isinstance(lease, (int, float)):
        raise InvalidType(f"Study: lease={lease!r} is not a number of seconds")
    if not 0 < lease < float("inf"):
        raise InvalidValue(f"Study: lease={lease!r} must be a finite number of seconds above 0")
    return float(lease)


def _check_same(row: StudyRow, directions: Mapping[str, str], seed: int | None) -> None:
    if dict(row.directions) != dict(directions):
        raise InvalidValue(f"study {row.name!r} exists with direction={dict(row.directions)!r}, not {dict(directions)!r}; "
                           "use the same, or another name=")
    if seed is not None and row.seed != seed:
        raise InvalidValue(f"study {row.name!r} exists with seed={row.seed}, not {seed}; leave seed out, or use another name=")


def _check_state(state: Any) -> State:
    try:
        found = State(state)
    except ValueError:
        raise InvalidValue(f"tell: state={state!r} is unknown; write 'complete', 'pruned' or 'failed'") from None
    if not found.finished:
        raise InvalidValue(f"tell: state={state!r} is no end of a trial; write 'complete', 'pruned' or 'failed'")
    return found


def _check_catch(catch: Any) -> tuple[type[BaseException], ...]:
    kinds = tuple(catch) if isinstance(catch, (tuple, list)) else (catch,)
    for kind in kinds:
        if not isinstance(kind, type) or not issubclass(kind, BaseException):
            raise InvalidType(f"optimize: catch={catch!r} is not a class of exceptions, nor a tuple of them")
    return kinds


def _checkpoint_folder(given: Any, store: Any, name: str) -> Path | None:
    if given is not None:
        return Path(given) / name
    path = getattr(store, "path", None)
    return None if path is None else Path(f"{path}-checkpoints") / name


def minimize(objective: Objective, space: Any = None, n_trials: int | None = None, *, sampler: Any = "auto", **options: Any) -> Study:
    """Minimise an objective over a space in one call; return the study.

    Parameters
    ----------
    objective, space, n_trials, sampler
        As in :class:`Study` and :meth:`Study.optimize`.
    options
        Any other argument of the two.

    Examples
    --------
    >>> study = minimize(lambda x: (x[0] - 1) ** 2 + x[1] ** 2, [(-2, 2), (-2, 2)], n_trials=30, sampler="gradient", seed=0)
    >>> round(study.best.value, 3)
    0.0
    """
    return _one_call("minimize", objective, space, n_trials, sampler, options)


def maximize(objective: Objective, space: Any = None, n_trials: int | None = None, *, sampler: Any = "auto", **options: Any) -> Study:
    """Maximise an objective over a space in one call; return the study. See :func:`minimize`."""
    return _one_call("maximize", objective, space, n_trials, sampler, options)


RUN_OPTIONS = ("timeout", "workers", "stop", "callbacks", "catch", "executor", "progress")


def _one_call(direction: str, objective: Objective, space: Any, n_trials: int | None, sampler: Any, options: dict[str, Any]) -> Study:
    known = {"storage", "name", "seed", "scheduler", "checkpoints", "lease", *RUN_OPTIONS}
    if unknown := sorted(set(options) - known):
        raise InvalidType(f"{direction}: unknown argument {unknown[0]!r}; known are {sorted(known)!r}")
    study = Study(space, direction=direction, sampler=sampler, **{k: v for k, v in options.items() if k not in RUN_OPTIONS})
    study.optimize(objective, n_trials, **{k: v for k, v in options.items() if k in RUN_OPTIONS})
    return study

