"""Options and perps read from real bytecode through the cascade: every leg repriced, every close by the exact rule."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from aggregator import graph
from aggregator.core.block import Cut
from aggregator.core.fixed import Fixed
from aggregator.core.ids import USD
from aggregator.core.rows import Asset, OptionLeg, Price, Row, Term
from aggregator.core.scenario import Scenario
from aggregator.core.table import raw_tables
from aggregator.engine import stress
from aggregator.engine.load import from_snapshot
from aggregator.engine.run import Cascade, cascade
from aggregator.quant import black
from aggregator.rules import get
from aggregator.sdk.registry import load_adapters
from aggregator.snapshot import Snapshot, build
from aggregator.snapshot.accounts import account
from tests.adapters.reading import at_address, read
from tests.devnet.worlds import World

ADAPTERS = ("aave_v3", "morpho_blue", "erc4626", "uniswap_v3", "lyra_v1", "perp_curie")
Facts = tuple[list[tuple[str, Row]], Cut]


@pytest.fixture
async def facts(three_chains_world: World) -> Facts:
    """Everything that stands on the three chains, in one cut."""
    rows: list[tuple[str, Row]] = []
    blocks = {}
    for d in three_chains_world.deployments:
        if d.adapter in ADAPTERS:
            where = at_address(d.adapter, d.chain, d.addresses, d.name)
            found = await read(load_adapters()[d.adapter], three_chains_world.chains[d.chain], where)
            rows += [(where.id, row) for row in found.rows]
            blocks[found.at.source] = found.at
    return rows, Cut.of(list(blocks.values()))


def snapshot(facts: Facts, *, quoted: bool = True) -> Snapshot:
    """quoted: with a price for sUSD, in which Lyra's options are quoted and for which the chain has no feed."""
    rows, cut = facts
    assets = {row.id: row for _, row in rows if isinstance(row, Asset)}
    susd = next(a.id for a in assets.values() if a.symbol == "sUSD")
    more: list[tuple[str, Row]] = []
    if quoted:
        more.append(("eip155:10/feeds/main", Price("", susd, USD, 10**8, 8, "feed", 0, 0)))
    return build(raw_tables([*rows, *more]), cut, list(assets.values()))


def only(facts: Facts, kind: type[Row]) -> list[Row]:
    return [row for _, row in facts[0] if isinstance(row, kind)]


def test_legs_without_a_price_of_their_quote_are_a_gap(facts: Facts) -> None:
    book = from_snapshot(snapshot(facts, quoted=False))
    assert len(book.options.size) == 0
    (gap,) = [g for g in book.gaps if "/lyra_v1/" in g.subject]
    assert gap.reason == "unpriced_options"
    assert gap.accounts == len(live_legs(snapshot(facts)))


def live_legs(snap: Snapshot) -> list[OptionLeg]:
    return [row for row in snap.rows("option") if row.expiry_s > snap.time_s(row.market)]


def test_every_leg_is_repriced_in_full_and_the_pool_is_the_other_side(facts: Facts) -> None:
    snap = snapshot(facts)
    fall, more_vol = -0.3, 0.25
    run = cascade(from_snapshot(snap), Scenario("s", price={"sETH": fall}, vol={"sETH": more_vol}))
    d, book = run.derivatives, run.book
    o, margin = book.options, book.options.margin_units * run.state.value_usd[book.options.margin_asset]
    found = sorted(zip(*(x.tolist() for x in (o.size, o.strike, d.leg_pnl_usd, margin)), strict=True))
    expected = []
    for row in live_legs(snap):
        terms = {t.key: t for t in snap.rows("term", market=row.market, asset=row.underlying)
                 if t.scope == f"series:{row.expiry_s}:{row.strike}"}  # fmt: skip
        (spot,) = [p.raw / 1e18 for p in snap.rows("price", market=row.market, asset=row.underlying)]
        (rate,) = [t.raw / 1e18 for t in snap.rows("term", market=row.market) if t.key == "rate_and_carry"]
        right, years = (1 if row.right == "C" else -1), (row.expiry_s - snap.time_s(row.market)) / 31_536_000
        vol, strike, size = terms["iv"].raw / 1e18, row.strike / 1e18, row.size / 1e18
        before = float(black.price(right, spot, strike, years, vol, rate))
        after = float(black.price(right, spot * (1 + fall), strike, years, vol + more_vol, rate))
        expected.append((size, strike, size * (after - before)))
    assert len(expected) > 10
    ((_, fees),) = book.option_fees
    kept = ~d.bought_back[np.lexsort((d.leg_pnl_usd, book.options.strike, book.options.size))]
    assert kept.sum() > 10
    assert d.bought_back.any()
    for (size, strike, pnl, held), (size_x, strike_x, pnl_x), whole in zip(found, sorted(expected), kept, strict=True):
        assert (size, strike) == (size_x, strike_x)
        if whole:
            assert pnl == pytest.approx(pnl_x, rel=1e-9, abs=1e-9)
        else:
            assert pnl >= pnl_x - max(fees.least_quote, fees.penalty_frac * held) - 1e-9  # beside the move, the fee
    hedge = float((book.option_pools.hedge_units * d.spot_before).sum()) * fall
    assert float(d.pool_pnl_usd.sum()) == pytest.approx(hedge - float(d.leg_pnl_usd.sum()) - d.fees_usd, rel=1e-12)
    assert run.conservation["largest_round_error"] <= 1e-12 * 1e9  # of the world's billion dollars


def test_the_premium_at_the_cut_is_the_pools_own(facts: Facts) -> None:
    """Lyra's cached price of the series: same spot, volatility and rate, at the time the cache was last filled."""
    book = from_snapshot(snapshot(facts))
    d = cascade(book, Scenario("s")).derivatives
    snap = snapshot(facts)
    cached = {
        (t.scope, t.key): t.raw / 1e18
        for t in only(facts, Term)
        if isinstance(t, Term) and t.scope.startswith("series:")
    }
    own = {
        (
            row.strike / 1e18,
            (row.expiry_s - snap.time_s(row.market)) / 31_536_000,
        ): f"series:{row.expiry_s}:{row.strike}"
        for row in live_legs(snap)
    }
    compared = 0
    for i, (right, strike, years) in enumerate(
        zip(book.options.right, book.options.strike, book.options.expiry_yr, strict=True)
    ):
        price = cached[own[float(strike), float(years)], "call_price" if right > 0 else "put_price"]
        if price > 1.0:
            assert float(d.before[i]) == pytest.approx(price, rel=1e-3)
            compared += 1
    assert compared > 5


def perps(snap: Snapshot, **price: float) -> tuple[Cascade, list[bool]]:
    """The cascade, and for each of its perp accounts whether the exact rule closes it at the shocked marks."""
    run = cascade(from_snapshot(snap), Scenario("s", price=price))
    book, rule = run.book, get("perp_curie@1")
    assert rule is not None
    out = []
    symbols = {a.id: a.symbol for a in snap.assets.values()}
    for m, h in zip(book.perp_accounts.market, book.perp_accounts.holder, strict=True):
        exact = account(snap, book.markets[m], book.holders[h])
        legs = []
        for leg in exact.legs:
            move = 1.0 + price.get(symbols[leg.asset], 0.0)
            raw = round(leg.price.raw * move) if leg.price else 0
            legs.append(leg._replace(price=Fixed(raw, leg.price.exp)) if leg.price else leg)
        out.append(rule.judge(exact._replace(legs=tuple(legs))).liquidatable)
    return run, out


@pytest.mark.parametrize("fall", [0.0, -0.1, -0.25, 0.2])
def test_traders_below_maintenance_are_those_of_the_exact_rule(facts: Facts, fall: float) -> None:
    run, due = perps(snapshot(facts), vETH=fall, vBTC=fall)
    assert len(due) > 10
    d = run.derivatives
    assert (d.closed | d.refused).tolist() == due
    assert any(due) == bool(d.closed.any())


def test_what_traders_cannot_pay_is_the_funds_and_beyond_it_the_venue_refuses(facts: Facts) -> None:
    rows, cut = facts
    small = [(w, row._replace(raw=10**10) if getattr(row, "key", "") == "insurance_fund_capacity" else row)
             for w, row in rows]  # fmt: skip
    run, _ = perps(snapshot((small, cut)), vETH=-0.9, vBTC=-0.9)
    d = run.derivatives
    assert 0.0 < float(d.shortfall_usd.sum()) == pytest.approx(float(d.fund_paid_usd.sum()), rel=1e-12)
    assert d.charged_usd.sum() == d.uncovered_usd.sum() == 0.0
    assert d.refused.any()
    assert (d.equity_usd[d.refused] < 0.0).all()
    assert run.conservation["largest_round_error"] <= 1e-12 * 1e9


SHOCK = {"price": {"WETH?": -0.4, "sETH": -0.4, "vETH": -0.4, "vBTC": -0.3}, "vol": {"sETH": 0.2}}
PROGRAM = """
import hashlib, json, pickle, sys
from aggregator import graph
from aggregator.core.scenario import Scenario
from aggregator.engine import stress
from tests.engine.test_real_derivatives import snapshot
facts, shock = pickle.load(open(sys.argv[1], "rb"))
snap = snapshot(facts)
print(hashlib.sha256(stress(snap, graph.build(snap), Scenario("s", **shock)).json()).hexdigest())
"""


def test_the_same_bytes_whatever_the_hash_seed_and_the_threads(facts: Facts, tmp_path: Path) -> None:
    kept = tmp_path / "facts.pickle"
    kept.write_bytes(pickle.dumps((facts, SHOCK)))
    snap = snapshot(facts)
    result = stress(snap, graph.build(snap), Scenario("s", price=SHOCK["price"], vol=SHOCK["vol"]))
    assert result.totals["liquidated_accounts"] > 0
    assert result.totals["perp_accounts_closed"] > 0
    here = hashlib.sha256(result.json()).hexdigest()
    root = Path(__file__).parents[2]

    def run(seed_and_threads: tuple[str, str]) -> subprocess.CompletedProcess[str]:
        seed, threads = seed_and_threads
        env = os.environ | {"PYTHONHASHSEED": seed, "NUMBA_NUM_THREADS": threads, "PYTHONPATH": str(root)}
        command = [sys.executable, "-c", PROGRAM, str(kept)]
        return subprocess.run(command, env=env, cwd=root, capture_output=True, text=True, check=False)

    with ThreadPoolExecutor() as at_once:
        for done in at_once.map(run, (("0", "1"), ("4711", "2"))):
            assert done.returncode == 0, done.stderr
            assert done.stdout.strip() == here
    assert json.loads(result.json())["convergence"]["converged"]
