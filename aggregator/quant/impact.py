"""Price impact of a net sale where no book can be walked: fraction of the price lost, by size sold.

    linear       I = q / D                                                        (never above 1)
    exponential  I = 1 - exp(-q / D)
    with a floor I = (1 - phi) * (1 - exp(-q / ((1 - phi)*D))): slope 1/D at zero, price never below phi of itself
    square root  I = Y * sigma * sqrt(q / V)

D market depth (same unit as q), V traded volume and sigma volatility over the same period, Y of order one.
Sources: Cifuentes, Ferrucci and Shin 2005, doi:10.1162/jeea.2005.3.2-3.556; Cont and Schaanning 2017,
doi:10.2139/ssrn.2541114; Toth et al. 2011, doi:10.1103/PhysRevX.1.021006.  All arguments broadcast; q < 0 is a purchase
and gives the negative of the impact of -q (exponential forms: the same curve mirrored).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aggregator.quant._checks import broadcast, representable, require

Floats = npt.NDArray[np.float64]


def linear_impact(quantity: npt.ArrayLike, depth: npt.ArrayLike) -> Floats:
    """q/D clipped to [-1, 1]; the clip is the domain of the model: at q >= D the price is gone."""
    q, d = _sizes(quantity=quantity, depth=depth)
    with np.errstate(over="ignore"):  # beyond the clip anyway
        return np.clip(q / d, -1.0, 1.0)


def exponential_impact(quantity: npt.ArrayLike, depth: npt.ArrayLike, floor_frac: npt.ArrayLike = 0.0) -> Floats:
    """(1 - floor)*(1 - exp(-q/((1 - floor)*D))); floor_frac in [0, 1): the share of the price that no sale destroys."""
    q, d, floor = broadcast(quantity=quantity, depth=depth, floor_frac=floor_frac)
    _sizes(quantity=q, depth=d)
    require("floor_frac", floor, (floor >= 0.0) & (floor < 1.0), "0 <= floor_frac < 1")
    room = 1.0 - floor
    with np.errstate(over="ignore"):  # exp(-inf) is the zero that is meant
        return -room * np.sign(q) * np.expm1(-np.abs(q) / (room * d))


def square_root_impact(
    quantity: npt.ArrayLike, volume: npt.ArrayLike, sigma: npt.ArrayLike, prefactor: float = 1.0
) -> Floats:
    """Y*sigma*sqrt(q/V) clipped to [-1, 1]; volume and the volatility sigma over one and the same period."""
    q, v, s = broadcast(quantity=quantity, volume=volume, sigma=sigma)
    _sizes(quantity=q, volume=v)
    require("sigma", s, (s >= 0.0) & np.isfinite(s), "finite and >= 0")
    require("prefactor", prefactor, 0.0 <= prefactor < np.inf, "finite and >= 0")
    with np.errstate(over="ignore", invalid="ignore"):  # inf * 0 where sigma is zero, else beyond the clip
        return np.where(s > 0.0, np.clip(prefactor * s * np.sign(q) * np.sqrt(np.abs(q) / v), -1.0, 1.0), 0.0)


@representable
def market_depth(volume: npt.ArrayLike, sigma: npt.ArrayLike, horizon: npt.ArrayLike, scale: float = 1.0) -> Floats:
    """D = c * (ADV / sigma) * sqrt(tau): depth for a liquidation spread over tau (days if ADV and sigma are daily)."""
    adv, s, tau = broadcast(volume=volume, sigma=sigma, horizon=horizon)
    _sizes(volume=adv, sigma=s)
    require("volume", adv, adv > 0.0, "> 0")
    require("horizon", tau, (tau > 0.0) & np.isfinite(tau), "finite and > 0")
    require("scale", scale, 0.0 < scale < np.inf, "finite and > 0")
    return scale * adv / s * np.sqrt(tau)


def _sizes(**given: npt.ArrayLike) -> list[Floats]:
    """The first is any finite number, the second a positive one."""
    (first, q), (second, d) = zip(given, broadcast(**given), strict=True)
    require(first, q, np.isfinite(q), "a finite number")
    require(second, d, (d > 0.0) & np.isfinite(d), "finite and > 0")
    return [q, d]
