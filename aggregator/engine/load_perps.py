"""Perp accounts of a snapshot. Margin is what the exact rule counts at the cut, less the open positions' profit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from aggregator.core.account import Leg
from aggregator.core.errors import DomainError
from aggregator.core.fixed import Fixed
from aggregator.core.rows import PerpPosition
from aggregator.engine.book import Floats, Indices, PerpAccounts, Perps, table
from aggregator.rules.perp_curie import PIPS, PerpCurie
from aggregator.snapshot import Snapshot, accounts
from aggregator.snapshot.prices import rank

_PLACES = 18


class PerpBook(NamedTuple):
    """funds: (market, its insurance fund in settlement tokens); settlement: (market, token with a price)."""

    perps: Perps
    accounts: PerpAccounts
    funds: tuple[tuple[int, float], ...]
    settlement: tuple[tuple[int, int], ...]
    gaps: tuple[dict[str, object], ...]


def perps_of(
    snap: Snapshot, place: Mapping[str, int], markets: Mapping[str, int], holder_of: Indices, price_usd: Floats
) -> PerpBook:
    """Accounts that the rule can judge, and a Gap for those it cannot and for a settlement token without a price."""
    rule = PerpCurie()
    positions: list[tuple[int, int, float, float, float, bool]] = []
    margins: list[tuple[int, int, float, float, float]] = []
    funds: dict[int, float] = {}
    settlement: dict[int, int] = {}
    missing: dict[str, int] = {}
    rows: dict[tuple[str, str], list[PerpPosition]] = {}
    for row in snap.rows("perp"):
        rows.setdefault((row.market, row.holder), []).append(row)
    known = {row.market for row in snap.rows("market") if row.rule == rule.name}
    for name in sorted(known):  # who has margin alone
        for kind in ("exposure", "account_term"):
            rows |= {key: [] for r in snap.rows(kind, market=name) if (key := (name, r.holder)) not in rows}
    for (market, holder), held in sorted(rows.items()):
        try:
            if market not in known:
                raise DomainError("no rule", expected=rule.name)
            opened = [_position(row, place, price_usd) for row in held]
            account = accounts.account(snap, market, holder)
            legs = tuple(leg for leg in account.legs if leg.side == "margin") + tuple(_leg(snap, row) for row in held)
            value = rule.margin(account._replace(legs=legs)).value / 10.0**_PLACES
            frac = [account.terms[key] / PIPS for key in ("mm_ratio_pips", "liquidation_penalty_pips")]
        except (DomainError, KeyError):
            missing[market] = missing.get(market, 0) + 1
            continue
        code = len(margins)
        profit = sum(size * float(price_usd[asset]) + notional for asset, size, notional in opened)
        margins.append((markets[market], int(holder_of[snap.code(holder)]), value - profit, frac[0], frac[1]))
        live = [bool(leg.terms.get("open", 1)) for leg in legs[-len(held) :]] if held else []
        positions += [(code, *opened[i], 1.0, trades) for i, trades in enumerate(live)]
        places = account.terms.get("settlement_decimals", _PLACES)
        funds[markets[market]] = account.terms.get("insurance_fund_capacity", 0) / 10.0**places
        for leg in account.side("margin"):
            if "collateral_ratio_pips" not in leg.terms:
                settlement[markets[market]] = place.get(leg.asset, -1)
    gaps: tuple[dict[str, object], ...] = tuple(
        {"subject": m, "reason": "unjudged", "detail": "perp accounts without a price, term or rule",
         "accounts": n, "value_usd": ""}
        for m, n in sorted(missing.items())
    )  # fmt: skip
    valued = {m: a for m, a in settlement.items() if a >= 0 and np.isfinite(price_usd[a])}
    gaps += tuple(
        {"subject": name, "reason": "no_price", "detail": "its settlement token has none: equity at one dollar",
         "accounts": -1, "value_usd": ""}
        for name, code in sorted(markets.items()) if code in settlement and code not in valued
    )  # fmt: skip
    tables = table(Perps, positions), table(PerpAccounts, margins)
    return PerpBook(*tables, tuple(sorted(funds.items())), tuple(sorted(valued.items())), gaps)


def _position(row: PerpPosition, place: Mapping[str, int], price_usd: Floats) -> tuple[int, float, float]:
    """(asset, size, open notional) in whole units; a settlement token counts as one dollar, as at the venue."""
    asset = place.get(row.asset, -1)
    if asset < 0 or not np.isfinite(price_usd[asset]):
        raise DomainError(f"no price for {row.asset}", expected="the venue's mark")
    return asset, row.size / 10.0**row.exp, row.open_notional / 10.0**row.exp


def _leg(snap: Snapshot, row: PerpPosition) -> Leg:
    rows = sorted((p for p in snap.rows("price", market=row.market, asset=row.asset) if p.raw > 0), key=rank)
    price = Fixed(rows[0].raw, rows[0].exp) if rows else None
    terms = {t.key: t.raw for t in snap.rows("term", market=row.market, asset=row.asset) if not t.scope}
    terms |= {"size": row.size, "open_notional": row.open_notional}
    side = "long" if row.size >= 0 else "short"
    return Leg(row.asset, side, abs(row.size), abs(row.size), row.exp, price, terms, row.ref, row.src)
