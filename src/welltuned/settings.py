"""Samplers, schedulers and the like: made from names and settings, and these checked, in one way each."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from welltuned.errors import InvalidType, InvalidValue


def whole(what: str, value: Any, lowest: int | None = 1) -> int:
    """Return a whole number of Python's own, at least ``lowest`` if there is such a bound.

    Raises
    ------
    InvalidType, InvalidValue
        With ``what`` the value was given as.

    Examples
    --------
    >>> whole("n_trials", np.int64(3))
    3
    >>> whole("Halving: factor", 1, 2)
    Traceback (most recent call last):
    welltuned.errors.InvalidValue: Halving: factor=1 must be at least 2
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise InvalidType(f"{what}={value!r} is not a whole number")
    if lowest is not None and value < lowest:
        raise InvalidValue(f"{what}={value!r} must be at least {lowest}")
    return int(value)


#: the bounds of a number by name: how they are said, and what holds of a number within
BOUNDS: Mapping[str, tuple[str, Callable[[float, float], bool]]] = {
    "least": ("at least", operator.ge),
    "above": ("above", operator.gt),
    "most": ("at most", operator.le),
    "below": ("below", operator.lt),
}


def real(what: str, value: Any, *, finite: bool = True, unit: str = "", instead: str = "", **bounds: float) -> float:
    """Return a number of Python's own within some bounds.

    Parameters
    ----------
    what
        As what the value was given.
    finite
        Whether it may not be infinite.
    unit, instead
        What it is a number of, and what to write instead, for the messages.
    bounds
        Out of ``BOUNDS``; the number may be ``least`` and ``most`` themselves.

    Raises
    ------
    InvalidType, InvalidValue
        With ``what`` the value was given as.

    Examples
    --------
    >>> real("timeout", np.float32(2.5), above=0, unit=" of seconds")
    2.5
    >>> real("timeout", 10**400, finite=False), real("Pbt: quantile", np.float64(0.25))
    (inf, 0.25)
    >>> real("Race: alpha", 0.5, above=0, below=0.5)
    Traceback (most recent call last):
    welltuned.errors.InvalidValue: Race: alpha=0.5 must be above 0 and below 0.5
    >>> real("MaxCost: total", math.inf, above=0)
    Traceback (most recent call last):
    welltuned.errors.InvalidValue: MaxCost: total=inf must be finite and above 0
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InvalidType(f"{what}={value!r} is not a number{unit}{instead}")
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        number = math.inf if operator.gt(value, 0) else -math.inf
    inside = all(BOUNDS[name][1](number, bound) for name, bound in bounds.items())
    if not inside or math.isnan(number) or (finite and math.isinf(number)):
        words = ["finite"] if finite and not {"most", "below"} & {*bounds} else []
        words += [f"{BOUNDS[name][0]} {bound:g}" for name, bound in bounds.items()]
        raise InvalidValue(f"{what}={value!r} must be {' and '.join(words)}{instead}")
    return value if isinstance(value, int) and math.isfinite(number) else number


def check_whole(record: Any, **lowest: int) -> None:
    """Check those fields of a frozen record that are whole numbers, or None where that is what they are by default.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Search:
    ...     initial: int = 10
    ...
    ...     def __post_init__(self):
    ...         check_whole(self, initial=1)
    >>> Search(initial=0)
    Traceback (most recent call last):
    welltuned.errors.InvalidValue: Search: initial=0 must be at least 1
    """
    kind = type(record)
    for name, least in lowest.items():
        value = getattr(record, name)
        if value is None and getattr(kind, name, 0) is None:
            continue
        object.__setattr__(record, name, whole(f"{kind.__name__}: {name}", value, least))


def check_real(record: Any, *names: str, **bounds: Any) -> None:
    """Check those fields of a frozen record that are numbers within the same bounds; see :func:`real`."""
    for name in names:
        object.__setattr__(record, name, real(f"{type(record).__name__}: {name}", getattr(record, name), **bounds))


#: what JSON holds as it is; settings are that, or tuples of it
PLAIN = (str, int, float, bool, type(None))


def make(what: str, known: Mapping[str, Callable[..., Any]], protocol: type, spec: Any) -> Any:
    """Return what ``spec`` stands for: a name, or a dict of a name and settings; or what was made already.

    Parameters
    ----------
    what
        The argument that ``spec`` was given as.
    known, protocol
        What names stand for, and what all of it can do.

    Raises
    ------
    InvalidValue, InvalidType
        For an unknown name, unknown settings, or something else altogether.
    """
    named = {"name": spec} if isinstance(spec, str) else spec
    if isinstance(named, Mapping) and isinstance(name := named.get("name"), str):
        if name not in known:
            raise InvalidValue(f"{what}={name!r} is unknown; known are {sorted(known)!r}")
        try:
            return known[name](**{k: v for k, v in named.items() if k != "name"})
        except TypeError as error:
            if isinstance(error, InvalidType):
                raise
            raise InvalidValue(f"{what}={dict(named)!r}: {error}") from None
    if isinstance(spec, protocol) and not isinstance(spec, type):
        return spec
    why = _lacking(spec, protocol)
    raise InvalidType(f"{what}={spec!r} is neither a name out of {sorted(known)!r} nor a {what}{why}")


def _lacking(spec: Any, protocol: type) -> str:
    """Say what an object lacks to be one of a protocol, such as another library's that bears the same name."""
    members = {**getattr(protocol, "__annotations__", {}), **vars(protocol)}
    lacking = [name for name in members if not name.startswith("_") and not hasattr(spec, name)]
    return f": it lacks {', '.join(lacking)}" if lacking else f"; it is a class: write {spec.__name__}()"


def describe(known: Mapping[str, Callable[..., Any]], made: Any) -> dict[str, Any]:
    """Return the name and the settings of what :func:`make` makes, as JSON can hold them; of others, the class."""
    name = next((n for n, kind in known.items() if type(made) is kind), type(made).__name__)
    settings = {
        k: list(v) if isinstance(v, tuple) else v
        for k, v in getattr(made, "__dict__", {}).items()
        if k != "name" and all(isinstance(part, PLAIN) for part in (v if isinstance(v, tuple) else (v,)))
    }
    return {"name": name, **settings}
