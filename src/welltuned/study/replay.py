"""Derive every suggestion of a study again, and compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from welltuned.errors import InvalidValue, WelltunedError
from welltuned.history import History
from welltuned.space import Params, Space
from welltuned.space.labels import own_labels
from welltuned.space.parameters import Choice
from welltuned.streams import trial_rng
from welltuned.study.checks import PAUSES
from welltuned.study.visible import at_revision, within_window
from welltuned.surrogate.threads import single_threaded
from welltuned.trial import Origin, State, Trial

if TYPE_CHECKING:
    from welltuned.study.coordinator import Coordinator


@dataclass(frozen=True)
class Replay:
    """What came of deriving the suggestions of a study again.

    Attributes
    ----------
    checked
        Numbers of the trials whose configurations came out again, to the last bit.
    skipped
        Numbers of the others with the reason: enqueued, added, or without a record of where they came from.
    differs
        The first trial whose configuration came out differently, or None. Those behind it were not looked at.
    expected, found
        Its configuration as derived now, and as stored.
    """

    checked: tuple[int, ...] = ()
    skipped: Mapping[int, str] | None = None
    differs: int | None = None
    expected: Params | None = None
    found: Params | None = None

    def __bool__(self) -> bool:
        return self.differs is None


def replay(coordinator: Coordinator) -> Replay:
    """See :meth:`welltuned.Study.replay`."""
    trials = coordinator.ledger.sync().trials
    # who stored the study before it kept whether it pauses trials has left those that rest
    if coordinator.ledger.kept(PAUSES) or any(t.state is State.PAUSED for t in trials):
        raise InvalidValue("replay: what paused trials had reported when others were proposed is not known afterwards")
    checked: list[int] = []
    skipped: dict[int, str] = {}
    known: dict[tuple[Any, ...], list[Params]] = {}
    lost = _versions_with_code(coordinator)
    for trial in trials:
        if why := _reason_to_skip(trial, coordinator.open_space, lost):
            skipped[trial.number] = why
            continue
        source = trial.provenance or {}
        group = (source["lead"], source.get("revision"), source.get("window"), source["n"], trial.space_version)
        if group not in known:
            known = {group: _propose(coordinator, trials, trial)}
        index = source["index"]
        expected = known[group][index] if index < len(known[group]) else None
        if expected is None or coordinator.space.key(expected) != trial.key:
            return Replay(tuple(checked), skipped, trial.number, expected, dict(trial.params or {}))
        checked.append(trial.number)
    return Replay(tuple(checked), skipped)


def _reason_to_skip(trial: Trial, open_space: bool, lost: set[int]) -> str | None:
    if trial.origin is not Origin.SAMPLER:
        return trial.origin.value
    if trial.parent is not None:
        return f"bred from trial {trial.parent} at step {trial.inherited}"
    if open_space:
        return "its objective suggested the parameters"
    if trial.params is None:
        return "it has no configuration yet"
    if trial.provenance is None:
        return "an earlier version stored it without where it came from"
    if trial.space_version in lost:
        return "its version of the space held code, which is not stored"
    return None


def _propose(coordinator: Coordinator, trials: tuple[Trial, ...], trial: Trial) -> list[Params]:
    """Propose again what was proposed for the group of a trial."""
    ledger, source = coordinator.ledger, trial.provenance or {}
    lead, revision, window = source["lead"], source.get("revision"), source.get("window")
    seen: list[Trial] = []
    if window is not None:
        seen = within_window(trials, lead, window)
    elif revision is not None:
        group = range(lead, lead + source["n"])
        seen = [t for t in at_revision(trials, revision) if t.number not in group or t.number < lead]
    space = _version(coordinator, trial.space_version)
    history = History(
        space, seen, ledger.row.directions, source["budget"], source["workers"], wishes=ledger.wishes
    )
    try:
        with single_threaded():
            return coordinator.sampler.suggest(space, history, source["n"], trial_rng(ledger.row.seed, lead))
    except WelltunedError as error:
        raise InvalidValue(f"replay: the search cannot propose trial {trial.number} again: {error}") from error


def _versions_with_code(coordinator: Coordinator) -> set[int]:
    """Return the earlier versions of the space with constraints, or all where only the program can make the choices."""
    earlier = coordinator.ledger.row.spaces[:-1]
    if not earlier:
        return set()
    choices = [p for p in coordinator.space.values() if isinstance(p, Choice)]
    plain = all(own_labels(p.choices, p.labels) for p in choices)
    return {version for version, body in enumerate(earlier, 1) if body.get("constraints") or not plain}


def _version(coordinator: Coordinator, version: int) -> Space:
    spaces = coordinator.ledger.row.spaces
    if version >= len(spaces):
        return coordinator.space
    return Space.from_json(spaces[version - 1])
