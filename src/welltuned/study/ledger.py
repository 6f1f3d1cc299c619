"""A study as a storage keeps it: the history, kept up to date, and the claims that this process holds."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Concatenate, ParamSpec, TypeVar

from welltuned.errors import StorageError, UnknownStudy
from welltuned.history import History, Table, Wishes
from welltuned.space import Parameter, Params, Space
from welltuned.space.widen import clashes, widened
from welltuned.storage import Storage, StudyRow
from welltuned.study import owner
from welltuned.study.notes import notes_of
from welltuned.trial import Outcome, Report, State, Trial

LEASE = 60.0
BUDGET = "n_trials"  # the attribute of a study that holds its budget
RECOVER = 1.0  # seconds between looks for the trials of dead processes
log = logging.getLogger("welltuned")
CLASH = (
    "parameter %r is declared as %r, and was as %r before: the search knows the later one alone, and learns nothing "
    "from trials that had the other; give them names of their own"
)
P = ParamSpec("P")
T = TypeVar("T")


def _by_name(method: Callable[Concatenate[Ledger, P], T]) -> Callable[Concatenate[Ledger, P], T]:
    """Let what a storage says of a study that is gone, by its number, be said by its name."""

    @functools.wraps(method)
    def act(ledger: Ledger, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(ledger, *args, **kwargs)
        except UnknownStudy:
            raise ledger.gone() from None

    return act


class Ledger:
    """Claims, results and the history of one study. Trials go in and out with choices; storages see labels."""

    def __init__(
        self,
        storage: Storage,
        row: StudyRow,
        space: Space | None,
        lease: float = LEASE,
        earlier: tuple[History, ...] = (),
    ) -> None:
        self.storage = storage
        self.row = row
        self.space = space
        self.lease = lease
        self.owner = self._own_name = owner.current()
        self._process = os.getpid()
        self.stop_reason = row.stop_reason
        self.claims: dict[int, int] = {}
        self.budget: int | None = None
        self.workers = 1
        self.wishes = _wishes(row, earlier)
        self._stored: dict[int, Trial] = {}
        self._trials: dict[int, Trial] = {}
        self._ordered = True
        self._table: Table | None = None
        self._revision = 0
        self._recovered = -RECOVER
        self._history: History | None = None
        self._blank: History | None = None
        self._clashed: set[str] = set()
        self._lock = threading.RLock()
        self._renewing = threading.Lock()
        self._asking = threading.local()
        self._heart: threading.Thread | None = None
        self._rest = threading.Event()

    # reading

    def sync(self) -> History:
        """Read what changed and return the history now."""
        with self._lock:
            self.refresh()
            return self._build()

    @_by_name
    def refresh(self) -> None:
        """Read what changed."""
        with self._lock:
            changes = self.storage.read(self.row.id, self._revision)
            self.stop_reason = changes.stop_reason
            if changes.n_spaces > len(self.row.spaces) and (self.is_open or self.space is None):
                before, self.row = self.row, self.storage.row(self.row.id)
                try:
                    self.wishes = _wishes(self.row, self.wishes.earlier)
                    self.use_stored_space()
                except BaseException:
                    self.row = before  # or the space would count as known from now on
                    raise
            table, self._table = self._table, None  # one that is left half changed is of no use
            if changes.trials or changes.dropped:
                self._history = None
            for number in changes.dropped:
                self._stored.pop(number, None)
                if self._trials.pop(number, None) is not None and table is not None:
                    table.drop(number)
            for trial in changes.trials:
                self._stored[trial.number] = trial
                self._ordered &= trial.number in self._trials or trial.number > next(reversed(self._trials), -1)
                self._trials[trial.number] = view = self._view(trial)
                if table is not None:
                    table.put(view)
            self._table = table
            self._revision = changes.revision  # last: whoever is interrupted before reads it all again

    def forget(self) -> None:
        """Know nothing of any trial: the next look reads all of them."""
        with self._lock:
            self._stored, self._trials, self._ordered = {}, {}, True
            self._table = self._history = None
            self._revision = 0

    def gone(self) -> UnknownStudy:
        """Build the error that says by its name that the study is not there any more."""
        return UnknownStudy(
            f"study {self.row.name!r} is gone: somebody has deleted it with its trials; nothing more of it is stored"
        )

    @property
    def identity(self) -> tuple[str, float]:
        """What tells the study from all others, of other storages too: its name, and when it was made."""
        return self.row.name, self.row.created

    @property
    def is_open(self) -> bool:
        """Whether the objective suggests its parameters itself, so that the space grows with what it asks for."""
        return bool(self.row.attributes.get("open"))

    @property
    def revision(self) -> int:
        """How far the history has been read."""
        return self._revision

    @_by_name
    def wait(self, seconds: float) -> None:
        """Wait until somebody has stored something, ``seconds`` at most."""
        self.storage.read(self.row.id, self._revision, wait=seconds)

    @_by_name
    def is_running(self, *, elsewhere: bool = False) -> bool:
        """Tell whether anybody evaluates a trial of the study now; ``elsewhere`` leaves out who holds this ledger."""
        running = self.storage.running(self.row.id)
        return any(self.claims.get(number) != token for number, token, _ in running) if elsewhere else bool(running)

    @_by_name
    def glance(self) -> None:
        """Read whether the study was stopped, and nothing else."""
        self.stop_reason = self.storage.read(self.row.id, None).stop_reason

    def blank(self) -> History:
        """Return a history without trials, for a search that need not see any."""
        assert self.space is not None
        if self._blank is None or self._blank.space is not self.space or self._blank.budget != self.budget:
            self._blank = History(self.space, (), self.row.directions, self.budget, self.workers, wishes=self.wishes)
        return self._blank

    def trial(self, number: int) -> Trial | None:
        """Return one trial as it is now."""
        self.refresh()
        return self._trials.get(number)

    def _build(self) -> History:
        table = self._table or self._tabulate()
        history = self._history
        if history is None or history.budget != self.budget or history.workers != self.workers:
            if not self._ordered:
                self._trials, self._ordered = dict(sorted(self._trials.items())), True
            history = self._history = History(
                table.space,
                self._trials.values(),
                self.row.directions,
                self.budget,
                self.workers,
                table,
                self.wishes,
            )
        return history

    def _tabulate(self) -> Table:
        """Build the arrays of the history anew, for a space that is new."""
        space = self.space
        if space is None:
            space = Space({"nothing": [None]})
            space.partial = True  # there will be others: the objective declares them
        self._history, table = None, Table(space, self.row.directions)
        for trial in self._trials.values():
            table.put(trial)
        self._table = table
        return table

    def _view(self, trial: Trial) -> Trial:
        return _viewed(trial, self.space)

    @_by_name
    def set_space(self, space: Space) -> None:
        """Make ``space`` the newest version, unless it is already."""
        body = space.to_json()
        with self._lock:
            if not self.row.spaces or self.row.spaces[-1] != body:
                self.row = self.storage.update(self.row.id, space=body)
            self.use_space(space)

    def use_space(self, space: Space) -> None:
        """Read trials by ``space``, and store nothing: what was read from a storage may lack its constraints."""
        with self._lock:
            trials = {n: _viewed(t, space) for n, t in self._stored.items()}
            self.space, self._trials = space, trials  # with no call amid them, where Ctrl-C might come
            self._history = self._table = None

    @_by_name
    def widen(self, domains: Mapping[str, Parameter]) -> None:
        """Store the union of an open space, what others have made of it meanwhile, and ``domains``, if these are new.

        As one change, where the storage can; the history is not read within it, as it might be undone.
        """
        with self._lock:
            self.refresh()
            known = self._declared
            if widened(known, domains) == known:
                return
            for name in clashes(known, domains):
                if name not in self._clashed:
                    self._clashed.add(name)
                    log.warning(CLASH, name, domains[name], known[name])
            before, block = (self.row, self.space), self.storage.together(self.row.id)
            try:
                with block:
                    self.row = self.storage.row(self.row.id)
                    if self.row.spaces:
                        self.use_stored_space()
                    space = Space(widened(self._declared, domains))
                    space.partial = True
                    self.set_space(space)
            except BaseException as error:
                leave(block, error)
                self.row = before[0]
                if before[1] is None:
                    self.space = None
                else:
                    self.use_space(before[1])
                raise

    @property
    def _declared(self) -> dict[str, Parameter]:
        return {} if self.space is None else dict(self.space.items())

    def use_stored_space(self) -> None:
        """Read trials by the newest version of the space; of an open one, by what is known here besides."""
        stored = Space.from_json(self.row.spaces[-1])
        if self.is_open and self.space is not None:
            # a file keeps labels alone, and here are the choices themselves
            stored = Space(widened(dict(stored.items()), self._declared))
        stored.partial = self.is_open
        self.use_space(stored)

    # claims

    @_by_name
    def claim(self, n: int, most: int | None = None) -> list[Trial]:
        """Claim up to ``n`` trials, waiting ones first, then new slots within the budget, and up to ``most`` in all."""
        budget = min((limit for limit in (self.budget, most) if limit is not None), default=None)
        with self._lock:
            self._leave_to_parent()
            name = f"asked by {self._own_name}" if getattr(self._asking, "nobody", False) else self.owner
            claimed = self.storage.claim(self.row.id, name, self.lease, n, budget)
            tokens = {t.number: t.token for t in claimed}
            self._asking.fresh = {**getattr(self._asking, "fresh", {}), **tokens}
            self.claims.update(tokens)
            self._beat()
            return [self._view(t) for t in claimed]

    def claiming(self, action: Callable[[], T], *, nobody: bool = False) -> T:
        """Return what ``action`` does; where it fails, give back what this thread has claimed in it.

        Nobody will evaluate that, and a claim that is kept blocks its trial for as long as this process lives. It is a
        function, as an interrupt may come between a block of ours and its end. With ``nobody``, claims have a name that
        is no process's, whose end nobody can see.
        """
        self._asking.fresh, self._asking.nobody = {}, nobody
        try:
            return action()
        except BaseException:
            fresh = self._asking.fresh
            self.let_go((n for n, token in fresh.items() if self.claims.get(n) == token), begun=False)
            raise
        finally:
            self._asking.nobody = False

    @_by_name
    def entrust(self, numbers: Iterable[int], lease: float) -> None:
        """Leave claims to whoever tells their results; they run out in ``lease`` seconds, and nobody renews them."""
        claims: dict[int, int] = {}
        try:
            # or the thread that renews, by what it has read before, would shorten them
            with self._renewing, self._lock:
                claims = {number: self.claims[number] for number in numbers if number in self.claims}
                self.storage.renew(self.row.id, [*claims.items()], lease)
                for number in claims:
                    del self.claims[number]
        except BaseException:
            self.regain(claims)
            raise

    def _leave_to_parent(self) -> None:
        """After a fork, forget the claims: they are still those of the process that was forked."""
        if self._process != os.getpid():
            self.owner = self._own_name = owner.current()
            self._process, self.claims, self._heart = os.getpid(), {}, None
            self._renewing = threading.Lock()  # nobody is left here who would let go of the other one

    @_by_name
    def recover(self) -> bool:
        """Give back the claims of processes on this machine that are gone, and those that were lost track of here, by
        an interrupt at the wrong moment, before anything was evaluated; tell whether there were any.
        """
        self._recovered, found = time.monotonic(), False
        with self._lock:
            self._leave_to_parent()
            others = [claim for claim in self.storage.running(self.row.id) if self.claims.get(claim[0]) != claim[1]]
            dead = {name for name in {name for *_, name in others} if name == self._own_name or owner.is_dead(name)}
            for number, token, name in others:
                if name in dead:
                    begun = name != self._own_name
                    found |= self.storage.release(self.row.id, number, token, drop=False, begun=begun)
        return found

    @property
    def may_recover(self) -> bool:
        """Whether it is time again to look for the claims of processes that are gone."""
        return time.monotonic() - self._recovered >= RECOVER

    @_by_name
    def assign(
        self, number: int, params: Params, *, unique: bool = True, provenance: Mapping[str, Any] | None = None
    ) -> bool:
        """Store the configuration of a claimed slot; False when another trial has it, or the claim is lost."""
        assert self.space is not None
        token, labels = self.claims.get(number), self.space.to_labels(params)
        return token is not None and self.storage.assign(
            self.row.id,
            number,
            token,
            labels,
            self.space.key_of(labels),
            max(len(self.row.spaces), 1),
            unique=unique,
            provenance=provenance,
        )

    def holds(self, number: int) -> bool:
        """Tell whether this process still has its claim on a trial."""
        trial = self.trial(number)
        return trial is not None and trial.state is State.RUNNING and trial.token == self.claims.get(number)

    def is_last(self, number: int) -> bool:
        """Tell whether no trial has a higher number."""
        self.refresh()
        return max(self._trials, default=-1) <= number

    @_by_name
    def report(self, number: int, token: int, report: Report) -> bool:
        """Store a report; False when the claim is lost."""
        return self.storage.report(self.row.id, number, token, report)

    @_by_name
    def finish(self, number: int, token: int, outcome: Outcome) -> bool:
        """Store how a trial ended; False when the claim is lost."""
        with self._lock:
            if outcome.params is not None or outcome.domains or outcome.exception is not None:
                outcome = replace(outcome, params=None, domains=None, exception=None)  # nothing that is stored
            done = self.storage.finish(self.row.id, number, token, outcome)
            # only now: a claim whose result could not be stored is still to be given back
            if self.claims.get(number) == token:
                del self.claims[number]
            return done

    @_by_name
    def release(self, number: int, *, drop: bool = False, begun: bool = True) -> None:
        """Give a claim of this process back."""
        with self._lock:
            token = self.claims.get(number)
            if token is not None:
                self.storage.release(self.row.id, number, token, drop=drop, begun=begun)
                del self.claims[number]

    @_by_name
    def resume(self, number: int) -> bool:
        """Let a paused trial wait to be claimed; False where it is not paused any more."""
        trial = self._trials[number]
        # by the token alone, a claim that another process has made since would be given back
        paused = trial.state is State.PAUSED
        return paused and self.storage.release(self.row.id, number, trial.token, begun=False)

    def let_go(self, numbers: Iterable[int], *, begun: bool = True) -> None:
        """Give claims back where that is possible; where it is not, their leases are left to run out."""
        for number in numbers:
            with contextlib.suppress(StorageError):
                self.release(number, begun=begun)
            self.claims.pop(number, None)

    def held(self) -> dict[int, int]:
        """Return the claims of this process: number to token."""
        with self._lock:
            self._leave_to_parent()
            return dict(self.claims)

    def release_all(self, but: Mapping[int, int], *, begun: bool = True) -> None:
        """Give all claims of this process back, ``but`` those that it held before."""
        self.let_go((number for number, token in self.held().items() if but.get(number) != token), begun=begun)

    def regain(self, claims: Mapping[int, int]) -> None:
        """Hold these claims again beside those held now: how they ended has not been stored after all."""
        with self._lock:
            self.claims = {**claims, **self.claims}

    def _beat(self) -> None:
        """Keep the leases alive from a thread of its own, for as long as there are claims."""
        if self._heart is None or not self._heart.is_alive():
            self._rest.clear()
            # the thread must not keep alive a study that nobody holds any more
            args = (weakref.ref(self), self._rest, self.lease / 3)
            self._heart = threading.Thread(target=_beat, args=args, name="welltuned-lease", daemon=True)
            self._heart.start()

    def renew(self) -> bool:
        """Extend the leases of this process's claims; False when there are none."""
        with self._renewing:
            return self._renew()

    def _renew(self) -> bool:
        with self._lock:
            claims = list(self.claims.items())
        if not claims:
            return False
        try:
            lost = self.storage.renew(self.row.id, claims, self.lease)
            # not those that were finished or given back meanwhile
            if lost := [n for n, token in claims if n in lost and self.claims.get(n) == token]:
                log.warning("trials %s were taken over by another process", lost)
        except UnknownStudy:
            log.warning("trials %s find nothing that is kept: %s", [number for number, _ in claims], self.gone())
            return False
        except StorageError as error:
            log.warning("cannot renew the leases of trials %s: %s", [n for n, _ in claims], error)
        return True

    # the rest

    @_by_name
    def append(self, trials: Iterable[Trial]) -> list[int]:
        """Append trials that were not claimed: enqueued, or evaluated elsewhere."""
        version = max(len(self.row.spaces), 1)
        rows: Sequence[Trial] = [replace(t, params=self._labels(t.params or {}), space_version=version) for t in trials]
        return self.storage.add(self.row.id, rows)

    def _labels(self, params: Mapping[str, Any]) -> Params:
        return self.space.to_labels(params) if self.space else dict(params)

    @_by_name
    def set_stop(self, reason: str | None) -> None:
        """Store why the study stopped, or that it goes on."""
        if reason != self.stop_reason:
            self.storage.update(self.row.id, stop_reason=reason, clear_stop=reason is None)
            self.stop_reason = reason

    @_by_name
    def keep(self, attributes: Mapping[str, Any]) -> None:
        """Store attributes of the study, those that are new or have changed."""
        known = self.row.attributes
        if new := {name: value for name, value in attributes.items() if name not in known or known[name] != value}:
            stored = self.storage.update(self.row.id, attributes=new)
            self.row = replace(self.row, attributes=stored.attributes)  # of the space, refresh is to take notice

    def keep_budget(self) -> None:
        """Store how many trials there are to be, for workers that join without being told."""
        if self.budget is not None:
            self.keep({BUDGET: self.budget})

    @_by_name
    def kept(self, name: str) -> Any:
        """Return an attribute of the study as it is stored now, whoever stored it; None without it."""
        return self.storage.row(self.row.id).attributes.get(name)

    @_by_name
    def notes(self) -> dict[str, Any]:
        """Return what was noted of the study, whoever noted it."""
        return notes_of(self.storage.row(self.row.id))

    def close(self) -> None:
        """Stop renewing and let go of the storage."""
        self._rest.set()
        self.storage.close()


def leave(block: contextlib.AbstractContextManager[None], error: BaseException) -> None:
    """Leave a block of a storage that has failed: an interrupt may have come before what is in it, or before its end.

    Most have been left by then; what leaving it twice does to one of a user's own storage is not to hide the error.
    """
    with contextlib.suppress(Exception):
        block.__exit__(type(error), error, error.__traceback__)


def _viewed(trial: Trial, space: Space | None) -> Trial:
    if trial.params is None or space is None:
        return trial
    return trial.but(params=space.from_labels(trial.params))


def _wishes(row: StudyRow, earlier: tuple[History, ...]) -> Wishes:
    return Wishes(bool(row.attributes.get("noisy")), row.attributes.get("per"), earlier)


def _beat(reference: weakref.ref[Ledger], rest: threading.Event, seconds: float) -> None:
    """Renew leases until there are none, or the ledger is gone."""
    while not rest.wait(seconds):
        ledger = reference()
        if ledger is None or not ledger.renew():
            return
        del ledger
