"""VaR and ES: exact laws, exact small samples, simulation, refusal of empty tails."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aggregator.core.errors import DomainError
from aggregator.quant.tail_risk import delta_gamma, filtered_historical, historical, monte_carlo


def test_one_hundred_losses_by_hand() -> None:
    """1..100 at 90 %: the 90th loss, and the mean of 91..100."""
    found = historical(np.random.default_rng(0).permutation(np.arange(1.0, 101)), 0.90)
    assert (found.var, found.es) == (90.0, pytest.approx(95.5))
    split = historical(np.arange(1.0, 101), 0.895)
    # 10.5 outcomes: half of the 90th and all above it
    assert (split.var, split.es) == (90.0, pytest.approx((0.5 * 90 + 955) / 10.5))


@given(st.lists(st.floats(-1e6, 1e6), min_size=40, max_size=80), st.floats(0.5, 0.74))
def test_expected_shortfall_is_the_minimum_of_rockafellar_and_uryasev(losses: list[float], level: float) -> None:
    """ES = min over t of t + E(L - t)+ / (1 - a), attained at VaR: an independent definition."""
    found = historical(losses, level)
    x = np.array(losses)
    candidates = np.array([t + np.maximum(x - t, 0).mean() / (1 - level) for t in x])
    scale = max(1.0, float(np.abs(x).max()))
    assert found.es == pytest.approx(candidates.min(), abs=1e-9 * scale)
    assert found.es >= found.var - 1e-9 * scale


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=40, max_size=60))
def test_expected_shortfall_is_coherent(pairs: list[tuple[float, float]]) -> None:
    a, b = np.array(pairs).T
    whole, x, y = (historical(v, 0.7).es for v in (a + b, a, b))
    assert whole <= x + y + 1e-7
    assert historical(2 * a + 3, 0.7).es == pytest.approx(2 * x + 3, abs=1e-7)


def test_normal_law_and_the_reported_errors() -> None:
    """20 seeded Monte Carlo runs: exact answers lie within the standard errors about as often as they should."""
    exact_var, exact_es = stats.norm.ppf(0.99), stats.norm.pdf(stats.norm.ppf(0.99)) / 0.01
    runs = [monte_carlo(lambda x: x, lambda g, n: g.standard_normal(n), 0.99, 50_000, seed) for seed in range(20)]
    var_z = np.array([(r.var - exact_var) / r.var_error for r in runs])
    es_z = np.array([(r.es - exact_es) / r.es_error for r in runs])
    for z in (var_z, es_z):
        assert 0.5 < z.std() < 1.7
        assert abs(z.mean()) < 1.2
    again = monte_carlo(lambda x: x, lambda g, n: g.standard_normal(n), 0.99, 50_000, 3)
    assert again == runs[3]


def test_filtering_rescales_to_todays_volatility() -> None:
    rng = np.random.default_rng(4)
    sigma = np.where(np.arange(2000) < 1000, 1.0, 3.0)
    losses = rng.standard_normal(2000) * sigma
    filtered = filtered_historical(losses, sigma, 3.0, 0.99)
    assert filtered.var == pytest.approx(historical(losses / sigma, 0.99).var * 3)
    assert filtered.var > historical(losses, 0.99).var


def test_delta_only_is_the_normal_answer() -> None:
    sigma = np.array([[0.04, 0.01], [0.01, 0.09]])
    delta = np.array([100.0, -40.0])
    found = delta_gamma(delta, np.zeros((2, 2)), sigma, 0.99, theta=-1.5)
    sd = np.sqrt(delta @ sigma @ delta)
    assert found.var == pytest.approx(1.5 + sd * stats.norm.ppf(0.99), rel=1e-12)
    assert found.es == pytest.approx(1.5 + sd * stats.norm.pdf(stats.norm.ppf(0.99)) / 0.01, rel=1e-6)


def test_delta_gamma_against_simulation() -> None:
    sigma = np.array([[0.04, 0.01], [0.01, 0.09]])
    delta, gamma = np.array([100.0, -40.0]), np.array([[-30.0, 5.0], [5.0, 20.0]])
    found = delta_gamma(delta, gamma, sigma, 0.99, theta=-1.0)

    def loss(x: np.ndarray) -> np.ndarray:
        return 1.0 - x @ delta - 0.5 * np.einsum("ni,ij,nj->n", x, gamma, x)

    drawn = monte_carlo(loss, lambda g, n: g.multivariate_normal(np.zeros(2), sigma, n), 0.99, 400_000, 9)
    assert found.var == pytest.approx(drawn.var, rel=0.01)
    assert found.es == pytest.approx(drawn.es, rel=0.02)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: historical(np.zeros(99), 0.9), "too few"),
        (lambda: historical(np.zeros(500), 0.99), "too few"),
        (lambda: historical([1.0, float("nan")], 0.5), r"losses\[1\]"),
        (lambda: historical([], 0.5), "non-empty"),
        (lambda: historical(np.zeros(50), 1.0), "level"),
        (lambda: filtered_historical(np.zeros(50), np.zeros(50), 1.0, 0.5), "volatility"),
        (lambda: delta_gamma([1.0], [[0.0]], [[-1.0]], 0.99), "semi-definite"),
        (lambda: delta_gamma([1.0], [[0.0, 1.0]], [[1.0]], 0.99), "shapes"),
        (lambda: delta_gamma([0.0], [[60.0]], [[1.0]], 0.99), "monotone"),
        (lambda: monte_carlo(lambda x: x, lambda g, n: g.standard_normal(n), 0.999, 1000, 0), "too few"),
    ],
)
def test_refusals(call: object, message: str) -> None:
    with pytest.raises(DomainError, match=message):
        call()  # type: ignore[operator]
