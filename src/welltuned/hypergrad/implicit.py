"""Hypergradients by the implicit function theorem: at a minimum of the training loss, how the minimum moves.

Where ∂L/∂w (w*(h), h) = 0 for all h,

    dE/dh = ∂E/∂h - q · ∂²L/∂w∂h,   where   ∂²L/∂w² q = ∂E/∂w,

so that nothing of the way to the minimum has to be known or kept (Pedregosa, *Hyperparameter optimization with
approximate gradient*, 2016, equation 3). One pass back through ∂L/∂w gives both products that are needed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np

from welltuned.hypergrad import autodiff, trees
from welltuned.hypergrad.linear import Product, conjugate_gradient, largest_eigenvalue, neumann
from welltuned.hypergrad.method import Hypergradient
from welltuned.hypergrad.training import Training
from welltuned.hypergrad.trees import Tree
from welltuned.settings import real, whole

# solves for q: (training, product with the Hessian, right-hand side) to q and a residual
Solver: TypeAlias = Callable[[Training, Product, Tree], tuple[Tree, float]]
POWER_ITERATIONS = 10
TRUSTED = 0.5  # residuals up to which a solution still shows the way


@dataclass(frozen=True)
class Implicit:
    """Solve the linear system by conjugate gradients: for training losses with a minimum that training reaches.

    Hyperparameters that do not move the minimum of ``inner``, such as a learning rate or the weight decay of an
    optimizer, have no derivative here.

    Parameters
    ----------
    iterations
        At most so many products with the Hessian.
    tolerance
        The residual at which to stop, as a share of the right-hand side.
    damping
        Added to the diagonal of the Hessian; 1e-3 to 1e-2 helps where it is almost singular, as in networks.

    Examples
    --------
    >>> Implicit(damping=1e-3)
    Implicit(iterations=500, tolerance=1e-06, damping=0.001)
    """

    iterations: int = 500
    tolerance: float = 1e-6
    damping: float = 0.0
    unrolls: ClassVar[bool] = False

    def __post_init__(self) -> None:
        whole("iterations", self.iterations)
        real("Implicit: tolerance", self.tolerance, least=0)
        real("Implicit: damping", self.damping, least=0)

    def __call__(self, training: Training, h: Tree, start: Tree | None = None) -> Hypergradient:
        """See :class:`Method`."""
        return _implicit(training, h, start, self.damping, self._solve)

    def _solve(self, _: Training, product: Product, b: Tree) -> tuple[Tree, float]:
        return conjugate_gradient(product, b, self.iterations, self.tolerance)


@dataclass(frozen=True)
class Neumann:
    """Solve the linear system by a Neumann series: for networks close to a minimum, at the price of a bias.

    The series leaves out directions of little curvature; it grows without bound along those of negative curvature.

    Parameters
    ----------
    iterations
        How many products with the Hessian: the terms beyond the first one.
    step
        α; None means the inverse of the Hessian's largest eigenvalue, estimated by the power method.
    damping
        Added to the diagonal of the Hessian.

    Examples
    --------
    >>> Neumann(iterations=50)
    Neumann(iterations=50, step=None, damping=0.0)
    """

    iterations: int = 20
    step: float | None = None
    damping: float = 0.0
    unrolls: ClassVar[bool] = False

    def __post_init__(self) -> None:
        whole("iterations", self.iterations)
        if self.step is not None:
            real("Neumann: step", self.step, above=0)
        real("Neumann: damping", self.damping, least=0)

    def __call__(self, training: Training, h: Tree, start: Tree | None = None) -> Hypergradient:
        """See :class:`Method`."""
        return _implicit(training, h, start, self.damping, self._solve)

    def _solve(self, training: Training, product: Product, b: Tree) -> tuple[Tree, float]:
        step = self.step
        if step is None:
            noise = np.random.default_rng(0).standard_normal(sum(autodiff.sizes(b)))
            size = largest_eigenvalue(product, autodiff.folded(training.library, noise, b), POWER_ITERATIONS)
            step = 1.0 / size if size > 0 else 1.0
        return neumann(product, b, self.iterations, step)


def _implicit(training: Training, h: Tree, start: Tree | None, damping: float, solve: Solver) -> Hypergradient:
    w, data = training.trained(h, start), training.whole(h)
    value, (by_w, by_h) = training.outer(w, h, training.problem.valid)
    slope, pull = training.stationary(w, h, data)
    products = training.pulled
    q, residual = solve(training, lambda v: trees.plus(products(pull, v)[0], v, damping), by_w)
    moved = products(pull, q)[1]
    stationarity = float(np.abs(autodiff.flat(training.library, slope)).max())
    unknown = _unsolved(residual, h) or _unseen(training, by_h, moved)
    return Hypergradient(float(value), trees.plus(by_h, moved, -1.0), w, stationarity, residual, unknown)


def _unsolved(residual: float, h: Tree) -> tuple[str, ...]:
    if residual <= TRUSTED:
        return ()
    warnings.warn(
        f"the linear system of the implicit method was not solved (residual {residual:.2g}), as where the training "
        f"loss has negative curvature, or next to none: its derivatives mean nothing here; train longer, add damping=, "
        f"or use method='reverse'",
        stacklevel=5,
    )
    return tuple(place for place, _ in trees.paths(h))


def _unseen(training: Training, by_h: Tree, moved: Tree) -> tuple[str, ...]:
    if training.problem.optimizer is None:
        return ()  # then a derivative of 0 is the truth
    pairs = zip(trees.paths(by_h), trees.leaves(moved), strict=True)
    unseen = tuple(place for (place, a), b in pairs if not any(float((x * x).sum()) for x in (a, b)))
    if unseen:
        warnings.warn(
            f"neither loss depends on {list(unseen)!r}, so an implicit method cannot see what they do to training; "
            f"method='reverse' can",
            stacklevel=5,
        )
    return unseen
