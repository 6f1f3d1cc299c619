"""The narrow waist between reports and what is done about them. A decision is a value; the study alone acts on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from welltuned.history import History
from welltuned.trial import Report


@dataclass(frozen=True)
class Continue:
    """Let the trial go on."""


@dataclass(frozen=True)
class Stop:
    """End the trial as pruned."""

    why: str


Decision: TypeAlias = Continue | Stop


@runtime_checkable
class Scheduler(Protocol):
    """Judge a running trial by what it reported."""

    def decide(self, history: History, number: int, report: Report) -> Decision:
        """Return what to do with trial ``number`` after ``report``, which the history already holds."""
