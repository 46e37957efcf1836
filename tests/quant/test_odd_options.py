"""Odd input to the option, surface and hedging models: a label or an error that names the element; never a warning."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from aggregator.core.errors import DomainError
from aggregator.quant import black, dealer_gamma, forwards, hedging, inverse, perpetual_options, ssvi, svi
from aggregator.quant import implied_vol as iv
from aggregator.quant.hedging_simulation import Jumps, simulate
from aggregator.quant.risk_surface import book, risk_surface
from tests.quant.odd import (
    Form,
    assert_broadcasts,
    assert_misfits_refused,
    assert_only_numbers,
    assert_refused_by_index,
    figures,
)

ARRAY_FORMS: dict[str, Form] = {
    "price": (black.price, {"kind": 1, "S": 100, "K": 110, "T_yr": 0.5, "sigma": 0.6, "r": 0.03, "q": 0.01}),
    "greeks": (black.greeks, {"kind": 1, "S": 100, "K": 110, "T_yr": 0.5, "sigma": 0.6}),
    "dividend_rho": (black.dividend_rho, {"kind": 1, "S": 100, "K": 110, "T_yr": 0.5, "sigma": 0.6}),
    "black76": (black.black76_greeks, {"kind": 1, "F": 100, "K": 110, "T_yr": 0.5, "sigma": 0.6}),
    "coin price": (inverse.inverse_price, {"kind": 1, "F": 100, "K": 110, "T_yr": 0.5, "sigma": 0.6}),
    "coin first": (inverse.inverse_first_greeks, {"kind": 1, "F": 100, "K": 110, "T_yr": 0.5, "sigma": 0.6}),
    "coin greeks": (inverse.inverse_greeks, {"kind": 1, "F": 100, "K": 110, "T_yr": 0.5, "sigma": 0.6}),
    "power perp": (perpetual_options.power_perp, {"S": 3000, "power": 2, "sigma": 0.9, "funding_period_yr": 0.05}),
    "everlasting": (
        perpetual_options.everlasting,
        {"kind": 1, "S": 3000, "K": 3100, "sigma": 0.9, "funding_period_yr": 0.05, "r": 0.01},
    ),
    "leland": (hedging.leland, {"sigma": 0.5, "cost_frac": 0.001, "interval_yr": 0.01}),
    "whalley": (
        hedging.whalley_wilmott,
        {"S": 100, "K": 110, "T_yr": 0.5, "sigma": 0.5, "cost_frac": 0.001, "risk_aversion": 0.1},
    ),
    "rebalance": (hedging.rebalance, {"position": 0.1, "centre": 0.5, "halfwidth": 0.1}),
    "exposure": (
        dealer_gamma.gamma_exposure_usd,
        {"dealer_sign": -1, "gamma": 0.01, "open_interest": 10, "spot_usd": 100},
    ),
    "feedback": (
        dealer_gamma.gamma_feedback,
        {"shock_frac": -0.05, "gamma": -10, "spot_usd": 100, "impact_per_usd": 1e-9},
    ),
    "effective vol": (dealer_gamma.effective_vol, {"sigma": 0.5, "g": 0.1}),
    "book": (book, {"kind": 1, "K": 100, "T_yr": 0.1, "F": 100, "amount": 1, "sigma": 0.5}),
    "svi": (lambda k: svi.butterfly(svi.Svi(0.02, 0.1, -0.3, 0.1, 0.2), k), {"k": 0.1}),
    "ssvi": (ssvi.SsviSurface(np.array([0.1, 0.5]), np.array([0.05, 0.2]), -0.2, 1.0, 0.4).vol, {"k": 0.1, "T_yr": 1}),
    "forward": (forwards.ForwardCurve(100.0, 0.5, 101.0).forward, {"T_yr": 0.2}),
}
CASES = [(form, name) for form, (_, inputs) in ARRAY_FORMS.items() for name in inputs if name != "kind"]


@pytest.mark.parametrize(("form", "name"), CASES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_element_that_is_no_number_is_refused_by_its_index(form: str, name: str, bad: float) -> None:
    assert_refused_by_index(ARRAY_FORMS[form], name, bad, r"\[2\]")


@pytest.mark.parametrize(("form", "name"), CASES)
@pytest.mark.parametrize("size", [1e300, 1e-300])
def test_absurd_sizes_give_a_finite_figure_or_an_error_but_never_a_warning(form: str, name: str, size: float) -> None:
    function, inputs = ARRAY_FORMS[form]
    try:
        found = function(**{**inputs, name: size})
    except DomainError:
        return
    if form in ("leland", "feedback"):
        return  # what has no finite answer is labelled there: NaN beside the Leland number, UNSTABLE
    assert all(np.all(np.isfinite(x)) for x in figures(found))


@pytest.mark.parametrize("form", ARRAY_FORMS)
def test_shapes_dtypes_and_read_only_arrays(form: str) -> None:
    names = list(ARRAY_FORMS[form][1])
    assert_broadcasts(ARRAY_FORMS[form], names[-1])
    assert_only_numbers(ARRAY_FORMS[form], names[-1])
    if len(names) > 1:
        first = next(name for name in names if name != "kind")
        assert_misfits_refused(ARRAY_FORMS[form], first, names[-1])


def test_quotes_of_every_shape_are_labelled() -> None:
    found = iv.quote_vols("c", [[4.0], [np.inf]], 5.0, 100.0, 110.0, 0.5, age_s=[0.0, np.nan, 5.0], max_age_s=9)
    assert found.status.tolist() == [[iv.OK, iv.STALE, iv.OK], [iv.CROSSED, iv.STALE, iv.CROSSED]]
    assert iv.quote_vols("c", np.inf, -np.inf, 100.0, 110.0, 0.5).status == iv.NO_ASK
    with pytest.raises(DomainError, match="do not broadcast"):
        iv.quote_vols("c", [4.0, 4.0], 5.0, 100.0, 110.0, 0.5, age_s=[0.0, 0.0, 0.0])
    with pytest.raises(DomainError, match="do not broadcast"):
        iv.implied_vol_spot("c", 5.0, [100.0, 100.0], 110.0, 0.5, [0.0, 0.0, 0.0])
    with pytest.raises(DomainError, match="do not broadcast"):
        iv.implied_vol_inverse("c", [0.05, 0.05], [1e2, 1e2, 1e2], 110.0, 0.5)
    # an absurd rate is a label, not a warning
    assert iv.implied_vol_spot("c", 5.0, 100.0, 110.0, 0.5, 1e6).status == iv.BAD_INPUT


def test_kinds_out_of_a_data_frame() -> None:
    column = np.array(["call", "put"], dtype=object)
    assert np.array_equal(black.price(column, 100, 110, 1, 0.2), black.price([1, -1], 100, 110, 1, 0.2))
    with pytest.raises(DomainError, match=r"kind\[1\]"):
        black.price(np.array(["call", None], dtype=object), 100, 110, 1, 0.2)


def test_parity_that_no_forward_satisfies_is_refused() -> None:
    # in coin, call - put >= D has no forward; one such strike of three does not move the median
    with pytest.raises(DomainError, match="no forward"):
        forwards.parity_forward([3000.0], [1.2], [0.1], coin=True)
    call, put = np.array([0.2, 1.5, 0.1]), np.array([0.1, 0.1, 0.2])
    found = forwards.parity_forward([90.0, 100.0, 110.0], call, put, coin=True)
    assert found.forward == pytest.approx(100.0)
    with pytest.raises(DomainError, match="discount is out of range"):
        forwards.parity_forward([90.0], [1.0], [0.1], discount=0.0)
    weighted = forwards.parity_forward([90.0, 110.0], [10.0, 0.0], [0.0, 30.0], weight=[1.0, np.inf])
    assert (weighted.strikes, weighted.forward) == (1, 100.0)


def test_parameters_that_are_no_smile_are_refused() -> None:
    with pytest.raises(DomainError, match=r"k\[1\].*(\n.*)*total variance > 0"):
        svi.total_variance(svi.Svi(-0.05, 0.2, 0.0, 0.0, 0.1), [1.0, 0.0])
    for wings, years in (
        ((0.02, -0.1, 0.7, 1.3, 0.05), 1.0),
        ((-0.02, -0.1, 0.7, 1.3, 0.01), 1.0),
        ((0.02, -0.1, 0.7, 1.3, -1.0), 1.0),
        ((0.02, -0.1, 0.7, 1.3, np.nan), 1.0),
        ((0.02, -0.1, 0.7, 1.3, 0.01), -1.0),
    ):
        with pytest.raises(DomainError, match="jump wings"):
            svi.from_jump_wings(svi.JumpWings(*wings), years)
    for times, levels in (([0.1, 0.5], [0.05, np.nan]), ([0.1, np.inf], [0.05, 0.2]), ([0.1], [0.05, 0.2]), ([], [])):
        with pytest.raises(DomainError, match="rising"):
            ssvi.SsviSurface(np.array(times), np.array(levels), -0.2, 1.0, 0.4)
    with pytest.raises(DomainError, match="grid"):
        ssvi.arbitrage(ssvi.SsviSurface(np.array([0.1]), np.array([0.05]), -0.2, 1.0, 0.4), [])


@pytest.mark.parametrize("seed", range(6))
def test_any_quotes_get_a_smile_without_butterfly_arbitrage(seed: int) -> None:
    """Noise, a flat line, one steep wing, a week and a year: the fit ends, and g > 0 holds everywhere."""
    rng = np.random.default_rng(seed)
    k = np.sort(rng.uniform(-1, 1, 9)) * (0.05, 0.3, 1.5)[seed % 3]
    steep = 0.6 - 0.35 * np.tanh(2 * k)
    vol = (rng.uniform(0.2, 1.5, 9), np.full(9, 0.5), steep)[seed // 2]
    found = svi.fit(k, vol=vol, T_yr=(1 / 365, 1.0)[seed % 2])
    assert found.least_g >= 0
    assert svi.is_free(found.params)
    assert found.worst_vol >= found.rms_vol
    if seed // 2 == 1:
        assert found.worst_vol < 1e-6


def test_a_smile_that_the_published_repair_does_not_free_is_said_so() -> None:
    steep = svi.Svi(0.02, 1.6, 0.2, 0.0, 0.1)
    assert not svi.is_free(steep)
    with pytest.raises(DomainError, match="repair"):
        svi.repair(steep, 1.0)


def test_the_rule_of_the_smile_is_one_of_two() -> None:
    with pytest.raises(DomainError, match="unknown rule"):
        risk_surface(book("c", 100.0, 100.0, 0.1, 0.5, amount=1.0), 0.1, sticky="dleta")  # type: ignore[arg-type]


ODD = {"kind": "c", "S": 100.0, "K": 100.0, "T_yr": 0.25, "sigma": 0.5, "cost_frac": 0.001, "risk_aversion": 1.0}


@pytest.mark.parametrize(
    ("name", "value"),
    [("S", np.nan), ("T_yr", 0.0), ("sigma", 0.0), ("cost_frac", np.nan), ("risk_aversion", np.inf), ("S", 1e300)],
)
def test_a_simulation_of_nothing_is_refused(name: str, value: float) -> None:
    with pytest.raises(DomainError):
        simulate("delta", **{**ODD, name: value}, steps=3, paths=4, seed=0)
    for jumps in (Jumps(np.inf), Jumps(1.0, np.nan), Jumps(1.0, 0.0, -1.0), Jumps(1e12), Jumps(1.0, 1e3)):
        with pytest.raises(DomainError):
            simulate("delta", **ODD, steps=3, paths=4, seed=0, jumps=jumps)


def test_dates_at_which_a_long_option_has_no_hedge_are_counted() -> None:
    # posed at the start (K = -0.74), not near expiry at the strike, where gamma grows
    inputs = {**ODD, "cost_frac": 0.024, "risk_aversion": 2.0, "long": True, "steps": 200, "paths": 50, "seed": 1}
    assert -1 < hedging.zakamouline("c", 100, 100, 0.25, 0.5, cost_frac=0.024, risk_aversion=2.0, long=True).k < -0.7
    assert 0 < simulate("zakamouline", **inputs).ill_posed_frac < 1
    assert simulate("zakamouline", **{**inputs, "long": False}).ill_posed_frac == 0
    assert simulate("whalley_wilmott", **inputs).ill_posed_frac == 0


def test_a_bad_shock_to_a_dealer_book_is_no_verdict_on_the_market() -> None:
    legs = book("c", 100.0, [100.0, 110.0], 0.2, 0.5, amount=-1.0)
    for shock, impact in ((np.nan, 1e-6), (5.0, 1e-6), (-0.05, np.inf), (-0.05, np.nan)):
        with pytest.raises(DomainError, match="scan"):
            dealer_gamma.book_feedback(legs, 100.0, shock, impact)
    with pytest.raises(DomainError, match=r"legs\[0\]"):
        dealer_gamma.book_feedback(book("c", 100.0, 100.0, 0.0, 0.5, amount=-1.0), 100.0, -0.05, 1e-6)


@pytest.mark.parametrize("kind", [1, -1])
def test_everlasting_keeps_its_digits_at_small_volatility_and_fast_funding(kind: int) -> None:
    """60 digits: sigma 0.1 % and funding of two years made the plain roots lose seven digits of the wing."""
    for S, vol, f, r, q in (
        (2997.0, 1e-3, 2.0, -0.02, 0.03),
        (3003.0, 0.05, 1e-6, 0.05, 0.01),
        (3300.0, 5.0, 2.0, 0, 0),
    ):
        with mpmath.workdps(60):
            s, k, v, lam, rate, carry = (mpmath.mpf(x) for x in (S, 3000.0, vol, 1 / mpmath.mpf(f), r, q))
            tilt = (rate - carry) / v**2 - mpmath.mpf(1) / 2
            root = mpmath.sqrt(tilt**2 + 2 * (rate + lam) / v**2)
            high, low = -tilt + root, -tilt - root
            u, w = lam * k * (1 / (lam + carry) - 1 / (lam + rate)), lam * k / (lam + carry)
            line = lam * s / (lam + carry) - lam * k / (lam + rate)
            call = (w - low * u) / (high - low) * (s / k) ** high
            if s >= k:
                call = (w - high * u) / (high - low) * (s / k) ** low + line
            expected = float(call if kind == 1 else call - line)
        found = float(perpetual_options.everlasting(kind, S, 3000.0, vol, f, r, q).price)
        assert found == pytest.approx(expected, rel=1e-10, abs=1e-12)
