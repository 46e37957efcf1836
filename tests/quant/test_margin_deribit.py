"""Deribit's margins: rules per contract, two accounts as the venue answered, and the model in plain Python."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest

from aggregator.core.errors import DomainError
from aggregator.quant import black
from aggregator.quant.margin import Market, margin_book
from aggregator.quant.margin_deribit import DeribitPortfolio, DeribitStandard, short_option_margin

# Deribit standard margin of one short option in BTC (rules as copied at doc.tslab.pro), index 50000:
# K, mark, kind, initial, maintenance
DERIBIT = [
    (50000, 0.05, 1, 0.2, 0.125),
    (55000, 0.02, 1, 0.12, 0.095),
    (70000, 0.004, 1, 0.104, 0.079),
    (45000, 0.03, -1, 0.13, 0.105),
    (30000, 0.002, -1, 0.102, 0.077),
]


def test_deribit_standard_margin_of_one_short() -> None:
    K, mark, kind, initial, maintenance = np.array(DERIBIT).T
    found = short_option_margin(kind.astype(np.int8), 50_000.0, K, mark)
    assert found[0] == pytest.approx(initial, rel=1e-12)
    assert found[1] == pytest.approx(maintenance, rel=1e-12)


def test_deribit_standard_book_in_coin() -> None:
    model = DeribitStandard(perp_initial_frac=0.02, perp_maintenance_frac=0.01, perp_slope_per_coin=0.00005)
    book = margin_book(
        2,
        account=[0, 0],
        kind=["c", "p"],
        K=[55_000.0, 45_000.0],
        seconds=30 * 86_400,
        forward_variable=50_000.0,
        amount=[-3.0, 5.0],
        sigma=0.6,
        cash=[1.0, 2.0],
        perps=[0.0, -10.0],
    )
    found = model.margin(book, Market(50_000.0))
    mark = float(black.black76_price("c", 50_000, 55_000, 30 / 365, 0.6)) / 50_000
    assert found.initial[0] == pytest.approx(3 * (0.1 + mark))
    assert found.maintenance[0] == pytest.approx(3 * (0.075 + mark))
    assert found.initial[1] == pytest.approx(10 * (0.02 + 0.0005))
    assert list(found.equity) == [1.0, 2.0]


# Answers of private/pme/simulate.  The example of docs.deribit.com (BTC, 2024-06-17T10:22:20.501Z; long perp against a
# short future of 28 June 08:00): outcomes of the perp by price move, then of the future; and an answer of the venue to
# one short ETH perp, 2026-02-15, in a public log.  The venue rounds positions, worst case and shocks to nine decimals.
BTC_PERP = [-0.05991206933333334, -0.04289159509090909, -0.027351162086956524, -0.013105765166666668, 0.0,
            0.012097629384615385, 0.023299138074074074, 0.033700538999999995, 0.043384601931034494]  # fmt: skip
BTC_FUTURE = [0.0002261969523809524, 0.00016193645454545456, 0.00010326382608695652, 0.00004948058333333334, 0.0,
              -0.00004567438461538462, -0.00008796548148148148, -0.0001272357857142857,
              -0.00016379779310344832]  # fmt: skip
ETH_PERP = [0.21939959699999997, 0.155989308849711, 0.09885036787912087, 0.04709624857068063, 0.0,
            -0.04304011233014354, -0.08252645391743119, -0.11888171996035243, -0.15246412672881357]  # fmt: skip
ETH = DeribitPortfolio(
    price_range_frac=0.18, vol_up=0.40, dampener_usd=200_000.0, min_move_frac=0.005, annual_move_frac=0.05,
    delta_increment_per_coin=4e-6,
)  # fmt: skip


def test_portfolio_margin_of_the_documented_account() -> None:
    """Perp and dated future; the latter is short a call and long a put of one strike."""
    seconds = 1_719_561_600 - 1_718_619_740.501
    book = margin_book(
        1,
        account=[0, 0],
        kind=["c", "p"],
        K=67_371.75,
        seconds=seconds,
        forward_variable=67_371.75,
        amount=[-0.001187534, 0.001187534],
        sigma=0.6,
        perps=0.314538364,
    )
    found = DeribitPortfolio().margin(book, Market(65_666.19))
    roll, delta = DeribitPortfolio().shocks(book, 65_666.19)
    assert roll[0] == pytest.approx(0.00315725898, abs=1e-12)
    assert delta[0] == 0.0
    assert found.initial[0] == pytest.approx(0.06284313098, abs=1e-9)
    assert found.maintenance[0] == pytest.approx(0.050274504784, abs=1e-9)
    assert found.initial[0] - roll[0] == pytest.approx(0.05968587238095239, abs=1e-14)
    assert found.worst_scenario[0] // 3 == 0  # bucket 1, left, of the standard table


@pytest.mark.parametrize(
    ("model", "index", "position", "expected"),
    [(DeribitPortfolio(), 65_666.19, 0.314538364, BTC_PERP), (ETH, 1949.34, -0.999487053, ETH_PERP)],
)
def test_every_outcome_of_the_published_risk_vectors(
    model: DeribitPortfolio, index: float, position: float, expected: list[float]
) -> None:
    """Standard table by price move, equal at each volatility; extended, before damping, the ends of the range."""
    found = np.array([position * (1.0 - 1.0 / s.spot) * s.damping for s in model.scenarios()])
    assert found[:27] == pytest.approx(np.repeat(expected, 3), abs=1e-15)
    assert found[27:] == pytest.approx([expected[0]] * 2 + [expected[-1]] * 6, abs=1e-15)
    assert not model.damped(found[None, 27:], index).any()  # as published: the dampener takes all of so small a book


def test_the_documented_future_moves_like_its_synthetic() -> None:
    pair = {"account": [0, 0], "kind": ["c", "p"], "K": 67_371.75, "seconds": 941_859.5, "forward_variable": 67_371.75}
    book = margin_book(1, amount=[-0.001187534, 0.001187534], sigma=0.6, **pair)
    quiet = DeribitPortfolio(min_move_frac=0.0, annual_move_frac=0.0)
    assert quiet.margin(book, Market(65_666.19)).initial[0] == pytest.approx(-BTC_FUTURE[-1], abs=1e-15)


def test_portfolio_margin_of_the_recorded_account() -> None:
    found = ETH.margin(margin_book(1, perps=-0.999487053), Market(1949.34))
    assert found.initial[0] == pytest.approx(0.157461562265, abs=1e-9)
    assert found.maintenance[0] == pytest.approx(0.125969249812, abs=1e-9)
    assert found.worst_scenario[0] // 3 == 8  # bucket 9, right


class Leg(NamedTuple):
    sign: int
    strike: float
    days: float
    forward: float
    amount: float
    vol: float


def dollars(leg: Leg, forward: float, vol: float) -> float:
    """Black-76 by hand."""
    total = vol * math.sqrt(leg.days / 365.0)
    d1 = math.log(forward / leg.strike) / total + total / 2.0
    n1, n2 = (0.5 * math.erfc(-leg.sign * d / math.sqrt(2.0)) for d in (d1, d1 - total))
    return leg.sign * (forward * n1 - leg.strike * n2)


def by_hand(legs: list[Leg], perps: float, index: float, model: DeribitPortfolio) -> tuple[float, float, float]:
    """(worst loss, roll shock, delta shock) in coin: every scenario in dollars, then at the shocked price in coin."""

    def profit(move: float, way: int) -> float:
        usd = perps * index * move
        for leg in legs:
            reach = (30.0 / max(leg.days, 1.0)) ** (0.30 if leg.days <= 30.0 else 0.13)
            vol = leg.vol
            if way > 0:
                vol = max(vol * (1.0 + model.vol_up * reach), model.least_vol_up)
            elif way < 0:
                vol = max(vol * (1.0 - model.vol_down * reach), 1e-9)
            # the premium was coin: it is carried to the shocked price before it is compared
            carried = dollars(leg, leg.forward, leg.vol) * (1.0 + move)
            usd += leg.amount * (dollars(leg, leg.forward * (1.0 + move), vol) - carried) * index / leg.forward
        return usd

    worst, r = 0.0, model.price_range_frac
    for step in range(-4, 5):
        for way in (1, 0, -1):
            worst = min(worst, profit(r * step / 4, way) / (index * (1.0 + r * step / 4)))
    for move in (-0.66, -0.33, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0):
        usd = profit(move, 1) * r / abs(move)
        usd = math.copysign(max(abs(usd) - model.dampener_usd * (abs(move) / r - 1.0), 0.0), usd)
        worst = min(worst, usd / (index * (1.0 + math.copysign(r, move))))
    roll, longs, rest = 0.01 * abs(perps), 0.0, perps
    expiries: dict[float, float] = {}
    for leg in legs:
        up, down = (dollars(leg, leg.forward * x, leg.vol) / (leg.forward * x) for x in (1.00001, 0.99999))
        delta = leg.amount * (up - down) / 0.00002
        expiries[leg.days] = expiries.get(leg.days, 0.0) + delta
        if leg.amount > 0.0:
            longs += delta
        else:
            rest += delta
    for days, delta in expiries.items():
        roll += abs(delta) * max(0.01, math.exp(0.075 * days / 365.0) - 1.0)
    open_delta = min(max(longs + rest, rest), 0.0) if rest < 0.0 else max(min(longs + rest, rest), 0.0)
    over = max(abs(open_delta) - model.delta_threshold_usd / index, 0.0)
    return -worst, roll, abs(open_delta) * min(model.max_delta_shock_frac, model.delta_increment_per_coin * over)


def scattered(seed: int, scale: float) -> tuple[list[Leg], float]:
    rng = np.random.default_rng(seed)
    legs = []
    for _ in range(12):
        days = float(rng.choice([0.5, 7.0, 30.0, 180.0]))
        forward = 60_000.0 * math.exp(0.08 * days / 365.0)
        strike = forward * float(rng.choice([0.4, 0.9, 1.0, 1.2, 2.0, 4.0]))
        legs.append(Leg(int(rng.choice([1, -1])), strike, days, forward, scale * float(rng.normal()), 0.7))
    return legs, scale * float(rng.normal())


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("scale", [1.0, 300.0, 3000.0])
def test_portfolio_margin_is_that_of_plain_python(seed: int, scale: float) -> None:
    """Small books lose all extended scenarios to the dampener, large ones do not, and add delta shocks."""
    legs, perps = scattered(seed, scale)
    model = DeribitPortfolio()
    columns = np.array(legs).T
    book = margin_book(
        1,
        account=np.zeros(len(legs), int),
        kind=columns[0].astype(int),
        K=columns[1],
        seconds=columns[2] * 86_400.0,
        forward_variable=columns[3],
        amount=columns[4],
        sigma=columns[5],
        perps=perps,
    )
    worst, roll, delta = by_hand(legs, perps, 60_000.0, model)
    found = model.margin(book, Market(60_000.0))
    assert [x[0] for x in model.shocks(book, 60_000.0)] == pytest.approx([roll, delta], rel=1e-6, abs=1e-9)
    assert found.initial[0] == pytest.approx(worst + roll + delta, rel=1e-8)
    assert found.maintenance[0] == pytest.approx(0.8 * found.initial[0])


def test_the_extended_table_and_the_delta_shock_bite_only_on_large_books() -> None:
    """2,000 calls at four times the price: harmless in the range, not at +500 %; 1,000 short perps: 695 over 304.6."""
    far = {"kind": "c", "K": 240_000.0, "seconds": 30 * 86_400, "forward_variable": 60_000.0, "sigma": 0.7}
    for sold, extended in ((1.0, False), (2000.0, True)):
        worst = DeribitPortfolio().margin(margin_book(1, account=[0], amount=-sold, **far), Market(60_000.0))
        assert bool(worst.worst_scenario[0] >= 27) == extended
    _, delta = DeribitPortfolio().shocks(margin_book(3, perps=[-1000.0, 300.0, 9000.0]), 65_666.19)
    over = 1000.0 - 20_000_000.0 / 65_666.19
    assert delta == pytest.approx([1000.0 * 0.00005 * over, 0.0, 9000.0 * 0.10])


def test_long_options_hedge_a_delta_shock_but_never_cause_one() -> None:
    deep = {"account": [0], "kind": "c", "K": 1.0, "seconds": 86_400.0, "forward_variable": 60_000.0, "sigma": 0.5}
    model = DeribitPortfolio(delta_threshold_usd=0.0)
    alone = model.shocks(margin_book(1, amount=50.0, **deep), 60_000.0)[1][0]
    short = model.shocks(margin_book(1, perps=-50.0), 60_000.0)[1][0]
    # a call struck at one dollar is a coin, whose delta in coin is nearly none: a put is what moves
    put = deep | {"kind": "p", "K": 120_000.0}
    hedged = model.shocks(margin_book(1, amount=10.0, perps=50.0, **put), 60_000.0)[1][0]
    assert alone == 0.0
    assert short == pytest.approx(50.0 * 0.00005 * 50.0)
    assert hedged == pytest.approx(30.0 * 0.00005 * 30.0, rel=1e-3)


def test_deltas_fade_while_the_settlement_price_is_averaged() -> None:
    """Half of the average is settled: the put in the money moves half as much, and nothing at all at the end."""
    put = {"account": [0], "kind": "p", "K": 120_000.0, "sigma": 0.5, "amount": 1.0}
    full, half, none = (
        DeribitPortfolio().shocks(margin_book(1, seconds=s, forward_fixed=f, forward_variable=v, **put), 60_000.0)[0][0]
        for s, f, v in ((1800.0, 0.0, 60_000.0), (900.0, 30_000.0, 30_000.0), (0.0, 60_000.0, 0.0))
    )
    assert full == pytest.approx(0.01 * 2.0)
    assert half == pytest.approx(full / 2.0)
    assert none == 0.0


def test_bad_parameters() -> None:
    for model, message in (
        (DeribitPortfolio(price_range_frac=1.0), "price_range_frac"),
        (DeribitPortfolio(dampener_usd=np.nan), "dampener_usd"),
        (DeribitStandard(np.nan, 0.01), "perp_initial_frac"),
    ):
        with pytest.raises(DomainError, match=message):
            model.margin(margin_book(1), Market(1.0))
