"""A bilevel problem: weights that training finds, and hyperparameters that a validation loss judges by them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from welltuned.errors import InvalidType, InvalidValue
from welltuned.hypergrad import autodiff, trees
from welltuned.hypergrad.autodiff import Autodiff
from welltuned.hypergrad.forward import Forward
from welltuned.hypergrad.implicit import Implicit, Neumann
from welltuned.hypergrad.method import Hypergradient, Method
from welltuned.hypergrad.optimizers import OPTIMIZERS
from welltuned.hypergrad.reverse import Reverse
from welltuned.hypergrad.training import Training, counted
from welltuned.hypergrad.trees import Array, Tree

METHODS: dict[str, Callable[[], Method]] = {
    "implicit": Implicit,
    "neumann": Neumann,
    "reverse": Reverse,
    "forward": Forward,
}


@dataclass(frozen=True, eq=False)
class Bilevel:
    """Find hyperparameters h that minimise ``outer(w, h, valid)``, where training finds w by ``inner(w, h, train)``.

    All of w, h and the data are dicts, lists or tuples, nested as you like, of tensors of PyTorch or arrays of JAX.
    The problem is an objective as well: called with a trial, it returns the validation loss and its derivatives by all
    real parameters, as a study with ``sampler="gradient"`` wants them; whole numbers and choices reach the functions as
    they are.

    Parameters
    ----------
    inner
        ``inner(w, h, data)``: the training loss, one number.
    outer
        ``outer(w, h, data)``: the validation loss, one number. What only regularises should not be in it.
    weights
        Where training begins; or a function of h that returns it, through which derivatives pass.
    train, valid
        The data: arrays with one first axis, or for ``train`` a function of the number of the step that returns a
        batch.
    optimizer
        What a step of training does: :class:`SGD`, :class:`Adam`, :class:`RMSprop`, one's own
        (:class:`~welltuned.hypergrad.optimizers.Optimizer`), or a function ``optimizer(h, t)`` that returns one, so
        that its settings can be hyperparameters and change from step to step. None, the default: the weights are the
        minimum of ``inner``, which a Newton method of SciPy's finds.
    steps
        How many steps training has; or a function of h.
    batch_size
        How many rows of ``train`` a step sees, in a new order each epoch; None means all. Or a function of h.
    method
        ``"implicit"``, ``"neumann"``, ``"reverse"``, ``"forward"``, or one of these classes with settings. None means
        ``"reverse"`` with an optimizer, ``"implicit"`` without one.
    tolerance
        Where the Newton method stops: the norm of the derivatives of ``inner`` that it leaves.
    seed
        Of the order of the rows, and of PyTorch's global generator in each step, for dropout.

    Raises
    ------
    InvalidType, InvalidValue
        For what is no function, no method, no arrays, no whole number.

    Notes
    -----
    Franceschi, Frasconi, Salzo, Grazzi and Pontil, *Bilevel Programming for Hyperparameter Optimization and
    Meta-Learning*, 2018.

    Examples
    --------
    The strength of a penalty, for a training that has a minimum::

        problem = Bilevel(
            inner=lambda w, h, d: ((d[0] @ w - d[1]) ** 2).mean() + h["l2"] * (w**2).sum(),
            outer=lambda w, h, d: ((d[0] @ w - d[1]) ** 2).mean(),
            weights=torch.zeros(10),
            train=(X, y),
            valid=(X_valid, y_valid),
        )
        study = wt.minimize(problem, {"l2": wt.Float(1e-6, 1e2, log=True)}, n_trials=10, sampler="gradient")
    """

    inner: Callable[[Tree, Tree, Any], Array]
    outer: Callable[[Tree, Tree, Any], Array]
    weights: Tree
    train: Any = None
    valid: Any = None
    optimizer: Any = None
    steps: Any = 100
    batch_size: Any = None
    method: str | Method | None = None
    tolerance: float = 1e-6
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("inner", "outer"):
            if not callable(getattr(self, name)):
                raise InvalidType(f"Bilevel: {name}={getattr(self, name)!r} is not a function of (w, h, data)")
        if self.optimizer is not None and not callable(getattr(self.optimizer, "update", self.optimizer)):
            names = ", ".join(c.__name__ for c in OPTIMIZERS.values())
            raise InvalidType(
                f"Bilevel: optimizer={self.optimizer!r} is neither one of {names}, with its settings, nor a function "
                f"of (h, t) that returns one"
            )
        if not callable(self.steps):
            counted("steps", self.steps)
        if self.batch_size is not None and not callable(self.batch_size):
            counted("batch_size", self.batch_size)
        if not self.tolerance > 0:
            raise InvalidValue(f"Bilevel: tolerance={self.tolerance!r} must be above 0")
        if not callable(self.weights):
            autodiff.of(self.weights, "weights")
        self.by(self.method)

    def __call__(self, trial: Mapping[str, Any]) -> tuple[float, dict[str, float]]:
        """Train with a trial's parameters; return the validation loss and its derivatives by the real ones."""
        given = dict(trial)
        real = {name: value for name, value in given.items() if isinstance(value, float)}
        if not real:
            raise InvalidValue(f"Bilevel: none of the parameters {given!r} is a real number; nothing to differentiate")
        weights = self.weights(given) if callable(self.weights) else self.weights
        library, like = autodiff.of(weights, "weights"), trees.leaves(weights)[0]
        h = {name: library.array(real[name], like) for name in sorted(real)}
        fixed = {name: value for name, value in given.items() if name not in real}
        found = self.by(self.method)(Training(self, library, fixed) if fixed else self._training(library), h)
        return found.value, {name: float(value) for name, value in found.gradient.items()}

    def hypergradient(self, h: Tree, *, method: str | Method | None = None, start: Tree | None = None) -> Hypergradient:
        """Train with the hyperparameters ``h``; return the validation loss and its derivatives.

        Parameters
        ----------
        h
            A tree of arrays of real numbers.
        method
            Another than the problem's.
        start
            Weights to begin with, in place of the problem's.

        Raises
        ------
        InvalidType, InvalidValue
            For hyperparameters or losses that are not what the problem asks for, or a method that there is not.
        """
        library = autodiff.of(h, "hyperparameters")
        rule = self.by(self.method if method is None else method)
        found = rule(self._training(library), trees.canonical(h), start)
        return replace(found, gradient=trees.ordered(found.gradient, h))

    def by(self, method: str | Method | None) -> Method:
        """Return the method of a name, or the one that fits the problem for None."""
        if method is None:
            method = "implicit" if self.optimizer is None else "reverse"
        if isinstance(method, str):
            if method not in METHODS:
                raise InvalidValue(f"method={method!r} is none of {sorted(METHODS)}")
            method = METHODS[method]()
        if isinstance(method, type) or not isinstance(method, Method):
            raise InvalidType(f"method={method!r} is neither one of {sorted(METHODS)} nor an object of their classes")
        if self.optimizer is None and method.unrolls:
            raise InvalidValue(f"method={method!r} goes through the steps of training: give an optimizer=")
        return method

    def __getstate__(self) -> dict[str, Any]:
        # what a library has compiled stays where it is
        return {name: value for name, value in self.__dict__.items() if name != "_trainings"}

    @functools.cached_property
    def _trainings(self) -> dict[str, Training]:
        return {}

    def _training(self, library: Autodiff) -> Training:
        """Return the problem in the hands of a library; what was compiled for it is compiled once."""
        return self._trainings.setdefault(library.name, Training(self, library, {}))
