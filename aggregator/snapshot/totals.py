"""Positions summed against the contracts' own totals, and a gap where the contracts know of more than was listed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aggregator.core.rows import Gap
from aggregator.snapshot.prices import usd

if TYPE_CHECKING:
    from aggregator.snapshot.snapshot import Snapshot


class Reconciled(NamedTuple):
    """Raw shares: the sum of all positions on a side and the contract's total."""

    market: str
    asset: str
    side: str
    positions: int
    contract: int

    def plain(self) -> dict[str, str | bool]:
        return {
            "market": self.market,
            "asset": self.asset,
            "side": self.side,
            "positions": str(self.positions),
            "contract": str(self.contract),
            "difference": str(self.positions - self.contract),
            "equal": self.positions == self.contract,
        }


def reconcile(snap: Snapshot) -> tuple[Reconciled, ...]:
    """One line per Total row. Collateral is supply that is flagged: both count towards the supply total."""
    if "totals" not in snap.memo:
        snap.memo["totals"] = _reconcile(snap)
    found: tuple[Reconciled, ...] = snap.memo["totals"]
    return found


def _reconcile(snap: Snapshot) -> tuple[Reconciled, ...]:
    table = snap.tables["exposure"]
    found = []
    supply, collateral = snap.code("supply"), snap.code("collateral")
    has_own_total = {(t.market, t.asset) for t in snap.rows("total") if t.side == "collateral"}
    for total in snap.rows("total"):
        places = snap.find("exposure", market=total.market, asset=total.asset)
        sides = table["side"][places]
        wanted = sides == snap.code(total.side)
        if total.side == "supply" and (total.market, total.asset) not in has_own_total:
            wanted = (sides == supply) | (sides == collateral)
        columns = table["shares"][places[wanted]].sum(axis=0, dtype=np.int64)  # of bytes: exact below 2^55 rows
        summed = sum(int(c) << (8 * (31 - i)) for i, c in enumerate(columns.tolist()))
        found.append(Reconciled(total.market, total.asset, total.side, summed, total.raw))
    return tuple(found)


def total_gaps(snap: Snapshot) -> list[tuple[str, Gap]]:
    """(deployment, Gap unlisted_accounts) for every total above the sum of its positions, with the USD that is missing.

    None where a gap already tells of an account of that market that could not be read.
    """
    told = {gap.subject.split("#")[0] for gap in snap.gaps if "#" in gap.subject}
    out, deployments = [], snap.tables["total"]["deployment"]
    for line, deployment in zip(reconcile(snap), deployments.tolist(), strict=True):
        missing = line.contract - line.positions
        if missing > 0 and line.market not in told:
            detail = (
                f"{missing} of {line.contract} shares of {line.asset} ({line.side}) are of accounts that no log from "
                "start_block on names"
            )
            gap = Gap(line.market, "unlisted_accounts", detail, -1, _worth(snap, line, missing))
            out.append((snap.names[deployment], gap))
    return out


def _worth(snap: Snapshot, line: Reconciled, shares: int) -> str:
    """Dollars of shares of a line, '' where its index, price or decimals are unknown."""
    price, asset = usd(snap, line.asset), snap.assets.get(line.asset)
    index = next(iter(snap.rows("index", market=line.market, asset=line.asset, side=line.side)), None)
    if price is None or asset is None or asset.decimals < 0 or index is None or index.den == 0:
        return ""
    cents = shares * index.num * price[0].raw * 100 // index.den
    places = asset.decimals + price[0].exp
    cents = cents // 10**places if places >= 0 else cents * 10**-places
    return f"{cents // 100}.{cents % 100:02d}"
