"""What is stored can be read where nothing can be written: in a folder of others, on a full disk."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.core.errors import DatabaseError, StoreError
from aggregator.store import Store
from tests.store.test_roundtrip import cut_at, snapshot, write
from tests.store.unwritable import STATES, read_only_folder, remove


@pytest.fixture
def file(migrated_file: Path, tmp_path: Path) -> Iterator[Path]:
    """A store of two cuts in a folder that takes no writing of anybody but root."""
    written = tmp_path / "x.db"
    shutil.copyfile(migrated_file, written)
    with Store.open(f"sqlite:///{written}") as store:
        for number in (1, 2):
            write(store, cut_at(number))
    folder = read_only_folder(written)
    yield folder / "x.db"
    remove(folder)


@pytest.mark.parametrize("state", STATES)
def test_everything_is_read_and_nothing_is_left(file: Path, tmp_path: Path, state: str) -> None:
    with Store.open(f"sqlite:///{tmp_path}/x.db") as store:
        whole = [snapshot(store, cut_at(number)).digest for number in (1, 2)]
    with STATES[state](), Store.open(f"sqlite:///{file}") as store:
        store.migrate(writing=False)
        assert [snapshot(store, cut_at(number)).digest for number in (1, 2)] == whole
        assert len(store.cuts()) == 2
        assert store.unwritable
        with pytest.raises(StoreError) as refused:
            write(store, cut_at(3))
    assert isinstance(refused.value, DatabaseError)
    assert refused.value.fix
    assert sorted(f.name for f in file.parent.iterdir() if f.stat().st_size) == ["x.db"]


@pytest.mark.parametrize("state", STATES)
def test_what_a_killed_run_left_in_its_log_is_not_passed_over(file: Path, state: str) -> None:
    """Its index is away, as in a copy of the two files: without it SQLite cannot say what is in the log."""
    file.parent.chmod(0o755)
    file.chmod(0o644)
    with sqlite3.connect(file) as killed:
        killed.execute("PRAGMA wal_autocheckpoint=0")
        killed.execute("DELETE FROM fact_gap")
        killed.execute("UPDATE run SET version = 'killed'")
        killed.commit()
        shutil.copyfile(f"{file}-wal", file.with_name("kept"))
    killed.close()
    file.with_name("kept").rename(f"{file}-wal")
    for left in file.parent.iterdir():
        left.chmod(0o444)
    file.parent.chmod(0o555)
    with STATES[state](), pytest.raises(StoreError, match=r"can be read by one who can write") as told:
        Store.open(f"sqlite:///{file}")
    assert "x.db-wal" in told.value.found


def test_a_writer_who_comes_meanwhile_is_found_out(file: Path) -> None:
    with STATES["full"]():
        store = Store.open(f"sqlite:///{file}")
    with store, Store.open(f"sqlite:///{file}") as writer:
        assert store.unwritable
        with pytest.raises(StoreError, match="changed while it was read"), store._reader():
            write(writer, cut_at(3))
    with STATES["full"](), Store.open(f"sqlite:///{file}") as store:
        assert len(store.cuts()) == 3


def test_a_damaged_file_is_still_called_damaged(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:8192] + b"\xff" * 4096)
    for state in STATES.values():
        with (
            state(),
            pytest.raises(StoreError, match=r"damaged|malformed|as a database|refused"),
            Store.open(f"sqlite:///{file}") as store,
        ):
            snapshot(store, cut_at(1))
