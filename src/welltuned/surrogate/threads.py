"""One BLAS thread for small matrices: more of them cost many times what they gain, most of all on a busy machine."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@functools.lru_cache(maxsize=1)
def _libraries() -> list[Any]:
    import scipy.linalg  # noqa: F401  # its library must be among them
    from threadpoolctl import ThreadpoolController

    return list(ThreadpoolController().select(user_api="blas").lib_controllers)


class _Blocks:
    """The blocks that are open, in all threads. The first one lowers the libraries' threads, the last restores them.

    The library's own context looks up and describes all thread pools each time, which takes longer than `tpe` does for
    half of its kernels.
    """

    def __init__(self) -> None:
        self.lock, self.open = threading.Lock(), 0
        self.before: list[tuple[Any, int]] = []

    def enter(self) -> None:
        with self.lock:
            if not self.open:
                threads = [(library, library.get_num_threads()) for library in _libraries()]
                self.before = [(library, n) for library, n in threads if n != 1]
                for library, _ in self.before:
                    library.set_num_threads(1)
            self.open += 1

    def leave(self) -> None:
        with self.lock:
            self.open -= 1
            if not self.open:
                for library, threads in self.before:
                    library.set_num_threads(threads)


_BLOCKS = _Blocks()


@contextmanager
def single_threaded() -> Iterator[None]:
    """Use one thread for linear algebra in the block, in the whole process."""
    _BLOCKS.enter()
    try:
        yield
    finally:
        _BLOCKS.leave()
