"""Bilateral exposures from what each node lends and borrows in all, with nothing on the diagonal.

Maximum entropy: the matrix closest in Kullback-Leibler divergence to x_ij ~ a_i * l_j off the diagonal with row sums a
and column sums l, found by alternate scaling (RAS).  Upper and Worms 2004, doi:10.1016/j.euroecorev.2003.12.009; Anand,
Craig and von Peter 2015, doi:10.1080/14697688.2014.968195 (p. 628 is the test).  It spreads exposures as evenly as the
totals allow, which understates contagion: use it as one end of a band.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError
from aggregator.quant._checks import floats, representable, require
from aggregator.quant.network import Floats, as_vector, check_solver


class Reconstruction(NamedTuple):
    """claims (n, n): i is owed by j; rounds of scaling; residual: largest error of a total, relative to it."""

    claims: Floats
    rounds: int
    residual: float
    converged: bool


@representable
def maximum_entropy(
    lent: npt.ArrayLike, borrowed: npt.ArrayLike, tolerance: float = 1e-12, max_rounds: int = 100_000
) -> Reconstruction:
    """lent, borrowed: (n,) totals with equal sums.

    DomainError if the sums differ by more than 1e-9 of them, or a node would have to owe itself (its own totals
    together exceed the market's).
    """
    check_solver(tolerance, max_rounds)
    a = np.atleast_1d(floats("lent", lent))
    n = len(a)
    a, owed = as_vector(a, n, "lent"), as_vector(borrowed, n, "borrowed")
    with np.errstate(over="ignore"):
        total = float(a.sum())
    require("the sum of lent", total, np.isfinite(total), "totals that sum to less than 1e308: use larger units")
    if abs(total - float(owed.sum())) > 1e-9 * max(total, 1e-300):
        raise DomainError("totals do not balance", expected=f"borrowed sums to {total}", found=str(float(owed.sum())))
    tight = a + owed > total * (1.0 + 1e-12)
    if np.any(tight) and total > 0.0:
        at = int(np.argmax(tight))
        raise DomainError(
            f"node {at} would have to owe itself", expected=f"lent + borrowed <= {total}", found=str(a[at] + owed[at])
        )
    if total == 0.0:
        return Reconstruction(np.zeros((n, n)), 0, 0.0, True)
    a, owed = a / total, owed / total  # shares, whose products neither overflow nor vanish
    x = np.outer(a, owed)
    np.fill_diagonal(x, 0.0)
    residual, rounds = np.inf, 0
    while residual > tolerance and rounds < max_rounds:
        rounds += 1
        rows = x.sum(axis=1)
        x *= np.divide(a, rows, out=np.zeros(n), where=rows > 0.0)[:, None]
        columns = x.sum(axis=0)
        x *= np.divide(owed, columns, out=np.zeros(n), where=columns > 0.0)
        residual = float(np.max(np.abs(x.sum(axis=1) - a) / np.where(a > 0.0, a, 1.0)))
    return Reconstruction(x * total, rounds, residual, residual <= tolerance)
