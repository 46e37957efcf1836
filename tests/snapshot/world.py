"""A small lending book and how to freeze rows without a store."""

from __future__ import annotations

from aggregator.core.block import BlockRef, Cut
from aggregator.core.ids import USD
from aggregator.core.rows import AccountTerm, Asset, Exposure, Index, Market, Price, Row, Term
from aggregator.core.table import raw_tables
from aggregator.snapshot import Snapshot, build

RAY, WAD = 10**27, 10**18
POOL = "eip155:1/aave_v3/core"
WETH, USDC, VAULT, ODD = (f"eip155:1/erc20:0x{digit * 40}" for digit in "abcd")
ASSETS = [Asset(WETH, "WETH", 18), Asset(USDC, "USDC", 6), Asset(VAULT, "vETH", 18), Asset(ODD, "ODD", -1)]
NOW_S = 1_700_000_000
CUT = Cut.of([BlockRef("eip155:1", 100, "0x1", NOW_S, "finalized"), BlockRef("eip155:10", 7, "0x2", NOW_S + 9, "safe")])


def price(
    market: str, asset: str, raw: int, *, quote: str = USD, exp: int = 8, path: str = "live", at: int = 0
) -> Price:
    return Price(market, asset, quote, raw, exp, path, at, 0)


POOL_ROWS: list[Row] = [
    Market(POOL, "lending", "aave_v3@3.6", "Core"),
    Index(POOL, WETH, "collateral", RAY + RAY // 3, RAY, "down"),
    Index(POOL, USDC, "debt", RAY + RAY // 3, RAY, "up"),
    price(POOL, WETH, 2000 * 10**8),
    price(POOL, USDC, 10**8),
    Term(POOL, WETH, "", "liquidation_threshold_bps", 8250, 4),
    Term(POOL, "", "", "base_unit_exp", 8, 0),
    Term(POOL, "", "emode:1", "ltv_bps", 9000, 4),
    Exposure(POOL, "0xaa", "", WETH, "collateral", 10**18 + 1, b"\x01"),
    Exposure(POOL, "0xaa", "", USDC, "debt", 10**9 + 1),
    Exposure(POOL, "0xbb", "", WETH, "collateral", 5),
    AccountTerm(POOL, "0xaa", "", "emode", 1),
]


def freeze(rows: list[Row], *, assets: list[Asset] | None = None, levels: dict[str, str] | None = None) -> Snapshot:
    """All rows as if one deployment had written them."""
    return build(raw_tables((POOL, row) for row in rows), CUT, ASSETS if assets is None else assets, levels)
