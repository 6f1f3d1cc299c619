"""What every sink of a tracker keeps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from welltuned.trackers import Run, Sink, Subject
from welltuned.trackers.run import ALL, part_of
from welltuned.trial import Report, State


class SinkContract:
    """Prove a sink: it holds what was written, once, whoever asks, and keeps studies apart.

    Provide the fixture ``sink``: a function that makes a sink on the same place each time, as one process after the
    other would.

    Examples
    --------
    >>> class TestMySink(SinkContract):
    ...     @pytest.fixture
    ...     def sink(self, tmp_path):
    ...         return lambda: MySink(tmp_path)
    """

    @pytest.fixture
    def sink(self) -> Callable[[], Sink]:
        """Return what makes the sink under test."""
        raise NotImplementedError("provide the fixture 'sink'")

    def test_is_a_sink(self, sink: Callable[[], Sink]) -> None:
        """It satisfies the protocol, and says where it writes."""
        assert isinstance(sink(), Sink)
        assert isinstance(sink().where, str) and sink().where

    def test_what_is_written_is_held_whoever_asks(self, sink: Callable[[], Sink]) -> None:
        """Nothing at first, then each run that was written; to write one again changes nothing."""
        mine, subject = sink(), subject_named("of a contract")
        assert dict(mine.held(subject)) == {}
        for number, state in ((0, State.COMPLETE), (3, State.FAILED), (1, State.PRUNED)):
            mine.write(subject, run_of(number, state))
        write(sink(), subject, run_of(3, State.FAILED))
        assert dict(sink().held(subject)) == dict(mine.held(subject)) == {0: ALL, 1: ALL, 3: ALL}

    def test_a_part_is_held_as_such_until_the_rest_comes(self, sink: Callable[[], Sink]) -> None:
        """A paused trial is held with what it had; another process writes it as it is at last."""
        subject, part = subject_named("with pauses"), run_of(0, State.PAUSED, steps=2)
        write(sink(), subject, part)
        assert dict(sink().held(subject)) == {0: part.held}
        write(sink(), subject, run_of(0, State.COMPLETE, steps=5))
        assert dict(sink().held(subject)) == {0: ALL}

    def test_studies_are_known_by_their_keys(self, sink: Callable[[], Sink]) -> None:
        """One of the same name is another one, as it is when a study was deleted and made anew."""
        first, second = subject_named("twice", "twice-1"), subject_named("twice", "twice-2")
        write(sink(), first, run_of(0, State.COMPLETE))
        assert dict(sink().held(second)) == {}
        write(sink(), second, run_of(7, State.COMPLETE))
        assert (dict(sink().held(first)), dict(sink().held(second))) == ({0: ALL}, {7: ALL})

    def test_whatever_trials_hold_is_taken(self, sink: Callable[[], Sink]) -> None:
        """Numbers that are none, long texts, and names that a service may not like."""
        odd = run_of(
            0,
            State.COMPLETE,
            params={"a/b c.d": "é|\n" * 300, "none": None, "flag": True},
            metrics={"value": math.nan, "loss: top-5%": math.inf},
            notes={"story": "line\nline" * 2000, "list": [1, {"a": None}], "": 1},
        )
        subject = subject_named("名前 / 'quoted' \"twice\"", "odd-1")
        write(sink(), subject, odd)
        assert dict(sink().held(subject)) == {0: ALL}


def write(sink: Sink, subject: Subject, run: Run) -> None:
    """Write a run as a tracker does, which asks first what is held."""
    sink.held(subject)
    sink.write(subject, run)


def subject_named(name: str, key: str | None = None) -> Subject:
    """Describe a study; unless given, its key is its name with dashes."""
    facts = {"study": name, "direction": "minimize", "sampler": '{"name": "random"}', "scheduler": "null"}
    return Subject(name, key or name.replace(" ", "-"), 1.7e9, {**facts, "seed": 0}, (0, 0.5))


def run_of(number: int, state: State, *, steps: int = 0, **parts: Any) -> Run:
    """Describe a trial that has reported ``steps`` times."""
    reports = tuple(Report(step, {"value": 1.0 / step}) for step in range(1, steps + 1))
    given = {"params": {"x": 0.5, "kind": "plain"}, "metrics": {"value": 0.5}, "notes": {"epochs": steps}, **parts}
    facts = {"number": number, "state": state.value, "origin": "sampler", "attempts": 1}
    held = ALL if state.finished else part_of(steps)
    return Run(number, state, held, reports=reports, facts=facts, started=1.7e9, ended=1.7e9 + 2.0, **given)
