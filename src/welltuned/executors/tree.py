"""What a process has started, and what that has started: found, measured, ended."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def descendants(pid: int) -> list[int]:
    """Return a process and all below it; where there is no ``/proc``, the process alone."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for thread in list(Path(f"/proc/{one}/task").iterdir()):
                with contextlib.suppress(OSError, ValueError):  # it may have ended since, and the others have not
                    found += [int(p) for p in (thread / "children").read_text().split()]
    return found


def born(pid: int) -> str | None:
    """Return when a process started, in the kernel's ticks; None when it is gone (or a zombie), '?' where that
    is not told.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return None
    except OSError:
        return "?"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return "?"


def resident(pid: int, limit: int) -> int:
    """Return the resident bytes of a process and its descendants; 0 for one that is gone.

    Beyond the limit, memory that several of them share counts once, which takes the kernel much longer to find out.
    """
    found = descendants(pid)
    total = sum(map(_resident, found))
    return total if total <= limit else sum(map(_proportional, found))


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _proportional(pid: int) -> int:
    """Return the resident bytes of a process, with its share of those that others have too."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    except (OSError, ValueError, IndexError, StopIteration):  # not every kernel tells
        return _resident(pid)


def kill(pid: int) -> None:
    """End a process that leads a group, its group, and what it started in other ones; this process ends itself last."""
    if pid != os.getpid():
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGSTOP)  # it must not start anything more meanwhile
    for one in descendants(pid)[1:]:
        with contextlib.suppress(OSError):
            os.kill(one, signal.SIGKILL)
    kill_group(pid)


def has_group(pid: int) -> bool:
    """Tell whether anything is left of the group of a process."""
    try:
        os.killpg(pid, 0)
    except OSError:
        return False
    return True


def kill_group(pid: int) -> None:
    """End what is left of the group of a process that has ended."""
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
