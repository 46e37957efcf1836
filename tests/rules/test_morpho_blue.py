"""Morpho Blue figures: morpho-blue 3085651 Morpho.sol, ConstantsLib, SharesMathLib. Exact."""

from __future__ import annotations

import pytest

from aggregator.core.solmath import MorphoTotals, morpho_accrue, w_taylor_compounded
from aggregator.rules import CannotJudgeError, WouldRevertError
from aggregator.rules.morpho_blue import MorphoBlue, incentive_wad
from tests.rules.worlds import morpho

WAD = 10**18
RULE = MorphoBlue()

LIF = {
    980: 1006036217303822937, 965: 1010611419909044972, 945: 1016776817488561260, 915: 1026167265264238070,
    860: 1043841336116910229, 770: 1074113856068743286, 625: 1126760563380281690, 385: 1150000000000000000,
    500: 1150000000000000000,
}  # fmt: skip


@pytest.mark.parametrize("lltv", LIF)
def test_incentive_table(lltv: int) -> None:
    assert incentive_wad(lltv * 10**15) == LIF[lltv]


def test_published_partial_liquidation() -> None:
    account = morpho(10**19, 950 * 10**24, 86 * 10**14, 10**11, 10**17, 86 * 10**16)
    taken = RULE.liquidate_by_shares(account, 4 * 10**15)
    assert (taken.seized, taken.repaid, taken.bad_debt) == (4395121414736842105, 4_000_000_000, {})
    assert taken.left_collateral == 10**19 - 4395121414736842105


def test_whole_position_is_the_largest_call() -> None:
    account = morpho(10**19, 950 * 10**24, 86 * 10**14, 10**11, 10**17, 86 * 10**16)
    taken = RULE.best_liquidation(account)
    assert taken is not None
    assert (taken.repaid, taken.left_debt) == (8_600_000_000, 0)


def test_bad_debt_is_socialised_at_once() -> None:
    account = morpho(10**19, 500 * 10**24, 86 * 10**14, 10**11, 10**17, 86 * 10**16)
    taken = RULE.best_liquidation(account)
    assert taken is not None
    assert taken.left_collateral == 0
    assert taken.left_debt == 0
    # 5,000 of collateral repays 5,000 / 1.04384...; the rest of 8,600 is lost
    assert taken.repaid == pytest.approx(5_000e6 / 1.04384133611691, rel=1e-9)
    assert taken.repaid + taken.bad_debt["usdc"] == pytest.approx(8_600e6, abs=2)


def test_health_is_the_contracts_comparison() -> None:
    at_limit = morpho(10**19, 1000 * 10**24, 86 * 10**14, 10**11, 10**17, 86 * 10**16)
    assert RULE.judge(at_limit).health_factor == WAD
    assert not RULE.judge(at_limit).liquidatable
    with pytest.raises(WouldRevertError, match="healthy"):
        RULE.liquidate(at_limit, "weth", "usdc")
    one_unit_less = morpho(10**19 - 10**12, 1000 * 10**24, 86 * 10**14, 10**11, 10**17, 86 * 10**16)
    assert RULE.judge(one_unit_less).liquidatable


def test_worthless_collateral_counts_for_nothing() -> None:
    account = morpho(10**19, 0, 86 * 10**14, 10**11, 10**17, 86 * 10**16)
    assert RULE.judge(account).health_factor == 0
    taken = RULE.liquidate_by_seized(account, 10**19)
    assert (taken.repaid, taken.bad_debt) == (0, {"usdc": 8_600_000_000})
    assert RULE.best_liquidation(account) == taken


def test_bad_input() -> None:
    account = morpho(10**19, 500 * 10**24, 86 * 10**14, 10**11, 10**17, 86 * 10**16)
    with pytest.raises(CannotJudgeError, match="lltv_wad"):
        RULE.judge(account._replace(terms={}))
    blind = account._replace(legs=(account.legs[0]._replace(price=None), account.legs[1]))
    with pytest.raises(CannotJudgeError, match="no price"):
        RULE.judge(blind)
    with pytest.raises(CannotJudgeError, match="index"):
        RULE.liquidate(account._replace(legs=(account.legs[0], account.legs[1]._replace(num=1, den=1))), "weth", "usdc")


def test_accrual_against_the_exponential() -> None:
    """wTaylor is e^x - 1 to third order: the remainder is x^4/24 at most e^x times."""
    rate, dt = 1_585_489_599, 31_536_000  # 5 % a year
    x = rate * dt / 1e18
    assert w_taylor_compounded(rate, dt) / 1e18 == pytest.approx(x + x**2 / 2 + x**3 / 6, rel=1e-15)
    before = MorphoTotals(120 * 10**9, 120 * 10**15, 100 * 10**9, 100 * 10**15)
    after = morpho_accrue(before, rate, 10**17, dt)
    interest = after.borrow_assets - before.borrow_assets
    assert after.supply_assets - before.supply_assets == interest
    fee_value = (after.supply_shares - before.supply_shares) * after.supply_assets // after.supply_shares
    assert fee_value == pytest.approx(interest / 10, abs=2)
    assert morpho_accrue(before, rate, 10**17, 0) == before
