"""The process group of PyTorch that this process is a rank of: found, left where a trial broke it, and made anew."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from dataclasses import dataclass
from typing import Any

from welltuned.errors import InvalidValue


@dataclass(frozen=True)
class Group:
    """The default process group as it was found.

    Attributes
    ----------
    rank, size
        The number of this process in it, and how many there are.
    store
        Where the ranks have met: names and bytes that all of them see.
    settings
        What to make it anew with.
    """

    rank: int
    size: int
    store: Any
    settings: dict[str, Any]

    def clone_store(self) -> Any:
        """Return the store by a connection of its own: who waits for something by one keeps others waiting."""
        try:
            return self.store.clone()
        except (AttributeError, NotImplementedError, RuntimeError):
            return self.store

    def abort(self) -> None:
        """End the collectives under way in this process, where the backend can: NCCL's can, Gloo's cannot."""
        world = _distributed().group.WORLD
        with contextlib.suppress(Exception):  # whatever a backend says that cannot
            world.abort()

    def leave(self) -> None:
        """Leave the group. Ranks that wait for this one in a collective of Gloo's get an error from it then."""
        distributed = _distributed()
        if distributed.is_initialized():
            self.abort()
            _forget(distributed.group.WORLD)
            distributed.destroy_process_group()
        gc.collect()  # its connections are closed with the last model that holds it

    def renew(self, name: str) -> None:
        """Make the group anew, under a name that it has not had before; all ranks do so at the same time."""
        self.leave()
        distributed = _distributed()
        place = distributed.PrefixStore(name, self.store)
        distributed.init_process_group(store=place, rank=self.rank, world_size=self.size, **self.settings)


def is_grouped() -> bool:
    """Tell whether this process is one of several in a process group of PyTorch."""
    return _is_joined() and _distributed().get_world_size() > 1


def _is_joined() -> bool:
    distributed = sys.modules.get("torch.distributed")  # who is in a group has loaded it
    return distributed is not None and distributed.is_available() and distributed.is_initialized()


def find_group() -> Group | None:
    """Return the default process group of PyTorch; None where this process is alone.

    Raises
    ------
    InvalidValue
        When this process was started as one of several and has not joined the others yet.
    """
    if not _is_joined():
        others = os.environ.get("WORLD_SIZE", "1")
        if "RANK" in os.environ and others.isdigit() and int(others) > 1:
            raise InvalidValue(
                f"this process is one of WORLD_SIZE={others} that have not joined each other; call "
                "torch.distributed.init_process_group() before"
            )
        return None
    distributed = _distributed()
    if distributed.get_world_size() == 1:
        return None
    world = distributed.group.WORLD
    return Group(
        distributed.get_rank(),
        distributed.get_world_size(),
        distributed.distributed_c10d._get_default_store(),
        {"backend": _backend(distributed.get_backend_config()), **_timeout(world), **_device(world)},
    )


def _forget(world: Any) -> None:
    """Take the group out of the defaults of PyTorch's functions, which would keep its connections open.

    One module has them from the group that was there when it was loaded; None stands for the one that is there.
    """
    module = sys.modules.get("torch.distributed.nn.functional")
    for function in () if module is None else vars(module).values():
        defaults = getattr(function, "__defaults__", None) or ()
        if any(value is world for value in defaults):
            function.__defaults__ = tuple(None if value is world else value for value in defaults)


def _distributed() -> Any:
    return sys.modules["torch.distributed"]


def _backend(config: str) -> str:
    """Return what to call the backends of all devices, such as 'cpu:gloo,cuda:nccl': one word if they are the same."""
    names = {part.rpartition(":")[2] for part in config.split(",")}
    return names.pop() if len(names) == 1 else config


def _timeout(world: Any) -> dict[str, Any]:
    for device in getattr(world, "_device_types", ()):
        with contextlib.suppress(Exception):  # not every backend tells
            return {"timeout": world._get_backend(device).options._timeout}
    return {}


def _device(world: Any) -> dict[str, Any]:
    device = getattr(world, "bound_device_id", None)
    return {} if device is None else {"device_id": device}
