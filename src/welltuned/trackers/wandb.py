"""Trials as runs of Weights & Biases: a group for the study, and a run in it for each trial."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from welltuned.errors import InvalidType, InvalidValue, require
from welltuned.trackers.run import ALL, Run, Subject
from welltuned.trackers.tracker import Tracker
from welltuned.trial import State

MODES = ("online", "offline", "disabled")
HELD = "trial/held"
#: a run is written in a second, after the fact: what this process is, prints and needs meanwhile is not the trial's
SETTINGS = {"silent": True, "console": "off", "disable_git": True, "disable_code": True, "x_disable_stats": True}
WRITTEN = "welltuned.json"  # beside the files of an offline run that is whole


def to_wandb(
    project: str,
    *,
    entity: str | None = None,
    mode: str | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> Tracker:
    """Return a tracker that writes to Weights & Biases: a group for each study, and a run in it for each trial.

    Parameters
    ----------
    project
        The name of the project.
    entity
        The user or the team; yours unless given.
    mode
        ``"online"``; ``"offline"`` for files that ``wandb sync`` sends later; or ``"disabled"``, which writes nothing.
        Unless given, what ``WANDB_MODE`` says, or else ``"online"``.
    folder
        Where the files of W&B go, in a folder ``wandb``; unless given, what ``WANDB_DIR`` says, or else here.

    Raises
    ------
    InvalidType, InvalidValue
        When an argument is no text, or ``mode`` another one.
    MissingDependency
        When wandb is not installed.

    Examples
    --------
    ::

        study.optimize(objective, n_trials=50, callbacks=[to_wandb("digits")])
    """
    for name, text in (("project", project), ("entity", entity), ("mode", mode)):
        if (text is not None or name == "project") and (not isinstance(text, str) or not text):
            raise InvalidType(f"to_wandb: {name}={text!r} is not a text, or an empty one")
    if folder is not None and not isinstance(folder, (str, os.PathLike)):
        raise InvalidType(f"to_wandb: folder={folder!r} is not the path of a folder")
    try:
        import wandb
    except ImportError as error:
        raise require("wandb", "wandb", "to_wandb()") from error
    chosen = mode or wandb.setup().settings.mode
    if chosen not in MODES:
        given = f"mode={mode!r}" if mode else f"WANDB_MODE={chosen!r}"
        raise InvalidValue(f"to_wandb: {given} is none of {list(MODES)!r}")
    if chosen == "disabled":
        return Tracker(_Disabled())
    # wandb's own default is the folder in which it was first used
    root = Path(os.environ.get("WANDB_DIR") or "." if folder is None else folder).absolute()
    sink = _Offline if chosen == "offline" else _Online
    return Tracker(sink(wandb, project, entity, root))


@dataclass(frozen=True)
class _Place:
    """Where runs go; ``wandb`` is the package."""

    wandb: Any
    project: str
    entity: str | None
    root: Path
    mode: str

    def begin(self, subject: Subject, run: Run, **options: Any) -> Any:
        """Begin a run beside the one that a program may have under way."""
        self.root.mkdir(parents=True, exist_ok=True)
        return self.wandb.init(
            project=self.project,
            entity=self.entity,
            group=subject.key,
            job_type="trial",
            id=f"{subject.key}-{run.number}",
            name=run.name,
            config={**run.params, "welltuned": {**subject.facts, **run.facts}},
            mode=self.mode,
            dir=str(self.root),
            reinit="create_new",
            settings=self.wandb.Settings(**SETTINGS),
            **options,
        )


class _Online:
    """Runs by their identifiers, which are made of the study's key and the trial's number."""

    def __init__(self, wandb: Any, project: str, entity: str | None, root: Path) -> None:
        self._place = _Place(wandb, project, entity, root, "online")
        self.where = f"Weights & Biases, project {project!r}"

    def held(self, subject: Subject) -> dict[int, str]:
        place = self._place
        path = f"{place.entity}/{place.project}" if place.entity else place.project
        try:
            runs = place.wandb.Api().runs(path, filters={"group": subject.key}, per_page=500)
            return {int(run.id.rpartition("-")[2]): held for run in runs if (held := _held(run))}
        except ValueError as error:
            if "could not find" in str(error).lower():  # the project is made with its first run
                return {}
            raise

    def write(self, subject: Subject, run: Run) -> None:
        _fill(self._place.begin(subject, run, resume="allow"), run)


class _Offline:
    """The same as files. A run that is whole has one beside them that says so."""

    def __init__(self, wandb: Any, project: str, entity: str | None, root: Path) -> None:
        self._place = _Place(wandb, project, entity, root, "offline")
        self._files = root / "wandb"
        self.where = f"Weights & Biases, offline in {self._files}"

    def held(self, subject: Subject) -> dict[int, str]:
        found: dict[int, str] = {}
        for path in sorted(self._files.glob(f"offline-run-*-{subject.key}-*/{WRITTEN}")):
            written = json.loads(path.read_text(encoding="utf-8"))
            found[written["number"]] = written["held"]
        return found

    def write(self, subject: Subject, run: Run) -> None:
        earlier = list(self._files.glob(f"offline-run-*-{subject.key}-{run.number}"))
        started = self._place.begin(subject, run)
        folder = Path(started.dir).parent
        _fill(started, run)
        draft = folder / f"{WRITTEN}.part"
        draft.write_text(json.dumps({"number": run.number, "held": run.held}), encoding="utf-8")
        draft.replace(folder / WRITTEN)
        for path in earlier:  # of a trial that was paused then: all of it is in the new one
            if path != folder and (path / WRITTEN).exists() and not list(path.glob("*.synced")):
                shutil.rmtree(path)


class _Disabled:
    """No runs at all, as of W&B itself in this mode: a program is tried out without a change to it."""

    where = "Weights & Biases, which is disabled"

    def held(self, subject: Subject) -> dict[int, str]:  # noqa: ARG002 - as all sinks have it
        return {}

    def write(self, subject: Subject, run: Run) -> None:
        pass


def _held(run: Any) -> str | None:
    """Tell what a run on the server holds; its tags come with the list, and its summary with a request of its own."""
    if any(state.value in run.tags for state in State if state.finished):
        return ALL
    found = run.summary.get(HELD)
    return None if found is None else str(found)


def _fill(started: Any, run: Run) -> None:
    """Fill a run of W&B and end it."""
    try:
        for report in run.reports:
            if report.step >= started.starting_step:  # W&B takes steps in their order alone
                started.log({f"report/{name}": value for name, value in report.metrics.items()}, step=report.step)
        started.summary.update(
            {
                **run.metrics,
                **{f"trial/{name}": value for name, value in run.facts.items()},
                **{f"note/{name}": value for name, value in run.notes.items()},
                HELD: run.held,
            }
        )
        started.tags = (run.state.value,)  # last: it says that all is there
    finally:
        started.finish(exit_code=int(run.failed))
