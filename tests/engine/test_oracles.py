"""Oracles of a snapshot: without a blow nothing moves; a rate follows what the claim stands for; caps are of a ratio.

Expected answers are exact fractions of the inputs, or the exact rule's own judgement of the same account.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.core.fixed import RAY, WAD
from aggregator.core.ids import USD
from aggregator.core.rows import AccountTerm, Asset, Claim, Exposure, Index, Market, Price, Row, Term
from aggregator.core.scenario import Conventions, Scenario
from aggregator.engine import equity
from aggregator.engine.blow import blow_of
from aggregator.engine.book import Book
from aggregator.engine.load import from_snapshot
from aggregator.engine.run import Cascade, cascade
from aggregator.engine.state import State
from aggregator.rules import get
from aggregator.snapshot import Snapshot
from aggregator.snapshot.accounts import account
from tests.engine.test_load import snapshot
from tests.engine.worlds import World, run

ETH, LST, WRAP, DAI = (f"eip155:1/erc20:0x{n:040x}" for n in (21, 22, 23, 24))
RULES = {"aave_v3@3.6": "aave_v3", "aave_v3@3.0": "aave_v3", "compound_v2@1": "compound_v2", "morpho_blue@1": "blue"}
PATHS = ("live", "feed", "lagged", "rate", "capped", "constant")


def decimal(x: Fraction | float | str) -> Fraction:
    return Fraction(str(x))


def market(
    rule: str, asset: str, oracle_usd: str, path: str, debt: str, more: list[Row] | None = None, units: int = 1
) -> list[Row]:
    """Alice posts `units` of the asset, threshold 0.93, and owes so many DAI; the oracle answers in dollars."""
    m = f"eip155:1/{RULES[rule]}/m"
    places = {"aave_v3": 8, "compound_v2": 18, "blue": 36}[RULES[rule]]
    raw = decimal(oracle_usd) * 10**places
    assert raw.denominator == 1
    loan_raw = int(decimal(debt) * WAD)
    out: list[Row] = [
        Market(m, "lending", rule, "m"),
        Price(m, asset, DAI if rule.startswith("morpho") else USD, int(raw), places, path, 0, 0),
        Exposure(m, "alice", "", asset, "collateral", units * WAD),
        Exposure(m, "alice", "", DAI, "debt", loan_raw),
        Exposure(m, "carol", "", DAI, "supply", 10 * loan_raw),
        *(more or []),
    ]
    one = 1
    if rule.startswith("aave"):
        out += [Term(m, "", "", "base_unit_exp", 8, 0), Price(m, DAI, USD, 10**8, 8, "feed", 0, 0)]
        terms = {
            "ltv_bps": 9_000,
            "liquidation_threshold_bps": 9_300,
            "liquidation_bonus_bps": 10_500,
            "liquidation_protocol_fee_bps": 0,
            "emode_category": 0,
        }
        out += [Term(m, a, "", k, v, 0) for a in (asset, DAI) for k, v in terms.items()]
        out += [Term(m, a, "", "reserve_id", i, 0) for i, a in enumerate((asset, DAI))]
        one = RAY
    elif rule.startswith("compound"):
        out += [Price(m, DAI, USD, WAD, 18, "feed", 0, 0), Term(m, asset, "", "collateral_factor_wad", 93 * 10**16, 18)]
        out += [Term(m, "", "", "close_factor_wad", WAD // 2, 18)]
        out += [Term(m, "", "", "liquidation_incentive_wad", 108 * 10**16, 18)]
    else:
        out += [Term(m, "", "", "lltv_wad", 93 * 10**16, 18)]
        one = 20 * loan_raw  # the rule reads its totals out of the index
    out += [Index(m, a, s, one, one, "down") for a, s in ((asset, "collateral"), (DAI, "debt"), (DAI, "supply"))]
    return out


def claims(rate: str, feed: str | None, wrap: str = "1") -> list[Row]:
    """1 LST stands for `rate` ETH at 2000 and trades at `feed`; 1 WRAP is `wrap` LST."""
    out: list[Row] = [Asset(a, s, 18) for a, s in ((ETH, "ETH"), (LST, "LST"), (WRAP, "WRAP"), (DAI, "DAI"))]
    out += [Price("", ETH, USD, 2000 * 10**8, 8, "feed", 0, 0), Price("", DAI, USD, 10**8, 8, "feed", 0, 0)]
    steps = ((LST, ETH, "lst", rate), (WRAP, LST, "vault", wrap))
    out += [Claim(a, under, kind, int(decimal(num) * WAD), WAD, "") for a, under, kind, num in steps]
    if feed is not None:
        out.append(Price("", LST, USD, int(decimal(feed) * 10**18), 18, "feed", 0, 0))
    return out


def exact_health(snap: Snapshot, market: str, who: str = "alice") -> float:
    judged = account(snap, market, who)
    rule = get(judged.rule)
    assert rule is not None
    health = rule.judge(judged).health_factor
    return np.inf if health is None else health / 1e18


def answers(snap: Snapshot, **blow: Any) -> tuple[Book, list[float]]:
    book = from_snapshot(snap)
    return book, State(book, blow_of(book, Scenario("s", **blow))).answers().tolist()


def of_asset(snap: Snapshot, asset: str, **blow: Any) -> float:
    """What the one oracle of this asset's collateral answers after a blow."""
    book, found = answers(snap, **blow)
    (at,) = (o for o, source in enumerate(book.oracles.source.tolist()) if book.assets[source] == asset)
    return found[at]


def unmoved(snap: Snapshot) -> Cascade:
    """The law: an empty scenario changes no oracle, no health, no value, no worth, not by a bit."""
    book = from_snapshot(snap)
    state = State(book, blow_of(book, Scenario("nothing")))
    assert state.answers().tolist() == state.answers_at_cut().tolist()
    assert state.value_usd.tolist() == state.cut_usd.tolist()
    run = cascade(book, Scenario("nothing", conventions=Conventions(max_rounds=5)))
    if not (run.state.calls.any() or run.derivatives.bought_back.any() or run.derivatives.closed.any()):
        assert run.health_after.tolist() == run.health_before.tolist()
        assert run.state.value_usd.tolist() == state.cut_usd.tolist()
        at_cut, now = equity.at_cut(run.state, run.derivatives), equity.now(run.state, run.derivatives)
        assert equity.equity_usd(book, now).tolist() == equity.equity_usd(book, at_cut).tolist()
        assert (len(run.rounds), run.convergence.converged) == (1, True)
    return run


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("units", [1, 1_000_000])
def test_a_rate_oracle_of_a_claim_that_trades_below_its_backing_stands_still(rule: str, units: int) -> None:
    snap = snapshot([*claims("1.18", "2124"), *market(rule, LST, "2360", "rate", str(1880 * units), units=units)])
    found = unmoved(snap)
    assert found.health_after.tolist() == [pytest.approx(2360 * 0.93 / 1880, rel=1e-12)]  # 1.16745
    assert of_asset(snap, LST, price={"ETH": -0.1}) == pytest.approx(2124, rel=1e-12)
    assert of_asset(snap, LST, depeg={"LST": 0.5}) == pytest.approx(2360, rel=1e-12)  # it does not see the market
    live = snapshot([*claims("1.18", "2124"), *market(rule, LST, "2360", "live", "1880")])
    assert of_asset(live, LST, depeg={"LST": 0.5}) == pytest.approx(2360 / 2124 * 1180, rel=1e-12)


@st.composite
def books(draw: st.DrawFn) -> list[Row]:
    """A healthy account on a claim one or two steps from ETH, with or without feeds off their backing, any path."""
    digits = st.integers(10**5, 10**7).map(lambda n: f"{n / 10**6:.6f}")
    rate, wrap, off = draw(digits), draw(digits), draw(st.sampled_from(["0.5", "0.9", "0.999999999", "1", "1.1", "3"]))
    feed = str(float(2000 * decimal(rate) * decimal(off))) if draw(st.booleans()) else None
    asset, path = draw(st.sampled_from([LST, WRAP])), draw(st.sampled_from(PATHS))
    rule = draw(st.sampled_from(sorted(RULES)))
    oracle = f"{draw(st.integers(10**8, 10**12)) / 10**8:.8f}"
    units = draw(st.sampled_from([1, 10**6]))
    debt = f"{float(decimal(oracle)) * units * 0.9:.8f}"
    rows = [*claims(rate, feed, wrap), *market(rule, asset, oracle, path, debt, units=units)]
    if rule == "aave_v3@3.0" and draw(st.booleans()):  # an e-mode with a price of its own
        m = "eip155:1/aave_v3/m"
        terms = {
            "ltv_bps": 9_300,
            "liquidation_threshold_bps": 9_500,
            "liquidation_bonus_bps": 10_100,
            "price_source": 99,
            "price": draw(st.integers(10**8, 10**13)),
        }
        rows = [r._replace(raw=1) if isinstance(r, Term) and r.key == "emode_category" else r for r in rows]
        rows += [Term(m, "", "emode:1", k, v, 0) for k, v in terms.items()]
        rows += [AccountTerm(m, "alice", "", "emode", 1)]
    if draw(st.booleans()):
        m = next(r.market for r in rows if isinstance(r, Market))
        ratio = {"ratio_snapshot": draw(st.integers(10**17, 10**19)), "ratio_growth_per_s": draw(st.integers(0, 10**9))}
        rows += [Term(m, asset, "", k, v, 18) for k, v in ratio.items()]
        rows += [Term(m, asset, "", "ratio_snapshot_s", 1_749_000_000, 0)]
    return rows


@settings(max_examples=150, deadline=None)
@given(books())
def test_an_empty_scenario_changes_nothing(rows: list[Row]) -> None:
    snap = snapshot(rows)
    found = unmoved(snap)
    exact = exact_health(snap, found.book.markets[0])
    assert found.health_before[0] == pytest.approx(exact, rel=1e-7, abs=1e-9)  # the rule's own integers round


def ratio_terms(m: str, **terms: str) -> list[Row]:
    """The parameters of a cap on a ratio, at 18 places; times in seconds."""
    places = {k: 0 if k.endswith("snapshot_s") else 18 for k in terms}
    return [Term(m, LST, "", k, int(decimal(v) * 10 ** places[k]), places[k]) for k, v in terms.items()]


NOW_S = 1_750_000_000
SLOW = {"ratio_snapshot_s": str(NOW_S - 10**6), "ratio_growth_per_s": "0.00000002"}
AHEAD = {"ratio_snapshot_s": str(NOW_S + 99), "ratio_growth_per_s": "1"}


@pytest.mark.parametrize("move", ["-0.1", "0.1", "-0.5", "0"])
@pytest.mark.parametrize(
    ("path", "terms", "ratio", "cap"),
    [
        ("rate", {"ratio_snapshot": "1.1730352"}, "1.18", "1.1730352"),
        ("capped", {"ratio_snapshot": "1.1730352"}, "1.18", "1.1730352"),
        ("capped", {}, "1.18", "1.1730352"),  # nobody says at what ratio: that of its answer
        ("rate", {"ratio": "1.2285", "ratio_snapshot": "1.15", **SLOW}, "1.2285", "1.17"),
        ("rate", {"ratio_snapshot": "1.25"}, "1.18", "1.25"),  # it does not bind
        ("rate", {"ratio_snapshot": "1.1", **AHEAD}, "1.18", "1.1"),
    ],
)
@pytest.mark.parametrize("rule", RULES)
def test_a_cap_on_a_ratio_moves_with_the_underlying(
    rule: str, path: str, terms: dict[str, str], ratio: str, cap: str, move: str
) -> None:
    counted = min(decimal(ratio), decimal(cap))
    more = ratio_terms(f"eip155:1/{RULES[rule]}/m", **terms)
    rows = market(rule, LST, str(float(counted * 2000)), path, "1000", more)
    snap = snapshot([*claims("1.18", None), *rows])
    unmoved(snap)
    assert of_asset(snap, LST) == pytest.approx(float(counted * 2000), rel=1e-12)
    moved = 2000 * (1 + decimal(move))
    assert of_asset(snap, LST, price={"ETH": float(move)}) == pytest.approx(float(counted * moved), rel=1e-12)


@pytest.mark.parametrize("lost", ["0", "0.001", "0.01", "0.3"])
@pytest.mark.parametrize("move", ["0", "-0.1"])
def test_below_its_cap_a_ratio_falls_with_what_the_claim_has_lost(lost: str, move: str) -> None:
    """min(1.18 * (1 - lost), 1.1730352) * ETH: the cap hides a small loss and not a large one."""
    w = World()
    w.add_asset("ETH", 2000.0)
    w.lending("LENT", "", "USD", 0.0, 0.0, debt="ETH", supply=1000.0, shock=1000.0 * float(lost))
    w.claim("LST", "ETH", 1.18, "LENT")
    w.lending("M", "morpho_blue@1", "LST", 0.93, 0.03, path="rate", cap=1.1730352, cap_of="ETH", supply=1e6)
    w.account("alice", "M", LST=1.0, USD=100.0)
    expected = min(decimal("1.18") * (1 - decimal(lost)), decimal("1.1730352")) * 2000 * (1 + decimal(move))
    found = run(w, price={"ETH": float(move)})
    assert float(found.health_after[0]) == pytest.approx(float(expected) * 0.93 / 100, rel=1e-12)


@pytest.mark.parametrize(
    ("market_usd", "cap", "answer", "moves"),
    [
        ("1", "1.04", "1", {"0.1": "1.04", "0.03": "1.03", "-0.1": "0.9"}),
        ("1", None, "1", {"0.1": "1", "-0.1": "0.9"}),  # nobody says at what price: that of its answer
        ("1.1", "1.04", "1.04", {"-0.02": "1.04", "-0.1": "0.99", "0.5": "1.04"}),
        ("0.98", "1.04", "1", {"0.01": "1.01", "0.1": "1.04"}),  # 2 % above its market, and so it stays
    ],
)
def test_a_cap_on_a_price_stays_a_cap_in_dollars(
    market_usd: str, cap: str | None, answer: str, moves: dict[str, str]
) -> None:
    m = "eip155:1/aave_v3/m"
    more: list[Row] = [Term(m, LST, "", "price_cap", int(decimal(cap) * 10**8), 8)] if cap else []
    coin = [r for r in claims("1", market_usd) if not isinstance(r, Claim)]
    snap = snapshot([*coin, *market("aave_v3@3.6", LST, answer, "capped", "0.1", more)])
    unmoved(snap)
    for move, expected in moves.items():
        at = decimal(answer) / min(decimal(market_usd), decimal(cap or answer)) * decimal(market_usd)
        exact = min(at * (1 + decimal(move)), decimal(cap or answer))
        assert exact == pytest.approx(decimal(expected), rel=1e-2)
        assert of_asset(snap, LST, price={"LST": float(move)}) == pytest.approx(float(exact), rel=1e-12)


def test_an_exchange_rate_that_no_claim_explains_is_said() -> None:
    rows = [r for r in claims("1.18", "2124") if not isinstance(r, Claim)]
    capped = ratio_terms("eip155:1/aave_v3/m", ratio_snapshot="1.1730352")
    snap = snapshot([*rows, *market("aave_v3@3.6", LST, "2346.0704", "rate", "1000", capped)])
    unmoved(snap)
    assert [(g.subject, g.reason) for g in from_snapshot(snap).gaps] == [("eip155:1/aave_v3/m", "no_rate")]


def test_a_claim_that_trades_though_it_stands_for_nothing_keeps_its_price_and_says_so() -> None:
    rows = [r._replace(raw=0) if isinstance(r, Price) and r.asset == ETH else r for r in claims("1.18", "5")]
    snap = snapshot([*rows, *market("aave_v3@3.6", LST, "5", "rate", "1")])
    unmoved(snap)
    assert of_asset(snap, LST, price={"LST": -0.5}) == 2.5
    assert {(g.subject, g.reason) for g in from_snapshot(snap).gaps} >= {(LST, "off_backing")}


@pytest.mark.parametrize(
    ("rule", "falls"),
    [
        ("compound_v2@1", False),
        ("aave_v3@3.0", False),
        ("aave_v3@3.2", False),
        ("aave_v3@3.3", False),
        ("aave_v3@3.6", False),
        ("comet@1", False),
        ("morpho_blue@1", True),
    ],
)
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("borrowed", [10.0, 90.0])
def test_an_exchange_rate_falls_where_its_contract_lowers_it(
    rule: str, falls: bool, steps: int, borrowed: float
) -> None:
    """100 of 1,000 lent are lost. Aave's and Comet's rates are indices, Compound's counts what is owed: they stand."""
    w = World()
    w.add_asset("X", 100.0, cash=True)
    w.lending("LENT", rule, "X", 0.8, 0.0, supply=1000.0)
    w.account("bob", "LENT", X=1.0, USD=200.0)
    w.claim("R", "USD", 2.0, "LENT")
    w.claim("S", "R", 1.5)
    held, worth = ("R", 2.0) if steps == 1 else ("S", 3.0)
    w.lending("M", "morpho_blue@1", held, 0.9, 0.02, path="rate", supply=1e6)
    w.account("alice", "M", **{held: 100.0, "USD": borrowed * worth})
    found = run(w)
    assert float(found.state.bad_usd[0]) == pytest.approx(100.0, rel=1e-9)
    assert bool(found.state.calls[1]) == (falls and borrowed == 90.0)  # 0.9 of 90 or of 100 against 90
    if not found.state.calls[1]:
        kept = 0.9 if falls else 1.0
        assert float(found.health_after[1]) == pytest.approx(100 * kept * 0.9 / borrowed, rel=1e-9)
    value = float(found.state.value_usd[found.book.assets.index(held)])
    paid = 1.0 if rule == "comet@1" else 0.9  # what its holder can be paid: Comet's reserves bear the loss
    assert value == pytest.approx(worth * paid, rel=1e-9)
