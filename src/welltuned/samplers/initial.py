"""What comes before a model: the defaults once and first, of all branches, then points spread evenly over the space."""

from __future__ import annotations

import numpy as np

from welltuned.history import History
from welltuned.samplers.qmc import spread
from welltuned.space import Params, Space
from welltuned.streams import origin


def initial_design(space: Space, history: History, n: int, rng: np.random.Generator) -> list[Params]:
    """Return the configurations of defaults that were not tried, and then points of the study's Sobol sequence."""
    if n == 0:
        return []
    seed, number = origin(rng)
    spreads = space.decode(spread(space, seed, number, n, rng), activated=True)
    return [*(params for params in space.starts if not history.knows(space.key(params))), *spreads]
