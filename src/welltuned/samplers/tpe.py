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
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from scipy.special import ndtr, ndtri

from welltuned.errors import InvalidType, InvalidValue
from welltuned.history import History
from welltuned.pareto import penalised, scalarise
from welltuned.samplers.initial import initial_design
from welltuned.samplers.novel import novel
from welltuned.space import Categorical, Params, Space, codec

MOST_GOOD = 25
MOST_OTHER = 64  # kernels of the others; beyond, the latest 25 and a random choice of the rest
LATEST = 25
WIDEST = 100.0


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
        for name in ("initial", "candidates"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise InvalidType(f"TPE: {name}={value!r} is not a whole number")
            if value < 1:
                raise InvalidValue(f"TPE: {name}={value!r} must be at least 1")

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
        lower = Mixture(kinds, good, weights)
        for _ in range(n - len(chosen)):
            upper = Mixture(kinds, np.vstack([other, pending]), recency(len(other) + len(pending)))
            ranked = self.ranked(space, lower, upper, rng)
            fresh = novel(space, history, (space.decode(r[None], activated=True)[0] for r in ranked), 1, rng, seen)
            if not fresh:
                break
            chosen += fresh
            if len(chosen) < n:
                pending = np.vstack([pending, space.encode(fresh)])
        return chosen

    def ranked(self, space: Space, lower: Mixture, upper: Mixture, rng: np.random.Generator) -> np.ndarray:
        """Return allowed draws from the good density, the largest ratio to the other one first."""
        for _ in range(8):
            unit = space.activate(lower.sample(self.candidates, rng))
            unit = unit[space.feasible(unit)]
            if len(unit):
                break
        return unit[np.argsort(upper.log_density(unit) - lower.log_density(unit), kind="stable")]


def split(history: History, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the good rows, the other ones in the order of their trials, and the weights of good ones and the prior.

    A good trial weighs as much as it is better than the worst of the good ones; the prior as much as their mean
    (Watanabe, section 3.3). Failed trials are among the others.
    """
    rows = np.flatnonzero(history.observed)
    y = penalised(scalarise(history.losses[rows], rng), history.violations[rows])
    m = min(int(np.ceil(0.1 * len(y))), MOST_GOOD)
    order = np.argsort(y, kind="stable")
    good, threshold = order[:m], y[order[min(m, len(y) - 1)]]
    gains = np.maximum(threshold - y[good], 0.0)
    top = gains.max(initial=0.0)
    gains = gains / top if top > 0 and np.isfinite(top) else np.ones(m)
    weights = np.append(gains, gains.mean())
    other = np.sort(np.concatenate([rows[order[m:]], np.flatnonzero(history.failed)]))
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


class Mixture:
    """A mixture density over rows of the cube: a kernel for each of m rows, shape (m, p), and a uniform one.

    Numbers have normal kernels truncated to [0, 1], as wide as the larger gap to their neighbours; of a category a
    kernel has its own choice with probability 1/(1 + K/(m + 1)), and otherwise any of the K. ``weights`` has m + 1
    entries, the last one that of the uniform kernel.
    """

    def __init__(self, kinds: Kinds, rows: np.ndarray, weights: np.ndarray) -> None:
        self.kinds, self.rows, self.weights = kinds, rows, weights
        mu = rows[:, kinds.numeric]
        self.known = ~np.isnan(mu)
        self.mu = np.where(self.known, mu, 0.5)
        self.sigma = widths(mu, kinds.cell)
        self.own, self.chosen = kinds.choices(rows)
        self.loyalty = 1.0 / (1.0 + kinds.counts / (len(rows) + 1.0))

    @cached_property
    def tails(self) -> tuple[np.ndarray, np.ndarray]:
        """Mass of each kernel below 0, and within [0, 1]; shapes (m, numeric)."""
        below = ndtr(-self.mu / self.sigma)
        return below, ndtr((1.0 - self.mu) / self.sigma) - below

    @cached_property
    def exponents(self) -> np.ndarray:
        """What multiplies x, x² and 1 in the log density of each kernel, side by side, shape (m, 3 numeric); 0 where
        unknown.

        -(x - μ)²/2σ² - log z = 2iμ x - i x² - (iμ² + log z), with i = 1/2σ² and the normalisation z = √2π σ · mass.
        """
        n = len(self.kinds.numeric)
        out = np.empty((len(self.rows), 3 * n))
        i_mu, i, rest = out[:, :n], out[:, n : 2 * n], out[:, 2 * n :]
        np.divide(-0.5, self.sigma * self.sigma, out=i)
        np.multiply(i, self.mu, out=i_mu)
        np.log(np.sqrt(2.0 * np.pi) * self.sigma * np.maximum(self.tails[1], 1e-300), out=rest)
        np.subtract(i_mu * self.mu, rest, out=rest)
        i_mu *= -2.0
        if not self.known.all():
            out *= np.tile(self.known, 3)
        return out

    @cached_property
    def log_choices(self) -> np.ndarray:
        """Log probability of every choice of every category under each kernel, shape (m + 1, all choices)."""
        kinds, m = self.kinds, len(self.rows)
        table = np.repeat(np.repeat((1.0 / kinds.counts)[None], m + 1, axis=0), kinds.counts, axis=1)
        loyal = self.chosen * self.loyalty
        table[:m] *= np.repeat(1.0 - loyal, kinds.counts, axis=1)
        rows = np.arange(m)[:, None]
        table[rows, kinds.offset + self.own] += loyal
        return np.log(table)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw rows of the cube, shape (n, p), every coordinate set."""
        kinds, m = self.kinds, len(self.rows)
        out = rng.random((n, len(kinds.numeric) + len(kinds.categorical)))
        kernel = np.searchsorted(np.cumsum(self.weights)[:-1], rng.random(n), side="right")
        of, real = np.minimum(kernel, max(m - 1, 0)), (kernel < m)[:, None]
        below, mass = self.tails
        u = out[:, kinds.numeric]
        x = self.mu[of] + self.sigma[of] * ndtri(np.maximum(below[of] + u * mass[of], 1e-300))
        out[:, kinds.numeric] = np.where(self.known[of] & real, np.minimum(np.maximum(x, 0.0), 1.0), u)
        if len(kinds.categorical):
            loyal = self.chosen[of] & real & (rng.random((n, len(kinds.categorical))) < self.loyalty)
            own = (self.own[of] + 0.5) / kinds.counts
            out[:, kinds.categorical] = np.where(loyal, own, out[:, kinds.categorical])
        return out

    def log_density(self, unit: np.ndarray) -> np.ndarray:
        """Return the log density of activated rows, shape (q,); what is inactive in a row counts for nothing."""
        kinds = self.kinds
        x = unit[:, kinds.numeric]
        active = ~np.isnan(x)
        x = np.where(active, x, 0.0)
        E = np.empty((len(unit), len(self.weights)))
        E[:, -1] = 0.0
        np.matmul(np.hstack([x, x * x, active]), self.exponents.T, out=E[:, :-1])
        if len(kinds.categorical):
            index, active = kinds.choices(unit)
            hot = np.zeros((len(unit), int(kinds.counts.sum())))
            hot[np.arange(len(unit))[:, None], kinds.offset + index] = active
            E += hot @ self.log_choices.T
        with np.errstate(divide="ignore"):
            E += np.log(self.weights)
        top = E.max(1)
        return top + np.log(np.exp(E - top[:, None]).sum(1))


def widths(mu: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Return the widths of kernels at ``mu``, shape (m, numeric), NaN where unknown: the larger gap to a neighbour.

    They are clipped to 1/min(100, m + 2) … 1, and to half a cell at least.
    """
    m, p = mu.shape
    if not m:
        return np.ones_like(mu)
    columns = np.ascontiguousarray(mu.T)
    order = np.argsort(columns, axis=1)  # NaN comes last
    order += m * np.arange(p)[:, None]
    ranked = columns.ravel()[order]
    # as in the reference implementation the ends of the range are no neighbours, unless there are no others
    gaps = np.full((p, m + 1), np.nan)
    np.subtract(ranked[:, 1:], ranked[:, :-1], out=gaps[:, 1:-1])
    if m == 1 or np.isnan(ranked[:, 1]).any():
        alone = np.isnan(ranked[:, 1]) if m > 1 else np.ones(p, dtype=bool)
        gaps[alone, 0] = ranked[alone, 0]
        gaps[alone, 1] = 1.0 - ranked[alone, 0]
    sigma = np.empty(p * m)
    sigma[order] = np.fmax(gaps[:, :-1], gaps[:, 1:])
    narrowest = np.maximum(1.0 / min(WIDEST, m + 2.0), 0.5 * cell)
    return np.minimum(np.fmax(sigma.reshape(p, m).T, narrowest), 1.0)
