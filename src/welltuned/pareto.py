"""Several objectives: which points no other point beats, and how much of the space they cover."""

from __future__ import annotations

import numpy as np

from welltuned.trial import LARGEST


def non_dominated(losses: np.ndarray) -> np.ndarray:
    """Tell which rows of ``losses``, shape (n, m), all minimised, are dominated by no other row; shape (n,).

    Of equal rows the first one counts. Rows are taken in the order of their first loss, among equal ones of the next,
    so that whatever dominates a row comes before it, and what is dominated is dropped at once (Kung, Luccio and
    Preparata 1975, in the plain form).

    Examples
    --------
    >>> non_dominated(np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]))
    array([ True,  True, False])
    """
    keep = np.zeros(len(losses), dtype=bool)
    left = np.lexsort((np.arange(len(losses)), *losses.T[::-1]))
    while len(left):
        first = left[0]
        keep[first] = True
        left = left[(losses[left] < losses[first]).any(axis=1)]
    return keep


def fronts(losses: np.ndarray, size: int) -> list[np.ndarray]:
    """Return indices of the successive non-dominated fronts, until they hold ``size`` rows."""
    found: list[np.ndarray] = []
    left = np.arange(len(losses))
    while len(left) and sum(len(f) for f in found) < size:
        first = non_dominated(losses[left])
        found.append(left[first])
        left = left[~first]
    return found


def crowding(losses: np.ndarray) -> np.ndarray:
    """Return the crowding distances of a front, shape (n,); infinite at its ends (Deb et al. 2002, III B)."""
    n, m = losses.shape
    distance = np.zeros(n)
    for j in range(m):
        order = np.argsort(losses[:, j], kind="stable")
        ranked = losses[order, j]
        extent = ranked[-1] - ranked[0] or 1.0
        distance[order[[0, -1]]] = np.inf
        distance[order[1:-1]] += (ranked[2:] - ranked[:-2]) / extent
    return distance


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


def penalised(y: np.ndarray, violations: np.ndarray) -> np.ndarray:
    """Return values of which those that violate constraints, shape (n, c), come after all others, by how much they do.

    Each constraint is measured in units of its typical violation. Deb, *An Efficient Constraint Handling Method for
    Genetic Algorithms* (2000), eq. 3.
    """
    if not violations.size:
        return y
    over = np.maximum(np.nan_to_num(violations), 0.0)
    if not over.any():
        return y
    scales = np.array([np.median(v[v > 0]) if (v > 0).any() else 1.0 for v in over.T])
    with np.errstate(over="ignore"):  # of sizes as far apart as numbers are
        total = (over / scales).sum(1)
    allowed = y[total == 0]
    extent = float(np.ptp(y)) or 1.0
    worst = float(allowed.max()) if len(allowed) else 0.0
    with np.errstate(over="ignore"):
        beyond = np.minimum(extent * total, LARGEST)
    return np.where(total > 0, worst + beyond, y)


def front_reference(front: np.ndarray, points: np.ndarray, wide: bool = False) -> np.ndarray:
    """Return a point that every point of the front dominates: its worst values, and a tenth of all ranges beyond.

    The ranges are those of all ``points``. Those of the front alone would shut a search in: where its points lie close
    together, all that trades one objective for another would be beyond. ``wide`` means the worst values of all
    points, where these are further out.
    """
    extent = np.ptp(points, axis=0)
    narrow = front.max(0) + 0.1 * np.where(extent > 0, extent, 1.0)
    return np.maximum(narrow, points.max(0)) if wide else narrow
