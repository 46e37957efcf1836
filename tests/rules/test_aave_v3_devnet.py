"""What the rules predict is what real Aave v3.0 and v3.6 bytecode then does, to the unit, over random accounts."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from aggregator.core.account import Account, Liquidation
from aggregator.core.fixed import RAY
from aggregator.core.solmath import compounded_interest, compounded_interest_v30, linear_interest, ray_mul
from tests.devnet import aave_v30, aave_v36
from tests.devnet.aave import Aave, EMode, Reserve
from tests.devnet.anvil import Chain
from tests.devnet.tokens import deploy_asset, deploy_feed
from tests.devnet.toolchain import Toolchain
from tests.devnet.worlds import GENTLE, STEEP, World, standard_reserves, wallets
from tests.rules.aave_chain import MAX, account_on, at_time, call_pool, outcome, rule_for

WAD = 10**18
PEOPLE, DAY = 20, 86_400


@pytest.fixture(scope="module", params=["3.0", "3.6"])
def market(request: pytest.FixtureRequest, devnet_tools: Toolchain) -> Iterator[Aave]:
    """Four assets, two e-modes (one priced by its own feed in 3.0), 20 borrowers at their limit, time passed."""
    rng = random.Random(f"rules {request.param}")
    with Chain(devnet_tools) as chain:
        reserves = [*standard_reserves(devnet_tools, chain)]
        dai = deploy_asset(devnet_tools, chain, "DAI", 18, 1)
        reserves.append(Reserve(dai, 6_300, 7_700, 10_500, 2_500, GENTLE, protocol_fee_bps=0))
        old = deploy_asset(devnet_tools, chain, "OLD", 2 if request.param == "3.0" else 6, 3.33)
        reserves.append(Reserve(old, 6_000, 7_000, 11_111, 2_500, STEEP, protocol_fee_bps=2_345))
        emodes = [EMode(1, "majors", 9_300, 9_500, 10_150, ("WETH", "WBTC"), ("WETH",))]
        if request.param == "3.0":
            feed = deploy_feed(devnet_tools, chain, "stable / USD", 1)
            emodes.append(EMode(2, "stable", 9_500, 9_700, 10_100, ("USDC", "DAI"), feed=feed))
        else:
            emodes.append(EMode(2, "stable", 9_500, 9_700, 10_100, ("USDC", "DAI"), ("USDC", "DAI")))
        deploy = aave_v30.deploy if request.param == "3.0" else aave_v36.deploy
        made = deploy(devnet_tools, chain, reserves, emodes)
        if request.param == "3.0":
            made.oracle.send("setAssetSources", [feed.address], [feed.address])
        users = wallets(77, PEOPLE)
        chain.fund(*users)
        lender, liquidator = chain.accounts[1], chain.accounts[2]
        for reserve in reserves:
            made.supply(lender, reserve.asset.symbol, reserve.asset.worth(1e9))
            reserve.asset.provide(liquidator, made.pool, reserve.asset.worth(1e12))
        for i, user in enumerate(users):
            arrive(made, rng, user, i)
        if request.param == "3.0":
            feed.send("set", 107_000_000)  # no longer what the assets' own feeds say
        chain.warp(200 * DAY)
        yield replace(made)


def arrive(market: Aave, rng: random.Random, user: str, i: int) -> None:
    """Borrow 93 to 99.9 % of what is allowed: dust to ten millions, one to three debts, each fourth in e-mode."""
    usd = 10 ** rng.uniform(0.5, 4.5) if i % 2 else 10 ** rng.uniform(3, 7)
    pledge, borrow = rng.sample(["WETH", "WBTC", "DAI", "OLD"], 1 + (i % 3 == 0)), ["USDC", "WETH", "DAI"]
    if i % 4 == 0:
        market.set_emode(user, 1 + i // 4 % 2)
        pledge, borrow = (["WETH", "WBTC"], ["WETH"]) if i // 4 % 2 == 0 else (["DAI"], ["USDC"])
    for symbol in pledge:
        market.supply(user, symbol, market.asset(symbol).worth(usd) + rng.randrange(1, 1000))
    share = rng.uniform(0.93, 0.999)
    count = 1 + (i % 5 == 1) + (i % 5 == 2)
    for symbol in rng.sample(borrow, min(count, len(borrow))):
        asset = market.asset(symbol)
        raw = int(market.account(user).available_usd_e8 * share * 10**asset.decimals / asset.price_usd_e8 / count)
        if raw > 1:
            market.borrow(user, symbol, raw)


def assert_judged(market: Aave, users: Sequence[str]) -> int:
    rule, unhealthy = rule_for(market), 0
    for user in users:
        account, truth = account_on(market, user), market.account(user)
        judged = rule.judge(account)
        assert judged.collateral == truth.collateral_usd_e8
        assert judged.debt == truth.debt_usd_e8
        assert (MAX if judged.health_factor is None else judged.health_factor) == truth.health_e18
        assert judged.threshold_wad == truth.threshold_bps * 10**14
        assert rule.ltv_bps(account) == truth.ltv_bps
        unhealthy += judged.liquidatable
    return unhealthy


def move_prices(market: Aave, rng: random.Random, fall: float) -> None:
    for symbol in market.reserves:
        asset = market.asset(symbol)
        stable = symbol in ("USDC", "DAI")
        asset.set_price(
            asset.price_usd_e8 / 1e8 * (1 + rng.uniform(-0.02, 0.02) if stable else 1 - fall * rng.uniform(0.9, 1.1))
        )


def test_judgement_is_the_pools_own(market: Aave) -> None:
    users, rng = wallets(77, PEOPLE), random.Random(1)
    assert_judged(market, users)
    with market.chain.undone():
        move_prices(market, rng, 0.21)
        weth = market.asset("WETH").address
        market.configurator.send("configureReserveAsCollateral", weth, 0, 8_250, 10_500)  # frozen out: no new loans
        if market.version == "3.6":
            market.configurator.send("setAssetCollateralInEMode", weth, 1, True)
            market.configurator.send("setAssetLtvzeroInEMode", weth, 1, True)
        market.chain.warp(31 * DAY)
        assert assert_judged(market, users) > 1


def test_judgement_of_everyone_in_the_big_world(three_chains_world: World) -> None:
    for market in three_chains_world.aave.values():
        assert_judged(market, three_chains_world.wallets)


def test_interest_series_are_the_pools(market: Aave) -> None:
    """Linear income and compounded debt over 200 days and more: a binomial series in 3.0, Taylor's since 3.4."""
    compounded = compounded_interest_v30 if market.version == "3.0" else compounded_interest
    with market.chain.undone():
        whale = market.chain.accounts[4]
        market.supply(whale, "DAI", market.asset("DAI").worth(2e9))
        market.borrow(whale, "WBTC", market.asset("WBTC").worth(9e8))  # nine tenths: hundreds of percent a year
        market.chain.warp(77 * DAY + 13)
        now = market.chain.block()["timestamp"]
        for reserve in market.reserves.values():
            where = reserve.asset.address
            data = market.pool.read("getReserveData", where)
            elapsed = now - data["lastUpdateTimestamp"]
            assert elapsed > 77 * DAY
            income = ray_mul(linear_interest(data["currentLiquidityRate"], elapsed), data["liquidityIndex"])
            assert income == market.pool.call("getReserveNormalizedIncome", where)
            debt = ray_mul(compounded(data["currentVariableBorrowRate"], elapsed), data["variableBorrowIndex"])
            assert debt == market.pool.call("getReserveNormalizedVariableDebt", where)
        wbtc = market.pool.read("getReserveData", market.asset("WBTC").address)
        assert wbtc["currentVariableBorrowRate"] > RAY


def sink(market: Aave, user: str, target: float) -> None:
    """Move the prices of the user's collateral (or raise those of his debts) until his health is about the target."""
    account = account_on(market, user)
    health = rule_for(market).judge(account).health_factor
    pledged, owed = ({leg.asset for leg in account.side(side)} for side in ("collateral", "debt"))
    emode = account.own["emode"]
    if health is None:
        return
    if emode == 2 and market.version == "3.0":  # one price for the whole category: only its threshold can sink him
        source = market.pool.call("getEModeCategoryData", emode)[3]
        threshold = max(int(9_700 * target * WAD / health), 8_050)
        market.configurator.send("setEModeCategory", emode, 8_010, threshold, 10_100, source, "stable")
        return
    for symbol in pledged - owed:
        asset = market.asset(symbol)
        asset.set_price(asset.price_usd_e8 / 1e8 * target * WAD / health)


def kind_of(account: Account, pair: tuple[str, str], said: Liquidation | None, health: int) -> str:
    if said is None:
        return "refused"
    whole = sum(leg.amount for leg in account.side("debt") if leg.asset == pair[1])
    if said.left_collateral == 0:
        return "underwater"
    if said.repaid == whole:
        return "small" if health > 95 * 10**16 else "all"
    return "half" if health > 95 * 10**16 else "part"


def profit_usd(account: Account, call: Liquidation) -> float:
    """To the liquidator, at the assets' own prices."""
    worth = {leg.asset: leg.price.raw / 1e8 / 10**leg.decimals for leg in account.legs if leg.price}
    return call.to_liquidator * worth[call.collateral] - call.repaid * worth[call.debt]


@pytest.mark.parametrize("target", [0.975, 0.9, 0.45])
def test_liquidation_is_what_the_pool_does(market: Aave, target: float) -> None:
    """Each account in turn falls to about the target health; half of the calls offer the most, half a random part."""
    rng, rule, seen = random.Random(target), rule_for(market), Counter[str]()
    for i, user in enumerate(wallets(77, PEOPLE)):
        with market.chain.undone():
            sink(market, user, target * rng.uniform(0.985, 1.015))
            time_s = market.chain.block()["timestamp"] + rng.choice([10, 3_600, 9 * DAY])
            account = at_time(market, time_s, user)
            judged = rule.judge(account)
            if not judged.liquidatable:
                continue
            assert judged.health_factor is not None
            pair = rng.choice([(c.asset, d.asset) for c in account.side("collateral") for d in account.side("debt")])
            debt = next(leg for leg in account.side("debt") if leg.asset == pair[1])
            for cover in (MAX, rng.randint(1, debt.amount), *((1, 2) if i < 4 else ())):
                said = outcome(rule, account, pair, cover)
                with market.chain.undone():
                    call_pool(market, time_s, account, pair, cover, said)
                seen[kind_of(account, pair, said, judged.health_factor)] += 1
            best = rule.best_liquidation(account)
            if best is not None:
                calls = [outcome(rule, account, (c.asset, d.asset), MAX)
                         for c in account.side("collateral") for d in account.side("debt")]  # fmt: skip
                assert profit_usd(account, best) >= max(profit_usd(account, call) for call in calls if call) - 1e-6
                pair = (best.collateral, best.debt)
                offer = MAX if outcome(rule, account, pair, MAX) else best.repaid
                with market.chain.undone():
                    call_pool(market, time_s, account, pair, offer, best)
    wanted = {0.975: {"half", "small"} if market.version == "3.6" else {"half"}, 0.9: {"all"}, 0.45: {"underwater"}}
    assert wanted[target] <= set(seen), seen
    assert sum(seen.values()) > PEOPLE, seen
