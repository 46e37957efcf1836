"""What was read of what there is: coverage by deployment, and positions summed against the contracts' own totals."""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from aggregator.core.result import Coverage
from aggregator.snapshot import Snapshot, coverage


class Reconciled(NamedTuple):
    """Raw shares: the sum of all positions on a side and the contract's total."""

    market: str
    asset: str
    side: str
    positions: int
    contract: int

    def plain(self) -> dict[str, Any]:
        return {
            "market": self.market,
            "asset": self.asset,
            "side": self.side,
            "positions": str(self.positions),
            "contract": str(self.contract),
            "difference": str(self.positions - self.contract),
            "equal": self.positions == self.contract,
        }


@lru_cache(maxsize=4)
def reconcile(snap: Snapshot) -> tuple[Reconciled, ...]:
    """One line per Total row. Collateral is supply that is flagged: both count towards the supply total."""
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
        columns = table["shares"][places[wanted]].astype(np.int64).sum(axis=0)  # 32 byte columns: exact below 2^55 rows
        summed = sum(int(c) << (8 * (31 - i)) for i, c in enumerate(columns.tolist()))
        found.append(Reconciled(total.market, total.asset, total.side, summed, total.raw))
    return tuple(found)


@lru_cache(maxsize=4)
def _coverage(snap: Snapshot) -> tuple[Coverage, ...]:
    return tuple(coverage.coverage(snap))


def coverage_json(snap: Snapshot) -> list[dict[str, Any]]:
    """Per deployment; value_usd is what its positions own, of what could be priced (float lane, two places)."""
    return [asdict(row) for row in _coverage(snap)]
