"""In which order tokens are sold on: an order of assets in which every sale goes to an earlier one, so that it ends.

First cash and whatever has neither pools nor backing; then, one at a time, the asset with the deepest pools against
those already placed, and claims without pools behind all their underlyings. A pool of two volatile tokens is therefore
depth of the shallower one alone: its other side would sell the deeper token into the very pool that leans on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aggregator.engine.book import Book, Indices


def order(book: Book, depth_usd: Sequence[float]) -> Indices:
    """(assets,) place of each; ties by code. depth_usd (pools,): what each pool pays within 5 % of its price.

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
        if not book.cash[asset] and asset not in pools:
            backing.setdefault(asset, []).append(under)
    place[[i for i in range(n) if i not in pools and i not in backing]] = 0
    last = 0
    while waiting := [i for i in (*pools, *backing) if place[i] < 0]:
        last += 1
        ready = [i for i in waiting if i in backing and all(place[u] >= 0 for u in backing[i])]
        if ready:
            place[ready] = last
            continue
        known = {i: [usd for quote, usd in pools[i] if place[quote] >= 0] for i in waiting if i in pools}
        deepest = min((i for i, usd in known.items() if usd), key=lambda i: (-sum(known[i]), i), default=min(waiting))
        place[deepest] = last
    return place
