"""Contracts that storages, samplers, executors, schedulers and sinks keep, as test classes for pytest.

A class of one's own proves itself by a subclass that lacks only a fixture; every ``test_*`` method is inherited::

    # test_my_sampler.py
    import pytest
    from welltuned.testing import SamplerContract


    class TestMySampler(SamplerContract):
        @pytest.fixture
        def sampler(self):
            return MySampler()

These modules need pytest, which ``pip install 'welltuned[test]'`` brings. Nothing else in the package imports them,
and a contract is loaded when it is first used: worker processes that load an objective from here need no other.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest

_HOMES = {
    "ExecutorContract": "executor",
    "SamplerContract": "sampler",
    "SchedulerContract": "scheduler",
    "SinkContract": "sink",
    "StorageContract": "storage",
}

# so that a broken contract shows the values that broke it
pytest.register_assert_rewrite(*(f"{__name__}.{name}" for name in _HOMES.values()))

if TYPE_CHECKING:
    from welltuned.testing.executor import ExecutorContract
    from welltuned.testing.sampler import SamplerContract
    from welltuned.testing.scheduler import SchedulerContract
    from welltuned.testing.sink import SinkContract
    from welltuned.testing.storage import StorageContract

__all__ = ["ExecutorContract", "SamplerContract", "SchedulerContract", "SinkContract", "StorageContract"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
