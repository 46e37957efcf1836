"""The six worlds that bind every engine, in batch and sequential rounds.

Source: shared answer keys of the joint cascade (two programs written apart agree to 40 digits), cases 03, 04, 09, 14,
17, 19; tolerance 1e-9 relative, counts exact.
"""

from __future__ import annotations

import pytest

from tests.engine.worlds import World, by_name, conventions, left, made, price, run

REL = 1e-9
LIF86 = 0.043841336116910229


def near(value: float) -> object:
    return pytest.approx(value, rel=REL, abs=1e-9)


def morpho_ladder() -> World:
    w = World().pool("P", "X", 5000, 10_000_000)
    w.lending("M", "morpho_blue@1", "X", 0.86, LIF86, supply=2_000_000)
    rows = ((40, 80152), (100, 169592), (110, 180213), (120, 189372), (90, 136611), (150, 219945), (200, 258000))
    for i, (collateral, debt) in enumerate(rows, 1):
        w.account(f"m{i}", "M", X=collateral, USD=debt)
    return w


@pytest.mark.parametrize("rounds", ["batch", "sequential"])
@pytest.mark.parametrize("profit", [False, True])
def test_03_morpho_ladder(rounds: str, profit: bool) -> None:
    r = run(morpho_ladder(), conventions(rounds, profit))
    assert price(r) == near(1621.44473356789433470082945115)
    assert r.liquidation_rounds == 6
    assert r.state.calls.tolist() == [1, 1, 1, 1, 1, 1, 0]
    assert r.state.first_round.tolist() == [1, 2, 3, 4, 5, 6, 0]
    assert sum(x.repaid_usd for x in r.rounds) == near(972373.00000000000004736352)
    assert float(r.state.depth.sold[1]) == near(553.079958910006934365027824169)
    assert r.bad_debt_usd == near(3511.99999999999995263648)
    ends = (1968.37994457042076, 1899.96763565721113, 1828.69786577434463, 1755.37164557961982, 1703.12949738740856,
            1621.44473356789433)  # fmt: skip
    assert [x.prices_usd["X"] for x in made(r)] == [near(p) for p in ends]
    kept = left(r, debt=False)
    assert kept["m1"] == 0.0
    assert kept["m2"] == near(10.064548075156576255997645824)
    assert kept["m6"] == near(15.1965789891960160126492179058)
    assert kept["m7"] == 200.0
    assert left(r, debt=True)["m1"] == 0.0
    assert float(r.state.lost_frac[0]) == near(0.00175599999999999997631824)
    changes = {"borrowers": -227533.352426583728913539687437, "suppliers": -3511.99999999999995263648, "protocol": 0.0,
               "liquidators": 23614.7455439501864272776813744, "pools": -1991975.49108790037294928240275,
               "total": -2199406.09797053391538818088881,
               "units_times_price_change": -2199406.09797053391538818088881}  # fmt: skip
    assert {k: r.conservation[k] for k in changes} == {
        k: pytest.approx(v, rel=1e-9, abs=1e-6) for k, v in changes.items()
    }
    assert r.convergence.converged


def nine_identical() -> World:
    w = World().pool("P", "X", 10_000, 1_000_000).lending("M", "aave_v3@3.0", "X", 0.9, 0.05, supply=100_000)
    for i in range(1, 10):
        w.account(f"b{i}", "M", X=100, USD=9050)
    return w


@pytest.mark.parametrize("profit", [False, True])
def test_04_nine_identical_in_batches(profit: bool) -> None:
    r = run(nine_identical(), conventions("batch", profit))
    assert price(r) == near(84.167999326656005386751956906)
    assert r.liquidation_rounds == 3
    assert r.state.calls.tolist() == [3] * 9
    assert [x.prices_usd["X"] for x in made(r)] == [
        near(91.9666214007014090545526533859),
        near(87.9990238024414193368539534502),
        near(84.167999326656005386751956906),
    ]
    assert [x.repaid_usd for x in made(r)] == [near(40725), near(20362.5), near(20106.1053779288830843105754673)]
    assert float(r.state.depth.sold[1]) == near(900)
    assert r.bad_debt_usd == near(256.394622071116915689424532676)
    assert by_name(r, r.state.bad_usd)["b5"] == near(28.4882913412352128543805036306)
    assert left(r, debt=True)["b5"] == near(28.4882913412352128543805036306)
    assert left(r, debt=False)["b5"] == 0.0
    assert r.conservation["borrowers"] == near(-8550)
    assert r.conservation["liquidators"] == near(1375.20196152065820009309425745)
    assert r.conservation["pools"] == near(-165137.61467889908256880733945)
    assert r.shortfall_usd == 0.0


@pytest.mark.parametrize("profit", [False, True])
def test_04_nine_identical_one_by_one(profit: bool) -> None:
    r = run(nine_identical(), conventions("sequential", profit))
    assert price(r) == near(84.1728974985692587749610360233)
    assert r.state.calls.tolist() == [2, 2, 2, 2, 2, 1, 1, 1, 1]
    assert r.bad_debt_usd == near(2292.94265956488364842185200771)
    assert float(r.state.repaid_usd.sum()) == near(79157.0573404351163515781479923)
    bad = (276.538710516547211980178181641, 272.468316036886011967421476055, 269.417149828887906703254114726,
           267.426483197368480253244312753, 266.538637760336464814811751392, 0.0, 145.380410630114142567762677947,
           315.120292955352593596105146114, 480.052658639390836539074347087)  # fmt: skip
    assert r.state.bad_usd.tolist() == [near(x) for x in bad]
    assert left(r, debt=False)["b6"] == near(0.317149891353179491584578867528)
    assert r.conservation["borrowers"] == near(-8523.30457470344644577982475276)
    assert r.conservation["liquidators"] == near(3385.05535045651655556673460103)


TWO_VENUES = (("a1", "MA", 20, 17170), ("b1", "MB", 22, 18139), ("a2", "MA", 24, 18972), ("b2", "MB", 25, 18806.25),
              ("a3", "MA", 18, 12928.5), ("b3", "MB", 40, 27200))  # fmt: skip


def comets(layout: str, only: str = "") -> World:
    w = World()
    for market, own in (("MA", "XA"), ("MB", "XB")):
        asset = "X" if layout == "shared" else own
        if asset not in w.asset:
            w.pool("P" + asset, asset, 1000, 1_000_000)
        w.lending(market, "comet@1", asset, 0.85, 0.05, storefront=0.5)
        for name, where, collateral, debt in TWO_VENUES:
            if where == market and only in ("", market):
                w.account(name, market, **{asset: collateral, "USD": debt})
    return w


@pytest.mark.parametrize("profit", [False, True])
@pytest.mark.parametrize("rounds", ["batch", "sequential"])
def test_09_two_venues_on_one_pool(rounds: str, profit: bool) -> None:
    r = run(comets("shared"), conventions(rounds, profit))
    assert price(r) == near(813.086794576060610742014877862)
    assert by_name(r, r.state.first_round) == {"a1": 1, "b1": 2, "a2": 3, "b2": 4, "a3": 5, "b3": 0}
    assert r.liquidation_rounds == 5
    assert float(r.state.depth.sold[1]) == near(109)
    assert r.bad_debt_usd == 0.0
    assert sum(x.repaid_usd for x in r.rounds) == 0.0
    assert r.state.credit_usd == near(95353.9619495475551516602411262)
    assert float(r.state.refund.sum()) == near(9338.21194954755515166024112621)
    assert r.state.storefront_usd == near(97863.2767376935434451249843137)
    changes = {"borrowers": -21122.5662674100204186591637593, "suppliers": 0.0,
               "protocol": 2509.31478814598829346474318753,
               "liquidators": 423.468077455239241980516137113, "pools": -196573.489630297565374211000902,
               "total": -214763.273032106358257424905336}  # fmt: skip
    assert {k: r.conservation[k] for k in changes} == {
        k: pytest.approx(v, rel=1e-9, abs=1e-6) for k, v in changes.items()
    }


def test_09_separate_pools_do_not_chain() -> None:
    r = run(comets("separate"))
    assert price(r, "XA") == near(961.168781237985390234525182622)
    assert price(r, "XB") == 1000.0
    assert by_name(r, r.state.calls) == {"a1": 1, "a2": 0, "a3": 0, "b1": 0, "b2": 0, "b3": 0}
    assert float(r.state.refund.sum()) == near(1830)
    assert r.state.storefront_usd == near(19500)


def test_09_one_venue_alone_stops_and_the_other_never_starts() -> None:
    alone = run(comets("shared", only="MA"))
    assert price(alone) == near(961.168781237985390234525182622)
    assert int(alone.state.calls.sum()) == 1
    other = run(comets("shared", only="MB"))
    assert price(other) == 1000.0
    assert int(other.state.calls.sum()) == 0


def toxic(rule: str) -> World:
    w = World()
    w.add_asset("X", 100.0, cash=True)
    return w.lending("M", rule, "X", 0.97, 0.06, supply=50_000).account("t", "M", X=103, USD=10_000)


@pytest.mark.parametrize("rounds", ["batch", "sequential"])
@pytest.mark.parametrize("rule", ["aave_v3@3.0", "aave_v3@3.6", "morpho_blue@1"])
def test_14_the_terminal_bad_debt_does_not_depend_on_the_close_factor(rule: str, rounds: str) -> None:
    r = run(toxic(rule), conventions(rounds))
    assert r.bad_debt_usd == near(283.01886792452830188679245283)
    assert float(r.state.repaid_usd[0]) == near(9716.98113207547169811320754717)
    assert left(r, debt=False)["t"] == 0.0
    assert r.conservation["suppliers"] == near(-283.01886792452830188679245283)
    assert r.conservation["liquidators"] == near(583.01886792452830188679245283)
    assert r.conservation["borrowers"] == near(-300)


@pytest.mark.parametrize("rule", ["aave_v3@3.0", "aave_v3@3.6"])
def test_14_every_call_lowers_health(rule: str) -> None:
    steps = []
    for rounds in range(1, 4):
        r = run(toxic(rule), conventions(max_rounds=rounds))
        steps.append((r.rounds[-1].repaid_usd, r.rounds[-1].liquidated_usd / 100, float(r.health_after[0])))
        assert not r.convergence.converged
        assert "round limit" in r.convergence.why
    # 3.3 and later burn the debt that no collateral covers, so nothing is owed at the end; before, it stays
    last = 0.0 if rule == "aave_v3@3.0" else float("inf")
    expected = [(5000, 53, 0.97), (2500, 26.5, 0.9118), (2216.98113207547169811320754717, 23.5, last)]
    assert steps == [tuple(near(x) for x in step) for step in expected]


def test_14_full_close_takes_one_call() -> None:
    r = run(toxic("morpho_blue@1"))
    assert int(r.state.calls[0]) == 1
    assert r.rounds[0].liquidated_usd == near(10_300)


def vault_chain() -> World:
    w = World()
    w.add_asset("X", 700.0, cash=True)
    w.lending("M1", "morpho_blue@1", "X", 0.86, LIF86, supply=1_000_000).account("m", "M1", X=800, USD=640_000)
    w.claim("V", "USD", 1.0, "M1")
    w.lending("M2", "morpho_blue@1", "V", 0.915, 0.026167265264238070, supply=500_000)
    for name, shares, debt in (("n1", 100_000, 88_000), ("n2", 200_000, 165_000), ("n3", 50_000, 40_000)):
        w.account(name, "M2", V=shares, USD=debt)
    w.claim("W", "USD", 1.0, "M2")
    w.lending("M3", "morpho_blue@1", "W", 0.945, 0.016776817488561260, supply=200_000)
    return w.account("q1", "M3", W=100_000, USD=94_450)


@pytest.mark.parametrize("profit", [False, True])
@pytest.mark.parametrize("rounds", ["batch", "sequential"])
def test_17_bad_debt_climbs_three_vaults(rounds: str, profit: bool) -> None:
    r = run(vault_chain(), conventions(rounds, profit))
    bad = by_name(r, r.state.bad_usd)
    lost = {"m": near(103519.99999999999966845536), "n1": near(638.023999999999899111823672)}
    assert bad == {"n2": 0.0, "n3": 0.0, "q1": 0.0, **lost}
    assert price(r, "V") == near(0.89648000000000000033154464)
    assert price(r, "W") == near(0.998723952000000000201776352656)
    repaid = by_name(r, r.state.repaid_usd)
    assert repaid["m"] == near(536480.00000000000033154464)
    assert repaid["n1"] == near(87361.976000000000100888176328)
    assert repaid["n2"] == near(165_000)
    assert repaid["q1"] == near(94_450)
    kept = left(r, debt=False)
    assert 200_000 - kept["n2"] == near(188869.354328707033606306195244)
    assert kept["n3"] == 50_000
    assert 100_000 - kept["q1"] == near(96157.2717060405606329122428354)
    per_round = [x.bad_debt_usd for x in made(r)]
    if rounds == "batch":
        assert sum(per_round) / per_round[0] == near(1.00616329211746522315644542251)
        assert r.liquidation_rounds == 3
    assert r.state.lost_usd.tolist() == [near(103519.99999999999966845536), near(638.023999999999899111823672), 0.0]


def test_19_vaults_that_lend_against_each_other() -> None:
    w = World()
    w.add_asset("A", 1.0)
    w.add_asset("B", 1.0)
    w.lending("MA", "", "B", 0.0, 0.0, supply=1000, shock=100).account("borrower of A", "MA", B=620, USD=600)
    w.lending("MB", "", "A", 0.0, 0.0, supply=800).account("borrower of B", "MB", A=470, USD=450)
    w.claim("A", "USD", 1.0, "MA").claim("B", "USD", 1.0, "MB")
    r = run(w, mark_loans=True)
    assert price(r, "A") == near(0.898545025560361777428234368856)
    assert price(r, "B") == near(0.965395202516712544239087691703)
    short = by_name(r, r.state.shortfall_usd())
    assert short == {
        "borrower of A": near(1.45497443963822257176563114432),
        "borrower of B": near(27.6838379866299646087298466378),
    }
    assert r.convergence.converged
    # conservation of the key: unpledged holders and borrowers lose exactly the cash that was lost
    loss = (1000 - 470) * (1 - price(r, "A")) + (800 - 620) * (1 - price(r, "B")) + 20 + 20
    assert loss == near(100)
    realised = run(w)  # bad debt alone: nobody writes a loan off, so the circle does not close
    assert price(realised, "A") == near(0.9)
    assert price(realised, "B") == near(1.0)
