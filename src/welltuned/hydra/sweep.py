"""The search of one command, from its settings to what it has found."""

from __future__ import annotations

import logging
import math
import re
import shlex
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from omegaconf import OmegaConf

from welltuned.errors import NoCompletedTrial, WelltunedError
from welltuned.evaluation import jsonable
from welltuned.hydra.jobs import FOLDER, OVERRIDES, Jobs
from welltuned.hydra.overrides import Search, read_search
from welltuned.settings import whole
from welltuned.space import Categorical, Ordinal
from welltuned.storage.masking import masked
from welltuned.study import Patience, Study, Target
from welltuned.trial import State, Trial

if TYPE_CHECKING:
    from hydra_plugins.welltuned_sweeper import WelltunedSweeper

log = logging.getLogger("welltuned")
RESULTS = "optimization_results.yaml"  # where other sweepers write theirs as well
LONGEST_NAME = 80


def sweep(sweeper: WelltunedSweeper, arguments: Sequence[str]) -> None:
    """Search with the settings, the launcher and the config of a sweeper that has been set up.

    Parameters
    ----------
    sweeper
        Hydra's object.
    arguments
        The overrides of the command line.

    Raises
    ------
    InvalidValue, InvalidType
        For settings and overrides of which nothing can be made.
    NoCompletedTrial
        Where all jobs have failed.
    WelltunedError
        After more failures than ``max_failures``.
    """
    settings = {
        name: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        for name, value in sweeper.settings.items()
    }
    config, launcher = sweeper.config, sweeper.launcher
    assert config is not None
    search = read_search(settings["params"], arguments, sweeper.hydra_context.config_loader)
    n_jobs, rules = whole("n_jobs", settings["n_jobs"]), _rules(settings)
    callbacks = _callbacks(settings["max_failures"])
    # a key or an option that is misspelt is found here, before anything is stored
    sweeper.validate_batch_is_legal(_samples(search, sweeper.hydra_context.config_loader))
    folder = Path(config.hydra.sweep.dir).absolute()
    study = Study(
        search.space,
        **{k: settings[k] for k in ("direction", "sampler", "storage", "seed", "noisy")},
        name=_study_name(config.hydra.job.name, search.fixed) if settings["name"] is None else settings["name"],
    )
    try:
        _warn_of_others(study, search)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(config, folder / "multirun.yaml")
        jobs = Jobs(launcher, search, folder, str(OmegaConf.to_container(config.hydra.sweep, resolve=False)["subdir"]))
        # it runs one job after the other whatever it gets: the search then learns from each before the next
        together = n_jobs if config.hydra.runtime.choices["hydra/launcher"] != "basic" else 1
        if together < n_jobs:
            log.info("n_jobs=%d: Hydra's basic launcher runs one job at a time; others do more", n_jobs)
        study.optimize(
            jobs.several if together > 1 else jobs.one,
            settings["n_trials"],
            batch=together if together > 1 else False,
            stop=rules,
            callbacks=callbacks,
            progress=False,
            stay=True,
        )
        _conclude(study, search, folder / RESULTS, settings["storage"])
    finally:
        study.coordinator.ledger.close()


def _rules(settings: Mapping[str, Any]) -> list[Any]:
    known = (("patience", Patience), ("target", Target))
    return [rule(settings[name]) for name, rule in known if settings[name] is not None]


def _callbacks(most: Any) -> list[Callable[[Study, Trial], None]]:
    """Return what ends a sweep with too many failures, where any number is too many."""
    if most is None:
        return []
    most = whole("max_failures", most, lowest=0)
    failed: list[int] = []

    def count(study: Study, trial: Trial) -> None:  # noqa: ARG001
        if trial.state is State.FAILED:
            failed.append(trial.number)
            if len(failed) > most:
                raise WelltunedError(f"trials {failed} have failed, and max_failures={most}; the last: {trial.error}")

    return [count]


def _samples(search: Search, loader: Any) -> list[list[str]]:
    """Return a job in the middle of the space, and one for each option of a config group that is searched."""
    space = search.space
    rows = [np.full(len(space), 0.5)]
    for name, parameter in space.items():
        if isinstance(parameter, (Categorical, Ordinal)) and loader.get_group_options(name.partition(":")[0]):
            n = len(parameter.choices)
            rows += [np.where(np.arange(len(space)) == space.column[name], (i + 0.5) / n, 0.5) for i in range(n)]
    return [search.overrides(params) for params in space.decode(np.array(rows))]


def _study_name(job: str, fixed: Sequence[str]) -> str:
    """Return the name of a study: results under other overrides are another experiment."""
    text = "-".join([job, *sorted(fixed)])
    name = re.sub(r"[^\w.=+~-]+", "-", text)[:LONGEST_NAME]
    return name if name == text else f"{name}-{zlib.crc32(text.encode()):08x}"


def _warn_of_others(study: Study, search: Search) -> None:
    """Say where earlier trials of the study ran with other overrides than these will."""
    earlier = next((t for t in reversed(study.trials) if t.params is not None and OVERRIDES in t.attributes), None)
    if earlier is None:
        return
    keys = {*search.keys.values()}
    before = [o for o in earlier.attributes[OVERRIDES] if o.partition("=")[0] not in keys]
    if sorted(before) != sorted(search.fixed):
        log.warning(
            "study %r: trial %d ran with %s, and now all have %s; hydra.sweeper.name=… keeps experiments apart",
            study.name,
            earlier.number,
            before,
            list(search.fixed),
        )


def _conclude(study: Study, search: Search, path: Path, storage: str | None) -> None:
    """Write and log what was found."""
    if not study.best_trials:
        raise NoCompletedTrial(f"study {study.name!r}: {study.history.why_no_best()}")
    best = [study.best] if len(study.directions) == 1 else list(study.best_trials)
    where = {} if storage is None else {"storage": masked(storage)}
    body: dict[str, Any] = {"name": "welltuned", "study": study.name, **where, "stop_reason": study.stop_reason}
    if len(study.directions) == 1:
        [(objective, value)] = [(name, best[0].metrics[name]) for name in study.objectives]
        body |= {"best_params": dict(best[0].params or {}), "best_value": value, **_origin(best[0], search)}
        advised = study.recommend()
        body["recommendation"] = {
            "params": dict(advised.params),
            "trial": advised.number,
            "mean": advised.mean,
            "sd": None if math.isnan(advised.sd) else advised.sd,
        }
        log.info(
            "best: %s=%.6g by %s", objective, value, " ".join(map(shlex.quote, search.varied(best[0].params or {})))
        )
    else:
        body["solutions"] = [
            {
                "params": dict(t.params or {}),
                "values": {name: t.metrics[name] for name in study.objectives},
                **_origin(t, search),
            }
            for t in best
        ]
        log.info("%d trials that no other one dominates", len(best))
    path.write_text(yaml.safe_dump(jsonable(body), sort_keys=False, allow_unicode=True), encoding="utf-8")
    log.info("results: %s", path)
    if storage is not None:
        log.info("report: welltuned report %s --storage %s", shlex.quote(study.name), shlex.quote(masked(storage)))


def _origin(trial: Trial, search: Search) -> dict[str, Any]:
    """Say which trial it was, where its job ran, and what to give the program to have it again."""
    folder = {FOLDER: trial.attributes[FOLDER]} if FOLDER in trial.attributes else {}
    return {"trial": trial.number, **folder, OVERRIDES: search.varied(trial.params or {})}
