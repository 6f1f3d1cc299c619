"""Train a population side by side, and let those that fall behind begin again as children of those ahead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from welltuned.curves import curves, extent
from welltuned.errors import InvalidType, InvalidValue
from welltuned.history import History
from welltuned.schedulers.explore import explore
from welltuned.schedulers.halving import n_ahead
from welltuned.schedulers.protocol import Begin, Child, Continue, Decision, Move, Pause, Promote
from welltuned.settings import check_real, check_whole
from welltuned.space import Space, public
from welltuned.trial import Origin, Reason, Report, State, Trial


@dataclass(frozen=True)
class Pbt:
    """Pause all trials every few steps, and put children of the best quarter in the place of the worst quarter.

    Population based training (Jaderberg et al., *Population Based Training of Neural Networks*, 2017, with truncation
    selection), asynchronous and without change of any trial: one keeps its parameters for life. The sampler makes the
    first ``population`` trials. Whichever rests furthest behind goes on next, so that they move together. But one that
    is among the worst ``quantile`` of all that came to its step rests for good, and its child takes its place: with the
    checkpoint that one of the best had at that step, and with that one's parameters, a little changed. So what a
    network was trained with is the parameters of its ancestors, each for its steps: a schedule.

    What counts at a step is the value that was reported there, not the best one so far, since that is what the
    checkpoint is worth; with several objectives, those on the first fronts are the best. Of a trial that fails after
    its first rest, a child takes the place as well; of one that is infeasible, since the space may have changed, a new
    trial. Where the budget has no new trial, or nothing new is found near the best, one that is behind goes on as
    itself. So does one whose child failed before its own first rest.

    Objectives keep their state in ``trial.checkpoint``.

    Parameters
    ----------
    population
        How many trials train side by side, however many workers there are; at least ``1 / quantile``.
    every
        After how many steps they are compared. Steps that begin with 0 are counted from 1.
    quantile
        Which share of them is replaced, and which share they are replaced from; at most a half.
    resample
        The chance that a parameter is drawn anew. Otherwise it is multiplied by 0.8 or 1.2, or stays if it has no
        order.
    vary
        The parameters that may change; all of them unless given. What a checkpoint depends on, such as the width of a
        network, must not.
    last
        The last step of a training, where nobody is paused. Unless given, it is learned from those who end first: they
        are paused there as well, and told to go on when there is nothing left to do.

    Examples
    --------
    >>> Pbt(vary=["rate"]).vary
    ('rate',)
    """

    population: int = 8
    every: int = 5
    quantile: float = 0.25
    resample: float = 0.25
    vary: tuple[str, ...] | None = None
    last: int | None = None

    def __post_init__(self) -> None:
        check_whole(self, population=2, every=1, last=1)
        check_real(self, "quantile", least=0, most=0.5)
        check_real(self, "resample", least=0, most=1)
        if self.n_best(self.population) < 1:
            raise InvalidValue(
                f"Pbt: quantile={self.quantile!r} of population={self.population} is nobody; at least "
                f"{1 / self.population:.3g} is one"
            )
        if self.vary is not None:
            if isinstance(self.vary, (str, bytes)) or not isinstance(self.vary, Iterable):
                raise InvalidType(f"Pbt: vary={self.vary!r} is not a list of parameters; write [{str(self.vary)!r}]")
            names = tuple(self.vary)
            if other := [name for name in names if not isinstance(name, str)]:
                raise InvalidType(f"Pbt: vary={self.vary!r}: {other[0]!r} is not the name of a parameter")
            object.__setattr__(self, "vary", tuple(map(str, names)))

    def n_best(self, n: int) -> int:
        """Return how many of ``n`` are among the best, and as many among the worst."""
        return int(self.quantile * n + 1e-9)

    def decide(self, history: History, number: int, report: Report) -> Decision:
        """See :meth:`Scheduler.decide`: all rest, once at each of the steps where they are compared."""
        crowd = Crowd(self, history)
        trial = crowd.trials.get(number)
        if trial is None or number not in crowd.curves or crowd.stage(report.step) <= crowd.since(trial):
            return Continue()
        # some may end before the others: one that has come further than all of these rests where it is
        ends = report.step == crowd.last if self.last is None else report.step >= self.last
        if ends or history.is_spent:
            return Continue()
        return Pause(f"at step {report.step} it is compared with its population")

    def advance(self, space: Space, history: History, rng: np.random.Generator) -> Move | None:
        """See :meth:`Breeder.advance`."""
        self._check_names(space)
        crowd, spent = Crowd(self, history), history.is_spent
        claimed = len(crowd.blank)
        if not spent and crowd.lacking > claimed:
            return Begin()
        # children of others that have no parameters yet: the first ones are theirs
        ahead = max(claimed - crowd.lacking, 0)
        if not spent:
            for trial in crowd.orphaned[ahead:]:
                if (child := self._child(space, crowd, trial, crowd.reached(trial), rng)) is not None:
                    return child
            ahead = max(ahead - len(crowd.orphaned), 0)
        for stage, here in crowd.resting():
            if spent:
                return crowd.promote(here[0])
            behind, others = list[Trial](), list[Trial]()
            for trial in here:
                (behind if crowd.is_behind(trial, stage) else others).append(trial)
            known = self.last is not None or crowd.is_passed(here)
            if others and not known:  # whether trainings end here
                return crowd.promote(others[0])
            for trial in behind[ahead:] if known else ():
                if (child := self._child(space, crowd, trial, stage, rng)) is not None:
                    return child
                if not crowd.is_awaited(stage):
                    return crowd.promote(trial)
            if others:
                return crowd.promote(others[0])
            if not known and not crowd.under_way:
                return crowd.promote(here[0])
            ahead = max(ahead - len(behind), 0)
        return None

    def parents(self, history: History) -> frozenset[tuple[int, int]]:
        """See :meth:`Breeder.parents`: those who may be among the best once all have come, and one of these failed.

        For the case that more of the best fail, all would have to be kept.
        """
        crowd, found = Crowd(self, history), set[tuple[int, int]]()
        living = {t.number: crowd.since(t) for t in crowd.living}
        stages = [*living.values(), *map(crowd.reached, crowd.orphaned)]
        for stage in crowd.stages:
            ended = self.last is not None and self.every * stage - crowd.zero >= self.last
            if ended or not (crowd.lacking or any(s <= stage for s in stages)):
                continue
            ahead = crowd.ahead(stage)
            to_come = sum(since < stage for number, since in living.items() if number not in ahead)
            n_best = max(self.n_best(len(ahead) + to_come + crowd.lacking), 1)
            best = [number for number, better in ahead.items() if better <= n_best]
            found |= {(number, step) for number in best if (step := crowd.rest(number, stage)) is not None}
        return frozenset(found)

    def _child(self, space: Space, crowd: Crowd, trial: Trial, stage: int, rng: np.random.Generator) -> Child | None:
        """Return the child that takes the place of ``trial``; None where no parent rests, or no child would be new."""
        noisy = crowd.history.wishes.noisy
        best = [(n, step) for n in crowd.best(stage, trial) if (step := crowd.rest(n, stage)) is not None]
        for i in rng.permutation(len(best)).tolist():
            number, step = best[i]
            parent = crowd.trials[number].params or {}
            known = {space.key(parent)} if noisy else crowd.history.keys
            params = explore(space, parent, known, rng, resample=self.resample, vary=self.vary)
            if params is not None:
                return Child(params, number, step, trial.number)
        return None

    def _check_names(self, space: Space) -> None:
        names = list(dict.fromkeys(filter(None, map(public, space))))
        unknown = [name for name in self.vary or () if name not in names]
        if unknown and not space.partial:
            raise InvalidValue(f"Pbt: vary={self.vary!r}: the space has no parameter {unknown[0]!r}, only {names!r}")


class Crowd:
    """The trials of a history as a population. A stage is how often ``every`` steps are over."""

    def __init__(self, pbt: Pbt, history: History) -> None:
        self.pbt, self.history = pbt, history
        self.trials = {t.number: t for t in history.trials if t.origin is not Origin.ADDED}
        reported = curves(self.trials.values(), history.directions)
        first, last = extent(history.trials, reported)
        self.zero, self.last = int(first <= 0), last
        self.curves = {n: c for n, c in reported.items() if c.steps and self.trials[n].state is not State.FAILED}
        self._ahead: dict[int, dict[int, int]] = {}
        children = [t for t in self.trials.values() if t.parent is not None]
        self.replaced = {t.replaces for t in children if not self._came_to_nothing(t)}
        # a second child is not tried at the same step
        self.tried = {(t.replaces, self.since_birth(t)) for t in children}

    def stage(self, step: int) -> int:
        """Return the stage of a step."""
        return max(step + self.zero, 0) // self.pbt.every

    def since_birth(self, trial: Trial) -> int:
        """Return the stage at which a trial began: 0, or where it was bred."""
        return 0 if trial.inherited is None else self.stage(trial.inherited)

    def since(self, trial: Trial) -> int:
        """Return the stage at which a trial rests, or rested last; where it began before it has rested."""
        return max([self.since_birth(trial), *map(self.stage, trial.rests)])

    def reached(self, trial: Trial) -> int:
        """Return the stage up to which a trial has reported."""
        return max(self.since_birth(trial), self.stage(trial.reports[-1].step) if trial.reports else 0)

    def rest(self, number: int, stage: int) -> int | None:
        """Return the step at which a trial rests or rested at a stage; None where it has not."""
        return next((step for step in self.trials[number].rests if self.stage(step) == stage), None)

    def _came_to_nothing(self, trial: Trial) -> bool:
        """Tell whether a trial failed before it could have a child, or cannot be evaluated: the space may be new."""
        early = self.reached(trial) <= self.since_birth(trial)
        return trial.state is State.FAILED and (early or trial.reason is Reason.INFEASIBLE)

    @property
    def blank(self) -> list[Trial]:
        """Those that are claimed and have no configuration yet. Objectives that declare theirs have one at the end."""
        return [t for t in self.trials.values() if t.params is None and not t.state.resting and not t.reports]

    @property
    def founders(self) -> list[Trial]:
        """Those that are nobody's children; without such as failed before they could have had any, and such as have
        ended without a rest: before there was a population.
        """
        blank = {t.number for t in self.blank}
        apart = {t.number for t in self.trials.values() if t.state in (State.COMPLETE, State.PRUNED) and not t.rests}
        return [
            t
            for t in self.trials.values()
            if t.parent is None and t.number not in blank | apart and not self._came_to_nothing(t)
        ]

    @cached_property
    def lacking(self) -> int:
        """How many of its first members the population does not have yet."""
        return max(self.pbt.population - len(self.founders), 0)

    @property
    def living(self) -> list[Trial]:
        """Those that have not come to their end."""
        return [t for t in self.trials.values() if not t.state.finished and t.number not in self.replaced]

    @property
    def under_way(self) -> list[Trial]:
        """Those of them that do not rest."""
        return [t for t in self.living if not t.state.resting]

    @property
    def orphaned(self) -> list[Trial]:
        """Those that failed later than at their first stage, and have not been replaced."""
        return [
            t
            for t in self.trials.values()
            if t.state is State.FAILED
            and not self._came_to_nothing(t)
            and not any((t.number, stage) in self.tried for stage in range(self.reached(t) + 1))
        ]

    @property
    def stages(self) -> range:
        """The stages to which anybody has come."""
        return range(1, 1 + max(map(self.reached, self.trials.values()), default=0))

    def resting(self) -> Iterator[tuple[int, list[Trial]]]:
        """Yield each stage where some rest, from the first one, and these from the best one."""
        found = [t for t in self.living if t.state is State.PAUSED]
        for stage in sorted({self.since(t) for t in found}):
            ahead = self.ahead(stage)
            here = [t for t in found if self.since(t) == stage]
            yield stage, sorted(here, key=lambda t: (ahead.get(t.number, 0), t.number))

    def ahead(self, stage: int) -> dict[int, int]:
        """Return how many are better, for each of those that came to a stage by themselves, from the best one."""
        if stage not in self._ahead:
            came = {n: c for n, c in self.curves.items() if self.since_birth(self.trials[n]) < stage}
            found = n_ahead(came, stage * self.pbt.every - self.zero, latest=True)
            self._ahead[stage] = dict(sorted(found.items(), key=lambda item: item[::-1]))
        return self._ahead[stage]

    def is_behind(self, trial: Trial, stage: int) -> bool:
        """Tell whether a trial that rests at a stage is to be replaced."""
        ahead = self.ahead(stage)
        worst = list(ahead)[len(ahead) - self.pbt.n_best(len(ahead)) :]
        return trial.number in worst and ahead[trial.number] > 0 and (trial.number, stage) not in self.tried

    def best(self, stage: int, trial: Trial | None = None) -> list[int]:
        """Return the best at a stage, the first one first; only such as are better than ``trial``, if it came there."""
        ahead = self.ahead(stage)
        limit = np.inf if trial is None else ahead.get(trial.number, np.inf)
        return [n for n in list(ahead)[: max(self.pbt.n_best(len(ahead)), 1)] if ahead[n] < limit]

    def is_awaited(self, stage: int) -> bool:
        """Tell whether one of the best at a stage has come there, but does not rest yet."""
        best = [self.trials[n] for n in self.best(stage)]
        return any(not t.state.resting and self.since(t) < stage for t in best)

    def is_passed(self, here: list[Trial]) -> bool:
        """Tell whether anybody has gone on from where these rest."""
        step = max(self._rest_step(t) for t in here)
        return any(c.reports[-1].step > step for c in self.curves.values())

    def promote(self, trial: Trial) -> Promote:
        """Return the decision that a trial goes on from where it rests."""
        return Promote(trial.number, self._rest_step(trial))

    def _rest_step(self, trial: Trial) -> int:
        if trial.rests:
            return trial.rests[-1]
        return trial.reports[-1].step if trial.reports else 0
