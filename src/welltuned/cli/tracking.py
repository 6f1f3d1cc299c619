"""A study for those who look at their runs elsewhere: ``track``."""

from __future__ import annotations

import click

from welltuned.cli.common import find_study, storage_option
from welltuned.errors import InvalidValue
from welltuned.trackers import to_mlflow, to_tensorboard, to_wandb


@click.command()
@click.argument("study")
@click.option("--mlflow", metavar="ADDRESS", default=None, help="A server or a database of MLflow's.")
@click.option("--wandb", metavar="PROJECT", default=None, help="A project of Weights & Biases.")
@click.option("--tensorboard", metavar="FOLDER", default=None, help="What tensorboard --logdir is given.")
@storage_option
def track(study: str, mlflow: str | None, wandb: str | None, tensorboard: str | None, storage: str) -> None:
    """Write the trials of a study to MLflow, Weights & Biases or TensorBoard: those that are not there yet.

    STUDY is a name, or file:name. It may run meanwhile; the same command again writes what has ended since.
    """
    trackers = [
        *([] if mlflow is None else [to_mlflow(tracking_uri=mlflow)]),
        *([] if wandb is None else [to_wandb(wandb)]),
        *([] if tensorboard is None else [to_tensorboard(tensorboard)]),
    ]
    if not trackers:
        raise InvalidValue("track: nothing says where to; give --mlflow, --wandb or --tensorboard")
    found = find_study(study, storage)
    ended = sum(t.state.resting for t in found.trials)
    for tracker in trackers:
        click.echo(f"{tracker.where}: {tracker.all(found)} trials written, {ended} there")
