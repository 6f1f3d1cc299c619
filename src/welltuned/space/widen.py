"""Parameters that objectives declare where they use them, with ranges that may differ from trial to trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from welltuned.space.labels import find
from welltuned.space.parameters import Categorical, Float, Int, Parameter


def widened(known: Mapping[str, Parameter], declared: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Return the known parameters, with those that a trial declared added or united with what was known of them.

    Examples
    --------
    >>> widened({"units": Int(8, 64)}, {"units": Int(4, 32), "l2": Float(0.0, 1.0)})
    {'units': Int(4, 64), 'l2': Float(0.0, 1.0)}
    """
    return {**known, **{name: _united(known.get(name, p), p) for name, p in declared.items()}}


def _united(one: Parameter, other: Parameter) -> Parameter:
    """Return what takes the values of both; the other one where they are not of a kind."""
    if isinstance(one, Categorical) and isinstance(other, Categorical):
        new = [choice for choice in other.choices if find(one.choices, choice) is None]
        return Categorical([*one.choices, *new]) if new else one
    for kind in (Float, Int):
        if isinstance(one, kind) and isinstance(other, kind) and (one.log, one.step) == (other.log, other.step):
            offset = 0.0 if one.step is None else (other.low - one.low) / one.step
            if abs(offset - round(offset)) < 1e-6:
                return replace(one, low=min(one.low, other.low), high=max(one.high, other.high))
    return other
