"""What a parameter does by itself, by the model: partial dependence with the model's own doubt.

Friedman, *Greedy function approximation: a gradient boosting machine* (2001), section 8.2; with the standard deviation
of a Gaussian process as in Moosbauer, Herbinger, Casalicchio, Lindauer and Bischl, *Explaining hyperparameter
optimization via partial dependence plots* (NeurIPS 2021), section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from welltuned.errors import InvalidType, InvalidValue
from welltuned.settings import whole
from welltuned.space import Categorical, Float, Int, Ordinal, Parameter, Space, codec
from welltuned.space.labels import find
from welltuned.stats.fitted import Fitted, columns_of, fitted
from welltuned.stats.knowledge import FEWEST, asked
from welltuned.surrogate.threads import single_threaded

CHOICES = 40  # of more of them, those that most trials had
POINTS = 33, 21  # values of a number along the axis of one parameter, and along each of two


@dataclass(frozen=True)
class Effect:
    """What the model expects of the objective over values of one parameter or two, averaged over the others.

    Attributes
    ----------
    names
        The one parameter, or the two.
    values
        For each of them the k values, in the parameter's own units: numbers in ascending order, choices in theirs.
    mean
        What is expected of the objective, in its units; shape (k,) or (k, k'). NaN where the values do not go together,
        or where one of the parameters is not active in any trial.
    sd
        Standard deviation of that average by the model, noise excluded, shaped alike: how far trials leave it open.
    """

    names: tuple[str, ...]
    values: tuple[list[Any], ...]
    mean: np.ndarray
    sd: np.ndarray


def effects(
    history: Any,
    names: str | Sequence[str],
    objective: str | None = None,
    *,
    points: int | None = None,
    samples: int = 128,
    seed: int = 0,
) -> Effect:
    """Return what the model expects of the objective over the values of a parameter, or of two.

    The values are put into trials, everything else as it was there, and what the model expects of these is averaged.
    A search spends most trials where the objective is good, so the average says what a value does there, and the model
    has seen it. Averages over the whole space would be made of settings that nobody would use, and of which the model
    knows least. Where a value switches on what a trial did not have, that is taken from trials that did.

    The model is that of :func:`importance`, and ``sd`` takes its length scales for known. A mean over the others
    cannot show what depends on them: of parameters that interact (:func:`interactions`), look at two at a time.

    Parameters
    ----------
    history
        A study, or a history, with at least four results that differ.
    names
        A parameter, or two of them.
    objective
        Which objective; the first unless given.
    points
        Values of a number that has more of them, evenly spaced on its scale; 33 of one parameter, 21 of each of two
        unless given. Choices are all there; of more than 40, those that most trials had.
    samples
        Trials that are averaged over, at most.
    seed
        Of the choice among more trials.

    Raises
    ------
    InvalidValue, InvalidType
        For an unknown parameter, and for too few results or equal ones.

    Examples
    --------
    >>> from welltuned import Study
    >>> study = Study({"x": (0.0, 1.0), "c": ["u", "v"]}, sampler="qmc", seed=0)
    >>> study.optimize(lambda p: (p["x"] - 0.5) ** 2 + (p["c"] == "v"), n_trials=24)
    >>> effect = effects(study, "c")
    >>> effect.values, effect.mean.round(1).tolist()
    ((['u', 'v'],), [0.1, 1.1])
    """
    history = asked(history, objective, "effects")
    rng = np.random.default_rng(whole("effects: seed", seed, 0))
    chosen = _names(history.space, names)
    most = POINTS[len(chosen) - 1] if points is None else whole("effects: points", points, 2)
    whole("effects: samples", samples)
    with single_threaded():
        model = fitted(history, objective, rng)
        if model is None:
            raise InvalidValue(f"effects: a model takes {FEWEST} results that differ; there are {len(history)} trials")
        background, columns = _background(model, samples, rng), columns_of(model.space)
        values = tuple(_values(model, columns[name], most) for name in chosen)
        cells = product(
            *([_places(model.space, columns[n], v) for v in vs] for n, vs in zip(chosen, values, strict=True))
        )
        found = np.array([_average(model, _put(model.space, background, cell)) for cell in cells])
    mean, sd = np.moveaxis(found.reshape(*map(len, values), 2), -1, 0)
    return Effect(chosen, values, model.centre + model.scale * mean, abs(model.scale) * sd)


def _names(space: Space, names: Any) -> tuple[str, ...]:
    if not isinstance(names, (str, Sequence)):
        raise InvalidType(f"effects: names={names!r} is neither a parameter's name nor two of them")
    found, known = (names,) if isinstance(names, str) else tuple(names), list(columns_of(space))
    for name in found:
        if name not in known:
            raise InvalidValue(f"effects: {name!r} is no parameter; there are {known!r}")
    if len(set(found)) != len(found) or len(found) not in (1, 2):
        raise InvalidValue(f"effects: names={names!r} are not one parameter, nor two that differ")
    return found


def _background(model: Fitted, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Return rows of trials with all coordinates set: what a trial lacks is as in another one, or anywhere."""
    n = len(model.rows)
    rows = model.rows[np.sort(rng.choice(n, min(n, samples), replace=False))]
    for j, column in enumerate(model.rows.T):
        lacking, known = np.isnan(rows[:, j]), column[~np.isnan(column)]
        size = int(lacking.sum())
        rows[lacking, j] = rng.choice(known, size) if len(known) else rng.random(size)
    return rows


def _values(model: Fitted, columns: list[int], most: int) -> list[Any]:
    """Return the values of an axis: where several columns share a name, those of all."""
    known = list(model.space.values())
    found = [v for j in columns for v in codec.from_unit(known[j], _levels(known[j], model.rows[:, j], most))]
    if all(isinstance(known[j], (Float, Int)) for j in columns):
        return sorted(set(found))
    return [v for i, v in enumerate(found) if find(found[:i], v) is None]


def _levels(parameter: Parameter, tried: np.ndarray, most: int) -> np.ndarray:
    levels = codec.levels(parameter, most)
    if isinstance(parameter, (Float, Int)) or len(levels) <= CHOICES:
        return levels
    counts = np.bincount(codec.indices(parameter, tried[~np.isnan(tried)]), minlength=len(levels))
    return levels[np.sort(np.argsort(-counts, kind="stable")[:CHOICES])]


def _places(space: Space, columns: list[int], value: Any) -> dict[int, float]:
    """Return where a value is in each of the columns that can take it."""
    parameters = list(space.values())
    return {j: at for j in columns if (at := _place(parameters[j], value)) is not None}


def _place(parameter: Parameter, value: Any) -> float | None:
    if isinstance(parameter, (Categorical, Ordinal)):
        index = find(parameter.choices, value)
        return None if index is None else (index + 0.5) / len(parameter.choices)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not parameter.low <= value <= parameter.high:
        return None
    at = codec.snap(parameter, codec.to_unit(parameter, np.array([value])))
    return float(at[0]) if np.isclose(codec.numbers(parameter, at)[0], value) else None


def _put(space: Space, background: np.ndarray, cell: tuple[dict[int, float], ...]) -> np.ndarray:
    """Put values, each with its place in some columns, into rows; return those that then have them and are allowed."""
    rows = background.copy()
    for places in cell:
        rows[:, list(places)] = list(places.values())
    rows = space.activate(rows)
    has = np.all([~np.isnan(rows[:, list(places)]).all(1) for places in cell], axis=0)
    rows = rows[has]
    return rows[space.feasible(rows)]


def _average(model: Fitted, rows: np.ndarray) -> tuple[float, float]:
    """Return mean and standard deviation of the average of the process over rows, on the standard scale."""
    if not len(rows):
        return np.nan, np.nan
    process = model.posterior
    at = process.view(model.embed(rows))
    k = process.covariance(at).mean(1, keepdims=True)
    known = k @ np.swapaxes(process.Li, 1, 2)
    variance = at.covariance(at, process.s2).mean() - float((known * known).sum())
    return float(process.mean_of(k)[0, 0]), float(np.sqrt(max(variance, 0.0)))
