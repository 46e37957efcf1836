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
from aggregator.engine import equity, health
from aggregator.engine.audit import Audit
from aggregator.engine.blow import Blow, blow_of
from aggregator.engine.book import Book, Floats, Indices
from aggregator.engine.derivatives import Derivatives
from aggregator.engine.settle import NOTHING, Flow, in_turn, liquidate
from aggregator.engine.state import State
from aggregator.engine.ties import near
from aggregator.engine.value import NO_ANSWER_GAIN, cycle_gain
from aggregator.rules.aave_v3_batch import CLOSE_FACTOR_HF

OnRound = Callable[[int], None]
_STILL = 1e-12


@dataclass(frozen=True, eq=False, slots=True)
class Cascade:
    """What a cascade leaves: the final state and its path.

    health_before, health_after (accounts,); conservation: change of net worth by sector since the blow, USD, with
    `total`, `units_times_price_change` and the largest error of any round; beside them the sides of perps and options
    since the cut (`Derivatives.balances`), which the error covers too. first_fall: from the cut to the end of the first
    round. unprofitable: due in the last round and left alone; at_edge: accounts
    that stood within float precision of their threshold in some round.
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
    first_fall: equity.Fall
    unprofitable: Indices
    at_edge: Indices

    @property
    def liquidation_rounds(self) -> int:
        return sum(r.liquidations > 0 for r in self.rounds)

    @property
    def first_credit_loss_usd(self) -> float:
        """Of the first round: what it wrote off, and the shortfall that it left unbooked."""
        return self.rounds[0].credit_loss_usd

    @property
    def bad_debt_usd(self) -> float:
        return float(self.state.bad_usd.sum())

    @property
    def shortfall_usd(self) -> float:
        """Unrealised: what collateral at market prices does not cover of debts that nobody has written off."""
        return float(self.state.shortfall_usd().sum())


class _Round(NamedTuple):
    """refused: accounts that were due and left alone; at_edge: those on whose threshold float64 cannot tell.

    written_usd: suppliers' write-downs, at the prices of the bad debt behind them. moved_frac:
    largest relative move of a value. still: nothing liquidated, no value moved, every oracle equal to its source.
    """

    flow: Flow
    refused: Indices
    at_edge: Indices
    written_usd: float
    option_pnl_usd: float
    moved_frac: float
    still: bool


def cascade(book: Book, scenario: Scenario, *, mark_loans: bool = False, on_round: OnRound | None = None) -> Cascade:
    """Run `scenario` on `book`. Pure: the same inputs give the same bytes.

    mark_loans: suppliers' claims fall with borrowers' unrealised shortfall too, not with bad debt alone.
    ScenarioError: see `blow_of`; DomainError: prices missing or numbers out of domain.
    """
    blow, rules = blow_of(book, scenario), scenario.conventions
    state = State(book, blow, mark_loans=mark_loans)
    extra = Derivatives(book, state.cut_usd, blow)
    before = health.sums(book, book.leg_amount, state.answers_at_cut()).health
    audit = Audit(state, extra)
    pnl = _mark(state, extra, liquidate=False)
    records: list[RoundRecord] = []
    edge: set[int] = set()
    audit.open()
    while True:
        made = _round(state, extra, rules, len(records) + 1)
        edge |= set(made.at_edge.tolist())
        pnl += made.option_pnl_usd
        records.append(_record(state, len(records) + 1, made, pnl, audit.close()))
        pnl = 0.0
        if on_round:
            on_round(len(records))
        if len(records) == 1:
            first = equity.fall(state, extra)
        if made.still or state.claims_residual > 0.0 or len(records) == rules.max_rounds:
            break  # claims without an answer have none in the next round either
    return Cascade(
        book,
        blow,
        rules,
        state,
        extra,
        tuple(records),
        _convergence(state, len(records), made),
        before,
        health.sums(book, state.amount, state.answers()).health,
        audit.changes(),
        first,
        made.refused,
        np.array(sorted(edge), np.int64),
    )


def _round(state: State, extra: Derivatives, rules: Conventions, number: int) -> _Round:
    book, opened, answers = state.book, state.value_usd, state.answers()
    sums = health.sums(book, state.amount, answers)
    at_edge = health.at_edge(book, state.amount, answers, sums)
    due = _due(state, sums, answers, rules)
    state.edges.note("health", at_edge, np.abs(sums.health[at_edge] - 1.0))
    calls = state.calls.copy()
    flow = NOTHING
    if len(due):
        flow = _sequential(state, due, rules) if rules.rounds == "sequential" else liquidate(state, due, answers, rules)
    ends = np.flatnonzero(near(state.depth.off_end))
    state.edges.note("pool", ends, state.depth.off_end[ends])
    state.first_round[(calls == 0) & (state.calls > 0)] = number
    written_usd = state.write_down()
    settled = state.oracles_settled()
    state.recover(rules.recovery_frac)
    state.previous_usd, state.silent = opened, False
    state.refresh()
    pnl = _mark(state, extra, liquidate=True)
    moved = float(np.max(np.abs(state.value_usd - opened) / np.maximum(opened, 1e-300), initial=0.0))
    still = flow.calls == 0 and settled and moved <= _STILL
    return _Round(flow, due[state.calls[due] == calls[due]], at_edge, written_usd, pnl, moved, still)


def _due(state: State, sums: health.Sums, answers: Floats, rules: Conventions) -> Indices:
    """Accounts that their rule lets be called, by rising health, equals as `ties` says."""
    book = state.book
    below = np.flatnonzero((sums.weighted_usd < sums.debt_usd) & ~state.dead)
    below = below[~health.unpriced(book, below, answers)]
    market = book.account_market[below]
    frac = sums.weighted_usd[below] / sums.debt_usd[below]
    open_ = book.judged[market] & ~(book.shielded[market] & (frac >= CLOSE_FACTOR_HF))
    kept = np.flatnonzero(book.shielded[market] & near(frac / CLOSE_FACTOR_HF - 1.0))
    state.edges.note("step", below[kept], np.abs(frac[kept] / CLOSE_FACTOR_HF - 1.0))
    return in_turn(state, below[open_], frac[open_], answers, rules)


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


def _mark(state: State, extra: Derivatives, *, liquidate: bool) -> float:
    """Mark options and perps, and the pots whose pool lost by them; the change of option pools' P&L, USD."""
    pnl = extra.mark(state.value_usd, liquidate=liquidate)
    if state.providers_lost(extra.pool_loss_units(state.value_usd)):
        state.refresh()
    return pnl


def _record(state: State, number: int, made: _Round, pnl_usd: float, error_usd: float) -> RoundRecord:
    named = zip(state.book.assets, state.value_usd.tolist(), state.priced.tolist(), strict=True)
    prices = {asset: usd for asset, usd, priced in named if priced and "/erc721:" not in asset}
    shortfall_usd = float(state.shortfall_usd().sum())
    return RoundRecord(
        number=number,
        prices_usd=prices,
        liquidations=made.flow.calls,
        liquidated_usd=made.flow.seized_usd,
        repaid_usd=made.flow.repaid_usd,
        sold_usd=made.flow.sold_usd,
        bad_debt_usd=made.flow.bad_debt_usd,
        unrealised_shortfall_usd=shortfall_usd,
        credit_loss_usd=float(state.bad_usd.sum()) + shortfall_usd,
        write_down_usd=made.written_usd,
        option_pnl_usd=pnl_usd,
        conservation_error_usd=error_usd,
    )


def _convergence(state: State, rounds: int, last: _Round) -> Convergence:
    gain, cycle = cycle_gain(state.book.claims, state.book.assets)
    if gain >= NO_ANSWER_GAIN:
        why = f"claims stand on each other (gain {gain:.6g}): {', '.join(cycle)}; their value has no answer"
        return Convergence(rounds, max(last.moved_frac, state.claims_residual), False, why)
    if state.claims_residual > 0.0:
        return Convergence(rounds, state.claims_residual, False, "claims did not settle within 20,000 steps")
    if not last.still:
        return Convergence(rounds, last.moved_frac, False, "round limit reached while the cascade still moved")
    return Convergence(rounds, last.moved_frac, True, "nothing liquidated and every oracle equals its source")
