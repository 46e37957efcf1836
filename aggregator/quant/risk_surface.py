r"""Profit and Greeks of an option book over moves of spot, volatility and time.

For a move :math:`(x, y, \tau)` every leg is repriced in full at

.. math:: F' = F(1+x),\qquad T' = \max(T-\tau, 0),\qquad \sigma' = (1+y)\,\sigma_{smile}(k', T')

where the smile moves by one of two rules (Derman 1999, *Regimes of Volatility*):
sticky strike, :math:`k'=\ln(K/F)`: a strike keeps its volatility; sticky delta, :math:`k'=\ln(K/F')`: a
moneyness keeps it.  Nothing is expanded in Greeks, so the surface is right where gamma is not constant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError
from aggregator.quant import black
from aggregator.quant._checks import broadcast, floats, representable, require
from aggregator.quant._option_inputs import Floats, kind_sign
from aggregator.quant.inverse import inverse_first_greeks

Smile = Callable[[Floats, Floats], Floats]
StickyRule = Literal["strike", "delta"]


class OptionBook(NamedTuple):
    """Legs, arrays of shape (legs,): sign +1 call/-1 put, forward, strike, years to expiry, volatility (where there
    is no smile), interest rate, signed amount [contracts]."""

    sign: npt.NDArray[np.int8]
    F: Floats
    K: Floats
    T_yr: Floats
    sigma: Floats
    r: Floats
    amount: Floats


class RiskSurface(NamedTuple):
    """Arrays of shape (spot moves, vol moves, time moves), in the currency of the strikes or in coin.

    pnl is against the book's value now.  Where a leg sits on its strike at expiry the Greeks are NaN and `kinks`
    counts such legs; `expired` counts legs at or past expiry, valued at intrinsic.
    """

    value_now: float
    pnl: Floats
    delta: Floats
    gamma: Floats
    vega: Floats
    theta: Floats
    expired: npt.NDArray[np.int64]
    kinks: npt.NDArray[np.int64]


def book(
    kind: npt.ArrayLike,
    F: npt.ArrayLike,
    K: npt.ArrayLike,
    T_yr: npt.ArrayLike,
    sigma: npt.ArrayLike,
    r: npt.ArrayLike = 0.0,
    *,
    amount: npt.ArrayLike,
) -> OptionBook:
    """Broadcast and check the legs of a book; DomainError names a leg that cannot be priced."""
    side, *rows = broadcast(kind=kind_sign(kind), F=F, K=K, T_yr=T_yr, sigma=sigma, r=r, amount=amount)
    sign = np.atleast_1d(side).astype(np.int8)
    if sign.ndim != 1:
        raise DomainError("a book is a list of legs", expected="one dimension", found=str(sign.shape))
    f, k, t, v, rate, a = (np.atleast_1d(row) for row in rows)
    black.black76_price(sign, f, k, t, v, rate)
    require("amount", a, np.isfinite(a), "a finite number of contracts, signed")
    return OptionBook(sign, f, k, t, v, rate, a)


@representable
def risk_surface(
    legs: OptionBook,
    spot_moves_frac: npt.ArrayLike,
    vol_moves_frac: npt.ArrayLike = 0.0,
    time_moves_yr: npt.ArrayLike = 0.0,
    *,
    smile: Smile | None = None,
    sticky: StickyRule = "strike",
    coin: bool = False,
) -> RiskSurface:
    """Reprice the book over the grid of moves (each 1-dimensional); `smile(k, T_yr)` gives volatilities.

    Without a smile each leg keeps its own volatility, and sticky delta cannot be asked for (DomainError).  With `coin`
    every figure is in coin at the moved forward, and delta is the net delta, as coin-settled accounts count.
    """
    x, y, tau = (_moves(name, moves) for name, moves in (
        ("spot_moves_frac", spot_moves_frac), ("vol_moves_frac", vol_moves_frac), ("time_moves_yr", time_moves_yr)
    ))  # fmt: skip
    require("spot_moves_frac", x, x > -1.0, "above -1: nothing is left of a price after -100 %")
    require("vol_moves_frac", y, y >= -1.0, "-1 or above")
    require("time_moves_yr", tau, tau >= 0.0, "0 or above: time does not run back")
    if sticky not in ("strike", "delta"):
        raise DomainError("unknown rule of the smile", expected="sticky='strike' or 'delta'", found=str(sticky))
    if smile is None and sticky == "delta":
        raise DomainError("sticky delta needs a smile", fix="pass smile=surface.vol, or sticky='strike'")

    def vols(forward: Floats, left: Floats) -> Floats:
        if smile is None:
            return legs.sigma
        live = np.maximum(left, 1e-9)  # an expired leg needs no volatility, any positive time gives one
        return smile(np.log(legs.K / forward), live)

    def figures(forward: Floats, left: Floats, level: Floats) -> tuple[list[Floats], npt.NDArray[np.int8]]:
        if coin:
            c = inverse_first_greeks(legs.sign, forward, legs.K, left, level, legs.r)
            return [c.price, c.net_delta, c.gamma, c.vega, c.theta], c.status
        usd = black.first_greeks(legs.sign, forward, legs.K, left, level, legs.r, legs.r)
        return [usd.price, usd.delta, usd.gamma, usd.vega, usd.theta], usd.status

    value_now = float(np.sum(legs.amount * figures(legs.F, legs.T_yr, vols(legs.F, legs.T_yr))[0][0]))
    shape = (x.size, y.size, tau.size)
    out = np.empty((5, *shape))
    expired, kinks = np.empty(shape, np.int64), np.empty(shape, np.int64)
    for j, passed in enumerate(tau):
        left = np.maximum(legs.T_yr - passed, 0.0)
        for i, move in enumerate(x):
            forward = legs.F * (1.0 + move)
            level = vols(legs.F if sticky == "strike" else forward, left)
            values, status = figures(forward, left, np.multiply.outer(1.0 + y, level))
            for row, figure in enumerate(values):
                out[row, i, :, j] = np.sum(legs.amount * figure, axis=1)
            expired[i, :, j] = np.sum(left == 0.0)
            kinks[i, :, j] = np.sum(status == black.KINK, axis=1)
    return RiskSurface(value_now, out[0] - value_now, out[1], out[2], out[3], out[4], expired, kinks)


def _moves(name: str, moves: npt.ArrayLike) -> Floats:
    column = np.atleast_1d(floats(name, moves))
    if column.ndim != 1:
        raise DomainError(f"{name} is not a list of moves", expected="shape (n,)", found=str(column.shape))
    require(name, column, np.isfinite(column), "a finite number")
    return column
