"""Hedging with costs: published figures, the simulation against an independent loop, and what costs must do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.core.errors import DomainError
from aggregator.quant import black, hedging, hedging_reference
from aggregator.quant.hedging_simulation import Jumps, Rule, log_moves, simulate

# Leland (1985): sigma, round trip, interval, number, short, long (closed form, recomputed to 16 digits elsewhere)
LELAND = [
    (0.2, 0.01, 0.019230769230769232, 0.28768136958757956, 0.22695209799317384, 0.1687979419794472),
    (0.8, 0.002, 0.0027397260273972603, 0.03810890782630152, 0.8151010373007956, 0.7846083730060285),
    (0.6, 0.001, 0.00011415525114155251, 0.12446317177226021, 0.6362442469979698, 0.5614207496717469),
    (0.2, 0.0025, 0.003968253968253968, 0.1583253092116782, 0.21525104498809552, 0.18348566056107185),
]

# Zakamouline (constants of liamfayle/zakamouline 3a39d26): S, K, T, r, sigma, cost, aversion, long
# -> H0, H1, K, sigma_m, delta_m, Whalley-Wilmott half-width
ZAKAMOULINE = [
    (
        (100, 100, 0.25, 0.05, 0.2, 0.01, 1.0, True),
        (0.01, 0.07406794914570147, -0.49223498012272787, 0.14251526513005855, 0.5835753342410727, 0.1317429792468163),
    ),
    (
        (100, 110, 0.5, 0.0, 0.6, 0.002, 0.1, False),
        (
            0.0011111111111111113,
            0.05489943904552179,
            -0.060239187574011706,
            0.6178075003806964,
            0.5001016835510619,
            0.06424908526611818,
        ),
    ),
    (
        (2000, 2000, 0.0821917808219178, 0.0, 0.8, 0.0005, 0.001, True),
        (
            0.004752604166666666,
            0.0920720416091364,
            -0.016963736903324082,
            0.7931854817013941,
            0.54526203716335,
            0.10384300687933296,
        ),
    ),
]


@pytest.mark.parametrize(("sigma", "k", "dt", "number", "short", "long"), LELAND)
def test_leland(sigma: float, k: float, dt: float, number: float, short: float, long: float) -> None:
    assert hedging.leland(sigma, cost_frac=k / 2, interval_yr=dt) == pytest.approx((number, short, long), rel=1e-12)


def test_whalley_wilmott_band_is_the_published_one() -> None:
    # pfhedge 0.23.0 nn/modules/ww.py: strike 1, T 0.1, vol 0.2, cost 1e-5, aversion 1, previous hedge 0.5
    S = np.exp([-0.05, -0.01, 0.0, 0.01, 0.05])
    width = hedging.whalley_wilmott(S, 1.0, 0.1, 0.2, cost_frac=1e-5, risk_aversion=1.0)
    delta = black.first_greeks("c", S, 1.0, 0.1, 0.2).delta
    assert delta == pytest.approx([0.2239, 0.4497, 0.5126, 0.5752, 0.7945], abs=6e-5)
    assert hedging.rebalance(0.5, delta, width) == pytest.approx([0.2946, 0.5, 0.5, 0.5, 0.7284], abs=6e-5)


@pytest.mark.parametrize(("inputs", "figures"), ZAKAMOULINE)
def test_zakamouline(inputs: tuple[float, ...], figures: tuple[float, ...]) -> None:
    S, K, T, r, sigma, cost, aversion, long = inputs
    found = hedging.zakamouline("c", S, K, T, sigma, r, cost_frac=cost, risk_aversion=aversion, long=bool(long))
    assert tuple(float(x) for x in found) == pytest.approx(figures[:5], rel=1e-9)
    assert found.halfwidth == pytest.approx(figures[0] + figures[1], rel=1e-9)
    assert hedging.whalley_wilmott(S, K, T, sigma, r, cost_frac=cost, risk_aversion=aversion) == pytest.approx(
        figures[5], rel=1e-9
    )


@given(st.floats(0.5, 2.0), st.floats(0.01, 1.0), st.floats(0.1, 1.5), st.floats(1e-5, 1e-3), st.floats(0.01, 2.0))
def test_bands_widen_with_cost_and_narrow_with_aversion(m: float, T: float, vol: float, cost: float, a: float) -> None:
    def width(c: float, aversion: float) -> float:
        return float(hedging.whalley_wilmott(m, 1.0, T, vol, cost_frac=c, risk_aversion=aversion))

    assert width(2 * cost, a) == pytest.approx(2 ** (1 / 3) * width(cost, a))
    assert width(cost, 8 * a) == pytest.approx(0.5 * width(cost, a))
    assert hedging.whalley_wilmott(m, 1.0, T, vol, cost_frac=0.0, risk_aversion=a) == 0


def _by_hand(
    rule: Rule, moves: np.ndarray, kind: str, S0: float, K: float, T: float, vol: float, cost: float, a: float
):
    """A short option hedged path by path with the library's closed forms."""
    paths, steps = moves.shape
    premium, wealth = float(black.price(kind, S0, K, T, vol)), np.empty(paths)
    for i in range(paths):
        S, held, cash = S0, 0.0, premium
        for j in range(steps):
            tau = T - j * T / steps
            if rule == "zakamouline":
                band = hedging.zakamouline(kind, S, K, tau, vol, cost_frac=cost, risk_aversion=a, long=False)
                target = float(hedging.rebalance(held, band.delta_m, band.halfwidth))
            elif rule == "whalley_wilmott":
                delta = black.first_greeks(kind, S, K, tau, vol).delta
                target = float(
                    hedging.rebalance(
                        held, delta, hedging.whalley_wilmott(S, K, tau, vol, cost_frac=cost, risk_aversion=a)
                    )
                )
            else:
                v = vol if rule == "delta" else float(hedging.leland(vol, cost_frac=cost, interval_yr=T / steps).short)
                target = float(black.first_greeks(kind, S, K, tau, v).delta)
            cash -= (target - held) * S + cost * abs(target - held) * S
            held = target
            S *= np.exp(moves[i, j])
        payoff = max(S - K, 0) if kind == "c" else max(K - S, 0)
        wealth[i] = cash + held * S - cost * abs(held) * S - payoff
    return wealth


@pytest.mark.parametrize("rule", ["delta", "leland", "whalley_wilmott", "zakamouline"])
@pytest.mark.parametrize("kind", ["c", "p"])
def test_simulation_equals_an_independent_loop(rule: Rule, kind: str) -> None:
    jumps = Jumps(3.0, -0.05, 0.1)
    inputs = {"kind": kind, "S": 100.0, "K": 105.0, "T_yr": 0.2, "sigma": 0.6}
    found = simulate(rule, **inputs, cost_frac=0.002, steps=15, paths=20, seed=4, risk_aversion=0.1, jumps=jumps)
    moves = log_moves(4, 20, 15, 0.2, 0.6, jumps)
    assert found.wealth == pytest.approx(_by_hand(rule, moves, kind, 100.0, 105.0, 0.2, 0.6, 0.002, 0.1), abs=1e-9)


@pytest.mark.parametrize("rule", ["delta", "leland", "whalley_wilmott", "zakamouline"])
@pytest.mark.parametrize("long", [False, True])
def test_compiled_walk_equals_the_array_form_to_1e_12(rule: Rule, long: bool) -> None:
    option = {"kind": "p", "S": 100.0, "K": 97.0, "T_yr": 0.3, "sigma": 0.7}
    jumps = Jumps(2.0, -0.1, 0.05)
    found = simulate(
        rule, **option, cost_frac=0.0004, steps=25, paths=300, seed=6, risk_aversion=0.05, jumps=jumps, long=long
    )
    moves = log_moves(6, 300, 25, 0.3, 0.7, jumps)
    plain = hedging_reference.run(moves, rule, **option, cost_frac=0.0004, risk_aversion=0.05, long=long)
    premium = float(black.price("p", 100.0, 97.0, 0.3, 0.7)) * (-1 if long else 1)
    assert np.max(np.abs(found.wealth - premium - plain[0])) <= 1e-12 * 100.0 * 25
    assert found.cost == pytest.approx(plain[1].mean(), rel=1e-12)
    assert found.trades == plain[2].mean()


BASE = {"kind": "c", "S": 100.0, "K": 100.0, "T_yr": 0.25, "sigma": 0.5}


def test_discrete_hedging_error_has_the_known_size() -> None:
    # Derman & Kamal: standard deviation = sqrt(pi/4) vega sigma / sqrt(steps) at the money
    found = simulate("delta", **BASE, cost_frac=0.0, steps=64, paths=20_000, seed=1)
    vega = float(black.first_greeks("c", 100.0, 100.0, 0.25, 0.5).vega)
    assert found.deviation == pytest.approx(np.sqrt(np.pi / 4) * vega * 0.5 / 8, rel=0.05)
    assert abs(found.mean) < 4 * found.standard_error
    assert found.cost == 0


def test_leland_price_pays_for_the_costs() -> None:
    found = simulate("leland", **BASE, cost_frac=0.002, steps=60, paths=20_000, seed=2)
    vols = hedging.leland(0.5, cost_frac=0.002, interval_yr=0.25 / 60)
    surcharge = float(black.price("c", 100, 100, 0.25, float(vols.short)) - black.price("c", 100, 100, 0.25, 0.5))
    # expected cost of buying the first hedge and unwinding the last comes on top of the rebalancing that A counts
    ends = 0.002 * 100.0 * 0.55 + 0.002 * 100.0 * 0.55
    assert found.mean + surcharge == pytest.approx(-ends, abs=0.08 * surcharge)


def test_bands_trade_cost_against_risk_and_jumps_cannot_be_hedged() -> None:
    plain = simulate("delta", **BASE, cost_frac=0.002, steps=250, paths=4000, seed=3, risk_aversion=0.05)
    band = simulate("whalley_wilmott", **BASE, cost_frac=0.002, steps=250, paths=4000, seed=3, risk_aversion=0.05)
    assert band.cost < 0.7 * plain.cost
    assert band.trades < 0.5 * plain.trades
    assert band.deviation > plain.deviation
    jumps = Jumps(6.0, -0.1, 0.1)
    crash = simulate("delta", **BASE, cost_frac=0.002, steps=250, paths=4000, seed=3, jumps=jumps)
    assert crash.deviation > 2 * plain.deviation
    assert crash.es_95 > plain.es_95
    long = simulate("delta", **BASE, cost_frac=0.0, steps=250, paths=4000, seed=3, jumps=jumps, long=True)
    short = simulate("delta", **BASE, cost_frac=0.0, steps=250, paths=4000, seed=3, jumps=jumps)
    assert long.wealth == pytest.approx(-short.wealth, abs=1e-9)


def test_log_moves_are_a_martingale() -> None:
    moves = log_moves(9, 40_000, 4, 0.5, 0.6, Jumps(2.0, -0.1, 0.15))
    growth = np.exp(moves.sum(axis=1))
    assert abs(growth.mean() - 1) < 4 * growth.std() / 200


def test_ill_posed_and_bad_input() -> None:
    assert np.isnan(hedging.leland(0.2, cost_frac=0.025, interval_yr=1e-3).long)
    with pytest.raises(DomainError, match="well-posed"):
        hedging.zakamouline("c", 100, 100, 0.25, 0.2, cost_frac=0.05, risk_aversion=5.0, long=True)
    with pytest.raises(DomainError, match="sigma"):
        hedging.leland(0.0, cost_frac=0.005, interval_yr=0.1)
    with pytest.raises(DomainError, match=r"cost_frac\[1\]"):
        hedging.whalley_wilmott(100, 100, 0.1, 0.2, cost_frac=[0.01, -0.01], risk_aversion=1.0)
    with pytest.raises(DomainError, match="unknown"):
        simulate("gamma", **BASE, cost_frac=0.0, steps=2, paths=2, seed=0)  # type: ignore[arg-type]
    with pytest.raises(DomainError, match="simulate"):
        simulate("delta", **BASE, cost_frac=0.0, steps=0, paths=2, seed=0)
    with pytest.raises(DomainError, match="Leland"):
        simulate("leland", **BASE, cost_frac=0.2, steps=500, paths=2, seed=0, long=True)
