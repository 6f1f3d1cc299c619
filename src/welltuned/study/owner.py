"""Who holds a claim: a name by which another process on the same machine can tell whether its holder still lives."""

from __future__ import annotations

import os
import platform
import secrets
from pathlib import Path


def _machine() -> str:
    """Return the host and, where processes are numbered apart (containers), the numbering."""
    try:
        return f"{platform.node()}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return platform.node()


def _born(pid: int) -> str | None:
    """Return when a process started, in the kernel's ticks; None when it is gone (or a zombie), '?' where that
    is not told.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
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


def current() -> str:
    """Return a new name of this process: whoever holds claims under one of its own knows which are not its own."""
    return f"{_machine()}|{os.getpid()}|{_born(os.getpid())}|{secrets.token_hex(4)}"


def is_dead(owner: str | None) -> bool:
    """Tell whether ``owner`` was a process of this machine that is gone for certain."""
    machine, pid, born, *_ = [*(owner or "").split("|"), "", ""]
    return machine == _machine() and pid.isdigit() and _born(int(pid)) != born
