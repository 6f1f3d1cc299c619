"""Which hyperparameters matter: total-effect Sobol indices of a Gaussian process fitted to the trials."""

from __future__ import annotations

import numpy as np

from welltuned.errors import InvalidType, InvalidValue
from welltuned.history import History
from welltuned.samplers.novel import draw
from welltuned.space import Space, public
from welltuned.stats.knowledge import completed
from welltuned.surrogate.embedding import Embedding, embedding
from welltuned.surrogate.fit import fit
from welltuned.surrogate.gp import Posterior, observations
from welltuned.surrogate.outputs import standardise, winsorise
from welltuned.surrogate.threads import single_threaded

MIN_TRIALS = 4
MAX_TRIALS = 256


def importance(
    history: History, objective: str | None = None, *, samples: int = 2048, seed: int = 0
) -> dict[str, float]:
    """Return for each parameter the share of the objective's variance that involves it, largest first.

    The share counts interactions in full for each parameter that takes part, so the shares may add up to more than
    1. They are those of a model fitted to the trials, over the whole space, times the share of the variance that the
    model predicts of trials it was not shown: of pure noise nothing is important, and with few trials the shares are
    rough. Jansen (1999), as in Saltelli et al., *Variance based sensitivity analysis of model output*, 2010, table
    2 (f).

    Parameters
    ----------
    history
        At least four observations; with fewer, or when all are equal, the result is empty.
    objective
        Which objective; the first unless given.
    samples
        Configurations drawn to estimate each share.

    Examples
    --------
    >>> importance(History(Space({"x": (0.0, 1.0)})))
    {}
    """
    history = getattr(history, "history", history)
    if not isinstance(history, History):
        raise InvalidType(f"importance: {history!r} is neither a Study nor a History")
    if objective is not None and objective not in history.directions:
        raise InvalidValue(
            f"importance: objective={objective!r} is unknown; the study has {list(history.directions)!r}"
        )
    with single_threaded():
        return _shares(completed(history), objective, samples, seed)


def _shares(history: History, objective: str | None, samples: int, seed: int) -> dict[str, float]:
    space, rng = history.space, np.random.default_rng(seed)
    column = list(history.directions).index(objective) if objective is not None else 0
    losses = history.losses[history.observed][:, column]
    if len(losses) < MIN_TRIALS or np.ptp(losses) == 0:
        return {}
    rows = history.unit[history.observed]
    if len(losses) > MAX_TRIALS:
        some = rng.choice(len(losses), MAX_TRIALS, replace=False)
        losses, rows = losses[some], rows[some]
    y = standardise(winsorise(losses))[0]
    if not y.var() > 0:  # they differ by less than rounding
        return {}
    embed = embedding(space)
    model = fit(observations(embed(rows), y, embed.group))
    # both by the same law, whatever was believed beforehand
    base, other = draw(space, samples, rng, priors=False), rng.random((samples, len(space)))
    predicted = _mean(model, embed(base))
    # what the model cannot predict of trials it was not shown belongs to nobody
    held_out = model.leave_one_out()[0]
    explained = max(0.0, 1.0 - float(((y - held_out) ** 2).mean() / y.var()))
    variance = float(predicted.var()) / explained if explained > 0 else np.inf
    shares: dict[str, float] = {}
    for j, name in enumerate(space):
        if not public(name):
            continue
        effect = _effect(space, model, embed, base, other, predicted, j)
        shares[public(name)] = max(shares.get(public(name), 0.0), min(effect / variance, 1.0) if variance > 0 else 0.0)
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _effect(
    space: Space,
    model: Posterior,
    embed: Embedding,
    base: np.ndarray,
    other: np.ndarray,
    predicted: np.ndarray,
    j: int,
) -> float:
    """Return E[(f(x) - f(x with coordinate j drawn anew))²] / 2, over rows in which both are allowed."""
    changed = np.where(np.isnan(base), other, base)
    changed[:, j] = other[:, j]
    changed = space.activate(changed)
    changed[np.isnan(base[:, j])] = base[np.isnan(base[:, j])]
    ok = space.feasible(changed)
    if not ok.any():
        return 0.0
    difference = predicted[ok] - _mean(model, embed(changed[ok]))
    return float(0.5 * (difference**2).mean())


def _mean(model: Posterior, phi: np.ndarray) -> np.ndarray:
    return np.concatenate([model.means(part) for part in np.array_split(phi, max(1, len(phi) // 512))])
