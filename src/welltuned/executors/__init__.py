"""Where objectives run. ``EXECUTORS`` maps the name of ``executor=`` to its class."""

from __future__ import annotations

from typing import Any

from welltuned.errors import InvalidType, InvalidValue
from welltuned.executors.inline import InlineExecutor
from welltuned.executors.processes import ProcessExecutor, available_cores
from welltuned.executors.protocol import Executor, Finished, Job

EXECUTORS: dict[str, type[Any]] = {"inline": InlineExecutor, "processes": ProcessExecutor}


def make_executor(spec: str | None, job: Job, workers: int) -> Executor:
    """Return the executor of this name; see :func:`check_executor`."""
    return EXECUTORS[check_executor(spec, workers)](job, workers)


def check_executor(spec: Any, workers: int) -> str:
    """Return the name of an executor; unless given, inline for a single worker and processes for more.

    Raises
    ------
    InvalidValue, InvalidType
        For an unknown name, or more than one worker inline.
    """
    name = spec or ("inline" if workers == 1 else "processes")
    if not isinstance(name, str):
        raise InvalidType(f"executor={spec!r} is not a name; known are {sorted(EXECUTORS)!r}")
    if name not in EXECUTORS:
        raise InvalidValue(f"executor={name!r} is unknown; known are {sorted(EXECUTORS)!r}")
    if name == "inline" and workers > 1:
        raise InvalidValue(f"executor='inline' with workers={workers}; leave executor out, or write 'processes'")
    return name


def check_workers(workers: Any) -> int:
    """Return a number of workers: as given, or that of the available cores for -1."""
    if isinstance(workers, bool) or not isinstance(workers, int):
        raise InvalidType(f"workers={workers!r} is not a whole number")
    if workers != -1 and workers < 1:
        raise InvalidValue(f"workers={workers!r} must be at least 1, or -1 for all cores")
    return available_cores() if workers == -1 else workers


__all__ = [
    "EXECUTORS",
    "Executor",
    "Finished",
    "InlineExecutor",
    "Job",
    "ProcessExecutor",
    "available_cores",
    "check_executor",
    "check_workers",
    "make_executor",
]
