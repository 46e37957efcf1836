"""An imported book is exact, named by its files, and loses no row in silence."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aggregator import rules
from aggregator.core.errors import ImportDataError
from aggregator.core.rows import Exposure, Price
from aggregator.ingest.book import RULES, read_book

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
    assert read_book(tmp_path, 6).cut.digest == first.digest  # a copy of the files is the same book
    write(tmp_path, prices=BOOK["prices"].replace("2000", "2001"))
    assert read_book(tmp_path, 5).cut.digest != first.digest


def test_the_cut_is_as_old_as_its_tables(tmp_path: Path) -> None:
    """What lies beside them says nothing about the book, however young; a column of times says more than the files."""
    write(tmp_path)
    for age_s, name in enumerate((*BOOK, "README.md", "notes.txt", ".DS_Store", "old/prices.csv")):
        file = tmp_path / (f"{name}.csv" if name in BOOK else name)
        file.parent.mkdir(exist_ok=True)
        file.touch()
        os.utime(file, (0, 1_600_000_000 + age_s))
    assert read_book(tmp_path).cut.time_s == 1_600_000_000 + len(BOOK) - 1
    digest = read_book(tmp_path).cut.digest
    os.utime(tmp_path / "prices.csv", (0, 1_650_000_000))
    assert (read_book(tmp_path).cut.time_s, read_book(tmp_path).cut.digest) == (1_650_000_000, digest)
    write(tmp_path, prices="asset,price_usd,decimals,time_s\nWETH,2000,18,1500000007\nUSDC,1,6,\n")
    book = read_book(tmp_path)
    assert book.cut.time_s == 1_500_000_007
    prices = [row for rows in book.cut_rows.values() for row in rows if isinstance(row, Price)]
    times = {(price.asset.rpartition(":")[2], price.updated_s) for price in prices}
    assert times == {("WETH", 1_500_000_007), ("USDC", 0)}


@pytest.mark.parametrize("text", ["1700000000000", "0", "-5", "1700000000.5", "2023-11-14"])
def test_a_time_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ImportDataError, match="line 2: time_s"):
        read_book(write(tmp_path, prices=f"asset,price_usd,decimals,time_s\nWETH,2000,18,{text}\nUSDC,1,6,\n"))


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
        ("collateral", "0.825", "82.5", "line 2: liquidation_threshold is out of range", "0.825 is 82.5 %"),
        ("collateral", "pool,WETH", "pool,WETH,0.5,0.5,0,0\npool,WETH", "line 3: a second line", ""),
        (
            "collateral",
            "pool,WETH",
            "pool,USDC",
            "positions.csv line 2: pool does not take 'WETH'",
            "call the side supply",
        ),
        ("positions", "debt", "long", "line 3: unknown side", ""),
        ("positions", "0.000001", "9" * 80, "line 3: amount is out of range", ""),
        ("positions", "0.000001", "1e-6", "line 3: amount is not a number", "exponent"),
        ("positions", "0.000001", '"1,000"', "line 3: amount is not a number", "separators"),
        ("positions", "alice,USDC,debt", "0XAB00000000000000000000000000000000000001,WETH,collateral", "line 3", ""),
        ("markets", "rule\npool,aave_v3@3.6", "rule\npool,aave_v3@9.9", "line 2: unknown rule", "did you mean"),
        ("markets", "rule\npool,aave_v3@3.6", "rule,close_factor\npool,aave_v3@3.6,0.5", "has no close_factor", ""),
        ("markets", "rule\npool,aave_v3@3.6", "rule,protocol\npool,aave_v3@3.6,a/b", "this protocol cannot be", ""),
        ("markets", "rule\npool,aave_v3@3.6", "rule,protocol\nprices,aave_v3@3.6,book", "this protocol cannot be", ""),
        (
            "markets",
            "rule\npool,aave_v3@3.6",
            "rule,close_factor\npool,compound_v2@1,50",
            "line 2: close_factor",
            "82.5 %",
        ),
        ("prices", "USDC,1,6", "USDC,1,\N{SUPERSCRIPT TWO}", "line 3: decimals is not a number", ""),
        ("prices", "USDC,1,6", "USDC,1.000000001,6", "line 3: price_usd has too many", "aave_v3@3.6 reads prices at 8"),
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


@pytest.mark.parametrize(
    ("prices", "where"),
    [
        ("asset,price_usd,decimals,market\nWETH,2000,18,\nUSDC,1,6,\nUSDC,2,6,pol\n", "line 4: unknown market"),
        ("asset,price_usd,decimals,symbol,market\nWETH,1,18,W,\nWETH,1,18,X,pool\nUSDC,1,6,,\n", "symbols differ"),
        ("asset,price_usd,decimals,market\nWETH,1,18,\nWETH,1,17,pool\nUSDC,1,6,\n", "decimals differ"),
        ("asset,price_usd,market\nWETH,2,\nUSDC,1,\nDAI,1,pool\n", "line 4: 'DAI' has no price of its own"),
    ],
)
def test_a_price_of_a_market_is_used_or_refused(tmp_path: Path, prices: str, where: str) -> None:
    with pytest.raises(ImportDataError, match=where):
        read_book(write(tmp_path, prices=prices), 0)


HEAD = "asset,price_usd,market,path,price_cap,ratio_snapshot,ratio_snapshot_s,ratio_growth_yr\nWETH,2000,,,,,,\n"


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ("USDC,1,,feed,,,,", "line 3: path is of a market's own price"),
        ("USDC,1,,,1.04,,,", "line 3: price_cap is of a market's own price"),
        ("USDC,1,,,,,,\nUSDC,1,pool,linear,,,,", "line 4: unknown path"),
        ("USDC,1,,,,,,\nUSDC,1,pool,,1.04,,,", "line 4: price_cap caps no constant price"),
        ("USDC,1,,,,,,\nUSDC,1,pool,rate,1.04,,,", "line 4: price_cap caps no rate price"),
        ("USDC,1,,,,,,\nUSDC,1,pool,feed,,1.04,,", "line 4: ratio_snapshot caps no feed price"),
        ("USDC,1,,,,,,\nUSDC,1,pool,capped,1.04,1.1,,", "line 4: price_cap caps no capped price"),
        ("USDC,1,,,,,,\nUSDC,1,pool,rate,,1.1,,0.1", "line 4: ratio_growth_yr alone"),
        ("USDC,1,,,,,,\nUSDC,1,pool,rate,,,1700000000,", "line 4: ratio_snapshot_s alone"),
        ("USDC,1,,,,,,\nUSDC,1,pool,rate,,0,,", "line 4: ratio_snapshot is out of range"),
        ("USDC,1,,,,,,\nUSDC,1,pool,rate,,1.1,1700000000000,0.1", "line 4: ratio_snapshot_s is out of range"),
        ("USDC,1,,,,,,\nUSDC,1,pool,rate,,1.1,1700000000,968", "line 4: ratio_growth_yr is out of range"),
    ],
)
def test_a_cap_is_read_or_refused(tmp_path: Path, line: str, where: str) -> None:
    with pytest.raises(ImportDataError, match=where):
        read_book(write(tmp_path, prices=f"{HEAD}{line}\n"), 0)


def test_a_market_may_see_another_price_of_an_asset_that_nobody_holds_there(tmp_path: Path) -> None:
    prices = "asset,price_usd,decimals,market\nWETH,2000,18,\nUSDC,1,6,\nDAI,0.98,18,\nDAI,1,,pool\n"
    book = read_book(write(tmp_path, prices=prices), 0)
    found = [r for rows in book.cut_rows.values() for r in rows if isinstance(r, Price) and r.asset.endswith(":DAI")]
    assert sorted((r.path, Decimal(r.raw).scaleb(-r.exp)) for r in found) == [
        ("constant", Decimal(1)),
        ("feed", Decimal("0.98")),
    ]


MORPHO = BOOK | {
    "markets": "market,rule,loan_asset\npool,morpho_blue@1,USDC\n",
    "collateral": "market,asset,liquidation_threshold\npool,WETH,0.86\n",
}


@pytest.mark.parametrize(
    ("table", "old", "new", "where"),
    [
        ("positions", "alice,USDC,debt,0.000001", "alice,WETH,debt,1", "line 3: pool lends one asset"),
        ("positions", "WETH,collateral", "USDC,collateral", "line 2: pool does not take 'USDC'"),
        ("collateral", "pool,WETH,0.86\n", "pool,WETH,0.86\npool,USDC,0.86\n", "line 3: a second line"),
        ("collateral", "threshold\npool,WETH,0.86", "threshold,ltv\npool,WETH,0.86,0.8", "has no ltv"),
        ("markets", ",USDC", ",", "unknown loan_asset"),
        ("prices", "USDC,1,6", "USDC,0,6", "has no price"),
    ],
)
def test_a_market_of_one_pair_holds_no_other(tmp_path: Path, table: str, old: str, new: str, where: str) -> None:
    assert old in MORPHO[table]
    with pytest.raises(ImportDataError, match=where):
        read_book(write(tmp_path, **(MORPHO | {table: MORPHO[table].replace(old, new)})), 0)


def test_an_ltv_above_the_threshold_is_refused_as_the_configurator_would(tmp_path: Path) -> None:
    with pytest.raises(ImportDataError, match=r"collateral\.csv line 2: ltv is above liquidation_threshold"):
        read_book(write(tmp_path, collateral=BOOK["collateral"].replace("0.825,0.8,", "0.825,0.8251,")), 0)


@pytest.mark.parametrize(
    ("table", "text", "where"),
    [
        ("claims", "asset,underlying,rate\nWETH,USDC,1\nWETH,USDC,2\n", "line 3: a second claim"),
        ("claims", "asset,underlying,rate,kind\nWETH,USDC,1,lp\n", "line 2: unknown kind"),
        ("claims", "asset,underlying,rate\nWETH,WETH,1\n", "claim on itself"),
        ("claims", f"asset,underlying,rate\nUSDC,WETH,{'9' * 59}\n", "line 2: rate is too large"),
        ("depth", "asset,base_reserve,usd_reserve\nWETH,1,1\nWETH,2,2\n", "line 3: a second pool"),
        ("depth", "asset,base_reserve,usd_reserve\nWETH,0,1\n", "line 2: base_reserve is out of range"),
        ("depth", "asset,base_reserve,usd_reserve,fee_bps\nWETH,1,1,10000\n", "line 2: fee_bps is out of range"),
    ],
)
def test_claims_and_depth_are_told_once_and_in_range(tmp_path: Path, table: str, text: str, where: str) -> None:
    with pytest.raises(ImportDataError, match=where):
        read_book(write(tmp_path, **{table: text}), 0)


@pytest.mark.parametrize(
    ("rates", "gain"),
    [
        ("WETH,USDC,2000 USDC,WETH,1", "44.7214"),
        ("WETH,USDC,2000 USDC,WETH,0.0005", "1"),
        ("WETH,USDC,0.5 USDC,WETH,1.9", ""),  # 0.95 once around
        ("WETH,USDC,1600 USDC,WETH,0.0005", ""),
        ("WETH,USDC,9e9 USDC,DAI,1", ""),  # no circle
        ("WETH,USDC,1 USDC,DAI,4 DAI,WETH,2", "2"),
        ("WETH,USDC,1 USDC,DAI,4 DAI,WETH,0.2", ""),
        ("WETH,USDC,0.5 USDC,WETH,0.5 USDC,DAI,1 DAI,USDC,1", "1.11803"),  # two circles that share USDC
    ],
)
def test_claims_that_stand_on_each_other_are_refused_with_their_names(tmp_path: Path, rates: str, gain: str) -> None:
    """Gain: of one circle the n-th root of the product of its rates; of two pairs the root of the products' sum."""
    text = "\n".join(["asset,underlying,rate", *rates.replace("9e9", "9000000000").split()]) + "\n"
    write(tmp_path, claims=text, prices=BOOK["prices"] + "DAI,1,18\n")
    if not gain:
        assert read_book(tmp_path, 0).assets
        return
    with pytest.raises(
        ImportDataError, match=rf"(?s)claims stand on each other.*gain {gain}: (DAI, )?USDC, WETH"
    ) as error:
        read_book(tmp_path, 0)
    assert f"line {len(rates.split()) + 1}:" in str(error.value)


def test_the_rules_of_a_book_are_rules_that_judge() -> None:
    assert [name for name in RULES if rules.lending(name) is None] == []
    newest = max(int(name.rpartition(".")[2]) for name in RULES if name.startswith("aave_v3@"))
    newer = (f"aave_v3@3.{newest + 1}", "compound_v2@2", "morpho_blue@2")
    assert [name for name in newer if rules.lending(name) is not None] == []  # none is missing


def test_a_book_can_say_nothing_about_a_chains_token(tmp_path: Path) -> None:
    token = "eip155:1/erc20:0x" + "a" * 40
    both = {name: BOOK[name].replace("USDC", token) for name in ("positions", "prices")}
    book = read_book(write(tmp_path, **both), 0)
    assert {asset.id.split("/")[0] for asset in book.assets} == {book.cut.blocks[0].source}
    assert token in {asset.symbol for asset in book.assets}


def test_missing_and_misnamed_tables(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "prices.csv").rename(tmp_path / "price.csv")
    with pytest.raises(ImportDataError) as error:
        read_book(tmp_path, 0)
    assert "'prices'" in error.value.fix
    (tmp_path / "price.csv").unlink()
    with pytest.raises(ImportDataError, match="lacks a table"):
        read_book(tmp_path, 0)
