"""What a report means for a trial. ``SCHEDULERS`` maps the name of ``scheduler=`` to its class."""

from __future__ import annotations

from typing import Any

from welltuned.errors import InvalidType, InvalidValue
from welltuned.schedulers.asha import Asha
from welltuned.schedulers.halving import Halving
from welltuned.schedulers.hyperband import Hyperband
from welltuned.schedulers.median import Median
from welltuned.schedulers.protocol import Continue, Decision, Pause, Promoter, Scheduler, Stop
from welltuned.schedulers.race import Race

SCHEDULERS: dict[str, type[Any]] = {
    "asha": Asha,
    "halving": Halving,
    "hyperband": Hyperband,
    "median": Median,
    "race": Race,
}


def make_scheduler(spec: Any) -> Scheduler | None:
    """Return the scheduler that ``scheduler=`` names, or None for none.

    Raises
    ------
    InvalidValue, InvalidType
        For an unknown name, or something that is no scheduler.
    """
    if spec is None:
        return None
    if isinstance(spec, str):
        if spec not in SCHEDULERS:
            raise InvalidValue(f"scheduler={spec!r} is unknown; known are {sorted(SCHEDULERS)!r}")
        return SCHEDULERS[spec]()
    if isinstance(spec, Scheduler) and not isinstance(spec, type):
        return spec
    raise InvalidType(f"scheduler={spec!r} is neither a name out of {sorted(SCHEDULERS)!r} nor a scheduler")


__all__ = [
    "SCHEDULERS",
    "Asha",
    "Continue",
    "Decision",
    "Halving",
    "Hyperband",
    "Median",
    "Pause",
    "Promoter",
    "Race",
    "Scheduler",
    "Stop",
    "make_scheduler",
]
