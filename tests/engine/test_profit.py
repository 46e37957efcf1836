"""What liquidators without inventory do: never a call that loses, and never a paying call left alone for ever.

A wave of s on a pool of x at price p brings p * s / (1 + s / x): at a unit cost of c it pays iff s <= x * (p / c - 1).
"""

from __future__ import annotations

import pytest

from aggregator.engine.book import CONSTANT
from tests.engine.test_worlds import near
from tests.engine.worlds import World, by_name, conventions, run


def absorptions(*rows: tuple[float, float]) -> World:
    """Sold at 1 - 0.5 * 0.05 of 1,000: of 1,000 in the pool 25.64 pay at once."""
    w = World().pool("P", "X", 1_000, 1_000_000).lending("M", "comet@1", "X", 0.85, 0.05, storefront=0.5)
    for i, (collateral, debt) in enumerate(rows):
        w.account(f"a{i}", "M", X=collateral, USD=debt)
    return w


def test_absorptions_that_do_not_pay_together_follow_each_other() -> None:
    """Shares of a wave that is too large cannot be cut: one goes now, one at the price the first leaves."""
    r = run(absorptions((20, 17_200), (20, 17_200)), conventions(profit=True))
    assert r.state.first_round.tolist() == [1, 2]
    first = 1e6 * 20 / 1020 - 20 * 975
    second = 1e9 * (1 / 1020 - 1 / 1040) - 20 * 0.975 * 1e9 / 1020**2
    assert first > 0
    assert second > 0
    assert r.state.cash["liquidators"] == near(first + second)


@pytest.mark.parametrize("capacity", [0, 1])
def test_an_absorption_too_large_for_the_pool_keeps_nobody_from_acting(capacity: int) -> None:
    r = run(absorptions((40, 36_000), (10, 8_600)), conventions(profit=True, capacity=capacity))
    assert by_name(r, r.state.calls) == {"a0": 0, "a1": 1}


def test_room_that_an_absorption_cannot_use_is_for_dearer_calls() -> None:
    w = World().pool("P", "X", 1_000, 1_000_000).lending("M", "comet@1", "X", 0.85, 0.2, storefront=0.5)
    w.lending("N", "morpho_blue@1", "X", 0.85, 0.05).account("large", "M", X=300, USD=258_000)
    r = run(w.account("small", "N", X=10, USD=8_600), conventions(profit=True))
    assert by_name(r, r.state.calls) == {"large": 0, "small": 1}
    assert float(r.state.depth.sold[1]) == near(8_600 * 1.05 / 1_000)


@pytest.mark.parametrize("capacity", [0, 1])
def test_accounts_too_small_to_be_cut_go_whole(capacity: int) -> None:
    """From Aave 3.3 a part of 350 leaves dust: one of two fits into 5 that pay, at the next price the other."""
    w = World().pool("P", "X", 100, 10_000).lending("M", "aave_v3@3.6", "X", 0.85, 0.05)
    w.account("a", "M", X=4, USD=350).account("b", "M", X=4, USD=350)
    r = run(w, conventions(profit=True, capacity=capacity))
    assert r.state.first_round.tolist() == [1, 2]
    assert r.state.repaid_usd[0] == near(350)
    assert r.conservation["liquidators"] > 0


def test_an_account_too_small_to_be_cut_takes_no_turn_of_those_who_may_act() -> None:
    """One call a round: the least healthy could only act in part, which would leave dust."""
    w = World().pool("P", "X", 100, 10_000).lending("M", "aave_v3@3.6", "X", 0.85, 0.05)
    w.account("small", "M", X=9.5, USD=900).account("smaller", "M", X=2, USD=171)
    r = run(w, conventions(profit=True, capacity=1))
    assert by_name(r, r.state.calls) == {"small": 0, "smaller": 1}


@pytest.mark.parametrize(("fee", "pool"), [(0.08, 10.0), (0.0, 0.0)])
@pytest.mark.parametrize("rounds", ["batch", "sequential"])
def test_a_collateral_that_does_not_sell_hides_no_other(fee: float, pool: float, rounds: str) -> None:
    """X has the larger bonus, but its pool keeps more, or stands empty after the blow: Y is seized."""
    w = World().pool("PX", "X", 10, 10_000, fee=fee).pool("PY", "Y", 1e5, 1e8)
    w.lending("M", "aave_v3@3.0", "X", 0.85, 0.07).lending("M", "aave_v3@3.0", "Y", 0.85, 0.05)
    w.account("a", "M", X=5, Y=5, USD=9_000)
    r = run(w, conventions(rounds, profit=True), depth={} if pool else {"X": 1.0})
    codes = [r.book.assets.index(name) for name in ("X", "Y")]
    assert r.state.depth.sold[codes].tolist() == [0.0, near(5)]
    assert r.state.repaid_usd.tolist() == [near(5_000 / 1.05)]


@pytest.mark.parametrize(("y", "gone"), [(20.0, 1), (60.0, 0)])
def test_an_absorption_of_two_collaterals_is_tested_by_what_both_bring(y: float, gone: int) -> None:
    """Nobody else sells either of them. X brings more than the storefront asks, Y more only up to 25.6."""
    w = World().pool("PX", "X", 1_000, 1_000_000).pool("PY", "Y", 1_000, 1_000_000)
    w.lending("M", "comet@1", "X", 0.85, 0.05, storefront=0.5).lending("M", "comet@1", "Y", 0.85, 0.05, storefront=0.5)
    r = run(w.account("a", "M", X=10, Y=y, USD=900 * (10 + y)), conventions(profit=True))
    assert int(r.state.calls[0]) == gone
    brought = sum(1e6 * s / (1_000 + s) for s in (10, y))
    assert r.state.cash["liquidators"] == near(gone * (brought - 975 * (10 + y)))


@pytest.mark.parametrize("profit", [False, True])
def test_the_storefront_is_paid_in_the_base_asset_at_the_price_the_market_counts_it(profit: bool) -> None:
    """D stands at 0.9, the market's feed says 1: for 20 X at 900 it asks 17,550 D, which cost 15,795."""
    w = World()
    w.add_asset("D", 0.9, cash=True)
    w.pool("P", "X", 1_000, 900_000).lending("M", "comet@1", "X", 0.85, 0.05, storefront=0.5, debt="D")
    w.account("a", "M", X=20, D=15_500)
    w.rows["oracles"][1] = (CONSTANT, w.asset["D"], 1.0, w.asset["USD"], float("inf"), float("nan"))
    r = run(w, conventions(profit=profit))
    assert int(r.state.calls[0]) == 1
    asked = 20 * 900 * 0.975 * 0.9
    assert r.state.storefront_usd == near(asked)
    assert r.state.cash["liquidators"] == near(9e5 * 20 / 1_020 - asked)
    assert r.conservation["largest_round_error"] <= 1e-6
