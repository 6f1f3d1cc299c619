"""What all requests share: the storage, the threads that use it, and who waits for news."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from welltuned.schedulers import Scheduler, make_scheduler
from welltuned.server.desk import Desk
from welltuned.server.replays import Replays
from welltuned.server.window import Window
from welltuned.storage import Changes, Storage

T = TypeVar("T")
THREADS = 16
SEARCHING = 4  # suggestions at a time
LOOKING = 4  # looks at studies at a time
DRAWING = 2  # reports at a time
GLANCE = 0.2  # seconds between looks for changes that others have made to the storage


class Hub:
    """The state of one server.

    Threads are kept, since a storage may hold a connection for each of them. Those that search for configurations are
    others than those that store results, so that no result waits for a suggestion; and nobody who works waits for those
    who look on.
    """

    def __init__(self, storage: Storage, scheduler: Scheduler | str | None = None) -> None:
        self.storage = storage
        self.desk = Desk(storage, make_scheduler(scheduler))
        self.window = Window(storage)
        self.replays = Replays()
        self.server = secrets.token_hex(8)  # which start of which server this is
        self.closing: Callable[[], bool] = lambda: False
        self._workers, self._searchers, self._lookers, self._drawers = _pools()
        self._waiting: set[asyncio.Event] = set()
        self._locks: dict[str, asyncio.Lock] = {}

    async def work(self, action: Callable[..., T], *args: Any) -> T:
        """Use the storage in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._workers, action, *args)

    async def search(self, name: str, action: Callable[..., T], *args: Any) -> T:
        """Use a study, which one request at a time may do, in a thread."""
        await self.work(self.desk.id, name)  # is there such a study?
        async with self._locks.setdefault(name, asyncio.Lock()):
            return await asyncio.get_running_loop().run_in_executor(self._searchers, action, *args)

    async def look(self, action: Callable[..., T], *args: Any) -> T:
        """Look at studies in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._lookers, action, *args)

    async def draw(self, action: Callable[..., T], *args: Any) -> T:
        """Do in a thread what takes longer than a look."""
        return await asyncio.get_running_loop().run_in_executor(self._drawers, action, *args)

    def tell(self) -> None:
        """Let those who wait for news look again."""
        for event in self._waiting:
            event.set()

    async def read(self, study: int, since: int | None, wait: float) -> Changes:
        """Read what changed; wait for something without holding a thread."""
        deadline, event = time.monotonic() + wait, asyncio.Event()
        self._waiting.add(event)
        try:
            while since is not None and (left := deadline - time.monotonic()) > 0 and not self.closing():
                event.clear()
                if (await self.work(self.storage.read, study, None)).revision != since:
                    break
                try:
                    await asyncio.wait_for(event.wait(), min(left, GLANCE))
                except asyncio.TimeoutError:
                    continue
        finally:
            self._waiting.discard(event)
        return await self.work(self.storage.read, study, since)

    def close(self) -> None:
        """Let the threads end; another request would begin new ones. The storage belongs to whoever opened it."""
        former = self._workers, self._searchers, self._lookers, self._drawers
        self._workers, self._searchers, self._lookers, self._drawers = _pools()
        for pool in former:
            pool.shutdown(wait=False, cancel_futures=True)


def _pools() -> tuple[ThreadPoolExecutor, ThreadPoolExecutor, ThreadPoolExecutor, ThreadPoolExecutor]:
    return (
        ThreadPoolExecutor(THREADS, "welltuned-storage"),
        ThreadPoolExecutor(SEARCHING, "welltuned-search"),
        ThreadPoolExecutor(LOOKING, "welltuned-look"),
        ThreadPoolExecutor(DRAWING, "welltuned-draw"),
    )
