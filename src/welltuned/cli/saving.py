"""Saving what a damaged file still holds."""

from __future__ import annotations

from pathlib import Path

import click

from welltuned.cli.common import console


@click.command()
@click.argument("damaged", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("rescued", metavar="NEW_FILE", type=click.Path(path_type=Path))
def salvage(damaged: Path, rescued: Path) -> None:
    """Save what can be read of a damaged FILE of studies into NEW_FILE. FILE is left as it is."""
    from welltuned.storage.salvage import salvage as save

    out = console()
    for study in save(damaged, rescued):
        paused = study.others - len(study.reset)
        told = f", and {paused} paused ones" if paused else ""
        out.print(f"{study.name}: {study.finished} finished trials saved{told}", style="bold")
        if study.reset:
            out.print(f"  to be evaluated again, since their results were lost or not there yet: {_short(study.reset)}")
        if study.missing:
            out.print(f"  not there any more: {_short(study.missing)}")
    out.print(f"wrote {rescued}; go on with --storage {rescued}")


def _short(numbers: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, numbers[:20]))
    return shown if len(numbers) <= 20 else f"{shown}, … ({len(numbers)} in all)"
