"""From a history to fitted processes: of every objective, of success, of constraints on outcomes, of the cost."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np

from welltuned.curves import MILESTONES, Parts
from welltuned.history import History
from welltuned.streams import study_rng
from welltuned.surrogate import fit as fitting
from welltuned.surrogate.acquisition import LogProbability
from welltuned.surrogate.embedding import Embedding, embedding
from welltuned.surrogate.gp import (
    BENT,
    NOISY,
    QUIET,
    STIFF,
    Layout,
    NoisePrior,
    Observations,
    Posterior,
    condition,
    observations,
)
from welltuned.surrogate.kernels import squared_distances
from welltuned.surrogate.outputs import clip_bad, standardise, winsorise
from welltuned.surrogate.slopes import believed, beside

MEMBERS = 4  # processes that are averaged, as long as there are few enough observations to fit them in no time
MODEL_POINTS = 400  # observations that a process knows
FIT_POINTS = 112  # observations that hyperparameters are fitted to
EVERY_TIME = 50  # up to that many observations, hyperparameters are fitted anew for each suggestion
NEIGHBOURS = 10  # whose average tells how good a region is
MOST_WARPED = 30  # where no trial has more parameters, inputs are warped
EARLY = 24  # up to that many observations, the bad tail is clipped harder, and there may be a trend
BOWL = 10  # from that many observations on, the trend has a bowl; with fewer, its slopes take all there is to learn
SUCCESS_SPREAD = 0.1
UNHEARD_OF = 1e20  # standard deviations that no improvement is asked to have, nor a threshold to be away
BEYOND = 1e6  # standard deviations of the results: so far away, parts of trainings and derivatives tell nothing more


@dataclass(frozen=True)
class Quantity:
    """A fitted quantity: a stack of processes on a standard scale, and that scale.

    Attributes
    ----------
    posterior
        Of the standardised quantity.
    centre, scale
        ``quantity = centre + scale * standardised``.
    """

    posterior: Posterior
    centre: float
    scale: float

    def predict(self, phi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation (noise excluded) at features ``phi``, shapes (q,), in its own units."""
        mean, variance = self.posterior.predict(phi)
        return self.centre + self.scale * mean, self.scale * np.sqrt(variance)

    @property
    def threshold(self) -> float:
        """Where 0 is on the standard scale, as far as what follows from it does not overflow."""
        return min(max(-self.centre / self.scale, -UNHEARD_OF), UNHEARD_OF)

    @property
    def noise_sd(self) -> float:
        """Standard deviation of one observation's noise, in its own units."""
        return float(self.scale * np.sqrt(self.posterior.noise.mean()))


@dataclass(frozen=True)
class Model:
    """What is known about a history.

    Attributes
    ----------
    embed
        From rows of the cube to features.
    unit, losses
        The observations that the processes know: rows, shape (n, p), and objectives to be minimised, shape (n, m).
    objectives
        One for each.
    allowed
        Which of the observations satisfy all constraints on outcomes, shape (n,).
    kept
        Their positions among the observed trials of the history, shape (n,).
    success
        Of -1 where a trial succeeded and +1 where it failed, once any has failed.
    constraints
        Of each constraint's value, which should not be above 0.
    cost
        Of the logarithm of what a trial costs, where the search is for the best per unit of cost.
    """

    embed: Embedding
    unit: np.ndarray
    losses: np.ndarray
    objectives: tuple[Quantity, ...]
    allowed: np.ndarray
    kept: np.ndarray
    success: Posterior | None = None
    constraints: tuple[Quantity, ...] = ()
    cost: Quantity | None = None

    @property
    def objective(self) -> Quantity:
        """The first objective."""
        return self.objectives[0]

    @property
    def eligible(self) -> np.ndarray:
        """Which observations may be the best: the allowed ones, or all where none is; shape (n,)."""
        return self.allowed if self.allowed.any() else np.ones_like(self.allowed)

    def incumbents(self) -> np.ndarray:
        """Return for each process of the first objective its lowest mean over eligible observations, shape (M,)."""
        return self.objective.posterior.members(self.embed(self.unit[self.eligible]))[0].min(1)

    def satisfaction(self) -> list[LogProbability]:
        """Return for each constraint on outcomes the log probability that it is satisfied."""
        return [
            LogProbability(self.embed, q.posterior, q.threshold, float(q.posterior.noise[0]))
            for q in self.constraints
        ]

    def doubt(self, unit: np.ndarray, caution: float = 0.0) -> np.ndarray:
        """Return for each row how far its success is from certain enough, once three trials have failed; shape (n,).

        On the scale of the process, -1 for success and +1 for failure: 0 where it expects less than ``-caution``.
        Without caution, more likely than not is enough. Where failures can be foreseen, what lies nearer to one of them
        than to any success is a failure too: a smooth process knows no edge, and would expect success beyond it.
        """
        if self.success is None or (self.success.data.y > 0).sum() < 3:
            return np.zeros(len(unit))
        phi, known, w = self.embed(unit), self.success.data, self.success.w[0, 0]
        doubt = np.maximum(self.success.means(phi) + caution, 0.0)
        if foreseen(self.success) > 0.5:
            doubt = np.maximum(doubt, known.y[squared_distances(phi * w, known.phi * w).argmin(1)])
        return doubt

    def best_rows(self, n: int) -> np.ndarray:
        """Return the ``n`` best observed rows, the allowed ones first."""
        return self.unit[np.lexsort((self.losses[:, 0], ~self.allowed))[:n]]


def fit_model(
    history: History,
    rng: np.random.Generator,
    *,
    winsor: bool = False,
    trend: bool = False,
    members: int = MEMBERS,
    losses: np.ndarray | None = None,
    plain: bool = False,
    noise_prior: NoisePrior | None = None,
    derivatives: bool = False,
    partial: bool = False,
) -> Model:
    """Fit to a history with at least one observation.

    Parameters
    ----------
    winsor
        Clip the bad tail at Tukey's fence. Each way is better in a regime of its own; a search alternates.
    trend
        Let the objective have a linear trend as long as there are few observations, as far as the evidence is for one.
        Of a dozen results, which way leads up is most of what can be learned, and whether the middle of the space is
        better than its edges. The warped process of HEBO (Cowen-Rivers et al. 2022) has a linear kernel too.
    members
        Processes averaged per objective, at most.
    losses
        In place of the history's own objectives, for its observed trials, shape (n, m).
    plain
        Standardise the observations and do nothing else to them, so that predictions hold for bad values too.
    derivatives
        Learn from derivatives too, where the objective returned them and its values are exact. Values next door have
        the noise of the one that they are taken from, so among noisy values they would pass for many that agree.
    partial
        Learn from parts of trainings as such: how much of a training was observed is one more feature of the process,
        so that it finds out how much they tell. Trials are pruned or paused at different steps, and those that went on
        have been there too. Swersky, Snoek and Adams, *Freeze-Thaw Bayesian Optimization* (2014), and Kandasamy et al.,
        *Multi-fidelity Bayesian Optimisation with Continuous Approximations* (ICML 2017), do so in other ways.
    noise_prior
        See :class:`Observations`; unless given, it follows from whether the study says that it is noisy.
    """
    embed, seen = embedding(history.space), history.parts if partial else None
    if seen is not None and (seen.shares < 1.0).any():
        embed = embed.with_parts()
    observed = np.flatnonzero(history.observed)
    y = history.losses[observed] if losses is None else losses
    violations = history.violations[observed]
    allowed = np.asarray(~(violations > 0.0).any(axis=1))
    honest = plain or history.wishes.noisy or noise_prior is not None
    kept = (unbiased if honest else informative)(history.unit[observed], y[:, 0], MODEL_POINTS)
    if len(y) > EVERY_TIME:  # one fit serves as many trials as the schedule says, so they share its way
        winsor = (len(y) // pace(len(y))) % 2 == 1
    noise = (NOISY if history.wishes.noisy else QUIET) if noise_prior is None else noise_prior
    unit = history.unit[observed]
    warps = bool((unit == unit).sum(axis=1).max() <= MOST_WARPED)
    fits = _Fits(rng, warps, members, plain, winsor, trend and len(y) <= EARLY, noise, bool(history.space.conditional))
    failed = history.unit[history.failed][-MODEL_POINTS // 2 :]
    sems = (history.jitters if embed.partial else history.sems)[observed]
    success = fits.success(embed, unit[kept], failed) if len(failed) else None
    feigned = None if success is None else (embed(failed), _doubt(success, len(failed)))
    measured = history.complete[observed]  # what a pruned trial would have reached is doubtful, and has no derivatives
    exact = derivatives and not honest and not np.isfinite(sems[measured]).any() and history.slopes is not None
    near = beside(unit, y[:, 0], history.slopes[observed]) if exact else None  # type: ignore[index]
    looks = [_Looks.at(history, observed, y[:, j], sems[:, j], seen, j) for j in range(y.shape[1])]
    objectives = tuple(fits.objective(embed, look, kept, feigned, near) for look in looks)
    constraints = tuple(
        fits.quantity(embed, unit[rows], violations[rows, j])
        for j in range(violations.shape[1])
        if len(rows := kept[np.isfinite(violations[kept, j])])
    )
    cost = None
    if history.per is not None and len(rows := kept[history.costs[observed][kept] > 0]):
        cost = fits.quantity(embed, unit[rows], np.log(history.costs[observed][rows]))
    return Model(embed, unit[kept], y[kept], objectives, allowed[kept], kept, success, constraints, cost)


@dataclass(frozen=True)
class _Looks:
    """What has been observed of one objective: of n trials, and parts of their trainings that they have gone beyond.

    Attributes
    ----------
    unit, y, sems, shares
        Rows of the cube, values, their standard errors or NaN, and how much of a training each was: n of them.
    of, passed
        For each part, its trial's position, shape (r,); and its share, value and standard deviation, shape (r, 3).
    """

    unit: np.ndarray
    y: np.ndarray
    sems: np.ndarray
    shares: np.ndarray
    of: np.ndarray
    passed: np.ndarray

    @classmethod
    def at(
        cls, history: History, observed: np.ndarray, y: np.ndarray, sems: np.ndarray, seen: Parts | None, j: int
    ) -> _Looks:
        """Collect what is known of objective ``j`` of the ``observed`` trials."""
        shares, of, passed = np.ones(len(history)), np.empty(0, dtype=int), np.empty((0, 3))
        if seen is not None:
            shares[seen.trials[seen.resting]] = seen.shares[seen.resting]
            on = ~seen.resting & np.isin(seen.trials, observed)
            of = np.searchsorted(observed, seen.trials[on])
            passed = np.column_stack([seen.shares[on], seen.ends[on, j], seen.jitters[on, j]])
        return cls(history.unit[observed], y, sems, shares[observed], of, passed)

    def data(
        self, embed: Embedding, rows: np.ndarray, scaled: np.ndarray, centre: float, scale: float, noise: NoisePrior
    ) -> Observations:
        """Return some of the trials with parts of them, given the ``scaled`` values of the n trials.

        Of parts the latest ones, where there would be too many observations.
        """
        part = np.flatnonzero(np.isin(self.of, rows))[-max(MODEL_POINTS - len(rows), MODEL_POINTS // 4) :]
        share, ends, sds = self.passed[part].T
        phi = np.vstack([embed(self.unit[rows], self.shares[rows]), embed(self.unit[self.of[part]], share)])
        far = BEYOND * scale
        ends = np.clip(ends - centre, -far, far) / scale
        values = np.append(scaled[rows], np.minimum(ends, scaled.max()))  # the bad tail is clipped
        known = (np.minimum(np.nan_to_num(np.append(self.sems[rows], sds)), 2.0 * scale) / scale) ** 2
        return Observations(phi, values, embed.group, len(embed.numeric), known, noise)


@dataclass(frozen=True)
class _Fits:
    """How the processes of one model are fitted."""

    rng: np.random.Generator
    warps: bool
    members: int
    plain: bool
    winsor: bool
    trend: bool
    noise_prior: NoisePrior
    conditional: bool

    def output(self, y: np.ndarray) -> tuple[np.ndarray, float, float]:
        unit = max(float(np.abs(y).max(initial=0.0)), np.finfo(float).tiny)  # differences of huge values overflow
        shaped = y / unit
        if not self.plain:
            shaped = clip_bad(shaped) if len(y) <= EARLY else winsorise(shaped) if self.winsor else shaped
        scaled, centre, scale = standardise(shaped)
        return scaled, centre * unit, scale * unit

    def objective(
        self,
        embed: Embedding,
        look: _Looks,
        kept: np.ndarray,
        feigned: tuple[np.ndarray, np.ndarray] | None,
        near: tuple[np.ndarray, np.ndarray] | None,
    ) -> Quantity:
        """Fit an objective to some of its observations and its derivatives, with failures as bad as the worst of them.

        Where nothing else is known, the next trial should be elsewhere than where one failed. Hyperparameters are
        fitted to what the objective returned alone.
        """
        scaled, centre, scale = self.output(look.y)
        data = look.data(embed, kept, scaled, centre, scale, self.noise_prior)
        # a rough process forgets soon what branches share, how trainings go on, and where failures were
        told = self.conditional or near is not None or feigned is not None or embed.partial
        data = replace(data, bowl=float(len(look.y) >= BOWL), smooth=told)
        if near is not None:
            gain, far = near[1] - centre, BEYOND * scale
            promised = np.clip(gain, -far, far) / scale
            # the bad tail may be clipped
            inside = (promised < scaled.max()) & (np.abs(gain) < far)
            data = believed(data, embed(near[0][inside]), promised[inside])
        found, smooth = self.thetas(embed, data, look)
        data = replace(data, smooth=smooth)
        if feigned is not None:
            data = replace(
                data,
                phi=np.vstack([data.phi, feigned[0]]),
                y=np.append(data.y, np.full(len(feigned[0]), scaled.max())),
                known=np.append(data.known, feigned[1]),
            )
        return Quantity(condition(found, data), centre, scale)

    def thetas(self, embed: Embedding, data: Observations, look: _Looks) -> tuple[np.ndarray, bool]:
        """Return hyperparameters and the kernel for an objective; beyond a hundred observations, from some of them."""
        bend = BENT if data.smooth else STIFF
        layout = Layout(data.n_groups, data.numeric if self.warps else 0, self.trend, bend)
        n = len(look.y)
        if n <= EVERY_TIME:
            return thetas(data, layout, self.members, study_rng(self.rng, f"theta {n}"))
        # between the fits of a schedule the hyperparameters stay as they are: they hardly change any more
        m = n - n % pace(n)
        most = FIT_POINTS if not embed.partial else FIT_POINTS // MILESTONES
        rows = informative(look.unit[:m], look.y[:m], most)
        past = look.data(embed, rows, *self.output(look.y[:m]), data.noise_prior)
        past = replace(past, smooth=data.smooth)
        past = past if embed.partial else replace(past, known=np.zeros(len(rows)))
        few = self.members if n <= 200 else min(self.members, 2) if n <= MODEL_POINTS else 1
        return thetas(past, layout, few, study_rng(self.rng, f"theta {m}"))

    def quantity(self, embed: Embedding, unit: np.ndarray, y: np.ndarray) -> Quantity:
        """Fit one process to a quantity beside the objective."""
        scaled, centre, scale = standardise(y)
        data = observations(embed(unit), scaled, embed.group, len(embed.numeric))
        return Quantity(condition(self._one(data), data), centre, scale)

    def success(self, embed: Embedding, good: np.ndarray, bad: np.ndarray) -> Posterior:
        """Fit one process to -1 for success and +1 for failure."""
        y = np.append(-np.ones(len(good)), np.ones(len(bad)))
        data = observations(embed(np.vstack([good, bad])), y, embed.group, len(embed.numeric))
        return condition(self._one(data), data)

    def _one(self, data: Observations) -> np.ndarray:
        some = np.unique(np.linspace(0, len(data.y) - 1, min(len(data.y), FIT_POINTS)).astype(int))
        return thetas(data.subset(some), Layout(data.n_groups, 0), 1, self.rng)[0]


def pace(n: int) -> int:
    """Return after how many results hyperparameters are fitted again, with n results so far."""
    return 1 + n // EVERY_TIME


def foreseen(success: Posterior) -> float:
    """Return the share of failed trials that are expected to fail by what the others say."""
    return float((success.leave_one_out()[0][success.data.y > 0.0] > 0.0).mean())


def _doubt(success: Posterior, failures: int) -> np.ndarray:
    """Return the variance of what is made up for failed trials, shape (failures,): small where they can be foreseen.

    Where failures strike anywhere, one of them says little of the place, and what was measured nearby counts for more.
    """
    return np.full(failures, 10.0 ** (-6.0 * foreseen(success)))


_CACHE: OrderedDict[bytes, tuple[np.ndarray, bool]] = OrderedDict()
_CACHED = 16


def thetas(data: Observations, layout: Layout, members: int, rng: np.random.Generator) -> tuple[np.ndarray, bool]:
    """Return fitted hyperparameters, shape (members, t), and the kernel; remembered for data that were seen before.

    ``rng`` must follow from the data: then remembering changes nothing.
    """
    settings = layout, members, data.noise_prior, data.bowl, data.smooth, rng.bit_generator.state["state"]
    digest = hashlib.blake2b(repr(settings).encode())
    for part in (data.phi, data.y, data.known, data.group):
        digest.update(np.ascontiguousarray(part).tobytes())
    key = digest.digest()
    found = _CACHE.get(key)  # looked up once: in the threads of a server, another one may evict it meanwhile
    if found is None:
        found = _CACHE[key] = fitting.fitted(data, layout, members, rng)
        while len(_CACHE) > _CACHED:
            _CACHE.popitem(last=False)
    return found


def unbiased(unit: np.ndarray, y: np.ndarray, limit: int) -> np.ndarray:
    """Return which observations to fit to where values are noisy: half near the best region, half from anywhere.

    Choosing by the values themselves would keep the lucky ones. The best region is where the average of the nearest
    few is lowest; what lies near it is chosen by place alone.
    """
    if len(y) <= limit:
        return np.arange(len(y))
    rng, filled = np.random.default_rng(0), np.nan_to_num(unit, nan=0.5)
    some = rng.choice(len(y), limit, replace=False)
    gaps = ((filled[some][:, None] - filled[some][None]) ** 2).sum(2)
    nearest = np.argsort(gaps, axis=1, kind="stable")[:, :NEIGHBOURS]
    best = filled[some[int(np.argmin(y[some][nearest].mean(1)))]]
    order = np.argsort(((filled - best) ** 2).sum(1), kind="stable")
    near, rest = order[: limit // 2], order[limit // 2 :]
    return np.sort(np.concatenate([near, rng.choice(rest, limit - len(near), replace=False)]))


def informative(unit: np.ndarray, y: np.ndarray, limit: int) -> np.ndarray:
    """Return which observations to fit to: all, or beyond ``limit`` the best, those nearest to them, and the latest."""
    if len(y) <= limit:
        return np.arange(len(y))
    order = np.argsort(y, kind="stable")
    best, rest = order[: limit // 3], order[limit // 3 :]
    gap = np.nan_to_num(unit[rest], nan=0.5) - np.nan_to_num(unit[order[0]], nan=0.5)
    near = np.argsort((gap * gap).sum(1), kind="stable")[: limit // 3]
    others = np.sort(np.delete(rest, near))
    latest = others[-(limit - len(best) - len(near)) :]
    return np.sort(np.concatenate([best, rest[near], latest]))
