"""Studies in this process's memory: the reference that the other storages are compared with."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from welltuned.errors import UnknownStudy
from welltuned.storage.protocol import Changes, StudyRow, defined
from welltuned.storage.records import clean
from welltuned.trial import Origin, Outcome, Report, State, Trial


@dataclass
class _Study:
    row: StudyRow
    trials: dict[int, Trial] = field(default_factory=dict)
    changed: dict[int, int] = field(default_factory=dict)  # trial number -> revision, oldest change first
    revision: int = 0
    dropped: list[tuple[int, int, int]] = field(default_factory=list)  # revision, number, token
    waiting: set[int] = field(default_factory=set)
    running: set[int] = field(default_factory=set)
    used: set[int] = field(default_factory=set)  # numbers that count towards a budget
    by_key: dict[str, set[int]] = field(default_factory=dict)
    next: int = 0
    torn: bool = False  # a change has begun, and not come to its end

    def mend(self) -> None:
        """Derive all else from the trials, where an interrupt came in the middle of a change."""
        self.waiting, self.running, self.used, self.by_key, self.next = set(), set(), set(), {}, 0
        trials = sorted(self.trials.values(), key=lambda t: t.revision)
        for trial in trials:
            self.index(trial)
        self.changed = {t.number: t.revision for t in trials}
        self.torn = False

    def index(self, trial: Trial) -> None:
        """Keep the sets in step with a trial, so that a claim need not look at all of them."""
        for numbers, belongs in (
            (self.waiting, trial.state is State.WAITING),
            (self.running, trial.state is State.RUNNING),
            (self.used, trial.origin is not Origin.ADDED),
        ):
            (numbers.add if belongs else numbers.discard)(trial.number)
        if trial.key is not None:
            self.by_key.setdefault(trial.key, set()).add(trial.number)
        self.next = max(self.next, trial.number + 1)


class MemoryStorage:
    """Keep studies in memory. They are gone when the process ends."""

    def __init__(self) -> None:
        self._studies: list[_Study | None] = []  # None for one that was deleted: its number is not given again
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)

    def open(self, row: StudyRow) -> StudyRow:
        """See :meth:`Storage.open`."""
        with self._lock:
            for study in filter(None, self._studies):
                if study.row.name == row.name:
                    if row.spaces and not study.row.spaces and not study.trials:
                        study.row = defined(study.row, row)
                    return study.row
            stored = replace(row, id=len(self._studies) + 1, created=row.created or time.time())
            self._studies.append(_Study(stored))
            return stored

    def studies(self) -> list[StudyRow]:
        """See :meth:`Storage.studies`."""
        with self._lock:
            return [s.row for s in self._studies if s is not None]

    def row(self, study: int) -> StudyRow:
        """See :meth:`Storage.row`."""
        with self._lock:
            return self._study(study).row

    def _study(self, study: int) -> _Study:
        found = self._studies[study - 1] if 1 <= study <= len(self._studies) else None
        if found is None:
            raise UnknownStudy(f"there is no study {study} in memory")
        if found.torn:
            found.mend()
        return found

    def update(
        self,
        study: int,
        *,
        space: Mapping[str, Any] | None = None,
        stop_reason: str | None = None,
        clear_stop: bool = False,
        attributes: Mapping[str, Any] | None = None,
    ) -> StudyRow:
        """See :meth:`Storage.update`."""
        with self._lock:
            found = self._study(study)
            if space is not None:
                found.row = replace(found.row, spaces=(*found.row.spaces, dict(space)))
            if stop_reason is not None or clear_stop:
                found.row = replace(found.row, stop_reason=stop_reason)
            if attributes:
                found.row = replace(found.row, attributes={**found.row.attributes, **attributes})
            found.revision += 1
            self._changed.notify_all()
            return found.row

    def delete(self, study: int) -> int:
        """See :meth:`Storage.delete`."""
        with self._lock:
            trials = len(self._study(study).trials)
            self._studies[study - 1] = None
            self._changed.notify_all()
            return trials

    def read(self, study: int, since: int | None = 0, *, wait: float = 0.0) -> Changes:
        """See :meth:`Storage.read`."""
        with self._lock:
            found, fresh = self._study(study), []
            if since is None:
                since = found.revision
            elif wait > 0:
                self._changed.wait_for(lambda: self._study(study).revision > since, wait)
            for number in reversed(found.changed):
                if found.changed[number] <= since:
                    break
                fresh.append(found.trials[number])
            dropped = tuple(n for revision, n, _ in found.dropped if revision > since and n not in found.trials)
            return Changes(
                found.revision,
                tuple(sorted(fresh, key=lambda t: t.number)),
                found.row.stop_reason,
                len(found.row.spaces),
                dropped,
            )

    def running(self, study: int) -> list[tuple[int, int, str | None]]:
        """See :meth:`Storage.running`."""
        with self._lock:
            found = self._study(study)
            return [(n, found.trials[n].token, found.trials[n].owner) for n in sorted(found.running)]

    def _put(self, study: _Study, trial: Trial) -> Trial:
        study.revision += 1
        trial = trial.but(revision=study.revision)
        study.torn = True
        before = study.trials.get(trial.number)
        if before is not None and before.key is not None and before.key != trial.key:
            study.by_key[before.key].discard(trial.number)
        study.trials[trial.number] = trial
        study.index(trial)
        study.changed.pop(trial.number, None)
        study.changed[trial.number] = study.revision
        study.torn = False
        self._changed.notify_all()
        return trial

    def add(self, study: int, trials: Sequence[Trial], *, known: bool = True) -> list[int]:
        """See :meth:`Storage.add`."""
        with self._lock:
            found, numbers = self._study(study), []
            for trial in trials:
                if not known and trial.key is not None and found.by_key.get(trial.key):
                    continue
                numbers.append(found.next)
                assigned = None if trial.params is None else found.revision + 1
                self._put(found, _copied(trial.but(number=numbers[-1], assigned=assigned)))
            return numbers

    def claim(self, study: int, owner: str, lease: float, n: int = 1, budget: int | None = None) -> list[Trial]:
        """See :meth:`Storage.claim`."""
        with self._lock:
            found, now = self._study(study), time.time()
            claimed: list[Trial] = []
            for trial in [found.trials[number] for number in found.running]:
                if trial.started is not None and trial.started > now + max(lease, 0.0):  # the clock was set back
                    found.trials[trial.number] = trial.but(started=now, lease_until=now + lease)
                elif trial.lease_until is not None and trial.lease_until < now:
                    self._put(found, trial.but(state=State.WAITING, owner=None, lease_until=None))
            started = len(found.used) - len(found.used & found.waiting)  # few wait: a difference would copy all
            room = n if budget is None else max(min(n, budget - started), 0)
            claimed += [
                self._start(found, found.trials[number], owner, now, lease) for number in sorted(found.waiting)[:room]
            ]
            while len(claimed) < n and (budget is None or len(found.used) < budget):
                blank = Trial(
                    found.next,
                    State.WAITING,
                    token=max((token for _, number, token in found.dropped if number == found.next), default=0),
                    objectives=tuple(found.row.directions),
                    space_version=max(len(found.row.spaces), 1),
                )
                claimed.append(self._start(found, blank, owner, now, lease))
            return claimed

    def _start(self, study: _Study, trial: Trial, owner: str, now: float, lease: float) -> Trial:
        return self._put(
            study,
            trial.but(
                state=State.RUNNING,
                owner=owner,
                token=trial.token + 1,
                started=now,
                attempts=trial.attempts + 1,
                lease_until=now + lease,
            ),
        )

    def _held(self, study: int, number: int, token: int, *states: State) -> Trial | None:
        trial = self._study(study).trials.get(number)
        allowed = states or (State.RUNNING,)
        return trial if trial is not None and trial.state in allowed and trial.token == token else None

    def assign(
        self,
        study: int,
        number: int,
        token: int,
        params: Mapping[str, Any],
        key: str,
        space_version: int,
        *,
        unique: bool = True,
        provenance: Mapping[str, Any] | None = None,
    ) -> bool:
        """See :meth:`Storage.assign`."""
        with self._lock:
            found, trial = self._study(study), self._held(study, number, token)
            taken = unique and bool(found.by_key.get(key, set()) - {number})
            if trial is None or taken:
                return False
            self._put(
                found,
                trial.but(
                    params=dict(params),
                    key=key,
                    space_version=space_version,
                    provenance=None if provenance is None else dict(provenance),
                    assigned=found.revision + 1,
                ),
            )
            return True

    def report(self, study: int, number: int, token: int, report: Report) -> bool:
        """See :meth:`Storage.report`."""
        with self._lock:
            trial = self._held(study, number, token)
            if trial is None:
                return False
            if all(r.step != report.step for r in trial.reports):
                reports = tuple(sorted((*trial.reports, report), key=lambda r: r.step))
                self._put(self._study(study), trial.but(reports=reports))
            return True

    def finish(self, study: int, number: int, token: int, outcome: Outcome) -> bool:
        """See :meth:`Storage.finish`."""
        with self._lock:
            trial = self._held(study, number, token)
            if trial is None:
                return False
            self._put(
                self._study(study),
                trial.but(
                    state=outcome.state,
                    metrics=dict(outcome.metrics),
                    sems=dict(outcome.sems),
                    gradient=outcome.gradient,
                    reason=outcome.reason,
                    error=clean(outcome.error),
                    seconds=outcome.seconds,
                    attributes=dict(outcome.attributes),
                    lease_until=None,
                ),
            )
            return True

    def renew(self, study: int, claims: Sequence[tuple[int, int]], lease: float) -> list[int]:
        """See :meth:`Storage.renew`."""
        with self._lock:
            lost, found = [], self._study(study)
            for number, token in claims:
                trial = self._held(study, number, token)
                if trial is None:
                    lost.append(number)
                else:
                    # no new revision: a longer lease is nothing that a reader must see
                    found.trials[number] = trial.but(lease_until=time.time() + lease)
            return lost

    def release(self, study: int, number: int, token: int, *, drop: bool = False, begun: bool = True) -> bool:
        """See :meth:`Storage.release`."""
        with self._lock:
            found, trial = self._study(study), self._held(study, number, token, State.RUNNING, State.PAUSED)
            if trial is None:
                return False
            if drop and trial.params is None:
                found.revision += 1
                found.torn = True
                found.dropped.append((found.revision, number, token))  # first: it counts once the trial is gone
                del found.trials[number], found.changed[number]
                found.running.discard(number)
                found.used.discard(number)
                found.next = max(found.trials, default=-1) + 1
                found.torn = False
            else:
                attempts = trial.attempts - (not begun)
                self._put(found, trial.but(state=State.WAITING, owner=None, lease_until=None, attempts=attempts))
            return True

    def together(self, study: int) -> AbstractContextManager[None]:  # noqa: ARG002
        """See :meth:`Storage.together`. Nothing is faster here."""
        return nullcontext()

    def close(self) -> None:
        """See :meth:`Storage.close`."""


def _copied(trial: Trial) -> Trial:
    """Return a trial whose dicts nobody else holds."""
    return trial.but(
        params=None if trial.params is None else dict(trial.params),
        metrics=dict(trial.metrics),
        sems=dict(trial.sems),
        gradient=None if trial.gradient is None else dict(trial.gradient),
        error=clean(trial.error),
        attributes=dict(trial.attributes),
    )
