"""Neural networks that report to a trial as they train and stop with it: Keras, Lightning, transformers, skorch."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Collection, Mapping
from typing import Any

from welltuned.errors import InvalidType, InvalidValue, require
from welltuned.live import LiveTrial
from welltuned.relay import Relay

# what is no metric in its history
SKORCH_OWN = frozenset(("batches", "epoch", "dur", "train_batch_count", "valid_batch_count"))


def for_keras(trial: LiveTrial, metric: str | Mapping[str, str], *, validation_freq: int | Collection[int] = 1) -> Any:
    """Return a callback for the ``fit`` of a Keras 3 model, with any backend.

    Each epoch is a report, whose step is the number of epochs so far: with ``initial_epoch=5``, or after
    ``keras.callbacks.BackupAndRestore`` has restored five epochs, the first one is 6.

    Parameters
    ----------
    trial
        What the objective received.
    metric
        The name of a metric as Keras prints it: ``"val_accuracy"``. With several objectives a dict of them, by
        objective. It has to be what the objective returns, or at least better where that is.
    validation_freq
        What ``fit`` is given under this name: in which epochs there is a validation. The others are no reports when
        ``metric`` is a validation's.

    Raises
    ------
    InvalidType
        When ``metric`` or ``validation_freq`` is something else.
    InvalidValue
        In the first epoch that is validated, when there is no such metric; the message names those that are there.
    MissingDependency
        When Keras is not installed.

    Examples
    --------
    ::

        def objective(trial):
            model = build(trial["units"])
            callbacks = [for_keras(trial, "val_accuracy")]
            fitted = model.fit(X, y, epochs=20, validation_data=(X_valid, y_valid), callbacks=callbacks, verbose=0)
            return fitted.history["val_accuracy"][-1]
    """
    try:
        from keras.callbacks import Callback
    except ImportError as error:
        raise require("keras", "keras", "for_keras()") from error

    class Report(Callback):
        """Reports each epoch; training ends when the trial is to stop."""

        def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
            values, step = dict(logs or {}), epoch + 1
            if not relay.found_in(values) and not _is_due(step, validation_freq):
                return
            validated = any(name.startswith("val_") for name in values)
            advice = "give fit() validation data, and for_keras() the validation_freq that fit() has"
            if relay(values, step, "" if validated else advice):
                self.model.stop_training = True

    relay = Relay(trial, metric)
    _is_due(1, validation_freq)
    return Report()


def _is_due(step: int, frequency: int | Collection[int]) -> bool:
    """Tell whether an epoch, counted from 1, is validated, by Keras's ``validation_freq``."""
    if isinstance(frequency, int) and frequency > 0:
        return step % frequency == 0
    if isinstance(frequency, Collection) and not isinstance(frequency, (str, bytes)):
        return step in frequency
    raise InvalidType(
        f"validation_freq={frequency!r} is neither a number of epochs nor a list of them, as fit() has it"
    )


def for_lightning(trial: LiveTrial, metric: str | Mapping[str, str]) -> Any:
    """Return a callback for the ``Trainer`` of PyTorch Lightning, of ``lightning.pytorch`` or ``pytorch_lightning``.

    Each epoch in which the metric was logged is a report, whose step is the number of epochs so far, those from before
    a checkpoint included. Where a trainer validates within epochs (``val_check_interval``), each validation is a
    report, and its step is the trainer's ``global_step``. The validation before training, which checks that all is in
    order, is none.

    Parameters
    ----------
    trial
        What the objective received.
    metric
        The name under which the module logs a metric: ``"val_loss"``. With several objectives a dict of them, by
        objective. It has to be what the objective returns, or at least better where that is. What is logged in
        ``on_train_epoch_end`` comes too late for callbacks; log it in ``training_step`` with ``on_epoch=True``.

    Raises
    ------
    InvalidType
        When ``metric`` is something else.
    InvalidValue
        In the first epoch that is validated, when there is no such metric; the message names those that are there.
    MissingDependency
        When Lightning is not installed.

    Examples
    --------
    ::

        def objective(trial):
            trainer = lightning.Trainer(max_epochs=20, callbacks=[for_lightning(trial, "val_loss")])
            trainer.fit(Net(trial["units"]), train_loader, valid_loader)
            return trainer.callback_metrics["val_loss"].item()
    """
    relay = Relay(trial, metric)

    class Report:
        """Reports each epoch, or each validation; training ends when the trial is to stop."""

        before: Mapping[str, Any] = {}

        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:  # noqa: ARG002 - Lightning's hook
            self.before = dict(trainer.callback_metrics)

        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:  # noqa: ARG002
            if _validates_within_epochs(trainer):
                return
            step, logged = trainer.current_epoch + 1, trainer.callback_metrics
            # what was not logged in this epoch is still there from an earlier one, as the same object
            is_new = all(logged.get(name) is not self.before.get(name) for name in relay.names)
            # what is not there at all may come with the first validation
            is_due = is_new if relay.found_in(logged) else step % (trainer.check_val_every_n_epoch or 1) == 0
            if is_due:
                self.tell(trainer, logged, step)

        def on_validation_end(self, trainer: Any, module: Any) -> None:  # noqa: ARG002
            if not trainer.sanity_checking and _validates_within_epochs(trainer):
                self.tell(trainer, trainer.callback_metrics, trainer.global_step)

        def tell(self, trainer: Any, values: Mapping[str, Any], step: int) -> None:
            if relay(values, step, "log it by self.log() in validation_step() or training_step()"):
                trainer.should_stop = True

    return type("Report", (Report, *_lightning_callbacks()), {})()


def _validates_within_epochs(trainer: Any) -> bool:
    at_the_end = (trainer.num_training_batches, math.inf)  # infinite where the number of batches is not known
    return bool(trainer.enable_validation) and trainer.val_check_batch not in at_the_end


def _lightning_callbacks() -> list[Any]:
    """Return the classes to inherit from: Lightning is there under two names, whose classes are not the same.

    Whoever has a trainer has loaded its package, and to load the other one takes seconds. With both loaded, a callback
    is one of either.
    """
    names = ("lightning.pytorch", "pytorch_lightning")
    if loaded := [sys.modules[name] for name in names if sys.modules.get(name) is not None]:
        return [module.Callback for module in loaded]
    for name in names:
        try:
            return [importlib.import_module(name).Callback]
        except ImportError as error:
            missing = error
    raise require("lightning", "lightning", "for_lightning()") from missing


def for_transformers(trial: LiveTrial, metric: str | Mapping[str, str]) -> Any:
    """Return a callback for the ``Trainer`` of Hugging Face transformers and those derived from it.

    Each evaluation during the training is a report; that before it (``eval_on_start``) is none. The step is the number
    of epochs so far, rounded up, where ``TrainingArguments`` has ``eval_strategy="epoch"``, and the trainer's
    ``global_step`` otherwise; both count what came before a checkpoint.

    Parameters
    ----------
    trial
        What the objective received.
    metric
        The name of a metric as the trainer logs it: ``"eval_loss"``, with evaluation sets in a dict
        ``"eval_NAME_loss"``. With several objectives a dict of them, by objective. It has to be what the objective
        returns, or at least better where that is.

    Raises
    ------
    InvalidType
        When ``metric`` is something else.
    InvalidValue
        When the training begins and is to have no evaluations, or after the first one, when there is no such metric;
        the message names those that are there.
    MissingDependency
        When transformers is not installed.

    Examples
    --------
    ::

        def objective(trial):
            arguments = TrainingArguments(folder, learning_rate=trial["rate"], eval_strategy="epoch")
            callbacks = [for_transformers(trial, "eval_loss")]
            trainer = Trainer(model, arguments, train_dataset=data, eval_dataset=valid, callbacks=callbacks)
            trainer.train()
            return trainer.evaluate()["eval_loss"]
    """
    try:
        from transformers import TrainerCallback
    except ImportError as error:
        raise require("transformers", "transformers", "for_transformers()") from error

    class Report(TrainerCallback):
        """Reports each evaluation; training ends when the trial is to stop."""

        training = False
        values: dict[str, Any]  # of this step: each set of an evaluation comes by itself

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 - their hook
            if args.eval_strategy == "no":
                raise InvalidValue(
                    f"metric={metric!r} is never there, since the training has no evaluations: give TrainingArguments "
                    "eval_strategy='epoch', and the trainer an eval_dataset"
                )
            self.training, self.values = True, {}

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Mapping[str, Any], **_: Any) -> None:
            # the objective may evaluate on other data after the training, and eval_on_start does before it
            if not self.training or not state.global_step or relay.found_in(self.values):
                return
            self.values.update(metrics)
            if relay.found_in(self.values) and relay(self.values, _step_of(args, state)):
                control.should_training_stop = True

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            if self.values and not relay.found_in(self.values):  # and no more sets to come
                relay(self.values, _step_of(args, state))
            self.values = {}

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.on_step_begin(args, state, control)
            self.training = False

    relay = Relay(trial, metric)
    return Report()


def _step_of(args: Any, state: Any) -> int:
    # epochs are sums of fractions
    return math.ceil(round(state.epoch, 3)) if args.eval_strategy == "epoch" else int(state.global_step)


def for_skorch(trial: LiveTrial, metric: str | Mapping[str, str]) -> Any:
    """Return a callback for the networks of skorch.

    Each epoch is a report, whose step is skorch's number of the epoch: those from before a checkpoint count, if its
    history was loaded. A network that is pickled has lost its trial: what is loaded again reports nothing.

    Parameters
    ----------
    trial
        What the objective received.
    metric
        The name of a column of the network's history: ``"valid_loss"``. With several objectives a dict of them, by
        objective. It has to be what the objective returns, or at least better where that is. A scoring of your own
        has to come before this one in the list of callbacks.

    Raises
    ------
    InvalidType
        When ``metric`` is something else.
    InvalidValue
        In the first epoch, when there is no such column; the message names those that are there.
    MissingDependency
        When skorch is not installed.

    Examples
    --------
    ::

        def objective(trial):
            net = NeuralNetClassifier(Net, lr=trial["rate"], callbacks=[for_skorch(trial, "valid_loss")], verbose=0)
            net.fit(X, y)
            return net.history[-1, "valid_loss"]
    """
    try:
        from skorch.callbacks import Callback
    except ImportError as error:
        raise require("skorch", "skorch", "for_skorch()") from error

    class Report(Callback):
        """Reports each epoch; training ends when the trial is to stop."""

        def on_epoch_end(self, net: Any, **_: Any) -> None:
            row = net.history[-1]
            known = {name: row[name] for name in row if name not in SKORCH_OWN and not name.endswith("_best")}
            if relay(known, row["epoch"], "" if "valid_loss" in known else "the network has no train_split"):
                raise KeyboardInterrupt  # skorch ends a training so, its own early stopping too

        def __deepcopy__(self, memo: Any) -> Any:
            return self

        def __reduce__(self) -> Any:
            return Callback, ()  # callbacks are part of a network, which is saved by pickling it

    relay = Relay(trial, metric)
    return Report()
