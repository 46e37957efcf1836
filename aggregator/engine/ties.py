"""What counts as equal, who then comes first, and the edges at which a change of the last digits may tell.

Two numbers within 1e-9 of each other are equal; among equals the one that costs less to sell comes first (net of fee
and impact), then the one of deeper depth, then the one with the lower id. "Within 1e-9" is not transitive: values are
taken in order and compared with the first of their level, never with their neighbour, so no level is wider than that
and its members do not depend on the order of rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from aggregator.engine.book import Flags, Floats, Indices

SAME = 1e-9  # relative
_NEAR = 2.0 * SAME  # listed as an edge: within a change of 1e-9 of being equal


class Near(NamedTuple):
    """One edge by account, or by asset (account -1). off: relative distance, 0 on it."""

    kind: str
    account: int
    asset: int
    off: float


class Edges:
    """The edges that a cascade came near, each at its closest: (accounts,) or (assets,) columns by kind.

    health: weighted collateral equals debt · step: a close factor, dust or all of the collateral · profit: a call just
    pays · tie: two calls, or two accounts, of one rank · pool: the end of an asset's depth.
    """

    def __init__(self, accounts: int, assets: int) -> None:
        size = {"health": accounts, "pool": assets, "profit": accounts, "step": accounts, "tie": accounts}
        self._off = {kind: np.full(n, np.inf) for kind, n in size.items()}
        self._asset = {kind: np.full(n, -1, np.int32) for kind, n in size.items()}

    def note(self, kind: str, at: Indices, off: Floats | float, asset: Indices | int = -1) -> None:
        """at (k,): accounts, assets for `pool`; off (k,) or one for all; asset (k,): the collateral, -1 for none."""
        off, asset = np.broadcast_to(off, at.shape), np.broadcast_to(asset, at.shape)
        closer = off < self._off[kind][at]
        self._off[kind][at[closer]] = off[closer]
        self._asset[kind][at[closer]] = asset[closer]

    def counts(self) -> dict[str, int]:
        return {kind: n for kind, off in self._off.items() if (n := int(np.isfinite(off).sum()))}

    def nearest(self, most: int) -> list[Near]:
        """At most so many of each kind, the closest first, then by code."""
        out = []
        for kind, off in self._off.items():
            at = np.flatnonzero(np.isfinite(off))
            for i in at[np.lexsort((at, off[at]))][:most].tolist():
                pool = kind == "pool"
                out.append(Near(kind, -1 if pool else i, i if pool else int(self._asset[kind][i]), float(off[i])))
        return out


def levels(values: Floats) -> Indices:
    """(n,) the level of each in rising order; a level is its least value and all within 1e-9 of it."""
    if len(values) and not _apart(values.max(), values.min()):
        return np.zeros(len(values), np.int64)
    order = np.argsort(values, kind="stable")
    rising = values[order]
    apart = _apart(rising[1:], rising[:-1])
    first = np.flatnonzero(np.append(True, apart)) if len(values) else np.zeros(0, np.int64)
    last = np.append(first[1:], len(values)) - 1
    wide = np.flatnonzero(_apart(rising[last], rising[first])) if len(values) else first
    starts = np.zeros(len(values), np.bool_)
    starts[first] = True
    for k in wide.tolist():  # neighbours are equal, the ends are not
        at = int(first[k])
        while at <= last[k]:
            starts[at] = True
            within = rising[at : last[k] + 1] - rising[at] <= SAME * np.abs(rising[at])
            at += max(1, int(within.argmin()) if not within.all() else len(within))
    out = np.empty(len(values), np.int64)
    out[order] = np.cumsum(starts) - 1
    return out


def _apart(high: Floats | np.float64, low: Floats | np.float64) -> Flags:
    with np.errstate(invalid="ignore"):  # two infinities are equal
        out: Flags = high - low > SAME * np.maximum(np.abs(high), np.abs(low))
    return out


def least(owner: Indices, values: Floats, size: Floats, n: int) -> tuple[Flags, Floats]:
    """(k,) whether each is its owner's least within 1e-9 of its size, and how far off it is by that size.

    owner (k,) codes below n; size (k,) >= 0: what 1e-9 is relative to.
    """
    best, whole = np.full(n, np.inf), np.zeros(n)
    np.minimum.at(best, owner, values)
    np.maximum.at(whole, owner, size)
    gap, whole = values - best[owner], whole[owner]
    off = np.divide(gap, whole, out=np.where(gap > 0.0, np.inf, 0.0), where=whole > 0.0)
    return off <= SAME, off


def near(off: Floats) -> Flags:
    """Whether a relative distance is small enough to be listed."""
    out: Flags = np.abs(off) <= _NEAR
    return out


def surplus(got: float, cost: float) -> float:
    """By how much of the cost more than it is got; inf where it costs nothing."""
    return got / cost - 1.0 if cost > 0.0 else np.inf
