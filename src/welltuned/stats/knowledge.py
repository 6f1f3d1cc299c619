"""What the trials of a study say about places between them, and how well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from welltuned.errors import InvalidType, InvalidValue
from welltuned.history import History
from welltuned.later import special
from welltuned.surrogate.gp import LIKELY
from welltuned.surrogate.model import MEMBERS, Model, fit_model
from welltuned.surrogate.threads import single_threaded
from welltuned.trial import State

MANY = 16  # processes that are averaged where how sure an answer is matters most
FEWEST = 4


@dataclass(frozen=True)
class Prediction:
    """Mean and standard deviation of the objective without its noise; arrays for a list of configurations."""

    mean: Any
    sd: Any


@dataclass(frozen=True)
class Diagnostics:
    """How well each trial is predicted by a model that was not shown it.

    Attributes
    ----------
    numbers, observed
        Numbers of the trials, shape (n,), and their values.
    mean, sd
        Predictions from all other trials, noise included.
    r2
        Share of the variance that is predicted: 1 is perfect, 0 no better than the mean.
    coverage
        Share of the trials within their 90 % intervals; about 0.9 when the model is honest.
    noise_sd
        Standard deviation of one evaluation's noise, as learned.
    """

    numbers: np.ndarray = field(repr=False)
    observed: np.ndarray = field(repr=False)
    mean: np.ndarray = field(repr=False)
    sd: np.ndarray = field(repr=False)
    r2: float
    coverage: float
    noise_sd: float


def asked(source: Any, objective: str | None, what: str) -> History:
    """Return the history of a study, or a history as it is; refuse anything else, and an objective it does not have."""
    history = getattr(source, "history", source)
    if not isinstance(history, History):
        raise InvalidType(f"{what}: {source!r} is neither a Study nor a History")
    if objective is not None and objective not in list(history.directions):  # a list of names has no hash
        raise InvalidValue(f"{what}: objective={objective!r} is unknown; the study has {list(history.directions)!r}")
    return history


def sign_of(history: History, objective: str | None = None) -> tuple[int, float]:
    """Return the column of an objective, and -1 where it is maximised."""
    names = list(history.directions)
    j = 0 if objective is None else names.index(objective)
    return j, -1.0 if history.directions[names[j]] == "maximize" else 1.0


def model_of(
    history: History, what: str, *, plain: bool = False, objective: int = 0, members: int = MEMBERS
) -> Model:
    """Fit the processes of one objective to a history of completed trials, or say that there is too little to fit.

    Raises
    ------
    InvalidValue
        For fewer than four results.
    """
    if (seen := int(history.observed.sum())) < FEWEST:
        raise InvalidValue(f"{what}: {seen} results are too few for a model; it takes {FEWEST}")
    losses = history.losses[history.observed][:, [objective]]
    with single_threaded():
        return fit_model(
            history,
            np.random.default_rng(0),
            losses=losses,
            winsor=True,
            plain=plain,
            noise_prior=LIKELY,
            members=members,
        )


def completed(history: History) -> History:
    """Return the history of the completed trials alone: a pruned one has no value, a failed one says nothing of it."""
    return history.where(np.array([t.state is State.COMPLETE for t in history.trials], dtype=bool))


def single(source: Any, what: str) -> History:
    """Return the completed trials of a study or a history with one objective.

    Raises
    ------
    InvalidType, InvalidValue
        For what is neither, and for several objectives.
    """
    history = asked(source, None, what)
    if len(history.directions) > 1:
        raise InvalidValue(
            f"{what}: takes one objective, but there are {list(history.directions)!r}; study.best_trials has the "
            "trade-offs, and study.predict and importance take objective="
        )
    return completed(history)


def predict(
    history: Any, params: Mapping[str, Any] | Sequence[Mapping[str, Any]], objective: str | None = None
) -> Prediction:
    """Predict an objective where nothing was tried.

    Parameters
    ----------
    history
        A study, or a history, with at least four results.
    params
        A configuration of the space, or a list of them.
    objective
        Which objective; the first unless given.

    Raises
    ------
    InvalidValue
        For too few results, or something that is not a configuration of the space.
    """
    if not isinstance(params, (Mapping, Sequence)) or isinstance(params, (str, bytes)):
        raise InvalidType(f"predict: {params!r} is neither a configuration nor a list of them")
    history = asked(history, objective, "predict")
    j, sign = sign_of(history, objective)
    model = model_of(completed(history), "predict", plain=True, objective=j, members=MANY)
    one = isinstance(params, Mapping)
    rows: list[Any] = [params] if one else list(params)
    unit = history.space.encode([history.space.validate(row) for row in rows])
    with single_threaded():
        mean, sd = model.objective.predict(model.embed(unit))
    return Prediction(float(sign * mean[0]), float(sd[0])) if one else Prediction(sign * mean, sd)


def diagnostics(history: Any, objective: str | None = None) -> Diagnostics:
    """Compare every trial of a study, or a history, with what the others say of it.

    Rasmussen and Williams (2006), eq. 5.12.
    """
    history = completed(asked(history, objective, "diagnostics"))
    j, sign = sign_of(history, objective)
    model = model_of(history, "diagnostics", plain=True, objective=j)
    with single_threaded():
        mean, variance = model.objective.posterior.leave_one_out()
    q = model.objective
    observed = q.posterior.data.y  # on the standard scale, where squares do not overflow
    left = observed - mean
    spread = float(observed.var())
    r2 = 1.0 - float((left**2).mean()) / spread if spread > 0 else 0.0
    coverage = float((np.abs(left) <= special.ndtri(0.95) * np.sqrt(variance)).mean())
    losses, mean, sd = model.losses[:, 0], q.centre + q.scale * mean, q.scale * np.sqrt(variance)
    numbers = history.numbers[history.observed]
    kept = model.kept
    return Diagnostics(numbers[kept], sign * losses, sign * mean, sd, r2, coverage, q.noise_sd)
