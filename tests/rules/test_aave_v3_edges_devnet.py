"""Aave where one unit decides: health of exactly 1 and 0.95, a debt of exactly 2,000 dollars, a rounding that carries.

Random accounts never stand there. Prices and block times are searched for until one does; the real pool is the judge.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from aggregator.core.account import Account
from tests.devnet import aave_v30, aave_v36
from tests.devnet.aave import Aave, EMode, Reserve
from tests.devnet.anvil import Chain
from tests.devnet.tokens import deploy_asset, deploy_feed
from tests.devnet.toolchain import Toolchain
from tests.devnet.worlds import GENTLE, standard_reserves
from tests.rules.aave_chain import MAX, account_on, at_time, call_pool, outcome, rule_for

WAD, BPS, USD = 10**18, 10**4, 10**8
THRESHOLD_BPS = 8_250  # WETH's
NEWER = pytest.mark.parametrize("market", ["3.6"], indirect=True)


@pytest.fixture(scope="module")
def markets(devnet_tools: Toolchain) -> Iterator[dict[str, Aave]]:
    """By version, each on its own chain: lenders, and a liquidator with enough of everything."""
    with Chain(devnet_tools) as old, Chain(devnet_tools) as new:
        made = {}
        for version, chain, deploy in (("3.0", old, aave_v30.deploy), ("3.6", new, aave_v36.deploy)):
            dai = deploy_asset(devnet_tools, chain, "DAI", 18, 1)
            reserves = [*standard_reserves(devnet_tools, chain), Reserve(dai, 6_300, 7_700, 10_500, 2_500, GENTLE)]
            market = made[version] = deploy(devnet_tools, chain, reserves)
            for reserve in reserves:
                market.supply(chain.accounts[1], reserve.asset.symbol, reserve.asset.worth(1e6))
                reserve.asset.provide(chain.accounts[2], market.pool, reserve.asset.worth(1e9))
        yield made


@pytest.fixture(params=["3.0", "3.6"])
def market(request: pytest.FixtureRequest, markets: dict[str, Aave]) -> Iterator[Aave]:
    """What a test does to it is undone."""
    with markets[request.param].chain.undone():
        yield markets[request.param]


@pytest.fixture
def borrower(market: Aave) -> str:
    """One WETH, dear enough for 10,000 DAI: a unit of its price is a unit of what the account is worth."""
    user = market.chain.accounts[3]
    market.asset("WETH").set_price(20_000)
    market.supply(user, "WETH", WAD)
    market.borrow(user, "DAI", 10_000 * WAD)
    return user


def health_of(version: str, collateral: int, debt: int) -> int:
    """GenericLogic.calculateUserAccountData for one collateral: WadRayMath and PercentageMath round half up."""
    if version == "3.0":
        return ((collateral * THRESHOLD_BPS + BPS // 2) // BPS * WAD + debt // 2) // debt
    return (collateral * THRESHOLD_BPS * WAD + debt // 2) // debt // BPS


def debt_at(market: Aave, user: str, time_s: int) -> int:
    """totalDebtBase in a block of that time."""
    with market.chain.undone():
        market.chain.rpc("evm_setNextBlockTimestamp", time_s)
        market.chain.rpc("evm_mine")
        return market.account(user).debt_usd_e8


def price_weth(market: Aave, user: str, collateral: int, time_s: int) -> Account:
    """WETH priced so that the account's collateral is worth that many base units; the account at that time."""
    held = market.supplied(user, "WETH")
    price = -(-collateral * WAD // held)
    assert held * price // WAD == collateral
    market.asset("WETH").feed.send("set", price)
    return at_time(market, time_s, user)


def fall_to(market: Aave, user: str, health: int) -> tuple[int, int]:
    """A block time, and what the collateral must be worth then for a health of exactly this."""
    now = market.chain.block()["timestamp"]
    for time_s in range(now + 20, now + 600):
        debt = debt_at(market, user, time_s)
        about = health * debt * BPS // THRESHOLD_BPS // WAD
        for collateral in (about, about + 1):
            if health_of(market.version, collateral, debt) == health:
                return time_s, collateral
    pytest.fail("no block in ten minutes")


def test_at_a_health_of_exactly_one_nobody_is_liquidated(market: Aave, borrower: str) -> None:
    time_s, collateral = fall_to(market, borrower, WAD)
    for less, due in ((0, False), (2, True)):
        account = price_weth(market, borrower, collateral - less, time_s)
        judged = rule_for(market).judge(account)
        assert (judged.health_factor == WAD, judged.liquidatable) == (not due, due)
        said = outcome(rule_for(market), account, ("WETH", "DAI"), MAX)
        assert (said is not None) == due
        with market.chain.undone():
            call_pool(market, time_s, account, ("WETH", "DAI"), MAX, said)


@pytest.mark.parametrize("worthless", ["WETH", "USDC", "DAI"])
def test_an_asset_that_the_oracle_prices_at_zero_counts_for_nothing(market: Aave, worthless: str) -> None:
    """Two collaterals and two debts, of which one is worth nothing: who can be called for what, and what stays."""
    user, rule = market.chain.accounts[3], rule_for(market)
    market.asset("WETH").set_price(20_000)
    market.supply(user, "WETH", WAD)
    market.supply(user, "USDC", market.asset("USDC").raw(6_000))
    market.borrow(user, "DAI", 10_000 * WAD)
    market.borrow(user, "WBTC", market.asset("WBTC").worth(9_000))
    market.price_at_zero(worthless)
    time_s = market.chain.block()["timestamp"] + 60
    account = at_time(market, time_s, user)
    judged = rule.judge(account)
    with market.chain.undone():
        market.chain.rpc("evm_setNextBlockTimestamp", time_s)
        market.chain.rpc("evm_mine")
        told = market.account(user)
    assert (judged.collateral, judged.debt) == (told.collateral_usd_e8, told.debt_usd_e8)
    assert judged.health_factor == told.health_e18
    assert judged.liquidatable == (worthless != "DAI")
    called = {}
    for pair in itertools.product(("WETH", "USDC"), ("DAI", "WBTC")):
        called[pair] = outcome(rule, account, pair, MAX)
        with market.chain.undone():
            call_pool(market, time_s, account, pair, MAX, called[pair])
    due = {"WETH": {"USDC"}, "USDC": {"WETH"}, "DAI": set[str]()}[worthless]
    assert {collateral for (collateral, _), call in called.items() if call} == due
    if worthless == "WETH":  # once all that is worth anything is gone, 3.6 burns the rest, whatever else is held
        assert {bool(call.bad_debt) for call in called.values() if call} == {market.version == "3.6"}


def test_a_worthless_debt_beside_a_good_one_cannot_be_called(market: Aave) -> None:
    user, rule = market.chain.accounts[3], rule_for(market)
    market.asset("WETH").set_price(20_000)
    market.supply(user, "WETH", WAD)
    market.borrow(user, "DAI", 5_000 * WAD)
    market.borrow(user, "USDC", market.asset("USDC").raw(9_000))
    market.price_at_zero("DAI")
    market.asset("WETH").set_price(9_900)
    time_s = market.chain.block()["timestamp"] + 60
    account = at_time(market, time_s, user)
    assert rule.judge(account).liquidatable
    for debt, due in (("DAI", False), ("USDC", True)):
        said = outcome(rule, account, ("WETH", debt), MAX)
        assert (said is not None) == due
        with market.chain.undone():
            call_pool(market, time_s, account, ("WETH", debt), MAX, said)


def test_at_a_health_of_exactly_095_all_may_be_repaid(market: Aave, borrower: str) -> None:
    time_s, collateral = fall_to(market, borrower, 95 * WAD // 100)
    for more, whole in ((0, True), (2, False)):
        account = price_weth(market, borrower, collateral + more, time_s)
        assert (rule_for(market).judge(account).health_factor == 95 * WAD // 100) == whole
        said = outcome(rule_for(market), account, ("WETH", "DAI"), MAX)
        assert said is not None
        assert (said.left_debt == 0) == whole
        with market.chain.undone():
            call_pool(market, time_s, account, ("WETH", "DAI"), MAX, said)


@NEWER
def test_health_is_rounded_half_up_before_the_basis_points_are_cut(market: Aave, borrower: str) -> None:
    time_s = market.chain.block()["timestamp"] + 60
    debt = debt_at(market, borrower, time_s)
    edges = (c for c in range(2 * debt, 3 * debt) if 0 < -(c * THRESHOLD_BPS * WAD) % (debt * BPS) * 2 <= debt)
    account = price_weth(market, borrower, next(edges), time_s)
    judged = rule_for(market).judge(account)
    assert judged.health_factor == judged.collateral * THRESHOLD_BPS * WAD // debt // BPS + 1
    with market.chain.undone():
        market.chain.rpc("evm_setNextBlockTimestamp", time_s)
        market.chain.rpc("evm_mine")
        assert market.account(borrower).health_e18 == judged.health_factor


def owing_one_weth(market: Aave, debt_usd: float) -> tuple[str, int]:
    """Who owes 1 WETH against 1 WBTC, at health 0.97 once that debt is worth so much; and a time in a minute."""
    user = market.chain.accounts[3]
    market.supply(user, "WBTC", 10**8)
    market.borrow(user, "WETH", WAD)
    time_s = market.chain.block()["timestamp"] + 60
    market.asset("WBTC").set_price(debt_usd * 0.97 / 0.75)
    return user, time_s


@NEWER
def test_a_debt_of_exactly_2000_closes_half_and_leaves_exactly_1000(market: Aave) -> None:
    weth = market.asset("WETH")
    user, time_s = owing_one_weth(market, 2_000)
    for value, share in ((2_000 * USD, 0.5), (2_000 * USD - 1, 1.0)):
        owed = next(leg for leg in at_time(market, time_s, user).legs if leg.side == "debt").amount
        weth.feed.send("set", value * WAD // owed)
        account = at_time(market, time_s, user)
        assert rule_for(market).judge(account).debt == value
        said = outcome(rule_for(market), account, ("WBTC", "WETH"), MAX)
        assert said is not None
        assert said.repaid == pytest.approx(owed * share, rel=1e-9)
        with market.chain.undone():
            call_pool(market, time_s, account, ("WBTC", "WETH"), MAX, said)


@NEWER
def test_a_debt_of_exactly_half_is_closed_whole(market: Aave) -> None:
    """Two debts of one value: each is all that half of the position allows."""
    user, weth = market.chain.accounts[3], market.asset("WETH")
    market.supply(user, "WBTC", 10**8)
    market.borrow(user, "USDC", 3_000 * 10**6)
    market.borrow(user, "WETH", WAD)
    time_s = market.chain.block()["timestamp"] + 60
    market.asset("WBTC").set_price(6_000 * 0.97 / 0.75)
    owed = {leg.asset: leg.amount for leg in at_time(market, time_s, user).legs if leg.side == "debt"}
    value = owed["USDC"] * 100
    weth.feed.send("set", value * WAD // owed["WETH"])
    account = at_time(market, time_s, user)
    assert rule_for(market).judge(account).debt == 2 * value
    said = outcome(rule_for(market), account, ("WBTC", "WETH"), MAX)
    assert said is not None
    assert (said.repaid, said.left_debt) == (owed["WETH"], 0)
    call_pool(market, time_s, account, ("WBTC", "WETH"), MAX, said)


@NEWER
def test_exactly_1000_may_be_left_and_not_a_unit_less(market: Aave) -> None:
    weth = market.asset("WETH")
    user, time_s = owing_one_weth(market, 1_990)
    weth.feed.send("set", 1_990 * USD)
    account = at_time(market, time_s, user)
    owed = next(leg for leg in account.legs if leg.side == "debt").amount
    for left, allowed in ((1_000 * USD, True), (1_000 * USD - 1, False)):
        cover = owed - left * WAD // (1_990 * USD)
        said = outcome(rule_for(market), account, ("WBTC", "WETH"), cover)
        assert (said is not None) == allowed
        with market.chain.undone():
            call_pool(market, time_s, account, ("WBTC", "WETH"), cover, said)


@NEWER
def test_a_small_collateral_is_taken_whole_beside_a_large_debt(market: Aave) -> None:
    """2,550 owed, 1,425 and 1,700 pledged: half of the debt would not be worth the 1,425."""
    user = market.chain.accounts[3]
    market.supply(user, "WETH", 95 * WAD // 100)
    market.supply(user, "DAI", 1_700 * WAD)
    market.borrow(user, "USDC", 2_550 * 10**6)
    market.asset("WETH").set_price(1_500)
    time_s = market.chain.block()["timestamp"] + 10
    account = at_time(market, time_s, user)
    assert 95 * WAD // 100 < (rule_for(market).judge(account).health_factor or 0) < WAD
    said = outcome(rule_for(market), account, ("WETH", "USDC"), MAX)
    assert said is not None
    assert said.left_collateral == 0
    assert said.bad_debt == {}
    call_pool(market, time_s, account, ("WETH", "USDC"), MAX, said)
    assert account_on(market, user).side("debt")


def test_a_debt_that_left_the_category_is_judged_by_its_own_price_and_sold_at_the_categorys(
    devnet_tools: Toolchain, chain: Chain
) -> None:
    """3.0: health asks for the debt's category, _getCollateralPriceAndDebtPrice for the account's alone."""
    feed = deploy_feed(devnet_tools, chain, "stable / USD", 1)
    dai = deploy_asset(devnet_tools, chain, "DAI", 18, 1)
    reserves = [*standard_reserves(devnet_tools, chain), Reserve(dai, 6_300, 7_700, 10_500, 2_500, GENTLE)]
    emodes = [EMode(1, "stable", 9_000, 9_300, 10_100, ("USDC", "DAI"), feed=feed)]
    market = aave_v30.deploy(devnet_tools, chain, reserves, emodes)
    market.oracle.send("setAssetSources", [feed.address], [feed.address])
    user = chain.accounts[3]
    market.supply(chain.accounts[1], "DAI", 10**5 * WAD)
    dai.provide(chain.accounts[2], market.pool, 10**5 * WAD)
    market.supply(user, "USDC", 10_000 * 10**6)
    market.set_emode(user, 1)
    market.borrow(user, "DAI", 8_900 * WAD)
    market.configurator.send("setAssetEModeCategory", dai.address, 0)
    feed.send("set", 95 * USD // 100)
    time_s = chain.block()["timestamp"] + 10
    account = at_time(market, time_s, user)
    said = outcome(rule_for(market), account, ("USDC", "DAI"), MAX)
    assert said is not None
    assert said.seized * 10**12 == pytest.approx(said.repaid * 1.01, rel=1e-6)  # 0.95 for 0.95, and the bonus
    call_pool(market, time_s, account, ("USDC", "DAI"), MAX, said)
