"""Compound v2 by its formulas in rationals, Comet by published absorptions. Exact."""

from __future__ import annotations

from fractions import Fraction

import pytest

from aggregator.core.account import Account, Leg, mul_div
from aggregator.core.fixed import Fixed
from aggregator.rules import CannotJudgeError, WouldRevertError
from aggregator.rules.comet import Comet
from aggregator.rules.compound_v2 import CompoundV2

WAD = 10**18
V2, V3 = CompoundV2(), Comet()


def book(eth_price: int, debt: int, *, factor: int = 75, rate: tuple[int, int] = (1, 1), share: int = 0) -> Account:
    """10 ETH (18 decimals) as collateral against USDC (6): close factor 50 %, incentive 8 %."""
    num, den = rate
    terms = {"collateral_factor_wad": factor * WAD // 100, "protocol_seize_share_wad": share}
    shares = 10 * WAD * den // num
    amount = mul_div(shares, num, den, "down")
    legs = (
        Leg("eth", "collateral", shares, amount, 18, Fixed(eth_price * 10**8, 8), terms, num=num, den=den),
        Leg("usdc", "debt", debt, debt, 6, Fixed(10**8, 8), {}),
    )  # fmt: skip
    market = {"close_factor_wad": WAD // 2, "liquidation_incentive_wad": 108 * WAD // 100}
    return Account("book:x/compound_v2/b", "h", "compound_v2@1", legs, market, {}, 0)


def test_liquidity_and_shortfall() -> None:
    assert V2.liquidity(book(2000, 14_000 * 10**6)) == (1000 * WAD, 0)
    assert V2.liquidity(book(2000, 16_000 * 10**6)) == (0, 1000 * WAD)
    assert not V2.judge(book(2000, 15_000 * 10**6)).liquidatable  # equality is healthy
    assert V2.judge(book(2000, 15_000 * 10**6)).health_factor == WAD


def test_half_the_debt_is_closed_at_the_incentive() -> None:
    taken = V2.liquidate(book(2000, 16_000 * 10**6), "eth", "usdc")
    assert taken.repaid == 8_000 * 10**6
    assert taken.seized == Fraction(8_000 * 108, 100 * 2000) * WAD
    assert taken.left_collateral + taken.seized == 10 * WAD
    assert taken.left_debt == 8_000 * 10**6
    assert taken.bad_debt == {}


def test_collateral_caps_the_repayment_and_the_rest_stays() -> None:
    taken = V2.best_liquidation(book(500, 16_000 * 10**6))
    assert taken is not None
    assert taken.repaid == int(Fraction(5_000 * 10**8, 108))
    assert taken.left_collateral * 500 <= WAD  # the last fraction of a cent
    assert taken.left_debt == 16_000 * 10**6 - taken.repaid
    assert taken.bad_debt == {}


def test_ctokens_and_protocol_seize_share() -> None:
    """A cToken worth 0.02 ETH: 28/1000 of the seized cTokens go to the reserves."""
    taken = V2.liquidate(book(2000, 16_000 * 10**6, rate=(2, 100), share=28 * WAD // 1000), "eth", "usdc")
    assert taken.seized == pytest.approx(432 * WAD // 100, abs=1)
    assert taken.protocol_fee == pytest.approx(taken.seized * 28 // 1000, abs=1)


def test_refusals() -> None:
    with pytest.raises(WouldRevertError, match="SHORTFALL"):
        V2.liquidate(book(2000, 14_000 * 10**6), "eth", "usdc")
    with pytest.raises(WouldRevertError, match="has no debt of dai"):
        V2.liquidate(book(2000, 16_000 * 10**6), "eth", "dai")
    account = book(2000, 16_000 * 10**6)
    with pytest.raises(CannotJudgeError, match="collateral_factor_wad"):
        V2.judge(account._replace(legs=(account.legs[0]._replace(terms={}), account.legs[1])))
    with pytest.raises(CannotJudgeError, match="below zero"):
        V2.judge(account._replace(legs=(account.legs[0]._replace(price=Fixed(-1, 8)), account.legs[1])))


@pytest.mark.parametrize("leg", [0, 1])
def test_nobody_is_called_while_an_oracle_answers_zero(leg: int) -> None:
    """The Comptroller answers PRICE_ERROR and Comet reverts; what stands at zero counts for nothing."""
    account = book(2000, 16_000 * 10**6)
    legs = [x._replace(price=Fixed(0, 8)) if i == leg else x for i, x in enumerate(account.legs)]
    free = account._replace(legs=tuple(legs))
    judged = V2.judge(free)
    assert (judged.collateral == 0, judged.debt == 0, judged.liquidatable) == (leg == 0, leg == 1, False)
    assert judged.health_factor == (0 if leg == 0 else None)
    assert V2.best_liquidation(free) is None
    with pytest.raises(WouldRevertError, match="PRICE_ERROR"):
        V2.liquidate(free, "eth", "usdc")
    comet = absorbable(1000 * 10**6, (WAD, 0, 18, WAD), (WAD, 10**8, 18, WAD))
    assert (V3.judge(comet).debt > 0, V3.judge(comet).liquidatable) == (True, False)
    assert V3.best_liquidation(comet) is None
    with pytest.raises(WouldRevertError, match="BadPrice"):
        V3.liquidate(comet, "c0", "usdc")


def absorbable(debt: int, *collateral: tuple[int, int, int, int]) -> Account:
    legs = [
        Leg(f"c{i}", "collateral", raw, raw, decimals, Fixed(price, 8),
            {"liquidate_collateral_factor_wad": 10**17, "liquidation_factor_wad": factor})
        for i, (raw, price, decimals, factor) in enumerate(collateral)
    ]  # fmt: skip
    legs.append(Leg("usdc", "debt", debt, debt, 6, Fixed(10**8, 8), {}))
    return Account("eip155:1/comet/usdc", "h", "comet@1", tuple(legs), {}, {}, 0)


# comet d5a30b0 test/absorb-test.ts (first two), and 8 * 2600 * 0.93 = 19,344 of 20,000
ABSORB = [
    (44174999999, ((WAD, 17500000000, 18, WAD), (WAD, 300000000000, 18, WAD), (10**8, 4100000000000, 8, WAD)), 0),
    (1000000000000, ((10 * WAD, 17500000000, 18, WAD), (WAD, 300000000000, 18, WAD)), 1000000000000 - 4750 * 10**6),
    (20000000000, ((8 * WAD, 260000000000, 18, 93 * WAD // 100),), 656 * 10**6),
    (20000000000, (), 20000000000),  # nothing left to seize: absorbInternal clears the debt all the same
]


@pytest.mark.parametrize(("debt", "collateral", "bad"), ABSORB)
def test_absorption_clears_the_account(debt: int, collateral: tuple[tuple[int, int, int, int], ...], bad: int) -> None:
    taken = V3.best_liquidation(absorbable(debt, *collateral))
    assert taken is not None
    assert sum(taken.bad_debt.values()) == bad
    assert taken.repaid + bad == debt
    assert (taken.left_collateral, taken.left_debt) == (0, 0)
