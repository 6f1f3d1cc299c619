"""A Gaussian process with a Matérn 5/2 kernel, its hyperparameters fitted by maximum a posteriori with exact gradients.

Rasmussen and Williams, *Gaussian Processes for Machine Learning* (2006), chapters 2 and 5, with one length scale per
group of features. Everything is a product of n × n and n × D matrices; no n × n × D array is ever formed.

Symbols: Φ features (n, D); l length scales, w = 1/l; Z = Φ w[group]; s2 output scale; nz noise variance; y standardised
observations; m the constant mean; q = √(5 r²).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import lapack
from scipy.optimize import minimize

LOG_L = (np.log(0.02), np.log(60.0))
LOG_S2 = (-3.0, 3.0)
LOG_NZ = (np.log(1e-6), 0.0)
JITTER = 1e-10


def squared_distances(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return |a - b|² for all rows, shape (len(A), len(B))."""
    r2 = (A * A).sum(1)[:, None] + (B * B).sum(1)[None] - 2.0 * A @ B.T
    return np.maximum(r2, 0.0, out=r2)


def matern52(r2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return k(r²) = (1 + q + q²/3) e^-q and dk/dr² = -(5/6)(1 + q) e^-q, which is finite at 0."""
    q = np.sqrt(5.0 * r2)
    e = np.exp(-q)
    slope = (1.0 + q) * e
    return slope + (5.0 / 3.0) * r2 * e, (-5.0 / 6.0) * slope


def cholesky(K: np.ndarray) -> np.ndarray | None:
    """Return the lower Cholesky factor, with more jitter on the diagonal if it takes it; None when nothing helps."""
    if not np.isfinite(K).all():
        return None
    for jitter in (0.0, 1e-8, 1e-6, 1e-4, 1e-2):
        L, info = lapack.dpotrf(K if jitter == 0 else K + jitter * np.eye(len(K)), lower=1, clean=1)
        if info == 0:
            return np.asarray(L)
    return None


@dataclass(frozen=True)
class Posterior:
    """A fitted process: predictions at features ``phi`` of shape (q, D), on the scale of the ``y`` it was fitted to."""

    theta: np.ndarray
    group: np.ndarray
    phi: np.ndarray
    y: np.ndarray
    L: np.ndarray
    mean: float

    @property
    def s2(self) -> float:
        """Output scale."""
        return float(np.exp(self.theta[-2]))

    @property
    def noise(self) -> float:
        """Variance of the noise of one observation."""
        return float(np.exp(self.theta[-1]))

    @cached_property
    def w(self) -> np.ndarray:
        """Inverse length scale of each feature, shape (D,)."""
        return np.exp(-self.theta[:-2])[self.group]

    @cached_property
    def Z(self) -> np.ndarray:
        """Scaled features of the observations, shape (n, D)."""
        return self.phi * self.w

    @cached_property
    def Li(self) -> np.ndarray:
        """Inverse of the Cholesky factor, shape (n, n)."""
        return np.asarray(lapack.dtrtri(self.L, lower=1)[0])

    @cached_property
    def alpha(self) -> np.ndarray:
        """K⁻¹(y - m), shape (n,)."""
        return self.Li.T @ (self.Li @ (self.y - self.mean))

    def covariance(self, phi: np.ndarray) -> np.ndarray:
        """Return k(phi, observations), shape (q, n)."""
        return self.s2 * matern52(squared_distances(phi * self.w, self.Z))[0]

    def predict(self, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance (noise excluded) at ``phi``, shapes (q,)."""
        k = self.covariance(phi)
        V = k @ self.Li.T
        return self.mean + k @ self.alpha, np.maximum(self.s2 - (V * V).sum(1), 1e-12 * self.s2)

    def gradients(self, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return mean, variance, shapes (q,), and their derivatives by ``phi``, shapes (q, D)."""
        Zq = phi * self.w
        k, dk = (self.s2 * part for part in matern52(squared_distances(Zq, self.Z)))
        V = k @ self.Li.T
        A = 2.0 * dk * self.alpha
        B = 2.0 * dk * (V @ self.Li)
        d_mean = (A.sum(1)[:, None] * Zq - A @ self.Z) * self.w
        d_variance = -2.0 * (B.sum(1)[:, None] * Zq - B @ self.Z) * self.w
        variance = np.maximum(self.s2 - (V * V).sum(1), 1e-12 * self.s2)
        return self.mean + k @ self.alpha, variance, d_mean, d_variance

    def joint(self, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean, shape (q,), and covariance, shape (q, q), of the function at ``phi``."""
        V = self.covariance(phi) @ self.Li.T
        prior = self.s2 * matern52(squared_distances(phi * self.w, phi * self.w))[0]
        return self.predict(phi)[0], prior - V @ V.T

    def extended(self, phi: np.ndarray, y: np.ndarray) -> Posterior:
        """Return the posterior after further observations, with the hyperparameters as they are."""
        return condition(self.theta, self.group, np.vstack([self.phi, phi]), np.append(self.y, y), mean=self.mean)

    def leave_one_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance (noise included) of each observation given the others, eq. 5.12 of the book."""
        Ki = self.Li.T @ self.Li
        return self.y - self.alpha / np.diag(Ki), 1.0 / np.diag(Ki)


def condition(
    theta: np.ndarray, group: np.ndarray, phi: np.ndarray, y: np.ndarray, mean: float | None = None
) -> Posterior:
    """Return the posterior for given hyperparameters; the mean, unless given, by generalised least squares."""
    Z = phi * np.exp(-theta[:-2])[group]
    r2 = squared_distances(Z, Z)
    np.fill_diagonal(r2, 0.0)
    K = np.exp(theta[-2]) * matern52(r2)[0]
    K[np.diag_indices_from(K)] += np.exp(theta[-1]) + JITTER
    L = cholesky(K)
    if L is None:  # a kernel matrix of finite numbers and 1e-2 on its diagonal is positive definite
        raise FloatingPointError("the kernel matrix is not positive definite")
    if mean is None:
        solved = lapack.dpotrs(L, np.column_stack([np.ones(len(y)), y]), lower=1)[0]
        mean = float(solved[:, 1].sum() / solved[:, 0].sum())
    return Posterior(theta, group, phi, y, L, mean)


def neg_log_posterior(theta: np.ndarray, group: np.ndarray, phi: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the negative log posterior density of ``theta = (log l, log s2, log nz)`` and its gradient.

    The likelihood is eq. 5.8 of the book, its gradient eq. 5.9, by W = K⁻¹ - αα'. The mean is profiled out: at its
    optimum its derivative vanishes, so it adds nothing to the gradient.
    """
    g = len(theta) - 2
    s2, nz = np.exp(theta[-2:])
    Z = phi * np.exp(-theta[:g])[group]
    r2 = squared_distances(Z, Z)
    np.fill_diagonal(r2, 0.0)
    k, dk = matern52(r2)
    K = s2 * k
    K[np.diag_indices_from(K)] += nz + JITTER
    L, info = lapack.dpotrf(K, lower=1, clean=1)
    if info != 0:
        return 1e10, np.zeros_like(theta)
    Ki = lapack.dpotri(L, lower=1)[0]
    Ki += np.tril(Ki, -1).T
    one = Ki.sum(1)
    alpha = Ki @ (y - (one @ y) / one.sum())
    W = Ki - np.outer(alpha, alpha)
    value = 0.5 * (y - (one @ y) / one.sum()) @ alpha + np.log(np.diag(L)).sum()

    P = W * dk
    GzZ = 2.0 * s2 * (P.sum(1)[:, None] * Z - P @ Z) * Z
    gradient = np.empty_like(theta)
    gradient[:g] = -np.bincount(group, GzZ.sum(0), minlength=g)
    gradient[-2] = 0.5 * s2 * (W * k).sum()
    gradient[-1] = 0.5 * nz * np.trace(W)
    prior, d_prior = log_prior(theta)
    return float(value - prior), gradient - d_prior


def log_prior(theta: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the log prior density of theta, up to a constant, and its gradient.

    Length scales: -0.1 l² - 0.1/l², which forbids both extremes, up to 20 groups; beyond, the log-normal of Hvarfner
    et al. (2024) that grows with the dimension. Output scale: Gamma(2, 1). Noise: Gamma(1.1, 30).
    """
    log_l, g = theta[:-2], len(theta) - 2
    s2, nz = np.exp(theta[-2:])
    d = np.empty_like(theta)
    if g <= 20:
        l2 = np.exp(2.0 * log_l)
        value = -0.1 * (l2 + 1.0 / l2).sum()
        d[:g] = -0.2 * (l2 - 1.0 / l2)
    else:
        mu = np.sqrt(2.0) + 0.5 * np.log(g)
        value = -((log_l - mu) ** 2 / 6.0 + log_l).sum()
        d[:g] = -(log_l - mu) / 3.0 - 1.0
    value += np.log(s2) - s2 + 0.1 * np.log(nz) - 30.0 * nz
    d[-2:] = 1.0 - s2, 0.1 - 30.0 * nz
    return float(value), d


def default_theta(n_groups: int) -> np.ndarray:
    """Return where a first fit starts: length scales of half the cube's diagonal, little noise."""
    log_l = np.clip(np.log(0.5 * np.sqrt(max(n_groups, 1))), *LOG_L)
    return np.concatenate([np.full(n_groups, log_l), [0.0, np.log(1e-3)]])


def fit(
    phi: np.ndarray, y: np.ndarray, group: np.ndarray, starts: list[np.ndarray] | None = None, max_iter: int = 40
) -> Posterior:
    """Fit the hyperparameters to observations ``y``, shape (n,), at features ``phi``, shape (n, D); return the
    posterior.

    ``y`` should have mean 0 and variance 1. The best of the L-BFGS-B runs from ``starts`` counts.
    """
    n_groups = int(group.max()) + 1 if len(group) else 0
    bounds = [LOG_L] * n_groups + [LOG_S2, LOG_NZ]
    best, best_value = default_theta(n_groups), np.inf
    for start in starts or [default_theta(n_groups)]:
        found = minimize(
            neg_log_posterior,
            np.clip(start, *np.array(bounds).T),
            args=(group, phi, y),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": max_iter, "gtol": 1e-2, "ftol": 1e-7},
        )
        if np.isfinite(found.fun) and found.fun < best_value:
            best, best_value = found.x, found.fun
    return condition(best, group, phi, y)


def standardise(y: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Return ``(y - centre) / scale`` with the centre and the scale; constant values give zeros and a scale of 1.

    The median goes first, so that values around 1e12 keep their digits.
    """
    unit = max(float(np.abs(y).max(initial=0.0)), np.finfo(float).tiny)
    median = np.median(y / unit)
    shifted = y / unit - median
    centre, scale = shifted.mean(), shifted.std()
    if not scale > 1e-12:
        return np.zeros_like(y), float(median * unit), 1.0
    return (shifted - centre) / scale, float((median + centre) * unit), float(scale * unit)


def winsorise(y: np.ndarray) -> np.ndarray:
    """Clip the bad tail at Tukey's fence, the upper quartile plus 1.5 interquartile ranges; never the good one."""
    if len(y) < 5:
        return y
    q1, q3 = np.quantile(y, [0.25, 0.75])
    return np.minimum(y, q3 + 1.5 * (q3 - q1)) if q3 > q1 else y
