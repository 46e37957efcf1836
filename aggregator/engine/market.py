"""The one depth that all sellers share: merged pools by asset, how far they are sold, and what that does to prices.

The blow moves every pool along its invariant to the new cross rate (arbitrage), then the walk begins. Units sold into a
pool move the asset's price by the ratio of the merged book's marginal price; what the pool pays is what the walk gives.
A claim without pools of its own that trades within 1 % of par is redeemed and its underlyings are sold. Cash sells at
its price. Anything else has no known depth: it is sold at its price, and the amount is kept as a stated gap.
"""

from __future__ import annotations

import numpy as np

from aggregator.core.errors import DomainError
from aggregator.engine.book import Book, Floats, Pool
from aggregator.quant.depth import NO_DEPTH, DepthCurve, merge, steps_depth

REDEEM, SELL, AT_PRICE, UNKNOWN = range(4)
_PAR_BAND = 0.01  # a claim that trades further from its backing than this is taken as not redeemable


class Depth:
    """State: `sold` (assets,) units that stand in the pools, `ratio` (assets,) price after / before the walk."""

    def __init__(self, book: Book, value_usd: Floats, before_usd: Floats, kept: Floats) -> None:
        """value_usd, before_usd (assets,) after and before the blow; kept (assets,) share of depth left."""
        n = len(book.assets)
        self.book = book
        self.sold, self.ratio = np.zeros(n), np.ones(n)
        self.paid_usd, self.unfilled = np.zeros(n), np.zeros(n)
        self.curve: dict[int, DepthCurve] = {}
        for asset in sorted({pool.base for pool in book.pools}):
            pools = [p for p in book.pools if p.base == asset]
            if not book.cash[asset]:
                self.curve[asset] = merge([_curve(p, value_usd, before_usd, float(kept[asset])) for p in pools])
        claims = book.claims
        self.rows = {a: np.flatnonzero(claims.asset == a) for a in np.unique(claims.asset).tolist()}
        self.without_depth = np.zeros(n)

    def kind(self, asset: int, par: Floats) -> int:
        """How this asset is sold; par (assets,) the claim's price relative to its backing."""
        if self.book.cash[asset]:
            return AT_PRICE
        if asset in self.curve:
            return SELL
        return REDEEM if asset in self.rows and abs(float(par[asset]) - 1.0) <= _PAR_BAND else UNKNOWN

    def sell(self, asset: int, units: float, value_usd: Floats, par: Floats) -> float:
        """Sell units of asset, moving its price; returns what the seller receives in USD."""
        kind = self.kind(asset, par)
        if units <= 0.0:
            return 0.0
        if kind == SELL:
            return self._walk(asset, units)
        if kind == REDEEM:
            return sum(
                self.sell(under, redeemed, value_usd, par)
                for under, redeemed in self._redeemed(asset, units, value_usd)
            )
        if kind == UNKNOWN:
            self.without_depth[asset] += units * float(value_usd[asset])
        return units * float(value_usd[asset])

    def quote(self, asset: int, before: float, units: float, value_usd: Floats, par: Floats) -> float:
        """What `units` more would bring after `before` units were sold this round, without selling them."""
        kind = self.kind(asset, par)
        if kind == SELL:
            curve, at = self.curve[asset], self.sold[asset]
            if not len(curve.liquidity):
                return 0.0
            got = curve.walk(np.array([at + before, at + before + units])).proceeds
            return float(got[1] - got[0])
        if kind == REDEEM:
            ahead = dict(self._redeemed(asset, before, value_usd))
            return sum(
                self.quote(under, ahead[under], more, value_usd, par)
                for under, more in self._redeemed(asset, units, value_usd)
            )
        return units * float(value_usd[asset])

    def units_down_to(self, asset: int, before: float, floor_usd: float, value_usd: Floats, par: Floats) -> float:
        """Units that sell, after `before`, at a marginal price of at least floor_usd."""
        kind = self.kind(asset, par)
        if kind == SELL:
            return max(0.0, float(self.curve[asset].base_to_price(floor_usd)) - float(self.sold[asset]) - before)
        if kind == REDEEM:
            parts = self._redeemed(asset, 1.0, value_usd)
            if len(parts) == 1 and parts[0][1] > 0.0:
                under, rate = parts[0]
                return self.units_down_to(under, before * rate, floor_usd / rate, value_usd, par) / rate
        return np.inf if value_usd[asset] >= floor_usd else 0.0

    def recover(self, frac: float) -> float:
        """Let a share of what was sold be bought out of the pools by others; returns what they pay in USD."""
        if frac == 0.0:
            return 0.0
        paid = 0.0
        for asset, curve in self.curve.items():
            if self.sold[asset] > 0.0:
                before = float(self.paid_usd[asset])
                self.sold[asset] *= 1.0 - frac
                walk = curve.walk(self.sold[asset])
                self.paid_usd[asset] = float(walk.proceeds)
                self.ratio[asset] = float(walk.price) / curve.price
                paid += before - float(walk.proceeds)
        return paid

    def _walk(self, asset: int, units: float) -> float:
        curve = self.curve[asset]
        if not len(curve.liquidity):
            self.unfilled[asset] += units
            return 0.0
        walk = curve.walk(self.sold[asset] + units)
        received = float(walk.proceeds) - float(self.paid_usd[asset])
        self.unfilled[asset] += float(walk.unfilled)
        self.sold[asset] += units - float(walk.unfilled)
        self.paid_usd[asset] = float(walk.proceeds)
        self.ratio[asset] = float(walk.price) / curve.price
        return received

    def _redeemed(self, asset: int, units: float, value_usd: Floats) -> list[tuple[int, float]]:
        """Units of each underlying for units of a claim at par: shares of its present value, so write-downs count."""
        rows = self.rows[asset]
        c = self.book.claims
        under, rate = c.underlying[rows], c.rate[rows]
        book_value = float((rate * value_usd[under]).sum())
        kept = float(value_usd[asset]) / book_value if book_value > 0.0 else 0.0
        return [(int(u), units * float(r) * kept) for u, r in zip(under, rate, strict=True)]


def _curve(pool: Pool, value_usd: Floats, before_usd: Floats, kept: float) -> DepthCurve:
    """Sell curve of the pool's base in USD, standing at the cross rate after the blow."""
    moved = (value_usd[pool.base] / before_usd[pool.base]) / (value_usd[pool.quote] / before_usd[pool.quote])
    if not np.isfinite(moved):
        raise DomainError(
            f"pool {pool.name} has no cross rate after the blow", expected="a positive quote price", found=str(moved)
        )
    root = pool.sqrt_price * float(np.sqrt(moved))
    below = np.flatnonzero(pool.edges[:-1] < root)
    if root <= 0.0 or not len(below) or kept == 0.0:
        return NO_DEPTH
    last = below[-1]
    roots = np.append(min(root, float(pool.edges[last + 1])), pool.edges[last::-1])
    gamma = 1.0 - pool.fee_frac
    curve = steps_depth(roots * np.sqrt(gamma), pool.liquidity[last::-1] * kept / np.sqrt(gamma))
    return curve.scaled(1.0, float(value_usd[pool.quote])) if len(curve.liquidity) else NO_DEPTH


def affordable(depth: Depth, asset: int, units: Floats, cost_usd: Floats, value_usd: Floats, par: Floats) -> Floats:
    """Share in [0, 1] of each sale that a liquidator without inventory makes, (k,).

    All sales of a round share one walk and get its average price, so calls enter from the cheapest unit cost up while
    the average still pays the dearest; the group at the margin enters in part, each member by the same share. One call
    of c on a fee-free pool of x at a live oracle enters whole iff c <= bonus * x.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        unit_cost = np.where(units > 0.0, cost_usd / units, np.inf)
    share = np.zeros(len(units))
    order = np.argsort(unit_cost, kind="stable")
    dearest = unit_cost[order]
    edges = np.flatnonzero(np.append(True, dearest[1:] > dearest[:-1] * (1.0 + _SAME)))
    ahead = 0.0
    for start, end in zip(edges, np.append(edges[1:], len(order)), strict=True):
        group, floor = order[start:end], float(dearest[end - 1])
        if not np.isfinite(floor):
            break
        more = float(units[group].sum())
        if _average(depth, asset, ahead + more, value_usd, par) >= floor * (1.0 - _SAME):
            share[group] = 1.0
            ahead += more
            continue
        low, high = 0.0, 1.0
        for _ in range(60):  # the average price falls in the amount sold
            middle = 0.5 * (low + high)
            pays = _average(depth, asset, ahead + middle * more, value_usd, par) >= floor
            low, high = (middle, high) if pays else (low, middle)
        share[group] = low if low > _LEAST else 0.0
        break
    return share


_SAME, _LEAST = 1e-12, 1e-9


def _average(depth: Depth, asset: int, units: float, value_usd: Floats, par: Floats) -> float:
    return depth.quote(asset, 0.0, units, value_usd, par) / units if units > 0.0 else np.inf
