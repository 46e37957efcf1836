"""Perp accounts of a snapshot. Margin is what the exact rule counts at the cut, less the open positions' profit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from math import fsum
from typing import NamedTuple

import numpy as np

from aggregator.core.account import Account
from aggregator.core.errors import DomainError
from aggregator.core.rows import Gap, PerpPosition
from aggregator.engine.book import PerpAccounts, Perps, table
from aggregator.engine.names import Names
from aggregator.rules.perp_curie import PIPS, PerpCurie
from aggregator.snapshot import Snapshot, accounts
from aggregator.snapshot.derivatives import settlement as settlement_of

_PLACES = 18
_RULE = PerpCurie()


class PerpBook(NamedTuple):
    """funds: (market, its insurance fund in settlement tokens); settlement: (market, token with a price)."""

    perps: Perps
    accounts: PerpAccounts
    funds: tuple[tuple[int, float], ...]
    settlement: tuple[tuple[int, int], ...]
    gaps: tuple[Gap, ...]


class _Judged(NamedTuple):
    """margin: (whole settlement tokens, maintenance and penalty fraction); opened: rows of `Perps` but the account."""

    account: Account
    margin: tuple[float, float, float]
    opened: list[tuple[int, float, float, float, bool]]


def perps_of(snap: Snapshot, names: Names) -> PerpBook:
    """Accounts that the rule can judge, and a Gap for those it cannot and for a settlement token without a price."""
    positions: list[tuple[int, int, float, float, float, bool]] = []
    margins: list[tuple[int, int, float, float, float]] = []
    funds: dict[int, float] = {}
    settlement: dict[int, int] = {}
    missing: Counter[str] = Counter()
    fixed: dict[str, list[float]] = {}
    known = {row.market for row in snap.rows("market") if row.rule == _RULE.name}
    for (market, holder), rows in sorted(_held(snap, known).items()):
        found = _judged(snap, names, market, holder, rows) if market in known else None
        if found is None:
            missing[market] += 1
            continue
        m = names.market[market]
        positions += [(len(margins), *position) for position in found.opened]
        margins.append((m, int(names.holder_of[snap.code(holder)]), *found.margin))
        if other := _RULE.other_collateral(found.account):
            fixed.setdefault(market, []).append(other / 10.0**_PLACES)
        terms = found.account.terms
        places = terms.get("settlement_decimals", _PLACES)
        funds[m] = terms.get("insurance_fund_capacity", 0) / 10.0**places
        settlement[m] = names.asset.get(settlement_of(snap, market), -1)
    valued = {m: a for m, a in settlement.items() if a >= 0 and np.isfinite(names.price_usd[a])}
    gaps = [Gap(m, "unjudged", "perp accounts without a price, term or rule", n) for m, n in sorted(missing.items())]
    detail = "its settlement token has none, or none is known: equity at one dollar"
    gaps += [Gap(names.markets[m], "no_price", detail) for m in sorted(settlement.keys() - valued.keys())]
    detail = "collateral of perp accounts besides the settlement token: its value at the cut moves with no price"
    for market, counted in sorted(fixed.items()):
        m = names.market[market]
        usd = fsum(counted) * (float(names.price_usd[valued[m]]) if m in valued else 1.0)
        gaps.append(Gap(market, "fixed_collateral", detail, len(counted), f"{usd:.2f}"))
    tables = table(Perps, positions), table(PerpAccounts, margins)
    return PerpBook(*tables, tuple(sorted(funds.items())), tuple(sorted(valued.items())), tuple(gaps))


def _held(snap: Snapshot, known: Collection[str]) -> dict[tuple[str, str], list[PerpPosition]]:
    """Positions by (market, holder); none for who has margin alone."""
    rows: dict[tuple[str, str], list[PerpPosition]] = {}
    for row in snap.rows("perp"):
        rows.setdefault((row.market, row.holder), []).append(row)
    for name in known:
        for kind in ("exposure", "account_term"):
            for row in snap.rows(kind, market=name):
                rows.setdefault((name, row.holder), [])
    return rows


def _judged(snap: Snapshot, names: Names, market: str, holder: str, rows: list[PerpPosition]) -> _Judged | None:
    """None where a price or term is unknown. A settlement token counts as one dollar, as at the venue."""
    try:
        account = accounts.account(snap, market, holder)
        value = _RULE.margin(account).value / 10.0**_PLACES
        maintenance, penalty = (account.terms[key] / PIPS for key in ("mm_ratio_pips", "liquidation_penalty_pips"))
    except (DomainError, KeyError):
        return None
    opened = []
    for row, leg in zip(rows, account.side("long", "short"), strict=True):
        asset = names.asset.get(row.asset, -1)
        if asset < 0 or not np.isfinite(names.price_usd[asset]):
            return None
        size, notional = (raw / 10.0**row.exp for raw in (row.size, row.open_notional))
        opened.append((asset, size, notional, 1.0, bool(leg.terms.get("open", 1))))
    profit = sum(size * float(names.price_usd[asset]) + notional for asset, size, notional, _, _ in opened)
    return _Judged(account, (value - profit, maintenance, penalty), opened)
