"""The array form of `aggregator.quant.hedging_simulation`: the oracle of its compiled walk, all paths abreast.

Hedges come from the closed forms of `aggregator.quant.black` and `aggregator.quant.hedging`, one date at a time.
"""

from __future__ import annotations

import numpy as np

from aggregator.quant import black, hedging
from aggregator.quant._option_inputs import Floats, kind_sign


def run(
    moves: Floats, rule: str, kind: str, S: float, K: float, T_yr: float, sigma: float, cost_frac: float,
    risk_aversion: float, *, long: bool,
) -> Floats:  # fmt: skip
    """(3, paths): wealth without the premium, cost paid, trades.  moves: log returns (paths, steps) of equal length."""
    paths, steps = moves.shape
    spot, held, out = np.full(paths, S), np.zeros(paths), np.zeros((3, paths))
    side = 1.0 if long else -1.0
    both = hedging.leland(sigma, cost_frac=cost_frac, interval_yr=T_yr / steps)
    leland_vol = float(both.long if long else both.short)
    for j in range(steps):
        tau, wide = T_yr - j * T_yr / steps, np.zeros(paths)
        if rule == "zakamouline":
            band = hedging.zakamouline(
                kind, spot, K, tau, sigma, cost_frac=cost_frac, risk_aversion=risk_aversion, long=long
            )
            delta, wide = band.delta_m, band.halfwidth
        else:
            vol = leland_vol if rule == "leland" else sigma
            delta = black.first_greeks(kind, spot, K, tau, vol).delta
            if rule == "whalley_wilmott":
                wide = hedging.whalley_wilmott(spot, K, tau, sigma, cost_frac=cost_frac, risk_aversion=risk_aversion)
        new = hedging.rebalance(held, -side * delta, wide)
        fee = cost_frac * np.abs(new - held) * spot
        out += [-(new - held) * spot - fee, fee, new != held]
        held, spot = new, spot * np.exp(moves[:, j])
    fee = cost_frac * np.abs(held) * spot
    out += [held * spot - fee, fee, np.zeros(paths)]
    out[0] += side * np.maximum((spot - K) * float(kind_sign(kind)), 0.0)
    return out
