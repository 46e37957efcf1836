"""Static part of every leg: threshold and bonus by (market, asset, side, e-mode), asked of the rules.

Aave's exact rule alone knows an account's threshold and bonus (e-mode, version), so one account that holds the leg is
rebuilt with that leg alone and judged; of the others the market's own terms say it.
"""

from __future__ import annotations

import numpy as np

from aggregator.core.account import Account, Leg
from aggregator.core.errors import DomainError
from aggregator.core.fixed import Fixed
from aggregator.core.table import Table
from aggregator.engine.book import Flags, Floats, Indices, Terms, table
from aggregator.engine.load_oracles import OracleTable
from aggregator.engine.names import Names
from aggregator.rules import Rule, get
from aggregator.rules.aave_v3 import AaveV3
from aggregator.rules.base import need
from aggregator.rules.morpho_blue import bonus_frac
from aggregator.snapshot import Snapshot, accounts

_PROBE = 10**30  # raw units of the rebuilt leg: rounding of the contract is 1e-12 of it or less
_WAD, _BPS = 1e18, 1e4


class TermTable:
    def __init__(self, snap: Snapshot, names: Names, oracles: OracleTable) -> None:
        self.snap, self.names, self.oracles = snap, names, oracles
        self.rows: list[tuple[int, int, int, bool, float, float, float, bool]] = []
        self.why: dict[str, str] = {}
        self.idle: list[bool] = []  # of each row: collateral that its rule does not count
        self.lent: set[tuple[int, int]] = set()  # (market, asset) of the debts
        self._shielded: set[str] = set()
        self._close: dict[str, float] = {}
        self._storefront: dict[str, float] = {}

    def codes(self, exposures: Table, legs: Indices, debt: Flags) -> Indices:
        """(legs,) row of the term table, -1 where the rule cannot judge the leg (`why` by market says so)."""
        market, asset, holder = (exposures[c][legs].astype(np.int64) for c in ("market", "asset", "holder"))
        emode = self._emodes(market, holder)  # of debts too: a category of Aave 3.0 may have a price of its own
        key = ((market * len(self.snap.names) + asset) * 2 + debt) * (int(emode.max(initial=0)) + 1) + emode
        unique, first, inverse = np.unique(key, return_index=True, return_inverse=True)
        made = np.full(len(unique), -1, np.int64)
        for i, at in enumerate(first.tolist()):
            names = [self.snap.names[c] for c in (market[at], asset[at], holder[at])]
            try:
                made[i] = self._make(names[0], names[1], names[2], bool(debt[at]))
            except DomainError as error:
                self.why.setdefault(names[0], error.message)
        return made[inverse] if len(made) else np.zeros(0, np.int64)

    def idles(self, codes: Indices) -> Flags:
        """(legs,) whether a leg is collateral in name alone: its rule gives it no weight and lets nobody seize it."""
        out: Flags = np.array([*self.idle, False], np.bool_)[codes]  # code -1 reads the last
        return out

    def columns(self) -> Terms:
        return table(Terms, self.rows)

    def close_frac(self) -> Floats:
        return np.array([self._close.get(m, 0.5) for m in self.names.markets])

    def shielded(self) -> Flags:
        return np.array([m in self._shielded for m in self.names.markets], np.bool_)

    def storefront_frac(self) -> Floats:
        return np.array([self._storefront.get(m, np.nan) for m in self.names.markets])

    def _emodes(self, market: Indices, holder: Indices) -> Indices:
        own = self.snap.tables["account_term"]
        rows = np.flatnonzero(own["key"] == self.snap.code("emode"))
        key = own["market"][rows].astype(np.int64) << 32 | own["holder"][rows].astype(np.int64)
        order = np.argsort(key)
        key, value = key[order], own["raw_f"][rows][order].astype(np.int64)
        wanted = market << 32 | holder
        if not len(key):
            return np.zeros(len(wanted), np.int64)
        at = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
        return np.where(key[at] == wanted, value[at], 0)

    def _make(self, market: str, asset: str, holder: str, debt: bool) -> int:
        account = accounts.account(self.snap, market, holder)
        rule = get(account.rule)
        if rule is None or asset not in self.names.asset:
            raise DomainError(f"{asset} has no decimals or its market no rule", expected="both known")
        side = "debt" if debt else "collateral"
        leg = next(leg for leg in account.legs if leg.asset == asset and leg.side == side)
        m, a = self.names.market[market], self.names.asset[asset]
        aave = rule if isinstance(rule, AaveV3) else None
        own_unit = debt and rule.name.startswith("morpho_blue@")  # it counts in its loan asset
        oracle = self.oracles.code(account, leg, _judged_usd(aave, account, leg), own_unit)
        threshold = bonus = fee = 0.0
        call = aave is None or not aave.closed(account, leg)
        if aave is not None and aave.shielded(account):
            self._shielded.add(market)
        if debt:
            self.lent.add((m, a))
        else:
            threshold, bonus, fee = self._profile(rule, account, leg)
            call &= bonus >= 0.0  # none is set: the call would divide by zero
        self.idle.append(aave is not None and not debt and not aave.counts(leg))
        self.rows.append((m, a, oracle, debt, threshold, max(bonus, 0.0), fee, call))
        return len(self.rows) - 1

    def _profile(self, rule: Rule, account: Account, leg: Leg) -> tuple[float, float, float]:
        """(threshold, bonus, fee) of collateral; a bonus of -1 where the market has set none."""
        terms = account.terms
        if isinstance(rule, AaveV3):
            alone = leg._replace(shares=_PROBE, amount=_PROBE, num=1, den=1)
            threshold = rule.judge(account._replace(legs=(alone,))).threshold_wad / _WAD
            fee = need(leg.terms, "liquidation_protocol_fee_bps", leg.asset) / _BPS
            return threshold, (rule.bonus_bps(account, leg) - _BPS) / _BPS, fee
        if rule.name.startswith("morpho_blue@"):
            lltv = need(terms, "lltv_wad", account.market)
            return lltv / _WAD, bonus_frac(lltv), 0.0
        if rule.name.startswith("compound_v2@"):
            self._close[account.market] = need(terms, "close_factor_wad", account.market) / _WAD
            bonus = need(terms, "liquidation_incentive_wad", account.market) / _WAD - 1.0
            fee = leg.terms.get("protocol_seize_share_wad", 0) / _WAD
            return need(leg.terms, "collateral_factor_wad", leg.asset) / _WAD, bonus, fee
        factor = terms.get("store_front_price_factor_wad")  # Comet
        if factor is not None:
            self._storefront[account.market] = factor / _WAD
        cut = 1.0 - need(leg.terms, "liquidation_factor_wad", leg.asset) / _WAD
        return need(leg.terms, "liquidate_collateral_factor_wad", leg.asset) / _WAD, cut, 0.0


def _judged_usd(rule: AaveV3 | None, account: Account, leg: Leg) -> float | None:
    """Dollars of one whole asset as the rule uses it: an e-mode category may have a price of its own."""
    if rule is None or leg.price is None:
        return None
    alone = leg._replace(shares=_PROBE, amount=_PROBE, num=1, den=1)
    judged = rule.judge(account._replace(legs=(alone,)))
    worth = judged.debt if leg.side == "debt" else judged.collateral
    if not worth:  # it does not count, or is worth nothing
        return None
    return float(Fixed(worth, judged.exp).decimal() / Fixed(_PROBE, leg.decimals).decimal())
