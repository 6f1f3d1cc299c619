"""The schema in plain SQL, as a list of migrations. Each runs and is recorded in one transaction.

One text serves every database: what they call things is filled in from a :class:`Dialect`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from welltuned.errors import StorageError
from welltuned.storage import records

#: run one statement with named arguments and return its rows
Run = Callable[..., Sequence[Sequence[Any]]]


@dataclass(frozen=True)
class Dialect:
    """How one database says what another says differently.

    Attributes
    ----------
    identity, integer, real
        Types of a key that counts up by itself, of whole numbers beyond 2**31, and of 64-bit floats.
    clustered
        What makes a table be kept in the order of its primary key.
    now
        The seconds since the epoch, as an expression that may use ``:clock``, the caller's own clock.
    tables
        The query for the names of the tables that are there.
    new_study
        The number of a study that is made, one that no study had before.
    """

    identity: str
    integer: str
    real: str
    clustered: str
    now: str
    tables: str
    new_study: str


def _first(run: Run, say: Dialect) -> None:
    for statement in (
        f"""CREATE TABLE study (
            id {say.identity}, name TEXT NOT NULL UNIQUE, directions TEXT NOT NULL, seed TEXT NOT NULL,
            sampler TEXT NOT NULL, stop_reason TEXT, created {say.real} NOT NULL, attributes TEXT NOT NULL,
            revision {say.integer} NOT NULL DEFAULT 0)""",
        f"""CREATE TABLE space (
            study {say.integer} NOT NULL REFERENCES study, version INTEGER NOT NULL, body TEXT NOT NULL,
            PRIMARY KEY (study, version))""",
        f"""CREATE TABLE trial (
            study {say.integer} NOT NULL REFERENCES study, number INTEGER NOT NULL, state TEXT NOT NULL, params TEXT,
            key TEXT, metrics TEXT NOT NULL DEFAULT '{{}}', sems TEXT NOT NULL DEFAULT '{{}}', gradient TEXT,
            reason TEXT, error TEXT, origin TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, owner TEXT,
            token INTEGER NOT NULL DEFAULT 0, lease_until {say.real}, started {say.real}, seconds {say.real},
            attributes TEXT NOT NULL DEFAULT '{{}}', space_version INTEGER NOT NULL, revision {say.integer} NOT NULL,
            PRIMARY KEY (study, number))""",
        "CREATE INDEX trial_revision ON trial (study, revision)",
        "CREATE INDEX trial_state ON trial (study, state, number)",
        "CREATE INDEX trial_key ON trial (study, key)",
        f"""CREATE TABLE report (
            study {say.integer} NOT NULL, number INTEGER NOT NULL, step {say.integer} NOT NULL, metrics TEXT NOT NULL,
            PRIMARY KEY (study, number, step)) {say.clustered}""",
        f"""CREATE TABLE dropped (
            study {say.integer} NOT NULL, number INTEGER NOT NULL, revision {say.integer} NOT NULL,
            token INTEGER NOT NULL)""",
    ):
        run(statement)


def _second(run: Run, say: Dialect) -> None:
    """Claims that cost the same in the ten-thousandth trial as in the first; checksums; where proposals came from."""
    for statement in (
        "ALTER TABLE study ADD COLUMN used INTEGER NOT NULL DEFAULT 0",
        "UPDATE study SET used = (SELECT COUNT(*) FROM trial t WHERE t.study = study.id AND t.origin <> 'added')",
        "DROP INDEX trial_state",
        "CREATE INDEX trial_open ON trial (study, number) WHERE state IN ('waiting', 'running')",
        "CREATE INDEX dropped_number ON dropped (study, number)",
        f"ALTER TABLE study ADD COLUMN digest {say.integer}",
        f"ALTER TABLE space ADD COLUMN digest {say.integer}",
        f"ALTER TABLE trial ADD COLUMN params_digest {say.integer}",
        f"ALTER TABLE trial ADD COLUMN result_digest {say.integer}",
        f"ALTER TABLE report ADD COLUMN digest {say.integer}",
        f"ALTER TABLE trial ADD COLUMN assigned {say.integer}",
        "ALTER TABLE trial ADD COLUMN provenance TEXT",
    ):
        run(statement)
    for table, keys, columns, digest in records.SEALED:
        for row in run(f"SELECT {', '.join((*keys, *columns))} FROM {table}"):
            key, content = row[: len(keys)], row[len(keys) :]
            run(
                f"UPDATE {table} SET {digest} = :digest WHERE " + " AND ".join(f"{k} = :{k}" for k in keys),
                {"digest": records.seal(*content), **dict(zip(keys, key, strict=True))},
            )


MIGRATIONS: tuple[Callable[[Run, Dialect], None], ...] = (_first, _second)
VERSION = len(MIGRATIONS)


def is_current(run: Run, say: Dialect, where: str) -> bool:
    """Tell whether the schema is that of ``VERSION``; refuse a database of something else, or of a newer welltuned."""
    tables = {row[0] for row in run(say.tables)}
    if "welltuned_migration" not in tables and len(tables & {"study", "space", "trial", "report", "dropped"}) > 2:
        raise records.damaged(where, "the list of its tables")
    if tables and "welltuned_migration" not in tables:
        raise StorageError(
            f"{where} is a database of something else (tables {sorted(tables)[:3]!r}); give another file"
        )
    return bool(tables) and _version(run, where) == VERSION


def migrate(run: Run, say: Dialect, where: str, applied: str) -> None:
    """Bring the schema to ``VERSION``, inside a transaction of the caller's that nobody else can be in."""
    run("CREATE TABLE IF NOT EXISTS welltuned_migration (version INTEGER PRIMARY KEY, applied TEXT NOT NULL)")
    for version in range(_version(run, where), VERSION):
        MIGRATIONS[version](run, say)
        args: Mapping[str, Any] = {"version": version + 1, "applied": applied}
        run("INSERT INTO welltuned_migration VALUES (:version, :applied)", args)


def _version(run: Run, where: str) -> int:
    version = int(run("SELECT COALESCE(MAX(version), 0) FROM welltuned_migration")[0][0])
    if version > VERSION:
        raise StorageError(
            f"{where} has schema version {version}, this welltuned knows {VERSION}; upgrade welltuned to open it"
        )
    return version
