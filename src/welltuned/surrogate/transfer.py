"""Earlier studies as members of an ensemble, weighted by how well they rank what this study has seen.

Feurer, Letham, Hutter and Bakshy, *Practical Transfer Learning for Bayesian Optimization* (2018; RGPE), with their
guard against dilution of the weights (section 3.3).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np

from welltuned.history import History, Table
from welltuned.space import Space
from welltuned.surrogate.acquisition import log_h
from welltuned.surrogate.embedding import Embedding
from welltuned.surrogate.gp import Posterior, Slopes
from welltuned.surrogate.model import Model, fit_model

DRAWS = 256
FEWEST = 4  # results that an earlier study must have to be of use
SEEN = 48  # of this study's results, how many the ranking looks at


def usable(space: Space, earlier: History) -> History | None:
    """Return an earlier history as one of this space: the trials that fit it; None when they are too few."""
    lenient = copy.copy(space)
    lenient.partial = True  # parameters that are new here are unknown there, those that are gone are left out
    table = Table(lenient, earlier.directions)
    for trial in earlier.trials:
        table.put(trial)
    history = History(space, earlier.trials, earlier.directions, table=table)
    return history if history.observed.sum() >= FEWEST else None


@dataclass(frozen=True)
class Ensemble:
    """Processes of several studies, one each, and their weights; the last one is this study's."""

    embed: Embedding
    posteriors: tuple[Posterior, ...]
    weights: np.ndarray

    def with_pending(self, rows: np.ndarray) -> Ensemble:
        """Return the ensemble as if the rows under evaluation had come out as expected."""
        if not len(rows):
            return self
        phi = self.embed(rows)
        return replace(self, posteriors=tuple(p.extended(phi, p.means(phi)) for p in self.posteriors))

    def predict(self, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean Σ wᵢ μᵢ and variance Σ wᵢ² σᵢ², on this study's standard scale, shapes (q,)."""
        parts = [p.predict(phi) for p in self.posteriors]
        mean = sum(w * m for w, (m, _) in zip(self.weights, parts, strict=True))
        variance = sum(w * w * v for w, (_, v) in zip(self.weights, parts, strict=True))
        return np.asarray(mean), np.asarray(variance)


@dataclass(frozen=True)
class TransferEI:
    """log expected improvement of an ensemble over ``best``."""

    ensemble: Ensemble
    best: float

    def value(self, unit: np.ndarray) -> np.ndarray:
        """See :class:`Acquisition`."""
        mean, variance = self.ensemble.predict(self.ensemble.embed(unit))
        sd = np.sqrt(np.maximum(variance, 1e-12))
        return log_h((self.best - mean) / sd)[0] + np.log(sd)

    def coarse(self) -> TransferEI:
        """See :class:`Acquisition`."""
        return self

    def gradient(self, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Acquisition`."""
        e = self.ensemble
        phi = e.embed(unit)
        at = [(w, Slopes(p, phi)) for w, p in zip(e.weights, e.posteriors, strict=True) if w > 0]
        mean = np.sum([w * a.means[0, :, 0] for w, a in at], axis=0)
        sd = np.sqrt(np.maximum(np.sum([w * w * a.variance[0] for w, a in at], axis=0), 1e-12))
        logs, cdf, pdf = log_h((self.best - mean) / sd)
        d = np.zeros_like(phi)
        for w, a in at:
            d += a.pull((-w * cdf / sd)[None, :, None], (0.5 * w * w * pdf / (sd * sd))[None])
        return logs + np.log(sd), e.embed.pull(d, unit)


def ensemble(model: Model, earlier: list[Model], budget: int | None, rng: np.random.Generator) -> Ensemble | None:
    """Weigh earlier studies against this one; None when this one alone ranks its results best.

    The weight of a study is the share of posterior draws in which it mis-ranks the fewest pairs of this study's
    results; this study is judged by leave-one-out predictions, so that it cannot win by having seen them. A study whose
    typical loss is beyond the 95th percentile of this one's is dropped, and another one with the probability (1 - s) r,
    of the share s of draws in which it is better than this one and the share r of the budget that is spent. The paper
    drops it with 1 - s (1 - r), in the end always.
    """
    y = model.losses[:, 0]
    rows = np.linspace(0, len(y) - 1, min(len(y), SEEN)).astype(int)
    truth = y[rows, None] < y[None, rows]
    phi = model.embed(model.unit)
    own_mean, own_variance = model.objective.posterior.leave_one_out()
    draws = [_draw(m.objective.posterior, phi[rows], rng) for m in earlier]
    noise = rng.standard_normal((DRAWS, len(rows)))
    draws.append(own_mean[: len(y)][rows] + np.sqrt(own_variance[: len(y)][rows]) * noise)
    losses = np.array([((d[:, :, None] < d[:, None, :]) != truth).sum((1, 2)) for d in draws])
    limit = np.quantile(losses[-1], 0.95)
    progress = len(y) / (budget or 4 * len(y))
    for i in range(len(earlier)):
        share = (losses[i] < losses[-1]).mean()
        if np.median(losses[i]) > limit or rng.random() < (1.0 - share) * min(progress, 1.0):
            losses[i] = np.iinfo(losses.dtype).max
    # ties go to this study
    winners = len(losses) - 1 - losses[::-1].argmin(0)
    weights = np.bincount(winners, minlength=len(losses)) / DRAWS
    if weights[-1] == 1.0:
        return None
    return Ensemble(model.embed, tuple(m.objective.posterior.only(0) for m in (*earlier, model)), weights)


def _draw(posterior: Posterior, phi: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    mean, variance = posterior.predict(phi)
    return mean + np.sqrt(variance) * rng.standard_normal((DRAWS, len(phi)))


def earlier_models(history: History, rng: np.random.Generator) -> list[Model]:
    """Fit one process to each earlier study that has enough trials in this space."""
    found = [usable(history.space, h) for h in history.wishes.earlier]
    return [fit_model(h, rng, members=1) for h in found if h is not None]


def portfolio(models: list[Model], n: int) -> np.ndarray:
    """Return up to ``n`` rows that together did well in the earlier studies, shape (k, p).

    Greedy: each row is chosen to lower most the mean, over studies, of the best predicted value so far.
    """
    if not models:
        return np.empty((0, 0))
    rows = np.vstack([m.best_rows(5) for m in models])
    rows = rows[np.sort(np.unique(np.round(np.nan_to_num(rows, nan=-1.0), 2), axis=0, return_index=True)[1])]
    predicted = np.array([m.objective.posterior.means(m.embed(rows)) for m in models])
    best, chosen = np.full(len(models), np.inf), list[int]()
    for _ in range(min(n, len(rows))):
        gain = np.minimum(best[:, None], predicted).mean(0)
        gain[chosen] = np.inf
        chosen.append(int(np.argmin(gain)))
        best = np.minimum(best, predicted[:, chosen[-1]])
    return rows[chosen]
