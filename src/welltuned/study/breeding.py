"""What a study does for a scheduler that breeds: let members of its population go on, and children begin as parents."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from welltuned.errors import InvalidValue
from welltuned.history import History
from welltuned.schedulers import Breeder, Child, Move, Promote, Scheduler
from welltuned.streams import trial_rng
from welltuned.study.folders import Folders
from welltuned.study.ledger import Ledger
from welltuned.trial import State, Trial

log = logging.getLogger("welltuned")


class Breeding:
    """The population of one study, as this process sees it. Without a scheduler that breeds, there is none."""

    def __init__(self, ledger: Ledger, scheduler: Scheduler | None, folders: Folders | None) -> None:
        self._ledger = ledger
        self._breeder = scheduler if isinstance(scheduler, Breeder) else None
        self._folders = folders
        #: whether there was nothing to do when the scheduler was asked last
        self.idle = False

    @property
    def possible(self) -> bool:
        """Whether there is a population at all."""
        return self._breeder is not None

    def move(self, history: History, number: int) -> Move | None:
        """Return what is to be done next, where a new trial would have this ``number``."""
        assert self._breeder is not None
        found = self._breeder.advance(history.space, history, trial_rng(self._ledger.row.seed, number))
        self.idle = found is None
        if found is None and self._folders is not None:
            self._folders.forget(self._needed(history))
        return found

    def promote(self, move: Promote) -> None:
        """Let a member wait to be claimed, after its folder was copied if a child may begin with it."""
        assert self._folders is not None
        needed = self._needed(self._ledger.sync())
        if (move.number, move.step) in needed:
            self._folders.keep(move.number, move.step)
        self._ledger.resume(move.number)  # another process may have been quicker; then look again
        self._folders.forget(needed)

    def begin(self, trial: Trial) -> None:
        """Make the folder of a claimed trial, if it is a child that has none yet."""
        if trial.parent is None or trial.inherited is None or self._folders is None:
            return
        own, its = self._folders.of(trial.number), self._folders.of(trial.parent)
        if own.exists():
            return
        parent = self._ledger.trial(trial.parent)
        kept = self._folders.at(trial.parent, trial.inherited).exists()
        # one that goes on has the same rests until the next one
        gone_on = parent is None or parent.state is not State.PAUSED or parent.rests[-1:] != (trial.inherited,)
        if not kept and not its.exists():
            log.warning(
                "trial %d begins anew: trial %d, whose child it is, has kept nothing in %s",
                trial.number,
                trial.parent,
                its,
            )
        elif not kept and gone_on:
            log.warning(
                "trial %d begins with the checkpoint that trial %d has now: what it was at step %d is gone",
                trial.number,
                trial.parent,
                trial.inherited,
            )
        self._folders.inherit(trial.number, trial.parent, trial.inherited)

    def _needed(self, history: History) -> frozenset[tuple[int, int]]:
        """Return the snapshots that the scheduler may breed from, and those of children that have no folder yet."""
        assert self._breeder is not None
        assert self._folders is not None
        return self._breeder.parents(history) | {
            (t.parent, t.inherited)
            for t in history.trials
            if t.parent is not None
            and t.inherited is not None
            and not t.state.finished
            and not self._folders.of(t.number).exists()
        }


def descent(child: Child) -> Mapping[str, Any]:
    """Return what has to be stored with a child of where it came from."""
    return {"parent": child.parent, "step": child.step, "replaces": child.replaces}


def check_folders(scheduler: Scheduler | None, folders: Any) -> None:
    """Refuse a scheduler that breeds where there are no checkpoints: children would begin from nothing.

    Raises
    ------
    InvalidValue
        Saying what a study needs to have them.
    """
    if isinstance(scheduler, Breeder) and folders is None:
        raise InvalidValue(
            f"Study: scheduler={scheduler!r} lets trials begin with the checkpoints of others, and the storage has no "
            "folder for them; give the study a storage file, or checkpoints=folder"
        )


def lineage(history: History, number: int) -> tuple[Trial, ...]:
    """Return a trial behind all that it descends from, the first one first.

    Raises
    ------
    InvalidValue
        When there is no such trial.
    """
    known, found = history.trials_by_number, list[Trial]()
    if isinstance(number, bool) or number not in known:
        raise InvalidValue(f"lineage: the study has no trial {number!r}")
    following: int | None = number
    while following in known:
        found.insert(0, known[following])
        following = found[0].parent
    return tuple(found)
