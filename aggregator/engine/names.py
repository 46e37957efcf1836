"""How the texts of a snapshot are numbered in the book, and what its assets are worth at the cut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from aggregator.core.rows import DOLLAR
from aggregator.engine.book import Floats, Indices
from aggregator.snapshot import Snapshot
from aggregator.snapshot.prices import all_usd


class Names(NamedTuple):
    """Ids sorted: assets of known decimals, markets, holders; asset, market: place of an id.

    decimals, price_usd (assets,), NaN without price. asset_of, market_of, holder_of (texts of the snapshot,): place of
    the one with that code, -1 for none.
    """

    assets: tuple[str, ...]
    markets: tuple[str, ...]
    holders: tuple[str, ...]
    asset: Mapping[str, int]
    market: Mapping[str, int]
    decimals: Floats
    price_usd: Floats
    asset_of: Indices
    market_of: Indices
    holder_of: Indices


def names_of(snap: Snapshot) -> Names:
    known = {a.id: float(a.decimals) for a in (*snap.assets.values(), DOLLAR) if a.decimals >= 0}
    # a position of its own (erc721) is counted in its smallest unit, liquidity
    assets = tuple(sorted({*known, *(name for name in snap.names if "/erc721:" in name)}))
    markets = tuple(sorted({row.market for row in snap.rows("market")}))
    kinds = ("exposure", "option", "perp", "account_term")
    holders = tuple(sorted({snap.names[h] for k in kinds for h in np.unique(snap.tables[k]["holder"]).tolist()}))
    asset, market, holder = _places(assets), _places(markets), _places(holders)
    quoted = all_usd(snap)
    return Names(
        assets,
        markets,
        holders,
        asset,
        market,
        decimals=np.array([known.get(a, 0.0) for a in assets]),
        price_usd=np.array([float(quoted[a][0].decimal()) if a in quoted else np.nan for a in assets]),
        asset_of=_by_code(snap, asset),
        market_of=_by_code(snap, market),
        holder_of=_by_code(snap, holder),
    )


def _places(ids: Iterable[str]) -> dict[str, int]:
    return {name: i for i, name in enumerate(ids)}


def _by_code(snap: Snapshot, places: Mapping[str, int]) -> Indices:
    return np.array([places.get(name, -1) for name in snap.names], np.int64)
