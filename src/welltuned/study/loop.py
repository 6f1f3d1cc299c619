"""The loop of ``optimize``: claim, evaluate, record, until the budget, a rule or the user ends it."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from welltuned.errors import StorageError, UnknownStudy
from welltuned.evaluation import Objective, StandIn, failure
from welltuned.executors import Executor, Finished, InlineExecutor, Job, Limits, make_executor
from welltuned.live import Task
from welltuned.study.progress import Progress
from welltuned.study.reasons import BROKEN, BUDGET, TIMEOUT, concerns_all, fault
from welltuned.study.rules import Rule, check_costs, first_reason
from welltuned.trial import Origin, Outcome, Reason, State, Trial

if TYPE_CHECKING:
    from welltuned.study.study import Study

log = logging.getLogger("welltuned")
WAIT = 0.5  # seconds between two looks for what other processes are to finish first
MOST_ALIKE = 10  # errors, all of them the same, after which an objective that has never returned anything is given up
GROUP, GROUP_SECONDS = 32, 0.01  # how many trials, and of how many seconds, are stored together at most
Callback = Callable[["Study", Trial], object]


@dataclass(frozen=True)
class Options:
    """How one call of ``optimize`` runs."""

    timeout: float | None = None
    workers: int = 1
    callbacks: Sequence[Callback] = ()
    catch: tuple[type[BaseException], ...] = (Exception,)
    rules: Sequence[Rule] = ()
    executor: Any = None
    progress: bool | None = None
    limits: Limits = field(default_factory=Limits)
    retries: Mapping[Reason, int] = field(default_factory=dict)
    deterministic: bool = False
    stay: bool = False


def run(study: Study, objective: Objective, options: Options) -> None:
    """Run trials until the study stops; store why."""
    executor = make_executor(
        options.executor,
        Job(objective, study.objectives, study.coordinator.receive_report, options.limits),
        options.workers,
    )
    before = study.coordinator.ledger.held()  # what was asked for is told by whoever asked

    def end(settle: Callable[[Mapping[int, int]], None]) -> None:
        try:  # it may take seconds, in which Ctrl-C is pressed, or pressed again
            executor.close()
        finally:
            with _as_far_as_possible():
                settle(before)

    try:
        with Progress(study.name, study.n_trials, options.progress) as progress:
            loop = _Run(study, executor, options, progress)
            try:
                loop.until_stopped()
            finally:
                with _as_far_as_possible():
                    loop.withdraw()
        end(study.coordinator.give_back)  # here too, so that Ctrl-C amid it is dealt with
    except KeyboardInterrupt:
        end(study.coordinator.interrupt)
        raise
    finally:
        end(study.coordinator.give_back)


def _as_far_as_possible() -> AbstractContextManager[None]:
    """Let the end of a run be what it is: of a study that is gone, nothing is left to give back.

    Nor does a storage that takes nothing now stand in the place of Ctrl-C: claims run out by themselves, and what is
    not stored is evaluated again.
    """
    interrupted = isinstance(sys.exc_info()[1], KeyboardInterrupt)
    return contextlib.suppress(StorageError if interrupted else UnknownStudy)


class _Run:
    """The state of one run of the loop."""

    def __init__(self, study: Study, executor: Executor, options: Options, progress: Progress) -> None:
        self.study, self.executor, self.options, self.progress = study, executor, options, progress
        self.coordinator = study.coordinator
        # by claim: a process that was stopped for long may take over its own trial
        self.running: dict[tuple[int, int], Task] = {}
        self.failures: Counter[tuple[int, Reason]] = Counter()  # by number
        self.alike, self.last_error = 0, ""  # how many trials in a row have failed in the same way
        self.deadline = None if options.timeout is None else time.monotonic() + options.timeout
        self.exhausted = False
        self.ahead = 1
        self.before = self._done()

    def until_stopped(self) -> None:
        """Keep the workers busy until there is a reason not to, then wait for those that are."""
        self.progress.update(self._summary)
        reason = self._fill()
        if not self.running and reason is None and self.before and not self._stays():
            end = self._natural_end()
            more = "a larger n_trials goes on" if end in (None, BUDGET) else end
            text = "study %r: nothing is left to do, it has %d trials; %s, another name starts anew"
            log.warning(text, self.study.name, self.before, more)
        while self.running or (reason is None and self._stays()):
            if not self.running:
                self.coordinator.ledger.wait(WAIT)
            finished = self._collect(reason) if self.running else []
            with self._together(finished):
                self._record_all(finished)
                reason = self._fill()
            if reason is not None:
                self.withdraw()
        if reason is not None and reason == self._broken():
            log.error("study %r stopped: %s", self.study.name, reason)
        self.coordinator.record_stop(reason or self._natural_end())

    def _collect(self, reason: str | None) -> list[Finished]:
        """Wait for results. Where trials take no time, take those of a few milliseconds together.

        Each transaction then stores several results, and claims as many trials. Whoever is killed in between has lost
        nothing that anybody was told of.
        """
        began, finished = time.perf_counter(), self.executor.wait(self._patience(reason))
        if not self._may_group():
            return finished
        try:
            while len(finished) < len(self.running) and not self._looks_up(began):
                finished += self.executor.wait(0.0)
        except KeyboardInterrupt:
            with _as_far_as_possible():
                self._record_all(finished)
            raise
        each = (time.perf_counter() - began) / max(len(finished), 1)
        self.ahead = int(min(max(GROUP_SECONDS / 2 / each, 1), GROUP, 2 * self.ahead))
        return finished

    def _looks_up(self, began: float) -> bool:
        """Tell whether results are to be stored now: soon enough, or because the study is to end."""
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return True
        stopped = self.coordinator.ledger.stop_reason is not None  # by the objective, in this process
        return stopped or time.perf_counter() - began >= GROUP_SECONDS

    def withdraw(self) -> None:
        """Take back the trials that were claimed ahead and have not begun."""
        if isinstance(self.executor, InlineExecutor):
            tasks = self.executor.withdraw()
            for task in tasks:
                del self.running[task.number, task.token]
            self.coordinator.withdraw(tasks)
        for task in self.running.values():  # one that was interrupted keeps its configuration
            self.coordinator.settle(task)

    def _may_group(self) -> bool:
        """Tell whether nothing of the user's, and no search, looks at results between one trial and the next."""
        options = self.options
        looks = bool(options.callbacks or options.rules or options.deterministic)
        return options.executor == "inline" and not looks and self.coordinator.may_group

    def _record_all(self, finished: Sequence[Finished]) -> None:
        """Record results; what one of them raises is raised when all are stored."""
        errors = []
        for one in finished:
            try:
                self._record(one)
            except Exception as error:  # noqa: BLE001 - of the objective or of a callback, raised below
                errors.append(error)
        if errors:
            raise errors[0]

    def _stays(self) -> bool:
        """Tell whether there may be something to do once other processes have gone on."""
        coordinator = self.coordinator
        return coordinator.waits or (self.options.stay and coordinator.ledger.is_running(elsewhere=True))

    def _fill(self) -> str | None:
        """Give the idle workers something to do, unless there is a reason to stop, which is returned."""
        reason = self._should_stop()
        while reason is None and len(self.running) < self._places() and self._start():
            if self.options.deterministic:
                reason = self._should_stop()
        return reason

    def _places(self) -> int:
        """Return how many trials may be under way: as many as workers, or a few milliseconds' worth of them."""
        return max(self.options.workers, self.ahead) if not self.running else self.options.workers

    def _together(self, finished: Sequence[Finished]) -> AbstractContextManager[None]:
        """Store results and the claims that follow as one change, where nothing of the user's runs in between."""
        plain = all(f.outcome is not None and f.outcome.state is State.COMPLETE for f in finished)
        if not plain or self.options.callbacks or self.options.rules:
            return contextlib.nullcontext()
        return self.coordinator.together()

    def _should_stop(self) -> str | None:
        stored = self.study.stop_reason
        if concerns_all(stored):
            return stored
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return TIMEOUT.format(self.options.timeout)
        if (broken := self._broken()) is not None:
            return broken
        history = self.coordinator.judged() if self.options.rules else None
        return None if history is None else first_reason(self.options.rules, history)

    def _broken(self) -> str | None:
        """Say that the objective seems to be: the rest of the budget would teach nothing."""
        if self.alike < MOST_ALIKE or self.options.deterministic:
            return None
        if any(t.state in (State.COMPLETE, State.PRUNED, State.PAUSED) for t in self.study.trials):
            return None
        return BROKEN.format(self.alike, self.last_error)

    def _natural_end(self) -> str | None:
        """Return why there is nothing left to start; None while other processes still evaluate."""
        if self.coordinator.ledger.is_running():
            return None
        return self.coordinator.natural_end(self.exhausted)

    def _patience(self, reason: str | None) -> float | None:
        """Look up at the deadline, and once a second where another process may stop the study."""
        if self.deadline is None or reason is not None:
            return 1.0
        return min(max(self.deadline - time.monotonic(), 0.0) + 0.001, 1.0)

    def _start(self) -> bool:
        """Start what the idle workers can take; False when there is nothing."""
        if self.exhausted:
            self.coordinator.promotion.promote(1)
        if self.exhausted and not any(t.state is State.WAITING for t in self.study.trials):
            return False
        # one at a time, so that the rules are asked before each
        idle = 1 if self.options.deterministic else self._places() - len(self.running)
        tasks, self.exhausted = self.coordinator.next_tasks(idle, ahead=idle > self.options.workers)
        for task in tasks:
            self.running[task.number, task.token] = task
            self.executor.submit(task)
        return bool(tasks)

    def _record(self, finished: Finished) -> None:
        task = finished.task
        del self.running[task.number, task.token]
        outcome = finished.outcome or failure(Reason.LOST, finished.error or "its worker died")
        if outcome.state is State.FAILED and self._tries_again(task, outcome):
            return
        if not self.coordinator.receive_outcome(task, outcome):
            return
        if outcome.state is State.FAILED:
            log.warning(
                "trial %d failed (%s): %s", task.number, outcome.reason.value if outcome.reason else "?", outcome.error
            )
            self._maybe_raise(outcome)
            same = outcome.reason is Reason.ERROR and fault(outcome.error) == fault(self.last_error)
            self.alike, self.last_error = self.alike + 1 if same else 1, outcome.error or ""
        else:
            self.alike = 0
        self.progress.update(self._summary)
        if outcome.state is not State.FAILED and log.isEnabledFor(logging.INFO):
            values = ", ".join(f"{name} {value:.6g}" for name, value in outcome.metrics.items())
            state = self._stored(task).state  # one that is told to stop may be paused
            log.info("trial %d %s: %s", task.number, state.value, values or "no value")
        for callback in self.options.callbacks:
            callback(self.study, self._stored(task))
        check_costs(self.options.rules, outcome, lambda: self.study.trials)

    def _tries_again(self, task: Task, outcome: Outcome) -> bool:
        """Put a failed trial back, unless it has failed too often."""
        reason = outcome.reason or Reason.ERROR
        allowed = self.options.retries.get(reason, 0)
        if not allowed and reason is not Reason.LOST:
            return False
        self.failures[task.number, reason] += 1
        # other processes may have tried it too, for all of the reasons together
        attempts = self._stored(task).attempts
        failures = max(self.failures[task.number, reason], attempts - sum(self.options.retries.values()) + allowed)
        log.warning(
            "trial %d failed (%s): %s, attempt %d of %d",
            task.number,
            reason.value,
            outcome.error,
            failures,
            allowed + 1,
        )
        if failures > allowed:
            return False
        self.coordinator.put_back(task)
        return True

    def _stored(self, task: Task) -> Trial:
        """Return the record of a trial as it is now."""
        record = self.coordinator.ledger.trial(task.number)
        assert record is not None
        return record

    def _maybe_raise(self, outcome: Outcome) -> None:
        error = outcome.exception
        if outcome.reason is Reason.ERROR and error is not None:
            kind = error.kind if isinstance(error, StandIn) else type(error)
            if not issubclass(kind, self.options.catch):
                raise error

    def _done(self) -> int:
        """Return how many trials have finished, those from elsewhere left out."""
        return sum(t.state.resting and t.origin is not Origin.ADDED for t in self.study.history.trials)

    def _summary(self) -> tuple[int, str]:
        """Return what the live line shows: how many trials have finished, and what has come of them."""
        history = self.study.history
        failed = sum(t.state is State.FAILED for t in history.trials)
        note = f"best {history.best.value:.6g}" if len(history.directions) == 1 and history.best is not None else ""
        return self._done(), note + (f"  {failed} failed" if failed else "")
