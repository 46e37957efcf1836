"""Exact maths of concentrated liquidity for adapters: what a range holds and has earned, in the pool's own rounding."""

from aggregator.quant.uniswap_v3 import fee_growth_inside, fees_owed, position_amounts

__all__ = ["fee_growth_inside", "fees_owed", "position_amounts"]
