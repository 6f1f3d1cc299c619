"""A bilevel problem: weights that training finds, and hyperparameters that a validation loss judges by them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from welltuned.errors import InvalidType, InvalidValue
from welltuned.hypergrad import autodiff, trees
from welltuned.hypergrad.autodiff import Autodiff
from welltuned.hypergrad.forward import Forward
from welltuned.hypergrad.implicit import Implicit, Neumann
from welltuned.hypergrad.method import Hypergradient, Method
from welltuned.hypergrad.reverse import Reverse
from welltuned.hypergrad.training import Training
from welltuned.hypergrad.trees import Array, Tree
from welltuned.settings import real, whole

PLAIN = (int, float, np.number, np.ndarray)
COMPILED = 32  # combinations of what is not differentiated whose functions are kept
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
    real parameters, as a study with ``sampler="gradient"`` wants them; whole numbers, and choices other than among real
    numbers, reach the functions as they are.

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
        batch, always the same one. Of such batches, implicit methods know the last one alone.
    optimizer
        What a step of training does: :class:`SGD`, :class:`Adam`, :class:`RMSprop`, one's own
        (:class:`~welltuned.hypergrad.optimizers.Optimizer`), or a function ``optimizer(h, t)`` that returns one, so
        that its settings can be hyperparameters and change from step to step. None, the default: the weights are the
        minimum of ``inner``, which a Newton method of SciPy's finds.
    steps
        How many steps training has, 100 unless given; or a function of h.
    batch_size
        How many rows of ``train`` a step sees, in a new order each epoch, of which a rest that fills no batch is left
        out; None means all. Or a function of h.
    method
        ``"implicit"``, ``"neumann"``, ``"reverse"``, ``"forward"``, or one of these classes with settings. None means
        ``"reverse"`` with an optimizer, ``"implicit"`` without one.
    tolerance
        Where the Newton method stops: the norm of the derivatives of ``inner`` that it leaves, as a share of that at
        the beginning.
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
    steps: Any = None
    batch_size: Any = None
    method: str | Method | None = None
    tolerance: float = 1e-6
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("inner", "outer"):
            if not callable(getattr(self, name)):
                raise InvalidType(f"Bilevel: {name}={getattr(self, name)!r} is not a function of (w, h, data)")
        rule = self.optimizer
        if rule is not None and (isinstance(rule, type) or not callable(getattr(rule, "update", rule))):
            raise InvalidType(
                f"Bilevel: optimizer={rule!r} is neither SGD, Adam or RMSprop with settings, as in SGD(lr=0.1), nor a "
                f"function of (h, t) that returns one"
            )
        for name in ("steps", "batch_size"):
            value = getattr(self, name)
            if value is not None and rule is None:
                raise InvalidValue(f"Bilevel: {name}={value!r} needs an optimizer=; without one there are no steps")
            if value is not None and not callable(value):
                whole(name, value)
        if self.batch_size is not None and callable(self.train):
            raise InvalidValue(f"Bilevel: batch_size={self.batch_size!r} does nothing where train is a function")
        whole("Bilevel: seed", self.seed, 0)
        real("Bilevel: tolerance", self.tolerance, above=0)
        if not callable(self.weights):
            autodiff.of(self.weights, "weights")
        self.by(self.method)

    def __call__(self, trial: Mapping[str, Any]) -> tuple[float, dict[str, float]]:
        """Train with a trial's parameters; return the validation loss and its derivatives by the real ones.

        Those that the method cannot know are left out.
        """
        given = dict(trial)
        real = {name: value for name, value in given.items() if isinstance(value, float)}
        found = self.hypergradient(real, fixed={name: value for name, value in given.items() if name not in real})
        return found.value, {name: float(v) for name, v in found.gradient.items() if name not in found.unknown}

    def hypergradient(
        self,
        h: Tree,
        *,
        fixed: Mapping[str, Any] | None = None,
        method: str | Method | None = None,
        start: Tree | None = None,
    ) -> Hypergradient:
        """Train with the hyperparameters ``h``; return the validation loss and its derivatives.

        Parameters
        ----------
        h
            A tree of arrays of real numbers, or of numbers.
        fixed
            Hyperparameters that are not differentiated, whole numbers and choices, which the functions find in h too.
        method
            Another than the problem's.
        start
            Weights to begin with, in place of the problem's.

        Raises
        ------
        InvalidType, InvalidValue
            For hyperparameters or losses that are not what the problem asks for, or a method that there is not.
        """
        rule = self.by(self.method if method is None else method)
        library = self._library(h)
        if fixed and not isinstance(h, Mapping):
            raise InvalidType(f"fixed={dict(fixed)!r} needs hyperparameters that have names, in a dict; they are {h!r}")
        training = self._training(library, dict(fixed or {}))
        arrays = self._arrays(library, trees.canonical(h), training)
        with library.alone(), library.seeded(arrays, self.seed):
            if trees.leaves(arrays):
                found = rule(training, arrays, start)
            else:  # nothing real is active in this configuration
                w = training.trained(arrays, start)
                found = Hypergradient(training.judged(w, arrays, self.valid), arrays, w)
        return replace(found, gradient=trees.ordered(found.gradient, h))

    def arrays(self, h: Tree, fixed: Mapping[str, Any] | None = None) -> Tree:
        """Return the hyperparameters as arrays, of which JAX compiles functions once: their types are settled."""
        library = self._library(h)
        h = self._arrays(library, h, self._training(library, dict(fixed or {})))
        return trees.apply(lambda x: library.array(x, x), h)

    def _library(self, h: Tree) -> Autodiff:
        library = autodiff.guess(h, () if callable(self.weights) else self.weights, self.valid, self.train)
        if library is None:
            raise InvalidType(
                "Bilevel: neither weights nor data nor hyperparameters say whether this is PyTorch or JAX"
            )
        return library

    def _arrays(self, library: Autodiff, h: Tree, training: Training) -> Tree:
        """Return the hyperparameters as arrays of the type of the weights."""
        plain = [leaf for leaf in trees.leaves(h) if isinstance(leaf, PLAIN)]
        if plain:
            with library.alone(), library.seeded((), self.seed):
                like = trees.leaves(training.start(trees.apply(library.number, h), None))[0]
            h = trees.apply(lambda x: library.array(x, like) if isinstance(x, PLAIN) else x, h)
        if trees.leaves(h):
            autodiff.of(h, "hyperparameters")
        return h

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
    def _trainings(self) -> dict[Hashable, Training]:
        return {}

    def _training(self, library: Autodiff, fixed: Mapping[str, Any]) -> Training:
        """Return the problem in the hands of a library; what was compiled for it is compiled once."""
        known, own = _told_apart(dict(fixed))
        key = library.name, known
        if key not in self._trainings and len(self._trainings) >= COMPILED:
            del self._trainings[next(iter(self._trainings))]
        return self._trainings.setdefault(key, Training(self, library, own))


def _told_apart(value: Any) -> tuple[Hashable, Any]:
    """Return what tells a value from all others that are alive, and the value, as a copy where it is a container."""
    if value is None or type(value) in (int, float, bool, str):
        return (type(value), value), value
    if type(value) is dict:
        pairs = {key: _told_apart(branch) for key, branch in sorted(value.items(), key=lambda item: str(item[0]))}
        return (dict, *((key, known) for key, (known, _) in pairs.items())), {k: own for k, (_, own) in pairs.items()}
    if type(value) in (list, tuple):
        branches = [_told_apart(branch) for branch in value]
        return (type(value), *(known for known, _ in branches)), type(value)(own for _, own in branches)
    if type(value) is np.ndarray and not value.dtype.hasobject:
        return (np.ndarray, value.dtype.str, value.shape, value.tobytes()), value.copy()
    shown = "" if autodiff.guess(value) else repr(value)  # an object that has changed may be equal to itself
    try:
        hash(value)
    except TypeError:
        return (type(value), id(value), shown), value
    return (type(value), value, shown), value
