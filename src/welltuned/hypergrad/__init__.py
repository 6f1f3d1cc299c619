"""Derivatives of a validation loss through training, by PyTorch or JAX, and descent along them.

Start with :class:`Bilevel`. Nothing here imports either library before a problem has its arrays.
"""

from __future__ import annotations

from welltuned.hypergrad.bilevel import METHODS, Bilevel
from welltuned.hypergrad.descent import Descent, Step, minimize
from welltuned.hypergrad.forward import Forward
from welltuned.hypergrad.implicit import Implicit, Neumann
from welltuned.hypergrad.method import Hypergradient, Method
from welltuned.hypergrad.optimizers import SGD, Adam, Optimizer, RMSprop
from welltuned.hypergrad.reverse import Reverse

__all__ = [
    "Bilevel",
    "Hypergradient",
    "Implicit",
    "Reverse",
    "Forward",
    "Neumann",
    "minimize",
    "Descent",
    "Step",
    "SGD",
    "Adam",
    "RMSprop",
    "Optimizer",
    "Method",
    "METHODS",
]
