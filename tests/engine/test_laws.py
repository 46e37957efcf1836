"""Laws of the cascade that are theorems, each under its conditions; none that is merely plausible.

Theorem numbers: section 3 of the answer keys' notes (constant product, no fee, one asset).
"""

from __future__ import annotations

from itertools import pairwise
from math import sqrt

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aggregator.engine import health
from aggregator.engine.state import SECTORS
from tests.engine.worlds import EVERY_RULE, World, by_name, conventions, left, price, run

RULES = EVERY_RULE
# Aave 3.3 and later have thresholds in dollars
HOMOGENEOUS = tuple(name for name in RULES if not "aave_v3@3.3" <= name < "aave_v4")
REPAID = tuple(name for name in RULES if name != "comet@1")  # the others call for as much as the bonus allows
Accounts = list[tuple[float, float]]
# collateral, and the price at which the account turns unhealthy as a share of 1000
# no account exactly on its threshold: there the last bit of a price decides
triggers = st.floats(0.5, 1.15).filter(lambda t: abs(t - 1.0) > 1e-9)
accounts = st.lists(st.tuples(st.floats(1, 60), triggers), min_size=1, max_size=6)
slow = settings(max_examples=60)


def world(rule: str, accounts: Accounts, reserve: float = 800, threshold: float = 0.85, bonus: float = 0.06) -> World:
    w = World().pool("P", "X", reserve, 1000 * reserve)
    w.lending("M", rule, "X", threshold, bonus, supply=1e7, storefront=0.5)
    for i, (collateral, trigger) in enumerate(accounts):
        w.account(f"z{i:02}", "M", X=collateral, USD=collateral * threshold * 1000 * trigger)
    return w


@slow
@given(st.sampled_from(RULES), accounts, st.sampled_from(["batch", "sequential"]), st.booleans(), st.floats(-0.4, 0.2))
def test_1_value_and_units_are_conserved_and_the_loss_is_the_sum_of_its_sinks(
    rule: str, rows: Accounts, rounds: str, profit: bool, blow: float
) -> None:
    r = run(world(rule, rows), conventions(rounds, profit), price={"X": blow})
    scale = sum(c for c, _ in rows) * 1000 + 1e6
    assert all(x.conservation_error_usd <= 1e-9 * scale for x in r.rounds)
    assert r.conservation["total"] == pytest.approx(r.conservation["units_times_price_change"], abs=1e-9 * scale)
    sinks = float(r.state.lost_usd.sum() + r.state.reserves_usd.sum() + r.state.homeless_usd.sum())
    assert sinks == pytest.approx(r.bad_debt_usd, abs=1e-9 * scale)
    assert sum(x.bad_debt_usd for x in r.rounds) == pytest.approx(r.bad_debt_usd, abs=1e-9 * scale)


@slow
@given(st.sampled_from(RULES), accounts)
def test_zero_shock_on_healthy_accounts_is_nothing(rule: str, rows: Accounts) -> None:
    healthy = [(c, min(t, 0.99)) for c, t in rows]
    r = run(world(rule, healthy))
    assert len(r.rounds) == 1
    assert r.rounds[0].liquidations == 0
    assert price(r) == 1000.0
    assert (r.state.amount == r.book.leg_amount).all()
    assert all(r.conservation[s] == 0.0 for s in SECTORS)


@slow
@given(st.sampled_from(RULES), accounts, st.floats(-0.4, -0.05), st.sampled_from(["batch", "sequential"]))
def test_an_isolated_market_changes_nobody(rule: str, rows: Accounts, blow: float, rounds: str) -> None:
    alone = run(world(rule, rows), conventions(rounds), price={"X": blow})
    w = world(rule, rows).pool("Q", "Y", 100, 100_000)
    w.lending("N", rule, "Y", 0.85, 0.06, storefront=0.5).account("elsewhere", "N", Y=10, USD=8600)
    both = run(w, conventions(rounds), price={"X": blow})
    assert price(both) == price(alone)
    mine = by_name(both, both.state.bad_usd)
    assert mine.pop("elsewhere") >= 0.0
    assert mine == by_name(alone, alone.state.bad_usd)


@slow
@given(st.sampled_from(RULES), accounts, st.floats(-0.4, 0.0), st.randoms(use_true_random=False))
def test_13_order_of_accounts_changes_nothing_in_batch_rounds(
    rule: str, rows: Accounts, blow: float, rng: object
) -> None:
    w, names = world(rule, rows), list(range(len(rows)))
    rng.shuffle(names)  # type: ignore[attr-defined]
    turned = World().pool("P", "X", 800, 800_000).lending("M", rule, "X", 0.85, 0.06, supply=1e7, storefront=0.5)
    for i in names:
        turned.account(f"z{i:02}", "M", X=rows[i][0], USD=rows[i][0] * 0.85 * 1000 * rows[i][1])
    a, b = run(w, price={"X": blow}), run(turned, price={"X": blow})
    assert price(a) == pytest.approx(price(b), rel=1e-12)
    bad = by_name(b, b.state.bad_usd)
    assert by_name(a, a.state.bad_usd) == {k: pytest.approx(bad[k], rel=1e-9, abs=1e-6) for k in bad}


@slow
@given(st.sampled_from(HOMOGENEOUS), accounts, st.floats(-0.4, 0.0), st.integers(-40, 40))
def test_13_halves_and_units_change_nothing_in_batch_rounds_of_homogeneous_rules(
    rule: str, rows: Accounts, blow: float, power: int
) -> None:
    """Not of Aave 3.3 and later, whose thresholds are in dollars. Powers of two, so that no digit is lost."""
    whole = run(world(rule, rows), price={"X": blow})
    assume(not len(whole.at_edge))  # there the last bit of a sum decides
    halves = World().pool("P", "X", 800, 800_000).lending("M", rule, "X", 0.85, 0.06, supply=1e7, storefront=0.5)
    unit = 2.0**power
    scaled = World().pool("P", "X", 800 * unit, 800_000 * unit)
    scaled.lending("M", rule, "X", 0.85, 0.06, supply=1e7 * unit, storefront=0.5)
    for i, (collateral, trigger) in enumerate(rows):
        debt = collateral * 0.85 * 1000 * trigger
        scaled.account(f"z{i:02}", "M", X=collateral * unit, USD=debt * unit)
        for half in "ab":
            halves.account(f"z{i:02}{half}", "M", X=collateral / 2, USD=debt / 2)
    for other, size in ((halves, 1.0), (scaled, unit)):
        r = run(other, price={"X": blow})
        assert price(r) == pytest.approx(price(whole), rel=1e-9)
        lost, expected = r.bad_debt_usd + r.shortfall_usd, whole.bad_debt_usd + whole.shortfall_usd
        assert lost / size == pytest.approx(expected, rel=1e-9, abs=1e-6)


@slow
@given(accounts, st.floats(-0.3, 0.0), st.integers(0, 3), st.sampled_from(["batch", "sequential"]))
def test_2_absorb_all_does_not_depend_on_order_or_capacity(
    rows: Accounts, blow: float, capacity: int, rounds: str
) -> None:
    """Nor on anything else: theorem 3 says who goes, in closed form."""
    r = run(world("comet@1", rows), conventions(rounds, capacity=capacity), price={"X": blow})
    x, k = sqrt(800 * 800_000 / (1000 * (1 + blow))), 800 * 800_000
    gone = set()
    for i in sorted(range(len(rows)), key=lambda i: -rows[i][1]):
        edge = sqrt(k / (1000 * rows[i][1]))
        assume(abs(x - edge) > 1e-9 * edge)
        if x <= edge:
            break
        gone.add(i)
        x += rows[i][0]
    assert {i for i in range(len(rows)) if r.state.calls[i]} == gone
    assert price(r) == pytest.approx(k / x**2, rel=1e-9)


@slow
@given(accounts, st.floats(-0.3, 0.0), st.floats(0.01, 0.2), st.floats(1.05, 3.0))
def test_2_absorb_all_is_monotone_in_blow_and_depth(rows: Accounts, blow: float, more: float, deeper: float) -> None:
    base = run(world("comet@1", rows), price={"X": blow})
    harder = run(world("comet@1", rows), price={"X": blow - more})
    assert price(harder) <= price(base) * (1 + 1e-12)
    assert (harder.state.calls >= base.state.calls).all()
    eased = run(world("comet@1", rows, 800 * deeper), price={"X": blow})
    assert price(eased) >= price(base) * (1 - 1e-12)
    assert (eased.state.calls <= base.state.calls).all()


@slow
@given(st.floats(1, 200), st.floats(0.02, 0.15), st.floats(1.02, 1.2))
def test_4_a_call_is_made_whole_exactly_when_it_pays(collateral: float, bonus: float, trigger: float) -> None:
    w = world("morpho_blue@1", [(collateral, trigger)], reserve=1000, bonus=bonus)
    r = run(w, conventions(profit=True, max_rounds=1))
    debt = collateral * 0.85 * 1000 * trigger
    whole = min(collateral, debt * (1 + bonus) / 1000)
    assume(abs(whole - bonus * 1000) > 1e-6)
    sold = float(r.state.depth.sold[1])
    assert sold == pytest.approx(min(whole, bonus * 1000), rel=1e-9)
    assert r.conservation["liquidators"] >= -1e-6


@slow
@given(st.floats(0.5, 0.949), accounts, st.sampled_from(["aave_v3@3.0", "morpho_blue@1"]))
def test_5_below_oracle_over_one_plus_bonus_nobody_acts(market: float, rows: Accounts, rule: str) -> None:
    w = World().pool("P", "X", 1e9, 1e9 * 1000 * market)
    w.lending("M", rule, "X", 0.85, 0.05, path="constant", level=1000.0)
    for i, (collateral, trigger) in enumerate(rows):
        w.account(f"z{i}", "M", X=collateral, USD=collateral * 850 * trigger)
    assert int(run(w, conventions(profit=True)).state.calls.sum()) == 0


@slow
@given(st.floats(0.9, 1.3), st.floats(0.02, 0.15))
def test_6_a_liquidation_heals_exactly_where_value_over_debt_exceeds_one_plus_bonus(u: float, bonus: float) -> None:
    assume(abs(u - 1 - bonus) > 1e-6)
    w = World()
    w.add_asset("X", 100.0, cash=True)
    w.lending("M", "aave_v3@3.0", "X", 0.999 / u, bonus).account("z", "M", X=100 * u, USD=10_000)
    r = run(w, conventions(max_rounds=1))
    assume(left(r, debt=False)["z"] > 0.0)
    assert (float(r.health_after[0]) > float(r.health_before[0])) == (u > 1 + bonus)


@slow
@given(st.floats(1.0, 1.5), st.floats(0.02, 0.15), st.sampled_from(REPAID), st.sampled_from(["batch", "sequential"]))
def test_7_terminal_bad_debt_at_a_constant_price(over: float, bonus: float, rule: str, rounds: str) -> None:
    w = World()
    w.add_asset("X", 100.0, cash=True)
    debt = 10_000 / (1 + bonus) * (1 + (over - 1) + 1e-3)  # LTV above 1 / (1 + bonus): every path ends empty
    w.lending("M", rule, "X", 0.5, bonus).account("z", "M", X=100, USD=debt)
    r = run(w, conventions(rounds, max_rounds=2000))
    assert r.bad_debt_usd + r.shortfall_usd == pytest.approx(debt - 10_000 / (1 + bonus), rel=1e-9)


@slow
@given(accounts, st.floats(-0.3, 0.0), st.floats(0.01, 0.2), st.floats(1.05, 3.0))
def test_8_whole_close_one_at_a_time_is_monotone_and_never_better_than_batch(
    rows: Accounts, blow: float, more: float, deeper: float
) -> None:
    ranks = sorted(trigger for _, trigger in rows)
    assume(all(b - a > 1e-9 for a, b in pairwise(ranks)))  # among equals the last bit would choose who goes first

    def loss(blow: float, reserve: float = 800, capacity: int = 1) -> float:
        rules = conventions("batch", capacity=capacity)
        r = run(world("morpho_blue@1", rows, reserve), rules, price={"X": blow})
        return r.bad_debt_usd + r.shortfall_usd

    base = loss(blow)
    slack = 1e-6 + 1e-9 * base
    assert loss(blow - more) >= base - slack
    assert loss(blow, 800 * deeper) <= base + slack
    assert base >= loss(blow, capacity=0) - slack


@slow
@given(st.floats(10, 1000), st.floats(10, 1000), accounts, st.floats(-0.3, 0.0))
def test_12_two_pools_at_one_price_are_the_merged_pool(a: float, b: float, rows: Accounts, blow: float) -> None:
    one = run(world("morpho_blue@1", rows, a + b), price={"X": blow})
    w = world("morpho_blue@1", rows, a).pool("P2", "X", b, 1000 * b)
    two = run(w, price={"X": blow})
    assume(not {*one.state.edges.counts(), *two.state.edges.counts()} - {"tie"})  # there the last digits may decide
    assert price(two) == pytest.approx(price(one), rel=1e-11)
    assert two.bad_debt_usd == pytest.approx(one.bad_debt_usd, rel=1e-9, abs=1e-6)


@slow
@given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.floats(0, 0.9), st.floats(0.0, 0.3))
def test_9_claims_settle_at_the_greatest_fixed_point_from_above(pledged: list[float], gain: float, lost: float) -> None:
    """Three vaults that lend against each other's shares; monotone in cash and a fixed point of its own map."""

    def value(lost: float) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], bool]:
        w = World()
        names = ("A", "B", "C")
        for name in names:
            w.add_asset(name, 1.0)
        for i, name in enumerate(names):
            other = names[(i + 1) % 3]
            w.lending("M" + name, "", other, 0.0, 0.0, supply=1000, shock=lost * 1000 if name == "A" else 0.0)
            loan = 1000 * gain * pledged[i]
            w.account("of " + name, "M" + name, **{other: loan * 1.02, "USD": loan})
            w.claim(name, "USD", 1.0, "M" + name)
        r = run(w, mark_loans=True)
        return r.state.value_usd[1:], r.convergence.converged

    (v, done), (less, _) = value(lost), value(lost + 0.05)
    assert done
    assert (less <= v + 1e-12).all()
    for i in range(3):
        loan, cash = 1000 * gain * pledged[i], 1000 * (1 - gain * pledged[i]) - (lost * 1000 if i == 0 else 0.0)
        assert v[i] == pytest.approx(max(0.0, cash + min(loan, 1.02 * loan * v[(i + 1) % 3])) / 1000, abs=1e-12)


@pytest.mark.parametrize(("hops", "right"), [(1, 101.0), (2, 101.0)])
def test_contagion_never_exceeds_exposure(hops: int, right: float) -> None:
    """A of size 100 fails; B holds 1 of it, and C 1 of B: an open tool says 200 and 300, the right figure is 101."""
    w = World()
    w.lending("A", "", w_asset(w, "junk"), 0.0, 0.0, supply=100, shock=100)
    w.claim("aA", "USD", 1.0, "A")
    w.claim("B", "aA", 1.0)
    chain = ["aA", "B"]
    if hops == 2:
        w.claim("C", "B", 1.0)
        chain.append("C")
    r = run(w)
    lost_at_a = float((r.state.lost_frac * r.book.pots.supply_units).sum())
    held_by_last = 1.0 * (1.0 - price(r, chain[-1]))
    assert lost_at_a + held_by_last == right


def w_asset(w: World, name: str) -> str:
    w.add_asset(name, 1.0, cash=True)
    return name


@slow
@given(st.lists(st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 1)), max_size=5), min_size=1, max_size=30))
def test_the_compiled_health_equals_the_plain_one(rows: list[list[tuple[float, int]]]) -> None:
    w = World().pool("P", "X", 800, 800_000).lending("M", "aave_v3@3.0", "X", 0.85, 0.05)
    for i, legs in enumerate(rows):
        w.account(f"z{i}", "M")
        for amount, debt in legs:
            w.account(f"z{i}", "M", **{"USD" if debt else "X": amount})
    book = w.book()
    answers = np.array([1000.0, 1.0])
    fast, plain = (f(book, book.leg_amount, answers) for f in (health.sums, health.sums_plain))
    np.testing.assert_allclose(fast.weighted_usd, plain.weighted_usd, rtol=1e-12)
    np.testing.assert_allclose(fast.debt_usd, plain.debt_usd, rtol=1e-12)


def test_same_input_same_bytes() -> None:
    rows = [(40.0, 1.1), (30.0, 1.02), (20.0, 0.95)]
    a, b = (run(world("aave_v3@3.6", rows), price={"X": -0.1}) for _ in range(2))
    assert a.rounds == b.rounds
    assert a.state.amount.tobytes() == b.state.amount.tobytes()


@slow
@given(accounts, st.floats(-0.4, 0.0), st.integers(0, 2))
def test_10_the_fixed_point_loses_no_less_than_one_round_where_the_map_is_monotone(
    rows: Accounts, blow: float, capacity: int
) -> None:
    """Absorb-all, and what is absorbed early stays lost."""
    r = run(world("comet@1", rows), conventions(capacity=capacity), price={"X": blow})
    assert r.bad_debt_usd + r.shortfall_usd >= r.first_credit_loss_usd * (1 - 1e-9) - 1e-6
    prices = [x.prices_usd["X"] for x in r.rounds]
    assert all(b <= a for a, b in pairwise(prices))


@slow
@given(st.sampled_from(["aave_v3@3.6", "morpho_blue@1"]), accounts, st.floats(-0.4, 0.0), st.floats(0, 1e5))
def test_11_a_reserve_of_outside_cash_takes_its_layer_and_raises_no_loss(
    rule: str, rows: Accounts, blow: float, reserve: float
) -> None:
    """Layer: clip(loss, 0, size). The cascade itself is the same, whoever pays."""

    def suppliers(reserve: float) -> tuple[float, float, float]:
        w = world(rule, rows)
        w.rows["pots"] = [(0, 0, 1e7, reserve, 0.0)]
        r = run(w, price={"X": blow})
        lost = float((r.state.lost_frac * r.book.pots.supply_units).sum())
        return lost, float(r.state.lost_units.sum()), price(r)

    bare, covered = suppliers(0.0), suppliers(reserve)
    assert covered[1:] == bare[1:]
    assert covered[0] == pytest.approx(max(0.0, bare[1] - reserve), rel=1e-9, abs=1e-6)
    assert covered[0] <= bare[0]
