"""The record of one trial. It is never changed; a change is a new record."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from welltuned.errors import InvalidValue

CONSTRAINTS = "welltuned:constraints"  # the attribute that holds what ``LiveTrial.constrain`` was told
RESTS = "welltuned:rests"  # the one that holds at which steps a member of a population has rested
OWN = (CONSTRAINTS, RESTS)
LARGEST, SMALLEST = 1e303, 1e-300  # sizes that a search tells apart: of larger ones sums overflow, smaller ones are 0


class State(str, enum.Enum):
    """Where a trial stands."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen to the trial."""
        return self in (State.COMPLETE, State.PRUNED, State.FAILED)

    @property
    def resting(self) -> bool:
        """Whether nobody evaluates the trial, nor will unless a scheduler wants it: it has finished, or is paused."""
        return self.finished or self is State.PAUSED


class Reason(str, enum.Enum):
    """Why a trial failed."""

    ERROR = "error"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    NAN = "nan"
    INFEASIBLE = "infeasible"
    LOST = "lost"


class Origin(str, enum.Enum):
    """Where a trial's configuration came from."""

    SAMPLER = "sampler"
    ENQUEUED = "enqueued"
    ADDED = "added"


@dataclass(frozen=True)
class Report:
    """Intermediate metrics at one step of a trial."""

    step: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Trial:
    """One evaluation of the objective, or the intention of one.

    Attributes
    ----------
    number
        Position in the study, from 0.
    state, reason, error
        Where it stands; for a failed trial why, and the message. A paused one may go on from its checkpoint.
    params
        The active parameters in natural units.
    metrics, sems
        Final metrics by name, objectives first; their standard errors where the objective gave them.
    gradient
        Derivatives of the first objective by parameter, where the objective gave them.
    reports
        Intermediate metrics, ordered by step.
    origin
        Whether the sampler proposed it, it was enqueued, or added from elsewhere. Added ones use no budget.
    attempts, owner, token, lease_until
        How often it was started (and not given back in good order), by whom at last, and until when (seconds since the
        epoch) the claim holds.
    started, seconds
        When the last attempt began (seconds since the epoch), and how long the evaluation took.
    attributes
        Whatever the objective chose to note, as JSON.
    space_version, objectives, revision
        Which version of the space proposed it; the names of the objectives; when it last changed, in the study's own
        count.
    assigned, provenance
        When it got its configuration, in that count; and what the search knew when it proposed it: see
        :class:`welltuned.study.Replay`. Of a child of another trial, what it descends from: see :attr:`parent`.
    """

    number: int
    state: State
    params: Mapping[str, Any] | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    sems: Mapping[str, float] = field(default_factory=dict)
    gradient: Mapping[str, float] | None = None
    reports: tuple[Report, ...] = ()
    reason: Reason | None = None
    error: str | None = None
    origin: Origin = Origin.SAMPLER
    attempts: int = 0
    owner: str | None = None
    token: int = 0
    lease_until: float | None = None
    started: float | None = None
    seconds: float | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    space_version: int = 1
    key: str | None = None
    objectives: tuple[str, ...] = ("value",)
    revision: int = 0
    assigned: int | None = None
    provenance: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        """Say in a line what a notebook should show; the rest is there by attribute.

        Examples
        --------
        >>> Trial(3, State.COMPLETE, {"lr": 0.1}, {"value": 0.25}, owner="host|7", seconds=1.5)
        Trial(3, complete, value=0.25, params={'lr': 0.1}, seconds=1.5)
        """
        single = len(self.objectives) == 1 and self.objectives[0] in self.metrics
        found = [(n, self.metrics[n]) for n in self.objectives] if single else [("metrics", dict(self.metrics) or None)]
        facts = [
            ("reason", None if self.reason is None else self.reason.value),
            ("error", self.error),
            *found,
            ("params", None if self.params is None else dict(self.params)),
            ("seconds", self.seconds),
        ]
        told = [f"{name}={value!r}" for name, value in facts if value is not None]
        return f"Trial({', '.join([str(self.number), self.state.value, *told])})"

    def but(self, **changes: Any) -> Trial:
        """Return the trial with some fields changed; what ``dataclasses.replace`` does, at a tenth of its cost."""
        other = object.__new__(Trial)
        other.__dict__.update(self.__dict__, **changes)
        return other

    @property
    def user_attrs(self) -> Mapping[str, Any]:
        """What the objective chose to note; the name that users of Optuna know for :attr:`attributes`."""
        return self.attributes

    @property
    def constraints(self) -> Mapping[str, float]:
        """Values of the constraints on outcomes, by name; those above 0 are violated."""
        found = self.attributes.get(CONSTRAINTS) if self.attributes else None
        numbers = found if isinstance(found, Mapping) else {}
        return {name: v for name, v in numbers.items() if isinstance(v, (int, float))}

    @property
    def feasible(self) -> bool:
        """Whether no constraint on outcomes is violated."""
        return not any(value > 0 for value in self.constraints.values())

    @property
    def parent(self) -> int | None:
        """The trial whose checkpoint this one began with, or None where it began by itself."""
        return None if self.provenance is None else self.provenance.get("parent")

    @property
    def inherited(self) -> int | None:
        """Up to which step its parent had come then; its own reports are of later ones."""
        return None if self.provenance is None else self.provenance.get("step")

    @property
    def replaces(self) -> int | None:
        """The trial in whose place it began, which was behind at that step."""
        return None if self.provenance is None else self.provenance.get("replaces")

    @property
    def descent(self) -> str:
        """Words that name the parent, to follow the number of a trial; none where it has no parent."""
        return f", which goes on from trial {self.source}" if self.source else ""

    @property
    def source(self) -> str:
        """The parent and the step from which a trial goes on, for tables; empty where it has no parent."""
        return "" if self.parent is None else f"{self.parent} at step {self.inherited}"

    @property
    def rests(self) -> tuple[int, ...]:
        """The steps at which a member of a population has rested, ascending."""
        found = self.attributes.get(RESTS) if self.attributes else None
        return tuple(found) if isinstance(found, (list, tuple)) else ()

    @property
    def value(self) -> float | None:
        """The value of the only objective, or None while there is none."""
        if len(self.objectives) != 1:
            raise InvalidValue(f"trial {self.number} has the objectives {list(self.objectives)!r}; use .values")
        return self.metrics.get(self.objectives[0])

    @property
    def values(self) -> tuple[float, ...] | None:
        """The values of all objectives in their order, or None while there are none."""
        if any(name not in self.metrics for name in self.objectives):
            return None
        return tuple(self.metrics[name] for name in self.objectives)


def calculable(value: float) -> float:
    """Return a number with which a search can calculate: sums and differences of many such numbers are finite.

    The largest float there is often stands for "as bad as can be". What is not finite stays as it is.

    Examples
    --------
    >>> calculable(1.7976931348623157e308), calculable(0.1), calculable(-5e-324)
    (1e+303, 0.1, -0.0)
    """
    size = abs(value)
    if size > LARGEST and math.isfinite(value):
        return math.copysign(LARGEST, value)
    return value * 0.0 if size < SMALLEST else value


def unit_of(size: float) -> float:
    """Return the power of two next above a size, 1 for 0: what is divided by it can be squared, and loses no digit."""
    return math.ldexp(1.0, math.frexp(size)[1]) if size else 1.0


@dataclass(frozen=True)
class Outcome:
    """How an attempt at a trial ended, as an executor hands it to the study.

    ``params`` and ``domains`` are set only by objectives that suggest their parameters themselves: what was used,
    and the parameters as they were declared. ``exception`` is what was raised; it is not stored.
    """

    state: State
    metrics: Mapping[str, float] = field(default_factory=dict)
    sems: Mapping[str, float] = field(default_factory=dict)
    gradient: Mapping[str, float] | None = None
    reason: Reason | None = None
    error: str | None = None
    seconds: float | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] | None = None
    domains: Mapping[str, Any] | None = None
    exception: BaseException | None = None
