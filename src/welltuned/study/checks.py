"""Checks of what is passed to a study, at the door."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from inspect import Signature, isasyncgenfunction, iscoroutinefunction, isgeneratorfunction, signature
from pathlib import Path
from typing import Any

import numpy as np

from welltuned.errors import InvalidType, InvalidValue, StorageError
from welltuned.history import History, Wishes
from welltuned.live import Task
from welltuned.samplers import Auto, Bayes, Grid, Sampler
from welltuned.samplers.novel import size
from welltuned.schedulers import NONE, SCHEDULERS, Scheduler, describe_scheduler, make_scheduler, pauses
from welltuned.settings import real, whole
from welltuned.space import Categorical, Ordinal, Space, public
from welltuned.space.labels import ambiguous
from welltuned.storage import MAX_ATTEMPTS, Storage, StudyRow
from welltuned.trial import Reason, State

log = logging.getLogger("welltuned")
BATCH = 16  # trials in a call of a batch objective, unless given
SCHEDULER = "scheduler"  # the attribute of a study that holds its scheduler
PAUSES = "pauses"  # and the one that says whether it ever had one that pauses trials
DIRECTIONS = ("minimize", "maximize")


def check_directions(direction: Any) -> dict[str, str]:
    """Return objective name to direction from ``direction=``."""
    if isinstance(direction, str):
        named = {"value": direction}
    elif isinstance(direction, Mapping):
        named = dict(direction)
    elif isinstance(direction, Sequence):
        named = {"value" if len(direction) == 1 else f"value_{i}": d for i, d in enumerate(direction)}
    else:
        raise InvalidType(f"direction={direction!r} is not 'minimize' or 'maximize', nor a dict of them")
    if not named:
        raise InvalidValue(f"direction={direction!r} names no objective")
    for name, value in named.items():
        if not isinstance(name, str):
            raise InvalidType(f"direction={direction!r}: the objective's name {name!r} is not a string")
        if not name:
            raise InvalidValue(f"direction={direction!r}: an objective has the empty name ''")
        if value not in DIRECTIONS:
            raise InvalidValue(f"direction={direction!r}: {value!r} is not one of {list(DIRECTIONS)!r}")
    return named


def check_name(name: Any) -> str:
    """Return the name of a study."""
    if not isinstance(name, str):
        raise InvalidType(f"Study: name={name!r} is not a string")
    if not name.strip() or name in (".", "..") or any(c in name for c in "/\\\n\0"):
        raise InvalidValue(f"Study: name={name!r} must have letters, and no slash or line break")
    return name


def check_objective(objective: Any, space: Space | None) -> None:
    """Refuse what cannot be called with a trial, before a trial is spent on it."""
    if not callable(objective):
        raise InvalidType(f"optimize: objective={objective!r} is not a function")
    _check_returns(objective)
    try:
        takes = signature(objective, follow_wrapped=False)
    except (TypeError, ValueError):  # some that are written in C do not tell
        return
    try:
        takes.bind(None)
    except TypeError:
        name = getattr(objective, "__name__", "f")
        call = "f" if name == "<lambda>" else name
        instead = f"lambda trial: {_call_of(call, takes, space)}" if takes.parameters else f"def {call}(trial)"
        raise InvalidType(
            f"optimize: the objective {name}{takes} is called with one argument, the trial, a mapping of its "
            f"parameters; write {instead}"
        ) from None


def _check_returns(objective: Any) -> None:
    """Refuse a function that returns something to be awaited, or gone through, in place of a value."""
    name, kinds = getattr(objective, "__name__", "f"), (objective, objective.__call__)
    if any(iscoroutinefunction(kind) or isasyncgenfunction(kind) for kind in kinds):
        raise InvalidType(
            f"optimize: the objective {name} is an async function, and nothing here awaits it; write "
            f"lambda trial: asyncio.run({name}(trial))"
        )
    if any(map(isgeneratorfunction, kinds)):
        raise InvalidType(
            f"optimize: the objective {name} has a 'yield' in it, so it returns no value; write return, and "
            "trial.report(value, step) for what comes before"
        )


def _call_of(name: str, takes: Signature, space: Space | None) -> str:
    """Return how to call what takes parameters of the space by name, or else a trial and something beside it."""
    first, *others = takes.parameters.values()
    names = () if space is None else tuple(map(public, space))
    if first.kind in (first.VAR_KEYWORD, first.KEYWORD_ONLY) or first.name in names:
        return f"{name}(**trial)"
    wanted = [p for p in others if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    rest = [f"{p.name}={p.name}" if p.kind is p.KEYWORD_ONLY else p.name for p in wanted]
    return f"{name}({', '.join(['trial', *rest])})"


def check_count(what: str, value: Any) -> int | None:
    """Return a number of trials, where there is one."""
    return None if value is None else whole(what, value)


def check_seed(seed: Any) -> int:
    """Return a seed: as given, or drawn."""
    if seed is None:
        return secrets.randbits(32)
    return whole("Study: seed", seed, lowest=0)


def check_lease(lease: Any, of: str = "Study") -> float:
    """Return the length of a lease in seconds."""
    return float(real(f"{of}: lease", lease, above=0, unit=" of seconds"))


def check_same(row: StudyRow, directions: Mapping[str, str], seed: int | None) -> None:
    """Refuse to open a study under other directions or another seed than it has."""
    if list(row.directions.items()) != list(directions.items()):  # in this order objectives return their values
        raise InvalidValue(
            f"study {row.name!r} exists with direction={dict(row.directions)!r}, not {dict(directions)!r}; "
            "use the same in the same order, or another name="
        )
    if seed is not None and row.seed != seed:
        raise InvalidValue(
            f"study {row.name!r} exists with seed={row.seed}, not {seed}; leave seed out, or use another name="
        )


def check_wishes(noisy: Any, per: Any) -> dict[str, Any]:
    """Return what is stored of ``noisy=`` and ``optimize_per=``."""
    if noisy is not None and not isinstance(noisy, bool):
        raise InvalidType(f"Study: noisy={noisy!r} is not True or False")
    if per is not None and (not isinstance(per, str) or not per):
        raise InvalidType(f"Study: optimize_per={per!r} is neither 'second' nor the name of a metric")
    wishes: dict[str, Any] = {"noisy": True} if noisy else {}
    return wishes if per is None else {**wishes, "per": _cost(per)}


def check_scheduler(given: Any) -> tuple[Scheduler | None, dict[str, Any]]:
    """Return a scheduler, and what is stored of it: nothing where none was given, so that a study keeps its own."""
    if given is None:
        return None, {}
    scheduler = make_scheduler(given)
    return scheduler, {SCHEDULER: describe_scheduler(scheduler), **({PAUSES: True} if pauses(scheduler) else {})}


def scheduler_of(row: StudyRow, given: Scheduler | None, kept: Mapping[str, Any]) -> Scheduler | None:
    """Return what judges reports from now on: what was given, of which this is ``kept``, or else what the study has.

    A class of the user's own cannot be made from what is stored; there is nothing then.
    """
    stored = row.attributes.get(SCHEDULER)
    if not kept:
        return make_scheduler(stored) if stored is not None and stored["name"] in SCHEDULERS else None
    if stored not in (None, kept[SCHEDULER]):
        log.info("study %r: the scheduler changed; it is %s from now on", row.name, given or NONE)
    return given


def warn_of_lacking(row: StudyRow, scheduler: Scheduler | None) -> None:
    """Say that nothing judges reports, where the user's own scheduler did when the study was opened before."""
    name = row.attributes.get(SCHEDULER, {"name": NONE})["name"]
    if scheduler is None and name not in (NONE, *SCHEDULERS):
        log.warning(
            "study %r: no report is judged; its scheduler was %s, a class of your own: give it again, or 'none'",
            row.name,
            name,
        )


def _cost(per: str) -> str:
    return "seconds" if per == "second" else per


def check_same_wishes(row: StudyRow, noisy: bool | None, per: str | None) -> None:
    """Refuse to open a study with other wishes than it was made with."""
    for name, given, stored in (
        ("noisy", noisy, bool(row.attributes.get("noisy"))),
        ("optimize_per", None if per is None else _cost(per), row.attributes.get("per")),
    ):
        if given is not None and given != stored:
            raise InvalidValue(
                f"study {row.name!r} exists with {name}={stored!r}, not {given!r}; leave it out, or use another name="
            )


def warn_of_unused(study: str, searcher: Sampler, wishes: Wishes, space: Space | None) -> None:
    """Say what a search is asked for and makes nothing of."""
    if not isinstance(searcher, (Auto, Bayes)):
        for option, given in (("prior", wishes.earlier), ("optimize_per", wishes.per)):
            if given:
                name = type(searcher).__name__
                log.warning("study %r: sampler %s does not use %s=; 'bayes' and 'auto' do", study, name, option)
    for names in ([*map(public, earlier.space)] for earlier in wishes.earlier):
        if space is not None and not set(names) & {*map(public, space)}:
            log.warning("study %r: prior= has the parameters %r, none of which is in the space", study, names)


def warn_of_new(study: str, storage: Storage) -> None:
    """Say that a study opened without its space is none of those that are there, which a slip of the keys may mean."""
    with contextlib.suppress(StorageError):  # another study may be damaged
        if others := [row.name for row in storage.studies() if row.name != study and row.spaces]:
            log.warning("study %r has no space yet; the storage has %s", study, ", ".join(map(repr, others)))


def warn_of_misfits(study: str, history: History) -> None:
    """Say how many results do not count in a space that is new."""
    done = [t for t in history.trials if t.state is State.COMPLETE]
    if (lost := len(done) - int(history.complete.sum())) > 0:
        log.warning(
            "study %r: %d of %d results are not in the new space and do not count; where they lack a parameter, a "
            "default= says what it was then",
            study,
            lost,
            len(done),
        )


def check_prior(prior: Any) -> tuple[History, ...]:
    """Return the histories of earlier studies."""
    several = () if prior is None else prior if isinstance(prior, (list, tuple)) else (prior,)
    found = []
    for study in several:
        history = study if isinstance(study, History) else getattr(study, "history", None)
        if not isinstance(history, History):
            raise InvalidType(f"Study: prior={study!r} is neither a study nor a history; rows go to study.add")
        if len(history.directions) > 1:
            raise InvalidValue(f"Study: prior={study!r} has the objectives {list(history.directions)!r}; it takes one")
        found.append(history)
    return tuple(found)


def check_related(space: Space, stored: Space, name: str) -> None:
    """Refuse a space that has no parameter in common with the one a study has: that is another experiment."""
    if not {public(n) for n in space} & {public(n) for n in stored}:
        raise InvalidValue(
            f"study {name!r} exists with the parameters {[public(n) for n in stored]!r}, none of which is in "
            f"{[public(n) for n in space]!r}; give this experiment another name="
        )


def check_state(state: Any, error: Any) -> State:
    """Return the state in which a trial ends, with an error or without."""
    try:
        found = State(state)
    except ValueError:
        raise InvalidValue(f"tell: state={state!r} is unknown; write 'complete', 'pruned' or 'failed'") from None
    if not found.finished:
        raise InvalidValue(f"tell: state={state!r} is no end of a trial; write 'complete', 'pruned' or 'failed'")
    if error is not None and found is State.COMPLETE:
        raise InvalidValue(f"tell: error={error!r} with state='complete'; write state='failed', or leave it out")
    return found


def check_asked(task: Task, identity: tuple[str, float]) -> None:
    """Refuse the trial of another study, or of none, which may have a number of this one."""
    if task.study is None:
        raise InvalidValue(f"tell: trial {task.number} belongs to no study; other results go to study.add")
    if task.study != identity:
        (other, _), (name, _) = task.study, identity
        which = f"study {other!r}, not of {name!r}" if other != name else f"another study {other!r}"
        raise InvalidValue(f"tell: trial {task.number} was asked of {which}")


def check_catch(catch: Any) -> tuple[type[BaseException], ...]:
    """Return classes of exceptions as a tuple."""
    kinds = tuple(catch) if isinstance(catch, (tuple, list)) else (catch,)
    for kind in kinds:
        if not isinstance(kind, type) or not issubclass(kind, BaseException):
            raise InvalidType(f"optimize: catch={catch!r} is not a class of exceptions, nor a tuple of them")
    return kinds


def check_checkpoints(given: Any) -> Path | None:
    """Return the folder for checkpoints, where one was given."""
    if given is not None and not isinstance(given, (str, os.PathLike)):
        raise InvalidType(f"Study: checkpoints={given!r} is not the path of a folder")
    return None if given is None else Path(given)


def check_timeout(timeout: Any) -> float | None:
    """Return a time limit in seconds, where there is one."""
    return None if timeout is None else real("optimize: timeout", timeout, above=0, finite=False, unit=" of seconds")


def check_callbacks(callbacks: Any) -> tuple[Callable[..., object], ...]:
    """Return functions of (study, trial) as a tuple."""
    if not isinstance(callbacks, (list, tuple)) or not all(callable(c) for c in callbacks):
        raise InvalidType(f"optimize: callbacks={callbacks!r} is not a list of functions of (study, trial)")
    return tuple(callbacks)


def check_progress(progress: Any) -> bool | None:
    """Return whether to show the live line."""
    if progress is not None and not isinstance(progress, bool):
        raise InvalidType(f"optimize: progress={progress!r} is not True, False or None")
    return progress


def warn_of_positions(space: Space) -> None:
    """Say which choices a file can tell apart by their position only."""
    for name, parameter in space.items():
        if isinstance(parameter, (Categorical, Ordinal)) and ambiguous(parameter.choices, parameter.labels):
            log.warning(
                "parameter %r: some choices have the same name (%s) and are stored by position; do not change their "
                "order, or name them: Categorical({'name': value, …})",
                public(name),
                parameter.labels,
            )


def check_retries(retries: Any) -> dict[Reason, int]:
    """Return how often a trial is tried again, by the reason for which it failed; a lost one twice unless given.

    Raises
    ------
    InvalidValue, InvalidType
        For unknown reasons and numbers below 0.
    """
    given = retries or {}
    if not isinstance(given, Mapping):
        raise InvalidType(f"retries={retries!r} is not a dict such as {{'lost': 3, 'error': 1}}")
    found = {Reason.LOST: MAX_ATTEMPTS - 1}
    for reason, count in given.items():
        try:
            key = Reason(reason)
        except ValueError:
            raise InvalidValue(
                f"retries={retries!r}: {reason!r} is no reason to fail; known are {[r.value for r in Reason]!r}"
            ) from None
        found[key] = whole(f"retries: {key.value}", count, lowest=0)
    return found


def check_batch(batch: Any, workers: int) -> int | None:
    """Return how many trials a call of the objective takes; None where it takes one by itself.

    Raises
    ------
    InvalidValue, InvalidType
        For what is no number of trials, or contradicts ``workers``.
    """
    if batch is False or batch is None:
        return None
    if batch is True:
        return workers if workers > 1 else BATCH
    if not isinstance(batch, (int, np.integer)):
        raise InvalidType(f"batch={batch!r} is neither True nor a number of trials")
    if batch < 1:
        raise InvalidValue(f"batch={batch!r} must be at least 1")
    if workers not in (1, batch):
        raise InvalidValue(f"batch={batch!r} with workers={workers}; one call takes a batch, leave workers out")
    return int(batch)


def check_deterministic(deterministic: Any, per: str | None, pauses: bool) -> bool:
    """Return whether timing may decide nothing.

    Raises
    ------
    InvalidValue, InvalidType
        For what is neither True nor False, or where the time of trials is part of what is looked for.
    """
    if not isinstance(deterministic, (bool, np.bool_)):
        raise InvalidType(f"deterministic={deterministic!r} is neither True nor False")
    if deterministic and per == "seconds":
        raise InvalidValue("deterministic=True: with optimize_per='second' the clock decides what is proposed")
    if deterministic and pauses:
        raise InvalidValue(
            "deterministic=True: with a scheduler that pauses trials, who is there first decides which one goes on; "
            "use scheduler='halving', or one worker without deterministic="
        )
    return bool(deterministic)


def check_ends(sampler: Sampler, space: Space | None, noisy: bool) -> None:
    """Refuse a run without a limit that no end of the space would end: a noisy one goes round it again and again."""
    if not isinstance(sampler, Grid) and (space is None or noisy or size(space) is None):
        raise InvalidValue("optimize: nothing would end the search; give n_trials=, timeout= or stop=")
