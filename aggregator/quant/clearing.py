"""Clearing payments: Eisenberg-Noe and, with bankruptcy costs, Rogers-Veraart.

Node i owes Lbar_i = sum_j L_ij + b_i in all (b_i to outside), Pi_ij = L_ij / Lbar_i, and holds e_i outside.  A clearing
vector p solves

    p_i = Lbar_i                              if e_i + (Pi^T p)_i >= Lbar_i,
    p_i = alpha*e_i + beta*(Pi^T p)_i         otherwise.                                              (1)

alpha = beta = 1 is Eisenberg and Noe 2001 (doi:10.1287/mnsc.47.2.236.9835); alpha, beta <= 1 is Rogers and
Veraart 2013 (doi:10.1287/mnsc.1120.1569).  The map is monotone but, with costs, not continuous: the answer is
the greatest clearing vector, reached from Lbar downward.

`clear` mixes three steps that all stay above it.  Cascade: payments fall level by level and only what changed is
revisited.  Sweep: one Gauss-Seidel pass, when too much changes.  Jump (fictitious default, E-N section 3): with the
set D of nodes known to fail, solve (I - beta*Pi_DD^T) p_D = alpha*e_D + beta*(Pi^T Lbar)_D; D only grows, so there are
at most n jumps.  A jump is taken when the pace of the sweeps promises many more.  `clear_by_picard` is the plain
iteration of (1), kept as the oracle.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import linalg

from aggregator.core.errors import DomainError
from aggregator.quant._checks import representable, require
from aggregator.quant._clearing_kernels import bicgstab, cascade, sweep, swept
from aggregator.quant.network import (
    FixedPoint,
    Floats,
    Matrix,
    Rows,
    SortedRows,
    as_network,
    as_rows,
    as_sorted_rows,
    as_vector,
    check_solver,
    iterate_down,
)

# Equality is solvency: sums of many floats may fall short of a debt they cover exactly.
SOLVENT_FRAC = 1.0 - 1e-12
_CHAIN = 64  # debts along which a small creditor is looked for


class Clearing(NamedTuple):
    """Greatest clearing vector and what it leaves.

    paid:     (n,) total payment of each node, inside and outside
    failed:   (n,) bool, paid < owed
    owed:     (n,) Lbar
    equity:   (n,) e + inflow - owed for solvent nodes, 0 for failed ones (the estate is paid out)
    lost:     (n,) burnt by bankruptcy costs, (1-alpha)*e + (1-beta)*inflow of the failed
    rounds:   cascade levels and sweeps; jumps: linear solves
    residual: max over nodes of |(1) - p| / Lbar, beyond rounding, Lbar being the least along the node's chains of debt;
    converged: residual <= tolerance
    """

    paid: Floats
    failed: npt.NDArray[np.bool_]
    owed: Floats
    equity: Floats
    lost: Floats
    rounds: int
    jumps: int
    residual: float
    converged: bool


class System(NamedTuple):
    """A checked network: Pi^T in CSR, Pi by debtor and Pi^T by creditor as rows, and vectors (n,); size of `_sizes`.

    Build once and clear under many shocks: `network._replace(outside=...)`; `clear` checks what was put in.
    """

    pi_t: Any
    by_debtor: Rows
    by_creditor: SortedRows
    outside: Floats
    owed: Floats
    size: Floats


@representable
def system(liabilities: Matrix, outside_assets: npt.ArrayLike, outside_liabilities: npt.ArrayLike = 0.0) -> System:
    """liabilities[i, j]: i owes j, (n, n) sparse or dense; outside assets and liabilities (n,), all >= 0.

    DomainError for a negative, NaN or infinite entry or a debt to oneself.
    """
    debts = as_network(liabilities, "liabilities")
    n = debts.shape[0]
    e = as_vector(outside_assets, n, "outside_assets")
    owed = np.asarray(debts.sum(axis=1)).ravel() + as_vector(outside_liabilities, n, "outside_liabilities")
    require("the sum that is owed", owed, np.isfinite(owed), "below 1e308: use larger units")
    per_unit = np.divide(1.0, owed, out=np.zeros(n), where=owed > 0.0)
    debts.data *= np.repeat(per_unit, np.diff(debts.indptr))
    transposed = debts.T.tocsr()
    by_debtor = as_rows(debts)
    return System(transposed, by_debtor, as_sorted_rows(transposed), e, owed, _sizes(by_debtor, owed))


def clear(
    network: System, alpha: float = 1.0, beta: float = 1.0, tolerance: float = 1e-12, max_rounds: int = 1_000_000
) -> Clearing:
    """Greatest clearing vector of `network`; alpha, beta: share of outside and inside assets that a failure leaves.

    DomainError for costs or a tolerance out of range, and for outside assets that are negative, NaN or infinite.
    """
    _check_costs(alpha, beta)
    check_solver(tolerance, max_rounds)
    pi_t, by_debtor, by_creditor, _, owed, size = network
    e = as_vector(network.outside, len(owed), "outside_assets")
    network = network._replace(outside=e)
    dust, solvent_at = np.maximum(0.1 * tolerance, 1e-17) * size, owed * SOLVENT_FRAC
    paid, failed = owed.copy(), np.zeros(len(owed), np.bool_)
    rounds = jumps = known_failures = 0
    wait = 4
    while rounds < max_rounds:
        inflow = np.asarray(pi_t @ paid)
        levels, settled = cascade(
            *by_debtor, e, solvent_at, alpha, beta, paid, inflow, failed, dust, len(by_debtor.weight) // 2
        )
        rounds += max(levels, 1)
        if not settled:
            before = np.inf
            for sweeps in range(1, max_rounds + 1):
                fall, total = sweep(*by_creditor, e, solvent_at, alpha, beta, paid, failed, dust)
                rounds += 1
                if fall <= 1.0 or rounds >= max_rounds:
                    break
                # A pace p, that of all payments together, leaves -log(fall)/log(p) sweeps.
                worth = 20.0 if jumps else 50.0  # the first jump calls for others
                if sweeps >= wait and -np.log(fall) < worth * np.log(min(total / before, 0.999)):
                    break
                before = total
            if fall > 1.0:
                count = int(np.count_nonzero(failed))
                solved = _jump(network, alpha, beta, paid, failed, dust, count > known_failures)
                wait = 2 if solved else min(4 * wait, 1000)
                known_failures = count
                jumps += 1
                continue
        # The running sums of the cascade lose a digit or two; only sums made afresh are believed.
        if _gap(network, alpha, beta, paid, failed, size)[0] <= tolerance:
            break
    gap, inflow = _gap(network, alpha, beta, paid, failed, size)
    left = np.where(failed, 0.0, np.maximum(e + inflow - owed, 0.0))
    lost = np.where(failed, (1.0 - alpha) * e + (1.0 - beta) * inflow, 0.0)
    return Clearing(paid, failed, owed, left, lost, rounds, jumps, gap, gap <= tolerance)


def clear_by_picard(
    network: System, alpha: float = 1.0, beta: float = 1.0, tolerance: float = 1e-12, max_rounds: int = 1_000_000
) -> FixedPoint:
    """Map (1) applied from Lbar until it stands still: the oracle of `clear`, slow where cycles keep the money."""
    _check_costs(alpha, beta)
    pi_t, owed = network.pi_t, network.owed
    e = as_vector(network.outside, len(owed), "outside_assets")
    size = np.maximum(owed, np.finfo(np.float64).tiny)

    def once(p: Floats) -> Floats:
        inside = np.asarray(pi_t @ p)
        return np.where(e + inside >= owed * SOLVENT_FRAC, owed, alpha * e + beta * inside)

    return iterate_down(once, owed, tolerance, max_rounds, size=size)


def _gap(
    network: System, alpha: float, beta: float, paid: Floats, failed: npt.NDArray[np.bool_], size: Floats
) -> tuple[float, Floats]:
    """(max |map(paid) - paid| / size, inflow)."""
    inflow = np.asarray(network.pi_t @ paid)
    fails = failed | (network.outside + inflow < network.owed * SOLVENT_FRAC)
    due = np.where(fails, alpha * network.outside + beta * inflow, network.owed)
    off = np.maximum(np.abs(due - paid) - 4.0 * np.finfo(np.float64).eps * due, 0.0)  # less the rounding of the sum
    return float(np.max(off / size, initial=0.0)), inflow


def _sizes(by_debtor: Rows, owed: Floats) -> Floats:
    """(n,) what the tolerance is a share of: what a node owes, or less where a creditor of its owes less.

    A billionth of a large debt may be all that a small creditor lives on, and so on along chains of debts.
    """
    needed = np.where(owed > 0.0, owed, np.inf)
    start, end = by_debtor.indptr[:-1].astype(np.int64), by_debtor.indptr[1:].astype(np.int64)
    debtors = np.flatnonzero(end > start)
    for _ in range(_CHAIN if debtors.size else 0):
        with np.errstate(over="ignore"):
            least = np.minimum.reduceat(needed[by_debtor.indices] / by_debtor.weight, start[debtors])
        lower = np.minimum(needed[debtors], least)
        if np.array_equal(lower, needed[debtors]):
            break
        needed[debtors] = lower
    return np.maximum(np.where(np.isfinite(needed), needed, 0.0), np.finfo(np.float64).tiny)


def _jump(
    network: System, alpha: float, beta: float, paid: Floats, failed: npt.NDArray[np.bool_], goal: Floats, rough: bool
) -> bool:
    """Lower the payments of the failed towards their linear solution x, never below it; False if no solver got there.

    A Gauss-Seidel pass is y -> G*y + g with G >= 0 and g >= known > 0.  If it moves y by |d| <= theta*known <= theta*g,
    then |y - x| <= theta*x, so y/(1 - theta) is above x: a rough jump (theta = 1e-2) is safe, and enough while failures
    are still being found.
    """
    pi_t, rows = network.pi_t, network.by_creditor
    goal = np.maximum(goal, 4.0 * np.finfo(np.float64).eps * paid)
    known = np.where(failed, alpha * network.outside + beta * (pi_t @ np.where(failed, 0.0, paid)), 0.0)
    y = np.where(failed, paid, 0.0)
    rough = rough and bool(np.all(known[failed] > 1e2 * goal[failed]))
    goals = np.where(failed, np.maximum(1e-2 * known, goal) if rough else goal, goal)
    worst = bicgstab(*rows, beta, failed, known, y, goals, 60)
    if not worst <= 3.0:
        at = np.flatnonzero(failed)
        inner = pi_t[at][:, at]
        if len(at) <= 2000 or inner.nnz <= 4 * len(at):
            # Long cycles defeat Krylov spaces and are nearly banded, so elimination stays sparse on them.
            try:
                y[at] = linalg.splu((sparse.eye_array(len(at)) - beta * inner).tocsc()).solve(known[at])
            except RuntimeError:  # exactly singular: a closed cycle without cash
                return False
            worst = swept(*rows, beta, failed, known, y, goals, np.empty_like(paid), np.empty_like(paid))
    if not worst <= 3.0:
        return False
    if rough:
        y /= 1.0 - 1.1e-2 * worst
    paid[failed] = np.clip(y[failed], 0.0, paid[failed])
    return True


def _check_costs(alpha: float, beta: float) -> None:
    if not (0.0 <= alpha <= 1.0 and 0.0 <= beta <= 1.0):
        raise DomainError(
            "bankruptcy costs are out of range", expected="0 <= alpha, beta <= 1", found=f"{alpha}, {beta}"
        )
