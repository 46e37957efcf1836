"""Balancer weighted pools and Curve's crypto pool: 60-digit powers, an independent simulation, derivatives, limits."""

from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from aggregator.core.errors import DomainError
from aggregator.quant.amm import constant_product_sale
from aggregator.quant.balancer import (
    ONE,
    exp_fixed,
    pow_down,
    pow_fixed,
    pow_up,
    weighted_amount_in,
    weighted_amount_out,
    weighted_depth,
    weighted_invariant,
    weighted_sale,
)
from aggregator.quant.crypto_curve import crypto_d, crypto_sale
from aggregator.quant.curve_crypto import (
    CryptoPool,
    crypto_amount_out,
    crypto_balance,
    crypto_fee,
    crypto_invariant,
)

# curvefi/curve-crypto-contract d7d04cd tests/simulation_int_many.py (the authors' Python): ANN, gamma, x, D, y after
# 10 % more of coin 0.  It stops Newton by other rules than the contract: equal to 1e-14.
AUTHORS = [
    (5400000, 20000000000000, (10**24, 9 * 10**23), 1897939203430592450614098, 817616005206337983611770),
    (400000, 145000000000000, (10**24, 3 * 10**24), 3472674648599367413601404, 2728958256881589505455937),
    (20000000, 10**16, (5 * 10**22, 10**22), 52360772141504439556897, 8670123552509890347929),
]


@given(st.integers(-40 * ONE, 100 * ONE))
def test_fixed_exponential_within_the_published_error(x: int) -> None:
    """LogExpMath promises 18 decimals; the whole part multiplies the 20-decimal series."""
    with mpmath.workdps(80):
        ideal = mpmath.exp(mpmath.mpf(x) / ONE) * ONE
        assert abs(exp_fixed(x) - ideal) <= ideal * mpmath.mpf("1e-17") * 3 + 2


@given(st.integers(10**14, 10**22), st.integers(10**16, 4 * ONE))
@example(10**14, 2 * ONE)
@example(21143223963038443, ONE)  # more digits than a float has
@example(21143223963038441, ONE)
def test_fixed_powers_bracket_the_true_power(x: int, y: int) -> None:
    with mpmath.workdps(80):
        ideal = (mpmath.mpf(x) / ONE) ** (mpmath.mpf(y) / ONE) * ONE
        assume(ideal > 10)
        rounded = ideal * mpmath.mpf("1e-70")  # whole powers are exact in the contract and not in 80 digits
        assert pow_down(x, y) <= ideal + rounded
        assert pow_up(x, y) >= ideal - rounded
        # FixedPoint.MAX_POW_RELATIVE_ERROR = 1e-14 either side
        assert pow_up(x, y) - pow_down(x, y) <= ideal * mpmath.mpf("4.1e-14") + 6


@pytest.mark.parametrize("y", [ONE, 2 * ONE, 4 * ONE])
def test_whole_powers_are_products(y: int) -> None:
    x = 1234567890123456789
    ideal = Fraction(x ** (y // ONE), ONE ** (y // ONE - 1))
    assert pow_down(x, y) <= ideal <= pow_up(x, y)
    assert pow_up(x, y) - pow_down(x, y) <= 6
    assert pow_fixed(x, 0) == ONE
    assert pow_fixed(0, y) == 0


weighted = st.tuples(
    st.integers(10**18, 10**26), st.integers(10**18, 10**26), st.integers(1, 99), st.floats(1e-6, 0.299)
)


@given(weighted)
def test_weighted_swap_never_pays_more_than_the_formula(pool: tuple[int, int, int, float]) -> None:
    x, y, percent, share = pool
    w_in, w_out, a = percent * ONE // 100, (100 - percent) * ONE // 100, int(share * x)
    with mpmath.workdps(60):
        ideal = y * (1 - (mpmath.mpf(x) / (x + a)) ** (mpmath.mpf(w_in) / w_out))
    out = weighted_amount_out(a, x, w_in, y, w_out)
    assert out <= ideal
    # the power is taken 2e-14 too high, the base is rounded up by 1e-18, the exponent down
    assert out >= ideal - y * mpmath.mpf("3e-14") * max(1, percent / (100 - percent)) - 2
    array = weighted_sale(float(a), float(x), float(y), percent / (100 - percent))
    assert float(array.out) == pytest.approx(float(ideal), rel=1e-12)
    if 0 < out <= 0.29 * y:
        assert weighted_amount_in(out, x, w_in, y, w_out) >= a * (1 - 1e-6) - 2


@given(weighted)
def test_equal_weights_are_a_constant_product(pool: tuple[int, int, int, float]) -> None:
    x, y, _, share = pool
    even = weighted_sale(share * x, float(x), float(y), 1.0, 0.003)
    plain = constant_product_sale(share * x, float(x), float(y), 0.003)
    assert float(even.out) == pytest.approx(float(plain.out), rel=1e-13)
    assert float(even.price) == pytest.approx(float(plain.price), rel=1e-13)


def test_weighted_invariant_and_its_growth() -> None:
    """WeightedMath.test.ts inputs: 10^0.3 * 12^0.7 and three tokens; a swap never lowers the invariant."""
    for balances, weights in (([10, 12], [0.3, 0.7]), ([10, 12, 14], [0.3, 0.2, 0.5])):
        ideal = float(np.prod(np.array(balances) ** np.array(weights)))
        fixed = weighted_invariant([b * ONE for b in balances], [int(w * 100) * ONE // 100 for w in weights])
        assert fixed / ONE == pytest.approx(ideal, rel=1e-13)
        assert fixed / ONE <= ideal
    out = weighted_amount_out(15 * ONE, 100 * ONE, 50 * ONE, 100 * ONE, 40 * ONE)
    assert out / ONE == pytest.approx(100 * (1 - (100 / 115) ** 1.25), rel=1e-12)


def test_weighted_book_follows_the_pool() -> None:
    book = weighted_depth(100.0, 300.0, 4.0, 0.002)
    sizes = 100 * np.geomspace(1e-5, 900, 400)
    sale = weighted_sale(sizes, 100.0, 300.0, 4.0, 0.002)
    np.testing.assert_allclose(book.walk(sizes).proceeds, sale.out, rtol=1e-5)
    assert book.price == pytest.approx(0.998 * 4 * 3, rel=1e-12)
    assert weighted_depth(0.0, 3.0, 1.0).walk(1.0).exhausted


@pytest.mark.parametrize(("ann", "gamma", "x", "d", "y"), AUTHORS)
def test_crypto_against_the_authors_simulation(ann: int, gamma: int, x: tuple[int, int], d: int, y: int) -> None:
    assert crypto_invariant(ann, gamma, x) == pytest.approx(d, rel=1e-14)
    assert crypto_balance(ann, gamma, (x[0] * 11 // 10, x[1]), d, 1) == pytest.approx(y, rel=1e-14)
    amp, gam = ann / 1e4, gamma / 1e18
    assert float(crypto_d(float(x[0]), float(x[1]), amp, gam)) == pytest.approx(d, rel=1e-14)
    sale = crypto_sale(0.1 * x[0], float(x[0]), float(x[1]), 1.0, amp, gam, invariant=float(d))
    assert x[1] - float(sale.out) == pytest.approx(y, rel=1e-14)


@given(st.floats(4.0, 7.5), st.floats(11.0, 16.0), st.floats(-0.6, 0.6), st.floats(1e-3, 0.5))
def test_crypto_invariant_solves_its_equation(log_ann: float, log_gamma: float, tilt: float, share: float) -> None:
    """Equation (1) in 60 digits at the integers that the contract arithmetic finds."""
    ann, gamma = int(10**log_ann), int(10**log_gamma)
    x = (10**24, int(10 ** (24 + tilt)))

    def residual(a: int, b: int, d: int) -> float:
        with mpmath.workdps(60):
            k0 = mpmath.mpf(4) * a * b / mpmath.mpf(d) ** 2
            k = mpmath.mpf(ann) / 40000 * k0 * (mpmath.mpf(gamma) / (gamma + ONE - k0 * ONE)) ** 2
            left = k * d * (a + b) + mpmath.mpf(a) * b
            return float(abs(left / (k * mpmath.mpf(d) ** 2 + mpmath.mpf(d) ** 2 / 4) - 1))

    d = crypto_invariant(ann, gamma, x)
    assert residual(*x, d) < 1e-12
    sold = x[0] + int(share * x[0])
    assert residual(sold, crypto_balance(ann, gamma, (sold, x[1]), d, 1), d) < 1e-12


@pytest.mark.parametrize("third", [None, 9e5])
def test_crypto_price_is_the_derivative(third: float | None) -> None:
    for size in (1e3, 1e5, 6e5):
        h = size * 1e-4
        three = crypto_sale([size - h, size, size + h], 1e6, 8e5, 0.75, 540.0, 2e-5, third=third)
        assert (three.out[2] - three.out[0]) / (2 * h) == pytest.approx(float(three.price[1]), rel=1e-6)


def test_crypto_swap_with_decimals_scale_and_dynamic_fee() -> None:
    """Six-decimal coin 0, price scale 2000 of coin 0 per coin 1: integer and array forms agree on both directions."""
    usd, eth, scale = 2_100_000 * 10**6, 1000 * 10**18, 2000 * 10**18
    ann, gamma = 5400000, 20000000000000
    d = crypto_invariant(ann, gamma, (usd * 10**12, eth * scale // 10**18))
    pool = CryptoPool((usd, eth), (10**12, 1), scale, d, ann, gamma, 26000000, 45000000, 230000000000000)
    fees = (26e-4, 45e-4, 230000000000000 / 1e18)
    sell_eth = crypto_amount_out(pool, 1, 50 * 10**18)
    ours = crypto_sale(50.0, 1000.0, 2.1e6, 2000.0, ann / 1e4, gamma / 1e18, fees)
    assert sell_eth / 1e6 == pytest.approx(float(ours.out), rel=1e-9)
    # in coin-1 units for the other direction: scale 1/2000
    sell_usd = crypto_amount_out(pool, 0, 10**5 * 10**6)
    back = crypto_sale(1e5, 2.1e6, 1000.0, 1 / 2000.0, ann / 1e4, gamma / 1e18, fees)
    assert sell_usd / 1e18 == pytest.approx(float(back.out), rel=1e-9)
    assert 26000000 <= crypto_fee(pool, (usd * 10**12, 2 * 10**24)) <= 45000000
    assert crypto_fee(pool, (10**24, 10**24)) == 26000000


def test_bad_input_is_labelled_or_refused() -> None:
    sale = crypto_sale([1.0, 1.0], [0.0, 5.0], 5.0, 1.0, 100.0, 1e-4)
    assert sale.drained.tolist() == [True, False]
    assert np.isnan(sale.price[0])
    assert weighted_sale(1.0, 0.0, 5.0, 1.0).drained
    for call in (
        lambda: weighted_amount_out(31, 100, ONE, 100, ONE),
        lambda: weighted_amount_in(31, 100, ONE, 100, ONE),
        lambda: weighted_amount_out(1, 0, ONE, 100, ONE),
        lambda: exp_fixed(131 * ONE),
        lambda: pow_fixed(10**40, 4 * ONE),
        lambda: weighted_sale(-1, 1, 1, 1),
        lambda: crypto_invariant(1, 10**12, (10**24, 10**24)),
        lambda: crypto_invariant(10**6, 10**12, (10**24, 10**10)),
        lambda: crypto_balance(10**6, 10**12, (10**24, 10**24), 10**10, 0),
        lambda: crypto_sale(1, 1, 1, 1, 0.0, 1e-4),
    ):
        with pytest.raises(DomainError):
            call()
