"""Options and perps beside the lending book.

Options: every leg is repriced in full at the new spot and volatility (Black-Scholes, `aggregator.quant.black`); the
market's liquidity pool is the other side of all of them and keeps its hedge:

    pool P&L = -sum(size * (V1 - V0)) + hedge * (S1 - S0)                       in the quote asset

Perps: equity = margin + sum(size * mark + open notional), maintenance = share * sum(|size| * mark). An account with
equity < maintenance (strict) is closed at mark; a penalty goes to the insurance fund out of what equity is left. What a
closed account lacks is paid by the market's fund, and the rest by its winners in proportion to their profit.
"""

from __future__ import annotations

import numpy as np

from aggregator.core.errors import ScenarioError
from aggregator.engine.blow import Blow
from aggregator.engine.book import Book, Floats, add_up
from aggregator.quant import black


class Derivatives:
    """leg_pnl_usd (options,), pool_pnl_usd (option pools,), and of perp accounts: equity_usd, closed, shortfall_usd,
    charged_usd; fund_usd and fund_paid_usd by market."""

    def __init__(self, book: Book, cut_usd: Floats, blow: Blow) -> None:
        self.book, o = book, book.options
        self.vol = o.vol + blow.vol_shift[o.underlying]
        if (self.vol <= 0.0).any():
            at = int(np.argmax(self.vol <= 0.0))
            raise ScenarioError(
                f"volatility of {book.assets[o.underlying[at]]} falls to zero or below",
                expected=f"a move above {-float(o.vol[at]):.6g}",
                found=str(float(blow.vol_shift[o.underlying[at]])),
            )
        self.before = self._premium(cut_usd, o.vol)
        self.spot_before = self._spot(cut_usd)
        self.leg_pnl_usd, self.pool_pnl_usd = np.zeros(len(o.size)), np.zeros(len(book.option_pools.market))
        n = len(book.perp_accounts.market)
        self.closed, self.frozen_usd = np.zeros(n, np.bool_), np.zeros(n)
        self.shortfall_usd, self.charged_usd, self.penalty_usd = np.zeros(n), np.zeros(n), np.zeros(n)
        self.fund_usd = np.zeros(len(book.markets))
        for market, usd in book.insurance_usd:
            self.fund_usd[market] += usd
        self.fund_paid_usd, self.uncovered_usd = np.zeros(len(book.markets)), np.zeros(len(book.markets))
        self.equity_usd = self._equity(cut_usd)

    def mark(self, value_usd: Floats, *, liquidate: bool) -> float:
        """Mark everything; returns the change of the option pools' P&L in USD."""
        before = float(self.pool_pnl_usd.sum())
        self._mark_options(value_usd)
        self.equity_usd = self._equity(value_usd)
        while liquidate and self._close(value_usd):
            self.equity_usd = self._equity(value_usd)
        return float(self.pool_pnl_usd.sum()) - before

    def pool_loss_units(self, value_usd: Floats) -> Floats:
        """(pots,) units of quote that the providers of each option pool have lost."""
        pots, pools = self.book.pots, self.book.option_pools
        out = np.zeros(len(pots.market))
        at = {pair: i for i, pair in enumerate(zip(pots.market.tolist(), pots.asset.tolist(), strict=True))}
        for k, pair in enumerate(zip(pools.market.tolist(), pools.quote.tolist(), strict=True)):
            if pair in at and value_usd[pair[1]] > 0.0:
                out[at[pair]] = max(0.0, -float(self.pool_pnl_usd[k]) / float(value_usd[pair[1]]))
        return out

    def _premium(self, value_usd: Floats, vol: Floats) -> Floats:
        """(options,) price per unit of the underlying, in the quote asset."""
        o = self.book.options
        if not len(o.size):
            return np.zeros(0)
        spot = value_usd[o.underlying] / value_usd[o.quote]
        return black.price(o.right, spot, o.strike, o.expiry_yr, vol, o.rate)

    def _spot(self, value_usd: Floats) -> Floats:
        p = self.book.option_pools
        return value_usd[p.underlying] / value_usd[p.quote]

    def _mark_options(self, value_usd: Floats) -> None:
        o, p = self.book.options, self.book.option_pools
        if not len(o.size):
            return
        moved = o.size * (self._premium(value_usd, self.vol) - self.before)
        self.leg_pnl_usd = moved * value_usd[o.quote]
        by_market = add_up(o.market, self.leg_pnl_usd, len(self.book.markets))
        hedge = p.hedge_units * (self._spot(value_usd) - self.spot_before) * value_usd[p.quote]
        self.pool_pnl_usd = hedge - by_market[p.market]

    def _marks(self, value_usd: Floats) -> Floats:
        return self.book.perps.mark_level * value_usd[self.book.perps.asset]

    def profit_usd(self, value_usd: Floats) -> Floats:
        """(perp accounts,) unrealised profit of the open positions."""
        p = self.book.perps
        return add_up(p.account, p.size * self._marks(value_usd) + p.open_notional, len(self.closed))

    def _equity(self, value_usd: Floats) -> Floats:
        open_now = self.book.perp_accounts.margin_usd + self.profit_usd(value_usd) - self.charged_usd
        return np.where(self.closed, self.frozen_usd, open_now)

    def _close(self, value_usd: Floats) -> bool:
        p, a = self.book.perps, self.book.perp_accounts
        notional = add_up(p.account, np.abs(p.size) * self._marks(value_usd), len(self.closed))
        due = ~self.closed & (notional > 0.0) & (self.equity_usd < a.maintenance_frac * notional)
        due |= ~self.closed & (self.equity_usd < 0.0)
        if not due.any():
            return False
        penalty = np.where(due, np.clip(self.equity_usd, 0.0, a.penalty_frac * notional), 0.0)
        lacking = np.where(due, np.maximum(-self.equity_usd, 0.0), 0.0)
        self.frozen_usd = np.where(due, np.maximum(self.equity_usd - penalty, 0.0), self.frozen_usd)
        self.penalty_usd += penalty
        self.shortfall_usd += lacking
        self.closed |= due
        self.fund_usd += add_up(a.market, penalty, len(self.book.markets))
        self._cover(add_up(a.market, lacking, len(self.book.markets)), value_usd)
        return True

    def _cover(self, lacking: Floats, value_usd: Floats) -> None:
        """Fund first, then winners in proportion to profit, up to it; what is left is uncovered."""
        market = self.book.perp_accounts.market
        paid = np.minimum(self.fund_usd, lacking)
        self.fund_usd -= paid
        self.fund_paid_usd += paid
        rest = lacking - paid
        profit = np.where(self.closed, 0.0, np.maximum(self.profit_usd(value_usd) - self.charged_usd, 0.0))
        winners = add_up(market, profit, len(self.book.markets))
        socialised = np.minimum(rest, winners)
        share = np.divide(socialised, winners, out=np.zeros_like(winners), where=winners > 0.0)
        self.charged_usd += profit * share[market]
        self.uncovered_usd += rest - socialised
