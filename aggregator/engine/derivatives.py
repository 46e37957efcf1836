"""Options and perps beside the lending book.

Options: every leg is repriced in full at the new spot and volatility (Black-Scholes, `aggregator.quant.black`); the
market's liquidity pool is the other side of all of them and keeps its hedge:

    pool P&L = -sum(size * (V1 - V0)) + hedge * (S1 - S0)                       in the quote asset

A short whose margin is below its rule's minimum (`rules.lyra_v1_arrays`) is bought back at its new price out of that
margin, by the fees of its market; what the margin lacks stays with the pool. On a frozen board nobody is called.

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
from aggregator.engine.book import Book, Flags, Floats, Indices, add_up
from aggregator.quant import black
from aggregator.rules import perp_curie
from aggregator.rules.lyra_v1 import Kind
from aggregator.rules.lyra_v1_arrays import Penalties, fees, min_collateral

_NO_FEES = Penalties(0.0, 0.0, 0.0, 0.0)


class Derivatives:
    """leg_pnl_usd (options,), pool_pnl_usd (option pools,), and of perp accounts: equity_usd, closed, refused,
    shortfall_usd, charged_usd; fund_usd and fund_paid_usd by market.

    before: price of each leg at the cut, in quote. fees_usd: what liquidators and security modules took of shorts.
    """

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
        self.before = _ratio(self._premium_usd(cut_usd, o.vol), cut_usd[o.quote])
        pools = book.option_pools
        self.spot_before = _ratio(cut_usd[pools.underlying], cut_usd[pools.quote])
        self._cut_usd = cut_usd
        self.penalties, self.fees_usd = dict(book.option_fees), 0.0
        self.leg_pnl_usd, self.pool_pnl_usd = np.zeros(len(o.size)), np.zeros(len(book.option_pools.market))
        self.bought_back, self.option_shortfall_usd = np.zeros(len(o.size), np.bool_), np.zeros(len(o.size))
        n = len(book.perp_accounts.market)
        self.open_frac, self.realised_usd = np.ones(len(book.perps.size)), np.zeros(n)
        self.closed, self.bankrupt, self.refused = (np.zeros(n, np.bool_) for _ in range(3))
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
            "perp_uncovered": 0.0 - float(self.uncovered_usd.sum()),
            "option_holders": float(self.leg_pnl_usd[ours].sum()),
            "option_pools": float(self.pool_pnl_usd.sum()),
            "option_fees": self.fees_usd,
        }
        marked = float((p.size * (self._marks(value_usd) - self.marks_cut_usd)).sum())
        hedged = float(self._hedges(value_usd).sum())
        perps = sum(usd for side, usd in out.items() if side.startswith("perp"))
        options = out["option_holders"] + out["option_pools"] + out["option_fees"]
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

    def _premium_usd(self, value_usd: Floats, vol: Floats) -> Floats:
        """(options,) price per unit of the underlying, USD."""
        o = self.book.options
        spot, quote = value_usd[o.underlying], value_usd[o.quote]
        strike = np.where(o.right < 0, o.strike * np.exp(-o.rate * o.expiry_yr) * quote, 0.0)
        out = np.where(o.right > 0, spot, strike)  # what is left of the price where one side is worth nothing
        at = np.flatnonzero((spot > 0.0) & (quote > 0.0))
        if len(at):
            parts = (o.strike[at], o.expiry_yr[at], vol[at], o.rate[at])
            out[at] = black.price(o.right[at], spot[at] / quote[at], *parts) * quote[at]
        return out

    def _mark_options(self, value_usd: Floats, liquidate: bool) -> None:
        o, p = self.book.options, self.book.option_pools
        if not len(o.size):
            return
        premium = self._premium_usd(value_usd, self.vol)
        moved = o.size * _gain_usd(premium, self.before, value_usd[o.quote])
        self.leg_pnl_usd = np.where(self.bought_back, self.leg_pnl_usd, moved)
        due = np.flatnonzero(self.short_of_margin(value_usd) & o.live & ~self.bought_back)
        if liquidate and len(due):
            self._buy_back(due, premium, value_usd)
        owed = np.where(self.bought_back, -self.received_usd, moved)
        self.pool_pnl_usd = self._hedges(value_usd) - add_up(o.market, owed, len(self.book.markets))[p.market]

    def _buy_back(self, due: Indices, premium_usd: Floats, value_usd: Floats) -> None:
        o = self.book.options
        for market in np.unique(o.market[due]).tolist():
            at = due[o.market[due] == market]
            unit, quote = value_usd[o.margin_asset[at]], value_usd[o.quote[at]]
            size = np.abs(o.size[at])
            cost = _ratio(size * premium_usd[at], unit)
            paid = fees(cost, o.margin_units[at], unit / quote, self.penalties.get(market, _NO_FEES))
            opened = size * self.before[at] * quote
            self.leg_pnl_usd[at] = opened - (o.margin_units[at] - paid.returned) * unit
            self.received_usd[at] = paid.to_pool * unit - opened
            self.option_shortfall_usd[at] = paid.insolvent * quote
            self.fees_usd += float(((paid.to_liquidator + paid.to_security) * unit).sum())
        self.bought_back[due] = True

    def _hedges(self, value_usd: Floats) -> Floats:
        p = self.book.option_pools
        return p.hedge_units * _gain_usd(value_usd[p.underlying], self.spot_before, value_usd[p.quote])

    def short_of_margin(self, value_usd: Floats) -> Flags:
        """(options,) shorts below their rule's minimum, whether or not their board lets anybody close them."""
        o = self.book.options
        out = np.zeros(len(o.size), np.bool_)
        spot = _ratio(value_usd[o.underlying], value_usd[o.quote])
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
        p = self.book.perps
        return p.mark_level * np.where(p.live, value_usd[p.asset], self._cut_usd[p.asset])

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
        due = self._open(p.live) & (self.equity_usd < a.maintenance_frac * notional)
        share, penalty, to_fund = self._calls(due, worth, notional)
        self._refuse(due, share, penalty, to_fund)
        made = share.max(initial=0.0) > 0.0
        self.realised_usd += add_up(p.account, share * self._profits(value_usd), n) - penalty
        self.penalty_usd += penalty
        taken = share * self.open_frac * p.size
        self.taken_size += taken
        self.takers_usd += float((penalty - to_fund).sum()) - float((taken * self._marks(value_usd)).sum())
        self.open_frac *= 1.0 - share
        self.closed |= due & ~self.refused
        self.equity_usd = self._equity(value_usd)
        broke = ~self._open(np.ones_like(p.live)) & ~self.bankrupt & (self.equity_usd < 0.0)
        lacking = np.where(broke, -self.equity_usd, 0.0)
        self.shortfall_usd += lacking
        self.bankrupt |= broke
        self.fund_usd += add_up(a.market, to_fund, len(self.book.markets))
        self._cover(add_up(a.market, lacking, len(self.book.markets)), value_usd)
        return bool(made or broke.any())

    def _open(self, of: Flags) -> Flags:
        """(perp accounts,) whether any of these positions is still open."""
        p = self.book.perps
        return add_up(p.account, self.open_frac * np.abs(p.size) * of, len(self.closed)) > 0.0

    def _ruled(self) -> Flags:
        return np.array([bool(rule) for rule in self.book.perp_rules] or [False], np.bool_)[
            self.book.perp_accounts.market
        ]

    def _refuse(self, due: Flags, share: Floats, penalty: Floats, to_fund: Floats) -> None:
        """Take back, in place, calls that leave a ruled account below zero by more than its fund holds."""
        p, market = self.book.perps, self.book.perp_accounts.market
        fund = self.fund_usd + add_up(market, to_fund, len(self.fund_usd))
        missing = np.where(due & self._ruled(), np.maximum(penalty - self.equity_usd, 0.0), 0.0)
        ends = add_up(p.account, (1.0 - share) * self.open_frac * np.abs(p.size), len(due)) == 0.0
        self.refused &= due
        for i in np.flatnonzero(missing > 0.0).tolist():  # in order of the book, each on what the last one left
            self.refused[i] = missing[i] > fund[market[i]]
            if self.refused[i]:
                fund[market[i]] -= to_fund[i]
                share[p.account == i] = penalty[i] = to_fund[i] = 0.0
            elif ends[i]:
                fund[market[i]] -= missing[i]

    def _calls(self, due: Flags, worth: Floats, notional: Floats) -> tuple[Floats, Floats, Floats]:
        """(share closed of each position, penalty and the fund's part of it by account)."""
        p, a, ruled = self.book.perps, self.book.perp_accounts, self._ruled()
        is_open = (self.open_frac * np.abs(p.size) > 0.0) & p.live
        share = ((due & ~ruled)[p.account] & is_open).astype(np.float64)
        penalty = np.where(due & ~ruled, np.clip(self.equity_usd, 0.0, a.penalty_frac * notional), 0.0)
        to_fund = penalty.copy()
        order = np.lexsort((np.arange(len(worth)), -worth, ~is_open, p.account))
        first = order[np.append(True, p.account[order][1:] != p.account[order][:-1])] if len(order) else order
        largest = first[(due & ruled)[p.account[first]]]
        if len(largest):
            who = p.account[largest]
            taken = perp_curie.batch(
                self.equity_usd[who], worth[largest], notional[who], a.maintenance_frac[who], a.penalty_frac[who]
            )
            part = _ratio(taken.closed_usd, worth[largest])
            share[largest] = np.where(taken.closed_usd >= worth[largest], 1.0, part)
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


def _gain_usd(now_usd: Floats, before: Floats, quote_usd: Floats) -> Floats:
    """What is worth now_usd, less the `before` quotes that it was worth: nothing to the last bit where none moved."""
    return np.where(quote_usd > 0.0, (_ratio(now_usd, quote_usd) - before) * quote_usd, now_usd)


def _ratio(a: Floats, b: Floats) -> Floats:
    """a / b, 0 where b is 0."""
    return np.divide(a, b, out=np.zeros(np.broadcast(a, b).shape), where=b > 0.0)
