"""Forwards from parity and the curve between them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.core.errors import DomainError
from aggregator.quant import black
from aggregator.quant.forwards import ForwardCurve, parity_forward
from aggregator.quant.inverse import inverse_price

STRIKES = np.array([80.0, 90, 100, 110, 120])


@given(st.floats(50, 200), st.floats(-0.05, 0.2), st.floats(0.05, 2), st.floats(0.2, 1.5))
def test_parity_gives_back_the_forward_and_the_discount(F: float, r: float, T: float, vol: float) -> None:
    call, put = (black.black76_price(kind, F, STRIKES, T, vol, r) for kind in (1, -1))
    given_discount = parity_forward(STRIKES, call, put, discount=np.exp(-r * T))
    fitted = parity_forward(STRIKES, call, put, discount=None)
    assert given_discount.forward == pytest.approx(F, rel=1e-11)
    assert fitted.forward == pytest.approx(F, rel=1e-9)
    assert fitted.discount == pytest.approx(np.exp(-r * T), rel=1e-9)
    assert fitted.worst_residual < 1e-9


def test_coin_parity() -> None:
    call, put = (inverse_price(kind, 103.0, STRIKES, 0.2, 0.6) for kind in (1, -1))
    assert parity_forward(STRIKES, call, put, coin=True).forward == pytest.approx(103, rel=1e-12)
    fitted = parity_forward(STRIKES, call, put, coin=True, discount=None)
    assert fitted.forward == pytest.approx(103, rel=1e-12)
    assert fitted.discount == pytest.approx(1, rel=1e-12)


def test_one_wrong_quote_does_not_move_the_forward_and_shows_in_the_residual() -> None:
    call, put = (black.black76_price(kind, 100.0, STRIKES, 0.2, 0.6) for kind in (1, -1))
    call[1] += 7.0
    put[3] = np.nan
    found = parity_forward(STRIKES, call, put)
    assert found.forward == pytest.approx(100, rel=1e-12)
    assert found.worst_residual == pytest.approx(7.0)
    assert found.strikes == 4


@pytest.mark.parametrize("coin", [False, True])
@pytest.mark.parametrize("bad", [0, 3, 8])
@pytest.mark.parametrize("size", [0.5, -7.0, 300.0])
def test_a_wrong_quote_moves_neither_forward_nor_discount_when_both_are_fitted(
    coin: bool, bad: int, size: float
) -> None:
    K, F, r, T = np.linspace(60, 140, 9), 103.0, 0.08, 0.5
    call, put = (black.black76_price(kind, F, K, T, 0.6, r) / (F if coin else 1.0) for kind in (1, -1))
    call[bad] += size / (F if coin else 1.0)
    found = parity_forward(K, call, put, discount=None, coin=coin)
    assert found.forward == pytest.approx(F, rel=1e-9)
    assert found.discount == pytest.approx(np.exp(-r * T), rel=1e-9)
    assert found.worst_residual == pytest.approx(abs(size) / (F if coin else 1.0), rel=1e-6)


def test_fit_of_the_discount_is_as_good_as_least_squares_on_clean_noise() -> None:
    """200 smiles with rounding noise: the scatter of the forward is at most a third above that of least squares."""
    K, F, D = np.linspace(60, 140, 17), 103.0, 0.97
    rng = np.random.default_rng(0)
    ours, plain = [], []
    for _ in range(200):
        gap = D * (F - K) + rng.normal(0, 0.1, K.size)
        ours.append(parity_forward(K, gap + 50.0, np.full(K.size, 50.0), discount=None).forward)
        slope, level = np.polyfit(K, gap, 1)
        plain.append(-level / slope)
    assert np.std(ours) < 1.33 * np.std(plain)
    assert np.mean(ours) == pytest.approx(F, abs=0.02)


def test_curve_has_constant_carry_between_pillars_and_beyond() -> None:
    curve = ForwardCurve(100.0, [0.25, 1.0], [100 * np.exp(0.25 * 0.04), 100 * np.exp(0.04)])
    assert np.allclose(
        curve.forward([0.0, 0.1, 0.5, 2.0]), 100 * np.exp(0.04 * np.array([0, 0.1, 0.5, 2.0])), rtol=1e-14
    )
    assert np.allclose(curve.carry([0.1, 3.0]), 0.04)
    flat = ForwardCurve(100.0, 0.5, 100.0)
    assert flat.forward(7.0) == pytest.approx(100)


def test_bad_input() -> None:
    with pytest.raises(DomainError, match="too few strikes"):
        parity_forward([100.0], [np.nan], [1.0])
    with pytest.raises(DomainError, match="too few strikes"):
        parity_forward([100.0], [2.0], [1.0], discount=None)
    with pytest.raises(DomainError, match="no forward"):
        parity_forward([100.0, 110.0], [1.0, 1.0], [500.0, 500.0])
    with pytest.raises(DomainError, match="shape"):
        parity_forward([100.0], [1.0, 2.0], [1.0, 2.0])
    with pytest.raises(DomainError, match="pillar 1"):
        ForwardCurve(100.0, [0.5, 0.5], [100, 101])
    with pytest.raises(DomainError, match="pillar 0"):
        ForwardCurve(100.0, [0.5, 0.6], [-1, 101])
    with pytest.raises(DomainError, match="spot"):
        ForwardCurve(np.nan, [0.5], [100])
    with pytest.raises(DomainError, match="T_yr"):
        ForwardCurve(100.0, [0.5], [100]).forward(-0.1)
