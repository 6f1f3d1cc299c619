"""Give longer trainings to ever fewer trials: asynchronous successive halving."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from welltuned.curves import Curve, curves
from welltuned.history import History
from welltuned.pareto import fronts
from welltuned.schedulers.protocol import Continue, Decision, Stop
from welltuned.settings import check_whole
from welltuned.trial import Report


@dataclass(frozen=True)
class Halving:
    """Let only the best third of the trials go on at steps 1, 3, 9, 27, ….

    Asynchronous successive halving (Li et al., *A System for Massively Parallel Hyperparameter Tuning*, MLSys 2020), in
    its form without pauses: a trial that reaches such a step, a rung, is judged at once by its best value so far among
    all that have reached it before. It goes on if it is in the best ``1/factor`` of them, and ends as pruned otherwise;
    as long as fewer than ``factor`` have been there, all go on. With several objectives, the best are those on the
    first fronts.

    Parameters
    ----------
    factor
        How many trials reach a rung for each that goes on from it, and how much further the next rung is; at least 2.
    first
        The step of the first rung, at least 1. Where the first steps say little of the end, make it larger.

    Examples
    --------
    >>> [Halving(factor=4, first=2).rung(after=step - 1, upto=step) for step in (2, 3, 8, 32)]
    [2, None, 8, 32]
    """

    factor: int = 3
    first: int = 1

    def __post_init__(self) -> None:
        check_whole(self, factor=2, first=1)

    def decide(self, history: History, number: int, report: Report) -> Decision:
        """See :meth:`Scheduler.decide`."""
        reported = curves(history.trials, history.directions)
        own = reported.get(number)
        at = None if own is None else own.reaching(report.step)
        if own is None or at is None or own.steps[at] != report.step:  # the report lacks an objective
            return Continue()
        rung = self.rung(own.steps[at - 1] if at else 0, report.step)
        if rung is None:
            return Continue()
        ahead = n_ahead(reported, rung)
        if len(ahead) < self.factor or ahead[number] * self.factor < len(ahead):
            return Continue()
        return Stop(worse(ahead[number], len(ahead), rung))

    def rung(self, after: int, upto: int) -> int | None:
        """Return the last rung that lies beyond step ``after`` and not beyond step ``upto``; None without any."""
        rung = self.first
        if upto < rung:
            return None
        while rung * self.factor <= upto:
            rung *= self.factor
        return rung if rung > after else None


def n_ahead(reported: Mapping[int, Curve], step: int, *, latest: bool = False) -> dict[int, int]:
    """Return how many trials are better up to ``step``, lower or on earlier fronts, for each that came so far.

    What counts is the lowest value so far, or with ``latest`` the one at that step.
    """
    places = {n: at for n, curve in reported.items() if (at := curve.reaching(step)) is not None}
    if not places:
        return {}
    losses = np.array([(reported[n].losses if latest else reported[n].lowest)[at] for n, at in places.items()])
    if losses.shape[1] == 1:
        return dict(zip(places, np.searchsorted(np.sort(losses[:, 0]), losses[:, 0]).tolist(), strict=True))
    ahead, before = np.zeros(len(losses), dtype=int), 0
    different, of = np.unique(losses, axis=0, return_inverse=True)  # of equal trials none is better
    for front in fronts(different, len(different)):
        here = np.isin(of.reshape(-1), front)
        ahead[here], before = before, before + int(here.sum())
    return dict(zip(places, ahead.tolist(), strict=True))


def worse(ahead: int, reached: int, step: int) -> str:
    """Say why a trial does not go on."""
    return f"{ahead} of the other {reached - 1} were better at step {step}"
