"""What all trackers have in common: which trials are to be written, and what happens when that fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from welltuned.errors import InvalidType, TrackerError, WelltunedError
from welltuned.study import Study
from welltuned.trackers.run import ALL, Run, Subject, holding, key_of, run_of, subject_of
from welltuned.trial import Trial

log = logging.getLogger("welltuned")
LOOK = 30.0  # seconds between two looks for what nobody has written, and after a failure at least
SHARE = 10  # a tracker that fails is left alone for so many times as long as its failure took


@runtime_checkable
class Sink(Protocol):
    """The narrow waist between studies and where their runs are kept.

    One of your own proves itself by :class:`welltuned.testing.SinkContract`.
    """

    @property
    def where(self) -> str:
        """What it is and where, for messages."""

    def held(self, subject: Subject) -> Mapping[int, str]:
        """Return what is held of a study: by the number of each trial, the ``held`` of the run that was written."""

    def write(self, subject: Subject, run: Run) -> None:
        """Write a run, or what is missing of it; what is held of the study was asked before.

        What is held is not written again, by any process.
        """


@dataclass
class _Log:
    """What a process knows of one study in one tracker."""

    held: dict[int, str] = field(default_factory=dict)
    #: trials that had ended and were not held when it was last looked
    missed: frozenset[int] = frozenset()
    look: float = 0.0  # from when on it is to be looked again
    down: bool = False


class Tracker:
    """Write the trials of studies to an experiment tracker. :func:`to_mlflow` and the others make one.

    As a callback of :meth:`welltuned.Study.optimize` it writes each trial when it ends. With its first call it writes
    what has ended before and is missing there. Later it looks at most every half a minute for what others have left
    out. :meth:`all` writes whatever is missing, of any study that is stored.

    Parameters
    ----------
    sink
        Where to write.

    Raises
    ------
    InvalidType
        When ``sink`` has no ``held`` and ``write``.
    TrackerError
        By the first call, when the tracker cannot be reached or takes nothing. Later that is a warning, the search
        goes on, and what is missing follows when the tracker is back.

    Examples
    --------
    >>> from welltuned import Study
    >>> class Paper:
    ...     where = "paper"
    ...
    ...     def held(self, subject):
    ...         return {}
    ...
    ...     def write(self, subject, run):
    ...         print(run.name, run.state.value, run.metrics["value"])
    >>> study = Study({"x": [2.0]}, sampler="grid")
    >>> study.optimize(lambda trial: trial["x"] ** 2, callbacks=[Tracker(Paper())])
    trial 0 complete 4.0
    """

    def __init__(self, sink: Sink) -> None:
        if not isinstance(sink, Sink):
            raise InvalidType(f"Tracker: sink={sink!r} has no held() and write(); make one by to_mlflow() and the like")
        self._sink = sink
        self._logs: dict[str, _Log] = {}

    @property
    def where(self) -> str:
        """What it writes to."""
        return self._sink.where

    def __repr__(self) -> str:
        return f"Tracker({self.where})"

    def __call__(self, study: Study, trial: Trial) -> None:
        """Write a trial that has ended, and what else is due."""
        key = key_of(study)
        if key not in self._logs:
            self._logs[key] = self._meet(study)
            return
        known, began = self._logs[key], time.monotonic()
        if known.down and began < known.look:
            return
        try:
            if known.down:
                self._write(study, known, self._missing(study, known))
            else:
                self._write(study, known, [trial, *self._left_out(study, known, trial)])
        except Exception as error:  # noqa: BLE001 - whatever a tracker raises must not end the search
            pause = max(LOOK, SHARE * (time.monotonic() - began))
            if not known.down:
                self._warn(study, error)
            known.down, known.look = True, time.monotonic() + pause
        else:
            if known.down:
                log.warning("study %r: %s takes trials again, and has all of them", study.name, self.where)
            known.down = False

    def all(self, study: Study) -> int:
        """Write all trials of a study that have ended or rest and are not there yet; return how many were written.

        Raises
        ------
        TrackerError
            When the tracker cannot be reached, or refuses one of them; the others are written then.
        """
        if not isinstance(study, Study):
            raise InvalidType(f"all: {study!r} is no study; open it by Study(storage=…, name=…)")
        known = _Log()
        written, error = self._catch_up(study, known)
        if error is not None:
            raise self._refusal(study, error) from error
        self._logs[key_of(study)] = known
        return written

    def _meet(self, study: Study) -> _Log:
        """Write all that is missing; that something is wrong with the tracker is an error this once."""
        known = _Log(look=time.monotonic() + LOOK)
        written, error = self._catch_up(study, known)
        if error is not None:
            if not written:
                raise self._refusal(study, error) from error
            self._warn(study, error)
            known.down = True
        return known

    def _catch_up(self, study: Study, known: _Log) -> tuple[int, Exception | None]:
        """Write all that is missing; return how many trials were written, and what the tracker raised, if it did.

        An error of ours says already what to do, and is raised.
        """
        todo: list[Trial] = []
        try:
            todo = self._missing(study, known)
            self._write(study, known, todo)
        except WelltunedError:
            raise
        except Exception as error:  # noqa: BLE001 - what it means is for the caller to say
            return sum(_has(known.held, t) for t in todo), error
        return len(todo), None

    def _missing(self, study: Study, known: _Log) -> list[Trial]:
        """Ask what is held, and return the trials that are not."""
        known.held.update(self._sink.held(subject_of(study)))
        return [t for t in study.trials if t.state.resting and not _has(known.held, t)]

    def _left_out(self, study: Study, known: _Log, own: Trial) -> list[Trial]:
        """Return what was missing at the last look already: others write what is theirs as it ends, if they do."""
        if time.monotonic() < known.look:
            return []
        known.look = time.monotonic() + LOOK
        resting = [t for t in study.trials if t.state.resting and t.number != own.number]
        if any(t.number in known.missed and not _has(known.held, t) for t in resting):
            resting = [t for t in self._missing(study, known) if t.number != own.number]
        late = [t for t in resting if not _has(known.held, t)]
        known.missed, before = frozenset(t.number for t in late), known.missed
        return [t for t in late if t.number in before]

    def _write(self, study: Study, known: _Log, trials: Iterable[Trial]) -> None:
        """Write trials. What one of them raises is raised in the end; after two in a row, no more are tried."""
        first, last_failed, subject = None, False, subject_of(study)
        for trial in trials:
            try:
                self._sink.write(subject, run_of(study, trial))
            except Exception as error:  # noqa: BLE001 - raised below
                first = first or error
                if last_failed:
                    break
                last_failed = True
            else:
                known.held[trial.number], last_failed = holding(trial), False
        if first is not None:
            raise first

    def _warn(self, study: Study, error: Exception) -> None:
        text = "study %r: %s failed (%s: %s); the search goes on, and what is missing there follows when it is back"
        log.warning(text, study.name, self.where, type(error).__name__, error)

    def _refusal(self, study: Study, error: Exception) -> TrackerError:
        what = f"{type(error).__name__}: {error}"
        return TrackerError(
            f"study {study.name!r} cannot be written to {self.where} ({what}); its trials are stored, and follow "
            "when you start again with a tracker that works"
        )


def _has(held: Mapping[int, str], trial: Trial) -> bool:
    return held.get(trial.number) in (ALL, holding(trial))
