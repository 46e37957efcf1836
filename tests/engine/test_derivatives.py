"""Perps and options beside the lending book."""

from __future__ import annotations

from math import exp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.core.account import Account, Leg
from aggregator.core.errors import ScenarioError
from aggregator.core.fixed import WAD, Fixed
from aggregator.core.scenario import Scenario
from aggregator.engine.derivatives import Derivatives
from aggregator.engine.outcome import stress_result
from aggregator.quant import black
from aggregator.rules.lyra_v1 import LyraV1
from aggregator.rules.lyra_v1_arrays import Penalties, Shocks
from tests.engine.test_worlds import near
from tests.engine.worlds import World, price, run

positions = st.lists(st.tuples(st.sampled_from("BC"), st.floats(-50, 50), st.floats(60, 140)), max_size=2)
traders = st.lists(st.tuples(st.floats(0, 5000), st.floats(0.0, 0.1), positions), min_size=1, max_size=6)
rule = st.sampled_from(["", "perp_curie@1"])

FEES = Penalties(0.2, 0.3, 0.1, 100.0)
Rows = dict[str, tuple[float, float, list[tuple[str, float, float]]]]


def perps(
    marks: dict[str, float], rows: dict[str, tuple[float, float, list[tuple[str, float, float]]]], fund: float = 0.0
) -> World:
    """rows: account -> (collateral, maintenance share, [(asset, size, entry)])."""
    w = World()
    for asset, mark in marks.items():
        w.add_asset(asset, mark, cash=True)
    w.market["V"] = 0
    w.rule.append("")
    w.storefront.append(float("nan"))
    w.close.append(0.5)
    for name, (collateral, maintenance, positions) in rows.items():
        account = w.row("perp_accounts", 0, w.who(name), collateral, maintenance, 0.0)
        for asset, size, entry in positions:
            w.row("perps", account, w.asset[asset], size, -size * entry, 1.0, True)
    w.more["insurance_usd"] = ((0, fund),)
    return w


def test_32_a_bankrupt_long_is_paid_by_the_fund_and_then_by_the_winners() -> None:
    """Answer keys, case 32: shortfall 500, fund 200, 300 socialised in proportion to profit."""
    rows: Rows = {
        "L1": (1500, 0.0, [("B", 100, 100)]),
        "L2": (2000, 0.0, [("B", 50, 90)]),
        "S1": (600, 0.0, [("B", -60, 110)]),
        "S2": (4000, 0.0, [("B", -50, 95)]),
        "S3": (100, 0.0, [("B", -40, 100)]),
    }
    r = run(perps({"B": 80.0}, rows, fund=200.0))
    d = r.derivatives
    assert d.shortfall_usd.tolist() == [500, 0, 0, 0, 0]
    assert float(d.fund_paid_usd[0]) == 200
    charged = (161.19402985074626865671641791, 67.1641791044776119402985074627, 71.6417910447761194029850746269)
    assert d.charged_usd.tolist() == [0.0, 0.0, *(near(x) for x in charged)]
    after = (2238.80597014925373134328358209, 4682.83582089552238805970149254, 828.358208955223880597014925373)
    assert d.equity_usd.tolist() == [0.0, 1500.0, *(near(x) for x in after)]
    assert d.closed.tolist() == [True, False, False, False, False]
    result = stress_result(r, Scenario("s"))
    assert result.conservation["sinks_error_usd"] <= 1e-9
    layers = {x.layer: x.loss_usd for x in result.losses if x.kind == "market"}
    assert layers == {"insurance fund": near(200), "socialised to winners": near(300)}


CROSS = {"A": (20_000.0, 0.0, [("BTC", 2.0, 60_000.0), ("ETH", -30.0, 3_000.0)])}


def cross(btc: float, eth: float) -> bool:
    """Maintenance differs by market in the key (1.25 % and 2 %): expressed as a share of the joint notional."""
    notional = 2 * btc + 30 * eth
    rows: Rows = {"A": (20_000.0, (2 * btc * 0.0125 + 30 * eth * 0.02) / notional, CROSS["A"][2])}
    return bool(run(perps({"BTC": btc, "ETH": eth}, rows)).derivatives.closed[0])


@pytest.mark.parametrize(
    ("btc", "eth"),
    [
        (-0.140928270042194092827004219409, 0.0),
        (0.0, 545.75163398692810457516339869 / 3000),
        (-0.62546816479400749063670411985, -0.62546816479400749063670411985),
        (-0.0794103661436043747028055159296, 0.0794103661436043747028055159296),
    ],
)
def test_30_cross_margin_closes_at_the_published_prices(btc: float, eth: float) -> None:
    """Answer keys, case 30: one market alone, both down together, and in opposite directions."""
    for edge, closes in ((1 - 1e-9, False), (1 + 1e-9, True)):
        assert cross(60_000 * (1 + btc * edge), 3_000 * (1 + eth * edge)) == closes


def options(nav: float = 100_000.0, hedge: float = 0.0) -> World:
    w = World()
    w.add_asset("ETH", 2000.0, cash=True)
    w.market["L"] = 0
    w.rule.append("")
    w.storefront.append(float("nan"))
    w.close.append(0.5)
    eth = w.asset["ETH"]
    w.row("options", 0, w.who("long call"), eth, 0, 1, 10.0, 2000.0, 0.25, 0.6, 0.0, 0, 0.0, True)
    w.row("options", 0, w.who("short put"), eth, 0, -1, -5.0, 1800.0, 0.25, 0.7, 0.0, 0, 0.0, True)
    w.row("option_pools", 0, eth, 0, nav, hedge)
    w.row("pots", 0, 0, nav, 0.0, 0.0)
    return w.claim("LP", "USD", 1.0, "L")


def test_options_are_repriced_in_full_and_the_pool_is_the_other_side() -> None:
    """Black-Scholes at 40 digits elsewhere (quant tests); here: parity of the move, and that the sum is zero."""
    r = run(options(), price={"ETH": -0.3}, vol={"ETH": 0.2})
    d = r.derivatives
    assert float(d.pool_pnl_usd[0]) == near(-float(d.leg_pnl_usd.sum()))
    assert d.leg_pnl_usd[0] < 0.0  # the call falls
    assert d.leg_pnl_usd[1] < 0.0  # the written put costs more
    assert price(r, "LP") == 1.0  # the pool gained: its share does not rise above what it can be redeemed for
    assert r.rounds[0].option_pnl_usd == near(float(d.pool_pnl_usd[0]))


def test_put_call_parity_of_the_move() -> None:
    w = options()
    w.rows["options"] = [
        (0, 0, w.asset["ETH"], 0, 1, 1.0, 2000.0, 0.25, 0.6, 0.03, 0, 0.0, True),
        (0, 1, w.asset["ETH"], 0, -1, -1.0, 2000.0, 0.25, 0.6, 0.03, 0, 0.0, True),
    ]
    d = run(w, price={"ETH": 0.25}, vol={"ETH": 0.3}).derivatives
    assert float(d.leg_pnl_usd.sum()) == near(500.0)  # call less put is a forward


def test_a_loss_of_the_option_pool_writes_its_share_down() -> None:
    r = run(options(nav=20_000.0), price={"ETH": 0.5})
    lost = -float(r.derivatives.pool_pnl_usd[0])
    assert lost > 0.0
    assert price(r, "LP") == near(1 - lost / 20_000)
    hedged = run(options(nav=20_000.0, hedge=10.0), price={"ETH": 0.5})
    assert float(hedged.derivatives.pool_pnl_usd[0]) == near(10_000 - lost)


def test_a_vol_shock_below_zero_is_refused() -> None:
    with pytest.raises(ScenarioError, match="volatility of ETH"):
        run(options(), vol={"ETH": -0.65})


def test_no_move_no_profit() -> None:
    d = run(options()).derivatives
    assert np.abs(d.leg_pnl_usd).max() == 0.0


def short_call(margin: float) -> World:
    """One written call on 10 ETH at 2000 with quote margin; Lyra's rule with a 20 % spot shock and 150 % volatility."""
    w = options(nav=50_000.0)
    eth = w.asset["ETH"]
    w.rows["options"] = [(0, w.who("writer"), eth, 0, 1, -10.0, 2000.0, 0.25, 0.6, 0.0, 0, margin, True)]
    w.more["option_shocks"] = ((0, Shocks(0.0, 250.0, 0.1, 1.5, 0.02, 1.0, 0.2, 1.2, 0.8)),)
    return w


def test_a_short_below_its_minimum_is_bought_back_and_the_pool_bears_what_is_missing() -> None:
    safe = run(short_call(30_000.0), price={"ETH": 0.5})
    assert not safe.derivatives.bought_back[0]
    thin = run(short_call(8_000.0), price={"ETH": 0.5})
    d = thin.derivatives
    assert d.bought_back[0]
    cost = float(-safe.derivatives.leg_pnl_usd[0]) + 10 * float(d.before[0])
    assert float(d.option_shortfall_usd[0]) == near(cost - 8_000)
    assert float(d.leg_pnl_usd[0]) == near(-(8_000 - 10 * float(d.before[0])))
    assert float(d.pool_pnl_usd[0]) == near(-float(d.leg_pnl_usd[0]))
    assert not run(short_call(30_000.0)).derivatives.bought_back[0]


def test_on_a_frozen_board_a_short_is_repriced_and_never_bought_back() -> None:
    """Two shorts below their minimum, one on a frozen board: its loss is the leg's own move, whatever its margin."""
    w = short_call(8_000.0)
    (row,) = w.rows["options"]
    w.rows["options"] = [row, (*row[:-1], False)]
    d = run(w, price={"ETH": 0.5}).derivatives
    moved = float(run(short_call(30_000.0), price={"ETH": 0.5}).derivatives.leg_pnl_usd[0])
    assert d.bought_back.tolist() == [True, False]
    assert d.option_shortfall_usd.tolist() == [near(-moved + 10 * float(d.before[0]) - 8_000), 0.0]
    assert float(d.leg_pnl_usd[1]) == near(moved)


@pytest.mark.parametrize(("collateral", "left"), [(700.0, 0.5), (300.0, 0.0)])
def test_curie_takes_half_first_and_all_below_half_the_requirement(collateral: float, left: float) -> None:
    """perp_curie@1: maintenance 6.25 %, 10,000 of notional: 625 needed; equity 600 loses half, 200 everything."""
    w = perps({"B": 99.0}, {"L": (collateral, 0.0625, [("B", 100.0, 100.0)])}, fund=1e6)
    w.more["perp_rules"] = ("perp_curie@1",)
    r = run(w)
    d = r.derivatives
    assert d.closed.tolist() == [True]
    assert float(d.open_frac[0]) == near(left)
    assert d.shortfall_usd.tolist() == [0.0]
    assert float(d.equity_usd[0]) == near(collateral - 100 - float(d.penalty_usd[0]))


@settings(max_examples=150)
@given(traders, st.floats(0, 2000), st.floats(-0.6, 0.6), rule, st.floats(0, 0.05))
def test_1_and_16_perps_conserve_value_and_winners_pay_exactly_what_is_missing(
    rows: list[tuple[float, float, list[tuple[str, float, float]]]], fund: float, blow: float, name: str, penalty: float
) -> None:
    """Theorems 1 and 16 with a penalty, partial closing and a fund: every side keeps its own balance."""
    w = perps({"B": 100.0, "C": 100.0}, {f"t{i}": row for i, row in enumerate(rows)}, fund)
    w.rows["perp_accounts"] = [(*row[:4], penalty) for row in w.rows["perp_accounts"]]
    w.more["perp_rules"] = (name,)
    r = run(w, price={"B": blow})
    d = r.derivatives
    scale = 1e-12 * (1e5 + float(np.abs(d.equity_usd).sum()))
    assert r.conservation["derivatives_error_usd"] <= scale
    assert r.conservation["largest_round_error"] <= scale
    paid = float(d.fund_paid_usd.sum() + d.charged_usd.sum() + d.uncovered_usd.sum())
    assert paid == pytest.approx(float(d.shortfall_usd.sum()), abs=scale)
    gained = d.profit_usd(r.state.value_usd) + d.realised_usd + d.penalty_usd
    assert (d.charged_usd <= np.maximum(gained, 0.0) + scale).all()  # nobody pays more than he has won
    if name:  # the clearing house has no such thing, and refuses what its fund cannot pay
        assert d.charged_usd.sum() == d.uncovered_usd.sum() == 0.0
    else:
        assert not d.refused.any()
    assert (d.fund_usd >= -scale).all()


@settings(max_examples=100)
@given(st.sampled_from([-1.0]) | st.floats(-0.8, 1.5), st.floats(-0.3, 1.0), st.floats(0, 40_000), st.floats(-20, 20))
def test_1_options_conserve_value_whoever_is_bought_back(move: float, vol: float, margin: float, hedge: float) -> None:
    w = short_call(margin)
    w.more["option_fees"] = ((0, FEES),)
    w.rows["options"] += options().rows["options"][:1]
    w.rows["option_pools"] = [(0, w.asset["ETH"], 0, 50_000.0, hedge)]
    r = run(w, price={"ETH": move}, vol={"ETH": vol})
    assert r.conservation["derivatives_error_usd"] <= 1e-7
    sides = sum(r.conservation[f"option_{side}"] for side in ("holders", "pools", "fees"))
    assert sides == pytest.approx(hedge * 2000 * move, abs=1e-7)


@pytest.mark.parametrize("margin", [16_000.0, 12_100.0, 8_000.0, 50.0])
def test_a_bought_back_short_pays_the_contracts_fees_out_of_its_margin(margin: float) -> None:
    """OptionToken.getLiquidationFees through the exact rule, at the premium that the cascade pays."""
    w = short_call(margin)
    w.more["option_fees"] = ((0, FEES),)
    d = run(w, price={"ETH": 0.5}).derivatives
    assert d.bought_back[0]
    opened, premium = 10 * float(d.before[0]), 10 * float(black.price(1, 3_000, 2_000, 0.25, 0.6))
    leg = Leg(
        "ETH", "short", 10 * WAD, 10 * WAD, 18, Fixed(3_000, 0), {"strike": 2_000 * WAD, "expiry_s": 1, "is_call": 1}
    )
    held = Leg("USD", "margin", round(margin * WAD), round(margin * WAD), 18, None, {})
    terms = {"penalty_ratio": WAD // 5, "liquidator_fee_ratio": 3 * WAD // 10, "sm_fee_ratio": WAD // 10,
             "min_liquidation_fee": 100 * WAD}  # fmt: skip
    exact = LyraV1()
    account = Account("L", "writer", exact.name, (leg, held), terms, {}, 0)
    (position,) = exact.positions(account)
    said = exact.fees(account, position, round(premium * WAD))
    assert float(d.leg_pnl_usd[0]) == near(opened - (margin - said.returned / WAD))
    assert float(d.pool_pnl_usd[0]) == near((said.lp_premiums + said.lp_fee) / WAD - opened)
    assert d.fees_usd == near((said.liquidator_fee + said.sm_fee) / WAD)
    assert float(d.option_shortfall_usd[0]) == near(said.insolvent / WAD)


def test_at_a_spot_of_zero_a_put_is_its_discounted_strike_and_a_call_nothing() -> None:
    w = options(hedge=3.0)
    rate = 0.05
    w.rows["options"] = [(*row[:9], rate, *row[10:]) for row in w.rows["options"]]
    d = run(w, price={"ETH": -1.0}).derivatives
    call, put = (float(x) for x in d.before)
    assert d.leg_pnl_usd.tolist() == [near(-10 * call), near(-5 * (1_800 * exp(-rate * 0.25) - put))]
    assert float(d.pool_pnl_usd[0]) == near(-3 * 2_000 - float(d.leg_pnl_usd.sum()))


def test_a_worthless_quote_leaves_a_call_on_the_underlying() -> None:
    w = options()
    d = run(w, price={"USD": -1.0}).derivatives
    assert d.leg_pnl_usd.tolist() == [near(10 * 2_000), 0.0]
    assert float(d.pool_pnl_usd[0]) == near(-20_000)


ZERO: Rows = {"L": (700.0, 0.0625, [("B", 100.0, 100.0)]), "S": (700.0, 0.0625, [("B", -100.0, 100.0)])}


def test_perps_at_a_price_of_zero_are_closed_and_what_is_missing_is_booked() -> None:
    r = run(perps({"B": 99.0}, ZERO, fund=5.0), price={"B": -1.0})
    d = r.derivatives
    assert d.shortfall_usd.tolist() == [near(100 * 100 - 700), 0.0]
    assert float(d.fund_paid_usd[0]) == 5.0
    assert d.charged_usd.tolist() == [0.0, near(9_295)]
    assert r.conservation["largest_round_error"] <= 1e-9


@pytest.mark.parametrize(("fund", "closed"), [(9_300.0, True), (9_299.0, False)])
def test_curie_at_a_price_of_zero_closes_only_what_its_fund_can_cover(fund: float, closed: bool) -> None:
    w = perps({"B": 99.0}, ZERO, fund=fund)
    w.more["perp_rules"] = ("perp_curie@1",)
    d = run(w, price={"B": -1.0}).derivatives
    assert d.closed.tolist() == [closed, False]
    assert d.refused.tolist() == [not closed, False]
    assert float(d.fund_paid_usd[0]) == (9_300.0 if closed else 0.0)


@pytest.mark.parametrize("name", ["", "perp_curie@1"])
def test_a_halted_market_keeps_its_mark_and_closes_nobody(name: str) -> None:
    """L is long in both; only C trades on, so only C is closed, at its new mark."""
    rows: Rows = {"L": (700.0, 0.0625, [("B", 100.0, 100.0), ("C", 10.0, 100.0)])}
    w = perps({"B": 99.0, "C": 99.0}, rows, fund=1e5)
    w.rows["perps"] = [(*row[:5], row[1] != w.asset["B"]) for row in w.rows["perps"]]
    w.more["perp_rules"] = (name,)
    r = run(w, price={"B": -0.5, "C": -0.5})
    d = r.derivatives
    assert d.open_frac.tolist() == [1.0, 0.0]
    assert float(d.equity_usd[0]) == near(700 - 100 - 10 * 50.5)
    assert (d.shortfall_usd.sum(), d.bankrupt.any()) == (0.0, False)
    assert r.conservation["largest_round_error"] <= 1e-9


def test_curies_fund_pays_in_order_and_then_refuses() -> None:
    rows: Rows = {name: (700.0, 0.0625, [("B", 100.0, 100.0)]) for name in ("L1", "L2", "L3")}
    w = perps({"B": 99.0}, rows, fund=2 * 1_300.0)
    w.more["perp_rules"] = ("perp_curie@1",)
    r = run(w, price={"B": 80 / 99 - 1})
    d = r.derivatives
    assert d.shortfall_usd.tolist() == [near(1_300), near(1_300), 0.0]
    assert (d.closed.tolist(), d.refused.tolist()) == ([True, True, False], [False, False, True])
    result = stress_result(r, Scenario("s"))
    assert result.totals["perp_unrealised_shortfall_usd"] == near(1_300)
    assert result.conservation["sinks_error_usd"] <= 1e-9


def test_a_leak_is_seen_in_the_round_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fund that pays more than is missing: the check is of balances, so it does not follow the flows."""
    rows: Rows = {"L": (100, 0.0, [("B", 10, 200)]), "S": (5000, 0.0, [("B", -10, 200)])}
    cover = Derivatives._cover
    monkeypatch.setattr(Derivatives, "_cover", lambda self, lacking, value: cover(self, lacking * 0.9, value))
    r = run(perps({"B": 100.0}, rows, fund=50.0))
    assert r.rounds[0].conservation_error_usd == near(0.1 * 900)
