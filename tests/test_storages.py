"""Storages: the contract, memory and SQLite side by side, processes on one file, migrations."""

import json
import math
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import welltuned as wt
from servers import empty_postgres, postgres_url
from welltuned.cli.app import app
from welltuned.storage import STORAGES, MemoryStorage, SQLiteStorage, StudyRow, open_storage
from welltuned.storage.postgres import PostgresStorage
from welltuned.storage.schema import VERSION
from welltuned.storage.sql import SQLStorage
from welltuned.storage.sqlite import Connection
from welltuned.testing import StorageContract
from welltuned.testing.storage import LEASE, finished, study_row, waiting
from welltuned.trial import Origin, Outcome, Reason, Report, State, Trial

DATA = Path(__file__).parent / "data"


class TestContract(StorageContract):
    @pytest.fixture(params=["memory", "sqlite", "postgresql"])
    def storage(self, request, tmp_path):
        address = empty_postgres() if request.param == "postgresql" else str(tmp_path / "study.db")
        storage = STORAGES[request.param](address)
        yield storage
        storage.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "study.db"


@pytest.fixture
def opened():
    """Open SQLite files that are closed in the end."""
    storages = []

    def opened(path, **options):
        storages.append(SQLiteStorage(path, **options))
        return storages[-1]

    yield opened
    for storage in storages:
        storage.close()


# memory and SQLite side by side


def timeless(trial):
    """A trial without what the clock or the storage's own counting decides."""
    return replace(
        trial,
        lease_until=trial.lease_until is not None,
        started=trial.started is not None,
        revision=0,
        assigned=trial.assigned is not None,
    )


def nameless(row):
    return replace(row, created=0.0, spaces=tuple(row.spaces))


class SideBySide(RuleBasedStateMachine):
    """The same operations, with real, stale and invented tokens, have the same answers in memory and in a file."""

    numbers = st.integers(0, 8)
    tokens = st.integers(0, 4)
    xs = st.sampled_from([0.1, 0.2, 0.3, 0.4])

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.storages = [MemoryStorage(), *self.others()]
        self.seen = [(0, {}), (0, {})]
        self.study = 1

    def others(self):
        return [SQLiteStorage(self.folder / "study.db")]

    def teardown(self):
        for storage in self.storages:
            storage.close()
        shutil.rmtree(self.folder)

    def both(self, call):
        memory, file = (call(storage) for storage in self.storages)
        assert memory == file
        return memory

    @initialize(directions=st.sampled_from([{"value": "minimize"}, {"b": "maximize", "a": "minimize"}]))
    def first(self, directions):
        self.both(lambda s: nameless(s.open(study_row(directions=directions))))

    @rule(name=st.sampled_from(["study", "other"]), seed=st.integers(0, 2**70))
    def open(self, name, seed):
        self.study = self.both(lambda s: nameless(s.open(study_row(name, seed=seed)))).id

    @precondition(lambda self: any(row.name == "other" for row in self.storages[0].studies()))
    @rule()
    def delete(self):
        """The other study goes; that it is worked on all the same is an error."""
        other = next(row.id for row in self.storages[0].studies() if row.name == "other")
        self.both(lambda s: s.delete(other))
        for storage in self.storages:
            with pytest.raises(wt.UnknownStudy):
                storage.claim(other, "me", LEASE)
        self.study = 1

    @rule(n=st.integers(1, 4), budget=st.none() | st.integers(0, 8), owner=st.sampled_from(["me", "you"]))
    def claim(self, n, budget, owner):
        self.both(lambda s: [timeless(t) for t in s.claim(self.study, owner, LEASE, n, budget)])

    @rule(n=st.integers(1, 3))
    def claim_for_no_time(self, n):
        """Leases that are over at once: whoever claims next takes the trials over."""
        self.both(lambda s: [timeless(t) for t in s.claim(self.study, "late", -1.0, n)])

    @rule(xs=st.lists(xs, max_size=3), done=st.booleans(), known=st.booleans())
    def add(self, xs, done, known):
        names = next(tuple(row.directions) for row in self.storages[0].studies() if row.id == self.study)
        make = finished if done else waiting
        trials = [replace(make(x), objectives=names, reports=(Report(2, {"b": x}),)) for x in xs]
        self.both(lambda s: s.add(self.study, trials, known=known))

    @rule(number=numbers, token=tokens, x=xs, unique=st.booleans())
    def assign(self, number, token, x, unique):
        self.both(lambda s: s.assign(self.study, number, token, {"x": x}, str(x), 1, unique=unique))

    @rule(number=numbers, token=tokens, step=st.integers(-1, 3), value=st.floats(allow_nan=False, allow_infinity=False))
    def report(self, number, token, step, value):
        self.both(lambda s: s.report(self.study, number, token, Report(step, {"value": value})))

    @rule(number=numbers, token=tokens, value=st.floats(allow_nan=False, allow_infinity=False))
    def complete(self, number, token, value):
        outcome = Outcome(
            State.COMPLETE, {"value": value}, {"value": 0.5}, {"x": value}, seconds=1.5, attributes={"k": [value]}
        )
        self.both(lambda s: s.finish(self.study, number, token, outcome))

    @rule(
        number=numbers,
        token=tokens,
        reason=st.sampled_from(Reason),
        error=st.text(max_size=5).map(lambda t: t.encode("utf-8", "replace").decode()),
    )
    def fail(self, number, token, reason, error):
        self.both(lambda s: s.finish(self.study, number, token, Outcome(State.FAILED, reason=reason, error=error)))

    @rule(number=numbers, token=tokens, drop=st.booleans())
    def release(self, number, token, drop):
        self.both(lambda s: s.release(self.study, number, token, drop=drop))

    @precondition(lambda self: self.storages[0].read(self.study).trials)
    @rule(data=st.data(), drop=st.booleans(), begun=st.booleans())
    def release_held(self, data, drop, begun):
        trial = data.draw(st.sampled_from(self.storages[0].read(self.study).trials))
        self.both(lambda s: s.release(self.study, trial.number, trial.token, drop=drop, begun=begun))

    @rule(claims=st.lists(st.tuples(numbers, tokens), max_size=4))
    def renew(self, claims):
        self.both(lambda s: s.renew(self.study, claims, LEASE))

    @rule(
        reason=st.none() | st.text("abc", min_size=1, max_size=3),
        clear=st.booleans(),
        high=st.none() | st.integers(1, 3),
    )
    def update(self, reason, clear, high):
        space = None if high is None else {"parameters": {"x": {"type": "float", "low": 0.0, "high": high}}}
        self.both(lambda s: nameless(s.update(self.study, space=space, stop_reason=reason, clear_stop=clear)))

    @rule()
    def reopen(self):
        self.storages[1].close()
        make, arguments = self.storages[1].__reduce__()
        self.storages[1] = make(*arguments)

    @invariant()
    def equal(self):
        """Read from the beginning both are equal; what is read on from the last revision leads to the same."""
        self.both(lambda s: [nameless(row) for row in s.studies()])
        if not self.storages[0].studies():
            return
        self.both(lambda s: [[timeless(t) for t in s.read(row.id).trials] for row in s.studies()])
        self.both(lambda s: (s.read(self.study).stop_reason, s.read(self.study).n_spaces))
        self.seen = [self.read_on(s, *seen) for s, seen in zip(self.storages, self.seen, strict=True)]

    def read_on(self, storage, since, known):
        changes = storage.read(1, since)
        trials = {n: t for n, t in known.items() if n not in changes.dropped} | {t.number: t for t in changes.trials}
        whole = {t.number: t for t in storage.read(1).trials}
        assert {n: timeless(t) for n, t in trials.items()} == {n: timeless(t) for n, t in whole.items()}
        return changes.revision, trials


TestSideBySide = SideBySide.TestCase
TestSideBySide.settings = settings(
    max_examples=40, stateful_step_count=25, derandomize=True, deadline=None, database=None
)


class PostgresSideBySide(SideBySide):
    """The same operations have the same answers in memory and on a server."""

    def others(self):
        return [PostgresStorage(empty_postgres())]



class TestPostgresSideBySide(PostgresSideBySide.TestCase):
    settings = settings(max_examples=10, stateful_step_count=25, derandomize=True, deadline=None, database=None)


# files


def test_everything_survives_reopening(path):
    first = SQLiteStorage(path)
    study = first.open(
        study_row(directions={"loss": "minimize", "acc": "maximize"}, seed=2**90, attributes={"open": False})
    ).id
    first.add(study, [finished(0.1), waiting(0.2)])
    trial = first.claim(study, "me", LEASE)[0]
    first.report(study, trial.number, trial.token, Report(1, {"loss": 0.1 + 0.2}))
    first.update(study, space={"parameters": {}}, stop_reason="patience")
    before = (first.studies(), first.read(study))
    first.close()
    second = SQLiteStorage(path)
    assert (second.studies(), second.read(study)) == before
    second.close()


def test_two_connections_see_each_other(path, opened):
    one, two = opened(path), opened(path)
    study = one.open(study_row()).id
    assert two.open(study_row()).id == study
    assert [t.number for t in one.claim(study, "one", LEASE, 2, budget=3)] == [0, 1]
    assert [t.number for t in two.claim(study, "two", LEASE, 2, budget=3)] == [2]
    assert len(one.read(study).trials) == 3


def test_a_storage_works_again_after_close(path, opened):
    storage = opened(path)
    storage.open(study_row())
    storage.close()
    assert [row.name for row in storage.studies()] == ["study"]


def test_a_reader_is_not_held_up_by_a_writer(path, opened):
    storage = opened(path)
    study = storage.open(study_row()).id
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert storage.read(study).trials == ()
    writer.execute("ROLLBACK")
    writer.close()


def test_a_writer_waits_for_its_turn_and_then_says_so(path, opened):
    storage = opened(path, patience=0.2)
    study = storage.open(study_row()).id
    writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    writer.execute("BEGIN IMMEDIATE")
    with pytest.raises(wt.StorageError, match="locked"):
        storage.claim(study, "me", LEASE)
    patient, timer = opened(path), threading.Timer(0.3, lambda: writer.execute("ROLLBACK"))
    timer.start()
    assert len(patient.claim(study, "me", LEASE)) == 1
    timer.join()
    writer.close()


def test_the_first_of_a_file_waits_for_who_reads_it(path, opened):
    """A new file has no write-ahead log yet: a reader, who may want to know whose file it is, holds up a commit."""
    reader = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    reader.executescript("CREATE TABLE theirs (x); DROP TABLE theirs; BEGIN")
    assert reader.execute("SELECT COUNT(*) FROM sqlite_master").fetchone() == (0,)
    timer = threading.Timer(0.3, lambda: reader.execute("ROLLBACK"))
    timer.start()
    storage = opened(path)
    assert not storage.read(storage.open(study_row()).id).trials
    timer.join()
    reader.close()
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


WORKER = """
import sys
from welltuned.storage import SQLiteStorage
from welltuned.trial import Outcome, State
storage = SQLiteStorage(sys.argv[1])
done = 0
while done < 100:
    for t in storage.claim(1, sys.argv[2], 600.0, 1, 400):
        assert storage.assign(1, t.number, t.token, {"x": t.number}, str(t.number), 1)
        assert storage.finish(1, t.number, t.token, Outcome(State.COMPLETE, {"value": t.number}))
        done += 1
storage.close()
"""


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_clock_that_was_set_back_blocks_nothing(kind, path, monkeypatch):
    """Who claimed while the clock was a day ahead keeps its trial by renewing it, and loses it where it is gone."""
    storage, real = STORAGES[kind](str(path)), time.time
    study = storage.open(study_row()).id
    monkeypatch.setattr(time, "time", lambda: real() + 86400)
    alive, gone = storage.claim(study, "me", 0.3, 2, budget=2)
    monkeypatch.setattr(time, "time", real)
    assert storage.claim(study, "you", 0.3, 2, budget=2) == []  # both have a lease more
    assert storage.renew(study, [(alive.number, alive.token)], LEASE) == []
    time.sleep(0.4)
    assert [t.number for t in storage.claim(study, "you", 0.3, 2, budget=2)] == [gone.number]
    assert storage.finish(study, alive.number, alive.token, Outcome(State.COMPLETE, {"value": 1.0}))
    storage.close()


def test_processes_write_one_file(path, opened):
    """Four processes of 100 trials: no errors, nothing lost, no number twice."""
    storage = opened(path)
    study = storage.open(study_row()).id
    processes = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(path), f"p{i}"], stderr=subprocess.PIPE) for i in range(4)
    ]
    errors = [p.communicate(timeout=120)[1] for p in processes]
    assert [p.returncode for p in processes] == [0] * 4, errors
    trials = storage.read(study).trials
    assert [t.number for t in trials] == list(range(400))
    assert all(t.state is State.COMPLETE and t.value == t.number and t.attempts == 1 for t in trials)
    assert {owner: sum(t.owner == owner for t in trials) for owner in ("p0", "p1", "p2", "p3")} == dict.fromkeys(
        ("p0", "p1", "p2", "p3"), 100
    )
    assert storage.claim(study, "me", LEASE, 1, 400) == []


OPENER = (
    "import sys; from welltuned.storage import SQLiteStorage, StudyRow; s = SQLiteStorage(sys.argv[1]); "
    "print(s.open(StudyRow(0, 'same', {'value': 'minimize'}, int(sys.argv[2]), {})).seed); s.close()"
)


def test_processes_create_one_file(path):
    """Processes that begin together agree on one schema and one study."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPENER, str(path), str(i)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for i in range(4)
    ]
    results = [p.communicate(timeout=60) for p in processes]
    assert [p.returncode for p in processes] == [0] * 4, results
    assert len({out for out, _ in results}) == 1


def test_a_forked_child_opens_its_own_connection(path, opened):
    storage = opened(path)
    study = storage.open(study_row()).id
    pid = os.fork()
    if pid == 0:
        os._exit(0 if len(storage.claim(study, "child", LEASE)) == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert [t.owner for t in storage.read(study).trials] == ["child"]


def test_a_forked_child_closes_its_own_connection_only(path, opened, monkeypatch):
    """Where a thread of its parent is using the other one, whoever closes that waits for ever."""
    storage, closed = opened(path), []
    study = storage.open(study_row()).id
    close = Connection.close
    monkeypatch.setattr(Connection, "close", lambda db: (closed.append(db), close(db)))
    pid = os.fork()
    if pid == 0:
        storage.claim(study, "child", LEASE)
        storage.close()
        os._exit(len(closed))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert [t.owner for t in storage.read(study).trials] == ["child"]
    storage.close()
    assert len(closed) == 1


def test_a_file_stays_where_it_is_when_the_folder_changes(tmp_path, opened, monkeypatch):
    """An objective may change the folder; threads and processes that open the file later still find it."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    storage = opened("study.db")
    study = storage.open(study_row()).id
    monkeypatch.chdir(there)
    found = []
    thread = threading.Thread(target=lambda: found.extend(storage.claim(study, "me", LEASE)))
    thread.start()
    thread.join()
    make, arguments = storage.__reduce__()
    other = make(*arguments)
    assert [t.number for t in found] == [t.number for t in other.read(study).trials] == [0]
    other.close()
    assert list(there.iterdir()) == []
    assert "'study.db'" in storage.where  # messages keep what was written



def test_a_folder_that_is_gone_is_said(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(wt.StorageError, match="write the whole path"):
        SQLiteStorage("study.db")


# interrupts


class Interrupted:
    """Raise what Ctrl-C does right after one statement, once, as where the key is pressed while it runs."""

    def __init__(self, monkeypatch, statement):
        self.statement, self.hits, execute = statement, 0, Connection.execute

        def interrupted(db, statement, *args):
            found = execute(db, statement, *args)
            if statement == self.statement and not self.hits:
                self.hits += 1
                raise KeyboardInterrupt
            return found

        monkeypatch.setattr(Connection, "execute", interrupted)


@pytest.mark.parametrize(
    ("statement", "call"),
    [
        ("BEGIN IMMEDIATE", lambda storage, study: storage.claim(study, "me", LEASE)),
        ("COMMIT", lambda storage, study: storage.claim(study, "me", LEASE)),
        ("BEGIN", lambda storage, study: storage.studies()),
    ],
)
def test_an_interrupt_leaves_no_transaction_open(statement, call, path, opened, monkeypatch):
    """Neither this process nor another one is locked out by Ctrl-C, whenever it comes."""
    storage, other = opened(path, patience=0.2), opened(path, patience=0.2)
    study = storage.open(study_row()).id
    stop = Interrupted(monkeypatch, statement)
    with pytest.raises(KeyboardInterrupt):
        call(storage, study)
    assert stop.hits == 1
    assert len(other.claim(study, "you", LEASE)) == 1
    seen = len(storage.read(study).trials)
    assert seen == 1 + (statement == "COMMIT")  # what was committed by then is stored
    assert len(storage.claim(study, "me", LEASE)) == 1
    assert len(other.read(study).trials) == seen + 1


def test_an_interrupt_while_a_file_is_created_does_no_harm(path, opened, monkeypatch):
    stop = Interrupted(monkeypatch, "BEGIN IMMEDIATE")
    with pytest.raises(KeyboardInterrupt):
        SQLiteStorage(path)
    assert stop.hits == 1
    assert opened(path, patience=0.2).open(study_row()).name == "study"


@pytest.mark.parametrize("statement", ["BEGIN", "BEGIN IMMEDIATE"])
def test_what_an_interrupt_left_open_all_the_same_is_rolled_back(statement, path, opened):
    """Wherever an interrupt found a gap, the next call begins afresh, and sees what others have stored since."""
    storage, other = opened(path, patience=0.2), opened(path, patience=0.2)
    study = storage.open(study_row()).id
    storage._db().execute(statement)
    before = storage.read(study)
    assert len(other.claim(study, "you", LEASE)) == 1
    storage._db().execute(statement)
    if statement == "BEGIN":
        assert storage._db().execute("SELECT COUNT(*) FROM trial").fetchone() == (1,)
        other.claim(study, "you", LEASE)  # which that snapshot does not have
    assert len(storage.read(study, before.revision).trials) == (2 if statement == "BEGIN" else 1)
    storage._db().execute(statement)
    assert len(storage.claim(study, "me", LEASE)) == 1
    assert len(other.claim(study, "you", LEASE)) == 1


def test_an_interrupted_block_that_is_cleared_away_late_undoes_nothing_else(path, opened):
    """A traceback can keep a block alive; what goes on meanwhile is no longer its own."""
    storage = opened(path)
    study = storage.open(study_row()).id
    left = storage._transaction(study)
    left.__enter__()  # interrupted here, between the block and its first statement
    with storage.together(study):
        storage.claim(study, "me", LEASE)
        left.gen.close()
        storage.claim(study, "me", LEASE)
    assert len(storage.read(study).trials) == 2


def test_what_waits_for_its_turn_lets_go_when_interrupted(path, opened, monkeypatch):
    """Those that wait stand in a queue; an interrupt gives the place in it back."""
    fcntl = pytest.importorskip("fcntl")
    storage, other = opened(path, patience=0.2), opened(path, patience=5.0)
    study = storage.open(study_row()).id
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    flock = fcntl.flock

    def interrupted(descriptor, operation):
        flock(descriptor, operation)
        if operation == fcntl.LOCK_EX:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", interrupted)
        with pytest.raises(KeyboardInterrupt):
            storage.claim(study, "me", LEASE)
    about = path.stat()
    place = Path(tempfile.gettempdir()) / f"welltuned-{os.getuid()}-{about.st_dev}-{about.st_ino}.lock"
    with place.open("rb") as file:
        flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    writer.execute("ROLLBACK")
    writer.close()
    assert len(other.claim(study, "you", LEASE)) == 1


@pytest.mark.parametrize("lacking", ["no folder", "a link", "not ours"])
def test_without_a_queue_writers_wait_all_the_same(path, opened, tmp_path, monkeypatch, lacking):
    """The queue spares looks: where it cannot be opened, or somebody else made it, the file is free in its turn."""
    pytest.importorskip("fcntl")
    storage = opened(path)
    study, about = storage.open(study_row()).id, path.stat()
    folder, elsewhere = tmp_path / "temporary", tmp_path / "elsewhere"
    place = folder / f"welltuned-{os.getuid()}-{about.st_dev}-{about.st_ino}.lock"
    if lacking != "no folder":
        folder.mkdir()
        place.symlink_to(elsewhere) if lacking == "a link" else place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    writer.execute("BEGIN IMMEDIATE")
    waits, patiently = threading.Event(), storage._patiently

    def noted(*args):
        waits.set()
        return patiently(*args)

    def let_go():
        waits.wait(60)
        writer.execute("ROLLBACK")

    monkeypatch.setattr(storage, "_patiently", noted)
    thread = threading.Thread(target=let_go)
    thread.start()
    try:
        assert len(storage.claim(study, "me", LEASE)) == 1
    finally:
        waits.set()
        thread.join()
        writer.close()
    assert not elsewhere.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
def test_what_went_wrong_is_said_where_a_file_cannot_be_created():
    with pytest.raises(wt.StorageError) as caught:
        SQLiteStorage("/dev/full")
    assert "rollback" not in str(caught.value)


# copies


def held_by_the_file_alone(path, folder):
    """The numbers of the trials of each study in a copy of the file, without its log."""
    copy = Path(tempfile.mkdtemp(dir=folder)) / "copy.db"
    shutil.copy(path, copy)
    storage = SQLiteStorage(copy)
    found = {row.name: [t.number for t in storage.read(row.id).trials] for row in storage.studies()}
    storage.close()
    return found


def test_a_copy_of_the_file_has_the_study_from_the_first_moment_on(path, tmp_path, opened):
    storage = opened(path)
    storage.open(study_row())
    assert held_by_the_file_alone(path, tmp_path) == {"study": []}


def test_a_copy_of_the_file_has_all_of_a_run_that_has_ended(path, tmp_path):
    study = wt.Study({"x": (0.0, 1.0)}, storage=path, name="run", sampler="random", seed=0)
    study.optimize(lambda t: t["x"], n_trials=12, progress=False)
    assert held_by_the_file_alone(path, tmp_path) == {"run": list(range(12))}


def test_a_copy_of_the_file_has_nearly_all_of_one_that_goes_on(path, tmp_path, opened, monkeypatch):
    """From time to time, here always, the log is copied into the file."""
    monkeypatch.setattr("welltuned.storage.sqlite.SETTLE", 0.0)
    monkeypatch.setattr("welltuned.storage.sqlite.SETTLE_SHARE", math.inf)
    storage = opened(path)
    study = storage.open(study_row()).id
    storage.claim(study, "me", LEASE)
    with storage.together(study):
        storage.claim(study, "me", LEASE)
    assert held_by_the_file_alone(path, tmp_path) == {"study": [0, 1]}


def test_closing_leaves_nothing_to_the_log_where_others_go_on(path, tmp_path, opened):
    storage, _ = opened(path), opened(path)
    study = storage.open(study_row()).id
    storage.claim(study, "me", LEASE)
    storage.close()
    assert held_by_the_file_alone(path, tmp_path) == {"study": [0]}


def test_a_log_that_cannot_be_copied_harms_nothing(path, opened, monkeypatch):
    execute = Connection.execute

    def full(db, statement, *args):
        if "wal_checkpoint" in statement:
            raise sqlite3.OperationalError("database or disk is full")
        return execute(db, statement, *args)

    monkeypatch.setattr(Connection, "execute", full)
    storage = opened(path)
    study = storage.open(study_row()).id
    storage.update(study, attributes={"a": 1})
    assert [t.number for t in storage.claim(study, "me", LEASE)] == [0]
    assert [t.number for t in opened(path).read(study).trials] == [0]


# files that can be read only


@pytest.fixture
def frozen():
    """A finished study in a file and a folder that nobody may write."""
    folder = Path(tempfile.mkdtemp())  # which other users can enter, unlike those of pytest
    path = folder / "study ü#?.db"
    study = wt.Study({"x": (0.0, 1.0)}, storage=path, name="done", sampler="random", seed=0)
    study.optimize(lambda t: t["x"], n_trials=5, progress=False)
    study._ledger.close()
    path.chmod(0o444)
    folder.chmod(0o555)
    yield path
    folder.chmod(0o755)
    shutil.rmtree(folder)


def as_nobody(action):
    """Do something in a child without the rights of root; return what it says."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if os.getuid() == 0:
                os.setuid(65534)
            said = action()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as file:
        said = file.read()
    os.waitpid(pid, 0)
    return said


def look(path):
    """What is there, by every way of looking; also in another thread."""
    shown = CliRunner().invoke(app, ["show", "done", "--storage", str(path)])
    study = wt.Study(storage=path, name="done")
    found = []
    thread = threading.Thread(target=lambda: found.extend(study.trials))
    thread.start()
    thread.join()
    return f"{shown.exit_code} {len(found)} {study.best.number}"


def add(path):
    study = wt.Study({"x": (0.0, 1.0)}, storage=path, name="done")
    study.optimize(lambda t: t["x"], n_trials=9, progress=False)
    return "it was written"


def test_a_finished_study_is_looked_at_where_nothing_may_be_written(frozen):
    expected = look(frozen)  # as root, this loads all that the other one needs
    assert expected.startswith("0 5 ")
    for log in frozen.parent.glob("*-*"):
        log.unlink()
    assert as_nobody(lambda: look(frozen)) == expected
    assert sorted(p.name for p in frozen.parent.iterdir()) == [frozen.name]
    said = as_nobody(lambda: add(frozen))
    assert said.startswith("StorageError: ")
    assert "read-only" in said


def test_what_may_not_be_written_is_not_looked_at_without_its_log(frozen):
    """What was stored last is in the log, and would be missing without a word."""
    frozen.parent.chmod(0o755)
    log = frozen.with_name(f"{frozen.name}-wal")
    log.write_bytes(b"\0" * 32)
    log.chmod(0o400)
    storage = object.__new__(SQLiteStorage)
    storage.path = frozen
    assert as_nobody(lambda: str(storage._is_frozen())) == "False"
    log.unlink()
    frozen.parent.chmod(0o555)
    assert as_nobody(lambda: str(storage._is_frozen())) == "True"


def test_what_was_read_where_nothing_may_be_written_is_read_again_when_it_changes(path):
    """Somebody else may write: SQLite was told that nobody would, and went on with what it had read."""

    class Frozen(SQLiteStorage):
        def _prepare(self, db):
            raise sqlite3.OperationalError("unable to open database file")

        def _is_frozen(self):
            return True

    writer = SQLiteStorage(path)
    study = writer.open(study_row("a")).id
    writer.close()
    reader = Frozen(path)
    assert [row.name for row in reader.studies()] == ["a"]
    writer = SQLiteStorage(path)
    writer.open(study_row("b"))
    writer.add(study, [finished(0.5)])
    writer.close()
    assert [row.name for row in reader.studies()] == ["a", "b"]
    assert len(reader.read(study).trials) == 1
    with pytest.raises(wt.StorageError):
        reader.add(study, [finished(0.25)])


def test_renewing_a_lease_copies_no_log(path, monkeypatch):
    storage = SQLiteStorage(path)
    study = storage.open(study_row("a")).id
    trial = storage.claim(study, "me", 60.0)[0]
    copied = []
    monkeypatch.setattr(SQLiteStorage, "_settle", lambda self, db, now=False: copied.append(now))
    for _ in range(5):
        storage.renew(study, [(trial.number, trial.token)], 60.0)
    assert copied and not any(copied)
    storage.open(study_row("b"))
    assert any(copied)


# migrations, and files that are none of ours


def test_an_empty_file_is_brought_up_to_date(path, opened):
    path.touch()
    assert opened(path).studies() == []
    db = sqlite3.connect(path)
    assert db.execute("SELECT MAX(version) FROM welltuned_migration").fetchone() == (VERSION,)
    db.close()


def test_opening_again_migrates_nothing(path, opened):
    opened(path).open(study_row())
    db = sqlite3.connect(path)
    before = db.execute("SELECT * FROM welltuned_migration").fetchall()
    opened(path)
    assert db.execute("SELECT * FROM welltuned_migration").fetchall() == before
    db.close()


def dump(path):
    db = sqlite3.connect(path)
    lines = list(db.iterdump())
    db.close()
    return lines


def test_a_newer_schema_is_refused_and_left_alone(path):
    storage = SQLiteStorage(path)
    storage.open(study_row())
    storage.close()
    db = sqlite3.connect(path)
    with db:
        db.execute("INSERT INTO welltuned_migration VALUES (?, 'tomorrow')", (VERSION + 1,))
    db.close()
    before = dump(path)
    with pytest.raises(wt.StorageError, match=rf"version {VERSION + 1}.*upgrade"):
        SQLiteStorage(path)
    assert dump(path) == before


def test_a_newer_schema_is_not_written_to_at_all(path):
    db = sqlite3.connect(path)
    with db:
        db.execute("CREATE TABLE welltuned_migration (version INTEGER PRIMARY KEY, applied TEXT NOT NULL)")
        db.execute("INSERT INTO welltuned_migration VALUES (?, 'tomorrow')", (VERSION + 1,))
    db.close()
    before = path.read_bytes()
    with pytest.raises(wt.StorageError, match="upgrade"):
        SQLiteStorage(path)
    assert path.read_bytes() == before


def test_a_database_of_something_else_is_refused_and_left_alone(path):
    db = sqlite3.connect(path)
    with db:
        db.execute("CREATE TABLE customers (name TEXT)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(wt.StorageError, match="customers"):
        SQLiteStorage(path)
    assert path.read_bytes() == before


def test_what_is_no_database_is_refused_and_left_alone(path):
    path.write_text("just a text\n" * 100)
    with pytest.raises(wt.StorageError, match="another file"):
        SQLiteStorage(path)
    assert path.read_text() == "just a text\n" * 100


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(wt.StorageError, match=r"no-such-folder.*create it first"):
        SQLiteStorage(tmp_path / "no-such-folder" / "study.db")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(wt.StorageError, match="unable to open"):
        SQLiteStorage(tmp_path)


# what storage= takes


@pytest.mark.parametrize("make", [str, Path, lambda p: f"sqlite:///{p}", lambda p: f"sqlite:///{os.path.relpath(p)}"])
def test_paths_and_addresses_open_a_file(path, make):
    storage = open_storage(make(path))
    assert isinstance(storage, SQLiteStorage)
    assert storage.path.resolve() == path.resolve()
    storage.close()


@pytest.mark.parametrize(
    "spec", [None, "memory", "memory://", ":memory:", "sqlite://", "sqlite:///:memory:", "sqlite://:memory:"]
)
def test_memory_by_name(spec):
    assert isinstance(open_storage(spec), MemoryStorage)


def test_a_storage_is_taken_as_it_is():
    storage = MemoryStorage()
    assert open_storage(storage) is storage


@pytest.mark.parametrize(
    ("spec", "error"), [("", wt.InvalidValue), ("mysql://x", wt.InvalidValue), (3, wt.InvalidType)]
)
def test_what_is_no_storage(spec, error):
    with pytest.raises(error, match="storage="):
        open_storage(spec)


def test_a_password_in_what_is_no_address_is_not_shown():
    with pytest.raises(wt.InvalidValue) as caught:
        open_storage("host=localhost password=secret-word dbname=x")
    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize("name", ["./host=3.db", "hostile=3.db", "files:x.db", "x?.db"])
def test_names_of_files_that_only_look_like_addresses(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    storage = open_storage(name)
    storage.open(study_row())
    storage.close()
    assert Path(name).is_file()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_no_database_can_hold_is_refused(kind, path):
    """A text or a number that cannot be stored is an error of ours, and nothing is left open."""
    storage = STORAGES[kind](empty_postgres() if kind == "postgresql" else str(path))
    with pytest.raises(wt.InvalidValue, match="cannot be stored"):
        storage.open(study_row("\ud800"))
    study = storage.open(study_row()).id
    token = storage.claim(study, "me", LEASE)[0].token
    with pytest.raises((wt.InvalidValue, wt.StorageError)):
        storage.report(study, 0, token, Report(2**63, {"value": 1.0}))
    assert storage.report(study, 0, token, Report(2**63 - 1, {"value": 1.0}))
    assert [r.step for r in storage.read(study).trials[0].reports] == [2**63 - 1]
    storage.close()


def test_a_class_is_no_storage():
    with pytest.raises(wt.InvalidType, match="storage="):
        open_storage(MemoryStorage)


def test_nothing_is_unpickled(path, opened):
    """A file whose values are pickles is refused or passed through as text; none is executed."""
    storage = opened(path)
    study = storage.open(StudyRow(0, "study", {"value": "minimize"}, 0, {})).id
    storage.add(
        study,
        [
            Trial(
                0, State.COMPLETE, {"x": "cos\nsystem\n(S'touch /tmp/never'\ntR."}, {"value": 1.0}, origin=Origin.ADDED
            )
        ],
    )
    assert storage.read(study).trials[0].params == {"x": "cos\nsystem\n(S'touch /tmp/never'\ntR."}


# every schema there ever was


@pytest.mark.parametrize("version", range(1, VERSION))
def test_earlier_schemas_are_opened(version, tmp_path, opened):
    """A study as an earlier version stored it goes on, and what it held is there."""
    path = tmp_path / "study.db"
    db = sqlite3.connect(path)
    db.executescript((DATA / f"schema_{version}.sql").read_text(encoding="utf-8"))
    columns = "number, state, params, metrics, error, attributes"
    before = db.execute(f"SELECT {columns} FROM trial ORDER BY number").fetchall()
    db.close()
    study = wt.Study(storage=path, name="old", sampler="bayes")
    assert dict(study.directions) == {"value": "maximize"}
    assert study.seed == 3
    assert [(t.number, t.state.value, t.error) for t in study.trials] == [(n, s, e) for n, s, _, _, e, _ in before]
    assert [t.params and dict(t.params) for t in study.trials] == [p and json.loads(p) for _, _, p, _, _, _ in before]
    assert [t.attributes for t in study.trials] == [json.loads(a) for *_, a in before]
    assert all(len(t.reports) == 1 for t in study.trials if t.state is State.COMPLETE and t.origin is Origin.SAMPLER)
    assert study.trials[12].origin is Origin.ADDED
    study.optimize(lambda t: t["x"], n_trials=18, progress=False)
    assert sum(t.state.finished and t.origin is not Origin.ADDED for t in study.trials) == 18
    replayed = study.replay()
    assert set(replayed.skipped) >= set(range(12))
    assert replayed
    # the checksums of old rows are there too
    db = sqlite3.connect(path)
    db.execute("UPDATE trial SET metrics = '{\"value\": 99.0}' WHERE number = 1")
    db.commit()
    db.close()
    with pytest.raises(wt.errors.DamagedStorage, match="trial 1"):
        wt.Study(storage=path, name="old").trials  # noqa: B018


# a server


def test_a_password_is_never_shown(monkeypatch):
    pytest.importorskip("psycopg")
    with pytest.raises(wt.StorageError) as caught:
        PostgresStorage("postgresql://me:secret-word@127.0.0.1:1/none", patience=0.1)
    assert "secret-word" not in str(caught.value)
    assert "is the server running" in str(caught.value)


@pytest.mark.parametrize("url", ["postgresql://[", "postgresql://localhost/x?nonsense=1"])
def test_addresses_that_cannot_be_read(url):
    pytest.importorskip("psycopg")
    with pytest.raises(wt.errors.InvalidValue, match="postgresql://user:password@host:5432/database"):
        open_storage(url)


@pytest.mark.parametrize("url", ["postgresql://me:SECRET@[x", "POSTGRESQL://me:SECRET@localhost/x?nonsense=1"])
def test_a_password_in_an_address_that_cannot_be_read_is_not_shown(url):
    pytest.importorskip("psycopg")
    with pytest.raises(wt.errors.InvalidValue, match="postgresql://user:password@host:5432/database") as caught:
        open_storage(url)
    assert "SECRET" not in str(caught.value)


def test_a_missing_driver_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(wt.errors.MissingDependency, match=r"welltuned\[postgres\]"):
        open_storage("postgresql://localhost/x")


def test_a_server_with_a_newer_schema_is_refused():
    psycopg = pytest.importorskip("psycopg")
    url = empty_postgres()
    PostgresStorage(url).close()
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("INSERT INTO welltuned.welltuned_migration VALUES (%s, 'tomorrow')", (VERSION + 1,))
    with pytest.raises(wt.StorageError, match="upgrade welltuned"):
        PostgresStorage(url)


def test_a_connection_that_breaks_is_opened_again():
    """Between the calls, and in the middle of one whose answer is lost after it was committed."""
    psycopg = pytest.importorskip("psycopg")
    storage = PostgresStorage(empty_postgres(), patience=20.0)
    study = storage.open(study_row()).id
    token = storage.claim(study, "me", LEASE)[0].token

    def cut():
        with psycopg.connect(postgres_url(), autocommit=True) as db:
            pid = storage._connection.info.backend_pid
            db.execute("SELECT pg_terminate_backend(%s)", (pid,))
            while db.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchone():
                pass

    cut()
    assert storage.assign(study, 0, token, {"x": 0.5}, "k", 1)
    outcome = Outcome(State.COMPLETE, {"value": 1.0})
    assert storage.finish(study, 0, token, outcome)
    # the answer to a commit was lost: the same result again is recognised, another one is not
    finish, tries = SQLStorage.finish, []

    def interrupted(self, *args):
        done = finish(self, *args)
        tries.append(done)
        if len(tries) == 1:
            cut()
            self._look("SELECT 1", {})
        return done

    token = storage.claim(study, "me", LEASE)[0].token
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SQLStorage, "finish", interrupted)
        assert storage.finish(study, 1, token, outcome)
    assert tries == [True, False]
    assert not storage.finish(study, 1, token, Outcome(State.COMPLETE, {"value": 2.0}))
    assert [t.value for t in storage.read(study).trials] == [1.0, 1.0]
    storage.close()


def test_what_the_server_refuses_is_said_at_once():
    """As if the connection had broken, it was asked for again for a minute, and trials might have been added."""
    storage = PostgresStorage(empty_postgres())
    study, connection = storage.open(study_row()).id, storage._connection
    connection.execute("SET default_transaction_read_only = on")
    trial = Trial(0, State.WAITING, {"x": 0.5}, key="k")
    for act in (lambda: storage.add(study, [trial]), lambda: storage.update(study, stop_reason="enough")):
        with pytest.raises(wt.StorageError, match="in a read-only transaction"):
            act()
    assert storage._connection is connection and not connection.closed
    connection.execute("SET default_transaction_read_only = off")
    assert storage.add(study, [trial]) == [0]
    storage.close()


def test_whoever_waits_is_told(tmp_path):
    """A trial that is given back wakes another process at once, not at its next look."""
    url = empty_postgres()
    one, two = PostgresStorage(url), PostgresStorage(url)
    study = one.open(study_row()).id
    token = one.claim(study, "one", LEASE)[0].token
    seen = two.read(study).revision
    timer = threading.Timer(0.3, lambda: one.release(study, 0, token))
    timer.start()
    assert [t.state for t in two.read(study, seen, wait=30.0).trials] == [State.WAITING]
    timer.join()
    one.close()
    two.close()


def test_a_process_that_was_forked_has_its_own_connection():
    storage = PostgresStorage(empty_postgres())
    study = storage.open(study_row()).id
    pid = os.fork()
    if pid == 0:
        os._exit(0 if len(storage.claim(study, "child", LEASE)) == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert [t.owner for t in storage.read(study).trials] == ["child"]
    storage.close()


@pytest.mark.parametrize(
    "spec",
    [
        "host=/var/run/postgresql dbname=x password=s3cr3t",
        "host=a password='my s3cr3t' user=b",
        "password=s3cr3t/x",
        "sslrootcert=/etc/ca.pem sslpassword=s3cr3t",
        "postgresql:/ann:s3cr3t@host/base",
        "postgresql:ann:s3cr3t@host/base",
        "https:/s3cr3t@host:1",
        "sqlite:///a.db?password=s3cr3t",
        "POSTGRES:ann:s3cr3t@host",
        "httpx://:s3cr3t@host",
    ],
)
def test_an_address_that_is_refused_is_shown_without_its_secret(spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(wt.InvalidValue) as caught:
        open_storage(spec)
    assert "s3cr3t" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["user=ann/study.db", "a@b.db", "ann@example.org/study.db"])
def test_files_may_have_names_that_look_a_little_like_addresses(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / path).parent.mkdir(exist_ok=True)
    storage = open_storage(path)
    assert isinstance(storage, SQLiteStorage) and path in repr(storage.where)
    storage.close()
