"""The joint cascade: a blow, then rounds of valuation, oracles, liquidation, sale and write-down to a fixed point.

A round: (1) claims are valued from above; (2) oracles answer by their path; (3) accounts with weighted collateral below
debt are liquidated by their market's rule, all at the round's opening prices (batch) or one by one at the current ones
(sequential, by health at the round's start); (4) what is seized walks the one depth; (5) perps and options are marked;
(6) bad debt goes through reserves to suppliers and through claims into the next round.
It stops when nothing was liquidated and every oracle equals its source, or at the round limit, and says which.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from aggregator.core.result import Convergence, RoundRecord
from aggregator.core.scenario import Conventions, Scenario
from aggregator.engine import health
from aggregator.engine.blow import Blow, blow_of
from aggregator.engine.book import Book, Flags, Floats, Indices
from aggregator.engine.derivatives import Derivatives
from aggregator.engine.settle import NOTHING, Flow, liquidate
from aggregator.engine.state import SECTORS, State
from aggregator.rules.aave_v3_batch import CLOSE_FACTOR_HF

OnRound = Callable[[int], None]


class First(NamedTuple):
    """Where a round left things: legs, values, accounts written off, pots, options, perps, credits, loss."""

    amount: Floats
    value_usd: Floats
    dead: Flags
    lost_frac: Floats
    leg_pnl_usd: Floats
    perp_equity_usd: Floats
    refund_usd: Floats
    credit_loss_usd: float


@dataclass(frozen=True, eq=False, slots=True)
class Cascade:
    """What a cascade leaves: the final state and its path.

    health_before, health_after (accounts,); conservation: change of net worth by sector since the blow, USD, with
    `total`, `units_times_price_change` and the largest error of any round; beside them the sides of perps and options
    since the cut (`Derivatives.balances`), which the error covers too. unprofitable: due in the last round and left
    alone; at_edge: accounts that stood within float precision of their threshold in some round.
    """

    book: Book
    blow: Blow
    conventions: Conventions
    state: State
    derivatives: Derivatives
    rounds: tuple[RoundRecord, ...]
    convergence: Convergence
    health_before: Floats
    health_after: Floats
    conservation: dict[str, float]
    first: First
    unprofitable: Indices
    at_edge: Indices

    @property
    def liquidation_rounds(self) -> int:
        return sum(r.liquidations > 0 for r in self.rounds)

    @property
    def bad_debt_usd(self) -> float:
        return float(self.state.bad_usd.sum())

    @property
    def shortfall_usd(self) -> float:
        """Unrealised: what collateral at market prices does not cover of debts that nobody has written off."""
        return float(self.state.shortfall_usd().sum())


def cascade(
    book: Book,
    scenario: Scenario,
    *,
    mark_loans: bool = False,
    liquidations: bool = True,
    on_round: OnRound | None = None,
) -> Cascade:
    """Run `scenario` on `book`. Pure: the same inputs give the same bytes.

    mark_loans: suppliers' claims fall with borrowers' unrealised shortfall too, not with bad debt alone.
    liquidations=False only marks. ScenarioError: see `blow_of`; DomainError: prices missing or numbers out of domain.
    """
    blow, rules = blow_of(book, scenario), scenario.conventions
    state = State(book, blow, mark_loans=mark_loans)
    extra = Derivatives(book, state.cut_usd, blow)
    before = health.sums(book, book.leg_amount, _cut_answers(book, state)).health
    sequential = rules.rounds == "sequential"
    start, units = state.sectors(), state.units_total()
    records: list[RoundRecord] = []
    first, refused = _first(state, extra), np.zeros(0, np.int64)
    moved, settled, worst = np.inf, False, 0.0
    edge: set[int] = set()
    judged = np.array([bool(rule) for rule in book.rules], np.bool_)[book.account_market]
    shielded = book.shielded[book.account_market]
    opening_extra = extra.mark(state.value_usd, liquidate=False)
    if state.providers_lost(extra.pool_loss_units(state.value_usd)):
        state.refresh()
    for number in range(1, rules.max_rounds + 1):
        opened, opened_sectors = state.value_usd, state.sectors()
        answers = state.answers()
        sums = health.sums(book, state.amount, answers)
        edge |= set(health.at_edge(book, state.amount, answers, sums).tolist())
        below = (sums.weighted_usd < sums.debt_usd) & ~state.dead & judged
        due = np.flatnonzero(below & ~(shielded & (sums.health >= CLOSE_FACTOR_HF)))
        due = due[np.lexsort((due, sums.health[due]))]
        made = state.calls.copy()
        flow = NOTHING
        if liquidations and len(due):
            flow = _sequential(state, due, rules) if sequential else liquidate(state, due, answers, rules)
        state.first_round[(made == 0) & (state.calls > 0)] = number
        refused = due[state.calls[due] == made[due]]
        settled = state.oracles_settled()
        state.recover(rules.recovery_frac)
        lost_before = state.lost_frac
        state.previous_usd, state.silent = opened, False
        state.refresh()
        pnl = extra.mark(state.value_usd, liquidate=liquidations)
        if state.providers_lost(extra.pool_loss_units(state.value_usd)):
            state.refresh()
        if number == 1:
            pnl += opening_extra
        error = _conservation_error(state, opened_sectors, opened, units)
        error += extra.balances(state.value_usd)["derivatives_error_usd"]
        worst = max(worst, error)
        moved = float(np.max(np.abs(state.value_usd - opened) / np.maximum(opened, 1e-300), initial=0.0))
        written = _written_down(state, lost_before, opened)
        records.append(_record(state, number, flow, written, pnl, error))
        if on_round:
            on_round(number)
        if number == 1:
            first = _first(state, extra)
        if flow.calls == 0 and settled and moved <= _STILL:
            break
    end = state.sectors()
    changes = {s: end[s] - start[s] for s in SECTORS}
    changes["total"] = float(sum(changes[s] for s in SECTORS))
    changes["units_times_price_change"] = float((units * (state.value_usd - state.blow_usd)).sum())
    changes |= extra.balances(state.value_usd)
    changes["largest_round_error"] = worst
    done = flow.calls == 0 and settled and moved <= _STILL
    after = health.sums(book, state.amount, state.answers()).health
    return Cascade(
        book,
        blow,
        rules,
        state,
        extra,
        tuple(records),
        _convergence(state, len(records), moved, done),
        before,
        after,
        changes,
        first,
        refused,
        np.array(sorted(edge), np.int64),
    )


_STILL = 1e-12


def _first(state: State, extra: Derivatives) -> First:
    loss = float(state.bad_usd.sum()) + float(state.shortfall_usd().sum())
    legs = state.amount.copy(), state.value_usd, state.dead.copy(), state.lost_frac
    return First(*legs, extra.leg_pnl_usd, extra.equity_usd, state.refund.copy(), loss)


def _sequential(state: State, due: Indices, rules: Conventions) -> Flow:
    """Each account at the then current prices; one that has become healthy meanwhile is left alone."""
    total = NOTHING
    for account in due.tolist():
        flow = liquidate(state, np.array([account]), state.answers(), rules)
        total = total.plus(flow)
        if flow.calls:
            state.refresh()
        if rules.capacity_accounts and total.calls >= rules.capacity_accounts:
            break
    return total


def _cut_answers(book: Book, state: State) -> Floats:
    """Oracles at the cut, before the blow."""
    value, backing, silent = state.value_usd, state.backing_usd, state.silent
    state.value_usd = state.backing_usd = state.cut_usd
    try:
        return state.answers()
    finally:
        state.value_usd, state.backing_usd, state.silent = value, backing, silent


def _conservation_error(state: State, before: dict[str, float], opened: Floats, units: Floats) -> float:
    """Change of all net worth against units times price change, and units that appeared or vanished, USD."""
    after, now = state.sectors(), state.units_total()
    change = sum(after[s] - before[s] for s in SECTORS) - float((units * (state.value_usd - opened)).sum())
    return abs(change) + float((np.abs(now - units) * opened).sum())


def _written_down(state: State, before: Floats, opened: Floats) -> float:
    """At the prices the round opened with, as the bad debt behind it."""
    pots = state.book.pots
    fell = (state.lost_frac - before) * pots.supply_units * opened[pots.asset]
    return float(fell.sum())


def _record(state: State, number: int, flow: Flow, written: float, pnl: float, error: float) -> RoundRecord:
    named = zip(state.book.assets, state.value_usd.tolist(), state.priced.tolist(), strict=True)
    prices = {asset: usd for asset, usd, priced in named if priced and "/erc721:" not in asset}
    return RoundRecord(
        number=number,
        prices_usd=prices,
        liquidations=flow.calls,
        liquidated_usd=flow.seized_usd,
        repaid_usd=flow.repaid_usd,
        sold_usd=flow.sold_usd,
        bad_debt_usd=flow.bad_debt_usd,
        write_down_usd=written,
        option_pnl_usd=pnl,
        conservation_error_usd=error,
    )


def _convergence(state: State, rounds: int, moved: float, done: bool) -> Convergence:
    gain, cycle = state.look.cycle_gain()
    if gain >= 1.0 - 1e-12:
        why = f"claims stand on each other (gain {gain:.6g}): {', '.join(cycle)}; their value has no answer"
        return Convergence(rounds, max(moved, state.claims_residual), False, why)
    if state.claims_residual > 0.0:
        return Convergence(rounds, state.claims_residual, False, "claims did not settle within 20,000 steps")
    if not done:
        return Convergence(rounds, moved, False, "round limit reached while the cascade still moved")
    return Convergence(rounds, moved, True, "nothing liquidated and every oracle equals its source")
