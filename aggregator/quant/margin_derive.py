r"""Derive's margin: standard (SRM) and portfolio (PMRM, PMRM 2), as equity and requirements.

Standard, per short option of amount :math:`n<0` with mark :math:`m` (USD, signed), spot :math:`S`, out-of-the-money
share :math:`o` (StandardManager.sol, ``_getIsolatedMargin`` and ``_calcNetBasicMarginSingleExpiry``):

.. math::
   IM_{call} &= \max(a-o,\,b)\,Sn + m, \qquad MM_{call} = cSn + m                                    \tag{1}\\
   MM_{put}  &= \min(dSn,\ e\,m) + m,\qquad IM_{put} = \min(\max(a-o,b)Sn+m,\ h\,MM_{put})            \tag{2}\\
   \text{expiry} &= \max\Bigl(\sum \text{isolated},\ \min_{P\in\{0\}\cup K}\min(\text{payoff}(P),0)
        + u\,F\,\min(n_{calls},0)\Bigr)                                                               \tag{3}

longs carry no margin; perps cost a share of notional; base coins count at a factor; IM grows with a stablecoin below
its peg and with feeds below their confidence threshold.  Portfolio margins run `margin_scan`:

.. math::
   \text{PMRM: } & MM = W - C + V,\quad IM = f\,(W - C) - O + V,\quad f = f_0 + l\,(\bar s - s)^+        \tag{4}\\
   \text{PMRM 2: } & MM = f_m W - C_m + V,\quad IM = f\,W - C_m - C_i - O + V                           \tag{5}

:math:`W` the worst of scenarios and basis, :math:`C` static contingencies, :math:`O` oracle contingency, :math:`V` mark
value and cash.  Source: derivexyz/v2-core src/risk-managers StandardManager.sol, PMRMLib.sol (test parameters of
test/config-test.sol at 7736900), PMRMLib_2.sol.  Amounts here are float64; the contract's are 1e18 fixed point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aggregator.quant import _margin_kernels as kernels
from aggregator.quant._checks import require
from aggregator.quant._option_inputs import Floats, Signs
from aggregator.quant.black import SECONDS_PER_YEAR, black76_price
from aggregator.quant.margin import MarginBook, MarginResult, Market, check_numbers, in_figures
from aggregator.quant.margin_rules import ScanRules, Scenario
from aggregator.quant.margin_scan import scan

_PM2_COLUMNS = ("collateral", "cancelling", "haircut_maintenance", "haircut_initial")  # held only under PMRM 2
PMRM_SCENARIOS = tuple(
    Scenario(spot, vol) for spot in (1.15, 1.10, 1.05, 1.0, 0.95, 0.90, 0.85) for vol in ("up", "none", "down")
)
PMRM_RULES = ScanRules(
    vol_up=0.45, vol_down=0.30, short_power=0.30, long_power=0.13, floor_s=86_400.0,
    gain_base=0.95, gain_mult=4.0, gain_add=0.05,
    basis_up=1.05, basis_down=0.95, basis_add=0.25, basis_mult=0.01, confidence_threshold=0.6,
)  # fmt: skip
# The mainnet grid: every 4.5 % to 18 %, volatility only up at the ends, and damped tails.
PMRM2_SCENARIOS = (
    Scenario(1.18, "up"), Scenario(0.82, "up"),
    *(Scenario(s, v) for s in (1.135, 1.09, 1.045, 1.0, 0.955, 0.91, 0.865) for v in ("up", "none", "down")),
    Scenario(0.34, "up", 0.21), Scenario(0.67, "up", 0.42), Scenario(1.5, "up", 0.2772),
    Scenario(2.0, "up", 0.1386), Scenario(3.0, "up", 0.0693), Scenario(4.0, "up", 0.0462), Scenario(5.0, "up", 0.03465),
    Scenario(6.0, "up", 0.02772),
    Scenario(1.0, "linear"), Scenario(1.0, "abs"),
)  # fmt: skip


@dataclass(frozen=True)
class DeriveStandard:
    """Parameters of (1) to (3); the defaults are of test/config-test.sol, `derive_standard_mainnet` those in use."""

    max_spot_frac: float = 0.15
    min_spot_frac: float = 0.10
    call_maintenance_frac: float = 0.075
    put_maintenance_frac: float = 0.075
    put_mark_frac: float = 0.075
    unpaired_initial: float = 1.2
    unpaired_maintenance: float = 1.1
    put_offset: float = 1.05
    perp_initial_frac: float = 0.10
    perp_maintenance_frac: float = 0.065
    base_factor: float = 0.8
    base_initial_scale: float = 1.0
    depeg_threshold: float = 0.99
    depeg_factor: float = 2.0
    confidence_threshold: float = 0.4
    confidence_factor: float = 0.4

    def isolated(self, sign: Signs, K: Floats, amount: Floats, mark: Floats, spot_usd: float) -> tuple[Floats, Floats]:
        """(initial, maintenance) net margin of each option alone, <= 0 for shorts and 0 for longs, shape (m,)."""
        call = sign > 0
        otm = np.maximum(sign * (K - spot_usd), 0.0) / spot_usd
        reach = np.maximum(self.max_spot_frac - otm, self.min_spot_frac) * spot_usd * amount + mark
        put = np.minimum(self.put_maintenance_frac * spot_usd * amount, self.put_mark_frac * mark) + mark
        maintenance = np.where(call, self.call_maintenance_frac * spot_usd * amount + mark, put)
        initial = np.where(call, reach, np.minimum(reach, self.put_offset * put))
        short = amount < 0.0
        return np.where(short, initial, 0.0), np.where(short, maintenance, 0.0)

    @in_figures
    def margin(self, book: MarginBook, market: Market) -> MarginResult:
        """Equity and requirements per account; implements `margin.MarginModel`."""
        check_numbers(self, unpaired_initial=1.0, unpaired_maintenance=1.0)  # an uncovered call loses up to its forward
        for name in ("base_factor", "base_initial_scale"):
            require(
                name, getattr(self, name), getattr(self, name) <= 1.0, "a share <= 1: coins cover themselves at most"
            )
        book.refuse("the standard margin", *_PM2_COLUMNS)
        require("base", book.base, book.base >= 0.0, ">= 0")
        forward = book.column("forward_fixed") + book.column("forward_variable")
        years, amount = book.column("seconds") / SECONDS_PER_YEAR, book.column("amount")
        # PMRM and SRM mark options undiscounted
        mark = amount * black76_price(book.sign, forward, book.column("K"), years, book.column("sigma"))
        alone = self.isolated(book.sign, book.column("K"), amount, mark, market.spot_usd)
        unpaired = (self.unpaired_initial, self.unpaired_maintenance)
        option = [np.empty(book.accounts), np.empty(book.accounts)]
        for out, isolated, scale in zip(option, alone, unpaired, strict=True):
            kernels.standard(book.offsets, book.sign, book.options, isolated, scale, out)

        notional = np.abs(book.linear_usd(market))
        base_usd = book.base * market.spot_usd
        value = book.per_account(mark) + book.perp_pnl + book.cash
        initial = option[0] - self.perp_initial_frac * notional + self.base_factor * self.base_initial_scale * base_usd
        maintenance = option[1] - self.perp_maintenance_frac * notional + self.base_factor * base_usd

        shorts = book.per_account(np.maximum(-amount, 0.0))
        depeg = self.depeg_factor * max(self.depeg_threshold - market.stable_usd, 0.0)
        initial = initial - depeg * market.spot_usd * (shorts + np.abs(book.perps))
        trust = np.minimum(book.column("confidence"), market.spot_confidence)
        trust = _least_by_expiry(book, trust)
        doubt = np.where(trust < self.confidence_threshold, 1.0 - trust, 0.0)
        spot_trust, perp_trust = market.spot_confidence, min(market.spot_confidence, market.perp_confidence)
        penalty = book.per_account(doubt * np.maximum(-amount, 0.0)) * market.spot_usd
        penalty += _doubt(perp_trust, self.confidence_threshold) * market.spot_usd * np.abs(book.perps)
        penalty += _doubt(spot_trust, self.confidence_threshold) * base_usd
        initial = initial - self.confidence_factor * penalty

        equity = value + base_usd / market.stable_usd
        cash = book.cash + book.perp_pnl
        none = np.full(book.accounts, -1, np.int64)
        return MarginResult(equity, equity - (initial + cash), equity - (maintenance + cash), none)


def derive_standard_mainnet() -> DeriveStandard:
    """ETH parameters of the v2 manager in use (recorded 2026-11; read them from the manager before relying on them).

    The documentation of v3 has others: perps at 6.6 % and 5 %.
    """
    return DeriveStandard(
        min_spot_frac=0.13, call_maintenance_frac=0.09, put_maintenance_frac=0.09, put_mark_frac=0.09,
        base_initial_scale=0.9375, confidence_threshold=0.55,
    )  # fmt: skip


@dataclass(frozen=True)
class DerivePortfolio:
    """PMRM, eq. (4)."""

    rules: ScanRules = PMRM_RULES
    scenarios: tuple[Scenario, ...] = PMRM_SCENARIOS
    initial_factor: float = 1.3
    peg_threshold: float = 0.98
    peg_factor: float = 2.0
    confidence_margin: float = 0.5
    base_frac: float = 0.02
    perp_frac: float = 0.02
    option_frac: float = 0.01

    @in_figures
    def margin(self, book: MarginBook, market: Market) -> MarginResult:
        """Equity and requirements per account; implements `margin.MarginModel`."""
        check_numbers(self)
        book.refuse("PMRM", *_PM2_COLUMNS)
        require("base", book.base, book.base >= 0.0, ">= 0")
        base_usd = book.base * market.spot_usd / market.stable_usd
        trust = _trust(book, market)
        found = scan(book, base_usd + book.linear_usd(market), trust, self.rules, self.scenarios)
        units = np.abs(book.perps) * self.perp_frac + book.base * self.base_frac + found.naked * self.option_frac
        loss = found.worst - units * market.spot_usd
        doubt = np.where(trust < self.rules.confidence_threshold, 1.0 - trust, 0.0)
        distrust = doubt * (np.abs(book.perps) + book.base) + found.distrust
        oracle = self.confidence_margin * distrust * market.spot_usd
        factor = self.initial_factor + self.peg_factor * max(self.peg_threshold - market.stable_usd, 0.0)
        equity = found.value + base_usd + book.perp_pnl + book.cash
        return MarginResult(equity, oracle - factor * loss, -loss, found.worst_scenario)


@dataclass(frozen=True)
class DerivePortfolio2:
    """PMRM 2, eq. (5); skew shocks and discounts are market settings, so `rules` has no default."""

    rules: ScanRules
    scenarios: tuple[Scenario, ...] = PMRM2_SCENARIOS
    initial_factor: float = 1.0
    maintenance_factor: float = 0.8
    peg_threshold: float = 0.99
    peg_factor: float = 4.0
    confidence_margin: float = 1.0
    perp_maintenance_frac: float = 0.03
    perp_initial_frac: float = 0.01
    option_maintenance_frac: float = 0.003
    option_initial_frac: float = 0.002

    @in_figures
    def margin(self, book: MarginBook, market: Market) -> MarginResult:
        """Equity and requirements per account; implements `margin.MarginModel`.

        Spot holdings are `collateral` or, where the venue lets them offset, `cancelling`; their haircuts, in USD, are
        those of `haircuts`.
        """
        check_numbers(self)
        book.refuse("PMRM 2", "base")
        trust = _trust(book, market)
        found = scan(book, book.cancelling + book.linear_usd(market), trust, self.rules, self.scenarios)
        notional, naked = np.abs(book.perps) * market.spot_usd, found.naked * market.spot_usd
        maintenance = self.perp_maintenance_frac * notional + self.option_maintenance_frac * naked
        maintenance = maintenance + book.haircut_maintenance
        doubt = np.where(trust < self.rules.confidence_threshold, 1.0 - trust, 0.0)
        oracle = self.confidence_margin * (doubt * notional + found.distrust * market.spot_usd)
        initial = self.perp_initial_frac * notional + self.option_initial_frac * naked + book.haircut_initial + oracle
        factor = self.initial_factor + self.peg_factor * max(self.peg_threshold - market.stable_usd, 0.0)
        equity = found.value + book.collateral + book.cancelling + book.perp_pnl + book.cash
        return MarginResult(
            equity,
            maintenance + initial - factor * found.worst,
            maintenance - self.maintenance_factor * found.worst,
            found.worst_scenario,
        )

    def haircuts(
        self, value_usd: Floats, maintenance_frac: Floats, initial_frac: Floats, confidence: Floats, market: Market
    ) -> tuple[Floats, Floats]:
        """(maintenance, initial) haircut of each spot holding in USD, to be summed by account; all (n,).

        The initial one is on top of the other. A holding is trusted as little as its own feed or the spot feed,
        whichever is less, whatever the feed of perps says (PMRM_2._arrangeAssets); below the threshold
        confidence_margin * (1 - trust) of its value is added to the initial one.
        """
        trust = np.minimum(confidence, market.spot_confidence)
        doubt = np.where(trust < self.rules.confidence_threshold, 1.0 - trust, 0.0)
        return value_usd * maintenance_frac, value_usd * (initial_frac + self.confidence_margin * doubt)


def _trust(book: MarginBook, market: Market) -> Floats:
    both = min(market.spot_confidence, market.perp_confidence)
    return np.where(book.perps != 0.0, both, market.spot_confidence)


def _doubt(trust: float, threshold: float) -> float:
    return 1.0 - trust if trust < threshold else 0.0


def _least_by_expiry(book: MarginBook, trust: Floats) -> Floats:
    """For every option the least confidence among the options of its account and expiry."""
    if trust.size == 0:
        return trust
    starts = book.expiries()
    return np.repeat(np.minimum.reduceat(trust, starts), np.diff(np.r_[starts, trust.size]))
