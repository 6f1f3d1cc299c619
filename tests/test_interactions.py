"""Which parameters interact and what the model sees of each: on functions whose shares and averages are known."""

from itertools import permutations

import numpy as np
import pytest

import welltuned as wt
from welltuned import Categorical, Float, Int, Space, plots
from welltuned.errors import InvalidType, InvalidValue
from welltuned.report import TITLES, render
from welltuned.stats import Effect, effects, importance, interactions

plotly = pytest.importorskip("plotly")
CUBE = {"x": (0.0, 1.0), "y": (0.0, 1.0), "z": (0.0, 1.0)}


def tuned(space, objective, n=40, **options):
    study = wt.Study(space, **{"seed": 0, "sampler": "random", **options})
    study.optimize(objective, n_trials=n)
    return study


def additive(p):
    return np.sin(4 * p["x"]) + 2 * p["y"] + p["z"] ** 2


def ishigami(p):
    return np.sin(p["a"]) + 7 * np.sin(p["b"]) ** 2 + 0.1 * p["c"] ** 4 * np.sin(p["a"])


# shares


def test_a_sum_has_no_interactions():
    found = interactions(tuned(CUBE, additive))
    assert set(found) == {("x", "y"), ("x", "z"), ("y", "z")}
    assert max(found.values()) < 0.01


def test_noise_on_a_sum_passes_for_little():
    rng = np.random.default_rng(0)
    study = tuned(CUBE, lambda p: additive(p) + 0.5 * rng.standard_normal(), 60)
    assert max(interactions(study).values()) < 0.03


def test_all_of_a_product_is_the_pairs():
    study = tuned({"x": (-1.0, 1.0), "y": (-1.0, 1.0)}, lambda p: p["x"] * p["y"])
    assert interactions(study)["x", "y"] > 0.95
    assert min(importance(study).values()) > 0.95 and max(importance(study, alone=True).values()) < 0.05


def test_shares_of_ishigamis_function():
    """S1 = 0.3139, S2 = 0.4424, S13 = 0.2437, nothing else; from 200 trials within 0.06, and others below 0.03."""
    study = tuned(dict.fromkeys("abc", (-np.pi, np.pi)), ishigami, 200, sampler="qmc")
    pairs, alone, total = interactions(study), importance(study, alone=True), importance(study)
    assert next(iter(pairs)) == ("a", "c") and pairs["a", "c"] == pytest.approx(0.2437, abs=0.06)
    assert max(pairs["a", "b"], pairs["b", "c"]) < 0.03
    assert [alone[n] for n in "abc"] == pytest.approx([0.3139, 0.4424, 0.0], abs=0.06)
    assert [total[n] for n in "abc"] == pytest.approx([0.5576, 0.4424, 0.2437], abs=0.06)


def test_a_search_that_keeps_to_the_best_region_does_not_change_the_shares():
    """Most values of a search are near the best one; the few bad ones say most of the whole space, and count."""

    def objective(x, y, z):
        return np.where(x > 0.7, 5.0, 0.0) + 4 * (x - 0.3) ** 2 + (y - 0.6) ** 2 * (1 + z)

    study = tuned(CUBE, lambda p: float(objective(**p)), 50, sampler="bayes")
    assert importance(study)["x"] > 0.7
    # nor does one that has diverged leave nothing to see, though it stands out like the worst of the others
    study.add([({"x": 0.5, "y": 0.5, "z": 0.5}, 1e9)])
    shares = importance(study)
    assert next(iter(shares)) == "x" and shares["x"] > 0.2


def test_noise_interacts_with_nothing():
    rng = np.random.default_rng(0)
    for seed in range(3):
        study = tuned({f"p{i}": (0.0, 1.0) for i in range(5)}, lambda p: rng.random(), 60, seed=seed)
        assert max(interactions(study).values(), default=0.0) < 0.05


def test_no_pair_has_more_than_either_of_the_two():
    study = tuned(CUBE, lambda p: p["x"] * p["y"] + (p["z"] > 0.5) * p["x"], 60)
    totals = importance(study)
    for (a, b), share in interactions(study).items():
        assert 0.0 <= share <= min(totals[a], totals[b]) + 0.02


@pytest.mark.parametrize("order", list(permutations("xyz"))[1::2])
def test_the_order_of_parameters_changes_nothing(order):
    rows = np.random.default_rng(0).random((60, 3)).tolist()
    found = []
    for names in ("xyz", order):
        study = wt.Study(dict.fromkeys(names, (0.0, 1.0)), seed=0)
        study.add([(p, p["x"] * p["y"] + p["z"]) for p in (dict(zip("xyz", row, strict=True)) for row in rows)])
        found.append({frozenset(pair): share for pair, share in interactions(study).items()})
    assert found[0] == pytest.approx(found[1], abs=0.01)


def test_pairs_are_named_in_the_order_of_the_space_and_repeat():
    study = tuned({"b": (0.0, 1.0), "a": (0.0, 1.0)}, lambda p: p["a"] * p["b"] + 5 * p["a"])
    assert list(interactions(study)) == [("b", "a")]
    assert interactions(study) == interactions(study.history)
    assert interactions(study, samples=300, seed=4) == pytest.approx(interactions(study), abs=0.02)


def test_being_switched_off_is_no_interaction():
    """A child interacts with its parent where what it does depends on the parent, not because it may be absent."""
    space = {"kind": ["a", "b", "c"], "x": Float(-1.0, 1.0, when={"kind": ["a", "b"]})}
    same = tuned(space, lambda p: p.get("x", 0.0) + (p["kind"] == "c"), 60)
    other = tuned(space, lambda p: p.get("x", 0.0) * (1 if p["kind"] == "a" else -1), 60)
    assert interactions(same)["kind", "x"] < 0.02
    assert importance(same)["x"] > 0.1
    assert interactions(other)["kind", "x"] > 0.3


def test_constraints_make_no_interaction():
    space = Space({"x": (0.0, 1.0), "y": (0.0, 1.0)}, constraints=[lambda p: p["x"] + p["y"] < 0.4])
    found = tuned(space, lambda p: p["x"] + 2 * p["y"])
    assert interactions(found)["x", "y"] < 0.01
    assert importance(found)["y"] > importance(found)["x"] > 0.05


def test_a_name_in_several_grids_counts_in_all_of_them():
    study = tuned(
        [{"x": (0.0, 1.0), "y": (0.0, 1.0)}, {"x": (2.0, 3.0), "z": (0.0, 1.0)}],
        lambda p: (p["x"] if "y" in p else p["x"] - 2) * (1 + p.get("y", 0.0)),
        80,
    )
    assert importance(study)["x"] > 0.8
    assert set(interactions(study)) <= {("x", "y"), ("x", "z"), ("y", "z")}
    assert interactions(study)["x", "y"] > 0.01


def test_what_was_never_varied_is_not_judged():
    study = wt.Study({"c": ["u", "v"], "x": (0.0, 1.0)}, seed=0)
    study.add([({"c": "u", "x": x}, x) for x in np.linspace(0.0, 1.0, 12).tolist()])
    assert importance(study)["c"] == 0.0 and importance(study)["x"] > 0.9
    assert interactions(study) == {}


def test_only_parameters_that_matter_are_paired():
    rng = np.random.default_rng(0)
    study = wt.Study({f"p{i:02}": (0.0, 1.0) for i in range(60)}, seed=0)
    rows = rng.random((150, 60))
    y = rows[:, 0] * rows[:, 1] + rows[:, :20].sum(1) / 2
    study.add([(dict(zip(study.space, row, strict=True)), v) for row, v in zip(rows.tolist(), y.tolist(), strict=True)])
    found = interactions(study)
    assert len(found) <= 66
    assert next(iter(found)) == ("p00", "p01")


def test_of_what_cannot_be_told_nothing_is_said():
    assert interactions(wt.History(Space(CUBE))) == {}
    assert interactions(tuned(CUBE, additive, 3)) == {}
    assert interactions(tuned(CUBE, lambda p: 1.0, 9)) == {}
    assert interactions(tuned({"x": (0.0, 1.0)}, lambda p: p["x"], 12)) == {}
    assert importance(tuned(CUBE, lambda p: 1.0, 9), alone=True) == {}


def test_one_infinite_value_is_left_out():
    study = tuned(CUBE, lambda p: np.inf if p["x"] > 0.97 else additive(p), 60)
    assert max(interactions(study).values()) < 0.02


def test_each_objective_has_shares_of_its_own():
    study = tuned(
        {"x": (-1.0, 1.0), "y": (-1.0, 1.0)},
        lambda p: {"f": p["x"] + p["y"], "g": p["x"] * p["y"]},
        direction={"f": "minimize", "g": "maximize"},
    )
    assert interactions(study)["x", "y"] < 0.01
    assert interactions(study, "g")["x", "y"] > 0.95


@pytest.mark.parametrize("function", [interactions, importance, lambda *a, **k: effects(a[0], "x", *a[1:], **k)])
def test_bad_requests(function):
    study = tuned(CUBE, additive, 12)
    with pytest.raises(InvalidValue, match="objective='bogus'"):
        function(study, "bogus")
    with pytest.raises(InvalidType, match="3 is neither"):
        function(3)
    with pytest.raises(InvalidValue, match="samples=0"):
        function(study, samples=0)
    with pytest.raises(InvalidValue, match="seed=-1"):
        function(study, seed=-1)
    with pytest.raises(InvalidType, match="seed='a'"):
        function(study, seed="a")


# effects


def test_an_effect_is_the_average_over_the_trials():
    study = tuned(CUBE, additive)
    found = effects(study, "x")
    rest = np.mean([2 * t.params["y"] + t.params["z"] ** 2 for t in study.trials])
    truth = np.sin(4 * np.array(found.values[0])) + rest
    assert isinstance(found, Effect) and found.names == ("x",)
    assert found.values[0][0] == 0.0 and found.values[0][-1] == 1.0 and len(found.values[0]) == 33
    assert (np.abs(truth - found.mean) <= 3 * found.sd + 0.02).all()


def test_the_sign_of_what_is_maximised_is_kept():
    down, up = tuned(CUBE, additive), tuned(CUBE, lambda p: -additive(p), direction="maximize")
    a, b = effects(down, "y", points=5), effects(up, "y", points=5)
    np.testing.assert_allclose(a.mean, -b.mean, atol=1e-6)
    np.testing.assert_allclose(a.sd, b.sd, atol=1e-6)
    assert a.mean[0] < a.mean[-1]


def test_where_nothing_was_tried_the_band_is_wide():
    study = wt.Study({"x": (0.0, 1.0), "y": (0.0, 1.0)}, seed=0)
    rows = np.random.default_rng(0).random((30, 2)).tolist()
    study.add([({"x": 0.4 * x, "y": y}, float(np.sin(9 * x) + y)) for x, y in rows])
    found = effects(study, "x")
    assert found.sd[-1] > 20 * found.sd[np.array(found.values[0]) < 0.35].max()


@pytest.mark.once
def test_bands_hold_the_truth_as_often_as_they_say():
    """Of a search that went where it was good: nine of ten by the model, three of four at least."""
    inside = []
    for seed in range(4):
        study = tuned(CUBE, lambda p: np.sin(7 * p["x"]) + p["y"] * p["z"], 40, sampler="bayes", seed=seed)
        params = [t.params for t in study.trials]
        found = effects(study, "x")
        truth = np.sin(7 * np.array(found.values[0])) + np.mean([p["y"] * p["z"] for p in params])
        inside += (np.abs(truth - found.mean) <= 1.645 * found.sd).tolist()
    assert np.mean(inside) > 0.75


MIXED = {
    "kind": ["a", "b"],
    "n": Int(1, 5),
    "lr": Float(1e-4, 1.0, log=True),
    "x": Float(0.0, 1.0, when={"kind": "a"}),
}


@pytest.fixture(scope="module")
def mixed():
    return tuned(MIXED, lambda p: p["n"] + np.log10(p["lr"]) ** 2 + 3 * p.get("x", 1.0), 50)


def test_values_are_those_of_the_parameter(mixed):
    assert effects(mixed, "kind").values == (["a", "b"],)
    assert effects(mixed, "n").values == ([1, 2, 3, 4, 5],)
    assert all(type(n) is int for n in effects(mixed, "n").values[0])
    np.testing.assert_allclose(effects(mixed, "lr", points=5).values[0], [1e-4, 1e-3, 1e-2, 1e-1, 1.0])


def test_a_child_is_averaged_where_it_is_active(mixed):
    found = effects(mixed, "x")
    here = [t.params for t in mixed.trials if t.params["kind"] == "a"]
    truth = np.mean([p["n"] + np.log10(p["lr"]) ** 2 for p in here]) + 3 * np.array(found.values[0])
    np.testing.assert_allclose(found.mean, truth, atol=0.5)
    both = effects(mixed, ("kind", "x"))
    assert both.mean.shape == both.sd.shape == (2, 21)
    assert np.isfinite(both.mean[0]).all() and np.isnan(both.mean[1]).all()


def test_a_parent_takes_along_what_its_child_was_elsewhere():
    """Most trials that had x had it near 0.9: where it is switched on anew, it is there too, and not anywhere."""
    study = wt.Study(MIXED, seed=0)
    rows = np.random.default_rng(0).random((80, 3)).tolist()
    for i, (n, lr, x) in enumerate(rows):
        params = {"kind": "ab"[i % 2], "n": 1 + int(5 * n), "lr": 1e-4 ** (1 - lr)}
        params |= {} if i % 2 else {"x": x if i % 8 == 0 else 0.88 + 0.04 * x}
        study.add(params, 10 * (params.get("x", 0.0) - 0.9) ** 2)
    found = effects(study, "kind")
    truth = np.mean([t.value for t in study.trials if t.params["kind"] == "a"])
    assert truth < 1.0 and found.mean == pytest.approx([truth, 8.1], abs=0.5)


def test_what_is_forbidden_is_left_out():
    space = Space({"x": (0.0, 1.0), "y": (0.0, 1.0)}, constraints=[lambda p: p["x"] + p["y"] <= 1.0])
    found = effects(tuned(space, lambda p: p["x"] + p["y"]), ("x", "y"), points=3)
    assert np.isnan(found.mean).tolist() == [[False, False, False], [False, False, True], [False, True, True]]
    assert found.mean[1, 1] == pytest.approx(1.0, abs=0.05)


def test_an_effect_over_several_grids():
    study = tuned([{"x": (0.0, 1.0)}, {"x": (2.0, 3.0), "z": (0.0, 1.0)}], lambda p: p["x"], 40)
    found = effects(study, "x", points=3)
    assert found.values == ([0.0, 0.5, 1.0, 2.0, 2.5, 3.0],)
    np.testing.assert_allclose(found.mean, found.values[0], atol=0.1)
    assert effects(tuned([{"x": (0.0, 1.0)}, {"x": ["u"]}], lambda p: float(p["x"] == "u"), 20), "x").mean[-1] > 0.8


def test_of_very_many_choices_those_that_were_tried_are_drawn():
    study = tuned({"c": list(range(200)), "x": (0.0, 1.0)}, lambda p: p["x"], 25)
    drawn = effects(study, ("c", "x")).values[0]
    assert len(drawn) == 40 and drawn == sorted(drawn) and {t.params["c"] for t in study.trials} < set(drawn)


@pytest.mark.parametrize("names", [(), ("n", "n"), ("n", "lr", "x"), "bogus", ("n", "bogus"), ["@grid"]])
def test_bad_names(mixed, names):
    with pytest.raises(InvalidValue, match="effects"):
        effects(mixed, names)


def test_effects_need_a_model(mixed):
    with pytest.raises(InvalidType, match="names=3"):
        effects(mixed, 3)
    with pytest.raises(InvalidValue, match="points=1"):
        effects(mixed, "n", points=1)
    for few in (tuned(CUBE, additive, 3), tuned(CUBE, lambda p: 1.0, 9)):
        with pytest.raises(InvalidValue, match="differ"):
            effects(few, "x")


# figures


def test_effects_are_lines_and_points_with_the_best(mixed):
    figure = plots.effects(mixed)
    by_name = {}
    for i, parameter in enumerate(importance(mixed)):
        axis = f"x{i + 1}" if i else "x"
        by_name[parameter] = [t for t in figure.data if (t.xaxis or "x") == axis]
        assert figure.layout[axis.replace("x", "xaxis")].title.text == parameter
        assert by_name[parameter][-1].marker.symbol == "star"
    assert [t.mode for t in by_name["lr"]] == ["lines", "lines", "markers"]
    assert [t.mode for t in by_name["n"]] == ["lines", "lines+markers", "markers"]
    assert list(by_name["kind"][0].x) == ["a", "b"] and len(by_name["kind"][0].error_y.array) == 2
    lr = list(importance(mixed)).index("lr")
    assert figure.layout[f"xaxis{lr + 1}" if lr else "xaxis"].type == "log"
    best = by_name["lr"][-1]
    assert best.x[0] == mixed.best.params["lr"] and best.y[0] < max(by_name["lr"][1].y)


def test_at_most_six_panels():
    study = tuned({f"x{i}": (0.0, 1.0) for i in range(9)}, lambda p: sum((i + 1) * p[f"x{i}"] for i in range(9)), 30)
    figure = plots.effects(study)
    titles = [figure.layout[f"xaxis{i or ''}"].title.text for i in (0, 2, 3, 4, 5, 6)]
    assert titles == list(importance(study))[:6] and "xaxis7" not in figure.layout


def test_surfaces(mixed):
    both = plots.surface(mixed, ("lr", "n"))
    assert both.data[0].type == "contour" and both.data[0].z.shape == (5, 21)
    assert both.layout.xaxis.type == "log" and list(both.layout.xaxis.range) == pytest.approx([-4.0, 0.0])
    assert len(both.data[1].x) == 50 and both.data[2].x[0] == mixed.best.params["lr"]
    chosen = plots.surface(mixed, ("lr", "kind"))
    assert chosen.data[0].type == "heatmap" and list(chosen.data[0].y) == ["a", "b"]
    assert chosen.layout.yaxis.type == "category"
    child = plots.surface(mixed, ("x", "n"))
    assert len(child.data[1].x) == sum(t.params["kind"] == "a" for t in mixed.trials)
    for figure in (both, chosen, child, plots.surface(mixed)):
        assert len(figure.to_json()) > 500


def test_a_surface_is_that_of_the_pair_that_interacts_most():
    study = tuned(CUBE, lambda p: p["z"] * p["y"] * 4 + p["x"], 40, direction="maximize")
    figure = plots.surface(study)
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("y", "z")
    assert not figure.data[0].reversescale
    assert figure.data[0].z[-1, -1] > figure.data[0].z[0, 0]
    with pytest.raises(InvalidValue, match="two parameters"):
        plots.surface(tuned({"x": (0.0, 1.0)}, lambda p: p["x"], 9))
    with pytest.raises(InvalidValue, match="two parameters"):
        plots.surface(study, "x")


def test_the_largest_pairs_are_on_top():
    study = tuned(CUBE, lambda p: p["x"] * p["y"] * 4 + p["x"] * p["z"])
    bars = plots.interactions(study).data[0]
    assert bars.y[-1] == "x × y" and list(bars.x) == sorted(bars.x)


# the report


def headings(study):
    text = render([study])
    return [title for title, _ in TITLES.values() if f"<h2>{title}" in text]


def test_the_report_draws_what_interacts_or_says_that_nothing_does():
    product = tuned({"x": (-1.0, 1.0), "<y>": (-1.0, 1.0)}, lambda p: p["x"] * p["<y>"], 30)
    text = render([product])
    assert "<h2>x and &lt;y&gt;</h2>" in text and 'id="figure-0-surface-0"' in text
    text = render([tuned(CUBE, additive)])
    assert "no two parameters have as much as 2 % of the variance together" in text
    assert 'id="figure-0-interactions-0' not in text and 'id="figure-0-effects-0"' in text


def test_the_report_leaves_out_what_cannot_be_told():
    shown = [TITLES[kind][0] for kind in ("interactions", "effects")]
    assert not set(shown) & set(headings(tuned(CUBE, additive, 3)))
    assert shown[1:] == [h for h in headings(tuned({"x": (0.0, 1.0)}, lambda p: p["x"])) if h in shown]


def test_choices_of_any_kind_are_drawn():
    space = {"f": Categorical([len, max, None, (1, 2)]), "x": (0.0, 1.0)}
    study = tuned(space, lambda p: p["x"] * (p["f"] is len) + p["x"], 30)
    assert list(plots.surface(study, ("f", "x")).data[0].x) == ["len", "max", "None", "(1, 2)"]
    assert effects(study, "f").values == ([len, max, None, (1, 2)],)
