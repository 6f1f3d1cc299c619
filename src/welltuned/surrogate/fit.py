"""Fitting a process: maximum a posteriori with exact gradients, and draws around it by Laplace's approximation.

Averaging over a few draws of the hyperparameters hedges against the one set that a handful of observations happens to
favour; De Ath, Everson and Fieldsend, *How Bayesian Should Bayesian Optimisation Be?* (GECCO 2021).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from welltuned.later import lapack, special
from welltuned.surrogate import warp
from welltuned.surrogate.gp import QUIET, Layout, NoisePrior, Observations, Posterior, Prior, along, condition, trend
from welltuned.surrogate.kernels import JITTER, exp, log, matern, squared_distances
from welltuned.surrogate.lbfgs import climb

LOG_L = (np.log(0.02), np.log(60.0))
LOG_S2 = (-3.0, 3.0)
LOG_NZ = (np.log(1e-6), 0.0)
LOG_V = (-9.0, 2.0)
LOG_WARP = (-1.6, 1.6)
FLATNESS = 6.0  # rate of the prior of a trend's variance
TREND_ODDS = 2.0  # how much likelier than none a trend is before anything is known
STIFFEST = 0.25  # the least curvature that is believed: no draw's standard deviation is above 1/√0.25 log units
SMOOTH_ODDS = 2.0  # by how much the logarithm of the evidence has to be for the smooth kernel
FAILED = -1e10
LEAST_GAIN = 2e-2
LOG_2PI = np.log(2.0 * np.pi)


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


def log_prior(thetas: np.ndarray, layout: Layout, noise: NoisePrior) -> tuple[np.ndarray, np.ndarray]:
    """Return log prior densities, shape (M,), up to a constant, and their gradients, shape (M, t).

    Length scales: -0.1 l² - 0.1/l², which forbids both extremes, up to 20 groups; beyond, the log-normal of Hvarfner,
    Hellsten and Nardi (ICML 2024) that grows with the dimension. Output scale: Gamma(2, 1). Noise: Gamma.
    Trend: v is exponential of mean 1/6. Warping: log-normal around the identity.
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
    value += thetas[:, g] - s2 + noise.power * thetas[:, g + 1] - noise.rate * nz
    d[:, g], d[:, g + 1] = 1.0 - s2, noise.power - noise.rate * nz
    if layout.trend:
        v = exp(thetas[:, g + 2])
        # normalised, unlike the others: what they lack of a density cancels where trends are compared with none
        value += np.log(TREND_ODDS * FLATNESS) + thetas[:, g + 2] - FLATNESS * v
        d[:, g + 2] = 1.0 - FLATNESS * v
    bend = thetas[:, layout.bends :]
    value -= 0.5 * (bend * bend).sum(1) / layout.bend**2
    d[:, layout.bends :] = -bend / layout.bend**2
    return value, d


def log_posterior(thetas: np.ndarray, data: Observations, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Return log posterior densities of stacked thetas, shape (M, t), up to a constant, and their gradients.

    The likelihood is eq. 5.8 of the book, its gradient eq. 5.9, by W = K⁻¹ - αα'. The mean is profiled out: at its
    optimum its derivative vanishes, so it adds nothing to the gradient.
    """
    g, n = layout.g, len(data.y)
    p = Prior(thetas, data)
    s2, nz, w = p.s2, p.noise, p.w
    features, d_a, d_b = _warped(data.phi, p)
    Z = features * w
    r2 = squared_distances(Z, Z)
    diagonal = np.arange(n)
    r2[:, diagonal, diagonal] = 0.0
    k, dk = matern(r2, data.smooth)
    K = s2[:, None, None] * k
    if layout.trend:
        U = p.steepness * trend(features, data)
        linear = U @ np.swapaxes(U, 1, 2)
        K += linear
    K[:, diagonal, diagonal] += nz[:, None] + data.known + JITTER
    Ki, half_log_det, ok = _inverses(K)

    one = Ki.sum(2)
    mean = (one @ data.y) / one.sum(1)
    residual = data.y - mean[:, None]
    alpha = (Ki @ residual[:, :, None])[:, :, 0]
    prior, d = log_prior(thetas, layout, data.noise_prior)
    value = prior - 0.5 * (residual * alpha).sum(1) - half_log_det

    W = Ki
    W -= alpha[:, :, None] * alpha[:, None, :]
    d[:, g + 1] -= 0.5 * nz * W[:, diagonal, diagonal].sum(1)
    d[:, g] -= 0.5 * s2 * np.einsum("mij,mij->m", W, k)
    by_trend: np.ndarray | float = 0.0
    if layout.trend:
        d[:, g + 2] -= 0.5 * np.einsum("mij,mij->m", W, linear)
        by_trend = along(W @ U, U, p.steepness, data)
    W *= dk
    Gz = W.sum(2)[:, :, None] * Z - W @ Z
    Gz *= (2.0 * s2)[:, None, None]
    d[:, :g] += np.einsum("mij,mij->mj", Gz, Z) @ _indicator(data.group, g)
    if layout.k:
        by_feature = (Gz * w + by_trend)[:, :, : layout.k]
        d[:, layout.bends : layout.bends + layout.k] -= (by_feature * d_a).sum(1)
        d[:, layout.bends + layout.k :] -= (by_feature * d_b).sum(1)
    bad = ~ok | ~np.isfinite(value)
    value[bad], d[bad] = FAILED, 0.0
    return value, d


def _warped(phi: np.ndarray, p: Prior) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    k = p.layout.k
    if not k:
        return phi[None], phi, phi
    out = np.repeat(phi[None], len(p), axis=0)
    out[:, :, :k], d_a, d_b = warp.with_derivatives(phi[None, :, :k], *p.warps)
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


@dataclass(frozen=True)
class Peak:
    """The most probable theta and Laplace's approximation around it: deviations along axes.

    Attributes
    ----------
    theta, log_density
        Where it is, shape (t,), and the log posterior density there, up to a constant.
    sd, axes
        Standard deviations, shape (t,), along the columns of a rotation, shape (t, t).
    """

    theta: np.ndarray
    log_density: float
    sd: np.ndarray
    axes: np.ndarray

    @classmethod
    def at(cls, theta: np.ndarray, data: Observations, layout: Layout) -> Peak:
        """Measure the curvature by forward differences of the exact gradient, all of them in one stack."""
        t, step = layout.size, 1e-4
        values, slopes = log_posterior(np.vstack([theta, theta + step * np.eye(t)]), data, layout)
        H = (slopes[0] - slopes[1:]) / step
        curvatures, axes = principal(0.5 * (H + H.T))
        return cls(theta, float(values[0]), 1.0 / np.sqrt(np.maximum(curvatures, STIFFEST)), axes)

    @property
    def log_evidence(self) -> float:
        """Logarithm of the probability of the observations, up to a constant that all layouts share."""
        return self.log_density + float(log(self.sd).sum()) + 0.5 * len(self.theta) * LOG_2PI

    def members(self, n: int, layout: Layout, rng: np.random.Generator | None) -> np.ndarray:
        """Return the most probable theta and n - 1 draws around it, shape (n, t); none for n = 0."""
        if n <= 1 or rng is None:
            return self.theta[None][:n]
        steps = (rng.standard_normal((n - 1, len(self.theta))) * self.sd) @ self.axes.T
        return np.vstack([self.theta, np.clip(self.theta + steps, *bounds(layout))])


def principal(H: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues, shape (t,), and the rotation to the eigenvectors, shape (t, t), of a symmetric matrix.

    Not as ``np.linalg.eigh``, whose divide and conquer has found none of a matrix with many equal ones, as constant
    features bring them.
    """
    values, axes, _ = lapack.dsyev(np.where(np.isfinite(H), H, 0.0))
    return values, axes


def fitted(
    data: Observations, layout: Layout, members: int = 1, rng: np.random.Generator | None = None
) -> tuple[np.ndarray, bool]:
    """Return hyperparameters as :func:`thetas` does, shape (members, t), and whether the kernel is the smooth one.

    It is where the data say so. Else the evidence has to be for it: of a dozen results a process with the smooth kernel
    makes too much, is sure of what lies far from them, and leads there.
    """
    if data.smooth:
        return thetas(data, layout, members, rng), True
    best = most_probable(data, layout)
    # from one peak the climb to the other takes a third of the time
    smooth = replace(data, smooth=True)
    other = maximum(smooth, layout, best[None])
    odds = log_posterior(other[None], smooth, layout)[0][0] - log_posterior(best[None], data, layout)[0][0]
    if odds > SMOOTH_ODDS:
        return thetas(smooth, layout, members, rng, other), True
    return thetas(data, layout, members, rng, best), False


def thetas(
    data: Observations,
    layout: Layout,
    members: int = 1,
    rng: np.random.Generator | None = None,
    best: np.ndarray | None = None,
) -> np.ndarray:
    """Return the most probable theta, followed by ``members - 1`` draws around it, which need ``rng``; (members, t).

    With a trend in the layout, processes with and without it share the places in proportion to the evidence for
    either, the likelier kind first; where none has one, it is missing from their theta too.
    """
    best = most_probable(data, layout) if best is None else best
    if members == 1 and not layout.trend:
        return best[None]
    peak = Peak.at(best, data, layout)
    if not layout.trend:
        return peak.members(members, layout, rng)
    # from the peak with a trend the climb to the one without takes a third of the time, and it is seldom another one
    nearby = maximum(data, layout.flat, layout.flattened(best[None]))
    plain = Peak.at(nearby, data, layout.flat)
    n = round(members * float(special.expit(peak.log_evidence - plain.log_evidence)))
    others = plain.members(members - n, layout.flat, rng)
    if n == 0:
        return others
    both = [peak.members(n, layout, rng), layout.tilted(others)]
    return np.vstack(both if 2 * n >= members else both[::-1])


def most_probable(data: Observations, layout: Layout) -> np.ndarray:
    """Return the most probable theta, shape (t,)."""
    starts = [default_theta(layout)]
    if data.noise_prior != QUIET:  # that all is noise and that none is are two hills; climb both
        starts.append(default_theta(layout, noise=0.3))
    return maximum(data, layout, np.array(starts))


def fit(data: Observations) -> Posterior:
    """Fit one process, without warping of its inputs."""
    return condition(thetas(data, Layout(data.n_groups, 0)), data)
