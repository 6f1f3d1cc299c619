"""Bayesian optimisation: a Gaussian process over every kind of space, and expected improvement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from welltuned.errors import InvalidType, InvalidValue
from welltuned.history import History
from welltuned.samplers.novel import novel
from welltuned.samplers.qmc import spread
from welltuned.space import Categorical, Params, Space
from welltuned.streams import origin
from welltuned.surrogate.acquisition import Acquisition
from welltuned.surrogate.maximise import candidates, neighbours, polish
from welltuned.surrogate.model import Model, model

STARTS = 5
POOL = 512
SCREENED = 64
CENTRE = False


@dataclass(frozen=True)
class Bayes:
    """Propose where a Gaussian process expects the largest improvement.

    Mixed and conditional spaces share one embedding. Running trials enter as fantasies of their results. Failed trials
    teach a second process the probability of success. Several objectives are scalarised anew for each trial (Knowles,
    *ParEGO*, 2006).

    Parameters
    ----------
    initial
        Trials that are spread over the space before the model takes over: ``min(max(p + 1, 4), 10)`` unless given. The
        defaults of the parameters, where there are any, come first.
    fantasies
        How many joint draws of the running trials' results are averaged; even.

    Examples
    --------
    >>> Bayes(initial=4)
    Bayes(initial=4, fantasies=16)
    """

    initial: int | None = None
    fantasies: int = 16
    model_based: ClassVar[bool] = True
    several_objectives: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, lowest in (("initial", 1), ("fantasies", 2)):
            value = getattr(self, name)
            if value is None and name == "initial":
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise InvalidType(f"Bayes: {name}={value!r} is not a whole number")
            if value < lowest or (name == "fantasies" and value % 2):
                raise InvalidValue(
                    f"Bayes: {name}={value!r} must be {'an even number of ' if lowest == 2 else ''}at least {lowest}"
                )

    def suggest(self, space: Space, history: History, n: int, rng: np.random.Generator) -> list[Params]:
        """See :meth:`Sampler.suggest`."""
        seen = set(history.keys)
        started = int((history.observed | history.failed | history.pending).sum())
        design = max(0, min(n, self.n_initial(space) - started))
        if history.observed.sum() < 2:
            design = n
        chosen = novel(space, history, initial_design(space, history, design, rng), design, rng, seen)
        if len(chosen) < design or design == n:
            return chosen
        fitted = model(space, history, scalarise(history.losses[history.observed], rng), rng, origin(rng)[1] % 2)
        pending = np.vstack([history.unit[history.pending], space.encode(chosen)])
        for i in range(n - len(chosen)):
            force = unseen_choice(space, history, origin(rng)[1] + i)
            ranked = best_rows(space, fitted, fitted.acquisition(pending, self.fantasies, rng), force, rng)
            fresh = novel(space, history, space.decode(ranked, activated=True), 1, rng, seen)
            if not fresh:
                break
            chosen += fresh
            pending = np.vstack([pending, space.encode(fresh)])
        return chosen

    def n_initial(self, space: Space) -> int:
        """Return how many trials precede the model."""
        return self.initial if self.initial is not None else min(max(len(space) + 1, 4), 10)


def initial_design(space: Space, history: History, n: int, rng: np.random.Generator) -> list[Params]:
    """Return the configuration of all defaults, once and first, and then points of the study's Sobol sequence."""
    if n == 0:
        return []
    seed, number = origin(rng)
    spreads = space.decode(spread(space, seed, number, n, rng), activated=True)
    defaults = space.defaults
    if CENTRE and defaults is None:
        defaults = space.decode(np.full((1, len(space)), 0.5))[0]
    return spreads if defaults is None or space.key(defaults) in history.keys else [defaults, *spreads]


def unseen_choice(space: Space, history: History, number: int) -> tuple[int, int] | None:
    """Return (column, choice) of a category that no trial has tried yet, at every third trial, or None.

    The model knows nothing of a category without observations; left alone it may wait long before it looks. One that
    was added to the space mid-study is what this is for.
    """
    if number % 3:
        return None
    for j, parameter in enumerate(space.values()):
        if isinstance(parameter, Categorical) and len(parameter.choices) > 1:
            u = history.unit[:, j]
            tried = set(np.floor(u[~np.isnan(u)] * len(parameter.choices)).astype(int))
            if missing := [c for c in range(len(parameter.choices)) if c not in tried]:
                return j, missing[0]
    return None


def scalarise(losses: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return one value per row: the only loss, or a randomly weighted augmented Chebyshev distance (ParEGO, eq. 2)."""
    if losses.shape[1] == 1:
        return losses[:, 0]
    low, high = losses.min(0), losses.max(0)
    weighted = rng.dirichlet(np.ones(losses.shape[1])) * (losses - low) / np.where(high > low, high - low, 1.0)
    return weighted.max(1) + 0.05 * weighted.sum(1)


def best_rows(
    space: Space, model: Model, acquisition: Acquisition, force: tuple[int, int] | None, rng: np.random.Generator
) -> np.ndarray:
    """Return rows of the cube in descending order of acquisition, the best found first."""
    pool = candidates(space, model.elite, POOL, rng)
    if force is not None:
        j, choice = force
        n = len(space[list(space)[j]].choices)  # type: ignore[union-attr]
        matching = pool[np.floor(np.nan_to_num(pool[:, j], nan=-1.0) * n) == choice]
        pool = matching if len(matching) else pool
    scores = acquisition.coarse().value(pool)
    best = np.argsort(-scores, kind="stable")[:SCREENED]
    pool, scores = pool[best], acquisition.value(pool[best])
    w = model.objective.w[0, 0]
    starts = pool[diverse(model.embed(pool) * w, scores, STARTS)]
    if force is None:
        for _ in range(2):
            starts = polish(space, model.embed, acquisition, starts, w)
            starts, moved = exchange(space, acquisition, starts, rng)
            if not moved:
                break
    rows = np.vstack([starts, pool])
    scores = np.append(acquisition.value(starts), scores)
    return rows[np.lexsort((-scores, model.likely_fails(rows)))]


def diverse(points: np.ndarray, scores: np.ndarray, n: int, apart: float = 0.05) -> list[int]:
    """Return indices of up to ``n`` high scores whose points, shape (q, D), are at least √apart from each other."""
    chosen: list[int] = []
    for i in np.argsort(-scores, kind="stable")[: 20 * n]:
        if all(((points[i] - points[c]) ** 2).sum() > apart for c in chosen):
            chosen.append(int(i))
        if len(chosen) == n:
            break
    return chosen


def exchange(
    space: Space, acquisition: Acquisition, starts: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, bool]:
    """Replace each row by its best neighbour in one discrete parameter where that is better; say whether any was."""
    around = [neighbours(space, row, rng) for row in starts]
    if not any(map(len, around)):
        return starts, False
    rows = np.vstack([starts, *around])
    owner = np.concatenate([np.arange(len(starts)), *(np.full(len(a), i) for i, a in enumerate(around))]).astype(int)
    scores = acquisition.value(rows)
    best = [int(np.flatnonzero(owner == i)[np.argmax(scores[owner == i])]) for i in range(len(starts))]
    return rows[best], any(b >= len(starts) for b in best)
