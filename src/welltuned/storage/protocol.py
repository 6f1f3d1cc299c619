"""The narrow waist between a study and where its trials are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from welltuned.trial import Outcome, Report, Trial

MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class StudyRow:
    """What is stored of a study besides its trials. ``spaces`` holds every version of its space, oldest first,
    as JSON.
    """

    id: int
    name: str
    directions: Mapping[str, str]
    seed: int
    sampler: Mapping[str, Any]
    spaces: tuple[Mapping[str, Any], ...] = ()
    stop_reason: str | None = None
    created: float = 0.0
    attributes: Mapping[str, Any] = field(default_factory=dict)


def defined(looked_for: StudyRow, row: StudyRow) -> StudyRow:
    """Return a study that was only looked for so far, without its space, as ``row`` with a space says that it is."""
    attributes = {**looked_for.attributes, **row.attributes}
    return replace(
        looked_for,
        directions=row.directions,
        seed=row.seed,
        sampler=row.sampler,
        spaces=row.spaces,
        attributes=attributes,
    )


@dataclass(frozen=True)
class Changes:
    """The trials that changed after some revision, and the study's revision now."""

    revision: int
    trials: tuple[Trial, ...]
    stop_reason: str | None
    n_spaces: int
    #: numbers of trials that were taken back since: a claim whose slot was given up
    dropped: tuple[int, ...] = ()


@runtime_checkable
class Storage(Protocol):
    """Keep studies and their trials. Every method is atomic, and safe to call from threads and, if shared, processes.

    Trials go in and come out as :class:`welltuned.Trial` records whose ``params`` hold labels instead of choices, so
    that they are plain JSON. A claim is a lease: it carries a token that grows with every attempt, and only the
    holder of the current token can report, assign or finish. A study that is not there is an
    :class:`welltuned.UnknownStudy`.
    """

    def open(self, row: StudyRow) -> StudyRow:
        """Return the study named ``row.name``; create it from ``row`` when there is none. ``row.id`` is ignored.

        One without space and trials was only looked for so far: a ``row`` with a space says what it is.
        """

    def studies(self) -> list[StudyRow]:
        """Return all studies, oldest first."""

    def row(self, study: int) -> StudyRow:
        """Return what is stored of one study now. It changes nothing, so nothing need be writable."""

    def update(
        self,
        study: int,
        *,
        space: Mapping[str, Any] | None = None,
        stop_reason: str | None = None,
        clear_stop: bool = False,
        attributes: Mapping[str, Any] | None = None,
    ) -> StudyRow:
        """Append a version of the space, set or clear the reason for which the study stopped, set some attributes;
        return what is stored then."""

    def delete(self, study: int) -> int:
        """Delete a study with its trials, their reports and the versions of its space; return how many trials it had.

        All of it at once: whoever holds a claim is told that there is no such study, as is whoever waits for news. No
        other study ever gets its number, which those who still work on it know it by.
        """

    def read(self, study: int, since: int | None = 0, *, wait: float = 0.0) -> Changes:
        """Return what changed after revision ``since``; with 0, everything; with None, no trials at all. Where nothing
        has changed, ``wait`` up to so many seconds until something does."""

    def running(self, study: int) -> list[tuple[int, int, str | None]]:
        """Return the claims that are held now: (number, token, owner), ordered by number."""

    def add(self, study: int, trials: Sequence[Trial], *, known: bool = True) -> list[int]:
        """Append trials, waiting or finished ones, under new numbers, which are returned. Unless ``known``, a trial
        whose key is stored already is passed over."""

    def claim(self, study: int, owner: str, lease: float, n: int = 1, budget: int | None = None) -> list[Trial]:
        """Claim up to ``n`` trials until ``lease`` seconds from now: first waiting ones (and those whose lease ran
        out), in the order of their numbers, then new slots, as long as fewer than ``budget`` trials that use budget
        exist. A claim from the future, made before a clock was set back, is held for one ``lease`` more."""

    def assign(
        self,
        study: int,
        number: int,
        token: int,
        params: Mapping[str, Any],
        key: str,
        space_version: int,
        *,
        unique: bool = True,
        provenance: Mapping[str, Any] | None = None,
    ) -> bool:
        """Store the configuration of a claimed slot, and what the search knew when it proposed it. False when the token
        is stale or, if ``unique``, when another trial already has this key."""

    def report(self, study: int, number: int, token: int, report: Report) -> bool:
        """Store intermediate metrics; a step that exists stays as it is. False when the token is stale."""

    def finish(self, study: int, number: int, token: int, outcome: Outcome) -> bool:
        """Store how a claimed trial ended. False, and no change, when the token is stale or the trial has ended."""

    def renew(self, study: int, claims: Sequence[tuple[int, int]], lease: float) -> list[int]:
        """Extend the leases of ``(number, token)`` claims; return the numbers of those that are no longer held."""

    def release(self, study: int, number: int, token: int, *, drop: bool = False, begun: bool = True) -> bool:
        """Give a claim back: the trial waits again, or with ``drop`` its unassigned slot disappears. False when stale.
        The last claim of a paused trial can be given back too, by whoever wants that it goes on.

        It counts as an attempt unless ``begun`` says that nothing was evaluated, or that whoever did is well.
        """

    def together(self, study: int) -> AbstractContextManager[None]:
        """Make what this thread does to one study inside the block one change: all of it is stored, or nothing.

        For speed. A storage that cannot do it stores each step by itself. A block that fails may be left twice.
        """

    def close(self) -> None:
        """Let go of files and connections. Calling it twice is fine."""
