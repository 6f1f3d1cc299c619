"""Boosted trees that report to a trial as they grow and stop with it: callbacks for XGBoost, LightGBM and CatBoost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from welltuned.errors import require
from welltuned.live import LiveTrial
from welltuned.relay import Relay

NO_DATA = "give an evaluation set"
XGBOOST_LARGER = frozenset(("auc", "aucpr", "pre", "ndcg", "map"))
XGBOOST_SMALLER = frozenset(("rmse", "rmsle", "mae", "mape", "mphe", "logloss", "mlogloss", "error", "merror"))


def for_xgboost(trial: LiveTrial, metric: str | Mapping[str, str]) -> Any:
    """Return a callback for ``xgboost.train``, ``xgboost.cv`` and XGBoost's scikit-learn estimators.

    Parameters
    ----------
    trial
        What the objective received.
    metric
        The name of a data set and of a metric as XGBoost prints them, joined by a hyphen: ``"validation_0-auc"``, for
        ``xgboost.cv`` ``"test-auc"``. With several objectives a dict of them, by objective. It has to be what the
        objective returns, or at least better where that is.

    Raises
    ------
    InvalidValue
        In the first round, when there is no such metric; the message names those that are there. Also for one of
        XGBoost's own that is better the other way than the study has it.

    Examples
    --------
    ::

        def objective(trial):
            model = xgboost.XGBClassifier(**trial, callbacks=[for_xgboost(trial, "validation_0-logloss")])
            model.fit(X, y, eval_set=[(X_valid, y_valid)], verbose=False)
            return model.evals_result()["validation_0"]["logloss"][-1]
    """
    try:
        from xgboost.callback import TrainingCallback
    except ImportError as error:
        raise require("xgboost", "xgboost", "for_xgboost()") from error

    class Report(TrainingCallback):
        """Reports each round; training ends before the next one when the trial is to stop.

        XGBoost asks no further callback about a round after one that ends the training, and its early stopping, which
        comes last, would not have seen the round: ``best_score`` would be an error, or that of the round before.
        """

        stop = False

        def before_training(self, model: Any) -> Any:
            self.stop = False
            return model

        def before_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ARG002
            return self.stop

        def after_iteration(
            self,
            model: Any,  # noqa: ARG002
            epoch: int,
            evals_log: Mapping[str, Mapping[str, Any]],
        ) -> bool:
            last = {f"{data}-{name}": v[-1] for data, log in evals_log.items() for name, v in log.items()}
            # of xgboost.cv, the mean of the folds and its standard deviation
            values = {name: v[0] if isinstance(v, tuple) else v for name, v in last.items()}
            relay.check_directions(_xgboosts_directions(values))
            self.stop = relay(values, epoch + 1, "" if values else NO_DATA)
            return False

    relay = Relay(trial, metric)
    return Report()


def _xgboosts_directions(names: Iterable[str]) -> dict[str, bool]:
    """Tell of those metrics that are XGBoost's own whether larger values are better."""
    found = {}
    for name in names:
        metric = name.split("-", 1)[1].split("@")[0].removesuffix("-")  # of "valid-ndcg@3-"
        if metric in XGBOOST_LARGER or metric in XGBOOST_SMALLER:
            found[name] = metric in XGBOOST_LARGER
    return found


def for_lightgbm(trial: LiveTrial, metric: str | Mapping[str, str]) -> Any:
    """Return a callback for ``lightgbm.train``, ``lightgbm.cv`` and LightGBM's scikit-learn estimators.

    Parameters
    ----------
    trial
        What the objective received.
    metric
        As in :func:`for_xgboost`, with LightGBM's names: ``"valid_0-auc"``, for ``lightgbm.cv`` ``"valid-auc"``.

    Raises
    ------
    InvalidValue
        In the first round, when there is no such metric; the message names those that are there. Also for one that is
        better the other way than the study has it.

    Examples
    --------
    ::

        def objective(trial):
            found = {}
            callbacks = [lightgbm.record_evaluation(found), for_lightgbm(trial, "valid_0-binary_logloss")]
            lightgbm.train({"objective": "binary", **trial}, data, valid_sets=[valid], callbacks=callbacks)
            return found["valid_0"]["binary_logloss"][-1]
    """
    try:
        from lightgbm.callback import EarlyStopException
    except ImportError as error:
        raise require("lightgbm", "lightgbm", "for_lightgbm()") from error

    def report(env: Any) -> None:
        # lightgbm.cv joins both names by a blank, after one that says nothing
        results = {
            f"{data}-{name}" if data != "cv_agg" else name.replace(" ", "-", 1): (value, larger_is_better)
            for data, name, value, larger_is_better, *_ in env.evaluation_result_list or ()
        }
        values = {name: value for name, (value, _) in results.items()}
        relay.check_directions({name: bool(larger) for name, (_, larger) in results.items()})
        if relay(values, env.iteration + 1, "" if values else NO_DATA):
            raise EarlyStopException(env.iteration, env.evaluation_result_list)

    relay = Relay(trial, metric)
    return report


def for_catboost(trial: LiveTrial, metric: str | Mapping[str, str]) -> Any:
    """Return a callback for ``fit`` of CatBoost's models, on a processor: on a graphics card CatBoost calls none.

    Parameters
    ----------
    trial
        What the objective received.
    metric
        As in :func:`for_xgboost`, with CatBoost's names: ``"validation-AUC"`` with one evaluation set,
        ``"validation_0-AUC"`` with several; ``"learn-Logloss"`` is of the data that is learned from. With
        ``metric_period``, rounds in which it is not computed are no reports.

    Raises
    ------
    InvalidValue
        In the first round, when there is no such metric; the message names those that are there. CatBoost quotes it in
        an error of its own.

    Examples
    --------
    ::

        def objective(trial):
            model = catboost.CatBoostClassifier(**trial, verbose=False)
            model.fit(X, y, eval_set=(X_valid, y_valid), callbacks=[for_catboost(trial, "validation-Logloss")])
            return model.get_best_score()["validation"]["Logloss"]
    """
    relay = Relay(trial, metric)

    class Report:
        """Reports each round; training ends when the trial is to stop."""

        lengths: Mapping[str, int] = {}  # of the logs after the round before

        def after_iteration(self, info: Any) -> bool:
            # all rounds so far, of the metrics that CatBoost was told to compute, and in which it did
            logs = {f"{data}-{name}": v for data, log in info.metrics.items() for name, v in log.items()}
            before = self.lengths if info.iteration > 1 else {}
            fresh = {name for name, log in logs.items() if len(log) > before.get(name, info.iteration - 1)}
            self.lengths = {name: len(log) for name, log in logs.items()}
            if relay.found_in(logs) and not relay.found_in(fresh):
                return True  # by metric_period, it comes in another round
            has_data = any(not name.startswith("learn-") for name in logs)
            return not relay({name: v[-1] for name, v in logs.items()}, info.iteration, "" if has_data else NO_DATA)

    return Report()
