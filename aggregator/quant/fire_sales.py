"""Contagion through prices: forced sales move the price that everyone marks to.

Cifuentes, Ferrucci and Shin 2005, doi:10.1162/jeea.2005.3.2-3.556.  Bank i holds cash c, e units of one illiquid asset
and owes l; it sells the least s_i with (p*e + c - l) / (p*(e - s)) >= r, everything if it cannot, and

    p = exp(-alpha * sum_i s_i(p)),      greatest solution, from p = 1 down.                           (1)

Greenwood, Landier and Thesmar 2015, doi:10.1016/j.jfineco.2014.11.006.  A assets, b = debt/equity, M (N, K) weights,
l (K,) impact per unit sold.  R1 = M f, banks sell b*A*R1 to return to leverage, in proportion to M:

    phi = M^T A b R1,   R2 = M l phi,   AV = -1^T A R2 / sum E,
    S_i = (sum_k (sum_j a_j m_jk) l_k m_ik) * a_i/E * b_i * (-R1_i),   IV_i = -a_i R2_i / E_i,   sum S_i = AV.      (2)

One round, linear, and without a cap on sales: meant for ranking banks, not for large shocks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError
from aggregator.quant._checks import floats, representable, require
from aggregator.quant.network import Floats, as_vector, check_solver


class OneAssetSale(NamedTuple):
    """price in (0, 1]; sold (n,) units; equity (n,) at that price; rounds, residual and converged of (1)."""

    price: float
    sold: Floats
    equity: Floats
    rounds: int
    residual: float
    converged: bool


@representable
def cifuentes_ferrucci_shin(
    cash: npt.ArrayLike,
    illiquid_units: npt.ArrayLike,
    liabilities: npt.ArrayLike,
    min_ratio: float,
    alpha: float,
    tolerance: float = 1e-13,
    max_rounds: int = 1_000_000,
) -> OneAssetSale:
    """Greatest price fixed point of (1); vectors (n,), min_ratio in (0, 1), alpha >= 0 per unit.

    DomainError for figures out of range or banks of different number.
    """
    e = np.atleast_1d(floats("illiquid_units", illiquid_units))
    n = len(e)
    e, c, owed = as_vector(e, n, "illiquid_units"), as_vector(cash, n, "cash"), as_vector(liabilities, n, "liabilities")
    if not 0.0 < min_ratio < 1.0 or not 0.0 <= alpha < np.inf:
        raise DomainError(
            "ratio or impact is out of range", expected="0 < r < 1, alpha >= 0", found=f"{min_ratio}, {alpha}"
        )

    check_solver(tolerance, max_rounds)

    def sales(p: float) -> Floats:
        if p == 0.0:  # exp underflows: units worth nothing break no ratio of a bank with cash left
            return np.where(c > owed, 0.0, e)
        return np.clip(e - np.maximum(p * e + c - owed, 0.0) / (min_ratio * p), 0.0, e)

    price, residual, rounds = 1.0, np.inf, 0
    while residual > tolerance and rounds < max_rounds:
        following = float(np.exp(-alpha * sales(price).sum()))
        residual, price, rounds = abs(following - price), following, rounds + 1
    return OneAssetSale(price, sales(price), price * e + c - owed, rounds, residual, residual <= tolerance)


class Vulnerability(NamedTuple):
    """direct_return (N,) R1; sold (K,) phi (negative: sold); impact_return (K,); second_return (N,) R2;
    aggregate AV, fraction of all equity; systemicness (N,), sums to AV; indirect (N,), fraction of own equity."""

    direct_return: Floats
    sold: Floats
    impact_return: Floats
    second_return: Floats
    aggregate: float
    systemicness: Floats
    indirect: Floats


@representable
def greenwood_landier_thesmar(
    assets: npt.ArrayLike, equity: npt.ArrayLike, weights: npt.ArrayLike, impact: npt.ArrayLike, shock: npt.ArrayLike
) -> Vulnerability:
    """Equations (2).  assets, equity (N,) > 0, weights (N, K) >= 0, impact (K,) return per unit sold, shock (K,).

    Weights of a bank sum to at most 1, the rest is cash.  DomainError names a figure out of range, or says that there
    are no banks.
    """
    m = np.atleast_2d(floats("weights", weights))
    if m.ndim != 2 or len(m) == 0 or m.size == 0:
        raise DomainError("no banks or no assets", expected="weights (N, K), N and K >= 1", found=str(m.shape))
    n, k = m.shape
    a, own = as_vector(assets, n, "assets", positive=True), as_vector(equity, n, "equity", positive=True)
    per_unit, f = as_vector(impact, k, "impact"), as_vector(shock, k, "shock", signed=True)
    require("weights", m, m >= 0.0, ">= 0")
    require("the sum of weights", m.sum(axis=1), m.sum(axis=1) <= 1.0 + 1e-9, "at most 1 per bank")
    require("equity", own, own <= a, "at most the assets")
    leverage = (a - own) / own
    first = m @ f
    phi = m.T @ (a * leverage * first)
    impact_return = per_unit * phi
    second = m @ impact_return
    linkage = m @ (per_unit * (m.T @ a))
    systemic = linkage * (a / own.sum()) * leverage * -first
    return Vulnerability(
        first, phi, impact_return, second, float(-(a @ second) / own.sum()), systemic, -a * second / own
    )
