"""Studies in a SQLite file: the embedded default. Safe for threads and for any number of processes on one machine."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from welltuned.errors import InvalidValue, StorageError
from welltuned.storage.protocol import Changes, StudyRow
from welltuned.storage.schema import migrate
from welltuned.trial import Origin, Outcome, Reason, Report, State, Trial

COLUMNS = (
    "number, state, params, key, metrics, sems, gradient, reason, error, origin, attempts, owner, token, lease_until, "
    "started, seconds, attributes, space_version, revision"
)
NEXT_REVISION = "(SELECT revision FROM study WHERE id = :study)"
START = (
    "state = 'running', owner = :owner, token = token + 1, attempts = attempts + 1, started = :now, "
    f"lease_until = :until, revision = {NEXT_REVISION}"
)
CREATE_STUDY = """
    INSERT OR IGNORE INTO study (name, directions, seed, sampler, created, attributes) VALUES (?, ?, ?, ?, ?, ?)"""
CLAIM_WAITING = f"""
    UPDATE trial SET {START} WHERE study = :study AND number IN (
        SELECT number FROM trial WHERE study = :study AND state = 'waiting' ORDER BY number LIMIT MAX(0, MIN(:n,
            COALESCE(:budget - (SELECT COUNT(*) FROM trial WHERE study = :study AND state <> 'waiting'
                                AND origin <> 'added'), :n))))
    RETURNING number"""
CLAIM_NEW = f"""
    INSERT INTO trial (study, number, state, origin, owner, token, attempts, started, lease_until, space_version,
                       revision)
    SELECT :study, COALESCE(MAX(number) + 1, 0), 'running', 'sampler', :owner, 1 + (
               SELECT COALESCE(MAX(d.token), 0) FROM dropped d
               WHERE d.study = :study AND d.number = COALESCE(MAX(trial.number) + 1, 0)), 1, :now, :until,
           MAX(1, (SELECT COUNT(*) FROM space WHERE study = :study)), {NEXT_REVISION}
    FROM trial WHERE study = :study
    HAVING :budget IS NULL OR COUNT(*) FILTER (WHERE origin <> 'added') < :budget
    RETURNING number"""
EXPIRE = f"""
    UPDATE trial SET state = 'waiting', owner = NULL, lease_until = NULL, revision = {NEXT_REVISION}
    WHERE study = :study AND state = 'running' AND lease_until < :now"""
HELD = "study = :study AND number = :number AND token = :token AND state = 'running'"


class SQLiteStorage:
    """Keep studies in the SQLite file at ``path``, created when missing.

    Uses write-ahead logging, so that readers never wait for writers; a writer waits up to ``patience`` seconds for its
    turn. A result is on disk when the call returns, as far as the process may die; a power cut may take the last
    moments, never the file.

    Raises
    ------
    StorageError
        When the file cannot be opened or written, is no database, belongs to something else or to a newer version.
    """

    def __init__(self, path: str | os.PathLike[str], patience: float = 60.0) -> None:
        self.path = Path(path).expanduser()
        self._patience = patience
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        if "\0" in str(path):
            raise InvalidValue(f"storage {str(path)!r} has a null character in it")
        if not self.path.parent.is_dir():
            raise StorageError(
                f"storage {str(path)!r}: the folder {str(self.path.parent)!r} does not exist; create it first"
            )
        with self._guard():
            self._db()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self.path), self._patience)

    def _db(self) -> sqlite3.Connection:
        """Return this thread's connection; a forked child opens its own."""
        if getattr(self._local, "pid", None) != os.getpid():
            db = sqlite3.connect(self.path, timeout=self._patience, isolation_level=None, check_same_thread=False)
            try:
                # whose file it is comes first: one of something else is not to be touched
                migrate(db, f"storage {str(self.path)!r}")
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = NORMAL")
            except BaseException:
                db.close()
                raise
            self._local.db, self._local.pid = db, os.getpid()
            with self._lock:
                self._connections.append(db)
        return self._local.db

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Turn SQLite's errors into ours, with the file in them and what to do."""
        try:
            yield
        except sqlite3.Error as error:
            text = str(error)
            hint = {
                "unable to open": "check that the folder exists and may be written",
                "readonly": "the file or its folder is read-only",
                "not a database": "give another file, or remove this one",
                "is full": "free some space; everything stored so far is kept",
                "malformed": "the file is damaged; restore it from a copy",
            }
            advice = next((a for part, a in hint.items() if part in text), "everything stored so far is kept")
            raise StorageError(f"storage {str(self.path)!r}: {text}; {advice}") from error

    @contextmanager
    def _write(self, study: int | None = None) -> Iterator[sqlite3.Connection]:
        """Run one transaction, with the study's revision raised by one."""
        with self._guard():
            db = self._db()
            db.execute("BEGIN IMMEDIATE")
            try:
                if (
                    study is not None
                    and db.execute("UPDATE study SET revision = revision + 1 WHERE id = ?", (study,)).rowcount == 0
                ):
                    raise StorageError(f"storage {str(self.path)!r}: there is no study {study}")
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def open(self, row: StudyRow) -> StudyRow:
        """See :meth:`Storage.open`."""
        with self._write() as db:
            db.execute(
                CREATE_STUDY,
                (
                    row.name,
                    json.dumps(row.directions),
                    str(row.seed),
                    json.dumps(row.sampler),
                    row.created or time.time(),
                    json.dumps(row.attributes),
                ),
            )
            found = self._rows(db, "WHERE name = ?", (row.name,))[0]
            if row.spaces and not found.spaces:
                db.executemany(
                    "INSERT INTO space VALUES (?, ?, ?)",
                    [(found.id, v, json.dumps(body)) for v, body in enumerate(row.spaces, 1)],
                )
                found = replace(found, spaces=tuple(row.spaces))
            return found

    def _rows(self, db: sqlite3.Connection, where: str = "", args: Sequence[Any] = ()) -> list[StudyRow]:
        rows = db.execute(
            "SELECT id, name, directions, seed, sampler, stop_reason, created, attributes FROM study "
            f"{where} ORDER BY id",
            args,
        ).fetchall()
        spaces = {
            i: tuple(
                json.loads(b) for (b,) in db.execute("SELECT body FROM space WHERE study = ? ORDER BY version", (i,))
            )
            for i, *_ in rows
        }
        return [
            StudyRow(
                i,
                name,
                json.loads(directions),
                int(seed),
                json.loads(sampler),
                spaces[i],
                stop,
                created,
                json.loads(attributes),
            )
            for i, name, directions, seed, sampler, stop, created, attributes in rows
        ]

    def studies(self) -> list[StudyRow]:
        """See :meth:`Storage.studies`."""
        with self._guard():
            return self._rows(self._db())

    def update(
        self,
        study: int,
        *,
        space: Mapping[str, Any] | None = None,
        stop_reason: str | None = None,
        clear_stop: bool = False,
    ) -> StudyRow:
        """See :meth:`Storage.update`."""
        with self._write(study) as db:
            if space is not None:
                db.execute(
                    "INSERT INTO space SELECT ?, COALESCE(MAX(version), 0) + 1, ? FROM space WHERE study = ?",
                    (study, json.dumps(space), study),
                )
            if stop_reason is not None or clear_stop:
                db.execute("UPDATE study SET stop_reason = ? WHERE id = ?", (stop_reason, study))
            return self._rows(db, "WHERE id = ?", (study,))[0]

    def read(self, study: int, since: int = 0) -> Changes:
        """See :meth:`Storage.read`."""
        with self._guard():
            db = self._db()
            db.execute("BEGIN")  # one snapshot for all the reads
            try:
                row = db.execute(
                    "SELECT revision, stop_reason, directions, (SELECT COUNT(*) FROM space WHERE study = id) "
                    "FROM study WHERE id = ?",
                    (study,),
                ).fetchone()
                if row is None:
                    raise StorageError(f"storage {str(self.path)!r}: there is no study {study}")
                revision, stop_reason, directions, n_spaces = row
                fresh = self._trials(db, study, directions, "revision > ?", (since,)) if revision > since else []
                dropped = tuple(
                    n
                    for (n,) in db.execute(
                        "SELECT number FROM dropped d WHERE study = ? AND revision > ? AND NOT EXISTS "
                        "(SELECT 1 FROM trial t WHERE t.study = d.study AND t.number = d.number)",
                        (study, since),
                    )
                )
            finally:
                db.execute("COMMIT")
            return Changes(revision, tuple(fresh), stop_reason, n_spaces, dropped)

    def _trials(
        self, db: sqlite3.Connection, study: int, directions: str, where: str, args: Sequence[Any]
    ) -> list[Trial]:
        objectives = tuple(json.loads(directions))
        reports: dict[int, list[Report]] = {}
        for number, step, metrics in db.execute(
            "SELECT number, step, metrics FROM report WHERE study = ? AND number IN "
            f"(SELECT number FROM trial WHERE study = ? "
            f"AND {where}) ORDER BY number, step",
            (study, study, *args),
        ):
            reports.setdefault(number, []).append(Report(step, json.loads(metrics)))
        rows = db.execute(f"SELECT {COLUMNS} FROM trial WHERE study = ? AND {where} ORDER BY number", (study, *args))
        return [_trial(row, objectives, tuple(reports.get(row[0], ()))) for row in rows]

    def add(self, study: int, trials: Sequence[Trial], *, known: bool = True) -> list[int]:
        """See :meth:`Storage.add`."""
        numbers: list[int] = []
        with self._write(study) as db:
            for t in trials:
                if (
                    not known
                    and db.execute("SELECT 1 FROM trial WHERE study = ? AND key = ?", (study, t.key)).fetchone()
                ):
                    continue
                number = db.execute(
                    "SELECT COALESCE(MAX(number) + 1, 0) FROM trial WHERE study = ?", (study,)
                ).fetchone()[0]
                db.execute(
                    f"INSERT INTO trial (study, {COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,"
                    "(SELECT revision FROM study WHERE id = ?))",
                    (
                        study,
                        number,
                        t.state.value,
                        _dumps(t.params),
                        t.key,
                        _dumps(t.metrics),
                        _dumps(t.sems),
                        _dumps(t.gradient),
                        t.reason and t.reason.value,
                        t.error,
                        t.origin.value,
                        t.attempts,
                        t.owner,
                        t.token,
                        t.lease_until,
                        t.started,
                        t.seconds,
                        _dumps(t.attributes),
                        t.space_version,
                        study,
                    ),
                )
                db.executemany(
                    "INSERT INTO report VALUES (?,?,?,?)",
                    [(study, number, r.step, json.dumps(dict(r.metrics))) for r in t.reports],
                )
                numbers.append(number)
        return numbers

    def claim(self, study: int, owner: str, lease: float, n: int = 1, budget: int | None = None) -> list[Trial]:
        """See :meth:`Storage.claim`."""
        now = time.time()
        args = {"study": study, "owner": owner, "now": now, "until": now + lease, "n": n, "budget": budget}
        with self._write(study) as db:
            db.execute(EXPIRE, args)
            numbers = sorted(number for (number,) in db.execute(CLAIM_WAITING, args).fetchall())
            while len(numbers) < n and (fresh := db.execute(CLAIM_NEW, args).fetchall()):
                numbers.append(fresh[0][0])
            directions = db.execute("SELECT directions FROM study WHERE id = ?", (study,)).fetchone()[0]
            marks = ",".join("?" * len(numbers))
            return self._trials(db, study, directions, f"number IN ({marks})", numbers) if numbers else []

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
    ) -> bool:
        """See :meth:`Storage.assign`."""
        free = (
            "AND NOT EXISTS (SELECT 1 FROM trial o WHERE o.study = :study AND o.key = :key AND o.number <> :number)"
            if unique
            else ""
        )
        return self._change(
            study,
            number,
            token,
            "params = :params, key = :key, space_version = :version",
            free,
            params=_dumps(params),
            key=key,
            version=space_version,
        )

    def _change(self, study: int, number: int, token: int, assignments: str, also: str = "", **args: Any) -> bool:
        """Change a trial whose current token this is, in one statement; say whether it was."""
        with self._write(study) as db:
            changed = db.execute(
                f"UPDATE trial SET {assignments}, revision = {NEXT_REVISION} WHERE {HELD} {also}",
                {"study": study, "number": number, "token": token, **args},
            ).rowcount
        return changed > 0

    def report(self, study: int, number: int, token: int, report: Report) -> bool:
        """See :meth:`Storage.report`."""
        with self._write(study) as db:
            held = db.execute(
                f"UPDATE trial SET revision = {NEXT_REVISION} WHERE {HELD}",
                {"study": study, "number": number, "token": token},
            ).rowcount
            if held:
                db.execute(
                    "INSERT OR IGNORE INTO report VALUES (?,?,?,?)",
                    (study, number, report.step, _dumps(report.metrics)),
                )
        return held > 0

    def finish(self, study: int, number: int, token: int, outcome: Outcome) -> bool:
        """See :meth:`Storage.finish`."""
        return self._change(
            study,
            number,
            token,
            "state = :state, metrics = :metrics, sems = :sems, gradient = :gradient, reason = :reason, error = :error, "
            "seconds = :seconds, attributes = :attributes, lease_until = NULL",
            state=outcome.state.value,
            metrics=_dumps(outcome.metrics),
            sems=_dumps(outcome.sems),
            gradient=_dumps(outcome.gradient),
            reason=outcome.reason and outcome.reason.value,
            error=outcome.error,
            seconds=outcome.seconds,
            attributes=_dumps(outcome.attributes),
        )

    def renew(self, study: int, claims: Sequence[tuple[int, int]], lease: float) -> list[int]:
        """See :meth:`Storage.renew`."""
        lost = []
        with self._write(study) as db:
            for number, token in claims:
                if not db.execute(
                    f"UPDATE trial SET lease_until = :until WHERE {HELD}",
                    {"study": study, "number": number, "token": token, "until": time.time() + lease},
                ).rowcount:
                    lost.append(number)
        return lost

    def release(self, study: int, number: int, token: int, *, drop: bool = False) -> bool:
        """See :meth:`Storage.release`."""
        args = {"study": study, "number": number, "token": token}
        if drop:
            with self._write(study) as db:
                if db.execute(f"DELETE FROM trial WHERE {HELD} AND params IS NULL", args).rowcount:
                    db.execute(f"INSERT INTO dropped VALUES (:study, :number, {NEXT_REVISION}, :token)", args)
                    return True
        return self._change(study, number, token, "state = 'waiting', owner = NULL, lease_until = NULL")

    def close(self) -> None:
        """See :meth:`Storage.close`."""
        with self._lock:
            for db in self._connections:
                db.close()
            self._connections.clear()
            self._local = threading.local()


def _dumps(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(dict(value))


def _trial(row: Sequence[Any], objectives: tuple[str, ...], reports: tuple[Report, ...]) -> Trial:
    (
        number,
        state,
        params,
        key,
        metrics,
        sems,
        gradient,
        reason,
        error,
        origin,
        attempts,
        owner,
        token,
        lease_until,
        started,
        seconds,
        attributes,
        space_version,
        revision,
    ) = row
    return Trial(
        number,
        State(state),
        None if params is None else json.loads(params),
        json.loads(metrics),
        json.loads(sems),
        None if gradient is None else json.loads(gradient),
        reports,
        None if reason is None else Reason(reason),
        error,
        Origin(origin),
        attempts,
        owner,
        token,
        lease_until,
        started,
        seconds,
        json.loads(attributes),
        space_version,
        key,
        objectives,
        revision,
    )
