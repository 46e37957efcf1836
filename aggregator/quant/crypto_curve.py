"""Curve's crypto pools of two or three coins on arrays: invariant, sale and marginal price.

In scaled balances (precision and price scale applied), n coins, K0 = n^n * prod x / D^n, g = gamma + 1 - K0 and
A = ANN/10^4 (ANN/100 in the first three-coin pool), equation (1) of `curve_crypto` divided by K*D^(n-1) is

    F(x, D) = sum x - D + D/A * (g/gamma)^2 * (1 - 1/K0) = 0,                                          (1)

rising in every balance and falling in D while K0 <= 1, so n*(prod x)^(1/n) <= D <= sum x brackets the invariant and
bisection to the last bit needs no safeguard.  The marginal price of x in y is F_x / F_y.  The integer forms
`curve_crypto` and `curve_tricrypto` are the oracles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError
from aggregator.quant._checks import representable, require
from aggregator.quant.amm import PoolSale, pool_columns

Floats = npt.NDArray[np.float64]


@representable
def crypto_d(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    amplification: npt.ArrayLike,
    gamma: npt.ArrayLike,
    third: npt.ArrayLike | None = None,
) -> Floats:
    """D for scaled balances, amplification = A of (1) (> 0), gamma as a fraction; NaN where a balance is zero.

    third: balance of the third coin, in the same unit; None for a pool of two.
    """
    amp, gam, *held = _columns(amplification=amplification, gamma=gamma, x=x, y=y, **_third(third))
    whole = np.all([b > 0.0 for b in held], axis=0)
    held = [np.where(whole, b, 1.0) for b in held]
    n = len(held)
    mean = np.prod([b ** (1.0 / n) if n > 2 else np.sqrt(b) for b in held], axis=0)
    d = _bisect(lambda d: -_residual(held, d, amp, gam), n * mean, np.sum(held, axis=0))
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
    third: npt.ArrayLike | None = None,
) -> PoolSale:
    """Sell `amount` of base; all broadcast.  price_scale: quote per base at which the pool is balanced.

    fees: (mid, out, fee_gamma) as fractions, taken from the output at the new balances.  invariant: stored D in quote
    units, computed from the balances if not given.  third: balance of the coin that is not traded, in quote units at
    its price scale; None for a pool of two.  `price` is quote per base after the sale, before fee; the output has an
    absolute error of about 1e-15 of the reserve.  Zero reserves are `drained`.
    """
    a, x, y, scale, amp, gam, stored, *rest = _columns(
        amount=amount, base=base, quote=quote, price_scale=price_scale, amplification=amplification, gamma=gamma,
        invariant=0.0 if invariant is None else invariant, **_third(third),
    )  # fmt: skip
    mid, out_fee, fee_gamma = fees
    if not (0.0 <= mid < 1.0 and 0.0 <= out_fee < 1.0 and 0.0 < fee_gamma < np.inf):
        raise DomainError("fees are out of range", expected="0 <= mid, out < 1 and fee_gamma > 0", found=str(fees))
    drained = np.any([v <= 0.0 for v in (x, y, scale, *rest)], axis=0)
    held, paid, scale, *rest = (np.where(drained, 1.0, v) for v in (x * scale, y, scale, *rest))
    n = 2 + len(rest)
    if invariant is None:
        stored = crypto_d(held, paid, amp, gam, *rest)
    require("invariant", stored, drained | (stored > 0.0), "> 0 for a pool with reserves")
    d = np.where(drained, held + paid, stored)
    after = held + a * scale
    # At K0 = 1 the residual is the sum less D >= 0, and it falls without bound as y goes to zero.
    top = d / n
    for other in (after, *rest):
        top = top * (d / (n * other))
    left = _bisect(lambda v: _residual([after, v, *rest], d, amp, gam), top * 1e-9, top)
    gross = np.maximum(paid - left, 0.0)
    total = np.sum([after, left, *rest], axis=0)
    balance = np.prod([n * b / total for b in (after, left, *rest)], axis=0)
    f = fee_gamma / (fee_gamma + 1.0 - balance)
    net = gross * (1.0 - mid * f - out_fee * (1.0 - f))
    price = scale * _slope([after, left, *rest], d, amp, gam) / _slope([left, after, *rest], d, amp, gam)
    return PoolSale(np.where(drained, 0.0, net), np.where(drained, np.nan, price), drained)


def _third(third: npt.ArrayLike | None) -> dict[str, npt.ArrayLike]:
    return {} if third is None else {"third": third}


def _balance(held: Sequence[Floats], d: Floats) -> Floats:
    """K0 of balances."""
    return np.asarray(np.prod([len(held) * (b / d) for b in held], axis=0))


def _residual(held: Sequence[Floats], d: Floats, amp: Floats, gamma: Floats) -> Floats:
    k0 = _balance(held, d)
    return np.asarray(np.sum(held, axis=0) - d + d / amp * ((gamma + 1.0 - k0) / gamma) ** 2 * (1.0 - 1.0 / k0))


def _slope(held: Sequence[Floats], d: Floats, amp: Floats, gamma: Floats) -> Floats:
    """Derivative of the residual in the first balance."""
    k0, x = _balance(held, d), held[0]
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
