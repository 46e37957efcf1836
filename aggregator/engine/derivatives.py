"""Options and perps beside the lending book.

Options: every leg is repriced in full at the new spot and volatility (Black-Scholes, `aggregator.quant.black`); the
market's liquidity pool is the other side of all of them and keeps its hedge:

    pool P&L = -sum(size * (V1 - V0)) + hedge * (S1 - S0)                       in the quote asset

A short whose margin is below its rule's minimum (`rules.lyra_v1_arrays`) is bought back at its new price out of that
margin; what the margin lacks stays with the pool. Liquidation fees are not modelled.

Perps: equity = margin + sum(size * mark + open notional), maintenance = share * sum(|size| * mark). An account with
equity < maintenance (strict) is closed at mark: whole where its market names no rule, else its largest position by as
much as `rules.perp_curie.batch` allows, again and again. Penalties go to the fund as the rule says (without one: all,
out of what equity is left). What an account lacks without any position is paid by the market's fund, and the rest by
its winners in proportion to their profit.
"""

from __future__ import annotations

import numpy as np

from aggregator.core.errors import ScenarioError
from aggregator.engine.blow import Blow
from aggregator.engine.book import Book, Flags, Floats, add_up
from aggregator.quant import black
from aggregator.rules import perp_curie
from aggregator.rules.lyra_v1 import Kind
from aggregator.rules.lyra_v1_arrays import min_collateral


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
        self.bought_back, self.option_shortfall_usd = np.zeros(len(o.size), np.bool_), np.zeros(len(o.size))
        n = len(book.perp_accounts.market)
        self.open_frac, self.realised_usd = np.ones(len(book.perps.size)), np.zeros(n)
        self.closed, self.bankrupt = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        self.shortfall_usd, self.charged_usd, self.penalty_usd = np.zeros(n), np.zeros(n), np.zeros(n)
        self.fund_usd = np.zeros(len(book.markets))
        for market, usd in book.insurance_usd:
            self.fund_usd[market] += usd
        self.fund_paid_usd, self.uncovered_usd = np.zeros(len(book.markets)), np.zeros(len(book.markets))
        self.equity_usd = self._equity(cut_usd)
        self.equity_cut_usd = self.equity_usd
        self.marks_cut_usd = self._marks(cut_usd)
        self.fund_cut_usd = self.fund_usd.copy()
        self.taken_size, self.takers_usd = np.zeros(len(book.perps.size)), 0.0  # what liquidators took over, and paid
        self.received_usd = np.zeros(len(o.size))  # by the pool, for shorts that it bought back

    def mark(self, value_usd: Floats, *, liquidate: bool) -> float:
        """Mark everything; returns the change of the option pools' P&L in USD."""
        before = float(self.pool_pnl_usd.sum())
        self._mark_options(value_usd, liquidate)
        self.equity_usd = self._equity(value_usd)
        while liquidate and self._close(value_usd):
            self.equity_usd = self._equity(value_usd)
        return float(self.pool_pnl_usd.sum()) - before

    def balances(self, value_usd: Floats) -> dict[str, float]:
        """Change since the cut of every side's own balance, USD, and what marks alone should have made of their sum.

        Each position has one holder: the account, or the liquidator who took it over at mark. So perps' sides add up to
        sum(size * change of mark), options' to the change of the pools' hedges; `derivatives_error_usd` is what is off.
        """
        p, pools = self.book.perps, self.book.option_pools
        ours = np.isin(self.book.options.market, pools.market)  # legs of other markets face someone we have not read
        out = {
            "perp_traders": float((self.equity_usd - self.equity_cut_usd).sum()),
            "perp_funds": float((self.fund_usd - self.fund_cut_usd).sum()),
            "perp_liquidators": float((self.taken_size * self._marks(value_usd)).sum()) + self.takers_usd,
            "perp_uncovered": -float(self.uncovered_usd.sum()),
            "option_holders": float(self.leg_pnl_usd[ours].sum()),
            "option_pools": float(self.pool_pnl_usd.sum()),
        }
        marked = float((p.size * (self._marks(value_usd) - self.marks_cut_usd)).sum())
        hedged = float(self._hedges(value_usd).sum())
        perps = sum(usd for side, usd in out.items() if side.startswith("perp"))
        options = out["option_holders"] + out["option_pools"]
        return out | {"derivatives_error_usd": abs(perps - marked) + abs(options - hedged)}

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

    def _mark_options(self, value_usd: Floats, liquidate: bool) -> None:
        o, p = self.book.options, self.book.option_pools
        if not len(o.size):
            return
        premium = self._premium(value_usd, self.vol)
        moved = o.size * (premium - self.before) * value_usd[o.quote]
        self.leg_pnl_usd = np.where(self.bought_back, self.leg_pnl_usd, moved)
        due = np.flatnonzero(self._short_of_margin(value_usd) & ~self.bought_back)
        if liquidate and len(due):
            cost = (np.abs(o.size) * premium * value_usd[o.quote])[due]
            lacking = np.maximum(cost - (o.margin_units * value_usd[o.margin_asset])[due], 0.0)
            self.option_shortfall_usd[due] = lacking
            self.leg_pnl_usd[due] += lacking
            self.received_usd[due] = (cost - lacking) - (np.abs(o.size) * self.before * value_usd[o.quote])[due]
            self.bought_back[due] = True
        owed = np.where(self.bought_back, -self.received_usd, moved)
        self.pool_pnl_usd = self._hedges(value_usd) - add_up(o.market, owed, len(self.book.markets))[p.market]

    def _hedges(self, value_usd: Floats) -> Floats:
        p = self.book.option_pools
        return p.hedge_units * (self._spot(value_usd) - self.spot_before) * value_usd[p.quote]

    def _short_of_margin(self, value_usd: Floats) -> Flags:
        o = self.book.options
        out = np.zeros(len(o.size), np.bool_)
        spot = value_usd[o.underlying] / value_usd[o.quote]
        covered = o.margin_asset == o.underlying
        kind = np.where(
            o.right < 0, Kind.SHORT_PUT_QUOTE, np.where(covered, Kind.SHORT_CALL_BASE, Kind.SHORT_CALL_QUOTE)
        )
        for market, shocks in self.book.option_shocks:
            at = np.flatnonzero((o.market == market) & (o.size < 0.0) & (o.margin_units > 0.0) & (spot > 0.0))
            if len(at):
                size = np.abs(o.size[at])
                needed = min_collateral(kind[at], size, o.strike[at], o.expiry_yr[at], spot[at], shocks)
                out[at] = o.margin_units[at] < needed
        return out

    def _marks(self, value_usd: Floats) -> Floats:
        return self.book.perps.mark_level * value_usd[self.book.perps.asset]

    def _profits(self, value_usd: Floats) -> Floats:
        p = self.book.perps
        return self.open_frac * (p.size * self._marks(value_usd) + p.open_notional)

    def profit_usd(self, value_usd: Floats) -> Floats:
        """(perp accounts,) unrealised profit of what is still open."""
        return add_up(self.book.perps.account, self._profits(value_usd), len(self.closed))

    def _equity(self, value_usd: Floats) -> Floats:
        a = self.book.perp_accounts
        equity = a.margin_usd + self.realised_usd + self.profit_usd(value_usd) - self.charged_usd
        return np.where(self.bankrupt, 0.0, equity)

    def _close(self, value_usd: Floats) -> bool:
        """One pass of liquidations; whether any was made."""
        p, a, n = self.book.perps, self.book.perp_accounts, len(self.closed)
        worth = self.open_frac * np.abs(p.size) * self._marks(value_usd)
        notional = add_up(p.account, worth, n)
        due = (notional > 0.0) & (self.equity_usd < a.maintenance_frac * notional)
        share, penalty, to_fund = self._calls(due, worth, notional)
        made = share.max(initial=0.0) > 0.0
        self.realised_usd += add_up(p.account, share * self._profits(value_usd), n) - penalty
        self.penalty_usd += penalty
        taken = share * self.open_frac * p.size
        self.taken_size += taken
        self.takers_usd += float((penalty - to_fund).sum()) - float((taken * self._marks(value_usd)).sum())
        self.open_frac *= 1.0 - share
        self.closed |= due
        self.equity_usd = self._equity(value_usd)
        empty = add_up(p.account, self.open_frac * np.abs(p.size), n) == 0.0
        broke = empty & ~self.bankrupt & (self.equity_usd < 0.0)
        lacking = np.where(broke, -self.equity_usd, 0.0)
        self.shortfall_usd += lacking
        self.bankrupt |= broke
        self.fund_usd += add_up(a.market, to_fund, len(self.book.markets))
        self._cover(add_up(a.market, lacking, len(self.book.markets)), value_usd)
        return bool(made or broke.any())

    def _calls(self, due: Flags, worth: Floats, notional: Floats) -> tuple[Floats, Floats, Floats]:
        """(share closed of each position, penalty and the fund's part of it by account)."""
        p, a = self.book.perps, self.book.perp_accounts
        ruled = np.array([bool(rule) for rule in self.book.perp_rules] or [False], np.bool_)[a.market]
        share = (due & ~ruled)[p.account].astype(np.float64) * (worth > 0.0)
        penalty = np.where(due & ~ruled, np.clip(self.equity_usd, 0.0, a.penalty_frac * notional), 0.0)
        to_fund = penalty.copy()
        order = np.lexsort((np.arange(len(worth)), -worth, p.account))
        first = order[np.append(True, p.account[order][1:] != p.account[order][:-1])] if len(order) else order
        largest = first[(due & ruled)[p.account[first]]]
        if len(largest):
            who = p.account[largest]
            taken = perp_curie.batch(
                self.equity_usd[who], worth[largest], notional[who], a.maintenance_frac[who], a.penalty_frac[who]
            )
            share[largest] = np.where(taken.closed_usd >= worth[largest], 1.0, taken.closed_usd / worth[largest])
            penalty[who], to_fund[who] = taken.penalty_usd, taken.to_insurance_usd
        return share, penalty, to_fund

    def _cover(self, lacking: Floats, value_usd: Floats) -> None:
        """Fund first, then winners in proportion to profit, up to it; what is left is uncovered."""
        market = self.book.perp_accounts.market
        paid = np.minimum(self.fund_usd, lacking)
        self.fund_usd -= paid
        self.fund_paid_usd += paid
        rest = lacking - paid
        profit = np.where(self.bankrupt, 0.0, np.maximum(self.profit_usd(value_usd) - self.charged_usd, 0.0))
        winners = add_up(market, profit, len(self.book.markets))
        socialised = np.minimum(rest, winners)
        share = np.divide(socialised, winners, out=np.zeros_like(winners), where=winners > 0.0)
        self.charged_usd += profit * share[market]
        self.uncovered_usd += rest - socialised
