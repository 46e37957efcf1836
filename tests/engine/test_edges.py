"""Accounts near their threshold: the float judgement is the exact rule's, or the account is named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.core.account import Account, Leg
from aggregator.core.fixed import WAD, Fixed
from aggregator.core.ids import USD
from aggregator.core.scenario import Scenario
from aggregator.engine import health
from aggregator.engine.blow import blow_of
from aggregator.engine.book import Book
from aggregator.engine.outcome import stress_result
from aggregator.engine.run import cascade
from aggregator.engine.state import State
from aggregator.rules import Calls, floored, lending
from tests.engine.worlds import EVERY_RULE, World, run

Legs = list[tuple[int, int, int]]  # amount at 18 places, price at 8 places, threshold in basis points
legs = st.lists(
    st.tuples(st.integers(10**15, 10**22), st.integers(10**6, 10**13), st.integers(1, 95).map(lambda x: 100 * x)),
    min_size=1,
    max_size=4,
)


def exact(rule: str, rows: Legs, debt: int) -> Account:
    def leg(asset: str, side: str, amount: int, price: int, threshold: int) -> Leg:
        terms = {"liquidation_threshold_bps": threshold}
        return Leg(asset, side, amount, amount, 18, Fixed(price, 8), terms)

    held = [leg(f"c{i}", "collateral", *row) for i, row in enumerate(rows)]
    owed = leg("d", "debt", debt, 10**8, 0)
    return Account("m", "h", rule, (*held, owed), {"base_unit_exp": 8}, {}, 0)


def as_book(rule: str, rows: Legs, debt: int) -> Book:
    w = World()
    for i, (_, price, threshold) in enumerate(rows):
        w.add_asset(f"c{i}", price / 1e8, cash=True)
        w.lending("m", rule, f"c{i}", threshold / 1e4, 0.05)
    return w.account("h", "m", **{f"c{i}": a / 1e18 for i, (a, _, _) in enumerate(rows)}, USD=debt / 1e18).book()


def debt_near(rows: Legs, off: float) -> int:
    """18 places of a debt whose health by the unfloored sum is about 1 + off."""
    weighted = sum(amount * price * threshold for amount, price, threshold in rows)
    return int(weighted // (10**12 * (10**8 + int(off * 10**8))) * 10**8)


@settings(max_examples=300)
@given(st.sampled_from(["aave_v3@3.0", "aave_v3@3.4", "aave_v3@3.5"]), legs, st.floats(-3e-4, 3e-4))
def test_the_verdict_is_the_exact_rules_or_the_account_is_named(rule: str, rows: Legs, off: float) -> None:
    debt = debt_near(rows, off)
    book, judge = as_book(rule, rows, debt), lending(rule)
    assert judge is not None
    answers = State(book, blow_of(book, Scenario("s"))).answers()
    found = health.sums(book, book.leg_amount, answers)
    plain = health.sums_plain(book, book.leg_amount, answers)
    assert found.health[0] == pytest.approx(plain.health[0], rel=1e-12)
    edge = health.at_edge(book, book.leg_amount, answers, found)
    verdict = judge.judge(exact(rule, rows, debt))
    if len(edge) == 0 and found.debt_usd[0] > 1e-6:
        assert bool(found.weighted_usd[0] < found.debt_usd[0]) == verdict.liquidatable
    held = sum(amount * asked / 1e26 for amount, asked, _ in rows)
    weighted = sum(amount * asked / 1e26 * threshold / 1e4 for amount, asked, threshold in rows)
    certain = floored(weighted, held, -1e-8) == floored(weighted, held, 1e-8)  # else the verdict alone is asserted
    if found.debt_usd[0] > 1000.0 and len(edge) == 0 and certain:
        assert verdict.health_factor is not None
        assert found.health[0] == pytest.approx(verdict.health_factor / WAD, rel=1e-9)


def test_half_a_basis_point_decides_in_3_0_and_not_in_3_6() -> None:
    """Average threshold 8,124.5 basis points: 3.0 judges by 8,124."""
    rows = [(10**18, 1000 * 10**8, 8000), (10**18, 1000 * 10**8, 8249)]
    debt = 1_624_850_000 * 10**12  # 1,624.85: below 1,624.9 and above 1,624.8
    for rule, due in (("aave_v3@3.0", True), ("aave_v3@3.6", False)):
        judge = lending(rule)
        assert judge is not None
        assert judge.judge(exact(rule, rows, debt)).liquidatable == due
        result = cascade(as_book(rule, rows, debt), Scenario("s"))
        assert (int(result.state.calls[0]) > 0) == due
        taken = judge.batch(Calls(1000.0, 1624.85, 2000.0, 1624.85, 1624.9, 0.05))
        assert bool(taken.repaid_usd[0] > 0.0) == due


def test_the_versions_that_floor() -> None:
    rules = [lending(f"aave_v3@3.{minor}") for minor in range(8)]
    assert [rule and rule.floors_threshold for rule in rules] == [minor < 5 for minor in range(8)]
    assert floored([0.0, 1624.9], [0.0, 2000.0]).tolist() == [0.0, pytest.approx(1624.8)]


@pytest.mark.parametrize(("debt", "named"), [(800.0, True), (799.0, False)])
def test_an_account_on_its_threshold_is_named(debt: float, named: bool) -> None:
    w = World()
    w.add_asset("X", 1000.0, cash=True)
    r = run(w.lending("M", "aave_v3@3.6", "X", 0.8, 0.05).account("edgy", "M", X=1, USD=debt))
    notes = stress_result(r, Scenario("s")).notes
    assert any("edgy in M" in note for note in notes) == named
    assert USD not in r.book.assets


def test_suppliers_are_written_down_by_what_was_written_off_at_the_same_prices() -> None:
    """The debt is of a token that other calls have sold since the blow: units times its price of that round, both."""
    w = World().pool("PX", "X", 100, 100_000).pool("PE", "E", 1_000, 1_000_000)
    w.lending("M1", "morpho_blue@1", "X", 0.8, 0.05, supply=1e6).account("a", "M1", X=40, USD=33_000)
    w.lending("M2", "morpho_blue@1", "E", 0.8, 0.05, supply=1e6).account("b", "M2", E=100, USD=81_000)
    w.lending("M3", "morpho_blue@1", "X", 0.9, 0.02, debt="E", supply=1_000).account("c", "M3", X=10, E=8.5)
    first, second, *_ = run(w).rounds
    assert first.bad_debt_usd == first.write_down_usd == 0.0
    assert first.prices_usd["E"] < 900.0
    assert second.bad_debt_usd > 1_000.0
    assert second.write_down_usd == pytest.approx(second.bad_debt_usd, rel=1e-12)


@pytest.mark.parametrize("rule", EVERY_RULE)
def test_a_call_for_all_collateral_leaves_no_last_bit_of_it(rule: str) -> None:
    """What stayed would be called once more, for nothing, and the bad debt be booked a round late."""
    judge = lending(rule)
    assert judge is not None
    held = np.random.default_rng(1).uniform(0.1, 1e6, 2_000)
    taken = judge.batch(Calls(held, 10 * held, held, 10 * held, 0.9 * held, 0.0437, close_frac=0.5))
    assert (taken.seized_usd == held).all()
