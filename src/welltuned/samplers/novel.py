"""No configuration twice: a check that every sampler's proposals go through, and a way out when they collide."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from welltuned.errors import InvalidValue
from welltuned.history import History
from welltuned.space import Params, Space, codec

ENUMERABLE = 20_000
TRIES = 64


def draw(
    space: Space, n: int, rng: np.random.Generator, *, batches: int = 200, priors: bool = True
) -> np.ndarray:
    """Draw ``n`` allowed rows of the cube that follow the priors, or are even, shape (n, p).

    Raises
    ------
    InvalidValue
        When hardly any configuration is allowed, so that rejection finds none in ``batches`` rounds.
    """
    kept: list[np.ndarray] = []
    for _ in range(batches):
        uniform = rng.random((max(n, 64), len(space)))
        unit = space.activate(to_priors(space, uniform) if priors else uniform)
        kept.append(unit[space.feasible(unit)])
        if sum(map(len, kept)) >= n:
            return np.vstack(kept)[:n]
    found = np.vstack(kept)
    if not len(found):
        raise InvalidValue(
            f"none of {batches * max(n, 64)} random configurations satisfies the constraints of {space!r}; "
            "loosen them, or narrow the ranges to where they hold"
        )
    return found[rng.integers(len(found), size=n)]


def to_priors(space: Space, uniform: np.ndarray) -> np.ndarray:
    """Turn uniform rows, shape (n, p), into rows that follow the priors, in place; what is inactive stays."""
    for j, parameter in enumerate(space.values()):
        if parameter.prior is not None:
            uniform[:, j] = codec.apply_prior(parameter, uniform[:, j])
    return uniform


def size(space: Space, limit: int = ENUMERABLE) -> int | None:
    """Return the number of configurations, or None when they are infinitely many or more than ``limit``."""
    if any(codec.cells(p) is None for p in space.values()):
        return None
    rows = grid_rows(space, limit=limit)
    return None if rows is None else len(rows)


def grid_rows(space: Space, resolution: int | None = None, limit: int = ENUMERABLE) -> np.ndarray | None:
    """Return all allowed rows of a grid, in the order of the parameters, the last one fastest; None beyond ``limit``.

    With ``resolution``, every number that has more values (or infinitely many) takes that many, evenly spaced on its
    own scale; without, the space must be finite and all of it is returned. Rows are remembered, and not to be changed.
    """
    # spaces are equal whatever their constraints; a remembered space keeps its own alive, so their ids are theirs
    return _grid_rows(space, tuple(map(id, space.constraints)), resolution, limit)


@functools.lru_cache(maxsize=8)
def _grid_rows(space: Space, _constraints: tuple[int, ...], resolution: int | None, limit: int) -> np.ndarray | None:
    rows = np.full((1, len(space)), np.nan)
    for name in space.order:
        parameter, active = space[name], space.is_active(name, rows)
        cells = codec.cells(parameter)
        if active.any() and (min(cells or np.inf, resolution) if resolution else cells or 2) > limit:
            return None  # before two thousand million levels are listed to be counted
        levels = codec.levels(parameter, resolution or codec.cells(parameter) or 2)
        counts = np.where(active, len(levels), 1)
        if counts.sum() > limit:
            return None
        starts = np.cumsum(counts) - counts
        rows = np.repeat(rows, counts, axis=0)
        within = np.arange(len(rows)) - np.repeat(starts, counts)
        rows[:, space.column[name]] = np.where(np.repeat(active, counts), levels[within], np.nan)
    rows = rows[space.feasible(rows)]
    rows = _distinct(space, rows) if space.hidden else rows
    rows.flags.writeable = False
    return rows


def _distinct(space: Space, rows: np.ndarray) -> np.ndarray:
    """Keep the first of equal configurations: one may stand in several grids of a list."""
    first: dict[str, int] = {}
    for i, params in enumerate(space.decode(rows, activated=True)):
        first.setdefault(space.key(params), i)
    return rows[list(first.values())]


def novel(
    space: Space,
    history: History,
    proposals: Iterable[Params],
    n: int,
    rng: np.random.Generator,
    seen: set[str] | None = None,
) -> list[Params]:
    """Return the first ``n`` proposals that are neither in the history nor repeated, filled up with random new ones.

    ``seen`` holds the keys of what was proposed before beside the history, and gets those of what is returned.

    When random draws keep colliding, a small space is gone through systematically. Fewer than ``n`` come back only when
    the space is exhausted.
    """
    seen = set() if seen is None else seen
    covered = coverage(space, history)
    chosen = list(itertools.islice(_unseen(history, space, proposals, seen, covered), n))
    if len(chosen) < n:
        randoms = (p for _ in range(TRIES) for p in space.decode(draw(space, n, rng), activated=True))
        chosen += itertools.islice(_unseen(history, space, randoms, seen, covered), n - len(chosen))
    if (
        len(chosen) < n
        and all(codec.cells(p) is not None for p in space.values())
        and (rows := grid_rows(space)) is not None
    ):
        rest = space.decode(rows[rng.permutation(len(rows))], activated=True)
        chosen += itertools.islice(_unseen(history, space, rest, seen, covered), n - len(chosen))
    if len(chosen) < n and history.wishes.noisy:  # all is known by name, but another look still tells something
        chosen += space.decode(draw(space, n - len(chosen), rng), activated=True)
    return chosen


def _unseen(
    history: History,
    space: Space,
    proposals: Iterable[Params],
    seen: set[str],
    covered: Callable[[Params], bool],
) -> Iterator[Params]:
    for params in proposals:
        key = space.key(params)
        if key not in seen and not history.knows(key) and not covered(params):
            seen.add(key)
            yield params


def coverage(space: Space, history: History) -> Callable[[Params], bool]:
    """Return a function that tells whether a trial at rest used no other values than a proposal has.

    Where objectives declare their parameters themselves, a proposal holds all that are known, and a trial those that it
    asked for: the same proposal for others of them would be the same trial again.
    """
    used: dict[tuple[str, ...], set[str]] = {}
    if space.partial and not history.wishes.noisy:
        for trial in history.trials:
            if trial.state.resting and trial.params:
                # a constant that a range of one value left is none of the space's parameters
                known = {name: value for name, value in trial.params.items() if name in space}
                used.setdefault(tuple(sorted(known)), set()).add(space.key(known))

    def covered(params: Params) -> bool:
        return any(
            all(name in params for name in names) and space.key({name: params[name] for name in names}) in keys
            for names, keys in used.items()
        )

    return covered
