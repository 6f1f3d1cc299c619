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
import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from welltuned.history import History
from welltuned.later import special
from welltuned.pareto import penalised, scalarise
from welltuned.samplers.initial import initial_design
from welltuned.samplers.novel import novel
from welltuned.settings import check_whole
from welltuned.space import Categorical, Params, Space, codec

MOST_GOOD = 25
MOST_OTHER = 64  # kernels of the others; beyond, the latest 25 and a random choice of the rest
LATEST = 25
WIDEST = 100.0
CAUTION = 1.5  # more than one, as kernels blur the edge of where trials fail
TRIES = 8  # draws of candidates, where constraints allow none of them
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
        seen: set[str] = set()
        known, pending = np.count_nonzero(history.observed), history.pending
        started = np.count_nonzero(history.observed | history.failed | pending)
        design = n if known < 2 else max(0, min(n, self.initial - started))
        chosen: list[Params] = []
        if design:
            chosen = novel(space, history, initial_design(space, history, design, rng), design, rng, seen)
            if len(chosen) < design or design == n:
                return chosen
        good, other, weights = split(history, rng)
        rows = history.unit[np.concatenate([good, other, np.flatnonzero(pending)])]
        success = Success(space, history) if history.failed.any() else None
        fresh = chosen
        while len(chosen) < n:
            if fresh:
                rows = np.vstack([rows, space.encode(fresh)])
            kernels = Kernels(layout_of(space, len(good), len(rows) - len(good)), rows)
            ranked = self.ranked(space, kernels, weights, rng, success)
            fresh = novel(space, history, (space.decode(r[None], activated=True)[0] for r in ranked), 1, rng, seen)
            if not fresh:
                break
            chosen += fresh
        return chosen

    def ranked(
        self,
        space: Space,
        kernels: Kernels,
        weights: np.ndarray,
        rng: np.random.Generator,
        success: Success | None = None,
    ) -> np.ndarray:
        """Return allowed draws from the good density, the largest ratio to the other one first; none where none is.

        Where trials fail, the ratio counts the less the likelier a draw is to fail.
        """
        for _ in range(TRIES):
            unit = space.switch_off(kernels.sample(weights, self.candidates, rng))
            allowed = space.feasible(unit)
            if not allowed.all():
                unit = unit[allowed]
            if len(unit):
                break
        good, other = kernels.log_densities(unit, weights, recency(kernels.layout.sizes[1])).T
        score = other - good if success is None else other - good - CAUTION * success.log_probability(unit)
        return unit[np.argsort(score, kind="stable")]


def split(history: History, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return indices of the good trials, and of the other ones in their order, and the weights of good ones and the
    prior.

    A good trial weighs as much as it is better than the best of the other ones; the prior as much as their mean
    (Watanabe, section 3.3). Failed trials are among the others.
    """
    rows = np.flatnonzero(history.observed)
    y = penalised(scalarise(history.losses[rows], rng), history.violations[rows])
    m = min(math.ceil(0.1 * len(y)), MOST_GOOD)
    threshold = np.partition(y, m)[m] if m < len(y) else y.max()
    good = np.flatnonzero(y < threshold)
    good = np.concatenate([good, np.flatnonzero(y == threshold)[: m - len(good)]])  # of equal ones the first
    weights = np.ones(m + 1)
    gains = threshold - y[good]
    top = gains.max()
    if top > 0 and np.isfinite(top):
        weights[:m] = gains / top
    weights[m] = weights[:m].sum() / m
    good = rows[good]
    others = history.observed | history.failed
    others[good] = False
    other = np.flatnonzero(others)
    if len(other) > MOST_OTHER:
        old = rng.choice(len(other) - LATEST, MOST_OTHER - LATEST, replace=False)
        old.sort()
        other = np.concatenate([other[old], other[-LATEST:]])
    return good, other, weights / weights.sum()


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
    choices: int

    def chosen(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which of all choices coordinates stand for, shape (categories, n), and which of them are active."""
        active = u == u
        index = (np.where(active, u, 0.0) * self.counts[:, None]).astype(int)
        return np.minimum(index, self.counts[:, None] - 1) + self.offset[:, None], active


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
        int(counts.sum()),
    )


@dataclass(frozen=True)
class Layout:
    """What the kernels of sets of rows have in common, whatever the rows: they follow from the space and the sizes.

    The sets, of ``sizes`` rows, stand one after the other, and the set of each row is ``of``; ``begin`` has their first
    rows, and ``first`` where the rows of each number begin in a flat array. What follows is by row: the least width of
    a number, the probability that a category is a kernel's own choice, and the logarithms of what its own choice has
    then, and of what any other one has: of each choice, with a uniform kernel as the last.
    """

    kinds: Kinds
    sizes: tuple[int, ...]
    of: np.ndarray
    begin: np.ndarray
    first: np.ndarray
    narrowest: np.ndarray
    loyalty: np.ndarray
    log_own: np.ndarray
    log_any: np.ndarray


@functools.lru_cache(maxsize=16)
def layout_of(space: Space, *sizes: int) -> Layout:
    """Return the layout of sets of these sizes. They change seldom: with every tenth trial, or what is under way."""
    kinds, of = kinds_of(space), np.repeat(np.arange(len(sizes)), sizes)
    rows = np.array(sizes)[of]
    loyalty = 1.0 / (1.0 + kinds.counts[:, None] / (rows + 1.0))
    any_other = np.hstack([1.0 - loyalty, np.ones((len(kinds.counts), 1))]) / kinds.counts[:, None]
    return Layout(
        kinds,
        sizes,
        of,
        np.cumsum(sizes) - sizes,
        len(rows) * np.arange(len(kinds.numeric))[:, None],
        np.maximum(1.0 / np.minimum(WIDEST, rows + 2.0), 0.5 * kinds.cell[:, None]),
        loyalty,
        np.log(any_other[:, :-1] + loyalty),
        np.repeat(np.log(any_other), kinds.counts, axis=0),
    )


class Kernels:
    """Densities over rows of the cube, side by side in one table: of each set of rows, a kernel per row.

    Numbers have normal kernels truncated to [0, 1], as wide as the larger gap to their neighbours in the set; of a
    category a kernel has its own choice with probability 1/(1 + K/(m + 1)), and otherwise any of the K, with m rows in
    the set. A density has one more kernel, the last of its weights, that is uniform.

    Arrays have a row per parameter here, and a column per kernel.
    """

    def __init__(self, layout: Layout, rows: np.ndarray) -> None:
        self.layout = layout
        mu = rows.T[layout.kinds.numeric]
        self.sigma = widths(mu, layout)
        self.known = mu == mu
        self.centre = rows.T[layout.kinds.categorical]
        self.own, self.chosen = layout.kinds.chosen(self.centre)
        self.full = bool(self.known.all() and self.chosen.all())
        self.mu = mu if self.full else np.where(self.known, mu, 0.5)
        ends = np.empty((2, *mu.shape))
        np.negative(self.mu, out=ends[0])
        np.subtract(self.mu, 1.0, out=ends[1])
        ends /= self.sigma
        self.below, above = cut_off(ends)
        self.mass = 1.0 - self.below - above

    @cached_property
    def table(self) -> np.ndarray:
        """What the log density of each kernel is made of, shape (3 numeric + all choices, m + 1); the last is uniform.

        A number adds 2iμ x - i x² - (iμ² + log z), with i = 1/2σ² and the normalisation z = √2π σ · mass: what
        multiplies x, x² and 1 stands one below the other, 0 where unknown. A category adds the logarithm of the
        probability of its choice.
        """
        kinds, (n, m) = self.layout.kinds, self.mu.shape
        out = np.zeros((3 * n + kinds.choices, m + 1))
        numbers, choices = out[: 3 * n].reshape(3, n, m + 1)[:, :, :m], out[3 * n :]
        linear, square, rest = numbers
        np.multiply(self.sigma, self.sigma, out=square)
        np.divide(-0.5, square, out=square)
        np.multiply(square, self.mu, out=linear)
        np.multiply(linear, self.mu, out=rest)
        linear *= -2.0
        z = ROOT_2PI * self.sigma
        z *= self.mass
        rest -= np.log(z, out=z)
        choices[:], own = self.layout.log_any, self.layout.log_own
        if not self.full:
            numbers *= self.known
            known = np.repeat(self.chosen, kinds.counts, axis=0)
            choices[:, :m] = np.where(known, choices[:, :m], choices[:, m:])
            own = np.where(self.chosen, own, choices[kinds.offset, m:])
        choices[self.own, np.arange(m)] = own
        return out

    def sample(self, weights: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw rows of the cube from the first density, shape (n, p), every coordinate set."""
        kinds, m = self.layout.kinds, self.layout.sizes[0]
        out = rng.random((n, len(kinds.numeric) + len(kinds.categorical)))
        kernel = weights[:-1].cumsum().searchsorted(rng.random(n), side="right")
        of, real = np.minimum(kernel, max(m - 1, 0)), kernel < m
        u = out.T[kinds.numeric]
        x = self.below[:, of] + u * self.mass[:, of]
        x = self.mu[:, of] + self.sigma[:, of] * special.ndtri(np.maximum(x, 1e-300, out=x), out=x)
        x = np.minimum(np.maximum(x, 0.0, out=x), 1.0, out=x)
        known = real if self.full else self.known[:, of] & real
        out.T[kinds.numeric] = np.where(known, x, u)
        if kinds.choices:
            loyal = (self.layout.loyalty[:, of] > rng.random((n, len(kinds.categorical))).T) & real
            if not self.full:
                loyal &= self.chosen[:, of]
            out.T[kinds.categorical] = np.where(loyal, self.centre[:, of], out.T[kinds.categorical])
        return out

    def log_densities(self, unit: np.ndarray, *weights: np.ndarray) -> np.ndarray:
        """Return the log density of each set at activated rows, shape (q, sets); what is inactive in one counts for
        nothing.

        ``weights`` of a set are those of its kernels and, last, of the uniform one.
        """
        kinds, n = self.layout.kinds, len(self.mu)
        features = np.zeros((3 * n + kinds.choices, len(unit)))
        x, square, active = features[: 3 * n].reshape(3, n, len(unit))
        x[:] = unit.T[kinds.numeric]
        np.equal(x, x, out=active)
        if not active.all():
            x[active == 0.0] = 0.0
        np.multiply(x, x, out=square)
        if kinds.choices:
            index, known = kinds.chosen(unit.T[kinds.categorical])
            features[3 * n + index, np.arange(len(unit))] = known
        exponents = features.T @ self.table  # (q, m + 1)
        own, uniform = exponents[:, :-1], exponents[:, -1:]
        begin, of = self.layout.begin, self.layout.of
        top = np.maximum(np.maximum.reduceat(own, begin, axis=1), uniform)
        own -= top[:, of]
        np.exp(own, out=own)
        own *= np.concatenate([w[:-1] for w in weights])
        found = np.exp(uniform - top)
        found *= [w[-1] for w in weights]
        found += np.add.reduceat(own, begin, axis=1)
        return top + np.log(found, out=found)


class Success:
    """The probability that a trial succeeds, by the densities of trials that did and of those that failed."""

    def __init__(self, space: Space, history: History) -> None:
        sets = [np.flatnonzero(of) for of in (history.observed, history.failed)]
        self.share = np.log([len(rows) + 1.0 for rows in sets])
        latest = [rows[-MOST_OTHER:] for rows in sets]
        self.kernels = Kernels(layout_of(space, *map(len, latest)), history.unit[np.concatenate(latest)])
        self.weights = [np.full(len(rows) + 1, 1.0 / (len(rows) + 1)) for rows in latest]

    def log_probability(self, unit: np.ndarray) -> np.ndarray:
        """Return the logarithm of the probability at activated rows, shape (q,)."""
        succeeded, failed = (self.kernels.log_densities(unit, *self.weights) + self.share).T
        return succeeded - np.logaddexp(succeeded, failed)


def cut_off(z: np.ndarray) -> np.ndarray:
    """Return the mass of a standard normal distribution below ``z``; 0 below -6, where it is under a billionth.

    Most kernels are nowhere near an end of the range, and the function is dear.
    """
    mass, near = np.zeros(z.shape), z > -6.0
    mass[near] = special.ndtr(z[near])
    return mass


def widths(mu: np.ndarray, layout: Layout) -> np.ndarray:
    """Return the widths of kernels at ``mu``, shape (numeric, m), NaN where unknown: the larger gap to a neighbour.

    Neighbours are of the same set. As in the reference implementation the ends of the range are neighbours only of
    what has no other. Widths are 1/min(100, m + 2) at least, with m rows in the set, and half a cell.
    """
    p, m = mu.shape
    columns = mu + 2.0 * layout.of  # so that sets do not mix
    order = columns.argsort(axis=1)  # NaN comes last
    order += layout.first  # positions in all of the table
    ranked = columns.ravel()[order]
    gaps = np.full((p, m + 1), np.nan)
    np.subtract(ranked[:, 1:], ranked[:, :-1], out=gaps[:, 1:-1])
    gaps[gaps > 1.0] = np.nan  # from one set to the next
    flat = np.empty(p * m)
    flat[order] = np.fmax(gaps[:, :-1], gaps[:, 1:])
    sigma = flat.reshape(p, m)
    alone = np.isnan(sigma)
    if alone.any():
        sigma = np.where(alone, np.maximum(mu, 1.0 - mu), sigma)
    return np.fmax(sigma, layout.narrowest)
