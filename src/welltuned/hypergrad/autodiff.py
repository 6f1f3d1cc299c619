"""What methods need of a library that differentiates: products with a Jacobian from either side. PyTorch, JAX."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from welltuned.errors import InvalidType, InvalidValue
from welltuned.hypergrad import trees
from welltuned.hypergrad.trees import Array, Tree


class Autodiff(Protocol):
    """A library that differentiates functions of trees."""

    name: str

    def gradient(self, f: Callable[..., Array]) -> Callable[..., tuple[Array, Tree]]:
        """Return the function of the value of ``f`` and of its gradient by its first argument."""

    def vjp(self, f: Callable[..., Tree], *primals: Tree) -> tuple[Tree, Callable[[Tree], tuple[Tree, ...]]]:
        """Return f(primals), and the function of a cotangent v that returns v · ∂f/∂primal for each of them."""

    def jvps(self, f: Callable[..., Tree], primals: tuple[Tree, ...], tangents: tuple[Tree, ...]) -> tuple[Tree, Tree]:
        """Return f(primals), and ∂f/∂primals · tangents for each of the tangents that lie along a first axis."""

    def compile(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``f``, compiled where the library has a compiler that is worth it."""

    def array(self, value: Any, like: Array) -> Array:
        """Return an array of the values, of the type and on the device of another."""

    def number(self, value: Any) -> Array:
        """Return an array of the library's own type of real numbers."""

    def numpy(self, array: Array) -> np.ndarray:
        """Return the values of an array, in double precision."""

    def steps(self, t: int) -> Any:
        """Return the number of a step as compiled functions want it."""

    def seeded(self, like: Tree, seed: int) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which the library's global generators start from ``seed``."""

    def alone(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which the library records nothing but what the methods ask for."""


class Torch:
    """PyTorch, by ``torch.func``."""

    name = "torch"

    def __init__(self) -> None:
        import torch

        self.torch = torch

    def gradient(self, f: Callable[..., Array]) -> Callable[..., tuple[Array, Tree]]:
        """See :class:`Autodiff`."""
        both = self.torch.func.grad_and_value(f)

        def turned(*args: Any) -> tuple[Array, Tree]:
            gradient, value = both(*args)
            return value, gradient

        return turned

    def vjp(self, f: Callable[..., Tree], *primals: Tree) -> tuple[Tree, Callable[[Tree], tuple[Tree, ...]]]:
        """See :class:`Autodiff`."""
        return self.torch.func.vjp(f, *primals)

    def jvps(self, f: Callable[..., Tree], primals: tuple[Tree, ...], tangents: tuple[Tree, ...]) -> tuple[Tree, Tree]:
        """See :class:`Autodiff`."""
        push = self.torch.func.vmap(lambda v: self.torch.func.jvp(f, primals, v), out_dims=(None, 0), randomness="same")
        return push(tangents)

    def compile(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """See :class:`Autodiff`."""
        return f

    def array(self, value: Any, like: Array) -> Array:
        """See :class:`Autodiff`."""
        return self.torch.as_tensor(value, dtype=like.dtype, device=like.device)

    def number(self, value: Any) -> Array:
        """See :class:`Autodiff`."""
        return self.torch.as_tensor(value, dtype=self.torch.get_default_dtype())

    def numpy(self, array: Array) -> np.ndarray:
        """See :class:`Autodiff`."""
        return array.detach().cpu().double().numpy()

    def steps(self, t: int) -> Any:
        """See :class:`Autodiff`."""
        return t

    @contextlib.contextmanager
    def seeded(self, like: Tree, seed: int) -> Any:
        """See :class:`Autodiff`."""
        devices = {leaf.device.index for leaf in trees.leaves(like) if leaf.device.type == "cuda"}
        # torch.random.fork_rng does the same in forty times the time
        generators = [self.torch.default_generator, *(self.torch.cuda.default_generators[i] for i in devices)]
        states = [generator.get_state() for generator in generators]
        try:
            for generator in generators:
                generator.manual_seed(seed)
            yield
        finally:
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)

    def alone(self) -> contextlib.AbstractContextManager[Any]:
        """See :class:`Autodiff`."""
        # parameters of modules ask for a record of all that is done with them; torch.func keeps its own
        return self.torch.no_grad()


class Jax:
    """JAX."""

    name = "jax"

    def __init__(self) -> None:
        import jax

        self.jax = jax

    def gradient(self, f: Callable[..., Array]) -> Callable[..., tuple[Array, Tree]]:
        """See :class:`Autodiff`."""
        return self.jax.value_and_grad(f)

    def vjp(self, f: Callable[..., Tree], *primals: Tree) -> tuple[Tree, Callable[[Tree], tuple[Tree, ...]]]:
        """See :class:`Autodiff`."""
        return self.jax.vjp(f, *primals)

    def jvps(self, f: Callable[..., Tree], primals: tuple[Tree, ...], tangents: tuple[Tree, ...]) -> tuple[Tree, Tree]:
        """See :class:`Autodiff`."""
        return self.jax.vmap(lambda v: self.jax.jvp(f, primals, v), out_axes=(None, 0))(tangents)

    def compile(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """See :class:`Autodiff`."""
        return self.jax.jit(f)

    def array(self, value: Any, like: Array) -> Array:
        """See :class:`Autodiff`."""
        return self.jax.numpy.asarray(value, dtype=like.dtype)

    def number(self, value: Any) -> Array:
        """See :class:`Autodiff`."""
        return self.jax.numpy.asarray(value, dtype=float)

    def numpy(self, array: Array) -> np.ndarray:
        """See :class:`Autodiff`."""
        return np.asarray(array, dtype=float)

    def steps(self, t: int) -> Any:
        """See :class:`Autodiff`."""
        return self.jax.numpy.asarray(t)

    def seeded(self, like: Tree, seed: int) -> contextlib.AbstractContextManager[Any]:  # noqa: ARG002
        """See :class:`Autodiff`."""
        return contextlib.nullcontext()  # JAX has no global generator

    def alone(self) -> contextlib.AbstractContextManager[Any]:
        """See :class:`Autodiff`."""
        return contextlib.nullcontext()


LIBRARIES: dict[str, Callable[[], Autodiff]] = {"torch": Torch, "jax": Jax, "jaxlib": Jax}


def of(tree: Tree, what: str) -> Autodiff:
    """Return the library of a tree's arrays, which all have to be real numbers of one library."""
    found = {}
    for place, leaf in trees.paths(tree):
        if (library := _name_of(leaf)) is None:
            raise InvalidType(
                f"{what}: {place or 'the value'} is {_short(leaf)} of type {type(leaf).__name__}; expected a tensor of "
                f"PyTorch or an array of JAX"
            )
        if "float" not in str(leaf.dtype):
            raise InvalidType(f"{what}: {place} is of the type {leaf.dtype}; expected real numbers")
        found[LIBRARIES[library]] = place
    if not found:
        raise InvalidValue(f"{what}={tree!r} holds no arrays")
    if len(found) > 1:
        raise InvalidType(f"{what} mixes arrays of PyTorch and of JAX: {sorted(found.values())!r}")
    return next(iter(found))()


def guess(*data: Any) -> Autodiff | None:
    """Return the library of the first array among some data, None where there is none."""
    names = (_name_of(leaf) for tree in data if not callable(tree) for _, leaf in trees.paths(tree))
    name = next((name for name in names if name is not None), None)
    return None if name is None else LIBRARIES[name]()


def _name_of(leaf: Any) -> str | None:
    return next((name for c in type(leaf).__mro__ if (name := c.__module__.split(".")[0]) in LIBRARIES), None)


def sizes(tree: Tree) -> list[int]:
    """Return how many numbers each array of a tree has."""
    return [int(np.prod(leaf.shape)) for leaf in trees.leaves(tree)]


def basis(library: Autodiff, tree: Tree) -> Tree:
    """Return the unit vectors of a tree of N numbers, along a first axis of N of its arrays."""
    return folded(library, np.eye(sum(sizes(tree))), tree)


def flat(library: Autodiff, tree: Tree) -> np.ndarray:
    """Return all numbers of a tree as one vector."""
    return np.concatenate([library.numpy(leaf).ravel() for leaf in trees.leaves(tree)])


def folded(library: Autodiff, vector: np.ndarray, like: Tree) -> Tree:
    """Return the tree of the shape of another whose numbers are those of a vector, or of vectors along first axes."""
    parts = iter(np.split(vector, np.cumsum(sizes(like))[:-1], axis=-1))
    return trees.apply(lambda leaf: library.array(next(parts).reshape((*vector.shape[:-1], *leaf.shape)), leaf), like)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else text[:57] + "..."
