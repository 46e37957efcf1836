"""Implied volatility by plain bisection in numpy: the oracle of `implied_vol`, slow and without reason codes."""

from __future__ import annotations

import numpy as np
from scipy.special import erfcx

from aggregator.quant._option_inputs import Floats


def total_vol(x: Floats, beta: Floats) -> Floats:
    """s = sigma sqrt(T) from x = -|ln(F/K)| <= 0 and the normalised price beta = p/sqrt(FK) in (0, exp(x/2)).

    Bisects ln b(s) below the inflection sqrt(2|x|) and ln(1 - b/b_max) above it, in ln s; same shapes in and out.
    """
    inflection = np.sqrt(-2.0 * x)
    low, high = np.full(x.shape, np.log(1e-12)), np.full(x.shape, np.log(60.0))
    with np.errstate(divide="ignore", invalid="ignore", under="ignore"):
        target_low, target_high = np.log(beta), np.log1p(-beta / np.exp(0.5 * x))
        for _ in range(120):
            middle = 0.5 * (low + high)
            s = np.exp(middle)
            h, t = x / s, 0.5 * s
            log_density = -0.5 * (h * h + t * t) + np.log(0.5)
            near = erfcx(-(h - t) * np.sqrt(0.5))
            below = log_density + np.log(erfcx(-(h + t) * np.sqrt(0.5)) - near)
            above = log_density + np.log(erfcx((h + t) * np.sqrt(0.5)) + near) - 0.5 * x
            # left of the inflection the price is compared, right of it what is missing to the bound
            small = np.where(s < inflection, below < target_low, above > target_high)
            low, high = np.where(small, middle, low), np.where(small, high, middle)
    return np.asarray(np.exp(0.5 * (low + high)), dtype=np.float64)
