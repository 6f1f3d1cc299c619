"""Leave out the remaining folds of a trial that can hardly win any more: racing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from welltuned.curves import Curve, curves
from welltuned.history import History
from welltuned.later import special
from welltuned.schedulers.protocol import Continue, Decision, Stop
from welltuned.settings import check_real, check_whole
from welltuned.trial import Report, State

PRIOR = 1.0  # degrees of freedom that the spread of other trials' differences is worth: measured, more lose more
NEAREST = 3  # other trials that it is taken from
JUDGEMENTS = 4  # of a race over five folds
MOST_OTHERS = 300  # complete trials, the latest ones, that tell of it


@dataclass(frozen=True)
class Race:
    """Stop a trial whose chance to end ahead of the best complete one has become small.

    For trials that report parts of their result, such as the folds of a cross-validation, each at its own step, and
    whose result is the mean of them. All trials see the same folds, so what counts are the differences to the best
    complete trial fold by fold (races: Maron and Moore, *Hoeffding Races*, NIPS 1994; Birattari et al., *A Racing
    Algorithm for Configuring Metaheuristics*, GECCO 2002).

    With differences ``d`` on ``k`` of ``K`` folds, of mean ``D`` and variance ``s²``, the mean over all folds lies
    around ``D`` with variance ``s² (1/k - 1/K)``: folds are drawn without replacement, and the question is which trial
    is ahead on these ``K``, so they need not be independent (unlike for the claim about other data that is corrected by
    Nadeau and Bengio, *Machine Learning* 52, 2003). As ``k`` is small, ``s²`` is drawn towards that of the three
    complete trials whose differences on the same folds were most like these: what behaves like the best one differs
    little from it on other folds too. With such a prior of its variance, the mean over all folds has a t distribution.
    A trial stops when the chance that it ends above the best is below ``alpha``.

    Parameters
    ----------
    alpha
        The chance of ending ahead that is given up with a trial, above 0 and below 0.5. A race over more than five
        folds has more judgements, and gives up less at each: ``4 alpha / (K - 1)``.
    min_folds
        No trial is stopped before it has reported this many folds.

    Examples
    --------
    >>> from welltuned.space import Space
    >>> from welltuned.trial import Trial
    >>> def folds(*scores):
    ...     return tuple(Report(i, {"score": s}) for i, s in enumerate(scores))
    >>> trials = [
    ...     Trial(
    ...         0, State.COMPLETE, {"x": 0.1}, {"score": 0.90}, reports=folds(0.88, 0.91, 0.91), objectives=("score",)
    ...     ),
    ...     Trial(
    ...         1, State.COMPLETE, {"x": 0.2}, {"score": 0.89}, reports=folds(0.87, 0.89, 0.91), objectives=("score",)
    ...     ),
    ...     Trial(2, State.RUNNING, {"x": 0.3}, reports=folds(0.61)),
    ...     Trial(3, State.RUNNING, {"x": 0.4}, reports=folds(0.87)),
    ... ]
    >>> history = History(Space({"x": (0.0, 1.0)}), trials, {"score": "maximize"})
    >>> Race().decide(history, 2, trials[2].reports[-1])
    Stop(why='after 1 of 3 folds its chance to pass trial 0 is below 0.1')
    >>> Race().decide(history, 3, trials[3].reports[-1])
    Continue()
    """

    alpha: float = 0.1
    min_folds: int = 1

    def __post_init__(self) -> None:
        check_real(self, "alpha", above=0, below=0.5)
        check_whole(self, min_folds=1)

    def decide(self, history: History, number: int, report: Report) -> Decision:
        """See :meth:`Scheduler.decide`; with several objectives, a trial must be behind one of the front in all."""
        leaders = history.front if len(history.directions) > 1 else (history.best,)
        complete = [t for t in history.trials if t.state is State.COMPLETE][-MOST_OTHERS:]
        judged = [t for t in history.trials if t.number == number]
        reported = curves([*complete, *(t for t in leaders if t is not None), *judged], history.directions)
        own = reported.get(number)
        if own is None:
            return Continue()
        others = [reported[t.number] for t in complete if t.number in reported]
        for leader in leaders:
            if leader is None or leader.number == number or leader.number not in reported:
                continue
            best = reported[leader.number]
            chance = chance_to_pass(own, report.step, best, others)
            k = sum(step <= report.step for step in own.steps)
            limit = self.alpha * min(1.0, JUDGEMENTS / max(len(best.steps) - 1, 1))
            if k >= self.min_folds and chance is not None and (chance < limit).all():
                why = f"its chance to pass trial {leader.number} is below {limit:.3g}"
                return Stop(f"after {k} of {len(best.steps)} folds {why}")
        return Continue()

    def objection(self, reports: Sequence[Report], results: Mapping[str, float]) -> str:
        """See :meth:`Critic.objection`: given what are no folds, it would stop trials that are about to win."""
        for name, result in results.items():
            if _are_no_folds([r.metrics[name] for r in reports if name in r.metrics], result):
                return (
                    "returned its last report and not the mean of its reports; a race takes each report for the result "
                    "of one fold, so report each fold by itself"
                )
        return ""


def _are_no_folds(reported: Sequence[float], result: float) -> bool:
    """Tell whether a trial has returned its last report and not their mean: running means, say, or epochs."""
    mean = math.fsum(reported) / max(len(reported), 1)
    return len(reported) > 2 and math.isclose(reported[-1], result) and not math.isclose(mean, result, rel_tol=1e-6)


def chance_to_pass(own: Curve, step: int, best: Curve, others: list[Curve]) -> np.ndarray | None:
    """Return the chance that a trial ends above the best one, by objective, shape (m,).

    None where there is nothing to judge by: no fold in common, or all of them seen.

    Parameters
    ----------
    own, step
        The trial, and up to which step its reports count.
    best
        The complete trial that it would have to pass.
    others
        Complete trials, the best one among them: how their differences to it vary from fold to fold is the prior.
    """
    place, K = {s: j for j, s in enumerate(best.steps)}, len(best.steps)
    seen = [i for i, s in enumerate(own.steps) if s <= step and s in place]
    k = len(seen)
    if not 0 < k < K:
        return None
    at = [place[own.steps[i]] for i in seen]
    d = best.losses[at] - own.losses[seen]  # above 0 where the trial is ahead
    D = d.mean(axis=0)
    pairs = np.array([best.losses - c.losses for c in others if c is not best and c.steps == best.steps])
    if len(pairs):  # copies of the best one tell of another copy alone, and after those that tied and differ elsewhere
        differ = pairs.any(axis=(1, 2))
        may_be_one = not d.any() and (~differ).sum() >= NEAREST
        pairs = np.concatenate([pairs[differ], pairs[~differ]]) if may_be_one else pairs[differ]
    if len(pairs):
        nearest = np.argsort(np.abs(pairs[:, at].mean(axis=1) - D), axis=0, kind="stable")[:NEAREST]
        spread = np.take_along_axis(pairs, nearest[:, None], axis=0)
    else:
        spread = best.losses[None]  # what folds of one trial vary by is more than what differences to it do
    prior = ((spread - spread.mean(axis=1, keepdims=True)) ** 2).sum(axis=(0, 1)) / (len(spread) * (K - 1))
    df = PRIOR + k - 1
    sd = np.sqrt((PRIOR * prior + ((d - D) ** 2).sum(axis=0)) / df * (1 / k - 1 / K))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sd > 0, special.stdtr(df, D / sd), (D > 0).astype(float))
