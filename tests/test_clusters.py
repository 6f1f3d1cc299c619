"""Dask: the contracts at a cluster that is given, and a cluster of our own; what all clusters share."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import welltuned as wt
from clusters import (
    PATIENCE,
    WARNINGS,
    OnCluster,
    closing_all,
    dies_with_its_parent,
    job_of,
    run_script,
    wait_for,
    wait_until,
)
from welltuned.executors import (
    EXECUTORS,
    DaskExecutor,
    Job,
    Limits,
    available_cores,
    check_executor,
    check_workers,
    make_executor,
)
from welltuned.executors.remote import Desk, Message, needs
from welltuned.live import Task
from welltuned.testing import ExecutorContract
from welltuned.testing.executor import endless, never, run_all, square
from welltuned.trial import Report, State

pytestmark = WARNINGS


@pytest.fixture(scope="class")
def client():
    """A client of a cluster that is not ours, with Dask's defaults: it would run lost tasks three times more.

    Not one for all: what the contract leaves running there, only the end of the cluster ends, and others would wait.
    """
    distributed = pytest.importorskip("distributed")
    options = {"processes": True, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "resources": {"GPU": 1}}
    with (
        distributed.LocalCluster(2, host="127.0.0.1", silence_logs=50, **options) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def made():
    with closing_all() as made:
        yield made


# the contract


class TestDask(ExecutorContract):
    workers = 2

    @pytest.fixture
    def make_executor(self, client):
        return lambda job: DaskExecutor(job, self.workers, client=client)

    def test_close_ends_everything(self, made):
        """Of a cluster of our own; a given one goes on with what runs, which only it could end."""
        pytest.importorskip("distributed")
        executor = made(DaskExecutor(job_of(endless), self.workers))
        for number in range(self.workers):
            executor.submit(Task(number, 1, {"x": number}))
        time.sleep(0.5)
        began = time.monotonic()
        executor.close()
        executor.close()
        assert executor.wait(0.1) == []
        assert time.monotonic() - began < 60.0  # half of what the objectives take


class TestOnDask(OnCluster):
    name = "dask"

    @pytest.fixture
    def named(self, client):
        return client

    @pytest.fixture
    def start(self, client, made):
        client.wait_for_workers(2, timeout=60)  # one that an earlier test has killed may not be back yet
        return lambda objective, on_report=never: made(DaskExecutor(job_of(objective, on_report), 2, client=client))


# clusters that are given, and our own


def test_a_given_client_stays_open(client):
    study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0)
    study.optimize(lambda trial: trial["x"], n_trials=4, workers=2, executor=client)
    assert len(study.trials) == 4
    assert client.status == "running"
    assert client.submit(abs, -3).result() == 3


def test_all_workers_of_a_given_cluster(client):
    """-1 counts the cluster's threads, not this machine's cores."""
    assert check_workers(-1, client) == 2
    assert check_workers(-1) == available_cores()
    study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0)
    study.optimize(lambda trial: trial["x"], n_trials=3, workers=-1, executor=client)
    assert study._ledger.workers == 2


def test_what_others_do_at_a_given_cluster_is_left_alone(client, made):
    other = client.submit(time.sleep, 2.0, pure=False)
    executor = made(DaskExecutor(job_of(square), 2, client=client))
    executor.submit(Task(0, 1, {"x": 1}))
    executor.close()
    assert other.result() is None


def test_trials_of_a_given_cluster_end_with_their_next_report_after_close(client, made, tmp_path):
    def objective(trial):
        (tmp_path / "begun").touch()
        try:
            for step in range(400):
                time.sleep(0.05)
                trial.report(0.0, step)
        except BaseException as error:
            (tmp_path / "left").write_text(type(error).__name__)
            raise

    executor = made(DaskExecutor(job_of(objective), 2, client=client))
    executor.submit(Task(0, 1, {"x": 0}))
    wait_until((tmp_path / "begun").exists, executor=executor)
    executor.close()
    wait_until(lambda: (tmp_path / "left").exists() and (tmp_path / "left").read_text() == "Abandoned")


DYING = """
import os, distributed
from pathlib import Path
from welltuned.executors import DaskExecutor, Job
from welltuned.live import Task
def objective(trial):
    try:
        trial.report(0.0, 0)
    except BaseException as error:
        Path("{folder}/left").write_text(type(error).__name__)
        raise
client = distributed.Client("{address}", set_as_default=False)
executor = DaskExecutor(Job(objective, ("value",), lambda task, report: os._exit(7)), 2, client=client)
executor.submit(Task(0, 1, {{"x": 0}}))
while True:
    executor.wait(1.0)
"""


def test_a_worker_does_not_wait_for_a_coordinator_that_died(client, tmp_path):
    process = run_script(tmp_path, DYING.format(folder=tmp_path, address=client.scheduler.address))
    assert process.wait(PATIENCE) == 7
    process.stdout.close()
    wait_until(lambda: (tmp_path / "left").exists() and (tmp_path / "left").read_text() == "Abandoned")


def test_a_cluster_of_our_own_that_ends_is_an_error(made):
    pytest.importorskip("distributed")
    executor = made(DaskExecutor(job_of(endless), 1))
    executor.submit(Task(0, 1, {"x": 0}))
    executor._local._process.kill()
    with pytest.raises(wt.WelltunedError, match="Dask"):
        wait_for(executor)


def test_our_own_cluster_is_interrupted_with_its_parent(tmp_path):
    pytest.importorskip("distributed")
    dies_with_its_parent(tmp_path, "dask", signal.SIGINT)


def test_a_study_of_our_own_cluster(tmp_path):
    """A worker that dies takes nobody along: not the trial that would have been its next."""
    pytest.importorskip("distributed")

    def objective(trial):
        flag = tmp_path / "killed"
        if trial.number == 2 and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return trial["x"]

    study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0)
    study.optimize(objective, n_trials=8, workers=2, executor="dask")
    assert [t.attempts for t in study.trials] == [1, 1, 2, 1, 1, 1, 1, 1]
    assert all(t.state is State.COMPLETE for t in study.trials)


# what tasks need


def test_what_a_job_needs_is_what_its_tasks_need(client, made):
    executor = made(DaskExecutor(Job(square, ("value",), never, Limits(resources={"gpu": 2.0})), 2, client=client))
    executor.submit(Task(0, 1, {"x": 1}))
    assert executor.wait(0.5) == []
    with pytest.raises(wt.InvalidValue, match="resources"):
        DaskExecutor(job_of(square), 2, resources={"gpu": -1})


def test_dask_runs_what_fits(client, made):
    """Each of the two workers has one GPU, which a task here takes."""
    outcomes = run_all(made(DaskExecutor(job_of(square), 2, client=client, resources={"gpu": 1})), 3, 2)
    assert len(outcomes) == 3
    executor = made(DaskExecutor(job_of(square), 2, client=client, resources={"gpu": 2}))
    executor.submit(Task(0, 1, {"x": 1}))
    assert executor.wait(1.0) == []


def test_a_dask_cluster_of_our_own_has_what_tasks_need(made):
    pytest.importorskip("distributed")
    assert len(run_all(made(DaskExecutor(job_of(square), 1, resources={"gpu": 0.5})), 2, 1)) == 2


def test_a_task_may_need_more_than_the_others():
    task = Task(0, 1, {})
    assert needs(task, {"gpu": 1}) == {"gpu": 1}
    object.__setattr__(task, "resources", {"gpu": 2, "cpu": 4})
    assert needs(task, {"gpu": 1}) == {"gpu": 2, "cpu": 4}


# the desk


def test_a_task_has_one_attempt():
    desk = Desk(lambda task, report: report.step == 1)
    desk.enter("k", Task(0, 1, {}))
    assert desk.answer(Message("k", "first", 0)) == "go"
    assert desk.answer(Message("k", "second", 0)) == "leave"
    assert desk.answer(Message("k", "first", 1, Report(0, {"value": 0.0}))) == "go"
    assert desk.answer(Message("k", "first", 2, Report(1, {"value": 0.0}))) == "stop"
    assert desk.answer(Message("other", "first", 0)) == "leave"


def test_a_message_that_comes_twice_is_told_once():
    told = []

    def on_report(task, report):
        told.append(report.step)
        return True

    desk = Desk(on_report)
    desk.enter("k", Task(0, 1, {}))
    message = Message("k", "first", 1, Report(0, {"value": 0.0}))
    assert [desk.answer(message), desk.answer(message)] == ["stop", "stop"]
    assert told == [0]


# names


@pytest.mark.parametrize(("name", "module"), [("dask", "distributed"), ("ray", "ray")])
def test_a_missing_package_is_named(name, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(wt.MissingDependency, match=rf"executor='{name}'.*'{module}'.*welltuned\[{name}\]"):
        EXECUTORS[name](job_of(square), 2)


def test_a_client_is_an_executor(client, made):
    assert check_executor(client, 1) is client
    assert isinstance(made(make_executor(client, job_of(square), 1)), DaskExecutor)
    assert check_executor("dask", 1) == "dask"
    with pytest.raises(wt.InvalidType, match=r"neither a name nor a dask\.distributed\.Client"):
        check_executor(object(), 2)
    with pytest.raises(wt.InvalidType, match="is not a dask"):
        DaskExecutor(job_of(square), 1, client="tcp://10.0.0.1:8786")


def test_choosing_an_executor_loads_no_framework():
    code = (
        "import sys; from welltuned.executors import EXECUTORS, check_executor; check_executor('dask', 2); "
        "print(sorted({'dask', 'distributed', 'ray'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_example_for_slurm_runs_without_slurm(tmp_path):
    pytest.importorskip("distributed")
    script = Path(__file__).parent.parent / "examples" / "slurm_dask.py"
    command = [sys.executable, str(script), "--local", "--trials", "8", "--storage", str(tmp_path / "study.db")]
    for _ in range(2):
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE, cwd=tmp_path)
        assert run.returncode == 0, run.stderr
        assert run.stdout.startswith("8 trials, best ")
