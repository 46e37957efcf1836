"""Health of every account in one pass over the legs: sums of value by account.

    weighted = sum of amount * answer * threshold over collateral,  debt = sum of amount * answer over debt

An account is liquidatable where weighted < debt (strict: equality is healthy). Rules that cut the average threshold to
basis points get their weighted sum from `rules.floored`. `sums_plain` is the oracle of `sums`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.engine.book import Book, Codes, Flags, Floats, Indices, add_up
from aggregator.quant.jit import in_chunks, jit
from aggregator.rules import floored


class Sums(NamedTuple):
    """(accounts,) USD by the market's own oracle."""

    weighted_usd: Floats
    debt_usd: Floats

    @property
    def health(self) -> Floats:
        """inf without debt."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.debt_usd > 0.0, self.weighted_usd / self.debt_usd, np.inf)


def term_values(book: Book, answers_usd: Floats) -> tuple[Floats, Floats]:
    """(t,) USD that one unit of a leg adds to the weighted collateral and to the debt."""
    price = answers_usd[book.terms.oracle]
    return np.where(book.terms.debt, 0.0, price * book.terms.threshold_frac), np.where(book.terms.debt, price, 0.0)


def sums(book: Book, amount: Floats, answers_usd: Floats) -> Sums:
    weight, owed = term_values(book, answers_usd)
    signed = weight - owed  # a term is on one side alone: one look-up for each leg
    weighted, debt = np.empty(book.accounts), np.empty(book.accounts)
    columns = book.leg_start, book.leg_term, amount, signed, weighted, debt
    in_chunks(lambda first, end: _sums(*columns, first, end), book.accounts)
    if book.floors.any():
        rows = np.flatnonzero(book.floors[book.account_market])
        held = np.empty(len(rows))
        _held(book.leg_start, book.leg_term, amount, _collateral(book, answers_usd), rows, held)
        weighted[rows] = floored(weighted[rows], held)
    return Sums(weighted, debt)


def sums_plain(book: Book, amount: Floats, answers_usd: Floats) -> Sums:
    """The same by numpy alone."""
    weight, owed = term_values(book, answers_usd)
    owner, n = book.leg_owner(), book.accounts
    weighted, debt = (add_up(owner, amount * column[book.leg_term], n) for column in (weight, owed))
    held = add_up(owner, amount * _collateral(book, answers_usd)[book.leg_term], n)
    return Sums(np.where(book.floors[book.account_market], floored(weighted, held), weighted), debt)


def unpriced(book: Book, accounts: Indices, answers_usd: Floats) -> Flags:
    """(k,) accounts that their rule lets nobody call, because an oracle answers 0 for an asset of theirs."""
    out = book.needs_every_price[book.account_market[accounts]]
    if out.any() and (answers_usd <= 0.0).any():
        strict = np.flatnonzero(out)
        owner, leg = book.legs_of(accounts[strict])
        zero = answers_usd[book.terms.oracle[book.leg_term[leg]]] <= 0.0
        out[strict] = np.bincount(owner, zero, len(strict)) > 0.0
        return out
    return np.zeros(len(accounts), np.bool_)


_EDGE, _EDGE_USD, _DUST_USD = 1e-9, 4e-8, 1e-6  # relative; a few of the smallest units that markets count in


def at_edge(book: Book, amount: Floats, answers_usd: Floats, found: Sums) -> Indices:
    """Accounts so close to their threshold that digits beyond float64, or the contract's rounding, decide them."""
    weighted, debt = found
    owes = debt > _DUST_USD
    edge = owes & (np.abs(weighted - debt) <= _EDGE * debt + _EDGE_USD)
    if book.floors.any():  # where values that round by one unit move the average across a whole basis point
        near = np.flatnonzero(owes & book.floors[book.account_market] & (np.abs(weighted - debt) < 1e-2 * debt))
        edge[near[_split(book, amount, answers_usd, near, debt[near])]] = True
    return np.flatnonzero(edge)


def _split(book: Book, amount: Floats, answers_usd: Floats, accounts: Indices, debt: Floats) -> Flags:
    """Whether a step of rounding either way moves the account across its threshold."""
    n = len(accounts)
    owner, leg = book.legs_of(accounts)
    term = book.leg_term[leg]
    usd, threshold = amount[leg] * _collateral(book, answers_usd)[term], book.terms.threshold_frac[term]
    held, weighted = add_up(owner, usd, n), add_up(owner, usd * threshold, n)
    low, high = np.full(n, np.inf), np.zeros(n)
    counted = usd > 0.0
    np.minimum.at(low, owner[counted], threshold[counted])
    np.maximum.at(high, owner[counted], threshold[counted])
    with np.errstate(divide="ignore", invalid="ignore"):
        slack = 1e-8 + 1e4 * _EDGE_USD / held
    either = floored(weighted, held, -slack) < debt, floored(weighted, held, slack) < debt
    out: Flags = (either[0] != either[1]) & (low < high)  # one threshold alone is its own average, exactly
    return out


def _collateral(book: Book, answers_usd: Floats) -> Floats:
    return np.where(book.terms.debt, 0.0, answers_usd[book.terms.oracle])


@jit
def _held(
    start: npt.NDArray[np.int64], term: Codes, amount: Floats, value: Floats, rows: Indices, held: Floats
) -> None:
    for k in range(len(rows)):
        h = 0.0
        for j in range(start[rows[k]], start[rows[k] + 1]):
            h += amount[j] * value[term[j]]
        held[k] = h


@jit
def _sums(
    start: npt.NDArray[np.int64],
    term: Codes,
    amount: Floats,
    signed: Floats,
    weighted: Floats,
    debt: Floats,
    first: int,
    end: int,
) -> int:
    for i in range(first, end):
        w = d = 0.0
        for j in range(start[i], start[i + 1]):
            usd = amount[j] * signed[term[j]]
            w += max(usd, 0.0)
            d += max(-usd, 0.0)
        weighted[i] = w
        debt[i] = d
    return -1
