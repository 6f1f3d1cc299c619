"""What a search does not think of by itself: the defaults once and first, of all branches, then points spread evenly
over the space; and choices that nobody has looked at, such as those that were added to a study.
"""

from __future__ import annotations

import numpy as np

from welltuned.history import History
from welltuned.pareto import penalised
from welltuned.samplers.qmc import spread
from welltuned.space import Categorical, Params, Space, codec
from welltuned.streams import origin
from welltuned.surrogate.maximise import neighbours

ENOUGH = 10  # trials for each choice of a parameter, by which all of them should have been tried


def initial_design(space: Space, history: History, n: int, rng: np.random.Generator) -> list[Params]:
    """Return the configurations of defaults that were not tried, and then points of the study's Sobol sequence."""
    if n == 0:
        return []
    seed, number = origin(rng)
    spreads = space.decode(spread(space, seed, number, n, rng), activated=True)
    return [*(params for params in space.starts if not history.knows(space.key(params))), *spreads]


def overlooked(space: Space, history: History, rng: np.random.Generator) -> list[Params]:
    """Return the best configuration so far with each choice in it that no trial has had, though there were enough.

    A strategy that has settled does not come to what is added to its space, or to what it has passed over.
    """
    known, missing = np.flatnonzero(history.observed), {}
    for j, parameter in enumerate(space.values()):
        if isinstance(parameter, Categorical) and ENOUGH * len(parameter.choices) <= len(known):
            had = codec.indices(parameter, history.unit[:, j])
            if new := np.setdiff1d(np.arange(len(parameter.choices)), had).tolist():
                missing[j] = parameter, new
    if not missing:
        return []
    losses = penalised(history.losses[known, 0], history.violations[known])
    around = neighbours(space, history.unit[known[losses.argmin()]], rng)
    wanted = np.zeros(len(around), dtype=bool)
    for j, (parameter, new) in missing.items():
        wanted |= np.isin(codec.indices(parameter, around[:, j]), new)
    return space.decode(around[wanted], activated=True)
