"""The one model that shares, interactions and effects are read from: an objective as a function on the cube."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from welltuned.history import History
from welltuned.space import Space, public
from welltuned.stats.knowledge import FEWEST, completed
from welltuned.surrogate.embedding import Embedding, embedding
from welltuned.surrogate.gp import NOISY, Layout, Posterior, condition, observations
from welltuned.surrogate.model import thetas
from welltuned.surrogate.outputs import clip_diverged, standardise

MAX_TRIALS = 256


@dataclass(frozen=True)
class Fitted:
    """A Gaussian process fitted to the completed trials of one objective.

    Attributes
    ----------
    space
        The space of length p.
    rows
        The trials that it was fitted to, as rows of the cube, shape (n, p).
    posterior, embed
        The process, on a standard scale and to be minimised, and the map from rows to its features.
    centre, scale
        ``objective = centre + scale * standardised``; the scale is negative where the objective is maximised.
    """

    space: Space
    rows: np.ndarray
    posterior: Posterior
    embed: Embedding
    centre: float
    scale: float

    @cached_property
    def explained(self) -> float:
        """Share of the variance of trials that the model predicts where it was not shown them, from 0 to 1."""
        y = self.posterior.data.y
        return max(0.0, 1.0 - float(((y - self.posterior.leave_one_out()[0]) ** 2).mean() / y.var()))

    def loss(self, standardised: float) -> float:
        """Return a value of the standard scale as a loss, which is minimised."""
        return float(np.sign(self.scale)) * self.centre + abs(self.scale) * standardised

    def mean(self, unit: np.ndarray) -> np.ndarray:
        """Return the mean, on the standard scale, at activated rows of the cube, shape (q, p)."""
        if not len(unit):
            return np.empty(0)
        parts = np.array_split(self.embed(unit), -(-len(unit) // 512))
        return np.concatenate([self.posterior.means(part) for part in parts])

    def doubt(self, unit: np.ndarray) -> float:
        """Return the mean variance of the function at activated rows of the cube, on the standard scale."""
        return float(self.posterior.predict(self.embed(unit))[1].mean())


def fitted(
    history: History, objective: str | None, rng: np.random.Generator, ceiling: float = np.inf
) -> Fitted | None:
    """Fit a process to completed trials, at most 256 that ``rng`` chooses; None where there is nothing to tell.

    That is with fewer than four results, and where all are equal. Values that diverged are clipped, and losses at a
    ``ceiling``, where how bad the others are is not asked.
    """
    seen = completed(history)
    names = list(seen.directions)
    column = 0 if objective is None else names.index(objective)
    sign = -1.0 if seen.directions[names[column]] == "maximize" else 1.0
    losses, rows = seen.losses[seen.observed][:, column], seen.unit[seen.observed]
    if len(losses) < FEWEST or (losses == losses[0]).all():
        return None
    if len(losses) > MAX_TRIALS:
        some = rng.choice(len(losses), MAX_TRIALS, replace=False)
        losses, rows = losses[some], rows[some]
    y, centre, scale = standardise(np.minimum(clip_diverged(losses), ceiling))
    if not y.var() > 0:  # they differ by less than rounding
        return None
    embed = embedding(seen.space)
    data = replace(observations(embed(rows), y, embed.group), noise_prior=NOISY)
    # remembered for data that were seen before: a report asks for shares, interactions and effects, one after the other
    found, _ = thetas(data, Layout(data.n_groups, 0), 1, np.random.default_rng(0))
    return Fitted(seen.space, rows, condition(found, data), embed, sign * centre, sign * scale)


def columns_of(space: Space) -> dict[str, list[int]]:
    """Return for each name that objectives see its columns in the cube: several, where grids in a list share it."""
    found: dict[str, list[int]] = {}
    for j, name in enumerate(space):
        if public(name):
            found.setdefault(public(name), []).append(j)
    return found
