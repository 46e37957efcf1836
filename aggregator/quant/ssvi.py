r"""SSVI: one surface across expiries, free of butterfly and calendar arbitrage by construction.

With at-the-money total variance :math:`\theta_T` (Gatheral & Jacquier 2014, doi:10.1080/14697688.2013.819986,
eq. 4.1, theorems 4.1-4.2, sec. 4.2):

.. math::
   w(k,\theta) &= \tfrac\theta2\bigl[1+\rho\varphi k+\sqrt{(\varphi k+\rho)^2+1-\rho^2}\bigr]   \tag{1}\\
   \varphi(\theta) &= \eta\,\theta^{-\gamma}(1+\theta)^{\gamma-1}                                  \tag{2}\\
   \eta(1+|\rho|) &\le 2,\qquad 0<\gamma\le\tfrac12,\qquad \theta_T \text{ non-decreasing}              \tag{3}

Under (3): :math:`\theta\varphi\le\eta` gives :math:`\theta\varphi(1+|\rho|)<4`, and :math:`\theta\varphi^2\le\eta^2`
gives :math:`\theta\varphi^2(1+|\rho|)\le4`, so no smile has butterfly arbitrage;
:math:`0\le\partial_\theta(\theta\varphi)\le\varphi` excludes calendar arbitrage.
The fit searches only inside (3), by Levenberg-Marquardt with the exact Jacobian on
volatility errors :math:`(w-w_{quote})/(2\sigma T)`; the claim is checked again on a grid, and both go with the result.
Between expiries :math:`\theta` is linear in :math:`T`, which keeps (3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError
from aggregator.quant._checks import broadcast, floats, representable, require
from aggregator.quant.svi import LEAST_VOL, butterfly_of

Floats = npt.NDArray[np.float64]
GRID = np.linspace(-2.0, 2.0, 161)


@dataclass(frozen=True)
class SsviSurface:
    """A calibrated surface: expiries T_yr (rising) and their theta, shape (n,); rho, eta, gamma of (1) and (2)."""

    T_yr: Floats
    theta: Floats
    rho: float
    eta: float
    gamma: float

    def __post_init__(self) -> None:
        times, levels = floats("T_yr", self.T_yr), floats("theta", self.theta)
        finite = np.all(np.isfinite(times)) and np.all(np.isfinite(levels))
        if not (times.ndim == 1 and times.shape == levels.shape and times.size and finite) or not (
            times[0] > 0.0 and np.all(np.diff(times) > 0.0) and levels[0] > 0.0 and np.all(np.diff(levels) >= 0.0)
        ):
            raise DomainError(
                "an SSVI surface needs rising expiries and non-decreasing positive variance",
                expected="T_yr and theta of one shape (n >= 1,)",
                found=f"T_yr={self.T_yr}, theta={self.theta}",
            )
        free = self.eta * (1 + abs(self.rho)) <= 2 * (1 + 1e-12) and 0 < self.gamma <= 0.5 and abs(self.rho) < 1
        if not free or not self.eta > 0:
            raise DomainError(
                "these SSVI parameters admit arbitrage",
                expected="eta (1+|rho|) <= 2, 0 < gamma <= 1/2, |rho| < 1",
                found=f"rho={self.rho}, eta={self.eta}, gamma={self.gamma}",
            )

    @representable
    def total_variance(self, k: npt.ArrayLike, T_yr: npt.ArrayLike) -> Floats:
        """w of (1) at log-moneyness k = ln(K/F) and time T_yr > 0; any broadcast shape."""
        x, t = broadcast(k=k, T_yr=T_yr)
        require("k", x, np.isfinite(x), "finite log-moneyness")
        require("T_yr", t, (t > 0.0) & np.isfinite(t), "0 < T_yr < inf: no variance without time")
        return _smile(x, self._theta_at(t), self.rho, self.eta, self.gamma)[0]

    @representable
    def vol(self, k: npt.ArrayLike, T_yr: npt.ArrayLike) -> Floats:
        """Implied volatility per square-root year."""
        return np.sqrt(self.total_variance(k, T_yr) / floats("T_yr", T_yr))

    def _theta_at(self, t: Floats) -> Floats:
        times, values = np.concatenate([[0.0], self.T_yr]), np.concatenate([[0.0], self.theta])
        forward_variance = (values[-1] - values[-2]) / (times[-1] - times[-2])
        return np.asarray(
            np.interp(t, times, values) + forward_variance * np.maximum(t - times[-1], 0.0), dtype=np.float64
        )


class SsviFit(NamedTuple):
    """surface; root mean square and largest error in volatility; least butterfly g and least calendar step
    in total variance on GRID x expiries (both >= 0 when free of arbitrage); Levenberg-Marquardt rounds; converged;
    undetermined: parameters that other values could replace without changing the fit."""

    surface: SsviSurface
    rms_vol: float
    worst_vol: float
    least_g: float
    least_calendar: float
    rounds: int
    converged: bool
    undetermined: tuple[str, ...]


@representable
def arbitrage(surface: SsviSurface, k: npt.ArrayLike = GRID) -> tuple[float, float]:
    """(least butterfly g, least increase of total variance between expiries) over k (n,) and the surface's expiries.

    The increase is inf with a single expiry.
    """
    x = floats("k", k)
    if x.ndim != 1 or not x.size:
        raise DomainError("no grid to check", expected="k of shape (n >= 1,)", found=str(x.shape))
    require("k", x, np.isfinite(x), "finite log-moneyness")
    x = x[None, :]
    w, slope, curve = _smile(x, surface.theta[:, None], surface.rho, surface.eta, surface.gamma)
    steps = np.diff(w, axis=0)
    return float(np.min(butterfly_of(x, w, slope, curve))), float(np.min(steps)) if steps.size else float(np.inf)


@representable
def fit(
    k: npt.ArrayLike,
    *,
    T_yr: npt.ArrayLike,
    vol: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    max_rounds: int = 100,
) -> SsviFit:
    """Surface through the volatilities of a whole chain.

    k, T_yr, vol, weight: shape (n,), one row per quote, k = ln(K/F); weights multiply squared volatility errors.
    Raises DomainError naming the first unusable quote, or when an expiry has fewer than three different strikes.  One
    expiry fixes theta, rho and phi(theta) only: eta and gamma are then undetermined.
    """
    x, t, sigma = floats("k", k), floats("T_yr", T_yr), floats("vol", vol)
    u = np.ones_like(x) if weight is None else floats("weight", weight)
    expiries, slot = _check_chain(x, t, sigma, u)
    u = u / np.max(u)
    w = sigma**2 * t
    scale = np.sqrt(u) / (2.0 * sigma * t)

    start = np.array([np.interp(0.0, *_sorted(x[slot == i], w[slot == i])) for i in range(expiries.size)])
    start = np.maximum.accumulate(start) * (1.0 + 1e-6 * np.arange(expiries.size))
    steps = np.maximum(np.diff(start, prepend=0.0), 1e-7 * start)
    state = np.concatenate([[np.arctanh(-0.2), 0.0, 1.0], np.log(steps)])

    damping, used, converged = 1e-3, 0, False
    residual, jacobian = _linearised(state, x, slot, w, scale)
    cost = float(residual @ residual)
    while used < max_rounds and not converged:
        used += 1
        normal, gradient = jacobian.T @ jacobian, jacobian.T @ residual
        step = -np.linalg.solve(normal + np.diag(damping * np.diag(normal) + 1e-14 * np.trace(normal)), gradient)
        trial = state + np.clip(step, -2.0, 2.0)
        new_residual, new_jacobian = _linearised(trial, x, slot, w, scale)
        new_cost = float(new_residual @ new_residual)
        if new_cost <= cost:
            converged = cost - new_cost <= 1e-12 * cost + 1e-26
            state, residual, jacobian, cost = trial, new_residual, new_jacobian, new_cost
            damping = max(damping * 0.2, 1e-12)
        elif damping > 1e10:
            # no step helps: a minimum only if the errors have no slope left
            steep = np.abs(gradient) / (np.sqrt(np.diag(normal) * cost) + 1e-300)
            converged = bool(np.max(steep) < 1e-5)
            break
        else:
            damping *= 8.0
    rho, eta, gamma, theta = _parameters(state)
    surface = SsviSurface(expiries, theta, rho, eta, gamma)
    error = np.sqrt(_smile(x, theta[slot], rho, eta, gamma)[0] / t) - sigma
    least_g, least_calendar = arbitrage(surface)
    rms = float(np.sqrt(np.average(error**2, weights=u)))
    undetermined = ("eta", "gamma") if expiries.size == 1 else ()
    return SsviFit(surface, rms, float(np.max(np.abs(error))), least_g, least_calendar, used, converged, undetermined)


def _smile(k: Floats, theta: Floats, rho: float, eta: float, gamma: float) -> tuple[Floats, Floats, Floats]:
    """w of (1) and its first two derivatives in k."""
    phi = eta * theta**-gamma * (1.0 + theta) ** (gamma - 1.0)
    shifted = phi * k + rho
    root = np.sqrt(shifted * shifted + 1.0 - rho * rho)
    return (
        0.5 * theta * (1.0 + rho * phi * k + root),
        0.5 * theta * phi * (rho + shifted / root),
        0.5 * theta * phi * phi * (1.0 - rho * rho) / root**3,
    )


def _parameters(state: Floats) -> tuple[float, float, float, Floats]:
    rho = float(np.tanh(state[0]))
    eta = 2.0 / (1.0 + abs(rho)) * _logistic(state[1])
    return rho, eta, 0.5 * _logistic(state[2]), np.cumsum(np.exp(state[3:]))


def _logistic(z: float) -> float:
    return float(0.5 * (1.0 + np.tanh(0.5 * z)))


def _linearised(
    state: Floats, k: Floats, slot: npt.NDArray[np.intp], w: Floats, scale: Floats
) -> tuple[Floats, Floats]:
    """Volatility errors (n,) and their Jacobian (n, 3 + expiries) in the unconstrained state."""
    rho, eta, gamma, levels = _parameters(state)
    theta = levels[slot]
    log_ratio = np.log1p(theta) - np.log(theta)
    phi = eta * np.exp(gamma * log_ratio) / (1.0 + theta)
    pull = phi * k
    root = np.sqrt((pull + rho) ** 2 + 1.0 - rho * rho)
    model = 0.5 * theta * (1.0 + rho * pull + root)
    by_phi = 0.5 * theta * k * (rho + (pull + rho) / root)
    by_rho = 0.5 * theta * pull * (1.0 + 1.0 / root)
    by_log_eta = by_phi * phi
    by_theta = model / theta - by_log_eta * (gamma / theta + (1.0 - gamma) / (1.0 + theta))
    jacobian = np.empty((k.size, state.size))
    jacobian[:, 0] = (by_rho - by_log_eta * np.sign(rho) / (1.0 + abs(rho))) * (1.0 - rho * rho)
    jacobian[:, 1] = by_log_eta * (1.0 - _logistic(state[1]))
    jacobian[:, 2] = by_log_eta * log_ratio * gamma * (1.0 - 2.0 * gamma)
    increments = np.exp(state[3:])
    jacobian[:, 3:] = by_theta[:, None] * increments * (np.arange(increments.size) <= slot[:, None])
    jacobian *= scale[:, None]
    return (model - w) * scale, jacobian


def _check_chain(k: Floats, t: Floats, vol: Floats, u: Floats) -> tuple[Floats, npt.NDArray[np.intp]]:
    if not k.shape == t.shape == vol.shape == u.shape or k.ndim != 1 or k.size == 0:
        raise DomainError(
            "not a chain",
            expected="k, T_yr, vol and weight of one shape (n,)",
            found=f"{k.shape}, {t.shape}, {vol.shape}, {u.shape}",
        )
    wrong = ~(
        np.isfinite(k) & (vol >= LEAST_VOL) & (vol < np.inf) & (t > 0.0) & (t < np.inf) & (u > 0.0) & (u < np.inf)
    )
    if np.any(wrong):
        i = int(np.argmax(wrong))
        raise DomainError(
            f"quote [{i}] of the chain is unusable",
            expected=f"finite k, vol >= {LEAST_VOL}, T_yr and weight > 0",
            found=f"k={k[i]}, T_yr={t[i]}, vol={vol[i]}, weight={u[i]}",
        )
    expiries, slot = np.unique(t, return_inverse=True)
    count = np.bincount(np.unique(np.stack([slot, k]), axis=1)[0].astype(np.int64))
    if np.any(count < 3):
        i = int(np.argmax(count < 3))
        raise DomainError(
            "an expiry has too few different strikes", expected="at least 3", found=f"{count[i]} at T_yr={expiries[i]}"
        )
    return expiries, slot


def _sorted(k: Floats, w: Floats) -> tuple[Floats, Floats]:
    order = np.argsort(k, kind="stable")
    return k[order], w[order]
