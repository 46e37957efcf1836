"""Perp liquidation, deleveraging, GMX impact, insurance: figures by published formulas, exact worlds, laws."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.core.errors import DomainError
from aggregator.quant import perps
from aggregator.quant.perp_funding import funding_payment, funding_rate, premium_index

# Hyperliquid rules (docs: Liquidations): side, mark, size, maintenance, account value, liq price, backstop equity
HYPERLIQUID = [
    (1, 100, 10, 0.01, 100, 90.9090909090909, 6.0606060606060606),
    (-1, 3000, 2, 0.02, 600, 3235.294117647059, 86.27450980392157),
    (1, 61000, 0.5, 0.0125, 4500.0, 52658.22784810126, 219.40928270042193),
]


@pytest.mark.parametrize(("side", "mark", "size", "frac", "value", "price", "backstop"), HYPERLIQUID)
def test_liquidation_price_of_one_position(
    side: int, mark: float, size: float, frac: float, value: float, price: float, backstop: float
) -> None:
    found = perps.cross_margin([0], 0, side * size, mark, frac, [value]).liquidation_price[0]
    assert found == pytest.approx(price, rel=1e-12)
    assert perps.BACKSTOP_SHARE * frac * size * found == pytest.approx(backstop, rel=1e-12)


def test_cross_margined_account_in_two_markets() -> None:
    # exact rationals: 2 BTC long at 60000 (1.25 %), 30 ETH short at 3000 (2 %), 20000 of collateral
    book = ([0, 0], [0, 1], [2.0, -30.0], [60_000.0, 3_000.0], [0.0125, 0.02], [20_000.0])
    found = perps.cross_margin(*book)
    assert found.maintenance[0] == pytest.approx(3300)
    assert found.liquidation_price == pytest.approx([4072000 / 79, 542500 / 153], rel=1e-12)
    assert perps.joint_liquidation_move(*book, [-1, -1])[0] == pytest.approx(167 / 267, rel=1e-12)
    assert perps.joint_liquidation_move(*book, [-1, 1])[0] == pytest.approx(167 / 2103, rel=1e-12)
    assert perps.joint_liquidation_move(*book, [-1, 0])[0] == pytest.approx(167 / 1185, rel=1e-12)


@given(
    st.floats(-50, 50).filter(lambda n: abs(n) > 1e-3),
    st.floats(1, 1e5),
    st.floats(0.002, 0.2),
    st.floats(-0.5, 3.0),
)
def test_at_the_liquidation_price_equity_equals_maintenance(n: float, mark: float, frac: float, cover: float) -> None:
    equity = cover * abs(n) * mark
    found = perps.cross_margin([0], 0, n, mark, frac, [equity])
    price = found.liquidation_price[0]
    if np.isnan(price):
        assert n > 0  # only a long that is more than fully covered has none
        assert equity >= n * mark
    else:
        assert equity + n * (price - mark) == pytest.approx(frac * abs(n) * price, abs=1e-9 * abs(n) * (mark + price))


def test_no_liquidation_and_already_liquidated() -> None:
    found = perps.cross_margin([0, 1, 1], [0, 1, 2], [1.0, 0.0, -2.0], 100.0, 0.01, [500.0, -10.0])
    assert np.isnan(found.liquidation_price[0])
    assert np.isnan(found.liquidation_price[1])
    assert found.excess[1] < 0
    moves = perps.joint_liquidation_move([0, 1], 0, [1.0, -2.0], 100.0, 0.01, [500.0, -10.0], 1.0)
    assert list(moves) == [np.inf, 0.0]


@pytest.mark.parametrize("first", [0, 2**31, 2**53, 2**63 - 1, 2**64 - 2, 2**70])
def test_neighbouring_market_ids_are_two_markets_however_large(first: int) -> None:
    """10 long in one and 10 short in the next are two positions, 10 long and 10 short in one are none."""
    sizes = ([10.0, -10.0], [100.0, 100.0], 0.05, [500.0])
    assert perps.cross_margin([0, 0], [first, first + 1], *sizes).maintenance == pytest.approx([100.0])
    assert perps.cross_margin([0, 0], [first, first], *sizes).maintenance == pytest.approx([0.0])


def test_a_long_that_cash_covers_survives_every_fall() -> None:
    """One coin at 100 with 500 of equity: equation (2) says a fall of 504 %, by which the price has long been zero."""
    one = ([0], 0, [1.0], [100.0], [0.01])
    assert perps.joint_liquidation_move(*one, [500.0], -1.0)[0] == np.inf
    assert np.isnan(perps.cross_margin(*one, [500.0]).liquidation_price[0])
    # with 50 of equity both forms agree: 100 - (50 - 1) / 0.99
    assert perps.joint_liquidation_move(*one, [50.0], -1.0)[0] == pytest.approx(49 / 99)
    assert perps.cross_margin(*one, [50.0]).liquidation_price[0] == pytest.approx(100 - 49 / 0.99)
    # a short besides, in a market that rises, does not lend the fallen one more room
    hedged = ([0, 0], [0, 1], [1.0, -1.0], [100.0, 100.0], 0.01, [500.0])
    assert perps.joint_liquidation_move(*hedged, [-1.0, 0.1])[0] == np.inf
    assert perps.joint_liquidation_move(*hedged, [-0.1, 1.0])[0] == pytest.approx(498 / 110.9)


def test_adl_ranking_and_closing() -> None:
    # entry, size, account value at mark 80; scores of shorts by Hyperliquid's rule
    size, entry, value = (
        np.array([-10.0, -5, -100, -20]),
        np.array([100.0, 120, 82, 75]),
        np.array([400.0, 300, 500, 300]),
    )
    score = perps.adl_score(size, entry, 80.0, value)
    assert score == pytest.approx([2.5, 2.0, 16.4, 5.0], rel=1e-12)
    assert perps.adl_score(3.0, 50.0, 75.0, 100.0) == pytest.approx(1.5 * 225 / 100)
    assert list(perps.adl_close(115.0, size, score)) == [0, 0, 100, 15]
    assert list(perps.adl_close(0.0, size, score)) == [0, 0, 0, 0]
    assert list(perps.adl_close(135.0, size, score)) == [10, 5, 100, 20]
    # equal scores go by index
    assert list(perps.adl_close(3.0, [2.0, 2.0], [1.0, 1.0])) == [2.0, 1.0]
    with pytest.raises(DomainError, match="that much"):
        perps.adl_close(136.0, size, score)


def test_gmx_price_impact_of_the_contract() -> None:
    # gmx-synthetics a5c0c88 PricingUtils: factors 2e-9 and 4e-9, exponent 2; imbalance before, after -> USD
    before, after = np.array([1e6, 1e6, 0.0, 1e6]), np.array([1.5e6, 4e5, 1e6, -5e5])
    assert perps.gmx_price_impact(before, after, 2e-9, 4e-9) == pytest.approx([-5000, 1680, -4000, 1000], rel=1e-12)


@given(st.floats(-1e7, 1e7), st.floats(-1e7, 1e7), st.floats(0, 1e-8), st.floats(0, 1e-8))
def test_gmx_round_trip_never_pays(before: float, after: float, plus: float, minus: float) -> None:
    there = perps.gmx_price_impact(before, after, plus, minus)
    back = perps.gmx_price_impact(after, before, plus, minus)
    assert there + back <= 1e-6


def test_gmx_liquidation_rule() -> None:
    flags = perps.gmx_liquidatable(
        [100, 100, 100, 100], [-85, -95, 0, -80], [5, 0, -70, 0], [0, 0, 0, 0], 2000, 5, 0.01
    )
    assert list(flags) == [True, True, False, False]


def test_insurance_fund_then_winners() -> None:
    # exact: shortfall 500, fund 200, 300 spread over profits 1800 + 750 + 800
    equity = [-500.0, 1500.0, 2400.0, 4750.0, 900.0]
    profit = [-2000.0, -500.0, 1800.0, 750.0, 800.0]
    found = perps.socialise(equity, profit, 200.0)
    assert (found.shortfall, found.fund_pays) == (500, 200)
    assert found.haircut_frac == pytest.approx(6 / 67, rel=1e-12)
    assert found.charged == pytest.approx([0, 0, 10800 / 67, 4500 / 67, 4800 / 67], rel=1e-12)
    assert found.equity_after == pytest.approx([0, 1500, 150000 / 67, 313750 / 67, 55500 / 67], rel=1e-12)


@given(st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)), min_size=1, max_size=8), st.floats(0, 1e4))
def test_insurance_conserves_value(rows: list[tuple[float, float]], fund: float) -> None:
    equity, profit = np.array(rows).T
    found = perps.socialise(equity, profit, fund)
    assert found.fund_pays + found.socialised + found.beyond == pytest.approx(found.shortfall, abs=1e-6)
    assert 0 <= found.haircut_frac <= 1
    total = np.sum(equity) + found.fund_pays + found.beyond
    assert np.sum(found.equity_after) == pytest.approx(total, abs=1e-6)


def test_bad_input() -> None:
    for size, mark, frac in itertools.product((1.0, np.nan), (1.0, -1.0), (0.1, 1.5)):
        if (size, mark, frac) != (1.0, 1.0, 0.1):
            with pytest.raises(DomainError, match=r"position \[1\]"):
                perps.cross_margin([0, 0], [0, 1], [1.0, size], [1.0, mark], [0.1, frac], [1.0])
    with pytest.raises(DomainError, match="account"):
        perps.cross_margin([3], 0, 1.0, 1.0, 0.1, [1.0])
    with pytest.raises(DomainError, match=r"entry\[1\]"):
        perps.adl_score(1.0, [1.0, np.inf], 1.0, 1.0)
    with pytest.raises(DomainError, match=r"account\[0\]"):  # not account 0
        perps.cross_margin([0.7], 0, 1.0, 1.0, 0.1, [1.0])
    with pytest.raises(DomainError, match="equity is no list"):
        perps.cross_margin([0], 0, 1.0, 1.0, 0.1, [[1.0]])
    with pytest.raises(DomainError, match="adl_score"):
        perps.adl_score(1e200, 1.0, 1e200, 1.0)
    with pytest.raises(DomainError, match="broadcast"):
        perps.cross_margin([0, 0], 0, [1.0, 1.0, 1.0], 1.0, 0.1, [1.0])
    with pytest.raises(DomainError, match=r"pnl_usd\[1\]"):  # a NaN compares as not liquidatable
        perps.gmx_liquidatable(100.0, [0.0, np.nan], 0.0, 0.0, 100.0, 5.0, 0.01)
    with pytest.raises(DomainError, match="float64"):
        perps.gmx_price_impact(1e200, 0.0, 1e-9, 1e-9)
    with pytest.raises(DomainError, match=r"direction\[0\]"):
        perps.joint_liquidation_move([0], 0, [1.0], [100.0], [0.01], [500.0], [np.nan])
    with pytest.raises(DomainError, match="impact"):
        perps.gmx_price_impact(1.0, 2.0, -1.0, 1.0)
    with pytest.raises(DomainError, match="equity"):
        perps.socialise([np.nan], [1.0], 0.0)


def test_rows_of_one_market_are_one_position() -> None:
    """1 + 1 contracts at 100, 5 %, 20 of equity: maintenance 10, price 100 - 10/(2 * 0.95), whatever the rows."""
    for size, market in (([2.0], [7]), ([1.0, 1.0], [7, 7]), ([0.5, 1.75, -0.25], [7, 7, 7]), ([5.0, -3.0], [0, 0])):
        rows = len(size)
        found = perps.cross_margin([0] * rows, market, size, 100.0, 0.05, [20.0])
        assert found.maintenance == pytest.approx([10.0])
        assert found.liquidation_price == pytest.approx([94.73684210526316] * rows, rel=1e-12)
        assert perps.joint_liquidation_move([0] * rows, market, size, 100.0, 0.05, [20.0], -1.0) == pytest.approx(
            [10 / 190], rel=1e-12
        )
    apart = perps.cross_margin([0, 0], [0, 1], 1.0, 100.0, 0.05, [20.0])
    assert apart.liquidation_price == pytest.approx([89.47368421052632] * 2, rel=1e-12)
    flat = perps.cross_margin([0, 0, 1], [3, 3, 3], [4.0, -4.0, 1.0], 100.0, 0.05, [1.0, 50.0])
    assert flat.maintenance == pytest.approx([0.0, 5.0])
    assert np.isnan(flat.liquidation_price[:2]).all()
    for name, wrong in (("mark", {"mark": [100.0, 101.0]}), ("maintenance_frac", {"maintenance_frac": [0.05, 0.1]})):
        plain = {"size": 1.0, "mark": 100.0, "maintenance_frac": 0.05, "equity": [20.0]}
        with pytest.raises(DomainError, match=rf"{name}\[1\]"):
            perps.cross_margin([0, 0], [5, 5], **(plain | wrong))
    with pytest.raises(DomainError, match=r"direction\[1\]"):
        perps.joint_liquidation_move([0, 0], [5, 5], 1.0, 100.0, 0.05, [20.0], [-1.0, 1.0])


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(-40, 40)), min_size=1, max_size=12))
def test_netting_by_hand_gives_the_same_account(rows: list[tuple[int, int, int]]) -> None:
    account, market, size = (np.array(column) for column in zip(*rows, strict=True))
    mark, share, equity = np.array([100.0, 20.0, 3.0]), np.array([0.05, 0.1, 0.02]), np.array([20.0, 35.0, 50.0])
    found = perps.cross_margin(account, market, size, mark[market], share[market], equity)
    net: dict[tuple[int, int], float] = {}
    for a, m, n in rows:
        net[a, m] = net.get((a, m), 0.0) + n
    keys = sorted(net)
    a, m = np.array(keys).T
    alone = perps.cross_margin(a, m, [net[key] for key in keys], mark[m], share[m], equity)
    np.testing.assert_allclose(found.maintenance, alone.maintenance, rtol=1e-9, atol=1e-12)
    by_key = dict(zip(keys, alone.liquidation_price, strict=True))
    expected = [by_key[key] for key in zip(account.tolist(), market.tolist(), strict=True)]
    np.testing.assert_allclose(found.liquidation_price, expected, rtol=1e-6)


def test_gmx_exponent_factor_is_nothing_below_one_dollar() -> None:
    """Precision.applyExponentFactor: 0 for values below 1 (its pow has no logarithm there), whatever the exponent."""
    for exponent in (1.0, 1.7, 2.0, 3.0):
        assert perps.gmx_price_impact(0.5, 0.0, 1e-3, 1e-3, exponent) == 0.0
        assert perps.gmx_price_impact(0.999999, -0.999999, 1e-3, 1e-3, exponent) == 0.0
        # out of balance from below a dollar to ten: only the ten counts
        assert perps.gmx_price_impact(0.5, 10.0, 2e-3, 4e-3, exponent) == pytest.approx(-4e-3 * 10.0**exponent)
        assert perps.gmx_price_impact(-10.0, 0.5, 2e-3, 4e-3, exponent) == pytest.approx(2e-3 * 10.0**exponent)
        assert perps.gmx_price_impact(1.0, 0.0, 1e-3, 1e-3, exponent) == pytest.approx(1e-3)


fractions = st.fractions(-Fraction(1, 20), Fraction(1, 20), max_denominator=10_000)


@given(fractions, fractions, st.fractions(0, Fraction(1, 100), max_denominator=1000), st.integers(1, 8))
def test_funding_is_the_venues_formula_in_fractions(
    premium: Fraction, interest: Fraction, damp: Fraction, hours: int
) -> None:
    """P + clamp(I - P, -d, d), times h/8, within the cap; and the short is paid what the long pays."""
    cap = Fraction(3, 1000)
    damped = premium + min(max(interest - premium, -damp), damp)
    terms = {"interest_frac": float(interest), "cap_frac": float(cap), "premium_hours": 8, "interval_hours": hours}
    for exact, damp_frac in ((damped, float(damp)), (premium + interest, None)):
        expected = min(max(exact * Fraction(hours, 8), -cap), cap)
        rate = funding_rate(float(premium), damp_frac=damp_frac, **terms)
        assert float(rate) == pytest.approx(float(expected), abs=1e-15)
        long, short = funding_payment([3.0, -3.0], 2000.0, rate)
        assert long == -short == pytest.approx(float(expected * 6000), abs=1e-11)


def test_funding_of_the_venues() -> None:
    """Deribit as its support page 31424939178397 says; the others by hand at the parameters of the module."""
    hourly = {"interest_frac": 1e-4, "premium_hours": 8, "interval_hours": 1}
    derive = funding_rate([0.0, 0.01, 0.5, -0.5], damp_frac=None, cap_frac=0.004, **hourly)
    assert derive == pytest.approx([0.0000125, 0.0012625, 0.004, -0.004], rel=1e-12)
    eight = hourly | {"interval_hours": 8}
    # inside the band the rate is the interest; beyond it the premium less the damping
    binance = funding_rate([0.0, 0.0004, 0.0006, 0.001, -0.0004, -0.002], damp_frac=5e-4, cap_frac=np.inf, **eight)
    assert binance == pytest.approx([1e-4, 1e-4, 1e-4, 5e-4, 1e-4, -0.0015], abs=1e-15)
    for premium in (0.0, 0.0002, -0.00025, 0.0003, 0.001, -0.001, 0.02):
        for hours in (0.5, 8.0):
            deribit = funding_rate(
                premium, interest_frac=0.0, damp_frac=2.5e-4, cap_frac=0.005, premium_hours=8, interval_hours=hours
            )
            uncapped = max(0.00025, premium) + min(-0.00025, premium)
            assert float(deribit) == pytest.approx(min(max(uncapped * hours / 8, -0.005), 0.005), abs=1e-15)
    # v4-chain: 6 (15 % - 12 %) = 18 % per 8 hours
    dydx = funding_rate(
        [0.5, -0.5, 0.1], damp_frac=None, cap_frac=6 * (0.15 - 0.12) / 8, **hourly | {"interest_frac": 0}
    )
    assert dydx == pytest.approx([0.18 / 8, -0.18 / 8, 0.1 / 8], abs=1e-15)


@given(st.floats(1, 1e5), st.floats(-0.2, 0.2), st.floats(0, 0.05))
def test_premium_index_is_nothing_inside_the_book_and_its_distance_outside(s: float, off: float, wide: float) -> None:
    bid = s * (1 + off)
    ask = bid * (1 + wide)
    found = float(premium_index(s, impact_bid=bid, impact_ask=ask))
    expected = (bid - s) / s if bid > s else (ask - s) / s if ask < s else 0.0
    assert found == pytest.approx(expected, abs=1e-12)


def test_funding_refuses_what_is_no_rate() -> None:
    fine = {"interest_frac": 0.0, "damp_frac": 0.0, "cap_frac": 1.0, "premium_hours": 8.0, "interval_hours": 8.0}
    for name, wrong in (
        ("interest_frac", np.nan),
        ("damp_frac", -1e-9),
        ("cap_frac", np.nan),
        ("premium_hours", 0.0),
        ("interval_hours", np.inf),
    ):
        with pytest.raises(DomainError, match=rf"^{name}\[1\]"):
            funding_rate(0.01, **(fine | {name: [fine[name], wrong]}))
    with pytest.raises(DomainError, match="impact_bid"):
        premium_index(100.0, impact_bid=101.0, impact_ask=100.0)
    with pytest.raises(DomainError, match="index"):
        funding_payment(1.0, 0.0, 0.01)
