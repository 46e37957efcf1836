"""The kit itself: do the contracts on our chains answer what is known of them from elsewhere?

Figures of the liquidation cases: the formulas of Aave v3 LiquidationLogic (close factor 50 % while the health factor
is above 0.95, else 100 %; v3.3+ also 100 % for positions under 2,000 dollars; protocol fee on the bonus) and of
Morpho Blue (incentive 1 / (0.3 LLTV + 0.7), at most 1.15), worked by hand for 100 WETH at 2,000 dollars against
155,000 USDC.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from math import exp, log, sqrt
from pathlib import Path
from statistics import NormalDist

import pytest

from tests.devnet import aave_v30, aave_v36, erc4626, lyra, morpho, perp, uniswap, worlds
from tests.devnet.aave import Aave, EMode
from tests.devnet.anvil import MULTICALL3, Chain, Tx
from tests.devnet.contract import Reverted
from tests.devnet.lyra import OptionType
from tests.devnet.tokens import deploy_asset, deploy_feed
from tests.devnet.toolchain import REPOSITORY, Toolchain, ToolchainUnavailable
from tests.devnet.worlds import World, standard_reserves

VERSIONS = pytest.mark.parametrize("version", ["3.0", "3.6"])


def market_of(version: str, tools: Toolchain, chain: Chain, emodes: tuple[EMode, ...] = ()) -> Aave:
    reserves = standard_reserves(tools, chain)
    deploy = aave_v30.deploy if version == "3.0" else aave_v36.deploy
    return deploy(tools, chain, reserves, emodes)


def borrower(market: Aave, weth: float, usdc: float) -> str:
    """An account with so much WETH against so much USDC, and a lender to borrow from."""
    user, lender = market.chain.accounts[3], market.chain.accounts[1]
    market.supply(lender, "USDC", market.asset("USDC").raw(1e7))
    market.supply(user, "WETH", market.asset("WETH").raw(weth))
    market.borrow(user, "USDC", market.asset("USDC").raw(usdc))
    return user


# -- Aave -------------------------------------------------------------------------------------------------
@VERSIONS
@pytest.mark.parametrize(
    ("fall", "covered", "to_liquidator", "to_treasury"),
    [
        (0.08, 77_500, 44.01494565, 0.21059783),
        (0.15, 155_000, 95.27941176, 0.45588235),
    ],
)
def test_aave_closes_half_or_all_by_health(
    version: str, fall: float, covered: float, to_liquidator: float, to_treasury: float,
    devnet_tools: Toolchain, chain: Chain,
) -> None:  # fmt: skip
    market = market_of(version, devnet_tools, chain)
    user = borrower(market, 100, 155_000)
    market.asset("WETH").set_price(2_000 * (1 - fall))
    done = market.liquidate(chain.accounts[2], user, "WETH", "USDC")
    assert done.covered / 1e6 == pytest.approx(covered, abs=1e-4)  # seconds of interest
    assert done.seized / 1e18 == pytest.approx(to_liquidator, abs=1e-7)
    assert done.protocol_fee / 1e18 == pytest.approx(to_treasury, abs=1e-7)


@VERSIONS
def test_a_liquidator_may_take_receipt_tokens(version: str, devnet_tools: Toolchain, chain: Chain) -> None:
    market = market_of(version, devnet_tools, chain)
    user, liquidator = borrower(market, 100, 155_000), chain.accounts[2]
    market.asset("WETH").set_price(1_840)
    done = market.liquidate(liquidator, user, "WETH", "USDC", receive_a_token=True)
    assert done.seized / 1e18 == pytest.approx(44.01494565, abs=1e-7)
    assert market.supplied(liquidator, "WETH") == pytest.approx(done.seized, abs=1)


def test_aave_v36_foretells_its_liquidations(devnet_tools: Toolchain, chain: Chain) -> None:
    market = market_of("3.6", devnet_tools, chain)
    user = borrower(market, 100, 155_000)
    market.asset("WETH").set_price(1_500)
    assert market.liquidation_data_provider is not None
    weth, usdc = market.asset("WETH").address, market.asset("USDC").address
    market.asset("USDC").provide(chain.accounts[2], market.pool, 10**12)
    foretold = market.liquidation_data_provider.read("getLiquidationInfo", user, weth, usdc)
    done = market.liquidate(chain.accounts[2], user, "WETH", "USDC")
    assert done.covered == pytest.approx(foretold["maxDebtToLiquidate"], abs=10)
    assert done.seized == pytest.approx(foretold["maxCollateralToLiquidate"], rel=1e-9)
    assert done.protocol_fee == pytest.approx(foretold["liquidationProtocolFee"], rel=1e-6)


@VERSIONS
def test_aave_bad_debt_lands_where_the_version_puts_it(version: str, devnet_tools: Toolchain, chain: Chain) -> None:
    market = market_of(version, devnet_tools, chain)
    user = borrower(market, 100, 155_000)
    market.asset("WETH").set_price(1_200)
    rate = market.pool.call("getReserveNormalizedIncome", market.asset("USDC").address)
    done = market.liquidate(chain.accounts[2], user, "WETH", "USDC")
    assert (
        market.pool.call("getReserveNormalizedIncome", market.asset("USDC").address) >= rate
    )  # what aTokens convert at
    assert done.covered == pytest.approx(100 * 1_200 / 1.05 * 1e6, abs=1)
    assert market.account(user).collateral_usd_e8 == 0
    left = 155_000e6 - done.covered
    if version == "3.0":
        assert done.debt_left == pytest.approx(left, abs=100)
    else:
        assert done.debt_left == 0
        assert market.deficit("USDC") == pytest.approx(left, abs=100)
        assert done.deficits == {market.asset("USDC").address: market.deficit("USDC")}


@pytest.mark.parametrize(("weth", "usdc", "share"), [(1, 1_550, 1.0), (1.5, 2_325, 0.5)])
def test_aave_v36_closes_small_positions_whole(
    weth: float, usdc: float, share: float, devnet_tools: Toolchain, chain: Chain
) -> None:
    market = market_of("3.6", devnet_tools, chain)
    user = borrower(market, weth, usdc)
    market.asset("WETH").set_price(1_840)
    done = market.liquidate(chain.accounts[2], user, "WETH", "USDC")
    assert done.covered == pytest.approx(usdc * share * 1e6, abs=2)


@VERSIONS
def test_aave_refuses_to_liquidate_the_healthy(version: str, devnet_tools: Toolchain, chain: Chain) -> None:
    market = market_of(version, devnet_tools, chain)
    user = borrower(market, 100, 155_000)
    with pytest.raises(Reverted, match=r"45|0x930bb771"):  # HEALTH_FACTOR_NOT_BELOW_THRESHOLD, old and new spelling
        market.liquidate(chain.accounts[2], user, "WETH", "USDC")


@VERSIONS
def test_emode_raises_the_threshold_of_its_members(version: str, devnet_tools: Toolchain, chain: Chain) -> None:
    market = market_of(version, devnet_tools, chain, (EMode(1, "majors", 9_000, 9_300, 10_100, ("WETH", "WBTC")),))
    user = chain.accounts[3]
    market.supply(user, "WETH", 10**18)
    assert market.account(user).threshold_bps == 8_250
    market.set_emode(user, 1)
    assert market.account(user)[3:5] == (9_300, 9_000)


def test_the_two_versions_are_what_they_claim(world: World) -> None:
    old, new = world.aave[worlds.ARBITRUM], world.aave[worlds.ETHEREUM]
    assert old.pool.call("POOL_REVISION") < 4 <= new.pool.call("POOL_REVISION")
    with pytest.raises(LookupError):
        old.pool.call("getReserveDeficit", old.asset("USDC").address)


# -- Morpho -----------------------------------------------------------------------------------------------
def morpho_market(tools: Toolchain, chain: Chain) -> tuple[morpho.Morpho, morpho.Market, str]:
    """One WETH/USDC market at 86 % with 17,000 USDC borrowed on 10 WETH."""
    weth, usdc = deploy_asset(tools, chain, "WETH", 18, 2_000), deploy_asset(tools, chain, "USDC", 6, 1)
    blue = morpho.deploy(tools, chain)
    market = blue.create_market("WETH/USDC", usdc, weth, 0.86)
    user = chain.accounts[3]
    blue.supply(chain.accounts[1], market, usdc.raw(1e6))
    blue.supply_collateral(user, market, weth.raw(10))
    blue.borrow(user, market, usdc.raw(17_000))
    return blue, market, user


def test_morpho_pays_its_incentive(devnet_tools: Toolchain, chain: Chain) -> None:
    blue, market, user = morpho_market(devnet_tools, chain)
    market.collateral.set_price(1_900)
    done = blue.liquidate(chain.accounts[2], market, user, shares=blue.position(market, user).borrow_shares // 2)
    assert done.seized / 1e18 * 1_900 / (done.repaid / 1e6) == pytest.approx(1.0438413361, abs=1e-9)
    assert done.bad_debt == 0


def test_morpho_takes_bad_debt_from_its_suppliers(devnet_tools: Toolchain, chain: Chain) -> None:
    blue, market, user = morpho_market(devnet_tools, chain)
    market.collateral.set_price(900)
    blue.accrue(market)
    before, owed = blue.state(market), blue.owed(market, user)
    done = blue.liquidate(chain.accounts[2], market, user, seize=blue.position(market, user).collateral)
    after = blue.state(market)
    accrued = after.borrow_assets + done.repaid + done.bad_debt - before.borrow_assets
    assert after.supply_assets == before.supply_assets + accrued - done.bad_debt
    assert after.supply_assets * before.supply_shares < before.supply_assets * after.supply_shares
    assert done.bad_debt == pytest.approx(owed - 9_000e6 / 1.0438413361, abs=1_000)
    assert blue.position(market, user) == (0, 0, 0)


def test_morpho_market_id_is_known_to_the_contract(world: World) -> None:
    assert world.morpho is not None
    for market in world.morpho.markets.values():
        assert world.morpho.contract.call("idToMarketParams", bytes.fromhex(market.id[2:])) == market.params


# -- Uniswap, vaults --------------------------------------------------------------------------------------
def test_uniswap_swaps_what_it_quotes(devnet_tools: Toolchain, chain: Chain) -> None:
    weth, usdc = deploy_asset(devnet_tools, chain, "WETH", 18, 2_000), deploy_asset(devnet_tools, chain, "USDC", 6, 1)
    venue = uniswap.deploy(devnet_tools, chain)
    pool = venue.create_pool(weth, usdc, 3_000)
    for low, high in ((0.5, 2), (0.95, 1.05)):
        venue.add_liquidity(chain.accounts[1], pool, low, high, 1e6)
    for sell in (weth, usdc):
        raw = sell.worth(1_500_000)
        bought, _root, crossed = venue.quote(pool, sell, raw)
        assert crossed > 0
        assert venue.swap(chain.accounts[2], pool, sell, raw) == bought
        assert pool.other(sell).worth(1_000_000) < bought < pool.other(sell).worth(1_495_500)  # less than the fee
        venue.follow_feeds(chain.accounts[4], pool)
    assert pool.contract.call("slot0")[0] == uniswap.feed_root(pool.token0, pool.token1)


def test_vault_shares_earn_lose_and_price_themselves(devnet_tools: Toolchain, chain: Chain) -> None:
    weth = deploy_asset(devnet_tools, chain, "WETH", 18, 2_000)
    vault = erc4626.deploy_vault(devnet_tools, chain, weth, "svWETH", offset=6)
    user = chain.accounts[3]
    vault.deposit(user, weth.raw(10))
    assert vault.token.call("balanceOf", user) == 10 * 10**24
    assert vault.price_usd_e8 == 2_000 * 10**8
    vault.earn(weth.raw(2))
    assert vault.price_usd_e8 == pytest.approx(2_400e8, abs=1)
    vault.lose(weth.raw(6))
    assert vault.token.call("convertToAssets", 10**24) == pytest.approx(0.6e18, abs=1)


# -- Lyra, Perp ------------------------------------------------------------------------------------------
def black_scholes(spot: float, strike: float, years: float, vol: float, rate: float) -> tuple[float, ...]:
    """Call delta, put delta, call price, put price, by the normal distribution of the standard library."""
    phi = NormalDist().cdf
    d1 = (log(spot / strike) + (rate + vol * vol / 2) * years) / (vol * sqrt(years))
    call = spot * phi(d1) - strike * exp(-rate * years) * phi(d1 - vol * sqrt(years))
    return phi(d1), phi(d1) - 1, call, call - spot + strike * exp(-rate * years)


def test_lyra_caches_black_scholes(devnet_tools: Toolchain, chain: Chain) -> None:
    market = lyra.deploy(devnet_tools, chain, 1_742)
    ladder = {1_500: 1.2, 1_750: 1.0, 2_000: 1.05}
    for days in (9, 45):
        market.create_board(days, 0.8, list(ladder), list(ladder.values()))
    chain.warp(2 * 86_400)
    market.set_spot(1_801.25)
    for board in market.boards():
        cache = market.greek_cache.read("getOptionBoardCache", board)
        years = (cache["expiry"] - cache["updatedAt"]) / (365 * 86_400)
        for strike, (price, skew) in zip(market.strikes(board), ladder.items(), strict=True):
            got, want = market.greeks(strike), black_scholes(1_801.25, price, years, 0.8 * skew, 0.05)
            deltas, prices = (got.call_delta, got.put_delta), (got.call_price, got.put_price)
            assert [x / 1e18 for x in deltas] == pytest.approx(want[:2], abs=1e-6)
            assert [x / 1e18 for x in prices] == pytest.approx(want[2:], abs=1e-3)


def test_lyra_pays_an_expired_call_its_intrinsic_value(devnet_tools: Toolchain, chain: Chain) -> None:
    market = lyra.deploy(devnet_tools, chain, 2_000)
    market.create_board(7, 0.8, [1_900, 2_100], [1, 1])
    user = chain.accounts[3]
    held = market.open(user, market.strikes(1)[0], OptionType.LONG_CALL, 2.5)
    chain.warp(8 * 86_400)
    market.rates.send("setRateAndInvalid", lyra.BASE_KEY, 2_240 * 10**18, False)
    market.settle_board(1)
    before = market.quote.call("balanceOf", user)
    market.settle(held)
    assert market.quote.call("balanceOf", user) - before == 850 * 10**18  # 2.5 (2,240 - 1,900)


def perp_market(tools: Toolchain, chain: Chain) -> perp.Perp:
    house = perp.deploy(tools, chain)
    house.fund_insurance(10_000)
    house.list_base("ETH", 2_000)
    house.deposit(chain.accounts[1], 2e7)
    house.make(chain.accounts[1], "ETH", 5_000, 1e7, 1_000, 4_000)
    return house


def test_perp_asks_for_a_sixteenth_of_the_position(devnet_tools: Toolchain, chain: Chain) -> None:
    house = perp_market(devnet_tools, chain)
    for user, quote in ((chain.accounts[3], 5_000), (chain.accounts[4], -7_000)):
        house.deposit(user, 1_000)
        house.trade(user, "ETH", quote)
        value = house.account_balance.call("getTotalAbsPositionValue", user)
        assert value == pytest.approx(abs(quote) * 1e18, rel=0.01)
        assert house.margin_requirement(user) == value * 62_500 // 1_000_000  # mmRatio is 6.25 %


def test_perp_takes_its_penalty_from_the_notional(devnet_tools: Toolchain, chain: Chain) -> None:
    house = perp_market(devnet_tools, chain)
    user, whale, keeper = chain.accounts[3:6]
    house.deposit(user, 1_000)
    house.trade(user, "ETH", 9_000)
    house.deposit(whale, 5e6)
    house.deposit(keeper, 1e5)
    house.set_index("ETH", 1_870)
    for _ in range(4):
        house.trade(whale, "ETH", -250_000)
        house.advance(600)
    assert house.can_be_liquidated(user)
    value, need, size = house.account_value(user), house.margin_requirement(user), house.size(user, "ETH")
    done = house.liquidate(keeper, user, "ETH")
    half = value >= need // 2  # above half the requirement only half the position may go
    assert done["positionSize"] == (size // 2 if half else size)
    assert done["liquidationFee"] == done["positionNotional"] * 25_000 // 1_000_000


# -- worlds -----------------------------------------------------------------------------------------------
def test_a_world_has_every_kind_of_account(world: World) -> None:
    for market in world.aave.values():
        accounts = [market.account(w) for w in world.wallets]
        indebted = [a for a in accounts if a.debt_usd_e8]
        assert any(a.health_e18 < 10**18 for a in indebted), "somebody can be liquidated"
        assert any(a.debt_usd_e8 > a.collateral_usd_e8 for a in indebted), "somebody is underwater"
        both = [(w, s) for w in world.wallets for s in market.reserves]
        for balance in (market.supplied, market.owed):
            amounts = {(w, s): raw for w, s in both if (raw := balance(w, s))}
            assert {market.asset(s).decimals for _, s in amounts} == {6, 8, 18}
            assert any(raw < 1_000 for raw in amounts.values()), "somebody has, and somebody owes, next to nothing"
        assert (
            max(a.collateral_usd_e8 for a in accounts)
            > 5e7 * 1e8
            > 1e2 * 1e8
            > min(a.collateral_usd_e8 for a in accounts if a.collateral_usd_e8)
        )
        assert any(a.collateral_usd_e8 and not a.debt_usd_e8 for a in accounts)
        assert any(a.collateral_usd_e8 == 0 for a in accounts)
        assert any(market.pool.call("getUserEMode", w) and market.account(w).debt_usd_e8 for w in world.wallets)
        used = [r for r in market.reserves.values() if r.borrowable]
        assert all(market.pool.read("getReserveData", r.asset.address)["variableBorrowIndex"] > 10**27 for r in used)
    assert world.aave[worlds.ETHEREUM].deficit("USDC") > 0
    assert world.morpho is not None
    blue = world.morpho.contract
    done = blue.events(blue.chain.logs(address=blue.address), "Liquidate")
    assert {bool(e["badDebtAssets"]) for e in done} == {True, False}
    lent = [m for m in world.morpho.markets.values() if world.morpho.state(m).borrow_assets]
    assert {m.loan.decimals for m in lent} == {6, 18}
    assert {m.collateral.decimals for m in lent} == {8, 12, 18}
    held = {(m.id, w): world.morpho.position(m, w) for m in lent for w in world.wallets}.values()
    assert any(0 < p.collateral < 1_000 for p in held)
    assert any(p.collateral and not p.borrow_shares for p in held)
    assert any(p.supply_shares and not p.collateral for p in held)
    assert any(p.borrow_shares and not p.collateral for p in held) or any(
        world.morpho.owed(m, w) * 10**36 > world.morpho.position(m, w).collateral * m.oracle.call("price")
        for m in lent for w in world.wallets if world.morpho.position(m, w).borrow_shares
    ), "somebody is underwater"  # fmt: skip


def test_the_derivatives_world_is_lived_in(world: World) -> None:
    options, futures = world.lyra, world.perp
    assert options is not None
    assert futures is not None
    count = options.option_token.call("nextId")
    held = [options.option_token.read("positions", i) for i in range(1, count)]
    assert {h["state"] for h in held} == {1, 2, 3, 4}, "active, closed, liquidated, settled"
    assert {h["optionType"] for h in held if h["state"] == 1} == set(OptionType)
    live = {s for b in options.boards() for s in options.strikes(b)}
    active = [h for h in held if h["state"] == 1]
    assert any(h["strikeId"] not in live for h in active), "somebody has not collected from a settled board"
    assert any(options.can_be_liquidated(h["positionId"]) for h in active if h["strikeId"] in live)
    sizes = [futures.size(w, s) for w in world.wallets for s in futures.bases]
    assert min(sizes) < 0 < max(sizes)
    assert any(futures.has_orders(w) for w in world.wallets)
    assert any(futures.can_be_liquidated(w) for w in world.wallets)
    assert any(futures.exchange.call("getAllPendingFundingPayment", w) for w in world.wallets)
    assert {d.adapter for d in world.deployments} == {
        "aave_v3", "morpho_blue", "uniswap_v3", "erc4626", "lyra_v1", "perp_curie",
    }  # fmt: skip


@pytest.mark.slow
def test_the_same_seed_gives_the_same_blocks(devnet_tools: Toolchain) -> None:
    first, second = (worlds.three_chains(devnet_tools, seed=7, people=3) for _ in range(2))
    other = worlds.three_chains(devnet_tools, seed=8, people=3)
    try:
        heads = [{c: chain.block()["hash"] for c, chain in w.chains.items()} for w in (first, second, other)]
        assert heads[0] == heads[1]
        assert set(heads[0].values()).isdisjoint(list(heads[2].values())[:1])
    finally:
        for w in (first, second, other):
            w.stop()


def test_a_crowd_is_populated_in_bulk(devnet_tools: Toolchain) -> None:
    crowd = worlds.aave_crowd(devnet_tools, 200)
    try:
        market = crowd.aave[worlds.ETHEREUM]
        accounts = [market.account(w) for w in crowd.wallets]
        assert all(a.collateral_usd_e8 == pytest.approx(20_000e8, rel=1e-6) for a in accounts)
        assert all(3_000e8 <= a.debt_usd_e8 <= 15_001e8 for a in accounts)
    finally:
        crowd.stop()


# -- chain and hostile contracts --------------------------------------------------------------------------
def test_reorg_keeps_the_height_and_changes_the_hashes(devnet_tools: Toolchain, chain: Chain) -> None:
    token = deploy_asset(devnet_tools, chain, "T", 18, 1)
    chain.mine(3)
    fork, old = chain.block(chain.block()["number"] - 3), chain.block()
    receipts = [token.token.send("mint", chain.owner, 1), token.token.send("mint", chain.owner, 1)]
    chain.reorg(5)
    new = chain.block()
    assert new["number"] == old["number"] + len(receipts)
    assert token.token.call("totalSupply") == 0
    walk = new
    while walk["number"] > fork["number"]:
        walk = chain.block(walk["parentHash"])
    assert walk["hash"] == fork["hash"]
    assert chain.block(old["number"])["hash"] != old["hash"]


def test_a_failed_bulk_transaction_is_never_silent(devnet_tools: Toolchain, chain: Chain) -> None:
    token = deploy_asset(devnet_tools, chain, "T", 18, 1).token
    good = [Tx(chain.owner, token.address, token.encode("mint", chain.owner, 1)) for _ in range(30)]
    assert chain.send_all(good) == 30
    assert token.call("totalSupply") == 30
    bad = Tx(chain.owner, token.address, token.encode("transfer", chain.owner, 10**30))
    with pytest.raises(Reverted):
        chain.send_all([*good, bad])


def test_calls_answer_at_any_block_and_snapshots_undo(devnet_tools: Toolchain, chain: Chain) -> None:
    token = deploy_asset(devnet_tools, chain, "T", 18, 1).token
    before = chain.block()
    with chain.undone():
        token.send("mint", chain.owner, 5)
        assert token.call("totalSupply") == 5
        assert token.call("totalSupply", block=before["number"]) == 0
        assert token.call("totalSupply", block=before["hash"]) == 0
    assert chain.block()["hash"] == before["hash"]
    chain.warp(1_000)
    assert chain.block()["timestamp"] == before["timestamp"] + 1_000


def test_multicall_is_there_or_not_as_asked(devnet_tools: Toolchain, chain: Chain) -> None:
    token = deploy_asset(devnet_tools, chain, "T", 8, 1).token
    assert chain.multicall is not None
    calls = [(token.address, True, bytes.fromhex(token.encode(f)[2:])) for f in ("decimals", "totalSupply")]
    answers = chain.multicall.call("aggregate3", calls)
    assert [(ok, int.from_bytes(raw, "big")) for ok, raw in answers] == [(True, 8), (True, 0)]
    with Chain(devnet_tools, multicall=False) as bare:
        assert bare.multicall is None
        assert bare.rpc("eth_getCode", MULTICALL3, "latest") == "0x"


def test_hostile_tokens_misbehave(devnet_tools: Toolchain, chain: Chain) -> None:
    ours = devnet_tools.build("ours")
    old = chain.deploy(ours["Bytes32Token"], b"Maker".ljust(32, b"\0"), b"MKR".ljust(32, b"\0"))
    assert old.call("symbol").rstrip(b"\0") == b"MKR"
    for decimals in (0, 77):
        assert chain.deploy(ours["Token"], "odd", "ODD", decimals).call("decimals") == decimals
    symbol = old.encode("symbol")
    with pytest.raises(Reverted, match="always reverts"):
        chain.eth_call(chain.deploy(ours["RevertingToken"]).address, symbol)
    assert chain.eth_call(chain.deploy(ours["OddAnswer"], 7).address, symbol) == bytes(7)
    burner = chain.deploy(ours["GasBurner"]).address
    with pytest.raises(RuntimeError, match=r"OOG|OutOfGas"):
        chain.eth_call(burner, symbol)


def test_a_feed_can_be_negative_and_stale(devnet_tools: Toolchain, chain: Chain) -> None:
    feed = deploy_feed(devnet_tools, chain, "X / USD", 2.5)
    assert feed.call("latestRoundData")[1:4] == (250_000_000, *[chain.block()["timestamp"]] * 2)
    feed.send("setAt", -1, 12_345)
    assert feed.call("latestRoundData") == (2, -1, 12_345, 12_345, 2)


# -- toolchain --------------------------------------------------------------------------------------------
def test_a_missing_toolchain_is_seen_and_fails_in_ci(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(chain):\n    pass\n")
    env = {**os.environ, "SPILLOVER_DEVNET_DIR": "/dev/null/nowhere", "CI": "true"}
    command = [sys.executable, "-m", "pytest", "-c", str(REPOSITORY / "pyproject.toml"), "--rootdir", str(tmp_path)]
    command += [
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        "-p",
        "tests.promises",
        "-p",
        "tests.devnet.fixtures",
        str(tmp_path),
    ]
    command.append(str(tmp_path / "test_it.py"))
    done = subprocess.run(command, env=env, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert "1 error" in done.stdout
    assert "nothing is skipped: Skipped: devnet toolchain unavailable: cannot set up /dev/null/nowhere" in done.stdout


def test_anvil_dies_with_its_parent(devnet_tools: Toolchain) -> None:
    program = (
        "import os, signal\n"
        "from tests.devnet.anvil import Chain\n"
        "from tests.devnet.toolchain import toolchain\n"
        "print(Chain(toolchain()).port, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", int(done.stdout))):
                return
        time.sleep(0.05)
    pytest.fail("anvil still listens")


def test_without_a_registry_the_reason_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "cache"))
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    with pytest.raises(ToolchainUnavailable, match="npm"):
        Toolchain(tmp_path / "devnet").install()
    assert not any((tmp_path / "devnet/packages").iterdir())
