"""Searches of functions drawn from processes: what further trials would find if the processes were right.

A path is a function of the posterior that is found out as it is searched: at each step the place with the largest
expected improvement is evaluated, what it shows is a draw from the process there, and the process is conditioned on it.
González, Osborne and Lawrence, *GLASSES: Relieving the Myopia of Bayesian Optimisation* (AISTATS 2016), look ahead
along such paths. Conditioning is one column of a Cholesky factor a step: with V = K L⁻ᵀ of the places and those that
were visited, μ ← μ + v ζ and σ² ← σ² - v², for the new column v and a normal ζ.
"""

from __future__ import annotations

import numpy as np

from welltuned.surrogate.acquisition import expected_improvement
from welltuned.surrogate.gp import Posterior
from welltuned.surrogate.kernels import JITTER


def gains(
    posterior: Posterior,
    phi: np.ndarray,
    known: np.ndarray,
    allowed: np.ndarray,
    horizon: int,
    paths: int,
    rng: np.random.Generator,
    again: bool = False,
) -> np.ndarray:
    """Return what some further evaluations gain in ``paths`` searches a process, after each of them.

    The incumbent is the place with the lowest mean among those that were evaluated and satisfied the constraints. What
    is gained is by how much it is better than today's, by all that is known then; so noise that makes today's look
    better or worse than it is gains nothing.

    Parameters
    ----------
    posterior
        M processes.
    phi
        Features of the places, shape (q, D).
    known
        Which of them have been evaluated and satisfied the constraints, shape (q,): at least one.
    allowed
        With what probability each of the others satisfies them, shape (q,).
    again
        May what was evaluated be evaluated again?

    Returns
    -------
    numpy.ndarray
        Shape (M paths, horizon), not below 0; where places run out, nothing changes any more.
    """
    mean, covariance = posterior.joint(phi)
    each = [
        _searched(mean[m], covariance[m], float(posterior.noise[m]), known, allowed, horizon, paths, rng, again)
        for m in range(len(posterior))
    ]
    return np.vstack(each)


def _searched(
    mean: np.ndarray,
    K: np.ndarray,
    noise: float,
    known: np.ndarray,
    allowed: np.ndarray,
    horizon: int,
    paths: int,
    rng: np.random.Generator,
    again: bool,
) -> np.ndarray:
    """Return the gains of the paths of one process, whose mean and covariance at the places are given."""
    path = np.arange(paths)
    mu, variance = np.repeat(mean[None], paths, axis=0), np.repeat(np.diag(K)[None], paths, axis=0)
    good = np.repeat(known[None], paths, axis=0)
    chance = np.where(good, 1.0, allowed)  # of satisfying the constraints, as far as each path knows
    free = np.ones_like(good) if again else ~good
    V, found = np.empty((paths, len(mean), horizon)), np.zeros((paths, horizon))
    today = int(np.where(known, mean, np.inf).argmin())
    best = mu[:, today]
    for t in range(horizon):
        if not free.any():
            found[:, t:] = found[:, t - 1 : t] if t else 0.0
            break
        improvement = chance * expected_improvement(mu, np.sqrt(np.maximum(variance, JITTER)), best[:, None])
        at = np.where(free, improvement, -1.0).argmax(1)
        v = K[at] - (V[:, :, :t] @ V[path, at, :t, None])[:, :, 0]
        v /= np.sqrt(np.maximum(variance[path, at], JITTER) + noise)[:, None]
        V[:, :, t] = v
        mu += v * rng.standard_normal((paths, 1))
        variance -= v * v
        good[path, at] = rng.random(paths) < chance[path, at]
        chance[path, at] = good[path, at]
        free[path, at] = again
        best = np.where(good, mu, np.inf).min(1)
        found[:, t] = mu[:, today] - best
    return found
