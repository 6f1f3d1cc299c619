"""Many proposals at once for little more than the price of one."""

from __future__ import annotations

import numpy as np

from welltuned.surrogate.embedding import Embedding
from welltuned.surrogate.gp import Posterior
from welltuned.surrogate.kernels import cholesky

PATHS = 256


def spread_out(
    embed: Embedding,
    posterior: Posterior,
    best: float,
    taken: np.ndarray,
    pool: np.ndarray,
    log_factor: np.ndarray,
    n: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return positions in ``pool`` of ``n`` rows that together promise the largest improvement, best first.

    Functions are drawn from the posterior at all rows at once. One row after the other is chosen, each the one that
    improves most, on average over the functions, on ``best`` and on what the chosen ones and those under evaluation
    have in that function: the greedy maximisation of the joint expected improvement of Ginsbourger, Le Riche and
    Carraro, *Kriging is Well-Suited to Parallelize Optimization* (2010), by draws.

    Parameters
    ----------
    taken
        Rows under evaluation, shape (t, p).
    pool
        Rows to choose from, shape (q, p).
    log_factor
        Logarithms of what the improvement at each is multiplied with, such as the probability of success, shape (q,).
    """
    phi = embed(np.vstack([taken, pool]))
    mean, covariance = posterior.joint(phi)
    half = rng.standard_normal((PATHS // 2, len(phi)))
    root = cholesky(covariance[0] + 1e-8 * posterior.s2[0] * np.eye(len(phi)))
    move = half @ root.T if root is not None else half * np.sqrt(np.maximum(np.diag(covariance[0]), 0.0))
    paths = mean[0] + np.vstack([move, -move])
    reached = np.minimum(best, paths[:, : len(taken)].min(1, initial=np.inf))
    at, factor = paths[:, len(taken) :], np.exp(log_factor - log_factor.max())
    left, chosen = np.ones(len(pool), dtype=bool), list[int]()
    for _ in range(min(n, len(pool))):
        gain = np.maximum(reached[:, None] - at, 0.0).mean(0) * factor
        # where no function promises anything any more, the likeliest place is the one of the lowest mean
        score = gain if (gain * left).max() > 0 else -at.mean(0)
        score = np.where(left, score, -np.inf)
        chosen.append(int(np.argmax(score)))
        left[chosen[-1]] = False
        reached = np.minimum(reached, at[:, chosen[-1]])
    return np.array(chosen, dtype=int)
