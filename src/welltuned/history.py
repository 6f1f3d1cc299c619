"""What a sampler may see: the trials of a study, as records and as arrays over the unit cube."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np

from welltuned.errors import InvalidType, InvalidValue
from welltuned.space import Space
from welltuned.trial import State, Trial


class History:
    """An immutable view of trials, ordered by number, the running ones included.

    Parameters
    ----------
    space
        The space of length ``p`` that ``unit`` refers to. Trials that do not fit it have a row of NaN.
    trials
        Records in any order.
    directions
        Objective name to ``"minimize"`` or ``"maximize"``.
    budget
        The number of trials that the study will have in the end, where known.
    workers
        How many trials are evaluated side by side.
    """

    def __init__(
        self,
        space: Space,
        trials: Iterable[Trial] = (),
        directions: Mapping[str, str] | None = None,
        budget: int | None = None,
        workers: int = 1,
        _rows: dict[int, tuple[int, np.ndarray]] | None = None,
    ) -> None:
        self.space = space
        self.trials = tuple(sorted(trials, key=operator.attrgetter("number")))
        self.directions = dict(directions or {"value": "minimize"})
        self.budget = budget
        self.workers = workers
        # rows encoded earlier, by trial number: (revision of the trial, row)
        self._rows = {} if _rows is None else _rows

    def replace(
        self,
        trials: Iterable[Trial],
        *,
        space: Space | None = None,
        budget: int | None = None,
        workers: int | None = None,
    ) -> History:
        """Return a history of other trials that re-uses what was encoded before."""
        same = space is None or space is self.space
        return History(
            space or self.space,
            trials,
            self.directions,
            self.budget if budget is None else budget,
            self.workers if workers is None else workers,
            self._rows if same else None,
        )

    def __len__(self) -> int:
        return len(self.trials)

    @cached_property
    def trials_by_number(self) -> dict[int, Trial]:
        """The trials by their numbers."""
        return {t.number: t for t in self.trials}

    @property
    def revision(self) -> int:
        """Grows with every change to any trial; equal revisions mean equal histories of one study."""
        return max((t.revision for t in self.trials), default=0)

    def _row(self, trial: Trial) -> np.ndarray:
        known = self._rows.get(trial.number)
        if known is not None and known[0] == trial.revision:
            return known[1]
        row = np.full(len(self.space), np.nan)
        if trial.params is not None:
            with contextlib.suppress(InvalidValue, InvalidType):
                row = self.space.encode_row(trial.params)
        self._rows[trial.number] = (trial.revision, row)
        return row

    @cached_property
    def unit(self) -> np.ndarray:
        """Unit coordinates, shape (n, p); NaN where a parameter is inactive or a trial does not fit the space."""
        return np.array([self._row(t) for t in self.trials]).reshape(len(self.trials), len(self.space))

    @cached_property
    def fits(self) -> np.ndarray:
        """Which trials are configurations of the space, shape (n,)."""
        return ~np.isnan(self.unit).all(axis=1)

    @cached_property
    def losses(self) -> np.ndarray:
        """Objectives to be minimised, shape (n, m); NaN where unknown. A pruned trial counts with its last report."""
        values = np.array([[_metric(t, name) for name in self.directions] for t in self.trials])
        signs = [-1.0 if d == "maximize" else 1.0 for d in self.directions.values()]
        return values.reshape(len(self.trials), len(signs)) * signs

    @cached_property
    def complete(self) -> np.ndarray:
        """Which trials completed and fit the space, shape (n,)."""
        return self._mask(State.COMPLETE) & self.fits

    @cached_property
    def observed(self) -> np.ndarray:
        """Which trials fit the space and have a known value of every objective, shape (n,)."""
        return np.isfinite(self.losses).all(axis=1) & self.fits

    @cached_property
    def failed(self) -> np.ndarray:
        """Which trials failed and fit the space, shape (n,)."""
        return self._mask(State.FAILED) & self.fits

    @cached_property
    def pending(self) -> np.ndarray:
        """Which trials have a configuration that fits the space but no result yet, shape (n,)."""
        return self._mask(State.RUNNING, State.WAITING, State.PAUSED) & self.fits

    def _mask(self, *states: State) -> np.ndarray:
        return np.array([t.state in states for t in self.trials], dtype=bool)

    @cached_property
    def keys(self) -> frozenset[str]:
        """Canonical keys of all configurations evaluated or under way."""
        return frozenset(t.key or self.space.key(t.params) for t in self.trials if t.params is not None)

    @cached_property
    def best(self) -> Trial | None:
        """The complete trial of this space with the best value of the only objective; the first of equals."""
        done = [t for t, fits in zip(self.trials, self.fits, strict=True) if fits and _known(t)]
        sign = -1.0 if next(iter(self.directions.values())) == "maximize" else 1.0
        return min(done, key=lambda t: sign * (t.value or 0.0), default=None)

    @cached_property
    def front(self) -> tuple[Trial, ...]:
        """The complete trials that no other one dominates."""
        from welltuned.pareto import non_dominated

        done = [i for i, t in enumerate(self.trials) if self.fits[i] and _known(t)]
        return tuple(self.trials[done[i]] for i in np.flatnonzero(non_dominated(self.losses[done])))

    def without(self, numbers: Sequence[int]) -> History:
        """Return the history that lacks the trials of these numbers."""
        left_out = set(numbers)
        return self.replace(t for t in self.trials if t.number not in left_out)


def _known(trial: Trial) -> bool:
    return trial.state is State.COMPLETE and trial.values is not None


def _metric(trial: Trial, name: str) -> float:
    if trial.state is State.COMPLETE:
        return trial.metrics.get(name, np.nan)
    if trial.state is State.PRUNED and trial.reports:
        return trial.reports[-1].metrics.get(name, np.nan)
    return np.nan
