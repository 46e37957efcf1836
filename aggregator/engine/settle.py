"""One wave of liquidations on the state: what moves between balances, what is written off, what is sold."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from aggregator.core.scenario import Conventions
from aggregator.engine.book import Flags, Floats, Indices, add_up
from aggregator.engine.liquidate import Wave, known_usd, legs_of, wave
from aggregator.engine.profit import paying, profitable
from aggregator.engine.sale import Sale, owed_usd, sale_of
from aggregator.engine.state import State
from aggregator.engine.ties import levels


class Flow(NamedTuple):
    """What one wave did, USD at market values of its start."""

    calls: int
    seized_usd: float
    repaid_usd: float
    sold_usd: float
    bad_debt_usd: float

    def plus(self, other: Flow) -> Flow:
        return Flow(
            self.calls + other.calls,
            self.seized_usd + other.seized_usd,
            self.repaid_usd + other.repaid_usd,
            self.sold_usd + other.sold_usd,
            self.bad_debt_usd + other.bad_debt_usd,
        )


NOTHING = Flow(0, 0.0, 0.0, 0.0, 0.0)


def liquidate(state: State, accounts: Indices, answers_usd: Floats, conventions: Conventions) -> Flow:
    """Make the calls of these accounts (by rising health) at one set of prices; sell what they seize in one walk."""
    calls = wave(state, accounts, answers_usd)
    if conventions.capacity_accounts:
        most = min(conventions.capacity_accounts, len(calls.account))
        calls = calls.take(paying(state, calls, answers_usd, most) if conventions.profit_test else np.arange(most))
    if conventions.profit_test and len(calls.account):
        calls = profitable(state, calls, answers_usd)
    if not len(calls.account):
        return NOTHING
    sale = sale_of(state, calls, answers_usd)
    seized, repaid, bad = _move(state, calls, answers_usd, sale)
    sold = _sell(state, sale)
    state.calls[calls.account] += 1
    return Flow(len(calls.account), seized, repaid, sold, bad)


def _move(state: State, calls: Wave, answers_usd: Floats, sale: Sale) -> tuple[float, float, float]:
    """Book every call: collateral, fee, repayment, what is written off. Returns (seized, repaid, bad debt) in USD."""
    book, v, taken = state.book, state.value_usd, calls.taken
    single = np.flatnonzero(calls.collateral >= 0)
    coll, debt = calls.collateral[single], calls.debt[single]
    coll_asset, debt_asset = (book.terms.asset[book.leg_term[legs]] for legs in (coll, debt))
    fee = taken.fee_usd[single] / calls.answer_collateral[single]
    out = sale.units[: len(single)] + fee
    left = state.amount[coll] - out
    state.amount[coll] = np.where(taken.seized_usd[single] >= np.asarray(calls.calls.collateral_usd)[single], 0.0, left)
    np.add.at(state.units["protocol"], coll_asset, fee)
    np.add.at(state.units["liquidators"], coll_asset, sale.units[: len(single)])
    repaid = np.minimum(taken.repaid_usd[single] / calls.answer_debt[single], state.amount[debt])
    whole_debt = taken.repaid_usd[single] >= np.asarray(calls.calls.debt_usd)[single]
    repaid = np.where(whole_debt, state.amount[debt], repaid)
    state.amount[debt] = np.where(whole_debt, 0.0, state.amount[debt] - repaid)
    np.add.at(state.units["suppliers"], debt_asset, repaid)
    np.subtract.at(state.units["outside"], debt_asset, repaid)
    repaid_usd = repaid * v[debt_asset]
    paid = float(repaid_usd.sum())
    state.cash["liquidators"] -= paid
    state.cash["outside"] += paid
    acc = calls.account[single]
    seized_usd = out * v[coll_asset]
    state.seized_usd[acc] += seized_usd
    state.repaid_usd[acc] += repaid_usd
    bad = _absorb(state, calls, answers_usd, sale)
    bad += _write_off(state, acc, taken.cleared[single])
    absorbed = sale.leg[len(single) :]
    seized_all = float(seized_usd.sum()) + float(
        (sale.units[len(single) :] * v[book.terms.asset[book.leg_term[absorbed]]]).sum()
    )
    return seized_all, paid, bad


def _write_off(state: State, accounts: Indices, cleared: Flags) -> float:
    """Debt of cleared accounts leaves the book; debt on emptied accounts stays there and is counted bad as well."""
    book = state.book
    legs = legs_of(book, accounts, state.amount, np.ones(len(book.oracles.path)))
    held = add_up(legs.owner, np.where(legs.debt, 0.0, state.amount[legs.leg]), len(accounts))
    owed = add_up(legs.owner, np.where(legs.debt, state.amount[legs.leg], 0.0), len(accounts))
    emptied = ~cleared & (held <= 0.0) & (owed > 0.0)
    rows = np.flatnonzero(legs.debt & (cleared | emptied)[legs.owner] & (state.amount[legs.leg] > 0.0))
    leg, owner = legs.leg[rows], legs.owner[rows]
    units = state.amount[leg].copy()
    usd = units * state.value_usd[book.terms.asset[book.leg_term[leg]]]
    _to_pots(state, leg, units, usd)
    np.add.at(state.bad_usd, accounts[owner], usd)
    state.amount[leg[cleared[owner]]] = 0.0
    state.dead[accounts[emptied]] = True
    return float(usd.sum())


def _to_pots(state: State, leg: Indices, units: Floats, usd: Floats) -> None:
    term = state.book.leg_term[leg]
    for t in np.unique(term).tolist():
        at = term == t
        pot = state.look.pot_of.get((int(state.book.terms.market[t]), int(state.book.terms.asset[t])), -1)
        if pot >= 0:
            state.lost_units[pot] += units[at].sum()
            state.lost_usd[pot] += usd[at].sum()
        else:
            state.homeless_usd[int(state.book.terms.market[t])] += float(usd[at].sum())


def _absorb(state: State, calls: Wave, answers_usd: Floats, sale: Sale) -> float:
    """Comet: the protocol takes the collateral, clears the debt, credits the surplus and opens its storefront."""
    whole = np.flatnonzero(calls.collateral < 0)
    if not len(whole):
        return 0.0
    book, v = state.book, state.value_usd
    accounts = calls.account[whole]
    legs = legs_of(book, accounts, state.amount, answers_usd)
    n, worth = len(accounts), state.amount[legs.leg] * v[book.terms.asset[book.leg_term[legs.leg]]]
    debts = np.flatnonzero(legs.debt & (legs.usd > 0.0))
    owed = owed_usd(state, legs, n)
    rate = np.divide(owed, np.asarray(calls.calls.all_debt_usd)[whole])  # market USD per USD of the oracle
    credit = np.asarray(calls.calls.collateral_usd)[whole] * (1.0 - np.asarray(calls.calls.bonus_frac)[whole]) * rate
    bad = calls.taken.bad_debt_usd[whole] * rate
    refund = np.maximum(credit - owed, 0.0)
    full = np.flatnonzero(~legs.debt & (legs.usd > 0.0))
    held = legs.leg[full]
    np.add.at(state.seized_usd, accounts[legs.owner[full]], worth[full])
    np.add.at(state.units["liquidators"], book.terms.asset[book.leg_term[held]], state.amount[held])
    state.amount[held] = 0.0
    state.amount[legs.leg[debts]] = 0.0
    income, cleared = float(sale.cost_usd[whole].sum()), float(owed.sum())
    state.cash["liquidators"] -= income
    state.cash["protocol"] += income - cleared - float(refund.sum())
    state.cash["suppliers"] += cleared
    state.cash["borrowers"] += float(refund.sum())
    state.credit_usd += float(credit.sum())
    np.add.at(state.refund, accounts, refund)
    state.storefront_usd += income
    np.add.at(state.bad_usd, accounts, bad)
    np.add.at(state.reserves_usd, book.account_market[accounts], bad)
    return float(bad.sum())


def _sell(state: State, sale: Sale) -> float:
    """Turn after turn one order for each asset, in order of its code; liquidators keep what finds no buyer."""
    asset = state.book.terms.asset[state.book.leg_term[sale.leg]]
    v, received = state.value_usd, 0.0
    for turn in np.unique(sale.turn).tolist():
        units = add_up(asset, np.where(sale.turn == turn, sale.units, 0.0), len(state.book.assets))
        for code in np.flatnonzero(units > 0.0).tolist():
            received += state.sell(code, float(units[code]), v)
    return received


def in_turn(state: State, accounts: Indices, frac: Floats, answers_usd: Floats, conventions: Conventions) -> Indices:
    """Accounts by rising health `frac` (k,); equals as `ties` says, by what their calls would sell, then by names.

    Those without collateral that counts have nothing to compare: by names.
    """
    book, level = state.book, levels(frac)
    tied = np.bincount(level)[level] > 1 if len(level) else np.zeros(0, np.bool_)
    if not tied.any():
        return accounts[np.argsort(level, kind="stable")]
    cost, shallow = np.zeros(len(accounts), np.int64), np.zeros(len(accounts), np.int64)
    equals = np.flatnonzero(tied & (frac > 0.0))
    if len(equals):
        cost[equals], shallow[equals] = _selling(state, accounts[equals], answers_usd)
        if conventions.capacity_accounts or conventions.rounds == "sequential":  # otherwise their order tells nothing
            least = np.full(len(accounts), np.inf)
            np.minimum.at(least, level, frac)
            state.edges.note("tie", accounts[equals], frac[equals] / least[level[equals]] - 1.0)
    names = state.holder_rank[book.account_holder[accounts]], state.market_rank[book.account_market[accounts]]
    return accounts[np.lexsort((accounts, names[1], names[0], shallow, cost, level))]


def _selling(state: State, accounts: Indices, answers_usd: Floats) -> tuple[Indices, Indices]:
    """(k,) levels of what selling each account's call costs, as a share of its worth, and of how shallow it trades."""
    calls = wave(state, accounts, answers_usd)
    sale, book, n = sale_of(state, calls, answers_usd), state.book, len(calls.account)
    asset = book.terms.asset[book.leg_term[sale.leg]]
    deep = np.full(n, 1e300)
    for code in np.unique(asset).tolist():
        np.minimum.at(deep, sale.call[asset == code], state.depth.deep_usd(code))
    worth = add_up(sale.call, sale.units * state.value_usd[asset], n)
    brings = add_up(sale.call, known_usd(state, asset, sale.units), n)
    cost, shallow = np.full((2, len(accounts)), n, np.int64)  # those without a call last
    at = np.flatnonzero(np.isin(accounts, calls.account))
    cost[at] = levels(2.0 - np.divide(brings, worth, out=np.zeros(n), where=worth > 0.0))
    shallow[at] = levels(-deep)
    return cost, shallow
