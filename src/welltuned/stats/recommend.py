"""Which configuration to use, and how good it really is: the best of many noisy values is a lucky one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from welltuned.errors import NoCompletedTrial
from welltuned.history import History
from welltuned.stats.knowledge import FEWEST, MANY, model_of, sign_of, single
from welltuned.surrogate.model import Model
from welltuned.surrogate.threads import single_threaded
from welltuned.trial import unit_of

CAUTION = 0.5  # standard deviations that a configuration's mean is worsened by before configurations are compared
OWN = 0.25  # of what a model takes for noise, the share that may be the configuration's own and come again


@dataclass(frozen=True)
class Recommendation:
    """What to use, and what to expect of it.

    Attributes
    ----------
    params, number
        The configuration, and the (first) trial that evaluated it.
    mean, sd
        What the model expects of it: the objective without its noise, and how uncertain that is. What all trials share,
        such as the rows that they are scored on, is not in it.
    replicates, average, sem
        How often it was evaluated, the average of that, and the average's standard error: from the replicates where
        there are several, from what the objective reported otherwise; None where neither is known.
    observed
        The best value that was observed, of whichever trial.
    corrected
        What the model expects of that trial, which has not been selected for its luck: the observed best without its
        selection bias.
    noise_sd
        Standard deviation of one evaluation's noise, as learned.
    """

    params: Mapping[str, Any]
    number: int
    mean: float
    sd: float
    replicates: int
    average: float
    sem: float | None
    observed: float
    corrected: float
    noise_sd: float


def recommend(history: Any) -> Recommendation:
    """Recommend the configuration of a study (or history) that is best by what all its trials together say.

    It has the best posterior mean, worsened by half a standard deviation and moved a quarter of the way to what was
    observed. The best of many noisy values is lucky, by more the more there are (the winner's curse); the posterior
    mean there, which its neighbours pull back, is not. But from one value each, no model can tell noise from an
    objective that is ragged, whose best values come again. Measured in ``docs/benchmarks.md``.

    Raises
    ------
    NoCompletedTrial
        When nothing has completed.
    InvalidValue
        With several objectives.

    Examples
    --------
    >>> from welltuned import minimize
    >>> study = minimize(lambda p: (p["x"] - 1) ** 2, {"x": (-3.0, 3.0)}, n_trials=12, seed=0)
    >>> round(recommend(study).params["x"], 1)
    1.0
    """
    history = single(history, "recommend")
    if history.best is None:
        raise NoCompletedTrial(f"recommend: {history.why_no_best()}")
    (name,), (_, sign) = history.directions, sign_of(history)
    observed = float(history.best.metrics[name])
    if history.observed.sum() < FEWEST:
        return _as_observed(history, observed)
    with single_threaded():
        model = model_of(history, "recommend", members=MANY)
        chosen = model.unit[model.eligible][np.argmin(_merits(model))]
        # beyond some hundred results the model may not know the luckiest
        lucky = [t.number for t in history.trials].index(history.best.number)
        mean, sd = model.objective.predict(model.embed(np.vstack([chosen, history.unit[lucky]])))
    same = _trials_at(history, chosen)
    average, sem = _average(history, same)
    trial = history.trials[same[0]]
    return Recommendation(
        history.space.filled(dict(trial.params or {})),
        trial.number,
        float(sign * mean[0]),
        float(sd[0]),
        len(same),
        float(sign * average),
        sem,
        observed,
        float(sign * mean[1]),
        model.objective.noise_sd,
    )


def _merits(model: Model) -> np.ndarray:
    """Return what the eligible observations of a model are compared by, on its own scale; lower is better."""
    n, eligible = len(model.unit), model.eligible
    unit, posterior = model.unit[eligible], model.objective.posterior
    mean, variance = posterior.predict(model.embed(unit))
    _, of = np.unique(np.nan_to_num(unit, nan=-1.0), axis=0, return_inverse=True)
    of = of.reshape(-1)
    averages = np.bincount(of, posterior.data.y[:n][eligible]) / np.bincount(of)
    noise = posterior.noise.mean()
    own = OWN * noise / (noise + posterior.data.known[:n][eligible])  # what is known of the noise is noise
    return np.asarray(mean + CAUTION * np.sqrt(variance) + own * (averages[of] - mean))


def _trials_at(history: History, row: np.ndarray) -> np.ndarray:
    """Return positions of the observed trials with this configuration."""
    unit = history.unit
    same = ((unit == row) | (np.isnan(unit) & np.isnan(row))).all(1) & history.observed
    return np.flatnonzero(same)


def _average(history: History, at: np.ndarray) -> tuple[float, float | None]:
    losses, sems = history.losses[at, 0], history.sems[at, 0]
    if len(at) > 1:
        unit = unit_of(np.abs(losses).max())
        return float(losses.mean()), float(unit * (losses / unit).std(ddof=1) / np.sqrt(len(at)))
    return float(losses[0]), None if np.isnan(sems[0]) else float(sems[0])


def _as_observed(history: History, observed: float) -> Recommendation:
    """Recommend the best average: there is too little for a model."""
    _, sign = sign_of(history)
    valid = history.observed & history.feasible
    places = [_trials_at(history, row) for row in history.unit[valid]]
    at = min(places, key=lambda at: _average(history, at)[0])
    average, sem = _average(history, at)
    trial = history.trials[at[0]]
    value, nan = float(sign * average), float("nan")
    params = history.space.filled(dict(trial.params or {}))
    return Recommendation(params, trial.number, value, nan, len(at), value, sem, observed, value, nan)
