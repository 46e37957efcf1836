"""What was read of what there is: coverage by deployment, and positions summed against the contracts' own totals."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from aggregator.core.ids import adapter_of
from aggregator.report.plain import chain_json
from aggregator.snapshot import Snapshot, values


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


def _supplied_usd(snap: Snapshot) -> dict[str, float]:
    """Deployment -> dollars of all sides but debt, of what could be priced (float lane)."""
    table = snap.tables["exposure"]
    usd = np.where(table["side"] == snap.code("debt"), 0.0, np.nan_to_num(values.value_usd(snap), nan=0.0))
    codes, inverse = np.unique(table["deployment"], return_inverse=True)
    sums = np.bincount(inverse, weights=usd, minlength=len(codes))
    return {snap.names[code]: float(total) for code, total in zip(codes.tolist(), sums.tolist(), strict=True)}


@lru_cache(maxsize=4)
def _coverage(snap: Snapshot) -> tuple[tuple[Any, ...], ...]:
    gaps: dict[str, int] = {}
    for place, gap in enumerate(snap.gaps):
        # a source that gave nothing has no place in the cut: its deployments speak through the subject of their Gap
        absent = gap.reason == "source_failed"
        deployment = gap.subject if absent else snap.names[int(snap.tables["gap"]["deployment"][place])]
        gaps[deployment] = gaps.get(deployment, 0) + 1
    supplied = _supplied_usd(snap)
    rows = []
    for deployment in sorted({*snap.levels, *gaps}):
        accounts = set()
        for kind in ("exposure", "perp", "option"):
            table, places = snap.tables[kind], snap.find(kind, deployment=deployment)
            accounts |= set(zip(table["market"][places].tolist(), table["holder"][places].tolist(), strict=True))
        level = snap.levels.get(deployment, "failed")
        value = supplied.get(deployment, 0.0)
        rows.append(
            (
                chain_json(deployment),
                adapter_of(deployment),
                level,
                len(accounts),
                f"{value:.2f}",
                gaps.get(deployment, 0),
            )
        )
    return tuple(rows)


def coverage_json(snap: Snapshot) -> list[dict[str, Any]]:
    """Per deployment; value_usd is what its positions supply, of what could be priced (float lane, two places)."""
    keys = ("chain", "protocol", "level", "accounts", "value_usd", "gaps")
    return [dict(zip(keys, row, strict=True)) for row in _coverage(snap)]
