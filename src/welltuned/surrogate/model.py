"""From a history to fitted processes: of the objective, and of success where trials failed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from welltuned.history import History
from welltuned.space import Space
from welltuned.surrogate.acquisition import Acquisition, LogProbability, log_ei, total
from welltuned.surrogate.embedding import Embedding, embedding
from welltuned.surrogate.fit import fit
from welltuned.surrogate.gp import Observations, Posterior, observations
from welltuned.surrogate.outputs import standardise, winsorise

MODEL_POINTS = 256
MEMBERS = 4
WARP_FROM = 2
WARPS = True
INC = 0


@dataclass(frozen=True)
class Model:
    embed: Embedding
    objective: Posterior
    success: Posterior | None
    incumbent: np.ndarray
    elite: np.ndarray

    def acquisition(self, pending: np.ndarray, fantasies: int, rng: np.random.Generator) -> Acquisition:
        terms: list[Acquisition] = [log_ei(self.embed, self.objective, self.incumbent, pending, rng, fantasies)]
        if self.success is not None:
            terms.append(LogProbability(self.embed, self.success, 0.0, 0.1))
        return total(terms)

    def likely_fails(self, unit: np.ndarray) -> np.ndarray:
        """Tell which rows fail more likely than not, once three trials have failed; shape (n,)."""
        if self.success is None or (self.success.data.y > 0).sum() < 3:
            return np.zeros(len(unit), dtype=bool)
        return np.asarray(self.success.means(self.embed(unit)) > 0.0)


def model(space: Space, history: History, y: np.ndarray, rng: np.random.Generator, parity: int = 0) -> Model:
    embed = embedding(space)
    unit = history.unit[history.observed]
    kept = informative(y)
    unit, y = unit[kept], y[kept]
    scaled = output(y, parity)
    phi, success = embed(unit), None
    numeric = len(embed.numeric)
    if history.failed.any():
        bad = embed(history.unit[history.failed][-MODEL_POINTS // 2 :])
        good = len(phi)
        phi, scaled = np.vstack([phi, bad]), np.append(scaled, np.full(len(bad), scaled.max()))
        success = fit(observations(phi, np.append(-np.ones(good), np.ones(len(bad))), embed.group))
    n = len(scaled)
    data = observations(phi, scaled, embed.group, numeric)
    warps = WARPS and n >= WARP_FROM * embed.n_groups and embed.n_groups <= 30
    posterior = fit(data, warps=warps, members=MEMBERS if n <= 200 else 1, rng=rng)
    incumbent = posterior.members(phi)[0].min(1) if not INC else np.full(len(posterior), scaled.min())
    return Model(embed, posterior, success, incumbent, unit[np.argsort(y, kind="stable")[:5]])


MODE = "alt"
EARLY = 0


def output(y, parity):
    mode = MODE
    if EARLY and len(y) < EARLY:
        mode = "win"
    if mode == "alt":
        return standardise(winsorise(y) if parity else y)[0]
    if mode == "win":
        return standardise(winsorise(y))[0]
    if mode == "std":
        return standardise(y)[0]
    if mode == "med":
        m = np.median(y)
        return standardise(np.minimum(y, m + 5 * (m - y.min())))[0]
    if mode == "med3":
        m = np.median(y)
        return standardise(np.minimum(y, m + 2 * (m - y.min())))[0]
    if mode == "med1":
        m = np.median(y)
        return standardise(np.minimum(y, m + 1 * (m - y.min())))[0]
    if mode == "altmed":
        m = np.median(y)
        return standardise(np.minimum(y, m + (5 if parity else 1.5) * (m - y.min())))[0]
    if mode == "yj":
        from scipy.stats import yeojohnson
        z = standardise(winsorise(y) if parity else y)[0]
        return standardise(yeojohnson(z)[0])[0]


def informative(y: np.ndarray) -> np.ndarray:
    """Return which observations the model is fitted to: all of them, or beyond a limit the best half and the latest."""
    if len(y) <= MODEL_POINTS:
        return np.arange(len(y))
    best = np.argsort(y, kind="stable")[: MODEL_POINTS // 2]
    rest = np.setdiff1d(np.arange(len(y)), best)
    return np.sort(np.concatenate([best, rest[-(MODEL_POINTS - len(best)) :]]))
