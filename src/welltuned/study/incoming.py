"""Results from elsewhere, as trials of a study."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from welltuned.errors import InvalidType, InvalidValue
from welltuned.evaluation import interpret
from welltuned.space import Space
from welltuned.trial import Origin, State, Trial


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
        params = space.validate(row.params or {})
        return replace(
            row,
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
    params = space.validate(row[0])
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
