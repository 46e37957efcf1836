"""Store write and snapshot load of exposure rows, each against the raw driver moving the same bytes in the same run.

write: a run of n new exposures into a fresh SQLite file (`Store.write_run`), against `sqlite3.executemany` of the
finished tuples into a table of the same columns and indices under the same pragmas, one transaction each.
load: `Store.read` and `snapshot.build` of that cut, against `sqlite3` fetching the same columns of the same rows.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

from aggregator.core.block import BlockRef, Cut
from aggregator.core.ids import USD
from aggregator.core.rows import Asset, Exposure, Index, Price, Row
from aggregator.core.source import call_source
from aggregator.snapshot import build
from aggregator.store import Store

BAR = 1.5
DEPLOYMENT = "eip155:1/aave_v3/core"


def exposures(n: int) -> list[Exposure]:
    """n rows of n / 4 holders in 40 assets, each with the call it came from, by holder as a collector gives them."""
    rng = random.Random(1)
    assets = [f"eip155:1/erc20:0x{i:040x}" for i in range(40)]
    tokens = [f"0x{i + 1000:040x}" for i in range(40)]
    rows = []
    for holder in sorted(rng.getrandbits(160) for _ in range(n // 4)):
        word = holder.to_bytes(32, "big")
        for i, which in enumerate(rng.sample(range(40), 4)):
            src = call_source(tokens[which], bytes.fromhex("1da24f3e") + word)
            side = "debt" if i == 3 else "collateral"
            rows.append(Exposure(DEPLOYMENT, f"0x{holder:040x}", "", assets[which], side, rng.getrandbits(90), src))
    return rows


def timed(work: Callable[[], Any]) -> float:
    """Seconds."""
    gc.collect()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(n: int, repeats: int, folder: Path) -> tuple[list[float], list[float]]:
    """Best of repeats, taken in turns: [ours, reference] seconds of write and of load."""
    rows = exposures(n)
    targets = sorted({(row.market, row.holder, "") for row in rows})
    cut = Cut.of([BlockRef("eip155:1", 1, "0x1", 1, "finalized")])
    assets = [Asset(f"eip155:1/erc20:0x{i:040x}", f"T{i}", 18) for i in range(40)]
    market: list[Row] = [*assets]
    for asset in assets:
        market.append(Price(DEPLOYMENT, asset.id, USD, 10**8, 8, "live", 0, 0))
        market += [Index(DEPLOYMENT, asset.id, side, 10**27 + 1, 10**27, "down") for side in ("collateral", "debt")]
    path, other = folder / "ours.db", folder / "theirs.db"

    def write(store: Store) -> None:
        with store.write_run(cut) as run:
            run.cut_rows(DEPLOYMENT, market)
            run.positions(DEPLOYMENT, targets, rows)
            run.cursor(DEPLOYMENT, 1)

    def load(store: Store) -> None:
        build(store.read(cut), cut, store.assets(cut))

    writes, loads = [inf, inf], [inf, inf]
    for turn in range(repeats):
        if turn:
            path.unlink()
            other.unlink()
        with Store.open(f"sqlite:///{path}") as store:
            store.migrate()
            writes[0] = min(writes[0], timed(partial(write, store)))
            writes[1] = min(writes[1], timed(partial(_write_raw, other, _finished(path))))
    rows, targets = [], []
    with Store.open(f"sqlite:///{path}") as store:
        for _ in range(repeats):
            loads[0] = min(loads[0], timed(partial(load, store)))
            loads[1] = min(loads[1], timed(partial(_fetch_raw, path)))
    return writes, loads


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


class Finished(NamedTuple):
    """The DDL of a table and its indices, and the very tuples that stand in it."""

    table: str
    ddl: list[str]
    columns: list[str]
    rows: list[tuple[Any, ...]]


def _finished(path: Path) -> list[Finished]:
    connection, out = _connect(path), []
    for table in ("name", "fact_exposure"):
        columns = [c[1] for c in connection.execute(f"PRAGMA table_info({table})") if c[1] != "valid_to"]
        rows = connection.execute(f"SELECT {_names(columns)} FROM {table} ORDER BY rowid").fetchall()
        ddl = connection.execute("SELECT sql FROM sqlite_master WHERE tbl_name = ? AND sql > ''", (table,)).fetchall()
        out.append(Finished(table, [sql for (sql,) in ddl], columns, rows))
    connection.close()
    return out


def _names(columns: list[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


def _write_raw(path: Path, tables: list[Finished]) -> None:
    connection = _connect(path)
    connection.execute("BEGIN IMMEDIATE")
    for table in tables:
        for statement in table.ddl:
            connection.execute(statement)
        marks = ", ".join("?" * len(table.columns))
        connection.executemany(f"INSERT INTO {table.table} ({_names(table.columns)}) VALUES ({marks})", table.rows)
    connection.execute("COMMIT")
    connection.close()


def _fetch_raw(path: Path) -> int:
    connection = _connect(path)
    names = "deployment_id, market, holder, ref, asset, side, shares, src"
    where = "valid_from <= 1 AND (valid_to IS NULL OR valid_to > 1)"
    rows = connection.execute(f"SELECT {names} FROM fact_exposure WHERE {where}").fetchall()
    texts = connection.execute("SELECT id, text FROM name").fetchall()
    connection.close()
    return len(rows) + len(texts)


def benchmarks(quick: bool = True) -> list[dict[str, Any]]:
    """name, what, ours and reference in seconds, ratio, bar, and whether it holds; quick: a tenth of the rows."""
    n, repeats = (100_000, 4) if quick else (1_000_000, 2)
    folder = Path(tempfile.mkdtemp(prefix="spillover-bench-"))
    try:
        write, load = measure(n, repeats, folder)
    finally:
        shutil.rmtree(folder)
    what = f"{n:,} exposure rows on SQLite: %s"
    return [
        _line("store.write", what % "write_run / sqlite3.executemany of the finished tuples", *write),
        _line("store.load", what % "read and snapshot / sqlite3 fetchall of the same columns", *load),
    ]


def _line(name: str, what: str, ours: float, reference: float) -> dict[str, Any]:
    ratio = ours / reference
    return {
        "name": name, "what": what, "ours": round(ours, 4), "reference": round(reference, 4), "ratio": round(ratio, 3),
        "bar": BAR, "holds": ratio <= BAR,
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="1,000,000 rows")
    print(json.dumps(benchmarks(quick=not parser.parse_args().full), indent=1))
