"""A clock that can be put wrong: ``time.time`` of one process, off by what a file says, read again at every call."""

from __future__ import annotations

import time
from pathlib import Path


def follow(offset: Path) -> None:
    """Let ``time.time`` be off by the seconds in a file; where there is none, it is right."""
    real = time.time

    def shifted() -> float:
        try:
            return real() + float(offset.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return real()

    time.time = shifted
