"""The one road between natural values and the unit cube. Every log, step and categorical transform is in this file.

A parameter with finitely many values owns one cell of [0, 1] per value. ``encode`` returns cell centres (exactly: the
same value always gives the same number), ``decode`` accepts any point of a cell, and ``snap`` moves a point to its
cell's centre. Continuous parameters map monotonically.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from welltuned.space.labels import find
from welltuned.space.parameters import Choice, Float, Int, Numeric, Parameter

STEP = 1e-6  # of the unit coordinate, for derivatives of the scales


def cells(parameter: Parameter) -> int | None:
    """Return the number of values, or None when they are not finitely many."""
    if isinstance(parameter, Choice):
        return len(parameter.choices)
    if isinstance(parameter, Float) and parameter.step is None:
        return None
    if not np.isfinite(parameter.high - parameter.low):
        return None
    return int(np.floor((parameter.high - parameter.low) / parameter.step + 1e-9)) + 1


def _edges(parameter: Float | Int) -> tuple[float, float]:
    """Return the natural values at unit coordinates 0 and 1, half a cell outside the first and last value."""
    if isinstance(parameter, Float) and parameter.step is None:
        return parameter.low, parameter.high
    n, step = cells(parameter) or 1, float(parameter.step or 1)
    low, high = parameter.low - step / 2, parameter.low + (n - 0.5) * step
    # a log scale needs a positive edge; half of low is exact for low=1, step=1
    return (max(low, parameter.low / 2) if parameter.log else low), high


def to_unit(parameter: Parameter, values: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Map natural values, shape (n,), to unit coordinates, shape (n,)."""
    if isinstance(parameter, Choice):
        index = np.array([find(parameter.choices, v) for v in values], dtype=float)
        return (index + 0.5) / len(parameter.choices)
    x = np.asarray(values, dtype=float)
    if parameter.distribution is not None:
        return parameter.distribution.cdf(x)
    low, high = _edges(parameter)
    if parameter.log:
        return np.asarray((np.log(x) - np.log(low)) / (np.log(high) - np.log(low)))
    return np.asarray((x - low) / (high - low))


def numbers(parameter: Float | Int, u: np.ndarray) -> np.ndarray:
    """Map unit coordinates, shape (n,), to natural numbers of a Float or an Int, shape (n,)."""
    x = natural(parameter, np.clip(u, 0.0, 1.0))
    if parameter.distribution is not None:
        return np.clip(np.round(x) if isinstance(parameter, Int) else x, parameter.low, parameter.high)
    if parameter.step is None:
        x = np.clip(x, parameter.low, parameter.high)
        # an end is itself, not the exponential of its logarithm: people read 0.1, and not 0.09999999999999998
        return np.where(u <= 0.0, parameter.low, np.where(u >= 1.0, parameter.high, x))
    step = np.clip(np.round((x - parameter.low) / parameter.step), 0, (cells(parameter) or 1) - 1)
    return np.asarray(parameter.low + step * parameter.step)


def natural(parameter: Float | Int, u: np.ndarray) -> np.ndarray:
    """Map unit coordinates to real numbers on the parameter's scale, without rounding to its steps."""
    if parameter.distribution is not None:
        return parameter.distribution.ppf(u)
    low, high = _edges(parameter)
    if parameter.log:
        return np.asarray(np.exp(np.log(low) + u * (np.log(high) - np.log(low))))
    return np.asarray(low + u * (high - low))


def slope(parameter: Float | Int, u: np.ndarray, given: np.ndarray | float = 1.0) -> np.ndarray:
    """Return derivatives by unit coordinates, shape (n,), of what has those ``given`` by natural numbers, which without
    them are those of the numbers themselves; from differences within the cube.
    """
    low, high = np.clip(u - STEP, 0.0, 1.0), np.clip(u + STEP, 0.0, 1.0)
    with np.errstate(over="ignore"):  # of quantiles, or a range, as far apart as numbers are
        return np.asarray(given * ((numbers(parameter, high) - numbers(parameter, low)) / (high - low)))


def indices(parameter: Any, u: np.ndarray) -> np.ndarray:
    """Map unit coordinates, shape (n,), to indices of choices, shape (n,); NaN goes to -1."""
    n, known = len(parameter.choices), u == u
    index = np.minimum((np.maximum(np.where(known, u, 0.0), 0.0) * n).astype(int), n - 1)
    return np.where(known, index, -1)


def from_unit(parameter: Parameter, u: np.ndarray) -> list[Any]:
    """Map unit coordinates, shape (n,), to natural values: Python floats, Python ints, or the choices themselves."""
    if isinstance(parameter, Choice):
        return [parameter.choices[i] for i in indices(parameter, u)]
    values = numbers(parameter, u)
    return [int(v) for v in values] if isinstance(parameter, Int) else [float(v) for v in values]


def snap(parameter: Parameter, u: np.ndarray) -> np.ndarray:
    """Move unit coordinates, shape (n,), to those of the values they stand for. Continuous ones are only clipped."""
    if isinstance(parameter, Choice):
        return (indices(parameter, np.clip(u, 0, 1)) + 0.5) / len(parameter.choices)
    if isinstance(parameter, Int) or parameter.step is not None:
        return to_unit(parameter, numbers(parameter, u))
    return np.clip(u, 0.0, 1.0)


def apply_prior(parameter: Parameter, u: np.ndarray) -> np.ndarray:
    """Turn uniform draws ``u`` into unit coordinates that follow the parameter's prior within its bounds."""
    if parameter.prior is None:
        return u
    if isinstance(parameter, Choice):
        edges = np.cumsum(parameter.prior)
        index = np.searchsorted(edges, u, side="right").clip(0, len(edges) - 1)
        return (index + 0.5) / len(parameter.choices)
    # of steps the first and the last stand for as much as the others: half a step to either side
    step, n = parameter.step or 0.0, cells(parameter)
    last = parameter.high if n is None else parameter.low + (n - 1) * step
    a, b = parameter.prior.cdf(parameter.low - step / 2), parameter.prior.cdf(last + step / 2)
    x = np.clip(parameter.prior.ppf(a + u * (b - a)), parameter.low, parameter.high)
    return np.clip(to_unit(parameter, x), 0.0, 1.0)


def levels(parameter: Parameter, resolution: int) -> np.ndarray:
    """Return the unit coordinates a grid visits: all values, or, of a number with more
    than ``resolution`` of them, that many evenly spaced ones with both ends."""
    n = cells(parameter)
    if isinstance(parameter, Choice):
        return (np.arange(len(parameter.choices)) + 0.5) / len(parameter.choices)
    if n is None or n > resolution:
        return np.unique(snap(parameter, np.linspace(0.0, 1.0, max(resolution, 2))))
    return to_unit(parameter, parameter.low + np.arange(n) * float(parameter.step or 1))


class Columns:
    """The maps above for all parameters of a space at once: rows of the cube, shape (n, p), in one array operation.

    In a *table* of natural values, shape (n, p), a choice stands as its index; NaN is inactive in both.
    """

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        n = len(parameters)
        self.choices = np.array([isinstance(p, Choice) for p in parameters], dtype=bool)
        self.counts = np.array([len(p.choices) if isinstance(p, Choice) else 1 for p in parameters], dtype=float)
        self.special = [
            (j, p) for j, p in enumerate(parameters) if isinstance(p, Numeric) and p.distribution is not None
        ]
        plain = [(j, p) for j, p in enumerate(parameters) if isinstance(p, Numeric) and p.distribution is None]
        self.log, self.stepped = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        self.bottom, self.top = np.zeros(n), np.ones(n)
        self.low, self.high, self.step, self.last = np.zeros(n), np.ones(n), np.ones(n), np.zeros(n)
        for j, p in plain:
            edges = np.array(_edges(p), dtype=float)
            self.log[j], self.stepped[j] = p.log, p.step is not None
            self.bottom[j], self.top[j] = np.log(edges) if p.log else edges
            self.low[j], self.high[j] = p.low, p.high
            if p.step is not None:
                self.step[j], self.last[j] = p.step, (cells(p) or 1) - 1
        for j, q in self.special:
            self.low[j], self.high[j] = q.low, q.high
        choices = np.flatnonzero(self.choices)
        self.high[choices] = self.counts[choices] - 1.0
        self.span = self.top - self.bottom
        self.logs, self.steps = np.flatnonzero(self.log), np.flatnonzero(self.stepped)
        self.chosen = np.flatnonzero(self.choices)
        self.numeric = np.flatnonzero(~self.choices)
        self.ladder = self.low[self.steps], self.step[self.steps], self.last[self.steps]  # by stepped column
        self.chosen_of = self.counts[self.chosen]  # by column of choices
        whole = [j for j, p in self.special if isinstance(p, Int)]
        # coordinates that stand for whole cells
        self.inexact = np.array(sorted({*self.steps.tolist(), *self.chosen.tolist(), *whole}), dtype=int)

    def table(self, unit: np.ndarray) -> np.ndarray:
        """Map rows of the cube to natural values and indices of choices."""
        u = np.minimum(np.maximum(unit, 0.0), 1.0)
        x = self.bottom + u * self.span
        if len(self.logs):
            x[:, self.logs] = np.exp(x[:, self.logs])
        # an end is itself, as in numbers()
        x = np.where(u == 0.0, self.low, np.where(u == 1.0, self.high, x))
        if len(self.steps):
            low, step, last = self.ladder
            number = np.rint((x[:, self.steps] - low) / step)
            x[:, self.steps] = low + np.minimum(np.maximum(number, 0.0), last) * step
        if len(self.chosen):
            x[:, self.chosen] = np.minimum(np.floor(u[:, self.chosen] * self.chosen_of), self.chosen_of - 1.0)
        # what a logarithm and back has moved beyond an end
        x = np.minimum(np.maximum(x, self.low), self.high)
        for j, parameter in self.special:
            known = ~np.isnan(u[:, j])
            x[known, j] = numbers(parameter, u[known, j])
            x[~known, j] = np.nan
        return x

    def unit(self, table: np.ndarray) -> np.ndarray:
        """Map natural values and indices of choices to rows of the cube."""
        x = table
        if len(self.logs):
            x = table.copy()
            x[:, self.logs] = np.log(x[:, self.logs])
        u = (x - self.bottom) / self.span
        if len(self.chosen):
            u[:, self.chosen] = (table[:, self.chosen] + 0.5) / self.chosen_of
        for j, parameter in self.special:
            known = ~np.isnan(table[:, j])
            u[known, j] = to_unit(parameter, table[known, j])
        return u

    def snap(self, unit: np.ndarray) -> np.ndarray:
        """Move rows of the cube to those of the values they stand for."""
        out = np.minimum(np.maximum(unit, 0.0), 1.0)
        if len(self.inexact):
            centres = self.unit(self.table(out))
            out[:, self.inexact] = centres[:, self.inexact]
        return out
