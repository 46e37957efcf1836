"""Aave v3 read from real 3.0 and 3.6 bytecode: our accounts are what the pool itself answers at the same block."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from adapters.aave_v3 import ADAPTER
from aggregator import rules
from aggregator.core.account import mul_div
from aggregator.core.ids import USD, address_of, erc20
from aggregator.core.rows import AccountTerm, Asset, Claim, Exposure, Gap, Index, Market, Price, Term, Total
from aggregator.sdk.testing import FakeView
from tests.adapters.reading import (
    Reading,
    assert_incremental,
    assert_sources,
    at_address,
    read,
    read_view,
    sums,
    where_is,
)  # fmt: skip
from tests.devnet import aave_v30, aave_v36
from tests.devnet.aave import Aave, EMode
from tests.devnet.anvil import Chain
from tests.devnet.contract import Reverted
from tests.devnet.tokens import UINT256_MAX, deploy_asset, deploy_feed
from tests.devnet.toolchain import Toolchain
from tests.devnet.worlds import World, standard_reserves

CHAINS = (1, 42161)  # 3.6 and 3.0
DAY = 86_400


async def reading_of(world: World, chain: int) -> Reading:
    return await read(ADAPTER, world.chains[chain], where_is(world, "aave_v3", chain))


def assert_equals_the_pool(market: Aave, reading: Reading) -> None:
    """Every account: collateral, debt, health factor and every leg, to the last unit at the cut's block."""
    accounts = reading.accounts
    assert accounts
    for account in accounts:
        rule = rules.get(account.rule)
        assert rule is not None
        ours, theirs = rule.judge(account), market.account(account.holder, reading.at.hash)
        assert (ours.collateral, ours.debt) == (theirs.collateral_usd_e8, theirs.debt_usd_e8), account
        health = UINT256_MAX if ours.health_factor is None else ours.health_factor
        assert health == theirs.health_e18, account
        for leg in account.legs:
            symbol = reading.one(Asset, id=leg.asset).symbol
            balance = market.owed if leg.side == "debt" else market.supplied
            assert leg.amount == balance(account.holder, symbol, reading.at.hash), (account.holder, leg)


def assert_reconciles(reading: Reading) -> None:
    """Shares of all positions add up to the contract's own totals: nobody is missing, nobody is read twice."""
    totals = sums(reading, Total, "raw")
    assert sums(reading, Exposure, "shares") == {key: raw for key, raw in totals.items() if raw}


def act(market: Aave, rng: random.Random, people: Sequence[str]) -> None:
    """One random action, from single units to millions of dollars."""
    user, other, symbol = rng.choice(people), rng.choice(people), rng.choice(sorted(market.reserves))
    raw = max(1, market.asset(symbol).worth(10 ** rng.uniform(-7, 6.5)))
    match rng.randrange(7):
        case 0:
            market.supply(user, symbol, raw)
        case 1:
            market.borrow(user, symbol, raw)
        case 2:
            market.repay(user, symbol, raw)
        case 3:
            market.withdraw(user, symbol, raw)
        case 4:
            market.a_token(symbol).send("transfer", other, raw, sender=user)
        case 5:
            market.set_emode(user, rng.choice((0, 1)))
        case 6:
            market.use_as_collateral(user, symbol, rng.random() < 0.5)


def live(market: Aave, rng: random.Random, people: Sequence[str]) -> int:
    """Random actions; how many the pool accepted."""
    done = 0
    for _ in range(60):
        with suppress(Reverted):
            act(market, rng, people)
            done += 1
    return done


@pytest.mark.parametrize("chain", CHAINS)
async def test_every_account_equals_the_pools_own_view(three_chains_world: World, chain: int) -> None:
    reading = await reading_of(three_chains_world, chain)
    assert_equals_the_pool(three_chains_world.aave[chain], reading)
    assert_reconciles(reading)
    assert not reading.of(Gap)
    kinds = {side for account in reading.accounts for side in (leg.side for leg in account.legs)}
    assert kinds == {"collateral", "supply", "debt"}
    assert reading.of(AccountTerm, key="emode")


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("seed", range(3))
async def test_accounts_stay_equal_through_random_days(world: World, chain: int, seed: int) -> None:
    rng, market = random.Random(f"{seed} {chain}"), world.aave[chain]
    before = await reading_of(world, chain)
    assert live(market, rng, [*world.wallets, *world.chains[chain].accounts[3:6]]) > 10
    for reserve in market.reserves.values():
        if reserve.asset.symbol != "svETH":  # a share's price follows its vault
            reserve.asset.set_price(reserve.asset.price_usd_e8 / 1e8 * 10 ** rng.uniform(-0.7, 0.7))
    world.chains[chain].warp(rng.randint(1, 400 * DAY))
    full = await assert_incremental(ADAPTER, world.chains[chain], before)
    assert_equals_the_pool(market, full)
    assert_reconciles(full)


@pytest.mark.parametrize("chain", CHAINS)
async def test_terms_are_what_the_data_provider_says(three_chains_world: World, chain: int) -> None:
    market = three_chains_world.aave[chain]
    reading = await reading_of(three_chains_world, chain)
    at, provider = reading.at.hash, market.data_provider
    for symbol, reserve in market.reserves.items():
        asset, where = erc20(chain, reserve.asset.address), reserve.asset.address
        term = {t.key: t.raw for t in reading.of(Term, asset=asset)}
        configuration = provider.read("getReserveConfigurationData", where, block=at)
        names = {
            "decimals": "decimals", "ltv_bps": "ltv", "liquidation_threshold_bps": "liquidationThreshold",
            "liquidation_bonus_bps": "liquidationBonus", "reserve_factor_bps": "reserveFactor",
            "borrowing_enabled": "borrowingEnabled", "active": "isActive", "frozen": "isFrozen",
        }  # fmt: skip
        assert {k: term[k] for k in names} == {k: int(configuration[v]) for k, v in names.items()}
        assert term["liquidation_protocol_fee_bps"] == provider.call("getLiquidationProtocolFee", where, block=at)
        assert [term["borrow_cap"], term["supply_cap"]] == list(provider.call("getReserveCaps", where, block=at))
        assert term["paused"] == provider.call("getPaused", where, block=at)
        cash = reserve.asset.token.call("balanceOf", market.a_token(symbol).address, block=at)
        assert term["available_liquidity"] <= cash
        if market.version == "3.6":
            assert term["deficit"] == market.deficit(symbol, at)
            assert term["virtual_underlying"] == market.pool.call("getVirtualUnderlyingBalance", where, block=at)
        price = reading.one(Price, asset=asset)
        assert (price.raw, price.exp, price.quote) == (market.oracle.call("getAssetPrice", where, block=at), 8, USD)
        claim = reading.one(Claim, underlying=asset)
        assert address_of(claim.asset) == market.a_token(symbol).address.lower()
        assert (claim.num, claim.den, claim.kind, claim.market) == (1, 1, "receipt", reading.where.id)
        for side, token in (("supply", market.a_token(symbol)), ("debt", market.debt_token(symbol))):
            index, total = (reading.one(kind, asset=asset, side=side) for kind in (Index, Total))
            amount = mul_div(total.raw, index.num, index.den, index.rounding)
            assert amount == token.call("totalSupply", block=at)
    if market.version == "3.6":
        assert any(t.raw for t in reading.of(Term, key="deficit"))
        assert sum(r.raw for r in reading.of(Term, key="liquidation_allowed")) == 1


@pytest.mark.parametrize("chain", CHAINS)
async def test_incremental_read_equals_full_read(world: World, chain: int) -> None:
    before = await reading_of(world, chain)
    market, node = world.aave[chain], world.chains[chain]
    fresh, receiver = node.accounts[7], node.accounts[8]
    weth, usdc = market.asset("WETH"), market.asset("USDC")
    market.supply(fresh, "WETH", weth.raw(3))
    market.borrow(fresh, "USDC", usdc.raw(100))
    market.a_token("WETH").send("transfer", receiver, weth.raw(0.5), sender=fresh)  # never calls the pool itself
    market.set_emode(receiver, 1)
    market.supply(receiver, "WETH", 12_345)
    market.use_as_collateral(receiver, "WETH", False)
    market.pool.send("mintToTreasury", [r.asset.address for r in market.reserves.values()])
    repaid = next(a for a in before.accounts if a.side("debt") and a.holder in map(str.lower, world.wallets))
    debt = next(leg for leg in repaid.side("debt"))
    symbol = before.one(Asset, id=debt.asset).symbol
    market.asset(symbol).provide(repaid.holder, market.pool, debt.amount * 2)
    market.repay(repaid.holder, symbol)
    people = {w.lower(): w for w in world.wallets}
    pledged = next(r for r in before.of(Exposure, side="supply") if r.holder in people)
    pledgeable = before.one(Asset, id=pledged.asset).symbol
    market.use_as_collateral(people[pledged.holder], pledgeable, True)  # moves no token
    node.warp(3 * DAY)
    full = await assert_incremental(ADAPTER, node, before)
    assert_equals_the_pool(market, full)
    assert_reconciles(full)
    held = full.of(Exposure, holder=receiver.lower())
    assert [row.side for row in held] == ["supply"]
    assert full.one(AccountTerm, holder=receiver.lower()).raw == 1
    assert full.one(Exposure, holder=pledged.holder, asset=pledged.asset, side="collateral")


async def test_an_account_liquidated_into_deficit_is_read_again(world: World) -> None:
    """3.6 burns debts in other reserves too, and the treasury and the liquidator receive aTokens."""
    market, node = world.aave[1], world.chains[1]
    user, liquidator = node.accounts[7], node.accounts[8]
    market.supply(user, "WETH", market.asset("WETH").raw(10))
    market.borrow(user, "USDC", market.asset("USDC").raw(8_000))
    market.borrow(user, "DAI", market.asset("DAI").raw(4_000))
    before = await reading_of(world, 1)
    market.asset("WETH").set_price(700)
    wrapped = world.vaults["waUSDC"].token
    rate = wrapped.call("convertToAssets", 10**18)
    done = market.liquidate(liquidator, user, "WETH", "USDC", receive_a_token=True)
    assert done.deficits
    assert wrapped.call("convertToAssets", 10**18) >= rate  # `rules.LendingRule.rate_ignores_losses`
    full = await assert_incremental(ADAPTER, node, before)
    assert not full.of(Exposure, holder=user.lower(), side="debt")
    assert_equals_the_pool(market, full)
    assert_reconciles(full)


async def test_an_emode_category_of_v30_may_have_a_price_of_its_own(devnet_tools: Toolchain, chain: Chain) -> None:
    feed = deploy_feed(devnet_tools, chain, "ETH / USD for the category", 1_999.5)
    emodes = [
        EMode(1, "own price", 8_800, 9_000, 10_300, ("WETH", "WBTC"), feed=feed),
        EMode(7, "a second one", 9_000, 9_300, 10_200, ("USDC",)),
    ]
    market = aave_v30.deploy(devnet_tools, chain, standard_reserves(devnet_tools, chain), emodes)
    market.oracle.send("setAssetSources", [feed.address], [feed.address])  # the category's source is asked as an asset
    inside, outside = chain.accounts[1:3]
    market.supply(chain.accounts[3], "WBTC", market.asset("WBTC").raw(1))
    for user in (inside, outside):
        market.supply(user, "WETH", market.asset("WETH").raw(2))
        market.supply(user, "USDC", market.asset("USDC").raw(1_000))
    market.set_emode(inside, 1)
    market.supply(chain.accounts[4], "USDC", market.asset("USDC").raw(1_000))
    market.set_emode(chain.accounts[4], 7)
    market.borrow(chain.accounts[4], "USDC", market.asset("USDC").raw(880))  # more than without the category
    for user in (inside, outside):
        market.borrow(user, "WBTC", market.asset("WBTC").raw(0.01))
    reading = await read(ADAPTER, chain, at_address("aave_v3", 1, market.addresses))
    assert_equals_the_pool(market, reading)
    assert reading.one(Term, scope="emode:1", key="price").raw == 199_950_000_000
    accounts = {a.holder: rules.get(a.rule).judge(a).collateral for a in reading.accounts}  # type: ignore[union-attr]
    assert accounts[inside.lower()] < accounts[outside.lower()]


@pytest.mark.parametrize("version", ["3.0", "3.6"])
async def test_a_dropped_reserve_leaves_its_bit_empty(version: str, devnet_tools: Toolchain, chain: Chain) -> None:
    """An asset's bit in user and e-mode bitmaps is its id, which after a drop is not its place in the list."""
    first, *others = standard_reserves(devnet_tools, chain)
    gone = replace(first, asset=deploy_asset(devnet_tools, chain, "GONE", 18, 1))
    emodes = [EMode(1, "majors", 9_000, 9_300, 10_100, ("WETH", "WBTC"), ("WETH",))]
    deploy = aave_v30.deploy if version == "3.0" else aave_v36.deploy
    market = deploy(devnet_tools, chain, [gone, first, *others], emodes)
    market.configurator.send("dropReserve", gone.asset.address)
    inside, outside = chain.accounts[1:3]
    for user in (inside, outside):
        market.supply(user, "WETH", market.asset("WETH").raw(2))
        market.supply(user, "WBTC", market.asset("WBTC").raw(0.1))
        market.use_as_collateral(user, "WBTC", user == inside)
        market.borrow(user, "WETH", market.asset("WETH").raw(0.5))
    market.set_emode(inside, 1)
    reading = await read(ADAPTER, chain, at_address("aave_v3", 1, market.addresses))
    assert [r.raw for r in reading.of(Term, key="reserve_id")] == [1, 2, 3]
    assert_equals_the_pool(market, reading)
    assert market.account(inside).threshold_bps == 9_300


async def test_debt_at_a_stable_rate_is_a_gap_with_its_size(devnet_tools: Toolchain, chain: Chain) -> None:
    market = aave_v30.deploy(devnet_tools, chain, standard_reserves(devnet_tools, chain))
    usdc, user = market.asset("USDC"), chain.accounts[1]
    market.supply(chain.accounts[2], "USDC", usdc.raw(1_000_000))
    market.supply(user, "WETH", market.asset("WETH").raw(10))
    market.configurator.send("setReserveStableRateBorrowing", usdc.address, True)
    market.pool.send("borrow", usdc.address, usdc.raw(50), 1, 0, user, sender=user)
    chain.warp(DAY)
    reading = await read(ADAPTER, chain, at_address("aave_v3", 1, market.addresses))
    gap = reading.one(Gap)
    tokens = market.data_provider.call("getReserveTokensAddresses", usdc.address)
    owed = chain.at(tokens[1], market.debt_token("USDC").abi).call("balanceOf", user, block=reading.at.hash)
    assert (gap.subject, gap.reason, gap.accounts) == (f"{reading.where.id}#{user.lower()}", "unread", 1)
    assert gap.detail.startswith(f"{owed} raw of {erc20(1, usdc.address)}")
    assert owed > usdc.raw(50)


async def test_a_reserve_without_a_price_costs_only_its_own_rows(world: World) -> None:
    full = await reading_of(world, 1)
    world.aave[1].asset("CRV").feed.send("set", 0)  # the oracle then asks its fallback, which is no contract
    reading = await reading_of(world, 1)
    asset = erc20(1, world.aave[1].asset("CRV").address)
    gap = reading.one(Gap)
    assert (gap.subject, gap.reason) == (asset, "no_price")
    assert not reading.of(Price, asset=asset)
    assert reading.of(Exposure) == full.of(Exposure)
    assert len(reading.of(Price)) == len(full.of(Price)) - 1


@pytest.mark.parametrize("chain", CHAINS)
async def test_a_reserve_that_the_oracle_prices_at_zero_counts_for_nothing(world: World, chain: int) -> None:
    market = world.aave[chain]
    market.price_at_zero("WBTC")
    reading = await reading_of(world, chain)
    assert reading.one(Price, asset=erc20(chain, market.asset("WBTC").address)).raw == 0
    assert not reading.of(Gap)
    assert_equals_the_pool(market, reading)
    assert any(leg.price and not leg.price.raw for account in reading.accounts for leg in account.legs)


@pytest.mark.parametrize("chain", CHAINS)
async def test_a_price_made_of_a_rate_says_so(world: World, chain: int) -> None:
    """Every call of this feed answers 2,345 dollars: latestAnswer, and RATIO_PROVIDER as CAPO's adapters have it."""
    weth = world.aave[chain].asset("WETH")
    code = "0x65" + (2_345 * 10**8).to_bytes(6, "big").hex() + "5f5260205ff3"
    world.chains[chain].rpc("anvil_setCode", weth.feed.address, code)
    world.chains[chain].mine()
    reading = await reading_of(world, chain)
    paths = {p.asset: p.path for p in reading.of(Price)}
    assert {asset for asset, path in paths.items() if path == "rate"} == {erc20(chain, weth.address)}
    assert set(paths.values()) == {"rate", "feed"}
    assert reading.one(Price, asset=erc20(chain, weth.address)).raw == 2_345 * 10**8


@pytest.mark.parametrize(
    ("feed", "ratio", "snapshot", "growth"),
    [
        ("CappedRateFeed", 1_228_500_000_000_000_000, 1_157_200_000_000_000_000, 10_000_000_000),  # it binds
        ("CappedRateFeed", 1_180_000_000_000_000_000, 1_179_000_000_000_000_000, 10**15),
        ("ScaledCappedRateFeed", 1_180_000_000_000_000_000, 1_173_035_200_000_000_000, 0),
    ],
)
async def test_a_cap_on_a_rate_comes_with_what_it_is_made_of(
    world: World, feed: str, ratio: int, snapshot: int, growth: int
) -> None:
    """min(ratio, snapshot + growth * seconds since) * base price, to the last unit of the contract's answer."""
    chain, weth = world.chains[1], world.aave[1].asset("WETH")
    at_s, base = chain.block()["timestamp"] - 40 * DAY, 2_000 * 10**8
    ours = world.uniswap.tools.build("ours")  # type: ignore[union-attr]
    made = chain.deploy(ours[feed], ratio, snapshot, at_s, growth, base)
    chain.rpc("anvil_setCode", weth.feed.address, chain.rpc("eth_getCode", made.address, "latest"))
    chain.mine()
    reading = await reading_of(world, 1)
    asset = erc20(1, weth.address)
    terms = {t.key: t for t in reading.of(Term, asset=asset)}
    places = 24 if feed.startswith("Scaled") else 18
    told = {key: (terms[key].raw, terms[key].exp) for key in ("ratio", "ratio_snapshot", "ratio_snapshot_s")}
    assert told == {"ratio": (ratio, 18), "ratio_snapshot": (snapshot, 18), "ratio_snapshot_s": (at_s, 0)}
    assert (terms["ratio_growth_per_s"].raw, terms["ratio_growth_per_s"].exp) == (growth * 10 ** (places - 18), places)
    cap = snapshot + growth * (reading.at.time_s - at_s)
    price = reading.one(Price, asset=asset)
    assert (price.path, price.raw) == ("rate", min(ratio, cap) * base // 10**18)
    assert not reading.of(Gap)
    assert_sources(reading, chain)


PROVIDER, POOL, ORACLE, HOLDER = ("0x" + digit * 40 for digit in "1234")


def strange_pool(revision: int) -> FakeView:
    view = FakeView()
    for getter, answer in (("getPool", POOL), ("getPriceOracle", ORACLE), ("getPriceOracleSentinel", "0x" + "0" * 40)):
        view.answer(PROVIDER, f"{getter}()(address)", (), (answer,))
    view.answer(POOL, "POOL_REVISION()(uint256)", (), (revision,))
    view.answer(POOL, "getReservesList()(address[])", (), ([],))
    return view.log(POOL, "UserEModeSet(address indexed user,uint8 categoryId)", {"user": HOLDER, "categoryId": 1}, 5)


async def test_an_unknown_revision_is_a_gap_and_nothing_is_guessed() -> None:
    where = at_address("aave_v3", 1, {"pool_addresses_provider": PROVIDER})
    reading = await read_view(ADAPTER, strange_pool(12), where)
    assert [type(r) for r in reading.rows] == [Market, Gap, Gap]
    assert reading.rows[0].rule == "aave_v3@unknown"  # type: ignore[union-attr]
    assert rules.get("aave_v3@unknown") is None
    gap: Any = reading.rows[1]
    assert (gap.subject, gap.reason, gap.accounts) == (where.id, "unknown_version", 1)
    own: Any = reading.rows[2]  # by it the account is read again when a later version of ours knows the revision
    assert (own.subject, own.reason, own.accounts) == (f"{where.id}#{HOLDER}", "unknown_version", 0)


@pytest.mark.parametrize(
    ("revision", "version"),
    [(1, 0), (2, 0), (3, 0), (4, 1), (5, 2), (6, 2), (7, 3), (8, 4), (9, 5), (10, 6), (11, 7)],
)
async def test_the_revision_names_a_rule_that_exists(revision: int, version: int) -> None:
    """Constants of PoolInstance.sol at each tag of aave-v3-origin, and of core-v3 for 3.0."""
    view = strange_pool(revision)
    view.answer(ORACLE, "BASE_CURRENCY()(address)", (), ("0x" + "0" * 40,))
    view.answer(ORACLE, "BASE_CURRENCY_UNIT()(uint256)", (), (10**8,))
    view.function(POOL, "getEModeCategoryCollateralConfig(uint8)(uint16,uint16,uint16)", lambda _: (0, 0, 0))
    reading = await read_view(ADAPTER, view, at_address("aave_v3", 1, {"pool_addresses_provider": PROVIDER}))
    market = reading.one(Market)
    assert market.rule == f"aave_v3@3.{version}"
    assert rules.get(market.rule) is not None


@pytest.mark.parametrize("allowed", [True, False])
async def test_the_sequencers_sentinel_and_an_isolated_category_of_v37(allowed: bool) -> None:
    """Neither is on npm; interfaces of IPriceOracleSentinel.sol and IPool.sol at tag v3.7."""
    sentinel = "0x" + "5" * 40
    view = strange_pool(11).answer(PROVIDER, "getPriceOracleSentinel()(address)", (), (sentinel,))
    view.answer(sentinel, "isLiquidationAllowed()(bool)", (), (allowed,))
    view.answer(ORACLE, "BASE_CURRENCY()(address)", (), ("0x" + "9" * 40,))
    view.answer(ORACLE, "BASE_CURRENCY_UNIT()(uint256)", (), (10**18,))
    config = (9_000, 9_300, 10_200)
    sig = "getEModeCategoryCollateralConfig(uint8)(uint16,uint16,uint16)"
    view.function(POOL, sig, lambda i: config if i == 200 else (0, 0, 0))
    for name, bits in (("Collateral", 5), ("Borrowable", 6), ("Ltvzero", 4)):
        view.answer(POOL, f"getEModeCategory{name}Bitmap(uint8)(uint128)", (200,), (bits,))
    view.answer(POOL, "getIsEModeCategoryIsolated(uint8)(bool)", (200,), (True,))
    reading = await read_view(ADAPTER, view, at_address("aave_v3", 1, {"pool_addresses_provider": PROVIDER}))
    assert reading.one(Term, key="liquidation_allowed").raw == allowed
    assert reading.one(Term, key="base_unit_exp").raw == 18
    assert {t.key: t.raw for t in reading.of(Term, scope="emode:200")} == {
        "ltv_bps": 9_000, "liquidation_threshold_bps": 9_300, "liquidation_bonus_bps": 10_200,
        "collateral_bitmap": 5, "borrowable_bitmap": 6, "ltvzero_bitmap": 4, "isolated": 1,
    }  # fmt: skip
    # the one account answers nothing here, and is told apart from the market
    assert {(g.subject, g.reason, g.accounts) for g in reading.of(Gap)} == {
        (f"{reading.where.id}#{HOLDER}", "reverted", 1)
    }


async def test_a_wrong_address_says_what_to_do() -> None:
    with pytest.raises(Exception, match=r"pool_addresses_provider .*config/deployments/aave_v3\.toml"):
        await read_view(ADAPTER, FakeView(), at_address("aave_v3", 1, {"pool_addresses_provider": PROVIDER}))
