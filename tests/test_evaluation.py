"""Whatever an objective returns or raises becomes a record; the live trial is a mapping that reports and suggests."""

from __future__ import annotations

import decimal
import fractions
import json
import math

import numpy as np
import pytest
from scipy.stats import norm

from names import plain
from welltuned import (
    Categorical,
    Float,
    Infeasible,
    InvalidType,
    InvalidValue,
    Pruned,
    Reason,
    Result,
    Space,
    State,
    Study,
    WelltunedError,
)
from welltuned.evaluation import evaluate
from welltuned.live import LiveTrial, Task
from welltuned.trial import Report

PARAMS = {"x": 1.5, "kind": "a"}


def task(**more):
    return Task(3, 1, more.pop("params", PARAMS), **more)


def outcome_of(returned, objectives=("value",)):
    return evaluate(lambda trial: returned, LiveTrial(task()), objectives)


def raising(error):
    def objective(trial):
        raise error

    return evaluate(objective, LiveTrial(task()), ["value"])


NUMBERS = [
    2,
    2.0,
    np.float32(2),
    np.float64(2),
    np.int64(2),
    np.array(2.0),
    np.array([2.0]),
    np.array([[2]]),
    fractions.Fraction(2),
    decimal.Decimal(2),
    (2.0, None),
]


@pytest.mark.parametrize("returned", NUMBERS, ids=plain)
def test_a_number(returned):
    outcome = outcome_of(returned)
    assert outcome.state is State.COMPLETE
    assert outcome.metrics == {"value": 2.0}
    assert type(outcome.metrics["value"]) is float
    assert outcome.sems == {}
    assert outcome.gradient is None
    assert outcome.seconds >= 0


@pytest.mark.parametrize(
    ("returned", "sems"),
    [
        ((2.0, 0.1), {"value": 0.1}),
        ((np.float32(2), np.float64(0.5)), {"value": 0.5}),
        ((2.0, np.array(0.25)), {"value": 0.25}),
        ((2.0, 0), {"value": 0.0}),
        ((2.0, math.nan), {}),
        (Result(2.0, sem=0.1), {"value": 0.1}),
        (Result({"value": 2.0, "other": 1.0}, sem={"value": 0.1, "other": 0.2}), {"value": 0.1, "other": 0.2}),
        (Result(2.0, sem={"value": None}), {}),
    ],
    ids=plain,
)
def test_a_value_with_its_standard_error(returned, sems):
    outcome = outcome_of(returned)
    assert outcome.state is State.COMPLETE
    assert outcome.metrics["value"] == 2.0
    assert outcome.sems == sems


@pytest.mark.parametrize(
    "gradient",
    [
        {"x": 1.0, "kind": 0.5},
        [1.0, 0.5],
        (1, 0.5),
        np.array([1.0, 0.5]),
        [np.float32(1), np.array(0.5)],
    ],
    ids=plain,
)
@pytest.mark.parametrize("wrap", [lambda g: (2.0, g), lambda g: Result(2.0, gradient=g)], ids=["tuple", "Result"])
def test_a_value_with_its_gradient(gradient, wrap):
    outcome = outcome_of(wrap(gradient))
    assert outcome.state is State.COMPLETE
    assert outcome.metrics == {"value": 2.0}
    assert outcome.gradient == {"x": 1.0, "kind": 0.5}
    assert outcome.sems == {}


def test_a_gradient_may_leave_parameters_out():
    assert outcome_of((2.0, {"x": 1.0})).gradient == {"x": 1.0}
    assert outcome_of((2.0, [1.0, None])).gradient == {"x": 1.0}


@pytest.mark.parametrize("gradient", [[1.0, math.nan], {"x": math.inf}])
def test_a_gradient_that_is_not_finite_is_passed_over(gradient):
    outcome = outcome_of((2.0, gradient))
    assert outcome.state is State.COMPLETE
    assert outcome.gradient is None


def test_a_dict_of_metrics_puts_the_objective_first():
    outcome = outcome_of({"loss": 0.5, "value": 2, "bad": math.nan})
    assert list(outcome.metrics.items()) == [("value", 2.0), ("loss", 0.5)]


def test_what_is_no_number_beside_the_objective_is_a_note():
    returned = {"value": 2, "status": "ok", "loss": 0.5, "sizes": [1, 2], "best": None, "odd": {1}}
    outcome = outcome_of(Result(returned, attributes={"best": "a"}))
    assert outcome.state is State.COMPLETE
    assert outcome.metrics == {"value": 2.0, "loss": 0.5}
    assert outcome.attributes == {"status": "ok", "sizes": [1, 2], "best": "a", "odd": "{1}"}


@pytest.mark.parametrize("returned", [{"status": "fail"}, {"value": 2.0, "status": "fail"}, {"status": "failed"}])
def test_a_status_that_says_failed_is_no_result(returned):
    outcome = outcome_of(returned)
    assert (outcome.state, outcome.reason, outcome.metrics) == (State.FAILED, Reason.ERROR, {})
    assert outcome.error == f"the objective returned {returned!r}"


def test_the_objective_that_is_to_be_named_is_a_number():
    """As Hyperopt's objectives return them, the status often comes first."""
    assert "direction={'loss': 'minimize'}" in outcome_of({"status": "ok", "loss": np.float32(0.5)}).error


def test_nothing_returned_says_what_is_missing():
    assert "end it with 'return' and the value" in outcome_of(None).error


@pytest.mark.parametrize(
    "returned",
    [
        (1.0, 2),
        [1.0, 2],
        {"b": 2, "a": 1.0},
        Result({"a": 1.0, "b": 2.0}),
        (np.float32(1), np.array([2.0])),
    ],
    ids=plain,
)
def test_several_objectives(returned):
    outcome = outcome_of(returned, ("a", "b"))
    assert list(outcome.metrics.items()) == [("a", 1.0), ("b", 2.0)]


class Scalar:
    """A number of another library, as a tensor without dimensions is one."""

    def item(self):
        return 7


class Itself:
    """Its list holds what has a list again."""

    def tolist(self):
        return [self]

    def __repr__(self):
        return "Itself()"


@pytest.mark.parametrize(
    ("noted", "kept"),
    [
        (np.float32(0.25), 0.25),
        (np.float64(0.25), 0.25),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.arange(3), [0, 1, 2]),
        (np.array(2.5), 2.5),
        (Scalar(), 7),
        ((1, 2), [1, 2]),
        ({np.int64(1): np.float32(0.5), 2: np.True_}, {"1": 0.5, "2": True}),
        ([np.bool_(False), {"c": np.arange(2)}], [False, {"c": [0, 1]}]),
        ([1.0, np.float64("nan")], [1.0, "nan"]),
        ({"a": {1}}, {"a": "{1}"}),
        (np.float32, repr(np.float32)),
        (Itself(), "Itself()"),
        (None, None),
        ("text", "text"),
    ],
    ids=plain,
)
def test_what_is_noted_becomes_what_json_holds(noted, kept):
    outcome = outcome_of(Result(1.0, attributes={"noted": noted}))
    found = outcome.attributes["noted"]
    assert found == kept and type(found) is type(kept)
    assert json.loads(json.dumps(found)) == found


def test_a_value_that_becomes_text_is_said_once(caplog):
    for number in (10**5000, 10**5000 + 1):
        outcome = outcome_of(Result(1.0, attributes={"digits": number, "fine": 1}))
        assert isinstance(outcome.attributes["digits"], str)
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == 1 and "'digits'" in said[0] and "int" in said[0]


def test_attributes_that_no_reader_could_take_are_described():
    tree = []
    for _ in range(100_000):
        tree = [tree]
    endless = {}
    endless["self"] = endless
    outcome = outcome_of(Result(1.0, attributes={"tree": tree, "endless": endless, "flat": [[1]]}))
    assert outcome.attributes == {"tree": "something of type list", "endless": "{'self': {...}}", "flat": [[1]]}


def test_attributes_of_a_result_are_kept():
    outcome = outcome_of(Result(1.0, attributes={"epochs": 3, "odd": {1}, "nan": math.nan}))
    assert outcome.attributes == {"epochs": 3, "odd": "{1}", "nan": "nan"}


@pytest.mark.parametrize(
    "bad",
    [math.nan, math.inf, -math.inf, np.float32("nan"), np.array([np.nan]), {"value": math.nan, "b": 1}],
    ids=plain,
)
def test_a_value_that_is_not_finite(bad):
    outcome = outcome_of(bad)
    assert (outcome.state, outcome.reason) == (State.FAILED, Reason.NAN)
    assert "value=" in outcome.error
    assert outcome.metrics == {}


def test_one_of_several_objectives_that_is_not_finite():
    outcome = outcome_of((1.0, math.nan), ("a", "b"))
    assert (outcome.state, outcome.reason) == (State.FAILED, Reason.NAN)
    assert "b=nan" in outcome.error


@pytest.mark.parametrize(
    ("returned", "objectives", "words"),
    [
        (None, ["value"], "None"),
        ("0.5", ["value"], "'0.5'"),
        (b"1", ["value"], "b'1'"),
        (1j, ["value"], "1j"),
        (np.array([1.0, 2.0]), ["value"], "[1., 2.]"),
        (object, ["value"], "object"),
        pytest.param(10**400, ["value"], "value="),
        ({}, ["value"], "'value'"),
        ({"loss": 1.0}, ["value"], "'loss'"),
        ({"value": "x"}, ["value"], "'x'"),
        ((1.0, "x"), ["value"], "'x'"),
        ((1.0, -0.5), ["value"], "-0.5"),
        ((1.0, [1.0]), ["value"], "'kind'"),
        ((1.0, [1.0, 2.0, 3.0]), ["value"], "3"),
        ((1.0, {"y": 1.0}), ["value"], "'y'"),
        ((1.0, {"x": "steep"}), ["value"], "'steep'"),
        pytest.param(Result(1.0, gradient=3.0), ["value"], "3.0"),
        (Result(None), ["value"], "None"),
        ((1.0, 2.0, 3.0), ["value"], "(1.0, 2.0, 3.0)"),
        (1.0, ["a", "b"], "1.0"),
        ((1.0, 2.0, 3.0), ["a", "b"], "(1.0, 2.0, 3.0)"),
        ({"a": 1.0}, ["a", "b"], "'b'"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_no_objective_may_return(returned, objectives, words):
    outcome = outcome_of(returned, objectives)
    assert (outcome.state, outcome.reason) == (State.FAILED, Reason.ERROR)
    assert words in outcome.error
    assert isinstance(outcome.exception, WelltunedError)
    assert outcome.metrics == {}


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (ValueError("no such kernel"), State.FAILED, Reason.ERROR),
        (KeyError("lr"), State.FAILED, Reason.ERROR),
        (ZeroDivisionError("division"), State.FAILED, Reason.ERROR),
        (RecursionError("deep"), State.FAILED, Reason.ERROR),
        (MemoryError("16 GiB"), State.FAILED, Reason.OUT_OF_MEMORY),
        (Infeasible("too wide"), State.FAILED, Reason.INFEASIBLE),
        (Pruned("enough"), State.PRUNED, None),
    ],
    ids=plain,
)
def test_what_an_objective_may_raise(error, state, reason):
    outcome = raising(error)
    assert (outcome.state, outcome.reason) == (state, reason)
    assert outcome.seconds >= 0
    if state is State.FAILED:
        assert type(error).__name__ in outcome.error
        assert str(error) in outcome.error
        assert "test_evaluation.py:" in outcome.error
        assert outcome.exception is error


@pytest.mark.parametrize("call", [lambda: json.loads("no JSON"), lambda: pytest.fail("from a package", pytrace=False)])
def test_an_error_out_of_a_library_names_the_line_that_called_it(call):
    outcome = evaluate(lambda trial: call(), LiveTrial(Task(0, 1, {})), ["value"])
    assert "(test_evaluation.py:" in outcome.error


def test_an_error_without_words_still_has_its_name():
    assert "RuntimeError" in raising(RuntimeError()).error


def test_what_optuna_calls_pruned_is_pruned():
    """An objective that was written for Optuna raises it: each of its pruned trials was a failure to keep away from."""
    optuna = pytest.importorskip("optuna")

    class Enough(optuna.TrialPruned):
        pass

    assert [raising(error()).state for error in (optuna.TrialPruned, Enough)] == [State.PRUNED] * 2
    mine = type("TrialPruned", (Exception,), {"__module__": "optunaesque"})
    assert raising(mine()).state is State.FAILED


@pytest.mark.parametrize("several", [[0.9, 0.8], (0.9, 0.8, 0.7), np.array([0.9, 0.8])], ids=plain)
def test_the_scores_of_folds_are_no_value(several):
    assert "return the mean of several, or (mean, standard_error)" in outcome_of(several).error


def test_a_constraint_may_have_optunas_name():
    study = Study({"x": (0.0, 1.0)}, seed=0)
    study.optimize(lambda trial: trial.set_constraint("room", 0.5 - trial["x"]) or trial["x"], n_trials=4)
    assert all(t.constraints == {"room": 0.5 - t.params["x"]} for t in study.trials)


@pytest.mark.parametrize("value", [True, np.bool_(False), np.array(True)], ids=plain)
def test_a_constraint_is_no_truth(value):
    """``constrain("fits", size < limit)`` was 1 where it holds, which violates it."""
    with pytest.raises(InvalidType, match=r"constrain: fits=.* is no number; .*size - limit"):
        LiveTrial(task()).constrain("fits", value)


def test_an_interruption_gets_out():
    with pytest.raises(KeyboardInterrupt):
        raising(KeyboardInterrupt())


class Unreadable(Exception):
    def __str__(self):
        raise ZeroDivisionError


class Odd(BaseException):
    pass


@pytest.mark.parametrize("error", [SystemExit(1), Unreadable(), Odd("odd")], ids=lambda e: type(e).__name__)
def test_whatever_else_is_raised_is_a_failure_with_its_place_in_the_users_code(error):
    outcome = raising(error)
    assert (outcome.state, outcome.reason) == (State.FAILED, Reason.ERROR)
    assert outcome.error.startswith(type(error).__name__)
    assert "test_evaluation.py" in outcome.error


def test_notes_are_kept_when_the_objective_fails():
    def objective(trial):
        trial.note(epoch=3, model=object)
        raise ValueError("late")

    outcome = evaluate(objective, LiveTrial(task()), ["value"])
    assert outcome.attributes == {"epoch": 3, "model": repr(object)}


def test_a_positional_space_hands_over_an_array():
    seen = []
    evaluate(lambda x: seen.append(x) or 1.0, LiveTrial(task(params={"x0": 1.0, "x1": 2}, positional=True)), ["value"])
    np.testing.assert_array_equal(seen[0], [1.0, 2.0])


def test_a_trial_told_to_stop_ends_as_pruned_with_its_value():
    def objective(trial):
        trial.report(0.5, 1)
        return 2.0

    outcome = evaluate(objective, LiveTrial(task(), lambda task, report: True), ["value"])
    assert outcome.state is State.PRUNED


def test_prune_ends_the_trial():
    assert evaluate(lambda trial: trial.prune(), LiveTrial(task()), ["value"]).state is State.PRUNED


def test_a_study_records_how_each_trial_ended():
    ends = [lambda: 1.0, lambda: (2.0, 0.1), lambda: math.nan, lambda: None, lambda: 1 / 0]
    study = Study({"x": (0.0, 1.0)}, sampler="random", seed=0)
    study.optimize(lambda trial: ends[trial.number](), n_trials=5)
    assert [t.state for t in study.trials] == [State.COMPLETE] * 2 + [State.FAILED] * 3
    assert [t.reason for t in study.trials[2:]] == [Reason.NAN, Reason.ERROR, Reason.ERROR]
    assert study.trials[1].sems == {"value": 0.1}
    assert study.best.number == 0


# the live trial


def test_a_live_trial_is_a_mapping_of_its_parameters():
    trial = LiveTrial(task())
    assert trial["x"] == 1.5
    assert dict(trial) == dict(**trial) == PARAMS == trial
    assert list(trial) == ["x", "kind"]
    assert len(trial) == 2
    assert "x" in trial
    assert "y" not in trial
    assert trial.get("y", 7) == 7
    assert list(trial.items()) == [("x", 1.5), ("kind", "a")]
    assert trial.number == 3
    assert repr(trial) == "LiveTrial(3, {'x': 1.5, 'kind': 'a'})"
    words = r"^'y' is not an active parameter here; active are \['x', 'kind'\].*trial.get\('y'\)"
    with pytest.raises(KeyError, match=words):
        trial["y"]
    with pytest.raises(TypeError):
        trial["x"] = 2.0


def test_params_are_a_copy():
    trial = LiveTrial(task())
    trial.params["x"] = 9.0
    assert trial["x"] == 1.5
    assert PARAMS["x"] == 1.5


def collecting(stop=lambda report: False, **more):
    reports = []

    def receive(task, report):
        reports.append(report)
        return stop(report)

    return LiveTrial(task(**more), receive), reports


@pytest.mark.parametrize(
    ("value", "metrics"),
    [
        (0.5, {"value": 0.5}),
        (np.float32(0.5), {"value": 0.5}),
        (np.array(0.5), {"value": 0.5}),
        ({"loss": 1, "value": 0.5}, {"loss": 1.0, "value": 0.5}),
        ({"loss": math.nan, "value": 0.5}, {"value": 0.5}),
    ],
    ids=plain,
)
def test_report(value, metrics):
    trial, reports = collecting()
    trial.report(value, np.int64(4))
    assert [(r.step, {k: v for k, v in r.metrics.items() if math.isfinite(v)}) for r in reports] == [(4, metrics)]
    assert type(reports[0].step) is int
    assert all(type(v) is float for v in reports[0].metrics.values())


def test_a_step_is_reported_once_and_nothing_infinite_is():
    trial, reports = collecting(reports=(Report(1, {"value": 0.0}),))
    for value, step in ((9.0, 1), (math.nan, 2), (0.5, 2), (0.7, 2), (math.inf, 3)):
        trial.report(value, step)
    # what is not finite goes to the coordinator, which does not store it
    assert [(r.step, str(r.metrics["value"])) for r in reports] == [(2, "nan"), (2, "0.5"), (3, "inf")]


@pytest.mark.parametrize(
    ("value", "step", "words"),
    [
        pytest.param("0.5", 1, "'0.5'"),
        pytest.param(b"1", 1, "b'1'"),
        pytest.param(10**400, 1, "report"),
        (None, 1, "None"),
        ([1.0], 1, "[1.0]"),
        ({"a": "x"}, 1, "'x'"),
        ({"a": None}, 1, "None"),
        (1j, 1, "1j"),
        (0.5, 1.5, "1.5"),
        (0.5, "1", "'1'"),
        (0.5, None, "None"),
        (0.5, True, "True"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_report_that_is_refused(value, step, words):
    trial, reports = collecting()
    with pytest.raises(InvalidType) as caught:
        trial.report(value, step)
    assert words in str(caught.value)
    assert reports == []


def test_should_stop_stays_true():
    trial, _ = collecting(stop=lambda report: report.step == 2)
    seen = []
    for step in range(1, 5):
        trial.report(1.0, step)
        seen.append((trial.should_stop(), trial.should_prune()))
    assert seen == [(False, False), (True, True), (True, True), (True, True)]


def test_a_trial_without_a_listener_reports_into_the_void():
    trial = LiveTrial(task())
    trial.report(1.0, 1)
    assert not trial.should_stop()


def test_a_checkpoint_folder_is_made(tmp_path):
    folder = LiveTrial(task(checkpoint=str(tmp_path / "a" / "3"))).checkpoint
    assert folder.is_dir()
    with pytest.raises(InvalidValue, match="checkpoint"):
        _ = LiveTrial(task()).checkpoint


def test_suggest_in_a_given_space_returns_what_was_chosen():
    trial = LiveTrial(task(params={"x": 1.5, "n": 4, "kind": "a"}))
    assert trial.suggest_float("x", 0, 2) == 1.5
    assert trial.suggest_int("n", 1, 9) == 4
    assert trial.suggest_categorical("kind", ["a", "b"]) == "a"
    with pytest.raises(InvalidValue, match="'depth'"):
        trial.suggest_int("depth", 1, 3)


@pytest.mark.parametrize(
    "ask",
    [
        lambda t: t.suggest_float("x", 0, 1),
        lambda t: t.suggest_float("x", 0, 2, step=1),
        lambda t: t.suggest_int("n", 1, 3),
        lambda t: t.suggest_int("n", 1, 1),
        lambda t: t.suggest_categorical("kind", ["b", "c"]),
        lambda t: t.suggest("kind", Categorical([1, 2])),
    ],
)
def test_a_space_that_has_chosen_what_the_objective_does_not_take_is_named(ask):
    """The objective got 9 layers where it had asked for 1 to 3, without a word."""
    params = {"x": 1.5, "n": 9, "kind": "a"}
    with pytest.raises(InvalidValue, match=r"space has chosen (x=1.5|n=9|kind='a'), and the objective asks for"):
        ask(LiveTrial(task(params=params)))
    assert ask(LiveTrial.fixed(params)) in params.values()  # whoever fixes them knows


def test_a_space_and_an_objective_may_differ_where_that_does_no_harm():
    trial = LiveTrial(task(params={"x": 0.1 + 0.2, "n": np.int64(9), "kind": "a"}))
    assert trial.suggest_float("x", 0.0, 1.0, step=0.1) == 0.1 + 0.2
    assert trial.suggest_int("n", 1, 99, log=True) == 9
    assert trial.suggest_categorical("kind", ["a", "b", "c"]) == "a"
    # where a way through the cube costs digits, or ends before the tail does
    far = LiveTrial(task(params={"x": 0.3, "z": 8.0}))
    assert far.suggest_float("x", -1e12, 1e12) == 0.3 and far.suggest("z", Float(norm())) == 8.0
    space = Space({"n": (1, 9), "x": (0.0, 1.0)})
    study = Study(space, seed=0, sampler="random")
    study.optimize(lambda t: t.suggest_int("n", 1, 3) + t.suggest_float("x", 0.0, 1.0), n_trials=12)
    assert {t.state for t in study.trials} == {State.COMPLETE, State.FAILED}
    assert all((t.params["n"] <= 3) == (t.state is State.COMPLETE) for t in study.trials)


def test_objects_that_a_space_has_chosen_need_equal_nothing():
    """An objective makes its own ones, or gets copies in a worker: all trials failed."""
    given, other = (lambda x: x), (lambda x: x)
    assert LiveTrial(task(params={"act": given})).suggest_categorical("act", [other, print]) is given


def suggest_all(trial):
    return (
        trial.suggest_float("lr", 1e-5, 1e-1, log=True),
        trial.suggest_float("drop", 0.0, 0.5, step=0.25),
        trial.suggest_int("n", 1, 64, log=True),
        trial.suggest_int("k", 1, 9, step=4),
        trial.suggest_categorical("act", ["relu", None, (1, 2)]),
    )


def open_trial(number=0, seed=0, **more):
    return LiveTrial(Task(number, 1, more.pop("params", {}), seed, open_space=True, **more))


def test_suggestions_are_within_their_bounds():
    found = [suggest_all(open_trial(number)) for number in range(200)]
    for lr, drop, n, k, act in found:
        assert 1e-5 <= lr <= 1e-1
        assert drop in (0.0, 0.25, 0.5)
        assert 1 <= n <= 64
        assert k in (1, 5, 9)
        assert act in ("relu", None, (1, 2))
    assert len({f[0] for f in found}) == 200
    assert 40 < sum(f[0] < 1e-3 for f in found) < 160
    assert {f[1] for f in found} == {0.0, 0.25, 0.5}
    assert {f[4] for f in found} == {"relu", None, (1, 2)}


def test_suggestions_depend_on_seed_number_and_name_alone():
    trial = open_trial(5, 7)
    backwards = trial.suggest_int("k", 1, 9, step=4), trial.suggest_float("lr", 1e-5, 1e-1, log=True)
    assert backwards == (suggest_all(open_trial(5, 7))[3], suggest_all(open_trial(5, 7))[0])
    assert suggest_all(open_trial(5, 7))[0] != suggest_all(open_trial(6, 7))[0]
    assert suggest_all(open_trial(5, 7))[0] != suggest_all(open_trial(5, 8))[0]


def test_suggest_takes_the_proposal_where_it_fits():
    trial = open_trial(params={"lr": 0.01, "k": 3, "act": "gelu", "n": True})
    lr, _, n, k, act = suggest_all(trial)
    assert lr == 0.01
    assert k in (1, 5, 9)
    assert act in ("relu", None, (1, 2))
    assert n is not True
    assert trial.params.keys() == {"lr", "drop", "n", "k", "act"}
    assert isinstance(trial.domains["act"], Categorical)


def test_the_same_name_gives_the_same_value():
    trial = open_trial()
    assert trial.suggest_float("x", 0, 1) == trial.suggest_float("x", 0, 1)


@pytest.mark.parametrize(
    "call",
    [
        lambda t: t.suggest_float("x", 2.0, 1.0),
        lambda t: t.suggest_float("x", 0.0, 1.0, log=True),
        lambda t: t.suggest_int("x", 1, "9"),
        lambda t: t.suggest_categorical("x", []),
        lambda t: t.suggest_int("x", 1, 9, step=0),
    ],
    ids=["reversed", "log over zero", "string", "no choices", "step"],
)
def test_a_bad_suggestion_is_refused(call):
    trial = open_trial()
    with pytest.raises((InvalidValue, InvalidType)):
        call(trial)
    assert dict(trial) == {}


def test_an_objective_may_declare_its_parameters():
    def objective(trial):
        kind = trial.suggest_categorical("kind", ["linear", "tree"])
        return trial.suggest_int("depth", 1, 9) if kind == "tree" else trial.suggest_float("C", 1e-3, 1e3, log=True)

    study = Study(seed=0, sampler="random")
    study.optimize(objective, n_trials=12)
    assert {t.state for t in study.trials} == {State.COMPLETE}
    assert {tuple(sorted(t.params)) for t in study.trials} == {("depth", "kind"), ("C", "kind")}
    assert isinstance(study.space, Space)
    assert set(study.space) == {"kind", "depth", "C"}


@pytest.mark.parametrize("value", [np.ma.masked, 1 + 2j, np.complex128(1 + 2j), np.array([1j])])
@pytest.mark.filterwarnings("error")
def test_what_is_no_real_number_is_refused(value):
    outcome = outcome_of(value)
    assert outcome.state is State.FAILED and "not a real number" in outcome.error


@pytest.mark.parametrize(
    "returned",
    [[0.1] * 10**5, 10**5000, (1.0, [1, [2]]), (1.0, {"x": 1, 3: 2}), Result(1.0, sem={"vlaue": 0.1})],
    ids=["long list", "long number", "nested gradient", "mixed gradient", "misspelt metric"],
)
def test_what_cannot_be_read_is_refused_in_a_few_words(returned):
    outcome = outcome_of(returned)
    assert outcome.state is State.FAILED and len(outcome.error) < 400
    assert outcome.error.startswith(("InvalidType", "InvalidValue"))


def test_metrics_without_the_objective_say_how_to_name_it():
    study = Study({"x": (0.0, 1.0)}, seed=0)
    study.optimize(lambda trial: {"accuracy": 0.9, "loss": 0.1}, n_trials=1)
    assert "direction={'accuracy': 'minimize'} or 'maximize'" in study.trials[0].error
