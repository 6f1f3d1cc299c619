"""Files that were cut off, or whose bits have changed: never a wrong answer, and what is good can be saved."""

import json
import random
import shutil
import sqlite3
import types

import pytest
from click.testing import CliRunner

import welltuned as wt
from welltuned.cli.app import app
from welltuned.storage import SQLiteStorage, wal
from welltuned.storage.salvage import salvage
from welltuned.testing.storage import finished, study_row
from welltuned.trial import Outcome, Report, State

SEEN = ["number", "state", "params", "metrics", "sems", "error", "reason", "seconds", "attributes", "reports", "key"]
DIRECTIONS = {"value": "maximize"}


def fill(storage, n, seed=0):
    """Run a study of n trials by hand: reports, failures, gradients, notes, some of them long."""
    chance = random.Random(seed)
    study = storage.open(study_row("damaged", directions=DIRECTIONS, seed=7, spaces=({"parameters": {}},))).id
    storage.add(study, [finished(0.25).but(key="added")])
    for _ in range(n):
        trial = storage.claim(study, "somebody", 600.0)[0]
        params = {"x": chance.random(), "kind": chance.choice("abc")}
        storage.assign(study, trial.number, trial.token, params, str(params), 1, provenance={"lead": trial.number})
        if chance.random() < 0.3:
            for step in range(3):
                storage.report(study, trial.number, trial.token, Report(step, {"value": chance.random()}))
        if chance.random() < 0.2:
            outcome = Outcome(State.FAILED, error="x" * chance.choice([5, 3000]))
        else:
            outcome = Outcome(State.COMPLETE, {"value": chance.random()}, seconds=chance.random(), attributes={"a": 1})
        storage.finish(study, trial.number, trial.token, outcome)
    return study


def content(storage):
    """All that a user would see of the study."""
    rows = storage.studies()
    assert [row.name for row in rows] == ["damaged"]
    row = rows[0]
    trials = storage.read(row.id).trials
    seen = [
        (*[getattr(t, name) for name in SEEN],)
        for t in trials
    ]
    return (row.directions, row.seed, row.sampler, row.stop_reason, row.spaces, row.attributes), seen


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two studies: one whose process ended well, one whose process died with a log; and what is in them."""
    folder = tmp_path_factory.mktemp("files")
    whole = SQLiteStorage(folder / "whole.db")
    fill(whole, 40)
    truth = content(whole)
    whole.close()
    crashed = SQLiteStorage(folder / "running.db")
    fill(crashed, 25)
    crashed._db().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    fill(crashed, 25, seed=1)
    (folder / "crashed").mkdir()
    for suffix in ("", "-wal", "-shm"):
        shutil.copy(folder / f"running.db{suffix}", folder / "crashed" / f"crashed.db{suffix}")
    known = content(crashed)
    crashed.close()
    return {"whole": (folder / "whole.db", truth), "crashed": (folder / "crashed" / "crashed.db", known)}


def copy_to(folder, path):
    for suffix in ("", "-wal", "-shm"):
        source = path.with_name(path.name + suffix)
        if source.exists():
            shutil.copy(source, folder / f"study.db{suffix}")
    return folder / "study.db"


def damage(path, chance):
    """Cut a file off, or change one bit of it, and say what was done."""
    log = path.with_name(path.name + "-wal")
    target = log if log.exists() and chance.random() < 0.5 else path
    data = bytearray(target.read_bytes())
    at = chance.randrange(len(data))
    if chance.random() < 0.3:
        target.write_bytes(data[:at])
        return f"{target.name} cut off at {at}"
    data[at] ^= 1 << chance.randrange(8)
    target.write_bytes(data)
    return f"{target.name} changed at {at}"


@pytest.mark.parametrize("name", ["whole", "crashed"])
def test_damage_is_never_a_wrong_answer(files, name, tmp_path, monkeypatch):
    """500 damaged copies of each: all that was stored, at most the last change lost, or a clear refusal.

    A refusal looks again, since somebody may be writing just now; here nobody is, and it need not wait.
    """
    monkeypatch.setattr(wal, "time", types.SimpleNamespace(sleep=lambda seconds: None))
    source, truth = files[name]
    outcomes = {"whole": 0, "refused": 0, "last change lost": 0}
    for i in range(500):
        chance = random.Random(f"{name}{i}")
        folder = tmp_path / str(i)
        folder.mkdir()
        path = copy_to(folder, source)
        what = damage(path, chance)
        try:
            storage = SQLiteStorage(path)
            try:
                found = content(storage)
            finally:
                storage.close()
        except wt.StorageError as error:
            assert "salvage" in str(error) or "not a database" in str(error) or "newer" in str(error), (what, error)
            outcomes["refused"] += 1
        else:
            if found == truth:
                outcomes["whole"] += 1
            else:
                differing = [n for n, t in enumerate(truth[1]) if n >= len(found[1]) or found[1][n] != t]
                assert found[0] == truth[0], what
                assert differing == [len(truth[1]) - 1], what
                outcomes["last change lost"] += 1
        shutil.rmtree(folder)
    assert sum(outcomes.values()) == 500
    assert outcomes["refused"] > 50
    print(name, outcomes)


def test_what_a_killed_writer_left_in_the_log_is_no_damage(tmp_path):
    """Frames of a commit that the index never heard of, behind a shorter one: the file is whole, and opens."""
    path = tmp_path / "study.db"
    storage = SQLiteStorage(path)
    study = fill(storage, 10)
    index = path.with_name("study.db-shm")
    before = index.read_bytes()[:136]
    known = content(storage)
    storage.add(study, [finished(i / 1000).but(key=str(i)) for i in range(100)])  # a commit of several pages ...
    with index.open("r+b") as file:
        file.write(before)  # ... whose writer was killed before the index said so
    other = SQLiteStorage(path)
    assert content(other) == known
    other.update(study, attributes={"short": 1})  # a commit of one page over the first of those
    again = SQLiteStorage(path)
    assert content(again)[1] == known[1]
    assert again.studies()[0].attributes["short"] == 1
    for one in (storage, other, again):
        one.close()


def test_what_is_good_is_saved(files, tmp_path):
    """Of a file with a wrong bit, or cut off in the middle, all that is not hit is saved, and nothing is wrong."""
    source, truth = files["crashed"]
    known = {t[0]: t for t in truth[1]}
    saved = []
    for i in range(60):
        chance = random.Random(i)
        folder = tmp_path / str(i)
        folder.mkdir()
        path = copy_to(folder, source)
        what = damage(path, chance)
        try:
            salvage(path, folder / "new.db")
        except wt.StorageError:
            assert "study.db cut off" in what or "changed" in what
            continue
        storage = SQLiteStorage(folder / "new.db")
        row, trials = content(storage)
        storage.close()
        assert row[:3] == truth[0][:3], what
        for trial in trials:
            if trial[1].finished:
                assert trial[:9] == known[trial[0]][:9], what
        if "changed" in what:
            saved.append(sum(t[1].finished for t in trials) / len(known))
    assert min(saved) >= 0.7
    assert sorted(saved)[len(saved) // 2] >= 0.97


def test_the_log_is_found_behind_a_symbolic_link(files, tmp_path):
    """SQLite keeps the log beside the file itself, not beside the link; so it is looked for, and saved, there."""
    source, truth = files["crashed"]
    (tmp_path / "real").mkdir()
    path, link = copy_to(tmp_path / "real", source), tmp_path / "link.db"
    link.symlink_to(path)
    saved = salvage(link, tmp_path / "new.db")
    assert sum(s.finished for s in saved) == sum(t[1].finished for t in truth[1])
    log = path.with_name("study.db-wal")
    log.write_bytes(log.read_bytes()[:-3000])
    with pytest.raises(wt.errors.DamagedStorage, match="write-ahead log"):
        SQLiteStorage(link)


def test_salvage_from_the_command_line(files, tmp_path):
    path = copy_to(tmp_path, files["whole"][0])
    data = bytearray(path.read_bytes())
    data[100] ^= 0xFF
    path.write_bytes(data)
    new = tmp_path / "new.db"
    result = CliRunner().invoke(app, ["salvage", str(path), str(new)])
    assert result.exit_code == 0, result.output
    assert "damaged: 41 finished trials saved" in result.output
    storage = SQLiteStorage(new)
    assert content(storage)[1] == files["whole"][1][1]
    storage.close()
    again = CliRunner().invoke(app, ["salvage", str(path), str(new)])
    assert again.exit_code != 0
    assert "exists" in str(again.exception or again.output)


def test_paused_trials_are_saved_as_such(tmp_path):
    """They lack no result that anybody had."""
    path, new = tmp_path / "study.db", tmp_path / "new.db"
    study = wt.Study({"x": (0.0, 1.0)}, storage=path, sampler="random", seed=0, scheduler=wt.Asha(last=9))
    for _ in range(3):
        trial = study.ask()
        trial.report(trial["x"], step=3)
        study.tell(trial, state="pruned")
    study._ledger.close()
    result = CliRunner().invoke(app, ["salvage", str(path), str(new)])
    assert "study: 0 finished trials saved, and 3 paused ones" in result.output
    assert "to be evaluated again" not in result.output
    assert [(t.state, len(t.reports)) for t in wt.Study(storage=new).trials] == [(State.PAUSED, 1)] * 3


def test_a_saved_study_goes_on(tmp_path):
    path = tmp_path / "study.db"
    study = wt.Study({"x": (0.0, 1.0)}, storage=path, sampler="random", seed=0)
    study.optimize(lambda t: t["x"], n_trials=10, progress=False)
    values = [t.value for t in study.trials]
    study._ledger.close()
    data = bytearray(path.read_bytes())
    data[16:18] = b"\xff\xff"  # the size of pages
    path.write_bytes(data)
    with pytest.raises(wt.StorageError):
        wt.Study(storage=path)
    salvage(path, tmp_path / "new.db")
    again = wt.Study(storage=tmp_path / "new.db", sampler="random")
    again.optimize(lambda t: t["x"], n_trials=12, progress=False)
    assert [t.value for t in again.trials][:10] == values
    assert len(again.trials) == 12


@pytest.mark.parametrize(
    ("n", "header"),
    # the larger ones without what states the size: after it is found, both are read alike
    [(1, "whole"), (30, "whole"), (1, "wiped"), (8, "wiped"), (30, "wiped"), (100, "wiped"), (300, "wiped")],
)
def test_the_size_of_pages_is_found(tmp_path, n, header):
    """By chance leaves begin at many multiples of twice the size, which was then taken for it."""
    path = tmp_path / "study.db"
    storage = SQLiteStorage(path)
    for name in ("damaged", "other", "third"):
        study = storage.open(study_row(name, directions=DIRECTIONS, spaces=({"parameters": {}},))).id
        storage.add(study, [finished(i / n).but(key=str(i), reports=reports(i % 50)) for i in range(n)])
    truth = [storage.read(row.id).trials for row in storage.studies()]
    storage.close()
    if header == "wiped":
        with path.open("r+b") as file:
            file.write(bytes(100))
    assert [(s.name, s.finished, s.missing) for s in salvage(path, tmp_path / "saved.db")] == [
        (name, n, ()) for name in ("damaged", "other", "third")
    ]
    saved = SQLiteStorage(tmp_path / "saved.db")
    found = [saved.read(row.id).trials for row in saved.studies()]
    assert [[getattr(t, name) for name in SEEN] for t in sum(found, ())] == [
        [getattr(t, name) for name in SEEN] for t in sum(truth, ())
    ]


def reports(n):
    return tuple(Report(step, {"value": step / 7}) for step in range(n))


def test_a_study_that_cannot_be_read_hides_no_other_from_a_list(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    path = "s.db"
    for name in ("one", "two", "three"):
        wt.minimize(lambda t: t["x"], {"x": (0.0, 1.0)}, 2, storage=path, name=name, sampler="random", seed=0)
    db = sqlite3.connect(path)
    db.execute("""UPDATE trial SET metrics = '{"value": 7.0}' WHERE number = 1 AND study = 2""")
    db.commit()
    db.close()
    lines = CliRunner().invoke(app, ["list", "--storage", path], catch_exceptions=False).output.splitlines()
    assert [line.split()[0] for line in lines] == ["study", "one", "two", "three"]
    assert "trial 1 is not what was stored" in lines[2]
    listed = json.loads(CliRunner().invoke(app, ["list", "--json", "--storage", path]).output)
    assert [row["name"] for row in listed if "error" not in row] == ["one", "three"]
    assert "trial 1 is not what was stored" in listed[1]["error"]
