"""Books that say too little, two things or nought: missing suppliers, pools off their price, prices of zero."""

from __future__ import annotations

from pathlib import Path

import pytest

from aggregator import graph
from aggregator.core.block import BlockRef, Cut
from aggregator.core.errors import ImportDataError
from aggregator.core.fixed import WAD
from aggregator.core.ids import USD
from aggregator.core.result import StressResult
from aggregator.core.rows import Asset, Claim, Depth, Exposure, Index, Market, Price, Row, Term
from aggregator.core.scenario import Conventions, Scenario
from aggregator.core.table import raw_tables
from aggregator.engine import stress
from aggregator.ingest.book import read_book
from aggregator.report.exposure import exposure
from aggregator.report.wallet import wallet
from aggregator.snapshot import Snapshot, build
from aggregator.snapshot.prices import usd

SOURCE = "book:00"
ETH, COIN, SHARE = (f"{SOURCE}/asset:{name}" for name in ("ETH", "COIN", "SHARE"))
MAIN, OTHER, FEED, POOL = (
    f"{SOURCE}/{name}" for name in ("compound_v2/main", "morpho_blue/m", "book/prices", "depth/p")
)


def book(*more: Row, eth_usd: int = 1_400, coin_usd: str = "1") -> list[Row]:
    """Ten ether against 14,000 coins, under water once the incentive of 8 % is paid."""
    coin = int(float(coin_usd) * 1e18)
    return [
        Asset(USD, "USD", 8), Asset(ETH, "ETH", 18), Asset(COIN, "COIN", 6), Asset(SHARE, "SHARE", 6),
        Market(FEED, "feed", "", "f"), Market(MAIN, "lending", "compound_v2@1", "main"),
        Price("", ETH, USD, eth_usd * WAD, 18, "feed", 0, 0), Price("", COIN, USD, coin, 18, "feed", 0, 0),
        Price(MAIN, ETH, USD, eth_usd * WAD, 18, "feed", 0, 0), Price(MAIN, COIN, USD, coin, 18, "feed", 0, 0),
        Term(MAIN, "", "", "close_factor_wad", WAD, 18),
        Term(MAIN, "", "", "liquidation_incentive_wad", 108 * 10**16, 18),
        *(Term(MAIN, a, "", "collateral_factor_wad", 8 * 10**17, 18) for a in (ETH, COIN)),
        *(Index(MAIN, a, side, 1, 1, "down") for a, side in (
            (ETH, "collateral"), (COIN, "debt"), (COIN, "supply"), (COIN, "collateral"), (ETH, "debt"))),
        *more,
    ]  # fmt: skip


def loan(collateral: str, raw: int, debt: str, owed: int) -> list[Row]:
    return [Exposure(MAIN, "a", "", collateral, "collateral", raw), Exposure(MAIN, "a", "", debt, "debt", owed)]


def pool(asset: str, raw: int, usd: int) -> list[Row]:
    return [
        Market(POOL, "amm", "", "p"), Depth(POOL, "reserve", asset, 0, raw), Depth(POOL, "reserve", USD, 1, usd * 10**8)
    ]  # fmt: skip


def run(rows: list[Row], *, profit: bool = True, **blow: dict[str, float]) -> StressResult:
    cut = Cut.of([BlockRef(SOURCE, 0, "00", 1_750_000_000, "import")])
    facts = [(f"{SOURCE}/test/main", row) for row in rows if not isinstance(row, Asset)]
    snap = build(raw_tables(facts), cut, [row for row in rows if isinstance(row, Asset)])
    return stress(snap, graph.build(snap), Scenario("s", conventions=Conventions(profit_test=profit), **blow))


def gap(result: StressResult, reason: str) -> dict[str, object]:
    (found,) = [g for g in result.gaps if g["reason"] == reason]
    return found


def loss(result: StressResult, node: str) -> float:
    return sum(x.loss_usd for x in result.losses if x.node == node and x.kind == "holder")


@pytest.mark.parametrize("listed", [500, 14_000, 60_000])
def test_a_supplier_bears_no_more_than_his_share_of_what_was_lent(listed: int) -> None:
    """14,000 are owed, so at least as much was lent, whoever is listed as having lent it; a receipt is one way."""
    supply = [Exposure(MAIN, "s", "", COIN, "supply", listed * 10**6), Exposure(MAIN, "h", "", SHARE, "supply", 10**9)]
    claim = [Claim(SHARE, COIN, "receipt", 1, 1, MAIN), Index(MAIN, SHARE, "supply", 1, 1, "down")]
    r = run(book(*loan(ETH, 10 * WAD, COIN, 14_000 * 10**6), *supply, *claim))
    bad = 14_000 - 14_000 / 1.08
    lent = max(14_000, listed + 1_000)
    assert r.totals["bad_debt_usd"] == pytest.approx(bad, rel=1e-9)
    assert loss(r, "s") == pytest.approx(bad * listed / lent, rel=1e-9)
    assert loss(r, "h") == pytest.approx(bad * 1_000 / lent, rel=1e-9)
    if listed + 1_000 < lent:
        assert gap(r, "unlisted_supply")["value_usd"] == f"{lent - listed - 1_000:.2f}"
    else:
        assert "unlisted_supply" not in {g["reason"] for g in r.gaps}


@pytest.mark.parametrize(("usd", "said"), [(700_000, "50.0 % less"), (2_800_000, "100.0 % more"), (1_400_000, "")])
def test_a_pool_at_another_price_than_its_asset_is_named(usd: int, said: str) -> None:
    """At half the price nobody can sell what he seizes: no call, and the result says what it hangs on."""
    r = run(book(*loan(ETH, 10 * WAD, COIN, 14_000 * 10**6), *pool(ETH, 1_000 * WAD, usd)))
    named = [g for g in r.gaps if g["reason"] == "pool_off_price"]
    assert [str(g["detail"]) for g in named] == ([f"its pools pay {said} than its price"] if said else [])
    assert [g["value_usd"] for g in named] == ([f"{14_000 * abs(usd / 1_400_000 - 1):.2f}"] if said else [])
    assert (r.totals["liquidated_usd"] > 0.0) == (usd >= 1_400_000)


def test_a_dollar_token_with_a_pool_against_the_dollar_is_sold_there() -> None:
    """9 x 1,400 x 1.08 coins into x y = k of 100,000 and as many dollars; without the pool it would count as cash."""
    rows = book(*loan(COIN, 14_000 * 10**6, ETH, 9 * WAD))
    assert gap(run(rows, profit=False), "assumed_depth")["value_usd"] == "13608.00"
    r = run([*rows, *pool(COIN, 100_000 * 10**6, 100_000)], profit=False)
    assert "assumed_depth" not in {g["reason"] for g in r.gaps}
    assert r.rounds[-1].prices_usd[COIN] == pytest.approx((100_000 / 113_608) ** 2, rel=1e-9)
    assert r.rounds[0].sold_usd == pytest.approx(100_000 * 13_608 / 113_608, rel=1e-9)


def imported(folder: Path, **tables: str) -> Snapshot:
    """A book of CSV files as a snapshot; the tables as their lines."""
    for name, text in tables.items():
        (folder / f"{name}.csv").write_text(text)
    read = read_book(folder, 1_750_000_000)
    facts = [(market, row) for part in (read.cut_rows, read.positions) for market, rows in part.items() for row in rows]
    return build(raw_tables(facts), read.cut, read.assets)


def stressed(snap: Snapshot, **blow: dict[str, float]) -> StressResult:
    return stress(snap, graph.build(snap), Scenario("s", **blow))


RULES = {
    "aave_v3@3.0": "",
    "aave_v3@3.6": "",
    "compound_v2@1": "",
    "morpho_blue@1": "USDC",
}


@pytest.mark.parametrize("own", [None, "1.2666"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("units", "owed"), [("4500000", "4969708.45"), ("0.5", "0.25")])
def test_a_price_of_zero_is_zero_for_wallet_exposure_and_cascade(
    tmp_path: Path, rule: str, own: str | None, units: str, owed: str
) -> None:
    """All that is owed against collateral worth nothing is a shortfall, whatever the market's own oracle answers."""
    snap = imported(
        tmp_path,
        markets=f"market,rule,loan_asset\nm,{rule},{RULES[rule]}\n",
        collateral="market,asset,liquidation_threshold\nm,xUSD,0.915\n",
        prices="asset,price_usd,decimals,market\nxUSD,0,18,\nUSDC,1,6,\nsxUSD,9,18,\n"
        + (f"xUSD,{own},18,m\n" if own else ""),
        positions=f"market,account,asset,side,amount\nm,bob,xUSD,collateral,{units}\nm,bob,USDC,debt,{owed}\n"
        f"m,carol,USDC,supply,{owed}\n",
        claims="asset,underlying,rate\nsxUSD,xUSD,1.1\n",
    )
    asset = next(a for a in snap.assets if a.endswith(":xUSD"))
    known = usd(snap, asset)
    assert known is not None
    assert known[0].raw == 0
    position = wallet(snap, "bob", 1_750_000_000)["positions"][0]
    assert {leg["symbol"]: float(leg["value_usd"]) for leg in position["legs"]} == {"xUSD": 0.0, "USDC": float(owed)}
    weighted = float(units) * float(own or 0) * 0.915
    assert float(position["health_factor"]) == pytest.approx(weighted / float(owed), rel=1e-5)
    assert position["debt_usd"] is not None
    rows = exposure(snap, "xUSD")["rows"]
    assert [float(r["value_usd"]) for r in rows if r["through"] == "direct"] == [0.0]
    assert not [g for g in snap.gaps if g.reason in ("no_price", "bad_price")]
    result = stressed(snap)
    assert result.totals["unrealised_shortfall_usd"] == pytest.approx(float(owed), rel=1e-9)
    assert result.totals["accounts"] == 1.0
    assert result.totals["liquidated_accounts"] == 0.0  # nobody buys it


@pytest.mark.parametrize("rule", [r for r in RULES if not r.startswith("morpho")])
def test_a_debt_that_is_worth_nothing_is_no_debt(tmp_path: Path, rule: str) -> None:
    snap = imported(
        tmp_path,
        markets=f"market,rule\nm,{rule}\n",
        collateral="market,asset,liquidation_threshold\nm,ETH,0.8\n",
        prices="asset,price_usd\nETH,2000\nUST,0\n",
        positions="market,account,asset,side,amount\nm,bob,ETH,collateral,1\nm,bob,UST,debt,9000\n",
    )
    position = wallet(snap, "bob", 1_750_000_000)["positions"][0]
    assert (position["health_factor"], float(position["debt_usd"])) == (None, 0.0)
    result = stressed(snap)
    (bob,) = result.wallets
    assert (bob.equity_before_usd, bob.equity_after_usd, bob.health_after) == (2000.0, 2000.0, None)


BOB = "main,bob,ETH,collateral,0.5\nmain,bob,DAI,debt,1500\n"
LISTED = {  # who lent 10,000 DAI, and what the claims say of it
    "plain": ("main,carol,DAI,supply,10000\n", ""),
    "receipt": ("main,carol,cDAI,supply,10000\n", "cDAI,DAI,1,receipt,main\n"),
    "receipt at a rate": ("main,carol,cDAI,supply,500000\n", "cDAI,DAI,0.02,receipt,main\n"),
    "posted": ("main,carol,cDAI,collateral,10000\n", "cDAI,DAI,1,receipt,main\n"),
    "posted elsewhere": ("other,carol,cDAI,collateral,8000\n", "cDAI,DAI,1.25,receipt,main\n"),
    "vault": ("main,carol,vDAI,supply,5000\n", "vDAI,DAI,2,vault,main\n"),
    "vault of receipts": ("other,carol,vDAI,supply,4000\n", "cDAI,DAI,1.25,receipt,main\nvDAI,cDAI,2,vault,\n"),
    "vault and its shares": (
        "main,vault,DAI,supply,10000\nother,carol,vDAI,supply,5000\n",
        "vDAI,DAI,2,vault,main\n",
    ),
    "both": ("main,carol,cDAI,supply,6000\nmain,dave,DAI,supply,4000\n", "cDAI,DAI,1,receipt,main\n"),
}


@pytest.mark.parametrize("rule", ["compound_v2@1", "aave_v3@3.0", "aave_v3@3.6"])
@pytest.mark.parametrize("listed", LISTED)
@pytest.mark.parametrize("size", [1, 1000])
def test_receipts_count_as_what_was_lent(tmp_path: Path, rule: str, listed: str, size: int) -> None:
    """1,000 dollars of ether at an incentive of 8 % against 1,500: 574.07 are lost, by whichever name it was lent."""
    positions, claims = LISTED[listed]
    incentive = ",1.08" if rule.startswith("compound") else ","
    bonus = "" if rule.startswith("compound") else "0.08"
    lines = [line.rsplit(",", 1) for line in (BOB + positions).splitlines()]
    snap = imported(
        tmp_path,
        markets=f"market,rule,liquidation_incentive\nmain,{rule}{incentive}\nother,{rule}{incentive}\n",
        collateral="market,asset,liquidation_threshold,liquidation_bonus\n"
        + "".join(f"{m},{a},0.8,{bonus}\n" for m, a in (("main", "ETH"), ("main", "cDAI"), ("other", "cDAI"))),
        prices="asset,price_usd\nETH,2000\nDAI,1\n" + "".join(f"{a},{usd}\n" for a, usd in _worth(claims).items()),
        positions="market,account,asset,side,amount\n" + "".join(f"{a},{float(b) * size}\n" for a, b in lines),
        claims="asset,underlying,rate,kind,market\n" + claims,
    )
    r, bad = stressed(snap), size * (1500 - 1000 / 1.08)
    assert r.totals["bad_debt_usd"] == pytest.approx(bad, rel=1e-9)
    carol = next(w for w in r.wallets if w.holder == "carol")
    share = 0.6 if listed == "both" else 1.0
    assert carol.loss_usd == pytest.approx(bad * share, rel=1e-9)
    if "and its shares" not in listed:  # there nothing says that the vault's supply is its share holders'
        assert r.totals["losses_usd"] == pytest.approx(bad, rel=1e-9)
    assert r.totals["unlisted_lender_loss_usd"] == 0.0
    assert r.totals["unlisted_lender_loss_usd"] == pytest.approx(0.0, abs=1e-9 * size)  # whatever it is called
    assert r.totals["reliefs_usd"] == pytest.approx(500.0 * size, rel=1e-9)
    if listed != "vault and its shares":  # there the vault is a holder of its own
        assert r.totals["losses_usd"] == pytest.approx(bad, rel=1e-9)
    assert "unlisted_supply" not in {g["reason"] for g in r.gaps}
    assert any("stays owed" in note for note in r.notes) == (rule != "aave_v3@3.6")
    assert r.totals["bad_debt_owed_usd"] == (0.0 if rule == "aave_v3@3.6" else r.totals["bad_debt_usd"])


def _worth(claims: str) -> dict[str, float]:
    """What one whole claim stands for, by the book's own rates."""
    out = {"DAI": 1.0, "cDAI": 1.0}
    for line in claims.splitlines():
        asset, under, rate, *_ = line.split(",")
        out[asset] = float(rate) * out[under]
    return {a: x for a, x in out.items() if a != "DAI"}


@pytest.mark.parametrize("rate", ["0", "0.000", "-1", ""])
def test_a_claim_on_nothing_is_refused(tmp_path: Path, rate: str) -> None:
    with pytest.raises(ImportDataError, match=r"claims\.csv line 2: rate"):
        imported(
            tmp_path,
            markets="market,rule\nm,compound_v2@1\n",
            prices="asset,price_usd\nETH,2000\nvETH,2000\n",
            positions="market,account,asset,side,amount\nm,bob,ETH,supply,1\n",
            claims=f"asset,underlying,rate\nvETH,ETH,{rate}\n",
        )


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("price", "oracle_usd", "move", "answer_usd"),
    [  # ether at 2,000 moves; one LST stands for 1.18 of it; debts of 1,000 are judged against 93 % of one
        ("2346.0704,rate,,1.1730352,,", "2346.0704", {"ETH": -0.1}, 2111.46336),
        ("2346.0704,capped,,1.1730352,,", "2346.0704", {"ETH": -0.1}, 2111.46336),
        ("2346.0704,capped,,,,", "2346.0704", {"ETH": -0.1}, 2111.46336),
        ("2346.0704,rate,,1.1730352,,", "2346.0704", {"ETH": 0.5}, 3519.1056),
        ("2300,rate,,1,1718464000,0.15", "2300", {"ETH": -0.5}, 1150),  # a year of 15 % later: 1.15
        ("2360,rate,,,,", "2360", {"LST": -0.3}, 2360),
        ("2360,feed,,,,", "2360", {"ETH": -0.1}, 2124),
        ("2360,,,,,", "2360", {"ETH": -0.1}, 2360),
        ("2360,capped,2400,,,", "2360", {"ETH": 0.1}, 2400),
    ],
)
def test_a_markets_own_price_moves_by_its_path_and_below_its_cap(
    tmp_path: Path, rule: str, price: str, oracle_usd: str, move: dict[str, float], answer_usd: float
) -> None:
    snap = imported(
        tmp_path,
        markets=f"market,rule,loan_asset\nm,{rule},{RULES[rule]}\n",
        collateral="market,asset,liquidation_threshold\nm,LST,0.93\n",
        prices="asset,market,price_usd,path,price_cap,ratio_snapshot,ratio_snapshot_s,ratio_growth_yr\n"
        f"ETH,,2000,,,,,\nUSDC,,1,,,,,\nLST,,2360,,,,,\nLST,m,{price}\n",
        positions="market,account,asset,side,amount\nm,bob,LST,collateral,1\nm,bob,USDC,debt,1000\n"
        "m,carol,USDC,supply,5000\n",
        claims="asset,underlying,rate,kind\nLST,ETH,1.18,lst\n",
    )
    (bob,) = (w for w in stressed(snap, price=move).wallets if w.holder == "bob")
    assert bob.health_before == pytest.approx(float(oracle_usd) * 0.93 / 1000, rel=1e-9)
    assert bob.health_after == pytest.approx(answer_usd * 0.93 / 1000, rel=1e-9)
