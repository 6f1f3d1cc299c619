"""The sweeper ``welltuned`` of Hydra: overrides become a space, trials become jobs of whatever launcher there is.

Hydra finds it as ``hydra_plugins.welltuned_sweeper``, where its settings are; a program imports nothing of it.
"""

from __future__ import annotations

import logging
import math
import re
import shlex
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString, Transformer
from omegaconf import OmegaConf

from welltuned.errors import InvalidType, InvalidValue, NoCompletedTrial, WelltunedError
from welltuned.evaluation import jsonable
from welltuned.live import LiveTrial
from welltuned.settings import whole
from welltuned.space import Categorical, Float, Int, Ordinal, Parameter, Space
from welltuned.space.parse import as_parameter
from welltuned.storage.masking import masked
from welltuned.study import Patience, Study, Target
from welltuned.trial import State, Trial

if TYPE_CHECKING:
    from hydra_plugins.welltuned_sweeper import WelltunedSweeper

log = logging.getLogger("welltuned")
RESULTS = "optimization_results.yaml"  # where other sweepers write theirs as well
OVERRIDES, FOLDER = "overrides", "folder"  # what is noted of a trial: its job's overrides, and where it ran
TAGS = {"log", "ordered"}
#: what Hydra reads as a text without quotes around it
BARE = re.compile(r"(?!(?:true|false|null|inf|nan)\Z)[A-Za-z_][\w./-]*", re.IGNORECASE | re.ASCII)
LONGEST_NAME = 80


# overrides as a space


@dataclass(frozen=True)
class Search:
    """What is searched, and how it is said to Hydra.

    Attributes
    ----------
    space
        Its parameters have the names of their keys without ``+``; ``:`` stands for the ``@`` before a package.
    keys
        By parameter, what stands before ``=``.
    fixed
        The overrides of every job.
    """

    space: Space
    keys: Mapping[str, str]
    fixed: tuple[str, ...] = ()

    def overrides(self, params: Mapping[str, Any]) -> list[str]:
        """Return the overrides of one job; what is not active keeps the value that it has in the program's config."""
        return [*self.fixed, *self.varied(params)]

    def varied(self, params: Mapping[str, Any]) -> list[str]:
        """Return those of them that are searched."""
        return [f"{self.keys[name]}={as_override(value)}" for name, value in params.items()]


def read_search(params: Mapping[str, Any] | None, arguments: Sequence[str], loader: Any = None) -> Search:
    """Read what is to be searched.

    Parameters
    ----------
    params
        ``hydra.sweeper.params``: by key, the value of an override, or a parameter as :meth:`Space.parse` reads it.
    arguments
        The overrides of the command line. They go before ``params`` of the same key.
    loader
        Hydra's, by which ``glob`` finds the options of a config group.

    Raises
    ------
    InvalidValue, InvalidType
        With the override, where nothing can be made of it; and where there is nothing to search.

    Examples
    --------
    >>> search = read_search({"depth": [2, 4, 8]}, ["lr=tag(log, interval(1e-5, 1e-1))", "+model.name=mlp"])
    >>> search.space
    Space({'depth': Ordinal([2, 4, 8]), 'lr': Float(1e-05, 0.1, log=True)})
    >>> search.overrides({"depth": 4, "lr": 0.01})
    ['+model.name=mlp', 'depth=4', 'lr=0.01']
    """
    if params is not None and not isinstance(params, Mapping):
        raise InvalidType(f"hydra.sweeper.params={params!r} is not a mapping such as {{lr: 'interval(0, 1)'}}")
    parser = OverridesParser.create(config_loader=loader)
    declared: dict[str, Parameter] = {}
    given: dict[str, Override] = {}
    for key, spec in (params or {}).items():
        plain = isinstance(spec, (Mapping, list))
        [override] = parser.parse_overrides([f"{key}={'null' if plain else _text(spec)}"])
        name = _name(override)
        given[name] = override
        if plain:
            declared[name] = as_parameter(name, spec)
        elif override.is_sweep_override():
            declared[name] = read_sweep(override)
    fixed = {name: override for name, override in given.items() if name not in declared}
    for override in parser.parse_overrides(list(arguments)):
        name = _name(override)
        given[name] = override
        if override.is_sweep_override():
            fixed.pop(name, None)
            # a condition stays what it was: the command line has no way to say it
            when = declared[name].when if name in declared else None
            declared[name] = replace(read_sweep(override), when=when)
        else:
            fixed[name] = override
    searched = _settled(declared, fixed)
    if not searched:
        raise InvalidValue(
            f"hydra/sweeper=welltuned: {[*arguments]!r} has nothing to search; write lr='interval(1e-5, 1e-1)' or "
            "units=32,64, or hydra.sweeper.params in the config"
        )
    return Search(
        Space(searched), {n: given[n].get_key_element() for n in searched}, tuple(_as_given(o) for o in fixed.values())
    )


def _text(spec: Any) -> str:
    return spec if isinstance(spec, str) else as_override(spec)


def _name(override: Override) -> str:
    """Return what a parameter is called here; ``@`` is reserved in the names of a space."""
    if override.is_delete():
        return str(override.get_key_element())
    return str(override.key_or_group) + (f":{override.package}" if override.package is not None else "")


def _as_given(override: Override) -> str:
    """Write an override that all jobs share; functions in it have been called, once for all of them."""
    if override.is_delete():
        return str(override.input_line)
    return f"{override.get_key_element()}={as_override(override.value())}"


def read_sweep(override: Override) -> Parameter:
    """Return the parameter that an override sweeps over.

    Raises
    ------
    InvalidValue, InvalidType
        With the override.
    """
    try:
        sweep = override.value()
        tags = set(getattr(sweep, "tags", ()))
        if unknown := sorted(tags - TAGS):
            raise InvalidValue(f"the tag {unknown[0]!r} is unknown; known are {sorted(TAGS)!r}")
        if override.is_choice_sweep():
            return _choices(override, tags)
        if "ordered" in tags:
            raise InvalidValue("the tag 'ordered' is for choices; leave it out")
        log = "log" in tags
        return _range(sweep, log) if override.is_range_sweep() else _interval(sweep, log)
    except (InvalidValue, InvalidType) as error:
        raise type(error)(f"{override.input_line}: {error}") from None


def _choices(override: Override, tags: set[str]) -> Parameter:
    """Read ``a,b``, ``choice(a, b)`` or ``glob(*)``; distinct numbers are ordered, as everywhere."""
    if "log" in tags:
        raise InvalidValue("the tag 'log' is for intervals and ranges; numbers among choices are ordered without it")
    sweep = override.value()
    # the list itself, not in the order into which Hydra shuffles it anew in each run
    values = [_plain(v) for v in getattr(sweep, "list", None) or override.sweep_iterator()]
    if not values:
        raise InvalidValue("there is no such option; see the config group's folder for those that there are")
    if "ordered" in tags:
        return Ordinal(values)
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in values)
    ordered = numbers and len(set(values)) == len(values) > 1
    return Ordinal(sorted(values)) if ordered else Categorical(values)


def _plain(value: Any) -> Any:
    """Return a choice as a value of Python's own, without Hydra's marks of what was quoted."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return {_plain(k): _plain(v) for k, v in value.items()} if isinstance(value, dict) else value


def _interval(sweep: Any, log: bool) -> Parameter:
    """Read ``interval(a, b)``; both ends are included, and numbers are real unless cast by ``int(…)``."""
    kind = Int if isinstance(sweep.start, int) and isinstance(sweep.end, int) else Float
    return kind(sweep.start, sweep.end, log=log)


def _range(sweep: Any, log: bool) -> Parameter:
    """Read ``range(start, stop, step)``, without ``stop``."""
    ends = (sweep.start, sweep.stop, sweep.step)
    # as Hydra counts, which takes fractions for what they are in binary
    start, stop, step = (Decimal(v) for v in ends)
    count = math.ceil((stop - start) / step) if step else 0
    if count < 1:
        raise InvalidValue("this range holds no value; write range(start, stop, step), without stop itself")
    if count == 1:
        return Categorical([sweep.start])
    if all(isinstance(v, int) for v in ends):
        values = range(*ends)
        return Int(min(values), max(values), step=abs(sweep.step), log=log)
    if log:
        raise InvalidValue("a range of fractions has no logarithmic scale; write choice(…) with the values you want")
    low, high = sorted(float(start + k * step) for k in (0, count - 1))
    return Float(low, high, step=abs(float(step)))


def _settled(declared: Mapping[str, Parameter], fixed: Mapping[str, Override]) -> dict[str, Parameter]:
    """Return what is left to search: no condition asks for what is fixed, and those that can never hold are gone."""
    found = {name: parameter for name, parameter in declared.items() if name not in fixed}
    gone: set[str] = set()
    while True:
        for name, parameter in found.items():
            if parameter.when is None:
                continue
            clauses = [parameter.when] if isinstance(parameter.when, Mapping) else parameter.when
            left = [_rest(name, clause, declared, fixed) for clause in clauses if not gone & {*clause}]
            open_ = [rest for rest in left if rest is not None]
            if not open_:
                gone.add(name)
            if open_ != [*clauses]:
                found[name] = replace(parameter, when=open_ if open_ and all(open_) else None)
        if not gone & {*found}:
            return found
        found = {name: parameter for name, parameter in found.items() if name not in gone}


def _rest(
    name: str, clause: Mapping[str, Any], declared: Mapping[str, Parameter], fixed: Mapping[str, Override]
) -> Mapping[str, Any] | None:
    """Return what is still open of a clause; None where what is fixed contradicts it."""
    known = [parent for parent in clause if parent in fixed and parent in declared]
    if not all(_holds(name, parent, clause[parent], declared[parent], fixed[parent].value()) for parent in known):
        return None
    return {parent: wanted for parent, wanted in clause.items() if parent not in known}


def _holds(name: str, parent: str, wanted: Any, parameter: Parameter, value: Any) -> bool:
    alone = replace(parameter, when=None)
    if not Space({parent: alone}).contains({parent: value}):
        raise InvalidValue(
            f"{parent}={value!r} is none of the values of {alone!r}, on which {name!r} depends; fix {name!r} as well"
        )
    child = f"{parent}?"
    return Space({parent: alone, child: Categorical([0], when={parent: wanted})}).contains({parent: value, child: 0})


def as_override(value: Any) -> str:
    """Write a value as Hydra reads it: what stands behind ``=`` comes back as it was, with its type.

    Examples
    --------
    >>> as_override("adam"), as_override("a, b"), as_override("1"), as_override(None), as_override(1e-5)
    ('adam', "'a, b'", "'1'", 'null', '1e-05')
    >>> as_override([64, {"act": "relu"}])
    '[64,{act:relu}]'
    """
    return str(Transformer.str(_quoted(value)))


def _quoted(value: Any) -> Any:
    if isinstance(value, str):
        return value if BARE.fullmatch(value) else QuotedString(value, Quote.single)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return [_quoted(v) for v in value]
    return {k: _quoted(v) for k, v in value.items()} if isinstance(value, dict) else value


# trials as jobs


class Jobs:
    """Launch trials, one or several at a time; what jobs return is read as the values of any objective.

    Parameters
    ----------
    launcher
        Hydra's.
    search
        What writes the overrides of a trial.
    folder
        That of the sweep, which has a folder for each job.
    subdir
        What these are called, before Hydra puts numbers in.
    """

    def __init__(self, launcher: Any, search: Search, folder: Path, subdir: str = "${hydra.job.num}") -> None:
        self._launcher, self._search, self._folder = launcher, search, folder
        pieces = re.split(r"(\$\{[^}]*\})", subdir)
        self._numbered = re.compile(
            "".join(
                re.escape(p) if not p.startswith("${") else r"(\d+)" if re.search(r"job.(num|id)\}", p) else ".*"
                for p in pieces
            )
        )
        self._next = 0

    def one(self, trial: LiveTrial) -> Any:
        """Launch one trial, and return what its job returns or raise what it raises."""
        [result] = self.several([trial])
        if isinstance(result, Exception):
            raise result
        return result

    def several(self, trials: Sequence[LiveTrial]) -> list[Any]:
        """Launch trials together; return what each of their jobs returns, or the exception that it raised."""
        number = max(trials[0].number, self._next, self._unused())
        self._next = number + len(trials)
        jobs = [self._search.overrides(trial) for trial in trials]
        for trial, job in zip(trials, jobs, strict=True):
            trial.note(**{OVERRIDES: job})
        returns = self._launcher.launch(jobs, initial_job_idx=number)
        return [_result(trial, returned) for trial, returned in zip(trials, returns, strict=True)]

    def _unused(self) -> int:
        """Return a number beyond those of the folders that are there: a killed trial keeps what it has written."""
        there = self._folder.iterdir() if self._folder.is_dir() else ()
        found = [m for path in there if (m := self._numbered.fullmatch(path.name)) and m.groups()]
        return max((int(m[1]) for m in found), default=-1) + 1


def _result(trial: LiveTrial, returned: Any) -> Any:
    folder = OmegaConf.select(returned.hydra_cfg, "hydra.runtime.output_dir") if returned.hydra_cfg else None
    if folder is not None:
        trial.note(**{FOLDER: str(folder)})
    try:
        value = returned.return_value
    except Exception as error:  # noqa: BLE001 - whatever the program raises is how its trial ended
        return error
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


# the sweep


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
