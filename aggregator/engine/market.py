"""The one depth that all sellers share: merged pools by asset, where they stand, and what that does to prices.

The blow moves every pool along its invariant to the new cross rate (arbitrage), then the sales begin. Units sold into a
pool move the asset's price by the ratio of the merged book's marginal price. What a pool pays in a token that is not
cash is sold on through that token's own depth, and the asset's price then follows that token's:

    price(X) / price(X) at the blow = m(now) / m(0) * sum over quotes g of w_g * price(g) / price(g) at the blow

with m the marginal price in quotes at their values of the blow and w_g the share of the depth within the next 1 %; for
one quote this is exact, for several the routing keeps to the blow's values. Selling on ends because a pool is used from
the shallower token to the deeper one alone (`routes`). A pool that pays in a token worth nothing has no depth left.

How an asset is sold is settled at the blow:

    AT_PRICE  cash: at its price (`sold_as_cash`)
    SELL      into its pools. A claim's discount to its backing then moves by m alone, its value by the backing too
    REDEEM    a claim without pools, within 1 % of its backing: its underlyings are sold
    EITHER    a claim with pools, within 1 % of its backing, which can be sold: each sale is split between its pools and
              redemption so that the next unit brings the same both ways. Its price stays where the backing holds it
    UNKNOWN   at its price, without known depth (`without_depth`)

State is the book that is left (`Bids`), never an amount sold since the start: what a small sale brings is no difference
of two large ones. To a pool whose fee stays in its reserves, one call of `sell` is one order.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from aggregator.engine.bids import CASH, Ahead, Bids, bids_of
from aggregator.engine.book import Book, Floats, Pool
from aggregator.engine.crossing import crossing
from aggregator.engine.routes import order
from aggregator.quant.depth import NO_DEPTH, DepthCurve, steps_depth

REDEEM, SELL, AT_PRICE, UNKNOWN, EITHER = range(5)
_PAR_BAND = 0.01  # a claim that trades further from its backing than this is taken as not redeemable at once
_NEXT = 0.99  # the depth that weighs quotes: down to this share of the price
_SPLIT = 2.0**-44  # relative: proceeds are flat there, and claims on claims ask for one split inside another


class Depth:
    """State: `bids` by asset, `ratio` (assets,) price after / before the sales.

    sold (assets,): units that stand in the pools; paid_units (assets,): what pools paid out in tokens that are not
    cash; paid_usd (assets,): in cash, by asset sold. unfilled (assets,): units that found no buyer. without_depth,
    sold_as_cash (assets,): USD sold at an asset's price, its depth unknown or taken as unlimited.
    off_end (assets,): how close an order came to the end of the depth, relative. curve: the merged books at the blow.
    how (assets,): AT_PRICE, SELL, REDEEM, EITHER or UNKNOWN. premium (assets,) >= 1: price of a claim over its backing.
    """

    def __init__(self, book: Book, value_usd: Floats, before_usd: Floats, kept: Floats, par: Floats) -> None:
        """value_usd, before_usd (assets,) after and before the blow; kept (assets,) share of depth left.

        par (assets,): price of each claim relative to its backing after the blow.
        """
        n = len(book.assets)
        self.book, self.blow_usd = book, value_usd
        self.sold, self.ratio, self.own = np.zeros(n), np.ones(n), np.ones(n)
        self.paid_usd, self.paid_units, self.unfilled = np.zeros(n), np.zeros(n), np.zeros(n)
        self.off_end = np.full(n, np.inf)
        curves = [_curve(p, value_usd, before_usd, float(kept[p.base])) for p in book.pools]
        place = order(book, [_within(c) * float(value_usd[p.quote]) for c, p in zip(curves, book.pools, strict=True)])
        claims = book.claims
        self.rows = {a: np.flatnonzero(claims.asset == a) for a in np.unique(claims.asset).tolist()}
        self.premium = np.maximum(par, 1.0)
        self.backed = {a for a, rows in self.rows.items() if all(place[u] < place[a] for u in claims.underlying[rows])}
        self.bids: dict[int, Bids] = {}
        for asset in sorted({p.base for p in book.pools if not book.cash[p.base]}, key=lambda a: place[a]):
            pools = [(p, c) for p, c in zip(book.pools, curves, strict=True) if p.base == asset]
            used = [(p, c) for p, c in pools if place[p.quote] < place[asset]]
            if used:
                self.bids[asset] = bids_of(book, used, value_usd)
        self.fresh = dict(self.bids)
        self._deep_usd: dict[int, float] = {}
        self.curve = {asset: bids.curve for asset, bids in self.bids.items()}
        self.how = [UNKNOWN] * n
        for asset in np.argsort(place, kind="stable").tolist():
            self.how[asset] = self._way(asset, par)
        self.follow = [a for a, bids in self.bids.items() if any(q != CASH for q in bids.quotes)]
        self.is_claim = np.zeros(n, np.bool_)
        self.is_claim[claims.asset] = True
        self.without_depth, self.sold_as_cash = np.zeros(n), np.zeros(n)

    def _way(self, asset: int, par: Floats) -> int:
        if self.book.cash[asset]:
            return AT_PRICE
        redeems = asset in self.backed and abs(float(par[asset]) - 1.0) <= _PAR_BAND
        if asset not in self.bids:
            return REDEEM if redeems else UNKNOWN
        known = redeems and all(self._known(u) for u in self.book.claims.underlying[self.rows[asset]].tolist())
        return EITHER if known else SELL

    def _known(self, asset: int) -> bool:
        """Whether what a sale of it would bring is known."""
        if self.how[asset] == REDEEM:
            return all(self._known(u) for u in self.book.claims.underlying[self.rows[asset]].tolist())
        return self.how[asset] != UNKNOWN

    def sell(self, asset: int, units: float, value_usd: Floats) -> float:
        """Sell units of asset in one order, moving its price; returns what the seller receives in USD."""
        how = self.how[asset]
        if units <= 0.0:
            return 0.0
        if how == SELL:
            return self._walk(asset, units, value_usd)
        if how in (REDEEM, EITHER):
            to_pools = self._to_pools(asset, units, value_usd, {}) if how == EITHER else 0.0
            received = self._walk(asset, to_pools, value_usd) if to_pools else 0.0
            redeemed = self._redeemed(asset, units - to_pools, value_usd)
            return received + sum(self.sell(under, amount, value_usd) for under, amount in redeemed)
        book = self.without_depth if how == UNKNOWN else self.sold_as_cash
        book[asset] += units * float(value_usd[asset])
        return units * float(value_usd[asset])

    def followed(self) -> dict[int, float]:
        """Assets whose pools pay in tokens that are not cash: price / price had sales not moved those tokens."""
        return {a: self._quotes_moved(a) for a in self.follow if not self.is_claim[a]}

    def quote(self, asset: int, units: float, value_usd: Floats, ahead: Ahead) -> float:
        """What one order of `units` would bring after the sales in `ahead`, which it joins; nothing is sold."""
        how = self.how[asset]
        if units <= 0.0:
            return 0.0
        if how == SELL:
            return self._quote_pools(asset, units, value_usd, ahead)
        if how == REDEEM:
            return self._quote_redeemed(asset, units, value_usd, ahead)
        if how == EITHER:
            to_pools = self._to_pools(asset, units, value_usd, ahead)
            received = self._quote_pools(asset, to_pools, value_usd, ahead)
            return received + self._quote_redeemed(asset, units - to_pools, value_usd, ahead)
        return units * float(value_usd[asset])

    def known_usd(self, asset: int, units: Floats, value_usd: Floats) -> Floats:
        """(k,) what each order, all alternatives, would bring now by depth that is known; nothing where none is.

        Where a claim is sold both ways, what the better of them brings alone.
        """
        how = self.how[asset]
        if how == AT_PRICE:
            return units * float(value_usd[asset])
        pools, redeemed = np.zeros(len(units)), np.zeros(len(units))
        if how in (SELL, EITHER):
            bids = self.bids[asset]
            for quote, x in zip(bids.quotes, bids.paid_each(units), strict=True):
                pools = pools + (x if quote == CASH else self.known_usd(quote, x, value_usd))
        if how in (REDEEM, EITHER):
            for under, rate in self._redeemed(asset, 1.0, value_usd):
                redeemed = redeemed + self.known_usd(under, rate * units, value_usd)
        return np.maximum(pools, redeemed)

    def deep_usd(self, asset: int) -> float:
        """USD that a sale down to 95 % of its price brought at the blow; inf for cash, 0 where none is known."""
        how = self.how[asset]
        if how == AT_PRICE:
            return np.inf
        if how in (SELL, EITHER) and asset not in self._deep_usd:
            self._deep_usd[asset] = _within(self.curve[asset])
        pools = self._deep_usd.get(asset, 0.0)
        if how in (SELL, UNKNOWN):
            return pools
        return pools + min(self.deep_usd(u) for u in self.book.claims.underlying[self.rows[asset]].tolist())

    def recover(self, frac: float) -> float:
        """Let a share of what was sold be bought out of the pools by others; returns what they pay in USD.

        The pools then stand as if the rest alone had been sold, in one order.
        """
        if frac == 0.0:
            return 0.0
        before = float(self.paid_usd.sum())
        for asset in self.bids:
            if self.sold[asset] > 0.0:
                left = float(self.sold[asset]) * (1.0 - frac)
                self.bids[asset] = self.fresh[asset].after(left)
                self._book_paid(asset, -self.bids[asset].paid(float(self.sold[asset]) - left))
                self.sold[asset] = left
        self._follow()
        return before - float(self.paid_usd.sum())

    def _walk(self, asset: int, units: float, value_usd: Floats) -> float:
        bids = self.bids[asset]
        unfilled = bids.unfilled(units)
        self.unfilled[asset] += unfilled
        if bids.empty:
            return 0.0
        end = float(bids.curve.base[-1])
        self.off_end[asset] = min(self.off_end[asset], abs(units / end - 1.0))
        self.sold[asset] += units - unfilled
        paid, self.bids[asset] = bids.paid(units), bids.after(units)
        self._book_paid(asset, paid)
        received = sum(
            float(x) if quote == CASH else self.sell(quote, float(x), value_usd)
            for quote, x in zip(bids.quotes, paid, strict=True)
        )
        self._follow()
        return received

    def _book_paid(self, asset: int, paid: Floats) -> None:
        """paid (venues,): what the pools pay now; the price of the asset is where they stand."""
        for quote, x in zip(self.bids[asset].quotes, paid.tolist(), strict=True):
            if quote == CASH:
                self.paid_usd[asset] += x
            else:
                self.paid_units[quote] += x
        self.own[asset] = (self.bids[asset].root / self.fresh[asset].root) ** 2
        self.ratio[asset] = 1.0 if self.how[asset] == EITHER else self.own[asset]

    def _foreseen(self, asset: int, ahead: Ahead) -> Bids:
        bids, units = ahead.get(asset, (self.bids[asset], 0.0))
        return bids.after(units)

    def _quote_pools(self, asset: int, units: float, value_usd: Floats, ahead: Ahead) -> float:
        if units <= 0.0:
            return 0.0
        bids = self._foreseen(asset, ahead)
        ahead[asset] = bids, units
        return sum(
            x if quote == CASH else self.quote(quote, x, value_usd, ahead)
            for quote, x in zip(bids.quotes, bids.paid(units).tolist(), strict=True)
        )

    def _quote_redeemed(self, asset: int, units: float, value_usd: Floats, ahead: Ahead) -> float:
        redeemed = self._redeemed(asset, units, value_usd)
        return sum(self.quote(under, amount, value_usd, ahead) for under, amount in redeemed)

    def _to_pools(self, asset: int, units: float, value_usd: Floats, ahead: Ahead) -> float:
        """Of one order of a claim, what is sold into its own pools: there the next unit brings as much as redeemed.

        Both ways may end in one token's depth; each is judged after both sales, so the split brings the most. No less
        than redeeming all where that says too little: pools that pay in several tokens are routed at the blow's values,
        one of which may have fallen since, and two orders of one pool pay its fee into what the second meets.
        """

        def better_in_pools(own: float) -> float:
            after = ahead.copy()
            self._quote_pools(asset, own, value_usd, after)
            self._quote_redeemed(asset, units - own, value_usd, after)
            return self._next_in_pools(asset, value_usd, after) - self._next_redeemed(asset, value_usd, after)

        if better_in_pools(0.0) <= 0.0:
            return 0.0
        own = crossing(better_in_pools, 0.0, units, _SPLIT)
        after, alone = ahead.copy(), ahead.copy()
        both = self._quote_pools(asset, own, value_usd, after)
        both += self._quote_redeemed(asset, units - own, value_usd, after)
        return own if both >= self._quote_redeemed(asset, units, value_usd, alone) else 0.0

    def _next_usd(self, asset: int, value_usd: Floats, ahead: Ahead) -> float:
        """What the next unit of an asset brings after the sales in `ahead`."""
        how = self.how[asset]
        if how in (AT_PRICE, UNKNOWN):
            return float(value_usd[asset])
        in_pools = self._next_in_pools(asset, value_usd, ahead) if how != REDEEM else 0.0
        return max(in_pools, self._next_redeemed(asset, value_usd, ahead)) if how != SELL else in_pools

    def _next_in_pools(self, asset: int, value_usd: Floats, ahead: Ahead) -> float:
        (bids, units), out = ahead.get(asset, (self.bids[asset], 0.0)), 0.0
        for quote, x in zip(bids.quotes, bids.next_unit(units).tolist(), strict=True):
            out += x if quote == CASH else x * self._next_usd(quote, value_usd, ahead)
        return out

    def _next_redeemed(self, asset: int, value_usd: Floats, ahead: Ahead) -> float:
        redeemed = self._redeemed(asset, 1.0, value_usd)
        return sum(amount * self._next_usd(under, value_usd, ahead) for under, amount in redeemed)

    def _follow(self) -> None:
        """Carry the moves of quotes into the assets that are sold for them, deepest first."""
        for asset in self.follow:
            if not self.is_claim[asset]:
                self.ratio[asset] = self.own[asset] * self._quotes_moved(asset)

    def _quotes_moved(self, asset: int) -> float:
        bids = self.bids[asset]
        moved = np.array([1.0 if quote == CASH else self._moved(quote) for quote in bids.quotes])
        if len(moved) == 1:
            return float(moved[0])
        depth = bids.within(_NEXT)
        return float((moved * depth).sum() / depth.sum()) if depth.sum() > 0.0 else float(moved.mean())

    def _moved(self, asset: int) -> float:
        """Price / price at the blow by sales alone: a claim moves with its underlyings, not with their write-downs."""
        if asset not in self.backed:
            return float(self.ratio[asset])
        under, rate = self.book.claims.underlying[self.rows[asset]], self.book.claims.rate[self.rows[asset]]
        worth = rate * self.blow_usd[under]
        moved = np.array([self._moved(int(u)) for u in under])
        return float(self.ratio[asset] * (worth * moved).sum() / worth.sum()) if worth.sum() > 0.0 else 1.0

    def _redeemed(self, asset: int, units: float, value_usd: Floats) -> list[tuple[int, float]]:
        """Units of each underlying for units of a claim: shares of its present value, so write-downs count.

        A discount is what redeeming costs; no issuer pays a premium.
        """
        rows = self.rows[asset]
        c = self.book.claims
        under, rate = c.underlying[rows], c.rate[rows]
        book_value = float((rate * value_usd[under]).sum())
        kept = float(value_usd[asset]) / (book_value * float(self.premium[asset])) if book_value > 0.0 else 0.0
        return [(int(u), units * float(r) * kept) for u, r in zip(under, rate, strict=True)]


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
    if not len(curve.liquidity):
        return NO_DEPTH
    return replace(curve, stays_frac=pool.fee_frac) if pool.fee_stays else curve
