"""What the search could see when it proposed a trial: known before, or worked out afterwards.

Two rules say it. A *window* of w: trial k sees the results of trials up to k - w, and of those in between only that
they are under way. Then timing decides nothing. A *revision*: trial k sees what had been stored up to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from welltuned.trial import Origin, State, Trial


def is_settled(trials: Iterable[Trial], number: int, window: int) -> bool:
    """Tell whether all that trial ``number`` may see is there: results, and the configurations under way."""
    return all(
        t.state.resting if t.number <= number - window else t.params is not None for t in trials if t.number < number
    )


def within_window(trials: Iterable[Trial], number: int, window: int) -> list[Trial]:
    """Return the trials as trial ``number`` sees them, which has a ``window``.

    It does not see how long they took; and they seem to have ended in the order of their numbers.
    """
    return [
        t.but(seconds=None, revision=t.number) if t.number <= number - window else under_way(t)
        for t in trials
        if t.number < number and (t.params is not None or t.number <= number - window)
    ]


def at_revision(trials: Iterable[Trial], revision: int) -> list[Trial]:
    """Return the trials as they were at a ``revision``, from what they became in the end.

    A finished trial has the revision at which it finished, and before that it was under way since its configuration
    was stored.
    """
    seen = []
    for t in trials:
        if t.revision <= revision and (t.state.finished or t.params is not None):
            seen.append(t)
        elif t.assigned is not None and t.assigned <= revision and t.origin is not Origin.ADDED:
            seen.append(under_way(t))
    return seen


def under_way(trial: Trial) -> Trial:
    """Return a trial without its result."""
    return trial.but(
        state=State.RUNNING,
        metrics={},
        sems={},
        gradient=None,
        reports=(),
        reason=None,
        error=None,
        seconds=None,
        attributes={},
    )


def provenance(
    lead: int,
    index: int,
    n: int,
    budget: int | None,
    workers: int,
    *,
    revision: int | None = None,
    window: int | None = None,
) -> Mapping[str, Any]:
    """Return what has to be stored with a proposal so that it can be derived again.

    It is proposal ``index`` of ``n``, drawn with the generator of trial ``lead``. Without revision and window, the
    search took no look at the history.
    """
    found = {"lead": lead, "index": index, "n": n, "budget": budget, "workers": workers}
    if revision is not None:
        found["revision"] = revision
    if window is not None:
        found["window"] = window
    return found
