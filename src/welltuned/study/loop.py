"""The loop of ``optimize``: claim, evaluate, record, until the budget, a rule or the user ends it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from welltuned.evaluation import Objective, failure
from welltuned.executors import Executor, Finished, Job, make_executor
from welltuned.live import Task
from welltuned.storage import MAX_ATTEMPTS
from welltuned.study.progress import Progress
from welltuned.study.rules import Rule
from welltuned.trial import Origin, Outcome, Reason, State, Trial

if TYPE_CHECKING:
    from welltuned.study.study import Study

log = logging.getLogger("welltuned")
Callback = Callable[["Study", Trial], object]


@dataclass(frozen=True)
class Options:
    """How one call of ``optimize`` runs."""

    timeout: float | None = None
    workers: int = 1
    callbacks: Sequence[Callback] = ()
    catch: tuple[type[BaseException], ...] = (Exception,)
    rules: Sequence[Rule] = ()
    executor: str | None = None
    progress: bool | None = None


def run(study: Study, objective: Objective, options: Options) -> None:
    """Run trials until the study stops; store why."""
    executor = make_executor(
        options.executor, Job(objective, study.objectives, study.coordinator.receive_report), options.workers
    )
    label = f"{study.name}" if study.name else "tuning"
    try:
        with Progress(label, study.n_trials, options.progress) as progress:
            _Run(study, executor, options, progress).until_stopped()
    except KeyboardInterrupt:
        executor.close()
        study.coordinator.interrupt()
        raise
    finally:
        executor.close()
        study.coordinator.give_back()


class _Run:
    """The state of one run of the loop."""

    def __init__(self, study: Study, executor: Executor, options: Options, progress: Progress) -> None:
        self.study, self.executor, self.options, self.progress = study, executor, options, progress
        self.running: dict[int, Task] = {}
        self.deadline = None if options.timeout is None else time.monotonic() + options.timeout
        self.reason: str | None = None

    def until_stopped(self) -> None:
        """Keep the workers busy until there is a reason not to, then wait for those that are."""
        while True:
            self.reason = self.reason or self._should_stop()
            while self.reason is None and len(self.running) < self.options.workers:
                if not self._start(self.options.workers - len(self.running)):
                    break
            if not self.running:
                break
            for finished in self.executor.wait(self._patience()):
                self._record(finished)
        self.study.coordinator.record_stop(self.reason or "budget: all trials are done")

    def _should_stop(self) -> str | None:
        history = self.study.history
        if self.study.stop_reason is not None:
            return self.study.stop_reason
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return f"timeout: {self.options.timeout:g} seconds are over"
        return next((why for rule in self.options.rules if (why := rule.reason(history)) is not None), None)

    def _patience(self) -> float | None:
        """Look up at the deadline, and once a second where another process may stop the study."""
        left = None if self.deadline is None or self.reason else max(self.deadline - time.monotonic(), 0.0)
        return 1.0 if left is None else min(left + 0.001, 1.0)

    def _start(self, n: int) -> bool:
        tasks, exhausted = self.study.coordinator.next_tasks(n)
        for task in tasks:
            self.running[task.number] = task
            self.executor.submit(task)
        if exhausted:
            self.reason = "space exhausted: every configuration has been tried"
        return bool(tasks)

    def _record(self, finished: Finished) -> None:
        task = finished.task
        del self.running[task.number]
        outcome = finished.outcome or self._lost(task, finished.error or "")
        if outcome is None:
            self.study.coordinator.put_back(task)
            return
        trial = self.study.coordinator.receive_outcome(task, outcome)
        if trial is None:
            return
        if outcome.state is State.FAILED:
            log.warning(
                "trial %d failed (%s): %s", task.number, outcome.reason.value if outcome.reason else "?", outcome.error
            )
            self._maybe_raise(outcome)
        self._show()
        for callback in self.options.callbacks:
            callback(self.study, trial)

    def _lost(self, task: Task, error: str) -> Outcome | None:
        """Return a failure for a trial whose workers keep dying, None to try it again."""
        attempts = self.study.history.trials_by_number[task.number].attempts
        log.warning("trial %d: %s, attempt %d of %d", task.number, error, attempts, MAX_ATTEMPTS)
        return failure(Reason.LOST, f"{error} in each of {attempts} attempts") if attempts >= MAX_ATTEMPTS else None

    def _maybe_raise(self, outcome: Outcome) -> None:
        if (
            outcome.reason is Reason.ERROR
            and outcome.exception is not None
            and not isinstance(outcome.exception, self.options.catch)
        ):
            raise outcome.exception

    def _show(self) -> None:
        history = self.study.history
        done = sum(t.state.finished and t.origin is not Origin.ADDED for t in history.trials)
        failed = sum(t.state is State.FAILED for t in history.trials)
        note = f"best {history.best.value:.6g}" if len(history.directions) == 1 and history.best is not None else ""
        self.progress.update(done, note + (f"  {failed} failed" if failed else ""))
