"""Hypergradients from behind: through the steps of training, from the last to the first."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from welltuned.hypergrad import trees
from welltuned.hypergrad.method import Hypergradient
from welltuned.hypergrad.training import Training
from welltuned.hypergrad.trees import Tree
from welltuned.settings import whole


@dataclass(frozen=True)
class Reverse:
    """Go back through training: exact for any hyperparameter, as many as there are, learning rates among them.

    It takes about four times as long as training, more where weights are so few that the calls cost most, and the
    memory of 2 √T states and √T steps' graphs. Long trainings at high rates are chaotic, those of networks with kinks
    and Adam most of all: there the exact derivative is huge and leads nowhere.

    Parameters
    ----------
    last
        Go back through so many of the last steps only; None means all. The hyperparameters' effect on what was before
        is left out, and with it what grows without bound.

    Notes
    -----
    With states s_t = Φ_t(s_{t-1}, h), A_t = ∂Φ_t/∂s, B_t = ∂Φ_t/∂h: α_T = ∂E/∂s_T, α_{t-1} = α_t A_t and dE/dh =
    ∂E/∂h + Σ_t α_t B_t. Franceschi, Donini, Frasconi and Pontil, *Forward and Reverse Gradient-Based Hyperparameter
    Optimization*, 2017, algorithm 1; Shaban, Cheng, Hatch and Boots, *Truncated Back-propagation for Bilevel
    Optimization*, 2019. States are recomputed from √T of them (Griewank and Walther, *Evaluating Derivatives*, 2008).

    Examples
    --------
    >>> Reverse(last=20)
    Reverse(last=20)
    """

    last: int | None = None
    unrolls: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.last is not None:
            whole("last", self.last)

    def __call__(self, training: Training, h: Tree, start: Tree | None = None) -> Hypergradient:
        """See :class:`Method`."""
        T = training.steps(h)
        first = 0 if self.last is None else max(0, T - self.last)
        every = math.isqrt(T - first - 1) + 1 if T - first > 1 else 1
        segments = range(first, T, every)
        state, pull_start = training.library.vjp(lambda h: training.begin(training.start(h, start), h), h)
        kept = {}
        for t in range(segments[-1]):
            if t in segments:
                kept[t] = state
            state = training.forward(state, h, training.batch(h, t), t)
        kept[segments[-1]] = state
        alpha: Tree = None
        for begin in reversed(segments):
            state, pulls = kept.pop(begin), []
            for t in range(begin, min(begin + every, T)):
                state, pull = training.linearised(state, h, training.batch(h, t), t)
                pulls.append(pull)
            if alpha is None:
                weights = state[0]
                value, (by_w, total) = training.outer(weights, h, training.problem.valid)
                alpha = (by_w, trees.zeros(state[1]))
            while pulls:
                alpha, by_h = training.pulled(pulls.pop(), alpha)
                total = trees.plus(total, by_h)
        if first == 0:
            total = trees.plus(total, pull_start(alpha)[0])
        return Hypergradient(float(value), total, weights)
