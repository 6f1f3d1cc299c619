"""Where objectives run. ``EXECUTORS`` maps the name of ``executor=`` to its class."""

from __future__ import annotations

import logging
import sys
from typing import Any

from welltuned.errors import InvalidType, InvalidValue
from welltuned.executors.batch import BatchExecutor
from welltuned.executors.dask import DaskExecutor
from welltuned.executors.group import is_grouped
from welltuned.executors.inline import InlineExecutor
from welltuned.executors.limits import Limits, check_limits, device_slots
from welltuned.executors.processes import ProcessExecutor, available_cores
from welltuned.executors.protocol import Executor, Finished, Job
from welltuned.executors.ranks import RanksExecutor
from welltuned.executors.ray import RayExecutor
from welltuned.settings import whole

#: none of the classes loads its framework before it is used
EXECUTORS: dict[str, type[Any]] = {
    "inline": InlineExecutor,
    "batch": BatchExecutor,
    "processes": ProcessExecutor,
    "dask": DaskExecutor,
    "ray": RayExecutor,
    "ranks": RanksExecutor,
}

NO_LIMITS = Limits()
log = logging.getLogger("welltuned")


def make_executor(spec: Any, job: Job, workers: int) -> Executor:
    """Return the executor of this name, or of this ``dask.distributed.Client``; see :func:`check_executor`."""
    spec = check_executor(spec, workers, job.limits)
    if is_client(spec):
        return DaskExecutor(job, workers, client=spec)
    if spec == "inline" and is_grouped():
        log.warning(
            "this process is one of several ranks, and each evaluates trials of its own; let them evaluate each one "
            "together by welltuned.distributed"
        )
    return EXECUTORS[spec](job, workers)


def check_executor(spec: Any, workers: int, limits: Limits = NO_LIMITS) -> Any:
    """Return the name of an executor, or a Dask client.

    Unless given, it is inline for one worker that nobody may have to kill, and processes otherwise.

    Raises
    ------
    InvalidValue, InvalidType
        For an unknown name, more than one worker inline, or limits that the executor cannot enforce.
    """
    if not is_client(spec) and spec not in (None, "") and not isinstance(spec, str):
        raise InvalidType(
            f"executor={spec!r} is neither a name nor a dask.distributed.Client; known are {sorted(EXECUTORS)!r}"
        )
    alone = workers == 1 and not limits.kill and not limits.resources
    name = "dask" if is_client(spec) else spec or ("inline" if alone else "processes")
    if name not in EXECUTORS:
        raise InvalidValue(f"executor={name!r} is unknown; known are {sorted(EXECUTORS)!r}")
    if name == "inline" and workers > 1:
        raise InvalidValue(f"executor='inline' with workers={workers}; leave executor out, or write 'processes'")
    if name == "ranks" and workers > 1:
        raise InvalidValue(f"executor='ranks' with workers={workers}: all ranks evaluate one trial; leave workers out")
    if limits.kill and name != "processes":
        raise InvalidValue(
            f"trial_timeout and memory_limit need processes that can be killed, and executor={name!r} has none; leave "
            "executor out, or write 'processes'"
        )
    if limits.resources and name in ("inline", "batch", "ranks"):
        raise InvalidValue(f"resources={dict(limits.resources)!r} need worker processes; leave executor={name!r} out")
    return spec if is_client(spec) else name


def count_workers(name: Any, workers: int, limits: Limits) -> int:
    """Return how many workers there can be: no more than devices for them on this machine."""
    if name != "processes" or not limits.resources:
        return workers
    return min(workers, len(device_slots(limits) or ()))


def is_client(spec: Any) -> bool:
    """Tell whether this is a Dask client, without loading Dask: whoever has one has loaded it."""
    distributed = sys.modules.get("distributed")
    return distributed is not None and isinstance(spec, getattr(distributed, "Client", ()))


def check_workers(workers: Any, executor: Any = None) -> int:
    """Return a number of workers: as given, or for -1 that of this machine's available cores, or of the threads that
    the cluster of a Dask client has now.
    """
    workers = whole("workers", workers, None)
    if workers != -1 and workers < 1:
        raise InvalidValue(f"workers={workers!r} must be at least 1, or -1 for all cores")
    if workers != -1:
        return workers
    return max(sum(executor.nthreads().values()), 1) if is_client(executor) else available_cores()


__all__ = [
    "EXECUTORS",
    "BatchExecutor",
    "DaskExecutor",
    "Executor",
    "Finished",
    "InlineExecutor",
    "Job",
    "Limits",
    "ProcessExecutor",
    "RanksExecutor",
    "RayExecutor",
    "available_cores",
    "check_executor",
    "check_limits",
    "check_workers",
    "count_workers",
    "is_client",
    "make_executor",
]
