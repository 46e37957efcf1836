"""The numpy form of `aggregator.quant.black`: the oracle of the compiled kernels, for 0 < T and 0 < sigma.

Equations (1) to (11) of `aggregator.quant.black`, written as array expressions over ``scipy.special.ndtr``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

Floats = npt.NDArray[np.float64]


def all_orders(
    sign: npt.ArrayLike,
    S: npt.ArrayLike,
    K: npt.ArrayLike,
    T: npt.ArrayLike,
    vol: npt.ArrayLike,
    r: npt.ArrayLike,
    q: npt.ArrayLike,
) -> dict[str, Floats]:
    """Every figure by name, over the broadcast shape of the inputs; no domain checks."""
    arrays = [np.asarray(x, dtype=np.float64) for x in (sign, S, K, T, vol, r, q)]
    w, s, k, t, v, rate, yield_ = np.broadcast_arrays(*arrays)
    b = rate - yield_
    total = v * np.sqrt(t)
    d1 = (np.log(s / k) + b * t) / total + 0.5 * total
    d2 = d1 - total
    carry, discount = np.exp(-yield_ * t), np.exp(-rate * t)
    density = np.exp(-0.5 * d1 * d1) / np.sqrt(2.0 * np.pi)
    upper, lower = ndtr(w * d1), ndtr(w * d2)
    delta = w * carry * upper
    gamma = carry * density / (s * total)
    vega = s * carry * density * np.sqrt(t)
    # the out-of-the-money price is the time value of both, which the larger terms of the other would round away
    out = np.where(s * carry > k * discount, -1.0, 1.0)
    time_value = np.maximum(out * (s * carry * ndtr(out * d1) - k * discount * ndtr(out * d2)), 0.0)
    return {
        "price": np.maximum(w * (s * carry - k * discount), 0.0) + time_value,
        "delta": delta,
        "gamma": gamma,
        "vega": vega,
        "theta": -0.5 * vega * v / t + yield_ * s * delta - w * rate * k * discount * lower,
        "rho": w * t * k * discount * lower,
        "vanna": -carry * density * d2 / v,
        "volga": vega * d1 * d2 / v,
        "charm": -carry * density * (b / total - d2 / (2.0 * t)) + yield_ * delta,
        "speed": -gamma / s * (1.0 + d1 / total),
    }
