"""Where a falling function of one number crosses nought: bracketed, with no derivative."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

_STEPS, _CLOSE = 200, 2.0**-52


def crossing(falling: Callable[[float], float], low: float, high: float, close: float = _CLOSE) -> float:
    """The largest x in [low, high] that is known to have falling(x) >= 0, within `close` of where that ends.

    `low` where no x was met that has; a jump is closed in on as well. Illinois steps (Dowell & Jarratt 1971,
    doi:10.1007/BF01934364), halved where they stay on one side.

    Why not scipy: `brentq` ends on either side of the root, and `elementwise.find_root`, which keeps both, takes a
    hundred times as long for one number.
    """
    at_high = falling(high)
    if at_high >= 0.0:
        return high
    at_low, side = falling(low), 0
    for _ in range(_STEPS):
        if high - low <= close * high:
            break
        steep = at_low - at_high
        middle = low + (high - low) * (at_low / steep if at_low > 0.0 and steep < inf else 0.5)
        if abs(side) >= 3 or not low < middle < high:
            middle, side = low + (high - low) * 0.5, 0
            if not low < middle < high:
                break
        at_middle = falling(middle)
        if at_middle >= 0.0:
            low, at_low, at_high, side = middle, at_middle, at_high * (0.5 if side > 0 else 1.0), max(side, 0) + 1
        else:
            high, at_high, at_low, side = middle, at_middle, at_low * (0.5 if side < 0 else 1.0), min(side, 0) - 1
    return low
