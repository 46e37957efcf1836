"""A Uniswap v3 pool in exact integers: swaps equal to the contract's quoter, position amounts, fees owed.

A pool is (sqrt price, liquidity in range, fee, tick spacing) and its initialised ticks with the net liquidity that each
adds when crossed upward.  A swap walks from tick to tick; like the contract it also stops at the ends of bitmap words
(256 spacings), because each stop rounds once.  Source: Uniswap/v3-core v1.0.0 (d8b1c63) UniswapV3Pool.swap,
TickBitmap.nextInitializedTickWithinOneWord, Tick.getFeeGrowthInside, Position.update; quotes are those of
v3-periphery QuoterV2.quoteExact{Input,Output}Single.  Integer steps: `uniswap_v3_math`; float form: `depth`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import NamedTuple

from aggregator.core.errors import DomainError
from aggregator.quant._checks import require_ints
from aggregator.quant.uniswap_v3_math import (
    FEE_UNIT,
    MAX_SQRT_X96,
    MAX_TICK,
    MIN_SQRT_X96,
    MIN_TICK,
    amount0_delta,
    amount1_delta,
    sqrt_at_tick,
    swap_step,
    tick_at_sqrt,
)

_Q128, _U128, _U256 = 1 << 128, (1 << 128) - 1, (1 << 256) - 1


@dataclass(frozen=True, slots=True)
class Pool:
    """State of a pool at one block.

    sqrt_x96, tick: slot0;  liquidity: in range;  fee_pips: 3000 is 0.3 %
    ticks, liquidity_net: initialised ticks ascending and their net liquidity; every tick that a swap may reach must be
    in the table, a missing one changes the answer silently (`check` finds a table that does not add up).
    """

    sqrt_x96: int
    tick: int
    liquidity: int
    fee_pips: int
    tick_spacing: int
    ticks: tuple[int, ...]
    liquidity_net: tuple[int, ...]

    def __post_init__(self) -> None:
        require_ints(
            sqrt_x96=self.sqrt_x96, tick=self.tick, liquidity=self.liquidity, fee_pips=self.fee_pips,
            tick_spacing=self.tick_spacing, ticks=self.ticks, liquidity_net=self.liquidity_net,
        )  # fmt: skip
        if len(self.ticks) != len(self.liquidity_net):
            raise DomainError(
                "tick table is ragged",
                expected="one net per tick",
                found=f"{len(self.ticks)}, {len(self.liquidity_net)}",
            )
        if not 0 <= self.fee_pips < FEE_UNIT or self.tick_spacing <= 0 or self.liquidity < 0:
            raise DomainError(
                "pool terms are out of range",
                expected="0 <= fee_pips < 1e6, tick_spacing > 0, liquidity >= 0",
                found=f"{self.fee_pips}, {self.tick_spacing}, {self.liquidity}",
            )
        for i, tick in enumerate(self.ticks):
            if i and self.ticks[i - 1] >= tick:
                raise DomainError("ticks must rise", expected=f"ticks[{i}] > {self.ticks[i - 1]}", found=str(tick))
            if tick % self.tick_spacing or not MIN_TICK <= tick <= MAX_TICK:
                raise DomainError(
                    f"ticks[{i}] cannot be initialised", expected=f"a multiple of {self.tick_spacing}", found=str(tick)
                )
        # the price is of its tick; a swap down that ends on a tick leaves the price at the upper end of the one below
        if not MIN_TICK <= self.tick < MAX_TICK or not (
            sqrt_at_tick(self.tick) <= self.sqrt_x96 <= sqrt_at_tick(self.tick + 1)
        ):
            raise DomainError(
                "price and tick are not of one pool",
                expected=f"sqrt_x96 within tick {self.tick}",
                found=str(self.sqrt_x96),
                fix="read slot0 at one block; a pool that was never initialised has no price",
            )

    def check(self) -> None:
        """Raise DomainError unless the net liquidity at or below the current tick sums to the liquidity in range."""
        total = sum(net for tick, net in zip(self.ticks, self.liquidity_net, strict=True) if tick <= self.tick)
        if total != self.liquidity:
            raise DomainError(
                "tick table does not add up to the liquidity in range",
                expected=str(self.liquidity),
                found=str(total),
                fix="read every initialised tick at the pool's own block",
            )


class Swap(NamedTuple):
    """Result of a swap.  amount0_raw, amount1_raw: deltas of the pool's balance (> 0 received, < 0 paid).

    fee_raw is the part of the input kept for liquidity providers and protocol; exhausted: the price limit was reached
    with remaining_raw still open (of the specified amount), so the pool has no more liquidity for it.
    """

    amount0_raw: int
    amount1_raw: int
    sqrt_x96: int
    tick: int
    liquidity: int
    fee_raw: int
    remaining_raw: int
    crossed: int
    exhausted: bool


def swap(pool: Pool, amount_raw: int, zero_for_one: bool, sqrt_limit_x96: int | None = None) -> Swap:
    """Swap along the tick table.  amount_raw > 0 is exact input, < 0 exact output; zero_for_one sells token0.

    sqrt_limit_x96: price at which to stop, the contract's extreme by default.
    DomainError for a zero amount, a limit on the wrong side, or liquidity that turns negative (corrupt table).
    """
    require_ints(amount_raw=amount_raw, sqrt_limit_x96=0 if sqrt_limit_x96 is None else sqrt_limit_x96)
    if amount_raw == 0:
        raise DomainError("nothing to swap", expected="amount_raw != 0", found="0")
    limit = sqrt_limit_x96 if sqrt_limit_x96 is not None else MIN_SQRT_X96 + 1 if zero_for_one else MAX_SQRT_X96 - 1
    good = MIN_SQRT_X96 < limit < pool.sqrt_x96 if zero_for_one else pool.sqrt_x96 < limit < MAX_SQRT_X96
    if not good:
        raise DomainError(
            "price limit is on the wrong side", expected="below the price when selling token0, above it otherwise",
            found=f"limit {limit}, price {pool.sqrt_x96}",
        )  # fmt: skip
    price, tick, liquidity = pool.sqrt_x96, pool.tick, pool.liquidity
    remaining, other, fees, crossed = amount_raw, 0, 0, 0
    exact_in = amount_raw > 0
    while remaining != 0 and price != limit:
        following, at = _next_tick(pool, tick, zero_for_one)
        following = min(max(following, MIN_TICK), MAX_TICK)
        tick_price = sqrt_at_tick(following)
        target = max(tick_price, limit) if zero_for_one else min(tick_price, limit)
        before = price
        price, received, paid, fee = swap_step(price, target, liquidity, remaining, pool.fee_pips)
        fees += fee
        if exact_in:
            remaining -= received + fee
            other -= paid
        else:
            remaining += paid
            other += received + fee
        if price == tick_price:
            if at is not None:
                liquidity += -pool.liquidity_net[at] if zero_for_one else pool.liquidity_net[at]
                crossed += 1
                if liquidity < 0:
                    raise DomainError(
                        "liquidity turns negative", expected=">= 0", found=f"{liquidity} past tick {following}"
                    )
            tick = following - 1 if zero_for_one else following
        elif price != before:
            tick = tick_at_sqrt(price)
    specified = amount_raw - remaining
    amount0, amount1 = (specified, other) if zero_for_one == exact_in else (other, specified)
    return Swap(amount0, amount1, price, tick, liquidity, fees, remaining, crossed, remaining != 0)


def quote_exact_input(pool: Pool, amount_in_raw: int, zero_for_one: bool) -> int:
    """Output for an input, as QuoterV2.quoteExactInputSingle: of what the pool takes where it runs dry before the end.

    `swap` says whether it did, and how much was left over. DomainError where the pool takes nothing (the quoter
    reverts).
    """
    if amount_in_raw == 0:
        return 0
    result = swap(pool, _positive(amount_in_raw), zero_for_one)
    if result.amount0_raw == result.amount1_raw == 0:
        raise DomainError("pool has no liquidity on that side", expected="some to trade with", found="none")
    return -(result.amount1_raw if zero_for_one else result.amount0_raw)


def quote_exact_output(pool: Pool, amount_out_raw: int, zero_for_one: bool) -> int:
    """Input for an output, as QuoterV2.quoteExactOutputSingle.  DomainError if the pool cannot pay it."""
    if amount_out_raw == 0:
        return 0
    result = swap(pool, -_positive(amount_out_raw), zero_for_one)
    if result.exhausted:
        raise DomainError("pool cannot pay that much", expected="0 missing", found=str(-result.remaining_raw))
    return result.amount0_raw if zero_for_one else result.amount1_raw


def position_amounts(
    sqrt_x96: int, lower: int, upper: int, liquidity: int, *, round_up: bool = False
) -> tuple[int, int]:
    """(token0, token1) raw held by `liquidity` between two ticks: what burning pays (down) or minting costs (up)."""
    require_ints(sqrt_x96=sqrt_x96, lower=lower, upper=upper, liquidity=liquidity)
    if lower >= upper or liquidity < 0 or sqrt_x96 <= 0:
        raise DomainError(
            "no such position",
            expected="lower < upper, liquidity >= 0, price > 0",
            found=f"{lower}, {upper}, liquidity {liquidity}, price {sqrt_x96}",
        )
    low, high = sqrt_at_tick(lower), sqrt_at_tick(upper)
    inside = min(max(sqrt_x96, low), high)
    return (
        amount0_delta(inside, high, liquidity, round_up=round_up),
        amount1_delta(low, inside, liquidity, round_up=round_up),
    )


def fee_growth_inside(tick: int, lower: int, upper: int, global_x128: int, lower_x128: int, upper_x128: int) -> int:
    """Fee per unit of liquidity earned inside a range, Q128.128 modulo 2^256 (Tick.getFeeGrowthInside).

    global_x128: feeGrowthGlobal; lower_x128, upper_x128: feeGrowthOutside of the two ticks; one token at a time.
    """
    require_ints(global_x128=global_x128, lower_x128=lower_x128, upper_x128=upper_x128)
    below = lower_x128 if tick >= lower else global_x128 - lower_x128
    above = upper_x128 if tick < upper else global_x128 - upper_x128
    return (global_x128 - below - above) & _U256


def fees_owed(liquidity: int, inside_x128: int, inside_last_x128: int, owed_raw: int = 0) -> int:
    """Fees a position could collect after a poke, raw, uint128 as stored (Position.update)."""
    require_ints(liquidity=liquidity, inside_x128=inside_x128, inside_last_x128=inside_last_x128, owed_raw=owed_raw)
    grown = (inside_x128 - inside_last_x128) & _U256
    return (owed_raw + (grown * liquidity // _Q128 & _U128)) & _U128


def _next_tick(pool: Pool, tick: int, zero_for_one: bool) -> tuple[int, int | None]:
    """Next stop of the swap and its index in the table if it is initialised, else None (end of a bitmap word)."""
    spacing = pool.tick_spacing
    if zero_for_one:
        compressed = tick // spacing
        stop = (compressed >> 8 << 8) * spacing
        at = bisect_right(pool.ticks, compressed * spacing) - 1
        return (pool.ticks[at], at) if at >= 0 and pool.ticks[at] >= stop else (stop, None)
    compressed = tick // spacing + 1
    stop = ((compressed >> 8 << 8) + 255) * spacing
    at = bisect_left(pool.ticks, compressed * spacing)
    return (pool.ticks[at], at) if at < len(pool.ticks) and pool.ticks[at] <= stop else (stop, None)


def _positive(amount_raw: int) -> int:
    if amount_raw < 0:
        raise DomainError("amount is negative", expected=">= 0", found=str(amount_raw))
    return amount_raw
