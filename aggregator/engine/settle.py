"""One wave of liquidations on the state: who acts, what moves between balances, what is written off, what is sold."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

from aggregator.core.scenario import Conventions
from aggregator.engine.book import Book, Flags, Floats, Indices, add_up
from aggregator.engine.liquidate import Legs, Wave, join, judge, legs_of, wave
from aggregator.engine.market import Ahead, affordable
from aggregator.engine.state import State
from aggregator.rules import Calls, Taken

_WHOLE = 1.0 - 1e-12


class Flow(NamedTuple):
    """What one wave did, USD at market values of its start; calls that were not made are counted in refused."""

    calls: int
    seized_usd: float
    repaid_usd: float
    sold_usd: float
    bad_debt_usd: float
    refused: int

    def plus(self, other: Flow) -> Flow:
        return Flow(
            self.calls + other.calls,
            self.seized_usd + other.seized_usd,
            self.repaid_usd + other.repaid_usd,
            self.sold_usd + other.sold_usd,
            self.bad_debt_usd + other.bad_debt_usd,
            self.refused + other.refused,
        )


NOTHING = Flow(0, 0.0, 0.0, 0.0, 0.0, 0)


class _Sale(NamedTuple):
    """(s,) what leaves to liquidators: position in the wave, leg, units; cost_usd (k,) per call."""

    call: Indices
    leg: Indices
    units: Floats
    cost_usd: Floats


def liquidate(state: State, accounts: Indices, answers_usd: Floats, conventions: Conventions) -> Flow:
    """Make the calls of these accounts (by rising health) at one set of prices; sell what they seize in one walk."""
    calls = wave(state.book, accounts, state.amount, answers_usd, state.value_usd)
    idle = len(accounts) - len(calls.account)
    if not len(calls.account):
        return NOTHING._replace(refused=idle)
    if conventions.capacity_accounts:
        most = min(conventions.capacity_accounts, len(calls.account))
        calls = calls.take(_paying(state, calls, answers_usd, most) if conventions.profit_test else np.arange(most))
    wanted = len(calls.account)
    if conventions.profit_test:
        calls = _profitable(state, calls, answers_usd)
    if not len(calls.account):
        return NOTHING._replace(refused=idle + wanted)
    sale = _sale(state, calls, answers_usd)
    seized, repaid, bad = _move(state, calls, answers_usd, sale)
    sold = _sell(state, sale)
    made = calls.account
    state.calls[made] += 1
    return Flow(len(made), seized, repaid, sold, bad, idle + wanted - len(made))


def _sale(state: State, calls: Wave, answers_usd: Floats) -> _Sale:
    book, v = state.book, state.value_usd
    single = np.flatnonzero(calls.collateral >= 0)
    leg = calls.collateral[single]
    taken = calls.taken
    seized = _units(taken.seized_usd, calls.answer_collateral)[single]
    all_of_it = taken.seized_usd[single] >= np.asarray(calls.calls.collateral_usd)[single]
    seized = np.where(all_of_it, state.amount[leg], np.minimum(seized, state.amount[leg]))
    fee = taken.fee_usd[single] / calls.answer_collateral[single]
    debt_asset = book.terms.asset[book.leg_term[calls.debt[single]]]
    cost = np.zeros(len(calls.account))
    cost[single] = taken.repaid_usd[single] / calls.answer_debt[single] * v[debt_asset]
    whole = np.flatnonzero(calls.collateral < 0)
    legs = legs_of(book, calls.account[whole], state.amount, answers_usd)
    at = np.flatnonzero(~legs.debt & (legs.usd > 0.0))
    term = book.leg_term[legs.leg[at]]
    discount = book.storefront_frac[book.terms.market[term]] * book.terms.bonus_frac[term]
    asked = add_up(legs.owner[at], legs.usd[at] * (1.0 - np.nan_to_num(discount)), len(whole))
    cost[whole] = asked * _owed_usd(state, legs, len(whole)) / np.asarray(calls.calls.all_debt_usd)[whole]
    return _Sale(
        np.concatenate([single, whole[legs.owner[at]]]),
        np.concatenate([leg, legs.leg[at]]),
        np.concatenate([seized - fee, state.amount[legs.leg[at]]]),
        cost,
    )


def _owed_usd(state: State, legs: Legs, n: int) -> Floats:
    """(n,) debts at market values; over the same at the oracle it turns what a market counts in its base into USD."""
    at = np.flatnonzero(legs.debt & (legs.usd > 0.0))
    term = state.book.leg_term[legs.leg[at]]
    return add_up(legs.owner[at], state.amount[legs.leg[at]] * state.value_usd[state.book.terms.asset[term]], n)


def _units(usd: Floats, answer: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        out: Floats = np.where(answer > 0.0, usd / answer, 0.0)
    return out


def _profitable(state: State, calls: Wave, answers_usd: Floats) -> Wave:
    """The calls that pay after impact, cut to the size that pays; a refused account is asked for its next collateral.

    Every call meets the depth that those before it leave, and what pools pay does not hang on the order of sales, so a
    wave as a whole never loses.
    """
    ahead: Ahead = {}
    made: list[Wave] = []
    passed = np.zeros(len(state.book.leg_term), np.bool_)
    while True:
        share, ahead = _shares(state, calls, answers_usd, ahead)
        made.append(_cut(state, calls, share))
        refused = np.flatnonzero((calls.collateral >= 0) & ~np.isin(calls.account, made[-1].account))
        if not len(refused):
            return join(made) if len(made) > 1 else made[0]
        passed[calls.collateral[refused]] = True
        calls = wave(state.book, calls.account[refused], state.amount, answers_usd, state.value_usd, passed)


def _shares(state: State, calls: Wave, answers_usd: Floats, ahead: Ahead) -> tuple[Floats, Ahead]:
    """(share of each call that pays after the sales `ahead`, (k,) in [0, 1]; what then is ahead).

    Assets by code, then calls that sell several. Absorptions are whole or not at all.
    """
    sale = _sale(state, calls, answers_usd)
    book, v, par = state.book, state.value_usd, state.par_now
    asset = book.terms.asset[book.leg_term[sale.leg]]
    several = np.bincount(sale.call, minlength=len(calls.account)) > 1
    share = np.zeros(len(calls.account))
    for code in np.unique(asset[~several[sale.call]]).tolist():
        rows = np.flatnonzero((asset == code) & ~several[sale.call])
        at = sale.call[rows]
        allow = partial(_allowed, state.book, calls.take(at))
        share[at] = affordable(state.depth, code, sale.units[rows], sale.cost_usd[at], v, par, ahead, allow)
    for call in np.flatnonzero(several).tolist():
        rows, after = np.flatnonzero(sale.call == call), ahead.copy()
        got = sum(
            state.depth.quote(int(a), float(u), v, par, after)
            for a, u in zip(asset[rows], sale.units[rows], strict=True)
        )
        if got >= sale.cost_usd[call] * _WHOLE:
            share[call], ahead = 1.0, after
    return share, ahead


def _paying(state: State, calls: Wave, answers_usd: Floats, most: int) -> Indices:
    """The first calls, at most so many, that would be made if each were the only one."""
    found: list[int] = []
    for i in range(len(calls.account)):
        if len(_profitable(state, calls.take(np.array([i])), answers_usd).account):
            found.append(i)
        if len(found) == most:
            break
    return np.array(found, np.int64)


def _less(book: Book, calls: Wave, at: Indices, share: Floats | float) -> Taken:
    """What the rule makes of calls cut to a share; it may shrink them further (dust)."""
    smaller = Calls(*(np.asarray(c)[at] for c in calls.calls._replace(to_cover_usd=calls.taken.repaid_usd)))
    smaller = smaller._replace(to_cover_usd=smaller.to_cover_usd * share)
    return judge(book, book.account_market[calls.account[at]], smaller)


def _allowed(book: Book, calls: Wave, at: Indices, share: float) -> Floats:
    """Shares that calls can be cut to, none of an absorption."""
    whole, less = calls.taken.repaid_usd[at], _less(book, calls, at, share)
    can = (calls.collateral[at] >= 0) & (less.seized_usd > 0.0) & (whole > 0.0)
    return np.divide(less.repaid_usd, whole, out=np.zeros(len(at)), where=can)


def _cut(state: State, calls: Wave, share: Floats) -> Wave:
    act = np.flatnonzero(share > 0.0)
    calls, share = calls.take(act), share[act]
    cut = np.flatnonzero(share < 1.0)
    if len(cut):
        for column, new in zip(calls.taken, _less(state.book, calls, cut, share[cut]), strict=True):
            column[cut] = new
        calls = calls.take(np.flatnonzero((calls.taken.seized_usd > 0.0) | calls.taken.cleared))
    return calls


def _move(state: State, calls: Wave, answers_usd: Floats, sale: _Sale) -> tuple[float, float, float]:
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


def _absorb(state: State, calls: Wave, answers_usd: Floats, sale: _Sale) -> float:
    """Comet: the protocol takes the collateral, clears the debt, credits the surplus and opens its storefront."""
    whole = np.flatnonzero(calls.collateral < 0)
    if not len(whole):
        return 0.0
    book, v = state.book, state.value_usd
    accounts = calls.account[whole]
    legs = legs_of(book, accounts, state.amount, answers_usd)
    n, worth = len(accounts), state.amount[legs.leg] * v[book.terms.asset[book.leg_term[legs.leg]]]
    debts = np.flatnonzero(legs.debt & (legs.usd > 0.0))
    owed_usd = _owed_usd(state, legs, n)
    rate = np.divide(owed_usd, np.asarray(calls.calls.all_debt_usd)[whole])  # market USD per USD of the oracle
    credit = np.asarray(calls.calls.collateral_usd)[whole] * (1.0 - np.asarray(calls.calls.bonus_frac)[whole]) * rate
    bad = calls.taken.bad_debt_usd[whole] * rate
    refund = np.maximum(credit - owed_usd, 0.0)
    full = np.flatnonzero(~legs.debt & (legs.usd > 0.0))
    held = legs.leg[full]
    np.add.at(state.seized_usd, accounts[legs.owner[full]], worth[full])
    np.add.at(state.units["liquidators"], book.terms.asset[book.leg_term[held]], state.amount[held])
    state.amount[held] = 0.0
    state.amount[legs.leg[debts]] = 0.0
    income, cleared = float(sale.cost_usd[whole].sum()), float(owed_usd.sum())
    state.cash["liquidators"] -= income
    state.cash["protocol"] += income - cleared - float(refund.sum())
    state.cash["suppliers"] += cleared
    state.cash["borrowers"] += float(refund.sum())
    state.credit_usd += float(credit.sum())
    state.refund_usd += float(refund.sum())
    np.add.at(state.refund, accounts, refund)
    state.storefront_usd += income
    np.add.at(state.bad_usd, accounts, bad)
    np.add.at(state.reserves_usd, book.account_market[accounts], bad)
    return float(bad.sum())


def _sell(state: State, sale: _Sale) -> float:
    """One walk for each asset, in order of its code; liquidators keep what finds no buyer."""
    asset = state.book.terms.asset[state.book.leg_term[sale.leg]]
    units = add_up(asset, sale.units, len(state.book.assets))
    v, par, received = state.value_usd, state.par_now, 0.0
    for code in np.flatnonzero(units > 0.0).tolist():
        received += state.sell(code, float(units[code]), v, par)
    return received
