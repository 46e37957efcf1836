"""Which calls a round's liquidators make, by each market's own rule, and what every one takes, repays and leaves.

One call per account: of all (collateral, debt) pairs the one that pays most at market prices. Of equals (`ties`) it is
the one whose collateral costs less to sell by known depth, then the deeper, then the lower ids of collateral and debt.
Comet absorbs whole accounts instead: all collateral goes to the protocol at liquidationFactor, debt and surplus are
settled in the base asset, and the storefront sells the collateral at 1 - storePriceFactor * (1 - liquidationFactor) of
the oracle price (Comet.sol absorbInternal, quoteCollateral).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aggregator.core.errors import DomainError
from aggregator.engine.book import Book, Codes, Flags, Floats, Indices, add_up
from aggregator.engine.state import State
from aggregator.engine.ties import SAME, least, levels, near
from aggregator.rules import Calls, Taken, floored, lending
from aggregator.rules.base import health

_NEXT_TO_NOTHING = 1e-200  # USD a unit: so little that what is paid for it is nothing beside any debt
_JUMP = 1e-6  # relative: more than 1e-9 of an input moves an amount without a step


class Legs(NamedTuple):
    """The legs of some accounts laid flat. owner (l,): position in the accounts asked."""

    owner: Indices
    leg: Indices
    usd: Floats
    debt: Flags


class Wave(NamedTuple):
    """(k,) one call per account. leg indices; -1 for both where the account is absorbed whole.

    calls and taken in USD of the market's oracle; answer_*: that oracle's price of the seized and the repaid asset.
    turn: calls of one turn are sold together, turn after turn.
    """

    account: Indices
    collateral: Indices
    debt: Indices
    calls: Calls
    taken: Taken
    answer_collateral: Floats
    answer_debt: Floats
    turn: Indices

    def take(self, at: Indices) -> Wave:
        repaid, seized, fee, bad, cleared = self.taken
        return Wave(
            self.account[at],
            self.collateral[at],
            self.debt[at],
            Calls(*(np.asarray(column)[at] for column in self.calls)),
            Taken(repaid[at], seized[at], fee[at], bad[at], cleared[at]),
            self.answer_collateral[at],
            self.answer_debt[at],
            self.turn[at],
        )


def join(waves: Sequence[Wave]) -> Wave:
    """Calls of several waves, one after the other."""
    account, collateral, debt, calls, taken, answer_collateral, answer_debt, turn = zip(*waves, strict=True)
    return Wave(
        np.concatenate(account),
        np.concatenate(collateral),
        np.concatenate(debt),
        Calls(*(np.concatenate(column) for column in zip(*calls, strict=True))),
        Taken(*(np.concatenate(column) for column in zip(*taken, strict=True))),
        np.concatenate(answer_collateral),
        np.concatenate(answer_debt),
        np.concatenate(turn),
    )


def legs_of(book: Book, accounts: Indices, amount: Floats, answers_usd: Floats) -> Legs:
    owner, leg = book.legs_of(accounts)
    term = book.leg_term[leg]
    return Legs(owner, leg, amount[leg] * answers_usd[book.terms.oracle[term]], book.terms.debt[term])


def wave(state: State, accounts: Indices, answers_usd: Floats, passed: Flags | None = None) -> Wave:
    """The call of each account that its rule allows now; accounts without one are left out, order is kept.

    passed (legs,): collateral that nobody seizes, though it counts.
    """
    book = state.book
    answers_usd = _asked(book, answers_usd)
    legs, home = legs_of(book, accounts, state.amount, answers_usd), book.account_market[accounts]
    open_ = book.terms.callable[book.leg_term[legs.leg]] & ~book.absorbs[home][legs.owner]
    c, d = _pairs(legs, len(accounts), open_ if passed is None else open_ & ~passed[legs.leg])
    whole = np.flatnonzero(book.absorbs[home])
    owner = np.concatenate([legs.owner[c], whole])
    calls = _calls(book, legs, c, d, whole, home)
    none = np.full(len(whole), -1)
    collateral, debt = np.append(legs.leg[c], none), np.append(legs.leg[d], none)
    by_term = answers_usd[book.terms.oracle]
    answers = _of_leg(book, collateral, by_term), _of_leg(book, debt, by_term)
    off = np.abs(health(calls.weighted_usd, calls.all_debt_usd) - 1.0)
    state.edges.note("health", accounts[owner[near(off)]], off[near(off)])
    turn = np.zeros(len(owner), np.int64)
    out = Wave(accounts[owner], collateral, debt, calls, judge(book, home[owner], calls), *answers, turn)
    out = out.take(_chosen(state, out, owner, len(accounts)))
    _note_steps(state, out)
    return out


def _asked(book: Book, answers_usd: Floats) -> Floats:
    """(oracles,) answers, and next to nothing in place of 0 where a rule gives collateral away at that."""
    terms, out = book.terms, answers_usd
    given = np.flatnonzero(~terms.debt & book.gives_for_nothing[terms.market] & (answers_usd[terms.oracle] <= 0.0))
    if len(given):
        out = answers_usd.copy()
        out[terms.oracle[given]] = _NEXT_TO_NOTHING
    return out


def _calls(book: Book, legs: Legs, c: Indices, d: Indices, whole: Indices, home: Codes) -> Calls:
    """One of each pair (c, d) of legs, then one of each account that is taken whole; home (n,): accounts' markets.

    Those taken whole have the value-weighted mean of their collateral's cuts as bonus.
    """
    terms, term, n = book.terms, book.leg_term[legs.leg], len(home)
    usd = np.where(legs.debt, 0.0, legs.usd)
    held, owed = add_up(legs.owner, usd, n), add_up(legs.owner, np.where(legs.debt, legs.usd, 0.0), n)
    weighted = add_up(legs.owner, usd * terms.threshold_frac[term], n)
    weighted = np.where(book.floors[home], floored(weighted, held), weighted)
    cut = add_up(legs.owner, usd * terms.bonus_frac[term], n)
    mean_cut = np.divide(cut, held, out=np.zeros(n), where=held > 0.0)
    owner = np.concatenate([legs.owner[c], whole])
    return Calls(
        collateral_usd=np.concatenate([legs.usd[c], held[whole]]),
        debt_usd=np.concatenate([legs.usd[d], owed[whole]]),
        all_collateral_usd=held[owner],
        all_debt_usd=owed[owner],
        weighted_usd=weighted[owner],
        bonus_frac=np.concatenate([terms.bonus_frac[term[c]], mean_cut[whole]]),
        fee_frac=np.concatenate([terms.fee_frac[term[c]], np.zeros(len(whole))]),
        close_frac=book.close_frac[home[owner]],
        to_cover_usd=np.full(len(owner), np.inf),
    )


def _of_leg(book: Book, leg: Indices, by_term: Floats) -> Floats:
    """(k,) a column of the terms at some legs, 1 for leg -1."""
    if not len(book.leg_term):
        return np.ones(len(leg))
    return np.where(leg >= 0, by_term[book.leg_term[leg]], 1.0)


def judge(book: Book, market: Codes, calls: Calls) -> Taken:
    """`Rule.batch` of every call by its market's rule; DomainError for a rule that the engine cannot run."""
    n = len(market)
    out = Taken(np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n, np.bool_))
    codes = book.rule_code[market]
    for code in np.unique(codes).tolist():
        name = book.rule_names[code]
        rule = lending(name) if name else None
        if rule is None:
            if name:
                raise DomainError(f"rule {name!r} is unknown to the engine", expected="a name of aggregator.rules")
            continue
        at = np.flatnonzero(codes == code)
        taken = rule.batch(Calls(*(np.asarray(column)[at] for column in calls)))
        for column, part in zip(out, taken, strict=True):
            column[at] = part
    return out


def _pairs(legs: Legs, n: int, callable_: Flags) -> tuple[Indices, Indices]:
    """All (collateral, debt) pairs of each owner, as positions in `legs`, by owner, collateral, debt."""
    live = (legs.usd > 0.0) & callable_
    c, d = np.flatnonzero(live & ~legs.debt), np.flatnonzero(live & legs.debt)
    debts = np.bincount(legs.owner[d], minlength=n)
    first = np.cumsum(debts) - debts
    repeat = debts[legs.owner[c]]
    left = np.repeat(c, repeat)
    within = np.arange(len(left)) - np.repeat(np.cumsum(repeat) - repeat, repeat)
    return left, d[first[legs.owner[left]] + within] if len(left) else left


def _chosen(state: State, calls: Wave, owner: Indices, n: int) -> Indices:
    """Of each owner's calls that take anything the one to make, by owner (codes below n)."""
    book, value = state.book, state.value_usd[state.book.terms.asset]
    units = (calls.taken.seized_usd - calls.taken.fee_usd) / np.maximum(calls.answer_collateral, 1e-300)
    worth = units * _of_leg(book, calls.collateral, value)
    paid = calls.taken.repaid_usd / np.maximum(calls.answer_debt, 1e-300) * _of_leg(book, calls.debt, value)
    acts = np.flatnonzero((calls.taken.seized_usd > 0.0) | calls.taken.cleared | (calls.taken.bad_debt_usd > 0.0))
    is_best, off = least(owner[acts], (paid - worth)[acts], np.maximum(paid, worth)[acts], n)
    best, rival = acts[is_best], near(off) & (off > 0.0)
    asset = book.terms.asset[book.leg_term[calls.collateral]].astype(np.int64)
    state.edges.note("tie", calls.account[acts[rival]], off[rival], asset[acts[rival]])
    alone = np.bincount(owner[best], minlength=n)[owner[best]] == 1
    tied = best[~alone]
    if not len(tied):
        return best
    state.edges.note("tie", calls.account[tied], 0.0, asset[tied])
    first = _first_of_equals(state, calls.take(tied), owner[tied], asset[tied], units[tied], worth[tied])
    out = np.append(best[alone], tied[first])
    return out[np.argsort(owner[out], kind="stable")]


def _first_of_equals(
    state: State, calls: Wave, owner: Indices, asset: Indices, units: Floats, worth: Floats
) -> Indices:
    """Of calls that pay each owner the same the first by the order of `ties`; asset, units, worth: of what is sold."""
    book, known = state.book, np.zeros(len(owner))
    pairs = np.unique(owner * len(book.assets) + asset)
    differ = np.bincount(pairs // len(book.assets))[owner] > 1  # otherwise they cost the same
    known[differ] = known_usd(state, asset[differ], units[differ])
    left = np.flatnonzero(least(owner, worth - known, worth, int(owner.max()) + 1)[0])
    codes, of = np.unique(asset[left], return_inverse=True)
    shallow = levels(-np.minimum([state.depth.deep_usd(code) for code in codes.tolist()], 1e300))[of]
    collateral, debt = calls.collateral[left], calls.debt[left]
    ids = state.rank[asset[left]], state.rank[book.terms.asset[book.leg_term[debt]]]
    left = left[np.lexsort((debt, collateral, ids[1], ids[0], shallow, owner[left]))]
    first: Indices = left[np.append(True, owner[left][1:] != owner[left][:-1])]
    return first


def known_usd(state: State, asset: Codes | Indices, units: Floats) -> Floats:
    """(k,) what each order alone would bring now by depth that is known (`Depth.known_usd`)."""
    out = np.zeros(len(asset))
    for code in np.unique(asset).tolist():
        at = asset == code
        out[at] = state.depth.known_usd(code, units[at], state.value_usd)
    return out


def _note_steps(state: State, calls: Wave) -> None:
    """Name accounts for which 1e-9 more or less of an input is another call: a close factor, dust, the last collateral.

    Debts move by 1e-9 and collateral by twice that, so that each limit of a rule is crossed, whatever it is of; the
    average threshold stays.
    """
    taken, market = calls.taken, state.book.account_market[calls.account]
    size = np.maximum(taken.repaid_usd + taken.bad_debt_usd, 1e-300)
    for grown in (1.0 + SAME, 1.0 - SAME):
        usd = calls.calls
        moved = usd._replace(
            debt_usd=usd.debt_usd * grown,
            all_debt_usd=usd.all_debt_usd * grown,
            collateral_usd=usd.collateral_usd * grown**2,
            all_collateral_usd=usd.all_collateral_usd * grown**2,
            weighted_usd=usd.weighted_usd * grown**2,
        )
        other = judge(state.book, market, moved)
        jump = np.abs(other.repaid_usd - taken.repaid_usd) + np.abs(other.bad_debt_usd - taken.bad_debt_usd)
        called = (other.seized_usd > 0.0) | other.cleared  # whether it is at all is an edge of health
        state.edges.note(
            "step", calls.account[called & ((jump > _JUMP * size) | (other.cleared != taken.cleared))], SAME
        )
