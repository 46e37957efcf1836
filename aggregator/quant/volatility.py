"""Volatility measured and forecast: realised variance, HAR, GARCH and GJR.

    RV_t = sum r_ti^2,    BV_t = (pi/2) * n/(n-1) * sum |r_ti||r_t(i-1)|   (free of jumps)              (1)
    HAR:  RV_{t+1} = b0 + b_d RV_t + b_w mean(RV_{t-4..t}) + b_m mean(RV_{t-21..t}) + e                 (2)
    GJR:  h_t = omega + (alpha + gamma*[e_{t-1} < 0]) e_{t-1}^2 + beta h_{t-1};  GARCH has gamma = 0     (3)

Barndorff-Nielsen and Shephard 2004, doi:10.1093/jjfinec/nbh001; Corsi 2009, doi:10.1093/jjfinec/nbp001; Bollerslev
1986, doi:10.1016/0304-4076(86)90063-1; Glosten, Jagannathan and Runkle 1993, doi:10.1111/j.1540-6261.1993.tb05128.x.
HAR is least squares with Newey-West errors.  GARCH is fitted by `arch`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.signal import lfilter

from aggregator.core.errors import DomainError
from aggregator.quant._checks import floats, representable, require
from aggregator.quant.jit import jit

Floats = npt.NDArray[np.float64]
HAR_LAGS = (1, 5, 22)


@representable
def realised_variance(returns: npt.ArrayLike) -> Floats:
    """RV over the last axis: (..., n) intraday returns -> (...).  DomainError for NaN or infinite returns."""
    r = _returns(returns)
    return np.asarray(np.sum(r * r, axis=-1))


@representable
def bipower_variation(returns: npt.ArrayLike) -> Floats:
    """BV of (1) over the last axis, n >= 2; RV - BV estimates the jump part."""
    r = np.abs(_returns(returns))
    n = r.shape[-1]
    if n < 2:
        raise DomainError("bipower variation needs neighbours", expected="n >= 2", found=str(n))
    return np.asarray(np.pi / 2.0 * n / (n - 1) * np.sum(r[..., 1:] * r[..., :-1], axis=-1))


class Har(NamedTuple):
    """coefficients (4,): constant, daily, weekly, monthly; errors (4,) Newey-West; r2; observations; forecast: the next
    day's value, not floored (it may be negative: fit logs where that matters)."""

    coefficients: Floats
    errors: Floats
    r2: float
    observations: int
    forecast: float


@representable
def har(realised: npt.ArrayLike, lags: tuple[int, ...] = HAR_LAGS, newey_west_lag: int = 22) -> Har:
    """Equation (2) on a series (T,), oldest first.  DomainError if it is shorter than three times the longest lag."""
    x, y = har_design(realised, lags)
    if len(y) < 2 * max(lags) or not 0 <= newey_west_lag < len(y):
        raise DomainError(
            "series is too short",
            expected=f"at least {3 * max(lags)} days, 0 <= newey_west_lag < days",
            found=f"{len(y) + max(lags)}, {newey_west_lag}",
        )
    coefficients, _, rank, _ = np.linalg.lstsq(x, y, rcond=None)
    if rank < x.shape[1]:
        raise DomainError("regressors do not move apart", expected="a series that varies at every lag", found=f"{lags}")
    left = y - x @ coefficients
    moments = x * left[:, None]
    meat = moments.T @ moments
    for lag in range(1, newey_west_lag + 1):
        cross = moments[lag:].T @ moments[:-lag]
        meat += (1.0 - lag / (newey_west_lag + 1.0)) * (cross + cross.T)
    bread = np.linalg.inv(x.T @ x)
    errors = np.sqrt(np.diag(bread @ meat @ bread))
    r2 = 1.0 - float(left @ left) / float(np.sum((y - y.mean()) ** 2))
    series = floats("series", realised)
    today = np.array([1.0, *(series[-lag:].mean() for lag in lags)])
    return Har(
        np.asarray(coefficients, dtype=np.float64),
        np.asarray(errors, dtype=np.float64),
        r2,
        len(y),
        float(today @ coefficients),
    )


@representable
def har_design(realised: npt.ArrayLike, lags: tuple[int, ...] = HAR_LAGS) -> tuple[Floats, Floats]:
    """Regressors (T - max lag, 1 + len(lags)) and targets of (2); row t uses days up to t only."""
    series = _returns(realised)
    if not lags or min(lags) < 1 or series.ndim != 1 or len(series) <= max(lags):
        raise DomainError("series is too short", expected=f"(T > lags {lags},), lags >= 1", found=str(series.shape))
    sums = np.concatenate([[0.0], np.cumsum(series)])
    ends = np.arange(max(lags), len(series))
    columns = [(sums[ends] - sums[ends - lag]) / lag for lag in lags]
    return np.column_stack([np.ones(len(ends)), *columns]), series[max(lags) :]


class Garch(NamedTuple):
    """mu, omega, alpha, gamma (0 for GARCH), beta; loglikelihood; variance (T,) fitted; next_variance: the forecast;
    errors: `arch`'s robust standard errors by name; converged as the optimiser says."""

    mu: float
    omega: float
    alpha: float
    gamma: float
    beta: float
    loglikelihood: float
    variance: Floats
    next_variance: float
    errors: dict[str, float]
    converged: bool


@representable
def fit_garch(returns: npt.ArrayLike, *, asymmetric: bool = False, presample_mean: bool = False) -> Garch:
    """GARCH(1,1) or GJR(1,1,1) with constant mean and normal errors, through `arch`.

    returns (T,), T >= 100, in any unit: they are fitted in units of their own deviation, because `arch` stops early at
    variances far from one, and the answer is in the unit of the returns.  presample_mean: h_0 = e_0^2 = mean(e^2),
    which moves with mu as in the FCP benchmark; `arch` holds its start fixed, so the fit is then finished from there.
    """
    from arch import arch_model  # 0.5 s to import; only fitting needs it

    r = _returns(returns)
    if r.ndim != 1 or len(r) < 100 or not float(np.var(r)) > 0.0:
        raise DomainError("series is too short or constant", expected="(T >= 100,) that moves", found=str(r.shape))
    unit = float(np.std(r))
    r = r / unit
    model = arch_model(r, mean="Constant", vol="GARCH", p=1, o=1 if asymmetric else 0, q=1, rescale=False)
    start = float(np.mean((r - r.mean()) ** 2)) if presample_mean else None
    fitted = model.fit(disp="off", show_warning=False, backcast=start, tol=1e-12)
    named, converged = fitted.params, fitted.convergence_flag == 0
    p = np.array([named["mu"], named["omega"], named["alpha[1]"], named.get("gamma[1]", 0.0), named["beta[1]"]], float)
    h, likelihood = np.asarray(fitted.conditional_volatility, dtype=np.float64) ** 2, float(fitted.loglikelihood)
    if presample_mean:
        free = np.array([0, 1, 2, 3, 4] if asymmetric else [0, 1, 2, 4])
        best = minimize(lambda x: _minus_loglikelihood(_put(p, free, x), r)[0], p[free], method="Nelder-Mead",
                        options={"xatol": 1e-10, "fatol": 1e-12, "maxiter": 20_000, "maxfev": 20_000})  # fmt: skip
        p, converged = _put(p, free, best.x), bool(best.success)
        minus, h = _minus_loglikelihood(p, r)
        likelihood = -minus
    mu, omega, alpha, gamma, beta = (float(value) for value in p)
    last = float(r[-1]) - mu
    ahead = omega + (alpha + gamma * (last < 0.0)) * last**2 + beta * float(h[-1])
    size = {"mu": unit, "omega": unit**2}
    errors = {str(name): float(error) * size.get(str(name), 1.0) for name, error in fitted.std_err.items()}
    return Garch(
        mu * unit,
        omega * unit**2,
        alpha,
        gamma,
        beta,
        likelihood - len(r) * float(np.log(unit)),
        h * unit**2,
        ahead * unit**2,
        errors,
        converged,
    )


def _put(p: Floats, at: npt.NDArray[np.int64], values: Floats) -> Floats:
    moved = p.copy()
    moved[at] = values
    return moved


def _minus_loglikelihood(p: Floats, r: Floats) -> tuple[float, Floats]:
    e = r - p[0]
    h = variances(e, float(np.mean(e * e)), p[1], p[2], p[3], p[4])
    if not np.all(h > 0.0):
        return float("inf"), h
    return 0.5 * float(np.sum(np.log(2.0 * np.pi * h) + e * e / h)), h


@jit
def variances(e: Floats, start: float, omega: float, alpha: float, gamma: float, beta: float) -> Floats:
    """h (T,) of (3) from shocks e (T,) and the presample mean square `start`."""
    h = np.empty(len(e))
    h[0] = omega + (alpha + 0.5 * gamma + beta) * start
    for t in range(1, len(e)):
        square = e[t - 1] * e[t - 1]
        h[t] = omega + (alpha + (gamma if e[t - 1] < 0.0 else 0.0)) * square + beta * h[t - 1]
    return h


def variances_by_filter(e: Floats, start: float, omega: float, alpha: float, gamma: float, beta: float) -> Floats:
    """The oracle of `variances`: (3) as a first-order linear filter of the shocks e (T,); variances (T,)."""
    shocks = omega + (alpha + gamma * (e[:-1] < 0.0)) * e[:-1] ** 2
    first = omega + (alpha + 0.5 * gamma + beta) * start
    return np.asarray(lfilter([1.0], [1.0, -beta], np.concatenate([[first], shocks])), dtype=np.float64)


def _returns(values: npt.ArrayLike) -> Floats:
    r = floats("series", values)
    if r.ndim == 0 or r.shape[-1] == 0:
        raise DomainError("a series is needed", expected="(..., n >= 1) of numbers", found=f"shape {r.shape}")
    require("series", r, np.isfinite(r), "a finite number")
    return r
