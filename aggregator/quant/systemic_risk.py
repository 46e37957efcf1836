"""Market-based systemic risk: CoVaR, MES, LRMES and SRISK.

    dCoVaR_q = CoVaR(sys | i at VaR_q) - CoVaR(sys | i at its median)                                  (1)
    Gaussian:   CoVaR = s_sys*(rho*z_q + sqrt(1-rho^2)*z_q),   dCoVaR = z_q*rho*s_sys                   (2)
    empirical:  quantile regression of the system's return on i's (Koenker and Bassett 1978, a linear programme)
    MES = -E[r_i | r_sys in its worst q];   Gaussian: rho*s_i*phi(z_q)/q                                 (3)
    LRMES = 1 - exp(beta*ln(1-d)),   SRISK = k*Debt - (1-k)*Equity*(1-LRMES)                           (4)

Adrian and Brunnermeier 2016, doi:10.1257/aer.20120555; Acharya et al. 2017, doi:10.1093/rfs/hhw088; Brownlees and Engle
2017, doi:10.1093/rfs/hhw060.  CoVaR is a return (negative: a loss), MES and SRISK are losses (positive).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse, stats
from scipy.optimize import linprog

from aggregator.core.errors import DomainError
from aggregator.quant._checks import broadcast, check_level, floats, representable, require
from aggregator.quant.tail_risk import MIN_TAIL, rank

Floats = npt.NDArray[np.float64]


class CoVaR(NamedTuple):
    """covar: quantile of the system's return when i is at its own; delta: the same less its value at i's median."""

    covar: float
    delta: float


@representable
def gaussian_covar(correlation: float, sigma_system: float, level: float) -> CoVaR:
    """Equations (2); level 1 - q, for example 0.95: the firm is at the loss that it exceeds in the worst 5 %."""
    if not -1.0 <= correlation <= 1.0 or not 0.0 < sigma_system < np.inf:
        raise DomainError(
            "law is out of range", expected="|rho| <= 1, sigma > 0", found=f"{correlation}, {sigma_system}"
        )
    z = float(stats.norm.ppf(1.0 - check_level(level)))
    spread = float(np.sqrt(1.0 - correlation**2))
    return CoVaR(sigma_system * z * (correlation + spread), z * correlation * sigma_system)


@representable
def empirical_covar(own: npt.ArrayLike, system: npt.ArrayLike, level: float, *, min_tail: int = MIN_TAIL) -> CoVaR:
    """Quantile regression of system (n,) on own (n,) returns at 1 - level; quantiles of own as `tail_risk` has VaR.

    DomainError for fewer than min_tail outcomes in the tail.
    """
    x, y = _pair(own, system)
    _enough(len(x), level, min_tail)
    intercept, slope = quantile_regression(x, y, 1.0 - level)
    falling = np.sort(-x)
    low, middle = (-float(falling[rank(len(x), q)]) for q in (level, 0.5))
    return CoVaR(float(intercept + slope * low), float(slope * (low - middle)))


def quantile_regression(x: npt.ArrayLike, y: npt.ArrayLike, quantile: float) -> tuple[float, float]:
    """(intercept, slope) minimising sum of q*(y - a - bx)+ + (1-q)*(a + bx - y)+, exactly, as a linear programme."""
    a, b = _pair(x, y)
    n = len(a)
    if not 0.0 < quantile < 1.0 or n < 3:
        raise DomainError("regression is undefined", expected="0 < quantile < 1, n >= 3", found=f"{quantile}, n = {n}")
    if np.all(a == a[0]):
        raise DomainError("regression has no slope", expected="an x that moves", found=f"{a[0]} throughout")
    cost = np.concatenate([np.zeros(2), np.full(n, quantile), np.full(n, 1.0 - quantile)])
    eye = sparse.eye_array(n)
    equal = sparse.hstack([sparse.csr_array(np.column_stack([np.ones(n), a])), eye, -eye])
    bounds = [(None, None)] * 2 + [(0, None)] * (2 * n)
    found = linprog(cost, A_eq=equal, b_eq=b, bounds=bounds, method="highs")
    if not found.success:
        raise DomainError(
            "quantile regression found no optimum", expected="a bounded programme", found=str(found.message)
        )
    return float(found.x[0]), float(found.x[1])


@representable
def gaussian_mes(correlation: float, sigma: float, level: float) -> float:
    """Equation (3), a positive loss."""
    if not -1.0 <= correlation <= 1.0 or not 0.0 < sigma < np.inf:
        raise DomainError("law is out of range", expected="|rho| <= 1, sigma > 0", found=f"{correlation}, {sigma}")
    z = float(stats.norm.ppf(1.0 - check_level(level)))
    return float(correlation * sigma * stats.norm.pdf(z) / (1.0 - level))


@representable
def empirical_mes(own: npt.ArrayLike, system: npt.ArrayLike, level: float, *, min_tail: int = MIN_TAIL) -> float:
    """Mean own loss over the worst 1 - level of system returns, both (n,); a positive loss.

    Days on which the system lost the same count alike: those at the edge of the tail share what room is left in it, so
    the order of the rows means nothing (Acerbi and Tasche 2002, as in `tail_risk`).
    """
    x, y = _pair(own, system)
    beyond = _enough(len(y), level, min_tail)
    edge = np.sort(y)[rank(len(y), beyond / len(y))]
    worse, tied = y < edge, y == edge
    part = (beyond - np.count_nonzero(worse)) / np.count_nonzero(tied)
    return float(-(np.sum(x[worse]) + part * np.sum(x[tied])) / beyond)


@representable
def lrmes(beta: npt.ArrayLike, market_drop: float = 0.4) -> Floats:
    """Long-run MES (4): share of equity lost when the market falls by market_drop in (0, 1)."""
    if not 0.0 < market_drop < 1.0:
        raise DomainError("market drop is out of range", expected="0 < d < 1", found=str(market_drop))
    slope = floats("beta", beta)
    require("beta", slope, np.isfinite(slope), "a finite number")
    return np.asarray(-np.expm1(slope * np.log1p(-market_drop)))


@representable
def srisk(
    debt: npt.ArrayLike, equity: npt.ArrayLike, long_run_mes: npt.ArrayLike, capital_ratio: float = 0.08
) -> Floats:
    """Capital missing in a crisis (4), broadcasting; negative is a surplus."""
    d, e, loss = broadcast(debt=debt, equity=equity, long_run_mes=long_run_mes)
    require("debt", d, (d >= 0.0) & np.isfinite(d), "finite and >= 0")
    require("equity", e, (e >= 0.0) & np.isfinite(e), "finite and >= 0")
    require("long_run_mes", loss, np.isfinite(loss), "a finite share of equity")
    require("capital_ratio", capital_ratio, 0.0 < capital_ratio < 1.0, "0 < k < 1")
    return np.asarray(capital_ratio * d - (1.0 - capital_ratio) * e * (1.0 - loss))


def _enough(n: int, level: float, min_tail: int) -> float:
    """Outcomes that lie beyond the level."""
    beyond = (1.0 - check_level(level)) * n
    if beyond < min_tail * (1.0 - 1e-12):
        raise DomainError("the tail holds too few outcomes", expected=f"{min_tail}", found=f"{beyond:.3g} of {n}")
    return beyond


def _pair(x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Floats, Floats]:
    a, b = floats("the first series", x), floats("the second series", y)
    if a.ndim != 1 or a.shape != b.shape:
        raise DomainError("series do not pair", expected="two finite (n,)", found=f"{a.shape}, {b.shape}")
    require("the first series", a, np.isfinite(a), "a finite number")
    require("the second series", b, np.isfinite(b), "a finite number")
    return a, b
