"""Samplers, schedulers and the like: made from names and settings, and these checked, in one way each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from welltuned.errors import InvalidType, InvalidValue


def whole(what: str, value: Any, lowest: int = 1) -> int:
    """Return a whole number of Python's own, at least ``lowest``.

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
    if value < lowest:
        raise InvalidValue(f"{what}={value!r} must be at least {lowest}")
    return int(value)


def check_whole(record: Any, **lowest: int) -> None:
    """Check those fields of a frozen record that are whole numbers, or None where that is what they are by default.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Search:
    ...     initial: int = 10
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
    raise InvalidType(f"{what}={spec!r} is neither a name out of {sorted(known)!r} nor a {what}")


def describe(known: Mapping[str, Callable[..., Any]], made: Any) -> dict[str, Any]:
    """Return the name and the settings of what :func:`make` makes, as JSON can hold them; of others, the class."""
    name = next((n for n, kind in known.items() if type(made) is kind), type(made).__name__)
    settings = {
        k: v for k, v in getattr(made, "__dict__", {}).items() if isinstance(v, (str, int, float, bool, type(None)))
    }
    return {"name": name, **settings}
