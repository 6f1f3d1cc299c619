"""Studies that are interrupted, shared and looked at in the middle of things."""

import contextlib
import os
import signal
import sqlite3
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import welltuned as wt
from interrupts import interrupted_at, places
from servers import empty_postgres
from welltuned.errors import StorageError
from welltuned.executors import Job, ProcessExecutor, tree
from welltuned.history import Table
from welltuned.live import Task
from welltuned.storage import MemoryStorage, SQLiteStorage, open_storage
from welltuned.study import ledger
from welltuned.trial import Origin, Reason, State

SPACE = {"x": (0.0, 1.0)}


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "study.db")


@pytest.fixture(params=["memory", "sqlite"])
def storage(request, path):
    return MemoryStorage() if request.param == "memory" else SQLiteStorage(path)


def new(storage, **options):
    return wt.Study(SPACE, storage=storage, **{"sampler": "random", "seed": 0, **options})


def x(trial):
    return trial["x"]


def broken(method, at, error):
    """Return ``method``, which raises in its place at its call number ``at``."""
    calls = [0]

    def wrapper(*args, **options):
        calls[0] += 1
        if calls[0] == at:
            raise error
        return method(*args, **options)

    return wrapper


@pytest.mark.parametrize("options", [{}, {"sampler": "bayes"}, {"executor": "batch"}, {"deterministic": True}])
def test_an_interrupt_goes_on_where_nothing_can_be_stored(path, options):
    """The error of a storage that was away took its place, and a program that ends by Ctrl-C did not know it."""
    study, file = new(path, sampler=options.get("sampler", "random")), Path(path)

    def objective(trial):
        if isinstance(trial, list):
            return [objective(t) for t in trial]
        if trial.number == 2:
            file.rename(file.with_suffix(".away"))
            raise KeyboardInterrupt
        return trial["x"]

    how = {name: value for name, value in options.items() if name != "sampler"}
    with pytest.raises(KeyboardInterrupt):
        study.optimize(objective, n_trials=6, **how)
    file.with_suffix(".away").rename(file)
    study.optimize(x, n_trials=6)
    assert [t.state for t in study.trials] == [State.COMPLETE] * 6


@pytest.mark.parametrize("error", [StorageError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize(("method", "at"), [("finish", 40), ("claim", 4), ("assign", 40)])
def test_what_was_stored_together_and_undone_is_not_lost_track_of(path, method, at, error, monkeypatch):
    """Trials of no time are stored by the dozen; where that fails, all of them are tried again."""
    study = new(path)
    store = study._ledger.storage
    with monkeypatch.context() as patch:
        patch.setattr(store, method, broken(getattr(store, method), at, error))
        with pytest.raises(type(error)):
            study.optimize(x, n_trials=120)
    assert not [t for t in study.trials if t.state is State.RUNNING]
    study.optimize(x, n_trials=120)
    assert [t.state for t in study.trials] == [State.COMPLETE] * 120
    twin = new(None)
    twin.optimize(x, n_trials=120)
    assert [t.params for t in twin.trials] == [t.params for t in study.trials]


def test_a_block_that_can_be_left_only_once_hides_no_error(monkeypatch):
    store, lock = MemoryStorage(), threading.Lock()
    study = new(store)
    monkeypatch.setattr(store, "together", lambda _: lock)
    monkeypatch.setattr(store, "finish", broken(store.finish, 40, StorageError("disk full")))
    with pytest.raises(StorageError, match="disk full"):
        study.optimize(x, n_trials=100)
    assert not lock.locked()


def test_a_claim_that_was_lost_track_of_is_taken_back(path):
    study = new(path)
    study.ask()
    study._ledger.claims.clear()  # as an interrupt right after the claim was stored would
    study.optimize(x, n_trials=3)
    assert [t.state for t in study.trials] == [State.COMPLETE] * 3


@pytest.mark.parametrize("options", [{}, {"workers": 2}, {"deterministic": True}, {"sampler": "bayes"}])
def test_an_interrupt_right_after_a_claim_was_stored_leaves_nothing_running(storage, options, monkeypatch):
    study = new(storage, sampler=options.get("sampler", "random"))
    how = {name: value for name, value in options.items() if name != "sampler"}
    claim, calls = study._ledger.storage.claim, []

    def interrupted(*args):
        claimed = claim(*args)
        calls.append(len(claimed))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return claimed

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(study._ledger.storage, "claim", interrupted)
        study.optimize(x, n_trials=90, **how)
    states = [t.state for t in study.trials]
    assert states[-1] is State.WAITING and State.RUNNING not in states
    assert study.stop_reason == "interrupted"
    assert not any(t.attempts for t in study.trials if t.state is State.WAITING)
    study.optimize(x, n_trials=len(states))
    assert [t.state for t in study.trials] == [State.COMPLETE] * len(states)


@pytest.mark.parametrize("block", ["_at_once", "together"])
def test_an_interrupt_between_entering_a_block_and_what_is_in_it_leaves_it(path, block):
    """Whoever kept the traceback, as notebooks do, kept a transaction open, and what was stored next was undone."""

    def trace(frame, event, argument):
        if frame.f_code.co_name != "__enter__" or not frame.f_code.co_filename.endswith("contextlib.py"):
            return trace if event == "call" else None
        entered = getattr(frame.f_locals["self"], "gen", None)
        if event == "return" and entered is not None and entered.__name__ == block and done() > 20:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    def done():
        return sum(t.state is State.COMPLETE for t in study.trials)

    study, before = new(path), sys.gettrace()
    with pytest.raises(KeyboardInterrupt) as kept:
        try:
            sys.settrace(trace)
            study.optimize(x, n_trials=500)
        finally:
            sys.settrace(before)
    assert kept.value.__traceback__ is not None and study.stop_reason == "interrupted"
    n = len(study.trials)
    assert 20 < n < 500 and not [t for t in study.trials if t.state is State.RUNNING]
    study.optimize(x, n_trials=n + 3)
    assert [t.state for t in wt.Study(storage=path).trials] == [State.COMPLETE] * (n + 3)


def test_an_interrupt_while_results_are_read_loses_none(path, monkeypatch):
    mine, other = new(path), new(path)
    other.optimize(x, n_trials=5)
    with monkeypatch.context() as patch:
        patch.setattr(mine._ledger, "_view", broken(mine._ledger._view, 4, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            _ = mine.best
    assert mine.trials == other.trials and mine.best == other.best


def test_a_fork_leaves_the_claims_to_its_parent(path, monkeypatch):
    study = new(path)
    trial = study.ask()
    monkeypatch.setattr("welltuned.study.ledger.os.getpid", lambda: -1)
    study.optimize(x, n_trials=3)
    monkeypatch.undo()
    assert [t.state for t in study.trials] == [State.RUNNING, State.COMPLETE, State.COMPLETE]
    assert study._ledger.storage.finish(study._ledger.row.id, 0, trial.task.token, wt.trial.Outcome(State.PRUNED))


# one loop, and what was asked for beside it


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("stay", [False, True])
def test_a_loop_leaves_what_was_asked_for_alone(storage, workers, stay):
    study = new(storage)
    trial = study.ask()
    study.optimize(x, n_trials=4, workers=workers, stay=stay)
    assert [t.state for t in study.trials] == [State.RUNNING, *[State.COMPLETE] * 3]
    assert study.tell(trial, 0.5).value == 0.5


def test_a_study_object_runs_one_loop_at_a_time():
    study = new(None)
    seen = []

    def beside():
        with pytest.raises(wt.InvalidValue, match="being optimized"):
            study.optimize(x, n_trials=9)
        seen.append(True)

    def again(study, record):
        with pytest.raises(wt.InvalidValue, match="being optimized"):
            study.optimize(x, n_trials=9)
        thread = threading.Thread(target=beside)
        thread.start()
        thread.join()

    study.optimize(x, n_trials=2, callbacks=[again])
    assert len(seen) == 2 and len(study.trials) == 2
    study.optimize(x, n_trials=3)
    assert len(study.trials) == 3


def test_asking_after_a_deterministic_run():
    study = new(None, sampler="qmc")
    study.optimize(x, n_trials=4, deterministic=True)
    study.n_trials = None
    assert [study.ask().number for _ in range(3)] == [4, 5, 6]


def test_a_trial_is_told_to_the_study_that_it_was_asked_of(path):
    a, b = new(path, name="a"), new(path, name="b")
    mine, other = a.ask(), b.ask()
    with pytest.raises(wt.InvalidValue, match="asked of study 'a', not of 'b'"):
        b.tell(mine, 0.1)
    with pytest.raises(wt.InvalidValue, match="asked of another study 'a'"):
        new(None, name="a").tell(mine, 0.1)
    assert a.tell(mine, 0.1).value == 0.1 and b.tell(other, 0.2).value == 0.2
    again = new(path, name="a")
    third = a.ask()
    assert again.tell(third, 0.3).value == 0.3


def test_says_which_trials_use_up_the_budget():
    study = new(None, n_trials=2)
    study.ask(2)
    with pytest.raises(wt.StudyStopped, match=r"not told yet, or evaluated elsewhere: \[0, 1\]"):
        study.ask()


# who comes first


def test_who_only_looks_does_not_say_what_a_study_is(storage):
    watching = wt.Study(storage=storage, name="net")
    study = new(storage, name="net", seed=7, direction={"score": "maximize"}, noisy=True, sampler="qmc")
    study.optimize(x, n_trials=3)
    assert [t.state for t in study.trials] == [State.COMPLETE] * 3
    assert watching.best == study.best
    assert (watching.directions, watching.seed) == ({"score": "maximize"}, 7)
    assert watching.space == study.space and not watching.coordinator.open_space
    assert watching._ledger.wishes.noisy
    with pytest.raises(wt.InvalidValue, match="seed=7"):
        new(storage, name="net", seed=8, direction={"score": "maximize"})


def test_what_was_said_of_a_study_before_it_was_made_is_kept(storage):
    """Its checksum was that of a study which nobody had stopped, and the file seemed to be damaged."""
    watching = wt.Study(storage=storage, name="net")
    watching.stop("enough")
    watching._ledger.storage.update(watching._ledger.row.id, attributes={"mine": 1})
    study = new(storage, name="net", noisy=True)
    assert study.stop_reason == "enough"
    assert study._ledger.row.attributes == {"open": False, "noisy": True, "mine": 1}
    study.optimize(x, n_trials=3)
    assert [t.state for t in study.trials] == [State.COMPLETE] * 3


def test_a_name_that_nobody_has_is_worth_a_word(storage, caplog):
    new(storage, name="net")
    wt.Study(storage=storage, name="nett")
    assert "study 'nett' has no space yet" in caplog.text and "'net'" in caplog.text
    caplog.clear()
    wt.Study(storage=storage, name="net")
    new(storage, name="other")
    assert not caplog.text


def test_a_study_keeps_its_sampler_unless_another_is_given(storage):
    new(storage, sampler=wt.TPE(initial=7))
    assert wt.Study(SPACE, storage=storage).sampler == wt.TPE(initial=7)
    assert wt.Study(SPACE, storage=storage, sampler="random").sampler == wt.Random()
    assert isinstance(wt.Study(SPACE, storage=storage, name="fresh").sampler, wt.Auto)


def test_objectives_in_another_order_are_refused(storage):
    """An objective that returns a tuple would have its values stored under the wrong names."""
    new(storage, direction={"loss": "minimize", "time": "minimize"})
    with pytest.raises(wt.InvalidValue, match="same order"):
        new(storage, direction={"time": "minimize", "loss": "minimize"})


@pytest.mark.parametrize("noisy", [False, True])
def test_the_same_program_may_enqueue_twice(storage, noisy):
    for _ in range(3):
        study = new(storage, noisy=noisy)
        numbers = study.enqueue([{"x": 0.5}, {"x": 0.25}])
        study.optimize(x, n_trials=4)
    assert noisy or numbers == [0, 1]
    assert sum(t.origin is Origin.ENQUEUED for t in study.trials) == (6 if noisy else 2)


def test_what_is_enqueued_twice_at_once_is_one_trial():
    assert new(None).enqueue([{"x": 0.5}, {"x": 0.25}, {"x": 0.5}]) == [0, 1, 0]


def test_what_was_evaluated_before_the_space_grew_is_not_enqueued_again():
    study = new(None)
    study.enqueue({"x": 0.5})
    study.optimize(x, n_trials=3)
    study.space = {"x": (0.0, 1.0), "decay": wt.Float(0.0, 0.1, default=0.0)}
    assert study.enqueue([{"x": 0.5, "decay": 0.0}, {"x": 0.5, "decay": 0.1}]) == [0, 3]


def test_what_waits_outside_the_space_is_not_what_is_enqueued(path):
    wt.Study({**SPACE, "y": (0.0, 1.0)}, storage=path, seed=0).enqueue({"x": 0.5, "y": 0.5})
    study = new(path)
    assert study.enqueue({"x": 0.5}) == [1]
    study.optimize(x, n_trials=2)
    assert study.trials[1].value == 0.5


def test_what_is_asked_for_again_is_evaluated_again():
    assert [new(None).enqueue([{"x": 0.5}] * 2, again=again) for again in (False, True)] == [[0, 0], [0, 1]]


def test_thousands_are_enqueued_at_once():
    study = new(None)
    assert study.enqueue([{"x": i / 4000} for i in range(4000)] * 2) == [*range(4000)] * 2


def test_an_objective_that_declares_its_parameters_may_enqueue_twice(path):
    """It names some of them; the others are in the record too."""
    for _ in range(3):
        study = wt.Study(storage=path, seed=0, sampler="random")
        assert study.enqueue({"x": 0.5}) == [0]
        study.optimize(lambda t: t.suggest_float("x", 0, 1) + t.suggest_int("n", 1, 9), n_trials=5)
    assert len(study.trials) == 5


def test_what_failed_may_be_enqueued_again():
    study = new(None)
    study.enqueue({"x": 0.5})
    study.optimize(lambda trial: 1 / 0, n_trials=1)
    assert study.enqueue({"x": 0.5}) == [1]


# what others do meanwhile


def test_a_timeout_is_that_of_one_call(path):
    slow, quick = new(path), new(path)
    trial = slow.ask()
    quick.optimize(x, timeout=0.2)
    assert quick.stop_reason is None
    slow.tell(trial, 0.1)
    quick.optimize(x, timeout=0.1)
    assert quick.stop_reason.startswith("timeout")
    slow.optimize(x, n_trials=len(slow.trials) + 3, callbacks=[lambda *_: quick.coordinator.record_stop("interrupted")])
    assert slow.stop_reason.startswith("budget")


@pytest.mark.parametrize("reason", ["enough", "interrupted by me", "timeout: of the project", "no trial works"])
def test_a_stop_by_hand_ends_the_work_of_all_whatever_it_says(path, reason):
    mine, other = new(path), new(path)
    mine.optimize(x, n_trials=30, callbacks=[lambda _, t: other.stop(reason) if t.number == 2 else None])
    assert len(mine.trials) == 3 and mine.stop_reason == reason
    other.optimize(x, n_trials=5)
    assert len(mine.trials) == 5


def test_an_objective_that_is_broken_here_may_work_elsewhere(path):
    broken, sound = new(path), new(path)
    trial = sound.ask()
    broken.optimize(lambda t: t["y"], n_trials=60)
    assert len(sound.trials) < 60 and sound.stop_reason is None
    sound.tell(trial, 0.5)
    sound.optimize(x, n_trials=60)
    assert len(sound.trials) == 60


def test_what_waits_is_not_evaluated_outside_the_space(path):
    first = wt.Study({"x": (0.0, 1.0), "k": ["a", "b"]}, storage=path, seed=0, sampler="random")
    first.enqueue([{"x": 0.9, "k": "a"}, {"x": 0.4, "k": "b"}, {"x": 0.3, "k": "a"}])
    asked = first.ask(4)
    for trial in asked:
        first._ledger.release(trial.number)
    study = wt.Study({"x": (0.0, 0.5), "k": ["a", "c"]}, storage=path, seed=0, sampler="random")
    study.optimize(lambda t: t["x"], n_trials=5)
    states = [(t.state, t.reason) for t in study.trials[:3]]
    assert states == [(State.FAILED, Reason.INFEASIBLE)] * 2 + [(State.COMPLETE, None)]
    assert "no longer in the space" in study.trials[0].error and "0.9" in study.trials[0].error
    rest = study.trials[3:]
    assert all(t.state is State.COMPLETE and t.params["x"] <= 0.5 and t.params["k"] in "ac" for t in rest)


def test_processes_unite_what_their_objectives_declare(storage):
    """Each knew its own branch alone, and the last one to write took the other's parameters out."""
    studies = [wt.Study(storage=storage, seed=0, sampler="random") for _ in range(3)]
    for i, study in enumerate(studies):
        trial = study.ask()
        kind = trial.suggest_categorical("kind", ["lin", "deep", "tree"][: i + 1])
        study.tell(trial, trial.suggest_float(f"{kind}{i}", i, i + 1.0))
    for study in [*studies, wt.Study(storage=storage)]:
        assert len(study.trials) == 3 and len(study.space) == 4
        assert study.space["kind"].choices == ("lin", "deep", "tree")
        assert study.history.fits.all()


def test_what_others_stored_while_a_trial_was_told_is_read(path):
    """Reading within a change that was undone counted as read what came after it."""
    mine, other = (wt.Study(storage=path, seed=0, sampler="random") for _ in range(2))
    for _ in range(3):
        here, there = mine.ask(), other.ask()
        mine.tell(here, here.suggest_float("x", 0, 1))
        other.tell(there, there.suggest_float("x", 0, 1))
    assert [t.state for t in mine.trials] == [State.COMPLETE] * 6 == [t.state for t in other.trials]


@pytest.mark.parametrize("method", ["row", "update"])
@pytest.mark.parametrize("error", [StorageError("disk full"), KeyboardInterrupt()])
def test_a_space_that_could_not_be_stored_is_stored_with_the_next_trial(path, method, error, monkeypatch):
    study = wt.Study(storage=path, seed=0, sampler="random")
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    with monkeypatch.context() as patch:
        patch.setattr(study._ledger.storage, method, broken(getattr(study._ledger.storage, method), 1, error))
        with pytest.raises(type(error)):
            study.tell(trial, 0.5)
    study.tell(trial, 0.5)
    again = wt.Study(storage=path)
    assert list(again.space) == ["x"] and again.best.value == 0.5


def test_a_damaged_study_is_no_obstacle_to_another_one(path):
    import sqlite3

    new(path, name="one")
    new(path, name="two").optimize(x, n_trials=2)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE study SET attributes = '{}' WHERE name = 'one'")
    db.close()
    assert len(wt.Study(storage=path, name="two").trials) == 2
    wt.Study(storage=path, name="three")


# a space that grows


def cost(trial):
    return (trial["x"] - 0.3) ** 2 + trial.get("decay", 0.0)


@pytest.mark.parametrize("sampler", ["bayes", "tpe", "random"])
def test_earlier_trials_have_the_default_of_what_is_new(storage, sampler, caplog):
    new(storage, sampler=sampler).optimize(cost, n_trials=12)
    wider = {"x": (0.0, 1.0), "decay": wt.Float(0.0, 0.1, default=0.0), "more": wt.Int(1, 5, default=2)}
    study = wt.Study(wider, storage=storage, sampler=sampler, seed=0)
    assert study.history.observed.all() and study.best.number < 12
    assert study.recommend().params.keys() == wider.keys()
    known = {**study.trials[3].params, "decay": 0.0, "more": 2}
    assert study.space.key(known) in study.history.keys
    study.optimize(cost, n_trials=20)
    assert study.history.observed.all() and study.best.value < 0.05
    assert len({study.space.key(study.space.filled(t.params)) for t in study.trials}) == 20
    assert study.replay() and not caplog.text


def test_a_sampled_trial_that_waits_while_the_space_grows_is_replayed(path):
    first = new(path)
    for trial in first.ask(3):
        first._ledger.release(trial.number)
    study = wt.Study({**SPACE, "decay": wt.Float(0.0, 0.1, default=0.05)}, storage=path, seed=0, sampler="random")
    study.optimize(x, n_trials=3)
    assert [t.params["decay"] for t in study.trials] == [0.05] * 3
    assert all(t.provenance for t in study.trials)


def test_a_default_that_could_not_be_stored_leaves_no_claim(path, monkeypatch):
    new(path).enqueue({"x": 0.25})
    study = wt.Study({**SPACE, "decay": wt.Float(0.0, 0.1, default=0.05)}, storage=path, seed=0)
    store = study._ledger.storage
    with monkeypatch.context() as patch:
        patch.setattr(store, "assign", broken(store.assign, 1, StorageError("disk full")))
        with pytest.raises(StorageError):
            study.ask()
    assert not study._ledger.claims and study.ask().number == 0


def test_what_waits_gets_the_default_of_what_is_new(path):
    new(path).enqueue({"x": 0.25})
    study = wt.Study({"x": (0.0, 1.0), "decay": wt.Float(0.0, 0.1, default=0.05)}, storage=path, seed=0)
    study.optimize(lambda t: t["x"] + t["decay"], n_trials=1)
    assert study.best.value == pytest.approx(0.3) and study.best.params == {"x": 0.25, "decay": 0.05}


def test_conditions_decide_what_is_filled(path):
    first = wt.Study({"k": ["a", "b"], "x": (0.0, 1.0)}, storage=path, seed=0, sampler="random")
    first.optimize(x, n_trials=10)
    wider = {
        "k": ["a", "b"],
        "x": (0.0, 1.0),
        "deep": wt.Int(1, 9, default=3, when={"k": "b"}),
        "deeper": wt.Int(1, 9, default=4, when={"deep": [3, 5]}),
    }
    study = wt.Study(wider, storage=path, seed=0)
    assert study.history.fits.all()
    at = [study.space.column[name] for name in ("deep", "deeper")]
    assert [[not np.isnan(u) for u in row] for row in study.history.unit[:, at]] == [
        [t.params["k"] == "b"] * 2 for t in study.trials
    ]


def test_results_that_do_not_count_any_more_are_worth_a_word(caplog):
    study = new(None)
    study.space = {"x": (0.0, 1.0), "decay": (0.0, 0.1)}
    study.space = {"x": (0.0, 1.0)}
    study.optimize(x, n_trials=3)
    study.space = {"x": (-1.0, 1.0), "k": wt.Categorical(["a", "b"], default="a")}
    assert not caplog.text
    study.space = {"x": (-1.0, 1.0), "decay": (0.0, 0.1)}
    assert "3 of 3 results are not in the new space" in caplog.text and "default=" in caplog.text
    with pytest.raises(wt.NoCompletedTrial):
        _ = study.best
    with pytest.raises(wt.InvalidValue, match="another name"):
        study.space = {"z": (0.0, 1.0)}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_objective_that_never_works_does_not_use_up_the_budget(path, workers, caplog):
    study = new(path)
    study.optimize(lambda t: t["y"], n_trials=99, workers=workers)
    assert 10 <= len(study.trials) < 50  # trials of no time are stored by the dozen
    assert "'y' is not an active parameter" in study.stop_reason and "failed in the same way" in study.stop_reason
    assert [r.levelname for r in caplog.records if "no trial has succeeded" in r.message] == ["ERROR"]
    study.optimize(x, n_trials=50, workers=workers)
    assert len(study.trials) == 50 and study.best.state is State.COMPLETE
    # failures of their own kind, or after a success, are what a search learns from
    other = new(None)
    other.optimize(lambda t: 1 / 0 if t.number else 1.0, n_trials=30)
    assert len(other.trials) == 30


@pytest.mark.parametrize(
    "objective",
    [lambda t: [t["x"], 2.0, 3.0], lambda t: t.suggest_float("y", 0.0, 1.0), lambda t: f"{t['x']}"],
    ids=["scores", "suggest", "text"],
)
def test_an_objective_at_fault_is_given_up_whatever_numbers_its_errors_hold(objective):
    """The scores of folds in the place of their mean were an error of other words in each trial, up to the last one."""
    study = new(None)
    study.optimize(objective, n_trials=40)
    assert 10 <= len(study.trials) < 40 and "failed in the same way" in study.stop_reason


def test_faults_of_an_objective_with_any_name_are_alike():
    study = new(None, direction={"val-loss": "minimize"})
    study.optimize(lambda trial: {"val-loss": [trial["x"], 1.0]}, n_trials=40)
    assert 10 <= len(study.trials) < 40


def test_errors_of_a_users_own_words_are_not_alike():
    def objective(trial):
        raise ValueError(f"trial {trial.number}: no such place as {trial['x']}")

    study = new(None)
    study.optimize(objective, n_trials=12)
    assert len(study.trials) == 12


def test_a_trial_that_was_pruned_has_worked():
    def train(trial):
        if trial.number:
            raise ValueError("no")
        trial.prune()

    study = new(None)
    study.optimize(train, n_trials=40)
    assert len(study.trials) == 40


def test_checkpoints_are_those_of_one_study(tmp_path):
    """A study made anew found the files of the one before it, whose trials had other configurations."""
    folders = {new(None, checkpoints=tmp_path, seed=seed).ask().checkpoint for seed in (0, 1)}
    folders |= {new(tmp_path / f"{name}.db").ask().checkpoint for name in "ab"}
    assert len(folders) == 4
    again = new(tmp_path / "a.db")
    again._ledger.storage.release(1, 0, 1)
    assert again.ask().checkpoint in folders


@pytest.mark.parametrize("loop", [True, False])
def test_an_objective_may_change_what_it_is_given(loop):
    """A list that an objective appended to was another choice from then on, in all records."""

    def grow(trial):
        trial["layers"].append(1)
        trial["table"]["key"].append(2)
        trial["array"][0] = 7
        return sum(trial["layers"])

    choices = {"layers": [[64, 64], [128]], "table": [{"key": [1]}, {"key": []}], "array": [np.zeros(2), np.ones(2)]}
    study = wt.Study({**choices, "x": (0.0, 1.0)}, seed=0, sampler="random")
    if loop:
        study.optimize(grow, n_trials=8)
    else:
        for _ in range(8):
            trial = study.ask()
            study.tell(trial, grow(trial))
    assert list(study.space["layers"].choices) == [[64, 64], [128]]
    assert list(study.space["table"].choices) == [{"key": [1]}, {"key": []}]
    assert all(t.params["layers"] in ([64, 64], [128]) and 7 not in t.params["array"] for t in study.trials)


def test_a_choice_that_an_objective_declares_is_not_changed_by_it():
    choices = [[1, 1], [2]]

    def grow(trial):
        layers = trial.suggest_categorical("layers", choices)
        layers.append(9)
        return len(layers) + trial.suggest_float("x", 0, 1)

    study = wt.Study(seed=0, sampler="random")
    study.optimize(grow, n_trials=6)
    assert choices == [[1, 1], [2]] and list(study.space["layers"].choices) == choices
    assert all(t.params["layers"] in choices for t in study.trials)


def test_a_choice_that_cannot_be_copied_is_given_as_it_is():
    study = wt.Study({"c": [{"lock": threading.Lock()}, {"module": np}], "x": (0.0, 1.0)}, seed=0, sampler="random")
    study.optimize(x, n_trials=4)
    assert [t.state for t in study.trials] == [State.COMPLETE] * 4


def test_a_report_that_is_changed_stays_what_it_was_for_others(path):
    study = new(path)
    trial = study.ask()
    trial.report(0.5, step=1)
    study.trials[0].reports[0].metrics["value"] = 99.0
    assert wt.Study(storage=path).trials[0].reports[0].metrics == {"value": 0.5}


# at every place


EDGES = "contextlib.py"


def trials_by_hand(study):
    study.n_trials = 3
    while True:
        try:
            trial = study.ask()
        except wt.StudyStopped:
            return
        study.tell(trial, trial.suggest_float("y", 0.0, 1.0) if study.coordinator.open_space else trial["x"])


WAYS = {"optimize": (SPACE, lambda study: study.optimize(x, n_trials=3)), "by hand": (None, trials_by_hand)}


def check_that_all_goes_on(study, action):
    """Check that the interrupt left nothing that only this process could end, and that it ends what it has."""
    ledger = study._ledger
    held = {(number, token) for number, token, _ in ledger.storage.running(ledger.row.id)}
    asked = {(trial.number, trial.task.token) for trial in study.coordinator.asked.values()}
    assert held & set(ledger.claims.items()) <= asked
    ledger._recovered = -1e9  # it looks once a second
    for trial in list(study.coordinator.asked.values()):
        if (trial.number, trial.task.token) in held:
            study.tell(trial, 0.5)
    action(study)
    assert [t.state for t in study.trials] == [State.COMPLETE] * 3
    again = wt.Study(storage=ledger.storage)
    assert again.trials == study.trials and len(again.history.keys) == len(study.history.keys) == 3
    assert np.array_equal(again.history.unit, study.history.unit)


@pytest.mark.parametrize("way", WAYS)
def test_an_interrupt_at_the_edge_of_a_block_leaves_nothing_open(tmp_path, way):
    """Between entering it and what is in it, or between that and leaving it, for as long as a traceback is kept."""
    space, action = WAYS[way]
    study = wt.Study(space, storage=tmp_path / "0.db", sampler="random", seed=0)
    found = places(lambda: action(study), EDGES)
    found = [place for place in found if place[0][:2] in (("__enter__", "c_return"), ("__exit__", "call"))]
    assert len(found) > 20
    for i, place in enumerate(found, 1):
        path = tmp_path / f"{i}.db"
        study = wt.Study(space, storage=path, sampler="random", seed=0)
        kept = interrupted_at(place, lambda study=study: action(study), EDGES)
        assert not study.coordinator._alone.locked()
        with contextlib.closing(sqlite3.connect(path, timeout=0)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.rollback()
        check_that_all_goes_on(study, action)
        del kept
        study._ledger.close()


@pytest.mark.parametrize(("part", "space"), [("memory.py", SPACE), ("ledger.py", SPACE), ("history.py", None)])
def test_an_interrupt_amid_a_change_in_memory_leaves_no_half_of_it(part, space):
    """A trial was missing from a study's sets or from its arrays ever after, or from a budget."""

    def new():
        return wt.Study(space, storage=MemoryStorage(), sampler="random", seed=0)

    study = new()
    found = places(lambda: trials_by_hand(study), part)
    assert len(found) > 20
    for place in found:
        study = new()
        kept = interrupted_at(place, lambda study=study: trials_by_hand(study), part)
        check_that_all_goes_on(study, trials_by_hand)
        stored = study._ledger.storage._studies[0]
        assert not stored.running and not stored.waiting and [*stored.changed] == [0, 1, 2]
        del kept


@pytest.mark.parametrize("lease", [None, 3600.0])
def test_an_interrupt_while_trials_are_asked_for_leaves_none_to_nobody(lease):
    """Its claim was renewed for as long as the process lived, and nobody had the trial."""
    parts = "coordinator.py", "live.py", "study.py", "ledger.py"
    study = new(None)
    found = places(lambda: study.ask(2, lease=lease), *parts)
    for place in found:
        study = new(None)
        kept = interrupted_at(place, lambda study=study: study.ask(2, lease=lease), *parts)
        assert kept is not None
        stored = study._ledger.storage
        left = [stored._studies[0].trials[number] for number, *_ in stored.running(study._ledger.row.id)]
        # what was stored and not known here yet runs out by itself, or is given back at the next look
        assert not study._ledger.claims
        assert all(t.lease_until - t.started < 100 for t in left)


@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeoutError])
def test_an_interrupt_while_a_run_ends_leaves_nothing_running(error, monkeypatch):
    """Worker processes have seconds to end in; what was claimed by then was not given back."""
    study = new(None, sampler="qmc")
    calls = []

    def closed(executor):
        calls.append(1)
        if len(calls) == 1:
            raise error

    def stop(study, trial):
        study.coordinator._held = study.coordinator._take(1)[0]
        raise ZeroDivisionError

    with monkeypatch.context() as patch, pytest.raises(error):
        patch.setattr("welltuned.executors.inline.InlineExecutor.close", closed)
        study.optimize(x, n_trials=5, callbacks=[stop])
    assert not [t for t in study.trials if t.state is State.RUNNING]
    study.optimize(x, n_trials=5)
    assert [t.state for t in study.trials] == [State.COMPLETE] * 5


def test_an_interrupt_when_the_handler_is_put_back_leaves_the_next_one_heeded(monkeypatch):
    study, handler = new(None), signal.getsignal(signal.SIGINT)
    ours = []

    def interrupted(number):
        ours.append(number)
        if len(ours) == 2:
            raise KeyboardInterrupt
        return getsignal(number)

    getsignal = signal.getsignal
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(signal, "getsignal", interrupted)
        study.optimize(x, n_trials=1)

    def swallow(trial):
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return 0.0

    with pytest.raises(KeyboardInterrupt):
        study.optimize(swallow, n_trials=1)
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("error", [StorageError("disk full"), KeyboardInterrupt()])
def test_a_trial_that_went_on_and_is_told_again_keeps_what_it_had(error, monkeypatch):
    """What it had noted before it rested was forgotten when its result could not be stored at once."""
    study = new(None, scheduler=wt.Asha(factor=2))

    def told(trial):
        for step in range(len(trial.reports) + 1, 5):
            trial.report(trial["x"], step)
            if trial.should_stop():
                return study.tell(trial, state="pruned")
        return study.tell(trial, trial["x"])

    while not (trial := study.ask()).task.reports:
        trial.note(first=trial.number)
        told(trial)
    store = study._ledger.storage
    with monkeypatch.context() as patch, pytest.raises(type(error)):
        patch.setattr(store, "finish", broken(store.finish, 1, error))
        told(trial)
    study.tell(trial, 0.5)
    assert study.trials[trial.number].attributes["first"] == trial.number


def test_an_interrupt_at_the_edge_of_a_block_leaves_no_transaction_of_a_server_open():
    """All that was stored next was part of it, and gone with the connection."""
    url = empty_postgres()
    mine, other = open_storage(url), open_storage(url)
    study = new(mine, name="0")
    found = places(lambda: trials_by_hand(study), EDGES)
    found = [place for place in found if place[0][:2] in (("__enter__", "c_return"), ("__exit__", "call"))]
    assert len(found) > 10
    for i, place in enumerate(found, 1):
        study = new(mine, name=f"{i}")
        kept = interrupted_at(place, lambda study=study: trials_by_hand(study), EDGES)
        study.note(kept=i)
        assert wt.Study(storage=other, name=f"{i}").notes == {"kept": i}
        del kept
    mine.close()
    other.close()


def test_an_interrupt_while_a_worker_starts_leaves_no_process(path, monkeypatch):
    """It was nobody's, and evaluated a trial that had been given back."""
    study, start, begun = new(path), threading.Thread.start, []
    before = set(tree.descendants(os.getpid()))  # servers of other tests

    def interrupted(thread):
        start(thread)
        if thread.name == "welltuned-worker":
            begun.extend(set(tree.descendants(os.getpid())) - before)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt) as kept:
        patch.setattr(threading.Thread, "start", interrupted)
        study.optimize(x, n_trials=3, workers=2)
    assert begun and not [pid for pid in begun if tree.born(pid)]
    assert kept.value.__traceback__ is not None and study.trials[0].state is State.WAITING


def test_an_interrupt_wherever_a_worker_starts_leaves_no_process():
    """One that had not been told anything waited for it, for as long as the traceback was kept."""
    parts, task = ("processes.py", "connection.py"), Task(0, 0, {"x": 0.5})
    before = set(tree.descendants(os.getpid()))

    def started():
        return [pid for pid in tree.descendants(os.getpid()) if pid not in before and tree.born(pid)]

    executor = ProcessExecutor(Job(x, ("value",), lambda *_: False), 1)
    found = places(lambda: executor.submit(task), *parts)
    found = [place for place in found if place[0][0] in ("_start", "import_path", "__exit__")]
    assert len(started()) == 1 and len(found) > 8
    executor.close()
    for place in found:
        executor = ProcessExecutor(Job(x, ("value",), lambda *_: False), 1)
        kept = interrupted_at(place, lambda executor=executor: executor.submit(task), *parts)
        executor.close()
        assert kept is not None and not started()


def test_an_interrupt_while_a_wider_space_is_read_leaves_it_to_the_next_look():
    """The space was taken for known from then on, and trials were proposed from the one before, as of this one."""

    def grown():
        storage = MemoryStorage()
        mine, other = wt.Study(storage=storage, sampler="random"), wt.Study(storage=storage, sampler="random")
        other.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
        assert [*mine.history.space] == ["x"]
        other.optimize(lambda trial: trial.suggest_float("x", 0, 1) + trial.suggest_float("y", 0, 1), n_trials=2)
        return mine, other

    parts = "ledger.py", "space.py", "serialize.py"
    mine, _ = grown()
    found = places(lambda: mine.trials, *parts)
    assert len(found) > 20
    for place in found:
        mine, other = grown()
        assert interrupted_at(place, lambda mine=mine: mine.trials, *parts)
        assert mine.trials == other.trials and mine.history.space == mine.space == other.space


def test_ctrl_c_while_a_history_is_built_leaves_none_of_before():
    """What has changed is still to be shown at the next look."""
    study = wt.Study({"x": (0.0, 1.0)}, seed=0)
    study.optimize(lambda trial: trial["x"], n_trials=3)
    study.add({"x": 0.5}, -1.0)

    def interrupted(*_args, **_more):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "History", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _ = study.history
    assert study.best.number == 3


def test_ctrl_c_while_arrays_are_built_leaves_no_half_of_them():
    study = wt.Study({"x": (0.0, 1.0)}, seed=0)
    study.optimize(lambda trial: trial["x"], n_trials=4)
    put = Table.put

    def interrupted(table, trial):
        if trial.number == 2:
            raise KeyboardInterrupt
        put(table, trial)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Table, "put", interrupted)
        with pytest.raises(KeyboardInterrupt):
            study.space = {"x": (0.0, 2.0)}
    assert study.history.complete.tolist() == [True] * 4
