"""Expected hypervolume improvement for several objectives, exact for independent processes.

Emmerich, Deutz and Klinkenberg, *Hypervolume-based expected improvement: Monotonicity properties and exact
computation* (CEC 2011): the region that no point of the front dominates is cut into boxes; in each, the expected
volume that a new point adds is a product of one-dimensional expected improvements.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from welltuned.surrogate.acquisition import log_h
from welltuned.surrogate.embedding import Embedding
from welltuned.surrogate.gp import Posterior, Slopes

TINY = 1e-300


def boxes(front: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut what ``front``, shape (n, m), leaves undominated into boxes; return lower and upper corners, shapes (b, m).

    The first m - 1 objectives are cut at all values of the front; in each cell the last one has a single interval, up
    to the lowest point that dominates the cell. Neighbours for which that is the same are one box.
    """
    n, m = front.shape
    inside = np.minimum(front, reference)
    edges = [np.concatenate([[-np.inf], np.sort(inside[:, j]), [reference[j]]]) for j in range(m - 1)]
    cells = np.stack(np.meshgrid(*[np.arange(len(e) - 1) for e in edges], indexing="ij"), -1).reshape(-1, m - 1)
    low = np.stack([edges[j][cells[:, j]] for j in range(m - 1)], 1)
    high = np.stack([edges[j][cells[:, j] + 1] for j in range(m - 1)], 1)
    dominates = (front[None, :, : m - 1] <= low[:, None]).all(2)
    top = np.where(dominates, front[None, :, m - 1], reference[m - 1]).min(1, initial=reference[m - 1])
    # the last cut changes fastest: runs of cells with one top, that end with the cuts at the latest
    begins = np.insert(top[1:] != top[:-1], 0, True) | (np.arange(len(top)) % (n + 1) == 0)
    low, high, top = low[begins], high[np.append(begins[1:], True)], top[begins]
    kept = (high > low).all(1)
    lower = np.column_stack([low, np.full(len(low), -np.inf)])[kept]
    return lower, np.column_stack([high, top])[kept]


@dataclass(frozen=True)
class LogEHVI:
    """log of the expected growth of the hypervolume, for m processes and the boxes that their front leaves."""

    embed: Embedding
    posteriors: tuple[Posterior, ...]
    lower: np.ndarray
    upper: np.ndarray

    def value(self, unit: np.ndarray) -> np.ndarray:
        """See :class:`Acquisition`."""
        phi = self.embed(unit)
        product = np.ones((len(unit), len(self.lower)))
        for j, posterior in enumerate(self.posteriors):
            mean, variance = posterior.members(phi)
            product *= self._side(j, mean[0], np.sqrt(variance[0]))[0]
        return np.log(np.maximum(product.sum(1), TINY))

    def coarse(self) -> LogEHVI:
        """See :class:`Acquisition`."""
        return self

    def gradient(self, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Acquisition`."""
        phi = self.embed(unit)
        at = [Slopes(p, phi) for p in self.posteriors]
        sides = [self._side(j, a.means[0, :, 0], np.sqrt(a.variance[0])) for j, a in enumerate(at)]
        total = np.prod([s[0] for s in sides], axis=0).sum(1)
        d = np.zeros_like(phi)
        for j, a in enumerate(at):
            others = np.prod([s[0] for i, s in enumerate(sides) if i != j], axis=0) / np.maximum(total, TINY)[:, None]
            by_mean, by_sd = (others * sides[j][1]).sum(1), (others * sides[j][2]).sum(1)
            d += a.pull(by_mean[None, :, None], (0.5 * by_sd / np.sqrt(a.variance[0]))[None])
        return np.log(np.maximum(total, TINY)), self.embed.pull(np.where(total[:, None] > TINY, d, 0.0), unit)

    def _side(self, j: int, mean: np.ndarray, sd: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return E[max(0, u - max(l, f))] for each box's side j, shape (q, b), and its derivatives by mean and sd."""
        ends, low, up = self._ends[j]
        gain, by_mean, by_sd = _gain(ends[None], mean, sd)
        return gain[:, up] - gain[:, low], by_mean[:, up] - by_mean[:, low], by_sd[:, up] - by_sd[:, low]

    @cached_property
    def _ends(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Where sides of boxes end, by objective: what they share, and which of it their lower and upper ends are."""
        found = [np.unique(sides, return_inverse=True) for sides in np.stack([self.lower.T, self.upper.T], axis=1)]
        return [(ends, *of.reshape(2, -1)) for ends, of in found]


def _gain(t: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return E[max(t - f, 0)] = σ h((t - μ)/σ), and its derivatives -Φ and φ; all 0 for t = -∞."""
    z = np.maximum((t - mean[:, None]) / sd[:, None], -1e4)
    logs, cdf, pdf = log_h(z)
    h = np.where(np.isneginf(t), 0.0, np.exp(logs))
    return h * sd[:, None], -h * cdf, h * pdf
