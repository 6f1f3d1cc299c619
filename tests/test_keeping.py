"""What a study keeps of its scheduler: who opens it again, in whatever way, goes on with the same one."""

import json
import logging
import sqlite3

import pytest
from click.testing import CliRunner

import welltuned as wt
from welltuned.cli.app import app
from welltuned.schedulers import SCHEDULERS, Continue, Stop, describe_scheduler, make_scheduler
from welltuned.server.desk import Desk
from welltuned.server.window import Window
from welltuned.storage import MemoryStorage, SQLiteStorage
from welltuned.study.coordinator import Coordinator
from welltuned.trial import State

SPACE = {"x": (0.0, 1.0)}
OBJECTIVE = """
space = {"x": (0.0, 1.0)}


def objective(trial):
    for step in range(1, 10):
        trial.report(trial["x"] / step, step=step)
        if trial.should_stop():
            trial.prune()
    return trial["x"]
"""


def train(trial):
    for step in range(1, 10):
        trial.report(trial["x"] / step, step=step)
        if trial.should_stop():
            trial.prune()
    return trial["x"]


class Impatient:
    """A user's own scheduler, which has a name of its own as well."""

    def __init__(self):
        self.name = "asha"

    def decide(self, history, number, report):
        return Stop("enough") if report.step == 2 else Continue()


@pytest.fixture(params=["memory", "sqlite"])
def storage(request, tmp_path):
    found = MemoryStorage() if request.param == "memory" else SQLiteStorage(tmp_path / "study.db")
    yield found
    found.close()


def new(storage, **options):
    return wt.Study(SPACE, storage=storage, name="n", sampler="random", seed=0, **options)


def ends(study):
    return [(t.state, len(t.reports)) for t in study.trials]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_descriptions_make_the_same_scheduler(name):
    """What a study stores of its scheduler is enough to make it again, as JSON."""
    for scheduler in (make_scheduler(name), wt.Race(alpha=0.2), wt.Hyperband(last=27), wt.Median(startup=2)):
        assert make_scheduler(json.loads(json.dumps(describe_scheduler(scheduler)))) == scheduler
    assert make_scheduler(describe_scheduler(None)) is None


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ("nope", wt.InvalidValue),
        ({"name": "nope"}, wt.InvalidValue),
        ({"name": "asha", "factro": 3}, wt.InvalidValue),
        ({"name": "none", "factor": 3}, wt.InvalidValue),
        ({"name": "asha", "factor": 1}, wt.InvalidValue),
        ({"factor": 3}, wt.InvalidType),
        ({"name": 3}, wt.InvalidType),
        (3, wt.InvalidType),
    ],
)
def test_bad_names_and_settings(spec, error):
    with pytest.raises(error):
        make_scheduler(spec)


@pytest.mark.parametrize("scheduler", ["median", wt.Asha(factor=4, last=9), {"name": "halving", "first": 2}])
def test_a_study_goes_on_with_its_scheduler(storage, scheduler):
    """Half of the trials, and then the rest by who names no scheduler: what becomes of all is the same."""
    whole = new(None, scheduler=scheduler)
    whole.optimize(train, n_trials=16)
    new(storage, scheduler=scheduler, n_trials=16).optimize(train, n_trials=8)
    again = new(storage)
    assert again.scheduler == make_scheduler(scheduler)
    again.optimize(train, n_trials=16)
    assert wt.Study(storage=storage, name="n").scheduler == make_scheduler(scheduler)
    counts = [sum(len(t.reports) for t in study.trials) for study in (whole, again)]
    assert counts[0] < 16 * 9 and counts[1] < 16 * 9
    if not isinstance(scheduler, wt.Asha):  # what is paused goes on as far as the budget is known to be spent
        assert ends(again) == ends(whole)


def test_another_scheduler_changes_it_and_is_said(storage, caplog):
    """None, as the one of a study that has none, is ``"none"``; to leave it out is to ask for what is there."""
    assert new(storage).scheduler is None
    with caplog.at_level(logging.INFO, logger="welltuned"):
        assert new(storage, scheduler="median").scheduler == wt.Median()
        assert new(storage, scheduler=None).scheduler == wt.Median()
        assert not caplog.messages
        assert new(storage, scheduler=wt.Median(startup=2)).scheduler == wt.Median(startup=2)
        assert new(storage).scheduler == wt.Median(startup=2)
        assert new(storage, scheduler="none").scheduler is None
        assert new(storage).scheduler is None
    changed = "study 'n': the scheduler changed; it is {} from now on"
    assert caplog.messages == [changed.format("Median(startup=2, warmup=1)"), changed.format("none")]


def test_who_is_refused_changes_nothing(storage):
    new(storage, scheduler="median")
    with pytest.raises(wt.InvalidValue, match="seed"):
        wt.Study(SPACE, storage=storage, name="n", seed=1, scheduler="halving")
    with pytest.raises(wt.InvalidValue, match="noisy"):
        wt.Study(SPACE, storage=storage, name="n", noisy=True, scheduler="halving")
    assert new(storage).scheduler == wt.Median()


def test_a_scheduler_of_ones_own_is_given_again(storage, caplog):
    """As a sampler of one's own: who opens the study without it has none, and what was there before is not there."""
    new(storage, scheduler="median")
    own = new(storage, scheduler=Impatient())
    own.optimize(train, n_trials=2)
    assert ends(own) == [(State.PRUNED, 2)] * 2
    without = new(storage)
    assert without.scheduler is None and not caplog.records
    without.optimize(train, n_trials=2)
    assert "no report is judged; its scheduler was Impatient" in caplog.text
    caplog.clear()
    again = new(storage, scheduler=Impatient())
    again.optimize(train, n_trials=3)
    assert ends(again) == [(State.PRUNED, 2)] * 3 and not caplog.records


def test_who_opened_it_for_a_look_keeps_the_scheduler_of_who_makes_it(storage):
    """A study without a space yet was only looked for; the one with a space says what it is."""
    wt.Study(storage=storage, name="n")
    new(storage, scheduler="median")
    assert wt.Study(storage=storage, name="n").scheduler == wt.Median()


def test_files_without_an_entry_open(tmp_path):
    """Those of earlier versions: they have no scheduler until one is given, which they keep then."""
    path = tmp_path / "study.db"
    new(path, scheduler="median").optimize(train, n_trials=2)
    with sqlite3.connect(path) as db:
        db.execute('UPDATE study SET attributes = \'{"open": false, "n_trials": 2}\', digest = NULL')
    db.close()
    assert new(path).scheduler is None
    assert new(path, scheduler="halving").scheduler == wt.Halving()
    assert new(path).scheduler == wt.Halving()


@pytest.mark.parametrize("other", [None, "none", "median"])
def test_replay_knows_that_trials_were_paused(storage, other):
    """Also where none rests any more, and where the study has another scheduler now."""
    study = new(storage, scheduler=wt.Asha(last=9))
    study.optimize(train, n_trials=3)
    while study.coordinator.promotion.promote(9):
        study.optimize(train, n_trials=3)
    with pytest.raises(wt.InvalidValue, match="paused"):
        new(storage, scheduler=other).replay()
    with pytest.raises(wt.InvalidValue, match="paused"):
        new(storage).replay()


def test_replay_asks_what_others_have_stored(storage):
    early = new(storage, scheduler="median")
    new(storage, scheduler="asha").optimize(train, n_trials=1)
    with pytest.raises(wt.InvalidValue, match="paused"):
        early.replay()


def test_without_pauses_the_stored_scheduler_changes_no_replay(storage):
    new(storage, scheduler="median").optimize(train, n_trials=8)
    assert len(new(storage).replay().checked) == 8


def judged(desk, name="n"):
    """Report what is worse than all before, and return whether the server wants the trial to stop."""
    found = desk.ask(name, "w", 1, None, 60.0)["trials"][0]
    return [desk.report(name, found["number"], found["token"], step, 9.0, {}, None)["stop"] for step in (1, 2, 3)]


def test_the_server_judges_by_the_scheduler_of_the_study(storage):
    """Its own is for studies that have none, and is stored with them once a worker asks for a trial."""
    study = new(storage, scheduler=wt.Median(startup=2), n_trials=20)
    study.optimize(train, n_trials=4)
    wt.Study(SPACE, storage=storage, name="other", sampler="random", seed=0).optimize(lambda t: t["x"], n_trials=1)
    wt.Study(SPACE, storage=storage, name="off", sampler="random", seed=0, scheduler="none", n_trials=2)
    desk = Desk(storage, wt.Halving())
    looking = Window(storage)
    assert looking.summary("n")["scheduler"] == {"name": "median", "startup": 2, "warmup": 1}
    assert looking.summary("other")["scheduler"] is None
    desk.ask("n", "w", 1, 9, 60.0)
    assert judged(desk) == [True, True, True]
    assert wt.Study(storage=storage, name="n").scheduler == wt.Median(startup=2)
    assert wt.Study(storage=storage, name="other").scheduler is None  # nobody has asked for a trial of it
    desk.ask("other", "w", 1, 5, 60.0)
    assert wt.Study(storage=storage, name="other").scheduler == wt.Halving()
    assert Desk(storage, None).study("other").scheduler == wt.Halving()
    desk.ask("off", "w", 1, 5, 60.0)
    assert desk.study("off").scheduler is None


def test_the_server_takes_notice_of_another_scheduler(storage):
    study = new(storage, scheduler="none")
    study.optimize(train, n_trials=6)
    desk = Desk(storage, None)
    study.n_trials = 20
    desk.ask("n", "w", 1, 20, 60.0)
    assert judged(desk) == [False] * 3
    new(storage, scheduler="median")
    assert judged(desk) == [True] * 3
    new(storage, scheduler="none")
    assert judged(desk) == [False] * 3


def test_a_server_with_a_scheduler_of_its_own_class(storage):
    """It is there again when the same program serves again."""
    new(storage, n_trials=9)
    assert judged(Desk(storage, Impatient())) == [False, True, False]
    assert judged(Desk(storage, Impatient())) == [False, True, False]
    assert judged(Desk(storage, None)) == [False] * 3


def run(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_line_follows(tmp_path, monkeypatch):
    """``run``, ``worker`` and ``show``; a worker that names another one changes it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(OBJECTIVE)
    run("run", "train.py:objective", "-n", 8, "--scheduler", "median", "--sampler", "random", "--seed", 0)
    run("run", "train.py:objective", "-n", 12)
    run("worker", "train-objective", "train.py:objective", "-n", 20)
    study = wt.Study(storage="welltuned.db", name="train-objective")
    whole = new(None, scheduler="median")
    whole.optimize(train, n_trials=20)
    assert ends(study) == ends(whole) and any(state is State.PRUNED for state, _ in ends(study)[12:])
    assert "sampler random, scheduler median (startup=5 warmup=1)" in run("show", "train-objective")
    run("worker", "train-objective", "train.py:objective", "-n", 30, "--scheduler", "none")
    assert ends(study)[20:] == [(State.COMPLETE, 9)] * 10
    assert "sampler random, no scheduler" in run("show", "train-objective")
    shown = json.loads(run("show", "train-objective", "--json"))
    assert (shown["sampler"], shown["scheduler"]) == ({"name": "random"}, {"name": "none"})


def test_a_population_is_kept_with_what_may_vary(tmp_path):
    """And `replay` knows that it pauses; who opens it where there are no folders may look alone."""
    given = wt.Pbt(population=4, every=2, vary=["x"])
    study = wt.Study({"x": (0.0, 1.0)}, storage=tmp_path / "a.db", name="n", scheduler=given, seed=0)
    again = wt.Study(storage=tmp_path / "a.db", name="n")
    assert again.scheduler == given
    with pytest.raises(wt.InvalidValue, match="replay"):
        again.replay()
    elsewhere = Coordinator(study.coordinator.ledger, study.sampler, again.scheduler, None)
    with pytest.raises(wt.InvalidValue, match="checkpoints of others"):
        elsewhere.next_tasks(1)
    desk = Desk(study.coordinator.ledger.storage, None)
    assert Window(study.coordinator.ledger.storage).summary("n")["scheduler"]["name"] == "pbt"
    with pytest.raises(wt.InvalidValue, match="over HTTP"):
        desk.ask("n", "somebody", 1, None, 60.0)


def test_who_has_no_folders_for_a_population_changes_nothing(tmp_path):
    store = MemoryStorage()
    given = wt.Pbt(population=4, every=2, last=9)
    study = wt.Study(SPACE, storage=store, sampler="random", seed=0, scheduler=given, checkpoints=tmp_path)
    study.optimize(train, n_trials=40)
    without = wt.Study(storage=store)
    assert len(without.trials) == len(study.trials) and without.scheduler == given
    with pytest.raises(wt.InvalidValue, match="checkpoints=folder"):
        without.optimize(train, n_trials=50)
    assert wt.Study(storage=store).stop_reason == study.stop_reason is not None
