"""Trees: dicts, lists and tuples, nested, with arrays at their ends. The few operations that methods need of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

Tree: TypeAlias = Any
Array: TypeAlias = Any


def apply(f: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """Return the tree of ``f`` of the arrays that stand at the same place in all trees, which have one shape."""
    if isinstance(tree, Mapping):
        return {key: apply(f, tree[key], *(other[key] for other in others)) for key in _keys(tree)}
    if isinstance(tree, (list, tuple)):
        return like(tree, [apply(f, *together) for together in zip(tree, *others, strict=True)])
    return f(tree, *others)


def like(sequence: Any, branches: list[Tree]) -> Any:
    """Return a list or tuple, one with names among them, of the type of another."""
    return type(sequence)(*branches) if hasattr(sequence, "_fields") else type(sequence)(branches)


def canonical(tree: Tree) -> Tree:
    """Return the tree with its dicts in the order in which :func:`apply` goes through them."""
    return apply(lambda leaf: leaf, tree)


def ordered(tree: Tree, other: Tree) -> Tree:
    """Return the tree with its dicts in the order of another's."""
    if isinstance(other, Mapping):
        return {key: ordered(tree[key], branch) for key, branch in other.items()}
    if isinstance(other, (list, tuple)):
        return like(other, [ordered(*together) for together in zip(tree, other, strict=True)])
    return tree


def leaves(tree: Tree) -> list[Array]:
    """Return the arrays of a tree, in the order in which :func:`apply` goes through them."""
    return [leaf for _, leaf in paths(tree)]


def paths(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Array]]:
    """Yield the arrays of a tree with their places, such as ``layer.bias``."""
    if isinstance(tree, (Mapping, list, tuple)):
        for key in _keys(tree) if isinstance(tree, Mapping) else range(len(tree)):
            yield from paths(tree[key], f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, tree


def _keys(tree: Mapping[Any, Any]) -> list[Any]:
    # JAX returns dicts in this order, PyTorch in that of their making
    return sorted(tree, key=str)


def plus(a: Tree, b: Tree, scale: Any = 1.0) -> Tree:
    """Return a + scale * b."""
    return apply(lambda x, y: x + scale * y, a, b)


def times(a: Tree, scale: Any) -> Tree:
    """Return scale * a."""
    return apply(lambda x: scale * x, a)


def zeros(a: Tree) -> Tree:
    """Return a tree of zeros of the shape of ``a``."""
    return apply(lambda x: 0.0 * x, a)


def dot(a: Tree, b: Tree) -> float:
    """Return the inner product of two trees."""
    return sum(float((x * y).sum()) for x, y in zip(leaves(a), leaves(b), strict=True))
