"""A NaN in an array is refused by name and index, whichever function it is given to; nothing turns it into a figure."""

import numpy as np
import pytest

from aggregator.core.errors import DomainError
from aggregator.quant import (
    deleveraging,
    fire_sales,
    forecast_scores,
    furfine,
    hedging,
    impact,
    network_measures,
    neva,
    perps,
    systemic_risk,
    tail_risk,
    volatility,
)

BAD = np.array([1.0, 1.0, np.nan])
OK3, EYE = np.ones(3), np.eye(3)
CALLS = {
    "quantity": lambda: impact.linear_impact(BAD, 1.0),
    "sigma": lambda: impact.square_root_impact(1.0, 1.0, BAD),
    "floor_frac": lambda: impact.exponential_impact(1.0, 1.0, [0.0, 0.5, 1.0]),
    "horizon": lambda: impact.market_depth(1.0, 1.0, BAD),
    "recovery_frac": lambda: furfine.furfine_cascade(np.zeros((3, 3)), OK3, 0.0, [0.0, 1.0, 1.5]),
    "assets": lambda: neva.merton(BAD, OK3),
    "inside_share": lambda: network_measures.amplification_bound(OK3 / 2, OK3, [0.0, 1.0, 1.5]),
    "default_probability": lambda: network_measures.amplification_bound([0.0, 1.0, 1.5], OK3, OK3 / 2),
    "equity": lambda: perps.cross_margin([0], 0, [1.0], [1.0], [0.1], BAD),
    "account": lambda: perps.cross_margin([0, 1, 7], 0, OK3, OK3, OK3 / 10, OK3),
    "imbalance_after_usd": lambda: perps.gmx_price_impact(OK3, BAD, 1e-9, 1e-9),
    "score": lambda: perps.adl_close(1.0, OK3, BAD),
    "profit": lambda: perps.socialise(OK3, BAD, 1.0),
    "beta": lambda: systemic_risk.lrmes(BAD),
    "long_run_mes": lambda: systemic_risk.srisk(OK3, OK3, BAD),
    "losses": lambda: tail_risk.historical(BAD, 0.9),
    "delta": lambda: tail_risk.delta_gamma(BAD, EYE * 0, EYE, 0.99),
    "series": lambda: volatility.realised_variance(BAD),
    "forecast": lambda: forecast_scores.qlike(OK3, [1.0, 1.0, 0.0]),
    "probability": lambda: forecast_scores.brier([0.0, 1.0, 1.5], [0, 1, 1]),
    "interval_yr": lambda: hedging.leland(1.0, cost_frac=0.005, interval_yr=BAD),
    "the sum of weights": lambda: fire_sales.greenwood_landier_thesmar(
        OK3 * 9, OK3, [[0.5, 0.5], [1, 0], [1, 1]], [0.1, 0.1], [0, 0]
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_element_is_named(name: str) -> None:
    with pytest.raises(DomainError, match=rf"^{name}\[2\] is out of range"):
        CALLS[name]()


def test_a_matrix_element_is_named_by_both_indices() -> None:
    with pytest.raises(DomainError, match=r"^holdings\[1, 1\] is out of range") as caught:
        deleveraging.deleverage([[1.0, 1.0], [1.0, np.nan]], OK3[:2], OK3[:2], OK3[:2], [0, 0], 3.0, 2.0)
    assert caught.value.found == "nan"
    assert "finite" in caught.value.expected
