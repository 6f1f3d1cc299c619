"""The narrow waist between the loop and where objectives run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

from welltuned.evaluation import Objective
from welltuned.executors.limits import Limits
from welltuned.live import Task
from welltuned.trial import Outcome, Report

#: called in the coordinating process with every report; tells whether the trial should stop
OnReport: TypeAlias = Callable[[Task, Report], bool]


@dataclass(frozen=True)
class Job:
    """What all tasks of one run share: the objective, the names of the objectives, where reports go, and limits."""

    objective: Objective
    objectives: Sequence[str]
    on_report: OnReport
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Finished:
    """A task that ended. Without an outcome its worker died, and the trial is to be tried again."""

    task: Task
    outcome: Outcome | None
    error: str | None = None


@runtime_checkable
class Executor(Protocol):
    """Evaluate tasks, up to a number of them at the same time."""

    def submit(self, task: Task) -> None:
        """Start a task. Call it only while fewer tasks than workers are under way."""

    def wait(self, timeout: float | None = None) -> list[Finished]:
        """Return tasks that ended, waiting for at least one of them, ``timeout`` seconds at most."""

    def close(self) -> None:
        """End all workers; those that are busy at once, whatever they are doing."""
