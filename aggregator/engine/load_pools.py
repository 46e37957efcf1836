"""Depth and claims of a snapshot: pools as liquidity steps, wrappers and receipts as rates, positions as liquidity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np

from aggregator.core.ids import address_of, source_of
from aggregator.core.rows import Claim, Depth
from aggregator.engine.book import Claims, Flags, Floats, Lps, Pool, table
from aggregator.quant.uniswap_v3_math import Q96, sqrt_at_tick
from aggregator.snapshot import Snapshot


def claims_of(
    snap: Snapshot, place: Mapping[str, int], decimals: Floats, price_usd: Floats
) -> tuple[Claims, Lps, set[int]]:
    """Rows that lead to a price in the end; the third is the places of all assets that are claims."""
    markets = {m: i for i, m in enumerate(sorted({row.market for row in snap.rows("market")}))}
    priced = _priced(snap, place, price_usd)
    plain: list[tuple[int, int, float, int]] = []
    liquidity: dict[str, list[Claim]] = {}
    for row in snap.rows("claim"):
        if row.asset not in priced or row.underlying not in priced or row.den == 0:
            continue
        if row.kind == "lp":
            liquidity.setdefault(row.asset, []).append(row)
            continue
        a, u = place[row.asset], place[row.underlying]
        rate = row.num / row.den * 10.0 ** (decimals[a] - decimals[u])
        plain.append((a, u, rate, markets.get(row.market, -1)))
    positions = [p for rows in liquidity.values() if (p := _position(rows, place, decimals))]
    claims = table(Claims, sorted(plain))
    lps = table(Lps, sorted(positions))
    return claims, lps, {*claims.asset.tolist(), *lps.asset.tolist()}


def _priced(snap: Snapshot, place: Mapping[str, int], price_usd: Floats) -> set[str]:
    """Assets with a price of their own, and claims whose whole basket has one."""
    priced = {asset for asset, i in place.items() if np.isfinite(price_usd[i])}
    baskets: dict[str, set[str]] = {}
    for row in snap.rows("claim"):
        if row.asset in place:
            baskets.setdefault(row.asset, set()).add(row.underlying)
    while fresh := {a for a, basket in baskets.items() if a not in priced and basket <= priced}:
        priced |= fresh
    return priced


def _position(
    rows: Sequence[Claim], place: Mapping[str, int], decimals: Floats
) -> tuple[int, int, int, float, float, float] | None:
    """(asset, base, quote, liquidity per whole asset, sqrt price bounds); token0 is the lower address."""
    if len(rows) != 2:
        return None
    first, second = sorted(rows, key=lambda row: address_of(row.underlying))
    asset, base, quote = (place[a] for a in (first.asset, first.underlying, second.underlying))
    unit = 10.0 ** decimals[asset]
    if first.lower == first.upper:
        held = first.num / first.den * (second.num / second.den)
        return asset, base, quote, unit * held**0.5 / 10.0 ** ((decimals[base] + decimals[quote]) / 2), 0.0, np.inf
    scale = 10.0 ** ((decimals[base] - decimals[quote]) / 2)
    bounds = [sqrt_at_tick(tick) / Q96 * scale for tick in (first.lower, first.upper)]
    return asset, base, quote, unit / 10.0 ** ((decimals[base] + decimals[quote]) / 2), bounds[0], bounds[1]


def pools_of(
    snap: Snapshot, place: Mapping[str, int], decimals: Floats, cash: Flags,
    claims: Claims, price_usd: Floats,
) -> tuple[Pool, ...]:  # fmt: skip
    """Each pool as depth of its non-cash token; of both, in opposite directions, where neither is cash.

    A pool of a claim against its own backing is depth of the claim alone.
    """
    pairs = set(zip(claims.asset.tolist(), claims.underlying.tolist(), strict=True))
    out: list[Pool] = []
    for market in sorted(row.market for row in snap.rows("market") if row.kind == "amm"):
        pool = _concentrated(snap, market, place, decimals) or _reserves(snap, market, place, decimals)
        if pool is None or not np.isfinite(price_usd[[pool.base, pool.quote]]).all():
            continue
        base, quote = pool.base, pool.quote
        if not cash[base] and (base, quote) not in {(u, a) for a, u in pairs}:
            out.append(pool)
        if not cash[quote] and (cash[base] or (base, quote) not in pairs):
            out.append(_turned(pool))
    return tuple(out)


def _concentrated(snap: Snapshot, market: str, place: Mapping[str, int], decimals: Floats) -> Pool | None:
    terms = {(t.asset, t.key): t.raw for t in snap.rows("term", market=market)}
    tokens = sorted((raw, asset) for (asset, key), raw in terms.items() if key == "token_index")
    ticks: list[Depth] = sorted(
        (d for d in snap.rows("depth", market=market) if d.kind == "tick"), key=lambda d: d.point
    )
    if (
        len(tokens) != 2
        or len(ticks) < 2
        or any(a not in place for _, a in tokens)
        or not terms.get(("", "sqrt_price_x96"))
    ):
        return None
    base, quote = (place[a] for _, a in tokens)
    shift, half = (decimals[base] - decimals[quote]) / 2, (decimals[base] + decimals[quote]) / 2
    held = list(accumulate(d.raw for d in ticks))[:-1]
    return Pool(
        market,
        base,
        quote,
        terms["", "sqrt_price_x96"] / Q96 * 10.0**shift,
        np.array([sqrt_at_tick(d.point) / Q96 * 10.0**shift for d in ticks]),
        np.array([raw / 10.0**half for raw in held]),
        terms.get(("", "fee_pips"), 0) / 1e6,
    )


def _reserves(snap: Snapshot, market: str, place: Mapping[str, int], decimals: Floats) -> Pool | None:
    rows = sorted((d for d in snap.rows("depth", market=market) if d.kind == "reserve"), key=lambda d: d.asset)
    if len(rows) != 2 or any(d.asset not in place or d.raw <= 0 for d in rows):
        return None
    fee = {t.key: t.raw for t in snap.rows("term", market=market)}.get("fee_pips", 0) / 1e6
    base, quote = (place[d.asset] for d in rows)
    units = [d.raw / 10.0 ** decimals[place[d.asset]] for d in rows]
    return Pool.constant_product(market, base, quote, units[0], units[1], fee)


def _turned(pool: Pool) -> Pool:
    with np.errstate(divide="ignore"):
        edges = 1.0 / pool.edges[::-1]
    return Pool(pool.name, pool.quote, pool.base, 1.0 / pool.sqrt_price, edges, pool.liquidity[::-1], pool.fee_frac)


def issuers_of(assets: Sequence[str], claimed: Sequence[int], holders: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Claims whose own contract holds supply somewhere: a vault bears the losses of the markets it lends to."""
    at = {holder: i for i, holder in enumerate(holders)}
    out = []
    for code in claimed:
        name = assets[code]
        if "/erc20:" in name and source_of(name).startswith("eip155:") and address_of(name) in at:
            out.append((code, at[address_of(name)]))
    return tuple(out)
