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
from aggregator.sdk.rows import ask, assets, fill, gap

ROUND = "latestRoundData()(uint80,int256,uint256,uint256,uint80)"
ANSWER, UPDATED_S = 1, 3


class Chainlink(Adapter):
    name = "chainlink"

    async def terms(self, view: View, where: Where) -> AsyncIterator[Row]:
        yield Market(where.id, "feed", "", where.name)
        if "sequencer_uptime_feed" in where.addresses:
            (up,) = await view.calls([Call(where.address("sequencer_uptime_feed"), ROUND)])
            down = fill(up, Term(where.id, "", "", "sequencer_down", 0, 0), where.id, "sequencer", ANSWER)
            yield down
            if isinstance(down, Term) and down.raw:
                yield Gap(where.id, "stale_price", "the sequencer is down: feeds do not move", src=down.src)
        feeds = [_parse(where, feed) for feed in where.options.get("feeds", ())]
        tokens = [i.rsplit(":", 1)[1] for asset, quote, *_ in feeds for i in (asset, quote) if "/erc20:" in i]
        for row in (await assets(view, tokens)).rows:
            yield row
        sigs = {"decimals": "decimals()(uint8)", "round": ROUND}
        answers = await ask(view, [{key: Call(feed, sig) for key, sig in sigs.items()} for _, _, feed, _ in feeds])
        for (asset, quote, feed, heartbeat_s), got in zip(feeds, answers, strict=True):
            decimals, latest = got["decimals"], got["round"]
            if isinstance(decimals, Revert) or isinstance(latest, Revert):
                failed, what = (decimals, "decimals") if isinstance(decimals, Revert) else (latest, "latestRoundData")
                assert isinstance(failed, Revert)
                yield gap(failed, asset, f"{what} of feed {feed}")._replace(reason="no_price")
                continue
            raw, updated_s = latest.values[ANSWER], latest.values[UPDATED_S]
            if raw <= 0:
                yield Gap(asset, "bad_price", f"feed {feed} answers {raw}", src=latest.src(ANSWER))
            yield Price("", asset, quote, raw, decimals.value, "feed", updated_s, heartbeat_s, latest.src(ANSWER))


ADAPTER = Chainlink()


def _parse(where: Where, feed: Mapping[str, Any]) -> tuple[str, str, str, int]:
    """asset id, quote id, feed address, heartbeat; ConfigError on a feed that is not complete."""
    missing = [key for key in ("asset", "feed", "heartbeat_s") if key not in feed]
    if missing:
        raise ConfigError(
            f"a feed of {where.id} is not complete",
            expected="asset, feed, heartbeat_s",
            found=f"no {', '.join(missing)} in {dict(feed)}",
            fix="complete it in config/deployments/chainlink.toml",
        )
    ids = [i if ":" in i else erc20(where.chain, parse_address(i)) for i in (feed["asset"], feed.get("quote", USD))]
    return ids[0], ids[1], parse_address(feed["feed"]), int(feed["heartbeat_s"])
