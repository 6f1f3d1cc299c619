"""When a study is over. A rule looks at the history and returns the reason to stop, or None."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from welltuned.errors import InvalidType, InvalidValue
from welltuned.history import History
from welltuned.settings import check_real, check_whole
from welltuned.stats import expected_gain
from welltuned.trial import Origin, Outcome, State, Trial


@runtime_checkable
class Rule(Protocol):
    """Decide whether a study has gone on for long enough."""

    def reason(self, history: History) -> str | None:
        """Return why to stop now, in words that are stored, or None to go on."""


@dataclass(frozen=True)
class Patience:
    """Stop when the last ``trials`` finished trials did not improve the best value by more than ``min_delta``.

    Paused trials have not finished: they may improve it yet.

    Examples
    --------
    >>> Patience(20)
    Patience(trials=20, min_delta=0.0)
    """

    trials: int
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        check_whole(self, trials=1)
        check_real(self, "min_delta", least=0)

    def reason(self, history: History) -> str | None:
        """See :class:`Rule`."""
        done = np.flatnonzero(history.finished & ~history.added)
        # in the order in which they ended, which with several workers is not that of their numbers
        done = done[np.argsort(history.revisions[done], kind="stable")]
        if len(done) <= self.trials:
            return None
        losses = _achieved(history)[done]
        before, since = losses[: -self.trials], losses[-self.trials :]
        if np.isnan(before).all() or any(
            _gain(before[:, j], since[:, j]) > self.min_delta for j in range(losses.shape[1])
        ):
            return None
        return f"patience: no improvement in the last {self.trials} trials"


def _achieved(history: History) -> np.ndarray:
    """Return the losses of the trials that may be the best, shape (n, m); NaN for others."""
    return np.where((history.complete & history.feasible)[:, None], history.losses, np.nan)


def _gain(before: np.ndarray, since: np.ndarray) -> float:
    if np.isnan(since).all():
        return 0.0
    return math.inf if np.isnan(before).all() else float(np.nanmin(before) - np.nanmin(since))


@dataclass(frozen=True)
class Target:
    """Stop when the (first) objective has reached ``value``.

    Examples
    --------
    >>> Target(0.99)
    Target(value=0.99)
    """

    value: float

    def __post_init__(self) -> None:
        check_real(self, "value")

    def reason(self, history: History) -> str | None:
        """See :class:`Rule`."""
        sign = -1.0 if next(iter(history.directions.values())) == "maximize" else 1.0
        reached = np.nanmin(_achieved(history)[:, 0], initial=np.inf) <= sign * self.value
        return f"target: {self.value:g} reached" if reached else None


@dataclass(frozen=True)
class MaxCost:
    """Stop when the trials have cost ``total`` in all: seconds of evaluation, or another metric that the objective
    returns.

    Unlike ``timeout=``, which counts one call, it counts over restarts and over all workers. A metric that no trial has
    ends the run with an error, once a trial of the run is complete.

    Examples
    --------
    >>> MaxCost(3600)
    MaxCost(total=3600, metric='seconds')
    """

    total: float
    metric: str = "seconds"

    def __post_init__(self) -> None:
        check_real(self, "total", above=0)
        if not isinstance(self.metric, str):
            raise InvalidType(f"MaxCost: metric={self.metric!r} is not the name of a metric")

    def reason(self, history: History) -> str | None:
        """See :class:`Rule`."""
        own = [t for t in history.trials if t.origin is not Origin.ADDED]
        costs = [t.seconds if self.metric == "seconds" else t.metrics.get(self.metric) for t in own]
        spent = sum(c for c in costs if c is not None)
        return f"cost: {spent:g} {self.metric} spent" if spent >= self.total else None


@dataclass(frozen=True)
class ExpectedGain:
    """Stop when the next trial is expected to gain less than ``below``, ``trials`` times in a row.

    The gain is in the objective's own units: ``ExpectedGain(0.0005)`` ends a search for accuracy when the next trial is
    expected to add less than 0.05 %. Not before ``after`` results: a model of a handful knows too little.

    Examples
    --------
    >>> ExpectedGain(0.0005)
    ExpectedGain(below=0.0005, trials=3, after=20)
    """

    below: float
    trials: int = 3
    after: int = 20

    def __post_init__(self) -> None:
        check_real(self, "below", above=0)
        check_whole(self, trials=1, after=1)

    def reason(self, history: History) -> str | None:
        """See :class:`Rule`. It looks at earlier states of the history again, so it needs no memory."""
        if len(history.directions) > 1:
            raise InvalidValue(f"ExpectedGain takes one objective, but there are {list(history.directions)!r}")
        if history.complete.sum() < max(self.after, 4) or not any(t.feasible for t in history.trials):
            return None
        done, gains = history.numbers[history.complete], []
        for back in range(self.trials):
            past = history if not back else history.without([int(n) for n in done[-back:]])
            if past.complete.sum() < 4 or past.best is None:
                return None
            gains.append(expected_gain(past))
            if gains[-1] >= self.below:
                return None
        return f"expected gain: {gains[0]:.3g}, below {self.below:g} for {self.trials} trials"


def make_rules(spec: Any) -> tuple[Rule, ...]:
    """Return the rules that ``stop=`` names: one rule, or a list of them.

    Raises
    ------
    InvalidType
        For something that is no rule.
    """
    rules = () if spec is None else tuple(spec) if isinstance(spec, Iterable) and not isinstance(spec, str) else (spec,)
    for rule in rules:
        if not isinstance(rule, Rule) or isinstance(rule, type):
            raise InvalidType(
                f"stop={rule!r} is no rule; write Patience(20), Target(0.99), MaxCost(3600) or ExpectedGain(0.001)"
            )
    return rules


def check_costs(rules: Iterable[Rule], latest: Outcome, trials: Callable[[], Sequence[Trial]]) -> None:
    """Refuse a cost by a metric that neither the latest outcome has nor any of the trials: it would end nothing.

    A rule itself cannot tell: all trials that it sees may be from before the objective returned the metric. ``trials``
    are read only where that is in doubt: this is asked after each trial.

    Raises
    ------
    InvalidValue
        With what the objective returns.
    """
    for rule in rules if latest.state is State.COMPLETE else ():
        if not isinstance(rule, MaxCost) or rule.metric in ("seconds", *latest.metrics):
            continue
        if not any(rule.metric in t.metrics for t in trials() if t.origin is not Origin.ADDED):
            raise InvalidValue(
                f"MaxCost: metric={rule.metric!r} is none of what the objective returns, which is "
                f"{list(latest.metrics)!r}"
            )


def first_reason(rules: Iterable[Rule], history: History) -> str | None:
    """Return why the first of the rules that does so ends a study; later ones are not asked."""
    reasons = (rule.reason(history) for rule in rules)
    return next((why for why in reasons if why is not None), None)
