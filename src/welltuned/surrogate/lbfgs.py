"""Projected L-BFGS from many starts at once, inside a box: one array operation serves all of them.

Nocedal and Wright, *Numerical Optimization* (2006), algorithm 7.4 for the two loops, with coordinates that stand at a
bound and want out taken from the step, and backtracking by Armijo's rule. Rows finish independently.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

RowFunction = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
Pair = tuple[np.ndarray, np.ndarray, np.ndarray]


def climb(
    fun: RowFunction,
    x: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    *,
    iterations: int = 25,
    memory: int = 5,
    first_step: float = 0.1,
    least_gain: float = 1e-3,
    flat: float = 1e-3,
) -> tuple[np.ndarray, np.ndarray]:
    """Maximise from each row of ``x``, shape (q, d), within ``lower`` and ``upper``; return the rows and their values.

    Parameters
    ----------
    fun
        ``fun(x, rows)`` returns values and gradients at ``x`` for some of the rows, whose positions it is told.
    first_step
        The largest coordinate of the first step, before any curvature is known.
    least_gain, flat
        A row is done when a step gains less, or when no free coordinate has a larger derivative.
    """
    f, g = fun(x, np.arange(len(x)))
    pairs: list[Pair] = []
    active = np.ones(len(x), dtype=bool)
    for _ in range(iterations):
        free = ~(((x <= lower) & (g < 0)) | ((x >= upper) & (g > 0)))
        gf = g * free
        active &= np.abs(gf).max(1, initial=0.0) > flat
        if not active.any():
            break
        direction = _two_loops(gf, pairs) * free
        uphill = np.einsum("ij,ij->i", direction, gf) > 0
        direction = np.where(uphill[:, None], direction, gf)
        length = np.ones(len(x))
        if not pairs:
            length = first_step / np.maximum(np.abs(direction).max(1, initial=0.0), first_step)
        new_x, new_f, new_g, moved = _line_search(fun, x, f, g, direction, length, lower, upper, active)
        s, y = new_x - x, g - new_g
        sy = np.einsum("ij,ij->i", s, y)
        pairs = [*pairs, (s, y, np.where(sy > 1e-10, 1.0 / np.maximum(sy, 1e-10), 0.0))][-memory:]
        gain = new_f - f
        x, f, g = new_x, new_f, new_g
        active &= moved & (gain > least_gain)
    return x, f


def _two_loops(g: np.ndarray, pairs: list[Pair]) -> np.ndarray:
    q, alphas = g.copy(), []
    for s, y, rho in reversed(pairs):
        alpha = rho * np.einsum("ij,ij->i", s, q)
        q -= alpha[:, None] * y
        alphas.append(alpha)
    if pairs:
        s, y, rho = pairs[-1]
        yy = np.maximum(np.einsum("ij,ij->i", y, y), 1e-300)
        q *= np.where(rho > 0, np.einsum("ij,ij->i", s, y) / yy, 1.0)[:, None]
    for (s, y, rho), alpha in zip(pairs, reversed(alphas), strict=True):
        q += s * (alpha - rho * np.einsum("ij,ij->i", y, q))[:, None]
    return q


def _line_search(
    fun: RowFunction,
    x: np.ndarray,
    f: np.ndarray,
    g: np.ndarray,
    direction: np.ndarray,
    length: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    active: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    new_x, new_f, new_g = x.copy(), f.copy(), g.copy()
    todo, length = active.copy(), length.copy()
    for _ in range(7):
        rows = np.flatnonzero(todo)
        if not len(rows):
            break
        trial = np.minimum(np.maximum(x[rows] + length[rows, None] * direction[rows], lower), upper)
        tf, tg = fun(trial, rows)
        ok = np.isfinite(tf) & (tf >= f[rows] + 1e-4 * np.einsum("ij,ij->i", g[rows], trial - x[rows]))
        done = rows[ok]
        new_x[done], new_f[done], new_g[done] = trial[ok], tf[ok], tg[ok]
        todo[done] = False
        length[rows] *= 0.3
    return new_x, new_f, new_g, active & ~todo
