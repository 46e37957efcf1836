"""Morpho Blue read from real bytecode: totals accrued to the cut and every account equal what the contract books."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from adapters.morpho_blue import ADAPTER
from aggregator import rules
from aggregator.core.account import Account
from aggregator.core.ids import erc20
from aggregator.core.rows import Asset, Exposure, Gap, Index, Market, Price, Term, Total
from tests.adapters.reading import Reading, assert_incremental, read, sums, where_is
from tests.devnet.contract import Reverted
from tests.devnet.erc4626 import VaultShare
from tests.devnet.morpho import WAD, Morpho
from tests.devnet.tokens import ZERO_ADDRESS
from tests.devnet.worlds import World

DAY = 86_400


@pytest.fixture(autouse=True)
def markets_as_they_were(three_chains_world: World) -> Iterator[None]:
    """The chain is put back after a test; so is the kit's list of its markets."""
    before = dict(the(three_chains_world).markets)
    yield
    the(three_chains_world).markets.clear()
    the(three_chains_world).markets.update(before)


async def reading_of(world: World) -> Reading:
    return await read(ADAPTER, world.chains[1], where_is(world, "morpho_blue", 1))


def the(world: World) -> Morpho:
    assert world.morpho
    return world.morpho


def assert_reconciles(reading: Reading) -> None:
    """Supply and debt shares of all positions add up to the market's own; collateral has no total of its own."""
    totals = {key: raw for key, raw in sums(reading, Total, "raw").items() if raw}
    found = sums(reading, Exposure, "shares")
    collateral = {(r.market, r.asset, "supply") for r in reading.of(Exposure, side="collateral")}
    assert {k: v for k, v in found.items() if k not in collateral} == totals


def accrued_by_the_contract(world: World, time_s: int) -> dict[str, tuple[int, ...]]:
    """Every market's stored state after `accrueInterest` in a block of that time; undone afterwards."""
    morpho, chain = the(world), world.chains[1]
    with chain.undone():
        with chain.automine_off():
            for market in morpho.markets.values():
                data = morpho.contract.encode("accrueInterest", market.params)
                chain.rpc("eth_sendTransaction", {"from": chain.owner, "to": morpho.contract.address, "data": data,
                                                  "gas": "0x100000", "gasPrice": "0x0"})  # fmt: skip
            chain.rpc("evm_setNextBlockTimestamp", time_s)
            chain.rpc("evm_mine")
        assert chain.block()["timestamp"] == time_s
        return {market.id: tuple(morpho.state(market)) for market in morpho.markets.values()}


@pytest.mark.parametrize("elapsed_s", [1, 13, 40 * DAY, 3 * 365 * DAY])
async def test_totals_equal_the_contracts_own_accrual(world: World, elapsed_s: int) -> None:
    chain = world.chains[1]
    time_s = chain.block()["timestamp"] + elapsed_s
    theirs = accrued_by_the_contract(world, time_s)
    chain.warp(elapsed_s)
    reading = await reading_of(world)
    assert reading.at.time_s == time_s
    assert len(theirs) == len(reading.of(Market))
    for market_id, (supply_assets, supply_shares, borrow_assets, borrow_shares, _, fee) in theirs.items():
        market = f"{reading.where.id}/{market_id}"
        term = {t.key: t.raw for t in reading.of(Term, market=market)}
        assert term["total_supply_assets"] == supply_assets
        assert term["total_supply_shares"] == supply_shares
        assert term["total_borrow_assets"] == borrow_assets
        assert term["total_borrow_shares"] == borrow_shares
        assert term["fee_wad"] == fee
        # SharesMathLib: one virtual asset, 10^6 virtual shares
        supply, debt = (reading.one(Index, market=market, side=side) for side in ("supply", "debt"))
        assert (supply.num, supply.den, supply.rounding) == (supply_assets + 1, supply_shares + 10**6, "down")
        assert (debt.num, debt.den, debt.rounding) == (borrow_assets + 1, borrow_shares + 10**6, "up")
    assert any(fee for *_, fee in theirs.values())
    assert_reconciles(reading)


async def test_every_position_is_the_contracts_own(three_chains_world: World) -> None:
    """Of everybody there is, whether an event named him to us or not."""
    morpho, reading = the(three_chains_world), await reading_of(three_chains_world)
    assert_reconciles(reading)
    assert not reading.of(Gap)
    theirs: dict[tuple[str, str, str, str], int] = {}
    for market in morpho.markets.values():
        name = f"{reading.where.id}/{market.id}"
        loan, collateral = erc20(1, market.loan.address), erc20(1, market.collateral.address)
        for who in {*three_chains_world.wallets, *three_chains_world.chains[1].accounts}:
            held = morpho.position(market, who, reading.at.hash)
            for side, asset, raw in (
                ("supply", loan, held.supply_shares), ("debt", loan, held.borrow_shares),
                ("collateral", collateral, held.collateral),
            ):  # fmt: skip
                theirs |= {(name, who.lower(), side, asset): raw} if raw else {}
        price = reading.one(Price, market=name)
        assert price.raw == market.oracle.call("price", block=reading.at.hash)
        assert price.exp == 36 + market.loan.decimals - market.collateral.decimals
        assert price.path == ("rate" if isinstance(market.collateral, VaultShare) else "feed")
    assert {(r.market, r.holder, r.side, r.asset): r.shares for r in reading.of(Exposure)} == theirs
    assert min(theirs.values()) < 1_000


async def test_collateral_and_cash_are_what_the_contract_holds(three_chains_world: World) -> None:
    """Morpho keeps no total of collateral; the token's balance is one: all collateral, and what is lent but not out."""
    morpho, reading = the(three_chains_world), await reading_of(three_chains_world)
    ours: Counter[str] = Counter()
    for row in reading.of(Exposure, side="collateral"):
        ours[row.asset] += row.shares
    for market in morpho.markets.values():
        term = {t.key: t.raw for t in reading.of(Term, market=f"{reading.where.id}/{market.id}")}
        ours[erc20(1, market.loan.address)] += term["total_supply_assets"] - term["total_borrow_assets"]
    for asset in {a for m in morpho.markets.values() for a in (m.loan, m.collateral)}:
        held = asset.token.call("balanceOf", morpho.contract.address, block=reading.at.hash)
        assert ours[erc20(1, asset.address)] == held, asset.symbol
    assert len(ours) > 5


@pytest.mark.parametrize("seed", range(2))
async def test_the_contract_agrees_on_who_can_be_liquidated(world: World, seed: int) -> None:
    """`liquidate` checks health before it moves a token: only a healthy position is refused for being healthy."""
    rng, morpho, chain = random.Random(seed), the(world), world.chains[1]
    for symbol in ("WETH", "WBTC", "wstETH"):
        asset = world.assets[1][symbol]
        asset.set_price(asset.price_usd_e8 / 1e8 * rng.uniform(0.8, 1.1))
    chain.warp(rng.randint(1, 100 * DAY))
    reading = await reading_of(world)
    verdicts = set()
    for account in reading.accounts:
        if account.side("debt"):
            rule = rules.get(account.rule)
            assert rule
            ours = rule.judge(account).liquidatable
            params = next(m.params for m in morpho.markets.values() if account.market.endswith(m.id))
            with pytest.raises(Reverted) as refused:
                morpho.contract.call("liquidate", params, account.holder, 1, 0, b"", block=reading.at.hash)
            assert ours == ("position is healthy" not in str(refused.value)), account
            verdicts.add(ours)
    assert verdicts == {True, False}


async def test_incremental_read_equals_full_read_and_finds_every_fee_recipient(world: World) -> None:
    morpho, chain = the(world), world.chains[1]
    before = await reading_of(world)
    fee_market, plain = morpho.markets["wstETH/WETH"], morpho.markets["WBTC/USDC"]
    second, third, user = chain.accounts[6], chain.accounts[7], chain.accounts[8]
    chain.warp(5 * DAY)
    morpho.accrue(fee_market)  # shares for the first recipient
    morpho.contract.send("setFeeRecipient", second)
    chain.warp(5 * DAY)
    morpho.accrue(fee_market)
    morpho.contract.send("setFeeRecipient", third)
    chain.warp(5 * DAY)
    morpho.accrue(fee_market)
    morpho.supply_collateral(user, plain, plain.collateral.raw(2))
    morpho.borrow(user, plain, plain.loan.raw(10_000))
    debtor = next(r for r in before.of(Exposure, side="debt") if r.market.endswith(plain.id))
    morpho.repay(debtor.holder, plain, debtor.shares)
    fresh = morpho.create_market("new", plain.loan, fee_market.collateral, 0.77)
    morpho.supply(user, fresh, plain.loan.raw(5))
    chain.warp(DAY)
    full = await assert_incremental(ADAPTER, chain, before)
    assert_reconciles(full)
    market = f"{full.where.id}/{fee_market.id}"
    for recipient in (second, third):
        assert full.one(Exposure, market=market, holder=recipient.lower(), side="supply").shares
    assert not full.of(Exposure, market=debtor.market, holder=debtor.holder, side="debt")
    assert full.of(Market, market=f"{full.where.id}/{fresh.id}")


async def test_a_market_older_than_start_block_is_read_and_misses_its_older_accounts(world: World) -> None:
    morpho, chain = the(world), world.chains[1]
    plain, user = morpho.markets["WBTC/USDC"], chain.accounts[8]
    where = where_is(world, "morpho_blue", 1)._replace(start_block=chain.block()["number"] + 1)
    morpho.supply(user, plain, plain.loan.raw(5))
    reading = await read(ADAPTER, chain, where)
    market = f"{where.id}/{plain.id}"
    assert [row.market for row in reading.of(Market)] == [market]
    assert reading.one(Exposure).shares == morpho.position(plain, user).supply_shares
    missing = [gap for gap in reading.snapshot.gaps if gap.reason == "unlisted_accounts"]
    state = morpho.state(plain)
    assert {gap.subject for gap in missing} == {market}
    assert {int(gap.detail.split(" ")[0]) for gap in missing} == {
        state.supply_shares - reading.one(Exposure).shares,
        state.borrow_shares,
    }


async def test_each_event_alone_names_its_account(world: World) -> None:
    """One act an account since the last run; whoever else is named in the event is a stranger to Morpho."""
    morpho, chain, strangers = the(world), world.chains[1], iter("0x" + f"{n:02x}" * 20 for n in range(0x51, 0x60))
    before = await reading_of(world)
    params = {f"{before.where.id}/{m.id}": m.params for m in morpho.markets.values()}
    people, acted = {w.lower(): w for w in world.wallets}, Counter[str]()

    def act(account: Account, name: str, *arguments: object) -> None:
        who = people.pop(account.holder)  # everybody acts once
        morpho.contract.send(name, params[account.market], *arguments, sender=who)
        acted[name] += 1

    for account in before.accounts:
        if account.holder not in people:
            continue
        who, judged = people[account.holder], rules.get(account.rule).judge(account)  # type: ignore[union-attr]
        if account.side("debt"):
            if judged.liquidatable and account.side("collateral"):
                if not acted["liquidate"]:
                    del people[account.holder]
                    (market,) = (m for m in morpho.markets.values() if account.market.endswith(m.id))
                    morpho.liquidate(chain.accounts[2], market, who, seize=1)
                    acted["liquidate"] += 1
            elif judged.health_factor > 2 * WAD and not acted["borrow"]:
                act(account, "borrow", 10, 0, who, next(strangers))
        elif account.side("supply") and not acted["withdraw"]:
            act(account, "withdraw", 10, 0, who, next(strangers))
        elif account.side("collateral") and not acted["withdrawCollateral"]:
            act(account, "withdrawCollateral", 1, who, next(strangers))
    market, payer = morpho.markets["WBTC/USDC"], chain.accounts[7]
    market.collateral.provide(payer, morpho.contract, 7)
    market.loan.provide(payer, morpho.contract, 10**9)
    pledged, lender = next(strangers), next(strangers)
    morpho.contract.send("supplyCollateral", market.params, 7, pledged, b"", sender=payer)
    morpho.contract.send("supply", market.params, 10**6, 0, lender, b"", sender=payer)
    debtor = next(r for r in before.of(Exposure, side="debt") if r.market.endswith(market.id) and r.holder in people)
    morpho.contract.send("repay", market.params, 10, 0, people[debtor.holder], b"", sender=payer)
    assert set(acted) == {"liquidate", "borrow", "withdraw", "withdrawCollateral"}
    full = await assert_incremental(ADAPTER, chain, before)
    assert full.one(Exposure, holder=pledged).shares == 7
    assert full.one(Exposure, holder=lender).side == "supply"
    assert_reconciles(full)


async def test_fee_shares_before_any_recipient_belong_to_the_zero_address(world: World) -> None:
    morpho, chain = the(world), world.chains[1]
    market = morpho.markets["wstETH/WETH"]
    morpho.contract.send("setFeeRecipient", ZERO_ADDRESS)
    chain.warp(30 * DAY)
    morpho.accrue(market)
    reading = await reading_of(world)
    assert_reconciles(reading)
    assert reading.one(Exposure, market=f"{reading.where.id}/{market.id}", holder=ZERO_ADDRESS).side == "supply"


async def test_a_market_without_rate_model_earns_nothing(world: World) -> None:
    morpho, chain = the(world), world.chains[1]
    usdc, wbtc = world.assets[1]["USDC"], world.assets[1]["WBTC"]
    lltv = 86 * WAD // 100
    params = (usdc.address, wbtc.address, morpho.markets["WBTC/USDC"].oracle.address, ZERO_ADDRESS, lltv)
    morpho.contract.send("enableIrm", ZERO_ADDRESS)
    receipt = morpho.contract.send("createMarket", params)
    (event,) = morpho.contract.events(receipt, "CreateMarket")
    usdc.provide(chain.owner, morpho.contract, usdc.raw(1_000))
    morpho.contract.send("supply", params, usdc.raw(1_000), 0, chain.owner, b"")
    wbtc.provide(chain.owner, morpho.contract, wbtc.raw(1))
    morpho.contract.send("supplyCollateral", params, wbtc.raw(1), chain.owner, b"")
    morpho.contract.send("borrow", params, usdc.raw(600), 0, chain.owner, chain.owner)
    chain.warp(300 * DAY)
    reading = await reading_of(world)
    market = f"{reading.where.id}/0x{bytes(event['id']).hex()}"
    account = next(a for a in reading.accounts if (a.market, a.holder) == (market, chain.owner.lower()))
    assert {leg.side: leg.amount for leg in account.legs} == {
        "supply": usdc.raw(1_000), "debt": usdc.raw(600), "collateral": wbtc.raw(1)
    }  # fmt: skip


@pytest.mark.parametrize("hostile", ["RevertingToken", "GasBurner", "huge price", "no code"])
async def test_a_bad_oracle_costs_one_price(world: World, hostile: str) -> None:
    morpho, chain = the(world), world.chains[1]
    before = await reading_of(world)
    if hostile == "huge price":
        oracle = morpho.settable_oracle(2**256 - 1)
    elif hostile == "no code":
        oracle = chain.at("0x" + "ab" * 20, [])
    else:
        oracle = chain.deploy(morpho.tools.build("ours")[hostile])
    usdc, wbtc = world.assets[1]["USDC"], world.assets[1]["WBTC"]
    market = morpho.create_market(hostile, usdc, wbtc, 0.86, oracle=oracle)
    reading = await reading_of(world)
    gap = reading.one(Gap)
    assert (gap.subject, gap.reason) == (erc20(1, wbtc.address), "no_price")
    name = f"{reading.where.id}/{market.id}"
    assert not reading.of(Price, market=name)
    assert name in gap.detail
    assert reading.of(Index, market=name, side="debt")
    assert reading.of(Exposure) == before.of(Exposure)
    assert len(reading.of(Price)) == len(before.of(Price))


async def test_an_oracle_that_answers_zero_prices_at_zero_as_the_contract_does(world: World) -> None:
    morpho, user = the(world), world.wallets[0]
    usdc, wbtc = world.assets[1]["USDC"], world.assets[1]["WBTC"]
    oracle = morpho.settable_oracle(10**36 * 400)
    market = morpho.create_market("fallen", usdc, wbtc, 0.86, oracle=oracle)
    morpho.supply(world.chains[1].accounts[1], market, usdc.raw(1_000))
    morpho.supply_collateral(user, market, wbtc.raw(1))
    morpho.borrow(user, market, usdc.raw(100))
    oracle.send("setPrice", 0)
    reading = await reading_of(world)
    name = f"{reading.where.id}/{market.id}"
    price = reading.one(Price, market=name)
    assert (price.asset, price.raw) == (erc20(1, wbtc.address), 0)
    assert price.src
    assert not reading.of(Gap)
    (account,) = (a for a in reading.accounts if a.market == name and a.side("debt"))
    rule = rules.get(account.rule)
    assert rule
    judged = rule.judge(account)
    assert (judged.health_factor, judged.liquidatable) == (0, True)


async def test_a_reverting_rate_model_leaves_the_amounts_unknown(world: World) -> None:
    """With debt outstanding nothing in that market can move, and what it owes at the cut cannot be said."""
    morpho, chain = the(world), world.chains[1]
    chain.rpc(
        "anvil_setCode", morpho.irm.address,
        chain.rpc("eth_getCode", chain.deploy(morpho.tools.build("ours")["RevertingToken"]).address, "latest"),
    )  # fmt: skip
    reading = await reading_of(world)
    without = {gap.subject for gap in reading.of(Gap, reason="reverted")}
    assert without == {m.market for m in reading.of(Market)}
    borrowed = {t.market for t in reading.of(Total, side="debt") if t.raw}
    assert borrowed
    assert not borrowed & {i.market for i in reading.of(Index, side="debt")}
    account = next(a for a in reading.accounts if a.market in borrowed and a.side("debt"))
    assert all(leg.price is None for leg in account.side("debt"))


async def test_an_oracle_without_any_feed_is_constant(world: World) -> None:
    """Every part of a MorphoChainlinkOracleV2 that is not set is the zero address; its price then never moves."""
    morpho, chain = the(world), world.chains[1]
    oracle = morpho.settable_oracle(10**36)
    price = "".join(("7f", (10**36).to_bytes(32, "big").hex(), "5f5260205ff3"))
    # price() (0xa035b1fe) answers 10^36, any other call 0
    dispatch = "5f3560e01c63a035b1fe14601557" + "60205ff3" + "00" * 3 + "5b" + price
    chain.rpc("anvil_setCode", oracle.address, "0x" + dispatch)
    assert oracle.call("price") == 10**36
    usdc, dai = world.assets[1]["USDC"], world.assets[1]["DAI"]
    market = morpho.create_market("hard-coded", usdc, dai, 0.86, oracle=oracle)
    reading = await reading_of(world)
    row = reading.one(Price, market=f"{reading.where.id}/{market.id}")
    assert (row.path, row.raw) == ("constant", 10**36)


async def test_hostile_tokens_are_named_and_do_not_stop_the_run(world: World) -> None:
    morpho, chain = the(world), world.chains[1]
    ours = morpho.tools.build("ours")
    old = chain.deploy(ours["Bytes32Token"], b"Old Maker".ljust(32, b"\0"), b"MKR".ljust(32, b"\0"))
    many, none = chain.deploy(ours["Token"], "Many", "MANY", 77), chain.deploy(ours["RevertingToken"])
    whole = chain.deploy(ours["Token"], "Whole", "WHOLE", 0)
    usdc, oracle = world.assets[1]["USDC"].address, morpho.settable_oracle(10**36)
    lltv = 77 * WAD // 100
    for token in (old, whole, many, none):
        morpho.contract.send("createMarket", (usdc, token.address, oracle.address, morpho.irm.address, lltv))
    reading = await reading_of(world)
    found = {r.id: r for r in reading.of(Asset)}
    assert found[erc20(1, old.address)][1:3] == ("MKR", 18)
    assert found[erc20(1, whole.address)].decimals == 0
    assert found[erc20(1, many.address)].decimals == -1
    assert found[erc20(1, none.address)].decimals == -1
    gaps = {(g.subject, g.reason) for g in reading.of(Gap)}
    assert gaps == {(erc20(1, t.address), "bad_decimals") for t in (many, none)}
    exps = {p.asset: p.exp for p in reading.of(Price)}
    assert [exps.get(erc20(1, t.address)) for t in (old, whole, many, none)] == [36 + 6 - 18, 36 + 6, None, None]


async def test_a_market_that_lends_nothing_does_not_stop_the_run(world: World) -> None:
    """Anybody may create one: Morpho checks neither token."""
    morpho = the(world)
    before = await reading_of(world)
    weth, oracle = world.assets[1]["WETH"].address, morpho.settable_oracle(10**36)
    for collateral in (ZERO_ADDRESS, weth):
        params = (ZERO_ADDRESS, collateral, oracle.address, morpho.irm.address, 77 * WAD // 100)
        morpho.contract.send("createMarket", params)
    reading = await reading_of(world)
    assert [(g.reason, g.accounts) for g in reading.of(Gap)] == [("no_code", 0)] * 2
    assert reading.of(Exposure) == before.of(Exposure)
    assert len(reading.of(Market)) == len(before.of(Market)) + 2


async def test_interest_that_the_contract_could_not_book_is_not_invented(world: World) -> None:
    """A rate model that answers 2^255: `_accrueInterest` would revert on uint128."""
    morpho, chain = the(world), world.chains[1]
    absurd = morpho.settable_oracle(2**255)
    code = "0x600160ff1b60005260206000f3"  # returns 1 << 255 whatever is asked
    chain.rpc("anvil_setCode", morpho.irm.address, code)
    assert int.from_bytes(chain.eth_call(morpho.irm.address, "0x"), "big") == absurd.call("price")
    reading = await reading_of(world)
    borrowed = {t.market for t in reading.of(Total, side="debt") if t.raw}
    assert {g.subject for g in reading.of(Gap)} == borrowed
    assert not borrowed & {i.market for i in reading.of(Index, side="debt")}
