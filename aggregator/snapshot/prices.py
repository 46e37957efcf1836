"""What one whole asset is worth in USD, from the rows of the cut alone.

Fewest steps first. In one step: USD itself; a reference feed (Price with market '') quoting USD; an oracle of a market
on the asset's own chain or venue quoting USD. Assets without such are priced in rounds from those that have a price:
by a reference feed in another asset, then by what their own contract pays for them (receipts, vault shares); where no
round adds any, also by a market's price in another asset, then by other claims. A claim is worth the sum over its
basket of num / den of every underlying.
Among several rows: reference feeds, then by path in the order of `PATHS`, the youngest, the market's id. Prices in
another asset come from markets that anybody may open with an oracle of his own, so of those the market that holds most
of the asset speaks first. A stale price is used and its Gap says so. Zero is a price. One below zero is never used, nor
an answer that its reader refused (Gap bad_price of the same source), nor one that no asset can have (10^60 USD, or
10^-60). What no round reaches is a Gap, not a zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aggregator.core.fixed import Fixed
from aggregator.core.ids import USD, source_of
from aggregator.core.rows import Claim, Price

if TYPE_CHECKING:
    from aggregator.snapshot.snapshot import Snapshot

Usd = tuple[Fixed, str]
PATHS = ("live", "feed", "capped", "lagged", "rate", "index", "mark", "constant")
REDEEMED = ("receipt", "vault")  # kinds of claim whose own contract says what one is paid
CLAIM_EXP = 36  # a claim's price is floored at this many places
_PLACES, _LONGEST = 60, 10**190


def usd(snap: Snapshot, asset: str) -> Usd | None:
    """Exact price and the path it took ('feed', 'live@<market>', '... > ...' through other assets), None if unknown."""
    return all_usd(snap).get(asset)


def all_usd(snap: Snapshot) -> dict[str, Usd]:
    """asset id -> exact price and path, for every asset that has one."""
    if "usd" not in snap.memo:
        snap.memo["usd"] = _solve(snap)
    found: dict[str, Usd] = snap.memo["usd"]
    return found


def own_price(snap: Snapshot, market: str, asset: str) -> Price | None:
    """The price that a market judges an asset by: of several the first by rank; below zero is none."""
    return min((row for row in snap.rows("price", market=market, asset=asset) if row.raw >= 0), key=rank, default=None)


def _solve(snap: Snapshot) -> dict[str, Usd]:
    prices: dict[str, list[Price]] = {}
    refused = {gap.src for gap in snap.rows("gap", reason="bad_price")} - {b""}
    for price in snap.rows("price"):
        if (
            price.raw >= 0
            and price.src not in refused
            and (not price.market or source_of(price.market) == source_of(price.asset))
        ):
            prices.setdefault(price.asset, []).append(price)
    crossed = {asset: sum(row.quote != USD for row in found) for asset, found in prices.items()}
    held = _held(snap) if any(n > 1 for n in crossed.values()) else {}

    def choice(row: Price) -> tuple[bool, bool, float, tuple[bool, int, int, str]]:
        most = 0.0 if row.quote == USD else -held.get((row.market, row.asset), 0.0)
        return row.quote != USD, bool(row.market), most, rank(row)

    for found in prices.values():
        found.sort(key=choice)
    claims: dict[str, list[Claim]] = {}
    for claim in snap.rows("claim"):
        claims.setdefault(claim.asset, []).append(claim)
    out: dict[str, Usd] = {USD: (Fixed(1, 0), "unit")}
    pending = sorted((prices.keys() | claims.keys()) - {USD})
    anyones = False  # prices in another asset of markets that anybody may open
    while True:
        fresh = {}
        for asset in pending:
            rows, held_by = prices.get(asset, []), claims.get(asset, [])
            answer = _quoted([row for row in rows if row.quote == USD or not row.market], out)
            if not answer and all(claim.kind in REDEEMED for claim in held_by):
                answer = _claimed(snap, asset, held_by, out)
            if not answer and anyones:
                answer = _quoted(rows, out) or _claimed(snap, asset, held_by, out)
            if answer and _possible(answer[0]):
                fresh[asset] = answer
        if not fresh and anyones:
            return out
        anyones = not fresh
        out |= fresh
        pending = [asset for asset in pending if asset not in fresh]


def _held(snap: Snapshot) -> dict[tuple[str, str], float]:
    """Shares of an asset in a market, debts aside: where most of it is. Not exact, and of no unit across markets."""
    table, names = snap.tables["exposure"], snap.names
    owned = np.flatnonzero(table["side"] != snap.code("debt"))
    pair = table["market"][owned].astype(np.int64) * len(names) + table["asset"][owned]
    pairs, which = np.unique(pair, return_inverse=True)
    sums = np.bincount(which, table["shares_f"][owned], len(pairs)).tolist()
    return {(names[p // len(names)], names[p % len(names)]): s for p, s in zip(pairs.tolist(), sums, strict=True)}


def _possible(price: Fixed) -> bool:
    """Zero, or within _PLACES powers of ten of one USD; through quotes of quotes digits could also grow without end."""
    low, high = (int(10 ** max(price.exp + places, 0)) for places in (-_PLACES, _PLACES))
    return price.raw == 0 or low <= price.raw < min(high, _LONGEST)


def rank(row: Price) -> tuple[bool, int, int, str]:
    """Sorts the prices of one asset by the order of choice."""
    return bool(row.market), PATHS.index(row.path) if row.path in PATHS else len(PATHS), -row.updated_s, row.market


def _quoted(rows: list[Price], known: dict[str, Usd]) -> Usd | None:
    for row in rows:
        quote = known.get(row.quote)
        if quote is not None:
            path = f"{row.path}@{row.market}" if row.market else row.path
            if row.quote == USD:
                return Fixed(row.raw, row.exp), path
            return Fixed(row.raw * quote[0].raw, row.exp + quote[0].exp), f"{path} > {quote[1]}"
    return None


def _claimed(snap: Snapshot, asset: str, claims: list[Claim], known: dict[str, Usd]) -> Usd | None:
    own = snap.assets.get(asset)
    if not claims or own is None or own.decimals < 0:
        return None
    # sum of fractions of the same whole, floored once: total / scale
    total, scale, paths = 0, 1, []
    for claim in claims:
        price, under = known.get(claim.underlying), snap.assets.get(claim.underlying)
        if price is None or under is None or under.decimals < 0 or claim.den == 0:
            return None
        places = price[0].exp + under.decimals - own.decimals
        part, den = claim.num * price[0].raw, claim.den
        part, den = (part, den * 10**places) if places >= 0 else (part * 10**-places, den)
        total, scale = total * den + part * scale, scale * den
        paths.append(f"{claim.kind} > {price[1]}")
    raw = total * 10**CLAIM_EXP // scale
    return (Fixed(raw, CLAIM_EXP), " + ".join(paths)) if raw or not total else None
