r"""A SPAN-like scan: sixteen scenarios of price and volatility, a floor for short options, option value credited.

Price moves of 0, 1/3, 2/3 and 3/3 of the scan range up and down, each with volatility up and down, and two extreme
moves of a multiple of the range of which only a share of the loss counts (CME, *SPAN Methodology*):

.. math:: M = \max(-\min_j \Pi_j,\ s\,n_{naked} S), \qquad E = \text{cash} + V, \qquad I = \iota M

"Like", because volatility is scanned in relative terms and spreads between expiries and commodities are not charged:
one underlying, one curve.  Use a venue's own model where there is one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aggregator.quant.margin import MarginBook, MarginResult, Market
from aggregator.quant.margin_rules import ScanRules, Scenario
from aggregator.quant.margin_scan import scan


@dataclass(frozen=True)
class SpanScan:
    """price_range_frac and vol_range_frac of the scan; the extreme moves; floor per naked short, as a share of spot."""

    price_range_frac: float
    vol_range_frac: float
    extreme_multiple: float = 2.0
    extreme_share: float = 0.33
    short_floor_frac: float = 0.0
    initial_factor: float = 1.0

    def scenarios(self) -> tuple[Scenario, ...]:
        """The sixteen scenarios."""
        thirds = (0.0, 1 / 3, -1 / 3, 2 / 3, -2 / 3, 1.0, -1.0)
        regular = [Scenario(1.0 + third * self.price_range_frac, vol) for third in thirds for vol in ("up", "down")]
        extreme = self.extreme_multiple * self.price_range_frac
        return (*regular, *(Scenario(1.0 + side * extreme, "none", self.extreme_share) for side in (1.0, -1.0)))

    def margin(self, book: MarginBook, market: Market) -> MarginResult:
        """Equity and requirements per account; implements `margin.MarginModel`."""
        rules = ScanRules(self.vol_range_frac, self.vol_range_frac, 0.0, 0.0, 1.0)
        base_usd = book.base * market.spot_usd
        linear = book.perps * market.perp_usd + base_usd
        found = scan(book, linear, np.ones(book.accounts), rules, self.scenarios())
        maintenance = np.maximum(-found.worst, self.short_floor_frac * found.naked * market.spot_usd)
        equity = found.value + base_usd + book.perp_pnl + book.cash
        return MarginResult(equity, self.initial_factor * maintenance, maintenance, found.worst_scenario)
