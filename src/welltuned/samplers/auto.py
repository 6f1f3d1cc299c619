"""The default: choose a sampler by the space, the budget, the workers and the cost of a trial, and say why."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import ClassVar

import numpy as np

from welltuned.history import History
from welltuned.samplers.bayes import EXACT_OBJECTIVES, Bayes
from welltuned.samplers.cmaes import CMAES
from welltuned.samplers.gradient import Gradient
from welltuned.samplers.grid import Grid
from welltuned.samplers.novel import size
from welltuned.samplers.nsga2 import NSGA2
from welltuned.samplers.protocol import Sampler
from welltuned.samplers.tpe import TPE
from welltuned.space import Categorical, Float, Params, Space, codec
from welltuned.trial import State

MODEL_PARAMETERS = 100
MODEL_TRIALS_OF_SEVERAL = 300  # with several objectives every process is fitted on its own
SHARE = 0.2  # of the time that evaluations take, what the search may take
FREE = 10.0  # seconds of search that are granted whatever a trial costs: nobody waits long for so little
RECENT = 20  # trials whose cost counts
CMAES_TRIALS_PER_PARAMETER = 100


@dataclass(frozen=True)
class Choice:
    """A sampler and the reason for it, in words."""

    sampler: Sampler
    name: str
    why: str


@dataclass(frozen=True)
class Auto:
    """Choose anew for every trial; the first rule that applies counts.

    1. The budget covers a finite space: visit all of it (``grid``).
    2. The objective returns its gradient, and there are only real parameters: ``gradient`` and ``bayes`` in turn.
    3. More than 100 parameters: ``tpe``, or ``nsga2`` for several objectives.
    4. The Gaussian process costs less than a fifth of the evaluations, or less than ten seconds in all: ``bayes``; with
       one set of hyperparameters where averaging over four would cost too much.
    5. Otherwise what is cheap: ``cmaes`` for numbers and a large budget, ``nsga2`` for several objectives, or ``tpe``.

    What a trial costs is read from the history, so the choice goes up again when trials get longer. What a suggestion
    costs is computed from the numbers of trials and parameters, not measured, so that a run can be repeated.
    """

    model_based: ClassVar[bool] = True
    several_objectives: ClassVar[bool] = True

    def suggest(self, space: Space, history: History, n: int, rng: np.random.Generator) -> list[Params]:
        """See :meth:`Sampler.suggest`."""
        return self.choose(space, history, n).sampler.suggest(space, history, n, rng)

    def choose(self, space: Space, history: History, n: int = 1) -> Choice:
        """Return the sampler for the next ``n`` trials, and why it is the one.

        Examples
        --------
        >>> Auto().choose(Space({"x": (0.0, 1.0)}), History(Space({"x": (0.0, 1.0)}))).why
        '1 parameter, no trials yet: a Gaussian process learns most from each'
        """
        total = size(space, history.budget) if history.budget is not None and not history.wishes.noisy else None
        if total is not None:
            every = max(2, *(codec.cells(p) or 0 for p in space.values()))
            why = f"the budget of {history.budget} trials covers all {total} configurations"
            return Choice(Grid(every), "grid", why)
        several = len(history.directions) > 1
        gradients = not several and history.has_gradients
        # trials that fail or are still running count too, and those that start together take one turn
        if gradients and not len(history) // n % 2 and all(isinstance(p, Float) for p in space.values()):
            return Choice(Gradient(), "gradient", "the objective returns its gradient; every other trial follows it")
        seen, p = int(history.observed.sum()), len(space)
        trials = "no trials yet" if not len(history) else f"{seen} result{'s' * (seen != 1)} so far"
        known = f"{p} parameter{'s' * (p != 1)}, {trials}"
        if p > MODEL_PARAMETERS:
            return self.cheap(space, history, f"{known}: more parameters than a Gaussian process is good with")
        if several and seen > MODEL_TRIALS_OF_SEVERAL and len(history.directions) <= EXACT_OBJECTIVES:
            return self.cheap(space, history, f"{known}: several objectives and many trials")
        cost = typical_cost(history)
        for members in (4, 1):
            own = suggestion_cost(seen, p, members)
            if cost is None or own <= SHARE * cost or seen * own <= FREE:
                how = "" if members == 4 else ", with one set of hyperparameters to save time"
                why = f"{known}: a Gaussian process learns most from each{how}"
                return Choice(Bayes(members=members), "bayes", why)
        return self.cheap(space, history, f"{known}: a trial takes {cost:.2g} s, little beside a Gaussian process")

    def cheap(self, space: Space, history: History, why: str) -> Choice:
        """Return a sampler that takes a millisecond."""
        if len(history.directions) > 1:
            return Choice(NSGA2(), "nsga2", why)
        plain = not any(space.conditions.values()) and not any(isinstance(p, Categorical) for p in space.values())
        enough = (history.budget or 0) >= CMAES_TRIALS_PER_PARAMETER * len(space)
        if plain and enough and len(space) <= MODEL_PARAMETERS and find_spec("cmaes") is not None:
            return Choice(CMAES(), "cmaes", why)
        return Choice(TPE(), "tpe", why)


def typical_cost(history: History) -> float | None:
    """Return the mean seconds between results lately: of evaluation, over the workers; None where nobody measured."""
    seconds = [t.seconds for t in history.trials[-4 * RECENT :] if t.state is State.COMPLETE and t.seconds is not None]
    return float(np.mean(seconds[-RECENT:])) / max(history.workers, 1) if seconds else None


def suggestion_cost(n: int, p: int, members: int) -> float:
    """Return about how many seconds a suggestion by a Gaussian process takes, with n results and p parameters.

    Fitted to the curve in ``docs/benchmarks.md``; within a factor of two on most machines.
    """
    few = min(n, 400)
    return (0.006 + 0.0015 * p + 4e-7 * few * few) * (1.0 + 0.25 * (members - 1) * (few <= 200))
