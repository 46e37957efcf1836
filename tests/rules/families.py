"""Accounts of every mechanism by chance, around the point where it liquidates: one line of `FAMILIES` for each.

What is drawn is as the snapshot would build it: shares times index is the amount, prices have the market's scale.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from aggregator.core.account import Account, Leg
from aggregator.core.fixed import RAY, WAD, Fixed
from aggregator.rules.lyra_v1 import LyraV1
from aggregator.rules.morpho_blue import bonus_frac
from tests.rules.worlds import aave, aave_leg, morpho

E8, PIPS, DAY_S = 10**8, 10**6, 86_400


class Drawn(NamedTuple):
    """bonus_frac and fee_frac: what the array form of a lending rule is told of the account's collateral."""

    account: Account
    bonus_frac: float = 0.0
    fee_frac: float = 0.0


def worth(leg: Leg, raw: int) -> float:
    """In the unit of the leg's price; Morpho's loan asset, which has none, in whole units."""
    price = leg.price.raw / 10**leg.price.exp if leg.price else 1.0
    return raw / 10**leg.decimals * price


def aave_v3(rng: random.Random, name: str) -> Drawn:
    """One to two collaterals, one to two debts from 50 dollars to 50 millions, health 0.4 to 1.1."""
    directional = name >= "aave_v3@3.5"
    bonus, fee, threshold = rng.randint(10_100, 11_500), rng.choice([0, 1000, 2000]), rng.randint(5000, 8500)
    terms = {
        "liquidation_threshold_bps": threshold,
        "liquidation_bonus_bps": bonus,
        "liquidation_protocol_fee_bps": fee,
    }
    index = RAY * rng.randint(1000, 1900) // 1000
    size = 10 ** rng.uniform(1.7, 7.7)

    def leg(asset: str, side: str, shares: int, price_usd: int) -> Leg:
        own = terms if side == "collateral" else {}
        return aave_leg(asset, side, shares, price_usd * E8, 18, index=index, terms=own, directional=directional)

    legs = [leg("c0", "collateral", int(size * WAD / 1234), 1234)]
    if rng.random() < 0.4:
        legs.append(leg("c1", "collateral", int(size * rng.random() * WAD), 1))
    limit = sum(worth(x, x.amount) for x in legs) * threshold / 10_000
    owed, split = limit / rng.uniform(0.4, 1.1), rng.choice([1.0, rng.random()])
    legs += [
        leg(f"d{i}", "debt", int(owed * part * WAD * RAY / index), 1)
        for i, part in enumerate((split, 1 - split))
        if part
    ]
    return Drawn(aave(*legs)._replace(rule=name), bonus / 10_000 - 1, fee / 10_000)


def morpho_blue(rng: random.Random, name: str) -> Drawn:
    lltv = rng.choice([385, 625, 770, 860, 915, 945, 980]) * WAD // 1000
    price, shares = rng.randint(10, 90_000), int(10 ** rng.uniform(15, 20))
    borrowed = shares / 10**12 * 1.05
    raw = int(borrowed * rng.uniform(0.3, 1.1) / (lltv / WAD) / price * WAD)
    account = morpho(raw, price * 10**24, shares, 105 * 10**18, 100 * 10**24, lltv)
    return Drawn(account, bonus_frac(lltv))


def compound_v2(rng: random.Random, name: str) -> Drawn:
    size, share = 10 ** rng.uniform(2, 7), 28 * WAD // 1000
    terms = {"collateral_factor_wad": 75 * WAD // 100, "protocol_seize_share_wad": share}
    owed = int(size * 0.75 / rng.uniform(0.3, 1.1) * WAD)
    legs = (
        Leg("c", "collateral", int(size * WAD), int(size * WAD), 18, Fixed(E8, 8), terms),
        Leg("d", "debt", owed, owed, 18, Fixed(E8, 8), {}),
    )
    market = {"close_factor_wad": WAD // 2, "liquidation_incentive_wad": 108 * WAD // 100}
    return Drawn(Account("m", "h", name, legs, market, {}, 0), 0.08, 0.028)


def comet(rng: random.Random, name: str) -> Drawn:
    size, factor = 10 ** rng.uniform(2, 7), rng.randint(850, 980)
    terms = {"liquidate_collateral_factor_wad": 83 * WAD // 100, "liquidation_factor_wad": factor * WAD // 1000}
    raw, owed = int(size * WAD / 1234), int(size * 0.83 / rng.uniform(0.3, 1.1) * 10**6)
    legs = (
        Leg("c", "collateral", raw, raw, 18, Fixed(1234 * E8, 8), terms),
        Leg("d", "debt", owed, owed, 6, Fixed(E8, 8), {}),
    )
    return Drawn(Account("m", "h", name, legs, {}, {}, 0), 1 - factor / 1000)


def lyra_v1(rng: random.Random, name: str) -> Drawn:
    """Two to three positions; a short holds 0.3 to 2 times what it must."""
    now, spot = 1_700_000_000, rng.randint(1_000, 4_000) * WAD
    market = {
        "rate_and_carry": WAD // 20,
        "min_static_quote_collateral": 200 * WAD,
        "min_static_base_collateral": WAD // 5,
        "shock_vol_a": 25 * WAD // 10,
        "shock_vol_point_a_s": 14 * DAY_S,
        "shock_vol_b": 18 * WAD // 10,
        "shock_vol_point_b_s": 56 * DAY_S,
        "call_spot_price_shock": 12 * WAD // 10,
        "put_spot_price_shock": 8 * WAD // 10,
        "penalty_ratio": WAD // 10,
        "liquidator_fee_ratio": WAD // 2,
        "sm_fee_ratio": WAD // 4,
        "min_liquidation_fee": 10 * WAD,
    }
    legs: list[Leg] = []
    for i in range(rng.randint(2, 3)):
        strike, expiry_s = rng.randint(800, 4_500) * WAD, now + rng.randint(1, 90) * DAY_S
        amount, call = int(10 ** rng.uniform(-1, 3) * WAD), rng.random() < 0.6
        side = "short" if i == 0 or rng.random() < 0.7 else "long"
        terms = {"strike": strike, "strike_exp": 18, "expiry_s": expiry_s, "is_call": int(call)}
        terms[f"series:{expiry_s}:{strike}:iv"] = rng.randint(3, 20) * WAD // 10
        legs.append(Leg("base", side, amount, amount, 18, Fixed(spot, 18), terms, str(i)))
        if side == "short":
            asset = "base" if call and rng.random() < 0.5 else "quote"
            legs.append(Leg(asset, "margin", 0, 0, 18, Fixed(spot, 18) if asset == "base" else None, {}, str(i)))
            account = Account("m", "h", name, tuple(legs), market, {}, now)
            needed = LyraV1().min_collateral(account, LyraV1().positions(account)[-1])
            raw = int(needed * rng.uniform(0.3, 2.0))
            legs[-1] = legs[-1]._replace(shares=raw, amount=raw)
    return Drawn(Account("m", "h", name, tuple(legs), market, {}, now))


def perp_curie(rng: random.Random, name: str) -> Drawn:
    """One to two perpetuals, USDC and perhaps WETH as margin; account value 0 to 1.5 times the requirement."""
    legs: list[Leg] = []
    value, positions = 0, 0
    for base in rng.sample(["vETH", "vBTC"], rng.randint(1, 2)):
        price, size = rng.randint(1_000, 40_000) * WAD, int(10 ** rng.uniform(-2, 2) * WAD) * rng.choice([1, -1])
        notional = -size * price // WAD * rng.randint(900, 1_100) // 1_000
        side = "long" if size > 0 else "short"
        terms = {"size": size, "open_notional": notional}
        legs.append(Leg(base, side, abs(size), abs(size), 18, Fixed(price, 18), terms))
        value, positions = value + size * price // WAD + notional, positions + abs(size) * price // WAD
    cash = int(positions * 0.0625 * rng.uniform(0, 1.5)) - value
    if rng.random() < 0.3 and cash > 0:
        raw = int(cash * rng.uniform(0.1, 0.5) / 1800 / 0.7)
        legs.append(Leg("WETH", "margin", raw, raw, 18, Fixed(1800 * E8, 8), {"collateral_ratio_pips": 700_000}))
        cash -= raw * 1800 * 7 // 10
    usdc, own = cash // 10**12, {"pending_funding:vETH": 0}
    legs.append(Leg("USDC", "margin", max(usdc, 0), max(usdc, 0), 6, None, {}))
    if usdc < 0:
        own["settlement_balance"] = usdc
    market = {"mm_ratio_pips": 62_500, "settlement_decimals": 6, "liquidation_penalty_pips": 25_000}
    return Drawn(Account("m", "h", name, tuple(legs), market, own, 0))


FAMILIES: dict[str, Callable[[random.Random, str], Drawn]] = {
    "aave_v3": aave_v3,
    "morpho_blue": morpho_blue,
    "compound_v2": compound_v2,
    "comet": comet,
    "lyra_v1": lyra_v1,
    "perp_curie": perp_curie,
}


def drawn(name: str, count: int) -> list[Drawn]:
    """The same accounts on every run."""
    rng, make = random.Random(name), FAMILIES[name.partition("@")[0]]
    return [make(rng, name) for _ in range(count)]
