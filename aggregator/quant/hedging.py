r"""Hedging with proportional transaction costs: adjusted volatility and no-trade bands.

:math:`\lambda` is the cost of one trade as a share of its value (half the round trip :math:`k`), :math:`\gamma`
absolute risk aversion per unit of currency, :math:`\tau` time left, :math:`\Gamma` the Black-Scholes
gamma at :math:`\sigma`.

.. math::
   \text{Leland (1985):}\quad & \hat\sigma^2 = \sigma^2(1 \pm A),\quad
        A=\sqrt{2/\pi}\,\frac{k}{\sigma\sqrt{\Delta t}}                                                  \tag{1}\\
   \text{Whalley-Wilmott (1997):}\quad & H = \Bigl(\tfrac32\,\frac{e^{-r\tau}\lambda S\Gamma^2}{\gamma}\Bigr)^{1/3},
        \quad\text{band } \Delta(\sigma)\pm H                                                            \tag{2}\\
   \text{Zakamouline (2006):}\quad & \Delta(\sigma_m)\pm(H_0+H_1),\quad
        H_0=\frac{\lambda}{\gamma S\sigma^2\tau}                                                        \tag{3}\\
        & H_1 = 1.12\,\lambda^{0.31}\tau^{0.05}(e^{-r\tau}/\sigma)^{0.25}(|\Gamma|/\gamma)^{0.5}               \tag{4}\\
        & K = -4.76\,\lambda^{0.78}\tau^{-0.02}(e^{-r\tau}/\sigma)^{0.25}(\gamma S^2|\Gamma|)^{0.15}           \tag{5}\\
        & \sigma_m^2 = \sigma^2(1+K)\ \text{long},\quad \sigma^2(1-K)\ \text{short}                     \tag{6}

plus in (1) for a short option, minus for a long one.  A long option whose :math:`A\ge1` or :math:`K\le-1` has no
well-posed price (the equation becomes a backward heat equation): DomainError names it.
Sources: doi:10.1111/j.1540-6261.1985.tb02383.x; doi:10.1111/1467-9965.00034; Zakamouline, *European Option Pricing and
Hedging with both Fixed and Proportional Transaction Costs* (2006), constants as in liamfayle/zakamouline 3a39d26.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError
from aggregator.quant import black
from aggregator.quant._checks import broadcast, index_text, representable, require
from aggregator.quant._option_inputs import Floats, kind_sign


class LelandVol(NamedTuple):
    """Leland number A and the volatilities at which a short and a long option are priced and hedged."""

    number: Floats
    short: Floats
    long: Floats


class ZakamoulineBand(NamedTuple):
    """Parts of (3) to (6): half-widths H0 and H1, K, adjusted volatility, delta at it (centre of the band)."""

    h0: Floats
    h1: Floats
    k: Floats
    sigma_m: Floats
    delta_m: Floats

    @property
    def halfwidth(self) -> Floats:
        """H0 + H1 in units of the underlying per option."""
        return self.h0 + self.h1


@representable
def leland(sigma: npt.ArrayLike, *, cost_frac: npt.ArrayLike, interval_yr: npt.ArrayLike) -> LelandVol:
    """Eq. (1), any broadcast shape; cost_frac per single trade, half of k; `long` is NaN where A >= 1 (use `short`)."""
    v, cost, dt = _positive(sigma=sigma, cost_frac=cost_frac, interval_yr=interval_yr, allow_zero="cost_frac")
    number = np.sqrt(2.0 / np.pi) * 2.0 * cost / (v * np.sqrt(dt))
    with np.errstate(invalid="ignore"):
        return LelandVol(number, v * np.sqrt(1.0 + number), v * np.sqrt(np.where(number < 1.0, 1.0 - number, np.nan)))


@representable
def whalley_wilmott(
    S: npt.ArrayLike,
    K: npt.ArrayLike,
    T_yr: npt.ArrayLike,
    sigma: npt.ArrayLike,
    r: npt.ArrayLike = 0.0,
    *,
    cost_frac: npt.ArrayLike,
    risk_aversion: npt.ArrayLike,
) -> Floats:
    """Half-width H of (2) in units of the underlying per option; cost_frac per single trade."""
    s, tau, v, cost, aversion, strike, rate = broadcast(
        S=S, T_yr=T_yr, sigma=sigma, cost_frac=cost_frac, risk_aversion=risk_aversion, K=K, r=r
    )
    _positive(S=s, T_yr=tau, sigma=v, cost_frac=cost, risk_aversion=aversion, allow_zero="cost_frac")
    gamma = black.first_greeks("c", s, strike, tau, v, rate).gamma
    return np.cbrt(1.5 * np.exp(-rate * tau) * cost * s * gamma**2 / aversion)


@representable
def zakamouline(
    kind: npt.ArrayLike,
    S: npt.ArrayLike,
    K: npt.ArrayLike,
    T_yr: npt.ArrayLike,
    sigma: npt.ArrayLike,
    r: npt.ArrayLike = 0.0,
    *,
    cost_frac: npt.ArrayLike,
    risk_aversion: npt.ArrayLike,
    long: bool,
) -> ZakamoulineBand:
    """Band (3) to (6) of one option held (`long`) or written; delta_m is that of one option, not of the hedge."""
    s, tau, v, cost, aversion, strike, rate, sign = broadcast(
        S=S, T_yr=T_yr, sigma=sigma, cost_frac=cost_frac, risk_aversion=risk_aversion, K=K, r=r, kind=kind_sign(kind)
    )
    _positive(S=s, T_yr=tau, sigma=v, cost_frac=cost, risk_aversion=aversion, allow_zero="cost_frac")
    gamma = black.first_greeks(sign, s, strike, tau, v, rate).gamma
    squeeze = (np.exp(-rate * tau) / v) ** 0.25
    h0 = cost / (aversion * s * v * v * tau)
    h1 = 1.12 * cost**0.31 * tau**0.05 * squeeze * np.sqrt(gamma / aversion)
    shift = -4.76 * cost**0.78 * tau**-0.02 * squeeze * (aversion * s * s * gamma) ** 0.15
    scale = 1.0 + shift if long else 1.0 - shift
    if not np.all(scale > 0.0):
        i = int(np.argmin((scale > 0.0).ravel()))
        raise DomainError(
            f"element{index_text(i, scale.shape)} has no well-posed hedge: "
            "costs or risk aversion are too large for a long option",
            expected="K of eq. (5) above -1",
            found=f"K={float(shift.ravel()[i])}",
        )
    sigma_m = v * np.sqrt(scale)
    return ZakamoulineBand(h0, h1, shift, sigma_m, black.first_greeks(sign, s, strike, tau, sigma_m, rate).delta)


@representable
def rebalance(position: npt.ArrayLike, centre: npt.ArrayLike, halfwidth: npt.ArrayLike) -> Floats:
    """The position after trading only to the nearest edge of centre +- halfwidth (>= 0), any broadcast shape."""
    held, middle, wide = broadcast(position=position, centre=centre, halfwidth=halfwidth)
    for name, column in (("position", held), ("centre", middle), ("halfwidth", wide)):
        require(name, column, np.isfinite(column), "a finite number")
    require("halfwidth", wide, wide >= 0.0, ">= 0")
    return np.clip(held, middle - wide, middle + wide)


def _positive(allow_zero: str = "", **inputs: npt.ArrayLike) -> list[Floats]:
    columns = broadcast(**inputs)
    for name, column in zip(inputs, columns, strict=True):
        good = np.isfinite(column) & ((column >= 0.0) if name == allow_zero else (column > 0.0))
        require(name, column, good, "finite and " + (">= 0" if name == allow_zero else "> 0"))
    return columns
