"""What the rule predicts is what real Morpho Blue bytecode then does, to the unit, interest and loss included."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from aggregator.core.account import Account, Leg, Liquidation, mul_div
from aggregator.core.fixed import Fixed
from aggregator.core.solmath import MorphoTotals, morpho_accrue
from aggregator.rules import WouldRevertError
from aggregator.rules.morpho_blue import MorphoBlue
from tests.devnet import morpho
from tests.devnet.anvil import Chain
from tests.devnet.contract import Reverted
from tests.devnet.morpho import Market, Morpho
from tests.devnet.tokens import deploy_asset
from tests.devnet.toolchain import Toolchain
from tests.devnet.worlds import wallets

PEOPLE, DAY, WAD = 12, 86_400, 10**18
RULE = MorphoBlue()


@pytest.fixture(scope="module")
def blue(devnet_tools: Toolchain) -> Iterator[Morpho]:
    """Three markets over 6, 8 and 18 decimals, one with a fee; borrowers at their limit; half a year of interest."""
    rng = random.Random("blue")
    with Chain(devnet_tools) as chain:
        usdc = deploy_asset(devnet_tools, chain, "USDC", 6, 1)
        weth = deploy_asset(devnet_tools, chain, "WETH", 18, 2_000)
        wbtc = deploy_asset(devnet_tools, chain, "WBTC", 8, 40_000)
        made = morpho.deploy(devnet_tools, chain)
        users = wallets(3, PEOPLE)
        chain.fund(*users)
        for name, loan, collateral, lltv, fee in (
            ("weth/usdc", usdc, weth, 0.86, 0.1),
            ("wbtc/weth", weth, wbtc, 0.945, 0),
            ("usdc/wbtc", wbtc, usdc, 0.385, 0),
        ):
            oracle = made.settable_oracle(
                collateral.price_usd_e8 * 10 ** (36 + loan.decimals - collateral.decimals) // loan.price_usd_e8
            )
            market = made.create_market(name, loan, collateral, lltv, oracle, fee)
            made.supply(chain.accounts[1], market, loan.worth(3e7))
            loan.provide(chain.accounts[2], made.contract, loan.worth(1e12))
            for user in users:
                raw = collateral.worth(10 ** rng.uniform(-1, 6)) + rng.randrange(1, 999)
                made.supply_collateral(user, market, raw)
                limit = raw * oracle.call("price") // 10**36 * market.lltv_e18 // 10**18
                if int(limit * 0.97) > 1:
                    made.borrow(user, market, int(limit * rng.uniform(0.9, 0.97)))
        chain.warp(180 * DAY)
        yield made


def account_on(blue: Morpho, market: Market, user: str, time_s: int) -> Account:
    """The position with the totals accrued to time_s by our own arithmetic."""
    state, position = blue.state(market), blue.position(market, user)
    rate = blue.irm.call("borrowRateView", market.params, tuple(state))
    totals = morpho_accrue(MorphoTotals(*state[:4]), rate, state.fee_e18, time_s - state.last_update)
    num, den = totals.borrow_assets + 1, totals.borrow_shares + 10**6
    price = Fixed(market.oracle.call("price"), 36 + market.loan.decimals - market.collateral.decimals)
    debt = mul_div(position.borrow_shares, num, den, "up")
    legs = (
        Leg("c", "collateral", position.collateral, position.collateral, market.collateral.decimals, price, {}),
        Leg("l", "debt", position.borrow_shares, debt, market.loan.decimals, None, {}, num=num, den=den),
    )
    return Account("m", user, RULE.name, legs, {"lltv_wad": market.lltv_e18}, {}, time_s)


def test_accrual_is_the_contracts(blue: Morpho) -> None:
    for market in blue.markets.values():
        with blue.chain.undone():
            state = blue.state(market)
            rate = blue.irm.call("borrowRateView", market.params, tuple(state))
            blue.accrue(market)
            after = blue.state(market)
            elapsed = after.last_update - state.last_update
            assert MorphoTotals(*after[:4]) == morpho_accrue(MorphoTotals(*state[:4]), rate, state.fee_e18, elapsed)


def compare(
    blue: Morpho, market: Market, user: str, time_s: int, said: Liquidation | None, *, seize: int = 0, shares: int = 0
) -> None:
    liquidator = blue.chain.accounts[2]
    blue.chain.rpc("evm_setNextBlockTimestamp", time_s)
    if said is None:
        with pytest.raises(Reverted):
            blue.contract.send("liquidate", market.params, user, seize, shares, b"", sender=liquidator)
        return
    receipt = blue.contract.send("liquidate", market.params, user, seize, shares, b"", sender=liquidator)
    (event,) = blue.contract.events(receipt, "Liquidate")
    assert event["repaidAssets"] == said.repaid
    assert event["seizedAssets"] == said.seized
    assert event["badDebtAssets"] == said.bad_debt.get("l", 0)
    assert blue.position(market, user).collateral == said.left_collateral
    assert blue.owed(market, user) == said.left_debt
    assert event["badDebtShares"] == 0 or blue.position(market, user).borrow_shares == 0


def outcome(account: Account, *, seize: int = 0, shares: int = 0) -> Liquidation | None:
    try:
        return RULE.liquidate_by_seized(account, seize) if seize else RULE.liquidate_by_shares(account, shares)
    except WouldRevertError:
        return None


def kind_of(said: Liquidation | None) -> str:
    if said is None:
        return "refused"
    return "bad debt" if said.bad_debt else "part" if said.left_debt else "whole"


@pytest.mark.parametrize("fall", [0.04, 0.25, 0.7])
def test_liquidation_is_what_morpho_does(blue: Morpho, fall: float) -> None:
    rng, seen = random.Random(fall), Counter[str]()
    for market in blue.markets.values():
        with blue.chain.undone():
            market.oracle.send("setPrice", int(market.oracle.call("price") * (1 - fall)))
            time_s = blue.chain.block()["timestamp"] + rng.randint(10, 40 * DAY)
            for user in wallets(3, PEOPLE):
                account = account_on(blue, market, user, time_s)
                collateral, debt = account.legs
                healthy = not RULE.judge(account).liquidatable
                seize, shares = rng.randint(1, max(collateral.amount, 1)), rng.randint(1, max(debt.shares, 1))
                calls = [{"seize": seize}, {"shares": shares}, {"shares": debt.shares}, {"seize": collateral.amount}]
                for call in calls[:1] if healthy else calls:
                    if not any(call.values()):
                        continue
                    said = outcome(account, **call)
                    with blue.chain.undone():
                        compare(blue, market, user, time_s, said, **call)
                    seen[kind_of(said)] += 1
                best = RULE.best_liquidation(account)
                assert (best is None) == healthy
                if best is not None:
                    assert best.left_debt == 0 or best.left_collateral == 0
    assert seen["refused"]
    assert seen["part"]
    assert seen["bad debt" if fall > 0.3 else "whole"], seen


def test_at_a_price_of_zero_all_goes_for_nothing(blue: Morpho) -> None:
    for market in blue.markets.values():
        with blue.chain.undone():
            market.oracle.send("setPrice", 0)
            time_s = blue.chain.block()["timestamp"] + 60
            owing = [who for who in wallets(3, PEOPLE) if blue.position(market, who).borrow_shares]
            assert len(owing) > 5
            for user in owing:
                account = account_on(blue, market, user, time_s)
                judged, best = RULE.judge(account), RULE.best_liquidation(account)
                assert (judged.health_factor, judged.collateral, judged.liquidatable) == (0, 0, True)
                collateral, debt = account.legs
                assert best is not None
                assert (best.repaid, best.seized, best.left_debt) == (0, collateral.amount, 0)
                assert best == outcome(account, seize=collateral.amount)
                for call in ({"seize": collateral.amount}, {"seize": 1}, {"shares": debt.shares}, {"shares": 1}):
                    said = outcome(account, **call)
                    assert (said is None) == ("shares" in call)  # which the contract divides by the price
                    with blue.chain.undone():
                        compare(blue, market, user, time_s, said, **call)


def limit_is(blue: Morpho, market: Market, user: str, quoted: int) -> None:
    """Set the oracle so that the user's collateral is worth that much of the loan asset."""
    held = blue.position(market, user).collateral
    price = -(-quoted * 10**36 // held)
    assert held * price // 10**36 == quoted
    market.oracle.send("setPrice", price)


def test_at_the_limit_to_the_unit_nobody_is_liquidated(blue: Morpho) -> None:
    """`_isHealthy` compares floor(floor(collateral * price) * LLTV) with the debt, rounded up."""
    market = blue.markets["weth/usdc"]
    user = max(wallets(3, PEOPLE), key=lambda who: blue.position(market, who).borrow_shares)
    with blue.chain.undone():
        time_s = blue.chain.block()["timestamp"] + 60
        debt = account_on(blue, market, user, time_s).side("debt")[0].amount
        least = -(-debt * WAD // market.lltv_e18)  # the smallest whose share of LLTV, floored, is the debt
        for quoted, due in ((least, False), (least - 1, True)):
            limit_is(blue, market, user, quoted)
            account = account_on(blue, market, user, time_s)
            judged = RULE.judge(account)
            assert (judged.collateral, judged.debt) == (quoted, debt)
            assert judged.liquidatable == due
            said = outcome(account, seize=1)
            assert (said is not None) == due
            with blue.chain.undone():
                compare(blue, market, user, time_s, said, seize=1)


@pytest.mark.parametrize(("decimals", "days"), [(6, 0), (18, 100)])
def test_the_last_borrowers_loss_is_no_more_than_what_is_lent(
    devnet_tools: Toolchain, chain: Chain, decimals: int, days: int
) -> None:
    """badDebtAssets = min(totalBorrowAssets, toAssetsUp(shares left)): alone, rounding up would take too much."""
    loan = deploy_asset(devnet_tools, chain, "LOAN", decimals, 1)
    weth = deploy_asset(devnet_tools, chain, "WETH", 18, 2_000)
    made, user = morpho.deploy(devnet_tools, chain), chain.accounts[3]
    oracle = made.settable_oracle(2_000 * 10 ** (18 + decimals))
    market = made.create_market("alone", loan, weth, 0.77, oracle)
    loan.provide(chain.accounts[2], made.contract, loan.raw(1e9))
    made.supply(chain.accounts[1], market, loan.raw(1e12))
    made.supply_collateral(user, market, WAD)
    made.borrow(user, market, loan.raw(1_500))
    chain.warp(days * DAY + 1)
    oracle.send("setPrice", 10 ** (18 + decimals))
    time_s = chain.block()["timestamp"] + 10
    for shares in (1, 1_234_567, 10**9 + 1):  # no whole unit: what stays is worth a unit more than what is lent
        with chain.undone():
            account = account_on(made, market, user, time_s)
            said = outcome(account, shares=shares)
            assert said is not None
            compare(made, market, user, time_s, said, shares=shares)
            account = account_on(made, market, user, time_s + 1)
            lent, said = made.state(market).borrow_assets, outcome(account, seize=said.left_collateral)
            assert said is not None
            assert days or said.bad_debt["l"] == lent - said.repaid
            compare(made, market, user, time_s + 1, said, seize=account.side("collateral")[0].amount)
            assert made.state(market).borrow_assets == 0
