"""SPAN (`span`) as a margin model: options on one underlying priced here, tiers by time to expiry.

CME's exchanges publish risk arrays; a crypto venue does not, so the sixteen outcomes come from `margin_scan`, with
volatility scanned in relative terms.  For credits between underlyings pass the `risk` of several books on to
`span.with_credits`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aggregator.quant._checks import require
from aggregator.quant._option_inputs import Floats
from aggregator.quant.black import SECONDS_PER_YEAR, black76_price
from aggregator.quant.margin import MarginBook, MarginResult, Market, check_numbers, in_figures
from aggregator.quant.margin_rules import ScanRules, Scenario
from aggregator.quant.margin_scan import option_deltas, scan
from aggregator.quant.span import DELTA_WEIGHTS, PRICE_MOVES, CalendarSpread, SpanRisk, by_tier, charge


@dataclass(frozen=True)
class SpanScan:
    """SPAN on one underlying, options priced here.

    price_range_frac, vol_range_frac: the scan, relative; extreme_multiple, extreme_share: the extreme moves;
    look_ahead_s: options are priced that much later; tier_ends_s: seconds to expiry at which tiers end, the last being
    open, perps and coins in the first; calendar: charges between tiers; short_minimum_frac: of spot, per option sold.
    """

    price_range_frac: float
    vol_range_frac: float
    extreme_multiple: float = 2.0
    extreme_share: float = 0.35
    look_ahead_s: float = 86_400.0
    tier_ends_s: tuple[float, ...] = ()
    calendar: tuple[CalendarSpread, ...] = ()
    short_minimum_frac: float = 0.0
    gross_shorts: bool = False
    initial_factor: float = 1.0

    def scenarios(self) -> tuple[Scenario, ...]:
        """The sixteen scenarios, in the exchanges' order."""
        regular = [Scenario(1.0 + x * self.price_range_frac, vol) for x in PRICE_MOVES for vol in ("up", "down")]
        extreme = self.extreme_multiple * self.price_range_frac
        return (*regular, *(Scenario(1.0 + side * extreme, "none", self.extreme_share) for side in (1.0, -1.0)))

    def risk(self, book: MarginBook, market: Market) -> SpanRisk:
        """Outcomes and deltas of every account, for `charge` and, with other products, `with_credits`."""
        check_numbers(self)
        book.refuse("SPAN", "collateral", "cancelling", "haircut_maintenance", "haircut_initial")
        require("tier_ends_s", self.tier_ends_s, np.diff(self.tier_ends_s, prepend=0.0) > 0.0, "rising, from above 0")
        coins = book.perps + book.base
        linear = book.linear_usd(market) + book.base * market.spot_usd
        rules = ScanRules(self.vol_range_frac, self.vol_range_frac, 0.0, 0.0, 1.0, look_ahead_s=self.look_ahead_s)
        found = scan(book, linear, np.ones(book.accounts), rules, self.scenarios())
        starts = book.expiries()
        owner, delta, tier = np.arange(book.accounts), coins, np.zeros(book.accounts, np.int64)
        if starts.size:
            net = np.add.reduceat(self.composite_delta(book) * book.column("amount"), starts)
            owner, delta = np.r_[owner, book.account[starts]], np.r_[delta, net]
            tier = np.r_[tier, np.searchsorted(self.tier_ends_s, book.column("seconds")[starts])]
        sides = by_tier(book.accounts, owner, tier, delta, len(self.tier_ends_s) + 1)
        sold = np.maximum(-book.column("amount"), 0.0)
        calls, puts = (book.per_account(sold * (book.sign == way)) for way in (1, -1))
        return SpanRisk(found.outcomes, *sides, calls, puts)

    def composite_delta(self, book: MarginBook) -> Floats:
        """(m,) weighted delta of one long option over the price moves, at today's volatility."""
        moves = 1.0 + np.array(PRICE_MOVES)[:, None] * self.price_range_frac
        return np.asarray(np.array(DELTA_WEIGHTS) @ option_deltas(book, moves))

    @in_figures
    def margin(self, book: MarginBook, market: Market) -> MarginResult:
        """Equity and requirements per account; implements `margin.MarginModel`."""
        risk = self.risk(book, market)
        asked = charge(risk, self.calendar, self.short_minimum_frac * market.spot_usd, gross=self.gross_shorts)
        forward = book.column("forward_fixed") + book.column("forward_variable")
        years = book.column("seconds") / SECONDS_PER_YEAR
        value = black76_price(book.sign, forward, book.column("K"), years, book.column("sigma"))
        return MarginResult(
            book.per_account(value * book.column("amount")) + book.base * market.spot_usd + book.perp_pnl + book.cash,
            self.initial_factor * asked.total,
            asked.total,
            np.argmin(np.c_[risk.outcomes, np.zeros(book.accounts)], axis=1),
        )
