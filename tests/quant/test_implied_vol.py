"""Implied volatility against 50-digit prices, a bracketing solver, another library, and its own reason codes."""

from __future__ import annotations

import itertools

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aggregator.core.errors import DomainError
from aggregator.quant import black
from aggregator.quant import implied_vol as iv
from aggregator.quant.implied_vol_reference import total_vol

# Undiscounted out-of-the-money Black-76 prices from 50-digit arithmetic at F = 100, T = 1: K, price, volatility.
# A call where K >= F, else a put; py_lets_be_rational recovers each to 1.1e-15.
FIFTY_DIGITS = [
    (95, 0.003191608847171133, 0.02),
    (95, 1.8880632480607265, 0.1),
    (95, 9.293649102263297, 0.3),
    (95, 34.88031405522441, 1.0),
    (95, 74.40766196617201, 2.5),
    (100, 0.7978712629263207, 0.02),
    (100, 3.9877611676744924, 0.1),
    (100, 11.923538474048502, 0.3),
    (100, 38.29249225480262, 1.0),
    (100, 78.87004526662895, 2.5),
    (105, 0.004946019467194994, 0.02),
    (105, 2.064019137898835, 0.1),
    (105, 9.881655682215348, 0.3),
    (105, 36.792737228219956, 1.0),
    (105, 78.35070715241777, 2.5),
    (150, 1.3316709837567024e-92, 0.02),
    (150, 6.851253473432527e-05, 0.1),
    (150, 1.48589382982029, 0.3),
    (150, 26.374358910898668, 1.0),
    (150, 74.32399848982543, 2.5),
]


def exact_price(sign: int, F: float, K: float, total: object) -> mpmath.mpf:
    x = mpmath.log(mpmath.mpf(F) / K)
    upper, lower = (mpmath.ncdf(sign * (x / total + half * total)) for half in (mpmath.mpf("0.5"), -mpmath.mpf("0.5")))
    return sign * (F * upper - K * lower)


def test_fifty_digit_prices_are_inverted_to_1e_12() -> None:
    K, prices, vols = np.array(FIFTY_DIGITS).T
    found = iv.implied_vol(K >= 100, prices, 100.0, K, 1.0)
    assert np.all(found.status == iv.OK)
    assert np.max(np.abs(found.sigma / vols - 1)) < 1e-13


@pytest.mark.parametrize("x", [0, 1e-14, 1e-7, 1e-4, 0.01, 0.2, 0.49, 0.51, 1.0, 3.0])
def test_the_whole_range_from_a_billionth_to_nine(x: float) -> None:
    for s in (1e-8, 1e-5, 1e-3, 0.05, 0.199, 0.201, 0.6, 2.0, 4.0, 7.0, 9.0):
        with mpmath.workdps(50):
            K = float(100 * mpmath.exp(x))
            price = float(exact_price(1, 100.0, K, mpmath.mpf(s)))
        if price < 1e-300:
            continue
        found = iv.implied_vol("call", price, 100.0, K, 1.0)
        assert found.status == iv.OK
        # near the bound the rounding of the price itself moves the answer: `error` says by how much
        assert abs(float(found.sigma) - s) <= max(2 * float(found.error), 1e-13 * s), (x, s)


def test_no_silent_failure_on_tiny_time_values_of_a_3000_underlying() -> None:
    checked = labelled = 0
    for kind, moneyness, target in itertools.product((1, -1), (0.5, 0.8, 0.95, 1.0, 1.05, 1.25, 2.0), range(-8, 3)):
        F, T, value = 3000.0, 30 / 365, 10.0**target
        K = F * moneyness
        intrinsic = max(kind * (F - K), 0.0)
        quote = intrinsic + value  # rounded to float64, as a venue's price is
        found = iv.implied_vol(kind, quote, F, K, T)
        assert found.status in (iv.OK, iv.IMPRECISE)
        # the 40-digit price brackets exactly the rounded quote: the root lies within 1e-11
        with mpmath.workdps(40):
            goal = mpmath.mpf(quote) - intrinsic
            total = mpmath.mpf(float(found.sigma)) * mpmath.sqrt(mpmath.mpf(T))
            below, above = (exact_price(1 if K >= F else -1, F, K, total * (1 + e)) for e in (-1e-11, 1e-11))
        assert below < goal < above
        checked += 1
        labelled += int(found.status == iv.IMPRECISE)
        if found.status == iv.OK:
            assert found.error <= 1e-8
    assert checked == 154
    # deep in the money, 1e-8 is below what the last digit of the quote can carry: labelled, not hidden
    assert labelled > 0


# Out-of-the-money quotes at F = 3000, T = 30/365: K, kind, price, what fast-vollib 0.2.4 (numpy backend) answers.
# It stops once the price is within an absolute tolerance, with no word about the volatility.
FAST_VOLLIB = [
    (4500.0, "c", 1e-8, 0.22160738),
    (4500.0, "c", 1e-6, 0.24042451),
    (1500.0, "p", 1e-8, 0.34413456),
    (1500.0, "p", 1e-6, 0.34414629),
    (6000.0, "c", 1e-6, 0.34414617),
    (3150.0, "c", 1e-8, 0.02565949),
    (2850.0, "p", 1e-8, 0.02657628),
]


@pytest.mark.parametrize(("K", "kind", "price", "theirs"), FAST_VOLLIB)
def test_tiny_time_values_where_a_fast_library_is_silently_wrong(
    K: float, kind: str, price: float, theirs: float
) -> None:
    F, T = 3000.0, 30 / 365
    found = iv.implied_vol(kind, price, F, K, T)
    assert found.status == iv.OK
    with mpmath.workdps(40):
        ours, other = (
            float(exact_price(1 if kind == "c" else -1, F, K, mpmath.mpf(vol) * mpmath.sqrt(mpmath.mpf(T))) / price)
            for vol in (float(found.sigma), theirs)
        )
    # repriced in 40 digits, ours is the quote; theirs is worth a small part of it, up to ten volatility points away
    assert ours == pytest.approx(1.0, abs=1e-11)
    assert other < 0.6
    assert abs(found.sigma - theirs) > 0.003


def test_another_library_agrees_down_to_a_time_value_of_1e_8() -> None:
    from vollib.black.implied_volatility import implied_volatility as vollib_iv

    F, T = 3000.0, 30 / 365
    for K, kind in ((4500.0, "c"), (6000.0, "c"), (3150.0, "c"), (1500.0, "p"), (2850.0, "p")):
        for price in (1e-8, 1e-6, 1e-4, 1e-2, 1.0):
            ours = iv.implied_vol(kind, price, F, K, T).sigma
            assert ours == pytest.approx(vollib_iv(price, F, K, 0.0, T, kind), abs=1e-8)


@given(
    st.sampled_from([1, -1]),
    st.floats(-3, 3),
    st.floats(0.001, 3.0),
    st.floats(0.02, 3.0),
    st.floats(1e-6, 1e6),
    st.floats(-0.1, 0.2),
)
def test_round_trip(kind: int, deviations: float, T: float, sigma: float, F: float, r: float) -> None:
    K = F * np.exp(deviations * sigma * np.sqrt(T))
    price = black.black76_price(kind, F, K, T, sigma, r)
    found = iv.implied_vol(kind, price, F, K, T, np.exp(-r * T))
    assume(found.status == iv.OK)
    # the forward formula loses up to a few units in the last place of F and K
    vega = black.black76_greeks(kind, F, K, T, sigma, r).vega
    assert abs(found.sigma - sigma) <= 1e-12 * sigma + 20 * np.spacing(max(F, K)) / vega


@given(st.floats(0.3, 3.0), st.floats(0.05, 2.0), st.floats(0.05, 1.5))
def test_call_and_put_have_one_volatility(moneyness: float, T: float, sigma: float) -> None:
    call, put = black.black76_price([1, -1], 100.0, 100.0 * moneyness, T, sigma)
    found = iv.implied_vol([1, -1], [call, put], 100.0, 100.0 * moneyness, T)
    assume(bool(np.all(found.status == iv.OK)))
    assert found.sigma[0] == pytest.approx(found.sigma[1], abs=2e-7)


def test_every_reason_code() -> None:
    kind = ["c"] * 9
    price = [5.0, np.nan, 5.0, 9.0, 10.0, 100.0, 60 + 1e-11, -1.0, np.inf]
    K = [100.0, 100.0, 100.0, 90.0, 90.0, 90.0, 40.0, 100.0, 100.0]
    T = [0.5, 0.5, 0.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    found = iv.implied_vol(kind, price, 100.0, K, T)
    assert list(found.status) == [
        iv.OK,
        iv.BAD_INPUT,
        iv.EXPIRED,
        iv.BELOW_INTRINSIC,
        iv.NO_TIME_VALUE,
        iv.ABOVE_BOUND,
        iv.IMPRECISE,
        iv.BAD_INPUT,
        iv.BAD_INPUT,
    ]
    assert list(np.isnan(found.sigma)) == [False, True, True, True, True, True, False, True, True]
    assert set(iv.REASONS) == set(range(12))
    for name, value in (("F", 0.0), ("K", -1.0), ("discount", 0.0), ("T_yr", np.nan)):
        inputs = {"price": 5.0, "F": 100.0, "K": 100.0, "T_yr": 0.5, "discount": 1.0, name: value}
        assert iv.implied_vol("c", **inputs).status == iv.BAD_INPUT, name
    with pytest.raises(DomainError):
        iv.implied_vol("x", 1.0, 1.0, 1.0, 1.0)


def test_spot_and_coin_forms() -> None:
    price = black.price("p", 100, 95, 0.5, 0.45, 0.05, 0.02)
    assert iv.implied_vol_spot("p", price, 100, 95, 0.5, 0.05, 0.02).sigma == pytest.approx(0.45, rel=1e-12)
    coin = black.black76_price("c", 60_000, 70_000, 0.1, 0.6) / 60_000
    assert iv.implied_vol_inverse("c", coin, 60_000, 70_000, 0.1).sigma == pytest.approx(0.6, rel=1e-12)


def test_two_sided_quotes() -> None:
    found = iv.quote_vols(
        "c",
        [1.0, 3.0, 0.0, 1.0, 1.0, np.nan, 0.0],
        [2.0, 2.0, 2.0, 2.0, 0.0, 2.0, 0.0],
        100.0,
        110.0,
        0.1,
        age_s=[0, 0, 0, 90, 0, 0, 0],
        max_age_s=60,
    )
    # Deribit writes 0 where there is no ask: a bid of 1 against it is not crossed
    assert list(found.status) == [iv.OK, iv.CROSSED, iv.NO_BID, iv.STALE, iv.NO_ASK, iv.NO_BID, iv.NO_BID]
    assert found.bid[0] < found.mid[0] < found.ask[0]
    assert np.all(np.isnan(found.mid[1:]))


def test_long_columns_give_the_same_bits_as_short_ones() -> None:
    rng = np.random.default_rng(5)
    K = rng.uniform(60, 160, 200_000)
    price = black.black76_price(K >= 100, 100.0, K, 0.3, 0.7)
    whole = iv.implied_vol(K >= 100, price, 100.0, K, 0.3).sigma
    parts = [
        iv.implied_vol(k >= 100, p, 100.0, k, 0.3).sigma
        for k, p in zip(np.array_split(K, 7), np.array_split(price, 7), strict=True)
    ]
    assert np.array_equal(whole, np.concatenate(parts))


def test_compiled_solver_equals_the_numpy_bisection() -> None:
    rng = np.random.default_rng(11)
    sigma, x = rng.uniform(0.1, 2.5, 5000), -rng.uniform(0.02, 2.0, 5000)
    price = black.black76_price("c", 1.0, np.exp(-x), 1.0, sigma)
    found = iv.implied_vol("c", price, 1.0, np.exp(-x), 1.0)
    usable = (found.status == iv.OK) & (price > 1e-12)
    assert np.mean(usable) > 0.9
    slow = total_vol(-np.log(np.exp(-x)), price / np.exp(-0.5 * x))
    assert np.max(np.abs(found.sigma / slow - 1)[usable]) < 1e-12


def random_quotes(n: int, seed: int) -> tuple[np.ndarray, ...]:
    """kind, F, K, T, vol over the whole range: totals from 1e-8 to 10, strikes up to twenty deviations away."""
    rng = np.random.default_rng(seed)
    F, T = 10 ** rng.uniform(-3, 6, n), 10 ** rng.uniform(-5, 1.3, n)
    total = np.where(rng.random(n) < 0.7, 10 ** rng.uniform(-8, 1, n), rng.uniform(0, 5, n))
    K = F * np.exp(np.clip(rng.normal(size=n) * rng.choice([0, 0.01, 1, 3, 8, 20], n) * total, -20, 20))
    return rng.choice([1, -1], n), F, K, T, total / np.sqrt(T)


def check_bound(found: iv.ImpliedVol, vol: np.ndarray) -> None:
    solved = np.isin(found.status, (iv.OK, iv.IMPRECISE))
    assert np.mean(solved) > 0.85
    assert not np.any(found.status == iv.NOT_CONVERGED)
    assert np.all(np.abs(found.sigma - vol)[solved] <= found.error[solved])
    # and the bound is no phrase: it is reached to half somewhere
    assert np.max(np.abs(found.sigma - vol)[solved] / found.error[solved]) > 0.4


def test_stated_error_is_never_exceeded() -> None:
    kind, F, K, T, vol = random_quotes(2500, 3)
    rng = np.random.default_rng(4)
    discount = np.where(rng.random(len(F)) < 0.5, 1.0, np.exp(rng.uniform(-0.5, 0.2, len(F))))
    S, r, q = F * np.exp(-0.03 * T), 0.05, 0.02
    usd, coin, spot = np.empty((3, len(F)))
    with mpmath.workdps(50):
        for i, (w, f, k, t, v) in enumerate(zip(kind, F, K, T, vol, strict=True)):
            total, years = mpmath.mpf(v) * mpmath.sqrt(mpmath.mpf(t)), mpmath.mpf(t)
            value = exact_price(int(w), mpmath.mpf(f), mpmath.mpf(k), total)
            usd[i], coin[i] = value * discount[i], value / mpmath.mpf(f)
            ahead = mpmath.mpf(S[i]) * mpmath.exp((mpmath.mpf(r) - mpmath.mpf(q)) * years)
            spot[i] = exact_price(int(w), ahead, mpmath.mpf(k), total) * mpmath.exp(-mpmath.mpf(r) * years)
    check_bound(iv.implied_vol(kind, usd, F, K, T, discount), vol)
    check_bound(iv.implied_vol_inverse(kind, coin, F, K, T), vol)
    check_bound(iv.implied_vol_spot(kind, spot, S, K, T, r, q), vol)


def test_rounding_of_forward_less_strike_does_not_move_the_answer() -> None:
    F, K, T, vol = 3000.0, 741.6039231349662, 1.9567259231071297, 0.17613947834241486
    with mpmath.workdps(50):
        total = mpmath.mpf(vol) * mpmath.sqrt(mpmath.mpf(T))
        for f in (F, 1000.0, 1234.5678, 1500.0, 1999.99):
            quote = float(exact_price(1, mpmath.mpf(f), mpmath.mpf(K), total))
            found = iv.implied_vol("c", quote, f, K, T)
            assert abs(float(found.sigma) - vol) <= float(found.error)
