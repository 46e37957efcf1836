"""A snapshot as a book: each part is loaded beside this file, what cannot be judged is counted in `Book.gaps`."""

from __future__ import annotations

import numpy as np

from aggregator.core.ids import USD
from aggregator.core.rows import Gap
from aggregator.engine.book import Book, Claims, Flags, Floats, Lps, Pots, is_claim
from aggregator.engine.load_accounts import accounts_of
from aggregator.engine.load_options import margin_rules_of, options_of
from aggregator.engine.load_oracles import OracleTable
from aggregator.engine.load_perps import perps_of
from aggregator.engine.load_pools import claims_of, issuers_of, keepers_of, pools_of, sold_for_usd
from aggregator.engine.load_supplies import holdings_of, pots_of, supplies_of
from aggregator.engine.load_terms import TermTable
from aggregator.engine.names import Names, names_of
from aggregator.engine.value import values_at_cut
from aggregator.rules import lending
from aggregator.snapshot import Snapshot, values
from aggregator.snapshot.prices import all_usd
from aggregator.snapshot.symbols import standing

_CASH_BAND = 0.05


def from_snapshot(snap: Snapshot) -> Book:
    """Columns of the cascade from the rows of one cut."""
    names = names_of(snap)
    units = _units(snap, names)
    claims, lps = claims_of(snap, names)
    claims, lps, baseless = _standing(snap, names, claims, lps)
    claimed = is_claim(claims, lps, len(names.assets))
    own_usd = _own_price_usd(snap, names, claimed)
    oracles = OracleTable(snap, names, claims, claimed, values_at_cut(claims, lps, own_usd).backing_usd)
    terms = TermTable(snap, names, oracles)
    accounts, left_out = accounts_of(snap, names, terms, units)
    lent = sorted(terms.lent)
    supplies, supplied = supplies_of(snap, names, lent, units, accounts.row)
    pots, unlisted = pots_of(snap, names, lent, supplies, units, claims)
    options, option_pools, option_pots, unpriced = options_of(snap, names)
    shocks, fees, unread = margin_rules_of(snap, names, options)
    perps = perps_of(snap, names)
    cash = (np.abs(names.price_usd - 1.0) <= _CASH_BAND) & ~claimed & ~sold_for_usd(snap, names)
    valued = np.isfinite(names.price_usd) | claimed
    counted = np.concatenate([accounts.row, supplied])
    rules = {row.market: row.rule for row in snap.rows("market")}
    perp_markets = {row.market for row in snap.rows("market") if row.kind == "perp"}
    return Book(
        assets=names.assets,
        symbols=tuple(_symbol(snap, a) for a in names.assets),
        price_usd=own_usd,
        cash=cash,
        markets=names.markets,
        rules=tuple(rules[m] if lending(rules[m]) else "" for m in names.markets),
        holders=names.holders,
        account_market=accounts.market,
        account_holder=accounts.holder,
        leg_start=accounts.leg_start,
        leg_term=accounts.leg_term,
        leg_amount=units[accounts.row],
        terms=terms.columns(),
        oracles=oracles.columns(),
        pools=pools_of(snap, names, cash, claims),
        close_frac=terms.close_frac(),
        storefront_frac=terms.storefront_frac(),
        shielded=terms.shielded(),
        claims=claims,
        lps=lps,
        pots=Pots(*(np.concatenate([a, b]) for a, b in zip(pots, option_pots, strict=True))),
        supplies=supplies,
        holdings=holdings_of(snap, names, units, counted, valued),
        issuers=issuers_of(names, claimed),
        keepers=keepers_of(snap, names.holders),
        standing=standing(snap),
        options=options,
        option_shocks=shocks,
        option_fees=fees,
        option_pools=option_pools,
        perps=perps.perps,
        perp_accounts=perps.accounts,
        perp_rules=tuple(rules[m] if m in perp_markets else "" for m in names.markets),
        perp_settlement=perps.settlement,
        insurance_usd=perps.funds,
        gaps=(*left_out, *oracles.gaps(), *baseless, *unlisted, *unpriced, *unread, *perps.gaps),
    )


def _units(snap: Snapshot, names: Names) -> Floats:
    """(exposures,) whole units, NaN where the amount or the asset's decimals are unknown."""
    place = names.asset_of[snap.tables["exposure"]["asset"]]
    scale = 10.0 ** np.where(place >= 0, names.decimals[place], 0.0)
    return np.where(place >= 0, values.amount_raw(snap) / scale, np.nan)


def _symbol(snap: Snapshot, asset: str) -> str:
    if asset == USD:
        return "USD"
    return snap.assets[asset].symbol if asset in snap.assets else ""


def _own_price_usd(snap: Snapshot, names: Names, claimed: Flags) -> Floats:
    """(assets,) NaN where the price is what claims look through to, and not a quote of its own."""
    own, quoted = names.price_usd.copy(), all_usd(snap)
    for i in np.flatnonzero(claimed & np.isfinite(own)).tolist():
        _, path = quoted[names.assets[i]]
        if path.split(" > ", 1)[0] in ("receipt", "vault", "lp", "lst", "bridge"):
            own[i] = np.nan
    return own


def _standing(snap: Snapshot, names: Names, claims: Claims, lps: Lps) -> tuple[Claims, Lps, list[Gap]]:
    """Claims but for those that trade though what they stand for is worth nothing: no rate leads to such a price."""
    claimed = is_claim(claims, lps, len(names.assets))
    own_usd = _own_price_usd(snap, names, claimed)
    baseless = claimed & (own_usd > 0.0) & (values_at_cut(claims, lps, own_usd).backing_usd == 0.0)
    detail = "it has a price, though what it is a claim on has none: it moves by its own price alone"
    gaps = [Gap(names.assets[a], "off_backing", detail) for a in np.flatnonzero(baseless).tolist()]
    kept = Claims(*(column[~baseless[claims.asset]] for column in claims))
    return kept, Lps(*(column[~baseless[lps.asset]] for column in lps)), gaps
