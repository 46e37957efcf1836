"""Volatility models and scores: the DM/GBP benchmark, R's Diebold-Mariano, arch as another program, laws."""

import numpy as np
import pytest
from arch import arch_model
from arch.univariate import HARX
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from aggregator.core.errors import DomainError
from aggregator.quant.forecast_scores import (
    auc,
    brier,
    crps_ensemble,
    crps_gaussian,
    crps_quantiles,
    diebold_mariano,
    log_loss,
    model_confidence_set,
    qlike,
    squared_error,
)
from aggregator.quant.volatility import (
    bipower_variation,
    fit_garch,
    har,
    har_design,
    realised_variance,
    variances,
    variances_by_filter,
)
from tests.quant.dm_gbp import RETURNS

DM_GBP = np.array(RETURNS.split(), float)
# R forecast::dm.test on these errors: (horizon, power, statistic, p), 1e-9.
E1 = np.array([
    -0.6265, 0.1836, -0.8356, 1.5953, 0.3295, -0.8205, 0.4874, 0.7383, 0.5758, -0.3054, 1.5118, 0.3898, -0.6212,
    -2.2147, 1.1249, -0.0449, -0.0162, 0.9438, 0.8212, 0.5939, 0.919, 0.7821, 0.0746, -1.9894, 0.6198, -0.0561,
    -0.1558, -1.4708, -0.4782, 0.4179, 1.3587, -0.1028, 0.3877, -0.0538, -1.3771, -0.415, -0.3943, -0.0593, 1.1,
    0.7632, -0.1645, -0.2534, 0.697, 0.5567, -0.6888, -0.7075, 0.3646, 0.7685, -0.1123, 0.8811, 0.3981, -0.612,
    0.3411, -1.1294, 1.433, 1.9804, -0.3672, -1.0441, 0.5697, -0.1351,
])  # fmt: skip
E2 = np.array([
    2.8619, 0.0549, 0.8932, 0.1322, -0.7548, 0.3171, -1.9757, 1.7854, 0.2762, 2.5985, 0.6468, -0.7164, 0.8023,
    -0.9742, -1.3417, 0.4352, -0.4098, 0.1013, 0.1855, -0.5779, -0.554, -0.0555, 1.4548, -1.6521, 0.783, 0.4829,
    1.3226, -0.2498, 0.5255, 0.4072, -0.5239, 1.489, 1.4345, 0.9052, 1.9249, 0.7423, -1.3681, -0.5593, -1.3083,
    -0.4444, -0.6134, 0.1484, -0.9476, 0.2817, -0.6528, 2.1324, 0.9242, 1.1467, 0.5418, 2.0345, -0.6311, -0.4309,
    1.7471, -0.6483, -0.1385, -0.3517, -0.268, -0.221, 0.6683, -0.1039,
])  # fmt: skip
R_DM = [
    (1, 1, -1.48096462457, 0.14393695101), (1, 2, -1.58838190571, 0.117545092489),
    (3, 1, -1.31204517978, 0.194586919047), (3, 2, -1.43899107123, 0.155437359236),
]  # fmt: skip


def test_garch_benchmark() -> None:
    """Fiorentini, Calzolari and Panattoni 1996 on DM/GBP, h_0 = e_0^2 = mean e^2: coefficients to 1e-4 relative."""
    assert len(DM_GBP) == 1974
    found = fit_garch(DM_GBP, presample_mean=True)
    start = float(np.mean((DM_GBP - found.mu) ** 2))
    ours = (found.mu, found.omega, found.alpha, found.beta)
    np.testing.assert_allclose(ours, (-0.00619041, 0.0107613, 0.153134, 0.805974), rtol=1e-4)
    assert found.loglikelihood == pytest.approx(-1106.6078810412885, abs=1e-4)
    # robust standard errors of the same benchmark
    robust = [found.errors[name] for name in ("mu", "omega", "alpha[1]", "beta[1]")]
    np.testing.assert_allclose(robust, [0.00918935, 0.00649319, 0.0535317, 0.0724614], rtol=0.01)
    h = start
    e = DM_GBP - found.mu
    for t in range(len(e)):
        h = found.omega + (found.alpha * (e[t - 1] ** 2 if t else start) + found.beta * h)
        assert found.variance[t] == pytest.approx(h, rel=1e-9)
    assert found.next_variance == pytest.approx(found.omega + found.alpha * e[-1] ** 2 + found.beta * h, rel=1e-9)


@pytest.mark.parametrize(("asymmetric", "presample_mean"), [(False, False), (True, False), (False, True)])
def test_garch_does_not_depend_on_the_unit(asymmetric: bool, presample_mean: bool) -> None:
    rng = np.random.default_rng(1)
    h, r = 1.0, np.empty(1000)
    for t in range(len(r)):
        r[t] = np.sqrt(h) * rng.standard_normal()
        h = 0.1 + 0.2 * r[t] ** 2 + 0.7 * h
    if not asymmetric and not presample_mean:
        theirs = arch_model(r / 100, mean="Constant", vol="GARCH", p=1, q=1, rescale=True).fit(disp="off")
        assert fit_garch(r / 100).alpha == pytest.approx(theirs.params["alpha[1]"], rel=1e-3)
        assert fit_garch(r / 100).alpha == pytest.approx(0.2215, abs=1e-4)
    one = fit_garch(r, asymmetric=asymmetric, presample_mean=presample_mean)
    assert one.converged
    for unit in (1e-4, 0.003, 100.0, 1e4):
        found = fit_garch(r * unit, asymmetric=asymmetric, presample_mean=presample_mean)
        assert found.converged
        plain = (found.alpha, found.gamma, found.beta, found.mu / unit, found.omega / unit**2)
        assert plain == pytest.approx((one.alpha, one.gamma, one.beta, one.mu, one.omega), rel=1e-4, abs=1e-6)
        assert found.loglikelihood + 1000 * np.log(unit) == pytest.approx(one.loglikelihood, abs=1e-5)
        assert found.next_variance == pytest.approx(one.next_variance * unit**2, rel=1e-4)
        np.testing.assert_allclose(found.variance, one.variance * unit**2, rtol=1e-4)
        assert found.errors["mu"] == pytest.approx(one.errors["mu"] * unit, rel=1e-2)
        assert found.errors["omega"] == pytest.approx(one.errors["omega"] * unit**2, rel=1e-2)


def test_gjr_finds_the_asymmetry_it_was_given() -> None:
    rng = np.random.default_rng(12)
    n, omega, alpha, gamma, beta = 6000, 0.05, 0.03, 0.12, 0.85
    h, r = 1.0, np.empty(n)
    for t in range(n):
        r[t] = np.sqrt(h) * rng.standard_normal()
        h = omega + (alpha + gamma * (r[t] < 0)) * r[t] ** 2 + beta * h
    found = fit_garch(r, asymmetric=True)
    assert found.converged
    assert found.gamma == pytest.approx(gamma, abs=4 * found.errors["gamma[1]"])
    assert found.beta == pytest.approx(beta, abs=4 * found.errors["beta[1]"])
    assert fit_garch(r).loglikelihood < found.loglikelihood


@pytest.mark.parametrize("beta", [0.0, 0.8, 0.999])
def test_compiled_variances_equal_the_filter_to_1e_12(beta: float) -> None:
    e = np.random.default_rng(3).standard_t(4, 3000)
    compiled = variances(e, 1.3, 0.02, 0.05, 0.08, beta)
    np.testing.assert_allclose(compiled, variances_by_filter(e, 1.3, 0.02, 0.05, 0.08, beta), rtol=1e-12)


def test_har_figures() -> None:
    """HAR(1, 5, 22) on squared DM/GBP returns; least squares done twice elsewhere; 1e-6 relative."""
    found = har(DM_GBP**2)
    np.testing.assert_allclose(
        found.coefficients,
        [0.07801882421284492, 0.08712380814389764, 0.2856762901479891, 0.2783823085526115],
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        found.errors, [0.016246435955224882, 0.051083999717540525, 0.108414151564601, 0.10114383867647274], rtol=1e-6
    )
    assert found.r2 == pytest.approx(0.09602200786198234, rel=1e-6)
    assert found.observations == 1952


def test_har_equals_arch() -> None:
    theirs = HARX(DM_GBP**2, lags=[1, 5, 22], rescale=False).fit(disp="off")
    np.testing.assert_allclose(har(DM_GBP**2).coefficients, theirs.params.to_numpy()[:4], rtol=1e-6)


@given(st.integers(0, 10**6))
def test_har_never_looks_ahead(seed: int) -> None:
    rng = np.random.default_rng(seed)
    series = rng.random(60)
    x, y = har_design(series)
    changed = series.copy()
    changed[40:] += 5
    again, _ = har_design(changed)
    np.testing.assert_allclose(again[: 40 - 22 + 1], x[: 40 - 22 + 1])
    assert y[0] == series[22]
    assert x[0, 3] == pytest.approx(series[:22].mean())


def test_bipower_ignores_one_jump() -> None:
    rng = np.random.default_rng(2)
    days = rng.normal(0, 0.01, (200, 288))
    jumpy = days.copy()
    jumpy[:, 100] += 0.08
    assert realised_variance(days).mean() == pytest.approx(288e-4, rel=0.02)
    assert bipower_variation(days).mean() == pytest.approx(288e-4, rel=0.02)
    assert realised_variance(jumpy).mean() - realised_variance(days).mean() == pytest.approx(0.0064, rel=0.1)
    assert bipower_variation(jumpy).mean() < realised_variance(jumpy).mean() * 0.9


@pytest.mark.parametrize(("horizon", "power", "statistic", "p"), R_DM)
def test_diebold_mariano_equals_r(horizon: int, power: int, statistic: float, p: float) -> None:
    found = diebold_mariano(np.abs(E1) ** power, np.abs(E2) ** power, horizon)
    assert found.statistic == pytest.approx(statistic, abs=1e-9)
    assert found.p_value == pytest.approx(p, abs=1e-9)
    swapped = diebold_mariano(np.abs(E2) ** power, np.abs(E1) ** power, horizon)
    assert swapped.statistic == pytest.approx(-found.statistic)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("constant", [0.0, 0.1, -1 / 3])
def test_diebold_mariano_of_a_constant_difference_is_refused(scale: float, constant: float) -> None:
    losses = np.random.default_rng(0).random(50) * scale
    with pytest.raises(DomainError, match="constant"):
        diebold_mariano(losses, losses + constant * scale)


def test_scores_by_hand() -> None:
    p, y = [0.1, 0.4, 0.35, 0.8, 0.65, 0.2, 0.9, 0.5], [0, 0, 1, 1, 1, 0, 1, 0]
    assert auc(p, y) == pytest.approx(0.875, abs=1e-9)
    assert brier(p, y) == pytest.approx(0.131875, abs=1e-9)
    assert log_loss(p, y) == pytest.approx(0.4176982473576425, abs=1e-9)
    rv, h = np.array([1.2, 0.8, 2.0, 0.5]), np.array([1.0, 1.0, 1.5, 0.7])
    assert qlike(rv, h).mean() == pytest.approx(0.03430780157718366, abs=1e-9)
    assert squared_error(rv, h).mean() == pytest.approx(0.0925, abs=1e-9)
    assert np.isnan(auc([0.1, 0.2], [1, 1]))
    assert auc([0.5, 0.5], [0, 1]) == 0.5
    assert log_loss([0.0], [1]) == float("inf")


def crps_by_definition(y: float, members: np.ndarray) -> float:
    """int (F - 1[y <= x])^2 dx, step by step."""
    at = np.sort(np.append(members, y))
    share = np.array([np.mean(members <= x) for x in at[:-1]])
    return float(np.sum(np.diff(at) * (share - (at[:-1] >= y)) ** 2))


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30), st.floats(-1e3, 1e3))
def test_crps_of_an_ensemble_is_the_integral_and_the_double_sum(members: list[float], y: float) -> None:
    x = np.array(members)
    m, pairs = len(x), np.abs(x[:, None] - x[None, :]).sum()
    assert float(crps_ensemble(y, x)) == pytest.approx(crps_by_definition(y, x), abs=1e-9)
    assert float(crps_ensemble(y, x)) == pytest.approx(np.abs(x - y).mean() - pairs / (2 * m * m), abs=1e-9)
    fair = np.abs(x - y).mean() - pairs / (2 * m * (m - 1))
    assert float(crps_ensemble(y, x, fair=True)) == pytest.approx(fair, abs=1e-9)
    level = (np.arange(m) + 0.5) / m
    assert float(crps_quantiles(y, np.sort(x), quantile=level)) == pytest.approx(crps_by_definition(y, x), abs=1e-9)
    assert float(crps_ensemble(y, [y] * m)) == 0.0


@pytest.mark.parametrize(
    ("y", "mean", "sigma"), [(0.5, 0.0, 1.0), (-3.0, 2.0, 0.7), (1e-3, 0.0, 50.0), (9.0, 0.0, 1.0)]
)
def test_crps_of_a_normal_law(y: float, mean: float, sigma: float) -> None:
    found = float(crps_gaussian(y, mean, sigma))
    below = integrate.quad(lambda x: stats.norm.cdf(x, mean, sigma) ** 2, mean - 12 * sigma, y, epsabs=1e-12)[0]
    above = integrate.quad(lambda x: stats.norm.sf(x, mean, sigma) ** 2, y, max(y, mean + 12 * sigma), epsabs=1e-12)[0]
    assert found == pytest.approx(below + above, rel=1e-8)
    z = (y - mean) / sigma
    closed = sigma * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))
    assert found == pytest.approx(closed, rel=1e-12)
    level = (np.arange(4000) + 0.5) / 4000
    by_quantiles = float(crps_quantiles(y, stats.norm.ppf(level, mean, sigma), quantile=level))
    assert by_quantiles == pytest.approx(found, rel=2e-3)


def test_crps_published_and_fair() -> None:
    assert float(crps_gaussian(0.5, 0.0, 1.0)) == pytest.approx(0.331404, abs=5e-7)  # scoringrules
    assert float(crps_gaussian(3.0, 1.0, 0.0)) == 2.0
    drawn = np.random.default_rng(0).normal(size=(20_000, 3))
    for y in (0.0, 0.5, -2.0):
        fair = crps_ensemble(np.full(len(drawn), y), drawn, fair=True)
        error = fair.std() / np.sqrt(len(fair))
        assert fair.mean() == pytest.approx(float(crps_gaussian(y, 0.0, 1.0)), abs=5 * error)
        # not fairly, three members score worse than their law by a sixth of the mean distance between two, 2/sqrt(pi)
        plain = crps_ensemble(np.full(len(drawn), y), drawn).mean()
        assert plain - fair.mean() == pytest.approx(2 / np.sqrt(np.pi) / 6, abs=0.01)
    assert crps_ensemble(np.zeros((2, 3)), np.zeros((2, 3, 5))).shape == (2, 3)
    for call, message in (
        (lambda: crps_ensemble(0.0, [1.0], fair=True), "pair"),
        (lambda: crps_ensemble([0.0, 1.0], [1.0, 2.0]), "pair"),
        (lambda: crps_ensemble(0.0, [1.0, np.nan]), r"members\[1\]"),
        (lambda: crps_gaussian(0.0, 0.0, -1.0), "sigma"),
        (lambda: crps_quantiles(0.0, [1.0, 0.5], quantile=[0.1, 0.9]), "forecast"),
        (lambda: crps_quantiles(0.0, [1.0, 1.5], quantile=[0.9, 0.1]), r"quantile\[1\]"),
    ):
        with pytest.raises(DomainError, match=message):
            call()


@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_qlike_is_zero_only_when_right_and_worse_below(rv: float, h: float) -> None:
    assert float(qlike(rv, h)) >= -1e-12
    assert float(qlike(rv, rv)) == 0
    assert float(qlike(rv, rv / 2)) > float(qlike(rv, rv * 2))


def test_confidence_set_drops_the_bad_and_keeps_the_tied() -> None:
    rng = np.random.default_rng(5)
    noise = rng.standard_normal((400, 1)) ** 2
    losses = noise + rng.normal(0, 0.1, (400, 3)) + np.array([0.0, 0.0, 0.5])
    found = model_confidence_set(losses, ["a", "b", "worse"], seed=1)
    assert found.included == ("a", "b")
    assert found.p_values["worse"] < 0.1
    assert max(found.p_values.values()) == 1
    assert model_confidence_set(losses, ["a", "b", "worse"], seed=1) == found


@pytest.mark.parametrize(
    "call",
    [
        lambda: qlike([1.0, 0.0], [1.0, 1.0]),
        lambda: qlike([1.0], [float("nan")]),
        lambda: diebold_mariano([1.0, 2.0], [1.0, 2.0]),
        lambda: diebold_mariano([1.0, 2.0], [1.0]),
        lambda: brier([1.2], [1]),
        lambda: brier([0.2], [2]),
        lambda: har(np.ones(40)),
        lambda: fit_garch(np.zeros(200)),
        lambda: fit_garch([0.1, float("inf")]),
        lambda: bipower_variation([1.0]),
        lambda: model_confidence_set(np.ones((10, 1)), ["a"], seed=0),
    ],
)
def test_bad_input_is_refused(call: object) -> None:
    with pytest.raises(DomainError):
        call()  # type: ignore[operator]
