"""Stop a trial that is worse than the median of its predecessors at the same step."""

from __future__ import annotations

import bisect
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from welltuned.errors import InvalidType, InvalidValue
from welltuned.history import History
from welltuned.schedulers.protocol import Continue, Decision, Stop
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
        directions, several = tuple(history.directions.items()), len(history.directions) > 1
        curves = {
            t.number: (_remembered if t.state.finished else _read)(t.reports, directions).at(report.step)
            for t in history.trials
            if t.reports
        }
        own = curves.pop(number, None)
        others = [lowest if several else mean for lowest, mean in filter(None, curves.values())]
        if own is None or len(others) < max(self.startup, 1):
            return Continue()
        better = (np.array(others) < own[0]).all(1).mean()
        if better > (DOMINATED if several else 0.5):
            return Stop(f"{better:.0%} of the others were better at step {report.step}")
        return Continue()


@dataclass(frozen=True)
class _Curve:
    """What a trial reported of all objectives: steps, shape (k,), and the lowest losses and the means up to each of
    them, shapes (k, m).
    """

    reports: tuple[Report, ...]
    steps: tuple[int, ...]
    lowest: np.ndarray
    mean: np.ndarray

    def at(self, step: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Return lowest and mean up to ``step``, shapes (m,); None if the trial did not get that far."""
        i = bisect.bisect_right(self.steps, step) - 1
        return None if i < 0 or self.reports[-1].step < step else (self.lowest[i], self.mean[i])


_CURVES: OrderedDict[tuple[int, tuple[tuple[str, str], ...]], _Curve] = OrderedDict()
MOST = 20_000


def _remembered(reports: tuple[Report, ...], directions: tuple[tuple[str, str], ...]) -> _Curve:
    """Return the curve of a trial that has ended: each report of another would look at all of its reports again."""
    key = id(reports), directions
    curve = _CURVES.get(key)
    if curve is None or curve.reports is not reports:  # while it is remembered, nothing else has its id
        _CURVES[key] = curve = _read(reports, directions)
        if len(_CURVES) > MOST:
            _CURVES.popitem(last=False)
    return curve


def _read(reports: tuple[Report, ...], directions: tuple[tuple[str, str], ...]) -> _Curve:
    names, signs = zip(*((name, -1.0 if d == "maximize" else 1.0) for name, d in directions), strict=True)
    kept = [r for r in reports if all(name in r.metrics for name in names)]
    losses = np.array([[r.metrics[name] for name in names] for r in kept]).reshape(len(kept), len(names)) * signs
    count = np.arange(1, len(kept) + 1)[:, None]
    steps = tuple(r.step for r in kept)
    return _Curve(reports, steps, np.minimum.accumulate(losses, axis=0), np.cumsum(losses, axis=0) / count)
