"""Pause all but the best trials at a few steps, and let more of them go on as others come: asynchronous halving."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from welltuned.curves import Curve, curves, extent
from welltuned.history import History
from welltuned.schedulers.halving import n_ahead, worse
from welltuned.schedulers.protocol import Continue, Decision, Pause
from welltuned.settings import check_whole
from welltuned.trial import Report, State


@dataclass(frozen=True)
class Asha:
    """Pause trials at a ninth and a third of a training, and let the best third at each of these rungs go on.

    Asynchronous successive halving (Li et al., *A System for Massively Parallel Hyperparameter Tuning*, MLSys 2020,
    algorithm 2). Before a new trial begins, a paused one goes on that is among the best ``1/factor`` of all that have
    come to its rung; those at the highest rung come first. So no worker waits for others, and a trial that looks good
    only beside later ones still gets its chance. Once the budget or the space has no new trial, the best at each
    rung goes on even where fewer than ``factor`` have come.

    A trial goes on in its folder ``trial.checkpoint``. An objective that keeps nothing there begins again, and loses
    time but nothing else. With several objectives, the best are those on the first fronts.

    Parameters
    ----------
    factor
        How many trials come to a rung for each that goes on from it, and how much further the next one is; at least 2.
    last
        The last step that a whole training reports. Unless given, it is learned from the first ones, which are not
        paused.
    rungs
        At how many steps trials are paused: ``last / factor``, ``last / factor**2`` and so on. Steps that begin with 0
        are counted from 1.

    Examples
    --------
    >>> Asha(last=27).steps(27)
    (3, 9)
    >>> Asha(factor=2, rungs=3).steps(50)
    (7, 13, 25)
    """

    factor: int = 3
    last: int | None = None
    rungs: int = 2

    def __post_init__(self) -> None:
        check_whole(self, factor=2, last=1, rungs=1)

    def decide(self, history: History, number: int, report: Report) -> Decision:
        """See :meth:`Scheduler.decide`."""
        return self._rungs(history).decide(number, report)

    def promote(self, history: History) -> int | None:
        """See :meth:`Promoter.promote`."""
        return self._rungs(history).promote(paused(history))

    def steps(self, last: int | None, first: int = 1) -> tuple[int, ...]:
        """Return the steps at which trials are paused, where trainings begin and end with the steps ``first, last``."""
        return rung_steps(self.factor, self.rungs, last, first)

    def _rungs(self, history: History) -> Rungs:
        reported = curves(history.trials, history.directions)
        first, last = extent(history.trials, reported)
        return Rungs(self.factor, self.steps(self.last or last, first), reported, history.is_spent)


@dataclass(frozen=True)
class Rungs:
    """Where trials are paused, and what those that come there have reported.

    Attributes
    ----------
    steps
        Ascending.
    reported
        Curves of the trials that are compared, by number.
    spent
        Whether no new trial can begin.
    """

    factor: int
    steps: tuple[int, ...]
    reported: Mapping[int, Curve] = field(repr=False)
    spent: bool

    def decide(self, number: int, report: Report) -> Decision:
        """Pause a trial that has come to a rung and is not among the best there."""
        own = self.reported.get(number)
        at = None if own is None else own.reaching(report.step)
        if own is None or at is None or own.steps[at] != report.step:  # the report lacks an objective
            return Continue()
        before = own.steps[at - 1] if at else -math.inf
        crossed = [step for step in self.steps if before < step <= report.step]
        if not crossed:
            return Continue()
        ahead = n_ahead(self.reported, crossed[-1])
        if ahead[number] < self._quota(len(ahead)):
            return Continue()
        return Pause(worse(ahead[number], len(ahead), crossed[-1]))

    def promote(self, paused: set[int]) -> int | None:
        """Return the best trial, of those paused at the highest rung that has one for which there is room."""
        upto = {n: self.reported[n].steps[-1] for n in paused if n in self.reported and self.reported[n].steps}
        for low, high in reversed(list(zip(self.steps, (*self.steps, math.inf)[1:], strict=True))):
            here = [n for n, step in upto.items() if low <= step < high]
            if not here:
                continue
            ahead = n_ahead(self.reported, low)
            best = min(here, key=lambda n: (ahead[n], n))
            if ahead[best] < self._quota(len(ahead)):
                return best
        # trainings may have turned out to be longer than was thought when these were paused
        return min((n for n, step in upto.items() if not self.steps or step < self.steps[0]), default=None)

    def _quota(self, reached: int) -> int:
        return max(reached // self.factor, int(self.spent))


def rung_steps(factor: int, rungs: int, last: int | None, first: int) -> tuple[int, ...]:
    """Return the steps of the rungs, ascending; none where it is not known how long a training is."""
    if last is None:
        return ()
    zero = int(first <= 0)
    found = {math.ceil((last + zero) / factor**k) - zero for k in range(1, rungs + 1)}
    return tuple(sorted(step for step in found if max(first, 0) <= step < last))


def paused(history: History) -> set[int]:
    """Return the numbers of the paused trials."""
    return {t.number for t in history.trials if t.state is State.PAUSED}
