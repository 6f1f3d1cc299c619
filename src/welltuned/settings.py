"""Settings of samplers, schedulers and the like, checked in one way and with one message."""

from __future__ import annotations

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
