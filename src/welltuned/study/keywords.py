"""What other tuners call the arguments and attributes of a study, for the error about one that is none of ours."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable
from inspect import signature
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from welltuned.errors import InvalidType

P = ParamSpec("P")
R = TypeVar("R")

ELSEWHERE = {  # what other tuners call it
    **dict.fromkeys(("max_evals", "n_calls", "num_samples", "n_iter", "maxiter"), "n_trials"),
    **dict.fromkeys(("dimensions", "bounds", "pbounds", "param_space"), "space"),
    **dict.fromkeys(("algo", "method", "search_alg"), "sampler"),
    **dict.fromkeys(("random_state", "rstate"), "seed"),
    "study_name": "name",
    "directions": "direction",
    "pruner": "scheduler",
    "callback": "callbacks",
    "n_jobs": "workers",
    "show_progress_bar": "progress",
}
OTHERWISE = {  # what is said here in another way
    **dict.fromkeys(("x0", "points_to_evaluate"), "study.enqueue(…), or study.add(…) with values, of wt.Study"),
    "args": "lambda x: f(x, …)",
    "load_if_exists": "nothing: a study that is there goes on",
}
ATTRIBUTES = {  # what other tuners' studies have
    **dict.fromkeys(("trials_dataframe", "get_dataframe", "results_df"), "study.to_frame()"),
    **dict.fromkeys(("get_trials", "results"), "study.trials"),
    **dict.fromkeys(("add_trial", "add_trials"), "study.add(params, value), or study.add([…])"),
    **dict.fromkeys(("report", "save_report"), "wt.report.write_report(study, 'study.html')"),
    **dict.fromkeys(("plot", "visualize"), "wt.plots.history(study), or another figure of wt.plots"),
    **dict.fromkeys(("importance", "importances", "get_param_importances"), "wt.stats.importance(study)"),
    **dict.fromkeys(("metric_names", "set_metric_names"), "study.objectives, named by direction="),
    "direction": "study.directions",
    "study_name": "study.name",
    "suggest": "study.ask()",
    "observe": "study.tell(trial, value)",
}
#: the arguments of each call that is marked, by its name
TAKEN: dict[str, tuple[str, ...]] = {}


def checks_keywords(call: Callable[P, R]) -> Callable[P, R]:
    """Let a method, or a class by its ``__init__``, say of a keyword that it does not take what to write instead."""
    name = call.__qualname__.removesuffix(".__init__").rpartition(".")[2]
    TAKEN[name] = tuple(signature(call).parameters)[1:]

    @functools.wraps(call)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        check_keywords(name, kwargs, TAKEN[name])
        return call(*args, **kwargs)

    return checked


def check_keywords(name: str, given: Iterable[str], taken: Collection[str]) -> None:
    """Refuse keywords that the call of this name does not take.

    Raises
    ------
    InvalidType
        With what to write instead: the word for it here, and where it is said, or all that there are.
    """
    if unknown := sorted(set(given) - set(taken)):
        raise InvalidType(f"{name}: unknown argument {unknown[0]!r}; {_instead(unknown[0], taken)}")


class Hinting:
    """Say of an attribute that is not there, and that other tuners' studies have, what to write instead."""

    if not TYPE_CHECKING:  # to a type checker, every name would be one

        def __getattr__(self, name: str) -> Any:
            if name not in ATTRIBUTES:
                return object.__getattribute__(self, name)  # which fails as it has failed, within a property too
            kind = type(self).__name__
            raise AttributeError(f"{kind!r} object has no attribute {name!r}; write {ATTRIBUTES[name]}")


def _instead(word: str, taken: Collection[str]) -> str:
    if word in OTHERWISE:
        return f"write {OTHERWISE[word]}"
    ours = ELSEWHERE.get(word, word)
    if ours in taken:
        return f"write {ours}="
    others = [name for name, arguments in TAKEN.items() if ours in arguments]
    return f"write {ours}= of {others[0]}" if others else f"known are {sorted(taken)!r}"
