"""Static measures on exposures: impact, communicability, and bounds that need no simulation.

Impact v_ij = exposure of j to i / equity of j, capped at 1; binary where v >= 1 (i's failure alone fells j).
Communicability exp(v) counts paths of contagion, longer ones less (Estrada and Hatano 2008,
doi:10.1103/PhysRevE.77.036111).  Susceptibility of j: paths that reach j per direct path; fluidity: its mean; diffusion
of q: what of it goes when q passes nothing on (Silva, Souza and Tabak 2015, Banco Central do Brasil WP 391 and 392).

Glasserman and Young 2015, doi:10.1016/j.jbankfin.2014.02.006.  With net worth w, outside assets c, leverage c/w and
beta the share of a node's debts owed inside: contagion from i to all of D by a shock to c_i alone is impossible if

    sum_{j in D} w_j > w_i * beta_i * (c_i/w_i - 1),                                                  (1)

because what i cannot pay inside is at most beta_i*(c_i - w_i).  For shocks X_i whose share X_i/c_i has one law for all
nodes with an increasing failure rate, expected losses (outside assets lost plus payments missed) exceed those without
the network by at most the factor

    1 + sum_i delta_i c_i / ((1 - beta+) sum_i c_i),   delta_i = P(X_i > w_i),  beta+ = max beta:     (2)

payments missed are at most sum_i (X_i - w_i)+ / (1 - beta+), and E[X_i - w_i | X_i > w_i] <= E[X_i] for such a law.
A heavy tail has a decreasing failure rate, and the bound may then be broken.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import linalg

from aggregator.core.errors import DomainError
from aggregator.quant._checks import floats, indices, representable, require
from aggregator.quant.network import Floats, Matrix, as_network, as_vector


@representable
def impact_matrix(claims: Matrix, equity: npt.ArrayLike, *, binary: bool = False) -> Floats:
    """v (n, n), dense: v[i, j] = claims[j, i] / equity[j] capped at 1, or 1 where it reaches 1.  equity (n,) > 0."""
    network = as_network(claims, "claims", loops=True)
    own = as_vector(equity, network.shape[0], "equity", positive=True)
    v = np.asarray(network.toarray().T, dtype=np.float64) / own
    return np.asarray(np.where(v >= 1.0, 1.0, 0.0 if binary else v), dtype=np.float64)


@representable
def communicability(impact: npt.ArrayLike) -> Floats:
    """Matrix exponential (n, n) of impacts (n, n); DomainError names a negative or infinite entry, or an overflow."""
    v = _impacts(impact)
    paths = np.asarray(linalg.expm(v)) if v.size else v
    require("communicability", paths, np.isfinite(paths), "finite: smaller impacts")
    return paths


class Diffusion(NamedTuple):
    """(n,) each: paths that start at a node, paths that pass through it, and their sum."""

    start: Floats
    intermediate: Floats
    total: Floats


@representable
def susceptibility(impact: npt.ArrayLike) -> Floats:
    """(n,) remote and direct paths into a node over direct ones; 0 for a node that nothing reaches directly."""
    v = _impacts(impact)
    paths, direct = _paths(v).sum(axis=0), v.sum(axis=0)
    return np.asarray(np.divide(paths, direct, out=np.zeros(len(v)), where=direct > 0.0), dtype=np.float64)


@representable
def fluidity(impact: npt.ArrayLike) -> float:
    """Mean susceptibility; NaN for an empty network."""
    s = susceptibility(impact)
    return float(s.mean()) if len(s) else float("nan")


@representable
def diffusion(impact: npt.ArrayLike) -> Diffusion:
    """Loss of paths when each node in turn passes nothing on, per direct path of that node."""
    v = _impacts(impact)
    n, whole = len(v), _paths(v)
    start, through = np.zeros(n), np.zeros(n)
    for q in np.flatnonzero(v.sum(axis=1) > 0.0):
        muted = v.copy()
        muted[q] = 0.0
        gone = np.maximum(whole - _paths(muted), 0.0).sum(axis=1) / v[q].sum()
        start[q], through[q] = gone[q], gone.sum() - gone[q]
    return Diffusion(start, through, start + through)


@representable
def contagion_impossible(
    equity: npt.ArrayLike,
    outside_assets: npt.ArrayLike,
    inside_share: npt.ArrayLike,
    source: int,
    targets: npt.ArrayLike,
) -> bool:
    """True if (1) rules out that a shock to `source` alone makes every target fail.

    equity > 0, outside_assets (money), inside_share in [0, 1]: (n,); targets (k,), k >= 1, nodes other than source.
    """
    w = np.atleast_1d(floats("equity", equity))
    n = len(w)
    w, c = as_vector(w, n, "equity", positive=True), as_vector(outside_assets, n, "outside_assets")
    beta = _share(inside_share, n)
    source = int(indices("source", source, n))
    at = np.unique(indices("targets", np.atleast_1d(targets), n))  # a target named twice has its net worth once
    if at.size == 0 or source in at:
        raise DomainError("targets are unusable", expected="nodes other than the source", found=f"{source}, {at}")
    return bool(w[at].sum() > beta[source] * (c[source] - w[source]))


@representable
def amplification_bound(
    default_probability: npt.ArrayLike, outside_assets: npt.ArrayLike, inside_share: npt.ArrayLike
) -> float:
    """Bound (2): expected loss with the network over without; inf if some node owes everything inside.

    default_probability, inside_share (n,) in [0, 1]; outside_assets (n,) in money.  Increasing failure rates only.
    """
    c = np.atleast_1d(floats("outside_assets", outside_assets))
    c, delta = as_vector(c, len(c), "outside_assets"), as_vector(default_probability, len(c), "default_probability")
    top = float(np.max(_share(inside_share, len(c)), initial=0.0))
    require("default_probability", delta, delta <= 1.0, "0 <= probability <= 1")
    if not c.sum() > 0.0:
        raise DomainError("bound is undefined", expected="some outside assets", found="none")
    return float("inf") if top >= 1.0 else 1.0 + float(delta @ c / ((1.0 - top) * c.sum()))


def _impacts(impact: npt.ArrayLike) -> Floats:
    return np.asarray(as_network(impact, "impact", loops=True).toarray(), dtype=np.float64)


def _paths(v: Floats) -> Floats:
    found = communicability(v).copy()
    np.fill_diagonal(found, 0.0)
    return found


def _share(values: npt.ArrayLike, size: int) -> Floats:
    beta = as_vector(values, size, "inside_share")
    require("inside_share", beta, beta <= 1.0, "0 <= beta <= 1")
    return beta
