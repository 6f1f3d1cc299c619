"""Why a study stopped: what is stored as its reason, and whom that concerns."""

from __future__ import annotations

import re

BUDGET = "budget: all trials are done"
ENDED = "population: all of its members have come to their end"
EXHAUSTED = "space exhausted: every configuration has been tried"
INTERRUPTED = "interrupted"
BROKEN = "no trial has succeeded, and the last {} failed in the same way: {}"
TIMEOUT = "timeout: {:g} seconds are over"
_OWN = [
    re.compile(re.sub(r"\\\{.*?\\\}", ".*", re.escape(reason)), re.DOTALL)
    for reason in (BUDGET, ENDED, EXHAUSTED, INTERRUPTED, BROKEN, TIMEOUT)
]


def fault(error: str | None) -> str:
    """Return an error without what differs from trial to trial where the objective is at fault in the same way.

    Only of errors of our own: what a user's error holds may be what tells one failure from another.
    """
    return re.sub(r"(?s)^(Invalid\w+: )(?:(the objective returned [^=]+)=.*|trial \d+)", r"\1\2", error or "")


def concerns_all(reason: str | None) -> bool:
    """Tell whether a stored reason ends the work of every process on the study.

    That one of them was interrupted, has no more time, cannot run the objective, or found nothing left to start, is no
    reason for another one not to go on, nor to finish what comes back.
    """
    return reason is not None and not any(own.fullmatch(reason) for own in _OWN)
