"""Discovery in windows of blocks, as a long first one runs, finds what one look at the whole history finds."""

from __future__ import annotations

from itertools import pairwise

import pytest

from aggregator.sdk.registry import load_adapters
from aggregator.sdk.testing import discover
from tests.adapters.reading import at_address, viewing
from tests.devnet.worlds import World

ADAPTERS = load_adapters()


@pytest.mark.parametrize("windows", [2, 7])
async def test_windows_find_what_the_whole_finds(three_chains_world: World, windows: int) -> None:
    seen = set[str]()
    for one in three_chains_world.deployments:
        adapter, where = ADAPTERS[one.adapter], at_address(one.adapter, one.chain, one.addresses, one.name)
        async with viewing(three_chains_world.chains[one.chain]) as view:
            whole, parts, last = await discover(adapter, view, where), where, view.at.number
            for low, high in pairwise(last * i // windows for i in range(windows + 1)):
                part = view if high == last else view.until(high)
                parts = await discover(adapter, part, parts, low and low + 1)
        assert parts.markets == whole.markets
        assert set(whole.targets) <= set(parts.targets), f"{where.id} lost targets"
        # who was Morpho's fee recipient before the first change in a window is not known: all who ever were are named
        more = set(parts.targets) - set(whole.targets)
        assert not more or one.adapter == "morpho_blue"
        seen |= {one.adapter} if whole.targets else set()
    assert seen >= {"aave_v3", "morpho_blue", "uniswap_v3", "erc4626", "lyra_v1", "perp_curie"}
