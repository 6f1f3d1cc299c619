"""Trials as flat rows, for data frames, CSV files and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from welltuned.trial import OWN, Trial

#: columns that an objective of the same name does not replace
FACTS = frozenset(
    ("number", "state", "reports", "started", "seconds", "origin", "attempts", "reason", "error", "parent", "inherited")
)


def rows(trials: Iterable[Trial], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return one dict a trial: number, state, metrics, ``params_*`` for each of ``names``, what the objective noted,
    and facts about the evaluation. ``started`` is in seconds since the epoch. Where trials descend from others, so
    say ``parent`` and ``inherited``.
    """
    trials = tuple(trials)
    bred = any(t.parent is not None for t in trials)
    return [
        {
            "number": t.number,
            "state": t.state.value,
            **{f"metrics_{name}" if name in FACTS else name: t.metrics.get(name) for name in t.objectives},
            **{f"params_{name}": (t.params or {}).get(name) for name in names},
            **{f"metrics_{k}": v for k, v in t.metrics.items() if k not in t.objectives},
            **{f"sem_{k}": v for k, v in t.sems.items()},
            **{f"constraint_{k}": v for k, v in t.constraints.items()},
            **{f"attribute_{k}": v for k, v in t.attributes.items() if k not in OWN},
            "reports": len(t.reports),
            "started": t.started,
            "seconds": t.seconds,
            "origin": t.origin.value,
            "attempts": t.attempts,
            "reason": t.reason.value if t.reason else None,
            "error": t.error,
            **({"parent": t.parent, "inherited": t.inherited} if bred else {}),
        }
        for t in trials
    ]
