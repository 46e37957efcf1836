"""Stress that spreads before default: DebtRank (single-hit, linear, non-linear) and threshold cascades.

h_i in [0, 1] is the share of its equity that node i has lost, Lambda_ij = A_ij / E_i(0) its claim on j over its equity.
From shocks h(0), with T the stress that a node passes on,

    h_i = min(1, h_i(0) + sum_j Lambda_ij T(h_j)),    the least solution, from below                    (1)

    linear       T(h) = h                                 Bardoscia et al. 2015, doi:10.1371/journal.pone.0130406
    non-linear   T(h) = h * exp(alpha*(h - 1))            Bardoscia et al. 2016, doi:10.1371/journal.pone.0163825
    threshold    T(h) = 1 if h >= 1 else 0                alpha -> infinity: Furfine with no recovery

Least stress is greatest equity.  Their time-step form passes on increments and telescopes to (1).  Single hit
(Battiston et al. 2012, doi:10.1038/srep00541) lets each node pass on once, with W = min(1, Lambda), and is not a fixed
point.

Stress is passed on as it arrives, so a shock costs the edges it touches.  Where feedback is slow (spectral radius near
1), the linear model is finished by solving (I - Lambda_UU) h_U = h_U(0) + Lambda_US 1 for the nodes U below 1; the
solution is taken only if 0 <= h <= 1 and it lies above what was reached, which makes it the least one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import linalg

from aggregator.core.errors import DomainError
from aggregator.quant._checks import floats, representable, require
from aggregator.quant._clearing_kernels import bicgstab
from aggregator.quant._debtrank_kernels import EXPONENTIAL, GONE_FRAC, LINEAR, THRESHOLD, propagate
from aggregator.quant.network import (
    FixedPoint,
    Floats,
    Matrix,
    SortedRows,
    as_network,
    as_rows,
    as_sorted_rows,
    as_vector,
    check_solver,
    iterate_down,
)


class Stress(NamedTuple):
    """Final stress of every node, for one shock (n,) or many (m, n).

    stress:   min(1, uncapped), the h of (1)
    uncapped: h(0) plus all losses received over own equity; what is above 1 falls on a node's other creditors
    rounds:   () or (m,) passes; residual: () or (m,) largest defect of (1); converged: residual <= tolerance
    """

    stress: Floats
    uncapped: Floats
    rounds: npt.NDArray[np.int64]
    residual: Floats
    converged: npt.NDArray[np.bool_]


@representable
def leverage_matrix(claims: Matrix, equity: npt.ArrayLike) -> Any:
    """Lambda = claims / equity by row, CSR.  claims[i, j]: i is owed by j; equity (n,) > 0."""
    network = as_network(claims, "claims")
    own = as_vector(equity, network.shape[0], "equity", positive=True)
    network.data /= np.repeat(own, np.diff(network.indptr))
    return network


@representable
def linear_debtrank(
    leverage: Matrix, shock: npt.ArrayLike, tolerance: float = 1e-12, max_rounds: int = 100_000
) -> Stress:
    """Linear DebtRank.  leverage: (n, n) as from `leverage_matrix`; shock: (n,) or (m, n), each in [0, 1]."""
    return _solve(leverage, shock, LINEAR, 0.0, tolerance, max_rounds)


@representable
def nonlinear_debtrank(
    leverage: Matrix, shock: npt.ArrayLike, alpha: float, tolerance: float = 1e-12, max_rounds: int = 100_000
) -> Stress:
    """Non-linear DebtRank; alpha = 0 is linear, alpha = inf the threshold cascade.  DomainError for alpha < 0, NaN."""
    require("alpha", alpha, alpha >= 0.0, ">= 0")
    if alpha == 0.0:
        return linear_debtrank(leverage, shock, tolerance, max_rounds)
    if np.isinf(alpha):
        return threshold_cascade(leverage, shock, max_rounds)
    return _solve(leverage, shock, EXPONENTIAL, alpha, tolerance, max_rounds)


@representable
def threshold_cascade(leverage: Matrix, shock: npt.ArrayLike, max_rounds: int = 100_000) -> Stress:
    """Only nodes whose equity is gone pass on anything, and then everything; at most n rounds."""
    return _solve(leverage, shock, THRESHOLD, 0.0, 1e-14, max_rounds)


@representable
def single_hit_debtrank(leverage: Matrix, shock: npt.ArrayLike) -> Stress:
    """Original DebtRank: each node passes on once, the round after it is first hit.  shock: (n,) or (m, n)."""
    network = as_network(leverage, "leverage")
    network.data = np.minimum(network.data, 1.0)
    h, flat = _shocks(shock, network.shape[0])
    distressed, done = h > 0.0, np.zeros(h.shape, np.bool_)
    rounds = np.zeros(len(h), np.int64)
    while np.any(distressed):
        rounds += np.any(distressed, axis=1)
        arrived = (network @ np.where(distressed, h, 0.0).T).T
        done |= distressed
        h = np.minimum(1.0, h + arrived)
        distressed = (h > 0.0) & ~done
    zero = np.zeros(len(h))
    return _shape(Stress(h, h, rounds, zero, zero == 0.0), flat)


@representable
def debtrank_by_iteration(
    leverage: Matrix, shock: npt.ArrayLike, tolerance: float = 1e-12, max_rounds: int = 100_000, alpha: float = 0.0
) -> FixedPoint:
    """Equation (1) as the plain map on equity 1 - h from above; one shock (n,), alpha as in `nonlinear_debtrank`.

    The oracle of this module.
    """
    network = as_network(leverage, "leverage")
    h, _ = _shocks(shock, network.shape[0])
    require("shock", len(h), len(h) == 1, "one shock (n,)")
    require("alpha", alpha, alpha >= 0.0, ">= 0")
    kind = LINEAR if alpha == 0.0 else THRESHOLD if np.isinf(alpha) else EXPONENTIAL
    return iterate_down(
        lambda y: 1.0 - np.minimum(1.0, h[0] + network @ _spread(1.0 - y, kind, alpha)),
        1.0 - h[0],
        tolerance,
        max_rounds,
    )


def _solve(
    leverage: Matrix, shock: npt.ArrayLike, kind: int, alpha: float, tolerance: float, max_rounds: int
) -> Stress:
    check_solver(tolerance, max_rounds)
    network = as_network(leverage, "leverage")
    columns = network.tocsc()
    start, flat = _shocks(shock, network.shape[0])
    uncapped, sent = start.copy(), np.zeros(start.shape)
    rounds = np.zeros(len(start), np.int64)
    arrays, rows = as_rows(columns), as_sorted_rows(network)
    # What stays unsent comes back at most 1/(1 - radius) times, so stay well below the tolerance asked for.
    crumb = 0.01 * tolerance
    for patience in (50, 200, 1000, max_rounds):
        propagate(*arrays, uncapped, sent, rounds, kind, alpha, crumb, min(patience, max_rounds))
        if patience < max_rounds and kind == LINEAR:
            for s in np.flatnonzero(rounds >= patience):
                _finish(network, rows, start[s], uncapped[s], sent[s])
    passed = _spread(uncapped, kind, alpha)
    fresh = start + (network @ passed.T).T
    residual = np.max(np.abs(np.minimum(fresh, 1.0) - np.minimum(uncapped, 1.0)), axis=1, initial=0.0)
    return _shape(Stress(np.minimum(fresh, 1.0), fresh, rounds, residual, residual <= max(tolerance, 1e-14)), flat)


def _finish(network: Any, rows: SortedRows, start: Floats, uncapped: Floats, sent: Floats) -> None:
    low = uncapped < 1.0
    full = np.where(low, 0.0, 1.0)
    known = np.where(low, start + network @ full, 0.0)
    h = np.where(low, uncapped, 0.0)
    goal = np.full(len(h), 1e-14)
    if not bicgstab(*rows, 1.0, low, known, h, goal, 100) <= 3.0 and len(h) <= 2000:
        at = np.flatnonzero(low)
        try:
            h[at] = linalg.splu((sparse.eye_array(len(at)) - network[at][:, at]).tocsc()).solve(known[at])
        except RuntimeError:  # exactly singular
            return
    passed = np.where(low, h, 1.0)
    above = np.all(h[low] >= uncapped[low] - 1e-12) and np.all(h[low] <= 1.0)
    if above and np.max(np.abs(start + network @ passed - h)[low], initial=0.0) <= 1e-12:
        uncapped[:] = start + network @ passed
        sent[:] = passed


def _spread(h: Floats, kind: int, alpha: float) -> Floats:
    if kind == THRESHOLD:
        return (h >= GONE_FRAC).astype(np.float64)
    capped = np.clip(h, 0.0, 1.0)
    return capped if kind == LINEAR else capped * np.exp(alpha * (capped - 1.0))


def _shocks(shock: npt.ArrayLike, size: int) -> tuple[Floats, bool]:
    h = floats("shock", shock)
    flat = h.ndim == 1
    h = np.atleast_2d(h)
    if h.ndim != 2 or h.shape[1] != size:
        raise DomainError("shock does not match the network", expected=f"({size},) or (m, {size})", found=str(h.shape))
    wrong = ~((h >= 0.0) & (h <= 1.0))
    if np.any(wrong):
        at = np.unravel_index(int(np.argmax(wrong)), h.shape)
        raise DomainError(
            f"shock[{at[0]}, {at[1]}] is out of range", expected="0 <= shock <= 1", found=repr(float(h[at]))
        )
    return h, flat


def _shape(found: Stress, flat: bool) -> Stress:
    return Stress(*(column[0] for column in found)) if flat else found
