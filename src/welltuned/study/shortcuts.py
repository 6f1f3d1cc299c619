"""A search in one call, and a study from what is stored of it."""

from __future__ import annotations

import contextlib
import errno
import logging
import shutil
from pathlib import Path
from typing import Any

from welltuned.errors import InvalidType, InvalidValue
from welltuned.evaluation import Objective
from welltuned.space import Space
from welltuned.storage import Storage, StudyRow, open_existing
from welltuned.storage.masking import masked
from welltuned.study.coordinator import checkpoint_folder
from welltuned.study.keywords import TAKEN, check_keywords
from welltuned.study.study import Study

log = logging.getLogger("welltuned")


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


RUN_OPTIONS = set(TAKEN["optimize"]) - {"objective", "n_trials"}
OPTIONS = {*TAKEN["Study"], *RUN_OPTIONS} - {"direction"}


def _one_call(
    direction: str, objective: Objective, space: Any, n_trials: int | None, sampler: Any, options: dict[str, Any]
) -> Study:
    check_keywords(direction, options, OPTIONS)
    study = Study(
        space, direction=direction, sampler=sampler, **{k: v for k, v in options.items() if k not in RUN_OPTIONS}
    )
    study.optimize(objective, n_trials, **{k: v for k, v in options.items() if k in RUN_OPTIONS})
    return study


def stored_study(storage: Storage, row: StudyRow, space: Space | None = None, **options: Any) -> Study:
    """Return the study of a stored row, with the sampler that it was made with, and its scheduler.

    Those that are not ours were made by the program that made the study; ``"auto"`` stands in for such a sampler, and
    nothing for such a scheduler.

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


def stored_row(storage: Storage, name: str, where: Any = None) -> StudyRow:
    """Return what is stored of the study of this name.

    Raises
    ------
    InvalidValue
        With the names that there are, when there is none of this one; ``where`` says how it calls the storage.
    """
    known = {row.name: row for row in storage.studies()}
    if name not in known:
        shown = getattr(storage, "where", "the storage") if where is None else masked(str(where))
        raise InvalidValue(f"{shown} has no study {name!r}; it has {sorted(known)!r}")
    return known[name]


def delete_study(storage: Any, name: str) -> int:
    """Delete a study with its trials, what they reported, and the checkpoints beside its file.

    All of it at once, and for good. Whoever works on it meanwhile ends with :class:`welltuned.UnknownStudy`, and
    stores nothing more. The same name begins a new study afterwards. Folders that ``checkpoints=`` named stay, since
    nobody has stored where they are.

    Parameters
    ----------
    storage
        What ``storage=`` of :class:`Study` takes. A file must be there.
    name
        Which study of the storage.

    Returns
    -------
    int
        How many trials it had.

    Raises
    ------
    InvalidValue
        When there is no study of this name; the message holds those that there are.
    StorageError
        When the storage is not there, or may only be read.

    Examples
    --------
    >>> from welltuned.storage import MemoryStorage
    >>> storage = MemoryStorage()
    >>> for name in ("draft", "paper"):
    ...     Study({"x": (0.0, 1.0)}, storage=storage, name=name, seed=0).optimize(lambda t: t["x"], n_trials=3)
    >>> delete_study(storage, "draft")
    3
    >>> [row.name for row in storage.studies()]
    ['paper']
    """
    if not isinstance(name, str):
        raise InvalidType(f"delete_study: name={name!r} is not a string")
    store = open_existing(storage)
    try:
        return delete_stored(store, stored_row(store, name))
    finally:
        if store is not storage:
            store.close()


def delete_stored(storage: Storage, row: StudyRow) -> int:
    """Delete the study of a stored row, then its checkpoints beside the file; return how many trials it had."""
    trials = storage.delete(row.id)
    folder = checkpoint_folder(None, storage, row)
    # a name that another program stored may lead elsewhere
    if folder is not None and folder.parent == Path(f"{storage.path}-checkpoints"):  # type: ignore[attr-defined]
        try:
            shutil.rmtree(folder)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENAMETOOLONG):  # there are none, or cannot be any
                log.warning("study %r is deleted, but not its checkpoints in %s: %s", row.name, folder, error)
        with contextlib.suppress(OSError):  # others have theirs in it
            folder.parent.rmdir()
    return trials
