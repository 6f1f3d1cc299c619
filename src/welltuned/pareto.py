"""Several objectives: which points no other point beats, and how much of the space they cover."""

from __future__ import annotations

import numpy as np


def non_dominated(losses: np.ndarray) -> np.ndarray:
    """Tell which rows of ``losses``, shape (n, m), all minimised, are dominated by no other row; shape (n,).

    Of equal rows the first one counts.

    Examples
    --------
    >>> non_dominated(np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]))
    array([ True,  True, False])
    """
    n = len(losses)
    keep = np.ones(n, dtype=bool)
    for i in range(n):
        better = (losses <= losses[i]).all(axis=1) & (losses < losses[i]).any(axis=1)
        equal_before = (losses[:i] == losses[i]).all(axis=1).any()
        keep[i] = not better.any() and not equal_before
    return keep


def hypervolume(losses: np.ndarray, reference: np.ndarray) -> float:
    """Return the volume dominated by ``losses``, shape (n, m), below ``reference``, shape (m,). All are minimised.

    Slices the first objective and recurses (Fonseca, Paquete, López-Ibáñez 2006, without their pruning): exact, and
    fast enough for fronts of a few hundred points in two or three objectives.

    Examples
    --------
    >>> hypervolume(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([2.0, 2.0]))
    3.0
    """
    points = losses[(losses < reference).all(axis=1)]
    if not len(points):
        return 0.0
    if points.shape[1] == 1:
        return float(reference[0] - points.min())
    points = points[np.argsort(points[:, 0], kind="stable")]
    edges = np.append(points[1:, 0], reference[0])
    return float(
        sum(
            (edge - points[i, 0]) * hypervolume(points[: i + 1, 1:], reference[1:])
            for i, edge in enumerate(edges)
            if edge > points[i, 0]
        )
    )


def scalarise(losses: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return one value per row: the only loss, or a randomly weighted augmented Chebyshev distance (ParEGO, eq. 2)."""
    if losses.shape[1] == 1:
        return losses[:, 0]
    low, high = losses.min(0), losses.max(0)
    weighted = rng.dirichlet(np.ones(losses.shape[1])) * (losses - low) / np.where(high > low, high - low, 1.0)
    return weighted.max(1) + 0.05 * weighted.sum(1)


def front_reference(front: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return a point that every point of the front dominates: its worst values and a tenth of its ranges beyond.

    Where the front has no extent in an objective, that of all ``points`` counts.
    """
    extent = np.ptp(front, axis=0)
    extent = np.where(extent > 0, extent, np.where(np.ptp(points, axis=0) > 0, np.ptp(points, axis=0), 1.0))
    return front.max(0) + 0.1 * extent
