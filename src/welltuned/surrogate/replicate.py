"""When another look at a configuration is worth more than a new one."""

from __future__ import annotations

import numpy as np

from welltuned.surrogate.acquisition import log_h
from welltuned.surrogate.model import Model


def worth_repeating(model: Model, pending: np.ndarray) -> tuple[float, np.ndarray] | None:
    """Return the log knowledge gradient of the observed row that is most worth another evaluation, and that row.

    Evaluating i again moves its mean by a normal of standard deviation s̃ = σᵢ²/√(σᵢ² + σ_noise²); what that is worth is
    s̃ h(-|Δ|/s̃), with Δ the distance of its mean from the best of the others: it may turn out better than they, or, as
    the best one, worse. Frazier, Powell and Dayanik, *The Knowledge-Gradient Policy for Correlated Normal Beliefs*
    (2009), eq. 14, without the correlations. Rows under evaluation are left out.
    """
    under_way = {row.tobytes() for row in pending}
    rows = np.unique(model.unit[model.allowed], axis=0) if model.allowed.any() else np.empty((0, 0))
    rows = np.array([row for row in rows if row.tobytes() not in under_way])
    if len(rows) < 2:
        return None
    posterior = model.objective.posterior
    mean, variance = posterior.predict(model.embed(rows))
    tilde = _move(variance, posterior.noise.mean())
    order = np.argsort(mean, kind="stable")
    rival = np.full(len(rows), mean[order[0]])
    rival[order[0]] = mean[order[1]]
    worth = log_h(-np.abs(mean - rival) / tilde)[0] + np.log(tilde)
    best = int(np.argmax(worth))
    return float(worth[best]), rows[best]


def worth_trying(model: Model, row: np.ndarray) -> float:
    """Return the log knowledge gradient of a new row, shape (1, p), on the scale of :func:`worth_repeating`."""
    posterior = model.objective.posterior
    mean, variance = posterior.predict(model.embed(row))
    tilde = _move(variance, posterior.noise.mean())
    best = model.incumbents().mean()
    return float((log_h((best - mean) / tilde)[0] + np.log(tilde))[0])


def _move(variance: np.ndarray, noise: float) -> np.ndarray:
    """Return the standard deviation by which one noisy evaluation moves the mean."""
    return np.asarray(variance / np.sqrt(variance + noise))
