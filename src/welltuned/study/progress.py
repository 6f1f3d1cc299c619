"""One live line on a terminal, silence elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

REDRAWN = 0.1  # seconds between two looks at what the line shows, about as often as it is drawn
EVERY = 1.0  # from one line to the next where all of them are kept
SHARE = 9  # what a look takes, the rest of the time is at least so many times as long


class Progress:
    """Show how many of ``total`` steps are done, a note, and an estimate of the time left.

    Parameters
    ----------
    label
        What is under way.
    total
        Number of steps, where known.
    enabled
        True or False to insist; None shows the line only if standard error is a terminal.
    """

    def __init__(self, label: str, total: int | None, enabled: bool | None = None) -> None:
        self._enabled = is_terminal(sys.stderr) if enabled is None else enabled
        self._label, self._total = label, total
        self._bar: Any = None
        self._task: Any = None
        self._began = time.monotonic()
        self._first: int | None = None
        self._look: Callable[[], tuple[int, str]] | None = None  # what there was no time for
        self._due = 0.0  # by the monotonic clock

    def __enter__(self) -> Progress:
        if self._enabled:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
                TextColumn("{task.fields[note]}"),
                # in a notebook too: there, rich asks for ipywidgets with a warning and prints nothing without them
                console=Console(stderr=True, force_jupyter=False),
                transient=False,
                # what is no terminal keeps every line: a notebook, or the log of a job
                auto_refresh=is_terminal(sys.stderr),
            )
            self._bar.start()
            self._task = self._bar.add_task(self._label, total=self._total, left="", note="")
        return self

    def update(self, look: Callable[[], tuple[int, str]]) -> None:
        """Show how many steps are done in all, and a note, as ``look`` tells.

        The first call, before the first step, sets where speed begins. To look at all trials takes the longer the more
        there are, so it is done for a tenth of the time at most; of calls in between, the last one counts in the end.
        """
        if self._bar is None:
            return
        self._look = look
        if time.monotonic() >= self._due:
            self._draw()
            if not self._bar.live.auto_refresh:
                self._bar.refresh()

    def _draw(self) -> None:
        if self._look is None:
            return
        began = time.monotonic()
        (done, note), self._look = self._look(), None
        if self._first is None:
            self._first = done
        self._bar.update(self._task, completed=done, note=note, left=self._left(done))
        ended = time.monotonic()
        least = REDRAWN if self._bar.live.auto_refresh else EVERY
        self._due = ended + max(least, SHARE * (ended - began))

    def _left(self, done: int) -> str:
        steps = done - (self._first or 0)
        if self._total is None or steps <= 0 or done >= self._total:
            return ""
        seconds = (time.monotonic() - self._began) / steps * (self._total - done)
        return f"about {duration(seconds)} left"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is None:
            return
        try:
            if kind is None:
                self._draw()
        finally:
            self._bar.stop()


def is_terminal(stream: Any) -> bool:
    """Tell whether there is somebody at a stream. A process without a terminal may have no stream, or a closed one."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


def duration(seconds: float) -> str:
    """Write a duration as people say it.

    Examples
    --------
    >>> duration(8), duration(95), duration(7500)
    ('8 s', '1 min 35 s', '2 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
