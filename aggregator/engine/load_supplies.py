"""What is owned beside accounts: supplies to the pots that bear a market's losses, and all other holdings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aggregator.core.rows import Gap
from aggregator.engine.book import Claims, Flags, Floats, Holdings, Indices, Pots, Supplies, add_up
from aggregator.engine.names import Names
from aggregator.engine.value import lent_through
from aggregator.snapshot import Snapshot

Lent = Sequence[tuple[int, int]]  # (market, asset) of each pot
_ROUNDING = 1e-9  # of the sums of floats


def supplies_of(snap: Snapshot, names: Names, lent: Lent, units: Floats, legs: Indices) -> tuple[Supplies, Indices]:
    """Who owns the pots, and where that stands in the exposure table; legs: the rows that are accounts' legs."""
    table = snap.tables["exposure"]
    posted = np.zeros(table.n, np.bool_)
    posted[legs] = table["side"][legs] == snap.code("collateral")
    lends = np.isin(table["market"], [snap.code(r.market) for r in snap.rows("market") if _lends_collateral(r.rule)])
    supplied = (table["side"] == snap.code("supply")) | ((table["side"] == snap.code("collateral")) & lends)
    rows = np.flatnonzero(supplied & np.isfinite(units))
    at = _pot_at(snap, names, lent, rows)
    rows, pot = rows[at >= 0], at[at >= 0].astype(np.int32)
    holder = names.holder_of[table["holder"][rows]].astype(np.int32)
    return Supplies(pot, holder, units[rows], posted[rows]), rows


def _lends_collateral(rule: str) -> bool:
    """Whether what is posted as collateral is lent on (and so bears the market's losses)."""
    return rule.startswith(("aave_v3@", "compound_v2@"))


def _pot_at(snap: Snapshot, names: Names, lent: Lent, rows: Indices) -> Indices:
    """(rows,) pot of each exposure's market and asset, -1 for none."""
    table, n = snap.tables["exposure"], len(names.assets)
    market, asset = names.market_of[table["market"][rows]], names.asset_of[table["asset"][rows]]
    pot = np.full(len(names.markets) * n + 1, -1, np.int64)
    for i, (m, a) in enumerate(lent):
        pot[m * n + a] = i
    return np.where((market >= 0) & (asset >= 0), pot[market * n + asset], -1)


def pots_of(
    snap: Snapshot, names: Names, lent: Lent, supplies: Supplies, units: Floats, claims: Claims
) -> tuple[Pots, list[Gap]]:
    """As large as their contracts say, and at least as what their suppliers are known to hold.

    Where no contract says it: what is listed as supplied, plainly or by receipts, or else what all other claims stand
    for (a vault may be listed as a supplier or by its shares); and at least what is owed, for somebody lent it: the
    suppliers missing are a gap.
    """
    total, reserve = np.zeros(len(lent)), np.zeros(len(lent))
    for i, (m, a) in enumerate(lent):
        market, asset = names.markets[m], names.assets[a]
        total[i] = _contract_total(snap, market, asset) / 10.0 ** names.decimals[a]
        backstops = snap.rows("backstop", market=market, asset=asset)
        reserve[i] = sum(b.raw for b in backstops) / 10.0 ** names.decimals[a]
    rows = np.flatnonzero((snap.tables["exposure"]["side"] == snap.code("debt")) & np.isfinite(units))
    at = _pot_at(snap, names, lent, rows)
    owed = np.where(np.isfinite(total), 0.0, add_up(at[at >= 0], units[rows[at >= 0]], len(lent)))
    listed = add_up(supplies.pot, supplies.units, len(lent))
    receipts, others = _claimed(snap, names, claims, lent, units)
    known = np.where(np.isfinite(total), np.fmax(total, listed), np.maximum(listed + receipts, others))
    markets, assets = (np.array([pair[i] for pair in lent], np.int32) for i in (0, 1))
    missing = np.where(owed > known * (1.0 + _ROUNDING), owed - known, 0.0)
    gaps = [_unlisted(names, m, a, missing[i]) for i, (m, a) in enumerate(lent) if missing[i] > 0.0]
    return Pots(markets, assets, known + missing, reserve, np.zeros(len(lent))), gaps


def _claimed(snap: Snapshot, names: Names, claims: Claims, lent: Lent, units: Floats) -> tuple[Floats, Floats]:
    """(pots,) units lent by whoever is listed with a receipt of the pot, and with any other claim, through its steps.

    A receipt is what the market gives its supplier; behind other claims stands somebody who supplies in his own name.
    Claims that are owed count less.
    """
    table, n = snap.tables["exposure"], len(names.assets)
    place = names.asset_of[table["asset"]]
    owned = np.where(table["side"] == snap.code("debt"), -units, units)
    known = np.flatnonzero((place >= 0) & np.isfinite(units))
    held = np.maximum(add_up(place[known], owned[known], n), 0.0)
    receipt = snap.tables["claim"]["asset"][snap.tables["claim"]["kind"] == snap.code("receipt")]
    is_receipt = np.isin(np.arange(n), names.asset_of[receipt])
    places = {pair: i for i, pair in enumerate(lent)}
    receipts = next(lent_through(claims, places, np.where(is_receipt, held, 0.0)))
    return receipts, sum(lent_through(claims, places, np.where(is_receipt, 0.0, held)), np.zeros(len(lent)))


def _unlisted(names: Names, market: int, asset: int, units: float) -> Gap:
    usd = units * float(names.price_usd[asset])
    detail = f"{names.assets[asset]}: more is owed than supplied; the rest is taken as lent by suppliers not listed"
    return Gap(names.markets[market], "unlisted_supply", detail, value_usd=f"{usd:.2f}" if np.isfinite(usd) else "")


def _contract_total(snap: Snapshot, market: str, asset: str) -> float:
    """Raw units that the contract says were lent, NaN where it does not."""
    totals = [t.raw for t in snap.rows("total", market=market, asset=asset) if t.side == "supply"]
    index = [i for i in snap.rows("index", market=market, asset=asset) if i.side == "supply" and i.den]
    return float(totals[0] * index[0].num // index[0].den) if totals and index else np.nan


def holdings_of(snap: Snapshot, names: Names, units: Floats, counted: Indices, valued: Flags) -> Holdings:
    """Exposures that are owned and counted nowhere else; counted: rows that are; valued (assets,): has a value.

    The margin of perp accounts is in their equity.
    """
    table = snap.tables["exposure"]
    perps = [snap.code(row.market) for row in snap.rows("market") if row.kind == "perp"]
    place = names.asset_of[table["asset"]]
    rest = (table["side"] != snap.code("debt")) & np.isfinite(units) & ~np.isin(table["market"], perps)
    rest &= (place >= 0) & valued[place]
    rest[counted] = False
    rows = np.flatnonzero(rest)
    holder = names.holder_of[table["holder"][rows]]
    return Holdings(holder.astype(np.int32), place[rows].astype(np.int32), units[rows])
