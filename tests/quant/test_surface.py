"""SVI and SSVI: the published counterexample and its repair, recovery, and freedom from arbitrage in prices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear

from aggregator.core.errors import DomainError
from aggregator.quant import black, ssvi, svi

# Axel Vogt's smile and its figures: Gatheral & Jacquier (2014), eq. 3.8 and sec. 5.1.
VOGT = svi.Svi(a=-0.0410, b=0.1331, rho=0.3060, m=0.3586, sigma=0.4153)


def test_vogt_smile_is_arbitrageable_and_its_jump_wings_are_as_published() -> None:
    wings = svi.to_jump_wings(VOGT, 1.0)
    assert wings == pytest.approx((0.01742625, -0.1752111, 0.6997381, 1.316798, 0.0116249), rel=1e-6)
    g = svi.butterfly(VOGT, svi.GRID)
    assert np.min(g) == pytest.approx(-0.0329, abs=1e-4)
    assert svi.GRID[np.argmin(g)] == pytest.approx(0.88, abs=0.01)


def test_published_repair_of_the_vogt_smile() -> None:
    wings = svi.to_jump_wings(VOGT, 1.0)
    c_star = wings.p + 2 * wings.psi
    v_star = 4 * wings.v * wings.p * c_star / (wings.p + c_star) ** 2
    assert (c_star, v_star) == pytest.approx((0.3493158, 0.01548182), rel=1e-6)
    fixed = svi.from_jump_wings(wings._replace(c=c_star, v_min=v_star), 1.0)
    assert np.min(svi.butterfly(fixed, svi.GRID)) > 0.2
    ours = svi.repair(VOGT, 1.0)
    assert np.min(svi.butterfly(ours, svi.GRID)) >= 0
    # it moves less than the published repair does, and keeps the level and skew at the money
    assert svi.to_jump_wings(ours, 1.0)[:3] == pytest.approx(wings[:3])
    assert wings.c > svi.to_jump_wings(ours, 1.0).c > c_star


@given(st.floats(0.001, 0.1), st.floats(0.01, 1.0), st.floats(0.05, 0.9), st.floats(0.05, 0.5), st.floats(0.05, 1.0))
def test_jump_wings_round_trip(a: float, b: float, rho: float, m: float, sigma: float) -> None:
    params = svi.Svi(a, b, -rho, m, sigma)
    back = svi.from_jump_wings(svi.to_jump_wings(params, 0.25), 0.25)
    k = np.linspace(-1, 1, 11)
    assert np.allclose(svi.total_variance(back, k), svi.total_variance(params, k), rtol=1e-6, atol=1e-9)


def test_density_of_the_butterfly_is_the_second_derivative_of_prices() -> None:
    # Breeden-Litzenberger by finite differences of call prices: density in K = g exp(-d2^2/2)/(K sqrt(2 pi w))
    params, T = svi.Svi(0.02, 0.15, -0.4, 0.05, 0.3), 0.5
    for k in (-0.6, 0.0, 0.7):
        K, h = np.exp(k), 1e-3 * np.exp(k)
        strikes = np.array([K - h, K, K + h])
        vols = np.sqrt(svi.total_variance(params, np.log(strikes)) / T)
        left, middle, right = black.black76_price("c", 1.0, strikes, T, vols)
        w = float(svi.total_variance(params, k))
        d2 = -k / np.sqrt(w) - 0.5 * np.sqrt(w)
        density = float(svi.butterfly(params, k)) * np.exp(-0.5 * d2**2) / (K * np.sqrt(2 * np.pi * w))
        assert (left - 2 * middle + right) / h**2 == pytest.approx(density, rel=1e-4)


def test_svi_fit_recovers_its_own_smile_and_repairs_a_bad_one() -> None:
    k = np.linspace(-0.7, 0.7, 25)
    truth = svi.Svi(0.01, 0.2, -0.3, 0.02, 0.15)
    found = svi.fit(k, np.sqrt(svi.total_variance(truth, k) / 0.1), 0.1)
    assert found.worst_vol < 1e-6
    assert found.least_g > 0
    assert not found.moved
    bad = svi.fit(np.linspace(-1.5, 1.5, 31), np.sqrt(svi.total_variance(VOGT, np.linspace(-1.5, 1.5, 31))), 1.0)
    assert bad.moved
    assert bad.least_g >= 0
    assert 0 < bad.rms_vol < 0.05


@given(st.integers(0, 10**6))
def test_the_inner_fit_of_svi_is_the_optimum_of_another_solver(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(3, 3)) * 10.0 ** rng.uniform(-2, 2, 3)
    target, low, high = rng.normal(size=3), -rng.random(3), rng.random(3)
    ours = np.array(svi._box_least_squares(matrix, target, low, high))
    theirs = lsq_linear(matrix, target, (low, high), method="bvls", tol=1e-14).x
    assert np.all((ours >= low) & (ours <= high))
    miss = [float(np.sum((matrix @ x - target) ** 2)) for x in (ours, theirs)]
    assert miss[0] <= miss[1] * (1 + 1e-9) + 1e-12


def chain(surface: ssvi.SsviSurface, strikes: int = 21) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    t = np.repeat(surface.T_yr, strikes)
    k = np.concatenate([np.linspace(-2.5, 2.5, strikes) * np.sqrt(x) for x in surface.theta])
    return k, t, surface.vol(k, t)


@settings(max_examples=25)
@given(st.floats(-0.8, 0.8), st.floats(0.1, 0.95), st.floats(0.05, 0.5), st.floats(0.05, 1.0), st.integers(2, 8))
def test_ssvi_fit_recovers_its_own_chain(rho: float, share: float, gamma: float, level: float, expiries: int) -> None:
    times = np.linspace(0.02, 1.0, expiries)
    truth = ssvi.SsviSurface(times, level * times**0.9, rho, 2 * share / (1 + abs(rho)), gamma)
    found = ssvi.fit(*chain(truth))
    assert found.worst_vol < 1e-5
    assert found.least_g >= 0
    assert found.least_calendar >= 0


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_whatever_the_quotes_the_surface_has_no_arbitrage_in_prices(seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0.01, 1.5, 4))
    k, t = np.tile(np.linspace(-1, 1, 9), 4), np.repeat(times, 9)
    found = ssvi.fit(k, t, rng.uniform(0.2, 1.5, k.size))
    assert found.least_g >= -1e-12
    assert found.least_calendar >= -1e-12
    grid = np.linspace(-1.5, 1.5, 201)
    prices = np.array([black.black76_price("c", 1.0, np.exp(grid), T, found.surface.vol(grid, T)) for T in times])
    assert np.all(np.diff(prices, axis=0) >= -1e-12)  # calendar: a longer call is worth more
    slopes = np.diff(prices, axis=1) / np.diff(np.exp(grid))
    assert np.all((slopes <= 1e-9) & (slopes >= -1 - 1e-9))
    assert np.all(np.diff(slopes, axis=1) >= -1e-8)  # butterfly: convex in strike


def test_surface_between_and_beyond_expiries() -> None:
    surface = ssvi.SsviSurface(np.array([0.1, 0.5]), np.array([0.05, 0.2]), -0.2, 1.0, 0.4)
    w = surface.total_variance(0.0, [0.05, 0.1, 0.3, 0.5, 0.9])
    assert np.allclose(w, [0.025, 0.05, 0.125, 0.2, 0.2 + 0.4 * 0.375])
    with pytest.raises(DomainError):
        surface.vol(0.0, 0.0)


def test_bad_input() -> None:
    k, t, vol = chain(ssvi.SsviSurface(np.array([0.1, 0.5]), np.array([0.05, 0.2]), -0.2, 1.0, 0.4))
    spoiled = vol.copy()
    spoiled[7] = np.nan
    with pytest.raises(DomainError, match=r"quote \[7\]"):
        ssvi.fit(k, t, spoiled)
    with pytest.raises(DomainError, match="too few"):
        ssvi.fit(k[:22], t[:22], vol[:22])
    with pytest.raises(DomainError, match="chain"):
        ssvi.fit([], [], [])
    with pytest.raises(DomainError, match="arbitrage"):
        ssvi.SsviSurface(np.array([0.1]), np.array([0.05]), -0.5, 1.9, 0.4)
    with pytest.raises(DomainError, match="rising"):
        ssvi.SsviSurface(np.array([0.1, 0.2]), np.array([0.05, 0.04]), -0.5, 1.0, 0.4)
    with pytest.raises(DomainError, match=r"quote \[2\]"):
        svi.fit([0, 0.1, 0.2, 0.3, 0.4], [0.5, 0.5, -0.5, 0.5, 0.5], 0.1)
    with pytest.raises(DomainError, match="at least 5"):
        svi.fit([0.0], [0.5], 0.1)
    with pytest.raises(DomainError, match="not fixed"):
        svi.from_jump_wings(svi.to_jump_wings(svi.Svi(0.01, 0.2, 0.0, 0.0, 0.1), 1.0), 1.0)
    with pytest.raises(DomainError):
        svi.butterfly(svi.Svi(0.1, -0.1, 0, 0, 0.1), 0.0)
