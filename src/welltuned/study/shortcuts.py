"""A search in one call, and a study from what is stored of it."""

from __future__ import annotations

from inspect import signature
from typing import Any

from welltuned.errors import InvalidType
from welltuned.evaluation import Objective
from welltuned.space import Space
from welltuned.storage import Storage, StudyRow
from welltuned.study.study import Study


def minimize(
    objective: Objective, space: Any = None, n_trials: int | None = None, *, sampler: Any = None, **options: Any
) -> Study:
    """Minimise an objective over a space in one call; return the study.

    Parameters
    ----------
    objective, space, n_trials, sampler
        As in :class:`Study` and :meth:`Study.optimize`.
    options
        Any other argument of the two.

    Examples
    --------
    >>> study = minimize(
    ...     lambda x: (x[0] - 1) ** 2 + x[1] ** 2, [(-2, 2), (-2, 2)], n_trials=30, sampler="gradient", seed=0
    ... )
    >>> round(study.best.value, 3)
    0.0
    """
    return _one_call("minimize", objective, space, n_trials, sampler, options)


def maximize(
    objective: Objective, space: Any = None, n_trials: int | None = None, *, sampler: Any = None, **options: Any
) -> Study:
    """Maximise an objective over a space in one call; return the study. See :func:`minimize`."""
    return _one_call("maximize", objective, space, n_trials, sampler, options)


STUDY_OPTIONS = ("storage", "name", "seed", "scheduler", "checkpoints", "lease", "noisy", "optimize_per", "prior")
RUN_OPTIONS = tuple(signature(Study.optimize).parameters)[3:]  # all but self, objective and n_trials


def _one_call(
    direction: str, objective: Objective, space: Any, n_trials: int | None, sampler: Any, options: dict[str, Any]
) -> Study:
    known = {*STUDY_OPTIONS, *RUN_OPTIONS}
    if unknown := sorted(set(options) - known):
        raise InvalidType(f"{direction}: unknown argument {unknown[0]!r}; known are {sorted(known)!r}")
    study = Study(
        space, direction=direction, sampler=sampler, **{k: v for k, v in options.items() if k not in RUN_OPTIONS}
    )
    study.optimize(objective, n_trials, **{k: v for k, v in options.items() if k in RUN_OPTIONS})
    return study


def stored_study(storage: Storage, row: StudyRow, space: Space | None = None, **options: Any) -> Study:
    """Return the study of a stored row, with the sampler that it was made with.

    A sampler that is not one of ours was made by the program that made the study; ``"auto"`` stands in for it.

    Parameters
    ----------
    storage, row
        As :meth:`Storage.studies` returns it.
    space
        The stored one unless given.
    options
        Any other argument of :class:`Study`.
    """
    return Study(space, direction=row.directions, storage=storage, name=row.name, **options)
