"""The narrow waist between reports and what is done about them. A decision is a value; the study alone acts on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np

from welltuned.history import History
from welltuned.space import Params, Space
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


@dataclass(frozen=True)
class Promote:
    """Let trial ``number`` go on from ``step``, where it rests."""

    number: int
    step: int


@dataclass(frozen=True)
class Begin:
    """Begin a trial that the sampler proposes."""


@dataclass(frozen=True)
class Child:
    """Begin a trial with these ``params`` and with the checkpoint that ``parent`` had at ``step``.

    It takes the place of the trial that it ``replaces``.
    """

    params: Params
    parent: int
    step: int
    replaces: int


Move: TypeAlias = Promote | Begin | Child


@runtime_checkable
class Scheduler(Protocol):
    """Judge a running trial by what it reported."""

    def decide(self, history: History, number: int, report: Report) -> Decision:
        """Return what to do with trial ``number`` after ``report``, which the history already holds."""


@runtime_checkable
class Critic(Scheduler, Protocol):
    """A scheduler that can judge reports of one kind alone."""

    def objection(self, reports: Sequence[Report], results: Mapping[str, float]) -> str:
        """Say what is wrong with what a complete trial reported, given what it returned by objective; "" if nothing."""


@runtime_checkable
class Promoter(Scheduler, Protocol):
    """A scheduler that pauses trials, and lets some of them go on before new ones begin."""

    def promote(self, history: History) -> int | None:
        """Return the number of the paused trial that should go on now; None when a new one should begin."""


@runtime_checkable
class Breeder(Scheduler, Protocol):
    """A scheduler that pauses trials, and says itself which ones go on and which new ones begin: a population.

    Trials that are claimed and have no configuration yet count as the first of the new ones that are to begin.
    """

    def advance(self, space: Space, history: History, rng: np.random.Generator) -> Move | None:
        """Return what to do next with an idle worker; None when nothing is to be done before others have come further.

        ``rng`` is the generator of the trial that would begin.
        """

    def parents(self, history: History) -> frozenset[tuple[int, int]]:
        """Return all (number, step) whose checkpoints, as they were there, children may yet begin with."""
