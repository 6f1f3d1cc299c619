"""Parameters that objectives declare where they use them, with ranges that may differ from trial to trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from welltuned.space.labels import Label, all_numbers, find, label_key
from welltuned.space.parameters import NO_DEFAULT, Choice, Float, Int, Ordinal, Parameter


def widened(known: Mapping[str, Parameter], declared: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Return the known parameters, with those that a trial declared added or united with what was known of them.

    Examples
    --------
    >>> widened({"units": Int(8, 64)}, {"units": Int(4, 32), "l2": Float(0.0, 1.0)})
    {'units': Int(4, 64), 'l2': Float(0.0, 1.0)}
    """
    return {**known, **{name: _united(known.get(name, p), p) for name, p in declared.items()}}


def clashes(known: Mapping[str, Parameter], declared: Mapping[str, Parameter]) -> list[str]:
    """Return the names of what a trial declared in a way that cannot be united with what was known of them.

    Examples
    --------
    >>> clashes({"p": Float(0.0, 1.0), "units": Int(8, 64)}, {"p": Int(2, 5), "units": Int(4, 32)})
    ['p']
    """
    both = [(name, known[name], p) for name, p in declared.items() if name in known]
    # by identity: choices may be arrays, which have no truth when they are compared
    return [name for name, one, other in both if one is not other and _united(one, other) is other]


def _united(one: Parameter, other: Parameter) -> Parameter:
    """Return what takes the values of both; the other one where they are not of a kind."""
    if isinstance(one, Choice) and isinstance(other, type(one)):
        # a file keeps the labels alone; the objective has the choices themselves
        own = dict(zip(map(label_key, other.labels), other.choices, strict=True))
        known = [own.get(label_key(label), choice) for label, choice in zip(one.labels, one.choices, strict=True)]
        new = [(c, label) for c, label in zip(other.choices, other.labels, strict=True) if find(known, c) is None]
        if not new and all(a is b for a, b in zip(known, one.choices, strict=True)):
            return one
        default = other.default
        if default is NO_DEFAULT and one.default is not NO_DEFAULT:
            default = known[find(one.choices, one.default) or 0]
        named = [*zip(known, one.labels, strict=True), *new]
        choices, labels = zip(*(_ordered(named) if isinstance(one, Ordinal) else named), strict=True)
        return type(one)(choices, labels=labels, default=default)
    for kind in (Float, Int):
        if isinstance(one, kind) and isinstance(other, kind) and (one.log, one.step) == (other.log, other.step):
            offset = 0.0 if one.step is None else (other.low - one.low) / one.step
            if abs(offset - round(offset)) < 1e-6:
                return replace(one, low=min(one.low, other.low), high=max(one.high, other.high))
    return other


def _ordered(named: list[tuple[Any, Label]]) -> list[tuple[Any, Label]]:
    """Return numbers by size; of anything else, only the objective knows the order: what is new comes last."""
    return sorted(named, key=lambda pair: pair[0]) if all_numbers([choice for choice, _ in named]) else named
