"""Studies that are deleted: all of them goes, those who work on them are told, and nothing comes back."""

import contextlib
import io
import itertools
import sqlite3
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

import welltuned as wt
from servers import empty_postgres
from welltuned.cli import main
from welltuned.cli.app import app
from welltuned.server.desk import Desk
from welltuned.storage import MemoryStorage, SQLiteStorage, StudyRow
from welltuned.storage.salvage import salvage
from welltuned.testing.storage import LEASE, finished, study_row
from welltuned.trial import Report

SPACE = {"x": (0.0, 1.0)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "study.db"


def searched(where, name="mlp", n=5, **options):
    study = wt.Study(SPACE, storage=where, name=name, sampler="random", seed=0, **options)
    study.optimize(lambda t: t.report(t["x"], 1) or t["x"], n_trials=n, progress=False)
    return study


def rows_of(path):
    """How many rows of each table there are."""
    db = sqlite3.connect(path)
    tables = ("study", "space", "trial", "report", "dropped")
    found = {table: db.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in tables}
    db.close()
    return found


# from Python


def test_a_study_is_deleted(path):
    study = searched(path)
    searched(path, "other", 2)
    assert wt.delete_study(str(path), name="mlp") == 5
    assert [row.name for row in SQLiteStorage(path).studies()] == ["other"]
    assert rows_of(path) == {"study": 1, "space": 1, "trial": 2, "report": 2, "dropped": 1}
    for look in (lambda: study.trials, lambda: study.best, lambda: study.stop_reason, study.ask):
        with pytest.raises(wt.UnknownStudy, match=r"study 'mlp' is gone: somebody has deleted it"):
            look()
    again = searched(path, n=3)
    assert [t.number for t in again.trials] == [0, 1, 2]
    with pytest.raises(wt.UnknownStudy):
        _ = study.trials


def test_a_storage_that_is_open_stays_open():
    storage = MemoryStorage()
    searched(storage)
    assert wt.delete_study(storage, "mlp") == 5
    assert storage.studies() == []


@pytest.mark.parametrize("address", ["{}", "sqlite:///{}", "sqlite://{}"])
def test_a_file_that_is_not_there_is_not_made(path, address, monkeypatch):
    monkeypatch.chdir(path.parent)
    with pytest.raises(wt.StorageError, match=r"study.db' does not exist; name the file with storage="):
        wt.delete_study(address.format("study.db"), "mlp")
    assert not path.exists()


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("mpl", wt.InvalidValue, r"study.db' has no study 'mpl'; it has \['mlp', 'other'\]"),
        (None, wt.InvalidType, "name=None is not a string"),
    ],
)
def test_what_is_not_there_is_named_beside_what_is(path, name, error, says):
    searched(path)
    searched(path, "other", 1)
    with pytest.raises(error, match=says):
        wt.delete_study(path, name)
    assert rows_of(path)["trial"] == 6


def test_a_file_that_may_only_be_read_is_refused(path):
    searched(path)

    class Frozen(SQLiteStorage):
        def _prepare(self, db):
            raise sqlite3.OperationalError("unable to open database file")

        def _is_frozen(self):
            return True

    with pytest.raises(wt.StorageError, match="readonly database; the file or its folder is read-only"):
        wt.delete_study(Frozen(path), "mlp")
    assert rows_of(path)["trial"] == 5


def test_a_full_disk_deletes_nothing(path):
    """All of it goes, or nothing."""
    searched(path, n=50)

    class Full(SQLiteStorage):
        def _runner(self, db):
            run = super()._runner(db)

            def limited(statement, args=()):
                if statement.startswith("DELETE FROM study"):
                    raise sqlite3.OperationalError("database or disk is full")
                return run(statement, args)

            return limited

    before = rows_of(path)
    with pytest.raises(wt.StorageError, match="free some space"):
        wt.delete_study(Full(path), "mlp")
    assert rows_of(path) == before


def test_checkpoints_beside_the_file_go_too(path, tmp_path):
    def leave(trial):
        (trial.checkpoint / "weights").write_text("x")
        return trial["x"]

    own = tmp_path / "own"
    for name, folder in (("mlp", None), ("other", None), ("elsewhere", own)):
        study = wt.Study(SPACE, storage=path, name=name, sampler="random", seed=0, checkpoints=folder)
        study.optimize(leave, n_trials=2, progress=False)
    beside = tmp_path / "study.db-checkpoints"
    wt.delete_study(path, "mlp")
    assert [p.name.rpartition("-")[0] for p in beside.iterdir()] == ["other"]
    wt.delete_study(path, "other")
    assert not beside.exists()
    wt.delete_study(path, "elsewhere")
    assert len(list(own.rglob("weights"))) == 2  # nobody has stored where they are


def test_no_folder_elsewhere_is_removed(path, tmp_path):
    """What another program stored as a name may be the way to anything."""
    storage = SQLiteStorage(path)
    (tmp_path / "study.db-checkpoints").mkdir()
    for name in ("../precious", str(tmp_path / "precious")):
        row = storage.open(StudyRow(0, name, {"value": "minimize"}, 0, {"name": "random"}, created=1.5))
        (tmp_path / f"precious-{round(1.5e6):x}").mkdir(exist_ok=True)
        wt.delete_study(storage, row.name)
        assert (tmp_path / f"precious-{round(1.5e6):x}").is_dir()
    storage.close()


def test_a_name_that_no_folder_can_have_is_no_obstacle(path, tmp_path, caplog):
    """There are none of its checkpoints, since there could be none."""
    name = "long" * 75
    searched(path, name)
    (tmp_path / "study.db-checkpoints" / "other").mkdir(parents=True)
    assert wt.delete_study(path, name) == 5
    assert not caplog.records


def test_checkpoints_that_cannot_be_removed_are_named(path, monkeypatch, caplog):
    study = wt.Study(SPACE, storage=path, name="mlp", sampler="random", seed=0)
    study.optimize(lambda t: len(str(t.checkpoint)), n_trials=1, progress=False)

    def refuse(folder):
        raise PermissionError("not yours")

    monkeypatch.setattr("welltuned.study.shortcuts.shutil.rmtree", refuse)
    assert wt.delete_study(path, "mlp") == 1
    assert "not its checkpoints in" in caplog.text and "not yours" in caplog.text


# those who work on it


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_loop_ends_with_one_error_that_says_why(path, workers, sampler, caplog):
    """Nothing of the study comes back, whatever the loop would store on its way out."""
    study = wt.Study(SPACE, storage=path, name="mlp", sampler=sampler, seed=0)

    def objective(trial):
        if trial.number == 3:
            wt.delete_study(path, "mlp")
        return trial["x"]

    with pytest.raises(wt.UnknownStudy, match="study 'mlp' is gone") as caught:
        study.optimize(objective, n_trials=20, workers=workers, progress=False)
    assert caught.value.__cause__ is None
    assert "Traceback" not in caplog.text
    assert rows_of(path) == {"study": 0, "space": 0, "trial": 0, "report": 0, "dropped": 1}


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_an_interrupt_stays_one(path, sampler):
    study = wt.Study(SPACE, storage=path, name="mlp", sampler=sampler, seed=0)

    def objective(trial):
        wt.delete_study(path, "mlp")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.optimize(objective, n_trials=20, progress=False)
    assert rows_of(path)["study"] == 0


def test_an_objective_that_suggests_its_parameters_brings_nothing_back(path):
    study = wt.Study(storage=path, name="mlp", sampler="random", seed=0)

    def objective(trial):
        if trial.number == 2:
            wt.delete_study(path, "mlp")
        return trial.suggest_float(f"x{trial.number}", 0.0, 1.0)

    with pytest.raises(wt.UnknownStudy, match="study 'mlp' is gone"):
        study.optimize(objective, n_trials=9, progress=False)
    assert rows_of(path)["study"] == 0


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_space_that_grows_meanwhile_brings_nothing_back(kind, path):
    """The study was opened again to see what others had made of its space, which made it anew."""
    storage = MemoryStorage() if kind == "memory" else SQLiteStorage(path)
    study = wt.Study(storage=storage, name="mlp", sampler="random", seed=0)
    study.optimize(lambda t: t.suggest_float("x", 0.0, 1.0), n_trials=2, progress=False)
    ledger = study.coordinator.ledger
    refresh = ledger.refresh

    def deleted_just_then():
        refresh()
        ledger.refresh = refresh
        wt.delete_study(storage, "mlp")

    ledger.refresh = deleted_just_then
    with pytest.raises(wt.UnknownStudy, match="study 'mlp' is gone"):
        ledger.widen({"y": wt.Float(0.0, 1.0)})
    assert storage.studies() == []
    storage.close()


def test_an_objective_that_reports_is_told_to_stop(path, caplog):
    study = wt.Study(SPACE, storage=path, name="mlp", sampler="random", seed=0)
    steps = []

    def objective(trial):
        for step in range(10):
            steps.append(step)
            trial.report(1.0, step)
            if trial.should_stop():
                break
            if step == 2:
                wt.delete_study(path, "mlp")
        return 1.0

    with pytest.raises(wt.UnknownStudy):
        study.optimize(objective, n_trials=2, progress=False)
    assert steps == [0, 1, 2, 3]
    assert "trial 0 is to stop: study 'mlp' is gone" in caplog.text


def test_who_asked_cannot_tell(path):
    study = wt.Study(SPACE, storage=path, name="mlp", seed=0)
    trial = study.ask()
    wt.delete_study(path, "mlp")
    for act in (lambda: study.tell(trial, 1.0), lambda: study.add({"x": 0.5}, 1.0), lambda: study.enqueue({"x": 0.5})):
        with pytest.raises(wt.UnknownStudy, match="study 'mlp' is gone"):
            act()


def test_leases_of_a_deleted_study_are_not_renewed(path, caplog):
    study = wt.Study(SPACE, storage=path, name="mlp", seed=0)
    study.ask()
    ledger = study.coordinator.ledger
    assert ledger.renew()
    wt.delete_study(path, "mlp")
    assert not ledger.renew()
    assert "trials [0] find nothing that is kept: study 'mlp' is gone" in caplog.text
    assert "taken over" not in caplog.text


WORKER = """
import time

space = {"x": (0.0, 1.0)}


def objective(trial):
    time.sleep(0.05)
    return trial["x"]
"""


def test_a_worker_on_the_command_line_ends_with_a_line(path, tmp_path):
    (tmp_path / "slow.py").write_text(WORKER)
    wt.Study(SPACE, storage=path, name="mlp", sampler="random", seed=0)
    command = [sys.executable, "-c", "from welltuned.cli import main; main()", "worker", "mlp", "slow.py:objective"]
    worker = subprocess.Popen(
        [*command, "-n", "100000", "--storage", str(path), "--workers", "2"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    storage, deadline = SQLiteStorage(path), time.monotonic() + 60
    while len(storage.read(1).trials) < 4:
        assert worker.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    wt.delete_study(storage, "mlp")
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 1
    assert said.splitlines()[-1].startswith("Error: study 'mlp' is gone: somebody has deleted it")
    assert "Traceback" not in said
    assert storage.studies() == []
    storage.close()


# salvage


def test_salvage_brings_nothing_back_that_was_deleted(path, tmp_path):
    """The rows of a deleted study stand in free pages and in the log still, with the right checksums."""
    storage = SQLiteStorage(path)
    storage.open(study_row("first"))
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM study").fetchall()  # until it ends, the log is not begun anew
    for name, n in (("mlp", 60), ("other", 5)):
        study = storage.open(study_row(name, spaces=({"parameters": {}},))).id
        storage.add(study, [finished(i / n).but(key=str(i), reports=(Report(1, {"value": 1.0}),)) for i in range(n)])
    assert wt.delete_study(storage, "mlp") == 60
    study = storage.open(study_row("mlp", spaces=({"parameters": {}},))).id
    storage.add(study, [finished(0.5)])
    saved = salvage(path, tmp_path / "new.db")
    assert [(s.name, s.finished, s.missing) for s in saved] == [
        *(("first", 0, ()), ("other", 5, ()), ("mlp", 1, ()))
    ]
    for name in ("first", "mlp", "other"):
        wt.delete_study(storage, name)
    reader.close()
    storage.close()
    with pytest.raises(wt.StorageError, match="nothing in it can be read as a study"):
        salvage(path, tmp_path / "none.db")


def test_salvage_keeps_two_studies_of_one_name_apart(path, tmp_path, monkeypatch):
    """Where what says that one of them was deleted is lost, the later one keeps the name."""
    storage = SQLiteStorage(path)
    for n in (20, 3):
        study = storage.open(study_row("mlp")).id
        if n == 20:
            reader = sqlite3.connect(path, isolation_level=None)
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM study").fetchall()
        storage.add(study, [finished(i / n).but(key=str(i)) for i in range(n)])
        if n == 20:
            storage.delete(study)
    monkeypatch.setattr("welltuned.storage.records.tombstone_of", lambda study, revision: {})
    assert [(s.name, s.finished) for s in salvage(path, tmp_path / "new.db")] == [("mlp-1", 20), ("mlp", 3)]
    reader.close()
    storage.close()


def test_salvage_gives_no_study_the_name_of_another_one(path, tmp_path, monkeypatch):
    storage = SQLiteStorage(path)
    reader = sqlite3.connect(path, isolation_level=None)
    for name, n in (("mlp", 4), ("mlp-1", 3), ("mlp", 2)):
        study = storage.open(study_row(name)).id
        storage.add(study, [finished(i / n).but(key=str(i)) for i in range(n)])
        if n == 3:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM study").fetchall()
            storage.delete(1)
    monkeypatch.setattr("welltuned.storage.records.tombstone_of", lambda study, revision: {})
    saved = [(s.name, s.finished) for s in salvage(path, tmp_path / "new.db")]
    assert saved == [("mlp-1-1", 4), ("mlp-1", 3), ("mlp", 2)]
    reader.close()
    storage.close()


# PostgreSQL


def test_deleting_is_repeated_where_the_connection_to_postgres_breaks():
    from welltuned.storage.postgres import PostgresStorage

    storage = PostgresStorage(empty_postgres())
    study = storage.open(study_row(spaces=({"parameters": {}},))).id
    trial = storage.claim(study, "me", LEASE, 3)[0]
    storage.report(study, trial.number, trial.token, Report(1, {"value": 1.0}))
    original = storage._transaction

    def breaking(number):
        context = original(number)

        class Broken:
            def __enter__(self):
                return context.__enter__()

            def __exit__(self, *error):
                context.__exit__(*error)
                storage._transaction = original
                storage._connection.close()
                raise __import__("psycopg").OperationalError("the connection is lost")

        return Broken()

    storage._transaction = breaking
    assert storage.delete(study) == 0  # it was done, and how many there were is lost
    tables = ("study", "space", "trial", "report", "dropped")
    assert [storage._look(f"SELECT COUNT(*) FROM {table}", {})[0][0] for table in tables] == [0, 0, 0, 0, 1]
    with pytest.raises(wt.UnknownStudy):
        storage.delete(study)
    storage.close()


def test_a_server_forgets_while_others_renew():
    """Leases come in other threads meanwhile: the study was deleted, and the answer was that the server had failed."""
    desk, numbers = Desk(MemoryStorage(), None), itertools.count()

    class Name(str):
        __hash__ = str.__hash__

        def __eq__(self, other):
            desk._leases["other", next(numbers)] = 1, 60.0  # as another thread does, at any moment
            return str.__eq__(self, other)

        def __ne__(self, other):
            return not self == other

    desk._leases = {("gone", 0): (1, 60.0), ("other", 7): (1, 60.0), ("gone", 1): (1, 60.0)}
    desk.forget(1, Name("gone"))
    assert {name for name, _ in desk._leases} == {"other"}
    assert len(desk._leases) == 4


# the command line


def delete(*args, terminal=None, monkeypatch=None):
    if terminal is not None:
        monkeypatch.setattr("welltuned.cli.moving.on_terminal", lambda: True)
    return CliRunner().invoke(app, ["delete", *args], input=terminal)


def test_the_command_asks_on_a_terminal(path, monkeypatch):
    study = searched(path)
    study.enqueue({"x": 0.5})
    study.n_trials = None
    study.ask()
    result = delete("mlp", "--storage", str(path), terminal="n\n", monkeypatch=monkeypatch)
    assert result.exit_code == 0
    assert "delete study 'mlp' with 6 trials, 1 of which are being evaluated now, for good? [y/N]" in result.output
    assert result.output.endswith("nothing is deleted\n")
    assert rows_of(path)["study"] == 1
    result = delete(f"{path}:mlp", terminal="y\n", monkeypatch=monkeypatch)
    assert result.output.endswith("deleted study 'mlp' with 6 trials\n")
    assert rows_of(path)["study"] == 0


def test_without_a_standard_input_nobody_is_asked(path, monkeypatch):
    searched(path)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(wt.InvalidValue, match="no terminal to ask on, give --yes"):
        app(["delete", "mlp", "--storage", str(path)], standalone_mode=False)
    assert rows_of(path)["study"] == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, EOFError])
def test_who_interrupts_the_question_deletes_nothing(path, error, monkeypatch):
    """And is not told that the same command goes on."""
    searched(path)

    def interrupt(prompt):
        raise error

    monkeypatch.setattr("click.termui.visible_prompt_func", interrupt)
    monkeypatch.setattr("welltuned.cli.moving.on_terminal", lambda: True)
    monkeypatch.setattr(sys, "argv", ["welltuned", "delete", "mlp", "--storage", str(path)])
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), pytest.raises(SystemExit):
        main()
    assert said.getvalue().splitlines()[-1] == "nothing is deleted"
    assert "interrupted" not in said.getvalue()
    assert rows_of(path)["study"] == 1


@pytest.mark.parametrize("command", ["delete", "show"])
def test_no_password_of_a_storage_is_shown(command, path, monkeypatch):
    searched(path)
    searched(path, "other")
    storage = "postgresql://me:sesame@host/base"
    monkeypatch.setattr("welltuned.cli.common.open_existing", lambda *_: SQLiteStorage(path))
    args = {"delete": [["mpl", "--yes"]], "show": [["mpl"], []]}[command]
    for some in args:
        result = CliRunner().invoke(app, [command, *some, "--storage", storage])
        assert str(result.exception).startswith("postgresql://…@host/base h")


def test_without_a_terminal_it_takes_a_word(path):
    searched(path)
    result = delete("mlp", "--storage", str(path))
    assert isinstance(result.exception, wt.InvalidValue) and "give --yes" in str(result.exception)
    assert rows_of(path)["study"] == 1
    result = delete("mlp", "--storage", str(path), "--yes")
    assert (result.exit_code, result.output) == (0, "deleted study 'mlp' with 5 trials\n")


def test_the_command_says_what_there_is(path):
    searched(path)
    for args, says in (
        (("mpl", "--storage", str(path)), r"has no study 'mpl'; it has ['mlp']"),
        ((str(path),), "names no study; write"),
        (("mlp", "--storage", str(path.with_name("none.db"))), "does not exist; name the file with --storage"),
    ):
        result = delete(*args, "--yes")
        assert isinstance(result.exception, wt.WelltunedError) and says in str(result.exception)
    assert not path.with_name("none.db").exists()
    assert rows_of(path)["study"] == 1


def test_what_is_damaged_can_be_deleted(path, monkeypatch):
    searched(path)
    db = sqlite3.connect(path)
    db.execute("UPDATE trial SET metrics = '{\"value\": 99.0}' WHERE number = 1")
    db.commit()
    db.close()
    result = delete("mlp", "--storage", str(path), terminal="y\n", monkeypatch=monkeypatch)
    assert "with all its trials, of which some are damaged, for good?" in result.output
    assert rows_of(path)["trial"] == 0
