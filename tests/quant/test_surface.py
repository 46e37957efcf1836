"""SVI and SSVI: the published counterexample and its repair, recovery, and freedom from arbitrage in prices."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, lsq_linear

from aggregator.core.errors import DomainError
from aggregator.quant import black, ssvi, svi

# Axel Vogt's smile and its figures: Gatheral & Jacquier (2014), eq. 3.8 and sec. 5.1.
VOGT = svi.Svi(a=-0.0410, b=0.1331, rho=0.3060, m=0.3586, sigma=0.4153)


def test_vogt_smile_is_arbitrageable_and_its_jump_wings_are_as_published() -> None:
    wings = svi.to_jump_wings(VOGT, 1.0)
    assert wings == pytest.approx((0.01742625, -0.1752111, 0.6997381, 1.316798, 0.0116249), rel=1e-6)
    assert not svi.is_free(VOGT)
    least, where = svi.least_butterfly(VOGT)
    assert least == pytest.approx(-0.0329, abs=1e-4)
    assert where == pytest.approx(0.88, abs=0.01)


def test_published_repair_of_the_vogt_smile() -> None:
    wings = svi.to_jump_wings(VOGT, 1.0)
    c_star = wings.p + 2 * wings.psi
    v_star = 4 * wings.v * wings.p * c_star / (wings.p + c_star) ** 2
    assert (c_star, v_star) == pytest.approx((0.3493158, 0.01548182), rel=1e-6)
    fixed = svi.from_jump_wings(wings._replace(c=c_star, v_min=v_star), 1.0)
    assert svi.least_butterfly(fixed)[0] > 0.2
    ours = svi.repair(VOGT, 1.0)
    assert svi.is_free(ours)
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
    found = svi.fit(k, vol=np.sqrt(svi.total_variance(truth, k) / 0.1), T_yr=0.1)
    assert found.worst_vol < 1e-6
    assert found.least_g > 0
    assert not found.moved
    k = np.linspace(-1.5, 1.5, 31)
    bad = svi.fit(k, vol=np.sqrt(svi.total_variance(VOGT, k)), T_yr=1.0)
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
    k, t, vol = chain(truth)
    found = ssvi.fit(k, T_yr=t, vol=vol)
    assert found.worst_vol < 1e-5
    assert found.least_g >= 0
    assert found.least_calendar >= 0


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_whatever_the_quotes_the_surface_has_no_arbitrage_in_prices(seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0.01, 1.5, 4))
    k, t = np.tile(np.linspace(-1, 1, 9), 4), np.repeat(times, 9)
    found = ssvi.fit(k, T_yr=t, vol=rng.uniform(0.2, 1.5, k.size))
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
        ssvi.fit(k, T_yr=t, vol=spoiled)
    with pytest.raises(DomainError, match="too few"):
        ssvi.fit(k[:22], T_yr=t[:22], vol=vol[:22])
    with pytest.raises(DomainError, match="chain"):
        ssvi.fit([], T_yr=[], vol=[])
    with pytest.raises(DomainError, match="arbitrage"):
        ssvi.SsviSurface(np.array([0.1]), np.array([0.05]), -0.5, 1.9, 0.4)
    with pytest.raises(DomainError, match="rising"):
        ssvi.SsviSurface(np.array([0.1, 0.2]), np.array([0.05, 0.04]), -0.5, 1.0, 0.4)
    with pytest.raises(DomainError, match=r"quote \[2\]"):
        svi.fit([0, 0.1, 0.2, 0.3, 0.4], vol=[0.5, 0.5, -0.5, 0.5, 0.5], T_yr=0.1)
    with pytest.raises(DomainError, match="at least 5"):
        svi.fit([0.0], vol=[0.5], T_yr=0.1)
    with pytest.raises(DomainError, match="not fixed"):
        svi.from_jump_wings(svi.to_jump_wings(svi.Svi(0.01, 0.2, 0.0, 0.0, 0.1), 1.0), 1.0)
    with pytest.raises(DomainError):
        svi.butterfly(svi.Svi(0.1, -0.1, 0, 0, 0.1), 0.0)


def random_smile(rng: np.random.Generator) -> svi.Svi:
    """Widths of a thousandth to one, so that g has features far narrower than any fixed grid."""
    b, rho, sigma = 10 ** rng.uniform(-3, 0), rng.uniform(-0.99, 0.99), 10 ** rng.uniform(-3, 0)
    floor = 10 ** rng.uniform(-4, -1)
    return svi.Svi(floor - b * sigma * np.sqrt(1 - rho**2), b, rho, rng.normal() * 0.3, sigma)


def test_the_butterfly_certificate_is_the_sign_of_g_wherever_it_is_looked_at() -> None:
    rng = np.random.default_rng(0)
    counts = [0, 0]
    for _ in range(150):
        params = random_smile(rng)
        dense = svi.butterfly(params, params.m + params.sigma * np.sinh(np.linspace(-16, 16, 20_001)))
        free = svi.is_free(params)
        counts[free] += 1
        assert free == (np.min(dense) > 0 and params.b * (1 + abs(params.rho)) <= 2)
        least, where = svi.least_butterfly(params)
        assert least <= np.min(dense) + 1e-9 * (1 + abs(least))
        if np.isfinite(where):
            with mpmath.workdps(40):
                a, b, rho, m, sigma = (mpmath.mpf(float(x)) for x in params)
                z = mpmath.sqrt((where - m) ** 2 + sigma**2)
                w, slope, bend = a + b * (rho * (where - m) + z), b * (rho + (where - m) / z), b * sigma**2 / z**3
                g = (1 - where * slope / (2 * w)) ** 2 - slope**2 / 4 * (1 / w + mpmath.mpf(1) / 4) + bend / 2
            assert least == pytest.approx(float(g), rel=1e-9, abs=1e-9)
    assert min(counts) > 25


def test_the_certificate_decides_at_the_edge() -> None:
    """Between two smiles of one family, one free and one not, it changes once, where the least g changes its sign."""
    low, high = 0.0, 1.0
    free = VOGT._replace(a=0.02)
    assert svi.is_free(free)
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if svi.is_free(VOGT._replace(a=-0.041 + 0.061 * middle)) else (middle, high)
    assert svi.least_butterfly(VOGT._replace(a=-0.041 + 0.061 * high))[0] == pytest.approx(0.0, abs=1e-12)


def test_short_noisy_fits_have_no_butterfly_between_any_two_points() -> None:
    rng = np.random.default_rng(5)
    for n in range(6):
        k = np.sort(rng.uniform(-1, 1, 9)) * (0.02, 0.05, 0.1)[n % 3]
        found = svi.fit(k, vol=0.6 + 0.15 * rng.normal(size=9).clip(-3, 3), T_yr=(1 / 365, 7 / 365)[n % 2])
        p = found.params
        assert np.min(svi.butterfly(p, p.m + p.sigma * np.sinh(np.linspace(-16, 16, 40_001)))) > 0
        assert np.min(svi.butterfly(p, np.linspace(-0.5, 0.5, 40_001))) > 0
        assert found.least_g > 0


def test_crossings_of_two_expiries_are_all_found() -> None:
    rng = np.random.default_rng(1)
    crossed = 0
    for _ in range(200):
        early, late = random_smile(rng), random_smile(rng)
        if rng.random() < 0.5:
            b, floor = early.b * rng.uniform(0.9, 1.5), 10 ** rng.uniform(-4, -1)
            late = late._replace(a=floor - b * late.sigma * np.sqrt(1 - early.rho**2), b=b, rho=early.rho)
        reach = np.sinh(np.linspace(-16, 16, 4001))
        grid = np.unique(np.concatenate([p.m + p.sigma * reach for p in (early, late)]))
        step = svi.total_variance(late, grid) - svi.total_variance(early, grid)
        found = svi.calendar(early, late)
        at = np.flatnonzero(np.sign(step[1:]) != np.sign(step[:-1]))

        def gap(x: float, early: svi.Svi = early, late: svi.Svi = late) -> float:
            return float(svi.total_variance(late, x) - svi.total_variance(early, x))

        roots = [brentq(gap, grid[i], grid[i + 1], xtol=1e-14) for i in at]
        for root in roots:
            assert np.min(np.abs(found.crossings - root)) <= 1e-6 * (1 + abs(root)), (early, late, root)
        crossed += bool(roots)
        assert found.least_step <= np.min(step) + 1e-12
        assert (found.least_step < 0) == (np.min(step) < 0 or np.isinf(found.least_step))
        if np.isfinite(found.least_step):
            assert gap(found.where) == pytest.approx(found.least_step, abs=1e-12)
    assert 50 < crossed < 190


def test_a_slice_of_ssvi_does_not_cross_the_next_and_a_shifted_one_does() -> None:
    early = svi.Svi(0.01, 0.1, -0.3, 0.0, 0.2)
    assert svi.calendar(early, early._replace(a=0.02)).least_step == pytest.approx(0.01)
    assert len(svi.calendar(early, early._replace(a=0.02)).crossings) == 0
    assert svi.calendar(early, early._replace(b=0.09)).least_step == -np.inf
    crossed = svi.calendar(early, early._replace(m=0.1, b=0.11))
    assert crossed.least_step < 0
    assert len(crossed.crossings) == 2


def test_what_too_few_strikes_do_not_determine_is_refused_or_said() -> None:
    for k in ([0] * 5, [0, 0, 0.1, 0.1, 0.2, 0.2], [0.0, 0.1, 0.2, 0.3] * 3):
        with pytest.raises(DomainError, match="different strikes"):
            svi.fit(k, vol=[0.5] * len(k), T_yr=0.1)
    for k in ([0, 0, 0], [0.0, 0.1] * 4, [0.0, 0.1, 0.1]):
        with pytest.raises(DomainError, match="different strikes"):
            ssvi.fit(k, T_yr=[0.1] * len(k), vol=[0.5] * len(k))
    one = ssvi.fit([-0.1, 0.0, 0.1] * 2, T_yr=[0.1] * 6, vol=[0.55, 0.5, 0.48] * 2)
    assert one.undetermined == ("eta", "gamma")
    two = ssvi.fit([-0.1, 0.0, 0.1] * 2, T_yr=[0.1] * 3 + [0.2] * 3, vol=[0.55, 0.5, 0.48] * 2)
    assert two.undetermined == ()


def test_old_orders_of_a_fit_fail_loudly() -> None:
    k = np.linspace(-0.3, 0.3, 7)
    for call in (svi.fit, ssvi.fit):
        with pytest.raises(TypeError, match="positional"):
            call(k, np.full(7, 0.5), np.full(7, 0.1))
    with pytest.raises(DomainError, match="one time"):
        svi.fit(k, T_yr=np.full(7, 0.5), vol=np.full(7, 0.1))


def test_weights_of_both_fits_are_on_volatility_errors() -> None:
    """A smile that neither can meet: its weighted squared volatility errors are least there."""
    k = np.linspace(-0.4, 0.4, 9)
    vol, weight = 0.3 + 0.8 * k**2 + 0.02 * np.cos(25 * k), np.linspace(0.2, 3.0, 9)
    found = svi.fit(k, T_yr=0.25, vol=vol, weight=weight)

    def cost(params: svi.Svi) -> float:
        return float(weight @ ((svi.total_variance(params, k) - vol**2 * 0.25) / (2 * vol * 0.25)) ** 2)

    best = cost(found.params)
    for i in range(5):
        for step in (-1e-3, 1e-3):
            moved = found.params._replace(**{svi.Svi._fields[i]: found.params[i] + step})
            assert cost(moved) >= best * (1 - 1e-9)
