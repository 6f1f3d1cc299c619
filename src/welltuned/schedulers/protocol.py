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


@dataclass(frozen=True)
class Pause:
    """Let the trial rest where it is; it may be promoted later, and goes on from its checkpoint then."""

    why: str


Decision: TypeAlias = Continue | Stop | Pause


@runtime_checkable
class Scheduler(Protocol):
    """Judge a running trial by what it reported."""

    def decide(self, history: History, number: int, report: Report) -> Decision:
        """Return what to do with trial ``number`` after ``report``, which the history already holds."""


@runtime_checkable
class Promoter(Scheduler, Protocol):
    """A scheduler that pauses trials, and lets some of them go on before new ones begin."""

    def promote(self, history: History) -> int | None:
        """Return the number of the paused trial that should go on now; None when a new one should begin."""
