"""Records as JSON, and back: what a server of studies and its clients say to each other.

The names of the fields are those of the records, so what a record gains travels without a change here.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from welltuned.errors import InvalidType, InvalidValue
from welltuned.storage.protocol import Changes, StudyRow
from welltuned.storage.records import clean
from welltuned.trial import Origin, Outcome, Reason, Report, State, Trial

PROTOCOL = 3  # another number means that one side does not understand the other
LIMIT = 16 << 20  # bytes of a request
ROOM = LIMIT // 2  # bytes of the attributes of a result, beside which there is the rest of it
LONGEST_WAIT = 30.0  # seconds that a server lets a reader wait
PROTOCOL_HEADER = "Welltuned-Protocol"
SERVER_HEADER = "Welltuned-Server"  # which start of which server it is
RETRY_HEADER = "Welltuned-Retry"  # the one that may have seen the request before
KEY_HEADER = "Idempotency-Key"

BLANK = Trial(0, State.WAITING)
TRIAL_FIELDS = tuple(f.name for f in fields(Trial))
#: the parameters of an outcome are assigned before it is stored, and its exception stays where it was raised
OUTCOME_FIELDS = tuple(f.name for f in fields(Outcome) if f.name not in ("params", "domains", "exception"))
ROW_FIELDS = tuple(f.name for f in fields(StudyRow))


def another_storage(study: int, name: str | None) -> str:
    """Say that what the server serves is not what a client has worked with."""
    what = f"study {study}" if name is None else f"study {name!r}"
    return (
        f"the server now serves another storage, without the {what} that was worked on (unless it was deleted); serve "
        "that one again, or start this program anew"
    )


def encode(body: Any) -> bytes:
    """Write JSON.

    Raises
    ------
    InvalidValue, InvalidType
        For what JSON cannot hold.
    """
    try:
        return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
    except ValueError as error:
        raise InvalidValue(f"a number that is not finite, or an endless record, cannot be sent: {error}") from None
    except TypeError as error:
        raise InvalidType(f"only what JSON can hold can be sent: {error}") from None


def sendable(attributes: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return attributes that fit into a request, and the names of those for which a word stands in it."""
    left, found, without = ROOM, dict(attributes), []
    for name, value in attributes.items():
        size = len(encode(value))
        if size > left:
            found[name] = f"(left out: {size} bytes)"
            without.append(name)
        left -= len(encode(found[name]))
    return found, without


def to_json(record: Trial | Outcome | StudyRow) -> dict[str, Any]:
    """Return a record as JSON can hold it."""
    names = TRIAL_FIELDS if isinstance(record, Trial) else OUTCOME_FIELDS if isinstance(record, Outcome) else ROW_FIELDS
    return {name: _plain(getattr(record, name)) for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Report):
        return report_to_json(value)
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return dict(value) if isinstance(value, Mapping) else value


def report_to_json(report: Report) -> dict[str, Any]:
    """Return a report as JSON can hold it."""
    return {"step": int(report.step), "metrics": dict(report.metrics)}


def report_from(body: Mapping[str, Any]) -> Report:
    """Read a report."""
    return Report(int(body["step"]), _numbers(body["metrics"]))


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def _maybe(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


_READ: dict[str, Callable[[Any], Any]] = {
    "state": State,
    "reason": _maybe(Reason),
    "origin": Origin,
    "reports": lambda reports: tuple(map(report_from, reports)),
    "objectives": tuple,
    "metrics": _numbers,
    "sems": _numbers,
    "gradient": _maybe(_numbers),
    "seconds": _maybe(float),
    "started": _maybe(float),
    "lease_until": _maybe(float),
    "error": clean,
    "stop_reason": clean,
    "spaces": tuple,
}


def _fields(body: Mapping[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    # what a newer peer adds is passed over
    return {name: _READ[name](body[name]) if name in _READ else body[name] for name in known if name in body}


def trial_from(body: Mapping[str, Any]) -> Trial:
    """Read a trial."""
    return BLANK.but(**_fields(body, TRIAL_FIELDS))


def outcome_from(body: Mapping[str, Any]) -> Outcome:
    """Read an outcome."""
    return Outcome(**_fields(body, OUTCOME_FIELDS))


def row_from(body: Mapping[str, Any]) -> StudyRow:
    """Read what is stored of a study."""
    return StudyRow(**_fields(body, ROW_FIELDS))


def changes_to_json(changes: Changes) -> dict[str, Any]:
    """Return what a reader sees as JSON can hold it."""
    return {
        "revision": changes.revision,
        "trials": [to_json(trial) for trial in changes.trials],
        "stop_reason": changes.stop_reason,
        "n_spaces": changes.n_spaces,
        "dropped": list(changes.dropped),
    }


def changes_from(body: Mapping[str, Any]) -> Changes:
    """Read what a reader sees."""
    return Changes(
        body["revision"],
        tuple(map(trial_from, body["trials"])),
        body["stop_reason"],
        body["n_spaces"],
        tuple(body["dropped"]),
    )
