"""What Hydra's overrides say of parameters: as a space to be searched, and back as the overrides of one job."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString, Transformer

from welltuned.errors import InvalidType, InvalidValue
from welltuned.space import Categorical, Float, Int, Ordinal, Parameter, Space
from welltuned.space.labels import all_numbers
from welltuned.space.parse import as_parameter

TAGS = {"log", "ordered"}
#: what Hydra reads as a text without quotes around it
BARE = re.compile(r"(?!(?:true|false|null|inf|nan)\Z)[A-Za-z_][\w./-]*", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Search:
    """What is searched, and how it is said to Hydra.

    Attributes
    ----------
    space
        Its parameters have the names of their keys without ``+``; ``:`` stands for the ``@`` before a package.
    keys
        By parameter, what stands before ``=``.
    fixed
        The overrides of every job.
    """

    space: Space
    keys: Mapping[str, str]
    fixed: tuple[str, ...] = ()

    def overrides(self, params: Mapping[str, Any]) -> list[str]:
        """Return the overrides of one job; what is not active keeps the value that it has in the program's config."""
        return [*self.fixed, *self.varied(params)]

    def varied(self, params: Mapping[str, Any]) -> list[str]:
        """Return those of them that are searched."""
        return [f"{self.keys[name]}={as_override(value)}" for name, value in params.items()]


def read_search(params: Mapping[str, Any] | None, arguments: Sequence[str], loader: Any = None) -> Search:
    """Read what is to be searched.

    Parameters
    ----------
    params
        ``hydra.sweeper.params``: by key, the value of an override, or a parameter as :meth:`Space.parse` reads it.
    arguments
        The overrides of the command line. They go before ``params`` of the same key.
    loader
        Hydra's, by which ``glob`` finds the options of a config group.

    Raises
    ------
    InvalidValue, InvalidType
        With the override, where nothing can be made of it; and where there is nothing to search.

    Examples
    --------
    >>> search = read_search({"depth": [2, 4, 8]}, ["lr=tag(log, interval(1e-5, 1e-1))", "+model.name=mlp"])
    >>> search.space
    Space({'depth': Ordinal([2, 4, 8]), 'lr': Float(1e-05, 0.1, log=True)})
    >>> search.overrides({"depth": 4, "lr": 0.01})
    ['+model.name=mlp', 'depth=4', 'lr=0.01']
    """
    if params is not None and not isinstance(params, Mapping):
        raise InvalidType(f"hydra.sweeper.params={params!r} is not a mapping such as {{lr: 'interval(0, 1)'}}")
    parser = OverridesParser.create(config_loader=loader)
    declared: dict[str, Parameter] = {}
    given: dict[str, Override] = {}
    for key, spec in (params or {}).items():
        plain = isinstance(spec, (Mapping, list))
        [override] = parser.parse_overrides([f"{key}={'null' if plain else _text(spec)}"])
        name = _name(override)
        given[name] = override
        if plain:
            declared[name] = as_parameter(name, spec)
        elif override.is_sweep_override():
            declared[name] = read_sweep(override)
    fixed = {name: override for name, override in given.items() if name not in declared}
    for override in parser.parse_overrides(list(arguments)):
        name = _name(override)
        given[name] = override
        if override.is_sweep_override():
            fixed.pop(name, None)
            # a condition stays what it was: the command line has no way to say it
            when = declared[name].when if name in declared else None
            declared[name] = replace(read_sweep(override), when=when)
        else:
            fixed[name] = override
    searched = _settled(declared, fixed)
    if not searched:
        raise InvalidValue(
            f"hydra/sweeper=welltuned: {[*arguments]!r} has nothing to search; write lr='interval(1e-5, 1e-1)' or "
            "units=32,64, or hydra.sweeper.params in the config"
        )
    return Search(
        Space(searched), {n: given[n].get_key_element() for n in searched}, tuple(_as_given(o) for o in fixed.values())
    )


def _text(spec: Any) -> str:
    return spec if isinstance(spec, str) else as_override(spec)


def _name(override: Override) -> str:
    """Return what a parameter is called here; ``@`` is reserved in the names of a space."""
    if override.is_delete():
        return str(override.get_key_element())
    return str(override.key_or_group) + (f":{override.package}" if override.package is not None else "")


def _as_given(override: Override) -> str:
    """Write an override that all jobs share; functions in it have been called, once for all of them."""
    if override.is_delete():
        return str(override.input_line)
    return f"{override.get_key_element()}={as_override(override.value())}"


def read_sweep(override: Override) -> Parameter:
    """Return the parameter that an override sweeps over.

    Raises
    ------
    InvalidValue, InvalidType
        With the override.
    """
    try:
        sweep = override.value()
        tags = set(getattr(sweep, "tags", ()))
        if unknown := sorted(tags - TAGS):
            raise InvalidValue(f"the tag {unknown[0]!r} is unknown; known are {sorted(TAGS)!r}")
        if override.is_choice_sweep():
            return _choices(override, tags)
        if "ordered" in tags:
            raise InvalidValue("the tag 'ordered' is for choices; leave it out")
        log = "log" in tags
        return _range(sweep, log) if override.is_range_sweep() else _interval(sweep, log)
    except (InvalidValue, InvalidType) as error:
        raise type(error)(f"{override.input_line}: {error}") from None


def _choices(override: Override, tags: set[str]) -> Parameter:
    """Read ``a,b``, ``choice(a, b)`` or ``glob(*)``; distinct numbers are ordered, as everywhere."""
    if "log" in tags:
        raise InvalidValue("the tag 'log' is for intervals and ranges; numbers among choices are ordered without it")
    sweep = override.value()
    # the list itself, not in the order into which Hydra shuffles it anew in each run
    values = [_plain(v) for v in getattr(sweep, "list", None) or override.sweep_iterator()]
    if not values:
        raise InvalidValue("there is no such option; see the config group's folder for those that there are")
    if "ordered" in tags:
        return Ordinal(values)
    ordered = all_numbers(values) and all(map(math.isfinite, values)) and len(set(values)) == len(values) > 1
    return Ordinal(sorted(values)) if ordered else Categorical(values)


def _plain(value: Any) -> Any:
    """Return a choice as a value of Python's own, without Hydra's marks of what was quoted."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return {_plain(k): _plain(v) for k, v in value.items()} if isinstance(value, dict) else value


def _interval(sweep: Any, log: bool) -> Parameter:
    """Read ``interval(a, b)``; both ends are included, and numbers are real unless cast by ``int(…)``."""
    kind = Int if isinstance(sweep.start, int) and isinstance(sweep.end, int) else Float
    return kind(sweep.start, sweep.end, log=log)


def _range(sweep: Any, log: bool) -> Parameter:
    """Read ``range(start, stop, step)``, without ``stop``."""
    ends = (sweep.start, sweep.stop, sweep.step)
    # as Hydra counts, which takes fractions for what they are in binary
    start, stop, step = (Decimal(v) for v in ends)
    count = math.ceil((stop - start) / step) if step else 0
    if count < 1:
        raise InvalidValue("this range holds no value; write range(start, stop, step), without stop itself")
    if count == 1:
        return Categorical([sweep.start])
    if all(isinstance(v, int) for v in ends):
        values = range(*ends)
        return Int(min(values), max(values), step=abs(sweep.step), log=log)
    if log:
        raise InvalidValue("a range of fractions has no logarithmic scale; write choice(…) with the values you want")
    low, high = sorted(float(start + k * step) for k in (0, count - 1))
    return Float(low, high, step=abs(float(step)))


def _settled(declared: Mapping[str, Parameter], fixed: Mapping[str, Override]) -> dict[str, Parameter]:
    """Return what is left to search: no condition asks for what is fixed, and those that can never hold are gone."""
    found = {name: parameter for name, parameter in declared.items() if name not in fixed}
    gone: set[str] = set()
    while True:
        for name, parameter in found.items():
            if parameter.when is None:
                continue
            clauses = [parameter.when] if isinstance(parameter.when, Mapping) else parameter.when
            left = [_rest(name, clause, declared, fixed) for clause in clauses if not gone & {*clause}]
            open_ = [rest for rest in left if rest is not None]
            if not open_:
                gone.add(name)
            if open_ != [*clauses]:
                found[name] = replace(parameter, when=open_ if open_ and all(open_) else None)
        if not gone & {*found}:
            return found
        found = {name: parameter for name, parameter in found.items() if name not in gone}


def _rest(
    name: str, clause: Mapping[str, Any], declared: Mapping[str, Parameter], fixed: Mapping[str, Override]
) -> Mapping[str, Any] | None:
    """Return what is still open of a clause; None where what is fixed contradicts it."""
    known = [parent for parent in clause if parent in fixed and parent in declared]
    if not all(_holds(name, parent, clause[parent], declared[parent], fixed[parent].value()) for parent in known):
        return None
    return {parent: wanted for parent, wanted in clause.items() if parent not in known}


def _holds(name: str, parent: str, wanted: Any, parameter: Parameter, value: Any) -> bool:
    alone = replace(parameter, when=None)
    if not Space({parent: alone}).contains({parent: value}):
        raise InvalidValue(
            f"{parent}={value!r} is none of the values of {alone!r}, on which {name!r} depends; fix {name!r} as well"
        )
    child = f"{parent}?"
    return Space({parent: alone, child: Categorical([0], when={parent: wanted})}).contains({parent: value, child: 0})


def as_override(value: Any) -> str:
    """Write a value as Hydra reads it: what stands behind ``=`` comes back as it was, with its type.

    Examples
    --------
    >>> as_override("adam"), as_override("a, b"), as_override("1"), as_override(None), as_override(1e-5)
    ('adam', "'a, b'", "'1'", 'null', '1e-05')
    >>> as_override([64, {"act": "relu"}])
    '[64,{act:relu}]'
    """
    return str(Transformer.str(_quoted(value)))


def _quoted(value: Any) -> Any:
    if isinstance(value, str):
        return value if BARE.fullmatch(value) else QuotedString(value, Quote.single)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return [_quoted(v) for v in value]
    return {k: _quoted(v) for k, v in value.items()} if isinstance(value, dict) else value
