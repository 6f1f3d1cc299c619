"""The tree-structured Parzen estimator: one joint mixture over the union of a conditional space.

Bergstra, Bardenet, Bengio and Kégl, *Algorithms for Hyper-Parameter Optimization* (NIPS 2011), section 4, with the
choices compared by Watanabe, *Tree-Structured Parzen Estimator: Understanding Its Algorithm Components* (2023). The
observations are split into good and other ones; each set is a density, with one kernel an observation; proposed is
the candidate with the largest ratio of the two, out of draws from the good one.

Where the trial of a kernel lacked a parameter, the kernel is uniform in it. So trials of different branches inform
each other about what they share, and no decomposition into groups is needed.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from scipy.special import ndtr, ndtri

from welltuned.history import History
from welltuned.pareto import penalised, scalarise
from welltuned.samplers.initial import initial_design
from welltuned.samplers.novel import novel
from welltuned.settings import check_whole
from welltuned.space import Categorical, Params, Space, codec

MOST_GOOD = 25
MOST_OTHER = 64  # kernels of the others; beyond, the latest 25 and a random choice of the rest
LATEST = 25
WIDEST = 100.0
ROOT_2PI = np.sqrt(2.0 * np.pi)


@dataclass(frozen=True)
class TPE:
    """Propose where good trials are dense and the others are not. A millisecond a suggestion, however many trials.

    Parameters
    ----------
    initial
        Trials that are spread over the space before the densities take over; the defaults come first.
    candidates
        Draws among which the best is proposed: more are greedier.

    Examples
    --------
    >>> TPE(candidates=48)
    TPE(initial=10, candidates=48)
    """

    initial: int = 10
    candidates: int = 24
    model_based: ClassVar[bool] = True
    several_objectives: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_whole(self, initial=1, candidates=1)

    def suggest(self, space: Space, history: History, n: int, rng: np.random.Generator) -> list[Params]:
        """See :meth:`Sampler.suggest`."""
        seen = set(history.keys)
        started = int((history.observed | history.failed | history.pending).sum())
        design = n if history.observed.sum() < 2 else max(0, min(n, self.initial - started))
        chosen = novel(space, history, initial_design(space, history, design, rng), design, rng, seen)
        if len(chosen) < design or design == n:
            return chosen
        kinds = kinds_of(space)
        good, other, weights = split(history, rng)
        pending = np.vstack([history.unit[history.pending], space.encode(chosen)])
        for _ in range(n - len(chosen)):
            kernels = Kernels(kinds, good, np.vstack([other, pending]))
            ranked = self.ranked(space, kernels, weights, rng)
            fresh = novel(space, history, (space.decode(r[None], activated=True)[0] for r in ranked), 1, rng, seen)
            if not fresh:
                break
            chosen += fresh
            if len(chosen) < n:
                pending = np.vstack([pending, space.encode(fresh)])
        return chosen

    def ranked(self, space: Space, kernels: Kernels, weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return allowed draws from the good density, the largest ratio to the other one first."""
        for _ in range(8):
            unit = space.switch_off(kernels.sample(weights, self.candidates, rng))
            unit = unit[space.feasible(unit)]
            if len(unit):
                break
        good, other = kernels.log_densities(unit, weights, recency(kernels.sizes[1]))
        return unit[np.argsort(other - good, kind="stable")]


def split(history: History, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the good rows, the other ones in the order of their trials, and the weights of good ones and the prior.

    A good trial weighs as much as it is better than the worst of the good ones; the prior as much as their mean
    (Watanabe, section 3.3). Failed trials are among the others.
    """
    rows = np.flatnonzero(history.observed)
    y = penalised(scalarise(history.losses[rows], rng), history.violations[rows])
    m = min(int(np.ceil(0.1 * len(y))), MOST_GOOD)
    threshold = np.partition(y, m)[m] if m < len(y) else y.max()
    good = np.flatnonzero(y < threshold)
    good = np.concatenate([good, np.flatnonzero(y == threshold)[: m - len(good)]])  # of equal ones the first
    gains = threshold - y[good]
    top = gains.max()
    gains = gains / top if top > 0 and np.isfinite(top) else np.ones(m)
    weights = np.append(gains, gains.mean())
    others = history.observed | history.failed
    others[rows[good]] = False
    other = np.flatnonzero(others)
    if len(other) > MOST_OTHER:
        old = rng.choice(len(other) - LATEST, MOST_OTHER - LATEST, replace=False)
        other = np.concatenate([other[np.sort(old)], other[-LATEST:]])
    return history.unit[rows[good]], history.unit[other], weights / weights.sum()


@functools.lru_cache(maxsize=4 * MOST_OTHER)
def recency(n: int) -> np.ndarray:
    """Return the weights of n kernels and the prior: the latest 25 count in full, older ones less and less."""
    old = max(n - LATEST, 0)
    weights = np.concatenate([np.linspace(1.0 / max(n, 1), 1.0, old), np.ones(n - old + 1)])
    return weights / weights.sum()


@dataclass(frozen=True)
class Kinds:
    """Which columns of the cube are numbers, with the width of a cell each, and which are categories.

    The choices of all categories stand side by side: those of the i-th begin at ``offset[i]``.
    """

    numeric: np.ndarray
    cell: np.ndarray
    categorical: np.ndarray
    counts: np.ndarray
    offset: np.ndarray

    def choices(self, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return indices of the choices in rows of the cube, shape (n, categories), and which of them are active."""
        u = unit[:, self.categorical]
        active = ~np.isnan(u)
        return np.minimum((np.where(active, u, 0.0) * self.counts).astype(int), self.counts - 1), active


@functools.lru_cache(maxsize=8)
def kinds_of(space: Space) -> Kinds:
    """Read the kinds off a space."""
    parameters = list(space.values())
    categorical = [j for j, p in enumerate(parameters) if isinstance(p, Categorical)]
    numeric = [j for j, p in enumerate(parameters) if not isinstance(p, Categorical)]
    cells = [codec.cells(parameters[j]) for j in numeric]
    counts = np.array([codec.cells(parameters[j]) for j in categorical], dtype=int)
    return Kinds(
        np.array(numeric, dtype=int),
        np.array([0.0 if n is None else 1.0 / n for n in cells]),
        np.array(categorical, dtype=int),
        counts,
        np.cumsum(counts) - counts,
    )


class Kernels:
    """Densities over rows of the cube, side by side in one table: of each set of rows, a kernel per row.

    Numbers have normal kernels truncated to [0, 1], as wide as the larger gap to their neighbours in the set; of a
    category a kernel has its own choice with probability 1/(1 + K/(m + 1)), and otherwise any of the K, with m rows in
    the set. A density has one more kernel, the last of its weights, that is uniform.
    """

    def __init__(self, kinds: Kinds, *sets: np.ndarray) -> None:
        self.kinds = kinds
        self.sizes = [len(rows) for rows in sets]
        rows = np.vstack(sets)
        self.mu = rows[:, kinds.numeric]
        self.sigma = widths(self.mu, self.sizes, kinds.cell)
        self.known = ~np.isnan(self.mu)
        self.full = bool(self.known.all())
        if not self.full:
            self.mu[~self.known] = 0.5
        self.below, above = cut_off(np.stack([-self.mu, self.mu - 1.0]) / self.sigma)
        self.mass = 1.0 - self.below - above
        if len(kinds.categorical):
            self.own, chosen = kinds.choices(rows)
            own = [1.0 / (1.0 + kinds.counts / (m + 1.0)) for m in self.sizes]
            self.loyalty = chosen * np.repeat(own, self.sizes, axis=0)

    @cached_property
    def table(self) -> np.ndarray:
        """What the log density of each kernel is made of, shape (m + 1, 3 numeric + all choices); the last is uniform.

        A number adds 2iμ x - i x² - (iμ² + log z), with i = 1/2σ² and the normalisation z = √2π σ · mass: what
        multiplies x, x² and 1 stands side by side, 0 where unknown. A category adds the logarithm of the probability
        of its choice.
        """
        kinds, m, n = self.kinds, len(self.mu), len(self.kinds.numeric)
        out = np.zeros((m + 1, 3 * n + int(kinds.counts.sum())))
        i_mu, i, rest = out[:m, :n], out[:m, n : 2 * n], out[:m, 2 * n : 3 * n]
        np.divide(-0.5, self.sigma * self.sigma, out=i)
        np.multiply(i, self.mu, out=i_mu)
        np.log(ROOT_2PI * self.sigma * np.maximum(self.mass, 1e-300), out=rest)
        np.subtract(i_mu * self.mu, rest, out=rest)
        i_mu *= -2.0
        if not self.full:
            out[:m, : 3 * n] *= np.tile(self.known, 3)
        if len(kinds.categorical):
            any_other = np.vstack([1.0 - self.loyalty, np.ones_like(kinds.counts)]) / kinds.counts
            out[:, 3 * n :] = np.repeat(np.log(any_other), kinds.counts, axis=1)
            out[np.arange(m)[:, None], 3 * n + kinds.offset + self.own] = np.log(any_other[:m] + self.loyalty)
        return out

    def sample(self, weights: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw rows of the cube from the first density, shape (n, p), every coordinate set."""
        kinds, m = self.kinds, self.sizes[0]
        out = rng.random((n, len(kinds.numeric) + len(kinds.categorical)))
        kernel = np.searchsorted(np.cumsum(weights)[:-1], rng.random(n), side="right")
        of, real = np.minimum(kernel, max(m - 1, 0)), (kernel < m)[:, None]
        u = out[:, kinds.numeric]
        x = self.mu[of] + self.sigma[of] * ndtri(np.maximum(self.below[of] + u * self.mass[of], 1e-300))
        out[:, kinds.numeric] = np.where(self.known[of] & real, np.minimum(np.maximum(x, 0.0), 1.0), u)
        if len(kinds.categorical):
            loyal = real & (rng.random((n, len(kinds.categorical))) < self.loyalty[of])
            own = (self.own[of] + 0.5) / kinds.counts
            out[:, kinds.categorical] = np.where(loyal, own, out[:, kinds.categorical])
        return out

    def log_densities(self, unit: np.ndarray, *weights: np.ndarray) -> list[np.ndarray]:
        """Return the log density of each set at activated rows, shape (q,); what is inactive in one counts for nothing.

        ``weights`` of a set are those of its kernels and, last, of the uniform one.
        """
        kinds = self.kinds
        x = unit[:, kinds.numeric]
        active = ~np.isnan(x)
        if not active.all():
            x[~active] = 0.0
        features = [x, x * x, active]
        if len(kinds.categorical):
            index, active = kinds.choices(unit)
            hot = np.zeros((len(unit), int(kinds.counts.sum())))
            hot[np.arange(len(unit))[:, None], kinds.offset + index] = active
            features.append(hot)
        exponents = self.table @ np.hstack(features).T  # (m + 1, q)
        uniform, begin, found = exponents[-1], 0, []
        for size, w in zip(self.sizes, weights, strict=True):
            own = exponents[begin : begin + size]
            top = np.maximum(own.max(0, initial=-np.inf), uniform)
            own -= top
            found.append(top + np.log(w[:-1] @ np.exp(own, out=own) + w[-1] * np.exp(uniform - top)))
            begin += size
        return found


def cut_off(z: np.ndarray) -> np.ndarray:
    """Return the mass of a standard normal distribution below ``z``; 0 below -6, where it is under a billionth.

    Most kernels are nowhere near an end of the range, and the function is dear.
    """
    mass, near = np.zeros(z.shape), z > -6.0
    mass[near] = ndtr(z[near])
    return mass


def widths(mu: np.ndarray, sizes: Sequence[int], cell: np.ndarray) -> np.ndarray:
    """Return the widths of kernels at ``mu``, shape (m, numeric), NaN where unknown: the larger gap to a neighbour.

    Neighbours are of the same set; the sets, of ``sizes`` rows, stand one below the other. As in the reference
    implementation the ends of the range are neighbours only of what has no other. Widths are clipped to
    1/min(100, m + 2) … 1, and to half a cell at least.
    """
    m, p = mu.shape
    columns = mu.T + np.repeat(2.0 * np.arange(len(sizes)), sizes)  # so that sets do not mix
    order = np.argsort(columns, axis=1)  # NaN comes last
    order += m * np.arange(p)[:, None]
    ranked = columns.ravel()[order]
    gaps = np.full((p, m + 1), np.nan)
    np.subtract(ranked[:, 1:], ranked[:, :-1], out=gaps[:, 1:-1])
    gaps[gaps > 1.0] = np.nan  # from one set to the next
    sigma = np.empty(p * m)
    sigma[order] = np.fmax(gaps[:, :-1], gaps[:, 1:])
    sigma = sigma.reshape(p, m).T
    alone = np.isnan(sigma)
    if alone.any():
        sigma = np.where(alone, np.maximum(mu, 1.0 - mu), sigma)
    narrowest = np.repeat([1.0 / min(WIDEST, size + 2.0) for size in sizes], sizes)
    return np.minimum(np.fmax(sigma, np.maximum(narrowest[:, None], 0.5 * cell)), 1.0)
