"""Value at risk and expected shortfall, four ways.  Losses are positive; level a is the probability of being inside.

    VaR_a = inf{x : P(L <= x) >= a},      ES_a = (1/(1-a)) int_a^1 VaR_u du                            (1)

On n outcomes of equal weight the k-th smallest loss is VaR for (k-1)/n < a <= k/n, and ES takes the part of the
boundary outcome that (1) gives it (Acerbi and Tasche 2002, doi:10.1016/S0378-4266(02)00283-2), so it is coherent.
A tail that holds fewer than `MIN_TAIL` outcomes is refused: an estimate from two losses looks like any other number.

Filtered historical: losses are standardised by their own volatility and scaled to today's (Barone-Adesi, Giannopoulos
and Vosper 1999, Journal of Futures Markets 19(5)).  Delta-gamma: L = -(theta +
delta'x + x'Gamma x/2), x ~ N(0, Sigma); cumulants of the quadratic form are exact,

    k_1 = -theta - tr(G)/2,   k_r = (r-1)!/2 * tr((-G)^r) + r!/2 * d'(-G)^(r-2) d  (r >= 2),            (2)

with G = C'Gamma C, d = C'delta, Sigma = C C', and the quantile is Cornish-Fisher's of the first four.
Monte Carlo: (1) on draws, with standard errors from the asymptotic law of quantile and tail mean.
"""

from __future__ import annotations

from collections.abc import Callable
from math import factorial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from aggregator.core.errors import DomainError
from aggregator.quant._checks import floats, representable, require

Floats = npt.NDArray[np.float64]
MIN_TAIL = 10


class TailRisk(NamedTuple):
    """var, es: losses (positive) at the level; var_error, es_error: standard errors (NaN where the method gives
    none); outcomes: number used; in_tail: expected number beyond the level."""

    var: float
    es: float
    var_error: float
    es_error: float
    outcomes: int
    in_tail: float


@representable
def historical(losses: npt.ArrayLike, level: float, min_tail: int = MIN_TAIL) -> TailRisk:
    """Equation (1) on outcomes (n,).  DomainError if fewer than min_tail lie beyond the level or one is NaN."""
    outcomes = np.sort(_outcomes(losses))
    n = len(outcomes)
    beyond = (1.0 - _level(level)) * n
    if beyond < min_tail * (1.0 - 1e-12):
        raise DomainError(
            "the tail holds too few outcomes",
            expected=f"at least {min_tail} beyond {level}, that is {int(np.ceil(min_tail / (1.0 - level)))} outcomes",
            found=f"{beyond:.3g} of {n}",
            fix="use more outcomes, a lower level, or a model of the tail",
        )
    # ceil with a margin: 0.95 * 100 must be outcome 95, not 96 by rounding.
    at = max(int(np.ceil(level * n - 1e-9)) - 1, 0)
    var = float(outcomes[at])
    tail = outcomes[at + 1 :]
    es = float((tail.sum() + var * (beyond - len(tail))) / beyond)
    # Quantile: sqrt(a(1-a)/n) over the density there, from the spacing of neighbours; tail mean: its own variance.
    half = max(int(np.sqrt(level * (1.0 - level) * n)), 1)
    low, high = max(at - half, 0), min(at + half, n - 1)
    slope = float(outcomes[high] - outcomes[low]) * n / (high - low) if high > low else float("nan")
    var_error = slope * float(np.sqrt(level * (1.0 - level) / n))
    excess = np.maximum(outcomes - var, 0.0)
    es_error = float(np.std(excess)) / (1.0 - level) / float(np.sqrt(n))
    return TailRisk(var, es, var_error, es_error, n, beyond)


@representable
def filtered_historical(
    losses: npt.ArrayLike, volatility: npt.ArrayLike, volatility_now: float, level: float, min_tail: int = MIN_TAIL
) -> TailRisk:
    """`historical` on losses (n,) scaled by volatility_now / volatility (n,), both > 0 and of the same horizon."""
    outcomes, sigma = _outcomes(losses), floats("volatility", volatility)
    if sigma.shape != outcomes.shape:
        raise DomainError("volatility does not pair with losses", expected=str(outcomes.shape), found=str(sigma.shape))
    require("volatility", sigma, (sigma > 0.0) & np.isfinite(sigma), "finite and > 0")
    require("volatility_now", volatility_now, 0.0 < volatility_now < np.inf, "finite and > 0")
    return historical(outcomes / sigma * volatility_now, level, min_tail)


@representable
def delta_gamma(
    delta: npt.ArrayLike, gamma: npt.ArrayLike, covariance: npt.ArrayLike, level: float, theta: float = 0.0
) -> TailRisk:
    """Equation (2).  delta (k,), gamma and covariance (k, k) symmetric, moves over the horizon; theta P&L of time.

    ES integrates the same expansion over the tail.  DomainError if the expansion is not monotone in the tail, where
    its quantile means nothing (strongly short gamma: use `monte_carlo`).
    """
    d, g, sigma = floats("delta", delta), floats("gamma", gamma), floats("covariance", covariance)
    k = d.size
    if k == 0 or d.shape != (k,) or g.shape != (k, k) or sigma.shape != (k, k):
        raise DomainError(
            "shapes do not match", expected="(k >= 1,), (k, k) twice", found=f"{d.shape}, {g.shape}, {sigma.shape}"
        )
    for name, column in (("delta", d), ("gamma", g), ("covariance", sigma), ("theta", np.asarray(theta))):
        require(name, column, np.isfinite(column), "a finite number")
    for name, column in (("gamma", g), ("covariance", sigma)):
        require(name, column, np.isclose(column, column.T), "equal to its mirror: the matrix is symmetric")
    _level(level)
    values, vectors = np.linalg.eigh(sigma)
    if np.any(values < -1e-10 * max(float(np.max(values, initial=0.0)), 1e-300)):
        raise DomainError(
            "covariance is not positive semi-definite", expected="eigenvalues >= 0", found=str(values.min())
        )
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    g, d = -(root.T @ g @ root), -(root.T @ d)
    powers = [np.eye(k), g, g @ g, g @ g @ g, g @ g @ g @ g]
    mean = -theta + 0.5 * float(np.trace(g))
    cumulants = [
        0.5 * factorial(r - 1) * float(np.trace(powers[r])) + 0.5 * factorial(r) * float(d @ powers[r - 2] @ d)
        for r in (2, 3, 4)
    ]
    sd = float(np.sqrt(cumulants[0]))
    if sd == 0.0:
        return TailRisk(mean, mean, 0.0, 0.0, 0, 0.0)
    skew, kurtosis = cumulants[1] / sd**3, cumulants[2] / sd**4

    def quantile(z: Floats) -> Floats:
        return np.asarray(
            z + (z**2 - 1) * skew / 6 + (z**3 - 3 * z) * kurtosis / 24 - (2 * z**3 - 5 * z) * skew**2 / 36
        )

    nodes, weights = np.polynomial.legendre.leggauss(64)
    # u = 1 - (1-a) t^2 puts the nodes where the tail is.
    t = 0.5 * (nodes + 1.0)
    line = quantile(stats.norm.isf((1.0 - level) * t[::-1] ** 2))
    at_level = float(quantile(np.asarray(stats.norm.ppf(level))))
    if np.any(np.diff(line) < 0.0) or line[0] < at_level - 1e-9:
        raise DomainError(
            "the expansion is not monotone in the tail",
            expected="milder skew",
            found=f"skew {skew:.3g}, excess {kurtosis:.3g}",
        )
    tail_mean = float(np.sum(weights * t * quantile(stats.norm.isf((1.0 - level) * t**2))))
    return TailRisk(mean + sd * at_level, mean + sd * tail_mean, float("nan"), float("nan"), 0, 0.0)


def monte_carlo(
    loss_of: Callable[[Floats], Floats],
    draw: Callable[[np.random.Generator, int], Floats],
    level: float,
    draws: int,
    seed: int,
    min_tail: int = 100,
) -> TailRisk:
    """`historical` on loss_of(draw(generator, draws)) -> (draws,); seeded, with standard errors."""
    if draws < 1:
        raise DomainError("nothing to draw", expected="draws >= 1", found=str(draws))
    scenarios = draw(np.random.default_rng(seed), draws)
    return historical(loss_of(scenarios), level, min_tail)


def _outcomes(losses: npt.ArrayLike) -> Floats:
    outcomes = floats("losses", losses)
    if outcomes.ndim != 1 or not len(outcomes):
        raise DomainError("losses must be a non-empty line", expected="(n,)", found=str(outcomes.shape))
    require("losses", outcomes, np.isfinite(outcomes), "a finite number")
    return outcomes


def _level(level: float) -> float:
    if not 0.0 < level < 1.0:
        raise DomainError("level is out of range", expected="0 < level < 1, for example 0.99", found=str(level))
    return level
