"""What clusters have in common in tests: a contract beyond :class:`welltuned.testing.ExecutorContract`, and helpers."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import welltuned as wt
from welltuned.executors import Job
from welltuned.executors.processes import THREAD_VARIABLES, available_cores
from welltuned.live import Task
from welltuned.testing.executor import finish, never, reporting, run_all, square
from welltuned.trial import State

PATIENCE = 200.0  # a cluster of its own took 46 seconds where four times as many processes as cores were busy
# both frameworks leave sockets and files to the end of the process, and Ray tells of its plans
WARNINGS = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*Ray will no longer override accelerator:FutureWarning"),
]


@contextlib.contextmanager
def closing_all():
    """Return a function through which executors pass that are closed in the end."""
    with contextlib.ExitStack() as stack:
        yield lambda executor: stack.enter_context(contextlib.closing(executor))


def job_of(objective, on_report=never):
    return Job(objective, ("value",), on_report)


def wait_for(executor, n=1, seconds=PATIENCE):
    """Wait until ``n`` tasks have ended, however many of them come back at once, and return what came of them."""
    deadline, ended = time.monotonic() + seconds, []
    while len(ended) < n:
        assert time.monotonic() < deadline, f"{len(ended)} of {n} tasks ended: {ended!r}"
        ended += executor.wait(1.0)
    assert len(ended) == n, ended
    return ended


def wait_until(condition, seconds=PATIENCE, executor=None):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        if executor is None:
            time.sleep(0.05)
        else:
            executor.wait(0.05)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def run_script(folder, text):
    script = folder / "script.py"
    script.write_text(text)
    return subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, cwd=folder)


def timed():
    """Return an objective that travels by value: workers of a given cluster cannot import tests."""

    def timed(trial):
        began = time.time()
        time.sleep(0.4)
        trial.note(began=began, ended=time.time())
        return 0.0

    return timed


def spans(executor):
    """Return when each of two tasks began and ended."""

    def read(outcome):
        return outcome.attributes["began"], outcome.attributes["ended"]

    return sorted(map(read, run_all(executor, 2, 2).values()))


SCRIPT = """
import os, sys
import welltuned as wt
print("script", os.getpid(), flush=True)
def objective(trial):
    trial.note(pid=os.getpid(), argv=sys.argv, cwd=os.getcwd(), **{{v: os.environ.get(v) for v in {variables}}})
    import neighbour
    return neighbour.double(trial["x"])
study = wt.Study({{"x": [1, 2, 3, 4]}}, sampler="grid", seed=0)
study.optimize(objective, workers=2, executor="{name}")
trials = study.trials
print(sorted(t.value for t in trials))
print([t.attributes["cwd"] for t in trials] == [os.getcwd()] * 4, {{t.attributes["{variables[0]}"] for t in trials}})
print(os.getpid() in [t.attributes["pid"] for t in trials], "{variables[0]}" in os.environ)
"""

SLEEPER = """
import os, time
import welltuned as wt
def objective(trial):
    open(os.path.join({pids!r}, str(os.getpid())), "w").close()
    time.sleep(120)
wt.minimize(objective, {{"x": (0.0, 1.0)}}, 4, workers=2, executor={name!r})
"""


def dies_with_its_parent(folder, name, how):
    """Check that no worker of our own cluster outlives a signal to the script."""
    pids = folder / "pids"
    pids.mkdir()
    parent = run_script(folder, SLEEPER.format(pids=str(pids), name=name))
    wait_until(lambda: len(list(pids.iterdir())) == 2)
    parent.send_signal(how)
    assert parent.wait(PATIENCE) != 0
    parent.stdout.close()
    wait_until(lambda: not any(alive(int(f.name)) for f in pids.iterdir()))


class OnCluster:
    """Provide ``start``, a function from objective and ``on_report`` to an executor of two workers, and ``named``.

    ``named`` is what a study gets as ``executor=``, ``name`` that of the registry.
    """

    name = ""

    def test_reports_are_answered_in_the_thread_that_waits(self, start):
        threads = set()

        def on_report(task, report):
            threads.add(threading.get_ident())
            return False

        run_all(start(reporting, on_report), 2, 2)
        assert threads == {threading.get_ident()}

    def test_reports_do_not_prolong_waiting(self, start):
        def objective(trial):
            for step in range(25):
                trial.report(0.0, step)
                time.sleep(0.05)

        executor = start(objective)
        executor.submit(Task(0, 1, {"x": 0}))
        assert executor.wait(0.5) == []  # not even the trial that ends a second later
        assert wait_for(executor)[0].task.number == 0

    def test_what_on_report_raises_is_raised_where_one_waits(self, start):
        def on_report(task, report):
            raise KeyboardInterrupt

        executor = start(reporting, on_report)
        executor.submit(Task(0, 1, {"x": 0}))
        with pytest.raises(KeyboardInterrupt):
            wait_for(executor)

    def test_a_killed_worker_loses_its_task_once_and_the_others_go_on(self, start, tmp_path):
        def objective(trial):
            with (tmp_path / str(trial["x"])).open("a") as file:
                print(os.getpid(), file=file)
            trial.report(0.0, 0)
            time.sleep(0.8)
            if trial["x"] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return trial["x"]

        executor = start(objective)
        for number in range(2):
            executor.submit(Task(number, 1, {"x": number}))
        ended = {done.task.number: done for done in wait_for(executor, 2)}
        assert ended[0].outcome is None and "worker died" in ended[0].error
        assert ended[1].outcome.metrics == {"value": 1.0}
        assert len((tmp_path / "0").read_text().split()) == 1
        assert executor.wait(0.2) == []
        assert finish(executor, [Task(1, 2, {"x": 3})])[1].metrics == {"value": 3.0}

    def test_tasks_that_ended_meanwhile_all_come_back(self, start, tmp_path):
        """The end of one is not lost because that of another one comes with it."""

        def objective(trial):
            (tmp_path / str(trial["x"])).touch()
            if trial["x"] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return trial["x"]

        executor = start(objective)
        for number in range(2):
            executor.submit(Task(number, 1, {"x": number}))
        ended = []
        wait_until(lambda: ended.extend(executor.wait(0.0)) or len(list(tmp_path.iterdir())) == 2)
        time.sleep(2.0)  # nobody waits while they end
        ended += wait_for(executor, 2 - len(ended)) if len(ended) < 2 else []
        assert sorted((done.task.number, done.outcome is None) for done in ended) == [(0, True), (1, False)]

    def test_a_study_with_a_killed_worker_keeps_its_budget(self, named, tmp_path):
        """The trial is tried again and no other one is lost or doubled."""

        def objective(trial):
            flag = tmp_path / "killed"
            if trial.number == 2 and not flag.exists():
                flag.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return trial["x"]

        study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0)
        study.optimize(objective, n_trials=8, workers=2, executor=named)
        assert [t.number for t in study.trials] == list(range(8))
        assert all(t.state is State.COMPLETE for t in study.trials)
        assert [t.attempts for t in study.trials] == [1, 1, 2, 1, 1, 1, 1, 1]

    def test_reports_prune_through_a_study(self, named):
        def objective(trial):
            for step in range(6):
                trial.report(trial["x"], step)
                if trial.should_stop():
                    trial.prune()
            return trial["x"]

        study = wt.Study({"x": (0.0, 1.0)}, sampler="random", scheduler="median", seed=0)
        study.optimize(objective, n_trials=20, workers=2, executor=named)
        assert len(study.trials) == 20
        pruned = [t for t in study.trials if t.state is State.PRUNED]
        # some at the last step only: the median moves while they run, when the other worker completes better ones
        assert any(len(t.reports) < 6 for t in pruned)
        assert all([r.step for r in t.reports] == list(range(len(t.reports))) for t in pruned)
        assert all(len(t.reports) == 6 for t in study.trials if t.state is State.COMPLETE)

    def test_an_objective_that_cannot_travel_is_refused(self, start):
        lock = threading.Lock()
        with pytest.raises(wt.InvalidType, match="cannot be sent to worker processes"):
            start(lambda p: 0.0 if lock else 1.0)

    def test_parameters_that_cannot_travel_are_named(self, start):
        with pytest.raises(wt.InvalidType, match=r"params=.*cannot be sent"):
            start(square).submit(Task(0, 1, {"x": threading.Lock()}))

    def test_an_objective_that_cannot_be_loaded_is_named(self, start, tmp_path, monkeypatch):
        """Its module is there for the coordinator only."""
        (tmp_path / "far_away.py").write_text("def objective(p): return 0.0\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        import far_away

        executor = start(far_away.objective)
        executor.submit(Task(0, 1, {}))
        with pytest.raises(wt.WelltunedError, match=r"cannot load the objective.*far_away"):
            wait_for(executor)

    def test_an_objective_is_loaded_once_in_a_process(self, start):
        """What it keeps in memory is there for the next trial of the same run, and not for the next run."""

        def counting():
            seen = []

            def objective(trial):
                seen.append(trial["x"])
                trial.note(pid=os.getpid())
                return len(seen)

            return objective

        for _ in range(2):
            outcomes = run_all(start(counting()), 8, 2).values()
            by_pid = {pid: [] for pid in {o.attributes["pid"] for o in outcomes}}
            for outcome in outcomes:
                by_pid[outcome.attributes["pid"]].append(outcome.metrics["value"])
            assert all(sorted(values) == list(range(1, len(values) + 1)) for values in by_pid.values())

    def test_tasks_run_side_by_side(self, start, tmp_path):
        """Each waits until both have begun."""

        def meeting(trial):
            (tmp_path / str(trial.number)).touch()
            for _ in range(600):
                if len(list(tmp_path.iterdir())) == 2:
                    return 1.0
                time.sleep(0.05)
            return 0.0

        met = run_all(start(meeting), 2, 2)
        assert [outcome.metrics["value"] for outcome in met.values()] == [1.0, 1.0]

    def test_scripts_need_no_guard_and_workers_find_what_is_beside_them(self, tmp_path, monkeypatch):
        """A cluster of our own, in an interpreter that runs nothing else."""
        for variable in THREAD_VARIABLES:
            monkeypatch.delenv(variable, raising=False)
        (tmp_path / "neighbour.py").write_text("def double(x): return 2 * x\n")
        process = run_script(tmp_path, SCRIPT.format(name=self.name, variables=THREAD_VARIABLES))
        out, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        share = str(max(1, available_cores() // 2))
        lines = [line for line in out.splitlines() if line]
        assert lines[-3:] == ["[2.0, 4.0, 6.0, 8.0]", f"True {{'{share}'}}", "False False"]
        assert sum(line.startswith("script") for line in lines) == 1

    def test_our_own_cluster_dies_with_its_parent(self, tmp_path):
        """However that ends."""
        dies_with_its_parent(tmp_path, self.name, signal.SIGKILL)
