"""Power perpetuals and everlasting options against the mixture of dated claims that defines them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from aggregator.core.errors import DomainError
from aggregator.quant import black
from aggregator.quant.perpetual_options import everlasting, power_perp


def test_squeeth_is_the_published_formula() -> None:
    # White et al. (2021): S^p / (2 exp(-(f/2)(p-1)(2r+p sigma^2)) - 1) with one payment per funding period
    S, vol, f, r = 3000.0, 0.9, 17.5 / 365, 0.01
    published = S**2 / (2 * np.exp(-0.5 * f * (2 * r + 2 * vol**2)) - 1)
    assert power_perp(S, 2, vol, f, r, payments=1).price == pytest.approx(published, rel=1e-14)


@pytest.mark.parametrize("payments", [1, 2, 24])
def test_power_perp_is_the_weighted_sum_of_dated_power_claims(payments: int) -> None:
    S, p, vol, f, r, q, n = 50.0, 2.0, 0.8, 0.1, 0.03, 0.01, payments
    i = np.arange(1, 6000)
    weight = (n / (n + 1.0)) ** (i - 1.0) / (n + 1.0)
    dated = S**p * np.exp(((p - 1) * (r + p * vol**2 / 2) - p * q) * i * f / n)
    assert power_perp(S, p, vol, f, r, q, payments=payments).price == pytest.approx(
        float(np.sum(weight * dated)), rel=1e-12
    )


def test_many_payments_tend_to_continuous_funding() -> None:
    many = power_perp(50.0, 2, 0.8, 0.1, 0.03, payments=200_000)
    continuous = power_perp(50.0, 2, 0.8, 0.1, 0.03)
    for name in continuous._fields:
        assert getattr(many, name) == pytest.approx(float(getattr(continuous, name)), rel=1e-5), name


@pytest.mark.parametrize("payments", [None, 1, 12])
def test_power_perp_greeks_are_derivatives(payments: int | None) -> None:
    point = np.array([50.0, 0.8, 0.03])

    def value(S: float, vol: float, r: float, field: str = "price") -> float:
        return float(getattr(power_perp(S, 2.5, vol, 0.08, r, 0.01, payments=payments), field))

    found = power_perp(50.0, 2.5, 0.8, 0.08, 0.03, 0.01, payments=payments)

    def slope(field: str, axis: int) -> float:
        h = np.zeros(3)
        h[axis] = 1e-5 * point[axis]
        return (value(*(point + h), field) - value(*(point - h), field)) / (2 * h[axis])

    for name, field, axis in (
        ("delta", "price", 0),
        ("gamma", "delta", 0),
        ("speed", "gamma", 0),
        ("vega", "price", 1),
        ("volga", "vega", 1),
        ("vanna", "delta", 1),
        ("rho", "price", 2),
    ):
        assert float(getattr(found, name)) == pytest.approx(slope(field, axis), rel=1e-7), name


@pytest.mark.parametrize("kind", [1, -1])
@pytest.mark.parametrize("S", [60.0, 99.0, 101.0, 150.0])
def test_everlasting_is_the_exponential_mixture_of_dated_options(kind: int, S: float) -> None:
    K, vol, f, r, q = 100.0, 0.7, 0.05, 0.03, 0.01
    mixed, _ = quad(
        lambda u: np.exp(-u) * float(black.price(kind, S, K, max(u * f, 1e-300), vol, r, q)), 0, 60, limit=400
    )
    assert everlasting(kind, S, K, vol, f, r, q).price == pytest.approx(mixed, rel=1e-7)


@pytest.mark.parametrize("kind", [1, -1])
@pytest.mark.parametrize("S", [70.0, 130.0])
def test_everlasting_greeks_are_derivatives(kind: int, S: float) -> None:
    point = np.array([S, 0.7, 0.03])

    def value(x: np.ndarray, field: str) -> float:
        return float(getattr(everlasting(kind, x[0], 100.0, x[1], 0.05, x[2], 0.01), field))

    found = everlasting(kind, S, 100.0, 0.7, 0.05, 0.03, 0.01)
    for name, field, axis in (
        ("delta", "price", 0),
        ("gamma", "delta", 0),
        ("speed", "gamma", 0),
        ("vega", "price", 1),
        ("volga", "vega", 1),
        ("vanna", "delta", 1),
        ("rho", "price", 2),
    ):
        h = np.zeros(3)
        h[axis] = 1e-5 * point[axis]
        slope = (value(point + h, field) - value(point - h, field)) / (2 * h[axis])
        assert float(getattr(found, name)) == pytest.approx(slope, rel=1e-6), name


@given(st.floats(0.3, 3.0), st.floats(0.1, 2.0), st.floats(0.001, 1.0), st.floats(-0.05, 0.2))
def test_everlasting_laws(moneyness: float, vol: float, f: float, r: float) -> None:
    K = 100.0
    call, put = (everlasting(kind, K * moneyness, K, vol, f, r) for kind in (1, -1))
    assert call.price - put.price == pytest.approx(K * moneyness - K / (1 + r * f), abs=1e-9)
    assert min(call.price, put.price) >= 0
    assert 0 <= call.delta <= 1
    assert call.gamma >= 0
    assert everlasting(1, K * moneyness, K, vol * 1.1, f, r).price >= call.price - 1e-12
    # value and slope meet at the strike
    sides = everlasting(1, [K * (1 - 1e-12), K * (1 + 1e-12)], K, vol, f, r)
    assert sides.price[0] == pytest.approx(sides.price[1], rel=1e-9)
    assert sides.delta[0] == pytest.approx(sides.delta[1], rel=1e-9)


def test_no_finite_mark_and_bad_input_are_refused() -> None:
    with pytest.raises(DomainError, match="finite mark"):
        power_perp(3000, 4, 2.0, 1.0)
    with pytest.raises(DomainError, match=r"element\[1\]"):
        power_perp([3000, -1], 2, 0.9, 0.05)
    with pytest.raises(DomainError, match=r"S\[1\]"):
        everlasting("c", [3000, np.nan], 3000, 0.9, 0.05)
    with pytest.raises(DomainError, match="sigma"):
        everlasting("c", 3000, 3000, 0.0, 0.05)
    with pytest.raises(DomainError, match="payments"):
        power_perp(3000, 2, 0.9, 0.05, payments=0)
