"""The moving part of a cascade: what is left of every leg, where prices stand, who holds and owes what.

Sectors are balances, never sums of flows, so that conservation is checked and not assumed:

    borrowers    collateral - live debt + surplus of absorptions        suppliers   live debt + what was repaid
    liquidators  cash + collateral they could not sell                  protocol    fees, storefront income - credit
    pools        base they hold - cash they paid                        outside     buyers beyond the pools, redemptions
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from aggregator.core.errors import DomainError
from aggregator.engine.blow import Blow
from aggregator.engine.book import CONSTANT, LAGGED, RATE, Book, Floats, Indices, add_up
from aggregator.engine.market import Depth, cross_moved
from aggregator.engine.ties import Edges
from aggregator.engine.value import CutValues, Lookthrough, Valuation, values_at_cut

SECTORS = ("borrowers", "liquidators", "outside", "pools", "protocol", "suppliers")


class _Shared(NamedTuple):
    """(pots,) what was lost up to the last write-down, and how much of it suppliers bore."""

    lost_units: Floats
    lost_usd: Floats
    borne_units: Floats


class State:
    def __init__(self, book: Book, blow: Blow, *, mark_loans: bool = False) -> None:
        self.book, self.look = book, Lookthrough(book, mark_loans=mark_loans)
        n, accounts = len(book.assets), book.accounts
        self.amount = book.leg_amount.copy()
        self.dead = np.zeros(accounts, np.bool_)
        self.lost_units, self.lost_usd = np.zeros(len(book.pots.market)), np.zeros(len(book.pots.market))
        self.written_usd = np.zeros(len(book.pots.market))  # of lost_usd, what suppliers bear
        self.marked_units = np.zeros(len(book.pots.market))  # losses of option pools, which may come back
        cut = _at_cut(book)
        self.par = cut.par
        # by the same iteration as every later value, so that without a blow nothing moves by as much as a bit
        found = self.look.solve(cut.value_usd, cut.par, np.zeros(len(book.pots.market)), cut.value_usd)
        self.cut_usd, self.cut_backing_usd, top = found.value_usd, found.backing_usd, cut.value_usd
        self.priced = self.look.is_claim | np.isfinite(book.price_usd)
        self.price = _blown_price(self.look, self.cut_usd, blow)
        moved = self.price / np.where(self.cut_usd > 0.0, self.cut_usd, 1.0)
        rise = float(np.nanmax(np.where(self.look.is_claim, 1.0, moved), initial=1.0))
        self.top = top * max(1.0, rise)
        self.lost_units += book.pots.shock_units
        borne = np.maximum(self.lost_units - book.pots.reserve_units, 0.0)
        self._shared = _Shared(self.lost_units.copy(), self.lost_usd.copy(), borne)
        self._depeg(blow)
        self._stand(None)
        self.blow_usd = self.value_usd.copy()
        self.previous_usd = self.cut_usd  # at the start of the round before: lagged oracles answer it
        self.depth = Depth(book, self.value_usd, self.cut_usd, blow.depth_kept, self.par)
        self.edges = Edges(accounts, n)
        self.rank = _ranks(book.assets)
        self.market_rank = _ranks(book.markets)
        self._paid = np.zeros(n)
        self.silent = True  # no round has run yet
        self.cash = dict.fromkeys(SECTORS, 0.0)
        self.units = {sector: np.zeros(n) for sector in SECTORS}
        for pool in book.pools:
            self.units["pools"][pool.base] += _base_held(
                pool.edges, pool.liquidity, pool.sqrt_price * cross_moved(pool, self.value_usd, self.cut_usd) ** 0.5
            )
        self.calls, self.first_round = np.zeros(accounts, np.int64), np.zeros(accounts, np.int64)
        self.seized_usd, self.repaid_usd, self.bad_usd = np.zeros(accounts), np.zeros(accounts), np.zeros(accounts)
        self.homeless_usd = np.zeros(len(book.markets))  # losses without a pot
        self.reserves_usd = np.zeros(len(book.markets))  # paid by Comet
        self.refund = np.zeros(accounts)  # USD that absorptions credited beyond the debt
        self.credit_usd = self.storefront_usd = 0.0  # what absorptions credited, and what their collateral sold for

    @cached_property
    def holder_rank(self) -> Indices:
        """(holders,) place of each by name."""
        return _ranks(self.book.holders)

    # prices -------------------------------------------------------------------------------------------------------

    def revalue(self, depth: Depth | None, unrated_units: Floats | float = 0.0) -> Valuation:
        """unrated_units (pots,): losses that are left out, because they do not show in an exchange rate."""
        ratio = depth.ratio if depth else 1.0
        price = np.where(self.look.is_claim, self.price, self.price * ratio)
        par = np.where(self.look.is_claim, self.par * ratio, self.par)
        lost = self.lost_units + self.marked_units - unrated_units
        return self.look.solve(price, par, lost, self.top, self.amount)

    def refresh(self) -> None:
        self._stand(self.depth)

    def unrated_units(self) -> Floats:
        """(pots,) bad debt with which its market's exchange rate has not fallen."""
        pots = self.book.pots
        return np.where(self.book.rate_ignores_losses[pots.market], self.lost_units - pots.shock_units, 0.0)

    def owed_usd(self) -> Floats:
        """(markets,) bad debt that stays owed on accounts without collateral, for its market's rule keeps it."""
        book = self.book
        return np.where(book.keeps_bad_debt, add_up(book.account_market, self.bad_usd, len(book.markets)), 0.0)

    def _stand(self, depth: Depth | None) -> None:
        """Set values, and rate_usd (assets,): what a whole claim converts to by its protocols' own rates."""
        self.value_usd, self.backing_usd, self.lost_frac, self.claims_residual = self.revalue(depth)
        unrated = self.unrated_units()
        self.rate_usd = self.revalue(depth, unrated).backing_usd if unrated.any() else self.backing_usd

    def answers(self) -> Floats:
        """(oracles,) what every oracle answers now, USD."""
        return self._answers(self.value_usd, self.rate_usd)

    def answers_at_cut(self) -> Floats:
        """(oracles,) what they answered before the blow; to be asked before the first round."""
        return self._answers(self.cut_usd, self.cut_backing_usd)

    def _answers(self, value_usd: Floats, rate_usd: Floats) -> Floats:
        o = self.book.oracles
        out = o.level * value_usd[o.source]
        out = np.where(o.path == RATE, o.level * rate_usd[o.source], out)
        out = np.where(o.path == CONSTANT, o.level * value_usd[o.quote], out)
        lagged = o.level * self.previous_usd[o.source]
        if self.silent:
            lagged = np.where(np.isnan(o.before_usd), lagged, o.before_usd)
        return self._capped(np.where(o.path == LAGGED, lagged, out), value_usd)

    def _capped(self, answers_usd: Floats, value_usd: Floats) -> Floats:
        o, capped = self.book.oracles, np.isfinite(self.book.oracles.cap)
        cap_usd = np.where(capped, o.cap, 0.0) * value_usd[o.quote]
        return np.where(capped, np.minimum(answers_usd, cap_usd), answers_usd)

    def oracles_settled(self) -> bool:
        """Whether every lagged oracle answers what its source stands at."""
        o = self.book.oracles
        lagged = o.path == LAGGED
        ends = self._capped(o.level * self.value_usd[o.source], self.value_usd)
        return bool((self.answers()[lagged] == ends[lagged]).all())

    def _depeg(self, blow: Blow) -> None:
        claim = self.look.is_claim
        self.par = np.where(claim & ~np.isnan(blow.depeg), blow.depeg, self.par)
        pinned = np.flatnonzero(claim & ~np.isnan(blow.price_ratio))
        for _ in range(len(pinned) + 1 if len(pinned) else 0):  # a pinned claim may back another pinned claim
            target = self.cut_usd[pinned] * blow.price_ratio[pinned]
            self.top[pinned] = np.maximum(self.top[pinned], target)
            _, backing, _, _ = self.revalue(None)
            with np.errstate(over="ignore"):  # a backing next to zero: the values refuse what comes of it
                self.par[pinned] = target / np.where(backing[pinned] > 0.0, backing[pinned], np.inf)

    def sell(self, asset: int, units: float, value_usd: Floats) -> float:
        """Liquidators sell what they hold of an asset; books the buyers, returns USD received."""
        depth, before = self.depth, self.depth.sold - self.depth.paid_units
        unfilled = depth.unfilled.copy()
        received = depth.sell(asset, units, value_usd)
        pools = depth.sold - depth.paid_units - before
        kept = depth.unfilled - unfilled
        self.units["liquidators"][asset] -= units
        self.units["outside"][asset] += units
        self.units["outside"] -= pools + kept  # redeemed underlyings leave the issuer
        self.units["pools"] += pools
        self.units["liquidators"] += kept
        walked = float((depth.paid_usd - self._paid).sum())
        self._paid = depth.paid_usd.copy()
        self.cash["liquidators"] += received
        self.cash["pools"] -= walked
        self.cash["outside"] -= received - walked
        return received

    def providers_lost(self, units: Floats) -> bool:
        """Set what option pools have lost so far, (pots,); whether that changed anything."""
        changed = bool((units != self.marked_units).any())
        self.marked_units = units
        return changed

    def recover(self, frac: float) -> None:
        """Others buy a share of what stands in the pools back out of them."""
        if frac == 0.0:
            return
        before = self.depth.sold - self.depth.paid_units
        paid = self.depth.recover(frac)
        self._paid = self.depth.paid_usd.copy()
        back = before - (self.depth.sold - self.depth.paid_units)
        self.units["pools"] -= back
        self.units["outside"] += back
        self.cash["pools"] += paid
        self.cash["outside"] -= paid

    def write_down(self) -> float:
        """Share what was lost since the last time between reserves, which pay first, and suppliers; USD of the latter.

        By pot in `written_usd`, at the prices at which the debt was written off.
        """
        pots = self.book.pots
        borne = np.maximum(self.lost_units - pots.reserve_units, 0.0)
        units, usd = self.lost_units - self._shared.lost_units, self.lost_usd - self._shared.lost_usd
        with np.errstate(divide="ignore", invalid="ignore"):
            written = np.where(units > 0.0, usd * (borne - self._shared.borne_units) / units, 0.0)
        self.written_usd += written
        self._shared = _Shared(self.lost_units.copy(), self.lost_usd.copy(), borne)
        return float(written.sum())

    # balances -----------------------------------------------------------------------------------------------------

    def sectors(self) -> dict[str, float]:
        """Net worth of every sector, USD."""
        v, t = self.value_usd, self.book.terms
        term = self.book.leg_term
        usd = self.amount * v[t.asset[term]]
        debt = t.debt[term]
        if self.dead.any():  # debt that emptied accounts leave behind is nobody's asset any more
            usd = np.where(debt & np.repeat(self.dead, np.diff(self.book.leg_start)), 0.0, usd)
        owed, held = float(usd[debt].sum()), float(usd[~debt].sum())
        out = {s: self.cash[s] + float((self.units[s] * v).sum()) for s in SECTORS}
        out["borrowers"] += held - owed
        out["suppliers"] += owed
        return out

    def units_total(self) -> Floats:
        """(assets,) net units over all sectors: constant through a cascade."""
        term = self.book.leg_term
        collateral = np.where(self.book.terms.debt[term], 0.0, self.amount)
        total: Floats = add_up(self.book.terms.asset[term], collateral, len(self.book.assets))
        for sector in SECTORS:
            total = total + self.units[sector]
        return total

    def shortfall_usd(self) -> Floats:
        """(accounts,) debt that collateral does not cover at market values, of accounts not yet written off."""
        term = self.book.leg_term
        usd = self.amount * self.value_usd[self.book.terms.asset[term]]
        net = add_up(self.book.leg_owner(), np.where(self.book.terms.debt[term], usd, -usd), self.book.accounts)
        return np.where(self.dead, 0.0, np.maximum(net, 0.0))

    def credit_loss_usd(self) -> float:
        """Realised bad debt and unrealised shortfall together."""
        return float(self.bad_usd.sum()) + float(self.shortfall_usd().sum())


def _at_cut(book: Book) -> CutValues:
    """DomainError where an asset in use has no value."""
    cut = values_at_cut(book.claims, book.lps, book.price_usd)
    used = np.zeros(len(book.assets), np.bool_)
    for column in (book.terms.asset, book.claims.underlying, book.lps.base, book.lps.quote, book.oracles.source):
        used[column] = True
    for pool in book.pools:
        used[[pool.base, pool.quote]] = True
    missing = np.flatnonzero(used & ~np.isfinite(cut.value_usd))
    if len(missing):
        raise DomainError(
            f"{len(missing)} assets in use have no price",
            expected="a price or a claim on priced assets",
            found=", ".join(book.assets[i] for i in missing[:5]),
            fix="leave their legs out of the book and state a Gap no_price",
        )
    return cut._replace(value_usd=np.nan_to_num(cut.value_usd))


def _blown_price(look: Lookthrough, cut_usd: Floats, blow: Blow) -> Floats:
    return np.where(look.is_claim | np.isnan(blow.price_ratio), cut_usd, cut_usd * blow.price_ratio)


def _base_held(edges: Floats, liquidity: Floats, root: float) -> float:
    """Base units that liquidity above a sqrt price holds; none is counted at a price of zero, where it has no end."""
    if root <= 0.0:
        return 0.0
    low = np.maximum(edges[:-1], root)
    inside = edges[1:] > low
    with np.errstate(divide="ignore"):
        return float((liquidity * (1.0 / low - 1.0 / edges[1:]))[inside].sum())


def _ranks(names: Sequence[str]) -> Indices:
    """(n,) place of each by name."""
    out = np.empty(len(names), np.int64)
    out[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    return out
