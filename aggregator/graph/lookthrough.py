"""What an asset stands on in the end: claims dissolved into their backing by fractional dollar amounts.

With F[c, u] the share of claim c's value that stands on u (rows of claims add up to one, rows of others are zero),

    S = (I - F)^-1 restricted to assets that are no claim,        sum over base of S[c, base] = 1

so a portfolio keeps its value exactly when it is looked through. Claims that only stand on each other have no base:
their rows are zero and `unbacked` names them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from aggregator.core.errors import ConfigError
from aggregator.graph.model import EDGE_KINDS, NODE_KINDS, Floats, RiskGraph

_ROUNDS = 10_000


class LookThrough(NamedTuple):
    """share: (assets, assets) CSR, row a = what one dollar of a stands on; assets: node codes; unbacked: asset ids."""

    assets: np.ndarray[tuple[int], np.dtype[np.int64]]
    share: sparse.csr_array
    unbacked: tuple[str, ...]


class Holding(NamedTuple):
    """USD of an asset that a holder reaches: outright, and through claims."""

    holder: str
    direct_usd: float
    through_usd: float


def look_through(graph: RiskGraph) -> LookThrough:
    assets = np.flatnonzero(graph.kind == NODE_KINDS.index("asset"))
    place = np.full(len(graph.names), -1, np.int64)
    place[assets] = np.arange(len(assets))
    edges = np.flatnonzero((graph.edge_kind == EDGE_KINDS.index("backs")) & np.isfinite(graph.fraction))
    n = len(assets)
    rows, columns = place[graph.dst[edges]], place[graph.src[edges]]
    step = sparse.csr_array((graph.fraction[edges], (rows, columns)), shape=(n, n))
    base = np.ones(n)
    base[rows] = 0.0
    walk = sparse.csr_array(sparse.diags_array(np.ones(n)))
    done = sparse.csr_array((n, n))
    for _ in range(_ROUNDS):
        done = done + walk @ sparse.diags_array(base)
        walk = walk @ sparse.diags_array(1.0 - base) @ step
        walk.eliminate_zeros()
        if not walk.nnz or float(abs(walk).max()) < 1e-15:
            break
    covered = np.asarray(done.sum(axis=1)).reshape(-1)
    unbacked = tuple(graph.names[assets[i]] for i in np.flatnonzero(covered < 1.0 - 1e-9).tolist())
    return LookThrough(assets, sparse.csr_array(done), unbacked)


def exposure(graph: RiskGraph, asset: str) -> list[Holding]:
    """Who holds the asset, outright or through any chain of claims, largest first. ConfigError for an unknown asset."""
    code = graph.code("asset", asset)
    if code < 0:
        raise ConfigError("no such asset in the graph", expected="an asset id", found=asset)
    seen = look_through(graph)
    place = np.full(len(graph.names), -1, np.int64)
    place[seen.assets] = np.arange(len(seen.assets))
    column: Floats = np.asarray(seen.share[:, [int(place[code])]].todense()).reshape(-1)
    edges = np.flatnonzero(graph.edge_kind == EDGE_KINDS.index("holds"))
    direct: dict[str, float] = {}
    through: dict[str, float] = {}
    for e in edges.tolist():
        held = int(graph.dst[e])
        share = float(column[place[held]])
        if held == code:
            share = 1.0
        if share > 0.0:
            into = direct if held == code else through
            holder = graph.names[graph.src[e]]
            into[holder] = into.get(holder, 0.0) + share * float(graph.weight_usd[e])
    out = [Holding(h, direct.get(h, 0.0), through.get(h, 0.0)) for h in direct.keys() | through.keys()]
    return sorted(out, key=lambda x: (-(x.direct_usd + x.through_usd), x.holder))
