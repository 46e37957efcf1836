"""Dealer hedging feedback: exact rationals, iteration, the unstable region, and books repriced in full."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.core.errors import DomainError
from aggregator.quant import black
from aggregator.quant.dealer_gamma import (
    STABLE,
    UNSTABLE,
    book_feedback,
    effective_vol,
    gamma_exposure_usd,
    gamma_feedback,
)
from aggregator.quant.risk_surface import OptionBook, book


def test_damped_amplified_unstable() -> None:
    # spot 2000, impact 2e-9 per USD, shock -5 %: exact rationals of r = r0/(1+g)
    gammas = [-50.0, -100.0, -124.0, 50.0, 300.0, -125.0, -150.0]
    found = gamma_feedback(-0.05, gammas, 2000.0, 2e-9)
    assert found.g == pytest.approx([-0.4, -0.8, -0.992, 0.4, 2.4, -1.0, -1.2], rel=1e-12)
    assert found.return_frac[:5] == pytest.approx([-1 / 12, -0.25, -6.25, -1 / 28, -1 / 68], rel=1e-9)
    assert found.flow_usd[:5] == pytest.approx([-5e7 / 3, -1e8, -3.1e9, 5e7 / 7, 3e8 / 17], rel=1e-9)
    assert found.amplification[:5] == pytest.approx([5 / 3, 5, 125, 5 / 7, 5 / 17], rel=1e-9)
    assert list(found.status) == [STABLE] * 5 + [UNSTABLE] * 2
    # never the wrong-signed 0.25 that the closed form gives beyond the pole
    assert np.all(np.isnan(found.return_frac[5:]))
    assert np.all(np.isnan(found.flow_usd[5:]))
    assert np.all(np.isinf(found.amplification[5:]))
    assert list(found.iteration_converges) == [True, True, True, True, False, False, False]


def test_plain_iteration_tends_to_the_fixed_point() -> None:
    r, path = -0.05, [-0.05]
    for _ in range(200):
        r = -0.05 - (-0.8) * r
        path.append(r)
    assert path[:6] == pytest.approx([-0.05, -0.09, -0.122, -0.1476, -0.16808, -0.184464], rel=1e-12)
    assert gamma_feedback(-0.05, -100.0, 2000.0, 2e-9).return_frac == pytest.approx(r, rel=1e-9)


def test_exposure_and_effective_vol() -> None:
    assert gamma_exposure_usd(-1, 0.0005, 10_000, 3000) == pytest.approx(-450_000)
    assert list(effective_vol(0.6, [0.0, 0.2, -0.5, -1.0])) == pytest.approx([0.6, 0.5, 1.2, np.inf])


def dealers(amount: float) -> OptionBook:
    return book("c", 2000.0, [2000.0], 30 / 365, 0.7, amount=amount)


@given(st.floats(-0.002, 0.002).filter(lambda x: abs(x) > 1e-5), st.floats(-2e4, 2e4))
def test_small_shocks_to_a_book_follow_the_linear_rule(shock: float, amount: float) -> None:
    legs = dealers(amount)
    gamma = amount * float(black.black76_greeks("c", 2000.0, 2000.0, 30 / 365, 0.7).gamma)
    linear = gamma_feedback(shock, gamma, 2000.0, 1e-9)
    found = book_feedback(legs, 2000.0, shock, 1e-9)
    assert found.status == STABLE
    assert found.return_frac == pytest.approx(float(linear.return_frac), rel=0.02)
    # it is a fixed point: the move is the shock plus the impact of the flow it causes
    assert found.return_frac == pytest.approx(shock + 1e-9 * found.flow_usd, abs=1e-10)


def test_short_gamma_amplifies_long_gamma_damps_and_the_unstable_region_is_reported() -> None:
    calm = book_feedback(dealers(-20_000.0), 2000.0, -0.05, 2e-9)
    damped = book_feedback(dealers(20_000.0), 2000.0, -0.05, 2e-9)
    assert calm.return_frac < -0.05 < damped.return_frac < 0
    assert calm.unstable.shape == (0, 2)
    # heavy short gamma: unstable around the strike, stable in the wings
    heavy = book_feedback(dealers(-400_000.0), 2000.0, -0.01, 2e-9)
    assert heavy.unstable.shape == (1, 2)
    low, high = heavy.unstable[0]
    assert low < 2000 < high
    # the market runs until gamma has faded: a finite move far beyond the shock
    assert heavy.return_frac < low / 2000 - 1
    assert heavy.return_frac == pytest.approx(-0.01 + 2e-9 * heavy.flow_usd, abs=1e-10)
    gone = book_feedback(dealers(-4_000_000.0), 2000.0, -0.01, 2e-9)
    assert gone.status == UNSTABLE
    assert np.isnan(gone.return_frac)
    still = book_feedback(dealers(-400_000.0), 2000.0, 0.0, 2e-9)
    assert (still.status, still.return_frac) == (UNSTABLE, 0.0)


def test_bad_input() -> None:
    with pytest.raises(DomainError, match=r"gamma\[1\]"):
        gamma_feedback(-0.05, [1.0, np.nan], 2000.0, 1e-9)
    with pytest.raises(DomainError, match="scan"):
        book_feedback(dealers(1.0), -1.0, 0.1, 1e-9)
