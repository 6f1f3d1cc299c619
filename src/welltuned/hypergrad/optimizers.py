"""Update rules of training that can be differentiated: by the gradient, by the weights, and by their own settings.

``torch.optim`` changes weights in place, which cannot be differentiated over several steps. These rules are arithmetic
on new arrays, so they serve PyTorch and JAX alike, and each of their settings may be a number, an array that is a
hyperparameter, or a tree of such, one for each weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from welltuned.hypergrad import trees
from welltuned.hypergrad.trees import Tree

# keeps the derivative of the root finite where a weight has never had a gradient
TINY = 1e-30


class Optimizer(Protocol):
    """A rule that changes weights, given their gradient."""

    def init(self, weights: Tree) -> Tree:
        """Return what the rule remembers before the first step."""

    def update(self, gradient: Tree, memory: Tree, weights: Tree, t: Any) -> tuple[Tree, Tree]:
        """Return the weights and the memory after step ``t``, which counts from 0. Nothing is changed in place."""


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent, with momentum as ``torch.optim.SGD`` has it.

    Parameters
    ----------
    lr, momentum, weight_decay
        Numbers, arrays, or dicts of them for each weight.
    nesterov
        Look ahead by the momentum.

    Notes
    -----
    Sutskever, Martens, Dahl and Hinton, *On the importance of initialization and momentum in deep learning*, 2013.

    Examples
    --------
    >>> SGD(lr=0.1).update({"w": 1.0}, {"w": 0.0}, {"w": 2.0}, 0)[0]
    {'w': 1.9}
    """

    lr: Any
    momentum: Any = 0.0
    nesterov: bool = False
    weight_decay: Any = 0.0

    def init(self, weights: Tree) -> Tree:
        """See :class:`Optimizer`."""
        return trees.zeros(weights)

    def update(self, gradient: Tree, memory: Tree, weights: Tree, t: Any) -> tuple[Tree, Tree]:  # noqa: ARG002
        """See :class:`Optimizer`."""
        lr, decay, mu = (_each(x, weights) for x in (self.lr, self.weight_decay, self.momentum))
        g = _decayed(gradient, decay, weights)
        memory = trees.apply(lambda m, v, g: m * v + g, mu, memory, g)
        g = trees.apply(lambda g, m, v: g + m * v, g, mu, memory) if self.nesterov else memory
        return trees.apply(lambda w, a, g: w - a * g, weights, lr, g), memory


@dataclass(frozen=True)
class Adam:
    """Adam, with the weight decay of AdamW, which does not pass through the averages, as ``torch.optim.AdamW`` has it.

    Parameters
    ----------
    lr, beta1, beta2, weight_decay
        Numbers, arrays, or dicts of them for each weight.
    eps
        Added to the root of the second moment.

    Notes
    -----
    Kingma and Ba, *Adam: A Method for Stochastic Optimization*, 2015, algorithm 1; Loshchilov and Hutter, *Decoupled
    Weight Decay Regularization*, 2019, algorithm 2.

    Examples
    --------
    >>> rule = Adam(lr=0.1)
    >>> weights, memory = rule.update({"w": 5.0}, rule.init({"w": 2.0}), {"w": 2.0}, 0)
    >>> round(weights["w"], 6)
    1.9
    """

    lr: Any
    beta1: Any = 0.9
    beta2: Any = 0.999
    eps: float = 1e-8
    weight_decay: Any = 0.0

    def init(self, weights: Tree) -> Tree:
        """See :class:`Optimizer`."""
        return {"m": trees.zeros(weights), "v": trees.zeros(weights)}

    def update(self, gradient: Tree, memory: Tree, weights: Tree, t: Any) -> tuple[Tree, Tree]:
        """See :class:`Optimizer`."""
        lr, b1, b2, decay = (_each(x, weights) for x in (self.lr, self.beta1, self.beta2, self.weight_decay))
        m = trees.apply(lambda b, m, g: b * m + (1 - b) * g, b1, memory["m"], gradient)
        v = _second_moment(b2, memory["v"], gradient)

        def moved(w: Any, a: Any, c: Any, m: Any, v: Any, b1: Any, b2: Any) -> Any:
            m_hat, v_hat = m / (1 - b1 ** (t + 1)), v / (1 - b2 ** (t + 1))
            return w - a * c * w - a * m_hat / ((v_hat + TINY) ** 0.5 + self.eps)

        return trees.apply(moved, weights, lr, decay, m, v, b1, b2), {"m": m, "v": v}


@dataclass(frozen=True)
class RMSprop:
    """RMSprop, as ``torch.optim.RMSprop`` has it.

    Parameters
    ----------
    lr, alpha, weight_decay
        Numbers, arrays, or dicts of them for each weight.
    eps
        Added to the root of the second moment.

    Notes
    -----
    Tieleman and Hinton, *Lecture 6.5: rmsprop*, 2012.

    Examples
    --------
    >>> rule = RMSprop(lr=0.1, alpha=0.99)
    >>> weights, memory = rule.update({"w": 5.0}, rule.init({"w": 2.0}), {"w": 2.0}, 0)
    >>> round(weights["w"], 6)
    1.0
    """

    lr: Any
    alpha: Any = 0.99
    eps: float = 1e-8
    weight_decay: Any = 0.0

    def init(self, weights: Tree) -> Tree:
        """See :class:`Optimizer`."""
        return trees.zeros(weights)

    def update(self, gradient: Tree, memory: Tree, weights: Tree, t: Any) -> tuple[Tree, Tree]:  # noqa: ARG002
        """See :class:`Optimizer`."""
        lr, alpha, decay = (_each(x, weights) for x in (self.lr, self.alpha, self.weight_decay))
        g = _decayed(gradient, decay, weights)
        v = _second_moment(alpha, memory, g)
        return trees.apply(lambda w, a, g, v: w - a * g / ((v + TINY) ** 0.5 + self.eps), weights, lr, g, v), v


def _decayed(gradient: Tree, decay: Tree, weights: Tree) -> Tree:
    """Return the gradient with that of the weight decay."""
    return trees.apply(lambda g, c, w: g + c * w, gradient, decay, weights)


def _second_moment(beta: Tree, v: Tree, gradient: Tree) -> Tree:
    """Return the moving average of the squares of the gradient."""
    return trees.apply(lambda b, v, g: b * v + (1 - b) * g * g, beta, v, gradient)


def _each(setting: Any, weights: Tree) -> Tree:
    """Return the tree of a setting for each weight: itself where it is one, the same everywhere otherwise."""
    if isinstance(setting, Mapping):
        return {key: _each(setting[key], branch) for key, branch in weights.items()}
    if isinstance(setting, (list, tuple)):
        return trees.like(weights, [_each(*pair) for pair in zip(setting, weights, strict=True)])
    return trees.apply(lambda _: setting, weights)
