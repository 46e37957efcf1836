"""A snapshot as a book: every account that its rule can judge, and a Gap for those it cannot.

An account is left out whole when one of its legs has no amount, no price, no term or an unknown rule: part of an
account is not an account. What is left out is counted in `Book.gaps`, never taken as zero.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from aggregator.core.ids import USD
from aggregator.core.table import Table
from aggregator.engine.book import Book, Flags, Floats, Holdings, Indices, Pots, Supplies, add_up
from aggregator.engine.load_options import margin_rules_of, options_of
from aggregator.engine.load_perps import perps_of
from aggregator.engine.load_pools import claims_of, issuers_of, pools_of
from aggregator.engine.load_terms import Lent, TermTable, lends_collateral
from aggregator.rules import get, lending
from aggregator.snapshot import Snapshot, values
from aggregator.snapshot.prices import all_usd

_CASH_BAND = 0.05


class Assets(NamedTuple):
    """Assets with known decimals, sorted by id, and where each stands in the book; price NaN where it has none."""

    ids: tuple[str, ...]
    place: dict[str, int]
    decimals: Floats
    price_usd: Floats
    of_name: Indices  # (names,) place of the asset with this code, -1 for none


def from_snapshot(snap: Snapshot) -> Book:
    """Columns of the cascade from the rows of one cut."""
    assets = _assets(snap)
    claims, lps, claimed = claims_of(snap, assets.place, assets.decimals, assets.price_usd)
    markets = tuple(sorted({row.market for row in snap.rows("market")}))
    rules = {row.market: row.rule if lending(row.rule) else "" for row in snap.rows("market")}
    names = {market: i for i, market in enumerate(markets)}
    table = snap.tables["exposure"]
    amount = values.amount_raw(snap)
    place = assets.of_name[table["asset"]]
    with np.errstate(invalid="ignore"):
        units = np.where(place >= 0, amount / 10.0 ** np.where(place >= 0, assets.decimals[place], 0.0), np.nan)
    market = np.array([names.get(name, -1) for name in snap.names], np.int64)[table["market"]]
    terms = TermTable(snap, assets.place, assets.price_usd, names, claimed)
    side = {s: table["side"] == snap.code(s) for s in ("collateral", "debt", "supply")}
    judged = np.array([bool(rules.get(m)) for m in markets] or [False], np.bool_)[market] & (market >= 0)
    legs = np.flatnonzero((side["collateral"] | side["debt"]) & judged)
    term = terms.codes(table, legs, side["debt"][legs])
    counted = ~terms.idles(term)  # the rest is supply in all but name
    legs, term = legs[counted], term[counted]
    owner, first = _accounts(table["market"][legs], table["holder"][legs])
    bad = (term < 0) | ~np.isfinite(units[legs])
    accounts = len(first)
    out = np.zeros(accounts, np.bool_)
    out[owner[bad]] = True
    keep = np.flatnonzero(~out[owner])
    order = keep[np.argsort(owner[keep], kind="stable")]
    counts = np.bincount(owner[order], minlength=accounts)[~out]
    holders = tuple(sorted({snap.names[h] for h in np.unique(table["holder"]).tolist()} | _option_holders(snap)))
    code_of = {name: i for i, name in enumerate(holders)}
    holder_of = np.array([code_of.get(name, -1) for name in snap.names], np.int64)
    posted = np.zeros(table.n, np.bool_)
    posted[legs[order]] = side["collateral"][legs[order]]
    pots, supply_rows, supplies = _pots(
        snap, markets, rules, assets, market, place, units, holder_of, terms.lent, posted
    )
    options, pools_option, option_pots, option_gaps = options_of(snap, assets.place, names, holder_of, assets.price_usd)
    option_shocks, option_fees, margin_gaps = margin_rules_of(snap, options, names)
    pots = Pots(*(np.concatenate([a, b]) for a, b in zip(pots, option_pots, strict=True)))
    perps = perps_of(snap, assets.place, names, holder_of, assets.price_usd)
    perp_rules = {row.market: row.rule for row in snap.rows("market") if row.kind == "perp"}
    in_perps = np.isin(table["market"], [snap.code(m) for m in perp_rules])  # margin is in the accounts' equity
    valued = np.isfinite(assets.price_usd)
    valued[sorted(claimed)] = True
    cash = np.abs(assets.price_usd - 1.0) <= _CASH_BAND
    cash[sorted(claimed)] = False
    own = assets.price_usd.copy()
    own[[i for i in claimed if _by_claim(snap, assets.ids[i])]] = np.nan
    return Book(
        assets=assets.ids,
        symbols=tuple(_symbol(snap, a) for a in assets.ids),
        price_usd=own,
        cash=cash,
        markets=markets,
        rules=tuple(rules[m] for m in markets),
        holders=holders,
        account_market=market[legs[first]][~out].astype(np.int32),
        account_holder=holder_of[table["holder"][legs[first]]][~out].astype(np.int32),
        leg_start=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        leg_term=term[order].astype(np.int32),
        leg_amount=units[legs[order]],
        terms=terms.columns(),
        oracles=terms.oracle_columns(),
        pools=pools_of(snap, assets.place, assets.decimals, cash, claims, assets.price_usd),
        close_frac=terms.close_frac(markets),
        storefront_frac=terms.storefront_frac(markets),
        shielded=terms.shielded(markets),
        claims=claims,
        lps=lps,
        pots=pots,
        supplies=supplies,
        holdings=_holdings(table, legs[order], supply_rows, place, units, holder_of, side["debt"], valued, in_perps),
        issuers=issuers_of(assets.ids, sorted(claimed), holders),
        options=options,
        option_shocks=option_shocks,
        option_fees=option_fees,
        option_pools=pools_option,
        perps=perps.perps,
        perp_accounts=perps.accounts,
        perp_rules=tuple(perp_rules.get(m, "") for m in markets),
        perp_settlement=perps.settlement,
        insurance_usd=perps.funds,
        gaps=(
            *_left_out(snap, table["market"][legs], owner, out, terms.why),
            *_unrated(terms.unrated),
            *option_gaps,
            *margin_gaps,
            *perps.gaps,
        ),
    )


def _assets(snap: Snapshot) -> Assets:
    known = {a.id for a in snap.assets.values() if a.decimals >= 0}
    ids = tuple(sorted({USD, *known, *(name for name in snap.names if _position(name))}))
    place = {a: i for i, a in enumerate(ids)}
    decimals = np.array([float(snap.assets[a].decimals) if a in known else 0.0 for a in ids])
    quoted = all_usd(snap)
    price = np.array([float(quoted[a][0].decimal()) if a in quoted else np.nan for a in ids])
    of_name = np.array([place.get(name, -1) for name in snap.names], np.int64)
    return Assets(ids, place, decimals, price, of_name)


def _symbol(snap: Snapshot, asset: str) -> str:
    if asset == USD:
        return "USD"
    return snap.assets[asset].symbol if asset in snap.assets else ""


def _position(asset: str) -> bool:
    """A position of its own is counted in its smallest unit (liquidity)."""
    return "/erc721:" in asset


def _by_claim(snap: Snapshot, asset: str) -> bool:
    """Whether the asset's price is what its claims look through to, and not a quote of its own."""
    found = all_usd(snap).get(asset)
    return found is None or found[1].split(" > ", 1)[0] in ("receipt", "vault", "lp", "lst", "bridge")


def _accounts(market: Indices, holder: Indices) -> tuple[Indices, Indices]:
    """(owner of each leg, first leg of each account), accounts in order of (market, holder) code."""
    key = market.astype(np.int64) << 32 | holder.astype(np.int64)
    _, first, owner = np.unique(key, return_index=True, return_inverse=True)
    return owner.astype(np.int64), first.astype(np.int64)


def _pots(
    snap: Snapshot, markets: tuple[str, ...], rules: dict[str, str], assets: Assets, market: Indices, place: Indices,
    units: Floats, holder_of: Indices, lent: Lent, posted: Flags,
) -> tuple[Pots, Indices, Supplies]:  # fmt: skip
    table = snap.tables["exposure"]
    pairs = sorted(lent)
    pot = {pair: i for i, pair in enumerate(pairs)}
    lends = np.array([lends_collateral(rules[m]) for m in markets] or [False], np.bool_)
    supplied = (table["side"] == snap.code("supply")) | ((table["side"] == snap.code("collateral")) & lends[market])
    rows = np.flatnonzero(supplied & np.isfinite(units) & (market >= 0))
    key = market * len(assets.ids) + place
    known = np.full(len(markets) * len(assets.ids) + 1, -1, np.int64)
    for (m, a), i in pot.items():
        known[m * len(assets.ids) + a] = i
    at = known[key[rows]]
    rows, at = rows[at >= 0], at[at >= 0]
    listed = add_up(at, units[rows], len(pairs))
    total, reserve = np.zeros(len(pairs)), np.zeros(len(pairs))
    for (m, a), i in pot.items():
        total[i] = _contract_total(snap, markets[m], assets.ids[a]) / 10.0 ** assets.decimals[a]
        backstops = snap.rows("backstop", market=markets[m], asset=assets.ids[a])
        reserve[i] = sum(b.raw for b in backstops) / 10.0 ** assets.decimals[a]
    pots = Pots(
        np.array([m for m, _ in pairs], np.int32),
        np.array([a for _, a in pairs], np.int32),
        np.maximum(total, listed),
        reserve,
        np.zeros(len(pairs)),
    )
    holder = holder_of[table["holder"][rows]]
    return pots, rows, Supplies(at.astype(np.int32), holder.astype(np.int32), units[rows], posted[rows])


def _holdings(
    table: Table, legs: Indices, lent: Indices, place: Indices, units: Floats, holder_of: Indices, debt: Flags,
    valued: Flags,
    elsewhere: Flags,
) -> Holdings:  # fmt: skip
    """Exposures that are owned and counted nowhere else, of assets with a value."""
    rest = ~debt & np.isfinite(units) & (place >= 0)
    rest[legs] = rest[lent] = False
    rest &= ~elsewhere
    rest &= valued[place]
    rows = np.flatnonzero(rest)
    return Holdings(holder_of[table["holder"][rows]].astype(np.int32), place[rows].astype(np.int32), units[rows])


def _contract_total(snap: Snapshot, market: str, asset: str) -> float:
    totals = [t.raw for t in snap.rows("total", market=market, asset=asset) if t.side == "supply"]
    index = [i for i in snap.rows("index", market=market, asset=asset) if i.side == "supply" and i.den]
    return float(totals[0] * index[0].num // index[0].den) if totals and index else 0.0


def _option_holders(snap: Snapshot) -> set[str]:
    kinds = ("option", "perp", "account_term")
    return {snap.names[h] for kind in kinds for h in np.unique(snap.tables[kind]["holder"]).tolist()}


def _left_out(
    snap: Snapshot, market: Indices, owner: Indices, out: Flags, why: dict[str, str]
) -> tuple[dict[str, object], ...]:
    gaps: list[dict[str, object]] = []
    hidden = out[owner]
    for code in np.unique(market[hidden]).tolist():
        accounts = len(np.unique(owner[hidden & (market == code)]))
        name = snap.names[code]
        detail = why.get(name, "a leg has no amount")
        gaps.append({"subject": name, "reason": "unjudged", "detail": detail, "accounts": accounts, "value_usd": ""})
    described = np.array([snap.code(row.market) for row in snap.rows("market")], np.int64)
    table = snap.tables["exposure"]
    stray = ~np.isin(table["market"], described)
    for code in np.unique(table["market"][stray]).tolist():
        held = len(np.unique(table["holder"][stray & (table["market"] == code)]))
        detail = "its positions were read, but no row says what market it is"
        gaps.append(
            {"subject": snap.names[code], "reason": "unjudged", "detail": detail, "accounts": held, "value_usd": ""}
        )
    for row in snap.rows("market"):
        if row.rule and get(row.rule) is None:
            accounts = len(np.unique(snap.tables["exposure"]["holder"][snap.find("exposure", market=row.market)]))
            gaps.append(
                {"subject": row.market, "reason": "unknown_version", "detail": f"no rule {row.rule}",
                 "accounts": accounts, "value_usd": ""}
            )  # fmt: skip
    return tuple(sorted(gaps, key=str))


def _unrated(found: set[tuple[str, str]]) -> list[dict[str, object]]:
    detail = "its oracle is an exchange rate, but no claim row says of what: taken as a live feed"
    return [
        {"subject": market, "reason": "no_rate", "detail": f"{asset}: {detail}", "accounts": -1, "value_usd": ""}
        for market, asset in sorted(found)
    ]
