"""What a report means for a trial. ``SCHEDULERS`` maps the name of ``scheduler=`` to its class."""

from __future__ import annotations

from typing import Any

from welltuned.schedulers.asha import Asha
from welltuned.schedulers.halving import Halving
from welltuned.schedulers.hyperband import Hyperband
from welltuned.schedulers.median import Median
from welltuned.schedulers.pbt import Pbt
from welltuned.schedulers.protocol import (
    Begin,
    Breeder,
    Child,
    Continue,
    Critic,
    Decision,
    Move,
    Pause,
    Promote,
    Promoter,
    Scheduler,
    Stop,
)
from welltuned.schedulers.race import Race
from welltuned.settings import describe, make

SCHEDULERS: dict[str, type[Any]] = {
    "asha": Asha,
    "halving": Halving,
    "hyperband": Hyperband,
    "median": Median,
    "pbt": Pbt,
    "race": Race,
}


#: the name of no scheduler, for who wants none in a study that has one
NONE = "none"


def make_scheduler(spec: Any) -> Scheduler | None:
    """Return the scheduler that ``scheduler=`` names, or is, or a dict of a name and settings says; None for none.

    Raises
    ------
    InvalidValue, InvalidType
        For an unknown name, or something that is no scheduler.

    Examples
    --------
    >>> make_scheduler({"name": "asha", "factor": 4})
    Asha(factor=4, last=None, rungs=2)
    """
    if spec is None:
        return None
    scheduler: Scheduler | None = make("scheduler", {**SCHEDULERS, NONE: _nothing}, Scheduler, spec)
    return scheduler


def _nothing() -> None:
    return None


def pauses(scheduler: Scheduler | None) -> bool:
    """Tell whether a scheduler may pause trials."""
    return isinstance(scheduler, (Promoter, Breeder))


def describe_scheduler(scheduler: Scheduler | None) -> dict[str, Any]:
    """Return the name and the settings of a scheduler, as JSON can hold them."""
    return {"name": NONE} if scheduler is None else describe(SCHEDULERS, scheduler)


__all__ = [
    "NONE",
    "SCHEDULERS",
    "Asha",
    "Begin",
    "Breeder",
    "Child",
    "Continue",
    "Critic",
    "Decision",
    "Halving",
    "Hyperband",
    "Median",
    "Move",
    "Pause",
    "Pbt",
    "Promote",
    "Promoter",
    "Race",
    "Scheduler",
    "Stop",
    "describe_scheduler",
    "make_scheduler",
    "pauses",
]
