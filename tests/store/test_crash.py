"""Killed at any point, the previous run is whole and the next one right."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import event

from aggregator.core.block import BlockRef, Cut
from aggregator.core.errors import StoreError
from aggregator.core.rows import Exposure, Row
from aggregator.store import Store
from tests.store.test_roundtrip import MARKET_ROWS, A, D, M, cut_at, snapshot

ACCOUNTS = 3000


def rows(run: int, accounts: int = ACCOUNTS) -> list[Row]:
    return [Exposure(M, f"h{i}", "", A, "debt", i + run * (i % 7 == 0)) for i in range(accounts)]


def write(store: Store, number: int, accounts: int = ACCOUNTS) -> None:
    targets, found = [(M, f"h{i}", "") for i in range(accounts)], rows(number, accounts)
    with store.write_run(cut_at(number)) as run:
        run.cut_rows(D, MARKET_ROWS)
        for first in range(0, accounts, 500):
            run.targets(D, targets[first : first + 500])
            run.positions(D, targets[first : first + 500], found[first : first + 500])
        run.cursor(D, number)


def killed(work: Callable[[], Any], after_s: float) -> None:
    """Do work in a child and SIGKILL it after_s later, whatever it is doing."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_killed_while_writing(url: str, new_store: Callable[[], Store]) -> None:
    clean = new_store()
    started = time.perf_counter()
    write(clean, 1)
    write(clean, 2)
    whole_s = (time.perf_counter() - started) / 2
    digests = {n: snapshot(clean, cut_at(n)).digest for n in (1, 2)}

    with Store.open(url) as store:
        store.migrate()
        write(store, 1)

    def second_run() -> None:
        with Store.open(url) as mine:
            write(mine, 2)

    rng, before, after = random.Random(7), 0, 0
    for _ in range(15):
        killed(second_run, rng.uniform(0, 1.5 * whole_s))
        with Store.open(url) as store:
            numbers = [stored.cut.blocks[0].number for stored in store.cuts()]
            assert numbers in ([1], [2, 1])
            for number in numbers:
                assert snapshot(store, cut_at(number)).digest == digests[number]
            assert store.cursor(D) == numbers[0]
            before, after = before + (numbers == [1]), after + (numbers != [1])
            store.rewind("eip155:1", 1)
    assert before > 0
    with Store.open(url) as store:
        write(store, 2)
        assert snapshot(store, cut_at(2)).digest == digests[2]


def test_killed_while_migrating(new_url: Callable[[], str]) -> None:
    rng = random.Random(3)
    for _ in range(8):
        url = new_url()

        def work(url: str = url) -> None:
            with Store.open(url) as store:
                store.migrate()

        killed(work, rng.uniform(0, 0.3))
        with Store.open(url) as store:
            store.migrate()
            write(store, 1, accounts=20)
            assert len(store.cuts()) == 1


def test_a_journal_left_by_a_writer_that_was_killed_is_rolled_back(tmp_path: Path) -> None:
    """As it is when the kill comes before the write-ahead log is switched on."""
    file = tmp_path / "x.db"
    with Store.open(f"sqlite:///{file}") as store:
        store.migrate()
        write(store, 1, accounts=5)
        before = snapshot(store, cut_at(1)).digest

    child = os.fork()
    if child == 0:
        connection = sqlite3.connect(file, isolation_level=None)
        for command in ("PRAGMA journal_mode=DELETE", "PRAGMA cache_size=2", "BEGIN", "CREATE TABLE junk (x)"):
            connection.execute(command)
        for _ in range(500):
            connection.execute("INSERT INTO junk VALUES (zeroblob(3000))")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert Path(f"{file}-journal").stat().st_size > 0
    with Store.open(f"sqlite:///{file}") as store:
        store.migrate()
        assert snapshot(store, cut_at(1)).digest == before


def test_a_second_writer_refuses_in_the_end(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("database", "store"):
        monkeypatch.setattr(f"aggregator.store.{module}.BUSY_TIMEOUT_S", 0.2)
    with Store.open(url) as first, Store.open(url) as second:
        first.migrate()
        second.migrate()
        with first.write_run(cut_at(1)) as run:
            run.cut_rows(D, MARKET_ROWS)
            with pytest.raises(StoreError, match="another process"), second.write_run(cut_at(2)):
                pass
            assert second.cuts() == []  # readers are not held up and see nothing half done
        assert len(second.cuts()) == 1


def test_readers_and_writers_together(url: str) -> None:
    """Two writers of a chain each, a reader: every cut that is seen is whole, and none is lost."""
    wanted: dict[str, str] = {}
    done = threading.Event()

    def cut_of(source: int, number: int) -> Cut:
        return Cut.of([BlockRef(f"eip155:{source}", number, f"{number}", number, "latest")])

    def writer(source: int) -> None:
        where = f"eip155:{source}/aave_v3/core"
        with Store.open(url) as mine:
            for number in range(1, 7):
                found: list[Row] = [Exposure(where, f"h{i}", "", A, "debt", number) for i in range(40)]
                with mine.write_run(cut_of(source, number)) as run:
                    run.positions(where, [(where, f"h{i}", "") for i in range(40)], found)
                    time.sleep(0.002)

    def reader() -> None:
        with Store.open(url) as mine:
            while not done.is_set():
                for stored in mine.cuts()[:3]:
                    snap = snapshot(mine, stored.cut)
                    shares = {row.shares for row in snap.rows("exposure")}
                    assert (snap.tables["exposure"].n, shares) == (40, {stored.cut.blocks[0].number})
                    assert wanted.setdefault(stored.cut.digest, snap.digest) == snap.digest

    with Store.open(url) as store, ThreadPoolExecutor(3) as pool:
        store.migrate()
        looking, writing = pool.submit(reader), [pool.submit(writer, source) for source in (1, 10)]
        wait(writing)
        done.set()
        for work in (*writing, looking):
            work.result()
        assert {s.cut.digest for s in store.cuts()} == {cut_of(s, n).digest for s in (1, 10) for n in range(1, 7)}
        for stored in store.cuts():
            digest = snapshot(store, stored.cut).digest
            assert wanted.get(stored.cut.digest, digest) == digest


@pytest.mark.parametrize("new_url", ["postgresql"], indirect=True)
def test_a_server_that_ends_the_connection_leaves_the_previous_run(
    postgres: str, new_store: Callable[[], Store]
) -> None:
    store = new_store()
    write(store, 1)
    digest = snapshot(store, cut_at(1)).digest

    def cut_off() -> None:
        with store.write_run(cut_at(2)) as run:
            run.cut_rows(D, MARKET_ROWS)
            with psycopg.connect(postgres, autocommit=True) as admin:
                admin.execute("SELECT pg_terminate_backend(%s)", (run._raw.driver.info.backend_pid,))
            run.positions(D, [(M, "h0", "")], rows(2)[:1])

    with pytest.raises(StoreError):
        cut_off()
    assert [stored.cut for stored in store.cuts()] == [cut_at(1)]
    assert snapshot(store, cut_at(1)).digest == digest
    write(store, 2)
    assert len(store.cuts()) == 2


def test_the_log_is_carried_into_the_database_while_others_stay_connected(tmp_path: Path) -> None:
    """Only the last one to close would carry it otherwise, and a service never closes."""
    path = tmp_path / "one.db"
    with Store.open(f"sqlite:///{path}") as store:
        store.migrate()
        for block in range(1, 13):
            with store.write_run(cut_at(block)) as run:
                run.targets(D, [(M, f"{block}-{i:0300}", "") for i in range(2_000)])
        written, log = path.stat().st_size, path.with_name("one.db-wal").stat().st_size
    assert written > 7_000_000  # 24,000 names of 300 letters
    assert log < 6_000_000


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "one.db-writer").mkdir()
    with Store.open(f"sqlite:///{tmp_path}/one.db") as store, pytest.raises(StoreError, match="beside the database"):
        store.migrate()


def test_a_second_writer_waits_its_turn(url: str) -> None:
    entered = threading.Event()
    with Store.open(url) as first, Store.open(url) as second:
        first.migrate()
        second.migrate()

        def slow_run() -> None:
            with first.write_run(cut_at(1)) as run:
                entered.set()
                time.sleep(0.3)
                run.cut_rows(D, MARKET_ROWS)

        thread = threading.Thread(target=slow_run)
        thread.start()
        entered.wait(5)
        write(second, 2)
        thread.join()
        assert [stored.cut for stored in second.cuts()] == [cut_at(2), cut_at(1)]


def test_a_full_disk_leaves_the_previous_run(tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path}/one.db") as store:
        store.migrate()
        write(store, 1)
        digest = snapshot(store, cut_at(1)).digest
        with store._reader() as raw:
            pages = raw.fetch("PRAGMA page_count")[0][0]

        def limit(connection: sqlite3.Connection, _record: object) -> None:
            connection.execute(f"PRAGMA max_page_count={pages + 5}")

        event.listen(store._engine, "connect", limit)
        store._engine.dispose()  # the limit holds for connections made from here on
        with pytest.raises(StoreError, match="full"):
            write(store, 2)
        event.remove(store._engine, "connect", limit)
        store._engine.dispose()
        assert [stored.cut for stored in store.cuts()] == [cut_at(1)]
        assert snapshot(store, cut_at(1)).digest == digest
        write(store, 2)


def test_durable_settings(tmp_path: Path) -> None:
    path = tmp_path / "one.db"
    with Store.open(f"sqlite:///{path}") as store:
        store.migrate()
        with store._reader() as raw:
            assert raw.fetch("PRAGMA synchronous") == [(2,)]
            assert raw.fetch("PRAGMA journal_mode") == [("wal",)]
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
