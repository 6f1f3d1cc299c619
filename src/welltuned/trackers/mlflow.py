"""Trials as runs of MLflow: one run for the study, and one nested in it for each trial."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import posixpath
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from welltuned.errors import InvalidType, InvalidValue, TrackerError, require
from welltuned.storage.masking import masked
from welltuned.trackers.run import Run, Subject, as_text
from welltuned.trackers.tracker import Tracker
from welltuned.trial import State

PREFIX = "welltuned."  # before the names of all tags that are ours
STUDY, NUMBER, HELD = f"{PREFIX}key", f"{PREFIX}number", f"{PREFIX}held"
PARENT = "mlflow.parentRunId"
STATUS = {
    State.COMPLETE: "FINISHED",
    State.PRUNED: "KILLED",
    State.FAILED: "FAILED",
    State.PAUSED: "SCHEDULED",
}
QUIET = "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"
PAGE = 1000  # runs that MLflow returns at once
BATCH = {"metrics": 900, "params": 100, "tags": 100}  # what it takes at once
LONGEST = {"key": 250, "param": 6000, "tag": 5000}  # what it takes of a text


def to_mlflow(experiment: str | None = None, *, tracking_uri: str | None = None) -> Tracker:
    """Return a tracker that writes to MLflow: a run for each study, and one nested in it for each trial.

    Parameters
    ----------
    experiment
        The name of the experiment, which is made where there is none. Unless given, each study has one of its name.
    tracking_uri
        A server (``"http://host:5000"``), Databricks, or a database; unless given, what ``mlflow.set_tracking_uri`` or
        ``MLFLOW_TRACKING_URI`` says. For a database, such as ``"sqlite:///mlflow.db"``, install ``mlflow`` itself.

    Raises
    ------
    InvalidType
        When ``experiment`` or ``tracking_uri`` is no text.
    MissingDependency
        When MLflow is not installed (``mlflow-skinny`` is enough), or what it needs for a database.
    TrackerError
        When MLflow refuses the address.

    Examples
    --------
    ::

        study.optimize(objective, n_trials=50, callbacks=[to_mlflow(tracking_uri="http://localhost:5000")])
    """
    for name, text in (("experiment", experiment), ("tracking_uri", tracking_uri)):
        if text is not None and (not isinstance(text, str) or not text):
            raise InvalidType(f"to_mlflow: {name}={text!r} is not a text, or an empty one; leave it out")
    try:
        import mlflow
        from mlflow import MlflowClient
    except ImportError as error:
        raise require("mlflow", "mlflow", "to_mlflow()") from error
    where = str(tracking_uri or mlflow.get_tracking_uri())
    if where.startswith(("sqlite", "postgresql", "mysql", "mssql")) and importlib.util.find_spec("sqlalchemy") is None:
        raise require("sqlalchemy", "mlflow] mlflow[db", f"to_mlflow(tracking_uri={masked(where)!r})")
    try:
        client = MlflowClient(tracking_uri=tracking_uri)
    except Exception as error:
        raise TrackerError(f"to_mlflow: MLflow cannot use tracking_uri={masked(where)!r}: {error}") from error
    return Tracker(_Mlflow(client, f"MLflow at {masked(where)}", experiment))


@dataclass
class _Place:
    """Where the runs of a study are."""

    experiment: str
    parent: str
    best: tuple[int, float] | None = None  # what the study's run says is the best trial
    runs: dict[int, str] = field(default_factory=dict)


class _Mlflow:
    """Runs by tags: the study's key and the trial's number.

    MLflow gives each run an identifier of its own making, so two processes may make a run for the same trial. Whoever
    ends its one later sees both, and keeps the one whose identifier is lower.
    """

    def __init__(self, client: Any, where: str, experiment: str | None) -> None:
        self._client, self.where, self._experiment = client, where, experiment
        self._places: dict[str, _Place] = {}

    def held(self, subject: Subject) -> dict[int, str]:
        experiment = self._experiment_of(subject)
        found = list(self._search(experiment, subject))
        if all(NUMBER in run.data.tags for run in found):
            self._make_parent(experiment, subject)
            found = list(self._search(experiment, subject))  # another process may have made one, too
        parent, *others = sorted(run.info.run_id for run in found if NUMBER not in run.data.tags)
        place = self._places[subject.key] = _Place(experiment, parent)
        held = {}
        for number, runs in _by_number(found).items():
            kept = self._keep_one(runs)
            place.runs[number] = kept.info.run_id
            if kept.data.tags.get(PARENT) != parent:
                self._client.set_tag(kept.info.run_id, PARENT, parent)
            if _is_whole(kept):
                held[number] = kept.data.tags[HELD]
        for run_id in others:
            self._client.delete_run(run_id)
        return held

    def write(self, subject: Subject, run: Run) -> None:
        place = self._places[subject.key]
        if self._client.get_run(place.parent).info.lifecycle_stage == "deleted":
            self.held(subject)
            place = self._places[subject.key]
        run_id, before = place.runs.get(run.number), None
        if run_id is None:
            tags = {STUDY: subject.key, NUMBER: str(run.number), PARENT: place.parent}
            start = _milliseconds(run.started)
            made = self._client.create_run(place.experiment, start_time=start, tags=tags, run_name=run.name)
            run_id = place.runs[run.number] = made.info.run_id
        else:
            before = self._client.get_run(run_id)
        self._log(run_id, metrics=self._news(run, before), params=_params(run.params))
        facts = {f"{PREFIX}{name}": value for name, value in {**subject.facts, **run.facts, "held": run.held}.items()}
        self._log(run_id, tags=_tags({**facts, **{f"note.{name}": value for name, value in run.notes.items()}}))
        self._end(run_id, run)
        self._keep_one(self._search(place.experiment, subject, run.number))
        self._tell_parent(place, subject, run)

    def _experiment_of(self, subject: Subject) -> str:
        """Return the identifier of the experiment; make it where there is none."""
        name = self._experiment or subject.name
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name))
            except Exception:
                found = self._client.get_experiment_by_name(name)  # made by another process in between
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            raise InvalidValue(
                f"to_mlflow: experiment={name!r} is in MLflow's trash; give another one, or restore it by "
                f"`mlflow experiments restore --experiment-id {found.experiment_id}`"
            )
        return str(found.experiment_id)

    def _search(self, experiment: str, subject: Subject, number: int | None = None) -> Iterator[Any]:
        wanted = f"tags.`{STUDY}` = '{subject.key}'"
        if number is not None:
            wanted += f" and tags.`{NUMBER}` = '{number}'"
        token = None
        while True:
            page = self._client.search_runs([experiment], wanted, max_results=PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _make_parent(self, experiment: str, subject: Subject) -> None:
        tags = {f"{PREFIX}{name}": _cut(value, "tag") for name, value in subject.facts.items()}
        start = _milliseconds(subject.created)
        self._client.create_run(experiment, start_time=start, tags={STUDY: subject.key, **tags}, run_name=subject.name)

    def _tell_parent(self, place: _Place, subject: Subject, run: Run) -> None:
        """Let the study's run end with its last trial so far, and say what the best one has come to."""
        if subject.best is not None and subject.best != place.best:
            number, value = subject.best
            # all at one step, so that the latest in time is what MLflow shows
            self._log(
                place.parent, metrics=[_metric("best", value, time.time(), 0)], tags=_tags({f"{PREFIX}best": number})
            )
            place.best = subject.best
        self._terminate(place.parent, "FINISHED", run)

    def _news(self, run: Run, before: Any) -> list[Any]:
        """Return metrics that a run does not hold yet."""
        there: set[tuple[str, int]] = set()
        for name in [] if before is None else list(before.data.metrics):
            there |= {(name, m.step) for m in self._client.get_metric_history(before.info.run_id, name)}
        found = {(name, run.last_step): value for name, value in run.metrics.items()} | run.reported
        names = _clean({name for name, _ in found})
        every = [(names[name], step, value) for (name, step), value in found.items()]
        return [_metric(name, value, run.ended, step) for name, step, value in every if (name, step) not in there]

    def _log(self, run_id: str, **entities: Sequence[Any]) -> None:
        for kind, every in entities.items():
            for first in range(0, len(every), BATCH[kind]):
                self._client.log_batch(run_id, **{kind: every[first : first + BATCH[kind]]})

    def _end(self, run_id: str, run: Run) -> None:
        if run.state.finished:
            self._terminate(run_id, STATUS[run.state], run)
        else:
            self._client.update_run(run_id, STATUS[run.state])

    def _terminate(self, run_id: str, status: str, run: Run) -> None:
        with _without_addresses():
            self._client.set_terminated(run_id, status, end_time=_milliseconds(run.ended))

    def _keep_one(self, runs: Iterable[Any]) -> Any:
        """Return one of the runs of a trial; delete others that are as good."""
        ordered = sorted(runs, key=lambda run: (not _is_whole(run), run.info.run_id))
        for other in ordered[1:]:
            if _is_whole(other):
                self._client.delete_run(other.info.run_id)
        return ordered[0] if ordered else None


@contextlib.contextmanager
def _without_addresses() -> Iterator[None]:
    """Let MLflow not print where to look at a run, each time that one ends."""
    before = os.environ.get(QUIET)
    os.environ[QUIET] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ[QUIET]
        else:
            os.environ[QUIET] = before


def _by_number(runs: Iterable[Any]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for run in runs:
        if (number := run.data.tags.get(NUMBER)) is not None:
            found.setdefault(int(number), []).append(run)
    return found


def _is_whole(run: Any) -> bool:
    """Tell whether all was written that there was: a process that is killed leaves a run that seems to be running."""
    return run.info.status != "RUNNING" and HELD in run.data.tags


def _metric(name: str, value: float, when: float, step: int) -> Any:
    from mlflow.entities import Metric

    return Metric(name, value, _milliseconds(when), step)


def _params(params: Mapping[str, Any]) -> list[Any]:
    from mlflow.entities import Param

    names = _clean(params)
    return [Param(names[name], _cut(value, "param")) for name, value in params.items()]


def _tags(tags: Mapping[str, Any]) -> list[Any]:
    from mlflow.entities import RunTag

    names = _clean(tags)
    return [RunTag(names[name], _cut(value, "tag")) for name, value in tags.items()]


def _clean(names: Iterable[str]) -> dict[str, str]:
    """Return names that MLflow takes: of letters, digits, and some signs, and none of them a path upwards."""
    found: dict[str, str] = {}
    for name in sorted(names):
        clean = re.sub(r"[^\w.\- /]", "_", name)[: LONGEST["key"]]
        if posixpath.normpath(clean) != clean or clean.startswith(("/", "..")) or clean == ".":
            clean = clean.replace("/", "_").replace(".", "_")
        while clean in found.values():
            clean = f"{clean[: LONGEST['key'] - 1]}_"
        found[name] = clean
    return found


def _cut(value: Any, kind: str) -> str:
    text, most = str(value) if kind == "param" else as_text(value), LONGEST[kind]
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
