r"""Deribit's margin for coin-settled accounts: standard and portfolio; every figure in coin.

Standard, per contract with mark :math:`m` (coin), index :math:`S`, out-of-the-money amount :math:`o` (USD):

.. math::
   IM_{call} &= \max(0.15 - o/S,\ 0.1) + m, & MM_{call} &= 0.075 + m                                   \tag{1}\\
   MM_{put} &= \max(0.075,\ 0.075\,m) + m,  & IM_{put} &= \max\bigl(\max(0.15-o/S,\,0.1)+m,\ MM_{put}\bigr) \tag{2}

on shorts; longs carry neither margin nor margin value, so `equity` here is the margin balance without option value
and the mark of shorts is inside the requirement.  Perps cost a share of their size that grows with size.

Portfolio: the worst of nine evenly spaced price moves times volatility up, same and down, and of an extended table of
large moves at volatility up with a dampener, in `margin_scan`, plus contingencies per net short option and strike.
`equity` includes option value.  The venue publishes the structure (support article 25944756247837, *Portfolio Margin*)
and shows the numbers in force only to the account: the damping of the extended table, the ratio of initial to
maintenance and the contingency therefore have no default here.  Losses are taken in coin at the shocked price, which
is what settlement pays; that reading is ours.  Delta and roll shocks are not modelled.
Source of (1), (2): the venue's rules as copied at doc.tslab.pro, *Deribit Margin Requirements Calculation*.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aggregator.core.errors import DomainError
from aggregator.quant._option_inputs import Floats, Signs
from aggregator.quant.black import SECONDS_PER_YEAR
from aggregator.quant.inverse import inverse_price
from aggregator.quant.margin import MarginBook, MarginResult, Market
from aggregator.quant.margin_rules import ScanRules, Scenario
from aggregator.quant.margin_scan import scan

EXTENDED_MOVES = (-0.66, -0.33, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0)


def short_option_margin(sign: Signs, index_usd: Floats | float, K: Floats, mark_coin: Floats) -> tuple[Floats, Floats]:
    """(initial, maintenance) of one short contract in coin, eq. (1) and (2), any broadcast shape."""
    otm = np.maximum(sign * (K - index_usd), 0.0)
    reach = np.maximum(0.15 - otm / index_usd, 0.1) + mark_coin
    put = np.maximum(0.075, 0.075 * mark_coin) + mark_coin
    call = sign > 0
    return np.where(call, reach, np.maximum(reach, put)), np.where(call, 0.075 + mark_coin, put)


@dataclass(frozen=True)
class DeribitStandard:
    """Standard margin; perps are coins of exposure, margined at frac + slope x size."""

    perp_initial_frac: float
    perp_maintenance_frac: float
    perp_slope_per_coin: float = 0.0

    def margin(self, book: MarginBook, market: Market) -> MarginResult:
        """Equity and requirements per account in coin; implements `margin.MarginModel`. cash and perp_pnl: coin."""
        forward = book.column("forward_fixed") + book.column("forward_variable")
        years = book.column("seconds") / SECONDS_PER_YEAR
        mark = inverse_price(book.sign, forward, book.column("K"), years, book.column("sigma"))
        initial, maintenance = short_option_margin(book.sign, market.spot_usd, book.column("K"), mark)
        shorts = np.maximum(-book.column("amount"), 0.0)
        size = np.abs(book.perps)
        steep = self.perp_slope_per_coin * size

        def total(each: Floats, frac: float) -> Floats:
            options = np.bincount(book.account, weights=each * shorts, minlength=book.accounts)
            return np.asarray(options + (frac + steep) * size, dtype=np.float64)

        return MarginResult(
            book.cash + book.perp_pnl,
            total(initial, self.perp_initial_frac),
            total(maintenance, self.perp_maintenance_frac),
            np.full(book.accounts, -1, np.int64),
        )


@dataclass(frozen=True)
class DeribitPortfolio:
    """Portfolio margin; extended_damping has one factor per move of EXTENDED_MOVES."""

    extended_damping: tuple[float, ...]
    initial_factor: float
    short_contingency_coin: float
    price_range_frac: float = 0.16
    vol_up: float = 0.50
    vol_down: float = 0.25
    least_vol_up: float = 0.50
    short_power: float = 0.30
    long_power: float = 0.13

    def margin(self, book: MarginBook, market: Market) -> MarginResult:
        """Equity and requirements per account in coin; implements `margin.MarginModel`.

        perps: coins of exposure (USD notional over index, for inverse contracts); cash and perp_pnl: coin.
        """
        if len(self.extended_damping) != len(EXTENDED_MOVES):
            raise DomainError(
                "the extended table is incomplete",
                expected=f"{len(EXTENDED_MOVES)} damping factors, for moves {EXTENDED_MOVES}",
                found=str(self.extended_damping),
            )
        rules = ScanRules(
            self.vol_up, self.vol_down, self.short_power, self.long_power, 86_400.0, self.least_vol_up, coin=1.0
        )
        found = scan(book, book.perps, np.ones(book.accounts), rules, self.scenarios())
        maintenance = self.short_contingency_coin * found.naked - found.worst
        equity = found.value + book.cash + book.perp_pnl
        return MarginResult(equity, self.initial_factor * maintenance, maintenance, found.worst_scenario)

    def scenarios(self) -> tuple[Scenario, ...]:
        """27 regular and 8 extended scenarios."""
        moves = self.price_range_frac * np.linspace(-1.0, 1.0, 9)
        regular = [Scenario(1.0 + float(move), vol) for move in moves for vol in ("up", "none", "down")]
        pairs = zip(EXTENDED_MOVES, self.extended_damping, strict=True)
        return (*regular, *(Scenario(1.0 + move, "up", damping) for move, damping in pairs))
