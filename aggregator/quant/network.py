"""Exposure matrices and the plain fixed-point iteration that every network model here can be checked with.

Matrices are square, sparse or dense, non-negative.  `liabilities[i, j]` is what i owes j; `claims[i, j]` is what i is
owed by j (its transpose).  Duplicate edges add up, as `scipy.sparse` does; a debt to oneself is refused unless a model
gives it a meaning, because it is income and cost at once.

A monotone map from the top of a complete lattice, iterated downward, converges to its *greatest* fixed point (Tarski
1955, doi:10.2140/pjm.1955.5.285).  With bankruptcy costs that is the only meaningful one: from below the same map may
stop at a worse point at which everybody fails only because everybody fails.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from aggregator.core.errors import DomainError
from aggregator.quant._checks import floats, require

Floats = npt.NDArray[np.float64]
Matrix = Any  # npt.ArrayLike or any scipy.sparse array


class FixedPoint(NamedTuple):
    """value: (n,) last iterate; rounds: maps applied; residual: max |map(value) - value|; converged: it is
    small enough.

    A result that has not converged is an upper bound of the greatest fixed point, and says so.
    """

    value: Floats
    rounds: int
    residual: float
    converged: bool


class Rows(NamedTuple):
    """A CSR (or, read by column, CSC) matrix as kernels take it: unsigned pointers (n+1,) and indices, and weights."""

    indptr: npt.NDArray[np.uint64]
    indices: npt.NDArray[np.uint32]
    weight: Floats


def as_rows(matrix: Any) -> Rows:
    return Rows(matrix.indptr.astype(np.uint64), matrix.indices.astype(np.uint32), matrix.data)


class SortedRows(NamedTuple):
    """CSR rows by length, `node` (n,) saying whose each is: a loop over them then predicts where every row ends."""

    node: npt.NDArray[np.uint32]
    indptr: npt.NDArray[np.uint64]
    indices: npt.NDArray[np.uint32]
    weight: Floats


def as_sorted_rows(matrix: Any) -> SortedRows:
    order = np.argsort(np.diff(matrix.indptr), kind="stable")
    return SortedRows(order.astype(np.uint32), *as_rows(matrix[order]))


def edges_to_matrix(row: npt.ArrayLike, column: npt.ArrayLike, amount: npt.ArrayLike, size: int) -> Matrix:
    """CSR (size, size) from edge lists; duplicates add.

    DomainError names the first edge that points outside the network or whose amount is negative, NaN or infinite.
    """
    i, j, weight = (np.atleast_1d(floats(n, v)) for n, v in (("row", row), ("column", column), ("amount", amount)))
    if not len(i) == len(j) == len(weight):
        raise DomainError("edge lists are ragged", expected="equal lengths", found=f"{len(i)}, {len(j)}, {len(weight)}")
    inside = (i >= 0) & (i < size) & (i == np.floor(i)) & (j >= 0) & (j < size) & (j == np.floor(j))
    if not np.all(inside):
        at = int(np.argmin(inside))
        raise DomainError(
            f"edge {at} points outside the network",
            expected=f"whole numbers 0 to {size - 1}",
            found=f"{i[at]:g}, {j[at]:g}",
        )
    require("amount", weight, (weight >= 0.0) & np.isfinite(weight), "finite and >= 0")
    return as_network(
        sparse.coo_array((weight, (i.astype(int), j.astype(int))), shape=(size, size)), "edges", loops=True
    )


def as_network(matrix: Matrix, name: str, *, loops: bool = False) -> Any:
    """A copy in canonical CSR float64: duplicates added, zeros dropped, indices sorted.

    DomainError for a matrix that is not square, an entry (a duplicate too) that is negative, NaN or infinite, and
    (unless `loops`) an entry on the diagonal, naming the edge or node.
    """
    given = matrix if sparse.issparse(matrix) else np.atleast_2d(floats(name, matrix))
    if given.ndim != 2 or given.shape[0] != given.shape[1]:
        if not sparse.issparse(given) and given.size == 0:
            given = np.zeros((0, 0))
        else:
            raise DomainError(f"{name} must be square", expected="(n, n)", found=str(given.shape))
    entries = sparse.coo_array(given)
    # Before duplicates are added up: a negative one would vanish in the sum.
    wrong = ~((entries.data >= 0.0) & np.isfinite(entries.data))
    if np.any(wrong):
        at = int(np.argmax(wrong))
        raise DomainError(
            f"{name}[{entries.row[at]}, {entries.col[at]}] is out of range",
            expected="finite and >= 0",
            found=repr(float(entries.data[at])),
        )
    network = sparse.csr_array(given, dtype=np.float64, copy=True)  # what the caller passed stays as it was
    network.sum_duplicates()
    network.eliminate_zeros()
    if not loops and network.nnz and np.any(network.diagonal()):
        at = int(np.flatnonzero(network.diagonal())[0])
        raise DomainError(
            f"{name}[{at}, {at}] is a claim of a node on itself",
            expected="0",
            found=repr(float(network.diagonal()[at])),
            fix="net it out before",
        )
    return network


def as_vector(values: npt.ArrayLike, size: int, name: str, *, positive: bool = False, signed: bool = False) -> Floats:
    """(size,) float64, a scalar broadcast.  DomainError names the element that is not finite or below its bound."""
    given = floats(name, values)
    if given.shape not in ((), (size,)):
        raise DomainError(f"{name} does not match the network", expected=f"({size},)", found=str(given.shape))
    column = np.array(np.broadcast_to(given, (size,)))
    wrong = ~np.isfinite(column)
    if not signed:
        wrong |= column <= 0.0 if positive else column < 0.0
    if np.any(wrong):
        at = int(np.argmax(wrong))
        bound = "finite" if signed else "finite and > 0" if positive else "finite and >= 0"
        raise DomainError(f"{name}[{at}] is out of range", expected=bound, found=repr(float(column[at])))
    return column


def check_solver(tolerance: float, max_rounds: int) -> None:
    """DomainError unless 0 < tolerance < 1 and max_rounds is a whole number >= 1: else it never ends, or starts."""
    require("tolerance", floats("tolerance", tolerance), 0.0 < tolerance < 1.0, "0 < tolerance < 1")
    require("max_rounds", max_rounds, isinstance(max_rounds, int | np.integer) and max_rounds >= 1, "an integer >= 1")


def iterate_down(
    map_once: Callable[[Floats], Floats],
    top: Floats,
    tolerance: float = 1e-12,
    max_rounds: int = 100_000,
    *,
    size: npt.ArrayLike = 1.0,
) -> FixedPoint:
    """Apply a monotone map from `top` (n,) until no element moves by more than tolerance of its size, > 0."""
    check_solver(tolerance, max_rounds)
    value, residual = np.array(top, dtype=np.float64), 0.0
    for rounds in range(1, max_rounds + 1):
        following = map_once(value)
        residual = float(np.max(np.abs(following - value) / size, initial=0.0))
        value = following
        if residual <= tolerance:
            return FixedPoint(value, rounds, residual, True)
    return FixedPoint(value, max_rounds, residual, False)
