"""Expected improvement in logarithms, with running trials as fantasies, and what may be added to it.

Ament et al., *Unexpected Improvements to Expected Improvement for Bayesian Optimization* (NeurIPS 2023), section
4.1, for the stable logarithm; Snoek, Larochelle and Adams (NIPS 2012), section 3.2, for the fantasies. We minimise.
Every acquisition is a function of rows of the unit cube, NaN where a parameter is inactive; products of factors are
sums of their logarithms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from welltuned.later import special
from welltuned.surrogate.embedding import Embedding
from welltuned.surrogate.gp import Posterior, Slopes
from welltuned.surrogate.kernels import cholesky, exp, log

ROOT_2PI = np.sqrt(2.0 * np.pi)


class Acquisition(Protocol):
    """A function of rows of the cube to be maximised."""

    def value(self, unit: np.ndarray) -> np.ndarray:
        """Return its values at ``unit``, shape (q,)."""

    def coarse(self) -> Acquisition:
        """Return a cheaper one that is about as large in the same places."""

    def gradient(self, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return its values, shape (q,), and derivatives by ``unit``, shape (q, p), 0 where there is none."""


def log_h(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return log h(z) for h(z) = φ(z) + z Φ(z), and the ratios Φ/h and φ/h, down to z = -1e150.

    For z ≤ -1, with M = √(π/2) erfcx(-z/√2) = Φ/φ and t = 1 + zM: log h = -z²/2 - log √(2π) + log t, Φ/h = M/t, φ/h
    = 1/t.
    """
    near = np.maximum(z, -1.0)
    pdf, cdf = exp(-0.5 * near * near) / ROOT_2PI, special.ndtr(near)
    h = pdf + near * cdf
    far = np.minimum(z, -1.0)
    M = np.sqrt(0.5 * np.pi) * special.erfcx(-far / np.sqrt(2.0))
    # 1 + zM cancels; below -1e3 its expansion 1/z² is off by a share of 3/z², which costs log h its last four digits
    t = np.where(far < -1e3, 1.0 / (far * far), np.maximum(1.0 + far * M, 1e-300))
    low = z <= -1.0
    return (
        np.where(low, -0.5 * far * far - np.log(ROOT_2PI) + log(t), log(h)),
        np.where(low, M / t, cdf / h),
        np.where(low, 1.0 / t, pdf / h),
    )


def expected_improvement(mean: np.ndarray, sd: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Return E[max(best - f, 0)] for normal f, where the last digits of a tail do not count."""
    z = (best - mean) / sd
    return np.asarray(sd * (exp(-0.5 * np.minimum(z * z, 1400.0)) / ROOT_2PI + z * special.ndtr(z)))


def inverse_mills(z: np.ndarray) -> np.ndarray:
    """Return φ(z)/Φ(z), which grows like -z where z is far below 0."""
    far = np.sqrt(2.0 / np.pi) / special.erfcx(-np.minimum(z, -1.0) / np.sqrt(2.0))
    near = np.maximum(z, -1.0)
    return np.where(z <= -1.0, far, exp(-0.5 * np.minimum(near, 38.0) ** 2) / ROOT_2PI / special.ndtr(near))


@dataclass(frozen=True)
class LogEI:
    """log E[max(f* - f, 0)], averaged over processes and over fantasies of what the running trials will return.

    All fantasies of a process share its variance, conditioned once on where the running trials are; only their means
    differ.

    Attributes
    ----------
    embed, posterior
        M processes, conditioned on observations and on the places of running trials.
    alphas
        K⁻¹(y_f - mean) for each fantasy f, shape (M, n, F).
    best
        The incumbent f* of each fantasy, shape (M, F).
    """

    embed: Embedding
    posterior: Posterior
    alphas: np.ndarray
    best: np.ndarray

    def value(self, unit: np.ndarray) -> np.ndarray:
        """See :class:`Acquisition`."""
        p = self.posterior
        at = p.view(self.embed(unit))
        k = p.covariance(at)
        sd = np.sqrt(p.variance_of(k, at))
        z = (self.best[:, None] - p.mean[:, None, None] - k @ self.alphas) / sd[:, :, None]
        return _log_mean_exp(_by_point(log_h(z)[0] + log(sd)[:, :, None]))

    def coarse(self) -> LogEI:
        """See :class:`Acquisition`."""
        return LogEI(self.embed, self.posterior.only(0), self.alphas[:1], self.best[:1])

    def gradient(self, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Acquisition`."""
        at = Slopes(self.posterior, self.embed(unit), self.alphas)
        sd = np.sqrt(at.variance)
        logs, cdf, pdf = log_h((self.best[:, None] - at.means) / sd[:, :, None])
        logs = logs + log(sd)[:, :, None]
        value = _log_mean_exp(_by_point(logs))
        weight = exp(logs - value[None, :, None]) / (logs.shape[0] * logs.shape[2])
        by_mean = -weight * cdf / sd[:, :, None]
        by_variance = 0.5 * (weight * pdf).sum(2) / at.variance
        return value, self.embed.pull(at.pull(by_mean, by_variance), unit)


def _by_point(logs: np.ndarray) -> np.ndarray:
    """Bring (M, q, F) to (q, M F)."""
    return np.moveaxis(logs, 1, 0).reshape(logs.shape[1], -1)


def _log_mean_exp(logs: np.ndarray) -> np.ndarray:
    top = logs.max(1)
    return top + log(exp(logs - top[:, None]).mean(1))


def log_ei(
    embed: Embedding,
    posterior: Posterior,
    best: np.ndarray,
    pending: np.ndarray,
    rng: np.random.Generator,
    fantasies: int = 16,
) -> LogEI:
    """Build the expected improvement over ``best``, one incumbent a process, given running trials at rows ``pending``.

    ``fantasies`` antithetic draws are shared among the processes, two each at least.
    """
    if not len(pending):
        return LogEI(embed, posterior, posterior.alpha[:, :, None], best[:, None])
    phi = embed(pending)
    mean, covariance = posterior.joint(phi)
    half = rng.standard_normal((len(pending), max(1, fantasies // (2 * len(posterior)))))
    signs = np.hstack([half, -half])
    roots = [cholesky(c + 1e-9 * s2 * np.eye(len(pending))) for c, s2 in zip(covariance, posterior.s2, strict=True)]
    moves = np.stack([np.zeros_like(signs) if root is None else root @ signs for root in roots])
    draws = mean[:, :, None] + moves
    wider = posterior.extended(phi, mean.mean(0))
    seen = np.broadcast_to(posterior.data.y[None, :, None], (len(posterior), len(posterior.data.y), draws.shape[2]))
    ys = np.concatenate([seen, draws], axis=1) - wider.mean[:, None, None]
    return LogEI(embed, wider, wider.solve(ys), np.minimum(best[:, None], draws.min(1)))


@dataclass(frozen=True)
class LogProbability:
    """log Φ((threshold - mean) / √(variance + spread)): that a modelled quantity stays below a threshold.

    For the probability of success, of a process fitted to -1 where a trial succeeded and +1 where it failed; for a
    constraint on outcomes, of one fitted to its values. Gardner et al., *Bayesian Optimization with Inequality
    Constraints* (ICML 2014), eq. 5.
    """

    embed: Embedding
    posterior: Posterior
    threshold: float
    spread: float

    def value(self, unit: np.ndarray) -> np.ndarray:
        """See :class:`Acquisition`."""
        mean, variance = self.posterior.predict(self.embed(unit))
        return np.asarray(special.log_ndtr((self.threshold - mean) / np.sqrt(variance + self.spread)))

    def coarse(self) -> LogProbability:
        """See :class:`Acquisition`."""
        return self

    def gradient(self, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Acquisition`."""
        at = Slopes(self.posterior, self.embed(unit))
        mean, variance = at.means[0, :, 0], at.variance[0] + self.spread
        z = (self.threshold - mean) / np.sqrt(variance)
        log_p, ratio = special.log_ndtr(z), inverse_mills(z)
        d = at.pull((-ratio / np.sqrt(variance))[None, :, None], (-0.5 * ratio * z / variance)[None])
        return log_p, self.embed.pull(d, unit)


@dataclass(frozen=True)
class LogMean:
    """A multiple of a posterior mean, such as minus the logarithm of what a trial will cost."""

    embed: Embedding
    posterior: Posterior
    factor: float

    def value(self, unit: np.ndarray) -> np.ndarray:
        """See :class:`Acquisition`."""
        return self.factor * self.posterior.means(self.embed(unit))

    def coarse(self) -> LogMean:
        """See :class:`Acquisition`."""
        return self

    def gradient(self, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Acquisition`."""
        at = Slopes(self.posterior, self.embed(unit))
        weight = np.full((len(self.posterior), len(unit), 1), self.factor / len(self.posterior))
        d = at.pull(weight, np.zeros(weight.shape[:2]))
        return self.factor * at.means[:, :, 0].mean(0), self.embed.pull(d, unit)


@dataclass(frozen=True)
class Sum:
    """A sum of acquisitions: the logarithm of a product."""

    terms: tuple[Acquisition, ...]

    def value(self, unit: np.ndarray) -> np.ndarray:
        """See :class:`Acquisition`."""
        return np.sum([t.value(unit) for t in self.terms], axis=0)

    def coarse(self) -> Sum:
        """See :class:`Acquisition`."""
        return Sum(tuple(t.coarse() for t in self.terms))

    def gradient(self, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Acquisition`."""
        parts = [t.gradient(unit) for t in self.terms]
        return np.sum([v for v, _ in parts], axis=0), np.sum([d for _, d in parts], axis=0)


def total(terms: list[Acquisition]) -> Acquisition:
    """Return the sum of some acquisitions, or the only one."""
    return terms[0] if len(terms) == 1 else Sum(tuple(terms))
