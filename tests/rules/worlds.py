"""Accounts by hand, as the snapshot would build them."""

from __future__ import annotations

from collections.abc import Mapping

from aggregator.core.account import Account, Leg, mul_div
from aggregator.core.fixed import RAY, Fixed

POOL = "eip155:1/aave_v3/core"
MORPHO = "eip155:1/morpho_blue/core/0x01"
BORROWER = "0x" + "b0" * 20


def aave_leg(
    asset: str, side: str, shares: int, price_1e8: int, decimals: int, *, index: int = RAY, directional: bool = True,
    terms: Mapping[str, int] | None = None, ref: str = "",
) -> Leg:  # fmt: skip
    rounding = "half_up" if not directional else "up" if side == "debt" else "down"
    base = {
        "ltv_bps": 8000, "liquidation_threshold_bps": 8250, "liquidation_bonus_bps": 10500,
        "liquidation_protocol_fee_bps": 1000, "reserve_id": 0, "emode_category": 0,
    }  # fmt: skip
    amount = mul_div(shares, index, RAY, rounding)
    return Leg(
        asset, side, shares, amount, decimals, Fixed(price_1e8, 8), {**base, **(terms or {})}, ref, num=index, den=RAY
    )


def aave(*legs: Leg, terms: Mapping[str, int] | None = None, own: Mapping[str, int] | None = None) -> Account:
    return Account(POOL, BORROWER, "", legs, {"base_unit_exp": 8, **(terms or {})}, own or {}, 1_700_000_000)


def morpho(
    collateral: int, price_1e36: int, borrow_shares: int, total_assets: int, total_shares: int, lltv_wad: int
) -> Account:
    """Market with an 18-decimal collateral and a 6-decimal loan asset."""
    num, den = total_assets + 1, total_shares + 10**6
    legs = (
        Leg("weth", "collateral", collateral, collateral, 18, Fixed(price_1e36, 24), {}),
        Leg("usdc", "debt", borrow_shares, mul_div(borrow_shares, num, den, "up"), 6, None, {}, num=num, den=den),
    )
    return Account(MORPHO, BORROWER, "morpho_blue@1", legs, {"lltv_wad": lltv_wad}, {}, 1_700_000_000)
