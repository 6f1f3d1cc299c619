"""Conditions under which a parameter is active: ``when={"n_layers": ">= 2", "optimizer": ["sgd", "adam"]}``.

A condition is a disjunction of clauses, a clause a conjunction of tests, a test a question about one parent. They are
evaluated on whole columns of the unit cube at once.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from welltuned.errors import InvalidValue
from welltuned.space import codec
from welltuned.space.labels import find_named
from welltuned.space.parameters import Choice, Parameter

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_COMPARISON = re.compile(r"\s*(>=|<=|==|!=|>|<)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")


@dataclass(frozen=True)
class Test:
    """One question about one parent: is its choice among ``indices``, or do its values compare so with ``operands``?"""

    parent: str
    indices: tuple[int, ...] = ()
    comparison: str | None = None
    operands: tuple[float, ...] = ()

    def mask(self, parameter: Parameter, u: np.ndarray) -> np.ndarray:
        """Answer for a column ``u`` of unit coordinates, shape (n,), where the parent is known to be active."""
        if isinstance(parameter, Choice):
            index = codec.indices(parameter, u)
            found = index == self.indices[0]
            for other in self.indices[1:]:
                found |= index == other
            return np.asarray(found)
        values = codec.numbers(parameter, u)
        # a number that went through a scale may differ in its last digits from the one that was written down
        equal = np.isclose(values[:, None], np.array(self.operands)[None], rtol=1e-12, atol=1e-300)
        if self.comparison is None:
            return np.asarray(equal.any(axis=1))
        beyond = np.asarray(OPERATORS[self.comparison](values, self.operands[0]))
        return np.where(equal[:, 0], "=" in self.comparison and self.comparison != "!=", beyond)


@dataclass(frozen=True)
class Condition:
    """Any of the clauses, each of which is all of its tests."""

    clauses: tuple[tuple[Test, ...], ...]

    @property
    def parents(self) -> set[str]:
        """Names of all parameters the condition asks about."""
        return {test.parent for clause in self.clauses for test in clause}


def compile_condition(name: str, parameter: Parameter, parameters: Mapping[str, Parameter]) -> Condition | None:
    """Turn ``when=`` into tests; refuse unknown parents and values that the parent cannot take."""
    return None if parameter.when is None else compile_clauses(f"parameter {name!r}: when", parameter.when, parameters)


def compile_clauses(where: str, when: Any, parameters: Mapping[str, Parameter]) -> Condition:
    """Turn one dict of tests, or a list of them, into a condition; ``where`` is what errors begin with."""
    clauses = [when] if isinstance(when, Mapping) else when
    return Condition(
        tuple(
            tuple(_test(where, parent, wanted, parameters) for parent, wanted in clause.items()) for clause in clauses
        )
    )


def _test(where: str, parent: str, wanted: Any, parameters: Mapping[str, Parameter]) -> Test:
    if parent not in parameters:
        raise InvalidValue(
            f"{where}={{{parent!r}: {wanted!r}}} names an unknown parameter; known are {sorted(parameters)!r}"
        )
    return (_choice_test if isinstance(parameters[parent], Choice) else _number_test)(
        where, parent, wanted, parameters[parent]
    )


def _choice_test(where: str, parent: str, wanted: Any, parameter: Any) -> Test:
    # a value that is itself a choice is meant as one, also when it is a list or a tuple
    if (index := find_named(parameter.choices, parameter.labels, wanted)) is not None:
        return Test(parent, indices=(index,))
    wants = list(wanted) if isinstance(wanted, (list, tuple, set, frozenset)) else [wanted]
    found = [find_named(parameter.choices, parameter.labels, want) for want in wants]
    for want, index in zip(wants, found, strict=True):
        if index is None:
            raise InvalidValue(
                f"{where}={{{parent!r}: {wanted!r}}}, but {want!r} is not among the choices {list(parameter.choices)!r}"
                + (f", nor one of their names {list(parameter.labels)!r}" if isinstance(want, str) else "")
            )
    if not found:
        raise InvalidValue(f"{where}={{{parent!r}: {wanted!r}}} allows no value at all")
    return Test(parent, indices=tuple(sorted(i for i in found if i is not None)))


def _number_test(where: str, parent: str, wanted: Any, parameter: Any) -> Test:
    if isinstance(wanted, str):
        match = _COMPARISON.fullmatch(wanted)
        if not match:
            raise InvalidValue(f"{where}={{{parent!r}: {wanted!r}}} is no comparison; write it like '>= 2'")
        return Test(parent, comparison=match[1], operands=(float(match[2]),))
    wants = list(wanted) if isinstance(wanted, (list, tuple, set, frozenset)) else [wanted]
    if not wants:
        raise InvalidValue(f"{where}={{{parent!r}: {wanted!r}}} allows no value at all")
    for want in wants:
        if (
            isinstance(want, bool)
            or not isinstance(want, (int, float, np.number))
            or not parameter.low <= want <= parameter.high
        ):
            raise InvalidValue(
                f"{where}={{{parent!r}: {wanted!r}}}, but {want!r} is not a value of "
                f"{parameter!r}; write a number or a comparison like '>= 2'"
            )
    return Test(parent, operands=tuple(float(w) for w in wants))


def topological_order(conditions: Mapping[str, Condition | None]) -> tuple[str, ...]:
    """Sort names so that parents come before their children, otherwise in the order given; refuse cycles."""
    order: list[str] = []
    waiting = dict(conditions)
    while waiting:
        ready = [n for n, c in waiting.items() if c is None or not (c.parents & waiting.keys())]
        if not ready:
            raise InvalidValue(f"the conditions of {sorted(waiting)!r} form a cycle; each depends on another of them")
        # one at a time keeps a child as near to its declared place as its parents allow
        order.append(ready[0])
        del waiting[ready[0]]
    return tuple(order)
