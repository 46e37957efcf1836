"""Value at risk and expected shortfall, four ways.  Losses are positive; level a is the probability of being inside.

    VaR_a = inf{x : P(L <= x) >= a},      ES_a = (1/(1-a)) int_a^1 VaR_u du                            (1)

On n outcomes of equal weight the k-th smallest loss is VaR for (k-1)/n < a <= k/n, and ES takes the part of the
boundary outcome that (1) gives it (Acerbi and Tasche 2002, doi:10.1016/S0378-4266(02)00283-2), so it is coherent.
A tail that holds fewer than `MIN_TAIL` outcomes is refused: an estimate from two losses looks like any other number.

Filtered historical: losses are standardised by their own volatility and scaled to today's (Barone-Adesi, Giannopoulos
and Vosper 1999, Journal of Futures Markets 19(5)).  Delta-gamma: L = -(theta + delta'x + x'Gamma x/2), x ~ N(0, Sigma),
is a quadratic form of normals whose characteristic function is known; it is inverted (`quadratic_form`), so that VaR
and ES are those of (1) for any gamma, and the numerical error comes with them.
Monte Carlo: (1) on draws, with standard errors from the asymptotic law of quantile and tail mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError
from aggregator.quant._checks import check_level, floats, representable, require
from aggregator.quant.quadratic_form import QuadraticForm

Floats = npt.NDArray[np.float64]
MIN_TAIL = 10


class TailRisk(NamedTuple):
    """var, es: losses (positive) at the level; var_error, es_error: standard errors, numerical ones of `delta_gamma`;
    outcomes: number used; in_tail: expected number beyond the level."""

    var: float
    es: float
    var_error: float
    es_error: float
    outcomes: int
    in_tail: float


@representable
def historical(losses: npt.ArrayLike, level: float, *, min_tail: int = MIN_TAIL) -> TailRisk:
    """Equation (1) on outcomes (n,).  DomainError if fewer than min_tail lie beyond the level or one is NaN."""
    outcomes = np.sort(_outcomes(losses))
    n = len(outcomes)
    beyond = (1.0 - check_level(level)) * n
    if beyond < min_tail * (1.0 - 1e-12):
        raise DomainError(
            "the tail holds too few outcomes",
            expected=f"at least {min_tail} beyond {level}, that is {int(np.ceil(min_tail / (1.0 - level)))} outcomes",
            found=f"{beyond:.3g} of {n}",
            fix="use more outcomes, a lower level, or a model of the tail",
        )
    at = rank(n, level)
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
    losses: npt.ArrayLike, sigma: npt.ArrayLike, sigma_now: float, level: float, *, min_tail: int = MIN_TAIL
) -> TailRisk:
    """`historical` on losses (n,) scaled by sigma_now / sigma (n,), volatilities > 0 of one horizon."""
    outcomes, then = _outcomes(losses), floats("sigma", sigma)
    if then.shape != outcomes.shape:
        raise DomainError("sigma does not pair with losses", expected=str(outcomes.shape), found=str(then.shape))
    require("sigma", then, (then > 0.0) & np.isfinite(then), "finite and > 0")
    require("sigma_now", sigma_now, 0.0 < sigma_now < np.inf, "finite and > 0")
    return historical(outcomes / then * sigma_now, level, min_tail=min_tail)


@representable
def delta_gamma(
    delta: npt.ArrayLike, gamma: npt.ArrayLike, covariance: npt.ArrayLike, level: float, *, theta: float = 0.0
) -> TailRisk:
    """VaR and ES of the quadratic approximation, to the numerical error that is given.

    delta (k,), gamma and covariance (k, k) symmetric, moves over the horizon; theta P&L of time.  DomainError if the
    inversion does not settle to 1e-6 of the standard deviation.
    """
    d, g, sigma = floats("delta", delta), floats("gamma", gamma), floats("covariance", covariance)
    k = d.size
    if k == 0 or d.shape != (k,) or g.shape != (k, k) or sigma.shape != (k, k):
        raise DomainError(
            "shapes do not match", expected="(k >= 1,), (k, k) twice", found=f"{d.shape}, {g.shape}, {sigma.shape}"
        )
    for name, column in (("delta", d), ("gamma", g), ("covariance", sigma), ("theta", floats("theta", theta))):
        require(name, column, np.isfinite(column), "a finite number")
    for name, column in (("gamma", g), ("covariance", sigma)):
        require(name, column, np.isclose(column, column.T), "equal to its mirror: the matrix is symmetric")
    check_level(level)
    values, vectors = np.linalg.eigh(sigma)
    if np.any(values < -1e-10 * max(float(np.max(values, initial=0.0)), 1e-300)):
        raise DomainError(
            "covariance is not positive semi-definite", expected="eigenvalues >= 0", found=str(values.min())
        )
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    lam, axes = np.linalg.eigh(-(root.T @ g @ root))
    a, mean = -(axes.T @ (root.T @ d)), -theta + 0.5 * float(np.sum(lam))
    sd = float(np.sqrt(np.sum(a * a + 0.5 * lam * lam)))
    if sd == 0.0:
        return TailRisk(mean, mean, 0.0, 0.0, 0, 0.0)
    a, lam = a / sd, lam / sd
    try:
        at, es, var_error, es_error = _inverted(a, lam, level, 1e-14)
    except (DomainError, FloatingPointError):  # a law with an end, blurred by a factor of rounding's size
        at, es, var_error, es_error = _inverted(a, lam, level, 2e-8)
    return TailRisk(mean + sd * at, mean + sd * es, sd * var_error, sd * es_error, 0, 0.0)


def _inverted(a: Floats, lam: Floats, level: float, least_sd: float) -> tuple[float, float, float, float]:
    """(VaR, ES, their errors) of a form of variance one, without the factors whose joint deviation is below least_sd.

    What is left out moves either by 40 of its deviations at most, but for a chance below 1e-13.
    """
    size = np.hypot(a, lam * np.sqrt(0.5))
    order = np.argsort(size, kind="stable")
    joint = np.empty_like(size)
    joint[order] = np.sqrt(np.cumsum(size[order] ** 2))
    kept = joint > least_sd
    left_out = 40.0 * float(np.max(joint, where=~kept, initial=0.0))
    form = QuadraticForm(a[kept], lam[kept])
    at = form.quantile(level)
    tail = form.tail(at)
    missed = float(tail.errors[1]) + abs(tail.probability - (1.0 - level))
    var_error = (missed / tail.density if tail.density > 0.0 else np.inf) + left_out
    es_error = float(tail.errors[2]) / (1.0 - level) + var_error
    if not max(var_error, es_error) < 1e-6:
        raise DomainError(
            "the inversion does not settle", expected="an error below 1e-6 sd", found=f"{es_error:.3g} sd"
        )
    return at, at + tail.excess / (1.0 - level), var_error, es_error


def monte_carlo(
    loss_of: Callable[[Floats], Floats],
    draw: Callable[[np.random.Generator, int], Floats],
    level: float,
    *,
    draws: int,
    seed: int,
    min_tail: int = 100,
) -> TailRisk:
    """`historical` on loss_of(draw(generator, draws)) -> (draws,); seeded, with standard errors."""
    if draws < 1:
        raise DomainError("nothing to draw", expected="draws >= 1", found=str(draws))
    scenarios = draw(np.random.default_rng(seed), draws)
    return historical(loss_of(scenarios), level, min_tail=min_tail)


def rank(n: int, level: float) -> int:
    """Index of VaR among n sorted losses: the ceil(level n)-th, with a margin, so that 0.95 * 100 is not 96."""
    return max(int(np.ceil(level * n - 1e-9)) - 1, 0)


def _outcomes(losses: npt.ArrayLike) -> Floats:
    outcomes = floats("losses", losses)
    if outcomes.ndim != 1 or not len(outcomes):
        raise DomainError("losses must be a non-empty line", expected="(n,)", found=str(outcomes.shape))
    require("losses", outcomes, np.isfinite(outcomes), "a finite number")
    return outcomes
