"""Answers that are kept for a while, so that a request that is sent twice is done once."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from welltuned.errors import InvalidValue

Answer = tuple[int, bytes]
COUNT, BYTES, SECONDS = 50_000, 64 << 20, 300.0


@dataclass
class _Entry:
    digest: bytes
    answer: asyncio.Future[Answer]
    since: float
    size: int = 0


class Replays:
    """Remember the answers by the keys of their requests: the last ones, up to a number, a size and an age."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._size = 0

    def knows(self, key: str) -> bool:
        """Tell whether a request with this key was received."""
        return key in self._entries

    async def once(self, key: str, content: bytes, act: Callable[[], Awaitable[Answer]]) -> Answer:
        """Return the answer to the request with this key: what it was, or is going to be, or what ``act`` makes it.

        Raises
        ------
        InvalidValue
            When the same key came with another request.
        """
        digest = hashlib.blake2b(content, digest_size=16).digest()
        entry = self._entries.get(key)
        if entry is not None:
            if entry.digest != digest:
                raise InvalidValue("Idempotency-Key: this key came with another request before; use one a request")
            return await asyncio.shield(entry.answer)
        entry = _Entry(digest, asyncio.get_running_loop().create_future(), time.monotonic())
        self._entries[key] = entry
        try:
            answer = await act()
        except BaseException:
            del self._entries[key]
            entry.answer.cancel()
            raise
        entry.answer.set_result(answer)
        if answer[0] >= 500:  # the next try may succeed
            del self._entries[key]
        else:
            entry.size = len(answer[1])
            self._size += entry.size
            self._forget()
        return answer

    def _forget(self) -> None:
        oldest = time.monotonic() - SECONDS
        while self._entries:
            key, entry = next(iter(self._entries.items()))
            full = len(self._entries) > COUNT or self._size > BYTES or entry.since < oldest
            if not full or not entry.answer.done():
                return
            self._size -= entry.size
            del self._entries[key]
