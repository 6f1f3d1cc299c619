"""What an objective's derivatives tell a process: values next door, believed as far as the evidence goes.

A process can be conditioned on derivatives by derivatives of its kernel (Solak et al., *Derivative Observations in
Gaussian Process Models of Dynamic Systems*, 2003). A second value a small step away says the same, to first order, and
goes through warps, trends and conditions as every value does.

Where a function has waves that are short beside the distances between trials, its derivatives say nothing of what
matters, and a process that believes them is misled. So they have an uncertainty of their own.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from welltuned.surrogate import fit
from welltuned.surrogate.gp import Layout, Observations

STEP = 0.02  # how far away "next door" is, in units of the cube
MOST = 75  # derivatives that are used
JUDGES = 50  # observations by which it is judged how far to believe them
DOUBTS = (
    100.0,
    30.0,
    10.0,
    3.0,
    1.0,
)  # standard deviations of a derivative, on the scale of the values per unit of the cube
DISBELIEF = 1000.0


def beside(unit: np.ndarray, y: np.ndarray, slopes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of the cube next to the best and the latest trials, and what values their derivatives promise there.

    Two thirds of the trials whose derivatives are used are the best ones, one third the latest.

    Parameters
    ----------
    unit, y, slopes
        Of n trials, shapes (n, p), (n,) and (n, p); NaN where a derivative is not known.
    """
    known = np.isfinite(slopes)
    some = np.flatnonzero(known.any(axis=1))
    share = max(MOST // (3 * max(unit.shape[1], 1)), 1)
    best = some[np.argsort(y[some], kind="stable")[: 2 * share]]
    i, j = np.nonzero(known[chosen := np.union1d(best, some[-share:])])
    i = chosen[i]
    if len(i) > MOST:  # the steepest tell the most
        steepest = np.sort(np.argsort(-np.abs(slopes[i, j]), kind="stable")[:MOST])
        i, j = i[steepest], j[steepest]
    step = np.where(unit[i, j] < 0.5, STEP, -STEP)
    rows = unit[i].copy()
    rows[np.arange(len(j)), j] += step
    return rows, y[i] + step * slopes[i, j]


def believed(data: Observations, phi: np.ndarray, y: np.ndarray) -> Observations:
    """Add values next door, features ``phi`` and standardised ``y``, with the uncertainty that makes all most probable.

    The observations stay as they are where the most probable is that derivatives say nothing.
    """
    layout = Layout(data.n_groups, 0)
    judges = data.subset(np.sort(np.argsort(data.y, kind="stable")[:JUDGES]))
    theta, doubts, found = fit.default_theta(layout), (DISBELIEF, *DOUBTS), []
    for doubt in doubts:
        more = _joined(judges, phi, y, doubt)
        theta = fit.maximum(more, layout, theta[None])
        found.append(float(fit.log_posterior(theta[None], more, layout)[0][0]))
    best = int(np.argmax(found))
    return _joined(data, phi, y, doubts[best]) if best else data


def _joined(data: Observations, phi: np.ndarray, y: np.ndarray, doubt: float) -> Observations:
    known = np.append(data.known, np.full(len(y), (doubt * STEP) ** 2))
    return replace(data, phi=np.vstack([data.phi, phi]), y=np.append(data.y, y), known=known)
