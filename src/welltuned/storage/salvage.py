"""Save what a damaged SQLite file still holds, into a new one.

SQLite finds rows by way of pages that point to pages; one wrong bit in the wrong place hides all that lies below.
Salvage needs none of them: it looks at every page by itself, of the file and of its log, for rows of our tables, and
keeps those whose checksums are right. Of several versions of a row, the latest good one counts.

The format is described in *Database File Format*, sections 1.5 to 2.1, of SQLite.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from welltuned.errors import DamagedStorage, InvalidValue, StorageError
from welltuned.storage import records
from welltuned.storage.protocol import StudyRow
from welltuned.storage.sqlite import PAGE, SQLiteStorage
from welltuned.storage.wal import FRAME, HEADER, MAGIC, beside
from welltuned.trial import State, Trial

TABLE_LEAF, INDEX_LEAF, INDEX_INNER = 0x0D, 0x0A, 0x02
SQLITE = b"SQLite format 3\0"
SIZES = (512, 1024, 2048, 4096, 8192, 16384, 32768)
#: the columns of a row of trials as the schema created them, one after the other
TRIAL = (
    *("study", "number", "state", "params", "key", "metrics", "sems", "gradient", "reason", "error", "origin"),
    *("attempts", "owner", "token", "lease_until", "started", "seconds", "attributes", "space_version", "revision"),
    *("params_digest", "result_digest", "assigned", "provenance"),
)
REALS = {"lease_until", "started", "seconds"}
Image = tuple[int, bytes]  # when it was written, oldest first; the page


@dataclass(frozen=True)
class Salvaged:
    """What was saved of one study.

    Attributes
    ----------
    name
        The study.
    finished, others
        How many finished trials, and how many others, were saved.
    missing
        Numbers of trials that are not there any more: lost, or taken back before.
    reset
        Numbers of trials that lost their results and will be evaluated again.
    """

    name: str
    finished: int
    others: int
    missing: tuple[int, ...]
    reset: tuple[int, ...]


def salvage(damaged: Path, rescued: Path) -> list[Salvaged]:
    """Write what can be read of the file ``damaged`` to the new file ``rescued``.

    Raises
    ------
    InvalidValue
        When ``rescued`` exists.
    StorageError
        When ``damaged`` cannot be read, or no study is in it.
    """
    if rescued.exists():
        raise InvalidValue(f"{str(rescued)!r} exists; salvage writes a new file, give another name")
    try:
        images = _images(damaged)
    except OSError as error:
        raise StorageError(f"storage {str(damaged)!r} cannot be read: {error.strerror or error}") from error
    found = _Rows()
    for age, pages, page in images:
        found.read(age, pages, page)
    if not found.kept():
        raise StorageError(f"storage {str(damaged)!r}: nothing in it can be read as a study")
    storage = SQLiteStorage(rescued)
    try:
        return [_save(storage, found, number) for number in found.kept()]
    finally:
        storage.close()


def _images(path: Path) -> Iterator[tuple[int, Mapping[int, bytes], bytes]]:
    """Return every page that was ever written and is still there, with its age, and the pages of its time."""
    content = path.read_bytes()
    log = beside(path, "-wal")
    frames = log.read_bytes() if log.exists() else b""
    size = _page_size(content, frames)
    pages = {i + 1: content[i * size : (i + 1) * size] for i in range((len(content) + size - 1) // size)}
    yield from ((0, pages, page) for page in list(pages.values()))
    for age, at in enumerate(range(HEADER, len(frames) - FRAME - size + 1, FRAME + size), 1):
        number = struct.unpack(">I", frames[at : at + 4])[0]
        pages[number] = frames[at + FRAME : at + FRAME + size]
        yield age, pages, pages[number]


def _page_size(content: bytes, frames: bytes) -> int:
    """Return the size of pages: as the file or its log states it, or where our own tables show that they begin.

    Most pages are leaves, so most multiples of the size begin like one. So do most multiples of twice the size, and by
    chance perhaps more of them; hence the smallest that is good.
    """
    if content.startswith(SQLITE) and (stated := struct.unpack(">H", content[16:18])[0]) in SIZES:
        return int(stated)
    if len(frames) >= HEADER:
        magic, _, stated = struct.unpack(">3I", frames[:12])
        if magic | 1 == MAGIC | 1 and stated in SIZES:
            return int(stated)
    shares = {size: _leaves(content, size) for size in SIZES if len(content) > size}
    good = [size for size, share in shares.items() if share and share >= 0.6 * max(shares.values())]
    return min(good, default=PAGE)


def _leaves(content: bytes, size: int) -> float:
    """Return the share of pages of a size, but the first, that begin like a leaf."""
    firsts = content[size::size]
    return sum(first in (TABLE_LEAF, INDEX_LEAF) for first in firsts) / len(firsts)


class _Rows:
    """The good rows found so far, with the latest of each."""

    def __init__(self) -> None:
        self.studies: dict[int, tuple[tuple[int, int], StudyRow]] = {}
        self.spaces: dict[tuple[int, int], tuple[int, str]] = {}
        self.trials: dict[tuple[int, int], tuple[tuple[int, int], dict[str, Any]]] = {}
        self.reports: dict[tuple[int, int, int], tuple[str, int]] = {}
        self.deleted: set[int] = set()

    def kept(self) -> list[int]:
        """Return the numbers of the studies that nobody has deleted: the rows of others stand in free pages still."""
        return sorted(set(self.studies) - self.deleted)

    def read(self, age: int, pages: Mapping[int, bytes], page: bytes) -> None:
        """Take the rows of one page."""
        for rowid, values in _cells(page, pages):
            try:
                self._take(age, rowid, values)
            except (ValueError, TypeError, KeyError, DamagedStorage):
                continue  # not what was written

    def _take(self, age: int, rowid: int | None, values: list[Any]) -> None:
        if rowid is None:
            if len(values) == 5 and values[4] is not None and values[4] == records.seal(*values[1:4]):
                self.reports[values[0], values[1], values[2]] = values[3], values[4]
        elif len(values) == len(TRIAL):
            self._take_trial(age, dict(zip(TRIAL, values, strict=True)))
        elif len(values) == 11 and values[10] is not None:
            values[6] = float(values[6])
            row = records.row_of((rowid, *values[1:8], values[10]), [], "")
            self._keep(self.studies, rowid, (values[8], age), row)
        elif len(values) == 4 and isinstance(values[2], str) and values[3] == records.seal(values[1], values[2]):
            self.spaces[values[0], values[1]] = values[3], values[2]
        elif len(values) == 4 and values[1:] == list(records.tombstone_of(values[0], values[2]).values()):
            self.deleted.add(values[0])

    def _take_trial(self, age: int, row: dict[str, Any]) -> None:
        for name in REALS:
            row[name] = None if row[name] is None else float(row[name])
        if row["params_digest"] is None:
            return
        records.trial_of([row[name] for name in records.NAMES], (), ())  # raises where a checksum is wrong
        self._keep(self.trials, (row["study"], row["number"]), (row["revision"], age), row)

    def _keep(self, rows: dict[Any, Any], key: Any, rank: tuple[int, int], row: Any) -> None:
        if key not in rows or rank >= rows[key][0]:
            rows[key] = rank, row


def _cells(page: bytes, pages: Mapping[int, bytes]) -> Iterator[tuple[int | None, list[Any]]]:
    """Return (rowid, values) of the rows of a page; rowid is None for tables kept in the order of their key.

    Rows of those are in the inner pages too, each behind the number of the page that comes before it.
    """
    for start in (0, 100):  # the first page begins with the header of the file
        if len(page) > start + 12 and page[start] in (TABLE_LEAF, INDEX_LEAF, INDEX_INNER):
            break
    else:
        return
    kind, count = page[start], struct.unpack(">H", page[start + 3 : start + 5])[0]
    skipped = 4 if kind == INDEX_INNER else 0
    cells = start + 8 + skipped
    for i in range(min(count, (len(page) - cells) // 2)):
        at = struct.unpack(">H", page[cells + 2 * i : cells + 2 * i + 2])[0] + skipped
        try:
            size, at = _varint(page, at)
            rowid = None
            if kind == TABLE_LEAF:
                rowid, at = _varint(page, at)
            yield rowid, _record(_payload(page, at, size, kind, pages))
        except (IndexError, struct.error, UnicodeDecodeError, KeyError, ValueError):
            continue


def _payload(page: bytes, at: int, size: int, kind: int, pages: Mapping[int, bytes]) -> bytes:
    """Return the content of a row, which goes on in other pages where it is long."""
    usable = len(page)
    most = usable - 35 if kind == TABLE_LEAF else (usable - 12) * 64 // 255 - 23
    if size <= most:
        return page[at : at + size]
    least = (usable - 12) * 32 // 255 - 23
    here = least + (size - least) % (usable - 4)
    here = here if here <= most else least
    content, follow = page[at : at + here], struct.unpack(">I", page[at + here : at + here + 4])[0]
    for _ in range(size // (usable - 4) + 2):
        if len(content) >= size:
            break
        more = pages[follow]
        follow, content = struct.unpack(">I", more[:4])[0], content + more[4:]
    return content[:size]


def _record(content: bytes) -> list[Any]:
    """Return the values of a record."""
    length, at = _varint(content, 0)
    kinds = []
    while at < length:
        kind, at = _varint(content, at)
        kinds.append(kind)
    if len(kinds) > 64:
        raise ValueError("not a row of ours")
    values, at = [], length
    for kind in kinds:
        width = {0: 0, 5: 6, 6: 8, 7: 8, 8: 0, 9: 0}.get(kind, kind) if kind < 12 else (kind - 12) // 2
        part = content[at : at + width]
        if len(part) != width:
            raise ValueError("cut off")
        at += width
        values.append(_value(kind, part))
    return values


def _value(kind: int, part: bytes) -> Any:
    if kind == 0:
        return None
    if kind in (8, 9):
        return kind - 8
    if kind == 7:
        return struct.unpack(">d", part)[0]
    if kind <= 6:
        return int.from_bytes(part, "big", signed=True)
    return part.decode() if kind % 2 else bytes(part)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(8):
        byte = data[at + i]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + i + 1
    return value << 8 | data[at + 8], at + 9


def _save(storage: SQLiteStorage, found: _Rows, number: int) -> Salvaged:
    """Write one study with its trials to the new file, under their own numbers."""
    row, names = found.studies[number][1], {n: found.studies[n][1].name for n in found.kept()}
    if row.name in (name for n, name in names.items() if n > number):  # deleted, and what says so is lost
        own = f"{row.name}-{number}"
        while own in names.values():
            own += f"-{number}"
        row = replace(row, name=own)
    versions = sorted(v for s, v in found.spaces if s == number)
    spaces = tuple(json.loads(found.spaces[number, v][1]) for v in versions)
    study = storage.open(replace(row, id=0, spaces=spaces, stop_reason=None)).id
    trials: list[Trial] = []
    for (s, n), (_, stored) in sorted(found.trials.items()):
        if s == number and (stored["params"] is not None or stored["state"] in records.RESTING):
            of = sorted((step, m, d) for (a, b, step), (m, d) in found.reports.items() if (a, b) == (number, n))
            reports = records.reports_of([(n, *report) for report in of]).get(n, ())
            trials.append(records.trial_of([stored[name] for name in records.NAMES], tuple(row.directions), reports))
    idle = {"state": State.WAITING, "owner": None, "lease_until": None}
    storage.restore(study, [t if t.state.resting else t.but(**idle) for t in trials])
    numbers = {t.number for t in trials}
    return Salvaged(
        row.name,
        sum(t.state.finished for t in trials),
        sum(not t.state.finished for t in trials),
        tuple(n for n in range(max(numbers, default=-1) + 1) if n not in numbers),
        tuple(t.number for t in trials if not t.state.resting),
    )

