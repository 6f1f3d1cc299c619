"""Whether a write-ahead log is whole, before SQLite reads it.

SQLite stops reading a log at the first frame whose checksum is wrong, and takes that for its end: right after a power
cut, and silently wrong when a bit changed or the file was cut off. Two things tell these apart. A log goes on behind
a changed frame. And the index beside it (``-shm``) remembers how long the log was.

The format is described in *Database File Format*, section 4, and *WAL-mode File Format*, section 2, of SQLite.
"""

from __future__ import annotations

import functools
import os
import struct
import time
from pathlib import Path

import numpy as np

from welltuned.errors import DamagedStorage
from welltuned.storage.records import SALVAGE

HEADER, FRAME = 32, 24
MAGIC = 0x377F0682  # the last bit tells the byte order of checksums
WORD = np.uint64(0xFFFFFFFF)


def beside(path: Path, ending: str) -> Path:
    """Return where SQLite keeps what belongs to a database: beside the file that a symbolic link leads to."""
    return Path(os.path.realpath(path) + ending)


def check(path: Path, where: str) -> None:
    """Refuse a database whose log lost what it held.

    Raises
    ------
    DamagedStorage
        With the number of commits, or frames, that would be lost.
    """
    log, index = beside(path, "-wal"), beside(path, "-shm")
    for pause in (0.01, 0.05, 0.0):
        trouble = _trouble(log, index)
        if trouble is None:
            return
        time.sleep(pause)  # another process may be writing just now
    raise DamagedStorage(
        f"{where}: {trouble}; opening it would lose what was stored last: save all that can be read: {SALVAGE}"
    )


def _trouble(log: Path, index: Path) -> str | None:
    expected, salts = _remembered(index)  # before the log, which only grows
    try:
        content = log.read_bytes()
    except FileNotFoundError:
        content = b""
    except OSError:
        return None  # SQLite will say it better
    if len(content) < HEADER:
        return f"its write-ahead log is cut off: {expected} pages are missing" if expected else None
    magic, _, page, _ = struct.unpack(">4I", content[:16])
    order = ">" if magic & 1 else "<"
    header = np.frombuffer(content[:24], f"{order}u4")[None]
    state = _sums(header)[0]
    if magic | 1 != MAGIC | 1 or list(state) != list(struct.unpack(">2I", content[24:32])) or not 512 <= page <= 65536:
        return "the header of its write-ahead log is damaged"
    salt, size = content[16:24], FRAME + page
    count = (len(content) - HEADER) // size
    frames = np.frombuffer(content, np.uint8, count * size, HEADER).reshape(count, size)
    ours = (frames[:, 8:16] == np.frombuffer(salt, np.uint8)).all(axis=1)
    valid = _valid(frames, ours, state, order)
    if salts == salt:
        # the index knows; what is behind its end a writer left that was killed before it had committed
        return f"its write-ahead log holds {valid} of {expected} pages" if expected > valid else None
    commits = frames[:, 4:8].any(axis=1)
    if (ours & commits)[valid + 1 :].any():
        return f"its write-ahead log is damaged behind page {valid}"
    return None


def _valid(frames: np.ndarray, ours: np.ndarray, state: np.ndarray, order: str) -> int:
    """Return how many frames, from the first on, have the checksum that follows from the ones before."""
    if not len(frames):
        return 0
    covered = np.ascontiguousarray(np.hstack([frames[:, :8], frames[:, FRAME:]])).view(f"{order}u4")
    stored = np.ascontiguousarray(frames[:, 16:24]).view(">u4").astype(np.uint64)
    added, (_, power) = _sums(covered), _powers(covered.shape[1] // 2)
    for i in range(len(frames)):
        state = (power @ state + added[i]) & WORD
        if not ours[i] or (state != stored[i]).any():
            return i
    return len(frames)


def _sums(words: np.ndarray) -> np.ndarray:
    """Return the checksums (a, b) of each row of words, started from zero, shape (n, 2).

    For words x, y at a time: a += x + b; b += y + a. This is linear modulo 2**32, so all rows are one product.
    """
    weights, _ = _powers(words.shape[1] // 2)
    return (words.astype(np.uint64) @ weights.T) & WORD


@functools.lru_cache
def _powers(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what each of 2n words adds to (a, b) in the end, shape (2, 2n), and what (a, b) at the start do."""
    step, enter = np.array([[1, 1], [1, 2]], np.uint64), np.array([[1, 0], [1, 1]], np.uint64)
    power, blocks = np.eye(2, dtype=np.uint64), []
    for _ in range(n):
        blocks.append((power @ enter) & WORD)
        power = (power @ step) & WORD
    return np.hstack(blocks[::-1]), power


def _remembered(index: Path) -> tuple[int, bytes]:
    """Return how many frames the index knows of, and the salt of their log; nothing where it says nothing."""
    try:
        head = index.read_bytes()[:96]
    except OSError:
        return 0, b""
    if len(head) < 96 or head[:48] != head[48:96] or not head[12]:
        return 0, b""
    if list(_sums(np.frombuffer(head[:40], np.uint32)[None])[0]) != list(struct.unpack("=2I", head[40:48])):
        return 0, b""
    frames = struct.unpack("=I", head[16:20])[0]
    return frames, head[32:40]
