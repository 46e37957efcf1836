r"""Coin-settled (inverse) options: premium, Greeks and net delta in units of the coin.

An inverse option pays :math:`\max(\omega(F_T-K),0)/F_T` coins, so its premium in coin is the Black-76
premium divided by the forward, and a holder who counts in coin has the exposure of both factors:

.. math::
   c &= V/F                                                                        \tag{1}\\
   \Delta_{net} &= F\,\partial_F c = \Delta - c = \omega (K/F) e^{-rT}\Phi(\omega d_2) \tag{2}\\
   \partial_F c &= \Delta_{net}/F                                                  \tag{3}\\
   \partial_F^2 c &= (\Gamma - 2\,\partial_F c)/F                                  \tag{4}\\
   \partial_F^3 c &= (\text{speed} - 3\,\partial_F^2 c)/F                          \tag{5}\\
   \partial_\sigma c &= \text{vega}/F,\quad \partial_\sigma^2 c=\text{volga}/F,\quad -\partial_T c=\Theta/F \tag{6}\\
   \partial_F\partial_\sigma c &= (\text{vanna} - \partial_\sigma c)/F             \tag{7}\\
   -\partial_T\partial_F c &= (\text{charm} + \partial_T c)/F                      \tag{8}

with :math:`V,\Delta,\Gamma,\dots` the Black-76 figures of `aggregator.quant.black` in :math:`F`.  Deribit
quotes :math:`c` as the option price and :math:`\Delta` as the delta, and reports :math:`\Delta_{net}`
summed over a book as its "net transaction delta": a long call is worth less exposure than its delta
because the premium paid was coin.  The identities follow from (1) by differentiation.  As a difference of
figures of size one the net delta is right to a few 1e-16 times max(1, K/F) coins, not in relative terms.

The dollar value of a coin-settled option at forward F is :math:`cF=V`: for a book counted in dollars and
marked at the forward use `black.black76_greeks` as it stands.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.quant import _black_kernels as kernels
from aggregator.quant import black
from aggregator.quant._checks import floats, representable
from aggregator.quant._option_inputs import Floats, columns, kind_sign
from aggregator.quant.jit import in_chunks, jit


class InverseFirstGreeks(NamedTuple):
    """Premium and four Greeks in coin, arrays of the broadcast input shape; fields as in `InverseGreeks`."""

    price: Floats
    net_delta: Floats
    gamma: Floats
    vega: Floats
    theta: Floats
    status: npt.NDArray[np.int8]


class InverseGreeks(NamedTuple):
    """Derivatives of the coin premium c, arrays of the broadcast input shape.

    price c [coin]; delta = dc/dF [coin per USD]; net_delta = F dc/dF [coin]; black_delta, the delta of the
    dollar premium that venues quote [coin]; gamma, vega, theta, rho, vanna, volga, charm, speed of c, per 1.00
    vol, per year, per 1.00 rate; status as in `aggregator.quant.black`.
    """

    price: Floats
    delta: Floats
    net_delta: Floats
    black_delta: Floats
    gamma: Floats
    vega: Floats
    theta: Floats
    rho: Floats
    vanna: Floats
    volga: Floats
    charm: Floats
    speed: Floats
    status: npt.NDArray[np.int8]


@representable
def inverse_price(
    kind: npt.ArrayLike,
    F: npt.ArrayLike,
    K: npt.ArrayLike,
    T_yr: npt.ArrayLike,
    sigma: npt.ArrayLike,
    r: npt.ArrayLike = 0.0,
) -> Floats:
    """Premium in coin per coin of notional, eq. (1); inputs and errors as in `black.price`."""
    return black.black76_price(kind, F, K, T_yr, sigma, r) / floats("F", F)


def inverse_first_greeks(
    kind: npt.ArrayLike,
    F: npt.ArrayLike,
    K: npt.ArrayLike,
    T_yr: npt.ArrayLike,
    sigma: npt.ArrayLike,
    r: npt.ArrayLike = 0.0,
) -> InverseFirstGreeks:
    """Premium, net delta, gamma, vega and theta in coin, eq. (1) to (6); errors as in `black.price`."""
    shape, sign, x = columns(kind_sign(kind), F=F, K=K, T_yr=T_yr, sigma=sigma, r=r, q=r)
    out, status = np.empty((5, sign.size)), np.empty(sign.size, np.int8)
    black.check(in_chunks(lambda a, b: kernels.first_order(a, b, sign, x, out, status), sign.size), shape, x)
    black.check(_to_coin(x[0], out, status), shape, x)
    return InverseFirstGreeks._make([*out.reshape(5, *shape), status.reshape(shape)])


@representable
def inverse_greeks(
    kind: npt.ArrayLike,
    F: npt.ArrayLike,
    K: npt.ArrayLike,
    T_yr: npt.ArrayLike,
    sigma: npt.ArrayLike,
    r: npt.ArrayLike = 0.0,
) -> InverseGreeks:
    """Premium in coin and all its Greeks, eq. (1) to (8); inputs and errors as in `black.price`."""
    usd = black.black76_greeks(kind, F, K, T_yr, sigma, r)
    f = floats("F", F)
    coin = usd.price / f
    net = usd.delta - coin
    slope = net / f
    curve = (usd.gamma - 2.0 * slope) / f
    return InverseGreeks(
        price=coin,
        delta=slope,
        net_delta=net,
        black_delta=usd.delta,
        gamma=curve,
        vega=usd.vega / f,
        theta=usd.theta / f,
        rho=usd.rho / f,
        vanna=(usd.vanna - usd.vega / f) / f,
        volga=usd.volga / f,
        charm=(usd.charm - usd.theta / f) / f,
        speed=(usd.speed - 3.0 * curve) / f,
        status=usd.status,
    )


@jit
def _to_coin(F: Floats, out: Floats, status: npt.NDArray[np.int8]) -> int:
    """Rows price, delta, gamma, vega, theta of Black-76 become price, net delta, gamma, vega, theta in coin.

    Returns -1, or the first element whose figures overflow.
    """
    for i in range(F.size):
        f = F[i]
        coin = out[0, i] / f
        net = out[1, i] - coin
        out[0, i] = coin
        out[1, i] = net
        out[2, i] = (out[2, i] - 2.0 * net / f) / f
        out[3, i] /= f
        out[4, i] /= f
        if status[i] != black.KINK and not abs(coin) + abs(out[2, i]) + abs(out[3, i]) + abs(out[4, i]) < np.inf:
            return i
    return -1
