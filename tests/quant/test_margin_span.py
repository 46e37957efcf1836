"""SPAN: printed risk arrays and spread examples of the exchange, and the whole requirement in plain Python."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.core.errors import DomainError
from aggregator.quant.margin import MarginBook, Market, margin_book
from aggregator.quant.margin_span import SpanScan
from aggregator.quant.span import (
    DELTA_WEIGHTS,
    PRICE_MOVES,
    CalendarSpread,
    ProductSpread,
    SpanRisk,
    charge,
    price_risk,
    risk_of_arrays,
    with_credits,
)

# McMillan, Options as a Strategic Investment, ch. 34: S&P 500 future (scan range 10,000, extreme 7,000), Dec 410 call.
FUTURE = [0, 0, 3330, 3330, -3330, -3330, 6670, 6670, -6670, -6670, 10_000, 10_000, -10_000, -10_000, 7000, -7000]
CALL = [460, -610, 2640, 1730, -1270, -2340, 5210, 4540, -2540, -3430, 8060, 7640, -3380, -3990, 3130, -1500]


def of(quantities: list[float], arrays: list[list[float]], **columns: object) -> SpanRisk:
    account = np.zeros(len(quantities), int)
    return risk_of_arrays(1, account, quantities, arrays, **({"delta": 1.0} | columns))  # type: ignore[arg-type]


def future(scan_range: float) -> list[float]:
    """The risk array of a future."""
    moves = np.repeat(PRICE_MOVES, 2) * scan_range
    return [*moves, 0.7 * scan_range, -0.7 * scan_range]


@pytest.mark.parametrize(
    ("quantities", "requirement"),
    [([1, 0], 10_000), ([-1, 0], 10_000), ([0, 1], 3990), ([0, -1], 8060), ([1, -1], 6620)],
)
def test_the_printed_requirements(quantities: list[float], requirement: float) -> None:
    """Future long or short, long call 3,990 (down three thirds, volatility down), covered write 6,620."""
    found = charge(of(quantities, [FUTURE, CALL], delta=[1.0, 0.6], kind=[0, "c"]))
    assert found.total[0] == requirement


@pytest.mark.parametrize(("near", "far", "requirement"), [(0, 1, 200), (0, 2, 300), (1, 2, 250)])
def test_calendar_spreads_of_the_exchange(near: int, far: int, requirement: float) -> None:
    """cmegroup.com, Intra Spread Calculations: months at 500, 500 and 750, charges of 200, 50 and 0."""
    ranges = [500.0, 500.0, 750.0]
    charges = (CalendarSpread(0, 1, 200.0), CalendarSpread(0, 2, 50.0), CalendarSpread(1, 2, 0.0))
    for side in (1.0, -1.0):
        two = of([side, -side], [future(ranges[near]), future(ranges[far])], tier=[near, far])
        three = two._replace(
            long=np.pad(two.long, ((0, 0), (0, 2 - far))), short=np.pad(two.short, ((0, 0), (0, 2 - far)))
        )
        assert charge(three, charges).total[0] == pytest.approx(requirement)


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_credit_between_products_of_the_exchange(side: float) -> None:
    """cmegroup.com, Inter Spread Calculations: corn 2 to soybeans 1 at 55 %, 1,750 and 2,500: 2,700 of 6,000."""
    risks = {"corn": of([2.0 * side], [future(1750.0)]), "soybeans": of([-1.0 * side], [future(2500.0)])}
    products = {name: (risk, charge(risk)) for name, risk in risks.items()}
    assert sum(asked.total[0] for _, asked in products.values()) == 6000.0
    spread = ProductSpread((("corn", 2.0), ("soybeans", -1.0)), 0.55)
    found = with_credits(products, [spread])
    assert found["corn"].credit[0] == pytest.approx(0.55 * 3500.0)
    assert found["soybeans"].credit[0] == pytest.approx(0.55 * 2500.0)
    assert sum(asked.total[0] for asked in found.values()) == pytest.approx(2700.0)
    # what the first spread took, the second does not find, and the same side of the market earns nothing
    twice = with_credits(products, [spread, spread])
    assert twice["corn"].credit[0] == found["corn"].credit[0]
    same = {"corn": products["corn"], "soybeans": (of([side], [future(2500.0)]), products["soybeans"][1])}
    assert with_credits(same, [spread])["corn"].credit[0] == 0.0


def test_price_risk_leaves_out_volatility_and_time() -> None:
    """Short call: worst 8,060, at the other volatility 7,640; price unchanged 460 and -610: (7,850 + 75) / 0.6."""
    short = of([-1.0], [CALL], delta=0.6, kind="c")
    assert price_risk(short)[0] == pytest.approx(((8060 + 7640) / 2 - (460 - 610) / 2) / 0.6)
    assert price_risk(of([0.0], [CALL], delta=0.6))[0] == 0.0


def test_short_options_have_a_minimum() -> None:
    strangle = of([-3.0, -2.0, 5.0], [[0.0] * 16] * 3, kind=["c", "p", "c"])
    assert charge(strangle, short_minimum_usd=10.0).total[0] == 30.0
    assert charge(strangle, short_minimum_usd=10.0, gross=True).total[0] == 50.0


def test_the_sixteen_scenarios() -> None:
    scenarios = SpanScan(0.15, 0.25).scenarios()
    assert len(scenarios) == 16
    assert [s.spot for s in scenarios[10:14]] == pytest.approx([1.15, 1.15, 0.85, 0.85])
    assert [(round(s.spot, 9), s.vol, s.damping) for s in scenarios[14:]] == [(1.3, "none", 0.35), (0.7, "none", 0.35)]
    assert np.dot(DELTA_WEIGHTS, np.ones(7)) == pytest.approx(1.0)
    perp = SpanScan(0.15, 0.25).margin(margin_book(1, perps=1.0), Market(2000.0, 2000.0))
    assert perp.maintenance[0] == pytest.approx(0.15 * 2000)


LEGS = st.tuples(
    st.sampled_from([1, -1]), st.sampled_from([1500.0, 2000.0, 2600.0]), st.sampled_from([0.5, 20.0, 200.0]),
    st.floats(-5, 5), st.floats(0.2, 1.5),
)  # fmt: skip
MODEL = SpanScan(
    0.12, 0.3, tier_ends_s=(30 * 86_400.0,), short_minimum_frac=0.01, initial_factor=1.1,
    calendar=(CalendarSpread(0, 1, 40.0), CalendarSpread(0, 0, 10.0), CalendarSpread(1, 1, 25.0)),
)  # fmt: skip


def black(sign: int, forward: float, strike: float, days: float, vol: float) -> tuple[float, float]:
    """(price, delta) by hand."""
    if days <= 0.0:
        return max(sign * (forward - strike), 0.0), 0.0
    total = vol * math.sqrt(days / 365.0)
    d1 = math.log(forward / strike) / total + total / 2.0
    n1, n2 = (0.5 * math.erfc(-sign * d / math.sqrt(2.0)) for d in (d1, d1 - total))
    return sign * (forward * n1 - strike * n2), sign * n1


@settings(max_examples=60)
@given(st.lists(LEGS, max_size=7), st.floats(-3, 3))
def test_the_whole_requirement_in_plain_python(legs: list[tuple], perps: float) -> None:
    book = margin_book(
        1,
        account=np.zeros(len(legs), int),
        kind=np.array([leg[0] for leg in legs], int),
        K=[leg[1] for leg in legs],
        seconds=[leg[2] * 86_400.0 for leg in legs],
        forward_variable=2050.0 if legs else (),
        amount=[leg[3] for leg in legs],
        sigma=[leg[4] for leg in legs],
        perps=perps,
    )
    found = MODEL.margin(book, Market(2000.0, 2010.0))
    worst = 0.0
    for move, way, counted in [
        *((m * 0.12, w, 1.0) for m in PRICE_MOVES for w in (0.3, -0.3)), (0.24, 0.0, 0.35), (-0.24, 0.0, 0.35),
    ]:  # fmt: skip
        profit = perps * 2010.0 * move
        for sign, strike, days, amount, vol in legs:
            after = black(sign, 2050.0 * (1 + move), strike, days - 1.0, vol * (1 + way))[0]
            profit += amount * (after - black(sign, 2050.0, strike, days, vol)[0])
        worst = max(worst, -profit * counted)
    expiries: dict[float, float] = {}
    for sign, strike, days, amount, vol in legs:
        delta = sum(
            weight * black(sign, 2050.0 * (1 + m * 0.12), strike, days, vol)[1]
            for m, weight in zip(PRICE_MOVES, DELTA_WEIGHTS, strict=True)
        )
        expiries[days] = expiries.get(days, 0.0) + amount * delta
    near = [perps, *(d for days, d in expiries.items() if days <= 30.0)]
    far = [d for days, d in expiries.items() if days > 30.0]
    long, short = ([sum(max(side * d, 0.0) for d in tier) for tier in (near, far)] for side in (1.0, -1.0))
    between = min(long[0], short[1]) + min(long[1], short[0])
    cost = 40.0 * between
    for tier, rate in ((0, 10.0), (1, 25.0)):
        other = 1 - tier
        cost += rate * min(long[tier] - min(long[tier], short[other]), short[tier] - min(short[tier], long[other]))
    sold = [sum(max(-leg[3], 0.0) for leg in legs if leg[0] == sign) for sign in (1, -1)]
    asked = max(worst + cost, 20.0 * max(sold))
    assert found.maintenance[0] == pytest.approx(asked, rel=1e-9, abs=1e-7)
    assert found.initial[0] == pytest.approx(1.1 * asked, rel=1e-9, abs=1e-7)


def book_of_two(amount: float) -> MarginBook:
    """Accounts long a near call and short a far one, in turn."""
    return margin_book(
        2, account=[0, 0, 1, 1], kind="c", K=2000.0, seconds=[8e5, 8e6, 8e5, 8e6], forward_variable=2000.0,
        amount=[amount, -amount, -amount, amount], sigma=0.6,
    )  # fmt: skip


def test_options_on_two_underlyings_earn_credits_through_the_same_book() -> None:
    """Long calls here against short calls there: `risk` of the model feeds the credits."""
    model, market = SpanScan(0.1, 0.2), Market(2000.0)
    pair = {"account": [0], "kind": "c", "K": 2000.0, "seconds": 8e6, "forward_variable": 2000.0, "sigma": 0.6}
    risks = [model.risk(margin_book(1, amount=a, **pair), market) for a in (3.0, -3.0)]
    products = {name: (risk, charge(risk)) for name, risk in zip("ab", risks, strict=True)}
    found = with_credits(products, [ProductSpread((("a", 1.0), ("b", -1.0)), 0.8)])
    for name, (risk, before) in products.items():
        assert found[name].credit[0] == pytest.approx(0.8 * abs((risk.long - risk.short).sum()) * price_risk(risk)[0])
        assert 0.0 < found[name].credit[0] < 0.8 * before.scan[0]
    flat = SpanScan(0.1, 0.2).margin(book_of_two(1.0), market)
    dear = SpanScan(0.1, 0.2, tier_ends_s=(1e6,), calendar=(CalendarSpread(0, 1, 30.0),)).margin(
        book_of_two(1.0), market
    )
    assert np.all(dear.maintenance > flat.maintenance + 10.0)


def test_bad_input() -> None:
    good = of([1.0], [future(1.0)])
    products = {"a": (good, charge(good))}
    wide = risk_of_arrays(2, [0], [1.0], [future(1.0)], 1.0)
    for call, message in (
        (lambda: of([1.0], [[0.0] * 15]), "risk arrays do not fit"),
        (lambda: of([1.0, np.nan], [future(1.0)] * 2), r"quantity\[1\]"),
        (lambda: of([1.0], [[*future(1.0)[:15], np.nan]]), r"arrays_usd\[0, 15\]"),
        (lambda: risk_of_arrays(1, [1], [1.0], [future(1.0)], 1.0), r"account\[0\]"),
        (lambda: of([1.0], [future(1.0)], kind=["x"]), r"kind\[0\]"),
        (lambda: of([1.0], [future(1.0)], delta=[1.0, 1.0]), "pair with account"),
        (lambda: of([1.0, 1.0], [future(1.0)] * 2, tier=[0, 0.5]), r"tier\[1\]"),
        (lambda: charge(good, [CalendarSpread(0, 1, 1.0)]), r"calendar spread \[0\]"),
        (lambda: charge(good, short_minimum_usd=np.nan), "short_minimum_usd"),
        (lambda: with_credits(products, [ProductSpread((("a", 1.0), ("b", -1.0)), 0.5)]), r"product spread \[0\]"),
        (lambda: with_credits(products, [ProductSpread((("a", 1.0),), 0.5)]), r"product spread \[0\]"),
        (lambda: with_credits(products | {"b": (wide, charge(wide))}, []), "products do not pair"),
        (lambda: SpanScan(1.2, 0.2).margin(margin_book(1), Market(1.0)), r"scenario \[12\]"),
        (lambda: SpanScan(0.1, np.nan).margin(margin_book(1), Market(1.0)), "vol_range_frac"),
        (lambda: SpanScan(0.1, 0.2, tier_ends_s=(5.0, 4.0)).margin(margin_book(1), Market(1.0)), r"tier_ends_s\[1\]"),
    ):
        with pytest.raises(DomainError, match=message):
            call()
