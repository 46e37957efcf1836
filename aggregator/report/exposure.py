"""Total exposure to one asset: held outright, and through every claim that stands on it, by market and side."""

from __future__ import annotations

from collections import defaultdict
from difflib import get_close_matches
from itertools import chain
from math import nan
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from aggregator import graph
from aggregator.core.errors import ConfigError
from aggregator.core.fixed import Fixed
from aggregator.core.rows import Claim
from aggregator.report.coverage import coverage_json
from aggregator.report.frames import Places, positions
from aggregator.report.plain import cut_json
from aggregator.snapshot import Snapshot
from aggregator.snapshot.prices import usd
from aggregator.snapshot.symbols import Meaning, meaning, standing, symbols_of

MOST_SYMBOLS, MOST_MEANT = 30, 8  # in an error
DEPOSITED = ("supply", "collateral")


class _Sum(NamedTuple):
    """usd: NaN where a part of it is unknown."""

    asset: str
    market: str
    side: str
    usd: float


def exposure(snap: Snapshot, text: str) -> dict[str, Any]:
    """text: asset id, or a symbol: then all assets that it means (`snapshot.symbols`), on any chain, count as one.

    namesakes: assets of that symbol that no market vouches for; they are left out.
    A receipt is held by those who have deposited what it stands for; of the base of a perpetual the notional counts.
    Rows sorted by size; symbol: of what is held; fraction: of the value held that stands on the asset; value_usd null
    where no price is known. A vault's own positions and its shares are rows of the same money: no sum of them is made.
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
    rows = []
    for through, market, side, value_usd in chain.from_iterable(held):
        total = value_usd * fractions[through]
        rows.append(
            {
                "market": market,
                "side": side,
                "through": "direct" if through in assets else through,
                "symbol": snap.assets[through].symbol if through in snap.assets else "",
                "fraction": fractions[through],
                "value_usd": total if total == total else None,
            }
        )
    rows.sort(key=lambda r: (-(r["value_usd"] or 0.0), r["market"], r["side"]))
    return {
        "assets": list(assets),
        "namesakes": list(namesakes),
        "symbol": snap.assets[assets[0]].symbol,
        "cut": cut_json(snap.cut),
        "coverage": coverage_json(snap),
        "rows": rows,
    }


def _held(snap: Snapshot, places: Places) -> list[_Sum]:
    """Balances at these places of the exposures, by asset, market and side."""
    sums = positions(snap, places).groupby(["asset", "market", "side"], as_index=False)["value_usd"].agg(_sum)
    return [_Sum(*row) for row in zip(*(sums[column] for column in sums), strict=True)]


def _deposits(snap: Snapshot, claim: Claim) -> list[_Sum]:
    """What is deposited where a receipt was given for it: who has the one has the other, and is stored once."""
    if claim.kind != "receipt" or not claim.market:
        return []
    of_market = snap.find("exposure", market=claim.market, asset=claim.underlying)
    return [one._replace(asset=claim.asset) for one in _held(snap, of_market) if one.side in DEPOSITED]


def _perpetuals(snap: Snapshot, asset: str) -> list[_Sum]:
    """Notional of the perpetuals on it at its price, long and short apart."""
    price, sums = usd(snap, asset), defaultdict[tuple[str, str], float](float)
    for row in snap.rows("perp", asset=asset):
        notional = float(Fixed(abs(row.size) * price[0].raw, row.exp + price[0].exp)) if price else nan
        sums[row.market, "long" if row.size > 0 else "short"] += notional
    return [_Sum(asset, market, side, total) for (market, side), total in sums.items()]


def _sum(values_usd: pd.Series[float]) -> float:
    """NaN where one of them is: the unknown does not count for nothing."""
    return float(values_usd.sum(skipna=False))


def find_assets(snap: Snapshot, text: str) -> Meaning:
    """What an id or symbol means; ConfigError names the nearest symbol where there is nothing."""
    found = meaning(text, symbols_of(snap), standing(snap))
    if found.assets:
        return found
    symbols = sorted({a.symbol for a in snap.assets.values() if a.symbol})
    more = f" and {len(symbols) - MOST_SYMBOLS} more" if len(symbols) > MOST_SYMBOLS else ""
    raise ConfigError(
        f"{text!r} is no asset of this cut",
        expected=f"an asset id, or a symbol: {', '.join(symbols[:MOST_SYMBOLS])}{more}",
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
