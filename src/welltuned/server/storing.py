"""The operations of a storage, one for one: what ``storage="http://…"`` calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from welltuned.errors import UnknownStudy
from welltuned.server.hub import Hub
from welltuned.server.operations import Arguments, Handler, Operation
from welltuned.server.refusals import Doubt, NotFound
from welltuned.server.schema import Schema, maybe, record, several
from welltuned.server.shapes import (
    CHANGES,
    COUNT,
    FLAG,
    FREE,
    NAME,
    NUMBER,
    OUTCOME,
    OWNER,
    PARAMS,
    REPORT,
    SECONDS,
    STUDY,
    TEXT,
    TRIAL,
)
from welltuned.storage import Storage
from welltuned.storage.records import result_of
from welltuned.storage.wire import (
    LONGEST_WAIT,
    changes_to_json,
    outcome_from,
    report_from,
    row_from,
    to_json,
    trial_from,
)
from welltuned.study import delete_stored


def _open(storage: Storage, a: Arguments) -> Any:
    return to_json(storage.open(row_from(a["study"])))


def _studies(storage: Storage, a: Arguments) -> Any:  # noqa: ARG001 - one signature for all operations
    return [to_json(row) for row in storage.studies()]


def _row(storage: Storage, a: Arguments) -> Any:
    return to_json(storage.row(a["study"]))


def _update(storage: Storage, a: Arguments) -> Any:
    space = a.get("space")
    if space is not None and a["doubtful"]:
        stored = storage.row(a["study"])
        if stored.spaces and stored.spaces[-1] == space:
            space = None  # it was stored before the server was started anew
    return to_json(
        storage.update(
            a["study"],
            space=space,
            stop_reason=a.get("stop_reason"),
            clear_stop=a.get("clear_stop", False),
            attributes=a.get("attributes"),
        )
    )


def _running(storage: Storage, a: Arguments) -> Any:
    return [list(claim) for claim in storage.running(a["study"])]


def _add(storage: Storage, a: Arguments) -> Any:
    known = a.get("known", True)
    if known and a["doubtful"]:
        raise Doubt("the server was started anew before it answered; the trials may have been added, or not")
    return storage.add(a["study"], [trial_from(trial) for trial in a["trials"]], known=known)


def _claim(storage: Storage, a: Arguments) -> Any:
    found = storage.claim(a["study"], a["owner"], a["lease"], a.get("n", 1), a.get("budget"))
    return [to_json(trial) for trial in found]


def _assign(storage: Storage, a: Arguments) -> Any:
    return storage.assign(
        a["study"],
        a["number"],
        a["token"],
        a["params"],
        a["key"],
        a["space_version"],
        unique=a.get("unique", True),
        provenance=a.get("provenance"),
    )


def _report(storage: Storage, a: Arguments) -> Any:
    return storage.report(a["study"], a["number"], a["token"], report_from(a["report"]))


def _finish(storage: Storage, a: Arguments) -> Any:
    outcome = outcome_from(a["outcome"])
    if storage.finish(a["study"], a["number"], a["token"], outcome):
        return True
    if not a["doubtful"]:
        return False
    # was it this very result that was stored before the server was started anew?
    trial = next((t for t in storage.read(a["study"]).trials if t.number == a["number"]), None)
    return (
        trial is not None
        and trial.token == a["token"]
        and result_of(trial.number, trial) == result_of(trial.number, outcome)
    )


def _renew(storage: Storage, a: Arguments) -> Any:
    return storage.renew(a["study"], [(number, token) for number, token in a["claims"]], a["lease"])


def _release(storage: Storage, a: Arguments) -> Any:
    kind = {"drop": a.get("drop", False), "begun": a.get("begun", True)}
    return storage.release(a["study"], a["number"], a["token"], **kind)


def _remove(hub: Hub, a: Arguments) -> Any:
    """Delete a study, with the checkpoints beside the file that is served."""
    study = a["study"]
    try:
        hub.desk.check_id(study, a.get("name"), a.get("created"))
        row = hub.storage.row(study)
        trials = delete_stored(hub.storage, row)
    except (NotFound, UnknownStudy):
        if a["doubtful"] and all(row.id != study for row in hub.storage.studies()):
            return 0  # it was deleted before the server was started anew
        raise
    hub.desk.forget(study, row.name)
    return trials


async def _delete(hub: Hub, a: Arguments) -> Any:
    return await hub.work(_remove, hub, a)


async def _read(hub: Hub, a: Arguments) -> Any:
    await hub.work(hub.desk.check_id, a["study"], a.get("name"), a.get("created"))
    return changes_to_json(await hub.read(a["study"], a.get("since", 0), a.get("wait", 0.0)))


def _threaded(action: Callable[[Storage, Arguments], Any]) -> Handler:
    def act(hub: Hub, a: Arguments) -> Any:
        if isinstance(a.get("study"), int):
            hub.desk.check_id(a["study"], a.get("name"), a.get("created"))
        return action(hub.storage, a)

    async def handler(hub: Hub, a: Arguments) -> Any:
        return await hub.work(act, hub, a)

    return handler


def _operation(
    name: str,
    summary: str,
    action: Callable[[Storage, Arguments], Any],
    body: Schema,
    answer: Schema,
    *,
    changes: bool = True,
) -> Operation:
    path = f"/v1/storage/{name}"
    return Operation("POST", path, summary, _threaded(action), answer, body, changes=changes)


#: which study: its number, and what tells it from another study that has this number in another storage
ONE: dict[str, Schema] = {
    "study": COUNT,
    "name": {**NAME, "description": "Refused unless the study of this number has this name."},
    "created": {**NUMBER, "description": "Refused unless the study of this number was created then."},
}
HELD = {**ONE, "number": COUNT, "token": COUNT}
OPERATIONS = (
    _operation("open", "Find a study by its name, or create it.", _open, record("study", study=STUDY), STUDY),
    _operation("studies", "List the studies.", _studies, record(), several(STUDY), changes=False),
    _operation("row", "Read what is stored of a study.", _row, record("study", **ONE), STUDY, changes=False),
    _operation(
        "update",
        "Append a version of the space, set or clear the reason to stop, set some attributes.",
        _update,
        record(
            "study",
            **ONE,
            space=maybe(FREE),
            stop_reason=maybe(TEXT),
            clear_stop=FLAG,
            attributes=maybe(FREE),
        ),
        STUDY,
    ),
    Operation(
        "POST",
        "/v1/storage/delete",
        "Delete a study with all its trials; the answer is how many it had.",
        _delete,
        COUNT,
        record("study", **ONE),
        changes=True,
    ),
    Operation(
        "POST",
        "/v1/storage/read",
        "Read what changed after a revision, and wait for it.",
        _read,
        CHANGES,
        record(
            "study",
            **ONE,
            since=maybe(COUNT),
            wait={"type": "number", "minimum": 0, "maximum": LONGEST_WAIT},
        ),
    ),
    _operation(
        "running",
        "List the claims that are held: number, token, owner.",
        _running,
        record("study", **ONE),
        several(several({"type": ["integer", "string", "null"]})),
        changes=False,
    ),
    _operation(
        "add",
        "Append trials under new numbers.",
        _add,
        record("study trials", **ONE, trials=several(TRIAL), known=FLAG),
        several(COUNT),
    ),
    _operation(
        "claim",
        "Claim waiting trials, then new slots within the budget.",
        _claim,
        record(
            "study owner lease",
            **ONE,
            owner=OWNER,
            lease=SECONDS,
            n={"type": "integer", "minimum": 0, "maximum": 10_000},
            budget=maybe(COUNT),
        ),
        several(TRIAL),
    ),
    _operation(
        "assign",
        "Store the configuration of a claimed slot.",
        _assign,
        record(
            "study number token params key space_version",
            **HELD,
            params=PARAMS,
            key=TEXT,
            space_version=COUNT,
            unique=FLAG,
            provenance=maybe(FREE),
        ),
        FLAG,
    ),
    _operation(
        "report",
        "Store intermediate metrics.",
        _report,
        record("study number token report", **HELD, report=REPORT),
        FLAG,
    ),
    _operation(
        "finish",
        "Store how a claimed trial ended.",
        _finish,
        record("study number token outcome", **HELD, outcome=OUTCOME),
        FLAG,
    ),
    _operation(
        "renew",
        "Extend leases; the answer lists the trials that are no longer held.",
        _renew,
        record("study claims lease", **ONE, claims=several(several(COUNT, minItems=2, maxItems=2)), lease=SECONDS),
        several(COUNT),
    ),
    _operation(
        "release",
        "Give a claim back.",
        _release,
        record("study number token", **HELD, drop=FLAG, begun=FLAG),
        FLAG,
    ),
)
