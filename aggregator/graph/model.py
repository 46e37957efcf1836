"""The dependency graph of one cut: who owes, holds, backs, prices and provides depth for what, in USD.

    holder --supplies--> market             what is lent to it
    holder --owes--> market                 debt
    holder --holds--> asset                 collateral, margin, positions, supplies
    asset --backs--> asset                  value held through the claim
    asset --prices--> market                value that the market prices by it
    pool --provides_depth--> asset          its reserve
    protocol --runs--> market or pool       what is in it

Weights are USD; an amount or price that is unknown adds nothing to a weight and its edge says so in `partial`.
Options and perpetuals hold nothing; their margin does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.core.ids import adapter_of, source_of
from aggregator.snapshot import Snapshot, values

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[Any]
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


class _Edges(NamedTuple):
    """Arrays (n,) of one kind of edge: (node kind, id) of both ends, USD, whether some of it is unknown, fraction.

    An id is a code of the snapshot; protocols, which no row names, follow behind them.
    """

    src_kind: str
    src: Ints
    dst_kind: str
    dst: Ints
    kind: str
    usd: Floats
    unknown: Bools
    fraction: Floats


def build(snapshot: Snapshot) -> RiskGraph:
    """The graph of a snapshot; the same for the same snapshot."""
    value = values.value_usd(snapshot)
    protocols, runs = _protocols(snapshot, value)
    edges = [
        *_positions(snapshot, value),
        *_claims(snapshot, value),
        _prices(snapshot, value),
        *_depth(snapshot),
        *runs,
    ]
    names = (*snapshot.names, *protocols)
    assets = np.array([snapshot.code(asset) for asset in snapshot.assets], np.int64)
    # names are sorted, so kind and id order nodes as kind and name do
    ends = [_keys(e.src_kind, e.src, names) for e in edges], [_keys(e.dst_kind, e.dst, names) for e in edges]
    nodes = np.unique(np.concatenate([*ends[0], *ends[1], _keys("asset", assets, names)]))
    src, dst = (np.searchsorted(nodes, np.concatenate(keys)) for keys in ends)
    kind = np.concatenate([np.full(len(e.src), EDGE_KINDS.index(e.kind)) for e in edges])
    merged, place = np.unique((src * len(nodes) + dst) * len(EDGE_KINDS) + kind, return_inverse=True)
    both, which = np.divmod(merged, len(EDGE_KINDS))
    node_kind, identifier = np.divmod(nodes, len(names))
    symbols = {asset.id: asset.symbol for asset in snapshot.assets.values()}
    is_asset = node_kind == NODE_KINDS.index("asset")
    called = tuple(names[i] for i in identifier.tolist())
    return RiskGraph(
        digest=snapshot.digest,
        names=called,
        labels=tuple((symbols.get(n) or n) if a else n for n, a in zip(called, is_asset.tolist(), strict=True)),
        kind=node_kind.astype(np.int8),
        src=(both // max(len(nodes), 1)).astype(np.int32),
        dst=(both % max(len(nodes), 1)).astype(np.int32),
        edge_kind=which.astype(np.int8),
        weight_usd=_sum(place, np.concatenate([e.usd for e in edges]), len(merged)),
        partial=_sum(place, np.concatenate([e.unknown for e in edges]), len(merged)) > 0.0,
        fraction=_sum(place, np.concatenate([e.fraction for e in edges]), len(merged)),
    )


def _positions(snap: Snapshot, value: Floats) -> list[_Edges]:
    table = snap.tables["exposure"]
    debt, supply = table["side"] == snap.code("debt"), table["side"] == snap.code("supply")

    def edges(which: Bools, column: str, kind: str) -> _Edges:
        return _edges("holder", table["holder"][which], column, table[column][which], kind, value[which])

    return [edges(debt, "market", "owes"), edges(supply, "market", "supplies"), edges(~debt, "asset", "holds")]


def _claims(snap: Snapshot, value: Floats) -> list[_Edges]:
    """Value held through each claim, split over its underlyings by dollar fractions that add up to one."""
    price, (held, unknown) = values.price_usd(snap), _owned(snap, "asset", value)
    baskets: dict[int, list[tuple[int, float]]] = {}
    for row in snap.rows("claim"):
        under = snap.code(row.underlying)
        part = row.num / row.den * float(price[under]) if row.den else nan
        baskets.setdefault(snap.code(row.asset), []).append((under, part))
    split = [
        (under, asset, part / total if (total := sum(p for _, p in parts)) > 0.0 else 1.0 / len(parts) + total)
        for asset, parts in baskets.items()
        for under, part in parts
    ]  # of a basket that is worth nothing alike, of an unknown one nan
    unders, claims, fractions = (list(column) for column in zip(*split, strict=True)) if split else ([], [], [])
    asset, fraction = np.array(claims, np.int64), np.array(fractions, np.float64)
    found = _edges("asset", np.array(unders, np.int64), "asset", asset, "backs", held[asset] * fraction)
    return [found._replace(unknown=found.unknown | unknown[asset], fraction=fraction)]


def _prices(snap: Snapshot, value: Floats) -> _Edges:
    """What each market holds and lends of every asset that it prices."""
    table, exposure, n = snap.tables["price"], snap.tables["exposure"], len(snap.names)
    own = table["market"] != snap.code("")
    pairs = np.unique(table["market"][own].astype(np.int64) * n + table["asset"][own])
    place = np.searchsorted(pairs, exposure["market"].astype(np.int64) * n + exposure["asset"])
    hit = place < len(pairs)
    hit[hit] = pairs[place[hit]] == (exposure["market"].astype(np.int64) * n + exposure["asset"])[hit]
    worth, unknown = _known(place[hit], value[hit], len(pairs))
    return _edges("asset", pairs % n, "market", pairs // n, "prices", worth)._replace(unknown=unknown)


def _depth(snap: Snapshot) -> list[_Edges]:
    price = values.price_usd(snap)
    pools = {row.market for row in snap.rows("market") if row.kind == "amm"}
    reserves = [t for t in snap.rows("term", key="reserve") if t.market in pools and t.asset]
    reserves += [d for d in snap.rows("depth") if d.kind == "reserve"]
    pool, asset = (np.array([snap.code(name) for name in column], np.int64) for column in (
        [r.market for r in reserves], [r.asset for r in reserves]
    ))  # fmt: skip
    usd = np.array([float(r.raw) for r in reserves]) * price[asset]
    return [_edges("pool", pool, "asset", asset, "provides_depth", usd)]


def _protocols(snap: Snapshot, value: Floats) -> tuple[list[str], list[_Edges]]:
    """Names of protocols, sorted, and what is in each of their markets and pools."""
    worth, unknown = _owned(snap, "market", value)
    markets = [(_protocol(row.market), snap.code(row.market), row.kind == "amm") for row in snap.rows("market")]
    names = sorted({protocol for protocol, _, _ in markets})
    place = {name: len(snap.names) + i for i, name in enumerate(names)}
    found = []
    for kind, amm in (("market", False), ("pool", True)):
        some = [(place[protocol], code) for protocol, code, is_amm in markets if is_amm is amm]
        src, dst = (np.array([pair[i] for pair in some], np.int64) for i in (0, 1))
        found.append(_edges("protocol", src, kind, dst, "runs", worth[dst])._replace(unknown=unknown[dst]))
    return names, found


def _protocol(market: str) -> str:
    return f"{source_of(market)}/{adapter_of(market)}" if "/" in market else market


def _edges(src_kind: str, src: Ints, dst_kind: str, dst: Ints, kind: str, usd: Floats) -> _Edges:
    unknown = np.isnan(usd)
    return _Edges(src_kind, src, dst_kind, dst, kind, np.where(unknown, 0.0, usd), unknown, np.full(len(usd), nan))


def _owned(snap: Snapshot, column: str, value: Floats) -> tuple[Floats, Bools]:
    """By code: USD of what is held there, debts aside, and whether some of it is unknown."""
    table = snap.tables["exposure"]
    owned = table["side"] != snap.code("debt")
    return _known(table[column][owned], value[owned], len(snap.names))


def _known(place: Ints, usd: Floats, n: int) -> tuple[Floats, Bools]:
    unknown = np.isnan(usd)
    return _sum(place, np.where(unknown, 0.0, usd), n), _sum(place, unknown, n) > 0.0


def _sum(place: Ints, what: Floats | Bools, n: int) -> Floats:
    return np.bincount(place, what, n).astype(np.float64)


def _keys(kind: str, ids: Ints, names: Sequence[str]) -> Ints:
    return NODE_KINDS.index(kind) * len(names) + ids.astype(np.int64)
