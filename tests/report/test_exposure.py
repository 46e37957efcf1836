"""Frames of a cut, and exposure to an asset, against sums over the exact rows themselves."""

import re
from collections import defaultdict
from decimal import Decimal
from fractions import Fraction
from io import BytesIO

import pandas as pd
import pytest

from aggregator.app.demo import Demo
from aggregator.app.wiring import App
from aggregator.core.errors import ConfigError
from aggregator.core.ids import USD
from aggregator.core.rows import Asset, Exposure, Index, Market, Price
from aggregator.core.schema import SCHEMA
from aggregator.report.exposure import exposure
from aggregator.report.frames import frame, positions
from aggregator.snapshot import Snapshot, accounts, values
from aggregator.snapshot.prices import all_usd
from tests.snapshot.world import freeze

BALANCES = ("supply", "collateral", "debt", "margin")  # the other sides are options and perpetuals


def _eight_places(worth: Fraction) -> str:
    digits = str(int(worth * 10**8)).zfill(9)
    return f"{digits[:-8]}.{digits[-8:]}"


@pytest.fixture(scope="module")
def snap(demo: Demo) -> Snapshot:
    with App.open(demo.config) as app:
        return app.snapshot()


def test_frames_hold_the_exact_rows(snap: Snapshot) -> None:
    for kind, columns in SCHEMA.items():
        found = frame(snap, kind)
        assert list(found.columns) == [*(column.name for column in columns), "deployment"]
        assert len(found) == snap.tables[kind].n
        assert set(found["deployment"]) <= set(snap.deployments)
    assert [int(shares) for shares in frame(snap, "exposure")["shares"]] == [r.shares for r in snap.rows("exposure")]
    with pytest.raises(ConfigError, match="no rows are called 'exposures'"):
        frame(snap, "exposures")


def test_a_frame_of_some_rows_is_those_rows(snap: Snapshot) -> None:
    places = snap.find("exposure", side="debt")
    whole = positions(snap)
    pd.testing.assert_frame_equal(
        positions(snap, places), whole[whole["side"] == "debt"].reset_index(drop=True), check_index_type=False
    )


def test_positions_can_be_saved_with_what_nobody_can_price(snap: Snapshot) -> None:
    held = positions(snap)
    held.loc[held.index[0], "value_usd"] = float("nan")
    held.to_parquet(file := BytesIO())
    pd.testing.assert_frame_equal(pd.read_parquet(file), held)


def test_exposure_is_the_sum_over_exact_accounts(snap: Snapshot) -> None:
    """Amount in the market's own rounding, account by account, at the price of the cut, to the last of eight places."""
    priced = all_usd(snap)
    for asset in sorted({row.asset for row in snap.rows("exposure")}):
        sums: dict[tuple[str, str], int] = defaultdict(int)
        for market, holder in sorted({(row.market, row.holder) for row in snap.rows("exposure", asset=asset)}):
            for leg in accounts.account(snap, market, holder).legs:
                if leg.asset == asset and leg.side in BALANCES:
                    sums[market, leg.side] += leg.amount
        found = {(r["market"], r["side"]): r for r in exposure(snap, asset)["rows"] if r["through"] == "direct"}
        assert set(found) == set(sums)
        for place, total in sums.items():
            if asset not in priced or snap.assets[asset].decimals < 0:
                assert found[place]["value_usd"] is None
            else:
                worth = total * Fraction(priced[asset][0].decimal()) / 10 ** snap.assets[asset].decimals
                assert found[place]["value_usd"] == _eight_places(worth)


@pytest.mark.parametrize("symbol", ["WETH", "wstETH", "USDC", "vETH", "WBTC"])
def test_no_figure_of_an_exposure_is_a_float(snap: Snapshot, symbol: str) -> None:
    """Decimal texts with a fixed number of places, which a script reads without rounding."""
    rows = exposure(snap, symbol)["rows"]
    assert rows
    for row in rows:
        assert re.fullmatch(r"[01]\.\d{15}", row["fraction"])
        assert row["value_usd"] is None or re.fullmatch(r"\d+\.\d{8}", row["value_usd"])
        assert row["through"] != "direct" or Decimal(row["fraction"]) == 1
    sizes = [Decimal(row["value_usd"] or 0) for row in rows]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    ("places", "shares", "raw_price"),
    [
        (18, 9 * 10**24 + 1, 10**8),
        (6, 3, 99_999_999),
        (18, 1, 1),
        (0, 2**255, 10**8),
        (27, 7 * 10**26, 123_456_789),
    ],
)
def test_a_value_has_every_digit_that_it_has(places: int, shares: int, raw_price: int) -> None:
    """9,000,000.000000000000000001 is 9000000.00000000 and not 9000000.000000002."""
    vault, asset = "eip155:1/erc4626/v/0x01", f"eip155:1/erc20:0x{'1f' * 20}"
    rows = [
        Market(vault, "vault", "", "v"),
        Index(vault, asset, "supply", 1, 1, "down"),
        Price("", asset, USD, raw_price, 8, "feed", 0, 0),
        *(Exposure(vault, who, "", asset, "supply", shares // 3) for who in ("0xaa", "0xbb")),
        Exposure(vault, "0xcc", "", asset, "supply", shares - 2 * (shares // 3)),
    ]
    (row,) = exposure(freeze(rows, assets=[Asset(asset, "ONE", places)]), "ONE")["rows"]
    worth = Fraction(shares * raw_price, 10 ** (places + 8))
    assert row["value_usd"] == _eight_places(worth)


def test_a_claim_brings_its_holders_their_share_of_what_stands_behind_it(snap: Snapshot) -> None:
    """By hand from one claim row: shares held, times num / den, times the price of the underlying."""
    receipts = [
        claim for claim in snap.rows("claim") if claim.kind == "vault" and snap.find("exposure", asset=claim.asset).size
    ]
    assert receipts
    prices = dict(zip(snap.names, values.price_usd(snap).tolist(), strict=True))
    for claim in receipts:
        rows = [r for r in exposure(snap, claim.underlying)["rows"] if r["through"] == claim.asset]
        assert rows
        behind = prices[claim.underlying] * claim.num / claim.den
        for row in rows:
            assert float(row["fraction"]) * prices[claim.asset] == pytest.approx(behind, rel=1e-6)


def test_a_receipt_is_held_by_whoever_deposited_what_it_stands_for(snap: Snapshot) -> None:
    """Account by account: an aToken's balance is the account's scaled balance times the index, one for one."""
    prices = dict(zip(snap.names, values.price_usd(snap).tolist(), strict=True))
    receipts = [claim for claim in snap.rows("claim") if claim.kind == "receipt" and "/erc20:" in claim.asset]
    assert {"aWETH", "aUSDC", "aCRV"} <= {snap.assets[claim.asset].symbol for claim in receipts}
    for claim in receipts:
        sums: dict[tuple[str, str], int] = defaultdict(int)
        for holder in {row.holder for row in snap.rows("exposure", market=claim.market)}:
            for leg in accounts.account(snap, claim.market, holder).legs:
                if leg.asset == claim.underlying and leg.side in ("supply", "collateral"):
                    sums[claim.market, leg.side] += leg.amount
        rows = [r for r in exposure(snap, claim.asset)["rows"] if r["market"] == claim.market]
        assert {(r["market"], r["side"]): float(r["value_usd"]) for r in rows} == pytest.approx(
            {place: total * prices[claim.underlying] for place, total in sums.items()}, rel=1e-9
        )


@pytest.mark.parametrize("symbol", ["vETH", "vBTC"])
def test_the_base_of_a_perpetual_counts_at_its_notional(snap: Snapshot, symbol: str) -> None:
    """Size by size at the mark that the market itself gives, longs and shorts apart."""
    (asset,) = (a.id for a in snap.assets.values() if a.symbol == symbol)
    (price,) = {(p.raw, p.exp) for p in snap.rows("price", asset=asset) if p.raw > 0}
    sums: dict[str, int] = defaultdict(int)
    for row in snap.rows("perp", asset=asset):
        sums["long" if row.size > 0 else "short"] += abs(row.size)
    assert sums
    found = {row["side"]: float(row["value_usd"]) for row in exposure(snap, symbol)["rows"]}
    assert found == pytest.approx({side: size * price[0] / 10 ** (18 + price[1]) for side, size in sums.items()})


def test_a_symbol_is_all_its_assets_and_nothing_counts_twice(snap: Snapshot) -> None:
    assets = sorted(a.id for a in snap.assets.values() if a.symbol == "WETH")
    together = exposure(snap, "weth")
    assert len(assets) > 1
    assert together["assets"] == assets
    apart = [row for asset in assets for row in exposure(snap, asset)["rows"]]
    direct = [row for row in apart if row["through"] == "direct"]
    assert sorted(map(str, direct)) == sorted(str(row) for row in together["rows"] if row["through"] == "direct")
    through: dict[tuple[str, ...], float] = defaultdict(float)
    for row in apart:
        if row["through"] not in ("direct", *assets):
            through[row["market"], row["side"], row["through"]] += float(row["value_usd"])
    found = {(r["market"], r["side"], r["through"]): float(r["value_usd"]) for r in together["rows"]}
    assert {key: usd for key, usd in found.items() if key[2] != "direct"} == pytest.approx(dict(through))


def test_an_asset_that_is_not_there_is_named_with_the_nearest(snap: Snapshot) -> None:
    with pytest.raises(ConfigError, match="is no asset of this cut"):
        exposure(snap, "WETHH")
    with pytest.raises(ConfigError, match="did you mean 'wstETH'"):
        exposure(snap, "WSTETHH")
    with pytest.raises(ConfigError, match=r"did you mean 'WETH' or 'sETH' or .*'wstETH'"):  # parts of longer symbols
        exposure(snap, "eth")
