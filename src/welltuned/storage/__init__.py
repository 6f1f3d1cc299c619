"""Where studies are kept. ``STORAGES`` maps the scheme of ``storage=`` to what opens it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from welltuned.errors import InvalidType, InvalidValue
from welltuned.storage.memory import MemoryStorage
from welltuned.storage.protocol import MAX_ATTEMPTS, Changes, Storage, StudyRow
from welltuned.storage.sqlite import SQLiteStorage


def _postgres(url: str) -> Storage:
    from welltuned.storage.postgres import PostgresStorage

    return PostgresStorage(url)


def _http(url: str) -> Storage:
    from welltuned.storage.http import HTTPStorage

    return HTTPStorage(url)


#: by scheme: what opens the rest of the address. Those of servers get all of it.
STORAGES: dict[str, Callable[[str], Storage]] = {
    "memory": lambda _: MemoryStorage(),
    "sqlite": SQLiteStorage,
    "postgresql": _postgres,
    "postgres": _postgres,
    "http": _http,
    "https": _http,
}
SERVERS = {"postgresql", "postgres", "http", "https"}


def open_storage(spec: Any) -> Storage:
    """Open what ``storage=`` names: ``None`` or ``"memory"``, the path of a file, ``"sqlite:///path"``, or a storage.

    Raises
    ------
    InvalidValue, InvalidType
        For an unknown scheme, or something that is no storage.
    StorageError
        When a file cannot be opened.
    """
    if spec is None or (isinstance(spec, str) and spec in ("memory", ":memory:")):
        return MemoryStorage()
    if isinstance(spec, Storage) and not isinstance(spec, (str, os.PathLike, type)):
        return spec
    if isinstance(spec, os.PathLike):
        return SQLiteStorage(spec)
    if not isinstance(spec, str):
        raise InvalidType(f"storage={spec!r} is neither a path nor a storage; write storage='study.db'")
    if not spec:
        raise InvalidValue("storage='' is empty; write storage='study.db', or leave it out to keep the study in memory")
    scheme, separator, rest = spec.partition("://")
    if not separator:
        return SQLiteStorage(spec)
    if scheme not in STORAGES:
        raise InvalidValue(f"storage={spec!r} has the unknown scheme {scheme!r}; known are {sorted(STORAGES)!r}")
    if scheme in SERVERS:
        return STORAGES[scheme](spec)
    # as in sqlite:///relative.db and sqlite:////absolute.db
    return STORAGES[scheme](rest[1:] if rest.startswith("/") else rest)


__all__ = [
    "MAX_ATTEMPTS",
    "STORAGES",
    "Changes",
    "MemoryStorage",
    "SQLiteStorage",
    "Storage",
    "StudyRow",
    "open_storage",
]
