"""Tokens: the standard getters and events, and the metadata of many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aggregator.core.rows import Asset, Row
from aggregator.sdk.adapter import View

ZERO = "0x" + "00" * 20  # no address
# ERC-20; ERC-721 has balanceOf and a Transfer with an indexed id
TRANSFER = "Transfer(address indexed from,address indexed to,uint256 value)"
BALANCE_OF = "balanceOf(address)(uint256)"
TOTAL_SUPPLY = "totalSupply()(uint256)"
OWNER_OF = "ownerOf(uint256)(address)"  # ERC-721


class Assets(dict[str, Asset]):
    """Assets by address, and the `rows` to yield for them: each asset, and a gap where its decimals are unknown."""

    rows: list[Row]


async def assets(view: View, addresses: Sequence[str]) -> Assets:
    """Metadata of tokens, each asked once, in the given order."""
    unique = list(dict.fromkeys(addresses))
    answers = await asyncio.gather(*map(view.asset, unique))  # together: a view lets small reads share one request
    out = Assets(zip(unique, (asset for asset, _ in answers), strict=True))
    out.rows = [row for answer in answers for row in answer if row is not None]
    return out
