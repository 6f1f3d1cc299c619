"""One task at a time, in this process: nothing is sent anywhere, and a debugger works."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from welltuned.evaluation import evaluate
from welltuned.executors.protocol import Finished, Job
from welltuned.live import LiveTrial, Task


class InlineExecutor:
    """Evaluate a task when it is waited for."""

    def __init__(self, job: Job, workers: int = 1) -> None:  # noqa: ARG002 - all executors are made alike
        self._job = job
        self._tasks: list[Task] = []

    def submit(self, task: Task) -> None:
        """See :meth:`Executor.submit`."""
        self._tasks.append(task)

    def wait(self, timeout: float | None = None) -> list[Finished]:  # noqa: ARG002
        """See :meth:`Executor.wait`. The time-out cannot interrupt an objective in this process."""
        if not self._tasks:
            return []
        task = self._tasks.pop(0)
        with _heeded_interrupts():
            outcome = evaluate(self._job.objective, LiveTrial(task, self._job.on_report), self._job.objectives)
        return [Finished(task, outcome)]

    def withdraw(self) -> list[Task]:
        """Take back the tasks that have not begun."""
        tasks, self._tasks = self._tasks, []
        return tasks

    def close(self) -> None:
        """See :meth:`Executor.close`."""
        self._tasks.clear()


@contextmanager
def _heeded_interrupts() -> Iterator[None]:
    """Raise at the end what Ctrl-C raised within, where a library kept it to itself.

    skorch takes it for the end of a training, Lightning turns it into ``SystemExit`` and CatBoost, within a callback,
    into an error of its own: half a training would count as a whole one, or as a failure, and the run would go on.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    pressed = []

    def note(number: int, frame: Any) -> None:
        pressed.append(number)
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is note:  # the objective may have set one of its own
            signal.signal(signal.SIGINT, signal.default_int_handler)
    if pressed:
        raise KeyboardInterrupt
