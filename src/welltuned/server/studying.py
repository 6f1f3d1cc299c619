"""The operations on studies, for workers in any language: ask, report, tell."""

from __future__ import annotations

from typing import Any

from welltuned.server.desk import LEASE as USUAL
from welltuned.server.hub import Hub
from welltuned.server.operations import Arguments, Operation
from welltuned.server.schema import Schema, maybe, record, several
from welltuned.server.shapes import (
    COUNT,
    DIRECTIONS,
    ENDS,
    FREE,
    LEASE,
    NAME,
    NUMBER,
    NUMBERS,
    PARAMS,
    REASON,
    REPORT,
    STEP,
    TEXT,
    TRIAL,
)


async def _studies(hub: Hub, a: Arguments) -> Any:  # noqa: ARG001 - one signature for all operations
    rows = await hub.work(hub.storage.studies)
    return {
        "studies": [
            {"name": row.name, "directions": dict(row.directions), "stop_reason": row.stop_reason} for row in rows
        ]
    }


async def _ask(hub: Hub, a: Arguments) -> Any:
    wishes = a.get("worker") or a["client"], a.get("n", 1), a.get("n_trials"), a.get("lease", USUAL)
    return await hub.search(a["name"], hub.desk.ask, a["name"], *wishes)


async def _report(hub: Hub, a: Arguments) -> Any:
    given = a["step"], a.get("value"), a.get("metrics", {}), a.get("lease")
    return await hub.search(a["name"], hub.desk.report, a["name"], a["number"], a["token"], *given)


async def _tell(hub: Hub, a: Arguments) -> Any:
    return await hub.search(a["name"], hub.desk.tell, a["name"], a["number"], a["token"], a)


async def _renew(hub: Hub, a: Arguments) -> Any:
    return await hub.work(hub.desk.renew, a["name"], a["number"], a["token"], a.get("lease"))


async def _release(hub: Hub, a: Arguments) -> Any:
    return await hub.work(hub.desk.release, a["name"], a["number"], a["token"])


async def _enqueue(hub: Hub, a: Arguments) -> Any:
    return await hub.search(a["name"], hub.desk.enqueue, a["name"], a["params"])


async def _stop(hub: Hub, a: Arguments) -> Any:
    return await hub.work(hub.desk.stop, a["name"], a["reason"])


ONE = "/v1/studies/{name}"
TRIAL_PATH = f"{ONE}/trials/{{number}}"
PATH: dict[str, Schema] = {"name": NAME, "number": COUNT}
RENEWED: Schema = {
    **LEASE,
    "description": "Seconds until the claim runs out, from now; as long as it was asked for, unless given.",
}
TOKEN: Schema = {**COUNT, "description": "What the answer to ask named; it grows when another worker takes over."}
ASKED = record(
    "number token params reports lease",
    number=COUNT,
    token=TOKEN,
    params=PARAMS,
    reports=several(REPORT),
    lease=LEASE,
)
OPERATIONS = (
    Operation(
        "GET",
        "/v1/studies",
        "List the studies.",
        _studies,
        record(
            "studies",
            studies=several(
                record("name directions stop_reason", name=NAME, directions=DIRECTIONS, stop_reason=maybe(TEXT))
            ),
        ),
    ),
    Operation(
        "POST",
        f"{ONE}/ask",
        "Claim the next trials to evaluate.",
        _ask,
        record("trials", trials=several(ASKED)),
        record(
            n={"type": "integer", "minimum": 1, "maximum": 100, "description": "How many; 1 unless given."},
            n_trials={
                "type": ["integer", "null"],
                "minimum": 1,
                "maximum": 2**53,
                "description": "The number of trials of the study in all; as it was given before, unless given.",
            },
            lease={**LEASE, "description": f"Seconds until the claim runs out; {USUAL:g} unless given."},
            worker={"type": "string", "maxLength": 200, "description": "Who evaluates; the address unless given."},
        ),
        changes=True,
        what="Renew the claim, or report, before the lease runs out.",
    ),
    Operation(
        "POST",
        f"{TRIAL_PATH}/report",
        "Report an intermediate value; the answer says whether to stop.",
        _report,
        record("stop", stop={"type": "boolean"}),
        record("token step", token=TOKEN, step=STEP, value=NUMBER, metrics=NUMBERS, lease=RENEWED),
        changes=True,
        what="The value of the only objective, or all objectives by name. Renews the claim as well.",
    ),
    Operation(
        "POST",
        f"{TRIAL_PATH}/tell",
        "Tell how a trial ended.",
        _tell,
        TRIAL,
        record(
            "token",
            token=TOKEN,
            value=NUMBER,
            metrics=NUMBERS,
            sem={"type": "number", "minimum": 0},
            gradient=NUMBERS,
            state=ENDS,
            reason=REASON,
            error=TEXT,
            seconds={"type": "number", "minimum": 0},
            attributes=FREE,
        ),
        changes=True,
        what="The value of the only objective, or all metrics by name; or the state 'failed' or 'pruned'. "
        "'error' goes with these two, 'reason' with 'failed'.",
    ),
    Operation(
        "POST",
        f"{TRIAL_PATH}/renew",
        "Extend a claim.",
        _renew,
        record("lease", lease=LEASE),
        record("token", token=TOKEN, lease=RENEWED),
        changes=True,
    ),
    Operation(
        "POST",
        f"{TRIAL_PATH}/release",
        "Give a claim back; another worker will evaluate the trial.",
        _release,
        record(),
        record("token", token=TOKEN),
        changes=True,
    ),
    Operation(
        "POST",
        f"{ONE}/enqueue",
        "Let a configuration, or a list of them, be evaluated next.",
        _enqueue,
        record("numbers", numbers=several(COUNT)),
        record(
            "params",
            params={**PARAMS, "type": ["object", "array"], "items": PARAMS, "maxItems": 10_000},
        ),
        changes=True,
    ),
    Operation(
        "POST",
        f"{ONE}/stop",
        "End the study after the trials that are running; with null, let it go on.",
        _stop,
        record("stop_reason", stop_reason=maybe(TEXT)),
        record("reason", reason={"type": ["string", "null"], "minLength": 1}),
        changes=True,
    ),
)
