"""The default: choose a sampler by the space, the budget and what was seen, and say why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from welltuned.history import History
from welltuned.samplers.bayes import Bayes
from welltuned.samplers.gradient import Gradient
from welltuned.samplers.grid import Grid
from welltuned.samplers.novel import size
from welltuned.samplers.protocol import Sampler
from welltuned.samplers.random import Random
from welltuned.space import Params, Space

MODEL_TRIALS = 1000
MODEL_PARAMETERS = 100


@dataclass(frozen=True)
class Choice:
    """A sampler and the reason for it, in words."""

    sampler: Sampler
    name: str
    why: str


@dataclass(frozen=True)
class Auto:
    """Choose anew for every trial; the first rule that applies counts.

    1. The budget covers a finite space: visit all of it (``grid``).
    2. The objective returns its gradient, and there are only real parameters: ``gradient`` and ``bayes`` in turn.
    3. Up to 1,000 observations and 100 parameters: ``bayes``.
    4. Otherwise: ``random``.
    """

    model_based: ClassVar[bool] = True
    several_objectives: ClassVar[bool] = True

    def suggest(self, space: Space, history: History, n: int, rng: np.random.Generator) -> list[Params]:
        """See :meth:`Sampler.suggest`."""
        return self.choose(space, history).sampler.suggest(space, history, n, rng)

    def choose(self, space: Space, history: History) -> Choice:
        """Return the sampler for the next trial, and why it is the one.

        Examples
        --------
        >>> Auto().choose(Space({"x": (0.0, 1.0)}), History(Space({"x": (0.0, 1.0)}))).why
        '1 parameter, no trials yet: a Gaussian process learns most from each'
        """
        total = size(space, history.budget) if history.budget is not None else None
        if total is not None:
            return Choice(Grid(), "grid", f"the budget of {history.budget} trials covers all {total} configurations")
        several = len(history.directions) > 1
        gradients = sum(t.gradient is not None for t in history.trials)
        if (
            gradients
            and not several
            and not gradients % 2
            and all(p.__class__.__name__ == "Float" for p in space.values())
        ):
            return Choice(Gradient(), "gradient", "the objective returns its gradient; every other trial follows it")
        seen, p = int(history.observed.sum()), len(space)
        if seen <= MODEL_TRIALS and p <= MODEL_PARAMETERS:
            trials = "no trials yet" if not len(history) else f"{seen} result{'s' * (seen != 1)} so far"
            return Choice(
                Bayes(), "bayes", f"{p} parameter{'s' * (p != 1)}, {trials}: a Gaussian process learns most from each"
            )
        return Choice(
            Random(), "random", f"{p} parameters and {seen} results are beyond what a Gaussian process is quick with"
        )
