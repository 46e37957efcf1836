"""PostgreSQL as people run it: behind PgBouncer, and in databases of other encodings."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from aggregator.app.doctor import examine
from aggregator.core.block import BlockRef, Cut
from aggregator.core.errors import StoreError
from aggregator.core.rows import Asset, Exposure, Market
from aggregator.store import Store

_NUMBER = count()
MARKET, TOKEN = "eip155:1/aave_v3/core", "eip155:1/erc20:0x" + "a" * 40
SYMBOL = "USD\u20ae0 \u6bd4\u7279\u5e01 \U0001f40b"  # a symbol that is in use, and two that are in no code page


def cut(number: int) -> Cut:
    return Cut.of([BlockRef("eip155:1", number, f"0x{number:x}", 1_700_000_000 + number, "finalized")])


def write(store: Store, number: int) -> None:
    target = (MARKET, "0xaa", "")
    with store.write_run(cut(number)) as writer:
        writer.assets([Asset(TOKEN, SYMBOL, 18)])
        writer.cut_rows(MARKET, [Market(MARKET, "lending", "aave_v3@3.6", SYMBOL)])
        writer.targets(MARKET, [target])
        writer.positions(MARKET, [target], [Exposure(MARKET, "0xaa", "", TOKEN, "supply", number)])


def database(postgres: str, encoding: str) -> str:
    """URL of a new database in this encoding."""
    name = f"encoded_{next(_NUMBER)}"
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    return f"postgresql://postgres@/{name}?host={conninfo_to_dict(postgres)['host']}"


@pytest.fixture
def bouncer(postgres: str) -> Iterator[str]:
    """A database behind a real PgBouncer: transaction pooling over two server connections."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
    if not program:
        pytest.skip("no pgbouncer on PATH: install it to see the store behind a pooler")
    host = str(conninfo_to_dict(postgres)["host"])
    owner = pwd.getpwuid(Path(host).stat().st_uid)
    url = database(postgres, "UTF8")
    folder = Path(tempfile.mkdtemp(prefix="spillover-bouncer-"))
    (folder / "users.txt").write_text('"postgres" ""\n')
    (folder / "b.ini").write_text(
        f"[databases]\n* = host={host} user=postgres\n[pgbouncer]\nlisten_addr =\nlisten_port = 6432\n"
        f"unix_socket_dir = {folder}\nauth_type = trust\nauth_file = {folder}/users.txt\npool_mode = transaction\n"
        "default_pool_size = 2\n"
    )
    folder.chmod(0o755)
    command = [program, str(folder / "b.ini")]
    if os.geteuid() == 0:  # it refuses to run as root
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        command += ["-u", owner.pw_name]
    else:
        assert owner.pw_name == getpass.getuser()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 20
        while not (folder / ".s.PGSQL.6432").exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        assert process.poll() is None, (folder / "log").read_text()
        yield url.partition("?")[0] + f"?host={folder}&port=6432"
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


def read_all(url: str, times: int, seen: list[Any]) -> None:
    try:
        with Store.open(url) as store:
            for _ in range(times):
                (stored,) = store.cuts()
                _, assets, _ = store.load(stored.cut)
                seen.append([asset.symbol for asset in assets])
                assert store.known_targets(MARKET) == [(MARKET, "0xaa", "")]
    except Exception as error:  # noqa: BLE001 - of a thread: the test tells it
        seen.append(error)


def test_readers_and_a_writer_share_two_connections_of_a_transaction_pooler(bouncer: str) -> None:
    with Store.open(bouncer) as store:
        store.migrate()
        write(store, 1)
        seen: list[Any] = []
        readers = [threading.Thread(target=read_all, args=(bouncer, 8, seen)) for _ in range(6)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(60)
        assert seen == [[SYMBOL]] * 48
        for number in range(2, 6):
            write(store, number)
        assert len(store.cuts()) == 5


def test_no_statement_is_prepared_on_a_connection(postgres: str) -> None:
    """However often it is run; a pooler's next connection would not know it."""
    with Store.open(database(postgres, "UTF8")) as store:
        store.migrate()
        write(store, 1)
        for _ in range(12):
            store.load(store.cuts()[0].cut)
        with store._reader() as raw:
            assert raw.fetch("SELECT count(*) FROM pg_prepared_statements") == [(0,)]


def test_a_database_that_stores_bytes_as_they_come_holds_every_text(postgres: str) -> None:
    with Store.open(database(postgres, "SQL_ASCII")) as store:
        store.migrate()
        write(store, 1)
        stored = store.cuts()[0].cut
        assert [asset.symbol for asset in store.assets(stored)] == [SYMBOL]
        assert store.known_targets(MARKET) == [(MARKET, "0xaa", "")]


@pytest.mark.parametrize("encoding", ["LATIN1", "WIN1252", "EUC_JP"])
def test_a_database_that_cannot_hold_every_text_is_refused_before_anything_is_written(
    postgres: str, tmp_path: Path, encoding: str
) -> None:
    url = database(postgres, encoding)
    with pytest.raises(StoreError, match="cannot hold every text") as caught:
        Store.open(url)
    assert encoding in caught.value.found
    (tmp_path / "c.toml").write_text(f'[store]\nurl = "{url}"\n')
    (finding,) = [f for f in examine(tmp_path / "c.toml") if f["check"] == "database"]
    assert finding["status"] == "fail"
    assert encoding in finding["detail"]
    assert "--encoding=UTF8 --template=template0" in finding["fix"]
