"""Other worlds of the shared answer keys whose conventions the engine has: 01, 07, 11, 12, 21, 26, 27, 37.

Tolerance 1e-9 relative, counts exact.
"""

from __future__ import annotations

from math import inf, sqrt

import pytest

from tests.engine.test_worlds import LIF86, near
from tests.engine.worlds import World, by_name, conventions, left, made, price, run

COMET_LADDER = ((20, 17170), (22, 18139), (24, 18972), (25, 18806.25), (18, 12928.5), (40, 27200), (60, 33150))


@pytest.mark.parametrize("capacity", [0, 1])
@pytest.mark.parametrize("rounds", ["batch", "sequential"])
def test_01_each_absorption_triggers_exactly_the_next(rounds: str, capacity: int) -> None:
    w = World().pool("P", "X", 1000, 1_000_000).lending("M", "comet@1", "X", 0.85, 0.05, storefront=0.5)
    for i, (collateral, debt) in enumerate(COMET_LADDER, 1):
        w.account(f"a{i}", "M", X=collateral, USD=debt)
    r = run(w, conventions(rounds, capacity=capacity))
    assert price(r) == near(813.086794576060610742014877862)
    assert r.state.first_round.tolist() == [1, 2, 3, 4, 5, 0, 0]
    assert r.state.credit_usd == near(95353.9619495475551516602411262)


@pytest.mark.parametrize(
    ("collateral", "critical"),
    [
        (20, 940.445968279930413340972729682),
        (25, 949.632857275566478746774706277),
        (28, 955.209753672641782387864567615),
        (30, 958.955022008306458430065339655),
        (30.5, 959.894780836412680769830463351),
        (31, 960.0),
        (35, 960.0),
    ],
)
def test_07_when_one_liquidation_triggers_the_next(collateral: float, critical: float) -> None:
    for price_after in (959.999, 950, 930, 905, 890, critical * (1 - 1e-9)):
        w = World().pool("P", "X", 1000, 1_000_000).lending("M", "comet@1", "X", 0.85, 0.05, storefront=0.5)
        w.account("a1", "M", X=collateral, USD=collateral * 0.85 * 960).account("a2", "M", X=25, USD=19231.25)
        r = run(w, price={"X": price_after / 1000 - 1})
        assert int(r.state.calls.sum()) == (2 if price_after < critical else 1), price_after


def capacity_world() -> World:
    w = World().pool("P", "X", 1000, 1_000_000).lending("M", "morpho_blue@1", "X", 0.86, LIF86, supply=500_000)
    for i in range(1, 11):
        w.account(f"c{i:02}", "M", X=10, USD=10_000)
    return w


@pytest.mark.parametrize("profit", [False, True])
def test_11_capacity_of_three_accounts(profit: bool) -> None:
    r = run(capacity_world(), conventions("batch", profit, 3))
    assert price(r) == near(826.446280991735537190082644628)
    assert [x.liquidations for x in made(r)] == [3, 3, 3, 1]
    assert r.bad_debt_usd == near(10528.0015499929983734745875594)
    assert by_name(r, r.state.bad_usd)["c10"] == near(1936.70566450635467896604662907)
    assert r.conservation["liquidators"] == near(1437.09245908390746438367846852)


def test_11_uncapped_without_a_profit_test() -> None:
    r = run(capacity_world())
    assert price(r) == near(826.446280991735537190082644628)
    assert r.bad_debt_usd == near(4199.9999999999999407956)
    assert r.liquidation_rounds == 1
    assert r.conservation["liquidators"] == near(-4890.90909090909096829530909091)  # they lose, and the engine says so


def test_11_uncapped_with_a_profit_test_nobody_loses() -> None:
    r = run(capacity_world(), conventions(profit=True))
    assert r.conservation["liquidators"] >= -1e-6
    # all sales of a round share one walk: they enter until the average price pays no more, which is at bonus * reserve
    assert r.rounds[0].liquidated_usd == near(1000 * LIF86 * 1000)


@pytest.mark.parametrize("rounds", ["batch", "sequential"])
@pytest.mark.parametrize("rule", ["aave_v3@3.0", "aave_v3@3.6"])
def test_12_nobody_acts_against_a_hard_coded_oracle_above_market(rule: str, rounds: str) -> None:
    w = World().pool("P", "X", 10_000, 940_000)
    w.lending("M", rule, "X", 0.9, 0.05, path="constant", level=100.0)
    for name, collateral, debt in (("h1", 100, 9200), ("h2", 50, 4900), ("h3", 80, 6500), ("h4", 10, 1010)):
        w.account(name, "M", X=collateral, USD=debt)
    r = run(w, conventions(rounds, profit=True))
    assert int(r.state.calls.sum()) == 0
    assert price(r) == 94
    assert r.bad_debt_usd == 0.0
    assert by_name(r, r.state.shortfall_usd()) == {"h1": 0.0, "h2": near(200), "h3": 0.0, "h4": near(70)}
    assert [r.book.holders[r.book.account_holder[a]] for a in sorted(r.unprofitable.tolist())] == ["h1", "h2", "h4"]


def test_21_a_liquidity_share_falls_with_the_root_of_the_price() -> None:
    w = World()
    w.add_asset("X", 2500.0, cash=True)
    w.add_asset("LP")
    w.row("lps", w.asset["LP"], w.asset["X"], 0, sqrt(2000 * 5e6) / 100_000, 0.0, inf)
    w.claim("W", "LP", 0.006).claim("W", "USD", 0.4)
    w.lending("M", "morpho_blue@1", "W", 0.86, LIF86, supply=1_000_000)
    for name, debt in (("w1", 76_000), ("w2", 75_000), ("w3", 88_500)):
        w.account(name, "M", W=100_000, USD=debt)
    before = run(w)
    assert price(before, "LP") == near(100)
    assert price(before, "W") == near(1)
    r = run(w, price={"X": -0.36})
    assert price(r, "LP") == near(80)
    assert price(r, "W") == near(0.88)  # the mix before the blow would say 0.892
    assert by_name(r, r.state.calls) == {"w1": 1, "w2": 0, "w3": 1}
    assert by_name(r, r.state.bad_usd)["w3"] == near(4195.999999999999947900128)


def test_26_a_constant_oracle_hides_the_loss() -> None:
    w = World()
    w.add_asset("S", 0.897, cash=True)
    w.lending("M", "morpho_blue@1", "S", 0.95, 0.01, path="constant", level=1.0, supply=20_000)
    for name, collateral, debt in (
        ("d1", 1000, 880),
        ("d2", 5000, 4600),
        ("d3", 250, 236),
        ("d4", 800, 500),
        ("d5", 12000, 11350),
    ):
        w.account(name, "M", S=collateral, USD=debt)
    r = run(w)
    assert int(r.state.calls.sum()) == 0
    assert r.bad_debt_usd == 0.0
    assert r.shortfall_usd == near(712.75)
    assert by_name(r, r.state.shortfall_usd()) == {
        "d1": 0.0,
        "d2": near(115),
        "d3": near(11.75),
        "d4": 0.0,
        "d5": near(586),
    }
    assert float(run(w, mark_loans=True).state.lost_frac[0]) == near(0.0356375)


def lagged(path: str) -> World:
    w = World().pool("P", "X", 1000, 1_000_000)
    w.lending("M", "morpho_blue@1", "X", 0.86, LIF86, path=path, before=1080.0, supply=200_000)
    rows = ((40, 36120), (38, 31046), (42, 32508), (35, 25585), (60, 36120))
    for i, (collateral, debt) in enumerate(rows, 1):
        w.account(f"l{i}", "M", X=collateral, USD=debt)
    return w


@pytest.mark.parametrize("profit", [False, True])
def test_27_a_lagged_oracle_makes_silent_rounds_inside_the_cascade(profit: bool) -> None:
    r = run(lagged("lagged"), conventions(profit=profit))
    assert [x.liquidations for x in r.rounds] == [0, 1, 0, 1, 0, 1, 0, 1, 0, 0]
    assert price(r) == near(763.238887673061007368140794033)
    assert r.bad_debt_usd == 0.0
    seized = {"l1": 37.70354906054279747148, "l2": 34.8968919059310520275895645281,
              "l3": 39.0391797676363275102809566911, "l4": 33.0025841417355381521856895794}  # fmt: skip
    kept, full = left(r, debt=False), {"l1": 40, "l2": 38, "l3": 42, "l4": 35}
    assert {k: full[k] - kept[k] for k in full} == {k: near(v) for k, v in seized.items()}
    live = run(lagged("live"), conventions(profit=profit))
    assert [x.liquidations for x in live.rounds] == [1, 1, 1, 1, 0]
    assert price(live) == pytest.approx(price(r), rel=1e-12)


LADDER_37 = ((35, 2290), (80, 2075), (60, 1985), (90, 1930), (50, 1860), (120, 1780))
AAVE_37 = (0.86, 0.05, 1897.34807737539745887081160683, 2262.33333333333333333333333333,
           160.170638882345830188614385883, 4, 1897.0701659976111253583599457,
           1890.87915851700202093167076052)  # fmt: skip
CASES_37 = {
    "comet@1": (0.85, 0.05, 1805.45133462347876619969420168, 1627.5, 315, 5, 1805.45133462347876619969420168,
                1805.45133462347876619969420168),
    "morpho_blue@1": (0.86, LIF86, 1819.24882168241616046309571639, 1868.99999999999995855692,
                      291.007414858718181684671680699, 5, 1817.85038709672928073057510968,
                      1816.99130778300151546911452094),
    "aave_v3@3.0": AAVE_37,
    "aave_v3@3.6": AAVE_37,
}  # fmt: skip


def ladder_37(rule: str, order: tuple[int, ...], parts: int) -> World:
    threshold, bonus = CASES_37[rule][:2]
    w = World().pool("P", "X", 6000, 12_000_000).lending("M", rule, "X", threshold, bonus, storefront=0.5)
    for i in order:
        collateral, trigger = LADDER_37[i]
        for part in range(parts):
            w.account(f"p{i + 1}.{part}", "M", X=collateral / parts, USD=collateral * threshold * trigger / parts)
    return w


@pytest.mark.parametrize("rule", list(CASES_37))
@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4, 5), (5, 3, 1, 0, 2, 4)])
@pytest.mark.parametrize("parts", [1, 2])
def test_37_order_and_halves_change_no_total_in_batch_rounds(rule: str, order: tuple[int, ...], parts: int) -> None:
    _, _, final, bad, seized, accounts, one_by_one, one_by_one_split = CASES_37[rule]
    r = run(ladder_37(rule, order, parts))
    assert price(r) == near(final)
    assert r.bad_debt_usd == near(bad)
    assert float(r.state.depth.sold[1]) == near(seized)
    assert int((r.state.calls > 0).sum()) == accounts * parts
    s = run(ladder_37(rule, order, parts), conventions("sequential"))
    assert price(s) == near(one_by_one if parts == 1 else one_by_one_split)


def test_37_the_full_close_threshold_breaks_split_invariance_on_purpose() -> None:
    def world(parts: int) -> World:
        w = World()
        w.add_asset("X", 100.0, cash=True)  # a half has 1650 of collateral and 1500 of debt
        w.lending("M", "aave_v3@3.6", "X", 0.9, 0.05)
        for part in range(parts):
            w.account(f"p{part}", "M", X=33 / parts, USD=3000 / parts)
        return w

    whole, halves = run(world(1), conventions(max_rounds=1)), run(world(2), conventions(max_rounds=1))
    assert float(whole.state.repaid_usd.sum()) == near(1500)
    assert left(whole, debt=False)["p0"] == near(17.25)
    assert halves.state.repaid_usd.tolist() == [near(1500), near(1500)]
    assert left(halves, debt=False) == {"p0": near(0.75), "p1": near(0.75)}
