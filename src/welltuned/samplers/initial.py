"""What comes before a model: the defaults once and first, then points spread evenly over the space."""

from __future__ import annotations

import numpy as np

from welltuned.history import History
from welltuned.samplers.qmc import spread
from welltuned.space import Params, Space
from welltuned.streams import origin


def initial_design(space: Space, history: History, n: int, rng: np.random.Generator) -> list[Params]:
    """Return the configuration of all defaults, unless it was tried, and then points of the study's Sobol sequence."""
    if n == 0:
        return []
    seed, number = origin(rng)
    spreads = space.decode(spread(space, seed, number, n, rng), activated=True)
    defaults = space.defaults
    return spreads if defaults is None or history.knows(space.key(defaults)) else [defaults, *spreads]
