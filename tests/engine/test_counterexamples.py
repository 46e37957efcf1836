"""Plausible laws that are false: the engine must show each world's published answer and not smooth it away.

Source: shared answer keys, case 39 (two programs, exact fractions); 1e-9 relative. One asset, constant product, batch.
"""

from __future__ import annotations

import pytest

from aggregator.quant.depth import constant_product_depth
from tests.engine.test_worlds import near
from tests.engine.worlds import World, conventions, price, run

AAVE, COMPOUND, FULL = "aave_v3@3.0", "compound_v2@1", "morpho_blue@1"
Accounts = tuple[tuple[float, float], ...]


def world(
    rule: str,
    threshold: float,
    bonus: float,
    reserve: float,
    accounts: Accounts,
    quote: float = 0.0,
    close: float = 0.5,
) -> World:
    w = World().pool("P", "X", reserve, quote or 1000 * reserve)
    w.lending("M", rule, "X", threshold, bonus, close=close)
    for i, (collateral, debt) in enumerate(accounts, 1):
        w.account(f"z{i}", "M", X=collateral, USD=debt)
    return w


def loss(w: World, rounds: str = "batch", capacity: int = 0) -> tuple[float, float, int, int]:
    r = run(w, conventions(rounds, capacity=capacity))
    assert r.convergence.converged
    return r.bad_debt_usd + r.shortfall_usd, price(r), r.liquidation_rounds, int(r.state.calls.sum())


def agrees(found: tuple[float, float, int, int], expected: tuple[float, float, int, int]) -> None:
    assert found == (near(expected[0]), near(expected[1]), expected[2], expected[3])


def test_deeper_liquidity_can_raise_bad_debt() -> None:
    accounts = ((25, 22010), (40, 36540))
    agrees(loss(world(AAVE, 0.9, 0.1, 500, accounts)), (2552.85132028949111042984728641, 783.146683373795911974, 2, 3))
    agrees(loss(world(AAVE, 0.9, 0.1, 625, accounts)), (2938.16947081765203322675527465, 820.468388993908842680, 3, 4))


def test_a_larger_blow_can_lower_it() -> None:
    accounts = ((30, 23600), (30, 24250))
    agrees(loss(world(AAVE, 0.8, 0.1, 300, accounts)), (445.906982255379949566482787825, 700.973193271310846774, 3, 3))
    more = world(AAVE, 0.8, 0.1, 305, accounts, quote=300 * 300_000 / 305)
    agrees(loss(more), (103.988221839802251683671128952, 678.026973863189702032, 2, 4))


def test_a_larger_close_factor_can_raise_it() -> None:
    accounts = ((20, 15940), (30, 24340))
    half = loss(world(COMPOUND, 0.8, 0.1, 300, accounts))
    assert half[0] == near(196.791943493521028705380360475)
    whole = loss(world(COMPOUND, 0.8, 0.1, 300, accounts, close=1.0))
    agrees(whole, (615.552298064300201614517091317, 748.427011764695072132, 2, 2))


def test_a_larger_close_factor_can_lower_it() -> None:
    accounts = ((40, 36330), (30, 27140))
    assert loss(world(COMPOUND, 0.9, 0.1, 800, accounts))[0] == near(3158.14747921819254199326436823)
    agrees(loss(world(COMPOUND, 0.9, 0.1, 800, accounts, close=1.0)), (0.0, 845.910062566245112344, 1, 2))


def test_a_larger_bonus_can_raise_it() -> None:
    accounts = ((40, 33620), (40, 36440))
    agrees(loss(world(AAVE, 0.9, 0.08, 800, accounts)), (914.67844767611727398807037834, 826.446280991735537190, 4, 5))
    agrees(loss(world(AAVE, 0.9, 0.13, 800, accounts)), (4140.87837602530077921101456477, 826.446280991735537190, 4, 4))


def test_a_larger_bonus_can_lower_it() -> None:
    accounts = ((20, 16560), (30, 25600))
    final = 734.836637738260309081793678222
    agrees(loss(world(AAVE, 0.85, 0.10, 300, accounts)), (653.416794594521854526147609202, final, 3, 4))
    agrees(loss(world(AAVE, 0.85, 0.12, 300, accounts)), (355.43922675758179858242569577, 734.693877551020408, 2, 3))


def test_removing_a_borrower_can_raise_it() -> None:
    accounts = ((40, 34170), (30, 27100), (10, 8960), (30, 26590))
    four = world(AAVE, 0.9, 0.1, 800, accounts)
    agrees(loss(four), (3795.61048302227869173875543917, 772.853520106267359015, 3, 8))
    three = world(AAVE, 0.9, 0.1, 800, (*accounts[:2], accounts[3]))
    agrees(loss(three), (4217.76083426973596995029030174, 790.123456790123456790, 4, 7))


def test_a_higher_threshold_can_lower_it() -> None:
    accounts = ((40, 36570), (40, 34170))
    agrees(loss(world(AAVE, 0.9, 0.1, 500, accounts)), (4428.67795496719451623422724889, 743.162901307966706302, 3, 4))
    agrees(loss(world(AAVE, 0.92, 0.1, 500, accounts)), (0.0, 1000.0, 0, 0))


def test_a_capacity_cap_can_raise_it() -> None:
    accounts = ((40, 36330), (30, 27140))
    agrees(loss(world(FULL, 0.9, 0.1, 800, accounts)), (0.0, 845.910062566245112344, 1, 2))
    capped = loss(world(FULL, 0.9, 0.1, 800, accounts), capacity=1)
    agrees(capped, (2400.65303502745005086173042941, 845.626159670362485597, 2, 2))


def test_a_capacity_cap_can_lower_it() -> None:
    accounts = ((30, 26450), (20, 18200))
    agrees(loss(world(AAVE, 0.9, 0.1, 500, accounts)), (1799.48409233494349566402851648, 826.446280991735537190, 3, 4))
    capped = loss(world(AAVE, 0.9, 0.1, 500, accounts), capacity=1)
    agrees(capped, (1606.01275075463376505826740868, 826.446280991735537190, 3, 3))


def test_one_by_one_can_be_better_than_batch() -> None:
    accounts = ((30, 26450), (20, 18200))
    found = loss(world(AAVE, 0.9, 0.1, 500, accounts), "sequential")
    agrees(found, (1606.01275075463376505826740868, 826.446280991735537190, 2, 3))


@pytest.mark.parametrize("path", ["live", "constant"])
def test_a_stale_oracle_can_lower_the_recorded_loss(path: str) -> None:
    w = World()
    w.add_asset("X", 95.0, cash=True)
    level = 100.0 if path == "constant" else 1.0
    w.lending("M", FULL, "X", 0.945, 0.016776817488561260, path=path, level=level).account("z", "M", X=100, USD=9445)
    r = run(w)
    if path == "live":
        assert r.bad_debt_usd == near(101.7499999999999926188325)
    else:
        assert (int(r.state.calls[0]), r.shortfall_usd) == (0, 0.0)


def test_a_backstop_staked_in_the_volatile_asset_can_raise_uncovered_loss() -> None:
    """100,000 lost elsewhere. Covered by selling a stake of 150 X into the pool that prices an account's collateral."""

    def short(base: float, quote: float) -> tuple[float, float]:
        w = World().pool("P", "X", base, quote).lending("M", "", "X", 0.945, 0.0167)  # no rule: marked alone
        r = run(w.account("z", "M", X=1200, USD=1_077_300))
        return r.shortfall_usd, price(r)

    assert short(1000, 1_000_000)[0] == 0.0
    sold = float(constant_product_depth(1000, 1_000_000).base_for(100_000))
    assert sold == near(111.111111111111111111111111111)
    shortfall, after = short(1000 + sold, 900_000)
    assert after == near(810)
    assert shortfall == near(105_300)
    assert shortfall > 100_000  # more than the backstop covered
