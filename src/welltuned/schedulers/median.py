"""Stop a trial that is worse than the median of its predecessors at the same step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from welltuned.curves import curves
from welltuned.history import History
from welltuned.schedulers.protocol import Continue, Decision, Stop
from welltuned.settings import check_whole
from welltuned.trial import Report

DOMINATED = 0.05


@dataclass(frozen=True)
class Median:
    """Stop a trial whose best value so far is worse than the median of the others' averages up to the same step.

    Golovin et al., *Google Vizier: A Service for Black-Box Optimization*, KDD 2017, section 3.2.2. With several
    objectives a trial is stopped when more than one in twenty of the others were better in all of them: on a front, few
    beat few.

    Parameters
    ----------
    startup
        No trial is stopped before this many others have reached the step.
    warmup
        No trial is stopped at a step below this one.
    """

    startup: int = 5
    warmup: int = 1

    def __post_init__(self) -> None:
        check_whole(self, startup=0, warmup=0)

    def decide(self, history: History, number: int, report: Report) -> Decision:
        """See :meth:`Scheduler.decide`."""
        if report.step < self.warmup:
            return Continue()
        several, reported = len(history.directions) > 1, curves(history.trials, history.directions)
        places = {n: i for n, curve in reported.items() if (i := curve.up_to(report.step)) is not None}
        own = places.pop(number, None)
        if own is None or len(places) < max(self.startup, 1):
            return Continue()
        others = [(reported[n].lowest if several else reported[n].mean)[i] for n, i in places.items()]
        better = (np.array(others) < reported[number].lowest[own]).all(1).mean()
        if better > (DOMINATED if several else 0.5):
            return Stop(f"{better:.0%} of the others were better at step {report.step}")
        return Continue()
