"""One live line on a terminal or in a notebook, silence elsewhere."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from welltuned.errors import WelltunedError

REDRAWN = 0.1  # seconds between two looks at what the line shows, about as often as it is drawn
EVERY = 1.0  # from one line to the next where all of them are kept, or sent to a browser
WIDTH = 110  # characters of the line in a notebook
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
        True or False to insist; None shows the line only if standard error is a terminal, or this is a notebook.
    """

    def __init__(self, label: str, total: int | None, enabled: bool | None = None) -> None:
        show = display_of_notebook()
        self._enabled = is_terminal(sys.stderr) or show is not None if enabled is None else enabled
        # in the output of a cell, one line takes the place of another without widgets
        self._cell = show({"text/plain": ""}, raw=True, display_id=True) if self._enabled and show is not None else None
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

            if self._cell is None:
                console = Console(stderr=True, force_jupyter=False)
            else:  # what a cell shows is written for it; rich by itself asks for ipywidgets there with a warning
                console = Console(file=io.StringIO(), width=WIDTH, color_system=None, force_jupyter=False)
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
                TextColumn("{task.fields[note]}"),
                console=console,
                transient=False,
                # what is no terminal keeps every line, as the log of a job
                auto_refresh=self._cell is None and is_terminal(sys.stderr),
            )
            if self._cell is None:
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
            if self._cell is None and not self._bar.live.auto_refresh:
                self._bar.refresh()

    def _draw(self) -> None:
        if self._look is None:
            return
        began = time.monotonic()
        (done, note), self._look = self._look(), None
        if self._first is None:
            self._first = done
        self._bar.update(self._task, completed=done, note=note, left=self._left(done))
        if self._cell is not None:
            with self._bar.console.capture() as line:
                self._bar.console.print(self._bar.get_renderable())
            self._cell.update({"text/plain": line.get().rstrip()}, raw=True)
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
        # what ends a run is not to give way to a storage that cannot be read then
        silent = contextlib.nullcontext() if kind is None else contextlib.suppress(WelltunedError)
        try:
            with silent:
                self._draw()
        finally:
            self._bar.stop()


def display_of_notebook() -> Callable[..., Any] | None:
    """Return what shows things below a cell, where a kernel of Jupyter's runs this; None elsewhere, also in IPython."""
    IPython: Any = sys.modules.get("IPython")
    shell = None if IPython is None else IPython.get_ipython()
    return IPython.display.display if hasattr(shell, "kernel") else None


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
