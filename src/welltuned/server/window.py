"""Studies as those see them who only look on: a report, a list, what is under way.

Whoever works on a study notices nothing of it. What is seen here has been read anew, by itself: no lock is held that a
worker waits for, and nothing can be changed.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from welltuned import report
from welltuned.errors import InvalidValue, StorageError, WelltunedError
from welltuned.history import History
from welltuned.report import Section, Subject
from welltuned.samplers import SAMPLERS, Sampler, make_sampler
from welltuned.server.refusals import NotFound
from welltuned.storage import Changes, Storage, StudyRow
from welltuned.storage.wire import report_to_json, to_json
from welltuned.study.checks import SCHEDULER
from welltuned.study.ledger import BUDGET, Ledger
from welltuned.study.notes import notes_of
from welltuned.trial import State, Trial

log = logging.getLogger("welltuned")
PAGE = 100
SHARE = 10  # a picture is drawn for at most one part in so many of the time
SOONEST = 1.0  # seconds from one picture to the next
KEPT = 200_000  # trials that are kept in memory for those who look on
PATIENCE = 0.5  # seconds for one look at all studies; the next one goes on
LISTING = 2.0  # seconds from one look at all studies to the next
PICTURES = 64
RUNNING = 50  # trials under way that are listed


class ReadOnly:
    """What a storage holds, for whoever must not change it."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def studies(self) -> list[StudyRow]:
        """See :meth:`Storage.studies`."""
        return self._storage.studies()

    def row(self, study: int) -> StudyRow:
        """See :meth:`Storage.row`."""
        return self._storage.row(study)

    def read(self, study: int, since: int | None = 0, *, wait: float = 0.0) -> Changes:
        """See :meth:`Storage.read`."""
        return self._storage.read(study, since, wait=wait)

    def __getattr__(self, name: str) -> Any:
        raise StorageError(f"whoever looks on cannot {name}")


@dataclass(frozen=True)
class Digest:
    """A study in a few numbers, at one revision."""

    revision: int
    n_spaces: int
    counts: Mapping[str, int]
    best: Trial | None
    front: int | None
    active: float

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        best = None if self.best is None else {"number": self.best.number, "value": self.best.value}
        return {"counts": dict(self.counts), "best": best, "front": self.front, "active": self.active}


class View:
    """One study, read as far as it has been looked at."""

    def __init__(self, storage: ReadOnly, row: StudyRow) -> None:
        self.id = row.id
        self.looked = self.checked = 0.0
        self.stop_reason = row.stop_reason
        self.error: str | None = None
        self.digest: Digest | None = None
        self._storage = storage
        self._ledger: Ledger | None = None
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """How many trials it keeps in memory."""
        digest = self.digest
        return 0 if self._ledger is None or digest is None else sum(digest.counts.values())

    def forget(self) -> None:
        """Let go of the trials, unless somebody reads them now; the digest stays."""
        if self._lock.acquire(blocking=False):
            self._ledger = None
            self._lock.release()

    def look(self, row: StudyRow) -> tuple[History, int]:
        """Read what changed; return the history and its revision. ``row`` is what is stored of the study now."""
        with self._lock:
            ledger = self._ledger
            if ledger is None or (len(row.spaces) > len(ledger.row.spaces) and not ledger.is_open):
                ledger = self._ledger = self._opened(row)
            seen = ledger.sync()
            _ = seen.unit  # its arrays are copied while nobody reads on
            revision, self.stop_reason = ledger.revision, ledger.stop_reason
            n_spaces = len(ledger.row.spaces)
            if self.digest is None or (self.digest.revision, self.digest.n_spaces) != (revision, n_spaces):
                self.digest = _digest(seen, revision, ledger.row)
            return seen, revision

    def is_new(self) -> bool:
        """Tell whether anything has changed since the digest."""
        self.checked = time.monotonic()
        head = self._storage.read(self.id, None)
        return self.digest is None or (head.revision, head.n_spaces) != (self.digest.revision, self.digest.n_spaces)

    def subject(self, row: StudyRow) -> tuple[Subject, int]:
        """Return what a report is about, and its revision."""
        seen, revision = self.look(row)
        there = bool(row.spaces)
        return Subject(row.name, row.seed, self.stop_reason, seen, _sampler(row), there, notes_of(row)), revision

    def _opened(self, row: StudyRow) -> Ledger:
        ledger = Ledger(cast(Storage, self._storage), row, None)
        try:
            if row.spaces:
                ledger.use_stored_space()
        except WelltunedError:
            raise
        except Exception:
            log.exception("study %r cannot be opened", row.name)
            raise InvalidValue(f"study {row.name!r} cannot be read by this version of welltuned") from None
        return ledger


def _sampler(row: StudyRow) -> Sampler | str:
    """Return the sampler of a study; its name where it is a user's own, or of a version with other settings."""
    name = str(row.sampler.get("name", "unknown"))
    try:
        return make_sampler(row.sampler) if name in SAMPLERS else name
    except WelltunedError:
        return name


def _digest(seen: History, revision: int, row: StudyRow) -> Digest:
    single = len(seen.directions) == 1
    counts = {state.value: 0 for state in State}
    active = row.created
    for trial in seen.trials:
        counts[trial.state.value] += 1
        active = max(active, (trial.started or 0.0) + (trial.seconds or 0.0))
    return Digest(
        revision, len(row.spaces), counts, seen.best if single else None, None if single else len(seen.front), active
    )


class Picture:
    """Something that is drawn of studies, and kept until they have changed and it is time to draw again."""

    def __init__(self) -> None:
        self.used = 0.0
        self._lock = threading.Lock()
        self._revision = -1
        self._content = b""
        self._error: WelltunedError | None = None
        self._due = 0.0

    def answer(self, since: int | None, revision: Callable[[], int], draw: Callable[[], tuple[str, int]]) -> bytes:
        """Return the picture as JSON, or that it is the one of revision ``since``; drawn anew where it is time.

        One at a time draws it; whoever comes meanwhile gets the last one.
        """
        if self._lock.acquire(blocking=self._revision < 0):
            try:
                if time.monotonic() >= self._due and revision() != self._revision:
                    self._draw(draw)
            finally:
                self._lock.release()
        if self._error is not None:
            raise self._error.with_traceback(None)  # it would grow with everybody who asks, and hold what was drawn
        wait = f'"revision":{self._revision},"next":{max(SOONEST, self._due - time.monotonic()):.2f}'
        return f"{{{wait}}}".encode() if since == self._revision else f"{{{wait},".encode() + self._content

    def _draw(self, draw: Callable[[], tuple[str, int]]) -> None:
        began = time.monotonic()
        try:
            content, revision = draw()
            self._content, self._revision, self._error = content.encode(), revision, None
        except WelltunedError as error:
            self._error = error
        except Exception:
            log.exception("a report cannot be drawn")
            self._error = InvalidValue("the report cannot be drawn; the server's log says why")
        now = time.monotonic()
        self._due = now + max(SOONEST, (SHARE - 1) * (now - began))


class Window:
    """Look at the studies of a storage."""

    def __init__(self, storage: Storage) -> None:
        self._storage = ReadOnly(storage)
        self._views: dict[tuple[int, float], View] = {}
        self._pictures: dict[tuple[Any, ...], Picture] = {}
        self._lock, self._listing = threading.Lock(), threading.Lock()
        self._list: list[dict[str, Any]] | None = None
        self._due = 0.0

    # one study

    def _row(self, name: str) -> StudyRow:
        for row in self._storage.studies():
            if row.name == name:
                return row
        raise NotFound(f"there is no study {name!r}")

    def _view(self, row: StudyRow) -> View:
        with self._lock:
            view = self._views.setdefault((row.id, row.created), View(self._storage, row))
            view.looked = time.monotonic()
            kept = 0
            for other in sorted(self._views.values(), key=lambda v: -v.looked):
                kept += other.held
                if kept > KEPT and other is not view:
                    other.forget()
        return view

    def summary(self, name: str, reports: int | None = None) -> dict[str, Any]:
        """Return what is known of a study, with the last few reports of each trial where ``reports`` is given."""
        row = self._row(name)
        view = self._view(row)
        history, revision = view.look(row)
        digest = view.digest
        assert digest is not None
        single = len(history.directions) == 1
        running = [t for t in history.trials if t.state is State.RUNNING] if digest.counts["running"] else []
        budget = row.attributes.get(BUDGET)
        return {
            "name": row.name,
            "directions": dict(row.directions),
            "seed": row.seed,
            "sampler": dict(row.sampler),
            "scheduler": row.attributes.get(SCHEDULER),
            "space": history.space.to_json() if row.spaces else None,
            "stop_reason": row.stop_reason,
            "notes": notes_of(row),
            "counts": dict(digest.counts),
            "best": to_json(_cut(history.best, reports)) if single and history.best else None,
            "front": None if single else [to_json(_cut(trial, reports)) for trial in history.front],
            "n_trials": budget if isinstance(budget, int) and budget > 0 else None,
            "spent": history.spent,
            "running": [_under_way(trial) for trial in running[-RUNNING:]],
            "revision": revision,
            "created": row.created,
            "time": time.time(),
        }

    def trials(
        self, name: str, since: int = 0, offset: int = 0, limit: int = PAGE, reports: int | None = None
    ) -> dict[str, Any]:
        """Return a page of the trials that changed after a revision, the numbers gone since, and the revision now."""
        row = self._row(name)
        # first: what changes meanwhile is then read twice rather than never
        changes = self._storage.read(row.id, since or None)
        history, _ = self._view(row).look(row)
        found = [trial for trial in history.trials if trial.revision > since]
        page, there = found[offset : offset + limit], {trial.number for trial in found}
        return {
            "revision": changes.revision,
            "total": len(found),
            "trials": [to_json(_cut(trial, reports)) for trial in page],
            "dropped": [number for number in changes.dropped if number not in there],
        }

    # all studies

    def overview(self) -> dict[str, Any]:
        """Return all studies in a few numbers, and in how many seconds to look again.

        Those that there was no time for have none yet, or those of before; their turn comes first the next time.
        """
        # a study of very many trials takes long to read: meanwhile, others get the last list
        if self._listing.acquire(blocking=self._list is None):
            try:
                if self._list is None or time.monotonic() >= self._due:
                    self._list = self._listed()
            finally:
                self._listing.release()
        return {"studies": self._list, "time": time.time(), "next": max(SOONEST, self._due - time.monotonic())}

    def _listed(self) -> list[dict[str, Any]]:
        began, rows = time.monotonic(), self._storage.studies()
        with self._lock:
            blank = {(row.id, row.created): View(self._storage, row) for row in rows}
            self._views = {key: self._views.get(key, view) for key, view in blank.items()}
            views = [self._views[row.id, row.created] for row in rows]
        turns = sorted(zip(views, rows, strict=True), key=lambda pair: (pair[0].checked, -pair[1].created))
        for view, row in turns:
            if time.monotonic() - began > PATIENCE:
                break
            self._glance(view, row)
        now, new = time.monotonic(), any(view.checked == 0.0 for view in views)
        # the sooner all have been looked at once, the better
        self._due = now + (LISTING if new else max(LISTING, (SHARE - 1) * (now - began)))
        return [_brief(row, view) for row, view in zip(rows, views, strict=True)]

    def _glance(self, view: View, row: StudyRow) -> None:
        try:
            if view.is_new():
                self._view(row).look(row)
            view.error = None
        except WelltunedError as error:  # one that cannot be read hides no other
            view.error = str(error)

    # what takes longer

    def report(self, name: str, since: int | None = None) -> bytes:
        """Return the sections of a study's report as JSON."""
        row = self._row(name)
        view = self._view(row)

        def draw() -> tuple[str, int]:
            subject, revision = view.subject(self._row(name))
            parts = report.sections(subject, figures=_can_draw(), table=False)
            head = {"name": subject.name, "summary": report.summary(subject)}
            return f"{json.dumps(head)[1:-1]},{written(parts)}}}", revision

        return self._picture("report", row.id, row.created).answer(
            since, lambda: self._storage.read(row.id, None).revision, draw
        )

    def comparison(self, names: Sequence[str], since: int | None = None) -> bytes:
        """Return what there is to say of several studies beside one another, as JSON."""
        rows = [self._row(name) for name in dict.fromkeys(names)]

        def draw() -> tuple[str, int]:
            seen = [self._view(row).subject(self._row(row.name)) for row in rows]
            parts = report.comparison([subject for subject, _ in seen], figures=_can_draw())
            return f"{written(parts)}}}", sum(revision for _, revision in seen)

        def revision() -> int:
            return sum(self._storage.read(row.id, None).revision for row in rows)

        return self._picture("comparison", *((row.id, row.created) for row in rows)).answer(since, revision, draw)

    def _picture(self, *key: Any) -> Picture:
        with self._lock:
            picture = self._pictures.setdefault(key, Picture())
            picture.used = time.monotonic()
            if len(self._pictures) > PICTURES:
                del self._pictures[min(self._pictures, key=lambda k: self._pictures[k].used)]
            return picture


def _brief(row: StudyRow, view: View) -> dict[str, Any]:
    told = {"counts": None, "best": None, "front": None, "active": row.created}
    return {
        "name": row.name,
        "directions": dict(row.directions),
        "stop_reason": row.stop_reason,
        "created": row.created,
        "error": view.error,
        **(told if view.digest is None else view.digest.to_json()),
    }


def _cut(trial: Trial, reports: int | None) -> Trial:
    """Return a trial with its last few reports; all of them for None."""
    if reports is None or reports >= len(trial.reports):
        return trial
    return trial.but(reports=trial.reports[len(trial.reports) - reports :])


def _can_draw() -> bool:
    return importlib.util.find_spec("plotly") is not None


def _under_way(trial: Trial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "params": None if trial.params is None else dict(trial.params),
        "started": trial.started,
        "lease_until": trial.lease_until,
        "attempts": trial.attempts,
        "owner": trial.owner,
        "report": report_to_json(trial.reports[-1]) if trial.reports else None,
    }


def written(parts: Iterator[Section]) -> str:
    """Write sections as members of a JSON object, figures as plotly writes them."""
    return f'"figures":{json.dumps(_can_draw())},"sections":[{",".join(map(_written, parts))}]'


def _written(part: Section) -> str:
    body = {"key": part.key, "title": part.title, "note": part.note, "html": part.html, "half": part.half}
    figure = "null" if part.figure is None else part.figure.to_json(engine="json")
    return f'{json.dumps(body)[:-1]},"figure":{figure}}}'


__all__ = ["PAGE", "Window"]
