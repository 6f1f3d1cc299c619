"""What trials reported, as curves of their losses."""

from __future__ import annotations

import bisect
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from welltuned.history import History
from welltuned.trial import Report

MOST = 20_000  # curves of ended trials that are remembered


@dataclass(frozen=True)
class Curve:
    """What a trial reported of all objectives, to be minimised.

    Attributes
    ----------
    steps
        Those that have a value of every objective, ascending, shape (k,).
    lowest, mean
        The lowest losses and the means up to each of them, shapes (k, m).
    """

    reports: tuple[Report, ...]
    steps: tuple[int, ...]
    lowest: np.ndarray
    mean: np.ndarray

    def up_to(self, step: int) -> int | None:
        """Return where the last value up to ``step`` is; None if there is none, or the trial did not get that far."""
        i = bisect.bisect_right(self.steps, step) - 1
        return None if i < 0 or self.reports[-1].step < step else i

    def reaching(self, step: int) -> int | None:
        """Return where the first value at ``step`` or beyond is; None if there is none."""
        i = bisect.bisect_left(self.steps, step)
        return None if i == len(self.steps) else i


def curves(history: History) -> dict[int, Curve]:
    """Return the curves of all trials that reported anything, by number."""
    directions = tuple(history.directions.items())
    return {
        t.number: (_remembered if t.state.finished else _read)(t.reports, directions)
        for t in history.trials
        if t.reports
    }


_CURVES: OrderedDict[tuple[int, tuple[tuple[str, str], ...]], Curve] = OrderedDict()


def _remembered(reports: tuple[Report, ...], directions: tuple[tuple[str, str], ...]) -> Curve:
    """Return the curve of a trial that has ended: each report of another would look at all of its reports again."""
    key = id(reports), directions
    curve = _CURVES.get(key)
    if curve is None or curve.reports is not reports:  # while it is remembered, nothing else has its id
        _CURVES[key] = curve = _read(reports, directions)
        if len(_CURVES) > MOST:
            _CURVES.popitem(last=False)
    return curve


def _read(reports: tuple[Report, ...], directions: tuple[tuple[str, str], ...]) -> Curve:
    names, signs = zip(*((name, -1.0 if d == "maximize" else 1.0) for name, d in directions), strict=True)
    kept = [r for r in reports if all(name in r.metrics for name in names)]
    losses = np.array([[r.metrics[name] for name in names] for r in kept]).reshape(len(kept), len(names)) * signs
    count = np.arange(1, len(kept) + 1)[:, None]
    steps = tuple(r.step for r in kept)
    return Curve(reports, steps, np.minimum.accumulate(losses, axis=0), np.cumsum(losses, axis=0) / count)
