"""Finding the best next configuration: candidates, batched projected L-BFGS on the reals, exchanges on the rest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from welltuned.space import Categorical, Space, codec
from welltuned.surrogate.acquisition import Acquisition
from welltuned.surrogate.embedding import Embedding

RowFunction = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

RELAXED = 12  # whole numbers with more values than this are treated as reals and rounded


def relaxed_columns(space: Space, numeric: np.ndarray) -> np.ndarray:
    """Return the positions in ``numeric`` of parameters that gradients can move."""
    parameters = list(space.values())
    free = [i for i, j in enumerate(numeric) if (n := codec.cells(parameters[j])) is None or n > RELAXED]
    return np.array(free, dtype=int)


def candidates(space: Space, best: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw rows of the cube: half of them uniform, half around the ``best`` rows, all activated and allowed."""
    uniform = rng.random((n, len(space)))
    rows = [uniform]
    if len(best):
        rows += [perturb(space, best[rng.integers(len(best), size=n)], rng), best]
    unit = space.activate(np.vstack(rows))
    return unit[space.feasible(unit)]


def perturb(space: Space, unit: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Move a random subset of the coordinates of each row: numbers by a Gaussian of random width, categories
    by a draw.
    """
    n, p = unit.shape
    filled = np.where(np.isnan(unit), rng.random(unit.shape), unit)
    rate = np.maximum(rng.random((n, 1)), min(1.5 / p, 1.0))
    chosen = rng.random((n, p)) < rate
    chosen[np.arange(n), rng.integers(p, size=n)] = True
    width = 10.0 ** rng.uniform(-2.5, -0.3, (n, 1))
    steps = width * rng.standard_normal((n, p))
    for j, parameter in enumerate(space.values()):
        cells = codec.cells(parameter)
        if isinstance(parameter, Categorical):
            steps[:, j] = np.where(rng.random(n) < 0.3, rng.random(n) - filled[:, j], 0.0)
        elif cells is not None:  # at least one cell, or nothing would change
            steps[:, j] = np.sign(steps[:, j]) * np.maximum(np.abs(steps[:, j]), 1.0 / cells)
    moved = np.where(chosen, filled + steps, filled)
    return np.clip(np.where(moved < 0, -moved, np.where(moved > 1, 2 - moved, moved)), 0.0, 1.0)


def climb(fun: RowFunction, x: np.ndarray, upper: np.ndarray, iterations: int = 25, memory: int = 5) -> np.ndarray:
    """Maximise from each row of ``x``, shape (q, d), within [0, upper] by projected L-BFGS, all rows at once.

    ``fun(x, rows)`` returns values and gradients for some of the rows, whose positions it is told.

    Nocedal and Wright, *Numerical Optimization* (2006), algorithm 7.4 for the two loops, with coordinates that stand
    at a bound and want out taken from the step, and backtracking by Armijo's rule. Rows finish independently.
    """
    f, g = fun(x, np.arange(len(x)))
    pairs: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    active = np.ones(len(x), dtype=bool)
    for _ in range(iterations):
        free = ~(((x <= 0) & (g < 0)) | ((x >= upper) & (g > 0)))
        gf = np.where(free, g, 0.0)
        active &= np.abs(gf).max(1, initial=0.0) > 1e-4
        if not active.any():
            break
        direction = np.where(free, _two_loops(gf, pairs), 0.0)
        uphill = (direction * gf).sum(1) > 0
        direction = np.where(uphill[:, None], direction, gf)
        new_x, new_f, new_g, moved = _line_search(fun, x, f, g, direction, upper, active, not pairs)
        s, y = new_x - x, g - new_g
        sy = (s * y).sum(1)
        pairs = [*pairs, (s, y, np.where(sy > 1e-10, 1.0 / np.maximum(sy, 1e-10), 0.0))][-memory:]
        gain = new_f - f
        x, f, g = new_x, new_f, new_g
        active &= moved & (gain > 1e-5)
    return x


def _two_loops(g: np.ndarray, pairs: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> np.ndarray:
    q, alphas = g.copy(), []
    for s, y, rho in reversed(pairs):
        alpha = rho * (s * q).sum(1)
        q -= alpha[:, None] * y
        alphas.append(alpha)
    if pairs:
        s, y, rho = pairs[-1]
        yy = (y * y).sum(1)
        q *= np.where(rho > 0, (s * y).sum(1) / np.maximum(yy, 1e-300), 1.0)[:, None]
    for (s, y, rho), alpha in zip(pairs, reversed(alphas), strict=True):
        q += s * (alpha - rho * (y * q).sum(1))[:, None]
    return q


def _line_search(
    fun: RowFunction,
    x: np.ndarray,
    f: np.ndarray,
    g: np.ndarray,
    direction: np.ndarray,
    upper: np.ndarray,
    active: np.ndarray,
    first: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    length = np.ones(len(x))
    if first:  # no curvature yet: move a tenth of the box at most
        length = 0.1 / np.maximum(np.abs(direction).max(1, initial=0.0), 0.1)
    new_x, new_f, new_g = x.copy(), f.copy(), g.copy()
    todo = active.copy()
    for _ in range(7):
        rows = np.flatnonzero(todo)
        if not len(rows):
            break
        trial = np.clip(x[rows] + length[rows, None] * direction[rows], 0.0, upper)
        tf, tg = fun(trial, rows)
        ok = np.isfinite(tf) & (tf >= f[rows] + 1e-4 * (g[rows] * (trial - x[rows])).sum(1))
        done = rows[ok]
        new_x[done], new_f[done], new_g[done] = trial[ok], tf[ok], tg[ok]
        todo[done] = False
        length[rows] *= 0.3
    return new_x, new_f, new_g, active & ~todo


def polish(
    space: Space, embed: Embedding, acquisition: Acquisition, starts: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Move the real coordinates of ``starts``, rows of the cube, uphill; return activated rows, the allowed ones only.

    The search runs in coordinates divided by the length scales, where the acquisition is about equally curved in all
    directions. ``weights`` are the inverse length scales of the features.
    """
    free = relaxed_columns(space, embed.numeric)
    columns = embed.numeric[free]
    moving = ~np.isnan(starts[:, columns])
    if not len(free) or not moving.any():
        return starts
    scale = np.clip(weights[free], 0.2, 20.0)
    phi = embed(starts)

    def fun(z: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        full = phi[rows].copy()
        full[:, free] = np.where(moving[rows], z / scale, full[:, free])
        value, slope = acquisition.gradient(full)
        return value, np.where(moving[rows], slope[:, free] / scale, 0.0)

    z = climb(fun, phi[:, free] * scale, scale)
    moved = starts.copy()
    moved[:, columns] = np.where(moving, z / scale, starts[:, columns])
    moved = space.activate(moved)
    return moved[space.feasible(moved)]


def neighbours(space: Space, row: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return all rows that differ from ``row`` in one discrete parameter: another category, or a few cells up
    or down.
    """
    out = []
    for j, parameter in enumerate(space.values()):
        cells = codec.cells(parameter)
        if np.isnan(row[j]) or cells is None or cells == 1:
            continue
        here = row[j] * cells
        if isinstance(parameter, Categorical):
            targets = (np.arange(cells) + 0.5) / cells
        else:
            jumps = np.array([1, 2, max(cells // 8, 3)])
            targets = (here + np.concatenate([-jumps, jumps])) / cells
        for u in targets[(targets > 0) & (targets < 1)]:
            other = np.where(np.isnan(row), rng.random(len(row)), row)
            other[j] = u
            out.append(other)
    if not out:
        return np.empty((0, len(row)))
    unit = space.activate(np.array(out))
    return unit[space.feasible(unit)]
