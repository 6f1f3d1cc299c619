"""Neural networks that report to a trial."""

import copy
import importlib
import os
import pickle
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import welltuned as wt
from welltuned.live import LiveTrial, Task
from welltuned.networks import for_keras, for_lightning, for_skorch, for_transformers
from welltuned.trial import State

os.environ.setdefault("KERAS_BACKEND", "torch")

EPOCHS = 4
PAGE = Path(__file__).parent.parent / "docs" / "networks.md"
CHANCE = np.random.default_rng(0)
X = CHANCE.normal(size=(32, 4)).astype("float32")
Y = (X[:, 0] > 0).astype("float32")
FIT, VALID = (X[:16], Y[:16]), (X[16:], Y[16:])


class Died(Exception):
    """Ends a training as its process might be."""


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Let PyTorch use one thread: on two busy cores, two for matrices as small as these take many times as long."""
    try:
        import torch
    except ImportError:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def with_keras(trial, metric, *, epochs=EPOCHS, validated=True, callback=(), kept=False, **fit):
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, activation="sigmoid")])
    model.compile(keras.optimizers.Adam(trial["rate"]), loss="binary_crossentropy", metrics=["accuracy"])
    callbacks = [for_keras(trial, metric, **dict(callback))]
    if kept:
        callbacks.append(keras.callbacks.BackupAndRestore(trial.checkpoint / "backup"))
    settings = {"epochs": epochs, "batch_size": 8, "shuffle": False, "verbose": 0, "callbacks": callbacks, **fit}
    fitted = model.fit(*FIT, validation_data=VALID if validated else None, **settings)
    # tensors, with this backend
    return {what: [float(v) for v in fitted.history.get(f"val_{what}", ())] for what in ("loss", "accuracy")}


def loaders(torch):
    data = (torch.utils.data.TensorDataset(*map(torch.from_numpy, part)) for part in (FIT, VALID))
    return [torch.utils.data.DataLoader(d, batch_size=8) for d in data]


def with_lightning(trial, metric, *, name="lightning.pytorch", epochs=EPOCHS, validated=True, kept=False, **settings):
    package = pytest.importorskip(name)
    torch = pytest.importorskip("torch")
    curves = {"loss": [], "accuracy": []}

    class Net(package.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def training_step(self, batch, number):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(self.layer(batch[0])[:, 0], batch[1])
            self.log("train_loss", loss, on_epoch=True, on_step=False)
            return loss

        def validation_step(self, batch, number):
            score = self.layer(batch[0])[:, 0]
            self.log("val_loss", torch.nn.functional.binary_cross_entropy_with_logits(score, batch[1]))
            self.log("val_accuracy", ((score > 0) == (batch[1] > 0)).float().mean())

        def on_validation_end(self):
            if not self.trainer.sanity_checking:
                for what, values in curves.items():
                    values.append(self.trainer.callback_metrics[f"val_{what}"].item())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), trial["rate"])

    torch.manual_seed(0)
    callbacks, last = [for_lightning(trial, metric)], None
    if kept:
        callbacks.append(package.callbacks.ModelCheckpoint(trial.checkpoint, save_last=True))
        last = trial.checkpoint / "last.ckpt"
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": kept}
    settings = {"max_epochs": epochs, "accelerator": "cpu", "devices": 1, "log_every_n_steps": 1, **quiet, **settings}
    trainer = package.Trainer(callbacks=callbacks, **settings)
    path = {"ckpt_path": str(last)} if last and last.exists() else {}
    trainer.fit(Net(), *loaders(torch)[: 1 + validated], **path)
    return curves


def with_pytorch_lightning(trial, metric, **settings):
    return with_lightning(trial, metric, name="pytorch_lightning", **settings)


def with_transformers(trial, metric, *, epochs=EPOCHS, validated=True, kept=False, sets=None, around=None, **settings):
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    transformers.set_seed(0)
    config = transformers.BertConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, num_labels=2
    )
    words = torch.from_numpy((X > 0).astype("int64") + 2)
    data = [{"input_ids": w, "labels": int(y)} for w, y in zip(words, Y, strict=True)]
    settings = {
        "num_train_epochs": epochs,
        "eval_strategy": "epoch" if validated else "no",
        "save_strategy": "epoch" if kept else "no",
        "learning_rate": trial["rate"],
        "lr_scheduler_type": "constant",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        **settings,
    }
    folder = str(trial.checkpoint) if kept else "unused"
    trainer = transformers.Trainer(
        transformers.BertForSequenceClassification(config),
        transformers.TrainingArguments(folder, per_device_train_batch_size=8, dataloader_pin_memory=False, **settings),
        train_dataset=data[:16],
        eval_dataset=dict.fromkeys(sets, data[16:]) if sets else data[16:],
        compute_metrics=lambda found: {"accuracy": float((found.predictions.argmax(1) == found.label_ids).mean())},
        callbacks=[for_transformers(trial, metric)],
    )
    if around:
        around(trainer)
    trainer.train(resume_from_checkpoint=transformers.trainer_utils.get_last_checkpoint(folder) if kept else None)
    if around:
        around(trainer)
    logs = [log for log in trainer.state.log_history if "eval_loss" in log]
    return {what: [log[f"eval_{what}"] for log in logs] for what in ("loss", "accuracy")}


def with_skorch(trial, metric, *, epochs=EPOCHS, validated=True, kept=False):
    skorch, torch = pytest.importorskip("skorch"), pytest.importorskip("torch")
    held_out = pytest.importorskip("skorch.helper").predefined_split(skorch.dataset.Dataset(*VALID))
    torch.manual_seed(0)
    accuracy = skorch.callbacks.EpochScoring("accuracy", name="valid_accuracy", lower_is_better=False)
    callbacks = [accuracy, for_skorch(trial, metric)]
    if kept:
        last = skorch.callbacks.Checkpoint(monitor=None, dirname=trial.checkpoint, f_criterion=None)
        callbacks += [last]
    net = skorch.NeuralNetBinaryClassifier(
        torch.nn.Sequential(torch.nn.Linear(4, 1), torch.nn.Flatten(0)),
        lr=trial["rate"],
        optimizer=torch.optim.Adam,
        batch_size=8,
        train_split=held_out if validated else None,
        callbacks=callbacks,
        verbose=0,
    ).initialize()
    if kept and (trial.checkpoint / "params.pt").exists():
        net.load_params(checkpoint=last)
    net.partial_fit(*FIT, epochs=epochs - len(net.history))
    return {what: net.history[:, f"valid_{what}"] for what in ("loss", "accuracy")}


KINDS = [with_keras, with_lightning, with_pytorch_lightning, with_transformers, with_skorch]
PREFIX = {with_transformers: "eval", with_skorch: "valid"}
CALLBACKS = {"keras": for_keras, "lightning": for_lightning, "transformers": for_transformers, "skorch": for_skorch}


def name_of(train, what):
    return f"{PREFIX.get(train, 'val')}_{what}"


def trial_of(reports, die_at=None, checkpoint=None, **params):
    """Return a trial outside of any study that keeps its reports in a list."""

    def keep(task, report):
        if report.step == die_at:
            raise Died
        reports.append(report)
        return False

    return LiveTrial(Task(0, 1, {"rate": 0.05, **params}, checkpoint=checkpoint), keep)


def steps_of(train, metric, **settings):
    reports = []
    train(trial_of(reports), metric, **settings)
    return [report.step for report in reports]


@pytest.fixture(scope="module")
def objectives():
    """The functions of the page on networks."""
    for package in ("torch", "sklearn", "keras", "lightning", "skorch", "transformers"):
        pytest.importorskip(package)
    found = {"__name__": "__main__"}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        before = block.partition("\nstudy = ")[0]
        if "study." not in before:  # a block that looks at what a study found has none
            exec(compile(before, PAGE.name, "exec"), found)
    return found


@pytest.mark.parametrize("train", KINDS)
def test_each_epoch_is_a_report(train):
    curves = {}

    def objective(trial):
        curves[trial.number] = train(trial, name_of(train, "loss"))["loss"]
        return curves[trial.number][-1]

    study = wt.Study({"rate": (0.01, 0.1)}, seed=0, sampler="random")
    study.optimize(objective, n_trials=2)
    for record in study.trials:
        assert [r.step for r in record.reports] == list(range(1, EPOCHS + 1)), record.error
        assert [r.metrics["value"] for r in record.reports] == pytest.approx(curves[record.number])
        assert record.value == pytest.approx(record.reports[-1].metrics["value"])


@pytest.mark.parametrize("train", KINDS)
def test_training_ends_when_the_trial_is_to_stop(train):
    class AtTwo:
        def decide(self, history, number, report):
            return wt.schedulers.Stop("enough") if report.step == 2 else wt.schedulers.Continue()

    lengths = []

    def objective(trial):
        curve = train(trial, name_of(train, "loss"))["loss"]
        lengths.append(len(curve))
        return curve[-1]

    study = wt.Study({"rate": (0.01, 0.1)}, seed=0, sampler="random", scheduler=AtTwo())
    study.optimize(objective, n_trials=1)
    assert [(t.state, len(t.reports)) for t in study.trials] == [(State.PRUNED, 2)]
    assert lengths == [2]


@pytest.mark.parametrize("train", KINDS)
def test_several_objectives_are_reported_by_name(train):
    reports = []
    wanted = {"right": name_of(train, "accuracy"), "wrong": name_of(train, "loss")}
    curves = train(trial_of(reports), wanted)
    assert [r.metrics["right"] for r in reports] == pytest.approx(curves["accuracy"])
    assert [r.metrics["wrong"] for r in reports] == pytest.approx(curves["loss"])


@pytest.mark.parametrize("train", KINDS)
def test_a_metric_that_is_not_there(train):
    """The first epoch ends with an error, so nothing is reported, and one that would be there later is not met."""
    reports = []
    there, missing = name_of(train, "loss"), name_of(train, "f1")
    with pytest.raises(wt.InvalidValue, match=rf"metric='{missing}' is none.*'{there}'"):
        train(trial_of(reports), {"a": there, "b": missing})
    assert reports == []


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but")
@pytest.mark.parametrize(
    ("train", "advice"),
    [
        (with_keras, r"it has \['accuracy', 'loss'\]; give fit\(\) validation data"),
        (with_lightning, r"it has \['train_loss'\]; log it"),
        (with_transformers, "eval_strategy='epoch'"),
        (with_skorch, r"it has \['train_loss'\]; the network has no train_split"),
    ],
)
def test_a_training_without_validation(train, advice):
    with pytest.raises(wt.InvalidValue, match=advice):
        train(trial_of([]), name_of(train, "loss"), validated=False)


@pytest.mark.parametrize("train", KINDS)
def test_a_training_that_died_goes_on_from_its_checkpoint(train, tmp_path):
    def attempt(reports, folder, die_at=None):
        train(trial_of(reports, die_at, str(tmp_path / folder)), name_of(train, "loss"), kept=True)

    whole, first, second = [], [], []
    attempt(whole, "whole")
    with pytest.raises(Died):
        attempt(first, "kept", die_at=3)
    attempt(second, "kept")
    assert [r.step for r in first] == [1, 2] and [r.step for r in second] == [3, 4]
    assert [r.metrics["value"] for r in first + second] == pytest.approx([r.metrics["value"] for r in whole], rel=1e-5)


@pytest.mark.parametrize("name", ["train", "fit", "train_net", "fit_net", "finetune"])
def test_the_objectives_of_the_documentation_go_on_from_their_checkpoints(name, objectives, tmp_path):
    def attempt(die_at=None):
        reports, size = [], {"batch": 32} if name == "finetune" else {"units": 32}
        trial = trial_of(reports, die_at, str(tmp_path / "kept"), rate=0.01, **size)
        try:
            return objectives[name](trial), reports
        except Died:
            return None, reports

    _, first = attempt(die_at=3)
    value, second = attempt()
    # what ends a training of skorch ends it at once, so an epoch is saved before it is reported
    assert [r.step for r in first] == [1, 2] and second[0].step == (4 if name == "fit_net" else 3)
    assert value == pytest.approx(second[-1].metrics["value"], rel=1e-5)
    losses = [r.metrics["value"] * (-1 if name == "fit" else 1) for r in first[:1] + second[:1]]
    assert losses[0] > losses[1]  # what was learnt is not lost


def test_keras_counts_from_the_initial_epoch():
    assert steps_of(with_keras, "val_loss", initial_epoch=2) == [3, 4]


@pytest.mark.parametrize("frequency", [2, [2, 4]])
def test_keras_need_not_validate_each_epoch(frequency):
    skipping = {"callback": {"validation_freq": frequency}, "validation_freq": frequency}
    assert steps_of(with_keras, "val_loss", **skipping) == [2, 4]
    assert steps_of(with_keras, "loss", **skipping) == [1, 2, 3, 4]  # a training's, which is there in each
    with pytest.raises(wt.InvalidValue, match="the validation_freq that fit"):
        steps_of(with_keras, "val_loss", validation_freq=frequency)
    with pytest.raises(wt.InvalidValue, match=r"'val_f1' is none.*'val_loss'\]$"):
        steps_of(with_keras, "val_f1", **skipping)


@pytest.mark.parametrize("frequency", [0, -1, 0.5, "2", None])
def test_what_is_no_validation_freq(frequency):
    pytest.importorskip("keras")
    with pytest.raises(wt.InvalidType, match="validation_freq="):
        for_keras(trial_of([]), "val_loss", validation_freq=frequency)


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but")
@pytest.mark.parametrize("train", [with_lightning, with_pytorch_lightning])
def test_lightning_need_not_validate_each_epoch(train):
    assert steps_of(train, "val_loss", check_val_every_n_epoch=2) == [2, 4]
    assert steps_of(train, "train_loss", check_val_every_n_epoch=2) == [1, 2, 3, 4]
    never = {"validated": False, "check_val_every_n_epoch": None, "val_check_interval": 1}
    assert steps_of(train, "train_loss", **never) == [1, 2, 3, 4]
    with pytest.raises(wt.InvalidValue, match=r"'val_f1' is none.*'val_loss'"):
        steps_of(train, "val_f1", check_val_every_n_epoch=2)
    by_batches = {"check_val_every_n_epoch": None, "val_check_interval": 2}  # which are an epoch
    assert steps_of(train, "val_loss", **by_batches) == [1, 2, 3, 4]
    # five batches: the third epoch ends before its validation
    assert steps_of(train, "val_loss", max_steps=5) == [1, 2]


@pytest.mark.parametrize(
    "often", [{"val_check_interval": 0.5}, {"val_check_interval": 1, "check_val_every_n_epoch": None}]
)
def test_lightning_may_validate_within_epochs(often):
    """The step is then the trainer's, and the check before the training is no report."""
    assert steps_of(with_lightning, "val_loss", epochs=2, **often) == [1, 2, 3, 4]
    reports = []
    trial = LiveTrial(Task(0, 1, {"rate": 0.05}), lambda _, report: reports.append(report) or report.step == 3)
    assert len(with_lightning(trial, "val_loss", **often)["loss"]) == len(reports) == 3
    with pytest.raises(wt.InvalidValue, match=r"'val_f1' is none.*'val_loss'"):
        steps_of(with_lightning, "val_f1", **often)


def test_transformers_may_evaluate_by_steps():
    often = {"eval_strategy": "steps", "eval_steps": 3}
    assert steps_of(with_transformers, "eval_loss", max_steps=6, **often) == [3, 6]
    assert steps_of(with_transformers, "eval_loss", max_steps=3) == [1, 2]  # the second epoch ends in its midst


def test_transformers_may_evaluate_before_the_training():
    """What has learnt nothing is no report, as with Lightning."""
    assert steps_of(with_transformers, "eval_loss", epochs=2, eval_on_start=True) == [1, 2]
    often = {"eval_strategy": "steps", "eval_steps": 3, "max_steps": 6}
    assert steps_of(with_transformers, "eval_loss", eval_on_start=True, **often) == [3, 6]


def test_transformers_may_evaluate_on_several_sets():
    reports = []
    with_transformers(trial_of(reports), {"one": "eval_a_loss", "two": "eval_b_loss"}, sets=["a", "b", "c"], epochs=2)
    assert [(r.step, set(r.metrics)) for r in reports] == [(1, {"one", "two"}), (2, {"one", "two"})]
    assert steps_of(with_transformers, "eval_a_loss", sets=["a", "b"], epochs=2) == [1, 2]
    for epochs in (1, 2):
        with pytest.raises(wt.InvalidValue, match=r"'eval_loss' is none.*'eval_a_loss'.*'eval_b_loss'"):
            with_transformers(trial_of([]), "eval_loss", sets=["a", "b"], epochs=epochs)


def test_what_transformers_evaluate_outside_of_the_training_is_no_report():
    def evaluate(trainer):
        trainer.evaluate(trainer.train_dataset, metric_key_prefix="test")
        trainer.state.global_step += 100  # a step of its own, which would not be left out as one that was reported
        trainer.evaluate(trainer.train_dataset)

    by_steps = {"eval_strategy": "steps", "eval_steps": 3, "max_steps": 6}
    assert steps_of(with_transformers, "eval_loss", around=evaluate, **by_steps) == [3, 6]


def test_a_network_of_skorch_is_saved_with_its_callbacks():
    """What is loaded reports nothing; what is copied does, a metric whose name ends like one of skorch's own too."""
    skorch, torch = pytest.importorskip("skorch"), pytest.importorskip("torch")
    scoring = skorch.callbacks.EpochScoring("accuracy", name="by_epoch", lower_is_better=False)
    settings = {"criterion": torch.nn.CrossEntropyLoss, "max_epochs": 1, "verbose": 0, "batch_size": 8}

    def fit(change):
        callbacks = [scoring, for_skorch(trial_of(reports := []), "by_epoch")]
        change(skorch.NeuralNetClassifier(torch.nn.Linear(4, 2), callbacks=callbacks, **settings)).fit(
            FIT[0], FIT[1].astype(np.int64)
        )
        return [r.step for r in reports]

    assert fit(copy.deepcopy) == [1]
    assert fit(lambda net: pickle.loads(pickle.dumps(net))) == []


@pytest.mark.parametrize("package", CALLBACKS)
@pytest.mark.parametrize("metric", [None, 3, {}, {"loss": None}, ["val_loss"]])
def test_what_is_no_metric(package, metric):
    pytest.importorskip(package)
    with pytest.raises(wt.InvalidType, match="neither a name"):
        CALLBACKS[package](trial_of([]), metric)


@pytest.mark.parametrize("package", CALLBACKS)
def test_says_what_to_install(package, monkeypatch):
    names = ("keras", "keras.callbacks", "lightning.pytorch", "pytorch_lightning", "transformers", "skorch.callbacks")
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(wt.MissingDependency, match=rf"welltuned\[{package}\]"):
        CALLBACKS[package](trial_of([]), "val_loss")


@pytest.mark.parametrize("name", ["lightning.pytorch", "pytorch_lightning"])
def test_lightning_is_found_under_the_name_that_is_there(name, monkeypatch):
    """Only what is loaded is used, and if nothing is, what can be loaded."""
    ours = SimpleNamespace(Callback=type("Callback", (), {}))
    names = ["lightning.pytorch", "pytorch_lightning"]
    for absent in names:
        monkeypatch.setitem(sys.modules, absent, None)
    with monkeypatch.context() as loaded:
        loaded.setitem(sys.modules, name, ours)
        assert isinstance(for_lightning(trial_of([]), "val_loss"), ours.Callback)
        other = SimpleNamespace(Callback=type("Callback", (), {}))
        loaded.setitem(sys.modules, next(n for n in names if n != name), other)
        callback = for_lightning(trial_of([]), "val_loss")
        assert isinstance(callback, ours.Callback) and isinstance(callback, other.Callback)
    importing = importlib.import_module
    there = {name: ours}
    monkeypatch.setattr(importlib, "import_module", lambda n, *rest: there.get(n) or importing(n, *rest))
    assert isinstance(for_lightning(trial_of([]), "val_loss"), ours.Callback)
