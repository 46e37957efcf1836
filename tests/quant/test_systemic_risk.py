"""CoVaR, MES, SRISK: closed forms, simulation and an independent quantile regression; compound losses beside them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aggregator.core.errors import DomainError
from aggregator.quant import compound_loss as cl
from aggregator.quant import systemic_risk as sr
from aggregator.quant.tail_risk import historical

# (rho, sigma system, sigma own, tail, CoVaR, delta, MES): closed forms, MES also by 2e6 draws; 1e-9.
GAUSSIAN = [
    (0.6, 0.03, 0.05, 0.05, -0.06908385233196186, -0.02960736528512651, 0.061881384225222755),
    (0.3, 0.02, 0.04, 0.01, -0.05834197590785562, -0.013958087244245045, 0.031982570644149694),
]
# (debt, equity, beta, LRMES, SRISK), drop 40 %, k 8 %
SRISK = [
    (900, 100, 1.2, 0.45827172913153946, 22.160999080101632),
    (500, 200, 0.8, 0.3354601940510261, -82.2753242946112),
    (1000, 50, 1.5, 0.53524199845511, 58.62113192893506),
]


@pytest.mark.parametrize(("rho", "system", "own", "tail", "covar", "delta", "mes"), GAUSSIAN)
def test_gaussian_forms(
    rho: float, system: float, own: float, tail: float, covar: float, delta: float, mes: float
) -> None:
    found = sr.gaussian_covar(rho, system, 1 - tail)
    assert found.covar == pytest.approx(covar, abs=1e-9)
    assert found.delta == pytest.approx(delta, abs=1e-9)
    assert sr.gaussian_mes(rho, own, 1 - tail) == pytest.approx(mes, abs=1e-9)


def test_tied_system_returns_count_alike_in_any_order() -> None:
    """Half of the tied days are in the tail, whichever they are: 0.5 where own returns are -1 and 0 by halves."""
    system = np.zeros(40)
    own = np.repeat([0.0, -1.0], 20)
    for order in (slice(None), slice(None, None, -1), np.random.default_rng(0).permutation(40)):
        assert sr.empirical_mes(own[order], system, 0.5) == pytest.approx(0.5, abs=1e-15)
    rng = np.random.default_rng(1)
    for _ in range(50):
        x, y, level = rng.normal(size=200), rng.integers(-4, 4, 200).astype(float), float(rng.uniform(0.5, 0.94))
        permuted = rng.permutation(200)
        found = sr.empirical_mes(x, y, level)
        assert sr.empirical_mes(x[permuted], y[permuted], level) == pytest.approx(found, abs=1e-12)
        # the mean over random ways of breaking the ties, each day weighted as the tail mean of a line of losses is
        broken = [tail_mean(x[np.lexsort((rng.random(200), y))], 200 * (1 - level)) for _ in range(400)]
        assert found == pytest.approx(np.mean(broken), abs=5 * np.std(broken) / 20 + 1e-12)


def tail_mean(sorted_own: np.ndarray, beyond: float) -> float:
    weights = np.clip(beyond - np.arange(len(sorted_own)), 0.0, 1.0)
    return float(-weights @ sorted_own / beyond)


def test_quantile_of_own_is_the_var_of_tail_risk() -> None:
    """CoVaR at own VaR: the same number that `historical` gives, also where the quantile falls on an outcome."""
    rng = np.random.default_rng(3)
    for n in (200, 333, 1000):
        own = rng.normal(size=n)
        found = sr.empirical_covar(own, 0.25 + 2.0 * own, 0.95)
        assert found.covar == pytest.approx(0.25 - 2.0 * historical(-own, 0.95, min_tail=1).var, abs=1e-9)
        median = historical(-own, 0.5, min_tail=1).var
        assert found.delta == pytest.approx(found.covar - 0.25 + 2.0 * median, abs=1e-9)


@pytest.mark.parametrize(("debt", "equity", "beta", "loss", "missing"), SRISK)
def test_srisk_figures(debt: float, equity: float, beta: float, loss: float, missing: float) -> None:
    assert float(sr.lrmes(beta)) == pytest.approx(loss, abs=1e-9)
    assert float(sr.srisk(debt, equity, sr.lrmes(beta))) == pytest.approx(missing, abs=1e-9)


def test_empirical_forms_reach_the_gaussian_ones() -> None:
    rng = np.random.default_rng(6)
    system = rng.normal(0, 0.03, 20_000)
    own = 0.05 * (0.6 * system / 0.03 + 0.8 * rng.standard_normal(20_000))
    assert sr.empirical_mes(own, system, 0.95) == pytest.approx(sr.gaussian_mes(0.6, 0.05, 0.95), rel=0.03)
    small = sr.empirical_covar(own[:4000], system[:4000], 0.95)
    exact = sr.gaussian_covar(0.6, 0.03, 0.95)
    assert small.covar == pytest.approx(exact.covar, rel=0.06)
    assert small.delta == pytest.approx(exact.delta, rel=0.15)


@given(st.integers(0, 10**6), st.floats(0.05, 0.95))
def test_quantile_regression_is_optimal_over_all_pairs(seed: int, quantile: float) -> None:
    """An optimum passes through two points: no line through any pair has a smaller check loss."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal(12), rng.standard_normal(12)

    def check(a: float, b: float) -> float:
        left = y - a - b * x
        return float(np.sum(np.where(left > 0, quantile * left, (quantile - 1) * left)))

    best = min(
        check(y[i] - (y[j] - y[i]) / (x[j] - x[i]) * x[i], (y[j] - y[i]) / (x[j] - x[i]))
        for i in range(12)
        for j in range(i)
    )
    assert check(*sr.quantile_regression(x, y, quantile)) == pytest.approx(best, rel=1e-7, abs=1e-9)


SEVERITY = np.zeros(11)
SEVERITY[[1, 2, 3, 10]] = 0.4, 0.3, 0.2, 0.1


def test_panjer_figures() -> None:
    """lambda 2.5: recursion checked by direct convolution elsewhere; 1e-8."""
    law = cl.panjer_poisson(2.5, SEVERITY, 200)
    expected = [
        0.0820849986238988, 0.0820849986238988, 0.1026062482798735, 0.1162870813838567, 0.0983309879348788,
        0.0853341964860948,
    ]  # fmt: skip
    np.testing.assert_allclose(law.pmf[:6], expected, atol=1e-8)
    assert law.mean == pytest.approx(6.5, abs=1e-8)
    assert law.variance == pytest.approx(33.5, abs=1e-8)
    assert (cl.loss_quantile(law, 0.99), cl.loss_quantile(law, 0.995)) == (25, 28)
    assert cl.loss_shortfall(law, 0.99) == pytest.approx(29.011908097680916, abs=1e-8)
    assert cl.layer(law, 10) == pytest.approx(1.2228786752013039, abs=1e-8)
    assert cl.layer(law, 10, 10) == pytest.approx(1.0812869102491822, abs=1e-8)
    assert cl.loaded_premium(law, 0.25) == pytest.approx(7.9469796128486445, abs=1e-8)


@given(st.floats(0.01, 30), st.floats(0, 0.5), st.integers(0, 10**6))
def test_panjer_equals_the_fourier_transform(rate: float, nothing: float, seed: int) -> None:
    """The transform of a compound law is P_N(f^): another algorithm altogether."""
    f = np.random.default_rng(seed).random(6)
    f[0] = 0
    f = (1 - nothing) * f / f.sum()
    f[0] = nothing
    size = 1024
    wave = np.fft.fft(f, size)
    poisson = np.fft.ifft(np.exp(rate * (wave - 1))).real
    np.testing.assert_allclose(cl.panjer_poisson(rate, f, size).pmf, poisson, atol=1e-12)
    binomial = np.fft.ifft((0.6 / (1 - 0.4 * wave)) ** 2.5).real
    np.testing.assert_allclose(cl.panjer_negative_binomial(2.5, 0.6, f, size).pmf, binomial, atol=1e-12)


@pytest.mark.parametrize(("a", "b", "first"), [(0.0, 3.0, 0.05), (0.4, 1.2, 0.2)])
def test_compiled_recursion_equals_the_array_form_to_1e_12(a: float, b: float, first: float) -> None:
    f = np.random.default_rng(5).dirichlet(np.ones(12))
    np.testing.assert_allclose(cl.recursion(a, b, first, f, 400), cl.recursion_by_rows(a, b, first, f, 400), rtol=1e-12)


def test_panjer_beyond_underflow() -> None:
    law = cl.panjer_poisson(2000.0, [0.0, 1.0], 4000)
    np.testing.assert_allclose(law.pmf, stats.poisson.pmf(np.arange(4000), 2000), atol=1e-12)
    assert law.mean == pytest.approx(2000, rel=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sr.gaussian_covar(1.5, 1, 0.95), "law"),
        (lambda: sr.gaussian_mes(0.5, 1, 0.05), "0.95"),
        (lambda: sr.empirical_mes(np.zeros(50), np.zeros(50), 0.95), "too few"),
        (lambda: sr.empirical_covar(np.zeros(50), np.zeros(49), 0.7), "pair"),
        (lambda: sr.lrmes(1.0, 1.0), "drop"),
        (lambda: sr.srisk(-1, 1, 0.1), "debt"),
        (lambda: cl.panjer_poisson(1, [0.5, 0.4], 10), "distribution"),
        (lambda: cl.panjer_poisson(-1, [0, 1], 10), "frequency"),
        (lambda: cl.loss_quantile(cl.panjer_poisson(5, [0, 1], 3), 0.99), "ends before"),
        (lambda: cl.layer(cl.panjer_poisson(5, [0, 1], 8), 1), "cuts the tail"),
    ],
)
def test_refusals(call: object, message: str) -> None:
    with pytest.raises(DomainError, match=message):
        call()  # type: ignore[operator]
