"""Contracts that storages, samplers, executors and schedulers keep, as test classes for pytest.

A class of one's own proves itself by a subclass that lacks only a fixture; every ``test_*`` method is inherited::

    # test_my_sampler.py
    import pytest
    from welltuned.testing import SamplerContract


    class TestMySampler(SamplerContract):
        @pytest.fixture
        def sampler(self):
            return MySampler()

These modules need pytest, which ``pip install 'welltuned[test]'`` brings. Nothing else in the package imports them.
"""

from __future__ import annotations

import pytest

# so that a broken contract shows the values that broke it
pytest.register_assert_rewrite(*(f"{__name__}.{name}" for name in ("executor", "sampler", "scheduler", "storage")))

from welltuned.testing.executor import ExecutorContract  # noqa: E402
from welltuned.testing.sampler import SamplerContract  # noqa: E402
from welltuned.testing.scheduler import SchedulerContract  # noqa: E402
from welltuned.testing.storage import StorageContract  # noqa: E402

__all__ = ["ExecutorContract", "SamplerContract", "SchedulerContract", "StorageContract"]
