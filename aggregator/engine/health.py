"""Health of every account in one pass over the legs: sums of value by account.

    weighted = sum of amount * answer * threshold over collateral,  debt = sum of amount * answer over debt

An account is liquidatable where weighted < debt (strict: equality is healthy). `sums_plain` is the oracle of `sums`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.engine.book import Book, Codes, Floats, add_up
from aggregator.quant._jit import jit


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
    weighted, debt = np.empty(book.accounts), np.empty(book.accounts)
    _sums(book.leg_start, book.leg_term, amount, weight, owed, weighted, debt)
    return Sums(weighted, debt)


def sums_plain(book: Book, amount: Floats, answers_usd: Floats) -> Sums:
    """The same by numpy alone."""
    weight, owed = term_values(book, answers_usd)
    owner = np.repeat(np.arange(book.accounts), np.diff(book.leg_start))
    n = book.accounts
    return Sums(add_up(owner, amount * weight[book.leg_term], n), add_up(owner, amount * owed[book.leg_term], n))


@jit
def _sums(
    start: npt.NDArray[np.int64],
    term: Codes,
    amount: Floats,
    weight: Floats,
    owed: Floats,
    weighted: Floats,
    debt: Floats,
) -> None:
    for i in range(len(weighted)):
        w = d = 0.0
        for j in range(start[i], start[i + 1]):
            w += amount[j] * weight[term[j]]
            d += amount[j] * owed[term[j]]
        weighted[i] = w
        debt[i] = d
