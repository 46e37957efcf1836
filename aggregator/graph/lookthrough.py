"""What an asset stands on in the end: claims dissolved into their backing by fractional dollar amounts.

With F[c, u] the share of claim c's value that stands on u (rows of claims add up to one, rows of others are zero) and
N = (I - F)^-1 the visits of a dollar that walks from claim to backing (Kemeny and Snell, Finite Markov Chains, 1960,
theorems 3.2.4 and 3.3.5),

    share[c, a] = N[c, a] / N[a, a]        the part of a dollar of c that ever stands on a,  share[c, c] = 1
    sum over assets a that are no claim of share[c, a] = 1

so a portfolio keeps its value exactly when it is looked through to what is no claim. Claims are dissolved from their
backing up; those that stand on each other in a circle are solved together. A circle that nothing else backs has no
base: its rows are zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse

from aggregator.graph.model import EDGE_KINDS, NODE_KINDS, RiskGraph

if TYPE_CHECKING:
    import networkx as nx

_Rows = dict[int, dict[int, float]]


class LookThrough(NamedTuple):
    """assets (n,) node codes; share (n, n) CSR, row a = what one dollar of a stands on; base (n,) True for no claim.

    unbacked: ids of claims that stand, in whole or in part, on circles or on what has no price (the latter keep their
    value as if they were no claims).
    """

    assets: np.ndarray[tuple[int], np.dtype[np.int64]]
    share: sparse.csr_array
    base: np.ndarray[tuple[int], np.dtype[np.bool_]]
    unbacked: tuple[str, ...]


def look_through(graph: RiskGraph) -> LookThrough:
    """Every asset of the graph dissolved; the order of assets is that of the graph's nodes."""
    import networkx as nx

    assets = np.flatnonzero(graph.kind == NODE_KINDS.index("asset"))
    n, place = len(assets), np.full(len(graph.names), -1, np.int64)
    place[assets] = np.arange(n)
    backs = graph.edge_kind == EDGE_KINDS.index("backs")
    edges = np.flatnonzero(backs & (graph.fraction > 0.0))
    claim, backing = place[graph.dst[edges]], place[graph.src[edges]]
    steps: nx.DiGraph = nx.DiGraph()
    steps.add_nodes_from(range(n))
    steps.add_weighted_edges_from(zip(claim.tolist(), backing.tolist(), graph.fraction[edges].tolist(), strict=True))
    circles = nx.condensation(steps)
    visits: _Rows = {}
    for circle in reversed(list(nx.topological_sort(circles))):  # backing first
        visits |= _visits(steps, sorted(circles.nodes[circle]["members"]), visits)
    base = np.ones(n, np.bool_)
    base[claim] = False
    at = [(c, a, v / visits[a][a]) for c, row in visits.items() for a, v in row.items()]
    rows, columns, values = (np.array([x[i] for x in at], t) for i, t in enumerate((np.int64, np.int64, np.float64)))
    share = sparse.csr_array((values, (rows, columns)), shape=(n, n))
    lost = np.asarray(share[:, np.flatnonzero(base)].sum(axis=1)).reshape(-1) < 1.0 - 1e-9
    lost[place[graph.dst[backs & np.isnan(graph.fraction)]]] = True
    return LookThrough(assets, share, base, tuple(graph.names[assets[i]] for i in np.flatnonzero(lost).tolist()))


def _visits(steps: nx.DiGraph, members: Sequence[int], known: Mapping[int, Mapping[int, float]]) -> _Rows:
    """Rows of N for claims that all stand on each other, given those of what they stand on outside."""
    inner = {m: i for i, m in enumerate(members)}
    within, outside = np.zeros((len(members), len(members))), [{m: 1.0} for m in members]
    leaves = False
    for m, i in inner.items():
        for u, fraction in steps[m].items():
            if u in inner:
                within[i, inner[u]] = fraction["weight"]
            else:
                leaves = True
                for a, visits in known[u].items():
                    outside[i][a] = outside[i].get(a, 0.0) + fraction["weight"] * visits
    if not within.any():
        return dict(zip(members, outside, strict=True))
    if not leaves:
        return {m: {} for m in members}
    columns = sorted(set().union(*outside))
    right = np.array([[row.get(a, 0.0) for a in columns] for row in outside])
    try:
        solved = np.linalg.solve(np.eye(len(members)) - within, right)
    except np.linalg.LinAlgError:  # what leaves the circle is below the precision of its fractions
        return {m: {} for m in members}
    return {m: dict(zip(columns, solved[i].tolist(), strict=True)) for m, i in inner.items()}
