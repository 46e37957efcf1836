"""A book's surface is the sum of its legs' full revaluations, and the smile moves by the rule that was asked for."""

from __future__ import annotations

import numpy as np
import pytest

from aggregator.core.errors import DomainError
from aggregator.quant import black
from aggregator.quant.risk_surface import book, risk_surface
from aggregator.quant.ssvi import SsviSurface

LEGS = book(
    ["c", "p", "c"], 3000.0, [3200.0, 2800.0, 3000.0], [0.1, 0.1, 0.02], [0.7, 0.8, 0.75], amount=[-5.0, 3.0, 1.0]
)
SMILE = SsviSurface(np.array([0.05, 0.5]), np.array([0.03, 0.25]), -0.4, 1.2, 0.4)


def test_pnl_and_greeks_equal_leg_by_leg_revaluation() -> None:
    moves, shocks, times = [-0.3, 0.0, 0.2], [-0.25, 0.0, 0.5], [0.0, 0.01]
    found = risk_surface(LEGS, moves, shocks, times)
    assert found.pnl.shape == (3, 3, 2)
    assert found.pnl[1, 1, 0] == 0
    for i, x in enumerate(moves):
        for j, y in enumerate(shocks):
            for n, tau in enumerate(times):
                value = gamma = 0.0
                for sign, K, T, amount, vol in zip(LEGS.sign, LEGS.K, LEGS.T_yr, LEGS.amount, LEGS.sigma, strict=True):
                    leg = black.black76_greeks(int(sign), 3000 * (1 + x), K, T - tau, vol * (1 + y))
                    value += amount * float(leg.price)
                    gamma += amount * float(leg.gamma)
                assert found.value_now + found.pnl[i, j, n] == pytest.approx(value, rel=1e-12)
                assert found.gamma[i, j, n] == pytest.approx(gamma, rel=1e-12)


def test_sticky_rules() -> None:
    strike = risk_surface(LEGS, [0.0, -0.2], smile=SMILE.vol, sticky="strike")
    delta = risk_surface(LEGS, [0.0, -0.2], smile=SMILE.vol, sticky="delta")
    assert strike.pnl[0] == delta.pnl[0] == 0
    for found, forward in ((strike, 3000.0), (delta, 2400.0)):
        vols = SMILE.vol(np.log(LEGS.K / forward), LEGS.T_yr)
        value = float(np.sum(LEGS.amount * black.black76_price(LEGS.sign, 2400.0, LEGS.K, LEGS.T_yr, vols)))
        assert found.pnl[1, 0, 0] + found.value_now == pytest.approx(value, rel=1e-12)
    assert strike.pnl[1] != delta.pnl[1]


def test_expired_legs_are_counted_and_worth_intrinsic() -> None:
    found = risk_surface(LEGS, [0.1, 0.0], 0.0, [0.0, 0.05, 0.2])
    assert list(found.expired[0, 0]) == [0, 1, 3]
    assert found.value_now + found.pnl[0, 0, 2] == pytest.approx(-5 * 100 + 0 + 300)
    # the third leg expires on its strike: no Greeks there
    assert list(found.kinks[1, 0]) == [0, 1, 1]
    assert np.isnan(found.delta[1, 0, 1])
    assert not np.isnan(found.pnl).any()


def test_a_coin_account_counts_in_coin() -> None:
    found = risk_surface(LEGS, [-0.2, 0.0, 0.2], coin=True)
    for i, move in enumerate((-0.2, 0.0, 0.2)):
        forward = 3000.0 * (1 + move)
        usd = float(np.sum(LEGS.amount * black.black76_price(LEGS.sign, forward, LEGS.K, LEGS.T_yr, LEGS.sigma)))
        assert found.value_now + found.pnl[i, 0, 0] == pytest.approx(usd / forward, rel=1e-12)
    h = 1e-5
    near = risk_surface(LEGS, [-h, 0.0, h], coin=True)
    assert (near.pnl[2] - near.pnl[0]) / (2 * h) == pytest.approx(near.delta[1], rel=1e-6)


def test_small_moves_agree_with_the_greeks() -> None:
    h = 1e-4
    found = risk_surface(LEGS, [-h, 0.0, h])
    assert (found.pnl[2] - found.pnl[0]) / (2 * h * 3000) == pytest.approx(found.delta[1], rel=1e-6)
    assert (found.pnl[2] + found.pnl[0]) / (h * 3000) ** 2 == pytest.approx(found.gamma[1], rel=1e-4)


def test_bad_input() -> None:
    with pytest.raises(DomainError, match="smile"):
        risk_surface(LEGS, 0.1, sticky="delta")
    with pytest.raises(DomainError, match=r"spot_moves_frac\[1\]"):
        risk_surface(LEGS, [0.1, -1.0])
    with pytest.raises(DomainError, match=r"time_moves_yr\[0\]"):
        risk_surface(LEGS, 0.1, 0.0, -1.0)
    with pytest.raises(DomainError, match=r"element\[1\]"):
        book("c", 100.0, [100.0, -1.0], 0.1, 0.5, amount=1.0)
    with pytest.raises(DomainError, match=r"amount\[0\]"):
        book("c", 100.0, 100.0, 0.1, 0.5, amount=np.nan)
