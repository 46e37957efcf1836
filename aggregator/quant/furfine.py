"""Sequential default cascade with a fixed recovery (Furfine 2003, doi:10.1353/mcb.2003.0004).

    D_0 = {i : E_i - shock_i <= 0},   E_i <- E_i - shock_i - sum_{j in D} (1 - R_j) A_ij,   until no new default   (1)

A creditor loses on a failed debtor what it was owed, times 1 - R, and never more: contagion cannot exceed exposure.
Eisenberg-Noe losses never exceed those of R = 0.  Zero equity is default, as in the threshold cascade.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.quant._checks import representable, require
from aggregator.quant.network import Floats, Matrix, as_network, as_vector


class Cascade(NamedTuple):
    """equity (n,) after all losses (may be negative); failed (n,) bool; round_failed (n,) int, -1 for survivors, 0 for
    the first; lost (n,) claims written off by each creditor; rounds until nobody new failed (always reached)."""

    equity: Floats
    failed: npt.NDArray[np.bool_]
    round_failed: npt.NDArray[np.int64]
    lost: Floats
    rounds: int


@representable
def furfine_cascade(
    claims: Matrix, equity: npt.ArrayLike, shock: npt.ArrayLike = 0.0, recovery_frac: npt.ArrayLike = 0.0
) -> Cascade:
    """claims[i, j]: i is owed by j (n, n); equity, shock, recovery_frac (n,) or scalar.  Each default counts once.

    Money in one unit throughout.  DomainError names a bad claim, a figure that is not finite, R outside [0, 1].
    """
    network = as_network(claims, "claims")
    n = network.shape[0]
    by_debtor = network.tocsc()
    recovery = as_vector(recovery_frac, n, "recovery_frac")
    require("recovery_frac", recovery, recovery <= 1.0, "0 <= R <= 1")
    left = as_vector(equity, n, "equity", signed=True) - as_vector(shock, n, "shock", signed=True)
    lost, when = np.zeros(n), np.full(n, -1, np.int64)
    fresh, rounds = np.flatnonzero(left <= 0.0), 0
    while len(fresh):
        when[fresh] = rounds
        written_off = np.asarray(by_debtor[:, fresh] @ (1.0 - recovery[fresh]))
        lost += written_off
        left -= written_off
        rounds += 1
        fresh = np.flatnonzero((left <= 0.0) & (when < 0))
    return Cascade(left, when >= 0, when, lost, rounds)
