"""Equal within 1e-9 is equal: an input's last digit decides nothing, and edges where it might are in the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from fractions import Fraction
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.core.result import StressResult
from aggregator.core.scenario import Conventions, Scenario
from aggregator.engine import afford
from aggregator.engine.bids import Bids
from aggregator.engine.book import CONSTANT, Book, Oracles, Pool, Terms, table
from aggregator.engine.outcome import stress_result
from aggregator.engine.run import Cascade, cascade
from aggregator.engine.ties import SAME, levels
from tests.engine.worlds import World, by_name, conventions, run


def seized(r: Cascade) -> dict[str, float]:
    """Units of each collateral that left the accounts."""
    book = r.book
    gone = np.where(book.terms.debt[book.leg_term], 0.0, book.leg_amount - r.state.amount)
    units = np.bincount(book.terms.asset[book.leg_term], gone, len(book.assets))
    return {a: u for a, u in zip(book.assets, units.tolist(), strict=True) if u > 0.0}


def two_collaterals(names: tuple[str, str], pools: dict[str, float], fees: dict[str, float]) -> World:
    """A at 3, B at 2.7; 1,000 A and 1,037.04 B against 2,950 dollars, one bonus for both."""
    w, price = World(), {"A": 3.0, "B": 2.7}
    for name in names:
        w.add_asset(name, price[name])
        w.lending("M", "compound_v2@1", name, 0.8, 0.08)
    for name, units in pools.items():
        w.pool(f"P{name}", name, units, units * price[name], fee=fees.get(name, 0.0))
    return w.account("alice", "M", **{name: {"A": 1_000, "B": 1_037.04}[name] for name in names}, USD=2_950)


@pytest.mark.parametrize("names", [("A", "B"), ("B", "A")])
@pytest.mark.parametrize(
    ("pools", "fees", "taken"),
    [
        ({}, {}, "A"),  # nothing is known of either: the lower id
        ({"A": 1e6, "B": 1e6 / 0.9}, {}, "A"),  # one depth in dollars: the lower id
        ({"B": 1e6}, {}, "B"),  # unknown depth costs no less than known depth
        ({"A": 1e5, "B": 1e6}, {}, "B"),  # less impact
        ({"A": 1e6, "B": 1e5}, {}, "A"),
        ({"A": 1e6, "B": 1e6}, {"A": 0.01, "B": 0.003}, "B"),  # a lower fee
        ({"A": 1e7, "B": 3e3}, {"A": 0.10, "B": 0.0}, "A"),  # 1,593 into 6,200 dollars costs more than a tenth
        ({"A": 1e7, "B": 1e5}, {"A": 0.10, "B": 0.0}, "B"),
    ],
)
def test_of_equal_collateral_the_one_that_costs_less_to_sell_is_seized(
    names: tuple[str, str], pools: dict[str, float], fees: dict[str, float], taken: str
) -> None:
    """Whatever the size of the blow, its last digits, and the order of rows."""
    for fall in (0.42, 0.43, 0.425, 0.4212345678912, 0.45 / 1.1):
        for turn in (1.0, 1.0 - 1e-12, 1.0 + 1e-12):
            w, blow = two_collaterals(names, pools, fees), {"A": -fall, "B": -fall * turn}
            r = run(w, conventions(max_rounds=1), price=blow)
            assert list(seized(r)) == [taken], (fall, turn)
            (edge,) = [e for e in stress_result(r, Scenario("s")).edges if e.kind == "tie"]
            assert (edge.account, edge.market) == ("alice", "M")


@pytest.mark.parametrize("gain", [1.2e-9, 1.5e-9, 1.9e-9, 1e-7, 1e-4, 0.02])
def test_what_is_not_equal_is_decided_by_what_it_pays(gain: float) -> None:
    """B pays more by that much, though A has far more depth; within twice the tolerance that is an edge."""
    w = two_collaterals(("A", "B"), {"A": 1e7, "B": 1e6}, {})
    term = w.collateral_term["M", "B"]
    w.rows["terms"][term] = (*w.rows["terms"][term][:5], 0.08 + 1.08 * gain, *w.rows["terms"][term][6:])
    r = run(w, conventions(max_rounds=1), price={"A": -0.43, "B": -0.43})
    assert list(seized(r)) == ["B"]
    edges = [(e.kind, e.account, e.asset) for e in stress_result(r, Scenario("s")).edges]
    assert edges == [("tie", "alice", "A")] * (gain < 2e-9)


@pytest.mark.parametrize("rounds", ["batch", "sequential"])
@pytest.mark.parametrize("rule", ["morpho_blue@1", "comet@1"])
def test_of_equally_unhealthy_accounts_the_cheaper_sale_comes_first(rounds: str, rule: str) -> None:
    """One call a round. z sells into the deeper pool; of two that sell the same, the lower name."""
    for wobble in (0.0, 1e-13, -1e-13):
        w = World().pool("PX", "X", 1_000, 1_000_000).pool("PY", "Y", 10_000, 10_000_000)
        for market, asset in (("M", "X"), ("N", "Y")):
            w.lending(market, rule, asset, 0.8, 0.05, storefront=0.5)
        w.account("a", "M", X=10, USD=8_100 * (1 + wobble)).account("z", "N", Y=10, USD=8_100)
        w.account("c", "M", X=5, USD=4_050).account("b", "M", X=5, USD=4_050 * (1 - wobble))
        r = run(w, conventions(rounds, capacity=1))
        first = by_name(r, r.state.first_round)
        assert first["z"] == 1
        assert first["b"] < first["c"] < first["a"]  # a half of a's sale costs less than half of its impact
        assert {e.account for e in stress_result(r, Scenario("s")).edges if e.kind == "tie"} >= {"a", "b", "c", "z"}


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30), st.integers(0, 30), st.randoms(use_true_random=False))
def test_a_level_is_no_wider_than_the_tolerance_and_free_of_order(values: list[float], chain: int, rng: Random) -> None:
    """Neighbours of a chain are equal, its ends are not: levels are counted from the least."""
    column = np.array(values + [values[0] * (1 + 0.4 * SAME) ** k for k in range(chain)])
    level = levels(column)
    for k in range(int(level.max()) + 1):
        members = column[level == k]
        assert members.max() - members.min() <= SAME * members.min() * (1 + 1e-6)
        above = column[level > k]
        assert not len(above) or above.min() > members.max()
        assert not len(above) or above.min() - members.min() > SAME * members.min() * (1 - 1e-6)
    order = list(range(len(column)))
    rng.shuffle(order)
    assert levels(column[order]).tolist() == level[order].tolist()


# A law: a change of 1e-12 in an input changes no output by more than 1e-9, away from the edges that the result lists


class Drawn:
    """A world of numbers, each of which can be moved by a share of itself."""

    def __init__(self, seed: int, moved: int = -1, by: float = 0.0) -> None:
        self.rng, self.moved, self.by, self.asked = Random(seed), moved, by, 0
        rng = self.rng
        self.rule = rng.choice(
            ["aave_v3@3.0", "aave_v3@3.3", "aave_v3@3.6", "morpho_blue@1", "compound_v2@1", "comet@1"]
        )
        self.rules = conventions(
            rng.choice(["batch", "batch", "sequential"]),
            rng.random() < 0.7,
            rng.choice([0, 0, 0, 2]),
            max_rounds=40,
            recovery_frac=rng.choice([0.0, 0.0, 0.3]),
        )
        self.world = self._world()
        self.blow = {a: -self.number(rng.choice([0.1, 0.3, 0.5])) for a in ("WETH", "A", "B")}

    def number(self, value: float) -> float:
        self.asked += 1
        return value * (1.0 + self.by) if self.asked - 1 == self.moved else value

    def _world(self) -> World:
        rng, n, w = self.rng, self.number, World()
        price = {"WETH": 2_000.0, "A": 3.0, "B": 2.7, "S": 2_400.0}
        size = 10 ** rng.uniform(4, 8)
        for asset in ("WETH", "A", "B"):
            w.add_asset(asset, n(price[asset]))
        fee = [0.0, 0.003, 0.01]
        for asset, quote in (("WETH", "USD"), ("A", "USD"), ("B", "WETH")):
            units = size * rng.choice([1.0, 3.0]) / price[asset]
            worth = price[asset] * units / (price[quote] if quote != "USD" else 1.0)
            w.pool(f"P{asset}", asset, n(units), n(worth), quote=quote, fee=rng.choice(fee))
        w.claim("S", "WETH", n(1.2), price=price["S"] if rng.random() < 0.5 else float("nan"))
        if rng.random() < 0.5:
            w.pool("PS", "S", n(size / 2_400.0), n(size), fee=rng.choice(fee))
        if rng.random() < 0.5:  # fees that stay
            w.pools = [replace(p, fee_stays=True) for p in w.pools]
        bonus = rng.choice([0.05, 0.08])
        held = ["A", "B", "WETH", "S"] if self.rule != "morpho_blue@1" else ["S"]
        for asset in held:
            whole_bps = rng.choice([0.8, 0.75]) if "@3." in self.rule else n(rng.choice([0.8, 0.75]))
            supply = 1e9 if asset == held[0] else None
            w.lending("M", self.rule, asset, whole_bps, n(bonus), supply=supply, storefront=0.5)
        for i in range(rng.randint(2, 8)):
            chosen = rng.sample(held, rng.randint(1, min(3, len(held))))
            usd = size * 10 ** rng.uniform(-3, -0.5)
            legs = {a: n(usd * rng.uniform(0.9, 1.1) / price[a]) for a in chosen}
            w.account(f"h{i}", "M", **legs, USD=n(len(chosen) * usd * rng.uniform(0.4, 0.78)))
        return w

    def result(self) -> StressResult:
        scenario = Scenario("s", price=self.blow, conventions=self.rules)
        return stress_result(cascade(self.world.book(), scenario), scenario)


def figures(result: StressResult) -> Iterator[tuple[str, float]]:
    plain = asdict(result)
    plain["wallets"] = {w["holder"]: w for w in plain["wallets"]}
    plain["losses"] = {f"{x['node']} {x['kind']} {x['layer']}": x for x in plain["losses"]}
    for part in ("scenario", "edges", "edge_counts", "notes", "gaps", "scenario_digest"):
        plain.pop(part)

    def walk(path: str, value: Any) -> Iterator[tuple[str, float]]:
        if isinstance(value, dict | list):
            rows = value.items() if isinstance(value, dict) else enumerate(value)
            for key, below in rows:
                yield from walk(f"{path}.{key}", below)
        elif isinstance(value, int | float):
            yield path, float(value)

    yield from walk("", plain)


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(0, 10**6), st.sampled_from([1e-12, -1e-12]))
def test_a_change_of_1e_12_in_an_input_changes_nothing(seed: int, which: int, by: float) -> None:
    plain = Drawn(seed)
    before = plain.result()
    after = Drawn(seed, which % plain.asked, by).result()
    if any(e.kind != "tie" or e.off > 1e-11 for e in before.edges):  # ties but for the last digits do count
        return
    one, other = dict(figures(before)), dict(figures(after))
    scale = sum(abs(w.equity_before_usd) for w in before.wallets) + before.totals["repaid_usd"]
    assert one.keys() == other.keys()
    assert one == {k: pytest.approx(v, rel=1e-9, abs=1e-11 * scale) for k, v in other.items()}


def crowd(accounts: int, rule: str) -> Book:
    """497 pools against dollars, three collaterals at most an account, one bonus for all."""
    rng, n = np.random.default_rng(3), 498
    counts = rng.integers(1, 4, accounts)
    start = np.concatenate([[0], np.cumsum(counts + 1)]).astype(np.int64)
    price, threshold = np.append(1.0, rng.lognormal(2, 2, n - 1)), np.append(rng.uniform(0.7, 0.86, n), 0.0)
    asset = np.append(np.arange(n), 0).astype(np.int32)
    debt = np.arange(n + 1) == n
    term, amount = np.empty(start[-1], np.int32), np.empty(start[-1])
    for i, k in enumerate(counts.tolist()):
        held, usd = rng.choice(np.arange(1, n), k, replace=False), rng.pareto(1.2, k) * 2_000 + 100
        legs = slice(start[i], start[i + 1])
        term[legs] = np.append(held, n)
        amount[legs] = np.append(usd / price[held], float(usd @ threshold[held]) / rng.uniform(1.02, 3.0))
    units = 3 * np.bincount(asset[term], np.where(debt[term], 0.0, amount), n) + 1
    names = tuple(f"a{i:03}" for i in range(n))
    oracles = [(0, i, 1.0, 0, np.inf, np.nan) for i in range(n)]
    terms = [(0, a, a, d, t, 0.0 if d else 0.05, 0.0, True) for a, d, t in zip(asset, debt, threshold, strict=True)]
    return Book(
        assets=names,
        symbols=names,
        price_usd=price,
        cash=np.arange(n) == 0,
        markets=("m",),
        rules=(rule,),
        holders=tuple(f"h{i:06}" for i in range(accounts)),
        account_market=np.zeros(accounts, np.int32),
        account_holder=np.arange(accounts, dtype=np.int32),
        leg_start=start,
        leg_term=term,
        leg_amount=amount,
        terms=table(Terms, terms),
        oracles=table(Oracles, oracles),
        pools=tuple(
            Pool.constant_product(f"p{i}", i, 0, float(units[i]), float(units[i] * price[i]), 0.003)
            for i in range(1, n)
        ),
    )


@pytest.mark.parametrize(
    ("accounts", "rule"),
    [
        (4_000, "aave_v3@3.6"),
        pytest.param(20_000, "aave_v3@3.6", marks=pytest.mark.slow),
        pytest.param(20_000, "compound_v2@1", marks=pytest.mark.slow),
        pytest.param(100_000, "morpho_blue@1", marks=pytest.mark.slow),
    ],
)
def test_a_book_of_thousands_does_not_turn_on_the_last_digits_of_a_shock(accounts: int, rule: str) -> None:
    """-0.5 and -0.5000000000001; grouped by their last digits, calls moved prices by 6 %, their sum by 0.05 %."""
    book = crowd(accounts, rule)

    def after(fall: float) -> Cascade:
        return cascade(book, Scenario("s", price=dict.fromkeys(book.assets[1:], -fall), conventions=Conventions()))

    one, other = after(0.5), after(0.5000000000001)
    assert one.state.calls.tolist() == other.state.calls.tolist()
    assert float(other.state.seized_usd.sum()) == pytest.approx(float(one.state.seized_usd.sum()), rel=1e-9)
    assert other.bad_debt_usd == pytest.approx(one.bad_debt_usd, rel=1e-9)
    np.testing.assert_allclose(other.state.value_usd, one.state.value_usd, rtol=1e-9)


def test_neither_a_big_number_walk_nor_another_search_for_a_root_moves_a_cascade(monkeypatch: Any) -> None:
    """What pools pay in fractions, and the margin of a wave by golden section: once either moved prices by 3 %."""
    book = crowd(2_000, "aave_v3@3.6")
    scenario = Scenario("s", price=dict.fromkeys(book.assets[1:], -0.5), conventions=Conventions())

    def in_fractions(bids: Bids, units: float) -> np.ndarray[Any, Any]:
        depth, root, sold = (Fraction(float(x)) for x in (bids.curve.liquidity[0], bids.root, units))
        return np.array([float(sold * root * root / (1 + sold * root / depth))])

    def golden(falling: Callable[[float], float], low: float, high: float) -> float:
        if falling(high) >= 0.0:
            return high
        while low < (middle := low + 0.38196601125 * (high - low)) < high:
            low, high = (middle, high) if falling(middle) >= 0.0 else (low, middle)
        return low

    plain = cascade(book, scenario)
    monkeypatch.setattr(Bids, "paid", in_fractions)
    monkeypatch.setattr(afford, "crossing", golden)
    other = cascade(book, scenario)
    assert other.state.calls.tolist() == plain.state.calls.tolist()
    assert other.bad_debt_usd == pytest.approx(plain.bad_debt_usd, rel=1e-12)
    np.testing.assert_allclose(other.state.value_usd, plain.state.value_usd, rtol=1e-12)


# edges that a result lists


def edge_of(w: World, kind: str, rules: Conventions | None = None, /, **blow: Any) -> list[tuple[str, str, str, float]]:
    result = stress_result(run(w, rules, **blow), Scenario("s"))
    found = [(e.account, e.market, e.asset, e.off) for e in result.edges if e.kind == kind]
    assert result.edge_counts.get(kind, 0) == len(found)
    return found


def one_account(rule: str, collateral: float, debt: float, **blow: Any) -> World:
    w = World().pool("P", "X", 1e6, 1e9).lending("M", rule, "X", 0.8, 0.05)
    return w.account("a", "M", X=collateral, USD=debt)


@pytest.mark.parametrize(
    ("rule", "debt", "collateral"),
    [
        ("aave_v3@3.0", 80_000.0, 95.0),  # health 0.95: half or all
        ("aave_v3@3.6", 80_000.0, 95.0),
        ("aave_v3@3.6", 2_000.0, 2.4),  # a side of 2,000: half or all
    ],
)
def test_a_step_of_a_rule_is_listed_where_an_account_stands_on_it(rule: str, debt: float, collateral: float) -> None:
    for wobble in (0.0, 3e-10, -3e-10):
        (found,) = edge_of(one_account(rule, collateral, debt * (1 + wobble)), "step", conventions(max_rounds=1))
        assert found[:2] == ("a", "M")
    for wobble in (1e-6, -1e-6):
        assert not edge_of(one_account(rule, collateral, debt * (1 + wobble)), "step", conventions(max_rounds=1))


def test_health_of_one_and_the_end_of_a_pool_and_a_profit_of_nought_are_listed() -> None:
    (found,) = edge_of(one_account("morpho_blue@1", 100.0, 80_000.0), "health")
    assert found == ("a", "M", "", 0.0)
    assert not edge_of(one_account("morpho_blue@1", 100.0, 80_000.0 * (1 - 1e-6)), "health")
    for wobble, listed in ((0.0, True), (1e-6, False)):
        w = one_account("morpho_blue@1", 100.0, 81_000.0)
        step = 1e4 * (1 / 0.9 - 1.0) / np.sqrt(1_000.0)  # what a range down to 0.9 of the root holds
        edges = np.array([0.9, 2.0]) * np.sqrt(1_000.0)
        liquidity = 81_000.0 * 1.05 / 1_000.0 / step * 1e4 * (1 + wobble)
        w.pools = [Pool("P", w.asset["X"], 0, float(np.sqrt(1_000.0)), edges, np.array([liquidity]))]
        assert [a for _, _, a, _ in edge_of(w, "pool", conventions(max_rounds=1))] == ["X"] * listed
        fee = 1.0 - (1.0 + wobble) / 1.05
        w = World().pool("P", "X", 1e6, 1e9, fee=fee).lending("M", "morpho_blue@1", "X", 0.8, 0.05)
        w.account("a", "M", X=100.0, USD=81_000.0)
        assert [e[:3] for e in edge_of(w, "profit", conventions(profit=True))] == [("a", "M", "X")] * listed


@pytest.mark.parametrize("rule", ["morpho_blue@1", "comet@1"])
def test_a_debt_that_costs_nothing_is_repaid_and_stands_on_no_edge(rule: str) -> None:
    """D is worth nothing; the market's own price still says one dollar."""
    w = World().pool("P", "X", 1e6, 1e9).pool("Q", "Y", 1e6, 1e9)
    w.add_asset("D", 1.0, cash=True)
    for asset in ("X", "Y"):
        w.lending("M", rule, asset, 0.8, 0.05, debt="D", storefront=0.5)
    debt = next(i for i, row in enumerate(w.rows["oracles"]) if row[1] == w.asset["D"])
    w.rows["oracles"][debt] = (CONSTANT, *w.rows["oracles"][debt][1:3], w.asset["USD"], *w.rows["oracles"][debt][4:])
    w.account("a", "M", X=10, Y=10, D=19_000)
    r = run(w, conventions(profit=True), price={"D": -1.0})
    assert int(r.state.calls[0]) >= 1
    assert not [e for e in stress_result(r, Scenario("s")).edges if e.kind == "profit"]


def test_edges_are_bounded_in_number_and_counted_in_full() -> None:
    w = World().pool("P", "X", 1e6, 1e9).lending("M", "morpho_blue@1", "X", 0.8, 0.05)
    for i in range(50):
        w.account(f"a{i:02}", "M", X=10.0 + i, USD=(10.0 + i) * 800.0 * (1.0 - i * 1e-11))
    result = stress_result(run(w), Scenario("s"))
    assert result.edge_counts == {"health": 50}
    assert [e.account for e in result.edges] == [f"a{i:02}" for i in range(20)]
    assert [e.off for e in result.edges] == [pytest.approx(i * 1e-11, abs=1e-15) for i in range(20)]
