"""Perp Curie read from its own bytecode: every account judged by our rows equals the clearing house to the unit."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from adapters.perp_curie import ACCOUNT, ADAPTER, EVENTS, PARTS
from aggregator.core.account import Account
from aggregator.core.block import BlockRef, Cut
from aggregator.core.errors import SourceError
from aggregator.core.ids import USD, erc20
from aggregator.core.rows import AccountTerm, Backstop, Exposure, Gap, Market, PerpPosition, Price, Term
from aggregator.core.table import raw_tables
from aggregator.rules.perp_curie import PerpCurie
from aggregator.sdk.testing import FakeView, discover
from aggregator.snapshot.accounts import accounts
from aggregator.snapshot.snapshot import build
from tests.adapters.reading import (
    Reading,
    assert_incremental,
    at_address,
    read,
    where_is,
)
from tests.devnet.crowds_derivatives import PerpPeople
from tests.devnet.perp import Perp
from tests.devnet.tokens import Asset, deploy_asset, deploy_feed
from tests.devnet.worlds import World

RULE, WAD, DAY = PerpCurie(), 10**18, 86_400
DEPOSITED = EVENTS["vault"][0]


def the(world: World) -> Perp:
    assert world.perp
    return world.perp


async def reading_of(world: World) -> Reading:
    return await read(ADAPTER, world.chains[10], where_is(world, "perp_curie", 10))


def assert_judged_as_by_the_contracts(house: Perp, reading: Reading) -> Counter[bool]:
    """Account value, requirement and verdict of every trader; those without rows are worth nothing."""
    at, verdicts = reading.at.hash, Counter[bool]()
    accounts = {account.holder: account for account in reading.accounts}
    for target in reading.where.targets:
        value = house.clearing_house.call("getAccountValue", target.holder, block=at)
        required = house.account_balance.call("getMarginRequirementForLiquidation", target.holder, block=at)
        account = accounts.get(target.holder)
        if account is None:  # it holds and owes nothing
            assert not reading.of(AccountTerm, holder=target.holder)
            terms = {t.key: t.raw for t in reading.of(Term, asset="")}
            account = Account(reading.where.id, target.holder, RULE.name, (), terms, {}, 0)
        judged = RULE.judge(account)
        assert (judged.collateral, judged.debt) == (value, required), target.holder
        assert judged.liquidatable == (value < required)
        verdicts[judged.liquidatable] += 1
        for leg in account.side("long", "short"):
            theirs = house.account_balance.call(
                "getLiquidatablePositionSize", target.holder, leg.asset.rsplit(":")[-1], value, block=at
            )
            assert RULE.liquidatable_size(account, leg.asset) == theirs
    return verdicts


async def test_every_account_is_judged_as_by_the_contracts(three_chains_world: World) -> None:
    house, reading = the(three_chains_world), await reading_of(three_chains_world)
    verdicts = assert_judged_as_by_the_contracts(house, reading)
    assert verdicts[True]
    assert verdicts[False] > 15
    assert not reading.of(Gap)
    makers = {t.holder for t in reading.of(AccountTerm, key="has_order")}
    assert len(makers & {p.holder for p in reading.of(PerpPosition)}) > 1
    assert reading.of(AccountTerm, key="pending_funding")
    assert reading.of(AccountTerm, key="pending_fee")


async def test_every_position_is_the_contracts_own(three_chains_world: World) -> None:
    """Sizes of a market add up to nothing: what one is long another is short, but for what the pool rounds away."""
    house, reading = the(three_chains_world), await reading_of(three_chains_world)
    at, sums, seen = reading.at.hash, Counter[str](), 0
    world, fund = three_chains_world, house.insurance_fund.address.lower()
    everybody = {fund, *map(str.lower, (*world.wallets, *world.chains[10].accounts))}  # named by an event or not
    assert {t.holder for t in reading.where.targets} <= everybody
    for who in everybody:
        held = house.vault.call("getBalance", who, block=at)
        assert [r.shares for r in reading.of(Exposure, holder=who)] == ([held] if held > 0 else [])
    for symbol, base in house.bases.items():
        asset = erc20(10, base.token.address)
        for who in everybody:
            size = house.size(who, symbol, at)
            notional = house.account_balance.call("getTotalOpenNotional", who, base.token.address, block=at)
            rows = [(r.size, r.open_notional) for r in reading.of(PerpPosition, holder=who, asset=asset)]
            assert rows == ([(size, notional)] if size or notional else [])
            sums[symbol] += size
            seen += len(rows)
        assert abs(sums[symbol]) < 1_000, "wei of base"
    assert seen > 15
    assert len({r.size > 0 for r in reading.of(PerpPosition)}) == 2


async def test_market_rows_are_the_contracts(three_chains_world: World) -> None:
    house, reading = the(three_chains_world), await reading_of(three_chains_world)
    at = reading.at.hash
    assert reading.one(Market).market == reading.where.id
    for base in house.bases.values():
        asset = erc20(10, base.token.address)
        price = reading.one(Price, asset=asset)
        assert price.raw == house.account_balance.call("getMarkPrice", base.token.address, block=at)
        assert (price.path, price.quote, price.exp) == ("mark", USD, 18)
        interval_s = house.config.call("getTwapInterval", block=at)
        index = base.token.call("getIndexPrice", interval_s, block=at)
        assert reading.one(Term, asset=asset, key="index_price").raw == index != price.raw
        info = house.market_registry.read("getMarketInfo", base.token.address, block=at)
        assert reading.one(Term, asset=asset, key="exchange_fee_pips").raw == info["exchangeFeeRatio"]
    capacity = house.insurance_fund.call("getInsuranceFundCapacity", block=at)
    settlement = erc20(10, house.collateral.address)
    fund = reading.one(Backstop)
    assert (fund.raw, fund.asset, fund.rank) == (capacity, settlement, 0)
    assert capacity > 0
    terms = {t.key: t.raw for t in reading.of(Term, asset="")}
    assert terms["insurance_fund_capacity"] == capacity
    ratios = ("getImRatio", "getMmRatio", "getLiquidationPenaltyRatio")
    keys = ("im_ratio_pips", "mm_ratio_pips", "liquidation_penalty_pips")
    assert [terms[key] for key in keys] == [house.config.call(name, block=at) for name in ratios]


@pytest.mark.parametrize("key", ["settlement_balance", "owed_realized_pnl", "pending_fee"])
def test_an_account_that_only_owes_is_an_account(key: str) -> None:
    """Closed out below zero: no position, no margin, a debt to the house."""
    at = BlockRef("eip155:10", 5, "0x" + "11" * 32, 1_750_000_000, "finalized")
    market, who = "eip155:10/perp_curie/test", "0x" + "22" * 20
    term = AccountTerm(market, who, "", key, -(10**20))
    rows = [(market, Market(market, "perp", RULE.name, "Curie")), (market, term), (market, term._replace(key="order"))]
    for name, raw in (("settlement_decimals", 18), ("mm_ratio_pips", 62_500)):
        rows.append((market, Term(market, "", "", name, raw, 0)))
    (account,) = accounts(build(raw_tables(rows), Cut.of([at]), []))
    assert (account.holder, account.legs, account.own[key]) == (who, (), -(10**20))
    judged = RULE.judge(account)
    assert (judged.collateral, judged.debt, judged.liquidatable) == (-(10**20), 0, True)


@pytest.mark.parametrize("seed", range(2))
async def test_prices_funding_and_trades_move_and_we_still_agree(world: World, seed: int) -> None:
    house, rng = the(world), random.Random(seed)
    crowd, trader = PerpPeople(house, rng), world.chains[10].accounts[6]
    crowd.fall(trader, {"ETH": rng.uniform(1_500, 1_700), "BTC": rng.uniform(33_000, 42_000)})
    house.trade(trader, "BTC", rng.choice((-1, 1)) * 250_000)
    world.chains[10].warp(rng.randint(1, 3_000))
    reading = await reading_of(world)
    assert len(assert_judged_as_by_the_contracts(house, reading)) == 2


def list_collateral(world: World, house: Perp) -> Asset:
    """A token of 18 decimals worth $1.85 that counts at 70 %."""
    chain, tools = world.chains[10], house.tools
    token = deploy_asset(tools, chain, "OP", 18, 1.85)
    feed = deploy_feed(tools, chain, "OP / USD", 1.85)
    source = chain.deploy(tools.artifact("perp-oracle", "ChainlinkPriceFeedV3"), feed, 3_600, 900)
    dispatcher = chain.deploy(tools.artifact("perp-oracle", "PriceFeedDispatcher"), source)
    dispatcher.send("dispatchPrice", 900)
    manager = chain.at(house.vault.call("getCollateralManager"), tools.artifact("perp", "CollateralManager"))
    manager.send("addCollateral", token.address, (dispatcher.address, 700_000, 100_000, 10**6 * WAD))
    return token


async def test_other_collateral_counts_as_the_vault_counts_it(world: World) -> None:
    house, user = the(world), world.chains[10].accounts[8]
    token = list_collateral(world, house)
    token.provide(user, house.vault, 12_345 * WAD)
    house.vault.send("deposit", token.address, 12_345 * WAD, sender=user)
    house.trade(user, "ETH", 30_000)
    reading = await reading_of(world)
    asset = erc20(10, token.address)
    assert reading.one(Exposure, holder=user.lower()).asset == asset
    assert reading.one(Price, asset=asset) == Price(
        reading.where.id, asset, USD, 185 * 10**16, 18, "feed", 0, 0, reading.one(Price, asset=asset).src
    )
    assert reading.one(Term, asset=asset, key="collateral_ratio_pips").raw == 700_000
    account = next(a for a in reading.accounts if a.holder == user.lower())
    assert RULE.judge(account).collateral > 15_000 * WAD
    assert_judged_as_by_the_contracts(house, reading)


async def test_a_halted_market_is_judged_by_its_last_price(world: World) -> None:
    house, chain = the(world), world.chains[10]
    base = house.bases["ETH"]
    asset = erc20(10, base.token.address)
    base.token.send("pause")
    house.set_index("ETH", 1_400)
    chain.warp(100)
    reading = await reading_of(world)
    assert reading.one(Price, asset=asset).raw == base.token.call("getPausedIndexPrice")
    assert reading.one(Price, asset=asset).path == "constant"
    assert_judged_as_by_the_contracts(house, reading)
    base.token.send("close(uint256)", 1_523 * WAD)
    reading = await reading_of(world)
    assert reading.one(Price, asset=asset).raw == 1_523 * WAD
    assert_judged_as_by_the_contracts(house, reading)
    trader = next(p.holder for p in reading.of(PerpPosition, asset=asset))
    before = reading
    house.clearing_house.send("quitMarket", trader, base.token.address)
    full = await assert_incremental(ADAPTER, chain, before)
    assert not full.of(PerpPosition, asset=asset, holder=trader)


async def test_a_dead_feed_leaves_no_price_and_no_account_half_read(world: World) -> None:
    """Without a mark price nobody can be judged; without the funding view an account is a gap, not a guess."""
    house, chain = the(world), world.chains[10]
    chain.rpc("anvil_setCode", house.bases["BTC"].dispatcher.address, "0xfe")
    reading = await reading_of(world)
    asset = erc20(10, house.bases["BTC"].token.address)
    assert not reading.of(Price, asset=asset)
    assert asset in {g.subject for g in reading.of(Gap, reason="no_price")}
    hidden = {g.subject.split("#")[1] for g in reading.of(Gap) if "#" in g.subject}
    assert hidden
    assert not hidden & {row.holder for kind in (PerpPosition, Exposure) for row in reading.of(kind)}
    assert reading.of(PerpPosition), "those who are in other markets alone"


async def test_incremental_read_equals_full_read(world: World) -> None:
    """Makers' sizes and everybody's funding change without an event of theirs."""
    house, chain = the(world), world.chains[10]
    before = await reading_of(world)
    user, other = chain.accounts[8:10]
    house.deposit(user, 7_000)
    house.trade(user, "ETH", -20_000)
    house.deposit(other, 900)
    house.withdraw(other, 900 * 10**6)
    opener, saver = chain.accounts[7], world.wallets[6]  # who only deposits, and who only withdraws
    house.deposit(opener, 12)
    house.withdraw(saver, 1)
    token = list_collateral(world, house)
    token.provide(other, house.vault, 50 * WAD)
    house.vault.send("deposit", token.address, 50 * WAD, sender=other)
    people = {w.lower() for w in world.wallets}
    takers = [a for a in before.accounts if a.holder in people and not a.own.get("has_order")]
    closing = next(a for a in takers if len(a.side("long", "short")) == 1 and not RULE.judge(a).liquidatable)
    base = closing.side("long", "short")[0].asset
    symbol = next(s for s, b in house.bases.items() if erc20(10, b.token.address) == base)
    house.close(closing.holder, symbol)
    weak = [a.holder for a in takers if RULE.judge(a).liquidatable]
    PerpPeople(house, random.Random(1)).liquidate_some(weak, chain.accounts[2])
    house.advance(DAY)
    full = await assert_incremental(ADAPTER, chain, before)
    assert full.one(PerpPosition, holder=user.lower()).size < 0
    assert not full.of(PerpPosition, holder=closing.holder)
    assert full.one(Exposure, holder=opener.lower()).shares == 12 * 10**6
    maker = chain.accounts[1].lower()
    assert full.of(PerpPosition, holder=maker) != before.of(PerpPosition, holder=maker)
    assert_judged_as_by_the_contracts(house, full)


async def test_an_address_that_is_no_clearing_house_says_what_to_do(three_chains_world: World) -> None:
    house = the(three_chains_world)
    addresses = {**house.addresses, "clearing_house": house.collateral.address}
    with pytest.raises(SourceError, match=r"(?s)config/deployments/perp_curie\.toml"):
        await read(ADAPTER, three_chains_world.chains[10], at_address("perp_curie", 10, addresses))


async def test_known_traders_are_asked_once_however_many_windows() -> None:
    house, owners = f"0x{1:040x}", {"house": f"0x{1:040x}"}
    view, number = FakeView(), 2
    for owner, parts in PARTS.items():
        for part, sig in parts.items():
            owners[part], number = f"0x{number:040x}", number + 1
            view.answer(owners[owner], sig, (), (owners[part],))
    view.function(owners["balance"], ACCOUNT["bases"][1], lambda who: ((owners["token"],),))
    for block in range(1, 1001):
        view.log(owners["vault"], DEPOSITED, {"token": house, "trader": f"0x{block + 99:040x}", "amount": 1}, block)
    where = at_address("perp_curie", 1, {"clearing_house": house})
    for low in range(1, 1000, 100):
        where = await discover(ADAPTER, view.until(low + 99), where, low)
    assert len(where.targets) == 1001  # and the insurance fund
    asked = [data for to, data in view.asked if to == owners["balance"]]
    assert len(asked) == len(set(asked)) == 900  # those of the last window need not be asked
