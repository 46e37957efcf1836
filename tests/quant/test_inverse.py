"""Coin-settled options: every Greek is the derivative of the coin premium; net delta is delta less premium."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.core.errors import DomainError
from aggregator.quant import black
from aggregator.quant.inverse import inverse_first_greeks, inverse_greeks, inverse_price


def _coin(kind: int, F: object, K: float, T: object, vol: object, r: object) -> mpmath.mpf:
    total = vol * mpmath.sqrt(T)
    d1 = mpmath.log(F / K) / total + total / 2
    value = kind * (F * mpmath.ncdf(kind * d1) - K * mpmath.ncdf(kind * (d1 - total)))
    return mpmath.exp(-r * T) * value / F


# Orders of differentiation in (F, T, vol, r), and the sign.
DERIVATIVES = {
    "price": ((0, 0, 0, 0), 1),
    "delta": ((1, 0, 0, 0), 1),
    "gamma": ((2, 0, 0, 0), 1),
    "speed": ((3, 0, 0, 0), 1),
    "vega": ((0, 0, 1, 0), 1),
    "theta": ((0, 1, 0, 0), -1),
    "rho": ((0, 0, 0, 1), 1),
    "vanna": ((1, 0, 1, 0), 1),
    "volga": ((0, 0, 2, 0), 1),
    "charm": ((1, 1, 0, 0), -1),
}


@pytest.mark.parametrize("kind", [1, -1])
@pytest.mark.parametrize("strike", [40_000.0, 60_000.0, 85_000.0])
def test_every_greek_is_the_derivative_of_the_coin_premium(kind: int, strike: float) -> None:
    F, T, vol, r = 60_000.0, 0.15, 0.55, 0.02
    found = inverse_greeks(kind, F, strike, T, vol, r)._asdict()
    with mpmath.workdps(40):
        for name, (orders, sign) in DERIVATIVES.items():

            def value(f: object, t: object, v: object, rate: object) -> mpmath.mpf:
                return _coin(kind, f, strike, t, v, rate)

            point = tuple(mpmath.mpf(x) for x in (F, T, vol, r))
            expected = float(sign * mpmath.diff(value, point, orders))
            assert float(found[name]) == pytest.approx(expected, rel=1e-9), name


@given(st.floats(0.4, 2.5), st.floats(0.005, 2.0), st.floats(0.1, 2.0), st.sampled_from([1, -1]))
def test_net_delta_is_delta_less_the_premium_and_the_exposure_to_the_log_of_the_forward(
    moneyness: float, T: float, vol: float, kind: int
) -> None:
    F = 3_000.0
    found = inverse_greeks(kind, F, F * moneyness, T, vol)
    assert found.net_delta == pytest.approx(float(found.black_delta - found.price), abs=1e-14)
    h = 1e-5
    up, down = inverse_price(kind, [F * (1 + h), F * (1 - h)], F * moneyness, T, vol)
    assert float(found.net_delta) == pytest.approx((up - down) / (2 * h), abs=1e-6)


def test_deribit_figures_of_a_long_call() -> None:
    # A 0.05 BTC premium with a 0.55 delta leaves 0.50 BTC of exposure (support.deribit.com, net transaction delta).
    found = inverse_greeks("c", 60_000, 60_000, 0.2, 0.6)
    assert found.price == pytest.approx(float(black.black76_price("c", 60_000, 60_000, 0.2, 0.6)) / 60_000)
    assert found.net_delta < found.black_delta


@given(st.floats(0.4, 2.5), st.floats(0.005, 2.0), st.floats(0.1, 2.0))
def test_parity_in_coin(moneyness: float, T: float, vol: float) -> None:
    # call - put in coin = 1 - K/F
    call, put = inverse_price([1, -1], 100.0, 100.0 * moneyness, T, vol)
    assert call - put == pytest.approx(1 - moneyness, abs=1e-13)


def test_a_coin_call_is_never_worth_more_than_one_coin() -> None:
    assert inverse_price("c", 1e6, 1.0, 5.0, 2.0) <= 1.0


def test_fast_form_equals_the_full_form() -> None:
    rng = np.random.default_rng(3)
    kind = np.where(rng.random(1000) < 0.5, 1, -1)
    inputs = (rng.uniform(50, 150, 1000), rng.uniform(50, 150, 1000), rng.uniform(0.01, 1, 1000))
    fast, full = inverse_first_greeks(kind, *inputs, 0.6, 0.03), inverse_greeks(kind, *inputs, 0.6, 0.03)
    for name in fast._fields:
        assert np.allclose(getattr(fast, name), getattr(full, name), rtol=1e-12, atol=1e-18), name


def test_bad_input_names_the_element() -> None:
    with pytest.raises(DomainError, match=r"element\[2\]"):
        inverse_first_greeks("c", [1.0, 2.0, 0.0], 1.0, 0.1, 0.5)
