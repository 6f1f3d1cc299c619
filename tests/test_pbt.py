"""D20: a population whose members rest every few steps, and children of the best in place of the worst."""

import json
import os
import random
import re
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import welltuned as wt
from welltuned.cli.app import app
from welltuned.history import History
from welltuned.report import render
from welltuned.schedulers import Begin, Child, Promote
from welltuned.schedulers.explore import explore
from welltuned.study import folders
from welltuned.study.folders import Folders
from welltuned.study.ledger import Ledger
from welltuned.trial import RESTS, Outcome, Report, State, Trial

LAST, EVERY = 20, 5
SPACE = {"x": (0.0, 1.0)}
ENDED = "population: all of its members have come to their end"


def kept(path):
    """Return the lines of a checkpoint: of each step which trial made it, and what the loss was then."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(number), float(loss)) for number, loss in map(str.split, lines)]


def train(trial, last=LAST, between=lambda: None):
    """Go on behind the last step of the checkpoint; the best rate falls from step to step."""
    file = trial.checkpoint / "steps.txt"
    done = kept(file)
    loss = done[-1][1] if done else 1.0
    for step in range(len(done) + 1, last + 1):
        between()
        loss *= 0.7 + abs(trial["x"] - 0.5 / step)
        trial.report(loss, step=step)
        with file.open("a") as lines:
            lines.write(f"{trial.number} {loss!r}\n")
        between()
        if trial.should_stop():
            break
    return loss


def population(folder, space=SPACE, *, seed=0, sampler="random", scheduler=None, **options):
    scheduler = scheduler or wt.Pbt(every=EVERY)
    return wt.Study(space, sampler=sampler, seed=seed, scheduler=scheduler, checkpoints=folder, **options)


def folder_of(study, number):
    return Path(study.coordinator.task(study.trials[number]).checkpoint)


def check_lineages(study, last=LAST):
    """Check that each trial went on from just what its parent was, and made each of its own steps once."""
    for trial in study.trials:
        made = [number for number, _ in kept(folder_of(study, trial.number) / "steps.txt")]
        expected = []
        for one, following in zip(study.lineage(trial.number), (*study.lineage(trial.number)[1:], None), strict=True):
            upto = following.inherited if following is not None else one.reports[-1].step if one.reports else 0
            expected += [one.number] * (upto - len(expected))
        assert made == expected, trial
        assert [r.step for r in trial.reports] == list(range((trial.inherited or 0) + 1, len(made) + 1))
    ends = {t.number for t in study.trials if t.state is State.COMPLETE}
    replaced = {t.replaces for t in study.trials if t.parent is not None}
    assert {t.number for t in study.trials if t.state is State.PAUSED} == replaced
    assert ends | replaced == set(range(len(study.trials)))
    assert all(len(kept(folder_of(study, n) / "steps.txt")) == last for n in ends)
    # nothing is left but the folders of trials
    assert {p.name for p in folder_of(study, 0).parent.iterdir()} == {str(t.number) for t in study.trials}


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("last", [None, LAST])
def test_d20_children_go_on_from_what_their_parents_were(tmp_path, workers, last):
    study = population(tmp_path, scheduler=wt.Pbt(every=EVERY, last=last))
    study.optimize(train, n_trials=60, workers=workers)
    check_lineages(study)
    trials = study.trials
    children = [t for t in trials if t.parent is not None]
    assert study.stop_reason == ENDED
    assert len(children) == len(trials) - 8 >= 4
    # eight trainings in all, whoever made them
    assert sum(len(t.reports) for t in trials) == 8 * LAST
    for child in children:
        parent, behind = trials[child.parent], trials[child.replaces]
        assert child.inherited in parent.rests
        losses = [next(r for r in t.reports if r.step == child.inherited).metrics["value"] for t in (parent, behind)]
        assert losses[0] < losses[1]
    assert len({str(t.params) for t in trials}) == len(trials)
    if workers == 1:  # the best rate falls, and that of the best lineage with it
        rates = [t.params["x"] for t in study.lineage(study.best.number)]
        assert rates == sorted(rates, reverse=True)
        assert len(rates) > 1
    assert study.best.value == min(t.value for t in trials if t.state is State.COMPLETE)


def test_the_population_moves_together(tmp_path):
    """With one worker, nobody begins a stage while another one is behind, but the one that shows where it ends."""
    order = []

    def objective(trial):
        order.append(len(kept(trial.checkpoint / "steps.txt")) // EVERY)
        return train(trial)

    population(tmp_path, scheduler=wt.Pbt(every=EVERY, last=LAST)).optimize(objective, n_trials=60)
    assert order == [stage for stage in range(4) for _ in range(8)]


def test_each_step_is_judged_by_what_was_reported_there(tmp_path):
    """Who was the best and has gone astray since is replaced: its checkpoint is worth what it is worth now."""

    def objective(trial):
        file = trial.checkpoint / "at"
        step = int(file.read_text()) if file.exists() else 0
        while step < 8:
            step += 1
            lost = trial.number == 0 and step == 4
            trial.report(100.0 if lost else trial.number + 1.0 / step, step=step)
            file.write_text(str(step))
            if trial.should_stop():
                break
        return 1.0

    study = population(tmp_path, scheduler=wt.Pbt(4, every=4))
    study.optimize(objective, n_trials=5)
    assert (study.trials[4].replaces, study.trials[4].parent) == (0, 1)


def test_some_trainings_end_before_the_others(tmp_path):
    """What ends first says nothing of where the others end."""

    def objective(trial):
        return train(trial, last=7 if trial.number == 0 else 10 if trial.number == 1 else LAST)

    study = population(tmp_path, scheduler=wt.Pbt(every=EVERY))
    study.optimize(objective, n_trials=60)
    assert {step for t in study.trials for step in t.rests} == {5, 10, 15, 20}
    assert [t.inherited for t in study.trials[8:]][-1] == 15
    assert sum(t.state is State.COMPLETE for t in study.trials) == 8


def test_a_budget_that_is_spent(tmp_path):
    """Children count; when there can be none any more, those that are behind go on as themselves."""
    study = population(tmp_path)
    study.optimize(train, n_trials=10)
    assert len(study.trials) == 10
    assert study.stop_reason.startswith("budget")
    assert [t.inherited for t in study.trials[8:]] == [5, 5]
    assert sum(t.state is State.COMPLETE for t in study.trials) == 8
    assert {len(t.reports) for t in study.trials if t.state is State.COMPLETE} == {15, 20}


@pytest.mark.parametrize("n_trials", [1, 8])
def test_a_budget_without_children_is_a_plain_search(tmp_path, n_trials):
    study = population(tmp_path)
    study.optimize(train, n_trials=n_trials)
    assert [len(t.reports) for t in study.trials] == [LAST] * n_trials
    assert {t.state for t in study.trials} == {State.COMPLETE}


def test_more_trials_later_go_on_with_breeding(tmp_path):
    study = population(tmp_path)
    study.optimize(train, n_trials=9)
    study.optimize(train, n_trials=60)
    assert study.trials[8].inherited == 5
    assert study.stop_reason == ENDED


def test_only_what_may_vary_does(tmp_path):
    space = {"x": (0.0, 1.0), "units": wt.Int(16, 128), "kind": wt.Categorical(["a", "b"])}
    study = population(tmp_path, space, scheduler=wt.Pbt(every=EVERY, vary=["x"]))
    study.optimize(train, n_trials=40)
    children = [t for t in study.trials if t.parent is not None]
    assert children
    for child in children:
        mine, its = dict(child.params), dict(study.trials[child.parent].params)
        assert mine.pop("x") != its.pop("x")
        assert mine == its


def test_names_that_may_vary_are_those_of_parameters(tmp_path):
    study = population(tmp_path, scheduler=wt.Pbt(vary=["lr"]))
    with pytest.raises(wt.InvalidValue, match=r"vary=\('lr',\).*no parameter 'lr', only \['x'\]"):
        study.optimize(train, n_trials=10)


CONDITIONAL = wt.Space(
    {
        "x": (0.0, 1.0),
        "kind": wt.Categorical(["plain", "deep"]),
        "depth": wt.Int(2, 5, when={"kind": "deep"}),
        "size": wt.Ordinal([8, 16, 32]),
        "rate": wt.Float(1e-4, 1e-1, log=True),
    },
    forbidden=[{"kind": "deep", "size": 8}],
    constraints=[lambda p: p["x"] + 10 * p["rate"] < 1.2],
)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_explored_is_allowed_and_near(seed):
    rng = np.random.default_rng(seed)
    parent, known = {"x": 0.4, "kind": "deep", "depth": 3, "size": 16, "rate": 0.01}, set()
    for _ in range(10):
        found = explore(CONDITIONAL, parent, known, rng, resample=0.0)
        assert CONDITIONAL.validate(found) == found
        assert found["kind"] == "deep"
        assert found["depth"] in (2, 4)
        assert found["size"] in (16, 32)
        assert min(abs(found["x"] / 0.4 - f) for f in (0.8, 1.2)) < 1e-9
        assert min(abs(found["rate"] / 0.01 - f) for f in (0.8, 1.2)) < 1e-9
        drawn = explore(CONDITIONAL, parent, known, rng, resample=0.9)
        assert CONDITIONAL.validate(drawn) == drawn
        known.add(CONDITIONAL.key(drawn))
    kinds = {explore(CONDITIONAL, parent, known, rng, resample=0.9)["kind"] for _ in range(20)}
    assert kinds == {"plain", "deep"}


def test_exploring_ends_at_the_bounds_and_where_all_is_known():
    space, rng = wt.Space({"n": wt.Int(1, 4), "m": wt.Float(-2.0, 2.0, step=0.5)}), np.random.default_rng(0)
    for n, m in ((1, -2.0), (4, 2.0), (2, 0.0), (3, -0.5)):
        for _ in range(20):
            found = explore(space, {"n": n, "m": m}, (), rng, resample=0.0)
            assert space.validate(found) == found
            assert (abs(found["n"] - n), abs(found["m"] - m)) in {(a, b) for a in (0, 1) for b in (0.0, 0.5)}
    known = {space.key({"n": n, "m": m / 2}) for n in range(1, 5) for m in range(-4, 5)}
    assert explore(space, {"n": 1, "m": 0.0}, known, rng) is None
    known.remove(space.key({"n": 4, "m": 2.0}))
    assert explore(space, {"n": 1, "m": 0.0}, known, rng) == {"n": 4, "m": 2.0}
    assert explore(space, {"n": 1, "m": 0.0}, known, rng, vary=["n"]) is None
    assert explore(space, {"n": 9, "m": 0.0}, (), rng) is None  # the space has changed


def test_a_list_of_grids_keeps_to_its_grid():
    space = wt.Space.parse([{"kernel": ["rbf"], "C": [1, 2, 3]}, {"kernel": ["poly"], "degree": [2, 3, 4]}])
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert set(explore(space, {"kernel": "poly", "degree": 3}, (), rng)) == {"kernel", "degree"}


def test_a_conditional_space_in_a_study(tmp_path):
    study = population(tmp_path, CONDITIONAL)
    study.optimize(train, n_trials=40)
    check_lineages(study)
    assert all(study.space.contains(t.params) for t in study.trials)
    assert len({study.space.key(t.params) for t in study.trials}) == len(study.trials) > 8


def test_several_objectives(tmp_path):
    def objective(trial):
        file = trial.checkpoint / "at"
        step = int(file.read_text()) if file.exists() else 0
        while step < LAST:
            step += 1
            found = {"loss": trial["x"] + 1 / step, "size": (1 - trial["x"]) ** 2 + 1 / step + trial["y"]}
            trial.report(found, step=step)
            file.write_text(str(step))
            if trial.should_stop():
                break
        return found if step < LAST or len(trial) else {"loss": 0.0, "size": 0.0}

    space = {"x": (0.0, 1.0), "y": (0.0, 1.0)}
    study = population(tmp_path, space, direction={"loss": "minimize", "size": "minimize"}, scheduler=wt.Pbt(last=LAST))
    study.optimize(objective, n_trials=40)
    assert any(t.parent is not None for t in study.trials)
    assert study.best_trials
    assert study.stop_reason == ENDED
    for child in study.trials[8:]:  # nobody of the first front is replaced
        behind, parent = study.trials[child.replaces], study.trials[child.parent]
        assert behind.reports[-1].step == child.inherited
        at = next(r for r in parent.reports if r.step == child.inherited).metrics
        assert min(at[n] - behind.reports[-1].metrics[n] for n in at) < 0


def test_an_exhausted_space(tmp_path):
    """No configuration twice: where there is no new one, all go on as themselves."""
    study = population(tmp_path, {"x": [n / 10 for n in range(9)]})
    study.optimize(train, n_trials=30)
    assert len(study.trials) == 9
    assert sum(t.state is State.COMPLETE for t in study.trials) == 8
    assert study.stop_reason == ENDED
    small = population(tmp_path, {"x": [n / 10 for n in range(5)]}, name="small")
    small.optimize(train, n_trials=30)
    assert [len(t.reports) for t in small.trials] == [LAST] * 5
    assert small.stop_reason.startswith("space exhausted")


def test_a_noisy_study_may_have_the_same_again(tmp_path):
    study = population(tmp_path, {"x": [n / 10 for n in range(9)]}, noisy=True)
    study.optimize(train, n_trials=30)
    assert len(study.trials) > 9
    check_lineages(study)


def test_objectives_that_declare_their_parameters(tmp_path):
    def objective(trial):
        trial.suggest_float("x", 0.0, 1.0)
        if trial.suggest_categorical("kind", ["a", "b"]) == "b":
            trial.suggest_int("depth", 1, 5)
        return train(trial)

    study = population(tmp_path, None)
    study.optimize(objective, n_trials=40)
    check_lineages(study)
    assert len(study.trials) > 8
    assert all(("depth" in t.params) == (t.params["kind"] == "b") for t in study.trials)


def test_what_may_vary_is_named_before_it_is_declared(tmp_path):
    def objective(trial):
        trial.suggest_float("x", 0.0, 1.0)
        trial.suggest_int("depth", 1, 5)
        return train(trial)

    study = population(tmp_path, None, scheduler=wt.Pbt(vary=["x"]))
    study.optimize(objective, n_trials=40)
    check_lineages(study)
    children = [t for t in study.trials if t.parent is not None]
    assert children
    assert all(t.params["depth"] == study.trials[t.parent].params["depth"] for t in children)


def test_a_population_that_has_ended_is_not_said_to_go_on_with_more_trials(tmp_path, caplog):
    study = population(tmp_path)
    for n_trials in (100, 200):
        assert "nothing is left to do" not in caplog.text
        study.optimize(train, n_trials=n_trials)
    assert f"{ENDED}, another name starts anew" in caplog.text
    assert "n_trials" not in caplog.text


# who fails


def test_one_that_diverges_is_replaced(tmp_path):
    def objective(trial):
        if trial.number == 3 and kept(trial.checkpoint / "steps.txt"):
            trial.report(float("nan"), step=EVERY + 1)
        return train(trial)

    study = population(tmp_path)
    study.optimize(objective, n_trials=60)
    assert study.trials[3].state is State.FAILED
    (heir,) = [t for t in study.trials if t.replaces == 3]
    assert heir.inherited == EVERY
    assert sum(t.state is State.COMPLETE for t in study.trials) == 8


@pytest.mark.parametrize("n", [4, 8, 9])
def test_the_next_best_is_bred_from_where_the_best_one_fails(n):
    """Its checkpoint was kept for that, since it has gone on by then."""

    def member(number, state, upto):
        reports = tuple(Report(step, {"value": float(number)}) for step in range(1, upto + 1))
        return Trial(number, state, {"x": (number + 1) / 10}, reports=reports, attributes={RESTS: [EVERY]})

    scheduler, space = wt.Pbt(n, every=EVERY, last=LAST), wt.Space(SPACE)
    resting = [member(number, State.PAUSED, EVERY) for number in range(n)]
    later = [member(0, State.FAILED, 7), *(member(number, State.RUNNING, 7) for number in range(1, n))]
    kept_then = scheduler.parents(History(space, resting)) - {(0, EVERY)}
    for seed in range(9):
        child = scheduler.advance(space, History(space, later), np.random.default_rng(seed))
        assert child.replaces == 0
        assert (child.parent, child.step) in kept_then


def test_one_that_fails_at_once_is_no_member(tmp_path):
    def objective(trial):
        if trial.number in (0, 5):
            raise ValueError("no luck")
        return train(trial)

    study = population(tmp_path)
    study.optimize(objective, n_trials=60)
    assert [t.state for t in study.trials if t.number in (0, 5)] == [State.FAILED] * 2
    assert sum(t.state is State.COMPLETE for t in study.trials) == 8
    assert [t.parent for t in study.trials[:10]] == [None] * 10


def test_who_is_in_the_space_no_more_is_no_member(tmp_path):
    storage = str(tmp_path / "study.db")
    study = population(tmp_path, storage=storage)
    study.optimize(train, n_trials=40, callbacks=[lambda study, trial: study.stop() if trial.number == 7 else None])
    assert not any(t.state is State.COMPLETE for t in study.trials)
    wider = population(tmp_path, {**SPACE, "units": [1, 2]}, storage=storage)
    wider.optimize(train, n_trials=40)
    assert sum(t.state is State.FAILED for t in wider.trials[:8]) >= 7  # one rests for good
    assert sum(t.state is State.COMPLETE for t in wider.trials) == 8
    assert wider.stop_reason == ENDED


def test_children_that_all_fail_do_not_use_up_the_budget(tmp_path):
    """As where parameters vary that the checkpoint does not fit: those that are behind go on as themselves."""

    def objective(trial):
        if trial.inherited is not None:
            raise ValueError("size mismatch")
        return train(trial)

    study = population(tmp_path)
    study.optimize(objective, n_trials=200)
    assert len(study.trials) <= 8 + 2 * 3
    assert sum(t.state is State.COMPLETE for t in study.trials) == 8


# checkpoints


def test_a_parent_that_goes_on_while_it_is_copied(tmp_path, monkeypatch):
    """Half of the copy is of another step then; the snapshot that was made before the parent went on is not."""
    place = Folders(tmp_path)
    place.of(3).mkdir()
    for name in "ab":
        (place.of(3) / name).write_text("at 5")
    copy, torn = folders._copy, []

    def slow(source, target):
        if source == place.of(3) and not torn:
            torn.append(target)
            target.mkdir()
            shutil.copy(source / "a", target / "a")
            place.keep(3, 5)
            for name in "ab":
                (source / name).write_text("at 6")
            (source / "c").write_text("at 6")
            shutil.copy(source / "b", target / "b")
        else:
            copy(source, target)

    monkeypatch.setattr(folders, "_copy", slow)
    place.inherit(9, 3, 5)
    assert torn
    assert {p.name: p.read_text() for p in place.of(9).iterdir()} == {"a": "at 5", "b": "at 5"}
    assert {p.name for p in tmp_path.iterdir()} == {"3", "9", "3@5"}


def test_a_parent_whose_files_go_while_it_is_copied(tmp_path, monkeypatch):
    place = Folders(tmp_path)
    place.of(3).mkdir()
    (place.of(3) / "a").write_text("at 5")
    copy = folders._copy

    def gone(source, target):
        if source == place.of(3) and not place.at(3, 5).exists():
            copy(source, place.at(3, 5))
            raise shutil.Error("no such file")
        copy(source, target)

    monkeypatch.setattr(folders, "_copy", gone)
    place.inherit(9, 3, 5)
    assert (place.of(9) / "a").read_text() == "at 5"


def test_a_copy_that_fails_leaves_nothing_and_says_so(tmp_path, monkeypatch):
    place = Folders(tmp_path)
    place.of(3).mkdir()

    def full(_, target):
        target.mkdir()
        raise OSError(28, "no space left")

    monkeypatch.setattr(folders, "_copy", full)
    with pytest.raises(wt.StorageError, match=r"cannot copy the checkpoint .*no space left"):
        place.inherit(9, 3, 5)
    assert [p.name for p in tmp_path.iterdir()] == ["3"]


def test_what_a_killed_process_left_half_made_is_in_nobodys_way(tmp_path):
    place = Folders(tmp_path)
    place.of(3).mkdir()
    for half in (".9-00aa", ".10-00cc", ".3@5-00bb"):
        (tmp_path / half).mkdir()
    place.inherit(9, 3, 5)
    place.keep(3, 5)
    place.keep(3, 10)
    place.forget({(3, 10)})
    assert {p.name for p in tmp_path.iterdir()} == {"3", "9", "3@10", ".10-00cc"}  # who makes 10 may be at it


def test_snapshots_of_children_that_have_no_folder_yet_are_kept(tmp_path):
    """Their process may have died between the two; what they descend from is not bred from any more."""
    study = population(tmp_path, scheduler=wt.Pbt(every=EVERY, last=LAST))
    begin = study.coordinator.breeding.begin

    def dies(trial):
        if trial.parent is not None and not waiting:
            waiting.append(trial)
            raise KeyboardInterrupt
        begin(trial)

    waiting = []
    study.coordinator.breeding.begin = dies
    with pytest.raises(KeyboardInterrupt):
        study.optimize(train, n_trials=60)
    child = study.trials[waiting[0].number]
    assert child.state is State.WAITING
    assert child.parent is not None
    # its parent goes on before it, in another process
    assert study.trials[child.parent].rests == (child.inherited,)
    study.coordinator.breeding.promote(Promote(child.parent, child.inherited))
    assert [p.name for p in folder_of(study, 0).parent.glob("*@*")] == [f"{child.parent}@{child.inherited}"]
    study.optimize(train, n_trials=60)
    check_lineages(study)


def test_a_child_of_what_is_gone_is_warned_of(tmp_path, caplog):
    """Also while its parent has gone on and not rested again, which looks like resting where it did."""
    study = population(tmp_path, scheduler=wt.Pbt(every=EVERY, last=LAST))
    ledger, breeding = study.coordinator.ledger, study.coordinator.breeding
    study.ask(8)
    parent, child = study.trials[0], study.trials[1].but(provenance={"parent": 0, "step": 5, "replaces": 1})
    folder_of(study, 0).mkdir(parents=True)
    assert ledger.finish(0, parent.token, Outcome(State.PAUSED, attributes={RESTS: [5]}))
    study.history  # noqa: B018 - takes notice
    breeding.begin(child)
    assert not caplog.records
    shutil.rmtree(folder_of(study, 1))
    assert ledger.resume(0)
    assert [t.number for t in ledger.claim(1)] == [0]
    assert study.trials[0].rests == (5,)
    breeding.begin(child)
    assert caplog.messages == ["trial 1 begins with the checkpoint that trial 0 has now: what it was at step 5 is gone"]


def test_nothing_to_go_on_from_is_refused(tmp_path):
    with pytest.raises(wt.InvalidValue, match=r"scheduler=Pbt.*the storage has no folder.*checkpoints=folder"):
        wt.Study(SPACE, scheduler="pbt")
    wt.Study(SPACE, scheduler="pbt", storage=str(tmp_path / "study.db"))


def test_objectives_that_keep_nothing_begin_again(tmp_path, caplog):
    def objective(trial):
        for step in range(len(trial.reports) + 1, LAST + 1):
            trial.report(trial["x"] + 1 / step, step=step)
            if trial.should_stop():
                break
        return trial["x"]

    study = population(tmp_path)
    study.optimize(objective, n_trials=40)
    assert study.stop_reason == ENDED
    assert all([r.step for r in t.reports][:1] == [1] for t in study.trials)
    assert "has kept nothing in" in caplog.text
    assert "with the checkpoint" not in caplog.text  # there is none


def test_reports_beyond_the_steps_where_they_rest(tmp_path):
    """A training that reports every third step, and counts from 0, rests behind each fifth one."""

    def objective(trial):
        file = trial.checkpoint / "at"
        at = int(file.read_text()) if file.exists() else -3
        assert trial.inherited is None or at >= trial.inherited
        while at < 27:
            at += 3
            trial.report(trial["x"] + 1 / (at + 1), step=at)
            file.write_text(str(at))
            if trial.should_stop():
                break
        return trial["x"]

    study = population(tmp_path)
    study.optimize(objective, n_trials=60)
    assert {step for t in study.trials for step in t.rests} <= {6, 9, 15, 21, 24, 27}
    assert {t.inherited for t in study.trials[8:]} <= {6, 9, 15, 21, 24}
    assert study.stop_reason == ENDED


# interrupts, and several processes


def facts(study):
    """Return what is the same whoever was killed; what one that rests has returned is lost with its process."""
    return [
        (t.number, t.params, t.state, t.reports, t.parent, t.inherited, t.rests)
        + ((t.value,) if t.state is State.COMPLETE else ())
        for t in study.trials
    ]


@pytest.mark.parametrize("sampler", ["random", "bayes"])
def test_interrupts_change_nothing(tmp_path, sampler):
    chance = random.Random(0)

    def interrupt():
        if chance.random() < 0.02:
            raise KeyboardInterrupt

    whole = population(tmp_path / "whole", sampler=sampler)
    whole.optimize(train, n_trials=40)
    interrupted, done = 0, False
    while not done:
        cut = population(None, storage=str(tmp_path / "cut.db"), sampler=sampler)
        try:
            cut.optimize(lambda trial: train(trial, between=interrupt), n_trials=40)
            done = True
        except KeyboardInterrupt:
            interrupted += 1
    assert 3 <= interrupted < 200
    assert facts(cut) == facts(whole)
    check_lineages(cut)


def forked(function, *, wait=True):
    """Run a function in a process of its own; return how that ended, or its number."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            function()
            code = 0
        finally:
            os._exit(code)
    return ended(pid) if wait else pid


def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def perhaps_killed(function, chance):
    """Return a function that may end its process before it does anything, or afterwards."""

    def call(*args, **options):
        if chance.random() < 0.04:
            os.kill(os.getpid(), signal.SIGKILL)
        found = function(*args, **options)
        if chance.random() < 0.04:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    return call


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
@pytest.mark.parametrize("seed", range(2))
def test_d20_kills_change_nothing(tmp_path, monkeypatch, seed):
    """Killed between any two things that it stores or copies, a run goes on as if it had not been."""
    path = str(tmp_path / "killed.db")
    whole = population(tmp_path / "whole", seed=seed)
    whole.optimize(train, n_trials=40)
    ends = []

    def run():
        chance = random.Random(f"{seed} {len(ends)}")
        for name in ("claim", "assign", "resume", "finish"):
            monkeypatch.setattr(Ledger, name, perhaps_killed(getattr(Ledger, name), chance))
        monkeypatch.setattr(folders, "_copy", perhaps_killed(folders._copy, chance))
        monkeypatch.setattr(Path, "rename", perhaps_killed(Path.rename, chance))
        population(None, storage=path, seed=seed).optimize(train, n_trials=40)

    while not ends or ends[-1]:
        ends.append(forked(run))
        assert ends[-1] in (0, -signal.SIGKILL)
        assert len(ends) < 100
    assert len(ends) > 5
    killed = population(None, storage=path, seed=seed)
    assert facts(killed) == facts(whole)
    for number in range(len(whole.trials)):
        assert kept(folder_of(killed, number) / "steps.txt") == kept(folder_of(whole, number) / "steps.txt")


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_d20_two_processes_on_one_file(tmp_path):
    path = str(tmp_path / "study.db")

    def together(trial):
        """Begin when both processes have a trial."""
        (tmp_path / f"begun-{os.getpid()}").touch()
        while len(list(tmp_path.glob("begun-*"))) < 2:
            time.sleep(0.01)
        return train(trial, between=lambda: time.sleep(0.002))

    def run():
        population(None, storage=path).optimize(together, n_trials=60)

    started = [forked(run, wait=False) for _ in range(2)]
    assert [ended(pid) for pid in started] == [0, 0]
    study = population(None, storage=path)
    check_lineages(study)
    assert len({t.owner.split("|")[1] for t in study.trials}) == 2
    assert sum(t.state is State.COMPLETE for t in study.trials) == 8
    assert study.stop_reason == ENDED


def test_one_process_waits_for_what_another_one_trains(tmp_path):
    """It neither ends, nor looks again and again, nor writes anything while it waits."""
    storage = str(tmp_path / "study.db")
    study, other = (population(None, storage=storage, scheduler=wt.Pbt(2, quantile=0.5, last=LAST)) for _ in range(2))
    trials = other.ask(2)
    with pytest.raises(wt.StudyStopped, match=r"no member of its population can go on now.*\[0, 1\]"):
        study.ask()
    revision, looks = study.history.revision, []
    advance = study.coordinator.breeding.move
    study.coordinator.breeding.move = lambda *args: looks.append(1) or advance(*args)
    run = threading.Thread(target=study.optimize, args=(train,), kwargs={"n_trials": 60})
    run.start()
    time.sleep(1.2)
    assert run.is_alive()
    assert len(looks) < 10
    assert study.history.revision == revision
    for trial in trials:
        assert other.tell(trial, train(trial), state="complete").state is State.COMPLETE
    run.join(120)
    assert not run.is_alive()


def test_ask_and_tell(tmp_path):
    study = population(tmp_path, scheduler=wt.Pbt(2, every=3, quantile=0.5))
    trials = study.ask(2)
    for trial, level in zip(trials, (0.5, 0.1), strict=True):
        (trial.checkpoint / "from").write_text(str(trial.number))
        trial.report(level, step=3)
        assert trial.should_stop()
        assert study.tell(trial, state="pruned").state is State.PAUSED
    ahead = study.ask()
    assert (ahead.number, ahead.inherited, len(ahead.reports)) == (1, None, 1)
    ahead.report(0.05, step=4)
    child = study.ask()
    assert (child.number, child.inherited, child.reports) == (2, 3, ())
    assert (child.checkpoint / "from").read_text() == "1"
    assert child["x"] != ahead["x"]
    assert [t.number for t in study.lineage(2)] == [1, 2]
    with pytest.raises(wt.StudyStopped, match="population"):
        study.ask()


# moves


def test_two_that_claim_at_once_breed_for_different_ones(tmp_path):
    """A number that another process has claimed, and not filled yet, is the child of the first one behind."""
    study = population(tmp_path, scheduler=wt.Pbt(4, every=5, quantile=0.5, last=LAST))
    for number, trial in enumerate(study.ask(4)):
        trial.report(float(number), step=5)
        study.tell(trial, state="pruned")
    scheduler, rng = study.coordinator.scheduler, np.random.default_rng(0)
    first = scheduler.advance(study.space, study.history, rng)
    assert isinstance(first, Child)
    blank = wt.Trial(4, State.RUNNING)
    second = scheduler.advance(study.space, study.history.replace([*study.trials, blank]), rng)
    assert isinstance(second, Child)
    assert {first.replaces, second.replaces} == {2, 3}
    both = study.history.replace([*study.trials, blank, wt.Trial(5, State.RUNNING)])
    assert scheduler.advance(study.space, both, rng) == Promote(0, 5)
    few = study.history.replace([*study.trials[:2], blank])
    assert scheduler.advance(study.space, few, rng) == Begin()


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"population": 1}, wt.InvalidValue),
        ({"population": 2.5}, wt.InvalidType),
        ({"every": 0}, wt.InvalidValue),
        ({"quantile": 0.6}, wt.InvalidValue),
        ({"quantile": 0.1}, wt.InvalidValue),
        ({"quantile": "half"}, wt.InvalidType),
        ({"resample": -0.1}, wt.InvalidValue),
        ({"resample": True}, wt.InvalidType),
        ({"vary": "lr"}, wt.InvalidType),
        ({"vary": 3}, wt.InvalidType),
        ({"vary": [None]}, wt.InvalidType),  # a list in it was not stored: who opened the study again varied everything
        ({"vary": [3]}, wt.InvalidType),
        ({"last": 0}, wt.InvalidValue),
    ],
)
def test_settings_are_checked(settings, error):
    ((name, given),) = settings.items()
    with pytest.raises(error, match=re.escape(f"Pbt: {name}={given!r}")):
        wt.Pbt(**settings)


def test_what_cannot_be_repeated_is_refused(tmp_path):
    study = population(tmp_path)
    with pytest.raises(wt.InvalidValue, match="deterministic=True"):
        study.optimize(train, n_trials=3, deterministic=True)
    with pytest.raises(wt.InvalidValue, match="replay"):
        study.replay()


def test_lineages_are_of_trials_that_are_there(tmp_path):
    with pytest.raises(wt.InvalidValue, match="no trial 3"):
        population(tmp_path).lineage(3)


# what people see


@pytest.fixture
def bred(tmp_path):
    study = population(tmp_path / "folders", storage=str(tmp_path / "study.db"))
    study.optimize(train, n_trials=40)
    return study, str(tmp_path / "study.db")


def test_what_shows_a_study_names_parents(bred):
    study, path = bred
    best = study.best
    assert best.parent is not None
    told = f"goes on from trial {best.parent} at step {best.inherited}"
    page = render([study])
    assert told in page
    shown = CliRunner().invoke(app, ["show", "--storage", path], catch_exceptions=False).output
    assert told in " ".join(shown.split())
    for child in (t for t in study.trials if t.parent is not None):  # not the best one alone
        source = f"{child.parent} at step {child.inherited}"
        assert f"<td>{source}</td>" in page
        assert re.search(rf"^{child.number} .* {source} +x=", shown, re.MULTILINE), shown
    for one in study.lineage(best.number):  # the schedule
        assert f"<tr><td>{one.inherited or 0}</td><td>{one.number}</td><td><code>x=" in page
        assert f"from step {one.inherited or 0} on (trial {one.number})" in shown
    exported = CliRunner().invoke(app, ["export", "--format", "json", "--storage", path]).output
    row = json.loads(exported)[best.number]
    assert (row["parent"], row["inherited"]) == (best.parent, best.inherited)
    assert not [name for name in row if "welltuned:" in name]
    frame = study.to_frame()
    assert frame["parent"].notna().sum() == len(study.trials) - 8
    assert study.recommend().number in {t.number for t in study.trials if t.state is State.COMPLETE}


def test_a_study_without_children_has_no_columns_for_them(tmp_path):
    study = wt.Study(SPACE, sampler="random", seed=0)
    study.optimize(lambda trial: trial["x"], n_trials=2)
    assert not {"parent", "inherited"} & {*study.to_frame()}
    page = render([study])
    assert "goes on from" not in page and "<h2>Schedule" not in page


PROGRAM = """
import json, os, pathlib, sys, time
file = pathlib.Path(sys.argv[1]) / "state.json"
epoch, loss = json.loads(file.read_text()) if file.exists() else (0, 1.0)
while epoch < 8:
    time.sleep(0.05)
    epoch, loss = epoch + 1, loss * (1 - float(sys.argv[2]))
    print(f"epoch {epoch} loss={loss}", flush=True)
    file.with_suffix(".new").write_text(json.dumps([epoch, loss]))
    os.replace(file.with_suffix(".new"), file)
"""


def test_programs(tmp_path, monkeypatch):
    """`welltuned tune` counts the lines of a child on from where its parent was."""
    monkeypatch.chdir(tmp_path)
    Path("program.py").write_text(PROGRAM)
    Path("space.yaml").write_text("lr: {type: float, low: 0.01, high: 0.5}\n")
    words = ["tune", "--space", "space.yaml", "--metric", "loss", "--scheduler", "pbt", "-n", "11", "--seed", "0"]
    words += ["--sampler", "random", "--name", "bred", "--", sys.executable, "program.py", "{checkpoint}", "{lr}"]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    study = wt.Study(storage="welltuned.db", name="bred")
    children = [t for t in study.trials if t.parent is not None]
    assert children
    for child in children:
        assert child.reports[0].step == child.inherited + 1
        assert child.reports[-1].step in (8, 9)  # ended between a line and its state, it prints one again
    assert sum(t.state is State.COMPLETE for t in study.trials) == 8


ANEW = """
import sys
loss = 1.0
for epoch in range(1, 9):
    loss *= 1 - float(sys.argv[1])
    print(f"loss={loss}", flush=True)
"""


def test_programs_that_keep_nothing_begin_again(tmp_path, monkeypatch):
    """The lines of a child that was told of no checkpoint are its first ones."""
    monkeypatch.chdir(tmp_path)
    Path("program.py").write_text(ANEW)
    Path("space.yaml").write_text("lr: {type: float, low: 0.01, high: 0.5}\n")
    words = ["tune", "--space", "space.yaml", "--metric", "loss", "--scheduler", "pbt", "-n", "10", "--seed", "0"]
    words += ["--sampler", "random", "--name", "anew", "--", sys.executable, "program.py", "{lr}"]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    children = [t for t in wt.Study(storage="welltuned.db", name="anew").trials if t.parent is not None]
    assert children
    assert [[r.step for r in child.reports] for child in children] == [list(range(1, 9))] * len(children)


def test_what_ended_before_there_was_a_population_is_no_member(tmp_path):
    """Its places are those of trials that rest: with those that never do, nothing would be left to begin."""
    options = {"storage": tmp_path / "study.db", "checkpoints": tmp_path / "folders"}
    wt.Study(SPACE, sampler="random", seed=0, **options).optimize(train, n_trials=10)
    study = wt.Study(SPACE, sampler="random", seed=0, scheduler=wt.Pbt(population=4, every=EVERY, last=LAST), **options)
    study.optimize(train, n_trials=60)
    assert study.stop_reason == ENDED and len(study.trials) > 14
    assert sum(not t.rests for t in study.trials) == 10 and sum(t.parent is None for t in study.trials) == 14
    check_lineages(study)
