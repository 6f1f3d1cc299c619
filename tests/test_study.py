"""The study: from outside by ask and tell, and its own loop."""

import contextlib
import copy
import functools
import inspect
import io
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction
from types import SimpleNamespace

import cloudpickle
import numpy as np
import pytest
from threadpoolctl import ThreadpoolController, threadpool_limits

import welltuned as wt
from objectives import by_run, value
from welltuned.history import History
from welltuned.live import LiveTrial, Task
from welltuned.report import Subject, summary
from welltuned.storage import SQLiteStorage
from welltuned.study import Added
from welltuned.study.progress import Progress
from welltuned.trial import Origin, Report, State

SPACE = {"x": (0.0, 1.0), "n": [1, 2, 3]}


def new(**options):
    return wt.Study(SPACE, **{"sampler": "random", "seed": 0, **options})


def params(study):
    return [t.params for t in study.trials]


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "study.db")


# ask and tell


def test_ask_and_tell():
    study = new()
    trial = study.ask()
    assert (trial.number, set(trial), dict(**trial)) == (0, {"x", "n"}, trial.params)
    assert study.trials[0].state is State.RUNNING
    record = study.tell(trial, 0.5)
    assert (record.number, record.state, record.value, record.params) == (0, State.COMPLETE, 0.5, trial.params)
    assert study.trials == (record,)
    assert study.ask().number == 1


def test_ask_for_several():
    study = new(n_trials=6)
    first = study.ask(4)
    assert [t.number for t in first] == [0, 1, 2, 3]
    assert len({study.space.key(t.params) for t in first}) == 4
    assert [t.number for t in study.ask(4)] == [4, 5]
    with pytest.raises(wt.StudyStopped, match="budget of 6 trials"):
        study.ask()


@pytest.mark.parametrize(
    ("n", "error"), [(0, wt.InvalidValue), (-1, wt.InvalidValue), (1.5, wt.InvalidType), (True, wt.InvalidType)]
)
def test_ask_for_nonsense(n, error):
    with pytest.raises(error, match="n="):
        new().ask(n)


def test_tell_by_number_in_any_order():
    study = new()
    study.ask(3)
    for number in (2, 0, 1):
        assert study.tell(number, float(number)).number == number
    assert [t.value for t in study.trials] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("told", "metrics", "sems", "gradient"),
    [
        (1, {"value": 1.0}, {}, None),
        (np.float32(0.5), {"value": 0.5}, {}, None),
        (np.array([2.0]), {"value": 2.0}, {}, None),
        ((1.0, 0.25), {"value": 1.0}, {"value": 0.25}, None),
        ({"size": 3, "value": 1.0}, {"value": 1.0, "size": 3.0}, {}, None),
        ((1.0, {"x": -2.0}), {"value": 1.0}, {}, {"x": -2.0}),
        ((1.0, [1.0, 2.0]), {"value": 1.0}, {}, {"x": 1.0, "n": 2.0}),
        (wt.Result(1.0, sem=0.5, gradient={"x": 3.0}), {"value": 1.0}, {"value": 0.5}, {"x": 3.0}),
    ],
)
def test_what_may_be_told(told, metrics, sems, gradient):
    study = new()
    record = study.tell(study.ask(), told)
    assert (record.state, record.metrics, record.sems, record.gradient) == (State.COMPLETE, metrics, sems, gradient)


@pytest.mark.parametrize("told", ["0.5", None, [1.0, 2.0], {"other": 1.0}, (1.0, -0.5), (1.0, {"y": 1.0}), object()])
def test_what_may_not_be_told_leaves_the_trial_running(told):
    study = new()
    trial = study.ask()
    with pytest.raises((wt.InvalidType, wt.InvalidValue), match="the objective returned"):
        study.tell(trial, told)
    assert study.trials[0].state is State.RUNNING
    assert study.tell(trial, 1.0).value == 1.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -np.inf])
def test_what_is_not_finite_is_a_failure(bad):
    study = new()
    record = study.tell(study.ask(), bad)
    assert (record.state, record.reason, record.metrics) == (State.FAILED, wt.Reason.NAN, {})


def test_tell_failed_and_pruned():
    study = new()
    failed = study.tell(study.ask(), state="failed", error="out of luck")
    assert (failed.state, failed.reason, failed.error) == (State.FAILED, wt.Reason.ERROR, "out of luck")
    assert study.tell(study.ask(), state=State.PRUNED).state is State.PRUNED


@pytest.mark.parametrize("state", ["running", "waiting", "nonsense", None, State.PAUSED])
def test_tell_no_end(state):
    study = new()
    with pytest.raises(wt.InvalidValue, match="state="):
        study.tell(study.ask(), 1.0, state=state)


def test_tell_twice_changes_nothing():
    study = new()
    trial = study.ask()
    record = study.tell(trial, 1.0)
    for again in (trial, 0):
        with pytest.raises(wt.LeaseLost):
            study.tell(again, 2.0)
    assert study.trials == (record,)


@pytest.mark.parametrize(
    ("number", "error"), [(5, wt.InvalidValue), ("0", wt.InvalidType), (True, wt.InvalidType), (None, wt.InvalidType)]
)
def test_tell_of_no_trial(number, error):
    with pytest.raises(error, match="tell"):
        new().tell(number, 1.0)


def test_reports_and_scheduler():
    study = new(scheduler=wt.Median(startup=3, warmup=1))
    for level in (0.0, 1.0, 2.0):
        trial = study.ask()
        trial.report(level, step=1)
        trial.report({"value": level, "acc": 0.5}, step=2)
        assert not trial.should_stop()
        study.tell(trial, level)
    bad = study.ask()
    bad.report(9.0, step=1)
    assert bad.should_stop() and bad.should_prune()
    bad.report(9.0, step=1)
    study.tell(bad, state="pruned")
    assert [(r.step, r.metrics) for r in study.trials[0].reports] == [
        (1, {"value": 0.0}),
        (2, {"value": 0.0, "acc": 0.5}),
    ]
    assert [r.step for r in study.trials[3].reports] == [1]


# enqueue and add


def test_enqueued_trials_run_next_in_their_order():
    study = new(n_trials=4)
    study.ask()
    assert study.enqueue([{"x": 0.25, "n": 2}, {"n": 1, "x": 0}]) == [1, 2]
    assert [study.ask().params for _ in range(2)] == [{"x": 0.25, "n": 2}, {"x": 0.0, "n": 1}]
    assert [t.origin for t in study.trials[1:]] == [Origin.ENQUEUED] * 2
    assert study.ask().number == 3
    with pytest.raises(wt.StudyStopped):
        study.ask()


@pytest.mark.parametrize(
    "bad", [{"x": 2.0, "n": 1}, {"x": 0.5}, {"x": 0.5, "n": 1, "y": 0}, {"x": 0.5, "n": 7}, {"x": float("nan"), "n": 1}]
)
def test_enqueue_refuses_all_or_nothing(bad):
    study = new()
    with pytest.raises(wt.InvalidValue):
        study.enqueue([{"x": 0.5, "n": 1}, bad])
    assert study.trials == ()


def test_added_results_use_no_budget_and_count():
    study = new(n_trials=2)
    added = study.add(
        [
            ({"x": 0.3, "n": 1}, 1.0),
            ({"x": 0.4, "n": 1}, (2.0, 0.5)),
            ({"x": 7, "n": 1}, 1.0),
            ({"x": 0.1, "n": 1}, "bad"),
        ]
    )
    assert isinstance(added, Added)
    assert added.numbers == (0, 1)
    assert [row[0]["x"] for row, _ in added.refused] == [7, 0.1]
    assert "outside" in added.refused[0][1] and "not a number" in added.refused[1][1]
    assert study.best.number == 0 and study.trials[1].sems == {"value": 0.5}
    study.optimize(value, 2)
    assert [t.origin for t in study.trials] == [Origin.ADDED] * 2 + [Origin.SAMPLER] * 2


def test_rows_from_before_a_parameter_was_added_have_its_default():
    space = {"x": (0.0, 1.0), "decay": wt.Float(0.0, 0.1, default=0.01), "kind": wt.Categorical(["a", "b"])}
    study = wt.Study(space, seed=0)
    added = study.add([({"x": 0.5, "kind": "a"}, 1.0), ({"x": 0.5, "decay": 0.02}, 2.0)])
    assert len(added.numbers) == 1 and "lacks the parameter 'kind'" in added.refused[0][1]
    assert study.trials[0].params == {"x": 0.5, "kind": "a", "decay": 0.01}
    earlier = wt.Study({"x": (0.0, 1.0), "kind": ["a", "b"]}, seed=0)
    earlier.optimize(lambda t: t["x"], n_trials=3)
    assert len(study.add(earlier.trials).numbers) == 3


def test_add_one_by_one():
    study, other = new(), new(seed=1)
    assert study.add({"x": 0.3, "n": 1}, 1.0).numbers == (0,)
    assert study.add({"x": 0.3, "n": 2}, float("nan")).numbers == (1,)
    assert study.trials[1].reason is wt.Reason.NAN
    other.optimize(value, 2)
    assert study.add(other.trials[1]).numbers == (2,)
    assert (study.trials[2].params, study.trials[2].value) == (other.trials[1].params, other.trials[1].value)
    with pytest.raises(wt.InvalidValue):
        study.add({"x": 3.0, "n": 1}, 1.0)


def test_records_that_are_added_lose_what_is_not_finite():
    """As results do that are told; a record with a result that is none is a failure, and never the best."""
    study, params, nan = new(), {"x": 0.3, "n": 1}, {"value": np.nan}
    reports = (Report(0, nan), Report(1, {"value": 2.0, "loss": np.inf}))
    rows = [
        wt.Trial(0, wt.State.COMPLETE, params, nan, reports=reports),
        wt.Trial(1, wt.State.COMPLETE, params, {"value": 3.0, "time": np.inf}, nan, gradient={"x": np.nan}),
        wt.Trial(2, wt.State.PRUNED, params, reports=reports),
    ]
    assert study.add(rows).numbers == (0, 1, 2)
    lost, kept, pruned = study.trials
    assert (lost.state, lost.reason) == (wt.State.FAILED, wt.Reason.NAN) and study.best.number == 1
    assert (kept.metrics, kept.sems, kept.gradient) == ({"value": 3.0}, {}, None)
    assert pruned.reports == (Report(1, {"value": 2.0}),)
    assert study.history.losses[2, 0] == 2.0


@pytest.mark.parametrize("value", [10**400, "0.5", None])
def test_records_with_what_is_no_number_are_refused(value):
    """Those beside them are taken."""
    study, params = new(), {"x": 0.3, "n": 1}
    rows = [wt.Trial(i, wt.State.COMPLETE, params, {"value": v}) for i, v in enumerate((value, 1.0))]
    added = study.add(rows)
    assert [t.value for t in study.trials] == [1.0] and "where there should be numbers" in added.refused[0][1]
    with pytest.raises(wt.InvalidType, match="trial 0 has"):
        study.add(rows[0])


def test_adding_a_running_trial_leaves_none_running():
    other, study = new(seed=1), new()
    other.ask()
    with contextlib.suppress(wt.WelltunedError):
        study.add(other.trials)
    assert all(t.state is not State.RUNNING for t in study.trials)


@pytest.mark.parametrize("stored", [False, True])
def test_adding_a_trial_of_another_objective(path, stored):
    """It is refused, or has no value here; in no case is it the best."""
    other, study = new(seed=1), new(direction={"acc": "maximize"}, storage=path if stored else None)
    other.optimize(value, 1)
    with contextlib.suppress(wt.WelltunedError):
        study.add(other.trials)
    with pytest.raises(wt.NoCompletedTrial):
        _ = study.best_value


# what is known


def test_best_in_both_directions():
    for direction, best in (("minimize", 0), ("maximize", 2)):
        study = new(direction=direction)
        for number in range(3):
            study.tell(study.ask(), float(number))
        study.tell(study.ask(), state="failed")
        assert study.best.number == study.best_trial.number == best
        assert study.best_value == float(best)
        assert study.best_params == study.trials[best].params


def test_the_first_of_equals_is_best():
    study = new()
    for _ in range(3):
        study.tell(study.ask(), 1.0)
    assert study.best.number == 0


def test_no_best_yet():
    study = new()
    with pytest.raises(wt.NoCompletedTrial, match="no completed trial yet"):
        _ = study.best
    study.tell(study.ask(), state="failed", error="out of luck")
    with pytest.raises(wt.NoCompletedTrial, match="out of luck"):
        _ = study.best


def test_several_objectives():
    study = new(direction={"loss": "minimize", "acc": "maximize"})
    for told in ({"loss": 1.0, "acc": 0.5}, (2.0, 0.4), {"loss": 2.0, "acc": 0.9, "size": 7}, [0.5, 0.1]):
        study.tell(study.ask(), told)
    assert [t.number for t in study.best_trials] == [0, 2, 3]
    assert study.trials[1].values == (2.0, 0.4)
    assert study.trials[2].metrics == {"loss": 2.0, "acc": 0.9, "size": 7.0}
    with pytest.raises(wt.InvalidValue, match="best_trials"):
        _ = study.best
    with pytest.raises(wt.InvalidValue, match="loss"):
        _ = study.trials[0].value


@pytest.mark.parametrize("sampler", ["auto", "bayes", "random"])
def test_several_objectives_in_the_loop(sampler):
    study = new(direction=["minimize", "maximize"], sampler=sampler)
    study.optimize(lambda p: (p["x"], p["x"] * p["n"]), 15)
    assert study.objectives == ("value_0", "value_1")
    assert len(study.trials) == 15
    for a in study.best_trials:
        assert not any(b.values[0] < a.values[0] and b.values[1] > a.values[1] for b in study.trials)


def test_without_a_standard_error_there_is_no_live_line(monkeypatch):
    """A process that was started without one, as a daemon or by pythonw, has None in its place."""
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed):
        monkeypatch.setattr(sys, "stderr", stream)
        study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0)
        study.optimize(lambda p: p["x"], n_trials=2)
        assert len(study.trials) == 2


class Cell:
    """What IPython's display returns, and the shell of a notebook."""

    def __init__(self):
        self.lines, self.kernel = [], object()

    def __call__(self, data, *, raw, display_id):
        return self

    def update(self, data, *, raw):
        self.lines.append(data["text/plain"])


@pytest.mark.parametrize(("given", "shown"), [(None, True), (True, True), (False, False)])
def test_a_notebook_shows_one_line_that_changes(monkeypatch, capsys, given, shown):
    """Rich asked for ipywidgets with a warning, and showed nothing unless it was asked to, then a line a second."""
    cell = Cell()
    ipython = SimpleNamespace(get_ipython=lambda: cell, display=SimpleNamespace(display=cell))
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0, name="net")
    study.optimize(lambda p: p["x"], n_trials=3, progress=given)
    if shown:
        assert "0/3" in cell.lines[0] and "3/3" in cell.lines[-1]
        assert all(line.startswith("net") and "\n" not in line and "\x1b" not in line for line in cell.lines)
        assert f"{study.best.value:.3g}"[:4] in cell.lines[-1]
    else:
        assert not cell.lines
    assert "3/3" not in capsys.readouterr().err


def test_the_live_line_looks_at_all_trials_for_a_tenth_of_the_time(monkeypatch, capsys):
    """Each trial looked at all of them: on a terminal, eight thousand took minutes where two seconds are enough."""
    clock, looks, eligible = [5.0], [], History._eligible
    monkeypatch.setattr("welltuned.study.progress.time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(History, "_eligible", lambda history: looks.append(len(history)) or eligible(history))
    wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0).optimize(lambda p: p["x"], n_trials=30, progress=True)
    assert looks == [0, 30]  # as it began, and in the end
    assert "30/30" in capsys.readouterr().err

    def look(done):
        def slow():
            shown.append(done)
            clock[0] += 2.0
            return done, ""

        return slow

    shown = []
    with Progress("slow", 100, True) as progress:
        for done in range(100):
            progress.update(look(done))
            clock[0] += 1.0
    assert shown == [0, 18, 36, 54, 72, 90, 99]


def test_what_came_of_a_trial_is_found_without_a_look_at_all(monkeypatch, caplog):
    monkeypatch.delattr(History, "trials_by_number")
    seen = []
    with caplog.at_level(logging.INFO, logger="welltuned"):
        study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0)
        study.optimize(lambda p: p["x"], 3, callbacks=[lambda _, trial: seen.append(trial)], retries={"error": 1})
    assert seen == list(study.trials)
    assert "trial 2 complete" in caplog.text


def test_to_frame():
    study = new()
    study.optimize(lambda p: {"value": value(p), "size": 2} if p.number else 1 / 0, 3)
    frame = study.to_frame()
    assert list(frame["number"]) == [0, 1, 2]
    assert {"state", "value", "params_x", "params_n", "metrics_size", "seconds", "reason", "error"} <= set(
        frame.columns
    )
    assert list(frame["state"]) == ["failed", "complete", "complete"]
    assert frame["params_x"][2] == study.trials[2].params["x"]
    assert "ZeroDivisionError" in frame["error"][0]


# the loop


def test_callbacks_see_the_study_and_each_record():
    seen = []
    study = new()
    study.optimize(
        value,
        4,
        callbacks=[lambda s, t: seen.append((s, t.number, t.state)), lambda s, t: t.number == 2 and s.stop("enough")],
    )
    assert seen == [(study, n, State.COMPLETE) for n in range(3)]
    assert study.stop_reason == "enough"


def test_stop_from_the_objective_ends_after_this_trial_and_is_taken_back():
    study = new()
    study.optimize(lambda p: study.stop() if p.number == 1 else 0.0, 5)
    assert len(study.trials) == 2
    assert study.stop_reason == "stopped by the user"
    study.optimize(value, 5)
    assert len(study.trials) == 5
    assert study.stop_reason.startswith("budget")


def test_failures_are_recorded_and_the_study_goes_on():
    study = new()
    study.optimize(lambda p: 1 / 0 if p.number % 2 else value(p), 6)
    assert [t.state is State.FAILED for t in study.trials] == [False, True] * 3
    assert "ZeroDivisionError" in study.trials[1].error and "test_study.py" in study.trials[1].error


@pytest.mark.parametrize("workers", [1, 2])
def test_catch(workers):
    """What is not to be caught is recorded, and raised as itself; nothing is left running."""
    study = new()
    with pytest.raises(ZeroDivisionError):
        study.optimize(lambda p: 1 / 0 if p.number == 2 else value(p), 9, catch=(ValueError, KeyError), workers=workers)
    assert study.trials[2].state is State.FAILED
    assert not any(t.state is State.RUNNING for t in study.trials)
    assert len(study.trials) <= 2 + 2 * workers


@pytest.mark.parametrize("catch", [(), (ValueError,)])
def test_nan_is_never_raised(catch):
    study = new()
    study.optimize(lambda p: float("nan"), 3, catch=catch)
    assert [t.reason for t in study.trials] == [wt.Reason.NAN] * 3


def test_pruned_and_infeasible():
    def objective(p):
        if p.number == 0:
            p.report(3.0, 1)
            p.prune()
        raise wt.Infeasible("no")

    study = new()
    study.optimize(objective, 2)
    assert [(t.state, t.reason) for t in study.trials] == [(State.PRUNED, None), (State.FAILED, wt.Reason.INFEASIBLE)]


def test_keyboard_interrupt_leaves_nothing_running(path):
    def objective(p):
        if p.number == 3:
            raise KeyboardInterrupt
        return value(p)

    study = new(storage=path)
    with pytest.raises(KeyboardInterrupt):
        study.optimize(objective, 6)
    assert [t.state for t in study.trials] == [State.COMPLETE] * 3 + [State.WAITING]
    assert study.stop_reason == "interrupted"
    interrupted = params(study)
    assert study.trials[3].attempts == 0  # or whoever presses Ctrl-C often enough has it given up
    again = new(storage=path)
    again.optimize(value, 6)
    whole = new()
    whole.optimize(value, 6)
    assert params(again) == params(whole)
    assert params(again)[3] == interrupted[3]


def test_an_interrupt_that_a_library_keeps_to_itself(path):
    """skorch takes Ctrl-C for the end of a training, Lightning for that of the process, CatBoost for an error."""

    def objective(p):
        try:
            if p.number == 2:
                signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            sys.exit(1)
        return value(p)

    before, study = signal.getsignal(signal.SIGINT), new(storage=path)
    with pytest.raises(KeyboardInterrupt):
        study.optimize(objective, 6)
    assert [t.state for t in study.trials] == [State.COMPLETE] * 2 + [State.WAITING]
    assert study.stop_reason == "interrupted"
    assert signal.getsignal(signal.SIGINT) is before


INTERRUPTED = """
import os, sys, time
import welltuned as wt
busy = sys.argv[2]
def objective(p):
    open(os.path.join(busy, str(os.getpid())), "w").close()
    time.sleep(60)
wt.Study({"x": (0.0, 1.0)}, storage=sys.argv[1], seed=0).optimize(objective, 9, workers=int(sys.argv[3]))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_leaves_nothing_running(path, tmp_path, workers):
    busy = tmp_path / "busy"
    busy.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, path, str(busy), str(workers)], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while len(list(busy.iterdir())) < workers and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=120)[1]
    study = wt.Study(storage=path)
    assert [t.state for t in study.trials] == [State.WAITING] * workers
    assert study.stop_reason == "interrupted"


def test_the_same_call_goes_on_to_the_same_total(path):
    whole = new()
    whole.optimize(value, 12)
    for total in (3, 3, 7, 12, 12):
        study = new(storage=path)
        study.optimize(value, total)
        assert len(study.trials) == total
    assert params(study) == params(whole)


@pytest.mark.parametrize("sampler", ["auto", "bayes", "gradient", "qmc", "random"])
def test_seeds_make_runs_equal(sampler, path):
    """In memory, in a file, and reopened in between: one seed, one run; another seed, another run."""
    runs = []
    for storage, seed in ((None, 3), (path, 3), (None, 4)):
        wt.Study(SPACE, sampler=sampler, seed=seed, storage=storage).optimize(value, 7)
        study = wt.Study(SPACE, sampler=sampler, seed=seed, storage=storage)
        study.optimize(value, 14)
        runs.append(params(study))
    assert runs[0] == runs[1]
    assert (runs[0] != runs[2]) or sampler == "gradient"


def test_a_seed_is_drawn_and_kept(path):
    first = wt.Study(SPACE, storage=path)
    assert wt.Study(SPACE, storage=path).seed == first.seed != wt.Study(SPACE).seed


def test_the_global_generator_is_left_alone():
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    new(sampler="bayes").optimize(value, 12)
    assert (np.random.get_state()[1] == state).all()


def test_something_must_end_the_search():
    with pytest.raises(wt.InvalidValue, match="nothing would end the search"):
        new().optimize(value)
    study = wt.Study({"n": [1, 2, 3]}, sampler="random")
    study.optimize(lambda p: p["n"])
    assert sorted(t.params["n"] for t in study.trials) == [1, 2, 3]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"n_trials": 0}, wt.InvalidValue),
        ({"n_trials": 2.5}, wt.InvalidType),
        ({"timeout": 0}, wt.InvalidValue),
        ({"timeout": "1"}, wt.InvalidType),
        ({"n_trials": 1, "workers": 0}, wt.InvalidValue),
        ({"n_trials": 1, "stop": 3}, wt.InvalidType),
        ({"n_trials": 1, "stop": wt.Patience}, wt.InvalidType),
        ({"n_trials": 1, "catch": 3}, wt.InvalidType),
        ({"n_trials": 1, "executor": "threads"}, wt.InvalidValue),
    ],
)
def test_bad_options_of_optimize(options, error):
    study = new()
    with pytest.raises(error):
        study.optimize(value, **options)
    assert study.trials == ()


@pytest.mark.parametrize(
    "options",
    [
        {"direction": "up"},
        {"direction": {}},
        {"direction": 3},
        {"name": ""},
        {"name": "a/b"},
        {"name": 3},
        {"seed": -1},
        {"seed": 1.5},
        {"seed": True},
        {"lease": 0},
        {"lease": float("inf")},
        {"n_trials": 0},
        {"sampler": "nope"},
        {"scheduler": "nope"},
        {"storage": 3},
    ],
)
def test_bad_options_of_a_study(options):
    with pytest.raises((wt.InvalidValue, wt.InvalidType), match=next(iter(options))):
        new(**options)


def test_an_objective_must_be_callable():
    with pytest.raises(wt.InvalidType, match="objective="):
        new().optimize(3, 1)


# define by run


@pytest.mark.parametrize(("sampler", "workers"), [("auto", 1), ("bayes", 2), ("random", 1)])
def test_define_by_run(sampler, workers):
    study = wt.Study(sampler=sampler, seed=0)
    study.optimize(by_run, 25, workers=workers)
    assert all(t.state is State.COMPLETE for t in study.trials)
    assert {tuple(t.params) for t in study.trials} == {("kind", "lr"), ("kind", "n", "f")}
    for t in study.trials:
        assert t.value == t.params["lr"] if t.params["kind"] == "a" else t.value == t.params["n"] + t.params["f"]
        assert 1e-5 <= t.params.get("lr", 1e-3) <= 1e-1 and t.params.get("n", 1) in range(1, 10)
    assert set(study.space) == {"kind", "lr", "n", "f"}
    assert study.best_params["kind"] == "a"


def test_define_by_run_resumes_to_the_same_run(path):
    whole = wt.Study(sampler="bayes", seed=0)
    whole.optimize(by_run, 14)
    for total in (1, 5, 14):
        study = wt.Study(sampler="bayes", seed=0, storage=path)
        study.optimize(by_run, total)
    assert params(study) == params(whole)


def test_define_by_run_with_ask_and_tell():
    study = wt.Study(seed=0, sampler="random")
    trial = study.ask()
    x = trial.suggest_float("x", -1.0, 1.0)
    assert trial.suggest_float("x", -1.0, 1.0) == x
    assert study.tell(trial, x).params == {"x": x}


def test_a_name_that_the_space_does_not_have():
    study = new()
    study.optimize(lambda p: p.suggest_float("y", 0.0, 1.0), 1)
    assert "'y' is not an active parameter" in study.trials[0].error


def test_suggest_reads_a_given_space():
    study = new()
    study.optimize(lambda p: p.suggest_float("x", 0.0, 1.0) - p["x"], 3)
    assert [t.value for t in study.trials] == [0.0] * 3


def test_bounds_give_an_array():
    study = wt.minimize(lambda x: float(x @ x), [(-1, 1), (-2.0, 2.0)], 5, sampler="random", seed=0)
    assert study.best.value == pytest.approx(sum(v**2 for v in study.best.params.values()))


# files


def test_checkpoints_survive_an_interrupted_attempt(path):
    steps = []

    def objective(trial):
        file = trial.checkpoint / "epoch"
        epoch = int(file.read_text()) if file.exists() else 0
        while epoch < 4:
            epoch += 1
            steps.append((trial.number, epoch))
            file.write_text(str(epoch))
            if (trial.number, epoch) == (1, 2) and len(steps) == 6:
                raise KeyboardInterrupt
        return value(trial)

    with pytest.raises(KeyboardInterrupt):
        new(storage=path).optimize(objective, 3)
    study = new(storage=path)
    study.optimize(objective, 3)
    assert steps == [(n, e) for n in range(3) for e in range(1, 5)]
    assert [t.attempts for t in study.trials] == [1, 1, 1]  # an interrupt is no attempt at which a worker died


def test_an_objective_may_change_the_folder(tmp_path, monkeypatch):
    """Neither the file, nor its leases, nor the checkpoints depend on the folder that the process is in."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    seen = []

    def objective(trial):
        os.chdir(there)
        seen.append(trial.checkpoint)
        time.sleep(0.5)  # longer than the pause after which the lease is renewed, by a thread of its own
        return trial["x"]

    for options in ({"storage": "study.db", "lease": 0.6}, {"storage": None, "checkpoints": "kept"}):
        os.chdir(here)
        wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0, **options).optimize(objective, n_trials=1, progress=False)
    assert list(there.iterdir()) == []
    assert [path.parents[2] for path in seen] == [here, here]


def test_checkpoints_of_studies_are_apart(path, tmp_path):
    folders = {wt.Study(SPACE, storage=path, name=name, seed=0).ask().checkpoint for name in ("a", "b")}
    folders.add(new(checkpoints=tmp_path / "here").ask().checkpoint)
    assert len(folders) == 3 and all(f.is_dir() for f in folders)
    with pytest.raises(wt.InvalidValue, match="checkpoint"):
        _ = new().ask().checkpoint


def test_the_files_of_a_trial_are_found_afterwards(path, tmp_path):
    def objective(trial):
        (trial.checkpoint / "model.txt").write_text(str(trial.number))
        return trial["x"]

    for options in ({"storage": path}, {"checkpoints": tmp_path / "here"}):
        study = new(**options)
        study.optimize(objective, 4)
        best = study.best
        assert (study.checkpoint(best) / "model.txt").read_text() == str(best.number)
        assert study.checkpoint(best.number) == study.checkpoint(best)
    with pytest.raises(wt.InvalidValue, match="there is no trial 9; the study has 4"):
        study.checkpoint(9)
    with pytest.raises(wt.InvalidType, match=r"'best' is neither a trial nor its number$"):
        study.checkpoint("best")
    alone = new()
    alone.optimize(value, 1)
    with pytest.raises(wt.InvalidValue, match=r"no checkpoint folder; .* checkpoints=folder"):
        alone.checkpoint(0)


def test_an_objective_is_called_once_more_with_the_best_parameters(tmp_path):
    def objective(trial):
        kind = trial.suggest_categorical("kind", ["flat", "round"])
        trial.report(0.0, step=1)
        assert not trial.should_stop()
        trial.note(seen=1)
        return trial.suggest_float("x", 0, 1) + (trial.suggest_int("n", 1, 3) if kind == "flat" else 0)

    study = wt.Study(seed=0, scheduler="median")
    study.optimize(objective, n_trials=8)
    again = wt.LiveTrial.fixed(study.best)
    assert objective(again) == study.best.value
    assert (again.number, again.params, again.attributes) == (study.best.number, study.best_params, {"seen": 1})
    assert objective(wt.LiveTrial.fixed({"kind": "flat", "x": 0.5, "n": 2})) == 2.5
    with pytest.raises(wt.InvalidValue, match="'n' is not an active parameter here"):
        objective(wt.LiveTrial.fixed({"kind": "flat", "x": 0.5}))
    assert wt.LiveTrial.fixed({}, checkpoint=tmp_path / "new").checkpoint.is_dir()
    with pytest.raises(wt.InvalidType, match=r"fixed: 0.5 is neither .* study.best"):
        wt.LiveTrial.fixed(0.5)
    with pytest.raises(wt.InvalidValue, match=r"belongs to no study; other results go to study\.add"):
        study.tell(again, 0.5)
    assert study.best.user_attrs == {"seen": 1}


def test_a_stored_study_needs_no_space(path):
    whole = new()
    whole.optimize(value, 8)
    new(storage=path, name="mine").optimize(value, 4)
    study = wt.Study(storage=path, name="mine", sampler="random")
    assert study.space == wt.Space.parse(SPACE)
    assert (study.seed, len(study.trials)) == (0, 4)
    study.optimize(value, 8)
    assert params(study) == params(whole)


def test_a_study_without_space_has_none_yet(path):
    with pytest.raises(wt.InvalidValue, match="no space yet"):
        _ = wt.Study(storage=path).space


def test_another_seed_or_direction_is_refused(path):
    new(storage=path).optimize(value, 2)
    with pytest.raises(wt.InvalidValue, match="seed=0, not 1"):
        new(storage=path, seed=1)
    with pytest.raises(wt.InvalidValue, match="direction="):
        new(storage=path, direction="maximize")
    with pytest.raises(wt.InvalidValue, match="direction="):
        wt.Study(storage=path, direction="maximize")
    assert len(new(storage=path, seed=None).trials) == 2


def test_studies_of_one_file_are_apart(path):
    new(storage=path, name="a").optimize(value, 3)
    new(storage=path, name="b", direction="maximize", seed=5).optimize(value, 2)
    assert [
        len(wt.Study(storage=path, name=n, direction=d).trials) for n, d in (("a", "minimize"), ("b", "maximize"))
    ] == [3, 2]


# several studies on one storage


def test_two_studies_share_the_budget_exactly(path):
    studies = [new(storage=path) for _ in range(2)]
    threads = [threading.Thread(target=s.optimize, args=(lambda p: time.sleep(0.002) or value(p), 60)) for s in studies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trials = studies[0].trials
    assert trials == studies[1].trials
    assert [t.number for t in trials] == list(range(60))
    assert all(t.state is State.COMPLETE and t.attempts == 1 for t in trials)
    assert len({t.key for t in trials}) == 60


def test_two_studies_in_turn(path):
    one, two = new(storage=path, n_trials=5), new(storage=path, n_trials=5)
    asked = [one.ask(), two.ask(), one.ask(), two.ask(), one.ask()]
    assert [t.number for t in asked] == [0, 1, 2, 3, 4]
    assert len({one.space.key(t.params) for t in asked}) == 5
    for study in (one, two):
        with pytest.raises(wt.StudyStopped):
            study.ask()


def test_a_lease_that_ran_out_is_taken_over(path):
    """The trial of a process that shows no sign of life is given to another; the late result is refused."""
    store = SQLiteStorage(path)
    late, other = new(storage=path), new(storage=path)
    trial = late.ask()
    store.claim(1, "nobody", 60.0)  # number 1, so that the file is seen to be the same
    store.renew(1, [(trial.number, trial.task.token)], -1.0)
    again = other.ask()
    assert (again.number, again.params) == (trial.number, trial.params)
    with pytest.raises(wt.LeaseLost):
        late.tell(trial, 1.0)
    assert other.tell(again, 2.0).value == 2.0
    store.close()


def test_leases_of_live_studies_are_renewed(path):
    """A trial may take much longer than its lease."""
    study, other = new(storage=path, lease=1.0), new(storage=path)
    trial = study.ask()
    until = other.trials[0].lease_until
    while time.time() < until:  # a machine that is busy may renew late, but not by most of a lease
        time.sleep(0.05)
    assert other.ask().number == 1
    assert study.tell(trial, 1.0).attempts == 1


DIES = """
import os, sys, welltuned as wt
wt.Study({"x": (0.0, 1.0)}, storage=sys.argv[1], seed=0, sampler="random").ask(3)
os._exit(1)
"""


def test_trials_of_a_dead_process_come_back_at_once(path):
    subprocess.run([sys.executable, "-c", DIES, path], check=False, timeout=60)
    study = wt.Study(storage=path, sampler="random")
    left = params(study)
    assert [t.state for t in study.trials] == [State.RUNNING] * 3
    study.optimize(lambda p: p["x"], 4)
    assert params(study)[:3] == left
    assert [t.attempts for t in study.trials] == [2, 2, 2, 1]


def test_a_stop_reaches_the_other_process(path):
    """A study that waits for its trials hears of a stop from elsewhere."""
    study, other = new(storage=path), new(storage=path)
    study.optimize(lambda p: other.stop("elsewhere") if p.number == 2 else 0.0, 50)
    assert (len(study.trials), study.stop_reason) == (3, "elsewhere")


def test_a_study_that_is_done_does_not_stop_one_that_is_not(path, tmp_path):
    """One finds no slot and leaves; the other one's last worker dies: its trial must be tried again all the same."""
    study, other = new(storage=path), new(storage=path)
    begun, left = tmp_path / "begun", tmp_path / "left"

    def objective(p):
        if p.number == 3:
            begun.touch()
            while not left.exists():
                time.sleep(0.01)
            os._exit(1)
        return value(p)

    def leave():
        while not begun.exists():
            time.sleep(0.01)
        other.optimize(value, 4)
        left.touch()

    thread = threading.Thread(target=leave, daemon=True)
    thread.start()
    study.optimize(objective, 4, workers=2)
    thread.join()
    assert all(t.state.finished for t in study.trials)


def test_minimize_and_maximize():
    low = wt.minimize(value, SPACE, 6, sampler="random", seed=0)
    high = wt.maximize(lambda p: -value(p), SPACE, 6, sampler="random", seed=0)
    assert low.best.params == high.best.params
    assert low.best_value == -high.best_value
    with pytest.raises(wt.InvalidType, match="n_jobs"):
        wt.minimize(value, SPACE, 6, n_jobs=2)


def test_another_experiment_needs_another_name(path):
    new(storage=path).optimize(value, 2)
    with pytest.raises(wt.InvalidValue, match="name="):
        wt.Study({"depth": (1, 9)}, storage=path)
    assert len(wt.Study(storage=path).trials) == 2


def test_best_is_in_the_current_space():
    study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0)
    study.optimize(lambda p: p["x"], 10)
    study.space = {"x": (0.5, 1.0)}
    study.optimize(lambda p: p["x"], 15)
    assert study.best.params["x"] >= 0.5


def test_enqueued_trials_use_the_budget():
    study = wt.Study({"x": (0.0, 1.0)}, seed=0)
    study.enqueue([{"x": i / 10} for i in range(6)])
    study.optimize(lambda p: p["x"], 3)
    assert [t.state for t in study.trials] == [State.COMPLETE] * 3 + [State.WAITING] * 3


def test_choices_stored_by_position_are_warned_of(path, caplog):
    wt.Study({"f": [lambda x: x, lambda x: -x]}, storage=path)
    assert "order" in caplog.text


def test_a_constraint_that_fails_is_named():
    def both(p):
        return p["m"] < 0.5

    space = wt.Space({"k": ["a", "b"], "m": wt.Float(0, 1, when={"k": "a"})}, constraints=[both])
    with pytest.raises(wt.InvalidValue, match="both raised KeyError"):
        wt.Study(space, seed=0).ask(8)


def test_a_study_without_a_space_can_be_shown():
    assert repr(wt.Study()) == "Study('study', no parameters, 0 trials finished)"


def test_a_process_that_takes_over_its_own_trial_records_it_once(path):
    """It was stopped for longer than a lease, so that its claim ran out, and claimed the trial again."""
    storage = wt.storage.SQLiteStorage(path)
    study = new(storage=storage, lease=600.0)
    stopped = []

    def stop_for_long(p):
        if p.number == 1 and not stopped:
            stopped.append(p.number)
            with storage._write(1) as writing:
                writing.run("UPDATE trial SET lease_until = 1.0 WHERE number = 1")
            assert [t.number for t in study._ledger.claim(1)] == [1]
        return value(p)

    study.optimize(stop_for_long, 4)
    assert [t.number for t in study.trials if t.state is State.COMPLETE] == [0, 2, 3]
    study.optimize(value, 4)
    assert [(t.number, t.state) for t in study.trials] == [(i, State.COMPLETE) for i in range(4)]


def test_looking_at_a_study_changes_nothing(path):
    """A space that is read from the storage lacks its constraints; that is no new version of it."""
    space = wt.Space({"x": (0.0, 1.0), "y": (0.0, 1.0)}, constraints=[lambda p: p["x"] <= p["y"]])
    study = wt.Study(space, storage=path, sampler="random", seed=0)
    study.optimize(lambda t: t["x"], n_trials=2, progress=False)
    before = study._ledger.storage.studies()
    assert len(wt.Study(storage=path).trials) == 2
    assert study._ledger.storage.studies() == before


# objectives that declare their parameters where they use them


@pytest.mark.parametrize("sampler", ["auto", "grid", "random", "tpe", "bayes"])
@pytest.mark.parametrize("how", ["complete", "failed", "pruned"])
def test_define_by_run_ends_when_all_is_tried(sampler, how):
    """A proposal for parameters that the objective does not ask for would be the same trial again."""

    def by_branch(trial):
        trial.suggest_int("constant", 5, 5)
        if trial.suggest_categorical("model", ["linear", "deep"]) == "linear":
            if how == "failed":
                raise ArithmeticError
            if how == "pruned":
                raise wt.Pruned
            return 1.0
        return 1 / trial.suggest_int("depth", 1, 3)

    study = wt.Study(seed=0, sampler=sampler)
    study.optimize(by_branch, n_trials=30)
    assert study.stop_reason.startswith("space exhausted")
    tried = sorted(tuple(v for k, v in t.params.items() if k != "constant") for t in study.trials)
    assert tried == [("deep", 1), ("deep", 2), ("deep", 3), ("linear",)]


def test_ranges_that_depend_on_other_parameters_are_united():
    """Forty trials find the optimum; with the last range alone the space seemed exhausted, and 10 the best."""

    def triangle(trial):
        a = trial.suggest_int("a", 2, 10)
        return (a - 7) ** 2 + (trial.suggest_int("b", 1, a) - 5) ** 2

    study = wt.Study(seed=0)
    study.optimize(triangle, n_trials=40)
    assert len(study.trials) == 40 and study.best_value == 0.0
    assert study.space["b"].low == 1 and study.space["b"].high >= 7
    assert study.history.fits.all()


def test_a_default_of_none_is_tried_first_and_kept(tmp_path):
    space = {"x": wt.Float(0, 1), "penalty": wt.Categorical(["l1", None, "l2"], default=None)}
    at = str(tmp_path / "study.db")
    for n in (1, 2):
        study = wt.Study(space, seed=0, storage=at)
        study.optimize(lambda t: t["x"] + (t["penalty"] == "l2"), n_trials=n)
        assert study.trials[0].params == {"x": 0.5, "penalty": None}
    [stored] = study.coordinator.ledger.row.spaces
    assert wt.Study(storage=at).space == study.space and stored["parameters"]["penalty"]["default"] is None


def test_choices_that_are_added_where_they_are_used_stay():
    study = wt.Study(seed=0, sampler="random")
    for choices in (["a", "b"], ["b", "c"], ["a"]):
        trial = study.ask()
        trial.suggest_categorical("kind", choices)
        study.tell(trial, 1.0)
    assert study.space["kind"].choices == ("a", "b", "c")


@pytest.mark.parametrize(("low", "high", "said"), [(2, 5, 1), (0, 9, 0)], ids=["clash", "united"])
def test_one_name_for_two_kinds_of_parameters_is_warned_of(low, high, said, caplog):
    """A search passed over half of its trials, the best one among them, without a word."""

    def objective(trial):
        if trial.suggest_categorical("kind", ["a", "b"]) == "a" and said:
            return trial.suggest_float("p", 0.0, 1.0)
        return trial.suggest_int("p", low + trial.number % 2, high)

    study = wt.Study(seed=0, sampler="random")
    study.optimize(objective, n_trials=12)
    assert len([r for r in caplog.records if "give them names of their own" in r.getMessage()]) == said


def test_choices_that_are_arrays_stay_beside_a_parameter_that_is_new(caplog):
    """Whether two declarations clash was asked by comparing them, and arrays made anew have no truth."""

    def objective(trial):
        weights = trial.suggest_categorical("weights", [np.zeros(2), np.ones(2)])
        return float(weights.sum()) + trial.suggest_float(f"x{trial.number}", 0.0, 1.0)

    study = wt.Study(seed=0, sampler="random")
    study.optimize(objective, n_trials=4)
    assert [t.state for t in study.trials] == [State.COMPLETE] * 4
    assert "names of their own" not in caplog.text


def test_what_was_enqueued_is_used_or_fails(caplog):
    """It was replaced by a random value before, without a word."""
    study = wt.Study(seed=0, sampler="random")
    study.enqueue([{"lr": 5.0}, {"lr": 0.01, "typo": 3}])
    study.optimize(lambda trial: trial.suggest_float("lr", 1e-4, 1e-1, log=True), 2)
    first, second = study.trials
    assert first.state is State.FAILED and "enqueued with lr=5.0" in first.error and "0.1" in first.error
    assert second.value == 0.01 and "typo" in caplog.text


# what may end a study


def test_a_target_is_reached_by_what_may_be_the_best():
    """Neither by a trial that violates a constraint, nor by one that was pruned."""
    study = wt.Study({"x": (0.0, 1.0)}, seed=0, sampler="random")

    def violating(trial):
        trial.constrain("c", 1.0)
        return trial["x"]

    study.optimize(violating, 10, stop=wt.Target(0.5))
    assert len(study.trials) == 10

    def pruned(trial):
        trial.report(0.1, step=0)
        raise wt.Pruned

    study = wt.Study({"x": (0.0, 1.0)}, seed=0, sampler="random")
    study.optimize(pruned, 10, stop=wt.Target(0.5))
    assert len(study.trials) == 10


def test_patience_counts_what_may_be_the_best():
    study = wt.Study({"x": (0.0, 1.0)}, seed=0, sampler="random")

    def improving(trial):
        trial.constrain("c", 1.0 if trial.number == 0 else -1.0)
        return -1000.0 if trial.number == 0 else 100.0 - trial.number

    study.optimize(improving, 20, stop=wt.Patience(5))
    assert len(study.trials) == 20


def test_a_noisy_study_of_a_finite_space_needs_an_end():
    study = wt.Study({"k": ["a", "b", "c"]}, noisy=True, seed=0, sampler="random")
    with pytest.raises(wt.InvalidValue, match="nothing would end the search"):
        study.optimize(lambda trial: 1.0)


# a space that changes


@pytest.mark.parametrize("noisy", [False, True])
def test_what_a_newer_space_forbids_is_neither_best_nor_proposed_again(noisy):
    rng = np.random.default_rng(0)
    study = wt.Study({"x": (0.0, 1.0)}, noisy=noisy, seed=0)
    study.optimize(lambda t: (t["x"] - 0.9) ** 2 + 0.01 * rng.normal(), 12)
    study.add({"x": 0.1}, 0.64)
    study.space = wt.Space({"x": (0.0, 1.0)}, constraints=[lambda p: p["x"] <= 0.5])
    assert study.best.params["x"] <= 0.5
    study.optimize(lambda t: (t["x"] - 0.9) ** 2 + 0.01 * rng.normal(), 24)
    assert all(t.params["x"] <= 0.5 for t in study.trials[13:])
    assert study.best.params["x"] <= 0.5 and study.recommend().params["x"] <= 0.5


def test_why_there_is_no_best():
    study = wt.Study({"x": (0.0, 1.0)}, seed=0)
    study.add([({"x": i / 8}, 1.0) for i in range(8)])
    study.space = {"x": (5.0, 6.0)}
    for call in (lambda: study.best, study.recommend):
        with pytest.raises(wt.NoCompletedTrial, match="none of 8 completed trials is a configuration of the space"):
            call()


def test_results_from_elsewhere_use_none_of_the_budget():
    study = wt.Study({"x": (0.0, 1.0)}, seed=0, n_trials=12)
    study.add([({"x": i / 9}, 1.0) for i in range(9)])
    study.tell(study.ask(), 1.0)
    assert study.history.spent == 1 and len(study.history) == 10


# what is not used is said


def test_options_that_a_search_does_not_use_are_named(caplog):
    earlier = wt.Study({"other": (0.0, 1.0)}, seed=0)
    wt.Study({"x": (0.0, 1.0)}, sampler="tpe", optimize_per="second", prior=earlier)
    for words in ("optimize_per=", "prior=", "['other']"):
        assert words in caplog.text


def test_a_pruned_or_failed_trial_has_no_value_to_tell():
    study = wt.Study({"x": (0.0, 1.0)}, seed=0)
    with pytest.raises(wt.InvalidValue, match=r"value=0\.4"):
        study.tell(study.ask(), 0.4, state="pruned")
    with pytest.raises(wt.InvalidType, match="neither a trial"):
        study.tell([1], 0.4)


def test_times_are_any_real_numbers(path):
    """What comes out of NumPy is a number of seconds like another one."""
    for number in (np.int64(600), np.float32(600.0), Fraction(1200, 2), 600):
        study = new(storage=path, name=str(type(number)).translate(str.maketrans("<'>.", "____")), lease=number)
        study.optimize(value, n_trials=1, timeout=number, progress=False)
        assert len(study.trials) == 1


@pytest.mark.parametrize("storage", [None, "study.db"])
def test_steps_have_64_bits(storage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trial = new(storage=storage).ask()
    for step in (2**63, -(2**63) - 1, 10**400):
        with pytest.raises(wt.InvalidValue, match=f"step={step}"):
            trial.report(1.0, step=step)
    trial.report(1.0, step=2**63 - 1)
    trial.report(1.0, step=-(2**63))


@pytest.mark.parametrize("storage", [None, "study.db"])
def test_a_trial_says_that_it_cannot_be_pickled(storage, tmp_path, monkeypatch):
    """What reports to a study of this process cannot leave it; its parameters can, and so can one without a study."""
    monkeypatch.chdir(tmp_path)
    study = new(storage=storage)
    trial = study.ask()
    for leave in (pickle.dumps, cloudpickle.dumps, copy.deepcopy):
        with pytest.raises(wt.InvalidType, match=r"trial 0 .*trial\.params"):
            leave(trial)
    assert pickle.loads(pickle.dumps(trial.params)) == dict(trial)
    assert copy.copy(trial).params == trial.params
    alone = LiveTrial(Task(3, 1, {"x": 0.5}))
    assert pickle.loads(pickle.dumps(alone)).params == {"x": 0.5}
    study.tell(copy.copy(trial), 0.5)


def test_a_trial_in_a_worker_can_be_pickled():
    """Where the way back can travel, the trial can too."""
    trial = LiveTrial(Task(3, 1, {"x": 0.5}), lambda task, report: report.step > 1)
    again = pickle.loads(cloudpickle.dumps(trial))
    again.report(1.0, step=2)
    assert again.should_stop()


def test_a_study_says_that_it_cannot_be_pickled():
    with pytest.raises(wt.InvalidType, match=r"storage=.*name='mine'"):
        pickle.dumps(wt.Study({"x": (0.0, 1.0)}, name="mine"))


def test_a_range_of_one_value_is_that_value():
    """As ranges that depend on other parameters have it; it cannot be searched, and is recorded."""

    def nested(trial):
        layers = trial.suggest_int("layers", 1, 3)
        return layers + trial.suggest_int("heads", 1, layers) + trial.suggest_float("x", 0.5, 0.5)

    study = wt.Study(seed=0)
    study.optimize(nested, n_trials=12)
    assert all(t.state is State.COMPLETE and t.params["x"] == 0.5 for t in study.trials)
    assert study.best_value == 2.5 and study.history.fits.all()
    with pytest.raises(wt.InvalidValue, match="not an active parameter"):
        wt.Study({"x": (0.0, 1.0)}).ask().suggest_int("n", 1, 1)


def test_a_study_has_notes_of_its_own(tmp_path):
    """Of two who write at once neither loses anything, and what belongs to the study itself stays as it is."""
    path = str(tmp_path / "study.db")
    one, other = (wt.Study({"x": (0.0, 1.0)}, storage=path, n_trials=3, scheduler="median", seed=0) for _ in range(2))
    assert one.notes == {}
    one.note(data="v3", size=np.int64(7), scheduler="mine", self="me")
    other.set_user_attr("commit", "3f2a")
    other.note(data="v4")
    assert one.notes == one.user_attrs == {"data": "v4", "size": 7, "scheduler": "mine", "self": "me", "commit": "3f2a"}
    again = wt.Study(storage=path)
    assert (again.notes, again.scheduler) == (one.notes, wt.Median())
    assert "Notes: data = v4, size = 7, " in summary(Subject.of(again))


def test_to_frame_holds_what_was_noted():
    study = wt.Study({"x": (0.0, 1.0)}, seed=0)

    def objective(trial):
        trial.note(epochs=7)
        trial.constrain("latency", -1.0)
        trial.report(1.0, step=0)
        return trial["x"]

    study.optimize(objective, 2)
    frame = study.to_frame()
    assert list(frame["attribute_epochs"]) == [7, 7] and list(frame["constraint_latency"]) == [-1.0, -1.0]
    assert list(frame["reports"]) == [1, 1]


def test_to_frame_has_times_that_pandas_knows():
    study = wt.Study({"x": (0.0, 1.0)}, seed=0, n_trials=4)
    study.optimize(lambda trial: trial["x"] if trial.number else 1 / 0, 2)
    study.n_trials = 4
    study.tell(study.ask(), 1.0)
    study.ask()
    study.enqueue({"x": 0.5})
    frame = study.to_frame()
    assert str(frame["started"].dt.tz) == "UTC"
    assert list(frame["started"].isna()) == [False] * 4 + [True]
    for t in study.trials[:2]:
        assert frame["started"][t.number].timestamp() == pytest.approx(t.started, abs=1e-5)
    waiting = wt.Study({"x": (0.0, 1.0)}, seed=0)
    assert len(waiting.to_frame()) == 0
    waiting.enqueue({"x": 0.5})
    assert str(waiting.to_frame()["started"].dt.tz) == "UTC"


def lacking(caplog, directions, reported, **options):
    """Return what is said of reports that lack objectives."""

    def objective(trial):
        for step in range(3):
            trial.report(reported, step)
        return dict.fromkeys(directions, trial["x"])

    study = wt.Study({"x": (0.0, 1.0)}, direction=directions, sampler="random", seed=0, **options)
    study.optimize(objective, n_trials=3)
    return [r.getMessage() for r in caplog.records if "lack" in r.getMessage()]


@pytest.mark.parametrize(
    ("names", "reported", "words"),
    [
        (("loss", "speed", "size"), {"loss": 1.0}, "['size', 'speed'], as in trial 0"),
        (("loss",), {"lss": 1.0}, "['loss']"),
        (("loss", "speed"), 1.0, "['loss', 'speed']"),
    ],
)
def test_reports_that_no_scheduler_can_judge_are_said_once(caplog, names, reported, words):
    said = lacking(caplog, dict.fromkeys(names, "minimize"), reported, scheduler="median")
    assert len(said) == 1 and words in said[0]


@pytest.mark.parametrize("reported", [1.0, {"loss": 1.0, "more": 2.0}, {"loss": float("nan")}])
def test_reports_that_can_be_judged_are_not_remarked(caplog, reported):
    assert lacking(caplog, {"loss": "minimize"}, reported, scheduler="median") == []
    assert lacking(caplog, {"loss": "minimize"}, {"other": 1.0}) == []


def test_several_metrics_of_an_objective_without_a_name(caplog):
    (said,) = lacking(caplog, {"value": "minimize"}, {"loss": 1.0, "accuracy": 0.5}, scheduler="median")
    assert said.endswith("; name the objective, direction={'loss': 'minimize'} or 'maximize'")


def test_who_asks_with_a_lease_may_end_before_the_results_come(tmp_path, caplog):
    file, space = str(tmp_path / "lab.db"), {"x": (0.0, 1.0)}
    asks = f"import welltuned as wt; print(len(wt.Study({space!r}, storage={file!r}, seed=0).ask(3, lease=3600)))"
    for _ in range(2):  # as from a program that is started each day
        assert subprocess.run([sys.executable, "-c", asks], capture_output=True, check=True).stdout.split() == [b"3"]
    study = wt.Study(space, storage=file)
    assert [t.state for t in study.trials] == [wt.State.RUNNING] * 6
    assert study.ask().number == 6
    for number in (4, 0, 2):
        assert study.tell(number, 0.5).attempts == 1
    with pytest.raises(wt.LeaseLost):
        study.tell(4, 0.1)
    assert "trial 4 is over already, or" in caplog.text


def test_a_lease_of_what_was_asked_for_is_its_own(tmp_path):
    study = wt.Study({"x": (0.0, 1.0)}, storage=tmp_path / "lab.db", seed=0, lease=0.15)
    other = wt.Study({"x": (0.0, 1.0)}, storage=tmp_path / "lab.db")
    long, short, own = study.ask(lease=60), study.ask(lease=0.1), study.ask()
    time.sleep(0.5)  # in which the claims of the process are renewed, which last shorter
    assert other.ask().number == short.number
    assert {study.tell(trial, 1.0).number for trial in (long, own)} == {long.number, own.number}
    with pytest.raises(wt.LeaseLost):
        study.tell(short, 1.0)


def test_a_forked_process_may_end_before_the_results_come_too(tmp_path):
    study = wt.Study({"x": (0.0, 1.0)}, storage=tmp_path / "lab.db", seed=0)
    mine = study.ask()
    if not (pid := os.fork()):
        try:
            study.ask(lease=3600)
            study.ask()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert wt.Study(storage=tmp_path / "lab.db").ask().number == 2  # whose process has ended, by whose own name it was
    assert [trial.attempts for trial in study.trials] == [1, 1, 2]
    study.tell(mine, 1.0)


def test_other_threads_ask_by_the_name_of_their_process_meanwhile():
    study = wt.Study({"x": (0.0, 1.0)}, seed=0)

    def meanwhile():
        other = threading.Thread(target=study.ask)
        other.start()
        other.join()

    study._ledger.claiming(meanwhile, nobody=True)
    assert study.trials[0].owner == study._ledger.owner


def test_renewing_does_not_shorten_what_was_entrusted_meanwhile(monkeypatch):
    study = wt.Study({"x": (0.0, 1.0)}, seed=0)
    ledger, renew = study._ledger, study._ledger.storage.renew
    reading, goes_on = threading.Event(), threading.Event()

    def renewed(study, claims, lease):
        if lease == ledger.lease:
            reading.set()
            goes_on.wait()
        return renew(study, claims, lease)

    monkeypatch.setattr(ledger.storage, "renew", renewed)
    number = study.ask().number
    threads = [threading.Thread(target=ledger.renew), threading.Thread(target=ledger.entrust, args=([number], 3600.0))]
    threads[0].start()
    reading.wait()
    threads[1].start()
    threads[1].join(0.2)
    goes_on.set()
    for thread in threads:
        thread.join()
    assert study.trials[0].lease_until > time.time() + 3000


def test_what_cannot_be_entrusted_is_given_back(monkeypatch):
    study = wt.Study({"x": (0.0, 1.0)}, seed=0)

    def full(*args):
        raise wt.StorageError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(study._ledger.storage, "renew", full)
        with pytest.raises(wt.StorageError):
            study.ask(2, lease=3600)
    assert not study._ledger.claims
    assert [trial.number for trial in study.ask(2)] == [0, 1]


def test_a_lease_of_what_was_asked_for_is_checked():
    with pytest.raises(wt.InvalidValue, match="ask: lease=0"):
        wt.Study({"x": (0.0, 1.0)}).ask(lease=0)
    with pytest.raises(wt.InvalidValue, match=r"ask: lease=60\.0 needs a study with a space"):
        wt.Study().ask(2, lease=60)


def test_a_line_of_progress_is_seldom_written_where_all_are_kept(capsys, monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as a kernel of Jupyter's does
    with Progress("net", 400, enabled=True) as progress:
        for done in range(401):
            now = done / 100  # 100 trials a second, for four seconds
            progress.update(lambda done=done: (done, ""))
    lines = capsys.readouterr().err
    assert "400/400" in lines and "200/400" in lines
    assert 5 <= lines.count("net") <= 8


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("no")])
def test_the_last_line_of_a_run_that_was_cut_short_is_what_came_of_it(error, capsys, monkeypatch):
    def ends(p):
        if p["x"] == 0.5:
            raise error
        return p["x"]

    study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0)
    study.enqueue([{"x": 0.1}, {"x": 0.2}, {"x": 0.3}, {"x": 0.5}])
    monkeypatch.setattr("welltuned.study.progress.time", SimpleNamespace(monotonic=lambda: 0.0))
    with pytest.raises(type(error)):
        study.optimize(ends, n_trials=4, progress=True, catch=())
    assert f"{3 + isinstance(error, ValueError)}/4" in capsys.readouterr().err


def test_what_cannot_be_looked_at_in_the_end_hides_no_interrupt():
    def look():
        raise wt.StorageError("the disk is gone")

    with pytest.raises(KeyboardInterrupt), Progress("gone", 3, True) as progress:
        progress.update(lambda: (1, ""))
        progress.update(look)
        raise KeyboardInterrupt


def test_a_result_that_lacks_a_named_objective_is_not_told_to_name_another(caplog):
    study = wt.Study({"x": (0.0, 1.0)}, direction={"accuracy": "maximize", "latency": "minimize"})
    study.optimize(lambda trial: {"accuracy": 0.9, "speed": 2.0}, n_trials=1)
    assert study.trials[0].error.endswith("lack ['latency']; return what the study has as objectives, too")
    study = wt.Study({"x": (0.0, 1.0)}, direction={"value": "minimize", "latency": "minimize"})
    study.optimize(lambda trial: {"latency": 0.9}, n_trials=1)
    assert study.trials[0].error.endswith("lack ['value']; return what the study has as objectives, too")
    study = wt.Study({"x": (0.0, 1.0)})
    study.optimize(lambda trial: {"accuracy": 0.9}, n_trials=1)
    assert study.trials[0].error.endswith("; name the objective, direction={'accuracy': 'minimize'} or 'maximize'")


@pytest.mark.parametrize(("scheduler", "steps"), [("median", 1), (None, 20)])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_training_that_diverged_is_stopped_where_there_is_a_scheduler(scheduler, steps, workers):
    def diverging(trial):
        for step in range(20):
            trial.note(steps=step + 1)
            trial.report(float("nan"), step=step)
            if trial.should_stop():
                break
        return 1.0

    study = wt.Study({"x": (0.0, 1.0)}, seed=0, scheduler=scheduler)
    study.optimize(diverging, 2, workers=workers)
    assert [(t.attributes["steps"], t.reports) for t in study.trials] == [(steps, ())] * 2
    assert [t.reason for t in study.trials] == [wt.Reason.NAN if scheduler else None] * 2


@pytest.mark.parametrize("asked", [False, True])
def test_what_diverged_after_good_reports_has_failed(asked):
    """As a pruned trial, its last finite report would be the best result of all."""

    def diverging(trial):
        for step, loss in enumerate((0.1, 0.05, float("nan"), 0.0)):
            trial.report({"value": loss, "rate": 0.1}, step=step)
            if trial.should_stop():
                trial.prune()
        return 1.0

    study = wt.Study({"x": (0.0, 1.0)}, seed=0, scheduler="median")
    if asked:
        trial = study.ask()
        with pytest.raises(wt.Pruned):
            diverging(trial)
        study.tell(trial, state="pruned")
    else:
        study.optimize(diverging, 1)
    record = study.trials[0]
    assert (record.state, record.reason) == (State.FAILED, wt.Reason.NAN) and "step 2" in record.error
    assert study.history.failed.all() and not study.history.observed.any()
    assert [r.metrics.get("value") for r in record.reports] == [0.1, 0.05, None]


def test_an_objective_with_the_name_of_a_column_keeps_its_values():
    study = wt.Study({"x": (0.0, 1.0)}, direction={"error": "minimize"}, sampler="random", seed=0)
    study.optimize(lambda t: {"error": t["x"]}, 2)
    frame = study.to_frame()
    assert list(frame["metrics_error"]) == list(frame["params_x"]) and frame["error"].isna().all()


def test_one_call_takes_every_option_of_optimize():
    more = {"workers": 2, "deterministic": True, "retries": {"error": 1}}
    assert len(wt.minimize(lambda t: t["x"], {"x": (0.0, 1.0)}, 4, **more, seed=0).trials) == 4
    assert len(wt.minimize(lambda ts: [t["x"] for t in ts], {"x": (0.0, 1.0)}, 4, batch=2, seed=0).trials) == 4


def test_replay_says_what_it_cannot_derive_after_a_change_of_the_space():
    def space(high):
        return wt.Space({"x": (0.0, high)}, constraints=[lambda p: p["x"] < 0.5])

    study = wt.Study(space(1.0), seed=1, sampler="random")
    study.optimize(lambda t: t["x"], 4)
    assert len(study.replay().checked) == 4
    study.space = space(2.0)
    study.optimize(lambda t: t["x"], 6)
    found = study.replay()
    assert found and found.checked == (4, 5)
    assert all("held code" in found.skipped[n] for n in range(4))


def test_an_exception_may_be_told():
    study = wt.Study({"x": (0.0, 1.0)}, seed=0)
    assert study.tell(study.ask(), state="failed", error=OSError("disk full")).error == "OSError: disk full"
    with pytest.raises(wt.InvalidType, match="neither a text nor an exception"):
        study.tell(study.ask(), state="failed", error=3)


def test_declared_choices_that_a_file_cannot_hold_stay_the_same(tmp_path):
    """The file has their labels; each resumption took these for further choices."""
    choices = [(64,), (64, 64), np.tanh]

    def objective(trial):
        return len(str(trial.suggest_categorical("layers", choices)))

    for n in (3, 6, 9):
        study = wt.Study(storage=tmp_path / "s.db", seed=0, sampler="random", noisy=True)
        study.optimize(objective, n)
        assert list(study.space["layers"].choices) == choices
    assert study.history.fits.all() and len(study.trials) == 9
    labels = wt.Study(storage=tmp_path / "s.db").space["layers"].labels
    assert len(labels) == 3


def test_replay_after_a_change_of_a_space_of_arrays():
    """Comparing arrays with their labels raised an error."""
    arrays = wt.Categorical([np.zeros(2), np.ones(2)])
    study = wt.Study({"a": arrays, "x": (0.0, 1.0)}, seed=0, sampler="random")
    study.optimize(lambda t: t["x"], 3)
    study.space = {"a": arrays, "x": (0.0, 2.0)}
    study.optimize(lambda t: t["x"], 5)
    assert study.replay()


def test_one_value_that_is_none_is_refused():
    trial = wt.Study(seed=0).ask()
    for low in (2.5, "5", True):
        with pytest.raises(wt.InvalidType, match="whole number"):
            trial.suggest_int("n", low, low)
    study = wt.Study(seed=0)
    study.enqueue({"c": 7})
    study.optimize(lambda t: t.suggest_int("c", 5, 5), 1)
    assert "enqueued with c=7" in study.trials[0].error


# what programs of other tuners do


def two(x, y):
    return x + y


def named(f):
    """Pass the parameters by name, as scikit-optimize's decorator does: the signature it shows is that of ``f``."""

    @functools.wraps(f)
    def wrapper(trial):
        return f(**trial)

    return wrapper


@pytest.mark.parametrize(
    ("objective", "write"),
    [
        (two, r"two\(x, y\) .* write lambda trial: two\(\*\*trial\)"),
        (lambda x, y: x + y, r"write lambda trial: f\(\*\*trial\)"),
        (lambda: 1.0, r"write def f\(trial\)"),
        (lambda **params: 1.0, r"write lambda trial: f\(\*\*trial\)"),
        (lambda trial, X, labels=0, *, seed: 1.0, r"write lambda trial: f\(trial, X, seed=seed\)"),
    ],
)
def test_an_objective_that_takes_no_trial_is_refused_before_one_is_spent(objective, write):
    study = wt.Study({"x": (0.0, 1.0), "y": (0.0, 1.0)}, seed=0)
    with pytest.raises(wt.InvalidType, match=write):
        study.optimize(objective, 3)
    assert study.trials == ()


async def waiting(trial):
    return trial["x"]


class Waits:
    async def __call__(self, trial):
        return trial["x"]


def stepwise(trial):
    yield trial["x"]


@pytest.mark.parametrize(
    ("objective", "write"),
    [
        (waiting, r"waiting is an async function, .* write lambda trial: asyncio\.run\(waiting\(trial\)\)"),
        (functools.partial(waiting), "f is an async function"),
        (Waits(), "f is an async function"),
        (stepwise, "stepwise has a 'yield' in it, .* write return"),
    ],
)
def test_an_objective_that_returns_no_value_is_refused_before_a_trial_is_spent(objective, write):
    """Ten trials failed, with a coroutine in the place of a value, before the run ended."""
    study = wt.Study({"x": (0.0, 1.0)}, seed=0)
    with pytest.raises(wt.InvalidType, match=write):
        study.optimize(objective, 12)
    assert study.trials == ()


@pytest.mark.parametrize("objective", [named(two), lambda trial, more=1: 1.0, lambda *trials: 1.0, len])
def test_an_objective_that_can_be_called_with_a_trial_is_taken(objective):
    study = wt.Study({"x": (0.0, 1.0), "y": (0.0, 1.0)}, seed=0)
    study.optimize(objective, 2)
    assert [t.state for t in study.trials] == [State.COMPLETE] * 2


@pytest.mark.parametrize("given", [[0.25, 3], (0.25, 3.0), np.array([0.25, 3.0])], ids=["list", "tuple", "array"])
def test_with_bounds_alone_a_configuration_may_be_numbers_in_their_order(given):
    study = wt.Study([(0, 1), (0, 5)], seed=0)
    assert study.enqueue(given) == [0]
    assert study.enqueue([given, [0.5, 0.5]]) == [0, 1]
    assert study.add(given, 7.0).numbers == (2,)
    assert study.add([(given, 8.0), ([0.75, 1.0], 9.0)]).numbers == (3, 4)
    found = [tuple(t.params.values()) for t in study.trials]
    assert found == [(0.25, 3.0), (0.5, 0.5), (0.25, 3.0), (0.25, 3.0), (0.75, 1.0)]
    assert [t.value for t in study.trials[2:]] == [7.0, 8.0, 9.0]
    with pytest.raises(wt.InvalidValue, match="has 1 numbers for the 2 parameters"):
        study.enqueue([0.25])


@pytest.mark.parametrize("space", [[(0, 1), (0, 5)], {"x": (0.0, 1.0)}], ids=["bounds", "names"])
@pytest.mark.parametrize("nothing", [[], (), np.empty((0, 2))], ids=["list", "tuple", "array"])
def test_a_list_of_no_configurations_is_none(space, nothing):
    study = wt.Study(space, seed=0)
    assert study.enqueue(nothing) == []
    assert study.add(nothing).numbers == ()


def test_a_value_beside_a_list_of_results_is_refused():
    """It was passed over, and so were the results."""
    study = wt.Study({"x": (0.0, 1.0)}, seed=0)
    with pytest.raises(wt.InvalidType, match=r"add: value=\[1.0, 2.0\] beside .* pairs alone"):
        study.add([{"x": 0.1}, {"x": 0.2}], [1.0, 2.0])
    with pytest.raises(wt.InvalidType, match=r"\[0.5\] is not a dict of parameters"):
        study.space.validate([0.5])


def test_what_was_not_asked_for_cannot_be_told():
    with pytest.raises(wt.InvalidType, match=r"tell: {'x': 0.5} is neither a trial nor its number; .* study.add"):
        new().tell({"x": 0.5}, 1.0)


@pytest.mark.parametrize(
    ("resources", "write"),
    [({"cpu": 2, "gpu": 0.5}, "not 'cpu'; leave it out, they share the cores"), ({"tpu": 1}, "'dask' or 'ray'")],
)
def test_resources_that_a_machine_does_not_share_out(resources, write):
    with pytest.raises(wt.InvalidValue, match=write):
        new().optimize(value, 2, resources=resources)


@pytest.mark.parametrize(
    ("option", "write"),
    [
        ({"max_evals": 9}, "'max_evals'; write n_trials="),
        ({"random_state": 0}, "'random_state'; write seed="),
        ({"x0": [0.0]}, r"'x0'; write study.enqueue\(…\)"),
        ({"nonsense": 0}, r"'nonsense'; known are .*'n_trials'.*'sampler'.*'seed'"),
    ],
)
def test_a_word_of_another_tuner_says_what_it_is_here(option, write):
    for call in (functools.partial(wt.minimize, lambda x: x[0], n_trials=3), wt.Study):
        with pytest.raises(wt.InvalidType, match=write):
            call(space=[(0, 1)], **option)


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("trials_dataframe", r"study\.to_frame\(\)"),
        ("add_trial", r"study\.add\(params, value\)"),
        ("report", r"wt\.report\.write_report\(study, "),
        ("direction", r"study\.directions"),
    ],
)
def test_an_attribute_of_another_tuners_study_says_what_to_write(name, instead):
    study = new()
    with pytest.raises(AttributeError, match=f"^'Study' object has no attribute '{name}'; write {instead}"):
        getattr(study, name)
    assert not hasattr(study, name)


def test_other_attributes_that_are_not_there_fail_as_ever(monkeypatch):
    study = new()
    with pytest.raises(AttributeError, match=r"^'Study' object has no attribute 'nonsense'$"):
        _ = study.nonsense
    monkeypatch.setattr(wt.Study, "space", property(lambda _: [].nonsense))
    with pytest.raises(AttributeError, match=r"^'list' object has no attribute 'nonsense'$"):
        _ = study.space  # of what a property does, the error stays
    with pytest.raises(AttributeError, match=r"^module 'welltuned' has no attribute 'create_study'; write wt\.Study\("):
        _ = wt.create_study


def test_an_argument_of_another_call_says_of_which():
    with pytest.raises(wt.InvalidType, match=r"^Study: unknown argument 'n_jobs'; write workers= of optimize$"):
        new(n_jobs=2)
    with pytest.raises(wt.InvalidType, match=r"^optimize: unknown argument 'n_jobs'; write workers=$"):
        new().optimize(value, 2, n_jobs=2)
    with pytest.raises(wt.InvalidType, match=r"^optimize: unknown argument 'random_state'; write seed= of Study$"):
        new().optimize(value, 2, random_state=0)
    with pytest.raises(wt.InvalidType, match=r"^minimize: unknown argument 'directions'; write direction= of Study$"):
        wt.minimize(value, {"x": (0, 1)}, 2, directions=["maximize"])
    assert list(inspect.signature(wt.Study).parameters)[:3] == ["space", "direction", "sampler"]


def test_asking_beyond_the_budget_says_how_to_go_on():
    study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0)
    study.optimize(lambda t: t["x"], n_trials=3)
    with pytest.raises(wt.StudyStopped, match="budget of 3 trials is used up; a larger n_trials allows more"):
        study.ask()
    study.n_trials = 6
    assert study.ask().number == 3


class Threads:
    """Draws at random, and notes with how many threads linear algebra would be done meanwhile."""

    model_based, several_objectives = True, True

    def __init__(self):
        self.seen = []

    def suggest(self, space, history, n, rng):
        self.seen += blas_threads()
        return wt.Random().suggest(space, history, n, rng)


def blas_threads():
    return [library.get_num_threads() for library in ThreadpoolController().select(user_api="blas").lib_controllers]


def test_suggestions_take_one_thread_and_leave_objectives_theirs():
    if not blas_threads():
        pytest.skip("no library of linear algebra whose threads can be told")
    sampler, evaluating = Threads(), []

    def objective(trial):
        evaluating.extend(blas_threads())
        return trial["x"]

    with threadpool_limits(2, user_api="blas"):
        study = wt.Study({"x": (0.0, 1.0)}, sampler=sampler, seed=0)
        study.optimize(objective, n_trials=2)
    assert set(sampler.seen) == {1} and set(evaluating) == {2}
