"""Change a configuration a little: what a child of a trial tries instead."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from welltuned.errors import InvalidType, InvalidValue
from welltuned.space import Categorical, Parameter, Params, Space, codec, public
from welltuned.space.parameters import Choice, Int

FACTORS = (0.8, 1.2)
TRIES, DRAWS = 64, 1024  # configurations near the given one, and then drawn anew, that are looked at


def explore(
    space: Space,
    params: Mapping[str, Any],
    known: Collection[str],
    rng: np.random.Generator,
    *,
    resample: float = 0.25,
    vary: Collection[str] | None = None,
) -> Params | None:
    """Return an allowed configuration near ``params`` that is not ``known``, or None where none was found.

    Each parameter is drawn anew with probability ``resample``. Otherwise a number is multiplied by 0.8 or 1.2, but goes
    at least one step where it has steps, an ordinal goes one up or down, and a categorical stays (Jaderberg et al.,
    *Population Based Training of Neural Networks*, 2017, section 4.1). What a choice switches on is drawn. Where all
    that is near is known, all that may vary is drawn anew.

    Parameters
    ----------
    params
        A configuration of the space; of one that has changed since there is nothing near.
    known
        Keys of configurations; see :meth:`Space.key`.
    vary
        The parameters that may change; all unless given.

    Examples
    --------
    >>> space = Space.parse({"rate": (0.001, 1.0), "kind": ["relu", "tanh"]})
    >>> found = explore(space, {"rate": 0.5, "kind": "tanh"}, (), np.random.default_rng(0), resample=0.0)
    >>> round(found["rate"], 3) in (0.4, 0.6), found["kind"]
    (True, 'tanh')
    """
    try:
        row = space.encode_row(params)
    except (InvalidValue, InvalidType):
        return None
    varied = np.array([bool(public(name)) and (vary is None or public(name) in vary) for name in space])
    for rows in _near(space, params, row, varied, rng, resample):
        rows = space.activate(rows)
        for found in space.decode(rows[space.feasible(rows)], activated=True):
            # what stays is the same to the last digit, and objectives that declare their own are asked for no others
            found = {
                name: value if vary is None or name in vary or name not in params else params[name]
                for name, value in found.items()
                if name in params or not space.partial
            }
            if space.key(found) not in known:
                return found
    return None


def _near(
    space: Space,
    params: Mapping[str, Any],
    row: np.ndarray,
    varied: np.ndarray,
    rng: np.random.Generator,
    resample: float,
) -> Iterator[np.ndarray]:
    """Yield rows of the cube around ``row``, then rows that have nothing of it but what must not vary."""
    for n, share in ((TRIES, resample), (DRAWS, 1.0)):
        rows = rng.random((n, len(space)))
        anew = rng.random(rows.shape) < share
        factors = rng.choice(FACTORS, rows.shape)
        for j, (name, parameter) in enumerate(space.items()):
            rows[:, j] = codec.apply_prior(parameter, rows[:, j])
            if not np.isnan(row[j]):  # what is off there, another choice may switch on
                near = moved(parameter, params[public(name)], factors[:, j]) if varied[j] else row[j]
                rows[:, j] = np.where(anew[:, j] & varied[j], rows[:, j], near)
        yield rows


def moved(parameter: Parameter, value: Any, factors: np.ndarray) -> np.ndarray:
    """Return where a value comes to by factors above or below 1, shape (n,), as unit coordinates.

    Examples
    --------
    >>> digits = Int(0, 9)
    >>> codec.from_unit(digits, moved(digits, 2, np.array([0.8, 1.2])))
    [1, 3]
    """
    up = np.where(factors > 1.0, 1.0, -1.0)
    if isinstance(parameter, Choice):
        u = codec.to_unit(parameter, [value])[0] + np.zeros(len(factors))
        return u if isinstance(parameter, Categorical) else np.clip(u + up / len(parameter.choices), 0.0, 1.0)
    x = float(value)
    y = np.clip(x * factors, parameter.low, parameter.high)
    step = parameter.step or (1 if isinstance(parameter, Int) else None)
    if step is not None:
        y = codec.numbers(parameter, codec.to_unit(parameter, y))
        y = np.where(np.abs(y - x) < step / 2, x + step * up * (1.0 if x >= 0 else -1.0), y)
    return codec.to_unit(parameter, np.clip(y, parameter.low, parameter.high))
