"""The compiled normal distribution against 40 digits and scipy, far into the tails and where its two forms meet."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from scipy.special import ndtr

from aggregator.quant.normal import cdf, erfcx, pdf, tail_given_pdf


def test_erfcx_is_right_to_2e_15() -> None:
    points = [*np.linspace(0.0, 60.0, 1801), 49.999999, 50.0, 50.000001, 1e-300, 1e-9, 1e3, 1e8, 1e100]
    with mpmath.workdps(60):
        for x in points:
            z = mpmath.mpf(float(x))
            exact = mpmath.exp(z * z) * mpmath.erfc(z) if x <= 1e3 else 1 / (z * mpmath.sqrt(mpmath.pi))
            exact *= 1 - 1 / (2 * z * z) if x > 1e3 else 1
            assert abs(mpmath.mpf(erfcx(float(x))) / exact - 1) < 2e-15, x


def test_distribution_keeps_relative_accuracy_in_the_left_tail() -> None:
    with mpmath.workdps(40):
        for x in np.linspace(-37.5, 9.0, 931):
            exact = mpmath.ncdf(mpmath.mpf(float(x)))
            # x*x/2 is rounded before it is exponentiated: half a unit of 703 at x = -37.5
            assert abs(mpmath.mpf(cdf(float(x))) / exact - 1) < 3e-15 + 2.3e-16 * x * x / 2, x
    grid = np.linspace(-8.0, 8.0, 20_001)
    assert np.max(np.abs(np.array([cdf(float(x)) for x in grid]) / ndtr(grid) - 1)) < 2e-14


@pytest.mark.parametrize(("x", "value"), [(np.inf, 1.0), (-np.inf, 0.0), (0.0, 0.5), (-0.0, 0.5)])
def test_ends_and_middle(x: float, value: float) -> None:
    assert cdf(x) == pytest.approx(value, rel=1e-15, abs=0)
    assert tail_given_pdf(x, pdf(x)) == pytest.approx(min(value, 1.0 - value), rel=1e-15, abs=0)
    assert np.isnan(cdf(np.nan))
    assert np.isnan(erfcx(-1.0))
