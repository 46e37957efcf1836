"""Black-Scholes and Black-76 against Haug's figures, 40-digit derivatives, another library, and laws."""

from __future__ import annotations

import itertools

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.core.errors import DomainError
from aggregator.quant import black, black_reference
from aggregator.quant.margin import margin_book
from aggregator.quant.margin_rules import ScanRules, Scenario
from aggregator.quant.margin_scan import scan

# Haug (1998), as published in QuantLib's European option tests (commit 02f7b8c): kind, S, K, q, r, T, vol, value.
HAUG_PRICES = [
    ("c", 60, 65, 0.0, 0.08, 0.25, 0.30, 2.1334),
    ("p", 100, 95, 0.05, 0.10, 0.5, 0.20, 2.4648),
    ("p", 19, 19, 0.10, 0.10, 0.75, 0.28, 1.7011),
    ("c", 19, 19, 0.10, 0.10, 0.75, 0.28, 1.7011),
    ("c", 1.56, 1.6, 0.08, 0.06, 0.5, 0.12, 0.0291),
    ("p", 75, 70, 0.05, 0.10, 0.5, 0.35, 4.0870),
    ("c", 90, 100, 0.1, 0.1, 0.1, 0.15, 0.0205),
    ("c", 100, 100, 0.1, 0.1, 0.1, 0.15, 1.8734),
    ("c", 110, 100, 0.1, 0.1, 0.1, 0.15, 9.9413),
    ("c", 90, 100, 0.1, 0.1, 0.1, 0.25, 0.3150),
    ("c", 100, 100, 0.1, 0.1, 0.1, 0.25, 3.1217),
    ("c", 110, 100, 0.1, 0.1, 0.1, 0.25, 10.3556),
    ("c", 90, 100, 0.1, 0.1, 0.1, 0.35, 0.9474),
    ("c", 100, 100, 0.1, 0.1, 0.1, 0.35, 4.3693),
    ("c", 110, 100, 0.1, 0.1, 0.1, 0.35, 11.1381),
    ("c", 90, 100, 0.1, 0.1, 0.5, 0.15, 0.8069),
    ("c", 100, 100, 0.1, 0.1, 0.5, 0.15, 4.0232),
    ("c", 110, 100, 0.1, 0.1, 0.5, 0.15, 10.5769),
    ("c", 90, 100, 0.1, 0.1, 0.5, 0.25, 2.7026),
    ("c", 100, 100, 0.1, 0.1, 0.5, 0.25, 6.6997),
    ("c", 110, 100, 0.1, 0.1, 0.5, 0.25, 12.7857),
    ("c", 90, 100, 0.1, 0.1, 0.5, 0.35, 4.9329),
    ("c", 100, 100, 0.1, 0.1, 0.5, 0.35, 9.3679),
    ("c", 110, 100, 0.1, 0.1, 0.5, 0.35, 15.3086),
    ("p", 90, 100, 0.1, 0.1, 0.1, 0.15, 9.9210),
    ("p", 110, 100, 0.1, 0.1, 0.1, 0.15, 0.0408),
    ("p", 90, 100, 0.1, 0.1, 0.5, 0.35, 14.4452),
    ("p", 110, 100, 0.1, 0.1, 0.5, 0.35, 5.7963),
    ("c", 42, 40, 0.08, 0.04, 0.75, 0.35, 5.0975),
]

# 40-digit numerical differentiation of the price: (kind, S, K, T, r, b, vol), then the figures.
FIGURES = ("price", "delta", "gamma", "vega", "theta", "vanna", "volga", "charm", "speed")
GRID = [
    (
        ("c", 100, 100, 0.0821917808219178, 0.0, 0.0, 0.6),
        (
            6.853940718253547,
            0.5342697035912677,
            0.02310672127238852,
            11.395095421999818,
            -41.59209829029933,
            0.05697547710999909,
            -0.14048747780547718,
            -0.20796049145149667,
            -0.00034660081908582783,
        ),
    ),
    (
        ("p", 2000, 1800, 0.019178082191780823, 0.0, 0.0, 0.8),
        (
            19.190810236285476,
            -0.15711051904843518,
            0.0010850504116548898,
            66.58939512621791,
            -1388.8645269182591,
            -0.2691563284351853,
            75.02564564258029,
            5.6138319930767215,
            -5.470856656246078e-06,
        ),
    ),
    (
        ("c", 60000, 75000, 0.2465753424657534, 0.04, 0.0, 0.55),
        (
            2104.2388049845567,
            0.24566165699483355,
            1.9124219763198492e-05,
            9336.810854251977,
            -10328.968108862198,
            0.5433463550176945,
            11016.04292186413,
            -0.5961556491079966,
            4.754408203594806e-10,
        ),
    ),
    (
        ("p", 60000, 40000, 0.0027397260273972603, 0.0, 0.0, 0.9),
        (
            9.78762004797448e-16,
            -3.049809137894769e-18,
            9.434440247714905e-21,
            8.374681206190765e-14,
            -1.3755413881168332e-11,
            -2.5432453223146685e-16,
            6.89346131130906e-12,
            4.177280441901843e-14,
            -2.89652388306292e-23,
        ),
    ),
    (
        ("c", 100, 95, 0.5, 0.05, 0.02, 0.25),
        (
            10.05992375734308,
            0.6583116264579499,
            0.020223630087027235,
            25.279537608784047,
            -7.133511467244757,
            -0.3694314769597136,
            11.366415640325938,
            0.07165995785961243,
            -0.0007000177833083156,
        ),
    ),
]

sizes = st.floats(0.01, 1e5)
options = st.tuples(
    sizes, st.floats(0.3, 3.0), st.floats(1e-3, 3.0), st.floats(0.02, 2.5), st.floats(-0.1, 0.3), st.floats(-0.1, 0.3)
)


@pytest.mark.parametrize(("kind", "S", "K", "q", "r", "T", "vol", "value"), HAUG_PRICES)
def test_price_equals_the_book(
    kind: str, S: float, K: float, q: float, r: float, T: float, vol: float, value: float
) -> None:
    assert black.price(kind, S, K, T, vol, r, q) == pytest.approx(value, abs=1e-4)


def test_greeks_equal_the_book() -> None:
    assert black.greeks("c", 105, 100, 0.5, 0.36, 0.1, 0.1).delta == pytest.approx(0.5946, abs=1e-4)
    assert black.greeks("p", 105, 100, 0.5, 0.36, 0.1, 0.1).delta == pytest.approx(-0.3566, abs=1e-4)
    assert black.greeks("c", 55, 60, 0.75, 0.3, 0.1).gamma == pytest.approx(0.0278, abs=1e-4)
    assert black.greeks("p", 55, 60, 0.75, 0.3, 0.1).vega == pytest.approx(18.9358, abs=1e-4)
    assert black.greeks("p", 430, 405, 1 / 12, 0.2, 0.07, 0.05).theta == pytest.approx(-31.1924, abs=1e-4)
    assert black.greeks("c", 72, 75, 1, 0.19, 0.09).rho == pytest.approx(38.7325, abs=1e-4)
    assert black.dividend_rho("p", 500, 490, 0.25, 0.15, 0.08, 0.05) == pytest.approx(42.2254, abs=1e-4)
    # Haug (2007): volga (DvegaDvol), charm (DdeltaDtime of a put), speed.
    assert black.greeks("c", 90, 130, 0.75, 0.28, 0.05, 0.05).volga == pytest.approx(92.3444, abs=1e-4)
    assert black.greeks("p", 105, 90, 0.25, 0.24, 0.14, 0.14).charm == pytest.approx(0.3700, abs=1e-4)
    assert black.greeks("c", 50, 48, 0.0833, 0.2, 0.06, 0.05).speed == pytest.approx(-0.0291, abs=1e-4)


@pytest.mark.parametrize(("option", "figures"), GRID)
def test_greeks_equal_forty_digit_differentiation(
    option: tuple[str, float, float, float, float, float, float], figures: tuple[float, ...]
) -> None:
    kind, S, K, T, r, b, vol = option
    found = black.greeks(kind, S, K, T, vol, r, r - b)._asdict()
    for name, value in zip(FIGURES, figures, strict=True):
        assert float(found[name]) == pytest.approx(value, rel=1e-12), name


def _exact(kind: int, S: object, K: object, T: object, vol: object, r: object, q: object) -> mpmath.mpf:
    total = vol * mpmath.sqrt(T)
    d1 = (mpmath.log(S / K) + (r - q) * T) / total + total / 2
    spot, cash = S * mpmath.exp(-q * T), K * mpmath.exp(-r * T)
    return kind * (spot * mpmath.ncdf(kind * d1) - cash * mpmath.ncdf(kind * (d1 - total)))


# Which argument of _exact (S=0, T=2, vol=3, r=4) is differentiated how often, and the sign.
DERIVATIVES = {
    "price": ((0, 0, 0, 0, 0), 1),
    "delta": ((1, 0, 0, 0, 0), 1),
    "gamma": ((2, 0, 0, 0, 0), 1),
    "vega": ((0, 0, 0, 1, 0), 1),
    "theta": ((0, 0, 1, 0, 0), -1),
    "rho": ((0, 0, 0, 0, 1), 1),
    "vanna": ((1, 0, 0, 1, 0), 1),
    "volga": ((0, 0, 0, 2, 0), 1),
    "charm": ((1, 0, 1, 0, 0), -1),
    "speed": ((3, 0, 0, 0, 0), 1),
}


@pytest.mark.parametrize("kind", [1, -1])
@pytest.mark.parametrize("option", [(3000, 3600, 0.1, 0.7, 0.03, 0.01), (42, 40, 0.75, 0.35, 0.04, 0.08)])
def test_every_greek_is_the_derivative_it_claims(kind: int, option: tuple[float, ...]) -> None:
    found = black.greeks(kind, *option)._asdict()
    with mpmath.workdps(40):
        point = [mpmath.mpf(x) for x in option]
        for name, (orders, sign) in DERIVATIVES.items():

            def value(S: object, K: object, T: object, vol: object, r: object) -> mpmath.mpf:
                return _exact(kind, S, K, T, vol, r, point[5])

            expected = sign * mpmath.diff(value, tuple(point[:5]), orders)
            assert float(found[name]) == pytest.approx(float(expected), rel=1e-11), name


def test_another_library_agrees() -> None:
    from vollib.black_scholes_merton import black_scholes_merton
    from vollib.black_scholes_merton.greeks import analytical

    for flag, K, T, vol in itertools.product("cp", (70.0, 100.0, 140.0), (0.05, 1.0), (0.2, 0.9)):
        S, r, q = 100.0, 0.03, 0.01
        ours = black.greeks(flag, S, K, T, vol, r, q)
        assert ours.price == pytest.approx(black_scholes_merton(flag, S, K, T, r, vol, q), rel=1e-9, abs=1e-12)
        assert ours.delta == pytest.approx(analytical.delta(flag, S, K, T, r, vol, q), rel=1e-9)
        assert ours.gamma == pytest.approx(analytical.gamma(flag, S, K, T, r, vol, q), rel=1e-9)
        # that library quotes vega and rho per 1 % and theta per day of 365
        assert float(ours.vega) / 100 == pytest.approx(analytical.vega(flag, S, K, T, r, vol, q), rel=1e-9)
        assert float(ours.theta) / 365 == pytest.approx(analytical.theta(flag, S, K, T, r, vol, q), rel=1e-9)
        assert float(ours.rho) / 100 == pytest.approx(analytical.rho(flag, S, K, T, r, vol, q), rel=1e-9)


def test_compiled_form_equals_the_numpy_form() -> None:
    rng = np.random.default_rng(7)
    n = 20_000
    kind = np.where(rng.random(n) < 0.5, 1, -1)
    S, K = rng.uniform(50, 150, n), rng.uniform(50, 150, n)
    T, vol = rng.uniform(0.002, 2, n), rng.uniform(0.1, 1.5, n)
    r, q = rng.uniform(-0.05, 0.1, n), rng.uniform(-0.05, 0.1, n)
    ours = black.greeks(kind, S, K, T, vol, r, q)._asdict()
    for name, expected in black_reference.all_orders(kind, S, K, T, vol, r, q).items():
        # 1e-12 of the figure, or of the terms whose difference it is (of size S in a price, rho K in a theta)
        floor = {"price": S, "theta": 0.1 * (S + K), "rho": T * K}.get(name, np.abs(expected))
        assert np.all(np.abs(ours[name] - expected) <= 1e-12 * np.maximum(np.abs(expected), floor)), name
    first = black.first_greeks(kind, S, K, T, vol, r, q)._asdict()
    for name, values in first.items():
        assert np.array_equal(values, ours[name]), name
    # one price, whichever door it is asked at: books compare them
    assert np.array_equal(black.price(kind, S, K, T, vol, r, q), ours["price"])


@given(options)
def test_put_call_parity(option: tuple[float, ...]) -> None:
    S, moneyness, T, vol, r, q = option
    K = S * moneyness
    call, put = black.price([1, -1], S, K, T, vol, r, q)
    assert call - put == pytest.approx(S * np.exp(-q * T) - K * np.exp(-r * T), abs=1e-13 * (S + K) * 2)


@given(options, st.sampled_from([1, -1]))
def test_no_arbitrage_bounds_and_signs(option: tuple[float, ...], kind: int) -> None:
    S, moneyness, T, vol, r, q = option
    K = S * moneyness
    found = black.greeks(kind, S, K, T, vol, r, q)
    forward, cash = S * np.exp(-q * T), K * np.exp(-r * T)
    slack = 1e-13 * (forward + cash)
    assert max(kind * (forward - cash), 0) - slack <= found.price <= (forward if kind == 1 else cash) + slack
    assert 0 <= kind * found.delta <= np.exp(-q * T) * (1 + 1e-15)
    assert found.gamma >= 0
    assert found.vega >= 0
    assert found.status == black.OK


@given(options, st.sampled_from([1, -1]), st.floats(1.0001, 2.0))
def test_price_is_monotone_and_convex_in_strike_and_rises_with_vol(
    option: tuple[float, ...], kind: int, step: float
) -> None:
    S, moneyness, T, vol, r, q = option
    K = S * moneyness
    slack = 1e-12 * (S + K * step)
    low, high = black.price(kind, S, [K, K * step], T, vol, r, q)
    assert kind * (low - high) >= -slack
    left, middle, right = black.price(kind, S, [K, K * (1 + step) / 2, K * step], T, vol, r, q)
    assert left + right - 2 * middle >= -slack
    assert black.price(kind, S, K, T, vol * step, r, q) >= black.price(kind, S, K, T, vol, r, q) - slack


@given(options, st.floats(1e-3, 1e3))
def test_price_is_homogeneous_in_spot_and_strike(option: tuple[float, ...], scale: float) -> None:
    S, moneyness, T, vol, r, q = option
    one = black.price("c", S, S * moneyness, T, vol, r, q)
    many = black.price("c", S * scale, S * moneyness * scale, T, vol, r, q)
    assert many == pytest.approx(one * scale, rel=1e-10, abs=1e-12 * S * scale)


def test_black76_is_the_forward_case_and_has_its_own_rho() -> None:
    spot = black.greeks("p", 100, 90, 0.5, 0.4, 0.05, 0.05)
    forward = black.black76_greeks("p", 100, 90, 0.5, 0.4, 0.05)
    assert forward.price == spot.price == black.black76_price("p", 100, 90, 0.5, 0.4, 0.05)
    up, down = (black.black76_price("p", 100, 90, 0.5, 0.4, 0.05 + h) for h in (1e-5, -1e-5))
    assert float(forward.rho) == pytest.approx((up - down) / 2e-5, rel=1e-8)


def test_expiry_and_zero_vol_are_labelled_limits() -> None:
    at_expiry = black.greeks("call", [90, 100, 110], 100, 0.0, 0.6)
    assert list(at_expiry.price) == [0, 0, 10]
    assert list(at_expiry.status) == [black.EXPIRED, black.KINK, black.EXPIRED]
    assert list(at_expiry.delta[[0, 2]]) == [0, 1]
    assert np.isnan(at_expiry.delta[1])
    still = black.greeks("put", 90, 100, 1.0, 0.0, 0.05)
    assert still.status == black.ZERO_VOL
    near = black.greeks("put", 90, 100, 1.0, 1e-4, 0.05)
    for name in ("price", "delta", "gamma", "theta", "rho", "charm"):
        assert getattr(still, name) == pytest.approx(float(getattr(near, name)), abs=1e-9), name


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("S", 0.0),
        ("S", -5.0),
        ("S", np.nan),
        ("S", np.inf),
        ("K", 0.0),
        ("K", np.nan),
        ("T_yr", -0.01),
        ("T_yr", np.nan),
        ("sigma", -0.2),
        ("sigma", np.inf),
        ("r", np.nan),
        ("q", np.inf),
        ("r", -10000.0),
    ],
)
@pytest.mark.parametrize("form", [black.price, black.first_greeks, black.greeks])
def test_bad_input_names_the_element(form: object, change: str, value: float) -> None:
    inputs = {"S": 100.0, "K": 100.0, "T_yr": 0.5, "sigma": 0.5, "r": 0.0, "q": 0.0}
    inputs[change] = np.array([[inputs[change], inputs[change]], [inputs[change], value]])
    with pytest.raises(DomainError, match=rf"element\[1, 1\].*(\n.*)*{change}="):
        form("c", **inputs)  # type: ignore[operator]


def test_bad_kind_and_shapes_are_refused() -> None:
    with pytest.raises(DomainError, match=r"kind\[1\]"):
        black.price(["call", "straddle"], 100, 100, 1, 0.2)
    with pytest.raises(DomainError, match=r"kind\[0\]"):
        black.price([0, 1], 100, 100, 1, 0.2)
    with pytest.raises(DomainError, match="broadcast"):
        black.price("c", [1, 2, 3], [1, 2], 1, 0.2)
    assert black.price([], [], [], [], []).shape == (0,)


def test_kinds_in_every_spelling() -> None:
    call, put = black.price([1, -1], 100, 110, 1, 0.2)
    assert np.array_equal(black.price([True, False], 100, 110, 1, 0.2), [call, put])
    assert np.array_equal(black.price(["C", "Put"], 100, 110, 1, 0.2), [call, put])


EPS = 2.0**-52
LOST_TIME_VALUE = ("p", 3000.0, 5060.724337705281, 0.0006552025585803174, 2.5043618773286034)


def exact_price(w: int, S: float, K: float, T: float, vol: float, r: float, q: float) -> tuple[mpmath.mpf, mpmath.mpf]:
    """Price in 50 digits, and the bound that the docstring of `black` states for the rounding of ours."""
    s, k, t, v, rate, carry = (mpmath.mpf(x) for x in (S, K, T, vol, r, q))
    spot, cash, total = s * mpmath.exp(-carry * t), k * mpmath.exp(-rate * t), v * mpmath.sqrt(t)
    d1 = mpmath.log(spot / cash) / total + total / 2
    d2 = d1 - total
    value = w * (spot * mpmath.ncdf(w * d1) - cash * mpmath.ncdf(w * d2))
    out, d = (-1 if spot > cash else 1), max(abs(d1), abs(d2))
    x = abs(mpmath.log(s / k)) + abs(rate * t) + abs(carry * t)
    bound = value + (20 + d * d + 3 * d * (1 + x) / total) * spot * mpmath.ncdf(out * d1)
    bound += (abs(carry * t) + (q != 0)) * spot + (abs(rate * t) + (r != 0)) * cash
    return value, EPS * bound + mpmath.mpf("1e-307")


@pytest.mark.parametrize(("total", "rates"), [((-8, 0), False), ((-3, 1), False), ((-3, 1), True)])
def test_prices_stay_above_intrinsic_and_within_the_stated_error(total: tuple[int, int], rates: bool) -> None:
    rng = np.random.default_rng(total[1] + rates)
    n = 1000
    S, T = 10 ** rng.uniform(-3, 6, n), 10 ** rng.uniform(-5, 1.3, n)
    deviation = 10 ** rng.uniform(*total, n)
    vol = deviation / np.sqrt(T)
    K = S * np.exp(np.clip(rng.normal(size=n) * rng.choice([0, 0.01, 1, 3, 8], n) * deviation, -20, 20))
    w = rng.choice([1, -1], n)
    r, q = (rng.uniform(-0.1, 0.3, (2, n))) if rates else np.zeros((2, n))
    prices = black.price(w, S, K, T, vol, r, q)
    full = black.first_greeks(w, S, K, T, vol, r, q).price
    if not rates:
        assert np.all(prices >= np.maximum(w * (S - K), 0.0))
    with mpmath.workdps(50):
        for i in range(n):
            value, bound = exact_price(int(w[i]), S[i], K[i], T[i], vol[i], r[i], q[i])
            for ours in (prices[i], full[i]):
                assert abs(mpmath.mpf(ours) - value) <= bound, (w[i], S[i], K[i], T[i], vol[i], r[i], q[i])


def test_time_value_of_a_deep_put_is_not_lost() -> None:
    kind, F, K, T, vol = LOST_TIME_VALUE
    with mpmath.workdps(50):
        value, _ = exact_price(-1, F, K, T, vol, 0.0, 0.0)
    assert K - F <= float(black.black76_price(kind, F, K, T, vol)) == float(value)
    columns = {"kind": [kind], "K": [K], "seconds": [T * black.SECONDS_PER_YEAR], "forward_variable": [F]}
    book = margin_book(1, account=[0], amount=[1.0], sigma=[vol], **columns)
    zero = np.zeros(1)
    scanned = scan(book, zero, zero + 1.0, ScanRules(0.0, 0.0, 0.0, 0.0, 1.0), (Scenario(1.0, "none"),))
    assert K - F <= float(scanned.value[0]) == pytest.approx(float(value), rel=2 * EPS, abs=0)
