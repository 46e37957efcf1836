"""Odd input to pools, books and impact: a label or an error that names the element; never a warning, never a payout."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.core.errors import DomainError
from aggregator.quant import amm, balancer, crypto_curve, depth, impact, stable_curve, stableswap
from aggregator.quant.curve_crypto import (
    CryptoPool,
    crypto_amount_out,
    crypto_balance,
    crypto_fee,
    crypto_invariant,
    geometric_mean,
)
from aggregator.quant.uniswap_v3 import Pool, fee_growth_inside, fees_owed, position_amounts, swap
from aggregator.quant.uniswap_v3_math import Q96, sqrt_at_tick
from tests.quant.odd import (
    Form,
    assert_broadcasts,
    assert_misfits_refused,
    assert_only_numbers,
    assert_refused_by_index,
    figures,
)

BOOK = depth.constant_product_depth(100.0, 101.0, 0.003)


def three_coins(amount: object, balance: object, amplification: object, fee_frac: object) -> amm.PoolSale:
    held = np.asarray(balance)[..., None] * np.array([1.0, 2.0, 3.0])
    return stable_curve.stable_sale(amount, held, amplification, 0, 1, fee_frac)


ARRAY_FORMS: dict[str, Form] = {
    "constant product": (amm.constant_product_sale, {"amount": 1, "base": 10, "quote": 20, "fee_frac": 0.003}),
    "limit": (amm.profitable_liquidation_limit, {"base": 10, "bonus_frac": 0.1}),
    "optimum": (amm.best_liquidation_size, {"base": 10, "bonus_frac": 0.1}),
    "weighted": (
        balancer.weighted_sale,
        {"amount": 1, "base": 10, "quote": 20, "weight_ratio": 4, "fee_frac": 0.003},
    ),
    "stable": (three_coins, {"amount": 1, "balance": 10, "amplification": 100, "fee_frac": 0.003}),
    "crypto d": (crypto_curve.crypto_d, {"x": 10, "y": 12, "amplification": 100, "gamma": 1e-4}),
    "crypto": (
        crypto_curve.crypto_sale,
        {"amount": 1, "base": 10, "quote": 12, "price_scale": 1.1, "amplification": 100, "gamma": 1e-4},
    ),
    "crypto of three": (
        crypto_curve.crypto_sale,
        {"amount": 1, "base": 10, "quote": 12, "price_scale": 1.1, "amplification": 100, "gamma": 1e-4, "third": 9},
    ),
    "walk": (BOOK.walk, {"amount": 5}),
    "to price": (BOOK.base_to_price, {"price": 0.5}),
    "for proceeds": (BOOK.base_for, {"proceeds": 5}),
    "linear": (impact.linear_impact, {"quantity": 5, "depth": 100}),
    "exponential": (impact.exponential_impact, {"quantity": 5, "depth": 100, "floor_frac": 0.2}),
    "square root": (impact.square_root_impact, {"quantity": 5, "volume": 100, "sigma": 0.1}),
    "depth": (impact.market_depth, {"volume": 5, "sigma": 0.1, "horizon": 1}),
}
CASES = [(form, name) for form, (_, inputs) in ARRAY_FORMS.items() for name in inputs]


@pytest.mark.parametrize(("form", "name"), CASES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_element_that_is_no_number_is_refused_by_its_index(form: str, name: str, bad: float) -> None:
    assert_refused_by_index(ARRAY_FORMS[form], name, bad, r"\[2")


@pytest.mark.parametrize(("form", "name"), CASES)
@pytest.mark.parametrize("size", [0.0, 1e300, 1e-300])
def test_nothing_and_absurd_sizes_are_labelled_or_refused_and_never_warn(form: str, name: str, size: float) -> None:
    function, inputs = ARRAY_FORMS[form]
    try:
        found = function(**{**inputs, name: size})
    except DomainError:
        return
    if isinstance(found, amm.PoolSale):
        assert bool(found.drained) == bool(np.isnan(found.price))
        assert found.out >= 0
        assert found.out == 0 or not found.drained
    else:
        assert all(np.all(np.isfinite(x)) for x in figures(found)) or (form, name, size) in (
            ("to price", "price", 0.0),  # a constant product sells without end
            ("for proceeds", "proceeds", 1e300),  # and never pays its last unit: NaN, as documented
            ("crypto d", "x", 0.0),
            ("crypto d", "y", 0.0),
        )


@pytest.mark.parametrize("form", ARRAY_FORMS)
def test_shapes_dtypes_and_read_only_arrays(form: str) -> None:
    names = list(ARRAY_FORMS[form][1])
    first, last = names[0], names[-1]
    assert_broadcasts(ARRAY_FORMS[form], first)
    if form != "stable":
        assert_only_numbers(ARRAY_FORMS[form], first)
    if first != last:
        assert_misfits_refused(ARRAY_FORMS[form], first, last)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: amm.constant_product_sale(1, 10, 10, [0.0, 1.0]), r"fee_frac\[1\]"),
        (lambda: balancer.weighted_sale(1, 10, 10, 1.0, -0.1), "fee_frac"),
        (lambda: balancer.weighted_sale(1, 10, 10, 0.0), "weight_ratio"),
        (lambda: balancer.weighted_depth(10, 10, 1.0, reach=0.0), "reach"),
        (lambda: balancer.weighted_invariant([10**18] * 2, [5 * 10**17, 4 * 10**17]), "summing"),
        (lambda: balancer.weighted_invariant([10**18], [5 * 10**17, 5 * 10**17]), "summing"),
        (lambda: stable_curve.stable_sale(1.0, [5.0, 5.0], 100, 0, 1, 2.0), "fee_frac"),
        (lambda: stable_curve.stable_sale(1.0, [5.0, 5.0], [100, 0.5], 0, 1), r"amplification\[1\]"),
        (lambda: stable_curve.stable_depth([[5.0, 5.0]], 100, 0, 1), "one pool"),
        (lambda: stable_curve.stable_depth([5.0, 0.0], 100, 0, 2), "coins"),
        (lambda: stable_curve.stable_depth([5.0, 5.0], 100, 0, 1, reach=np.inf), "reach"),
        (lambda: crypto_curve.crypto_sale(1, 10, 12, 1.1, 100, 1e-4, invariant=0.0), "invariant"),
        (lambda: crypto_curve.crypto_sale(1, 10, 12, 1.1, 100, 1e-4, fees=(0.0, 2.0, 1.0)), "fees"),
        (lambda: crypto_curve.crypto_sale(1, 10, 12, 1.1, 100, 1e-4, fees=(0.0, 0.0, 0.0)), "fees"),
        (lambda: amm.merged_reserves([10.0, 0.0], [20.0, 5.0]), r"base\[1\]"),
        (lambda: BOOK.base_to_price(-1.0), "price"),
        (lambda: depth.steps_depth([2.0, 1.5, 1.6], [1.0, 1.0]), r"root\[1\]"),
        (lambda: depth.steps_depth(2.0, 1.0), "roots"),
        (lambda: geometric_mean((0, 0)), "drained"),
        (lambda: position_amounts(Q96, -60, 60, -1), "position"),
        (lambda: position_amounts(0, -60, 60, 1), "position"),
        (lambda: Pool(Q96, 0, 1, 3000, 60, (-60, 61), (1, -1)), r"ticks\[1\]"),
        (lambda: Pool(Q96, 0, 1, 3000, 60, (-887280, 60), (1, -1)), r"ticks\[0\]"),
        (lambda: Pool(Q96, 1, 1, 3000, 60, (-60, 60), (1, -1)), "price and tick"),
        (lambda: Pool(0, 0, 0, 3000, 60, (), ()), "initialised"),
    ],
)
def test_what_no_pool_can_be_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(DomainError, match=message):
        call()


def test_crypto_terms_that_divide_by_zero_are_refused() -> None:
    pool = CryptoPool((10**24, 10**24), (1, 1), 10**18, 2 * 10**24, 5400000, 2 * 10**13, 26 * 10**6, 45 * 10**6, 10**14)
    assert crypto_amount_out(pool, 0, 10**20) > 0
    for change in ({"price_scale": 0}, {"precisions": (1, 0)}, {"fee_gamma": 0}, {"out_fee": 10**10}):
        with pytest.raises(DomainError):
            crypto_amount_out(pool._replace(**change), 0, 10**20)
    with pytest.raises(DomainError):
        crypto_fee(pool, (0, 0))


WAD = 10**18
SMALL = np.int64(10**12)
POOL = Pool(Q96, 0, WAD, 3000, 60, (-120, 120), (WAD, -WAD))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: amm.v2_amount_out(SMALL, 10**12, 10**12), "amount_raw"),
        (lambda: amm.v2_amount_in(10.0, 10**12, 10**12), "amount_raw"),  # type: ignore[arg-type]
        (lambda: swap(POOL, SMALL, True), "amount_raw"),
        (lambda: Pool(Q96, 0, WAD, 3000, 60, (np.int32(-120), 120), (WAD, -WAD)), r"ticks\[0\]"),
        (lambda: Pool(Q96, 0, float(WAD), 3000, 60, (), ()), "liquidity"),  # type: ignore[arg-type]
        (lambda: position_amounts(Q96, -60, 60, SMALL), "liquidity"),
        (lambda: fees_owed(SMALL, 1 << 130, 0), "liquidity"),
        (lambda: fee_growth_inside(0, -60, 60, 1 << 130, SMALL, 0), "lower_x128"),
        (lambda: stableswap.curve_invariant([10**24, SMALL], 100), r"balances\[1\]"),
        (lambda: stableswap.curve_amount_out(0, 1, SMALL, [10**24] * 2, [WAD] * 2, 100, 0), "amount_in_raw"),
        (lambda: stableswap.balancer_stable_amount_out(0, 1, SMALL, [10**24] * 2, 10**5), "amount"),
        (lambda: balancer.weighted_amount_out(SMALL, WAD, WAD, WAD, WAD), "amount"),
        (lambda: balancer.pow_up(SMALL, WAD), "x"),
        (lambda: balancer.exp_fixed(0.5), "x"),  # type: ignore[arg-type]
        (lambda: geometric_mean((SMALL, 5)), r"x\[0\]"),
        (lambda: crypto_invariant(4 * 10**5, 10**14, (10**24, float(10**24))), r"balances\[1\]"),  # type: ignore[arg-type]
        (lambda: crypto_balance(np.int64(4 * 10**5), 10**14, (10**24, 10**24), 2 * 10**24, 0), "ann"),
    ],
)
def test_integer_forms_take_exact_integers_only(call: Callable[[], object], name: str) -> None:
    """numpy's int64 wraps: 1e12 * 997 * 1e12 came out as another number, some of them without a warning."""
    with pytest.raises(DomainError, match=rf"^{name} is not an exact integer"):
        call()


def test_empty_pools_merge_to_an_empty_pool() -> None:
    assert amm.merged_reserves([0.0, 10.0], [0.0, 20.0]) == (10.0, 20.0)
    assert amm.merged_reserves([0.0], [0.0]) == (0.0, 0.0)


@given(st.integers(1, 10**24), st.booleans())
def test_the_pool_after_a_swap_is_a_pool(amount: int, zero_for_one: bool) -> None:
    """Also where the price ends on a tick: the contract keeps the tick below it after a sale of token0."""
    pool = Pool(Q96, 0, 10**18, 3000, 60, (-120, 120), (10**18, -(10**18)))
    for limit in (None, sqrt_at_tick(-60 if zero_for_one else 60), sqrt_at_tick(-120 if zero_for_one else 120)):
        done = swap(pool, amount, zero_for_one, limit)
        Pool(done.sqrt_x96, done.tick, done.liquidity, 3000, 60, pool.ticks, pool.liquidity_net).check()
