"""Trials as runs of an experiment tracker: MLflow, Weights & Biases, TensorBoard.

Each function returns a :class:`Tracker`, for ``study.optimize(…, callbacks=[tracker])``, or for ``tracker.all(study)``
after the fact.
"""

from welltuned.trackers.mlflow import to_mlflow
from welltuned.trackers.run import Run, Subject
from welltuned.trackers.tensorboard import to_tensorboard
from welltuned.trackers.tracker import Sink, Tracker
from welltuned.trackers.wandb import to_wandb

__all__ = ["Run", "Sink", "Subject", "Tracker", "to_mlflow", "to_tensorboard", "to_wandb"]
