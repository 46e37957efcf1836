"""In which order tokens are sold on: an order of assets in which every sale goes to an earlier one, so that it ends.

First cash and whatever has neither pools nor backing; then, one at a time, the asset with the deepest pools against
those already placed, and claims behind all their underlyings, so that they can be redeemed. A pool of two volatile
tokens is therefore depth of the shallower one alone: its other side would sell the deeper token into the very pool that
leans on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aggregator.engine.book import Book, Indices
from aggregator.engine.ties import SAME


def order(book: Book, depth_usd: Sequence[float]) -> Indices:
    """(assets,) place of each; of equals the lower id. depth_usd (pools,): what each pays within 5 % of its price.

    Assets that no chain of pools leads from to cash come last; those of their pools that point forward are not used.
    """
    n = len(book.assets)
    place = np.full(n, -1, np.int64)
    pools: dict[int, list[tuple[int, float]]] = {}
    for pool, usd in zip(book.pools, depth_usd, strict=True):
        if not book.cash[pool.base]:
            pools.setdefault(pool.base, []).append((pool.quote, usd))
    backing: dict[int, list[int]] = {}
    for asset, under in zip(book.claims.asset.tolist(), book.claims.underlying.tolist(), strict=True):
        if not book.cash[asset]:
            backing.setdefault(asset, []).append(under)
    place[[i for i in range(n) if i not in pools and i not in backing]] = 0
    last = 0
    while waiting := [i for i in {*pools, *backing} if place[i] < 0]:
        last += 1
        ready = [i for i in waiting if i not in pools and all(place[u] >= 0 for u in backing[i])]
        if ready:
            place[ready] = last
            continue
        known = {i: [usd for quote, usd in pools[i] if place[quote] >= 0] for i in waiting if i in pools}
        deep = {i: sum(usd) for i, usd in known.items() if usd}
        if backing:
            deep = {i: usd for i, usd in deep.items() if all(place[u] >= 0 for u in backing.get(i, ()))} or deep
        most = max(deep.values(), default=0.0) * (1.0 - SAME)
        deepest = [i for i, usd in deep.items() if usd >= most] or waiting
        place[min(deepest, key=book.assets.__getitem__)] = last
    return place
