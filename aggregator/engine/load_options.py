"""Option legs of a snapshot with the volatility their own market quotes for the series."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from aggregator.core.fixed import plain
from aggregator.core.rows import Gap, OptionLeg, Term
from aggregator.engine.book import OptionPools, Options, Pots, table
from aggregator.engine.names import Names
from aggregator.quant.black import SECONDS_PER_YEAR
from aggregator.rules.lyra_v1_arrays import Penalties, Shocks
from aggregator.snapshot import Snapshot


def options_of(snap: Snapshot, names: Names) -> tuple[Options, OptionPools, Pots, list[Gap]]:
    """Legs with a known volatility and price; settled legs are gone, the others become Gaps by market."""
    legs: list[tuple[Any, ...]] = []
    missing: Counter[str] = Counter()
    live: dict[str, tuple[int, int]] = {}
    vols: dict[str, dict[tuple[str, str], Term]] = {}
    frozen: dict[str, set[tuple[str, str]]] = {}
    for row in snap.rows("option"):
        if row.market not in vols:
            terms = snap.rows("term", market=row.market)
            vols[row.market] = {(t.asset, t.scope): t for t in terms if t.key == "iv"}
            frozen[row.market] = {(t.asset, t.scope) for t in terms if t.key == "frozen" and t.raw}
        expiry_yr = (row.expiry_s - snap.time_s(row.market)) / SECONDS_PER_YEAR
        if expiry_yr <= 0.0:
            continue
        leg = _leg(snap, row, vols[row.market], names)
        if leg is None or row.market not in names.market:
            missing[row.market] += 1
            continue
        u, q, vol, rate = leg
        live[row.market] = (u, q)
        market, holder = names.market[row.market], int(names.holder_of[snap.code(row.holder)])
        right = 1 if row.right == "C" else -1
        size, strike = (raw / 10**row.exp for raw in (row.size, row.strike))
        posted, margin = _margin(snap, row, names, u)
        trades = _series(row) not in frozen[row.market]
        legs.append((market, holder, u, q, right, size, strike, expiry_yr, vol, rate, posted, margin, trades))
    detail = "no volatility or price of the series"
    gaps = [Gap(m, "unpriced_options", detail, n) for m, n in sorted(missing.items())]
    pools, pots = _pools(snap, live, names)
    return table(Options, legs), pools, pots, gaps


def _leg(
    snap: Snapshot, row: OptionLeg, vols: Mapping[tuple[str, str], Term], names: Names
) -> tuple[int, int, float, float] | None:
    """(underlying, quote, volatility and rate per year)"""
    series = vols.get(_series(row))
    u, q = (names.asset.get(asset, -1) for asset in (row.underlying, row.quote))
    if series is None or series.raw <= 0 or min(u, q) < 0 or not np.isfinite(names.price_usd[[u, q]]).all():
        return None
    rate = _market_term(snap, row.market, "rate_and_carry")
    return u, q, float(plain(series.raw, series.exp)), rate if rate is not None else 0.0


def _series(row: OptionLeg) -> tuple[str, str]:
    """(asset, scope) of the terms of a leg's series."""
    return row.underlying, f"series:{row.expiry_s}:{row.strike}"


def _margin(snap: Snapshot, row: OptionLeg, names: Names, underlying: int) -> tuple[int, float]:
    """(asset, whole units) that a position has posted; 0 units of the underlying where it has not or we do not know."""
    held = [e for e in snap.rows("exposure", market=row.market, holder=row.holder) if e.ref == row.ref]
    for exposure in held:
        index = [i for i in snap.rows("index", market=row.market, asset=exposure.asset) if i.side == "margin" and i.den]
        if exposure.side == "margin" and exposure.asset in names.asset and index:
            raw = exposure.shares * index[0].num // index[0].den
            asset = names.asset[exposure.asset]
            return asset, raw / 10.0 ** names.decimals[asset]
    return underlying, 0.0


_SHOCKS = (
    "rate_and_carry", "min_static_quote_collateral", "min_static_base_collateral", "shock_vol_a",
    "shock_vol_point_a_s", "shock_vol_b", "shock_vol_point_b_s", "call_spot_price_shock", "put_spot_price_shock",
)  # fmt: skip


_FEES = ("penalty_ratio", "liquidator_fee_ratio", "sm_fee_ratio", "min_liquidation_fee")
_Shocks = tuple[tuple[int, Shocks], ...]
_Fees = tuple[tuple[int, Penalties], ...]


def margin_rules_of(snap: Snapshot, names: Names, options: Options) -> tuple[_Shocks, _Fees, list[Gap]]:
    """Margin parameters and liquidation fees of each Lyra market that gave all of them; a Gap where shorts lack any."""
    shocks, fees, gaps = [], [], []
    for row in snap.rows("market"):
        if not row.rule.startswith("lyra_v1@"):
            continue
        terms = {t.key: t for t in snap.rows("term", market=row.market, asset="") if not t.scope}
        code = names.market[row.market]
        if all(key in terms for key in _SHOCKS):
            shocks.append((code, Shocks(*(_number(terms[key]) for key in _SHOCKS))))
        if all(key in terms for key in _FEES):
            fees.append((code, Penalties(*(_number(terms[key]) for key in _FEES))))
        missing = [key for key in (*_SHOCKS, *_FEES) if key not in terms]
        shorts = int(((options.market == code) & (options.size < 0.0)).sum())
        if missing and shorts:
            judged = "bought back without fees" if set(missing) <= set(_FEES) else "not judged"
            detail = f"short options are {judged}: no {', '.join(missing)}"
            gaps.append(Gap(row.market, "unread", detail, shorts))
    return tuple(shocks), tuple(fees), gaps


def _number(term: Term) -> float:
    """Seconds as years; all else at 18 places where the row names none."""
    return term.raw / (SECONDS_PER_YEAR if term.key.endswith("_s") else 10.0 ** (term.exp or 18))


def _market_term(snap: Snapshot, market: str, key: str) -> float | None:
    """Market-level terms of option markets are at 18 places where the row names none."""
    rows = [t for t in snap.rows("term", market=market, asset="") if t.key == key and not t.scope]
    return _number(rows[0]) if rows else None


def _pools(snap: Snapshot, live: Mapping[str, tuple[int, int]], names: Names) -> tuple[OptionPools, Pots]:
    """The liquidity pool of every market with legs, and the pot that its providers share where its value is known."""
    rows = []
    for market, (u, q) in sorted(live.items()):
        nav, hedge = (_market_term(snap, market, key) for key in ("nav", "hedger_delta"))
        rows.append((names.market[market], u, q, nav if nav is not None else 0.0, hedge if hedge is not None else 0.0))
    pools = table(OptionPools, rows)
    known = pools.nav_units > 0.0
    zero = np.zeros(int(known.sum()))
    return pools, Pots(pools.market[known], pools.quote[known], pools.nav_units[known], zero, zero.copy())
