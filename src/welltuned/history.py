"""What a sampler may see: the trials of a study, as records and as arrays over the unit cube."""

from __future__ import annotations

import contextlib
import itertools
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np

from welltuned.curves import Parts, parts
from welltuned.errors import InvalidType, InvalidValue
from welltuned.space import Float, Space, codec, public
from welltuned.trial import LARGEST, Origin, State, Trial, calculable

CODES = {state: code for code, state in enumerate(State)}


class Table:
    """The arrays behind histories of one space, kept up to date trial by trial, so that a new result costs one row.

    Rows are indexed by the numbers of trials. ``version`` grows with every change: a history reads the arrays while
    they are as it knows them.
    """

    def __init__(self, space: Space, directions: Mapping[str, str]) -> None:
        self.space = space
        self.names = tuple(directions)
        self.signs = [-1.0 if d == "maximize" else 1.0 for d in directions.values()]
        self.version = 0
        self.keys: dict[str, int] = {}  # how many trials have each configuration
        self._key: dict[int, str] = {}
        self.unit = np.full((16, len(space)), np.nan)
        self.fits = np.zeros(16, dtype=bool)
        self.losses = np.full((16, len(self.names)), np.nan)
        self.sems = np.full((16, len(self.names)), np.nan)
        self.codes = np.full(16, -1, dtype=np.int8)
        self.revisions = np.zeros(16, dtype=np.int64)
        self.added = np.zeros(16, dtype=bool)  # which were evaluated elsewhere
        self.constraints: dict[str, int] = {}  # column of each constraint on outcomes
        self.violations = np.empty((16, 0))
        self.derived = np.zeros(16, dtype=bool)  # which trials have returned a gradient
        self.gradients = np.empty((16, 0))  # as returned, a column each parameter as soon as there is one

    def put(self, trial: Trial) -> None:
        """Enter a trial, or what changed about it."""
        number = trial.number
        while number >= len(self.codes):
            for name in ("unit", *COPIED):
                array = getattr(self, name)
                blank = np.full_like(array, np.nan if array.dtype == float else -1 if name == "codes" else 0)
                setattr(self, name, np.concatenate([array, blank]))
        self.version += 1
        self.codes[number], self.revisions[number] = CODES[trial.state], trial.revision
        self.added[number] = trial.origin is Origin.ADDED
        self.losses[number] = [sign * _metric(trial, name) for sign, name in zip(self.signs, self.names, strict=True)]
        if trial.sems:
            self.sems[number] = [calculable(trial.sems.get(name, np.nan)) for name in self.names]
        for name, value in trial.constraints.items():
            self._violate(number, name, value)
        self._derive(number, trial.gradient)
        key = None if trial.params is None else key_of(self.space, trial)
        if key != self._key.get(number):
            self._forget(number)
            if trial.params is not None and key is not None:
                self._key[number] = key
                self.keys[key] = self.keys.get(key, 0) + 1
                with contextlib.suppress(InvalidValue, InvalidType):
                    row = self.space.encode_row(self.space.filled(trial.params))
                    # what a newer version of the space forbids is none of its configurations
                    if not np.isnan(row).all() and (self.space.partial or self.space.feasible(row[None])[0]):
                        self.unit[number], self.fits[number] = row, True

    def _violate(self, number: int, name: str, value: float) -> None:
        if name not in self.constraints:
            self.constraints[name] = len(self.constraints)
            self.violations = np.hstack([self.violations, np.full((len(self.codes), 1), np.nan)])
        # the least there is above 0 violates it too
        self.violations[number, self.constraints[name]] = min(max(value, -LARGEST), LARGEST)

    def _derive(self, number: int, gradient: Mapping[str, float] | None) -> None:
        self.derived[number] = gradient is not None
        if gradient is not None:
            if self.gradients.shape[1] == 0:
                self.gradients = np.full((len(self.codes), len(self.space)), np.nan)
            self.gradients[number] = [gradient.get(public(name), np.nan) for name in self.space]

    def drop(self, number: int) -> None:
        """Take a trial out."""
        self.version += 1
        self._forget(number)
        self.derived[number] = False
        self.codes[number], self.losses[number] = -1, np.nan

    def _forget(self, number: int) -> None:
        key = self._key.pop(number, None)
        if key is not None:
            self.keys[key] -= 1
            if not self.keys[key]:
                del self.keys[key]
        if self.fits[number]:
            self.unit = self.unit.copy()  # histories look at these rows
            self.unit[number], self.fits[number] = np.nan, False


@dataclass(frozen=True)
class _Arrays:
    """The rows of a table that belong to a history's trials."""

    constraints: tuple[str, ...]
    unit: np.ndarray
    fits: np.ndarray
    losses: np.ndarray
    sems: np.ndarray
    violations: np.ndarray
    codes: np.ndarray
    revisions: np.ndarray
    added: np.ndarray
    derived: np.ndarray
    gradients: np.ndarray


#: what may change in place in a table, so that a history has copies: all but rows of the cube that are set
COPIED = tuple(f.name for f in fields(_Arrays))[2:]


@dataclass(frozen=True)
class Wishes:
    """What a study wants of its search, beside the best value of its objectives.

    Attributes
    ----------
    noisy
        Whether the same configuration may be evaluated again, because its value is not always the same.
    per
        Look for the best per unit of this cost: ``"seconds"`` of evaluation, or a metric that the objective returns.
    earlier
        Histories of studies that were like this one.
    """

    noisy: bool = False
    per: str | None = None
    earlier: tuple[History, ...] = ()


class History:
    """An immutable view of trials, ordered by number, the running ones included.

    Parameters
    ----------
    space
        The space of length ``p`` that ``unit`` refers to. Trials that do not fit it, or that it forbids, have a row of
        NaN.
    trials
        Records in any order. What those of an earlier version of the space lack counts as its default.
    directions
        Objective name to ``"minimize"`` or ``"maximize"``.
    budget
        The number of trials that the study will have in the end, where known.
    workers
        How many trials are evaluated side by side.
    table
        Arrays that hold these trials already, some others perhaps besides; built unless given.
    wishes
        What the study wants of the search, beside the best value.
    """

    def __init__(
        self,
        space: Space,
        trials: Iterable[Trial] = (),
        directions: Mapping[str, str] | None = None,
        budget: int | None = None,
        workers: int = 1,
        table: Table | None = None,
        wishes: Wishes | None = None,
    ) -> None:
        self.space = space
        in_order = tuple(trials)
        if table is None:
            in_order = tuple(sorted(in_order, key=operator.attrgetter("number")))
        self.trials = in_order
        self.directions = dict(directions or {"value": "minimize"})
        self.budget = budget
        self.workers = workers
        self.wishes = wishes or Wishes()
        self._given = table
        self._version = 0 if table is None else table.version

    def replace(
        self,
        trials: Iterable[Trial],
        *,
        space: Space | None = None,
        budget: int | None = None,
        workers: int | None = None,
    ) -> History:
        """Return a history of other trials of the same study."""
        return History(
            space or self.space,
            trials,
            self.directions,
            self.budget if budget is None else budget,
            self.workers if workers is None else workers,
            wishes=self.wishes,
        )

    def __len__(self) -> int:
        return len(self.trials)

    def __repr__(self) -> str:
        done = sum(t.state is State.COMPLETE for t in self.trials)
        return f"History: {len(self)} trials, {done} complete"

    @property
    def _current(self) -> Table | None:
        """The table that was given, as long as it has not gone on."""
        return self._given if self._given is not None and self._given.version == self._version else None

    @cached_property
    def _table(self) -> Table:
        if (current := self._current) is not None:
            return current
        table = Table(self.space, self.directions)
        for trial in self.trials:
            table.put(trial)
        return table

    @cached_property
    def numbers(self) -> np.ndarray:
        """Numbers of the trials, shape (n,)."""
        n = len(self.trials)
        if n and self.trials[-1].number == n - 1:  # they are ordered, so none is missing
            return np.arange(n)
        return np.fromiter((t.number for t in self.trials), dtype=int, count=n)

    @cached_property
    def _arrays(self) -> _Arrays:
        """Copies, all made at once: the table may go on. Only rows of the cube that are all set never change there."""
        found = self._copies()
        if self._table is self._given and self._current is None:  # another thread has told a result amid it
            del self._table
            found = self._copies()
        return found

    def _copies(self) -> _Arrays:
        table, n = self._table, len(self.trials)
        if not n or self.trials[-1].number != n - 1:
            at = self.numbers
            copies = [getattr(table, name)[at] for name in COPIED]
            unit = table.unit[at]
        else:  # they are ordered, so none is missing
            copies = [getattr(table, name)[:n].copy() for name in COPIED]
            unit = table.unit[:n]
            if table.fits[:n].all():
                unit.flags.writeable = False
            else:
                unit = unit.copy()
        return _Arrays(tuple(table.constraints), unit, *copies)

    @cached_property
    def trials_by_number(self) -> dict[int, Trial]:
        """The trials by their numbers."""
        return {t.number: t for t in self.trials}

    @property
    def revision(self) -> int:
        """Grows with every change to any trial; equal revisions mean equal histories of one study."""
        return int(self.revisions.max(initial=0))

    @property
    def revisions(self) -> np.ndarray:
        """When each trial changed last, shape (n,): of those that have ended, the order in which they did."""
        return self._arrays.revisions

    @property
    def added(self) -> np.ndarray:
        """Which trials were added from elsewhere, so that they use no budget, shape (n,)."""
        return self._arrays.added

    @cached_property
    def finished(self) -> np.ndarray:
        """Which trials have ended, whether they fit the space or not, shape (n,)."""
        return self._mask(*(state for state in State if state.finished))

    @property
    def unit(self) -> np.ndarray:
        """Unit coordinates, shape (n, p); NaN where a parameter is inactive or a trial does not fit the space."""
        return self._arrays.unit

    @property
    def fits(self) -> np.ndarray:
        """Which trials are configurations of the space, shape (n,)."""
        return self._arrays.fits

    @property
    def losses(self) -> np.ndarray:
        """Objectives to be minimised, shape (n, m); NaN where unknown.

        A pruned or paused trial counts with what can be expected of its curve; see :func:`welltuned.curves.parts`.
        """
        return self._results[0]

    @property
    def sems(self) -> np.ndarray:
        """Standard errors of the objectives, shape (n, m); NaN where none was given.

        That of a pruned or paused trial is the doubt of where it would have ended, too.
        """
        return self._results[1]

    @property
    def jitters(self) -> np.ndarray:
        """What is left of :attr:`sems` where it is known how much of a training was observed, shape (n, m)."""
        return self._results[2]

    @cached_property
    def _results(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        arrays = self._arrays
        if self.parts is None:
            return arrays.losses, arrays.sems, arrays.sems
        losses, sems, jitters, rest = arrays.losses.copy(), arrays.sems.copy(), arrays.sems.copy(), self.parts.resting
        # beside results that are uncertain themselves, what is expected to be one is no more certain than they are
        known = np.isfinite(sems).any(axis=0)
        usual = np.array([np.nanmedian(sems[:, j]) if known[j] else 0.0 for j in range(sems.shape[1])])
        at = self.parts.trials[rest]
        losses[at], sems[at] = self.parts.ends[rest], np.hypot(self.parts.sds[rest], usual)
        jitters[at] = np.hypot(self.parts.jitters[rest], usual)
        return losses, sems, jitters

    @cached_property
    def parts(self) -> Parts | None:
        """What pruned and paused trials say of whole ones; None where there are none."""
        if not self._mask(State.PRUNED, State.PAUSED).any():
            return None
        return parts(self.trials, self.directions, self._arrays.losses)

    @cached_property
    def slopes(self) -> np.ndarray | None:
        """Derivatives of the loss by unit coordinates, shape (n, p); NaN where the objective returned none.

        None where it never did, and for several objectives.
        """
        if len(self.directions) > 1 or not self.has_gradients:
            return None
        sign = -1.0 if "maximize" in self.directions.values() else 1.0
        found = np.full(self.unit.shape, np.nan)
        rows = self._arrays.derived & self._mask(State.COMPLETE)
        for j, parameter in enumerate(self.space.values()):
            if isinstance(parameter, Float) and parameter.step is None:
                given = sign * self._arrays.gradients[rows, j]
                found[rows, j] = np.clip(codec.slope(parameter, self.unit[rows, j], given), -LARGEST, LARGEST)
        return found

    @property
    def has_gradients(self) -> bool:
        """Whether the objective has returned its gradient, in any trial."""
        return bool(self._arrays.derived.any())

    @property
    def violations(self) -> np.ndarray:
        """Values of the constraints on outcomes, shape (n, c); those above 0 are violated, NaN is unknown."""
        return self._arrays.violations

    @property
    def constraints(self) -> tuple[str, ...]:
        """Names of the constraints on outcomes."""
        return self._arrays.constraints

    @property
    def per(self) -> str | None:
        """See :class:`Wishes`."""
        return self.wishes.per

    @cached_property
    def costs(self) -> np.ndarray:
        """What each trial has cost in units of :attr:`per`, shape (n,); NaN where unknown."""
        per = self.per or "seconds"
        costs = [t.seconds if per == "seconds" else t.metrics.get(per) for t in self.trials]
        return np.array([np.nan if c is None else c for c in costs], dtype=float)

    @cached_property
    def spent(self) -> int:
        """How many trials count against the budget: all but those that were added from elsewhere."""
        return sum(t.origin is not Origin.ADDED for t in self.trials)

    @property
    def is_spent(self) -> bool:
        """Whether no new trial can begin."""
        return self.budget is not None and self.spent >= self.budget

    @cached_property
    def complete(self) -> np.ndarray:
        """Which trials completed and fit the space, shape (n,)."""
        return self._mask(State.COMPLETE) & self.fits

    @cached_property
    def feasible(self) -> np.ndarray:
        """Which trials violate no constraint on outcomes, shape (n,)."""
        return np.asarray(~(self.violations > 0.0).any(axis=1))

    @cached_property
    def observed(self) -> np.ndarray:
        """Which trials fit the space and have a known value of every objective, shape (n,)."""
        known = np.isfinite(self.losses)  # one objective is the usual case, and needs no reduction
        return (known[:, 0] if known.shape[1] == 1 else known.all(axis=1)) & self.fits

    @cached_property
    def failed(self) -> np.ndarray:
        """Which trials failed and fit the space, shape (n,)."""
        return self._mask(State.FAILED) & self.fits

    @cached_property
    def pending(self) -> np.ndarray:
        """Which trials have a configuration that fits the space and are under way or wait, shape (n,)."""
        return self._mask(State.RUNNING, State.WAITING) & self.fits

    def _mask(self, *states: State) -> np.ndarray:
        found = self._arrays.codes == CODES[states[0]]
        for state in states[1:]:
            found |= self._arrays.codes == CODES[state]
        return np.asarray(found)

    @cached_property
    def keys(self) -> frozenset[str]:
        """Canonical keys of all configurations evaluated or under way."""
        if (current := self._current) is not None:
            return frozenset(current.keys)
        return frozenset(key_of(self.space, t) for t in self.trials if t.params is not None)

    def knows(self, key: str) -> bool:
        """Tell whether a configuration was evaluated or is under way, without a copy of all keys where possible."""
        current = self._current
        return key in (self.keys if current is None else current.keys)

    @cached_property
    def best(self) -> Trial | None:
        """The complete trial of this space with the best value of the only objective; the first of equals.

        Trials that violate a constraint on outcomes do not count.
        """
        at = self._eligible()
        losses = self._arrays.losses[at, 0]
        # where values are beyond what a search calculates with, their losses are equal
        least = [self.trials[i] for i in at[losses == losses.min(initial=np.inf)].tolist()]
        sign = -1.0 if next(iter(self.directions.values())) == "maximize" else 1.0
        return min(least, key=lambda t: sign * (t.value or 0.0), default=None)

    def _eligible(self) -> np.ndarray:
        """Return the positions of the trials that may be the best."""
        known = ~np.isnan(self._arrays.losses).any(axis=1)
        return np.flatnonzero(self.complete & self.feasible & known)

    def why_no_best(self) -> str:
        """Say why there is no best trial, in words for an error."""
        done = sum(t.state is State.COMPLETE for t in self.trials)
        if not done:
            failed = [t for t in self.trials if t.state is State.FAILED]
            if not failed:
                return "no completed trial yet"
            last = failed[-1]
            return f"no completed trial yet; the last of {len(failed)} failures was trial {last.number}: {last.error}"
        if not (fit := int(self.complete.sum())):
            return f"none of {done} completed trials is a configuration of the space as it is now"
        return f"each of {fit} completed trials violates a constraint on outcomes"

    @cached_property
    def front(self) -> tuple[Trial, ...]:
        """The complete trials that no other one dominates."""
        from welltuned.pareto import non_dominated

        at = self._eligible()
        return tuple(self.trials[i] for i in at[non_dominated(self._arrays.losses[at])].tolist())

    def where(self, kept: np.ndarray) -> History:
        """Return the history of some of the trials, given which, shape (n,)."""
        chosen = self.replace(itertools.compress(self.trials, kept))
        rows = {name: getattr(self._arrays, name)[kept] for name in ("unit", *COPIED)}
        chosen.__dict__["_arrays"] = replace(self._arrays, **rows)
        return chosen

    def without(self, numbers: Sequence[int]) -> History:
        """Return the history that lacks the trials of these numbers."""
        left_out = set(numbers)
        gone = [t for t in self.trials[-len(left_out) :] if t.number in left_out] if left_out else []
        if len(gone) == len(left_out):  # the usual case: trials that have only just been claimed
            trials = self.trials[: -len(left_out)] if left_out else self.trials
        else:
            trials = tuple(t for t in self.trials if t.number not in left_out)
        if (table := self._current) is not None and len(gone) == len(left_out) and all(t.params is None for t in gone):
            return History(self.space, trials, self.directions, self.budget, self.workers, table, self.wishes)
        return self.replace(trials)


def key_of(space: Space, trial: Trial) -> str:
    """Return the canonical key of a trial's configuration, with the defaults of what the space has got since."""
    params = space.filled(trial.params or {})
    return trial.key if trial.key is not None and len(params) == len(trial.params or {}) else space.key(params)


def _metric(trial: Trial, name: str) -> float:
    if trial.state is State.COMPLETE:
        return calculable(trial.metrics.get(name, np.nan))
    return np.nan
