"""What a way to hypergradients is, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from welltuned.hypergrad.training import Training
from welltuned.hypergrad.trees import Tree


@dataclass(frozen=True, eq=False)
class Hypergradient:
    """A validation loss and its derivatives by the hyperparameters.

    Parameters
    ----------
    value
        The validation loss.
    gradient
        Its derivatives, a tree of the shape of the hyperparameters.
    weights
        The trained weights.
    stationarity
        For implicit methods: the largest derivative of the training loss that training has left. The error of the
        gradient is of its order, times the inverse of the least curvature.
    residual
        For implicit methods: what is left of the linear system, as a share of its right-hand side.
    unknown
        Entries of the hyperparameters whose derivatives the method does not know: the gradient has 0 there if it cannot
        see them, and means nothing if the linear system was not solved.
    """

    value: float
    gradient: Tree
    weights: Tree
    stationarity: float | None = None
    residual: float | None = None
    unknown: tuple[str, ...] = ()


@runtime_checkable
class Method(Protocol):
    """A way to hypergradients. Its settings are its fields."""

    unrolls: ClassVar[bool]
    """Whether it goes through the steps of training, and so needs them."""

    def __call__(self, training: Training, h: Tree, start: Tree | None = None) -> Hypergradient:
        """Train with the hyperparameters ``h``; return the validation loss and its derivatives.

        Training begins with the weights ``start``, or with the problem's where they are None.
        """
