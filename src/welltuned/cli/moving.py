"""Studies that come and go: ``import``, ``delete``."""

from __future__ import annotations

import sys

import click

from welltuned.cli.common import existing_storage, split_study, storage_option
from welltuned.errors import DamagedStorage, InvalidValue
from welltuned.storage import Storage, StudyRow
from welltuned.storage.masking import masked
from welltuned.study import delete_stored, from_optuna, stored_row
from welltuned.study.optuna import optuna_study
from welltuned.study.progress import is_terminal
from welltuned.trial import Origin, State


@click.command("import")
@click.argument("source")
@click.option("--study", default=None, help="Which study of SOURCE; the only one unless given.")
@click.option("--name", default=None, help="Name of the study that it becomes; as in SOURCE unless given.")
@storage_option
def import_study(source: str, study: str | None, name: str | None, storage: str) -> None:
    """Take over a study of Optuna's from SOURCE: a file, or the address that its storage= names.

    SOURCE is only read. The same command again adds the trials that are new.
    """
    with optuna_study(source, study) as found:
        taken = from_optuna(found, storage=storage, name=name)
    trials = [trial for trial in taken.trials if trial.origin is Origin.ADDED]
    states = ", ".join(f"{sum(t.state is s for t in trials)} {s.value}" for s in State if s.finished)
    click.echo(f"study {taken.name!r} has {len(trials)} trials from elsewhere: {states}")
    click.echo(f"go on with Study(storage={masked(storage)!r}, name={taken.name!r})")


@click.command()
@click.argument("study")
@click.option("--yes", is_flag=True, help="Do not ask.")
@storage_option
def delete(study: str, yes: bool, storage: str) -> None:
    """Delete a study with all its trials, for good.

    STUDY is a name, or file:name. Workers that are at it end with an error, and what they find is not stored.
    """
    where, name = split_study(study, storage)
    if name is None:
        raise InvalidValue(f"{study!r} names no study; write {study}:NAME")
    store = existing_storage(where)
    row = stored_row(store, name, where)
    if not yes and not _agreed(store, row):
        click.echo("nothing is deleted")
        return
    trials = delete_stored(store, row)
    click.echo(f"deleted study {name!r} with {trials} trials")


def on_terminal() -> bool:
    """Tell whether there is somebody to ask."""
    return is_terminal(sys.stdin)


def _agreed(store: Storage, row: StudyRow) -> bool:
    """Ask on the terminal, where there is one."""
    if not on_terminal():
        raise InvalidValue(f"study {row.name!r} would be deleted; there is no terminal to ask on, give --yes")
    try:
        trials = f"{len(store.read(row.id).trials)} trials"
    except DamagedStorage:  # it can be deleted all the same
        trials = "all its trials, of which some are damaged"
    running = len(store.running(row.id))
    under_way = f", {running} of which are being evaluated now" if running else ""
    try:
        return click.confirm(f"delete study {row.name!r} with {trials}{under_way}, for good?")
    except click.Abort:  # Ctrl-C, or the end of what is typed
        click.echo()
        return False
