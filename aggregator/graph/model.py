"""The dependency graph of one cut: who owes, holds, backs, prices and provides depth for what, in USD.

    holder --supplies--> market             what is lent to it
    holder --owes--> market                 debt
    holder --holds--> asset                 collateral, margin, positions, supplies
    asset --backs--> asset                  value held through the claim
    asset --prices--> market                value that the market prices by it
    pool --provides_depth--> asset          its reserve
    protocol --runs--> market or pool       what is in it

Weights are USD; an amount or price that is unknown adds nothing to a weight and its edge says so in `partial`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.core.ids import adapter_of, source_of
from aggregator.core.table import Table
from aggregator.snapshot import Snapshot, values

Floats = npt.NDArray[np.float64]
NODE_KINDS = ("asset", "holder", "market", "pool", "protocol")
EDGE_KINDS = ("backs", "holds", "owes", "prices", "provides_depth", "runs", "supplies")


@dataclass(frozen=True, eq=False, slots=True)
class RiskGraph:
    """names (nodes,) sorted by (kind, name); kind (nodes,) index into NODE_KINDS.

    src, dst (edges,) node codes, edge_kind into EDGE_KINDS, weight_usd >= 0, partial; sorted by (src, dst, kind), no
    two edges alike. fraction (edges,): for `backs`, the share of the claim's value that stands on src; nan elsewhere.
    """

    digest: str
    names: tuple[str, ...]
    labels: tuple[str, ...]
    kind: npt.NDArray[np.int8]
    src: npt.NDArray[np.int32]
    dst: npt.NDArray[np.int32]
    edge_kind: npt.NDArray[np.int8]
    weight_usd: Floats
    partial: npt.NDArray[np.bool_]
    fraction: Floats


class _Edge(NamedTuple):
    src: tuple[str, str]
    dst: tuple[str, str]
    kind: str
    usd: float
    fraction: float = float("nan")


def build(snapshot: Snapshot) -> RiskGraph:
    """The graph of a snapshot; the same for the same snapshot."""
    edges = [*_positions(snapshot), *_claims(snapshot), *_prices(snapshot), *_depth(snapshot), *_protocols(snapshot)]
    labels = {("asset", a.id): a.symbol for a in snapshot.assets.values()}
    nodes = sorted({e.src for e in edges} | {e.dst for e in edges} | set(labels))
    at = {node: i for i, node in enumerate(nodes)}
    merged: dict[tuple[int, int, int], list[float]] = {}
    for e in edges:
        key = at[e.src], at[e.dst], EDGE_KINDS.index(e.kind)
        total = merged.setdefault(key, [0.0, 0.0, 0.0])
        unknown = isnan(e.usd)
        total[0] += 0.0 if unknown else e.usd
        total[1] += float(unknown)
        total[2] += e.fraction
    keys = sorted(merged)
    found = np.array([merged[k] for k in keys]).reshape(-1, 3)
    src, dst, kind = (np.array([k[i] for k in keys], t) for i, t in enumerate((np.int32, np.int32, np.int8)))
    return RiskGraph(
        digest=snapshot.digest,
        names=tuple(name for _, name in nodes),
        labels=tuple(labels.get(node) or node[1] for node in nodes),
        kind=np.array([NODE_KINDS.index(k) for k, _ in nodes], np.int8),
        src=src.astype(np.int32),
        dst=dst.astype(np.int32),
        edge_kind=kind.astype(np.int8),
        weight_usd=found[:, 0],
        partial=found[:, 1] > 0.0,
        fraction=found[:, 2],
    )


_SIDE_EDGE = {"supply": "supplies", "debt": "owes"}


def _positions(snap: Snapshot) -> list[_Edge]:
    table, usd = snap.tables["exposure"], values.value_usd(snap)
    keys, sums = _sum_by(table, ("holder", "market", "asset", "side"), usd)
    out = []
    for (h, m, a, s), value in zip(keys.tolist(), sums.tolist(), strict=True):
        holder, market, asset, side = (snap.names[c] for c in (h, m, a, s))
        kind = _SIDE_EDGE.get(side, "holds")
        node = ("market", market) if kind != "holds" else ("asset", asset)
        out.append(_Edge(("holder", holder), node, kind, value))
        if kind == "supplies":
            out.append(_Edge(("holder", holder), ("asset", asset), "holds", value))
    return out


def _claims(snap: Snapshot) -> list[_Edge]:
    """Value held through each claim, split over its underlyings by dollar fractions that add up to one."""
    price = values.price_usd(snap)
    table, usd = snap.tables["exposure"], values.value_usd(snap)
    owned = table["side"] != snap.code("debt")
    held, sums = _sum_by(table, ("asset",), np.where(owned, usd, 0.0))
    outstanding = {snap.names[a]: v for (a,), v in zip(held.tolist(), sums.tolist(), strict=True)}
    baskets: dict[str, list[tuple[str, float]]] = {}
    for row in snap.rows("claim"):
        under = price[snap.code(row.underlying)]
        part = row.num / row.den * under if row.den else float("nan")
        baskets.setdefault(row.asset, []).append((row.underlying, part))
    out = []
    for asset, parts in baskets.items():
        total = sum(p for _, p in parts)
        for under, part in parts:
            fraction = part / total if total > 0.0 else float("nan")
            out.append(
                _Edge(("asset", under), ("asset", asset), "backs", outstanding.get(asset, 0.0) * fraction, fraction)
            )
    return out


def _prices(snap: Snapshot) -> list[_Edge]:
    table, usd = snap.tables["exposure"], values.value_usd(snap)
    keys, sums = _sum_by(table, ("market", "asset"), usd)
    worth = {(snap.names[m], snap.names[a]): v for (m, a), v in zip(keys.tolist(), sums.tolist(), strict=True)}
    pairs = sorted({(p.market, p.asset) for p in snap.rows("price") if p.market})
    return [_Edge(("asset", a), ("market", m), "prices", worth.get((m, a), 0.0)) for m, a in pairs]


def _depth(snap: Snapshot) -> list[_Edge]:
    price, out = values.price_usd(snap), []
    pools = {row.market for row in snap.rows("market") if row.kind == "amm"}
    for term in snap.rows("term", key="reserve"):
        if term.market in pools and term.asset:
            usd = term.raw * price[snap.code(term.asset)]
            out.append(_Edge(("pool", term.market), ("asset", term.asset), "provides_depth", float(usd)))
    for row in snap.rows("depth"):
        if row.kind == "reserve":
            usd = row.raw * price[snap.code(row.asset)]
            out.append(_Edge(("pool", row.market), ("asset", row.asset), "provides_depth", float(usd)))
    return out


def _protocols(snap: Snapshot) -> list[_Edge]:
    table, usd = snap.tables["exposure"], values.value_usd(snap)
    owned = table["side"] != snap.code("debt")
    keys, sums = _sum_by(table, ("market",), np.where(owned, usd, 0.0))
    worth = {snap.names[m]: v for (m,), v in zip(keys.tolist(), sums.tolist(), strict=True)}
    out = []
    for row in snap.rows("market"):
        protocol = f"{source_of(row.market)}/{adapter_of(row.market)}" if "/" in row.market else row.market
        kind = "pool" if row.kind == "amm" else "market"
        out.append(_Edge(("protocol", protocol), (kind, row.market), "runs", worth.get(row.market, 0.0)))
    return out


def _sum_by(table: Table, columns: tuple[str, ...], usd: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
    """(groups, columns) codes and the sum of usd of each; nan where any part is unknown."""
    codes = np.stack([table[c].astype(np.int64) for c in columns], axis=1)
    if not len(codes):
        return np.zeros((0, len(columns)), np.int64), np.zeros(0)
    unique, inverse = np.unique(codes, axis=0, return_inverse=True)
    return unique, np.bincount(inverse.reshape(-1), usd, len(unique)).astype(np.float64)
