"""Uniswap v3 integer arithmetic: TickMath, SqrtPriceMath and SwapMath, bit for bit.

Symbols: s = sqrt(token1/token0) as a Q64.96 integer (`sqrt_x96`, s * 2^96), tick t with s(t) = 1.0001^(t/2), liquidity
L = sqrt(x*y) of the active range, fee in pips (1e-6).  On one range

    token0 moved = L * (1/s' - 1/s),      token1 moved = L * (s - s')                  (whitepaper eq. 6.14, 6.16)

rounded up when the pool receives and down when it pays.  Source: Uniswap/v3-core v1.0.0 (d8b1c63), contracts/libraries
TickMath.sol, SqrtPriceMath.sol, SwapMath.sol; "Uniswap v3 Core" (Adams et al. 2021), sections 6.1 to 6.2.
Every function takes and returns Python integers (`uniswap_v3` refuses others: numpy's would wrap) and raises
DomainError where the contract reverts.
"""

from __future__ import annotations

from math import floor, log
from typing import NamedTuple

from aggregator.core.errors import DomainError

Q96 = 1 << 96
MIN_TICK, MAX_TICK = -887272, 887272
MIN_SQRT_X96 = 4295128739
MAX_SQRT_X96 = 1461446703485210103287273052203988822378723970342
FEE_UNIT = 1_000_000  # pips in one

_U160, _U256 = 1 << 160, 1 << 256
# 2^128 / sqrt(1.0001)^(2^i), i = 0..19, rounded as in TickMath.getSqrtRatioAtTick
_FACTORS = (
    0xFFFCB933BD6FAD37AA2D162D1A594001, 0xFFF97272373D413259A46990580E213A, 0xFFF2E50F5F656932EF12357CF3C7FDCC,
    0xFFE5CACA7E10E4E61C3624EAA0941CD0, 0xFFCB9843D60F6159C9DB58835C926644, 0xFF973B41FA98C081472E6896DFB254C0,
    0xFF2EA16466C96A3843EC78B326B52861, 0xFE5DEE046A99A2A811C461F1969C3053, 0xFCBE86C7900A88AEDCFFC83B479AA3A4,
    0xF987A7253AC413176F2B074CF7815E54, 0xF3392B0822B70005940C7A398E4B70F3, 0xE7159475A2C29B7443B29C7FA6E889D9,
    0xD097F3BDFD2022B8845AD8F792AA5825, 0xA9F746462D870FDF8A65DC1F90E061E5, 0x70D869A156D2A1B890BB3DF62BAF32F7,
    0x31BE135F97D08FD981231505542FCFA6, 0x9AA508B5B7A84E1C677DE54F3E99BC9, 0x5D6AF8DEDB81196699C329225EE604,
    0x2216E584F5FA1EA926041BEDFE98, 0x48A170391F7DC42444E8FA2,
)  # fmt: skip


class Step(NamedTuple):
    """One SwapMath step: price reached, what the pool received (before fee), paid, and the fee, raw units."""

    sqrt_x96: int
    amount_in_raw: int
    amount_out_raw: int
    fee_raw: int


def sqrt_at_tick(tick: int) -> int:
    """sqrt(1.0001^tick) * 2^96 as TickMath.getSqrtRatioAtTick rounds it; DomainError outside [-887272, 887272]."""
    if not MIN_TICK <= tick <= MAX_TICK:
        raise DomainError("tick is out of range", expected=f"{MIN_TICK} <= tick <= {MAX_TICK}", found=str(tick))
    ratio, bits = 1 << 128, abs(tick)
    for i, factor in enumerate(_FACTORS):
        if bits >> i & 1:
            ratio = factor if i == 0 else ratio * factor >> 128
    if tick > 0:
        ratio = (_U256 - 1) // ratio
    return -(-ratio >> 32)


def tick_at_sqrt(sqrt_x96: int) -> int:
    """The greatest tick with sqrt_at_tick(tick) <= sqrt_x96 (TickMath.getTickAtSqrtRatio)."""
    if not MIN_SQRT_X96 <= sqrt_x96 < MAX_SQRT_X96:
        raise DomainError(
            "square-root price is out of range",
            expected=f"{MIN_SQRT_X96} <= sqrt_x96 < {MAX_SQRT_X96}",
            found=str(sqrt_x96),
        )
    # The float logarithm is within one tick; the integers decide.
    tick = min(max(floor(2.0 * log(sqrt_x96 / Q96) / log(1.0001)), MIN_TICK), MAX_TICK - 1)
    while sqrt_at_tick(tick) > sqrt_x96:
        tick -= 1
    while sqrt_at_tick(tick + 1) <= sqrt_x96:
        tick += 1
    return tick


def amount0_delta(sqrt_a_x96: int, sqrt_b_x96: int, liquidity: int, *, round_up: bool) -> int:
    """token0 between two prices at constant liquidity, raw units (SqrtPriceMath.getAmount0Delta)."""
    low, high = sorted((sqrt_a_x96, sqrt_b_x96))
    if low <= 0:
        raise DomainError("square-root price is zero", expected="> 0", found=str(low))
    product = (liquidity << 96) * (high - low)
    return _ceil(_ceil(product, high), low) if round_up else product // high // low


def amount1_delta(sqrt_a_x96: int, sqrt_b_x96: int, liquidity: int, *, round_up: bool) -> int:
    """token1 between two prices at constant liquidity, raw units (SqrtPriceMath.getAmount1Delta)."""
    product = liquidity * abs(sqrt_a_x96 - sqrt_b_x96)
    return _ceil(product, Q96) if round_up else product >> 96


def next_sqrt_from_input(sqrt_x96: int, liquidity: int, amount_in_raw: int, zero_for_one: bool) -> int:
    """Price after the pool receives an amount (SqrtPriceMath.getNextSqrtPriceFromInput)."""
    _need_liquidity(sqrt_x96, liquidity)
    if zero_for_one:
        return _next_from_amount0(sqrt_x96, liquidity, amount_in_raw, add=True)
    return _next_from_amount1(sqrt_x96, liquidity, amount_in_raw, add=True)


def next_sqrt_from_output(sqrt_x96: int, liquidity: int, amount_out_raw: int, zero_for_one: bool) -> int:
    """Price after the pool pays an amount (SqrtPriceMath.getNextSqrtPriceFromOutput)."""
    _need_liquidity(sqrt_x96, liquidity)
    if zero_for_one:
        return _next_from_amount1(sqrt_x96, liquidity, amount_out_raw, add=False)
    return _next_from_amount0(sqrt_x96, liquidity, amount_out_raw, add=False)


def swap_step(sqrt_x96: int, target_x96: int, liquidity: int, remaining_raw: int, fee_pips: int) -> Step:
    """Swap within one range towards `target_x96` (SwapMath.computeSwapStep).

    remaining_raw: >= 0 is input still to spend (fee included), < 0 is output still to receive.
    """
    zero_for_one = sqrt_x96 >= target_x96
    exact_in = remaining_raw >= 0
    into, out_of = (amount0_delta, amount1_delta) if zero_for_one else (amount1_delta, amount0_delta)
    if exact_in:
        spend = remaining_raw * (FEE_UNIT - fee_pips) // FEE_UNIT
        received = into(target_x96, sqrt_x96, liquidity, round_up=True)
        reached = target_x96 if spend >= received else next_sqrt_from_input(sqrt_x96, liquidity, spend, zero_for_one)
    else:
        paid = out_of(target_x96, sqrt_x96, liquidity, round_up=False)
        wanted = -remaining_raw
        reached = target_x96 if wanted >= paid else next_sqrt_from_output(sqrt_x96, liquidity, wanted, zero_for_one)
    at_target = reached == target_x96
    if not (at_target and exact_in):
        received = into(reached, sqrt_x96, liquidity, round_up=True)
    if not at_target or exact_in:
        paid = out_of(reached, sqrt_x96, liquidity, round_up=False)
    if not exact_in:
        paid = min(paid, -remaining_raw)
    # What does not reach the target is spent whole: the remainder is fee, so that no unit is lost to rounding.
    fee = remaining_raw - received if exact_in and not at_target else _ceil(received * fee_pips, FEE_UNIT - fee_pips)
    return Step(reached, received, paid, fee)


def _next_from_amount0(sqrt_x96: int, liquidity: int, amount_raw: int, *, add: bool) -> int:
    if amount_raw == 0:
        return sqrt_x96
    scaled = liquidity << 96
    product = amount_raw * sqrt_x96
    if add:
        if scaled + product < _U256:
            return _ceil(scaled * sqrt_x96, scaled + product)
        return _ceil(scaled, scaled // sqrt_x96 + amount_raw)  # the contract's branch when the product overflows
    if product >= min(scaled, _U256):
        raise DomainError("range cannot pay that much token0", expected="less than it holds", found=str(amount_raw))
    return _price(_ceil(scaled * sqrt_x96, scaled - product))


def _next_from_amount1(sqrt_x96: int, liquidity: int, amount_raw: int, *, add: bool) -> int:
    if add:
        return _price(sqrt_x96 + (amount_raw << 96) // liquidity)
    quotient = _ceil(amount_raw << 96, liquidity)
    if sqrt_x96 <= quotient:
        raise DomainError("range cannot pay that much token1", expected="less than it holds", found=str(amount_raw))
    return sqrt_x96 - quotient


def _need_liquidity(sqrt_x96: int, liquidity: int) -> None:
    if sqrt_x96 <= 0 or liquidity <= 0:
        raise DomainError(
            "no price moves without price and liquidity", expected="both > 0", found=f"{sqrt_x96=} {liquidity=}"
        )


def _price(sqrt_x96: int) -> int:
    if sqrt_x96 >= _U160:
        raise DomainError("square-root price overflows uint160", expected="< 2^160", found=str(sqrt_x96))
    return sqrt_x96


def _ceil(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
