"""Many tasks in one call, in this process: for objectives that evaluate a list of trials in one vectorised program."""

from __future__ import annotations

from welltuned.evaluation import evaluate_batch
from welltuned.executors.protocol import Finished, Job
from welltuned.live import LiveTrial, Task


class BatchExecutor:
    """Call the objective once with all the trials that wait."""

    def __init__(self, job: Job, workers: int = 1) -> None:  # noqa: ARG002 - all executors are made alike
        self._job = job
        self._tasks: list[Task] = []

    def submit(self, task: Task) -> None:
        """See :meth:`Executor.submit`."""
        self._tasks.append(task)

    def wait(self, timeout: float | None = None) -> list[Finished]:  # noqa: ARG002
        """See :meth:`Executor.wait`. The time-out cannot interrupt an objective in this process."""
        tasks, self._tasks = self._tasks, []
        if not tasks:
            return []
        trials = [LiveTrial(task, self._job.on_report) for task in tasks]
        outcomes = evaluate_batch(self._job.objective, trials, self._job.objectives)
        return [Finished(task, outcome) for task, outcome in zip(tasks, outcomes, strict=True)]

    def close(self) -> None:
        """See :meth:`Executor.close`."""
        self._tasks.clear()
