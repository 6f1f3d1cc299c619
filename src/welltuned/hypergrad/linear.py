"""Solve A x = b for a symmetric matrix that is known by its products with vectors, on trees."""

from __future__ import annotations

import math
from collections.abc import Callable

from welltuned.hypergrad import trees
from welltuned.hypergrad.trees import Tree

Product = Callable[[Tree], Tree]


def conjugate_gradient(product: Product, b: Tree, iterations: int, tolerance: float) -> tuple[Tree, float]:
    """Return x, and the norm of b - A x as a share of that of b.

    Ends where that share is at most ``tolerance``, or where the curvature along a direction is not above 0: what it has
    until then is a step down, and the rest would not be.

    Notes
    -----
    Hestenes and Stiefel, *Methods of Conjugate Gradients for Solving Linear Systems*, 1952; the end at negative
    curvature is that of Steihaug, 1983.
    """
    x, r = trees.zeros(b), b
    p, rho = r, trees.dot(r, r)
    scale = rho
    for _ in range(iterations):
        if not rho > tolerance**2 * scale:
            break
        Ap = product(p)
        curvature = trees.dot(p, Ap)
        if not curvature > 0.0:
            break
        alpha = rho / curvature
        x, r = trees.plus(x, p, alpha), trees.plus(r, Ap, -alpha)
        rho, before = trees.dot(r, r), rho
        p = trees.plus(r, p, rho / before)
    return x, math.sqrt(rho / scale) if scale > 0 else 0.0


def neumann(product: Product, b: Tree, iterations: int, step: float) -> tuple[Tree, float]:
    """Return x = α Σ_k (I - α A)^k b, and the norm of the last term, without α, as a share of that of b.

    Notes
    -----
    Lorraine, Vicol and Duvenaud, *Optimizing Millions of Hyperparameters by Implicit Differentiation*, 2020,
    algorithm 3.
    """
    x = p = b
    for _ in range(iterations):
        p = trees.plus(p, product(p), -step)
        x = trees.plus(x, p)
    scale = trees.dot(b, b)
    return trees.times(x, step), math.sqrt(trees.dot(p, p) / scale) if scale > 0 else 0.0


def largest_eigenvalue(product: Product, start: Tree, iterations: int) -> float:
    """Return the largest absolute eigenvalue of A, from below, by the power method."""
    v, size = start, 0.0
    for _ in range(iterations):
        norm = math.sqrt(trees.dot(v, v))
        if not norm > 0.0:
            break
        Av = product(trees.times(v, 1.0 / norm))
        v, size = Av, math.sqrt(trees.dot(Av, Av))
    return size
