"""A thread that looks after a rank: for signs of life of others, and for trials that are over elsewhere."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from typing import TYPE_CHECKING

from welltuned.errors import WelltunedError

if TYPE_CHECKING:
    from welltuned.executors.session import Session

log = logging.getLogger("welltuned")
GRACE = 2.0  # seconds that ranks have to end a trial by themselves, once one of them has
STUCK = 30.0  # seconds for which a rank may then stay in one call
LOOK = 0.2  # seconds between two looks
BEAT = 5  # looks between two signs of life
LOST = (
    600  # looks without a sign of life after which a rank is taken for dead; while this process sleeps, none are missed
)
ABSENT = 9000  # the same for one that has shown none yet: it may have something else to do before


class Watch:
    """What the watching thread knows.

    Attributes
    ----------
    over
        Set once an objective has raised something, on any rank.
    why
        What to tell those who are to end their trial.
    lost
        Why this rank cannot go on, if so.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.over, self.why, self.lost = threading.Event(), "the trial is over on another rank", ""
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._number, self._since = 0, 0.0
        self._evaluates: int | None = None  # the thread in which an objective runs
        self._place: tuple[int, int] | None = None
        self._moved = 0.0
        self._signs: dict[int, tuple[bytes, int]] = {}  # by rank the last one, and the look at which it was new

    def start(self) -> None:
        """Begin to watch."""
        threading.Thread(target=self._run, name="welltuned-ranks", daemon=True).start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()
        with self._lock:  # nothing is under way in the store
            pass

    def begin(self, number: int) -> None:
        """Note that this thread evaluates the trial of an order from now on."""
        with self._lock:
            self.over.clear()
            self._number, self._evaluates, self._place = number, threading.get_ident(), None

    def end(self) -> None:
        """Note that the objective has ended."""
        with self._lock:
            self._evaluates = None

    @property
    def overdue(self) -> bool:
        """Whether all ranks have had the time to end the trial by themselves."""
        return self.over.is_set() and time.monotonic() - self._since > GRACE

    def _run(self) -> None:
        looks = 0
        while not self._stopped.wait(LOOK):
            try:
                with self._lock:
                    if self._stopped.is_set():
                        return
                    self._look_for_the_end()
                    if looks % BEAT == 0:
                        self._session.set(f"sign/{self._session.group.rank}", str(looks))
                    if looks % (10 * BEAT) == 0:
                        self._look_for_signs(looks)
                if self.overdue and self._evaluates is not None:
                    self._call_back()
            except WelltunedError as error:
                self.lost = str(error)
                return
            looks += 1

    def _look_for_the_end(self) -> None:
        if self._number and not self.over.is_set() and self._session.has(f"{self._number}/over"):
            rank = self._session.get(f"{self._number}/over").decode()
            self._since, self.why = time.monotonic(), f"the trial is over on rank {rank}"
            self.over.set()

    def _look_for_signs(self, looks: int) -> None:
        group = self._session.group
        for rank in [0] if group.rank else range(1, group.size):
            sign = self._session.get(f"sign/{rank}") if self._session.has(f"sign/{rank}") else b""
            before, since = self._signs.get(rank, (b"", 0))
            if sign != before:
                self._signs[rank] = sign, looks
            elif looks - since >= (LOST if sign else ABSENT):
                self.lost = f"rank {rank} has shown no sign of life for {(looks - since) * LOOK:.0f} seconds"

    def _call_back(self) -> None:
        """Get the objective out of a collective, or end this process if it stays in one."""
        if self._place is None:
            self._session.group.abort()
        frame, now = sys._current_frames().get(self._evaluates or 0), time.monotonic()
        place = (0, 0) if frame is None else (id(frame), frame.f_lasti)
        if place != self._place:
            self._place, self._moved = place, now
        elif now - self._moved > STUCK:
            self._give_up()

    def _give_up(self) -> None:
        group = self._session.group
        log.error(
            "%s, but rank %d stays in a call of PyTorch's that cannot be ended; this process ends, so that the program "
            "can be started again (torchrun --max-restarts), and the study goes on then",
            self.why,
            group.rank,
        )
        with contextlib.suppress(WelltunedError):
            self._session.add("stuck", 1)
            deadline = time.monotonic() + 5 * GRACE  # rank 0 stores how the trial ended
            while group.rank and not self._session.has(f"{self._number + 1}/what") and time.monotonic() < deadline:
                time.sleep(LOOK)
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(1)
