"""Studies in a SQLite file: the embedded default. Safe for threads and for any number of processes on one machine."""

from __future__ import annotations

import os
import random
import sqlite3
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from welltuned.errors import DamagedStorage, InvalidValue, StorageError
from welltuned.storage import wal
from welltuned.storage.protocol import StudyRow
from welltuned.storage.records import SALVAGE, unstorable
from welltuned.storage.schema import Dialect, Run, is_current, migrate
from welltuned.storage.sql import SQLStorage, Writing

try:
    import fcntl
except ImportError:  # elsewhere than on Unix, all that wait look by themselves
    fcntl = None  # type: ignore[assignment]

DIALECT = Dialect(
    identity="INTEGER PRIMARY KEY",
    integer="INTEGER",
    real="REAL",
    clustered="WITHOUT ROWID",
    now=":clock",
    tables="SELECT name FROM sqlite_master WHERE type = 'table'",
    # left to itself it would give the number of a study that was deleted to the next one
    new_study="(SELECT COALESCE(MAX(n), 0) + 1 FROM (SELECT id AS n FROM study UNION SELECT study FROM dropped))",
)
HINTS = {
    "unable to open": "check that the folder exists and may be written",
    "readonly": "the file or its folder is read-only",
    "not a database": "give another file, or remove this one",
    "is full": "free some space; everything stored so far is kept",
    "disk I/O error": "the disk may be full or failing; everything stored so far is kept",
    **dict.fromkeys(
        ("malformed", "decode to UTF-8", "no such", "syntax error", "unsupported file format", "mismatch", "too big"),
        f"the file is damaged; save what can be read: {SALVAGE}",
    ),
}
PAGE = 2048
LOG_PAGES = 4000
SETTLE, SETTLE_SHARE = 1.0, 0.02  # seconds between copies of the log into the file, and their share of the time
TURN = 0.0003  # seconds between two looks of the one whose turn is next
CHECKED = 256 << 20  # bytes up to which a file is read through when it is opened
INHERITED: list[sqlite3.Connection] = []  # connections of the process that this one was forked from


class Connection(sqlite3.Connection):
    """A connection that knows which of its transactions is open."""

    turn = 0
    pid = 0  # of the process that opened it

    def begin_turn(self) -> int:
        """Return the number of the transaction that is about to begin."""
        self.turn += 1
        return self.turn

    def undo(self, turn: int | None = None) -> None:
        """Roll back what is open; of one turn only, since an interrupted block may be cleared away much later."""
        if self.in_transaction and turn in (None, self.turn):
            self.execute("ROLLBACK")


class SQLiteStorage(SQLStorage):
    """Keep studies in the SQLite file at ``path``, created when missing.

    Uses write-ahead logging, so that readers never wait for writers; a writer waits up to ``patience`` seconds for its
    turn. A result is on disk when the call returns, as far as the process may die; a power cut may take the last
    moments, never the file. A file that was cut off or has changed bits is refused when it is opened, or when the
    record is read.

    Raises
    ------
    DamagedStorage
        When the file is not what was written.
    StorageError
        When the file cannot be opened or written, is no database, belongs to something else or to a newer version.
    """

    dialect = DIALECT

    def __init__(self, path: str | os.PathLike[str], patience: float = 60.0) -> None:
        super().__init__()
        given = _expanded(path)
        self.where = f"storage {str(given)!r}"
        try:  # every thread opens the file for itself, and an objective may have changed the folder by then
            self.path = given.absolute()
        except OSError:
            gone = f"{self.where}: the folder that this process is in is gone; write the whole path"
            raise StorageError(gone) from None
        self._patience = patience
        self._local = threading.local()
        self._connections: list[Connection] = []
        self._queues: list[int] = []
        weakref.finalize(self, _close, self._connections, self._queues)
        self._lock = threading.Lock()
        self._settle_at = 0.0  # by the monotonic clock
        self._identity: tuple[int, int] | None = None  # which file it is, whatever its name
        if not self.path.parent.is_dir():
            raise StorageError(
                f"storage {str(path)!r}: the folder {str(given.parent)!r} does not exist; create it first"
            )
        with self._guard():
            wal.check(self.path, self.where)
            db = self._db()
            self._identity = self._identity_now()
            self._check(db)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self.path), self._patience)

    def _check(self, db: Connection) -> None:
        """Let SQLite look whether its pages fit together."""
        if self.path.stat().st_size > CHECKED:
            return
        found = self._patiently(lambda: db.execute("PRAGMA integrity_check(1)").fetchone()[0])
        if found != "ok":
            raise DamagedStorage(f"{self.where} is damaged ({found}); save what can be read: {SALVAGE}")

    def _db(self) -> Connection:
        """Return this thread's connection; a forked child opens its own.

        A file that has been removed or replaced takes results as if nothing had happened, and they are gone with the
        last process that has it open; under another name, SQLite's log is not found beside it.
        """
        if self._identity is not None and self._identity_now() != self._identity:
            raise StorageError(
                f"{self.where}: the file has been removed, renamed or replaced since it was opened; put it back, or "
                "open the study again where it is now"
            )
        frozen = getattr(self._local, "frozen", None)
        if frozen is not None and frozen != self._look_of_file():
            self._leave()  # somebody who may write has gone on after all
        if getattr(self._local, "pid", None) != os.getpid():
            self._local.frozen = None
            try:
                db = self._connect(str(self.path), self._prepare)
            except sqlite3.OperationalError:
                if not self._is_frozen():
                    raise
                # SQLite wants to write beside a file even to read it, unless told that nobody changes it
                look = self._look_of_file()
                db = self._connect(f"{self.path.as_uri()}?mode=ro&immutable=1", self._look_through, uri=True)
                self._local.frozen = look
            self._local.db, self._local.pid = db, os.getpid()
            with self._lock:
                self._connections.append(db)
        return self._local.db

    def _connect(self, name: str, prepare: Callable[[Connection], None], *, uri: bool = False) -> Connection:
        db = sqlite3.connect(
            name, timeout=0, isolation_level=None, check_same_thread=False, factory=Connection, uri=uri
        )
        db.pid = os.getpid()
        try:
            prepare(db)
        except BaseException:
            db.close()
            raise
        return db

    def _is_frozen(self) -> bool:
        """Tell whether there is a file that can be read only, and all that was stored is in it."""
        file, log = wal.beside(self.path, ""), wal.beside(self.path, "-wal")
        writable = os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)
        try:
            return not writable and file.is_file() and not (log.exists() and log.stat().st_size)
        except OSError:  # a name that is too long, say
            return False

    def _identity_now(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _look_of_file(self) -> tuple[int, ...]:
        """Return what changes when anybody writes to the file."""
        found: list[int] = []
        for end in ("", "-wal"):
            with suppress(OSError):  # it is not there, or not any more
                seen = wal.beside(self.path, end).stat()
                found += [seen.st_mtime_ns, seen.st_size]
        return tuple(found)

    def _leave(self) -> None:
        """Close this thread's connection; the next call opens another one."""
        with self._lock:
            self._connections.remove(self._local.db)
        self._local.db.close()
        self._local.pid = None

    def _look_through(self, db: Connection) -> None:
        if not is_current(self._runner(db), DIALECT, self.where):
            raise StorageError(
                f"{self.where}: {HINTS['readonly']}, and it has to be brought up to date first; open a copy of it"
            )

    def _clean_db(self) -> Connection:
        """Return this thread's connection without a transaction that an interrupted call left open."""
        db = self._db()
        if self._shared is None:  # otherwise it is the one of together()
            db.undo()
        return db

    def _abandon(self) -> None:
        """See :meth:`SQLStorage._abandon`."""
        db = getattr(self._local, "db", None)
        if db is not None and db.pid == os.getpid() and self._shared is None:
            with suppress(sqlite3.Error):  # it is closed, or the disk is gone
                db.undo()

    def _prepare(self, db: Connection) -> None:
        run = self._runner(db)
        # a commit writes whole pages, and changes a few hundred bytes of each; files that exist keep their own size
        db.execute(f"PRAGMA page_size = {PAGE}")
        # whose file it is comes first: one of something else is not to be touched
        if not is_current(run, DIALECT, self.where):
            try:
                run("BEGIN IMMEDIATE")
                migrate(run, DIALECT, self.where, time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()))
                run("COMMIT")  # without a write-ahead log, as a new file still is, it waits for every reader
            except BaseException:
                db.undo()
                raise
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")  # reads the schema, and waits for who changes the journal
        # the same few pages change again and again; copy them back into the file seldom
        db.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")

    def _has_queue(self) -> bool:
        """Open the queue; without one, as where no folder for it can be written to, each that waits looks by itself."""
        if getattr(self._local, "queue_pid", None) != os.getpid():
            try:
                about = self.path.stat()
                name = f"welltuned-{os.getuid()}-{about.st_dev}-{about.st_ino}.lock"
                kind = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW  # anybody may put something there under this name
                self._local.queue = os.open(Path(tempfile.gettempdir()) / name, kind, 0o600)
            except OSError:
                return False
            self._local.queue_pid = os.getpid()
            with self._lock:
                self._queues.append(self._local.queue)
        return True

    def _patiently(self, action: Any, most: float = 0.003) -> Any:
        """Do something as soon as the file is free. SQLite's own waiting sleeps too long where many write."""
        deadline, pause = None, 0.0001
        while True:
            try:
                return action()
            except sqlite3.OperationalError as error:
                if not _is_busy(error):
                    raise
                now = time.monotonic()
                deadline = deadline or now + self._patience
                if now >= deadline:
                    raise
            time.sleep(pause * (0.5 + random.random()))
            pause = min(pause * 1.5, most)

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Turn SQLite's errors into ours, with the file in them and what to do."""
        try:
            yield
        except sqlite3.Error as error:
            # before Python 3.11, some rows that cannot be read are an error without a word
            text = str(error) or "a row is malformed"
            advice = next((a for part, a in HINTS.items() if part in text), "everything stored so far is kept")
            kind = DamagedStorage if SALVAGE in advice else StorageError
            raise kind(f"{self.where}: {text}; {advice}") from error
        except UnicodeDecodeError as error:
            what = f"{self.where} is damaged ({error.reason})"
            raise DamagedStorage(f"{what}; save what can be read: {SALVAGE}") from None

    @contextmanager
    def _read(self) -> Iterator[Run]:
        """See :meth:`SQLStorage._read`."""
        with self._guard():
            db = self._clean_db()
            if db.in_transaction:  # within together()
                yield self._runner(db)
                return
            turn = db.begin_turn()
            try:  # an interrupt may come as soon as the transaction has begun
                db.execute("BEGIN")  # one snapshot for all the reads
                yield self._runner(db)
            finally:
                db.undo(turn)

    def _look(self, statement: str, args: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """See :meth:`SQLStorage._look`."""
        with self._guard():
            return self._runner(self._clean_db())(statement, args)

    def _runner(self, db: Connection) -> Run:
        """Return what runs statements, patiently: a reader waits for one who repairs a log after a crash."""

        def run(statement: str, args: Mapping[str, Any] | Sequence[Any] = ()) -> list[Any]:
            try:
                return db.execute(statement, args).fetchall()
            except sqlite3.OperationalError as error:
                # after any other error there may be no transaction any more that a second try would be part of
                if not _is_busy(error):
                    raise
                return self._patiently(lambda: db.execute(statement, args).fetchall())
            except (UnicodeEncodeError, OverflowError) as error:
                raise unstorable(self.where, error) from None

        return run

    @contextmanager
    def _transaction(self, study: int | None) -> Iterator[Writing]:
        """See :meth:`SQLStorage._transaction`."""
        with self._guard():
            db = self._clean_db()
            turn = db.begin_turn()
            try:  # an interrupt may come as soon as the transaction has begun
                self._begin(db)
                run = self._runner(db)
                writing = self._raise(run, study, self._clock())
                yield writing
                run("COMMIT" if writing.changed else "ROLLBACK")
            except BaseException:
                db.undo(turn)
                raise
            if writing.changed:
                self._settle(db)

    def _settle(self, db: Connection, *, now: bool = False) -> None:
        """Copy the log into the file as far as nobody is in the way, unless that was done a moment ago.

        Who copies or renames the file alone then has nearly everything. The file's own time tells when another
        process did it. That it fails harms nothing: all that was stored is in the log.
        """
        began = time.monotonic()
        if db.in_transaction or (not now and began < self._settle_at):
            return
        with suppress(sqlite3.Error, OSError):
            if now or abs(time.time() - self.path.stat().st_mtime) >= SETTLE:
                db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        ended = time.monotonic()
        self._settle_at = ended + max(SETTLE, (ended - began) / SETTLE_SHARE)

    def _begin(self, db: Connection) -> None:
        try:
            db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if not _is_busy(error):
                raise
            queues = fcntl is not None and self._has_queue()
            try:  # behind the others that wait: only the first of them looks, often, whether the file is free
                if queues:
                    fcntl.flock(self._local.queue, fcntl.LOCK_EX)
                self._patiently(lambda: db.execute("BEGIN IMMEDIATE"), TURN)
            finally:
                if queues:
                    fcntl.flock(self._local.queue, fcntl.LOCK_UN)

    def open(self, row: StudyRow) -> StudyRow:
        """See :meth:`Storage.open`. A new study is in the file at once, and not in the log alone."""
        found = super().open(row)
        self._settle_now()
        return found

    def update(self, study: int, **changes: Any) -> StudyRow:
        """See :meth:`Storage.update`. It comes where a run begins or ends, so what it stores is not left to the log."""
        row = super().update(study, **changes)
        self._settle_now()
        return row

    def delete(self, study: int) -> int:
        """See :meth:`Storage.delete`. It is gone from the file at once, and not in the log alone."""
        trials = super().delete(study)
        self._settle_now()
        return trials

    def _settle_now(self) -> None:
        with self._guard():
            self._settle(self._db(), now=True)

    def close(self) -> None:
        """See :meth:`Storage.close`."""
        with self._lock:
            if getattr(self._local, "pid", None) == os.getpid():
                self._settle(self._local.db, now=True)  # SQLite does it for the last process only
            _close(self._connections, self._queues)
            self._local = threading.local()


def _expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with the home folder in it, refused where no file can have such a name."""
    if "\0" in str(path):
        raise InvalidValue(f"storage {str(path)!r} has a null character in it")
    try:
        os.fsencode(path)
        return Path(path).expanduser()
    except UnicodeEncodeError:
        raise InvalidValue(f"storage {str(path)!r} has a character in it that no file's name can have") from None
    except RuntimeError:
        raise InvalidValue(f"storage {str(path)!r}: there is no such user; write the whole path") from None


def _close(connections: list[Connection], descriptors: list[int]) -> None:
    """Close what a storage had open; since Python 3.13, a connection that is only forgotten leaves a warning.

    A forked child leaves those of its parent alone, and keeps them: where another thread was using one, its lock is
    never released here, and whoever closes it waits for ever.
    """
    here = os.getpid()
    INHERITED.extend(db for db in connections if db.pid != here)
    for db in connections:
        if db.pid == here:
            db.close()
    connections.clear()
    while descriptors:
        os.close(descriptors.pop())


def _is_busy(error: sqlite3.Error) -> bool:
    return "locked" in str(error) or "busy" in str(error)
