"""Schema versions: the models are what the migrations build, and a newer database is left alone."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.util import CommandError

from aggregator.core.errors import StoreError
from aggregator.store import Store
from aggregator.store.migrate import alembic_config, head
from tests.store.test_roundtrip import cut_at, snapshot, write


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """Migrated here and now: these tests look at the schema, and change it."""
    with Store.open(url) as opened:
        opened.migrate()
        yield opened


def test_models_and_migrations_agree(store: Store) -> None:
    with store._writer() as connection:
        command.check(alembic_config(connection))


def test_down_and_up_again(store: Store) -> None:
    """With data in: what a step does not concern stays, and below the first there is nothing."""
    write(store, cut_at(1))
    store.save_discovery("eip155:1/x/y", cut_at(1).blocks[0], 1, [("m", "h", "")])
    before = snapshot(store, cut_at(1)).digest
    with store._writer() as connection:
        command.downgrade(alembic_config(connection), "0001")
        command.upgrade(alembic_config(connection), "head")
    assert snapshot(store, cut_at(1)).digest == before
    assert store.discovery("eip155:1/x/y") is None
    with store._writer() as connection:
        command.downgrade(alembic_config(connection), "base")
        command.upgrade(alembic_config(connection), "head")
    assert store.cuts() == []
    write(store, cut_at(1))
    assert snapshot(store, cut_at(1)).rows("exposure")


def test_the_command_line_of_alembic_makes_the_same_database(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPILLOVER_STORE_URL", url)
    command.upgrade(alembic_config(), "head")
    with Store.open(url) as store:
        store.migrate()
        write(store, cut_at(1))
        if url.startswith("sqlite"):
            with store._reader() as raw:
                assert raw.fetch("PRAGMA journal_mode") == [("wal",)]
    with pytest.raises(CommandError, match="--sql"):
        command.upgrade(alembic_config(), "head", sql=True)


def test_migrating_twice_is_nothing(url: str) -> None:
    for _ in range(2):
        with Store.open(url) as store:
            store.migrate()
            store.migrate()
            assert store.cuts() == []


def test_what_is_not_there_yet_reads_as_empty_and_stays_away(url: str) -> None:
    file = Path(url.removeprefix("sqlite:///"))
    with Store.open(url) as store, Store.open(url) as other:
        store.migrate(writing=False)
        assert (store.cuts(), store.known_targets("a/b/c"), store.cursor("a/b/c")) == ([], [], None)
        assert not (url.startswith("sqlite") and list(file.parent.glob(f"{file.name}*")))
        with pytest.raises(StoreError, match="no such cut"):
            store.load(cut_at(1))
        write(other, cut_at(1))  # the first writer makes it, and it is seen by whoever looked before
        assert [found.cut for found in store.cuts()] == [cut_at(1)]


def test_an_older_schema_is_read_after_it_is_brought_to_head(url: str) -> None:
    with Store.open(url) as store:
        write(store, cut_at(1))
        with store._writer() as connection:
            command.downgrade(alembic_config(connection), "0001")
    with Store.open(url) as store:
        with pytest.raises(StoreError, match="no current schema") as caught:
            store.cuts()
        assert caught.value.expected == head()
        store.migrate(writing=False)
        assert len(store.cuts()) == 1


def test_a_newer_database_is_refused_and_untouched(url: str) -> None:
    with Store.open(url) as store:
        store.migrate()
        write(store, cut_at(1))
        with store._writer() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    path = Path(url.removeprefix("sqlite:///"))
    before = hashlib.sha256(path.read_bytes()).digest() if path.exists() else b""
    with pytest.raises(StoreError, match="newer version") as caught:
        Store.open(url)
    assert "9999" in caught.value.found
    assert "upgrade spillover" in caught.value.fix
    if before:
        assert hashlib.sha256(path.read_bytes()).digest() == before
        assert [p.name for p in path.parent.iterdir() if p.suffix in (".db-wal", ".db-shm")] == []


@pytest.mark.parametrize("data", [b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_broken_file_is_refused_and_untouched(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(data)
    with pytest.raises(StoreError):
        Store.open(f"sqlite:///{path}")
    assert path.read_bytes() == data


def test_a_file_that_cannot_be_opened_is_not_called_broken(tmp_path: Path) -> None:
    (tmp_path / "x.db").mkdir()
    with pytest.raises(StoreError, match="the database refused") as caught:
        Store.open(f"sqlite:///{tmp_path / 'x.db'}")
    assert "restore" not in caught.value.fix  # who restores one that is whole loses what is in it


def test_somebody_elses_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE wallet (id)")
    connection.close()
    with pytest.raises(StoreError, match="something else"):
        Store.open(f"sqlite:///{path}")


def test_no_server_behind_the_url(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        Store.open(f"postgresql://me:hunter2@/none?host={tmp_path}")


def test_a_wheel_carries_its_migrations(
    new_url: Callable[[], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import shutil

    import aggregator.store.migrate as migrate

    shutil.copytree(migrate._PACKAGE.parent / "migrations", tmp_path / "_data" / "migrations")
    monkeypatch.setattr(migrate, "_PACKAGE", tmp_path)
    with Store.open(new_url()) as store:
        store.migrate()
        assert store.cuts() == []
