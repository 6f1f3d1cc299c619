"""The schema in plain SQL, as a list of migrations. Each runs and is recorded in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from welltuned.errors import StorageError

Migration = Callable[[sqlite3.Connection], object]


def _first(db: sqlite3.Connection) -> None:
    for statement in (
        """CREATE TABLE study (
            id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, directions TEXT NOT NULL, seed TEXT NOT NULL,
            sampler TEXT NOT NULL, stop_reason TEXT, created REAL NOT NULL, attributes TEXT NOT NULL,
            revision INTEGER NOT NULL DEFAULT 0)""",
        """CREATE TABLE space (
            study INTEGER NOT NULL REFERENCES study, version INTEGER NOT NULL, body TEXT NOT NULL,
            PRIMARY KEY (study, version))""",
        """CREATE TABLE trial (
            study INTEGER NOT NULL REFERENCES study, number INTEGER NOT NULL, state TEXT NOT NULL, params TEXT, key
            TEXT, metrics TEXT NOT NULL DEFAULT '{}', sems TEXT NOT NULL DEFAULT '{}', gradient TEXT, reason TEXT,
            error TEXT, origin TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, owner TEXT, token INTEGER NOT NULL
            DEFAULT 0, lease_until REAL, started REAL, seconds REAL, attributes TEXT NOT NULL DEFAULT '{}',
            space_version INTEGER NOT NULL, revision INTEGER NOT NULL,
            PRIMARY KEY (study, number))""",
        "CREATE INDEX trial_revision ON trial (study, revision)",
        "CREATE INDEX trial_state ON trial (study, state, number)",
        "CREATE INDEX trial_key ON trial (study, key)",
        """CREATE TABLE report (
            study INTEGER NOT NULL, number INTEGER NOT NULL, step INTEGER NOT NULL, metrics TEXT NOT NULL,
            PRIMARY KEY (study, number, step)) WITHOUT ROWID""",
        """CREATE TABLE dropped (
            study INTEGER NOT NULL, number INTEGER NOT NULL, revision INTEGER NOT NULL,
            token INTEGER NOT NULL)""",
    ):
        db.execute(statement)


MIGRATIONS: tuple[Migration, ...] = (_first,)
VERSION = len(MIGRATIONS)


def migrate(db: sqlite3.Connection, where: str) -> None:
    """Bring the schema to ``VERSION``; refuse a database that a newer welltuned wrote, or that is not ours."""
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables and "welltuned_migration" not in tables:
        raise StorageError(
            f"{where} is a database of something else (tables {sorted(tables)[:3]!r}); give another file"
        )
    if "welltuned_migration" in tables and _version(db, where) == VERSION:
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        db.execute(
            "CREATE TABLE IF NOT EXISTS welltuned_migration (version INTEGER PRIMARY KEY, applied TEXT NOT NULL)"
        )
        for version in range(_version(db, where), VERSION):
            MIGRATIONS[version](db)
            db.execute("INSERT INTO welltuned_migration VALUES (?, datetime('now'))", (version + 1,))
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def _version(db: sqlite3.Connection, where: str) -> int:
    version = db.execute("SELECT COALESCE(MAX(version), 0) FROM welltuned_migration").fetchone()[0]
    if version > VERSION:
        raise StorageError(
            f"{where} has schema version {version}, this welltuned knows {VERSION}; upgrade welltuned to open it"
        )
    return int(version)
