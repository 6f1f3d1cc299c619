"""What samplers see of a study: arrays, masks, the best trials, the Pareto front."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies import steady
from welltuned import Float, History, Int, InvalidValue, Space
from welltuned.history import COPIED, Table
from welltuned.pareto import hypervolume, non_dominated
from welltuned.trial import LARGEST, Reason, Report, State, Trial

SPACE = Space({"x": Float(0.0, 10.0), "n": Int(0, 4, when={"x": ">= 5"})})


def record(number, value=None, x=1.0, state=State.COMPLETE, **more):
    params = {"x": x, "n": 2} if x >= 5 else {"x": x}
    metrics = {} if value is None else {"value": value}
    return Trial(number, state, more.pop("params", params), more.pop("metrics", metrics), revision=number + 1, **more)


def reported(number, *values, **more):
    reports = tuple(Report(step, {"value": v}) for step, v in enumerate(values))
    return record(number, state=State.PRUNED, reports=reports, **more)


def pair(number, a, b, state=State.COMPLETE):
    return record(number, metrics={"a": a, "b": b}, objectives=("a", "b"), state=state)


MIXED = [
    record(0, 3.0, x=2.0),
    record(1, 1.0, x=5.0),
    reported(2, 9.0, 7.0),
    record(3, state=State.FAILED, reason=Reason.ERROR),
    record(4, state=State.RUNNING),
    record(5, state=State.WAITING),
    record(6, state=State.PAUSED),
    record(7, state=State.RUNNING, params=None),
    record(8, 0.5, params={"x": 99.0}),
    record(9, state=State.PRUNED),
]


def test_trials_are_ordered_by_number():
    history = History(SPACE, reversed(MIXED))
    assert [t.number for t in history.trials] == list(range(10))
    assert len(history) == 10
    assert history.trials_by_number[3] is MIXED[3]
    assert history.revision == 10


def test_unit_has_a_row_for_each_trial():
    unit = History(SPACE, MIXED).unit
    np.testing.assert_allclose(unit[:2], [[0.2, np.nan], [0.5, 0.5]])
    assert np.isnan(unit[[7, 8]]).all()
    np.testing.assert_allclose(unit[[2, 3, 4, 5, 6, 9], 0], 0.1)


def test_masks():
    history = History(SPACE, MIXED)
    assert np.flatnonzero(~history.fits).tolist() == [7, 8]
    assert np.flatnonzero(history.complete).tolist() == [0, 1]
    assert np.flatnonzero(history.observed).tolist() == [0, 1, 2]
    assert np.flatnonzero(history.failed).tolist() == [3]
    assert np.flatnonzero(history.pending).tolist() == [4, 5]


def test_a_pruned_trial_counts_with_its_last_report():
    losses = History(SPACE, MIXED).losses
    np.testing.assert_array_equal(losses[:, 0], [3.0, 1.0, 7.0] + [np.nan] * 5 + [0.5, np.nan])


@pytest.mark.parametrize(("direction", "sign"), [("minimize", 1.0), ("maximize", -1.0)])
def test_losses_are_to_be_minimised(direction, sign):
    history = History(SPACE, [record(0, 3.0), record(1, -2.0)], {"value": direction})
    np.testing.assert_array_equal(history.losses, [[sign * 3.0], [sign * -2.0]])


def test_the_largest_numbers_are_such_that_one_can_calculate_with_them():
    """People return the largest float there is for what failed, and a search takes sums and differences."""
    values = [sys.float_info.max, -sys.float_info.max, 5e-324, 0.1, np.inf]
    history = History(SPACE, [record(i, v, sems={"value": 1e308}) for i, v in enumerate(values)])
    assert history.losses[:, 0].tolist() == [LARGEST, -LARGEST, 0.0, 0.1, np.inf]
    assert (history.sems == LARGEST).all()
    assert history.best.value == -sys.float_info.max


def test_derivatives_on_ranges_as_wide_as_numbers_are():
    space = Space({"x": (-8e307, 8e307)})
    trials = [Trial(0, State.COMPLETE, {"x": 0.0}, {"value": 1.0}, gradient={"x": -1e200})]
    assert History(space, trials).slopes.tolist() == [[-LARGEST]]


def test_losses_of_several_objectives_keep_their_order_and_signs():
    history = History(SPACE, [pair(0, 1.0, 2.0), pair(1, 3.0, 4.0, State.RUNNING)], {"b": "maximize", "a": "minimize"})
    np.testing.assert_array_equal(history.losses, [[-2.0, 1.0], [np.nan, np.nan]])


def test_a_missing_objective_is_not_observed():
    history = History(SPACE, [record(0, metrics={"a": 1.0}, objectives=("a", "b"))], {"a": "minimize", "b": "minimize"})
    assert not history.observed.any()
    assert history.front == ()


@pytest.mark.parametrize("directions", [{"value": "minimize"}, {"a": "minimize", "b": "maximize"}])
def test_an_empty_history(directions):
    history = History(SPACE, (), directions)
    assert history.unit.shape == (0, 2)
    assert history.losses.shape == (0, len(directions))
    assert all(getattr(history, m).shape == (0,) for m in ("fits", "complete", "observed", "failed", "pending"))
    assert history.keys == frozenset()
    assert history.best is None
    assert history.front == ()
    assert history.revision == 0


def test_replace_keeps_settings_and_agrees_with_a_fresh_history():
    first = History(SPACE, MIXED[:3], {"value": "maximize"}, budget=7, workers=3)
    assert first.unit.shape == (3, 2)
    second = first.replace(MIXED)
    np.testing.assert_array_equal(second.unit, History(SPACE, MIXED).unit)
    assert (second.directions, second.budget, second.workers) == ({"value": "maximize"}, 7, 3)
    assert len(first) == 3


def test_replace_encodes_a_changed_trial_anew():
    first = History(SPACE, [record(0, x=2.0)])
    assert first.unit[0, 0] == pytest.approx(0.2)
    changed = Trial(0, State.COMPLETE, {"x": 8.0, "n": 2}, revision=5)
    assert first.replace([changed]).unit[0, 0] == pytest.approx(0.8)


def test_replace_with_another_space_encodes_all_anew():
    first = History(SPACE, [record(0, x=2.0), record(1, x=4.0)])
    assert first.unit[0, 0] == pytest.approx(0.2)
    second = first.replace(first.trials, space=Space({"x": Float(0.0, 3.0)}), budget=4, workers=2)
    np.testing.assert_allclose(second.unit, [[2 / 3], [np.nan]])
    assert (second.budget, second.workers) == (4, 2)


def test_without():
    history = History(SPACE, MIXED)
    rest = history.without([1, 4, 77])
    assert [t.number for t in rest.trials] == [0, 2, 3, 5, 6, 7, 8, 9]
    np.testing.assert_array_equal(rest.unit, np.delete(history.unit, [1, 4], axis=0))
    assert len(history) == 10


def test_keys_come_from_the_record_or_the_parameters():
    history = History(SPACE, [record(0), record(1, key="stored"), record(2, params=None)])
    assert history.keys == {SPACE.key({"x": 1.0}), "stored"}


def test_a_history_knows_its_keys_whatever_its_table_has_learnt_since():
    table = Table(SPACE, {"value": "minimize"})
    table.put(record(0, x=1.0))
    before, unread = (History(SPACE, [record(0, x=1.0)], table=table) for _ in range(2))
    first, second = SPACE.key({"x": 1.0}), SPACE.key({"x": 2.0})
    assert before.knows(first)
    assert not before.knows(second)
    assert before.keys == {first}
    table.put(record(1, x=2.0))
    for history in (before, unread):
        assert history.knows(first)
        assert not history.knows(second)
        assert history.keys == {first}


@pytest.mark.parametrize(("direction", "number"), [("minimize", 1), ("maximize", 2)])
def test_best_is_the_first_of_equals_among_complete_trials(direction, number):
    values = [2.0, 1.0, 5.0, 1.0, 5.0]
    trials = [record(i, v) for i, v in enumerate(values)]
    trials += [record(5, -9.0, state=State.PRUNED), record(6, 99.0, state=State.FAILED), record(7)]
    assert History(SPACE, trials, {"value": direction}).best.number == number


def test_best_may_be_zero_and_is_in_the_space():
    assert History(SPACE, [record(0, 0.0), record(1, 1.0)]).best.number == 0
    assert History(SPACE, [record(0, -1.0, params={"x": 99.0}), record(1, 1.0)]).best.number == 1


@pytest.mark.parametrize(("direction", "number"), [("minimize", 1), ("maximize", 0)])
def test_best_is_told_by_values_where_losses_are_cut(direction, number):
    """Beyond what a search calculates with, losses are equal."""
    trials = [record(i, value) for i, value in enumerate([1.7e305, 1.5e305, 1.6e305])]
    history = History(SPACE, trials, {"value": direction})
    assert len(set(history.losses[:, 0])) == 1
    assert history.best.number == number


def test_front_respects_directions():
    trials = [
        pair(0, 1.0, 1.0),
        pair(1, 2.0, 5.0),
        pair(2, 3.0, 4.0),
        pair(3, 0.0, 9.0, State.RUNNING),
        pair(4, 2.0, 5.0),
    ]
    assert [t.number for t in History(SPACE, trials, {"a": "minimize", "b": "maximize"}).front] == [0, 1]
    assert [t.number for t in History(SPACE, trials, {"a": "maximize", "b": "minimize"}).front] == [0, 2]


def test_front_of_one_objective_is_the_best():
    history = History(SPACE, MIXED)
    assert history.front == (history.best,)


def test_value_of_a_trial_with_several_objectives_is_refused():
    with pytest.raises(InvalidValue, match="values"):
        _ = pair(0, 1.0, 2.0).value
    assert pair(0, 1.0, 2.0).values == (1.0, 2.0)
    assert record(0).values is None
    assert record(0).value is None


COORDINATE = st.integers(-3, 4).map(float)


def fronts(m):
    return st.lists(st.lists(COORDINATE, min_size=m, max_size=m), min_size=0, max_size=9)


def dominates(a, b):
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


@steady(200)
@given(st.integers(1, 4).flatmap(fronts))
def test_non_dominated_agrees_with_the_definition(rows):
    expected = [not any(dominates(other, row) for other in rows) and row not in rows[:i] for i, row in enumerate(rows)]
    losses = np.array(rows).reshape(len(rows), len(rows[0]) if rows else 2)
    assert non_dominated(losses).tolist() == expected


def count_cells(rows, reference, low=-4):
    """Count the unit cells below the reference that some row dominates."""
    corners = itertools.product(*(range(low, int(r)) for r in reference))
    return sum(any(all(p <= c for p, c in zip(row, corner, strict=True)) for row in rows) for corner in corners)


@steady(150)
@given(st.integers(1, 3).flatmap(lambda m: st.tuples(fronts(m), st.lists(COORDINATE, min_size=m, max_size=m))))
def test_hypervolume_agrees_with_counting(case):
    rows, reference = case
    losses = np.array(rows).reshape(len(rows), len(reference))
    assert hypervolume(losses, np.array(reference)) == pytest.approx(count_cells(rows, reference))


@steady(60)
@given(fronts(3), st.randoms(use_true_random=False))
def test_hypervolume_ignores_order_and_dominated_points(rows, random):
    losses, reference = np.array(rows).reshape(len(rows), 3), np.full(3, 5.0)
    shuffled = losses[random.sample(range(len(rows)), len(rows))]
    assert hypervolume(shuffled, reference) == pytest.approx(hypervolume(losses, reference))
    assert hypervolume(losses[non_dominated(losses)], reference) == pytest.approx(hypervolume(losses, reference))


def test_a_history_does_not_change_when_its_table_goes_on():
    """Its arrays may be windows into the table's; a trial that is dropped, or comes back otherwise, moves none."""
    table = Table(SPACE, {"value": "minimize"})
    trials = [record(0, 3.0, x=2.0), record(1, 1.0, x=5.0), record(2, state=State.RUNNING, x=4.0)]
    for trial in trials:
        table.put(trial)
    history = History(SPACE, trials, table=table)
    before = history.unit.copy()
    with pytest.raises(ValueError, match="read-only"):
        history.unit[0] = 0.5
    table.put(record(2, 7.0, x=9.0))
    table.drop(0)
    for number in range(3, 40):
        table.put(record(number, 1.0, x=0.1 * number))
    np.testing.assert_array_equal(history.unit, before)
    assert history.fits.all()


def test_a_thread_that_tells_a_result_changes_no_history_that_is_looked_at(monkeypatch):
    """The best of a study was a trial that was still running in its history."""
    table = Table(SPACE, {"value": "minimize"})
    trials = [record(0, 2.0), record(1, 1.0), record(2, state=State.RUNNING)]
    for trial in trials:
        table.put(trial)

    class Interleaved(tuple):
        def __iter__(self):
            table.put(record(2, -5.0))
            return super().__iter__()

    seen = History(SPACE, trials, {"value": "minimize"}, table=table)
    monkeypatch.setattr("welltuned.history.COPIED", Interleaved(COPIED))
    assert seen.best is trials[1] and seen.complete.tolist() == [True, True, False]


def test_some_of_the_trials_are_a_history_of_their_own():
    history = History(SPACE, MIXED)
    kept = np.arange(len(history)) % 2 == 1
    some, anew = history.where(kept), History(SPACE, [t for t in MIXED if t.number % 2])
    assert some.trials == anew.trials
    assert some.keys == anew.keys
    for name in ("unit", "fits", "losses", "sems", "violations", "revisions", "observed", "failed", "numbers"):
        np.testing.assert_array_equal(getattr(some, name), getattr(anew, name), err_msg=name)


def test_a_history_and_a_trial_are_shown_in_a_line():
    complete = Trial(0, State.COMPLETE, {"x": 0.5}, {"loss": 1.0, "aux": 2.0}, objectives=("loss",), seconds=0.25)
    complete = complete.but(owner="host|7|1", token=4, provenance={"revision": 3}, attributes={"note": "x" * 500})
    assert repr(complete) == "Trial(0, complete, loss=1.0, params={'x': 0.5}, seconds=0.25)"
    several = complete.but(objectives=("loss", "aux"))
    assert repr(several) == "Trial(0, complete, metrics={'loss': 1.0, 'aux': 2.0}, params={'x': 0.5}, seconds=0.25)"
    failed = Trial(1, State.FAILED, {"x": 0.1}, reason=Reason.ERROR, error="ValueError: no")
    assert repr(failed) == "Trial(1, failed, reason='error', error='ValueError: no', params={'x': 0.1})"
    assert repr(Trial(2, State.WAITING)) == "Trial(2, waiting)"
    assert repr(History(Space({"x": (0.0, 1.0)}), [complete, failed])) == "History: 2 trials, 1 complete"
