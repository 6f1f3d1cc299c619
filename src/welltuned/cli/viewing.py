"""Looking at studies: ``list``, ``show``, ``best``, ``report``, ``export``."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import click

from welltuned.cli.common import (
    console,
    echo_json,
    existing_storage,
    find_study,
    json_option,
    number,
    print_best,
    print_trials,
    storage_option,
    trial_json,
)
from welltuned.errors import InvalidValue, StorageError, WelltunedError
from welltuned.samplers import describe_sampler
from welltuned.schedulers import describe_scheduler
from welltuned.stats import SPOKEN_OF, importance, interactions
from welltuned.storage import Storage, StudyRow
from welltuned.study import Study, stored_study
from welltuned.study.notes import in_words, notes_of
from welltuned.study.progress import duration
from welltuned.study.table import rows
from welltuned.trial import State

SHOWN = 20
PAIRS = 3  # of parameters, whose interaction is named


@click.command("list")
@storage_option
@json_option
def list_studies(storage: str, as_json: bool) -> None:
    """List the studies of a storage."""
    from rich.table import Table

    store = existing_storage(storage)
    found = [(row, _opened(store, row)) for row in store.studies()]
    if as_json:
        echo_json(
            [
                _summary(study, notes_of(row))
                if isinstance(study, Study)
                else {"name": row.name, "directions": dict(row.directions), "error": study}
                for row, study in found
            ]
        )
        return
    table = Table(
        "study",
        "objectives",
        "trials",
        "failed",
        "best",
        "stopped because",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    for row, study in found:
        if isinstance(study, str):
            table.add_row(row.name, _directions(row), "–", "–", "–", study)
            continue
        seen = study.history
        failed = sum(t.state is State.FAILED for t in seen.trials)
        best = number(seen.best.value) if len(seen.directions) == 1 and seen.best else "–"
        table.add_row(study.name, _directions(study), str(len(seen)), str(failed), best, study.stop_reason or "–")
    console().print(table)


def _opened(store: Storage, row: StudyRow) -> Study | str:
    """Return a study with all its trials read; or why it cannot be read, which hides no other one."""
    try:
        study = stored_study(store, row)
        _ = study.history
    except WelltunedError as error:
        return str(error)
    return study


def _directions(study: Study | StudyRow) -> str:
    return ", ".join(d if n == "value" else f"{d} {n}" for n, d in study.directions.items())


def _summary(study: Study, notes: dict[str, Any]) -> dict[str, Any]:
    seen = study.history
    single = len(seen.directions) == 1
    return {
        "name": study.name,
        "directions": dict(study.directions),
        "seed": study.seed,
        "stop_reason": study.stop_reason,
        "notes": notes,
        "states": {s.value: sum(t.state is s for t in seen.trials) for s in State},
        "best": trial_json(seen.best) if single and seen.best else None,
        "front": None if single else [trial_json(t) for t in seen.front],
    }


@click.command()
@click.argument("study", required=False)
@click.option(
    "--trials",
    "n",
    type=click.IntRange(min=0),
    default=SHOWN,
    show_default=True,
    help="How many of the last trials to list.",
)
@storage_option
@json_option
def show(study: str | None, n: int, storage: str, as_json: bool) -> None:
    """Show a study: its space, its best, what mattered, its last trials.

    STUDY is a name, a file, or file:name; without it, the only study of the storage.
    """
    found = find_study(study, storage)
    seen, notes = found.history, found.notes
    if as_json:
        echo_json(
            {
                **_summary(found, notes),
                "sampler": describe_sampler(found.sampler),
                "scheduler": describe_scheduler(found.scheduler),
                "space": found.space.to_json() if found.has_space else None,
                "importance": importance(seen),
                "interactions": [{"parameters": pair, "share": share} for pair, share in interactions(seen).items()],
                "trials": [trial_json(t) for t in seen.trials],
            }
        )
        return
    out = console()
    seconds = sum(t.seconds or 0.0 for t in seen.trials)
    out.print(
        f"{found.name}  {_directions(found)}, {len(seen)} trials, {duration(seconds)} of evaluation, seed {found.seed}",
        style="bold",
    )
    judge = "no scheduler" if found.scheduler is None else f"scheduler {_settings(describe_scheduler(found.scheduler))}"
    out.print(f"sampler {_settings(describe_sampler(found.sampler))}, {judge}")
    out.print(f"stopped because: {found.stop_reason or '–'}")
    if notes:
        out.print(f"notes: {in_words(notes)}", markup=False)
    out.print()
    _print_space(found, importance(seen), interactions(seen))
    print_trials(found, list(seen.trials)[len(seen) - min(n, len(seen)) :])
    if len(seen.directions) > 1 and seen.front:
        out.print("Pareto front:", style="bold")
        print_trials(found, list(seen.front))
    elif len(seen.directions) == 1 and seen.best:
        print_best(found, seen.best)


def _settings(described: dict[str, Any]) -> str:
    """Return the name of a sampler or a scheduler with its settings."""
    settings = " ".join(f"{name}={value}" for name, value in described.items() if name != "name" and value is not None)
    return f"{described['name']} ({settings})" if settings else str(described["name"])


def _print_space(study: Study, mattered: dict[str, float], together: dict[tuple[str, str], float]) -> None:
    from rich.table import Table

    if not study.has_space:
        return
    table = Table("parameter", "range", "matters", box=None, pad_edge=False, header_style="bold")
    for name, parameter in study.space.items():
        share = mattered.get(name)
        table.add_row(name, repr(parameter), "–" if share is None else f"{share:.0%}")
    console().print(table)
    if mattered:
        objective = f" of {study.objectives[0]}" if len(study.objectives) > 1 else ""
        console().print(f"matters: the share of the variance{objective} that involves it, interactions included")
        spoken_of = [f"{a} × {b} {share:.0%}" for (a, b), share in together.items() if share >= SPOKEN_OF]
        if spoken_of:
            console().print(f"of that, two together: {', '.join(spoken_of[:PAIRS])}")
    console().print()


@click.command()
@click.argument("study", required=False)
@storage_option
@json_option
def best(study: str | None, storage: str, as_json: bool) -> None:
    """Print the best setting (the Pareto front, where there are several objectives)."""
    found = find_study(study, storage)
    if len(found.directions) > 1:
        front = found.best_trials
        echo_json([trial_json(t) for t in front]) if as_json else print_trials(found, list(front))
        return
    trial = found.best
    echo_json(trial_json(trial)) if as_json else print_best(found, trial)


@click.command()
@click.argument("studies", nargs=-1)
@click.option("-o", "--output", default=None, help="File to write; STUDY.html unless given, or ONE-TWO.html.")
@storage_option
def report(studies: tuple[str, ...], output: str | None, storage: str) -> None:
    """Write one self-contained HTML report of a study, or of several side by side."""
    from welltuned.report import write_report

    found = [find_study(study, storage) for study in studies or (None,)]
    path = write_report(found, f"{'-'.join(s.name for s in found)}.html" if output is None else output)
    click.echo(f"wrote {path}")


@click.command()
@click.argument("study", required=False)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["csv", "json"]),
    default=None,
    help="csv, or what the ending of the file says, unless given.",
)
@click.option("-o", "--output", default=None, help="File to write; standard output unless given.")
@storage_option
def export(study: str | None, kind: str | None, output: str | None, storage: str) -> None:
    """Write all trials as CSV or JSON."""
    kind = kind or _format_of(output)
    found = find_study(study, storage)
    trials = found.trials
    if kind == "json":
        import json

        text = json.dumps([trial_json(t) for t in trials], indent=2, default=str) + "\n"
    else:
        names = list(dict.fromkeys(n for t in trials for n in t.params or {}))
        text = _csv(rows(trials, names))
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write to {output!r}: {error.strerror or error}") from error
    click.echo(f"wrote {output}")


def _format_of(output: str | None) -> str:
    """Return the format that the ending of a file stands for."""
    ending = "" if output is None else Path(output).suffix.lower()
    if ending in ("", ".csv", ".txt", ".json"):
        return "json" if ending == ".json" else "csv"
    raise InvalidValue(
        f"--output {output!r}: formats are csv and json; end the name in .csv or .json, or say --format; pandas writes "
        "others, from study.to_frame()"
    )


def _csv(table: list[dict[str, Any]]) -> str:
    if not table:
        raise InvalidValue("the study has no trials to export")
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(k for row in table for k in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return out.getvalue()
