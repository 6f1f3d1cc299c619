"""What trials reported, as curves of their losses, and where those would have ended that were stopped."""

from __future__ import annotations

import bisect
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from welltuned.trial import LARGEST, Report, State, Trial, unit_of

MOST = 20_000  # curves of trials at rest that are remembered
MOST_COMPARED = 300  # of the latest trials whose gains are averaged
MOST_STEPS = 100  # at which they are
MILESTONES = 2  # steps where most of the trials rest that went no further


@dataclass(frozen=True)
class Curve:
    """What a trial reported of all objectives, to be minimised.

    Attributes
    ----------
    steps
        Those that have a value of every objective, ascending, shape (k,).
    losses, lowest, mean
        The losses there, the lowest and the means up to each of them, shapes (k, m).
    """

    reports: tuple[Report, ...]
    steps: tuple[int, ...]
    losses: np.ndarray
    lowest: np.ndarray
    mean: np.ndarray

    def up_to(self, step: int) -> int | None:
        """Return where the last value up to ``step`` is; None if there is none, or the trial did not get that far."""
        i = bisect.bisect_right(self.steps, step) - 1
        return None if i < 0 or self.reports[-1].step < step else i

    def reaching(self, step: int) -> int | None:
        """Return where the first value at ``step`` or beyond is; None if there is none."""
        i = bisect.bisect_left(self.steps, step)
        return None if i == len(self.steps) else i


def curves(trials: Iterable[Trial], directions: Mapping[str, str]) -> dict[int, Curve]:
    """Return the curves of all trials that reported anything, by number."""
    items = tuple(directions.items())
    return {t.number: (_remembered if t.state.resting else _read)(t.reports, items) for t in trials if t.reports}


def extent(trials: Iterable[Trial], reported: Mapping[int, Curve]) -> tuple[int, int | None]:
    """Return the first step of all curves, and the last one of completed trials, None while there is none."""
    whole = [reported[t.number] for t in trials if t.state is State.COMPLETE and t.number in reported]
    first = min((curve.steps[0] for curve in reported.values() if curve.steps), default=1)
    return first, max((curve.steps[-1] for curve in whole if curve.steps), default=None)


_CURVES: OrderedDict[tuple[int, tuple[tuple[str, str], ...]], Curve] = OrderedDict()


def _remembered(reports: tuple[Report, ...], directions: tuple[tuple[str, str], ...]) -> Curve:
    """Return the curve of a trial at rest: each report of another would look at all of its reports again."""
    key = id(reports), directions
    curve = _CURVES.get(key)
    if curve is None or curve.reports is not reports:  # while it is remembered, nothing else has its id
        _CURVES[key] = curve = _read(reports, directions)
        if len(_CURVES) > MOST:
            _CURVES.popitem(last=False)
    return curve


def _read(reports: tuple[Report, ...], directions: tuple[tuple[str, str], ...]) -> Curve:
    names, signs = zip(*((name, -1.0 if d == "maximize" else 1.0) for name, d in directions), strict=True)
    kept = [r for r in reports if all(name in r.metrics for name in names)]
    losses = np.array([[r.metrics[name] for name in names] for r in kept]).reshape(len(kept), len(names)) * signs
    losses = np.clip(losses, -LARGEST, LARGEST)
    count = np.arange(1, len(kept) + 1)[:, None]
    steps = tuple(r.step for r in kept)
    return Curve(reports, steps, losses, np.minimum.accumulate(losses, axis=0), np.cumsum(losses, axis=0) / count)


@dataclass(frozen=True)
class Parts:
    """What parts of trainings say of whole ones, q of them.

    Attributes
    ----------
    trials
        Positions of the trials, shape (q,).
    shares
        How much of a training they are, on a logarithmic scale: 0 for the first step, 1 for the last one; shape (q,).
    ends, sds
        Where they are expected to end, and how far others strayed from what was to be expected, shapes (q, m).
    jitters
        How far they would stray if the gain of each step had nothing to do with those of the others, shape (q, m): all
        that is left of ``sds`` for a process that learns by itself how a part differs from a whole training.
    resting
        Which of them are all that there is of a trial, shape (q,). The others come from trials that went on.
    """

    trials: np.ndarray
    shares: np.ndarray
    ends: np.ndarray
    sds: np.ndarray
    jitters: np.ndarray
    resting: np.ndarray


def parts(trials: Sequence[Trial], directions: Mapping[str, str], results: np.ndarray) -> Parts | None:
    """Return where the curves of pruned and paused trials would end, if they went on as the others did.

    A report of an early step is no result: compared with those of whole trainings, it makes a place look hopeless
    that may be the best. What it lacks is what the other trials gained from that step to the next one, from there to
    the one after it, and so on, each gain averaged over all trials that came so far, as Kaplan and Meier (1958)
    average survival; and at last, what results differ from last reports.

    Where the results of complete trials are the means of their reports, these are no curve but parts of one value, such
    as the folds of a cross-validation: see :func:`expected_means`.

    The same is said of those that went on, at the steps where most of the others rest: beside what became of them, it
    shows how much a part of a training tells.

    Parameters
    ----------
    results
        Losses of the trials, shape (n, m); those of completed trials are used.

    Returns
    -------
    Parts or None
        None where no pruned or paused trial has reported.

    Examples
    --------
    >>> def trial(number, state, *values):
    ...     return Trial(number, state, reports=tuple(Report(i, {"loss": v}) for i, v in enumerate(values)))
    >>> trials = [trial(0, State.COMPLETE, 3.0, 2.0, 1.0), trial(1, State.PRUNED, 5.0, 4.5)]
    >>> found = parts(trials, {"loss": "minimize"}, np.array([[1.0], [np.nan]]))
    >>> found.trials, found.ends, found.resting
    (array([1, 0]), array([[3.5],
           [1. ]]), array([ True, False]))
    """
    m, short = results.shape[1], (State.PRUNED, State.PAUSED)
    ended = [i for i, t in enumerate(trials) if t.state in (State.COMPLETE, *short) and t.reports]
    read = curves([trials[i] for i in ended], directions)
    found = {i: curve for i in ended if (curve := read[trials[i].number]).steps}
    rests = {i: curve.steps[-1] for i, curve in found.items() if trials[i].state in short}
    if not rests:
        return None
    compared = list(found)[-MOST_COMPARED:]
    folds = _folds(compared, trials, found, results)
    if folds is not None:
        q, expected = len(rests), [expected_means(found[i], *folds) for i in rests]
        means, sds = (np.array(column) for column in zip(*expected, strict=True))
        return Parts(np.array(list(rests)), np.ones(q), means, sds, sds, np.ones(q, dtype=bool))
    steps = np.unique(np.concatenate([found[i].steps for i in compared]))
    steps = steps[np.unique(np.linspace(0, len(steps) - 1, min(len(steps), MOST_STEPS)).astype(int))]
    last = np.array([results[i] - found[i].losses[-1] if i not in rests else np.full(m, np.nan) for i in compared])
    table = np.array([_at(found[i], steps) for i in compared])
    gains = np.concatenate([np.diff(table, axis=1), last[:, None]], axis=1)
    unit = unit_of(np.abs(gains[np.isfinite(gains)]).max(initial=0.0))
    average, variance, jitter = _to_come(gains / unit)
    places, counts = np.unique(list(rests.values()), return_counts=True)
    milestones = places[np.argsort(-counts, kind="stable")[:MILESTONES]].tolist()
    passed = [(i, s) for i, curve in found.items() for s in milestones if curve.steps[-1] > s and s in curve.steps]
    of, reached = (np.array(column) for column in zip(*rests.items(), *passed, strict=True))
    losses = np.array([found[i].losses[found[i].reaching(s)] for i, s in zip(of, reached, strict=True)])
    at = np.minimum(np.searchsorted(steps, reached), len(steps) - 1)
    first = max(steps[0], 1)
    begun = first - steps[0]  # steps that begin with 0 count from 1
    whole = max(np.log((steps[-1] + begun) / first), np.log(2.0))
    shares = np.log((reached + begun) / first) / whole
    sds, jitters = unit * np.sqrt(variance[at]), unit * np.sqrt(jitter[at])
    return Parts(of, shares, losses + unit * average[at], sds, jitters, np.arange(len(of)) < len(rests))


def _folds(
    compared: Sequence[int], trials: Sequence[Trial], found: Mapping[int, Curve], results: np.ndarray
) -> tuple[tuple[int, ...], np.ndarray] | None:
    """Return steps and losses, shape (n, k, m), of the complete trials, where all their results are their means.

    None where some are not, or where no report of any differs from the others: those may as well be curves.
    """
    complete = [i for i in compared if trials[i].state is State.COMPLETE]
    whole = [found[i] for i in complete]
    # means of values that cancel differ in their last bits by the order in which these were added
    near = 1e-12 * max((float(np.abs(curve.losses).max()) for curve in whole), default=0.0)
    if not whole or not np.allclose(results[complete], [curve.mean[-1] for curve in whole], rtol=1e-9, atol=near):
        return None
    steps = max((curve.steps for curve in whole), key=len)
    losses = np.array([curve.losses for curve in whole if curve.steps == steps])
    return (steps, losses) if np.ptp(losses, axis=1).any() else None


def expected_means(curve: Curve, steps: Sequence[int], losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what the mean over all parts would have been of a trial that has seen some of them.

    The same part is as hard for one trial as for another, but for chance: ``losses[i, j] = level[i] + hardness[j] +
    chance``. So the mean of what was seen is corrected by how much harder those parts were than others for the trials
    that saw all. Parts are drawn without replacement, so with ``k`` of ``K`` seen the correct mean is strayed from by a
    variance of ``1/k - 1/K`` times that of the chance (Cochran, *Sampling Techniques*, 1977, section 2.6), and as ``n``
    trials told the hardness, which has their chance in it, by ``1/n`` of that besides.

    Parameters
    ----------
    curve
        Of the trial.
    steps, losses
        All the parts, and the losses there of the trials that saw all, shape (n, K, m).

    Returns
    -------
    mean, sd
        Shapes (m,).

    Examples
    --------
    >>> curve = curves([Trial(0, State.PRUNED, reports=(Report(1, {"loss": 4.0}),))], {"loss": "minimize"})[0]
    >>> mean, sd = expected_means(curve, (0, 1), np.array([[[1.0], [3.0]], [[2.0], [4.0]]]))  # the second is harder
    >>> mean, sd
    (array([3.]), array([0.]))
    """
    n, K, _ = losses.shape
    level = losses.mean(axis=1, keepdims=True)
    hardness = (losses - level).mean(axis=0)
    chance = losses - level - hardness if n > 1 else losses - level  # of a single one, no chance is told from hardness
    unit = unit_of(np.abs(chance).max())
    share = (1 + 1 / n) / (n - 1) if n > 1 else 1.0
    variance = share * ((chance / unit) ** 2).sum(axis=(0, 1)) / max(K - 1, 1)
    place = {step: j for j, step in enumerate(steps)}
    seen = [i for i, step in enumerate(curve.steps) if step in place]
    if not seen:
        return curve.mean[-1], unit * np.sqrt(variance)
    at = [place[curve.steps[i]] for i in seen]
    sd = unit * np.sqrt(variance * max(1 / len(seen) - 1 / K, 0.0))
    return (curve.losses[seen] - hardness[at]).mean(axis=0), sd


def _at(curve: Curve, steps: np.ndarray) -> np.ndarray:
    """Return the losses of a curve at ``steps``, between reports on a line, shape (k, m); NaN beyond its ends."""
    return np.column_stack([np.interp(steps, curve.steps, y, np.nan, np.nan) for y in curve.losses.T])


def _to_come(gains: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the average of what is gained from each step on, the variance of what one more trial gains, and what that
    variance would be if the gains of different steps had nothing to do with each other.

    ``gains`` by step, shape (n, k, m); the results have shape (k, m). Who gains little in one step gains little in the
    next ones too, so covariances count, each of the trials that made both steps. How much others may differ from one or
    two that went on is not known; their own average divided by their number is added to it.

    Losses that rise far beyond what is usual have diverged, and say nothing of the others: they are clipped.
    """
    known = np.isfinite(gains)
    filled = np.where(known.any(axis=0) & ~known, np.nan, np.where(known, gains, 0.0))
    middle = np.nanmedian(filled, axis=0)
    most = middle + 5.0 * np.maximum(middle - np.nanmin(filled, axis=0), np.abs(middle))
    clipped = np.where(known, np.minimum(np.where(known, gains, 0.0), most), 0.0)
    count = np.maximum(known.sum(0), 1)
    average = clipped.sum(0) / count
    strayed, nothing = np.where(known, clipped - average, 0.0), average / count
    alone = (strayed**2).sum(0) / count
    n = np.maximum(_products(known.astype(float)), 2.0)  # a single one does not stray
    covariance = _products(strayed) * (1 + 1 / n) / (n - 1) + _products(nothing[None])
    backwards = covariance[:, ::-1, ::-1]
    total = np.cumsum(np.cumsum(backwards, axis=1), axis=2).diagonal(axis1=1, axis2=2)
    # that the steps to come make up for each other is not believed
    largest = np.maximum.accumulate(backwards.diagonal(axis1=1, axis2=2), axis=1)
    to_come, jitter = (np.cumsum(by_step[::-1], axis=0)[::-1] for by_step in (average, alone))
    return to_come, np.maximum(total, largest)[:, ::-1].T, jitter


def _products(rows: np.ndarray) -> np.ndarray:
    """Return the sums over n of products of any two of the k entries, shape (m, k, k), of rows of shape (n, k, m)."""
    by_objective = np.ascontiguousarray(rows.transpose(2, 0, 1))
    return by_objective.transpose(0, 2, 1) @ by_objective
