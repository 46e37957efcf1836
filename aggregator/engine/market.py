"""The one depth that all sellers share: merged pools by asset, how far they are sold, and what that does to prices.

The blow moves every pool along its invariant to the new cross rate (arbitrage), then the walk begins. Units sold into a
pool move the asset's price by the ratio of the merged book's marginal price. What a pool pays in a token that is not
cash is sold on through that token's own depth, and the asset's price then follows that token's:

    price(X) / price(X) at the blow = m(sold) / m(0) * sum over quotes g of w_g * price(g) / price(g) at the blow

with m the marginal price in quotes at their values of the blow and w_g the share of the depth within the next 1 %; for
one quote this is exact, for several the routing keeps to the blow's values. Selling on ends because a pool is used from
the shallower token to the deeper one alone (`routes`). A claim's discount to its backing moves by m alone, its value by
the backing too. A claim without pools that trades within 1 % of par is redeemed and its underlyings are sold. Cash
sells at its price (`sold_as_cash`). Anything else has no known depth: it is sold at its price (`without_depth`). Both
amounts are stated as gaps. A pool that pays in a token worth nothing has no depth left.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from aggregator.engine.book import Book, Floats, Pool
from aggregator.engine.routes import order
from aggregator.quant.depth import NO_DEPTH, DepthCurve, merge, steps_depth

REDEEM, SELL, AT_PRICE, UNKNOWN = range(4)
_PAR_BAND = 0.01  # a claim that trades further from its backing than this is taken as not redeemable
_NEXT = 0.99  # the depth that weighs quotes: down to this share of the price
_CASH = -1

Ahead = dict[int, float]  # units by asset of sales that are foreseen, beyond what is sold


class _Venue(NamedTuple):
    """All pools of an asset against one quote: curve in whole quote (all cash together: quote -1, in USD).

    unit_usd: value of the quote at the blow, 1 for cash.
    """

    quote: int
    curve: DepthCurve
    unit_usd: float


class Depth:
    """State: `sold` (assets,) units that stand in the pools, `ratio` (assets,) price after / before the walk.

    paid_units (assets,): what pools paid out in tokens that are not cash; paid_usd (assets,): in cash, by asset sold.
    without_depth, sold_as_cash (assets,): USD sold at an asset's price, its depth unknown or taken as unlimited.
    """

    def __init__(self, book: Book, value_usd: Floats, before_usd: Floats, kept: Floats) -> None:
        """value_usd, before_usd (assets,) after and before the blow; kept (assets,) share of depth left."""
        n = len(book.assets)
        self.book, self.blow_usd = book, value_usd
        self.sold, self.ratio, self.own = np.zeros(n), np.ones(n), np.ones(n)
        self.paid_usd, self.paid_units, self.unfilled = np.zeros(n), np.zeros(n), np.zeros(n)
        curves = [_curve(p, value_usd, before_usd, float(kept[p.base])) for p in book.pools]
        place = order(book, [_within(c) * float(value_usd[p.quote]) for c, p in zip(curves, book.pools, strict=True)])
        claims = book.claims
        self.rows = {a: np.flatnonzero(claims.asset == a) for a in np.unique(claims.asset).tolist()}
        self.redeems = {a for a, rows in self.rows.items() if all(place[u] < place[a] for u in claims.underlying[rows])}
        self.venues: dict[int, list[_Venue]] = {}
        self.in_usd: dict[int, list[DepthCurve]] = {}
        self.curve: dict[int, DepthCurve] = {}
        for asset in sorted({p.base for p in book.pools if not book.cash[p.base]}, key=lambda a: place[a]):
            found = [(p, c) for p, c in zip(book.pools, curves, strict=True) if p.base == asset]
            used = [(p, c) for p, c in found if place[p.quote] < place[asset]]
            if used:
                self.venues[asset] = _venues(book, used, value_usd)
                self.in_usd[asset] = [_in_usd(v) for v in self.venues[asset]]
                self.curve[asset] = merge(self.in_usd[asset])
        self.paid = {asset: np.zeros(len(venues)) for asset, venues in self.venues.items()}
        self.follow = [a for a, venues in self.venues.items() if any(v.quote != _CASH for v in venues)]
        self.is_claim = np.zeros(n, np.bool_)
        self.is_claim[claims.asset] = True
        self.without_depth, self.sold_as_cash = np.zeros(n), np.zeros(n)

    def kind(self, asset: int, par: Floats) -> int:
        """How this asset is sold; par (assets,) the claim's price relative to its backing."""
        if self.book.cash[asset]:
            return AT_PRICE
        if asset in self.curve:
            return SELL
        return REDEEM if asset in self.redeems and abs(float(par[asset]) - 1.0) <= _PAR_BAND else UNKNOWN

    def sell(self, asset: int, units: float, value_usd: Floats, par: Floats) -> float:
        """Sell units of asset, moving its price; returns what the seller receives in USD."""
        kind = self.kind(asset, par)
        if units <= 0.0:
            return 0.0
        if kind == SELL:
            return self._walk(asset, units, value_usd, par)
        if kind == REDEEM:
            return sum(
                self.sell(under, redeemed, value_usd, par)
                for under, redeemed in self._redeemed(asset, units, value_usd)
            )
        book = self.without_depth if kind == UNKNOWN else self.sold_as_cash
        book[asset] += units * float(value_usd[asset])
        return units * float(value_usd[asset])

    def followed(self) -> dict[int, float]:
        """Assets whose pools pay in tokens that are not cash: price / price had sales not moved those tokens."""
        return {a: self._quotes_moved(a) for a in self.follow if not self.is_claim[a]}

    def quote(self, asset: int, units: float, value_usd: Floats, par: Floats, ahead: Ahead) -> float:
        """What `units` more would bring after the sales in `ahead`, which they join; nothing is sold."""
        kind = self.kind(asset, par)
        if kind == SELL:
            begin = float(self.sold[asset]) + ahead.get(asset, 0.0)
            ahead[asset] = ahead.get(asset, 0.0) + units
            more = self._proceeds(asset, begin + units) - self._proceeds(asset, begin)
            return sum(
                float(x)
                if venue.quote == _CASH or x <= 0.0
                else self.quote(venue.quote, float(x), value_usd, par, ahead)
                for venue, x in zip(self.venues[asset], more, strict=True)
            )
        if kind == REDEEM:
            return sum(
                self.quote(under, redeemed, value_usd, par, ahead)
                for under, redeemed in self._redeemed(asset, units, value_usd)
            )
        return units * float(value_usd[asset])

    def recover(self, frac: float) -> float:
        """Let a share of what was sold be bought out of the pools by others; returns what they pay in USD."""
        if frac == 0.0:
            return 0.0
        before = float(self.paid_usd.sum())
        for asset in self.curve:
            if self.sold[asset] > 0.0:
                self.sold[asset] *= 1.0 - frac
                self._settle(asset)
        self._follow()
        return before - float(self.paid_usd.sum())

    def _walk(self, asset: int, units: float, value_usd: Floats, par: Floats) -> float:
        curve = self.curve[asset]
        if not len(curve.liquidity):
            self.unfilled[asset] += units
            return 0.0
        unfilled = float(curve.walk(self.sold[asset] + units).unfilled)
        self.unfilled[asset] += unfilled
        self.sold[asset] += units - unfilled
        more = self._settle(asset)
        received = sum(
            float(x) if venue.quote == _CASH else self.sell(venue.quote, float(x), value_usd, par)
            for venue, x in zip(self.venues[asset], more, strict=True)
        )
        self._follow()
        return received

    def _settle(self, asset: int) -> Floats:
        """Book what the pools have paid for all that stands in them; returns what is new by venue."""
        now = self._proceeds(asset, float(self.sold[asset]))
        more, self.paid[asset] = now - self.paid[asset], now
        for venue, x in zip(self.venues[asset], more, strict=True):
            if venue.quote == _CASH:
                self.paid_usd[asset] += x
            else:
                self.paid_units[venue.quote] += x
        curve = self.curve[asset]
        self.own[asset] = self.ratio[asset] = float(curve.walk(self.sold[asset]).price) / curve.price
        return more

    def _proceeds(self, asset: int, sold: float) -> Floats:
        """(venues,) whole quote (USD of cash) that all of `sold` brings, routed at the blow's values of the quotes."""
        venues = self.venues[asset]
        if not len(self.curve[asset].liquidity):
            return np.zeros(len(venues))
        if len(venues) == 1:
            return np.array([venues[0].curve.proceeds_of(sold)])
        price = self.curve[asset].walk(sold).price
        base = [float(c.base_to_price(price)) if len(c.liquidity) else 0.0 for c in self.in_usd[asset]]
        return np.array([v.curve.proceeds_of(b) for v, b in zip(venues, base, strict=True)])

    def _follow(self) -> None:
        """Carry the moves of quotes into the assets that are sold for them, deepest first."""
        for asset in self.follow:
            if not self.is_claim[asset]:
                self.ratio[asset] = self.own[asset] * self._quotes_moved(asset)

    def _quotes_moved(self, asset: int) -> float:
        venues = self.venues[asset]
        moved = np.array([1.0 if v.quote == _CASH else self._moved(v.quote) for v in venues])
        if len(venues) == 1 or not len(self.curve[asset].liquidity):
            return float(moved.mean())
        price = self.curve[asset].price * float(self.own[asset])
        ends = np.array(
            [[v.curve.base_to_price(x * price / (v.unit_usd or np.inf)) for x in (1.0, _NEXT)] for v in venues]
        )
        depth = np.nan_to_num(ends[:, 1] - ends[:, 0])
        return float((moved * depth).sum() / depth.sum()) if depth.sum() > 0.0 else float(moved.mean())

    def _moved(self, asset: int) -> float:
        """Price / price at the blow by sales alone: a claim moves with its underlyings, not with their write-downs."""
        if asset not in self.redeems:
            return float(self.ratio[asset])
        under, rate = self.book.claims.underlying[self.rows[asset]], self.book.claims.rate[self.rows[asset]]
        worth = rate * self.blow_usd[under]
        moved = np.array([self._moved(int(u)) for u in under])
        return float(self.own[asset] * (worth * moved).sum() / worth.sum()) if worth.sum() > 0.0 else 1.0

    def _redeemed(self, asset: int, units: float, value_usd: Floats) -> list[tuple[int, float]]:
        """Units of each underlying for units of a claim at par: shares of its present value, so write-downs count."""
        rows = self.rows[asset]
        c = self.book.claims
        under, rate = c.underlying[rows], c.rate[rows]
        book_value = float((rate * value_usd[under]).sum())
        kept = float(value_usd[asset]) / book_value if book_value > 0.0 else 0.0
        return [(int(u), units * float(r) * kept) for u, r in zip(under, rate, strict=True)]


def _in_usd(venue: _Venue) -> DepthCurve:
    known = venue.quote != _CASH and len(venue.curve.liquidity)
    return venue.curve.scaled(1.0, venue.unit_usd) if known else venue.curve


def _venues(book: Book, used: list[tuple[Pool, DepthCurve]], value_usd: Floats) -> list[_Venue]:
    cash = [c.scaled(1.0, float(value_usd[p.quote])) if len(c.liquidity) else c for p, c in used if book.cash[p.quote]]
    out = [_Venue(_CASH, merge(cash), 1.0)] if cash else []
    others = sorted({p.quote for p, _ in used if not book.cash[p.quote]})
    return out + [_Venue(q, merge([c for p, c in used if p.quote == q]), float(value_usd[q])) for q in others]


def _within(curve: DepthCurve) -> float:
    """Quote that a sale down to 95 % of the price brings."""
    if not len(curve.liquidity):
        return 0.0
    return float(curve.walk(curve.base_to_price(0.95 * curve.price)).proceeds)


def cross_moved(pool: Pool, value_usd: Floats, before_usd: Floats) -> float:
    """Cross rate of base in quote after / before the blow: 0 for a worthless base, inf for a worthless quote alone."""
    base, quote = (
        float(value_usd[a]) / float(before_usd[a]) if before_usd[a] > 0.0 else 1.0 for a in (pool.base, pool.quote)
    )
    return base / quote if quote > 0.0 else np.inf if base > 0.0 else 0.0


def _curve(pool: Pool, value_usd: Floats, before_usd: Floats, kept: float) -> DepthCurve:
    """Sell curve of the pool's base in whole quote, standing at the cross rate after the blow."""
    root = pool.sqrt_price * cross_moved(pool, value_usd, before_usd) ** 0.5
    below = np.flatnonzero(pool.edges[:-1] < root)
    if not 0.0 < root < np.inf or not len(below) or kept == 0.0:
        return NO_DEPTH
    last = below[-1]
    roots = np.append(min(root, float(pool.edges[last + 1])), pool.edges[last::-1])
    gamma = 1.0 - pool.fee_frac
    curve = steps_depth(roots * np.sqrt(gamma), pool.liquidity[last::-1] * kept / np.sqrt(gamma))
    return curve if len(curve.liquidity) else NO_DEPTH
