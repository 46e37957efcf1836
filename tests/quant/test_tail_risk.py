"""VaR and ES: exact laws, exact small samples, simulation, refusal of empty tails."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

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
    runs = [
        monte_carlo(lambda x: x, lambda g, n: g.standard_normal(n), 0.99, draws=50_000, seed=seed) for seed in range(20)
    ]
    var_z = np.array([(r.var - exact_var) / r.var_error for r in runs])
    es_z = np.array([(r.es - exact_es) / r.es_error for r in runs])
    for z in (var_z, es_z):
        assert 0.5 < z.std() < 1.7
        assert abs(z.mean()) < 1.2
    again = monte_carlo(lambda x: x, lambda g, n: g.standard_normal(n), 0.99, draws=50_000, seed=3)
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

    drawn = monte_carlo(loss, lambda g, n: g.multivariate_normal(np.zeros(2), sigma, n), 0.99, draws=400_000, seed=9)
    assert found.var == pytest.approx(drawn.var, rel=0.01)
    assert found.es == pytest.approx(drawn.es, rel=0.02)


def test_delta_gamma_of_one_factor_is_a_shifted_chi_square() -> None:
    """L = a y + g y^2/2 = g (y + a/g)^2/2 - a^2/2g: quantile and tail mean from the noncentral chi-square."""
    for a, g in itertools.product((0.0, 0.05, 0.8, 3.0), (1.0, 0.1, -0.1, -1.0)):
        law = stats.ncx2(1, (a / g) ** 2) if a else stats.chi2(1)
        for level in (0.5, 0.9, 0.99, 0.999):
            found = delta_gamma([-a], [[-g]], [[1.0]], level)
            at = law.ppf(level if g > 0 else 1.0 - level)
            assert found.var == pytest.approx(0.5 * g * at - 0.5 * a * a / g, abs=1e-10)
            assert max(found.var_error, found.es_error) < 1e-9
            if level != 0.99:
                continue
            mean = integrate.quad(law.isf if g > 0 else law.ppf, 0.0, 1.0 - level, epsabs=1e-12)[0] / (1.0 - level)
            assert found.es == pytest.approx(0.5 * g * mean - 0.5 * a * a / g, abs=1e-7)


def test_delta_gamma_of_a_law_with_an_end_bears_factors_of_rounding_size() -> None:
    """A book of rank one leaves factors that are rounding: VaR and ES move by no more than these."""
    for a, level in itertools.product((0.0, -0.9, 0.3, 3.0), (0.5, 0.99, 0.999, 0.99999)):
        alone = delta_gamma([a], [[2.0]], [[1.0]], level)
        for noise in 10.0 ** np.arange(-16.0, -6.0, 0.5):
            found = delta_gamma([a, noise], np.diag([2.0, 1e-6 * noise]), np.eye(2), level)
            assert abs(found.var - alone.var) <= found.var_error + 10.0 * noise + 1e-12
            assert abs(found.es - alone.es) <= found.es_error + 10.0 * noise + 1e-12
    rng = np.random.default_rng(0)
    for k, level in itertools.product(range(2, 8), (0.95, 0.999)):
        d, one = rng.normal(size=k), rng.normal(size=k)
        found = delta_gamma(d * 1e-6, np.outer(one, one), np.eye(k), level)
        square = float(one @ one)  # the loss is at most 0, but for delta: -square chi2/2
        assert found.var == pytest.approx(-0.5 * square * stats.chi2(1).ppf(1.0 - level), abs=1e-5 * np.sum(abs(d)))


def test_delta_gamma_equals_imhofs_integral() -> None:
    """P(L > VaR) by Imhof's formula along the imaginary axis, with scipy's quadrature: 1 - level at every scale."""
    rng = np.random.default_rng(2)
    for level in (0.5, 0.9, 0.99, 0.999):
        for scale in (1e-3, 1.0, 1e3):
            lam, a = rng.normal(size=6) * scale, rng.normal(size=6) * scale
            found = delta_gamma(-a, np.diag(-lam), np.eye(6), level)

            def integrand(u: float, lam: np.ndarray = lam, a: np.ndarray = a, x: float = found.var) -> float:
                wide = 1.0 + (lam * u) ** 2
                angle = np.sum(0.5 * np.arctan(lam * u) - 0.5 * a**2 * lam * u**3 / wide) - x * u
                return float(np.sin(angle) / u * np.exp(-0.5 * np.sum((a * u) ** 2 / wide)) / np.prod(wide) ** 0.25)

            half, error = integrate.quad(integrand, 1e-9 / scale, 60.0 / scale, limit=2000)
            assert 0.5 + half / np.pi == pytest.approx(1.0 - level, abs=1e-7 + error)


def test_delta_gamma_against_simulation_on_random_books() -> None:
    """500 books, a third long gamma, a third short, a third mixed: within the simulation's own error, sign and all."""
    issue = delta_gamma([1, 0], [[1, 0.9], [0.9, 1]], np.eye(2), 0.99)
    assert (issue.var, issue.es) == pytest.approx((1.253, 1.431), abs=3e-3)
    rng = np.random.default_rng(0)
    misses = []
    for book in range(500):
        k, level = int(rng.integers(1, 5)), float(rng.choice([0.9, 0.99]))
        m, g = rng.normal(size=(2, k, k))
        covariance = m @ m.T * 10.0 ** rng.uniform(-3, 1)
        gamma = (g @ g.T, -g @ g.T, g + g.T)[book % 3]
        delta, theta = rng.normal(size=k) * 10.0 ** rng.uniform(-2, 1), 0.1 * rng.normal()
        found = delta_gamma(delta, gamma, covariance, level, theta=theta)
        x = rng.multivariate_normal(np.zeros(k), covariance, 4000)
        drawn = historical(-(theta + x @ delta + 0.5 * np.einsum("ni,ij,nj->n", x, gamma, x)), level)
        misses.append(((found.var - drawn.var) / drawn.var_error, (found.es - drawn.es) / drawn.es_error))
        if abs(drawn.var) > 6 * drawn.var_error:
            assert np.sign(found.var) == np.sign(drawn.var)
        assert found.es >= found.var
    z = np.array(misses)
    assert np.max(np.abs(z)) < 6.0
    assert np.all(np.std(z, axis=0) < 1.3)
    assert np.all(np.abs(np.mean(z, axis=0)) < 0.2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: historical(np.zeros(99), 0.9), "too few"),
        (lambda: historical(np.zeros(500), 0.99), "too few"),
        (lambda: historical([1.0, float("nan")], 0.5), r"losses\[1\]"),
        (lambda: historical([], 0.5), "non-empty"),
        (lambda: historical(np.zeros(50), 1.0), "level"),
        (lambda: filtered_historical(np.zeros(50), np.zeros(50), 1.0, 0.5), "sigma"),
        (lambda: delta_gamma([1.0], [[0.0]], [[-1.0]], 0.99), "semi-definite"),
        (lambda: delta_gamma([1.0], [[0.0, 1.0]], [[1.0]], 0.99), "shapes"),
        (lambda: historical(np.arange(100.0), 0.05), "0.95"),
        (lambda: monte_carlo(lambda x: x, lambda g, n: g.standard_normal(n), 0.999, draws=1000, seed=0), "too few"),
    ],
)
def test_refusals(call: object, message: str) -> None:
    with pytest.raises(DomainError, match=message):
        call()  # type: ignore[operator]
