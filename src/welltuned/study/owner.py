"""Who holds a claim: a name by which another process on the same machine can tell whether its holder still lives."""

from __future__ import annotations

import os
import platform
import secrets
from pathlib import Path

from welltuned.executors import tree


def _machine() -> str:
    """Return the host and, where processes are numbered apart (containers), the numbering."""
    try:
        return f"{platform.node()}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return platform.node()


def current() -> str:
    """Return a new name of this process: whoever holds claims under one of its own knows which are not its own."""
    return f"{_machine()}|{os.getpid()}|{tree.born(os.getpid())}|{secrets.token_hex(4)}"


def is_dead(owner: str | None) -> bool:
    """Tell whether ``owner`` was a process of this machine that is gone for certain."""
    machine, pid, born, *_ = [*(owner or "").split("|"), "", ""]
    return machine == _machine() and pid.isdigit() and tree.born(int(pid)) != born
