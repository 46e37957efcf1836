"""What each rule's figures are, in the words of its contract, and which terms of the market and of a leg they read."""

from __future__ import annotations

# protocol -> figure -> (formula, rounding)
FIGURES: dict[str, dict[str, tuple[str, str]]] = {
    "aave_v3": {
        "health_factor": (
            "sum(collateral value x liquidation threshold) / debt value / 10^4 (GenericLogic.calculateUserAccountData)",
            "wadDiv half up before 3.5, once on the weighted sum from 3.5",
        )
    },
    "morpho_blue": {
        "health_factor": (
            "floor(floor(collateral x price / 10^36) x LLTV / 10^18) / debt (Morpho._isHealthy)",
            "collateral side down, debt up",
        )
    },
    "compound_v2": {"health_factor": ("sum(collateral value x collateral factor) / debt value", "down")},
    "lyra_v1": {
        "health_factor": ("collateral / minimum collateral (OptionGreekCache.getMinCollateral)", "down"),
        "collateral_usd": ("collateral of the position, base at the market's spot", "down"),
        "requirement_usd": (
            "minimum collateral: min(max(Black-Scholes at shocked spot and volatility x size, static minimum), "
            "full collateral), base at the market's spot (OptionGreekCache.getMinCollateral)",
            "as the contract rounds",
        ),
    },
    "perp_curie": {
        "health_factor": ("account value / maintenance margin requirement (ClearingHouse, AccountBalance)", "down"),
        "collateral_usd": (
            "account value: margin + owed realized PnL + pending fee - pending funding "
            "+ sum(size x price + open notional) (Vault.getAccountValue)",
            "down to the settlement token's decimals",
        ),
        "requirement_usd": (
            "maintenance margin requirement: sum(|size x price|) x mm_ratio / 10^6 "
            "(AccountBalance.getMarginRequirementForLiquidation)",
            "down",
        ),
    },
}
# protocols whose every figure reads all legs, and these terms of the market
MARGINED: dict[str, tuple[str, ...]] = {
    "lyra_v1": (
        "rate_and_carry", "min_static_quote_collateral", "min_static_base_collateral", "shock_vol_a",
        "shock_vol_point_a_s", "shock_vol_b", "shock_vol_point_b_s", "call_spot_price_shock", "put_spot_price_shock",
    ),
    "perp_curie": ("mm_ratio_pips",),
}  # fmt: skip
# the term that weighs a collateral
THRESHOLDS = {"aave_v3": "liquidation_threshold_bps", "compound_v2": "collateral_factor_wad", "morpho_blue": "lltv_wad"}
# (protocol, last word of a leaf's name) -> what was done to the word that the call answers
DERIVED = {
    ("morpho_blue", "numerator"): "accrued to the cut from the totals that this call answers, plus the virtual asset",
    ("uniswap_v3", "numerator"): "of the liquidity in word 7, at the pool's price and between the position's ticks",
    ("uniswap_v3", "fees"): "owed by this word, and what the liquidity in word 7 has earned since words 8 and 9",
    ("lyra_v1", "numerator"): "price of the pool's token in word 0, with 18 places more",
    ("lyra_v1", "iv"): "base volatility of the board x skew of the strike in word 2",
}
ACCRUED_DEN = {"morpho_blue": "accrued with the numerator: total shares plus the virtual shares"}
CONSTANT = "constant of the protocol, or read with the numerator"
# (selector, figure) -> where in the word
PACKED = {
    ("35ea6a75", "liquidation_threshold_bps"): "bits 16 to 31 of word 0 (ReserveConfigurationMap)",
    ("35ea6a75", "emode_category"): "bits 168 to 175 of word 0 (ReserveConfigurationMap)",
}


def figure(protocol: str, name: str, unit: str) -> tuple[str, str]:
    """(formula, rounding) of a figure of `explain.FIGURES`; unit: symbol of what the market counts in."""
    plain = ("threshold-weighted collateral / debt", "down")
    if name != "health_factor":
        plain = (f"sum of leg values in {unit}", "as the contract rounds each leg")
    return FIGURES.get(protocol, {}).get(name, plain)
