"""Demands on limits, devices, batches, determinism and browsing, each test named after its demand."""

import contextlib
import json
import multiprocessing
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import welltuned as wt
from objectives import sleepy
from welltuned.testing.storage import finished
from welltuned.trial import Origin, Outcome, Reason, State, Trial


def table(study):
    """All that a run decided, without what the clock says."""
    return [(t.number, dict(t.params or {}), dict(t.metrics), t.state, t.reason, len(t.reports)) for t in study.trials]


# D14: hard caps on time and memory


def endless(trial):
    while trial["x"] > 0.5:
        pass
    return trial["x"]


def deaf(trial):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(60)


def greedy(trial):
    kept = []
    while trial["x"] > 0.5:
        kept.append(bytearray(10_000_000))
    return trial["x"]


def greedy_children(trial):
    """Let two other processes take the memory, each less than its share, and wait for them."""
    if trial["x"] > 0.5:
        code = "import time\nb = bytearray(200_000_000)\nfor i in range(0, len(b), 4096): b[i] = 1\ntime.sleep(60)"
        for child in [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]:
            child.wait()
    return trial["x"]


def queue(study, *xs):
    study.enqueue([{"x": x} for x in xs])


def test_d14_an_endless_trial_is_gone_after_its_time():
    study = wt.Study({"x": (0.0, 1.0)}, seed=0)
    queue(study, 0.25, 0.75, 0.3)
    study.optimize(endless, n_trials=3, trial_timeout=2, progress=False)
    assert [t.state for t in study.trials] == [State.COMPLETE, State.FAILED, State.COMPLETE]
    failed = study.trials[1]
    assert failed.reason is Reason.TIMEOUT
    assert "2 seconds" in failed.error
    assert 2 <= failed.seconds < 3


def test_d14_a_trial_that_ignores_signals_is_gone_too():
    study = wt.Study({"x": (0.0, 1.0)}, seed=0)
    study.optimize(deaf, n_trials=1, trial_timeout=1, progress=False)
    assert study.trials[0].reason is Reason.TIMEOUT


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is watched on Linux only")
@pytest.mark.parametrize("objective", [greedy, greedy_children])
def test_d14_a_greedy_trial_is_out_of_memory_and_the_study_alive(objective):
    study = wt.Study({"x": (0.0, 1.0)}, seed=0)
    queue(study, 0.25, 0.75, 0.3)
    study.optimize(objective, n_trials=3, memory_limit="300 MB", progress=False)
    assert [t.state for t in study.trials] == [State.COMPLETE, State.FAILED, State.COMPLETE]
    assert study.trials[1].reason is Reason.OUT_OF_MEMORY


def many_threads(trial):
    """Reserve half a gigabyte for stacks, and use next to nothing of it."""
    end = threading.Event()
    threads = [threading.Thread(target=end.wait) for _ in range(64)]
    for thread in threads:
        thread.start()
    end.set()
    for thread in threads:
        thread.join()
    return 1.0


def sparse(trial):
    array = np.zeros(10**8)
    array[:1000] = 0.001
    return float(array[:1000].sum())


def sharing(trial):
    """Let four forked processes read an array of 100 MB."""
    array = np.ones(12_500_000)
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=lambda: time.sleep(array.sum() / 1.25e7)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    return 1.0


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is watched on Linux only")
@pytest.mark.parametrize("objective", [many_threads, sparse, sharing])
def test_d14_only_memory_that_is_used_counts_and_that_once(objective):
    study = wt.Study({"x": (0.0, 1.0)}, seed=0)
    study.optimize(objective, n_trials=1, memory_limit="400 MB", progress=False)
    assert [(t.state, t.error) for t in study.trials] == [(State.COMPLETE, None)]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is watched on Linux only")
def test_d14_one_huge_allocation_fails():
    study = wt.Study({"x": (0.0, 1.0)}, seed=0)
    study.optimize(lambda trial: len(np.empty(10**9)), n_trials=1, memory_limit="400 MB", progress=False)
    assert study.trials[0].reason is Reason.OUT_OF_MEMORY
    assert "MemoryError" in study.trials[0].error


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"trial_timeout": 0}, "above 0"),
        ({"trial_timeout": "soon"}, "seconds"),
        ({"memory_limit": "much"}, "2GB"),
        ({"memory_limit": 10}, "2GB"),
        ({"resources": {"gpu": 1.5}}, "whole number"),
        ({"resources": ["gpu"]}, "dict"),
        ({"resources": {"tpu": 1}}, "tpu"),
        ({"trial_timeout": 1, "executor": "inline"}, "processes"),
        ({"batch": 4, "trial_timeout": 1}, "processes"),
        ({"batch": 0}, "at least 1"),
        ({"batch": 4, "workers": 3}, "leave workers out"),
        ({"retries": {"boredom": 1}}, "boredom"),
        ({"retries": {"error": -1}}, "at least 0"),
        ({"deterministic": "yes"}, "True"),
    ],
)
def test_d14_limits_that_make_no_sense_are_refused(options, match):
    study = wt.Study({"x": (0.0, 1.0)}, seed=0)
    with pytest.raises((wt.errors.InvalidValue, wt.errors.InvalidType), match=match):
        study.optimize(endless, n_trials=1, **options)
    assert study.trials == ()


# retries by reason


class Flaky:
    """Fail in the first attempts at each trial, which a file counts."""

    def __init__(self, folder, failures):
        self.folder, self.failures = folder, failures

    def __call__(self, trial):
        path = self.folder / str(trial.number)
        with path.open("a") as file:
            file.write("x")
        if path.stat().st_size <= self.failures:
            raise OSError("the network is down")
        return trial["x"]


def test_trials_are_tried_again_by_reason(tmp_path):
    study = wt.Study({"x": (0.0, 1.0)}, seed=0, sampler="random")
    study.optimize(Flaky(tmp_path, 2), n_trials=2, retries={"error": 2}, progress=False)
    assert [(t.state, t.attempts) for t in study.trials] == [(State.COMPLETE, 3)] * 2
    again = wt.Study({"x": (0.0, 1.0)}, seed=1, sampler="random", name="again")
    (tmp_path / "again").mkdir()
    again.optimize(Flaky(tmp_path / "again", 2), n_trials=2, retries={"error": 1}, progress=False)
    assert [(t.state, t.reason, t.attempts) for t in again.trials] == [(State.FAILED, Reason.ERROR, 2)] * 2


def test_failures_are_counted_by_their_reason(tmp_path):
    """Two lost workers use up nothing of what is allowed for errors."""

    def objective(trial):
        with (tmp_path / str(trial.number)).open("a") as file:
            file.write("x")
        attempt = (tmp_path / str(trial.number)).stat().st_size
        if attempt <= 2:
            os._exit(1)
        if attempt == 3:
            raise OSError("the network is down")
        return trial["x"]

    study = wt.Study({"x": (0.0, 1.0)}, seed=0, sampler="random")
    retries = {"lost": 2, "error": 1}
    study.optimize(objective, n_trials=1, executor="processes", retries=retries, progress=False)
    assert [(t.state, t.attempts) for t in study.trials] == [(State.COMPLETE, 4)]


# D15: a batch objective is called once per batch


def test_d15_a_batch_objective_is_called_once_per_batch():
    calls = []

    def objective(trials):
        calls.append([t["x"] for t in trials])
        return [t["x"] ** 2 for t in trials]

    study = wt.Study({"x": (-1.0, 1.0)}, seed=0)
    study.optimize(objective, n_trials=40, batch=16, progress=False)
    assert [len(c) for c in calls] == [16, 16, 8]
    assert len({x for c in calls for x in c}) == 40
    assert all(t.value == t.params["x"] ** 2 for t in study.trials)
    assert study.replay()


@pytest.mark.parametrize(
    ("objective", "reason", "match"),
    [
        (lambda trials: [1.0], Reason.ERROR, "a list of 4 results"),
        (lambda trials: 1.0, Reason.ERROR, "a list of 4 results"),
        (lambda trials: 1 / 0, Reason.ERROR, "ZeroDivisionError"),
        (lambda trials: [float("nan")] * 4, Reason.NAN, "nan"),
    ],
)
def test_d15_batches_that_go_wrong(objective, reason, match):
    study = wt.Study({"x": (-1.0, 1.0)}, seed=0)
    study.optimize(objective, n_trials=4, batch=4, progress=False)
    assert [t.reason for t in study.trials] == [reason] * 4
    assert match in study.trials[0].error


def test_an_exception_among_the_results_of_a_batch_is_how_that_trial_ended():
    """What one trial of a batch raised is not the end of the others."""
    ends = [0.5, ValueError("no"), wt.Pruned(), wt.Infeasible("never")]
    study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0)
    study.optimize(lambda trials: ends, 4, batch=4)
    assert [t.state.value for t in study.trials] == ["complete", "failed", "pruned", "failed"]
    assert [t.error for t in study.trials] == [None, "ValueError: no", None, "Infeasible: never"]
    assert study.trials[3].reason is wt.Reason.INFEASIBLE


def test_d15_results_of_a_batch_may_be_anything_an_objective_returns():
    def objective(trials):
        return [0.5, (0.25, 0.1), {"value": 0.75, "other": 1.0}, wt.Result(0.1, attributes={"a": 1})]

    study = wt.Study({"x": (-1.0, 1.0)}, seed=0)
    study.optimize(objective, n_trials=4, batch=True, workers=4, progress=False)
    assert [t.value for t in study.trials] == [0.5, 0.25, 0.75, 0.1]
    assert study.trials[1].sems == {"value": 0.1}
    assert study.trials[2].metrics["other"] == 1.0
    assert study.trials[3].attributes == {"a": 1}


# D17: parallel runs that repeat


SPACE = {"x": (-1.0, 1.0), "y": (0.0, 1.0), "z": ["a", "b"]}


@pytest.mark.parametrize(
    ("sampler", "scheduler", "n", "times"),
    [("auto", None, 24, 5), ("tpe", "median", 40, 2), ("random", "median", 40, 2)],
)
def test_d17_timing_decides_nothing(sampler, scheduler, n, times):
    """Eight workers, random sleeps, failures and pruning: the same table each time, and it can be derived again."""
    tables = []
    for _ in range(times):
        study = wt.Study(SPACE, seed=0, sampler=sampler, scheduler=scheduler)
        study.optimize(sleepy, n_trials=n, workers=8, deterministic=True, progress=False)
        tables.append(table(study))
    assert all(t == tables[0] for t in tables)
    replayed = study.replay()
    assert replayed
    assert len(replayed.checked) == n


def test_d17_rules_stop_at_the_same_trial():
    counts = set()
    for _ in range(2):
        study = wt.Study(SPACE, seed=0, sampler="random")
        study.optimize(sleepy, workers=6, deterministic=True, stop=wt.Patience(10), progress=False)
        counts.add(len(study.trials))
    assert len(counts) == 1


def test_d17_two_processes_make_one_deterministic_run(tmp_path):
    """The window is that of each process's workers, and no matter which of them proposes a trial."""
    script = (
        "import sys, time, random, welltuned as wt\n"
        "def f(t):\n    time.sleep(random.random() * 0.05)\n    return (t['x'] - 0.3) ** 2\n"
        "s = wt.Study({'x': (-1.0, 1.0)}, storage=sys.argv[1], seed=3, sampler='bayes')\n"
        "s.optimize(f, n_trials=14, executor='processes', workers=2, deterministic=True, progress=False, stay=True)\n"
    )
    tables = []
    for name in ("one", "two"):
        path = str(tmp_path / f"{name}.db")
        processes = [subprocess.Popen([sys.executable, "-c", script, path]) for _ in range(2)]
        assert [p.wait(120) for p in processes] == [0, 0]
        study = wt.Study(storage=path, sampler="bayes")
        tables.append([(t.number, dict(t.params), t.value) for t in study.trials])
        assert study.replay()
    assert tables[0] == tables[1]
    assert len(tables[0]) == 14


def test_d17_a_killed_run_goes_on_as_it_would_have(tmp_path):
    script = (
        "import sys, time, random, welltuned as wt\n"
        "def f(t):\n    time.sleep(random.random() * 0.1)\n    return (t['x'] - 0.3) ** 2\n"
        "s = wt.Study({'x': (-1.0, 1.0)}, storage=sys.argv[1], seed=3, sampler='tpe')\n"
        "s.optimize(f, n_trials=40, workers=3, deterministic=True, progress=False)\n"
    )
    whole, killed = str(tmp_path / "whole.db"), str(tmp_path / "killed.db")
    subprocess.run([sys.executable, "-c", script, whole], check=True, timeout=120)
    chance, seen = random.Random(0), wt.storage.SQLiteStorage(killed)
    number = wt.Study({"x": (-1.0, 1.0)}, storage=seen, seed=3, sampler="tpe")._ledger.row.id
    for kill in range(1, 5):  # each when so many more trials have come, however long that takes
        process = subprocess.Popen([sys.executable, "-c", script, killed])
        while sum(t.state.finished for t in seen.read(number).trials) < 7 * kill:
            assert process.poll() is None
            time.sleep(0.03)
        time.sleep(chance.random() * 0.1)
        process.kill()
        process.wait()
    seen.close()
    subprocess.run([sys.executable, "-c", script, killed], check=True, timeout=120)
    one, two = (wt.Study(storage=path) for path in (whole, killed))
    assert [(t.number, dict(t.params), t.value) for t in one.trials] == [
        (t.number, dict(t.params), t.value) for t in two.trials
    ]


def test_d17_replay_finds_what_was_not_proposed(tmp_path):
    """Wrong configurations, and another sampler than the one that proposed them."""
    path = tmp_path / "study.db"
    study = wt.Study({"x": (-1.0, 1.0)}, storage=path, seed=0, sampler="tpe")
    study.enqueue({"x": 0.5})
    study.optimize(lambda t: t["x"] ** 2, n_trials=20, progress=False)
    replayed = study.replay()
    assert replayed
    assert replayed.skipped == {0: "enqueued"}
    assert replayed.checked == tuple(range(1, 20))
    other = wt.Study(storage=path, sampler="random").replay()
    assert not other
    assert other.differs is not None
    assert other.found == study.trials[other.differs].params != other.expected
    assert wt.Study(storage=path, sampler="tpe").replay()


def test_d17_a_parallel_run_can_be_derived_again_too(tmp_path):
    """What each proposal could see is stored with it, whatever the timing was."""
    study = wt.Study(SPACE, storage=tmp_path / "study.db", seed=0, sampler="tpe")
    study.optimize(sleepy, n_trials=40, workers=4, progress=False)
    replayed = study.replay()
    assert replayed, replayed
    assert len(replayed.checked) == 40


# D18: a GPU for each trial, and back again


def use_device(trial):
    """Note which device, when, and sometimes die with it."""
    began = time.time()
    time.sleep(0.1)
    if trial["x"] > 0.8 and trial.number < 12:
        os.kill(os.getpid(), signal.SIGKILL)
    device = os.environ["CUDA_VISIBLE_DEVICES"]
    return wt.Result(trial["x"], attributes={"device": device, "from": began, "to": time.time()})


@pytest.mark.parametrize(("share", "most", "live"), [(1, 1, 4), (0.5, 2, 8), (2, 1, 2)])
def test_d18_devices_are_never_shared_more_than_asked_for(monkeypatch, share, most, live):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    study = wt.Study({"x": (0.0, 1.0)}, seed=1, sampler="random")
    study.optimize(use_device, n_trials=20, workers=8, resources={"gpu": share}, progress=False)
    done = [t.attributes for t in study.trials if t.state is State.COMPLETE]
    assert len(done) >= 16
    uses = [(device, a["from"], a["to"]) for a in done for device in a["device"].split(",")]
    assert {device for device, _, _ in uses} <= {"0", "1", "2", "3"}
    assert all(len(a["device"].split(",")) == max(share, 1) for a in done)
    for device, began, _ in uses:
        assert sum(d == device and b <= began < e for d, b, e in uses) <= most
    assert max(sum(a["from"] <= moment < a["to"] for a in done) for moment in (a["from"] for a in done)) <= live


def test_d18_the_slot_is_back_after_sigkill(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    study = wt.Study({"x": (0.0, 1.0)}, seed=1, sampler="random")
    queue(study, 0.9, 0.1)
    study.optimize(use_device, n_trials=2, workers=4, resources={"gpu": 1}, progress=False)
    assert [(t.state, t.reason) for t in study.trials] == [(State.FAILED, Reason.LOST), (State.COMPLETE, None)]
    assert study.trials[1].attributes["device"] == "7"


def test_d18_more_than_there_is(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    study = wt.Study({"x": (0.0, 1.0)})
    with pytest.raises(wt.errors.InvalidValue, match="devices that can be used"):
        study.optimize(use_device, n_trials=1, resources={"gpu": 1})


# D25: writers are not disturbed by whoever browses


def test_d25_writers_see_no_lock_errors_while_many_trials_are_browsed(tmp_path):
    path = tmp_path / "study.db"
    study = wt.Study({"x": (0.0, 1.0)}, storage=path, sampler="random", seed=0)
    storage, number = study._ledger.storage, study._ledger.row.id
    rows = [finished(i / 50_000).but(key=str(i)) for i in range(50_000)]
    storage.add(number, rows)
    study.optimize(lambda t: t["x"], n_trials=1, progress=False)  # reads them all, before anybody browses
    errors, stop, seen = [], threading.Event(), threading.Event()

    def browse():
        reader = wt.storage.SQLiteStorage(path)
        while not stop.is_set():
            try:
                assert len(reader.read(number).trials) >= 50_000
                seen.set()
            except BaseException as error:
                errors.append(error)
        reader.close()

    def objective(trial):
        if trial.number == 50_049:  # the last one: somebody has browsed
            assert seen.wait(240)
        return trial["x"]

    thread = threading.Thread(target=browse)
    thread.start()
    try:
        study.optimize(objective, n_trials=50, progress=False)
    finally:
        stop.set()
        thread.join()
    assert not errors
    assert sum(t.origin is Origin.SAMPLER and t.state is State.COMPLETE for t in study.trials) == 50


class Malicious:
    """Leave a trace when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_d25_nothing_stored_is_ever_executed(tmp_path, monkeypatch):
    """A pickle, and Python, in every column of every table: errors or text, and nothing happens."""
    import pickle

    monkeypatch.chdir(tmp_path)
    study = wt.Study({"x": (0.0, 1.0)}, storage="study.db", sampler="random", seed=0)
    study.optimize(lambda t: t["x"], n_trials=3, progress=False)
    payload = pickle.dumps(Malicious())
    schema = sqlite3.connect("study.db")
    columns = [
        (table, column)
        for table in ("study", "space", "trial")
        for _, column, *_ in schema.execute(f"PRAGMA table_info({table})")
        if column not in ("id", "name", "study", "number", "version", "step", "revision")
    ]
    schema.close()
    for table_name, column in columns:
        for value in (payload, payload.decode("latin-1"), "__import__('os').system('touch pwned')"):
            db = sqlite3.connect("study.db")
            before = db.execute(f"SELECT rowid, {column} FROM {table_name}").fetchall()
            db.execute(f"UPDATE {table_name} SET {column} = ?", (value,))
            db.commit()
            try:
                wt.Study(storage="study.db").to_frame()
            except Exception as error:
                assert isinstance(error, (wt.errors.WelltunedError, sqlite3.Error)), (table_name, column, error)
            db.executemany(f"UPDATE {table_name} SET {column} = ? WHERE rowid = ?", [(v, i) for i, v in before])
            db.commit()
            db.close()
    assert not (tmp_path / "pwned").exists()
    assert len(wt.Study(storage="study.db").trials) == 3


# workers that join


TRAIN = """
import time
space = {"x": (-5.0, 5.0)}

def objective(trial):
    time.sleep(0.02)
    return trial["x"] ** 2
"""


def welltuned(*args, **options):
    return subprocess.Popen(
        [sys.executable, "-c", "from welltuned.cli import main; main()", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        **options,
    )


def test_workers_join_a_study_by_name(tmp_path):
    (tmp_path / "train.py").write_text(TRAIN)
    first = welltuned("run", "train.py:objective", "-n", "5", "--storage", "s.db", "--name", "st", cwd=tmp_path)
    output = first.communicate(timeout=60)
    assert first.returncode == 0, output
    workers = [welltuned("worker", "s.db:st", "train.py:objective", "-n", "40", cwd=tmp_path) for _ in range(2)]
    outputs = [w.communicate(timeout=60) for w in workers]
    assert [w.returncode for w in workers] == [0, 0], outputs
    assert all("40 trials" in out for out, _ in outputs)
    study = wt.Study(storage=tmp_path / "s.db", name="st")
    assert [t.number for t in study.trials] == list(range(40))
    assert all(t.state is State.COMPLETE for t in study.trials)
    assert study.stored_budget == 40
    # the budget is known to whoever joins without being told
    late = welltuned("worker", "s.db:st", "train.py:objective", cwd=tmp_path)
    assert "40 trials" in late.communicate(timeout=60)[0]


def test_workers_pause_and_promote(tmp_path):
    """Each goes on with what another one has begun, in a folder that both see."""
    source = """
space = {"x": (0.0, 1.0)}
def objective(trial):
    file = trial.checkpoint / "step"
    for step in range(int(file.read_text()) + 1 if file.exists() else 1, 10):
        file.write_text(str(step))
        trial.report(trial["x"] + 1 / step, step)
        if trial.should_stop():
            trial.prune()
    return trial["x"]
"""
    (tmp_path / "train.py").write_text(source)
    wt.Study({"x": (0.0, 1.0)}, storage=tmp_path / "s.db", name="st", sampler="random", seed=0)
    options = ["-n", "20", "--scheduler", "asha", "--checkpoints", "kept"]
    workers = [welltuned("worker", "s.db:st", "train.py:objective", *options, cwd=tmp_path) for _ in range(2)]
    outputs = [w.communicate(timeout=60) for w in workers]
    assert [w.returncode for w in workers] == [0, 0], outputs
    trials = wt.Study(storage=tmp_path / "s.db", name="st").trials
    assert {t.state for t in trials} == {State.COMPLETE, State.PAUSED} and len(trials) == 20
    assert {len(t.reports) for t in trials} == {1, 3, 9}
    steps = {p.parent.name: p.read_text() for p in (tmp_path / "kept").glob("*/*/step")}
    assert steps == {str(t.number): str(len(t.reports)) for t in trials}


@pytest.mark.parametrize(
    ("study", "change", "match"),
    [
        ("s.db:st", ("5.0)", "6.0)"), "another space than the file: \\['x'\\]"),
        ("s.db:other", None, "has no study 'other'"),
        ("nowhere.db:st", None, "does not exist"),
    ],
)
def test_workers_that_do_not_fit_are_refused(tmp_path, study, change, match):
    (tmp_path / "train.py").write_text(TRAIN)
    first = welltuned("run", "train.py:objective", "-n", "2", "--storage", "s.db", "--name", "st", cwd=tmp_path)
    first.communicate(timeout=60)
    if change:
        (tmp_path / "train.py").write_text(TRAIN.replace(*change))
    process = welltuned("worker", study, "train.py:objective", "-n", "4", cwd=tmp_path)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert re.search(match, err), err
    assert "Traceback" not in err
    assert len(wt.Study(storage=tmp_path / "s.db", name="st").trials) == 2


def test_whoever_stays_takes_over(tmp_path):
    """A process that has nothing left to start waits for another one's trial, and runs it when that one dies."""
    path = tmp_path / "study.db"
    study = wt.Study({"x": (0.0, 1.0)}, storage=path, sampler="random", seed=0, lease=1.0)
    holder = (
        "import sys, time, welltuned as wt\n"
        "s = wt.Study(storage=sys.argv[1], lease=1.0, n_trials=3)\n"
        "s.ask()\nprint('asked', flush=True)\ntime.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", holder, str(path)], stdout=subprocess.PIPE)
    process.stdout.readline()
    timer = threading.Timer(1.0, process.kill)
    timer.start()
    study.optimize(lambda t: t["x"], n_trials=3, stay=True, progress=False)
    process.wait()
    process.stdout.close()
    assert [(t.number, t.state) for t in study.trials] == [(i, State.COMPLETE) for i in range(3)]
    assert study.trials[0].attempts == 2


@pytest.mark.parametrize("reporting", [False, True])
def test_a_trial_at_which_every_process_dies_is_given_up(tmp_path, reporting):
    """After ten of them, so that it does not end a whole cluster; not while its training goes on from a checkpoint."""
    path = tmp_path / "study.db"
    for epoch in range(15):
        study = wt.Study({"x": (0.0, 1.0)}, storage=path, sampler="random", seed=0, lease=0.01)
        trial = study.ask()
        if trial.number:
            break
        if reporting:
            trial.report(float(epoch), step=epoch)
        study._ledger.claims.clear()  # as if this process had been killed
        time.sleep(0.02)
    first = study.trials[0]
    if reporting:
        assert (trial.number, first.state, first.attempts) == (0, State.RUNNING, 15)
        return
    assert (trial.number, first.state, first.reason, first.attempts) == (1, State.FAILED, Reason.LOST, 11)
    assert first.error == "given up: begun 10 times without a result"
    study.tell(trial, 1.0)
    assert len(study.trials) == 2


def test_a_result_that_comes_late_is_dropped(tmp_path):
    """Accepted at most once, and no crash: the trial had been given to somebody else meanwhile."""
    storage = wt.storage.SQLiteStorage(tmp_path / "study.db")
    study = wt.Study({"x": (0.0, 1.0)}, storage=storage, lease=0.2, sampler="random", seed=0)
    trial = study.ask()
    study._ledger.claims.clear()  # as if this process had been stopped
    time.sleep(0.3)
    other = wt.Study(storage=tmp_path / "study.db", sampler="random").ask()
    assert other.number == trial.number
    with pytest.raises(wt.errors.LeaseLost):
        study.tell(trial, 1.0)
    number = study._ledger.row.id
    assert storage.finish(number, other.number, other.task.token, Outcome(State.COMPLETE, {"value": 2.0}))
    assert json.dumps([t.value for t in study.trials]) == "[2.0]"
    assert isinstance(study.trials[0], Trial)


def test_a_failed_ask_keeps_no_claim(tmp_path, monkeypatch):
    """Where the configuration cannot be stored, its trial is free again at once, for everybody."""
    study = wt.Study({"x": (0.0, 1.0)}, storage=tmp_path / "study.db", sampler="random", seed=0, n_trials=1)
    with monkeypatch.context() as patched:

        def full(*args, **kwargs):
            raise wt.StorageError("the disk is full")

        patched.setattr(study._ledger.storage, "assign", full)
        with pytest.raises(wt.StorageError, match="the disk is full"):
            study.ask()
    assert [t.number for t in study._ledger.storage.read(1).trials if t.state is State.RUNNING] == []
    other = wt.Study(storage=tmp_path / "study.db", sampler="random", n_trials=1)
    trial = other.ask()
    other.tell(trial, 1.0)
    assert [(t.number, t.value) for t in study.trials] == [(0, 1.0)]


def test_a_result_during_renewal_is_no_loss(caplog):
    """A trial that ends between the look at the claims and their renewal was not taken over by anybody."""
    study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0, n_trials=1)
    trial, storage = study.ask(), study._ledger.storage
    renew = storage.renew

    def late(*args):
        study.tell(trial, 1.0)
        return renew(*args)

    storage.renew = late
    study._ledger.renew()
    assert study.trials[0].value == 1.0
    assert "taken over" not in caplog.text


def test_a_worker_whose_parent_died_first_ends_silently():
    """The parent was killed before it had said where to connect: no traceback from a process that nobody knows."""
    code = "from welltuned.executors.worker import serve; serve()"
    for said in (b"", b'{"path": ["'):
        done = subprocess.run([sys.executable, "-c", code], input=said, capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("how", ["removed", "renamed", "replaced"])
def test_a_file_that_is_not_there_any_more_takes_no_results(tmp_path, how):
    """SQLite would go on in a file without a name, and all that it took would be gone with the process."""
    path, aside = tmp_path / "study.db", tmp_path / "aside.db"
    study = wt.Study({"x": (0.0, 1.0)}, storage=str(path), sampler="random", seed=0)

    def objective(trial):
        if trial.number == 2:
            path.rename(aside)
            if how == "removed":
                aside.unlink()
            elif how == "replaced":
                path.write_bytes(aside.read_bytes())
        return trial["x"]

    with pytest.raises(wt.StorageError, match="removed, renamed or replaced"):
        study.optimize(objective, n_trials=4)
    assert path.exists() == (how == "replaced"), "no empty one was begun"
    if how == "renamed":
        aside.rename(path)
        assert study.trials[0].state is wt.State.COMPLETE


def test_who_looks_on_sees_all_trials_that_are_stored_together(tmp_path, caplog):
    """With the log at INFO, which looks at each trial, a file and a search that is blind: a study knew 8 of 100."""
    caplog.set_level("INFO", "welltuned")
    study = wt.Study({"x": (0.0, 1.0)}, storage=str(tmp_path / "study.db"), sampler="random", seed=0)
    study.optimize(lambda trial: trial["x"], n_trials=100)
    assert [t.state for t in study.trials] == [wt.State.COMPLETE] * 100
    assert sum(" complete: value " in message for message in caplog.messages) == 100
    assert study.best.value == min(t.params["x"] for t in study.trials)


def test_what_was_seen_of_a_change_that_was_not_stored_is_forgotten(tmp_path):
    study = wt.Study({"x": (0.0, 1.0)}, storage=str(tmp_path / "study.db"), sampler="random", seed=0, n_trials=4)
    coordinator = study.coordinator
    [task], _ = coordinator.next_tasks(1)
    with pytest.raises(RuntimeError, match="the disk"), coordinator.together():
        coordinator.receive_outcome(task, Outcome(wt.State.COMPLETE, {"value": 1.0}))
        coordinator.next_tasks(2)
        assert [t.state.value for t in study.trials] == ["complete", "running", "running"]
        raise RuntimeError("the disk is full")
    assert [t.state.value for t in study.trials] == ["running"]
    assert coordinator.receive_outcome(task, Outcome(wt.State.COMPLETE, {"value": 1.0}))
    assert [t.state.value for t in study.trials] == ["complete"]
