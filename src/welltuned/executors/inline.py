"""One task at a time, in this process: nothing is sent anywhere, and a debugger works."""

from __future__ import annotations

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
        return [
            Finished(task, evaluate(self._job.objective, LiveTrial(task, self._job.on_report), self._job.objectives))
        ]

    def withdraw(self) -> list[Task]:
        """Take back the tasks that have not begun."""
        tasks, self._tasks = self._tasks, []
        return tasks

    def close(self) -> None:
        """See :meth:`Executor.close`."""
        self._tasks.clear()
