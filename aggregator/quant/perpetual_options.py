r"""Options without expiry: power perpetuals and everlasting options, held by paying funding.

The long pays (mark - payoff) of funding per funding period :math:`f` (years), continuously or in :math:`n` payments per
period.  No arbitrage makes the mark a mixture of dated claims with weights of the funding clock
(White & Bankman-Fried, *Everlasting Options*, 2021; White, Robinson, Clark & Patel, *Power Perpetuals*, 2021):

.. math::
   M = \sum_{i\ge1} \tfrac1{n+1}\bigl(\tfrac n{n+1}\bigr)^{i-1} V(i f/n), \qquad
   n\to\infty:\ M=\int_0^\infty \lambda e^{-\lambda t}V(t)\,dt,\ \lambda = 1/f             \tag{1}

Power perpetual, :math:`V(t) = S^p e^{ct}`, :math:`c=(p-1)(r+p\sigma^2/2) - pq`:

.. math:: M = S^p\,\frac{x}{n+1-nx},\ x=e^{cf/n}; \qquad n\to\infty:\ M = \frac{S^p}{1-cf}      \tag{2}

(n = 1 is the published :math:`S^p/(2e^{-cf}-1)`.)  At :math:`cf` too large the sum diverges: the funding cannot pay for
the convexity, there is no finite mark, and DomainError says so.

Everlasting option, continuous funding: with :math:`\beta_\pm` the roots of
:math:`\tfrac12\sigma^2\beta(\beta-1)+(r-q)\beta-(r+\lambda)=0`,
:math:`u=\lambda K(\tfrac1{\lambda+q}-\tfrac1{\lambda+r})`, :math:`v=\lambda K/(\lambda+q)`, a call is

.. math::
   S<K:\ \tfrac{v-\beta_-u}{\beta_+-\beta_-}(S/K)^{\beta_+} \\
   S\ge K:\ \tfrac{v-\beta_+u}{\beta_+-\beta_-}(S/K)^{\beta_-}
      + \tfrac{\lambda S}{\lambda+q}-\tfrac{\lambda K}{\lambda+r} \tag{3}

(value and slope meet at K), a put follows from :math:`C-P=\lambda S/(\lambda+q)-\lambda K/(\lambda+r)`.  Derivatives in
:math:`\sigma` and :math:`r` are complex-step, exact to rounding.  Theta and charm are zero: the claim does not age.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError
from aggregator.quant._checks import broadcast, representable, require
from aggregator.quant._option_inputs import Floats, kind_sign, reject

_STEP = 1e-30
_Complex = npt.NDArray[np.complex128]


class PerpetualGreeks(NamedTuple):
    """Mark and Greeks, arrays of the broadcast input shape; per 1.00 volatility and rate."""

    price: Floats
    delta: Floats
    gamma: Floats
    vega: Floats
    theta: Floats
    rho: Floats
    vanna: Floats
    volga: Floats
    charm: Floats
    speed: Floats


@representable
def power_perp(
    S: npt.ArrayLike,
    power: npt.ArrayLike,
    sigma: npt.ArrayLike,
    funding_period_yr: npt.ArrayLike,
    r: npt.ArrayLike = 0.0,
    q: npt.ArrayLike = 0.0,
    *,
    payments: int | None = None,
) -> PerpetualGreeks:
    """Mark of a power perpetual on S**power, eq. (2); payments per funding period, None for continuous funding.

    Squeeth is power 2, 17.5 days, continuous.  DomainError names an element out of domain or without a finite mark.
    """
    s, p, v, f, rate, carry = _columns(S=S, power=power, sigma=sigma, funding_period_yr=funding_period_yr, r=r, q=q)
    _require(
        (s > 0) & (v >= 0) & (f > 0) & np.isfinite(p), "S, funding period > 0, sigma >= 0", s, p, v, f, rate, carry
    )
    growth = ((p - 1.0) * (rate + 0.5 * p * v * v) - p * carry) * f
    if payments is None:
        margin = 1.0 - growth
        slope, curve = 1.0 / margin, 2.0 / margin**2
        factor = 1.0 / margin
    else:
        if not payments >= 1:
            raise DomainError("payments per funding period", expected="at least 1, or None", found=str(payments))
        n = float(payments)
        x = np.exp(np.minimum(growth / n, 700.0))
        margin = n + 1.0 - n * x
        factor = x / margin
        slope = (n + 1.0) / (n * margin)  # d ln(factor) / d growth
        curve = slope**2 + slope * x / margin
    _require(margin > 0.0, "funding frequent enough for a finite mark", s, p, v, f, rate, carry)
    price = s**p * factor
    by_vol = (p - 1.0) * p * v * f
    vega = price * slope * by_vol
    zero = np.zeros_like(price)
    return PerpetualGreeks(
        price=price,
        delta=p * price / s,
        gamma=p * (p - 1.0) * price / s**2,
        vega=vega,
        theta=zero,
        rho=price * slope * (p - 1.0) * f,
        vanna=p * vega / s,
        volga=price * (curve * by_vol**2 + slope * (p - 1.0) * p * f),
        charm=zero,
        speed=p * (p - 1.0) * (p - 2.0) * price / s**3,
    )


@representable
def everlasting(
    kind: npt.ArrayLike,
    S: npt.ArrayLike,
    K: npt.ArrayLike,
    sigma: npt.ArrayLike,
    funding_period_yr: npt.ArrayLike,
    r: npt.ArrayLike = 0.0,
    q: npt.ArrayLike = 0.0,
) -> PerpetualGreeks:
    """Mark and Greeks of an everlasting option with continuous funding, eq. (3); gamma at S = K from above."""
    s, k, v, f, rate, carry, sign = _columns(
        S=S, K=K, sigma=sigma, funding_period_yr=funding_period_yr, r=r, q=q, kind=kind_sign(kind)
    )
    usable = (s > 0) & (k > 0) & (v > 0) & (f > 0) & (1 + f * rate > 0) & (1 + f * carry > 0)
    _require(usable, "S, K, sigma, funding period > 0 and 1/period above -r and -q", s, k, v, f, rate, carry)
    i = 1j * _STEP
    real = [np.asarray(c, dtype=np.complex128) for c in (s, k, v, f, rate, carry)]
    value, slope, curve, third, vega = _mixture(sign, *real)
    vol_step = _mixture(sign, real[0], real[1], real[2] + i, real[3], real[4], real[5])
    rate_step = _mixture(sign, real[0], real[1], real[2], real[3], real[4] + i, real[5])
    zero = np.zeros(s.shape)
    return PerpetualGreeks(
        price=value.real,
        delta=slope.real,
        gamma=curve.real,
        vega=vega.real,
        theta=zero,
        rho=rate_step[0].imag / _STEP,
        vanna=vol_step[1].imag / _STEP,
        volga=vol_step[4].imag / _STEP,
        charm=zero,
        speed=third.real,
    )


def _mixture(
    sign: Floats, s: _Complex, k: _Complex, v: _Complex, f: _Complex, r: _Complex, q: _Complex
) -> tuple[_Complex, _Complex, _Complex, _Complex, _Complex]:
    """Price, its first three derivatives in S, and vega, of (3)."""
    lam = 1.0 / f
    tilt = (r - q) / (v * v) - 0.5
    root = np.sqrt(tilt * tilt + 2.0 * (r + lam) / (v * v))
    # of the two roots the larger comes without cancellation, the other from their product
    large, product = root + np.where(tilt.real < 0.0, -tilt, tilt), -2.0 * (r + lam) / (v * v)
    high = np.where(tilt.real < 0.0, large, -product / large)
    low = product / high
    u = lam * k * (r - q) / ((lam + q) * (lam + r))
    w = lam * k / (lam + q)
    below = s.real < k.real
    beta, other = np.where(below, high, low), np.where(below, low, high)
    scale = (w - other * u) / (high - low)
    x = s / k
    wing = scale * x**beta
    outside = sign * np.where(below, -1.0, 1.0) < 0
    linear = sign * np.where(outside, 0.0, 1.0)
    value = wing + linear * (lam * s / (lam + q) - lam * k / (lam + r))
    slope = beta * wing / s + linear * lam / (lam + q)
    curve = beta * (beta - 1.0) * wing / s**2
    third = (beta - 2.0) * curve / s

    # the roots move with sigma by -+ beta (beta - 1)/(sigma root)
    high_moved, low_moved = -high * (high - 1.0) / (v * root), low * (low - 1.0) / (v * root)
    beta_moved, other_moved = np.where(below, high_moved, low_moved), np.where(below, low_moved, high_moved)
    by_scale = -(other_moved * u + scale * (high_moved - low_moved)) / (high - low)
    vega = wing * np.log(x) * beta_moved + by_scale * x**beta
    return value, slope, curve, third, vega


def _columns(**inputs: npt.ArrayLike) -> list[Floats]:
    columns = broadcast(**inputs)
    for name, column in zip(inputs, columns, strict=True):
        require(name, column, np.isfinite(column), "a finite number")
    return columns


def _require(holds: npt.NDArray[np.bool_], rule: str, *inputs: Floats) -> None:
    if not np.all(holds):
        rows = np.array([x.ravel() for x in inputs])
        names = ("S", "K or power", "sigma", "funding_period_yr", "r", "q")
        reject(int(np.argmax(~holds.ravel())), holds.shape, rule, names, rows)
