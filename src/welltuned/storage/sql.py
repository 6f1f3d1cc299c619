"""What a storage does, in plain SQL, for every database: the operations are here, the connections elsewhere.

A database gives two things: :meth:`SQLStorage._read`, a snapshot, and :meth:`SQLStorage._write`, a transaction that
no other writer of the same study is in. Every write raises the revision of its study first. So revisions are in the
order of commits, and whoever has read up to one need not look at anything before it again.
"""

from __future__ import annotations

import json
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from welltuned.errors import UnknownStudy
from welltuned.storage import records
from welltuned.storage.protocol import Changes, StudyRow, defined
from welltuned.storage.schema import Dialect, Run
from welltuned.trial import Origin, Outcome, Report, State, Trial

CLAIM = "study = :study AND number = :number AND token = :token"
HELD = f"{CLAIM} AND state = 'running'"
RETURNABLE = f"{CLAIM} AND state IN ('running', 'paused')"  # what may wait again
HEAD = """
    SELECT revision, stop_reason, directions, (SELECT COUNT(*) FROM space WHERE study = :study)
    FROM study WHERE id = :study"""
OPEN = """
    SELECT number FROM trial WHERE study = :study AND state IN ('waiting', 'running')
        AND (state = 'waiting' OR lease_until < :now OR started > :ahead) LIMIT 1"""
# whoever claimed by a clock that has been set back since holds its trial for one lease more, not for a day
SHORTEN = """
    UPDATE trial SET started = :now, lease_until = :until
    WHERE study = :study AND state IN ('waiting', 'running') AND state = 'running' AND started > :ahead
    RETURNING number"""
EXPIRE = """
    UPDATE trial SET state = 'waiting', owner = NULL, lease_until = NULL, revision = :revision
    WHERE study = :study AND state IN ('waiting', 'running') AND state = 'running' AND lease_until < :now
    RETURNING number"""
WAITING = """
    FROM trial WHERE study = :study AND state IN ('waiting', 'running') AND state = 'waiting'"""
RUNNING = """
    SELECT number, token, owner FROM trial
    WHERE study = :study AND state IN ('waiting', 'running') AND state = 'running' ORDER BY number"""
START = f"""
    UPDATE trial SET state = 'running', owner = :owner, token = token + 1, attempts = attempts + 1, started = :now,
        lease_until = :until, revision = :revision
    WHERE study = :study AND number = :number RETURNING {records.COLUMNS}"""
NEXT = "SELECT COALESCE(MAX(number) + 1, 0) FROM trial WHERE study = :study"
# tokens of a number that was dropped stay stale, so the new owner's begins behind them
CLAIM_NEW = """
    INSERT INTO trial (study, number, state, origin, owner, token, attempts, started, lease_until, space_version,
                       revision)
    SELECT :study, next, 'running', 'sampler', :owner,
        1 + (SELECT COALESCE(MAX(d.token), 0) FROM dropped d WHERE d.study = :study AND d.number = next),
        1, :now, :until,
        (SELECT CASE WHEN COUNT(*) > 1 THEN COUNT(*) ELSE 1 END FROM space WHERE study = :study), :revision
    FROM (SELECT COALESCE(MAX(number) + 1, 0) AS next FROM trial WHERE study = :study) AS numbers
    RETURNING number, token, space_version"""
INSERT = f"""
    INSERT INTO trial (study, {records.COLUMNS})
    VALUES (:study, {", ".join(f":{name}" for name in records.COLUMNS.split(", "))})"""
INSERT_REPORT = """
    INSERT INTO report (study, number, step, metrics, digest) VALUES (:study, :number, :step, :metrics, :digest)
    ON CONFLICT (study, number, step) DO NOTHING"""
CREATE_STUDY = """
    INSERT INTO study (id, name, directions, seed, sampler, stop_reason, created, attributes, digest)
    VALUES ({id}, :name, :directions, :seed, :sampler, :stop_reason, :created, :attributes, :digest)
    ON CONFLICT (name) DO NOTHING"""
# what refers to others first
DELETE = tuple(f"DELETE FROM {table} WHERE study = :study" for table in ("report", "dropped", "trial", "space"))
DROP = "INSERT INTO dropped VALUES (:study, :number, :revision, :token)"
DEFINED = ("directions", "seed", "sampler", "attributes", "digest")
REDEFINE = f"UPDATE study SET {', '.join(f'{name} = :{name}' for name in DEFINED)} WHERE id = :study"
INSERT_SPACE = "INSERT INTO space (study, version, body, digest) VALUES (:study, :version, :body, :digest)"
ASSIGN = f"""
    UPDATE trial SET params = :params, key = :key, provenance = :provenance, params_digest = :params_digest,
        space_version = :version, assigned = :revision, revision = :revision
    WHERE {HELD}"""
UNLESS_TAKEN = """
    AND NOT EXISTS (SELECT 1 FROM trial o WHERE o.study = :study AND o.key = :key AND o.number <> :number)"""
FINISH = f"""
    UPDATE trial SET state = :state, metrics = :metrics, sems = :sems, gradient = :gradient, reason = :reason,
        error = :error, seconds = :seconds, attributes = :attributes, result_digest = :result_digest,
        lease_until = NULL, revision = :revision
    WHERE {HELD} RETURNING number"""
REPORTS = """
    SELECT number, step, metrics, digest FROM report WHERE study = :study AND number = :number ORDER BY step"""
RELEASE = f"""
    UPDATE trial SET state = 'waiting', owner = NULL, lease_until = NULL, attempts = attempts - :undone,
        revision = :revision
    WHERE {RETURNABLE} RETURNING number"""
BLANK = Trial(0, State.RUNNING, attempts=1)
P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class Writing:
    """A transaction under way. It is rolled back in the end where ``changed`` was set to False."""

    run: Run
    revision: int = 0
    used: int = 0
    directions: str = "{}"
    now: float = 0.0
    changed: bool = True
    over: bool = False  # of one that together() held open


def _or_not_at_all(method: Callable[Concatenate[SQLStorage, P], T]) -> Callable[Concatenate[SQLStorage, P], T]:
    """Let an operation that fails leave no transaction open.

    An interrupt may come between entering a block and what is in it, or between that and leaving the block: then nobody
    leaves it for as long as the traceback is kept, as notebooks do. A function's own ``try`` has no such gap.
    """

    @wraps(method)
    def act(storage: SQLStorage, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(storage, *args, **kwargs)
        except BaseException:
            storage._abandon()
            raise

    return act


class SQLStorage:
    """Keep studies in a database. See :class:`welltuned.storage.Storage` for what each method promises."""

    dialect: Dialect
    #: how messages name the storage
    where: str

    def __init__(self) -> None:
        self._open = threading.local()  # the transaction that each thread has held open last

    @abstractmethod
    def _read(self) -> AbstractContextManager[Run]:
        """Return a snapshot, in which all statements see the same state."""

    @abstractmethod
    def _look(self, statement: str, args: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """Return the rows of one query outside of any transaction."""

    @abstractmethod
    def _transaction(self, study: int | None) -> AbstractContextManager[Writing]:
        """Return a transaction, with the revision of ``study`` raised in it."""

    @abstractmethod
    def _abandon(self) -> None:
        """Undo what this thread has begun outside of :meth:`together` and nobody has ended."""

    @property
    def _shared(self) -> Writing | None:
        """The transaction that :meth:`together` holds open in this thread."""
        writing: Writing | None = getattr(self._open, "writing", None)
        return None if writing is None or writing.over else writing

    @contextmanager
    def together(self, study: int) -> Iterator[None]:
        """See :meth:`Storage.together`."""
        try:
            with self._transaction(study) as writing:
                writing.changed = False
                try:
                    self._open.writing = writing
                    yield
                finally:
                    writing.over = True  # whatever this thread has open by now, where it is cleared away later
        except BaseException:
            self._abandon()
            raise

    @contextmanager
    def _write(self, study: int | None = None) -> Iterator[Writing]:
        """Return a transaction, or the one that :meth:`together` holds open."""
        shared = self._shared
        if shared is None:
            with self._transaction(study) as writing:
                yield writing
            return
        part = Writing(shared.run, shared.revision, shared.used, shared.directions, shared.now)
        yield part
        shared.changed |= part.changed
        shared.used = part.used

    def _await(self, study: int, revision: int, seconds: float) -> None:
        """Wait until the study is beyond ``revision``, ``seconds`` at most."""
        deadline, pause = time.monotonic() + seconds, 0.01
        while self._head(study)[0] == revision and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(pause, left))
            pause = min(2 * pause, 0.2)

    def _tell(self, writing: Writing, study: int) -> None:
        """Let those who wait know that there is something for them: a trial to evaluate, or the end."""

    def _raise(self, run: Run, study: int | None, clock: float) -> Writing:
        """Raise the revision of a study and return what the transaction needs to know."""
        if study is None:
            return Writing(run)
        rows = run(
            "UPDATE study SET revision = revision + 1 WHERE id = :study "
            f"RETURNING revision, used, directions, {self.dialect.now}",
            {"study": study, "clock": clock},
        )
        if not rows:
            raise self._unknown(study)
        return Writing(run, *rows[0])

    def _unknown(self, study: int) -> UnknownStudy:
        return UnknownStudy(f"{self.where}: there is no study {study}")

    # studies

    @_or_not_at_all
    def open(self, row: StudyRow) -> StudyRow:
        """See :meth:`Storage.open`."""
        with self._read() as run:
            if (found := self._rows(run, "WHERE name = :name", {"name": row.name})) and (
                found[0].spaces or not row.spaces
            ):
                return found[0]
        with self._write() as writing:
            run = writing.run
            create = CREATE_STUDY.format(id=self.dialect.new_study)
            columns = records.study_of(replace(row, created=row.created or time.time()))
            run(create, columns)
            while not (found := self._rows(run, "WHERE name = :name", {"name": row.name})):
                run(create, columns)  # there was one, and somebody has deleted it since
            if row.spaces and not found[0].spaces:
                if not run("SELECT 1 FROM trial WHERE study = :study LIMIT 1", {"study": found[0].id}):
                    columns = records.study_of(defined(found[0], row))
                    run(REDEFINE, {"study": found[0].id, **{name: columns[name] for name in DEFINED}})
                for version, body in enumerate(row.spaces, 1):
                    self._put_space(run, found[0].id, version, body)
                found = self._rows(run, "WHERE name = :name", {"name": row.name})
            return found[0]

    def _put_space(self, run: Run, study: int, version: int, space: Mapping[str, Any]) -> None:
        body = json.dumps(space)
        run(INSERT_SPACE, {"study": study, "version": version, "body": body, "digest": records.seal(version, body)})

    def _rows(self, run: Run, where: str = "", args: Mapping[str, Any] | None = None) -> list[StudyRow]:
        found = run(f"SELECT {records.STUDY_COLUMNS} FROM study {where} ORDER BY id", args or {})
        spaces = "SELECT version, body, digest FROM space WHERE study = :study ORDER BY version"
        return [
            records.row_of(row, [(v, b, d) for v, b, d in run(spaces, {"study": row[0]})], self.where) for row in found
        ]

    def _row(self, run: Run, study: int) -> StudyRow:
        found = self._rows(run, "WHERE id = :study", {"study": study})
        if not found:
            raise self._unknown(study)
        return found[0]

    @_or_not_at_all
    def studies(self) -> list[StudyRow]:
        """See :meth:`Storage.studies`."""
        with self._read() as run:
            return self._rows(run)

    @_or_not_at_all
    def row(self, study: int) -> StudyRow:
        """See :meth:`Storage.row`."""
        with self._read() as run:
            return self._row(run, study)

    @_or_not_at_all
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
        with self._write(study) as writing:
            row = self._row(writing.run, study)
            if space is not None:
                self._put_space(writing.run, study, len(row.spaces) + 1, space)
            if stop_reason is not None or clear_stop:
                row = replace(row, stop_reason=stop_reason)
            columns = records.study_of(replace(row, attributes={**row.attributes, **(attributes or {})}))
            changed = {name: columns[name] for name in ("stop_reason", "attributes", "digest")}
            writing.run(
                "UPDATE study SET stop_reason = :stop_reason, attributes = :attributes, digest = :digest "
                "WHERE id = :study",
                {"study": study, **changed},
            )
            self._tell(writing, study)
            return self._row(writing.run, study)

    @_or_not_at_all
    def delete(self, study: int) -> int:
        """See :meth:`Storage.delete`."""
        with self._write(study) as writing:
            run, args = writing.run, {"study": study}
            trials = run("SELECT COUNT(*) FROM trial WHERE study = :study", args)[0][0]
            for statement in (*DELETE, "DELETE FROM study WHERE id = :study"):
                run(statement, args)
            run(DROP, {**args, **records.tombstone_of(study, writing.revision)})
            self._tell(writing, study)
        return trials

    # reading

    @_or_not_at_all
    def read(self, study: int, since: int | None = 0, *, wait: float = 0.0) -> Changes:
        """See :meth:`Storage.read`."""
        if wait > 0 and since is not None:
            self._await(study, since, wait)
        revision, stop_reason, _, n_spaces = self._head(study)
        if since is None or revision == since:
            return Changes(self._ended(revision), (), stop_reason, n_spaces)
        with self._read() as run:
            if not (head := run(HEAD, {"study": study})):  # it was deleted a moment ago
                raise self._unknown(study)
            revision, stop_reason, directions, n_spaces = head[0]
            fresh = self._trials(run, study, directions, since)
            dropped = run(
                "SELECT number FROM dropped d WHERE study = :study AND revision > :since AND NOT EXISTS "
                "(SELECT 1 FROM trial t WHERE t.study = d.study AND t.number = d.number)",
                {"study": study, "since": since},
            )
        return Changes(self._ended(revision), tuple(fresh), stop_reason, n_spaces, tuple(n for (n,) in dropped))

    def _ended(self, revision: int) -> int:
        """Return up to which revision nothing more can change: amid :meth:`together`, not up to its own."""
        shared = self._shared
        return revision if shared is None else min(revision, shared.revision - 1)

    def _head(self, study: int) -> tuple[int, str | None, str, int]:
        rows = self._look(HEAD, {"study": study})
        if not rows:
            raise self._unknown(study)
        revision, stop_reason, directions, n_spaces = rows[0]
        return revision, stop_reason, directions, n_spaces

    @_or_not_at_all
    def running(self, study: int) -> list[tuple[int, int, str | None]]:
        """See :meth:`Storage.running`."""
        rows = self._look(RUNNING, {"study": study})
        if not rows:
            self._head(study)  # is there such a study?
        return [(number, token, owner) for number, token, owner in rows]

    def _trials(self, run: Run, study: int, directions: str, since: int) -> list[Trial]:
        args = {"study": study, "since": since}
        reports = records.reports_of(
            run(
                # not as a join, which SQLite would begin with all reports of the study
                "SELECT number, step, metrics, digest FROM report WHERE study = :study AND number IN "
                "(SELECT number FROM trial WHERE study = :study AND revision > :since) ORDER BY number, step",
                args,
            ),
            self.where,
        )
        rows = run(
            f"SELECT {records.COLUMNS} FROM trial WHERE study = :study AND revision > :since ORDER BY number", args
        )
        objectives, where = tuple(json.loads(directions)), self.where
        return [records.trial_of(row, objectives, reports.get(row[0], ()), where) for row in rows]

    # trials

    @_or_not_at_all
    def add(self, study: int, trials: Sequence[Trial], *, known: bool = True) -> list[int]:
        """See :meth:`Storage.add`."""
        numbers: list[int] = []
        with self._write(study) as writing:
            run = writing.run
            number = run(NEXT, {"study": study})[0][0]
            for t in trials:
                taken = "SELECT 1 FROM trial WHERE study = :study AND key = :key LIMIT 1"
                if not known and run(taken, {"study": study, "key": t.key}):
                    continue
                run(INSERT, {"study": study, **_columns(t.but(number=number, **_stamp(t, writing.revision)))})
                for report in t.reports:
                    run(INSERT_REPORT, {"study": study, **records.report_of(number, report)})
                writing.used += t.origin is not Origin.ADDED
                numbers.append(number)
                number += 1
            self._tell(writing, study)
            self._count(writing, study)
        return numbers

    @_or_not_at_all
    def restore(self, study: int, trials: Sequence[Trial]) -> None:
        """Put trials under the numbers they had into an empty study."""
        with self._write(study) as writing:
            for t in trials:
                writing.run(INSERT, {"study": study, **_columns(t.but(revision=writing.revision))})
                for report in t.reports:
                    writing.run(INSERT_REPORT, {"study": study, **records.report_of(t.number, report)})
                writing.used += t.origin is not Origin.ADDED
            self._count(writing, study)

    def _count(self, writing: Writing, study: int) -> None:
        writing.run("UPDATE study SET used = :used WHERE id = :study", {"study": study, "used": writing.used})

    @_or_not_at_all
    def claim(self, study: int, owner: str, lease: float, n: int = 1, budget: int | None = None) -> list[Trial]:
        """See :meth:`Storage.claim`."""
        with self._write(study) as writing:
            run, now, objectives = writing.run, writing.now, tuple(json.loads(writing.directions))
            args = {"study": study, "owner": owner, "now": now, "until": now + lease, "revision": writing.revision}
            late = {**args, "ahead": now + max(lease, 0.0)}
            touched = False
            claimed: list[Trial] = []
            if run(OPEN, late):
                shortened, expired = run(SHORTEN, late), run(EXPIRE, late)
                touched = bool(shortened or expired)
                claimed = self._claim_waiting(writing, args, objectives, n, budget)
            room = n - len(claimed) if budget is None else min(n - len(claimed), budget - writing.used)
            if room > 0:
                claimed += self._claim_new(writing, args, objectives, room)
            writing.changed = bool(claimed) or touched
            return claimed

    def _claim_waiting(
        self, writing: Writing, args: Mapping[str, Any], objectives: tuple[str, ...], n: int, budget: int | None
    ) -> list[Trial]:
        run, study = writing.run, {"study": args["study"]}
        waiting = run(f"SELECT number {WAITING} ORDER BY number LIMIT :n", {**study, "n": n})
        if waiting and budget is not None:
            started = writing.used - run(f"SELECT COUNT(*) {WAITING}", study)[0][0]
            waiting = waiting[: max(budget - started, 0)]
        claimed = []
        for (number,) in waiting:
            row = run(START, {**args, "number": number})[0]
            reports = records.reports_of(run(REPORTS, {**study, "number": number}), self.where)
            claimed.append(records.trial_of(row, objectives, reports.get(number, ()), self.where))
        return claimed

    def _claim_new(
        self, writing: Writing, args: Mapping[str, Any], objectives: tuple[str, ...], room: int
    ) -> list[Trial]:
        claimed = []
        for _ in range(room):
            number, token, version = writing.run(CLAIM_NEW, args)[0]
            claimed.append(
                BLANK.but(
                    number=number,
                    owner=args["owner"],
                    token=token,
                    lease_until=args["until"],
                    started=args["now"],
                    space_version=version,
                    objectives=objectives,
                    revision=writing.revision,
                )
            )
        writing.used += room
        self._count(writing, args["study"])
        return claimed

    @_or_not_at_all
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
        columns = records.params_of(number, key, params, provenance)
        statement = f"{ASSIGN}{UNLESS_TAKEN if unique else ''} RETURNING number"
        return self._change(study, number, token, statement, {**columns, "version": space_version})

    def _change(
        self, study: int, number: int, token: int, statement: str, columns: Mapping[str, Any] | None = None
    ) -> bool:
        """Change a trial whose current token this is, in one statement; say whether it was."""
        with self._write(study) as writing:
            held = {"study": study, "number": number, "token": token, "revision": writing.revision}
            writing.changed = bool(writing.run(statement, {**(columns or {}), **held}))
        return writing.changed

    @_or_not_at_all
    def report(self, study: int, number: int, token: int, report: Report) -> bool:
        """See :meth:`Storage.report`."""
        with self._write(study) as writing:
            held = {"study": study, "number": number, "token": token, "revision": writing.revision}
            writing.changed = bool(
                writing.run(f"UPDATE trial SET revision = :revision WHERE {HELD} RETURNING number", held)
            )
            if writing.changed:
                writing.run(INSERT_REPORT, {"study": study, **records.report_of(number, report)})
        return writing.changed

    @_or_not_at_all
    def finish(self, study: int, number: int, token: int, outcome: Outcome) -> bool:
        """See :meth:`Storage.finish`."""
        return self._change(study, number, token, FINISH, records.result_of(number, outcome))

    @_or_not_at_all
    def renew(self, study: int, claims: Sequence[tuple[int, int]], lease: float) -> list[int]:
        """See :meth:`Storage.renew`."""
        lost = []
        with self._write() as writing:
            # no new revision: a longer lease is nothing that a reader must see
            for number, token in claims:
                statement = f"UPDATE trial SET lease_until = {self.dialect.now} + :lease WHERE {HELD} RETURNING number"
                held = {"study": study, "number": number, "token": token}
                if not writing.run(statement, {**held, "clock": self._clock(), "lease": lease}):
                    lost.append(number)
            if lost and not writing.run("SELECT 1 FROM study WHERE id = :study", {"study": study}):
                raise self._unknown(study)
        return lost

    def _clock(self) -> float:
        return time.time()

    @_or_not_at_all
    def release(self, study: int, number: int, token: int, *, drop: bool = False, begun: bool = True) -> bool:
        """See :meth:`Storage.release`."""
        args = {"study": study, "number": number, "token": token}
        if drop:
            with self._write(study) as writing:
                if writing.run(f"DELETE FROM trial WHERE {HELD} AND params IS NULL RETURNING number", args):
                    writing.run(DROP, {**args, "revision": writing.revision})
                    writing.used -= 1
                    self._count(writing, study)
                    return True
                writing.changed = False
        with self._write(study) as writing:
            row = {**args, "revision": writing.revision, "undone": int(not begun)}
            writing.changed = bool(writing.run(RELEASE, row))
            if writing.changed:
                self._tell(writing, study)
        return writing.changed


def _stamp(trial: Trial, revision: int) -> dict[str, Any]:
    return {"revision": revision, "assigned": None if trial.params is None else revision}


def _columns(trial: Trial) -> dict[str, Any]:
    """Return a trial as the columns of its row."""
    return {
        "origin": trial.origin.value,
        "attempts": trial.attempts,
        "owner": trial.owner,
        "token": trial.token,
        "lease_until": trial.lease_until,
        "started": trial.started,
        "space_version": trial.space_version,
        "revision": trial.revision,
        "assigned": trial.assigned,
        **records.result_of(trial.number, trial),
        **records.params_of(trial.number, trial.key, trial.params, trial.provenance),
    }
