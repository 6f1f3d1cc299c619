"""Pause all but the best trials at a few steps, and let more of them go on as others come: asynchronous halving."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from welltuned.curves import Curve, curves
from welltuned.errors import InvalidType, InvalidValue
from welltuned.history import History
from welltuned.schedulers.halving import n_ahead, worse
from welltuned.schedulers.protocol import Continue, Decision, Pause
from welltuned.trial import Report, State


@dataclass(frozen=True)
class Asha:
    """Pause trials at a third and a ninth of a training; of those at each rung, let the best third go on.

    Asynchronous successive halving (Li et al., *A System for Massively Parallel Hyperparameter Tuning*, MLSys 2020,
    algorithm 2). Before a new trial begins, a paused one goes on that is among the best ``1/factor`` of all that have
    come to its rung; those at the highest rung come first. So no worker waits for others, and a trial that looks good
    only beside later ones gets its chance. It goes on in its :attr:`checkpoint <welltuned.LiveTrial.checkpoint>` folder;
    an objective that keeps nothing there starts again from the first step.

    With several objectives, the best are those on the first fronts.

    Parameters
    ----------
    factor
        How many trials come to a rung for each that goes on from it, and how much further the next one is; at least 2.
    last
        The last step that a whole training reports. Unless given, it is learned from the first ones, which are not
        paused.
    rungs
        At how many steps trials are paused: at ``last / factor``, ``last / factor**2`` and so on. Steps that begin with
        0 count from 1.

    Examples
    --------
    >>> Asha(last=27).steps()
    (3, 9)
    >>> Asha(factor=2, last=50, rungs=3).steps()
    (7, 13, 25)
    """

    factor: int = 3
    last: int | None = None
    rungs: int = 2

    def __post_init__(self) -> None:
        for name, lowest in (("factor", 2), ("last", 1), ("rungs", 1)):
            value = getattr(self, name)
            if value is None and name == "last":
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise InvalidType(f"Asha: {name}={value!r} is not a whole number")
            if value < lowest:
                raise InvalidValue(f"Asha: {name}={value!r} must be at least {lowest}")

    def decide(self, history: History, number: int, report: Report) -> Decision:
        """See :meth:`Scheduler.decide`."""
        reported = curves(history.trials, history.directions)
        own, steps = reported.get(number), self._steps(history, reported)
        at = None if own is None else own.reaching(report.step)
        if own is None or at is None or own.steps[at] != report.step:  # the report lacks an objective
            return Continue()
        before = own.steps[at - 1] if at else -math.inf
        crossed = [step for step in steps if before < step <= report.step]
        if not crossed:
            return Continue()
        ahead = n_ahead(reported, crossed[-1])
        if ahead[number] < self._quota(history, len(ahead)):
            return Continue()
        return Pause(worse(ahead[number], len(ahead), crossed[-1]))

    def promote(self, history: History) -> int | None:
        """See :meth:`Promoter.promote`."""
        reported = curves(history.trials, history.directions)
        steps = self._steps(history, reported)
        paused = {t.number for t in history.trials if t.state is State.PAUSED and t.number in reported}
        for low, high in reversed(list(zip(steps, (*steps, math.inf)[1:], strict=True))):
            here = {n for n in paused if low <= _upto(reported[n]) < high}
            if not here:
                continue
            ahead = n_ahead(reported, low)
            best = min(here, key=lambda n: (ahead[n], n))
            if ahead[best] < self._quota(history, len(ahead)):
                return best
        # where the steps have changed since, some may rest before all of them
        return min((n for n in paused if not steps or _upto(reported[n]) < steps[0]), default=None)

    def steps(self, last: int | None = None, first: int = 1) -> tuple[int, ...]:
        """Return the steps at which trials are paused, given those that trainings begin and end with."""
        last, zero = self.last if last is None else last, int(first <= 0)
        if last is None:
            return ()
        length = last + zero
        rungs = {math.ceil(length / self.factor**k) - zero for k in range(1, self.rungs + 1)}
        return tuple(sorted(step for step in rungs if max(first, 0) <= step < last))

    def _steps(self, history: History, reported: Mapping[int, Curve]) -> tuple[int, ...]:
        whole = [reported[t.number] for t in history.trials if t.state is State.COMPLETE and t.number in reported]
        last = self.last if self.last is not None else max((_upto(c) for c in whole if c.steps), default=None)
        first = min((curve.steps[0] for curve in reported.values() if curve.steps), default=1)
        return () if last is None else self.steps(int(last), first)

    def _quota(self, history: History, reached: int) -> int:
        """Return how many of those at a rung may go on: at least one, once no new trial can begin."""
        spent = history.budget is not None and history.spent >= history.budget
        return max(reached // self.factor, int(spent))


def _upto(curve: Curve) -> float:
    """Return the last step with a value of every objective."""
    return curve.steps[-1] if curve.steps else -math.inf
