"""Independent draws that follow the parameters' scales and priors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from welltuned.history import History
from welltuned.samplers.novel import draw, novel
from welltuned.space import Params, Space


@dataclass(frozen=True)
class Random:
    """Draw configurations at random, never the same one twice.

    Bergstra and Bengio, *Random Search for Hyper-Parameter Optimization*, JMLR 2012.
    """

    model_based: ClassVar[bool] = False
    several_objectives: ClassVar[bool] = True
    reads_history: ClassVar[bool] = False

    def suggest(self, space: Space, history: History, n: int, rng: np.random.Generator) -> list[Params]:
        """See :meth:`Sampler.suggest`."""
        return novel(space, history, space.decode(draw(space, n, rng), activated=True), n, rng)
