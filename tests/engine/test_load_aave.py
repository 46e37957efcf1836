"""Aave accounts from rows to the book: what its versions make of e-modes, closed reserves and thresholds of zero.

Each expected verdict is the exact rule's own on the same account, or the order of the contract worked out by hand.
"""

from __future__ import annotations

import numpy as np
import pytest

from aggregator.core.fixed import RAY
from aggregator.core.ids import USD
from aggregator.core.rows import AccountTerm, Asset, Exposure, Index, Market, Price, Row, Term
from aggregator.core.scenario import Conventions, Scenario
from aggregator.engine.book import Book
from aggregator.engine.load import from_snapshot
from aggregator.engine.run import Cascade, cascade
from aggregator.rules import WouldRevertError, lending
from aggregator.snapshot import Snapshot
from aggregator.snapshot.accounts import account
from tests.engine.test_load import snapshot

POOL = "eip155:1/aave_v3/core"
WETH, DAI, USDC, OLD = (f"eip155:1/erc20:0x{n:040x}" for n in (11, 12, 13, 14))
PRICES = {WETH: 2_000.0, DAI: 1.0, USDC: 1.0, OLD: 10.0}
Legs = dict[str, dict[tuple[str, str], float]]


def rows(version: str, legs: Legs, **changed: dict[str, int]) -> list[Row]:
    """legs: holder -> (asset, side) -> whole units, 18 places; changed: terms by symbol."""
    out: list[Row] = [Market(POOL, "lending", f"aave_v3@{version}", "core"), Term(POOL, "", "", "base_unit_exp", 8, 0)]
    for number, (asset, usd) in enumerate(PRICES.items()):
        symbol = {WETH: "WETH", DAI: "DAI", USDC: "USDC", OLD: "OLD"}[asset]
        out += [Asset(asset, symbol, 18), Price(POOL, asset, USD, round(usd * 1e8), 8, "feed", 0, 0)]
        terms = {
            "ltv_bps": 7_500, "liquidation_threshold_bps": 8_000, "liquidation_bonus_bps": 10_500, "reserve_id": number,
            "liquidation_protocol_fee_bps": 1_000, "emode_category": 1 if asset in (DAI, USDC) else 0,
        }  # fmt: skip
        out += [Term(POOL, asset, "", key, raw, 0) for key, raw in (terms | changed.get(symbol, {})).items()]
        out += [Index(POOL, asset, side, RAY, RAY, "half_up") for side in ("collateral", "supply", "debt")]
    for who, held in legs.items():
        out += [Exposure(POOL, who, "", a, side, round(x * 1e18)) for (a, side), x in held.items()]
    return out


def category(price: int) -> list[Row]:
    """E-mode 1 of 3.0, stablecoins, priced by a source of its own."""
    terms = {"ltv_bps": 9_500, "liquidation_threshold_bps": 9_700, "liquidation_bonus_bps": 10_100,
             "price_source": 99, "price": price}  # fmt: skip
    return [Term(POOL, "", "emode:1", key, raw, 0) for key, raw in terms.items()]


def ran(snap: Snapshot, rounds: int = 1, **blow: dict[str, float]) -> Cascade:
    rules = Conventions(profit_test=False, max_rounds=rounds)
    return cascade(from_snapshot(snap), Scenario("s", conventions=rules, **blow))


def health_by_rule(snap: Snapshot, who: str) -> float:
    rule = lending(account(snap, POOL, who).rule)
    assert rule is not None
    exact = rule.judge(account(snap, POOL, who)).health_factor
    return np.inf if exact is None else exact / 1e18


@pytest.mark.parametrize("price", [104_000_000, 97_000_000, 0])
def test_a_category_of_v30_prices_debts_too(price: int) -> None:
    """The same two assets inside and outside the category: its price is for those inside alone, on both sides."""
    legs: Legs = {
        "0xin": {(WETH, "collateral"): 1.0, (DAI, "collateral"): 500.0, (USDC, "debt"): 1_500.0},
        "0xout": {(WETH, "collateral"): 1.0, (DAI, "collateral"): 500.0, (USDC, "debt"): 1_500.0},
    }
    snap = snapshot([*rows("3.0", legs), *category(price), AccountTerm(POOL, "0xin", "", "emode", 1)])
    book = from_snapshot(snap)
    assert {g.reason for g in book.gaps} == {"unlisted_supply"}  # nobody is listed who lent the coins
    run = ran(snap)
    for i, holder in enumerate(book.account_holder.tolist()):
        assert run.health_before[i] == pytest.approx(health_by_rule(snap, book.holders[holder]), rel=1e-12)


def test_collateral_outside_the_category_keeps_its_bonus() -> None:
    """Debts are then priced by the category and WETH by its own feed: that is no part of the bonus."""
    legs: Legs = {"0xin": {(WETH, "collateral"): 1.0, (USDC, "debt"): 1_580.0}}
    snap = snapshot([*rows("3.0", legs), *category(104_000_000), AccountTerm(POOL, "0xin", "", "emode", 1)])
    book = from_snapshot(snap)
    (weth,) = np.flatnonzero(~book.terms.debt)
    assert book.terms.bonus_frac[weth] == 0.05
    rule = lending("aave_v3@3.0")
    assert rule is not None
    said = rule.best_liquidation(account(snap, POOL, "0xin"))
    assert said is not None
    run = ran(snap)
    assert float(run.state.seized_usd[0]) == pytest.approx(said.seized / 1e18 * 2_000, rel=1e-9)
    assert float(run.state.repaid_usd[0]) == pytest.approx(said.repaid / 1e18, rel=1e-9)


UNDER: Legs = {"0xa": {(WETH, "collateral"): 1.0, (OLD, "debt"): 170.0}}


@pytest.mark.parametrize("change", [{"paused": 1}, {"active": 0}, {"grace_until_s": 2_000_000_000}])
@pytest.mark.parametrize("symbol", ["WETH", "OLD"])
def test_nobody_calls_an_account_whose_reserve_is_closed(symbol: str, change: dict[str, int]) -> None:
    for version, closed in (("3.0", "grace_until_s" not in change), ("3.6", True)):
        snap = snapshot(rows(version, UNDER, **{symbol: change}))
        rule = lending(f"aave_v3@{version}")
        assert rule is not None
        assert (rule.best_liquidation(account(snap, POOL, "0xa")) is None) == closed
        assert (int(ran(snap).state.calls[0]) == 0) == closed
    assert int(ran(snapshot(rows("3.6", UNDER))).state.calls[0]) == 1


@pytest.mark.parametrize(("owed", "health"), [(165.0, 0.97), (170.0, 0.94)])
@pytest.mark.parametrize("version", ["3.0", "3.6", "3.7"])
def test_while_the_sequencer_is_down_only_the_weakest_are_called(version: str, owed: float, health: float) -> None:
    legs: Legs = {"0xa": {(WETH, "collateral"): 1.0, (OLD, "debt"): owed}}
    down = [*rows(version, legs), Term(POOL, "", "", "liquidation_allowed", 0, 0)]
    snap, rule = snapshot(down), lending(f"aave_v3@{version}")
    assert rule is not None
    assert health_by_rule(snap, "0xa") == pytest.approx(health, abs=0.005)
    called = rule.best_liquidation(account(snap, POOL, "0xa")) is not None
    assert called == (version == "3.7" or health < 0.95)
    assert (int(ran(snap).state.calls[0]) > 0) == called
    assert int(ran(snapshot(rows(version, legs))).state.calls[0]) == 1


DROPPED = {"OLD": {"liquidation_threshold_bps": 0, "liquidation_bonus_bps": 0, "ltv_bps": 0}}
BOTH: Legs = {"0xa": {(WETH, "collateral"): 1.0, (OLD, "collateral"): 100.0, (USDC, "debt"): 1_950.0}}


def held(book: Book) -> list[str]:
    return sorted(book.assets[a] for a in book.terms.asset[book.leg_term])


@pytest.mark.parametrize("version", ["3.0", "3.4", "3.5", "3.6"])
def test_a_flagged_asset_of_threshold_zero(version: str) -> None:
    """Up to 3.5 it is no collateral: what it is worth does not keep the rest of the debt from being burned (3.3 on).

    Since 3.6 it counts, with threshold zero and no bonus, so that no call can seize it and nothing is burned.
    """
    snap = snapshot(rows(version, BOTH, **DROPPED))
    book = from_snapshot(snap)
    assert {g.reason for g in book.gaps} == {"unlisted_supply"}
    counted = version == "3.6"
    assert held(book) == sorted([WETH, USDC, *([OLD] if counted else [])])
    rule = lending(f"aave_v3@{version}")
    assert rule is not None
    exact = account(snap, POOL, "0xa")
    with pytest.raises(WouldRevertError):
        rule.liquidate(exact, OLD, USDC)
    said = rule.best_liquidation(exact)
    assert said is not None
    assert (said.collateral, said.seized) == (WETH, 10**18)
    run = ran(snap)
    assert float(run.state.seized_usd[0]) == pytest.approx(2_000.0)
    written = float(run.book.leg_amount.sum() - run.state.amount.sum()) - 1.0 - float(run.state.repaid_usd[0])
    burned = sum(said.bad_debt.values()) / 1e18
    assert (burned > 0.0) == (version in ("3.4", "3.5"))
    assert written == pytest.approx(burned, abs=1e-6)


def test_a_rate_oracle_without_its_claim_is_said_to_be_taken_as_live() -> None:
    turned = [r._replace(path="rate") if isinstance(r, Price) and r.asset == WETH else r for r in rows("3.6", UNDER)]
    (gap,) = [g for g in from_snapshot(snapshot(turned)).gaps if g.reason != "unlisted_supply"]
    assert (gap.subject, gap.reason) == (POOL, "no_rate")
    assert WETH in gap.detail
