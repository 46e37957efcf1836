"""One depth for many pools: how much quote a sale of base brings, and where the price ends.

Let m be the marginal price net of fee that a seller of base gets, and u = sqrt(m).  A range of constant-product
liquidity L at fee f, gamma = 1 - f, seen in pool price s^2, obeys

    base = L/gamma * (1/s' - 1/s),        quote = L * (s - s').

With u = sqrt(gamma)*s and l = L/sqrt(gamma) the fee disappears:

    base = l * (1/u' - 1/u),        quote = l * (u - u') = base * u * u'                              (1)

Best routing over several pools sells where m is highest, so all pools that trade stand at one u and their l add: a
merged book is a step function l(u).  Proof of optimality: the marginal price of each pool falls in what it has sold, so
equal margins are necessary and sufficient.  Uniswap v3 ranges are steps (fees stay outside the liquidity); a
constant-product pool is one step down to u = 0 and never runs dry.  Equation (1) is evaluated in its last form, which
does not cancel.  Source: Uniswap v3 whitepaper (Adams et al. 2021) eq. 6.14, 6.16; Angeris et al. 2022,
doi:10.48550/arXiv.2204.05238.

What is left after an order is a book of its own (`after`), counted from where it stands: a further sale never is a
difference of two long walks.  A Uniswap v2 pool adds the fee of an order, the share f of the base sold, to its reserve
when the order is done (UniswapV2Pair.swap): base per price, l/u, grows by c = 1 + f / (1 - f) * (1 - u / u_0) at the
same quote, so the book that is left has u / sqrt(c) and l * sqrt(c).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError
from aggregator.quant._checks import floats, representable, require
from aggregator.quant.amm import finite_and_not_negative, pool_columns
from aggregator.quant.uniswap_v3 import Pool
from aggregator.quant.uniswap_v3_math import FEE_UNIT, MAX_TICK, MIN_TICK, Q96, sqrt_at_tick

Floats = npt.NDArray[np.float64]


class Walk(NamedTuple):
    """Arrays of the shape of the sizes asked.

    proceeds:  quote received for what was sold
    price:     marginal price net of fee after the sale; when exhausted the last one with liquidity, NaN for no book
    unfilled:  base that found no buyer; exhausted: unfilled > 0
    """

    proceeds: Floats
    price: Floats
    unfilled: Floats
    exhausted: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False, slots=True)
class DepthCurve:
    """A merged book for one direction, in the caller's units of base and quote.

    root:      (n+1,) falling sqrt of the net marginal price at the ends of the steps; the last may be 0
    liquidity: (n,) l of each step, >= 0
    base, quote: (n+1,) sold and received from the start down to each end; the last base may be inf
    stays_frac: share of the base sold that one constant-product pool adds to its reserve after each order (Uniswap v2)
    parts: the books that were merged, kept where one of them adds its fee
    No liquidity at all is a curve with n = 0.
    """

    root: Floats
    liquidity: Floats
    base: Floats
    quote: Floats
    stays_frac: float = 0.0
    parts: tuple[DepthCurve, ...] = ()

    @property
    def price(self) -> float:
        """Marginal price net of fee before any sale; NaN when nothing can be sold."""
        return float(self.root[0] ** 2) if len(self.liquidity) else float("nan")

    @representable
    def walk(self, amount: npt.ArrayLike) -> Walk:
        """Sell each amount of base from the start of the book (sizes are alternatives, not a sequence).

        What q more would bring once q0 is sold: `after(q0).walk(q)`.  DomainError for negative or non-finite amounts.
        """
        sizes = floats("amount", amount)
        finite_and_not_negative("amount", sizes)
        if not len(self.liquidity):
            none = np.zeros_like(sizes)
            return Walk(none, np.full_like(sizes, np.nan), sizes.copy(), sizes > 0.0)
        sold = np.minimum(sizes, self.base[-1])
        at = np.minimum(np.searchsorted(self.base, sold, side="right") - 1, len(self.liquidity) - 1)
        top, within = self.root[at], sold - self.base[at]
        # A step without liquidity holds no base, so `at` is only ever one with l > 0 (or the book is at its end).
        root = top / (1.0 + within * top / self.liquidity[at])
        proceeds = self.quote[at] + within * top * root
        unfilled = sizes - sold
        return Walk(proceeds, root * root, unfilled, unfilled > 0.0)

    def proceeds_of(self, sold: float) -> float:
        """Quote for one finite amount of base >= 0, as `walk(sold).proceeds` to the last bit, unchecked and faster."""
        if not len(self.liquidity):
            return 0.0
        sold = min(sold, float(self.base[-1]))
        at = min(int(self.base.searchsorted(sold, side="right")) - 1, len(self.liquidity) - 1)
        top, within = float(self.root[at]), sold - float(self.base[at])
        return float(self.quote[at]) + within * top * (top / (1.0 + within * top / float(self.liquidity[at])))

    def proceeds_each(self, sold: Floats) -> Floats:
        """(k,) the same for (k,) amounts that are alternatives."""
        if not len(self.liquidity):
            return np.zeros(len(sold))
        sold = np.minimum(sold, self.base[-1])
        at = np.minimum(self.base.searchsorted(sold, side="right") - 1, len(self.liquidity) - 1)
        top, within = self.root[at], sold - self.base[at]
        out: Floats = self.quote[at] + within * top * (top / (1.0 + within * top / self.liquidity[at]))
        return out

    def root_after(self, sold: float) -> float:
        """sqrt of the marginal price once one finite amount of base >= 0 is sold; NaN when nothing can be sold."""
        if not len(self.liquidity):
            return float("nan")
        if sold >= float(self.base[-1]):
            return float(self.root[-1])
        at = int(self.base.searchsorted(sold, side="right")) - 1
        top = float(self.root[at])
        return top / (1.0 + (sold - float(self.base[at])) * top / float(self.liquidity[at]))

    def after(self, sold: float) -> DepthCurve:
        """The book that is left once an order of `sold` >= 0 base is done, counted from where it then stands."""
        return self.down_to(self.root_after(sold)) if sold > 0.0 and len(self.liquidity) else self

    def down_to(self, root: float) -> DepthCurve:
        """The book that is left once an order has taken the marginal price down to root^2; itself where it has not."""
        if self.parts:
            return merge(part.down_to(root) for part in self.parts)
        if not len(self.liquidity) or root >= self.root[0]:
            return self
        at = int((-self.root).searchsorted(-root, side="right")) - 1
        if at >= len(self.liquidity):
            return NO_DEPTH
        left = _book(np.append(root, self.root[at + 1 :]), self.liquidity[at:], self.stays_frac)
        if not self.stays_frac:
            return left
        return left.scaled(1.0 + self.stays_frac / (1.0 - self.stays_frac) * (1.0 - root / float(self.root[0])), 1.0)

    def liquidity_below(self, root: Floats) -> Floats:
        """(k,) l of the step that lies right below each root, 0 outside the book."""
        step = np.searchsorted(-self.root, -root, side="right") - 1
        inside = (step >= 0) & (step < len(self.liquidity))
        return np.where(inside, np.append(self.liquidity, 0.0)[np.where(inside, step, 0)], 0.0)

    @representable
    def base_to_price(self, price: npt.ArrayLike) -> Floats:
        """Base sold before the net marginal price falls below `price` >= 0; inf where the book never ends."""
        floor = floats("price", price)
        finite_and_not_negative("price", floor)
        floor = np.sqrt(floor)
        if not len(self.liquidity):
            return np.zeros_like(floor)
        target = np.clip(floor, self.root[-1], self.root[0])
        at = np.clip(np.searchsorted(-self.root, -target, side="left") - 1, 0, len(self.liquidity) - 1)
        with np.errstate(divide="ignore"):
            inside = self.liquidity[at] * ((self.root[at] - target) / (self.root[at] * target))
        return np.asarray(self.base[at] + inside)

    @representable
    def base_for(self, proceeds: npt.ArrayLike) -> Floats:
        """Least base whose sale brings `proceeds`; NaN where the whole book does not bring that much."""
        wanted = floats("proceeds", proceeds)
        finite_and_not_negative("proceeds", wanted)
        if not len(self.liquidity):
            return np.where(wanted > 0.0, np.nan, 0.0)
        at = np.minimum(np.searchsorted(self.quote, wanted, side="right") - 1, len(self.liquidity) - 1)
        within = wanted - self.quote[at]
        # A constant-product tail approaches its last quote and never pays it whole.
        too_much = wanted >= self.quote[-1] if np.isinf(self.base[-1]) else wanted > self.quote[-1] * (1.0 + 1e-15)
        within = np.where(too_much, 0.0, within)
        root = self.root[at] - within / self.liquidity[at]
        with np.errstate(invalid="ignore"):
            return np.where(too_much, np.nan, self.base[at] + within / (self.root[at] * root))

    def scaled(self, base_unit: float, quote_unit: float) -> DepthCurve:
        """The same book with amounts multiplied by base_unit and quote_unit (decimals, or the quote's price in USD)."""
        if not (0.0 < base_unit < np.inf and 0.0 < quote_unit < np.inf):
            raise DomainError("units must be positive", expected="> 0", found=f"{base_unit}, {quote_unit}")
        return DepthCurve(
            self.root * np.sqrt(quote_unit / base_unit),
            self.liquidity * np.sqrt(base_unit * quote_unit),
            self.base * base_unit,
            self.quote * quote_unit,
            self.stays_frac,
            tuple(part.scaled(base_unit, quote_unit) for part in self.parts),
        )


NO_DEPTH = DepthCurve(np.full(1, np.nan), np.zeros(0), np.zeros(1), np.zeros(1))


@representable
def constant_product_depth(base: float, quote: float, fee_frac: float = 0.0, *, fee_stays: bool = False) -> DepthCurve:
    """Depth of one constant-product pool with reserves (base, quote); a zero reserve is a pool without depth.

    fee_stays: the fee of an order joins the reserve of base after it, as in Uniswap v2.
    """
    pool_columns(base=base, quote=quote, fee_frac=fee_frac)
    if base == 0.0 or quote == 0.0:
        return NO_DEPTH
    gamma = 1.0 - fee_frac
    root = np.array([np.sqrt(gamma * (quote / base)), 0.0])
    # At u = 0 everything is bought: base = inf, quote = the whole reserve.
    liquidity = np.array([np.sqrt(base / gamma) * np.sqrt(quote)])
    stays_frac = fee_frac if fee_stays else 0.0
    return DepthCurve(root, liquidity, np.array([0.0, np.inf]), np.array([0.0, quote]), stays_frac)


def uniswap_v3_depth(pool: Pool, *, sell_token0: bool) -> DepthCurve:
    """Depth of a Uniswap v3 pool in raw units; cumulated in exact integers, so it adds no error to long walks.

    sell_token0: base is token0 and quote token1, else the other way round.  Ranges without liquidity keep their place.
    """
    edges, held = _ranges(pool, sell_token0)
    gamma = 1.0 - pool.fee_pips / FEE_UNIT
    base, quote, n = [0.0], [0.0], 0
    last = max((i + 1 for i, liquidity in enumerate(held) if liquidity), default=0)
    sum_base = sum_quote = 0
    one = 1 << 64  # extra bits so that small ranges do not lose theirs
    for near, far, liquidity in zip(edges[:last], edges[1 : last + 1], held[:last], strict=True):
        gap = liquidity * abs(near - far)
        by_price, by_inverse = gap * one // Q96, gap * Q96 * one // (near * far)
        sum_base += by_inverse if sell_token0 else by_price
        sum_quote += by_price if sell_token0 else by_inverse
        base.append(sum_base / one / gamma)
        quote.append(sum_quote / one)
        n += 1
    if not n:
        return NO_DEPTH
    roots = np.array([edge / Q96 if sell_token0 else Q96 / edge for edge in edges[: n + 1]])
    liquidity_frac = np.array([float(liquidity) for liquidity in held[:n]]) / np.sqrt(gamma)
    return DepthCurve(roots * np.sqrt(gamma), liquidity_frac, np.array(base), np.array(quote))


@representable
def steps_depth(root: npt.ArrayLike, liquidity: npt.ArrayLike) -> DepthCurve:
    """A book from falling roots (n+1,) and the liquidity of each step (n,); cumulates equation (1)."""
    u, steps = floats("root", root), floats("liquidity", liquidity)
    finite_and_not_negative("root", u)
    finite_and_not_negative("liquidity", steps)
    if steps.ndim != 1 or u.shape != (steps.size + 1,):
        raise DomainError(
            "roots are one more than steps", expected="(n+1,) and (n,)", found=f"{u.shape}, {steps.shape}"
        )
    require("root", u[1:], np.diff(u) < 0.0, "below the root before it")
    filled = np.flatnonzero(steps)
    if not len(filled):
        return NO_DEPTH
    return _book(u[: filled[-1] + 2], steps[: filled[-1] + 1])


def _book(root: Floats, liquidity: Floats, stays_frac: float = 0.0) -> DepthCurve:
    """Cumulates equation (1) over falling roots (n+1,) and the liquidity of each step (n,), unchecked."""
    quote = liquidity * (root[:-1] - root[1:])
    with np.errstate(divide="ignore", invalid="ignore"):
        base = np.where(liquidity > 0.0, quote / (root[:-1] * root[1:]), 0.0)
    cumulated = np.zeros((2, len(root)))
    np.cumsum((base, quote), axis=1, out=cumulated[:, 1:])
    return DepthCurve(root, liquidity, cumulated[0], cumulated[1], stays_frac)


@representable
def depth_through(base: npt.ArrayLike, quote: npt.ArrayLike, price: npt.ArrayLike) -> DepthCurve:
    """A book through points of a concave sale curve: base sold, quote got, net marginal price, each (k,), first 0.

    With r = dQ/dB between two points, two steps meeting at u_m, the first holding the share w of the base, reproduce
    both amounts and both prices iff r = u_m*(w*u_0 + (1-w)*u_1).  u_m is the middle of what leaves 0 < w < 1, which
    exists exactly if u_1^2 < r < u_0^2; otherwise DomainError names the points.
    """
    b, q, m = floats("base", base), floats("quote", quote), floats("price", price)
    for name, column in (("base", b), ("quote", q), ("price", m)):
        finite_and_not_negative(name, column)
    if b.ndim != 1 or b.shape != q.shape or b.shape != m.shape or len(b) < 2 or b[0] != 0.0 or q[0] != 0.0:
        raise DomainError(
            "points do not pair", expected="three (k >= 2,) arrays, base and quote from 0", found=str(b.shape)
        )
    u, d_base = np.sqrt(m), np.diff(b)
    high, low = u[:-1], u[1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.diff(q) / d_base
        middle = (np.maximum(low, rate / high) + np.minimum(high, rate / low)) / 2.0
        share = (rate / middle - low) / (high - low)
        upper = share * d_base * middle * high / (high - middle)
        lower = (1.0 - share) * d_base * middle * low / (middle - low)
    good = (d_base > 0.0) & (low < middle) & (middle < high) & (share > 0.0) & (share < 1.0)
    if not np.all(good):
        at = int(np.argmin(good))
        raise DomainError(
            f"points {at} and {at + 1} are not on one falling price curve",
            expected="price after < average price < price before",
            found=f"{m[at + 1]}, {rate[at]}, {m[at]}",
        )
    roots, steps, sold, got = np.empty(2 * len(u) - 1), np.empty(2 * len(u) - 2), b.repeat(2)[:-1], q.repeat(2)[:-1]
    roots[::2], roots[1::2], steps[::2], steps[1::2] = u, middle, upper, lower
    sold[1::2] += share * d_base
    got[1::2] += share * d_base * u[:-1] * middle
    return DepthCurve(roots, steps, sold, got)


def merge(curves: Iterable[DepthCurve]) -> DepthCurve:
    """Best routing over several books of one base and one quote, in the same units: their l(u) add."""
    books = [curve for curve in curves if len(curve.liquidity)]
    if len(books) <= 1:
        return books[0] if books else NO_DEPTH
    roots = np.unique(np.concatenate([book.root for book in books]))[::-1]
    total = np.sum([book.liquidity_below(roots[:-1]) for book in books], axis=0)
    book = steps_depth(roots, total)
    return replace(book, parts=tuple(books)) if any(b.stays_frac or b.parts for b in books) else book


def split(curves: Sequence[DepthCurve], amount: float) -> tuple[Floats, float]:
    """How best routing divides a sale: (base sold in each book (n,), base unfilled)."""
    walked = merge(curves).walk(amount)
    parts = np.array([float(curve.base_to_price(walked.price)) if len(curve.liquidity) else 0.0 for curve in curves])
    return parts, float(walked.unfilled)


def _ranges(pool: Pool, sell_token0: bool) -> tuple[list[int], list[int]]:
    """Exact sqrt prices from the current one outward, and the liquidity between them."""
    edges, held, liquidity = [pool.sqrt_x96], [], pool.liquidity
    if sell_token0:
        walk = [(t, -n) for t, n in zip(pool.ticks, pool.liquidity_net, strict=True) if t <= pool.tick][::-1]
        end = MIN_TICK
    else:
        walk = [(t, n) for t, n in zip(pool.ticks, pool.liquidity_net, strict=True) if t > pool.tick]
        end = MAX_TICK
    for tick, net in walk:
        edge = sqrt_at_tick(tick)
        if edge != edges[-1]:
            edges.append(edge)
            held.append(liquidity)
        liquidity += net
        if liquidity < 0:
            raise DomainError("liquidity turns negative", expected=">= 0", found=f"{liquidity} past tick {tick}")
    if liquidity:
        edges.append(sqrt_at_tick(end))
        held.append(liquidity)
    return edges, held
