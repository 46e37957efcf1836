"""Depth and claims of a snapshot: pools as liquidity steps, wrappers and receipts as rates, positions as liquidity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np

from aggregator.core.ids import USD, address_of, source_of
from aggregator.core.rows import Claim, Depth
from aggregator.core.source import CallSource, read_source
from aggregator.engine.book import Claims, Flags, Lps, Pool, table
from aggregator.engine.names import Names
from aggregator.quant.uniswap_v3_math import Q96, sqrt_at_tick
from aggregator.snapshot import Snapshot


def claims_of(snap: Snapshot, names: Names) -> tuple[Claims, Lps]:
    """Rows that lead to a price in the end."""
    priced = _priced(snap, names)
    plain: list[tuple[int, int, float, int]] = []
    liquidity: dict[str, list[Claim]] = {}
    for row in snap.rows("claim"):
        if row.asset not in priced or row.underlying not in priced or row.den == 0:
            continue
        if row.kind == "lp":
            liquidity.setdefault(row.asset, []).append(row)
            continue
        a, u = names.asset[row.asset], names.asset[row.underlying]
        rate = row.num / row.den * 10.0 ** (names.decimals[a] - names.decimals[u])
        plain.append((a, u, rate, names.market.get(row.market, -1)))
    positions = [p for rows in liquidity.values() if (p := _position(rows, names))]
    return table(Claims, sorted(plain)), table(Lps, sorted(positions))


def _priced(snap: Snapshot, names: Names) -> set[str]:
    """Assets with a price of their own, and claims whose whole basket has one."""
    priced = {asset for asset, i in names.asset.items() if np.isfinite(names.price_usd[i])}
    baskets: dict[str, set[str]] = {}
    for row in snap.rows("claim"):
        if row.asset in names.asset:
            baskets.setdefault(row.asset, set()).add(row.underlying)
    while fresh := {a for a, basket in baskets.items() if a not in priced and basket <= priced}:
        priced |= fresh
    return priced


def _position(rows: Sequence[Claim], names: Names) -> tuple[int, int, int, float, float, float] | None:
    """(asset, base, quote, liquidity per whole asset, sqrt price bounds); token0 is the lower address."""
    if len(rows) != 2:
        return None
    first, second = sorted(rows, key=lambda row: address_of(row.underlying))
    asset, base, quote = (names.asset[a] for a in (first.asset, first.underlying, second.underlying))
    decimals = names.decimals
    unit = 10.0 ** decimals[asset]
    if first.lower == first.upper:
        held = first.num / first.den * (second.num / second.den)
        return asset, base, quote, unit * held**0.5 / 10.0 ** ((decimals[base] + decimals[quote]) / 2), 0.0, np.inf
    scale = 10.0 ** ((decimals[base] - decimals[quote]) / 2)
    bounds = [sqrt_at_tick(tick) / Q96 * scale for tick in (first.lower, first.upper)]
    return asset, base, quote, unit / 10.0 ** ((decimals[base] + decimals[quote]) / 2), bounds[0], bounds[1]


def pools_of(snap: Snapshot, names: Names, cash: Flags, claims: Claims) -> tuple[Pool, ...]:
    """Each pool as depth of its non-cash token; of both, in opposite directions, where neither is cash.

    A pool of a claim against its own backing is depth of the claim alone.
    """
    pairs = set(zip(claims.asset.tolist(), claims.underlying.tolist(), strict=True))
    out: list[Pool] = []
    for market in sorted(row.market for row in snap.rows("market") if row.kind == "amm"):
        pool = _concentrated(snap, market, names) or _reserves(snap, market, names)
        if pool is None or not np.isfinite(names.price_usd[[pool.base, pool.quote]]).all():
            continue
        base, quote = pool.base, pool.quote
        if not cash[base] and (base, quote) not in {(u, a) for a, u in pairs}:
            out.append(pool)
        if not cash[quote] and (cash[base] or (base, quote) not in pairs):
            out.append(_turned(pool))
    return tuple(out)


def sold_for_usd(snap: Snapshot, names: Names) -> Flags:
    """(assets,) those that a pool sells for the dollar itself: their depth is known, so none is cash without limit."""
    pools = {row.market for row in snap.rows("depth", asset=USD)}
    out = np.zeros(len(names.assets), np.bool_)
    sold = {d.asset for pool in pools for d in snap.rows("depth", market=pool)} - {USD}
    out[[names.asset[a] for a in sold & names.asset.keys()]] = True
    return out


def _concentrated(snap: Snapshot, market: str, names: Names) -> Pool | None:
    terms = {(t.asset, t.key): t.raw for t in snap.rows("term", market=market)}
    tokens = sorted((raw, asset) for (asset, key), raw in terms.items() if key == "token_index")
    ticks: list[Depth] = sorted(
        (d for d in snap.rows("depth", market=market) if d.kind == "tick"), key=lambda d: d.point
    )
    if (
        len(tokens) != 2
        or len(ticks) < 2
        or any(a not in names.asset for _, a in tokens)
        or not terms.get(("", "sqrt_price_x96"))
    ):
        return None
    base, quote = (names.asset[a] for _, a in tokens)
    decimals = names.decimals
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


def _reserves(snap: Snapshot, market: str, names: Names) -> Pool | None:
    rows = sorted((d for d in snap.rows("depth", market=market) if d.kind == "reserve"), key=lambda d: d.asset)
    if len(rows) != 2 or any(d.asset not in names.asset or d.raw <= 0 for d in rows):
        return None
    fee = {t.key: t.raw for t in snap.rows("term", market=market)}.get("fee_pips", 0) / 1e6
    base, quote = (names.asset[d.asset] for d in rows)
    units = [d.raw / 10.0 ** names.decimals[names.asset[d.asset]] for d in rows]
    return Pool.constant_product(market, base, quote, units[0], units[1], fee, fee_stays=True)


def _turned(pool: Pool) -> Pool:
    with np.errstate(divide="ignore"):
        edges = 1.0 / pool.edges[::-1]
    turned = Pool(pool.name, pool.quote, pool.base, 1.0 / pool.sqrt_price, edges, pool.liquidity[::-1], pool.fee_frac)
    return replace(turned, fee_stays=pool.fee_stays)


def issuers_of(names: Names, claimed: Flags) -> tuple[tuple[int, int], ...]:
    """Claims whose own contract holds supply somewhere: a vault bears the losses of the markets it lends to."""
    at = {holder: i for i, holder in enumerate(names.holders)}
    out = []
    for code in np.flatnonzero(claimed).tolist():
        name = names.assets[code]
        if "/erc20:" in name and source_of(name).startswith("eip155:") and address_of(name) in at:
            out.append((code, at[address_of(name)]))
    return tuple(out)


def keepers_of(snap: Snapshot, holders: Sequence[str]) -> tuple[int, ...]:
    """Holders that keep what others own: the contracts that answer for a market (Morpho's one contract, a pool)."""
    asked = {source.to for kind in ("index", "depth") for row in snap.rows(kind)
             if isinstance(source := read_source(row.src), CallSource)}  # fmt: skip
    return tuple(i for i, holder in enumerate(holders) if holder in asked)
