"""From rows of a cut to a book: the whole line on a world with a published answer, and what cannot be judged."""

from __future__ import annotations

import numpy as np
import pytest

from aggregator import graph
from aggregator.core.block import BlockRef, Cut
from aggregator.core.errors import DomainError, ScenarioError
from aggregator.core.fixed import WAD
from aggregator.core.ids import USD
from aggregator.core.result import StressResult
from aggregator.core.rows import Asset, Claim, Depth, Exposure, Gap, Index, Market, Price, Row, Term, Total
from aggregator.core.scenario import Conventions, Scenario
from aggregator.core.table import raw_tables
from aggregator.engine import stress
from aggregator.engine.load import from_snapshot
from aggregator.snapshot import Snapshot, build
from tests.engine.test_worlds import near

X, DOLLAR, SHARE = (f"eip155:1/erc20:0x{n:040x}" for n in (1, 2, 3))
MORPHO, POOL, FEED = "eip155:1/morpho_blue/blue/0x01", "eip155:1/uniswap_v2/p", "eip155:1/chainlink/feeds"
LADDER = ((40, 80152), (100, 169592), (110, 180213), (120, 189372), (90, 136611), (150, 219945), (200, 258000))
VAULT = "0x" + f"{3:040x}"


def ladder(lltv_wad: int | None = 86 * 10**16, price: int = 2000) -> list[Row]:
    """Case 03 of the answer keys as an adapter would write it; a vault supplies everything."""
    rows: list[Row] = [
        Asset(X, "X", 18), Asset(DOLLAR, "USDC", 6), Asset(SHARE, "vUSDC", 18),
        Market(MORPHO, "lending", "morpho_blue@1", "X/USDC"), Market(POOL, "amm", "", "p"),
        Market(FEED, "feed", "", "f"),
        Price("", X, USD, 2000 * 10**8, 8, "feed", 0, 0), Price("", DOLLAR, USD, 10**8, 8, "feed", 0, 0),
        Price(MORPHO, X, DOLLAR, price * 10**24, 24, "feed", 0, 0),
        Depth(POOL, "reserve", X, 0, 5000 * WAD), Depth(POOL, "reserve", DOLLAR, 0, 10**7 * 10**6),
        Index(MORPHO, DOLLAR, "supply", 1, 10**6, "down"), Index(MORPHO, DOLLAR, "debt", 1, 10**6, "up"),
        Index(MORPHO, X, "collateral", 1, 1, "down"), Total(MORPHO, DOLLAR, "supply", 2 * 10**18),
        Exposure(MORPHO, VAULT, "", DOLLAR, "supply", 2 * 10**18), Claim(SHARE, DOLLAR, "vault", 10**6, WAD, "", 0, 0),
        Exposure("eip155:1/erc4626/v/0x3", "0xsaver", "", SHARE, "supply", 500_000 * WAD),
        Market("eip155:1/erc4626/v/0x3", "vault", "", "v"),
        Index("eip155:1/erc4626/v/0x3", SHARE, "supply", 1, 1, "down"),
    ]  # fmt: skip
    if lltv_wad is not None:
        rows.append(Term(MORPHO, "", "", "lltv_wad", lltv_wad, 0))
    for i, (collateral, debt) in enumerate(LADDER, 1):
        rows.append(Exposure(MORPHO, f"0xm{i}", "", X, "collateral", collateral * WAD))
        rows.append(Exposure(MORPHO, f"0xm{i}", "", DOLLAR, "debt", debt * 10**12))
    return rows


def snapshot(rows: list[Row]) -> Snapshot:
    cut = Cut.of([BlockRef("eip155:1", 7, "0x7", 1_750_000_000, "latest")])
    facts = [("eip155:1/test/main", row) for row in rows if not isinstance(row, Asset)]
    return build(raw_tables(facts), cut, [row for row in rows if isinstance(row, Asset)])


def run(snap: Snapshot, rounds: str = "batch", profit: bool = True, **blow: dict[str, float]) -> StressResult:
    rules = Conventions(rounds=rounds, profit_test=profit)
    return stress(snap, graph.build(snap), Scenario("s", conventions=rules, **blow))


@pytest.mark.parametrize("rounds", ["batch", "sequential"])
def test_03_through_the_whole_line(rounds: str) -> None:
    seen: list[int] = []
    snap = snapshot(ladder())
    scenario = Scenario("s", conventions=Conventions(rounds=rounds))
    result = stress(snap, graph.build(snap), scenario, on_round=seen.append)
    assert result.rounds[-1].prices_usd[X] == near(1621.44473356789433470082945115)
    assert result.totals["bad_debt_usd"] == near(3511.99999999999995263648)
    assert result.totals["repaid_usd"] == near(972373.00000000000004736352)
    assert seen == [r.number for r in result.rounds]
    (market,) = result.markets
    assert (market.market, market.protocol, market.chain) == (MORPHO, "morpho_blue", 1)
    assert (market.liquidated_accounts, market.unprofitable_accounts) == (6, 0)
    assert result.snapshot_digest == snap.digest


def test_a_vault_bears_the_loss_of_the_market_it_lends_to_and_its_savers_bear_the_vaults() -> None:
    result = run(snapshot(ladder()))
    haircut = 0.00175599999999999997631824
    assert result.rounds[-1].prices_usd[SHARE] == near(1 - haircut)
    wallets = {w.holder: w for w in result.wallets}
    assert wallets["0xsaver"].loss_usd == near(500_000 * haircut)
    assert VAULT not in wallets  # its assets are the savers'
    suppliers = [x.loss_usd for x in result.losses if x.layer == "suppliers"]
    assert suppliers == [near(3512)]


def test_the_same_rows_in_any_order_give_the_same_bytes() -> None:
    rows = ladder()
    a, b = (run(snapshot(r), price={"X": -0.05}) for r in (rows, rows[::-1]))
    assert a.json() == b.json()
    moves = {"X": -0.05, "USDC": -0.01}
    c, d = (run(snapshot(rows), price=dict(m)) for m in (moves.items(), reversed(moves.items())))
    assert c.json() == d.json()


def test_positions_in_a_market_that_no_row_describes_are_counted_as_unread() -> None:
    snap = snapshot([r for r in ladder() if not (isinstance(r, Market) and r.market == MORPHO)])
    result = run(snap)
    assert [(g["subject"], g["reason"], g["accounts"]) for g in result.gaps] == [(MORPHO, "unjudged", 8)]
    assert result.totals["accounts"] == 0.0


@pytest.mark.parametrize("rows", [[], [Market(MORPHO, "lending", "morpho_blue@1", "empty")]])
def test_a_cut_without_accounts_is_a_result_that_says_so(rows: list[Row]) -> None:
    result = run(snapshot(rows))
    assert result.convergence.converged
    assert (result.gaps, result.totals["accounts"]) == ([], 0.0)
    assert any("no account" in note for note in result.notes)


def test_the_dollar_itself_cannot_fall() -> None:
    with pytest.raises(ScenarioError, match="dollar"):
        run(snapshot(ladder()), price={"USD": -0.5})


def test_an_account_that_a_gap_hides_in_part_is_left_out() -> None:
    hidden = Gap(f"{MORPHO}#0xm1", "unread", "a debt of another kind", 1)
    book = from_snapshot(snapshot([*ladder(), hidden]))
    assert book.accounts == len(LADDER) - 1
    assert [(gap.subject, gap.reason, gap.accounts) for gap in book.gaps] == [(MORPHO, "unjudged", 1)]


def test_an_account_that_cannot_be_judged_is_left_out_whole_and_counted() -> None:
    snap = snapshot(ladder(lltv_wad=None))
    book = from_snapshot(snap)
    assert book.accounts == 0
    (gap,) = book.gaps
    assert (gap.subject, gap.reason, gap.accounts) == (MORPHO, "unjudged", 7)
    assert "lltv_wad" in gap.detail
    assert run(snap).totals["accounts"] == 0.0


def test_an_oracle_off_the_market_keeps_its_basis() -> None:
    """Morpho's own oracle says 2200 while the market pays 2000: fewer accounts are due."""
    book = from_snapshot(snapshot(ladder(price=2200)))
    x = book.assets.index(X)
    assert book.oracles.level[book.oracles.source == x].tolist() == [pytest.approx(1.1, rel=1e-15)]


def test_an_unknown_version_is_a_gap_not_a_guess() -> None:
    rows = [r._replace(rule="morpho_blue@7") if isinstance(r, Market) and r.rule else r for r in ladder()]
    result = run(snapshot(rows))
    assert [(g["reason"], g["accounts"]) for g in result.gaps if g["subject"] == MORPHO] == [("unknown_version", 8)]


def test_a_graph_of_another_cut_is_refused() -> None:
    snap = snapshot(ladder())
    with pytest.raises(DomainError, match="another snapshot"):
        stress(snap, graph.build(snapshot(ladder(price=1999))), Scenario("s"))


def test_concentrated_liquidity_walks_its_ticks() -> None:
    """One position of v3 liquidity over all ticks is the constant-product pool it came from."""
    root_x96 = int(np.sqrt(2000 * 10.0 ** (6 - 18)) * 2.0**96)
    liquidity = int(np.sqrt(5000.0 * 10**18) * np.sqrt(1e7 * 10**6))
    rows = [r for r in ladder() if not isinstance(r, Depth)]
    rows += [Depth(POOL, "tick", "", -887_220, liquidity), Depth(POOL, "tick", "", 887_220, -liquidity)]
    rows += [Term(POOL, X, "", "token_index", 0, 0), Term(POOL, DOLLAR, "", "token_index", 1, 0)]
    rows += [Term(POOL, "", "", "sqrt_price_x96", root_x96, 0), Term(POOL, "", "", "fee_pips", 0, 0)]
    result = run(snapshot(rows))
    assert result.rounds[-1].prices_usd[X] == pytest.approx(1621.44473356789433470082945115, rel=1e-6)
    paid = [Term(POOL, "", "", "fee_pips", 3000, 0) if getattr(r, "key", "") == "fee_pips" else r for r in rows]
    fee = run(snapshot(paid), profit=False)
    assert fee.rounds[-1].prices_usd[X] > result.rounds[-1].prices_usd[X]  # the fee stays outside the liquidity
