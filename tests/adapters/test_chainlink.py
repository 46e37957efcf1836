"""Price feeds: the round's answer and age as the contract gives them; what cannot be used is named, never dropped."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.chainlink import ADAPTER
from aggregator.core.block import Cut
from aggregator.core.errors import ConfigError
from aggregator.core.ids import USD, erc20
from aggregator.core.rows import Asset, Gap, Market, Price, Row, Term
from aggregator.core.table import raw_tables
from aggregator.sdk.adapter import Where
from aggregator.snapshot.prices import usd
from aggregator.snapshot.snapshot import Snapshot, build
from tests.adapters.reading import Reading, at_address, read
from tests.devnet.worlds import World

HEARTBEAT_S = 3_600


def feeds_of(world: World, **addresses: str) -> Where:
    feeds = [{"asset": a, "feed": f, "heartbeat_s": HEARTBEAT_S} for a, f in world.feeds(1).items()]
    return at_address("chainlink", 1, addresses, feeds=feeds)


def snapshot(reading: Reading, rows: list[Row]) -> Snapshot:
    tables = raw_tables([(reading.where.id, row) for row in rows])
    return build(tables, Cut.of([reading.at]), [r for r in rows if isinstance(r, Asset)])


async def test_prices_are_the_rounds_of_the_feeds(three_chains_world: World) -> None:
    reading = await read(ADAPTER, three_chains_world.chains[1], feeds_of(three_chains_world))
    for asset in three_chains_world.assets[1].values():
        price = reading.one(Price, asset=erc20(1, asset.address))
        _, answer, _, updated_s, _ = asset.feed.call("latestRoundData", block=reading.at.hash)
        assert (price.raw, price.updated_s, price.exp) == (answer, updated_s, 8)
        assert (price.market, price.quote, price.path, price.heartbeat_s) == ("", USD, "feed", HEARTBEAT_S)
    assert not reading.of(Gap)
    assert reading.one(Market).kind == "feed"


@pytest.mark.parametrize(("late_s", "stale"), [(0, False), (1, True)])
async def test_a_feed_past_its_heartbeat_at_the_cut_is_stale(world: World, late_s: int, stale: bool) -> None:
    """Age is counted to the block's time, not to ours."""
    weth, chain = world.assets[1]["WETH"], world.chains[1]
    now = chain.block()["timestamp"]
    weth.feed.send("setAt", 10**11, now + 1 - HEARTBEAT_S - late_s)  # mined one second after `now`
    reading = await read(ADAPTER, chain, feeds_of(world))
    assert reading.at.time_s == now + 1
    subject = erc20(1, weth.address)
    gaps = [g for g in snapshot(reading, reading.rows).gaps if g.subject == subject]
    assert [g.reason for g in gaps] == ["stale_price"] * stale
    assert reading.one(Price, asset=subject).raw == 10**11


@pytest.mark.parametrize("at_s", [0, 2**40])
async def test_a_round_that_is_not_complete_or_not_yet_is_of_unknown_age(world: World, at_s: int) -> None:
    """AggregatorV3Interface: updatedAt 0 is a round that is not complete; a time to come would never grow old."""
    weth = world.assets[1]["WETH"]
    weth.feed.send("setAt", 10**11, at_s)
    reading = await read(ADAPTER, world.chains[1], feeds_of(world))
    (gap,) = [g for g in snapshot(reading, reading.rows).gaps if g.subject == erc20(1, weth.address)]
    assert (gap.reason, str(at_s) in gap.detail) == ("stale_price", True)


@pytest.mark.parametrize("answer", [-5, 0])
async def test_an_answer_that_is_no_price_is_kept_and_flagged(world: World, answer: int) -> None:
    weth = world.assets[1]["WETH"]
    weth.feed.send("set", answer)
    reading = await read(ADAPTER, world.chains[1], feeds_of(world))
    assert reading.one(Price, asset=erc20(1, weth.address)).raw == answer
    # the feed of the vault's share is computed from this one, and is no better
    bad = {erc20(1, asset.address) for asset in (weth, world.vaults["svETH"])}
    assert {(g.subject, g.reason) for g in reading.of(Gap)} == {(asset, "bad_price") for asset in bad}
    assert str(answer) in reading.one(Gap, subject=erc20(1, weth.address)).detail
    assert usd(snapshot(reading, reading.rows), erc20(1, weth.address)) is None  # a refused answer is no price of zero


@pytest.mark.parametrize("hostile", ["RevertingToken", "GasBurner", "OddAnswer", "no code"])
async def test_a_feed_that_does_not_answer_is_a_gap_beside_the_others(world: World, hostile: str) -> None:
    chain, where = world.chains[1], feeds_of(world)
    feed, asset = "0x" + "ab" * 20, "0x" + "cd" * 20
    if hostile != "no code":
        ours = world.uniswap.tools.build("ours")[hostile]  # type: ignore[union-attr]
        feed = chain.deploy(ours, *([33] if hostile == "OddAnswer" else [])).address
    asset = world.vaults["waUSDC"].underlying.address  # an aToken, without a feed so far
    feeds = [*where.options["feeds"], {"asset": asset, "feed": feed, "heartbeat_s": 60}]
    reading = await read(ADAPTER, chain, where._replace(options={"feeds": feeds}))
    gap = reading.one(Gap)
    assert (gap.subject, gap.reason) == (erc20(1, asset), "no_price")
    assert len(reading.of(Price)) == len(where.options["feeds"])


async def test_feeds_of_other_quotes_and_of_native_coins(world: World) -> None:
    weth, crv = world.assets[1]["WETH"], world.assets[1]["CRV"]
    feeds = [
        {"asset": "eip155:1/slip44:60", "feed": weth.feed.address, "heartbeat_s": 60},
        {"asset": crv.address, "quote": weth.address, "feed": crv.feed.address, "heartbeat_s": 60},
    ]
    reading = await read(ADAPTER, world.chains[1], at_address("chainlink", 1, {}, feeds=feeds))
    quotes = {p.asset: p.quote for p in reading.of(Price)}
    assert quotes == {"eip155:1/slip44:60": USD, erc20(1, crv.address): erc20(1, weth.address)}
    assert {a.symbol for a in reading.of(Asset)} == {"WETH", "CRV"}


@pytest.mark.parametrize("down", [0, 1])
async def test_a_sequencer_that_is_down_makes_all_its_feeds_stale(world: World, down: int) -> None:
    weth = world.assets[1]["WETH"]
    weth.feed.send("set", down)
    where = feeds_of(world, sequencer_uptime_feed=weth.feed.address)
    reading = await read(ADAPTER, world.chains[1], where)
    assert reading.one(Term, key="sequencer_down").raw == down
    assert len(reading.of(Gap, subject=where.id, reason="stale_price")) == down


@pytest.mark.parametrize("feed", [{}, {"asset": "0x" + "1" * 40, "feed": "0x" + "2" * 40}, {"asset": "WETH"}])
async def test_an_incomplete_feed_is_refused_by_name(world: World, feed: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"eip155:1/chainlink/test .*(?s:.)*chainlink\.toml"):
        await read(ADAPTER, world.chains[1], at_address("chainlink", 1, {}, feeds=[feed]))
