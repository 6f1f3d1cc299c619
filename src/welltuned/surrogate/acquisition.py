"""Expected improvement in logarithms, with running trials as fantasies and with the probability of success.

Ament et al., *Unexpected Improvements to Expected Improvement for Bayesian Optimization* (NeurIPS 2023), section
4.1, for the stable logarithm; Snoek, Larochelle and Adams (NIPS 2012), section 3.2, for the fantasies. We minimise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import erfcx, log_ndtr, ndtr

from welltuned.surrogate.gp import Posterior, cholesky, matern52, squared_distances

ROOT_2PI = np.sqrt(2.0 * np.pi)


class Acquisition(Protocol):
    """A function of features to be maximised."""

    def value(self, phi: np.ndarray) -> np.ndarray:
        """Return its values at ``phi``, shape (q,)."""

    def gradient(self, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return its values, shape (q,), and derivatives by ``phi``, shape (q, D)."""


def log_h(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return log h(z) for h(z) = φ(z) + z Φ(z), and the ratios Φ/h and φ/h; exact down to z = -1e150.

    For z ≤ -1, with M = √(π/2) erfcx(-z/√2) = Φ/φ and t = 1 + zM: log h = -z²/2 - log √(2π) + log t, Φ/h = M/t, φ/h
    = 1/t.
    """
    near = np.maximum(z, -1.0)
    pdf, cdf = np.exp(-0.5 * near * near) / ROOT_2PI, ndtr(near)
    h = pdf + near * cdf
    far = np.minimum(z, -1.0)
    M = np.sqrt(0.5 * np.pi) * erfcx(-far / np.sqrt(2.0))
    # 1 + zM cancels; below -1e3 its expansion 1/z² is exact to the last digit but four
    t = np.where(far < -1e3, 1.0 / (far * far), np.maximum(1.0 + far * M, 1e-300))
    low = z <= -1.0
    return (
        np.where(low, -0.5 * far * far - np.log(ROOT_2PI) + np.log(t), np.log(h)),
        np.where(low, M / t, cdf / h),
        np.where(low, 1.0 / t, pdf / h),
    )


@dataclass(frozen=True)
class LogEI:
    """log E[max(f* - f, 0)], averaged over fantasies of what the running trials will return.

    All fantasies share the posterior's variance, conditioned once on where the running trials are; only their means
    differ.

    Attributes
    ----------
    posterior
        Conditioned on observations and on the places of running trials.
    alphas
        K⁻¹(y_m - mean) for each fantasy m, shape (n, M).
    best
        The incumbent f* of each fantasy, shape (M,).
    """

    posterior: Posterior
    alphas: np.ndarray
    best: np.ndarray

    def value(self, phi: np.ndarray) -> np.ndarray:
        """See :class:`Acquisition`."""
        p = self.posterior
        k = p.covariance(phi)
        V = k @ p.Li.T
        sd = np.sqrt(np.maximum(p.s2 - (V * V).sum(1), 1e-12 * p.s2))
        logs = log_h((self.best - p.mean - k @ self.alphas) / sd[:, None])[0]
        return _log_mean_exp(logs) + np.log(sd)

    def gradient(self, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Acquisition`."""
        p = self.posterior
        Zq = phi * p.w
        k, dk = (p.s2 * part for part in matern52(squared_distances(Zq, p.Z)))
        V = k @ p.Li.T
        sd = np.sqrt(np.maximum(p.s2 - (V * V).sum(1), 1e-12 * p.s2))
        logs, cdf, pdf = log_h((self.best - p.mean - k @ self.alphas) / sd[:, None])
        weight = np.exp(logs - logs.max(1, keepdims=True))
        weight /= weight.sum(1, keepdims=True)
        A = 2.0 * dk * (-(weight * cdf) @ self.alphas.T / sd[:, None])
        B = 2.0 * dk * (V @ p.Li) * (-(weight * pdf).sum(1) / (sd * sd))[:, None]
        C = A + B
        return _log_mean_exp(logs) + np.log(sd), (C.sum(1)[:, None] * Zq - C @ p.Z) * p.w


def _log_mean_exp(logs: np.ndarray) -> np.ndarray:
    top = logs.max(1)
    return top + np.log(np.exp(logs - top[:, None]).mean(1))


def log_ei(
    posterior: Posterior, best: float, pending: np.ndarray, rng: np.random.Generator, fantasies: int = 16
) -> LogEI:
    """Build the expected improvement over ``best`` given running trials at features ``pending``, shape (q, D)."""
    if not len(pending):
        return LogEI(posterior, posterior.alpha[:, None], np.array([best]))
    mean, covariance = posterior.joint(pending)
    root = cholesky(covariance + 1e-9 * posterior.s2 * np.eye(len(pending)))
    half = rng.standard_normal((len(pending), fantasies // 2))
    draws = mean[:, None] + (0.0 if root is None else root @ np.hstack([half, -half]))  # antithetic pairs
    wider = posterior.extended(pending, mean)
    ys = np.vstack([np.repeat(posterior.y[:, None], draws.shape[1], 1), draws])
    return LogEI(wider, wider.Li.T @ (wider.Li @ (ys - wider.mean)), np.minimum(best, draws.min(0)))


@dataclass(frozen=True)
class Feasible:
    """An acquisition plus the log probability that the evaluation succeeds.

    ``success`` is a process fitted to +1 where a trial succeeded and -1 where it failed; P = Φ(mean / √(variance +
    0.1)).
    """

    base: Acquisition
    success: Posterior

    def value(self, phi: np.ndarray) -> np.ndarray:
        """See :class:`Acquisition`."""
        mean, variance = self.success.predict(phi)
        return self.base.value(phi) + log_ndtr(mean / np.sqrt(variance + 0.1))

    def gradient(self, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Acquisition`."""
        value, slope = self.base.gradient(phi)
        mean, variance, d_mean, d_variance = self.success.gradients(phi)
        sd = np.sqrt(variance + 0.1)
        z = mean / sd
        log_p = log_ndtr(z)
        ratio = np.exp(-0.5 * z * z - log_p) / ROOT_2PI
        return value + log_p, slope + ratio[:, None] * (
            d_mean / sd[:, None] - (0.5 * z / (variance + 0.1))[:, None] * d_variance
        )
