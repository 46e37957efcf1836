"""The numbers of a scenario margin, as plain tuples that compiled kernels take; meaning in `margin_scan`."""

from __future__ import annotations

from typing import NamedTuple

NONE, UP, DOWN, LINEAR, ABS = range(5)
DIRECTIONS = {"none": NONE, "up": UP, "down": DOWN, "linear": LINEAR, "abs": ABS}


class ScanRules(NamedTuple):
    """Numbers of (2) to (5); loss_base 0: no discount on losses; use_discount 1: price with the discount factor;
    coin 1: values in coin; look_ahead_s: by how much later options are priced in the scenarios."""

    vol_up: float
    vol_down: float
    short_power: float
    long_power: float
    floor_s: float
    least_vol_up: float = 0.0
    gain_base: float = 1.0
    gain_mult: float = 0.0
    gain_add: float = 0.0
    loss_base: float = 0.0
    loss_mult: float = 0.0
    loss_add: float = 0.0
    basis_up: float = 1.0
    basis_down: float = 1.0
    basis_add: float = 0.0
    basis_mult: float = 0.0
    confidence_threshold: float = 0.0
    use_discount: float = 0.0
    linear_cap: float = 0.0
    linear_slope: float = 0.0
    abs_cap: float = 0.0
    abs_slope: float = 0.0
    least_k_star: float = 0.01
    width: float = 4.0
    vol_static: float = 1.0
    vol_slope: float = 0.0
    coin: float = 0.0
    look_ahead_s: float = 0.0


class Scenario(NamedTuple):
    """Spot factor (1.15 = +15 %), volatility direction (none, up, down, linear, abs), damping of the outcome."""

    spot: float
    vol: str
    damping: float = 1.0
