"""Every point of a grid, exactly once."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from welltuned.errors import InvalidType, InvalidValue
from welltuned.history import History
from welltuned.samplers.novel import coverage, grid_rows
from welltuned.settings import check_whole
from welltuned.space import Params, Space, codec
from welltuned.streams import study_rng

MAX_POINTS = 1_000_000
BLOCK = 64  # points whose keys are looked at together


@functools.lru_cache(maxsize=2)
def _keys(space: Space, constraints: tuple[int, ...], resolution: int) -> dict[int, str]:  # noqa: ARG001
    """Return the keys of a grid's points as far as they were needed: to find them takes longer than all else."""
    return {}


@dataclass(frozen=True)
class Grid:
    """Visit all points of a grid.

    Parameters
    ----------
    resolution
        Points per parameter that has more values than that (or infinitely many), evenly spaced on its own scale,
        both ends included. Choices are always all visited.
    shuffle
        Visit the points in an order drawn from the study's seed, so that a budget smaller than the grid still sees
        all of its regions. Without it, in the order of the parameters, the last one fastest.
    """

    resolution: int = 5
    shuffle: bool = True
    model_based: ClassVar[bool] = False
    several_objectives: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_whole(self, resolution=2)
        if not isinstance(self.shuffle, bool):
            raise InvalidType(f"Grid: shuffle={self.shuffle!r} is not True or False")

    def size(self, space: Space) -> int:
        """Return how many evaluations the whole grid takes.

        Examples
        --------
        >>> Grid(resolution=5).size(Space({"lr": (1e-4, 1e-1, "log-uniform"), "units": [32, 64, 128]}))
        15
        """
        if not any(space.conditions.values()) and not (space.forbidden or space.constraints):
            return math.prod(len(codec.levels(p, self.resolution)) for p in space.values())
        return len(self._rows(space))

    def suggest(self, space: Space, history: History, n: int, rng: np.random.Generator) -> list[Params]:
        """See :meth:`Sampler.suggest`."""
        rows = self._rows(space)
        order = study_rng(rng, "grid").permutation(len(rows)) if self.shuffle else np.arange(len(rows))
        keys = _keys(space, tuple(map(id, space.constraints)), self.resolution)
        covered, seen, found = coverage(space, history), set(history.keys), []
        for block in np.array_split(order, max(1, len(order) // BLOCK)):
            new = [i for i in block.tolist() if i not in keys]
            keys.update(zip(new, map(space.key, space.decode(rows[new], activated=True)), strict=True))
            left = [i for i in block.tolist() if keys[i] not in seen]
            for i, params in zip(left, space.decode(rows[left], activated=True), strict=True):
                if keys[i] not in seen and not covered(params):
                    seen.add(keys[i])
                    found.append(params)
                if len(found) == n:
                    return found
        return found

    def _rows(self, space: Space) -> np.ndarray:
        rows = grid_rows(space, self.resolution, MAX_POINTS)
        if rows is None:
            raise InvalidValue(
                f"grid: more than {MAX_POINTS:,} points at resolution={self.resolution}; use a lower resolution, "
                "lists of values, or another sampler"
            )
        return rows
