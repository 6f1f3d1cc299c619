"""Training as the methods see it: steps, minima and batches, and derivatives of them, in the hands of a library."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from welltuned.errors import InvalidValue
from welltuned.hypergrad import autodiff, trees
from welltuned.hypergrad.autodiff import Autodiff
from welltuned.hypergrad.optimizers import Optimizer
from welltuned.hypergrad.trees import Array, Tree
from welltuned.settings import whole

if TYPE_CHECKING:
    from welltuned.hypergrad.bilevel import Bilevel

# weights, and what the update rule remembers
State: TypeAlias = tuple[Tree, Tree]
Pull: TypeAlias = Callable[[Tree], tuple[Tree, ...]]
ITERATIONS = 200
STEPS = 100


@dataclass(frozen=True, eq=False)
class Training:
    """A problem in the hands of a library, with the hyperparameters that are not differentiated."""

    problem: Bilevel
    library: Autodiff
    fixed: Mapping[str, Any]

    # -- the two losses --

    @functools.cached_property
    def inner(self) -> Callable[[Tree, Tree, Any], tuple[Array, Tree]]:
        """The function of (w, h, data) that returns L and ∂L/∂w."""
        return self.library.compile(self.library.gradient(self._inner))

    @functools.cached_property
    def outer(self) -> Callable[[Tree, Tree, Any], tuple[Array, tuple[Tree, Tree]]]:
        """The function of (w, h, data) that returns E, and ∂E/∂w and ∂E/∂h."""

        def loss(both: tuple[Tree, Tree], data: Any) -> Array:
            return _one_number("outer", self.problem.outer(both[0], self.all(both[1]), data))

        gradient = self.library.compile(self.library.gradient(loss))
        return lambda w, h, data: gradient((w, h), data)

    @functools.cached_property
    def stationary(self) -> Callable[[Tree, Tree, Any], tuple[Tree, Pull]]:
        """The function of (w, h, data) that returns ∂L/∂w, and of v: v · ∂²L/∂w² and v · ∂²L/∂w∂h."""
        slope = self.library.gradient(self._inner)

        def function(w: Tree, h: Tree, data: Any) -> tuple[Tree, Pull]:
            return self.library.vjp(lambda w, h: slope(w, h, data)[1], w, h)

        return self.library.compile(function)

    def _inner(self, w: Tree, h: Tree, data: Any) -> Array:
        return _one_number("inner", self.problem.inner(w, self.all(h), data))

    def judged(self, w: Tree, h: Tree, data: Any) -> float:
        """Return E alone, of any data."""
        return float(_one_number("outer", self.problem.outer(w, self.all(h), data)))

    def all(self, h: Tree) -> Tree:
        """Return all hyperparameters, those that are not differentiated among them."""
        return {**self.fixed, **h} if self.fixed else h

    # -- steps --

    @functools.cached_property
    def linearised(self) -> Callable[[State, Tree, Any, Any], tuple[State, Pull]]:
        """The function of (s, h, data, t) that returns Φ_t(s, h), and of a: a · ∂Φ_t/∂s and a · ∂Φ_t/∂h."""

        def function(state: State, h: Tree, data: Any, t: Any) -> tuple[State, Pull]:
            return self.library.vjp(lambda s, h: self.step(s, h, data, t), state, h)

        return self._seeded(self.library.compile(function))

    @functools.cached_property
    def pushed(self) -> Callable[[State, Tree, Any, Any, tuple[Tree, Tree]], tuple[State, Tree]]:
        """The function of (s, h, data, t, tangents) that returns Φ_t(s, h) and its derivatives along the tangents."""

        def function(state: State, h: Tree, data: Any, t: Any, tangents: tuple[Tree, Tree]) -> tuple[State, Tree]:
            return self.library.jvps(lambda s, h: self.step(s, h, data, t), (state, h), tangents)

        return self._seeded(self.library.compile(function))

    @functools.cached_property
    def forward(self) -> Callable[[State, Tree, Any, Any], State]:
        """The function of (s, h, data, t) that returns Φ_t(s, h) alone."""
        return self._seeded(self.library.compile(self.step))

    @functools.cached_property
    def pulled(self) -> Callable[[Pull, Tree], tuple[Tree, ...]]:
        """The function of (pull, v) that returns pull(v)."""
        return self.library.compile(lambda pull, v: pull(v))

    def step(self, state: State, h: Tree, data: Any, t: Any) -> State:
        """Return Φ_t(s, h), the state after one step of training."""
        w, memory = state
        _, slope = self.library.gradient(self._inner)(w, h, data)
        moved, memory = self._optimizer(h, t).update(slope, memory, w, t)
        trees.apply(_of_one_shape, moved, w)
        return trees.canonical(moved), trees.canonical(memory)

    def begin(self, w: Tree, h: Tree) -> State:
        """Return the state before the first step."""
        return w, trees.canonical(self._optimizer(h, 0).init(w))

    def start(self, h: Tree, start: Tree | None) -> Tree:
        """Return the weights that training begins with: those given, or the problem's."""
        weights = self.problem.weights if start is None else start
        if callable(weights):
            weights = weights(self.all(h))
            autodiff.of(weights, "weights")
        return trees.canonical(weights)

    def _optimizer(self, h: Tree, t: Any) -> Optimizer:
        rule = self.problem.optimizer
        return rule if hasattr(rule, "update") else rule(self.all(h), t)

    def _seeded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        # a step that is taken again has to be the same one, with the same weights dropped
        def same(state: State, h: Tree, data: Any, t: int, *rest: Any) -> Any:
            with self.library.seeded(state[0], self.problem.seed * 1_000_003 + t):
                return function(state, h, data, self.library.steps(t), *rest)

        return same

    # -- batches --

    def steps(self, h: Tree) -> int:
        """Return how many steps training has."""
        steps = self.problem.steps
        return whole("steps", STEPS if steps is None else self._asked(steps, h))

    def batch(self, h: Tree, t: int) -> Any:
        """Return the data that step ``t`` sees."""
        data = self.problem.train
        if callable(data):
            return data(t)
        size = self._asked(self.problem.batch_size, h)
        if data is None or size is None:
            return data
        n = rows(data, "train")
        size = min(whole("batch_size", size), n)
        epoch, place = divmod(t, n // size)
        chosen = _order(n, self.problem.seed, epoch)[place * size : (place + 1) * size]
        return trees.apply(lambda x: x[chosen], data)

    def whole(self, h: Tree) -> Any:
        """Return all the data of the training loss, or the last batch where only batches are known."""
        return self.problem.train(self.steps(h) - 1) if callable(self.problem.train) else self.problem.train

    def _asked(self, setting: Any, h: Tree) -> Any:
        return setting(self.all(h)) if callable(setting) else setting

    # -- minima --

    def trained(self, h: Tree, start: Tree | None) -> Tree:
        """Return weights after training: the minimum that SciPy finds, or the last step's where there is a rule."""
        w = self.start(h, start)
        if self.problem.optimizer is None:
            return self._minimum(w, w if start is None else self.start(h, None), h)
        state = self.begin(w, h)
        for t in range(self.steps(h)):
            state = self.forward(state, h, self.batch(h, t), t)
        return state[0]

    def _minimum(self, start: Tree, origin: Tree, h: Tree) -> Tree:
        """Return the weights where ∂L/∂w vanishes, by a trust-region Newton method with truncated conjugate gradients.

        Where penalties differ by orders of magnitude it takes a fifteenth of L-BFGS's time, and comes closer.

        It begins at ``start``; the problem itself begins at ``origin``, which sets what counts as flat.
        """
        from scipy.optimize import minimize

        data = self.whole(h)
        products: dict[bytes, Pull] = {}

        def fun(x: np.ndarray) -> tuple[float, np.ndarray]:
            value, slope = self.inner(self._folded(x, start), h, data)
            flat = autodiff.flat(self.library, slope)
            # the trust region shrinks away from what is infinite
            return (float(value), flat) if np.isfinite(flat).all() else (math.inf, np.zeros_like(x))

        def hessp(x: np.ndarray, v: np.ndarray) -> np.ndarray:
            if (place := x.tobytes()) not in products:
                products.clear()
                products[place] = self.stationary(self._folded(x, start), h, data)[1]
            return autodiff.flat(self.library, self.pulled(products[place], self._folded(v, start))[0])

        x = autodiff.flat(self.library, start)
        value, slope = fun(x)
        if not math.isfinite(value):
            return self._folded(np.full_like(x, math.nan), start)
        # the losses' unit should not matter, nor how near the start is
        steepness = np.linalg.norm(slope if origin is start else fun(autodiff.flat(self.library, origin))[1])
        options = {"gtol": self.problem.tolerance * (steepness or 1.0), "maxiter": ITERATIONS}
        return self._folded(minimize(fun, x, jac=True, hessp=hessp, method="trust-ncg", options=options).x, start)

    def _folded(self, x: np.ndarray, like: Tree) -> Tree:
        return autodiff.folded(self.library, x, like)


def rows(data: Any, name: str) -> int:
    """Return how many rows the arrays of some data have along their first axis."""
    shapes: dict[str, tuple[int, ...]] = {place: getattr(leaf, "shape", ()) for place, leaf in trees.paths(data)}
    if single := [place for place, shape in shapes.items() if not shape]:
        raise InvalidValue(f"{name}: {single[0] or 'the value'} has no rows; expected arrays with one first axis")
    lengths = {place: int(shape[0]) for place, shape in shapes.items()}
    if len(set(lengths.values())) != 1:
        raise InvalidValue(f"{name} holds arrays of different lengths: {lengths!r}; expected one first axis")
    return next(iter(lengths.values()))


@functools.lru_cache(maxsize=4)
def _order(n: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(n)


def _of_one_shape(after: Any, before: Any) -> None:
    if after.shape != before.shape:
        raise InvalidValue(
            f"the optimizer makes weights of the shape {tuple(before.shape)} into {tuple(after.shape)}: a setting has "
            f"too many numbers; a schedule needs lr=h['lr'][t]"
        )


def _one_number(name: str, value: Any) -> Array:
    if getattr(value, "shape", None) != ():
        what = f"an array of the shape {tuple(value.shape)}" if hasattr(value, "shape") else repr(value)
        raise InvalidValue(f"{name} returned {what}; expected one number of the library, such as a mean of losses")
    return value
