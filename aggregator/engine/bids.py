"""What buys an asset: the pools that it is sold into, as one merged book where they stand."""

from __future__ import annotations

import numpy as np

from aggregator.engine.book import Book, Floats, Pool
from aggregator.quant.depth import DepthCurve, merge

CASH = -1


class Bids:
    """What buys an asset where its pools stand: one merged book, USD at the blow's values of what they pay in.

    quotes: (venues,) tokens they pay in, all cash together as -1; unit_usd (venues,) their values at the blow.
    books: each venue's own in USD; share (venues, steps) of each step's depth that is its own. root: square root of the
    marginal price, NaN where there never was a book, kept where it has ended.
    """

    __slots__ = ("_cumulated", "_left", "books", "curve", "quotes", "root", "share", "unit_usd")

    def __init__(self, quotes: tuple[int, ...], unit_usd: Floats, books: list[DepthCurve], root: float = np.nan):
        self.quotes, self.unit_usd, self.books, self.curve = quotes, unit_usd, books, merge(books)
        self.share = np.ones((1, len(self.curve.liquidity)))
        if len(books) > 1:
            held = np.array([book.liquidity_below(self.curve.root[:-1]) for book in books])
            with np.errstate(invalid="ignore"):
                self.share = np.nan_to_num(held / held.sum(axis=0))
        self._stand(float(self.curve.root[0]) if len(self.curve.liquidity) else root)

    def _stand(self, root: float) -> None:
        self.root = root
        self._left: tuple[float, Bids] | None = None
        self._cumulated: Floats | None = None

    @property
    def empty(self) -> bool:
        return not len(self.curve.liquidity)

    def unfilled(self, units: float) -> float:
        """Of one order, what finds no buyer."""
        return units if self.empty else max(0.0, units - float(self.curve.base[-1]))

    def paid(self, units: float) -> Floats:
        """(venues,) whole quote (USD of cash) for one order."""
        if self.empty:
            return np.zeros(len(self.quotes))
        if len(self.quotes) == 1:
            return np.array([self.curve.proceeds_of(units)]) / self.unit_usd
        return self.paid_each(np.array([units]))[:, 0]

    def paid_each(self, units: Floats) -> Floats:
        """(venues, k) the same for (k,) orders that are alternatives."""
        curve = self.curve
        if self.empty:
            return np.zeros((len(self.quotes), len(units)))
        if len(self.quotes) == 1:
            only: Floats = np.array([curve.proceeds_each(units)]) / self.unit_usd[0]
            return only
        if self._cumulated is None:
            self._cumulated = np.zeros((len(self.quotes), len(curve.root)))
            np.cumsum(self.share * np.diff(curve.quote), axis=1, out=self._cumulated[:, 1:])
        sold = np.minimum(units, curve.base[-1])
        at = np.minimum(np.searchsorted(curve.base, sold, side="right") - 1, len(curve.liquidity) - 1)
        last = curve.proceeds_each(sold) - curve.quote[at]
        out: Floats = (self._cumulated[:, at] + self.share[:, at] * last) / self.unit_usd[:, None]
        return out

    def after(self, units: float) -> Bids:
        """What is left after one order."""
        if units <= 0.0 or self.empty:
            return self
        if self._left is None or self._left[0] != units:
            root = self.curve.root_after(units)
            if self.curve.parts:
                left = Bids(self.quotes, self.unit_usd, [book.down_to(root) for book in self.books], root)
            else:
                left = object.__new__(Bids)
                left.quotes, left.unit_usd, left.books = self.quotes, self.unit_usd, self.books
                left.curve = self.curve.down_to(root)
                left.share = self.share[:, len(self.curve.liquidity) - len(left.curve.liquidity) :]
                left._stand(float(left.curve.root[0]) if not left.empty else root)
            self._left = units, left
        return self._left[1]

    def next_unit(self, sold: float) -> Floats:
        """(venues,) whole quote that one unit more of an order gets which is `sold` long: before any fee is added."""
        if self.empty or sold >= float(self.curve.base[-1]):
            return np.zeros(len(self.quotes))
        at = int(self.curve.base.searchsorted(sold, side="right")) - 1
        out: Floats = self.share[:, at] * self.curve.root_after(sold) ** 2 / self.unit_usd
        return out

    def within(self, frac: float) -> Floats:
        """(venues,) base that each buys until the price is down to a share of itself."""
        if self.empty:
            return np.zeros(len(self.quotes))
        base = self.curve.base
        sold = np.minimum(base, float(self.curve.base_to_price(frac * self.root * self.root)))
        out: Floats = self.share @ np.diff(sold)
        return out


Ahead = dict[int, tuple[Bids, float]]  # by asset: where its pools are foreseen to stand, and one more order on top


def bids_of(book: Book, used: list[tuple[Pool, DepthCurve]], value_usd: Floats) -> Bids:
    """One venue for all cash together, one for each other token; a token worth nothing has no depth."""
    venues: dict[int, list[DepthCurve]] = {}
    for pool, curve in sorted(used, key=lambda row: -1 if book.cash[row[0].quote] else row[0].quote):
        usd = float(value_usd[pool.quote])
        in_usd = curve.scaled(1.0, usd) if len(curve.liquidity) else curve
        venues.setdefault(CASH if book.cash[pool.quote] else pool.quote, []).append(in_usd)
    unit_usd = [1.0 if quote == CASH else float(value_usd[quote]) or np.inf for quote in venues]
    return Bids(tuple(venues), np.array(unit_usd), [merge(curves) for curves in venues.values()])
