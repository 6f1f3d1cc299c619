"""Which hyperparameters matter, and which of them together: Sobol indices of a Gaussian process fitted to the trials.

Symbols: f the model's mean; A and B two independent samples of the space; A_j the first with parameter j as in B.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from welltuned.samplers.novel import draw
from welltuned.samplers.sobol import MAX_DIMENSION, points
from welltuned.settings import real, whole
from welltuned.space import codec
from welltuned.stats.fitted import Fitted, columns_of, fitted
from welltuned.stats.knowledge import asked
from welltuned.surrogate.threads import single_threaded

LEAST = 0.01  # share below which a parameter is not looked at in pairs
MOST = 12  # parameters that are
BINS = 16  # classes of a number, where only the best part of a space is looked at
PER_SAMPLE, MOST_DRAWS = 4, 65_536  # draws of it for each sample
KNOWN = 512  # of which it is asked how well they are known
SPOKEN_OF = 0.02  # share from which on two parameters are said to interact


def importance(
    history: Any,
    objective: str | None = None,
    *,
    among: float = 1.0,
    alone: bool = False,
    samples: int = 1024,
    seed: int = 0,
) -> dict[str, float]:
    """Return for each parameter the share of the objective's variance that involves it, largest first.

    The share counts interactions in full for each parameter that takes part, so the shares may add up to more than
    1. They are those of a model fitted to the trials, over the whole space, times the share of the variance that the
    model predicts of trials it was not shown: of pure noise nothing is important, and with few trials the shares are
    rough. What is a hundred times as far from the best value as all better ones has diverged, and is clipped. Jansen
    (1999), as in Saltelli et al., *Variance based sensitivity analysis of model output*, 2010, table 2 (f).

    What decides whether a setting is bad is often known already. ``among=0.25`` asks what the best quarter of the space
    differs by: a choice that nothing good has counts for nothing then, and what is worth tuning further comes first.
    There each parameter counts with what it explains by itself (the correlation ratio; compare Watanabe, Bansal and
    Hutter, *PED-ANOVA*, 2023, who take the densities of the best trials).

    Parameters
    ----------
    history
        A study, or a history, with at least four results; with fewer, or when all are equal, the result is empty.
    objective
        Which objective; the first unless given.
    among
        The share of the space that is looked at, above 0: all of it, or those configurations of which the model expects
        the best.
    alone
        Return what each parameter explains by itself instead, its first-order index (table 2 (b)): no interaction
        counts, so the shares add up to 1 at most, but for errors of sampling.
    samples
        Configurations drawn to estimate each share.
    seed
        Of the draws.

    Raises
    ------
    InvalidType, InvalidValue
        For what is neither a study nor a history, an objective that it does not have, and settings that are none.

    Examples
    --------
    >>> from welltuned import History, Space
    >>> importance(History(Space({"x": (0.0, 1.0)})))
    {}
    >>> from welltuned import Study
    >>> study = Study({"optimizer": ["adam", "sgd"], "x": (-1.0, 1.0)}, sampler="qmc", seed=0)
    >>> study.optimize(lambda p: p["x"] ** 2 + 5 * (p["optimizer"] == "sgd"), n_trials=40)
    >>> list(importance(study)), list(importance(study, among=0.25))
    (['optimizer', 'x'], ['x', 'optimizer'])
    """
    history = asked(history, objective, "importance")
    real("importance: among", among, above=0, most=1)
    rng = np.random.default_rng(whole("importance: seed", seed, 0))
    whole("importance: samples", samples)
    with single_threaded():
        model = fitted(history, objective, rng)
        if model is None:
            return {}
        if among < 1.0:
            sample = _Samples.of(model, min(int(np.ceil(samples * PER_SAMPLE / among)), MOST_DRAWS), rng)
            # what is far worse would leave no scale for the differences among the best
            ceiling = model.loss(_Best.of(sample, among).ceiling)
            best = _Best.of(replace(sample, model=fitted(history, objective, rng, ceiling) or model), among)
            return _sorted({name: best.share(columns) for name, columns in columns_of(model.space).items()})
        sample = _Samples.of(model, samples, rng)
        share = sample.alone if alone else sample.total
        return _sorted({name: share(columns) for name, columns in columns_of(model.space).items()})


def interactions(
    history: Any, objective: str | None = None, *, samples: int = 1024, seed: int = 0
) -> dict[tuple[str, str], float]:
    """Return for pairs of parameters the share of the objective's variance that belongs to them together.

    It is what neither explains alone nor both explain as a sum: how far the effect of one depends on the other. A
    third parameter that changes how two go together counts for all its pairs, as in :func:`importance`, and no share
    is larger than the :func:`importance` of either of the two. So only parameters that matter are looked at: of those
    whose importance is 1 % or more, at most twelve. That a parameter does nothing while it is inactive is no
    interaction: a pair counts where both are active. Of pure noise nothing interacts; from fewer than some ten trials
    for each parameter that matters, or where hardly any trial had one of the choices, shares are rough.

    Superset importance as the mean of squared second differences: Liu and Owen, *Estimating mean dimensionality of
    analysis of variance decompositions*, 2006.

    Parameters
    ----------
    history
        A study, or a history, with at least four results; with fewer, or when all are equal, the result is empty.
    objective
        Which objective; the first unless given.
    samples
        Configurations drawn to estimate each share.
    seed
        Of the draws.

    Returns
    -------
    dict
        From pairs of names, each in the order of the space, to shares between 0 and 1, largest first.

    Raises
    ------
    InvalidType, InvalidValue
        For what is neither a study nor a history, an objective that it does not have, and settings that are none.

    Examples
    --------
    >>> from welltuned import Study
    >>> study = Study({"x": (-1.0, 1.0), "y": (-1.0, 1.0)}, sampler="qmc", seed=0)
    >>> study.optimize(lambda p: p["x"] * p["y"], n_trials=40)
    >>> {pair: round(share, 1) for pair, share in interactions(study).items()}
    {('x', 'y'): 1.0}
    """
    history = asked(history, objective, "interactions")
    rng = np.random.default_rng(whole("interactions: seed", seed, 0))
    whole("interactions: samples", samples)
    with single_threaded():
        model = fitted(history, objective, rng)
        if model is None:
            return {}
        sample, columns = _Samples.of(model, samples, rng), columns_of(model.space)
        totals = _sorted({name: sample.total(columns[name]) for name in columns})
        matter = [name for name, share in totals.items() if share >= LEAST][:MOST]
        swapped = {name: sample.swapped(columns[name]) for name in columns if name in matter}
        return _sorted(
            {
                (a, b): sample.together(columns[a], columns[b], swapped[a], swapped[b])
                for a, b in combinations(swapped, 2)
            }
        )


def _sorted(shares: dict[Any, float]) -> dict[Any, float]:
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


@dataclass(frozen=True)
class _Values:
    """The function at n rows: f, shape (n,); which are allowed, shape (n,); what is active there, shape (n, p)."""

    f: np.ndarray
    allowed: np.ndarray
    active: np.ndarray


@dataclass(frozen=True)
class _Samples:
    """Two independent samples of the space, and shares of the variance estimated from them.

    Attributes
    ----------
    model
        The function f.
    A, B
        Rows of the cube in which all coordinates are set, shape (n, p). Those of A satisfy the space's constraints.
    """

    model: Fitted
    A: np.ndarray
    B: np.ndarray

    @classmethod
    def of(cls, model: Fitted, n: int, rng: np.random.Generator) -> _Samples:
        """Draw the first points of a Sobol sequence, whose errors are a fraction of those of chance."""
        space, p = model.space, len(model.space)
        # evenly, whatever was believed beforehand
        sequence = 2 * p <= MAX_DIMENSION
        both = points(2 * p, int(np.ceil(np.log2(n))), rng)[:n] if sequence else rng.random((n, 2 * p))
        for j, column in enumerate(model.rows.T):
            # of what trials have never varied nothing is known, nor what the others would do at other values of it
            if len(known := np.unique(column[~np.isnan(column)])) == 1:
                both[:, [j, p + j]] = known[0]
        kept = both[space.feasible(space.activate(both[:, :p]))]
        if len(kept) > n // 8:
            return cls(model, kept[:, :p], kept[:, p:])
        A, B = draw(space, n, rng, priors=False), rng.random((n, p))
        return cls(model, np.where(np.isnan(A), rng.random((n, p)), A), B)

    def at(self, rows: np.ndarray) -> _Values:
        space = self.model.space
        unit = space.activate(rows)
        return _Values(self.model.mean(unit), space.feasible(unit), ~np.isnan(unit))

    def swapped(self, j: list[int]) -> _Values:
        rows = self.A.copy()
        rows[:, j] = self.B[:, j]
        return self.at(rows)

    @cached_property
    def first(self) -> _Values:
        return self.at(self.A)

    @cached_property
    def second(self) -> _Values:
        return self.at(self.B)

    @cached_property
    def variance(self) -> float:
        """The variance of f, and of what the model cannot predict of trials it was not shown: that is nobody's."""
        explained = self.model.explained
        return float(self.first.f.var()) / explained if explained > 0 else np.inf

    def total(self, j: list[int]) -> float:
        """Return E[(f(A) - f(A_j))²] / 2 as a share of the variance."""
        new = self.swapped(j)
        return self._share(0.5 * (self.first.f - new.f)[new.allowed] ** 2)

    def alone(self, j: list[int]) -> float:
        """Return E[f(B) (f(A_j) - f(A))] as a share of the variance."""
        new, other = self.swapped(j), self.second
        ok = new.allowed & other.allowed
        return self._share(((other.f - self.first.f.mean()) * (new.f - self.first.f))[ok])

    def together(self, j: list[int], k: list[int], A_j: _Values, A_k: _Values) -> float:
        """Return E[(f(A) - f(A_j) - f(A_k) + f(A_jk))²] / 4 as a share of the variance, where both are active."""
        A_jk = self.swapped(j + k)
        corners = (self.first, A_j, A_k, A_jk)
        ok = np.all([c.allowed for c in corners], axis=0)
        both = np.all([c.active[:, columns].any(1) for c in corners for columns in (j, k)], axis=0)
        return self._share((0.25 * both * (self.first.f - A_j.f - A_k.f + A_jk.f) ** 2)[ok])

    def _share(self, parts: np.ndarray) -> float:
        """Return the mean of ``parts`` of the variance as a share of it."""
        return float(np.clip(parts.mean() / self.variance, 0.0, 1.0)) if len(parts) and self.variance > 0 else 0.0


@dataclass(frozen=True)
class _Best:
    """What is expected to be the best part of the space: f, shape (n,), rows of the cube and what is active there."""

    model: Fitted
    f: np.ndarray
    rows: np.ndarray
    active: np.ndarray

    @classmethod
    def of(cls, sample: _Samples, among: float) -> _Best:
        """Keep the best of a sample of the whole space."""
        f = sample.first.f
        best = f <= np.quantile(f, among)
        return cls(sample.model, f[best], sample.A[best], sample.first.active[best])

    @property
    def ceiling(self) -> float:
        """As far beyond the worst of them as the best of them is before it."""
        return float(2.0 * self.f.max() - self.f.min())

    def share(self, j: list[int]) -> float:
        """Return the correlation ratio, less what it is by chance: the variance between classes of a parameter as a
        share of all, of which what the model does not know is nobody's.
        """
        parameters = list(self.model.space.values())
        bins = np.array([min(codec.cells(parameters[i]) or BINS, BINS) for i in j])
        classes = (self.rows[:, j] * bins).astype(int) + BINS * np.arange(len(j))
        # of several grids in a list, each configuration is of one
        found, of = np.unique(np.where(self.active[:, j], classes, -1).max(axis=1), return_inverse=True)
        sizes, n = np.bincount(of), len(self.f)
        between = (sizes * (np.bincount(of, self.f) / sizes - self.f.mean()) ** 2).sum() / n
        by_chance = (len(found) - 1) / max(n - 1, 1) * self.f.var()
        return float(max(between - by_chance, 0.0) / self.variance) if self.variance > 0 else 0.0

    @cached_property
    def variance(self) -> float:
        """The variance of f, and that of what is not known of it."""
        rows = np.where(self.active, self.rows, np.nan)[:KNOWN]
        return float(self.f.var()) + self.model.doubt(self.model.space.activate(rows))
