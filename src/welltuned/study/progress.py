"""One live line on a terminal, silence elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

EVERY = 1.0  # seconds from one line to the next where all of them are kept


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
        self._due = self._began

    @property
    def shown(self) -> bool:
        """Whether anybody sees the line."""
        return self._bar is not None

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
                auto_refresh=sys.stderr.isatty(),
            )
            self._bar.start()
            self._task = self._bar.add_task(self._label, total=self._total, left="", note="")
        return self

    def update(self, done: int, note: str = "") -> None:
        """Show that ``done`` steps are done in all. The first call, before the first step, sets where speed begins."""
        if self._bar is None:
            return
        if self._first is None:
            self._first = done
        self._bar.update(self._task, completed=done, note=note, left=self._left(done))
        if not self._bar.live.auto_refresh and time.monotonic() >= self._due:
            self._due = time.monotonic() + EVERY
            self._bar.refresh()

    def _left(self, done: int) -> str:
        steps = done - (self._first or 0)
        if self._total is None or steps <= 0 or done >= self._total:
            return ""
        seconds = (time.monotonic() - self._began) / steps * (self._total - done)
        return f"about {duration(seconds)} left"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
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
