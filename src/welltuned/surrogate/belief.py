"""What the user believed beforehand, as a term of the acquisition that fades as results come in.

Hvarfner et al., *πBO: Augmenting Acquisition Functions with User Beliefs* (ICLR 2022), eq. 6: the acquisition times
π(x)^(β/n). A floor under the density keeps a wrong belief from costing much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from welltuned.space import Categorical, Float, Int, Ordinal, Space, codec

FLOOR = 0.1
CELLS = 256


@dataclass(frozen=True)
class LogBelief:
    """``strength`` times the log density of the priors of a space's parameters, relative to even chances.

    Attributes
    ----------
    strength
        β/n.
    columns
        For each parameter with a prior: its column, whether it is a number, and the log density at evenly spaced
        places (numbers, linear in between) or of each choice.
    """

    strength: float
    columns: tuple[tuple[int, bool, np.ndarray], ...]

    def value(self, unit: np.ndarray) -> np.ndarray:
        """See :class:`Acquisition`."""
        return self.gradient(unit)[0]

    def coarse(self) -> LogBelief:
        """See :class:`Acquisition`."""
        return self

    def gradient(self, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Acquisition`."""
        value, d = np.zeros(len(unit)), np.zeros_like(unit)
        for j, is_number, logs in self.columns:
            known = np.flatnonzero(~np.isnan(unit[:, j]))
            u = unit[known, j]
            if not is_number:
                value[known] += logs[np.minimum((u * len(logs)).astype(int), len(logs) - 1)]
                continue
            at = np.clip(u * (len(logs) - 1), 0.0, len(logs) - 1.000001)
            i = at.astype(int)
            rise = logs[i + 1] - logs[i]
            value[known] += logs[i] + (at - i) * rise
            d[known, j] = rise * (len(logs) - 1)
        return self.strength * value, self.strength * d


def log_belief(space: Space, strength: float) -> LogBelief | None:
    """Read the priors of a space; None when no parameter has one."""
    columns = []
    for j, parameter in enumerate(space.values()):
        if parameter.prior is None:
            continue
        if isinstance(parameter, (Categorical, Ordinal)):
            density, is_number = np.array(parameter.prior) * len(parameter.choices), False
        else:
            density, is_number = _density(parameter), True
        columns.append((j, is_number, np.log((1.0 - FLOOR) * density + FLOOR)))
    return LogBelief(strength, tuple(columns)) if columns else None


def _density(parameter: Float | Int) -> np.ndarray:
    """Return the density of a number's prior at CELLS + 1 places of the unit interval; its mean is 1."""
    edges = np.linspace(0.0, 1.0, CELLS + 1)
    inside = np.clip(np.concatenate([[0.0], 0.5 * (edges[1:] + edges[:-1]), [1.0]]), 0.0, 1.0)
    mass = np.maximum(np.diff(parameter.prior.cdf(codec.natural(parameter, inside))), 0.0)
    width = np.diff(inside)
    density = mass / width
    total = float((density * width).sum())
    return density / total if total > 0 else np.ones_like(density)
