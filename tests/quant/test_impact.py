"""Impact functions at worked points, their order, and bad input."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.core.errors import DomainError
from aggregator.quant.impact import exponential_impact, linear_impact, market_depth, square_root_impact

# Own arithmetic checked two ways elsewhere: q, linear, exponential, with floor 1/2, square root (Y = 1),
# depth 1e9, sigma 0.04, ADV 1e9; tolerance 1e-9.
POINTS = [
    (1e6, 0.001, 0.000999500166624978, 0.0009990006663334605, 0.0012649110640673518),
    (1e7, 0.01, 0.009950166250831893, 0.009900663346622374, 0.004),
    (1e8, 0.1, 0.09516258196404048, 0.09063462346100909, 0.012649110640673518),
    (5e8, 0.5, 0.3934693402873666, 0.31606027941427883, 0.028284271247461905),
    (1e9, 1.0, 0.6321205588285577, 0.43233235838169365, 0.04),
]


@pytest.mark.parametrize(("q", "linear", "exponential", "floored", "root"), POINTS)
def test_points(q: float, linear: float, exponential: float, floored: float, root: float) -> None:
    assert float(linear_impact(q, 1e9)) == pytest.approx(linear, rel=1e-9)
    assert float(exponential_impact(q, 1e9)) == pytest.approx(exponential, rel=1e-9)
    assert float(exponential_impact(q, 1e9, 0.5)) == pytest.approx(floored, rel=1e-9)
    assert float(square_root_impact(q, 1e9, 0.04)) == pytest.approx(root, rel=1e-9)


@given(st.floats(-1e12, 1e12), st.floats(1e-3, 1e12), st.floats(0, 0.99))
def test_impact_is_bounded_odd_and_ordered(q: float, depth: float, floor: float) -> None:
    straight, bent = float(linear_impact(q, depth)), float(exponential_impact(q, depth, floor))
    assert abs(bent) <= 1 - floor
    assert abs(bent) <= abs(straight) * (1 + 1e-12) + 1e-300
    assert float(exponential_impact(-q, depth, floor)) == -bent


def test_market_depth_formula() -> None:
    assert float(market_depth(1e9, 0.04, 4.0, 0.3)) == pytest.approx(0.3 * 1e9 / 0.04 * 2, rel=1e-15)


@pytest.mark.parametrize(
    "call",
    [
        lambda: linear_impact(1, 0),
        lambda: linear_impact([1, float("nan")], 1),
        lambda: exponential_impact(1, 1, 1.5),
        lambda: exponential_impact(1, float("inf")),
        lambda: square_root_impact(1, 1, -0.1),
        lambda: square_root_impact(1, -1, 0.1),
        lambda: market_depth(0, 0.1, 1),
        lambda: market_depth(1, 0.0, 1),
    ],
)
def test_bad_input_is_refused(call: object) -> None:
    with pytest.raises(DomainError):
        call()  # type: ignore[operator]
