"""One task at a time, in this process: nothing is sent anywhere, and a debugger works."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

from welltuned.evaluation import evaluate
from welltuned.executors.protocol import Finished, Job
from welltuned.live import LiveTrial, Task
from welltuned.trial import Outcome


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
        trial = LiveTrial(task, self._job.on_report)
        return [Finished(task, _heeding_interrupts(lambda: evaluate(self._job.objective, trial, self._job.objectives)))]

    def withdraw(self) -> list[Task]:
        """Take back the tasks that have not begun."""
        tasks, self._tasks = self._tasks, []
        return tasks

    def close(self) -> None:
        """See :meth:`Executor.close`."""
        self._tasks.clear()


class _Pressed(list[int]):
    """Takes note of Ctrl-C, and raises what Python would."""

    over = False

    def __call__(self, number: int, frame: Any) -> None:
        self.append(number)
        signal.default_int_handler(number, frame)


def _heeding_interrupts(action: Callable[[], Outcome]) -> Outcome:
    """Return what ``action`` does, or raise at its end what Ctrl-C raised within and a library kept to itself.

    skorch takes it for the end of a training, Lightning turns it into ``SystemExit`` and CatBoost, within a callback,
    into an error of its own: half a training would count as a whole one, or as a failure, and the run would go on.
    """
    before, pressed = signal.getsignal(signal.SIGINT), _Pressed()
    main = threading.current_thread() is threading.main_thread()
    left = isinstance(before, _Pressed) and before.over  # Ctrl-C came when it was about to go
    if not main or not (left or before is signal.default_int_handler):
        return action()
    try:
        signal.signal(signal.SIGINT, pressed)
        outcome = action()
    finally:
        pressed.over = True
        if signal.getsignal(signal.SIGINT) is pressed:  # the objective may have set one of its own
            signal.signal(signal.SIGINT, signal.default_int_handler)
    if pressed:
        raise KeyboardInterrupt
    return outcome
