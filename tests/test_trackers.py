"""Trials as runs of MLflow, Weights & Biases and TensorBoard."""

import enum
import logging
import os
import struct
import sys
import time
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

import welltuned as wt
from welltuned.cli.app import app
from welltuned.errors import InvalidType, InvalidValue, MissingDependency, TrackerError
from welltuned.testing import SinkContract
from welltuned.trackers import Tracker, to_mlflow, to_tensorboard, to_wandb
from welltuned.trackers import tracker as module
from welltuned.trackers.mlflow import _clean
from welltuned.trackers.run import run_of, subject_of
from welltuned.trackers.wandb import _Online

HEAD = 7  # bytes at the start of a file of wandb's


class Kernel(enum.Enum):
    FLAT = 1
    ROUND = 2


@dataclass(frozen=True)
class Seen:
    """What a tracker shows of a trial."""

    state: str
    params: dict
    metrics: dict
    reports: dict  # by step
    notes: dict


class Shelf:
    """A sink in memory, that others may share, and that may fail."""

    where = "a shelf"

    def __init__(self):
        self.runs, self.subjects, self.looks, self.attempts = {}, {}, 0, []
        self.down, self.refused = False, set()

    def held(self, subject):
        self.looks += 1
        if self.down:
            raise ConnectionError("no answer")
        return {number: run.held for (key, number), run in self.runs.items() if key == subject.key}

    def write(self, subject, run):
        self.attempts.append(run.number)
        if self.down:
            raise ConnectionError("no answer")
        if run.number in self.refused:
            raise ValueError(f"{run.number} is no good")
        self.subjects[subject.key] = subject
        self.runs[subject.key, run.number] = run

    def numbers(self):
        return sorted(number for _, number in self.runs)


def train(trial):
    """A good one, a failure, a pruned one, and so on."""
    trial.note(epochs=trial.number, host="here", curve=np.array([1.0, 2.0]))
    if trial.number == 1:
        raise RuntimeError("out of luck | or worse\nreally")
    for step in (1, 2, 3):
        trial.report({"loss": trial["x"] ** 2 / step, "other": float(step)}, step=step)
        if trial.number == 2 and step == 2:
            trial.prune()
    trial.constrain("latency", trial["x"] - 10)
    return wt.Result({"loss": trial["x"] ** 2, "size": 7.0}, sem={"loss": 0.5})


SPACE = {"x": (0.5, 1.5), "kernel": [Kernel.FLAT, Kernel.ROUND], "none": [None, 3], "flag": [True, False]}
LOSS = {"loss": "minimize"}


def study_of(**options):
    return wt.Study(SPACE, **{"direction": LOSS, "seed": 0, "sampler": "random", "name": "net of mine", **options})


@pytest.fixture
def at_once(monkeypatch):
    """Look again with every call."""
    monkeypatch.setattr(module, "LOOK", 0.0)
    monkeypatch.setattr(module, "SHARE", 0)


# what is written, and when


def test_every_trial_that_ends_is_written_once():
    shelf, study = Shelf(), study_of()
    study.optimize(train, 5, callbacks=[Tracker(shelf)])
    assert shelf.attempts == [0, 1, 2, 3, 4]
    states = [run.state.value for run in shelf.runs.values()]
    assert states == ["complete", "failed", "pruned", "complete", "complete"]


def test_a_run_holds_all_there_is_to_know():
    study = study_of(scheduler="median")
    study.optimize(train, 3)
    good, bad, pruned = (run_of(study, trial) for trial in study.trials)
    first = study.trials[0]
    assert good.params == {
        "x": first.params["x"],
        "kernel": f"Kernel.{first.params['kernel'].name}",
        "none": first.params["none"],
        "flag": first.params["flag"],
    }
    loss = first.params["x"] ** 2
    assert list(good.metrics) == ["loss", "size", "sem/loss", "constraint/latency", "trial/seconds"]
    assert good.metrics["loss"] == loss and good.metrics["sem/loss"] == 0.5
    assert [(r.step, r.metrics["other"]) for r in good.reports] == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert good.notes == {"epochs": 0, "host": "here", "curve": [1.0, 2.0]}
    assert good.facts == {"number": 0, "state": "complete", "origin": "sampler", "attempts": 1, "feasible": True}
    assert good.started == first.started and good.ended == first.started + first.seconds
    assert bad.facts["reason"] == "error" and "out of luck" in bad.facts["error"] and bad.failed
    assert "loss" not in pruned.metrics and [r.step for r in pruned.reports] == [1, 2]

    subject = subject_of(study)
    assert subject.name == "net of mine" and subject.key.startswith("net-of-mine-")
    assert subject.facts["direction"] == "minimize" and subject.facts["seed"] == 0
    assert '"random"' in subject.facts["sampler"] and '"median"' in subject.facts["scheduler"]
    assert subject.best == (0, loss)


def test_several_objectives_have_their_names_and_no_best():
    study = wt.Study({"x": (0.0, 1.0)}, direction={"a": "minimize", "b": "maximize"}, seed=0)
    study.optimize(lambda t: {"a": t["x"], "b": 2 * t["x"]}, 2)
    assert list(run_of(study, study.trials[0]).metrics)[:2] == ["a", "b"]
    assert subject_of(study).facts["direction"] == '{"a": "minimize", "b": "maximize"}'
    assert subject_of(study).best is None


def test_trials_from_elsewhere_and_those_that_were_told_are_there_too():
    shelf, study = Shelf(), study_of()
    params = {"x": 1.0, "kernel": Kernel.FLAT, "none": 3, "flag": True}
    study.add(params, 1.0)
    study.tell(study.ask(), state="failed", error="fire")
    study.ask()  # runs still
    assert Tracker(shelf).all(study) == 2
    assert [run.facts["origin"] for run in shelf.runs.values()] == ["added", "sampler"]
    assert all(run.started > 1e9 and run.ended >= run.started for run in shelf.runs.values())


def test_parameters_that_the_objective_declares(tmp_path):
    shelf, study = Shelf(), wt.Study(seed=0, storage=tmp_path / "study.db", sampler="random")

    def objective(trial):
        kind = trial.suggest_categorical("kind", ["a", "b"])
        return trial.suggest_float("x", 0, 1) if kind == "a" else 2.0

    def fails(trial):
        raise RuntimeError("before anything is declared")

    study.optimize(fails, 1, callbacks=[Tracker(shelf)])
    study.optimize(objective, 6, callbacks=[Tracker(shelf)])
    params = [run.params for run in shelf.runs.values()]
    assert params[0] == {} and {"kind"} < set().union(*params)


def test_a_study_of_the_same_name_is_another_one(tmp_path):
    shelf = Shelf()
    tracker = Tracker(shelf)
    for _ in range(2):
        study_of().optimize(train, 2, callbacks=[tracker])
    assert shelf.numbers() == [0, 0, 1, 1]
    for _ in range(2):  # one that is stored is the same, whoever opens it
        assert Tracker(shelf).all(wt.Study(SPACE, direction=LOSS, storage=tmp_path / "study.db")) == 0
    assert len({subject_of(wt.Study(SPACE, storage=tmp_path / f"{n}.db")).key for n in "aab"}) == 2


def test_another_process_goes_on_where_nobody_wrote(tmp_path):
    shelf, storage = Shelf(), tmp_path / "study.db"

    def dies(study, trial):
        if trial.number == 2:
            raise KeyboardInterrupt  # as if it was killed between the storage and the tracker

    with pytest.raises(KeyboardInterrupt):
        study_of(storage=storage).optimize(train, 6, callbacks=[dies, Tracker(shelf)])
    study_of(storage=storage).optimize(train, 4)  # without a tracker
    assert shelf.numbers() == [0, 1]
    study_of(storage=storage).optimize(train, 6, callbacks=[Tracker(shelf)])
    assert shelf.attempts == [0, 1, 2, 3, 4, 5]
    assert Tracker(shelf).all(study_of(storage=storage)) == 0


def test_a_paused_trial_is_there_and_goes_on():
    shelf, study = Shelf(), wt.Study({"rate": (0.01, 0.5)}, scheduler=wt.Asha(last=9), seed=0)

    def epochs(trial):
        value = 0.0
        for step in range(1, 10):
            value = abs(1 - trial["rate"] * step)
            trial.report(value, step=step)
            if trial.should_stop():
                trial.prune()
        return value

    study.optimize(epochs, 12, callbacks=[Tracker(shelf)])
    for trial in study.trials:
        run = next(run for (_, number), run in shelf.runs.items() if number == trial.number)
        assert (run.state, len(run.reports)) == (trial.state, len(trial.reports))
    assert {run.state for run in shelf.runs.values()} == {wt.State.COMPLETE, wt.State.PAUSED}
    assert len(shelf.attempts) > 12


def test_callbacks_run_in_the_process_of_the_study():
    shelf, study, seen = Shelf(), wt.Study({"x": (0.0, 1.0)}, seed=0), []
    study.optimize(
        lambda t: t["x"], 4, workers=2, callbacks=[lambda study, trial: seen.append(os.getpid()), Tracker(shelf)]
    )
    assert set(seen) == {os.getpid()} and shelf.numbers() == [0, 1, 2, 3]


# trials of others


def test_what_others_do_not_write_is_written_with_the_second_look(tmp_path, at_once):
    shelf, mine, other = Shelf(), study_of(storage=tmp_path / "s.db"), study_of(storage=tmp_path / "s.db")
    tracker = Tracker(shelf)
    mine.optimize(train, 1, callbacks=[tracker])
    other.optimize(train, 2)
    mine.optimize(train, 3, callbacks=[tracker])
    assert shelf.numbers() == [0, 2]  # perhaps the other one is about to
    mine.optimize(train, 4, callbacks=[tracker])
    assert shelf.numbers() == [0, 1, 2, 3]


def test_what_others_write_is_left_to_them(tmp_path, at_once):
    shelf, mine, other = Shelf(), study_of(storage=tmp_path / "s.db"), study_of(storage=tmp_path / "s.db")
    one, two = Tracker(shelf), Tracker(shelf)
    for n in range(1, 9, 2):
        mine.optimize(train, n, callbacks=[one])
        other.optimize(train, n + 1, callbacks=[two])
    assert shelf.attempts == list(range(8))


def test_it_is_looked_seldom():
    shelf = Shelf()
    study_of().optimize(train, 30, callbacks=[Tracker(shelf)])
    assert shelf.looks == 1


# what fails


def test_a_tracker_that_never_worked_ends_the_search_with_what_to_do():
    shelf, study = Shelf(), study_of()
    shelf.down = True
    with pytest.raises(TrackerError, match=r"'net of mine' cannot be written to a shelf \(ConnectionError: no answer"):
        study.optimize(train, 5, callbacks=[Tracker(shelf)])
    assert [t.state.value for t in study.trials] == ["complete"]
    with pytest.raises(TrackerError, match="no answer"):
        Tracker(shelf).all(study)


def test_one_that_takes_nothing_is_an_error_too():
    shelf = Shelf()
    shelf.refused = {0}
    with pytest.raises(TrackerError, match="0 is no good"):
        study_of().optimize(train, 5, callbacks=[Tracker(shelf)])


def test_one_that_takes_nothing_more_of_what_it_has_in_part_is_an_error_too():
    shelf, study = Shelf(), wt.Study({"x": (0.0, 1.0)}, scheduler=wt.Asha(last=9), seed=0)

    def epochs(trial):
        for step in range(1, 10):
            trial.report(trial["x"], step=step)
            if trial.should_stop():
                trial.prune()
        return trial["x"]

    study.optimize(epochs, 8, callbacks=[Tracker(shelf)])
    paused = next(t for t in study.trials if t.state is wt.State.PAUSED)
    key = subject_of(study).key, paused.number
    shelf.runs[key] = replace(shelf.runs[key], held="0 reports")
    shelf.refused = {paused.number}
    with pytest.raises(TrackerError, match="is no good"):
        Tracker(shelf)(study, paused)


def test_an_error_of_ours_says_it_already():
    class Misled(Shelf):
        def held(self, subject):
            raise InvalidValue("project='' is no good")

    with pytest.raises(InvalidValue, match="project="):
        study_of().optimize(train, 5, callbacks=[Tracker(Misled())])


def test_a_tracker_that_goes_down_does_not_end_the_search(caplog, at_once):
    shelf, study = Shelf(), study_of()

    def storm(study, trial):
        shelf.down = 2 <= trial.number < 6

    with caplog.at_level(logging.WARNING, "welltuned"):
        study.optimize(train, 8, callbacks=[storm, Tracker(shelf)])
    assert shelf.numbers() == list(range(8))
    told = [m for m in caplog.messages if "a shelf" in m]
    assert len(told) == 2 and "no answer" in told[0] and "again" in told[1]


def test_one_that_is_down_is_left_alone_for_a_while(caplog):
    shelf, study = Shelf(), study_of()
    tracker = Tracker(shelf)

    def storm(study, trial):
        shelf.down = trial.number == 1

    study.optimize(train, 5, callbacks=[storm, tracker])
    assert shelf.attempts == [0, 1] and shelf.looks == 1
    assert tracker.all(study) == 4 and shelf.numbers() == [0, 1, 2, 3, 4]
    study.optimize(train, 6, callbacks=[tracker])
    assert shelf.attempts[-1] == 5


def test_one_trial_that_is_refused_keeps_no_other_back(caplog, at_once):
    shelf, study = Shelf(), study_of()
    shelf.refused = {2}
    study.optimize(train, 6, callbacks=[Tracker(shelf)])
    assert shelf.numbers() == [0, 1, 3, 4, 5]
    assert sum("a shelf failed" in m for m in caplog.messages) == 1
    tracker = Tracker(Shelf())
    tracker._sink.refused = {2}
    with pytest.raises(TrackerError, match="2 is no good"):
        tracker.all(study)
    assert tracker._sink.numbers() == [0, 1, 3, 4, 5]


def test_two_in_a_row_that_fail_are_enough(caplog):
    shelf, study = Shelf(), study_of()
    study.optimize(train, 6)
    shelf.refused = {1, 2}
    with pytest.raises(TrackerError, match="1 is no good"):
        Tracker(shelf).all(study)
    assert shelf.attempts == [0, 1, 2]


def test_wrong_arguments_name_themselves():
    with pytest.raises(InvalidType, match=r"sink=3"):
        Tracker(3)
    with pytest.raises(InvalidType, match=r"all: 'study.db' is no study"):
        Tracker(Shelf()).all("study.db")
    for make in (lambda: to_mlflow(3), lambda: to_mlflow(tracking_uri=""), lambda: to_wandb(""), lambda: to_wandb(3)):
        with pytest.raises(InvalidType, match="is not a text"):
            make()
    for make in (lambda: to_tensorboard(3), lambda: to_tensorboard(""), lambda: to_wandb("p", folder=3)):
        with pytest.raises(InvalidType, match="is not the path of a folder"):
            make()


@pytest.mark.parametrize(
    ("package", "make"),
    [("mlflow", to_mlflow), ("wandb", lambda: to_wandb("p")), ("tensorboard", lambda: to_tensorboard("runs"))],
)
def test_a_missing_package_says_how_to_install_it(package, make, monkeypatch):
    for name in [n for n in sys.modules if n.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependency, match=rf"pip install 'welltuned\[{package}\]'"):
        make()


# the trackers themselves


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A database of MLflow's, which takes seconds to make."""
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("alembic")
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


def mlflow_runs(address, study):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=address)
    experiments = [e.experiment_id for e in client.search_experiments()]
    key = subject_of(study).key
    return client, list(client.search_runs(experiments, f"tags.`welltuned.key` = '{key}'"))


class Mlflow:
    """MLflow, as tests use it."""

    status = {"FINISHED": "complete", "KILLED": "pruned", "FAILED": "failed", "SCHEDULED": "paused"}

    def __init__(self, folder, database):
        self.address = database

    def tracker(self):
        return to_mlflow(tracking_uri=self.address)

    def seen(self, study):
        client, runs = mlflow_runs(self.address, study)
        (parent,) = (run for run in runs if "welltuned.number" not in run.data.tags)
        assert parent.info.run_name == study.name and parent.info.status == "FINISHED"
        children = [run for run in runs if "welltuned.number" in run.data.tags]
        assert all(run.data.tags["mlflow.parentRunId"] == parent.info.run_id for run in children)
        found = {}
        for run in children:
            reports = {}
            for name in (n for n in run.data.metrics if n.startswith("report/")):
                for metric in client.get_metric_history(run.info.run_id, name):
                    there = reports.setdefault(metric.step, {})
                    assert name not in there
                    there[name.removeprefix("report/")] = metric.value
            tags = run.data.tags
            number = int(tags["welltuned.number"])
            assert number not in found and self.status[run.info.status] == tags["welltuned.state"]
            found[number] = Seen(
                tags["welltuned.state"],
                dict(run.data.params),
                {n: v for n, v in run.data.metrics.items() if not n.startswith("report/")},
                reports,
                {n.removeprefix("note."): v for n, v in tags.items() if n.startswith("note.")},
            )
        return found


class Wandb:
    """Weights & Biases without a network, as tests use it."""

    def __init__(self, folder, database):
        self.folder = folder / "files"

    def tracker(self):
        pytest.importorskip("wandb")
        return to_wandb("digits", mode="offline", folder=self.folder)

    def seen(self, study):
        found = {}
        for path in sorted(self.folder.glob(f"wandb/offline-run-*-{subject_of(study).key}-*/*.wandb")):
            config, reports, summary, tags, code = read_wandb(path)
            facts = config.pop("welltuned")
            assert facts["study"] == study.name and facts["number"] not in found
            assert tags == [summary["trial/state"]] and code == (summary["trial/state"] == "failed")
            names = ("loss", "size", "sem/loss", "constraint/latency", "trial/seconds")
            found[facts["number"]] = Seen(
                facts["state"],
                config,
                {n: summary[n] for n in names if n in summary},
                reports,
                {n.removeprefix("note/"): v for n, v in summary.items() if n.startswith("note/")},
            )
        return found


def read_wandb(path):
    """Return config, reports by step, summary, tags and exit code of an offline run."""
    import json

    from wandb.proto.wandb_internal_pb2 import Record

    config, reports, summary, tags, code = {}, {}, {}, [], None
    for _ in range(600):  # a process of wandb's own writes the file, a moment after the run has ended
        if path.stat().st_size > HEAD:
            break
        time.sleep(0.05)
    for body in log_records(path.read_bytes()):
        record = Record.FromString(body)
        if record.HasField("run"):
            config |= {u.key: json.loads(u.value_json) for u in record.run.config.update}
            tags = list(record.run.tags) or tags
        elif record.HasField("history"):
            values = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
            step = record.history.step.num
            reports[step] = {n.removeprefix("report/"): v for n, v in values.items() if n.startswith("report/")}
        elif record.HasField("summary"):
            summary |= {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.summary.update}
        elif record.HasField("exit"):
            code = record.exit.exit_code
    config.pop("_wandb", None)
    return config, reports, summary, tags, code


def log_records(data):
    """Return the records of a file in LevelDB's log format, behind a head."""
    at, body, block = HEAD, b"", 32768
    while at + 7 <= len(data):
        if block - at % block < 7:
            at += block - at % block
        _, size, kind = struct.unpack_from("<IHB", data, at)
        body += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):
            yield body
            body = b""


class TensorBoard:
    """TensorBoard, by its own reader."""

    def __init__(self, folder, database):
        self.folder = folder / "runs"

    def tracker(self):
        pytest.importorskip("tensorboard")
        return to_tensorboard(self.folder)

    def seen(self, study):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.plugins.hparams import api_pb2, metadata

        found = {}
        for folder in sorted((self.folder / subject_of(study).key).iterdir()):
            events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()
            assert not [p for p in folder.iterdir() if "tfevents" not in p.name]
            reports, metrics = {}, {}
            for tag in events.Tags()["scalars"]:
                for event in events.Scalars(tag):
                    if tag.startswith("report/"):
                        assert tag not in reports.setdefault(event.step, {})
                        reports[event.step][tag.removeprefix("report/")] = event.value
                    else:
                        assert tag not in metrics
                        metrics[tag] = event.value
            plugin = events.summary_metadata
            begin = metadata.parse_session_start_info_plugin_data(
                plugin[metadata.SESSION_START_INFO_TAG].plugin_data.content
            )
            kinds = {name: value.WhichOneof("kind") for name, value in begin.hparams.items()}
            text = events.Tensors("trial")[-1].tensor_proto.string_val[0].decode()
            table = dict(row.strip("| ").split(" | ", 1) for row in text.splitlines()[2:])
            if metadata.SESSION_END_INFO_TAG in plugin:
                end = metadata.parse_session_end_info_plugin_data(
                    plugin[metadata.SESSION_END_INFO_TAG].plugin_data.content
                )
                failed = api_pb2.Status.Name(end.status) == "STATUS_FAILURE"
                assert failed == (table["state"] == "failed")
            else:
                assert table["state"] == "paused"
            found[int(table["number"])] = Seen(
                table["state"],
                {name: getattr(value, kinds[name]) for name, value in begin.hparams.items()},
                metrics,
                reports,
                {n.removeprefix("note/"): v for n, v in table.items() if n.startswith("note/")},
            )
        return found


@pytest.fixture(params=[Mlflow, Wandb, TensorBoard])
def place(request, tmp_path):
    database = request.getfixturevalue("database") if request.param is Mlflow else None
    place = request.param(tmp_path, database)
    place.tracker()
    return place


def test_a_tracker_shows_what_a_run_holds(place):
    study = study_of(name=f"shows in {type(place).__name__}")
    study.optimize(train, 4, callbacks=[place.tracker()])
    seen = place.seen(study)
    assert sorted(seen) == [0, 1, 2, 3]
    for trial in study.trials:
        run, found = run_of(study, trial), seen[trial.number]
        assert found.state == trial.state.value
        assert {n: str(v) for n, v in run.params.items()} == {n: str(as_given(v)) for n, v in found.params.items()}
        assert found.metrics == pytest.approx(dict(run.metrics))
        assert found.reports == {r.step: pytest.approx(dict(r.metrics)) for r in trial.reports}
        assert {n: str(v) for n, v in found.notes.items()} == {n: str(v) for n, v in run.notes.items()}


def as_given(value):
    """A whole number is a number like all others to TensorBoard."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def test_a_tracker_holds_each_trial_once(place, tmp_path):
    name = f"once in {type(place).__name__}"

    def opened():
        return study_of(storage=tmp_path / "study.db", name=name)

    opened().optimize(train, 1, callbacks=[place.tracker()])
    opened().optimize(train, 2)
    opened().optimize(train, 3, callbacks=[place.tracker()])
    assert place.tracker().all(opened()) == 0
    assert sorted(place.seen(opened())) == [0, 1, 2]
    assert place.tracker().all(study_of(name=name)) == 0  # another study of the name has no trials


def test_a_paused_trial_goes_on_in_its_run(place, tmp_path):
    study = wt.Study(
        {"rate": (0.01, 0.5)},
        direction=LOSS,
        scheduler=wt.Asha(last=9),
        storage=tmp_path / "study.db",
        seed=0,
        name=f"pauses in {type(place).__name__}",
    )

    def epochs(trial):
        for step in range(1, 10):
            loss = abs(1 - trial["rate"] * step)
            trial.report({"loss": loss}, step=step)
            if trial.should_stop():
                trial.prune()
        return loss

    study.optimize(epochs, 8, callbacks=[place.tracker()])
    assert {t.state for t in study.trials} == {wt.State.COMPLETE, wt.State.PAUSED}
    seen = place.seen(study)
    for trial in study.trials:
        assert seen[trial.number].state == trial.state.value
        assert list(seen[trial.number].reports) == [r.step for r in trial.reports]
        assert seen[trial.number].metrics.get("loss") == pytest.approx(trial.metrics.get("loss"))
    assert place.tracker().all(study) == 0


def test_the_command_line_writes_a_study_that_is_stored(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.chdir(tmp_path)
    wt.Study({"x": (0.0, 1.0)}, storage="welltuned.db", name="net", seed=0).optimize(lambda t: t["x"], 3)
    for told in ("3 trials written, 3 there", "0 trials written, 3 there"):
        done = CliRunner().invoke(app, ["track", "net", "--tensorboard", "runs"])
        assert done.exit_code == 0 and done.output == f"TensorBoard in runs: {told}\n"
    done = CliRunner().invoke(app, ["track", "net"])
    assert isinstance(done.exception, InvalidValue) and "give --mlflow, --wandb or --tensorboard" in str(done.exception)


# of MLflow alone


def sinks(address, n):
    return [to_mlflow(tracking_uri=address)._sink for _ in range(n)]


def test_two_processes_that_make_a_run_each_leave_one(database):
    study = study_of(name="race")
    study.optimize(train, 2)
    subject, runs = subject_of(study), [run_of(study, t) for t in study.trials]
    one, two = sinks(database, 2)
    assert one.held(subject) == two.held(subject) == {}
    for run in runs:
        one.write(subject, run)
        two.write(subject, run)
    assert sorted(Mlflow(None, database).seen(study)) == [0, 1]
    assert two.held(subject) == {0: "all", 1: "all"}


def test_two_runs_of_a_study_become_one(database):
    study = study_of(name="twins")
    study.optimize(train, 2)
    subject, runs = subject_of(study), [run_of(study, t) for t in study.trials]
    one, two = sinks(database, 2)
    one.held(subject)
    one.write(subject, runs[0])
    experiment = one._places[subject.key].experiment
    for _ in range(3):
        one._make_parent(experiment, subject)
    two.held(subject)
    one.write(subject, runs[1])  # whose run of the study may be gone
    assert sorted(Mlflow(None, database).seen(study)) == [0, 1]


def test_a_run_that_was_left_half_written_is_completed(database):
    study = study_of(name="half")
    study.optimize(train, 1)
    subject, run = subject_of(study), run_of(study, study.trials[0])
    (sink,) = sinks(database, 1)
    sink.held(subject)
    end, sink._end = sink._end, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        sink.write(subject, run)
    sink._end = end
    assert to_mlflow(tracking_uri=database).all(study) == 1
    seen = Mlflow(None, database).seen(study)
    assert list(seen) == [0] and list(seen[0].reports) == [1, 2, 3]


def test_the_run_of_a_study_names_the_best(database):
    study = study_of(name="best")
    study.optimize(train, 4, callbacks=[to_mlflow("an experiment", tracking_uri=database)])
    client, runs = mlflow_runs(database, study)
    (parent,) = (run for run in runs if "welltuned.number" not in run.data.tags)
    assert parent.data.metrics["best"] == study.best.value
    assert parent.data.tags["welltuned.best"] == str(study.best.number)
    assert client.get_experiment(parent.info.experiment_id).name == "an experiment"


def test_the_active_run_stays_as_it_is(database, capsys):
    import mlflow

    mlflow.set_tracking_uri(database)
    try:
        with mlflow.start_run() as active:
            study_of(name="beside").optimize(train, 2, callbacks=[to_mlflow()])
            assert mlflow.active_run().info.run_id == active.info.run_id
        kept = mlflow.get_run(active.info.run_id)
    finally:
        mlflow.set_tracking_uri(None)
    assert not kept.data.params and not kept.data.metrics
    assert capsys.readouterr().out == ""


def test_an_experiment_in_the_trash_says_so(database):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=database)
    client.delete_experiment(client.create_experiment("gone"))
    with pytest.raises(InvalidValue, match=r"experiment='gone' is in MLflow's trash.*mlflow experiments restore"):
        study_of().optimize(train, 2, callbacks=[to_mlflow("gone", tracking_uri=database)])


def test_a_server_that_is_not_there_is_an_error_at_once(monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    study = study_of()
    with pytest.raises(TrackerError, match=r"MLflow at http://127.0.0.1:9 \(MlflowException"):
        study.optimize(train, 3, callbacks=[to_mlflow(tracking_uri="http://127.0.0.1:9")])
    with pytest.raises(TrackerError, match=r"tracking_uri='nonsense://here'"):
        to_mlflow(tracking_uri="nonsense://here")


def test_names_that_mlflow_refuses_are_written_otherwise():
    names = ["loss", "f1@k", "f1#k", "../up", "a//b", "/a", ".", "x" * 300, "größe", "a.b/c d-e"]
    found = _clean(names)
    assert [found[n] for n in ("loss", "größe", "a.b/c d-e")] == ["loss", "größe", "a.b/c d-e"]
    assert {found["f1@k"], found["f1#k"]} == {"f1_k", "f1_k_"}
    assert len(set(found.values())) == len(names) and max(map(len, found.values())) == 250
    metric = pytest.importorskip("mlflow.utils.validation")
    for name in found.values():
        metric._validate_metric_name(name)
        metric._validate_tag_name(name)
        metric._validate_param_name(name)


def test_texts_that_are_too_long_are_cut(database):
    study = wt.Study({"x": ["a" * 9000]}, name="long", sampler="grid")

    def objective(trial):
        trial.note(story="b" * 9000, **{f"n{i}": i for i in range(250)})
        for step in range(1200):
            trial.report(float(step), step=step)
        return 1.0

    study.optimize(objective, 1, callbacks=[to_mlflow(tracking_uri=database)])
    (seen,) = Mlflow(None, database).seen(study).values()
    assert seen.params["x"].endswith("a…") and seen.notes["story"].endswith("b…") and seen.notes["n249"] == "249"
    assert len(seen.reports) == 1200


class TestShelf(SinkContract):
    @pytest.fixture
    def sink(self):
        shelf = Shelf()
        return lambda: shelf


@pytest.mark.parametrize("place", [Mlflow, Wandb, TensorBoard], ids=lambda place: place.__name__, indirect=True)
class TestSinks(SinkContract):
    @pytest.fixture
    def place(self, request, tmp_path, monkeypatch):
        database = request.getfixturevalue("database") if request.param is Mlflow else None
        found = request.param(tmp_path, database)
        if request.param is Mlflow:  # which all tests share
            monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", f"{request.node.name} {tmp_path.name}")
        return found

    @pytest.fixture
    def sink(self, place):
        return lambda: place.tracker()._sink


# of Weights & Biases alone


def test_other_modes_are_refused(monkeypatch):
    pytest.importorskip("wandb")
    with pytest.raises(InvalidValue, match=r"mode='shared' is none of \['online', 'offline', 'disabled'\]"):
        to_wandb("digits", mode="shared")


def test_nothing_is_written_where_wandb_is_disabled(tmp_path):
    pytest.importorskip("wandb")
    study = wt.Study({"x": (0.0, 1.0)}, seed=0)
    study.optimize(lambda trial: trial["x"], 2, callbacks=[to_wandb("digits", mode="disabled", folder=tmp_path)])
    assert not list(tmp_path.iterdir()) and len(study.trials) == 2


def test_the_users_run_stays_as_it_is(tmp_path):
    wandb = pytest.importorskip("wandb")
    with wandb.init(project="own", mode="offline", dir=tmp_path, settings=wandb.Settings(silent=True)) as own:
        tracker = to_wandb("digits", mode="offline", folder=tmp_path)
        study_of(name="beside").optimize(train, 2, callbacks=[tracker])
        assert wandb.run is own
        assert "x" not in own.config


class Service:
    """The part of wandb that needs a network, as far as it is used: runs by identifier, each with its steps."""

    def __init__(self):
        self.runs, self.project_exists = {}, False
        self.Settings = lambda **settings: settings

    def init(self, *, config, group, mode, resume, reinit, **more):
        assert (mode, resume, reinit) == ("online", "allow", "create_new")
        self.project_exists = True
        new = SimpleNamespace(**more, group=group, summary={}, steps=[], step=0, tags=(), codes=[])
        run = self.runs.setdefault(more["id"], new)
        run.config, run.starting_step = dict(config), run.step
        run.finish = lambda *, exit_code: run.codes.append(exit_code)

        def record(values, step):
            assert step >= run.step
            run.steps.append(step)
            run.step = step + 1

        run.log = record
        return run

    def Api(self):
        def runs(path, filters, **_):
            if not self.project_exists:
                raise ValueError("Could not find project digits")
            return [run for run in self.runs.values() if run.group == filters["group"]]

        return SimpleNamespace(runs=runs)


def test_online_runs_have_identifiers_that_are_known_before(tmp_path):
    service, study = Service(), study_of(storage=tmp_path / "study.db")
    study.optimize(train, 2, callbacks=[Tracker(_Online(service, "digits", None, tmp_path))])
    study.optimize(train, 4)
    study.optimize(train, 5, callbacks=[Tracker(_Online(service, "digits", "team", tmp_path))])
    key = subject_of(study).key
    assert sorted(service.runs) == [f"{key}-{n}" for n in range(5)]
    assert [run.codes for run in service.runs.values()] == [[0], [1], [0], [0], [0]]
    first = service.runs[f"{key}-0"]
    assert first.steps == [1, 2, 3] and first.tags == ("complete",)
    assert first.summary["loss"] == study.trials[0].value and first.summary["note/host"] == "here"


def test_an_online_run_of_a_paused_trial_gets_its_new_reports(tmp_path):
    service, study = Service(), wt.Study({"rate": (0.01, 0.5)}, scheduler=wt.Asha(last=9), seed=0)

    def epochs(trial):
        for step in range(1, 10):
            trial.report(1 - trial["rate"] * step, step=step)
            if trial.should_stop():
                trial.prune()
        return 1 - trial["rate"] * 9

    study.optimize(epochs, 8, callbacks=[Tracker(_Online(service, "digits", None, tmp_path))])
    key = subject_of(study).key
    assert max(len(run.codes) for run in service.runs.values()) > 1
    for trial in study.trials:
        run = service.runs[f"{key}-{trial.number}"]
        assert run.steps == [r.step for r in trial.reports] and run.tags == (trial.state.value,)


# of TensorBoard alone


def test_tensorboard_makes_a_table_of_parameters_and_metrics(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams import api_pb2, backend_context

    study = study_of(name="table")
    study.optimize(train, 3, callbacks=[to_tensorboard(tmp_path)])
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(tmp_path))
    multiplexer.Reload()
    context = backend_context.Context(TBContext(data_provider=MultiplexerDataProvider(multiplexer, str(tmp_path))))
    request = RequestContext()
    found = context.experiment_from_metadata(
        request, "", True, context.hparams_metadata(request, ""), context.hparams_from_data_provider(request, "", None)
    )
    kinds = {info.name: api_pb2.DataType.Name(info.type) for info in found.hparam_infos}
    assert kinds["x"] == "DATA_TYPE_FLOAT64" and kinds["kernel"] == "DATA_TYPE_STRING"
    assert kinds["flag"] == "DATA_TYPE_BOOL"
    assert {"loss", "size", "report/loss"} <= {info.name.tag for info in found.metric_infos}


def test_writing_again_changes_nothing(tmp_path):
    pytest.importorskip("tensorboard")
    study = study_of(name="again")
    study.optimize(train, 2)
    for _ in range(2):
        sink = to_tensorboard(tmp_path)._sink
        for trial in study.trials:
            sink.write(subject_of(study), run_of(study, trial))
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(files) == 2 and len({p.name for p in files}) <= 2


def test_what_others_log_beside_a_trial_is_theirs(tmp_path):
    """Keras ends its files in ``.v2``; a file that is still being written may end in the middle of a record."""
    pytest.importorskip("tensorboard")
    study, tracker = study_of(name="beside"), to_tensorboard(tmp_path)
    study.optimize(train, 2, callbacks=[tracker])
    (folder,) = tmp_path.iterdir()
    for place in ("trial-0000", "trial-best", "trial-0002"):
        (folder / place).mkdir(exist_ok=True)
        (folder / place / "events.out.tfevents.1796061600.host.1.0.v2").write_bytes(b"half")
        (folder / place / "events.out.tfevents.1796061600.host.1.0").write_bytes(b"half")
    assert to_tensorboard(tmp_path).all(study) == 0
    study.optimize(train, 3)
    assert to_tensorboard(tmp_path).all(study) == 1
