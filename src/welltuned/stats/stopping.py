"""Whether another trial is worth it: what it is expected to gain, how far the best can be, and how many more to run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from welltuned.errors import InvalidValue
from welltuned.history import History
from welltuned.settings import real, whole
from welltuned.space import codec
from welltuned.stats.hindsight import kept_promises, looks_back, multiple
from welltuned.stats.knowledge import FEWEST, asked, model_of, single
from welltuned.surrogate.acquisition import log_ei, total
from welltuned.surrogate.maximise import candidates, maximise
from welltuned.surrogate.model import Model
from welltuned.surrogate.rollouts import gains
from welltuned.surrogate.threads import single_threaded

PATHS = 64
PLACES = 512


def expected_gain(history: Any) -> float:
    """Return by how much the next trial of a study (or history) is expected to improve on the best so far, in the
    objective's own units.

    The expected improvement where it is largest, by which Jones, Schonlau and Welch (1998) proposed to stop, less what
    such expectations did not keep in the later half of the study.

    Raises
    ------
    InvalidValue
        For fewer than four results.
    """
    tried, history = asked(history, None, "expected_gain").keys, single(history, "expected_gain")
    with single_threaded():
        model, rng = _feasible_model(history, "expected_gain"), np.random.default_rng(0)
        nothing = np.empty((0, len(history.space)))
        improvement = log_ei(model.embed, model.objective.posterior, model.incumbents(), nothing, rng)
        acquisition = total([improvement, *model.satisfaction()])
        weights = model.objective.posterior.w[0, 0]
        rows, scores = maximise(history.space, model.embed, acquisition, model.best_rows(5), weights, rng)
    if all(codec.cells(p) is not None for p in history.space.values()):  # what was tried gains nothing more
        new = [history.space.key(p) not in tried for p in history.space.decode(rows, activated=True)]
        scores = scores[new]
    if not len(scores):
        return 0.0
    kept = kept_promises(model.objective.posterior, model.allowed)
    return float(kept * model.objective.scale * np.exp(scores.max()))


def _feasible_model(history: History, what: str) -> Model:
    model = model_of(history, what)
    if not model.allowed.any():
        raise InvalidValue(f"{what}: no trial satisfies the constraints {list(history.constraints)!r} yet")
    return model


def regret_bound(history: Any, confidence: float = 0.9) -> float:
    """Return how far the best configuration of a study (or history) can be from the optimum, with about this
    confidence.

    The lowest upper bound over what was tried, less the lowest lower bound anywhere: Makarova et al., *Automatic
    Termination for Hyperparameter Optimization* (2022), eq. 4, with bounds of β standard deviations, β² = 2 log(d t²
    π²/6δ)/5 for d parameters and t trials.

    Raises
    ------
    InvalidValue, InvalidType
        For fewer than four results, or a confidence outside of 0 … 1.
    """
    confidence = real("regret_bound: confidence", confidence, above=0, below=1)
    history = single(history, "regret_bound")
    with single_threaded():
        model = _feasible_model(history, "regret_bound")
        d, t = len(history.space), int(history.observed.sum())
        beta = np.sqrt(0.4 * np.log(d * t * t * np.pi**2 / (6.0 * (1.0 - confidence))))
        pool = _places(history, model)
        pool = np.vstack([pool[np.exp(_log_odds(model, pool)) >= 0.5], model.unit[model.allowed]])
        mean, sd = model.objective.predict(model.embed(pool))
        known = int(model.allowed.sum())
        at_mean, at_sd = mean[-known:], sd[-known:]
    return float(max(0.0, (at_mean + beta * at_sd).min() - (mean - beta * sd).min()))


@dataclass(frozen=True)
class Outlook:
    """What further trials are expected to bring.

    Attributes
    ----------
    gains
        Expected total gain after 1, 2, … further trials, in the objective's own units; shape (horizon,).
    low, high
        The interval of 80 % around each.
    trials
        How many further trials are expected to gain ``worth`` each.
    interval
        80 % interval of that number.
    worth
        What a trial has to gain to be worth it.
    """

    gains: np.ndarray = field(repr=False)
    low: np.ndarray = field(repr=False)
    high: np.ndarray = field(repr=False)
    trials: int
    interval: tuple[int, int]
    worth: float


def outlook(history: Any, worth: float, horizon: int = 100) -> Outlook:
    """Tell how many more trials are worth it, with an interval.

    Functions are drawn from the model, and each is searched as the model would search it, learning on the way. Then the
    same is done from where the study was some trials ago, up to half of them; what that was worth, by what came since,
    scales what is expected now. So do its differences from one look back to the next, and once its word is taken: hence
    the intervals.

    Parameters
    ----------
    history
        A study, or a history, with at least four results.
    worth
        What a trial has to gain to be worth running, in the objective's own units: if 100 more trials should gain
        half a per cent of accuracy, 0.005 / 100.
    horizon
        How many further trials to look ahead.

    Raises
    ------
    InvalidValue, InvalidType
        For a worth or a horizon that is not above 0.
    """
    worth, horizon = real("outlook: worth", worth, above=0), whole("outlook: horizon", horizon)
    if horizon > PLACES:
        raise InvalidValue(f"outlook: horizon={horizon!r} must be at most {PLACES}")
    history = single(history, "outlook")
    with single_threaded():
        model = _feasible_model(history, "outlook")
        ends = np.outer(_hindsight(history, model), _future(history, model, horizon)).reshape(-1, horizon)
    # what more trials gain is no less; with few paths, chance may say so
    mean, low, high = (np.maximum.accumulate(v) for v in (ends.mean(0), *np.quantile(ends, [0.1, 0.9], axis=0)))
    # the number of trials up to which the total gain has paid for all of them best
    pays = ends - worth * np.arange(1, horizon + 1)
    each = np.where(pays.max(1) > 0, pays.argmax(1) + 1, 0)
    mean_pays = mean - worth * np.arange(1, horizon + 1)
    trials = int(mean_pays.argmax()) + 1 if mean_pays.max() > 0 else 0
    interval = tuple(int(v) for v in np.quantile(each, [0.1, 0.9], method="nearest"))
    return Outlook(mean, low, high, trials, (min(interval[0], trials), max(interval[1], trials)), float(worth))


def _future(history: History, model: Model, horizon: int) -> np.ndarray:
    """Return the gain after each of the next trials in each drawn function, shape (paths, horizon), in own units."""
    places, known = _places(history, model), model.unit[model.allowed]
    rows = np.vstack([known, places])
    found = gains(
        model.objective.posterior,
        model.embed(rows),
        np.arange(len(rows)) < len(known),
        np.exp(_log_odds(model, rows)),
        horizon,
        PATHS // len(model.objective.posterior),
        np.random.default_rng(0),
        bool(history.wishes.noisy),
    )
    return found * model.objective.scale


def _hindsight(history: History, model: Model) -> np.ndarray:
    """Return what multiples of its expectations came at earlier points of the study, and once 1; shape (looks + 1,)."""
    results = np.cumsum(history.observed)
    found = [1.0]
    for n in looks_back(int(results[-1])):
        past = history.where(results <= n)
        if n < FEWEST or not (then := model_of(past, "outlook")).allowed.any():
            continue
        expected = _future(past, then, int(results[-1]) - n)[:, -1].mean()
        known = then.unit[then.allowed]
        incumbent = known[then.objective.predict(then.embed(known))[0].argmin()]
        # by all that is known today
        (before,), _ = model.objective.predict(model.embed(incumbent[None]))
        today = model.objective.predict(model.embed(model.unit[model.allowed]))[0].min()
        found.append(multiple(float(expected), float(before - today)))
    return np.array(found)


def _log_odds(model: Model, rows: np.ndarray) -> np.ndarray:
    """Return the log probability that all constraints on outcomes are satisfied, shape (q,)."""
    terms = model.satisfaction()
    return np.sum([t.value(rows) for t in terms], axis=0) if terms else np.zeros(len(rows))


def _places(history: History, model: Model) -> np.ndarray:
    """Return rows where nothing was tried yet, half of them around the best ones."""
    places = candidates(history.space, model.best_rows(5), PLACES, np.random.default_rng(1))
    tried = {row.tobytes() for row in np.nan_to_num(history.unit, nan=-1.0)}
    return places[[row.tobytes() not in tried for row in np.nan_to_num(places, nan=-1.0)]]
