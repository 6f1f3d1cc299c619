"""What every sampler keeps."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from welltuned.errors import InvalidValue
from welltuned.history import History
from welltuned.samplers import Sampler
from welltuned.space import Categorical, Float, Int, Params, Space
from welltuned.streams import trial_rng
from welltuned.trial import Origin, Reason, State, Trial


def real() -> Space:
    """Return two real parameters, one of them on a log scale."""
    return Space({"x": (-2.0, 2.0), "lr": Float(1e-6, 1e-1, log=True)})


def mixed() -> Space:
    """Return one parameter of each kind, with awkward choices."""
    return Space(
        {
            "x": (0.0, 1.0),
            "n": Int(1, 1000, log=True),
            "step": Float(0.0, 1.0, step=0.1),
            "batch": [16, 32, 64],
            "act": Categorical(["relu", None, (1, 2), 1.0, True]),
        }
    )


def conditional() -> Space:
    """Return three branches, one of them with a condition of its own."""
    return Space(
        {
            "kind": Categorical(["a", "b", "c"]),
            "x": Float(0.0, 1.0, when={"kind": "a"}),
            "n": Int(1, 9, when={"kind": ["b", "c"]}),
            "y": Float(1e-3, 1.0, log=True, when={"n": ">= 5"}),
        }
    )


def constrained() -> Space:
    """Return a triangle, and two choices that do not go together."""
    return Space(
        {"x": (0.0, 1.0), "y": (0.0, 1.0), "a": Categorical(["p", "q"]), "b": Categorical(["r", "s"])},
        forbidden=[{"a": "p", "b": "s"}],
        constraints=[below_one],
    )


def finite() -> Space:
    """Return twelve points."""
    return Space({"a": [1, 2, 3], "b": Categorical(["u", "v"]), "c": Categorical([True, False])})


def finite_conditional() -> Space:
    """Return five points: three with ``n``, two without; a third is forbidden."""
    return Space(
        {"kind": Categorical(["a", "b", "c", "d"]), "n": Categorical([1, 2, 3], when={"kind": "a"})},
        forbidden=[{"kind": "d"}],
    )


def below_one(params: Params) -> bool:
    """Allow the lower triangle."""
    return bool(params["x"] + params["y"] <= 1.0)


SPACES: dict[str, Callable[[], Space]] = {
    "real": real,
    "mixed": mixed,
    "conditional": conditional,
    "constrained": constrained,
    "finite": finite,
    "finite_conditional": finite_conditional,
}
Value = Callable[[Params], float | None]
LARGEST = sys.float_info.max  # which people return for what failed


class SamplerContract:
    """Prove a sampler: its proposals are allowed, new and distinct, and follow from its arguments alone.

    Provide the fixture ``sampler``. A sampler of one objective says so by ``several_objectives = False``.

    Examples
    --------
    >>> from welltuned import Random
    >>> class TestRandom(SamplerContract):
    ...     @pytest.fixture
    ...     def sampler(self):
    ...         return Random()
    """

    @pytest.fixture
    def sampler(self) -> Sampler:
        """Return the sampler under test."""
        raise NotImplementedError("provide the fixture 'sampler'")

    def test_is_a_sampler(self, sampler: Sampler) -> None:
        """It satisfies the protocol, and says what it can."""
        assert isinstance(sampler, Sampler)
        assert isinstance(sampler.model_based, bool)
        assert isinstance(sampler.several_objectives, bool)

    @pytest.mark.parametrize("name", SPACES)
    @pytest.mark.parametrize("at_once", [1, 4])
    def test_proposals_are_allowed_and_new(self, sampler: Sampler, name: str, at_once: int) -> None:
        """Proposals are configurations of the space, none of them twice, one or four at a time."""
        trials = play(sampler, SPACES[name](), bowl, 14, at_once=at_once)
        assert len(trials) >= 5

    @pytest.mark.parametrize("name", ["finite", "finite_conditional"])
    @pytest.mark.parametrize("at_once", [1, 5])
    def test_exhaustion(self, sampler: Sampler, name: str, at_once: int) -> None:
        """A finite space is gone through once; then there is nothing left to propose."""
        space = SPACES[name]()
        trials = play(sampler, space, bowl, 40, at_once=at_once)
        assert len(trials) == {"finite": 12, "finite_conditional": 5}[name]
        assert sampler.suggest(space, History(space, trials), at_once, trial_rng(0, len(trials))) == []

    def test_exhaustion_while_trials_run(self, sampler: Sampler) -> None:
        """Running trials count as tried: with all of them under way there is nothing left."""
        trials = [replace(t, state=State.RUNNING, metrics={}) for t in play(sampler, finite(), bowl, 40, at_once=4)]
        assert len(trials) == 12
        assert sampler.suggest(finite(), History(finite(), trials), 1, trial_rng(0, 12)) == []

    @pytest.mark.parametrize("name", SPACES)
    def test_the_same_arguments_give_the_same_proposals(self, sampler: Sampler, name: str) -> None:
        """Nothing but the arguments counts: not an earlier call, a copy, or a history built anew."""
        space = SPACES[name]()
        trials = play(sampler, space, bowl, 9)[: 3 if name == "finite_conditional" else 9]
        history = History(space, trials)
        first = ask(sampler, history)
        assert first
        play(sampler, mixed(), bowl, 3, seed=5)
        assert ask(sampler, history) == first
        assert ask(pickle.loads(pickle.dumps(sampler)), history) == first
        assert ask(copy.deepcopy(sampler), history) == first
        assert ask(sampler, History(SPACES[name](), reversed(trials))) == first

    def test_a_run_can_be_repeated(self, sampler: Sampler) -> None:
        """The same seed gives the same run."""
        assert configurations(play(sampler, mixed(), bowl, 12)) == configurations(play(sampler, mixed(), bowl, 12))

    def test_seeds_matter_or_nothing_is_random(self, sampler: Sampler) -> None:
        """A run follows its seed, not the global generator: either seeds give different runs or all runs are alike."""
        runs = [configurations(play(sampler, real(), bowl, 8, seed=seed)) for seed in (0, 1, 2, 0)]
        assert runs[0] == runs[3]
        assert len({str(r) for r in runs}) in (1, 3)

    def test_the_history_is_left_as_it_is(self, sampler: Sampler) -> None:
        """Neither the history nor the space is changed by asking."""
        space = conditional()
        trials = play(sampler, space, bowl, 12)
        history, before = History(space, trials), copy.deepcopy(trials)
        unit = history.unit.copy()
        ask(sampler, history)
        assert list(history.trials) == before
        assert ((history.unit == unit) | (unit != unit)).all()
        assert space == conditional()

    @pytest.mark.parametrize("value", [0.0, 1e-9, -1e12, 1e300])
    def test_constant_objective(self, sampler: Sampler, value: float) -> None:
        """When all values are alike the search goes on."""
        assert len(play(sampler, mixed(), lambda _: value, 11)) == 11

    @pytest.mark.parametrize(
        "values", [[1e-9, 1e12, -1e12, 0.0, -1e-9, 3.0], [LARGEST, -LARGEST, 5e-324, 0.0, 1.0, -1.0]]
    )
    def test_huge_and_tiny_values(self, sampler: Sampler, values: list[float]) -> None:
        """Values of very different magnitudes do no harm."""
        assert len(play(sampler, real(), lambda params: values[int(abs(params["x"]) * 1e6) % 6], 12)) == 12

    def test_tiny_differences(self, sampler: Sampler) -> None:
        """Values that differ in their last digits do no harm."""
        assert len(play(sampler, real(), lambda params: 1e12 + 1e-3 * params["x"], 10)) == 10

    @pytest.mark.parametrize("name", ["real", "mixed", "conditional"])
    def test_failures(self, sampler: Sampler, name: str) -> None:
        """Failed trials are not proposed again, and the search goes on, even when all fail."""
        assert len(play(sampler, SPACES[name](), sometimes, 14)) == 14
        assert len(play(sampler, SPACES[name](), lambda _: None, 8)) == 8

    def test_thirty_identical_failures(self, sampler: Sampler) -> None:
        """The same configuration failed again and again, as when it was enqueued: the search goes on elsewhere."""
        space = real()
        rows = [done(space, n, {"x": 0.5, "lr": 1e-3}, None) for n in range(30)]
        assert len(play(sampler, space, bowl, 36, trials=rows)) == 36

    def test_one_infinite_value(self, sampler: Sampler) -> None:
        """A result that is not finite says nothing, and does no harm."""
        space = real()
        trials = play(sampler, space, bowl, 8)
        trials[4] = replace(trials[4], metrics={"value": float("inf")})
        assert len(play(sampler, space, bowl, 12, trials=trials)) == 12

    @pytest.mark.parametrize("p", [1, 60])
    def test_one_parameter_and_sixty(self, sampler: Sampler, p: int) -> None:
        """The number of parameters is no obstacle."""
        space = Space({f"x{i}": (0.0, 1.0) for i in range(p)})
        try:
            trials = play(sampler, space, bowl, 12, at_once=3)
        except InvalidValue as refusal:  # a grid of 60 parameters has more points than can be visited
            assert p == 60 and "points" in str(refusal)
        else:
            assert len(trials) == 12 or (len(trials) >= 5 and not sampler.model_based)

    def test_duplicates_in_the_history(self, sampler: Sampler) -> None:
        """The same configuration many times, with different values, does no harm."""
        space = real()
        rows = [{"x": 0.5, "lr": 1e-3}] * 8 + [{"x": -1.0, "lr": 1e-2}] * 4
        trials = [replace(done(space, n, p, float(n)), origin=Origin.ADDED) for n, p in enumerate(rows)]
        assert len(play(sampler, space, bowl, 17, trials=trials)) == 17

    def test_trials_that_do_not_fit(self, sampler: Sampler) -> None:
        """Trials of an earlier version of the space are passed over where they do not fit."""
        old = Space({"x": (-9.0, -8.0), "gone": ["a", "b"]})
        trials = [done(old, n, {"x": -8.5 - n / 100, "gone": "a"}, float(n)) for n in range(6)]
        trials += [done(real(), n, {"x": n / 10, "lr": 1e-3}, float(n)) for n in range(6, 12)]
        assert len(play(sampler, real(), bowl, 16, trials=trials)) == 16

    def test_every_kind_of_trial(self, sampler: Sampler) -> None:
        """Running, waiting, pruned and blank trials are part of a history."""
        space = mixed()
        trials = play(sampler, space, bowl, 14)
        trials[3] = replace(trials[3], state=State.RUNNING, metrics={})
        trials[5] = replace(trials[5], state=State.WAITING, metrics={})
        trials[7] = replace(trials[7], state=State.PRUNED, metrics={})
        trials[13] = Trial(13, State.RUNNING, revision=14)
        assert len(play(sampler, space, bowl, 17, trials=trials)) == 17

    def test_maximize_is_minimize_upside_down(self, sampler: Sampler) -> None:
        """The search for the largest value is that for the smallest of its negative."""
        down = play(sampler, real(), bowl, 12)
        up = play(sampler, real(), lambda params: -bowl(params), 12, directions={"value": "maximize"})
        assert configurations(up) == configurations(down)

    def test_several_objectives(self, sampler: Sampler) -> None:
        """A sampler of several objectives works with them, named as they may be."""
        if not sampler.several_objectives:
            pytest.skip("a sampler of one objective")
        directions = {"loss": "minimize", "acc": "maximize"}
        assert len(play(sampler, mixed(), bowl, 12, directions=directions)) == 12

    def test_one_parameter_one_value(self, sampler: Sampler) -> None:
        """A space of a single configuration has one proposal."""
        assert configurations(play(sampler, Space({"x": Categorical(["only"])}), bowl, 3)) == [{"x": "only"}]


def play(
    sampler: Sampler,
    space: Space,
    value: Value,
    n: int,
    *,
    at_once: int = 1,
    seed: int = 0,
    directions: Mapping[str, str] | None = None,
    trials: Iterable[Trial] = (),
) -> list[Trial]:
    """Ask and evaluate until there are ``n`` trials or nothing is proposed; check every proposal on the way.

    ``value`` returns the objective, or None for a configuration that fails. Other objectives are multiples of it.
    """
    done_so_far = list(trials)
    while len(done_so_far) < n:
        history = History(space, done_so_far, directions, workers=at_once)
        wanted = min(at_once, n - len(done_so_far))
        proposals = sampler.suggest(space, history, wanted, trial_rng(seed, len(done_so_far)))
        check(space, history, proposals, wanted)
        done_so_far += [
            done(space, len(done_so_far) + i, p, value(p), history.directions) for i, p in enumerate(proposals)
        ]
        if not proposals:
            break
    return done_so_far


def check(space: Space, history: History, proposals: list[Params], wanted: int) -> None:
    """Check that proposals are allowed, complete, new and distinct, and not more than wanted."""
    assert isinstance(proposals, list)
    assert len(proposals) <= wanted
    keys = [space.key(p) for p in proposals]
    assert len(set(keys)) == len(keys), "proposed twice at once"
    assert not set(keys) & history.keys, "proposed before"
    for params in proposals:
        assert isinstance(params, dict)
        assert space.validate(params) == params


def done(
    space: Space, number: int, params: Params, value: float | None, directions: Mapping[str, str] | None = None
) -> Trial:
    """Return a finished trial."""
    names = tuple(directions or ("value",))
    state = State.FAILED if value is None else State.COMPLETE
    metrics = {} if value is None else {name: value * (i + 1) for i, name in enumerate(names)}
    return Trial(
        number,
        state,
        params,
        metrics,
        reason=Reason.ERROR if value is None else None,
        key=space.key(params),
        objectives=names,
        revision=number + 1,
    )


def ask(sampler: Sampler, history: History) -> list[Params]:
    """Ask for three configurations."""
    return sampler.suggest(history.space, history, 3, trial_rng(1, len(history)))


def configurations(trials: Iterable[Trial]) -> list[Any]:
    """Return the configurations of trials."""
    return [t.params for t in trials]


def bowl(params: Params) -> float:
    """Return something smooth of whatever parameters there are."""
    numbers = [float(v) for v in params.values() if isinstance(v, (int, float)) and not isinstance(v, bool)]
    return sum((v - 0.3) ** 2 for v in numbers) + 0.1 * len(params)


def sometimes(params: Params) -> float | None:
    """Fail for about half of the configurations."""
    return None if bowl(params) * 1000 % 1 < 0.5 else bowl(params)
