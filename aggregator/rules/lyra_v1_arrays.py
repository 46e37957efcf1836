"""Lyra v1's margin requirement and liquidation fees on arrays, in float64; `rules.lyra_v1` is exact.

Agrees to 1e-11 of the spot. Sources: OptionGreekCache.getMinCollateral, OptionToken.getLiquidationFees.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.quant import black
from aggregator.rules.base import F8
from aggregator.rules.lyra_v1 import Kind

SMALLEST_T_YR = 1 / 31_536_000


class Shocks(NamedTuple):
    """Parameters of one market as fractions, years and whole units (OptionGreekCache.MinCollateralParameters)."""

    rate: float
    static_quote: float
    static_base: float
    vol_a: float
    t_a_yr: float
    vol_b: float
    t_b_yr: float
    call_spot: float
    put_spot: float


def min_collateral(
    kind: npt.ArrayLike, amount: npt.ArrayLike, strike: npt.ArrayLike, t_yr: npt.ArrayLike, spot: npt.ArrayLike,
    shocks: Shocks,
) -> F8:  # fmt: skip
    """Requirement of each position in its collateral asset, 0 for longs; arrays broadcast to (n,).

    kind as `lyra_v1.Kind`; t_yr below zero counts as zero. DomainError (from the pricer) for spot or strike <= 0.
    """
    kinds, size, K, T, S = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(x, np.float64)) for x in (kind, amount, strike, t_yr, spot))
    )
    put, base = kinds == Kind.SHORT_PUT_QUOTE, kinds == Kind.SHORT_CALL_BASE
    shocked = S * np.where(put, shocks.put_spot, shocks.call_spot)
    years = np.maximum(T, SMALLEST_T_YR)
    vol = np.interp(T, [shocks.t_a_yr, shocks.t_b_yr], [shocks.vol_a, shocks.vol_b])
    priced = black.price(np.where(put, -1, 1), shocked, K, years, vol, shocks.rate) * size
    needed = np.maximum(
        np.where(base, priced / shocked, priced), np.where(base, shocks.static_base, shocks.static_quote)
    )
    full = np.where(base, size, np.where(put, size * K, np.inf))
    out: F8 = np.where((kinds < Kind.SHORT_CALL_BASE) | (size == 0), 0.0, np.minimum(needed, full))
    return out


class Penalties(NamedTuple):
    """Liquidation fees of one market (OptionToken.PartialCollateralParameters); least_quote in whole quote units."""

    penalty_frac: float
    liquidator_frac: float
    security_frac: float
    least_quote: float


class Split(NamedTuple):
    """(n,) where the collateral of a liquidated position goes, in its own unit; insolvent in quote.

    returned + to_pool + to_liquidator + to_security = collateral; insolvent: what the pool misses of the premium.
    """

    returned: F8
    to_pool: F8
    to_liquidator: F8
    to_security: F8
    insolvent: F8


def fees(
    premium: npt.ArrayLike, collateral: npt.ArrayLike, quote_per_unit: npt.ArrayLike, penalties: Penalties
) -> Split:
    """getLiquidationFees of each position; arrays broadcast to (n,).

    premium and collateral in the collateral's unit, quote_per_unit its price in quote (1, or the spot for base).
    """
    cost, held, price = (
        np.asarray(x, np.float64)
        for x in np.broadcast_arrays(*map(np.atleast_1d, (premium, collateral, quote_per_unit)))
    )
    least = penalties.least_quote / price
    solvent = held >= cost + least
    penalty = np.where(solvent, np.maximum((held - cost) * penalties.penalty_frac, least), np.minimum(held, least))
    returned = np.where(solvent, held - cost - penalty, 0.0)
    missing = np.where(solvent, 0.0, np.where(held >= least, cost + least - held, cost))
    liquidator, security = penalty * penalties.liquidator_frac, penalty * penalties.security_frac
    return Split(returned, held - returned - liquidator - security, liquidator, security, missing * price)
