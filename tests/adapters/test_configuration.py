"""A deployment that is configured wrongly is named, with what was expected; none is read as an empty protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from aggregator.core.errors import ConfigError, SourceError
from aggregator.core.rows import Gap, Row
from aggregator.sdk.adapter import Where
from aggregator.sdk.registry import load_adapters
from aggregator.sdk.testing import FakeView, collect_rows

ADAPTERS, HERE, THERE = load_adapters(), "0x" + "11" * 20, "0x" + "22" * 20
FEED = {"asset": HERE, "feed": THERE, "heartbeat_s": 60}


async def rows_of(adapter: str, addresses: Mapping[str, str], **options: Any) -> list[Row]:
    return await collect_rows(
        ADAPTERS[adapter], FakeView(), Where(adapter, "eip155:1", "x", addresses, 0, dict(options))
    )


@pytest.mark.parametrize("listed", ["0x", 5, [5], ["x"], {"asset": HERE}])
@pytest.mark.parametrize(("adapter", "key"), [("erc4626", "vaults"), ("uniswap_v3", "pools"), ("uniswap_v3", "tokens"),
                                              ("chainlink", "feeds")])  # fmt: skip
async def test_a_list_that_is_none_is_named(adapter: str, key: str, listed: object) -> None:
    with pytest.raises(ConfigError, match=rf"(?s)eip155:1/{adapter}/x.*{key}.*config/deployments/{adapter}\.toml"):
        await rows_of(adapter, {"factory": HERE}, **{key: listed})


@pytest.mark.parametrize(
    "change", [{"feed": 5}, {"asset": 5}, {"asset": "WETH"}, {"quote": "usd"}, {"heartbeat_s": "soon"},
               {"heartbeat_s": -5}, {"heartbeat_s": None}, {"feed": "0x12"}],
)  # fmt: skip
async def test_a_feed_that_is_not_complete_is_named(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"(?s)eip155:1/chainlink/x has a feed.*expected: .*found: .*chainlink\.toml"):
        await rows_of("chainlink", {}, feeds=[FEED | change])


@pytest.mark.parametrize(("adapter", "key", "options"), [
    ("aave_v3", "pool_addresses_provider", {}), ("morpho_blue", "morpho", {}), ("perp_curie", "clearing_house", {}),
    ("lyra_v1", "option_market_viewer", {}), ("uniswap_v3", "factory", {}),
    ("uniswap_v3", "factory", {"tokens": [HERE]}),
    ("uniswap_v3", "factory", {"tokens": [HERE, THERE]}), ("uniswap_v3", "factory", {"pools": [HERE]}),
])  # fmt: skip
async def test_an_address_where_nothing_lives_is_no_empty_protocol(adapter: str, key: str, options: Any) -> None:
    with pytest.raises(SourceError, match=rf"(?s)no code there.*config/deployments/{adapter}\.toml"):
        await rows_of(adapter, {key: HERE}, **options)
    with pytest.raises(ConfigError, match=rf"(?s)addresses\.{key}.*config/deployments/{adapter}\.toml"):
        await rows_of(adapter, {}, **{k: v for k, v in options.items() if k != "pools"})


async def test_a_vault_or_feed_where_nothing_lives_is_a_gap() -> None:
    assert [r.reason for r in await rows_of("erc4626", {}, vaults=[HERE]) if isinstance(r, Gap)] == ["no_code"]
    gaps = [r.reason for r in await rows_of("chainlink", {}, feeds=[FEED]) if isinstance(r, Gap)]
    assert gaps == ["no_code", "no_price"]
    with pytest.raises(ConfigError, match="names no vault"):
        await rows_of("erc4626", {})
