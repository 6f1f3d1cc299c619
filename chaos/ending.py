"""Leave nothing behind: a run that is ended takes its workers and servers with it."""

from __future__ import annotations

import contextlib
import ctypes
import signal

PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, see prctl(2)


def end_with_parent() -> None:
    """Let the system kill this process when the one that started it is gone, even where it is stopped."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)


def interrupt_on_termination() -> None:
    """Let SIGTERM end a run as Ctrl-C does, with all that has to be closed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
