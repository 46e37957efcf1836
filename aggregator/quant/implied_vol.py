r"""Implied volatility to machine precision, with a reason for every quote that has none.

With :math:`x=-|\ln(F/K)|`, :math:`s=\sigma\sqrt T`, :math:`h=x/s`, :math:`t=s/2` and the undiscounted
out-of-the-money price :math:`p`, the normalised price (Jaeckel 2015, doi:10.1002/wilm.10395, sec. 2) is

.. math::
   \beta &= p/\sqrt{FK}                                                              \tag{1}\\
   b(s) &= e^{x/2}\Phi(h+t) - e^{-x/2}\Phi(h-t), \qquad 0<b<b_{max}=e^{x/2}            \tag{2}\\
   b/b' &= Y(h+t) - Y(h-t), \qquad b'=\varphi(0)e^{-(h^2+t^2)/2},\quad Y=\Phi/\varphi   \tag{3}\\
        &= 2\sum_{n\,odd} Y^{(n)}(h)\,t^n/n!,\qquad Y^{(n+1)}=hY^{(n)}+nY^{(n-1)}        \tag{4}

(4) is used where (3) cancels: :math:`t<0.1` and :math:`|x|<0.5`.  :math:`b` has its inflection at
:math:`s_c=\sqrt{2|x|}`.  The root is found by third-order Householder steps inside a shrinking bracket, on

.. math::
   s<s_c:&\quad f(s) = (-\ln b)^{-1/2} - (-\ln\beta)^{-1/2}                                  \tag{5}\\
   s\ge s_c:&\quad f(s) = b-\beta \ \text{ or, above } b_{max}/2,\
        (-\ln(1-b/b_{max}))^{1/2} - (-\ln(1-\beta/b_{max}))^{1/2}                             \tag{6}

which are nearly straight lines, from a Hermite guess in the same variable; prices down to 1e-300 are solved
because (5) never leaves logarithms.  Two or three steps reach the last bits.

What float64 cannot know: an in-the-money quote carries its time value in the last digits of its price.
``error`` bounds how far sigma may be from that of the price before it was rounded to float64.  It adds up half a unit
in the last place of the quote, what is rounded on the way to :math:`\beta` (division by the discount, conversion from
coin or spot, the subtraction of an exact F - K), both divided by vega, and the solver's own rounding.  Where the price
noise is not small against the time value, or against what is missing to the bound, the two ends of the interval are
solved instead.  A quote whose bound exceeds the tolerance is labelled IMPRECISE and keeps its value and bound.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.quant import _implied_kernels as kernels
from aggregator.quant._checks import broadcast
from aggregator.quant._option_inputs import Floats, columns, kind_sign
from aggregator.quant.jit import in_chunks

OK = kernels.OK
BAD_INPUT = kernels.BAD_INPUT
EXPIRED = kernels.EXPIRED
BELOW_INTRINSIC = kernels.BELOW_INTRINSIC
NO_TIME_VALUE = kernels.NO_TIME_VALUE
ABOVE_BOUND = kernels.ABOVE_BOUND
IMPRECISE = kernels.IMPRECISE
NOT_CONVERGED = kernels.NOT_CONVERGED
CROSSED, STALE, NO_BID, NO_ASK = 8, 9, 10, 11
REASONS = {
    OK: "ok",
    BAD_INPUT: "price, forward, strike or discount is not a usable number",
    EXPIRED: "no time left",
    BELOW_INTRINSIC: "price below intrinsic value",
    NO_TIME_VALUE: "time value is zero within the rounding of the price",
    ABOVE_BOUND: "price at or above its no-arbitrage bound",
    IMPRECISE: "the rounding of the price moves the volatility by more than the tolerance",
    NOT_CONVERGED: "no root found in 40 steps",
    CROSSED: "bid above ask",
    STALE: "quote older than allowed",
    NO_BID: "no bid",
    NO_ASK: "no ask",
}


class ImpliedVol(NamedTuple):
    """sigma per square-root year (NaN where there is none), reason code, bound on the error of sigma."""

    sigma: Floats
    status: npt.NDArray[np.int8]
    error: Floats


class QuoteVols(NamedTuple):
    """Volatilities of a two-sided quote; `status` is OK, CROSSED, STALE, NO_BID, NO_ASK or that of the mid."""

    bid: Floats
    ask: Floats
    mid: Floats
    status: npt.NDArray[np.int8]


def implied_vol(
    kind: npt.ArrayLike,
    price: npt.ArrayLike,
    F: npt.ArrayLike,
    K: npt.ArrayLike,
    T_yr: npt.ArrayLike,
    discount: npt.ArrayLike = 1.0,
    *,
    tolerance: float = 1e-8,
) -> ImpliedVol:
    """Black-76 volatility of option prices on the forward F; arrays of the broadcast shape.

    price: present value, in the currency of F and K; discount: present value of 1 at expiry.  Bad numbers
    do not raise, they are labelled (`REASONS`); only an unknown kind or shapes that do not broadcast raise
    DomainError.  tolerance: relative above and absolute below a volatility of 1.00, for the label IMPRECISE.
    """
    return _solve(kind, tolerance, None, price=price, F=F, K=K, T_yr=T_yr, discount=discount)


def implied_vol_spot(
    kind: npt.ArrayLike,
    price: npt.ArrayLike,
    S: npt.ArrayLike,
    K: npt.ArrayLike,
    T_yr: npt.ArrayLike,
    r: npt.ArrayLike = 0.0,
    q: npt.ArrayLike = 0.0,
) -> ImpliedVol:
    """Black-Scholes-Merton volatility: `implied_vol` at F = S exp((r-q)T), discount exp(-rT)."""
    quote, spot, years, rate, carry = broadcast(price=price, S=S, T_yr=T_yr, r=r, q=q)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        forward, discount = spot * np.exp((rate - carry) * years), np.exp(-rate * years)
        drift, decay = np.abs(rate * years) + np.abs(carry * years), np.abs(rate * years)
        slack = kernels.EPS * ((2.0 + drift) * forward + (1.0 + decay) * np.abs(quote) / discount)
        return _solve(kind, 1e-8, slack, price=quote, F=forward, K=K, T_yr=years, discount=discount)


def implied_vol_inverse(
    kind: npt.ArrayLike,
    price_coin: npt.ArrayLike,
    F: npt.ArrayLike,
    K: npt.ArrayLike,
    T_yr: npt.ArrayLike,
) -> ImpliedVol:
    """Volatility of a coin premium c = V/F, as Deribit quotes it."""
    coin, forward = broadcast(price_coin=price_coin, F=F)
    with np.errstate(over="ignore", invalid="ignore"):
        usd = coin * forward
        return _solve(kind, 1e-8, 0.5 * kernels.EPS * np.abs(usd), price=usd, F=forward, K=K, T_yr=T_yr, discount=1.0)


def quote_vols(
    kind: npt.ArrayLike,
    bid: npt.ArrayLike,
    ask: npt.ArrayLike,
    F: npt.ArrayLike,
    K: npt.ArrayLike,
    T_yr: npt.ArrayLike,
    discount: npt.ArrayLike = 1.0,
    *,
    age_s: npt.ArrayLike = 0.0,
    max_age_s: float = np.inf,
) -> QuoteVols:
    """Bid, ask and mid volatilities of two-sided quotes; a crossed, stale or one-sided quote has no mid.

    A side of zero, below or NaN is no quote: venues write 0 where nobody offers.  age_s: seconds since the quote was
    last changed; one older than max_age_s is STALE.
    """
    low, high, age, _ = broadcast(bid=bid, ask=ask, age_s=age_s, kind=kind_sign(kind))
    with np.errstate(over="ignore", invalid="ignore"):
        middle = implied_vol(kind, 0.5 * (low + high), F, K, T_yr, discount)
    below = implied_vol(kind, low, F, K, T_yr, discount)
    above = implied_vol(kind, high, F, K, T_yr, discount)
    status = middle.status.copy()
    for wrong, code in (
        (low > high, CROSSED),
        (~(high > 0.0), NO_ASK),
        (~(low > 0.0), NO_BID),
        (~(age <= max_age_s), STALE),
    ):
        status[np.broadcast_to(wrong, status.shape)] = code
    mid = np.where((status == OK) | (status == IMPRECISE), middle.sigma, np.nan)
    return QuoteVols(below.sigma, above.sigma, mid, status)


def _solve(kind: npt.ArrayLike, tolerance: float, slack: Floats | None, **inputs: npt.ArrayLike) -> ImpliedVol:
    """Inputs price, F, K, T_yr, discount; slack: by how much the undiscounted price is off beyond its own rounding."""
    shape, sign, rows = columns(kind_sign(kind), **inputs)
    room = np.empty(0) if slack is None else np.ascontiguousarray(np.broadcast_to(slack, shape)).reshape(-1)
    sigma, error, status = np.empty(sign.size), np.empty(sign.size), np.empty(sign.size, np.int8)
    in_chunks(
        lambda start, end: kernels.solve(start, end, sign, rows, room, tolerance, sigma, error, status), sign.size
    )
    return ImpliedVol(sigma.reshape(shape), status.reshape(shape), error.reshape(shape))
