"""Finding the best next configuration: candidates, batched projected L-BFGS on the reals, exchanges on the rest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from welltuned.space import Categorical, Space, codec
from welltuned.surrogate.acquisition import Acquisition
from welltuned.surrogate.embedding import Embedding
from welltuned.surrogate.lbfgs import climb

STARTS = 5
POOL = 1024
SCREENED = 64
ITERATIONS = (12, 6)  # of climbing, before and after discrete parameters have moved
REACH = 0.3  # 0.2 in the paper; on 27 problems 0.3 was a little better after 16 trials
FEWEST_NEAR = 50
LEAST_GAIN = 0.005  # half a per cent of expected improvement
RELAXED = 12  # whole numbers with more values than this are treated as reals and rounded


def maximise(
    space: Space,
    embed: Embedding,
    acquisition: Acquisition,
    elite: np.ndarray,
    weights: np.ndarray,
    rng: np.random.Generator,
    force: tuple[int, int] | None = None,
    seen: np.ndarray | None = None,
    stay: Sequence[int] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Return allowed rows of the cube that were looked at closely, the climbed ones among them, and their values.

    Parameters
    ----------
    elite
        The best rows so far, around which half of the candidates are drawn.
    weights
        Inverse length scales of the features, shape (D,).
    force
        A column and the choice that it must have.
    seen
        Observed rows that candidates must not be too far from while there are few; see :func:`within_reach`.
    stay
        Columns of categories in which the best row's choice is to be kept.
    """
    pool = candidates(space, elite, POOL, rng)
    if force is not None:
        pool = _with_choice(space, pool, *force)
    elif seen is not None:
        pool = within_reach(embed, pool, seen, len(space))
    for j in stay:
        if not np.isnan(elite[0, j]):
            pool = _with_choice(space, pool, j, codec.indices(list(space.values())[j], elite[:1, j])[0])
    scores = acquisition.coarse().value(pool)
    best = np.argsort(-scores, kind="stable")[:SCREENED]
    pool, scores = pool[best], acquisition.value(pool[best])
    if force is not None:
        return pool, scores
    starts = pool[diverse(embed(pool) * weights, scores, STARTS)]
    for iterations in ITERATIONS:
        starts = polish(space, embed, acquisition, starts, weights, iterations)
        starts, moved = exchange(space, acquisition, starts, rng, stay)
        if not moved:
            break
    return np.vstack([starts, pool]), np.append(acquisition.value(starts), scores)


def within_reach(embed: Embedding, pool: np.ndarray, seen: np.ndarray, p: int) -> np.ndarray:
    """Return the candidates that are near something observed; in the beginning, far from it the model is a guess.

    Near is a box around each observed row that grows with their number n, of half-width 0.3 + 0.3 n/(5(p + 1)) in all
    numbers, until it is half of the range: Song et al., *The Vizier Gaussian Process Bandit Algorithm* (2024), section
    3.4.2.
    """
    radius = REACH + 0.3 * len(seen) / (5.0 * (p + 1.0))
    if radius >= 0.5 or not len(embed.numeric):
        return pool
    k = len(embed.numeric)
    gaps = np.abs(embed(pool)[:, None, :k] - embed(seen)[None, :, :k]).max(2).min(1)
    near = gaps <= radius
    return pool[near] if near.sum() >= FEWEST_NEAR else pool


def _with_choice(space: Space, pool: np.ndarray, j: int, choice: int) -> np.ndarray:
    matching = pool[codec.indices(list(space.values())[j], pool[:, j]) == choice]
    return matching if len(matching) else pool


def diverse(points: np.ndarray, scores: np.ndarray, n: int, apart: float = 0.05) -> list[int]:
    """Return indices of up to ``n`` high scores whose points, shape (q, D), are at least √apart from each other."""
    chosen: list[int] = []
    for i in np.argsort(-scores, kind="stable")[: 20 * n]:
        if not chosen or (((points[i] - points[chosen]) ** 2).sum(1) > apart).all():
            chosen.append(int(i))
        if len(chosen) == n:
            break
    return chosen


def exchange(
    space: Space, acquisition: Acquisition, starts: np.ndarray, rng: np.random.Generator, stay: Sequence[int] = ()
) -> tuple[np.ndarray, bool]:
    """Replace each row by its best neighbour in one discrete parameter where that is better; say whether any was."""
    around = [neighbours(space, row, rng, stay) for row in starts]
    if not any(map(len, around)):
        return starts, False
    rows = np.vstack([starts, *around])
    owner = np.concatenate([np.arange(len(starts)), *(np.full(len(a), i) for i, a in enumerate(around))]).astype(int)
    scores = acquisition.value(rows)
    best = [int(np.flatnonzero(owner == i)[np.argmax(scores[owner == i])]) for i in range(len(starts))]
    return rows[best], any(b >= len(starts) for b in best)


def relaxed_columns(space: Space, numeric: np.ndarray) -> np.ndarray:
    """Return the positions in ``numeric`` of parameters that gradients can move."""
    parameters = list(space.values())
    free = [i for i, j in enumerate(numeric) if (n := codec.cells(parameters[j])) is None or n > RELAXED]
    return np.array(free, dtype=int)


def candidates(space: Space, best: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw rows of the cube: half of them uniform, half around the ``best`` rows, all activated, allowed, distinct."""
    uniform = rng.random((n, len(space)))
    rows = [uniform]
    if len(best):
        rows += [perturb(space, best[rng.integers(len(best), size=n)], rng), best]
    unit = space.activate(np.vstack(rows))
    return distinct(unit[space.feasible(unit)])


def distinct(unit: np.ndarray) -> np.ndarray:
    """Return the first of equal rows: a move of what is inactive, or within a cell, is none."""
    whole = np.ascontiguousarray(unit).view(np.dtype((np.void, unit.itemsize * unit.shape[1])))
    return unit[np.sort(np.unique(whole, return_index=True)[1])]


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


def polish(
    space: Space, embed: Embedding, acquisition: Acquisition, starts: np.ndarray, weights: np.ndarray, iterations: int
) -> np.ndarray:
    """Move the real coordinates of ``starts``, rows of the cube, uphill; one that ends where it must not be stays.

    The search runs in coordinates divided by the length scales, where the acquisition is about equally curved in all
    directions. ``weights`` are the inverse length scales of the features.
    """
    free = relaxed_columns(space, embed.numeric)
    columns = embed.numeric[free]
    moving = ~np.isnan(starts[:, columns])
    if not len(free) or not moving.any():
        return starts
    scale = np.clip(weights[free], 0.2, 20.0)

    def fun(z: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        full = starts[rows].copy()
        full[:, columns] = np.where(moving[rows], z / scale, full[:, columns])
        value, slope = acquisition.gradient(full)
        return value, np.where(moving[rows], slope[:, columns] / scale, 0.0)

    begin = np.where(moving, starts[:, columns], 0.5) * scale
    z, _ = climb(fun, begin, np.zeros_like(scale), scale, iterations=iterations, least_gain=LEAST_GAIN)
    moved = starts.copy()
    moved[:, columns] = np.where(moving, z / scale, starts[:, columns])
    moved = space.activate(moved)
    return np.where(space.feasible(moved)[:, None], moved, starts)


def neighbours(space: Space, row: np.ndarray, rng: np.random.Generator, stay: Sequence[int] = ()) -> np.ndarray:
    """Return rows that differ from ``row`` in one discrete parameter of n values: another category, or a few n-ths of
    the range up or down; where values are not evenly spaced on their scale, some of those are the same value.
    """
    out = []
    for j, parameter in enumerate(space.values()):
        cells = codec.cells(parameter)
        if np.isnan(row[j]) or cells is None or cells == 1 or j in stay:
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
