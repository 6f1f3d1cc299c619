"""Fitting a process: maximum a posteriori with exact gradients, and draws around it by Laplace's approximation.

Averaging over a few draws of the hyperparameters hedges against the one set that a handful of observations happens to
favour; De Ath, Everson and Fieldsend, *How Bayesian Should Bayesian Optimisation Be?* (GECCO 2021).
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack

from welltuned.surrogate import warp
from welltuned.surrogate.gp import QUIET, Layout, Observations, Posterior, centred, condition, slope_variances
from welltuned.surrogate.kernels import JITTER, exp, log, matern52, squared_distances
from welltuned.surrogate.lbfgs import climb

LOG_L = (np.log(0.02), np.log(60.0))
LOG_S2 = (-3.0, 3.0)
LOG_NZ = (np.log(1e-6), 0.0)
LOG_V = (-9.0, 2.0)
LOG_WARP = (-1.6, 1.6)
WARP_SD = 0.75
STIFFEST = 0.25  # draws of hyperparameters stay within two standard deviations of at most 1/√0.25 log units
FAILED = -1e10
LEAST_GAIN = 2e-2


def bounds(layout: Layout) -> np.ndarray:
    """Return lower and upper bounds of theta, shape (2, t)."""
    rows = [LOG_L] * layout.g + [LOG_S2, LOG_NZ] + [LOG_V] * layout.trend + [LOG_WARP] * (2 * layout.k)
    return np.array(rows, dtype=float).T


def default_theta(layout: Layout, noise: float = 1e-3) -> np.ndarray:
    """Return where a fit starts: length scales of half the cube's diagonal, little noise, no warping."""
    theta = np.zeros(layout.size)
    theta[: layout.g] = np.clip(np.log(0.5 * np.sqrt(max(layout.g, 1))), *LOG_L)
    theta[layout.g + 1] = np.log(noise)
    theta[layout.g + 2 : layout.bends] = np.log(0.3)
    return theta


def log_prior(thetas: np.ndarray, layout: Layout, noise_rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Return log prior densities, shape (M,), up to a constant, and their gradients, shape (M, t).

    Length scales: -0.1 l² - 0.1/l², which forbids both extremes, up to 20 groups; beyond, the log-normal of Hvarfner,
    Hellsten and Nardi (ICML 2024) that grows with the dimension. Output scale: Gamma(2, 1). Noise: Gamma(1.1, rate).
    Trend: Gamma(2, 2). Warping: log-normal around the identity.
    """
    g, d = layout.g, np.empty_like(thetas)
    log_l = thetas[:, :g]
    if g <= 20:
        l2 = exp(2.0 * log_l)
        value = -0.1 * (l2 + 1.0 / l2).sum(1)
        d[:, :g] = -0.2 * (l2 - 1.0 / l2)
    else:
        mu = np.sqrt(2.0) + 0.5 * np.log(g)
        value = -((log_l - mu) ** 2 / 6.0 + log_l).sum(1)
        d[:, :g] = -(log_l - mu) / 3.0 - 1.0
    s2, nz = exp(thetas[:, g]), exp(thetas[:, g + 1])
    value += thetas[:, g] - s2 + 0.1 * thetas[:, g + 1] - noise_rate * nz
    d[:, g], d[:, g + 1] = 1.0 - s2, 0.1 - noise_rate * nz
    if layout.trend:
        v = exp(thetas[:, g + 2])
        value += thetas[:, g + 2] - 2.0 * v
        d[:, g + 2] = 1.0 - 2.0 * v
    bend = thetas[:, layout.bends :]
    value -= 0.5 * (bend * bend).sum(1) / WARP_SD**2
    d[:, layout.bends :] = -bend / WARP_SD**2
    return value, d


def log_posterior(thetas: np.ndarray, data: Observations, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Return log posterior densities of stacked thetas, shape (M, t), up to a constant, and their gradients.

    The likelihood is eq. 5.8 of the book, its gradient eq. 5.9, by W = K⁻¹ - αα'. The mean is profiled out: at its
    optimum its derivative vanishes, so it adds nothing to the gradient.
    """
    g, n = layout.g, len(data.y)
    s2, nz = exp(thetas[:, g]), exp(thetas[:, g + 1])
    w = exp(-thetas[:, None, :g])[:, :, data.group]
    features, d_a, d_b = _warped(data.phi, thetas, layout)
    Z = features * w
    r2 = squared_distances(Z, Z)
    diagonal = np.arange(n)
    r2[:, diagonal, diagonal] = 0.0
    k, dk = matern52(r2)
    K = s2[:, None, None] * k
    if layout.trend:
        U, slopes = centred(features, data), slope_variances(thetas, layout)
        linear = slopes * (U @ np.swapaxes(U, 1, 2))
        K += linear
    K[:, diagonal, diagonal] += nz[:, None] + data.known + JITTER
    Ki, half_log_det, ok = _inverses(K)

    one = Ki.sum(2)
    mean = (one @ data.y) / one.sum(1)
    residual = data.y - mean[:, None]
    alpha = (Ki @ residual[:, :, None])[:, :, 0]
    prior, d = log_prior(thetas, layout, data.noise_rate)
    value = prior - 0.5 * (residual * alpha).sum(1) - half_log_det

    W = Ki
    W -= alpha[:, :, None] * alpha[:, None, :]
    d[:, g + 1] -= 0.5 * nz * W[:, diagonal, diagonal].sum(1)
    d[:, g] -= 0.5 * s2 * np.einsum("mij,mij->m", W, k)
    along = 0.0
    if layout.trend:
        d[:, g + 2] -= 0.5 * np.einsum("mij,mij->m", W, linear)
        along = slopes * (W @ U)
    W *= dk
    Gz = W.sum(2)[:, :, None] * Z - W @ Z
    Gz *= (2.0 * s2)[:, None, None]
    d[:, :g] += np.einsum("mij,mij->mj", Gz, Z) @ _indicator(data.group, g)
    if layout.k:
        by_feature = (Gz * w + along)[:, :, : layout.k]
        d[:, layout.bends : layout.bends + layout.k] -= (by_feature * d_a).sum(1)
        d[:, layout.bends + layout.k :] -= (by_feature * d_b).sum(1)
    bad = ~ok | ~np.isfinite(value)
    value[bad], d[bad] = FAILED, 0.0
    return value, d


def _warped(phi: np.ndarray, thetas: np.ndarray, layout: Layout) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if not layout.k:
        return phi[None], phi, phi
    out = np.repeat(phi[None], len(thetas), axis=0)
    v, d_a, d_b = warp.with_derivatives(phi[None, :, : layout.k], *layout.warps(thetas))
    out[:, :, : layout.k] = v
    return out, d_a, d_b


def _inverses(K: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return K⁻¹, shape (M, n, n), ½ log|K|, shape (M,), and which of them exist. ``K`` is overwritten."""
    half_log_det, ok = np.zeros(len(K)), np.ones(len(K), dtype=bool)
    diagonal = np.arange(K.shape[1])
    for m, matrix in enumerate(K):
        # a symmetric matrix in C order is its own transpose in Fortran order: no copy is made
        L, info = lapack.dpotrf(matrix.T, lower=1, clean=1, overwrite_a=1)
        if info != 0:
            matrix[:], ok[m] = np.eye(len(matrix)), False
            continue
        half_log_det[m] = log(L[diagonal, diagonal]).sum()
        half = lapack.dpotri(L, lower=1, overwrite_c=1)[0]
        half[diagonal, diagonal] *= 0.5
        np.add(half, half.T, out=K[m])
    return K, half_log_det, ok


def _indicator(group: np.ndarray, g: int) -> np.ndarray:
    return (group[:, None] == np.arange(g)).astype(float)


def maximum(data: Observations, layout: Layout, starts: np.ndarray, iterations: int = 30) -> np.ndarray:
    """Return the most probable theta, shape (t,): the best of the climbs from ``starts``, shape (s, t)."""
    low, high = bounds(layout)
    thetas, values = climb(
        lambda x, _: log_posterior(x, data, layout),
        np.clip(starts, low, high),
        low,
        high,
        iterations=iterations,
        first_step=0.5,
        least_gain=LEAST_GAIN,
        flat=1e-2,
    )
    return thetas[int(np.argmax(values))]


def draws(theta: np.ndarray, data: Observations, layout: Layout, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``n`` draws around the most probable theta, shape (n, t), by Laplace's approximation.

    The curvature comes from forward differences of the exact gradient, all of them in one stack.
    """
    t, step = layout.size, 1e-4
    points = np.vstack([theta, theta + step * np.eye(t)])
    slopes = log_posterior(points, data, layout)[1]
    H = (slopes[0] - slopes[1:]) / step
    values, vectors = np.linalg.eigh(0.5 * (H + H.T))
    sd = 1.0 / np.sqrt(np.maximum(values, STIFFEST))
    found = theta + (rng.standard_normal((n, t)) * sd) @ vectors.T
    return np.clip(found, *bounds(layout))


def thetas(
    data: Observations, layout: Layout, members: int = 1, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Return the most probable theta, followed by ``members - 1`` draws around it, which need ``rng``; (members, t)."""
    starts = [default_theta(layout)]
    if data.noise_rate < QUIET:  # that all is noise and that none is are two hills; climb both
        starts.append(default_theta(layout, noise=0.3))
    best = maximum(data, layout, np.array(starts))
    if members == 1 or rng is None:
        return best[None]
    return np.vstack([best, draws(best, data, layout, members - 1, rng)])


def fit(data: Observations) -> Posterior:
    """Fit one process, without warping of its inputs."""
    return condition(thetas(data, Layout(data.n_groups, 0)), data)
