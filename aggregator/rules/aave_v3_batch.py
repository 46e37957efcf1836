"""Aave v3's largest allowed liquidation on arrays, in float64 (the exact form is `rules.aave_v3`).

Equal to the exact form to float precision away from its thresholds (health 0.95 and 1, 2000 and 1000 base units); an
account whose remaining collateral is worth less than one base unit of 1e-8 has none left, as in the contract.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aggregator.core.solmath import BPS
from aggregator.rules.base import F8, Calls, Number, Taken, health, spread

CLOSE_FACTOR_HF = 0.95
FULL_CLOSE_USD = 2_000.0
MIN_LEFTOVER_USD = 1_000.0
_WHOLE_BPS = 1e-9  # a quotient of floats this close below a whole basis point is that basis point


def floored(weighted_usd: Number, collateral_usd: Number, slack_bps: Number = _WHOLE_BPS) -> F8:
    """<= 3.4: the weighted collateral that health is judged by, with the average threshold cut to whole basis points.

    GenericLogic.calculateUserAccountData: avgLiquidationThreshold = sum(value * threshold) / sum(value) in integers,
    then totalCollateralInBaseCurrency.percentMul(avgLiquidationThreshold). Broadcasts; 0 without collateral.
    """
    weighted, held = np.asarray(weighted_usd, np.float64), np.asarray(collateral_usd, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        average = np.where(held > 0.0, np.floor(weighted / held * BPS + slack_bps), 0.0)
    out: F8 = held * average / BPS
    return out


def batch_by_reserve(calls: Calls) -> Taken:
    """<= 3.2: half of the reserve's debt above health 0.95, all of it below; debt without collateral stays."""
    collateral, debt, _, all_debt, weighted, bonus, fee, _, cover = spread(calls)
    ratio = health(weighted, all_debt)
    allowed = np.where(ratio > CLOSE_FACTOR_HF, 0.5 * debt, debt)
    repaid, seized = _capped(np.where(ratio < 1.0, np.minimum(allowed, cover), 0.0), collateral, bonus)
    return Taken(repaid, seized, _fee(seized, bonus, fee), np.zeros_like(repaid), (repaid > 0) & (repaid >= all_debt))


def batch_by_position(calls: Calls) -> Taken:
    """>= 3.3: half of the whole debt above health 0.95 unless a side is below 2000; no dust; bad debt burned."""
    collateral, debt, all_collateral, all_debt, weighted, bonus, fee, _, cover = spread(calls)
    ratio = health(weighted, all_debt)
    halved = (ratio > CLOSE_FACTOR_HF) & (collateral >= FULL_CLOSE_USD) & (debt >= FULL_CLOSE_USD)
    allowed = np.where(halved, np.minimum(debt, 0.5 * all_debt), debt)
    repaid, seized = _capped(np.where(ratio < 1.0, np.minimum(allowed, cover), 0.0), collateral, bonus)
    most = np.maximum(np.minimum(debt - MIN_LEFTOVER_USD, (collateral - MIN_LEFTOVER_USD) / (1.0 + bonus)), 0.0)
    dusty = (repaid < debt) & (seized < collateral) & (repaid > most)
    repaid = np.where(dusty, most, repaid)
    seized = np.where(dusty, most * (1.0 + bonus), seized)
    none_left: npt.NDArray[np.bool_] = (seized > 0) & (all_collateral - seized <= 1e-8 + 1e-12 * all_collateral)
    bad = np.where(none_left, np.maximum(all_debt - repaid, 0.0), 0.0)
    return Taken(repaid, seized, _fee(seized, bonus, fee), bad, none_left | ((repaid > 0) & (repaid >= all_debt)))


def _capped(repaid: F8, collateral: F8, bonus: F8) -> tuple[F8, F8]:
    seized = repaid * (1.0 + bonus)
    over = seized > collateral
    return np.where(over, collateral / (1.0 + bonus), repaid), np.where(over, collateral, seized)


def _fee(seized: F8, bonus: F8, fee: F8) -> F8:
    out: F8 = (seized - seized / (1.0 + bonus)) * fee
    return out
