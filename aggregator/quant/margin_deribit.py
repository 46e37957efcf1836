r"""Deribit's margin for coin-settled accounts: standard and portfolio; every figure in coin.

Standard, per contract with mark :math:`m` (coin), index :math:`S`, out-of-the-money amount :math:`o` (USD):

.. math::
   IM_{call} &= \max(0.15 - o/S,\ 0.1) + m, & MM_{call} &= 0.075 + m                                   \tag{1}\\
   MM_{put} &= \max(0.075,\ 0.075\,m) + m,  & IM_{put} &= \max\bigl(\max(0.15-o/S,\,0.1)+m,\ MM_{put}\bigr) \tag{2}

on shorts; longs carry neither margin nor margin value, so `equity` here is the margin balance without option value
and the mark of shorts is inside the requirement.  Perps cost a share of their size that grows with size.

Portfolio, price range :math:`r`, scan outcomes :math:`\Pi_j` of `margin_scan` in coin (losses are paid in coin at the
shocked price, as the published vectors show):

.. math::
   W &= -\min\bigl(0,\ \min_j\Pi_j,\ \min_m X_m\bigr)
        \quad\text{over 9 even moves in } \pm r \text{ with volatility up, same and down}                \tag{3}\\
   Y_m &= \Pi_m\,\frac{\kappa\,r}{|m|}\,\frac{1+m}{1\pm r}, \qquad
   X_m = \mathrm{sgn}(Y_m)\Bigl(|Y_m| - \frac{D\,(|m|/r-1)^+}{(1\pm r)\,S}\Bigr)^+
        \quad\text{extended moves } m,\text{ volatility up}                                            \tag{4}\\
   R &= \sum_e |\Delta_e|\,\max\bigl(v_{min},\ e^{v T_e}-1\bigr), \qquad
   Q = |\Delta^*|\,\min\bigl(q_{max},\ q\,(|\Delta^*| - H/S)^+\bigr)                                     \tag{5}\\
   IM &= W + R + Q + c\,n_{naked}, \qquad MM = f\,IM                                                   \tag{6}

:math:`R` is the roll shock on the net delta of each expiry (perps at :math:`v_{min}`), :math:`Q` the delta shock on the
net delta of perps and short options, which long options may reduce to zero but not raise.  A dated future is a long
call and a short put of one strike.  Deltas are net of premium (`inverse`) and fade with the settled part of a forward.

What is published: the structure (support article 25944756247837, *Portfolio Margin*); all parameters in force
(``public/pme/get_params``); and, in the documentation of ``private/pme/simulate``, an account with its outcomes, worst
case, roll shock and margins, which (3), (4) before damping, (5) with :math:`R` at its minimum, and (6) give to the
nine decimals that the venue rounds to.

What no published answer tells, and follows restatements of the venue's model paper (statics.deribit.com,
*DeribitPortfolioMarginModel*, not seen itself; docs.oreome.com for volatility): the form of the volatility moves and
their floor of a day, :math:`e^{vT}-1`, the price at which :math:`D` turns into coin, and :math:`Q` above :math:`H`.
The present breakdown has no charge per naked short (:math:`c=0`); the model before it charged 0.01 coin
(deribit.com/pages/docs/portfoliomargin).  Offsets across currencies (``pnl_offset``, correlation contingency), open
orders and market-maker protection are not modelled.
Source of (1), (2): the venue's rules as copied at doc.tslab.pro, *Deribit Margin Requirements Calculation*.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aggregator.quant._checks import representable, require
from aggregator.quant._option_inputs import Floats, Signs
from aggregator.quant.black import SECONDS_PER_YEAR
from aggregator.quant.inverse import inverse_price
from aggregator.quant.margin import MarginBook, MarginResult, Market, check_numbers, in_figures
from aggregator.quant.margin_rules import ScanRules, Scenario
from aggregator.quant.margin_scan import option_deltas, scan

EXTENDED_MOVES = (-0.66, -0.33, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0)
_FOREIGN = ("base", "collateral", "cancelling", "haircut_maintenance", "haircut_initial")  # no such holdings here


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

    @in_figures
    def margin(self, book: MarginBook, market: Market) -> MarginResult:
        """Equity and requirements per account in coin; implements `margin.MarginModel`. cash and perp_pnl: coin."""
        check_numbers(self)
        book.refuse("standard margin", *_FOREIGN)
        forward = book.column("forward_fixed") + book.column("forward_variable")
        years = book.column("seconds") / SECONDS_PER_YEAR
        mark = inverse_price(book.sign, forward, book.column("K"), years, book.column("sigma"))
        initial, maintenance = short_option_margin(book.sign, market.spot_usd, book.column("K"), mark)
        shorts = np.maximum(-book.column("amount"), 0.0)
        size = np.abs(book.perps)
        steep = self.perp_slope_per_coin * size
        return MarginResult(
            book.cash + book.perp_pnl,
            book.per_account(initial * shorts) + (self.perp_initial_frac + steep) * size,
            book.per_account(maintenance * shorts) + (self.perp_maintenance_frac + steep) * size,
            np.full(book.accounts, -1, np.int64),
        )


@dataclass(frozen=True)
class DeribitPortfolio:
    """Portfolio margin, (3) to (6); the defaults are BTC's in the documentation's example of 17 June 2024.

    The venue changes them without notice: read ``public/pme/get_params``, whose names are price_range,
    volatility_range_up and _down, min_volatility_for_shock_up, short_ and long_term_vega_power, extended_table_factor
    (kappa), extended_dampener (D), min_annualised_move (v_min), annualised_move_risk (v),
    delta_total_liq_shock_threshold (H), m_inc (q), max_delta_shock (q_max), mm_factor (f).
    """

    price_range_frac: float = 0.16
    vol_up: float = 0.50
    vol_down: float = 0.25
    least_vol_up: float = 0.50
    short_power: float = 0.30
    long_power: float = 0.13
    extended_factor: float = 1.0
    dampener_usd: float = 100_000.0
    min_move_frac: float = 0.01
    annual_move_frac: float = 0.075
    delta_threshold_usd: float = 20_000_000.0
    delta_increment_per_coin: float = 0.00005
    max_delta_shock_frac: float = 0.10
    maintenance_factor: float = 0.80
    short_contingency_coin: float = 0.0

    @in_figures
    def margin(self, book: MarginBook, market: Market) -> MarginResult:
        """Equity and requirements per account in coin; implements `margin.MarginModel`.

        perps: coins of exposure (USD notional over mark, for inverse contracts); cash and perp_pnl: coin.
        """
        check_numbers(self)
        require("price_range_frac", self.price_range_frac, 0.0 < self.price_range_frac < 1.0, "0 < range < 1")
        book.refuse("portfolio margin", *_FOREIGN)
        rules = ScanRules(
            self.vol_up, self.vol_down, self.short_power, self.long_power, 86_400.0, self.least_vol_up, coin=1.0
        )
        found = scan(book, book.perps, np.ones(book.accounts), rules, self.scenarios())
        outcomes = np.concatenate([found.outcomes, np.zeros((book.accounts, 1))], axis=1)  # the last: nothing happens
        outcomes[:, 27:-1] = self.damped(outcomes[:, 27:-1], market.spot_usd)
        worst = np.argmin(outcomes, axis=1)
        loss = -outcomes[np.arange(book.accounts), worst]
        roll, delta = self.shocks(book, market.spot_usd)
        initial = loss + roll + delta + self.short_contingency_coin * found.naked
        equity = found.value + book.cash + book.perp_pnl
        return MarginResult(equity, initial, self.maintenance_factor * initial, worst)

    def scenarios(self) -> tuple[Scenario, ...]:
        """27 regular and 8 extended scenarios; the damping of the latter is the factor of (4)."""
        moves = self.price_range_frac * np.linspace(-1.0, 1.0, 9)
        regular = [Scenario(1.0 + float(move), vol) for move in moves for vol in ("up", "none", "down")]
        factors = self.extended_factor * self.price_range_frac / np.abs(EXTENDED_MOVES) / self._edges()
        pairs = zip(EXTENDED_MOVES, factors, strict=True)
        return (*regular, *(Scenario(1.0 + move, "up", float(factor) * (1.0 + move)) for move, factor in pairs))

    def damped(self, extended: Floats, index_usd: float) -> Floats:
        """X of (4) from Y (n, 8) in coin."""
        beyond = np.maximum(np.abs(EXTENDED_MOVES) / self.price_range_frac - 1.0, 0.0)
        relief = beyond * self.dampener_usd / (self._edges() * index_usd)
        return np.sign(extended) * np.maximum(np.abs(extended) - relief, 0.0)

    @representable
    def shocks(self, book: MarginBook, index_usd: float) -> tuple[Floats, Floats]:
        """(roll shock, delta shock) of (5), coin, each (n,)."""
        delta = option_deltas(book, coin=True) * book.column("amount")
        roll = self.min_move_frac * np.abs(book.perps)
        starts = book.expiries()
        if starts.size:
            years = book.column("seconds")[starts] / SECONDS_PER_YEAR
            move = np.maximum(np.expm1(self.annual_move_frac * years), self.min_move_frac)
            roll = roll + book.per_account(np.abs(np.add.reduceat(delta, starts)) * move, starts)
        held = book.column("amount") > 0.0
        risky = book.perps + book.per_account(np.where(held, 0.0, delta))
        longs = book.per_account(np.where(held, delta, 0.0))
        exposed = np.abs(risky + np.clip(longs, np.minimum(-risky, 0.0), np.maximum(-risky, 0.0)))
        over = np.maximum(exposed - self.delta_threshold_usd / index_usd, 0.0)
        return roll, exposed * np.minimum(self.delta_increment_per_coin * over, self.max_delta_shock_frac)

    def _edges(self) -> Floats:
        """(8,) the end of the range on the side of each extended move."""
        return 1.0 + np.sign(EXTENDED_MOVES) * self.price_range_frac
