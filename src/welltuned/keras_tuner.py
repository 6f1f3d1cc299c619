"""Builders of models that were written for KerasTuner: the ``hp`` that they receive, on top of a trial."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import takewhile
from typing import Any

from welltuned.errors import InvalidType, InvalidValue
from welltuned.live import LiveTrial
from welltuned.settings import real, whole
from welltuned.space import NO_DEFAULT, Categorical, Float, Int, Ordinal, Parameter
from welltuned.space.labels import all_numbers
from welltuned.trial import Trial

LINEAR, LOG = "linear", "log"
SLACK = 1e-9  # a step that does not quite reach the upper bound, by rounding, does


class HyperParameters:
    """What a builder for KerasTuner calls ``hp``: ``build(HyperParameters(trial))`` returns its model for a trial.

    Each call of ``Int``, ``Float``, ``Choice`` and ``Boolean`` declares a parameter of the study under its name, with
    those of ``name_scope`` before it, and returns what the search proposes. In a ``conditional_scope`` whose parent has
    another value they declare nothing and return None, as there. ``default`` is what the search tries first once it
    knows the parameter; one between two steps stands for the nearer one.

    Neither Keras nor KerasTuner is needed here.

    Parameters
    ----------
    trial
        What the objective received from a study without a space. Or values to build with, where nothing is searched: a
        dict of them or a record such as ``study.best``. What is not among them has its default there: ``default``, or
        the lowest value, or the first one, as there. Unless given, all have.

    Raises
    ------
    InvalidType
        For anything else.

    Examples
    --------
    >>> import welltuned as wt
    >>> def build(hp):
    ...     return [hp.Int("units", 32, 128, step=32) for _ in range(hp.Int("layers", 1, 3))]
    >>> study = wt.minimize(lambda trial: sum(build(HyperParameters(trial))), n_trials=20, seed=0)
    >>> study.best.params
    {'layers': 1, 'units': 32}
    >>> build(HyperParameters({"layers": 2})), build(HyperParameters(study.best))
    ([32, 32], [32])
    """

    def __init__(self, trial: LiveTrial | Trial | Mapping[str, Any] | None = None) -> None:
        given = trial.params if isinstance(trial, Trial) else trial
        if not isinstance(given, Mapping) and given is not None:
            raise InvalidType(
                f"HyperParameters: {trial!r} is neither a trial nor a dict of values; give it what the objective "
                "receives, or study.best"
            )
        self._trial = given if isinstance(given, LiveTrial) else None
        self._given: Mapping[str, Any] = given or {}
        self._scopes: list[str] = []
        self._conditions: list[bool] = []
        self._asked: set[str] = set()
        #: what was asked for and is active, by name
        self.values: dict[str, Any] = {}

    def Int(
        self,
        name: str,
        min_value: int,
        max_value: int,
        step: int | None = None,
        sampling: str | None = LINEAR,
        default: int | None = None,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Any:
        """Ask for a whole number; with ``sampling="log"`` a ``step`` multiplies."""

        def parameter() -> Parameter | int:
            low, high = _whole(f"hp: {name!r}: min_value", min_value), _whole(f"hp: {name!r}: max_value", max_value)
            log, by = _is_log(name, sampling), 1 if step is None else _whole(f"hp: {name!r}: step", step, 1)
            if log and step is not None:
                return _power(name, low, high, by, default)
            last = (high - low) // by
            near = _on_step(default, low, high, by, last)
            return low if last == 0 else Int(low, low + last * by, step=by, log=log, default=near)

        return self._get(name, parameter, parent_name, parent_values)

    def Float(
        self,
        name: str,
        min_value: float,
        max_value: float,
        step: float | None = None,
        sampling: str | None = LINEAR,
        default: float | None = None,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Any:
        """Ask for a number; with ``sampling="log"`` a ``step`` multiplies."""

        def parameter() -> Parameter | float:
            low, high = (
                float(real(f"hp: {name!r}: min_value", min_value)),
                float(real(f"hp: {name!r}: max_value", max_value)),
            )
            log, by = (
                _is_log(name, sampling),
                None if step is None else float(real(f"hp: {name!r}: step", step, above=0.0)),
            )
            if by is None:
                return low if low == high else Float(low, high, log=log, default=default)
            if log:
                return _power(name, low, high, by, default)
            last = math.floor((high - low) / by + SLACK)
            near = _on_step(default, low, high, by, last)
            return low if last == 0 else Float(low, low + last * by, step=by, default=near)

        return self._get(name, parameter, parent_name, parent_values)

    def Choice(
        self,
        name: str,
        values: Sequence[Any],
        ordered: bool | None = None,
        default: Any = None,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Any:
        """Ask for one of some values; numbers are ordered unless ``ordered`` says otherwise."""

        values = list(values)

        def parameter() -> Parameter:
            numbers = all_numbers(values)
            if numbers if ordered is None else ordered:
                return Ordinal(sorted(values) if numbers else values, default=default)
            return Categorical(values, default=default)

        return self._get(name, parameter, parent_name, parent_values, next(iter(values), None))

    def Boolean(
        self, name: str, default: bool = False, parent_name: str | None = None, parent_values: Any = None
    ) -> Any:
        """Ask for True or False."""
        return self._get(name, lambda: Categorical([False, True], default=default), parent_name, parent_values)

    def Fixed(self, name: str, value: Any, parent_name: str | None = None, parent_values: Any = None) -> Any:
        """Return ``value``; nothing is searched."""
        with self._within(parent_name, parent_values):
            self._asked.add(self._full(name))
            return self.values.setdefault(self._full(name), value) if all(self._conditions) else None

    def get(self, name: str) -> Any:
        """Return the value of a parameter that was asked for before and is active.

        Raises
        ------
        InvalidValue
            When there is none of that name.
        """
        if self._full(name) not in self.values:
            raise InvalidValue(f"hp: {self._full(name)!r} is not active here; active are {list(self.values)!r}")
        return self.values[self._full(name)]

    __getitem__ = get

    def __contains__(self, name: str) -> bool:
        return self._full(name) in self.values

    @contextmanager
    def name_scope(self, name: str) -> Iterator[None]:
        """Put ``name/`` before the names of all that is asked for inside."""
        self._scopes.append(name)
        try:
            yield
        finally:
            self._scopes.pop()

    @contextmanager
    def conditional_scope(self, parent_name: str, parent_values: Any) -> Iterator[None]:
        """Let what is asked for inside be active only where the parent has one of some values.

        Raises
        ------
        InvalidValue
            When the parent was not asked for before: nothing inside would ever be searched.
        """
        if (parent := self._full(parent_name)) not in self._asked:
            raise InvalidValue(f"hp: the parent {parent!r} was not asked for before; there are {sorted(self._asked)!r}")
        allowed = list(parent_values) if isinstance(parent_values, (list, tuple)) else [parent_values]
        self._conditions.append(parent in self.values and self.values[parent] in allowed)
        try:
            yield
        finally:
            self._conditions.pop()

    def _within(self, parent_name: str | None, parent_values: Any) -> Any:
        return nullcontext() if parent_name is None else self.conditional_scope(parent_name, parent_values)

    def _full(self, name: str) -> str:
        return "/".join([*self._scopes, str(name)])

    def _get(
        self,
        name: str,
        parameter: Callable[[], Parameter | float],
        parent_name: str | None,
        parent_values: Any,
        first: Any = None,
    ) -> Any:
        """Ask for a parameter where it is active; one that has a single value is that value, and declares nothing."""
        with self._within(parent_name, parent_values):
            self._asked.add(self._full(name))
            if not all(self._conditions):
                return None
            full = self._full(name)
            if full not in self.values:
                self.values[full] = self._value(full, parameter(), first)
            return self.values[full]

    def _value(self, full: str, found: Parameter | float, first: Any) -> Any:
        if isinstance(found, (int, float)):
            return found
        if self._trial is not None:
            return self._trial.suggest(full, found)
        return self._given.get(full, _standard(found, first))


def _standard(parameter: Parameter, first: Any) -> Any:
    """Return what KerasTuner takes where nothing is searched."""
    if parameter.default is not NO_DEFAULT:
        return parameter.default
    lowest = parameter.low if isinstance(parameter, (Float, Int)) else parameter.choices[0]
    return lowest if first is None else first


def _is_log(name: str, sampling: str | None) -> bool:
    if sampling not in (LINEAR, LOG, None):
        raise InvalidValue(
            f"hp: {name!r} has sampling={sampling!r}; here there are {LINEAR!r} and {LOG!r}. Ask for the distance from "
            "the upper bound with 'log', and subtract it"
        )
    return sampling == LOG


def _whole(what: str, value: Any, lowest: int | None = None) -> int:
    """Return a whole number, also one that is written as ``8.0``."""
    return whole(what, int(value) if isinstance(value, float) and value.is_integer() else value, lowest)


def _on_step(default: Any, low: float, high: float, step: float, last: int) -> Any:
    """Return the value of the grid that is nearest to a default within the range; others are refused with the grid."""
    inside = isinstance(default, (int, float)) and not isinstance(default, bool) and low <= default <= high
    return low + min(round((default - low) / step), last) * step if inside else default


def _power(name: str, low: Any, high: Any, step: Any, default: Any) -> Any:
    """Return low, low·step, low·step², … up to high as an ordered choice; where there is no other, low."""
    if not (low > 0 and step > 1):
        raise InvalidValue(
            f"hp: {name!r} with sampling='log' takes min_value > 0 and step > 1, not {low!r} and {step!r}"
        )
    if low > high:
        raise InvalidValue(f"hp: {name!r} has min_value={low!r} above max_value={high!r}")
    exact = isinstance(low, int)
    # as they are written: a hundred thousandth is 1e-05, and not 9.999999999999999e-06
    powers = (low * step**k if exact else float(f"{low * step**k:.14g}") for k in range(2**16))
    values = list(takewhile(lambda v: v <= high * (1 + SLACK), powers))
    if default is not None and low <= default <= high:
        default = min(values, key=lambda v: abs(math.log(v / default)))
    return low if len(values) == 1 else Ordinal(values, default=default)
