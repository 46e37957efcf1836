"""Laws of all tables of an import, written once: a column of `ingest.book.TABLES` without a line here fails by name."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aggregator.core.errors import ImportDataError
from aggregator.ingest.book import TABLES, Book, read_book

Lines = list[dict[str, str]]
OWN = {"market": "aave", "path": "capped", "price_cap": "1900.5"}
WHOLE: dict[str, Lines] = {  # every column says something on some line
    "markets": [
        {"market": "aave", "rule": "aave_v3@3.6", "protocol": "spark", "name": "Core"},
        {"market": "comp", "rule": "compound_v2@1", "close_factor": "0.4", "liquidation_incentive": "1.07"},
        {"market": "blue", "rule": "morpho_blue@1", "loan_asset": "USDC"},
        {"market": "idle", "rule": "compound_v2@1"},
    ],
    "collateral": [
        {
            "market": "aave",
            "asset": "WETH",
            "liquidation_threshold": "0.825",
            "ltv": "0.8",
            "liquidation_bonus": "0.06",
            "protocol_fee": "0.1",
        },
        {"market": "aave", "asset": "wstETH", "liquidation_threshold": "0.8"},
        {"market": "comp", "asset": "WETH", "liquidation_threshold": "0.75"},
        {"market": "blue", "asset": "WETH", "liquidation_threshold": "0.86"},
    ],
    "positions": [
        *(
            {"market": m, "account": "alice", "asset": a, "side": s, "amount": x}
            for m in ("aave", "comp", "blue")
            for a, s, x in (("WETH", "collateral", "10"), ("USDC", "debt", "9000"), ("USDC", "supply", "20000"))
        ),
        {"market": "aave", "account": "carol", "asset": "USDC", "side": "supply", "amount": "1"},
    ],
    "prices": [
        {"asset": "WETH", "price_usd": "2000", "decimals": "18", "symbol": "WETH", "time_s": "1700000000"},
        {"asset": "USDC", "price_usd": "1", "decimals": "6"},
        {"asset": "wstETH", "price_usd": "2350", "decimals": "18"},
        {"asset": "WETH", "price_usd": "1990", **OWN},
        {
            "asset": "wstETH",
            "price_usd": "2300",
            "market": "aave",
            "path": "rate",
            "ratio_snapshot": "1.17",
            "ratio_snapshot_s": "1690000000",
            "ratio_growth_yr": "0.09",
        },
        {"asset": "USDC", "price_usd": "1", "market": "aave", "path": "feed"},
        {"asset": "ARB", "price_usd": "0.5"},
    ],
    "claims": [{"asset": "wstETH", "underlying": "WETH", "rate": "1.18", "kind": "lst", "market": "comp"}],
    "depth": [{"asset": "WETH", "base_reserve": "1000", "usd_reserve": "2000000", "fee_bps": "30"}],
}
# a line of the table and another cell that it may hold as well
OTHERWISE: dict[tuple[str, str], tuple[int, str]] = {
    ("markets", "market"): (3, "other"),
    ("markets", "rule"): (0, "aave_v3@3.5"),
    ("markets", "protocol"): (0, "fork"),
    ("markets", "name"): (0, "Prime"),
    ("markets", "loan_asset"): (2, "wstETH"),
    ("markets", "close_factor"): (1, "0.6"),
    ("markets", "liquidation_incentive"): (1, "1.09"),
    ("collateral", "market"): (1, "comp"),
    ("collateral", "asset"): (1, "USDC"),
    ("collateral", "liquidation_threshold"): (0, "0.83"),
    ("collateral", "ltv"): (0, "0.79"),
    ("collateral", "liquidation_bonus"): (0, "0.07"),
    ("collateral", "protocol_fee"): (0, "0.2"),
    ("positions", "market"): (9, "comp"),
    ("positions", "account"): (0, "bob"),
    ("positions", "asset"): (1, "wstETH"),
    ("positions", "side"): (0, "supply"),
    ("positions", "amount"): (0, "10.000000000000000001"),
    ("prices", "asset"): (6, "OP"),
    ("prices", "price_usd"): (0, "2000.5"),
    ("prices", "decimals"): (2, "17"),
    ("prices", "symbol"): (0, "ETH"),
    ("prices", "market"): (3, "comp"),
    ("prices", "time_s"): (0, "1700000001"),
    ("prices", "path"): (5, "lagged"),
    ("prices", "price_cap"): (3, "1900"),
    ("prices", "ratio_snapshot"): (4, "1.16"),
    ("prices", "ratio_snapshot_s"): (4, "1690000001"),
    ("prices", "ratio_growth_yr"): (4, "0.08"),
    ("claims", "asset"): (0, "USDC"),
    ("claims", "underlying"): (0, "USDC"),
    ("claims", "rate"): (0, "1.19"),
    ("claims", "kind"): (0, "vault"),
    ("claims", "market"): (0, ""),
    ("depth", "asset"): (0, "wstETH"),
    ("depth", "base_reserve"): (0, "1001"),
    ("depth", "usd_reserve"): (0, "2000001"),
    ("depth", "fee_bps"): (0, "5"),
}
# optional, but without them another cell of this book says nothing, or says it twice
NEEDED_BY_ANOTHER = {
    ("markets", "loan_asset"),
    ("prices", "market"),
    ("prices", "path"),
    ("prices", "ratio_snapshot"),
    ("prices", "ratio_snapshot_s"),
    ("prices", "ratio_growth_yr"),
}
COLUMNS = [(table, column) for table, spec in TABLES.items() for column in (*spec.required, *spec.optional)]
every_table = pytest.mark.parametrize("table", TABLES)
every_column = pytest.mark.parametrize(("table", "column"), COLUMNS)


def header(table: str) -> list[str]:
    return [*TABLES[table].required, *TABLES[table].optional]


def as_csv(folder: Path, table: str, lines: Lines) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, header(table), restval="")
    writer.writeheader()
    writer.writerows(lines)
    (folder / f"{table}.csv").write_text(text.getvalue())


def as_parquet(folder: Path, table: str, lines: Lines) -> None:
    columns = {name: [line.get(name) for line in lines] for name in header(table)}
    pq.write_table(
        pa.table({name: pa.array(cells, pa.string()) for name, cells in columns.items()}), folder / f"{table}.parquet"
    )


def said(folder: Path, **changed: Lines) -> tuple[int, str]:
    """Time and rows of the book with these tables changed, whatever its source is called."""
    folder.mkdir()
    for table, lines in (WHOLE | changed).items():
        as_csv(folder, table, lines)
    return told(read_book(folder))


def told(book: Book) -> tuple[int, str]:
    (block,) = book.cut.blocks
    rows = [{name: sorted(map(repr, rows)) for name, rows in part.items()} for part in (book.cut_rows, book.positions)]
    everything = repr([sorted(map(repr, book.assets)), *(sorted(part.items()) for part in rows)])
    everything = re.sub(r"key='reserve_id', raw=\d+", "", everything)  # the place in Aave's list is the line's
    return block.time_s, everything.replace(block.source, "book")


def with_cell(table: str, at: int, column: str, cell: str) -> Lines:
    return [line | {column: cell} if i == at else line for i, line in enumerate(WHOLE[table])]


def test_every_column_is_here() -> None:
    assert set(OTHERWISE) == set(COLUMNS)
    used = {(table, column) for table, lines in WHOLE.items() for line in lines for column in line}
    assert used == set(COLUMNS)


def refusal(folder: Path, **changed: Lines) -> str:
    """What was wrong with the book; '' where nothing was."""
    try:
        said(folder, **changed)
    except ImportDataError as error:
        return error.message
    return ""


@every_column
def test_every_cell_says_something(table: str, column: str, tmp_path: Path) -> None:
    """Another cell is another book: other rows or another time."""
    at, cell = OTHERWISE[table, column]
    assert cell != WHOLE[table][at].get(column, "")
    changed = {table: with_cell(table, at, column, cell)}
    if column == "loan_asset":  # is what its positions say
        assert refusal(tmp_path / "after", **changed).endswith("blue lends one asset")
    else:
        assert said(tmp_path / "after", **changed) != said(tmp_path / "before")


@every_column
def test_a_column_that_is_needed_is_missed_by_name(table: str, column: str, tmp_path: Path) -> None:
    """As a cell and as a whole. An optional one may be missing, unless another cell needs it."""
    first = next(i for i, line in enumerate(WHOLE[table]) if column in line)
    without = [{k: v for k, v in line.items() if k != column} for line in WHOLE[table]]
    for name, lines in (
        ("cell", with_cell(table, first, column, "")),
        ("column", without),
    ):
        why = refusal(tmp_path / name, **{table: lines})
        assert bool(why) == (column in TABLES[table].required or (table, column) in NEEDED_BY_ANOTHER), why
        assert not why or table in why
        assert not why or column in why or (table, column) in NEEDED_BY_ANOTHER, why


@every_table
def test_a_misspelt_column_is_named_with_the_right_one(table: str, tmp_path: Path) -> None:
    for name, lines in WHOLE.items():
        as_csv(tmp_path, name, lines)
    file = tmp_path / f"{table}.csv"
    column = header(table)[-1]
    first, rest = file.read_text().split("\n", 1)
    file.write_text(first.replace(column, f"{column}s") + "\n" + rest)
    with pytest.raises(ImportDataError) as refused:
        read_book(tmp_path)
    assert table in refused.value.message
    assert column in refused.value.fix + refused.value.expected


@every_table
def test_parquet_says_the_same(table: str, tmp_path: Path) -> None:
    before = said(tmp_path / "csv")
    folder = tmp_path / "parquet"
    folder.mkdir()
    for name, lines in WHOLE.items():
        (as_parquet if name == table else as_csv)(folder, name, lines)
    assert told(read_book(folder)) == before


@every_table
def test_the_order_of_lines_says_nothing(table: str, tmp_path: Path) -> None:
    turned = {table: WHOLE[table][::-1]}
    assert said(tmp_path / "turned", **turned) == said(tmp_path / "straight")
