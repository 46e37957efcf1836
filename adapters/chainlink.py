"""Chainlink feeds (AggregatorV3Interface): reference prices that hold for everyone, with what their age is judged by.

Feeds are listed in the deployment: `feeds = [{asset, feed, heartbeat_s, quote}]`, asset and quote as an address on this
chain or a full asset id; quote is US dollars unless said otherwise. The heartbeat is Chainlink's published promise and
is nowhere on the chain. Optional `addresses.sequencer_uptime_feed` (L2): answer 1 while the sequencer is down.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from aggregator.core.errors import ConfigError
from aggregator.core.ids import USD, erc20, parse_address
from aggregator.core.rows import Gap, Market, Price, Row, Term
from aggregator.sdk.adapter import Adapter, Call, Revert, View, Where
from aggregator.sdk.rows import ask, fill, gap, questions
from aggregator.sdk.tokens import assets

ROUND = "latestRoundData()(uint80,int256,uint256,uint256,uint80)"
ANSWER, UPDATED_S = 1, 3
FEED_SIGS = {"decimals": "decimals()(uint8)", "latestRoundData": ROUND}
FEED = '{ asset = "0x...", feed = "0x...", heartbeat_s = 3600 } with a quote where it is not US dollars'


class Chainlink(Adapter):
    name = "chainlink"
    addresses = ("sequencer_uptime_feed",)
    options = ("feeds",)
    required = (("feeds",),)

    async def terms(self, view: View, where: Where) -> AsyncIterator[Row]:
        yield Market(where.id, "feed", "", where.name)
        if "sequencer_uptime_feed" in where.addresses:
            (up,) = await view.calls([Call(where.address("sequencer_uptime_feed"), ROUND)])
            down = fill(up, Term(where.id, "", "", "sequencer_down", 0, 0), ANSWER, what="sequencer")
            yield down
            if isinstance(down, Term) and down.raw:
                yield Gap(where.id, "stale_price", "the sequencer is down: feeds do not move", src=down.src)
        listed = where.options.get("feeds", ())
        if not isinstance(listed, list | tuple) or not all(isinstance(feed, Mapping) for feed in listed):
            raise where.misconfigured("has no list of feeds", FEED, repr(listed))
        feeds = [_parse(where, feed) for feed in listed]
        tokens = [i.rsplit(":", 1)[1] for asset, quote, *_ in feeds for i in (asset, quote) if "/erc20:" in i]
        for row in (await assets(view, tokens)).rows:
            yield row
        answers = await ask(view, [questions(feed, FEED_SIGS) for _, _, feed, _ in feeds])
        for (asset, quote, feed, heartbeat_s), got in zip(feeds, answers, strict=True):
            decimals, latest = got["decimals"], got["latestRoundData"]
            if isinstance(decimals, Revert) or isinstance(latest, Revert):
                what, failed = next((what, a) for what, a in got.items() if isinstance(a, Revert))
                yield gap(failed, asset, f"{what} of feed {feed}")._replace(reason="no_price")
                continue
            raw, updated_s = latest.values[ANSWER], latest.values[UPDATED_S]
            if raw <= 0:
                yield Gap(asset, "bad_price", f"feed {feed} answers {raw}", src=latest.src(ANSWER))
            if not 0 < updated_s <= view.at.time_s:  # its age is unknown: 0 is a round that is not complete
                yield Gap(
                    asset, "stale_price", f"feed {feed} says it was updated at {updated_s}", src=latest.src(UPDATED_S)
                )
            yield Price("", asset, quote, raw, decimals.value, "feed", updated_s, heartbeat_s, latest.src(ANSWER))


ADAPTER = Chainlink()


def _parse(where: Where, feed: Mapping[str, Any]) -> tuple[str, str, str, int]:
    """asset id, quote id, feed address, heartbeat; ConfigError on a feed that is not complete."""
    stated = (feed.get("asset"), feed.get("quote", USD), feed.get("feed"))
    texts = [text for text in stated if isinstance(text, str)]
    heartbeat_s = feed.get("heartbeat_s")
    if len(texts) < 3 or not isinstance(heartbeat_s, int) or heartbeat_s < 0:
        raise where.misconfigured("has a feed that is not complete", FEED, repr(dict(feed)))
    try:
        asset, quote = (i if ":" in i else erc20(where.chain, parse_address(i)) for i in texts[:2])
        return asset, quote, parse_address(texts[2]), heartbeat_s
    except ConfigError as error:
        raise where.misconfigured("has a feed with a wrong address", error.expected, repr(dict(feed))) from None
