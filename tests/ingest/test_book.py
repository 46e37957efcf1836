"""An imported book is exact, named by its files, and loses no row in silence."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aggregator.core.errors import ImportDataError
from aggregator.core.rows import Exposure
from aggregator.ingest.book import read_book

BOOK = {
    "markets": "market,rule\npool,aave_v3@3.6\n",
    "collateral": "market,asset,liquidation_threshold,ltv,liquidation_bonus,protocol_fee\n"
    "pool,WETH,0.825,0.8,0.05,0.1\n",
    "positions": "market,account,asset,side,amount\npool,0xAb00000000000000000000000000000000000001,WETH,collateral,"
    "123456789012345678.000000000000000001\npool,alice,USDC,debt,0.000001\n",
    "prices": "asset,price_usd,decimals\nWETH,2000,18\nUSDC,1,6\n",
}


def write(folder: Path, **tables: str) -> Path:
    for name, text in (BOOK | tables).items():
        (folder / f"{name}.csv").write_text(text)
    return folder


def test_amounts_stay_exact_to_the_last_unit(tmp_path: Path) -> None:
    book = read_book(write(tmp_path), 0)
    rows = [r for part in book.positions.values() for r in part if isinstance(r, Exposure)]
    assert {(r.holder, r.side): r.shares for r in rows} == {
        ("0xab00000000000000000000000000000000000001", "collateral"): 123456789012345678 * 10**18 + 1,
        ("alice", "debt"): 1,
    }


def test_the_cut_is_named_by_the_files(tmp_path: Path) -> None:
    first = read_book(write(tmp_path), 5).cut
    assert read_book(tmp_path, 5).cut == first
    write(tmp_path, prices=BOOK["prices"].replace("2000", "2001"))
    assert read_book(tmp_path, 5).cut.digest != first.digest


def test_parquet_strings_read_as_csv_does_and_floats_are_refused(tmp_path: Path) -> None:
    csv = read_book(write(tmp_path), 0)
    (tmp_path / "prices.csv").unlink()
    table = {"asset": ["WETH", "USDC"], "price_usd": ["2000", "1"], "decimals": [18, 6]}
    pq.write_table(pa.table(table), tmp_path / "prices.parquet")
    parquet = read_book(tmp_path, 0)
    strip = lambda book: [[r[1:] for r in rows] for rows in book.positions.values()]  # noqa: E731 - ids hold the digest
    assert [[r[4:] for r in rows] for rows in strip(parquet)] == [[r[4:] for r in rows] for rows in strip(csv)]
    pq.write_table(pa.table(table | {"price_usd": [2000.0, 1.0]}), tmp_path / "prices.parquet")
    with pytest.raises(ImportDataError, match="floats"):
        read_book(tmp_path, 0)


@pytest.mark.parametrize(
    ("table", "old", "new", "where", "hint"),
    [
        ("positions", "amount", "ammount", "ammount", "did you mean 'amount'?"),
        ("positions", "collateral,", "colateral,", "line 2", "did you mean 'collateral'?"),
        ("positions", "0.000001", "0.0000001", "line 3", ""),
        ("positions", "0.000001", "-1", "line 3", ""),
        ("positions", "0.000001", "a lot", "line 3", ""),
        ("positions", "alice,USDC", "alice,USDD", "line 3", "did you mean 'USDC'?"),
        ("positions", "alice,USDC,debt,0.000001", "alice,USDC,debt", "line 3", ""),
        ("positions", "pool,alice", "pol,alice", "line 3", "did you mean 'pool'?"),
        ("markets", "aave_v3@3.6", "aave@3.6", "line 2", "did you mean 'aave_v3@"),
        ("prices", "WETH,2000", "WETH,", "line 2", ""),
        ("prices", "USDC,1,6", "USDC,1,99", "line 3", ""),
        ("prices", "USDC,1,6", "WETH,1,6", "line 3", ""),
        ("collateral", "0.825", "0.82555", "line 2", ""),
    ],
)
def test_a_wrong_cell_is_named_with_its_line(
    tmp_path: Path, table: str, old: str, new: str, where: str, hint: str
) -> None:
    text = BOOK[table].replace(old, new)
    assert text != BOOK[table]
    with pytest.raises(ImportDataError) as error:
        read_book(write(tmp_path, **{table: text}), 0)
    assert where in error.value.message
    assert hint in error.value.fix


def test_missing_and_misnamed_tables(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "prices.csv").rename(tmp_path / "price.csv")
    with pytest.raises(ImportDataError) as error:
        read_book(tmp_path, 0)
    assert "'prices'" in error.value.fix
    (tmp_path / "price.csv").unlink()
    with pytest.raises(ImportDataError, match="lacks a table"):
        read_book(tmp_path, 0)
