"""Results from elsewhere, as trials of a study."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from welltuned.errors import InvalidType, InvalidValue
from welltuned.evaluation import interpret
from welltuned.history import History, key_of
from welltuned.space import Space
from welltuned.space.labels import find
from welltuned.trial import Origin, Reason, Report, State, Trial


@dataclass(frozen=True)
class Added:
    """What became of rows given to :meth:`Study.add`: the numbers of those taken, and the others with the reason."""

    numbers: tuple[int, ...]
    refused: tuple[tuple[Any, str], ...] = ()


def record_of(history: History, number: Any, what: str = "tell") -> Trial:
    """Return a trial by its number, where ``what`` was given that."""
    if isinstance(number, bool) or not isinstance(number, numbers.Integral):
        advice = "; other results go to study.add" if what == "tell" else ""
        raise InvalidType(f"{what}: {number!r} is neither a trial nor its number{advice}")
    if (trial := history.trials_by_number.get(int(number))) is None:
        raise InvalidValue(f"{what}: there is no trial {number}; the study has {len(history.trials)}")
    return trial


def as_enqueued(params: Any, space: Space | None, objectives: tuple[str, ...]) -> list[Trial]:
    """Return a configuration, or a list of them, as waiting trials.

    Raises
    ------
    InvalidType, InvalidValue
        When one is not a configuration of the space.
    """
    if not isinstance(params, Iterable) or isinstance(params, (str, bytes)):
        raise InvalidType(f"enqueue: {params!r} is neither a configuration nor a list of them")
    rows: list[Any] = [params] if is_one(params, space) else list(params)
    found = [dict(p) if space is None or space.partial else space.validate(p) for p in rows]
    keys = [None if space is None else space.key(p) for p in found]
    return [
        Trial(0, State.WAITING, p, origin=Origin.ENQUEUED, key=key, objectives=objectives)
        for p, key in zip(found, keys, strict=True)
    ]


def already_there(asked: Sequence[Trial], history: History) -> dict[int, int]:
    """Return which of the configurations asked for, by position, have a trial that did not fail: its number."""
    space = history.space
    if not space.partial and not any(one.key is None or history.knows(one.key) for one in asked):
        return {}  # without a look at each trial: programs enqueue one after the other
    trials = [t for t in history.trials if t.params is not None and t.state is not State.FAILED]
    keys = {key_of(space, t): t.number for t in trials if t.key is not None}
    enqueued = [t for t in trials if t.origin is Origin.ENQUEUED]
    found: dict[int, int] = {}
    for i, one in enumerate(asked):
        if one.key in keys:
            found[i] = keys[one.key or ""]
        elif one.params and (space.partial or one.key is None):
            # of an open space, what was asked for is a part of what was used
            number = next((t.number for t in enqueued if _holds(t.params, one.params)), None)
            if number is not None:
                found[i] = number
    return found


def firsts(asked: Sequence[Trial]) -> list[int]:
    """Return for each of the configurations asked for the position of the first that is the same."""
    by_key: dict[str, int] = {}
    found = []
    for i, one in enumerate(asked):
        if one.key is not None:
            found.append(by_key.setdefault(one.key, i))
        else:
            found.append(next(j for j in range(i + 1) if _same(asked[j].params, one.params)))
    return found


def _same(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    return len(one or {}) == len(other or {}) and _holds(one, other)


def _holds(whole: Mapping[str, Any] | None, part: Mapping[str, Any] | None) -> bool:
    whole = whole or {}
    return all(name in whole and find([whole[name]], value) is not None for name, value in (part or {}).items())


def is_one(params: Any, space: Space | None) -> bool:
    """Tell whether this is one configuration and no list of them."""
    return isinstance(params, Mapping) if space is None else space.is_one(params)


def rows_of(given: Any, value: Any, space: Space | None) -> list[Any]:
    """Return what :meth:`Study.add` was given as a list of records and of (params, value) pairs.

    Raises
    ------
    InvalidType
        When there is a value beside a list or a record, which nothing would take.
    """
    if is_one(given, space):
        return [(given, value)]
    if value is not None:
        raise InvalidType(f"add: value={value!r} beside {given!r}; give a list of (params, value) pairs alone")
    return [given] if isinstance(given, Trial) else list(given)


def _validated(params: Any, space: Space) -> dict[str, Any]:
    """Return a configuration of the space, beside what objectives used without declaring it, where they do so.

    One that was made before a parameter was added had its default, as trials of an earlier version of the space.
    """
    found = space.validate(space.filled(params) if isinstance(params, Mapping) else params)
    return {**params, **found} if space.partial else found


def _known(row: Trial, objectives: tuple[str, ...]) -> Trial:
    """Return a record without the numbers that are not finite; one is a failure where an objective is none of them."""

    def finite(values: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return {name: value for name, value in values.items() if math.isfinite(value)}
        except (TypeError, OverflowError):
            raise InvalidType(f"add: trial {row.number} has {dict(values)!r}, where there should be numbers") from None

    gradient, reports = row.gradient, [Report(r.step, finite(r.metrics)) for r in row.reports]
    known = replace(
        row,
        metrics=finite(row.metrics),
        sems=finite(row.sems),
        gradient=gradient if gradient is None or len(finite(gradient)) == len(gradient) else None,
        reports=tuple(r for r in reports if r.metrics),
    )
    if row.state is not State.COMPLETE or all(name in known.metrics for name in objectives):
        return known
    return replace(known, state=State.FAILED, reason=Reason.NAN, error="the record has an objective that is not finite")


def read_row(row: Any, space: Space, objectives: tuple[str, ...]) -> Trial:
    """Return a result that was found elsewhere as a trial of this study, without what the other study knew of it.

    Raises
    ------
    InvalidValue, InvalidType
        For what is no finished trial and no (params, value) pair, or does not fit the space.
    """
    if isinstance(row, Trial):
        if not row.state.finished:
            raise InvalidValue(f"add: trial {row.number} is {row.state.value}; only finished trials can be added")
        if row.state is State.COMPLETE and (missing := [n for n in objectives if n not in row.metrics]):
            raise InvalidValue(
                f"add: trial {row.number} has the metrics {list(row.metrics)!r}, which lack {missing!r}"
            )
        params = _validated(row.params or {}, space)
        return replace(
            _known(row, objectives),
            params=params,
            key=space.key(params),
            origin=Origin.ADDED,
            owner=None,
            lease_until=None,
            provenance=None,
            objectives=objectives,
        )
    if not isinstance(row, (tuple, list)) or len(row) != 2:
        raise InvalidType(f"add: {row!r} is neither a trial nor a (params, value) pair")
    params = _validated(row[0], space)
    done = interpret(row[1], objectives, list(params))
    return Trial(
        0,
        done.state,
        params,
        done.metrics,
        done.sems,
        done.gradient,
        reason=done.reason,
        error=done.error,
        attributes=done.attributes,
        origin=Origin.ADDED,
        key=space.key(params),
        objectives=objectives,
    )
