"""Executors: the contract for both; worker processes that die, and functions that travel."""

import contextlib
import importlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import welltuned as wt
from welltuned.executors import (
    EXECUTORS,
    Finished,
    Job,
    Limits,
    ProcessExecutor,
    available_cores,
    check_limits,
    check_workers,
    make_executor,
    tree,
)
from welltuned.executors.processes import THREAD_VARIABLES, import_path
from welltuned.live import Task
from welltuned.testing import ExecutorContract
from welltuned.testing.executor import finish, never, run_all
from welltuned.trial import State

HERE = Path(__file__).parent


class TestInline(ExecutorContract):
    @pytest.fixture
    def make_executor(self):
        return lambda job: EXECUTORS["inline"](job, 1)

    def test_close_ends_everything(self, start):
        """There is nothing to end: a task that nobody waited for has not begun."""
        executor = start(fails_if_called)
        executor.submit(Task(0, 1, {}))
        executor.close()
        executor.close()
        assert executor.wait() == []


class TestProcesses(ExecutorContract):
    workers = 2

    @pytest.fixture
    def make_executor(self):
        return lambda job: EXECUTORS["processes"](job, self.workers)


def fails_if_called(trial):
    raise SystemExit("evaluated after close()")


@pytest.fixture
def processes():
    """Make process executors that are closed in the end."""
    made = []

    def processes(objective, workers=2, on_report=never):
        made.append(ProcessExecutor(Job(objective, ("value",), on_report), workers))
        return made[-1]

    yield processes
    for executor in made:
        executor.close()


def wait_for(executor, seconds=60):
    """Wait for one task to end."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if done := executor.wait(1.0):
            return done[0]
    raise AssertionError("nothing ended")


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pids, seconds=60):
    """Tell whether all processes are gone within some seconds."""
    deadline = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(alive, pids))


# workers that die


@pytest.mark.parametrize(
    ("objective", "how"),
    [
        (lambda p: os._exit(3), "exit code 3"),
        (lambda p: os._exit(0), "exit code 0"),
        (lambda p: os.kill(os.getpid(), signal.SIGKILL), "signal 9"),
        (lambda p: os.kill(os.getpid(), signal.SIGSEGV), "signal 11"),
    ],
)
def test_a_worker_that_dies_is_lost_and_replaced(processes, objective, how):
    executor = processes(lambda p: objective(p) if p["x"] == 0 else float(p["x"]))
    executor.submit(Task(0, 1, {"x": 0}))
    lost = wait_for(executor)
    assert lost == Finished(Task(0, 1, {"x": 0}), None, lost.error)
    assert how in lost.error
    assert finish(executor, [Task(1, 1, {"x": 1}), Task(2, 1, {"x": 2})], 2)[2].metrics == {"value": 2.0}


def test_a_worker_killed_from_outside_is_lost_and_the_others_go_on(processes, tmp_path):
    def objective(p):
        (tmp_path / str(p["x"])).write_text(str(os.getpid()))
        time.sleep(60 if p["x"] == 0 else 0.3)
        return p["x"]

    executor = processes(objective)
    executor.submit(Task(0, 1, {"x": 0}))
    executor.submit(Task(1, 1, {"x": 1}))
    assert wait_for(executor).outcome.metrics == {"value": 1.0}
    os.kill(int((tmp_path / "0").read_text()), signal.SIGKILL)
    lost = wait_for(executor)
    assert (lost.task.number, lost.outcome) == (0, None)


def test_an_idle_worker_that_died_costs_no_attempt(processes):
    executor = processes(lambda p: float(os.getpid()), workers=1)
    pid = int(run_all(executor, 1, 1)[0].metrics["value"])
    os.kill(pid, signal.SIGKILL)
    assert gone([pid])
    assert finish(executor, [Task(1, 1, {"x": 1})])[1].state is State.COMPLETE


def test_a_worker_that_dies_before_it_begins_a_trial_costs_no_attempt(processes):
    """A process takes a while to die: until all of its threads are gone, tasks can be sent to it."""
    executor = processes(lambda p: float(os.getpid()), workers=1)
    pid = int(run_all(executor, 1, 1)[0].metrics["value"])
    os.kill(pid, signal.SIGSTOP)
    executor.submit(Task(1, 1, {"x": 1}))
    os.kill(pid, signal.SIGKILL)
    outcome = wait_for(executor).outcome
    assert outcome.state is State.COMPLETE and outcome.metrics["value"] != pid


def test_a_worker_that_dies_is_lost_though_a_child_holds_its_connection(processes, tmp_path):
    """A forked child inherits the socket, so that the connection does not end with the worker."""

    def objective(p):
        if p["x"] == 0:
            child = os.fork()
            if child == 0:
                time.sleep(120)
                os._exit(0)
            (tmp_path / "child").write_text(str(child))
            os.kill(os.getpid(), signal.SIGKILL)
        return float(p["x"])

    executor = processes(objective)
    executor.submit(Task(0, 1, {"x": 0}))
    lost = wait_for(executor)
    assert lost.outcome is None and "signal 9" in lost.error
    assert gone([int((tmp_path / "child").read_text())])
    assert finish(executor, [Task(1, 1, {"x": 1})])[1].metrics == {"value": 1.0}


def test_a_thread_that_ends_hides_no_process_of_the_others(monkeypatch):
    """Where one had ended between the look at the threads and at what they had started, nothing was found at all."""
    child, ended, iterdir = subprocess.Popen(["sleep", "60"]), Path("/proc/self/task/0"), Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: iter([ended, *iterdir(path)]))
    try:
        assert child.pid in tree.descendants(os.getpid())
    finally:
        child.kill()
        child.wait()


def test_close_leaves_no_process(processes, tmp_path):
    def objective(p):
        (tmp_path / str(p["x"])).write_text(str(os.getpid()))
        time.sleep(60)

    executor = processes(objective)
    for x in range(2):
        executor.submit(Task(x, 1, {"x": x}))
    while len(list(tmp_path.iterdir())) < 2 or not all(f.read_text() for f in tmp_path.iterdir()):
        time.sleep(0.02)
    executor.close()
    assert gone([int(f.read_text()) for f in tmp_path.iterdir()])


def test_idle_workers_end_as_programs_do(processes, tmp_path):
    """What is to be done at their exit is done when close() returns, and what they have left running ends."""

    def objective(p):
        import atexit

        child = subprocess.Popen(["sleep", "300"])
        atexit.register((tmp_path / str(os.getpid())).write_text, "done")
        return float(child.pid)

    executor = processes(objective)
    children = [int(outcome.metrics["value"]) for outcome in run_all(executor, 2, 2).values()]
    executor.close()
    workers = list(tmp_path.iterdir())
    assert workers and all(f.read_text() == "done" for f in workers)
    assert gone(children)


@pytest.mark.once
def test_a_worker_that_does_not_end_by_itself_is_killed(processes):
    def objective(p):
        threading.Thread(target=time.sleep, args=(300,)).start()
        return float(os.getpid())

    executor = processes(objective, workers=1)
    pid = int(run_all(executor, 1, 1)[0].metrics["value"])
    executor.close()
    assert gone([pid])


def test_a_trial_whose_workers_keep_dying_fails_as_lost():
    """It is tried three times; the study goes on to its budget."""
    study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0)
    study.optimize(lambda p: os._exit(1) if p.number == 2 else p["x"], 8, workers=2)
    failed = [t for t in study.trials if t.state is State.FAILED]
    assert [(t.number, t.reason, t.attempts) for t in failed] == [(2, wt.Reason.LOST, 3)]
    assert sum(t.state is State.COMPLETE for t in study.trials) == 7


def test_the_last_trials_of_a_finite_space_are_tried_again_too():
    """A worker that dies after the space ran out of new configurations: its trial must not be left waiting."""
    study = wt.Study({"x": [0, 1, 2, 3]}, sampler=wt.Grid(shuffle=False), seed=0)
    study.optimize(lambda p: os._exit(1) if p["x"] == 3 else p["x"], workers=2)
    assert [(t.params["x"], t.state.value, t.attempts) for t in study.trials][3] == (3, "failed", 3)


def test_reports_do_not_prolong_waiting(processes):
    def objective(p):
        for step in range(60):
            p.report(0.0, step)
            time.sleep(0.05)

    executor = processes(objective)
    executor.submit(Task(0, 1, {"x": 0}))
    assert executor.wait(0.5) == []  # not even the trial that ends three seconds later


# functions that travel


def test_a_failure_in_a_worker_names_the_file_of_a_function_that_travelled(processes):
    """A script's own functions travel by value, and some releases of cloudpickle leave the file out."""

    def check(x):
        raise ValueError(f"no {x}")

    outcome = finish(processes(lambda trial: check(trial["x"])), [Task(0, 1, {"x": 3})])[0]
    assert outcome.error == f"ValueError: no 3 (test_executors.py:{check.__code__.co_firstlineno + 1})"


def test_lambdas_closures_and_callable_objects(processes):
    class Callable:
        def __init__(self, factor):
            self.factor = factor

        def __call__(self, p):
            return self.factor * p["x"]

    factor = 3.0
    for objective in (lambda p: 3.0 * p["x"], lambda p: factor * p["x"], Callable(3.0), Callable(3.0).__call__):
        assert run_all(processes(objective), 3, 2)[2].metrics == {"value": 6.0}


@pytest.mark.parametrize("make", [threading.Lock, lambda: (i for i in range(3))], ids=["lock", "generator"])
def test_an_objective_that_cannot_travel_is_refused(make):
    held = make()
    try:
        with pytest.raises(wt.InvalidType, match="cannot be sent to worker processes"):
            wt.minimize(lambda p: p["x"] if held else 0, {"x": (0.0, 1.0)}, 4, workers=2)
    finally:
        getattr(held, "close", lambda: None)()


def test_parameters_that_cannot_travel_are_named(processes):
    with pytest.raises(wt.InvalidType, match=r"params=.*cannot be sent"):
        processes(lambda p: 0.0).submit(Task(0, 1, {"x": threading.Lock()}))


def test_a_choice_that_cannot_travel_ends_the_study_and_leaves_no_trial_running():
    class Locked:
        def __init__(self):
            self.lock = threading.Lock()

    study = wt.Study({"x": [Locked(), Locked()]}, sampler="random", seed=0)
    with pytest.raises(wt.InvalidType, match="cannot be sent to worker processes"):
        study.optimize(lambda p: 0.0, 2, workers=2)
    assert not [t for t in study.trials if t.state is State.RUNNING]


def objective_whose_module(tmp_path, monkeypatch, name, act):
    """Return a function of a new module, which does something when a worker imports it, but not here."""
    (tmp_path / f"{name}.py").write_text(
        f"import os\nif os.getpid() != int(os.environ['PARENT']): {act}\ndef objective(p): return 0.0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PARENT", str(os.getpid()))
    return importlib.import_module(name).objective


def test_an_objective_that_cannot_be_loaded_is_named(processes, tmp_path, monkeypatch):
    """Its module is there for the parent but raises in the worker."""
    executor = processes(objective_whose_module(tmp_path, monkeypatch, "fragile", "raise OSError('no licence')"))
    executor.submit(Task(0, 1, {}))
    with pytest.raises(wt.WelltunedError, match="no licence"):
        wait_for(executor)


def test_a_parameter_that_cannot_be_loaded_is_named(processes, tmp_path, monkeypatch):
    """Its module cannot be imported where the worker is, though the objective can."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "nearby.py").write_text("class Choice: pass\n")
    import nearby

    executor = processes(lambda p: 1.0)
    monkeypatch.undo()
    executor.submit(Task(0, 1, {"x": nearby.Choice()}))
    with pytest.raises(wt.WelltunedError, match=r"cannot load the objective.*nearby"):
        wait_for(executor)


@pytest.mark.once
def test_loading_the_objective_takes_nothing_of_its_trials_time(tmp_path, monkeypatch):
    """A module that takes long to import is no reason to kill the first trial of each worker."""
    (tmp_path / "ponderous.py").write_text(
        "import os, time\ntime.sleep(4 if os.getpid() != int(os.environ['PARENT']) else 0)\n"
        "def objective(p): return 1.0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PARENT", str(os.getpid()))
    import ponderous

    study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0)
    study.optimize(ponderous.objective, 2, workers=2, trial_timeout=3)
    assert [t.state for t in study.trials] == [State.COMPLETE] * 2


@pytest.mark.once
def test_a_worker_that_never_loads_the_objective_is_an_error(processes, tmp_path, monkeypatch):
    (tmp_path / "stuck.py").write_text(
        "import os, time\ntime.sleep(120 if os.getpid() != int(os.environ['PARENT']) else 0)\n"
        "def objective(p): return 1.0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PARENT", str(os.getpid()))
    monkeypatch.setattr("welltuned.executors.processes.START_SECONDS", 1.5)
    import stuck

    executor = processes(stuck.objective)
    executor.submit(Task(0, 1, {}))
    with pytest.raises(wt.WelltunedError, match=r"did not load the objective within 1\.5 seconds"):
        wait_for(executor)


def test_workers_that_keep_dying_while_they_load_are_an_error(processes, tmp_path, monkeypatch):
    executor = processes(objective_whose_module(tmp_path, monkeypatch, "deadly", "os._exit(7)"))
    executor.submit(Task(0, 1, {}))
    with pytest.raises(wt.WelltunedError, match="3 worker processes in a row did not start: exit code 7"):
        wait_for(executor)


SCRIPT = """
import json, os
import welltuned as wt
STARTS = open({starts!r}, "a"); print(os.getpid(), file=STARTS, flush=True); STARTS.close()
class Worse(Exception): pass
def helper(x): return x * 2
def objective(p):
    if p["x"] == 3: raise Worse("three")
    return helper(p["x"])
study = wt.Study({{"x": [1, 2, 3, 4]}}, sampler="grid", seed=0)
study.optimize(objective, workers=2)
values, errors = sorted(t.value for t in study.trials if t.value), [t.error for t in study.trials if t.error]
print(json.dumps([values, study.stop_reason, errors]))
"""


def test_scripts_need_no_guard(tmp_path):
    """Functions and exceptions of ``__main__`` without ``if __name__ == "__main__"``; the script runs once."""
    script, starts = tmp_path / "script.py", tmp_path / "starts"
    script.write_text(SCRIPT.format(starts=str(starts)))
    run = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False
    )
    assert run.returncode == 0, run.stderr
    values, reason, errors = json.loads(run.stdout)
    assert values == [2, 4, 8]
    assert reason.startswith("space exhausted")
    assert len(errors) == 1 and "Worse: three" in errors[0]
    assert len(starts.read_text().split()) == 1


PICKLING = """
import json, multiprocessing, pickle
import welltuned as wt
class Model:
    def __init__(self, x): self.x = x
class Choice:
    def __call__(self, x): return x
def _worker(x): return 2 * x
def objective(trial):
    model = pickle.loads(pickle.dumps(Model(trial["x"])))
    choice = pickle.loads(pickle.dumps(trial["choice"]))
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return choice(pool.map(_worker, [model.x])[0]) if {pool} else choice(model.x)
study = wt.Study({{"x": [1, 2], "choice": [Choice()]}}, sampler="grid", seed=0)
study.optimize(objective, workers=2)
print(json.dumps([sorted(t.value or 0.0 for t in study.trials), [t.error for t in study.trials]]))
"""


@pytest.mark.parametrize("pool", [False, True])
def test_objectives_can_pickle_what_their_script_defines(tmp_path, pool):
    """By name, as ``torch.save`` of a model and pools of processes do."""
    if pool and multiprocessing.get_all_start_methods()[0] != "fork":
        pytest.skip("processes that are not forked have no such functions")
    script = tmp_path / "script.py"
    script.write_text(PICKLING.format(pool=pool))
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == [[2.0, 4.0] if pool else [1.0, 2.0], [None, None]]


def test_programs_from_standard_input_work_too():
    program = (
        "import welltuned as wt\n"
        "print(wt.minimize(lambda p: p['x'], {'x': [1, 2]}, sampler='grid', workers=2).best.value)\n"
    )
    run = subprocess.run([sys.executable, "-"], input=program, capture_output=True, text=True, timeout=120, check=False)
    assert run.stdout.strip() == "1.0", run.stderr


# the parent's end, and what workers inherit

SLEEPER = """
import os, sys, time
import welltuned as wt
def objective(p):
    open(os.path.join(sys.argv[1], str(os.getpid())), "w").close()
    time.sleep(120)
wt.minimize(objective, {"x": (0.0, 1.0)}, 4, workers=2)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_die_with_their_parent(tmp_path, how):
    script, pids = tmp_path / "script.py", tmp_path / "pids"
    pids.mkdir()
    script.write_text(SLEEPER.replace("sys.argv[1]", repr(str(pids))))
    parent = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(pids.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = [int(f.name) for f in pids.iterdir()]
    assert len(workers) == 2 and all(map(alive, workers))
    parent.send_signal(how)
    assert parent.wait(60) != 0
    assert gone(workers)


def test_a_long_folder_for_temporary_files_is_no_obstacle(tmp_path):
    """The address of a local socket has a hundred characters at most."""
    folder = tmp_path / ("of_a_job_" * 20)
    folder.mkdir()
    code = "import welltuned as wt; wt.minimize(lambda p: p['x'], {'x': [1, 2]}, sampler='grid', workers=2)"
    run = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(folder)}, stderr=subprocess.PIPE, check=False
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files can be counted on Linux only")
def test_closing_while_workers_start_leaves_nothing_open(processes):
    """Neither threads that wait for them nor connections."""

    def held():
        found = set(threading.enumerate())
        for file in list(Path("/proc/self/fd").iterdir()):
            with contextlib.suppress(FileNotFoundError):  # through which they were listed
                found.add((file.name, str(file.readlink())))
        return found

    before = held()
    for _ in range(3):
        executor = processes(lambda p: 1.0)
        for number in range(2):
            executor.submit(Task(number, 1, {}))
        executor.close()
    assert held() <= before  # what earlier tests have left may end meanwhile


STARTING = """
def objective(p):
    children = [subprocess.Popen(["sleep", "300"], start_new_session=new) for new in (False, True)]
    name = os.path.join({folder!r}, str(p.number))
    with open(name + "~", "w") as file:
        print(os.getpid(), *(child.pid for child in children), file=file)
    os.rename(name + "~", name)
    children[0].wait()
"""


def pids_in(folder, n, seconds=60):
    """Wait until ``n`` trials have written what they started, and return all process numbers."""
    deadline = time.monotonic() + seconds
    while len(files := [f for f in folder.iterdir() if not f.name.endswith("~")]) < n:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return [int(pid) for file in files for pid in file.read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="descendants are found on Linux only")
def test_what_objectives_started_ends_with_the_parent(tmp_path):
    """Also what has a session of its own."""
    folder, script = tmp_path / "pids", tmp_path / "script.py"
    folder.mkdir()
    script.write_text(
        "import os, subprocess\nimport welltuned as wt\n"
        + STARTING.format(folder=str(folder))
        + "wt.minimize(objective, {'x': (0.0, 1.0)}, 4, workers=2)\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)])
    pids = pids_in(folder, 2)
    parent.kill()
    parent.wait()
    assert len(pids) == 6 and gone(pids)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="descendants are found on Linux only")
@pytest.mark.parametrize("how", ["limit", "close"])
def test_what_objectives_started_ends_with_their_worker(tmp_path, how):
    """Also what has a session of its own."""
    scope = {"os": os, "subprocess": subprocess}
    exec(STARTING.format(folder=str(tmp_path)), scope)
    limits = check_limits(timeout=2) if how == "limit" else Limits()
    executor = ProcessExecutor(Job(scope["objective"], ("value",), never, limits), 1)
    with contextlib.closing(executor):
        executor.submit(Task(0, 1, {}))
        pids = pids_in(tmp_path, 1)
        if how == "limit":
            assert wait_for(executor).outcome.reason is wt.Reason.TIMEOUT
            assert gone(pids)
    assert gone(pids)


def test_programs_that_objectives_start_can_be_interrupted(processes):
    """A worker itself survives an interrupt; what it starts does not inherit that."""

    def objective(p):
        os.kill(os.getpid(), signal.SIGINT)
        child = subprocess.Popen(["sleep", "300"])
        child.send_signal(signal.SIGINT)
        return float(child.wait(60))

    assert run_all(processes(objective), 1, 1)[0].metrics == {"value": float(-signal.SIGINT)}


def test_workers_share_the_cores(processes, monkeypatch):
    for variable in THREAD_VARIABLES:
        monkeypatch.delenv(variable, raising=False)

    def threads(trial):
        trial.note(**{v: os.environ.get(v) for v in THREAD_VARIABLES})
        return 0.0

    for workers in (1, 2, 64):
        share = str(max(1, available_cores() // workers))
        assert run_all(processes(threads, workers), 1, 1)[0].attributes == dict.fromkeys(THREAD_VARIABLES, share)


def test_all_cores_of_joblib_are_the_share_of_a_worker(processes, monkeypatch):
    """An objective that cross-validates with n_jobs=-1 started as many processes in each worker as there are cores."""
    joblib = pytest.importorskip("joblib")
    monkeypatch.delenv("LOKY_MAX_CPU_COUNT", raising=False)

    def jobs(trial):
        return joblib.effective_n_jobs(-1)

    assert run_all(processes(jobs, 64), 1, 1)[0].metrics == {"value": max(1, available_cores() // 64)}


def test_what_the_user_set_is_left_alone(processes, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert run_all(processes(lambda p: float(os.environ["OMP_NUM_THREADS"])), 1, 1)[0].metrics == {"value": 7.0}


def test_workers_have_the_parents_folder_and_path(processes, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "neighbour.py").write_text("VALUE = 5.0\n")

    def objective(trial):
        import neighbour

        trial.note(cwd=str(Path.cwd()))
        return neighbour.VALUE

    outcome = run_all(processes(objective), 1, 1)[0]
    assert (outcome.metrics, outcome.attributes) == ({"value": 5.0}, {"cwd": str(tmp_path)})


def test_a_path_that_is_no_string_is_left_out(processes, monkeypatch, tmp_path):
    """Python ignores it, and so do workers."""
    monkeypatch.setattr(sys, "path", [*sys.path, tmp_path])
    assert run_all(processes(lambda p: 1.0), 1, 1)[0].metrics == {"value": 1.0}


def test_others_import_from_the_same_folders_wherever_they_are(monkeypatch, tmp_path):
    """Workers of Ray have a folder of their own, from where a relative path leads elsewhere."""
    (tmp_path / "code").mkdir()
    monkeypatch.chdir(tmp_path)
    hooks = ["__editable__.finder.__path_hook__", "__editable__" + 300 * "x"]  # the second may not be looked at
    monkeypatch.setattr(sys, "path", ["", "code", "/usr/lib", *hooks])
    assert import_path() == [str(tmp_path), str(tmp_path / "code"), "/usr/lib", *hooks]


def test_tasks_run_side_by_side(processes):
    """Two sleeping tasks overlap."""

    def objective(trial):
        began = time.time()
        time.sleep(0.4)
        trial.note(began=began, ended=time.time())
        return 0.0

    executor = processes(objective)
    run_all(executor, 2, 2)  # the workers start here
    a, b = (o.attributes for o in run_all(executor, 2, 2).values())
    assert a["began"] < b["ended"] and b["began"] < a["ended"]


# names and numbers


def test_the_default_follows_the_number_of_workers():
    job = Job(lambda p: 0.0, ("value",), never)
    assert isinstance(make_executor(None, job, 1), EXECUTORS["inline"])
    executor = make_executor(None, job, 2)
    assert isinstance(executor, ProcessExecutor)
    executor.close()


@pytest.mark.parametrize(("name", "workers"), [("threads", 1), ("inline", 2)])
def test_executors_that_do_not_fit(name, workers):
    with pytest.raises(wt.InvalidValue, match="executor="):
        make_executor(name, Job(lambda p: 0.0, ("value",), never), workers)


def test_workers_are_counted():
    assert check_workers(3) == 3
    assert check_workers(-1) == available_cores() >= 1


@pytest.mark.parametrize(
    ("workers", "error"), [(0, wt.InvalidValue), (-2, wt.InvalidValue), (1.5, wt.InvalidType), (True, wt.InvalidType)]
)
def test_bad_numbers_of_workers(workers, error):
    with pytest.raises(error, match="workers="):
        check_workers(workers)


class Refused(Exception):
    """As clients of services raise them: with more than one argument, so that it cannot be pickled."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("catch", "raises"), [(ValueError, True), (Refused, False), (Exception, False)])
def test_catch_holds_for_exceptions_that_cannot_travel(workers, catch, raises):
    def objective(p):
        raise Refused(500, "the service is down")

    study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0)
    with pytest.raises(Exception, match="service is down") if raises else contextlib.nullcontext():
        study.optimize(objective, 2, workers=workers, catch=catch)
    assert all("service is down" in t.error for t in study.trials if t.state is State.FAILED)


def test_what_workers_print_reaches_a_file(tmp_path):
    """A pipe or a file is written in blocks; what was in one when the worker was ended was lost."""
    script = tmp_path / "printing.py"
    script.write_text(
        "import welltuned as wt\n"
        "def f(trial):\n    print('hello', trial.number)\n    return trial['x']\n"
        "wt.Study({'x': (0.0, 1.0)}, sampler='random', seed=0).optimize(f, 4, workers=2)\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment, check=True)
    assert sorted(done.stdout.split("\n")[:4]) == [f"hello {n}" for n in range(4)]
