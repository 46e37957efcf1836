"""What holders are worth: legs, supplies after write-down, holdings, options and perps; debt written off is gone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from aggregator.engine.book import Book, Flags, Floats, add_up
from aggregator.engine.derivatives import Derivatives
from aggregator.engine.state import State


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


def equity_usd(book: Book, at: Standing) -> Floats:
    """(holders,) net worth."""
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
    token = np.ones(len(book.markets))
    for market, asset in book.perp_settlement:
        token[market] = at.value_usd[asset]
    out += add_up(book.perp_accounts.holder, at.perp_equity_usd * token[book.perp_accounts.market], n)
    # a vault's assets are its share holders', what Morpho keeps is its users': counted there
    out[[*(holder for _, holder in book.issuers), *book.keepers]] = 0.0
    return out
