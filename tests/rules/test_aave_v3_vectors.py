"""Published and independently computed Aave liquidations as figures.

Formulas: aave-v3-origin fd1fbd9 (v3.7) LiquidationLogic; docs/3.3/Aave-v3.3-features.md (small debt, three debts) and
docs/3.7/liquidation-rounding.md. Tolerance: none, all indices are one. The v3.0 and v3.6 figures of the devnet run
(100 WETH, 155,000 USDC, bonus 5 %, protocol fee 10 %) are quoted there to eight decimals: tolerance 1e-8 WETH.
"""

from __future__ import annotations

import pytest

from aggregator.core.account import Account
from aggregator.core.fixed import Fixed
from aggregator.core.solmath import WAD
from aggregator.rules import CannotJudgeError, WouldRevertError, get
from tests.rules.worlds import aave, aave_leg

MAX = 2**256 - 1
E18, E8 = 10**18, 10**8


def one_pair(
    collateral: int,
    price: int,
    debt: int,
    *,
    debt_decimals: int = 6,
    threshold: int = 8250,
    fee: int = 1000,
    other: int = 0,
) -> Account:
    terms = {"liquidation_threshold_bps": threshold, "liquidation_protocol_fee_bps": fee}
    legs = [
        aave_leg("weth", "collateral", collateral, price, 18, terms=terms),
        aave_leg("debt", "debt", debt, E8, debt_decimals),
    ]
    if other:
        legs.append(aave_leg("other", "debt", other, E8, 8))
    return aave(*legs)


# account, health, repaid, to the liquidator, protocol fee
CASES = {
    "half above 0.95": (
        one_pair(10 * E18, 2000 * E8, 16_600_000_000),
        993975903614457831, 8_300_000_000, 4336750000000000000, 20750000000000000,
    ),
    "all at 0.95 and below": (
        one_pair(10 * E18, 1850 * E8, 16_600_000_000),
        919427710843373493, 16_600_000_000, 9376756756756756755, 44864864864864865,
    ),
    "all of a debt below 2000": (
        one_pair(E18, 1200 * E8, 900_000_000, threshold=7200, fee=0),
        960000000000000000, 900_000_000, 787500000000000000, 0,
    ),
    "one of three debts in whole": (
        one_pair(9375 * 10**15, 1000 * E8, 3000 * E18, debt_decimals=18, threshold=9300, other=6000 * E8),
        968750000000000000, 3000 * E18, 3135000000000000000, 15000000000000000,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_v37_liquidation_figures(case: str) -> None:
    account, health, repaid, to_liquidator, fee = CASES[case]
    rule = get("aave_v3@3.7")
    assert rule is not None
    assert rule.judge(account).health_factor == health
    taken = rule.liquidate(account, "weth", "debt")
    assert (taken.repaid, taken.to_liquidator, taken.protocol_fee) == (repaid, to_liquidator, fee)
    assert taken.bad_debt == {}
    assert taken.left_collateral == account.legs[0].amount - taken.seized
    assert taken.left_debt == account.legs[1].amount - repaid
    best = rule.best_liquidation(account)
    assert best is not None
    assert best == taken if len(account.legs) == 2 else best.repaid == 4500 * 10**8  # the larger debt, half of all


def test_leaving_dust_reverts_and_the_best_call_avoids_it() -> None:
    account = one_pair(10 * E18, 1850 * E8, 16_600_000_000)
    rule = get("aave_v3@3.7")
    assert rule is not None
    with pytest.raises(WouldRevertError, match="MustNotLeaveDust"):
        rule.liquidate(account, "weth", "debt", 16_100_000_000)
    halved = one_pair(122 * E18 // 100, 2000 * E8, 2_050_000_000, threshold=8200)  # leaves 1,025 and 1,363
    assert rule.liquidate(halved, "weth", "debt").left_debt == 1_025_000_000
    dusty = one_pair(1001 * E18 // 1000, 2000 * E8, 2_000_000_000, threshold=9900)  # half leaves 952 of collateral
    with pytest.raises(WouldRevertError, match="MustNotLeaveDust"):
        rule.liquidate(dusty, "weth", "debt")
    best = rule.best_liquidation(dusty)
    assert best is not None
    assert best.left_collateral * 2000 >= 1000 * E18
    with pytest.raises(WouldRevertError, match="MustNotLeaveDust"):
        rule.liquidate(dusty, "weth", "debt", best.repaid + 1)


# price, repaid, to liquidator, user loses, treasury (WETH to 1e-8), debt left on the account, deficit
DEVNET = {
    1840: (77_500, 44.01494565, 44.22554348, 0.21059783, 77_500, 0),
    1700: (155_000, 95.27941176, 95.73529412, 0.45588235, 0, 0),
    1200: (114_285.71, 99.52380952, 100.0, 0.47619048, 40_714.29, 40_714.29),
}


@pytest.mark.parametrize("version", ["3.0", "3.6"])
@pytest.mark.parametrize("price", DEVNET)
def test_close_factor_and_bad_debt_by_version(version: str, price: int) -> None:
    repaid, to_liquidator, lost, fee, left, deficit = DEVNET[price]
    account = one_pair(100 * E18, price * E8, 155_000 * 10**6)
    rule = get(f"aave_v3@{version}")
    assert rule is not None
    taken = rule.liquidate(account, "weth", "debt")
    assert taken.repaid / 1e6 == pytest.approx(repaid, abs=0.005)
    assert taken.to_liquidator / 1e18 == pytest.approx(to_liquidator, abs=1e-8)
    assert taken.seized / 1e18 == pytest.approx(lost, abs=1e-8)
    assert taken.protocol_fee / 1e18 == pytest.approx(fee, abs=1e-8)
    burned = version == "3.6" and deficit > 0
    assert taken.left_debt / 1e6 == pytest.approx(0 if burned else left, abs=0.005)
    assert sum(taken.bad_debt.values()) / 1e6 == pytest.approx(deficit if burned else 0, abs=0.005)


def test_small_position_closes_in_whole_since_v33_alone() -> None:
    account = one_pair(E18, 1840 * E8, 1_550_000_000)  # health 0.979
    shares = {v: get(f"aave_v3@{v}").liquidate(account, "weth", "debt").repaid for v in ("3.0", "3.2", "3.3", "3.7")}  # type: ignore[union-attr]
    assert shares == {"3.0": 775_000_000, "3.2": 775_000_000, "3.3": 1_550_000_000, "3.7": 1_550_000_000}


@pytest.mark.parametrize(
    ("asset", "terms", "market", "reason", "versions"),
    [
        ("weth", {"active": 0}, {}, "ReserveInactive", ("3.0", "3.7")),
        ("debt", {"paused": 1}, {}, "ReservePaused", ("3.0", "3.7")),
        ("weth", {"grace_until_s": 1_700_000_000}, {}, "LiquidationGraceSentinelCheckFailed", ("3.1", "3.7")),
        ("weth", {}, {"liquidation_allowed": 0}, "PriceOracleSentinelCheckFailed", ("3.0", "3.6")),
    ],
)
def test_the_pool_refuses(
    asset: str, terms: dict[str, int], market: dict[str, int], reason: str, versions: tuple[str, str]
) -> None:
    """ValidationLogic.validateLiquidationCall at health 0.98; the sentinel is gone in 3.7, the grace new in 3.1."""
    account = one_pair(100 * E18, 1840 * E8, 155_000 * 10**6)
    legs = tuple(leg._replace(terms={**leg.terms, **terms}) if leg.asset == asset else leg for leg in account.legs)
    account = account._replace(legs=legs, terms={**account.terms, **market})
    for version in ("3.0", "3.1", "3.2", "3.3", "3.4", "3.5", "3.6", "3.7"):
        rule = get(f"aave_v3@{version}")
        assert rule is not None
        if versions[0] <= version <= versions[1]:
            with pytest.raises(WouldRevertError, match=reason):
                rule.liquidate(account, "weth", "debt")
            assert rule.best_liquidation(account) is None
        else:
            assert rule.liquidate(account, "weth", "debt").repaid == 77_500 * 10**6


def test_unknown_collateral_debt_price_and_term() -> None:
    rule = get("aave_v3@3.6")
    assert rule is not None
    account = one_pair(100 * E18, 1840 * E8, 155_000 * 10**6)
    with pytest.raises(WouldRevertError, match="CollateralCannotBeLiquidated"):
        rule.liquidate(account, "debt", "debt")
    with pytest.raises(WouldRevertError, match="SpecifiedCurrencyNotBorrowedByUser"):
        rule.liquidate(account, "weth", "weth")
    with pytest.raises(CannotJudgeError, match="no price for weth"):
        rule.judge(account._replace(legs=(account.legs[0]._replace(price=None), account.legs[1])))
    with pytest.raises(CannotJudgeError, match="base_unit_exp"):
        rule.judge(account._replace(terms={}))
    with pytest.raises(CannotJudgeError, match="emode:1:collateral_bitmap"):
        rule.judge(account._replace(own={"emode": 1}))


@pytest.mark.parametrize("version", [f"3.{minor}" for minor in range(8)])
def test_collateral_worth_nothing_counts_for_nothing_and_cannot_be_seized(version: str) -> None:
    """_calculateAvailableCollateralToLiquidate divides by its price."""
    rule = get(f"aave_v3@{version}")
    assert rule is not None
    account = one_pair(100 * E18, 0, 155_000 * 10**6)
    judged = rule.judge(account)
    assert (judged.collateral, judged.health_factor, judged.liquidatable) == (0, 0, True)
    assert rule.best_liquidation(account) is None
    with pytest.raises(WouldRevertError, match="division by zero"):
        rule.liquidate(account, "weth", "debt")


@pytest.mark.parametrize("version", ["3.3", "3.4", "3.5", "3.6", "3.7"])
def test_all_debts_become_deficit_when_no_collateral_is_left(version: str) -> None:
    """docs/3.3/Aave-v3.3-features.md: bad debt of every reserve of the borrower is burned, not of the repaid alone."""
    directional = version >= "3.5"
    account = aave(
        aave_leg("weth", "collateral", E18, 1000 * E8, 18, directional=directional),
        aave_leg("usdc", "debt", 900 * 10**6, E8, 6, directional=directional),
        aave_leg("dai", "debt", 300 * E18, E8, 18, directional=directional),
        aave_leg("weth", "debt", E18 // 10, 1000 * E8, 18, directional=directional),
    )
    rule = get(f"aave_v3@{version}")
    assert rule is not None
    taken = rule.liquidate(account, "weth", "dai")
    assert taken.bad_debt == {}
    assert taken.left_collateral > 0
    taken = rule.liquidate(account, "weth", "usdc")
    assert taken.repaid == 900 * 10**6
    worse = account._replace(legs=(account.legs[0]._replace(price=Fixed(500 * E8, 8)), *account.legs[1:]))
    taken = rule.liquidate(worse, "weth", "usdc")
    assert taken.repaid == pytest.approx(500e6 / 1.05, abs=1)
    assert taken.bad_debt == {"usdc": 900 * 10**6 - taken.repaid, "dai": 300 * E18, "weth": E18 // 10}
    assert (taken.left_collateral, taken.left_debt) == (0, 0)


def test_healthy_and_unknown() -> None:
    rule = get("aave_v3@3.6")
    assert rule is not None
    account = one_pair(100 * E18, 2000 * E8, 155_000 * 10**6)
    assert rule.judge(account).health_factor == 165_000 * WAD // 155_000
    assert rule.best_liquidation(account) is None
    with pytest.raises(WouldRevertError, match="HealthFactorNotBelowThreshold"):
        rule.liquidate(account, "weth", "debt")
    assert get("aave_v3@unknown") is None
    assert get("aave_v3@3.9") is None
