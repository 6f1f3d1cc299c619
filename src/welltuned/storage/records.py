"""Trials and studies as rows of text and numbers, and back: what every storage that leaves this process writes.

What was stored is sealed with a checksum, because a database notices that its pages do not fit together, but not that
a digit in one of them is another one now.
"""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from welltuned.errors import DamagedStorage, InvalidValue
from welltuned.storage.protocol import StudyRow
from welltuned.trial import Origin, Outcome, Reason, Report, State, Trial

_PARAMS = ("number", "key", "params", "provenance")
_RESULT = ("number", "state", "metrics", "sems", "gradient", "reason", "error", "seconds", "attributes")
_STUDY = ("name", "directions", "seed", "sampler", "stop_reason", "created", "attributes")

#: table, its key, the columns that one checksum covers, and the column that holds it
SEALED = (
    ("study", ("id",), _STUDY, "digest"),
    ("space", ("study", "version"), ("version", "body"), "digest"),
    ("trial", ("study", "number"), _PARAMS, "params_digest"),
    ("trial", ("study", "number"), _RESULT, "result_digest"),
    ("report", ("study", "number", "step"), ("number", "step", "metrics"), "digest"),
)

COLUMNS = (
    "number, state, params, key, metrics, sems, gradient, reason, error, origin, attempts, owner, token, lease_until, "
    "started, seconds, attributes, space_version, revision, assigned, provenance, params_digest, result_digest"
)
STUDY_COLUMNS = f"id, {', '.join(_STUDY)}, digest"


def seal(*values: Any) -> int:
    """Return the checksum of some columns (CRC-32)."""
    return zlib.crc32("\x1f".join(map(repr, values)).encode("utf-8", "backslashreplace"))


def dumps(value: Mapping[str, Any] | None) -> str | None:
    """Write a mapping as JSON."""
    if value is None:
        return None
    return json.dumps(value if type(value) is dict else dict(value)) if value else "{}"


def loads(text: str | None) -> Any:
    """Read what :func:`dumps` wrote."""
    if text is None:
        return None
    return {} if text == "{}" else json.loads(text)


def clean(text: str | None) -> str | None:
    """Return a text that every database takes: no null characters, no lone surrogates."""
    if text is None or (text.isascii() and "\0" not in text):
        return text
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def unstorable(where: str, error: UnicodeEncodeError | OverflowError) -> InvalidValue:
    """Return the error for a text or a number that no database takes."""
    if isinstance(error, UnicodeEncodeError):
        return InvalidValue(f"{where}: {error.object!r} has a character in it that cannot be stored ({error.reason})")
    return InvalidValue(f"{where}: a whole number has more than 64 bits and cannot be stored")


def result_of(number: int, outcome: Outcome | Trial) -> dict[str, Any]:
    """Return the columns of a result, sealed."""
    columns = {
        "number": number,
        "state": outcome.state.value,
        "metrics": dumps(outcome.metrics),
        "sems": dumps(outcome.sems),
        "gradient": dumps(outcome.gradient),
        "reason": outcome.reason and outcome.reason.value,
        "error": clean(outcome.error),
        "seconds": None if outcome.seconds is None else float(outcome.seconds),
        "attributes": dumps(outcome.attributes),
    }
    return {**columns, "result_digest": seal(*columns.values())}


def params_of(
    number: int, key: str | None, params: Mapping[str, Any] | None, provenance: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the columns of a configuration, sealed."""
    columns = {"number": number, "key": key, "params": dumps(params), "provenance": dumps(provenance)}
    return {**columns, "params_digest": seal(*columns.values())}


def trial_of(
    row: Sequence[Any], objectives: tuple[str, ...], reports: tuple[Report, ...], where: str = "the storage"
) -> Trial:
    """Return the trial that ``COLUMNS`` of one row hold.

    Raises
    ------
    DamagedStorage
        When the row is not what was written.
    """
    trial: Trial = object.__new__(Trial)  # the constructor of a frozen record would take most of the time
    stored = dict(zip(NAMES, row, strict=True))
    number, digests = stored["number"], (stored.pop("params_digest"), stored.pop("result_digest"))
    if _is_changed(stored, *digests):
        raise damaged(where, f"trial {number}")
    try:
        for name in MAPPINGS:
            stored[name] = loads(stored[name])
        stored["state"], stored["origin"] = STATES[stored["state"]], ORIGINS[stored["origin"]]
        stored["reason"] = None if stored["reason"] is None else Reason(stored["reason"])
        for name in ("started", "lease_until"):  # no checksum covers what changes with every claim
            stored[name] = None if stored[name] is None else float(stored[name])
    except (KeyError, ValueError, TypeError):
        raise damaged(where, f"trial {number}") from None
    trial.__dict__.update(stored, objectives=objectives, reports=reports)
    return trial


def _is_changed(stored: Mapping[str, Any], params_digest: int | None, result_digest: int | None) -> bool:
    if params_digest is not None and params_digest != seal(*[stored[name] for name in _PARAMS]):
        return True
    if result_digest is None or stored["state"] not in RESTING:
        return False
    return result_digest != seal(*[stored[name] for name in _RESULT])


NAMES = tuple(COLUMNS.split(", "))
MAPPINGS = ("params", "metrics", "sems", "gradient", "attributes", "provenance")
STATES = {state.value: state for state in State}
ORIGINS = {origin.value: origin for origin in Origin}
RESTING = frozenset(state.value for state in State if state.resting)  # those whose result is sealed


def report_of(number: int, report: Report) -> dict[str, Any]:
    """Return the columns of a report, sealed."""
    columns = {"number": number, "step": int(report.step), "metrics": dumps(report.metrics)}
    return {**columns, "digest": seal(*columns.values())}


def reports_of(rows: Sequence[Sequence[Any]], where: str = "the storage") -> dict[int, tuple[Report, ...]]:
    """Return the reports in rows of (number, step, metrics, digest), by trial; rows are ordered."""
    found: dict[int, list[Report]] = {}
    for number, step, metrics, digest in rows:
        read = _metrics(number, step, metrics, digest)
        if read is None:
            raise damaged(where, f"the report of trial {number} at step {step}")
        found.setdefault(number, []).append(Report(step, dict(read)))
    return {number: tuple(reports) for number, reports in found.items()}


@functools.lru_cache(1 << 14)  # a trial that reports is read again with all that it reported before
def _metrics(number: int, step: int, metrics: str, digest: int | None) -> dict[str, float] | None:
    sound = digest is None or digest == seal(number, step, metrics)
    return loads(metrics) if sound else None


def tombstone_of(study: int, revision: int) -> dict[str, Any]:
    """Return the columns of what is left of a study that was deleted: a dropped slot of no number, sealed.

    By it nobody gives the study's number to another one, and nobody saves out of a damaged file what was deleted.
    """
    return {"number": -1, "revision": revision, "token": seal(study, "deleted", revision) >> 1}  # 31 bits, as it has


def study_of(row: StudyRow) -> dict[str, Any]:
    """Return the columns of a study, sealed."""
    columns = {
        "name": row.name,
        "directions": json.dumps(dict(row.directions)),
        "seed": str(row.seed),
        "sampler": json.dumps(dict(row.sampler)),
        "stop_reason": clean(row.stop_reason),
        "created": float(row.created),
        "attributes": json.dumps(dict(row.attributes)),
    }
    return {**columns, "digest": seal(*columns.values())}


def row_of(columns: Sequence[Any], spaces: Sequence[tuple[int, str, int | None]], where: str) -> StudyRow:
    """Return the study that ``STUDY_COLUMNS`` of one row hold, with its (version, body, digest) of spaces."""
    number, name, directions, seed, sampler, stop, created, attributes, digest = columns
    if digest is not None and digest != seal(name, directions, seed, sampler, stop, created, attributes):
        raise damaged(where, f"study {number}")
    for version, body, digest in spaces:
        if digest is not None and digest != seal(version, body):
            raise damaged(where, f"version {version} of the space of study {name!r}")
    return StudyRow(
        number,
        name,
        json.loads(directions),
        int(seed),
        json.loads(sampler),
        tuple(json.loads(body) for _, body, _ in spaces),
        stop,
        created,
        json.loads(attributes),
    )


def damaged(where: str, what: str) -> DamagedStorage:
    """Build the error for a row that is not what was written."""
    return DamagedStorage(f"{where} is damaged: {what} is not what was stored; save the rest: {SALVAGE}")


SALVAGE = "welltuned salvage FILE NEW_FILE"
