"""Every sampler: the contract, and convergence within a stated budget."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

import welltuned as wt
from welltuned.samplers import SAMPLERS, describe_sampler, make_sampler
from welltuned.testing import SamplerContract

BRANIN = [wt.Float(-5.0, 10.0), wt.Float(0.0, 15.0)]
BRANIN_BEST = 0.397887
QUADRATIC = {"x": (-5.0, 5.0), "y": (-5.0, 5.0)}
BRANCHES = {
    "kind": wt.Categorical(["a", "b", "c"]),
    "x": wt.Float(0.0, 1.0, when={"kind": "a"}),
    "y": wt.Float(1e-4, 1.0, log=True, when={"kind": "b"}),
    "n": wt.Int(1, 20, when={"kind": ["b", "c"]}),
}


class TestContract(SamplerContract):
    @pytest.fixture(params=SAMPLERS)
    def sampler(self, request):
        return make_sampler(request.param)


class TestGridInOrder(SamplerContract):
    @pytest.fixture
    def sampler(self):
        return wt.Grid(resolution=6, shuffle=False)


class TestBayesWithSettings(SamplerContract):
    @pytest.fixture
    def sampler(self):
        return wt.Bayes(initial=2, fantasies=4)


class TestGradientWithSettings(SamplerContract):
    @pytest.fixture
    def sampler(self):
        return wt.Gradient(step=0.1, tolerance=1e-2)


def branin(x):
    a, b = x
    return (b - 5.1 / (4 * np.pi**2) * a**2 + 5 / np.pi * a - 6) ** 2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(a) + 10


def quadratic(p):
    return (p["x"] - 1.3) ** 2 + 4 * (p["y"] + 2.1) ** 2


def branches(p):
    if p["kind"] == "a":
        return 1.0 + (p["x"] - 0.3) ** 2
    if p["kind"] == "b":
        return (np.log10(p["y"]) + 2) ** 2 / 4 + ((p["n"] - 12) / 10) ** 2
    return 2.0 + p["n"] / 20


def bests(sampler, objective, space, n_trials, seeds):
    return [wt.minimize(objective, space, n_trials, sampler=sampler, seed=s).best.value for s in range(seeds)]


#: sampler to the regret it must reach, in the median of five seeds, and the budget
ON_A_QUADRATIC = {
    "auto": (0.05, 25),
    "bayes": (0.05, 25),
    "gradient": (1e-3, 40),
    "grid": (2.08 + 1e-9, 25),
    "qmc": (3.0, 64),
    "random": (4.0, 64),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_converges_on_a_quadratic(name):
    """Every entry of SAMPLERS states its budget here; a new one without fails."""
    regret, budget = ON_A_QUADRATIC[name]
    assert np.median(bests(name, quadratic, QUADRATIC, budget, 5)) <= regret


def test_bayes_finds_branins_optimum():
    """30 evaluations: within 0.1 of the optimum for four of five seeds."""
    regrets = [best - BRANIN_BEST for best in bests("bayes", branin, BRANIN, 30, 5)]
    assert sorted(regrets)[3] < 0.1, regrets


def test_gradient_finds_one_of_branins_optima():
    """100 evaluations, stencils included: all three minima are global, so every start leads to one."""
    assert bests("gradient", branin, BRANIN, 100, 1)[0] - BRANIN_BEST < 0.05


@pytest.mark.parametrize("name", ["bayes", "gradient"])
def test_model_based_samplers_beat_random_search_on_branches(name):
    """30 evaluations of a mixed conditional function, eight seeds."""
    found = bests(name, branches, BRANCHES, 30, 8)
    randoms = bests("random", branches, BRANCHES, 30, 8)
    assert mannwhitneyu(found, randoms, alternative="less").pvalue < 0.05, (found, randoms)


def test_qmc_is_spread_more_evenly_than_random():
    """Of 64 points in an 8 × 8 checkerboard a Sobol sequence leaves fewer fields empty."""

    def empty(name, seed):
        study = wt.minimize(lambda p: 0.0, {"x": (0.0, 1.0), "y": (0.0, 1.0)}, 64, sampler=name, seed=seed)
        return 64 - len({(int(t.params["x"] * 8), int(t.params["y"] * 8)) for t in study.trials})

    assert max(empty("qmc", s) for s in range(5)) < min(empty("random", s) for s in range(5))


def test_grid_finds_the_best_of_its_points():
    """The whole grid, whatever the seed."""
    space = {"x": [-2, 0, 1, 3], "y": [-4, -2, 0], "z": ["a", "b"]}
    study = wt.minimize(lambda p: quadratic(p) + (p["z"] == "a"), space, sampler="grid", seed=3)
    assert study.best.params == {"x": 1, "y": -2, "z": "b"}
    assert len(study.trials) == 24


def test_gradient_uses_the_objectives_own_derivatives():
    """In ten dimensions 40 evaluations are enough with derivatives, and far from enough for random search."""
    space = {f"x{i}": (-5.0, 5.0) for i in range(10)}

    def sphere(p):
        return sum((v - 1) ** 2 for v in p.values()), {k: 2 * (v - 1) for k, v in p.items()}

    assert wt.minimize(sphere, space, 40, sampler="gradient", seed=0).best.value < 1e-3
    assert wt.minimize(sphere, space, 40, sampler="auto", seed=0).best.value < 1e-2


def test_proposals_in_a_batch_are_apart():
    """Eight proposals at once are not eight times (nearly) the same place."""
    study = wt.Study(QUADRATIC, sampler="bayes", seed=0)
    for _ in range(12):
        trial = study.ask()
        study.tell(trial, quadratic(trial))
    batch = np.array([[t["x"], t["y"]] for t in study.ask(8)])
    gaps = np.linalg.norm(batch[:, None] - batch[None], axis=2)[np.triu_indices(8, 1)]
    assert gaps.min() > 0
    assert gaps.mean() > 0.01


@pytest.mark.parametrize("name", SAMPLERS)
def test_descriptions_make_the_same_sampler(name):
    """What a study stores of its sampler is enough to make it again."""
    sampler = make_sampler(name)
    assert make_sampler(describe_sampler(sampler)) == sampler


@pytest.mark.parametrize(
    "spec", ["nope", "", {"name": "nope"}, {"name": "grid", "resolutoin": 3}, {"name": "grid", "resolution": 1}]
)
def test_bad_names_and_settings(spec):
    with pytest.raises(wt.InvalidValue):
        make_sampler(spec)


@pytest.mark.parametrize("spec", [None, 3, wt.Grid, object(), {"resolution": 3}])
def test_what_is_no_sampler(spec):
    with pytest.raises(wt.InvalidType):
        make_sampler(spec)


@pytest.mark.parametrize(
    ("kind", "settings", "error"),
    [
        (wt.Bayes, {"initial": 0}, wt.InvalidValue),
        (wt.Bayes, {"initial": 2.0}, wt.InvalidType),
        (wt.Bayes, {"initial": True}, wt.InvalidType),
        (wt.Bayes, {"fantasies": 3}, wt.InvalidValue),
        (wt.Bayes, {"fantasies": None}, wt.InvalidType),
        (wt.Gradient, {"step": 0}, wt.InvalidValue),
        (wt.Gradient, {"step": 0.5}, wt.InvalidValue),
        (wt.Gradient, {"tolerance": "1"}, wt.InvalidType),
        (wt.Gradient, {"tolerance": float("nan")}, wt.InvalidValue),
        (wt.Grid, {"resolution": 2.5}, wt.InvalidType),
    ],
)
def test_bad_settings(kind, settings, error):
    with pytest.raises(error, match=next(iter(settings))):
        kind(**settings)


def test_several_objectives_are_refused_by_samplers_of_one():
    with pytest.raises(wt.InvalidValue, match="gradient"):
        wt.Study(QUADRATIC, direction=["minimize", "minimize"], sampler="gradient")


def test_constraints_that_nothing_satisfies_are_named():
    space = wt.Space({"x": (0.0, 1.0)}, constraints=[lambda p: False])
    with pytest.raises(wt.InvalidValue, match="constraint"):
        wt.Study(space, sampler="random").ask()


def test_auto_says_what_it_picked(caplog):
    caplog.set_level("INFO", logger="welltuned")
    wt.minimize(lambda p: p["x"], {"x": [1, 2, 3]}, n_trials=5)
    assert "uses grid" in caplog.text
    wt.minimize(quadratic, QUADRATIC, n_trials=3)
    assert "uses bayes" in caplog.text
