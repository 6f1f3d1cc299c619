"""Searching from the command line: a Python function (``run``), or any program (``tune``)."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import cloudpickle

from welltuned.cli.common import (
    console,
    echo_json,
    find_study,
    json_option,
    print_best,
    print_trials,
    storage_option,
    trial_json,
)
from welltuned.cli.program import Program
from welltuned.errors import InvalidType, InvalidValue
from welltuned.executors import check_workers
from welltuned.samplers import SAMPLERS, Grid
from welltuned.samplers.novel import size
from welltuned.schedulers import NONE, SCHEDULERS
from welltuned.space import Space
from welltuned.study import MaxCost, Patience, Study, Target
from welltuned.study.checks import DIRECTIONS, check_count, check_timeout
from welltuned.trial import State

#: metrics that a program's name for them tells the direction of
MORE_IS_BETTER = ("acc", "accuracy", "auc", "auroc", "roc_auc", "f1", "f1_score", "precision", "recall", "r2", "iou")


def _with(command: Callable[..., Any], options: Sequence[Callable[..., Any]]) -> Callable[..., Any]:
    """Add options to a command, in the order in which its help lists them."""
    for option in reversed(options):
        command = option(command)
    return command


def report_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options about trainings that report."""
    return _with(
        command,
        (
            click.option(
                "--scheduler",
                type=click.Choice([*sorted(SCHEDULERS), NONE]),
                default=None,
                help="Stop or pause trials that report badly; unless given, as the study has it, 'none' for a new one.",
            ),
            click.option(
                "--checkpoints", metavar="FOLDER", default=None, help="Where trials keep theirs; beside a storage file."
            ),
        ),
    )


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that bound one trial."""
    return _with(
        command,
        (
            click.option("--trial-timeout", type=float, default=None, help="Seconds after which a trial is killed."),
            click.option("--memory-limit", default=None, help="Memory beyond which a trial is killed, such as 2GB."),
            click.option("--gpus", type=float, default=None, help="GPUs that a trial needs; 0.5 shares one."),
        ),
    )


def limits(options: dict[str, Any]) -> dict[str, Any]:
    """Return the limits of a trial that the options name, as ``optimize`` takes them."""
    return {
        "trial_timeout": options["trial_timeout"],
        "memory_limit": options["memory_limit"],
        "resources": None if options["gpus"] is None else {"gpu": options["gpus"]},
    }


def search_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that ``run`` and ``tune`` share."""
    return _with(
        command,
        (
            click.option("-n", "--n-trials", type=int, default=None, help="Trials in all, restarts included."),
            click.option("--timeout", type=float, default=None, help="Seconds after which no trial is started."),
            click.option(
                "--workers", type=int, default=1, show_default=True, help="Trials side by side; -1 for one per core."
            ),
            click.option(
                "--sampler",
                type=click.Choice(sorted(SAMPLERS)),
                default=None,
                help="How to search; unless given, as the study was begun, 'auto' for a new one.",
            ),
            click.option(
                "--direction",
                multiple=True,
                metavar="[NAME=]minimize|maximize",
                help="Which values are better: minimize unless given. Once per objective, with its name, for several.",
            ),
            click.option("--seed", type=int, default=None, help="Makes the search repeatable."),
            click.option("--patience", type=int, default=None, help="Stop after so many trials without improvement."),
            click.option("--target", type=float, default=None, help="Stop when this value is reached."),
            click.option(
                "--max-cost", type=float, default=None, help="Stop when the trials took so many seconds in all."
            ),
            click.option("--name", default=None, help="Name of the study; that of what is tuned unless given."),
            report_options,
            limit_options,
            storage_option,
            json_option,
        ),
    )


@click.command()
@click.argument("where", metavar="FILE:OBJECTIVE")
@click.option(
    "--space",
    "space",
    default=None,
    help="YAML or JSON file, or FILE:NAME in Python; the name `space` in FILE unless given.",
)
@search_options
def run(where: str, space: str | None, **options: Any) -> None:
    """Tune a Python function: FILE:OBJECTIVE, such as train.py:objective.

    The function takes one trial, a mapping of the parameters, and returns the value to minimise (or maximise), or a
    dict of several. The same command again goes on where it stopped.
    """
    path, objective = _load(where, "FILE:OBJECTIVE")
    if not callable(objective):
        raise InvalidType(f"{where} is {objective!r}, not a function")
    directions = _directions(options["direction"], "value")
    name = f"{path.stem}-{where.rpartition(':')[2]}"
    _search(objective, _space(space, path), options, directions, default_name=name)


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--space", "space", required=True, help="YAML or JSON file, or FILE:NAME in Python.")
@click.option("--metric", default="value", show_default=True, help="Name of the metric that the program prints.")
@click.option("--step", default=None, metavar="NAME", help="What such a line calls its step; counted unless given.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@search_options
def tune(space: str, metric: str, step: str | None, command: tuple[str, ...], **options: Any) -> None:
    """Tune any program: welltuned tune --space space.yaml --metric accuracy -- python train.py --lr {lr}

    Each {name} becomes the value of that parameter; {params} becomes all of them as JSON, {checkpoint} a folder of the
    trial's own. An argument whose parameter is not active is left out together with the flag before it. The program
    prints its result as a line of JSON that holds the metric, or as a line metric=value; the last one counts, and each
    is a report for --scheduler. An exit code other than 0 is a failed trial. Several metrics: --direction loss=minimize
    --direction speed=maximize.
    """
    parsed = _space(space, None)
    assert parsed is not None
    directions = _directions(options["direction"], metric)
    if not options["direction"] and metric.lower().strip("_") in MORE_IS_BETTER:
        click.echo(f"{metric} is minimized; if more is better, give --direction maximize and another --name", err=True)
    _search(
        Program(tuple(command), tuple(directions), tuple(parsed), step),
        parsed,
        options,
        directions,
        default_name=Path(
            command[-1] if len(command) == 1 else next((c for c in command[1:] if not c.startswith("-")), command[0])
        ).stem,
    )


@click.command()
@click.argument("study")
@click.argument("where", metavar="FILE:OBJECTIVE")
@click.option("-n", "--n-trials", type=int, default=None, help="Trials in all; as the study has it unless given.")
@click.option("--timeout", type=float, default=None, help="Seconds after which no trial is started.")
@click.option("--workers", type=int, default=1, show_default=True, help="Trials side by side; -1 for one per core.")
@report_options
@limit_options
@storage_option
def worker(study: str, where: str, storage: str, **options: Any) -> None:
    """Help with a study that exists: evaluate FILE:OBJECTIVE until all its trials are done.

    Start as many of these as you like, on any machine that reaches the storage. None of them is in charge: each claims
    the next trial, and what a dead one leaves behind is taken over. Reports are judged as the study has it; another
    --scheduler is stored with the study, for those that join later.
    """
    wanted = check_count("--n-trials", options["n_trials"])
    path, objective = _load(where, "FILE:OBJECTIVE")
    if not callable(objective):
        raise InvalidType(f"{where} is {objective!r}, not a function")
    trains = {name: options[name] for name in ("scheduler", "checkpoints")}
    joined = find_study(study, storage, _space(None, path), **trains)
    total = joined.stored_budget if wanted is None else wanted
    if total is None and options["timeout"] is None:
        raise InvalidValue(f"study {joined.name!r} has no budget yet; give --n-trials or --timeout")
    joined.optimize(
        objective,
        total,
        timeout=options["timeout"],
        workers=options["workers"],
        stay=True,
        **limits(options),
    )
    done = sum(t.state.resting for t in joined.trials)
    click.echo(f"study {joined.name!r}: {done} trials; stopped because: {joined.stop_reason}")


def _load(target: str, what: str) -> tuple[Path, Any]:
    """Import FILE and return its NAME; the module travels to worker processes by value."""
    file, separator, name = target.rpartition(":")
    if not separator or not file:
        raise InvalidValue(f"{target!r} is not {what}; write it like train.py:objective")
    path = Path(file)
    if not path.is_file():
        raise InvalidValue(f"{target!r}: there is no file {file!r}")
    module = _module(path)
    if not hasattr(module, name):
        public = sorted(n for n in vars(module) if not n.startswith("_") and callable(vars(module)[n]))
        raise InvalidValue(f"{target!r}: {file} has no {name!r}; it has {public!r}")
    return path, getattr(module, name)


def _module(path: Path) -> Any:
    return sys.modules.get(_module_name(path)) or _import(path)


def _module_name(path: Path) -> str:
    return f"_welltuned_{path.stem}_{zlib.crc32(str(path.resolve()).encode()):08x}"


def _import(path: Path) -> Any:
    name = _module_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InvalidValue(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        raise InvalidValue(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    cloudpickle.register_pickle_by_value(module)
    return module


def _space(spec: str | None, path: Path | None) -> Space | None:
    if spec is None and path is not None:
        module = _module(path)
        return Space.parse(module.space) if hasattr(module, "space") else None
    assert spec is not None
    if spec.endswith(".py"):
        raise InvalidValue(f"--space {spec!r} names no object in the file; write {spec}:space")
    return Space.parse(_load(spec, "FILE:NAME")[1] if ".py:" in spec else Path(spec))


def _directions(given: tuple[str, ...], metric: str) -> dict[str, str]:
    """Read ``--direction``: one for the only objective, or name=direction for each of several."""
    found: dict[str, str] = {}
    for text in given or ("minimize",):
        name, separator, direction = text.rpartition("=")
        if direction not in DIRECTIONS or (separator and not name) or (not separator and len(given) > 1):
            raise InvalidValue(f"--direction {text!r} is neither minimize, maximize nor like speed=maximize")
        if (name or metric) in found:
            raise InvalidValue(f"--direction: {name or metric!r} is given twice")
        found[name or metric] = direction
    return found


def _search(
    objective: Any, space: Space | None, options: dict[str, Any], directions: dict[str, str], default_name: str
) -> None:
    rules = [
        rule(value)
        for rule, value in (
            (Patience, options["patience"]),
            (Target, options["target"]),
            (MaxCost, options["max_cost"]),
        )
        if value is not None
    ]
    check_count("--n-trials", options["n_trials"])
    check_timeout(options["timeout"])
    check_workers(options["workers"])
    endless = not rules and options["n_trials"] is None and options["timeout"] is None and options["sampler"] != "grid"
    if endless and (space is None or size(space) is None):
        raise InvalidValue(
            "nothing would end the search; give --n-trials, --timeout, --patience, --target or --max-cost"
        )
    study = Study(
        space,
        direction=directions,
        sampler=options["sampler"],
        storage=options["storage"],
        name=_clean(default_name) if options["name"] is None else options["name"],
        seed=options["seed"],
        scheduler=options["scheduler"],
        checkpoints=options["checkpoints"],
    )
    before = sum(t.state.resting for t in study.trials)
    if before:
        click.echo(f"study {study.name!r} goes on after {before} finished trials", err=True)
    if isinstance(study.sampler, Grid) and space is not None:
        click.echo(f"the whole grid takes {study.sampler.size(space):,} evaluations", err=True)
    with _quiet_output(options["as_json"]):
        study.optimize(
            objective,
            options["n_trials"],
            timeout=options["timeout"],
            workers=options["workers"],
            stop=rules,
            **limits(options),
        )
    _print_result(study, options)


@contextmanager
def _quiet_output(quiet: bool) -> Iterator[None]:
    """Send what objectives print, here and in workers, to standard error, so that standard output is JSON alone."""
    if not quiet:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _clean(name: str) -> str:
    """Return a name made of letters, digits and dashes."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-") or "study"


def _print_result(study: Study, options: dict[str, Any]) -> None:
    single = len(study.directions) == 1
    best = [study.best] if single else list(study.best_trials)
    if options["as_json"]:
        facts = {"study": study.name, "storage": options["storage"], "stop_reason": study.stop_reason}
        echo_json({**facts, **({"best": trial_json(best[0])} if single else {"front": [trial_json(t) for t in best]})})
        return
    out = console()
    ended = [t for t in study.trials if t.state.resting]
    counts = {state: sum(t.state is state for t in ended) for state in (State.FAILED, State.PAUSED)}
    told = "".join(f", {n} {state.value}" for state, n in counts.items() if n or state is State.FAILED)
    out.print(f"{len(ended)} trials{told}; stopped because: {study.stop_reason}")
    if single:
        print_best(study, best[0])
    else:
        print_trials(study, best)
    where = "" if options["storage"] == "welltuned.db" else f" --storage {options['storage']}"
    out.print(f"all trials: welltuned show {study.name}{where}    report: welltuned report {study.name}{where}")
