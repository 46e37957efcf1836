"""Option margin: the venues' published cases, an independent scan, and laws every margin obeys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from itertools import product
from math import erf, exp, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.core.errors import DomainError
from aggregator.quant import _margin_kernels, black, margin_reference, margin_scan
from aggregator.quant.margin import MarginBook, MarginModel, Market, margin_book
from aggregator.quant.margin_deribit import DeribitPortfolio, DeribitStandard
from aggregator.quant.margin_derive import (
    PMRM_RULES,
    PMRM_SCENARIOS,
    DerivePortfolio,
    DerivePortfolio2,
    DeriveStandard,
    derive_standard_mainnet,
)
from aggregator.quant.margin_rules import ScanRules, Scenario
from aggregator.quant.margin_span import SpanScan
from aggregator.quant.span import CalendarSpread
from tests.quant._published_pmrm import CASES, Published


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_pmrm_equals_the_contract_tests(case: Published) -> None:
    columns = np.array(case.options, dtype=float).reshape(-1, 9).T
    seconds, K, kind, amount, vol, confidence, fixed, moving, rate = columns
    book = margin_book(
        1,
        account=np.zeros(seconds.size, int),
        kind=kind,
        K=K,
        seconds=seconds,
        forward_fixed=fixed,
        forward_variable=moving,
        amount=amount,
        sigma=vol,
        r=rate,
        confidence=confidence,
        cash=case.cash,
        perps=case.perps,
        base=case.base,
        perp_pnl=case.perp_pnl,
    )
    found = DerivePortfolio().margin(book, Market(1500.0, 1505.0, case.stable, case.spot_conf, case.perp_conf))
    assert found.equity[0] - case.cash == pytest.approx(case.mtm, abs=1e-9)
    basis = margin_scan.scan(book, np.zeros(1), np.ones(1), PMRM_RULES, PMRM_SCENARIOS).basis
    assert basis[0] == pytest.approx(case.basis, abs=1e-9)
    assert found.initial_excess[0] == pytest.approx(case.initial, abs=1e-9)
    assert found.maintenance_excess[0] == pytest.approx(case.maintenance, abs=1e-9)


# PMRM 2 cases 12, 43, 35, 30 and 33 of derivexyz/v2-core test/risk-managers/unit-tests/PMRM_2/portfolio_cases.
STABLE = 1.00019088635
GRID_2 = (
    Scenario(1.18, "up"),
    *(Scenario(s, v) for s in (1.135, 1.09, 1.045, 1.0, 0.955, 0.91, 0.865) for v in ("down", "none", "up")),
    Scenario(0.82, "up"),
)
TAILS = tuple(Scenario(s, "up", 0.036 / abs(s - 1)) for s in (0.34, 0.67, 1.5, 2.0, 3.0, 4.0))
STEEP_TAILS = tuple(
    Scenario(s, "up", damping) for s, damping in ((0.34, 4.0), (0.67, 2.0), (1.5, 1.0), (2.0, 0.0), (3.0, 5.0))
)
RULES_2 = ScanRules(
    vol_up=0.5,
    vol_down=0.275,
    short_power=0.3,
    long_power=0.13,
    floor_s=86_400.0,
    least_vol_up=0.45,
    gain_base=0.95,
    gain_mult=1.0,
    gain_add=0.08,
    loss_base=1.04,
    loss_mult=0.5,
    loss_add=0.08,
    basis_up=1.045,
    basis_down=0.955,
    basis_add=0.5,
    basis_mult=2.0,
    confidence_threshold=0.55,
    use_discount=1.0,
    linear_cap=0.15,
    linear_slope=-0.05,
    abs_cap=0.15,
    abs_slope=-0.05,
    least_k_star=0.01,
    width=4.0,
    vol_static=0.6,
    vol_slope=-0.1,
)


def pmrm2(rules: ScanRules, tails: tuple[Scenario, ...], linear_damping: float) -> DerivePortfolio2:
    scenarios = (*GRID_2, *tails, Scenario(1.0, "linear", linear_damping), Scenario(1.0, "abs"))
    return DerivePortfolio2(
        rules, scenarios, peg_threshold=0.98, peg_factor=2.0, perp_maintenance_frac=0.015, perp_initial_frac=0.005
    )


def held(market: Market, *holdings: tuple[float, float, bool, float, float, float]) -> dict[str, float]:
    """Amount, price, offsets with spot, initial and maintenance haircut, confidence -> book columns."""
    amount, price, offsets, initial, maintenance, confidence = np.array(holdings, np.float64).T
    value = amount * price / market.stable_usd
    haircuts = pmrm2(RULES_2, TAILS, 1.0).haircuts(value, maintenance, initial, confidence, market)
    columns = (value * (1.0 - offsets), value * offsets, *haircuts)
    names = ("collateral", "cancelling", "haircut_maintenance", "haircut_initial")
    return {name: float(column.sum()) for name, column in zip(names, columns, strict=True)}


def test_pmrm2_naked_short_call() -> None:
    book = margin_book(
        1,
        account=[0],
        kind="c",
        K=100_000.0,
        seconds=794_852,
        forward_variable=95776.67392708939,
        amount=-1.0,
        sigma=0.453803924321583,
        r=0.15,
        discount=0.9962264490688729,
        confidence=0.95,
    )
    found = pmrm2(RULES_2, TAILS, 1.0).margin(book, Market(95663.50604855, stable_usd=STABLE))
    assert found.equity[0] == pytest.approx(-1186.4185694587657, rel=1e-12)
    assert found.initial_excess[0] == pytest.approx(-14604.048120144837, rel=1e-12)
    assert found.maintenance_excess[0] == pytest.approx(-11824.858703959073, rel=1e-12)


def test_pmrm2_where_the_skew_scenario_is_worst() -> None:
    market = Market(2681.6029850999994, stable_usd=STABLE)
    book = margin_book(
        1,
        account=[0, 0, 0],
        kind=["c", "p", "c"],
        K=[6000.0, 7500.0, 4000.0],
        seconds=[794_852, 794_852, 3_214_052],
        forward_variable=[2682.9997436016715, 2682.9997436016715, 2695.7814942763334],
        amount=[-2.0, -4.0, 15.0],
        sigma=[0.8833255402190362, 0.8833255402190362, 0.7703304445358251],
        r=[0.15, 0.15, 0.21],
        discount=[0.9962264490688729, 0.9962264490688729, 0.9788248561009755],
        confidence=0.95,
        cash=-5000.0,
        **held(
            market,
            (10_000.0, 0.99984231175, False, 0.03, 0.02, 1.0),
            (0.5, 95569.65243595604, False, 0.05, 0.3, 1.0),
            (1.5, 2840.575164415104, True, 0.01, 0.05, 1.0),
        ),
    )
    rules = RULES_2._replace(linear_cap=9.5, vol_static=4.5, vol_slope=0.9)
    found = pmrm2(rules, TAILS, 2.0).margin(book, market)
    assert found.initial_excess[0] == pytest.approx(17453.18787430053, rel=1e-12)
    assert found.maintenance_excess[0] == pytest.approx(20836.150107000496, rel=1e-12)
    assert found.worst_scenario[0] == len(GRID_2) + len(TAILS)


def test_pmrm2_where_a_tail_is_worst() -> None:
    market = Market(1000.0, stable_usd=STABLE, spot_confidence=0.9)
    book = margin_book(
        1,
        account=[0, 0, 0],
        kind=["c", "p", "c"],
        K=[4000.0, 2000.0, 3500.0],
        seconds=[3_214_052, 3_214_052, 18_938_852],
        forward_variable=[1014.178509176334, 1014.178509176334, 1119.5818673976705],
        amount=[-109.0, -4.0, -2.0],
        sigma=[0.9247166607631531, 0.872626818678352, 0.8124384856010328],
        r=[0.21, 0.21, 0.29],
        discount=[0.9788248561009755, 0.9788248561009755, 0.8401635979647669],
        confidence=0.95,
        cash=-33_000.0,
        **held(
            market,
            (0.46, 95663.50604855, False, 0.05, 0.25, 1.0),
            (10.12, 1000.0, True, 0.005, 0.015, 0.9),
            (2.31, 2765.7082515126017, True, 0.01, 0.03, 1.0),
            (12311.0, 0.99984231175, False, 0.03, 0.02, 1.0),
            (12353.0, 1.1470506863329273, False, 0.03, 0.12, 1.0),
        ),
    )
    found = pmrm2(RULES_2, STEEP_TAILS, 1.0).margin(book, market)
    assert found.initial_excess[0] == pytest.approx(-21392.355000009404, rel=1e-12)
    assert found.maintenance_excess[0] == pytest.approx(-7152.948464247913, rel=1e-12)


def test_pmrm2_perp_on_doubtful_feeds() -> None:
    # case 30
    found = pmrm2(RULES_2, TAILS, 1.0).margin(
        margin_book(1, perps=1.0, perp_pnl=-610.0), Market(3000.0, 2500.0, STABLE, 0.2, 0.1)
    )
    assert found.initial_excess[0] == pytest.approx(-3820.0, rel=1e-12)
    assert found.maintenance_excess[0] == pytest.approx(-1015.0, rel=1e-12)


def test_pmrm2_perp_against_puts_and_coin() -> None:
    # case 33
    market = Market(3000.0, 100_000.0, STABLE, 0.2, 0.1)
    book = margin_book(
        1,
        account=[0],
        kind="p",
        K=100_000.0,
        seconds=794_852,
        forward_variable=3113.1678785393888,
        amount=10.0,
        sigma=0.6701175743327585,
        r=0.15,
        discount=0.9962264490688729,
        confidence=0.95,
        perps=-1.0,
        **held(market, (1.0, 3000.0, True, 0.01, 0.02, 0.2)),
    )
    found = pmrm2(RULES_2, TAILS, 1.0).margin(book, market)
    assert found.initial_excess[0] == pytest.approx(859668.4190349347, rel=1e-12)
    assert found.maintenance_excess[0] == pytest.approx(907071.7014477414, rel=1e-12)


def test_pmrm2_trusts_a_holding_as_little_as_the_spot_feed() -> None:
    """Cases 32 and 6: feeds of 1.0 and others above, at and below the spot's own; the perp's 0.1 is not asked."""
    market = Market(100_000.0, 100_000.0, STABLE, 0.2, 0.1)
    book = margin_book(1, perps=-1.0, **held(market, (1.0, 100_000.0, True, 0.015, 0.03, 1.0)))
    found = pmrm2(RULES_2, TAILS, 1.0).margin(book, market)
    assert found.initial_excess[0] == pytest.approx(-76506.39347229843, rel=1e-12)
    assert found.maintenance_excess[0] == pytest.approx(95478.73931898379, rel=1e-12)

    market = Market(2000.0, stable_usd=0.1, spot_confidence=0.12)
    columns = held(
        market,
        (2.5, 10_000.0, True, 0.01, 0.03, 0.2),
        (16.0, 2000.0, True, 0.005, 0.015, 0.12),
        (2.3, 75_000.0, False, 0.05, 0.25, 0.4),
        (12.0, 120_000.0, False, 0.1, 0.35, 0.253),
        (23_510.0, 1.1470506863329273, False, 0.03, 0.12, 1.0),
        (10_000.0, 1.9, False, 0.05, 0.2, 0.01),
        (4.0, 500.0, True, 0.01, 0.05, 0.2),
    )
    found = pmrm2(RULES_2, TAILS, 1.0).margin(margin_book(1, cash=-3000.0, **columns), market)
    assert found.initial_excess[0] == pytest.approx(-5359102.148490705, rel=1e-12)
    assert found.maintenance_excess[0] == pytest.approx(11531801.022394048, rel=1e-12)


@pytest.mark.parametrize("seconds", [1.0, 60.0, 3_600.0, 86_399.0])
def test_a_floor_of_zero_lets_the_last_day_run_out(seconds: float) -> None:
    """At the money black76 is F * erf(sigma * sqrt(T / 8)); the shock is 1 + 0.5 * (30 d / T)^0.3 without a floor."""
    rules = RULES_2._replace(floor_s=0.0, least_k_star=0.0, least_vol_up=0.0, basis_add=0.0, basis_mult=0.0)
    book = margin_book(
        1, account=[0], kind="c", K=2000.0, seconds=seconds, forward_variable=2000.0, sigma=0.6, amount=-1.0
    )
    found = margin_scan.scan(book, np.zeros(1), np.ones(1), rules, (Scenario(1.0, "up"), Scenario(1.0, "abs")))
    stretch = 1.0 + 0.5 * (30 * 86_400 / seconds) ** 0.3
    worth = [2000.0 * erf(sigma * sqrt(seconds / 31_536_000 / 8)) for sigma in (0.6, 0.6 * stretch)]
    discount = min(1.04 * exp(0.08 * seconds / 31_536_000), 1.0)
    assert found.outcomes[0] == pytest.approx([worth[0] - worth[1] * discount, 0.0], rel=1e-9)


@pytest.mark.parametrize(
    ("rules", "seconds", "said"),
    [
        ({"floor_s": 0.0}, 0.0, "seconds"),
        ({"least_k_star": 0.0}, 0.0, r"k\*"),
        ({"least_k_star": 0.0, "width": 0.0}, 1e6, r"k\*"),
        ({"least_k_star": 0.0, "vol_static": 0.0, "vol_slope": -0.1}, 1e6, r"k\*"),
        ({"floor_s": -1.0}, 1e6, "floor_s"),
        ({"least_k_star": -0.01}, 1e6, "least_k_star"),
    ],
)
def test_where_the_contract_would_divide_by_zero_is_refused(rules: dict[str, float], seconds: float, said: str) -> None:
    book = margin_book(
        1,
        account=[0, 0],
        kind="c",
        K=[9.0, 10.0],
        seconds=[1e6, seconds],
        forward_variable=10.0,
        sigma=0.6,
        amount=-1.0,
    )
    with pytest.raises(DomainError, match=said):
        pmrm2(RULES_2._replace(**rules), TAILS, 1.0).margin(book, Market(10.0))
    if said == r"k\*":  # without a skewed scenario nothing is divided by it
        bent = DerivePortfolio2(RULES_2._replace(**rules), GRID_2).margin(book, Market(10.0))
        assert np.isfinite(bent.initial_excess[0])


# Derive standard margin of one short option: StandardManager.sol at 7736900, parameters of test/config-test.sol.
# spot = forward, strike, years, volatility, kind, initial, maintenance
SRM = [
    (2000, 2000, 0.0821917808219178, 0.7, 1, -459.8541824923383, -309.8541824923383),
    (2000, 2150, 0.0821917808219178, 0.7, 1, -301.46135456053275, -251.46135456053275),
    (2000, 2600, 0.019178082191780823, 0.8, 1, -200.75519751183046, -150.75519751183046),
    (2000, 1800, 0.0821917808219178, 0.7, -1, -272.23062905551024, -222.23062905551024),
    (2000, 3200, 0.0821917808219178, 0.7, -1, -1501.6357641280517, -1351.6357641280517),
    (60000, 50000, 0.1643835616438356, 0.55, -1, -7417.927243659513, -5917.927243659513),
]


@pytest.mark.parametrize(("spot", "K", "years", "vol", "kind", "initial", "maintenance"), SRM)
def test_derive_standard_margin_of_one_short(
    spot: float, K: float, years: float, vol: float, kind: int, initial: float, maintenance: float
) -> None:
    book = margin_book(
        1,
        account=[0],
        kind=kind,
        K=K,
        seconds=years * black.SECONDS_PER_YEAR,
        forward_variable=spot,
        amount=-1.0,
        sigma=vol,
    )
    found = DeriveStandard().margin(book, Market(spot))
    assert found.initial_excess[0] == pytest.approx(initial, rel=1e-9)
    assert found.maintenance_excess[0] == pytest.approx(maintenance, rel=1e-9)


def _srm(**columns: object) -> tuple[float, float]:
    inputs = {"seconds": 30 * 86_400, "forward_variable": 2000.0, "sigma": 0.7} | columns
    book = margin_book(1, account=np.zeros(np.size(columns["K"]), int), **inputs)  # type: ignore[arg-type]
    found = DeriveStandard().margin(book, Market(2000.0, 2000.0))
    return float(found.initial_excess[0]), float(found.maintenance_excess[0])


def test_derive_standard_spreads_cost_at_most_their_loss() -> None:
    # a put spread loses at most 100 at settlement, a call spread 100, an unpaired call falls back to isolated margin
    assert _srm(kind=["p", "p"], K=[1900.0, 1800.0], amount=[-1.0, 1.0]) == pytest.approx((-100, -100))
    assert _srm(kind=["c", "c"], K=[2100.0, 2200.0], amount=[-1.0, 1.0]) == pytest.approx((-100, -100))
    assert _srm(kind=["c", "c"], K=[2100.0, 2000.0], amount=[-1.0, 1.0]) == (0, 0)
    alone = _srm(kind=["c"], K=[2100.0], amount=[-2.0])
    assert _srm(kind=["c", "c"], K=[2100.0, 2200.0], amount=[-2.0, 1.0])[0] >= alone[0]


def test_derive_standard_perps_base_depeg_and_doubt() -> None:
    book = margin_book(1, perps=-2.0, base=1.0, cash=500.0, perp_pnl=-50.0)
    model = DeriveStandard()
    found = model.margin(book, Market(2000.0, 2010.0))
    assert found.initial_excess[0] == pytest.approx(450 - 0.1 * 4020 + 0.8 * 2000)
    assert found.maintenance_excess[0] == pytest.approx(450 - 0.065 * 4020 + 0.8 * 2000)
    depegged = model.margin(book, Market(2000.0, 2010.0, stable_usd=0.95))
    assert depegged.initial_excess[0] == pytest.approx(found.initial_excess[0] - 2 * 0.04 * 2000 * 2)
    assert depegged.maintenance_excess[0] == pytest.approx(found.maintenance_excess[0])
    doubted = model.margin(book, Market(2000.0, 2010.0, perp_confidence=0.3))
    assert doubted.initial_excess[0] == pytest.approx(found.initial_excess[0] - 0.4 * 0.7 * 2000 * 2)
    assert derive_standard_mainnet().margin(book, Market(2000.0, 2010.0)).initial_excess[0] < found.initial_excess[0]


def random_book(seed: int, accounts: int = 12, legs: int = 60) -> MarginBook:
    """Random legs on feeds that are one per expiry, as the venues' are (one per leg would be an arbitrage)."""
    rng = np.random.default_rng(seed)
    seconds = rng.choice([43_200.0, 604_800.0, 2_592_000.0, 7_776_000.0], legs)
    years = seconds / black.SECONDS_PER_YEAR
    return margin_book(
        accounts,
        account=rng.integers(0, accounts, legs),
        kind=rng.random(legs) < 0.5,
        K=rng.choice([1000.0, 1500.0, 1800.0, 2000.0, 2200.0, 3000.0], legs),
        seconds=seconds,
        forward_fixed=np.where(seconds < 50_000.0, 300.0, 0.0),
        forward_variable=1900.0 * np.exp(0.1 * years) - np.where(seconds < 50_000.0, 300.0, 0.0),
        amount=rng.normal(size=legs),
        sigma=0.4 + 2.0 * years,
        r=0.04 - 0.1 * years,
        discount=np.exp(-0.02 * years),
        confidence=rng.choice([0.3, 1.0], legs),
        perps=rng.normal(size=accounts),
    )


@pytest.mark.parametrize(
    "rules",
    [
        PMRM_RULES,
        RULES_2,
        RULES_2._replace(coin=1.0),
        PMRM_RULES._replace(look_ahead_s=40_000.0),
        RULES_2._replace(floor_s=0.0, least_k_star=0.0),
    ],
    ids=["pmrm", "pmrm2", "coin", "later", "floors of zero"],
)
def test_compiled_scan_equals_the_numpy_scan(rules: ScanRules) -> None:
    book = random_book(1)
    scenarios = (*PMRM_SCENARIOS, *TAILS, Scenario(1.0, "linear", 2.0), Scenario(1.0, "abs"))
    linear, trust = 2000.0 * book.perps, np.full(book.accounts, 0.9)
    fast = margin_scan.scan(book, linear, trust, rules, scenarios)
    slow = margin_reference.scan(book, linear, trust, rules, scenarios)
    scale = np.bincount(book.account, weights=np.abs(book.column("amount")) * 3000.0, minlength=book.accounts) + 2000.0
    for name in ("value", "worst", "basis", "naked", "distrust"):
        assert np.all(np.abs(getattr(fast, name) - getattr(slow, name)) <= 1e-12 * scale), name
    assert np.array_equal(fast.worst_scenario, slow.worst_scenario)
    assert np.all(np.abs(fast.outcomes - slow.outcomes) <= 1e-12 * scale[:, None])


def test_compiled_standard_margin_equals_the_numpy_form() -> None:
    book, model = random_book(2), DeriveStandard()
    mark = book.column("amount") * 50.0
    initial, _ = model.isolated(book.sign, book.column("K"), book.column("amount"), mark, 1900.0)
    fast = np.empty(book.accounts)
    _margin_kernels.standard(book.offsets, book.sign, book.options, initial, 1.2, fast)
    assert fast == pytest.approx(margin_reference.standard(book, initial, 1.2), rel=1e-12)


MODELS: list[MarginModel] = [
    DeriveStandard(),
    DerivePortfolio(),
    pmrm2(RULES_2, TAILS, 1.0),
    DeribitStandard(0.02, 0.01),
    DeribitPortfolio(dampener_usd=1_000.0, delta_threshold_usd=0.0),
    SpanScan(
        0.15,
        0.25,
        tier_ends_s=(1e6,),
        calendar=(CalendarSpread(0, 1, 5.0), CalendarSpread(1, 1, 2.0)),
        short_minimum_frac=0.01,
        initial_factor=1.2,
    ),
]
MODEL_IDS = ["srm", "pmrm", "pmrm2", "deribit", "deribit_pm", "span"]


@pytest.mark.parametrize("model", MODELS, ids=MODEL_IDS)
@settings(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_laws_of_every_model(model: MarginModel, seed: int) -> None:
    book, market = random_book(seed), Market(1900.0, 1905.0)
    found = model.margin(book, market)
    assert np.all(np.isfinite(found.initial))
    assert np.all(found.initial >= found.maintenance - 1e-9)
    assert np.all(found.maintenance >= -1e-9)
    # accounts do not see each other: reversing their order reverses the answer
    flipped = margin_book(
        book.accounts,
        account=book.accounts - 1 - book.account,
        kind=book.sign,
        K=book.column("K"),
        seconds=book.column("seconds"),
        forward_fixed=book.column("forward_fixed"),
        forward_variable=book.column("forward_variable"),
        amount=book.column("amount"),
        sigma=book.column("sigma"),
        r=book.column("r"),
        discount=book.column("discount"),
        confidence=book.column("confidence"),
        perps=book.perps[::-1],
    )
    assert np.allclose(model.margin(flipped, market).initial[::-1], found.initial, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("model", MODELS, ids=MODEL_IDS)
def test_an_empty_account_needs_nothing_and_cash_is_cash(model: MarginModel) -> None:
    found = model.margin(margin_book(3, cash=[0.0, 100.0, -100.0]), Market(1900.0, 1900.0))
    assert list(found.equity) == [0.0, 100.0, -100.0]
    assert np.all(found.initial == 0.0)
    assert np.all(found.maintenance == 0.0)


def test_long_and_short_of_the_same_option_leave_only_contingencies() -> None:
    pair = {"account": [0, 0], "kind": "c", "K": 2000.0, "seconds": 864_000, "forward_variable": 2000.0}
    book = margin_book(1, amount=[-1.0, 1.0], sigma=0.7, **pair)
    found = DerivePortfolio().margin(book, Market(2000.0))
    assert found.equity[0] == pytest.approx(0, abs=1e-12)
    assert found.initial[0] == pytest.approx(0, abs=1e-12)


def test_bad_input() -> None:
    good = {"account": [0, 1], "kind": "c", "K": 2000.0, "seconds": 1.0, "forward_variable": 1.0, "sigma": 0.5}
    for name, value in (("K", [1.0, -1.0]), ("sigma", [0.1, np.nan]), ("seconds", [1.0, -1.0])):
        with pytest.raises(DomainError, match=r"option \[1\]"):
            margin_book(2, amount=1.0, **(good | {name: value}))
    with pytest.raises(DomainError, match=r"cash\[1\]"):
        margin_book(2, cash=[0.0, np.inf])
    with pytest.raises(DomainError, match="spot_usd"):
        Market(0.0)
    with pytest.raises(DomainError, match="confidence"):
        Market(1.0, spot_confidence=1.5)
    with pytest.raises(DomainError, match=r"scenario \[0\]"):
        DerivePortfolio(scenarios=(Scenario(1.0, "sideways"),)).margin(margin_book(1), Market(1.0))
    with pytest.raises(DomainError, match="no scenarios"):
        DerivePortfolio(scenarios=()).margin(margin_book(1), Market(1.0))
    for bad, message in (
        ({"account": [0.7, 1]}, r"account\[0\]"),  # not account 0
        ({"account": [0, 2]}, r"account\[1\]"),
        ({"K": [1.0, 2.0, 3.0]}, "broadcast"),
        ({"amount": ["a", "b"]}, "numbers"),
        ({"cash": [1.0, 2.0, 3.0]}, "cash does not fit"),
    ):
        with pytest.raises(DomainError, match=message):
            margin_book(2, **({"amount": 1.0} | good | bad))  # type: ignore[arg-type]
    with pytest.raises(DomainError, match="accounts"):
        margin_book(-1)
    with pytest.raises(DomainError, match="perp_usd"):
        Market(1.0, np.nan)
    with pytest.raises(DomainError, match="vol_up"):
        DerivePortfolio(rules=PMRM_RULES._replace(vol_up=np.nan)).margin(margin_book(1), Market(1.0))
    with pytest.raises(DomainError, match="initial_factor"):
        DerivePortfolio(initial_factor=np.inf).margin(margin_book(1), Market(1.0))


@pytest.mark.parametrize("model", MODELS, ids=MODEL_IDS)
def test_no_holding_is_left_out_silently(model: MarginModel) -> None:
    """What a venue's rule does not count is refused by account, and perps without a price are no perps at zero."""
    counted: tuple[str, ...] = () if isinstance(model, DeribitStandard | DeribitPortfolio) else ("base",)
    if isinstance(model, DerivePortfolio2):
        counted = ("collateral", "cancelling", "haircut_maintenance", "haircut_initial")
    for column in ("base", "collateral", "cancelling", "haircut_maintenance", "haircut_initial"):
        book = margin_book(2, **{column: [0.0, 3.0]})  # type: ignore[arg-type]
        if column in counted:
            found = model.margin(book, Market(1900.0, 1900.0))
            assert found.initial_excess[1] != 0.0
            assert found.maintenance_excess[1] != 0.0 or column == "haircut_initial"
        else:
            with pytest.raises(DomainError, match=rf"{column}\[1\]"):
                model.margin(book, Market(1900.0, 1900.0))
    if not isinstance(model, DeribitStandard | DeribitPortfolio):  # whose perps are worth a coin each
        with pytest.raises(DomainError, match=r"perps\[1\]"):
            model.margin(margin_book(2, perps=[0.0, 1.0]), Market(1900.0))


MODELS: list[MarginModel] = [
    DeribitStandard(0.02, 0.01),
    DeribitPortfolio(),
    SpanScan(0.1, 0.3),
    DeriveStandard(),
    DerivePortfolio(),
    DerivePortfolio2(PMRM_RULES),
]


def book_of_perps(rng: np.random.Generator, accounts: int = 4, legs: int = 6) -> MarginBook:
    """Calls and puts of three expiries, long and short, beside perps and cash of either sign."""
    m = accounts * legs
    return margin_book(
        accounts,
        account=np.repeat(np.arange(accounts), legs),
        kind=rng.random(m) < 0.5,
        K=rng.integers(10, 40, m) * 100.0,
        seconds=rng.choice([1, 30, 180], m) * 86_400.0,
        forward_variable=2000.0,
        amount=rng.normal(size=m) * 3,
        sigma=rng.uniform(0.4, 0.9),
        r=0.03,
        cash=rng.normal(size=accounts) * 1e3,
        perps=rng.normal(size=accounts),
        perp_pnl=rng.normal(size=accounts),
    )


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_no_parameters_make_a_requirement_negative(model: MarginModel) -> None:
    """Each parameter, and each rule of the scan, below zero is refused by name; any others give requirements >= 0."""
    rng = np.random.default_rng(0)
    book, market = book_of_perps(rng), Market(2000.0, perp_usd=2000.0, spot_confidence=0.3)
    numbers = {f.name: getattr(model, f.name) for f in fields(model) if isinstance(getattr(model, f.name), float)}
    assert numbers
    for name, wrong in product(numbers, (-1.0, -1e-6, np.nan, np.inf)):
        with pytest.raises(DomainError, match=rf"^{name} is out of range"):
            replace(model, **{name: wrong}).margin(book, market)
    if isinstance(model, DerivePortfolio | DerivePortfolio2):
        for name in ("basis_add", "basis_mult", "basis_up", "gain_base", "loss_base", "vol_up", "floor_s"):
            with pytest.raises(DomainError, match=rf"^{name} is out of range"):
                replace(model, rules=model.rules._replace(**{name: -0.5})).margin(book, market)
    for _ in range(40):
        book = book_of_perps(rng)
        drawn = {name: value * rng.choice([0.0, 0.1, 0.5, 1.0, 1.2, 3.0]) for name, value in numbers.items()}
        try:
            found = replace(model, **drawn).margin(book, market)
        except DomainError:
            continue
        size = 1.0 + np.abs(found.equity)
        assert np.all(found.initial >= -1e-9 * size), drawn
        assert np.all(found.maintenance >= -1e-9 * size), drawn


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: SpanScan(0.1, 0.3, initial_factor=-1), "initial_factor"),
        (lambda: DeribitStandard(-0.1, 0.01), "perp_initial_frac"),
        (lambda: DeriveStandard(unpaired_initial=0.5), "unpaired_initial"),
        (lambda: DeriveStandard(base_factor=1.5), "base_factor"),
    ],
)
def test_parameters_of_the_issue_are_refused(call: Callable[[], MarginModel], name: str) -> None:
    model = call()
    with pytest.raises(DomainError, match=f"^{name}"):
        model.margin(book_of_perps(np.random.default_rng(1)), Market(2000.0, perp_usd=2000.0))


def test_a_haircut_below_zero_is_refused() -> None:
    for name in ("haircut_maintenance", "haircut_initial"):
        with pytest.raises(DomainError, match=rf"^{name}\[1\]"):
            margin_book(2, **{name: [0.0, -1.0]})
