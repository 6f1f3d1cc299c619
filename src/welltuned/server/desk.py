"""Studies as workers in other languages see them: the server searches and judges, the worker evaluates.

A claim belongs to the worker. The server renews it only while it looks for a configuration.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from welltuned.errors import InvalidValue, LeaseLost, StorageError, StudyStopped, UnknownStudy, WelltunedError
from welltuned.evaluation import Result, interpret, jsonable, shortened
from welltuned.live import Task
from welltuned.schedulers import Breeder, Scheduler, describe_scheduler
from welltuned.server.refusals import NotFound
from welltuned.storage import Storage, StudyRow
from welltuned.storage.wire import another_storage, report_to_json, to_json
from welltuned.study import Study, stored_study
from welltuned.study.checks import SCHEDULER, check_scheduler
from welltuned.study.ledger import BUDGET as STORED_BUDGET
from welltuned.study.ledger import LEASE
from welltuned.study.reasons import BUDGET, EXHAUSTED, concerns_all
from welltuned.trial import Origin, Outcome, Reason, Report, State, Trial

log = logging.getLogger("welltuned")


class Desk:
    """Open each study once, and do what a worker asks for. One request at a time may use a study."""

    def __init__(self, storage: Storage, scheduler: Scheduler | None) -> None:
        self._storage = storage
        self._scheduler = _servable(scheduler)
        self._ids: dict[str, int] = {}
        self._known: dict[int, tuple[str, float]] = {}  # study -> name, created
        self._deleted: set[int] = set()
        self._leases: dict[tuple[str, int], tuple[int, float]] = {}  # study, number -> token, seconds asked for
        self._studies: dict[str, tuple[Study, int]] = {}

    def row(self, name: str) -> StudyRow:
        """Return what is stored of a study.

        Raises
        ------
        NotFound
            When there is no such study.
        """
        found = next((row for row in self._storage.studies() if row.name == name), None)
        if found is None:
            raise NotFound(f"there is no study {name!r}")
        self._ids = {**self._ids, name: found.id}
        return found

    def id(self, name: str) -> int:
        """Return the number under which the storage keeps a study.

        Raises
        ------
        NotFound
            When there is no such study.
        """
        return self._ids[name] if name in self._ids else self.row(name).id

    def check_id(self, study: int, name: str | None = None, created: float | None = None) -> None:
        """Refuse the number of a study that does not exist, or is not the one of this name that was created then.

        Numbers alone would lead a client into any other study, where the server was started with another storage.
        """
        if study in self._deleted:
            raise NotFound(f"there is no study {study if name is None else repr(name)}: it was deleted", UnknownStudy)
        if study not in self._known:
            self._known = {row.id: (row.name, row.created) for row in self._storage.studies()}
        found = self._known.get(study)
        if found is None and name is None:
            raise NotFound(f"the storage behind the server: there is no study {study}", UnknownStudy)
        wanted = name, created
        if found is None or any(w is not None and w != f for w, f in zip(wanted, found, strict=True)):
            raise NotFound(another_storage(study, name), StorageError)

    def forget(self, study: int, name: str) -> None:
        """Let go of all that is known of a study that was deleted: its name may be that of another one by now."""
        self._deleted.add(study)
        self._ids = {known: number for known, number in self._ids.items() if number != study}
        self._known = {number: what for number, what in self._known.items() if number != study}
        self._studies.pop(name, None)
        for claim in [*self._leases]:  # which those who renew theirs meanwhile add to
            if claim[0] == name:
                self._leases.pop(claim, None)

    def study(self, name: str, row: StudyRow | None = None) -> Study:
        """Return the study of this name, opened anew where its space has a new version, or it was made anew, or has
        another scheduler in the ``row`` that was just read.
        """
        known, versions = self._studies.get(name, (None, -1))
        if known is not None:
            now = known.coordinator.ledger.row
            try:
                same = row is None or row.attributes.get(SCHEDULER) == now.attributes.get(SCHEDULER)
                if self._storage.read(now.id, None).n_spaces == versions and same:
                    return known
            except UnknownStudy:  # deleted by somebody else than this server
                self.forget(now.id, name)
        row = self.row(name)
        ours = row.attributes.get(SCHEDULER) == describe_scheduler(self._scheduler)  # which may be a user's own
        try:
            study = stored_study(self._storage, row, scheduler=self._scheduler if ours else None)
        except WelltunedError:
            raise
        except Exception:
            log.exception("study %r cannot be opened", name)
            raise InvalidValue(f"study {name!r} cannot be read by this version of welltuned") from None
        self._studies[name] = study, len(row.spaces)
        return study

    # working

    def ask(self, name: str, worker: str, n: int, n_trials: int | None, lease: float) -> dict[str, Any]:
        """Claim trials for a worker and give them configurations.

        Raises
        ------
        StudyStopped
            When there is nothing left to evaluate, or the study was stopped.
        InvalidValue
            When only a Python program can know the configurations.
        """
        row = self._unbound(name, "ask")
        study = self.study(name, row)
        _servable(study.scheduler)
        if study.coordinator.open_space or not study.has_space:
            raise InvalidValue(f"study {name!r}: its objective suggests its own parameters, in Python; give it a space")
        why = study.stop_reason
        if concerns_all(why):
            raise StudyStopped(f"study {name!r} was stopped: {why}")
        if self._scheduler is not None and SCHEDULER not in row.attributes:
            study = self.study(name, self._storage.update(row.id, attributes=check_scheduler(self._scheduler)[1]))
        ledger = study.coordinator.ledger
        # by this name nobody takes the claim for one of the server's, which end with its process
        ledger.owner = f"worker {worker}"
        if n_trials is None:
            stored = row.attributes.get(STORED_BUDGET)
            study.n_trials = stored if isinstance(stored, int) and stored > 0 else None
        else:
            study.n_trials = n_trials
            ledger.keep_budget()
        try:
            tasks = self._claimed(study, n)
            ledger.entrust([task.number for task in tasks], lease)
        except BaseException:
            ledger.release_all({}, begun=False)
            raise
        for task in tasks:
            self._leases[name, task.number] = task.token, lease
        if why is not None:  # there is something to evaluate after all
            study.coordinator.record_stop(None)
        return {
            "trials": [
                {
                    "number": task.number,
                    "token": task.token,
                    "params": study.space.to_labels(task.params),
                    "reports": [report_to_json(report) for report in task.reports],
                    "lease": lease,
                }
                for task in tasks
            ]
        }

    def _claimed(self, study: Study, n: int) -> list[Task]:
        """Claim trials; where there are none left, and none under way, store that as the reason why the study stopped.

        Only who asks can see it: workers in other languages have no loop of ours that would.
        """
        try:
            return [trial.task for trial in study.ask(n)]
        except StudyStopped:
            trials = study.trials
            if all(trial.state.resting for trial in trials):
                used = sum(trial.origin is not Origin.ADDED for trial in trials)
                within = study.n_trials is None or used < study.n_trials
                study.coordinator.record_stop(EXHAUSTED if within else BUDGET)
            raise

    def report(
        self,
        name: str,
        number: int,
        token: int,
        step: int,
        value: float | None,
        metrics: Mapping[str, float],
        lease: float | None,
    ) -> dict[str, Any]:
        """Store a report, renew the claim, and tell whether the trial should stop."""
        study = self.study(name)
        trial = self._trial(study, number)
        given = _given(study, value, metrics)
        task = study.coordinator.task(trial.but(token=token))
        numbers = {metric: float(v) for metric, v in given.items()}
        stop = study.coordinator.receive_report(task, Report(step, numbers))
        self.renew(name, number, token, lease)
        return {"stop": stop}

    def tell(self, name: str, number: int, token: int, result: Mapping[str, Any]) -> dict[str, Any]:
        """Store how a trial ended; the same once more is fine.

        Raises
        ------
        LeaseLost
            When the trial is over already, or another worker has it.
        """
        study = self.study(name)
        trial = self._trial(study, number)
        outcome = _outcome(study, trial, result)
        task = study.coordinator.task(trial.but(token=token))
        if not _is_told(trial, token, outcome) and not study.coordinator.receive_outcome(task, outcome):
            raise _lost(number)
        self._leases.pop((name, number), None)
        return to_json(self._trial(study, number))

    def renew(self, name: str, number: int, token: int, lease: float | None) -> dict[str, Any]:
        """Extend a claim, by the seconds that were asked for last unless others are named."""
        lease = self._lease(name, number, token) if lease is None else lease
        if self._storage.renew(self.id(name), [(number, token)], lease):
            raise self._refusal(name, number)
        self._leases[name, number] = token, lease
        return {"lease": lease}

    def _lease(self, name: str, number: int, token: int) -> float:
        """Return how long a claim is to hold from now."""
        known, lease = self._leases.get((name, number), (None, LEASE))
        if known != token:  # asked of the server before it was started anew: whatever is left of the claim is kept
            trials = self._storage.read(self.id(name)).trials
            until = next((t.lease_until for t in trials if t.number == number), None)
            lease = max(LEASE, 0.0 if until is None else until - time.time())
        return lease

    def release(self, name: str, number: int, token: int) -> dict[str, Any]:
        """Give a claim back: another worker will evaluate the trial. It counts as if it had not been claimed."""
        if not self._storage.release(self.id(name), number, token, begun=False):
            raise self._refusal(name, number)
        self._leases.pop((name, number), None)
        return {}

    def enqueue(self, name: str, params: Any) -> dict[str, Any]:
        """Let configurations be evaluated next.

        Raises
        ------
        InvalidValue
            When one is not a configuration of the space, or only a Python program can tell.
        """
        self._unbound(name, "enqueue")
        return {"numbers": self.study(name).enqueue(params)}

    def stop(self, name: str, reason: str | None) -> dict[str, Any]:
        """End a study, or let it go on."""
        self._storage.update(self.row(name).id, stop_reason=reason, clear_stop=reason is None)
        return {"stop_reason": reason}

    def _unbound(self, name: str, act: str) -> StudyRow:
        """Return the row of a study without constraints that only a Python program can check."""
        row = self.row(name)
        if constraints := row.spaces and row.spaces[-1].get("constraints"):
            raise InvalidValue(
                f"study {name!r}: its space has constraints that are Python functions, {constraints!r}; {act} from "
                "Python, or write them as forbidden="
            )
        return row

    def _refusal(self, name: str, number: int) -> WelltunedError:
        """Say why a claim could be neither renewed nor released."""
        return _lost(number) if number in self.study(name).history.trials_by_number else _unknown(name, number)

    def _trial(self, study: Study, number: int) -> Trial:
        trial = study.history.trials_by_number.get(number)
        if trial is None:
            raise _unknown(study.name, number)
        return trial


def _servable(scheduler: Scheduler | None) -> Scheduler | None:
    """Return a scheduler, unless workers over HTTP cannot do what it wants: they do not share folders."""
    if isinstance(scheduler, Breeder):
        raise InvalidValue(
            f"serve: scheduler={scheduler!r} lets trials begin with the folders of others, which workers over HTTP do "
            "not have; use 'asha'"
        )
    return scheduler


def _unknown(name: str, number: int) -> NotFound:
    return NotFound(f"study {name!r} has no trial {number}")


def _lost(number: int) -> LeaseLost:
    return LeaseLost(f"trial {number} is over already, or was taken over by another worker; its record is unchanged")


def _given(study: Study, value: float | None, metrics: Mapping[str, float]) -> Mapping[str, float]:
    """Return the metrics of a report: the value of the only objective, or every objective by name, and others."""
    objectives = list(study.objectives)
    if (value is None) == (not metrics):
        raise InvalidValue("report: give either the value or metrics by name")
    if value is not None and len(objectives) > 1:
        raise InvalidValue(f"report: the study has the objectives {objectives!r}; give metrics by name")
    given = metrics if value is None else {objectives[0]: value}
    if len(objectives) == 1 and set(given) == {"value"}:
        return given
    if missing := [objective for objective in objectives if objective not in given]:
        raise InvalidValue(f"report: the metrics {list(given)!r} lack the objectives {missing!r}, by which one judges")
    return given


#: what belongs to trials that ended otherwise
CONTRADICTORY = {
    State.COMPLETE: ("reason", "error"),
    State.PRUNED: ("value", "metrics", "sem", "gradient", "reason"),
    State.FAILED: ("value", "metrics", "sem", "gradient"),
}


def _outcome(study: Study, trial: Trial, result: Mapping[str, Any]) -> Outcome:
    state = State(result.get("state", "complete"))
    if wrong := [name for name in CONTRADICTORY[state] if result.get(name) not in (None, {}, "")]:
        raise InvalidValue(f"tell: {wrong[0]!r} does not go with the state {state.value!r}; leave out one of them")
    attributes, error = jsonable(result.get("attributes", {})), result.get("error")
    error = error if error is None else shortened(error)
    seconds = result.get("seconds")
    if seconds is None and trial.started is not None:
        seconds = max(time.time() - trial.started, 0.0)
    if state is not State.COMPLETE:
        if state is State.FAILED:
            return Outcome(
                state, reason=Reason(result.get("reason", "error")), error=error, seconds=seconds, attributes=attributes
            )
        return Outcome(state, error=error, seconds=seconds, attributes=attributes)
    value, metrics = result.get("value"), result.get("metrics", {})
    if (value is None) == (not metrics):
        raise InvalidValue("tell: give the value, or metrics by name, or the state in which the trial ended otherwise")
    outcome = interpret(
        Result(metrics if value is None else value, result.get("sem"), result.get("gradient"), attributes),
        study.objectives,
        list(trial.params or {}),
    )
    return replace(outcome, seconds=seconds)


def _is_told(trial: Trial, token: int, outcome: Outcome) -> bool:
    """Tell whether this very result is stored already: its answer was lost, and the worker tells it again."""
    told = State.PRUNED if trial.state is State.PAUSED else trial.state
    return (trial.token, told, trial.metrics, trial.error) == (
        token,
        outcome.state,
        outcome.metrics,
        outcome.error,
    )


__all__ = ["LEASE", "Desk"]
