"""What holders are worth: legs, supplies after write-down, holdings, options and perps; debt written off is gone.

And who lost what: falls of equity, what insolvent accounts are relieved of, and what lenders lost whom nobody listed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from aggregator.engine.book import Book, Codes, Flags, Floats, add_up
from aggregator.engine.derivatives import Derivatives
from aggregator.engine.state import State
from aggregator.engine.value import lent_through, places_of, shortfall


class Standing(NamedTuple):
    """Where things stand at one moment: legs, values, accounts written off, pots, credits, options, perps."""

    amount: Floats
    value_usd: Floats
    dead: Flags
    lost_frac: Floats
    refund_usd: Floats
    option_usd: Floats
    perp_equity_usd: Floats


def at_cut(state: State, extra: Derivatives) -> Standing:
    book = state.book
    nobody, nothing = np.zeros(book.accounts, np.bool_), np.zeros(len(book.pots.market))
    credits, options = np.zeros(book.accounts), _at_price_of_cut(extra, state.cut_usd)
    return Standing(book.leg_amount, state.cut_usd, nobody, nothing, credits, options, extra.equity_cut_usd)


def now(state: State, extra: Derivatives) -> Standing:
    legs = state.amount, state.value_usd, state.dead, state.lost_frac, state.refund
    return Standing(*legs, extra.leg_pnl_usd + _at_price_of_cut(extra, state.value_usd), extra.equity_usd)


def _at_price_of_cut(extra: Derivatives, value_usd: Floats) -> Floats:
    """(options,) what legs were worth at the cut in their quote, at its value of now: P&L is counted from there."""
    options = extra.book.options
    return options.size * extra.before * value_usd[options.quote]


def _worth(book: Book, at: Standing) -> Floats:
    """(holders,) net worth, what vaults and markets' own contracts keep for others included."""
    n, owner, term = len(book.holders), book.leg_owner(), book.leg_term
    usd = at.amount * at.value_usd[book.terms.asset[term]]
    debt = book.terms.debt[term]
    usd = np.where(debt & at.dead[owner], 0.0, usd)
    out = add_up(book.account_holder[owner], np.where(debt, -usd, usd), n)
    pots, s = book.pots, book.supplies
    # what is posted as collateral is in the legs already: only its write-down is added
    lent = s.units * at.value_usd[pots.asset[s.pot]] * (1.0 - at.lost_frac[s.pot] - s.posted)
    out += add_up(book.account_holder, at.refund_usd, n)
    out += add_up(book.holdings.holder, book.holdings.units * at.value_usd[book.holdings.asset], n)
    out += add_up(s.holder, lent, n) + add_up(book.options.holder, at.option_usd, n)
    return out + add_up(book.perp_accounts.holder, _perp_usd(book, at), n)


def perp_token_usd(book: Book, value_usd: Floats) -> Floats:
    """(markets,) dollars of one unit that a perp market counts in; one where its token is not known or has no price."""
    token = np.ones(len(book.markets))
    for market, asset in book.perp_settlement:
        token[market] = value_usd[asset]
    return token


def _perp_usd(book: Book, at: Standing) -> Floats:
    """(perp accounts,) equity."""
    return at.perp_equity_usd * perp_token_usd(book, at.value_usd)[book.perp_accounts.market]


def _counted(book: Book) -> Flags:
    """(holders,) a vault's assets are its share holders', what Morpho keeps is its users': counted there."""
    out = np.ones(len(book.holders), np.bool_)
    out[[*(holder for _, holder in book.issuers), *book.keepers]] = False
    return out


def equity_usd(book: Book, at: Standing) -> Floats:
    """(holders,) net worth."""
    return np.where(_counted(book), _worth(book, at), 0.0)


class Fall(NamedTuple):
    """Who lost what between two moments, USD at market values.

    before_usd, after_usd (holders,): equity at either. relieved_usd (holders,): by how much the negative
    equity of their own accounts, each for itself, became less: written off, or by prices. of_unlisted (pots,): fall of
    what lenders own whom the book does not name. homeless_usd: bad debt where it knows of no lender at all.
    """

    before_usd: Floats
    after_usd: Floats
    relieved_usd: Floats
    of_unlisted: Floats
    homeless_usd: float

    @property
    def of_holders(self) -> Floats:
        """(holders,) fall of equity, negative where it rose."""
        return self.before_usd - self.after_usd

    @property
    def own(self) -> Floats:
        """(holders,) what each lost, his own insolvency aside: nobody's loss shrinks because his lenders lost more."""
        return self.of_holders + self.relieved_usd

    @property
    def losses_usd(self) -> float:
        return float(np.maximum(self.own, 0.0).sum())

    @property
    def unlisted_usd(self) -> float:
        return float(np.maximum(self.of_unlisted, 0.0).sum()) + self.homeless_usd

    @property
    def reliefs_usd(self) -> float:
        """What all others are better off by: losses, less reliefs, and unlisted loss are the fall of all equity."""
        risen = np.maximum(-self.own, 0.0).sum() + np.maximum(-self.of_unlisted, 0.0).sum()
        return float(self.relieved_usd.sum() + risen)


def fall(state: State, extra: Derivatives) -> Fall:
    """From the cut to now."""
    book, before, after = state.book, at_cut(state, extra), now(state, extra)
    worth_at_cut = _worth(book, before)
    units = _unlisted_units(book, before, worth_at_cut)
    worth = [units * at.value_usd[book.pots.asset] * (1.0 - at.lost_frac) for at in (before, after)]
    n, counted = len(book.holders), _counted(book)
    relieved = np.zeros(n)
    for then, later, holder in zip(_below_usd(book, before), _below_usd(book, after), _owners(book), strict=True):
        relieved += add_up(holder, np.maximum(then - later, 0.0), n)
    return Fall(
        np.where(counted, worth_at_cut, 0.0),
        equity_usd(book, after),
        np.where(counted, relieved, 0.0),
        worth[0] - worth[1],
        float(state.homeless_usd.sum()),
    )


def _owners(book: Book) -> tuple[Codes, Codes]:
    return book.account_holder, book.perp_accounts.holder


def _below_usd(book: Book, at: Standing) -> tuple[Floats, Floats]:
    """By account, then by perp account: how far what it owes exceeds what it has; nothing once that is written off."""
    short, _, _, _ = shortfall(book, at.value_usd, at.amount)
    return np.where(at.dead, 0.0, short), np.maximum(-_perp_usd(book, at), 0.0)


def _unlisted_units(book: Book, cut: Standing, worth: Floats) -> Floats:
    """(pots,) what was lent by nobody whom the book names: as supplier, by a receipt, or by claims that stand on it.

    What a vault lent is its share holders': unlisted by the part of its worth whose shares nobody listed holds. Where
    its own supplies are not listed, its shares are looked through instead. Option pools are no lenders.
    worth (holders,): `_worth` at the cut.
    """
    pots, s = book.pots, book.supplies
    part = np.ones(len(book.holders))
    part[list(book.keepers)] = 0.0  # what they hold is listed with their users
    shares, seen = _held_units(book, part), np.ones(len(book.assets))
    for asset, holder in book.issuers:
        if worth[holder] > 0.0:
            part[holder] = min(1.0, shares[asset] * cut.value_usd[asset] / worth[holder])
            seen[asset] = 0.0
    listed = add_up(s.pot, s.units * part[s.holder], len(pots.market))
    for lent in lent_through(book.claims, places_of(pots), _held_units(book, part) * seen, seen):
        listed += lent
    missing = np.maximum(pots.supply_units - listed, 0.0)
    return np.where(np.isin(pots.market, book.option_pools.market), 0.0, missing)


def _held_units(book: Book, part: Floats) -> Floats:
    """(assets,) units that holders own at the cut, by the part of each that counts."""
    n, owner, s, h = len(book.assets), book.account_holder[book.leg_owner()], book.supplies, book.holdings
    own = np.where(book.terms.debt[book.leg_term], 0.0, book.leg_amount * part[owner])
    out = add_up(book.terms.asset[book.leg_term], own, n)
    out += add_up(book.pots.asset[s.pot], np.where(s.posted, 0.0, s.units * part[s.holder]), n)
    return out + add_up(h.asset, h.units * part[h.holder], n)
