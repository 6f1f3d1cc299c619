"""Boosted trees that report to a trial."""

import numpy as np
import pytest

import welltuned as wt
from welltuned.boosting import for_catboost, for_lightgbm, for_xgboost
from welltuned.live import LiveTrial, Task
from welltuned.trial import State

N = 120
CHANCE = np.random.default_rng(0)
X = CHANCE.normal(size=(2 * N, 4))
Y = (X[:, 0] + 0.5 * X[:, 1] + 0.3 * CHANCE.normal(size=2 * N) > 0).astype(int)
FIT, VALID = (X[:N], Y[:N]), (X[N:], Y[N:])
ROUNDS = 12


def xgboost_model(trial, metric):
    xgboost = pytest.importorskip("xgboost")
    model = xgboost.XGBClassifier(
        n_estimators=ROUNDS,
        learning_rate=trial["rate"],
        max_depth=2,
        n_jobs=1,
        eval_metric=["logloss", "auc"],
        callbacks=[for_xgboost(trial, metric)],
    )
    return model.fit(*FIT, eval_set=[VALID], verbose=False).evals_result()["validation_0"]


def xgboost_train(trial, metric):
    xgboost = pytest.importorskip("xgboost")
    found = {}
    settings = {"eta": trial["rate"], "max_depth": 2, "nthread": 1, "objective": "binary:logistic"}
    xgboost.train(
        {**settings, "eval_metric": ["logloss", "auc"]},
        xgboost.DMatrix(*FIT),
        ROUNDS,
        evals=[(xgboost.DMatrix(*VALID), "validation_0")],
        evals_result=found,
        verbose_eval=False,
        callbacks=[for_xgboost(trial, metric)],
    )
    return found["validation_0"]


def lightgbm_train(trial, metric):
    lightgbm = pytest.importorskip("lightgbm")
    found = {}
    settings = {"learning_rate": trial["rate"], "num_leaves": 4, "num_threads": 1, "verbose": -1, "objective": "binary"}
    data = lightgbm.Dataset(*FIT)
    lightgbm.train(
        {**settings, "metric": ["binary_logloss", "auc"]},
        data,
        ROUNDS,
        valid_sets=[lightgbm.Dataset(*VALID, reference=data)],
        valid_names=["validation_0"],
        callbacks=[lightgbm.record_evaluation(found), for_lightgbm(trial, metric)],
    )
    return found["validation_0"]


def catboost_model(trial, metric):
    catboost = pytest.importorskip("catboost")
    settings = {"iterations": ROUNDS, "learning_rate": trial["rate"], "depth": 2, "thread_count": 1}
    model = catboost.CatBoostClassifier(
        **settings, custom_metric=["Logloss", "AUC"], verbose=False, allow_writing_files=False, use_best_model=False
    )
    several = [VALID, (X[: N // 2], Y[: N // 2])]  # with one, it is called "validation"
    model.fit(*FIT, eval_set=several, callbacks=[for_catboost(trial, metric)])
    return {name.lower(): values for name, values in model.get_evals_result()["validation_0"].items()}


KINDS = [xgboost_model, xgboost_train, lightgbm_train, catboost_model]
LOGLOSS = {lightgbm_train: "binary_logloss", catboost_model: "Logloss"}


def auc(train):
    return f"validation_0-{'AUC' if train is catboost_model else 'auc'}"


@pytest.mark.parametrize("train", KINDS)
def test_each_round_is_a_report(train):
    curves, name = {}, LOGLOSS.get(train, "logloss")

    def objective(trial):
        curves[trial.number] = train(trial, f"validation_0-{name}")[name.lower()]
        return curves[trial.number][-1]

    study = wt.Study({"rate": (0.05, 0.5)}, seed=0, sampler="random")
    study.optimize(objective, n_trials=2)
    for record in study.trials:
        assert [r.step for r in record.reports] == list(range(1, ROUNDS + 1))
        assert [r.metrics["value"] for r in record.reports] == pytest.approx(curves[record.number])
        assert record.value == record.reports[-1].metrics["value"]


@pytest.mark.parametrize("train", KINDS)
def test_training_ends_when_the_trial_is_to_stop(train):
    class AtThree:
        def decide(self, history, number, report):
            return wt.schedulers.Stop("enough") if report.step == 3 else wt.schedulers.Continue()

    study = wt.Study({"rate": (0.05, 0.5)}, seed=0, sampler="random", direction="maximize", scheduler=AtThree())
    study.optimize(lambda trial: train(trial, auc(train))["auc"][-1], n_trials=2)
    assert [(t.state, len(t.reports)) for t in study.trials] == [(State.PRUNED, 3)] * 2


class AtFirst:
    def decide(self, history, number, report):
        return wt.schedulers.Stop("enough")


def lightgbm_early(trial):
    lightgbm = pytest.importorskip("lightgbm")
    data = lightgbm.Dataset(*FIT)
    model = lightgbm.train(
        {"objective": "binary", "metric": "auc", "num_leaves": 4, "num_threads": 1, "verbose": -1, **trial},
        data,
        ROUNDS,
        valid_sets=[lightgbm.Dataset(*VALID, reference=data)],
        callbacks=[for_lightgbm(trial, "valid_0-auc"), lightgbm.early_stopping(5, verbose=False)],
    )
    return model.best_score["valid_0"]["auc"], model.best_iteration


def xgboost_early(trial):
    xgboost = pytest.importorskip("xgboost")
    model = xgboost.train(
        {"eta": trial["rate"], "max_depth": 2, "nthread": 1, "objective": "binary:logistic", "eval_metric": "auc"},
        xgboost.DMatrix(*FIT),
        ROUNDS,
        evals=[(xgboost.DMatrix(*VALID), "valid")],
        verbose_eval=False,
        early_stopping_rounds=5,
        callbacks=[for_xgboost(trial, "valid-auc")],
    )
    assert model.num_boosted_rounds() == 1
    return model.best_score, model.best_iteration + 1


def xgboost_early_model(trial):
    xgboost = pytest.importorskip("xgboost")
    model = xgboost.XGBClassifier(
        n_estimators=ROUNDS,
        max_depth=2,
        n_jobs=1,
        eval_metric="auc",
        early_stopping_rounds=5,
        callbacks=[for_xgboost(trial, "validation_0-auc")],
    )
    model.fit(*FIT, eval_set=[VALID], verbose=False)
    return model.best_score, model.best_iteration + 1


@pytest.mark.parametrize("train", [lightgbm_early, xgboost_early, xgboost_early_model])
def test_a_trial_that_is_stopped_has_what_early_stopping_says_of_it(train):
    """A trial that asks for ``best_score`` was a failure in place of a pruned one, and the search kept away from it."""

    def objective(trial):
        value, rounds = train(trial)
        trial.note(rounds=rounds)
        return value

    study = wt.Study({"rate": (0.05, 0.5)}, seed=0, sampler="random", direction="maximize", scheduler=AtFirst())
    study.optimize(objective, n_trials=2)
    assert [(t.state, t.error, t.attributes["rounds"]) for t in study.trials] == [(State.PRUNED, None, 1)] * 2
    assert [t.value for t in study.trials] == pytest.approx([t.reports[0].metrics["value"] for t in study.trials])


def test_rounds_in_which_catboost_computes_no_metric_are_no_reports():
    """It leaves the last value there, which is none of these rounds'."""
    catboost, reports = pytest.importorskip("catboost"), []
    trial = LiveTrial(Task(0, 1, {}), lambda task, report: bool(reports.append(report)))

    def model_with(**more):
        settings = {"iterations": 8, "depth": 2, "thread_count": 1, "verbose": False, "allow_writing_files": False}
        return catboost.CatBoostClassifier(**settings, **more)

    model = model_with(metric_period=3)
    callback = for_catboost(trial, "validation-Logloss")
    model.fit(*FIT, eval_set=VALID, callbacks=[callback])
    assert [r.step for r in reports] == [1, 4, 7, 8]
    values = model.get_evals_result()["validation"]["Logloss"]
    assert [r.metrics["value"] for r in reports] == pytest.approx(values)
    model_with().fit(*FIT, eval_set=VALID, callbacks=[callback])
    assert sorted(r.step for r in reports) == list(range(1, 9))
    with pytest.raises(catboost.CatBoostError, match=r"it has \['learn-Logloss'\]; give an evaluation set"):
        model_with().fit(*FIT, callbacks=[callback])


@pytest.mark.parametrize("train", KINDS)
def test_several_objectives_are_reported_by_name(train):
    study = wt.Study({"rate": (0.05, 0.5)}, seed=0, direction={"auc": "maximize", "rate": "minimize"})
    wanted = {"auc": auc(train), "other": auc(train)}
    study.optimize(lambda t: {"auc": train(t, wanted)["auc"][-1], "rate": t["rate"]}, n_trials=1)
    record = study.trials[0]
    assert set(record.reports[-1].metrics) == {"auc", "other"}
    assert record.reports[-1].metrics["auc"] == pytest.approx(record.metrics["auc"])


@pytest.mark.parametrize("train", KINDS)
def test_a_metric_that_is_not_there(train):
    trial = LiveTrial(Task(0, 1, {"rate": 0.1}))
    # CatBoost raises what its callbacks raise as an error of its own that quotes it
    kind = wt.InvalidValue if train is not catboost_model else pytest.importorskip("catboost").CatBoostError
    with pytest.raises(kind, match=rf"metric='validation_0-rmse'.*{auc(train)}"):
        train(trial, "validation_0-rmse")


@pytest.mark.parametrize("train", KINDS[:3])
def test_a_metric_that_the_study_has_the_other_way_round_is_refused(train):
    """An AUC that is reported to a study that minimises 1 - AUC stopped the best trials."""
    name = f"validation_0-{LOGLOSS.get(train, 'logloss')}"
    study = wt.Study({"rate": (0.05, 0.5)}, seed=0, scheduler="median", sampler="random")
    study.optimize(lambda trial: 1 - train(trial, auc(train))["auc"][-1], n_trials=1)
    words = "metric='validation_0-auc' is one to maximize, and the study has direction='minimize'"
    assert words in study.trials[0].error
    up = wt.Study({"rate": (0.05, 0.5)}, direction="maximize", scheduler="median", sampler="random", seed=0)
    up.optimize(lambda trial: -train(trial, name)[name.split("-")[1]][-1], n_trials=1)
    assert f"metric={name!r} is one to minimize" in up.trials[0].error
    # what is no objective's may be better either way
    up.optimize(lambda trial: train(trial, {"value": auc(train), "loss": name})["auc"][-1], n_trials=2)
    assert up.trials[1].state is State.COMPLETE


def test_what_xgboost_says_of_several_ranks():
    from welltuned.boosting import _xgboosts_directions

    names = ["a-ndcg@3-", "a-map@2", "b-c-auc", "a-error@0.4", "a-logloss", "a-mine"]
    assert _xgboosts_directions(names) == {"a-ndcg@3-": True, "a-map@2": True, "a-error@0.4": False, "a-logloss": False}


def test_cross_validation():
    reported = []
    trial = LiveTrial(Task(0, 1, {}), lambda _, report: reported.append(report.metrics["value"]) or len(reported) > 3)
    xgboost = pytest.importorskip("xgboost")
    xgboost.cv(
        {"max_depth": 2, "nthread": 1, "objective": "binary:logistic", "eval_metric": "logloss"},
        xgboost.DMatrix(X, Y),
        ROUNDS,
        nfold=3,
        callbacks=[for_xgboost(trial, "test-logloss")],
    )
    assert len(reported) == 4 and reported[0] > reported[-1] > 0
    lightgbm = pytest.importorskip("lightgbm")
    reported.clear()
    trial = LiveTrial(Task(0, 1, {}), lambda _, report: reported.append(report.metrics["value"]) or len(reported) > 3)
    lightgbm.cv(
        {"objective": "binary", "num_threads": 1, "verbose": -1, "num_leaves": 4},
        lightgbm.Dataset(X, Y),
        ROUNDS,
        nfold=3,
        callbacks=[for_lightgbm(trial, "valid-binary_logloss")],
    )
    assert len(reported) == 4 and reported[0] > reported[-1] > 0


@pytest.mark.parametrize("callback", [for_xgboost, for_lightgbm, for_catboost])
@pytest.mark.parametrize("metric", [None, 3, {}, {"auc": None}, ["validation_0-auc"]])
def test_what_is_no_metric(callback, metric):
    pytest.importorskip(callback.__name__.removeprefix("for_"))
    with pytest.raises(wt.InvalidType, match="neither a name"):
        callback(LiveTrial(Task(0, 1, {})), metric)


@pytest.mark.parametrize("callback", [for_xgboost, for_lightgbm])
def test_says_what_to_install(callback, monkeypatch):
    package = callback.__name__.removeprefix("for_")
    monkeypatch.setitem(__import__("sys").modules, f"{package}.callback", None)
    with pytest.raises(wt.MissingDependency, match=f"welltuned\\[{package}\\]"):
        callback(LiveTrial(Task(0, 1, {})), "validation_0-auc")
