"""Stop a trial that is worse than the median of its predecessors at the same step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from welltuned.errors import InvalidType, InvalidValue
from welltuned.history import History
from welltuned.schedulers.protocol import Continue, Decision, Stop
from welltuned.trial import Report, Trial

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
        for name in ("startup", "warmup"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise InvalidType(f"Median: {name}={value!r} is not a whole number")
            if value < 0:
                raise InvalidValue(f"Median: {name}={value!r} must not be below 0")

    def decide(self, history: History, number: int, report: Report) -> Decision:
        """See :meth:`Scheduler.decide`."""
        if report.step < self.warmup:
            return Continue()
        names = list(history.directions)
        signs = np.array([-1.0 if d == "maximize" else 1.0 for d in history.directions.values()])
        curves = {t.number: _curves(t, names, report.step) * signs for t in history.trials}
        own = curves.pop(number, np.empty((0, len(names))))
        several = len(names) > 1
        others = [c.min(0) if several else c.mean(0) for c in curves.values() if len(c)]
        if len(others) < max(self.startup, 1) or not len(own):
            return Continue()
        better = (np.array(others) < own.min(0)).all(1).mean()
        if better > (DOMINATED if several else 0.5):
            return Stop(f"{better:.0%} of the others were better at step {report.step}")
        return Continue()


def _curves(trial: Trial, names: list[str], step: int) -> np.ndarray:
    """Return what a trial reported of all metrics up to ``step``, shape (k, m); nothing if it did not get that far."""
    if not trial.reports or trial.reports[-1].step < step:
        return np.empty((0, len(names)))
    reports = [r.metrics for r in trial.reports if r.step <= step and all(n in r.metrics for n in names)]
    rows = [[metrics[n] for n in names] for metrics in reports]
    return np.array(rows).reshape(len(rows), len(names))
