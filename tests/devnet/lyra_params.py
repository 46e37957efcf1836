"""Settings of a Lyra v1 market, by the names of its parameter structs: those of the package's own test system."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tests.devnet.tokens import UINT256_MAX, ZERO_ADDRESS

HOUR, DAY = 3_600, 86_400
SECURITY_MODULE = "0x" + "5ec0" * 10


def e18(amount: float | str) -> int:
    """18-decimal fixed point of a short decimal number."""
    return int(Decimal(str(amount)) * 10**18)


OPTION_MARKET: dict[str, Any] = {
    "maxBoardExpiry": 336 * DAY,
    "securityModule": SECURITY_MODULE,
    "feePortionReserved": e18(0.1),
    "staticBaseSettlementFee": e18(0.0075),
}
LIQUIDITY_POOL: dict[str, Any] = {
    "minDepositWithdraw": e18(1),
    "depositDelay": 7 * DAY,
    "withdrawalDelay": 7 * DAY,
    "withdrawalFee": e18(0.01),
    "liquidityCBThreshold": e18(0.01),
    "liquidityCBTimeout": 3 * DAY,
    "ivVarianceCBThreshold": e18(0.1),
    "skewVarianceCBThreshold": e18(0.35),
    "ivVarianceCBTimeout": 12 * HOUR,
    "skewVarianceCBTimeout": 12 * HOUR,
    "guardianMultisig": ZERO_ADDRESS,
    "guardianDelay": 14 * DAY,
    "boardSettlementCBTimeout": 6 * HOUR,
    "maxFeePaid": e18(0.01),
}
POOL_HEDGER: dict[str, Any] = {"interactionDelay": DAY, "hedgeCap": UINT256_MAX}
GREEK_CACHE: dict[str, Any] = {
    "maxStrikesPerBoard": 30,
    "acceptableSpotPricePercentMove": e18(0.05),
    "staleUpdateDuration": 3 * HOUR,
    "varianceIvGWAVPeriod": DAY,
    "varianceSkewGWAVPeriod": 3 * DAY,
    "optionValueIvGWAVPeriod": DAY,
    "optionValueSkewGWAVPeriod": 3 * DAY,
    "gwavSkewFloor": e18(0.5),
    "gwavSkewCap": e18(2),
    "rateAndCarry": e18(0.05),
}
MIN_COLLATERAL: dict[str, Any] = {
    "minStaticQuoteCollateral": e18(200),
    "minStaticBaseCollateral": e18(0.2),
    "shockVolA": e18(2.5),
    "shockVolPointA": 14 * DAY,
    "shockVolB": e18(1.8),
    "shockVolPointB": 56 * DAY,
    "callSpotPriceShock": e18(1.2),
    "putSpotPriceShock": e18(0.8),
}
FORCE_CLOSE: dict[str, Any] = {
    "ivGWAVPeriod": 12 * HOUR,
    "skewGWAVPeriod": 24 * HOUR,
    "shortVolShock": e18(1.2),
    "shortPostCutoffVolShock": e18(1.4),
    "longVolShock": e18(0.8),
    "longPostCutoffVolShock": e18(0.5),
    "liquidateVolShock": e18(1.3),
    "liquidatePostCutoffVolShock": e18(1.6),
    "shortSpotMin": e18(0.01),
    "liquidateSpotMin": e18(0.02),
}
PRICING: dict[str, Any] = {
    "optionPriceFeeCoefficient": e18(0.01),
    "optionPriceFee1xPoint": 42 * DAY,
    "optionPriceFee2xPoint": 112 * DAY,
    "spotPriceFeeCoefficient": e18(0.01),
    "spotPriceFee1xPoint": 42 * DAY,
    "spotPriceFee2xPoint": 84 * DAY,
    "vegaFeeCoefficient": e18(100),
    "standardSize": e18(5),
    "skewAdjustmentFactor": e18(0.75),
}
TRADE_LIMITS: dict[str, Any] = {
    "minDelta": e18(0.15),
    "minForceCloseDelta": e18(0.25),
    "tradingCutoff": DAY // 2,
    "minBaseIV": e18(0.35),
    "maxBaseIV": e18(2),
    "minSkew": e18(0.5),
    "maxSkew": e18(1.5),
    "minVol": e18(0.55),
    "maxVol": e18(3),
    "absMinSkew": e18(0.15),
    "absMaxSkew": e18(5),
    "capSkewsToAbs": False,
}
VARIANCE_FEE: dict[str, Any] = {
    "defaultVarianceFeeCoefficient": e18(0.25),
    "forceCloseVarianceFeeCoefficient": e18(0.25),
    "skewAdjustmentCoefficient": e18(3),
    "referenceSkew": e18(1),
    "minimumStaticSkewAdjustment": e18(1),
    "vegaCoefficient": e18(0.01),
    "minimumStaticVega": 0,
    "ivVarianceCoefficient": e18(1.5),
    "minimumStaticIvVariance": e18(1),
}
PARTIAL_COLLATERAL: dict[str, Any] = {
    "penaltyRatio": e18(0.2),
    "liquidatorFeeRatio": e18(0.4),
    "smFeeRatio": e18(0.3),
    "minLiquidationFee": e18(15),
}
