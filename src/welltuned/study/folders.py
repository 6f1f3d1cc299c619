"""The folders of trials, and how a child's begins as its parent's was at a step, whoever else works there meanwhile.

Nobody locks anything. A folder appears under its name by a rename, so it is there as a whole or not at all. Before a
trial that rests goes on, a copy of its folder is there, its snapshot at that step. So whoever copies the folder of a
parent, and finds no snapshot *afterwards*, has copied it while it was at rest; otherwise the snapshot is copied.
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Collection
from pathlib import Path

from welltuned.errors import StorageError

SNAPSHOT = re.compile(r"\.?(\d+)@(-?\d+)")  # with a point, one that is not finished or goes
UNFINISHED = re.compile(r"\.(\d+)-")  # of the folder of a child


class Folders:
    """The checkpoints of one study below ``root``: ``7`` is that of trial 7, ``7@10`` what it was at step 10."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def of(self, number: int) -> Path:
        """Return the folder of a trial."""
        return self.root / str(number)

    def at(self, number: int, step: int) -> Path:
        """Return where the snapshot of a trial at a step is, if there is one."""
        return self.root / f"{number}@{step}"

    def keep(self, number: int, step: int) -> None:
        """Make a snapshot of a trial that rests at a step, unless there is one.

        Raises
        ------
        StorageError
            When it cannot be written.
        """
        if self.of(number).exists():
            self._put(self.at(number, step), self.of(number))

    def inherit(self, number: int, parent: int, step: int) -> None:
        """Make the folder of a trial from what that of its parent was at a step, unless it is there.

        Raises
        ------
        StorageError
            When it cannot be written.
        """
        self._put(self.of(number), self.of(parent), self.at(parent, step))

    def _put(self, target: Path, source: Path, instead: Path | None = None) -> None:
        """Let ``target`` be a copy of ``source``, or of what is there ``instead`` after that was copied."""
        if target.exists():
            return
        unfinished = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
        try:
            try:
                if instead is None or not instead.exists():
                    _copy(source, unfinished)
            except OSError:  # files may go while the parent goes on
                if instead is None or not instead.exists():
                    raise
            if instead is not None and instead.exists():
                shutil.rmtree(unfinished, ignore_errors=True)
                _copy(instead, unfinished)
            unfinished.rename(target)
        except OSError as error:
            if not target.exists():  # nobody else was quicker
                raise StorageError(f"cannot copy the checkpoint {source} to {target}: {error}") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def forget(self, needed: Collection[tuple[int, int]]) -> None:
        """Remove all snapshots but those that are needed, and what killed processes left unfinished of the others.

        So goes what they left of a child's folder, once that is there.
        """
        for path in self.root.glob("*[@-]*"):
            if not self._is_left(path.name, needed):
                continue
            gone = path if path.name.startswith(".") else path.with_name(f".{path.name}-{secrets.token_hex(4)}")
            try:
                path.rename(gone)  # never half of it under its name
            except OSError:
                continue
            shutil.rmtree(gone, ignore_errors=True)

    def _is_left(self, name: str, needed: Collection[tuple[int, int]]) -> bool:
        if found := SNAPSHOT.match(name):
            return (int(found[1]), int(found[2])) not in needed
        return (found := UNFINISHED.match(name)) is not None and self.of(int(found[1])).exists()


def _copy(source: Path, target: Path) -> None:
    """Copy a folder; an objective that keeps nothing has none."""
    if source.exists():
        shutil.copytree(source, target, symlinks=True)
    else:
        target.mkdir(parents=True)
