"""Trials as runs of TensorBoard: event files, with what its HParams page needs."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from welltuned.errors import InvalidType, require
from welltuned.trackers.run import ALL, Run, Subject, as_text, part_of
from welltuned.trackers.tracker import Tracker

PREFIX = "events.out.tfevents."  # by which TensorBoard knows its files


def to_tensorboard(folder: str | os.PathLike[str]) -> Tracker:
    """Return a tracker that writes event files for TensorBoard, with its HParams: one run for each trial.

    Parameters
    ----------
    folder
        What ``tensorboard --logdir`` is given. Each study has a folder in it, and each trial one in that.

    Raises
    ------
    InvalidType
        When ``folder`` is no path.
    MissingDependency
        When tensorboard is not installed. It needs neither TensorFlow nor PyTorch.

    Examples
    --------
    ::

        study.optimize(objective, n_trials=50, callbacks=[to_tensorboard("runs")])
    """
    if not isinstance(folder, (str, os.PathLike)) or not os.fspath(folder):
        raise InvalidType(f"to_tensorboard: folder={folder!r} is not the path of a folder")
    try:
        import tensorboard.summary.writer.record_writer  # noqa: F401 - whether it is there
    except ImportError as error:
        raise require("tensorboard", "tensorboard", "to_tensorboard()") from error
    return Tracker(_Tensorboard(Path(folder)))


class _Tensorboard:
    """Event files that come with all they hold, by a rename. Their names say of which state of a trial they are.

    So they are written once whoever writes them, and TensorBoard, which reads a folder's files in the order of their
    names, meets no file that changes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()  # wherever an objective goes
        self.where = f"TensorBoard in {folder}"

    def held(self, subject: Subject) -> dict[int, str]:
        found: dict[int, str] = {}
        for path in _own(self._folder.glob(f"{subject.key}/trial-*/{PREFIX}*")):
            number, held = int(path.parent.name.removeprefix("trial-")), _held(path)
            if found.get(number) != ALL:
                found[number] = held
        return found

    def write(self, subject: Subject, run: Run) -> None:
        folder = self._folder / subject.key / f"trial-{run.number:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{PREFIX}{int(run.ended):010d}.{_word(run.held)}"
        earlier = [p for p in _own(folder.glob(f"{PREFIX}*")) if p != path]
        # those of a process that was killed are named otherwise, and nobody reads them
        draft = folder / f"draft-{os.getpid()}-{path.name.removeprefix(PREFIX)}"
        with draft.open("wb") as file:
            _write_events(file, run.ended, _summaries(subject, run, earlier))
        draft.replace(path)


def _own(paths: Iterable[Path]) -> list[Path]:
    """Return in their order the files that are ours: others may write what they log of a trial beside them."""
    name = re.compile(rf"trial-\d+/{re.escape(PREFIX)}\d+\.(\d{{9}}|{ALL})")
    return sorted(path for path in paths if name.fullmatch(f"{path.parent.name}/{path.name}"))


def _word(held: str) -> str:
    """Return what is held as the end of a file's name, so that names are in the order of writing."""
    return held if held == ALL else f"{int(held.split()[0]):09d}"


def _held(path: Path) -> str:
    word = path.name.rpartition(".")[2]
    return word if word == ALL else part_of(int(word))


def _summaries(subject: Subject, run: Run, earlier: Sequence[Path]) -> Iterator[tuple[int, Any]]:
    """Return what is to be written of a run, each with its step; what earlier files hold is left out."""
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.plugins.text.summary_v2 import text_pb

    if not earlier:
        params = {name: "None" if value is None else value for name, value in run.params.items()}
        # without an identifier, trials with the same parameters would be drawn as one
        yield 0, hparams_pb(params, trial_id=f"{run.number} of {subject.key}", start_time_secs=run.started)
    there = {(value.tag, event.step) for path in earlier for event in _events(path) for value in event.summary.value}
    found = run.reported | {(name, run.last_step): value for name, value in run.metrics.items() if run.state.finished}
    for (tag, step), value in found.items():
        if (tag, step) not in there:
            yield step, _scalar(tag, value)
    notes = {f"note/{name}": value for name, value in run.notes.items()}
    yield run.last_step, text_pb("trial", _table({**subject.facts, **run.facts, **notes}))
    if run.state.finished:
        yield run.last_step, _session_end(run)


def _session_end(run: Run) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

    status = api_pb2.STATUS_FAILURE if run.failed else api_pb2.STATUS_SUCCESS
    end = HParamsPluginData(session_end_info=SessionEndInfo(status=status, end_time_secs=run.ended))
    kind = metadata.create_summary_metadata(end)
    return Summary(value=[Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=kind, tensor=metadata.NULL_TENSOR)])


def _scalar(tag: str, value: float) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary(value=[Summary.Value(tag=tag, simple_value=value)])


def _table(facts: dict[str, Any]) -> str:
    """Return a table in Markdown, which TensorBoard shows as one."""
    rows = [f"| {name} | {_cell(value)} |" for name, value in facts.items()]
    return "\n".join(["| | |", "|---|---|", *rows])


def _cell(value: Any) -> str:
    return as_text(value).replace("|", "\\|").replace("\n", " ")


def _write_events(file: Any, when: float, summaries: Iterator[tuple[int, Any]]) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    writer = RecordWriter(file)
    writer.write(Event(wall_time=when, file_version="brain.Event:2").SerializeToString())
    for step, summary in summaries:
        writer.write(Event(wall_time=when, step=step, summary=summary).SerializeToString())
    writer.flush()


def _events(path: Path) -> Iterator[Any]:
    """Return the events of a file: records of a length, its checksum, an event, and its checksum."""
    from tensorboard.compat.proto.event_pb2 import Event

    data, at = path.read_bytes(), 0
    while at < len(data):
        (size,) = struct.unpack_from("<Q", data, at)
        yield Event.FromString(data[at + 12 : at + 12 + size])
        at += 16 + size
