r"""Black-Scholes-Merton and Black-76: prices and Greeks of European options on arrays.

Symbols: spot :math:`S`, forward :math:`F`, strike :math:`K`, years to expiry :math:`T`, volatility
:math:`\sigma` (per square-root year, 1.00 = 100 %), interest rate :math:`r` and carry yield :math:`q`
(continuous, per year), :math:`\omega=+1` for a call, :math:`-1` for a put, :math:`b=r-q`.

.. math::
   d_{1} &= \frac{\ln(S/K) + bT}{\sigma\sqrt T} + \tfrac12\sigma\sqrt T, \qquad d_2 = d_1-\sigma\sqrt T  \tag{1}\\
   V &= \omega\,[S e^{-qT}\Phi(\omega d_1) - K e^{-rT}\Phi(\omega d_2)]                                \tag{2}\\
   \Delta &= \partial_S V = \omega e^{-qT}\Phi(\omega d_1)                                            \tag{3}\\
   \Gamma &= \partial_S^2 V = e^{-qT}\varphi(d_1)/(S\sigma\sqrt T)                                     \tag{4}\\
   \text{vega} &= \partial_\sigma V = S e^{-qT}\varphi(d_1)\sqrt T                                     \tag{5}\\
   \Theta &= -\partial_T V = -\tfrac{\sigma}{2T}\,\text{vega} + qS\Delta - \omega rKe^{-rT}\Phi(\omega d_2) \tag{6}\\
   \rho &= \partial_r V|_q = \omega TKe^{-rT}\Phi(\omega d_2)                                          \tag{7}\\
   \text{vanna} &= \partial_\sigma\Delta = -e^{-qT}\varphi(d_1)d_2/\sigma                              \tag{8}\\
   \text{volga} &= \partial_\sigma^2 V = \text{vega}\, d_1d_2/\sigma                                   \tag{9}\\
   \text{charm} &= -\partial_T\Delta = -e^{-qT}\varphi(d_1)[b/(\sigma\sqrt T) - d_2/(2T)] + q\Delta    \tag{10}\\
   \text{speed} &= \partial_S^3 V = -\tfrac{\Gamma}{S}\,[1 + d_1/(\sigma\sqrt T)]                      \tag{11}

Black-76 is the case :math:`S=F,\ q=r` with derivatives in :math:`F` and :math:`\rho=\partial_r V|_F=-TV`.
Sources: Black & Scholes (1973) doi:10.1086/260062; Merton (1973) doi:10.2307/3003143; Black (1976)
doi:10.1016/0304-405X(76)90024-6; Haug, *The Complete Guide to Option Pricing Formulas* (2007), ch. 1-2.

Units: vega, vanna and volga per 1.00 of volatility, theta and charm per year of calendar time, rho per 1.00
of rate.  Years are whatever the venue counts; Lyra v1 and Derive count ``seconds / SECONDS_PER_YEAR``.

Rounding: (2) is computed as intrinsic value plus the price of the out-of-the-money one of call and put, so no price
lies below intrinsic.  With :math:`\epsilon=2^{-52}`, :math:`d=\max(|d_1|,|d_2|)`, :math:`x=|\ln(S/K)|+|rT|+|qT|` and
:math:`o` the out-of-the-money sign, the error is at most

.. math::
   \epsilon\,\bigl\{V + \bigl[20 + d^2 + \tfrac{3d(1+x)}{\sigma\sqrt T}\bigr] S e^{-qT}\Phi(od_1)
   + |qT|\,Se^{-qT} + |rT|\,Ke^{-rT}\bigr\}   \tag{12}

(one more :math:`\epsilon` of the two discounted terms where a rate is not zero).

Limits: at :math:`T=0` or :math:`\sigma=0` the price is the discounted intrinsic value of the forward and the
Greeks are its one-sided limits, labelled EXPIRED or ZERO_VOL in ``status``; on the kink, where the forward
equals the strike, there are no Greeks: NaN, labelled KINK.  Everything else out of domain (a negative time
too) raises DomainError with the index of the first offending element.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.quant import _black_kernels as kernels
from aggregator.quant._checks import floats, representable
from aggregator.quant._option_inputs import Floats, columns, kind_sign, reject
from aggregator.quant.jit import in_chunks

SECONDS_PER_YEAR = 31_536_000  # 365 days
OK, EXPIRED, ZERO_VOL, KINK = 0, 1, 2, 3
STATUS_TEXT = {OK: "ok", EXPIRED: "expired", ZERO_VOL: "zero volatility", KINK: "not differentiable at the strike"}

_RULE = "0 < S, K < inf, 0 <= T_yr, sigma < inf, finite r and q, and a result that float64 can hold"


class FirstGreeks(NamedTuple):
    """Price and the four Greeks every screen shows; arrays of the broadcast input shape."""

    price: Floats
    delta: Floats
    gamma: Floats
    vega: Floats
    theta: Floats
    status: npt.NDArray[np.int8]


class Greeks(NamedTuple):
    """Equations (2) to (11); arrays of the broadcast input shape, ``status`` int8 (see the module)."""

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
    status: npt.NDArray[np.int8]


def price(
    kind: npt.ArrayLike,
    S: npt.ArrayLike,
    K: npt.ArrayLike,
    T_yr: npt.ArrayLike,
    sigma: npt.ArrayLike,
    r: npt.ArrayLike = 0.0,
    q: npt.ArrayLike = 0.0,
) -> Floats:
    """Present value per unit of the underlying, in the currency of S and K; eq. (2).

    kind: +1/True/"call" or -1/False/"put"; all inputs broadcast.  Raises DomainError (module docstring).
    """
    shape, sign, x = columns(kind_sign(kind), S=S, K=K, T_yr=T_yr, sigma=sigma, r=r, q=q)
    out = np.empty(sign.size)
    check(in_chunks(lambda a, b: kernels.only_price(a, b, sign, x, out), sign.size), shape, x)
    return out.reshape(shape)


def first_greeks(
    kind: npt.ArrayLike,
    S: npt.ArrayLike,
    K: npt.ArrayLike,
    T_yr: npt.ArrayLike,
    sigma: npt.ArrayLike,
    r: npt.ArrayLike = 0.0,
    q: npt.ArrayLike = 0.0,
) -> FirstGreeks:
    """Price, delta, gamma, vega, theta: the fast path of `greeks`; same inputs and errors."""
    shape, sign, x = columns(kind_sign(kind), S=S, K=K, T_yr=T_yr, sigma=sigma, r=r, q=q)
    out, status = np.empty((5, sign.size)), np.empty(sign.size, np.int8)
    check(in_chunks(lambda a, b: kernels.first_order(a, b, sign, x, out, status), sign.size), shape, x)
    return FirstGreeks._make([*out.reshape(5, *shape), status.reshape(shape)])


def greeks(
    kind: npt.ArrayLike,
    S: npt.ArrayLike,
    K: npt.ArrayLike,
    T_yr: npt.ArrayLike,
    sigma: npt.ArrayLike,
    r: npt.ArrayLike = 0.0,
    q: npt.ArrayLike = 0.0,
) -> Greeks:
    """Price and Greeks with respect to spot, eq. (2) to (11); inputs and errors as in `price`."""
    shape, sign, x = columns(kind_sign(kind), S=S, K=K, T_yr=T_yr, sigma=sigma, r=r, q=q)
    out, status = np.empty((10, sign.size)), np.empty(sign.size, np.int8)
    check(in_chunks(lambda a, b: kernels.all_orders(a, b, sign, x, out, status), sign.size), shape, x)
    return Greeks._make([*out.reshape(10, *shape), status.reshape(shape)])


def black76_price(
    kind: npt.ArrayLike,
    F: npt.ArrayLike,
    K: npt.ArrayLike,
    T_yr: npt.ArrayLike,
    sigma: npt.ArrayLike,
    r: npt.ArrayLike = 0.0,
) -> Floats:
    """Present value of an option on the forward F, discounted at r; inputs and errors as in `price`."""
    return price(kind, F, K, T_yr, sigma, r, r)


@representable
def black76_greeks(
    kind: npt.ArrayLike,
    F: npt.ArrayLike,
    K: npt.ArrayLike,
    T_yr: npt.ArrayLike,
    sigma: npt.ArrayLike,
    r: npt.ArrayLike = 0.0,
) -> Greeks:
    """Price and Greeks with respect to the forward F, with rho at fixed F; inputs and errors as in `price`."""
    found = greeks(kind, F, K, T_yr, sigma, r, r)
    return found._replace(rho=np.where(found.status == KINK, np.nan, -floats("T_yr", T_yr) * found.price))


@representable
def dividend_rho(
    kind: npt.ArrayLike,
    S: npt.ArrayLike,
    K: npt.ArrayLike,
    T_yr: npt.ArrayLike,
    sigma: npt.ArrayLike,
    r: npt.ArrayLike = 0.0,
    q: npt.ArrayLike = 0.0,
) -> Floats:
    """Derivative of the price in the carry yield q, per 1.00: minus T S delta (Haug 2007, 2.53)."""
    slope = first_greeks(kind, S, K, T_yr, sigma, r, q).delta
    return -floats("T_yr", T_yr) * floats("S", S) * slope


def check(stop: int, shape: tuple[int, ...], x: Floats) -> None:
    """Raise DomainError when a kernel stopped at an element (`stop` >= 0); rows of x: S, K, T_yr, sigma, r, q."""
    if stop >= 0:
        reject(stop, shape, _RULE, ("S", "K", "T_yr", "sigma", "r", "q"), x)
