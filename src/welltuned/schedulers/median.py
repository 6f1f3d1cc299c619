"""Stop a trial that is worse than the median of its predecessors at the same step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from welltuned.errors import InvalidType, InvalidValue
from welltuned.history import History
from welltuned.schedulers.protocol import Continue, Decision, Stop
from welltuned.trial import Report, Trial


@dataclass(frozen=True)
class Median:
    """Stop a trial whose best value so far is worse than the median of the others' averages up to the same step.

    Golovin et al., *Google Vizier: A Service for Black-Box Optimization*, KDD 2017, section 3.2.2. With several
    objectives a trial is stopped only when it is worse in all of them.

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
        worse = []
        for name, direction in history.directions.items():
            sign = -1.0 if direction == "maximize" else 1.0
            curves = {t.number: _curve(t, name, report.step) * sign for t in history.trials}
            others = [c.mean() for n, c in curves.items() if n != number and len(c)]
            own = curves.get(number, np.empty(0))
            if len(others) < max(self.startup, 1) or not len(own):
                return Continue()
            worse.append(own.min() > np.median(others))
        return Stop(f"worse than the median at step {report.step}") if all(worse) else Continue()


def _curve(trial: Trial, name: str, step: int) -> np.ndarray:
    """Return what a trial reported of a metric up to ``step``; nothing if it did not get that far."""
    if not trial.reports or trial.reports[-1].step < step:
        return np.empty(0)
    return np.array([r.metrics[name] for r in trial.reports if r.step <= step and name in r.metrics])
