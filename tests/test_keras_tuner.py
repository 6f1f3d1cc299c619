"""Builders for KerasTuner, run by a study: what ``hp`` returns, declares and leaves out."""

import pytest

import welltuned as wt
from welltuned.keras_tuner import HyperParameters
from welltuned.live import LiveTrial, Task


def hp_of(number=0, params=None, **task):
    return HyperParameters(LiveTrial(Task(number, 0, params or {}, open_space=True, **task)))


def build(hp):
    """A network in numbers: its size, and a penalty for what is not its best setting."""
    cost = 0.0
    for i in range(hp.Int("layers", 1, 3)):
        with hp.name_scope(f"layer{i}"):
            cost += abs(hp.Int("units", 32, 200, step=64) - 96) / 64
    optimizer = hp.Choice("optimizer", ["sgd", "adam"])
    with hp.conditional_scope("optimizer", ["sgd"]):
        momentum = hp.Float("momentum", 0.0, 0.9, step=0.1)
    assert (momentum is None) == (optimizer == "adam")
    cost += abs(hp.Float("rate", 1e-4, 1e-1, sampling="log", default=1e-2) - 1e-2) * 10
    cost += 0.2 * hp.Boolean("bias")
    return cost + (0.5 if optimizer == "adam" else abs(momentum - 0.5))


def test_a_builder_is_tuned_as_it_is(tmp_path):
    study = wt.Study(storage=str(tmp_path / "s.db"), seed=0)
    study.optimize(lambda trial: build(HyperParameters(trial)), n_trials=25)
    again = wt.Study(storage=str(tmp_path / "s.db"), name=study.name)
    again.optimize(lambda trial: build(HyperParameters(trial)), n_trials=40)
    assert {t.state for t in again.trials} == {wt.State.COMPLETE}
    assert again.best.value < 0.6
    for trial in again.trials:
        assert ("momentum" in trial.params) == (trial.params["optimizer"] == "sgd")
        names = {f"layer{i}/units" for i in range(trial.params["layers"])}
        assert {n for n in trial.params if n.endswith("units")} == names
        assert {trial.params[n] for n in names} <= {32, 96, 160}, "the last step that fits"
    assert any(t.params["rate"] == 1e-2 for t in again.trials[:6]), "a default is tried early"


def test_it_is_a_kind_of_parameter_for_each_call():
    hp = hp_of()
    hp.Int("a", 2, 32, step=2, sampling="log")
    hp.Float("b", 0.001, 10, step=10, sampling="log")
    hp.Float("c", 0, 1, step=0.2)
    hp.Choice("d", [64, 32])
    hp.Choice("e", ["x", "y"])
    hp.Choice("f", [1, 2], ordered=False)
    hp.Int("g", 1, 9, sampling="log")
    hp.Boolean("h")
    found = hp._trial.domains
    assert found["a"] == wt.Ordinal([2, 4, 8, 16, 32])
    assert found["b"].choices == pytest.approx([0.001, 0.01, 0.1, 1, 10])
    assert (found["c"].low, found["c"].high, found["c"].step) == (0, pytest.approx(1), 0.2)
    assert found["d"] == wt.Ordinal([32, 64])
    assert found["e"] == wt.Categorical(["x", "y"])
    assert found["f"] == wt.Categorical([1, 2])
    assert found["g"] == wt.Int(1, 9, log=True)
    assert found["h"] == wt.Categorical([False, True], default=False)


def test_conditions_nest_and_names_have_scopes():
    hp = hp_of(params={"net/kind": "cnn", "net/filters": 8})
    with hp.name_scope("net"):
        kind = hp.Choice("kind", ["mlp", "cnn"])
        assert kind == hp.get("kind") == hp["kind"] == "cnn"
        with hp.conditional_scope("kind", "mlp"):
            assert hp.Int("units", 1, 8) is None
            with hp.conditional_scope("kind", ["mlp", "cnn"]):
                assert hp.Fixed("deep", 3) is None, "the outer condition does not hold"
        assert hp.Int("filters", 1, 8, parent_name="kind", parent_values=["cnn"]) == 8
        assert "filters" in hp and "units" not in hp
    assert hp.values == {"net/kind": "cnn", "net/filters": 8}
    assert set(hp._trial.domains) == {"net/kind", "net/filters"}


def test_the_same_name_is_one_parameter():
    hp = hp_of()
    assert hp.Int("units", 1, 1000) == hp.Int("units", 1, 1000)
    assert hp.Int("only", 5, 5) == hp.Fixed("fixed", 5) == 5
    assert set(hp._trial.domains) == {"units"}


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda hp: hp.Float("x", 0.1, 1.0, sampling="reverse_log"), "'reverse_log'"),
        (lambda hp: hp.Int("x", 0, 8, step=2, sampling="log"), "min_value > 0 and step > 1, not 0 and 2"),
        (lambda hp: hp.Float("x", 0.1, 1.0, step=1.0, sampling="log"), "step > 1"),
        (lambda hp: hp.get("x"), "'x' is not active here"),
    ],
)
def test_what_cannot_be_asked_for_is_said(ask, says):
    with pytest.raises(wt.InvalidValue, match=says):
        ask(hp_of())


def test_it_takes_a_trial_or_values():
    with pytest.raises(wt.InvalidType, match="neither a trial nor a dict"):
        HyperParameters(8)


# trial.suggest, by which it asks


def test_any_kind_of_parameter_can_be_declared_where_it_is_used():
    def objective(trial):
        size = trial.suggest("size", wt.Ordinal(["s", "m", "l"]))
        rate = trial.suggest("rate", wt.Float(1e-3, 1.0, log=True, default=0.1))
        assert trial.suggest("size", wt.Ordinal(["s", "m", "l"])) == size
        return {"s": 1.0, "m": 0.2, "l": 0.5}[size] + abs(rate - 0.1)

    study = wt.Study(seed=0)
    study.optimize(objective, n_trials=20)
    assert study.best.params["size"] == "m"
    assert isinstance(study.space["size"], wt.Ordinal)


def test_ordered_choices_of_one_name_are_united_in_their_order():
    sizes = [[32, 64], [16, 32], [64, 128]]

    def objective(trial):
        return trial.suggest("size", wt.Ordinal(sizes[trial.number % 3]))

    study = wt.Study(seed=0, sampler="random")
    study.optimize(objective, n_trials=6)
    assert study.space["size"].choices == (16, 32, 64, 128)


def test_named_choices_and_their_default_stay_when_a_study_goes_on(tmp_path):
    """They lost their names, and with them the results; without the default in the program, there was an error."""
    named, at = {"plain": None, "smallest": min}, str(tmp_path / "study.db")
    for n, default in ((2, {"default": None}), (4, {})):
        study = wt.Study(seed=0, storage=at)
        choices = wt.Categorical(named, **default)
        study.optimize(lambda t, c=choices: t.suggest("x", wt.Float(0, 1)) + (t.suggest("c", c) is None), n_trials=n)
        assert study.space["c"] == wt.Categorical(named, default=None)
        assert int(study.history.complete.sum()) == n
        assert study.trials[1].params == {"x": 0.5, "c": None}


def test_none_is_the_default_of_values_that_hold_it():
    """As KerasTuner has it, also where no default is given."""
    hp = hp_of()
    hp.Choice("a", ["x", None])
    hp.Choice("b", ["x", "y"])
    assert hp._trial.domains == {"a": wt.Categorical(["x", None], default=None), "b": wt.Categorical(["x", "y"])}
    assert hp._trial.domains["a"] != wt.Categorical(["x", None])


def test_conditions_belong_in_a_space():
    trial = hp_of()._trial
    with pytest.raises(wt.InvalidValue, match="write an 'if'"):
        trial.suggest("x", wt.Float(0, 1, when={"y": 1}))
    with pytest.raises(wt.InvalidType, match=r"\(0, 1\) is no parameter"):
        trial.suggest("x", (0, 1))


def test_powers_are_the_numbers_that_people_write():
    hp = hp_of()
    hp.Float("rate", 1e-6, 1e-1, step=10, sampling="log", default=1e-5)
    assert hp._trial.domains["rate"] == wt.Ordinal([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1], default=1e-5)


def test_a_default_between_steps_stands_for_the_nearest_one():
    hp = hp_of()
    hp.Int("a", 32, 200, step=64, default=200)
    hp.Float("b", 0.0, 1.0, step=0.25, default=0.3)
    hp.Int("c", 2, 100, step=2, sampling="log", default=60)
    found = hp._trial.domains
    assert [found[name].default for name in "abc"] == [160, 0.25, 64]
    with pytest.raises(wt.errors.InvalidValue, match="default=300"):
        hp.Int("d", 32, 200, step=64, default=300)


def test_a_range_of_one_value_is_that_value_in_its_type():
    hp = hp_of()
    found = [
        hp.Int("a", 5.0, 5.0),
        hp.Float("b", 1, 1),
        hp.Int("c", 1, 10, step=20),
        hp.Float("d", 0, 1, step=2),
        hp.Float("e", 1, 5, step=10, sampling="log"),
    ]
    assert [(v, type(v)) for v in found] == [(5, int), (1.0, float), (1, int), (0.0, float), (1.0, float)]
    assert not hp._trial.domains


@pytest.mark.parametrize(
    "ask",
    [
        lambda hp: hp.Int("a", 1, 8, step=0),
        lambda hp: hp.Float("a", 0.0, 1.0, step=0),
        lambda hp: hp.Int("a", "1", 8),
        lambda hp: hp.Int("a", 1.5, 8),
        lambda hp: hp.Float("a", None, 1.0),
        lambda hp: hp.Int("a", 8, 1, step=2, sampling="log"),
    ],
)
def test_what_makes_no_range_is_refused_by_name(ask):
    with pytest.raises((wt.errors.InvalidValue, wt.errors.InvalidType), match="'a'"):
        ask(hp_of())


def test_a_parent_that_nobody_asked_for_is_refused():
    hp = hp_of(params={"optimizer": "adam"})
    hp.Choice("optimizer", ["sgd", "adam"])
    with pytest.raises(wt.errors.InvalidValue, match="'optimiser'"), hp.conditional_scope("optimiser", ["sgd"]):
        pass
    assert hp.Boolean("nesterov", parent_name="optimizer", parent_values=["sgd"]) is None
    assert hp.Int("warmup", 1, 3, parent_name="nesterov", parent_values=[True]) is None, "known, if not active"


def test_a_default_stays_where_choices_of_two_branches_unite():
    def builder(hp):
        kind = hp.Choice("kind", ["mlp", "cnn"])
        with hp.conditional_scope("kind", ["mlp"]):
            wide = hp.Choice("width", [64, 128], default=128)
        with hp.conditional_scope("kind", ["cnn"]):
            narrow = hp.Choice("width", [8, 16])
        return (wide or narrow) / 128 + (kind == "mlp")

    study = wt.Study(seed=0, sampler="random")
    study.optimize(lambda trial: builder(HyperParameters(trial)), n_trials=8)
    assert study.space["width"] == wt.Ordinal([8, 16, 64, 128], default=128)


def everything(hp):
    values = {
        "int": hp.Int("int", 8, 64, step=8),
        "near": hp.Int("near", 0, 10, step=5, default=6),
        "power": hp.Int("power", 2, 32, step=2, sampling="log"),
        "float": hp.Float("float", 0, 1),
        "choice": hp.Choice("choice", [0.1, 0.01]),
        "text": hp.Choice("text", ["b", "a"], default="a"),
        "none": hp.Choice("none", ["b", None]),
        "boolean": hp.Boolean("boolean", default=True),
        "fixed": hp.Fixed("fixed", 3),
    }
    with hp.conditional_scope("text", ["b"]):
        values["inactive"] = hp.Int("inactive", 1, 2)
    return values


def test_without_a_trial_all_have_their_defaults():
    found = everything(HyperParameters())
    assert found == {
        "int": 8,
        "near": 5,
        "power": 2,
        "float": 0.0,
        "choice": 0.1,
        "text": "a",
        "none": None,
        "boolean": True,
        "fixed": 3,
        "inactive": None,
    }


def test_given_values_are_taken_and_the_rest_has_its_defaults():
    found = everything(HyperParameters({"choice": 0.005, "text": "b"}))
    assert (found["choice"], found["text"], found["inactive"], found["int"]) == (0.005, "b", 1, 8)


def test_the_best_model_is_built_again_from_its_record():
    built = []

    def objective(trial):
        built.append(everything(HyperParameters(trial)))
        return built[-1]["float"]

    study = wt.Study(seed=0)
    study.optimize(objective, n_trials=6)
    assert everything(HyperParameters(study.best)) == built[study.best.number]
    assert everything(HyperParameters(wt.LiveTrial.fixed(study.best))) == built[study.best.number]


def test_what_is_fixed_beforehand_is_not_searched():
    """The other half of tailoring a space: a builder that chooses gets what was fixed, and the rest is searched."""

    def objective(trial):
        hp = HyperParameters(trial)
        hp.Fixed("choice", 1e-4)
        return everything(hp)["choice"]

    study = wt.Study(seed=0)
    study.optimize(objective, n_trials=2)
    assert study.best.value == 1e-4
    assert "choice" not in study.space and "float" in study.space
