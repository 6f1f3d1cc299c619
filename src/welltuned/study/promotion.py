"""What a study does for a scheduler that pauses trials: let them rest, go on, and keep what they had."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from welltuned.curves import curves, extent
from welltuned.history import History
from welltuned.live import Task
from welltuned.schedulers import Breeder, Decision, Pause, Promoter, Scheduler, pauses
from welltuned.study.ledger import Ledger
from welltuned.trial import RESTS, Outcome, Report, State, Trial

log = logging.getLogger("welltuned")


class Promotion:
    """The pauses of one study, as this process decides about them. Without a scheduler that pauses, it does nothing.

    ``judge`` asks the scheduler what a report of a trial, given by its number, means now.
    """

    def __init__(
        self, ledger: Ledger, scheduler: Scheduler | None, judge: Callable[[int, Report], Decision]
    ) -> None:
        self._ledger = ledger
        self._judge = judge
        self._scheduler = scheduler if pauses(scheduler) else None
        self._promoter = scheduler if isinstance(scheduler, Promoter) else None
        self._told: dict[tuple[int, int], list[int]] = {}  # of claims that have not ended yet: at which steps to pause
        self._before: dict[int, Trial] = {}  # trials that go on, as they were
        self._warned = False
        #: whether the sampler had no new configuration when it was asked last
        self.exhausted = False

    @property
    def possible(self) -> bool:
        """Whether trials may be paused at all."""
        return self._scheduler is not None

    def promote(self, n: int) -> bool:
        """Let paused trials wait to be claimed, until up to ``n`` trials wait; tell whether this one let any."""
        found = False
        while self._promoter is not None:
            history = self._ledger.sync()
            if sum(t.state is State.WAITING for t in history.trials) >= n:
                break
            number = self._promoter.promote(self.seen(history))
            if number is None:
                break
            found |= self._ledger.resume(number)  # another process may have been quicker; then look again
        return found

    def seen(self, history: History) -> History:
        """Return what the scheduler sees: where the space is exhausted, a budget that is spent."""
        if not self.exhausted or self._scheduler is None:
            return history
        return history.replace(history.trials, budget=history.spent)

    def begins(self, trial: Trial) -> None:
        """Take note of a claimed trial that goes on."""
        if trial.seconds is not None:
            self._before[trial.number] = trial

    def decided(self, task: Task, decision: Decision, step: int) -> None:
        """Take note of what a running trial was told at a step."""
        if self._scheduler is None:
            return
        steps = self._told.setdefault((task.number, task.token), [])
        if isinstance(decision, Pause):
            steps.append(step)

    def result(self, task: Task, outcome: Outcome) -> Outcome:
        """Return how an attempt ended, with what the trial had before; one that was to pause is paused."""
        told = self._told.get((task.number, task.token))
        before = self._before.get(task.number)
        if before is not None and before.token == task.token:
            seconds = None if outcome.seconds is None else outcome.seconds + (before.seconds or 0.0)
            outcome = replace(outcome, seconds=seconds, attributes={**before.attributes, **outcome.attributes})
        if outcome.state is not State.PRUNED or not (self._would_pause(task.number) if told is None else told):
            return outcome
        if outcome.metrics and told and self._is_whole(task.number, told[0]):
            if not self._warned:
                self._warned = True
                log.warning(
                    "trial %d has come to its end though it was to pause; an objective whose trials are paused asks "
                    "trial.should_stop() after each report",
                    task.number,
                )
            return replace(outcome, state=State.COMPLETE)
        return self.rest(task.number, outcome)

    def ended(self, task: Task) -> None:
        """Forget an attempt whose outcome is stored: what could not be stored may be told again."""
        self._told.pop((task.number, task.token), None)
        self._before.pop(task.number, None)

    def rest(self, number: int, outcome: Outcome) -> Outcome:
        """Return the outcome of a trial that is paused. Of a member of a population, where it rests is kept."""
        trial = self._ledger.trial(number) if isinstance(self._scheduler, Breeder) else None
        if trial is not None and trial.reports:
            step = trial.reports[-1].step
            rests = trial.rests if step in trial.rests else (*trial.rests, step)
            outcome = replace(outcome, attributes={**outcome.attributes, RESTS: list(rests)})
        return replace(outcome, state=State.PAUSED, seconds=outcome.seconds or 0.0)

    def _is_whole(self, number: int, told: int) -> bool:
        """Tell whether a trial has not stopped where it was told to, and reported as far as those that completed."""
        history = self._ledger.sync()
        reported = curves(history.trials, history.directions)
        last = extent(history.trials, reported)[1]
        own = reported[number].steps if number in reported else ()
        return last is not None and bool(own) and own[-1] >= last and own[-1] > told

    def _would_pause(self, number: int) -> bool:
        """Tell whether a trial rests that another process told to stop, such as a server before it was restarted."""
        trial = self._ledger.trial(number) if self.possible else None
        return trial is not None and bool(trial.reports) and isinstance(self._judge(number, trial.reports[-1]), Pause)
