"""Studies of Optuna that go on as ours: from the real thing, and from what only looks like it."""

import logging
import math
import sqlite3
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

import welltuned as wt
from welltuned.cli.app import app
from welltuned.storage import MemoryStorage
from welltuned.trial import Origin, Reason, State

# what looks like Optuna's


@dataclass
class FloatDistribution:
    low: float
    high: float
    log: bool = False
    step: float | None = None


@dataclass
class IntDistribution:
    low: int
    high: int
    log: bool = False
    step: int = 1


@dataclass
class CategoricalDistribution:
    choices: tuple


@dataclass
class IntLogUniformDistribution:
    """As Optuna 2 had it."""

    low: int
    high: int


@dataclass
class DiscreteUniformDistribution:
    low: float
    high: float
    q: float


@dataclass
class Frozen:
    number: int
    values: list | None
    params: dict
    distributions: dict
    state: object = "COMPLETE"
    intermediate_values: dict = field(default_factory=dict)
    user_attrs: dict = field(default_factory=dict)
    system_attrs: dict = field(default_factory=dict)
    datetime_start: datetime | None = None
    datetime_complete: datetime | None = None


UNIT = FloatDistribution(0.0, 1.0)


def frozen(number=0, values=(0.5,), x=0.5, distribution=UNIT, **others):
    return Frozen(number, None if values is None else list(values), {"x": x}, {"x": distribution}, **others)


def at(*time):
    """A time as Optuna has it: the clock on the wall."""
    return datetime(*time)  # noqa: DTZ001


def enum(name):
    return SimpleNamespace(name=name, value=1)


def test_a_list_of_trials_becomes_a_study_that_goes_on(caplog):
    began = at(2024, 5, 17, 12, 30, 0, 250_000)
    trials = [
        frozen(0, x=0.25, user_attrs={"epochs": 7, "host": "a"}, intermediate_values={3: 0.7, 1: 0.9}),
        frozen(1, x=0.5, state=enum("PRUNED"), intermediate_values={1: 0.8, 2: math.nan}),
        frozen(2, None, x=0.75, state=enum("FAIL")),
        frozen(3, x=0.1, datetime_start=began, datetime_complete=began + timedelta(seconds=90)),
        frozen(4, None, state=enum("RUNNING")),
        frozen(5, None, state=enum("WAITING")),
        frozen(6, None, state=enum("WAITING")),
    ]
    study = wt.from_optuna(trials, direction="maximize", seed=0)
    assert dict(study.directions) == {"value": "maximize"}
    assert [t.state for t in study.trials] == [State.COMPLETE, State.PRUNED, State.FAILED, State.COMPLETE]
    assert [t.params for t in study.trials] == [{"x": 0.25}, {"x": 0.5}, {"x": 0.75}, {"x": 0.1}]
    assert [t.value for t in study.trials] == [0.5, None, None, 0.5]
    assert all(t.origin is Origin.ADDED for t in study.trials)
    first, pruned, failed, timed = study.trials
    assert first.attributes == {"epochs": 7, "host": "a", "optuna_number": 0}
    assert [(r.step, r.metrics) for r in first.reports] == [(1, {"value": 0.9}), (3, {"value": 0.7})]
    assert [(r.step, r.metrics) for r in pruned.reports] == [(1, {"value": 0.8})]
    assert (failed.reason, failed.error) == (Reason.ERROR, "it failed in Optuna, which does not keep why")
    assert (timed.started, timed.seconds) == (began.timestamp(), 90.0)
    assert [r.getMessage() for r in caplog.records] == [
        "study 'study' is without what could not be taken over from Optuna: 1 reports that are not finite; "
        "1 trials that are running; 2 trials that are waiting"
    ]
    study.optimize(lambda t: t.suggest_float("x", 0.0, 1.0), n_trials=3, progress=False)
    assert [t.origin for t in study.trials].count(Origin.SAMPLER) == 3


@pytest.mark.parametrize("space", [None, {"x": (0.0, 1.0), "y": (0.0, 1.0)}], ids=["open", "space"])
def test_what_waits_is_enqueued(space, tmp_path, caplog):
    """It was left behind: who moved in the middle of a list of settings to try had to say the rest again."""
    asked = [{"x": 0.25, "y": 0.75}, {"x": 9.0, "y": 0.5}]
    waiting = [
        Frozen(i, None, {}, {}, "WAITING", system_attrs={"fixed_params": params}) for i, params in enumerate(asked, 1)
    ]
    done = Frozen(0, [0.5], {"x": 0.5, "y": 0.5}, {"x": UNIT, "y": UNIT})

    def objective(trial):
        return trial.suggest_float("x", 0.0, 1.0) + trial.suggest_float("y", 0.0, 1.0)

    path = tmp_path / "moved.db"
    study = wt.from_optuna([done, *waiting], space, storage=path, seed=0)
    assert "waiting" not in caplog.text
    assert ("trial 2: " in caplog.text) == (space is not None)  # without a space, the objective says so
    study.optimize(objective, n_trials=3, progress=False)
    added, first, *_ = study.trials
    assert (added.origin, first.origin, first.params) == (Origin.ADDED, Origin.ENQUEUED, asked[0])
    assert first.state is State.COMPLETE and len(study.trials) == 4
    assert len(wt.from_optuna([done, waiting[0]], space, storage=path).trials) == 4


@pytest.mark.parametrize("space", [None, {"x": (0.0, 1.0)}], ids=["open", "space"])
def test_what_waits_is_enqueued_once_in_a_noisy_study(space, tmp_path):
    """Such a study takes one configuration several times, and each import brought what was there already."""
    waiting = [Frozen(i, None, {}, {}, "WAITING", system_attrs={"fixed_params": {"x": 0.25}}) for i in range(2)]
    for _ in range(3):
        study = wt.from_optuna(waiting, space, storage=tmp_path / "moved.db", noisy=True)
    assert len(study.trials) == 2


@pytest.mark.parametrize(
    ("distribution", "value", "expected"),
    [
        (FloatDistribution(1e-5, 1e-1, log=True), 1e-3, wt.Float(1e-5, 1e-1, log=True)),
        (FloatDistribution(0.0, 1.0, step=0.1), 0.1 + 0.2, wt.Float(0.0, 1.0, step=0.1)),
        (IntDistribution(1, 9), 4, wt.Int(1, 9)),
        (IntDistribution(1, 9, step=2), 5, wt.Int(1, 9, step=2)),
        (IntDistribution(1, 64, log=True), 33, wt.Int(1, 64, log=True)),
        (IntLogUniformDistribution(1, 64), 33, wt.Int(1, 64, log=True)),
        (DiscreteUniformDistribution(0.0, 1.0, 0.25), 0.75, wt.Float(0.0, 1.0, step=0.25)),
        (CategoricalDistribution(("a", None, 1, 1.0, True)), None, wt.Categorical(["a", None, 1, 1.0, True])),
        (CategoricalDistribution(([64], [1, 2], {"k": [1]})), [1, 2], wt.Categorical([[64], [1, 2], {"k": [1]}])),
        (CategoricalDistribution(("a", "b", "a", "c")), "b", wt.Categorical(["a", "b", "c"])),
    ],
)
@pytest.mark.parametrize("kind", ["memory", "file"])
def test_distributions(distribution, value, expected, kind, tmp_path, caplog):
    storage = None if kind == "memory" else tmp_path / "study.db"
    study = wt.from_optuna([frozen(x=value, distribution=distribution)], storage=storage, seed=0)
    assert type(study.space["x"]) is type(expected)
    if kind == "memory":
        assert study.space["x"] == expected
        found = study.trials[0].params["x"]
        assert found == (pytest.approx(value, abs=1e-12) if type(value) is float else value)
        assert type(found) is type(value)
    assert not caplog.records
    study.optimize(lambda t: float(declare(t, distribution) is not None), n_trials=2, progress=False)
    assert [t.state for t in study.trials] == [State.COMPLETE] * 3
    assert study.space["x"] == expected  # what the objective declares is what Optuna's did
    assert study.history.complete.all()


def declare(trial, distribution):
    """Suggest the parameter as an objective of that study would."""
    low, high = (getattr(distribution, name, None) for name in ("low", "high"))
    if low is None:
        choices = list(distribution.choices)
        return trial.suggest_categorical("x", [c for i, c in enumerate(choices) if c != "a" or i == 0])
    kind = type(distribution).__name__
    log = getattr(distribution, "log", "Log" in kind)
    step = getattr(distribution, "step", getattr(distribution, "q", None))
    if "Int" in kind:
        return trial.suggest_int("x", low, high, log=log, step=step or 1)
    return trial.suggest_float("x", low, high, log=log, step=step)


def test_parameters_of_some_trials_and_ranges_that_differ():
    svm, tree, both = (CategoricalDistribution(c) for c in (("svm",), ("tree",), ("svm", "tree")))
    trials = [
        Frozen(0, [1.0], {"kind": "svm", "C": 10.0}, {"kind": svm, "C": FloatDistribution(1, 10)}),
        Frozen(1, [2.0], {"kind": "tree", "depth": 9}, {"kind": both, "depth": IntDistribution(1, 9)}),
        Frozen(2, [3.0], {"kind": "tree", "depth": 12}, {"kind": tree, "depth": IntDistribution(5, 12)}),
        Frozen(3, [4.0], {"kind": "svm", "C": 0.5}, {"kind": svm, "C": FloatDistribution(0.5, 5)}),
    ]
    study = wt.from_optuna(trials, seed=0)
    assert dict(study.space) == {
        "kind": wt.Categorical(["svm", "tree"]),
        "C": wt.Float(0.5, 10.0),
        "depth": wt.Int(1, 12),
    }
    assert [t.params for t in study.trials] == [t.params for t in trials]


def test_what_is_not_of_a_kind_counts_as_it_was_declared_last(caplog):
    """As where an objective declares it in another way; what does not fit any more is counted, with one reason."""
    trials = [
        frozen(0, x=0.0),
        frozen(1, x=0.5),
        frozen(2, x=0.6, distribution=FloatDistribution(0.01, 1.0, log=True)),
        frozen(3, x=2**60, distribution=IntDistribution(1, 2**61)),
    ]
    study = wt.from_optuna(trials, seed=0)
    assert study.space["x"] == wt.Float(0.01, 1.0, log=True)
    assert [t.attributes["optuna_number"] for t in study.trials] == [1, 2]
    assert len(caplog.records) == 1
    assert "2 trials that do not fit, such as trial 3: Int: high=" in caplog.text


@pytest.mark.parametrize(
    "other", [FloatDistribution(0.25, 1.0, step=0.25), FloatDistribution(0.25, 1.0, log=True), IntDistribution(1, 3)]
)
def test_what_was_declared_by_turns_counts_as_it_was_declared_last(other, caplog):
    """Also where that was said before, and with all the ranges that are of its kind."""
    low, high = FloatDistribution(0.0, 0.5), FloatDistribution(0.3, 2.0)
    stated = [(0.1, low), (1, other), (1.9, high), (0.1, low), (1, other), (0.2, low)]
    trials = [frozen(i, x=x, distribution=d) for i, (x, d) in enumerate(stated)]
    study = wt.from_optuna(trials, seed=0)
    assert study.space["x"] == wt.Float(0.0, 2.0)
    assert [t.params["x"] for t in study.trials] == [x for x, _ in stated]
    assert not caplog.records


@pytest.mark.parametrize(
    ("only", "distribution", "expected"),
    [
        (7, IntDistribution(1, 5), wt.Int(1, 7)),
        (1, IntDistribution(3, 7, step=2), wt.Int(1, 7, step=2)),
        (0.001, FloatDistribution(0.01, 0.1, log=True), wt.Float(0.001, 0.1, log=True)),
        (3, IntDistribution(1, 5), wt.Int(1, 5)),
        # those that have no place in it
        (2, IntDistribution(3, 7, step=2), wt.Int(3, 7, step=2)),
        (0.0, FloatDistribution(0.01, 0.1, log=True), wt.Float(0.01, 0.1, log=True)),
    ],
)
def test_a_range_of_one_value_is_united_with_others(only, distribution, expected):
    trials = [
        frozen(0, x=only, distribution=type(distribution)(only, only)),
        frozen(1, x=distribution.high, distribution=distribution),
    ]
    study = wt.from_optuna(trials, seed=0)
    assert study.space["x"] == expected
    fits = expected.low <= only <= expected.high
    assert [t.params["x"] for t in study.trials] == [only] * fits + [distribution.high]


def test_a_range_of_one_value_is_kept_and_not_searched():
    trial = Frozen(0, [1.0], {"x": 0.5, "k": 3}, {"x": UNIT, "k": IntDistribution(3, 3)})
    study = wt.from_optuna([trial], seed=0)
    assert dict(study.trials[0].params) == {"x": 0.5, "k": 3}
    assert list(study.space) == ["x"]
    study.optimize(lambda t: t.suggest_float("x", 0, 1) + t.suggest_int("k", 3, 3), n_trials=2, progress=False)
    assert [dict(t.params)["k"] for t in study.trials] == [3, 3, 3]


def test_values_that_are_not_finite_are_failures():
    study = wt.from_optuna([frozen(0, [math.inf]), frozen(1)], seed=0)
    assert [(t.state, t.reason) for t in study.trials] == [(State.FAILED, Reason.NAN), (State.COMPLETE, None)]


def test_constraints_keep_their_meaning():
    stated = [(0.1, 2.0), (0.5, 0.0)]
    trials = [frozen(i, [x], x, system_attrs={"constraints": (c, -1.0)}) for i, (x, c) in enumerate(stated)]
    study = wt.from_optuna(trials, seed=0)
    assert [t.constraints for t in study.trials] == [{"constraint_0": c, "constraint_1": -1.0} for _, c in stated]
    assert study.best.params == {"x": 0.5}


def test_a_constraint_that_is_infinite_is_violated():
    """Without it, the trial would be the best."""
    stated = [(0.1, math.inf), (0.5, -1.0), (0.7, -math.inf)]
    trials = [frozen(i, [x], x, system_attrs={"constraints": (c,)}) for i, (x, c) in enumerate(stated)]
    study = wt.from_optuna(trials, seed=0)
    assert [(t.state, t.reason) for t in study.trials] == [
        (State.FAILED, Reason.INFEASIBLE),
        *[(State.COMPLETE, None)] * 2,
    ]
    assert study.trials[0].error == "the constraints were {'constraint_0': inf}"
    assert study.best.params == {"x": 0.5}


def test_constraints_that_have_names():
    """As Optuna has them since its fifth release: each is an attribute of its own."""
    stated = [(0.1, 0.25), (0.5, -0.5)]
    attributes = [{"constraints:latency": c, "constraints:a:b": -1.0, "constraints_of": "x"} for _, c in stated]
    trials = [frozen(i, [x], x, system_attrs=attributes[i]) for i, (x, _) in enumerate(stated)]
    study = wt.from_optuna(trials, seed=0)
    assert [t.constraints for t in study.trials] == [{"latency": c, "a:b": -1.0} for _, c in stated]
    assert study.best.params == {"x": 0.5}


@pytest.mark.parametrize("names", [None, ["loss", "speed"]])
def test_several_objectives(names):
    source = SimpleNamespace(
        trials=[frozen(0, [0.5, 2.0]), frozen(1, [0.25, 1.0], x=0.25)],
        directions=[enum("MINIMIZE"), enum("MAXIMIZE")],
        metric_names=names,
        study_name="both",
        user_attrs={},
    )
    study = wt.from_optuna(source, seed=0)
    assert dict(study.directions) == dict(zip(names or ["value_0", "value_1"], ["minimize", "maximize"], strict=True))
    assert [t.values for t in study.trials] == [(0.5, 2.0), (0.25, 1.0)]
    named = wt.from_optuna(source, direction={"a": "minimize", "b": "maximize"}, seed=0)
    assert named.objectives == ("a", "b")
    with pytest.raises(wt.InvalidValue, match=r"the study has \['minimize', 'maximize'\], in this order"):
        wt.from_optuna(source, direction={"a": "maximize", "b": "minimize"})


def test_a_space_of_ones_own(caplog):
    """What fits it is taken, as by add; the rest is counted."""
    study = wt.from_optuna([frozen(0, x=0.1), frozen(1, x=0.9)], {"x": (0.5, 2.0)}, seed=0)
    assert [t.params for t in study.trials] == [{"x": 0.9}]
    assert "1 trials that do not fit, such as trial 0: parameter 'x': 0.1 is outside 0.5 … 2.0" in caplog.text
    study.optimize(lambda t: t["x"], n_trials=3, progress=False)
    assert len(study.trials) == 4


def test_done_again_it_adds_what_is_new(tmp_path, caplog):
    path = tmp_path / "study.db"
    trials = [frozen(i, x=i / 250, datetime_start=at(2024, 1, 1)) for i in range(250)]
    assert len(wt.from_optuna(trials[:200], storage=path, name="mlp").trials) == 200
    grown = wt.Study(storage=path, name="mlp")
    grown.optimize(lambda t: t.suggest_float("x", 0.0, 3.0), n_trials=2, progress=False)
    again = wt.from_optuna(trials, storage=path, name="mlp")
    assert [t.attributes.get("optuna_number") for t in again.trials] == [*range(200), None, None, *range(200, 250)]
    assert again.space["x"] == wt.Float(0.0, 3.0)  # what the objective declared since is kept
    other = [frozen(i, x=i / 250, datetime_start=at(2024, 2, 2)) for i in range(3)]
    assert len(wt.from_optuna(other, storage=path, name="mlp").trials) == 255
    assert not [r for r in caplog.records if "no space yet" in r.getMessage()]
    reopened = wt.Study(storage=path, name="mlp")
    assert reopened.coordinator.open_space
    assert len(reopened.trials) == 255


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone cannot be set here")
def test_done_again_in_another_time_zone_it_adds_what_is_new(monkeypatch):
    """As in a container, whose clock is often in UTC: Optuna's times do not say where they were taken."""
    storage = MemoryStorage()
    trials = [frozen(i, x=i / 4, datetime_start=at(2024, 1, 1, 12, 7, i, 123_457 * i)) for i in range(4)]
    trials.append(frozen(4))
    try:
        for zone in ("UTC", "Asia/Kathmandu", "America/St_Johns", "Pacific/Kiritimati"):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            assert len(wt.from_optuna(trials, storage=storage).trials) == 5
        # of a study that was made anew within the day
        anew = [
            frozen(0, x=0.3, datetime_start=trials[0].datetime_start + timedelta(minutes=15, microseconds=7)),
            frozen(1, [0.75], x=0.3, datetime_start=trials[1].datetime_start + timedelta(minutes=30)),
        ]
        assert len(wt.from_optuna(anew, storage=storage).trials) == 7
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("what", "parts"),
    [
        ({}, [100, 30]),
        ({"user_attrs": {"log": "x" * (1 << 18)}}, [15] * 8 + [10]),
        ({"intermediate_values": dict.fromkeys(range(2500), 1.0)}, [20] * 6 + [10]),
    ],
)
def test_no_request_is_larger_than_a_server_takes(what, parts):
    class Counting(MemoryStorage):
        sizes = []

        def add(self, study, trials, **others):
            self.sizes = [*self.sizes, len(trials)]
            return super().add(study, trials, **others)

    storage = Counting()
    trials = [frozen(i, x=i / 130, **what) for i in range(130)]
    assert len(wt.from_optuna(trials, storage=storage).trials) == 130
    assert storage.sizes == parts


def test_nothing_is_said_of_other_studies_in_the_storage(caplog):
    storage = MemoryStorage()
    wt.Study({"y": (0.0, 1.0)}, storage=storage, name="other")
    wt.from_optuna([frozen()], storage=storage, name="mlp")
    assert not caplog.records


def test_trials_without_parameters_are_counted(caplog):
    study = wt.from_optuna([Frozen(0, [1.0], {}, {})])
    assert not study.trials
    assert "1 trials without parameters" in caplog.text
    assert not wt.from_optuna([]).trials


@pytest.mark.parametrize(
    ("source", "options", "error", "says"),
    [
        (3, {}, wt.InvalidType, "3 is neither a study of Optuna's nor a list of its trials"),
        ("optuna.db", {}, wt.InvalidType, "welltuned import"),
        ([3], {}, wt.InvalidType, "3 is no trial of Optuna's; it has no 'state'"),
        ([frozen(state="PAUSED")], {}, wt.InvalidValue, "trial 0 has the unknown state 'paused'"),
        ([frozen(values=[1.0, 2.0])], {}, wt.InvalidValue, r"has the values \[1.0, 2.0\].*name as many in direction="),
        ([frozen()], {"direction": "up"}, wt.InvalidValue, "'up' is not one of"),
        ([frozen()], {"name": "a/b"}, wt.InvalidValue, "no slash"),
        ([frozen()], {"nonsense": 1}, TypeError, "nonsense"),
    ],
)
def test_what_is_not_optunas_is_refused(source, options, error, says):
    storage = MemoryStorage()
    with pytest.raises(error, match=says):
        wt.from_optuna(source, storage=storage, **options)
    assert storage.studies() == []


def test_a_study_of_ours_is_none_of_optunas():
    study = wt.Study({"x": (0.0, 1.0)}, seed=0)
    study.add({"x": 0.5}, 1.0)
    with pytest.raises(wt.InvalidType, match="no trial of Optuna's"):
        wt.from_optuna(study)


def test_reading_a_database_says_what_it_needs(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "optuna", None)
    result = CliRunner().invoke(app, ["import", str(tmp_path / "optuna.db")])
    assert isinstance(result.exception, wt.MissingDependency)
    assert "pip install 'welltuned[optuna]'" in str(result.exception)


# the real thing


@pytest.fixture
def optuna():
    found = pytest.importorskip("optuna")
    found.logging.set_verbosity(found.logging.ERROR)
    return found


def objective(trial):
    kind = trial.suggest_categorical("kind", ["linear", "deep", None])
    rate = trial.suggest_float("rate", 1e-5, 1e-1, log=True)
    units = trial.suggest_int("units", 8, 64, step=8) if kind == "deep" else 0
    share = trial.suggest_float("share", 0.0, 1.0, step=0.25)
    trial.set_user_attr("epochs", [1, {"a": None}])
    for step in range(3):
        trial.report(rate + step, step)
    return abs(rate - 1e-3) + units / 100 + share


def by_turns(optuna):
    """Every third trial is pruned, and one fails."""

    def act(trial):
        value = objective(trial)
        if trial.number % 3 == 2:
            raise optuna.TrialPruned
        if trial.number == 4:
            raise ArithmeticError("no luck today")
        return value

    return act


def made(optuna, storage=None, name="mlp", n=12):
    study = optuna.create_study(study_name=name, storage=storage, sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(by_turns(optuna), n_trials=n, catch=ArithmeticError)
    return study


@pytest.fixture
def closing(optuna):
    """Open databases of Optuna's, whose connections are closed in the end."""
    opened = []

    def closing(url):
        opened.append(optuna.storages.RDBStorage(url))
        return opened[-1]

    yield closing
    for storage in opened:
        storage.remove_session()
        storage.engine.dispose()


def same_trials(study, source):
    states = {"COMPLETE": State.COMPLETE, "PRUNED": State.PRUNED, "FAIL": State.FAILED}
    assert len(study.trials) == len(source.trials)
    for ours, theirs in zip(study.trials, source.trials, strict=True):
        assert ours.state is states[theirs.state.name]
        assert dict(ours.params) == theirs.params
        assert {k: type(v) for k, v in ours.params.items()} == {k: type(v) for k, v in theirs.params.items()}
        assert ours.value == (theirs.value if theirs.state.name == "COMPLETE" else None)
        assert {r.step: r.metrics["value"] for r in ours.reports} == theirs.intermediate_values
        origin = {"optuna_study": source.study_name, "optuna_number": theirs.number}
        assert ours.attributes == {**theirs.user_attrs, **origin}
        assert ours.started == theirs.datetime_start.timestamp()
        assert ours.seconds == theirs.duration.total_seconds()


def test_a_study_in_memory_goes_on(optuna, caplog):
    source = made(optuna)
    study = wt.from_optuna(source, seed=0)
    same_trials(study, source)
    assert study.name == "mlp"
    assert study.best.params == source.best_params
    assert not caplog.records
    assert dict(study.space) == {
        "kind": wt.Categorical(["linear", "deep", None]),
        "rate": wt.Float(1e-5, 1e-1, log=True),
        "units": wt.Int(8, 64, step=8),
        "share": wt.Float(0.0, 1.0, step=0.25),
    }
    with caplog.at_level(logging.INFO):
        # the objective stays as it is, and the search begins with what is known
        study.optimize(lambda t: t.set_user_attr("a", 1) or objective(t), n_trials=6, progress=False)
    assert "uses bayes from trial 12 on" in caplog.text
    assert [t.origin for t in study.trials].count(Origin.SAMPLER) == 6
    assert min(t.value for t in study.trials[12:]) <= study.history.trials[0].value
    assert study.replay()


def test_several_objectives_of_the_real_thing(optuna):
    source = optuna.create_study(directions=["minimize", "maximize"], sampler=optuna.samplers.RandomSampler(seed=0))
    source.optimize(lambda t: (t.suggest_float("x", 0, 1), t.suggest_float("y", 0, 1)), n_trials=8)
    source.set_user_attr("who", "me")
    study = wt.from_optuna(source, direction={"loss": "minimize", "speed": "maximize"}, seed=0)
    assert [t.values for t in study.trials] == [tuple(t.values) for t in source.trials]
    assert sorted(t.number for t in study.best_trials) == sorted(t.number for t in source.best_trials)


def test_constraints_of_the_real_thing(optuna):
    """The best one is the best one there."""
    if not hasattr(optuna.trial.Trial, "set_constraint"):
        pytest.skip("this release of Optuna knows no names of constraints")
    source = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    def limited(trial):
        x = trial.suggest_float("x", 0, 1)
        trial.set_constraint("latency", 0.5 - x)
        return x

    source.optimize(limited, n_trials=10)
    study = wt.from_optuna(source, seed=0)
    assert study.best.params == source.best_params
    assert [t.constraints for t in study.trials] == [{"latency": 0.5 - t.params["x"]} for t in source.trials]


def test_a_file_is_imported_from_the_command_line(optuna, closing, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = made(optuna, closing("sqlite:///optuna.db"))
    before = (tmp_path / "optuna.db").read_bytes()
    result = CliRunner().invoke(app, ["import", "optuna.db", "--storage", "study.db"])
    assert result.exit_code == 0, result.output
    assert result.output == (
        "study 'mlp' has 12 trials from elsewhere: 7 complete, 4 pruned, 1 failed\n"
        "go on with Study(storage='study.db', name='mlp')\n"
    )
    assert (tmp_path / "optuna.db").read_bytes() == before  # it was only read
    same_trials(wt.Study(storage="study.db", name="mlp"), source)
    source.optimize(objective, n_trials=2)
    source.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.WAITING))
    again = CliRunner().invoke(app, ["import", "sqlite:///optuna.db", "--study", "mlp", "--storage", "study.db"])
    assert "has 14 trials" in again.output
    result = CliRunner().invoke(app, ["import", "optuna.db", "--name", "other", "--storage", "study.db"])
    assert "study 'other' has 14 trials" in result.output


def test_a_journal_is_imported(optuna, tmp_path):
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    source = made(optuna, JournalStorage(JournalFileBackend(str(tmp_path / "journal.log"))), n=4)
    before = (tmp_path / "journal.log").read_bytes()
    result = CliRunner().invoke(app, ["import", str(tmp_path / "journal.log"), "--storage", str(tmp_path / "study.db")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "journal.log").read_bytes() == before
    same_trials(wt.Study(storage=tmp_path / "study.db", name="mlp"), source)


def test_studies_are_named(optuna, closing, tmp_path):
    path = tmp_path / "optuna.db"
    for name in ("one", "two"):
        made(optuna, closing(f"sqlite:///{path}"), name, n=1)
    for args, says in (
        ((str(path),), r"holds 2 studies of Optuna's: ['one', 'two']; name one of them"),
        ((str(path), "--study", "three"), r"has no study 'three'; it has ['one', 'two']"),
    ):
        result = CliRunner().invoke(app, ["import", *args, "--storage", str(tmp_path / "study.db")])
        assert isinstance(result.exception, wt.InvalidValue)
        assert says in str(result.exception)


def test_what_is_no_database_of_optunas_is_left_alone(optuna, tmp_path):
    ours, empty, text = (tmp_path / name for name in ("ours.db", "empty.db", "text.txt"))
    wt.Study({"x": (0.0, 1.0)}, storage=ours)
    empty.touch()
    text.write_text("not a database")
    for path, says in (
        (ours, "is no storage of Optuna's"),
        (empty, "is no storage of Optuna's"),
        (text, "is no storage of Optuna's"),
        (tmp_path / "none.db", "cannot be read: No such file"),
        (tmp_path, "cannot be read: Is a directory"),
    ):
        for address in (str(path), f"sqlite:///{path}"):
            result = CliRunner().invoke(app, ["import", address, "--storage", str(tmp_path / "study.db")])
            assert isinstance(result.exception, wt.StorageError), result.output
            assert says in str(result.exception)
    assert not (tmp_path / "none.db").exists()
    db = sqlite3.connect(ours)
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    db.close()
    assert "studies" not in tables
    result = CliRunner().invoke(app, ["import", "mystery://me:secret@host/base"])
    assert isinstance(result.exception, wt.StorageError)
    assert "secret" not in str(result.exception)


@pytest.mark.parametrize("name", ["a?b.db", "a#b.db", "100%.db", "a%20b.db", "ä b.db"])
@pytest.mark.parametrize("address", ["{}", "sqlite:///{}", "sqlite+pysqlite:///{}"])
def test_a_file_may_have_any_name(optuna, closing, tmp_path, monkeypatch, name, address):
    monkeypatch.chdir(tmp_path)
    made(optuna, closing("sqlite:///optuna.db"), n=2)
    (tmp_path / "optuna.db").rename(name)
    result = CliRunner().invoke(app, ["import", address.format(name), "--storage", "study.db"])
    assert result.exit_code == 0, result.exception
    assert "has 2 trials" in result.output
    assert {p.name for p in tmp_path.iterdir()} == {name, "study.db", "study.db-wal", "study.db-shm"}


def test_a_file_that_is_not_there_is_not_made_by_a_driver(optuna, tmp_path):
    result = CliRunner().invoke(app, ["import", f"sqlite+pysqlite:///{tmp_path / 'none.db'}"])
    assert "cannot be read: No such file" in str(result.exception)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("UPDATE trial_params SET distribution_json = '{bad'", "Expecting property name"),
        ("DROP TABLE trial_params", "no such table: trial_params"),
        ("UPDATE alembic_version SET version_num = 'v0.9.0.a'", "optuna storage upgrade"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_line(optuna, closing, tmp_path, damage, says):
    path, storage = tmp_path / "optuna.db", tmp_path / "study.db"
    made(optuna, closing(f"sqlite:///{path}"), n=2)
    db = sqlite3.connect(path)
    db.execute(damage)
    db.commit()
    db.close()
    result = CliRunner().invoke(app, ["import", str(path), "--storage", str(storage)])
    assert isinstance(result.exception, wt.StorageError)
    assert f"{path} cannot be read as a storage of Optuna's" in str(result.exception)
    assert says in str(result.exception) and "\n" not in str(result.exception)
    assert not storage.exists()


def test_a_server_that_does_not_answer_is_named_without_its_password(optuna):
    pytest.importorskip("psycopg")
    result = CliRunner().invoke(app, ["import", "postgresql+psycopg://me:sesame@127.0.0.1:9/base"])
    assert isinstance(result.exception, wt.StorageError)
    assert "127.0.0.1" in str(result.exception) and "refused" in str(result.exception)
    assert "sesame" not in str(result.exception)


def test_no_password_of_a_storage_is_shown(optuna, closing, tmp_path, monkeypatch):
    made(optuna, closing(f"sqlite:///{tmp_path / 'optuna.db'}"), n=2)
    monkeypatch.setattr("welltuned.study.optuna.open_storage", lambda _: MemoryStorage())
    storage = "postgresql://me:sesame@host/base"
    result = CliRunner().invoke(app, ["import", str(tmp_path / "optuna.db"), "--storage", storage])
    assert result.output.endswith("go on with Study(storage='postgresql://…@host/base', name='mlp')\n")


def test_importing_loads_no_optuna():
    """A function that takes a study of Optuna's does not load it."""
    import subprocess

    code = "import welltuned as wt, sys; wt.from_optuna([]); print('optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
