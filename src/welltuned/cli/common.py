"""What several commands share: naming a study, opening it, printing."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from welltuned.errors import InvalidValue
from welltuned.plots import show as short
from welltuned.space import Space
from welltuned.storage import Storage, open_existing
from welltuned.storage.masking import masked
from welltuned.study import Study, stored_row, stored_study
from welltuned.study.progress import is_terminal
from welltuned.study.table import rows
from welltuned.trial import Trial

DEFAULT_STORAGE = "welltuned.db"
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def storage_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--storage``."""
    return click.option(
        "--storage",
        envvar="WELLTUNED_STORAGE",
        default=DEFAULT_STORAGE,
        show_default=True,
        help="File (or address) that keeps the studies.",
    )(command)


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def existing_storage(storage: str) -> Storage:
    """Open a storage that must be there already."""
    return open_existing(storage, "--storage")


def split_study(study: str | None, storage: str) -> tuple[str, str | None]:
    """Read STUDY, which is a name, a file, or ``file:name``; return the storage and the name."""
    if study is None:
        return storage, None
    for at in (i for i, c in enumerate(study) if c == ":"):
        if Path(study[:at]).is_file():
            return study[:at], study[at + 1 :]
    path, separator, name = study.rpartition(":")
    if (
        separator
        and path
        and not path.endswith(("/", "sqlite", "postgresql"))
        and (Path(path).exists() or path.endswith(".db"))
    ):
        return path, name
    if Path(study).is_file() or study.endswith(".db"):
        return study, None
    return storage, study


def find_study(study: str | None, storage: str, space: Space | None = None, **options: Any) -> Study:
    """Open an existing study; without a name, the only one there is. A ``space`` must be the one it has.

    The options are further arguments of :class:`welltuned.Study`.
    """
    where, name = split_study(study, storage)
    store = existing_storage(where)
    if name is None:
        known = sorted(row.name for row in store.studies())
        if len(known) != 1:
            raise InvalidValue(f"{masked(where)} holds {len(known)} studies: {known!r}; name one of them")
        name = known[0]
    row = stored_row(store, name, where)
    if space is not None and row.spaces and row.spaces[-1] != space.to_json():
        raise InvalidValue(
            f"study {name!r} has another space than the file: {_difference(row.spaces[-1], space.to_json())}; "
            "a worker does not change the space, `welltuned run` does"
        )
    return stored_study(store, row, space, **options)


def _difference(stored: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Say in which parameters two spaces differ."""
    one, two = stored.get("parameters", {}), given.get("parameters", {})
    if not isinstance(one, Mapping) or not isinstance(two, Mapping):
        return "its parameters differ"
    names = [name for name in {**one, **two} if one.get(name) != two.get(name)]
    return f"{names!r} differ" if names else "conditions or constraints differ"


def trial_json(trial: Trial) -> dict[str, Any]:
    """Return a trial as JSON can hold it."""
    body = rows([trial], [])[0]
    return {**body, "params": {k: plain(v) for k, v in (trial.params or {}).items()}}


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)


def echo_json(body: Any) -> None:
    """Print JSON."""
    click.echo(json.dumps(body, indent=2, default=str, allow_nan=False))


def console() -> Any:
    """Return a console on standard output that leaves pipes alone."""
    from rich.console import Console

    columns = os.environ.get("COLUMNS", "")
    width = None if is_terminal(sys.stdout) else (int(columns) if columns.isdecimal() else 0) or 200
    # names and values may hold brackets, which are not markup
    return Console(highlight=False, markup=False, emoji=False, width=width)


def number(value: float | None) -> str:
    """Write a value in a table."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.6g}"


def print_trials(study: Study, trials: Sequence[Trial]) -> None:
    """Print trials as a table."""
    from rich.table import Table

    if not trials:
        return
    bred = any(t.parent is not None for t in trials)
    names = ["trial", "state", *study.objectives, "seconds", *(["goes on from"] if bred else []), "parameters"]
    table = Table(*names, box=None, pad_edge=False, header_style="bold")
    for t in trials:
        why = f"  {t.reason.value}: {t.error}" if t.reason else ""
        table.add_row(
            str(t.number),
            t.state.value,
            *(number(t.metrics.get(o)) for o in study.objectives),
            number(t.seconds),
            *([t.source] if bred else []),
            _setting(t) + why,
        )
    console().print(table)
    console().print()


def print_best(study: Study, trial: Trial) -> None:
    """Print the best value, which way is better, the setting, and where the trial has kept files, if anywhere."""
    out, (name, direction) = console(), next(iter(study.directions.items()))
    out.print(f"best {name} {number(trial.value)} ({direction}d), trial {trial.number}{trial.descent}:", style="bold")
    for name, value in (trial.params or {}).items():
        out.print(f"  {name} = {value!r}" if isinstance(value, float) else f"  {name} = {short(value)}")
    if trial.parent is not None:
        out.print("it was trained with", style="bold")
        for one in study.lineage(trial.number):
            out.print(f"  {_setting(one)} from step {one.inherited or 0} on (trial {one.number})")
    folder = study.coordinator.folder(trial.number)
    if folder is not None and folder.is_dir():
        out.print(f"files: {folder}", soft_wrap=True)


def _setting(trial: Trial) -> str:
    """Return the parameters of a trial in one line."""
    return " ".join(f"{name}={short(value)}" for name, value in (trial.params or {}).items())
