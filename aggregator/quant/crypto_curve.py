"""Curve's two-coin crypto pool on arrays: invariant, sale and marginal price.

In scaled balances (precision and price scale applied), K0 = 4*x*y/D^2, g = gamma + 1 - K0 and A = ANN/10^4, equation
(1) of `curve_crypto` divided by K*D is

    F(x, y, D) = x + y - D + D/A * (g/gamma)^2 * (1 - 1/K0) = 0,                                       (1)

rising in x and y and falling in D while K0 <= 1, so 2*sqrt(xy) <= D <= x + y brackets the invariant and bisection to
the last bit needs no safeguard.  The marginal price of x in y is F_x / F_y.  The integer form `curve_crypto` is the
oracle.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError
from aggregator.quant._checks import representable, require
from aggregator.quant.amm import PoolSale, pool_columns

Floats = npt.NDArray[np.float64]


@representable
def crypto_d(x: npt.ArrayLike, y: npt.ArrayLike, amplification: npt.ArrayLike, gamma: npt.ArrayLike) -> Floats:
    """D for scaled balances, amplification = ANN/1e4 (> 0), gamma as a fraction; NaN where a balance is zero."""
    a, b, amp, gam = _columns(x=x, y=y, amplification=amplification, gamma=gamma)
    whole = (a > 0.0) & (b > 0.0)
    a, b = np.where(whole, a, 1.0), np.where(whole, b, 1.0)
    d = _bisect(lambda d: -_residual(a, b, d, amp, gam), 2.0 * np.sqrt(a) * np.sqrt(b), a + b)
    return np.where(whole, d, np.nan)


@representable
def crypto_sale(
    amount: npt.ArrayLike,
    base: npt.ArrayLike,
    quote: npt.ArrayLike,
    price_scale: npt.ArrayLike,
    amplification: npt.ArrayLike,
    gamma: npt.ArrayLike,
    fees: tuple[float, float, float] = (0.0, 0.0, 1.0),
    invariant: npt.ArrayLike | None = None,
) -> PoolSale:
    """Sell `amount` of base; all broadcast.  price_scale: quote per base at which the pool is balanced.

    fees: (mid, out, fee_gamma) as fractions, taken from the output at the new balances.  invariant: stored D in quote
    units, computed from the balances if not given.  `price` is quote per base after the sale, before fee; the output
    has an absolute error of about 1e-15 of the reserve.  Zero reserves are `drained`.
    """
    a, x, y, scale, amp, gam, stored = _columns(
        amount=amount, base=base, quote=quote, price_scale=price_scale, amplification=amplification, gamma=gamma,
        invariant=0.0 if invariant is None else invariant,
    )  # fmt: skip
    mid, out_fee, fee_gamma = fees
    if not (0.0 <= mid < 1.0 and 0.0 <= out_fee < 1.0 and 0.0 < fee_gamma < np.inf):
        raise DomainError("fees are out of range", expected="0 <= mid, out < 1 and fee_gamma > 0", found=str(fees))
    drained = (x <= 0.0) | (y <= 0.0) | (scale <= 0.0)
    held, paid, scale = (np.where(drained, 1.0, v) for v in (x * scale, y, scale))
    if invariant is None:
        stored = crypto_d(held, paid, amp, gam)
    require("invariant", stored, drained | (stored > 0.0), "> 0 for a pool with reserves")
    d = np.where(drained, held + paid, stored)
    after = held + a * scale
    # At K0 = 1 the residual is x + y - D >= 0 and it falls without bound as y goes to zero.
    top = d * d / (4.0 * after)
    left = _bisect(lambda v: _residual(after, v, d, amp, gam), top * 1e-9, top)
    gross = np.maximum(paid - left, 0.0)
    balance = 4.0 * after * left / (after + left) ** 2
    f = fee_gamma / (fee_gamma + 1.0 - balance)
    net = gross * (1.0 - mid * f - out_fee * (1.0 - f))
    price = scale * _slope(after, left, d, amp, gam) / _slope(left, after, d, amp, gam)
    return PoolSale(np.where(drained, 0.0, net), np.where(drained, np.nan, price), drained)


def _residual(x: Floats, y: Floats, d: Floats, amp: Floats, gamma: Floats) -> Floats:
    k0 = 4.0 * (x / d) * (y / d)
    return np.asarray(x + y - d + d / amp * ((gamma + 1.0 - k0) / gamma) ** 2 * (1.0 - 1.0 / k0))


def _slope(x: Floats, y: Floats, d: Floats, amp: Floats, gamma: Floats) -> Floats:
    """Derivative of the residual in its first argument."""
    k0 = 4.0 * (x / d) * (y / d)
    g = gamma + 1.0 - k0
    return np.asarray(1.0 + d / amp / gamma**2 * (-2.0 * g * (k0 - 1.0) / x + g * g / (k0 * x)))


def _bisect(rising: Callable[[Floats], Floats], low: Floats, high: Floats) -> Floats:
    for _ in range(100):
        middle = 0.5 * (low + high)
        below = rising(middle) < 0.0
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return 0.5 * (low + high)


def _columns(**given: npt.ArrayLike) -> list[Floats]:
    columns = pool_columns(**given)
    for name, column in zip(given, columns, strict=True):
        if name in ("amplification", "gamma"):
            require(name, column, column > 0.0, "> 0")
    return columns
