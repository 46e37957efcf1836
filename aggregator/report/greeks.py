"""Greeks of one wallet by underlying: option legs by Black-Scholes at their series' volatility, perps by their size.

Per underlying: delta in units of it, gamma per 1 of price, vega per 1.00 of volatility, theta per year, value in quote.
A leg whose board is settled is worth what it pays out. One without spot, volatility or time is left out and named as a
gap: its Greeks are not zero, they are unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp
from typing import Any

import numpy as np

from aggregator.core.fixed import Fixed
from aggregator.core.rows import Gap, OptionLeg, Price
from aggregator.snapshot import Snapshot
from aggregator.snapshot.prices import own_price

YEAR_S = 365 * 86_400
NAMES = ("delta", "gamma", "vega", "theta", "value")


def wallet_greeks(snap: Snapshot, holder: str) -> tuple[dict[str, dict[str, float]], list[Gap]]:
    """Underlying id -> Greeks, sorted; and the legs that could not be valued."""
    sums: dict[str, dict[str, float]] = {}
    gaps: list[Gap] = []
    for leg in snap.rows("option", holder=holder):
        found = leg_greeks(snap, leg)
        if isinstance(found, Gap):
            gaps.append(found)
            continue
        into = sums.setdefault(leg.underlying, dict.fromkeys(NAMES, 0.0))
        for name in NAMES:
            into[name] += found[name]
    for perp in snap.rows("perp", holder=holder):
        into = sums.setdefault(perp.asset, dict.fromkeys(NAMES, 0.0))
        into["delta"] += float(Fixed(perp.size, perp.exp))
    return dict(sorted(sums.items())), gaps


def leg_greeks(snap: Snapshot, leg: OptionLeg) -> dict[str, float] | Gap:
    """Greeks of the whole leg (times signed size)."""
    subject = f"{leg.market}#{leg.holder}"
    spot = own_price(snap, leg.market, leg.underlying)
    series = f"series:{leg.expiry_s}:{leg.strike}"
    vol = next(iter(snap.rows("term", market=leg.market, scope=series, key="iv")), None)
    rate = next(iter(snap.rows("term", market=leg.market, asset="", scope="", key="rate_and_carry")), None)
    life_s = leg.expiry_s - snap.time_s(leg.market)
    settled = {t.key: float(Fixed(t.raw, t.exp)) for t in snap.rows("term", market=leg.market, scope=series)}
    if "price_at_expiry" in settled:
        return _settled(snap, leg, settled, spot)
    if spot is None or vol is None or vol.raw <= 0:
        return Gap(subject, "no_price", f"option {leg.ref} has no {'spot' if spot is None else 'volatility'}")
    if life_s <= 0:
        return Gap(subject, "unread", f"option {leg.ref} has expired and awaits settlement")
    strike, life_yr = float(Fixed(leg.strike, leg.exp)), life_s / YEAR_S
    size, rate_yr = float(Fixed(leg.size, leg.exp)), float(Fixed(rate.raw, rate.exp)) if rate else 0.0
    if spot.raw == 0:  # it stays there: a call is worth nothing, a put its strike
        worth = 0.0 if leg.right == "C" else strike * exp(-rate_yr * life_yr) * size
        moves = {"delta": 0.0 if leg.right == "C" else -size, "theta": rate_yr * worth}
        return dict.fromkeys(NAMES, 0.0) | moves | {"value": worth}
    from aggregator.quant import black  # its compiled kernels take a second to load: not where nobody has options

    greeks = black.greeks(
        1 if leg.right == "C" else -1,
        float(Fixed(spot.raw, spot.exp)),
        strike,
        life_yr,
        float(Fixed(vol.raw, vol.exp)),
        rate_yr,
    )
    values: dict[str, Any] = {"value": greeks.price, **{n: getattr(greeks, n) for n in NAMES[:-1]}}
    return {name: float(np.asarray(values[name]).reshape(-1)[0]) * size for name in NAMES}


def _settled(snap: Snapshot, leg: OptionLeg, series: Mapping[str, float], spot: Price | None) -> dict[str, float] | Gap:
    """What nobody has collected yet, as Lyra's ShortCollateral pays it (`rules.lyra_v1.settle`): no price moves it.

    A covered call is paid out of its base, at the settlement's ratio; no short pays more than its collateral.
    """
    strike, size = float(Fixed(leg.strike, leg.exp)), float(Fixed(leg.size, leg.exp))
    gain = max((1 if leg.right == "C" else -1) * (series["price_at_expiry"] - strike), 0.0)
    value, delta = gain * size * series.get("long_scale_factor", 1.0), 0.0
    if leg.size < 0:
        margins = snap.rows("exposure", market=leg.market, holder=leg.holder, ref=leg.ref, side="margin")
        held = sum(float(Fixed(row.shares, leg.exp)) for row in margins)
        covered = leg.settle == leg.underlying
        owed = min(held, -size * (series["base_returned_ratio"] if covered else gain))
        if covered and spot is None:
            return Gap(f"{leg.market}#{leg.holder}", "no_price", f"option {leg.ref} has no spot")
        worth = float(Fixed(spot.raw, spot.exp)) if covered and spot else 1.0
        value, delta = -owed * worth or 0.0, -owed if covered else 0.0
    return dict.fromkeys(NAMES, 0.0) | {"delta": delta, "value": value}
