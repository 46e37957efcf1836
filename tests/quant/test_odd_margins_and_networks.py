"""Zero, negative, huge, infinite, NaN, empty and misshapen: each argument of each public function in turn.

A DomainError, or figures; NaN only where it is a documented label, never a numpy warning (those are errors here).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from aggregator.core.errors import DomainError
from aggregator.quant import (
    backtests,
    black,
    clearing,
    compound_loss,
    debtrank,
    deleveraging,
    depth,
    fire_sales,
    forecast_scores,
    forwards,
    furfine,
    margin,
    margin_deribit,
    margin_derive,
    margin_span,
    network,
    network_measures,
    neva,
    perps,
    reconstruct,
    span,
    ssvi,
    svi,
    systemic_risk,
    tail_risk,
    waterfall,
)

W, V, SHARES = [[0.0, 1.0, 0.0], [0.5, 0.0, 1.0], [0.0, 2.0, 0.0]], [1.0, 2.0, 3.0], [0.1, 0.2, 0.3]
SERIES, TWO = np.random.default_rng(0).normal(size=60), [[1.0, 0.5], [0.5, 1.0]]
STEPS = {"tolerance": 1e-9, "max_rounds": 20}
OPTIONS = {
    "account": [0, 0, 1], "kind": [1, -1, 1], "K": [1500.0, 2000.0, 2500.0], "seconds": [1e5, 1e5, 1e6],
    "forward_fixed": [0.0, 0.0, 0.0], "forward_variable": [2000.0] * 3, "amount": [1.0, -1.0, 2.0], "sigma": SHARES,
    "r": SHARES, "discount": [1.0] * 3, "confidence": SHARES, "perps": [1.0, -1.0], "cash": [1.0, 2.0],
    "perp_pnl": [0.0, 1.0], "spot_usd": 2000.0, "perp_usd": 2000.0, "stable_usd": 1.0,
}  # fmt: skip


def smile(k: Any, **params: float) -> object:
    """Everything that is said of one smile."""
    one = svi.Svi(**params)
    return (
        svi.total_variance(one, k),
        svi.butterfly(one, k),
        svi.least_butterfly(one),
        svi.is_free(one),
        svi.calendar(svi.Svi(0.03, 0.1, -0.3, 0.1, 0.2), one),
    )


def margin_of(model: margin.MarginModel) -> Callable[..., object]:
    def run(**given: Any) -> object:
        prices = {name: given.pop(name) for name in ("spot_usd", "perp_usd", "stable_usd")}
        return model.margin(margin.margin_book(2, **given), margin.Market(**prices))

    return run


def clear(outside: Any, alpha: float, beta: float, **steps: Any) -> object:
    return clearing.clear(clearing.system(W, V, V)._replace(outside=outside), alpha, beta, **steps)


def picard(outside: Any, alpha: float, beta: float, **steps: Any) -> object:
    return clearing.clear_by_picard(clearing.system(W, V, V)._replace(outside=outside), alpha, beta, **steps)


def valued(build: Callable[..., neva.Valuation]) -> Callable[..., object]:
    return lambda **given: neva.solve_neva(W, V, V, build(**given), **STEPS)


def pays(loss: Any, assets: float, slashable: float, exits: float, suppliers: float) -> object:
    return waterfall.waterfall(loss, (waterfall.Layer("stake", assets, slashable, exits),), suppliers)


def solve(claims: Any, outside_assets: Any, outside_liabilities: Any, shock: Any, **steps: Any) -> object:
    return neva.solve_neva(claims, outside_assets, outside_liabilities, neva.furfine(), shock, **steps)


CALLS: dict[str, tuple[Callable[..., object], dict[str, Any]]] = {
    "system": (clearing.system, {"liabilities": W, "outside_assets": V, "outside_liabilities": V}),
    "clear": (clear, {"outside": V, "alpha": 0.5, "beta": 0.5, **STEPS}),
    "clear_by_picard": (picard, {"outside": V, "alpha": 0.5, "beta": 0.5, **STEPS}),
    "furfine": (furfine.furfine_cascade, {"claims": W, "equity": V, "shock": V, "recovery_frac": SHARES}),
    "leverage": (debtrank.leverage_matrix, {"claims": W, "equity": V}),
    "linear": (debtrank.linear_debtrank, {"leverage": W, "shock": SHARES, **STEPS}),
    "nonlinear": (debtrank.nonlinear_debtrank, {"leverage": W, "shock": SHARES, "alpha": 1.0, **STEPS}),
    "threshold": (debtrank.threshold_cascade, {"leverage": W, "shock": SHARES, "max_rounds": 20}),
    "single_hit": (debtrank.single_hit_debtrank, {"leverage": W, "shock": SHARES}),
    "iteration": (debtrank.debtrank_by_iteration, {"leverage": W, "shock": SHARES, "alpha": 1.0, **STEPS}),
    "neva": (solve, {"claims": W, "outside_assets": V, "outside_liabilities": V, "shock": V, **STEPS}),
    "neva.linear": (valued(neva.linear), {"book_equity": V}),
    "neva.recovery_of": (valued(neva.recovery_of), {"liabilities": V}),
    "neva.rogers_veraart": (
        valued(neva.rogers_veraart), {"outside_assets": V, "liabilities": V, "alpha": 0.5, "beta": 0.5},
    ),
    "neva.merton": (valued(neva.merton), {"assets": V, "sigma": V, "recovery_frac": 0.5}),
    "neva.black_cox": (valued(neva.black_cox), {"assets": V, "sigma": V, "recovery_frac": 0.5}),
    "cifuentes": (
        fire_sales.cifuentes_ferrucci_shin,
        {"cash": V, "illiquid_units": V, "liabilities": V, "min_ratio": 0.1, "alpha": 0.1, **STEPS},
    ),
    "greenwood": (
        fire_sales.greenwood_landier_thesmar,
        {"assets": [10.0, 20.0, 30.0], "equity": V, "weights": [[0.5, 0.5], [1.0, 0.0], [0.2, 0.3]],
         "impact": [0.1, 0.1], "shock": [-0.1, 0.1]},
    ),
    "sale_fraction": (
        deleveraging.sale_fraction,
        {"illiquid": V, "marketable": V, "capital": V, "loss": V, "max_leverage": 30.0, "target_leverage": 20.0},
    ),
    "deleverage": (
        deleveraging.deleverage,
        {"holdings": W, "illiquid": V, "capital": V, "depth": V, "loss": V, "max_leverage": 3.0,
         "target_leverage": 2.0, "floor_frac": 0.1, "execution": 0.5, "max_rounds": 10},
    ),
    "index": (deleveraging.indirect_contagion_index, {"holdings": W, "depth": V}),
    "entropy": (reconstruct.maximum_entropy, {"lent": V, "borrowed": V, **STEPS}),
    "impact": (network_measures.impact_matrix, {"claims": W, "equity": V}),
    "communicability": (network_measures.communicability, {"impact": W}),
    "susceptibility": (network_measures.susceptibility, {"impact": W}),
    "diffusion": (network_measures.diffusion, {"impact": W}),
    "impossible": (
        network_measures.contagion_impossible,
        {"equity": V, "outside_assets": V, "inside_share": SHARES, "source": 0, "targets": [1, 2]},
    ),
    "bound": (
        network_measures.amplification_bound,
        {"default_probability": SHARES, "outside_assets": V, "inside_share": SHARES},
    ),
    "edges": (
        lambda **given: network.edges_to_matrix(**given, size=3), {"row": [0, 1, 2], "column": [1, 2, 0], "amount": V},
    ),
    "cross_margin": (
        perps.cross_margin,
        {"account": [0, 1, 1], "market": [0, 0, 1],
         "size": V, "mark": V, "maintenance_frac": SHARES, "equity": [5.0, 6.0]},
    ),
    "joint_move": (
        perps.joint_liquidation_move,
        {"account": [0, 1, 1], "market": [0, 0, 1],
         "size": V, "mark": V, "maintenance_frac": SHARES, "equity": [5.0, 6.0],
         "direction": [-1.0, 1.0, 1.0]},
    ),
    "adl_score": (perps.adl_score, {"size": V, "entry": V, "mark": V, "account_value": V}),
    "adl_close": (perps.adl_close, {"size_to_close": 1.0, "size": V, "score": V}),
    "gmx_impact": (
        perps.gmx_price_impact,
        {"imbalance_before_usd": V, "imbalance_after_usd": V, "positive_factor": 0.1, "negative_factor": 0.2,
         "exponent": 2.0},
    ),
    "gmx_liquidatable": (
        perps.gmx_liquidatable,
        {"collateral_usd": V, "pnl_usd": V, "impact_usd": V, "fees_usd": V, "size_usd": V, "min_collateral_usd": 1.0,
         "min_collateral_factor": 0.1},
    ),
    "socialise": (perps.socialise, {"equity": [-1.0, 2.0, 3.0], "profit": V, "fund": 0.1}),
    "waterfall": (pays, {"loss": V, "assets": 1.0, "slashable": 0.5, "exits": 0.1, "suppliers": 10.0}),
    "risk_arrays": (
        lambda **given: span.charge(span.risk_of_arrays(2, **given)),
        {"account": [0, 1, 1], "quantity": V, "arrays_usd": np.ones((3, 16)), "delta": V, "tier": [0, 0, 1],
         "kind": [0, 1, -1]},
    ),
    "derive": (margin_of(margin_derive.DeriveStandard()), OPTIONS),
    "pmrm": (margin_of(margin_derive.DerivePortfolio()), OPTIONS),
    "deribit": (margin_of(margin_deribit.DeribitStandard(0.02, 0.01)), OPTIONS),
    "deribit_pm": (margin_of(margin_deribit.DeribitPortfolio()), OPTIONS),
    "span": (margin_of(margin_span.SpanScan(0.1, 0.2)), OPTIONS),
    "historical": (tail_risk.historical, {"losses": SERIES, "level": 0.8}),
    "filtered": (tail_risk.filtered_historical, {"losses": SERIES, "sigma": SERIES**2, "sigma_now": 1.0, "level": 0.8}),
    "delta_gamma": (
        tail_risk.delta_gamma, {"delta": V[:2], "gamma": TWO, "covariance": TWO, "level": 0.99, "theta": 0.1},
    ),
    "covar": (systemic_risk.empirical_covar, {"own": SERIES, "system": SERIES[::-1], "level": 0.8}),
    "mes": (systemic_risk.empirical_mes, {"own": SERIES, "system": SERIES[::-1], "level": 0.8}),
    "gaussian_mes": (systemic_risk.gaussian_mes, {"correlation": 0.5, "sigma": 0.2, "level": 0.95}),
    "srisk": (systemic_risk.srisk, {"debt": V, "equity": V, "long_run_mes": SHARES, "capital_ratio": 0.08}),
    "acerbi": (backtests.acerbi_szekely, {"profit": SERIES, "var": 1.0, "es": 1.2, "level": 0.9}),
    "diebold": (forecast_scores.diebold_mariano, {"loss_a": SERIES, "loss_b": SERIES[::-1], "horizon": 2}),
    "auc": (forecast_scores.auc, {"score": V, "happened": [0, 1, 1]}),
    "log_loss": (forecast_scores.brier, {"probability": SHARES, "happened": [0, 1, 1]}),
    "panjer": (compound_loss.panjer_poisson, {"frequency": 2.0, "severity": [0.5, 0.3, 0.2], "units": 40}),
    "parity": (
        lambda **given: forwards.parity_forward(**given, discount=None),
        {"K": [90.0, 100.0, 110.0], "call": [15.0, 9.0, 5.0], "put": [4.0, 8.0, 14.0], "weight": V},
    ),
    "curve": (
        lambda T_yr, forward, at: forwards.ForwardCurve(100.0, T_yr, forward).carry(at),
        {"T_yr": SHARES, "forward": [101.0, 102.0, 103.0], "at": SHARES},
    ),
    "smile": (smile, {"a": 0.04, "b": 0.1, "rho": -0.3, "m": 0.1, "sigma": 0.2, "k": SHARES}),
    "surface": (
        lambda theta, rho, eta, gamma, k: ssvi.SsviSurface(np.array([0.1, 0.5]), theta, rho, eta, gamma).vol(k, 0.2),
        {"theta": [0.02, 0.1], "rho": -0.2, "eta": 1.0, "gamma": 0.4, "k": SHARES},
    ),
    "walk": (
        lambda amount, **pool: depth.constant_product_depth(**pool).walk(amount),
        {"amount": V, "base": 10.0, "quote": 10.0, "fee_frac": 0.01},
    ),
    "greeks": (
        black.first_greeks, {"kind": [1, -1, 1], "S": V, "K": V, "T_yr": SHARES, "sigma": SHARES, "r": SHARES},
    ),
}  # fmt: skip
ODD = (np.nan, np.inf, -np.inf, -1.0, 0.0, 1e300, -1e300, 1e-300, 1e160, 1e-160, 1.7e308, 5e-324)
# NaN is an answer where the docstring says so: no positive price liquidates, no violation, no event, an empty book
LABELLED = {"cross_margin": {2}, "acerbi": {0}, "auc": {0}, "walk": {1}, "greeks": {1, 2, 3, 4}}


def figures(found: Any) -> list[np.ndarray]:
    if isinstance(found, tuple):
        return [array for part in found for array in figures(part)]
    if sparse.issparse(found):
        return [found.data]
    return [np.asarray(found, dtype=float)]


@pytest.mark.parametrize("name", CALLS)
def test_an_odd_input_is_refused_or_answered(name: str) -> None:
    function, plain = CALLS[name]
    function(**plain)
    for argument, value in plain.items():
        tries: list[Any] = list(ODD)
        if np.ndim(value):
            tries = [[], np.ones(7), np.ones((2, 2, 2))]
            for odd in ODD:
                changed = np.array(value, dtype=float)
                changed[(-1,) + (0,) * (changed.ndim - 1)] = odd
                tries += [changed, np.full(changed.shape, odd)]
        for odd in tries:
            try:
                found = function(**(plain | {argument: odd}))
            except DomainError as refused:
                assert refused.message, (argument, odd)  # noqa: PT017
                continue
            for i, array in enumerate(figures(found)):
                assert not np.any(np.isnan(array)) or i in LABELLED.get(name, ()), (argument, odd)


def test_what_a_mask_hides_is_refused_by_name_and_a_mask_of_nothing_is_none() -> None:
    values = np.array([1.0, 2.0, 3.0])
    hidden, plain = np.ma.masked_array(values, [False, True, False]), np.ma.masked_array(values, [False] * 3)
    for name in ("assets", "sigma"):
        with pytest.raises(DomainError, match=rf"^{name}\[1\] is masked"):
            neva.merton(**({"assets": values, "sigma": values} | {name: hidden}))
    with pytest.raises(DomainError, match=r"^losses\[1\] is masked"):
        tail_risk.historical(np.ma.masked_array(SERIES, np.arange(60) == 1), 0.8)
    with pytest.raises(DomainError, match=r"^liabilities\[0, 1\] is masked"):
        clearing.system(np.ma.masked_array(W, np.array(W) == 1.0), V)
    with pytest.raises(DomainError, match=r"^kind is masked"):
        black.price(np.ma.masked_array([1, -1, 1], [True, False, False]), V, V, SHARES, SHARES)
    np.testing.assert_array_equal(black.price("c", plain, 2.0, 0.5, 0.3), black.price("c", values, 2.0, 0.5, 0.3))


@pytest.mark.parametrize("unit", [1e-300, 1e-160, 1.0, 1e160, 1e300])
def test_maximum_entropy_in_any_unit(unit: float) -> None:
    found = reconstruct.maximum_entropy(np.array(V) * unit, np.array([3.0, 1.0, 2.0]) * unit)
    one = reconstruct.maximum_entropy(V, [3.0, 1.0, 2.0])
    assert found.converged
    np.testing.assert_allclose(found.claims / unit, one.claims, rtol=1e-9)
    np.testing.assert_allclose(found.claims.sum(axis=1) / unit, V, rtol=1e-10)


def test_maximum_entropy_meets_small_totals_to_their_own_last_digit() -> None:
    """A node of 1e-9 beside nodes of 1e6: the error of its total is relative to it."""
    lent, borrowed = np.array([1e-9, 2e6, 1e6, 1.5e6]), np.array([1e6, 2e6, 1.5e6, 1e-9])
    found = reconstruct.maximum_entropy(lent, borrowed)
    assert found.converged
    np.testing.assert_allclose(found.claims.sum(axis=1), lent, rtol=1e-11)
