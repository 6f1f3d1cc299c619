"""Ray: the contracts at a cluster that is there, and one of our own."""

import os
import signal
from pathlib import Path

import pytest

import welltuned as wt
from clusters import WARNINGS, OnCluster, closing_all, job_of, spans, timed
from welltuned.executors import RayExecutor
from welltuned.executors.tree import descendants
from welltuned.live import Task
from welltuned.testing import ExecutorContract
from welltuned.testing.executor import finish, never, run_all, square

pytestmark = WARNINGS


@pytest.fixture(scope="module", autouse=True)
def ray():
    """Ray, with a cluster that is not ours."""
    ray = pytest.importorskip("ray")
    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR", resources={"tape": 1})
    yield ray
    ray.shutdown()


@pytest.fixture
def made():
    with closing_all() as made:
        yield made


class TestRay(ExecutorContract):
    workers = 2

    @pytest.fixture
    def make_executor(self):
        return lambda job: RayExecutor(job, self.workers)


class TestOnRay(OnCluster):
    name = "ray"

    @pytest.fixture
    def named(self):
        return "ray"

    @pytest.fixture
    def start(self, made):
        return lambda objective, on_report=never: made(RayExecutor(job_of(objective, on_report), 2))


@pytest.mark.parametrize("resources", [{"cpu": 2}, {"tape": 0.6}])
def test_tasks_run_where_they_fit(made, resources):
    first, second = spans(made(RayExecutor(job_of(timed()), 2, resources=resources)))
    assert first[1] <= second[0]


def test_what_runs_already_stays(ray, made):
    run_all(made(RayExecutor(job_of(square), 2)), 1, 1)
    made(RayExecutor(job_of(square), 2)).close()
    assert ray.is_initialized()


def test_messages_survive_the_death_of_the_mailbox(ray, made):
    """Ray starts it again, and what was under way is asked once more."""
    seen, pids = [], []

    def on_report(task, report):
        seen.append(report.step)
        if report.step == 3 and pids:
            os.kill(pids.pop(), signal.SIGKILL)
        return False

    def objective(trial):
        for step in range(6):
            trial.report(0.0, step)
        return 1.0

    executor = made(RayExecutor(job_of(objective, on_report), 1))
    run_all(executor, 1, 1)
    seen.clear()
    ours = (Path(f"/proc/{pid}") for pid in descendants(os.getpid()))
    pids += [int(p.name) for p in ours if "_Mailbox" in (p / "comm").read_text()]
    assert pids
    assert finish(executor, [Task(1, 1, {"x": 1})])[1].metrics == {"value": 1.0}
    assert seen == list(range(6))


def test_this_machine_must_have_what_tasks_need(ray, made):
    """Ray would wait for it without end. The last test here: the cluster of the others is gone."""
    ray.shutdown()
    executor = made(RayExecutor(job_of(square), 1, resources={"flux": 1}))
    with pytest.raises(wt.InvalidValue, match="resources: flux"):
        executor.submit(Task(0, 1, {"x": 0}))
    assert not ray.is_initialized()
