"""What the records look like as JSON, in the words of :mod:`welltuned.server.schema`."""

from __future__ import annotations

from typing import Any

from welltuned.server.schema import Schema, maybe, record, several
from welltuned.storage.wire import OUTCOME_FIELDS, ROW_FIELDS, TRIAL_FIELDS
from welltuned.trial import Origin, Reason, State

LARGEST = 2**63 - 1
COUNT: Schema = {"type": "integer", "minimum": 0, "maximum": LARGEST}
SEED: Schema = {"type": "integer", "minimum": 0}
STEP: Schema = {"type": "integer", "minimum": -LARGEST, "maximum": LARGEST}
NUMBER: Schema = {"type": "number"}
SECONDS: Schema = {"type": "number", "minimum": -1e9, "maximum": 1e9}
LEASE: Schema = {"type": "number", "minimum": 1, "maximum": 1e7, "description": "Seconds until the claim runs out."}
FLAG: Schema = {"type": "boolean"}
TEXT: Schema = {"type": "string"}
NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 500}
OWNER: Schema = {"type": "string", "maxLength": 1000}
ANYTHING: Schema = {}
FREE: Schema = {"type": "object"}
NUMBERS: Schema = {"type": "object", "additionalProperties": NUMBER}
#: choices that JSON cannot hold are named by their labels
PARAMS: Schema = {
    "type": "object",
    "additionalProperties": {"type": ["string", "number", "integer", "boolean", "null"]},
}
DIRECTIONS: Schema = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {"type": "string", "enum": ["minimize", "maximize"]},
}
ENDS: Schema = {"type": "string", "enum": [s.value for s in State if s.finished]}
REASON: Schema = {"type": "string", "enum": [r.value for r in Reason]}
REPORT = record("step metrics", step=STEP, metrics=NUMBERS)

_FIELDS: dict[str, Schema] = {
    "number": COUNT,
    "state": {"type": "string", "enum": [s.value for s in State]},
    "params": maybe(PARAMS),
    "metrics": NUMBERS,
    "sems": NUMBERS,
    "gradient": maybe(NUMBERS),
    "reports": several(REPORT),
    "reason": maybe(REASON),
    "error": maybe(TEXT),
    "origin": {"type": "string", "enum": [o.value for o in Origin]},
    "attempts": COUNT,
    "owner": maybe(OWNER),
    "token": COUNT,
    "lease_until": maybe(NUMBER),
    "started": maybe(NUMBER),
    "seconds": maybe(NUMBER),
    "attributes": FREE,
    "space_version": COUNT,
    "key": maybe(TEXT),
    "objectives": several(TEXT),
    "revision": COUNT,
    "assigned": maybe(COUNT),
    "provenance": maybe(FREE),
    "id": COUNT,
    "name": NAME,
    "directions": DIRECTIONS,
    "seed": SEED,
    "sampler": FREE,
    "spaces": several(FREE),
    "stop_reason": maybe(TEXT),
    "created": NUMBER,
}


def _shape(names: tuple[str, ...], required: str) -> dict[str, Any]:
    return record(required, **{name: _FIELDS.get(name, ANYTHING) for name in names})


TRIAL = _shape(TRIAL_FIELDS, "number state")
OUTCOME = _shape(OUTCOME_FIELDS, "state")
STUDY = _shape(ROW_FIELDS, "id name directions seed sampler")
CHANGES = record(
    "revision trials stop_reason n_spaces dropped",
    revision=COUNT,
    trials=several(TRIAL),
    stop_reason=maybe(TEXT),
    n_spaces=COUNT,
    dropped=several(COUNT),
)
ERROR = record("error", error=record("type message", type=TEXT, message=TEXT))
#: what the description names and refers to
NAMED: dict[str, Schema] = {
    "Trial": TRIAL,
    "Outcome": OUTCOME,
    "Study": STUDY,
    "Changes": CHANGES,
    "Report": REPORT,
    "Error": ERROR,
}
