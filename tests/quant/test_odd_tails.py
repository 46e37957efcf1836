"""Odd input to tails, tests of forecasts and volatility: an error that names the input, never a figure or a warning."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from aggregator.core.errors import DomainError
from aggregator.quant import backtests, forecast_scores, systemic_risk, tail_risk, volatility
from aggregator.quant import compound_loss as cl

NAN, INF = float("nan"), float("inf")
RNG = np.random.default_rng(0)
SERIES = RNG.normal(size=400)
LAW = cl.panjer_poisson(2.0, [0.2, 0.5, 0.3], 100)
EYE = np.eye(2)
TIED = np.stack([np.arange(1.0, 101.0), np.arange(100.0, 0.0, -1.0)], axis=1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tail_risk.historical(SERIES.reshape(2, 200), 0.9), "line"),
        (lambda: tail_risk.historical(["x"] * 200, 0.9), "not an array of numbers"),
        (lambda: tail_risk.historical(SERIES * 1e200, 0.9), "float64"),
        (lambda: tail_risk.historical(SERIES, NAN), "level"),
        (lambda: tail_risk.historical(SERIES, "high"), "level"),  # type: ignore[arg-type]
        (lambda: tail_risk.historical(SERIES, [0.9, 0.95]), "level"),  # type: ignore[arg-type]
        (lambda: tail_risk.delta_gamma([1.0], [[0.0]], [[1.0]], 0.9, theta="x"), "theta"),  # type: ignore[arg-type]
        (lambda: tail_risk.filtered_historical(SERIES, np.ones(399), 1.0, 0.9), "pair"),
        (lambda: tail_risk.filtered_historical(SERIES, np.ones(400), NAN, 0.9), "sigma_now"),
        (lambda: tail_risk.delta_gamma([], np.zeros((0, 0)), np.zeros((0, 0)), 0.99), "shapes"),
        (
            lambda: tail_risk.delta_gamma([1.0, 2.0], [[0.0, NAN], [0.0, 0.0]], EYE, 0.99),
            r"gamma\[0, 1\].*(\n.*)*finite",
        ),
        (
            lambda: tail_risk.delta_gamma([1.0, 2.0], EYE, [[1.0, 0.5], [0.4, 1.0]], 0.99),
            r"covariance\[0, 1\].*(\n.*)*mirror",
        ),
        (lambda: tail_risk.delta_gamma([1e300, 0.0], EYE, EYE, 0.99), "float64"),
        (lambda: tail_risk.monte_carlo(lambda x: x, lambda g, n: g.normal(size=n), 0.9, draws=0, seed=1), "draws"),
        (lambda: backtests.kupiec(3, INF, 0.99), "counts"),  # type: ignore[arg-type]
        (lambda: backtests.kupiec(2.5, 250, 0.99), "counts"),  # type: ignore[arg-type]
        (lambda: backtests.traffic_light(3, 250, NAN), "level"),
        (lambda: backtests.christoffersen([0.0, NAN, 1.0], 0.95), "flags"),
        (lambda: backtests.acerbi_szekely(SERIES, np.ones(399), np.ones(400)), "broadcast"),
        (lambda: backtests.acerbi_szekely(SERIES, [np.ones(400)], np.ones(400)), "profits"),
        (lambda: backtests.acerbi_szekely([0.0, INF], 1.0, 2.0), r"profit\[1\]"),
        (lambda: backtests.acerbi_szekely([0.0, 1.0], [1.0, 0.0], 2.0), r"var\[1\]"),
        (lambda: backtests.acerbi_szekely([0.0, 1.0], 1.0, [2.0, 0.5]), r"es\[1\]"),
        (lambda: systemic_risk.gaussian_covar(0.5, INF, 0.95), "law"),
        (lambda: systemic_risk.gaussian_mes(0.5, INF, 0.95), "law"),
        (lambda: systemic_risk.quantile_regression(np.ones(50), SERIES[:50], 0.5), "no slope"),
        (lambda: systemic_risk.empirical_covar(np.zeros(400), SERIES, 0.95), "no slope"),
        (lambda: systemic_risk.lrmes(-1e6), "float64"),
        (lambda: systemic_risk.srisk([1.0, 2.0], [1.0, 2.0, 3.0], 0.1), "broadcast"),
        (lambda: volatility.realised_variance([]), "series"),
        (lambda: volatility.realised_variance(np.zeros((3, 0))), "series"),
        (lambda: volatility.realised_variance([1e200]), "float64"),
        (lambda: volatility.bipower_variation(0.1), "series"),
        (lambda: volatility.har(np.ones(200)), "do not move apart"),
        (lambda: volatility.har(SERIES**2, newey_west_lag=400), "newey_west_lag"),
        (lambda: volatility.har(SERIES**2, lags=()), "lags"),
        (lambda: volatility.har_design(SERIES[:22]), "series"),
        (lambda: volatility.fit_garch(SERIES * 1e200), "float64"),
        (lambda: forecast_scores.qlike([1.0, 2.0], [1.0, 2.0, 3.0]), "broadcast"),
        (lambda: forecast_scores.squared_error([1.0, 1e200], 0.0), "float64"),
        (lambda: forecast_scores.squared_error([], []), "empty"),
        (lambda: forecast_scores.auc([0.1, 0.2], [0, 2]), r"happened\[1\]"),
        (lambda: forecast_scores.model_confidence_set(TIED, ["a", "b"], seed=0, reps=50), "tie"),
        (lambda: forecast_scores.model_confidence_set(TIED[:, [0, 0]], ["a", "b"], seed=0, reps=50), "the same"),
        (lambda: forecast_scores.model_confidence_set(TIED, ["a", "a"], seed=0, reps=50), "names"),
        (lambda: forecast_scores.model_confidence_set(TIED, ["a", "b"], seed=0, reps=0), "reps"),
        (lambda: cl.panjer_poisson(NAN, [0.0, 1.0], 10), "frequency"),
        (lambda: cl.panjer_poisson(1.0, [0.0, 1.0], 10.5), "size"),  # type: ignore[arg-type]
        (lambda: cl.panjer_poisson(1.0, [0.0, NAN], 10), "distribution"),
        (lambda: cl.panjer_negative_binomial(INF, 0.5, [0.0, 1.0], 10), "frequency"),
        (lambda: cl.loss_quantile(LAW, NAN), "level"),
        (lambda: cl.layer(LAW, NAN), "layer"),
        (lambda: cl.loaded_premium(LAW, NAN), "loading"),
    ],
)
def test_odd_input_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(DomainError, match=message):
        call()


def test_lists_float32_and_read_only_series_give_the_same_figure() -> None:
    frozen = SERIES.copy()
    frozen.flags.writeable = False
    expected = tail_risk.historical(SERIES, 0.9)
    assert tail_risk.historical(frozen, 0.9) == tail_risk.historical(SERIES.tolist(), 0.9) == expected
    assert tail_risk.historical(SERIES.astype(np.float32), 0.9).es == pytest.approx(expected.es, rel=1e-6)
    assert tail_risk.historical(np.arange(200), 0.9).var == 179
    assert cl.panjer_poisson(2.0, np.float32([0.25, 0.25, 0.5]), np.int64(50)).mean == pytest.approx(2.5)
    assert volatility.har(frozen**2).observations == 378
