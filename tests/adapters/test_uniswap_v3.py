"""Uniswap v3 read from real bytecode: our ticks quote what the quoter quotes, our claims pay what the pool pays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from adapters.uniswap_v3 import ADAPTER
from aggregator.core.errors import SourceError
from aggregator.core.ids import erc20, erc721
from aggregator.core.rows import Claim, Depth, Exposure, Gap, Market, Term
from aggregator.quant import uniswap_v3 as quant
from aggregator.quant.uniswap_v3_math import MAX_TICK, sqrt_at_tick
from aggregator.sdk.testing import discover
from tests.adapters.reading import Reading, assert_incremental, read, viewing, where_is
from tests.devnet.uniswap import FAR_FUTURE, TICK_SPACING, Pool, Uniswap
from tests.devnet.worlds import World

UINT128_MAX = 2**128 - 1


async def reading_of(world: World, **options: Any) -> Reading:
    return await read(ADAPTER, world.chains[1], where_is(world, "uniswap_v3", 1, **options))


def the(world: World) -> Uniswap:
    assert world.uniswap
    return world.uniswap


def market_of(reading: Reading, pool: Pool) -> str:
    return f"{reading.where.id}/{pool.contract.address.lower()}"


def from_rows(reading: Reading, pool: Pool) -> quant.Pool:
    """The pool as the engine sees it: terms and depth rows alone."""
    market = market_of(reading, pool)
    term = {t.key: t.raw for t in reading.of(Term, market=market, asset="")}
    depth = sorted((d.point, d.raw) for d in reading.of(Depth, market=market))
    return quant.Pool(
        term["sqrt_price_x96"], term["tick"], term["liquidity"], term["fee_pips"], term["tick_spacing"],
        tuple(point for point, _ in depth), tuple(raw for _, raw in depth),
    )  # fmt: skip


async def test_quotes_from_our_depth_equal_the_quoter(three_chains_world: World) -> None:
    """From dust to more than any pool can take: through many ticks, both ways, in pools of three tick spacings."""
    reading = await reading_of(three_chains_world)
    crossed, ran_dry = [], 0
    for pool in the(three_chains_world).pools.values():
        ours = from_rows(reading, pool)
        ours.check()
        for sell, zero_for_one in ((pool.token0, True), (pool.token1, False)):
            held = sell.token.call("balanceOf", pool.contract.address, block=reading.at.hash)
            for share in (10**-9, 0.001, 0.07, 0.6, 1.5, 10**30):
                raw = max(1, int(held * share))
                result = quant.swap(ours, raw, zero_for_one)
                out, root, ticks = the(three_chains_world).quote(pool, sell, raw, reading.at.hash)
                paid = quant.quote_exact_input(ours, raw, zero_for_one)
                assert (paid, result.sqrt_x96) == (out, root), (pool, share)
                crossed.append(ticks)
                ran_dry += result.exhausted
                if out and not result.exhausted:
                    wanted = (sell.address, pool.other(sell).address, out, pool.fee, 0)
                    asked = the(three_chains_world).quoter.call(
                        "quoteExactOutputSingle", wanted, block=reading.at.hash
                    )[0]
                    assert quant.quote_exact_output(ours, out, zero_for_one) == asked <= raw
    assert len(crossed) > 30
    assert max(crossed) > 5
    assert ran_dry
    assert all("are owed" in gap.detail for gap in reading.of(Gap))  # to positions without liquidity


async def test_terms_and_depth_are_the_pools_own(three_chains_world: World) -> None:
    reading, lens = await reading_of(three_chains_world), the(three_chains_world).tick_lens
    assert len(reading.of(Market)) == len(the(three_chains_world).pools)
    for pool in the(three_chains_world).pools.values():
        market, at = market_of(reading, pool), reading.at.hash
        spacing = pool.contract.call("tickSpacing")
        listed = {}
        for word in range((-887272 // spacing >> 8) - 1, (887272 // spacing >> 8) + 2):
            found = lens.call("getPopulatedTicksInWord", pool.contract.address, word, block=at)
            listed |= {tick: net for tick, net, _ in found}
        assert {d.point: d.raw for d in reading.of(Depth, market=market)} == listed
        for index, token in enumerate((pool.token0, pool.token1)):
            terms = {t.key: t.raw for t in reading.of(Term, market=market, asset=erc20(1, token.address))}
            held = token.token.call("balanceOf", pool.contract.address, block=at)
            assert terms == {"reserve": held, "token_index": index}


async def test_claims_pay_what_the_position_manager_would_pay(world: World) -> None:
    """Burning all liquidity at the cut pays num; poking then shows fees0 and fees1 as owed, to the unit."""
    positions, chain = the(world).positions, world.chains[1]
    reading = await reading_of(world)
    where = reading.where
    assert {r.ref for r in reading.of(Exposure)} <= {t.ref for t in where.targets}
    in_range, fees_seen = 0, 0
    for row in reading.of(Exposure):
        token_id = int(row.ref)
        data = positions.read("positions", token_id, block=reading.at.hash)
        assert row.shares == data["liquidity"]
        assert row.holder == positions.call("ownerOf", token_id, block=reading.at.hash).lower()
        assert row.asset == erc721(1, positions.address, token_id)
        tokens = [erc20(1, data[token]) for token in ("token0", "token1")]
        mine = {(c.kind, c.underlying): c for c in reading.of(Claim, asset=row.asset)}
        claims = [mine["lp", token] for token in tokens]
        everything = (token_id, row.shares, 0, 0, FAR_FUTURE)
        paid = positions.call("decreaseLiquidity", everything, sender=row.holder, block=reading.at.hash)
        assert [c.num for c in claims] == list(paid)
        for claim in claims:
            assert (claim.den, claim.market, claim.kind) == (row.shares, row.market, "lp")
            assert (claim.lower, claim.upper) == (data["tickLower"], data["tickUpper"])
        in_range += all(paid)
        fees = [reading.one(Term, asset=row.asset, key=f"fees{n}").raw for n in (0, 1)]
        owed = {token: (c.num, c.den) for (kind, token), c in mine.items() if kind == "receipt"}
        assert owed == {token: (n, row.shares) for token, n in zip(tokens, fees, strict=True) if n}
        if all(fees):
            with chain.undone():
                positions.send("collect", (token_id, row.holder, 1, 1), sender=row.holder)
                after = positions.read("positions", token_id)
                assert fees == [after["tokensOwed0"] + 1, after["tokensOwed1"] + 1]
            fees_seen += 1
    assert in_range > 5
    assert fees_seen > 5


async def test_liquidity_burned_but_not_collected_is_still_owed(three_chains_world: World) -> None:
    reading = await reading_of(three_chains_world)
    positions, at = the(three_chains_world).positions, reading.at.hash
    left = 0
    for target in reading.where.targets:
        data = positions.read("positions", int(target.ref), block=at)
        if data["liquidity"] == 0 and (data["tokensOwed0"] or data["tokensOwed1"]):
            asset = erc721(1, positions.address, int(target.ref))
            fees = [reading.one(Term, asset=asset, key=f"fees{n}").raw for n in (0, 1)]
            assert fees == [data["tokensOwed0"], data["tokensOwed1"]]
            assert not reading.of(Exposure, ref=target.ref)
            assert not reading.of(Claim, asset=asset)
            left += 1
    assert left


async def test_incremental_read_equals_full_read(world: World) -> None:
    uniswap, chain = the(world), world.chains[1]
    before = await reading_of(world)
    pool = next(iter(uniswap.pools.values()))
    user, receiver = chain.accounts[7:9]
    kept = uniswap.add_liquidity(user, pool, 0.8, 1.3, 50_000)
    gone = uniswap.add_liquidity(user, pool, 0.5, 0.7, 9_000)
    uniswap.positions.send("transferFrom", user, receiver, kept.token_id, sender=user)
    everything = (gone.token_id, user, UINT128_MAX, UINT128_MAX)
    uniswap.remove_liquidity(user, gone.token_id, gone.liquidity)
    uniswap.positions.send("collect", everything, sender=user)
    uniswap.positions.send("burn", gone.token_id, sender=user)
    old = before.of(Exposure)[0]
    uniswap.remove_liquidity(old.holder, int(old.ref), old.shares)
    uniswap.positions.send("collect", (int(old.ref), old.holder, UINT128_MAX, UINT128_MAX), sender=old.holder)
    uniswap.positions.send("burn", int(old.ref), sender=old.holder)
    uniswap.swap(chain.accounts[6], pool, pool.token0, pool.token0.worth(30_000))
    chain.mine()
    full = await assert_incremental(ADAPTER, chain, before)
    assert full.one(Exposure, ref=str(kept.token_id)).holder == receiver.lower()
    assert not full.of(Exposure, ref=old.ref)
    assert all("are owed" in gap.detail for gap in full.of(Gap))
    out, root, _ = uniswap.quote(pool, pool.token1, pool.token1.worth(10_000), full.at.hash)
    result = quant.swap(from_rows(full, pool), pool.token1.worth(10_000), False)
    assert (-result.amount0_raw, result.sqrt_x96) == (out, root)


async def test_each_event_alone_names_its_position(world: World) -> None:
    """One act on each of three old positions since the last run."""
    uniswap, chain = the(world), world.chains[1]
    before = await reading_of(world)
    moved, shrunk, grown = before.of(Exposure)[:3]
    receiver = chain.accounts[8]
    uniswap.positions.send("transferFrom", moved.holder, receiver, int(moved.ref), sender=moved.holder)
    uniswap.remove_liquidity(shrunk.holder, int(shrunk.ref), shrunk.shares // 2)
    (pool,) = (p for p in uniswap.pools.values() if market_of(before, p) == grown.market)
    amounts = [asset.worth(5_000) for asset in (pool.token0, pool.token1)]
    for asset, raw in zip((pool.token0, pool.token1), amounts, strict=True):
        asset.provide(grown.holder, uniswap.positions, raw)
    more = (int(grown.ref), *amounts, 0, 0, FAR_FUTURE)
    uniswap.positions.send("increaseLiquidity", more, sender=grown.holder)
    full = await assert_incremental(ADAPTER, chain, before)
    assert full.one(Exposure, ref=moved.ref).holder == receiver.lower()
    assert full.one(Exposure, ref=shrunk.ref).shares < shrunk.shares
    assert full.one(Exposure, ref=grown.ref).shares > grown.shares


async def test_the_whole_range_and_a_price_on_a_tick(world: World) -> None:
    """Liquidity at the last ticks of the bitmap, and positions that begin and end where the price stands."""
    uniswap, chain = the(world), world.chains[1]
    user, trader = chain.accounts[7:9]
    for pool in uniswap.pools.values():
        spacing, sell = TICK_SPACING[pool.fee], pool.token1
        last, stop = MAX_TICK // spacing * spacing, (pool.tick() // spacing + 1) * spacing
        uniswap.add_between(user, pool, -last, last, 10_000)
        sell.provide(trader, uniswap.router, sell.worth(1e9))
        terms = (sell.address, pool.token0.address, pool.fee, trader, FAR_FUTURE, sell.worth(1e9), 0)
        uniswap.router.send("exactInputSingle", (*terms, sqrt_at_tick(stop)), sender=trader)
        assert pool.tick() == stop
        for low, high in ((stop, stop + 9 * spacing), (stop - 9 * spacing, stop)):
            uniswap.add_between(user, pool, low, high, 3_000)
    reading = await reading_of(world)
    assert all("are owed" in gap.detail for gap in reading.of(Gap))  # to positions without liquidity
    for pool in uniswap.pools.values():
        ours = from_rows(reading, pool)
        ours.check()
        assert -ours.ticks[0] == ours.ticks[-1] > MAX_TICK - ours.tick_spacing
        for token, zero_for_one in ((pool.token0, True), (pool.token1, False)):
            for usd in (3_000, 3e7):
                result = quant.swap(ours, token.worth(usd), zero_for_one)
                out, root, _ = uniswap.quote(pool, token, token.worth(usd), reading.at.hash)
                paid = -(result.amount1_raw if zero_for_one else result.amount0_raw)
                assert (paid, result.sqrt_x96, result.exhausted) == (out, root, False)


async def test_pools_are_taken_by_address_or_by_their_tokens(three_chains_world: World) -> None:
    pools = the(three_chains_world).pools
    by_address = await reading_of(three_chains_world, pools=[next(iter(pools.values())).contract.address])
    assert len(by_address.of(Market)) == 1
    assert {r.market for r in by_address.of(Exposure)} == {by_address.one(Market).market}
    tokens = [three_chains_world.assets[1][symbol].address for symbol in ("WETH", "USDC")]
    by_tokens = await reading_of(three_chains_world, tokens=tokens)
    expected = {pool.contract.address.lower() for (a, b, _), pool in pools.items() if {a, b} == {"WETH", "USDC"}}
    assert {m.market.rsplit("/", 1)[1] for m in by_tokens.of(Market)} == expected
    assert len(expected) == 2


async def test_liquidity_of_no_known_position_is_a_gap_with_its_size(three_chains_world: World) -> None:
    """As if one position in range had been minted past the position manager."""
    reading = await reading_of(three_chains_world)
    row = next(r for r in reading.of(Exposure) if all(c.num for c in reading.of(Claim, asset=r.asset)))
    where = reading.where
    async with viewing(three_chains_world.chains[1]) as view:
        fewer = where._replace(targets=tuple(t for t in where.targets if t.ref != row.ref))
        gaps = [r async for r in ADAPTER.terms(view, fewer) if isinstance(r, Gap)]
    (gap,) = [g for g in gaps if g not in reading.of(Gap)]
    assert (gap.subject, gap.reason) == (row.market, "unlisted_accounts")
    assert gap.detail.startswith(f"{row.shares} of ")


async def test_liquidity_out_of_range_and_what_waits_for_its_collection_are_gaps_too(world: World) -> None:
    """A range below the price that nobody listed holds token1 alone, as much as burning it pays."""
    uniswap, chain = the(world), world.chains[1]
    pool = next(iter(uniswap.pools.values()))
    user, now, spacing = chain.accounts[7], pool.tick(), pool.contract.call("tickSpacing")
    low = (now // spacing - 40) * spacing
    made = uniswap.add_between(user, pool, low, low + 10 * spacing, 50_000)
    empty = uniswap.add_between(user, pool, low, low + 10 * spacing, 1_000)
    uniswap.remove_liquidity(user, empty.token_id, empty.liquidity)
    reading = await reading_of(world, pools=[pool.contract.address])
    (left,) = reading.of(Gap)
    due = [uniswap.positions.read("positions", int(t.ref)) for t in reading.where.targets if t.ref]
    due = [d for d in due if not d["liquidity"] and (d["tokensOwed0"] or d["tokensOwed1"])]
    sums = [sum(d[f"tokensOwed{n}"] for d in due) for n in (0, 1)]
    assert (left.reason, left.accounts) == ("unlisted_accounts", len(due))
    assert all(f"{raw} raw of" in left.detail for raw in sums)
    paid = uniswap.positions.call(
        "decreaseLiquidity", (made.token_id, made.liquidity, 0, 0, FAR_FUTURE), sender=user, block=reading.at.hash
    )
    async with viewing(chain) as view:
        fewer = reading.where._replace(targets=tuple(t for t in reading.where.targets if t.ref != str(made.token_id)))
        gaps = [r async for r in ADAPTER.terms(view, fewer) if isinstance(r, Gap)]
    (direct,) = [g for g in gaps if "outside the position manager" in g.detail]
    assert paid[0] == 0
    assert direct.detail.startswith("0 of ")
    assert f"in all 0 raw of {pool.token0.address.lower()} and {paid[1]} raw of" in direct.detail


async def test_an_address_that_is_no_pool_says_what_to_do(three_chains_world: World) -> None:
    token = three_chains_world.assets[1]["WETH"].address
    with pytest.raises(SourceError, match=r"(?s)config/deployments/uniswap_v3\.toml"):
        await reading_of(three_chains_world, pools=[token])


@pytest.mark.parametrize("known", [0, 1])
async def test_a_pool_that_was_configured_later_is_read_from_its_first_block(
    three_chains_world: World, known: int
) -> None:
    pools = [pool.contract.address for pool in the(three_chains_world).pools.values()]
    both = await reading_of(three_chains_world, pools=pools)
    before = both.where._replace(markets=(), targets=())
    if known:
        one = (await reading_of(three_chains_world, pools=pools[:1])).where
        before = both.where._replace(markets=one.markets, targets=one.targets)
    async with viewing(three_chains_world.chains[1]) as view:
        assert await discover(ADAPTER, view, before, both.at.number + 1) == both.where
    assert len(both.where.targets) > len(before.targets)


async def test_a_pool_made_since_the_last_cut_costs_no_second_search(world: World) -> None:
    chain, before, pools = world.chains[1], await reading_of(world), replace(the(world), pools={})
    made = pools.create_pool(world.assets[1]["WETH"], world.assets[1]["USDC"], 10_000)
    pools.add_liquidity(chain.accounts[5], made, 0.8, 1.25, 10_000)
    async with viewing(chain) as view:
        found = [t async for t in ADAPTER.discover(view, before.where, before.at.number + 1) if t.ref]
    assert [t.market for t in found] == [market_of(before, made)]
