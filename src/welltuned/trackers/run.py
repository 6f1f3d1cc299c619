"""What a tracker is given of a study and of a trial: plain values under the same names, whichever tracker it is."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from welltuned.samplers import describe_sampler
from welltuned.schedulers import describe_scheduler
from welltuned.study import Study
from welltuned.trial import OWN, Report, State, Trial

Plain: TypeAlias = "str | int | float | bool | None"

#: what is held of a trial to which nothing more will be added
ALL = "all"


@dataclass(frozen=True)
class Subject:
    """A study, as trackers know it.

    Attributes
    ----------
    name, key
        Its name; and the same as one word that tells it from all others, those of the same name too.
    created
        When it was made, in seconds since the epoch.
    facts
        Directions, seed, sampler and scheduler, as text and numbers.
    best
        Number and value of the best trial, where there is one objective and a trial has completed.
    """

    name: str
    key: str
    created: float
    facts: Mapping[str, Plain]
    best: tuple[int, float] | None = None


@dataclass(frozen=True)
class Run:
    """A trial that has ended or is paused, as trackers know it.

    Attributes
    ----------
    number, state, held
        Its number and state; and what a tracker holds once it has the run as it is now: ``"all"`` of one that has
        ended, or how many reports of one that is paused.
    params
        Parameters; choices that are neither texts nor numbers by their labels.
    metrics
        What it came to by name, objectives first, then ``sem/…``, ``constraint/…`` and ``trial/seconds``.
    reports
        Intermediate metrics, by step; trackers put ``report/`` before their names.
    facts, notes
        What else is known of it, and what the objective noted.
    started, ended
        In seconds since the epoch. When each report came is not stored; all of them count as of the end.
    """

    number: int
    state: State
    held: str
    params: Mapping[str, Plain]
    metrics: Mapping[str, float]
    reports: tuple[Report, ...]
    facts: Mapping[str, Plain]
    notes: Mapping[str, Any]
    started: float
    ended: float

    @property
    def name(self) -> str:
        """What people see of it in a list."""
        return f"trial {self.number}"

    @property
    def last_step(self) -> int:
        """The step of the last report, 0 where there is none: where what a trial came to stands beside its reports."""
        return self.reports[-1].step if self.reports else 0

    @property
    def reported(self) -> dict[tuple[str, int], float]:
        """All intermediate metrics, by the name that trackers show and the step."""
        return {(f"report/{name}", r.step): value for r in self.reports for name, value in r.metrics.items()}

    @property
    def failed(self) -> bool:
        """Whether it has failed."""
        return self.state is State.FAILED


def part_of(reports: int) -> str:
    """Return what is held of a trial that is paused after so many reports."""
    return f"{reports} reports"


def holding(trial: Trial) -> str:
    """Return what a tracker holds once it has a trial as it is now."""
    return ALL if trial.state.finished else part_of(len(trial.reports))


def key_of(study: Study) -> str:
    """Return a study's name and a few digits that tell it from others of the name, in letters that files may have."""
    name, created = study.coordinator.ledger.identity
    digits = hashlib.sha256(f"{name}\n{created!r}".encode()).hexdigest()[:8]
    word = "".join(c if c.isascii() and (c.isalnum() or c in "._") else "-" for c in name)[:40]
    return f"{word}-{digits}"


def subject_of(study: Study) -> Subject:
    """Describe a study as it is now."""
    directions = dict(study.directions)
    only = next(iter(directions.items())) if len(directions) == 1 else None
    best = study.history.best if only else None
    facts: dict[str, Plain] = {
        "study": study.name,
        "direction": only[1] if only else as_text(directions),
        "objectives": as_text(list(directions)),
        "seed": study.seed,
        "sampler": as_text(describe_sampler(study.sampler)),
        "scheduler": as_text(describe_scheduler(study.scheduler)),
    }
    found = None if best is None or only is None else (best.number, float(best.metrics[only[0]]))
    return Subject(study.name, key_of(study), study.coordinator.ledger.row.created, facts, found)


def run_of(study: Study, trial: Trial) -> Run:
    """Describe a trial."""
    started = trial.started if trial.started is not None else study.coordinator.ledger.row.created or time.time()
    facts: dict[str, Any] = {
        "number": trial.number,
        "state": trial.state.value,
        "reason": None if trial.reason is None else trial.reason.value,
        "error": trial.error,
        "origin": trial.origin.value,
        "attempts": trial.attempts,
        "parent": trial.parent,
        "inherited": trial.inherited,
        "feasible": trial.feasible if trial.constraints else None,
    }
    return Run(
        trial.number,
        trial.state,
        holding(trial),
        _labelled(study, trial),
        {**_metrics(trial), **({} if trial.seconds is None else {"trial/seconds": trial.seconds})},
        trial.reports,
        {name: value for name, value in facts.items() if value is not None},
        {name: value for name, value in trial.attributes.items() if name not in OWN},
        started,
        started + (trial.seconds or 0.0),
    )


def _labelled(study: Study, trial: Trial) -> dict[str, Plain]:
    params = dict(trial.params or {})
    labels = study.space.to_labels(params) if study.has_space else params
    # one that fits no choice of the space any more stays as it is
    return {n: v if v is None or isinstance(v, (str, int, float)) else str(v) for n, v in labels.items()}


def _metrics(trial: Trial) -> dict[str, float]:
    first = {name: trial.metrics[name] for name in trial.objectives if name in trial.metrics}
    sems = {f"sem/{name}": value for name, value in trial.sems.items()}
    limits = {f"constraint/{name}": value for name, value in trial.constraints.items()}
    return {name: float(value) for name, value in {**first, **trial.metrics, **sems, **limits}.items()}


def as_text(value: Any) -> str:
    """Return a text as it is, and anything else that JSON can hold as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
