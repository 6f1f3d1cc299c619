"""What one trial may use: time, memory, devices. Checked at the door, enforced by executors that can end a worker."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from welltuned.errors import InvalidType, InvalidValue
from welltuned.settings import real

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?|)b?\s*", re.IGNORECASE)
VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Limits:
    """Limits of one trial.

    Attributes
    ----------
    timeout
        Seconds after which its process is killed.
    memory
        Bytes of resident memory beyond which its process, children included, is killed.
    resources
        Devices that it needs, such as ``{"gpu": 0.5}``.
    """

    timeout: float | None = None
    memory: int | None = None
    resources: Mapping[str, float] = field(default_factory=dict)

    @property
    def kill(self) -> bool:
        """Whether a trial may have to be killed, so that it needs a process of its own."""
        return self.timeout is not None or self.memory is not None


def check_limits(timeout: Any = None, memory: Any = None, resources: Any = None) -> Limits:
    """Return the limits that ``trial_timeout=``, ``memory_limit=`` and ``resources=`` ask for.

    Raises
    ------
    InvalidValue, InvalidType
        For times and sizes that are not positive, or cannot be read.
    """
    return Limits(_seconds(timeout), _bytes(memory), _resources(resources))


def _seconds(timeout: Any) -> float | None:
    none = "; leave it out for no limit"
    return None if timeout is None else real("trial_timeout", timeout, above=0, unit=" of seconds", instead=none)


def _bytes(memory: Any) -> int | None:
    if memory is None:
        return None
    if isinstance(memory, str):
        found = SIZE.fullmatch(memory)
        if found is None:
            raise InvalidValue(f"memory_limit={memory!r} is not a size; write '2GB', '500 MiB' or a number of bytes")
        size = float(found[1]) * UNITS[found[2].lower()]
    elif isinstance(memory, bool) or not isinstance(memory, (int, float, np.integer, np.floating)):
        raise InvalidType(f"memory_limit={memory!r} is neither a size such as '2GB' nor a number of bytes")
    else:
        size = float(memory)
    if not 10**6 <= size < float("inf"):
        raise InvalidValue(f"memory_limit={memory!r} is {size:g} bytes; a process needs millions: write '2GB'")
    if not Path("/proc/self/statm").exists():
        raise InvalidValue(f"memory_limit={memory!r}: the memory of a process can be watched on Linux only")
    return int(size)


def _resources(resources: Any) -> dict[str, float]:
    if resources is None:
        return {}
    if not isinstance(resources, Mapping):
        raise InvalidType(f"resources={resources!r} is not a dict such as {{'gpu': 1}}")
    found = {}
    for name, amount in resources.items():
        if not isinstance(name, str) or isinstance(amount, bool) or not isinstance(amount, (int, float)):
            raise InvalidType(f"resources={resources!r}: {name!r}: {amount!r} is not a name with a number")
        if not amount > 0 or (amount > 1 and amount != int(amount)):
            raise InvalidValue(
                f"resources={resources!r}: {amount!r} of {name!r} is neither a share of one device, such as 0.5, nor a "
                "whole number of them"
            )
        found[name] = float(amount)
    return found


def visible_devices() -> list[str]:
    """Return the names of the GPUs that this process may use: those of ``CUDA_VISIBLE_DEVICES``, or all there are."""
    given = os.environ.get(VISIBLE)
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1")]
    numbers = sorted(int(p.name[6:]) for p in Path("/dev").glob("nvidia[0-9]*") if p.name[6:].isdigit())
    return [str(i) for i in range(len(numbers))]


def device_slots(limits: Limits) -> list[str] | None:
    """Return what ``CUDA_VISIBLE_DEVICES`` is to be for each worker that fits; None where no GPUs are asked for.

    Raises
    ------
    InvalidValue
        When fewer devices are there than one trial needs, or others than GPUs are asked for.
    """
    if not limits.resources:
        return None
    if unknown := sorted(set(limits.resources) - {"gpu"}):
        own = "use executor='dask' or 'ray' for resources of your own"
        instead = "leave it out, they share the cores" if unknown == ["cpu"] else own
        raise InvalidValue(
            f"resources={dict(limits.resources)!r}: workers of this machine know 'gpu', not {unknown[0]!r}; {instead}"
        )
    devices, share = visible_devices(), limits.resources["gpu"]
    if share <= 1:
        # as many on a device as fit: 0.3 each are three
        per = int(1 / share + 1e-9)
        slots = [device for _ in range(per) for device in devices]
    else:
        width = int(share)
        slots = [",".join(devices[i : i + width]) for i in range(0, len(devices) - width + 1, width)]
    if not slots:
        raise InvalidValue(
            f"resources={dict(limits.resources)!r}, but the devices that can be used are {devices!r} "
            f"({VISIBLE} and /dev/nvidia* tell)"
        )
    return slots
