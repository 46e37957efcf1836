"""Compiled steps of `clearing`: a cascade that costs what changes, sweeps that cost the network, a linear solve.

What sweeps over the whole network takes its rows sorted by length (`network.SortedRows`), row r being node[r]'s.
Row pointers and columns are unsigned, which spares numba the test for negative indices: the sums then run as fast as
scipy's own.  Everything is serial and in a fixed order.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aggregator.quant.jit import jit

Floats = npt.NDArray[np.float64]
Pointers = npt.NDArray[np.uint64]
Columns = npt.NDArray[np.uint32]
Flags = npt.NDArray[np.bool_]
_EPS = 2.220446049250313e-16


@jit
def row_dot(indptr: Pointers, indices: Columns, weight: Floats, x: Floats, row: int) -> float:
    total = 0.0
    for k in range(indptr[row], indptr[row + 1]):
        total += weight[k] * x[indices[k]]
    return total


@jit
def dot(x: Floats, y: Floats, unit: Floats) -> float:
    """Sum of (x/unit)(y/unit) in four fixed partial sums; BLAS would split a long sum by its number of threads."""
    a = b = c = d = 0.0
    whole = len(x) - len(x) % 4
    for i in range(0, whole, 4):
        a += (x[i] / unit[i]) * (y[i] / unit[i])
        b += (x[i + 1] / unit[i + 1]) * (y[i + 1] / unit[i + 1])
        c += (x[i + 2] / unit[i + 2]) * (y[i + 2] / unit[i + 2])
        d += (x[i + 3] / unit[i + 3]) * (y[i + 3] / unit[i + 3])
    for i in range(whole, len(x)):
        a += (x[i] / unit[i]) * (y[i] / unit[i])
    return (a + b) + (c + d)


@jit
def cascade(
    indptr: Pointers,
    indices: Columns,
    share: Floats,
    outside: Floats,
    solvent_at: Floats,
    alpha: float,
    beta: float,
    paid: Floats,
    inflow: Floats,
    failed: Flags,
    dust: Floats,
    budget: int,
) -> tuple[int, bool]:
    """Lower `paid` level by level until no payment falls by more than its `dust`, too many do, or `budget` is spent.

    budget: in edges.
    indptr, indices, share: rows of Pi by debtor.  inflow = Pi^T paid is kept so; failed only grows.  (levels, settled).

    What is left of an inflow after subtractions is wrong by the rounding of what it was: beside a small debt that may
    be all.  So much is given to a node before it fails or falls by it, and payments stay above the answer; the next
    call begins with inflows summed afresh.
    """
    n = len(solvent_at)
    slack = np.zeros(n)
    front, following = np.empty(n, np.uint32), np.empty(n, np.uint32)
    queued = np.zeros(n, np.bool_)
    size = 0
    for i in range(n):
        if failed[i] or outside[i] + inflow[i] < solvent_at[i]:
            front[size] = i
            queued[i] = True
            size += 1
    levels, spent = 0, 0
    while size > 0:
        if 16 * size > n + 256:  # a sweep is cheaper per edge
            return levels, False
        levels += 1
        count = 0
        for f in range(size):
            i = front[f]
            queued[i] = False
            left = inflow[i] + slack[i]
            if not failed[i] and outside[i] + left >= solvent_at[i]:
                continue
            failed[i] = True
            due = alpha * outside[i] + beta * left
            drop = paid[i] - due
            if drop <= dust[i]:
                continue
            if spent > budget:
                return levels, False
            paid_before = paid[i]
            paid[i] = due
            spent += int(indptr[i + 1] - indptr[i])
            for k in range(indptr[i], indptr[i + 1]):
                j = indices[k]
                slack[j] += 4.0 * _EPS * (abs(inflow[j]) + share[k] * paid_before)
                inflow[j] -= share[k] * drop
                if not queued[j] and (failed[j] or outside[j] + inflow[j] + slack[j] < solvent_at[j]):
                    queued[j] = True
                    following[count] = j
                    count += 1
        front, following = following, front
        size = count
    return levels, True


@jit
def sweep(
    node: Columns,
    indptr: Pointers,
    indices: Columns,
    share: Floats,
    outside: Floats,
    solvent_at: Floats,
    alpha: float,
    beta: float,
    paid: Floats,
    failed: Flags,
    dust: Floats,
) -> tuple[float, float]:
    """One downward pass with the newest payments (rows of Pi^T by creditor): (largest fall, all), in units of dust."""
    largest, total = 0.0, 0.0
    for row in range(len(node)):
        i = node[row]
        if not failed[i] and outside[i] >= solvent_at[i]:
            continue
        inside = row_dot(indptr, indices, share, paid, row)
        if not failed[i]:
            if outside[i] + inside >= solvent_at[i]:
                continue
            failed[i] = True
        due = alpha * outside[i] + beta * inside
        drop = paid[i] - due
        if drop > 0.0:
            paid[i] = due
            largest = max(largest, drop / dust[i])
            total += drop / dust[i]
    return largest, total


@jit
def swept(
    node: Columns,
    indptr: Pointers,
    indices: Columns,
    share: Floats,
    beta: float,
    failed: Flags,
    known: Floats,
    x: Floats,
    goal: Floats,
    newest: Floats,
    out: Floats,
) -> float:
    """out = what one Gauss-Seidel pass of x = known + beta*Pi_DD^T x adds to x; returns max |out| / goal."""
    largest = 0.0
    newest[:] = x
    for row in range(len(node)):
        i = node[row]
        out[i] = 0.0
        if failed[i]:
            newest[i] = known[i] + beta * row_dot(indptr, indices, share, newest, row)
            out[i] = newest[i] - x[i]
            largest = max(largest, abs(out[i]) / goal[i])
    return largest


@jit
def bicgstab(
    node: Columns,
    indptr: Pointers,
    indices: Columns,
    share: Floats,
    beta: float,
    failed: Flags,
    known: Floats,
    x: Floats,
    goal: Floats,
    limit: int,
) -> float:
    """Solve (I - beta*Pi_DD^T) x = known on the failed, in place; returns what `swept` says of x, about 1 if solved.

    van der Vorst 1992, doi:10.1137/0913035, on the fixed point of Gauss-Seidel passes: a pass costs one product with
    the matrix and carries twice as far.  Everything is measured in units of `goal`, so that small nodes beside
    large ones are solved as well.  Gives up after `limit` steps or when a denominator vanishes.
    """
    n = len(x)
    zero, scratch = np.zeros(n), np.empty(n)
    r, p, v, s, t = np.empty(n), np.zeros(n), np.zeros(n), np.zeros(n), np.empty(n)
    worst = swept(node, indptr, indices, share, beta, failed, known, x, goal, scratch, r)
    shadow = r.copy()
    rho, alpha, omega = 1.0, 1.0, 1.0
    for _ in range(limit):
        if worst <= 0.5:
            break
        rho_new = dot(shadow, r, goal)
        if rho_new == 0.0 or omega == 0.0:
            break
        scale = rho_new / rho * (alpha / omega)
        rho = rho_new
        for i in range(n):
            p[i] = r[i] + scale * (p[i] - omega * v[i])
        swept(node, indptr, indices, share, beta, failed, zero, p, goal, scratch, v)  # v = -A p
        below = -dot(shadow, v, goal)
        if below == 0.0:
            break
        alpha = rho / below
        for i in range(n):
            v[i] = -v[i]
            s[i] = r[i] - alpha * v[i]
        swept(node, indptr, indices, share, beta, failed, zero, s, goal, scratch, t)  # t = -A s
        square = dot(t, t, goal)
        omega = -dot(t, s, goal) / square if square > 0.0 else 0.0
        worst = 0.0
        for i in range(n):
            x[i] += alpha * p[i] + omega * s[i]
            r[i] = s[i] + omega * t[i]
            worst = max(worst, abs(r[i]) / goal[i])
    return swept(node, indptr, indices, share, beta, failed, known, x, goal, scratch, r)
