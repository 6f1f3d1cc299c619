"""One BLAS thread for small matrices: more of them cost many times what they gain, most of all on a busy machine."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from typing import Any


@functools.lru_cache(maxsize=1)
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def single_threaded() -> AbstractContextManager[Any]:
    """Return a context in which linear algebra uses one thread."""
    context: AbstractContextManager[Any] = _controller().limit(limits=1, user_api="blas")
    return context
