"""Where studies are kept. ``STORAGES`` maps the scheme of ``storage=`` to what opens it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from welltuned.errors import InvalidType, InvalidValue, StorageError
from welltuned.storage.masking import masked
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
ADDRESS = re.compile(rf"({'|'.join((*STORAGES, 'file'))}):", re.IGNORECASE)
#: how libpq writes an address without a scheme
KEYWORDS = re.compile(
    r"\s*(host|hostaddr|port|dbname|user|\w*password|passfile|service|ssl\w+)\s*=([^/]*$|.*\s\w+\s*=)"
    r"|.*\bpassword\s*=",
    re.IGNORECASE | re.DOTALL,
)


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
        _refuse_address(spec)
        return SQLiteStorage(spec)
    scheme = scheme.lower()
    if scheme not in STORAGES:
        shown, known = masked(spec), sorted(STORAGES)
        raise InvalidValue(f"storage={shown!r} has the unknown scheme {scheme!r}; known are {known!r}")
    if scheme in SERVERS:
        return STORAGES[scheme](f"{scheme}://{rest}")
    # as in sqlite:///relative.db and sqlite:////absolute.db
    path = rest[1:] if rest.startswith("/") else rest
    if scheme == "sqlite" and (not rest or path == ":memory:"):  # as SQLAlchemy writes it
        return MemoryStorage()
    if scheme == "sqlite":
        _check_file(spec, path)
    return STORAGES[scheme](path)


def open_existing(spec: Any, option: str = "storage=") -> Storage:
    """Open a storage that must be there already: what :func:`open_storage` takes, but no file is made.

    Raises
    ------
    StorageError
        When there is no such file; ``option`` is where another one is named.
    """
    file = _file(spec)
    try:
        missing = file is not None and not Path(file).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # no name that a file can have, which opening it says better
        missing = False
    if missing:
        raise StorageError(f"storage {str(spec)!r} does not exist; name the file with {option}")
    return open_storage(spec)


def _file(spec: Any) -> str | os.PathLike[str] | None:
    """Return the file that a storage would be in; None where it would not be in one, or cannot be opened at all."""
    if not isinstance(spec, str) or spec in ("", "memory", ":memory:"):
        return spec if isinstance(spec, os.PathLike) else None
    scheme, separator, rest = spec.partition("://")
    if not separator:
        return None if ADDRESS.match(spec) or KEYWORDS.match(spec) else spec
    path = rest.removeprefix("/")
    return path if scheme.lower() == "sqlite" and path not in ("", ":memory:") else None


def _check_file(spec: str, path: str) -> None:
    if not path:
        raise InvalidValue(f"storage={masked(spec)!r} names no file; write storage='sqlite:///study.db'")
    if "?" in path:
        raise InvalidValue(
            f"storage={masked(spec)!r}: options of SQLite are not read; write storage={path.partition('?')[0]!r}, or "
            "the path alone where '?' belongs to the file's name"
        )


def _refuse_address(spec: str) -> None:
    """Refuse what looks like an address but would be the name of a file."""
    if found := ADDRESS.match(spec):
        scheme, rest = found[1].lower(), spec[found.end() :].lstrip("/") or "study.db"
        what = repr(rest.partition("?")[0]) if scheme in ("sqlite", "file", "memory") else f"'{scheme}://…'"
        raise InvalidValue(f"storage={masked(spec)!r} is not how an address is written; write storage={what}")
    if KEYWORDS.match(spec):
        raise InvalidValue(
            f"storage={masked(spec)!r} is not how an address is written; "
            "write storage='postgresql://user:password@host:5432/database'"
        )


__all__ = [
    "MAX_ATTEMPTS",
    "STORAGES",
    "Changes",
    "MemoryStorage",
    "SQLiteStorage",
    "Storage",
    "StudyRow",
    "open_existing",
    "open_storage",
]
