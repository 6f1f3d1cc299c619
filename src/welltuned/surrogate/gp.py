"""Gaussian processes with a Matérn kernel: a stack of M of them over the same observations, differing in theta.

Rasmussen and Williams, *Gaussian Processes for Machine Learning* (2006), chapters 2 and 5, with one length scale per
group of features, and where there is a trend a linear one beside it (section 4.2.2) with a bowl in it. Everything is a
product of n × n and n × D matrices; no n × n × D array is ever formed.

Symbols: Φ features (n, D), V the warped ones; l length scales, w = 1/l; Z = V w[group]; s2 output scale; nz noise
variance; U features of the trend, v its variance; y standardised observations; m the constant mean.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from welltuned.later import lapack
from welltuned.surrogate import warp
from welltuned.surrogate.kernels import JITTER, cholesky, correlation, exp, matern, squared_distances


class NoisePrior(NamedTuple):
    """What is believed of the noise's variance nz before anything is known: a density like nz^power exp(-rate nz)."""

    power: float
    rate: float


QUIET, NOISY = NoisePrior(0.1, 30.0), NoisePrior(0.1, 3.0)
LIKELY = NoisePrior(1.0, 3.0)  # for what is said of a study: some noise there is, or a model believes a few values
STIFF, BENT = 0.35, 0.75


@dataclass(frozen=True)
class Observations:
    """What a process is fitted to.

    Attributes
    ----------
    phi, y
        Features, shape (n, D), and values of mean about 0 and variance about 1, shape (n,).
    group
        For each feature the group, from 0 to g - 1, whose length scale it uses; shape (D,).
    numeric
        How many of the features, the first ones, may be warped.
    known
        Variance of each observation that is known, beside the noise that is learned, on the scale of ``y``; shape (n,).
    noise_prior
        What is believed of the noise.
    bowl
        Where there is a trend, the variance of its bowl before anything is known, as a share of that of its slopes.
    smooth
        Use the Matérn 5/2 kernel in place of 3/2.
    """

    phi: np.ndarray
    y: np.ndarray
    group: np.ndarray
    numeric: int
    known: np.ndarray
    noise_prior: NoisePrior = QUIET
    bowl: float = 0.0
    smooth: bool = False

    @property
    def n_groups(self) -> int:
        """Number of length scales, g."""
        return int(self.group.max()) + 1 if len(self.group) else 0

    def subset(self, rows: np.ndarray) -> Observations:
        """Return some of the observations."""
        return replace(self, phi=self.phi[rows], y=self.y[rows], known=self.known[rows])


def observations(phi: np.ndarray, y: np.ndarray, group: np.ndarray, numeric: int = 0) -> Observations:
    """Return observations of a smooth function, with noise of unknown size."""
    return Observations(phi, y, group, numeric, np.zeros(len(y)), smooth=True)


@dataclass(frozen=True)
class Layout:
    """Where things are in theta = (log l, log s2, log nz[, log v][, log a, log b]): g length scales, k warped ones.

    ``bend`` is the standard deviation of log a and log b before anything is known.
    """

    g: int
    k: int
    trend: bool = False
    bend: float = BENT

    @property
    def size(self) -> int:
        """Number of hyperparameters."""
        return self.bends + 2 * self.k

    @property
    def bends(self) -> int:
        """Where the warps begin."""
        return self.g + 2 + self.trend

    def warps(self, thetas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a and b, shapes (M, 1, k)."""
        at = self.bends
        return exp(thetas[:, None, at : at + self.k]), exp(thetas[:, None, at + self.k :])

    @property
    def flat(self) -> Layout:
        """The same without a trend."""
        return replace(self, trend=False)

    def tilted(self, thetas: np.ndarray) -> np.ndarray:
        """Return hyperparameters of :attr:`flat`, shape (M, t - 1), in this layout: with a trend of variance 0."""
        return np.insert(thetas, self.g + 2, -np.inf, axis=1)

    def flattened(self, thetas: np.ndarray) -> np.ndarray:
        """Return hyperparameters, shape (M, t), without that of the trend."""
        return np.delete(thetas, self.g + 2, axis=1)


@dataclass(frozen=True)
class View:
    """Features of q points as each process sees them, warped: Z for the Matérn kernel, U for the trend if there is one.

    Shapes (M, q, D) and (M, q, D + 1).
    """

    Z: np.ndarray
    U: np.ndarray | None
    smooth: bool

    def covariance(self, other: View, s2: np.ndarray) -> np.ndarray:
        """Return the covariances of the function at two sets of points, shape (M, q, r)."""
        k = correlation(squared_distances(self.Z, other.Z), self.smooth)
        k *= s2[:, None, None]
        if self.U is not None and other.U is not None:
            k += self.U @ np.swapaxes(other.U, 1, 2)
        return k

    def only(self, members: slice | list[int]) -> View:
        """Return what some of the processes see."""
        return View(self.Z[members], None if self.U is None else self.U[members], self.smooth)

    def variance(self, s2: np.ndarray) -> np.ndarray:
        """Return the diagonal of the covariances of the points with themselves, shape (M, q) or (M, 1)."""
        return s2[:, None] if self.U is None else s2[:, None] + np.einsum("mij,mij->mi", self.U, self.U)


@dataclass(frozen=True)
class Prior:
    """M processes before the observations: what stacked hyperparameters, shape (M, t), say of any places."""

    thetas: np.ndarray
    data: Observations

    def __len__(self) -> int:
        return len(self.thetas)

    @cached_property
    def layout(self) -> Layout:
        """Where things are in theta."""
        k, trend = divmod(self.thetas.shape[1] - self.data.n_groups - 2, 2)
        return Layout(self.data.n_groups, k, bool(trend))

    @cached_property
    def s2(self) -> np.ndarray:
        """Output scales, shape (M,)."""
        return exp(self.thetas[:, self.layout.g])

    @cached_property
    def noise(self) -> np.ndarray:
        """Variances of the noise of one observation, shape (M,)."""
        return exp(self.thetas[:, self.layout.g + 1])

    @cached_property
    def w(self) -> np.ndarray:
        """Inverse length scale of each feature, shape (M, 1, D)."""
        return exp(-self.thetas[:, None, : self.layout.g])[:, :, self.data.group]

    @cached_property
    def steepness(self) -> np.ndarray:
        """Standard deviation of the trend's slope in each feature, shape (M, 1, 1).

        With it the slopes have the variance v at a place that is drawn from a cube of g numbers.
        """
        return np.sqrt(12.0 / max(self.layout.g, 1) * exp(self.thetas[:, self.layout.g + 2, None, None]))

    @cached_property
    def warps(self) -> tuple[np.ndarray, np.ndarray]:
        """Exponents a and b of the warps, shapes (M, 1, k)."""
        return self.layout.warps(self.thetas)

    @cached_property
    def seen(self) -> View:
        """The observations as each process sees them."""
        return self.view(self.data.phi)

    def view(self, phi: np.ndarray) -> View:
        """Return points as each process sees them."""
        k, V = self.layout.k, phi[None]
        if k:
            V = np.repeat(V, len(self), axis=0)
            V[:, :, :k] = warp.kumaraswamy(phi[None, :, :k], *self.warps)
        U = trend(V, self.data) * self.steepness if self.layout.trend else None
        return View(V * self.w, U, self.data.smooth)

    def matrices(self) -> np.ndarray:
        """Return the covariances of the observations, noise included, shape (M, n, n)."""
        K = self.seen.covariance(self.seen, self.s2)
        diagonal = np.arange(len(self.data.y))
        K[:, diagonal, diagonal] = self.seen.variance(self.s2) + self.noise[:, None] + self.data.known + JITTER
        return K


def trend(V: np.ndarray, data: Observations) -> np.ndarray:
    """Return what a trend is a sum of, shape (M, q, D + 1), from warped features V, shape (M, q, D).

    Those features, the numbers among them less the middle of the cube; and a bowl, how far from the middle all numbers
    are. One bowl for all: whether the middle or the edges are better is worth knowing from a dozen results, and more
    could not be learned from them.
    """
    k = data.numeric
    U = np.concatenate([V, np.zeros((*V.shape[:2], 1))], axis=2)
    U[:, :, :k] -= 0.5
    if data.bowl and k:
        U[:, :, -1] = _depth(data) * ((U[:, :, :k] ** 2).sum(2) - k / 12.0)
    return U


def along(d: np.ndarray, U: np.ndarray, steepness: np.ndarray, data: Observations) -> np.ndarray:
    """Return derivatives by V, shape (M, q, D), from those by U, the features of the trend times ``steepness``."""
    k = data.numeric
    by_V = d[:, :, :-1] * steepness
    if data.bowl and k:
        by_V[:, :, :k] += d[:, :, -1:] * (2.0 * _depth(data)) * U[:, :, :k]
    return by_V


def _depth(data: Observations) -> float:
    """Return what gives the bowl its share: at a place drawn from the cube, g slopes vary by 1/12 each, it by k/180."""
    return float(np.sqrt(data.bowl * 15.0 * data.n_groups / data.numeric))


@dataclass(frozen=True)
class Posterior(Prior):
    """M processes after the observations; predictions at features ``phi`` of shape (q, D), on the scale of ``y``."""

    L: np.ndarray
    mean: np.ndarray

    @cached_property
    def Li(self) -> np.ndarray:
        """Inverses of the Cholesky factors, shape (M, n, n)."""
        return np.stack([lapack.dtrtri(L, lower=1)[0] for L in self.L])

    @cached_property
    def alpha(self) -> np.ndarray:
        """K⁻¹(y - m), shape (M, n)."""
        return self.solve((self.data.y[None] - self.mean[:, None])[:, :, None])[:, :, 0]

    def solve(self, ys: np.ndarray) -> np.ndarray:
        """Return K⁻¹ y for stacked columns ``ys``, shape (M, n, c)."""
        return np.swapaxes(self.Li, 1, 2) @ (self.Li @ ys)

    def covariance(self, at: View) -> np.ndarray:
        """Return k(at, observations), shape (M, q, n)."""
        return at.covariance(self.seen, self.s2)

    def members(self, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return means and variances (noise excluded) of each process at ``phi``, shapes (M, q)."""
        at = self.view(phi)
        k = self.covariance(at)
        return self.mean_of(k), self.variance_of(k, at)

    def mean_of(self, k: np.ndarray) -> np.ndarray:
        """Return the means, shape (M, q), of points whose covariances with the observations are ``k``."""
        return self.mean[:, None] + (k @ self.alpha[:, :, None])[:, :, 0]

    def variance_of(self, k: np.ndarray, at: View) -> np.ndarray:
        """Return the variances, shape (M, q), of points whose covariances with the observations are ``k``."""
        return self.remaining(k @ np.swapaxes(self.Li, 1, 2), at)

    def remaining(self, V: np.ndarray, at: View) -> np.ndarray:
        """Return the variances before any observation less what ``V = k L⁻ᵀ``, shape (M, q, n), explains of them."""
        explained = np.einsum("mij,mij->mi", V, V)
        return np.maximum(at.variance(self.s2) - explained, 1e-12 * self.s2[:, None])

    def means(self, phi: np.ndarray) -> np.ndarray:
        """Return the mean of the mixture at ``phi``, shape (q,)."""
        return self.mean_of(self.covariance(self.view(phi))).mean(0)

    def predict(self, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance (noise excluded) of the mixture at ``phi``, shapes (q,)."""
        mean, variance = self.members(phi)
        return mean.mean(0), variance.mean(0) + mean.var(0)

    def joint(self, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return means, shape (M, q), and covariances, shape (M, q, q), of the function at ``phi``."""
        at = self.view(phi)
        k = self.covariance(at)
        V = k @ np.swapaxes(self.Li, 1, 2)
        return self.mean_of(k), at.covariance(at, self.s2) - V @ np.swapaxes(V, 1, 2)

    def extended(self, phi: np.ndarray, y: np.ndarray) -> Posterior:
        """Return the posterior after further observations, with hyperparameters and means as they are."""
        data, q = self.data, len(phi)
        more = replace(
            data,
            phi=np.vstack([data.phi, phi]),
            y=np.append(data.y, y),
            known=np.append(data.known, np.zeros(q)),
        )
        return condition(self.thetas, more, mean=self.mean)

    def only(self, m: int) -> Posterior:
        """Return one of the processes, as a stack of its own."""
        if len(self) == 1:
            return self
        one = Posterior(self.thetas[m : m + 1], self.data, self.L[m : m + 1], self.mean[m : m + 1])
        one.__dict__.update(
            Li=self.Li[m : m + 1], seen=self.seen.only(slice(m, m + 1)), alpha=self.alpha[m : m + 1]
        )
        return one

    def leave_one_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance (noise included) of each observation given the others, eq. 5.12 of the book."""
        diagonal = np.einsum("mij,mij->mj", self.Li, self.Li)
        mean, variance = self.data.y - self.alpha / diagonal, 1.0 / diagonal
        return mean.mean(0), variance.mean(0) + mean.var(0)

    def step_by_step(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation (noise included) of each observation given those before it, shapes (M, n).

        With K = L Lᵀ they are y - l (L⁻¹ (y - m)) and l, the diagonal of L.
        """
        sd = np.diagonal(self.L, axis1=1, axis2=2)
        ahead = self.Li @ (self.data.y[None] - self.mean[:, None])[:, :, None]
        return self.data.y - sd * ahead[:, :, 0], sd


class Slopes:
    """Means and variances of a posterior at q features, and derivatives of weighted sums of them, two products each.

    Attributes
    ----------
    means, variance
        Of each process and column of ``alphas``, shape (M, q, F), and of each process, shape (M, q).
    """

    def __init__(self, posterior: Posterior, phi: np.ndarray, alphas: np.ndarray | None = None) -> None:
        p = self.posterior = posterior
        self.phi = phi
        self.at = p.view(phi)
        k, dk = matern(squared_distances(self.at.Z, p.seen.Z), p.data.smooth)
        s2 = p.s2[:, None, None]
        self.k, self.dk = k * s2, dk * (2.0 * s2)
        if self.at.U is not None and p.seen.U is not None:
            self.k += self.at.U @ np.swapaxes(p.seen.U, 1, 2)
        self.V = self.k @ np.swapaxes(p.Li, 1, 2)
        self.variance = p.remaining(self.V, self.at)
        self.alphas = p.alpha[:, :, None] if alphas is None else alphas
        self.means = p.mean[:, None, None] + self.k @ self.alphas  # (M, q, F)

    def pull(self, by_mean: np.ndarray, by_variance: np.ndarray) -> np.ndarray:
        """Return Σ_m Σ_F by_mean dμ/dφ + by_variance dσ²/dφ, shape (q, D); shapes (M, q, F) and (M, q)."""
        p = self.posterior
        C = by_mean @ np.swapaxes(self.alphas, 1, 2)
        C -= (2.0 * by_variance)[:, :, None] * (self.V @ p.Li)
        by_trend: np.ndarray | float = 0.0
        if self.at.U is not None:
            by_U = C @ p.seen.U + 2.0 * by_variance[:, :, None] * self.at.U
            by_trend = along(by_U, self.at.U, p.steepness, p.data)
        C *= self.dk
        d = (C.sum(2)[:, :, None] * self.at.Z - C @ p.seen.Z) * p.w + by_trend
        k = p.layout.k
        if k:
            d[:, :, :k] *= warp.slope(self.phi[None, :, :k], *p.warps)
        return d.sum(0)


def condition(thetas: np.ndarray, data: Observations, mean: np.ndarray | None = None) -> Posterior:
    """Return the posterior for given hyperparameters, shape (M, t); means, unless given, by generalised least squares.

    A theta whose kernel matrix cannot be factored is left out; the last one left raises ``FloatingPointError``.
    """
    prior = Prior(thetas, data)
    factors = [cholesky(K) for K in prior.matrices()]
    kept = [m for m, L in enumerate(factors) if L is not None]
    if not kept:  # a kernel matrix of finite numbers and 1e-2 on its diagonal is positive definite
        raise FloatingPointError("the kernel matrix is not positive definite")
    L = np.stack([f for f in factors if f is not None])
    if mean is None:
        ones_y = np.column_stack([np.ones(len(data.y)), data.y])
        sums = np.array([lapack.dpotrs(f, ones_y, lower=1)[0].sum(0) for f in L])
        mean = sums[:, 1] / sums[:, 0]
    else:
        mean = mean[kept]
    posterior = Posterior(thetas[kept], data, L, mean)
    posterior.__dict__["seen"] = prior.seen.only(kept)  # not to be warped again
    return posterior
