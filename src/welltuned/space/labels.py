"""Names of choices that survive storage.

A choice may be any Python value; what is stored is its label, a JSON scalar. Strings, numbers, booleans and ``None``
are their own labels. Everything else gets a readable string that depends on the list of choices alone.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Sequence
from typing import Any, TypeAlias

from welltuned.errors import InvalidValue

Label: TypeAlias = "str | int | float | bool | None"


def label_key(label: Any) -> tuple[str, Any]:
    """Tell ``1``, ``1.0`` and ``True`` apart, as JSON does and ``==`` does not."""
    return type(label).__name__, label


def make_labels(kind: str, choices: Sequence[Any]) -> tuple[Label, ...]:
    """Give each choice a distinct label; refuse a choice that stands twice."""
    labels: list[Label] = []
    seen: set[tuple[str, Any]] = set()
    for index, choice in enumerate(choices):
        if (first := same(choices[:index], choice)) is not None:
            raise InvalidValue(f"{kind}: {choice!r} stands twice among the choices, at {first} and {index}")
        label = _label(choice)
        while label_key(label) in seen:
            label = f"{label}#{index}"
        seen.add(label_key(label))
        labels.append(label)
    return tuple(labels)


def own_labels(choices: Sequence[Any], labels: Sequence[Any]) -> bool:
    """Tell whether every choice is its own label, so that a file holds the choices themselves."""
    return all(choice is label for choice, label in zip(choices, labels, strict=True))


def all_numbers(choices: Sequence[Any]) -> bool:
    """Tell whether all choices are plain numbers, which have an order of their own; truth values have none."""
    return all(isinstance(c, (int, float)) and not isinstance(c, bool) for c in choices)


def ambiguous(choices: Sequence[Any], labels: Sequence[Any]) -> bool:
    """Tell whether some label names its choice by position only, because another choice has the same name."""
    return any(label == f"{_label(choice)}#{i}" for i, (choice, label) in enumerate(zip(choices, labels, strict=True)))


def _label(choice: Any) -> Label:
    plain = (
        choice.item()
        if type(choice).__module__ == "numpy" and hasattr(choice, "item") and not _shape(choice)
        else choice
    )
    if isinstance(plain, enum.Enum):
        return f"{type(plain).__name__}.{plain.name}"
    if plain is None or type(plain) in (str, bool, int) or (type(plain) is float and math.isfinite(plain)):
        return plain
    if isinstance(plain, type) or callable(plain):
        return str(getattr(plain, "__qualname__", None) or type(plain).__qualname__)
    return stable_repr(plain)


def stable_repr(value: Any) -> str:
    """Return a repr without addresses, which change from run to run and cannot be part of a label."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(getattr(value, "shape", ()))


def find(choices: Sequence[Any], value: Any) -> int | None:
    """Return the index of ``value`` among ``choices``, or None.

    The same object wins, then an equal one of the same type, then an equal one (so ``numpy.int64(32)`` finds ``32``).
    """
    if type(value).__module__ == "numpy" and hasattr(value, "item") and not _shape(value):
        value = next((c for c in choices if c is value), value.item() if same(choices, value) is None else value)
    for i, choice in enumerate(choices):
        if choice is value:
            return i
    if (index := same(choices, value)) is not None:
        return index
    if isinstance(value, bool):
        return None
    return next((i for i, c in enumerate(choices) if not isinstance(c, bool) and _equal(c, value)), None)


def find_named(choices: Sequence[Any], labels: Sequence[Any], wanted: Any) -> int | None:
    """Return the index of a choice, given itself or its label; a choice goes before the label of another one."""
    index = find(choices, wanted)
    if index is None and isinstance(wanted, str) and wanted in labels:
        return labels.index(wanted)
    return index


def same(choices: Sequence[Any], value: Any) -> int | None:
    """Return the index of a choice of the same type that equals ``value``, or None."""
    return next((i for i, c in enumerate(choices) if type(c) is type(value) and _equal(c, value)), None)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b):
        return True
    try:
        equal = a == b
        return bool(equal.all()) and _shape(a) == _shape(b) if hasattr(equal, "all") else bool(equal)
    except Exception:  # noqa: BLE001 - a choice's own __eq__ may do anything
        return False
