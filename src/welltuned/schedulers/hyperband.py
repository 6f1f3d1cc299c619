"""Several ways to halve side by side, where nobody knows how much the first steps tell of the end."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from welltuned.curves import Curve, curves, extent
from welltuned.history import History
from welltuned.schedulers.asha import Rungs, paused, rung_steps
from welltuned.schedulers.protocol import Decision
from welltuned.settings import check_whole
from welltuned.trial import Report

GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0


@dataclass(frozen=True)
class Hyperband:
    """Share trials out to brackets: in the first they are paused at all rungs, in the last they are not paused at all.

    Li et al., *Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization* (JMLR 2018), with brackets that
    go on side by side, each as :class:`Asha` does. All of them get about the same share of the cost, so that those with
    the fewest pauses have the fewest trials. Where early steps mislead, some trials are judged by late ones alone.

    Parameters
    ----------
    factor, last, rungs
        As those of :class:`Asha`, of the bracket that pauses most often.

    Examples
    --------
    >>> [Hyperband().n_rungs(number) for number in range(8)]
    [2, 1, 2, 0, 2, 2, 1, 2]
    """

    factor: int = 3
    last: int | None = None
    rungs: int = 2

    def __post_init__(self) -> None:
        check_whole(self, factor=2, last=1, rungs=1)

    def decide(self, history: History, number: int, report: Report) -> Decision:
        """See :meth:`Scheduler.decide`."""
        reported = curves(history.trials, history.directions)
        return self._bracket(history, reported, self.n_rungs(number)).decide(number, report)

    def promote(self, history: History) -> int | None:
        """See :meth:`Promoter.promote`. Brackets that pause least often come first."""
        reported, resting = curves(history.trials, history.directions), paused(history)
        for rungs in range(self.rungs + 1):
            mine = {n for n in resting if self.n_rungs(n) == rungs}
            found = self._bracket(history, reported, rungs).promote(mine) if mine else None
            if found is not None:
                return found
        return None

    def n_rungs(self, number: int) -> int:
        """Return at how many rungs trial ``number`` may be paused."""
        return bracket_of(number, self.factor, self.rungs)

    def _bracket(self, history: History, reported: dict[int, Curve], rungs: int) -> Rungs:
        first, last = extent(history.trials, reported)
        mine = {n: curve for n, curve in reported.items() if self.n_rungs(n) == rungs}
        steps = rung_steps(self.factor, self.rungs, self.last or last, first)
        return Rungs(self.factor, steps[len(steps) - min(rungs, len(steps)) :], mine, history.is_spent)


@functools.lru_cache(1 << 14)
def bracket_of(number: int, factor: int, rungs: int) -> int:
    """Return how many rungs trial ``number`` has, of ``rungs`` at most: fewer trials where they cost more."""
    r = np.arange(rungs, -1, -1)
    # of the trials in a bracket, 1/factor**k come further than to the k-th of its r rungs
    cost = factor ** (-1.0 * r) * (1.0 + r * (1.0 - 1.0 / factor))
    shares = np.cumsum(1.0 / cost) / (1.0 / cost).sum()
    return int(r[np.searchsorted(shares, GOLDEN * number % 1.0)])
