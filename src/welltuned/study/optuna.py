"""Studies of Optuna as studies of ours. All is known by its attributes: only to read a database takes Optuna itself."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from welltuned.errors import InvalidType, InvalidValue, StorageError, WelltunedError, require
from welltuned.evaluation import failure, interpret, jsonable
from welltuned.space import Float, Int, Parameter, Space
from welltuned.space.foreign import from_distribution
from welltuned.space.widen import widened
from welltuned.storage import Storage, open_storage
from welltuned.storage.masking import masked
from welltuned.study.checks import check_directions, check_name
from welltuned.study.incoming import already_there, as_enqueued
from welltuned.study.study import Study
from welltuned.trial import CONSTRAINTS, Outcome, Reason, Report, State, Trial

log = logging.getLogger("welltuned")
STATES = {"complete": State.COMPLETE, "pruned": State.PRUNED, "fail": State.FAILED}
UNDER_WAY = ("running", "waiting")
ENQUEUED = "fixed_params"  # under which Optuna keeps what a waiting trial is to be evaluated with
NUMBER, FROM = "optuna_number", "optuna_study"  # attributes by which a trial is known when it is imported again
QUARTER, ZONES = 900.0, 26 * 3600.0  # seconds by which zones differ, at least and at most
AT_ONCE, LARGEST = 100, 4 << 20  # trials, and bytes of them, that are stored together: a server takes some megabytes
REPORT = 80  # bytes that one takes
SQLITE = b"SQLite format 3\0"
ADDRESS = re.compile(r"sqlite(?:\+\w+)?:///(.*)", re.DOTALL)  # of a file, as SQLAlchemy writes it


@dataclass
class _Found:
    """What Optuna has, in our words, and how many things of which kind there is no place for."""

    objectives: tuple[str, ...]
    trials: list[Trial] = field(default_factory=list)
    enqueued: list[tuple[int, dict[str, Any]]] = field(default_factory=list)  # numbers and what was asked for
    without: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    _declared: dict[str, dict[str, Parameter]] = field(default_factory=dict)  # by name and text, the latest last
    _only: dict[str, set[float]] = field(default_factory=dict)  # by name: the values of ranges of one value

    def take(self, frozen: Any, origin: str | None) -> None:
        """Read one trial."""
        state = _word(_of(frozen, "state"))
        asked = (getattr(frozen, "system_attrs", None) or {}).get(ENQUEUED)
        if state == "waiting" and isinstance(asked, Mapping) and asked:
            self.enqueued.append((int(_of(frozen, "number")), dict(asked)))
            return
        if state in UNDER_WAY:
            self.without[f"trials that are {state}"] += 1
            return
        if state not in STATES:
            raise InvalidValue(f"from_optuna: trial {_of(frozen, 'number')} has the unknown state {state!r}")
        distributions, values = _of(frozen, "distributions"), _of(frozen, "values")
        if state == "complete" and len(values or ()) != len(self.objectives):
            raise InvalidValue(
                f"from_optuna: trial {_of(frozen, 'number')} has the values {values!r}, but the objectives are "
                f"{list(self.objectives)!r}; name as many in direction="
            )
        try:
            for name, distribution in distributions.items():
                self._declare(name, distribution)
            trial, lost = _trial(frozen, STATES[state], self.objectives, origin)
        except (InvalidValue, InvalidType) as error:
            self.refused.append(f"trial {_of(frozen, 'number')}: {error}")
            return
        self.trials.append(trial)
        self.without["reports that are not finite"] += lost

    def _declare(self, name: str, distribution: Any) -> None:
        """Remember what a trial declared, in the order in which it was said last; most say the same again."""
        text = repr(distribution)
        parameter = self._declared.get(name, {}).pop(text, None) or from_distribution(distribution)
        if parameter is None:
            self._only.setdefault(name, set()).add(distribution.low)
        else:
            self._declared.setdefault(name, {})[text] = parameter

    @property
    def domains(self) -> dict[str, Parameter]:
        """What was declared last of each parameter, united with all that is of its kind."""
        found = {}
        for name, declared in self._declared.items():
            *earlier, domain = declared.values()
            for one in reversed(earlier):
                domain = widened({name: one}, {name: domain})[name]
            for value in self._only.get(name, ()):
                domain = _reaching(domain, value)
            found[name] = domain
        return found


def from_optuna(
    source: Any,
    space: Any = None,
    *,
    storage: Any = None,
    name: str | None = None,
    direction: Any = None,
    **options: Any,
) -> Study:
    """Make a study of the trials of one of Optuna's, and go on with it.

    Complete, pruned and failed trials become trials of the study as :meth:`Study.add` makes them: they steer the search
    and use no budget, so ``optimize(objective, n_trials=100)`` evaluates a hundred more. They keep their parameters,
    values, intermediate values, user attributes, constraints, start and duration; ``optuna_number`` among their
    attributes is the number they had. What was enqueued there and waits is enqueued here, as trials of the budget. Done
    again, it adds what is new. What there is no place for is said in one warning.

    Parameters
    ----------
    source
        An ``optuna.Study``, or a list of its trials.
    space
        The space of the study. Unless given, what the trials declared, with ranges and choices that differ united; the
        objective goes on to suggest its parameters (``trial.suggest_float``), and may suggest others.
    storage, options
        As in :class:`Study`.
    name
        Which study of the storage; Optuna's name of it unless given.
    direction
        As in :class:`Study`: what the objectives are called. A list of trials does not say which way is better, a study
        does.

    Raises
    ------
    InvalidType, InvalidValue
        For what is no study of Optuna's; directions that are not those of the study.

    Examples
    --------
    >>> from types import SimpleNamespace as Frozen
    >>> class FloatDistribution:
    ...     low, high, log, step = 0.0, 1.0, False, None
    >>> trials = [
    ...     Frozen(
    ...         number=i, state="COMPLETE", values=[x**2], params={"x": x}, distributions={"x": FloatDistribution()}
    ...     )
    ...     for i, x in enumerate([0.2, 0.7])
    ... ]
    >>> study = from_optuna(trials, seed=0)
    >>> study.optimize(lambda trial: trial.suggest_float("x", 0.0, 1.0) ** 2, n_trials=3)
    >>> [trial.origin.value for trial in study.trials]
    ['added', 'added', 'sampler', 'sampler', 'sampler']
    """
    directions = _directions(source, direction)
    origin = getattr(source, "study_name", None)
    found = _Found(tuple(directions))
    for frozen in _trials(source):
        found.take(frozen, origin)
    where, called = open_storage(storage), check_name(origin or "study" if name is None else name)
    study = _study(found, space, where, {"direction": directions, "storage": where, "name": called, **options})
    for key, value in (getattr(source, "user_attrs", None) or {}).items():
        study.set_user_attr(key, value)
    _add(study, found)
    _enqueue(study, found)
    _warn(study.name, found)
    return study


def _study(found: _Found, space: Any, storage: Storage, options: dict[str, Any]) -> Study:
    """Open the study, or make it; one whose objective suggests its parameters knows those of the trials."""
    known = next((row for row in storage.studies() if row.name == options["name"]), None)
    if space is None and found.domains and (known is None or not known.spaces):
        made = Study(Space(found.domains), **options)
        storage.update(made.coordinator.ledger.row.id, attributes={"open": True})
    study = Study(space, **options)
    if study.coordinator.open_space:
        study.coordinator.ledger.widen(found.domains)
    return study


def _add(study: Study, found: _Found) -> None:
    """Add the trials that are not there yet."""
    if not study.has_space:
        found.without["trials without parameters"] += len(found.trials)
        return
    known: dict[tuple[Any, Any], list[Trial]] = {}
    for trial in study.trials:
        known.setdefault(_origin(trial), []).append(trial)
    new = [trial for trial in found.trials if not any(_is_same(trial, t) for t in known.get(_origin(trial), ()))]
    for part in _parts(new):
        added = study.add(part)
        found.refused += [f"trial {trial.number}: {why}" for trial, why in added.refused]


def _enqueue(study: Study, found: _Found) -> None:
    """Let those wait here that wait there, and have not been evaluated here since an earlier import."""
    space, before = study.space if study.has_space else None, study.history
    for number, params in found.enqueued:
        try:
            # a noisy study would enqueue it again at each import
            if not already_there(as_enqueued(params, space, study.objectives), before):
                study.enqueue(params)
        except (InvalidValue, InvalidType) as error:
            found.refused.append(f"trial {number}: {error}")


def _parts(trials: Iterable[Trial]) -> Iterator[list[Trial]]:
    """Split trials into lists that a server takes in one request."""
    part: list[Trial] = []
    size = 0
    for trial in trials:
        own = len(json.dumps(trial.attributes)) + REPORT * len(trial.reports)
        if part and (len(part) == AT_ONCE or size + own > LARGEST):
            yield part
            part, size = [], 0
        part.append(trial)
        size += own
    if part:
        yield part


def _origin(trial: Trial) -> tuple[Any, Any]:
    return trial.attributes.get(FROM), trial.attributes.get(NUMBER)


def _is_same(one: Trial, other: Trial) -> bool:
    """Tell whether trials of one number are one; a study that was made anew has others.

    Optuna's times lack their zone: what was imported where the clock is in another one began whole quarters of an hour
    earlier or later.
    """
    if one.started is None or other.started is None:
        return one.started is other.started
    apart = abs(one.started - other.started)
    shifted = apart <= ZONES and abs(apart - QUARTER * round(apart / QUARTER)) < 1e-6
    return apart == 0.0 or (shifted and one.metrics == other.metrics)


def _warn(name: str, found: _Found) -> None:
    """Say in one line what is not there."""
    parts = [f"{n} {what}" for what, n in found.without.items() if n]
    if found.refused:
        parts.append(f"{len(found.refused)} trials that do not fit, such as {found.refused[0]}")
    if parts:
        log.warning("study %r is without what could not be taken over from Optuna: %s", name, "; ".join(parts))


def _of(thing: Any, name: str) -> Any:
    """Return an attribute that only things of Optuna's have together."""
    try:
        return getattr(thing, name)
    except AttributeError:
        raise InvalidType(f"from_optuna: {thing!r} is no trial of Optuna's; it has no {name!r}") from None


def _word(value: Any) -> str:
    """Return the name of a member of an enumeration, or a word as it is, in small letters."""
    return str(getattr(value, "name", value)).lower()


def _trials(source: Any) -> Iterable[Any]:
    if hasattr(source, "get_trials"):
        return source.get_trials(deepcopy=False)
    found = getattr(source, "trials", source)
    if not isinstance(found, Iterable) or isinstance(found, (str, bytes, Mapping, os.PathLike)):
        raise InvalidType(
            f"from_optuna: {source!r} is neither a study of Optuna's nor a list of its trials; of a database, "
            "optuna.load_study gives one, or `welltuned import`"
        )
    return found


def _directions(source: Any, direction: Any) -> dict[str, str]:
    """Return the objectives with their directions: by the names that were given, or that Optuna has for them."""
    given = None if direction is None else check_directions(direction)
    of_study = getattr(source, "directions", None)
    if of_study is None:
        return given or {"value": "minimize"}
    # one that was never set is that of Optuna's default
    found = ["maximize" if _word(d) == "maximize" else "minimize" for d in of_study]
    if given is not None and list(given.values()) != found:
        raise InvalidValue(f"from_optuna: direction={direction!r}, but the study has {found!r}, in this order")
    names = getattr(source, "metric_names", None)
    return given or check_directions(dict(zip(names, found, strict=True)) if names else found)


def _trial(frozen: Any, state: State, objectives: tuple[str, ...], origin: str | None) -> tuple[Trial, int]:
    """Return a finished trial in our words, and how many of its reports are not finite."""
    stated = _constraints(getattr(frozen, "system_attrs", None) or {})
    number, outcome = int(_of(frozen, "number")), _outcome(frozen, state, objectives, stated)
    constraints = {name: value for name, value in stated.items() if math.isfinite(value)}
    reports = getattr(frozen, "intermediate_values", None) or {}
    finite = {int(step): float(value) for step, value in reports.items() if math.isfinite(value)}
    start, end = getattr(frozen, "datetime_start", None), getattr(frozen, "datetime_complete", None)
    attributes = {
        **jsonable(getattr(frozen, "user_attrs", None) or {}),
        **({CONSTRAINTS: constraints} if constraints else {}),
        **({} if origin is None else {FROM: origin}),
        NUMBER: number,
    }
    trial = Trial(
        number,
        outcome.state,
        dict(_of(frozen, "params")),
        outcome.metrics,
        reports=tuple(Report(step, {objectives[0]: finite[step]}) for step in sorted(finite)),
        reason=outcome.reason,
        error=outcome.error,
        attempts=1,
        started=start.timestamp() if isinstance(start, datetime) else None,
        seconds=(end - start).total_seconds() if isinstance(start, datetime) and isinstance(end, datetime) else None,
        attributes=attributes,
        objectives=objectives,
    )
    return trial, len(reports) - len(finite)


def _constraints(attributes: Mapping[str, Any]) -> dict[str, float]:
    """Return the constraints on outcomes: before Optuna 5 a list of them, since then each under a name."""
    found = {f"constraint_{i}": float(value) for i, value in enumerate(attributes.get("constraints") or ())}
    named = {key.partition(":")[2]: value for key, value in attributes.items() if key.startswith("constraints:")}
    return found | {name: float(value) for name, value in named.items()}


def _outcome(frozen: Any, state: State, objectives: Sequence[str], constraints: Mapping[str, float]) -> Outcome:
    if state is State.PRUNED:
        return Outcome(State.PRUNED)
    if state is State.FAILED:
        return failure(Reason.ERROR, "it failed in Optuna, which does not keep why")
    if math.inf in constraints.values():
        return failure(Reason.INFEASIBLE, f"the constraints were {dict(constraints)!r}")
    return interpret(dict(zip(objectives, frozen.values, strict=True)), objectives, ())


def _reaching(domain: Parameter, value: float) -> Parameter:
    """Return a range with one more value in it, where its scale and its steps have a place for it."""
    if not isinstance(domain, (Float, Int)) or (domain.log and value <= 0):
        return domain
    steps = 0.0 if domain.step is None else (value - domain.low) / domain.step
    if abs(steps - round(steps)) > 1e-6:
        return domain
    return replace(domain, low=min(domain.low, value), high=max(domain.high, value))


# databases


@contextmanager
def optuna_study(where: str, name: str | None = None) -> Iterator[Any]:
    """Open a study of Optuna's where it is kept: a SQLite file, a journal, or the address of a database.

    Parameters
    ----------
    where
        A file that is there, or an address as SQLAlchemy writes it.
    name
        Which study; the only one unless given.

    Raises
    ------
    MissingDependency
        Without Optuna.
    InvalidValue
        When there is no study of this name, or the name is missing; with the names that there are.
    StorageError
        When nothing of Optuna's is there, or this release of it cannot read it. Nothing is written.
    """
    try:
        import optuna
    except ImportError as error:
        raise require("optuna", "optuna", "reading a database of Optuna's") from error
    shown = masked(where)
    storage: Any = None
    try:
        with _reading(shown):
            storage = _optuna_storage(where, shown)
            names = optuna.get_all_study_names(storage)
            if name is None and len(names) != 1:
                raise InvalidValue(
                    f"{shown} holds {len(names)} studies of Optuna's: {sorted(names)!r}; name one of them"
                )
            if name is not None and name not in names:
                raise InvalidValue(f"{shown} has no study {name!r}; it has {sorted(names)!r}")
            study = optuna.load_study(study_name=name or names[0], storage=storage)
            study.get_trials(deepcopy=False)  # Optuna keeps them: whatever cannot be read is met here
        yield study
    finally:
        if hasattr(storage, "engine"):
            storage.remove_session()
            storage.engine.dispose()


@contextmanager
def _reading(shown: str) -> Iterator[None]:
    """Turn the errors of SQLAlchemy, of a driver, or of Optuna into ours."""
    try:
        yield
    except WelltunedError:
        raise
    except Exception as error:  # noqa: BLE001
        cause = error.__cause__ or error  # Optuna's own says no more than that something went wrong
        lines = str(cause).splitlines() or [type(cause).__name__]
        raise StorageError(f"{shown} cannot be read as a storage of Optuna's: {masked(lines[0])}") from None


def _optuna_storage(where: str, shown: str) -> Any:
    from optuna.storages import JournalStorage, RDBStorage

    address = ADDRESS.match(where)
    if address is None and "://" in where:
        return RDBStorage(where, skip_table_creation=True)
    path = Path(where if address is None else address[1]).expanduser()
    if _is_database(path, shown):
        # not by an address, where some characters of a file's name mean something else
        return RDBStorage("sqlite://", {"creator": lambda: _connected(path)}, skip_table_creation=True)
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(path)))


def _connected(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


def _is_database(path: Path, shown: str) -> bool:
    """Tell a SQLite file of Optuna's from a journal; refuse all others: opened, they would become one."""
    try:
        with path.open("rb") as file:
            begin = file.read(len(SQLITE))
    except OSError as error:
        raise StorageError(f"{shown} cannot be read: {error.strerror or error}") from None
    if begin.startswith(b"{"):
        return False
    tables: set[str] = set()
    if begin == SQLITE:
        with closing(_connected(path)) as db:
            tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not {"studies", "trials", "version_info"} <= tables:
        raise StorageError(f"{shown} is no storage of Optuna's; give the file or the address that its storage= names")
    return True
