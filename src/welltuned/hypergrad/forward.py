"""Hypergradients from the front: beside the steps of training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from welltuned.hypergrad import autodiff, trees
from welltuned.hypergrad.method import Hypergradient
from welltuned.hypergrad.training import Training
from welltuned.hypergrad.trees import Tree


@dataclass(frozen=True)
class Forward:
    """Carry the derivatives of the weights along with training: for few hyperparameters and steps without number.

    It takes longer than :class:`Reverse`, and as many states in memory as there are numbers among the hyperparameters;
    nothing grows with the number of steps.

    Notes
    -----
    With A_t = ∂Φ_t/∂s and B_t = ∂Φ_t/∂h: Z_t = A_t Z_{t-1} + B_t and dE/dh = ∂E/∂h + ∂E/∂s_T Z_T. Franceschi,
    Donini, Frasconi and Pontil, *Forward and Reverse Gradient-Based Hyperparameter Optimization*, 2017, algorithm 2.

    Examples
    --------
    >>> Forward()
    Forward()
    """

    unrolls: ClassVar[bool] = True

    def __call__(self, training: Training, h: Tree, start: Tree | None = None) -> Hypergradient:
        """See :class:`Method`."""
        library = training.library
        unit = autodiff.basis(library, h)
        state, Z = library.jvps(lambda h: training.begin(training.start(h, start), h), (h,), (unit,))
        for t in range(training.steps(h)):
            state, Z = training.pushed(state, h, training.batch(h, t), t, (Z, unit))
        value, (by_w, by_h) = training.outer(state[0], h, training.problem.valid)
        pairs = zip(trees.leaves(by_w), trees.leaves(Z[0]), strict=True)
        moved = np.sum([library.numpy(z.reshape(len(z), -1) @ e.reshape(-1)) for e, z in pairs], axis=0)
        return Hypergradient(float(value), trees.plus(by_h, autodiff.folded(library, moved, h)), state[0])
