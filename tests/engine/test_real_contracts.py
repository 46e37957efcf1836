"""The float lane against the exact one, on books read from real bytecode: health of every account, and what the one
call that liquidators would make takes. The exact lane itself is held to the contracts in tests/adapters, tests/rules.
"""

from __future__ import annotations

import numpy as np
import pytest

from aggregator.core.account import Account
from aggregator.core.block import Cut
from aggregator.core.rows import Asset, Row
from aggregator.core.scenario import Scenario
from aggregator.core.table import raw_tables
from aggregator.engine import health
from aggregator.engine.blow import blow_of
from aggregator.engine.book import Book
from aggregator.engine.liquidate import wave
from aggregator.engine.load import from_snapshot
from aggregator.engine.run import cascade
from aggregator.engine.state import State
from aggregator.rules import lending
from aggregator.sdk.registry import load_adapters
from aggregator.snapshot import Snapshot, build
from aggregator.snapshot.accounts import accounts
from tests.adapters.reading import at_address, read
from tests.devnet.worlds import World

ADAPTERS = ("aave_v3", "morpho_blue", "erc4626", "uniswap_v3")
# Amounts and values round to the contract's smallest units; the rest is float64.
ROUNDING, SMALL_USD = 1e-7, 1000.0
Values = np.ndarray[tuple[int], np.dtype[np.float64]]


@pytest.fixture
async def snap(three_chains_world: World) -> Snapshot:
    """Every lending market, vault and pool of the world in one cut."""
    facts: list[tuple[str, Row]] = []
    blocks = {}
    for d in three_chains_world.deployments:
        if d.adapter in ADAPTERS:
            where = at_address(d.adapter, d.chain, d.addresses, d.name)
            found = await read(load_adapters()[d.adapter], three_chains_world.chains[d.chain], where)
            facts += [(where.id, row) for row in found.rows]
            blocks[found.at.source] = found.at
    assets = {row.id: row for _, row in facts if isinstance(row, Asset)}
    return build(raw_tables(facts), Cut.of(list(blocks.values())), list(assets.values()))


def judged(snap: Snapshot, book: Book) -> list[tuple[int, Account]]:
    at = {
        (book.markets[m], book.holders[h]): i
        for i, (m, h) in enumerate(zip(book.account_market, book.account_holder, strict=True))
    }
    return [(at[a.market, a.holder], a) for a in accounts(snap) if (a.market, a.holder) in at]


async def test_health_of_every_account(snap: Snapshot) -> None:
    book = from_snapshot(snap)
    assert book.gaps == ()
    rows = judged(snap, book)
    assert len(rows) == book.accounts > 20
    state = State(book, blow_of(book, Scenario("s")))
    answers = state.answers()
    found = health.sums(book, book.leg_amount, answers)
    edge = set(health.at_edge(book, book.leg_amount, answers, found).tolist())
    assert len(edge) < 5
    compared = 0
    for i, account in rows:
        rule = lending(account.rule)
        assert rule is not None
        exact = rule.judge(account).health_factor
        if exact is None:
            assert found.debt_usd[i] < 1e-7  # none, or less than the smallest unit the market counts in
        elif found.debt_usd[i] > SMALL_USD:
            compared += 1
            assert found.health[i] == pytest.approx(exact / 1e18, rel=ROUNDING)
            if i not in edge:
                assert (found.health[i] < 1.0) == (exact < 10**18)
    assert compared > 10


async def test_the_call_that_liquidators_make(snap: Snapshot) -> None:
    book = from_snapshot(snap)
    state = State(book, blow_of(book, Scenario("s")))
    answers = state.answers()
    sums = health.sums(book, book.leg_amount, answers)
    due = np.flatnonzero((sums.weighted_usd < sums.debt_usd * (1 - ROUNDING)) & (sums.debt_usd > SMALL_USD))
    calls = wave(state, due, answers)
    by_account = {int(a): k for k, a in enumerate(calls.account)}
    compared = 0
    for i, account in judged(snap, book):
        if i not in due:
            continue
        rule = lending(account.rule)
        assert rule is not None
        best = rule.best_liquidation(account)
        if best is None:
            assert i not in by_account
            continue
        k = by_account[i]
        decimals = {leg.asset: leg.decimals for leg in account.legs}
        asset = book.terms.asset[book.leg_term]
        pair = book.assets[asset[calls.collateral[k]]], book.assets[asset[calls.debt[k]]]
        assert pair == (best.collateral, best.debt)
        seized = float(calls.taken.seized_usd[k] / calls.answer_collateral[k])
        repaid = float(calls.taken.repaid_usd[k] / calls.answer_debt[k])
        units = [2.0 / 10 ** decimals[a] for a in pair]  # the contract rounds each amount to its smallest unit
        assert seized == pytest.approx(best.seized * units[0] / 2, rel=1e-6, abs=units[0])
        assert repaid == pytest.approx(best.repaid * units[1] / 2, rel=1e-6, abs=units[1])
        compared += 1
    assert compared > 2


def book_value(
    book: Book, answers: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Market prices as the market's own oracle sees them, as the exact rule ranks pairs by those."""
    value = np.nan_to_num(book.price_usd)
    for term in range(len(book.terms.asset)):
        value[book.terms.asset[term]] = answers[book.terms.oracle[term]]
    return value


async def test_a_shock_conserves_value_on_the_real_book(snap: Snapshot) -> None:
    book = from_snapshot(snap)
    run = cascade(book, Scenario("s", price={"WETH?": -0.4}))
    scale = float((book.leg_amount * run.state.cut_usd[book.terms.asset[book.leg_term]]).sum())
    assert run.conservation["largest_round_error"] <= 1e-12 * scale
    assert run.convergence.converged
    assert int(run.state.calls.sum()) > 0
