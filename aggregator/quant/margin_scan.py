r"""The scenario scan that portfolio margins share.

For scenario :math:`j` (spot factor :math:`x_j`, volatility direction, damping :math:`\delta_j`), expiry :math:`e` with
value :math:`V_e` and the linear exposure :math:`L` (perps, spot, collateral that moves with it):

.. math::
   \Pi_j &= \delta_j\Bigl[L(x_j-1) + \sum_e \bigl(D_e(V_e^j)\,V_e^j - V_e\bigr)\Bigr]                      \tag{1}\\
   F_e^j &= F_e^{fixed} + x_j F_e^{moving}, \qquad
   \sigma^{up} = \max\bigl(\sigma(1+u(30d/T)^p),\ \sigma_{min}\bigr),\quad
   \sigma^{down} = \sigma\,(1-d(30d/T)^p)^+                                                            \tag{2}\\
   D_e^+ &= B^+ e^{-T(r m^+ + a^+)}, \qquad
   D_e^- = \min\bigl(B^- e^{T(r m^- + a^-)},\ 1/df\bigr) \text{ or } 1                                  \tag{3}\\
   \text{skew:}\quad \sigma' &= \sigma\,(1+\mathrm{clip}(\kappa\,c/k^*,\,-c,\,c))^+,\quad
   \Pi_j = -\sum_e\delta_j|\Delta_e|                                                                   \tag{4}\\
   \text{basis} &= \sum_e \min(V_e^{up}-V_e,\ V_e^{down}-V_e,\ 0)\,(a_b+m_bT)                           \tag{5}

with :math:`T` floored in (2) only (and :math:`V_e^j` taken `look_ahead_s` later), :math:`p` short- or long-term at
30 days, :math:`\kappa=\ln(K/F)` (linear) or its modulus (abs), :math:`c=c_0+c_1\sqrt T`,
:math:`k^*=\max(k_{min}, \sqrt T\,w\,(v_0+v_1\sqrt T))`.  With `coin` set, values are in coin, :math:`V/F`, and
:math:`L(x-1)` becomes :math:`L(1-1/x)`.  Source: derivexyz/v2-core PMRMLib.sol and PMRMLib_2.sol
(``getMarginAndMarkToMarket``, ``getScenarioPnL`` and what they call).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from aggregator.core.errors import DomainError
from aggregator.quant import _margin_kernels as kernels
from aggregator.quant._checks import require
from aggregator.quant.black import SECONDS_PER_YEAR
from aggregator.quant.margin import Ints, MarginBook
from aggregator.quant.margin_rules import DIRECTIONS, LINEAR, ScanRules, Scenario

Floats = npt.NDArray[np.float64]


_ANY_SIGN = {
    "short_power",
    "long_power",
    "gain_mult",
    "gain_add",
    "loss_mult",
    "loss_add",
    "linear_slope",
    "abs_slope",
    "vol_slope",
}


class ScanResult(NamedTuple):
    """Per account (n,): option value; the worst of all scenarios and the basis loss; basis loss; naked short options
    per strike; sum of (1 - confidence) x options held in expiries below the threshold; index of the worst.

    outcomes (n, scenarios): Pi_j of (1), in the currency of account.
    """

    value: Floats
    worst: Floats
    basis: Floats
    naked: Floats
    distrust: Floats
    worst_scenario: Ints
    outcomes: Floats


def scan(
    book: MarginBook, linear: Floats, trust: Floats, rules: ScanRules, scenarios: tuple[Scenario, ...]
) -> ScanResult:
    """Run (1) to (5) over every account; linear exposure, trust (least confidence of spot, perp): (n,).

    DomainError names a rule or a scenario that cannot be run.
    """
    spots, directions, damping = scenario_columns(scenarios)
    for name, number in zip(rules._fields, rules, strict=True):
        least = -np.inf if name in _ANY_SIGN else 0.0
        require(name, number, np.isfinite(number) & (number >= least), "a finite number" + " >= 0" * (least == 0.0))
    _check_divisors(book, rules, bool((directions >= LINEAR).any()))
    out, worst = np.empty((5, book.accounts)), np.empty(book.accounts, np.int64)
    outcomes = np.empty((book.accounts, spots.size))
    kernels.scan(
        book.offsets, book.sign, book.options, linear, trust, rules, spots, directions, damping, out, outcomes, worst
    )
    return ScanResult(out[0], out[1], out[2], out[3], out[4], worst, outcomes)


def option_deltas(book: MarginBook, move: Floats | float = 1.0, *, coin: bool = False) -> Floats:
    """(..., m) deltas of one long option after relative moves (..., 1) of what still moves of its forward.

    Of the premium in USD, or net of a premium in coin, times the share of the forward that still moves; at the strike
    in the last instant half way between the two sides.
    """
    moving, strike = book.column("forward_variable") * move, book.column("K")
    forward = book.column("forward_fixed") + moving
    total = book.column("sigma") * np.sqrt(book.column("seconds") / SECONDS_PER_YEAR)
    distance = np.log(forward / strike)
    with np.errstate(divide="ignore", invalid="ignore"):
        d1 = np.where(distance == 0.0, 0.0, distance / total) + total / 2.0
    weight, d = (strike / forward, d1 - total) if coin else (1.0, d1)
    return np.asarray(book.sign * weight * ndtr(book.sign * d) * moving / forward, dtype=np.float64)


def _check_divisors(book: MarginBook, rules: ScanRules, skewed: bool) -> None:
    """Floors of zero are legal: then time (or k*) itself divides, and the contract reverts where that is zero."""
    seconds = book.column("seconds")
    for name in ("floor_s", "least_k_star"):
        require(name, getattr(rules, name), getattr(rules, name) >= 0.0, ">= 0")
    if rules.floor_s == 0.0:
        require("seconds", seconds, seconds > 0.0, "> 0 where floor_s is 0")
    if rules.least_k_star == 0.0 and skewed:
        root = np.sqrt(seconds / SECONDS_PER_YEAR)
        flat = root * rules.width * (rules.vol_static + root * rules.vol_slope)
        require("k* of option", flat, flat > 0.0, "> 0 where least_k_star is 0")


def scenario_columns(scenarios: tuple[Scenario, ...]) -> tuple[Floats, Ints, Floats]:
    """Spot factors, direction codes and dampings; DomainError names a scenario that cannot be run."""
    for i, scenario in enumerate(scenarios):
        if scenario.vol not in DIRECTIONS or not (0.0 < scenario.spot < np.inf and 0.0 <= scenario.damping < np.inf):
            raise DomainError(
                f"scenario [{i}] cannot be run",
                expected=f"spot > 0, vol one of {sorted(DIRECTIONS)}",
                found=str(scenario),
            )
    if not scenarios:
        raise DomainError("no scenarios", expected="at least one")
    return (
        np.array([s.spot for s in scenarios]),
        np.array([DIRECTIONS[s.vol] for s in scenarios], dtype=np.int64),
        np.array([s.damping for s in scenarios]),
    )
