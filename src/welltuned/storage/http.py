"""Studies on another machine: the client of ``welltuned serve``. It needs nothing but the standard library."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from welltuned.errors import StorageError
from welltuned.storage.caller import Caller
from welltuned.storage.protocol import Changes, StudyRow
from welltuned.storage.records import clean
from welltuned.storage.wire import (
    another_storage,
    changes_from,
    report_to_json,
    row_from,
    sendable,
    to_json,
    trial_from,
)
from welltuned.trial import Outcome, Report, Trial

log = logging.getLogger("welltuned")
POLL = 10.0  # seconds that one request waits for news


class HTTPStorage:
    """Keep studies with the server at ``url``, ``http://host:8642``, which ``welltuned serve`` runs.

    The token is the one that the server printed when it started: ``token=``, or ``http://:TOKEN@host:8642``, or the
    variable ``WELLTUNED_TOKEN``. While the server cannot be reached, calls wait up to ``patience`` seconds for it to
    come back; what was sent twice counts once.

    Raises
    ------
    InvalidValue
        When the address cannot be read.
    StorageError
        When there is no token or a wrong one, when the server cannot be reached, or is none of welltuned's, or of
        another version.
    """

    def __init__(self, url: str, token: str | None = None, patience: float = 60.0) -> None:
        self._caller = Caller(url, token, patience)
        self.url = self._caller.url
        self.where = self._caller.where
        self._known: dict[int, tuple[str, float]] = {}  # study -> name, created
        self._seen: dict[int, int] = {}  # study -> revision
        health = self._caller.get("/v1/health", patience=min(patience, 10.0))
        if not isinstance(health, dict) or not health.get("authorized"):
            raise self._caller.unauthorized()

    def __repr__(self) -> str:
        return f"HTTPStorage({self.url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.url, self._caller.token, self._caller.patience, dict(self._known))

    def _change(self, operation: str, **body: Any) -> Any:
        return self._caller.post(f"/v1/storage/{operation}", self._named(body), changes=True)

    def _look(self, operation: str, **body: Any) -> Any:
        wait = body.get("wait", 0.0)
        return self._caller.post(f"/v1/storage/{operation}", self._named(body), changes=False, wait=wait)

    def _named(self, body: dict[str, Any]) -> dict[str, Any]:
        """Say which study it is: its number may be that of another one, should the server come back with another file.

        It is told by what was known of it when this storage first met it.
        """
        known = self._known.get(body["study"]) if isinstance(body.get("study"), int) else None
        return body if known is None else {**body, "name": known[0], "created": known[1]}

    def _row(self, body: Any) -> StudyRow:
        row = row_from(body)
        found = row.name, row.created
        if (known := self._known.setdefault(row.id, found)) != found:
            raise StorageError(f"{self.where}: {another_storage(row.id, known[0])}")
        return row

    # studies

    def open(self, row: StudyRow) -> StudyRow:
        """See :meth:`Storage.open`."""
        return self._row(self._change("open", study=to_json(row)))

    def studies(self) -> list[StudyRow]:
        """See :meth:`Storage.studies`."""
        return [self._row(row) for row in self._look("studies")]

    def row(self, study: int) -> StudyRow:
        """See :meth:`Storage.row`."""
        return self._row(self._look("row", study=study))

    def update(
        self,
        study: int,
        *,
        space: Mapping[str, Any] | None = None,
        stop_reason: str | None = None,
        clear_stop: bool = False,
        attributes: Mapping[str, Any] | None = None,
    ) -> StudyRow:
        """See :meth:`Storage.update`."""
        return self._row(
            self._change(
                "update",
                study=study,
                space=None if space is None else dict(space),
                stop_reason=clean(stop_reason),
                clear_stop=clear_stop,
                attributes=None if attributes is None else dict(attributes),
            )
        )

    def delete(self, study: int) -> int:
        """See :meth:`Storage.delete`."""
        return int(self._change("delete", study=study))

    # reading

    def read(self, study: int, since: int | None = 0, *, wait: float = 0.0) -> Changes:
        """See :meth:`Storage.read`. A long wait is several requests, so that a lost connection is noticed.

        Raises
        ------
        StorageError
            Also when the server came back with an older copy of what it served before.
        """
        deadline = time.monotonic() + wait
        while True:
            left = deadline - time.monotonic() if since is not None else 0.0
            part = min(max(left, 0.0), POLL)
            seen = self._seen.get(study, 0)  # before the question: answers may overtake each other
            changes = changes_from(self._look("read", study=study, since=since, wait=part))
            if changes.revision < seen:
                raise StorageError(
                    f"{self.where}: the server now serves an older copy of the storage, at revision {changes.revision} "
                    f"of study {study} after {seen}; serve the newer one, or start this program anew"
                )
            self._seen[study] = max(changes.revision, self._seen.get(study, 0))
            if since is None or changes.revision > since or left <= part:
                return changes

    def running(self, study: int) -> list[tuple[int, int, str | None]]:
        """See :meth:`Storage.running`."""
        return [(number, token, owner) for number, token, owner in self._look("running", study=study)]

    # trials

    def add(self, study: int, trials: Sequence[Trial], *, known: bool = True) -> list[int]:
        """See :meth:`Storage.add`.

        Raises
        ------
        StorageError
            Also when the server went away before it answered, and came back without knowing whether it had added them.
        """
        return list(self._change("add", study=study, trials=[to_json(trial) for trial in trials], known=known))

    def claim(self, study: int, owner: str, lease: float, n: int = 1, budget: int | None = None) -> list[Trial]:
        """See :meth:`Storage.claim`. Where a restart takes the answer away, the claim is nobody's until it runs out."""
        found = self._change("claim", study=study, owner=owner, lease=lease, n=n, budget=budget)
        return [trial_from(trial) for trial in found]

    def assign(
        self,
        study: int,
        number: int,
        token: int,
        params: Mapping[str, Any],
        key: str,
        space_version: int,
        *,
        unique: bool = True,
        provenance: Mapping[str, Any] | None = None,
    ) -> bool:
        """See :meth:`Storage.assign`."""
        return bool(
            self._change(
                "assign",
                study=study,
                number=number,
                token=token,
                params=dict(params),
                key=key,
                space_version=space_version,
                unique=unique,
                provenance=None if provenance is None else dict(provenance),
            )
        )

    def report(self, study: int, number: int, token: int, report: Report) -> bool:
        """See :meth:`Storage.report`."""
        return bool(self._change("report", study=study, number=number, token=token, report=report_to_json(report)))

    def finish(self, study: int, number: int, token: int, outcome: Outcome) -> bool:
        """See :meth:`Storage.finish`. Attributes of many megabytes are left out: without a result that the server can
        take, the trial would be evaluated again and again.
        """
        attributes, without = sendable(outcome.attributes)
        if without:
            log.warning("trial %d: its attributes %r are too large for the server and are left out", number, without)
        body = {**to_json(outcome), "attributes": attributes}
        return bool(self._change("finish", study=study, number=number, token=token, outcome=body))

    def renew(self, study: int, claims: Sequence[tuple[int, int]], lease: float) -> list[int]:
        """See :meth:`Storage.renew`."""
        return list(self._change("renew", study=study, claims=[list(claim) for claim in claims], lease=lease))

    def release(self, study: int, number: int, token: int, *, drop: bool = False, begun: bool = True) -> bool:
        """See :meth:`Storage.release`."""
        return bool(self._change("release", study=study, number=number, token=token, drop=drop, begun=begun))

    def together(self, study: int) -> AbstractContextManager[None]:  # noqa: ARG002
        """See :meth:`Storage.together`. Each step is stored by itself."""
        return nullcontext()

    def close(self) -> None:
        """See :meth:`Storage.close`."""
        self._caller.close()


def _again(url: str, token: str, patience: float, known: Mapping[int, tuple[str, float]]) -> HTTPStorage:
    """Open a storage that was pickled. What it knew of its studies it still refuses to mistake for others."""
    storage = HTTPStorage(url, token, patience)
    storage._known.update(known)
    return storage
