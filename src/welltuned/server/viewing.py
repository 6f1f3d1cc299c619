"""The operations for those who look on: what is known of studies, and their reports."""

from __future__ import annotations

import gzip
from typing import Any

from welltuned.server.hub import Hub
from welltuned.server.operations import Arguments, Operation, Ready
from welltuned.server.schema import maybe, record, several
from welltuned.server.shapes import COUNT, DIRECTIONS, FLAG, FREE, NAME, NUMBER, PARAMS, REPORT, SEED, TEXT, TRIAL
from welltuned.server.studying import ONE
from welltuned.server.window import PAGE, RUNNING
from welltuned.trial import State

PACKED_FROM = 4096  # bytes from which an answer is packed


async def _overview(hub: Hub, a: Arguments) -> Any:  # noqa: ARG001 - one signature for all operations
    return await hub.look(hub.window.overview)


async def _study(hub: Hub, a: Arguments) -> Any:
    return await hub.look(hub.window.summary, a["name"], a.get("reports"))


async def _trials(hub: Hub, a: Arguments) -> Any:
    page = a.get("since", 0), a.get("offset", 0), a.get("limit", PAGE), a.get("reports")
    return await hub.look(hub.window.trials, a["name"], *page)


async def _report(hub: Hub, a: Arguments) -> Any:
    return await hub.draw(_packed, a["packed"], hub.window.report, a["name"], a.get("since"))


async def _comparison(hub: Hub, a: Arguments) -> Any:
    return await hub.draw(_packed, a["packed"], hub.window.comparison, a["studies"], a.get("since"))


def _packed(packed: bool, draw: Any, *args: Any) -> Ready:
    content = draw(*args)
    worth = packed and len(content) >= PACKED_FROM
    return Ready(gzip.compress(content, 1) if worth else content)


UNDER_WAY = record(
    "number params started lease_until attempts owner report",
    number=COUNT,
    params=maybe(PARAMS),
    started=maybe(NUMBER),
    lease_until=maybe(NUMBER),
    attempts=COUNT,
    owner=maybe(TEXT),
    report=maybe(REPORT),
)
COUNTS = record(" ".join(s.value for s in State), **{s.value: COUNT for s in State})
SUMMARY = record(
    "name directions seed sampler scheduler space stop_reason notes counts best front n_trials spent running revision "
    "created time",
    name=NAME,
    directions=DIRECTIONS,
    seed=SEED,
    sampler=FREE,
    scheduler=maybe(FREE),
    space=maybe(FREE),
    stop_reason=maybe(TEXT),
    notes=FREE,
    counts=COUNTS,
    best=maybe(TRIAL),
    front=maybe(several(TRIAL)),
    n_trials={**maybe(COUNT), "description": "How many trials there are to be in all, where that is known."},
    spent={**COUNT, "description": "How many count against that."},
    running={**several(UNDER_WAY), "description": f"The latest {RUNNING} that are evaluated now."},
    revision=COUNT,
    created=NUMBER,
    time={**NUMBER, "description": "What the server's clock says."},
)
BRIEF = record(
    "name directions stop_reason created error counts best front active",
    name=NAME,
    directions=DIRECTIONS,
    stop_reason=maybe(TEXT),
    created=NUMBER,
    error={**maybe(TEXT), "description": "Why the study cannot be read, where that is so."},
    counts=maybe(COUNTS),
    best=maybe(record("number value", number=COUNT, value=NUMBER)),
    front={
        **maybe(COUNT),
        "description": "How many trials are on the Pareto front, where there are several objectives.",
    },
    active={**NUMBER, "description": "When a trial began or ended last, in seconds since the epoch."},
)
REPORTS = {**COUNT, "description": "How many of the last reports of each trial; all unless given."}
NEXT = {**NUMBER, "description": "In how many seconds it is worth while to ask again."}
SECTION = record(
    "key title note html half figure",
    key=TEXT,
    title=TEXT,
    note={**TEXT, "description": "HTML."},
    html=TEXT,
    half={**FLAG, "description": "Whether it stands beside the next one that is a half."},
    figure={**maybe(FREE), "description": "As Plotly draws it."},
)
FIGURES = {**FLAG, "description": "Whether the server can draw figures: with plotly."}
SINCE = {**COUNT, "description": "The revision that is known already: nothing else comes unless it has changed."}
OPERATIONS = (
    Operation(
        "GET",
        "/v1/overview",
        "List the studies with what has become of them.",
        _overview,
        record("studies time next", studies=several(BRIEF), time=NUMBER, next=NEXT),
        what="Of many studies, some may not have been looked at yet: their counts are null.",
    ),
    Operation(
        "GET",
        ONE,
        "Show a study: its space, its best, how many trials there are.",
        _study,
        SUMMARY,
        query={"reports": REPORTS},
    ),
    Operation(
        "GET",
        f"{ONE}/trials",
        "Read trials, by number, a page at a time.",
        _trials,
        record(
            "revision total trials dropped",
            revision=COUNT,
            total=COUNT,
            trials=several(TRIAL),
            dropped={**several(COUNT), "description": "Numbers of trials that are gone since."},
        ),
        query={
            "since": {**COUNT, "description": "Only what changed after this revision."},
            "offset": COUNT,
            "limit": {"type": "integer", "minimum": 1, "maximum": 1000},
            "reports": REPORTS,
        },
    ),
    Operation(
        "GET",
        f"{ONE}/report",
        "Read the report of a study, section by section.",
        _report,
        record(
            "revision next",
            revision=COUNT,
            next=NEXT,
            name=NAME,
            summary=TEXT,
            figures=FIGURES,
            sections=several(SECTION),
        ),
        query={"since": SINCE},
        what="Drawn anew when the study has changed, for at most a tenth of the time.",
    ),
    Operation(
        "POST",
        "/v1/compare",
        "Read what there is to say of several studies beside one another.",
        _comparison,
        record("revision next", revision=COUNT, next=NEXT, figures=FIGURES, sections=several(SECTION)),
        record("studies", studies={**several(NAME), "minItems": 1, "maxItems": 50}, since=SINCE),
    ),
)
