"""A disk of its own for each round, small enough to be filled."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import subprocess
from pathlib import Path

SIZE = 64 << 20  # bytes
NEW_MOUNTS = 0x00020000  # CLONE_NEWNS, see unshare(2)


def may_mount() -> bool:
    """Give this process mounts of its own, which end with it; tell whether it may mount anything."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return False
    with contextlib.suppress(OSError, AttributeError):
        if ctypes.CDLL(None, use_errno=True).unshare(NEW_MOUNTS) == 0:
            return _run("mount", "--make-rprivate", "/")
    return False


class Disk:
    """A small tmpfs where this process may mount one, or else a folder, which never is full."""

    def __init__(self, folder: Path, mount: bool) -> None:
        folder.mkdir()
        self.folder = folder
        self.is_small = mount and _run("mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder))
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Leave no byte free."""
        file = os.open(self._ballast, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        block = 1 << 20
        while block:
            try:
                os.write(file, bytes(block))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                block //= 2
        os.close(file)

    def free(self) -> None:
        """Make room again."""
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount."""
        if self.is_small:
            _run("umount", "--lazy", str(self.folder))
            self.is_small = False


def _run(*command: str) -> bool:
    with contextlib.suppress(OSError):
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    return False
