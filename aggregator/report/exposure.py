"""Total exposure to one asset: held outright, and through every claim that stands on it, by market and side."""

from __future__ import annotations

from difflib import get_close_matches
from fractions import Fraction
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from aggregator import graph
from aggregator.core.errors import ConfigError
from aggregator.core.fixed import Fixed, plain
from aggregator.core.rows import Claim
from aggregator.core.words import first_of
from aggregator.report.coverage import coverage_json
from aggregator.report.plain import cut_json
from aggregator.report.wallet import USD_PLACES
from aggregator.snapshot import Snapshot
from aggregator.snapshot.accounts import amount
from aggregator.snapshot.derivatives import mark_usd
from aggregator.snapshot.prices import usd
from aggregator.snapshot.snapshot import I8
from aggregator.snapshot.symbols import Meaning, meaning, standing, symbols_of

MOST_SYMBOLS, MOST_MEANT = 30, 8  # in an error
DEPOSITED = ("supply", "collateral")
_SHARE_PLACES = 15  # of a float64 between 0 and 1


class _Sum(NamedTuple):
    """usd: None where a part of it is unknown."""

    asset: str
    market: str
    side: str
    usd: Fraction | None


def exposure(snap: Snapshot, text: str) -> dict[str, Any]:
    """text: asset id, or a symbol: then all assets that it means (`snapshot.symbols`), on any chain, count as one.

    namesakes: assets of that symbol that no market vouches for; they are left out.
    A receipt is held by those who have deposited what it stands for; of the base of a perpetual the notional counts.
    Rows sorted by size; symbol: of what is held; fraction: of the value held that stands on the asset, to fifteen
    places; value_usd: exact amounts times exact prices times that fraction, cut to eight places, null where a part of
    it has no price. Both are decimal texts. A vault's own positions and its shares are rows of the same money: no sum
    of them is made.
    """
    assets, namesakes = find_assets(snap, text)
    built = graph.build(snap)
    seen = graph.look_through(built)
    names = [built.names[code] for code in seen.assets.tolist()]
    column = seen.share[:, [names.index(asset) for asset in assets if asset in names]].sum(axis=1).ravel().tolist()
    fractions = {name: part for name, part in zip(names, column, strict=True) if part > 0} | dict.fromkeys(assets, 1.0)
    held = [_held(snap, np.concatenate([snap.find("exposure", asset=name) for name in fractions]))]
    held += [_deposits(snap, claim) for asset in assets for claim in snap.rows("claim", asset=asset)]
    held += [_perpetuals(snap, asset) for asset in assets]
    rows, parts = [], {name: _share(part) for name, part in fractions.items()}
    for through, market, side, value_usd in chain.from_iterable(held):
        rows.append(
            {
                "market": market,
                "side": side,
                "through": "direct" if through in assets else through,
                "symbol": snap.assets[through].symbol if through in snap.assets else "",
                "fraction": parts[through],
                "value_usd": None if value_usd is None else _dollars(value_usd * Fraction(parts[through])),
            }
        )
    rows.sort(key=lambda r: (-Fraction(r["value_usd"] or 0), r["market"], r["side"]))
    return {
        "assets": list(assets),
        "namesakes": list(namesakes),
        "symbol": snap.assets[assets[0]].symbol,
        "cut": cut_json(snap.cut),
        "coverage": coverage_json(snap),
        "rows": rows,
    }


def _share(part: float) -> str:
    return plain(round(Fraction(part) * 10**_SHARE_PLACES), _SHARE_PLACES)


def _dollars(value: Fraction) -> str:
    return plain(value.numerator * 10**USD_PLACES // value.denominator, USD_PLACES)


def _held(snap: Snapshot, places: I8) -> list[_Sum]:
    """Balances at these places of the exposures, by asset, market and side."""
    sums: dict[tuple[str, str, str], int | None] = {}
    for row in snap.take("exposure", places):
        key = row.asset, row.market, row.side
        held, more = sums.get(key, 0), amount(snap, row)
        sums[key] = None if held is None or more is None else held + more
    return [_Sum(*key, _worth(snap, key[0], raw)) for key, raw in sorted(sums.items())]


def _worth(snap: Snapshot, asset: str, raw: int | None) -> Fraction | None:
    """Dollars of raw units, None where their number, decimals or price is unknown."""
    price, known = usd(snap, asset), snap.assets.get(asset)
    if raw is None or price is None or known is None or known.decimals < 0:
        return None
    return raw * _fraction(price[0]) / Fraction(10**known.decimals)


def _fraction(price: Fixed) -> Fraction:
    return Fraction(price.raw) / Fraction(10) ** price.exp


def _deposits(snap: Snapshot, claim: Claim) -> list[_Sum]:
    """What is deposited where a receipt was given for it: who has the one has the other, and is stored once."""
    if claim.kind != "receipt" or not claim.market:
        return []
    of_market = snap.find("exposure", market=claim.market, asset=claim.underlying)
    return [one._replace(asset=claim.asset) for one in _held(snap, of_market) if one.side in DEPOSITED]


def _perpetuals(snap: Snapshot, asset: str) -> list[_Sum]:
    """Notional of the perpetuals on it at their markets' own price, long and short apart."""
    sums: dict[tuple[str, str], Fraction | None] = {}
    for row in snap.rows("perp", asset=asset):
        key, price = (row.market, "long" if row.size > 0 else "short"), mark_usd(snap, row.market, asset)
        held = sums.get(key, Fraction(0))
        more = None if price is None else abs(row.size) * _fraction(price) / 10**row.exp
        sums[key] = None if held is None or more is None else held + more
    return [_Sum(asset, market, side, total) for (market, side), total in sums.items()]


def find_assets(snap: Snapshot, text: str) -> Meaning:
    """What an id or symbol means; ConfigError names the nearest symbol where there is nothing."""
    found = meaning(text, symbols_of(snap), standing(snap))
    if found.assets:
        return found
    symbols = sorted({a.symbol for a in snap.assets.values() if a.symbol})
    raise ConfigError(
        f"{text!r} is no asset of this cut",
        expected=f"an asset id, or a symbol: {first_of(symbols, MOST_SYMBOLS)}",
        found=text or "nothing",
        fix=_meant(text, symbols),
    )


def _meant(text: str, symbols: list[str]) -> str:
    """Symbols with the text in them, the shortest first, as ETH is in WETH and wstETH; otherwise the nearest."""
    within = sorted((s for s in symbols if text and text.lower() in s.lower()), key=lambda s: (len(s), s))
    if within:
        return f"did you mean {' or '.join(repr(s) for s in within[:MOST_MEANT])}?"
    named = {s.lower(): s for s in symbols}  # case does not matter above
    near = get_close_matches(text.lower(), named, n=1)
    return f"did you mean {named[near[0]]!r}?" if near else ""
