"""``Space``: an immutable, ordered set of parameters with conditions and constraints."""

from __future__ import annotations

import functools
import json
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from welltuned.errors import InvalidType, InvalidValue
from welltuned.space import codec
from welltuned.space.conditions import Condition, compile_clauses, compile_condition, topological_order
from welltuned.space.labels import find, own_labels
from welltuned.space.parameters import NO_DEFAULT, Categorical, Choice, Float, Parameter

Params = dict[str, Any]
CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
JSON_TYPES = frozenset((str, int, float, bool, type(None)))


class Space(Mapping[str, Parameter]):
    """Describe the hyperparameters to tune, the conditions between them, and what is not allowed.

    Parameters
    ----------
    parameters
        A dict from name to parameter. A value may also be anything that :meth:`parse` understands for one parameter: a
        list, a ``(low, high)`` tuple, a frozen ``scipy.stats`` distribution.
    forbidden
        Combinations that must not occur: a list of dicts of the kind that ``when=`` takes.
    constraints
        Functions of the parameters (a dict of the active ones) that return True for an allowed configuration.

    Raises
    ------
    InvalidValue, InvalidType
        For an empty space, a bad name, an unknown parent, a cycle of conditions.

    Examples
    --------
    >>> from welltuned import Float, Int
    >>> space = Space(
    ...     {"C": Float(1e-3, 1e3, log=True), "kernel": ["rbf", "poly"], "degree": Int(2, 5, when={"kernel": "poly"})}
    ... )
    >>> list(space)
    ['C', 'kernel', 'degree']
    """

    def __init__(
        self,
        parameters: Mapping[str, Any],
        *,
        forbidden: Sequence[Mapping[str, Any]] = (),
        constraints: Iterable[Callable[[Params], bool]] = (),
        positional: bool = False,
        grids: bool = False,
    ) -> None:
        from welltuned.space.parse import as_parameter

        if isinstance(parameters, Space) or not isinstance(parameters, Mapping):
            raise InvalidType(
                f"Space: {type(parameters).__name__} is not a dict of parameters; use Space.parse for other forms"
            )
        if not parameters:
            raise InvalidValue("Space: {} has no parameters; give at least one")
        self._parameters: dict[str, Parameter] = {
            _check_name(n, grids): as_parameter(n, spec) for n, spec in parameters.items()
        }
        self.conditions: dict[str, Condition | None] = {
            name: compile_condition(name, p, self._parameters) for name, p in self._parameters.items()
        }
        self.order = topological_order(self.conditions)
        self.forbidden = tuple(dict(f) for f in _check_list("forbidden", forbidden))
        self._forbidden = tuple(compile_clauses(f"forbidden={f!r}", f, self._parameters) for f in self.forbidden)
        self.constraints = tuple(_check_list("constraints", constraints))
        for constraint in self.constraints:
            if not callable(constraint):
                raise InvalidType(f"Space: constraint {constraint!r} is not a function of the parameters")
        self.positional = positional
        #: whether a configuration may lack parameters and hold others, as where objectives suggest their own
        self.partial = False

    #: the labels of the configuration whose key was asked for last, and its key: who proposes one looks whether it is
    #: new, and who stores it then asks again
    _last: tuple[Params, str] = {}, "{}"

    @classmethod
    def parse(cls, spec: Any) -> Space:
        """Build a space from what people already have.

        Understands: a ``Space``; a dict of parameters, lists, ``(low, high)`` and ``(low, high, "log-uniform")``
        tuples, frozen ``scipy.stats`` distributions; a scikit-learn parameter grid or a list of them; a list of
        bounds, as ``scipy.optimize`` takes it (the objective then receives an array); a dataclass whose annotations
        say what to search; JSON or YAML, as text or as the path of a file; the dimensions of scikit-optimize, the
        domains of Ray Tune, the expressions of Hyperopt and the parameters of a sweep of Weights & Biases.

        Raises
        ------
        InvalidValue, InvalidType
            Naming the parameter and the value that could not be understood.

        Examples
        --------
        >>> Space.parse({"lr": (1e-5, 1e-1, "log-uniform"), "units": [32, 64, 128]})["lr"]
        Float(1e-05, 0.1, log=True)
        """
        from welltuned.space.parse import parse

        return parse(spec)

    # a space is a mapping from column to parameter

    def __getitem__(self, name: str) -> Parameter:
        return self._parameters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)

    def __repr__(self) -> str:
        return "Space({" + ", ".join(f"{n!r}: {p!r}" for n, p in self.items()) + "})"

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Space) and self._text == other._text)

    def __hash__(self) -> int:
        return hash(self._text)

    def __getstate__(self) -> dict[str, Any]:
        cached = ("_makers", "_readers", "_last")  # functions cannot be pickled, and all are soon made again
        return {name: value for name, value in self.__dict__.items() if name not in cached}

    @cached_property
    def _text(self) -> str:
        return json.dumps(self.to_json(), sort_keys=True)

    @cached_property
    def column(self) -> dict[str, int]:
        """Column of each parameter in arrays over the unit cube."""
        return {name: j for j, name in enumerate(self)}

    @cached_property
    def hidden(self) -> tuple[str, ...]:
        """Columns that choose among the grids of a list and are not shown to the objective."""
        return tuple(name for name in self if not public(name))

    @cached_property
    def defaults(self) -> Params | None:
        """The configuration made of all defaults, or None when no parameter has one.

        Others take their middle, or where choices have no order the first of them.
        """
        if all(p.default is NO_DEFAULT for p in self.values()):
            return None
        params = self._defaults_at(self._usual()[0])
        return params if self.allows(params) else None

    @cached_property
    def starts(self) -> tuple[Params, ...]:
        """What is worth trying before anything is known: :attr:`defaults`, and the same in each other branch.

        A branch is a set of parameters that exist together, as each model of a choice among models has its own. One
        that only adds parameters to those of another is none here, and one whose parameters have no default says
        nothing new.
        """
        found = [] if self.defaults is None else [self.defaults]
        led = [
            self._leading_to(name, choice)
            for name, parameter in self.items()
            if isinstance(parameter, Categorical) and (name in self.parents or self.conditions[name])
            for choice in range(len(parameter.choices))
        ]
        rows = self._usual([{}, *led])  # all at once, since there may be hundreds of branches
        active = ~np.isnan(rows)
        known, has_default = active[:1], np.array([p.default is not NO_DEFAULT for p in self.values()])
        for unit, here in zip(rows, active, strict=True):
            if ((known & ~here).any(axis=1) & (here & ~known & has_default).any(axis=1)).all():
                params = self._defaults_at(unit)
                found += [params] if self.allows(params) else []
                known = np.vstack([known, here])
        return tuple(found)

    def _leading_to(self, name: str, choice: int) -> dict[str, int]:
        """Return the choice that a category is to have, and those of others without which it would not exist."""
        chosen, behind = {}, [(name, choice)]
        while behind:
            name, choice = behind.pop()
            chosen[name] = choice
            condition = self.conditions[name]
            tests = () if condition is None else condition.clauses[0]
            behind += [(t.parent, t.indices[0]) for t in tests if t.indices and t.parent not in chosen]
        return chosen

    def _usual(self, chosen: Sequence[Mapping[str, int]] = ({},)) -> np.ndarray:
        """Return rows of defaults, middles and first choices, but for the ``chosen`` ones, by position; activated."""
        rows = np.tile([_usual(p) for p in self.values()], (len(chosen), 1))
        for row, choices in zip(rows, chosen, strict=True):
            for name, choice in choices.items():
                row[self.column[name]] = (choice + 0.5) / len(self[name].choices)  # type: ignore[union-attr]
        return self.activate(rows)

    def _defaults_at(self, unit: np.ndarray) -> Params:
        """Decode a row of defaults: exactly, not to their images through the codec; of a choice that is the choice."""
        params = self.decode(unit[None], activated=True)[0]
        active = ~np.isnan(unit)
        return params | {
            public(n): p.default
            for j, (n, p) in enumerate(self.items())
            if active[j] and p.default is not NO_DEFAULT and not isinstance(p, Choice) and public(n)
        }

    @cached_property
    def columns(self) -> codec.Columns:
        """The codec of all parameters at once."""
        return codec.Columns(tuple(self.values()))

    @cached_property
    def conditional(self) -> tuple[str, ...]:
        """The parameters that have a condition, parents before their children."""
        return tuple(name for name in self.order if self.conditions[name] is not None)

    @cached_property
    def parents(self) -> frozenset[str]:
        """The parameters that decide by their conditions whether others exist."""
        return frozenset().union(*(c.parents for c in self.conditions.values() if c is not None))

    # arrays over the unit cube: one row a configuration, one column a parameter, NaN where inactive

    def activate(self, unit: np.ndarray) -> np.ndarray:
        """Snap rows, shape (n, p), to representable values and set what their conditions switch off to NaN."""
        return self.switch_off(self.columns.snap(np.where(np.isnan(unit), 0.5, unit)))

    def switch_off(self, unit: np.ndarray) -> np.ndarray:
        """Set in rows, shape (n, p), whose coordinates are all set, what their conditions switch off to NaN, in place.

        Any point of a cell stands for its value: a row that is decoded next need not be snapped.
        """
        for name in self.conditional:
            unit[~self.is_active(name, unit), self.column[name]] = np.nan
        return unit

    def is_active(self, name: str, unit: np.ndarray) -> np.ndarray:
        """Tell in which rows, shape (n, p), whose parents are set, the conditions of ``name`` hold; shape (n,)."""
        condition = self.conditions[name]
        return np.ones(len(unit), dtype=bool) if condition is None else self._holds(condition, unit)

    def _holds(self, condition: Condition, unit: np.ndarray) -> np.ndarray:
        any_clause = np.zeros(len(unit), dtype=bool)
        for clause in condition.clauses:
            every = np.ones(len(unit), dtype=bool)
            for test in clause:
                u = unit[:, self.column[test.parent]]
                every &= ~np.isnan(u) & test.mask(self[test.parent], np.nan_to_num(u, nan=0.5))
            any_clause |= every
        return any_clause

    def feasible(self, unit: np.ndarray) -> np.ndarray:
        """Tell which activated rows, shape (n, p), break no forbidden combination and no constraint; shape (n,)."""
        ok = np.ones(len(unit), dtype=bool)
        for condition in self._forbidden:
            ok &= ~self._holds(condition, unit)
        if self.constraints:
            rows = np.flatnonzero(ok)
            ok[rows] = [self._satisfies(params) for params in self.decode(unit[rows], activated=True)]
        return ok

    def _satisfies(self, params: Params) -> bool:
        for constraint in self.constraints:
            try:
                if not constraint(dict(params)):
                    return False
            except Exception as error:
                name = getattr(constraint, "__qualname__", type(constraint).__qualname__)
                raise InvalidValue(
                    f"Space: constraint {name} raised {type(error).__name__}: {error} for {params!r}; inactive "
                    "parameters are not there, use p.get('name')"
                ) from error
        return True

    def decode(self, unit: np.ndarray, *, activated: bool = False) -> list[Params]:
        """Map rows of the unit cube, shape (n, p), to configurations that hold the active parameters only."""
        unit = unit if activated else self.activate(np.atleast_2d(np.asarray(unit, dtype=float)))
        makers = self._makers
        return [
            {name: make(value) for (name, make), value in zip(makers, row, strict=True) if name and value == value}
            for row in self.columns.table(unit).tolist()
        ]

    @cached_property
    def _makers(self) -> list[tuple[str, Callable[[float], Any]]]:
        """Each column's public name, and what makes a Python value of an entry of a table."""
        return [(public(name), _maker(parameter)) for name, parameter in self.items()]

    def encode(self, configurations: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Map configurations to rows of the unit cube, shape (n, p), with NaN where a parameter is inactive.

        Raises
        ------
        InvalidValue
            When a configuration is not one of this space; see :meth:`validate`.
        """
        rows = [self.encode_row(c) for c in configurations]
        return np.array(rows) if rows else np.empty((0, len(self)))

    def encode_row(self, params: Mapping[str, Any]) -> np.ndarray:
        """Map one configuration to a row, shape (p,); try the hidden branches in order."""
        if not self.hidden:
            row = None if self.partial else self._encode_quickly(params)
            return self._encode(params) if row is None else row
        for branch in range(len(self[self.hidden[0]].choices)):  # type: ignore[union-attr]
            try:
                return self._encode(params, branch)
            except InvalidValue:
                continue
        raise InvalidValue(f"{dict(params)!r} is in none of the grids of {self!r}")

    def _encode_quickly(self, params: Mapping[str, Any]) -> np.ndarray | None:
        """Encode all parameters at once; None for anything that deserves a closer look, errors included."""
        columns, lacking = self.columns, np.nan  # readers refuse NaN, so that each one in the list is what lacks
        if columns.special:
            return None
        try:
            values = [read(params[name]) if name in params else lacking for name, read in self._readers]
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        if len(params) != len(values) - values.count(lacking):
            return None
        unit = np.minimum(np.maximum(columns.unit(np.array([values])), 0.0), 1.0)
        if not self.conditional:
            return unit[0] if len(params) == len(self) else None
        active = self.activate(unit) == unit  # false where the conditions switch off what was given
        return unit[0] if np.count_nonzero(active) == len(params) and self._complete(unit) else None

    def _complete(self, unit: np.ndarray) -> bool:
        """Tell whether a row lacks no parameter that its conditions ask for."""
        return not any(
            np.isnan(unit[0, self.column[name]]) and self.is_active(name, unit)[0] for name in self.order
        )

    @cached_property
    def _readers(self) -> list[tuple[str, Callable[[Any], float]]]:
        """Each parameter, and what makes an entry of a table of its value."""
        return [(name, _reader(parameter)) for name, parameter in self.items()]

    def _encode(self, params: Mapping[str, Any], branch: int = 0) -> np.ndarray:
        row, used = np.full((1, len(self)), np.nan), 0
        for name in self.order:
            parameter, shown = self[name], public(name)
            if not shown:
                row[0, self.column[name]] = codec.to_unit(parameter, [parameter.choices[branch]])[0]  # type: ignore[union-attr]
            elif self.is_active(name, row)[0] and not (self.partial and shown not in params):
                if shown not in params:
                    raise InvalidValue(f"{dict(params)!r} lacks the parameter {shown!r}: {parameter!r}")
                row[0, self.column[name]] = _check_value(shown, parameter, params[shown])
                used += 1
        if used < len(params) and not self.partial:
            known = {public(n) for n, u in zip(self, row[0], strict=True) if not np.isnan(u)}
            unknown = sorted(set(params) - known, key=repr)
            raise InvalidValue(
                f"{dict(params)!r} sets {unknown!r}, which the space does not know or which is inactive here"
            )
        return row[0]

    # configurations as dicts

    def filled(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a configuration of an earlier version of the space with the defaults of what is new since.

        Examples
        --------
        >>> Space({"x": (0.0, 1.0), "decay": Float(0.0, 0.1, default=0.0)}).filled({"x": 0.5})
        {'x': 0.5, 'decay': 0.0}
        """
        if self.partial or self.hidden or all(name in params for name in self._with_default):
            return params
        row, found = np.full((1, len(self)), np.nan), dict(params)
        try:
            for name in self.order:
                if self.is_active(name, row)[0]:
                    if name not in found:
                        found[name] = self[name].default
                    row[0, self.column[name]] = _check_value(name, self[name], found[name])
        except (InvalidValue, InvalidType):  # some value is none of this space, or what is lacking has no default
            return params
        return found if len(found) > len(params) else params

    @cached_property
    def _with_default(self) -> tuple[str, ...]:
        return tuple(name for name, parameter in self.items() if parameter.default is not NO_DEFAULT)

    def is_one(self, params: Any) -> bool:
        """Tell whether this is one configuration and no list of them: where there are bounds alone, also numbers.

        What is empty is a list of none.
        """
        if isinstance(params, Mapping) or not self.positional:
            return isinstance(params, Mapping)
        listed = isinstance(params, (list, tuple, np.ndarray)) and len(params) > 0
        return listed and all(_as_float(v) is not None for v in params)

    def validate(self, params: Mapping[str, Any] | Sequence[float] | np.ndarray) -> Params:
        """Return ``params`` as this space would have proposed them; refuse what it could not propose.

        A space of bounds alone takes numbers in their order, too.

        Raises
        ------
        InvalidValue
            For a missing, unknown or inactive parameter, a value out of bounds, a broken constraint.
        """
        if not self.is_one(params):
            raise InvalidType(f"{params!r} is not a dict of parameters")
        params = params if isinstance(params, Mapping) else self._named(params)
        found = self.decode(self.encode_row(params)[None], activated=True)[0]
        # a real number stays what it was; its image through a log may differ in the last digit
        found |= {n: float(params[n]) for n in found if all(_is_real(p) for p in self._by_public[n])}
        if not self.allows(found):
            raise InvalidValue(f"{found!r} is forbidden by the space's constraints")
        return found

    def _named(self, numbers: Sequence[float] | np.ndarray) -> Params:
        if len(numbers) != len(self):
            raise InvalidValue(f"{numbers!r} has {len(numbers)} numbers for the {len(self)} parameters {list(self)!r}")
        return dict(zip(self, numbers, strict=True))

    def contains(self, params: Mapping[str, Any]) -> bool:
        """Tell whether ``params`` is a configuration of this space."""
        try:
            self.validate(params)
        except (InvalidValue, InvalidType):
            return False
        return True

    def allows(self, params: Params) -> bool:
        """Tell whether ``params`` breaks no forbidden combination and no constraint."""
        if not self.forbidden and not self.constraints:
            return True
        return bool(self.feasible(self.encode_row(params)[None])[0])

    def to_labels(self, params: Mapping[str, Any]) -> Params:
        """Replace the choices in ``params`` by their labels, so that JSON can hold them."""
        plain = self._plain
        if plain.issuperset(params) and JSON_TYPES.issuperset(map(type, params.values())):
            return dict(params)
        return {
            name: value if name in plain and type(value) in JSON_TYPES else self._label(name, value)
            for name, value in params.items()
        }

    def from_labels(self, stored: Mapping[str, Any]) -> Params:
        """Bring labels back to the choices. A label that is no longer known stays as it is."""
        plain = self._plain
        if plain.issuperset(stored):
            return dict(stored)
        return {name: value if name in plain else self._choice(name, value) for name, value in stored.items()}

    @cached_property
    def _plain(self) -> frozenset[str]:
        """Names of the parameters whose values are stored as they are."""
        return frozenset(
            name
            for name, parameters in self._by_public.items()
            if all(not isinstance(p, Choice) or own_labels(p.choices, p.labels) for p in parameters)
        )

    @cached_property
    def _by_public(self) -> dict[str, tuple[Parameter, ...]]:
        names: dict[str, list[Parameter]] = {}
        for name, parameter in self.items():
            names.setdefault(public(name), []).append(parameter)
        return {name: tuple(ps) for name, ps in names.items()}

    def _label(self, name: str, value: Any) -> Any:
        for parameter in self._by_public.get(name, ()):
            if isinstance(parameter, Choice) and (index := find(parameter.choices, value)) is not None:
                return parameter.labels[index]
        return value

    def _choice(self, name: str, label: Any) -> Any:
        for parameter in self._by_public.get(name, ()):
            if isinstance(parameter, Choice) and (index := find(parameter.labels, label)) is not None:
                return parameter.choices[index]
        return label

    def key(self, params: Mapping[str, Any]) -> str:
        """Return the canonical text of a configuration: equal exactly when the configurations are."""
        return self.key_of(self.to_labels(params))

    def key_of(self, labels: Params) -> str:
        """Return the canonical text of a configuration whose choices are replaced by their labels."""
        known, text = self._last
        if not _is_same(labels, known):
            text = CANONICAL.encode(labels)
            self._last = dict(labels), text
        return text

    def to_json(self) -> dict[str, Any]:
        """Describe the space in JSON; functions appear by name only."""
        from welltuned.space.serialize import space_to_json

        return space_to_json(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Space:
        """Rebuild a space from :meth:`to_json`. Choices that JSON cannot hold become their labels."""
        from welltuned.space.serialize import space_from_json

        return space_from_json(body)


def _is_same(labels: Params, known: Params) -> bool:
    """Tell whether all values are the very same objects, none of which can change, so that the texts are the same."""
    return (
        len(labels) == len(known)
        and all(map(operator.is_, labels.values(), known.values()))
        and JSON_TYPES.issuperset(map(type, labels.values()))
        and all(map(operator.eq, labels, known))
    )


def _maker(parameter: Parameter) -> Callable[[float], Any]:
    if isinstance(parameter, Choice):
        choices = parameter.choices
        return lambda index: choices[int(index)]
    return float if isinstance(parameter, Float) else int


def _reader(parameter: Parameter) -> Callable[[Any], float]:
    """Return a function that raises for whatever is not plainly a value of the parameter."""
    if not isinstance(parameter, Choice):
        return functools.partial(_plain_number, parameter.low, parameter.high, parameter.step)
    if all(type(c) in JSON_TYPES for c in parameter.choices):
        index = {(type(c), c): float(i) for i, c in enumerate(parameter.choices)}
        return lambda value: index[type(value), value]
    by_identity = {id(c): float(i) for i, c in enumerate(parameter.choices)}
    return lambda value: by_identity[id(value)]


def _plain_number(low: float, high: float, step: float | None, value: Any) -> float:
    if (type(value) is not float and type(value) is not int) or not low <= value <= high:
        raise ValueError
    if step is None:
        return float(value)
    exact = float(low + round((value - low) / step) * step)
    if abs(exact - value) > 1e-6 * step + 1e-12 * abs(exact):
        raise ValueError
    return exact


def _usual(parameter: Parameter) -> float:
    """Return where on the unit interval the default lies; without one the middle, or the first of unordered choices."""
    if parameter.default is not NO_DEFAULT:
        return float(codec.to_unit(parameter, [parameter.default])[0])
    return 0.0 if isinstance(parameter, Categorical) else 0.5


def public(column: str) -> str:
    """Return the name that the objective sees: ``C`` for the column ``C@1`` of the second grid, nothing for
    ``@grid``.
    """
    return column.partition("@")[0]


def _check_name(name: Any, grids: bool) -> str:
    if not isinstance(name, str):
        raise InvalidType(f"Space: the name {name!r} is not a string")
    if not name:
        raise InvalidValue("Space: a parameter has the empty name ''")
    if "@" in name and not grids:
        raise InvalidValue(f"Space: the name {name!r} holds '@', which is reserved")
    return name


def _check_list(what: str, value: Any) -> Any:
    if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__iter__"):
        raise InvalidType(f"Space: {what}={value!r} is not a list")
    items = tuple(value)
    if what == "forbidden" and not all(isinstance(item, Mapping) and item for item in items):
        raise InvalidType(
            f"Space: forbidden={value!r} is not a list of dicts like {{'optimizer': 'sgd', 'lr': '> 0.1'}}"
        )
    return items


def _check_value(name: str, parameter: Parameter, value: Any) -> float:
    """Return the unit coordinate of a value, or say why the parameter cannot take it."""
    if isinstance(parameter, Choice):
        index = find(parameter.choices, value)
        if index is None:
            raise InvalidValue(f"parameter {name!r}: {value!r} is not among the choices {list(parameter.choices)!r}")
        return (index + 0.5) / len(parameter.choices)
    number = _as_float(value)
    if number is None:
        raise InvalidValue(f"parameter {name!r}: {value!r} is not a finite number; expected {parameter!r}")
    if not parameter.low <= number <= parameter.high:
        raise InvalidValue(f"parameter {name!r}: {value!r} is outside {parameter.low!r} … {parameter.high!r}")
    u = codec.to_unit(parameter, np.array([number]))
    if not _is_real(parameter):
        near = float(codec.numbers(parameter, u)[0])
        if abs(near - number) > 1e-6 * (parameter.step or 1) + 1e-12 * abs(near):
            raise InvalidValue(f"parameter {name!r}: {value!r} is not one of its steps; the nearest is {near:g}")
    return float(np.clip(u[0], 0.0, 1.0))


def _as_float(value: Any) -> float | None:
    """Return a number as a float; None for anything else, and for what is not finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if np.isfinite(number) else None


def _is_real(parameter: Parameter) -> bool:
    return isinstance(parameter, Float) and parameter.step is None
