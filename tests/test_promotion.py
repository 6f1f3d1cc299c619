"""D20: trials that are paused at rungs, rest with their checkpoints, and go on when they are promoted."""

import random
import threading
from collections import Counter

import pytest

import welltuned as wt
from welltuned.trial import State

LAST = 27
RUNGS = (3, 9)


def value(x, step):
    return (x - 0.3) ** 2 + 1.0 / step


def train(trial):
    """Go on behind the last step of the checkpoint; leave a line there for each step that is made."""
    log = trial.checkpoint / "steps.txt"
    done = len(log.read_text().splitlines()) if log.exists() else 0
    for step in range(done + 1, LAST + 1):
        with log.open("a") as file:
            file.write(f"{step}\n")
        trial.report(value(trial["x"], step), step=step)
        if trial.should_stop():
            trial.prune()
    return value(trial["x"], LAST)


def steps_of(study, folder):
    return {t.number: (next(folder.glob(f"*/{t.number}")) / "steps.txt").read_text().split() for t in study.trials}


@pytest.mark.parametrize("scheduler", [wt.Asha(last=LAST), wt.Asha(), "hyperband"], ids=["asha", "learns", "hyperband"])
@pytest.mark.parametrize("workers", [1, 2])
def test_d20_a_promoted_trial_runs_only_the_increment(tmp_path, scheduler, workers):
    """Nobody makes a step twice; all rest at a rung or have come to the end; the best third goes on from each."""
    study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0, scheduler=scheduler, checkpoints=tmp_path)
    study.optimize(train, n_trials=40, workers=workers)
    trials = study.trials
    assert len(trials) == 40 and {t.state for t in trials} == {State.COMPLETE, State.PAUSED}
    for number, steps in steps_of(study, tmp_path).items():
        reported = [r.step for r in trials[number].reports]
        assert [int(s) for s in steps] == reported == list(range(1, len(reported) + 1))
    reached = Counter(len(t.reports) for t in trials)
    assert set(reached) <= {*RUNGS, LAST}
    assert all(t.attempts == 1 for t in trials)
    assert study.best.value == min(value(t.params["x"], LAST) for t in trials)
    assert sum(len(t.reports) for t in trials) < 0.6 * 40 * LAST


def test_d20_every_rung_entry_takes_part(tmp_path):
    """In the end the best third of all that came to a rung, late ones too, has gone on from there."""
    study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=3, scheduler=wt.Asha(last=LAST), checkpoints=tmp_path)
    study.optimize(train, n_trials=60)
    for rung, following in zip(RUNGS, (*RUNGS[1:], LAST), strict=True):
        there = sorted((min(value(t.params["x"], rung), 9e9), t) for t in study.trials if len(t.reports) >= rung)
        best = [t for _, t in there[: len(there) // 3]]
        assert all(len(t.reports) >= following for t in best)
        early = [t for t in best if t.number < 20]
        assert early and len(early) < len(best)


class Watched:
    """A scheduler that tells what was promoted, and whether there was something to promote when a new trial began."""

    def __init__(self):
        self.inner, self.answers, self.lock = wt.Asha(last=LAST), [], threading.Lock()

    def decide(self, history, number, report):
        return self.inner.decide(history, number, report)

    def promote(self, history):
        with self.lock:
            self.answers.append(self.inner.promote(history))
        return self.answers[-1]


@pytest.mark.parametrize("n_trials", [2, 25])
def test_d20_nobody_idles_while_a_promotion_is_possible(tmp_path, n_trials):
    """A new trial begins only where none is to be promoted, and so does the end of the study."""
    scheduler, begun = Watched(), []

    def objective(trial):
        if not trial.reports:
            begun.append(scheduler.answers[-1])
        return train(trial)

    study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=1, scheduler=scheduler, checkpoints=tmp_path)
    study.optimize(objective, n_trials=n_trials)
    assert begun == [None] * n_trials
    assert scheduler.inner.promote(study.history) is None
    assert study.stop_reason.startswith("budget")
    assert study.best.state is State.COMPLETE


def test_more_trials_promote_old_ones(tmp_path):
    """What rests when a study is over goes on when there are more to compare it with."""
    study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0, scheduler=wt.Asha(last=LAST), checkpoints=tmp_path)
    study.optimize(train, n_trials=10)
    before = {t.number: len(t.reports) for t in study.trials}
    study.optimize(train, n_trials=40)
    assert any(len(study.trials[number].reports) > steps for number, steps in before.items())


@pytest.mark.parametrize("sampler", ["random", "bayes"])
@pytest.mark.parametrize("seed", range(3))
def test_interrupts_change_nothing(tmp_path, sampler, seed):
    """A run that is interrupted in the middle of trainings, and between report and pause, ends as one that is not.

    What the process was told, and could not store, is decided again.
    """
    chance = random.Random(seed)

    def run(path, may_break):
        def objective(trial):
            done = len(trial.reports)
            for step in range(done + 1, LAST + 1):
                if may_break and chance.random() < 0.03:
                    raise KeyboardInterrupt
                trial.report(value(trial["x"], step), step=step)
                if may_break and chance.random() < 0.03:
                    raise KeyboardInterrupt
                if trial.should_stop():
                    trial.prune()
            return value(trial["x"], LAST)

        for attempt in range(200):
            study = wt.Study(
                {"x": (0.0, 1.0)}, storage=path, sampler=sampler, seed=seed, scheduler=wt.Asha(last=LAST)
            )
            try:
                study.optimize(objective, n_trials=20)
            except KeyboardInterrupt:
                continue
            return study.trials, attempt
        raise AssertionError("never came to its end")

    whole, _ = run(str(tmp_path / "whole.db"), may_break=False)
    cut, attempts = run(str(tmp_path / "cut.db"), may_break=True)
    assert attempts >= 3
    assert [(t.params, t.state, t.reports, t.value) for t in cut] == [
        (t.params, t.state, t.reports, t.value) for t in whole
    ]


def test_what_a_trial_had_before_is_kept(tmp_path):
    """Seconds add up, and notes of an earlier part stay."""

    def objective(trial):
        done = len(trial.reports)
        trial.note(**{f"from_{done}": True})
        for step in range(done + 1, LAST + 1):
            trial.report(value(trial["x"], step), step=step)
            if trial.should_stop():
                return 0.0
        return value(trial["x"], LAST)

    path = str(tmp_path / "study.db")
    study = wt.Study({"x": (0.0, 1.0)}, storage=path, sampler="random", seed=0, scheduler=wt.Asha(last=LAST))
    seconds = {}
    study.optimize(objective, n_trials=12, callbacks=[lambda _, t: seconds.setdefault(t.number, []).append(t.seconds)])
    resumed = wt.Study(storage=path).trials[1]
    assert [r.step for r in resumed.reports] == list(range(1, RUNGS[1] + 1))
    assert resumed.attributes == {"from_0": True, "from_3": True}
    assert seconds[1][0] < seconds[1][1] == resumed.seconds


def test_ask_and_tell(tmp_path):
    """A trial that was told to stop rests; asking again gives it back, with its reports, once it is promoted."""
    study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0, n_trials=9, scheduler=wt.Asha(last=LAST))
    levels, met = {0: 0.5, 1: 0.1, 2: 0.9}, []
    for _ in range(3):
        trial = study.ask()
        trial.report(levels[trial.number], step=3)
        assert trial.should_stop()
        met.append(study.tell(trial, state="pruned").state)
    assert met == [State.PAUSED] * 3
    promoted = study.ask()
    assert (promoted.number, [r.step for r in promoted.reports]) == (1, [3])
    assert study.tell(promoted, 0.05).state is State.COMPLETE
    assert study.ask().number == 3


def test_who_tells_need_not_be_who_was_told_to_stop(tmp_path):
    """A server may be restarted in between."""
    path = str(tmp_path / "study.db")

    def opened():
        return wt.Study({"x": (0.0, 1.0)}, storage=path, sampler="random", seed=0, scheduler=wt.Asha(last=LAST))

    study = opened()
    first, second = study.ask(), study.ask()
    first.report(0.5, step=3)
    second.report(0.1, step=2)
    assert first.should_stop() and not second.should_stop()
    assert opened().tell(first.number, state="pruned").state is State.PAUSED
    assert opened().tell(second.number, state="pruned").state is State.PRUNED


def test_what_another_process_has_claimed_since_is_not_promoted(tmp_path):
    """By the token alone, it would be taken from it: whoever looks again after it decided sees the new one."""
    path = str(tmp_path / "study.db")
    one, other = (
        wt.Study({"x": (0.0, 1.0)}, storage=path, sampler="random", seed=0, scheduler=wt.Asha(last=LAST))
        for _ in range(2)
    )
    for trial, level in zip(one.ask(3), (0.5, 0.1, 0.9), strict=True):
        trial.report(level, step=3)
        one.tell(trial, state="pruned")
    promoted = one.ask()
    assert other.trials[promoted.number].state is State.RUNNING
    assert not other.coordinator.ledger.resume(promoted.number)
    assert one.tell(promoted, 0.1).state is State.COMPLETE


@pytest.mark.parametrize("size", [2, 5])
def test_an_exhausted_space_counts_as_a_spent_budget(size):
    """No new trial can begin: the best of those that rest goes on to the end, and is not stopped on the way."""
    parts = []

    def objective(trial):
        parts.append(trial.number)
        for step in range(len(trial.reports) + 1, LAST + 1):
            trial.report(value(trial["x"], step), step=step)
            if trial.should_stop():
                trial.prune()
        return value(trial["x"], LAST)

    study = wt.Study({"x": [n / 10 for n in range(size)]}, sampler="random", seed=0, scheduler=wt.Asha(last=LAST))
    study.optimize(objective, n_trials=10)
    assert study.stop_reason.startswith("space exhausted")
    assert len(study.trials) == size and len(parts) <= size + 2
    assert study.best.params["x"] == min((n / 10 for n in range(size)), key=lambda x: value(x, LAST))


def test_asking_goes_on_where_the_space_is_exhausted():
    study = wt.Study({"x": [0.1, 0.2]}, sampler="random", seed=0, scheduler=wt.Asha(last=LAST))
    for _ in range(2):
        trial = study.ask()
        trial.report(trial["x"], step=3)
        assert study.tell(trial, state="pruned").state is State.PAUSED
    promoted = study.ask()
    assert promoted["x"] == 0.1 and promoted.reports
    promoted.report(0.1, step=9)
    assert not promoted.should_stop()
    study.tell(promoted, 0.1)
    with pytest.raises(wt.StudyStopped, match="every configuration has been tried"):
        study.ask()


def test_paused_trials_of_open_spaces_are_not_proposed_again():
    """The same choices, with others that this branch does not ask for, would be the same trial again."""

    def objective(trial):
        branch = trial.suggest_categorical("branch", ["a", "b", "c", "d"])
        x = {"a": 0.0, "b": 0.1, "c": 0.2, "d": 0.3}[branch]
        if branch == "a":
            x += trial.suggest_categorical("only_of_a", [0.5, 0.6])
        for step in range(len(trial.reports) + 1, LAST + 1):
            trial.report(value(x, step), step=step)
            if trial.should_stop():
                trial.prune()
        return value(x, LAST)

    study = wt.Study(sampler="random", seed=0, scheduler=wt.Asha(last=LAST))
    study.optimize(objective, n_trials=30)
    found = [tuple(sorted(t.params.items())) for t in study.trials]
    assert len(found) == len(set(found)) == 5


def test_the_gradient_search_does_not_wait_for_paused_trials():
    """What one at rest would reach is known as well as that of a pruned one, and it may never go on."""

    def objective(trial):
        distance = sum((trial[name] - 0.3) ** 2 for name in trial)
        for step in range(len(trial.reports) + 1, LAST + 1):
            trial.report(distance + 1.0 / step, step=step)
            if trial.should_stop():
                trial.prune()
        return distance + 1.0 / LAST

    space = dict.fromkeys("abcd", (0.0, 1.0))
    study = wt.Study(space, sampler="gradient", seed=0, scheduler=wt.Asha(last=LAST))
    study.optimize(objective, n_trials=30)
    assert study.best.value - 1.0 / LAST < 1e-3


def test_paused_trials_count_as_settled_without_a_scheduler_that_promotes(tmp_path):
    """A deterministic run would wait for them for ever."""
    path = str(tmp_path / "study.db")
    wt.Study({"x": (0.0, 1.0)}, storage=path, sampler="random", seed=0, scheduler=wt.Asha(last=LAST)).optimize(
        train, n_trials=4
    )
    study = wt.Study(storage=path, scheduler="none")
    assert any(t.state is State.PAUSED for t in study.trials)
    study.optimize(train, n_trials=6, deterministic=True, timeout=20)
    assert len(study.trials) == 6 and study.stop_reason.startswith("budget")


def test_the_log_says_that_trials_are_paused(tmp_path, caplog):
    """And not what an executor makes of one that was told to stop."""
    study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0, scheduler=wt.Asha(last=LAST), checkpoints=tmp_path)
    with caplog.at_level("INFO", "welltuned"):
        study.optimize(train, n_trials=6)
    assert sum(" paused: " in r.getMessage() for r in caplog.records) >= 3 and " pruned: " not in caplog.text


def test_what_has_come_to_its_end_is_complete(caplog):
    """An objective that never asks whether to stop makes whole trainings; their results count, and it is told."""
    study, ran = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0, scheduler="asha"), []

    def objective(trial):
        ran.append(trial.number)
        for step in range(1, LAST + 1):
            trial.report(value(trial["x"], step), step=step)
        return value(trial["x"], LAST)

    study.optimize(objective, n_trials=8)
    assert {t.state for t in study.trials} == {State.COMPLETE} and ran == list(range(8))
    assert study.best.value == min(t.value for t in study.trials)
    assert caplog.text.count("should_stop") == 1


def test_what_fails_does_not_rest():
    study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0, scheduler=wt.Asha(last=LAST))

    def objective(trial):
        for step in range(1, LAST + 1):
            trial.report(value(trial["x"], step), step=step)
        raise ValueError("no luck")

    study.optimize(objective, n_trials=3)
    assert [t.state for t in study.trials] == [State.FAILED] * 3


def test_what_cannot_be_repeated_is_refused():
    study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0, scheduler="asha")
    with pytest.raises(wt.InvalidValue, match="deterministic=True"):
        study.optimize(lambda trial: 0.0, n_trials=3, deterministic=True)
    with pytest.raises(wt.InvalidValue, match="replay"):
        study.replay()


def test_paused_trials_are_not_replayed_without_their_scheduler_either(tmp_path):
    """What is proposed differs from what was, though nobody has changed anything."""
    path = str(tmp_path / "study.db")
    study = wt.Study({"x": (0.0, 1.0)}, storage=path, sampler="random", seed=0, scheduler=wt.Asha(last=LAST))
    study.optimize(train, n_trials=4)
    with pytest.raises(wt.InvalidValue, match="paused"):
        wt.Study(storage=path, scheduler="none").replay()


@pytest.mark.parametrize("scheduler", [wt.Asha, wt.Hyperband])
@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"factor": 1}, wt.InvalidValue),
        ({"factor": 2.5}, wt.InvalidType),
        ({"last": 0}, wt.InvalidValue),
        ({"last": True}, wt.InvalidType),
        ({"rungs": 0}, wt.InvalidValue),
    ],
)
def test_settings_are_checked(scheduler, settings, error):
    (name, given), *_ = settings.items()
    with pytest.raises(error, match=f"{scheduler.__name__}: {name}={given!r}"):
        scheduler(**settings)


@pytest.mark.parametrize(
    ("first", "last", "steps"), [(1, 27, (3, 9)), (0, 26, (2, 8)), (1, 3, (1,)), (100, 900, (100, 300)), (1, 1, ())]
)
def test_rungs(first, last, steps):
    assert wt.Asha().steps(last, first) == steps


def test_nothing_is_paused_before_a_training_has_ended():
    """Where its length is not given, and the first one tells it."""
    study = wt.Study({"x": (0.0, 1.0)}, sampler="random", seed=0, scheduler="asha")
    lengths = []

    def objective(trial):
        for step in range(len(trial.reports) + 1, LAST + 1):
            trial.report(value(trial["x"], step), step=step)
            if trial.should_stop():
                break
        lengths.append(step)
        return value(trial["x"], step)

    study.optimize(objective, n_trials=4)
    assert lengths[0] == LAST and lengths[1] == RUNGS[0]
