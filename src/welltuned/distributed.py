"""Trials that several processes train together, as with PyTorch's DistributedDataParallel under ``torchrun``."""

from __future__ import annotations

from typing import Any

from welltuned.evaluation import Objective
from welltuned.executors import ranks
from welltuned.executors.group import find_group
from welltuned.study import Study, shortcuts


def minimize(
    objective: Objective, space: Any = None, n_trials: int | None = None, *, sampler: Any = None, **options: Any
) -> Study | None:
    """Minimise an objective that all ranks of a process group evaluate together, one trial at a time.

    Call it on every rank, after ``torch.distributed.init_process_group``. Rank 0 has the study; on the others, all
    arguments but the objective are left alone. The objective gets the same parameters, number and checkpoint folder
    everywhere. What rank 0 reports and returns counts, and the n-th call of ``trial.should_stop()`` gives the same
    answer on every rank. What is raised on any of them ends the trial on all. Without a process group, it is
    :func:`welltuned.minimize`.

    Parameters
    ----------
    objective, space, n_trials, sampler, options
        As in :func:`welltuned.minimize`.

    Returns
    -------
    Study or None
        The study on rank 0, None on the others.

    Raises
    ------
    InvalidValue
        In one of several processes that have not joined each other.
    WelltunedError
        On the other ranks when rank 0 has ended with an error, and on all when one is gone.

    Examples
    --------
    >>> study = minimize(lambda trial: (trial["x"] - 1) ** 2, {"x": (-2.0, 2.0)}, n_trials=15, seed=0)
    >>> round(study.best.params["x"], 1)
    1.0
    """
    return _together("minimize", objective, space, n_trials, sampler=sampler, **options)


def maximize(
    objective: Objective, space: Any = None, n_trials: int | None = None, *, sampler: Any = None, **options: Any
) -> Study | None:
    """Maximise an objective that all ranks evaluate together; see :func:`minimize`."""
    return _together("maximize", objective, space, n_trials, sampler=sampler, **options)


def follow(objective: Objective) -> None:
    """Take part in the trials of a study that rank 0 runs, until it is over.

    For programs whose rank 0 does more with its study than :func:`minimize` does.

    Raises
    ------
    InvalidValue
        On rank 0.
    WelltunedError
        When rank 0 has ended with an error, or is gone.

    Examples
    --------
    ::

        if torch.distributed.get_rank() == 0:
            study = wt.Study(space, storage="study.db")
            study.enqueue({"rate": 0.01})
            study.optimize(train, n_trials=50, executor="ranks")
        else:
            follow(train)
    """
    ranks.follow(objective)


def _together(direction: str, objective: Objective, *arguments: Any, **options: Any) -> Study | None:
    group = find_group()
    if group is not None and group.rank != 0:
        ranks.follow(objective)
        return None
    with ranks.leading():
        return getattr(shortcuts, direction)(objective, *arguments, **{"executor": "ranks", **options})
