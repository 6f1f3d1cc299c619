"""Gradient search: SciPy's bounded quasi-Newton on the unit cube, from many starts, replayed from the history.

The method keeps no state. Each time it is asked, it runs its restarts again from the beginning, reading every
function value from the history, until a value is missing: that point is what it proposes. Replaying costs
microseconds per evaluation, and makes the search resumable and repeatable for nothing.

Derivatives are the objective's own where it returns them. Otherwise they are central differences, whose step grows
where noise or rounding hides the slope. Numbers without steps are moved by gradients; everything else is searched by
the restarts.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

import numpy as np

from welltuned.history import History
from welltuned.samplers.initial import overlooked
from welltuned.samplers.novel import novel
from welltuned.samplers.qmc import spread
from welltuned.settings import check_real
from welltuned.space import Float, Params, Space, codec, public
from welltuned.streams import origin
from welltuned.surrogate.maximise import neighbours
from welltuned.trial import LARGEST, Origin, State, Trial, unit_of

TRUST = 0.2  # the first step of the quasi-Newton method, in units of the cube
WIDEN = 4.0
WIDEST = 0.2
RESTARTS = 200


@dataclass(frozen=True)
class Gradient:
    """Follow gradients from many starts: from what was enqueued, from the defaults (or the centre), then from points
    spread over the space.

    Every evaluation, those of the stencils included, is an ordinary trial. With several workers the points of a
    stencil, and further restarts, are evaluated side by side.

    Parameters
    ----------
    step
        First half-width of the central differences, as a share of a parameter's range on its own scale.
    tolerance
        A restart ends when an iteration gains less than this share of what its first step promised, or of what it
        gained so far.

    Notes
    -----
    Byrd, Lu, Nocedal and Zhu, *A Limited Memory Algorithm for Bound Constrained Optimization*, 1995, as in
    ``scipy.optimize.minimize(method="L-BFGS-B")``.

    Examples
    --------
    >>> Gradient(step=0.02)
    Gradient(step=0.02, tolerance=0.0001)
    """

    step: float = 0.01
    tolerance: float = 1e-4
    model_based: ClassVar[bool] = True
    several_objectives: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_real(self, "step", above=0, most=WIDEST)
        check_real(self, "tolerance", above=0, most=1)

    def suggest(self, space: Space, history: History, n: int, rng: np.random.Generator) -> list[Params]:
        """See :meth:`Sampler.suggest`."""
        table = Table.read(space, history)
        needed: list[np.ndarray] = []
        for missing in self._restarts(space, table, enqueued(history), rng):
            needed += missing
            if len(needed) >= n:
                break
        return novel(space, history, [*overlooked(space, history, rng), *_params(space, needed)], n, rng)

    def _restarts(
        self, space: Space, table: Table, given: np.ndarray, rng: np.random.Generator
    ) -> Iterator[list[np.ndarray]]:
        """Replay one restart after the other; yield the rows that each unfinished one lacks, none if it waits.

        Those of a negative number start at the rows ``given``, shape (k, p).
        """
        seed, _ = origin(rng)
        finished: list[tuple[float, np.ndarray]] = []
        idle = 0
        for r in range(-len(given), RESTARTS + len(table.values)):
            all_before = finished if len(finished) == len(given) + r else None
            start = given[r] if r < 0 else self._start(space, r, all_before, seed)
            if start is None:
                continue
            best, missing = self._run(space, table, start)
            if missing is None:
                finished.append(best)
                idle += bool(np.isfinite(best[0]))  # a start that failed took one trial: hundreds of them are no end
            else:
                yield missing
                idle = 0
            if idle > RESTARTS:
                return

    def _run(
        self, space: Space, table: Table, start: np.ndarray
    ) -> tuple[tuple[float, np.ndarray], list[np.ndarray] | None]:
        """Run one restart as far as values are known; return its best loss and row, and what :meth:`Restart.replay`
        returns.

        One that has ended is remembered with all it looked up: as long as that is still so, it ends in the same way.
        """
        key = (space, _which(space), start.tobytes(), self.step, self.tolerance, table.own_gradient)
        if (ended := _ENDED.get(key)) is not None:
            looked_up, worst, best = ended
            same = all(table.values.get(k) == value for k, value in looked_up.items())
            if same and worst == table.worst_of(looked_up):
                return best, None
        run = Restart(space, table, start, self.step, self.tolerance)
        missing = run.replay()
        if missing is None:
            _ENDED[key] = (run.looked_up, table.worst_of(run.looked_up), run.best)
            if len(_ENDED) > REMEMBERED:
                _ENDED.popitem(last=False)
        return run.best, missing

    def _start(
        self, space: Space, r: int, before: list[tuple[float, np.ndarray]] | None, seed: int
    ) -> np.ndarray | None:
        """Return where restart ``r`` begins; None for one that must wait for the results of those before it.

        ``before`` has the best loss and row of each of those, and is None until all have finished.

        Every other restart changes one discrete parameter of the best point so far; the rest are spread over the space.
        They depend on ``r`` and on finished restarts only, so that a replay meets the same ones again.
        """
        if r == 0:
            centre = np.full((1, len(space)), 0.5)
            first = space.encode([space.defaults]) if space.defaults else space.activate(centre)
            if space.feasible(first)[0]:
                return first[0]
        elif r % 2 and any(discrete(space)):
            if before is None:
                return None
            best = min(before, key=lambda found: found[0])[1]
            around = neighbours(space, best, np.random.default_rng([seed % (1 << 63), r]))
            if len(around):
                return around[(r // 2) % len(around)]
        return _spread(space, _which(space), r, seed)


_Known: TypeAlias = "tuple[float, dict[str, float] | None]"
#: by restart: what it looked up, the loss that stood for failures, and its best loss and row
_ENDED: OrderedDict[tuple[Any, ...], tuple[dict[str, _Known | None], float, tuple[float, np.ndarray]]] = OrderedDict()
REMEMBERED = 2_000


def _which(space: Space) -> tuple[int, ...]:
    """Tell spaces apart that differ in their constraints alone, which are code."""
    return tuple(map(id, space.constraints))


@functools.lru_cache(maxsize=REMEMBERED)
def _spread(space: Space, which: tuple[int, ...], r: int, seed: int) -> np.ndarray:  # noqa: ARG001 - a part of the key
    """Return the row of restart ``r`` that is spread over the space.

    Each replay asks for those of all restarts, and where constraints allow little, one takes many draws.
    """
    return spread(space, seed, r, 1, np.random.default_rng([seed % (1 << 63), r]))[0]


def enqueued(history: History) -> np.ndarray:
    """Return the rows that somebody wanted to be tried, shape (k, p)."""
    return history.unit[history.fits & np.array([t.origin is Origin.ENQUEUED for t in history.trials], dtype=bool)]


def _params(space: Space, rows: list[np.ndarray]) -> list[Params]:
    """Decode rows; that of the defaults to exactly these, as a logarithm changes the last digit of a number."""
    found = space.decode(np.array(rows)) if rows else []
    if space.defaults is None:
        return found
    usual = space.encode([space.defaults])[0].tobytes()
    return [dict(space.defaults) if row.tobytes() == usual else params for row, params in zip(rows, found, strict=True)]


def discrete(space: Space) -> list[bool]:
    """Tell for each parameter whether gradients cannot move it."""
    return [not isinstance(p, Float) or p.step is not None for p in space.values()]


@dataclass(frozen=True)
class Table:
    """What is known of the objective: by configuration the loss (infinite if the trial failed, or violates a constraint
    on outcomes), and derivatives where given.

    ``pending`` holds the keys of configurations under evaluation; ``own_gradient`` says that the objective returns
    derivatives.
    """

    space: Space
    values: dict[str, tuple[float, dict[str, float] | None]]
    pending: frozenset[str]
    own_gradient: bool
    worst: float

    @classmethod
    def read(cls, space: Space, history: History) -> Table:
        """Read a history of one objective."""
        losses = history.losses[:, 0] if len(history) else np.empty(0)
        losses = np.where(history.feasible, losses, np.nan) if len(history) else losses
        finite = losses[np.isfinite(losses)]
        sign = -1.0 if "maximize" in history.directions.values() else 1.0
        values: dict[str, tuple[float, dict[str, float] | None]] = {}
        pending = set()
        usual = None if space.defaults is None else space.key(space.defaults)
        for i, (trial, loss) in enumerate(zip(history.trials, losses, strict=True)):
            if trial.params is None:
                continue
            key = trial.key or space.key(trial.params)
            if (trial.origin is Origin.ENQUEUED or key == usual) and history.fits[i]:
                # of the row at which the restart begins: the numbers that were given may differ in the last digit
                key = _key(space, history.unit[i].tobytes())
            if not trial.state.resting:
                pending.add(key)
            elif np.isfinite(loss) or key not in values:
                values[key] = (float(loss), _signed(trial, sign)) if np.isfinite(loss) else (np.inf, None)
        own = any(t.gradient is not None for t in history.trials if t.state is State.COMPLETE)
        span = float(finite.max() - finite.min()) if len(finite) else 0.0
        return cls(
            space, values, frozenset(pending - values.keys()), own, float(finite.max()) + span if len(finite) else 0.0
        )

    def worst_of(self, looked_up: Mapping[str, _Known | None]) -> float:
        """Return the loss that stands for what failed, or is forbidden; 0 where none of these is."""
        return self.worst if any(known is None or np.isinf(known[0]) for known in looked_up.values()) else 0.0

    def key(self, row: np.ndarray) -> str:
        """Return the canonical key of a row."""
        return _key(self.space, row.tobytes())


@functools.lru_cache(maxsize=65_536)
def _key(space: Space, row: bytes) -> str:
    return space.key(space.decode(np.frombuffer(row)[None])[0])


def _signed(trial: Trial, sign: float) -> dict[str, float] | None:
    return None if trial.gradient is None else {k: sign * v for k, v in trial.gradient.items()}


class Missing(Exception):
    """The replay needs values at these rows."""

    def __init__(self, rows: list[np.ndarray]) -> None:
        super().__init__()
        self.rows = rows


@dataclass
class Restart:
    """One run of the quasi-Newton method from ``start``, on the coordinates that are real and active there."""

    space: Space
    table: Table
    start: np.ndarray
    step: float
    tolerance: float
    best: tuple[float, np.ndarray] = field(init=False)
    looked_up: dict[str, _Known | None] = field(init=False)

    def __post_init__(self) -> None:
        self.free = np.flatnonzero(~np.array(discrete(self.space)) & ~np.isnan(self.start))
        self.steps = np.full(len(self.free), self.step)
        self.smooth = np.zeros(len(self.free), dtype=bool)
        self.best = (np.inf, self.start)
        self.looked_up = {}
        self.origin: tuple[float, float] | None = None

    def replay(self) -> list[np.ndarray] | None:
        """Run until the end, returning None, or until values are missing, returning the rows that are not under way."""
        from scipy.optimize import minimize  # a fifth of a second that no other search needs

        begins = self.table.key(self.start)
        if (known := self.table.values.get(begins)) is not None and np.isinf(known[0]):
            # nothing leads away from a failure, and what is next to it mostly fails too
            self.looked_up[begins] = known
            return None
        try:
            if len(self.free):
                bounds = [(0.0, 1.0 / TRUST)] * len(self.free)
                minimize(
                    self._fun,
                    self.start[self.free] / TRUST,
                    jac=True,
                    method="L-BFGS-B",
                    bounds=bounds,
                    options={"ftol": self.tolerance, "gtol": 1e-4, "maxls": 10},
                )
            else:
                self._loss([self.start])
        except Missing as missing:
            return missing.rows
        return None

    def _row(self, u: np.ndarray) -> np.ndarray:
        row = self.start.copy()
        row[self.free] = np.clip(u, 0.0, 1.0)
        return row

    def _loss(self, rows: list[np.ndarray]) -> list[float]:
        """Look the losses up; ask for those that are neither known nor under way."""
        keys = [self.table.key(row) for row in rows]
        if any(k not in self.table.values for k in keys):
            lacking = {k: row for k, row in zip(keys, rows, strict=True) if k not in self.table.values}
            allowed = [
                row
                for k, row in lacking.items()
                if k not in self.table.pending and self.space.feasible(self.space.activate(row[None]))[0]
            ]
            if allowed or any(k in self.table.pending for k in lacking):
                raise Missing(allowed)
        self.looked_up.update((k, self.table.values.get(k)) for k in keys)
        losses = [self.table.values.get(k, (np.inf, None))[0] for k in keys]
        if losses[0] < self.best[0]:
            self.best = (losses[0], rows[0])
        return [min(loss, self.table.worst) for loss in losses]

    def _fun(self, v: np.ndarray) -> tuple[float, np.ndarray]:
        u = np.clip(v * TRUST, 0.0, 1.0)
        here = self._row(u)
        # a stencil can be evaluated beside its centre, unless the objective may bring its own derivatives
        if self.table.values and not self.table.own_gradient:
            self._loss([here, *self._stencil(u, np.arange(len(u)))[0]])
        value = self._loss([here])[0]
        own = self.table.values.get(self.table.key(here), (0.0, None))[1]
        slope = self._chain(u, value, own) if own is not None else self._difference(u, value)
        slope = slope * TRUST
        if self.origin is None:
            # the method takes the gradient itself as its first step: make that one unit, which is TRUST of the cube
            unit = unit_of(np.abs(slope).max())
            self.origin = value, max(unit * float(np.linalg.norm(slope / unit)), np.finfo(float).tiny)
        centre, scale = self.origin
        return (value - centre) / scale, slope / scale

    def _stencil(self, u: np.ndarray, which: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        rows, widths = [], []
        for i in which:
            ends = []
            for side in (-1.0, 1.0):
                moved = u.copy()
                moved[i] = np.clip(u[i] + side * self.steps[i], 0.0, 1.0)
                rows.append(self._row(moved))
                ends.append(moved[i])
            widths.append(ends[1] - ends[0])
        return rows, np.array(widths)

    def _difference(self, u: np.ndarray, value: float) -> np.ndarray:
        """Return central differences, (f(u + h) - f(u - h)) / 2h.

        Where the second difference is not small against the first, either the slope vanishes, or noise or rounding
        hides it. A wider stencil tells: of a smooth function the second difference grows with h², of noise it does
        not. So the stencil widens only for noise and plateaus, and asks that question once for each coordinate.
        """
        first, second, widths = self._differences(u, value, np.arange(len(u)))
        slope = first / widths
        # at a bound one side is missing, and the two differences are the same
        whole = widths > 1.99 * self.steps
        todo = np.flatnonzero(whole & (np.abs(first) <= np.abs(second)) & ~self.smooth | (first == 0.0))
        while len(todo := todo[self.steps[todo] * WIDEN <= WIDEST]):
            before = np.abs(second[todo])
            self.steps[todo] *= WIDEN
            wide, bend, across = self._differences(u, value, todo)
            hidden = np.abs(bend) <= 0.5 * WIDEN**2 * before  # a plateau has 0 on both sides
            slope[todo[hidden]] = wide[hidden] / across[hidden]
            self.steps[todo[~hidden]] /= WIDEN
            self.smooth[todo[~hidden]] = True
            first[todo], second[todo] = wide, bend
            todo = todo[hidden & (np.abs(wide) <= np.abs(bend))]
        return slope

    def _differences(self, u: np.ndarray, value: float, which: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return first differences, second differences and widths of the stencils of some coordinates."""
        rows, widths = self._stencil(u, which)
        f = np.array(self._loss(rows)).reshape(-1, 2)
        return f[:, 1] - f[:, 0], f[:, 1] - 2.0 * value + f[:, 0], widths

    def _chain(self, u: np.ndarray, value: float, gradient: dict[str, float]) -> np.ndarray:
        """Turn derivatives by natural values into those by unit coordinates; take differences where one is missing."""
        names = [list(self.space)[j] for j in self.free]
        slope = np.zeros(len(u))
        for i, name in enumerate(names):
            parameter: Any = self.space[name]
            slope[i] = codec.slope(parameter, u[i : i + 1], gradient.get(public(name), np.nan))[0]
        slope = np.clip(slope, -LARGEST, LARGEST)
        if len(missing := np.flatnonzero(np.isnan(slope))):
            first, _, widths = self._differences(u, value, missing)
            slope[missing] = first / widths
        return slope
