"""A scrambled Sobol sequence: random search without clusters and gaps."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from welltuned.errors import InvalidValue
from welltuned.history import History
from welltuned.samplers.novel import draw, novel, to_priors
from welltuned.samplers.sobol import MAX_DIMENSION, points
from welltuned.space import Params, Space
from welltuned.streams import origin


@dataclass(frozen=True)
class QMC:
    """Take the points of a Sobol sequence with Owen's scrambling, one after the other.

    The scrambling derives from the study's seed, the point from the trial's number, so trials may be proposed in any
    order and by any process. Sobol (1967); Owen (1998).
    """

    model_based: ClassVar[bool] = False
    several_objectives: ClassVar[bool] = True

    def suggest(self, space: Space, history: History, n: int, rng: np.random.Generator) -> list[Params]:
        """See :meth:`Sampler.suggest`."""
        seed, number = origin(rng)
        unit = sobol(space, seed, number, n)
        return novel(space, history, space.decode(unit, activated=True), n, rng)


def sobol(space: Space, seed: int, first: int, n: int) -> np.ndarray:
    """Return points ``first … first + n - 1`` of the study's own sequence as activated rows, those that are allowed."""
    if len(space) > MAX_DIMENSION:
        raise InvalidValue(
            f"qmc: {len(space)} parameters; a Sobol sequence has at most {MAX_DIMENSION} dimensions, use 'random'"
        )
    unit = space.activate(to_priors(space, _points(len(space), seed % (1 << 63), first + n)[first : first + n].copy()))
    return unit[space.feasible(unit)]


def _points(dimension: int, seed: int, upto: int) -> np.ndarray:
    # powers of two, so that the cache answers nearly every call and the sequence keeps its balance
    return _block(dimension, seed, max(3, int(np.ceil(np.log2(max(upto, 1))))))


@functools.lru_cache(maxsize=16)
def _block(dimension: int, seed: int, m: int) -> np.ndarray:
    return points(dimension, m, np.random.default_rng(seed))


def spread(space: Space, seed: int, first: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``n`` allowed rows: the sequence's points, with random ones in the place of those that are not allowed."""
    unit = sobol(space, seed, first, n)
    return unit if len(unit) == n else np.vstack([unit, draw(space, n - len(unit), rng)])
