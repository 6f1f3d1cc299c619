"""Bayesian optimisation: Gaussian processes over every kind of space, and expected improvement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from welltuned.errors import InvalidValue
from welltuned.history import History
from welltuned.pareto import front_reference, non_dominated, penalised, scalarise
from welltuned.samplers.initial import initial_design
from welltuned.samplers.novel import novel, to_priors
from welltuned.settings import check_whole
from welltuned.space import Categorical, Params, Space, codec
from welltuned.streams import origin
from welltuned.surrogate import transfer
from welltuned.surrogate.acquisition import Acquisition, LogMean, LogProbability, Sum, log_ei, total
from welltuned.surrogate.batch import spread_out
from welltuned.surrogate.belief import log_belief
from welltuned.surrogate.hypervolume import LogEHVI, boxes
from welltuned.surrogate.maximise import candidates, maximise
from welltuned.surrogate.model import EARLY, SUCCESS_SPREAD, UNHEARD_OF, Model, fit_model
from welltuned.surrogate.replicate import worth_repeating, worth_trying

EXACT_OBJECTIVES = 3  # up to that many, the hypervolume's growth is computed; beyond, objectives are scalarised
BATCH_POOL, BATCH_SCREENED = 512, 192  # rows that a batch is chosen from, before and after screening
PORTFOLIO = 3  # of the first trials, how many repeat what was good in earlier studies
SPARE = 8  # rows beyond those asked for, in case some were tried before
MOST_BOXES = {2: 512, 3: 64}  # points of a front that boxes are built from, by the number of objectives
NOTHING = 1e-3  # expected improvement that is next to none, as a share of Search.spread
FAR = 0.1  # what is looked for then in every second trial, on the same scale
STALE, GAINED = 10, 0.01  # of that many results in a row, an improvement that is as good as none, on the same scale
LATEST, CAUTION = 8, 0.25  # of the last trials, each failure beyond the first asks for so much more certainty
FEWEST_OF_BRANCH = 3  # trials of a choice that brings parameters of its own, before it may be judged
DRAWN = 64  # rows that one is chosen from at random
FEWEST_AT_HOME = 8  # results of a branch that it may have a model of its own from
HALF_TIME = 32  # trials after which a search without a budget refines what is best so far


@dataclass(frozen=True)
class Bayes:
    """Propose where Gaussian processes expect the largest improvement.

    Mixed and conditional spaces share one embedding; inputs are warped, hyperparameters averaged over. Running trials
    enter as fantasies of their results. Failed trials teach a process of their own the probability of success, and so
    do constraints on outcomes. Two or three objectives are searched by expected hypervolume improvement, more of them
    by random weights (Knowles, *ParEGO*, 2006). Priors of parameters and earlier studies are used where there are any.

    Parameters
    ----------
    initial
        Trials that are spread over the space before the model takes over: half as many as there are parameters, four
        at least and ten at most, and up to ten one for each branch that has defaults, unless given. These come first.
    fantasies
        How many joint draws of the running trials' results are averaged; even.
    members
        How many sets of hyperparameters are averaged over. One is twice as fast and a little worse.

    Examples
    --------
    >>> Bayes(initial=4)
    Bayes(initial=4, fantasies=16, members=4)
    """

    initial: int | None = None
    fantasies: int = 16
    members: int = 4
    model_based: ClassVar[bool] = True
    several_objectives: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_whole(self, initial=1, fantasies=2, members=1)
        if self.fantasies % 2:
            raise InvalidValue(f"Bayes: fantasies={self.fantasies!r} must be an even number")

    def suggest(self, space: Space, history: History, n: int, rng: np.random.Generator) -> list[Params]:
        """See :meth:`Sampler.suggest`."""
        seen: set[str] = set()
        started = int((history.observed | history.failed | history.pending).sum())
        design = max(0, min(n, self.n_initial(space) - started))
        if history.observed.sum() < 2:
            design = n
        chosen = novel(space, history, self._design(space, history, design, rng), design, rng, seen)
        if len(chosen) < design or design == n:
            return chosen
        pending = np.vstack([history.unit[history.pending], space.encode(chosen)])
        everywhere: Search | None = None
        while len(chosen) < n:
            number = origin(rng)[1] + len(chosen)
            force, stay = neglected_choice(space, history, number), at_home(space, history, number)
            if stay:
                search = Search.begin(home(history, stay), rng, self)
            else:
                search = everywhere = everywhere or Search.begin(history, rng, self)
            acquisition = search.acquisition(pending)
            again = search.again(pending) if history.wishes.noisy else None
            if number % 2 == 0 and force is None and not stay:
                ranked = search.hedged(acquisition, pending)
            else:
                ranked = search.ranked(acquisition, force, stay)
            if again is not None and again[0] > worth_trying(search.model, ranked[:1]):
                fresh = space.decode(again[1][None], activated=True)  # in the history, and wanted once more
            else:
                fresh = novel(space, history, (space.decode(r[None], activated=True)[0] for r in ranked), 1, rng, seen)
            if not fresh:
                break
            chosen += fresh
            if len(chosen) < n:
                pending = np.vstack([pending, space.encode(fresh)])
            if n - len(chosen) > 1 and search.is_plain and not stay:
                rows = search.batch(acquisition, pending, n - len(chosen))
                proposals = (space.decode(r[None], activated=True)[0] for r in rows)
                return chosen + novel(space, history, proposals, n - len(chosen), rng, seen)
        return chosen

    def _design(self, space: Space, history: History, n: int, rng: np.random.Generator) -> list[Params]:
        """Return what comes before the model: the defaults, what was good in earlier studies, and an even spread."""
        spread = initial_design(space, history, n, rng)
        earlier = transfer.earlier_models(history, rng) if n and history.wishes.earlier else []
        if not earlier:
            return spread
        known = transfer.portfolio(earlier, PORTFOLIO)
        rows = space.activate(np.where(np.isnan(known), 0.5, known))
        good = space.decode(rows[space.feasible(rows)], activated=True)
        defaults = space.defaults
        first = 1 if defaults is not None and spread and space.key(spread[0]) == space.key(defaults) else 0
        return [*spread[:first], *good, *spread[first:]]

    def n_initial(self, space: Space) -> int:
        """Return how many trials precede the model."""
        return self.initial if self.initial is not None else min(max(len(space) // 2, len(space.starts), 4), 10)


@dataclass(frozen=True)
class Search:
    """What the proposals of one call share: the fitted model, and how to turn it into an acquisition."""

    history: History
    model: Model
    rng: np.random.Generator
    settings: Bayes
    earlier: transfer.Ensemble | None = None

    @classmethod
    def begin(cls, history: History, rng: np.random.Generator, settings: Bayes) -> Search:
        """Fit the model. Even and odd trials differ in what they make of the bad tail: a hedge that costs nothing."""
        odd = origin(rng)[1] % 2 == 1
        losses = history.losses[history.observed]
        several = losses.shape[1]
        if several > EXACT_OBJECTIVES:
            losses = scalarise(losses, rng)[:, None]
        model = fit_model(
            history,
            rng,
            winsor=odd,
            # branches have little of a trend in common, a front is found by what bends, and up to where trials fail a
            # trend leads on beyond
            trend=several == 1 and not history.space.conditional and not history.failed.any(),
            members=settings.members if several == 1 else 1,
            losses=losses,
            derivatives=True,
            # studies before this one have processes of their own, in features that must be the same
            partial=several == 1 and not history.wishes.earlier,
        )
        past = transfer.earlier_models(history, rng) if several == 1 else []
        return cls(
            history, model, rng, settings, transfer.ensemble(model, past, history.budget, rng) if past else None
        )

    @property
    def spread(self) -> float:
        """Distance from the best loss to the upper quartile of the first ones, in the losses' own units.

        The first ones stand for the space; later ones crowd around the best.
        """
        y = self.model.losses[self.model.eligible, 0]
        return float(np.quantile(y[:EARLY], 0.75) - y.min())

    @property
    def is_plain(self) -> bool:
        """Whether the acquisition is the expected improvement of one objective without noise, whatever else counts."""
        model = self.model
        known = model.allowed.any() or not model.constraints
        return len(model.objectives) == 1 and self.earlier is None and known and not self.history.wishes.noisy

    def hedged(self, acquisition: Acquisition, pending: np.ndarray) -> np.ndarray:
        """Return ranked rows: elsewhere, if there is next to nothing left to be gained near what is best.

        Where trials fail, or violate constraints, those elsewhere mostly would.
        """
        safe = self.is_plain and self.model.success is None and not self.model.constraints
        if safe and self.is_stale:
            return self.elsewhere(pending)
        ranked = self.ranked(acquisition, None)
        return self.elsewhere(pending) if safe and self.is_spent(np.vstack([ranked, pending])) else ranked

    @property
    def is_stale(self) -> bool:
        """Whether there are branches, and the latest results improved by next to nothing on those before.

        Where losses are ragged, a little more is always expected of the best place. The search would stay in the first
        branch that is good, and never see what another has beyond the three trials that it must have.
        """
        losses = self.history.losses[self.history.observed, 0]
        if len(losses) < 2 * STALE or not branching(self.history.space):
            return False
        return bool(losses[:-STALE].min() - losses.min() < GAINED * self.spread)

    def is_spent(self, rows: np.ndarray) -> bool:
        """Tell whether no improvement to speak of is expected of any of the rows.

        Running trials are left out: that they will have found what there is to be found here is not known yet.
        """
        least = NOTHING * self.spread / self.model.objective.scale
        return bool(self._improvement(rows[:0], 0.0).value(rows).max() < np.log(max(least, 1e-300)))

    def elsewhere(self, pending: np.ndarray) -> np.ndarray:
        """Return ranked rows away from what is known well: in the least tried of the other branches, as if it were the
        whole space, or without branches where much would have to be gained.
        """
        columns = branching(self.history.space)
        others = branches(self.history, columns)[1:] if columns else []
        if not others:
            return self.ranked(self.acquisition(pending, FAR), None)
        results = np.flatnonzero(others[0] & self.history.observed)
        if len(results) < FEWEST_AT_HOME:
            # where all are about equal, a model would go from one corner to the next
            drawn = self.drawn(self.history.unit[results[0], columns], columns)
            if len(drawn):
                return drawn
        there = Search.begin(self.history.where(others[0]), self.rng, self.settings)
        return there.ranked(there.acquisition(pending), None, columns)

    def drawn(self, choices: np.ndarray, columns: Sequence[int]) -> np.ndarray:
        """Return allowed rows of the cube drawn by the priors in one branch, that of the ``choices`` in ``columns``."""
        space = self.history.space
        rows = to_priors(space, self.rng.random((DRAWN, len(space))))
        rows[:, columns] = np.where(np.isnan(choices), rows[:, columns], choices)
        rows = space.activate(rows)
        return rows[space.feasible(rows)]

    def acquisition(self, pending: np.ndarray, margin: float = 0.0) -> Acquisition:
        """Return what the next proposal maximises, given the rows that are under evaluation.

        With a ``margin``, only values that are better than the best one by that share of the :attr:`spread` improve on
        it: where all is known to the last digit nothing does then, and the search looks elsewhere. Jones, *A Taxonomy
        of Global Optimization Methods Based on Response Surfaces* (2001), varies the target likewise.
        """
        model, embed = self.model, self.model.embed
        terms: list[Acquisition] = []
        if model.allowed.any() or not model.constraints:
            terms.append(self._improvement(pending, margin))
        if model.success is not None:
            terms.append(LogProbability(embed, model.success, 0.0, SUCCESS_SPREAD))
        terms += model.satisfaction()
        if model.cost is not None:
            terms.append(LogMean(embed, model.cost.posterior, -model.cost.scale * self._thrift()))
        budget = self.history.budget
        belief = log_belief(self.history.space, max((budget or 100) / 10.0, 1.0) / max(len(self.history), 1))
        return total([*terms, belief] if belief is not None else terms)

    def _improvement(self, pending: np.ndarray, margin: float) -> Acquisition:
        model, embed = self.model, self.model.embed
        if len(model.objectives) > 1:
            return self._growth(pending)
        if self.earlier is not None:
            mean, _ = self.earlier.predict(embed(model.unit[model.eligible]))
            return transfer.TransferEI(self.earlier.with_pending(pending), float(mean.min()))
        best = model.incumbents() - min(margin * self.spread / model.objective.scale, UNHEARD_OF)
        return log_ei(embed, model.objective.posterior, best, pending, self.rng, self.settings.fantasies)

    def _growth(self, pending: np.ndarray) -> Acquisition:
        """Return expected hypervolume improvement; running trials count with what is expected of them."""
        model, embed = self.model, self.model.embed
        posteriors = tuple(q.posterior.only(0) for q in model.objectives)
        rows = model.unit[model.eligible]
        if len(pending):
            expected = [p.means(embed(pending)) for p in posteriors]
            posteriors = tuple(p.extended(embed(pending), y) for p, y in zip(posteriors, expected, strict=True))
            rows = np.vstack([rows, pending])
        points = np.column_stack([p.means(embed(rows)) for p in posteriors])
        front = points[non_dominated(points)]
        # far out, the ends of the front are worth most; close by, what lies between them
        reference = front_reference(front, points, wide=len(points) % 2 == 1)
        if len(front) > (most := MOST_BOXES[front.shape[1]]):
            front = front[np.argsort(front[:, 0])[np.linspace(0, len(front) - 1, most).astype(int)]]
        return LogEHVI(embed, posteriors, *boxes(front, reference))

    def _thrift(self) -> float:
        """Return the exponent of the cost: 1 at first, 0 at the end of a known budget.

        Cheap places first, the best ones at last; Lee et al., *Cost-aware Bayesian Optimization* (2020), eq. 3.
        """
        budget = self.history.budget
        return 1.0 if budget is None else max(0.0, 1.0 - self.history.spent / budget)

    def ranked(
        self, acquisition: Acquisition, force: tuple[int, int] | None, stay: Sequence[int] = ()
    ) -> np.ndarray:
        """Return rows of the cube in descending order of acquisition; those that likely fail come last."""
        model, space = self.model, self.history.space
        weights = model.objective.posterior.w[0, 0]
        rows, scores = maximise(
            space, model.embed, acquisition, model.best_rows(5), weights, self.rng, force, model.unit, stay
        )
        return rows[np.lexsort((-scores, model.doubt(rows, caution(self.history))))]

    def batch(self, acquisition: Acquisition, pending: np.ndarray, n: int) -> np.ndarray:
        """Return rows that go well with those under evaluation, shape (≥ n, p) where there are so many."""
        model, space = self.model, self.history.space
        pool = candidates(space, model.best_rows(5), BATCH_POOL, self.rng)
        scores = acquisition.coarse().value(pool)
        pool = pool[np.argsort(-scores, kind="stable")[: max(BATCH_SCREENED, 4 * n)]]
        others = acquisition.terms[1:] if isinstance(acquisition, Sum) else ()
        factor = np.sum([t.value(pool) for t in others], axis=0) if others else np.zeros(len(pool))
        posterior = model.objective.posterior.only(0)
        at = spread_out(
            model.embed, posterior, float(model.incumbents()[0]), pending, pool, factor, n + SPARE, self.rng
        )
        return pool[at]

    def again(self, pending: np.ndarray) -> tuple[float, np.ndarray] | None:
        """Return the observed row that is most worth another evaluation, and the logarithm of that worth."""
        if len(self.model.objectives) > 1:
            return None
        return worth_repeating(self.model, pending)


def caution(history: History) -> float:
    """Return how certain success has to be, on the scale of the process, where more than one of the last trials failed.

    A smooth model of success cannot tell apart what lies within a thousandth of the range on either side of an edge,
    and where the optimum is at the edge, it would lead there again and again.
    """
    latest = history.failed[history.failed | history.observed][-LATEST:]
    return CAUTION * max(int(latest.sum()) - 1, 0)


def neglected_choice(space: Space, history: History, number: int) -> tuple[int, int] | None:
    """Return (column, choice) of a category that too few trials have tried yet, at every third trial, or None.

    A choice needs one trial; one that brings parameters of its own three, however many they are: one more for each of
    them cost a third of all trials where there were five branches. The model knows next to nothing of a branch of which
    it has seen a single bad point, and left alone it may wait long before it looks again. A category that was added to
    the space mid-study has its turn in this way too.
    """
    if number % 3:
        return None
    worst: tuple[float, int, int] | None = None
    parameters = list(space.values())
    for (j, choice), quota in quotas(space).items():
        tried = int((codec.indices(parameters[j], history.unit[:, j]) == choice).sum())
        if tried < quota and (worst is None or tried / quota < worst[0]):
            worst = (tried / quota, j, choice)
    return None if worst is None else worst[1:]


def at_home(space: Space, history: History, number: int) -> tuple[int, ...]:
    """Return the columns that decide which others exist, in which a trial is to have the choices of the best one so
    far: at every third trial of the second half of the budget.

    A branch with more parameters has more that is unknown, so expected improvement goes back to it again and again and
    refines nothing. On two real choices among three models (ten seeds) this lowered the regret after 64 trials.
    """
    half = HALF_TIME if history.budget is None else history.budget / 2
    if number % 3 != 1 or history.spent < half or len(history.directions) > 1:
        return ()
    return branching(space)


def home(history: History, columns: Sequence[int]) -> History:
    """Return the history of the best trial's branch, if it has enough results for a model of its own.

    Such a model has the scale of the differences in the branch, which those to other branches may dwarf.
    """
    inside = branches(history, columns)[:1]
    return history.where(inside[0]) if inside and (inside[0] & history.observed).sum() >= FEWEST_AT_HOME else history


def branching(space: Space) -> tuple[int, ...]:
    """Return the columns of categories that decide which other parameters exist."""
    return tuple(sorted(space.column[name] for name in space.parents if isinstance(space[name], Categorical)))


def branches(history: History, columns: Sequence[int]) -> list[np.ndarray]:
    """Return which trials are in each branch, the best one's first and then the less tried before the more.

    A branch is a combination of choices in ``columns`` that three trials at least have a result of, or the best one.
    """
    parameters, unit = list(history.space.values()), history.unit[:, columns]
    codes = np.column_stack([codec.indices(parameters[j], np.nan_to_num(unit[:, i])) for i, j in enumerate(columns)])
    codes = np.where(np.isnan(unit), -1, codes)
    rows = np.flatnonzero(history.observed)
    best = rows[np.argmin(penalised(history.losses[rows, 0], history.violations[rows]))]
    found = [history.fits & (codes == code).all(axis=1) for code in np.unique(codes[rows], axis=0)]
    found = [inside for inside in found if inside[best] or (inside & history.observed).sum() >= FEWEST_OF_BRANCH]
    return sorted(found, key=lambda inside: (not inside[best], inside.sum()))


def quotas(space: Space) -> dict[tuple[int, int], int]:
    """Return how many trials each (column, choice) needs before the model may judge it."""
    tests = {t for c in space.conditions.values() if c is not None for clause in c.clauses for t in clause}
    deciding = {(space.column[test.parent], choice) for test in tests for choice in test.indices}
    return {
        (j, choice): FEWEST_OF_BRANCH if (j, choice) in deciding else 1
        for j, parameter in enumerate(space.values())
        if isinstance(parameter, Categorical) and len(parameter.choices) > 1
        for choice in range(len(parameter.choices))
    }
