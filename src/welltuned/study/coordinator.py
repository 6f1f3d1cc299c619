"""What happens to a trial between its claim and its result: the part of a study that loops are built on."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from welltuned.errors import InvalidValue, UnknownStudy, WelltunedError
from welltuned.evaluation import failure
from welltuned.history import History
from welltuned.live import LiveTrial, Task
from welltuned.samplers import Auto, Sampler
from welltuned.schedulers import Begin, Child, Continue, Critic, Decision, Move, Pause, Promote, Scheduler
from welltuned.space import Params, Space
from welltuned.space.codec import cells
from welltuned.storage import StudyRow
from welltuned.streams import trial_rng
from welltuned.study.breeding import Breeding, check_folders, descent
from welltuned.study.folders import Folders
from welltuned.study.ledger import Ledger, leave
from welltuned.study.promotion import Promotion
from welltuned.study.reasons import BUDGET, ENDED, EXHAUSTED, INTERRUPTED, concerns_all
from welltuned.study.visible import is_settled, provenance, within_window
from welltuned.surrogate.threads import single_threaded
from welltuned.trial import Origin, Outcome, Reason, Report, State, Trial

log = logging.getLogger("welltuned")
MOST_DEATHS = 10  # of processes at one trial that reported nothing meanwhile


class Coordinator:
    """Claim trials, give them configurations, judge their reports, store their outcomes."""

    def __init__(
        self, ledger: Ledger, sampler: Sampler, scheduler: Scheduler | None, checkpoints: Path | None
    ) -> None:
        self.ledger = ledger
        self.sampler = sampler
        self.scheduler = scheduler
        self.promotion = Promotion(ledger, scheduler, self._judge)
        #: where trials keep their checkpoints, if anywhere
        self.folders = None if checkpoints is None else Folders(checkpoints)
        self.breeding = Breeding(ledger, scheduler, self.folders)
        self._said: str | None = None
        self._missed = self._lacked = False
        self._critic = scheduler if isinstance(scheduler, Critic) else None  # until it has objected
        #: with a window of w, trial k is proposed from the results of trials up to k - w, whatever else is there
        self.window: int | None = None
        #: how often a trial is begun before it is given up; each of its reports is worth one more
        self.attempts = MOST_DEATHS
        self._held: Trial | None = None
        self._block: contextlib.AbstractContextManager[None] = contextlib.nullcontext()  # what is stored at once
        self._ahead: dict[int, Mapping[str, Any]] = {}  # of trials claimed ahead: where their proposals came from
        self._infinite: tuple[Space, bool] | None = None
        self._alone = threading.Lock()
        #: trials that were asked for, as long as anybody has them, by number
        self.asked: weakref.WeakValueDictionary[int, LiveTrial] = weakref.WeakValueDictionary()

    @property
    def open_space(self) -> bool:
        """Whether the objective suggests its parameters itself."""
        return self.ledger.is_open

    @property
    def space(self) -> Space:
        """The current version of the space, which must exist."""
        assert self.ledger.space is not None
        return self.ledger.space

    def alone(self) -> threading.Lock:
        """Return what a loop is to hold, and refuse a second one on the same study: each would end the other's trials.

        The lock itself, since between entering a block of ours and what is in it an interrupt may come, and whoever
        keeps its traceback, as notebooks do, would keep the lock.
        """
        if self._alone.locked():
            raise InvalidValue(
                f"optimize: study {self.ledger.row.name!r} is being optimized by this very object, in another thread "
                "or around this call; use workers=, or open it once more: Study(storage=…, name=…)"
            )
        return self._alone

    def next_tasks(self, n: int, *, ahead: bool = False) -> tuple[list[Task], bool]:
        """Claim up to ``n`` trials and give each a configuration; also tell whether the space is exhausted.

        With ``ahead`` the configurations of a blind search are stored only with the results, so that trials that did
        not begin can be taken back.
        """
        return self.ledger.claiming(lambda: self._next(n, ahead))

    def ask(self, n: int, lease: float | None) -> tuple[list[LiveTrial], bool]:
        """Claim trials for whoever tells their results; with a ``lease`` the claims outlive this process."""
        if lease is not None and (self.open_space or self.ledger.space is None):
            raise InvalidValue(
                f"ask: lease={lease!r} needs a study with a space; in this one the objective suggests its parameters"
            )

        def asked() -> tuple[list[LiveTrial], bool]:
            tasks, exhausted = self._next(n)
            trials = [LiveTrial(task, self.receive_report) for task in tasks]
            self.asked.update({trial.number: trial for trial in trials})
            if lease is not None:
                self.ledger.entrust([task.number for task in tasks], lease)
            return trials, exhausted

        return self.ledger.claiming(asked, nobody=lease is not None)

    def _next(self, n: int, ahead: bool = False) -> tuple[list[Task], bool]:
        if self.ledger.may_recover:
            self.ledger.recover()
        if self.window is not None:
            return self._next_in_order(n, self.window)
        if self.breeding.possible:
            return self._next_of_population(n), False
        self.promotion.promote(n)
        tasks, exhausted = self._next_of_all(n, ahead)
        if exhausted and self.promotion.promote(n - len(tasks)):  # the best of those that rest, since none is new
            tasks += self._next_of_all(n - len(tasks), ahead)[0]
        return tasks, exhausted

    def _next_of_all(self, n: int, ahead: bool) -> tuple[list[Task], bool]:
        """Claim trials that wait, and as many new ones as are lacking then."""
        claimed = self._claim(n)
        if len(claimed) < n and self.ledger.recover():
            claimed += self._claim(n - len(claimed))
        blank = [t for t in claimed if t.params is None]
        params, exhausted = self._suggest(blank, ahead) if blank else ({}, False)
        tasks = [
            self.task(t.but(params=params.get(t.number, t.params)))
            for t in claimed
            if t.number in params or t.params is not None
        ]
        return tasks, exhausted

    def _next_of_population(self, n: int) -> list[Task]:
        """Let up to ``n`` trials begin or go on, one after the other, as a scheduler that breeds has it."""
        check_folders(self.scheduler, self.folders)
        tasks: list[Task] = []
        self.breeding.idle = False
        while len(tasks) < n and not self.breeding.idle:
            history = self.promotion.seen(self.ledger.sync())
            claimed, move = self._claim(1, history.spent), None
            if not claimed and not self.ledger.recover():
                number = max((t.number for t in history.trials), default=-1) + 1
                move = self.breeding.move(history, number)
                if isinstance(move, Promote):
                    self.breeding.promote(move)
                elif move is not None:  # nothing is claimed where others have begun one since: then look again
                    claimed = self._claim(1, history.spent + 1)
                    move = move if claimed and claimed[0].number == number else None
            begun = [self._member(trial, move) for trial in claimed]
            tasks += [self.task(trial) for trial in begun if trial is not None]
        return tasks

    def _member(self, trial: Trial, move: Move | None) -> Trial | None:
        """Give a claimed trial the configuration that it lacks, and its folder; None where it is not to begin."""
        while trial.params is None and self.ledger.holds(trial.number):
            if move is None and not self.open_space:  # what others have claimed later comes after this one
                seen = self.promotion.seen(self.ledger.sync())
                later = [t.number for t in seen.trials if t.params is None and t.number >= trial.number]
                move = self.breeding.move(seen.without(later), trial.number)
            match move:
                case Child():
                    unique, source = not self.ledger.wishes.noisy, descent(move)
                    if self.ledger.assign(trial.number, move.params, unique=unique, provenance=source):
                        trial = trial.but(params=move.params, provenance=source)
                case Promote():  # nothing is to be bred after all
                    self.ledger.release(trial.number, drop=True)
                case Begin() | None:
                    found = self._suggest([trial], ahead=False)[0] if move or self.open_space else {}
                    if trial.number not in found:
                        self.ledger.release(trial.number, drop=True)
                        return None
                    trial = trial.but(params=found[trial.number])
            move = None
        if trial.params is None:
            return None
        self.breeding.begin(trial)
        return trial

    def _claim(self, n: int, most: int | None = None) -> list[Trial]:
        """Claim up to ``n`` trials, and end those that cannot be evaluated; with ``most``, new ones up to so many."""
        claimed = self._take(n, most)
        while ended := {t.number: failed for t in claimed if (failed := self._hopeless(t)) is not None}:
            for trial in [t for t in claimed if t.number in ended]:
                if ended[trial.number].error:
                    log.warning("trial %d is %s", trial.number, ended[trial.number].error)
                self.ledger.finish(trial.number, trial.token, ended[trial.number])
            claimed = [t for t in claimed if t.number not in ended]
            claimed += self._take(len(ended), most)
        return [t.but(params=None) if self._misfit(t) else t for t in claimed]

    def _take(self, n: int, most: int | None = None) -> list[Trial]:
        """Claim up to ``n`` trials; what waited while the space grew gets the defaults that it lacks."""
        claimed = self.ledger.claim(n, most)
        for i, trial in enumerate(claimed if self.ledger.space is not None else ()):
            params = None if trial.params is None else self.space.filled(trial.params)
            if params is not trial.params:  # it is evaluated as if they had been there
                self.ledger.assign(trial.number, dict(params or {}), unique=False, provenance=trial.provenance)
                claimed[i] = trial.but(params=params)
        return claimed

    def _hopeless(self, trial: Trial) -> Outcome | None:
        """Return how a claimed trial ends that is not to be evaluated.

        One is that every process has died that began it: one that takes all memory would otherwise end all the workers
        of a cluster, one after the other. Whose training goes on from its checkpoint reports between two deaths, and is
        not given up. The other one waited while the space changed, and is no longer in it; a proposal that has not
        begun is made anew instead.
        """
        begun = trial.params is not None or self.open_space
        if begun and trial.attempts > self.attempts + len(trial.reports):
            return failure(Reason.LOST, f"given up: begun {trial.attempts - 1} times without a result")
        if (why := self._misfit(trial)) and (trial.origin is Origin.ENQUEUED or trial.reports):
            return failure(Reason.INFEASIBLE, f"no longer in the space: {why}")
        return self._decided(trial)

    def _decided(self, trial: Trial) -> Outcome | None:
        """Return how a trial ends whose process died when it should have stopped: that is not stored."""
        if not trial.reports:
            return None
        decision = self._judge(trial.number, trial.reports[-1])
        if isinstance(decision, Continue):
            return None
        ended = Outcome(State.PRUNED, seconds=trial.seconds or 0.0, attributes=trial.attributes)
        return self.promotion.rest(trial.number, ended) if isinstance(decision, Pause) else ended

    def _misfit(self, trial: Trial) -> str:
        """Say why a claimed trial is no configuration of the space as it is now; nothing if it is one."""
        if trial.params is None or self.ledger.space is None or self.open_space:
            return ""
        try:
            self.space.validate(trial.params)
        except WelltunedError as error:
            return str(error)
        return ""

    def _suggest(self, blank: list[Trial], ahead: bool) -> tuple[dict[int, Params], bool]:
        """Find a configuration for each claimed slot and store it; slots without one are taken back."""
        found: dict[int, Params] = {}
        unique = not self.ledger.wishes.noisy
        todo, exhausted = [t.number for t in blank], False
        # whether a draw from infinitely many is new, assigning it tells; only a second one needs to see what was drawn
        if self.is_blind:
            for number in todo:
                history = self.ledger.blank()
                params = self._proposals(history, 1, number)[0]
                source = provenance(number, 0, 1, history.budget, history.workers)
                if ahead:
                    self._ahead[number] = source
                if ahead or self.ledger.assign(number, params, unique=unique, provenance=source):
                    found[number] = params
            todo = [number for number in todo if number not in found and self.ledger.holds(number)]
        while todo and not exhausted:
            history, revision = self.ledger.sync().without(todo), self.ledger.revision
            proposals = self._proposals(history, len(todo), todo[0])
            exhausted = len(proposals) < len(todo)
            for i, (number, params) in enumerate(zip(todo, proposals, strict=False)):
                source = provenance(todo[0], i, len(todo), history.budget, history.workers, revision=revision)
                # another process may have taken the same configuration in the meantime; then propose anew
                if self.open_space or self.ledger.assign(number, params, unique=unique, provenance=source):
                    found[number] = params
            todo = [number for number in todo if number not in found and self.ledger.holds(number)]
        for number in todo:
            self.ledger.release(number, drop=True)
        self.promotion.exhausted = exhausted
        return found, exhausted

    def _next_in_order(self, n: int, window: int) -> tuple[list[Task], bool]:
        """Claim trials one after the other, each as soon as all that it may see is there."""
        tasks: list[Task] = []
        while len(tasks) < n:
            if self._held is None:
                claimed = self._claim(1)
                if not claimed and self.ledger.recover():
                    claimed = self._claim(1)
                if not claimed:
                    break
                if claimed[0].params is not None:
                    tasks.append(self.task(claimed[0]))
                    continue
                self._held = claimed[0]
            if not self.ledger.holds(self._held.number):
                self._held = None
                continue
            history, number = self.ledger.sync(), self._held.number
            if not is_settled(history.trials, number, window):
                break
            proposals = self._proposals(history.replace(within_window(history.trials, number, window)), 1, number)
            trial, self._held = self._held, None
            if not proposals:
                self.ledger.release(number, drop=True)
                return tasks, True
            source = provenance(number, 0, 1, history.budget, history.workers, window=window)
            if self.open_space or self.ledger.assign(number, proposals[0], unique=False, provenance=source):
                tasks.append(self.task(trial.but(params=proposals[0])))
        return tasks, False

    @property
    def waits(self) -> bool:
        """Whether a claimed trial waits for the results that it has to see, or a population for members elsewhere."""
        return self._held is not None or (self.breeding.idle and self.ledger.is_running(elsewhere=True))

    def natural_end(self, exhausted: bool) -> str:
        """Return why nothing is left to do, where nothing is."""
        if exhausted or (self.breeding.possible and self.promotion.exhausted):
            return EXHAUSTED
        return ENDED if self.breeding.possible and not self.ledger.sync().is_spent else BUDGET

    def why_nothing(self, exhausted: bool) -> str:
        """Say why there is nothing to ask for."""
        end, history = self.natural_end(exhausted), self.ledger.sync()
        if end == EXHAUSTED:
            return "every configuration has been tried"
        running = [t.number for t in history.trials if t.state is State.RUNNING]
        told = f"; not told yet, or evaluated elsewhere: {running}" if running else ""
        if end == BUDGET:
            return f"its budget of {history.budget} trials is used up{told}; a larger n_trials allows more"
        return ("no member of its population can go on now" if running else end) + told

    def judged(self) -> History | None:
        """Return the history that rules judge; None while what they may see is not there yet."""
        history = self.ledger.sync()
        if self.window is None:
            return history
        following = max((t.number for t in history.trials), default=-1) + 1
        number = following if self._held is None else self._held.number
        if not is_settled(history.trials, number, self.window):
            return None
        return history.replace(within_window(history.trials, number, self.window))

    @property
    def is_blind(self) -> bool:
        """Whether proposals take no look at the history, and no time."""
        if self.open_space or getattr(self.sampler, "reads_history", True) or self.ledger.space is None:
            return False
        if self._infinite is None or self._infinite[0] is not self.space:
            self._infinite = self.space, any(cells(p) is None for p in self.space.values())
        return self._infinite[1]

    @property
    def may_group(self) -> bool:
        """Whether several trials may be claimed and stored as one change: nobody looks at what comes in between."""
        return self.is_blind and not self.promotion.possible

    def together(self) -> contextlib.AbstractContextManager[None]:
        """Store all that happens in the block at once, where finding the next configuration takes no time."""
        self._block = self._at_once() if self.may_group else contextlib.nullcontext()
        return self._block

    @contextlib.contextmanager
    def _at_once(self) -> Iterator[None]:
        claims, block = self.ledger.held(), self.ledger.storage.together(self.ledger.row.id)
        try:
            with block:
                yield
        except BaseException as error:
            leave(block, error)
            # nothing of it was stored: what has ended since is as it was before, whatever was read amid it
            self.ledger.forget()
            self.ledger.regain(claims)
            if isinstance(error, UnknownStudy):
                raise self.ledger.gone() from None
            raise

    def _proposals(self, history: History, n: int, number: int) -> list[Params]:
        if self.ledger.space is None:
            return [{} for _ in range(n)]
        sampler = self.sampler
        if isinstance(sampler, Auto):
            choice = sampler.choose(self.space, history, n)
            if choice.name != self._said:
                log.info("study %r uses %s from trial %d on: %s", self.ledger.row.name, choice.name, number, choice.why)
                self._said = choice.name
            sampler = choice.sampler
        with single_threaded() if self.sampler.model_based else contextlib.nullcontext():
            return sampler.suggest(self.space, history, n, trial_rng(self.ledger.row.seed, number))

    def folder(self, number: int) -> Path | None:
        """Return where a trial keeps its files; None where trials have no folders."""
        return None if self.folders is None else self.folders.of(number)

    def task(self, trial: Trial) -> Task:
        """Return what an executor needs to evaluate a claimed trial."""
        self.promotion.begins(trial)
        folder = self.folder(trial.number)
        positional = self.ledger.space is not None and self.space.positional
        return Task(
            trial.number,
            trial.token,
            dict(trial.params or {}),
            self.ledger.row.seed,
            positional,
            self.open_space,
            trial.origin is Origin.ENQUEUED,
            None if folder is None else str(folder),
            trial.reports,
            study=self.ledger.identity,
            inherited=trial.inherited,
            directions=dict(self.ledger.row.directions),
        )

    def receive_report(self, task: Task, report: Report) -> bool:
        """Store what is finite of a report, and return whether the trial should stop."""
        objectives = tuple(self.ledger.row.directions)
        if len(objectives) == 1 and set(report.metrics) == {"value"}:
            report = replace(report, metrics={objectives[0]: report.metrics["value"]})
        if self.scheduler is not None and not self._lacked and (lacked := sorted({*objectives} - {*report.metrics})):
            self._lacked = True
            log.warning("%s", _unjudged(task.number, lacked, report))
        ill = any(not math.isfinite(report.metrics.get(name, 0.0)) for name in objectives)
        diverged = ill and self.scheduler is not None
        report = replace(report, metrics={k: v for k, v in report.metrics.items() if math.isfinite(v)})
        if not report.metrics:
            return diverged
        try:
            if not self.ledger.report(task.number, task.token, report):
                log.warning("trial %d was taken over by another process; its report is dropped", task.number)
                return True
        except UnknownStudy as error:  # the objective is told to end, and the loop raises it
            log.warning("trial %d is to stop: %s", task.number, error)
            return True
        if diverged:
            return True
        decision = self._judge(task.number, report)
        self.promotion.decided(task, decision, report.step)
        return not isinstance(decision, Continue)

    def _judge(self, number: int, report: Report) -> Decision:
        """Ask the scheduler, if there is one, what a report means."""
        if self.scheduler is None:
            return Continue()
        history = self.ledger.sync()
        if self.window is not None:
            own = [t for t in history.trials if t.number == number]
            history = history.replace([*within_window(history.trials, number, self.window), *own])
        return self.scheduler.decide(self.promotion.seen(history), number, report)

    def receive_outcome(self, task: Task, outcome: Outcome) -> bool:
        """Store how a trial ended; False when its claim was lost."""
        if outcome.domains:
            self.ledger.widen(outcome.domains)
        if outcome.params is not None and self.ledger.space is not None and task.number in self.ledger.claims:
            known = None if task.inherited is None else self.ledger.trial(task.number)
            source = None if known is None else known.provenance
            self.ledger.assign(task.number, dict(outcome.params), unique=False, provenance=source)
            unasked = sorted(set(task.params) - set(outcome.params))
            if task.fixed and outcome.state is State.COMPLETE and unasked:
                log.warning("trial %d was enqueued with %r, which the objective did not ask for", task.number, unasked)
        self.settle(task)
        outcome = self.promotion.result(task, outcome)
        per = self.ledger.wishes.per
        if per not in (None, "seconds", *outcome.metrics) and outcome.state is State.COMPLETE and not self._missed:
            self._missed = True
            log.warning(
                "optimize_per=%r: trial %d has no such metric, only %s", per, task.number, list(outcome.metrics)
            )
        self._check_reports(task.number, outcome)
        stored = self.ledger.finish(task.number, task.token, outcome)
        self.promotion.ended(task)
        if not stored:
            log.warning(
                "trial %d is over already, or was taken over by another process; this result is dropped", task.number
            )
            return False
        return True

    def _check_reports(self, number: int, outcome: Outcome) -> None:
        """Say once that the scheduler is given what it cannot judge, where it says so."""
        if self._critic is None or outcome.state is not State.COMPLETE:
            return
        trial = self.ledger.trial(number)
        results = {name: outcome.metrics[name] for name in self.ledger.row.directions if name in outcome.metrics}
        if trial is not None and (why := self._critic.objection(trial.reports, results)):
            self._critic = None
            log.warning("trial %d %s", number, why)

    def settle(self, task: Task) -> None:
        """Store the configuration of a trial that was claimed ahead."""
        source = self._ahead.pop(task.number, None)
        if source is not None and task.number in self.ledger.claims:
            self.ledger.assign(task.number, dict(task.params), unique=False, provenance=source)

    def withdraw(self, tasks: Sequence[Task]) -> None:
        """Take back trials that did not begin, as if they had not been claimed, where nobody has claimed later ones."""
        for task in reversed(tasks):
            self._ahead.pop(task.number, None)
            self.ledger.release(task.number, drop=self.ledger.is_last(task.number), begun=False)

    def put_back(self, task: Task) -> None:
        """Let a trial whose worker died be tried again."""
        if self.ledger.claims.get(task.number) == task.token:
            self.settle(task)
            self.ledger.release(task.number)

    def record_stop(self, reason: str | None) -> None:
        """Store why the loop ended, unless a reason for all is stored already; with None, that the study goes on.

        What concerns one process alone is not stored while others go on.
        """
        ledger = self.ledger
        ledger.glance()
        if reason is not None:
            if concerns_all(ledger.stop_reason):
                return
            if not concerns_all(reason) and ledger.is_running(elsewhere=True):
                return
        ledger.set_stop(reason)

    def interrupt(self, before: Mapping[int, int] | None = None) -> None:
        """Leave no trial running after Ctrl-C, but those that were asked for before."""
        self._leave_block()
        self.ledger.release_all(before or {}, begun=False)  # the trial is not to blame
        self.ledger.recover()  # it may have come when a claim was stored, and before that was known here
        self.record_stop(INTERRUPTED)

    def _leave_block(self) -> None:
        """Undo what is stored at once, where nobody has left the block.

        An interrupt may come between entering it and what is in it. Whoever keeps the traceback keeps it open then:
        what is stored from now on would be part of it, and be undone with it.
        """
        leave(self._block, KeyboardInterrupt())

    def give_back(self, before: Mapping[int, int] | None = None) -> None:
        """Give back whatever claims an ending loop still holds, but those that were asked for before."""
        self._leave_block()  # a signal may raise anything
        held, self._held = self._held, None
        if held is not None and self.ledger.is_last(held.number):
            self.ledger.release(held.number, drop=True)  # as if it had not been claimed
        self.ledger.release_all(before or {})
        self._ahead.clear()
        self.window = None


def _unjudged(number: int, lacked: Sequence[str], report: Report) -> str:
    first = next(iter(report.metrics), "loss")
    how = f"; name the objective, direction={{{first!r}: 'minimize'}} or 'maximize'" if lacked == ["value"] else ""
    return f"reports lack {lacked!r}, as in trial {number}; the scheduler cannot judge them{how}"


def checkpoint_folder(given: Any, store: Any, row: StudyRow) -> Path | None:
    """Return where the checkpoints of a study go: as given, or beside its file.

    It stays where it is when an objective changes the folder that it runs in. When the study was made belongs to its
    name: one that is made anew must not go on from the checkpoints of other configurations.
    """
    folder = f"{row.name}-{round(1e6 * row.created):x}"
    if given is not None:
        return Path(given).absolute() / folder
    path = getattr(store, "path", None)
    return None if path is None else Path(f"{path}-checkpoints") / folder
