"""Uniswap v3 against the contract's published snapshots, a mainnet pool's own quotes, and rational arithmetic."""

from fractions import Fraction

import mpmath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.core.errors import DomainError
from aggregator.quant.uniswap_v3 import (
    Pool,
    fee_growth_inside,
    fees_owed,
    position_amounts,
    quote_exact_input,
    quote_exact_output,
    swap,
)
from aggregator.quant.uniswap_v3_math import (
    MAX_SQRT_X96,
    MAX_TICK,
    MIN_SQRT_X96,
    MIN_TICK,
    Q96,
    amount0_delta,
    amount1_delta,
    sqrt_at_tick,
    swap_step,
    tick_at_sqrt,
)

# Uniswap/v3-core d8b1c63, test/__snapshots__/TickMath.spec.ts.snap: exact.
TICKS = {
    -50: 79030349367926598376800521322,
    -100: 78833030112140176575862854579,
    -250: 78244023372248365697264290337,
    -500: 77272108795590369356373805297,
    -1000: 75364347830767020784054125655,
    -2500: 69919044979842180277688105136,
    -5000: 61703726247759831737814779831,
    -50000: 6504256538020985011912221507,
    -250000: 295440463448801648376846,
    -738203: 7409801140451,
    50: 79426470787362580746886972461,
    1000: 83290069058676223003182343270,
    5000: 101729702841318637793976746270,
    50000: 965075977353221155028623082916,
    250000: 21246587762933397357449903968194344,
    738203: 847134979253254120489401328389043031315994541,
    MIN_TICK: MIN_SQRT_X96,
    MAX_TICK: MAX_SQRT_X96,
}


def sqrt_x96(numerator: int, denominator: int) -> int:
    with mpmath.workdps(80):
        return int(mpmath.floor(mpmath.sqrt(mpmath.mpf(numerator) / denominator) * Q96))


# v3-core test/SwapMath.spec.ts: (target price, amount, received, fee, paid) from price 1, liquidity 2e18, fee 600.
STEPS = [
    ((101, 100), 10**18, 9975124224178055, 5988667735148, 9925619580021728),
    ((101, 100), -(10**18), 9975124224178055, 5988667735148, 9925619580021728),
    ((1000, 100), 10**18, 999400000000000000, 600000000000000, 666399946655997866),
    ((10000, 100), -(10**18), 2000000000000000000, 1200720432259356, 1000000000000000000),
]

# v3-core UniswapV3Pool.swaps.spec.ts.snap: medium fee, 1:1 price, additional liquidity around the current price.
SNAPSHOT = Pool(
    Q96, 0, 2 * 10**18, 3000, 60, (-887220, -60, 60, 887220), (4 * 10**18, -2 * 10**18, 2 * 10**18, -4 * 10**18)
)

# WBTC/WETH 0.3 % (0xCBCdF9626bC03E24f779434178A73a0B4bad62eD), mainnet block 24407242: ticks within reach.
NEAR = {
    264600: -2412152923826398, 264660: 653711223502909, 264720: -142443138612135, 264780: -72859450868573,
    264840: -1747894453063191, 264900: -4641053773201828, 264960: 1380939922106377, 265020: -67257505082909,
    265080: 2652833227399492, 265140: -49763457874392, 265200: 803267653803831, 265260: -2079514775905702,
    265320: -321023649446831, 265380: 32034539956899984, 265440: -485957033311542, 265500: -1383966320459811,
    265560: -1660751908496395, 265620: -34536036262481464, 265680: -1022328874748175, 265740: -4790116835264115,
}  # fmt: skip
MAINNET = Pool(
    45586356773108504879089041748871691, 265269, 77835804873159631, 3000, 60, tuple(NEAR), tuple(NEAR.values())
)
# QuoterV2 at that block: (amount, answer); WBTC has 8 decimals, so small amounts show the rounding.
SELL_WBTC = [
    (1, 0), (10, 2979566701607), (100, 32775233695879), (1000, 330069775534086), (100000, 33006953470348472),
    (1000000, 330067345350494671), (10000000, 3300454534179071210), (100000000, 32982764440913130895),
    (1000000000, 327703533555728443123), (1173251, 387251266762569072), (117325157, 38692231040214625132),
]  # fmt: skip
BUY_WBTC = [
    (1, 332059144303), (10, 3320591443248), (100, 33205914454570), (1000, 332059146754884),
    (100000, 33205938976639344), (1000000, 332061598978253301), (10000000, 3320836927137423183),
    (100000000, 33230479187715228560), (1000000000, 334489453215405945542), (117325157, 38992709434416197118),
]  # fmt: skip


@pytest.mark.parametrize(("tick", "expected"), TICKS.items())
def test_tick_to_price_is_the_contracts(tick: int, expected: int) -> None:
    assert sqrt_at_tick(tick) == expected


@given(st.integers(MIN_TICK, MAX_TICK))
def test_tick_prices_agree_with_the_definition(tick: int) -> None:
    with mpmath.workdps(60):
        ideal = mpmath.mpf("1.0001") ** (mpmath.mpf(tick) / 2) * Q96
    assert abs(sqrt_at_tick(tick) - ideal) <= ideal * mpmath.mpf("1e-18") + 1


@given(st.integers(MIN_SQRT_X96, MAX_SQRT_X96 - 1))
def test_tick_of_a_price_brackets_it(price: int) -> None:
    tick = tick_at_sqrt(price)
    assert sqrt_at_tick(tick) <= price < sqrt_at_tick(tick + 1)


@given(st.integers(MIN_TICK, MAX_TICK - 1))
def test_tick_of_a_tick_price_and_of_one_below(tick: int) -> None:
    assert tick_at_sqrt(sqrt_at_tick(tick)) == tick
    if tick > MIN_TICK:
        assert tick_at_sqrt(sqrt_at_tick(tick) - 1) == tick - 1


@pytest.mark.parametrize(("target", "amount", "received", "fee", "paid"), STEPS)
def test_swap_steps_of_the_contracts_own_tests(
    target: tuple[int, int], amount: int, received: int, fee: int, paid: int
) -> None:
    step = swap_step(Q96, sqrt_x96(*target), 2 * 10**18, amount, 600)
    assert (step.amount_in_raw, step.fee_raw, step.amount_out_raw) == (received, fee, paid)


@pytest.mark.parametrize(("zero_for_one", "price"), [(True, "0.63923"), (False, "1.5644")])
def test_pool_snapshot_over_ticks(zero_for_one: bool, price: str) -> None:
    done = swap(SNAPSHOT, 10**18, zero_for_one)
    amounts = (done.amount0_raw, done.amount1_raw)
    assert amounts == ((10**18, -795933705287758544) if zero_for_one else (-795933705287758544, 10**18))
    assert f"{(done.sqrt_x96 / Q96) ** 2:.5g}" == price
    assert not done.exhausted
    assert done.crossed == 1


def test_pool_snapshot_to_a_price_limit() -> None:
    """Same snapshot file, swap to price 0.40: 2 wei allowed, the limit there is an integer square root."""
    done = swap(SNAPSHOT, 10**36, True, sqrt_x96(40, 100))
    assert abs(done.amount0_raw - 2325523181756544449) <= 2
    assert abs(-done.amount1_raw - 1464187161953474971) <= 2
    assert done.exhausted
    assert done.remaining_raw == 10**36 - done.amount0_raw


@pytest.mark.parametrize(("amount", "answer"), SELL_WBTC)
def test_mainnet_exact_input_quotes(amount: int, answer: int) -> None:
    assert quote_exact_input(MAINNET, amount, True) == answer


@pytest.mark.parametrize(("amount", "answer"), BUY_WBTC)
def test_mainnet_exact_output_quotes(amount: int, answer: int) -> None:
    assert quote_exact_output(MAINNET, amount, False) == answer


@pytest.mark.parametrize("amount", [1, 1000, 10**6, 117325157])
def test_mainnet_dust_out_costs_two_units(amount: int) -> None:
    """So little WETH (raw 1e-18) costs 2 raw WBTC: one for the amount, one for the fee (QuoterV2, same block)."""
    assert quote_exact_output(MAINNET, amount, True) == 2


def rational_swap(pool: Pool, amount: int, zero_for_one: bool) -> Fraction:
    """Exact-input swap without any rounding: the curve itself, in rationals."""
    left = Fraction(amount) * (10**6 - pool.fee_pips) / 10**6
    price, liquidity, out = Fraction(pool.sqrt_x96, Q96), pool.liquidity, Fraction(0)
    table = list(zip(pool.ticks, pool.liquidity_net, strict=True))
    ahead = (
        [(t, -n) for t, n in table[::-1] if t <= pool.tick] if zero_for_one else [t for t in table if t[0] > pool.tick]
    )
    for tick, net in ahead:
        edge = Fraction(sqrt_at_tick(tick), Q96)
        room = liquidity * (1 / edge - 1 / price if zero_for_one else edge - price)
        if left <= room:
            break
        out += liquidity * abs(price - edge if zero_for_one else 1 / price - 1 / edge)
        left, price, liquidity = left - room, edge, liquidity + net
    after = 1 / (1 / price + left / liquidity) if zero_for_one else price + left / liquidity
    return out + liquidity * abs(price - after if zero_for_one else 1 / price - 1 / after)


@given(st.integers(10**3, 10**9), st.booleans())
def test_integer_swap_never_pays_more_than_the_curve(size: int, zero_for_one: bool) -> None:
    amount = size if zero_for_one else size * 10**11
    done = swap(MAINNET, amount, zero_for_one)
    ideal = rational_swap(MAINNET, amount, zero_for_one)
    paid = -(done.amount1_raw if zero_for_one else done.amount0_raw)
    # Each step rounds input up and output down by less than one unit; an input unit is worth the price of the token.
    unit = Fraction(MAINNET.sqrt_x96, Q96) ** (2 if zero_for_one else -2)
    assert ideal - (done.crossed + 2) * (1 + 2 * unit) <= paid <= ideal


@given(st.integers(1, 10**9), st.integers(1, 10**9), st.booleans())
def test_output_rises_with_input_and_a_round_trip_never_gains(small: int, more: int, zero_for_one: bool) -> None:
    scale = 1 if zero_for_one else 10**11
    first = swap(MAINNET, small * scale, zero_for_one)
    second = swap(MAINNET, (small + more) * scale, zero_for_one)
    out = [-(s.amount1_raw if zero_for_one else s.amount0_raw) for s in (first, second)]
    assert out[0] <= out[1]
    if out[0]:
        after = Pool(first.sqrt_x96, first.tick, first.liquidity, 3000, 60, MAINNET.ticks, MAINNET.liquidity_net)
        back = swap(after, out[0], not zero_for_one)
        assert -(back.amount0_raw if zero_for_one else back.amount1_raw) < small * scale


@given(st.integers(10**6, 10**21), st.booleans())
def test_exact_output_buys_at_least_what_the_same_input_sells(amount: int, zero_for_one: bool) -> None:
    out = quote_exact_input(SNAPSHOT, amount, zero_for_one)
    if out:
        assert quote_exact_output(SNAPSHOT, out, zero_for_one) <= amount


def test_a_pool_without_liquidity_says_so() -> None:
    narrow = Pool(Q96, 0, 10**18, 3000, 60, (-60, 60), (10**18, -(10**18)))
    done = swap(narrow, 10**18, True)
    held = position_amounts(Q96, -60, 60, 10**18)
    assert done.exhausted
    assert done.sqrt_x96 == MIN_SQRT_X96 + 1
    assert -done.amount1_raw == held[1]
    assert quote_exact_input(narrow, 10**18, True) == held[1]
    with pytest.raises(DomainError, match="cannot pay"):
        quote_exact_output(narrow, held[1] + 1, True)
    empty = swap(Pool(Q96, 0, 0, 3000, 60, (), ()), 5, False)
    assert (empty.amount0_raw, empty.amount1_raw, empty.exhausted) == (0, 0, True)
    for bare in (
        Pool(Q96, 0, 0, 3000, 60, (), ()),
        Pool(sqrt_at_tick(60), 60, 0, 3000, 60, narrow.ticks, narrow.liquidity_net),
    ):
        with pytest.raises(DomainError, match="no liquidity"):
            quote_exact_input(bare, 5, False)


@settings(max_examples=50)
@given(st.integers(-1000, 999), st.integers(1, 500), st.integers(1, 10**24), st.integers(-2000, 2000))
def test_position_amounts_against_rationals(lower: int, width: int, liquidity: int, at: int) -> None:
    price, low, high = (Fraction(sqrt_at_tick(t), Q96) for t in (at, lower, lower + width))
    inside = min(max(price, low), high)
    ideal = (liquidity * (1 / inside - 1 / high), liquidity * (inside - low))
    down = position_amounts(sqrt_at_tick(at), lower, lower + width, liquidity)
    up = position_amounts(sqrt_at_tick(at), lower, lower + width, liquidity, round_up=True)
    for under, true, over in zip(down, ideal, up, strict=True):
        assert true - 2 < under <= true <= over < true + 2


def test_liquidity_of_a_range_is_what_swaps_find_there() -> None:
    """The token1 of a range from the current price down is what a sale that leaves it empty receives."""
    edge = sqrt_at_tick(-60)
    assert amount1_delta(Q96, edge, 10**18, round_up=False) == position_amounts(Q96, -60, 0, 10**18)[1]
    assert amount0_delta(Q96, edge, 10**18, round_up=True) == position_amounts(edge, -60, 0, 10**18, round_up=True)[0]


def test_fees_accrue_modulo_two_to_the_256() -> None:
    """Outside growth may exceed global growth (Tick.sol comment): only differences modulo 2^256 have a meaning."""
    q128 = 1 << 128
    before = fee_growth_inside(0, -60, 60, 10 * q128, 0, 0)
    after = fee_growth_inside(0, -60, 60, 13 * q128, 0, 0)
    assert fees_owed(1000, after, before) == 3000
    wrapped = fee_growth_inside(-100, -60, 60, 5 * q128, 2 * q128, 7 * q128)
    assert wrapped == (2**256 - 5 * q128)
    assert fees_owed(7, (wrapped + 4 * q128) % 2**256, wrapped, owed_raw=1) == 29


@pytest.mark.parametrize(
    "call",
    [
        lambda: sqrt_at_tick(MAX_TICK + 1),
        lambda: tick_at_sqrt(MIN_SQRT_X96 - 1),
        lambda: tick_at_sqrt(MAX_SQRT_X96),
        lambda: swap(SNAPSHOT, 0, True),
        lambda: swap(SNAPSHOT, 1, True, Q96 + 1),
        lambda: swap(SNAPSHOT, 1, False, Q96),
        lambda: quote_exact_input(SNAPSHOT, -1, True),
        lambda: position_amounts(Q96, 60, 60, 1),
        lambda: Pool(Q96, 0, 1, 3000, 60, (60, -60), (1, -1)),
        lambda: Pool(Q96, 0, 1, 3000, 60, (60,), ()),
        lambda: Pool(Q96, 0, 1, 10**6, 60, (), ()),
        lambda: Pool(Q96, 0, 3, 3000, 60, (-60, 60), (1, -1)).check(),
        lambda: swap(Pool(Q96, 0, 1, 3000, 60, (-60, 60), (2, -2)), 10**6, True),
    ],
)
def test_bad_input_is_refused(call: object) -> None:
    with pytest.raises(DomainError):
        call()  # type: ignore[operator]
