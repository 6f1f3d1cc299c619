"""In which order candidates run their folds, so that those that can hardly win are found out early."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from welltuned.errors import InvalidType
from welltuned.schedulers import Race

T = TypeVar("T")


def read_racing(racing: Any) -> Race | None:
    """Return what ``racing=`` of a search stands for: True is a :class:`welltuned.Race` as it comes, False is none."""
    if isinstance(racing, (bool, np.bool_)):
        return Race() if racing else None
    if not isinstance(racing, Race):
        raise InvalidType(f"racing={racing!r} is not True, False or a welltuned.Race(...)")
    return racing


def run_heats(
    candidates: Sequence[T],
    n_folds: int,
    n_jobs: int,
    *,
    fit: Callable[[Sequence[T], range], None],
    is_lost: Callable[[T, int], bool],
    end: Callable[[T], None],
) -> None:
    """Run candidates fold by fold, side by side in heats of ``n_jobs``, until they have all folds or have lost.

    Where fewer candidates are left in a heat than there are processes, these run several folds of each at once. All of
    a heat are judged at the same folds and against what was complete before it, and those that have lost end with it.
    So what is run follows from the scores and ``n_jobs`` alone: neither timing nor a death on the way has a part in it.

    Candidates stay in their order. To finish first what leads after one fold saves some more fits, but who leads then
    was lucky on that fold, by which all others are judged first: for the same loss, a smaller ``alpha`` saves as much.

    Parameters
    ----------
    fit
        Runs candidates on folds, where these are missing.
    is_lost
        Whether a candidate has lost, judged by so many of its folds.
    end
        Records how a candidate ended.
    """
    for first in range(0, len(candidates), n_jobs):
        heat = candidates[first : first + n_jobs]
        alive, ran = list(heat), 0
        while alive and ran < n_folds:
            upto = min(n_folds, ran + max(1, n_jobs // len(alive)))
            fit(alive, range(ran, upto))
            ran = upto
            if ran < n_folds:
                alive = [c for c in alive if not is_lost(c, ran)]
        for candidate in heat:
            end(candidate)


def with_raced(results: dict[str, Any], ran: np.ndarray, times: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return ``cv_results_`` whose means and deviations are those of the folds that were run, with their number.

    Parameters
    ----------
    results
        As scikit-learn makes them, with NaN in the places of folds that were not run: their ranks are the last ones.
    ran
        Which folds were run, shape (n_candidates, n_folds).
    times
        The columns that scikit-learn keeps means of alone, by name, each of that shape.
    """
    n_folds = ran.shape[1]
    names = [k[len("split0_") :] for k in results if k.startswith("split0_")]
    tables = {name: np.column_stack([results[f"split{j}_{name}"] for j in range(n_folds)]) for name in names}
    for name, table in {**times, **tables}.items():
        weights = ran / ran.sum(axis=1, keepdims=True)
        mean = (np.where(ran, table, 0.0) * weights).sum(axis=1)
        with np.errstate(invalid="ignore"):  # scores may be infinite
            squares = np.where(ran, table - mean[:, None], 0.0) ** 2
        raced = ~ran.all(axis=1)
        # of complete candidates scikit-learn's own numbers stay, to the last bit
        results[f"mean_{name}"][raced] = mean[raced]
        results[f"std_{name}"][raced] = np.sqrt((squares * weights).sum(axis=1))[raced]
        if name in tables and not np.isfinite(mean).all():
            warnings.warn(f"One or more of the {name.split('_')[0]} scores are non-finite: {mean}", stacklevel=2)
    return {**results, "n_folds": ran.sum(axis=1)}


def only_complete(results: dict[str, Any], ran: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
    """Return the rows of ``cv_results_`` with all folds, and where they are; all rows where none has."""
    at = np.flatnonzero(ran.all(axis=1))
    if not len(at):
        at = np.arange(len(ran))
    return {k: [v[i] for i in at] if isinstance(v, list) else v[at] for k, v in results.items()}, at
