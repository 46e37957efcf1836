"""Constant product and the merged book: contract answers, exact swaps, brute-force routing, bad input."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from aggregator.core.errors import DomainError
from aggregator.quant.amm import (
    best_liquidation_size,
    constant_product_sale,
    merged_reserves,
    profitable_liquidation_limit,
    v2_amount_in,
    v2_amount_out,
)
from aggregator.quant.depth import (
    NO_DEPTH,
    DepthCurve,
    constant_product_depth,
    merge,
    split,
    steps_depth,
    uniswap_v3_depth,
)
from aggregator.quant.uniswap_v3 import Pool, swap
from aggregator.quant.uniswap_v3_math import Q96

reserves = st.floats(1e-3, 1e9)


# Router answers at Base block 46875151, PancakeSwap v2 WETH/USDbC (0x92363F98...5cc8), fee 25/10000, USDbC in.
@pytest.mark.parametrize(
    ("amount", "answer"),
    [(11022810, 4087322589000854), (16534215, 5256381606233848), (2, 1111490477), (22, 12226384189)],
)
def test_v2_router_answers_to_the_unit(amount: int, answer: int) -> None:
    assert v2_amount_out(amount, 22045620, 12282455599528885, fee=(25, 10000)) == answer


def test_v2_library_examples() -> None:
    """UniswapV2Router02.spec.ts: getAmountOut(2, 100, 100) = 1, getAmountIn(1, 100, 100) = 2."""
    assert v2_amount_out(2, 100, 100) == 1
    assert v2_amount_in(1, 100, 100) == 2


@given(st.integers(1, 2**100), st.integers(1, 2**100), st.integers(1, 2**100))
def test_v2_rounding_brackets_the_curve(amount: int, x: int, y: int) -> None:
    net = Fraction(amount * 997, 1000)
    ideal = y * net / (x + net)
    out = v2_amount_out(amount, x, y)
    assert ideal - 1 < out <= ideal
    if out:
        assert v2_amount_in(out, x, y) <= amount + 1


@given(st.floats(0, 1e9), reserves, reserves, st.floats(0, 0.3))
def test_array_form_is_the_rational_curve(amount: float, x: float, y: float, fee: float) -> None:
    net = (1 - Fraction(fee)) * Fraction(amount)
    ideal = Fraction(y) * net / (Fraction(x) + net)
    sale = constant_product_sale(amount, x, y, fee)
    assert float(sale.out) == pytest.approx(float(ideal), rel=1e-14, abs=1e-300)
    walked = constant_product_depth(x, y, fee).walk(amount)
    assert float(walked.proceeds) == pytest.approx(float(ideal), rel=1e-14, abs=1e-300)
    assert not walked.exhausted
    assert walked.proceeds <= y


@given(st.lists(st.tuples(st.floats(1, 1e6), st.floats(0.0, 1e6)), min_size=1, max_size=6), st.floats(0.01, 100))
def test_routing_at_one_price_is_the_merged_pool(pools: list[tuple[float, float]], price: float) -> None:
    base = np.array([x for x, _ in pools])
    amount = sum(q for _, q in pools)
    merged = merged_reserves(base, base * price)
    book = merge(constant_product_depth(x, x * price) for x in base)
    whole = float(constant_product_sale(amount, *merged).out)
    assert float(book.walk(amount).proceeds) == pytest.approx(whole, rel=1e-11)
    # sold in proportion to reserves: each pool separately brings its share
    parts = constant_product_sale(amount * base / base.sum(), base, base * price).out.sum()
    assert parts == pytest.approx(whole, rel=1e-12)


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(reserves.filter(lambda x: x > 1), st.floats(0.8, 1.25), st.floats(0, 0.02)), min_size=2, max_size=4
    )
)
def test_merged_book_beats_every_other_split(pools: list[tuple[float, float, float]]) -> None:
    """A numerical optimiser over the split, which knows nothing of the curve, never finds more."""
    x = np.array([p[0] for p in pools])
    y = x * np.array([p[1] for p in pools])
    fee = np.array([p[2] for p in pools])
    amount = 0.3 * float(x.sum())
    curves = [constant_product_depth(*p) for p in zip(x, y, fee, strict=True)]
    book = float(merge(curves).walk(amount).proceeds)
    parts, left = split(curves, amount)
    assert left == 0
    assert parts.sum() == pytest.approx(amount, rel=1e-9)
    assert constant_product_sale(parts, x, y, fee).out.sum() == pytest.approx(book, rel=1e-9)

    def brings_less(weights: np.ndarray) -> float:
        share = np.abs(weights) / np.abs(weights).sum()
        return -float(constant_product_sale(amount * share, x, y, fee).out.sum())

    found = minimize(brings_less, np.ones(len(x)), method="Nelder-Mead", options={"maxiter": 400})
    assert -found.fun <= book * (1 + 1e-12)


def deep_pool() -> Pool:
    """Forty uneven ranges of 18-decimal liquidity, so that a rounded unit is far below 1e-12."""
    rng = np.random.default_rng(7)
    positions = [(int(a) * 60, int(a + w) * 60, int(10**24 * s)) for a, w, s in zip(
        rng.integers(-60, 0, 40), rng.integers(1, 80, 40), rng.uniform(0.1, 3, 40), strict=True)]  # fmt: skip
    nets: dict[int, int] = {}
    for low, high, liquidity in positions:
        nets[low] = nets.get(low, 0) + liquidity
        nets[high] = nets.get(high, 0) - liquidity
    nets = {t: n for t, n in sorted(nets.items()) if n}
    here = sum(liquidity for low, high, liquidity in positions if low <= 0 < high)
    return Pool(Q96, 0, here, 3000, 60, tuple(nets), tuple(nets.values()))


@pytest.mark.parametrize("sell_token0", [True, False])
def test_book_walk_equals_exact_swaps(sell_token0: bool) -> None:
    pool = deep_pool()
    pool.check()
    curve = uniswap_v3_depth(pool, sell_token0=sell_token0)
    sizes = [int(s) for s in np.geomspace(1e14, float(curve.base[-1]) * 0.999, 40)]
    swaps = [swap(pool, s, sell_token0) for s in sizes]
    exact = np.array([float(-(s.amount1_raw if sell_token0 else s.amount0_raw)) for s in swaps])
    walked = curve.walk(sizes)
    assert swaps[-1].crossed > 15
    np.testing.assert_allclose(walked.proceeds, exact, rtol=1e-12)
    roots = np.array([s.sqrt_x96 / Q96 for s in swaps])
    np.testing.assert_allclose(walked.price, 0.997 * (roots**2 if sell_token0 else roots**-2), rtol=1e-12)
    beyond = curve.walk(float(curve.base[-1]) * 2)
    dry = swap(pool, int(curve.base[-1]) * 2, sell_token0)
    assert dry.exhausted
    assert beyond.exhausted
    assert beyond.unfilled == pytest.approx(float(dry.remaining_raw), rel=1e-12)
    assert beyond.proceeds == pytest.approx(float(-(dry.amount1_raw if sell_token0 else dry.amount0_raw)), rel=1e-12)


def test_pools_of_both_kinds_in_one_book_match_a_greedy_seller() -> None:
    """Sell in 20,000 slices, each to whichever pool pays most for it: the limit of the merged book."""
    pool = deep_pool()
    v3 = uniswap_v3_depth(pool, sell_token0=True).scaled(1e-18, 1e-18)
    v2 = (3e5, 2.97e5, 0.003)
    amount, slices = 1.2e5, 20_000
    sold = np.zeros(2)
    for _ in range(slices):
        step = amount / slices
        gains = [
            float(v3.walk(sold[0] + step).proceeds - v3.walk(sold[0]).proceeds),
            float(constant_product_sale(sold[1] + step, *v2).out - constant_product_sale(sold[1], *v2).out),
        ]
        sold[int(np.argmax(gains))] += step
        if _ > 400:
            break
    partial = float(sold.sum())
    parts, _left = split([v3, constant_product_depth(*v2)], partial)
    np.testing.assert_allclose(parts, sold, atol=2 * amount / slices)


def some_book() -> DepthCurve:
    return merge([constant_product_depth(100, 101, 0.003), steps_depth([1.1, 1.0, 0.9, 0.8], [50, 0, 70])])


@given(st.floats(0, 1e4), st.floats(0, 1e4))
def test_walk_is_monotone_and_concave(first: float, second: float) -> None:
    book = some_book()
    low, high = sorted((first, second))
    a, b, mid = book.walk(low), book.walk(high), book.walk((low + high) / 2)
    assert a.proceeds <= b.proceeds
    assert a.price >= b.price
    assert mid.proceeds >= (a.proceeds + b.proceeds) / 2 * (1 - 1e-12)
    assert b.proceeds <= high * book.price * (1 + 1e-12)


@given(st.floats(1e-6, 1e4))
def test_inverses_undo_the_walk(amount: float) -> None:
    book = some_book()
    walked = book.walk(amount)
    assert float(book.base_for(walked.proceeds)) == pytest.approx(amount, rel=1e-8)
    assert float(book.base_to_price(walked.price)) == pytest.approx(amount, rel=1e-8)


@given(st.floats(0, 10), st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_units_scale(amount: float, base_unit: float, quote_unit: float) -> None:
    book = some_book()
    plain, scaled = book.walk(amount), book.scaled(base_unit, quote_unit).walk(amount * base_unit)
    assert float(scaled.proceeds) == pytest.approx(float(plain.proceeds) * quote_unit, rel=1e-9)
    assert float(scaled.price) == pytest.approx(float(plain.price) * quote_unit / base_unit, rel=1e-9)


@given(
    st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=9, unique=True),
    st.lists(st.sampled_from([0.0, 1.0, 7.3, 1e6]), min_size=8, max_size=8),
    st.floats(0, 1e9),
)
def test_proceeds_of_one_sale_are_those_of_the_walk(roots: list[float], liquidity: list[float], amount: float) -> None:
    curve = steps_depth(sorted(roots, reverse=True), liquidity[: len(roots) - 1])
    for sold in (amount, *curve.base.tolist()):
        assert curve.proceeds_of(sold) == float(curve.walk(sold).proceeds)


class ExactBook:
    """A step book in fractions, sold order by order: base = l * (1/u' - 1/u), quote = l * (u - u')."""

    def __init__(self, roots: list[float], liquidity: list[float]) -> None:
        self.steps = [
            (Fraction(a), Fraction(b), Fraction(x)) for (a, b), x in zip(pairwise(roots), liquidity, strict=True)
        ]
        self.root = Fraction(roots[0])

    def sell(self, units: Fraction) -> Fraction:
        paid = Fraction(0)
        for top, end, liquidity in self.steps:
            near = min(top, self.root)
            if not liquidity or near <= end or not units:
                continue
            room = liquidity * (1 / end - 1 / near) if end else units + 1
            far = end if room <= units else 1 / (1 / near + units / liquidity)
            paid, units, self.root = paid + liquidity * (near - far), units - min(units, room), far
        return paid


@settings(max_examples=100)
@given(
    st.lists(st.floats(0.5, 2.0), min_size=2, max_size=8, unique=True),
    st.lists(st.sampled_from([0.0, 3e5, 1e6, 7.7e6]), min_size=7, max_size=7),
    st.floats(0.0, 0.999),
    st.floats(1.0, 10.0),
    st.integers(0, 13),
    st.booleans(),
)
def test_a_sale_behind_a_larger_one_is_that_of_a_big_number_walk(
    roots: list[float], liquidity: list[float], before: float, digit: float, power: int, endless: bool
) -> None:
    """Down to 1e-12 of what is sold already; the difference of two walks from the start keeps four digits there."""
    roots = sorted(roots, reverse=True) + [0.0] * endless
    liquidity = [*liquidity[: len(roots) - 2], 1e6]
    curve = steps_depth(roots, liquidity)
    whole = float(curve.base[-1] if np.isfinite(curve.base[-1]) else 2 * curve.base[-2] + 1e6)
    sold = before * whole
    units = digit * 10.0**-power * max(sold, 1.0)
    exact = ExactBook(roots, liquidity)
    exact.sell(Fraction(sold))
    left = curve.after(sold)
    room = float(left.base[-1])
    if abs(room - units) < 1e-9 * whole:  # a pool's end
        return
    paid = float(exact.sell(Fraction(units)))
    assert left.proceeds_of(units) == pytest.approx(paid, rel=1e-9)
    assert left.root_after(units) == pytest.approx(float(exact.root), rel=1e-12)


def test_the_difference_of_two_long_walks_was_the_wrong_one() -> None:
    """A pool of 1e12 tokens; 3e11 are sold, then 1e-1: the old form is off by 1e-4, the new one by the last bit."""
    curve = constant_product_depth(1e12, 1e15, 0.003)
    sold, units = 3.3e11, 0.1
    x, y, net = Fraction(10**12), Fraction(10**15), 1 - Fraction(0.003)
    paid = y * (
        1 / (1 + net * Fraction(sold) / x) - 1 / (1 + net * Fraction(sold + 0.0) / x + net * Fraction(units) / x)
    )
    assert curve.after(sold).proceeds_of(units) == pytest.approx(float(paid), rel=1e-14)
    assert curve.proceeds_of(sold + units) - curve.proceeds_of(sold) != pytest.approx(float(paid), rel=1e-5)


V2Orders = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6)


@given(st.floats(1, 1e6), st.floats(1, 1e6), st.floats(0.0, 0.1), V2Orders, st.integers(1, 3))
def test_a_fee_that_stays_in_the_reserves_pays_order_by_order_what_the_pair_pays(
    x: float, y: float, fee: float, orders: list[float], pools: int
) -> None:
    """UniswapV2Pair in fractions, alone and several merged."""
    curve = merge(constant_product_depth(x, y, fee, fee_stays=True) for _ in range(pools)).scaled(1.0, 2.0)
    base, quote = Fraction(x), Fraction(y)
    for sold in orders:
        net = (1 - Fraction(fee)) * Fraction(sold)
        paid = quote * net / (base + net)
        base, quote = base + Fraction(sold), quote - paid
        assert curve.proceeds_of(pools * sold) == pytest.approx(2 * pools * float(paid), rel=1e-9)
        curve = curve.after(pools * sold)


def test_the_second_hundred_into_a_pool_of_a_hundred() -> None:
    """x = y = 100, 30 bp: the pair pays 49.9249 and then 16.6583, a v3 range 16.6750."""
    v2, v3 = (constant_product_depth(100, 100, 0.003, fee_stays=stays) for stays in (True, False))
    assert v2.proceeds_of(100) == v3.proceeds_of(100) == pytest.approx(49.9249, abs=5e-5)
    assert v2.after(100).proceeds_of(100) == pytest.approx(16.6583, abs=5e-5)
    assert v3.after(100).proceeds_of(100) == pytest.approx(16.6750, abs=5e-5)
    mixed = merge([v2, v3]).after(200)
    assert mixed.price == v3.after(100).price  # the v2 pool stands lower, its fee being in its reserve
    assert mixed.proceeds_of(200) == pytest.approx(merge([v2.after(100), v3.after(100)]).proceeds_of(200), rel=1e-12)


def test_gap_in_the_book_costs_price_and_holds_nothing() -> None:
    book = steps_depth([1.1, 1.0, 0.9, 0.8], [50, 0, 70])
    edge = float(book.base[1])
    assert book.base[2] == edge
    assert book.walk(edge * 0.999999).price == pytest.approx(1.0, rel=1e-5)
    assert book.walk(edge * 1.000001).price == pytest.approx(0.81, rel=1e-5)


def test_drained_and_absent_pools_are_labelled() -> None:
    sale = constant_product_sale([1.0, 1.0], [0.0, 10.0], [5.0, 10.0])
    assert sale.drained.tolist() == [True, False]
    assert np.isnan(sale.price[0])
    assert sale.out[0] == 0
    for empty in (NO_DEPTH, constant_product_depth(0, 5), merge([]), steps_depth([2, 1], [0])):
        walked = empty.walk([0.0, 3.0])
        assert walked.exhausted.tolist() == [False, True]
        assert walked.unfilled.tolist() == [0.0, 3.0]
        assert np.isnan(walked.price).all()
        assert np.isnan(empty.base_for(1.0))
        assert np.isnan(empty.price)
    assert np.isnan(constant_product_depth(5, 5).base_for(5.0))


@given(st.floats(1, 1e6), st.floats(0.01, 1e4), st.floats(0.001, 0.2))
def test_liquidation_optimum_of_theorem_4(x: float, price: float, bonus: float) -> None:
    """Profit y*c/(x+c) - c*p/(1+b) is zero at c = b*x and greatest at x(sqrt(1+b)-1), where the price is p/(1+b)."""

    def profit(c: float) -> float:
        return float(constant_product_sale(c, x, x * price).out) - c * price / (1 + bonus)

    limit, best = float(profitable_liquidation_limit(x, bonus)), float(best_liquidation_size(x, bonus))
    assert profit(limit) == pytest.approx(0, abs=1e-9 * x * price)
    assert profit(best) >= max(profit(best * 0.99), profit(best * 1.01), 0)
    assert float(constant_product_sale(best, x, x * price).price) == pytest.approx(price / (1 + bonus), rel=1e-12)


@pytest.mark.parametrize(
    "call",
    [
        lambda: v2_amount_out(1, 0, 5),
        lambda: v2_amount_in(5, 5, 5),
        lambda: constant_product_sale(-1, 1, 1),
        lambda: constant_product_sale(float("nan"), 1, 1),
        lambda: constant_product_sale(1, float("inf"), 1),
        lambda: constant_product_sale(1, 1, 1, 1.5),
        lambda: constant_product_depth(1, 1, 1),
        lambda: some_book().walk([1, -1]),
        lambda: some_book().walk(float("inf")),
        lambda: steps_depth([1, 2], [1]),
        lambda: merged_reserves([1, 1], [1, 2]),
        lambda: some_book().scaled(0, 1),
    ],
)
def test_bad_input_is_refused(call: object) -> None:
    with pytest.raises(DomainError):
        call()  # type: ignore[operator]
